/* The quick benchmark: what the budgets of the design ask, through the C ABI, beside the machine's own limit.
 *
 * Each row runs in rounds, and in each round the raw limit and the library take turns, so that whatever else the machine does
 * meets both. Events have a 128-byte payload, one of 10,000 entities of 16 bytes in random order, and one of 8 scopes; receipts
 * are not asked for. Opening, preparing raw's files and closing are not timed but in the rows about them.
 *
 *     quick [--rounds N] [--events N] [--only TEXT] [--csv FILE] DIRECTORY
 *
 * --events is the size of the log in the rows that append, replay and open one; --only runs the rows whose name has the text.
 */
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batpak.h"
#include "measure.h"
#include "raw.h"

enum { PAYLOAD_BYTES = 128, ENTITY_BYTES = 16, SCOPE_BYTES = 8, NAME_BYTES = ENTITY_BYTES + SCOPE_BYTES };
enum { ENTITIES = 10000, SCOPES = 8, BATCH_EVENTS = 1000, READ_EVENTS = 1024, KIND = 0x1001 };

/* An event without causes in the log: 56 bytes of header, names, payload. Checked against the log that was written. */
enum { FRAME_BYTES = 56 + NAME_BYTES + PAYLOAD_BYTES };

static const double COMMIT_SECONDS = 0.5;
static const uint64_t WAKE_INTERVAL_NS = 200000;

static struct {
    const char *directory, *only;
    FILE *csv;
    size_t rounds, events;
} settings = {.rounds = 3, .events = 1000000};

static _Thread_local batpak_error_t *error;

#define OK(call) check((call), #call)

static void check(batpak_status_t status, const char *call) {
    if (status != BATPAK_OK) {
        errno = 0;
        die("%s: %s: %s", call, batpak_status_name(status), batpak_error_message(error, NULL));
    }
}

/* -------------------------------------------------------------------------------------------------------------------
 * Directories and processes
 */

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place) {
    (void)status, (void)type, (void)place;
    return remove(path);
}

