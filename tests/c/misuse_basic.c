/* What a caller can get wrong and the library can see: NULL for every pointer of every function, handles of another
 * type, closed objects, struct sizes, extreme lengths, bytes that are no UTF-8. Each is answered with a status, never a
 * crash. */
#include "check.h"

static batpak_error_t *error;
static char *dir;
static int freed;

static void count_free(void *user_data) {
    ++*(int *)user_data;
}

static void no_wake(void *user_data) {
    (void)user_data;
}

static int32_t handle(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)delivery, (void)events, (void)n;
    return BATPAK_HANDLER_STOP;
}

#define REFUSED(call) CHECK_STATUS(call, BATPAK_E_INVALID_ARGUMENT, error)

/* All calls on a store with `store` in place of one. */
static void every_store_call(batpak_store_t *store, batpak_status_t expected) {
    batpak_append_t item;
    batpak_watermarks_t marks;
    batpak_store_stats_t stats;
    batpak_cursor_t *cursor = (batpak_cursor_t *)&item;
    batpak_checkpoint_t *checkpoint = (batpak_checkpoint_t *)&item;
    batpak_checkpoint_list_t *list = (batpak_checkpoint_list_t *)&item;
    batpak_worker_t *worker = (batpak_worker_t *)&item;
    batpak_batch_t *batch = (batpak_batch_t *)&item, *by_id = (batpak_batch_t *)&item;
    batpak_entity_list_t *entities = (batpak_entity_list_t *)&item;
    batpak_entity_head_t head;
    uint64_t sequence;
    uint8_t id[16] = {0};
    int32_t fd;

    CHECK_OK(batpak_append_init(&item, sizeof item, &error), error);
    CHECK_OK(batpak_store_stats_init(&stats, sizeof stats, &error), error);
    item.entity = item.scope = "e";
    item.entity_len = item.scope_len = 1;
    item.kind = 0x1001;
    CHECK_STATUS(batpak_store_append(store, &item, 1, NULL, NULL, &error), expected, error);
    CHECK_STATUS(batpak_store_append_one(store, "e", 1, "s", 1, 0x1001, "", 0, NULL, &error), expected, error);
    CHECK_STATUS(batpak_store_sync(store, &error), expected, error);
    CHECK_STATUS(batpak_store_watermarks(store, &marks, &error), expected, error);
    CHECK_STATUS(batpak_store_wait(store, BATPAK_WATERMARK_VISIBLE, 0, 0, &error), expected, error);
    CHECK_STATUS(batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, UINT64_MAX, -1, &error), expected, error);
    CHECK_STATUS(batpak_store_durable_fd(store, &fd, &error), expected, error);
    CHECK_STATUS(batpak_store_stats(store, &stats, &error), expected, error);
    CHECK_STATUS(batpak_store_id(store, id, &error), expected, error);
    CHECK_STATUS(batpak_store_get(store, 0, &batch, &error), expected, error);
    CHECK_STATUS(batpak_store_get_by_id(store, id, &by_id, &error), expected, error);
    CHECK_STATUS(batpak_store_first_sequence(store, &sequence, &error), expected, error);
    CHECK_STATUS(batpak_store_entity_head(store, "e", 1, &head, &error), expected, error);
    CHECK_STATUS(batpak_store_entities(store, NULL, 0, NULL, 0, 1, &entities, &error), expected, error);
    CHECK_STATUS(batpak_cursor_open(store, NULL, NULL, &cursor, &error), expected, error);
    CHECK_STATUS(batpak_checkpoint_load(store, "c", 1, &checkpoint, &error), expected, error);
    CHECK_STATUS(batpak_checkpoint_save(store, "c", 1, NULL, 0, &error), expected, error);
    CHECK_STATUS(batpak_checkpoint_delete(store, "c", 1, &error), expected, error);
    CHECK_STATUS(batpak_checkpoint_list(store, &list, &error), expected, error);
    CHECK_STATUS(batpak_worker_start(store, NULL, NULL, handle, &freed, count_free, &worker, &error), expected, error);
    /* Handles are NULL on failure, also when the failure is another parameter's. */
    CHECK(cursor == NULL && checkpoint == NULL && list == NULL && worker == NULL);
    CHECK(batch == NULL && by_id == NULL && entities == NULL);
}

