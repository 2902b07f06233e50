#include "raw.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "measure.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define CHUNK_BYTES ((size_t)256 << 10)
#define FILE_BYTES ((size_t)64 << 20)

volatile uint64_t sink;

uint64_t touch(const void *payload, size_t bytes) {
    uint64_t first = 0, last = 0;
    if (bytes >= 8) {
        memcpy(&first, payload, 8);
        memcpy(&last, (const char *)payload + bytes - 8, 8);
    }
    return first + last;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c(const void *bytes, size_t n) {
    const unsigned char *at = bytes;
    uint64_t crc = 0xFFFFFFFFu;
    for (; n >= 8; n -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    for (; n > 0; n--) {
        crc = __builtin_ia32_crc32qi((uint32_t)crc, *at++);
    }
    return ~(uint32_t)crc;
}
#elif defined(__aarch64__)
#include <arm_acle.h>
__attribute__((target("+crc"))) static uint32_t crc32c(const void *bytes, size_t n) {
    const unsigned char *at = bytes;
    uint32_t crc = 0xFFFFFFFFu;
    for (; n >= 8; n -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        crc = __crc32cd(crc, word);
    }
    for (; n > 0; n--) {
        crc = __crc32cb(crc, *at++);
    }
    return ~crc;
}
#else
#error "raw.c has CRC32C in hardware for x86-64 and AArch64 only"
#endif

static int make_file(const char *directory, const char *name) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || unlink(path) != 0) {
        die("%s", path);
    }
    return fd;
}

static void fill_with_zeros(int fd, size_t bytes) {
    static const char zeros[256 << 10];
    for (size_t at = 0; at < bytes; at += sizeof zeros) {
        if (pwrite(fd, zeros, sizeof zeros, (off_t)at) != (ssize_t)sizeof zeros) {
            die("writing zeros");
        }
    }
}

/* The n-th frame at `place`, made from `pattern`. */
static inline void build_frame(char *place, char *pattern, size_t frame_bytes, uint64_t n) {
    memcpy(pattern + 8, &n, 8);
    memcpy(place, pattern, frame_bytes);
    uint32_t crc = crc32c(place + 4, frame_bytes - 4);
    memcpy(place, &crc, 4);
}

double raw_append(const char *directory, size_t frame_bytes, size_t n) {
    size_t bytes = (frame_bytes * n + CHUNK_BYTES - 1) / CHUNK_BYTES * CHUNK_BYTES;
    int fd = make_file(directory, "raw-append");
    fill_with_zeros(fd, bytes);
    char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        die("mapping");
    }
    if (madvise(map, bytes, MADV_POPULATE_WRITE) != 0) {
        for (size_t at = 0; at < bytes; at += 4096) {
            ((volatile char *)map)[at] = 0;
        }
    }
    char *pattern = allocate(1, RAW_FRAME_BYTES_MAX);
    uint64_t start = now_ns();
    for (size_t i = 0; i < n; i++) {
        build_frame(map + i * frame_bytes, pattern, frame_bytes, i);
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    free(pattern);
    munmap(map, bytes);
    close(fd);
    return seconds;
}

struct raw_file_t {
    int fd;
    size_t offset;
};

raw_file_t *raw_file_open(const char *directory) {
    raw_file_t *file = allocate(1, sizeof *file);
    file->fd = make_file(directory, "raw-commit");
    fill_with_zeros(file->fd, FILE_BYTES);
    if (fsync(file->fd) != 0) {
        die("syncing");
    }
    return file;
}

void raw_file_close(raw_file_t *file) {
    close(file->fd);
    free(file);
}

static void write_and_sync(raw_file_t *file, const char *bytes, size_t n) {
    if (file->offset + n > FILE_BYTES) {
        file->offset = 0;
    }
    if (pwrite(file->fd, bytes, n, (off_t)file->offset) != (ssize_t)n || fdatasync(file->fd) != 0) {
        die("writing and syncing");
    }
    file->offset += n;
}

double raw_commits(raw_file_t *file, size_t frame_bytes, size_t frames, bool build, double seconds, latencies_t *latencies) {
    char pattern[4096] = {1};
    char *group = allocate(frames, frame_bytes);
    memset(group, 1, frame_bytes * frames);
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), before = start, now = start, groups = 0;
    for (; now < end; groups++) {
        for (size_t i = 0; build && i < frames; i++) {
            build_frame(group + i * frame_bytes, pattern, frame_bytes, i);
        }
        write_and_sync(file, group, frame_bytes * frames);
        now = now_ns();
        if (latencies != NULL) {
            latency(latencies, now - before);
        }
        before = now;
    }
    free(group);
    return (double)groups / ((double)(now - start) / 1e9);
}

