/* batpak_store_wait and batpak_store_durable_fd: every sentence of the header. wait_stress.c looks for lost wake-ups. */
#include "disk.h"

#include <poll.h>

#define VISIBLE BATPAK_WATERMARK_VISIBLE
#define DURABLE BATPAK_WATERMARK_DURABLE

static int is_readable(int fd, int timeout_ms) {
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    return poll(&entry, 1, timeout_ms) == 1;
}

static int32_t durable_fd(batpak_store_t *store) {
    int32_t fd = -1;
    CHECK_OK(batpak_store_durable_fd(store, &fd, &error), error);
    return fd;
}

/* A wait on a thread of its own, and what came of it. */
struct waiting {
    batpak_store_t *store;
    uint32_t watermark;
    uint64_t bound;
    int64_t timeout_ms;
    atomic_int thread;
    atomic_int is_over;
    batpak_status_t status;
};

static void *wait_once(void *argument) {
    struct waiting *waiting = argument;
    atomic_store(&waiting->thread, thread_number());
    waiting->status = batpak_store_wait(waiting->store, waiting->watermark, waiting->bound, waiting->timeout_ms, NULL);
    atomic_store(&waiting->is_over, 1);
    return NULL;
}

/* Starts a wait and looks on until it sleeps. */
static pthread_t start_waiting(struct waiting *waiting, batpak_store_t *store, uint32_t watermark, uint64_t bound,
                               int64_t timeout_ms) {
    *waiting = (struct waiting){.store = store, .watermark = watermark, .bound = bound, .timeout_ms = timeout_ms};
    pthread_t thread = start_thread(wait_once, waiting);
    while (atomic_load(&waiting->thread) == 0) {
        sched_yield();
    }
    wait_until_asleep(atomic_load(&waiting->thread));
    return thread;
}

/* How often a thread of this process went to sleep by itself. */
static uint64_t sleeps_of(int32_t thread) {
    char path[64], line[256];
    uint64_t sleeps = UINT64_MAX;
    snprintf(path, sizeof path, "/proc/self/task/%d/status", thread);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        sscanf(line, "voluntary_ctxt_switches: %" SCNu64, &sleeps);
    }
    fclose(file);
    CHECK(sleeps != UINT64_MAX);
    return sleeps;
}

static batpak_store_t *open_process_store(const char *dir) {
    return open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
}

static void *append_durably(void *store) {
    batpak_append_options_t options = durably(BATPAK_DURABILITY_STORAGE);
    batpak_append_t item = item_of("durable", "x");
    batpak_store_append(store, &item, 1, &options, NULL, NULL);
    return NULL;
}

/* ---- visible --------------------------------------------------------------------------------------------------------- */

static void a_mark_that_is_there_is_not_waited_for(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "a", "x");
    for (uint32_t watermark = VISIBLE; watermark <= DURABLE; watermark++) {
        for (uint64_t bound = 0; bound <= 1; bound++) {
            CHECK_OK(batpak_store_wait(store, watermark, bound, 0, &error), error);
            CHECK_OK(batpak_store_wait(store, watermark, bound, 1, &error), error);
            CHECK_OK(batpak_store_wait(store, watermark, bound, -1, &error), error);
        }
    }
    close_store(store);
    remove_dir(dir);
}

static void a_wait_for_visible_ends_when_all_below_the_bound_is(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_process_store(dir);
    struct waiting waiting;
    pthread_t thread = start_waiting(&waiting, store, VISIBLE, 3, -1);
    append(store, "a", "x");
    append(store, "a", "x");
    usleep(20000);
    CHECK(!atomic_load(&waiting.is_over));
    append(store, "a", "x");
    join_thread(thread);
    CHECK_EQUAL(waiting.status, BATPAK_OK);
    close_store(store);
    remove_dir(dir);
}

