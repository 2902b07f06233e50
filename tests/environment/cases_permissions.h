/* Cases of row R13: permissions that are not there, or are lost. */
#ifndef CASES_PERMISSIONS_H
#define CASES_PERMISSIONS_H

#include "hostile.h"

static void read_only_directory(void) {
    batpak_store_t *store;
    take_copy("store");
    become_nobody();
    CHECK(chmod("store/segments", 0555) == 0 && chmod("store", 0555) == 0);
    CHECK(chmod("store/LOCK", 0444) == 0);
    FAILS(open_with("store", 0, &store), BATPAK_E_IO, EACCES, "store");
    store = open_here("store", BATPAK_STORE_READ_ONLY);
    verify(store, ledger);
    CHECK_OK(close_and_free(store), error);
    CHECK(chmod("store", 0755) == 0 && chmod("store/segments", 0755) == 0 && chmod("store/LOCK", 0644) == 0);
    check_works("store");
}

static void read_only_parent(void) {
    batpak_store_t *store;
    CHECK(mkdir("parent", 0755) == 0);
    become_nobody();
    CHECK(chmod("parent", 0555) == 0);
    FAILS(open_with("parent/new", 0, &store), BATPAK_E_IO, EACCES, "parent/new");
    FAILS(open_with("parent/new/below", 0, &store), BATPAK_E_IO, EACCES, "parent/new");
    CHECK(chmod("parent", 0755) == 0);
    ledger->end = ledger->announced = 0;
    check_works("parent/new");
}

static void closed_parent(void) {
    batpak_store_t *store;
    CHECK(mkdir("parent", 0755) == 0);
    take_copy("parent/store");
    become_nobody();
    CHECK(chmod("parent", 0) == 0);
    FAILS(open_with("parent/store", 0, &store), BATPAK_E_IO, EACCES, "parent/store");
    FAILS(open_with("parent/store", BATPAK_STORE_READ_ONLY, &store), BATPAK_E_IO, EACCES, "parent/store");
    CHECK(chmod("parent", 0755) == 0);
    check_works("parent/store");
}

static void unreadable(const char *path, mode_t mode) {
    batpak_store_t *store;
    struct stat status;
    take_copy("store");
    become_nobody();
    CHECK(stat(path, &status) == 0 && chmod(path, 0) == 0);
    FAILS(open_with("store", 0, &store), BATPAK_E_IO, EACCES, path);
    CHECK(chmod(path, mode) == 0);
    check_works("store");
}

static void unreadable_store_file(void) {
    unreadable("store/STORE", 0644);
}

static void unreadable_lock(void) {
    unreadable("store/LOCK", 0644);
}

static void unreadable_segments(void) {
    unreadable("store/segments", 0755);
}

static void unreadable_active_segment(void) {
    unreadable(active_segment, 0644);
}

/* An index that cannot be opened is no missing one: it is said, and nothing is rebuilt behind anybody's back. */
static void unreadable_sealed_files(void) {
    const char *paths[2] = {sealed_segment, sealed_index};
    take_copy("store");
    become_nobody();
    for (int i = 0; i < 2; i++) {
        batpak_cursor_t *cursor;
        CHECK(chmod(paths[i], 0) == 0);
        batpak_store_t *store = open_here("store", 0);
        cursor = open_cursor(store, NULL, NULL);
        batpak_batch_t *batch = NULL;
        batpak_status_t status;
        while ((status = TIMED(batpak_cursor_poll(cursor, 1000, 0, 0, &batch, &error))) == BATPAK_OK) {
            batpak_batch_free(batch);
        }
        check_error(__LINE__, status, BATPAK_E_IO, EACCES, paths[i]);
        CHECK(chmod(paths[i], 0644) == 0);
        while ((status = TIMED(batpak_cursor_poll(cursor, 1000, 0, 0, &batch, &error))) == BATPAK_OK) {
            batpak_batch_free(batch);
        }
        CHECK_EQUAL(status, BATPAK_EMPTY);
        CHECK_EQUAL(position_of(cursor).position, ledger->end - 1);
        close_cursor(cursor);
        CHECK_OK(close_and_free(store), error);
    }
    check_works("store");
}