static void remove_tree(const char *path) {
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *store_path(const char *name) {
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", settings.directory, name);
    return path;
}

static batpak_store_t *open_store(const char *name, uint32_t durability) {
    batpak_store_options_t options = {.struct_size = sizeof options, .durability = durability};
    batpak_store_t *store;
    OK(batpak_store_open_z(store_path(name), &options, &store, &error));
    return store;
}

static void close_store(batpak_store_t *store) {
    OK(batpak_store_close(store, -1, &error));
    batpak_store_free(store);
}

static void remove_store(const char *name) {
    remove_tree(store_path(name));
}

/* -------------------------------------------------------------------------------------------------------------------
 * Events
 */

static char entities[ENTITIES][ENTITY_BYTES + 1], scopes[SCOPES][SCOPE_BYTES + 1];

static void make_names(void) {
    for (size_t i = 0; i < ENTITIES; i++) {
        snprintf(entities[i], sizeof entities[i], "e:%014zu", i);
    }
    for (size_t i = 0; i < SCOPES; i++) {
        snprintf(scopes[i], sizeof scopes[i], "scope-%02zu", i);
    }
}

/* Events in an order that is the same each time. */
typedef struct workload_t {
    uint64_t random;
    size_t entity, scope;
    char payload[PAYLOAD_BYTES];
} workload_t;

static workload_t new_workload(uint64_t number) {
    workload_t workload = {.random = 0x9E3779B97F4A7C15u * (number + 1)};
    memset(workload.payload, 'p', sizeof workload.payload);
    return workload;
}

static inline void next_event(workload_t *workload) {
    uint64_t random = workload->random;
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    workload->random = random;
    workload->entity = (size_t)(((random >> 32) * ENTITIES) >> 32);
    workload->scope = random & (SCOPES - 1);
    memcpy(workload->payload, &random, sizeof random);
}

static void append_one(batpak_store_t *store, workload_t *workload) {
    next_event(workload);
    OK(batpak_store_append_one(store, entities[workload->entity], ENTITY_BYTES, scopes[workload->scope], SCOPE_BYTES, KIND,
                               workload->payload, PAYLOAD_BYTES, NULL, &error));
}

static void append_singles(batpak_store_t *store, workload_t *workload, size_t n) {
    for (size_t i = 0; i < n; i++) {
        append_one(store, workload);
    }
}

/* A batch with payloads of its own. */
typedef struct batch_t {
    batpak_append_t items[BATCH_EVENTS];
    char payloads[BATCH_EVENTS][PAYLOAD_BYTES];
    size_t entities[BATCH_EVENTS];
} batch_t;

static batch_t *new_batch(void) {
    batch_t *batch = calloc(1, sizeof *batch);
    for (size_t i = 0; i < BATCH_EVENTS; i++) {
        batch->items[i] = (batpak_append_t){
            .struct_size = sizeof(batpak_append_t),
            .kind = KIND,
            .entity_len = ENTITY_BYTES,
            .scope_len = SCOPE_BYTES,
            .payload = batch->payloads[i],
            .payload_len = PAYLOAD_BYTES,
        };
        memset(batch->payloads[i], 'p', PAYLOAD_BYTES);
    }
    return batch;
}

static void fill_batch(batch_t *batch, workload_t *workload) {
    for (size_t i = 0; i < BATCH_EVENTS; i++) {
        next_event(workload);
        batch->entities[i] = workload->entity;
        batch->items[i].entity = entities[workload->entity];
        batch->items[i].scope = scopes[workload->scope];
        memcpy(batch->payloads[i], workload->payload, 8);
    }
}

static void append_batches(batpak_store_t *store, workload_t *workload, batch_t *batch, size_t n) {
    for (size_t done = 0; done < n; done += BATCH_EVENTS) {
        fill_batch(batch, workload);
        OK(batpak_store_append(store, batch->items, BATCH_EVENTS, NULL, NULL, &error));
    }
}

/* -------------------------------------------------------------------------------------------------------------------
 * Appending
 */

static double seconds_since(uint64_t start) {
    return (double)(now_ns() - start) / 1e9;
}

static bool is_wanted(const char *name) {
    return settings.only == NULL || strstr(name, settings.only) != NULL;
}

static void bench_append_process(size_t batch_events, row_t row) {
    if (!is_wanted(row.name)) {
        return;
    }
    batch_t *batch = new_batch();
    for (size_t round = 0; round < settings.rounds; round++) {
        sample(&row.raw, (double)settings.events / raw_append(settings.directory, FRAME_BYTES, settings.events) / 1e6);

        batpak_store_t *store = open_store("append", BATPAK_DURABILITY_PROCESS);
        workload_t workload = new_workload(round);
        append_singles(store, &workload, 1);
        uint64_t start = now_ns();
        if (batch_events == 1) {
            append_singles(store, &workload, settings.events);
        } else {
            append_batches(store, &workload, batch, settings.events);
        }
        sample(&row.ours, (double)settings.events / seconds_since(start) / 1e6);
        close_store(store);
        remove_store("append");
    }
    free(batch);
    print_row(&row, settings.csv);
}

/* Each event has a key of 16 bytes that no other has. */
static void bench_append_keyed(row_t row) {
    if (!is_wanted(row.name)) {
        return;
    }
    for (size_t round = 0; round < settings.rounds; round++) {
        sample(&row.raw, (double)settings.events / raw_append(settings.directory, FRAME_BYTES, settings.events) / 1e6);

        batpak_store_t *store = open_store("append", BATPAK_DURABILITY_PROCESS);
        workload_t workload = new_workload(round);
        uint64_t key[2] = {round, 0};
        append_singles(store, &workload, 1);
        uint64_t start = now_ns();
        for (size_t i = 0; i < settings.events; i++) {
            next_event(&workload);
            key[1] = i;
            batpak_append_t item = {
                .struct_size = sizeof item,
                .kind = KIND,
                .entity = entities[workload.entity],
                .entity_len = ENTITY_BYTES,
                .scope = scopes[workload.scope],
                .scope_len = SCOPE_BYTES,
                .payload = workload.payload,
                .payload_len = PAYLOAD_BYTES,
                .key = key,
                .key_len = sizeof key,
            };
            OK(batpak_store_append(store, &item, 1, NULL, NULL, &error));
        }
        sample(&row.ours, (double)settings.events / seconds_since(start) / 1e6);
        close_store(store);
        remove_store("append");
    }
    print_row(&row, settings.csv);
}

typedef struct appender_t {
    batpak_store_t *store;
    uint64_t number, end_ns, count;
} appender_t;

static void *append_until(void *user_data) {
    appender_t *appender = user_data;
    workload_t workload = new_workload(appender->number);
    for (; now_ns() < appender->end_ns; appender->count++) {
        append_one(appender->store, &workload);
    }
    return NULL;
}

static double append_with_threads(batpak_store_t *store, size_t threads) {
    pthread_t ids[64];
    appender_t appenders[64];
    uint64_t start = now_ns(), count = 0;
    for (size_t i = 0; i < threads; i++) {
        appenders[i] = (appender_t){.store = store, .number = i, .end_ns = start + (uint64_t)(COMMIT_SECONDS * 1e9)};
        if (pthread_create(&ids[i], NULL, append_until, &appenders[i]) != 0) {
            die("starting a thread");
        }
    }
    for (size_t i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        count += appenders[i].count;
    }
    return (double)count / seconds_since(start);
}

/* One append of STORAGE at a time, on each of the threads. */
static void bench_append_storage(size_t threads, row_t row) {
    if (!is_wanted(row.name)) {
        return;
    }
    raw_file_t *file = raw_file_open(settings.directory);
    for (size_t round = 0; round < settings.rounds; round++) {
        double raw = threads == 1 ? raw_commits(file, FRAME_BYTES, 1, false, COMMIT_SECONDS)
                                  : raw_group_commits(file, FRAME_BYTES, threads, COMMIT_SECONDS);
        sample(&row.raw, raw / 1e3);

        batpak_store_t *store = open_store("append", BATPAK_DURABILITY_STORAGE);
        workload_t workload = new_workload(round);
        append_singles(store, &workload, 100);
        sample(&row.ours, append_with_threads(store, threads) / 1e3);
        close_store(store);
        remove_store("append");
    }
    raw_file_close(file);
    print_row(&row, settings.csv);
}

/* Groups of 1000 made durable together: by one append of STORAGE, or `ahead`, by single appends of PROCESS and a sync. */
static void bench_append_groups(bool ahead, row_t row) {
    if (!is_wanted(row.name)) {
        return;
    }
    raw_file_t *file = raw_file_open(settings.directory);
    batch_t *batch = new_batch();
    for (size_t round = 0; round < settings.rounds; round++) {
        sample(&row.raw, raw_commits(file, FRAME_BYTES, BATCH_EVENTS, ahead, COMMIT_SECONDS) * BATCH_EVENTS / 1e6);

        batpak_store_t *store = open_store("append", ahead ? BATPAK_DURABILITY_PROCESS : BATPAK_DURABILITY_STORAGE);
        workload_t workload = new_workload(round);
        append_singles(store, &workload, 100);
        uint64_t start = now_ns(), end = start + (uint64_t)(COMMIT_SECONDS * 1e9), count = 0;
        for (; now_ns() < end; count += BATCH_EVENTS) {
            if (ahead) {
                append_singles(store, &workload, BATCH_EVENTS);
                OK(batpak_store_sync(store, &error));
            } else {
                append_batches(store, &workload, batch, BATCH_EVENTS);
            }
        }
        sample(&row.ours, (double)count / seconds_since(start) / 1e6);
        close_store(store);
        remove_store("append");
    }
    free(batch);
    raw_file_close(file);
    print_row(&row, settings.csv);
}

/* -------------------------------------------------------------------------------------------------------------------
 * Reading one log of settings.events
 */

static uint32_t *sequences_by_entity, first_of_entity[ENTITIES + 1];

/* The log that the rows below read, and which sequences each entity has: made once, when the first row asks for it. */
static void need_log(void) {
    if (sequences_by_entity != NULL) {
        return;
    }
    batpak_store_t *store = open_store("log", BATPAK_DURABILITY_PROCESS);
    batch_t *batch = new_batch();
    workload_t workload = new_workload(0);
    append_batches(store, &workload, batch, settings.events);
    close_store(store);
    free(batch);

    sequences_by_entity = calloc(settings.events, sizeof *sequences_by_entity);
    workload = new_workload(0);
    for (size_t i = 0; i < settings.events; i++) {
        next_event(&workload);
        first_of_entity[workload.entity + 1]++;
    }
    for (size_t i = 0; i < ENTITIES; i++) {
        first_of_entity[i + 1] += first_of_entity[i];
    }
    uint32_t *next = malloc(sizeof first_of_entity);
    memcpy(next, first_of_entity, sizeof first_of_entity);
    workload = new_workload(0);
    for (size_t i = 0; i < settings.events; i++) {
        next_event(&workload);
        sequences_by_entity[next[workload.entity]++] = (uint32_t)i;
    }
    free(next);
}

static raw_log_t *open_raw_log(void) {
    raw_log_t *log = raw_log_open(store_path("log"));
    errno = 0;
    if (raw_log_events(log) != settings.events) {
        die("the log has %zu events, not %zu", raw_log_events(log), settings.events);
    }
    if (raw_log_bytes(log) != (uint64_t)FRAME_BYTES * settings.events) {
        die("a frame is not %d bytes long: raw does not do the same work", (int)FRAME_BYTES);
    }
    return log;
}

/* Polls until there is nothing left; the number of events. */
static uint64_t read_region(batpak_store_t *store, const batpak_region_t *region) {
    uint64_t count = 0, sum = 0;
    batpak_cursor_t *cursor;
    batpak_batch_t *batch;
    batpak_status_t status;
    OK(batpak_cursor_open(store, region, NULL, &cursor, &error));
    while ((status = batpak_cursor_poll(cursor, READ_EVENTS, 0, 0, &batch, &error)) == BATPAK_OK) {
        size_t n;
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        for (size_t i = 0; i < n; i++) {
            sum += touch(events[i].payload, events[i].payload_len);
        }
        count += n;
        batpak_batch_free(batch);
    }
    check(status == BATPAK_EMPTY ? BATPAK_OK : status, "batpak_cursor_poll");
    batpak_cursor_free(cursor);
    sink += sum;
    return count;
}

static void expect_count(uint64_t count, uint64_t expected) {
    if (count != expected) {
        errno = 0;
        die("%" PRIu64 " events, not %" PRIu64, count, expected);
    }
}

static void bench_replay(row_t row) {
    if (!is_wanted(row.name)) {
        return;
    }
    need_log();
    raw_log_t *log = open_raw_log();
    batpak_store_t *store = open_store("log", 0);
    for (size_t round = 0; round < 2 * settings.rounds; round++) {
        sample(&row.raw, (double)settings.events / raw_replay(log, PAYLOAD_BYTES) / 1e6);
        uint64_t start = now_ns();
        expect_count(read_region(store, NULL), settings.events);
        sample(&row.ours, (double)settings.events / seconds_since(start) / 1e6);
    }
    close_store(store);
    raw_log_close(log);
    print_row(&row, settings.csv);
}

/* A tenth of the entities, one after the other, each with a cursor of its own. */
static void bench_replay_entity(row_t row) {
    if (!is_wanted(row.name)) {
        return;
    }
    need_log();
    raw_log_t *log = open_raw_log();
    batpak_store_t *store = open_store("log", 0);
    for (size_t round = 0; round < 2 * settings.rounds; round++) {
        uint64_t count = 0, expected = 0, raw_ns = 0, start;
        for (size_t entity = round; entity < ENTITIES; entity += 10) {
            uint32_t first = first_of_entity[entity], n = first_of_entity[entity + 1] - first;
            raw_ns += (uint64_t)(raw_scattered(log, sequences_by_entity + first, n) * 1e9);
            expected += n;
        }
        sample(&row.raw, (double)expected / ((double)raw_ns / 1e9) / 1e6);

        start = now_ns();
        for (size_t entity = round; entity < ENTITIES; entity += 10) {
            batpak_region_t region = {.struct_size = sizeof region,
                                      .entity_match = BATPAK_ENTITY_EXACT,
                                      .entity = entities[entity],
                                      .entity_len = ENTITY_BYTES};
            count += read_region(store, &region);
        }
        sample(&row.ours, (double)count / seconds_since(start) / 1e6);
        expect_count(count, expected);
    }
    close_store(store);
    raw_log_close(log);
    print_row(&row, settings.csv);
}

static void bench_open_clean(row_t row) {
    if (!is_wanted(row.name)) {
        return;
    }
    need_log();
    for (size_t round = 0; round < 3 * settings.rounds; round++) {
        uint64_t start = now_ns();
        batpak_store_t *store = open_store("log", 0);
        sample(&row.ours, seconds_since(start) * 1e3);
        close_store(store);
    }
    print_row(&row, settings.csv);
}

static double resident_mib(void) {
    char line[256];
    double kib = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "VmRSS: %lf", &kib) == 1) {
            break;
        }
    }
    if (file == NULL || kib < 0) {
        die("/proc/self/status");
    }
    fclose(file);
    return kib / 1024;
}

