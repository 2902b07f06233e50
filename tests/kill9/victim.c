/* The process that is killed (see tests/kill9.rs): it uses a store in every way that a kill could hit, and says on its
 * standard output what it is about to do and what was answered. It never ends by itself unless something fails.
 *
 *     victim run DIRECTORY LIFE SEED SHORT BIG    sessions of appends and consumers, for ever
 *     victim hold DIRECTORY                       opens the store, appends one event and waits for the kill
 *     victim fork DIRECTORY                       as hold, with a forked child that answers on the pipe until it closes
 *
 * An intent is written before its append, an acknowledgement after it. Records are of one size, and a write never has
 * more of them than a pipe takes whole: what a kill leaves in the pipe ends with a whole record.
 */
#include "events.h"

#include <sys/prctl.h>

enum {
    OPENING = 1, OPENED, CLOSING, CLOSED,
    INTENT,       /* number: of the call; count, bound and value: of items, of payload bytes, the seed of the contents;
                     sequence: of the fence that it is under, from 1, or 0 */
    ACKNOWLEDGED, /* number: of the call; count: of the item; sequence, clock and id: of its receipt */
    RETURNED,     /* number: of the call, acknowledged whole */
    DELIVERED,    /* number: of the consumer; sequence, value and count: the first event, the last one and how many */
    SAVING,       /* number: of the consumer; sequence: the position that is about to be saved */
    SAVED,        /* the same, saved */
    CHILD,        /* the forked child lives; value: its process */
    COMMITTING,   /* number: of the fence of this life that is about to be committed */
    COMMITTED,    /* the same, committed */
    CANCELLING    /* number: of the fence that is about to be cancelled */
};

struct record {
    uint32_t type, thread, number, count;
    uint64_t sequence, clock, time_ns, value;
    uint8_t id[16];
    uint32_t bound, durability;
    uint64_t reserved;
};

enum { RECORDS_MAX = 4096 / sizeof(struct record), WRITERS = 3, KEYING = 1, FENCING = 2, ITEMS_MAX = 1400, PAYLOAD_MAX = 24 << 10,
       ITEM_PAYLOAD_MAX = 4 << 10 };
_Static_assert(sizeof(struct record) == 80, "the parent reads records of 80 bytes");
_Static_assert(PIPE_BUF >= 4096, "a pipe takes 4096 bytes whole");

static void say_all(const struct record *records, size_t n) {
    CHECK(write(STDOUT_FILENO, records, n * sizeof *records) == (ssize_t)(n * sizeof *records));
}

static void say(struct record record) {
    record.time_ns = now_ns();
    say_all(&record, 1);
}

/* ---- contents ------------------------------------------------------------------------------------------------------- */

