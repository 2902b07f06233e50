/* The rows that deliver: consumers with checkpoints, and threads that follow the log while it is written. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "process.h"
#include "raw.h"
#include "rows.h"
#include "workload.h"

/* -------------------------------------------------------------------------------------------------------------------
 * At least once: a position made durable per batch
 */

static void touch_it(void *user_data, uint64_t sequence, const void *payload, size_t payload_bytes) {
    (void)sequence;
    *(uint64_t *)user_data += touch(payload, payload_bytes);
}

/* Reads the log again and again, each time as another consumer. */
static double consume(const backend_t *backend, store_t *store, size_t most, size_t round) {
    const filter_t all = {.by = FILTER_ALL};
    uint64_t start = now_ns(), end = start + (uint64_t)(COMMIT_SECONDS * 1e9), sum = 0, count = 0;
    reader_t *reader = NULL;
    for (size_t lap = 0; now_ns() < end;) {
        if (reader == NULL) {
            char name[64];
            snprintf(name, sizeof name, "consumer-%zu-%zu-%zu", most, round, lap++);
            reader = backend->reader(store, &all, name);
        }
        size_t n = backend->poll(reader, most, touch_it, &sum);
        if (n > 0) {
            backend->checkpoint(reader);
        } else {
            backend->close_reader(reader);
            reader = NULL;
        }
        count += n;
    }
    double rate = (double)count / seconds_since(start);
    if (reader != NULL) {
        backend->close_reader(reader);
    }
    sink += sum;
    return rate;
}

static void measure_consumer(void *context, size_t side, size_t round, double *values) {
    const size_t *most = context;
    if (side != RAW) {
        store_t *store = backend_at(side)->open(need_log(side, settings.events), STORAGE);
        values[0] = consume(backend_at(side), store, *most, round) / 1e3;
        backend_at(side)->close(store);
    } else if (is_here(BATPAK)) {
        raw_log_t *log = raw_log_open(need_log(BATPAK, settings.events));
        values[0] = raw_consume(log, settings.directory, *most, PAYLOAD_BYTES, COMMIT_SECONDS) / 1e3;
        raw_log_close(log);
    }
}

static void run_consumer(size_t most) {
    row_t row = new_row("consuming", "k/s", HIGHER, BUDGET_AT_LEAST_OF_RAW, 0.91, "consumer, checkpoint per %zu", most);
    if (are_wanted(&row, 1)) {
        /* The logs are made before anything is timed. */
        for (size_t side = BATPAK; side < SIDES; side++) {
            if (is_here(side)) {
                need_log(side, settings.events);
            }
        }
        sync_disk(settings.directory);
        run_rows(&row, 1, settings.rounds, measure_consumer, &most);
    }
}

/* -------------------------------------------------------------------------------------------------------------------
 * Following: by a worker of the backend's, else by a thread that polls and is woken after each append
 */

/* Rung after each append. */
typedef struct bell_t {
    pthread_mutex_t lock;
    pthread_cond_t rung;
    uint64_t rings;
    bool is_over;
} bell_t;

typedef struct follower_t {
    _Alignas(64) _Atomic uint64_t count;
    /* Whoever waits for so many events is told. */
    _Atomic uint64_t target;
    uint64_t sum;
    pthread_mutex_t lock;
    pthread_cond_t reached;

    const backend_t *backend;
    store_t *store;
    worker_t *worker;
    pthread_t thread;
    bell_t *bell;
    /* NULL where latencies are not asked for: then payloads begin with the time that they were sent at. */
    latencies_t *latencies;
} follower_t;

static void follow(void *user_data, uint64_t sequence, const void *payload, size_t payload_bytes) {
    follower_t *follower = user_data;
    (void)sequence;
    if (follower->latencies != NULL) {
        uint64_t now = now_ns(), sent;
        memcpy(&sent, payload, sizeof sent);
        latency(follower->latencies, now - sent);
    } else {
        follower->sum += touch(payload, payload_bytes);
    }
    if (atomic_fetch_add(&follower->count, 1) + 1 >= atomic_load(&follower->target)) {
        pthread_mutex_lock(&follower->lock);
        pthread_cond_broadcast(&follower->reached);
        pthread_mutex_unlock(&follower->lock);
    }
}

