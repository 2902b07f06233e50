/* How a worker fails: aloud, once, with nothing committed that was not persisted (W4, W5, W6). */
#include "worker.h"

static void mkdir_at(const char *path) {
    char file[PATH_MAX + 8];
    CHECK(mkdir(path, 0700) == 0);
    snprintf(file, sizeof file, "%s/file", path);
    write_file(file, "x", 1);
}

/* From the second call on the checkpoint cannot be written: a directory with something in it stands in its place. */
static void obstruct_the_file(struct script *script, batpak_delivery_t *delivery, int call) {
    (void)delivery;
    if (call == 1) {
        const char *path = checkpoint_path(script->within_data, "w");
        CHECK(access(path, F_OK) != 0 || unlink(path) == 0);
        mkdir_at(path);
    }
}

/* Whatever the second call returns that commits something. */
static void check_persist_failure(int32_t code, size_t done_plus_1) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 12);
    struct script script = SCRIPT(.codes = {0, code}, .done_plus_1 = {0, done_plus_1}, .within = obstruct_the_file,
                                  .within_data = dir);
    batpak_worker_options_t options = worker_options(&script, "w");
    options.batch_events = 4;
    batpak_worker_t *worker = start_worker(store, &script, &options);
    for (int again = 0; again < 3; again++) {
        CHECK(batpak_worker_join(worker, SOON_MS, &error) == BATPAK_E_CHECKPOINT_WRITE_FAILED);
        CHECK(strcmp(batpak_error_detail(error, "id", 2, NULL), "w") == 0);
        CHECK(strcmp(batpak_error_detail(error, "cause", 5, NULL), "BATPAK_E_IO") == 0);
        CHECK(batpak_error_os_errno(error) == EISDIR || batpak_error_os_errno(error) == ENOTEMPTY);
        batpak_error_free(error);
        error = NULL;
    }
    EXPECT_CALLS(&script, 0, 4); /* nothing was delivered after it */
    CHECK(script.failure_calls == 1 && script.failure_code == BATPAK_E_IO && strcmp(script.failure_id, "w") == 0);
    CHECK(strlen(script.failure_message) > 10 && script.budget_calls == 0);
    CHECK(worker_stats(worker).commits == 1 && worker_stats(worker).is_running == 0);
    batpak_worker_free(worker);

    /* Mended, the next worker is given what was not persisted. */
    remove_tree(checkpoint_path(dir, "w"));
    CHECK_OK(batpak_checkpoint_save(store, "w", 1, NULL, 4, &error), error);
    struct script next = SCRIPT(.codes = {BATPAK_HANDLER_STOP});
    run_worker(store, &next, "w", BATPAK_OK);
    EXPECT_CALLS(&next, 4);
    close_store(store);
    remove_dir(dir);
}

static void W4_a_checkpoint_that_cannot_be_written_ends_the_worker(void) {
    check_persist_failure(BATPAK_HANDLER_CONTINUE, 0);
}

static void W4_on_STOP_too(void) {
    check_persist_failure(BATPAK_HANDLER_STOP, 0);
}

static void W4_on_a_part_of_a_batch_too(void) {
    check_persist_failure(BATPAK_HANDLER_RETRY, 3);
    check_persist_failure(BATPAK_HANDLER_FAIL, 3);
    check_persist_failure(BATPAK_HANDLER_FAIL, 5);
}

/* The callback is optional. */
static void W4_without_a_callback(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 12);
    struct script script = SCRIPT(.codes = {0, 0}, .within = obstruct_the_file, .within_data = dir);
    batpak_worker_options_t options = worker_options(&script, "w");
    options.batch_events = 4;
    options.on_checkpoint_failure = NULL;
    batpak_worker_t *worker = start_worker(store, &script, &options);
    CHECK_STATUS(batpak_worker_join(worker, SOON_MS, &error), BATPAK_E_CHECKPOINT_WRITE_FAILED, error);
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