/* In a process of its own: prints the resident memory before and after opening the log. */
static void print_resident(void) {
    double before = resident_mib();
    batpak_store_t *store = open_store("log", 0);
    printf("%f %f\n", before, resident_mib());
    close_store(store);
}

static void bench_resident(const char *program, row_t row) {
    if (!is_wanted(row.name)) {
        return;
    }
    need_log();
    for (size_t round = 0; round < settings.rounds; round++) {
        char command[2 * PATH_MAX];
        double before, after;
        snprintf(command, sizeof command, "'%s' --resident '%s'", program, settings.directory);
        FILE *output = popen(command, "r");
        if (output == NULL || fscanf(output, "%lf %lf", &before, &after) != 2 || pclose(output) != 0) {
            die("%s", command);
        }
        sample(&row.raw, before);
        sample(&row.ours, after);
    }
    print_row(&row, settings.csv);
}

/* -------------------------------------------------------------------------------------------------------------------
 * Opening a store whose last segment is full
 */

/* Nearly all that one segment holds, so that all of it is to be recovered. */
static const size_t KILLED_EVENTS = 300000;

static void append_and_be_killed(void) {
    batpak_store_t *store = open_store("killed", BATPAK_DURABILITY_PROCESS);
    batch_t *batch = new_batch();
    workload_t workload = new_workload(0);
    append_batches(store, &workload, batch, KILLED_EVENTS);
    raise(SIGKILL);
}

