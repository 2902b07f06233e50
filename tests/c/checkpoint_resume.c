/* Where a consumer starts: at its checkpoint, or with an error that names what is wrong, never silently elsewhere (C4); and that
 * an id is a file name within its directory and has one consumer (C5). tests/checkpoint_interop.py has the bytes of C1 and C4. */
#include "events.h"

#include <sys/file.h>

static int32_t no_handler(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)delivery, (void)events, (void)n;
    CHECK(!"the handler is not called");
    return BATPAK_HANDLER_STOP;
}

static batpak_status_t join_durable_worker(batpak_store_t *store, const char *id, batpak_error_t **err) {
    batpak_worker_options_t options;
    batpak_worker_t *worker = NULL;
    CHECK_OK(batpak_worker_options_init(&options, sizeof options, &error), error);
    options.checkpoint_id = id;
    options.checkpoint_id_len = strlen(id);
    CHECK_OK(batpak_worker_start(store, NULL, &options, no_handler, NULL, NULL, &worker, &error), error);
    batpak_status_t status = batpak_worker_join(worker, SOON_MS, err);
    batpak_worker_free(worker);
    return status;
}

/* Cursor and worker refuse with this status, again and again, the path in message and detail, and leave the file alone. */
static void refuse(const char *dir, batpak_store_t *store, const char *id, batpak_status_t expected, const char *const *details) {
    char before[4096], after[4096], path[PATH_MAX + 256], real[PATH_MAX];
    struct stat status;
    CHECK(realpath(dir, real) != NULL);
    snprintf(path, sizeof path, "%s/cursors/%s.ckpt", real, id);
    CHECK(stat(path, &status) == 0);
    size_t n = S_ISREG(status.st_mode) ? read_file(path, before, sizeof before) : 0;
    for (int attempt = 0; attempt < 4; attempt++) {
        batpak_cursor_t *cursor = (batpak_cursor_t *)&cursor;
        batpak_status_t found = attempt % 2 ? join_durable_worker(store, id, &error) : try_cursor(store, NULL, id, &cursor, &error);
        if (found != expected) {
            check_status_is(__FILE__, __LINE__, id, found, expected, &error);
        }
        CHECK(attempt % 2 || cursor == NULL);
        const char *named = batpak_error_detail(error, "path", 4, NULL);
        CHECK(named != NULL && strcmp(named, path) == 0);
        CHECK(strstr(batpak_error_message(error, NULL), path) != NULL);
        for (size_t i = 0; details != NULL && details[i] != NULL; i++) {
            const char *value = batpak_error_detail(error, details[i], strlen(details[i]), NULL);
            CHECK(value != NULL && value[0] != 0);
            CHECK(strstr(batpak_error_message(error, NULL), value) != NULL);
        }
        batpak_error_free(error);
        error = NULL;
    }
    if (n > 0) {
        CHECK(read_file(path, after, sizeof after) == n && memcmp(before, after, n) == 0);
    }
}

#define DETAILS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void C4_no_file_is_a_fresh_start(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "a", "x");
    batpak_cursor_t *cursor = open_cursor(store, NULL, "c");
    batpak_cursor_position_t position = position_of(cursor);
    CHECK(position.position == BATPAK_NO_SEQUENCE && position.committed == BATPAK_NO_SEQUENCE && position.next_sequence == 0);
    EXPECT_NEXT(cursor, 9, 0);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

static void C4_a_damaged_file_is_corrupt(void) {
    static const char *const contents[] = {"", "not a checkpoint", "\x80", "\xc0", "{\"position\":0}"};
    char *dir = make_dir(), bytes[4096];
    batpak_store_t *store = open_store(dir);
    append(store, "a", "x");
    CHECK_OK(batpak_checkpoint_save(store, "c", 1, NULL, 1, &error), error);
    size_t n = read_file(checkpoint_path(dir, "c"), bytes, sizeof bytes);
    for (size_t i = 0; i < 5; i++) {
        write_file(checkpoint_path(dir, "c"), contents[i], strlen(contents[i]));
        refuse(dir, store, "c", BATPAK_E_CHECKPOINT_CORRUPT, DETAILS("reason"));
    }
    for (size_t i = 0; i < n; i += 5) {
        bytes[i] ^= 0x10;
        write_file(checkpoint_path(dir, "c"), bytes, n);
        refuse(dir, store, "c", BATPAK_E_CHECKPOINT_CORRUPT, DETAILS("reason"));
        bytes[i] ^= 0x10;
    }
    batpak_checkpoint_t *checkpoint = NULL;
    write_file(checkpoint_path(dir, "c"), bytes, n / 2);
    CHECK_STATUS(batpak_checkpoint_load(store, "c", 1, &checkpoint, &error), BATPAK_E_CHECKPOINT_CORRUPT, error);
    write_file(checkpoint_path(dir, "c"), bytes, n);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "c");
    EXPECT_EMPTY(cursor);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

