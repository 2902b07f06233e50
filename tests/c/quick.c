/* Every function of the surface once, on the path where all is well. */
#include "check.h"

#include <poll.h>
#include <pthread.h>

static batpak_error_t *error;

static int64_t clock_us = 1700000000000000;
static int freed;

static int64_t test_clock(void *user_data) {
    return *(int64_t *)user_data;
}

static void count_free(void *user_data) {
    ++*(int *)user_data;
}

static void ignore_log(void *user_data, uint32_t level, const char *target, size_t target_len, const char *message,
                       size_t message_len) {
    (void)user_data;
    CHECK(level >= BATPAK_LOG_ERROR && level <= BATPAK_LOG_INFO);
    CHECK(target != NULL && target_len > 0 && message != NULL && message_len > 0);
}

static void version_and_status(void) {
    const batpak_status_info_t *list = NULL;
    size_t n = 0;
    CHECK(batpak_version_number() == BATPAK_VERSION_NUMBER);
    CHECK(strcmp(batpak_version_string(), BATPAK_VERSION_STRING) == 0);
    CHECK_OK(batpak_check_abi(BATPAK_ABI_VERSION, &error), error);
    CHECK_STATUS(batpak_check_abi(BATPAK_ABI_VERSION + 1, &error), BATPAK_E_UNSUPPORTED, error);
    CHECK(batpak_has_feature("cursor", 6) == 1 && batpak_has_feature("cursors", 7) == 0);
    CHECK(strcmp(batpak_status_name(BATPAK_E_CLOSED), "BATPAK_E_CLOSED") == 0);
    CHECK(strcmp(batpak_status_name(-9999), "BATPAK_E_UNKNOWN") == 0);
    CHECK_OK(batpak_status_list(&list, &n, &error), error);
    CHECK(n > 40);
    for (size_t i = 0; i < n; i++) {
        CHECK(strcmp(list[i].name, batpak_status_name(list[i].code)) == 0);
        CHECK(strcmp(list[i].description, batpak_status_description(list[i].code)) == 0);
    }
}

static void errors(batpak_store_t *store) {
    size_t len = 0;
    CHECK(batpak_store_append_one(store, "", 0, "s", 1, 0x1001, "", 0, NULL, NULL) == BATPAK_E_COORDINATE_EMPTY);
    CHECK(batpak_store_append_one(store, "a/b", 3, "s", 1, 0x1001, "", 0, NULL, &error) < 0);
    CHECK(batpak_error_code(error) == BATPAK_E_COORDINATE_CHARACTER);
    CHECK(strlen(batpak_error_message(error, &len)) == len && len > 10);
    CHECK(batpak_error_os_errno(error) == 0);
    CHECK(batpak_error_is_retryable(error) == 0 && batpak_error_is_fatal(error) == 0);
    CHECK(strcmp(batpak_error_detail(error, "part", 4, &len), "entity") == 0 && len == 6);
    CHECK(strcmp(batpak_error_detail(error, "offset", 6, NULL), "1") == 0);
    CHECK(batpak_error_detail(error, "path", 4, &len) == NULL && len == 0);
    batpak_error_free(error);
    error = NULL;
}

