/* Optimistic concurrency: two threads draw from one account until it is empty, and never overdraw it.
 *
 *     optimistic [DIR]
 *
 * Each reads the account's last event, decides, and appends on the condition that this is still the last one. When the
 * other thread was faster, the append is refused, and nothing was appended: read again and decide anew. No lock is held
 * while deciding, so this works as well when the decision takes long, or when a person makes it.
 *
 * Here each event has the balance after it, so the last one is enough. Where the events must be added up, a cursor over
 * the entity does that, and the clock to expect is that of the last event added: always that of what was decided upon.
 */
#define _POSIX_C_SOURCE 200809L
#include <batpak.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KIND_OPENED 0x1001 /* category 1, type 1 */
#define KIND_WITHDRAWN 0x1002
#define ACCOUNT "account:1"
#define BALANCE 1000
#define AMOUNT 3

struct account {
    int64_t balance; /* the payload of its last event */
    uint64_t clock;  /* of that event */
};

struct teller {
    batpak_store_t *store;
    unsigned withdrawals, refusals;
    int result; /* 0, or -1 when it has failed */
};

static int report(const char *what, batpak_error_t *err)
{
    fprintf(stderr, "optimistic: %s: %s\n", what, batpak_error_message(err, NULL));
    batpak_error_free(err);
    return -1;
}

/* Appends one event if the account is where `expected` says. The status is the caller's to judge. */
static batpak_status_t append(batpak_store_t *store, uint32_t kind, int64_t balance, uint32_t expected, uint64_t clock,
                              batpak_error_t **err)
{
    batpak_append_t item;
    batpak_status_t status = batpak_append_init(&item, sizeof item, err);
    if (status < 0) return status;
    item.entity = ACCOUNT;
    item.entity_len = strlen(ACCOUNT);
    item.scope = "bank";
    item.scope_len = 4;
    item.kind = kind;
    item.payload = &balance;
    item.payload_len = sizeof balance;
    item.expected = expected;
    item.expected_clock = clock; /* zero but for BATPAK_EXPECT_EXACT */
    return batpak_store_append(store, &item, 1, NULL, NULL, err);
}

/* Reads the last event of the account, which has one. The head counts it as soon as it is appended; it can be read when it
 * is visible, which is when its own append has been synced: wait for that. */
static int read_account(batpak_store_t *store, struct account *account)
{
    batpak_error_t *err;
    batpak_entity_head_t head;
    batpak_batch_t *batch;
    batpak_status_t status;
    do {
        if (batpak_store_entity_head(store, ACCOUNT, strlen(ACCOUNT), &head, &err) < 0) return report("no head", err);
        if (batpak_store_wait(store, BATPAK_WATERMARK_VISIBLE, head.last_sequence + 1, -1, &err) < 0)
            return report("cannot wait", err);
        status = batpak_store_get(store, head.last_sequence, &batch, &err);
        if (status < 0) return report("cannot read", err);
    } while (status == BATPAK_EMPTY); /* its fence was cancelled */

    size_t n;
    const batpak_event_t *event = batpak_batch_events(batch, &n);
    bool fits = event->payload_len == sizeof account->balance;
    if (fits) memcpy(&account->balance, event->payload, sizeof account->balance);
    account->clock = event->clock;
    batpak_batch_free(batch);
    if (!fits) fprintf(stderr, "optimistic: the account's last event has no balance\n");
    return fits ? 0 : -1;
}

static void *withdraw_all(void *user_data)
{
    struct teller *teller = user_data;
    struct account account;
    const struct timespec decision = {.tv_nsec = 200000}; /* long enough for the other one to come in between */
    while ((teller->result = read_account(teller->store, &account)) == 0 && account.balance >= AMOUNT) {
        batpak_error_t *err;
        nanosleep(&decision, NULL);
        batpak_status_t status = append(teller->store, KIND_WITHDRAWN, account.balance - AMOUNT, BATPAK_EXPECT_EXACT,
                                        account.clock, &err);
        if (status == BATPAK_OK) {
            teller->withdrawals++;
        } else if (status == BATPAK_E_EXPECTED_STATE) {
            teller->refusals++; /* the other one was faster */
            batpak_error_free(err);
        } else {
            teller->result = report("cannot append", err);
            break;
        }
    }
    return NULL;
}

/* The account is opened once. NO_STREAM is not EXACT 0: that would ask for an account with one event. */
static int open_account(batpak_store_t *store)
{
    batpak_error_t *err;
    batpak_status_t status = append(store, KIND_OPENED, BALANCE, BATPAK_EXPECT_NO_STREAM, 0, &err);
    if (status == BATPAK_OK) return 0;
    if (status != BATPAK_E_EXPECTED_STATE) return report("cannot append", err);
    fprintf(stderr, "optimistic: %s\n", batpak_error_message(err, NULL)); /* opened by an earlier run */
    batpak_error_free(err);
    return 0;
}

static int run_tellers(batpak_store_t *store)
{
    pthread_t threads[2];
    struct teller tellers[2] = {{.store = store}, {.store = store}};
    int started = 0;
    while (started < 2 && pthread_create(&threads[started], NULL, withdraw_all, &tellers[started]) == 0) started++;
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    if (started < 2) fprintf(stderr, "optimistic: cannot start a thread\n");
    if (started < 2 || tellers[0].result < 0 || tellers[1].result < 0) return -1;

    struct account account;
    if (read_account(store, &account) < 0) return -1;
    fprintf(stderr, "optimistic: %u and %u withdrawals, %u and %u refused appends\n", tellers[0].withdrawals,
            tellers[1].withdrawals, tellers[0].refusals, tellers[1].refusals);
    printf("%u withdrawals of %d, %" PRId64 " left, clock %" PRIu64 "\n",
           tellers[0].withdrawals + tellers[1].withdrawals, AMOUNT, account.balance, account.clock);
    return 0;
}

int main(int argc, char **argv)
{
    batpak_error_t *err;
    batpak_store_t *store;
    if (batpak_store_open_z(argc > 1 ? argv[1] : "optimistic-log", NULL, &store, &err) < 0) {
        report("cannot open the store", err);
        return EXIT_FAILURE;
    }
    int result = open_account(store);
    if (result == 0) result = run_tellers(store);
    if (batpak_store_close(store, -1, &err) < 0) result = report("cannot close", err);
    batpak_store_free(store);
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
