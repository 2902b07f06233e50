/* No wake-up is lost (D6), in 100,000 rounds each: on the descriptor, in a waiting poll, by the wake function. */
#include "events.h"

#include <poll.h>
#include <semaphore.h>

enum { ROUNDS = 100000 };

/* One event at a time: the next is appended while the consumer, who has just taken the last, is about to find nothing and to
 * fall asleep. */
struct race {
    batpak_store_t *store;
    batpak_cursor_t *cursor;
    atomic_ullong taken;
    sem_t woken;
};

static void *append_when_taken(void *argument) {
    struct race *race = argument;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        while (atomic_load(&race->taken) < i) {
            sched_yield();
        }
        append(race->store, "a", "x");
    }
    return NULL;
}

/* Takes what is there until nothing is. */
static void take_all(struct race *race) {
    uint64_t sequences[16];
    for (size_t n; (n = poll_sequences(race->cursor, 16, sequences)) > 0;) {
        CHECK_EQUAL(sequences[0], atomic_load(&race->taken));
        atomic_fetch_add(&race->taken, n);
    }
}

static void wait_on_descriptor(struct race *race) {
    int32_t fd = -1;
    CHECK_OK(batpak_cursor_notify_fd(race->cursor, &fd, &error), error);
    while (atomic_load(&race->taken) < ROUNDS) {
        struct pollfd entry = {.fd = fd, .events = POLLIN};
        CHECK(poll(&entry, 1, SOON_MS) == 1);
        take_all(race);
    }
}

static void wait_in_poll(struct race *race) {
    while (atomic_load(&race->taken) < ROUNDS) {
        batpak_batch_t *batch = NULL;
        size_t n = 0;
        CHECK_OK(batpak_cursor_poll(race->cursor, 16, 0, SOON_MS, &batch, &error), error);
        CHECK(batpak_batch_events(batch, &n)->sequence == atomic_load(&race->taken));
        batpak_batch_free(batch);
        atomic_fetch_add(&race->taken, n);
    }
}

static void post(void *user_data) {
    sem_post(user_data);
}

static void wait_for_wake_function(struct race *race) {
    CHECK(sem_init(&race->woken, 0, 1) == 0);
    CHECK_OK(batpak_cursor_set_wake(race->cursor, post, &race->woken, NULL, &error), error);
    while (atomic_load(&race->taken) < ROUNDS) {
        struct timespec deadline;
        clock_gettime(CLOCK_REALTIME, &deadline);
        deadline.tv_sec += SOON_MS / 1000;
        CHECK(sem_timedwait(&race->woken, &deadline) == 0);
        take_all(race);
    }
    CHECK_OK(batpak_cursor_set_wake(race->cursor, NULL, NULL, NULL, &error), error);
}

static void check_race(void (*consume)(struct race *)) {
    char *dir = make_dir();
    static struct race race;
    memset(&race, 0, sizeof race);
    race.store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    race.cursor = open_cursor(race.store, NULL, NULL);
    pthread_t thread = start_thread(append_when_taken, &race);
    consume(&race);
    join_thread(thread);
    close_cursor(race.cursor);
    close_store(race.store);
    remove_dir(dir);
}

static void D6_no_wake_up_is_lost_on_the_descriptor(void) {
    check_race(wait_on_descriptor);
}

static void D6_no_wake_up_is_lost_in_a_waiting_poll(void) {
    check_race(wait_in_poll);
}

static void D6_no_wake_up_is_lost_by_the_wake_function(void) {
    check_race(wait_for_wake_function);
}

int main(void) {
    RUN(D6_no_wake_up_is_lost_on_the_descriptor);
    RUN(D6_no_wake_up_is_lost_in_a_waiting_poll);
    RUN(D6_no_wake_up_is_lost_by_the_wake_function);
    return 0;
}
