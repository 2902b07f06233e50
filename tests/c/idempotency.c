/* Idempotency (DESIGN 4): "a key of 16 to 64 bytes per item. Same key, same content (coordinate, kind, schema, causes, explicit
 * correlation, payload): the original receipt, nothing appended, checked before expected state, and still waiting for the durability
 * asked. Other content: E_IDEMPOTENCY_CONFLICT. In a batch, duplicates return their receipts and the rest commits atomically. The
 * window is a number of keyed events; within it keys survive crash and reopen." */
#include "writers.h"

#define KEY "0123456789abcdef"

static const uint8_t given_id[16] = {1, 2, 3, 4, 5, 6, 0x77, 8, 0x89, 10, 11, 12, 13, 14, 15, 16};

/* Every field but the flag that says so. */
static void check_same(const batpak_receipt_t *original, const batpak_receipt_t *again) {
    batpak_receipt_t expected = *original;
    CHECK_EQUAL(again->flags, BATPAK_RECEIPT_DUPLICATE);
    expected.flags = BATPAK_RECEIPT_DUPLICATE;
    CHECK_EQUAL(again->sequence, original->sequence);
    CHECK_EQUAL(again->durability, original->durability);
    CHECK(memcmp(&expected, again, sizeof expected) == 0);
}

static batpak_receipt_t append_hashed(batpak_store_t *store, const batpak_append_t *item) {
    batpak_append_options_t options = durably(0);
    batpak_receipt_t receipt;
    options.flags = BATPAK_APPEND_LEAF_HASH;
    CHECK_OK(batpak_store_append(store, item, 1, &options, &receipt, &error), error);
    return receipt;
}

static void the_original_receipt_comes_back_and_nothing_is_appended(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    uint8_t causes[2][16];
    memcpy(causes[0], append(store, "a", "cause").id, 16);
    memcpy(causes[1], given_id, 16);
    batpak_append_t plain = keyed(item_of("a", "plain"), KEY), full = keyed(item_of("a", "full"), KEY "/full");
    full.schema = 7;
    full.causes = causes[0];
    full.cause_count = 2;
    full.correlation_id = given_id;
    batpak_append_t inherits = keyed(caused(item_of("b", "inherits"), causes[0]), KEY "/inherits");
    batpak_append_t empty = keyed(item_of("b", NULL), KEY "/empty");
    const batpak_append_t *items[4] = {&plain, &full, &inherits, &empty};
    batpak_receipt_t originals[4];
    for (int i = 0; i < 4; i++) {
        originals[i] = append_hashed(store, items[i]);
        CHECK_EQUAL(originals[i].flags, 0);
        append(store, "a", "between");
    }
    for (int round = 0; round < 3; round++) {
        uint64_t before = marks_of(store).appended;
        for (int i = 3; i >= 0; i--) {
            batpak_receipt_t again = append_hashed(store, items[i]);
            check_same(&originals[i], &again);
        }
        CHECK_EQUAL(marks_of(store).appended, before);
        CHECK_EQUAL(append(store, "a", "after").sequence, before);
        if (round == 1) {
            close_store(store);
            store = open_store(dir);
        }
    }
    EXPECT_ENTITY(store, "a", "cause plain between full between between between after after after ");
    EXPECT_ENTITY(store, "b", "inherits  ");
    close_store(store);
    remove_dir(dir);
}

/* Without a key, the same content is another event. */
static void events_without_keys_are_never_duplicates(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    CHECK_EQUAL(append(store, "a", "x").sequence, 0);
    CHECK_EQUAL(append(store, "a", "x").sequence, 1);
    CHECK_EQUAL(append_item(store, keyed(item_of("a", "x"), KEY)).sequence, 2);
    CHECK_EQUAL(append(store, "a", "x").sequence, 3);
    close_store(store);
    remove_dir(dir);
}

