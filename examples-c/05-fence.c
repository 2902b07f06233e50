/* A fence: an order touches stock, payment and shipping, in several appends. Readers see all of them at once, or none.
 *
 *     fence [DIR]            places two orders; the first is committed, the second one's payment is refused
 *
 * One call of batpak_store_append is atomic already. A fence is for what cannot be one call: something is appended, then
 * a decision is made or another service is asked, then more is appended.
 */
#include <batpak.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIND_RESERVED 0x1001 /* category 1, type 1 */
#define KIND_PAID 0x1002
#define KIND_SHIPPED 0x1003

static int report(const char *what, batpak_error_t *err)
{
    fprintf(stderr, "fence: %s: %s\n", what, batpak_error_message(err, NULL));
    batpak_error_free(err);
    return -1;
}

/* Appends under the fence: nobody sees it, and until the fence is decided nobody else can append to that entity. */
static int add(batpak_fence_t *fence, const char *entity, uint32_t kind, const char *payload)
{
    batpak_error_t *err;
    batpak_append_t item;
    if (batpak_append_init(&item, sizeof item, &err) < 0) return report("append", err);
    item.entity = entity;
    item.entity_len = strlen(entity);
    item.scope = "shop";
    item.scope_len = 4;
    item.kind = kind;
    item.payload = payload;
    item.payload_len = strlen(payload);
    if (batpak_fence_append(fence, &item, 1, NULL, NULL, &err) < 0) return report("cannot append under the fence", err);
    return 0;
}

/* Prints what a cancelled fence left: numbers that were given out, and whose events never come. A reader that wants the
 * sequences to be without holes learns here that a hole is meant, and that nothing was lost. */
static int show_gaps(batpak_cursor_t *cursor)
{
    batpak_error_t *err;
    batpak_gap_list_t *list;
    if (batpak_cursor_take_gaps(cursor, &list, &err) < 0) return report("cannot take the gaps", err);
    size_t n;
    const batpak_gap_t *gaps = batpak_gap_list_gaps(list, &n);
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < gaps[i].range_count; r++)
            printf("  before event %" PRIu64 ": %" PRIu64 " to %" PRIu64 " were cancelled\n", gaps[i].delivered_sequence,
                   gaps[i].ranges[r].start, gaps[i].ranges[r].end - 1);
    batpak_gap_list_free(list);
    return 0;
}

/* Prints what has become visible since the cursor was polled last. */
static int show(batpak_cursor_t *cursor, const char *when)
{
    batpak_error_t *err;
    batpak_batch_t *batch;
    batpak_status_t status;
    size_t seen = 0;
    printf("%s:\n", when);
    while ((status = batpak_cursor_poll(cursor, 64, 0, 0, &batch, &err)) == BATPAK_OK) {
        size_t n;
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        for (size_t i = 0; i < n; i++)
            printf("  event %" PRIu64 ": %.*s, clock %" PRIu64 ": %.*s\n", events[i].sequence, (int)events[i].entity_len,
                   events[i].entity, events[i].clock, (int)events[i].payload_len, (const char *)events[i].payload);
        seen += n;
        batpak_batch_free(batch);
    }
    if (status < 0) return report("cannot poll", err);
    if (seen == 0) printf("  nothing\n");
    return show_gaps(cursor);
}

/* Somebody else wants the same stock while the fence is open, and is told to try again: batpak_error_is_retryable is 1. */
static int try_to_sell(batpak_store_t *store)
{
    batpak_error_t *err;
    if (batpak_store_append_one(store, "stock:lamp", 10, "shop", 4, KIND_RESERVED, "walk-in", 7, NULL, &err) == BATPAK_OK) {
        fprintf(stderr, "fence: stock of an open order was sold\n");
        return -1;
    }
    if (batpak_error_code(err) != BATPAK_E_STREAM_FENCED) return report("cannot append", err);
    printf("meanwhile: %s\n", batpak_error_message(err, NULL));
    batpak_error_free(err);
    return 0;
}

static int place_order(batpak_store_t *store, batpak_cursor_t *cursor)
{
    batpak_error_t *err;
    batpak_fence_t *fence;
    if (batpak_fence_begin(store, NULL, &fence, &err) < 0) return report("cannot begin a fence", err);
    int result = -1;
    if (add(fence, "stock:lamp", KIND_RESERVED, "for order 1") == 0 && try_to_sell(store) == 0 &&
        add(fence, "payment:1", KIND_PAID, "30.00") == 0 && add(fence, "order:1", KIND_SHIPPED, "parcel 77") == 0)
        result = show(cursor, "before the commit");
    /* The commit is synced, and with it all that was appended under the fence: one sync for the whole order. */
    if (result == 0 && batpak_fence_commit(fence, BATPAK_DURABILITY_STORAGE, &err) < 0)
        result = report("cannot commit", err);
    batpak_fence_free(fence); /* cancels what was not committed */
    return result < 0 ? result : show(cursor, "after the commit");
}

static int refuse_order(batpak_store_t *store, batpak_cursor_t *cursor)
{
    batpak_error_t *err;
    batpak_fence_t *fence;
    if (batpak_fence_begin(store, NULL, &fence, &err) < 0) return report("cannot begin a fence", err);
    int result = add(fence, "stock:lamp", KIND_RESERVED, "for order 2");
    if (result == 0) result = add(fence, "payment:2", KIND_PAID, "asked for");
    /* The card is refused. Nothing is to be undone: what was appended never was, and the stock is back at its clock. */
    if (result == 0 && batpak_fence_cancel(fence, &err) < 0) result = report("cannot cancel", err);
    batpak_fence_free(fence);
    if (result < 0) return result;
    if (batpak_store_append_one(store, "stock:lamp", 10, "shop", 4, KIND_RESERVED, "for order 3", 11, NULL, &err) < 0)
        return report("cannot append", err);
    return show(cursor, "after the cancel");
}

static int open_cursor(batpak_store_t *store, batpak_cursor_t **cursor)
{
    batpak_error_t *err;
    batpak_cursor_options_t options;
    if (batpak_cursor_options_init(&options, sizeof options, &err) < 0) return report("options", err);
    options.gap_capacity = 16; /* off by default */
    if (batpak_cursor_open(store, NULL, &options, cursor, &err) < 0 || batpak_cursor_seek_end(*cursor, &err) < 0)
        return report("cannot open the cursor", err);
    return 0;
}

int main(int argc, char **argv)
{
    batpak_error_t *err;
    batpak_store_t *store;
    if (batpak_store_open_z(argc > 1 ? argv[1] : "fence-log", NULL, &store, &err) < 0) {
        report("cannot open the store", err);
        return EXIT_FAILURE;
    }
    batpak_cursor_t *cursor = NULL;
    int result = open_cursor(store, &cursor);
    if (result == 0) result = place_order(store, cursor);
    if (result == 0) result = refuse_order(store, cursor);
    batpak_cursor_free(cursor);
    if (batpak_store_close(store, -1, &err) < 0) result = report("cannot close", err);
    batpak_store_free(store);
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