static void every_cursor_call(batpak_cursor_t *cursor, batpak_status_t expected) {
    batpak_batch_t *batch = (batpak_batch_t *)&error;
    batpak_gap_list_t *gaps = (batpak_gap_list_t *)&error;
    batpak_cursor_position_t position;
    uint64_t number;
    int32_t fd;
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 0, &batch, &error), expected, error);
    CHECK(batch == NULL);
    CHECK_STATUS(batpak_cursor_take_gaps(cursor, &gaps, &error), expected, error);
    CHECK(gaps == NULL);
    CHECK_STATUS(batpak_cursor_checkpoint(cursor, &error), expected, error);
    CHECK_STATUS(batpak_cursor_checkpoint_at(cursor, 0, &error), expected, error);
    CHECK_STATUS(batpak_cursor_rewind(cursor, &error), expected, error);
    CHECK_STATUS(batpak_cursor_seek(cursor, 0, &error), expected, error);
    CHECK_STATUS(batpak_cursor_seek_time(cursor, 0, &error), expected, error);
    CHECK_STATUS(batpak_cursor_seek_beginning(cursor, &error), expected, error);
    CHECK_STATUS(batpak_cursor_seek_end(cursor, &error), expected, error);
    CHECK_STATUS(batpak_cursor_seek_position(cursor, 0, NULL, &error), expected, error);
    CHECK_STATUS(batpak_cursor_position(cursor, &position, &error), expected, error);
    CHECK_STATUS(batpak_cursor_next_sequence(cursor, &number, &error), expected, error);
    CHECK_STATUS(batpak_cursor_lag(cursor, &number, &error), expected, error);
    CHECK_STATUS(batpak_cursor_notify_fd(cursor, &fd, &error), expected, error);
    CHECK_STATUS(batpak_cursor_set_wake(cursor, no_wake, &freed, count_free, &error), expected, error);
    CHECK_STATUS(batpak_cursor_interrupt(cursor, &error), expected, error);
}

static void every_worker_call(batpak_worker_t *worker, batpak_status_t expected) {
    batpak_worker_stats_t stats;
    CHECK_OK(batpak_worker_stats_init(&stats, sizeof stats, &error), error);
    CHECK_STATUS(batpak_worker_stop(worker, &error), expected, error);
    CHECK_STATUS(batpak_worker_join(worker, 0, &error), expected, error);
    CHECK_STATUS(batpak_worker_stop_and_join(worker, 0, &error), expected, error);
    CHECK_STATUS(batpak_worker_stats(worker, &stats, &error), expected, error);
}

static void every_delivery_call(batpak_delivery_t *delivery) {
    uint8_t key[32];
    size_t len = 7;
    CHECK(batpak_delivery_checkpoint_id(delivery, &len) == NULL && len == 0);
    CHECK(batpak_delivery_attempt(delivery) == 0);
    uint64_t dropped = 7;
    CHECK(batpak_delivery_gaps(delivery, NULL, NULL) == NULL);
    len = 7;
    CHECK(batpak_delivery_gaps(delivery, &len, &dropped) == NULL && len == 0 && dropped == 0);
    CHECK(batpak_delivery_store(delivery) == NULL && batpak_delivery_batch(delivery) == NULL);
    REFUSED(batpak_delivery_idempotency_key(delivery, 0, 0, key, &error));
    REFUSED(batpak_delivery_set_done(delivery, 0, &error));
    REFUSED(batpak_delivery_set_error(delivery, "", 0, &error));
}

static void getters_of_nothing(void *nothing) {
    size_t n = 7;
    uint8_t id[16];
    CHECK(batpak_batch_events(nothing, &n) == NULL && n == 0);
    CHECK(batpak_batch_events(nothing, NULL) == NULL);
    CHECK(batpak_batch_retain(nothing) == NULL);
    n = 7;
    CHECK(batpak_gap_list_gaps(nothing, &n) == NULL && n == 0 && batpak_gap_list_gaps(nothing, NULL) == NULL);
    CHECK(batpak_gap_list_dropped(nothing) == 0);
    CHECK(batpak_checkpoint_started(nothing) == 0 && batpak_checkpoint_position(nothing) == BATPAK_NO_SEQUENCE);
    CHECK(batpak_checkpoint_scanned(nothing) == 0);
    CHECK(batpak_checkpoint_position_id(nothing, id) == 0 && batpak_checkpoint_position_id(nothing, NULL) == 0);
    CHECK(batpak_checkpoint_store_id(nothing, id) == 0);
    CHECK(batpak_checkpoint_region_identity(nothing, &n) == NULL && n == 0);
    CHECK(batpak_checkpoint_region_identity(nothing, NULL) == NULL);
    CHECK(batpak_checkpoint_list_count(nothing) == 0 && batpak_checkpoint_list_id(nothing, 0, NULL) == NULL);
    CHECK(batpak_entity_list_entities(nothing, &n) == NULL && n == 0);
    CHECK(batpak_entity_list_entities(nothing, NULL) == NULL);
    CHECK(batpak_error_os_errno(nothing) == 0 && batpak_error_is_retryable(nothing) == 0);
    CHECK(batpak_error_is_fatal(nothing) == 0 && batpak_error_message(nothing, NULL) != NULL);
    CHECK(batpak_error_detail(nothing, "path", 4, &n) == NULL && n == 0);
    batpak_batch_free(nothing);
    batpak_gap_list_free(nothing);
    batpak_checkpoint_free(nothing);
    batpak_checkpoint_list_free(nothing);
    batpak_entity_list_free(nothing);
    batpak_cursor_free(nothing);
    batpak_worker_free(nothing);
    batpak_store_free(nothing);
    batpak_error_free(nothing);
}

