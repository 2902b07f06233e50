/* Cases of row R13: paths. */
#ifndef CASES_PATHS_H
#define CASES_PATHS_H

#include "hostile.h"

static void path_works(const char *path) {
    ledger->end = ledger->announced = 0;
    memset(ledger->known, 0, sizeof ledger->known);
    check_works(path);
}

static void path_too_long(void) {
    char path[6000];
    batpak_store_t *store;
    memset(path, 'a', sizeof path);
    path[sizeof path - 1] = 0;
    FAILS(open_with(path, 0, &store), BATPAK_E_IO, ENAMETOOLONG, "aaaa");
    path[256] = 0;
    FAILS(open_with(path, 0, &store), BATPAK_E_IO, ENAMETOOLONG, "aaaa");
    for (size_t i = 100; i < 5999; i += 100) {
        path[i] = '/';
    }
    path[256] = 'a';
    path[5000] = 0;
    FAILS(open_with(path, 0, &store), BATPAK_E_IO, ENAMETOOLONG, "aaaa");
    path[255] = 0;
    path[200] = path[100] = 'a';
    path_works(path);
}

/* The store's own path fits, its files' do not, or not all. */
static void path_nearly_too_long(void) {
    char name[201];
    batpak_store_t *store;
    memset(name, 'd', 200);
    name[200] = 0;
    char here[PATH_MAX];
    for (int i = 0; i < 30; i++) {
        CHECK(getcwd(here, sizeof here) != NULL);
        if (strlen(here) > 4096 - 260) {
            break;
        }
        CHECK(mkdir(name, 0755) == 0 && chdir(name) == 0);
    }
    for (size_t left = 4095 - strlen(here) - 1; left > 20 && left > 4095 - strlen(here) - 60; left--) {
        char long_name[300];
        memset(long_name, 'x', sizeof long_name);
        long_name[left < 255 ? left : 255] = 0;
        char path[PATH_MAX + 300];
        snprintf(path, sizeof path, "%s/%s", here, long_name);
        path[4095] = 0;
        if (MAY_FAIL(open_with(path, 0, &store), "xxx")) {
            ledger->end = ledger->announced = 0;
            if (TIMED(append_next(store, 1, 0)) != BATPAK_OK) {
                check_error(__LINE__, batpak_error_code(error), BATPAK_E_IO, ENAMETOOLONG, "xxx");
                decide(ledger, NOTHING);
            }
            MAY_FAIL(close_and_free(store), "xxx");
        }
        /* By a short name it is a store like any other, or none was made. */
        if (MAY_FAIL(open_with(".", BATPAK_STORE_NO_CREATE, &store), NULL)) {
            close_store(store);
        }
    }
}

static void path_with_spaces(void) {
    path_works(" a store  with spaces ");
}

static void path_in_utf8(void) {
    path_works("Größe/日本/🦇");
}

static void path_with_newlines(void) {
    path_works("a\nstore\twith\r\ncontrol \x1b[31m bytes\x7f");
}

static void path_not_utf8(void) {
    path_works("b\xff\xfe\x80/\xc3\x28");
    batpak_store_t *store;
    CHECK_STATUS(open_with("missing\xff", BATPAK_STORE_NO_CREATE, &store), BATPAK_E_NOT_FOUND, error);
}

static void path_with_percent(void) {
    path_works("%s%n%x {} \\ ' \" $HOME ~ * ?");
}

static void path_with_a_nul(void) {
    batpak_store_t *store = NULL;
    CHECK(TIMED(batpak_store_open("a\0b", 3, NULL, &store, &error)) < 0);
    CHECK(store == NULL && strlen(batpak_error_message(error, NULL)) > 10);
    batpak_error_free(error);
    CHECK(access("a", F_OK) != 0);
}