/* After the kill, and after the clean close that follows: both with a last segment that is nearly full. */
static void bench_open_full(row_t row, row_t clean) {
    if (!is_wanted(row.name) && !is_wanted(clean.name)) {
        return;
    }
    for (size_t round = 0; round < settings.rounds; round++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            append_and_be_killed();
        }
        if (child < 0 || waitpid(child, &status, 0) != child || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
            die("the child that was to be killed");
        }
        raw_log_t *log = raw_log_open(store_path("killed"));
        sample(&row.raw, raw_replay(log, PAYLOAD_BYTES) * 1e3);
        raw_log_close(log);

        uint64_t start = now_ns();
        batpak_store_t *store = open_store("killed", 0);
        sample(&row.ours, seconds_since(start) * 1e3);
        batpak_watermarks_t marks;
        OK(batpak_store_watermarks(store, &marks, &error));
        expect_count(marks.visible, KILLED_EVENTS);
        close_store(store);

        start = now_ns();
        store = open_store("killed", 0);
        sample(&clean.ours, seconds_since(start) * 1e3);
        close_store(store);
        remove_store("killed");
    }
    print_row(&row, settings.csv);
    print_row(&clean, settings.csv);
}

/* -------------------------------------------------------------------------------------------------------------------
 * Bytes on disk
 */

