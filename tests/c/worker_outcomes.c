/* Options, the delivery context, and what each code of a handler does (W1, W2, W3). */
#include "worker.h"

static void W1_batches_of_64_at_most_unless_told_otherwise(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 200);
    for (int round = 0; round < 3; round++) {
        struct script script = SCRIPT(.codes = {0});
        batpak_worker_options_t options = worker_options(&script, NULL);
        CHECK(options.batch_events == 64 && options.idle_wait_ms == 10 && options.restart_policy == BATPAK_RESTART_ONCE);
        options.batch_events = round == 0 ? 0 : 64;
        options.batch_payload_bytes = round == 2 ? 100 : 0;
        size_t most = round == 2 ? 10 : 64;
        script.codes[199 / most] = BATPAK_HANDLER_STOP;
        batpak_worker_t *worker = start_worker(store, &script, &options);
        CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
        size_t calls = counter_get(&script.calls);
        CHECK_EQUAL(calls, 199 / most + 1);
        for (size_t i = 0; i < calls; i++) {
            CHECK_EQUAL(script.first[i], i * most);
            CHECK_EQUAL(script.n[i], i + 1 < calls ? most : 200 - i * most);
        }
        batpak_worker_free(worker);
    }
    struct script script = SCRIPT(.codes = {BATPAK_HANDLER_STOP});
    batpak_worker_t *worker = start_worker(store, &script, NULL); /* NULL stands for the defaults */
    CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
    CHECK_EQUAL(script.n[0], 64);
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

/* The idle wait is an upper bound: with one of a minute, events come at once all the same. */
static void W1_a_publication_wakes_an_idle_worker_at_once(void) {
    enum { ROUNDS = 50 };
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    struct script script = SCRIPT(.codes = {0});
    batpak_worker_options_t options = worker_options(&script, NULL);
    options.idle_wait_ms = 60000;
    batpak_worker_t *worker = start_worker(store, &script, &options);
    uint64_t times[ROUNDS];
    for (uint64_t i = 0; i < ROUNDS; i++) {
        times[i] = now_us();
        append(store, "a", "x");
        counter_wait(&script.calls, i + 1);
        times[i] = script.at_us[i] - times[i];
    }
    uint64_t middle = median(times, ROUNDS);
    printf("  append to handler takes %" PRIu64 " us\n", middle);
    CHECK(middle < 100000);
    CHECK_OK(batpak_worker_stop_and_join(worker, SOON_MS, &error), error);
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

/* One restart in the worker's life, whatever succeeds in between. */
static void W1_the_default_policy_is_one_restart_in_the_workers_life(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 200);
    struct script script = SCRIPT(.codes = {BATPAK_HANDLER_FAIL, 0, 0, BATPAK_HANDLER_FAIL});
    run_worker(store, &script, NULL, BATPAK_E_RESTART_BUDGET_EXHAUSTED);
    EXPECT_CALLS(&script, 0, 0, 64, 128);
    close_store(store);
    remove_dir(dir);
}

/* Lets the window of 200 ms pass within the third and the fifth call. */
static void let_the_window_pass(struct script *script, batpak_delivery_t *delivery, int call) {
    (void)delivery;
    if (call == 2 || call == 4) {
        uint64_t start = script->at_us[call - 1];
        while (now_us() - start < 250000) {
            sched_yield();
        }
    }
}

