/* Starting, joining, stopping, freeing and closing: who waits for whom (W7). */
#include "worker.h"

static batpak_worker_t *start_idle(batpak_store_t *store, struct script *script, const char *id) {
    batpak_worker_options_t options = worker_options(script, id);
    options.idle_wait_ms = 60000;
    return start_worker(store, script, &options);
}

/* The handler waits until it is released. */
static void wait_for_release(struct script *script, batpak_delivery_t *delivery, int call) {
    (void)delivery, (void)call;
    counter_wait(script->within_data, 1);
}

/* A join tells the worker nothing: it goes on. */
static void W7_join_is_passive(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 1);
    struct script script = SCRIPT(.codes = {0});
    batpak_worker_t *worker = start_idle(store, &script, "w");
    for (uint64_t i = 1; i <= 5; i++) {
        counter_wait(&script.calls, i);
        uint64_t start = now_us();
        CHECK_STATUS(batpak_worker_join(worker, 0, &error), BATPAK_TIMEOUT, error);
        CHECK_STATUS(batpak_worker_join(worker, 20, &error), BATPAK_TIMEOUT, error);
        CHECK(now_us() - start >= 20000);
        CHECK(worker_stats(worker).is_running == 1 && stats_of(store).workers_running == 1);
        append(store, "a", "x");
    }
    counter_wait(&script.calls, 6);
    CHECK_OK(batpak_worker_stop_and_join(worker, SOON_MS, &error), error);
    CHECK_OK(batpak_worker_join(worker, 0, &error), error);
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

static void W7_stop_signals_and_does_not_wait(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 100);
    struct counter release = COUNTER;
    struct script script = SCRIPT(.codes = {0}, .within = wait_for_release, .within_data = &release);
    batpak_worker_t *worker = start_idle(store, &script, "w");
    counter_wait(&script.calls, 1);
    CHECK_OK(batpak_worker_stop(worker, &error), error);
    CHECK_OK(batpak_worker_stop(worker, &error), error);
    CHECK_STATUS(batpak_worker_join(worker, 10, &error), BATPAK_TIMEOUT, error);
    CHECK_STATUS(batpak_worker_stop_and_join(worker, 10, &error), BATPAK_TIMEOUT, error);
    counter_add(&release, 1);
    CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
    EXPECT_CALLS(&script, 0); /* the batch in hand was the last, and it is committed */
    CHECK_EQUAL(saved_position(store, "w"), 63);
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

/* The design says 1 ms; the median leaves room for a busy machine, the idle wait of a minute none for a missing wake-up. */
static void W7_stop_takes_effect_at_once_when_idle(void) {
    enum { ROUNDS = 20 };
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 1);
    uint64_t times[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        struct script script = SCRIPT(.codes = {0});
        batpak_worker_t *worker = start_idle(store, &script, NULL);
        counter_wait(&script.calls, 1);
        CHECK_STATUS(batpak_worker_join(worker, 2, &error), BATPAK_TIMEOUT, error); /* time to fall asleep */
        times[i] = now_us();
        CHECK_OK(batpak_worker_stop_and_join(worker, SOON_MS, &error), error);
        times[i] = now_us() - times[i];
        batpak_worker_free(worker);
    }
    uint64_t middle = median(times, ROUNDS);
    printf("  stop of an idle worker and join take %" PRIu64 " us\n", middle);
    CHECK(middle < 5000);
    close_store(store);
    remove_dir(dir);
}

/* A backoff of ten seconds is no reason to wait either. */
static void W7_stop_ends_a_backoff(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 1);
    struct script script = SCRIPT(.codes = {BATPAK_HANDLER_RETRY});
    batpak_worker_options_t options = worker_options(&script, "w");
    options.retry_backoff_ms = 10000;
    batpak_worker_t *worker = start_worker(store, &script, &options);
    counter_wait(&script.calls, 1);
    uint64_t start = now_us();
    CHECK_OK(batpak_worker_stop_and_join(worker, SOON_MS, &error), error);
    CHECK(now_us() - start < 5000000);
    EXPECT_CALLS(&script, 0);
    CHECK(!is_saved(store, "w"));
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

static void W7_freeing_signals_without_waiting(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 100);
    struct counter release = COUNTER;
    struct script busy = SCRIPT(.codes = {0}, .within = wait_for_release, .within_data = &release);
    struct script idle = SCRIPT(.codes = {0});
    batpak_worker_t *worker = start_idle(store, &busy, "busy");
    counter_wait(&busy.calls, 1);
    batpak_worker_free(worker); /* would wait for ever, were it to wait */
    CHECK_EQUAL(counter_get(&busy.freed), 0);
    counter_add(&release, 1);
    counter_wait(&busy.freed, 1);
    EXPECT_CALLS(&busy, 0);

    worker = start_idle(store, &idle, "idle");
    counter_wait(&idle.calls, 2);
    batpak_worker_free(worker);
    counter_wait(&idle.freed, 1);
    batpak_worker_free(NULL);
    close_store(store);
    CHECK(counter_get(&busy.freed) == 1 && counter_get(&idle.freed) == 1);
    remove_dir(dir);
}