static void null_handles(void) {
    every_store_call(NULL, BATPAK_E_INVALID_ARGUMENT);
    every_cursor_call(NULL, BATPAK_E_INVALID_ARGUMENT);
    every_worker_call(NULL, BATPAK_E_INVALID_ARGUMENT);
    every_delivery_call(NULL);
    getters_of_nothing(NULL);
    REFUSED(batpak_store_close(NULL, 0, &error));
    REFUSED(batpak_cursor_close(NULL, &error));
    CHECK(batpak_error_code(NULL) == BATPAK_OK && strcmp(batpak_error_message(NULL, NULL), "") == 0);
    /* Without a place for the error, the status is all there is. */
    CHECK(batpak_store_sync(NULL, NULL) == BATPAK_E_INVALID_ARGUMENT);
    CHECK_EQUAL(freed, 0);
}

static void wrong_handles(batpak_store_t *store) {
    batpak_cursor_t *cursor = NULL;
    uint64_t zeros[32] = {0};
    CHECK_OK(batpak_cursor_open(store, NULL, NULL, &cursor, &error), error);
    every_store_call((batpak_store_t *)cursor, BATPAK_E_INVALID_ARGUMENT);
    every_cursor_call((batpak_cursor_t *)store, BATPAK_E_INVALID_ARGUMENT);
    every_worker_call((batpak_worker_t *)store, BATPAK_E_INVALID_ARGUMENT);
    every_delivery_call((batpak_delivery_t *)store);
    REFUSED(batpak_store_close((batpak_store_t *)cursor, 0, &error));
    REFUSED(batpak_cursor_close((batpak_cursor_t *)store, &error));
    getters_of_nothing(zeros);
    CHECK(batpak_error_code((batpak_error_t *)store) == BATPAK_E_INVALID_ARGUMENT);
    /* Freeing as the wrong type is left undone, so the objects still work. */
    batpak_cursor_free((batpak_cursor_t *)store);
    batpak_store_free((batpak_store_t *)cursor);
    batpak_batch_free((batpak_batch_t *)cursor);
    batpak_error_free((batpak_error_t *)cursor);
    CHECK_OK(batpak_cursor_rewind(cursor, &error), error);
    /* An address that is no object of any kind. */
    every_store_call((batpak_store_t *)((char *)zeros + 1), BATPAK_E_INVALID_ARGUMENT);
    batpak_cursor_free(cursor);
    CHECK_EQUAL(freed, 0);
}

