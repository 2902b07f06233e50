/* What a caller of expected states, keys and fences can get wrong and the library can see: NULL for every pointer, handles of another type,
 * closed stores, forked children, struct sizes. Each is answered with a status, never a crash. */
#include "writers.h"

#define KEY "0123456789abcdef"
#define REFUSED(call) CHECK_STATUS(call, BATPAK_E_INVALID_ARGUMENT, error)

/* All calls on a fence with `fence` in place of one. */
static void every_fence_call(batpak_fence_t *fence, batpak_status_t expected) {
    batpak_append_t item = item_of("e", "x"), items[2] = {item, item};
    batpak_append_options_t options = durably(0);
    batpak_receipt_t receipts[2];
    CHECK_STATUS(batpak_fence_append(fence, &item, 1, NULL, NULL, &error), expected, error);
    CHECK_STATUS(batpak_fence_append(fence, items, 2, &options, receipts, &error), expected, error);
    CHECK_STATUS(batpak_fence_commit(fence, BATPAK_DURABILITY_DEFAULT, &error), expected, error);
    CHECK_STATUS(batpak_fence_commit(fence, BATPAK_DURABILITY_STORAGE, &error), expected, error);
    CHECK_STATUS(batpak_fence_commit(fence, BATPAK_DURABILITY_PROCESS, &error), expected, error);
    CHECK_STATUS(batpak_fence_cancel(fence, &error), expected, error);
    /* Without a place for the error, the status is all there is. */
    CHECK(batpak_fence_append(fence, &item, 1, NULL, NULL, NULL) == expected);
    CHECK(batpak_fence_commit(fence, 0, NULL) == expected && batpak_fence_cancel(fence, NULL) == expected);
}

/* The calls on a store that are about writers. */
static void every_store_call(batpak_store_t *store, batpak_status_t expected) {
    batpak_append_t items[2] = {keyed(item_of("e", "x"), KEY), expecting(item_of("e", "x"), BATPAK_EXPECT_EXACT, 0)};
    batpak_fence_options_t options;
    batpak_fence_t *fence = (batpak_fence_t *)&options;
    CHECK_OK(batpak_fence_options_init(&options, sizeof options, &error), error);
    CHECK_STATUS(batpak_fence_begin(store, NULL, &fence, &error), expected, error);
    CHECK(fence == NULL);
    fence = (batpak_fence_t *)&options;
    CHECK_STATUS(batpak_fence_begin(store, &options, &fence, &error), expected, error);
    /* Handles are NULL on failure, also when the failure is another parameter's. */
    CHECK(fence == NULL);
    CHECK_STATUS(batpak_store_append(store, items, 2, NULL, NULL, &error), expected, error);
    CHECK_STATUS(batpak_store_append(store, items, 1, NULL, NULL, &error), expected, error);
    CHECK_STATUS(batpak_store_append(store, items + 1, 1, NULL, NULL, &error), expected, error);
}

static void null_handles(void) {
    every_fence_call(NULL, BATPAK_E_INVALID_ARGUMENT);
    every_store_call(NULL, BATPAK_E_INVALID_ARGUMENT);
    batpak_fence_free(NULL);
}

