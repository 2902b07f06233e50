/* Cases of row R13: something else in a file's place. */
#ifndef CASES_ODD_FILES_H
#define CASES_ODD_FILES_H

#include "hostile.h"

enum kind { FIFO, SOCKET, DIRECTORY, DEVICE, DANGLING, LINK_TO_ZERO, LINK_TO_FIFO, LINK_TO_ITSELF, KINDS };

static const char *const kinds[KINDS] = {"a FIFO", "a socket", "a directory", "a device", "a link to nowhere",
                                         "a link to /dev/zero", "a link to a FIFO", "a link to itself"};

static void make_kind(enum kind kind, const char *path) {
    switch (kind) {
    case FIFO: CHECK(mkfifo(path, 0666) == 0); return;
    case SOCKET: {
        struct sockaddr_un address;
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        memset(&address, 0, sizeof address);
        address.sun_family = AF_UNIX;
        CHECK(strlen(path) < sizeof address.sun_path);
        strcpy(address.sun_path, path);
        CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && close(fd) == 0);
        return;
    }
    case DIRECTORY: CHECK(mkdir(path, 0777) == 0); return;
    case DEVICE:
        if (mknod(path, S_IFCHR | 0666, makedev(1, 5)) != 0) {
            SKIP("no device can be made");
        }
        return;
    case DANGLING: CHECK(symlink("no/such/place", path) == 0); return;
    case LINK_TO_ZERO: CHECK(symlink("/dev/zero", path) == 0); return;
    case LINK_TO_FIFO:
        CHECK(mkfifo("fifo", 0666) == 0);
        CHECK(symlink("../../fifo", path) == 0 && (access(path, F_OK) == 0 || (unlink(path) == 0 && symlink("../fifo", path) == 0)));
        return;
    default: CHECK(symlink(strrchr(path, '/') + 1, path) == 0); return;
    }
}

static const char *places[] = {
    "store/STORE", "store/LOCK", active_segment, sealed_segment, active_index, sealed_index, "store/cursors/consumer.ckpt",
    "store/cursors/.consumer.lock", "store/cursors/.consumer.tmp", "store/segments", "store/cursors", "store/STORE.tmp",
    "store/segments/next.seg.tmp", "store/segments/own.seg.tmp",
};
enum { PLACES = sizeof places / sizeof places[0] };

/* Whatever the store can do with it, it does at once, and says what it cannot. What it made in its place meanwhile goes
 * when the original comes back. */
static void use_odd_store(const char *path) {
    batpak_store_t *store;
    batpak_cursor_t *cursor = NULL;
    for (int turn = 0; turn < 2; turn++) {
        uint32_t flags = turn == 0 ? BATPAK_STORE_READ_ONLY : 0;
        if (!MAY_FAIL(open_with("store", flags, &store), path)) {
            continue;
        }
        CHECK_OK(batpak_cursor_open(store, NULL, NULL, &cursor, &error), error);
        batpak_batch_t *batch = NULL;
        batpak_status_t status;
        while ((status = TIMED(batpak_cursor_poll(cursor, 1000, 0, 0, &batch, &error))) == BATPAK_OK) {
            batpak_batch_free(batch);
        }
        if (may_fail(__LINE__, status, path)) {
            CHECK_EQUAL(position_of(cursor).position, ledger->end - 1);
        }
        close_cursor(cursor);
        batpak_entity_list_t *list = NULL;
        MAY_FAIL(batpak_store_entities(store, NULL, 0, NULL, 0, 100, &list, &error), path);
        batpak_entity_list_free(list);
        cursor = NULL;
        if (MAY_FAIL(try_cursor(store, NULL, "consumer", &cursor, &error), path)) {
            batpak_batch_t *some = NULL;
            if (MAY_FAIL(batpak_cursor_poll(cursor, 10, 0, 0, &some, &error), path) && turn == 1) {
                MAY_FAIL(batpak_cursor_checkpoint(cursor, &error), path);
            }
            batpak_batch_free(some);
            close_cursor(cursor);
        }
        for (int i = 0; i < 120 && turn == 1; i++) {
            status = TIMED(append_next(store, 16, i % 8 == 0 ? BATPAK_DURABILITY_STORAGE : BATPAK_DURABILITY_PROCESS));
            if (!may_fail(__LINE__, status, path)) {
                CHECK(status == BATPAK_E_IO);
                decide(ledger, NOTHING);
                CHECK_EQUAL(marks_of(store).appended, ledger->end);
            }
        }
        MAY_FAIL(close_and_free(store), path);
    }
}

static void odd_place(enum kind kind, const char *path) {
    take_copy("store");
    struct stat status;
    int was_there = lstat(path, &status) == 0;
    if (was_there) {
        CHECK(rename(path, "original") == 0);
    }
    make_kind(kind, path);
    CHECK(lstat(path, &status) == 0);
    mode_t made = status.st_mode & S_IFMT;
    uint64_t end = ledger->end;
    use_odd_store(NULL);
    /* Nothing can be appended to a log whose newest segment is not there. */
    if (was_there && strcmp(path, active_segment) == 0) {
        CHECK_EQUAL(ledger->end, end);
    }
    int is_ours = lstat(path, &status) == 0 && (status.st_mode & S_IFMT) != made;
    int is_derived = strstr(path, ".idx") != NULL || strcmp(path, "store/STORE") == 0 || strstr(path, "consumer.ckpt") != NULL || strstr(path, "cursors") != NULL;
    if (is_ours && !is_derived && was_there) {
        fprintf(stderr, "%s was replaced\n", path);
        exit(1);
    }
    remove_tree(path);
    if (was_there && !(is_ours && is_derived)) {
        CHECK(rename("original", path) == 0);
    }
    check_works("store");
}

#endif