static uint64_t bytes_found;

static int add_bytes(const char *path, const struct stat *status, int type, struct FTW *place) {
    (void)path, (void)place;
    bytes_found += type == FTW_F ? (uint64_t)status->st_size : 0;
    return 0;
}

/* Each event names the one before of its entity. */
static void append_with_causes(batpak_store_t *store, size_t n) {
    /* An entity's last event: its id, or its place while its batch is not yet appended. Batches count from 1. */
    typedef struct last_t {
        uint8_t id[16];
        size_t batch;
        uint32_t index;
    } last_t;
    last_t *last = calloc(ENTITIES, sizeof *last);
    batpak_receipt_t *receipts = calloc(BATCH_EVENTS, sizeof *receipts);
    batch_t *batch = new_batch();
    uint32_t earlier[BATCH_EVENTS];
    workload_t workload = new_workload(0);
    for (size_t number = 1; number <= n / BATCH_EVENTS; number++) {
        fill_batch(batch, &workload);
        for (uint32_t i = 0; i < BATCH_EVENTS; i++) {
            last_t *cause = &last[batch->entities[i]];
            batpak_append_t *item = &batch->items[i];
            bool is_here = cause->batch == number;
            item->causes = cause->id;
            item->cause_count = cause->batch != 0 && !is_here;
            item->batch_cause_count = is_here;
            earlier[i] = cause->index;
            item->batch_causes = &earlier[i];
            cause->batch = number;
            cause->index = i;
        }
        OK(batpak_store_append(store, batch->items, BATCH_EVENTS, NULL, receipts, &error));
        for (uint32_t i = 0; i < BATCH_EVENTS; i++) {
            memcpy(last[batch->entities[i]].id, receipts[i].id, 16);
        }
    }
    free(batch);
    free(receipts);
    free(last);
}

