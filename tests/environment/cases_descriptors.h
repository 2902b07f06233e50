/* Cases of row R13: the limit on descriptors. */
#ifndef CASES_DESCRIPTORS_H
#define CASES_DESCRIPTORS_H

#include "hostile.h"

static void descriptors_at_open(void) {
    take_copy("store");
    close_other_descriptors();
    unsigned before = open_descriptors(), more = 0;
    batpak_store_t *store = NULL;
    for (;; more++) {
        allow_descriptors(more);
        if (TIMED(open_with("store", 0, &store)) == BATPAK_OK) {
            break;
        }
        check_error(__LINE__, batpak_error_code(error), BATPAK_E_IO, EMFILE, "store");
        allow_all_descriptors();
        CHECK_EQUAL(open_descriptors(), before);
        CHECK(more < 20);
    }
    allow_all_descriptors();
    verify(store, ledger);
    CHECK_OK(close_and_free(store), error);
    CHECK(more > 0);
    CHECK_EQUAL(open_descriptors(), before);
    check_works("store");
}

static void descriptors_at_making(void) {
    close_other_descriptors();
    batpak_store_t *store = NULL;
    ledger->end = ledger->announced = 0;
    for (unsigned more = 0;; more++) {
        allow_descriptors(more);
        if (TIMED(open_with("new", 0, &store)) == BATPAK_OK) {
            break;
        }
        check_error(__LINE__, batpak_error_code(error), BATPAK_E_IO, EMFILE, "new");
        allow_all_descriptors();
        CHECK(more < 20);
    }
    allow_all_descriptors();
    CHECK_OK(close_and_free(store), error);
    check_works("new");
}

/* However few descriptors there are, if a store could be opened all of it can be read: old ones are closed. */
static void descriptors_at_poll(void) {
    take_copy("store");
    close_other_descriptors();
    batpak_store_t *store = open_here("store", 0);
    allow_descriptors(3);
    begin_call();
    verify(store, ledger);
    verify_entities(store, ledger);
    end_call(__LINE__, BATPAK_OK);
    allow_all_descriptors();
    CHECK_OK(close_and_free(store), error);
    check_works("store");
}

static void descriptors_at_poll_without_any(void) {
    take_copy("store");
    close_other_descriptors();
    batpak_store_t *store = open_here("store", 0);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    batpak_batch_t *batch = NULL;
    allow_descriptors(0);
    FAILS(batpak_cursor_poll(cursor, 10, 0, 0, &batch, &error), BATPAK_E_IO, EMFILE, "segments");
    FAILS(batpak_store_get(store, 0, &batch, &error), BATPAK_E_IO, EMFILE, "segments");
    allow_all_descriptors();
    verify(store, ledger);
    expect_run(cursor, 0, ledger->end - 1);
    close_cursor(cursor);
    CHECK_OK(close_and_free(store), error);
    check_works("store");
}

static void rotate_without_descriptors(uint32_t flags, uint32_t durability) {
    take_copy("store");
    close_other_descriptors();
    batpak_store_t *store = open_here("store", flags);
    append_well(store, 1, durability);
    uint64_t segments = stats_of(store).segments;
    allow_descriptors(0);
    int failed = 0;
    for (int i = 0; i < 500 && failed < 3; i++) {
        if (TIMED(append_next(store, 16, durability)) != BATPAK_OK) {
            check_error(__LINE__, batpak_error_code(error), BATPAK_E_IO, EMFILE, "segments");
            decide(ledger, NOTHING);
            CHECK_EQUAL(marks_of(store).appended, ledger->end);
            failed++;
        }
    }
    CHECK(failed > 0);
    allow_all_descriptors();
    append_until_segments(store, segments + 2);
    append_well(store, 1, BATPAK_DURABILITY_STORAGE);
    verify(store, ledger);
    CHECK_OK(close_and_free(store), error);
    check_works("store");
}

static void descriptors_at_rotation(void) {
    rotate_without_descriptors(0, BATPAK_DURABILITY_PROCESS);
}

static void descriptors_at_rotation_without_helper(void) {
    rotate_without_descriptors(BATPAK_STORE_NO_HELPER_THREAD, BATPAK_DURABILITY_PROCESS);
}

static void descriptors_at_rotation_of_storage(void) {
    rotate_without_descriptors(0, BATPAK_DURABILITY_STORAGE);
}

/* The sync after a rotation has the directory to sync too. */
static void descriptors_at_sync(void) {
    take_copy("store");
    close_other_descriptors();
    batpak_store_t *store = open_here("store", BATPAK_STORE_NO_HELPER_THREAD);
    for (uint64_t rotations = stats_of(store).segments_sealed; stats_of(store).segments_sealed == rotations;) {
        append_well(store, 4, BATPAK_DURABILITY_PROCESS);
    }
    allow_descriptors(0);
    CHECK_OK(TIMED(append_next(store, 1, BATPAK_DURABILITY_STORAGE)), error);
    CHECK_OK(TIMED(batpak_store_sync(store, &error)), error);
    allow_all_descriptors();
    append_well(store, 1, BATPAK_DURABILITY_STORAGE);
    CHECK_OK(close_and_free(store), error);
    check_works("store");
}

static void descriptors_at_checkpoint(void) {
    uint64_t sequences[10];
    take_copy("store");
    close_other_descriptors();
    batpak_store_t *store = open_here("store", 0);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "consumer"), *other = NULL;
    batpak_checkpoint_list_t *list = NULL;
    poll_sequences(cursor, 10, sequences);
    allow_descriptors(0);
    FAILS(batpak_cursor_checkpoint(cursor, &error), BATPAK_E_IO, EMFILE, "store");
    FAILS(try_cursor(store, NULL, "other", &other, &error), BATPAK_E_IO, EMFILE, "cursors");
    FAILS(batpak_checkpoint_save(store, "third", 5, NULL, 1, &error), BATPAK_E_IO, EMFILE, "cursors");
    FAILS(batpak_checkpoint_list(store, &list, &error), BATPAK_E_IO, EMFILE, "cursors");
    allow_all_descriptors();
    CHECK(saved_position(store, "consumer") < sequences[0]);
    CHECK_OK(TIMED(batpak_cursor_checkpoint(cursor, &error)), error);
    CHECK_EQUAL(saved_position(store, "consumer"), sequences[9]);
    close_cursor(cursor);
    CHECK_OK(close_and_free(store), error);
    check_works("store");
}

static void descriptors_at_notifying(void) {
    take_copy("store");
    close_other_descriptors();
    batpak_store_t *store = open_here("store", 0);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    int32_t fd = -1;
    allow_descriptors(0);
    CHECK_STATUS(TIMED(batpak_cursor_notify_fd(cursor, &fd, &error)), BATPAK_E_IO, error);
    CHECK_STATUS(TIMED(batpak_store_durable_fd(store, &fd, &error)), BATPAK_E_IO, error);
    allow_all_descriptors();
    CHECK_OK(TIMED(batpak_cursor_notify_fd(cursor, &fd, &error)), error);
    CHECK(fd >= 3);
    close_cursor(cursor);
    CHECK_OK(close_and_free(store), error);
    check_works("store");
}

static void descriptors_at_close(void) {
    take_copy("store");
    close_other_descriptors();
    unsigned before = open_descriptors();
    batpak_store_t *store = open_here("store", 0);
    append_well(store, 3, BATPAK_DURABILITY_PROCESS);
    allow_descriptors(0);
    MAY_FAIL(close_and_free(store), "store");
    allow_all_descriptors();
    CHECK_EQUAL(open_descriptors(), before);
    check_works("store");
}

#endif
