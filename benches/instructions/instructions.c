/* The workloads whose instructions are counted (docs/PERFORMANCE.md), through the C ABI.
 *
 *     instructions WORKLOAD DIRECTORY     runs one on a store that it makes in the empty directory; prints how many operations it measured
 *     instructions --machine              prints what counts depend on beside the compiler: processor and libc
 *
 * tools/instructions runs it under callgrind, which counts inside the functions measure_* only. Everything is the same in each run:
 * no thread but this one, events in the same order, time that is counted, random bytes that are not random. What is done once (first
 * touches, opening of indexes) is done before, by a pass that is not counted.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/utsname.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif
#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "batpak.h"

enum { PAYLOAD_BYTES = 128, ENTITY_BYTES = 16, SCOPE_BYTES = 8, ENTITIES = 1000, SCOPES = 8, KIND = 0x1001 };
enum { APPENDS = 10000, BATCH_EVENTS = 100, BATCHES = 100, LOG_EVENTS = 20480, READ_EVENTS = 1024, ENTITIES_READ = 250, SAVES = 100 };

/* The smallest: the log that is read has sealed segments and one that is not. */
static const uint64_t READ_SEGMENT_BYTES = 1 << 20;

static batpak_error_t *error;

#define OK(call) check((call), #call)

static batpak_status_t check(batpak_status_t status, const char *call) {
    if (status < BATPAK_OK) {
        fprintf(stderr, "instructions: %s: %s: %s\n", call, batpak_status_name(status), batpak_error_message(error, NULL));
        exit(EXIT_FAILURE);
    }
    return status;
}

/* -------------------------------------------------------------------------------------------------------------------
 * The store and its events
 */

/* In place of libc's, also for the library: a store's identity, which its hashes start from, is the same in each run. */
ssize_t getrandom(void *bytes, size_t n, unsigned flags) {
    (void)flags;
    memset(bytes, 0x5E, n);
    return (ssize_t)n;
}

/* A microsecond later each time. */
static int64_t count_time(void *user_data) {
    int64_t *time_us = user_data;
    return (*time_us)++;
}

static batpak_store_t *open_store(uint64_t segment_bytes) {
    static int64_t time_us = 1700000000000000;
    batpak_store_options_t options = {.struct_size = sizeof options,
                                      .flags = BATPAK_STORE_NO_HELPER_THREAD,
                                      .segment_bytes = segment_bytes,
                                      .durability = BATPAK_DURABILITY_PROCESS,
                                      .clock = count_time,
                                      .clock_user_data = &time_us};
    batpak_store_t *store;
    OK(batpak_store_open_z("store", &options, &store, &error));
    return store;
}

static char entities[ENTITIES][ENTITY_BYTES + 1], scopes[SCOPES][SCOPE_BYTES + 1], payload[PAYLOAD_BYTES];
static uint64_t random_state = 0x9E3779B97F4A7C15u;

static void make_names(void) {
    for (size_t i = 0; i < ENTITIES; i++) {
        snprintf(entities[i], sizeof entities[i], "e:%014zu", i);
    }
    for (size_t i = 0; i < SCOPES; i++) {
        snprintf(scopes[i], sizeof scopes[i], "scope-%02zu", i);
    }
    memset(payload, 'p', sizeof payload);
}

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static const char *draw_entity(uint64_t random) {
    return entities[((random >> 32) * ENTITIES) >> 32];
}

static const char *draw_scope(uint64_t random) {
    return scopes[random & (SCOPES - 1)];
}

static void append_one(batpak_store_t *store) {
    uint64_t random = next_random();
    OK(batpak_store_append_one(store, draw_entity(random), ENTITY_BYTES, draw_scope(random), SCOPE_BYTES, KIND, payload, PAYLOAD_BYTES,
                               NULL, &error));
}

static batpak_append_t items[BATCHES][BATCH_EVENTS];

static void make_batches(void) {
    for (size_t i = 0; i < BATCHES * BATCH_EVENTS; i++) {
        uint64_t random = next_random();
        items[i / BATCH_EVENTS][i % BATCH_EVENTS] = (batpak_append_t){.struct_size = sizeof(batpak_append_t),
                                                                      .kind = KIND,
                                                                      .entity = draw_entity(random),
                                                                      .entity_len = ENTITY_BYTES,
                                                                      .scope = draw_scope(random),
                                                                      .scope_len = SCOPE_BYTES,
                                                                      .payload = payload,
                                                                      .payload_len = PAYLOAD_BYTES};
    }
}

static void append_batch(batpak_store_t *store, size_t batch) {
    OK(batpak_store_append(store, items[batch], BATCH_EVENTS, NULL, NULL, &error));
}

/* Every entity once, then what is to be read. */
static void fill(batpak_store_t *store) {
    for (size_t i = 0; i < ENTITIES; i++) {
        OK(batpak_store_append_one(store, entities[i], ENTITY_BYTES, scopes[0], SCOPE_BYTES, KIND, payload, PAYLOAD_BYTES, NULL, &error));
    }
    for (size_t i = ENTITIES; i < LOG_EVENTS; i++) {
        append_one(store);
    }
}

