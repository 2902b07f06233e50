/* Reading from the newest event back: order, bounds, where a seek leads, what it refuses, and what it costs. */
#include "events.h"

static batpak_status_t try_backward(batpak_store_t *store, const batpak_region_t *region, const char *checkpoint_id,
                                    batpak_cursor_t **cursor) {
    batpak_cursor_options_t options;
    CHECK_OK(batpak_cursor_options_init(&options, sizeof options, &error), error);
    CHECK_EQUAL(options.direction, BATPAK_DIRECTION_FORWARD);
    options.direction = BATPAK_DIRECTION_BACKWARD;
    options.checkpoint_id = checkpoint_id;
    options.checkpoint_id_len = checkpoint_id ? strlen(checkpoint_id) : 0;
    return batpak_cursor_open(store, region, &options, cursor, &error);
}

static batpak_cursor_t *open_backward(batpak_store_t *store, const batpak_region_t *region) {
    batpak_cursor_t *cursor = NULL;
    CHECK_OK(try_backward(store, region, NULL, &cursor), error);
    return cursor;
}

/* Everything that is left, each one lower than the one before, from `first` down to `last`. */
static void expect_run_down(batpak_cursor_t *cursor, uint64_t first, uint64_t last) {
    uint64_t sequences[777], next = first;
    for (size_t n; (n = poll_sequences(cursor, 777, sequences)) > 0;) {
        for (size_t i = 0; i < n; i++) {
            CHECK_EQUAL(sequences[i], next--);
        }
    }
    CHECK_EQUAL(next, last - 1);
}

static void newest_first_over_segments_and_reopening(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    append_many(store, "a", 12000, 300);
    append(store, "b", "x");
    append_many(store, "a", 4999, 300);
    CHECK(stats_of(store).segments >= 4);
    for (int round = 0; round < 2; round++) {
        batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "b");
        batpak_cursor_t *all = open_backward(store, NULL), *b = open_backward(store, &region);
        expect_run_down(all, 16999, 0);
        EXPECT_NEXT(b, 9, 12000);
        EXPECT_EMPTY(b);
        close_cursor(b);
        close_cursor(all);
        close_store(store);
        store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    }
    close_store(store);
    remove_dir(dir);
}

static void it_begins_at_the_visible_end_as_of_open(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *early = open_backward(store, NULL);
    append(store, "a", "0");
    append(store, "a", "1");
    batpak_cursor_t *later = open_backward(store, NULL);
    append(store, "a", "2");
    EXPECT_EMPTY(early);
    EXPECT_NEXT(later, 9, 1, 0);
    CHECK_OK(batpak_cursor_seek_end(later, &error), error);
    EXPECT_NEXT(later, 9, 2, 1, 0);
    CHECK_OK(batpak_cursor_rewind(later, &error), error);
    EXPECT_NEXT(later, 9, 1, 0);
    close_cursor(early);
    close_cursor(later);
    close_store(store);
    remove_dir(dir);
}

/* A sequence stands between two events: forward delivers what is above, backward what is below, together all. */
static void a_seek_is_the_same_place_in_both_directions(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    for (int i = 0; i < 10; i++) {
        append(store, i % 2 ? "odd" : "even", "x");
    }
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "odd");
    batpak_cursor_t *down = open_backward(store, &region), *up = open_cursor(store, &region, NULL);
    CHECK_OK(batpak_cursor_seek(down, 5, &error), error);
    CHECK_OK(batpak_cursor_seek(up, 5, &error), error);
    EXPECT_NEXT(down, 9, 3, 1);
    EXPECT_NEXT(up, 9, 5, 7, 9);
    CHECK_OK(batpak_cursor_seek(down, 0, &error), error);
    EXPECT_EMPTY(down);
    CHECK_STATUS(batpak_cursor_seek(down, 11, &error), BATPAK_E_INVALID_ARGUMENT, error);

    CHECK_OK(batpak_cursor_seek_end(down, &error), error);
    batpak_cursor_position_t fresh = position_of(down);
    CHECK(fresh.next_sequence == 10 && fresh.position == BATPAK_NO_SEQUENCE && fresh.scanned == 10);
    EXPECT_NEXT(down, 2, 9, 7);
    batpak_cursor_position_t kept = position_of(down);
    uint64_t next = 0, lag = 0;
    CHECK(kept.next_sequence == 7 && kept.position == 7 && kept.committed == BATPAK_NO_SEQUENCE);
    CHECK_OK(batpak_cursor_next_sequence(down, &next, &error), error);
    CHECK_EQUAL(next, 7);
    CHECK_OK(batpak_cursor_lag(down, &lag, &error), error);
    CHECK_EQUAL(lag, kept.scanned);
    EXPECT_NEXT(down, 9, 5, 3, 1);
    CHECK_OK(batpak_cursor_seek_position(down, kept.next_sequence, kept.position_id, &error), error);
    EXPECT_NEXT(down, 9, 5, 3, 1);
    CHECK_OK(batpak_cursor_seek_position(down, fresh.next_sequence, fresh.position_id, &error), error);
    EXPECT_NEXT(down, 1, 9);
    kept.position_id[0] ^= 1;
    CHECK_STATUS(batpak_cursor_seek_position(down, kept.next_sequence, kept.position_id, &error),
                 BATPAK_E_CHECKPOINT_DIVERGED, error);
    close_cursor(down);
    close_cursor(up);
    close_store(store);
    remove_dir(dir);
}

