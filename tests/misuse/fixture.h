/* What the generated calls of tests/misuse.rs need: objects of each type, and what must hold after each call. */
#include "events.h"

static const char text[] = "text", zero_inside[] = "a\0bc", control_inside[] = "a\nb\x7f", bad_utf8[] = "\xff\xfe\xc0\x80";
static char long_text[70000];

static struct {
    batpak_store_t *store, *other_store, *ended_store;
    batpak_cursor_t *cursor, *ended_cursor;
    batpak_worker_t *worker, *ended_worker;
    batpak_fence_t *fence, *ended_fence;
    batpak_batch_t *batch;
    batpak_checkpoint_t *checkpoint;
    batpak_gap_list_t *gap_list;
    batpak_checkpoint_list_t *checkpoint_list;
    batpak_entity_list_t *entity_list;
    batpak_delivery_t *delivery;
    /* Where functions put what they make. */
    batpak_store_t *out_store;
    batpak_cursor_t *out_cursor;
    batpak_worker_t *out_worker;
    batpak_fence_t *out_fence;
    batpak_batch_t *out_batch;
    batpak_checkpoint_t *out_checkpoint;
    batpak_gap_list_t *out_gap_list;
    batpak_checkpoint_list_t *out_checkpoint_list;
    batpak_entity_list_t *out_entity_list;
    uint8_t out[4096], before[4096];
    batpak_error_t *err;
    char *root, fresh_path[PATH_MAX], used_path[PATH_MAX];
    uint64_t calls;
    unsigned paths;
    const char *function, *label;
} g;

/* Never called with anything to do: workers of the fixture have a region without events. */
static int32_t handle(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)delivery, (void)events, (void)n;
    return BATPAK_HANDLER_CONTINUE;
}

static void wake(void *user_data) {
    (void)user_data;
}

static void free_nothing(void *user_data) {
    (void)user_data;
}

static void *copy_of(const void *from, size_t size) {
    static _Alignas(16) uint8_t copy[4096];
    memset(copy, 0, sizeof copy);
    memcpy(copy, from, size);
    return copy;
}

#define RIGHT(name, ...) \
    static const name##_t *right_##name##_t(void) { \
        static name##_t right; \
        right = (name##_t){.struct_size = sizeof right, __VA_ARGS__}; \
        return &right; \
    }
RIGHT(batpak_store_options, .flags = 0)
RIGHT(batpak_append_options, .flags = 0)
RIGHT(batpak_fence_options, .timeout_ms = 1000)
RIGHT(batpak_cursor_options, .checkpoint_id = "gen", .checkpoint_id_len = 3)
RIGHT(batpak_region, .entity = text, .entity_len = 4, .scope = text, .scope_len = 4)
RIGHT(batpak_import_options, .from_sequence = 0)
RIGHT(batpak_worker_options, .checkpoint_id = "genw", .checkpoint_id_len = 4)

static const batpak_append_t *right_batpak_append_t(void) {
    static batpak_append_t items[2];
    items[0] = items[1] = item_of("entity", "payload");
    return items;
}

static batpak_store_stats_t *prepared_batpak_store_stats_t(void) {
    batpak_store_stats_t *stats = (void *)g.out;
    CHECK_OK(batpak_store_stats_init(stats, sizeof *stats, &error), error);
    memcpy(g.before, g.out, sizeof g.out);
    return stats;
}

static batpak_worker_stats_t *prepared_batpak_worker_stats_t(void) {
    batpak_worker_stats_t *stats = (void *)g.out;
    CHECK_OK(batpak_worker_stats_init(stats, sizeof *stats, &error), error);
    memcpy(g.before, g.out, sizeof g.out);
    return stats;
}

static batpak_worker_t *start(batpak_store_t *store) {
    batpak_worker_t *worker = NULL;
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "nobody");
    CHECK_OK(batpak_worker_start(store, &region, NULL, handle, NULL, NULL, &worker, &error), error);
    return worker;
}

static batpak_fence_t *begin(batpak_store_t *store) {
    batpak_fence_t *fence = NULL;
    CHECK_OK(batpak_fence_begin(store, NULL, &fence, &error), error);
    return fence;
}

static batpak_store_t *open_new(void) {
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/own-%u", g.root, g.paths++);
    return open_store_with(path, MIB, BATPAK_DURABILITY_PROCESS);
}

/* Objects of each type, in use and ended. */
static void make_objects(void) {
    g.store = open_new();
    g.other_store = open_new();
    g.ended_store = open_new();
    append(g.store, "entity", "payload");
    append(g.other_store, "entity", "payload");
    g.cursor = open_cursor(g.store, NULL, "c");
    g.ended_cursor = open_cursor(g.ended_store, NULL, NULL);
    g.worker = start(g.store);
    g.ended_worker = start(g.ended_store);
    g.fence = begin(g.store);
    g.ended_fence = begin(g.ended_store);
    CHECK_OK(batpak_cursor_poll(g.cursor, 1, 0, 0, &g.batch, &error), error);
    CHECK_OK(batpak_cursor_checkpoint(g.cursor, &error), error);
    CHECK_OK(batpak_checkpoint_load(g.store, "c", 1, &g.checkpoint, &error), error);
    CHECK_OK(batpak_checkpoint_list(g.store, &g.checkpoint_list, &error), error);
    CHECK_OK(batpak_store_entities(g.store, NULL, 0, NULL, 0, 10, &g.entity_list, &error), error);
    CHECK_OK(batpak_cursor_take_gaps(g.cursor, &g.gap_list, &error), error);
    CHECK_OK(batpak_cursor_close(g.ended_cursor, &error), error);
    CHECK_OK(batpak_fence_cancel(g.ended_fence, &error), error);
    CHECK_OK(batpak_store_close(g.ended_store, SOON_MS, &error), error);
    snprintf(g.fresh_path, sizeof g.fresh_path, "%.*s/fresh-%u", PATH_MAX - 32, g.root, g.paths++);
    snprintf(g.used_path, sizeof g.used_path, "%.*s/own-%u", PATH_MAX - 32, g.root, g.paths - 4);
}

