/* After fork a child's calls are refused before any lock is touched, its frees forget, what is plain memory stays
 * readable, and the parent notices nothing. The parent's other thread keeps the store busy while it forks. */
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>

static batpak_store_t *store;
static batpak_cursor_t *cursor;
static batpak_worker_t *worker;
static batpak_batch_t *batch;
static batpak_error_t *kept;
static int stop, freed;

static void count_free(void *user_data) {
    ++*(int *)user_data;
}

static int32_t go_on(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)delivery, (void)events, (void)n;
    return BATPAK_HANDLER_CONTINUE;
}

static void *append_all_the_time(void *unused) {
    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        CHECK(batpak_store_append_one(store, "e", 1, "s", 1, 0x1001, "payload", 7, NULL, NULL) == BATPAK_OK);
    }
    return NULL;
}

static void in_the_child(const char *dir) {
    batpak_error_t *error = NULL;
    batpak_store_t *own = NULL;
    batpak_cursor_t *other = NULL;
    batpak_batch_t *none = NULL;
    batpak_gap_list_t *gaps = NULL;
    batpak_watermarks_t marks;
    uint64_t number;
    int32_t fd;
    size_t n = 0;
    CHECK_STATUS(batpak_store_append_one(store, "e", 1, "s", 1, 0x1001, "", 0, NULL, &error), BATPAK_E_FORKED, error);
    CHECK_STATUS(batpak_store_sync(store, &error), BATPAK_E_FORKED, error);
    CHECK_STATUS(batpak_store_watermarks(store, &marks, &error), BATPAK_E_FORKED, error);
    CHECK_STATUS(batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, 0, 0, &error), BATPAK_E_FORKED, error);
    CHECK_STATUS(batpak_store_durable_fd(store, &fd, &error), BATPAK_E_FORKED, error);
    CHECK_STATUS(batpak_store_close(store, -1, &error), BATPAK_E_FORKED, error);
    CHECK_STATUS(batpak_cursor_open(store, NULL, NULL, &other, &error), BATPAK_E_FORKED, error);
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 0, &none, &error), BATPAK_E_FORKED, error);
    CHECK_STATUS(batpak_cursor_lag(cursor, &number, &error), BATPAK_E_FORKED, error);
    CHECK_STATUS(batpak_cursor_take_gaps(cursor, &gaps, &error), BATPAK_E_FORKED, error);
    CHECK_STATUS(batpak_cursor_interrupt(cursor, &error), BATPAK_E_FORKED, error);
    CHECK_STATUS(batpak_cursor_close(cursor, &error), BATPAK_E_FORKED, error);
    CHECK_STATUS(batpak_worker_stop_and_join(worker, -1, &error), BATPAK_E_FORKED, error);
    CHECK(batpak_batch_events(batch, &n)->sequence == 0 && n == 1);
    CHECK(batpak_error_code(kept) == BATPAK_E_COORDINATE_EMPTY);
    batpak_error_free(kept);
    batpak_batch_free(batch);
    batpak_worker_free(worker);
    batpak_cursor_free(cursor);
    batpak_store_free(store);
    CHECK(freed == 0);
    CHECK_OK(batpak_store_open_z(dir, NULL, &own, &error), error);
    CHECK_OK(batpak_store_append_one(own, "e", 1, "s", 1, 0x1001, "", 0, NULL, &error), error);
    CHECK_OK(batpak_store_close(own, -1, &error), error);
    batpak_store_free(own);
}

int main(void) {
#ifdef __SANITIZE_ADDRESS__
    /* Its allocator may be locked by another thread at the fork, and then hangs the child; the C library's may not. */
    puts("SKIPPED: the address sanitizer cannot fork beside threads");
    return 0;
#endif
    char *dir = make_dir();
    batpak_error_t *error = NULL;
    batpak_store_options_t options;
    batpak_worker_options_t worker_options;
    pthread_t thread;

    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.durability = BATPAK_DURABILITY_PROCESS;
    CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
    CHECK_OK(batpak_store_append_one(store, "e", 1, "s", 1, 0x1001, "", 0, NULL, &error), error);
    CHECK_OK(batpak_cursor_open(store, NULL, NULL, &cursor, &error), error);
    CHECK_OK(batpak_cursor_poll(cursor, 1, 0, 0, &batch, &error), error);
    CHECK(batpak_store_append_one(store, "", 0, "s", 1, 0x1001, "", 0, NULL, &kept) < 0);
    CHECK_OK(batpak_worker_options_init(&worker_options, sizeof worker_options, &error), error);
    CHECK_OK(batpak_worker_start(store, NULL, &worker_options, go_on, &freed, count_free, &worker, &error), error);
    CHECK(pthread_create(&thread, NULL, append_all_the_time, NULL) == 0);

    for (int i = 0; i < 20; i++) {
        char *own = make_dir();
        int status = -1;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            in_the_child(own);
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(status == 0);
        remove_dir(own);
    }

    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    CHECK_OK(batpak_worker_stop_and_join(worker, -1, &error), error);
    CHECK(freed == 1);
    CHECK_OK(batpak_store_close(store, -1, &error), error);
    batpak_error_free(kept);
    batpak_batch_free(batch);
    batpak_worker_free(worker);
    batpak_cursor_free(cursor);
    batpak_store_free(store);
    remove_dir(dir);
    return 0;
}