/* Events 0 to 4: three by batch, one by the short form, one more by batch of one. */
static void append(batpak_store_t *store, batpak_receipt_t *receipts) {
    batpak_append_options_t options;
    batpak_append_t items[3];
    uint32_t first = 0;
    batpak_watermarks_t marks;

    CHECK_OK(batpak_append_options_init(&options, sizeof options, &error), error);
    options.durability = BATPAK_DURABILITY_PROCESS;
    options.flags = BATPAK_APPEND_LEAF_HASH;
    for (int i = 0; i < 3; i++) {
        CHECK_OK(batpak_append_init(&items[i], sizeof items[i], &error), error);
        items[i].kind = 0x1001;
        items[i].schema = 7;
        items[i].entity = i == 1 ? "user:2" : "user:1";
        items[i].entity_len = 6;
        items[i].scope = "web";
        items[i].scope_len = 3;
        items[i].payload = "one two three" + 4 * i;
        items[i].payload_len = 3;
    }
    items[2].batch_causes = &first;
    items[2].batch_cause_count = 1;
    CHECK_OK(batpak_store_append(store, items, 3, &options, receipts, &error), error);
    for (int i = 0; i < 3; i++) {
        static const uint8_t no_hash[32];
        CHECK_EQUAL(receipts[i].sequence, i);
        CHECK_EQUAL(receipts[i].clock, i == 2);
        CHECK_EQUAL(receipts[i].time_us, clock_us);
        CHECK(receipts[i].durability == BATPAK_DURABILITY_PROCESS && receipts[i].flags == 0);
        CHECK(memcmp(receipts[i].leaf_hash, no_hash, 32) != 0);
    }
    CHECK(memcmp(receipts[2].correlation_id, receipts[0].id, 16) == 0);

    CHECK_OK(batpak_store_append_one(store, "user:3", 6, "app", 3, 0x2001, NULL, 0, &receipts[3], &error), error);
    CHECK(receipts[3].sequence == 3 && receipts[3].durability == BATPAK_DURABILITY_STORAGE);

    items[0].causes = receipts[2].id;
    items[0].cause_count = 1;
    items[0].correlation_id = receipts[3].id;
    CHECK_OK(batpak_store_append(store, items, 1, NULL, &receipts[4], &error), error);
    CHECK(receipts[4].clock == 2 && memcmp(receipts[4].correlation_id, receipts[3].id, 16) == 0);

    CHECK_OK(batpak_store_sync(store, &error), error);
    CHECK_OK(batpak_store_watermarks(store, &marks, &error), error);
    CHECK(marks.appended == 5 && marks.visible == 5 && marks.durable == 5);
}