/* Closed by the call or not, stores and cursors are freed once: frees of the generated calls are left out of this. */
static void drop_objects(void) {
    batpak_batch_free(g.batch);
    batpak_checkpoint_free(g.checkpoint);
    batpak_checkpoint_list_free(g.checkpoint_list);
    batpak_entity_list_free(g.entity_list);
    batpak_gap_list_free(g.gap_list);
    batpak_fence_free(g.fence);
    batpak_fence_free(g.ended_fence);
    batpak_cursor_free(g.cursor);
    batpak_cursor_free(g.ended_cursor);
    batpak_worker_free(g.worker);
    batpak_worker_free(g.ended_worker);
    batpak_store_t *stores[3] = {g.store, g.other_store, g.ended_store};
    for (int i = 0; i < 3; i++) {
        if (stores[i] != NULL) {
            batpak_status_t status = batpak_store_close(stores[i], SOON_MS, NULL);
            CHECK(status == BATPAK_OK || status == BATPAK_E_CLOSED);
            batpak_store_free(stores[i]);
        }
    }
}

static void wrong(const char *what) {
    fprintf(stderr, "%s, %s: %s\n", g.function, g.label, what);
    exit(1);
}

static void before_call(const char *function, const char *label) {
    g.function = function;
    g.label = label;
    g.calls++;
    memset(g.out, 0xa5, sizeof g.out);
    memcpy(g.before, g.out, sizeof g.out);
    g.out_store = (void *)g.out;
    g.out_cursor = (void *)g.out;
    g.out_worker = (void *)g.out;
    g.out_fence = (void *)g.out;
    g.out_batch = (void *)g.out;
    g.out_checkpoint = (void *)g.out;
    g.out_gap_list = (void *)g.out;
    g.out_checkpoint_list = (void *)g.out;
    g.out_entity_list = (void *)g.out;
    g.err = NULL;
}

/* Handles are written by every call that has a place for them. */
#define TAKE_OUT(noun, failed) \
    do { \
        if ((void *)g.out_##noun != (void *)g.out) { \
            if ((failed) && g.out_##noun != NULL) { \
                wrong("a handle although it failed"); \
            } \
            batpak_##noun##_free(g.out_##noun); \
        } \
    } while (0)

static void take_out(int failed) {
    TAKE_OUT(batch, failed);
    TAKE_OUT(checkpoint, failed);
    TAKE_OUT(gap_list, failed);
    TAKE_OUT(checkpoint_list, failed);
    TAKE_OUT(entity_list, failed);
    TAKE_OUT(fence, failed);
    TAKE_OUT(cursor, failed);
    if ((void *)g.out_worker != (void *)g.out && g.out_worker != NULL) {
        /* What it found when it began is its own affair. */
        CHECK(batpak_worker_stop_and_join(g.out_worker, SOON_MS, NULL) != BATPAK_TIMEOUT);
    }
    TAKE_OUT(worker, failed);
    if ((void *)g.out_store != (void *)g.out && g.out_store != NULL) {
        CHECK_OK(batpak_store_close(g.out_store, SOON_MS, &error), error);
    }
    TAKE_OUT(store, failed);
}

static int is_listed(batpak_status_t status) {
    const batpak_status_info_t *list;
    size_t n;
    CHECK_OK(batpak_status_list(&list, &n, &error), error);
    for (size_t i = 0; i < n; i++) {
        if (list[i].code == status) {
            return 1;
        }
    }
    return 0;
}

/* err_given: the error's place was not NULL. */
static void after_status(batpak_status_t status, int err_given) {
    if (!is_listed(status)) {
        wrong("a status that is not listed");
    }
    if (status == BATPAK_E_INTERNAL) {
        wrong(g.err ? batpak_error_message(g.err, NULL) : "BATPAK_E_INTERNAL");
    }
    if (err_given && (status < 0) != (g.err != NULL)) {
        wrong("the error object and the status do not say the same");
    }
    if (g.err != NULL && (batpak_error_code(g.err) != status || batpak_error_message(g.err, NULL)[0] == 0)) {
        wrong("the error object has another code or no message");
    }
    if (status < 0 && memcmp(g.out, g.before, sizeof g.out) != 0) {
        wrong("an out-parameter was written although it failed");
    }
    take_out(status < 0);
    batpak_error_free(g.err);
    g.err = NULL;
}

/* Whatever was passed, the store goes on. */
static void canary(void) {
    batpak_batch_t *batch = NULL;
    batpak_cursor_t *cursor = open_cursor(g.store, NULL, NULL);
    batpak_receipt_t receipt = append(g.store, "canary", "sings");
    CHECK_OK(batpak_cursor_seek(cursor, 0, &error), error);
    CHECK_OK(batpak_cursor_poll(cursor, 1, 0, 0, &batch, &error), error);
    batpak_batch_free(batch);
    batpak_cursor_free(cursor);
    batpak_fence_cancel(g.fence, NULL);
    CHECK_OK(batpak_store_get(g.store, receipt.sequence, &batch, &error), error);
    batpak_batch_free(batch);
    batpak_fence_free(g.fence);
    g.fence = begin(g.store);
}
