/* Batches: all or nothing, to readers and after a crash; in one segment; and a rejected one leaves no trace. */
#include "events.h"

static void segment_bases(const char *dir, uint64_t *bases, size_t *n) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/segments", dir);
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    *n = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        uint64_t base;
        char suffix[8];
        if (sscanf(entry->d_name, "%20" SCNu64 ".%7s", &base, suffix) == 2 && strcmp(suffix, "seg") == 0) {
            bases[(*n)++] = base;
        }
    }
    closedir(directory);
    qsort(bases, *n, sizeof *bases, compare_u64);
}

struct writing {
    batpak_store_t *store;
    atomic_int is_done;
};

static void *write_batches(void *argument) {
    struct writing *writing = argument;
    batpak_append_t items[100];
    batpak_error_t *own = NULL;
    for (int i = 0; i < 100; i++) {
        items[i] = item_of("a", "payload");
    }
    for (int batch = 0; batch < 300; batch++) {
        batpak_append_options_t options = durably(batch % 5 ? BATPAK_DURABILITY_PROCESS : BATPAK_DURABILITY_STORAGE);
        CHECK_OK(batpak_store_append(writing->store, items, 100, &options, NULL, &own), own);
    }
    atomic_store(&writing->is_done, 1);
    return NULL;
}

static void a_batch_is_visible_as_a_whole(void) {
    char *dir = make_dir();
    struct writing writing = {.store = open_store_with(dir, MIB, 0)};
    batpak_cursor_t *cursor = open_cursor(writing.store, NULL, NULL);
    pthread_t thread = start_thread(write_batches, &writing);
    uint64_t next = 0;
    for (int done = 0; !done || next < 30000;) {
        batpak_batch_t *batch = NULL;
        size_t n = 0;
        done = atomic_load(&writing.is_done);
        CHECK_EQUAL(marks_of(writing.store).visible % 100, 0);
        if (batpak_cursor_poll(cursor, 1000000, 0, 0, &batch, &error) == BATPAK_OK) {
            CHECK(batpak_batch_events(batch, &n)->sequence == next);
            CHECK_EQUAL(n % 100, 0);
            next += n;
            batpak_batch_free(batch);
        }
        CHECK(error == NULL && (!done || n > 0 || next == 30000));
    }
    join_thread(thread);
    batpak_cursor_free(cursor);
    close_store(writing.store);
    remove_dir(dir);
}

static void append_batch(batpak_store_t *store, size_t n, size_t payload_len) {
    batpak_append_options_t options = durably(BATPAK_DURABILITY_PROCESS);
    batpak_append_t *items = calloc(n, sizeof *items);
    char *payload = calloc(1, payload_len + 1);
    CHECK(items != NULL && payload != NULL);
    memset(payload, 'p', payload_len);
    for (size_t i = 0; i < n; i++) {
        items[i] = item_of("a", payload);
    }
    CHECK_OK(batpak_store_append(store, items, n, &options, NULL, &error), error);
    free(items);
    free(payload);
}

static void a_batch_lies_in_one_segment(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, 0);
    uint64_t bases[64];
    size_t n = 0;
    for (int i = 0; i < 20; i++) {
        append_batch(store, 100, 3000);
    }
    segment_bases(dir, bases, &n);
    CHECK(n >= 5);
    for (size_t i = 0; i < n; i++) {
        CHECK_EQUAL(bases[i] % 100, 0);
    }
    close_store(store);
    remove_dir(dir);
}

static void a_batch_larger_than_a_segment_gets_its_own(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, 0);
    uint64_t bases[64];
    size_t n = 0;
    append_batch(store, 10, 100);
    append_batch(store, 3000, 1000);
    append_batch(store, 10, 100);
    segment_bases(dir, bases, &n);
    CHECK(n == 3 && bases[0] == 0 && bases[1] == 10 && bases[2] == 3010);
    for (int again = 0; again < 2; again++) {
        batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
        expect_run(cursor, 0, 3019);
        batpak_cursor_free(cursor);
        if (!again) {
            close_store(store);
            store = open_store_with(dir, MIB, 0);
        }
    }
    close_store(store);
    remove_dir(dir);
}

