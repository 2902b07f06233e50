/* Calls of the library from within what the library calls: handlers, which may, and the other callbacks, most of which may not. What may
 * not is answered or works, and never waits for itself. */
#include "disk.h"
#include "worker.h"

/* Nothing here waits for long: what does hangs. */
static const char *running;

static void give_up(int signal_number) {
    (void)signal_number;
    ssize_t ignored = write(2, running, strlen(running)) + write(2, " hangs\n", 7);
    (void)ignored;
    _exit(1);
}

static void begin(const char *name) {
    running = name;
    alarm(120);
}

#define TRY(test) \
    do { \
        begin(#test); \
        RUN(test); \
    } while (0)

/* ---- handlers ------------------------------------------------------------------------------------------------------- */

struct within {
    batpak_store_t *store;
    batpak_worker_t *_Atomic worker;
    const char *other_dir;
};

static void call_everything(struct script *script, batpak_delivery_t *delivery, int call) {
    struct within *within = script->within_data;
    batpak_store_t *store = batpak_delivery_store(delivery), *opened = NULL;
    batpak_error_t *own = NULL;
    batpak_cursor_t *cursor = NULL;
    batpak_batch_t *batch = NULL;
    batpak_checkpoint_t *checkpoint = NULL;
    batpak_fence_t *fence = NULL;
    batpak_worker_t *worker = NULL;
    struct script inner = SCRIPT(.codes = {BATPAK_HANDLER_STOP});
    if (call > 0) {
        return;
    }
    CHECK_OK(batpak_store_append_one(store, "b", 1, "s", 1, 0x1001, "", 0, NULL, &own), own);
    CHECK_OK(batpak_store_sync(store, &own), own);
    CHECK_OK(batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, 1, -1, &own), own);
    CHECK_OK(batpak_cursor_open(store, NULL, NULL, &cursor, &own), own);
    CHECK_OK(batpak_cursor_poll(cursor, 10, 0, -1, &batch, &own), own);
    batpak_batch_free(batch);
    CHECK_OK(batpak_cursor_close(cursor, &own), own);
    batpak_cursor_free(cursor);
    CHECK_OK(batpak_checkpoint_save(store, "other", 5, NULL, 1, &own), own);
    CHECK_OK(batpak_checkpoint_load(store, "other", 5, &checkpoint, &own), own);
    batpak_checkpoint_free(checkpoint);
    CHECK_STATUS(batpak_checkpoint_save(store, "w", 1, NULL, 0, &own), BATPAK_E_CHECKPOINT_IN_USE, own);
    CHECK_OK(batpak_checkpoint_delete(store, "other", 5, &own), own);
    CHECK_OK(batpak_fence_begin(store, NULL, &fence, &own), own);
    batpak_append_t item = item_of("f", "x");
    CHECK_OK(batpak_fence_append(fence, &item, 1, NULL, NULL, &own), own);
    CHECK_OK(batpak_fence_commit(fence, 0, &own), own);
    batpak_fence_free(fence);
    /* A worker within a worker, waited for. */
    CHECK_OK(batpak_worker_start(store, NULL, NULL, follow, &inner, count_script_free, &worker, &own), own);
    CHECK_OK(batpak_worker_join(worker, -1, &own), own);
    batpak_worker_free(worker);
    /* Another store, opened and closed. */
    CHECK_OK(batpak_store_open_z(within->other_dir, NULL, &opened, &own), own);
    CHECK_STATUS(batpak_store_open_z(within->other_dir, NULL, &(batpak_store_t *){NULL}, &own), BATPAK_E_LOCKED, own);
    CHECK_OK(batpak_store_append_one(opened, "b", 1, "s", 1, 0x1001, "", 0, NULL, &own), own);
    CHECK_OK(batpak_store_close(opened, -1, &own), own);
    batpak_store_free(opened);
    /* What would wait for this very call, through whichever handle. */
    CHECK_STATUS(batpak_store_close(store, -1, &own), BATPAK_E_REENTRANT, own);
    CHECK_STATUS(batpak_store_close(within->store, -1, &own), BATPAK_E_REENTRANT, own);
    CHECK_STATUS(batpak_worker_join(within->worker, -1, &own), BATPAK_E_REENTRANT, own);
    CHECK_STATUS(batpak_worker_stop_and_join(within->worker, -1, &own), BATPAK_E_REENTRANT, own);
    CHECK_OK(batpak_worker_stop(within->worker, &own), own);
}