static void batches_are_bounded_as_forward(void) {
    static const char *const payloads[] = {"0123456789", "0123456789", "01234567890123456789012345678901234567890123456789",
                                           "0123456789", "0123456789", "0123456789"};
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    for (int i = 0; i < 6; i++) {
        append(store, "a", payloads[i]);
    }
    static const uint64_t expected[][2] = {{5, 2}, {3, 1}, {2, 1}, {1, 2}};
    batpak_cursor_t *cursor = open_backward(store, NULL);
    for (int i = 0; i < 4; i++) {
        batpak_batch_t *batch = NULL;
        size_t n = 0;
        CHECK_OK(batpak_cursor_poll(cursor, 100, 25, 0, &batch, &error), error);
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        CHECK_EQUAL(events[0].sequence, expected[i][0]);
        CHECK_EQUAL(n, expected[i][1]);
        CHECK(memcmp(events[0].payload, payloads[events[0].sequence], events[0].payload_len) == 0);
        batpak_batch_free(batch);
    }
    EXPECT_EMPTY(cursor);
    CHECK_OK(batpak_cursor_rewind(cursor, &error), error);
    EXPECT_NEXT(cursor, 4, 5, 4, 3, 2);
    EXPECT_NEXT(cursor, 4, 1, 0);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

static void wake(void *user_data) {
    (void)user_data;
}

static void what_makes_no_sense_is_refused(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = (batpak_cursor_t *)&dir;
    batpak_batch_t *batch = NULL;
    batpak_cursor_options_t options;
    int32_t fd;
    append(store, "a", "x");
    CHECK_STATUS(try_backward(store, NULL, "c", &cursor), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK(cursor == NULL && !is_saved(store, "c"));
    CHECK_OK(batpak_cursor_options_init(&options, sizeof options, &error), error);
    options.direction = 2;
    CHECK_STATUS(batpak_cursor_open(store, NULL, &options, &cursor, &error), BATPAK_E_INVALID_ARGUMENT, error);
    options.direction = BATPAK_DIRECTION_BACKWARD;
    options.reserved0 = 1;
    CHECK_STATUS(batpak_cursor_open(store, NULL, &options, &cursor, &error), BATPAK_E_UNSUPPORTED, error);

    cursor = open_backward(store, NULL);
    EXPECT_NEXT(cursor, 1, 0);
    /* It never waits, not even when asked to for ever. */
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, -1, &batch, &error), BATPAK_EMPTY, error);
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 60000, &batch, &error), BATPAK_EMPTY, error);
    CHECK_STATUS(batpak_cursor_notify_fd(cursor, &fd, &error), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK_STATUS(batpak_cursor_set_wake(cursor, wake, NULL, NULL, &error), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK_STATUS(batpak_cursor_checkpoint(cursor, &error), BATPAK_E_NO_CHECKPOINT, error);
    CHECK_STATUS(batpak_cursor_checkpoint_at(cursor, 0, &error), BATPAK_E_NO_CHECKPOINT, error);
    CHECK_OK(batpak_cursor_interrupt(cursor, &error), error);
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 0, &batch, &error), BATPAK_INTERRUPTED, error);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

/* ---- costs ---------------------------------------------------------------------------------------------------------- */

enum { EVENTS = 400000, ENTITIES = 10000, PAYLOAD = 300 };

static uint64_t bytes_read(void) {
    char line[128];
    uint64_t bytes = 0;
    FILE *file = fopen("/proc/self/io", "r");
    CHECK(file != NULL && fgets(line, sizeof line, file) != NULL);
    CHECK(sscanf(line, "rchar: %" SCNu64, &bytes) == 1);
    fclose(file);
    return bytes;
}

/* The newest event of an entity costs what one event does, the rare ones no payload of others, and a place in the midst
 * nothing of what is after it. */
