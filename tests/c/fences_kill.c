/* Fences and what ends a process (DESIGN 4): "a crash or close cancels. Cancelled ranges live in the log, fail closed, survive everything";
 * what was committed is there, whole; and a rejected batch consumes no sequence, also as a later opening sees it. */
#include "writers.h"

#include <sys/mman.h>

#define KEY "0123456789abcdef"

static void append_and_die(void *argument) {
    batpak_store_t *store = open_store_with(argument, MIB, BATPAK_DURABILITY_PROCESS);
    append(store, "a", "0");
    batpak_fence_t *fence = begin_fence(store, 0);
    fence_append(fence, "a", "x");
    fence_append(fence, "new", "x");
    append_as(store, item_of("b", "1"), BATPAK_DURABILITY_STORAGE);
    fence_append(fence, "a", "x");
    append(store, "b", "2");
}

/* A crash with an open fence made its events visible. */
static void regression_08_close_and_kill_cancel(void) {
    for (int way = 0; way < 3; way++) { /* closed, killed, killed and first opened by a reader */
        char *dir = make_dir();
        batpak_store_t *store;
        if (way == 0) {
            store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
            append(store, "a", "0");
            batpak_fence_t *fence = begin_fence(store, 0);
            fence_append(fence, "a", "x");
            fence_append(fence, "new", "x");
            append(store, "b", "1");
            fence_append(fence, "a", "x");
            append(store, "b", "2");
            close_store(store);
            CHECK_STATUS(batpak_fence_commit(fence, 0, &error), BATPAK_E_CLOSED, error);
            batpak_fence_free(fence);
        } else {
            killed_after(append_and_die, dir);
        }
        for (int round = 0; round < 5; round++) {
            CHECK(round != 2 || remove_indexes(dir) > 0);
            uint32_t flags = (way == 2 && round == 0) || round == 2 ? BATPAK_STORE_READ_ONLY : 0;
            store = open_set(dir, (struct setting){MIB, 0, BATPAK_DURABILITY_PROCESS, flags});
            EXPECT_PAYLOADS(store, NULL, round < 4 ? "0 1 2 " : "0 1 2 3 4 ");
            EXPECT_ENTITY(store, "a", round < 4 ? "0 " : "0 3 ");
            EXPECT_ENTITY(store, "new", round < 4 ? "" : "4 ");
            EXPECT_ENTITY(store, "b", "1 2 ");
            if (round == 3) {
                /* The log is as long as it was: hidden events keep their places. */
                batpak_receipt_t receipt = append(store, "a", "3");
                CHECK(receipt.sequence == 6 && receipt.clock == 1);
                CHECK_EQUAL(append(store, "new", "4").clock, 0);
            }
            close_store(store);
        }
        remove_dir(dir);
    }
}

/* With the fence cancelled, and something appended behind that or not, before the kill. */
static void cancel_and_die(void *argument) {
    batpak_store_t *store = open_store_with(argument, MIB, BATPAK_DURABILITY_PROCESS);
    append(store, "a", "0");
    batpak_fence_t *fence = begin_fence(store, 0), *kept = begin_fence(store, 0);
    fence_append(fence, "a", "x");
    fence_append(kept, "k", "1");
    append(store, "b", "2");
    fence_append(fence, "a", "x");
    fence_append(kept, "k", "3");
    cancel_fence(fence);
    CHECK_OK(batpak_fence_commit(kept, BATPAK_DURABILITY_PROCESS, &error), error);
}

static void decisions_survive_a_kill(void) {
    char *dir = make_dir();
    killed_after(cancel_and_die, dir);
    for (int round = 0; round < 3; round++) {
        batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
        EXPECT_PAYLOADS(store, NULL, "0 1 2 3 ");
        EXPECT_ENTITY(store, "k", "1 3 ");
        EXPECT_ENTITY(store, "a", "0 ");
        close_store(store);
        CHECK(round != 1 || remove_indexes(dir) > 0);
    }
    remove_dir(dir);
}

/* ---- several segments ----------------------------------------------------------------------------------------------- */

struct spanning {
    const char *dir;
    uint32_t flags;
    int decision; /* 0: none, 1: committed, 2: cancelled */
    int closes;
};