static void read_back(batpak_store_t *store, const batpak_receipt_t *receipts) {
    batpak_cursor_options_t options;
    batpak_cursor_position_t position;
    batpak_cursor_t *cursor = NULL;
    batpak_batch_t *batch = NULL;
    size_t n = 0;
    uint64_t number = 0;
    int32_t fd = -1;

    CHECK_OK(batpak_cursor_options_init(&options, sizeof options, &error), error);
    options.checkpoint_id = "reader";
    options.checkpoint_id_len = 6;
    CHECK_OK(batpak_cursor_open(store, NULL, &options, &cursor, &error), error);
    CHECK_OK(batpak_cursor_lag(cursor, &number, &error), error);
    CHECK_EQUAL(number, 5);
    CHECK_OK(batpak_cursor_notify_fd(cursor, &fd, &error), error);
    CHECK(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1);
    CHECK_OK(batpak_cursor_poll(cursor, 100, 0, 0, &batch, &error), error);

    const batpak_event_t *events = batpak_batch_events(batch, &n);
    CHECK_EQUAL(n, 5);
    for (size_t i = 0; i < n; i++) {
        CHECK_EQUAL(events[i].sequence, i);
        CHECK(memcmp(events[i].id, receipts[i].id, 16) == 0);
        CHECK(events[i].clock == receipts[i].clock && events[i].time_us == receipts[i].time_us && events[i].flags == 0);
    }
    CHECK(events[0].prev_sequence == BATPAK_NO_SEQUENCE);
    CHECK(events[2].prev_sequence == 0 && events[4].prev_sequence == 2);
    CHECK(events[1].entity_len == 6 && memcmp(events[1].entity, "user:2", 6) == 0);
    CHECK(events[1].scope_len == 3 && memcmp(events[1].scope, "web", 3) == 0);
    CHECK(events[1].payload_len == 3 && memcmp(events[1].payload, "two", 3) == 0);
    CHECK(events[1].kind == 0x1001 && events[1].schema == 7 && events[1].cause_count == 0 && events[1].causes == NULL);
    CHECK(events[2].cause_count == 1 && memcmp(events[2].causes[0], receipts[0].id, 16) == 0);
    CHECK(events[4].cause_count == 1 && memcmp(events[4].causes[0], receipts[2].id, 16) == 0);
    CHECK(events[3].payload_len == 0);

    CHECK(batpak_batch_retain(batch) == batch);
    batpak_batch_free(batch);
    CHECK(memcmp(batpak_batch_events(batch, NULL)[1].payload, "two", 3) == 0);
    batpak_batch_free(batch);

    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 0, &batch, &error), BATPAK_EMPTY, error);
    CHECK(batch == NULL);
    CHECK(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 0);
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 1, &batch, &error), BATPAK_TIMEOUT, error);
    CHECK_OK(batpak_cursor_interrupt(cursor, &error), error);
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, -1, &batch, &error), BATPAK_INTERRUPTED, error);

    CHECK_OK(batpak_cursor_checkpoint_at(cursor, 1, &error), error);
    CHECK_OK(batpak_cursor_rewind(cursor, &error), error);
    CHECK_OK(batpak_cursor_next_sequence(cursor, &number, &error), error);
    CHECK_EQUAL(number, 2);
    CHECK_OK(batpak_cursor_seek(cursor, 4, &error), error);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    CHECK_OK(batpak_cursor_position(cursor, &position, &error), error);
    CHECK(position.next_sequence == 4 && position.position == 3 && position.committed == 3 && position.scanned == 4);
    CHECK(memcmp(position.position_id, receipts[3].id, 16) == 0);
    CHECK_OK(batpak_cursor_seek_beginning(cursor, &error), error);
    CHECK_OK(batpak_cursor_seek_position(cursor, position.next_sequence, position.position_id, &error), error);
    CHECK_STATUS(batpak_cursor_seek_position(cursor, 3, position.position_id, &error),
                 BATPAK_E_CHECKPOINT_DIVERGED, error);
    CHECK_OK(batpak_cursor_seek_time(cursor, clock_us, &error), error);
    CHECK_OK(batpak_cursor_next_sequence(cursor, &number, &error), error);
    CHECK_EQUAL(number, 0);
    CHECK_OK(batpak_cursor_seek_end(cursor, &error), error);
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 0, &batch, &error), BATPAK_EMPTY, error);

    freed = 0;
    CHECK_OK(batpak_cursor_set_wake(cursor, count_free, &freed, count_free, &error), error);
    CHECK_OK(batpak_cursor_set_wake(cursor, NULL, NULL, NULL, &error), error);
    CHECK(freed >= 1);
    CHECK_OK(batpak_cursor_close(cursor, &error), error);
    CHECK_OK(batpak_cursor_close(cursor, &error), error);
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 0, &batch, &error), BATPAK_E_CLOSED, error);
    batpak_cursor_free(cursor);
}

static void regions(batpak_store_t *store) {
    batpak_region_t region;
    batpak_cursor_t *cursor = NULL;
    batpak_batch_t *batch = NULL;
    char identity[100];
    size_t n = 0;

    CHECK_OK(batpak_region_init(&region, sizeof region, &error), error);
    region.entity_match = BATPAK_ENTITY_EXACT;
    region.entity = "user:1";
    region.entity_len = 6;
    region.scope = "web";
    region.scope_len = 3;
    region.kind_match = BATPAK_KIND_CATEGORY;
    region.kind = 1;
    region.has_clock_range = 1;
    region.clock_start = 1;
    region.clock_end = 2;
    CHECK_OK(batpak_region_identity(&region, identity, sizeof identity, &n, &error), error);
    CHECK(n == strlen(identity));
    CHECK(strcmp(identity, "entity=user:1|scope=web|fact=category:1|clock=1-2|match=exact") == 0);
    CHECK_OK(batpak_cursor_open(store, &region, NULL, &cursor, &error), error);
    CHECK_OK(batpak_cursor_poll(cursor, 10, 1000, -1, &batch, &error), error);
    const batpak_event_t *events = batpak_batch_events(batch, &n);
    CHECK(n == 2 && events[0].sequence == 2 && events[1].sequence == 4);
    batpak_batch_free(batch);
    CHECK_STATUS(batpak_cursor_checkpoint(cursor, &error), BATPAK_E_NO_CHECKPOINT, error);
    batpak_cursor_free(cursor);
}