/* Sleeps only when nothing was appended since before it polled in vain. */
static void *run_follower(void *user_data) {
    follower_t *follower = user_data;
    bell_t *bell = follower->bell;
    const filter_t all = {.by = FILTER_ALL};
    reader_t *reader = follower->backend->reader(follower->store, &all, NULL);
    uint64_t heard = 0;
    for (bool is_over = false; !is_over;) {
        while (follower->backend->poll(reader, 64, follow, follower) > 0) {
        }
        pthread_mutex_lock(&bell->lock);
        while (bell->rings == heard && !bell->is_over) {
            pthread_cond_wait(&bell->rung, &bell->lock);
        }
        heard = bell->rings;
        is_over = bell->is_over;
        pthread_mutex_unlock(&bell->lock);
    }
    follower->backend->close_reader(reader);
    return NULL;
}

static void ring(bell_t *bell, bool is_over) {
    pthread_mutex_lock(&bell->lock);
    bell->rings++;
    bell->is_over = is_over;
    pthread_cond_broadcast(&bell->rung);
    pthread_mutex_unlock(&bell->lock);
}

static void bell_init(bell_t *bell) {
    *bell = (bell_t){0};
    if (pthread_mutex_init(&bell->lock, NULL) != 0 || pthread_cond_init(&bell->rung, NULL) != 0) {
        die("making a condition");
    }
}

static void start_follower(follower_t *follower, const backend_t *backend, store_t *store, bell_t *bell, latencies_t *latencies) {
    *follower = (follower_t){.backend = backend, .store = store, .bell = bell, .latencies = latencies, .target = UINT64_MAX};
    if (pthread_mutex_init(&follower->lock, NULL) != 0 || pthread_cond_init(&follower->reached, NULL) != 0) {
        die("making a condition");
    }
    if (backend->worker_start != NULL) {
        follower->worker = backend->worker_start(store, follow, follower);
    } else if (pthread_create(&follower->thread, NULL, run_follower, follower) != 0) {
        die("starting a thread");
    }
}

static void wait_for_follower(follower_t *follower, uint64_t target) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 120;
    atomic_store(&follower->target, target);
    pthread_mutex_lock(&follower->lock);
    while (atomic_load(&follower->count) < target) {
        if ((errno = pthread_cond_timedwait(&follower->reached, &follower->lock, &end)) != 0) {
            die("%llu of %llu events", (unsigned long long)follower->count, (unsigned long long)target);
        }
    }
    pthread_mutex_unlock(&follower->lock);
}

/* All of a bell's followers. */
static void stop_followers(follower_t *followers, size_t n, bell_t *bell) {
    ring(bell, true);
    for (size_t i = 0; i < n; i++) {
        if (followers[i].worker != NULL) {
            followers[i].backend->worker_stop(followers[i].worker);
        } else {
            pthread_join(followers[i].thread, NULL);
        }
        sink += followers[i].sum;
        pthread_mutex_destroy(&followers[i].lock);
        pthread_cond_destroy(&followers[i].reached);
    }
    pthread_mutex_destroy(&bell->lock);
    pthread_cond_destroy(&bell->rung);
}

/* What an appender does beside appending. */
static inline void publish(const backend_t *backend, bell_t *bell) {
    if (backend->worker_start == NULL) {
        ring(bell, false);
    }
}

/* -------------------------------------------------------------------------------------------------------------------
 * From append to handler
 */

/* 5,000 events a second. */
static const uint64_t WAKE_INTERVAL_NS = 200000;

static void deliver(size_t side, latencies_t *latencies, size_t n) {
    const backend_t *backend = backend_at(side);
    store_t *store = new_store(side, "append", PROCESS);
    workload_t workload = new_workload(0);
    follower_t follower;
    bell_t bell;
    bell_init(&bell);
    start_follower(&follower, backend, store, &bell, latencies);
    uint64_t next = now_ns() + 10000000;
    for (size_t i = 0; i < n; i++, next += WAKE_INTERVAL_NS) {
        next_event(&workload);
        sleep_until(next);
        uint64_t now = now_ns();
        memcpy(workload.payload, &now, sizeof now);
        log_event_t event = event_of(&workload);
        backend->append(store, &event, 1);
        publish(backend, &bell);
    }
    wait_for_follower(&follower, n);
    stop_followers(&follower, 1, &bell);
    drop_store(side, "append", store);
}

static void measure_latency(void *context, size_t side, size_t round, double *values) {
    const size_t warm = 500, n = settings.quick ? 7500 : 15000;
    latencies_t latencies;
    (void)context, (void)round;
    latencies_init(&latencies, n);
    if (side == RAW) {
        raw_wakes(WAKE_INTERVAL_NS, &latencies, n);
    } else {
        deliver(side, &latencies, n);
    }
    latencies_t settled = {.values = latencies.values + warm, .count = n - warm, .capacity = n - warm};
    values[0] = latency_quantile(&settled, 0.5) / 1e3;
    values[1] = latency_quantile(&settled, 0.99) / 1e3;
    values[2] = latency_quantile(&settled, 0.999) / 1e3;
    latencies_free(&latencies);
}

