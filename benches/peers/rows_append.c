/* The rows that append: for the process, and for storage. */
#include <pthread.h>
#include <stdlib.h>

#include "process.h"
#include "raw.h"
#include "rows.h"
#include "workload.h"

/* Raw does the library's work only as long as its frames have the size of the library's. */
static void check_frame_bytes(void) {
    if (!is_here(RAW) || !is_here(BATPAK)) {
        return;
    }
    store_t *store = new_store(BATPAK, "frames", PROCESS);
    workload_t workload = new_workload(0);
    append_singles(backend_at(BATPAK), store, &workload, BATCH_EVENTS);
    backend_at(BATPAK)->close(store);
    raw_log_t *log = raw_log_open(path_of(BATPAK, "frames"));
    expect_count(raw_log_events(log), BATCH_EVENTS);
    if (raw_log_bytes(log) != (uint64_t)FRAME_BYTES * BATCH_EVENTS) {
        die("a frame is not %d bytes long: raw does not do the same work", (int)FRAME_BYTES);
    }
    raw_log_close(log);
    remove_tree(path_of(BATPAK, "frames"));
}

static double millions(double n, uint64_t start) {
    return n / seconds_since(start) / 1e6;
}

static void measure_process(void *context, size_t side, size_t round, double *values) {
    const size_t *batch_events = context;
    if (side == RAW) {
        values[0] = (double)settings.events / raw_append(settings.directory, FRAME_BYTES, settings.events) / 1e6;
        return;
    }
    const backend_t *backend = backend_at(side);
    store_t *store = new_store(side, "append", PROCESS);
    workload_t workload = new_workload(round);
    batch_t *batch = new_batch();
    append_singles(backend, store, &workload, 1);
    uint64_t start = now_ns();
    if (*batch_events == 1) {
        append_singles(backend, store, &workload, settings.events);
    } else {
        append_batches(backend, store, &workload, batch, settings.events);
    }
    values[0] = millions((double)settings.events, start);
    free(batch);
    drop_store(side, "append", store);
}

/* Each event has a key of 16 bytes that no other has. */
static void measure_keyed(void *context, size_t side, size_t round, double *values) {
    (void)context;
    const backend_t *backend = backend_at(side);
    if (side == RAW) {
        values[0] = (double)settings.events / raw_append(settings.directory, FRAME_BYTES, settings.events) / 1e6;
        return;
    }
    if (backend->append_keyed == NULL) {
        return;
    }
    store_t *store = new_store(side, "append", PROCESS);
    workload_t workload = new_workload(round);
    uint64_t key[2] = {round, 0};
    append_singles(backend, store, &workload, 1);
    uint64_t start = now_ns();
    for (size_t i = 0; i < settings.events; i++) {
        next_event(&workload);
        log_event_t event = event_of(&workload);
        key[1] = i;
        backend->append_keyed(store, &event, key, sizeof key);
    }
    values[0] = millions((double)settings.events, start);
    drop_store(side, "append", store);
}

enum { LARGE_PAYLOAD_BYTES = 64 << 10 };

/* Reads all of a payload: its ends alone would leave most of a mapped file untouched. */
static void read_large(void *user_data, uint64_t sequence, const void *payload, size_t payload_bytes) {
    uint64_t *bytes = user_data, sum = 0, word;
    (void)sequence;
    for (size_t at = 0; at + sizeof word <= payload_bytes; at += sizeof word) {
        memcpy(&word, (const char *)payload + at, sizeof word);
        sum += word;
    }
    sink += sum;
    *bytes += payload_bytes;
}

static size_t large_events(void) {
    return settings.quick ? 1024 : 4096;
}

/* Seconds. */
static double append_large(const backend_t *backend, store_t *store) {
    workload_t workload = new_workload(0);
    char *payload = allocate(1, LARGE_PAYLOAD_BYTES);
    uint64_t start = now_ns();
    for (size_t i = 0; i < large_events(); i++) {
        next_event(&workload);
        log_event_t event = event_of(&workload);
        memcpy(payload, workload.payload, sizeof workload.payload);
        event.payload = payload;
        event.payload_bytes = LARGE_PAYLOAD_BYTES;
        backend->append(store, &event, 1);
    }
    double seconds = seconds_since(start);
    free(payload);
    return seconds;
}