static void C4_another_region_is_a_mismatch(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "a");
    append(store, "a", "x");
    CHECK_OK(batpak_checkpoint_save(store, "c", 1, &region, 1, &error), error);
    refuse(dir, store, "c", BATPAK_E_CHECKPOINT_REGION_MISMATCH, NULL);
    batpak_cursor_t *cursor = NULL;
    CHECK(try_cursor(store, NULL, "c", &cursor, &error) == BATPAK_E_CHECKPOINT_REGION_MISMATCH);
    CHECK(strcmp(batpak_error_detail(error, "stored", 6, NULL), "entity=a|scope=*|fact=none|clock=*|match=exact") == 0);
    CHECK(strcmp(batpak_error_detail(error, "expected", 8, NULL), "entity=*|scope=*|fact=none|clock=*") == 0);
    batpak_error_free(error);
    error = NULL;
    region.entity_match = BATPAK_ENTITY_PREFIX;
    CHECK_STATUS(try_cursor(store, &region, "c", &cursor, &error), BATPAK_E_CHECKPOINT_REGION_MISMATCH, error);
    close_store(store);
    remove_dir(dir);
}

static void C4_another_store_is_a_mismatch(void) {
    char *dir = make_dir(), *other = make_dir(), bytes[4096];
    batpak_store_t *store = open_store(dir), *from = open_store(other);
    append(store, "a", "x");
    append(from, "a", "x");
    CHECK_OK(batpak_checkpoint_save(from, "c", 1, NULL, 1, &error), error);
    CHECK_OK(batpak_checkpoint_save(store, "c", 1, NULL, 0, &error), error);
    size_t n = read_file(checkpoint_path(other, "c"), bytes, sizeof bytes);
    write_file(checkpoint_path(dir, "c"), bytes, n);
    refuse(dir, store, "c", BATPAK_E_CHECKPOINT_STORE_MISMATCH, DETAILS("found", "expected"));
    close_store(store);
    close_store(from);
    remove_dir(dir);
    remove_dir(other);
}

/* A copy is made, the original goes on; then the copy is put back, with the checkpoint of the original. */
static void C4_a_restored_copy_is_ahead_or_diverged_and_nothing_is_skipped(void) {
    char *dir = make_dir(), *copy = make_dir(), bytes[4096];
    batpak_store_t *store = open_store(dir);
    for (int i = 0; i < 3; i++) {
        append(store, "a", "before");
    }
    CHECK_OK(batpak_checkpoint_save(store, "c", 1, NULL, 3, &error), error);
    close_store(store);
    copy_tree(dir, copy);
    store = open_store(dir);
    for (int i = 0; i < 3; i++) {
        append(store, "a", "one way");
    }
    batpak_cursor_t *cursor = open_cursor(store, NULL, "c");
    EXPECT_NEXT(cursor, 9, 3, 4, 5);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    close_cursor(cursor);
    close_store(store);
    size_t n = read_file(checkpoint_path(dir, "c"), bytes, sizeof bytes);
    write_file(checkpoint_path(copy, "c"), bytes, n);

    store = open_store(copy);
    refuse(copy, store, "c", BATPAK_E_CHECKPOINT_AHEAD, DETAILS("position", "end"));
    append(store, "a", "another way");
    append(store, "a", "another way");
    refuse(copy, store, "c", BATPAK_E_CHECKPOINT_AHEAD, DETAILS("position", "end"));
    append(store, "a", "another way");
    refuse(copy, store, "c", BATPAK_E_CHECKPOINT_DIVERGED, DETAILS("position", "stored", "found"));
    append(store, "a", "another way");
    refuse(copy, store, "c", BATPAK_E_CHECKPOINT_DIVERGED, DETAILS("position", "stored", "found"));
    CHECK_OK(batpak_checkpoint_delete(store, "c", 1, &error), error);
    cursor = open_cursor(store, NULL, "c");
    expect_run(cursor, 0, 6);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
    remove_dir(copy);
}

