/* A durable worker: prints every order once, also over restarts, until SIGINT or SIGTERM.
 *
 *     worker DIR [COUNT]     first appends COUNT orders (default 10), then consumes
 *
 * The worker saves its position under the checkpoint id "printer" after each batch. A second run prints only what the
 * first did not. Killed between a batch and its checkpoint, it prints that batch again: at least once.
 */
#define _POSIX_C_SOURCE 200809L
#include <batpak.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIND_ORDER_PLACED 0x1001 /* category 1, type 1 */
#define CHECKPOINT_ID "printer"

static int report(const char *what, batpak_error_t *err)
{
    fprintf(stderr, "worker: %s: %s\n", what, batpak_error_message(err, NULL));
    batpak_error_free(err);
    return -1;
}

/* Runs on the worker's thread, one batch at a time. Returning CONTINUE is what commits the batch. */
static int32_t print_orders(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n)
{
    FILE *out = user_data;
    for (size_t i = 0; i < n; i++)
        fprintf(out, "%" PRIu64 " %.*s %.*s\n", events[i].sequence, (int)events[i].entity_len, (const char *)events[i].entity,
                (int)events[i].payload_len, (const char *)events[i].payload);
    if (fflush(out) == 0) return BATPAK_HANDLER_CONTINUE;

    static const char message[] = "standard output cannot be written";
    (void)batpak_delivery_set_error(delivery, message, strlen(message), NULL); /* for batpak_worker_join; failing anyway */
    return BATPAK_HANDLER_FAIL;
}

/* Waits for a signal, then asks the worker to stop. A signal handler could not: it may call almost nothing. */
static void *stop_on_signal(void *user_data)
{
    sigset_t signals;
    int number;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    batpak_error_t *err;
    if (sigwait(&signals, &number) == 0 && batpak_worker_stop(user_data, &err) < 0) report("cannot stop", err);
    return NULL;
}

static int append_orders(batpak_store_t *store, unsigned long count)
{
    batpak_error_t *err;
    for (unsigned long i = 0; i < count; i++) {
        char entity[32], payload[32];
        int entity_len = snprintf(entity, sizeof entity, "order:%lu", i);
        int payload_len = snprintf(payload, sizeof payload, "%lu pieces", i % 7 + 1);
        if (batpak_store_append_one(store, entity, (size_t)entity_len, "shop", 4, KIND_ORDER_PLACED, payload,
                                    (size_t)payload_len, NULL, &err) < 0)
            return report("cannot append", err);
    }
    return 0;
}

/* Starts the worker and returns when it has ended: by a signal, or by an error of its own. */
static int run_worker(batpak_store_t *store)
{
    batpak_error_t *err;
    batpak_worker_options_t options;
    if (batpak_worker_options_init(&options, sizeof options, &err) < 0) return report("options", err);
    options.checkpoint_id = CHECKPOINT_ID;
    options.checkpoint_id_len = strlen(CHECKPOINT_ID);

    batpak_worker_t *worker;
    if (batpak_worker_start(store, NULL, &options, print_orders, stdout, NULL, &worker, &err) < 0)
        return report("cannot start", err);

    pthread_t signal_thread;
    int result = 0;
    if (pthread_create(&signal_thread, NULL, stop_on_signal, worker) == 0) {
        if (batpak_worker_join(worker, -1, &err) < 0) result = report("the worker failed", err);
        pthread_kill(signal_thread, SIGTERM); /* still waiting if the worker ended by itself */
        pthread_join(signal_thread, NULL);
    } else {
        fprintf(stderr, "worker: cannot start a thread\n");
        result = -1;
        if (batpak_worker_stop_and_join(worker, -1, &err) < 0) report("the worker failed", err);
    }
    batpak_worker_free(worker);
    return result;
}

int main(int argc, char **argv)
{
    char *end = NULL;
    unsigned long count = argc > 2 ? strtoul(argv[2], &end, 10) : 10;
    if (argc < 2 || argc > 3 || (end && (*end != '\0' || end == argv[2]))) {
        fprintf(stderr, "usage: %s DIR [COUNT]\n", argv[0]);
        return 2;
    }
    /* Blocked before any thread starts, so that only stop_on_signal receives them. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    batpak_error_t *err;
    batpak_store_t *store;
    if (batpak_store_open_z(argv[1], NULL, &store, &err) < 0) {
        report("cannot open the store", err);
        return EXIT_FAILURE;
    }
    int result = append_orders(store, count);
    if (result == 0) result = run_worker(store);
    if (batpak_store_close(store, -1, &err) < 0) result = report("cannot close", err);
    batpak_store_free(store);
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
