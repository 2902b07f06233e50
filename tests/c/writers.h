/* What the tests of expected states, idempotency keys and fences share. */
#ifndef WRITERS_H
#define WRITERS_H

#include "events.h"

/* ---- items ---------------------------------------------------------------------------------------------------------- */

static inline batpak_append_t expecting(batpak_append_t item, uint32_t expected, uint64_t clock) {
    item.expected = expected;
    item.expected_clock = clock;
    return item;
}

/* With a key of 16 bytes or more that is text, borrowed. */
static inline batpak_append_t keyed(batpak_append_t item, const char *key) {
    item.key = key;
    item.key_len = strlen(key);
    return item;
}

/* With one cause, borrowed. */
static inline batpak_append_t caused(batpak_append_t item, const uint8_t *cause) {
    item.causes = cause;
    item.cause_count = 1;
    return item;
}

/* A key that no other number has, in one of sixteen buffers in turn. */
static inline const char *key_number(uint64_t number) {
    static _Thread_local char keys[16][32];
    static _Thread_local unsigned turn;
    turn = (turn + 1) % 16;
    snprintf(keys[turn], sizeof keys[turn], "key:%016" PRIx64, number);
    return keys[turn];
}

/* ---- refusals ------------------------------------------------------------------------------------------------------- */

/* A call that is to be refused with a status, and the error's details, as name, text, name, text, ..., NULL. A text of
 * NULL: there is no such detail. */
#define CHECK_REFUSED(call, expected, ...) \
    do { \
        batpak_status_t check_status = (call); \
        check_refused(__FILE__, __LINE__, #call, check_status, expected, (const char *const[]){__VA_ARGS__, NULL}); \
    } while (0)

/* `error` is the call's; it is freed. */
static inline void check_refused(const char *file, int line, const char *call, batpak_status_t status,
                                 batpak_status_t expected, const char *const *details) {
    for (; *details != NULL && status == expected; details += 2) {
        const char *found = batpak_error_detail(error, details[0], strlen(details[0]), NULL);
        if ((found != NULL) != (details[1] != NULL) || (found != NULL && strcmp(found, details[1]) != 0)) {
            fprintf(stderr, "%s:%d: %s\n  the detail %s is %s, not %s: %s\n", file, line, call, details[0],
                    found ? found : "missing", details[1] ? details[1] : "missing", batpak_error_message(error, NULL));
            exit(1);
        }
    }
    check_status_is(file, line, call, status, expected, &error);
}

/* ---- stores and processes ------------------------------------------------------------------------------------------- */

/* Every member of the options that these tests set. */
struct setting {
    uint64_t segment_bytes, key_window;
    uint32_t durability, flags;
};

static inline batpak_store_t *open_set(const char *dir, struct setting setting) {
    batpak_store_options_t options;
    batpak_store_t *store = NULL;
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.segment_bytes = setting.segment_bytes;
    options.key_window = setting.key_window;
    options.durability = setting.durability;
    options.flags = setting.flags;
    CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
    return store;
}

/* Runs a function in a process of its own, which is then killed: no destructor runs, no store is closed. */
static inline void killed_after(void (*run)(void *), void *argument) {
    int status = 0, done[2];
    char byte = 0;
    fflush(stdout);
    CHECK(pipe(done) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(done[0]);
        run(argument);
        CHECK(write(done[1], &byte, 1) == 1);
        for (;;) {
            pause();
        }
    }
    close(done[1]);
    /* Nothing, when a check of the child's has failed. */
    CHECK(read(done[0], &byte, 1) == 1);
    close(done[0]);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Removes the index files of all segments: they are derived, and made anew from the log. Says how many there were. */
static inline int remove_indexes(const char *dir) {
    char path[PATH_MAX];
    int removed = 0;
    CHECK((size_t)snprintf(path, sizeof path, "%s/segments", dir) < sizeof path);
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        size_t length = strlen(entry->d_name);
        if (length > 4 && strcmp(entry->d_name + length - 4, ".idx") == 0) {
            CHECK((size_t)snprintf(path, sizeof path, "%s/segments/%s", dir, entry->d_name) < sizeof path);
            CHECK(unlink(path) == 0);
            removed++;
        }
    }
    closedir(directory);
    return removed;
}

/* ---- segments ------------------------------------------------------------------------------------------------------- */

static inline batpak_receipt_t append_as(batpak_store_t *store, batpak_append_t item, uint32_t durability) {
    batpak_append_options_t options = durably(durability);
    batpak_receipt_t receipt;
    batpak_error_t *own = NULL;
    CHECK_OK(batpak_store_append(store, &item, 1, &options, &receipt, &own), own);
    return receipt;
}

/* Appends events of "filler" until `segments` more were begun. For stores with segments of 1 MiB. */
static inline void fill_segments(batpak_store_t *store, uint64_t segments) {
    static char payload[300001];
    uint64_t wanted = stats_of(store).segments + segments;
    memset(payload, 'f', sizeof payload - 1);
    while (stats_of(store).segments < wanted) {
        append_as(store, item_of("filler", payload), BATPAK_DURABILITY_PROCESS);
    }
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

/* An event as delivered; the texts are cut to their places. */
struct seen {
    uint64_t sequence, clock, prev;
    uint8_t id[16];
    char entity[24], payload[24];
};

static inline void cut(char *place, size_t room, const void *bytes, size_t n) {
    n = n < room - 1 ? n : room - 1;
    memcpy(place, bytes, n);
    place[n] = 0;
}

/* Everything visible of the region, at most `max` events, by a cursor of its own. */
static inline size_t see(batpak_store_t *store, const batpak_region_t *region, struct seen *seen, size_t max) {
    batpak_cursor_t *cursor = open_cursor(store, region, NULL);
    batpak_batch_t *batch = NULL;
    batpak_status_t status;
    size_t all = 0, n = 0;
    while ((status = batpak_cursor_poll(cursor, 1000, 0, 0, &batch, &error)) == BATPAK_OK) {
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        for (size_t i = 0; i < n; i++, all++) {
            CHECK(all < max);
            seen[all].sequence = events[i].sequence;
            seen[all].clock = events[i].clock;
            seen[all].prev = events[i].prev_sequence;
            memcpy(seen[all].id, events[i].id, 16);
            cut(seen[all].entity, sizeof seen[all].entity, events[i].entity, events[i].entity_len);
            cut(seen[all].payload, sizeof seen[all].payload, events[i].payload, events[i].payload_len);
        }
        batpak_batch_free(batch);
    }
    check_status_is(__FILE__, __LINE__, "batpak_cursor_poll", status, BATPAK_EMPTY, &error);
    batpak_cursor_free(cursor);
    return all;
}

static inline size_t see_entity(batpak_store_t *store, const char *entity, struct seen *seen, size_t max) {
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, entity);
    return see(store, &region, seen, max);
}

/* The payloads of the region's visible events, one after the other, with a space behind each. */
static inline void check_payloads(const char *file, int line, batpak_store_t *store, const batpak_region_t *region,
                                  const char *expected) {
    static struct seen seen[4096];
    static char found[4096 * 24];
    size_t n = see(store, region, seen, 4096), length = 0;
    found[0] = 0;
    for (size_t i = 0; i < n; i++) {
        length += (size_t)sprintf(found + length, "%s ", seen[i].payload);
    }
    if (strcmp(found, expected) != 0) {
        fprintf(stderr, "%s:%d: the region has \"%s\", not \"%s\"\n", file, line, found, expected);
        exit(1);
    }
}

#define EXPECT_PAYLOADS(store, region, expected) check_payloads(__FILE__, __LINE__, store, region, expected)

/* The payloads of the entity's visible events, as above; their clocks count from 0, and each links to the one before. */
static inline void check_entity(const char *file, int line, batpak_store_t *store, const char *entity, const char *expected) {
    static struct seen seen[4096];
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, entity);
    check_payloads(file, line, store, &region, expected);
    size_t n = see(store, &region, seen, 4096);
    for (size_t i = 0; i < n; i++) {
        uint64_t prev = i == 0 ? BATPAK_NO_SEQUENCE : seen[i - 1].sequence;
        if (seen[i].clock != i || seen[i].prev != prev) {
            fprintf(stderr, "%s:%d: event %" PRIu64 " of %s has clock %" PRIu64 " and link %" PRIu64
                    ", not %zu and %" PRIu64 "\n", file, line, seen[i].sequence, entity, seen[i].clock, seen[i].prev, i, prev);
            exit(1);
        }
    }
}