static void C4_any_other_failure_to_read_is_io(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "a", "x");
    CHECK_OK(batpak_checkpoint_save(store, "other", 5, NULL, 0, &error), error);
    CHECK(mkdir(checkpoint_path(dir, "c"), 0700) == 0);
    refuse(dir, store, "c", BATPAK_E_IO, NULL);
    CHECK(rmdir(checkpoint_path(dir, "c")) == 0 && mkfifo(checkpoint_path(dir, "c"), 0600) == 0);
    refuse(dir, store, "c", BATPAK_E_IO, NULL);
    CHECK(unlink(checkpoint_path(dir, "c")) == 0 && symlink("c.ckpt", checkpoint_path(dir, "c")) == 0);
    batpak_cursor_t *cursor = NULL;
    CHECK(try_cursor(store, NULL, "c", &cursor, &error) == BATPAK_E_IO && batpak_error_os_errno(error) == ELOOP);
    batpak_error_free(error);
    error = NULL;
    close_store(store);
    remove_dir(dir);
}

/* ---- C5 ------------------------------------------------------------------------------------------------------------- */

static void check_id(batpak_store_t *store, const char *id, size_t len, batpak_status_t expected) {
    batpak_cursor_options_t options;
    batpak_worker_options_t worker_options;
    batpak_cursor_t *cursor = NULL;
    batpak_worker_t *worker = NULL;
    batpak_checkpoint_t *checkpoint = NULL;
    CHECK_OK(batpak_cursor_options_init(&options, sizeof options, &error), error);
    options.checkpoint_id = id;
    options.checkpoint_id_len = len;
    CHECK_STATUS(batpak_cursor_open(store, NULL, &options, &cursor, &error), expected, error);
    batpak_cursor_free(cursor);
    CHECK_STATUS(batpak_checkpoint_save(store, id, len, NULL, 1, &error), expected, error);
    CHECK_STATUS(batpak_checkpoint_load(store, id, len, &checkpoint, &error), expected, error);
    batpak_checkpoint_free(checkpoint);
    CHECK_STATUS(batpak_checkpoint_delete(store, id, len, &error), expected, error);
    if (expected != BATPAK_OK) {
        CHECK_OK(batpak_worker_options_init(&worker_options, sizeof worker_options, &error), error);
        worker_options.checkpoint_id = id;
        worker_options.checkpoint_id_len = len;
        CHECK_STATUS(batpak_worker_start(store, NULL, &worker_options, no_handler, NULL, NULL, &worker, &error), expected, error);
    }
}

static void C5_ids_cannot_leave_the_directory(void) {
    static const char *const bad[] = {"../x", "..", ".", ".hidden", "a/b", "/etc/x", "a\\b", "a b", "a\n", "\xc3\xa4", "a*", "a?", "~"};
    static const char *const good[] = {"a", "A.b_c:d-9", "-", "_", ":", "0", "a..b", "con"};
    char *dir = make_dir(), text[202];
    batpak_store_t *store = open_store(dir);
    append(store, "a", "x");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_id(store, bad[i], strlen(bad[i]), BATPAK_E_CHECKPOINT_ID_INVALID);
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        check_id(store, good[i], strlen(good[i]), BATPAK_OK);
    }
    check_id(store, "a\0b", 3, BATPAK_E_CHECKPOINT_ID_INVALID);
    check_id(store, "", 0, BATPAK_E_CHECKPOINT_ID_INVALID);
    memset(text, 'i', sizeof text);
    check_id(store, text, 200, BATPAK_OK);
    check_id(store, text, 201, BATPAK_E_CHECKPOINT_ID_INVALID);
    batpak_checkpoint_list_t *list = NULL;
    CHECK_OK(batpak_checkpoint_list(store, &list, &error), error);
    CHECK_EQUAL(batpak_checkpoint_list_count(list), 0);
    batpak_checkpoint_list_free(list);
    close_store(store);
    remove_dir(dir);
}