/* Processor time of a worker that has nothing to do, over a second. */
static void measure_idle(void *context, size_t side, size_t round, double *values) {
    const backend_t *backend = backend_at(side);
    (void)context;
    if (side == RAW || backend->worker_start == NULL) {
        return;
    }
    store_t *store = new_store(side, "append", PROCESS);
    workload_t workload = new_workload(round);
    follower_t follower;
    bell_t bell;
    bell_init(&bell);
    start_follower(&follower, backend, store, &bell, NULL);
    append_singles(backend, store, &workload, BATCH_EVENTS);
    wait_for_follower(&follower, BATCH_EVENTS);
    /* What the store prepares ahead is not the worker's. */
    sleep_until(now_ns() + 200000000);
    double before = cpu_ms();
    sleep_until(now_ns() + 1000000000);
    values[0] = cpu_ms() - before;
    stop_followers(&follower, 1, &bell);
    drop_store(side, "append", store);
}

/* -------------------------------------------------------------------------------------------------------------------
 * Many appenders, several workers
 */

enum { APPENDERS = 8, FOLLOWERS = 4 };

typedef struct appender_t {
    pthread_t thread;
    const backend_t *backend;
    store_t *store;
    bell_t *bell;
    uint64_t number, end_ns, count;
} appender_t;

static void *append_until(void *user_data) {
    appender_t *appender = user_data;
    workload_t workload = new_workload(appender->number);
    for (; now_ns() < appender->end_ns; appender->count++) {
        append_singles(appender->backend, appender->store, &workload, 1);
        publish(appender->backend, appender->bell);
    }
    return NULL;
}

static void measure_live(void *context, size_t side, size_t round, double *values) {
    static follower_t followers[FOLLOWERS];
    appender_t appenders[APPENDERS];
    bell_t bell;
    (void)context;
    if (side == RAW) {
        return;
    }
    const backend_t *backend = backend_at(side);
    store_t *store = new_store(side, "append", PROCESS);
    bell_init(&bell);
    for (size_t i = 0; i < FOLLOWERS; i++) {
        start_follower(&followers[i], backend, store, &bell, NULL);
    }
    uint64_t start = now_ns(), count = 0;
    for (size_t i = 0; i < APPENDERS; i++) {
        appenders[i] = (appender_t){.backend = backend, .store = store, .bell = &bell, .number = round * APPENDERS + i};
        appenders[i].end_ns = start + (uint64_t)(COMMIT_SECONDS * 1e9);
        if (pthread_create(&appenders[i].thread, NULL, append_until, &appenders[i]) != 0) {
            die("starting a thread");
        }
    }
    for (size_t i = 0; i < APPENDERS; i++) {
        pthread_join(appenders[i].thread, NULL);
        count += appenders[i].count;
    }
    for (size_t i = 0; i < FOLLOWERS; i++) {
        wait_for_follower(&followers[i], count);
    }
    values[0] = (double)count / seconds_since(start) / 1e3;
    stop_followers(followers, FOLLOWERS, &bell);
    drop_store(side, "append", store);
}

void deliver_rows(void) {
    run_consumer(64);
    run_consumer(READ_EVENTS);
    row_t latencies[] = {
        new_row("consuming", "us", LOWER, BUDGET_AT_MOST, 10, "append to handler, p50"),
        new_row("consuming", "us", LOWER, BUDGET_AT_MOST_OF_RAW, 2, "append to handler, p99"),
        new_row("consuming", "us", LOWER, BUDGET_NONE, 0, "append to handler, p99.9"),
    };
    if (are_wanted(latencies, 3)) {
        run_rows(latencies, 3, settings.rounds, measure_latency, NULL);
    }
    row_t row = new_row("consuming", "ms/s", LOWER, BUDGET_AT_MOST, 1, "processor time of an idle worker");
    if (are_wanted(&row, 1)) {
        run_rows(&row, 1, settings.rounds, measure_idle, NULL);
    }
    row = new_row("consuming", "k/s", HIGHER, BUDGET_NONE, 0, "%d appenders, %d workers following", APPENDERS, FOLLOWERS);
    if (are_wanted(&row, 1)) {
        run_rows(&row, 1, settings.rounds, measure_live, NULL);
    }
}