static void bench_disk(row_t row) {
    if (!is_wanted(row.name)) {
        return;
    }
    batpak_store_t *store = open_store("causes", BATPAK_DURABILITY_PROCESS);
    append_with_causes(store, settings.events);
    close_store(store);
    bytes_found = 0;
    nftw(store_path("causes"), add_bytes, 16, FTW_PHYS);
    sample(&row.ours, (double)bytes_found / (double)settings.events - NAME_BYTES - PAYLOAD_BYTES);
    remove_store("causes");
    print_row(&row, settings.csv);
}

/* -------------------------------------------------------------------------------------------------------------------
 * From append to handler
 */

typedef struct arrivals_t {
    uint64_t *latencies;
    _Atomic size_t count;
} arrivals_t;

static int32_t handle(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    arrivals_t *arrivals = user_data;
    uint64_t now = now_ns();
    (void)delivery;
    for (size_t i = 0; i < n; i++) {
        uint64_t sent;
        memcpy(&sent, events[i].payload, sizeof sent);
        arrivals->latencies[arrivals->count + i] = now - sent;
    }
    arrivals->count += n;
    return BATPAK_HANDLER_CONTINUE;
}

static void deliver(uint64_t *latencies, size_t n) {
    batpak_store_t *store = open_store("append", BATPAK_DURABILITY_PROCESS);
    arrivals_t arrivals = {.latencies = latencies};
    batpak_worker_t *worker;
    OK(batpak_worker_start(store, NULL, NULL, handle, &arrivals, NULL, &worker, &error));
    workload_t workload = new_workload(0);
    uint64_t next = now_ns() + 10000000;
    for (size_t i = 0; i < n; i++, next += WAKE_INTERVAL_NS) {
        next_event(&workload);
        sleep_until(next);
        uint64_t now = now_ns();
        memcpy(workload.payload, &now, sizeof now);
        OK(batpak_store_append_one(store, entities[workload.entity], ENTITY_BYTES, scopes[workload.scope], SCOPE_BYTES, KIND,
                                   workload.payload, PAYLOAD_BYTES, NULL, &error));
    }
    for (uint64_t end = now_ns() + 10000000000u; arrivals.count < n && now_ns() < end;) {
        usleep(1000);
    }
    expect_count(arrivals.count, n);
    OK(batpak_worker_stop_and_join(worker, -1, &error));
    batpak_worker_free(worker);
    close_store(store);
    remove_store("append");
}

static void bench_latency(row_t p50, row_t p99) {
    if (!is_wanted(p50.name) && !is_wanted(p99.name)) {
        return;
    }
    size_t warm = 500, n = 7500;
    uint64_t *latencies = calloc(n, sizeof *latencies);
    for (size_t round = 0; round < settings.rounds; round++) {
        raw_wakes(WAKE_INTERVAL_NS, latencies, n);
        sample(&p50.raw, latency_quantile(latencies + warm, n - warm, 0.5) / 1e3);
        sample(&p99.raw, latency_quantile(latencies + warm, n - warm, 0.99) / 1e3);
        deliver(latencies, n);
        sample(&p50.ours, latency_quantile(latencies + warm, n - warm, 0.5) / 1e3);
        sample(&p99.ours, latency_quantile(latencies + warm, n - warm, 0.99) / 1e3);
    }
    free(latencies);
    print_row(&p50, settings.csv);
    print_row(&p99, settings.csv);
}

/* -------------------------------------------------------------------------------------------------------------------
 * All rows
 */

