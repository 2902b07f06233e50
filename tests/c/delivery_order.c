/* Which events a cursor delivers, in which order and pieces (D1, D2). */
#include "events.h"

enum { EVENTS = 6000 };

/* The log as it must be, for the oracle. */
static struct model {
    char entity[16];
    const char *scope;
    uint32_t kind;
    uint64_t clock;
} log_of[EVENTS];

static const char *const entities[] = {"alice", "alice:x", "alice:x:y", "alice2", "bob", "rare"};
static const char *const scopes[] = {"web", "app"};
static const uint32_t kinds[] = {0x1001, 0x1002, 0x2001};

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Appends the model's events into a dozen segments. */
static void fill(batpak_store_t *store) {
    static char payload[4000];
    uint64_t random = 88172645463325252u, clocks[6] = {0};
    memset(payload, 'p', sizeof payload);
    for (int i = 0; i < EVENTS;) {
        batpak_append_t items[64];
        size_t n = 1 + next_random(&random) % 64;
        n = n < (size_t)(EVENTS - i) ? n : (size_t)(EVENTS - i);
        for (size_t k = 0; k < n; k++, i++) {
            int entity = next_random(&random) % 500 == 0 ? 5 : (int)(next_random(&random) % 5);
            struct model *model = &log_of[i];
            strcpy(model->entity, entities[entity]);
            model->scope = scopes[next_random(&random) % 2];
            model->kind = kinds[next_random(&random) % 3];
            model->clock = clocks[entity]++;
            items[k] = item_of(model->entity, NULL);
            items[k].scope = model->scope;
            items[k].scope_len = strlen(model->scope);
            items[k].kind = model->kind;
            items[k].payload = payload;
            items[k].payload_len = next_random(&random) % sizeof payload;
        }
        CHECK_OK(batpak_store_append(store, items, n, NULL, NULL, &error), error);
    }
}

static int matches(const batpak_region_t *region, const struct model *model) {
    size_t len = region->entity_len;
    if (region->entity_match != BATPAK_ENTITY_ANY) {
        char after = strncmp(model->entity, region->entity, len) == 0 ? model->entity[len] : 1;
        if (after != 0 && (region->entity_match == BATPAK_ENTITY_EXACT || after != ':')) {
            return 0;
        }
    }
    if (region->scope != NULL && strcmp(model->scope, region->scope) != 0) {
        return 0;
    }
    if (region->kind_match == BATPAK_KIND_CATEGORY && model->kind >> 12 != region->kind) {
        return 0;
    }
    if (region->kind_match == BATPAK_KIND_EXACT && model->kind != region->kind) {
        return 0;
    }
    return !region->has_clock_range || (model->clock >= region->clock_start && model->clock <= region->clock_end);
}

/* One pass of the region in batches of at most `max`: exactly the model's matches, in order, each once. */
static void check_pass(batpak_store_t *store, const batpak_region_t *region, size_t max) {
    batpak_cursor_t *cursor = open_cursor(store, region, NULL);
    uint64_t *sequences = malloc(max * sizeof *sequences);
    CHECK(sequences != NULL);
    size_t n = 0, at = 0;
    for (uint64_t sequence = 0; sequence < EVENTS; sequence++) {
        if (!matches(region, &log_of[sequence])) {
            continue;
        }
        if (at == n) {
            n = poll_sequences(cursor, max, sequences);
            at = 0;
        }
        CHECK(at < n);
        CHECK_EQUAL(sequences[at++], sequence);
    }
    CHECK_EQUAL(at, n);
    EXPECT_EMPTY(cursor);
    CHECK_EQUAL(position_of(cursor).scanned, EVENTS);
    free(sequences);
    batpak_cursor_free(cursor);
}

/* All combinations of entity, scope, kind and clock conditions, in several batch sizes. */
static void check_regions(batpak_store_t *store) {
    static const size_t sizes[] = {1, 7, 64, 10000};
    int number = 0;
    for (int entity = 0; entity < 9; entity++) {
        static const char *const names[] = {NULL, "alice", "alice", "alice:x", "alice2", "rare", "rare", "nobody", "ali"};
        static const uint32_t match[] = {BATPAK_ENTITY_ANY,    BATPAK_ENTITY_PREFIX, BATPAK_ENTITY_EXACT,
                                         BATPAK_ENTITY_PREFIX, BATPAK_ENTITY_EXACT,  BATPAK_ENTITY_EXACT,
                                         BATPAK_ENTITY_PREFIX, BATPAK_ENTITY_EXACT,  BATPAK_ENTITY_PREFIX};
        for (int scope = 0; scope < 3; scope++) {
            for (int kind = 0; kind < 5; kind++) {
                for (int clock = 0; clock < 3; clock++) {
                    batpak_region_t region = region_of(match[entity], names[entity]);
                    static const uint32_t kind_values[] = {0, 0, 1, 2, 0x1002};
                    static const uint32_t kind_matches[] = {BATPAK_KIND_NONE, BATPAK_KIND_ANY, BATPAK_KIND_CATEGORY,
                                                            BATPAK_KIND_CATEGORY, BATPAK_KIND_EXACT};
                    region.scope = scope == 0 ? NULL : scope == 1 ? "web" : "nowhere";
                    region.scope_len = region.scope ? strlen(region.scope) : 0;
                    region.kind_match = kind_matches[kind];
                    region.kind = kind_values[kind];
                    region.has_clock_range = clock > 0;
                    region.clock_start = clock == 1 ? 0 : 3;
                    region.clock_end = clock == 1 ? 0 : clock == 2 ? 200 : 0;
                    check_pass(store, &region, sizes[number++ % 4]);
                }
            }
        }
    }
}