typedef struct group_t {
    pthread_mutex_t lock;
    pthread_cond_t done;
    raw_file_t *file;
    size_t frame_bytes, threads, arrived;
    uint64_t generation, end_ns;
    bool stopped;
    /* Appended to under the lock. */
    latencies_t *latencies;
    char buffer[64 << 10];
} group_t;

/* With the lock held, and held again on return. */
static void commit_with_group(group_t *group, const char *frame) {
    memcpy(group->buffer + group->arrived * group->frame_bytes, frame, group->frame_bytes);
    uint64_t generation = group->generation;
    if (++group->arrived < group->threads) {
        while (group->generation == generation) {
            pthread_cond_wait(&group->done, &group->lock);
        }
        return;
    }
    /* The last to come leads; nobody else can be on the way. */
    pthread_mutex_unlock(&group->lock);
    write_and_sync(group->file, group->buffer, group->arrived * group->frame_bytes);
    pthread_mutex_lock(&group->lock);
    group->arrived = 0;
    group->generation++;
    group->stopped = now_ns() >= group->end_ns;
    pthread_cond_broadcast(&group->done);
}

static void *run_group_member(void *user_data) {
    group_t *group = user_data;
    char frame[4096] = {1};
    pthread_mutex_lock(&group->lock);
    while (!group->stopped) {
        uint64_t start = now_ns();
        commit_with_group(group, frame);
        latency(group->latencies, now_ns() - start);
    }
    pthread_mutex_unlock(&group->lock);
    return NULL;
}

double raw_group_commits(raw_file_t *file, size_t frame_bytes, size_t threads, double seconds, latencies_t *latencies) {
    static group_t group;
    pthread_t members[64];
    group = (group_t){.file = file, .frame_bytes = frame_bytes, .threads = threads, .latencies = latencies};
    pthread_mutex_init(&group.lock, NULL);
    pthread_cond_init(&group.done, NULL);
    uint64_t start = now_ns();
    group.end_ns = start + (uint64_t)(seconds * 1e9);
    for (size_t i = 0; i < threads; i++) {
        if (pthread_create(&members[i], NULL, run_group_member, &group) != 0) {
            die("starting a thread");
        }
    }
    for (size_t i = 0; i < threads; i++) {
        pthread_join(members[i], NULL);
    }
    return (double)(group.generation * threads) / seconds_since(start);
}

typedef struct place_t {
    uint32_t file, offset, length;
} place_t;

struct raw_log_t {
    int *fds;
    size_t files;
    place_t *places;
    size_t events, capacity;
    uint64_t bytes;
};

static int is_segment(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return dot != NULL && strcmp(dot, ".seg") == 0;
}

static void add_frames(raw_log_t *log, size_t file, const char *bytes, size_t size) {
    const size_t header_bytes = 128, frame_bytes_min = 24;
    const unsigned char event = 1;
    for (size_t at = header_bytes; at + frame_bytes_min <= size;) {
        uint32_t length;
        memcpy(&length, bytes + at + 4, 4);
        if (length == 0) {
            break;
        }
        if ((unsigned char)bytes[at + 16] == event) {
            if (log->events == log->capacity) {
                log->capacity = log->capacity ? 2 * log->capacity : 1 << 16;
                log->places = realloc(log->places, log->capacity * sizeof *log->places);
            if (log->places == NULL) {
                die("places of %zu frames", log->capacity);
            }
            }
            log->places[log->events++] = (place_t){(uint32_t)file, (uint32_t)at, length};
            log->bytes += (length + 7) / 8 * 8;
        }
        at += (length + 7) / 8 * 8;
    }
}

raw_log_t *raw_log_open(const char *store) {
    raw_log_t *log = allocate(1, sizeof *log);
    struct dirent **entries;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/segments", store);
    int n = scandir(path, &entries, is_segment, alphasort);
    if (n <= 0) {
        die("%s", path);
    }
    log->fds = allocate((size_t)n, sizeof *log->fds);
    for (; log->files < (size_t)n; log->files++) {
        struct stat status;
        snprintf(path, sizeof path, "%s/segments/%s", store, entries[log->files]->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &status) != 0) {
            die("%s", path);
        }
        char *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (bytes == MAP_FAILED) {
            die("%s", path);
        }
        add_frames(log, log->files, bytes, (size_t)status.st_size);
        munmap(bytes, (size_t)status.st_size);
        log->fds[log->files] = fd;
        free(entries[log->files]);
    }
    free(entries);
    return log;
}