static void null_parameters(batpak_store_t *store) {
    batpak_cursor_t *cursor = NULL;
    batpak_append_t item = {.struct_size = sizeof item, .kind = 0x1001,
                            .entity = "e", .entity_len = 1, .scope = "s", .scope_len = 1};
    const batpak_status_info_t *list;
    size_t n;

    REFUSED(batpak_status_list(NULL, &n, &error));
    REFUSED(batpak_status_list(&list, NULL, &error));
    CHECK(batpak_has_feature(NULL, 0) == 0 && batpak_has_feature(NULL, 3) == 0);
    REFUSED(batpak_store_options_init(NULL, sizeof(batpak_store_options_t), &error));
    REFUSED(batpak_append_init(NULL, sizeof(batpak_append_t), &error));
    REFUSED(batpak_append_options_init(NULL, sizeof(batpak_append_options_t), &error));
    REFUSED(batpak_store_stats_init(NULL, sizeof(batpak_store_stats_t), &error));
    REFUSED(batpak_region_init(NULL, sizeof(batpak_region_t), &error));
    REFUSED(batpak_cursor_options_init(NULL, sizeof(batpak_cursor_options_t), &error));
    REFUSED(batpak_worker_options_init(NULL, sizeof(batpak_worker_options_t), &error));
    REFUSED(batpak_worker_stats_init(NULL, sizeof(batpak_worker_stats_t), &error));

    REFUSED(batpak_store_open(NULL, 3, NULL, &(batpak_store_t *){NULL}, &error));
    REFUSED(batpak_store_open(NULL, 0, NULL, &(batpak_store_t *){NULL}, &error));
    REFUSED(batpak_store_open("a\0b", 3, NULL, &(batpak_store_t *){NULL}, &error));
    REFUSED(batpak_store_open(dir, strlen(dir), NULL, NULL, &error));
    REFUSED(batpak_store_open_z(NULL, NULL, &(batpak_store_t *){NULL}, &error));
    REFUSED(batpak_store_open_z("", NULL, &(batpak_store_t *){NULL}, &error));
    REFUSED(batpak_store_open_z(dir, NULL, NULL, &error));
    REFUSED(batpak_store_close(store, -2, &error));

    REFUSED(batpak_store_append(store, NULL, 1, NULL, NULL, &error));
    CHECK_STATUS(batpak_store_append(store, NULL, 0, NULL, NULL, &error), BATPAK_E_BATCH_EMPTY, error);
    CHECK_STATUS(batpak_store_append(store, &item, 0, NULL, NULL, &error), BATPAK_E_BATCH_EMPTY, error);
    REFUSED(batpak_store_append_one(store, NULL, 1, "s", 1, 0x1001, "", 0, NULL, &error));
    REFUSED(batpak_store_append_one(store, "e", 1, NULL, 1, 0x1001, "", 0, NULL, &error));
    REFUSED(batpak_store_append_one(store, "e", 1, "s", 1, 0x1001, NULL, 1, NULL, &error));
    CHECK_STATUS(batpak_store_append_one(store, NULL, 0, "s", 1, 0x1001, NULL, 0, NULL, &error),
                 BATPAK_E_COORDINATE_EMPTY, error);
    item.causes = NULL, item.cause_count = 1;
    REFUSED(batpak_store_append(store, &item, 1, NULL, NULL, &error));
    item.cause_count = 0, item.batch_cause_count = 1;
    REFUSED(batpak_store_append(store, &item, 1, NULL, NULL, &error));
    item.batch_causes = (const uint32_t *)((const char *)&n + 1);
    REFUSED(batpak_store_append(store, &item, 1, NULL, NULL, &error));

    REFUSED(batpak_store_watermarks(store, NULL, &error));
    REFUSED(batpak_store_wait(store, 0, 0, 0, &error));
    REFUSED(batpak_store_wait(store, 3, 0, 0, &error));
    REFUSED(batpak_store_wait(store, BATPAK_WATERMARK_VISIBLE, 0, -2, &error));
    REFUSED(batpak_store_durable_fd(store, NULL, &error));
    REFUSED(batpak_store_stats(store, NULL, &error));
    REFUSED(batpak_store_id(store, NULL, &error));
    REFUSED(batpak_store_get(store, 0, NULL, &error));
    REFUSED(batpak_store_get_by_id(store, NULL, &(batpak_batch_t *){NULL}, &error));
    REFUSED(batpak_store_get_by_id(store, (const uint8_t *)"0123456789abcdef", NULL, &error));
    REFUSED(batpak_store_first_sequence(store, NULL, &error));
    REFUSED(batpak_store_entity_head(store, "e", 1, NULL, &error));
    REFUSED(batpak_store_entity_head(store, NULL, 1, &(batpak_entity_head_t){0}, &error));
    REFUSED(batpak_store_entities(store, NULL, 0, NULL, 0, 1, NULL, &error));
    REFUSED(batpak_store_entities(store, NULL, 1, NULL, 0, 1, &(batpak_entity_list_t *){NULL}, &error));
    REFUSED(batpak_store_entities(store, NULL, 0, NULL, 1, 1, &(batpak_entity_list_t *){NULL}, &error));
    REFUSED(batpak_store_entities(store, NULL, 0, NULL, 0, 0, &(batpak_entity_list_t *){NULL}, &error));
    REFUSED(batpak_region_identity(NULL, NULL, 0, NULL, &error));
    REFUSED(batpak_region_identity(NULL, (char[4]){0}, 4, &n, &error));
    REFUSED(batpak_cursor_open(store, NULL, NULL, NULL, &error));
    REFUSED(batpak_checkpoint_load(store, "c", 1, NULL, &error));
    REFUSED(batpak_checkpoint_load(store, NULL, 1, &(batpak_checkpoint_t *){NULL}, &error));
    CHECK_STATUS(batpak_checkpoint_load(store, NULL, 0, &(batpak_checkpoint_t *){NULL}, &error),
                 BATPAK_E_CHECKPOINT_ID_INVALID, error);
    REFUSED(batpak_checkpoint_save(store, NULL, 1, NULL, 0, &error));
    REFUSED(batpak_checkpoint_delete(store, NULL, 1, &error));
    REFUSED(batpak_checkpoint_list(store, NULL, &error));
    REFUSED(batpak_worker_start(store, NULL, NULL, NULL, &freed, count_free, &(batpak_worker_t *){NULL}, &error));
    REFUSED(batpak_worker_start(store, NULL, NULL, handle, &freed, count_free, NULL, &error));

    CHECK_OK(batpak_cursor_open(store, NULL, NULL, &cursor, &error), error);
    REFUSED(batpak_cursor_poll(cursor, 1, 0, 0, NULL, &error));
    REFUSED(batpak_cursor_poll(cursor, 0, 0, 0, &(batpak_batch_t *){NULL}, &error));
    REFUSED(batpak_cursor_poll(cursor, 1, 0, -2, &(batpak_batch_t *){NULL}, &error));
    REFUSED(batpak_cursor_position(cursor, NULL, &error));
    REFUSED(batpak_cursor_next_sequence(cursor, NULL, &error));
    REFUSED(batpak_cursor_lag(cursor, NULL, &error));
    REFUSED(batpak_cursor_take_gaps(cursor, NULL, &error));
    REFUSED(batpak_cursor_notify_fd(cursor, NULL, &error));
    REFUSED(batpak_cursor_seek(cursor, BATPAK_NO_SEQUENCE, &error));
    batpak_cursor_free(cursor);
    CHECK_EQUAL(freed, 0);
}