/* CAS was checked before idempotency, so that a retry of a committed append failed. */
static void regression_10_keys_are_looked_at_before_the_expected_state(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_append_t first = expecting(keyed(item_of("a", "0"), KEY), BATPAK_EXPECT_NO_STREAM, 0);
    batpak_append_t second = expecting(keyed(item_of("a", "1"), KEY "2"), BATPAK_EXPECT_EXACT, 0);
    batpak_receipt_t receipts[2] = {append_item(store, first), append_item(store, second)};
    append(store, "a", "2");
    for (int round = 0; round < 2; round++) {
        batpak_receipt_t again = append_item(store, first);
        check_same(&receipts[0], &again);
        again = append_item(store, second);
        check_same(&receipts[1], &again);
        /* What is expected is no content: a retry may ask for something else. */
        again = append_item(store, expecting(first, BATPAK_EXPECT_EXACT, 999));
        check_same(&receipts[0], &again);
        close_store(store);
        store = open_store(dir);
    }
    /* In a batch too: the duplicate is not counted again, the others see what is. */
    batpak_append_t items[3] = {first, expecting(item_of("a", "3"), BATPAK_EXPECT_EXACT, 2), second};
    batpak_receipt_t answers[3];
    CHECK_OK(batpak_store_append(store, items, 3, NULL, answers, &error), error);
    check_same(&receipts[0], &answers[0]);
    CHECK(answers[1].sequence == 3 && answers[1].clock == 3 && answers[1].flags == 0);
    check_same(&receipts[1], &answers[2]);
    /* A key that is new is no excuse. */
    batpak_append_t third = expecting(keyed(item_of("a", "x"), KEY "3"), BATPAK_EXPECT_NO_STREAM, 0);
    CHECK_REFUSED(batpak_store_append(store, &third, 1, NULL, NULL, &error), BATPAK_E_EXPECTED_STATE, "actual", "3");
    CHECK_EQUAL(marks_of(store).appended, 4);
    close_store(store);
    remove_dir(dir);
}

/* Each part of the content is compared, and the error says which differs. */
static void other_content_is_a_conflict(void) {
    static uint8_t causes[3][16];
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    memcpy(causes[0], append(store, "c", "0").id, 16);
    memcpy(causes[1], append(store, "c", "1").id, 16);
    memcpy(causes[2], given_id, 16);
    batpak_append_t item = keyed(item_of("a", "payload"), KEY);
    item.schema = 3;
    item.causes = causes[0];
    item.cause_count = 2;
    item.correlation_id = given_id;
    append_item(store, item);
    batpak_append_t plain = keyed(item_of("a", "plain"), KEY "/plain");
    append_item(store, plain);
    struct {
        batpak_append_t item;
        const char *difference;
    } cases[] = {{item, "entity"},  {item, "entity"},         {item, "scope"},          {item, "kind"},
                 {item, "schema"},  {item, "cause"},          {item, "cause"},          {item, "cause"},
                 {item, "cause"},   {item, "cause"},          {item, "correlation id"}, {item, "correlation id"},
                 {item, "payload"}, {item, "payload"},        {item, "payload"},        {item, "payload"},
                 {plain, "cause"},  {plain, "correlation id"}, {plain, "entity"}};
    static const uint8_t swapped[2][16];
    uint8_t exchanged[2][16];
    memcpy(exchanged[0], causes[1], 16);
    memcpy(exchanged[1], causes[0], 16);
    cases[0].item.entity = "b";
    cases[1].item.entity_len = 0, cases[1].item.entity = "aa", cases[1].item.entity_len = 2;
    cases[2].item.scope = "t";
    cases[3].item.kind = 0x1002;
    cases[4].item.schema = 4;
    cases[5].item.cause_count = 1;
    cases[6].item.cause_count = 3;
    cases[7].item.causes = exchanged[0];
    cases[8].item.cause_count = 0;
    cases[9].item.causes = swapped[0];
    cases[10].item.correlation_id = NULL;
    cases[11].item.correlation_id = causes[0];
    cases[12].item.payload = "payloae";
    cases[13].item.payload_len = 6;
    cases[14].item.payload = "payloads", cases[14].item.payload_len = 8;
    cases[15].item.payload_len = 0;
    cases[16].item.causes = given_id, cases[16].item.cause_count = 1;
    cases[17].item.correlation_id = given_id;
    cases[18].item.entity = "b";
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            batpak_receipt_t receipt;
            CHECK_REFUSED(batpak_store_append(store, &cases[i].item, 1, NULL, &receipt, &error), BATPAK_E_IDEMPOTENCY_CONFLICT,
                          "difference", cases[i].difference, "first", i < 16 ? "event 2" : "event 3", "index", NULL);
        }
        CHECK_EQUAL(marks_of(store).appended, 4);
        close_store(store);
        store = open_store(dir);
    }
    CHECK_REFUSED(batpak_store_append(store, &cases[0].item, 1, NULL, NULL, &error), BATPAK_E_IDEMPOTENCY_CONFLICT, "key",
                  "30313233343536373839616263646566");
    CHECK(batpak_store_append(store, &cases[0].item, 1, NULL, NULL, &error) < 0);
    CHECK(batpak_error_is_retryable(error) == 0 && batpak_error_is_fatal(error) == 0);
    batpak_error_free(error);
    error = NULL;
    close_store(store);
    remove_dir(dir);
}