/* What the library has written. */
static double replay_large_raw(void) {
    store_t *store = new_store(BATPAK, "large", PROCESS);
    append_large(backend_at(BATPAK), store);
    backend_at(BATPAK)->close(store);
    raw_log_t *log = raw_log_open(path_of(BATPAK, "large"));
    expect_count(raw_log_events(log), large_events());
    double seconds = raw_replay(log, LARGE_PAYLOAD_BYTES);
    raw_log_close(log);
    remove_tree(path_of(BATPAK, "large"));
    return seconds;
}

/* Appends one event at a time, then replays. */
static void measure_large(void *context, size_t side, size_t round, double *values) {
    const double megabytes = (double)large_events() * LARGE_PAYLOAD_BYTES / 1e6;
    (void)context, (void)round;
    if (side == RAW) {
        const size_t frame_bytes = LARGE_PAYLOAD_BYTES + FRAME_BYTES - PAYLOAD_BYTES;
        values[0] = megabytes / raw_append(settings.directory, frame_bytes, large_events());
        if (is_here(BATPAK)) {
            values[1] = megabytes / replay_large_raw();
        }
        return;
    }
    const backend_t *backend = backend_at(side);
    const filter_t all = {.by = FILTER_ALL};
    store_t *store = new_store(side, "large", PROCESS);
    values[0] = megabytes / append_large(backend, store);
    uint64_t start = now_ns(), read = 0;
    reader_t *reader = backend->reader(store, &all, NULL);
    while (backend->poll(reader, 16, read_large, &read) > 0) {
    }
    values[1] = megabytes / seconds_since(start);
    expect_count(read, (uint64_t)large_events() * LARGE_PAYLOAD_BYTES);
    backend->close_reader(reader);
    drop_store(side, "large", store);
}

static void run_wanted(row_t *rows, size_t count, measure_fn measure, void *context) {
    if (are_wanted(rows, count)) {
        run_rows(rows, count, settings.rounds, measure, context);
    }
}

void append_rows(void) {
    size_t one = 1, many = BATCH_EVENTS;
    check_frame_bytes();
    row_t row = new_row("append", "M/s", HIGHER, BUDGET_AT_LEAST, 5, "append one, PROCESS");
    run_wanted(&row, 1, measure_process, &one);
    row = new_row("append", "M/s", HIGHER, BUDGET_AT_LEAST, 10, "append batch of 1000, PROCESS");
    run_wanted(&row, 1, measure_process, &many);
    row = new_row("append", "M/s", HIGHER, BUDGET_AT_LEAST, 1, "append one with a key, PROCESS");
    run_wanted(&row, 1, measure_keyed, NULL);
    row_t large[] = {
        new_row("append", "MB/s", HIGHER, BUDGET_NONE, 0, "append one of 64 KiB, PROCESS"),
        new_row("reading", "MB/s", HIGHER, BUDGET_NONE, 0, "replay all of 64 KiB"),
    };
    run_wanted(large, 2, measure_large, NULL);
}

/* -------------------------------------------------------------------------------------------------------------------
 * For storage
 */

enum { THREADS_MAX = 64, LATENCIES = 1 << 16, WARM_BATCHES = 30 };

/* As a store that is in use: a WAL that is written anew in place, pages that are free to be reused. */
static store_t *warm_store(size_t side, durability_t durability, workload_t *workload, batch_t *batch) {
    store_t *store = new_store(side, "append", durability);
    append_batches(backend_at(side), store, workload, batch, WARM_BATCHES * BATCH_EVENTS);
    append_singles(backend_at(side), store, workload, 100);
    return store;
}

typedef struct appender_t {
    pthread_t thread;
    const backend_t *backend;
    store_t *store;
    uint64_t number, end_ns, count;
    latencies_t latencies;
} appender_t;

static void *append_until(void *user_data) {
    appender_t *appender = user_data;
    workload_t workload = new_workload(appender->number);
    for (uint64_t now = now_ns(); now < appender->end_ns; appender->count++) {
        append_singles(appender->backend, appender->store, &workload, 1);
        uint64_t then = now_ns();
        latency(&appender->latencies, then - now);
        now = then;
    }
    return NULL;
}