enum { SPANNED = 24 };

/* A fence whose events lie in seven segments, with others' events between; and then two more segments. */
static void span_segments(void *argument) {
    static char payload[131073];
    const struct spanning *spanning = argument;
    batpak_store_t *store = open_set(spanning->dir, (struct setting){MIB, 0, BATPAK_DURABILITY_PROCESS, spanning->flags});
    batpak_fence_t *fence = begin_fence(store, 0);
    append(store, "a", "0");
    for (int i = 0; i < SPANNED; i++) {
        memset(payload, 'p', sizeof payload - 1);
        payload[snprintf(payload, 16, "%d", i)] = '.';
        char entity[16];
        snprintf(entity, sizeof entity, "f:%d", i % 7);
        fence_item(fence, keyed(item_of("a", payload), key_number((uint64_t)i)));
        fence_append(fence, entity, payload);
        append_as(store, item_of("b", "live"), i % 8 ? BATPAK_DURABILITY_PROCESS : BATPAK_DURABILITY_STORAGE);
    }
    CHECK(stats_of(store).segments >= 7);
    if (spanning->decision == 1) {
        commit_fence(fence, BATPAK_DURABILITY_PROCESS);
    } else if (spanning->decision == 2) {
        cancel_fence(fence);
    }
    fill_segments(store, 2);
    if (spanning->closes) {
        close_store(store);
    }
}

static void a_fence_over_several_segments_is_one(void) {
    for (int way = 0; way < 9; way++) { /* killed, killed without a helper thread, closed */
        char *dir = make_dir();
        struct spanning spanning = {dir, way % 3 == 1 ? BATPAK_STORE_NO_HELPER_THREAD : 0, way / 3, way % 3 == 2};
        killed_after(span_segments, &spanning);
        for (int round = 0; round < 4; round++) {
            static struct seen seen[256];
            CHECK(round != 2 || remove_indexes(dir) >= 7);
            batpak_store_t *store = open_set(
                dir, (struct setting){MIB, 0, BATPAK_DURABILITY_PROCESS, round == 2 ? BATPAK_STORE_READ_ONLY : spanning.flags});
            CHECK_EQUAL(see_entity(store, "b", seen, 256), SPANNED);
            int is_committed = spanning.decision == 1;
            size_t n = see_entity(store, "a", seen, 256);
            CHECK_EQUAL(n, is_committed ? SPANNED + 1 : 1);
            for (size_t i = 0; i < n; i++) {
                CHECK(seen[i].clock == i && seen[i].prev == (i ? seen[i - 1].sequence : BATPAK_NO_SEQUENCE));
            }
            batpak_region_t region = region_of(BATPAK_ENTITY_PREFIX, "f");
            CHECK_EQUAL(see(store, &region, seen, 256), is_committed ? SPANNED : 0);
            if (round == 3) {
                CHECK_EQUAL(append(store, "a", "x").clock, n);
                CHECK_EQUAL(append(store, "f:3", "x").clock, is_committed ? 3 : 0);
                batpak_append_t other = keyed(item_of("c", "other"), key_number(3));
                batpak_status_t expected = is_committed ? BATPAK_E_IDEMPOTENCY_CONFLICT : BATPAK_OK;
                CHECK_STATUS(batpak_store_append(store, &other, 1, NULL, NULL, &error), expected, error);
            }
            close_store(store);
        }
        remove_dir(dir);
    }
}

/* ---- kills at any moment -------------------------------------------------------------------------------------------- */

enum { BEGUN = 1, COMMITTING, COMMITTED, NOT_COMMITTED, FENCES_MAX = 20000, OPEN_MAX = 3, KILLS = 25 };

/* What the process that is killed has said; the killer reads it. */
struct said {
    _Atomic uint64_t steps, live;
    uint64_t fences, random;
    struct {
        _Atomic uint8_t state, size;
    } of[FENCES_MAX];
};

static uint64_t say_random(struct said *said) {
    said->random = said->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return said->random >> 33;
}