static void a_handler_may_call_everything_but_what_waits_for_it(void) {
    char *dir = make_dir(), *other_dir = make_dir();
    batpak_store_t *store = store_of(dir, 0);
    struct within within = {store, NULL, other_dir};
    struct script script = SCRIPT(.within = call_everything, .within_data = &within);
    batpak_worker_options_t options = worker_options(&script, "w");
    within.worker = start_worker(store, &script, &options);
    append(store, "a", "x");
    CHECK_OK(batpak_worker_join(within.worker, SOON_MS, &error), error);
    batpak_worker_free(within.worker);
    close_store(store);
    remove_dir(dir);
    remove_dir(other_dir);
}

static void free_the_worker(struct script *script, batpak_delivery_t *delivery, int call) {
    struct within *within = script->within_data;
    if (call == 0) {
        batpak_worker_free(within->worker);
        batpak_store_free(within->store);
        CHECK(batpak_delivery_attempt(delivery) == 1);
    }
}

/* The last handles of the worker and of the store go from within the handler: all ends when it returns. */
static void a_handler_may_free_its_worker_and_its_store(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 0), *again = NULL;
    struct within within = {store, NULL, NULL};
    struct script script = SCRIPT(.within = free_the_worker, .within_data = &within);
    batpak_worker_options_t options = worker_options(&script, "w");
    within.worker = start_worker(store, &script, &options);
    batpak_append_t item = item_of("a", "x");
    batpak_append_options_t process = durably(BATPAK_DURABILITY_PROCESS);
    /* The handle may be gone before the append returns, so it is the worker's own that is appended to. */
    batpak_cursor_t *keeps_it = open_cursor(store, NULL, NULL);
    CHECK_OK(batpak_store_append(store, &item, 1, &process, NULL, &error), error);
    counter_wait(&script.freed, 1);
    batpak_cursor_free(keeps_it);
    while (batpak_store_open_z(dir, NULL, &again, NULL) == BATPAK_E_LOCKED) {
        sched_yield();
    }
    close_store(again);
    remove_dir(dir);
}

/* The child has the handler's call, and nothing else of the store. */
static void fork_in_the_handler(struct script *script, batpak_delivery_t *delivery, int call) {
    batpak_error_t *own = NULL;
    uint8_t key[32];
    size_t n = 0;
    (void)script, (void)call;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        batpak_store_t *store = batpak_delivery_store(delivery);
        CHECK(batpak_delivery_attempt(delivery) == 1 && batpak_batch_events(batpak_delivery_batch(delivery), &n) != NULL && n == 1);
        CHECK_STATUS(batpak_store_sync(store, &own), BATPAK_E_FORKED, own);
        CHECK_STATUS(batpak_store_close(store, -1, &own), BATPAK_E_FORKED, own);
        CHECK_STATUS(batpak_delivery_set_done(delivery, 1, &own), BATPAK_E_FORKED, own);
        CHECK_STATUS(batpak_delivery_idempotency_key(delivery, 0, 0, key, &own), BATPAK_E_FORKED, own);
        end_forked();
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
}

static void a_handler_may_fork(void) {
#ifdef __SANITIZE_ADDRESS__
    puts("SKIPPED: the address sanitizer cannot fork beside threads");
    return;
#endif
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 1);
    struct script script = SCRIPT(.codes = {BATPAK_HANDLER_STOP}, .within = fork_in_the_handler);
    run_worker(store, &script, "w", BATPAK_OK);
    close_store(store);
    remove_dir(dir);
}