/* A conflict comes before an expected state that is not met either, and a batch with one appends nothing. */
static void a_conflict_in_a_batch_appends_nothing(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append_item(store, keyed(item_of("a", "0"), KEY));
    batpak_append_t items[3] = {item_of("b", "x"), keyed(item_of("b", "y"), KEY "new"),
                                expecting(keyed(item_of("a", "other"), KEY), BATPAK_EXPECT_EXACT, 99)};
    CHECK_REFUSED(batpak_store_append(store, items, 3, NULL, NULL, &error), BATPAK_E_IDEMPOTENCY_CONFLICT, "index", "2",
                  "difference", "payload", "first", "event 0");
    CHECK_EQUAL(marks_of(store).appended, 1);
    /* The key of the refused item is free. */
    CHECK_EQUAL(append_item(store, keyed(item_of("b", "z"), KEY "new")).sequence, 1);
    /* A mismatch of a new item undoes nothing of the duplicates, and appends nothing. */
    items[2] = keyed(item_of("a", "0"), KEY);
    items[1] = expecting(item_of("b", "y"), BATPAK_EXPECT_NO_STREAM, 0);
    CHECK_REFUSED(batpak_store_append(store, items, 3, NULL, NULL, &error), BATPAK_E_EXPECTED_STATE, "index", "1", "actual", "1");
    CHECK_EQUAL(marks_of(store).appended, 2);
    close_store(store);
    remove_dir(dir);
}

/* "In a batch, duplicates return their receipts and the rest commits atomically", with causes that point at duplicates. */
static void duplicates_in_a_batch_return_their_receipts(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_append_t root = keyed(item_of("a", "root"), KEY "/root");
    root.correlation_id = given_id;
    batpak_receipt_t original = append_item(store, root);
    append(store, "a", "between");
    batpak_append_t items[5] = {item_of("b", "0"), root, item_of("a", "2"), keyed(item_of("b", "1"), KEY "/b1"), item_of("c", "0")};
    uint32_t of_root = 1, of_both[3] = {0, 1, 3};
    items[2].batch_causes = &of_root, items[2].batch_cause_count = 1;
    items[3].batch_causes = of_both, items[3].batch_cause_count = 2;
    items[4].batch_causes = of_both, items[4].batch_cause_count = 3;
    batpak_receipt_t receipts[5];
    CHECK_OK(batpak_store_append(store, items, 5, NULL, receipts, &error), error);
    check_same(&original, &receipts[1]);
    static const uint64_t sequences[5] = {2, 0, 3, 4, 5}, clocks[5] = {0, 0, 2, 1, 0};
    for (int i = 0; i < 5; i++) {
        CHECK_EQUAL(receipts[i].sequence, sequences[i]);
        CHECK_EQUAL(receipts[i].clock, clocks[i]);
    }
    /* Inherited from the duplicate, as from any first cause. */
    CHECK(memcmp(receipts[2].correlation_id, given_id, 16) == 0);
    CHECK(memcmp(receipts[3].correlation_id, receipts[0].id, 16) == 0);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    batpak_batch_t *batch = NULL;
    size_t n = 0;
    CHECK_OK(batpak_cursor_poll(cursor, 10, 0, 0, &batch, &error), error);
    const batpak_event_t *events = batpak_batch_events(batch, &n);
    CHECK(n == 6 && events[3].cause_count == 1 && events[4].cause_count == 2 && events[5].cause_count == 3);
    CHECK(memcmp(events[3].causes[0], original.id, 16) == 0);
    CHECK(memcmp(events[4].causes[0], receipts[0].id, 16) == 0 && memcmp(events[4].causes[1], original.id, 16) == 0);
    CHECK(memcmp(events[5].causes[2], receipts[3].id, 16) == 0);
    batpak_batch_free(batch);
    batpak_cursor_free(cursor);
    /* Both again: the causes of b/1 are compared as the events that they turned out to be. Item 0, without a key, is another event. */
    batpak_append_t again[2] = {root, items[3]};
    uint8_t causes[2][16];
    memcpy(causes[0], receipts[0].id, 16);
    memcpy(causes[1], original.id, 16);
    again[1].batch_causes = NULL, again[1].batch_cause_count = 0;
    again[1].causes = causes[0], again[1].cause_count = 2;
    batpak_receipt_t answers[2];
    CHECK_OK(batpak_store_append(store, again, 2, NULL, answers, &error), error);
    check_same(&original, &answers[0]);
    check_same(&receipts[3], &answers[1]);
    /* With the second cause as an item of the batch, as then. */
    uint32_t of_first = 0;
    again[1].cause_count = 1;
    again[1].batch_causes = &of_first, again[1].batch_cause_count = 1;
    CHECK_OK(batpak_store_append(store, again, 2, NULL, answers, &error), error);
    check_same(&receipts[3], &answers[1]);
    /* As a cause, an event that is new is another one than the original's. */
    CHECK_REFUSED(batpak_store_append(store, items, 5, NULL, receipts, &error), BATPAK_E_IDEMPOTENCY_CONFLICT, "index", "3",
                  "difference", "cause");
    CHECK_EQUAL(marks_of(store).appended, 6);
    close_store(store);
    remove_dir(dir);
}