static void D1_delivers_the_visible_events_of_the_region_in_order_once_per_pass(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    fill(store);
    CHECK(stats_of(store).segments >= 8);
    check_regions(store);
    close_store(store);
    store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    check_regions(store);
    close_store(store);
    remove_dir(dir);
}

/* Not started: sequence 0 comes. Started at 0: it does not. The number alone cannot tell the two apart. */
static void D1_sequence_zero_is_never_skipped(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "a");
    for (int regions = 0; regions < 2; regions++) {
        const batpak_region_t *which = regions ? &region : NULL;
        const char *id = regions ? "exact" : "all";
        batpak_cursor_t *cursor = open_cursor(store, which, id);
        if (!regions) {
            EXPECT_EMPTY(cursor);
            CHECK_EQUAL(position_of(cursor).next_sequence, 0);
            append(store, "a", "zero");
        }
        batpak_cursor_free(cursor);
        CHECK_OK(batpak_checkpoint_save(store, id, strlen(id), which, 0, &error), error);
        cursor = open_cursor(store, which, id);
        CHECK_EQUAL(position_of(cursor).position, BATPAK_NO_SEQUENCE);
        EXPECT_NEXT(cursor, 9, 0);
        CHECK_EQUAL(position_of(cursor).position, 0);
        CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
        batpak_cursor_free(cursor);
        cursor = open_cursor(store, which, id);
        CHECK_EQUAL(position_of(cursor).position, 0);
        EXPECT_EMPTY(cursor);
        batpak_cursor_free(cursor);
    }
    close_store(store);
    remove_dir(dir);
}

static void D1_strictly_after_the_position_when_started(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    for (int i = 0; i < 10; i++) {
        append(store, i % 2 ? "odd" : "even", "x");
    }
    batpak_region_t odd = region_of(BATPAK_ENTITY_EXACT, "odd");
    batpak_cursor_t *cursor = open_cursor(store, &odd, "odd");
    EXPECT_NEXT(cursor, 2, 1, 3);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    batpak_cursor_free(cursor);
    cursor = open_cursor(store, &odd, "odd");
    CHECK_EQUAL(position_of(cursor).position, 3);
    EXPECT_NEXT(cursor, 2, 5, 7);
    CHECK_EQUAL(position_of(cursor).position, 7);
    batpak_cursor_free(cursor);
    close_store(store);
    remove_dir(dir);
}

static size_t poll_bounded(batpak_cursor_t *cursor, size_t max, uint64_t bytes) {
    batpak_batch_t *batch = NULL;
    size_t n = 0;
    CHECK_OK(batpak_cursor_poll(cursor, max, bytes, 0, &batch, &error), error);
    batpak_batch_events(batch, &n);
    batpak_batch_free(batch);
    return n;
}

static void D2_a_batch_is_bounded_by_events_and_by_bytes(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "a");
    for (int i = 0; i < 10; i++) {
        append(store, "a", "0123456789");
    }
    append(store, "a", "a payload that is far above the bound of a batch");
    append(store, "a", "");
    append(store, "a", "0123456789");
    for (int filtered = 0; filtered < 2; filtered++) {
        batpak_cursor_t *cursor = open_cursor(store, filtered ? &region : NULL, NULL);
        CHECK_EQUAL(poll_bounded(cursor, 1, 0), 1);
        CHECK_EQUAL(poll_bounded(cursor, 3, 1000), 3);
        CHECK_EQUAL(poll_bounded(cursor, 9, 29), 2);
        CHECK_EQUAL(poll_bounded(cursor, 9, 30), 3);
        CHECK_EQUAL(poll_bounded(cursor, 9, 10), 1);
        CHECK_EQUAL(position_of(cursor).position, 9);
        CHECK_EQUAL(poll_bounded(cursor, 9, 10), 1); /* the first event comes even above the byte bound */
        CHECK_EQUAL(poll_bounded(cursor, 9, 1), 1);
        CHECK_EQUAL(poll_bounded(cursor, 9, 1), 1);
        EXPECT_EMPTY(cursor);
        CHECK_OK(batpak_cursor_seek_beginning(cursor, &error), error);
        CHECK_EQUAL(poll_bounded(cursor, SIZE_MAX, 0), 13);
        CHECK_OK(batpak_cursor_seek_beginning(cursor, &error), error);
        CHECK_EQUAL(poll_bounded(cursor, SIZE_MAX, UINT64_MAX), 13);
        batpak_batch_t *batch = NULL;
        CHECK_STATUS(batpak_cursor_poll(cursor, 0, 0, 0, &batch, &error), BATPAK_E_INVALID_ARGUMENT, error);
        batpak_cursor_free(cursor);
    }
    close_store(store);
    remove_dir(dir);
}