static void wrong_handles(void) {
    char *dir = make_dir();
    uint64_t zeros[32] = {0};
    batpak_store_t *store = open_store(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    batpak_fence_t *fence = begin_fence(store, 0);
    batpak_error_t *kept = NULL;
    fence_append(fence, "f", "x");
    CHECK(batpak_fence_commit(NULL, 0, &kept) < 0 && kept != NULL);
    void *others[] = {store, cursor, kept, zeros, (char *)zeros + 1};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        every_fence_call(others[i], BATPAK_E_INVALID_ARGUMENT);
        if (others[i] != store) {
            every_store_call(others[i], BATPAK_E_INVALID_ARGUMENT);
        }
        /* Freeing as the wrong type is left undone, so the objects still work. */
        batpak_fence_free(others[i]);
    }
    every_store_call((batpak_store_t *)fence, BATPAK_E_INVALID_ARGUMENT);
    batpak_cursor_free((batpak_cursor_t *)fence);
    batpak_store_free((batpak_store_t *)fence);
    batpak_batch_free((batpak_batch_t *)fence);
    batpak_worker_free((batpak_worker_t *)fence);
    batpak_error_free((batpak_error_t *)fence);
    CHECK_STATUS(batpak_cursor_rewind((batpak_cursor_t *)fence, &error), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK_STATUS(batpak_store_close((batpak_store_t *)fence, -1, &error), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK_OK(batpak_cursor_rewind(cursor, &error), error);
    CHECK(batpak_error_code(kept) == BATPAK_E_INVALID_ARGUMENT);
    fence_append(fence, "f", "y");
    commit_fence(fence, 0);
    EXPECT_ENTITY(store, "f", "x y ");
    batpak_error_free(kept);
    batpak_cursor_free(cursor);
    close_store(store);
    remove_dir(dir);
}

static void null_parameters(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_fence_t *fence = begin_fence(store, 0);
    batpak_append_t item = item_of("e", "x"), bad = item;
    REFUSED(batpak_fence_options_init(NULL, sizeof(batpak_fence_options_t), &error));
    REFUSED(batpak_fence_begin(store, NULL, NULL, &error));
    REFUSED(batpak_fence_append(fence, NULL, 1, NULL, NULL, &error));
    CHECK_STATUS(batpak_fence_append(fence, NULL, 0, NULL, NULL, &error), BATPAK_E_BATCH_EMPTY, error);
    CHECK_STATUS(batpak_fence_append(fence, &item, 0, NULL, NULL, &error), BATPAK_E_BATCH_EMPTY, error);
    REFUSED(batpak_fence_append(fence, &item, SIZE_MAX, NULL, NULL, &error));
    REFUSED(batpak_fence_append(fence, (const batpak_append_t *)((const char *)&item + 1), 1, NULL, NULL, &error));
    bad.entity = NULL;
    REFUSED(batpak_fence_append(fence, &bad, 1, NULL, NULL, &error));
    bad = item, bad.scope = NULL;
    REFUSED(batpak_fence_append(fence, &bad, 1, NULL, NULL, &error));
    bad = item, bad.payload = NULL;
    REFUSED(batpak_fence_append(fence, &bad, 1, NULL, NULL, &error));
    bad = item, bad.cause_count = 1;
    REFUSED(batpak_fence_append(fence, &bad, 1, NULL, NULL, &error));
    bad = item, bad.batch_cause_count = 1;
    REFUSED(batpak_fence_append(fence, &bad, 1, NULL, NULL, &error));
    bad = item, bad.key_len = 16;
    REFUSED(batpak_fence_append(fence, &bad, 1, NULL, NULL, &error));
    REFUSED(batpak_store_append(store, &bad, 1, NULL, NULL, &error));
    CHECK_EQUAL(marks_of(store).appended, 0);
    /* Results and errors may be NULL. */
    CHECK(batpak_fence_append(fence, &item, 1, NULL, NULL, NULL) == BATPAK_OK);
    CHECK(batpak_fence_commit(fence, 0, NULL) == BATPAK_OK && batpak_fence_cancel(fence, NULL) == BATPAK_E_FENCE_DECIDED);
    batpak_fence_free(fence);
    CHECK(batpak_fence_begin(store, NULL, &fence, NULL) == BATPAK_OK);
    batpak_fence_free(fence);
    close_store(store);
    remove_dir(dir);
}

static void struct_sizes(void) {
    static const uint32_t impossible[] = {0, 1, 4, 7, 9, 5000, UINT32_MAX};
    union {
        batpak_fence_options_t now;
        unsigned char bytes[sizeof(batpak_fence_options_t) + 16];
    } larger;
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_fence_t *fence = NULL;
    batpak_append_options_t options = durably(0);
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        memset(&larger, 0, sizeof larger);
        larger.now.struct_size = impossible[i];
        REFUSED(batpak_fence_begin(store, &larger.now, &fence, &error));
        CHECK(fence == NULL);
        REFUSED(batpak_fence_options_init(&larger.now, impossible[i], &error));
    }
    /* A newer header: fine while what this library does not know is zero. */
    CHECK_OK(batpak_fence_options_init(&larger.now, sizeof larger, &error), error);
    CHECK_OK(batpak_fence_begin(store, &larger.now, &fence, &error), error);
    larger.bytes[sizeof larger - 1] = 1;
    batpak_fence_t *none = NULL;
    CHECK_STATUS(batpak_fence_begin(store, &larger.now, &none, &error), BATPAK_E_UNSUPPORTED, error);
    /* An older header: what it does not have is the default, whatever lies behind it. */
    memset(&larger, 0xFF, sizeof larger);
    larger.now.struct_size = 8;
    larger.now.timeout_ms = 1000;
    CHECK_OK(batpak_fence_begin(store, &larger.now, &none, &error), error);
    batpak_fence_free(none);
    /* Of what an append under a fence takes. */
    batpak_append_t items[2] = {item_of("e", "x"), item_of("e", "x")};
    items[1].struct_size += 8;
    REFUSED(batpak_fence_append(fence, items, 2, NULL, NULL, &error));
    items[0].struct_size = 3;
    REFUSED(batpak_fence_append(fence, items, 1, NULL, NULL, &error));
    items[0] = item_of("e", "x"), items[0].reserved[0] = 1;
    CHECK_STATUS(batpak_fence_append(fence, items, 1, NULL, NULL, &error), BATPAK_E_UNSUPPORTED, error);
    items[0] = item_of("e", "x");
    options.flags = 2;
    CHECK_STATUS(batpak_fence_append(fence, items, 1, &options, NULL, &error), BATPAK_E_UNSUPPORTED, error);
    options.flags = 0, options.struct_size = 1;
    REFUSED(batpak_fence_append(fence, items, 1, &options, NULL, &error));
    CHECK_EQUAL(marks_of(store).appended, 0);
    batpak_fence_free(fence);
    close_store(store);
    remove_dir(dir);
}

static void closed_stores(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_fence_t *open = begin_fence(store, 0), *empty = begin_fence(store, 0), *committed = begin_fence(store, 0),
                   *cancelled = begin_fence(store, 0);
    fence_append(open, "a", "x");
    fence_append(committed, "b", "0");
    fence_append(cancelled, "c", "x");
    CHECK_OK(batpak_fence_commit(committed, 0, &error), error);
    CHECK_OK(batpak_fence_cancel(cancelled, &error), error);
    CHECK_OK(batpak_store_close(store, -1, &error), error);
    every_store_call(store, BATPAK_E_CLOSED);
    every_fence_call(open, BATPAK_E_CLOSED);
    every_fence_call(empty, BATPAK_E_CLOSED);
    every_fence_call(committed, BATPAK_E_CLOSED);
    every_fence_call(cancelled, BATPAK_E_CLOSED);
    batpak_fence_free(open);
    batpak_store_free(store);
    batpak_fence_free(empty);
    batpak_fence_free(cancelled);
    batpak_fence_free(committed);
    store = open_store(dir);
    EXPECT_PAYLOADS(store, NULL, "0 ");
    close_store(store);
    remove_dir(dir);
}

static void stores_opened_for_reading_only(void) {
    char *dir = make_dir();
    close_store(open_store(dir));
    batpak_store_t *store = open_set(dir, (struct setting){.flags = BATPAK_STORE_READ_ONLY});
    batpak_fence_t *fence = NULL;
    CHECK_STATUS(batpak_fence_begin(store, NULL, &fence, &error), BATPAK_E_READ_ONLY, error);
    batpak_append_t item = keyed(item_of("e", "x"), KEY);
    CHECK_STATUS(batpak_store_append(store, &item, 1, NULL, NULL, &error), BATPAK_E_READ_ONLY, error);
    close_store(store);
    remove_dir(dir);
}

struct inherited {
    batpak_store_t *store;
    batpak_fence_t *open, *committed;
    const char *dir;
};

static void in_the_child(void *argument) {
    struct inherited *inherited = argument;
    every_store_call(inherited->store, BATPAK_E_FORKED);
    every_fence_call(inherited->open, BATPAK_E_FORKED);
    every_fence_call(inherited->committed, BATPAK_E_FORKED);
    /* Frees only forget: the parent's fence stays open. */
    batpak_fence_free(inherited->open);
    batpak_store_free(inherited->store);
    batpak_fence_free(inherited->committed);
    /* A child opens a store of its own, with fences of its own. */
    batpak_store_t *store = open_store(inherited->dir);
    batpak_fence_t *fence = begin_fence(store, 0);
    fence_append(fence, "a", "0");
    commit_fence(fence, 0);
    EXPECT_ENTITY(store, "a", "0 ");
    close_store(store);
}

static void forked_children(void) {
#ifdef __SANITIZE_ADDRESS__
    /* Its allocator may be locked by another thread at the fork, and then hangs the child; the C library's may not. */
    puts("SKIPPED: the address sanitizer cannot fork beside threads");
    return;
#endif
    char *dir = make_dir(), *other = make_dir();
    struct inherited inherited = {open_store(dir), NULL, NULL, other};
    inherited.open = begin_fence(inherited.store, 0);
    inherited.committed = begin_fence(inherited.store, 0);
    fence_append(inherited.open, "a", "0");
    fence_append(inherited.committed, "b", "1");
    CHECK_OK(batpak_fence_commit(inherited.committed, 0, &error), error);
    CHECK_EQUAL(run_process(in_the_child, &inherited), 0);
    fence_append(inherited.open, "a", "2");
    commit_fence(inherited.open, 0);
    batpak_fence_free(inherited.committed);
    EXPECT_PAYLOADS(inherited.store, NULL, "0 1 2 ");
    close_store(inherited.store);
    remove_dir(dir);
    remove_dir(other);
}

struct abuser {
    batpak_fence_t *fence;
    char entity[8];
    _Atomic int *taken;
};

static void *append_until_decided(void *argument) {
    struct abuser *abuser = argument;
    batpak_error_t *own = NULL;
    for (;;) {
        batpak_append_t item = item_of(abuser->entity, "x");
        batpak_status_t status = batpak_fence_append(abuser->fence, &item, 1, NULL, NULL, &own);
        if (status != BATPAK_OK) {
            check_status_is(__FILE__, __LINE__, "batpak_fence_append", status, BATPAK_E_FENCE_DECIDED, &own);
            return NULL;
        }
        ++*abuser->taken;
    }
}

/* "Any number of threads may use it at once": what was taken before the decision is in it, what came after was refused. */
static void one_fence_in_many_threads(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    for (int round = 0; round < 6; round++) {
        _Atomic int taken = 0;
        struct abuser abusers[4];
        pthread_t threads[4];
        batpak_fence_t *fence = begin_fence(store, 0);
        uint64_t before = marks_of(store).visible;
        for (int i = 0; i < 4; i++) {
            abusers[i].fence = fence;
            abusers[i].taken = &taken;
            snprintf(abusers[i].entity, sizeof abusers[i].entity, "e:%d", i % 3);
            threads[i] = start_thread(append_until_decided, &abusers[i]);
        }
        while (taken < 200) {
            sched_yield();
        }
        CHECK_EQUAL(marks_of(store).visible, before);
        CHECK_OK(round % 2 ? batpak_fence_cancel(fence, &error) : batpak_fence_commit(fence, 0, &error), error);
        for (int i = 0; i < 4; i++) {
            join_thread(threads[i]);
        }
        batpak_watermarks_t marks = marks_of(store);
        CHECK_EQUAL(marks.appended, before + (uint64_t)taken);
        CHECK_EQUAL(marks.visible, marks.appended);
        batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
        CHECK_OK(batpak_cursor_seek(cursor, before, &error), error);
        if (round % 2) {
            EXPECT_EMPTY(cursor);
        } else {
            expect_run(cursor, before, marks.visible - 1);
        }
        batpak_cursor_free(cursor);
        batpak_fence_free(fence);
    }
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(null_handles);
    RUN(wrong_handles);
    RUN(null_parameters);
    RUN(struct_sizes);
    RUN(closed_stores);
    RUN(stores_opened_for_reading_only);
    RUN(forked_children);
    RUN(one_fence_in_many_threads);
    return 0;
}