static void checkpoints(batpak_store_t *store, const batpak_receipt_t *receipts) {
    batpak_checkpoint_t *checkpoint = NULL;
    batpak_checkpoint_list_t *list = NULL;
    uint8_t id[16], store_id[16];
    size_t len = 0;

    CHECK_OK(batpak_store_id(store, store_id, &error), error);
    CHECK_OK(batpak_checkpoint_load(store, "reader", 6, &checkpoint, &error), error);
    CHECK(batpak_checkpoint_started(checkpoint) == 1 && batpak_checkpoint_position(checkpoint) == 3);
    CHECK(batpak_checkpoint_scanned(checkpoint) == 4);
    CHECK(batpak_checkpoint_position_id(checkpoint, id) == 1 && memcmp(id, receipts[3].id, 16) == 0);
    CHECK(batpak_checkpoint_store_id(checkpoint, id) == 1 && memcmp(id, store_id, 16) == 0);
    CHECK(strcmp(batpak_checkpoint_region_identity(checkpoint, &len), "entity=*|scope=*|fact=none|clock=*") == 0);
    batpak_checkpoint_free(checkpoint);

    CHECK_OK(batpak_checkpoint_save(store, "other", 5, NULL, 0, &error), error);
    CHECK_OK(batpak_checkpoint_list(store, &list, &error), error);
    CHECK_EQUAL(batpak_checkpoint_list_count(list), 2);
    CHECK(strcmp(batpak_checkpoint_list_id(list, 0, &len), "other") == 0 && len == 5);
    CHECK(strcmp(batpak_checkpoint_list_id(list, 1, NULL), "reader") == 0);
    CHECK(batpak_checkpoint_list_id(list, 2, NULL) == NULL);
    batpak_checkpoint_list_free(list);
    CHECK_OK(batpak_checkpoint_load(store, "other", 5, &checkpoint, &error), error);
    CHECK(batpak_checkpoint_started(checkpoint) == 0);
    CHECK(batpak_checkpoint_position(checkpoint) == BATPAK_NO_SEQUENCE);
    CHECK(batpak_checkpoint_position_id(checkpoint, id) == 0);
    batpak_checkpoint_free(checkpoint);
    CHECK_OK(batpak_checkpoint_delete(store, "other", 5, &error), error);
    CHECK_STATUS(batpak_checkpoint_delete(store, "other", 5, &error), BATPAK_E_CHECKPOINT_NOT_FOUND, error);
}

struct seen {
    uint64_t events;
    int calls;
    int freed;
    batpak_batch_t *kept;
    uint8_t key[32];
};

static void free_seen(void *user_data) {
    ((struct seen *)user_data)->freed++;
}

/* First a retry with one event done, then all the rest, and stop. */
static int32_t handle(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    struct seen *seen = user_data;
    batpak_error_t *own = NULL;
    uint8_t key[32];
    size_t len = 0;

    seen->calls++;
    CHECK(strcmp(batpak_delivery_checkpoint_id(delivery, &len), "worker") == 0 && len == 6);
    CHECK(batpak_delivery_attempt(delivery) == 1);
    CHECK_OK(batpak_delivery_idempotency_key(delivery, 0, 0, key, &own), own);
    CHECK_STATUS(batpak_delivery_idempotency_key(delivery, n, 0, key, &own), BATPAK_E_INVALID_ARGUMENT, own);
    CHECK(memcmp(key, seen->key, 32) != 0);
    memcpy(seen->key, key, 32);
    CHECK_STATUS(batpak_store_close(batpak_delivery_store(delivery), 0, &own), BATPAK_E_REENTRANT, own);
    CHECK(batpak_batch_events(batpak_delivery_batch(delivery), &len) == events && len == n);
    if (seen->calls == 1) {
        CHECK_EQUAL(n, 5);
        seen->events = 1;
        CHECK_OK(batpak_delivery_set_error(delivery, "later", 5, &own), own);
        CHECK_STATUS(batpak_delivery_set_done(delivery, n + 1, &own), BATPAK_E_INVALID_ARGUMENT, own);
        CHECK_OK(batpak_delivery_set_done(delivery, 1, &own), own);
        return BATPAK_HANDLER_RETRY;
    }
    CHECK(n == 4 && events[0].sequence == 1);
    seen->events += n;
    seen->kept = batpak_batch_retain(batpak_delivery_batch(delivery));
    return BATPAK_HANDLER_STOP;
}

