/* What the cases of row R13 share: calls that are timed, errors that must tell what they should, and what cases need. */
#ifndef HOSTILE_H
#define HOSTILE_H

#include "places.h"

#include <grp.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/time.h>

#define NOBODY 65534
#define CALL_LONGEST_NS UINT64_C(1000000000)

static char program[PATH_MAX], template[PATH_MAX];

enum { PASSED = 0, FAILED = 1, SLOW = 3, SKIPPED = 4 };

#define SKIP(why) \
    do { \
        printf("skipped: %s\n", why); \
        fflush(stdout); \
        _exit(SKIPPED); \
    } while (0)

static uint64_t call_began_ns;

static void begin_call(void) {
    call_began_ns = now_ns();
}

static batpak_status_t end_call(int line, batpak_status_t status) {
    uint64_t took = now_ns() - call_began_ns;
    if (took > CALL_LONGEST_NS) {
        fprintf(stderr, "%s:%d: the call took %" PRIu64 " ms\n", __FILE__, line, took / 1000000);
        _exit(SLOW);
    }
    return status;
}

#define TIMED(call) (begin_call(), end_call(__LINE__, (call)))

/* The last call failed as it should: the code, errno where not 0, a message with the part of a path and advice. */
static void check_error(int line, batpak_status_t status, batpak_status_t code, int os_errno, const char *path) {
    const char *message = error ? batpak_error_message(error, NULL) : "(none)", *advice = strrchr(message, ';');
    const char *detail = error ? batpak_error_detail(error, "path", 4, NULL) : NULL;
    int is_told = advice != NULL && strlen(advice) > 8 && (path == NULL || strstr(message, path) != NULL) &&
                  (path == NULL || (detail != NULL && strstr(detail, path) != NULL));
    if (status != code || !is_told || (os_errno != 0 && batpak_error_os_errno(error) != os_errno)) {
        fprintf(stderr, "%s:%d: %s (errno %d), expected %s (errno %d) about %s: %s\n", __FILE__, line,
                batpak_status_name(status), (int)batpak_error_os_errno(error), batpak_status_name(code), os_errno,
                path ? path : "anything", message);
        exit(1);
    }
    batpak_error_free(error);
    error = NULL;
}

#define FAILS(call, code, os_errno, path) check_error(__LINE__, TIMED(call), code, os_errno, path)

/* Any documented failure of a damaged or odd place, or success. Returns whether it succeeded. */
static int may_fail(int line, batpak_status_t status, const char *path) {
    if (status >= 0) {
        CHECK(error == NULL);
        return 1;
    }
    CHECK(error != NULL && status != BATPAK_E_INTERNAL);
    check_error(line, status, status, 0, path);
    return 0;
}

#define MAY_FAIL(call, path) may_fail(__LINE__, TIMED(call), path)

/* ---- what cases need ------------------------------------------------------------------------------------------------ */

static void take_copy(const char *name) {
    copy_dir(template, name);
}

static void own_tree(const char *path) {
    struct stat status;
    CHECK(lchown(path, NOBODY, NOBODY) == 0);
    CHECK(lstat(path, &status) == 0);
    if (S_ISDIR(status.st_mode)) {
        DIR *directory = opendir(path);
        CHECK(directory != NULL);
        for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
            char child[PATH_MAX];
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
                join(child, path, entry->d_name);
                own_tree(child);
            }
        }
        closedir(directory);
    }
}

/* Permissions mean nothing to root. */
static void become_nobody(void) {
    char here[PATH_MAX];
    if (geteuid() == 0) {
        own_tree(".");
        CHECK(getcwd(here, sizeof here) != NULL);
        if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0) {
            SKIP("this root cannot become somebody else");
        }
        if (access(here, W_OK | X_OK) != 0) {
            SKIP("nobody cannot get at the directory of the tests");
        }
    }
}

static unsigned open_descriptors(void) {
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count - 3; /* ".", ".." and the directory itself */
}

/* So many more may be opened: numbers are given out lowest first. */
static void allow_descriptors(unsigned more) {
    struct rlimit limit;
    int taken[64];
    CHECK(more < 64 && getrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (unsigned i = 0; i <= more; i++) {
        taken[i] = dup(0);
        CHECK(taken[i] >= 0);
    }
    limit.rlim_cur = (rlim_t)taken[more];
    for (unsigned i = 0; i <= more; i++) {
        close(taken[i]);
    }
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static void allow_all_descriptors(void) {
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max < 1024 ? limit.rlim_max : 1024;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

/* Stdin, stdout and stderr may be all there is, so descriptors are dense. */
static void close_other_descriptors(void) {
    for (int fd = 3; fd < 256; fd++) {
        close(fd);
    }
}

static batpak_status_t close_and_free(batpak_store_t *store) {
    batpak_status_t status = TIMED(batpak_store_close(store, 5000, &error));
    batpak_store_free(store);
    return status;
}

static char active_segment[PATH_MAX], sealed_segment[PATH_MAX], active_index[PATH_MAX], sealed_index[PATH_MAX];

/* Names of the template's segments and indexes, below "store". */
static void name_segments(void) {
    char names[64][32];
    size_t n = 0;
    char path[PATH_MAX];
    join(path, template, "segments");
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL && n < 64;) {
        if (strlen(entry->d_name) == 24 && strcmp(entry->d_name + 20, ".seg") == 0) {
            snprintf(names[n++], 32, "%.20s", entry->d_name);
        }
    }
    closedir(directory);
    qsort(names, n, sizeof names[0], (int (*)(const void *, const void *))strcmp);
    CHECK(n >= 3);
    snprintf(active_segment, PATH_MAX, "store/segments/%s.seg", names[n - 1]);
    snprintf(active_index, PATH_MAX, "store/segments/%s.idx", names[n - 1]);
    snprintf(sealed_segment, PATH_MAX, "store/segments/%s.seg", names[1]);
    snprintf(sealed_index, PATH_MAX, "store/segments/%s.idx", names[1]);
}

#endif