/* A STORAGE event that is not durable holds the mark back; waiting for visible forces nothing. */
static void visible_is_held_back_and_not_forced(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_process_store(dir);
    struct waiting waiting;
    append(store, "a", "x");
    CHECK_OK(batpak_store_wait(store, VISIBLE, 1, 0, &error), error);
    CHECK_EQUAL(marks_of(store).durable, 0);
    disk_set(1, 0);
    pthread_t storage = start_thread(append_durably, store);
    disk_wait_for_sync();
    append(store, "a", "x");
    CHECK(marks_of(store).appended == 3 && marks_of(store).visible == 1);
    CHECK_STATUS(batpak_store_wait(store, VISIBLE, 2, 0, &error), BATPAK_TIMEOUT, error);
    CHECK_STATUS(batpak_store_wait(store, VISIBLE, 3, 5, &error), BATPAK_TIMEOUT, error);
    pthread_t thread = start_waiting(&waiting, store, VISIBLE, 3, -1);
    disk_set(0, 0);
    join_thread(thread);
    join_thread(storage);
    CHECK_EQUAL(waiting.status, BATPAK_OK);
    close_store(store);
    remove_dir(dir);
}

static void a_wait_ends_at_its_timeout_and_not_before(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "a", "x");
    for (uint32_t watermark = VISIBLE; watermark <= DURABLE; watermark++) {
        for (int64_t timeout = 1; timeout <= 100; timeout *= 10) {
            uint64_t start = now_us();
            CHECK_STATUS(batpak_store_wait(store, watermark, 2, timeout, &error), BATPAK_TIMEOUT, error);
            CHECK(now_us() - start >= (uint64_t)timeout * 1000);
        }
    }
    close_store(store);
    remove_dir(dir);
}

/* Nobody is woken but those whose bound is reached. */
static void a_waiter_is_woken_once(void) {
    enum { WAITERS = 8, EACH = 50 };
    char *dir = make_dir();
    batpak_store_t *store = open_process_store(dir);
    struct waiting waiting[WAITERS];
    pthread_t threads[WAITERS];
    uint64_t before[WAITERS];
    for (uint64_t i = 0; i < WAITERS; i++) {
        threads[i] = start_waiting(&waiting[i], store, i % 2 ? VISIBLE : DURABLE, (i + 1) * EACH, -1);
        before[i] = sleeps_of(atomic_load(&waiting[i].thread));
    }
    for (uint64_t i = 0; i < WAITERS; i++) {
        for (int event = 0; event < EACH - 1; event++) {
            append(store, "a", "x");
        }
        for (uint64_t later = i; later < WAITERS; later++) {
            CHECK_EQUAL(sleeps_of(atomic_load(&waiting[later].thread)), before[later]);
        }
        append(store, "a", "x");
        join_thread(threads[i]);
        CHECK_EQUAL(waiting[i].status, BATPAK_OK);
    }
    close_store(store);
    remove_dir(dir);
}

/* ---- durable ---------------------------------------------------------------------------------------------------------- */

/* Regression 15: nobody else syncs, and the wait does not time out. */
static void a_wait_for_durable_forces_a_sync_of_an_idle_store(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_process_store(dir);
    static const int64_t timeouts[] = {1, SOON_MS, -1};
    for (uint64_t i = 0; i < 3; i++) {
        append(store, "a", "x");
        CHECK_EQUAL(marks_of(store).durable, i);
        CHECK_OK(batpak_store_wait(store, DURABLE, i + 1, timeouts[i], &error), error);
        CHECK_EQUAL(marks_of(store).durable, i + 1);
    }
    close_store(store);
    remove_dir(dir);
}

static void a_bound_beyond_what_is_appended_is_synced_once_it_is(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_process_store(dir);
    struct waiting waiting;
    append(store, "a", "first of its opening");
    pthread_t thread = start_waiting(&waiting, store, DURABLE, 4, -1);
    int before = disk_syncs();
    append(store, "a", "x");
    append(store, "a", "x");
    usleep(20000);
    CHECK(!atomic_load(&waiting.is_over) && disk_syncs() == before && marks_of(store).durable == 0);
    append(store, "a", "x");
    join_thread(thread);
    CHECK(waiting.status == BATPAK_OK && disk_syncs() == before + 1 && marks_of(store).durable == 4);
    /* So it is when the append syncs by itself. */
    thread = start_waiting(&waiting, store, DURABLE, 5, -1);
    append_durably(store);
    join_thread(thread);
    CHECK_EQUAL(waiting.status, BATPAK_OK);
    close_store(store);
    remove_dir(dir);
}

