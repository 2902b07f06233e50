/* Appends one event and reads the whole log back. Run it again: the log is still there, one event longer. */
#include <batpak.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define KIND_SIGNED_UP 0x1001 /* category 1, type 1 */

static batpak_status_t check(batpak_status_t status, batpak_error_t **err)
{
    if (status >= BATPAK_OK) return status;
    fprintf(stderr, "quickstart: %s\n", batpak_error_message(*err, NULL));
    exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    batpak_error_t *err;
    batpak_store_t *store;
    batpak_cursor_t *cursor;
    batpak_batch_t *batch;
    size_t n;
    check(batpak_store_open_z(argc > 1 ? argv[1] : "quickstart-log", NULL, &store, &err), &err);
    check(batpak_store_append_one(store, "user:1", 6, "web", 3, KIND_SIGNED_UP, "hello", 5, NULL, &err), &err);
    check(batpak_cursor_open(store, NULL, NULL, &cursor, &err), &err); /* every event, from the first */
    while (check(batpak_cursor_poll(cursor, 64, 0, 0, &batch, &err), &err) == BATPAK_OK) {
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        for (size_t i = 0; i < n; i++)
            printf("%" PRIu64 " %.*s: %.*s\n", events[i].sequence, (int)events[i].entity_len, (const char *)events[i].entity,
                   (int)events[i].payload_len, (const char *)events[i].payload);
        batpak_batch_free(batch);
    }
    batpak_cursor_free(cursor);
    check(batpak_store_close(store, -1, &err), &err);
    batpak_store_free(store);
    return EXIT_SUCCESS;
}