static void decide(struct said *said, batpak_fence_t **fence, uint64_t number) {
    uint64_t way = say_random(said) % 5;
    said->of[number].state = way < 3 ? COMMITTING : NOT_COMMITTED;
    if (way < 3) {
        CHECK_OK(batpak_fence_commit(*fence, way ? BATPAK_DURABILITY_PROCESS : BATPAK_DURABILITY_STORAGE, &error), error);
        said->of[number].state = COMMITTED;
    } else if (way == 3) {
        CHECK_OK(batpak_fence_cancel(*fence, &error), error);
    }
    batpak_fence_free(*fence);
    *fence = NULL;
}

struct victim {
    const char *dir;
    struct said *said;
};

/* Up to three fences at a time, with events of others between them, until it is killed. */
static void be_killed(const struct victim *victim) {
    static char payload[40001];
    struct said *said = victim->said;
    batpak_store_t *store = open_store_with(victim->dir, MIB, BATPAK_DURABILITY_PROCESS);
    struct {
        batpak_fence_t *fence;
        uint64_t number;
    } open[OPEN_MAX] = {{NULL, 0}};
    memset(payload, '.', sizeof payload - 1);
    while (said->fences < FENCES_MAX) {
        uint64_t at = say_random(said) % OPEN_MAX, what = say_random(said) % 8;
        if (what == 0) {
            payload[snprintf(payload, 32, "live %" PRIu64, said->live)] = '.';
            append(store, "live", payload);
            said->live++;
        } else if (open[at].fence == NULL) {
            open[at].fence = begin_fence(store, 0);
            open[at].number = said->fences++;
            said->of[open[at].number].state = BEGUN;
        } else if (what == 1) {
            decide(said, &open[at].fence, open[at].number);
        } else {
            /* Entities are the place's own in turn, so that none is refused, and each is in many fences. */
            char entity[16];
            size_t length = say_random(said) % 10 ? 64 : sizeof payload - 1;
            snprintf(entity, sizeof entity, "k:%d", (int)(at * 4 + say_random(said) % 4));
            payload[snprintf(payload, 40, "%" PRIu64 " %d", open[at].number, said->of[open[at].number].size)] = '.';
            batpak_append_t item = item_of(entity, payload);
            item.payload_len = length;
            said->of[open[at].number].size++;
            fence_item(open[at].fence, item);
            if (said->of[open[at].number].size == 200) {
                decide(said, &open[at].fence, open[at].number);
            }
        }
        said->steps++;
    }
}

/* What is there after a kill: committed fences whole, of one that was being committed all or nothing, of the others nothing. */
static void check_after_kill(batpak_store_t *store, struct said *said) {
    static uint8_t found[FENCES_MAX];
    uint64_t live = 0, clocks[OPEN_MAX * 4] = {0};
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    batpak_batch_t *batch = NULL;
    size_t n = 0;
    memset(found, 0, sizeof found);
    while (batpak_cursor_poll(cursor, 1000, 0, 0, &batch, &error) == BATPAK_OK) {
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        for (size_t i = 0; i < n; i++) {
            char text[48], entity[16];
            cut(text, sizeof text, events[i].payload, events[i].payload_len);
            cut(entity, sizeof entity, events[i].entity, events[i].entity_len);
            if (strcmp(entity, "live") == 0) {
                CHECK_EQUAL(events[i].clock, live);
                live++;
                continue;
            }
            uint64_t number = strtoull(text, NULL, 10);
            CHECK(number < said->fences);
            CHECK_EQUAL(strtol(strchr(text, ' '), NULL, 10), found[number]);
            found[number]++;
            CHECK_EQUAL(events[i].clock, clocks[strtol(entity + 2, NULL, 10)]);
            clocks[strtol(entity + 2, NULL, 10)]++;
        }
        batpak_batch_free(batch);
    }
    batpak_cursor_free(cursor);
    CHECK(live == said->live || live == said->live + 1);
    said->live = live;
    for (uint64_t i = 0; i < said->fences; i++) {
        uint8_t state = said->of[i].state, size = said->of[i].size;
        if (state == COMMITTING) { /* from here on it is what it has become */
            state = found[i] > 0 ? COMMITTED : NOT_COMMITTED;
        } else if (state == BEGUN) {
            state = NOT_COMMITTED;
        }
        CHECK_EQUAL(found[i], state == COMMITTED ? size : 0);
        said->of[i].state = state;
    }
}