static void D2_an_empty_poll_is_no_error(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    for (int i = 0; i < 3; i++) {
        batpak_batch_t *batch = (batpak_batch_t *)&batch;
        CHECK(batpak_cursor_poll(cursor, 9, 0, 0, &batch, &error) == BATPAK_EMPTY);
        CHECK(BATPAK_EMPTY > 0 && batch == NULL && error == NULL);
    }
    append(store, "a", "x");
    EXPECT_NEXT(cursor, 9, 0);
    EXPECT_EMPTY(cursor);
    batpak_cursor_free(cursor);
    close_store(store);
    remove_dir(dir);
}

/* All bytes of the events are in the batch, which outlives cursor, store and directory. */
static void D2_the_payload_comes_with_the_event(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    enum { N = 300, PIECE = 9000 };
    static char payload[PIECE];
    for (int i = 0; i < N; i++) {
        batpak_append_t item = item_of("a", NULL);
        memset(payload, i, sizeof payload);
        item.payload = payload;
        item.payload_len = (size_t)(i * 31 % PIECE);
        append_item(store, item);
    }
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    batpak_batch_t *batch = NULL;
    size_t n = 0;
    CHECK_OK(batpak_cursor_poll(cursor, N, 0, 0, &batch, &error), error);
    batpak_cursor_free(cursor);
    close_store(store);
    remove_dir(dir);
    const batpak_event_t *events = batpak_batch_events(batch, &n);
    CHECK_EQUAL(n, N);
    for (int i = 0; i < N; i++) {
        memset(payload, i, sizeof payload);
        CHECK_EQUAL(events[i].payload_len, i * 31 % PIECE);
        CHECK(memcmp(events[i].payload, payload, events[i].payload_len) == 0);
        CHECK(events[i].entity_len == 1 && events[i].entity[0] == 'a' && events[i].scope[0] == 's');
    }
    batpak_batch_free(batch);
}

/* A frame larger than a usual read, of every length modulo the alignment: the padding behind it may not have been read. */
static void D2_a_large_event_is_delivered_whatever_its_length(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, 8 * MIB, BATPAK_DURABILITY_PROCESS);
    char *payload = malloc(2 * MIB);
    CHECK(payload != NULL);
    memset(payload, 'L', 2 * MIB);
    for (size_t i = 0; i < 9; i++) {
        batpak_append_t item = item_of("large", NULL);
        item.payload = payload;
        item.payload_len = MIB + 8 - i;
        append_item(store, item);
        append(store, "small", "x");
    }
    for (int again = 0; again < 2; again++) {
        static const uint32_t match[] = {BATPAK_ENTITY_ANY, BATPAK_ENTITY_EXACT};
        for (int filtered = 0; filtered < 2; filtered++) {
            batpak_region_t region = region_of(match[filtered], filtered ? "large" : NULL);
            for (size_t max = 1; max <= 100; max += 33) {
                batpak_cursor_t *cursor = open_cursor(store, &region, NULL);
                size_t seen = 0, large = 0, n = 0;
                batpak_batch_t *batch = NULL;
                while (batpak_cursor_poll(cursor, max, 0, 0, &batch, &error) == BATPAK_OK) {
                    const batpak_event_t *events = batpak_batch_events(batch, &n);
                    for (size_t i = 0; i < n; i++, seen++) {
                        CHECK_EQUAL(events[i].sequence, filtered ? 2 * seen : seen);
                        if (events[i].sequence % 2 == 0) {
                            CHECK_EQUAL(events[i].payload_len, MIB + 8 - large++);
                            CHECK(memcmp(events[i].payload, payload, events[i].payload_len) == 0);
                        }
                    }
                    batpak_batch_free(batch);
                }
                CHECK(error == NULL);
                CHECK_EQUAL(seen, filtered ? 9 : 18);
                batpak_cursor_free(cursor);
            }
        }
        close_store(store);
        store = open_store_with(dir, 8 * MIB, BATPAK_DURABILITY_PROCESS);
    }
    close_store(store);
    free(payload);
    remove_dir(dir);
}

int main(void) {
    RUN(D1_delivers_the_visible_events_of_the_region_in_order_once_per_pass);
    RUN(D1_sequence_zero_is_never_skipped);
    RUN(D1_strictly_after_the_position_when_started);
    RUN(D2_a_batch_is_bounded_by_events_and_by_bytes);
    RUN(D2_an_empty_poll_is_no_error);
    RUN(D2_the_payload_comes_with_the_event);
    RUN(D2_a_large_event_is_delivered_whatever_its_length);
    return 0;
}
