/* Idempotent appends: a command that is tried again, because nobody knows whether it was carried out, happens once.
 *
 *     idempotent DIR         carries out a payment, and dies before it has answered; then does it again
 *
 * Whoever issues the command gives it an id, once, and repeats the id with each try: that is the idempotency key. To
 * look in the log whether it was carried out would not do: two tries at the same time would both find nothing.
 */
#define _POSIX_C_SOURCE 200809L
#include <batpak.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIND_PAYMENT 0x1001 /* category 1, type 1 */

struct command {
    const char *id; /* 16 to 64 bytes; a UUID of 16 bytes would do, or its 36 letters */
    const char *account, *amount;
};

static int report(const char *what, batpak_error_t *err)
{
    fprintf(stderr, "idempotent: %s: %s\n", what, batpak_error_message(err, NULL));
    batpak_error_free(err);
    return -1;
}

static batpak_status_t carry_out(batpak_store_t *store, const struct command *command, batpak_receipt_t *receipt,
                                 batpak_error_t **err)
{
    batpak_append_t item;
    batpak_status_t status = batpak_append_init(&item, sizeof item, err);
    if (status < 0) return status;
    item.entity = command->account;
    item.entity_len = strlen(command->account);
    item.scope = "bank";
    item.scope_len = 4;
    item.kind = KIND_PAYMENT;
    item.payload = command->amount;
    item.payload_len = strlen(command->amount);
    item.key = command->id;
    item.key_len = strlen(command->id);
    return batpak_store_append(store, &item, 1, NULL, receipt, err);
}

/* The first try: the event is appended, and the process killed before anyone hears of it. Returns on failure only. */
static void carry_out_and_die(const char *dir, const struct command *command)
{
    batpak_error_t *err;
    batpak_store_t *store;
    batpak_receipt_t receipt;
    if (batpak_store_open_z(dir, NULL, &store, &err) < 0) {
        report("cannot open the store", err);
        return;
    }
    if (carry_out(store, command, &receipt, &err) < 0)
        report("cannot append", err);
    else
        kill(getpid(), SIGKILL);
    batpak_store_free(store);
}

/* In a process of its own, made before this one opens the store: a store does not survive fork. */
static int first_try(const char *dir, const struct command *command)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        carry_out_and_die(dir, command);
        _exit(EXIT_FAILURE);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("idempotent: the first try");
        return -1;
    }
    if (!WIFSIGNALED(status)) return -1; /* it has said why */
    printf("first try: killed, no answer\n");
    return 0;
}

/* The same command again: the receipt is that of the first try, and as durable as if it had been appended now. */
static int second_try(batpak_store_t *store, const struct command *command)
{
    batpak_error_t *err;
    batpak_receipt_t receipt;
    if (carry_out(store, command, &receipt, &err) < 0) return report("cannot append", err);
    printf("second try: event %" PRIu64 ", %s\n", receipt.sequence,
           receipt.flags & BATPAK_RECEIPT_DUPLICATE ? "appended before" : "appended now");
    return 0;
}

/* Another command under the same id is somebody's mistake: it is refused, not taken for a repetition. */
static int other_command(batpak_store_t *store, const struct command *command)
{
    batpak_error_t *err;
    batpak_receipt_t receipt;
    batpak_status_t status = carry_out(store, command, &receipt, &err);
    if (status == BATPAK_OK) {
        fprintf(stderr, "idempotent: two commands were taken for one\n");
        return -1;
    }
    if (status != BATPAK_E_IDEMPOTENCY_CONFLICT) return report("cannot append", err);
    printf("another amount: %s\n", batpak_error_message(err, NULL));
    batpak_error_free(err);
    return 0;
}

static int count_events(batpak_store_t *store)
{
    batpak_error_t *err;
    batpak_watermarks_t marks;
    if (batpak_store_watermarks(store, &marks, &err) < 0) return report("watermarks", err);
    printf("events in the log: %" PRIu64 "\n", marks.visible);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s DIR\n", argv[0]);
        return 2;
    }
    const struct command command = {.id = "payment 2025-001", .account = "account:1", .amount = "30.00"};
    const struct command mistaken = {.id = "payment 2025-001", .account = "account:1", .amount = "40.00"};
    if (first_try(argv[1], &command) < 0) return EXIT_FAILURE;

    batpak_error_t *err;
    batpak_store_t *store;
    if (batpak_store_open_z(argv[1], NULL, &store, &err) < 0) {
        report("cannot open the store", err);
        return EXIT_FAILURE;
    }
    int result = second_try(store, &command);
    if (result == 0) result = other_command(store, &mistaken);
    if (result == 0) result = count_events(store);
    if (batpak_store_close(store, -1, &err) < 0) result = report("cannot close", err);
    batpak_store_free(store);
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
