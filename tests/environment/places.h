/* A store to be put anywhere: a template, its copies, and what a healthy copy must be able to do. */
#ifndef PLACES_H
#define PLACES_H

#include "ledger.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct ledger *ledger;
static batpak_append_t items[ITEMS_MAX];
static struct content contents[ITEMS_MAX];

/* Of all programs here: three segments that are left and an active one. */
enum { TEMPLATE_SEGMENTS = 4 };

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static inline void join(char *path, const char *dir, const char *name) {
    CHECK((size_t)snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX);
}

static inline void copy_bytes(const char *from, const char *to) {
    static uint8_t buffer[1 << 20];
    int source = open(from, O_RDONLY), target = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    CHECK(source >= 0 && target >= 0);
    for (ssize_t n; (n = read(source, buffer, sizeof buffer)) != 0;) {
        CHECK(n > 0 && write(target, buffer, (size_t)n) == n);
    }
    close(source);
    close(target);
}

/* Regular files and directories. */
static inline void copy_dir(const char *from, const char *to) {
    CHECK(mkdir(to, 0777) == 0);
    DIR *directory = opendir(from);
    CHECK(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char source[PATH_MAX], target[PATH_MAX];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        join(source, from, entry->d_name);
        join(target, to, entry->d_name);
        if (entry->d_type == DT_DIR) {
            copy_dir(source, target);
        } else {
            copy_bytes(source, target);
        }
    }
    closedir(directory);
}

/* ---- stores --------------------------------------------------------------------------------------------------------- */

static inline batpak_status_t open_with(const char *dir, uint32_t flags, batpak_store_t **store) {
    batpak_store_options_t options;
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.segment_bytes = MIB;
    options.flags = flags;
    *store = NULL;
    return batpak_store_open_z(dir, &options, store, &error);
}

static inline batpak_store_t *open_here(const char *dir, uint32_t flags) {
    batpak_store_t *store;
    CHECK_OK(open_with(dir, flags, &store), error);
    return store;
}

/* The next n events of the ledger. The caller says what a failure means. */
static inline batpak_status_t append_next(batpak_store_t *store, size_t n, uint32_t durability) {
    batpak_append_options_t options = durably(durability);
    items_of(ledger, ledger->end, n, items, contents);
    announce(ledger, n);
    batpak_status_t status = batpak_store_append(store, items, n, &options, NULL, &error);
    if (status == BATPAK_OK) {
        decide(ledger, ACKNOWLEDGED);
    }
    return status;
}

static inline void append_well(batpak_store_t *store, size_t n, uint32_t durability) {
    CHECK_OK(append_next(store, n, durability), error);
}

static inline void append_until_segments(batpak_store_t *store, uint64_t segments) {
    while (stats_of(store).segments < segments) {
        append_well(store, 16, BATPAK_DURABILITY_PROCESS);
    }
}

/* The template: segments, indexes, and a checkpoint "consumer" in its midst. */
static inline void make_template(const char *dir, uint64_t seed) {
    uint64_t sequences[100];
    ledger = new_ledger(seed);
    batpak_store_t *store = open_here(dir, 0);
    append_until_segments(store, TEMPLATE_SEGMENTS);
    append_well(store, 64, BATPAK_DURABILITY_STORAGE);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "consumer");
    CHECK(poll_sequences(cursor, 100, sequences) > 0);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    close_cursor(cursor);
    close_store(store);
}

/* Everything that was acknowledged is there, and the store does all that a store does. */
static inline void check_works(const char *dir) {
    for (int turn = 0; turn < 2; turn++) {
        batpak_store_t *store = open_here(dir, 0);
        verify(store, ledger);
        adopt(store, ledger);
        verify_entities(store, ledger);
        append_well(store, 2, BATPAK_DURABILITY_STORAGE);
        append_well(store, 2, BATPAK_DURABILITY_PROCESS);
        if (is_saved(store, "consumer")) {
            uint64_t sequences[100];
            batpak_cursor_t *cursor = open_cursor(store, NULL, "consumer");
            CHECK(poll_sequences(cursor, 100, sequences) > 0);
            CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
            close_cursor(cursor);
        }
        close_store(store);
    }
    batpak_store_t *store = open_here(dir, BATPAK_STORE_READ_ONLY);
    verify(store, ledger);
    close_store(store);
}

#endif