/* Joined or not, freed before or after the close of the store: the user data are freed once, when the worker has ended. */
static void W7_user_data_are_freed_once_in_every_order(void) {
    for (int order = 0; order < 6; order++) {
        char *dir = make_dir();
        batpak_store_t *store = store_of(dir, 1);
        struct script script = SCRIPT(.codes = {0}), callbacks = SCRIPT(.codes = {0});
        batpak_worker_options_t options = worker_options(&callbacks, order % 2 ? "w" : NULL);
        options.callback_user_data_free = count_script_free;
        options.idle_wait_ms = 60000;
        batpak_worker_t *worker = start_worker(store, &script, &options);
        counter_wait(&script.calls, 1);
        CHECK(counter_get(&script.freed) == 0 && counter_get(&callbacks.freed) == 0);
        if (order < 2) {
            CHECK_OK(batpak_worker_stop_and_join(worker, SOON_MS, &error), error);
            CHECK(counter_get(&script.freed) == 1 && counter_get(&callbacks.freed) == 1);
        }
        if (order >= 4) {
            batpak_worker_free(worker);
        }
        close_store(store);
        CHECK(counter_get(&script.freed) == 1 && counter_get(&callbacks.freed) == 1);
        if (order < 4) {
            batpak_worker_free(worker);
        }
        CHECK(counter_get(&script.freed) == 1 && counter_get(&callbacks.freed) == 1);
        remove_dir(dir);
    }
}

/* What would wait for the handler itself is refused; stop is not. */
static void call_what_is_forbidden(struct script *script, batpak_delivery_t *delivery, int call) {
    batpak_worker_t **worker = script->within_data;
    batpak_error_t *own = NULL;
    (void)call;
    CHECK_STATUS(batpak_worker_join(*worker, -1, &own), BATPAK_E_REENTRANT, own);
    CHECK_STATUS(batpak_worker_stop_and_join(*worker, -1, &own), BATPAK_E_REENTRANT, own);
    CHECK_STATUS(batpak_store_close(batpak_delivery_store(delivery), -1, &own), BATPAK_E_REENTRANT, own);
    CHECK_OK(batpak_worker_stop(*worker, &own), own);
}

static void W7_a_handler_may_stop_its_worker_but_not_wait_for_it(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 0);
    batpak_worker_t *worker = NULL;
    struct script script = SCRIPT(.codes = {0}, .within = call_what_is_forbidden, .within_data = &worker);
    worker = start_idle(store, &script, "w");
    append(store, "a", "x");
    CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
    EXPECT_CALLS(&script, 0);
    CHECK_EQUAL(saved_position(store, "w"), 0);
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

/* The close of the store stops its workers and waits for a running handler as long as it is told to, no longer. */
static void closing_the_store_waits_for_running_handlers_only(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 100);
    struct counter release = COUNTER;
    struct script busy = SCRIPT(.codes = {0}, .within = wait_for_release, .within_data = &release), idle = SCRIPT(.codes = {0});
    batpak_worker_t *one = start_idle(store, &busy, "busy"), *other = start_idle(store, &idle, "idle");
    counter_wait(&busy.calls, 1);
    counter_wait(&idle.calls, 2);
    /* The idle worker may still be saving what it has handled. */
    for (int busy_handlers = 2; busy_handlers != 1;) {
        CHECK(batpak_store_close(store, 10, &error) == BATPAK_E_BUSY);
        CHECK(batpak_error_is_retryable(error) == 1);
        busy_handlers = atoi(batpak_error_detail(error, "handlers", 8, NULL));
        CHECK(busy_handlers >= 1);
        batpak_error_free(error);
        error = NULL;
    }
    CHECK_EQUAL(marks_of(store).appended, 100); /* still open */
    counter_add(&release, 1);
    CHECK_OK(batpak_store_close(store, SOON_MS, &error), error);
    CHECK(counter_get(&busy.freed) == 1 && counter_get(&idle.freed) == 1);
    EXPECT_CALLS(&busy, 0);
    batpak_store_free(store);
    batpak_worker_free(one);
    batpak_worker_free(other);
    store = open_store(dir);
    CHECK(saved_position(store, "busy") == 63 && saved_position(store, "idle") == 99);
    close_store(store);
    remove_dir(dir);
}

/* Its thread has a name, and none of the host's signals. */
static void look_at_the_thread(struct script *script, batpak_delivery_t *delivery, int call) {
    char name[32] = "", path[64];
    sigset_t blocked;
    (void)delivery, (void)call;
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", thread_number());
    size_t n = read_file(path, name, sizeof name - 1);
    name[n - 1] = 0;
    CHECK(strcmp(name, script->within_data) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &blocked) == 0);
    for (int number = 1; number < 32; number++) {
        CHECK(number == SIGKILL || number == SIGSTOP || sigismember(&blocked, number));
    }
}

static void the_thread_has_a_name_and_no_signals(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 1);
    struct script script = SCRIPT(.codes = {BATPAK_HANDLER_STOP}, .within = look_at_the_thread, .within_data = "checkpoint:of:x");
    run_worker(store, &script, "checkpoint:of:x:and:more", BATPAK_OK);
    struct script named = SCRIPT(.codes = {BATPAK_HANDLER_STOP}, .within = look_at_the_thread, .within_data = "postman");
    batpak_worker_options_t options = worker_options(&named, "w");
    options.name = "postman";
    options.name_len = 7;
    batpak_worker_t *worker = start_worker(store, &named, &options);
    CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(W7_join_is_passive);
    RUN(W7_stop_signals_and_does_not_wait);
    RUN(W7_stop_takes_effect_at_once_when_idle);
    RUN(W7_stop_ends_a_backoff);
    RUN(W7_freeing_signals_without_waiting);
    RUN(W7_user_data_are_freed_once_in_every_order);
    RUN(W7_a_handler_may_stop_its_worker_but_not_wait_for_it);
    RUN(closing_the_store_waits_for_running_handlers_only);
    RUN(the_thread_has_a_name_and_no_signals);
    return 0;
}