/* ---- the worker's other callbacks ----------------------------------------------------------------------------------- */

struct last_words {
    batpak_store_t *store;
    batpak_worker_t *_Atomic worker;
    atomic_int calls;
    _Atomic batpak_status_t close_status, join_status;
};

static void wait_for_itself(struct last_words *words) {
    while (words->worker == NULL) {
        sched_yield();
    }
    words->join_status = batpak_worker_join(words->worker, -1, NULL);
    words->close_status = batpak_store_close(words->store, -1, NULL);
    words->calls++;
}

static void on_the_last_restart(void *user_data) {
    wait_for_itself(user_data);
}

static void on_a_failed_checkpoint(void *user_data, const char *id, size_t id_len, batpak_status_t code, const char *message,
                                   size_t message_len) {
    (void)id, (void)id_len, (void)code, (void)message, (void)message_len;
    wait_for_itself(user_data);
}

static int32_t fail_always(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)delivery, (void)events, (void)n;
    return BATPAK_HANDLER_FAIL;
}

static int32_t go_on(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)delivery, (void)events, (void)n;
    return BATPAK_HANDLER_CONTINUE;
}

static void the_callback_of_the_last_restart_cannot_wait_for_its_worker(void) {
    char *dir = make_dir();
    struct last_words words = {.store = store_of(dir, 1)};
    batpak_worker_options_t options;
    batpak_worker_t *worker = NULL;
    CHECK_OK(batpak_worker_options_init(&options, sizeof options, &error), error);
    options.on_restart_budget_exhausted = on_the_last_restart, options.callback_user_data = &words;
    CHECK_OK(batpak_worker_start(words.store, NULL, &options, fail_always, NULL, NULL, &worker, &error), error);
    words.worker = worker;
    CHECK_STATUS(batpak_worker_join(worker, -1, &error), BATPAK_E_RESTART_BUDGET_EXHAUSTED, error);
    CHECK_EQUAL(words.calls, 1);
    CHECK_EQUAL(words.join_status, BATPAK_E_REENTRANT);
    CHECK_EQUAL(words.close_status, BATPAK_E_REENTRANT);
    batpak_worker_free(worker);
    close_store(words.store);
    remove_dir(dir);
}

static void the_callback_of_a_failed_checkpoint_cannot_wait_for_its_worker(void) {
    char *dir = make_dir();
    struct last_words words = {.store = store_of(dir, 1)};
    batpak_worker_options_t options;
    batpak_worker_t *worker = NULL;
    CHECK_OK(batpak_worker_options_init(&options, sizeof options, &error), error);
    options.checkpoint_id = "w", options.checkpoint_id_len = 1;
    options.on_checkpoint_failure = on_a_failed_checkpoint, options.callback_user_data = &words;
    disk_set(0, 1);
    CHECK_OK(batpak_worker_start(words.store, NULL, &options, go_on, NULL, NULL, &worker, &error), error);
    words.worker = worker;
    CHECK_STATUS(batpak_worker_join(worker, -1, &error), BATPAK_E_CHECKPOINT_WRITE_FAILED, error);
    disk_set(0, 0);
    CHECK_EQUAL(words.calls, 1);
    CHECK_EQUAL(words.join_status, BATPAK_E_REENTRANT);
    CHECK_EQUAL(words.close_status, BATPAK_E_REENTRANT);
    batpak_worker_free(worker);
    batpak_store_close(words.store, -1, NULL);
    batpak_store_free(words.store);
    remove_dir(dir);
}

static void close_from_a_free(void *user_data) {
    struct last_words *words = user_data;
    words->close_status = batpak_store_close(words->store, -1, NULL);
    words->calls++;
}

