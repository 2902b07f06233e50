/* No wake-up of batpak_store_wait and batpak_store_durable_fd is lost: two threads, an event at a time. Syncs do nothing here:
 * what is looked at is the race between who waits and who moves a mark. */
#include "disk.h"

#include <poll.h>

enum { ROUNDS = 50000 };

/* The next event is appended while the waiter, who has just seen the last, is about to fall asleep. */
struct race {
    batpak_store_t *store;
    uint32_t watermark;
    atomic_ullong seen;
    uint64_t ahead;
};

static void *append_when_seen(void *argument) {
    struct race *race = argument;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        while (atomic_load(&race->seen) + race->ahead < i) {
            sched_yield();
        }
        append(race->store, "a", "x");
    }
    return NULL;
}

static void wait_for_each(struct race *race) {
    batpak_error_t *own = NULL;
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        CHECK_OK(batpak_store_wait(race->store, race->watermark, i, SOON_MS, &own), own);
        atomic_store(&race->seen, i);
    }
}

static void wait_for_visible(struct race *race) {
    race->watermark = BATPAK_WATERMARK_VISIBLE;
    wait_for_each(race);
}

static void wait_for_durable(struct race *race) {
    race->watermark = BATPAK_WATERMARK_DURABLE;
    wait_for_each(race);
}

/* An event loop: asks for the next one, and watches the descriptor. */
static void watch_the_descriptor(struct race *race) {
    int32_t fd = -1;
    CHECK_OK(batpak_store_durable_fd(race->store, &fd, &error), error);
    for (uint64_t next = 1; next <= ROUNDS;) {
        struct pollfd entry = {.fd = fd, .events = POLLIN};
        batpak_status_t status = batpak_store_wait(race->store, BATPAK_WATERMARK_DURABLE, next, 0, &error);
        if (status == BATPAK_OK) {
            atomic_store(&race->seen, next++);
            continue;
        }
        check_status_is(__FILE__, __LINE__, "batpak_store_wait", status, BATPAK_TIMEOUT, &error);
        CHECK(poll(&entry, 1, SOON_MS) == 1);
    }
}

static void check_race(void (*consume)(struct race *), uint64_t ahead) {
    char *dir = make_dir();
    static struct race race;
    memset(&race, 0, sizeof race);
    race.ahead = ahead;
    race.store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    pthread_t thread = start_thread(append_when_seen, &race);
    consume(&race);
    join_thread(thread);
    close_store(race.store);
    remove_dir(dir);
}

static void no_wake_up_is_lost_waiting_for_visible(void) {
    check_race(wait_for_visible, 0);
    check_race(wait_for_visible, 3);
}

static void no_wake_up_is_lost_waiting_for_durable(void) {
    check_race(wait_for_durable, 0);
    check_race(wait_for_durable, 3);
}

static void no_wake_up_is_lost_on_the_descriptor(void) {
    check_race(watch_the_descriptor, 0);
    check_race(watch_the_descriptor, 3);
}

/* Many wait for many bounds, of both kinds, and the store closes in their midst: each ends, by its mark or by the close. */
struct crowd {
    batpak_store_t *store;
    atomic_uint number;
};

static void *wait_in_the_crowd(void *argument) {
    struct crowd *crowd = argument;
    uint32_t number = atomic_fetch_add(&crowd->number, 1);
    for (uint64_t bound = number + 1;; bound += 1 + number % 3) {
        uint32_t watermark = (bound + number) % 2 ? BATPAK_WATERMARK_VISIBLE : BATPAK_WATERMARK_DURABLE;
        batpak_status_t status = batpak_store_wait(crowd->store, watermark, bound, -1, NULL);
        if (status == BATPAK_E_CLOSED) {
            return NULL;
        }
        CHECK_EQUAL(status, BATPAK_OK);
    }
}

static void everybody_is_woken_until_the_close(void) {
    for (int round = 0; round < 20; round++) {
        char *dir = make_dir();
        struct crowd crowd = {.store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS)};
        pthread_t threads[6];
        for (int i = 0; i < 6; i++) {
            threads[i] = start_thread(wait_in_the_crowd, &crowd);
        }
        for (int i = 0; i < 500 + round * 37; i++) {
            append(crowd.store, "a", "x");
        }
        CHECK_OK(batpak_store_close(crowd.store, SOON_MS, &error), error);
        for (int i = 0; i < 6; i++) {
            join_thread(threads[i]);
        }
        batpak_store_free(crowd.store);
        remove_dir(dir);
    }
}

int main(void) {
    disk_skip_syncs();
    RUN(no_wake_up_is_lost_waiting_for_visible);
    RUN(no_wake_up_is_lost_waiting_for_durable);
    RUN(no_wake_up_is_lost_on_the_descriptor);
    RUN(everybody_is_woken_until_the_close);
    return 0;
}