/* Appends per second; their latencies are added to `all`. */
static double append_with_threads(const backend_t *backend, store_t *store, size_t threads, latencies_t *all) {
    static appender_t appenders[THREADS_MAX];
    uint64_t start = now_ns(), count = 0;
    for (size_t i = 0; i < threads; i++) {
        appenders[i] = (appender_t){.backend = backend, .store = store, .number = i};
        appenders[i].end_ns = start + (uint64_t)(COMMIT_SECONDS * 1e9);
        latencies_init(&appenders[i].latencies, LATENCIES);
        if (pthread_create(&appenders[i].thread, NULL, append_until, &appenders[i]) != 0) {
            die("starting a thread");
        }
    }
    for (size_t i = 0; i < threads; i++) {
        pthread_join(appenders[i].thread, NULL);
        count += appenders[i].count;
    }
    double rate = (double)count / seconds_since(start);
    for (size_t i = 0; i < threads; i++) {
        latencies_join(all, &appenders[i].latencies);
        latencies_free(&appenders[i].latencies);
    }
    return rate;
}

/* One append at a time, on each of the threads: how many, and how long one takes. */
static void measure_storage(void *context, size_t side, size_t round, double *values) {
    const size_t *threads = context;
    latencies_t latencies;
    latencies_init(&latencies, *threads * LATENCIES);
    if (side == RAW) {
        raw_file_t *file = raw_file_open(settings.directory);
        values[0] = (*threads == 1 ? raw_commits(file, FRAME_BYTES, 1, false, COMMIT_SECONDS, &latencies)
                                   : raw_group_commits(file, FRAME_BYTES, *threads, COMMIT_SECONDS, &latencies)) /
                    1e3;
        raw_file_close(file);
    } else {
        workload_t workload = new_workload(round);
        batch_t *batch = new_batch();
        store_t *store = warm_store(side, STORAGE, &workload, batch);
        values[0] = append_with_threads(backend_at(side), store, *threads, &latencies) / 1e3;
        drop_store(side, "append", store);
        free(batch);
    }
    values[1] = latency_quantile(&latencies, 0.5) / 1e3;
    values[2] = latency_quantile(&latencies, 0.99) / 1e3;
    latencies_free(&latencies);
}

/* Groups of 1000 made durable together: by one append of STORAGE, or `ahead`, by single appends of PROCESS and a sync. */
static void measure_groups(void *context, size_t side, size_t round, double *values) {
    const bool ahead = *(bool *)context;
    if (side == RAW) {
        raw_file_t *file = raw_file_open(settings.directory);
        values[0] = raw_commits(file, FRAME_BYTES, BATCH_EVENTS, ahead, COMMIT_SECONDS, NULL) * BATCH_EVENTS / 1e6;
        raw_file_close(file);
        return;
    }
    const backend_t *backend = backend_at(side);
    workload_t workload = new_workload(round);
    batch_t *batch = new_batch();
    store_t *store = warm_store(side, ahead ? AHEAD : STORAGE, &workload, batch);
    uint64_t start = now_ns(), end = start + (uint64_t)(COMMIT_SECONDS * 1e9), count = 0;
    for (; now_ns() < end; count += BATCH_EVENTS) {
        if (ahead) {
            append_singles(backend, store, &workload, BATCH_EVENTS);
            backend->sync(store);
        } else {
            append_batches(backend, store, &workload, batch, BATCH_EVENTS);
        }
    }
    values[0] = millions((double)count, start);
    free(batch);
    drop_store(side, "append", store);
}

static void run_threads(size_t threads) {
    const char *plural = threads == 1 ? "" : "s";
    row_t rows[] = {
        new_row("durable append", "k/s", HIGHER, BUDGET_AT_LEAST_OF_RAW, 0.85, "append one, STORAGE, %zu thread%s", threads,
                plural),
        new_row("durable append", "us", LOWER, BUDGET_NONE, 0, "  p50 of one, STORAGE, %zu thread%s", threads, plural),
        new_row("durable append", "us", LOWER, BUDGET_NONE, 0, "  p99 of one, STORAGE, %zu thread%s", threads, plural),
    };
    run_wanted(rows, 3, measure_storage, &threads);
}

void storage_rows(void) {
    bool ahead = false;
    sync_disk(settings.directory);
    run_threads(1);
    run_threads(8);
    run_threads(32);
    row_t row = new_row("durable append", "M/s", HIGHER, BUDGET_AT_LEAST_OF_RAW, 0.85, "append batch of 1000, STORAGE");
    run_wanted(&row, 1, measure_groups, &ahead);
    ahead = true;
    row = new_row("durable append", "M/s", HIGHER, BUDGET_AT_LEAST, 1, "append 1000 ahead, sync");
    run_wanted(&row, 1, measure_groups, &ahead);
}