/* Its user data hold the store, as a closure does: it closes it when the worker's end lets go of them. */
static void user_data_that_close_the_store_as_the_worker_ends(void) {
    char *dir = make_dir();
    struct last_words words = {.store = store_of(dir, 1)};
    batpak_worker_t *worker = NULL;
    CHECK_OK(batpak_worker_start(words.store, NULL, NULL, go_on, &words, close_from_a_free, &worker, &error), error);
    CHECK_OK(batpak_worker_stop_and_join(worker, -1, &error), error);
    CHECK_EQUAL(words.calls, 1);
    printf("  close from the free function of a worker's user data: %s\n", batpak_status_name(words.close_status));
    CHECK(words.close_status == BATPAK_OK || words.close_status == BATPAK_E_REENTRANT);
    batpak_worker_free(worker);
    close_store(words.store);
    remove_dir(dir);
}

/* ---- wake functions ------------------------------------------------------------------------------------------------- */

struct wake {
    batpak_store_t *store;
    batpak_cursor_t *cursor;
    int what, calls;
};

static void call_from_a_wake(void *user_data) {
    struct wake *wake = user_data;
    batpak_batch_t *batch = NULL;
    wake->calls++;
    if (wake->calls > 3) {
        return;
    }
    switch (wake->what) {
    case 0:
        batpak_store_append_one(wake->store, "w", 1, "s", 1, 0x1001, "", 0, NULL, NULL);
        break;
    case 1:
        while (batpak_cursor_poll(wake->cursor, 1, 0, 0, &batch, NULL) == BATPAK_OK) {
            batpak_batch_free(batch);
        }
        break;
    case 2:
        batpak_cursor_set_wake(wake->cursor, NULL, NULL, NULL, NULL);
        break;
    case 3:
        batpak_cursor_interrupt(wake->cursor, NULL);
        break;
    case 4:
        batpak_cursor_close(wake->cursor, NULL);
        break;
    case 5:
        batpak_store_close(wake->store, -1, NULL);
        break;
    case 6:
        batpak_store_sync(wake->store, NULL);
        break;
    case 7:
        batpak_store_wait(wake->store, BATPAK_WATERMARK_DURABLE, 0, -1, NULL);
        break;
    default:
        break;
    }
}

enum { WAKE_CALLS = 8, WAKERS = 4 };

static void whatever_a_wake_function_calls_comes_back(void) {
    for (int what = 0; what < WAKE_CALLS; what++) {
        for (int waker = 0; waker < WAKERS; waker++) {
            char *dir = make_dir();
            struct wake wake = {.store = store_of(dir, 0), .what = what};
            batpak_batch_t *batch = NULL;
            wake.cursor = open_cursor(wake.store, NULL, NULL);
            CHECK_OK(batpak_cursor_set_wake(wake.cursor, call_from_a_wake, &wake, NULL, &error), error);
            CHECK_STATUS(batpak_cursor_poll(wake.cursor, 1, 0, 0, &batch, &error), BATPAK_EMPTY, error);
            switch (waker) {
            case 0:
                append(wake.store, "a", "x");
                break;
            case 1:
                CHECK_OK(batpak_cursor_interrupt(wake.cursor, &error), error);
                break;
            case 2:
                CHECK_OK(batpak_cursor_close(wake.cursor, &error), error);
                break;
            default:
                CHECK_OK(batpak_store_close(wake.store, -1, &error), error);
                break;
            }
            CHECK(wake.calls >= 1);
            batpak_cursor_free(wake.cursor);
            CHECK_OK(batpak_store_close(wake.store, -1, &error), error);
            batpak_store_free(wake.store);
            remove_dir(dir);
        }
    }
}

/* ---- clocks --------------------------------------------------------------------------------------------------------- */

static struct clock_calls {
    batpak_store_t *store;
    int what, depth;
} clock_calls;

