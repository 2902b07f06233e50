/* Expected state (DESIGN 4): "ANY, NO_STREAM, or EXACT clock, per item, in batches too (later items see earlier ones). Mismatch
 * returns expected and actual. NO_STREAM and EXACT 0 are different questions." */
#include "writers.h"

static batpak_status_t try_one(batpak_store_t *store, const char *entity, uint32_t expected, uint64_t clock) {
    batpak_append_t item = expecting(item_of(entity, "x"), expected, clock);
    return batpak_store_append(store, &item, 1, NULL, NULL, &error);
}

/* What was refused appended nothing, and the next event has the next sequence. */
static void expect_next_sequence(batpak_store_t *store, uint64_t sequence) {
    CHECK_EQUAL(marks_of(store).appended, sequence);
    CHECK_EQUAL(append(store, "next", "x").sequence, sequence);
}

static void each_expectation_is_met_or_not(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    CHECK_OK(try_one(store, "any", BATPAK_EXPECT_ANY, 0), error);
    CHECK_OK(try_one(store, "any", BATPAK_EXPECT_ANY, 0), error);
    CHECK_OK(try_one(store, "e", BATPAK_EXPECT_NO_STREAM, 0), error);
    for (uint64_t clock = 0; clock < 100; clock++) {
        CHECK_OK(try_one(store, "e", BATPAK_EXPECT_EXACT, clock), error);
    }
    CHECK_REFUSED(try_one(store, "e", BATPAK_EXPECT_EXACT, 99), BATPAK_E_EXPECTED_STATE, "expected", "99", "actual", "100");
    CHECK_REFUSED(try_one(store, "e", BATPAK_EXPECT_EXACT, 101), BATPAK_E_EXPECTED_STATE, "expected", "101", "actual", "100");
    CHECK_REFUSED(try_one(store, "e", BATPAK_EXPECT_EXACT, UINT64_MAX), BATPAK_E_EXPECTED_STATE, "expected",
                  "18446744073709551615", "actual", "100");
    CHECK_REFUSED(try_one(store, "e", BATPAK_EXPECT_NO_STREAM, 0), BATPAK_E_EXPECTED_STATE, "expected", "none", "actual", "100",
                  "entity", "e", "index", NULL);
    /* Entities that differ in one byte, or begin alike, are others. */
    CHECK_OK(try_one(store, "e:", BATPAK_EXPECT_NO_STREAM, 0), error);
    CHECK_OK(try_one(store, "E", BATPAK_EXPECT_NO_STREAM, 0), error);
    expect_next_sequence(store, 105);
    close_store(store);
    remove_dir(dir);
}

/* "Expected 0" passed for an empty stream and for a stream of one. */
static void regression_10_no_stream_and_exact_0_are_different_questions(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    CHECK_REFUSED(try_one(store, "e", BATPAK_EXPECT_EXACT, 0), BATPAK_E_EXPECTED_STATE, "expected", "0", "actual", "none");
    CHECK_REFUSED(try_one(store, "e", BATPAK_EXPECT_EXACT, UINT64_MAX), BATPAK_E_EXPECTED_STATE, "actual", "none");
    CHECK_OK(try_one(store, "e", BATPAK_EXPECT_NO_STREAM, 0), error);
    CHECK_REFUSED(try_one(store, "e", BATPAK_EXPECT_NO_STREAM, 0), BATPAK_E_EXPECTED_STATE, "expected", "none", "actual", "0");
    CHECK_REFUSED(try_one(store, "e", BATPAK_EXPECT_EXACT, 1), BATPAK_E_EXPECTED_STATE, "expected", "1", "actual", "0");
    CHECK_OK(try_one(store, "e", BATPAK_EXPECT_EXACT, 0), error);
    CHECK_REFUSED(try_one(store, "e", BATPAK_EXPECT_EXACT, 0), BATPAK_E_EXPECTED_STATE, "expected", "0", "actual", "1");
    /* The scope is no part of the question. */
    batpak_append_t other_scope = expecting(item_of("e", "x"), BATPAK_EXPECT_NO_STREAM, 0);
    other_scope.scope = "another";
    other_scope.scope_len = 7;
    CHECK_REFUSED(batpak_store_append(store, &other_scope, 1, NULL, NULL, &error), BATPAK_E_EXPECTED_STATE, "actual", "1");
    expect_next_sequence(store, 2);
    close_store(store);
    remove_dir(dir);
}