void raw_log_close(raw_log_t *log) {
    for (size_t i = 0; i < log->files; i++) {
        close(log->fds[i]);
    }
    free(log->fds);
    free(log->places);
    free(log);
}

size_t raw_log_events(const raw_log_t *log) {
    return log->events;
}

uint64_t raw_log_bytes(const raw_log_t *log) {
    return log->bytes;
}

/* Reads up to `most` frames from the i-th on, as far as one read goes; adds to the sum. Returns the number of the next one. */
static size_t read_frames(const raw_log_t *log, size_t i, size_t most, size_t payload_bytes, uint64_t *sum) {
    static char buffer[CHUNK_BYTES];
    const place_t *first = &log->places[i];
    size_t most_here = log->events - i < most ? log->events - i : most, n = 1;
    while (n < most_here && first[n].file == first->file && first[n].offset - first->offset + first[n].length <= CHUNK_BYTES) {
        n++;
    }
    size_t bytes = first[n - 1].offset - first->offset + first[n - 1].length;
    if (pread(log->fds[first->file], buffer, bytes, first->offset) != (ssize_t)bytes) {
        die("reading");
    }
    for (const place_t *place = first; place < first + n; place++) {
        const char *frame = buffer + (place->offset - first->offset);
        *sum += crc32c(frame, place->length);
        *sum += touch(frame + place->length - payload_bytes, payload_bytes);
    }
    return i + n;
}

double raw_replay(const raw_log_t *log, size_t payload_bytes) {
    uint64_t start = now_ns(), sum = 0;
    for (size_t i = 0; i < log->events;) {
        i = read_frames(log, i, log->events, payload_bytes, &sum);
    }
    sink += sum;
    return seconds_since(start);
}

static void write_position(int directory, uint64_t position) {
    int fd = openat(directory, "raw-position.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, &position, sizeof position) != (ssize_t)sizeof position || fsync(fd) != 0 || close(fd) != 0 ||
        renameat(directory, "raw-position.new", directory, "raw-position") != 0 || fsync(directory) != 0) {
        die("writing a position");
    }
}

double raw_consume(const raw_log_t *log, const char *directory, size_t most, size_t payload_bytes, double seconds) {
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        die("%s", directory);
    }
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), sum = 0, count = 0;
    for (size_t i = 0; now_ns() < end; i = i < log->events ? i : 0) {
        size_t first = i;
        /* One batch may need two reads, at the end of a file. */
        while (i < log->events && i < first + most) {
            i = read_frames(log, i, first + most - i, payload_bytes, &sum);
        }
        write_position(fd, i);
        count += i - first;
    }
    double rate = (double)count / seconds_since(start);
    sink += sum;
    if (unlinkat(fd, "raw-position", 0) != 0) {
        die("raw-position");
    }
    close(fd);
    return rate;
}

double raw_scattered(const raw_log_t *log, const uint32_t *sequences, size_t n) {
    static char buffer[64 << 10];
    uint64_t start = now_ns(), sum = 0;
    for (size_t i = 0; i < n; i++) {
        const place_t *place = &log->places[sequences[i]];
        if (pread(log->fds[place->file], buffer, place->length, place->offset) != (ssize_t)place->length) {
            die("reading");
        }
        sum += crc32c(buffer, place->length);
    }
    sink += sum;
    return seconds_since(start);
}

typedef struct wakes_t {
    _Atomic uint32_t word;
    /* When each wake was sent; the receiver makes the latency of it. */
    uint64_t *times_ns;
    size_t n;
} wakes_t;

static void *wake_receiver(void *user_data) {
    wakes_t *wakes = user_data;
    for (uint32_t seen = 0; seen < wakes->n;) {
        uint32_t word = atomic_load(&wakes->word);
        if (word == seen) {
            syscall(SYS_futex, &wakes->word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
            continue;
        }
        uint64_t now = now_ns();
        for (; seen < word; seen++) {
            wakes->times_ns[seen] = now - wakes->times_ns[seen];
        }
    }
    return NULL;
}

void raw_wakes(uint64_t interval_ns, latencies_t *latencies, size_t n) {
    wakes_t wakes = {.times_ns = latencies->values, .n = n};
    pthread_t receiver;
    if (n > latencies->capacity || pthread_create(&receiver, NULL, wake_receiver, &wakes) != 0) {
        die("starting a thread");
    }
    uint64_t next = now_ns() + 10000000;
    for (size_t i = 0; i < n; i++, next += interval_ns) {
        sleep_until(next);
        latencies->values[i] = now_ns();
        atomic_fetch_add(&wakes.word, 1);
        syscall(SYS_futex, &wakes.word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    pthread_join(receiver, NULL);
    latencies->count = n;
}