static void W1_the_bounded_policy_has_a_fixed_window_that_starts_anew(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 10);
    for (uint32_t restarts = 0; restarts < 4; restarts++) {
        struct script script = SCRIPT(.codes = {-1, -1, -1, -1, -1, -1});
        batpak_worker_options_t options = worker_options(&script, NULL);
        options.restart_policy = BATPAK_RESTART_BOUNDED;
        options.max_restarts = restarts;
        options.within_ms = 60000;
        batpak_worker_t *worker = start_worker(store, &script, &options);
        CHECK_STATUS(batpak_worker_join(worker, SOON_MS, &error), BATPAK_E_RESTART_BUDGET_EXHAUSTED, error);
        CHECK_EQUAL(counter_get(&script.calls), restarts + 1);
        CHECK_EQUAL(worker_stats(worker).restarts, restarts);
        batpak_worker_free(worker);
    }
    /* At most one in 200 ms; the third and fifth failures come after their window's end, the sixth at once. */
    struct script script = SCRIPT(.codes = {-1, 0, -1, 0, -1, -1}, .within = let_the_window_pass);
    batpak_worker_options_t options = worker_options(&script, NULL);
    options.batch_events = 1;
    options.restart_policy = BATPAK_RESTART_BOUNDED;
    options.max_restarts = 1;
    options.within_ms = 200;
    batpak_worker_t *worker = start_worker(store, &script, &options);
    CHECK_STATUS(batpak_worker_join(worker, SOON_MS, &error), BATPAK_E_RESTART_BUDGET_EXHAUSTED, error);
    CHECK_EQUAL(worker_stats(worker).restarts, 3);
    EXPECT_CALLS(&script, 0, 0, 1, 1, 2, 2);
    batpak_worker_free(worker);

    options.within_ms = 0;
    CHECK_STATUS(batpak_worker_start(store, NULL, &options, follow, &script, NULL, &worker, &error), BATPAK_E_INVALID_ARGUMENT,
                 error);
    options.restart_policy = 2;
    CHECK_STATUS(batpak_worker_start(store, NULL, &options, follow, &script, NULL, &worker, &error), BATPAK_E_INVALID_ARGUMENT,
                 error);
    close_store(store);
    remove_dir(dir);
}

/* ---- W2 ------------------------------------------------------------------------------------------------------------- */

static void check_no_witness(struct script *script, batpak_delivery_t *delivery, int call) {
    batpak_error_t *own = NULL;
    uint8_t key[32];
    size_t len = 7;
    (void)script, (void)call;
    CHECK(batpak_delivery_checkpoint_id(delivery, &len) == NULL && len == 0);
    CHECK_STATUS(batpak_delivery_idempotency_key(delivery, 0, 0, key, &own), BATPAK_E_NO_CHECKPOINT, own);
}

static void W2_only_a_durable_worker_has_the_witness(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 1);
    struct script script = SCRIPT(.codes = {BATPAK_HANDLER_STOP}, .within = check_no_witness);
    run_worker(store, &script, NULL, BATPAK_OK);
    EXPECT_CALLS(&script, 0);
    close_store(store);
    remove_dir(dir);
}

struct keys {
    uint8_t keys[8][3][32];
    const char *id;
};

static void keep_keys(struct script *script, batpak_delivery_t *delivery, int call) {
    struct keys *keys = script->within_data;
    batpak_error_t *own = NULL;
    size_t len = 0;
    const char *id = batpak_delivery_checkpoint_id(delivery, &len);
    CHECK(id != NULL && strcmp(id, keys->id) == 0 && len == strlen(id));
    for (size_t event = 0; event < script->n[call]; event++) {
        for (uint32_t output = 0; output < 3; output++) {
            uint8_t *place = keys->keys[script->first[call] + event][output];
            uint8_t key[32];
            CHECK_OK(batpak_delivery_idempotency_key(delivery, event, output, key, &own), own);
            if (script->attempt[call] > 1) {
                CHECK(memcmp(place, key, 32) == 0);
            }
            memcpy(place, key, 32);
        }
    }
}