static void a_kill_at_any_moment_leaves_fences_whole(void) {
    char *dir = make_dir();
    struct said *said = mmap(NULL, sizeof *said, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(said != MAP_FAILED);
    said->random = 7;
    struct victim victim = {dir, said};
    for (int round = 0; round < KILLS; round++) {
        int status = 0;
        uint64_t until = said->steps + 5 + say_random(said) % 400;
        fflush(stdout);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            be_killed(&victim);
            _exit(2);
        }
        for (uint64_t start = now_us(); said->steps < until && now_us() - start < SOON_MS * 1000;) {
            sched_yield();
        }
        CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        if (round % 4 == 3) {
            remove_indexes(dir);
        }
        batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
        check_after_kill(store, said);
        if (round % 3 == 0) {
            close_store(store);
            store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
            check_after_kill(store, said);
        }
        close_store(store);
    }
    CHECK(munmap(said, sizeof *said) == 0);
    remove_dir(dir);
}

/* ---- rejected batches ----------------------------------------------------------------------------------------------- */

static void be_refused_and_die(void *argument) {
    batpak_store_t *store = open_store_with(argument, 0, BATPAK_DURABILITY_PROCESS);
    batpak_fence_t *fence = begin_fence(store, 0), *other = begin_fence(store, 0);
    uint8_t unknown[16];
    memcpy(unknown, append_item(store, keyed(item_of("k", "0"), KEY)).id, 16);
    unknown[0] ^= 1;
    fence_append(fence, "fenced", "1");
    for (uint64_t next = 2; next < 40; next++) {
        batpak_append_t good = item_of("a", "x"), bad = good;
        switch (next % 6) {
        case 0:
            bad = expecting(bad, BATPAK_EXPECT_EXACT, 1000);
            break;
        case 1:
            bad = keyed(bad, KEY);
            break;
        case 2:
            bad = item_of("fenced", "x");
            break;
        case 3:
            bad.key = KEY, bad.key_len = 3;
            break;
        case 4:
            bad = caused(bad, unknown);
            break;
        default:
            bad.entity = "a/b", bad.entity_len = 3;
            break;
        }
        batpak_append_t items[3] = {good, good, bad};
        batpak_status_t refused = batpak_store_append(store, items, 3, NULL, NULL, &error);
        CHECK(refused < 0 && strcmp(batpak_error_detail(error, "index", 5, NULL), "2") == 0);
        batpak_error_free(error);
        error = NULL;
        CHECK_STATUS(batpak_fence_append(other, items, 3, NULL, NULL, &error), refused, error);
        char payload[16];
        snprintf(payload, sizeof payload, "%" PRIu64, next);
        batpak_receipt_t receipt = append(store, "a", payload);
        CHECK(receipt.sequence == next && receipt.clock == next - 2);
    }
    commit_fence(fence, BATPAK_DURABILITY_PROCESS);
}

/* A rejected batch burnt sequences: after a crash events came back under other numbers, and a checkpointed consumer skipped. */
static void regression_01_a_rejected_batch_burns_no_sequence(void) {
    char *dir = make_dir();
    killed_after(be_refused_and_die, dir);
    for (int round = 0; round < 2; round++) {
        static struct seen seen[64];
        batpak_store_t *store = open_store(dir);
        CHECK_EQUAL(see(store, NULL, seen, 64), 40);
        for (size_t i = 0; i < 40; i++) {
            CHECK_EQUAL(seen[i].sequence, i);
            CHECK_EQUAL(strtoull(seen[i].payload, NULL, 10), i);
        }
        close_store(store);
        CHECK(round > 0 || remove_indexes(dir) > 0);
    }
    remove_dir(dir);
}

int main(void) {
    RUN(regression_08_close_and_kill_cancel);
    RUN(decisions_survive_a_kill);
    RUN(a_fence_over_several_segments_is_one);
    RUN(a_kill_at_any_moment_leaves_fences_whole);
    RUN(regression_01_a_rejected_batch_burns_no_sequence);
    return 0;
}
