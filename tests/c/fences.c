/* Fences (DESIGN 4): "several may be open; a fence owns the entities that it touches (others get the retryable E_STREAM_FENCED). Appends
 * under it are not synced, its commit is. A timeout is mandatory, then it is cancelled and answers E_FENCE_EXPIRED. Cancel rewinds the
 * clocks and links of its entities. A crash or close cancels. Cancelled ranges live in the log, fail closed, survive everything. A cause or
 * key in another's undecided fence is E_FENCE_PENDING." And visible "never passes the start of an undecided fence". */
#include "writers.h"

#include <poll.h>

#define KEY "0123456789abcdef"

static batpak_status_t try_append(batpak_store_t *store, const char *entity, const char *payload) {
    batpak_append_t item = item_of(entity, payload);
    return batpak_store_append(store, &item, 1, NULL, NULL, &error);
}

static batpak_status_t try_fence_append(batpak_fence_t *fence, const char *entity, const char *payload) {
    batpak_append_t item = item_of(entity, payload);
    return batpak_fence_append(fence, &item, 1, NULL, NULL, &error);
}

/* ---- visibility ----------------------------------------------------------------------------------------------------- */

struct reader {
    batpak_store_t *store;
    batpak_cursor_t *cursor;
    _Atomic int32_t thread;
    uint64_t sequences[64];
    size_t n;
};

/* One poll, for as long as it takes. */
static void *read_once(void *argument) {
    struct reader *reader = argument;
    batpak_error_t *own = NULL;
    batpak_batch_t *batch = NULL;
    reader->thread = thread_number();
    CHECK_OK(batpak_cursor_poll(reader->cursor, 64, 0, SOON_MS, &batch, &own), own);
    const batpak_event_t *events = batpak_batch_events(batch, &reader->n);
    for (size_t i = 0; i < reader->n; i++) {
        reader->sequences[i] = events[i].sequence;
    }
    batpak_batch_free(batch);
    return NULL;
}

/* A reader that waits in the library. */
static pthread_t start_reader(struct reader *reader, batpak_store_t *store) {
    memset(reader, 0, sizeof *reader);
    reader->store = store;
    reader->cursor = open_cursor(store, NULL, NULL);
    pthread_t thread = start_thread(read_once, reader);
    while (reader->thread == 0) {
        sched_yield();
    }
    wait_until_asleep(reader->thread);
    return thread;
}

static void end_reader(struct reader *reader, pthread_t thread, uint64_t first, size_t n) {
    join_thread(thread);
    CHECK_EQUAL(reader->n, n);
    for (size_t i = 0; i < n; i++) {
        CHECK_EQUAL(reader->sequences[i], first + i);
    }
    batpak_cursor_free(reader->cursor);
}

/* Hidden until the commit; then all at once, in order, together with what came after. */
static void events_are_hidden_until_the_commit_and_then_visible_at_once(void) {
    static const uint32_t durabilities[3] = {BATPAK_DURABILITY_DEFAULT, BATPAK_DURABILITY_STORAGE, BATPAK_DURABILITY_PROCESS};
    for (int i = 0; i < 3; i++) {
        char *dir = make_dir();
        batpak_store_t *store = open_store(dir);
        struct reader reader;
        batpak_fence_t *fence = begin_fence(store, 0);
        batpak_append_t items[3] = {item_of("a", "1"), item_of("b", "2"), item_of("a", "3")};
        batpak_receipt_t receipts[3];
        CHECK_EQUAL(fence_append(fence, "a", "0").sequence, 0);
        CHECK_OK(batpak_fence_append(fence, items, 3, NULL, receipts, &error), error);
        for (uint64_t at = 0; at < 3; at++) {
            CHECK(receipts[at].sequence == at + 1 && receipts[at].durability == 0 && receipts[at].flags == 0);
        }
        CHECK_EQUAL(append(store, "c", "4").sequence, 4);
        CHECK_EQUAL(append_as(store, item_of("c", "5"), BATPAK_DURABILITY_PROCESS).sequence, 5);
        EXPECT_PAYLOADS(store, NULL, "");
        CHECK(marks_of(store).visible == 0 && marks_of(store).appended == 6);
        pthread_t thread = start_reader(&reader, store);
        CHECK_OK(batpak_fence_commit(fence, durabilities[i], &error), error);
        CHECK_EQUAL(marks_of(store).visible, 6);
        end_reader(&reader, thread, 0, 6);
        EXPECT_PAYLOADS(store, NULL, "0 1 2 3 4 5 ");
        EXPECT_ENTITY(store, "a", "0 1 3 ");
        batpak_fence_free(fence);
        close_store(store);
        store = open_store(dir);
        EXPECT_PAYLOADS(store, NULL, "0 1 2 3 4 5 ");
        EXPECT_ENTITY(store, "a", "0 1 3 ");
        CHECK_EQUAL(append(store, "a", "6").clock, 3);
        close_store(store);
        remove_dir(dir);
    }
}

/* An empty fence hides nothing and owns nothing; its decisions are free. */
static void a_fence_without_events_hides_nothing(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_fence_t *fence = begin_fence(store, 0), *other = begin_fence(store, 0);
    append(store, "a", "0");
    EXPECT_PAYLOADS(store, NULL, "0 ");
    commit_fence(fence, 0);
    cancel_fence(other);
    append(store, "a", "1");
    EXPECT_ENTITY(store, "a", "0 1 ");
    CHECK_EQUAL(marks_of(store).visible, 2);
    close_store(store);
    remove_dir(dir);
}

/* "Several may be open", with appends in turn; what was before the first stays visible, the rest as far as nothing is undecided. */
static void several_fences_are_open_at_once(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    append(store, "z", "before");
    batpak_fence_t *first = begin_fence(store, 0), *second = begin_fence(store, 0), *third = begin_fence(store, 0);
    char payload[16];
    for (int i = 0; i < 3; i++) {
        snprintf(payload, sizeof payload, "2:%d", i);
        fence_append(second, "two", payload);
        snprintf(payload, sizeof payload, "1:%d", i);
        fence_append(first, "one", payload);
        snprintf(payload, sizeof payload, "z:%d", i);
        append(store, "z", payload);
        snprintf(payload, sizeof payload, "3:%d", i);
        fence_append(third, "three", payload);
    }
    EXPECT_PAYLOADS(store, NULL, "before ");
    commit_fence(third, 0);
    EXPECT_PAYLOADS(store, NULL, "before ");
    cancel_fence(first);
    EXPECT_PAYLOADS(store, NULL, "before ");
    CHECK_EQUAL(marks_of(store).visible, 1);
    commit_fence(second, 0);
    EXPECT_PAYLOADS(store, NULL, "before 2:0 z:0 3:0 2:1 z:1 3:1 2:2 z:2 3:2 ");
    CHECK_EQUAL(marks_of(store).visible, 13);
    EXPECT_ENTITY(store, "one", "");
    EXPECT_ENTITY(store, "two", "2:0 2:1 2:2 ");
    EXPECT_ENTITY(store, "three", "3:0 3:1 3:2 ");
    close_store(store);
    store = open_store(dir);
    EXPECT_PAYLOADS(store, NULL, "before 2:0 z:0 3:0 2:1 z:1 3:1 2:2 z:2 3:2 ");
    CHECK_EQUAL(append(store, "one", "x").clock, 0);
    close_store(store);
    remove_dir(dir);
}

