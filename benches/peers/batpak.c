/* libbatpak, through its C ABI. */
#include "batpak.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "measure.h"

enum { BATCH_EVENTS_MAX = 1000 };

/* The ids of so many last events are remembered for causes: an entity of 10,000 comes again long before. */
#define IDS ((uint64_t)1 << 20)

struct store_t {
    batpak_store_t *store;
    uint8_t (*ids)[16];
    uint64_t next;
};

struct reader_t {
    batpak_cursor_t *cursor;
};

struct worker_t {
    batpak_worker_t *worker;
    visit_fn visit;
    void *user_data;
};

#define OK(call) check((call), error, #call)

static void check(batpak_status_t status, const batpak_error_t *error, const char *call) {
    if (__builtin_expect(status != BATPAK_OK, 0)) {
        errno = 0;
        die("%s: %s: %s", call, batpak_status_name(status), batpak_error_message(error, NULL));
    }
}

static const char *version(void) {
    return batpak_version_string();
}

static store_t *open_store(const char *directory, durability_t durability) {
    store_t *store = allocate(1, sizeof *store);
    batpak_store_options_t options = {.struct_size = sizeof options,
                                      .durability = durability == STORAGE ? BATPAK_DURABILITY_STORAGE
                                                                          : BATPAK_DURABILITY_PROCESS};
    batpak_error_t *error = NULL;
    OK(batpak_store_open_z(directory, &options, &store->store, &error));
    return store;
}

static void close_store(store_t *store) {
    batpak_error_t *error = NULL;
    OK(batpak_store_close(store->store, -1, &error));
    batpak_store_free(store->store);
    free(store->ids);
    free(store);
}

static uint64_t count_events(store_t *store) {
    batpak_error_t *error = NULL;
    batpak_watermarks_t marks;
    OK(batpak_store_watermarks(store->store, &marks, &error));
    return marks.visible;
}

static void expect_causes(store_t *store) {
    store->next = count_events(store);
    store->ids = allocate(IDS, sizeof *store->ids);
}

static inline void fill_item(batpak_append_t *item, const log_event_t *event) {
    item->struct_size = sizeof *item;
    item->kind = event->kind;
    item->entity = event->entity;
    item->entity_len = event->entity_bytes;
    item->scope = event->scope;
    item->scope_len = event->scope_bytes;
    item->payload = event->payload;
    item->payload_len = event->payload_bytes;
}

/* Events whose causes are named, and that may be named as causes. */
static void append_with_causes(store_t *store, batpak_append_t *items, const log_event_t *events, size_t n) {
    static batpak_receipt_t receipts[BATCH_EVENTS_MAX];
    static uint32_t earlier[BATCH_EVENTS_MAX];
    batpak_error_t *error = NULL;
    for (size_t i = 0; i < n; i++) {
        uint64_t cause = events[i].cause;
        bool is_here = cause != NONE && cause >= store->next;
        if (cause != NONE && cause + IDS < store->next) {
            die("a cause lies too far back");
        }
        items[i].causes = cause != NONE && !is_here ? store->ids[cause % IDS] : NULL;
        items[i].cause_count = items[i].causes != NULL;
        earlier[i] = (uint32_t)(cause - store->next);
        items[i].batch_causes = is_here ? &earlier[i] : NULL;
        items[i].batch_cause_count = is_here;
    }
    OK(batpak_store_append(store->store, items, n, NULL, receipts, &error));
    for (size_t i = 0; i < n; i++, store->next++) {
        memcpy(store->ids[store->next % IDS], receipts[i].id, 16);
    }
}

