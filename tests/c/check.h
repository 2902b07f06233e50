/* What every C and C++ test needs: checks that say where and why, and a directory of its own.
 *
 * A test is a program: 0 from main is success. A failed check prints and ends the process with status 1.
 * The runner (tests/c_suite.rs) compiles with -D_GNU_SOURCE, links the library and pthread, and gives each run a TMPDIR
 * of its own and a time limit.
 */
#ifndef CHECK_H
#define CHECK_H

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batpak.h"

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

/* Both are integers of any width. */
#define CHECK_EQUAL(one, other) \
    do { \
        int64_t check_one = (int64_t)(one), check_other = (int64_t)(other); \
        if (check_one != check_other) { \
            fprintf(stderr, "%s:%d: %s is %" PRId64 ", %s is %" PRId64 "\n", __FILE__, __LINE__, #one, check_one, \
                    #other, check_other); \
            exit(1); \
        } \
    } while (0)

/* A call that is to succeed, and the error variable it was given: CHECK_OK(batpak_store_sync(store, &error), error). */
#define CHECK_OK(call, err) CHECK_STATUS(call, BATPAK_OK, err)

/* A call that is to return `expected`, and the error variable it was given, which is freed and NULL afterwards. It must
 * be set exactly when the status is negative, and say the same code. */
#define CHECK_STATUS(call, expected, err) \
    do { \
        batpak_status_t check_status = (call); \
        check_status_is(__FILE__, __LINE__, #call, check_status, (expected), &(err)); \
    } while (0)

static inline void check_status_is(const char *file, int line, const char *call, batpak_status_t status,
                                   batpak_status_t expected, batpak_error_t **err) {
    if (status != expected) {
        fprintf(stderr, "%s:%d: %s\n  is %s, not %s: %s\n", file, line, call, batpak_status_name(status),
                batpak_status_name(expected), *err ? batpak_error_message(*err, NULL) : "(no error object)");
        exit(1);
    }
    if ((status < 0) != (*err != NULL) || (*err != NULL && batpak_error_code(*err) != status)) {
        fprintf(stderr, "%s:%d: %s\n  is %s, but the error object says %d\n", file, line, call,
                batpak_status_name(status), (int)batpak_error_code(*err));
        exit(1);
    }
    batpak_error_free(*err);
    *err = NULL;
}

/* Ends a forked child well. What the parent's threads held has no owner in it: as another program, it has none of that, and a leak checker
 * finds nothing. */
static inline void end_forked(void) {
    fflush(stdout);
    execlp("true", "true", (char *)NULL);
    _exit(0);
}

/* A new directory, to be given to remove_dir. It lies below TMPDIR. */
static inline char *make_dir(void) {
    const char *parent = getenv("TMPDIR");
    char *dir = (char *)malloc(PATH_MAX);
    CHECK(dir != NULL);
    snprintf(dir, PATH_MAX, "%s/batpak-XXXXXX", parent ? parent : "/tmp");
    CHECK(mkdtemp(dir) != NULL);
    return dir;
}

static inline void remove_tree(const char *path) {
    struct stat status;
    if (lstat(path, &status) != 0) {
        return;
    }
    if (!S_ISDIR(status.st_mode)) {
        CHECK(unlink(path) == 0);
        return;
    }
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char child[PATH_MAX];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        CHECK((size_t)snprintf(child, sizeof child, "%s/%s", path, entry->d_name) < sizeof child);
        remove_tree(child);
    }
    closedir(directory);
    CHECK(rmdir(path) == 0);
}

/* Removes a directory of make_dir with all it holds, and frees its name. */
static inline void remove_dir(char *dir) {
    remove_tree(dir);
    free(dir);
}

#endif