/* Visible "never passes the start of an undecided fence", while what others append is acknowledged as durable. */
static void visible_waits_for_the_fence_and_storage_appends_do_not(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "a", "0");
    batpak_fence_t *fence = begin_fence(store, 0);
    CHECK_EQUAL(marks_of(store).visible, 1);
    fence_append(fence, "f", "1");
    batpak_watermarks_t before = marks_of(store);
    for (uint64_t i = 2; i < 20; i++) {
        batpak_receipt_t receipt = append(store, "a", "x");
        CHECK(receipt.sequence == i && receipt.durability == BATPAK_DURABILITY_STORAGE);
        batpak_watermarks_t marks = marks_of(store);
        CHECK(marks.durable == i + 1 && marks.appended == i + 1 && marks.visible == 1);
        CHECK(marks.durable >= before.durable);
        before = marks;
    }
    CHECK_OK(batpak_store_sync(store, &error), error);
    CHECK_EQUAL(marks_of(store).visible, 1);
    cancel_fence(fence);
    CHECK_EQUAL(marks_of(store).visible, 20);
    close_store(store);
    remove_dir(dir);
}

/* "Appends under it are not synced, its commit is." */
static void appends_under_a_fence_are_not_synced_its_commit_is(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "a", "0");
    uint64_t syncs = stats_of(store).syncs;
    batpak_fence_t *fence = begin_fence(store, 0);
    for (int i = 0; i < 100; i++) {
        fence_append(fence, "a", "x");
    }
    CHECK(stats_of(store).syncs == syncs && marks_of(store).durable == 1);
    CHECK_OK(batpak_fence_commit(fence, BATPAK_DURABILITY_STORAGE, &error), error);
    CHECK(stats_of(store).syncs == syncs + 1 && marks_of(store).durable == 101);
    batpak_fence_free(fence);
    fence = begin_fence(store, 0);
    fence_append(fence, "a", "x");
    CHECK_OK(batpak_fence_commit(fence, BATPAK_DURABILITY_PROCESS, &error), error);
    CHECK(stats_of(store).syncs == syncs + 1 && marks_of(store).durable == 101 && marks_of(store).visible == 102);
    /* Committed again, for more. */
    CHECK_OK(batpak_fence_commit(fence, BATPAK_DURABILITY_STORAGE, &error), error);
    CHECK(stats_of(store).syncs == syncs + 2 && marks_of(store).durable == 102);
    batpak_fence_free(fence);
    close_store(store);
    remove_dir(dir);
}

/* The events of a fence may be durable, by the syncs of others, while its commit is not. A sync, a checkpoint or a duplicate that is asked
 * to survive a power loss, and a wait for durable, wait for the commit: a power loss before it would cancel the fence. */
static void what_is_acknowledged_as_durable_has_a_durable_commit(void) {
    for (int way = 0; way < 6; way++) {
        char *dir = make_dir();
        batpak_store_t *store = open_store(dir);
        batpak_append_t item = keyed(item_of("f", "0"), KEY);
        batpak_fence_t *fence = begin_fence(store, 0);
        fence_item(fence, item);
        append(store, "a", "1");
        CHECK_EQUAL(marks_of(store).durable, 2);
        commit_fence(fence, BATPAK_DURABILITY_PROCESS);
        EXPECT_PAYLOADS(store, NULL, "0 1 ");
        uint64_t syncs = stats_of(store).syncs;
        batpak_receipt_t receipt = append_as(store, item, BATPAK_DURABILITY_PROCESS);
        CHECK_EQUAL(receipt.flags, BATPAK_RECEIPT_DUPLICATE);
        CHECK_EQUAL(receipt.durability, BATPAK_DURABILITY_PROCESS);
        CHECK_EQUAL(stats_of(store).syncs, syncs);
        if (way == 0) {
            CHECK_OK(batpak_store_sync(store, &error), error);
        } else if (way == 1) {
            receipt = append_as(store, item, BATPAK_DURABILITY_STORAGE);
            CHECK(receipt.flags == BATPAK_RECEIPT_DUPLICATE && receipt.durability == BATPAK_DURABILITY_STORAGE);
        } else if (way == 2) {
            CHECK_OK(batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, 2, SOON_MS, &error), error);
        } else if (way == 3) { /* by the helper thread */
            int32_t fd = -1;
            batpak_status_t status;
            CHECK_OK(batpak_store_durable_fd(store, &fd, &error), error);
            while ((status = batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, 2, 0, &error)) == BATPAK_TIMEOUT) {
                struct pollfd readable = {.fd = fd, .events = POLLIN};
                CHECK(poll(&readable, 1, SOON_MS) == 1);
            }
            CHECK_OK(status, error);
        } else {
            batpak_cursor_t *cursor = open_cursor(store, NULL, "reader");
            EXPECT_NEXT(cursor, 10, 0, 1);
            CHECK_OK(way == 4 ? batpak_cursor_checkpoint(cursor, &error) : batpak_cursor_checkpoint_at(cursor, 0, &error), error);
            close_cursor(cursor);
        }
        CHECK_EQUAL(stats_of(store).syncs, syncs + 1);
        receipt = append_as(store, item, BATPAK_DURABILITY_PROCESS);
        CHECK_EQUAL(receipt.durability, BATPAK_DURABILITY_STORAGE);
        close_store(store);
        remove_dir(dir);
    }
}

/* ---- ownership ------------------------------------------------------------------------------------------------------ */

static void others_are_refused_the_entities_of_a_fence(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "a", "0");
    batpak_fence_t *fence = begin_fence(store, 0), *other = begin_fence(store, 0);
    /* By appending, not by beginning. */
    append(store, "a", "1");
    fence_append(fence, "a", "2");
    CHECK(try_append(store, "a", "x") == BATPAK_E_STREAM_FENCED);
    CHECK(batpak_error_is_retryable(error) == 1 && batpak_error_is_fatal(error) == 0);
    batpak_error_free(error);
    error = NULL;
    CHECK_REFUSED(try_append(store, "a", "x"), BATPAK_E_STREAM_FENCED, "entity", "a", "index", NULL);
    CHECK_REFUSED(try_fence_append(other, "a", "x"), BATPAK_E_STREAM_FENCED, "entity", "a");
    batpak_append_t items[3] = {item_of("b", "x"), item_of("c", "x"), item_of("a", "x")};
    CHECK_REFUSED(batpak_store_append(store, items, 3, NULL, NULL, &error), BATPAK_E_STREAM_FENCED, "entity", "a", "index", "2");
    /* A refused append under a fence takes no ownership of its other entities. */
    CHECK_REFUSED(batpak_fence_append(other, items, 3, NULL, NULL, &error), BATPAK_E_STREAM_FENCED, "entity", "a", "index", "2");
    append(store, "b", "3");
    /* Others are unaffected, also those that begin alike. */
    append(store, "a:", "4");
    fence_append(other, "c", "5");
    fence_append(fence, "a", "6");
    CHECK_REFUSED(try_append(store, "c", "x"), BATPAK_E_STREAM_FENCED, "entity", "c");
    CHECK_EQUAL(marks_of(store).appended, 7);
    commit_fence(fence, 0);
    append(store, "a", "7");
    CHECK_STATUS(try_append(store, "c", "x"), BATPAK_E_STREAM_FENCED, error);
    cancel_fence(other);
    append(store, "c", "8");
    EXPECT_ENTITY(store, "a", "0 1 2 6 7 ");
    EXPECT_ENTITY(store, "c", "8 ");
    close_store(store);
    remove_dir(dir);
}

