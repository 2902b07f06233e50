/* Waiting for events (D6): timeouts, interrupts, descriptors, wake functions, closing. delivery_stress.c looks for lost wake-ups. */
#include "events.h"

#include <poll.h>
#include <sys/resource.h>

static int is_readable(int fd) {
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    return poll(&entry, 1, 0) == 1;
}

/* A poll on a thread of its own, and what came of it. */
struct polling {
    batpak_cursor_t *cursor;
    int64_t timeout_ms;
    atomic_int thread;
    batpak_status_t status;
    uint64_t sequence;
};

static void *poll_once(void *argument) {
    struct polling *polling = argument;
    batpak_batch_t *batch = NULL;
    atomic_store(&polling->thread, thread_number());
    polling->status = batpak_cursor_poll(polling->cursor, 9, 0, polling->timeout_ms, &batch, NULL);
    if (batch != NULL) {
        polling->sequence = batpak_batch_events(batch, NULL)->sequence;
    }
    batpak_batch_free(batch);
    return NULL;
}

/* Starts a poll without a timeout and waits until it sleeps. */
static pthread_t start_waiting(struct polling *polling, batpak_cursor_t *cursor) {
    polling->cursor = cursor;
    polling->timeout_ms = -1;
    atomic_store(&polling->thread, 0);
    pthread_t thread = start_thread(poll_once, polling);
    while (atomic_load(&polling->thread) == 0) {
        sched_yield();
    }
    wait_until_asleep(atomic_load(&polling->thread));
    return thread;
}

static void D6_a_poll_waits_until_an_event_comes(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "awaited");
    struct polling polling = {0};
    for (uint64_t i = 0; i < 20; i++) {
        batpak_cursor_t *cursor = open_cursor(store, &region, NULL);
        CHECK_OK(batpak_cursor_seek_end(cursor, &error), error);
        pthread_t thread = start_waiting(&polling, cursor);
        append(store, "other", "x");
        append(store, "awaited", "x");
        join_thread(thread);
        CHECK(polling.status == BATPAK_OK && polling.sequence == 2 * i + 1);
        close_cursor(cursor);
    }
    close_store(store);
    remove_dir(dir);
}

static void D6_a_poll_ends_at_its_timeout_and_not_before(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    batpak_batch_t *batch = NULL;
    for (int64_t timeout = 1; timeout <= 100; timeout *= 10) {
        uint64_t start = now_us();
        CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, timeout, &batch, &error), BATPAK_TIMEOUT, error);
        CHECK(now_us() - start >= (uint64_t)timeout * 1000);
    }
    uint64_t start = now_us();
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 0, &batch, &error), BATPAK_EMPTY, error);
    append(store, "a", "x");
    CHECK_OK(batpak_cursor_poll(cursor, 1, 0, INT64_MAX, &batch, &error), error);
    batpak_batch_free(batch);
    CHECK(now_us() - start < SOON_MS * 1000);
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, -2, &batch, &error), BATPAK_E_INVALID_ARGUMENT, error);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

/* It sleeps in the kernel, and does not wake up to look. */
static void D6_waiting_takes_no_processor_time(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    batpak_batch_t *batch = NULL;
    struct rusage before, after;
    CHECK(getrusage(RUSAGE_THREAD, &before) == 0);
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 500, &batch, &error), BATPAK_TIMEOUT, error);
    CHECK(getrusage(RUSAGE_THREAD, &after) == 0);
    CHECK(after.ru_nvcsw - before.ru_nvcsw < 20);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