static void one_hundred_thousand_items_are_legal(void) {
    enum { N = 100000, ENTITIES = 1000 };
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_append_t *items = calloc(N, sizeof *items);
    batpak_receipt_t *receipts = calloc(N, sizeof *receipts);
    static char names[ENTITIES][16];
    CHECK(items != NULL && receipts != NULL);
    for (int i = 0; i < N; i++) {
        char *name = names[i % ENTITIES];
        snprintf(name, 16, "entity:%d", i % ENTITIES);
        items[i] = item_of(name, "p");
    }
    CHECK_OK(batpak_store_append(store, items, N, NULL, receipts, &error), error);
    for (int i = 0; i < N; i++) {
        CHECK(receipts[i].sequence == (uint64_t)i && receipts[i].clock == (uint64_t)i / ENTITIES);
        CHECK(receipts[i].durability == BATPAK_DURABILITY_STORAGE);
    }
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    expect_run(cursor, 0, N - 1);
    batpak_cursor_free(cursor);
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "entity:999");
    cursor = open_cursor(store, &region, NULL);
    EXPECT_NEXT(cursor, 2, 999, 1999);
    batpak_cursor_free(cursor);
    free(items);
    free(receipts);
    close_store(store);
    remove_dir(dir);
}

static void spoil_empty(batpak_append_t *item) {
    item->entity_len = 0;
}

static void spoil_scope(batpak_append_t *item) {
    item->scope = "a=b";
    item->scope_len = 3;
}

static void spoil_reserved(batpak_append_t *item) {
    item->entity = "batpak:x";
    item->entity_len = 8;
}

static void spoil_kind(batpak_append_t *item) {
    item->kind = 0xD001;
}

static void spoil_schema(batpak_append_t *item) {
    item->schema = 65536;
}

static void spoil_payload(batpak_append_t *item) {
    static char payload[1001];
    item->payload = payload;
    item->payload_len = sizeof payload;
}

static void spoil_cause(batpak_append_t *item) {
    static const uint32_t cause = 100;
    item->batch_causes = &cause;
    item->batch_cause_count = 1;
}

static const struct {
    void (*spoil)(batpak_append_t *);
    batpak_status_t status;
} refusals[] = {
    {spoil_empty, BATPAK_E_COORDINATE_EMPTY},      {spoil_scope, BATPAK_E_COORDINATE_CHARACTER},
    {spoil_reserved, BATPAK_E_ENTITY_RESERVED},    {spoil_kind, BATPAK_E_KIND_RESERVED},
    {spoil_schema, BATPAK_E_INVALID_ARGUMENT},     {spoil_payload, BATPAK_E_PAYLOAD_TOO_LARGE},
    {spoil_cause, BATPAK_E_CAUSE_NOT_EARLIER},
};

/* Whatever is wrong, and wherever in the batch it stands. */
static void a_rejected_batch_consumes_no_sequence_and_says_which_item(void) {
    static const size_t places[] = {0, 1, 57, 99};
    char *dir = make_dir();
    batpak_store_options_t options;
    batpak_store_t *store = NULL;
    batpak_append_t items[100];
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.payload_bytes_max = 1000;
    CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
    append(store, "a", "zero");
    for (size_t r = 0; r < sizeof refusals / sizeof *refusals; r++) {
        for (size_t p = 0; p < 4; p++) {
            batpak_receipt_t receipts[100];
            char expected[8];
            memset(receipts, 0x5a, sizeof receipts);
            for (int i = 0; i < 100; i++) {
                items[i] = item_of("a", "x");
            }
            refusals[r].spoil(&items[places[p]]);
            CHECK(batpak_store_append(store, items, 100, NULL, receipts, &error) == refusals[r].status);
            snprintf(expected, sizeof expected, "%zu", places[p]);
            const char *index = batpak_error_detail(error, "index", 5, NULL);
            CHECK(index != NULL && strcmp(index, expected) == 0);
            CHECK(strstr(batpak_error_message(error, NULL), expected) != NULL);
            batpak_error_free(error);
            error = NULL;
            for (size_t byte = 0; byte < sizeof receipts; byte++) {
                CHECK(((unsigned char *)receipts)[byte] == 0x5a);
            }
            batpak_watermarks_t marks = marks_of(store);
            CHECK(marks.appended == 1 && marks.visible == 1);
        }
    }
    CHECK_STATUS(batpak_store_append(store, items, 0, NULL, NULL, &error), BATPAK_E_BATCH_EMPTY, error);
    batpak_receipt_t receipt = append(store, "a", "one");
    CHECK(receipt.sequence == 1 && receipt.clock == 1);
    close_store(store);
    remove_dir(dir);
}