static void workers(batpak_store_t *store) {
    batpak_worker_options_t options;
    batpak_worker_stats_t stats;
    batpak_worker_t *worker = NULL;
    struct seen seen = {0};
    size_t n = 0;

    CHECK_OK(batpak_worker_options_init(&options, sizeof options, &error), error);
    CHECK(options.batch_events == 64 && options.idle_wait_ms == 10);
    options.checkpoint_id = "worker";
    options.checkpoint_id_len = 6;
    options.retry_backoff_ms = 1;
    CHECK_OK(batpak_worker_start(store, NULL, &options, handle, &seen, free_seen, &worker, &error), error);
    CHECK_OK(batpak_worker_join(worker, -1, &error), error);
    CHECK_OK(batpak_worker_join(worker, 0, &error), error);
    CHECK(seen.calls == 2 && seen.events == 5 && seen.freed == 1);
    CHECK_OK(batpak_worker_stats_init(&stats, sizeof stats, &error), error);
    CHECK_OK(batpak_worker_stats(worker, &stats, &error), error);
    CHECK(stats.is_running == 0 && stats.batches == 2 && stats.events == 9 && stats.retries == 1 && stats.commits == 2);
    CHECK_OK(batpak_worker_stop(worker, &error), error);
    CHECK_OK(batpak_worker_stop_and_join(worker, -1, &error), error);
    batpak_worker_free(worker);
    CHECK(batpak_batch_events(seen.kept, &n)->sequence == 1 && n == 4);
    batpak_batch_free(seen.kept);
    CHECK_EQUAL(seen.freed, 1);
}

int main(void) {
    char *dir = make_dir();
    batpak_store_options_t options;
    batpak_store_stats_t stats;
    batpak_store_t *store = NULL;
    batpak_receipt_t receipts[5];
    int freed_clock = 0;

    version_and_status();
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.clock = test_clock;
    options.clock_user_data = &clock_us;
    options.log = ignore_log;
    options.log_user_data = &freed_clock;
    options.log_user_data_free = count_free;
    CHECK_OK(batpak_store_open(dir, strlen(dir), &options, &store, &error), error);
    CHECK_STATUS(batpak_store_open_z(dir, NULL, &(batpak_store_t *){NULL}, &error), BATPAK_E_LOCKED, error);
    errors(store);
    append(store, receipts);
    read_back(store, receipts);
    regions(store);
    checkpoints(store, receipts);
    workers(store);
    CHECK_OK(batpak_store_stats_init(&stats, sizeof stats, &error), error);
    CHECK_OK(batpak_store_stats(store, &stats, &error), error);
    CHECK(stats.struct_size == sizeof stats && stats.appended == 5 && stats.workers_running == 0);
    CHECK_OK(batpak_store_close(store, -1, &error), error);
    CHECK_OK(batpak_store_close(store, -1, &error), error);
    CHECK_STATUS(batpak_store_sync(store, &error), BATPAK_E_CLOSED, error);
    batpak_store_free(store);
    CHECK_EQUAL(freed_clock, 1);

    CHECK_OK(batpak_store_open_z(dir, NULL, &store, &error), error);
    CHECK_OK(batpak_store_close(store, 1000, &error), error);
    batpak_store_free(store);
    remove_dir(dir);
    return 0;
}
