/* What an append gives to an event: sequence, id, clock, previous link, time, causes and correlation; the same in the receipt,
 * in the event as delivered, and after a reopening. */
#include "events.h"

enum { ENTITIES = 7, SCOPES = 3, BATCH = 50 };

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* An event as it must be. */
struct expected {
    int entity;
    uint64_t prev;
    batpak_receipt_t receipt;
};

/* Clocks count from 0 for each entity, across scopes, batches, segments and openings; links name the entity's event before. */
static void clocks_and_links_follow_the_entity(void) {
    char *dir = make_dir(), names[ENTITIES][16], payload[700];
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    static struct expected log[BATCH * 120];
    static const char *const scopes[SCOPES] = {"one", "two", "three"};
    uint64_t clocks[ENTITIES] = {0}, last[ENTITIES], random = 88172645463325252u, next = 0;
    memset(payload, 'p', sizeof payload);
    for (int i = 0; i < ENTITIES; i++) {
        snprintf(names[i], 16, "entity:%d", i);
        last[i] = BATPAK_NO_SEQUENCE;
    }
    for (int batch = 0; batch < 120; batch++) {
        batpak_append_t items[BATCH];
        batpak_receipt_t receipts[BATCH];
        size_t n = 1 + next_random(&random) % BATCH;
        for (size_t i = 0; i < n; i++) {
            int entity = (int)(next_random(&random) % (i % 3 ? ENTITIES : 2));
            items[i] = item_of(names[entity], NULL);
            items[i].scope = scopes[next_random(&random) % SCOPES];
            items[i].scope_len = strlen(items[i].scope);
            items[i].payload = payload;
            items[i].payload_len = next_random(&random) % sizeof payload;
            log[next + i] = (struct expected){.entity = entity, .prev = last[entity]};
            last[entity] = next + i;
        }
        CHECK_OK(batpak_store_append(store, items, n, NULL, receipts, &error), error);
        for (size_t i = 0; i < n; i++) {
            struct expected *expected = &log[next];
            CHECK_EQUAL(receipts[i].sequence, next++);
            CHECK_EQUAL(receipts[i].clock, clocks[expected->entity]++);
            expected->receipt = receipts[i];
        }
        if (batch % 30 == 29) {
            close_store(store);
            store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
        }
    }
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    batpak_batch_t *batch = NULL;
    size_t n = 0;
    uint64_t seen = 0;
    while (batpak_cursor_poll(cursor, 999, 0, 0, &batch, &error) == BATPAK_OK) {
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        for (size_t i = 0; i < n; i++, seen++) {
            const batpak_receipt_t *receipt = &log[seen].receipt;
            CHECK(events[i].sequence == seen && events[i].clock == receipt->clock);
            CHECK_EQUAL(events[i].prev_sequence, log[seen].prev);
            CHECK(events[i].time_us == receipt->time_us);
            CHECK(memcmp(events[i].id, receipt->id, 16) == 0);
            CHECK(memcmp(events[i].correlation_id, receipt->id, 16) == 0);
            CHECK(events[i].entity_len == 8 && memcmp(events[i].entity, names[log[seen].entity], 8) == 0);
        }
        batpak_batch_free(batch);
    }
    CHECK_EQUAL(seen, next);
    batpak_cursor_free(cursor);
    CHECK(stats_of(store).segments >= 2);
    close_store(store);
    remove_dir(dir);
}

/* UUIDv7: milliseconds; microseconds within in rand_a; 46 bits of sequence and the store's tag in rand_b. */
static void ids_are_derived_as_documented(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    uint8_t store_id[16];
    CHECK_OK(batpak_store_id(store, store_id, &error), error);
    append_many(store, "a", 300, 1);
    for (int i = 0; i < 3; i++) {
        batpak_receipt_t receipt = append(store, "a", "x");
        const uint8_t *id = receipt.id;
        uint64_t high = 0, low = 0;
        for (int byte = 0; byte < 8; byte++) {
            high = high << 8 | id[byte];
            low = low << 8 | id[8 + byte];
        }
        CHECK_EQUAL(high >> 16, receipt.time_us / 1000);
        CHECK_EQUAL(high >> 12 & 15, 7);
        CHECK_EQUAL(high & 0xfff, receipt.time_us % 1000);
        CHECK_EQUAL(low >> 62, 2);
        CHECK_EQUAL(low >> 16 & ((UINT64_C(1) << 46) - 1), receipt.sequence);
        CHECK_EQUAL(low & 0xffff, store_id[0] | store_id[1] << 8);
    }
    close_store(store);
    remove_dir(dir);
}