/* The owner may be in an older segment by now; and so may the entity. */
static void ownership_goes_on_in_later_segments(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    append(store, "a", "0");
    fill_segments(store, 2);
    batpak_fence_t *fence = begin_fence(store, 0);
    fence_append(fence, "a", "1");
    fence_append(fence, "b", "2");
    fill_segments(store, 3);
    CHECK_STATUS(try_append(store, "a", "x"), BATPAK_E_STREAM_FENCED, error);
    CHECK_STATUS(try_append(store, "b", "x"), BATPAK_E_STREAM_FENCED, error);
    fence_append(fence, "a", "3");
    cancel_fence(fence);
    CHECK_EQUAL(append(store, "a", "4").clock, 1);
    CHECK_EQUAL(append(store, "b", "5").clock, 0);
    EXPECT_ENTITY(store, "a", "0 4 ");
    EXPECT_ENTITY(store, "b", "5 ");
    close_store(store);
    remove_dir(dir);
}

static void expected_states_see_the_fences_own_events(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_fence_t *fence = begin_fence(store, 0);
    batpak_append_t items[2] = {expecting(item_of("a", "0"), BATPAK_EXPECT_NO_STREAM, 0),
                                expecting(item_of("a", "1"), BATPAK_EXPECT_EXACT, 0)};
    CHECK_OK(batpak_fence_append(fence, items, 2, NULL, NULL, &error), error);
    CHECK_REFUSED(batpak_fence_append(fence, items, 2, NULL, NULL, &error), BATPAK_E_EXPECTED_STATE, "index", "0", "actual", "1");
    fence_item(fence, expecting(item_of("a", "2"), BATPAK_EXPECT_EXACT, 1));
    cancel_fence(fence);
    append_item(store, expecting(item_of("a", "3"), BATPAK_EXPECT_NO_STREAM, 0));
    fence = begin_fence(store, 0);
    fence_item(fence, expecting(item_of("a", "4"), BATPAK_EXPECT_EXACT, 0));
    commit_fence(fence, 0);
    append_item(store, expecting(item_of("a", "5"), BATPAK_EXPECT_EXACT, 1));
    EXPECT_ENTITY(store, "a", "3 4 5 ");
    close_store(store);
    remove_dir(dir);
}

/* ---- clocks and links ----------------------------------------------------------------------------------------------- */

/* Several events of one entity in one fence or batch got the same clock or previous link. */
static void regression_09_events_of_one_entity_have_successive_clocks_and_links(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    append(store, "a", "0");
    batpak_fence_t *fence = begin_fence(store, 0);
    batpak_append_t items[4] = {item_of("a", "1"), item_of("b", "0"), item_of("a", "2"), item_of("b", "1")};
    batpak_receipt_t receipts[4];
    for (uint64_t round = 0; round < 3; round++) {
        CHECK_OK(batpak_fence_append(fence, items, 4, NULL, receipts, &error), error);
        CHECK_EQUAL(receipts[0].clock, 1 + 2 * round);
        CHECK_EQUAL(receipts[1].clock, 2 * round);
        CHECK_EQUAL(receipts[2].clock, 2 + 2 * round);
        CHECK_EQUAL(receipts[3].clock, 1 + 2 * round);
        CHECK_EQUAL(append(store, "c", "x").clock, round);
    }
    commit_fence(fence, 0);
    CHECK_OK(batpak_store_append(store, items, 4, NULL, receipts, &error), error);
    CHECK(receipts[0].clock == 7 && receipts[2].clock == 8);
    for (int round = 0; round < 2; round++) {
        EXPECT_ENTITY(store, "a", "0 1 2 1 2 1 2 1 2 ");
        EXPECT_ENTITY(store, "b", "0 1 0 1 0 1 0 1 ");
        close_store(store);
        store = open_store(dir);
    }
    close_store(store);
    remove_dir(dir);
}

/* The event after a cancelled fence had a clock or previous link that counted the cancelled ones. */
static void regression_25_cancel_rewinds_clocks_and_links(void) {
    for (int way = 0; way < 3; way++) { /* at once; with the entities' last events in older segments; with the fence in them */
        char *dir = make_dir();
        batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
        append(store, "a", "0");
        append(store, "a", "1");
        append(store, "b", "0");
        if (way > 0) {
            fill_segments(store, 2);
        }
        batpak_fence_t *fence = begin_fence(store, 0);
        fence_append(fence, "a", "x");
        fence_append(fence, "new", "x");
        fence_append(fence, "a", "x");
        if (way > 1) {
            fill_segments(store, 2);
        }
        fence_append(fence, "new", "x");
        fence_append(fence, "b", "x");
        cancel_fence(fence);
        CHECK_EQUAL(append(store, "a", "2").clock, 2);
        CHECK_EQUAL(append(store, "new", "0").clock, 0);
        append_item(store, expecting(item_of("b", "1"), BATPAK_EXPECT_EXACT, 0));
        for (int round = 0; round < 3; round++) {
            EXPECT_ENTITY(store, "a", "0 1 2 ");
            EXPECT_ENTITY(store, "b", "0 1 ");
            EXPECT_ENTITY(store, "new", "0 ");
            close_store(store);
            CHECK(round != 1 || remove_indexes(dir) > 0);
            store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
        }
        CHECK_EQUAL(append(store, "a", "3").clock, 3);
        CHECK_EQUAL(append(store, "new", "1").clock, 1);
        EXPECT_ENTITY(store, "a", "0 1 2 3 ");
        EXPECT_ENTITY(store, "new", "0 1 ");
        close_store(store);
        remove_dir(dir);
    }
}

/* Fences one after the other on one entity: each goes on where the one before left it, or found it. */
static void fences_follow_one_another_on_an_entity(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    char payload[16], expected[512] = "";
    uint64_t clock = 0;
    for (int i = 0; i < 30; i++) {
        batpak_fence_t *fence = begin_fence(store, 0);
        for (uint64_t k = 0; k < 2; k++) {
            snprintf(payload, sizeof payload, "%d", i);
            CHECK_EQUAL(fence_append(fence, "a", payload).clock, clock + k);
            if (i % 3 == 0) {
                snprintf(expected + strlen(expected), 16, "%d ", i);
            }
        }
        if (i % 3 == 0) {
            commit_fence(fence, 0);
            clock += 2;
        } else if (i % 3 == 1) {
            cancel_fence(fence);
        } else {
            batpak_fence_free(fence);
        }
    }
    for (int round = 0; round < 2; round++) {
        EXPECT_ENTITY(store, "a", expected);
        close_store(store);
        store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    }
    CHECK_EQUAL(append(store, "a", "x").clock, clock);
    close_store(store);
    remove_dir(dir);
}

enum { OWNED = 300, LOOK_UPS = 60 };

static char owned_names[OWNED][32];

struct looking {
    batpak_store_t *store;
    _Atomic int looked_at;
};