static void struct_sizes(batpak_store_t *store) {
    union {
        batpak_region_t now;
        unsigned char bytes[sizeof(batpak_region_t) + 16];
    } larger;
    batpak_append_t items[2];
    batpak_cursor_t *cursor = NULL;
    batpak_store_stats_t stats;
    size_t n = 0;
    static const uint32_t impossible[] = {0, 1, 4, 7, 9, 5000, UINT32_MAX};

    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        memset(&larger, 0, sizeof larger);
        larger.now.struct_size = impossible[i];
        REFUSED(batpak_region_identity(&larger.now, NULL, 0, &n, &error));
        REFUSED(batpak_cursor_open(store, &larger.now, NULL, &cursor, &error));
        memset(items, 0, sizeof items);
        items[0].struct_size = impossible[i];
        REFUSED(batpak_store_append(store, items, 1, NULL, NULL, &error));
        REFUSED(batpak_region_init(&larger.now, impossible[i], &error));
    }

    /* A newer header: fine while what this library does not know is zero. */
    CHECK_OK(batpak_region_init(&larger.now, sizeof larger, &error), error);
    CHECK(larger.now.struct_size == sizeof larger);
    CHECK_OK(batpak_region_identity(&larger.now, NULL, 0, &n, &error), error);
    larger.bytes[sizeof larger - 1] = 1;
    CHECK_STATUS(batpak_region_identity(&larger.now, NULL, 0, &n, &error), BATPAK_E_UNSUPPORTED, error);

    /* An older header: what it does not have is the default, whatever lies behind it. */
    memset(&larger, 0xFF, sizeof larger);
    larger.now.struct_size = 8;
    larger.now.entity_match = BATPAK_ENTITY_ANY;
    CHECK_OK(batpak_region_identity(&larger.now, NULL, 0, &n, &error), error);

    CHECK_OK(batpak_region_init(&larger.now, sizeof larger.now, &error), error);
    larger.now.reserved[3] = 1;
    CHECK_STATUS(batpak_region_identity(&larger.now, NULL, 0, &n, &error), BATPAK_E_UNSUPPORTED, error);

    /* Items of a batch are as far apart as the first one says, and all say the same. */
    memset(items, 0, sizeof items);
    for (int i = 0; i < 2; i++) {
        items[i] = (batpak_append_t){.struct_size = sizeof *items, .kind = 0x1001,
                                .entity = "e", .entity_len = 1, .scope = "s", .scope_len = 1};
    }
    items[1].struct_size += 8;
    REFUSED(batpak_store_append(store, items, 2, NULL, NULL, &error));
    items[1].struct_size -= 8;
    items[1].flags = 1;
    CHECK_STATUS(batpak_store_append(store, items, 2, NULL, NULL, &error), BATPAK_E_UNSUPPORTED, error);
    items[1].flags = 0, items[1].schema = 65536;
    REFUSED(batpak_store_append(store, items, 2, NULL, NULL, &error));
    items[1].schema = 65535;
    CHECK_OK(batpak_store_append(store, items, 2, NULL, NULL, &error), error);

    /* Items of a newer header, further apart. */
    struct {
        batpak_append_t now;
        uint64_t later;
    } apart[2];
    memset(apart, 0, sizeof apart);
    for (int i = 0; i < 2; i++) {
        apart[i].now = items[1];
        apart[i].now.struct_size = sizeof apart[i];
    }
    CHECK_OK(batpak_store_append(store, &apart[0].now, 2, NULL, NULL, &error), error);
    apart[1].later = 1;
    CHECK_STATUS(batpak_store_append(store, &apart[0].now, 2, NULL, NULL, &error), BATPAK_E_UNSUPPORTED, error);

    /* An older one gets as much as it has room for, and not a byte more. */
    memset(&stats, 0xFF, sizeof stats);
    stats.struct_size = offsetof(batpak_store_stats_t, visible);
    CHECK_OK(batpak_store_stats(store, &stats, &error), error);
    CHECK(stats.appended == 4 && stats.visible == UINT64_MAX);
}