static int64_t clock_us;

static int64_t tell_clock(void *user_data) {
    return *(int64_t *)user_data;
}

static void time_never_decreases_along_the_sequence(void) {
    char *dir = make_dir();
    batpak_store_options_t options;
    batpak_store_t *store = NULL;
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.clock = tell_clock;
    options.clock_user_data = &clock_us;
    options.durability = BATPAK_DURABILITY_PROCESS;
    clock_us = 1700000000000000;
    CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
    CHECK_EQUAL(append(store, "a", "x").time_us, 1700000000000000);
    clock_us += 5;
    CHECK_EQUAL(append(store, "a", "x").time_us, 1700000000000005);
    clock_us -= INT64_C(86400000000) * 365;
    CHECK_EQUAL(append(store, "b", "x").time_us, 1700000000000005);
    close_store(store);
    CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
    CHECK_EQUAL(append(store, "a", "x").time_us, 1700000000000005);
    clock_us = 1700000000000006;
    CHECK_EQUAL(append(store, "a", "x").time_us, 1700000000000006);
    close_store(store);
    remove_dir(dir);
}

/* One event of the log, with its batch to be freed. */
static const batpak_event_t *event_at(batpak_store_t *store, uint64_t sequence, batpak_batch_t **batch) {
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    CHECK_OK(batpak_cursor_seek(cursor, sequence, &error), error);
    CHECK_OK(batpak_cursor_poll(cursor, 1, 0, 0, batch, &error), error);
    batpak_cursor_free(cursor);
    const batpak_event_t *event = batpak_batch_events(*batch, NULL);
    CHECK_EQUAL(event->sequence, sequence);
    return event;
}

/* Given ids first, then items of the batch, each in the caller's order, local and foreign ones as they were given. */
static void causes_come_back_as_they_were_given(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    uint8_t causes[3][16] = {{0}, {0xf0, 0xee}, {0}};
    memcpy(causes[2], append(store, "a", "first").id, 16);
    memcpy(causes[0], append(store, "b", "second").id, 16);
    causes[1][6] = 0x70;
    causes[1][8] = 0x80;
    batpak_append_t items[3] = {item_of("a", "x"), item_of("a", "x"), item_of("c", "x")};
    uint32_t indexes[2] = {1, 0};
    batpak_receipt_t receipts[3];
    items[2].causes = causes[0];
    items[2].cause_count = 3;
    items[2].batch_causes = indexes;
    items[2].batch_cause_count = 2;
    CHECK_OK(batpak_store_append(store, items, 3, NULL, receipts, &error), error);
    for (int again = 0; again < 2; again++) {
        batpak_batch_t *batch = NULL;
        const batpak_event_t *event = event_at(store, receipts[2].sequence, &batch);
        CHECK_EQUAL(event->cause_count, 5);
        CHECK(memcmp(event->causes, causes, sizeof causes) == 0);
        CHECK(memcmp(event->causes[3], receipts[1].id, 16) == 0);
        CHECK(memcmp(event->causes[4], receipts[0].id, 16) == 0);
        batpak_batch_free(batch);
        event = event_at(store, receipts[1].sequence, &batch);
        CHECK(event->cause_count == 0 && event->causes == NULL);
        batpak_batch_free(batch);
        close_store(store);
        store = open_store(dir);
    }
    close_store(store);
    remove_dir(dir);
}

static batpak_receipt_t caused_by(batpak_store_t *store, const uint8_t *cause, const uint8_t *correlation) {
    batpak_append_t item = item_of("effect", "x");
    item.causes = cause;
    item.cause_count = cause != NULL;
    item.correlation_id = correlation;
    return append_item(store, item);
}

static void check_correlation(batpak_store_t *store, const batpak_receipt_t *receipt, const uint8_t *expected) {
    batpak_batch_t *batch = NULL;
    CHECK(memcmp(receipt->correlation_id, expected, 16) == 0);
    CHECK(memcmp(event_at(store, receipt->sequence, &batch)->correlation_id, expected, 16) == 0);
    batpak_batch_free(batch);
}