static void later_items_see_earlier_ones(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_receipt_t receipts[8];
    append(store, "b", "0");
    batpak_append_t items[8] = {
        expecting(item_of("a", "0"), BATPAK_EXPECT_NO_STREAM, 0), expecting(item_of("b", "1"), BATPAK_EXPECT_EXACT, 0),
        expecting(item_of("a", "1"), BATPAK_EXPECT_EXACT, 0),     item_of("c", "0"),
        expecting(item_of("b", "2"), BATPAK_EXPECT_EXACT, 1),     expecting(item_of("c", "1"), BATPAK_EXPECT_EXACT, 0),
        item_of("a", "2"),                                        expecting(item_of("a", "3"), BATPAK_EXPECT_EXACT, 2),
    };
    CHECK_OK(batpak_store_append(store, items, 8, NULL, receipts, &error), error);
    static const uint64_t clocks[8] = {0, 1, 1, 0, 2, 1, 2, 3};
    for (size_t i = 0; i < 8; i++) {
        CHECK_EQUAL(receipts[i].sequence, i + 1);
        CHECK_EQUAL(receipts[i].clock, clocks[i]);
    }
    EXPECT_ENTITY(store, "a", "0 1 2 3 ");
    EXPECT_ENTITY(store, "b", "0 1 2 ");
    EXPECT_ENTITY(store, "c", "0 1 ");
    close_store(store);
    remove_dir(dir);
}

/* A mismatch names the item, and what it expected of the state that the earlier items make. */
static void a_mismatch_in_a_batch_appends_nothing(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "b", "0");
    struct {
        batpak_append_t items[3];
        const char *index, *expected, *actual;
    } cases[] = {
        {{item_of("a", "x"), item_of("b", "x"), expecting(item_of("a", "x"), BATPAK_EXPECT_NO_STREAM, 0)}, "2", "none", "0"},
        {{item_of("a", "x"), expecting(item_of("a", "x"), BATPAK_EXPECT_EXACT, 1), item_of("a", "x")}, "1", "1", "0"},
        {{expecting(item_of("a", "x"), BATPAK_EXPECT_EXACT, 0), item_of("b", "x"), item_of("c", "x")}, "0", "0", "none"},
        {{item_of("b", "x"), item_of("b", "x"), expecting(item_of("b", "x"), BATPAK_EXPECT_EXACT, 0)}, "2", "0", "2"},
        {{item_of("new", "x"), item_of("b", "x"), expecting(item_of("b", "x"), BATPAK_EXPECT_EXACT, 2)}, "2", "2", "1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        batpak_receipt_t receipts[3];
        memset(receipts, 0xab, sizeof receipts);
        CHECK_REFUSED(batpak_store_append(store, cases[i].items, 3, NULL, receipts, &error), BATPAK_E_EXPECTED_STATE, "index",
                      cases[i].index, "expected", cases[i].expected, "actual", cases[i].actual);
        for (size_t byte = 0; byte < sizeof receipts; byte++) {
            CHECK(((const uint8_t *)receipts)[byte] == 0xab);
        }
        CHECK_EQUAL(marks_of(store).appended, 1);
    }
    /* Nor did the refused items leave anything behind that counts as an event. */
    CHECK_OK(try_one(store, "a", BATPAK_EXPECT_NO_STREAM, 0), error);
    CHECK_OK(try_one(store, "new", BATPAK_EXPECT_NO_STREAM, 0), error);
    expect_next_sequence(store, 3);
    close_store(store);
    store = open_store(dir);
    EXPECT_ENTITY(store, "a", "x ");
    EXPECT_ENTITY(store, "b", "0 ");
    close_store(store);
    remove_dir(dir);
}

/* An optimistic mistake is not to be repeated as it is. */
static void a_mismatch_is_neither_retryable_nor_fatal(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    CHECK(try_one(store, "e", BATPAK_EXPECT_EXACT, 7) == BATPAK_E_EXPECTED_STATE);
    CHECK(batpak_error_is_retryable(error) == 0 && batpak_error_is_fatal(error) == 0);
    CHECK(strstr(batpak_error_message(error, NULL), "7") != NULL && strstr(batpak_error_message(error, NULL), "\"e\"") != NULL);
    batpak_error_free(error);
    error = NULL;
    close_store(store);
    remove_dir(dir);
}

static void values_that_are_no_expectation_are_refused(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    static const uint32_t none[] = {3, 4, 0x100, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        CHECK_REFUSED(try_one(store, "e", none[i], 0), BATPAK_E_INVALID_ARGUMENT, "what", "expected");
    }
    CHECK_REFUSED(try_one(store, "e", BATPAK_EXPECT_ANY, 1), BATPAK_E_INVALID_ARGUMENT, "what", "expected_clock", "value", "1");
    CHECK_REFUSED(try_one(store, "e", BATPAK_EXPECT_NO_STREAM, 1), BATPAK_E_INVALID_ARGUMENT, "what", "expected_clock");
    batpak_append_t items[2] = {item_of("e", "x"), expecting(item_of("e", "x"), 3, 0)};
    CHECK_REFUSED(batpak_store_append(store, items, 2, NULL, NULL, &error), BATPAK_E_INVALID_ARGUMENT, "index", "1");
    items[1].expected = BATPAK_EXPECT_ANY;
    items[1].reserved0 = 1;
    CHECK_STATUS(batpak_store_append(store, items, 2, NULL, NULL, &error), BATPAK_E_UNSUPPORTED, error);
    expect_next_sequence(store, 0);
    close_store(store);
    remove_dir(dir);
}