static void values_out_of_range(batpak_store_t *store) {
    batpak_store_options_t options;
    batpak_append_options_t append_options = {.struct_size = sizeof append_options, .durability = 3};
    batpak_worker_options_t worker_options;
    batpak_append_t item = {.struct_size = sizeof item, .kind = 0x1001,
                            .entity = "e", .entity_len = 1, .scope = "s", .scope_len = 1};
    batpak_store_t *other = NULL;
    batpak_worker_t *worker = NULL;

    CHECK_STATUS(batpak_store_append_one(store, "e", 1, "s", 1, 0x10000, "", 0, NULL, &error),
                 BATPAK_E_KIND_OUT_OF_RANGE, error);
    CHECK_STATUS(batpak_store_append_one(store, "e", 1, "s", 1, 0x0001, "", 0, NULL, &error),
                 BATPAK_E_KIND_RESERVED, error);
    CHECK_STATUS(batpak_store_append_one(store, "e", 1, "s", 1, 0xD001, "", 0, NULL, &error),
                 BATPAK_E_KIND_RESERVED, error);
    CHECK_STATUS(batpak_store_append_one(store, "batpak:x", 8, "s", 1, 0x1001, "", 0, NULL, &error),
                 BATPAK_E_ENTITY_RESERVED, error);
    CHECK_STATUS(batpak_store_append_one(store, "*", 1, "s", 1, 0x1001, "", 0, NULL, &error),
                 BATPAK_E_COORDINATE_WILDCARD, error);
    REFUSED(batpak_store_append(store, &item, 1, &append_options, NULL, &error));
    append_options.durability = BATPAK_DURABILITY_DEFAULT, append_options.flags = 2;
    CHECK_STATUS(batpak_store_append(store, &item, 1, &append_options, NULL, &error), BATPAK_E_UNSUPPORTED, error);

    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.clock_user_data_free = count_free, options.clock_user_data = &freed;
    options.flags = 16;
    CHECK_STATUS(batpak_store_open_z(dir, &options, &other, &error), BATPAK_E_UNSUPPORTED, error);
    options.flags = 0, options.durability = 3;
    REFUSED(batpak_store_open_z(dir, &options, &other, &error));
    options.durability = 0, options.segment_bytes = 1;
    REFUSED(batpak_store_open_z(dir, &options, &other, &error));
    options.segment_bytes = 0, options.payload_bytes_max = UINT64_MAX;
    REFUSED(batpak_store_open_z(dir, &options, &other, &error));
    options.payload_bytes_max = 0;
    CHECK_STATUS(batpak_store_open_z(dir, &options, &other, &error), BATPAK_E_LOCKED, error);

    CHECK_OK(batpak_worker_options_init(&worker_options, sizeof worker_options, &error), error);
    worker_options.callback_user_data = &freed, worker_options.callback_user_data_free = count_free;
    worker_options.restart_policy = 2;
    REFUSED(batpak_worker_start(store, NULL, &worker_options, handle, &freed, count_free, &worker, &error));
    worker_options.restart_policy = BATPAK_RESTART_BOUNDED, worker_options.within_ms = 0;
    REFUSED(batpak_worker_start(store, NULL, &worker_options, handle, &freed, count_free, &worker, &error));
    worker_options.restart_policy = BATPAK_RESTART_ONCE;
    worker_options.checkpoint_id = "../x", worker_options.checkpoint_id_len = 4;
    CHECK_STATUS(batpak_worker_start(store, NULL, &worker_options, handle, &freed, count_free, &worker, &error),
                 BATPAK_E_CHECKPOINT_ID_INVALID, error);
    /* What failed consumed nothing. */
    CHECK_EQUAL(freed, 0);
}