static void path_empty(void) {
    batpak_store_t *store = NULL;
    CHECK_STATUS(TIMED(batpak_store_open("", 0, NULL, &store, &error)), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK_STATUS(TIMED(batpak_store_open_z("", NULL, &store, &error)), BATPAK_E_INVALID_ARGUMENT, error);
}

static void path_relative(void) {
    take_copy("store");
    batpak_store_t *store = open_here("./store/../store//", 0);
    uint64_t segments = stats_of(store).segments;
    CHECK(mkdir("other", 0755) == 0 && chdir("other") == 0);
    append_until_segments(store, segments + 1);
    append_well(store, 1, BATPAK_DURABILITY_STORAGE);
    verify(store, ledger);
    CHECK_OK(close_and_free(store), error);
    CHECK(access("store", F_OK) != 0);
    check_works("../store");
}

static void path_current_directory(void) {
    CHECK(mkdir("store", 0755) == 0 && chdir("store") == 0);
    path_works(".");
}

static void path_current_directory_deleted(void) {
    batpak_store_t *store;
    CHECK(mkdir("gone", 0755) == 0 && chdir("gone") == 0 && rmdir("../gone") == 0);
    MAY_FAIL(open_with("store", 0, &store), NULL);
    CHECK(store == NULL);
    MAY_FAIL(open_with(".", 0, &store), NULL);
    CHECK(store == NULL);
}

static void path_is_a_file(void) {
    batpak_store_t *store;
    write_file("file", "x", 1);
    FAILS(open_with("file", 0, &store), BATPAK_E_NOT_A_STORE, 0, "file");
    FAILS(open_with("file", BATPAK_STORE_READ_ONLY, &store), BATPAK_E_NOT_A_STORE, 0, "file");
    FAILS(open_with("file/below", 0, &store), BATPAK_E_NOT_A_STORE, 0, "file");
}

static void path_is_no_store(void) {
    batpak_store_t *store;
    CHECK(mkdir("dir", 0755) == 0);
    write_file("dir/file", "x", 1);
    FAILS(open_with("dir", 0, &store), BATPAK_E_NOT_A_STORE, 0, "dir");
    FAILS(open_with("/proc", 0, &store), BATPAK_E_NOT_A_STORE, 0, "/proc");
    FAILS(open_with("/dev/fd", 0, &store), BATPAK_E_NOT_A_STORE, 0, NULL);
    CHECK(access("dir/LOCK", F_OK) != 0);
}

static void path_is_a_link(void) {
    take_copy("real");
    CHECK(symlink("real", "link") == 0);
    batpak_store_t *store = open_here("link", 0), *other;
    FAILS(open_with("real", 0, &other), BATPAK_E_LOCKED, 0, "real");
    CHECK(unlink("link") == 0);
    uint64_t segments = stats_of(store).segments;
    append_until_segments(store, segments + 1);
    CHECK_OK(close_and_free(store), error);
    check_works("real");
}

static void path_is_a_dangling_link(void) {
    batpak_store_t *store;
    CHECK(symlink("nowhere/at/all", "link") == 0);
    FAILS(open_with("link", 0, &store), BATPAK_E_IO, 0, "link");
    FAILS(open_with("link", BATPAK_STORE_READ_ONLY, &store), BATPAK_E_NOT_FOUND, 0, "link");
    CHECK(mkdir("nowhere", 0755) == 0 && mkdir("nowhere/at", 0755) == 0 && mkdir("nowhere/at/all", 0755) == 0);
    path_works("link");
}

static void path_is_a_loop(void) {
    batpak_store_t *store;
    CHECK(symlink("b", "a") == 0 && symlink("a", "b") == 0);
    FAILS(open_with("a", 0, &store), BATPAK_E_IO, ELOOP, "a");
}

static void path_parent_missing(void) {
    batpak_store_t *store;
    FAILS(open_with("one/two/three", BATPAK_STORE_NO_CREATE, &store), BATPAK_E_NOT_FOUND, 0, "one/two/three");
    FAILS(open_with("one/two/three", BATPAK_STORE_READ_ONLY, &store), BATPAK_E_NOT_FOUND, 0, "one/two/three");
    CHECK(access("one", F_OK) != 0);
    path_works("one/two/three");
}

static void path_is_a_device(void) {
    batpak_store_t *store;
    FAILS(open_with("/dev/null", 0, &store), BATPAK_E_NOT_A_STORE, 0, "/dev/null");
    FAILS(open_with("/dev/zero", BATPAK_STORE_READ_ONLY, &store), BATPAK_E_NOT_A_STORE, 0, "/dev/zero");
}

#endif