static void costs_are_those_of_the_matches(void) {
    static char names[1000][16], payload[PAYLOAD + 1];
    static batpak_append_t items[1000];
    char *dir = make_dir();
    batpak_append_options_t options = durably(BATPAK_DURABILITY_PROCESS);
    batpak_store_t *store = open_store_with(dir, 8 * MIB, BATPAK_DURABILITY_PROCESS);
    memset(payload, 'p', PAYLOAD);
    for (uint64_t at = 0; at < EVENTS; at += 1000) {
        for (uint64_t i = 0; i < 1000; i++) {
            snprintf(names[i], 16, "entity:%05d", (int)((at + i) % ENTITIES));
            items[i] = item_of(names[i], payload);
            if (at + i == 1000 || at + i == 200000) {
                items[i].scope = "rare";
                items[i].scope_len = 4;
                items[i].kind = 0x2001;
            }
        }
        CHECK_OK(batpak_store_append(store, items, 1000, &options, NULL, &error), error);
    }
    close_store(store);
    store = open_store_with(dir, 8 * MIB, BATPAK_DURABILITY_PROCESS);

    batpak_region_t entity = region_of(BATPAK_ENTITY_EXACT, "entity:01234"), scope = region_of(BATPAK_ENTITY_ANY, NULL);
    batpak_region_t kind = scope;
    scope.scope = "rare";
    scope.scope_len = 4;
    kind.kind_match = BATPAK_KIND_EXACT;
    kind.kind = 0x2001;
    /* Opens every index once. */
    batpak_cursor_t *cursor = open_backward(store, &entity);
    uint64_t sequences[50];
    CHECK_EQUAL(poll_sequences(cursor, 50, sequences), EVENTS / ENTITIES);
    close_cursor(cursor);

    uint64_t before = bytes_read();
    cursor = open_backward(store, &entity);
    EXPECT_NEXT(cursor, 1, EVENTS - ENTITIES + 1234);
    uint64_t newest = bytes_read() - before;
    CHECK_OK(batpak_cursor_seek(cursor, 100000, &error), error);
    before = bytes_read();
    EXPECT_NEXT(cursor, 1, 91234);
    uint64_t amidst = bytes_read() - before;
    close_cursor(cursor);

    before = bytes_read();
    cursor = open_backward(store, &scope);
    EXPECT_NEXT(cursor, 9, 200000, 1000);
    close_cursor(cursor);
    cursor = open_backward(store, &kind);
    EXPECT_NEXT(cursor, 9, 200000, 1000);
    close_cursor(cursor);
    uint64_t rare = bytes_read() - before;
    printf("  of %d MB: the newest of an entity reads %" PRIu64 " bytes, one amidst %" PRIu64 ", two rare ones twice %" PRIu64 "\n",
           EVENTS / 1000 * PAYLOAD / 1000, newest, amidst, rare);
    CHECK(newest < 100000 && amidst < 100000);
    CHECK(rare < (uint64_t)EVENTS * PAYLOAD / 20);

    /* Polls one by one look at no event twice: all of an entity's cost about as much as they do in one poll. */
    enum { ROUNDS = 400 };
    uint64_t start = now_ns();
    for (int i = 0; i < ROUNDS; i++) {
        char name[16];
        snprintf(name, sizeof name, "entity:%05d", i * 17 % ENTITIES);
        entity.entity = name;
        cursor = open_backward(store, &entity);
        CHECK_EQUAL(poll_sequences(cursor, 1, sequences), 1);
        close_cursor(cursor);
    }
    printf("  open, newest event of one entity among %d, close: %" PRIu64 " ns\n", ENTITIES, (now_ns() - start) / ROUNDS);
    start = now_ns();
    for (int i = 0; i < ROUNDS; i++) {
        char name[16];
        snprintf(name, sizeof name, "entity:%05d", i * 23 % ENTITIES);
        entity.entity = name;
        cursor = open_backward(store, &entity);
        CHECK_EQUAL(poll_sequences(cursor, 50, sequences), EVENTS / ENTITIES);
        close_cursor(cursor);
    }
    printf("  all %d events of one: %" PRIu64 " ns each\n", EVENTS / ENTITIES, (now_ns() - start) / ROUNDS / (EVENTS / ENTITIES));
    batpak_batch_t *batch = NULL;
    uint64_t random = 1;
    enum { GETS = 20000 };
    start = now_ns();
    for (int i = 0; i < GETS; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        CHECK_OK(batpak_store_get(store, (random >> 33) % EVENTS, &batch, &error), error);
        batpak_batch_free(batch);
    }
    printf("  get at random: %" PRIu64 " ns\n", (now_ns() - start) / GETS);
    cursor = open_backward(store, NULL);
    start = now_ns();
    expect_run_down(cursor, EVENTS - 1, 0);
    printf("  everything, backward: %" PRIu64 " ns an event\n", (now_ns() - start) / EVENTS);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(newest_first_over_segments_and_reopening);
    RUN(it_begins_at_the_visible_end_as_of_open);
    RUN(a_seek_is_the_same_place_in_both_directions);
    RUN(batches_are_bounded_as_forward);
    RUN(what_makes_no_sense_is_refused);
    RUN(costs_are_those_of_the_matches);
    return 0;
}