static void take_keys(batpak_store_t *store, const char *id, size_t batch, struct keys *keys) {
    struct script script = SCRIPT(.within = keep_keys, .within_data = keys);
    batpak_worker_options_t options = worker_options(&script, id);
    keys->id = id;
    options.batch_events = batch;
    script.codes[0] = BATPAK_HANDLER_RETRY;
    script.codes[8 / batch] = BATPAK_HANDLER_STOP_WITH_ROLLBACK;
    batpak_worker_t *worker = start_worker(store, &script, &options);
    CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
    batpak_worker_free(worker);
    if (is_saved(store, id)) {
        CHECK_OK(batpak_checkpoint_delete(store, id, strlen(id), &error), error);
    }
}

/* The same at each redelivery, in each batch and in each life of the process; another for each event, output and consumer. */
static void W2_the_idempotency_key_names_checkpoint_event_and_output(void) {
    static struct keys keys[4];
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 8);
    take_keys(store, "one", 8, &keys[0]);
    take_keys(store, "one", 2, &keys[1]);
    take_keys(store, "two", 8, &keys[2]);
    close_store(store);
    store = open_store(dir);
    take_keys(store, "one", 8, &keys[3]);
    CHECK(memcmp(keys[0].keys, keys[1].keys, sizeof keys[0].keys) == 0);
    CHECK(memcmp(keys[0].keys, keys[3].keys, sizeof keys[0].keys) == 0);
    const uint8_t *all[48];
    for (int i = 0; i < 48; i++) {
        all[i] = keys[i < 24 ? 0 : 2].keys[i % 24 / 3][i % 3];
        for (int k = 0; k < i; k++) {
            CHECK(memcmp(all[i], all[k], 32) != 0);
        }
    }
    close_store(store);
    remove_dir(dir);
}

static void W2_the_attempt_number_counts_deliveries(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 3);
    struct script script = SCRIPT(.codes = {BATPAK_HANDLER_RETRY, BATPAK_HANDLER_RETRY, BATPAK_HANDLER_FAIL, 0, 0, 1});
    batpak_worker_options_t options = worker_options(&script, "w");
    options.batch_events = 1;
    batpak_worker_t *worker = start_worker(store, &script, &options);
    CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
    EXPECT_CALLS(&script, 0, 0, 0, 0, 1, 2);
    static const uint32_t attempts[] = {1, 2, 3, 4, 1, 1};
    CHECK(memcmp(script.attempt, attempts, sizeof attempts) == 0);
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

/* The handler appends to the store that the events are of, and keeps the batch. */
static void react(struct script *script, batpak_delivery_t *delivery, int call) {
    batpak_batch_t **kept = script->within_data;
    size_t n = 0;
    if (call == 0) {
        const batpak_event_t *event = batpak_batch_events(batpak_delivery_batch(delivery), &n);
        CHECK_EQUAL(n, script->n[call]);
        batpak_append_t item = item_of("reaction", "x");
        item.causes = event->id;
        item.cause_count = 1;
        append_item(batpak_delivery_store(delivery), item);
        *kept = batpak_batch_retain(batpak_delivery_batch(delivery));
    }
}

static void W2_the_handler_has_the_batch_and_the_store(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 1);
    batpak_batch_t *kept = NULL;
    struct script script = SCRIPT(.codes = {0, BATPAK_HANDLER_STOP}, .within = react, .within_data = &kept);
    run_worker(store, &script, "w", BATPAK_OK);
    EXPECT_CALLS(&script, 0, 1);
    close_store(store);
    size_t n = 0;
    CHECK(batpak_batch_events(kept, &n)->sequence == 0 && n == 1);
    batpak_batch_free(kept);
    remove_dir(dir);
}

/* ---- W3 ------------------------------------------------------------------------------------------------------------- */

/* What the file says while the handler runs, by call; the last place is for after the end. */
struct persisted {
    uint64_t position[CALLS_MAX];
};

enum { NOTHING = 1000000 };

static uint64_t persisted_now(batpak_store_t *store) {
    return is_saved(store, "w") ? saved_position(store, "w") : NOTHING;
}

static void look_at_the_file(struct script *script, batpak_delivery_t *delivery, int call) {
    ((struct persisted *)script->within_data)->position[call] = persisted_now(batpak_delivery_store(delivery));
}