static void permission_lost(uint32_t flags, mode_t mode) {
    take_copy("store");
    become_nobody();
    batpak_store_t *store = open_here("store", flags);
    append_well(store, 1, BATPAK_DURABILITY_PROCESS);
    verify(store, ledger);
    uint64_t segments = stats_of(store).segments;
    CHECK(chmod("store/segments", mode) == 0);
    int failed = 0;
    for (int i = 0; i < 500 && failed < 3; i++) {
        if (TIMED(append_next(store, 16, BATPAK_DURABILITY_PROCESS)) != BATPAK_OK) {
            check_error(__LINE__, batpak_error_code(error), BATPAK_E_IO, EACCES, "store/segments");
            decide(ledger, NOTHING);
            failed++;
        }
    }
    CHECK(failed > 0);
    verify(store, ledger);
    CHECK(chmod("store/segments", 0755) == 0);
    append_until_segments(store, segments + 1);
    append_well(store, 1, BATPAK_DURABILITY_STORAGE);
    CHECK_OK(close_and_free(store), error);
    check_works("store");
}

static void permission_to_write_lost(void) {
    permission_lost(0, 0555);
}

static void permission_to_write_lost_without_helper(void) {
    permission_lost(BATPAK_STORE_NO_HELPER_THREAD, 0555);
}

static void permission_lost_at_close(void) {
    take_copy("store");
    become_nobody();
    batpak_store_t *store = open_here("store", 0);
    append_well(store, 5, BATPAK_DURABILITY_STORAGE);
    CHECK(chmod("store", 0) == 0);
    MAY_FAIL(close_and_free(store), "store");
    CHECK(chmod("store", 0755) == 0);
    check_works("store");
}

static void checkpoints_unwritable(void) {
    uint64_t sequences[10];
    take_copy("store");
    become_nobody();
    batpak_store_t *store = open_here("store", 0);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "consumer");
    poll_sequences(cursor, 10, sequences);
    CHECK(chmod("store/cursors", 0555) == 0);
    FAILS(batpak_cursor_checkpoint(cursor, &error), BATPAK_E_IO, EACCES, "store/cursors");
    FAILS(batpak_checkpoint_save(store, "other", 5, NULL, 1, &error), BATPAK_E_IO, EACCES, "store/cursors");
    CHECK(saved_position(store, "consumer") < sequences[0]);
    append_well(store, 1, BATPAK_DURABILITY_STORAGE);
    CHECK(chmod("store/cursors", 0755) == 0);
    CHECK_OK(TIMED(batpak_cursor_checkpoint(cursor, &error)), error);
    close_cursor(cursor);
    CHECK_OK(close_and_free(store), error);
    check_works("store");
}

static void read_only_mount(void) {
    batpak_store_t *store;
    CHECK(mkdir("mount", 0755) == 0);
    take_copy("mount/store");
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("mount", "mount", NULL, MS_BIND, NULL) != 0 ||
        mount(NULL, "mount", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) != 0) {
        SKIP("no read-only mount can be made");
    }
    CHECK(chdir("mount/..") == 0);
    FAILS(open_with("mount/store", 0, &store), BATPAK_E_IO, EROFS, "mount/store");
    FAILS(open_with("mount/new", 0, &store), BATPAK_E_IO, EROFS, "mount/new");
    store = open_here("mount/store", BATPAK_STORE_READ_ONLY);
    verify(store, ledger);
    verify_entities(store, ledger);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "consumer");
    FAILS(batpak_cursor_checkpoint(cursor, &error), BATPAK_E_READ_ONLY, 0, "mount/store");
    close_cursor(cursor);
    FAILS(append_next(store, 1, 0), BATPAK_E_READ_ONLY, 0, "mount/store");
    decide(ledger, NOTHING);
    CHECK_OK(close_and_free(store), error);
    CHECK(mount(NULL, "mount", NULL, MS_REMOUNT | MS_BIND, NULL) == 0);
    check_works("mount/store");
}

#endif