static void D6_an_interrupt_ends_the_waiting_poll_from_any_thread(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    struct polling polling = {0};
    for (int i = 0; i < 20; i++) {
        pthread_t thread = start_waiting(&polling, cursor);
        CHECK_OK(batpak_cursor_interrupt(cursor, &error), error);
        join_thread(thread);
        CHECK_EQUAL(polling.status, BATPAK_INTERRUPTED);
        EXPECT_EMPTY(cursor);
    }
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

/* Before the poll it is kept for the next one, once however often it was called, and goes before events that are there. */
static void D6_an_interrupt_is_latched_once(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    batpak_batch_t *batch = NULL;
    static const int64_t timeouts[] = {0, 5, -1};
    append(store, "a", "x");
    for (int i = 0; i < 3; i++) {
        for (int calls = 1; calls <= 3; calls++) {
            for (int call = 0; call < calls; call++) {
                CHECK_OK(batpak_cursor_interrupt(cursor, &error), error);
            }
            CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, timeouts[i], &batch, &error), BATPAK_INTERRUPTED, error);
            CHECK(batch == NULL);
            EXPECT_NEXT(cursor, 1, 0);
            CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 5, &batch, &error), BATPAK_TIMEOUT, error);
            CHECK_OK(batpak_cursor_seek_beginning(cursor, &error), error);
        }
    }
    CHECK_OK(batpak_cursor_close(cursor, &error), error);
    CHECK_STATUS(batpak_cursor_interrupt(cursor, &error), BATPAK_E_CLOSED, error);
    batpak_cursor_free(cursor);
    close_store(store);
    remove_dir(dir);
}