/* The whole batch again, with causes among its items: nothing is appended, all receipts come back. */
static void a_batch_can_be_retried_as_it_was(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    enum { N = 300 };
    static batpak_append_t items[N];
    static char keys[N][24];
    static uint32_t causes[N][2];
    static batpak_receipt_t first[N], again[N];
    for (uint32_t i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "batch:%012u", i);
        items[i] = keyed(item_of(i % 3 ? "a" : "b", keys[i]), keys[i]);
        items[i] = expecting(items[i], i < 2 ? BATPAK_EXPECT_NO_STREAM : BATPAK_EXPECT_ANY, 0);
        causes[i][0] = i / 2;
        causes[i][1] = i > 0 ? i - 1 : 0;
        items[i].batch_causes = causes[i];
        items[i].batch_cause_count = i == 0 ? 0 : i % 3;
    }
    CHECK_OK(batpak_store_append(store, items, N, NULL, first, &error), error);
    for (int round = 0; round < 2; round++) {
        CHECK_OK(batpak_store_append(store, items, N, NULL, again, &error), error);
        for (int i = 0; i < N; i++) {
            check_same(&first[i], &again[i]);
        }
        CHECK_OK(batpak_store_append(store, items, N, NULL, NULL, &error), error);
        CHECK_EQUAL(marks_of(store).appended, N);
        close_store(store);
        store = open_store(dir);
    }
    close_store(store);
    remove_dir(dir);
}

static void two_items_with_one_key_are_one_event(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_append_t same = expecting(keyed(item_of("a", "same"), KEY), BATPAK_EXPECT_NO_STREAM, 0);
    batpak_append_t items[4] = {same, item_of("a", "1"), same, item_of("b", "x")};
    uint32_t of_second = 2;
    items[3].batch_causes = &of_second, items[3].batch_cause_count = 1;
    batpak_receipt_t receipts[4];
    CHECK_OK(batpak_store_append(store, items, 4, NULL, receipts, &error), error);
    CHECK(receipts[0].flags == 0 && receipts[1].sequence == 1 && receipts[1].clock == 1 && receipts[3].sequence == 2);
    check_same(&receipts[0], &receipts[2]);
    CHECK(memcmp(receipts[3].correlation_id, receipts[0].id, 16) == 0);
    /* Both once more, with the receipts of then. */
    batpak_receipt_t again[4];
    items[3] = keyed(item_of("b", "y"), KEY "/y");
    CHECK_OK(batpak_store_append(store, items, 4, NULL, again, &error), error);
    check_same(&receipts[0], &again[0]);
    check_same(&receipts[0], &again[2]);
    CHECK_EQUAL(marks_of(store).appended, 5);
    /* Other content: the later one is the conflict. */
    batpak_append_t others[3] = {item_of("c", "x"), keyed(item_of("c", "0"), KEY "/c"), keyed(item_of("c", "1"), KEY "/c")};
    CHECK_REFUSED(batpak_store_append(store, others, 3, NULL, NULL, &error), BATPAK_E_IDEMPOTENCY_CONFLICT, "index", "2", "first",
                  "item 1 of the batch", "difference", "payload");
    CHECK_EQUAL(marks_of(store).appended, 5);
    close_store(store);
    remove_dir(dir);
}

