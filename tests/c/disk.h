/* For tests of durability: fdatasync of the program's own, which the library finds first. It can hold a sync back, fail it,
 * and see the order. */
#ifndef DISK_H
#define DISK_H

#include "events.h"

#include <limits.h>

static struct disk {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int is_held;
    int is_failing;
    int is_skipped;
    int waiting;
    int segment_syncs;
    char segments[64][64];
} disk = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, 0, 0, {{0}}};

/* Records syncs of segment files, and holds or fails them when told to. */
int fdatasync(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n < 0 ? 0 : n] = 0;
    const char *name = strrchr(path, '/');
    if (name == NULL || strstr(name, ".seg") == NULL) {
        return (int)syscall(SYS_fdatasync, fd);
    }
    pthread_mutex_lock(&disk.mutex);
    if (disk.segment_syncs < 64) {
        snprintf(disk.segments[disk.segment_syncs], 64, "%.63s", name + 1);
    }
    disk.segment_syncs++;
    disk.waiting++;
    pthread_cond_broadcast(&disk.changed);
    while (disk.is_held) {
        pthread_cond_wait(&disk.changed, &disk.mutex);
    }
    disk.waiting--;
    int fails = disk.is_failing, is_skipped = disk.is_skipped;
    pthread_mutex_unlock(&disk.mutex);
    if (fails) {
        errno = EIO;
        return -1;
    }
    return is_skipped ? 0 : (int)syscall(SYS_fdatasync, fd);
}

static inline void disk_set(int is_held, int is_failing) {
    pthread_mutex_lock(&disk.mutex);
    disk.is_held = is_held;
    disk.is_failing = is_failing;
    if (is_held) {
        disk.segment_syncs = 0;
    }
    pthread_cond_broadcast(&disk.changed);
    pthread_mutex_unlock(&disk.mutex);
}

/* Syncs succeed at once and do nothing: for many rounds of what surrounds them. */
static inline void disk_skip_syncs(void) {
    pthread_mutex_lock(&disk.mutex);
    disk.is_skipped = 1;
    pthread_mutex_unlock(&disk.mutex);
}

static inline int disk_syncs(void) {
    pthread_mutex_lock(&disk.mutex);
    int syncs = disk.segment_syncs;
    pthread_mutex_unlock(&disk.mutex);
    return syncs;
}

static inline void disk_wait_for_sync(void) {
    pthread_mutex_lock(&disk.mutex);
    while (disk.waiting == 0) {
        pthread_cond_wait(&disk.changed, &disk.mutex);
    }
    pthread_mutex_unlock(&disk.mutex);
}

#endif