/* Runs a durable worker with batches of 4 on 12 events, and keeps what the file said. */
static void run_on_twelve(struct script *script, struct persisted *persisted, batpak_status_t expected) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 12);
    batpak_worker_options_t options = worker_options(script, "w");
    options.batch_events = 4;
    script->within = look_at_the_file;
    script->within_data = persisted;
    batpak_worker_t *worker = start_worker(store, script, &options);
    CHECK_STATUS(batpak_worker_join(worker, SOON_MS, &error), expected, error);
    persisted->position[counter_get(&script->calls)] = persisted_now(store);
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

#define EXPECT_PERSISTED(persisted, ...) \
    CHECK(memcmp((persisted)->position, (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__})) == 0)

/* Persisted after the handler and before the next batch; never before the handler. */
static void W3_CONTINUE_persists_then_goes_on(void) {
    static struct persisted persisted;
    struct script script = SCRIPT(.codes = {0, 0, BATPAK_HANDLER_STOP_WITH_ROLLBACK});
    run_on_twelve(&script, &persisted, BATPAK_OK);
    EXPECT_CALLS(&script, 0, 4, 8);
    EXPECT_PERSISTED(&persisted, NOTHING, 3, 7, 7);
}

static void W3_STOP_persists_then_ends(void) {
    static struct persisted persisted;
    struct script script = SCRIPT(.codes = {0, BATPAK_HANDLER_STOP});
    run_on_twelve(&script, &persisted, BATPAK_OK);
    EXPECT_CALLS(&script, 0, 4);
    EXPECT_PERSISTED(&persisted, NOTHING, 3, 7);
}

static void W3_STOP_WITH_ROLLBACK_persists_nothing_and_ends(void) {
    static struct persisted persisted;
    struct script first = SCRIPT(.codes = {BATPAK_HANDLER_STOP_WITH_ROLLBACK}, .done_plus_1 = {3});
    run_on_twelve(&first, &persisted, BATPAK_OK);
    EXPECT_CALLS(&first, 0);
    EXPECT_PERSISTED(&persisted, NOTHING, NOTHING);
    struct script second = SCRIPT(.codes = {0, BATPAK_HANDLER_STOP_WITH_ROLLBACK}, .done_plus_1 = {0, 3});
    run_on_twelve(&second, &persisted, BATPAK_OK);
    EXPECT_PERSISTED(&persisted, NOTHING, 3, 3);
}

static void W3_RETRY_redelivers_after_a_backoff(void) {
    static struct persisted persisted;
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 12);
    struct script script = SCRIPT(.codes = {3, 3, 3, 3, 0, 3, BATPAK_HANDLER_STOP});
    batpak_worker_options_t options = worker_options(&script, "w");
    options.batch_events = 4;
    options.retry_backoff_ms = 20;
    script.within = look_at_the_file;
    script.within_data = &persisted;
    batpak_worker_t *worker = start_worker(store, &script, &options);
    CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
    EXPECT_CALLS(&script, 0, 0, 0, 0, 0, 4, 4);
    EXPECT_PERSISTED(&persisted, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, 3, 3);
    static const uint64_t least_ms[] = {20, 40, 80, 160, 0, 20};
    for (int i = 0; i < 6; i++) {
        CHECK(script.n[i] == 4 && script.at_us[i + 1] - script.at_us[i] >= least_ms[i] * 1000);
    }
    CHECK(script.at_us[6] - script.at_us[5] < 320000); /* it starts anew after a commit */
    CHECK(worker_stats(worker).retries == 5 && worker_stats(worker).restarts == 0);
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