static void append(store_t *store, const log_event_t *events, size_t n) {
    static _Thread_local batpak_append_t items[BATCH_EVENTS_MAX];
    batpak_error_t *error = NULL;
    if (n == 1 && store->ids == NULL) {
        OK(batpak_store_append_one(store->store, events->entity, events->entity_bytes, events->scope, events->scope_bytes,
                                   events->kind, events->payload, events->payload_bytes, NULL, &error));
        return;
    }
    if (n > BATCH_EVENTS_MAX) {
        die("a batch of more than %d events", (int)BATCH_EVENTS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        fill_item(&items[i], &events[i]);
    }
    if (store->ids != NULL) {
        append_with_causes(store, items, events, n);
    } else {
        OK(batpak_store_append(store->store, items, n, NULL, NULL, &error));
    }
}

static void append_keyed(store_t *store, const log_event_t *event, const void *key, size_t key_bytes) {
    batpak_error_t *error = NULL;
    batpak_append_t item = {.key = key, .key_len = key_bytes};
    fill_item(&item, event);
    OK(batpak_store_append(store->store, &item, 1, NULL, NULL, &error));
}

static void sync_store(store_t *store) {
    batpak_error_t *error = NULL;
    OK(batpak_store_sync(store->store, &error));
}

static reader_t *open_reader(store_t *store, const filter_t *filter, const char *name) {
    reader_t *reader = allocate(1, sizeof *reader);
    batpak_region_t region = {.struct_size = sizeof region};
    batpak_cursor_options_t options = {
        .struct_size = sizeof options, .checkpoint_id = name, .checkpoint_id_len = name != NULL ? strlen(name) : 0};
    batpak_error_t *error = NULL;
    switch (filter->by) {
    case FILTER_ENTITY:
        region.entity_match = BATPAK_ENTITY_EXACT;
        region.entity = filter->text;
        region.entity_len = filter->text_bytes;
        break;
    case FILTER_SCOPE:
        region.scope = filter->text;
        region.scope_len = filter->text_bytes;
        break;
    case FILTER_KIND:
        region.kind_match = BATPAK_KIND_EXACT;
        region.kind = filter->kind;
        break;
    case FILTER_ALL: break;
    }
    OK(batpak_cursor_open(store->store, filter->by == FILTER_ALL ? NULL : &region, &options, &reader->cursor, &error));
    return reader;
}

static size_t poll_reader(reader_t *reader, size_t most, visit_fn visit, void *user_data) {
    batpak_batch_t *batch;
    batpak_error_t *error = NULL;
    batpak_status_t status = batpak_cursor_poll(reader->cursor, most, 0, 0, &batch, &error);
    if (status == BATPAK_EMPTY) {
        return 0;
    }
    check(status, error, "batpak_cursor_poll");
    size_t n;
    const batpak_event_t *events = batpak_batch_events(batch, &n);
    for (size_t i = 0; i < n; i++) {
        visit(user_data, events[i].sequence, events[i].payload, events[i].payload_len);
    }
    batpak_batch_free(batch);
    return n;
}

static void checkpoint(reader_t *reader) {
    batpak_error_t *error = NULL;
    OK(batpak_cursor_checkpoint(reader->cursor, &error));
}

static void close_reader(reader_t *reader) {
    batpak_error_t *error = NULL;
    OK(batpak_cursor_close(reader->cursor, &error));
    batpak_cursor_free(reader->cursor);
    free(reader);
}

static int32_t handle(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    worker_t *worker = user_data;
    (void)delivery;
    for (size_t i = 0; i < n; i++) {
        worker->visit(worker->user_data, events[i].sequence, events[i].payload, events[i].payload_len);
    }
    return BATPAK_HANDLER_CONTINUE;
}

static worker_t *worker_start(store_t *store, visit_fn visit, void *user_data) {
    worker_t *worker = allocate(1, sizeof *worker);
    batpak_error_t *error = NULL;
    worker->visit = visit;
    worker->user_data = user_data;
    OK(batpak_worker_start(store->store, NULL, NULL, handle, worker, NULL, &worker->worker, &error));
    return worker;
}

static void worker_stop(worker_t *worker) {
    batpak_error_t *error = NULL;
    OK(batpak_worker_stop_and_join(worker->worker, -1, &error));
    batpak_worker_free(worker->worker);
    free(worker);
}

const backend_t backend = {
    .version = version,
    .open = open_store,
    .close = close_store,
    .count = count_events,
    .append = append,
    .sync = sync_store,
    .reader = open_reader,
    .poll = poll_reader,
    .checkpoint = checkpoint,
    .close_reader = close_reader,
    .expect_causes = expect_causes,
    .append_keyed = append_keyed,
    .worker_start = worker_start,
    .worker_stop = worker_stop,
};
