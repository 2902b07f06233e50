/* Where a cursor stands, what moves it, and what comes again (D4, D5). */
#include "events.h"

static batpak_store_t *store_of_ten(const char *dir) {
    batpak_store_t *store = open_store(dir);
    for (int i = 0; i < 10; i++) {
        append(store, i % 2 ? "odd" : "even", "x");
    }
    return store;
}

static void D4_without_a_checkpoint_id_at_least_once_within_the_process(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of_ten(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    expect_run(cursor, 0, 9);
    CHECK_STATUS(batpak_cursor_checkpoint(cursor, &error), BATPAK_E_NO_CHECKPOINT, error);
    CHECK_STATUS(batpak_cursor_checkpoint_at(cursor, 1, &error), BATPAK_E_NO_CHECKPOINT, error);
    CHECK_OK(batpak_cursor_rewind(cursor, &error), error);
    expect_run(cursor, 0, 9);
    close_cursor(cursor);
    cursor = open_cursor(store, NULL, NULL);
    expect_run(cursor, 0, 9);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

/* Takes four events and commits them, takes three more, and dies. */
static void take_seven_and_die(void *dir) {
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "consumer");
    EXPECT_NEXT(cursor, 4, 0, 1, 2, 3);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    EXPECT_NEXT(cursor, 3, 4, 5, 6);
    raise(SIGKILL);
}

static void D4_a_crash_between_delivery_and_checkpoint_redelivers_the_last_batch(void) {
    char *dir = make_dir();
    close_store(store_of_ten(dir));
    int status = run_process(take_seven_and_die, dir);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "consumer");
    EXPECT_NEXT(cursor, 3, 4, 5, 6);
    expect_run(cursor, 7, 9);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

static void D5_a_poll_moves_the_position_only(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of_ten(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "c");
    CHECK_EQUAL(position_of(cursor).committed, BATPAK_NO_SEQUENCE);
    EXPECT_NEXT(cursor, 3, 0, 1, 2);
    batpak_cursor_position_t position = position_of(cursor);
    CHECK(position.position == 2 && position.next_sequence == 3 && position.committed == BATPAK_NO_SEQUENCE);
    CHECK(!is_saved(store, "c"));
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    EXPECT_NEXT(cursor, 3, 3, 4, 5);
    position = position_of(cursor);
    CHECK(position.position == 5 && position.committed == 2);
    CHECK_EQUAL(saved_position(store, "c"), 2);
    close_cursor(cursor);
    CHECK_EQUAL(saved_position(store, "c"), 2);
    close_store(store);
    remove_dir(dir);
}

static void D5_a_checkpoint_persists_the_position_and_moves_committed(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of_ten(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "c");
    EXPECT_NEXT(cursor, 3, 0, 1, 2);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    CHECK_EQUAL(position_of(cursor).committed, 2);
    CHECK_EQUAL(saved_position(store, "c"), 2);
    close_cursor(cursor);
    close_store(store);
    store = open_store(dir);
    cursor = open_cursor(store, NULL, "c");
    batpak_cursor_position_t position = position_of(cursor);
    CHECK(position.position == 2 && position.committed == 2 && position.next_sequence == 3);
    EXPECT_NEXT(cursor, 1, 3);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

static void D5_checkpoint_at_commits_less_than_was_polled(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of_ten(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "c");
    CHECK_STATUS(batpak_cursor_checkpoint_at(cursor, 0, &error), BATPAK_E_NOT_DELIVERED, error);
    EXPECT_NEXT(cursor, 6, 0, 1, 2, 3, 4, 5);
    CHECK_OK(batpak_cursor_checkpoint_at(cursor, 3, &error), error);
    batpak_cursor_position_t position = position_of(cursor);
    CHECK(position.position == 5 && position.committed == 3);
    CHECK_STATUS(batpak_cursor_checkpoint_at(cursor, 6, &error), BATPAK_E_NOT_DELIVERED, error);
    CHECK_STATUS(batpak_cursor_checkpoint_at(cursor, BATPAK_NO_SEQUENCE, &error), BATPAK_E_NOT_DELIVERED, error);
    CHECK_EQUAL(saved_position(store, "c"), 3);
    EXPECT_NEXT(cursor, 1, 6);
    close_cursor(cursor);
    cursor = open_cursor(store, NULL, "c");
    EXPECT_NEXT(cursor, 9, 4, 5, 6, 7, 8, 9);
    CHECK_OK(batpak_cursor_checkpoint_at(cursor, 9, &error), error);
    close_cursor(cursor);
    cursor = open_cursor(store, NULL, "c");
    EXPECT_EMPTY(cursor);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

static void D5_rewind_returns_to_committed(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of_ten(dir);
    batpak_region_t odd = region_of(BATPAK_ENTITY_EXACT, "odd");
    batpak_cursor_t *cursor = open_cursor(store, &odd, "c");
    EXPECT_NEXT(cursor, 2, 1, 3);
    CHECK_OK(batpak_cursor_rewind(cursor, &error), error);
    EXPECT_NEXT(cursor, 2, 1, 3);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    EXPECT_NEXT(cursor, 9, 5, 7, 9);
    EXPECT_EMPTY(cursor);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(batpak_cursor_rewind(cursor, &error), error);
        CHECK_EQUAL(position_of(cursor).position, 3);
        EXPECT_NEXT(cursor, 9, 5, 7, 9);
    }
    CHECK_OK(batpak_cursor_checkpoint_at(cursor, 5, &error), error);
    CHECK_OK(batpak_cursor_rewind(cursor, &error), error);
    EXPECT_NEXT(cursor, 9, 7, 9);
    CHECK_EQUAL(saved_position(store, "c"), 5);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

static void D5_seek_makes_the_next_delivered_sequence_at_least_that(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of_ten(dir);
    batpak_region_t odd = region_of(BATPAK_ENTITY_EXACT, "odd");
    batpak_cursor_t *all = open_cursor(store, NULL, NULL), *some = open_cursor(store, &odd, "c");
    for (uint64_t to = 0; to < 10; to++) {
        for (int back = 0; back < 2; back++) {
            CHECK_OK(batpak_cursor_seek(all, back ? 9 - to : to, &error), error);
            EXPECT_NEXT(all, 1, back ? 9 - to : to);
            CHECK_OK(batpak_cursor_seek(some, back ? 9 - to : to, &error), error);
            EXPECT_NEXT(some, 1, (back ? 9 - to : to) | 1);
        }
    }
    CHECK_OK(batpak_cursor_seek(all, 10, &error), error);
    EXPECT_EMPTY(all);
    CHECK(batpak_cursor_seek(all, 11, NULL) == BATPAK_E_INVALID_ARGUMENT);
    CHECK(batpak_cursor_seek(all, BATPAK_NO_SEQUENCE, NULL) == BATPAK_E_INVALID_ARGUMENT);
    append(store, "even", "x");
    EXPECT_NEXT(all, 1, 10);
    CHECK_OK(batpak_cursor_seek_end(some, &error), error);
    EXPECT_EMPTY(some);
    append(store, "odd", "x");
    EXPECT_NEXT(some, 9, 11);
    CHECK_OK(batpak_cursor_seek_beginning(some, &error), error);
    EXPECT_NEXT(some, 1, 1);

    /* A seek moves no checkpoint; a checkpoint after it keeps it. */
    CHECK(!is_saved(store, "c"));
    CHECK_OK(batpak_cursor_seek(some, 6, &error), error);
    CHECK_OK(batpak_cursor_checkpoint(some, &error), error);
    CHECK_OK(batpak_cursor_seek_beginning(some, &error), error);
    CHECK_EQUAL(position_of(some).committed, 5);
    CHECK_OK(batpak_cursor_rewind(some, &error), error);
    EXPECT_NEXT(some, 1, 7);
    close_cursor(some);
    some = open_cursor(store, &odd, "c");
    EXPECT_NEXT(some, 1, 7);
    CHECK_OK(batpak_cursor_seek_beginning(some, &error), error);
    CHECK_OK(batpak_cursor_checkpoint(some, &error), error);
    CHECK_EQUAL(saved_position(store, "c"), BATPAK_NO_SEQUENCE);
    close_cursor(some);
    some = open_cursor(store, &odd, "c");
    EXPECT_NEXT(some, 1, 1);
    close_cursor(some);
    close_cursor(all);
    close_store(store);
    remove_dir(dir);
}

static int64_t tell_clock(void *user_data) {
    return *(int64_t *)user_data;
}

static void D5_seek_finds_the_first_event_at_or_after_a_time(void) {
    char *dir = make_dir();
    batpak_store_options_t options;
    batpak_store_t *store = NULL;
    int64_t now = 0;
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.clock = tell_clock;
    options.clock_user_data = &now;
    options.segment_bytes = MIB;
    options.durability = BATPAK_DURABILITY_PROCESS;
    CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
    enum { GROUPS = 400 };
    for (int group = 0; group < GROUPS; group++) {
        now = 1000000 + group * 10;
        append_many(store, "a", 5, 1500);
    }
    CHECK(stats_of(store).segments >= 3);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    static const int64_t early[] = {INT64_MIN, -1, 0, 1000000};
    for (int i = 0; i < 4; i++) {
        CHECK_OK(batpak_cursor_seek_time(cursor, early[i], &error), error);
        EXPECT_NEXT(cursor, 1, 0);
    }
    for (int group = 1; group < GROUPS; group += 13) {
        for (int64_t before = 0; before < 10; before += 3) {
            CHECK_OK(batpak_cursor_seek_time(cursor, 1000000 + group * 10 - before, &error), error);
            EXPECT_NEXT(cursor, 1, (uint64_t)group * 5);
        }
    }
    CHECK_OK(batpak_cursor_seek_time(cursor, now + 1, &error), error);
    EXPECT_EMPTY(cursor);
    CHECK_EQUAL(position_of(cursor).next_sequence, GROUPS * 5);
    CHECK_OK(batpak_cursor_seek_time(cursor, INT64_MAX, &error), error);
    EXPECT_EMPTY(cursor);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

/* What a program keeps in its own database: one transaction writes the outputs and this. */
struct row {
    uint64_t next_sequence;
    uint8_t position_id[16];
    uint64_t sum;
};

static void D5_the_exported_position_serves_exactly_once_outside(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of_ten(dir);
    struct row database = {0};
    uint64_t next = 77, sequences[4];
    for (int life = 0; life < 20; life++) {
        batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
        const uint8_t *id = database.next_sequence ? database.position_id : NULL;
        CHECK_OK(batpak_cursor_seek_position(cursor, database.next_sequence, id, &error), error);
        CHECK_OK(batpak_cursor_next_sequence(cursor, &next, &error), error);
        CHECK_EQUAL(next, database.next_sequence);
        struct row transaction = database;
        size_t n = poll_sequences(cursor, 2, sequences);
        for (size_t i = 0; i < n; i++) {
            transaction.sum += sequences[i];
        }
        batpak_cursor_position_t position = position_of(cursor);
        transaction.next_sequence = position.next_sequence;
        memcpy(transaction.position_id, position.position_id, 16);
        if (life % 3 == 1) {
            database = transaction; /* the others died before it was committed */
        }
        close_cursor(cursor);
    }
    CHECK(database.sum == 45 && database.next_sequence == 10);

    /* Held against the log on return: another event there, or none. */
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    EXPECT_NEXT(cursor, 3, 0, 1, 2);
    CHECK_STATUS(batpak_cursor_seek_position(cursor, 9, database.position_id, &error), BATPAK_E_CHECKPOINT_DIVERGED, error);
    CHECK_STATUS(batpak_cursor_seek_position(cursor, 11, database.position_id, &error), BATPAK_E_CHECKPOINT_AHEAD, error);
    CHECK_STATUS(batpak_cursor_seek_position(cursor, 11, NULL, &error), BATPAK_E_CHECKPOINT_AHEAD, error);
    CHECK_EQUAL(position_of(cursor).position, 2);
    EXPECT_NEXT(cursor, 1, 3);
    CHECK_OK(batpak_cursor_seek_position(cursor, 9, NULL, &error), error);
    EXPECT_NEXT(cursor, 1, 9);
    CHECK_OK(batpak_cursor_seek_position(cursor, 0, NULL, &error), error);
    EXPECT_NEXT(cursor, 1, 0);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

static void lag_counts_what_was_not_looked_at(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of_ten(dir);
    batpak_region_t odd = region_of(BATPAK_ENTITY_EXACT, "odd");
    batpak_cursor_t *cursor = open_cursor(store, &odd, NULL);
    uint64_t lag = 0;
    CHECK_OK(batpak_cursor_lag(cursor, &lag, &error), error);
    CHECK_EQUAL(lag, 10);
    EXPECT_NEXT(cursor, 9, 1, 3, 5, 7, 9);
    CHECK_OK(batpak_cursor_lag(cursor, &lag, &error), error);
    CHECK_EQUAL(lag, 0);
    append(store, "even", "x");
    CHECK_OK(batpak_cursor_lag(cursor, &lag, &error), error);
    CHECK_EQUAL(lag, 1);
    EXPECT_EMPTY(cursor);
    CHECK_OK(batpak_cursor_lag(cursor, &lag, &error), error);
    CHECK_EQUAL(lag, 0);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(D4_without_a_checkpoint_id_at_least_once_within_the_process);
    RUN(D4_a_crash_between_delivery_and_checkpoint_redelivers_the_last_batch);
    RUN(D5_a_poll_moves_the_position_only);
    RUN(D5_a_checkpoint_persists_the_position_and_moves_committed);
    RUN(D5_checkpoint_at_commits_less_than_was_polled);
    RUN(D5_rewind_returns_to_committed);
    RUN(D5_seek_makes_the_next_delivered_sequence_at_least_that);
    RUN(D5_seek_finds_the_first_event_at_or_after_a_time);
    RUN(D5_the_exported_position_serves_exactly_once_outside);
    RUN(lag_counts_what_was_not_looked_at);
    return 0;
}