static void keys_have_16_to_64_bytes(void) {
    static char bytes[65] = {0, 1, 2, 0};
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_append_t item = item_of("a", "x");
    static const size_t bad[] = {1, 15, 65, 1000, SIZE_MAX / 2};
    static const char *const texts[] = {"1", "15", "65", "1000", NULL};
    item.key = bytes;
    for (size_t i = 0; i < 4; i++) {
        item.key_len = bad[i];
        CHECK_REFUSED(batpak_store_append(store, &item, 1, NULL, NULL, &error), BATPAK_E_KEY_LENGTH, "length", texts[i]);
    }
    item.key_len = bad[4];
    CHECK_STATUS(batpak_store_append(store, &item, 1, NULL, NULL, &error), BATPAK_E_KEY_LENGTH, error);
    item.key_len = SIZE_MAX;
    CHECK_STATUS(batpak_store_append(store, &item, 1, NULL, NULL, &error), BATPAK_E_INVALID_ARGUMENT, error);
    /* A key that is there and empty. */
    item.key_len = 0;
    CHECK_REFUSED(batpak_store_append(store, &item, 1, NULL, NULL, &error), BATPAK_E_KEY_LENGTH, "length", "0");
    item.key = NULL;
    item.key_len = 16;
    CHECK_REFUSED(batpak_store_append(store, &item, 1, NULL, NULL, &error), BATPAK_E_INVALID_ARGUMENT, "what", "key");
    item.key_len = 0;
    CHECK_OK(batpak_store_append(store, &item, 1, NULL, NULL, &error), error);
    CHECK_OK(batpak_store_append(store, &item, 1, NULL, NULL, &error), error);
    batpak_append_t items[2] = {item, item};
    items[1].key = bytes, items[1].key_len = 15;
    CHECK_REFUSED(batpak_store_append(store, items, 2, NULL, NULL, &error), BATPAK_E_KEY_LENGTH, "index", "1");
    CHECK_EQUAL(marks_of(store).appended, 2);
    /* Any bytes, and all of them: each length is a key of its own, zeros included. */
    item.key = bytes;
    for (item.key_len = 16; item.key_len <= 64; item.key_len++) {
        CHECK_EQUAL(append_item(store, item).sequence, item.key_len - 14);
    }
    for (item.key_len = 64; item.key_len >= 16; item.key_len--) {
        batpak_receipt_t again = append_item(store, item);
        CHECK(again.sequence == item.key_len - 14 && again.flags == BATPAK_RECEIPT_DUPLICATE);
    }
    bytes[15] = 1;
    item.key_len = 16;
    CHECK_EQUAL(append_item(store, item).sequence, 51);
    close_store(store);
    remove_dir(dir);
}

/* ---- where keys are kept -------------------------------------------------------------------------------------------- */

enum { KEPT = 3000 };
#define KEPT_SEGMENT MIB

static batpak_append_t kept_item(uint64_t number, char *payload, size_t room) {
    memset(payload, 'k', room - 1);
    payload[room - 1] = 0;
    int length = snprintf(payload, room, "%" PRIu64, number);
    payload[length] = '.';
    return keyed(item_of(number % 5 ? "a" : "b", payload), key_number(number));
}

static void append_kept(void *argument) {
    batpak_store_t *store = open_store_with(argument, KEPT_SEGMENT, BATPAK_DURABILITY_PROCESS);
    char payload[1000];
    for (uint64_t i = 0; i < KEPT; i++) {
        CHECK_EQUAL(append_item(store, kept_item(i, payload, sizeof payload)).sequence, i);
    }
}

static void check_kept(batpak_store_t *store) {
    char payload[1000];
    for (uint64_t i = 0; i < KEPT; i++) {
        batpak_append_t item = kept_item(i, payload, sizeof payload);
        batpak_receipt_t receipt = append_item(store, item);
        CHECK_EQUAL(receipt.sequence, i);
        CHECK_EQUAL(receipt.flags, BATPAK_RECEIPT_DUPLICATE);
        if (i % 100 == 0) {
            item.payload_len--;
            CHECK_STATUS(batpak_store_append(store, &item, 1, NULL, NULL, &error), BATPAK_E_IDEMPOTENCY_CONFLICT, error);
        }
    }
    CHECK_EQUAL(marks_of(store).appended, KEPT);
    /* A key that was never used, near to those that were. */
    batpak_append_t fresh = kept_item(KEPT + 1, payload, sizeof payload);
    fresh.expected = BATPAK_EXPECT_EXACT, fresh.expected_clock = UINT64_MAX;
    CHECK_STATUS(batpak_store_append(store, &fresh, 1, NULL, NULL, &error), BATPAK_E_EXPECTED_STATE, error);
}