static void D6_the_descriptor_is_readable_while_events_may_be_there(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "a");
    batpak_cursor_t *cursor = open_cursor(store, &region, NULL);
    int32_t fd = -1, same = -2;
    CHECK_OK(batpak_cursor_notify_fd(cursor, &fd, &error), error);
    CHECK_OK(batpak_cursor_notify_fd(cursor, &same, &error), error);
    CHECK(fd == same && fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(is_readable(fd));
    EXPECT_EMPTY(cursor);
    CHECK(!is_readable(fd));
    append(store, "a", "x");
    append(store, "a", "x");
    CHECK(is_readable(fd));
    EXPECT_NEXT(cursor, 1, 0);
    CHECK(is_readable(fd));
    EXPECT_NEXT(cursor, 1, 1);
    CHECK(is_readable(fd)); /* only a poll that finds nothing clears it */
    EXPECT_EMPTY(cursor);
    CHECK(!is_readable(fd));
    append(store, "other", "x");
    EXPECT_EMPTY(cursor);
    CHECK(!is_readable(fd));

    /* Whatever brings events within reach again makes it readable. */
    CHECK_OK(batpak_cursor_rewind(cursor, &error), error);
    CHECK(is_readable(fd));
    EXPECT_NEXT(cursor, 9, 0, 1);
    EXPECT_EMPTY(cursor);
    CHECK_OK(batpak_cursor_seek_beginning(cursor, &error), error);
    CHECK(is_readable(fd));
    EXPECT_NEXT(cursor, 9, 0, 1);
    EXPECT_EMPTY(cursor);
    CHECK_OK(batpak_cursor_interrupt(cursor, &error), error);
    CHECK(is_readable(fd));
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

struct woken {
    atomic_int calls;
    atomic_int freed;
};

static void count_wake(void *user_data) {
    atomic_fetch_add(&((struct woken *)user_data)->calls, 1);
}

static void count_free(void *user_data) {
    atomic_fetch_add(&((struct woken *)user_data)->freed, 1);
}

static void D6_the_wake_function_is_called_once_per_empty_poll(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    struct woken first = {0}, second = {0};
    CHECK_OK(batpak_cursor_set_wake(cursor, count_wake, &first, count_free, &error), error);
    EXPECT_EMPTY(cursor);
    atomic_store(&first.calls, 0);
    for (int i = 0; i < 5; i++) {
        append(store, "a", "x");
    }
    CHECK_EQUAL(atomic_load(&first.calls), 1);
    EXPECT_NEXT(cursor, 9, 0, 1, 2, 3, 4);
    EXPECT_EMPTY(cursor);
    append(store, "a", "x");
    CHECK_EQUAL(atomic_load(&first.calls), 2);
    CHECK_EQUAL(atomic_load(&first.freed), 0);
    CHECK_OK(batpak_cursor_set_wake(cursor, count_wake, &second, count_free, &error), error);
    CHECK_EQUAL(atomic_load(&first.freed), 1);
    EXPECT_NEXT(cursor, 9, 5);
    EXPECT_EMPTY(cursor);
    append(store, "a", "x");
    CHECK(atomic_load(&first.calls) == 2 && atomic_load(&second.calls) >= 1);
    close_cursor(cursor);
    close_store(store);
    CHECK(atomic_load(&first.freed) == 1 && atomic_load(&second.freed) == 1);
    remove_dir(dir);
}

/* ---- closing -------------------------------------------------------------------------------------------------------- */

enum { WAITERS = 5 };

static void D6_closing_the_store_wakes_all(void) {
    for (int round = 0; round < 10; round++) {
        char *dir = make_dir();
        batpak_store_t *store = open_store(dir);
        struct polling polling[WAITERS] = {{0}};
        batpak_cursor_t *cursors[WAITERS], *watched = open_cursor(store, NULL, NULL);
        pthread_t threads[WAITERS];
        struct woken woken = {0};
        int32_t fd = -1;
        CHECK_OK(batpak_cursor_notify_fd(watched, &fd, &error), error);
        CHECK_OK(batpak_cursor_set_wake(watched, count_wake, &woken, count_free, &error), error);
        EXPECT_EMPTY(watched);
        atomic_store(&woken.calls, 0);
        CHECK(!is_readable(fd));
        for (int i = 0; i < WAITERS; i++) {
            cursors[i] = open_cursor(store, NULL, i % 2 ? "durable" : NULL);
            threads[i] = start_waiting(&polling[i], cursors[i]);
            if (i % 2) {
                CHECK_OK(batpak_cursor_close(cursors[i], &error), error);
                join_thread(threads[i]);
                CHECK_EQUAL(polling[i].status, BATPAK_E_CLOSED);
            }
        }
        CHECK_OK(batpak_store_close(store, SOON_MS, &error), error);
        for (int i = 0; i < WAITERS; i++) {
            if (i % 2 == 0) {
                join_thread(threads[i]);
                CHECK_EQUAL(polling[i].status, BATPAK_E_CLOSED);
            }
            batpak_cursor_free(cursors[i]);
        }
        CHECK(is_readable(fd) && atomic_load(&woken.calls) >= 1);
        batpak_batch_t *batch = NULL;
        CHECK_STATUS(batpak_cursor_poll(watched, 1, 0, -1, &batch, &error), BATPAK_E_CLOSED, error);
        batpak_cursor_free(watched);
        CHECK_EQUAL(atomic_load(&woken.freed), 1);
        batpak_store_free(store);
        remove_dir(dir);
    }
}

/* One thread at a time, checked; it may be another one each time. */
static void a_second_thread_is_refused_while_a_poll_waits(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "c");
    batpak_cursor_position_t position;
    batpak_batch_t *batch = NULL;
    struct polling polling = {0};
    pthread_t thread = start_waiting(&polling, cursor);
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 0, &batch, &error), BATPAK_E_CONCURRENT, error);
    CHECK_STATUS(batpak_cursor_checkpoint(cursor, &error), BATPAK_E_CONCURRENT, error);
    CHECK_STATUS(batpak_cursor_rewind(cursor, &error), BATPAK_E_CONCURRENT, error);
    CHECK_STATUS(batpak_cursor_position(cursor, &position, &error), BATPAK_E_CONCURRENT, error);
    append(store, "a", "x");
    join_thread(thread);
    CHECK_EQUAL(polling.status, BATPAK_OK);
    CHECK_EQUAL(position_of(cursor).position, 0);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(D6_a_poll_waits_until_an_event_comes);
    RUN(D6_a_poll_ends_at_its_timeout_and_not_before);
    RUN(D6_waiting_takes_no_processor_time);
    RUN(D6_an_interrupt_ends_the_waiting_poll_from_any_thread);
    RUN(D6_an_interrupt_is_latched_once);
    RUN(D6_the_descriptor_is_readable_while_events_may_be_there);
    RUN(D6_the_wake_function_is_called_once_per_empty_poll);
    RUN(D6_closing_the_store_wakes_all);
    RUN(a_second_thread_is_refused_while_a_poll_waits);
    return 0;
}
