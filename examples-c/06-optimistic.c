/* Optimistic concurrency: two threads draw from one account until it is empty, and never overdraw it.
 *
 *     optimistic DIR
 *
 * Each reads the account's events, decides, and appends on the condition that the account is still where it was read.
 * When the other thread was faster, the append is refused, and nothing was appended: read on and decide anew. No lock is
 * held while deciding, so this works as well when the decision takes long, or when a person makes it.
 */
#include <batpak.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIND_OPENED 0x1001    /* category 1, type 1; payload: an int64_t in the machine's order, the balance */
#define KIND_WITHDRAWN 0x1002 /* the same, the amount */
#define ACCOUNT "account:1"
#define BALANCE 1000
#define AMOUNT 3

struct teller {
    batpak_store_t *store;
    batpak_cursor_t *cursor; /* over the account's events */
    int64_t balance;         /* of the events read so far, */
    uint64_t clock;          /* the last of which has this clock */
    unsigned withdrawals, refusals;
    int result;
};

static int report(const char *what, batpak_error_t *err)
{
    fprintf(stderr, "optimistic: %s: %s\n", what, batpak_error_message(err, NULL));
    batpak_error_free(err);
    return -1;
}

/* Appends one event if the account is where `expected` says. The status is the caller's to judge. */
static batpak_status_t append(batpak_store_t *store, uint32_t kind, int64_t value, uint32_t expected, uint64_t clock,
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
    item.payload = &value;
    item.payload_len = sizeof value;
    item.expected = expected;
    item.expected_clock = clock; /* zero but for BATPAK_EXPECT_EXACT */
    return batpak_store_append(store, &item, 1, NULL, NULL, err);
}

/* Takes in the account's events that are new; waits up to `timeout_ms` for the first. The clock is that of the last event
 * read, never a newer one: what is expected is what was decided upon. */
static int read_account(struct teller *teller, int64_t timeout_ms)
{
    batpak_error_t *err;
    batpak_batch_t *batch;
    batpak_status_t status;
    while ((status = batpak_cursor_poll(teller->cursor, 256, 0, timeout_ms, &batch, &err)) == BATPAK_OK) {
        size_t n;
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        for (size_t i = 0; i < n; i++) {
            int64_t value = 0;
            if (events[i].payload_len == sizeof value) memcpy(&value, events[i].payload, sizeof value);
            teller->balance += events[i].kind == KIND_OPENED ? value : -value;
            teller->clock = events[i].clock;
        }
        batpak_batch_free(batch);
        timeout_ms = 0;
    }
    return status < 0 ? report("cannot read", err) : 0;
}

static void *withdraw_all(void *user_data)
{
    struct teller *teller = user_data;
    teller->result = read_account(teller, 0);
    while (teller->result == 0 && teller->balance >= AMOUNT) {
        batpak_error_t *err;
        batpak_status_t status = append(teller->store, KIND_WITHDRAWN, AMOUNT, BATPAK_EXPECT_EXACT, teller->clock, &err);
        int64_t timeout_ms = 0;
        if (status == BATPAK_OK) {
            teller->withdrawals++;
        } else if (status == BATPAK_E_EXPECTED_STATE) {
            /* The event that was faster is perhaps not visible yet: its own append is waiting for the disk. */
            teller->refusals++;
            timeout_ms = 1000;
            batpak_error_free(err);
        } else {
            teller->result = report("cannot append", err);
            break;
        }
        teller->result = read_account(teller, timeout_ms);
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
    fprintf(stderr, "optimistic: %s\n", batpak_error_message(err, NULL)); /* by an earlier run */
    batpak_error_free(err);
    return 0;
}

static int open_cursor(batpak_store_t *store, batpak_cursor_t **cursor)
{
    batpak_error_t *err;
    batpak_region_t region;
    if (batpak_region_init(&region, sizeof region, &err) < 0) return report("region", err);
    region.entity_match = BATPAK_ENTITY_EXACT;
    region.entity = ACCOUNT;
    region.entity_len = strlen(ACCOUNT);
    if (batpak_cursor_open(store, &region, NULL, cursor, &err) < 0) return report("cannot open a cursor", err);
    return 0;
}

static int run_tellers(struct teller tellers[2])
{
    pthread_t threads[2];
    int started = 0;
    while (started < 2 && pthread_create(&threads[started], NULL, withdraw_all, &tellers[started]) == 0) started++;
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    if (started < 2) fprintf(stderr, "optimistic: cannot start a thread\n");
    if (started < 2 || tellers[0].result < 0 || tellers[1].result < 0) return -1;
    fprintf(stderr, "optimistic: %u and %u withdrawals, %u and %u refused appends\n", tellers[0].withdrawals,
            tellers[1].withdrawals, tellers[0].refusals, tellers[1].refusals);
    return read_account(&tellers[0], 0);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s DIR\n", argv[0]);
        return 2;
    }
    batpak_error_t *err;
    batpak_store_t *store;
    if (batpak_store_open_z(argv[1], NULL, &store, &err) < 0) {
        report("cannot open the store", err);
        return EXIT_FAILURE;
    }
    struct teller tellers[2] = {{.store = store}, {.store = store}};
    int result = open_account(store);
    for (int i = 0; i < 2 && result == 0; i++) result = open_cursor(store, &tellers[i].cursor);
    if (result == 0) result = run_tellers(tellers);
    if (result == 0)
        printf("%u withdrawals of %d, %" PRId64 " left, clock %" PRIu64 "\n", tellers[0].withdrawals + tellers[1].withdrawals,
               AMOUNT, tellers[0].balance, tellers[0].clock);
    for (int i = 0; i < 2; i++) batpak_cursor_free(tellers[i].cursor);
    if (batpak_store_close(store, -1, &err) < 0) result = report("cannot close", err);
    batpak_store_free(store);
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