#define EXPECT_ENTITY(store, entity, expected) check_entity(__FILE__, __LINE__, store, entity, expected)

/* ---- fences --------------------------------------------------------------------------------------------------------- */

/* 0: the default, which is longer than any test takes. */
static inline batpak_fence_t *begin_fence(batpak_store_t *store, uint32_t timeout_ms) {
    batpak_fence_options_t options;
    batpak_fence_t *fence = NULL;
    CHECK_OK(batpak_fence_options_init(&options, sizeof options, &error), error);
    options.timeout_ms = timeout_ms ? timeout_ms : 600000;
    CHECK_OK(batpak_fence_begin(store, &options, &fence, &error), error);
    CHECK(fence != NULL);
    return fence;
}

static inline batpak_receipt_t fence_item(batpak_fence_t *fence, batpak_append_t item) {
    batpak_receipt_t receipt;
    CHECK_OK(batpak_fence_append(fence, &item, 1, NULL, &receipt, &error), error);
    CHECK(receipt.durability == BATPAK_DURABILITY_DEFAULT || receipt.flags == BATPAK_RECEIPT_DUPLICATE);
    return receipt;
}

static inline batpak_receipt_t fence_append(batpak_fence_t *fence, const char *entity, const char *payload) {
    return fence_item(fence, item_of(entity, payload));
}

/* Commits and frees. */
static inline void commit_fence(batpak_fence_t *fence, uint32_t durability) {
    CHECK_OK(batpak_fence_commit(fence, durability, &error), error);
    batpak_fence_free(fence);
}

/* Cancels and frees. */
static inline void cancel_fence(batpak_fence_t *fence) {
    CHECK_OK(batpak_fence_cancel(fence, &error), error);
    batpak_fence_free(fence);
}

/* Lets the time pass; there is nothing to wait for. */
static inline void wait_until_us(uint64_t deadline_us) {
    while (now_us() < deadline_us) {
        struct timespec rest = {0, 200000};
        nanosleep(&rest, NULL);
    }
}

#endif