struct held {
    struct counter delivered;
    struct counter released;
};

static int32_t hold(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    struct held *held = user_data;
    (void)delivery, (void)events, (void)n;
    counter_add(&held->delivered, 1);
    counter_wait(&held->released, 1);
    return BATPAK_HANDLER_STOP;
}

/* While a consumer lives, a second one is refused, and so is every call that changes its checkpoint under it. */
static void check_in_use(batpak_store_t *store, const char *id) {
    batpak_cursor_t *cursor = NULL;
    for (int i = 0; i < 2; i++) {
        CHECK(try_cursor(store, NULL, id, &cursor, &error) == BATPAK_E_CHECKPOINT_IN_USE && cursor == NULL);
        CHECK(strcmp(batpak_error_detail(error, "id", 2, NULL), id) == 0 && batpak_error_is_retryable(error) == 1);
        batpak_error_free(error);
        error = NULL;
    }
    CHECK_STATUS(join_durable_worker(store, id, &error), BATPAK_E_CHECKPOINT_IN_USE, error);
    CHECK_STATUS(batpak_checkpoint_save(store, id, strlen(id), NULL, 0, &error), BATPAK_E_CHECKPOINT_IN_USE, error);
    if (is_saved(store, id)) {
        CHECK_STATUS(batpak_checkpoint_delete(store, id, strlen(id), &error), BATPAK_E_CHECKPOINT_IN_USE, error);
    }
}

static void C5_one_live_consumer_per_id_in_this_process(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "a", "x");
    batpak_cursor_t *cursor = open_cursor(store, NULL, "c"), *other = open_cursor(store, NULL, "d");
    check_in_use(store, "c");
    EXPECT_NEXT(cursor, 9, 0);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    check_in_use(store, "c");
    close_cursor(other);

    CHECK_OK(batpak_cursor_close(cursor, &error), error); /* free from here on, though the handle is still there */
    CHECK_OK(batpak_checkpoint_delete(store, "c", 1, &error), error);
    batpak_cursor_free(cursor);
    cursor = open_cursor(store, NULL, "c");
    batpak_cursor_free(cursor); /* or freed without a close */

    struct held held = {COUNTER, COUNTER};
    batpak_worker_options_t options;
    batpak_worker_t *worker = NULL;
    CHECK_OK(batpak_worker_options_init(&options, sizeof options, &error), error);
    options.checkpoint_id = "c";
    options.checkpoint_id_len = 1;
    CHECK_OK(batpak_worker_start(store, NULL, &options, hold, &held, NULL, &worker, &error), error);
    counter_wait(&held.delivered, 1);
    check_in_use(store, "c");
    counter_add(&held.released, 1);
    CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
    cursor = open_cursor(store, NULL, "c");
    EXPECT_EMPTY(cursor);
    batpak_worker_free(worker);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

static batpak_store_t *open_for_reading(const char *dir) {
    batpak_store_options_t options;
    batpak_store_t *store = NULL;
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.flags = BATPAK_STORE_READ_ONLY;
    CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
    return store;
}

struct reader {
    const char *dir;
    int ready[2], release[2];
};

/* Reads under the id "c" in a process of its own, until it is told to die. */
static void read_and_hold(void *argument) {
    struct reader *reader = argument;
    char byte = 1;
    batpak_store_t *store = open_for_reading(reader->dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "c");
    EXPECT_NEXT(cursor, 9, 0);
    CHECK(write(reader->ready[1], &byte, 1) == 1);
    CHECK(read(reader->release[0], &byte, 1) == 1);
    raise(SIGKILL);
}

static void *run_reader(void *argument) {
    int status = run_process(read_and_hold, argument);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return NULL;
}