/* "Within the window keys survive crash and reopen"; they are derived from the log, wherever they are kept. */
static void keys_survive_kill_sealing_reopening_and_the_loss_of_indexes(void) {
    char *dir = make_dir();
    killed_after(append_kept, dir);
    batpak_store_t *store = open_store_with(dir, KEPT_SEGMENT, BATPAK_DURABILITY_PROCESS);
    CHECK(stats_of(store).segments >= 3);
    check_kept(store);
    close_store(store);
    store = open_store_with(dir, KEPT_SEGMENT, BATPAK_DURABILITY_PROCESS);
    check_kept(store);
    close_store(store);
    CHECK(remove_indexes(dir) >= 3);
    store = open_store_with(dir, KEPT_SEGMENT, BATPAK_DURABILITY_PROCESS);
    check_kept(store);
    close_store(store);
    store = open_set(dir, (struct setting){.segment_bytes = KEPT_SEGMENT, .flags = BATPAK_STORE_NO_HELPER_THREAD});
    check_kept(store);
    close_store(store);
    remove_dir(dir);
}

static void append_then_die(void *argument) {
    batpak_store_t *store = open_store_with(argument, 0, BATPAK_DURABILITY_PROCESS);
    append_item(store, keyed(item_of("a", "0"), KEY));
}

/* The answer to a retry after a kill, and every answer before it, is one event. */
static void a_retry_after_a_kill_finds_the_event(void) {
    char *dir = make_dir();
    for (int i = 0; i < 3; i++) {
        killed_after(append_then_die, dir);
    }
    batpak_store_t *store = open_store(dir);
    EXPECT_ENTITY(store, "a", "0 ");
    CHECK_EQUAL(append_item(store, keyed(item_of("a", "0"), KEY)).flags, BATPAK_RECEIPT_DUPLICATE);
    close_store(store);
    remove_dir(dir);
}

/* "Still waiting for the durability asked": a duplicate of what is only in the page cache is synced. */
static void a_duplicate_is_as_durable_as_asked(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    batpak_append_t item = keyed(item_of("a", "0"), KEY), second = keyed(item_of("a", "1"), KEY "2");
    CHECK_EQUAL(append_item(store, item).durability, BATPAK_DURABILITY_PROCESS);
    CHECK_EQUAL(append_item(store, second).durability, BATPAK_DURABILITY_PROCESS);
    CHECK_EQUAL(append_item(store, item).durability, BATPAK_DURABILITY_PROCESS);
    CHECK_EQUAL(marks_of(store).durable, 0);
    batpak_receipt_t receipt = append_as(store, item, BATPAK_DURABILITY_STORAGE);
    CHECK(receipt.durability == BATPAK_DURABILITY_STORAGE && receipt.flags == BATPAK_RECEIPT_DUPLICATE);
    CHECK(marks_of(store).durable >= receipt.sequence + 1);
    /* The durability reached, not the one asked. */
    receipt = append_item(store, item);
    CHECK(receipt.durability == BATPAK_DURABILITY_STORAGE && receipt.flags == BATPAK_RECEIPT_DUPLICATE);
    /* In a batch, with something new or not. */
    append_item(store, keyed(item_of("a", "2"), KEY "3"));
    append_item(store, keyed(item_of("a", "3"), KEY "4"));
    batpak_append_t items[2] = {second, keyed(item_of("a", "3"), KEY "4")};
    batpak_append_options_t options = durably(BATPAK_DURABILITY_STORAGE);
    batpak_receipt_t receipts[2];
    uint64_t syncs = stats_of(store).syncs;
    CHECK_OK(batpak_store_append(store, items, 2, &options, receipts, &error), error);
    CHECK(receipts[0].durability == BATPAK_DURABILITY_STORAGE && receipts[1].durability == BATPAK_DURABILITY_STORAGE);
    CHECK(marks_of(store).durable >= 4 && stats_of(store).syncs == syncs + 1);
    /* What is durable already costs no sync. */
    CHECK_OK(batpak_store_append(store, items, 2, &options, receipts, &error), error);
    CHECK_EQUAL(stats_of(store).syncs, syncs + 1);
    items[0] = keyed(item_of("b", "new"), KEY "5");
    CHECK_OK(batpak_store_append(store, items, 2, &options, receipts, &error), error);
    CHECK(receipts[0].flags == 0 && receipts[1].flags == BATPAK_RECEIPT_DUPLICATE);
    CHECK(receipts[0].durability == BATPAK_DURABILITY_STORAGE && receipts[1].durability == BATPAK_DURABILITY_STORAGE);
    CHECK_EQUAL(marks_of(store).durable, 5);
    close_store(store);
    remove_dir(dir);
}