/* Eight waits come while a sync is under way: one more sync serves them all. */
static void waits_for_durable_share_a_sync(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_process_store(dir);
    struct waiting first, others[8];
    pthread_t threads[8];
    append(store, "a", "x");
    disk_set(1, 0);
    pthread_t thread = start_waiting(&first, store, DURABLE, 1, -1);
    disk_wait_for_sync();
    for (uint64_t i = 0; i < 8; i++) {
        append(store, "a", "x");
        threads[i] = start_waiting(&others[i], store, DURABLE, i + 2, -1);
    }
    CHECK_EQUAL(disk_syncs(), 1);
    disk_set(0, 0);
    join_thread(thread);
    for (int i = 0; i < 8; i++) {
        join_thread(threads[i]);
        CHECK_EQUAL(others[i].status, BATPAK_OK);
    }
    CHECK(disk_syncs() == 2 && marks_of(store).durable == 9);
    close_store(store);
    remove_dir(dir);
}

static void waiting_for_the_sync_of_another_ends_at_the_timeout(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_process_store(dir);
    struct waiting leader;
    append(store, "a", "x");
    disk_set(1, 0);
    pthread_t thread = start_waiting(&leader, store, DURABLE, 1, 1);
    disk_wait_for_sync();
    for (int64_t timeout = 1; timeout <= 100; timeout *= 10) {
        uint64_t start = now_us();
        CHECK_STATUS(batpak_store_wait(store, DURABLE, 1, timeout, &error), BATPAK_TIMEOUT, error);
        CHECK(now_us() - start >= (uint64_t)timeout * 1000);
    }
    /* Its own sync a wait sees through, although its timeout has passed. */
    CHECK(!atomic_load(&leader.is_over));
    disk_set(0, 0);
    join_thread(thread);
    CHECK_EQUAL(leader.status, BATPAK_OK);
    CHECK_OK(batpak_store_wait(store, DURABLE, 1, 0, &error), error);
    close_store(store);
    remove_dir(dir);
}

/* ---- without blocking ------------------------------------------------------------------------------------------------- */

static void a_look_has_the_sync_made_in_the_background(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_process_store(dir);
    append(store, "a", "x");
    int32_t fd = durable_fd(store);
    disk_set(1, 0);
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 1, 0, &error), BATPAK_TIMEOUT, error);
    disk_wait_for_sync();
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 1, 0, &error), BATPAK_TIMEOUT, error);
    CHECK(!is_readable(fd, 20));
    disk_set(0, 0);
    CHECK(is_readable(fd, SOON_MS));
    CHECK_OK(batpak_store_wait(store, DURABLE, 1, 0, &error), error);
    close_store(store);
    remove_dir(dir);
}

static void a_look_beyond_what_is_appended_has_it_synced_once_it_is(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_process_store(dir);
    append(store, "a", "first of its opening");
    int32_t fd = durable_fd(store);
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 9, 0, &error), BATPAK_TIMEOUT, error);
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 3, 0, &error), BATPAK_TIMEOUT, error);
    append(store, "a", "x");
    CHECK(!is_readable(fd, 20) && marks_of(store).durable == 0);
    append(store, "a", "x");
    CHECK(is_readable(fd, SOON_MS));
    CHECK_OK(batpak_store_wait(store, DURABLE, 3, 0, &error), error);
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 9, 0, &error), BATPAK_TIMEOUT, error);
    append_many(store, "a", 6, 1);
    CHECK(is_readable(fd, SOON_MS));
    CHECK_OK(batpak_store_wait(store, DURABLE, 9, 0, &error), error);
    close_store(store);
    remove_dir(dir);
}

static void without_a_helper_thread_a_look_only_looks(void) {
    char *dir = make_dir();
    batpak_store_options_t options;
    batpak_store_t *store = NULL;
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.durability = BATPAK_DURABILITY_PROCESS;
    options.flags = BATPAK_STORE_NO_HELPER_THREAD;
    CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
    append(store, "a", "x");
    int before = disk_syncs();
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 1, 0, &error), BATPAK_TIMEOUT, error);
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 2, 0, &error), BATPAK_TIMEOUT, error);
    append(store, "a", "x");
    usleep(20000);
    CHECK(disk_syncs() == before && marks_of(store).durable == 0);
    CHECK_OK(batpak_store_wait(store, DURABLE, 2, 1, &error), error);
    close_store(store);
    remove_dir(dir);
}