/* Appends to each entity of a fence: refused while it is open, its first event afterwards. */
static void *append_to_all(void *argument) {
    struct looking *looking = argument;
    batpak_error_t *own = NULL;
    for (int i = 0; i < OWNED; i++) {
        batpak_append_t item = item_of(owned_names[i], "x");
        batpak_receipt_t receipt;
        batpak_status_t status = batpak_store_append(looking->store, &item, 1, NULL, &receipt, &own);
        if (status == BATPAK_OK) {
            CHECK_EQUAL(receipt.clock, 0);
        } else {
            check_status_is(__FILE__, __LINE__, "batpak_store_append", status, BATPAK_E_STREAM_FENCED, &own);
        }
        looking->looked_at = i;
    }
    return NULL;
}

/* A thread is looking for the head of an entity in older segments while a fence that has events of the entity there is cancelled: the head
 * that it has found is not the entity's any more. */
static void regression_25_a_cancel_meets_a_look_up_of_the_entity(void) {
    static batpak_append_t items[OWNED];
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    for (int round = 0; round < LOOK_UPS; round++) {
        struct looking looking = {store, 0};
        for (int i = 0; i < OWNED; i++) {
            snprintf(owned_names[i], sizeof owned_names[i], "e:%d:%d", round, i);
            items[i] = item_of(owned_names[i], "x");
        }
        batpak_fence_t *fence = begin_fence(store, 0);
        CHECK_OK(batpak_fence_append(fence, items, OWNED, NULL, NULL, &error), error);
        fill_segments(store, 2);
        pthread_t thread = start_thread(append_to_all, &looking);
        while (looking.looked_at < 10 + round) {
            sched_yield();
        }
        cancel_fence(fence);
        join_thread(thread);
    }
    close_store(store);
    remove_dir(dir);
}

/* ---- cancelled events ----------------------------------------------------------------------------------------------- */

/* An event as it was appended, and whether anybody may see it. */
struct entry {
    const char *entity, *scope;
    uint32_t kind;
    uint64_t clock, sequence;
    int is_live;
};

static struct entry entries[4000];
static size_t entry_count;

static batpak_append_t next_entry(int is_live, const char *payload) {
    static const char *const live[3] = {"user", "user:1", "users"}, *const fenced[3] = {"user:2", "flight:1", "user:3"};
    static const char *const scopes[2] = {"s", "t"};
    struct entry *entry = &entries[entry_count];
    size_t at = entry_count++ / 2;
    entry->entity = is_live ? live[at % 3] : fenced[at % 3];
    entry->scope = scopes[at / 3 % 2];
    entry->kind = at % 4 == 3 ? 0x2002 : 0x1001 + (uint32_t)(at % 4);
    entry->is_live = is_live;
    batpak_append_t item = item_of(entry->entity, payload);
    item.kind = entry->kind;
    item.scope = entry->scope;
    return item;
}

static void note_entry(batpak_receipt_t receipt) {
    entries[entry_count - 1].sequence = receipt.sequence;
    entries[entry_count - 1].clock = receipt.clock;
}

static int has_prefix(const char *entity, const char *prefix) {
    size_t length = strlen(prefix);
    return strncmp(entity, prefix, length) == 0 && (entity[length] == 0 || entity[length] == ':');
}

static int is_match(const struct entry *entry, const batpak_region_t *region) {
    if ((region->entity_match == BATPAK_ENTITY_EXACT && strcmp(entry->entity, region->entity) != 0) ||
        (region->entity_match == BATPAK_ENTITY_PREFIX && !has_prefix(entry->entity, region->entity)) ||
        (region->scope != NULL && strcmp(entry->scope, region->scope) != 0) ||
        (region->kind_match == BATPAK_KIND_CATEGORY && entry->kind >> 12 != region->kind) ||
        (region->kind_match == BATPAK_KIND_EXACT && entry->kind != region->kind) ||
        (region->has_clock_range && (entry->clock < region->clock_start || entry->clock > region->clock_end))) {
        return 0;
    }
    return entry->is_live;
}

/* Every kind of region delivers what is live of it, in order, and nothing else. */
static void check_regions(batpak_store_t *store) {
    static const struct {
        uint32_t match;
        const char *entity;
    } entities[] = {{BATPAK_ENTITY_ANY, NULL},        {BATPAK_ENTITY_EXACT, "user:2"},   {BATPAK_ENTITY_EXACT, "user"},
                    {BATPAK_ENTITY_PREFIX, "user"},   {BATPAK_ENTITY_PREFIX, "user:2"},  {BATPAK_ENTITY_EXACT, "flight:1"},
                    {BATPAK_ENTITY_PREFIX, "flight"}, {BATPAK_ENTITY_EXACT, "nobody"}};
    static const struct {
        uint32_t match, kind;
    } kinds[] = {{BATPAK_KIND_NONE, 0},        {BATPAK_KIND_ANY, 0},         {BATPAK_KIND_CATEGORY, 1},
                 {BATPAK_KIND_EXACT, 0x2002}, {BATPAK_KIND_EXACT, 0x1001}, {BATPAK_KIND_CATEGORY, 3}};
    static const char *const scopes[] = {NULL, "s", "t"};
    static struct seen seen[4000];
    for (size_t at = 0; at < 8 * 6 * 3 * 2; at++) {
        batpak_region_t region = region_of(entities[at % 8].match, entities[at % 8].entity);
        region.kind_match = kinds[at / 8 % 6].match;
        region.kind = kinds[at / 8 % 6].kind;
        region.scope = scopes[at / 48 % 3];
        region.scope_len = region.scope ? 1 : 0;
        if (at / 144) {
            region.has_clock_range = 1;
            region.clock_start = 1;
            region.clock_end = 12;
        }
        size_t n = see(store, &region, seen, 4000), expected = 0;
        for (size_t i = 0; i < entry_count; i++) {
            if (is_match(&entries[i], &region)) {
                CHECK(expected < n && seen[expected].sequence == entries[i].sequence);
                CHECK_EQUAL(seen[expected].clock, entries[i].clock);
                expected++;
            }
        }
        CHECK_EQUAL(n, expected);
    }
}

static batpak_fence_t *append_entries(batpak_store_t *store, size_t n, const char *payload) {
    batpak_fence_t *fence = begin_fence(store, 0);
    for (size_t i = 0; i < n; i++) {
        note_entry(append_item(store, next_entry(1, payload)));
        note_entry(fence_item(fence, next_entry(0, payload)));
    }
    return fence;
}

/* "Cancelled ranges live in the log, fail closed, survive everything": no region delivers them; not before and after sealing, reopening,
 * and the loss of what is derived from the log; and what committed fences have stays. */