/* An open fence of somebody else takes nothing from what a duplicate before or behind it has reached. */
static void a_duplicate_says_its_durability_while_a_fence_is_open(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_append_t before = keyed(item_of("a", "0"), KEY), behind = keyed(item_of("a", "1"), KEY "2");
    append_item(store, before);
    batpak_fence_t *fence = begin_fence(store, 0);
    fence_append(fence, "fenced", "x");
    append_item(store, behind);
    CHECK_EQUAL(append_item(store, before).durability, BATPAK_DURABILITY_STORAGE);
    CHECK_EQUAL(append_item(store, behind).durability, BATPAK_DURABILITY_STORAGE);
    CHECK_EQUAL(append_as(store, behind, BATPAK_DURABILITY_PROCESS).durability, BATPAK_DURABILITY_STORAGE);
    append_as(store, keyed(item_of("a", "2"), KEY "3"), BATPAK_DURABILITY_PROCESS);
    batpak_append_t soft = keyed(item_of("a", "2"), KEY "3");
    CHECK_EQUAL(append_as(store, soft, BATPAK_DURABILITY_PROCESS).durability, BATPAK_DURABILITY_PROCESS);
    /* Under the fence as well: these events are not the fence's. */
    CHECK_EQUAL(fence_item(fence, before).durability, BATPAK_DURABILITY_STORAGE);
    CHECK_EQUAL(fence_item(fence, behind).durability, BATPAK_DURABILITY_STORAGE);
    CHECK_EQUAL(fence_item(fence, soft).durability, BATPAK_DURABILITY_PROCESS);
    cancel_fence(fence);
    close_store(store);
    remove_dir(dir);
}

/* ---- races ---------------------------------------------------------------------------------------------------------- */

enum { RACERS = 4, RACED = 20000 };

struct racer {
    batpak_store_t *store;
    uint64_t random, appended;
    uint64_t sequences[RACED];
};

static void *race(void *argument) {
    struct racer *racer = argument;
    batpak_error_t *own = NULL;
    for (uint64_t at = 0; at < RACED;) {
        batpak_append_t items[5];
        batpak_receipt_t receipts[5];
        char payloads[5][16];
        racer->random = racer->random * UINT64_C(6364136223846793005) + 1442695040888963407;
        size_t n = 1 + (racer->random >> 40) % 5;
        n = n < RACED - at ? n : RACED - at;
        for (size_t i = 0; i < n; i++) {
            snprintf(payloads[i], sizeof payloads[i], "%" PRIu64, at + i);
            items[i] = keyed(item_of((at + i) % 3 ? "a" : "b", payloads[i]), key_number(at + i));
        }
        CHECK_OK(batpak_store_append(racer->store, items, n, NULL, receipts, &own), own);
        for (size_t i = 0; i < n; i++) {
            racer->sequences[at + i] = receipts[i].sequence;
            racer->appended += receipts[i].flags == 0;
        }
        at += n;
    }
    return NULL;
}

/* Threads that all append the same: each event is there once, and each thread is told the same event. */
static void racing_threads_append_each_key_once(void) {
    static struct racer racers[RACERS];
    static char taken[RACED];
    static struct seen seen[RACED];
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    pthread_t threads[RACERS];
    uint64_t appended = 0;
    for (int i = 0; i < RACERS; i++) {
        racers[i].store = store;
        racers[i].random = (uint64_t)i * 77 + 1;
        threads[i] = start_thread(race, &racers[i]);
    }
    for (int i = 0; i < RACERS; i++) {
        join_thread(threads[i]);
        appended += racers[i].appended;
    }
    CHECK_EQUAL(appended, RACED);
    CHECK_EQUAL(marks_of(store).appended, RACED);
    CHECK(stats_of(store).segments >= 2);
    CHECK_EQUAL(see(store, NULL, seen, RACED), RACED);
    for (uint64_t i = 0; i < RACED; i++) {
        uint64_t sequence = racers[0].sequences[i];
        CHECK(sequence < RACED && !taken[sequence]);
        taken[sequence] = 1;
        CHECK_EQUAL(strtoull(seen[sequence].payload, NULL, 10), i);
        for (int other = 1; other < RACERS; other++) {
            CHECK_EQUAL(racers[other].sequences[i], sequence);
        }
    }
    close_store(store);
    remove_dir(dir);
}

