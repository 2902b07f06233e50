/* Gaps (G1 to G3) where nothing was cancelled: skipped events alone are none; who owns what. */
#include "events.h"

struct expected_gap {
    uint64_t expected, delivered;
    size_t range_count;
    batpak_sequence_range_t ranges[4];
};

static void check_gaps(const char *file, int line, const batpak_gap_t *gaps, size_t n, const struct expected_gap *expected,
                       size_t expected_n) {
    int same = n == expected_n && (gaps == NULL) == (n == 0);
    for (size_t i = 0; same && i < n; i++) {
        same = gaps[i].expected_sequence == expected[i].expected && gaps[i].delivered_sequence == expected[i].delivered &&
               gaps[i].range_count == expected[i].range_count;
        for (size_t range = 0; same && range < gaps[i].range_count; range++) {
            same = gaps[i].ranges[range].start == expected[i].ranges[range].start &&
                   gaps[i].ranges[range].end == expected[i].ranges[range].end;
        }
    }
    if (!same) {
        fprintf(stderr, "%s:%d: %zu gaps, not the %zu that were expected\n", file, line, n, expected_n);
        exit(1);
    }
}

static batpak_cursor_t *open_reader(batpak_store_t *store, const char *entity, uint64_t gap_capacity) {
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, entity);
    batpak_cursor_options_t options;
    batpak_cursor_t *cursor = NULL;
    CHECK_OK(batpak_cursor_options_init(&options, sizeof options, &error), error);
    CHECK_EQUAL(options.gap_capacity, 0);
    options.gap_capacity = gap_capacity;
    CHECK_OK(batpak_cursor_open(store, &region, &options, &cursor, &error), error);
    return cursor;
}

/* Takes the gaps and expects these; none were dropped. */
static void expect_taken(const char *file, int line, batpak_cursor_t *cursor, const struct expected_gap *expected, size_t n) {
    batpak_gap_list_t *list = NULL;
    size_t found = 99;
    CHECK_OK(batpak_cursor_take_gaps(cursor, &list, &error), error);
    const batpak_gap_t *gaps = batpak_gap_list_gaps(list, &found);
    check_gaps(file, line, gaps, found, expected, n);
    CHECK_EQUAL(batpak_gap_list_dropped(list), 0);
    batpak_gap_list_free(list);
}

#define EXPECT_NO_GAPS(cursor) expect_taken(__FILE__, __LINE__, cursor, NULL, 0)

static void G2_events_that_do_not_match_are_no_gap(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    static const uint64_t capacities[] = {0, 1, UINT64_MAX};
    for (int i = 0; i < 4; i++) {
        append(store, "b", "x");
        append(store, "a", "x");
    }
    for (int i = 0; i < 3; i++) {
        batpak_cursor_t *cursor = open_reader(store, "a", capacities[i]);
        EXPECT_NO_GAPS(cursor);
        EXPECT_NEXT(cursor, 2, 1, 3);
        EXPECT_NEXT(cursor, 2, 5, 7);
        EXPECT_NO_GAPS(cursor);
        CHECK_OK(batpak_cursor_rewind(cursor, &error), error);
        EXPECT_NEXT(cursor, 9, 1, 3, 5, 7);
        EXPECT_NO_GAPS(cursor);
        close_cursor(cursor);
    }
    close_store(store);
    remove_dir(dir);
}

static void a_list_outlives_its_cursor_and_store(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = open_reader(store, "a", 9);
    batpak_gap_list_t *list = NULL;
    size_t n = 99;
    append(store, "a", "x");
    EXPECT_NEXT(cursor, 9, 0);
    CHECK_OK(batpak_cursor_take_gaps(cursor, &list, &error), error);
    close_cursor(cursor);
    close_store(store);
    CHECK(batpak_gap_list_gaps(list, &n) == NULL && n == 0 && batpak_gap_list_dropped(list) == 0);
    batpak_gap_list_free(list);
    remove_dir(dir);
}

static int32_t look_at_gaps(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    size_t found = 99;
    uint64_t dropped = 99;
    const batpak_gap_t *gaps = batpak_delivery_gaps(delivery, &found, &dropped);
    (void)events;
    check_gaps(__FILE__, __LINE__, gaps, found, NULL, 0);
    CHECK(dropped == 0 && n == 2 && batpak_delivery_gaps(delivery, NULL, NULL) == gaps);
    *(size_t *)user_data += n;
    return BATPAK_HANDLER_STOP;
}

static void G3_a_handler_asks_for_the_gaps_of_its_batch(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "b", "x");
    append(store, "a", "x");
    append(store, "b", "x");
    append(store, "a", "x");
    for (uint64_t capacity = 0; capacity <= 8; capacity += 8) {
        batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "a");
        batpak_worker_options_t options;
        batpak_worker_t *worker = NULL;
        size_t handled = 0;
        CHECK_OK(batpak_worker_options_init(&options, sizeof options, &error), error);
        options.gap_capacity = capacity;
        CHECK_OK(batpak_worker_start(store, &region, &options, look_at_gaps, &handled, NULL, &worker, &error), error);
        CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
        CHECK_EQUAL(handled, 2);
        batpak_worker_free(worker);
    }
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(G2_events_that_do_not_match_are_no_gap);
    RUN(a_list_outlives_its_cursor_and_store);
    RUN(G3_a_handler_asks_for_the_gaps_of_its_batch);
    return 0;
}