static void cancelled_events_are_never_delivered(void) {
    char *dir = make_dir(), *payload = malloc(4001);
    CHECK(payload != NULL);
    memset(payload, 'c', 4000);
    payload[4000] = 0;
    for (int helper = 0; helper < 2; helper++) {
        struct setting setting = {MIB, 0, BATPAK_DURABILITY_PROCESS, helper ? 0 : BATPAK_STORE_NO_HELPER_THREAD};
        batpak_store_t *store = open_set(dir, setting);
        entry_count = 0;
        cancel_fence(append_entries(store, 20, "small"));
        check_regions(store);
        batpak_fence_t *fence = append_entries(store, 300, payload); /* in three segments */
        CHECK(stats_of(store).segments >= 3);
        cancel_fence(fence);
        check_regions(store);
        size_t from = entry_count;
        fence = append_entries(store, 300, payload);
        CHECK(stats_of(store).segments >= 5);
        commit_fence(fence, 0);
        for (; from < entry_count; from++) {
            entries[from].is_live = 1;
        }
        check_regions(store);
        cancel_fence(append_entries(store, 20, "small"));
        note_entry(append_item(store, next_entry(1, "last")));
        entry_count++; /* the places go in pairs */
        entries[entry_count - 1].is_live = 0, entries[entry_count - 1].entity = "", entries[entry_count - 1].scope = "";
        for (int round = 0; round < 4; round++) {
            check_regions(store);
            close_store(store);
            if (round == 1) {
                CHECK(remove_indexes(dir) >= 4);
            }
            if (round == 2) { /* a reader derives for itself */
                CHECK(remove_indexes(dir) >= 4);
                setting.flags |= BATPAK_STORE_READ_ONLY;
            } else {
                setting.flags &= ~BATPAK_STORE_READ_ONLY;
            }
            store = open_set(dir, setting);
        }
        close_store(store);
        remove_tree(dir);
        CHECK(mkdir(dir, 0700) == 0);
    }
    free(payload);
    remove_dir(dir);
}

/* A fence with as many ranges as it has events, more than a segment has room for in one frame. */
static void a_fence_of_very_many_ranges_is_cancelled(void) {
    enum { RANGES = 70000 };
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    batpak_fence_t *fence = begin_fence(store, 0);
    batpak_append_t fenced = item_of("f", "x"), live = item_of("a", "x");
    for (int i = 0; i < RANGES; i++) {
        CHECK_OK(batpak_fence_append(fence, &fenced, 1, NULL, NULL, &error), error);
        CHECK_OK(batpak_store_append(store, &live, 1, NULL, NULL, &error), error);
    }
    cancel_fence(fence);
    CHECK_EQUAL(append(store, "f", "x").clock, 0);
    CHECK_EQUAL(append(store, "a", "x").clock, RANGES);
    for (int round = 0; round < 3; round++) {
        static struct seen seen[RANGES + 3];
        CHECK_EQUAL(see(store, NULL, seen, RANGES + 3), RANGES + 2);
        for (uint64_t i = 0; i < RANGES; i++) {
            CHECK(seen[i].sequence == 2 * i + 1 && seen[i].clock == i);
        }
        CHECK_EQUAL(see_entity(store, "f", seen, 2), 1);
        close_store(store);
        CHECK(round != 1 || remove_indexes(dir) > 5);
        store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    }
    close_store(store);
    remove_dir(dir);
}

/* ---- the end of a fence --------------------------------------------------------------------------------------------- */

/* A timeout needs nobody: a reader that waits for what the fence hides is woken. */
static void a_fence_expires_by_itself_and_wakes_the_reader(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    struct reader reader;
    batpak_fence_t *fence = begin_fence(store, 150), *longer = begin_fence(store, 0);
    fence_append(fence, "a", "x");
    append(store, "b", "0");
    pthread_t thread = start_reader(&reader, store);
    end_reader(&reader, thread, 1, 1);
    CHECK_REFUSED(try_fence_append(fence, "a", "x"), BATPAK_E_FENCE_EXPIRED, "timeout_ms", "150");
    CHECK_STATUS(batpak_fence_commit(fence, 0, &error), BATPAK_E_FENCE_EXPIRED, error);
    CHECK_OK(batpak_fence_cancel(fence, &error), error);
    CHECK_STATUS(batpak_fence_commit(fence, BATPAK_DURABILITY_PROCESS, &error), BATPAK_E_FENCE_EXPIRED, error);
    CHECK_EQUAL(append(store, "a", "1").clock, 0);
    batpak_fence_free(fence);
    fence_append(longer, "c", "2");
    commit_fence(longer, 0);
    for (int round = 0; round < 2; round++) {
        EXPECT_PAYLOADS(store, NULL, "0 1 2 ");
        close_store(store);
        store = open_store(dir);
    }
    close_store(store);
    remove_dir(dir);
}

/* Fences begun later may expire earlier, and each begun anew counts. */
static void fences_expire_each_in_its_time(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_fence_t *late = begin_fence(store, 0), *early = begin_fence(store, 60), *middle = begin_fence(store, 120);
    struct reader reader;
    fence_append(early, "a", "x");
    fence_append(middle, "b", "x");
    append(store, "c", "0");
    pthread_t thread = start_reader(&reader, store);
    end_reader(&reader, thread, 2, 1);
    CHECK_STATUS(batpak_fence_commit(middle, 0, &error), BATPAK_E_FENCE_EXPIRED, error);
    CHECK_STATUS(batpak_fence_commit(early, 0, &error), BATPAK_E_FENCE_EXPIRED, error);
    commit_fence(late, 0);
    batpak_fence_free(early);
    batpak_fence_free(middle);
    close_store(store);
    remove_dir(dir);
}

/* Without the helper thread, the first call that meets the fence notices. */
static void without_the_helper_thread_a_fence_expires_at_the_next_call(void) {
    for (int way = 0; way < 8; way++) {
        char *dir = make_dir();
        batpak_store_t *store = open_set(dir, (struct setting){.flags = BATPAK_STORE_NO_HELPER_THREAD});
        batpak_fence_t *other = begin_fence(store, 0), *fence = begin_fence(store, 20);
        uint64_t deadline = now_us() + 21000;
        batpak_append_t item = keyed(item_of("a", "x"), KEY), effect = item_of("c", "x");
        batpak_receipt_t receipt = fence_item(fence, item);
        append(store, "b", "0");
        wait_until_us(deadline);
        switch (way) {
        case 0:
            EXPECT_PAYLOADS(store, NULL, "0 ");
            break;
        case 1:
            CHECK_EQUAL(append(store, "a", "x").clock, 0);
            break;
        case 2:
            CHECK_STATUS(batpak_fence_commit(fence, 0, &error), BATPAK_E_FENCE_EXPIRED, error);
            break;
        case 3:
            CHECK_STATUS(try_fence_append(fence, "a", "x"), BATPAK_E_FENCE_EXPIRED, error);
            break;
        case 4: /* a retry under the fence's key */
            CHECK_EQUAL(append_item(store, item).flags, 0);
            break;
        case 5: /* its event as a cause */
            effect = caused(effect, receipt.id);
            CHECK_STATUS(batpak_store_append(store, &effect, 1, NULL, NULL, &error), BATPAK_E_CAUSE_UNKNOWN, error);
            break;
        case 6:
            CHECK_EQUAL(fence_append(other, "a", "x").clock, 0);
            break;
        default:
            CHECK_OK(batpak_fence_cancel(fence, &error), error);
            break;
        }
        CHECK_STATUS(batpak_fence_commit(fence, 0, &error), way == 7 ? BATPAK_E_FENCE_DECIDED : BATPAK_E_FENCE_EXPIRED, error);
        batpak_fence_free(fence);
        batpak_fence_free(other);
        close_store(store);
        remove_dir(dir);
    }
}