static void extreme_lengths(batpak_store_t *store) {
    static char letters[1025];
    batpak_append_t item = {.struct_size = sizeof item, .kind = 0x1001,
                            .entity = "e", .entity_len = 1, .scope = "s", .scope_len = 1};
    memset(letters, 'x', sizeof letters);
    CHECK_OK(batpak_store_append_one(store, letters, 1024, letters, 1024, 0x1001, "", 0, NULL, &error), error);
    CHECK_STATUS(batpak_store_append_one(store, letters, 1025, "s", 1, 0x1001, "", 0, NULL, &error),
                 BATPAK_E_COORDINATE_TOO_LONG, error);
    REFUSED(batpak_store_append_one(store, "e", SIZE_MAX, "s", 1, 0x1001, "", 0, NULL, &error));
    REFUSED(batpak_store_append_one(store, "e", 1, "s", SIZE_MAX, 0x1001, "", 0, NULL, &error));
    REFUSED(batpak_store_append_one(store, "e", 1, "s", 1, 0x1001, "", SIZE_MAX, NULL, &error));
    CHECK_STATUS(batpak_store_append_one(store, "e", SIZE_MAX / 2, "s", 1, 0x1001, "", 0, NULL, &error),
                 BATPAK_E_COORDINATE_TOO_LONG, error);
    CHECK_STATUS(batpak_store_append_one(store, "e", 1, "s", 1, 0x1001, "", SIZE_MAX / 2, NULL, &error),
                 BATPAK_E_PAYLOAD_TOO_LARGE, error);
    REFUSED(batpak_store_append(store, &item, SIZE_MAX, NULL, NULL, &error));
    /* A length that is a mistake is not copied first: that would end the process. */
    CHECK_STATUS(batpak_checkpoint_load(store, "c", SIZE_MAX / 2, &(batpak_checkpoint_t *){NULL}, &error),
                 BATPAK_E_CHECKPOINT_ID_INVALID, error);
    CHECK_STATUS(batpak_checkpoint_delete(store, "c", UINT32_MAX, &error), BATPAK_E_CHECKPOINT_ID_INVALID, error);
    /* Receipts that cannot be written are refused before anything is appended. */
    batpak_watermarks_t before, after;
    batpak_receipt_t receipts[2];
    CHECK_OK(batpak_store_watermarks(store, &before, &error), error);
    REFUSED(batpak_store_append(store, &item, 1, NULL, (batpak_receipt_t *)((char *)receipts + 1), &error));
    REFUSED(batpak_store_append_one(store, "e", 1, "s", 1, 0x1001, "", 0, (batpak_receipt_t *)((char *)receipts + 1), &error));
    CHECK_OK(batpak_store_watermarks(store, &after, &error), error);
    CHECK_EQUAL(after.appended, before.appended);
    REFUSED(batpak_store_entities(store, "e", SIZE_MAX, NULL, 0, 1, &(batpak_entity_list_t *){NULL}, &error));
    REFUSED(batpak_store_entities(store, NULL, 0, "e", SIZE_MAX, 1, &(batpak_entity_list_t *){NULL}, &error));
    REFUSED(batpak_store_entity_head(store, "e", SIZE_MAX, &(batpak_entity_head_t){0}, &error));
    item.causes = (const uint8_t *)letters, item.cause_count = SIZE_MAX;
    REFUSED(batpak_store_append(store, &item, 1, NULL, NULL, &error));
    item.cause_count = 65;
    CHECK_STATUS(batpak_store_append(store, &item, 1, NULL, NULL, &error), BATPAK_E_TOO_MANY_CAUSES, error);
    item.cause_count = 0, item.batch_causes = (const uint32_t[]){0}, item.batch_cause_count = 1;
    CHECK_STATUS(batpak_store_append(store, &item, 1, NULL, NULL, &error), BATPAK_E_CAUSE_NOT_EARLIER, error);
    REFUSED(batpak_store_open("x", SIZE_MAX, NULL, &(batpak_store_t *){NULL}, &error));
    REFUSED(batpak_checkpoint_load(store, "x", SIZE_MAX, &(batpak_checkpoint_t *){NULL}, &error));
    CHECK_STATUS(batpak_checkpoint_load(store, letters, 201, &(batpak_checkpoint_t *){NULL}, &error),
                 BATPAK_E_CHECKPOINT_ID_INVALID, error);
    CHECK(batpak_has_feature("cursor", SIZE_MAX) == 0);
}