static int64_t call_from_a_clock(void *user_data) {
    struct clock_calls *calls = user_data;
    batpak_store_t *store = calls->store;
    batpak_watermarks_t marks;
    if (store != NULL && calls->depth++ == 0) {
        switch (calls->what) {
        case 0:
            batpak_store_append_one(store, "c", 1, "s", 1, 0x1001, "", 0, NULL, NULL);
            break;
        case 1:
            batpak_store_sync(store, NULL);
            break;
        case 2:
            batpak_store_close(store, -1, NULL);
            break;
        case 3:
            batpak_store_watermarks(store, &marks, NULL);
            break;
        default:
            break;
        }
    }
    return 1000000;
}

enum { CLOCK_CALLS = 4 };

static void whatever_a_clock_calls_comes_back(void) {
    for (int what = 0; what < CLOCK_CALLS; what++) {
        char *dir = make_dir();
        batpak_store_options_t options;
        batpak_store_t *store = NULL;
        clock_calls = (struct clock_calls){.what = what};
        CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
        options.clock = call_from_a_clock, options.clock_user_data = &clock_calls;
        CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
        clock_calls.store = store;
        batpak_status_t status = batpak_store_append_one(store, "a", 1, "s", 1, 0x1001, "", 0, NULL, NULL);
        CHECK(status == BATPAK_OK || (what == 2 && status == BATPAK_E_CLOSED));
        CHECK_OK(batpak_store_close(store, -1, &error), error);
        batpak_store_free(store);
        remove_dir(dir);
    }
}

/* ---- log functions -------------------------------------------------------------------------------------------------- */

static struct log_calls {
    batpak_store_t *store;
    atomic_int what, calls;
} log_calls;

static void call_from_a_log(void *user_data, uint32_t level, const char *target, size_t target_len, const char *message,
                            size_t message_len) {
    struct log_calls *calls = user_data;
    (void)level, (void)target, (void)target_len, (void)message, (void)message_len;
    if (calls->calls++ == 0 && calls->store != NULL) {
        switch ((int)calls->what) {
        case 0:
            batpak_store_append_one(calls->store, "l", 1, "s", 1, 0x1001, "", 0, NULL, NULL);
            break;
        case 1:
            batpak_store_sync(calls->store, NULL);
            break;
        case 2:
            batpak_store_close(calls->store, -1, NULL);
            break;
        default:
            batpak_store_wait(calls->store, BATPAK_WATERMARK_DURABLE, 1, -1, NULL);
            break;
        }
    }
}

enum { LOG_CALLS = 4 };

/* The store's own thread logs that a sync has failed. */
static void whatever_a_log_function_calls_comes_back(void) {
    for (int what = 0; what < LOG_CALLS; what++) {
        char *dir = make_dir();
        batpak_store_options_t options;
        batpak_store_t *store = NULL;
        log_calls.store = NULL;
        log_calls.what = what;
        log_calls.calls = 0;
        CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
        options.log = call_from_a_log, options.log_user_data = &log_calls;
        options.durability = BATPAK_DURABILITY_PROCESS;
        CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
        log_calls.store = store;
        disk_set(0, 1);
        append(store, "a", "x");
        CHECK_STATUS(batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, 1, 0, &error), BATPAK_TIMEOUT, error);
        while (log_calls.calls == 0) {
            sched_yield();
        }
        disk_set(0, 0);
        batpak_store_close(store, -1, NULL);
        batpak_store_free(store);
        remove_dir(dir);
    }
}

int main(void) {
    signal(SIGALRM, give_up);
    TRY(a_handler_may_call_everything_but_what_waits_for_it);
    TRY(a_handler_may_free_its_worker_and_its_store);
    TRY(a_handler_may_fork);
    TRY(the_callback_of_the_last_restart_cannot_wait_for_its_worker);
    TRY(the_callback_of_a_failed_checkpoint_cannot_wait_for_its_worker);
    TRY(user_data_that_close_the_store_as_the_worker_ends);
    TRY(whatever_a_wake_function_calls_comes_back);
    TRY(whatever_a_clock_calls_comes_back);
    TRY(whatever_a_log_function_calls_comes_back);
    return 0;
}