static row_t new_row(const char *name, const char *unit, budget_kind_t budget_kind, double budget) {
    return (row_t){.name = name, .unit = unit, .budget_kind = budget_kind, .budget = budget};
}

static void run_rows(const char *program) {
    bench_append_process(1, new_row("append one, PROCESS", "M/s", BUDGET_AT_LEAST, 5));
    bench_append_process(BATCH_EVENTS, new_row("append batch of 1000, PROCESS", "M/s", BUDGET_AT_LEAST, 10));
    bench_append_keyed(new_row("append one with a key, PROCESS", "M/s", BUDGET_AT_LEAST, 1));
    bench_append_storage(1, new_row("append one, STORAGE, 1 thread", "k/s", BUDGET_AT_LEAST_OF_RAW, 0.85));
    bench_append_storage(8, new_row("append one, STORAGE, 8 threads", "k/s", BUDGET_AT_LEAST_OF_RAW, 0.85));
    bench_append_groups(false, new_row("append batch of 1000, STORAGE", "M/s", BUDGET_AT_LEAST_OF_RAW, 0.85));
    bench_append_groups(true, new_row("append 1000 ahead, sync", "M/s", BUDGET_AT_LEAST, 1));
    bench_replay(new_row("replay all, batches of 1024", "M/s", BUDGET_AT_LEAST, 17));
    bench_replay_entity(new_row("replay one entity of 10,000", "M/s", BUDGET_AT_LEAST_OF_RAW, 0.85));
    bench_latency(new_row("append to handler, p50", "us", BUDGET_AT_MOST, 10),
                  new_row("append to handler, p99", "us", BUDGET_AT_MOST_OF_RAW, 2));
    bench_open_clean(new_row("open after a clean close", "ms", BUDGET_AT_MOST, 5));
    bench_open_full(new_row("open after a kill, segment full", "ms", BUDGET_AT_MOST, 100),
                    new_row("open after a close, segment full", "ms", BUDGET_AT_MOST, 5));
    bench_resident(program, new_row("resident memory after open", "MiB", BUDGET_AT_MOST, 16));
    bench_disk(new_row("disk beyond payload and names", "B/event", BUDGET_AT_MOST, 96));
}

static void parse(int argc, char **argv, bool *resident) {
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--resident") == 0) {
            *resident = true;
        } else if (argv[i][0] != '-') {
            settings.directory = argv[i];
        } else {
            i++;
            if (strcmp(argv[i - 1], "--rounds") == 0) {
                settings.rounds = strtoul(value, NULL, 10);
            } else if (strcmp(argv[i - 1], "--events") == 0) {
                settings.events = strtoul(value, NULL, 10) / BATCH_EVENTS * BATCH_EVENTS;
            } else if (strcmp(argv[i - 1], "--only") == 0) {
                settings.only = value;
            } else if (strcmp(argv[i - 1], "--csv") == 0) {
                settings.csv = fopen(value, "w");
            } else {
                settings.rounds = 0;
            }
        }
    }
    if (settings.directory == NULL || settings.rounds == 0 || settings.rounds > 20 || settings.events == 0) {
        errno = 0;
        die("usage: %s [--rounds 1..20] [--events N] [--only TEXT] [--csv FILE] DIRECTORY", argv[0]);
    }
    if (settings.csv == NULL && (settings.csv = fopen("/dev/null", "w")) == NULL) {
        die("/dev/null");
    }
}

static void print_load(void) {
    double load = 0;
    if (getloadavg(&load, 1) == 1) {
        printf("%ld CPUs, load average %.2f\n", sysconf(_SC_NPROCESSORS_ONLN), load);
    }
}

int main(int argc, char **argv) {
    bool resident = false;
    parse(argc, argv, &resident);
    if (resident) {
        print_resident();
        return 0;
    }
    make_names();
    printf("libbatpak %s; %d-byte payloads, %d entities of %d bytes, %zu events; %zu rounds; ", batpak_version_string(),
           (int)PAYLOAD_BYTES, (int)ENTITIES, (int)ENTITY_BYTES, settings.events, settings.rounds);
    print_load();
    print_heading(settings.csv);
    run_rows(argv[0]);
    printf("At the end: ");
    print_load();
    return fclose(settings.csv) == 0 ? 0 : 1;
}