/* splitmix64; the parent has the same, and makes the same contents of the same seed. */
static uint64_t next(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* What a writer appends: one item's texts and payload, one after the other. */
struct content {
    char entity[16], scope[8];
    uint32_t key[4];
    uint8_t *payload;
};

static uint32_t life;

/* The payload names its writer, call and item, so that no two events are the same. */
static void fill(struct content *content, batpak_append_t *item, uint64_t seed, uint32_t thread, uint32_t call, uint32_t at,
                 uint32_t bound) {
    uint64_t state = seed + at;
    uint64_t chosen = next(&state);
    uint32_t names[4] = {life, thread, call, at};
    size_t length = sizeof names + (size_t)((chosen >> 32) % bound);
    /* A fence owns its entities: they are no other writer's. */
    snprintf(content->entity, sizeof content->entity, "%c:%u", thread == FENCING ? 'f' : 'e',
             (unsigned)(chosen & 1 ? chosen >> 1 & 7 : chosen >> 1 & 511));
    snprintf(content->scope, sizeof content->scope, "s%u", (unsigned)(chosen >> 10 & 3));
    memcpy(content->payload, names, sizeof names);
    for (size_t i = sizeof names; i < length; i += 8) {
        uint64_t word = next(&state);
        memcpy(content->payload + i, &word, 8);
    }
    *item = item_of(content->entity, NULL);
    item->scope = content->scope;
    item->scope_len = strlen(content->scope);
    item->kind = 0x1000 | (uint32_t)(chosen >> 12 & 0xff);
    item->payload = content->payload;
    item->payload_len = length;
    if (thread == KEYING && seed & 1) {
        memcpy(content->key, names, sizeof names);
        item->key = content->key;
        item->key_len = sizeof content->key;
    }
}

/* ---- writers -------------------------------------------------------------------------------------------------------- */

struct writer {
    batpak_store_t *store;
    uint64_t state;
    uint32_t thread, call, calls, big, fence;
    struct content contents[ITEMS_MAX];
    batpak_append_t items[ITEMS_MAX];
    batpak_receipt_t receipts[ITEMS_MAX];
};

static struct writer writers[WRITERS];

static void acknowledge(const struct writer *writer, uint32_t count) {
    struct record records[RECORDS_MAX];
    for (uint32_t from = 0, n; from < count; from += n) {
        for (n = 0; n < RECORDS_MAX && from + n < count; n++) {
            const batpak_receipt_t *receipt = &writer->receipts[from + n];
            records[n] = (struct record){.type = ACKNOWLEDGED, .thread = writer->thread, .number = writer->call,
                                         .count = from + n, .sequence = receipt->sequence, .clock = receipt->clock,
                                         .time_ns = now_ns()};
            memcpy(records[n].id, receipt->id, 16);
        }
        say_all(records, n);
    }
    say((struct record){.type = RETURNED, .thread = writer->thread, .number = writer->call});
}

static void announce(const struct writer *writer, uint32_t count, uint32_t bound, uint32_t durability, uint64_t seed,
                     uint32_t fence) {
    say((struct record){.type = INTENT, .thread = writer->thread, .number = writer->call, .count = count, .bound = bound,
                        .durability = durability, .value = seed, .sequence = fence});
}

static void append_call(struct writer *writer) {
    uint64_t chosen = next(&writer->state), seed = next(&writer->state);
    uint32_t roll = chosen % 32, count = 1, bound = 400;
    if (writer->big ? roll < 24 : roll == 0) { /* more than half a segment, or twice one: two of them never share one */
        count = 1001 + (chosen >> 8) % (ITEMS_MAX - 1001);
        bound = roll & 1 ? ITEM_PAYLOAD_MAX - 32 : 1000;
    } else if (roll < 10) {
        count = 2 + (chosen >> 8) % 40;
    } else if (roll == 10) {
        bound = PAYLOAD_MAX - 32;
    }
    uint32_t durability = chosen >> 40 & (bound > 1000 ? 7 : 1) ? BATPAK_DURABILITY_PROCESS : BATPAK_DURABILITY_STORAGE;
    for (uint32_t at = 0; at < count; at++) {
        fill(&writer->contents[at], &writer->items[at], seed, writer->thread, writer->call, at, bound);
    }
    batpak_append_options_t options = durably(durability);
    batpak_error_t *own = NULL;
    announce(writer, count, bound, durability, seed, 0);
    CHECK_OK(batpak_store_append(writer->store, writer->items, count, &options, writer->receipts, &own), own);
    acknowledge(writer, count);
    writer->call++;
}

/* A few appends under a fence, and its end. */
static void fence_call(struct writer *writer) {
    uint64_t chosen = next(&writer->state);
    batpak_fence_options_t options = {.struct_size = sizeof options, .timeout_ms = 3600000};
    batpak_fence_t *fence = NULL;
    batpak_error_t *own = NULL;
    uint32_t number = writer->fence++, calls = 1 + chosen % 4;
    CHECK_OK(batpak_fence_begin(writer->store, &options, &fence, &own), own);
    for (uint32_t i = 0; i < calls; i++, writer->call++) {
        uint64_t seed = next(&writer->state);
        uint32_t count = 1 + seed % 3;
        for (uint32_t at = 0; at < count; at++) {
            fill(&writer->contents[at], &writer->items[at], seed, writer->thread, writer->call, at, 400);
        }
        announce(writer, count, 400, 0, seed, number + 1);
        CHECK_OK(batpak_fence_append(fence, writer->items, count, NULL, writer->receipts, &own), own);
        acknowledge(writer, count);
    }
    if (chosen >> 8 & 3) {
        say((struct record){.type = COMMITTING, .thread = writer->thread, .number = number});
        uint32_t durability = chosen >> 10 & 1 ? BATPAK_DURABILITY_PROCESS : BATPAK_DURABILITY_STORAGE;
        CHECK_OK(batpak_fence_commit(fence, durability, &own), own);
        say((struct record){.type = COMMITTED, .thread = writer->thread, .number = number});
    } else {
        say((struct record){.type = CANCELLING, .thread = writer->thread, .number = number});
        CHECK_OK(batpak_fence_cancel(fence, &own), own);
    }
    batpak_fence_free(fence);
}

static void *write_session(void *argument) {
    struct writer *writer = argument;
    for (uint32_t i = 0; writer->thread == FENCING && i < writer->calls; i++) {
        fence_call(writer);
    }
    if (writer->thread == FENCING) {
        return NULL;
    }
    for (uint32_t i = 0; i < writer->calls; i++) {
        append_call(writer);
    }
    return NULL;
}

/* ---- consumers ------------------------------------------------------------------------------------------------------ */

enum { CURSOR, WORKER, CONSUMERS };
static const char *const consumer_ids[CONSUMERS] = {"cursor", "worker"};

/* What a consumer was given last. */
static uint64_t delivered[CONSUMERS];

static void say_delivered(uint32_t consumer, const batpak_event_t *events, size_t n) {
    say((struct record){.type = DELIVERED, .number = consumer, .sequence = events->sequence, .count = (uint32_t)n,
                        .value = events[n - 1].sequence});
    delivered[consumer] = events[n - 1].sequence;
}

static void say_position(uint32_t type, uint32_t consumer) {
    say((struct record){.type = type, .number = consumer, .sequence = delivered[consumer]});
}

static void *consume(void *argument) {
    batpak_cursor_t *cursor = argument;
    batpak_error_t *own = NULL;
    for (;;) {
        batpak_batch_t *batch = NULL;
        size_t n = 0;
        batpak_status_t status = batpak_cursor_poll(cursor, 100, 0, -1, &batch, &own);
        if (status == BATPAK_INTERRUPTED) {
            return NULL;
        }
        check_status_is(__FILE__, __LINE__, "batpak_cursor_poll", status, BATPAK_OK, &own);
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        say_delivered(CURSOR, events, n);
        batpak_batch_free(batch);
        say_position(SAVING, CURSOR);
        CHECK_OK(batpak_cursor_checkpoint(cursor, &own), own);
        say_position(SAVED, CURSOR);
    }
}

/* Called again: what was handled before is committed. */
static int32_t handle(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    int *again = user_data;
    (void)delivery;
    if (*again) {
        say_position(SAVED, WORKER);
    }
    *again = 1;
    say_delivered(WORKER, events, n);
    say_position(SAVING, WORKER);
    return BATPAK_HANDLER_CONTINUE;
}

/* ---- sessions ------------------------------------------------------------------------------------------------------- */

static batpak_store_t *open_said(const char *dir) {
    say((struct record){.type = OPENING});
    batpak_store_t *store = open_store_with(dir, MIB, 0);
    say((struct record){.type = OPENED});
    return store;
}

static void close_said(batpak_store_t *store) {
    say((struct record){.type = CLOSING});
    close_store(store);
    say((struct record){.type = CLOSED});
}

static void run_session(const char *dir, uint64_t *state, int is_short) {
    batpak_store_t *store = open_said(dir);
    batpak_cursor_t *cursor = open_cursor(store, NULL, consumer_ids[CURSOR]);
    batpak_worker_t *worker = NULL;
    batpak_worker_options_t options;
    pthread_t threads[WRITERS];
    int again = 0;
    CHECK_OK(batpak_worker_options_init(&options, sizeof options, &error), error);
    options.checkpoint_id = consumer_ids[WORKER];
    options.checkpoint_id_len = strlen(consumer_ids[WORKER]);
    CHECK_OK(batpak_worker_start(store, NULL, &options, handle, &again, NULL, &worker, &error), error);
    pthread_t consumer = start_thread(consume, cursor);
    for (int i = 0; i < WRITERS; i++) {
        writers[i].store = store;
        writers[i].calls = is_short ? 1 + next(state) % 6 : 20 + next(state) % 200;
        writers[i].calls /= i == FENCING ? 3 : 1;
        threads[i] = start_thread(write_session, &writers[i]);
    }
    for (int i = 0; i < WRITERS; i++) {
        join_thread(threads[i]);
    }
    CHECK_OK(batpak_cursor_interrupt(cursor, &error), error);
    join_thread(consumer);
    if (next(state) & 1) { /* else the close does it */
        close_cursor(cursor);
        cursor = NULL;
        CHECK_OK(batpak_worker_stop_and_join(worker, SOON_MS, &error), error);
    }
    close_said(store);
    CHECK_OK(batpak_worker_join(worker, SOON_MS, &error), error);
    batpak_worker_free(worker);
    batpak_cursor_free(cursor);
}

static void run(const char *dir, uint64_t seed, int is_short, uint32_t big) {
    uint64_t state = seed;
    for (uint32_t i = 0; i < WRITERS; i++) {
        writers[i].thread = i;
        writers[i].state = next(&state);
        writers[i].big = big && i == 0;
        for (size_t at = 0; at < ITEMS_MAX; at++) {
            CHECK((writers[i].contents[at].payload = malloc(at == 0 ? PAYLOAD_MAX : ITEM_PAYLOAD_MAX)) != NULL);
        }
    }
    for (;;) {
        run_session(dir, &state, is_short);
    }
}

/* ---- the lock ------------------------------------------------------------------------------------------------------- */

/* Answers each byte, until the parent of all closes the pipe. */
static void answer(void) {
    char byte;
    say((struct record){.type = CHILD, .value = (uint64_t)getpid()});
    while (read(STDIN_FILENO, &byte, 1) == 1) {
        say((struct record){.type = CHILD, .value = (uint64_t)getpid()});
    }
    _exit(0);
}

static void hold(const char *dir, int forks) {
    batpak_store_t *store = open_store_with(dir, MIB, 0);
    append(store, "e:1", "held");
    if (forks) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            answer();
        }
    }
    say((struct record){.type = OPENED});
    for (;;) {
        pause();
    }
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    /* Not to outlive the test; a child forked later does not inherit this. */
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    if (strcmp(argv[1], "run") != 0) {
        hold(argv[2], strcmp(argv[1], "fork") == 0);
    }
    CHECK(argc == 7);
    life = (uint32_t)strtoul(argv[3], NULL, 10);
    run(argv[2], strtoull(argv[4], NULL, 10), argv[5][0] == '1', argv[6][0] == '1');
}