/* ---- the window ----------------------------------------------------------------------------------------------------- */

/* "The window is a number of keyed events fixed at creation": at least so many are remembered, kept to whole segments; events without
 * keys do not count. */
static void a_small_window_forgets_only_beyond_it(void) {
    enum { WINDOW = 100, ALL = 400 };
    char *dir = make_dir(), *payload = malloc(20001);
    CHECK(payload != NULL);
    memset(payload, 'w', 20000);
    payload[20000] = 0;
    batpak_store_t *store = open_set(dir, (struct setting){MIB, WINDOW, BATPAK_DURABILITY_PROCESS, 0});
    for (uint64_t i = 0; i < ALL; i++) {
        append_item(store, keyed(item_of("a", payload), key_number(i)));
        /* Of the newest, each is remembered at any time. */
        for (uint64_t back = 0; back < WINDOW && back <= i; back += 33) {
            batpak_receipt_t again = append_item(store, keyed(item_of("a", payload), key_number(i - back)));
            CHECK(again.flags == BATPAK_RECEIPT_DUPLICATE && again.clock == i - back);
        }
    }
    fill_segments(store, 3);
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = ALL - WINDOW; i < ALL; i++) {
            batpak_receipt_t again = append_item(store, keyed(item_of("a", payload), key_number(i)));
            CHECK(again.flags == BATPAK_RECEIPT_DUPLICATE && again.clock == i);
        }
        close_store(store);
        CHECK(round != 1 || remove_indexes(dir) > 5);
        /* What later openings ask for is not heard. */
        store = open_set(dir, (struct setting){MIB, round ? 1 : 1000000, BATPAK_DURABILITY_PROCESS, 0});
    }
    /* Forgotten: the key is as good as new, and then remembered again. */
    batpak_append_t other = keyed(item_of("b", "other content"), key_number(0));
    CHECK_EQUAL(append_item(store, other).flags, 0);
    CHECK_EQUAL(append_item(store, other).flags, BATPAK_RECEIPT_DUPLICATE);
    batpak_append_t first = keyed(item_of("a", payload), key_number(0));
    CHECK_REFUSED(batpak_store_append(store, &first, 1, NULL, NULL, &error), BATPAK_E_IDEMPOTENCY_CONFLICT, "difference", "entity");
    close_store(store);
    free(payload);
    remove_dir(dir);
}

/* The default remembers everything that these tests could append, and each retry is found by what is in memory. */
static void duplicates_of_long_ago_are_found_among_many_segments(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    append_item(store, keyed(item_of("a", "old"), KEY));
    fill_segments(store, 12);
    batpak_receipt_t again = append_item(store, keyed(item_of("a", "old"), KEY));
    CHECK(again.flags == BATPAK_RECEIPT_DUPLICATE && again.sequence == 0 && again.clock == 0);
    close_store(store);
    store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    again = append_item(store, keyed(item_of("a", "old"), KEY));
    CHECK(again.flags == BATPAK_RECEIPT_DUPLICATE && again.sequence == 0 && again.durability == BATPAK_DURABILITY_STORAGE);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(the_original_receipt_comes_back_and_nothing_is_appended);
    RUN(events_without_keys_are_never_duplicates);
    RUN(regression_10_keys_are_looked_at_before_the_expected_state);
    RUN(other_content_is_a_conflict);
    RUN(a_conflict_in_a_batch_appends_nothing);
    RUN(duplicates_in_a_batch_return_their_receipts);
    RUN(a_batch_can_be_retried_as_it_was);
    RUN(two_items_with_one_key_are_one_event);
    RUN(keys_have_16_to_64_bytes);
    RUN(keys_survive_kill_sealing_reopening_and_the_loss_of_indexes);
    RUN(a_retry_after_a_kill_finds_the_event);
    RUN(a_duplicate_is_as_durable_as_asked);
    RUN(a_duplicate_says_its_durability_while_a_fence_is_open);
    RUN(racing_threads_append_each_key_once);
    RUN(a_small_window_forgets_only_beyond_it);
    RUN(duplicates_of_long_ago_are_found_among_many_segments);
    return 0;
}
