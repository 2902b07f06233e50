/* What an acknowledgement means: STORAGE after the sync and not before, PROCESS without one, and what is visible when. */
#include "disk.h"

static batpak_receipt_t append_as(batpak_store_t *store, const char *entity, uint32_t durability) {
    batpak_append_options_t options = durably(durability);
    batpak_append_t item = item_of(entity, "x");
    batpak_receipt_t receipt;
    batpak_error_t *own = NULL;
    CHECK_OK(batpak_store_append(store, &item, 1, &options, &receipt, &own), own);
    return receipt;
}

static void STORAGE_is_the_default_and_said_in_the_receipt(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    int before = disk_syncs();
    batpak_receipt_t receipt = append(store, "a", "x");
    CHECK_EQUAL(receipt.durability, BATPAK_DURABILITY_STORAGE);
    CHECK(disk_syncs() > before);
    CHECK_EQUAL(marks_of(store).durable, 1);
    close_store(store);
    remove_dir(dir);
}

static void PROCESS_is_said_in_the_receipt_and_syncs_nothing(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    append(store, "a", "first of its opening");
    int before = disk_syncs();
    for (int i = 0; i < 100; i++) {
        CHECK_EQUAL(append(store, "a", "x").durability, BATPAK_DURABILITY_PROCESS);
    }
    CHECK_EQUAL(disk_syncs(), before);
    batpak_watermarks_t marks = marks_of(store);
    CHECK(marks.appended == 101 && marks.visible == 101 && marks.durable == 0);
    CHECK_OK(batpak_store_sync(store, &error), error);
    CHECK_EQUAL(marks_of(store).durable, 101);
    close_store(store);
    remove_dir(dir);
}

static void durability_of_the_call_goes_before_that_of_the_store(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    CHECK_EQUAL(append_as(store, "a", BATPAK_DURABILITY_DEFAULT).durability, BATPAK_DURABILITY_PROCESS);
    CHECK_EQUAL(append_as(store, "a", BATPAK_DURABILITY_STORAGE).durability, BATPAK_DURABILITY_STORAGE);
    CHECK_EQUAL(marks_of(store).durable, 2);
    batpak_append_options_t options = durably(3);
    batpak_append_t item = item_of("a", "x");
    CHECK_STATUS(batpak_store_append(store, &item, 1, &options, NULL, &error), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK_EQUAL(marks_of(store).appended, 2);
    close_store(store);
    remove_dir(dir);
}

struct appending {
    batpak_store_t *store;
    struct counter acknowledged;
    atomic_int threads[8];
    atomic_int started;
};

static void *append_durably(void *argument) {
    struct appending *appending = argument;
    atomic_store(&appending->threads[atomic_fetch_add(&appending->started, 1)], thread_number());
    CHECK_EQUAL(append_as(appending->store, "durable", BATPAK_DURABILITY_STORAGE).durability, BATPAK_DURABILITY_STORAGE);
    counter_add(&appending->acknowledged, 1);
    return NULL;
}

/* With the sync held back: appended, but neither acknowledged nor visible nor durable. */
static void STORAGE_is_acknowledged_and_visible_after_the_sync_only(void) {
    char *dir = make_dir();
    struct appending appending = {.store = open_store(dir), .acknowledged = COUNTER};
    batpak_cursor_t *cursor = open_cursor(appending.store, NULL, NULL);
    disk_set(1, 0);
    pthread_t thread = start_thread(append_durably, &appending);
    disk_wait_for_sync();
    batpak_watermarks_t marks = marks_of(appending.store);
    CHECK(marks.appended == 1 && marks.visible == 0 && marks.durable == 0);
    EXPECT_EMPTY(cursor);
    CHECK_EQUAL(counter_get(&appending.acknowledged), 0);
    disk_set(0, 0);
    join_thread(thread);
    marks = marks_of(appending.store);
    CHECK(marks.visible == 1 && marks.durable == 1);
    EXPECT_NEXT(cursor, 9, 0);
    batpak_cursor_free(cursor);
    close_store(appending.store);
    remove_dir(dir);
}

/* A PROCESS event is acknowledged at once, but not visible while a STORAGE event before it is not durable. */
static void visible_is_one_contiguous_mark(void) {
    char *dir = make_dir();
    struct appending appending = {.store = open_store(dir), .acknowledged = COUNTER};
    batpak_cursor_t *cursor = open_cursor(appending.store, NULL, NULL);
    append_as(appending.store, "before", BATPAK_DURABILITY_PROCESS);
    disk_set(1, 0);
    pthread_t thread = start_thread(append_durably, &appending);
    disk_wait_for_sync();
    CHECK_EQUAL(append_as(appending.store, "after", BATPAK_DURABILITY_PROCESS).sequence, 2);
    batpak_watermarks_t marks = marks_of(appending.store);
    CHECK(marks.appended == 3 && marks.visible == 1);
    EXPECT_NEXT(cursor, 9, 0);
    EXPECT_EMPTY(cursor);
    disk_set(0, 0);
    join_thread(thread);
    CHECK_EQUAL(marks_of(appending.store).visible, 3);
    EXPECT_NEXT(cursor, 9, 1, 2);
    batpak_cursor_free(cursor);
    close_store(appending.store);
    remove_dir(dir);
}

/* One sync under way, eight appends come meanwhile: one more sync serves them all. */
static void concurrent_STORAGE_appends_share_a_sync(void) {
    char *dir = make_dir();
    struct appending first = {.store = open_store(dir), .acknowledged = COUNTER};
    struct appending others = {.store = first.store, .acknowledged = COUNTER};
    pthread_t threads[8];
    disk_set(1, 0);
    pthread_t thread = start_thread(append_durably, &first);
    disk_wait_for_sync();
    for (int i = 0; i < 8; i++) {
        threads[i] = start_thread(append_durably, &others);
    }
    while (marks_of(first.store).appended < 9) {
        sched_yield();
    }
    for (int i = 0; i < 8; i++) {
        wait_until_asleep(atomic_load(&others.threads[i]));
    }
    CHECK_EQUAL(disk_syncs(), 1);
    disk_set(0, 0);
    join_thread(thread);
    for (int i = 0; i < 8; i++) {
        join_thread(threads[i]);
    }
    CHECK_EQUAL(disk_syncs(), 2);
    CHECK(marks_of(first.store).durable == 9 && counter_get(&others.acknowledged) == 8);
    close_store(first.store);
    remove_dir(dir);
}

static void a_lone_STORAGE_append_waits_for_one_sync_and_no_company(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "a", "first of its opening");
    uint64_t times[50];
    for (int i = 0; i < 50; i++) {
        int before = disk_syncs();
        times[i] = now_us();
        append(store, "a", "x");
        times[i] = now_us() - times[i];
        CHECK_EQUAL(disk_syncs(), before + 1);
    }
    printf("  a STORAGE append takes %" PRIu64 " us\n", median(times, 50));
    close_store(store);
    remove_dir(dir);
}