/* Reads what is left before a cursor, with the first and last bytes of each payload. Returns how many events it was. */
static size_t drain(batpak_cursor_t *cursor) {
    static volatile uint64_t sink;
    batpak_batch_t *batch;
    size_t total = 0, n;
    while (OK(batpak_cursor_poll(cursor, READ_EVENTS, 0, 0, &batch, &error)) == BATPAK_OK) {
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        for (size_t i = 0; i < n; i++) {
            const unsigned char *bytes = events[i].payload;
            sink += bytes[0] + bytes[events[i].payload_len - 1];
        }
        total += n;
        batpak_batch_free(batch);
    }
    return total;
}

/* -------------------------------------------------------------------------------------------------------------------
 * What is counted. Each returns the number of its operations.
 */

#define MEASURED __attribute__((noinline, noclone))

MEASURED size_t measure_append_one(batpak_store_t *store) {
    for (size_t i = 0; i < APPENDS; i++) {
        append_one(store);
    }
    return APPENDS;
}

MEASURED size_t measure_append_batch(batpak_store_t *store) {
    for (size_t i = 0; i < BATCHES; i++) {
        append_batch(store, i);
    }
    return BATCHES * BATCH_EVENTS;
}

MEASURED size_t measure_poll_all(batpak_cursor_t *cursor) {
    OK(batpak_cursor_seek_beginning(cursor, &error));
    return drain(cursor);
}

MEASURED size_t measure_poll_entity(batpak_cursor_t **cursors) {
    size_t total = 0;
    for (size_t i = 0; i < ENTITIES_READ; i++) {
        OK(batpak_cursor_seek_beginning(cursors[i], &error));
        total += drain(cursors[i]);
    }
    return total;
}

MEASURED size_t measure_checkpoint_save(batpak_store_t *store) {
    for (uint64_t i = 0; i < SAVES; i++) {
        OK(batpak_checkpoint_save(store, "consumer", 8, NULL, i, &error));
    }
    return SAVES;
}

/* -------------------------------------------------------------------------------------------------------------------
 * The workloads
 */

static size_t append_ones(void) {
    batpak_store_t *store = open_store(0);
    fill(store);
    return measure_append_one(store);
}

static size_t append_batches(void) {
    batpak_store_t *store = open_store(0);
    fill(store);
    make_batches();
    append_batch(store, 0);
    return measure_append_batch(store);
}

static size_t poll_all(void) {
    batpak_store_t *store = open_store(READ_SEGMENT_BYTES);
    batpak_cursor_t *cursor;
    fill(store);
    OK(batpak_cursor_open(store, NULL, NULL, &cursor, &error));
    drain(cursor);
    return measure_poll_all(cursor);
}

static size_t poll_entity(void) {
    batpak_store_t *store = open_store(READ_SEGMENT_BYTES);
    batpak_cursor_t *cursors[ENTITIES_READ];
    fill(store);
    for (size_t i = 0; i < ENTITIES_READ; i++) {
        batpak_region_t region = {.struct_size = sizeof region,
                                  .entity_match = BATPAK_ENTITY_EXACT,
                                  .entity = entities[i * (ENTITIES / ENTITIES_READ)],
                                  .entity_len = ENTITY_BYTES};
        OK(batpak_cursor_open(store, &region, NULL, &cursors[i], &error));
        drain(cursors[i]);
    }
    return measure_poll_entity(cursors);
}

static size_t checkpoint_save(void) {
    batpak_store_t *store = open_store(0);
    fill(store);
    OK(batpak_checkpoint_save(store, "consumer", 8, NULL, 1, &error));
    return measure_checkpoint_save(store);
}

static const struct {
    const char *name;
    size_t (*run)(void);
} workloads[] = {{"append-one", append_ones},
                 {"append-batch", append_batches},
                 {"poll-all", poll_all},
                 {"poll-entity", poll_entity},
                 {"checkpoint-save", checkpoint_save}};

/* What libc chooses its ways of copying and comparing by. */
static void print_extensions(void) {
#ifdef __x86_64__
    unsigned a, b = 0, c, d = 0;
    __get_cpuid_count(7, 0, &a, &b, &c, &d);
    printf("%s%s%s%s", b & 1u << 5 ? " avx2" : "", b & 1u << 9 ? " erms" : "", b & 1u << 16 ? " avx512f" : "",
           d & 1u << 4 ? " fsrm" : "");
#endif
}

static int print_machine(void) {
    struct utsname name;
    const char *libc = "another libc", *version = "";
    if (uname(&name) != 0) {
        return EXIT_FAILURE;
    }
#ifdef __GLIBC__
    libc = "glibc ";
    version = gnu_get_libc_version();
#endif
    printf("%s", name.machine);
    print_extensions();
    printf(", %s%s\n", libc, version);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--machine") == 0) {
        return print_machine();
    }
    for (size_t i = 0; argc == 3 && i < sizeof workloads / sizeof workloads[0]; i++) {
        if (strcmp(argv[1], workloads[i].name) == 0) {
            /* The length of a path costs instructions: the store's is as short on every machine. */
            if (chdir(argv[2]) != 0) {
                perror(argv[2]);
                return EXIT_FAILURE;
            }
            make_names();
            printf("%zu\n", workloads[i].run());
            return EXIT_SUCCESS;
        }
    }
    fprintf(stderr, "instructions WORKLOAD DIRECTORY | --machine\n");
    return 2;
}