/* Given, else inherited from the first cause, however long ago that was, else the event's own id. */
static void correlation_is_given_inherited_or_own(void) {
    static const uint8_t given[16] = {1, 2, 3, 4, 5, 6, 0x77, 8, 0x89, 10, 11, 12, 13, 14, 15, 16};
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    batpak_receipt_t root = append(store, "root", "x");
    batpak_receipt_t explicit = caused_by(store, root.id, given);
    check_correlation(store, &root, root.id);
    check_correlation(store, &explicit, given);
    for (int round = 0; round < 3; round++) {
        batpak_receipt_t inherited = caused_by(store, root.id, NULL);
        batpak_receipt_t second = caused_by(store, inherited.id, NULL);
        batpak_receipt_t of_given = caused_by(store, explicit.id, NULL);
        batpak_receipt_t of_foreign = caused_by(store, given, NULL);
        check_correlation(store, &inherited, root.id);
        check_correlation(store, &second, root.id);
        check_correlation(store, &of_given, given);
        check_correlation(store, &of_foreign, of_foreign.id);
        if (round == 0) {
            append_many(store, "fill", 20000, 100);
        } else {
            close_store(store);
            store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
        }
    }
    /* In a batch: from an item, from one that has inherited itself, and from the first cause where there are both. */
    batpak_append_t items[4] = {item_of("a", "x"), item_of("b", "x"), item_of("c", "x"), item_of("d", "x")};
    uint32_t of[4] = {0, 0, 1, 2};
    batpak_receipt_t receipts[4];
    for (int i = 1; i < 4; i++) {
        items[i].batch_causes = &of[i];
        items[i].batch_cause_count = 1;
    }
    items[3].causes = explicit.id;
    items[3].cause_count = 1;
    CHECK_OK(batpak_store_append(store, items, 4, NULL, receipts, &error), error);
    check_correlation(store, &receipts[0], receipts[0].id);
    check_correlation(store, &receipts[1], receipts[0].id);
    check_correlation(store, &receipts[2], receipts[0].id);
    check_correlation(store, &receipts[3], given);
    close_store(store);
    remove_dir(dir);
}

/* Eight threads on one store: sequences without gaps, clocks without gaps, each receipt of another event. */
enum { WRITERS = 8, EACH = 500 };

struct writer {
    batpak_store_t *store;
    int number;
    batpak_receipt_t receipts[EACH];
};

static void *write_events(void *argument) {
    struct writer *writer = argument;
    char own[16];
    snprintf(own, sizeof own, "writer:%d", writer->number);
    for (int i = 0; i < EACH; i++) {
        writer->receipts[i] = append(writer->store, i % 2 ? "shared" : own, own);
    }
    return NULL;
}

static void concurrent_appends_leave_no_gap(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    static struct writer writers[WRITERS];
    static char sequences[WRITERS * EACH], clocks[WRITERS * EACH / 2];
    pthread_t threads[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        writers[i].store = store;
        writers[i].number = i;
        threads[i] = start_thread(write_events, &writers[i]);
    }
    for (int i = 0; i < WRITERS; i++) {
        join_thread(threads[i]);
        for (int k = 0; k < EACH; k++) {
            const batpak_receipt_t *receipt = &writers[i].receipts[k];
            CHECK(receipt->sequence < WRITERS * EACH && !sequences[receipt->sequence]);
            sequences[receipt->sequence] = 1;
            if (k % 2) {
                CHECK(receipt->clock < WRITERS * EACH / 2 && !clocks[receipt->clock]);
                clocks[receipt->clock] = 1;
            } else {
                CHECK_EQUAL(receipt->clock, k / 2);
            }
        }
    }
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    expect_run(cursor, 0, WRITERS * EACH - 1);
    batpak_cursor_free(cursor);
    close_store(store);
    remove_dir(dir);
}

static void the_leaf_hash_comes_on_request(void) {
    static const uint8_t none[32];
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_append_options_t options = durably(0);
    batpak_append_t items[2] = {item_of("a", "same"), item_of("a", "same")};
    batpak_receipt_t receipts[2];
    CHECK_OK(batpak_store_append(store, items, 2, &options, receipts, &error), error);
    CHECK(memcmp(receipts[0].leaf_hash, none, 32) == 0);
    options.flags = BATPAK_APPEND_LEAF_HASH;
    CHECK_OK(batpak_store_append(store, items, 2, &options, receipts, &error), error);
    CHECK(memcmp(receipts[0].leaf_hash, none, 32) != 0 && memcmp(receipts[1].leaf_hash, none, 32) != 0);
    CHECK(memcmp(receipts[0].leaf_hash, receipts[1].leaf_hash, 32) != 0);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(clocks_and_links_follow_the_entity);
    RUN(ids_are_derived_as_documented);
    RUN(time_never_decreases_along_the_sequence);
    RUN(causes_come_back_as_they_were_given);
    RUN(correlation_is_given_inherited_or_own);
    RUN(concurrent_appends_leave_no_gap);
    RUN(the_leaf_hash_comes_on_request);
    return 0;
}