static void the_descriptor_is_cleared_by_a_look_that_fails_only(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_process_store(dir);
    int32_t fd = durable_fd(store);
    CHECK(fd == durable_fd(store) && fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(is_readable(fd, 0));
    CHECK_OK(batpak_store_wait(store, DURABLE, 0, 0, &error), error);
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 1, 1, &error), BATPAK_TIMEOUT, error);
    CHECK_STATUS(batpak_store_wait(store, VISIBLE, 1, 0, &error), BATPAK_TIMEOUT, error);
    CHECK(is_readable(fd, 0));
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 3, 0, &error), BATPAK_TIMEOUT, error);
    CHECK(!is_readable(fd, 0));
    append(store, "a", "x");
    CHECK(!is_readable(fd, 0));
    CHECK_OK(batpak_store_sync(store, &error), error);
    CHECK(is_readable(fd, 0));
    CHECK_OK(batpak_store_wait(store, DURABLE, 1, 0, &error), error);
    CHECK_OK(batpak_store_wait(store, DURABLE, 1, -1, &error), error);
    CHECK(is_readable(fd, 0));
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 3, 0, &error), BATPAK_TIMEOUT, error);
    CHECK(!is_readable(fd, 0));
    append_durably(store);
    CHECK(is_readable(fd, 0));
    close_store(store);
    remove_dir(dir);
}

/* ---- endings ---------------------------------------------------------------------------------------------------------- */

static void closing_wakes_all(void) {
    for (int round = 0; round < 10; round++) {
        char *dir = make_dir();
        batpak_store_t *store = open_process_store(dir);
        struct waiting waiting[4];
        pthread_t threads[4];
        int32_t fd = durable_fd(store);
        append(store, "a", "x");
        CHECK_STATUS(batpak_store_wait(store, DURABLE, 9, 0, &error), BATPAK_TIMEOUT, error);
        for (int i = 0; i < 4; i++) {
            threads[i] = start_waiting(&waiting[i], store, i % 2 ? VISIBLE : DURABLE, 2, i < 2 ? -1 : SOON_MS);
        }
        CHECK_OK(batpak_store_close(store, SOON_MS, &error), error);
        for (int i = 0; i < 4; i++) {
            join_thread(threads[i]);
            CHECK_EQUAL(waiting[i].status, BATPAK_E_CLOSED);
        }
        CHECK(is_readable(fd, 0));
        CHECK_STATUS(batpak_store_wait(store, DURABLE, 0, 0, &error), BATPAK_E_CLOSED, error);
        batpak_store_free(store);
        remove_dir(dir);
    }
}

/* A handler that waits for what never comes does not hold a close up. */
static int32_t wait_in_handler(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    struct waiting *waiting = user_data;
    (void)events, (void)n;
    waiting->store = batpak_delivery_store(delivery);
    wait_once(waiting);
    return BATPAK_HANDLER_CONTINUE;
}

static void closing_ends_the_wait_of_a_handler(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_process_store(dir);
    batpak_worker_t *worker = NULL;
    struct waiting waiting = {.watermark = VISIBLE, .bound = 9, .timeout_ms = -1};
    append(store, "a", "x");
    CHECK_OK(batpak_worker_start(store, NULL, NULL, wait_in_handler, &waiting, NULL, &worker, &error), error);
    while (atomic_load(&waiting.thread) == 0) {
        sched_yield();
    }
    wait_until_asleep(atomic_load(&waiting.thread));
    CHECK_OK(batpak_store_close(store, SOON_MS, &error), error);
    CHECK_EQUAL(waiting.status, BATPAK_E_CLOSED);
    batpak_worker_free(worker);
    batpak_store_free(store);
    remove_dir(dir);
}

