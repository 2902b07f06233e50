/* Single events by sequence and by id, the head of an entity, the first sequence: over several segments, and after the store was
 * opened again. */
#include "events.h"

enum { EVENTS = 4000, ENTITIES = 7, LONELY = 1234 };

static batpak_receipt_t receipts[EVENTS];

static void fill(batpak_store_t *store) {
    char entity[16], payload[600];
    memset(payload, 'p', sizeof payload);
    for (int i = 0; i < EVENTS; i++) {
        snprintf(entity, sizeof entity, "e:%d", i % ENTITIES);
        int len = snprintf(payload, sizeof payload, "%d", i);
        payload[len] = 'p';
        payload[sizeof payload - 1] = 0;
        /* Its time is no other event's. */
        for (uint64_t start = now_us(); i == LONELY && now_us() - start < 2000;) {
        }
        receipts[i] = append(store, i == 0 ? "first" : entity, payload);
        for (uint64_t start = now_us(); i == LONELY && now_us() - start < 2000;) {
        }
    }
    CHECK(stats_of(store).segments >= 3);
}

static void check_event(const batpak_batch_t *batch, const batpak_receipt_t *receipt) {
    size_t n = 0;
    const batpak_event_t *event = batpak_batch_events(batch, &n);
    CHECK_EQUAL(n, 1);
    CHECK_EQUAL(event->sequence, receipt->sequence);
    CHECK_EQUAL(event->clock, receipt->clock);
    CHECK_EQUAL(event->time_us, receipt->time_us);
    CHECK(memcmp(event->id, receipt->id, 16) == 0);
    CHECK_EQUAL(event->payload_len, 599);
    CHECK_EQUAL(strtoull(event->payload, NULL, 10), receipt->sequence);
}

static void check_all(batpak_store_t *store) {
    batpak_batch_t *batch = NULL;
    for (int i = 0; i < EVENTS; i++) {
        CHECK_OK(batpak_store_get(store, receipts[i].sequence, &batch, &error), error);
        check_event(batch, &receipts[i]);
        batpak_batch_free(batch);
        CHECK_OK(batpak_store_get_by_id(store, receipts[i].id, &batch, &error), error);
        check_event(batch, &receipts[i]);
        batpak_batch_free(batch);
    }
    for (int i = 0; i < ENTITIES; i++) {
        batpak_entity_head_t head;
        char entity[16];
        int last = EVENTS - 1 - (EVENTS - 1 - i) % ENTITIES;
        snprintf(entity, sizeof entity, "e:%d", i);
        memset(&head, 0xFF, sizeof head);
        CHECK_OK(batpak_store_entity_head(store, entity, strlen(entity), &head, &error), error);
        CHECK_EQUAL(head.exists, 1);
        CHECK_EQUAL(head.last_sequence, last);
        CHECK_EQUAL(head.clock, receipts[last].clock);
        CHECK(head.reserved0 == 0 && head.reserved[0] == 0 && head.reserved[4] == 0);
    }
}