static void W5_an_exhausted_budget_is_told_once_and_ends_the_worker(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 12);
    struct script script = SCRIPT(.codes = {0, -1, -1, -1}, .message = "the widget is missing");
    batpak_worker_options_t options = worker_options(&script, "w");
    options.batch_events = 4;
    batpak_worker_t *worker = start_worker(store, &script, &options);
    for (int again = 0; again < 3; again++) {
        CHECK(batpak_worker_join(worker, SOON_MS, &error) == BATPAK_E_RESTART_BUDGET_EXHAUSTED);
        CHECK(strstr(batpak_error_message(error, NULL), "the widget is missing") != NULL);
        CHECK(strcmp(batpak_error_detail(error, "message", 7, NULL), "the widget is missing") == 0);
        CHECK(strcmp(batpak_error_detail(error, "restarts", 8, NULL), "1") == 0);
        batpak_error_free(error);
        error = NULL;
    }
    EXPECT_CALLS(&script, 0, 4, 4);
    CHECK(script.budget_calls == 1 && script.failure_calls == 0);
    CHECK(worker_stats(worker).failures == 2 && worker_stats(worker).restarts == 1);
    CHECK_EQUAL(saved_position(store, "w"), 3);
    batpak_worker_free(worker);

    script = (struct script)SCRIPT(.codes = {-1, -1});
    options.on_restart_budget_exhausted = NULL;
    worker = start_worker(store, &script, &options);
    CHECK(batpak_worker_join(worker, SOON_MS, &error) == BATPAK_E_RESTART_BUDGET_EXHAUSTED);
    CHECK(script.budget_calls == 0 && strlen(batpak_error_message(error, NULL)) > 10);
    batpak_error_free(error);
    error = NULL;
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

/* The message that join tells is of the last failure: what an earlier delivery said is gone. */
static void say_something_once(struct script *script, batpak_delivery_t *delivery, int call) {
    (void)script;
    if (call == 0) {
        CHECK(batpak_delivery_set_error(delivery, "of the first", 12, NULL) == BATPAK_OK);
    }
}

static void W5_the_message_is_of_the_last_failure(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 1);
    struct script script = SCRIPT(.codes = {-1, -1}, .within = say_something_once);
    batpak_worker_options_t options = worker_options(&script, NULL);
    batpak_worker_t *worker = start_worker(store, &script, &options);
    CHECK(batpak_worker_join(worker, SOON_MS, &error) == BATPAK_E_RESTART_BUDGET_EXHAUSTED);
    CHECK(strstr(batpak_error_message(error, NULL), "of the first") == NULL);
    batpak_error_free(error);
    error = NULL;
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

/* Start is fine; join tells what is wrong with the checkpoint; the handler is never called. */
static void check_start_and_join(batpak_store_t *store, const char *id, batpak_status_t expected) {
    struct script script = SCRIPT(.codes = {0});
    batpak_worker_options_t options = worker_options(&script, id);
    uint64_t start = now_us();
    batpak_worker_t *worker = start_worker(store, &script, &options);
    CHECK(now_us() - start < SOON_MS * 1000);
    for (int again = 0; again < 3; again++) {
        CHECK_STATUS(batpak_worker_join(worker, SOON_MS, &error), expected, error);
        CHECK_STATUS(batpak_worker_stop_and_join(worker, SOON_MS, &error), expected, error);
    }
    CHECK(counter_get(&script.calls) == 0 && counter_get(&script.freed) == 1);
    CHECK(script.budget_calls == 0 && script.failure_calls == 0);
    batpak_worker_free(worker);
}