/* An older caller, whose items end before the expectation, expects nothing. */
static void items_of_an_older_header_expect_nothing(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_append_t item = expecting(item_of("e", "x"), BATPAK_EXPECT_EXACT, 7);
    item.key = "not looked at";
    item.key_len = 13;
    item.struct_size = offsetof(batpak_append_t, key);
    CHECK_OK(batpak_store_append(store, &item, 1, NULL, NULL, &error), error);
    close_store(store);
    remove_dir(dir);
}

/* The head of an entity is known wherever its last event lies: the active segment, the one before, or one whose index is on disk. */
static void entities_in_sealed_segments_and_after_reopening(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    for (int i = 0; i < 3; i++) {
        append(store, "old", "x");
    }
    append(store, "single", "x");
    for (int round = 0; round < 4; round++) {
        fill_segments(store, 2);
        if (round == 2) { /* derived, so made anew */
            close_store(store);
            CHECK(remove_indexes(dir) >= 4);
            store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
        }
        char actual[8], before[8];
        uint64_t clock = 2 + (uint64_t)round;
        snprintf(actual, sizeof actual, "%" PRIu64, clock);
        snprintf(before, sizeof before, "%" PRIu64, clock - 1);
        CHECK_REFUSED(try_one(store, "old", BATPAK_EXPECT_NO_STREAM, 0), BATPAK_E_EXPECTED_STATE, "actual", actual);
        CHECK_REFUSED(try_one(store, "old", BATPAK_EXPECT_EXACT, clock - 1), BATPAK_E_EXPECTED_STATE, "expected", before,
                      "actual", actual);
        CHECK_REFUSED(try_one(store, "single", BATPAK_EXPECT_NO_STREAM, 0), BATPAK_E_EXPECTED_STATE, "actual", "0");
        CHECK_REFUSED(try_one(store, "never", BATPAK_EXPECT_EXACT, 0), BATPAK_E_EXPECTED_STATE, "actual", "none");
        /* One batch asks for both an entity of now and one of long ago. */
        batpak_append_t items[3] = {expecting(item_of("old", "x"), BATPAK_EXPECT_EXACT, clock), item_of("filler", "x"),
                                    expecting(item_of("single", "x"), BATPAK_EXPECT_EXACT, 1)};
        CHECK_REFUSED(batpak_store_append(store, items, 3, NULL, NULL, &error), BATPAK_E_EXPECTED_STATE, "index", "2",
                      "actual", "0");
        CHECK_OK(try_one(store, "old", BATPAK_EXPECT_EXACT, clock), error);
        if (round % 2 == 0) {
            close_store(store);
            store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
        }
    }
    EXPECT_ENTITY(store, "old", "x x x x x x x ");
    close_store(store);
    remove_dir(dir);
}

static void *compete(void *argument) {
    batpak_store_t *store = argument;
    batpak_error_t *own = NULL;
    uintptr_t won = 0;
    for (int i = 0; i < 2000; i++) {
        char entity[24];
        snprintf(entity, sizeof entity, "e:%d", i);
        batpak_append_t item = expecting(item_of(entity, "x"), BATPAK_EXPECT_NO_STREAM, 0);
        batpak_status_t status = batpak_store_append(store, &item, 1, NULL, NULL, &own);
        if (status == BATPAK_OK) {
            won++;
        } else {
            CHECK(strcmp(batpak_error_detail(own, "actual", 6, NULL), "0") == 0);
            check_status_is(__FILE__, __LINE__, "batpak_store_append", status, BATPAK_E_EXPECTED_STATE, &own);
        }
    }
    return (void *)won;
}

/* Of threads that all want to be the first, one is. */
static void exactly_one_thread_creates_an_entity(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    pthread_t threads[4];
    uintptr_t won = 0;
    for (int i = 0; i < 4; i++) {
        threads[i] = start_thread(compete, store);
    }
    for (int i = 0; i < 4; i++) {
        void *result = NULL;
        CHECK(pthread_join(threads[i], &result) == 0);
        won += (uintptr_t)result;
    }
    CHECK_EQUAL(won, 2000);
    CHECK_EQUAL(marks_of(store).appended, 2000);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(each_expectation_is_met_or_not);
    RUN(regression_10_no_stream_and_exact_0_are_different_questions);
    RUN(later_items_see_earlier_ones);
    RUN(a_mismatch_in_a_batch_appends_nothing);
    RUN(a_mismatch_is_neither_retryable_nor_fatal);
    RUN(values_that_are_no_expectation_are_refused);
    RUN(items_of_an_older_header_expect_nothing);
    RUN(entities_in_sealed_segments_and_after_reopening);
    RUN(exactly_one_thread_creates_an_entity);
    return 0;
}