/* The call that notices may be one that is refused for something else: who waits is woken all the same. */
static void a_refused_append_that_notices_the_timeout_wakes_the_reader(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_set(dir, (struct setting){.flags = BATPAK_STORE_NO_HELPER_THREAD});
    struct reader reader;
    batpak_fence_t *fence = begin_fence(store, 20);
    uint64_t deadline = now_us() + 21000;
    fence_append(fence, "a", "x");
    append(store, "b", "0");
    pthread_t thread = start_reader(&reader, store);
    wait_until_us(deadline);
    batpak_append_t item = expecting(item_of("b", "x"), BATPAK_EXPECT_EXACT, 7);
    CHECK_STATUS(batpak_store_append(store, &item, 1, NULL, NULL, &error), BATPAK_E_EXPECTED_STATE, error);
    end_reader(&reader, thread, 1, 1);
    batpak_fence_free(fence);
    close_store(store);
    remove_dir(dir);
}

static void timeouts_have_bounds(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_fence_options_t options;
    batpak_fence_t *fence = (batpak_fence_t *)&options;
    CHECK_OK(batpak_fence_options_init(&options, sizeof options, &error), error);
    CHECK_EQUAL(options.timeout_ms, 10000);
    options.timeout_ms = 3600001;
    CHECK_REFUSED(batpak_fence_begin(store, &options, &fence, &error), BATPAK_E_INVALID_ARGUMENT, "what", "timeout_ms");
    CHECK(fence == NULL);
    options.timeout_ms = 3600000;
    CHECK_OK(batpak_fence_begin(store, &options, &fence, &error), error);
    batpak_fence_free(fence);
    options.timeout_ms = 0;
    CHECK_OK(batpak_fence_begin(store, &options, &fence, &error), error);
    fence_append(fence, "a", "0");
    commit_fence(fence, 0);
    options.reserved[3] = 1;
    CHECK_STATUS(batpak_fence_begin(store, &options, &fence, &error), BATPAK_E_UNSUPPORTED, error);
    CHECK_OK(batpak_fence_begin(store, NULL, &fence, &error), error);
    batpak_fence_free(fence);
    close_store(store);
    remove_dir(dir);
}