static void check_absent(batpak_store_t *store) {
    static const uint64_t sequences[] = {EVENTS, EVENTS + 1, UINT64_MAX / 2, BATPAK_NO_SEQUENCE};
    batpak_entity_head_t head;
    uint8_t id[16];
    for (int i = 0; i < 4; i++) {
        batpak_batch_t *batch = (batpak_batch_t *)id;
        CHECK_STATUS(batpak_store_get(store, sequences[i], &batch, &error), BATPAK_EMPTY, error);
        CHECK(batch == NULL);
    }
    /* An id that differs in any one bit is no event's: of this time there is one only. */
    for (int bit = 0; bit < 128; bit++) {
        batpak_batch_t *batch = (batpak_batch_t *)id;
        memcpy(id, receipts[LONELY].id, 16);
        id[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK_STATUS(batpak_store_get_by_id(store, id, &batch, &error), BATPAK_EMPTY, error);
        CHECK(batch == NULL);
    }
    CHECK_OK(batpak_store_entity_head(store, "e:77", 4, &head, &error), error);
    CHECK(head.exists == 0 && head.clock == 0 && head.last_sequence == BATPAK_NO_SEQUENCE);
}

static void events_and_heads_are_found_wherever_they_are(void) {
    char *dir = make_dir();
    uint64_t first = 7;
    batpak_batch_t *batch = NULL;
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    CHECK_OK(batpak_store_first_sequence(store, &first, &error), error);
    CHECK_EQUAL(first, 0);
    CHECK_STATUS(batpak_store_get(store, 0, &batch, &error), BATPAK_EMPTY, error);
    fill(store);
    check_all(store);
    check_absent(store);
    close_store(store);
    store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    check_all(store);
    check_absent(store);
    first = 7;
    CHECK_OK(batpak_store_first_sequence(store, &first, &error), error);
    CHECK_EQUAL(first, 0);
    /* A batch outlives its store. */
    CHECK_OK(batpak_store_get(store, 77, &batch, &error), error);
    close_store(store);
    check_event(batch, &receipts[77]);
    batpak_batch_free(batch);
    remove_dir(dir);
}

/* Reads, decides and appends, with nobody in between: the loop that a head is for. */
static void a_head_follows_each_append(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_entity_head_t head;
    for (uint64_t i = 0; i < 20; i++) {
        CHECK_OK(batpak_store_entity_head(store, "account", 7, &head, &error), error);
        CHECK_EQUAL(head.exists, i > 0);
        CHECK_EQUAL(head.clock, i > 0 ? i - 1 : 0);
        CHECK_EQUAL(head.last_sequence, i > 0 ? 2 * i - 2 : BATPAK_NO_SEQUENCE);
        CHECK_EQUAL(append(store, "account", "x").clock, i);
        append(store, "other", "x");
    }
    close_store(store);
    remove_dir(dir);
}

static void entities_are_checked(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_entity_head_t head;
    memset(&head, 0x55, sizeof head);
    CHECK_STATUS(batpak_store_entity_head(store, NULL, 0, &head, &error), BATPAK_E_COORDINATE_EMPTY, error);
    CHECK_STATUS(batpak_store_entity_head(store, "a|b", 3, &head, &error), BATPAK_E_COORDINATE_CHARACTER, error);
    CHECK_STATUS(batpak_store_entity_head(store, "\xFF", 1, &head, &error), BATPAK_E_COORDINATE_NOT_UTF8, error);
    CHECK(head.exists == 0x55555555); /* Written on success only. */
    close_store(store);
    remove_dir(dir);
}

/* The index says which segment a time is in, and halving finds the event: a few reads, however many events there are. */
static int64_t tell_clock(void *user_data) {
    return ++*(int64_t *)user_data;
}

static uint64_t reads_so_far(void) {
    char line[128];
    uint64_t reads = 0;
    FILE *file = fopen("/proc/self/io", "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL && sscanf(line, "syscr: %" SCNu64, &reads) != 1) {
    }
    fclose(file);
    return reads;
}

static void a_time_is_found_by_halving(void) {
    char *dir = make_dir();
    batpak_store_options_t options;
    batpak_store_t *store = NULL;
    int64_t now = 0;
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.clock = tell_clock;
    options.clock_user_data = &now;
    options.segment_bytes = MIB;
    options.durability = BATPAK_DURABILITY_PROCESS;
    CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
    append_many(store, "a", 60000, 100);
    uint64_t segments = stats_of(store).segments;
    CHECK(segments >= 8);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    /* The first looks open the indexes. */
    for (int64_t time = 0; time <= now + 1; time += 7) {
        CHECK_OK(batpak_cursor_seek_time(cursor, time, &error), error);
    }
    uint64_t before = reads_so_far();
    enum { SEEKS = 60 };
    for (int i = 0; i < SEEKS; i++) {
        CHECK_OK(batpak_cursor_seek_time(cursor, now * i / SEEKS, &error), error);
    }
    uint64_t reads = reads_so_far() - before;
    printf("  %" PRIu64 " reads a seek among 60,000 events\n", reads / SEEKS);
    CHECK(reads / SEEKS <= 60);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(events_and_heads_are_found_wherever_they_are);
    RUN(a_head_follows_each_append);
    RUN(entities_are_checked);
    RUN(a_time_is_found_by_halving);
    return 0;
}