/* PROCESS events fill segments; one STORAGE event then stands for every byte before it, oldest segment first. */
static void STORAGE_syncs_every_lower_byte_oldest_segment_first(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    pthread_mutex_lock(&disk.mutex);
    disk.segment_syncs = 0;
    pthread_mutex_unlock(&disk.mutex);
    append_many(store, "a", 4000, 1000);
    batpak_receipt_t receipt = append_as(store, "a", BATPAK_DURABILITY_STORAGE);
    CHECK_EQUAL(marks_of(store).durable, receipt.sequence + 1);
    uint64_t segments = stats_of(store).segments;
    CHECK(segments >= 4);
    int syncs = disk_syncs(), distinct = 0;
    char newest[64] = "";
    CHECK(syncs < 64);
    for (int i = 0; i < syncs; i++) {
        /* Names are padded: their order is that of the segments. */
        if (strcmp(disk.segments[i], newest) > 0) {
            strcpy(newest, disk.segments[i]);
            distinct++;
        } else {
            CHECK(strcmp(disk.segments[i], newest) == 0);
        }
    }
    CHECK_EQUAL(distinct, segments);
    close_store(store);
    remove_dir(dir);
}

/* After it nothing is acknowledged any more; what was stays readable, and the store opens again with it. */
static void a_failed_sync_acknowledges_nothing_and_poisons(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "a", "kept");
    batpak_receipt_t receipt = {.sequence = 77};
    batpak_append_t item = item_of("a", "lost");
    disk_set(0, 1);
    CHECK_STATUS(batpak_store_append(store, &item, 1, NULL, &receipt, &error), BATPAK_E_IO, error);
    CHECK_EQUAL(receipt.sequence, 77);
    disk_set(0, 0);
    for (uint32_t durability = BATPAK_DURABILITY_STORAGE; durability <= BATPAK_DURABILITY_PROCESS; durability++) {
        batpak_append_options_t options = durably(durability);
        CHECK(batpak_store_append(store, &item, 1, &options, NULL, &error) == BATPAK_E_POISONED);
        CHECK(batpak_error_is_fatal(error) == 1);
        batpak_error_free(error);
        error = NULL;
    }
    CHECK_STATUS(batpak_store_sync(store, &error), BATPAK_E_POISONED, error);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    EXPECT_NEXT(cursor, 9, 0);
    EXPECT_EMPTY(cursor);
    batpak_cursor_free(cursor);
    CHECK(batpak_store_close(store, SOON_MS, NULL) < 0);
    batpak_store_free(store);
    store = open_store(dir);
    CHECK(marks_of(store).durable >= 1);
    CHECK_EQUAL(append(store, "a", "again").clock, marks_of(store).durable - 1);
    close_store(store);
    remove_dir(dir);
}

/* What was acknowledged as PROCESS before the process was killed is there. */
static void append_and_die(void *dir) {
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    append_many(store, "a", 3000, 700);
    append(store, "a", "last");
    raise(SIGKILL);
}

static void PROCESS_survives_the_death_of_the_process(void) {
    char *dir = make_dir();
    int status = run_process(append_and_die, dir);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    expect_run(cursor, 0, 3000);
    batpak_cursor_free(cursor);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(STORAGE_is_the_default_and_said_in_the_receipt);
    RUN(PROCESS_is_said_in_the_receipt_and_syncs_nothing);
    RUN(durability_of_the_call_goes_before_that_of_the_store);
    RUN(STORAGE_is_acknowledged_and_visible_after_the_sync_only);
    RUN(visible_is_one_contiguous_mark);
    RUN(concurrent_STORAGE_appends_share_a_sync);
    RUN(a_lone_STORAGE_append_waits_for_one_sync_and_no_company);
    RUN(STORAGE_syncs_every_lower_byte_oldest_segment_first);
    RUN(a_failed_sync_acknowledges_nothing_and_poisons);
    RUN(PROCESS_survives_the_death_of_the_process);
    return 0;
}
