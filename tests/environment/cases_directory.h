/* Cases of row R13: a directory that goes away, or is replaced. */
#ifndef CASES_DIRECTORY_H
#define CASES_DIRECTORY_H

#include "hostile.h"

/* Nothing that is acknowledged from here on could ever be found again. */
static void directory_deleted(void) {
    take_copy("store");
    batpak_store_t *store = open_here("store", 0);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "consumer");
    uint64_t sequences[10];
    append_well(store, 1, BATPAK_DURABILITY_STORAGE);
    poll_sequences(cursor, 10, sequences);
    remove_tree("store");
    FAILS(append_next(store, 1, BATPAK_DURABILITY_STORAGE), BATPAK_E_IO, 0, "store");
    CHECK(TIMED(batpak_cursor_checkpoint(cursor, &error)) < 0);
    batpak_error_free(error);
    CHECK(TIMED(batpak_store_sync(store, &error)) < 0);
    batpak_error_free(error);
    close_cursor(cursor);
    CHECK(close_and_free(store) < 0);
    batpak_error_free(error);
    CHECK(access("store", F_OK) != 0);
    error = NULL;
    ledger->end = ledger->announced = 0;
    memset(ledger->known, 0, sizeof ledger->known);
    check_works("store");
}

static void directory_renamed(void) {
    take_copy("store");
    batpak_store_t *store = open_here("store", 0);
    append_well(store, 1, BATPAK_DURABILITY_PROCESS);
    verify(store, ledger);
    uint64_t segments = stats_of(store).segments;
    CHECK(rename("store", "elsewhere") == 0);
    int failed = 0;
    for (int i = 0; i < 500 && failed < 3; i++) {
        if (TIMED(append_next(store, 16, BATPAK_DURABILITY_PROCESS)) != BATPAK_OK) {
            check_error(__LINE__, batpak_error_code(error), BATPAK_E_IO, 0, "store");
            decide(ledger, NOTHING);
            failed++;
        }
    }
    CHECK(failed > 0);
    CHECK(access("store", F_OK) != 0);
    CHECK(rename("elsewhere", "store") == 0);
    append_until_segments(store, segments + 1);
    append_well(store, 1, BATPAK_DURABILITY_STORAGE);
    verify(store, ledger);
    CHECK_OK(close_and_free(store), error);
    check_works("store");
}

static void directory_renamed_for_good(void) {
    take_copy("store");
    batpak_store_t *store = open_here("store", 0);
    append_well(store, 5, BATPAK_DURABILITY_STORAGE);
    CHECK(rename("store", "elsewhere") == 0);
    append_well(store, 5, BATPAK_DURABILITY_STORAGE);
    MAY_FAIL(close_and_free(store), "store");
    CHECK(access("store", F_OK) != 0);
    check_works("elsewhere");
}

static uint64_t sum_of_tree(const char *path) {
    char command[PATH_MAX + 100], line[64] = "";
    snprintf(command, sizeof command, "find '%s' -type f | sort | xargs cksum | cksum", path);
    FILE *pipe = popen(command, "r");
    CHECK(pipe != NULL && fgets(line, sizeof line, pipe) != NULL);
    pclose(pipe);
    return strtoull(line, NULL, 10);
}

/* The one in its place is another's: not a byte of it may change. */
static void replaced_by(const char *replacement) {
    uint64_t sequences[10];
    take_copy("store");
    batpak_store_t *store = open_here("store", 0);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "consumer");
    append_well(store, 1, BATPAK_DURABILITY_PROCESS);
    poll_sequences(cursor, 10, sequences);
    CHECK(rename("store", "elsewhere") == 0 && rename(replacement, "store") == 0);
    uint64_t sum = sum_of_tree("store"), failed = 0;
    for (int i = 0; i < 500 && failed < 3; i++) {
        if (TIMED(append_next(store, 16, BATPAK_DURABILITY_PROCESS)) != BATPAK_OK) {
            check_error(__LINE__, batpak_error_code(error), BATPAK_E_IO, 0, "store");
            decide(ledger, NOTHING);
            failed++;
        }
    }
    CHECK(failed > 0);
    FAILS(batpak_cursor_checkpoint(cursor, &error), BATPAK_E_IO, 0, "store");
    FAILS(batpak_checkpoint_save(store, "other", 5, NULL, 1, &error), BATPAK_E_IO, 0, "store");
    close_cursor(cursor);
    MAY_FAIL(close_and_free(store), "store");
    CHECK_EQUAL(sum_of_tree("store"), sum);
    check_works("elsewhere");
}

static void directory_replaced_by_another_store(void) {
    uint64_t end = ledger->end;
    ledger->end = ledger->announced = 0;
    batpak_store_t *store = open_here("other", 0);
    append_well(store, 64, BATPAK_DURABILITY_STORAGE);
    close_store(store);
    ledger->end = ledger->announced = end;
    replaced_by("other");
}

static void directory_replaced_by_a_copy(void) {
    take_copy("other");
    replaced_by("other");
}

static void directory_replaced_by_an_empty_one(void) {
    CHECK(mkdir("other", 0755) == 0 && mkdir("other/segments", 0755) == 0 && mkdir("other/cursors", 0755) == 0);
    replaced_by("other");
}

#endif
