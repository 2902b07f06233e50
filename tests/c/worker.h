/* A handler that follows a script and remembers what it was given. */
#ifndef WORKER_H
#define WORKER_H

#include "events.h"

enum { CALLS_MAX = 256 };

struct script {
    /* What the calls return, in turn; then 0. */
    int32_t codes[CALLS_MAX];
    /* Said with batpak_delivery_set_done, as n + 1; 0: nothing is said. */
    size_t done_plus_1[CALLS_MAX];
    /* Said with batpak_delivery_set_error. */
    const char *message;
    /* Called within the handler, before it returns; may be NULL. */
    void (*within)(struct script *script, batpak_delivery_t *delivery, int call);
    void *within_data;
    /* What came: first sequence, number of events, attempt, and when. */
    uint64_t first[CALLS_MAX];
    size_t n[CALLS_MAX];
    uint32_t attempt[CALLS_MAX];
    uint64_t at_us[CALLS_MAX];
    /* Calls that have begun. */
    struct counter calls;
    /* Times that the user data were freed. */
    struct counter freed;
    /* What the callbacks were told. */
    int budget_calls;
    int failure_calls;
    batpak_status_t failure_code;
    char failure_id[256];
    char failure_message[1024];
};

#define SCRIPT(...) {.calls = COUNTER, .freed = COUNTER, __VA_ARGS__}

static inline int32_t follow(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    struct script *script = user_data;
    batpak_error_t *own = NULL;
    int call = (int)counter_get(&script->calls);
    CHECK(call < CALLS_MAX && n >= 1);
    script->first[call] = events[0].sequence;
    script->n[call] = n;
    script->attempt[call] = batpak_delivery_attempt(delivery);
    script->at_us[call] = now_us();
    counter_add(&script->calls, 1);
    if (script->message != NULL) {
        CHECK_OK(batpak_delivery_set_error(delivery, script->message, strlen(script->message), &own), own);
    }
    if (script->done_plus_1[call] > 0) {
        CHECK_OK(batpak_delivery_set_done(delivery, script->done_plus_1[call] - 1, &own), own);
    }
    if (script->within != NULL) {
        script->within(script, delivery, call);
    }
    return script->codes[call];
}

static inline void count_script_free(void *user_data) {
    counter_add(&((struct script *)user_data)->freed, 1);
}

static inline void on_budget(void *user_data) {
    ((struct script *)user_data)->budget_calls++;
}

static inline void on_failure(void *user_data, const char *id, size_t id_len, batpak_status_t code, const char *message,
                              size_t message_len) {
    struct script *script = user_data;
    script->failure_calls++;
    script->failure_code = code;
    snprintf(script->failure_id, sizeof script->failure_id, "%.*s", (int)id_len, id);
    snprintf(script->failure_message, sizeof script->failure_message, "%.*s", (int)message_len, message);
}

/* Options with both callbacks. checkpoint_id may be NULL. */
static inline batpak_worker_options_t worker_options(struct script *script, const char *checkpoint_id) {
    batpak_worker_options_t options;
    CHECK_OK(batpak_worker_options_init(&options, sizeof options, &error), error);
    options.checkpoint_id = checkpoint_id;
    options.checkpoint_id_len = checkpoint_id ? strlen(checkpoint_id) : 0;
    options.retry_backoff_ms = 1;
    options.on_restart_budget_exhausted = on_budget;
    options.on_checkpoint_failure = on_failure;
    options.callback_user_data = script;
    return options;
}

static inline batpak_worker_t *start_worker(batpak_store_t *store, struct script *script, const batpak_worker_options_t *options) {
    batpak_worker_t *worker = NULL;
    CHECK_OK(batpak_worker_start(store, NULL, options, follow, script, count_script_free, &worker, &error), error);
    return worker;
}

static inline batpak_worker_stats_t worker_stats(batpak_worker_t *worker) {
    batpak_worker_stats_t stats;
    CHECK_OK(batpak_worker_stats_init(&stats, sizeof stats, &error), error);
    CHECK_OK(batpak_worker_stats(worker, &stats, &error), error);
    return stats;
}

/* Runs a durable worker "w" (or one without a checkpoint) until it ends by itself, as `expected`. */
static inline void run_worker(batpak_store_t *store, struct script *script, const char *checkpoint_id, batpak_status_t expected) {
    batpak_worker_options_t options = worker_options(script, checkpoint_id);
    batpak_worker_t *worker = start_worker(store, script, &options);
    CHECK_STATUS(batpak_worker_join(worker, SOON_MS, &error), expected, error);
    CHECK_EQUAL(worker_stats(worker).is_running, 0);
    CHECK_EQUAL(counter_get(&script->freed), 1);
    batpak_worker_free(worker);
}

/* The n calls were given batches that begin with these sequences. */
static inline void check_calls(const char *file, int line, struct script *script, const uint64_t *first, size_t n) {
    size_t calls = counter_get(&script->calls);
    int same = calls == n;
    for (size_t i = 0; same && i < n; i++) {
        same = script->first[i] == first[i];
    }
    if (!same) {
        fprintf(stderr, "%s:%d: %zu calls, of batches that begin at", file, line, calls);
        for (size_t i = 0; i < calls; i++) {
            fprintf(stderr, " %" PRIu64, script->first[i]);
        }
        fprintf(stderr, "\n");
        exit(1);
    }
}

#define EXPECT_CALLS(script, ...) \
    check_calls(__FILE__, __LINE__, script, (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / 8)

static inline batpak_store_t *store_of(const char *dir, size_t events) {
    batpak_store_t *store = open_store(dir);
    if (events > 0) {
        append_many(store, "a", events, 10);
    }
    return store;
}

#endif