/* Of the calls after each decision: committing and cancelling again is fine, changing one's mind is not, and nothing is taken any more. */
static void a_decided_fence_stays_as_it_was_decided(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_fence_t *fence = begin_fence(store, 0);
    fence_append(fence, "a", "0");
    CHECK_STATUS(batpak_fence_commit(fence, 3, &error), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK_STATUS(batpak_fence_commit(fence, UINT32_MAX, &error), BATPAK_E_INVALID_ARGUMENT, error);
    fence_append(fence, "a", "1"); /* it is still open */
    CHECK_OK(batpak_fence_commit(fence, BATPAK_DURABILITY_PROCESS, &error), error);
    for (uint32_t durability = 0; durability < 3; durability++) {
        CHECK_OK(batpak_fence_commit(fence, durability, &error), error);
    }
    CHECK_REFUSED(batpak_fence_cancel(fence, &error), BATPAK_E_FENCE_DECIDED, "outcome", "committed");
    CHECK_REFUSED(try_fence_append(fence, "a", "x"), BATPAK_E_FENCE_DECIDED, "outcome", "committed");
    CHECK_REFUSED(try_fence_append(fence, "new", "x"), BATPAK_E_FENCE_DECIDED, "outcome", "committed");
    batpak_fence_free(fence);
    fence = begin_fence(store, 0);
    fence_append(fence, "a", "x");
    CHECK_OK(batpak_fence_cancel(fence, &error), error);
    CHECK_OK(batpak_fence_cancel(fence, &error), error);
    CHECK_REFUSED(batpak_fence_commit(fence, 0, &error), BATPAK_E_FENCE_DECIDED, "outcome", "cancelled");
    CHECK_REFUSED(try_fence_append(fence, "a", "x"), BATPAK_E_FENCE_DECIDED, "outcome", "cancelled");
    CHECK(batpak_fence_commit(fence, 0, &error) < 0 && batpak_error_is_retryable(error) == 0);
    batpak_error_free(error);
    error = NULL;
    batpak_fence_free(fence);
    EXPECT_ENTITY(store, "a", "0 1 ");
    CHECK_EQUAL(marks_of(store).appended, 3);
    close_store(store);
    remove_dir(dir);
}

/* Under a fence nothing is promised, so nothing can be asked. */
static void a_durability_under_a_fence_is_refused(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_fence_t *fence = begin_fence(store, 0);
    batpak_append_t item = item_of("a", "0");
    for (uint32_t durability = 1; durability < 4; durability++) {
        batpak_append_options_t options = durably(durability);
        CHECK_REFUSED(batpak_fence_append(fence, &item, 1, &options, NULL, &error), BATPAK_E_INVALID_ARGUMENT, "what",
                      "durability");
    }
    CHECK_EQUAL(marks_of(store).appended, 0);
    batpak_append_options_t options = durably(0);
    batpak_receipt_t receipt;
    options.flags = BATPAK_APPEND_LEAF_HASH;
    CHECK_OK(batpak_fence_append(fence, &item, 1, &options, &receipt, &error), error);
    static const uint8_t none[32];
    CHECK(memcmp(receipt.leaf_hash, none, 32) != 0);
    commit_fence(fence, 0);
    close_store(store);
    remove_dir(dir);
}

/* What is wrong with an item under a fence is said as without one, and appends and owns nothing. */
static void refusals_under_a_fence_name_the_item(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_fence_t *fence = begin_fence(store, 0);
    batpak_append_t items[2] = {item_of("a", "x"), item_of("b/c", "x")};
    CHECK_REFUSED(batpak_fence_append(fence, items, 2, NULL, NULL, &error), BATPAK_E_COORDINATE_CHARACTER, "index", "1");
    CHECK_REFUSED(batpak_fence_append(fence, items, 0, NULL, NULL, &error), BATPAK_E_BATCH_EMPTY, "index", NULL);
    items[1] = item_of("b", "x");
    items[1].kind = 0xD001;
    CHECK_REFUSED(batpak_fence_append(fence, items, 2, NULL, NULL, &error), BATPAK_E_KIND_RESERVED, "index", "1");
    CHECK_EQUAL(append(store, "a", "0").sequence, 0);
    EXPECT_PAYLOADS(store, NULL, "0 ");
    commit_fence(fence, 0);
    close_store(store);
    remove_dir(dir);
}

/* ---- causes and keys ------------------------------------------------------------------------------------------------ */

static void causes_and_keys_of_undecided_fences_are_pending(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_fence_t *fence = begin_fence(store, 0), *other = begin_fence(store, 0);
    batpak_append_t item = keyed(item_of("a", "0"), KEY);
    batpak_receipt_t cause = fence_item(fence, item);
    batpak_append_t effect = caused(item_of("b", "1"), cause.id);
    CHECK(batpak_store_append(store, &effect, 1, NULL, NULL, &error) == BATPAK_E_FENCE_PENDING);
    CHECK(batpak_error_is_retryable(error) == 1);
    batpak_error_free(error);
    error = NULL;
    CHECK_REFUSED(batpak_store_append(store, &effect, 1, NULL, NULL, &error), BATPAK_E_FENCE_PENDING, "what", "cause", "sequence",
                  "0");
    CHECK_STATUS(batpak_fence_append(other, &effect, 1, NULL, NULL, &error), BATPAK_E_FENCE_PENDING, error);
    CHECK_REFUSED(batpak_store_append(store, &item, 1, NULL, NULL, &error), BATPAK_E_FENCE_PENDING, "what", "key", "sequence", "0");
    CHECK_STATUS(batpak_fence_append(other, &item, 1, NULL, NULL, &error), BATPAK_E_FENCE_PENDING, error);
    /* Also where the content is another: whether there is a conflict is not decided yet. */
    batpak_append_t conflict = keyed(item_of("c", "x"), KEY);
    CHECK_STATUS(batpak_store_append(store, &conflict, 1, NULL, NULL, &error), BATPAK_E_FENCE_PENDING, error);
    batpak_append_t items[2] = {item_of("d", "x"), item};
    CHECK_REFUSED(batpak_store_append(store, items, 2, NULL, NULL, &error), BATPAK_E_FENCE_PENDING, "index", "1");
    /* Among the fence's own, both are as without a fence. */
    batpak_receipt_t again = fence_item(fence, item);
    CHECK(again.sequence == 0 && again.flags == BATPAK_RECEIPT_DUPLICATE && again.durability == 0);
    CHECK_STATUS(batpak_fence_append(fence, &conflict, 1, NULL, NULL, &error), BATPAK_E_IDEMPOTENCY_CONFLICT, error);
    again = fence_item(fence, effect);
    CHECK(again.sequence == 1 && memcmp(again.correlation_id, cause.id, 16) == 0);
    CHECK_EQUAL(marks_of(store).appended, 2);
    /* Others' events, before and between, are nobody's business. */
    batpak_append_t free_effect = caused(item_of("c", "2"), append(store, "e", "2").id);
    append_item(store, free_effect);
    commit_fence(fence, 0);
    again = append_item(store, item);
    CHECK(again.sequence == 0 && again.flags == BATPAK_RECEIPT_DUPLICATE && again.durability == BATPAK_DURABILITY_STORAGE);
    effect.entity = "f";
    append_item(store, effect);
    CHECK_STATUS(batpak_store_append(store, &conflict, 1, NULL, NULL, &error), BATPAK_E_IDEMPOTENCY_CONFLICT, error);
    batpak_fence_free(other);
    close_store(store);
    remove_dir(dir);
}

/* A cancelled event was never there: no cause, and its key is free, for the same content or another. */
static void cancelled_events_are_no_causes_and_their_keys_are_free(void) {
    for (int way = 0; way < 4; way++) { /* at once, after filling segments, after reopening, after losing the indexes too */
        char *dir = make_dir();
        batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
        batpak_fence_t *fence = begin_fence(store, 0);
        batpak_append_t same = keyed(item_of("a", "same"), KEY "/1"), other = keyed(item_of("a", "other"), KEY "/2");
        batpak_receipt_t first = fence_item(fence, same), second = fence_item(fence, other);
        append(store, "b", "0");
        cancel_fence(fence);
        if (way > 0) {
            fill_segments(store, 3);
        }
        if (way > 1) {
            close_store(store);
            CHECK(way == 2 || remove_indexes(dir) > 0);
            store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
        }
        batpak_append_t effect = caused(item_of("b", "x"), first.id);
        CHECK_STATUS(batpak_store_append(store, &effect, 1, NULL, NULL, &error), BATPAK_E_CAUSE_UNKNOWN, error);
        fence = begin_fence(store, 0);
        CHECK_STATUS(batpak_fence_append(fence, &effect, 1, NULL, NULL, &error), BATPAK_E_CAUSE_UNKNOWN, error);
        batpak_fence_free(fence);
        batpak_receipt_t again = append_item(store, same);
        CHECK(again.flags == 0 && again.clock == 0 && again.sequence > second.sequence);
        other.payload = "another";
        other.payload_len = 7;
        CHECK(append_item(store, other).flags == 0);
        /* Used anew, they are known. */
        for (int round = 0; round < 2; round++) {
            batpak_receipt_t known = append_item(store, same);
            CHECK(known.flags == BATPAK_RECEIPT_DUPLICATE && known.sequence == again.sequence);
            known = append_item(store, other);
            CHECK(known.flags == BATPAK_RECEIPT_DUPLICATE && known.clock == 1);
            fill_segments(store, 2);
            close_store(store);
            CHECK(round > 0 || remove_indexes(dir) > 0);
            store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
        }
        EXPECT_ENTITY(store, "a", "same another ");
        close_store(store);
        remove_dir(dir);
    }
}

/* ---- handles, close and kill ---------------------------------------------------------------------------------------- */

static void freeing_an_undecided_fence_cancels_it(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    struct reader reader;
    batpak_fence_t *fence = begin_fence(store, 0);
    fence_append(fence, "a", "x");
    append(store, "b", "0");
    pthread_t thread = start_reader(&reader, store);
    batpak_fence_free(fence);
    end_reader(&reader, thread, 1, 1);
    CHECK_EQUAL(append(store, "a", "1").clock, 0);
    batpak_fence_free(NULL);
    close_store(store);
    store = open_store(dir);
    EXPECT_PAYLOADS(store, NULL, "0 1 ");
    close_store(store);
    remove_dir(dir);
}

/* A store that was freed and not closed is open for as long as its own thread has work in hand. */
static batpak_store_t *open_when_let_go(const char *dir) {
    batpak_store_t *store = NULL;
    uint64_t start = now_us();
    batpak_status_t status;
    while ((status = batpak_store_open_z(dir, NULL, &store, &error)) == BATPAK_E_LOCKED) {
        CHECK(batpak_error_is_retryable(error) && now_us() - start < SOON_MS * 1000);
        batpak_error_free(error);
        sched_yield();
    }
    CHECK_OK(status, error);
    return store;
}

static void fences_and_stores_are_freed_in_any_order(void) {
    char *dir = make_dir();
    for (int way = 0; way < 4; way++) {
        batpak_store_t *store = open_store(dir), *other = NULL;
        batpak_fence_t *fence = begin_fence(store, 0), *committed = begin_fence(store, 0);
        fence_append(committed, "b", "0");
        CHECK_OK(batpak_fence_commit(committed, 0, &error), error);
        fence_append(fence, "a", "x");
        switch (way) {
        case 0: /* the fences after a closed store */
            close_store(store);
            batpak_fence_free(fence);
            batpak_fence_free(committed);
            break;
        case 1: /* between close and free */
            CHECK_OK(batpak_store_close(store, SOON_MS, &error), error);
            batpak_fence_free(committed);
            batpak_fence_free(fence);
            batpak_store_free(store);
            break;
        case 2: /* after a store that was not closed, which a fence keeps open */
            batpak_store_free(store);
            CHECK_STATUS(batpak_store_open_z(dir, NULL, &other, &error), BATPAK_E_LOCKED, error);
            fence_append(fence, "a", "x");
            batpak_fence_free(fence);
            CHECK_OK(batpak_fence_commit(committed, BATPAK_DURABILITY_STORAGE, &error), error);
            batpak_fence_free(committed);
            break;
        default: /* nothing is closed or decided */
            batpak_fence_free(committed);
            batpak_fence_free(fence);
            batpak_store_free(store);
            break;
        }
        store = open_when_let_go(dir);
        EXPECT_ENTITY(store, "a", "");
        static struct seen seen[8];
        CHECK_EQUAL(see_entity(store, "b", seen, 8), way + 1);
        close_store(store);
    }
    remove_dir(dir);
}

/* ---- many at once --------------------------------------------------------------------------------------------------- */

enum { WORKERS = 4, ROUNDS = 400 };

struct worker_thread {
    batpak_store_t *store;
    int number;
    uint64_t committed;
};

/* Fences of one to five events, of which three in five are committed; payloads tell the fence and its size. */
static void *work_with_fences(void *argument) {
    struct worker_thread *worker = argument;
    batpak_error_t *own = NULL;
    uint64_t random = (uint64_t)worker->number * 1099511628211u + 7;
    for (int round = 0; round < ROUNDS; round++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        size_t n = 1 + (random >> 33) % 5;
        batpak_fence_t *fence = NULL;
        CHECK_OK(batpak_fence_begin(worker->store, NULL, &fence, &own), own);
        char own_entity[16], payload[48];
        snprintf(own_entity, sizeof own_entity, "own:%d", worker->number);
        int outcome = (int)(random >> 40) % 5, refused = 0;
        for (size_t i = 0; i < n && !refused; i++) {
            /* The shared ones are often another's. */
            char shared[16];
            snprintf(shared, sizeof shared, "shared:%d", (int)(random >> (43 + i)) % 3);
            snprintf(payload, sizeof payload, "%d %d %zu %zu", worker->number, round, i, n);
            batpak_append_t item = item_of(i % 2 ? shared : own_entity, payload);
            batpak_status_t status = batpak_fence_append(fence, &item, 1, NULL, NULL, &own);
            refused = status == BATPAK_E_STREAM_FENCED;
            check_status_is(__FILE__, __LINE__, "batpak_fence_append", status, refused ? status : BATPAK_OK, &own);
        }
        if (outcome < 3 && !refused) {
            CHECK_OK(batpak_fence_commit(fence, outcome ? BATPAK_DURABILITY_PROCESS : BATPAK_DURABILITY_STORAGE, &own), own);
            worker->committed += n;
        } else if (outcome == 3) {
            CHECK_OK(batpak_fence_cancel(fence, &own), own);
        }
        batpak_fence_free(fence);
    }
    return NULL;
}

/* What a reader has seen of the fences so far. */
struct tally {
    uint8_t seen[WORKERS][ROUNDS];
    uint64_t events, last_sequence;
};

/* Of a fence that is decided by now either all events are there or none. */
static void tally_events(struct tally *tally, const batpak_event_t *events, size_t n) {
    for (size_t i = 0; i < n; i++) {
        int number, round;
        size_t at, of;
        char text[64];
        CHECK(events[i].payload_len < sizeof text);
        cut(text, sizeof text, events[i].payload, events[i].payload_len);
        CHECK(sscanf(text, "%d %d %zu %zu", &number, &round, &at, &of) == 4);
        CHECK(tally->events == 0 || events[i].sequence > tally->last_sequence);
        tally->last_sequence = events[i].sequence;
        CHECK_EQUAL(tally->seen[number][round], at);
        tally->seen[number][round]++;
        tally->events++;
    }
}

static void threads_work_with_fences_side_by_side(void) {
    static struct tally live, again;
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    struct worker_thread workers[WORKERS];
    pthread_t threads[WORKERS];
    int is_joined[WORKERS] = {0};
    batpak_batch_t *batch = NULL;
    uint64_t committed = 0;
    size_t n = 0;
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker_thread){store, i, 0};
        threads[i] = start_thread(work_with_fences, &workers[i]);
    }
    batpak_watermarks_t before = marks_of(store);
    for (int running = 1; running;) {
        running = 0;
        for (int i = 0; i < WORKERS; i++) {
            if (!is_joined[i]) {
                is_joined[i] = pthread_tryjoin_np(threads[i], NULL) == 0;
                running |= !is_joined[i];
            }
        }
        while (batpak_cursor_poll(cursor, 100, 0, running ? 1 : 0, &batch, &error) == BATPAK_OK) {
            const batpak_event_t *events = batpak_batch_events(batch, &n);
            tally_events(&live, events, n);
            batpak_batch_free(batch);
            batpak_watermarks_t marks = marks_of(store);
            CHECK(marks.visible >= before.visible && marks.durable >= before.durable && marks.appended >= before.appended);
            CHECK(marks.visible <= marks.appended && marks.durable <= marks.appended && live.last_sequence < marks.visible);
            before = marks;
        }
    }
    for (int i = 0; i < WORKERS; i++) {
        committed += workers[i].committed;
    }
    CHECK_EQUAL(live.events, committed);
    batpak_cursor_free(cursor);
    CHECK_EQUAL(marks_of(store).visible, marks_of(store).appended);
    close_store(store);
    CHECK(remove_indexes(dir) > 0);
    store = open_store(dir);
    cursor = open_cursor(store, NULL, NULL);
    while (batpak_cursor_poll(cursor, 1000, 0, 0, &batch, &error) == BATPAK_OK) {
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        tally_events(&again, events, n);
        batpak_batch_free(batch);
    }
    batpak_cursor_free(cursor);
    CHECK(memcmp(&live, &again, sizeof live) == 0);
    for (int i = 0; i < 3; i++) { /* no clock is missing or there twice */
        static struct seen seen[WORKERS * ROUNDS * 5];
        char entity[24];
        snprintf(entity, sizeof entity, "shared:%d", i);
        size_t events = see_entity(store, entity, seen, WORKERS * ROUNDS * 5);
        for (size_t k = 0; k < events; k++) {
            CHECK(seen[k].clock == k && seen[k].prev == (k ? seen[k - 1].sequence : BATPAK_NO_SEQUENCE));
        }
    }
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(events_are_hidden_until_the_commit_and_then_visible_at_once);
    RUN(a_fence_without_events_hides_nothing);
    RUN(several_fences_are_open_at_once);
    RUN(visible_waits_for_the_fence_and_storage_appends_do_not);
    RUN(appends_under_a_fence_are_not_synced_its_commit_is);
    RUN(what_is_acknowledged_as_durable_has_a_durable_commit);
    RUN(others_are_refused_the_entities_of_a_fence);
    RUN(ownership_goes_on_in_later_segments);
    RUN(expected_states_see_the_fences_own_events);
    RUN(regression_09_events_of_one_entity_have_successive_clocks_and_links);
    RUN(regression_25_cancel_rewinds_clocks_and_links);
    RUN(fences_follow_one_another_on_an_entity);
    RUN(regression_25_a_cancel_meets_a_look_up_of_the_entity);
    RUN(cancelled_events_are_never_delivered);
    RUN(a_fence_of_very_many_ranges_is_cancelled);
    RUN(a_fence_expires_by_itself_and_wakes_the_reader);
    RUN(fences_expire_each_in_its_time);
    RUN(without_the_helper_thread_a_fence_expires_at_the_next_call);
    RUN(a_refused_append_that_notices_the_timeout_wakes_the_reader);
    RUN(timeouts_have_bounds);
    RUN(a_decided_fence_stays_as_it_was_decided);
    RUN(a_durability_under_a_fence_is_refused);
    RUN(refusals_under_a_fence_name_the_item);
    RUN(causes_and_keys_of_undecided_fences_are_pending);
    RUN(cancelled_events_are_no_causes_and_their_keys_are_free);
    RUN(freeing_an_undecided_fence_cancels_it);
    RUN(fences_and_stores_are_freed_in_any_order);
    RUN(threads_work_with_fences_side_by_side);
    return 0;
}