static void W6_start_returns_at_once_and_join_tells_what_was_wrong(void) {
    char *dir = make_dir(), *other = make_dir(), bytes[4096];
    batpak_store_t *store = store_of(dir, 3), *elsewhere = store_of(other, 9);
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "a");
    CHECK_OK(batpak_checkpoint_save(store, "region", 6, &region, 1, &error), error);
    CHECK_OK(batpak_checkpoint_save(elsewhere, "w", 1, NULL, 9, &error), error);
    size_t n = read_file(checkpoint_path(other, "w"), bytes, sizeof bytes);
    write_file(checkpoint_path(dir, "elsewhere"), bytes, n);
    write_file(checkpoint_path(dir, "corrupt"), bytes, n - 1);
    write_file(checkpoint_path(dir, "empty"), "", 0);
    mkdir_at(checkpoint_path(dir, "directory"));
    /* The four common keys only, at position 7 of a log of 3. */
    static const char ahead[] = "\x84\xa8position\x07\xa7started\xc3\xafprocess_boot_ns\xc0\xafregion_identity"
                                "\xd9\x22"
                                "entity=*|scope=*|fact=none|clock=*";
    write_file(checkpoint_path(dir, "ahead"), ahead, sizeof ahead - 1);
    batpak_cursor_t *holder = open_cursor(store, NULL, "held");

    check_start_and_join(store, "region", BATPAK_E_CHECKPOINT_REGION_MISMATCH);
    check_start_and_join(store, "elsewhere", BATPAK_E_CHECKPOINT_STORE_MISMATCH);
    check_start_and_join(store, "corrupt", BATPAK_E_CHECKPOINT_CORRUPT);
    check_start_and_join(store, "empty", BATPAK_E_CHECKPOINT_CORRUPT);
    check_start_and_join(store, "directory", BATPAK_E_IO);
    check_start_and_join(store, "ahead", BATPAK_E_CHECKPOINT_AHEAD);
    check_start_and_join(store, "held", BATPAK_E_CHECKPOINT_IN_USE);
    close_cursor(holder);
    close_store(store);
    close_store(elsewhere);
    remove_dir(dir);
    remove_dir(other);
}

/* What it ended with stays, whatever is done to it later. */
static void W6_the_first_error_wins(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 1);
    struct script script = SCRIPT(.codes = {-1, -1}, .message = "the first");
    batpak_worker_options_t options = worker_options(&script, "w");
    batpak_worker_t *worker = start_worker(store, &script, &options);
    CHECK_STATUS(batpak_worker_join(worker, SOON_MS, &error), BATPAK_E_RESTART_BUDGET_EXHAUSTED, error);
    CHECK_OK(batpak_worker_stop(worker, &error), error);
    CHECK_STATUS(batpak_worker_stop_and_join(worker, 0, &error), BATPAK_E_RESTART_BUDGET_EXHAUSTED, error);
    close_store(store);
    batpak_status_t status = batpak_worker_join(worker, 0, &error);
    CHECK(status == BATPAK_E_RESTART_BUDGET_EXHAUSTED || status == BATPAK_E_CLOSED);
    batpak_error_free(error);
    error = NULL;
    batpak_worker_free(worker);
    remove_dir(dir);
}

/* What start itself can refuse it does, and takes nothing over. */
static void W6_bad_options_are_refused_by_start(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 1);
    struct script script = SCRIPT(.codes = {0});
    batpak_worker_t *worker = (batpak_worker_t *)&worker;
    batpak_worker_options_t options = worker_options(&script, "../w");
    options.callback_user_data_free = count_script_free;
    CHECK_STATUS(batpak_worker_start(store, NULL, &options, follow, &script, count_script_free, &worker, &error),
                 BATPAK_E_CHECKPOINT_ID_INVALID, error);
    CHECK(worker == NULL);
    options = worker_options(&script, "w");
    options.callback_user_data_free = count_script_free;
    CHECK_STATUS(batpak_worker_start(store, NULL, &options, NULL, &script, count_script_free, &worker, &error),
                 BATPAK_E_INVALID_ARGUMENT, error);
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "*");
    CHECK_STATUS(batpak_worker_start(store, &region, &options, follow, &script, count_script_free, &worker, &error),
                 BATPAK_E_COORDINATE_WILDCARD, error);
    CHECK_EQUAL(counter_get(&script.freed), 0);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(W4_a_checkpoint_that_cannot_be_written_ends_the_worker);
    RUN(W4_on_STOP_too);
    RUN(W4_on_a_part_of_a_batch_too);
    RUN(W4_without_a_callback);
    RUN(W5_an_exhausted_budget_is_told_once_and_ends_the_worker);
    RUN(W5_the_message_is_of_the_last_failure);
    RUN(W6_start_returns_at_once_and_join_tells_what_was_wrong);
    RUN(W6_the_first_error_wins);
    RUN(W6_bad_options_are_refused_by_start);
    return 0;
}