static void bytes_that_are_no_utf8(batpak_store_t *store) {
    batpak_region_t region;
    size_t n;
    CHECK_STATUS(batpak_store_append_one(store, "ab\xFF", 3, "s", 1, 0x1001, "", 0, NULL, &error),
                 BATPAK_E_COORDINATE_NOT_UTF8, error);
    CHECK_STATUS(batpak_store_append_one(store, "e", 1, "\xC3", 1, 0x1001, "", 0, NULL, &error),
                 BATPAK_E_COORDINATE_NOT_UTF8, error);
    CHECK_OK(batpak_store_append_one(store, "\xC3\xA9", 2, "s", 1, 0x1001, "\xFF", 1, NULL, &error), error);
    CHECK_OK(batpak_region_init(&region, sizeof region, &error), error);
    region.entity_match = BATPAK_ENTITY_PREFIX, region.entity = "\x80", region.entity_len = 1;
    CHECK_STATUS(batpak_region_identity(&region, NULL, 0, &n, &error), BATPAK_E_COORDINATE_NOT_UTF8, error);
    CHECK_STATUS(batpak_checkpoint_delete(store, "\xFF", 1, &error), BATPAK_E_CHECKPOINT_ID_INVALID, error);
}

static void closed_objects(batpak_store_t *store) {
    batpak_cursor_t *cursor = NULL, *left_open = NULL;
    batpak_worker_t *worker = NULL;
    batpak_batch_t *batch = NULL;
    size_t n = 0;
    CHECK_OK(batpak_cursor_open(store, NULL, NULL, &cursor, &error), error);
    CHECK_OK(batpak_cursor_open(store, NULL, NULL, &left_open, &error), error);
    CHECK_OK(batpak_cursor_poll(left_open, 100, 0, 0, &batch, &error), error);
    CHECK_OK(batpak_cursor_close(cursor, &error), error);
    every_cursor_call(cursor, BATPAK_E_CLOSED);
    CHECK_OK(batpak_cursor_close(cursor, &error), error);
    CHECK_OK(batpak_worker_start(store, NULL, NULL, handle, &freed, count_free, &worker, &error), error);
    CHECK_OK(batpak_store_close(store, -1, &error), error);
    every_store_call(store, BATPAK_E_CLOSED);
    every_cursor_call(left_open, BATPAK_E_CLOSED);
    CHECK_OK(batpak_store_close(store, 0, &error), error);
    CHECK_OK(batpak_cursor_close(left_open, &error), error);
    /* The close has ended the worker, as if it had been told to stop. */
    every_worker_call(worker, BATPAK_OK);
    CHECK_EQUAL(freed, 1);
    /* A batch stays readable, in whatever order handles go. */
    batpak_store_free(store);
    batpak_cursor_free(left_open);
    batpak_worker_free(worker);
    batpak_cursor_free(cursor);
    CHECK(batpak_batch_events(batch, &n)->sequence == 0 && n > 0);
    batpak_batch_free(batch);
    CHECK_EQUAL(freed, 1);
}

int main(void) {
    batpak_store_t *store = NULL;
    dir = make_dir();
    null_handles();
    CHECK_OK(batpak_store_open_z(dir, NULL, &store, &error), error);
    wrong_handles(store);
    null_parameters(store);
    struct_sizes(store);
    values_out_of_range(store);
    extreme_lengths(store);
    bytes_that_are_no_utf8(store);
    closed_objects(store);
    remove_dir(dir);
    return 0;
}
