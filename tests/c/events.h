/* What the tests of appends, delivery, checkpoints and workers share: stores, regions, cursors and threads in few words. */
#ifndef EVENTS_H
#define EVENTS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define MIB (UINT64_C(1) << 20)
/* No test waits for this long unless something is broken. */
#define SOON_MS 20000

/* Runs a test function and prints its name when it has passed. */
#define RUN(test) \
    do { \
        test(); \
        printf("%s\n", #test); \
        fflush(stdout); \
    } while (0)

/* For the calls of the main thread. Other threads have their own. */
static batpak_error_t *error;

/* ---- stores --------------------------------------------------------------------------------------------------------- */

/* 0 stands for the default, as in the options. */
static inline batpak_store_t *open_store_with(const char *dir, uint64_t segment_bytes, uint32_t durability) {
    batpak_store_options_t options;
    batpak_store_t *store = NULL;
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.segment_bytes = segment_bytes;
    options.durability = durability;
    CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
    return store;
}

static inline batpak_store_t *open_store(const char *dir) {
    return open_store_with(dir, 0, 0);
}

static inline void close_store(batpak_store_t *store) {
    CHECK_OK(batpak_store_close(store, SOON_MS, &error), error);
    batpak_store_free(store);
}

static inline batpak_watermarks_t marks_of(batpak_store_t *store) {
    batpak_watermarks_t marks;
    CHECK_OK(batpak_store_watermarks(store, &marks, &error), error);
    return marks;
}

static inline batpak_store_stats_t stats_of(batpak_store_t *store) {
    batpak_store_stats_t stats;
    CHECK_OK(batpak_store_stats_init(&stats, sizeof stats, &error), error);
    CHECK_OK(batpak_store_stats(store, &stats, &error), error);
    return stats;
}

/* ---- appending ------------------------------------------------------------------------------------------------------ */

/* An item of kind 0x1001 and scope "s"; the texts are borrowed. */
static inline batpak_append_t item_of(const char *entity, const char *payload) {
    batpak_append_t item;
    memset(&item, 0, sizeof item);
    item.struct_size = sizeof item;
    item.kind = 0x1001;
    item.entity = entity;
    item.entity_len = strlen(entity);
    item.scope = "s";
    item.scope_len = 1;
    item.payload = payload;
    item.payload_len = payload ? strlen(payload) : 0;
    return item;
}

static inline batpak_append_options_t durably(uint32_t durability) {
    batpak_append_options_t options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.durability = durability;
    return options;
}

static inline batpak_receipt_t append_item(batpak_store_t *store, batpak_append_t item) {
    batpak_receipt_t receipt;
    batpak_error_t *own = NULL;
    CHECK_OK(batpak_store_append(store, &item, 1, NULL, &receipt, &own), own);
    return receipt;
}

/* One event, with the store's durability. */
static inline batpak_receipt_t append(batpak_store_t *store, const char *entity, const char *payload) {
    return append_item(store, item_of(entity, payload));
}

/* n events of one entity in batches of at most 1000, PROCESS. */
static inline void append_many(batpak_store_t *store, const char *entity, size_t n, size_t payload_len) {
    batpak_append_options_t options = durably(BATPAK_DURABILITY_PROCESS);
    batpak_append_t *items = calloc(1000, sizeof *items);
    char *payload = malloc(payload_len + 1);
    CHECK(items != NULL && payload != NULL);
    memset(payload, 'p', payload_len);
    payload[payload_len] = 0;
    for (size_t i = 0; i < 1000; i++) {
        items[i] = item_of(entity, payload);
    }
    while (n > 0) {
        size_t now = n < 1000 ? n : 1000;
        CHECK_OK(batpak_store_append(store, items, now, &options, NULL, &error), error);
        n -= now;
    }
    free(items);
    free(payload);
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

static inline batpak_region_t region_of(uint32_t entity_match, const char *entity) {
    batpak_region_t region;
    memset(&region, 0, sizeof region);
    region.struct_size = sizeof region;
    region.entity_match = entity_match;
    region.entity = entity;
    region.entity_len = entity ? strlen(entity) : 0;
    return region;
}

/* checkpoint_id may be NULL. */
static inline batpak_status_t try_cursor(batpak_store_t *store, const batpak_region_t *region, const char *checkpoint_id,
                                         batpak_cursor_t **cursor, batpak_error_t **err) {
    batpak_cursor_options_t options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.checkpoint_id = checkpoint_id;
    options.checkpoint_id_len = checkpoint_id ? strlen(checkpoint_id) : 0;
    return batpak_cursor_open(store, region, &options, cursor, err);
}

static inline batpak_cursor_t *open_cursor(batpak_store_t *store, const batpak_region_t *region, const char *checkpoint_id) {
    batpak_cursor_t *cursor = NULL;
    CHECK_OK(try_cursor(store, region, checkpoint_id, &cursor, &error), error);
    return cursor;
}

static inline void close_cursor(batpak_cursor_t *cursor) {
    CHECK_OK(batpak_cursor_close(cursor, &error), error);
    batpak_cursor_free(cursor);
}

static inline batpak_cursor_position_t position_of(batpak_cursor_t *cursor) {
    batpak_cursor_position_t position;
    CHECK_OK(batpak_cursor_position(cursor, &position, &error), error);
    return position;
}

/* Polls once without waiting, for at most `max` events of any size. Returns how many came; their sequences go to `sequences`. */
static inline size_t poll_sequences(batpak_cursor_t *cursor, size_t max, uint64_t *sequences) {
    batpak_batch_t *batch = NULL;
    size_t n = 0;
    batpak_status_t status = batpak_cursor_poll(cursor, max, 0, 0, &batch, &error);
    if (status == BATPAK_EMPTY) {
        CHECK(batch == NULL && error == NULL);
        return 0;
    }
    check_status_is(__FILE__, __LINE__, "batpak_cursor_poll", status, BATPAK_OK, &error);
    const batpak_event_t *events = batpak_batch_events(batch, &n);
    CHECK(n >= 1 && n <= max);
    for (size_t i = 0; i < n; i++) {
        sequences[i] = events[i].sequence;
    }
    batpak_batch_free(batch);
    return n;
}

static inline void check_next(const char *file, int line, batpak_cursor_t *cursor, size_t max, const uint64_t *expected, size_t n) {
    uint64_t *sequences = malloc((max + 1) * sizeof *sequences);
    CHECK(sequences != NULL);
    size_t found = poll_sequences(cursor, max, sequences);
    int same = found == n;
    for (size_t i = 0; same && i < n; i++) {
        same = sequences[i] == expected[i];
    }
    if (!same) {
        fprintf(stderr, "%s:%d: a poll brought %zu events, not %zu:", file, line, found, n);
        for (size_t i = 0; i < found; i++) {
            fprintf(stderr, " %" PRIu64, sequences[i]);
        }
        fprintf(stderr, "\n");
        exit(1);
    }
    free(sequences);
}

/* The next poll of at most `max` events brings exactly these sequences. */
#define EXPECT_NEXT(cursor, max, ...) \
    check_next(__FILE__, __LINE__, cursor, max, (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / 8)

#define EXPECT_EMPTY(cursor) check_next(__FILE__, __LINE__, cursor, 1, NULL, 0)

/* Everything that is left, each exactly one higher than the one before, from `first` to `last`. */
static inline void expect_run(batpak_cursor_t *cursor, uint64_t first, uint64_t last) {
    uint64_t sequences[1000], next = first;
    for (size_t n; (n = poll_sequences(cursor, 1000, sequences)) > 0;) {
        for (size_t i = 0; i < n; i++) {
            CHECK_EQUAL(sequences[i], next++);
        }
    }
    CHECK_EQUAL(next, last + 1);
}

/* ---- checkpoints ---------------------------------------------------------------------------------------------------- */

/* The position that the file says, BATPAK_NO_SEQUENCE when not started. Any thread. */
static inline uint64_t saved_position(batpak_store_t *store, const char *id) {
    batpak_checkpoint_t *checkpoint = NULL;
    batpak_error_t *own = NULL;
    CHECK_OK(batpak_checkpoint_load(store, id, strlen(id), &checkpoint, &own), own);
    uint64_t position = batpak_checkpoint_position(checkpoint);
    batpak_checkpoint_free(checkpoint);
    return position;
}

static inline int is_saved(batpak_store_t *store, const char *id) {
    batpak_checkpoint_t *checkpoint = NULL;
    batpak_status_t status = batpak_checkpoint_load(store, id, strlen(id), &checkpoint, NULL);
    CHECK(status == BATPAK_OK || status == BATPAK_E_CHECKPOINT_NOT_FOUND);
    batpak_checkpoint_free(checkpoint);
    return status == BATPAK_OK;
}

/* The path of a checkpoint, in one of two buffers in turn. */
static inline const char *checkpoint_path(const char *dir, const char *id) {
    static char paths[2][PATH_MAX];
    static int turn;
    turn = !turn;
    snprintf(paths[turn], PATH_MAX, "%s/cursors/%s.ckpt", dir, id);
    return paths[turn];
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static inline size_t read_file(const char *path, void *bytes, size_t capacity) {
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    size_t n = fread(bytes, 1, capacity, file);
    CHECK(n < capacity && fclose(file) == 0);
    return n;
}

static inline void write_file(const char *path, const void *bytes, size_t n) {
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK(fwrite(bytes, 1, n, file) == n && fclose(file) == 0);
}

static inline void copy_tree(const char *from, const char *to) {
    char command[2 * PATH_MAX + 32];
    snprintf(command, sizeof command, "cp -a '%s/.' '%s'", from, to);
    CHECK(system(command) == 0);
}

/* ---- time, threads and processes ------------------------------------------------------------------------------------ */

static inline uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static inline uint64_t now_us(void) {
    return now_ns() / 1000;
}

/* A number that threads wait for. */
struct counter {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t value;
};

#define COUNTER {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0}

static inline void counter_add(struct counter *counter, uint64_t more) {
    pthread_mutex_lock(&counter->mutex);
    counter->value += more;
    pthread_cond_broadcast(&counter->changed);
    pthread_mutex_unlock(&counter->mutex);
}

static inline uint64_t counter_get(struct counter *counter) {
    pthread_mutex_lock(&counter->mutex);
    uint64_t value = counter->value;
    pthread_mutex_unlock(&counter->mutex);
    return value;
}

/* Waits until the counter has reached `value`; ends the test when that takes too long. */
static inline void counter_wait(struct counter *counter, uint64_t value) {
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += SOON_MS / 1000;
    pthread_mutex_lock(&counter->mutex);
    while (counter->value < value) {
        CHECK(pthread_cond_timedwait(&counter->changed, &counter->mutex, &deadline) == 0);
    }
    pthread_mutex_unlock(&counter->mutex);
}

static inline pthread_t start_thread(void *(*run)(void *), void *argument) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, argument) == 0);
    return thread;
}

static inline void join_thread(pthread_t thread) {
    CHECK(pthread_join(thread, NULL) == 0);
}

static inline int32_t thread_number(void) {
    return (int32_t)syscall(SYS_gettid);
}

/* Looks on until the thread is asleep in the kernel. */
static inline void wait_until_asleep(int32_t thread) {
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
    for (uint64_t start = now_us(); now_us() - start < SOON_MS * 1000; sched_yield()) {
        FILE *file = fopen(path, "r");
        CHECK(file != NULL);
        char *read = fgets(line, sizeof line, file);
        fclose(file);
        const char *state = read ? strrchr(line, ')') : NULL;
        if (state != NULL && state[2] == 'S') {
            return;
        }
    }
    CHECK(!"the thread falls asleep");
}

/* Runs a function in a process of its own. Returns how it ended, as waitpid says it. */
static inline int run_process(void (*run)(void *), void *argument) {
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        run(argument);
        end_forked();
    }
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static inline int compare_u64(const void *one, const void *other) {
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

static inline uint64_t median(uint64_t *values, size_t n) {
    qsort(values, n, sizeof *values, compare_u64);
    return values[n / 2];
}

#endif