/* Nothing becomes visible or durable any more: nobody waits for it. */
static void a_failed_sync_wakes_all(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_process_store(dir);
    struct waiting waiting[4];
    pthread_t threads[4];
    int32_t fd = durable_fd(store);
    append(store, "a", "x");
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 9, 0, &error), BATPAK_TIMEOUT, error);
    for (int i = 0; i < 4; i++) {
        threads[i] = start_waiting(&waiting[i], store, i % 2 ? VISIBLE : DURABLE, 9, i < 2 ? -1 : SOON_MS);
    }
    disk_set(0, 1);
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 1, -1, &error), BATPAK_E_IO, error);
    for (int i = 0; i < 4; i++) {
        join_thread(threads[i]);
        CHECK_EQUAL(waiting[i].status, BATPAK_E_POISONED);
    }
    disk_set(0, 0);
    CHECK(is_readable(fd, 0));
    static const int64_t timeouts[] = {0, 1, -1};
    for (int i = 0; i < 3; i++) {
        CHECK_STATUS(batpak_store_wait(store, DURABLE, 1, timeouts[i], &error), BATPAK_E_POISONED, error);
        CHECK_STATUS(batpak_store_wait(store, VISIBLE, 2, timeouts[i], &error), BATPAK_E_POISONED, error);
        /* What is there is there. */
        CHECK_OK(batpak_store_wait(store, VISIBLE, 1, timeouts[i], &error), error);
    }
    CHECK(is_readable(fd, 0));
    CHECK(batpak_store_close(store, SOON_MS, NULL) < 0);
    batpak_store_free(store);
    remove_dir(dir);
}

static void a_failed_sync_in_the_background_is_told_by_the_descriptor(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_process_store(dir);
    int32_t fd = durable_fd(store);
    append(store, "a", "x");
    disk_set(0, 1);
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 1, 0, &error), BATPAK_TIMEOUT, error);
    CHECK(is_readable(fd, SOON_MS));
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 1, 0, &error), BATPAK_E_POISONED, error);
    disk_set(0, 0);
    CHECK(batpak_store_close(store, SOON_MS, NULL) < 0);
    batpak_store_free(store);
    remove_dir(dir);
}

static void a_read_only_store_forces_nothing(void) {
    char *dir = make_dir();
    batpak_store_options_t options;
    batpak_store_t *store = open_process_store(dir);
    append(store, "a", "x");
    close_store(store);
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.flags = BATPAK_STORE_READ_ONLY;
    CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
    CHECK_OK(batpak_store_wait(store, DURABLE, 1, -1, &error), error);
    CHECK_OK(batpak_store_wait(store, VISIBLE, 1, -1, &error), error);
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 2, 0, &error), BATPAK_E_READ_ONLY, error);
    CHECK_STATUS(batpak_store_wait(store, DURABLE, 2, -1, &error), BATPAK_E_READ_ONLY, error);
    CHECK_STATUS(batpak_store_wait(store, VISIBLE, 2, 1, &error), BATPAK_TIMEOUT, error);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(a_mark_that_is_there_is_not_waited_for);
    RUN(a_wait_for_visible_ends_when_all_below_the_bound_is);
    RUN(visible_is_held_back_and_not_forced);
    RUN(a_wait_ends_at_its_timeout_and_not_before);
    RUN(a_waiter_is_woken_once);
    RUN(a_wait_for_durable_forces_a_sync_of_an_idle_store);
    RUN(a_bound_beyond_what_is_appended_is_synced_once_it_is);
    RUN(waits_for_durable_share_a_sync);
    RUN(waiting_for_the_sync_of_another_ends_at_the_timeout);
    RUN(a_look_has_the_sync_made_in_the_background);
    RUN(a_look_beyond_what_is_appended_has_it_synced_once_it_is);
    RUN(without_a_helper_thread_a_look_only_looks);
    RUN(the_descriptor_is_cleared_by_a_look_that_fails_only);
    RUN(closing_wakes_all);
    RUN(closing_ends_the_wait_of_a_handler);
    RUN(a_failed_sync_wakes_all);
    RUN(a_failed_sync_in_the_background_is_told_by_the_descriptor);
    RUN(a_read_only_store_forces_nothing);
    return 0;
}