static void C5_one_live_consumer_per_id_in_another_process(void) {
    char *dir = make_dir(), byte = 1;
    batpak_cursor_t *cursor = NULL;
    batpak_store_t *store = open_store(dir);
    append(store, "a", "x");
    CHECK_OK(batpak_checkpoint_save(store, "c", 1, NULL, 0, &error), error);
    close_store(store);
    struct reader reader = {.dir = dir};
    CHECK(pipe(reader.ready) == 0 && pipe(reader.release) == 0);
    pthread_t thread = start_thread(run_reader, &reader);
    CHECK(read(reader.ready[0], &byte, 1) == 1);
    store = open_for_reading(dir);
    CHECK_STATUS(try_cursor(store, NULL, "c", &cursor, &error), BATPAK_E_CHECKPOINT_IN_USE, error);
    CHECK_OK(try_cursor(store, NULL, "d", &cursor, &error), error);
    batpak_cursor_free(cursor);
    CHECK(write(reader.release[1], &byte, 1) == 1); /* it dies, and with it its hold */
    join_thread(thread);
    cursor = open_cursor(store, NULL, "c");
    EXPECT_NEXT(cursor, 9, 0);
    close_cursor(cursor);
    close_store(store);

    /* The lock is flock's on a file beside the checkpoint, so that any program can take part. */
    char lock[PATH_MAX];
    snprintf(lock, sizeof lock, "%s/cursors/.c.lock", dir);
    int fd = open(lock, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
    store = open_store(dir);
    check_in_use(store, "c");
    CHECK(close(fd) == 0);
    cursor = open_cursor(store, NULL, "c");
    fd = open(lock, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK);
    close_cursor(cursor);
    CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0 && close(fd) == 0);
    close_store(store);
    for (int i = 0; i < 2; i++) {
        close(reader.ready[i]);
        close(reader.release[i]);
    }
    remove_dir(dir);
}

/* A lock on a removed file would exclude nobody: whoever opened it before, and whoever makes it anew, would both hold one. */
static void C5_the_lock_file_is_never_unlinked(void) {
    char *dir = make_dir(), lock[PATH_MAX];
    struct stat first, later;
    batpak_store_t *store = open_store(dir);
    append(store, "a", "x");
    snprintf(lock, sizeof lock, "%s/cursors/.c.lock", dir);
    close_cursor(open_cursor(store, NULL, "c"));
    CHECK(stat(lock, &first) == 0);
    for (int i = 0; i < 3; i++) {
        batpak_cursor_t *cursor = open_cursor(store, NULL, "c");
        EXPECT_NEXT(cursor, 9, 0);
        CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
        close_cursor(cursor);
        CHECK_OK(batpak_checkpoint_delete(store, "c", 1, &error), error);
        close_store(store);
        store = open_store(dir);
        CHECK(stat(lock, &later) == 0 && later.st_ino == first.st_ino);
    }
    close_store(store);
    remove_dir(dir);
}

/* A child that lives on must not keep what its parent let go of. */
static void C5_a_forked_child_keeps_no_lock(void) {
    char *dir = make_dir(), byte = 1;
    int release[2];
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "c");
    CHECK(pipe(release) == 0);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        batpak_batch_t *batch = NULL;
        CHECK(batpak_cursor_poll(cursor, 1, 0, 0, &batch, NULL) == BATPAK_E_FORKED);
        CHECK(read(release[0], &byte, 1) == 1);
        end_forked();
    }
    close_cursor(cursor);
    close_cursor(open_cursor(store, NULL, "c"));
    close_store(store);
    store = open_store(dir);
    close_cursor(open_cursor(store, NULL, "c"));
    close_store(store);
    int status = 0;
    CHECK(write(release[1], &byte, 1) == 1);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(release[0]);
    close(release[1]);
    remove_dir(dir);
}

int main(void) {
    RUN(C4_no_file_is_a_fresh_start);
    RUN(C4_a_damaged_file_is_corrupt);
    RUN(C4_another_region_is_a_mismatch);
    RUN(C4_another_store_is_a_mismatch);
    RUN(C4_a_restored_copy_is_ahead_or_diverged_and_nothing_is_skipped);
    RUN(C4_any_other_failure_to_read_is_io);
    RUN(C5_ids_cannot_leave_the_directory);
    RUN(C5_one_live_consumer_per_id_in_this_process);
    RUN(C5_one_live_consumer_per_id_in_another_process);
    RUN(C5_the_lock_file_is_never_unlinked);
    RUN(C5_a_forked_child_keeps_no_lock);
    return 0;
}