/* More than retries_max in a row are a failure; a commit in between starts the count anew. */
static void W3_RETRY_is_bounded(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 3);
    struct script script = SCRIPT(.codes = {3, 3, 0, 3, 3, 0, 3, 3, 3, 3, 3, 3}, .message = "not yet");
    batpak_worker_options_t options = worker_options(&script, NULL);
    options.batch_events = 1;
    options.retries_max = 2;
    batpak_worker_t *worker = start_worker(store, &script, &options);
    CHECK(batpak_worker_join(worker, SOON_MS, &error) == BATPAK_E_RESTART_BUDGET_EXHAUSTED);
    CHECK(strstr(batpak_error_message(error, NULL), "not yet") != NULL);
    batpak_error_free(error);
    error = NULL;
    /* Two retries, the failure, the restart, and the same again. */
    EXPECT_CALLS(&script, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2);
    CHECK(worker_stats(worker).failures == 2 && worker_stats(worker).restarts == 1);
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

/* The file is replaced by rubbish before the failure: the restart is from what the worker knows. */
static void spoil_the_file(struct script *script, batpak_delivery_t *delivery, int call) {
    (void)delivery;
    if (call == 1) {
        write_file(checkpoint_path(script->within_data, "w"), "rubbish", 7);
    }
}

static void W3_FAIL_restarts_from_committed_without_reading_the_file(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 12);
    struct script script = SCRIPT(.codes = {0, -1, 0, 1}, .within = spoil_the_file, .within_data = dir);
    batpak_worker_options_t options = worker_options(&script, "w");
    options.batch_events = 4;
    batpak_worker_t *worker = start_worker(store, &script, &options);
    CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
    EXPECT_CALLS(&script, 0, 4, 4, 8);
    CHECK_EQUAL(saved_position(store, "w"), 11);
    CHECK(worker_stats(worker).failures == 1 && worker_stats(worker).restarts == 1);
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

static void W3_any_unknown_value_is_a_failure(void) {
    static const int32_t values[] = {4, 5, -2, 100, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 6; i++) {
        static struct persisted persisted;
        char *dir = make_dir(), text[16];
        batpak_store_t *store = store_of(dir, 12);
        struct script script = SCRIPT(.codes = {0, values[i], values[i]}, .within = look_at_the_file, .within_data = &persisted);
        batpak_worker_options_t options = worker_options(&script, "w");
        options.batch_events = 4;
        batpak_worker_t *worker = start_worker(store, &script, &options);
        CHECK(batpak_worker_join(worker, SOON_MS, &error) == BATPAK_E_RESTART_BUDGET_EXHAUSTED);
        snprintf(text, sizeof text, "%d", values[i]);
        CHECK(strstr(batpak_error_message(error, NULL), text) != NULL);
        batpak_error_free(error);
        error = NULL;
        EXPECT_CALLS(&script, 0, 4, 4);
        EXPECT_PERSISTED(&persisted, NOTHING, 3, 3);
        CHECK_EQUAL(persisted_now(store), 3);
        batpak_worker_free(worker);
        close_store(store);
        remove_dir(dir);
    }
}

/* With RETRY, FAIL and unknown values the first n events are committed and do not come again; the last call counts. */
static void say_done_three_times(struct script *script, batpak_delivery_t *delivery, int call) {
    batpak_error_t *own = NULL;
    look_at_the_file(script, delivery, call);
    CHECK_OK(batpak_delivery_set_done(delivery, script->n[call], &own), own);
    CHECK_STATUS(batpak_delivery_set_done(delivery, script->n[call] + 1, &own), BATPAK_E_INVALID_ARGUMENT, own);
    CHECK_OK(batpak_delivery_set_done(delivery, call < 2 ? 1 : 0, &own), own);
}

