/* Threads that are cancelled while they are in a call: they end after it, and neither the process nor a lock goes with them. Many calls are
 * cancellation points within. */
#include "disk.h"

enum { CANCEL_ROUNDS = 40 };

struct target {
    batpak_store_t *store;
    const char *dir;
    int what;
    atomic_int calls;
};

static void *call_until_cancelled(void *argument) {
    struct target *target = argument;
    for (;;) {
        batpak_store_t *opened = NULL;
        batpak_batch_t *batch = NULL;
        batpak_store_stats_t stats = {.struct_size = sizeof stats};
        switch (target->what) {
        case 0:
            batpak_store_append_one(target->store, "a", 1, "s", 1, 0x1001, "x", 1, NULL, NULL);
            break;
        case 1:
            batpak_store_get(target->store, 0, &batch, NULL);
            batpak_batch_free(batch);
            break;
        case 2:
            batpak_checkpoint_save(target->store, "c", 1, NULL, 0, NULL);
            break;
        case 3:
            /* What it opened it gives back, whenever it is cancelled: not between the two. */
            pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
            if (batpak_store_open_z(target->dir, NULL, &opened, NULL) == BATPAK_OK) {
                batpak_store_close(opened, -1, NULL);
                batpak_store_free(opened);
            }
            pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
            break;
        case 4:
            batpak_store_stats(target->store, &stats, NULL);
            break;
        default:
            batpak_store_sync(target->store, NULL);
            break;
        }
        target->calls++;
        pthread_testcancel();
    }
    return NULL;
}

static void cancelled_threads_end_after_their_call(void) {
    char *dir = make_dir(), *other_dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "a", "x");
    for (int round = 0; round < CANCEL_ROUNDS; round++) {
        struct target target = {.store = store, .dir = other_dir, .what = round % 6};
        void *result = NULL;
        pthread_t thread = start_thread(call_until_cancelled, &target);
        while (target.calls == 0) {
            sched_yield();
        }
        usleep((useconds_t)(round * 37 % 500));
        CHECK(pthread_cancel(thread) == 0);
        CHECK(pthread_join(thread, &result) == 0);
        CHECK(result == PTHREAD_CANCELED);
        /* Nothing is locked for ever. */
        append(store, "a", "x");
        CHECK_OK(batpak_store_sync(store, &error), error);
    }
    close_store(store);
    remove_dir(dir);
    remove_dir(other_dir);
}

static void *wait_in_a_sync(void *argument) {
    batpak_store_append_one(argument, "a", 1, "s", 1, 0x1001, "x", 1, NULL, NULL);
    pthread_testcancel();
    return NULL;
}

/* In the very middle of a sync that others share. */
static void a_thread_that_syncs_for_others_is_cancelled(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    void *result = NULL;
    disk_set(1, 0);
    pthread_t thread = start_thread(wait_in_a_sync, store);
    disk_wait_for_sync();
    CHECK(pthread_cancel(thread) == 0);
    disk_set(0, 0);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK_EQUAL(append(store, "a", "y").sequence, 1);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(cancelled_threads_end_after_their_call);
    RUN(a_thread_that_syncs_for_others_is_cancelled);
    return 0;
}