/* Its entities and scopes were looked up before the refusal: they must not turn into streams without events, in memory, in
 * an index, or after a reopening. */
static void a_rejected_batch_leaves_no_trace(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    for (int i = 0; i < 5; i++) {
        append(store, "old", "x");
    }
    append_many(store, "fill", 2000, 1000);
    CHECK(stats_of(store).segments >= 2);
    batpak_append_t items[3] = {item_of("new", "x"), item_of("old", "x"), item_of("bad|name", "x")};
    items[0].scope = "new scope";
    items[0].scope_len = 9;
    uint64_t sequence = 2005;
    for (int round = 0; round < 4; round++) {
        CHECK_STATUS(batpak_store_append(store, items, 3, NULL, NULL, &error), BATPAK_E_COORDINATE_CHARACTER, error);
        CHECK_EQUAL(marks_of(store).appended, sequence);
        static const char *const names[] = {"new", "old"};
        for (int i = 0; i < 2; i++) {
            batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, names[i]);
            batpak_cursor_t *cursor = open_cursor(store, &region, NULL);
            if (i == 0) {
                EXPECT_EMPTY(cursor);
            } else {
                EXPECT_NEXT(cursor, 9, 0, 1, 2, 3, 4);
            }
            batpak_cursor_free(cursor);
        }
        if (round % 2 == 0) {
            close_store(store);
            store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
        } else {
            append_many(store, "fill", 2000, 1000);
            sequence += 2000;
        }
    }
    batpak_receipt_t fresh = append(store, "new", "x"), old = append(store, "old", "x");
    CHECK(fresh.sequence == sequence && fresh.clock == 0);
    CHECK(old.sequence == sequence + 1 && old.clock == 5);
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "old");
    batpak_cursor_t *cursor = open_cursor(store, &region, NULL);
    batpak_batch_t *batch = NULL;
    EXPECT_NEXT(cursor, 5, 0, 1, 2, 3, 4);
    CHECK_OK(batpak_cursor_poll(cursor, 1, 0, 0, &batch, &error), error);
    CHECK_EQUAL(batpak_batch_events(batch, NULL)->prev_sequence, 4);
    batpak_batch_free(batch);
    batpak_cursor_free(cursor);
    close_store(store);
    remove_dir(dir);
}

static void append_tens_and_die(void *dir) {
    batpak_store_t *store = open_store(dir);
    for (int i = 0; i < 8; i++) {
        append_batch(store, 10, 40);
    }
    raise(SIGKILL);
}

/* The end of the log is torn off at many bytes of the last two batches. */
static void half_a_batch_after_a_crash_is_no_batch(void) {
    char *dir = make_dir(), *copy = make_dir(), path[PATH_MAX];
    static unsigned char bytes[1 << 20];
    int status = run_process(append_tens_and_die, dir);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    snprintf(path, sizeof path, "%s/segments/%020d.seg", dir, 0);
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    size_t end = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    while (end > 0 && bytes[end - 1] == 0) {
        end--;
    }
    CHECK(end > 2500 && end < sizeof bytes);
    uint64_t last = 80, whole = 0;
    copy_tree(dir, copy);
    for (size_t cut = 0; last > 60; cut += 1 + cut % 17) {
        snprintf(path, sizeof path, "%s/segments", copy);
        remove_tree(path);
        CHECK(mkdir(path, 0700) == 0);
        snprintf(path, sizeof path, "%s/segments/%020d.seg", copy, 0);
        write_file(path, bytes, end - cut);
        batpak_store_t *store = open_store(copy);
        uint64_t visible = marks_of(store).visible;
        CHECK(visible % 10 == 0 && visible <= last);
        CHECK(cut > 0 || visible == 80);
        whole += visible == 80;
        last = visible;
        batpak_receipt_t receipt = append(store, "a", "after");
        CHECK(receipt.sequence == visible && receipt.clock == visible);
        close_store(store);
    }
    CHECK(whole >= 1);
    remove_dir(copy);
    remove_dir(dir);
}

int main(void) {
    RUN(a_batch_is_visible_as_a_whole);
    RUN(a_batch_lies_in_one_segment);
    RUN(a_batch_larger_than_a_segment_gets_its_own);
    RUN(one_hundred_thousand_items_are_legal);
    RUN(a_rejected_batch_consumes_no_sequence_and_says_which_item);
    RUN(a_rejected_batch_leaves_no_trace);
    RUN(half_a_batch_after_a_crash_is_no_batch);
    return 0;
}