static void W3_set_done_commits_the_first_events(void) {
    static const int32_t codes[] = {BATPAK_HANDLER_RETRY, BATPAK_HANDLER_FAIL, 77};
    for (int i = 0; i < 3; i++) {
        static struct persisted persisted;
        struct script script = SCRIPT(.codes = {codes[i], 0, 1}, .done_plus_1 = {3});
        run_on_twelve(&script, &persisted, BATPAK_OK);
        /* A retry brings the rest of its batch; a restart polls anew. */
        size_t rest = codes[i] == BATPAK_HANDLER_RETRY ? 2 : 4;
        CHECK(script.first[1] == 2 && script.n[1] == rest && script.first[2] == 2 + rest);
        EXPECT_PERSISTED(&persisted, NOTHING, 1, 1 + rest, 1 + rest + script.n[2]);
    }
    /* All of the batch: nothing of it comes again. */
    for (int i = 0; i < 3; i++) {
        static struct persisted persisted;
        struct script script = SCRIPT(.codes = {codes[i], 1}, .done_plus_1 = {5});
        run_on_twelve(&script, &persisted, BATPAK_OK);
        EXPECT_CALLS(&script, 0, 4);
        EXPECT_PERSISTED(&persisted, NOTHING, 3, 7);
    }
    /* Of one delivery only; and CONTINUE commits all, whatever was said. */
    static struct persisted persisted;
    struct script script = SCRIPT(.codes = {0, 3, 3, 1}, .done_plus_1 = {2, 2});
    run_on_twelve(&script, &persisted, BATPAK_OK);
    EXPECT_CALLS(&script, 0, 4, 5, 5);
    EXPECT_PERSISTED(&persisted, NOTHING, 3, 4, 4, 7);

    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 4);
    struct script last = SCRIPT(.codes = {3, 3, 3, 1}, .within = say_done_three_times, .within_data = &persisted);
    run_worker(store, &last, "w", BATPAK_OK);
    EXPECT_CALLS(&last, 0, 1, 2, 2);
    close_store(store);
    remove_dir(dir);
}

/* What is committed in the worker's memory only comes again to the next worker; what has a checkpoint does not. */
static void W3_committed_is_durable_with_a_checkpoint_id_only(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 12);
    for (int round = 0; round < 2; round++) {
        struct script durable = SCRIPT(.codes = {BATPAK_HANDLER_STOP}), plain = SCRIPT(.codes = {0, -1, BATPAK_HANDLER_STOP});
        batpak_worker_options_t options = worker_options(&durable, "w");
        options.batch_events = 4;
        batpak_worker_t *worker = start_worker(store, &durable, &options);
        CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
        CHECK_EQUAL(durable.first[0], 4 * round);
        batpak_worker_free(worker);
        options = worker_options(&plain, NULL);
        options.batch_events = 4;
        worker = start_worker(store, &plain, &options);
        CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
        EXPECT_CALLS(&plain, 0, 4, 4);
        batpak_worker_free(worker);
        close_store(store);
        store = open_store(dir);
    }
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(W1_batches_of_64_at_most_unless_told_otherwise);
    RUN(W1_a_publication_wakes_an_idle_worker_at_once);
    RUN(W1_the_default_policy_is_one_restart_in_the_workers_life);
    RUN(W1_the_bounded_policy_has_a_fixed_window_that_starts_anew);
    RUN(W2_only_a_durable_worker_has_the_witness);
    RUN(W2_the_idempotency_key_names_checkpoint_event_and_output);
    RUN(W2_the_attempt_number_counts_deliveries);
    RUN(W2_the_handler_has_the_batch_and_the_store);
    RUN(W3_CONTINUE_persists_then_goes_on);
    RUN(W3_STOP_persists_then_ends);
    RUN(W3_STOP_WITH_ROLLBACK_persists_nothing_and_ends);
    RUN(W3_RETRY_redelivers_after_a_backoff);
    RUN(W3_RETRY_is_bounded);
    RUN(W3_FAIL_restarts_from_committed_without_reading_the_file);
    RUN(W3_any_unknown_value_is_a_failure);
    RUN(W3_set_done_commits_the_first_events);
    RUN(W3_committed_is_durable_with_a_checkpoint_id_only);
    return 0;
}
