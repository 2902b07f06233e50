/* What was acknowledged, in memory that outlives a killed process, and how a store is held against it.
 *
 * The content of an event follows from its sequence, so that an event in another's place is seen at once. */
#ifndef LEDGER_H
#define LEDGER_H

#include "events.h"

#include <sys/mman.h>

enum { ENTITIES = 7, LEDGER_EVENTS = 400000, ITEMS_MAX = 64, PAYLOAD_MAX = 256 << 10 };

/* What is known of a sequence. */
enum { NOTHING = 0, ACKNOWLEDGED, CANCELLED, ANNOUNCED };

struct ledger {
    uint64_t seed;
    /* Sequences below are decided; from here to announced lies the call that is under way, all of it or none. */
    uint64_t end, announced;
    /* Of the process that appends: how far it is, for whoever is to kill it. */
    _Atomic uint64_t stage;
    /* Counted for the report. */
    uint64_t refused, checkpoints, fences, reopened, cut, cycles;
    uint8_t known[LEDGER_EVENTS];
};

/* Shared with forked children. */
static inline struct ledger *new_ledger(uint64_t seed) {
    struct ledger *ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(ledger != MAP_FAILED);
    ledger->seed = seed;
    return ledger;
}

/* splitmix64 */
static inline uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static inline uint64_t random_below(uint64_t *state, uint64_t bound) {
    return random_next(state) % bound;
}

/* ---- contents ------------------------------------------------------------------------------------------------------- */

struct content {
    char entity[24];
    size_t payload_len;
    uint8_t payload[PAYLOAD_MAX + 8];
};

/* The entity is one of a few; the first 8 bytes of the payload are the sequence, the others a stream of it. */
static inline void content_of(uint64_t seed, uint64_t sequence, struct content *content) {
    uint64_t state = seed ^ sequence * UINT64_C(0xD6E8FEB86659FD93);
    uint64_t kind = random_below(&state, 200);
    snprintf(content->entity, sizeof content->entity, "entity:%u", (unsigned)random_below(&state, ENTITIES));
    content->payload_len = 8 + random_below(&state, kind == 0 ? 150000 : kind < 20 ? 8000 : 700);
    memcpy(content->payload, &sequence, 8);
    for (size_t at = 8; at < content->payload_len; at += 8) {
        uint64_t word = random_next(&state);
        memcpy(content->payload + at, &word, 8);
    }
}

static inline void check_event(const struct ledger *ledger, const batpak_event_t *event, struct content *content) {
    content_of(ledger->seed, event->sequence, content);
    if (event->payload_len != content->payload_len || event->entity_len != strlen(content->entity) ||
        memcmp(event->entity, content->entity, event->entity_len) != 0 ||
        memcmp(event->payload, content->payload, content->payload_len) != 0) {
        fprintf(stderr, "event %" PRIu64 " has the bytes of another, or none of ours\n", event->sequence);
        exit(1);
    }
}

/* n items for the sequences from the ledger's end on; the contents stay in `contents`. */
static inline void items_of(const struct ledger *ledger, uint64_t first, size_t n, batpak_append_t *items,
                            struct content *contents) {
    for (size_t i = 0; i < n; i++) {
        content_of(ledger->seed, first + i, &contents[i]);
        items[i] = item_of(contents[i].entity, NULL);
        items[i].payload = contents[i].payload;
        items[i].payload_len = contents[i].payload_len;
    }
}

/* ---- what is decided ------------------------------------------------------------------------------------------------ */

static inline void announce(struct ledger *ledger, size_t n) {
    CHECK(ledger->end + n <= LEDGER_EVENTS);
    memset(ledger->known + ledger->end, ANNOUNCED, n);
    atomic_signal_fence(memory_order_seq_cst);
    ledger->announced = ledger->end + n;
}

/* The announced call has ended: all of it is `known`. NOTHING: it used no sequence. */
static inline void decide(struct ledger *ledger, uint8_t known) {
    memset(ledger->known + ledger->end, known, ledger->announced - ledger->end);
    atomic_signal_fence(memory_order_seq_cst);
    if (known == NOTHING) {
        ledger->announced = ledger->end;
    } else {
        ledger->end = ledger->announced;
    }
}

/* ---- comparing ------------------------------------------------------------------------------------------------------ */

/* Reads everything and ends the process unless it is what the ledger knows: every acknowledged event in order, no
 * cancelled one, of an announced call all or nothing, and nothing else. Returns how many came. */
static inline uint64_t verify(batpak_store_t *store, const struct ledger *ledger) {
    struct content *content = malloc(sizeof *content);
    batpak_cursor_options_t options;
    batpak_cursor_t *cursor = NULL;
    batpak_gap_list_t *gaps = NULL;
    uint64_t next = 0, count = 0, announced = 0;
    CHECK(content != NULL);
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.gap_capacity = 1000;
    CHECK_OK(batpak_cursor_open(store, NULL, &options, &cursor, &error), error);
    for (;;) {
        batpak_batch_t *batch = NULL;
        size_t n = 0;
        batpak_status_t status = batpak_cursor_poll(cursor, 512, 0, 0, &batch, &error);
        if (status == BATPAK_EMPTY) {
            break;
        }
        check_status_is(__FILE__, __LINE__, "batpak_cursor_poll", status, BATPAK_OK, &error);
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        for (size_t i = 0; i < n; i++, count++) {
            for (; next < events[i].sequence; next++) {
                if (ledger->known[next] == ACKNOWLEDGED) {
                    fprintf(stderr, "event %" PRIu64 " was acknowledged and is not there\n", next);
                    exit(1);
                }
            }
            CHECK_EQUAL(events[i].sequence, next);
            if (next >= ledger->announced || ledger->known[next] == CANCELLED || ledger->known[next] == NOTHING) {
                fprintf(stderr, "event %" PRIu64 " is there, but it was %s\n", next,
                        next < ledger->announced && ledger->known[next] == CANCELLED ? "cancelled" : "never appended");
                exit(1);
            }
            announced += ledger->known[next] == ANNOUNCED;
            check_event(ledger, &events[i], content);
            next++;
        }
        batpak_batch_free(batch);
    }
    for (; next < ledger->end; next++) {
        if (ledger->known[next] == ACKNOWLEDGED) {
            fprintf(stderr, "event %" PRIu64 " was acknowledged and is not there: the log ends before\n", next);
            exit(1);
        }
    }
    CHECK(announced == 0 || announced == ledger->announced - ledger->end);
    CHECK_OK(batpak_cursor_take_gaps(cursor, &gaps, &error), error);
    size_t gap_count = 0;
    const batpak_gap_t *gap = batpak_gap_list_gaps(gaps, &gap_count);
    for (size_t i = 0; i < gap_count; i++) {
        for (size_t r = 0; r < gap[i].range_count; r++) {
            for (uint64_t s = gap[i].ranges[r].start; s < gap[i].ranges[r].end; s++) {
                CHECK(s < ledger->announced && ledger->known[s] != ACKNOWLEDGED);
            }
        }
    }
    batpak_gap_list_free(gaps);
    close_cursor(cursor);
    free(content);
    return count;
}

/* Every entity's head and the list of entities are what the ledger knows. */
static inline void verify_entities(batpak_store_t *store, const struct ledger *ledger) {
    struct content *content = malloc(sizeof *content);
    uint64_t clocks[ENTITIES] = {0}, lasts[ENTITIES] = {0};
    size_t expected = 0, found = 0;
    batpak_entity_list_t *list = NULL;
    CHECK(content != NULL);
    for (uint64_t s = 0; s < ledger->end; s++) {
        if (ledger->known[s] == ACKNOWLEDGED) {
            uint64_t state = ledger->seed ^ s * UINT64_C(0xD6E8FEB86659FD93);
            random_next(&state);
            uint64_t entity = random_below(&state, ENTITIES);
            clocks[entity]++;
            lasts[entity] = s;
        }
    }
    for (unsigned entity = 0; entity < ENTITIES; entity++) {
        char name[24];
        batpak_entity_head_t head;
        snprintf(name, sizeof name, "entity:%u", entity);
        CHECK_OK(batpak_store_entity_head(store, name, strlen(name), &head, &error), error);
        CHECK_EQUAL(head.exists, clocks[entity] > 0);
        if (head.exists) {
            CHECK_EQUAL(head.clock, clocks[entity] - 1);
            CHECK_EQUAL(head.last_sequence, lasts[entity]);
            expected++;
        }
    }
    CHECK_OK(batpak_store_entities(store, NULL, 0, NULL, 0, 100, &list, &error), error);
    batpak_entity_list_entities(list, &found);
    CHECK_EQUAL(found, expected);
    batpak_entity_list_free(list);
    free(content);
}

/* After an opening: what an interrupted call left is decided by what is there now. */
static inline void adopt(batpak_store_t *store, struct ledger *ledger) {
    batpak_watermarks_t marks = marks_of(store);
    CHECK(marks.appended >= ledger->end);
    for (uint64_t s = ledger->end; s < marks.appended; s++) {
        batpak_batch_t *batch = NULL;
        batpak_status_t status = batpak_store_get(store, s, &batch, &error);
        CHECK(status == BATPAK_OK || status == BATPAK_EMPTY);
        CHECK(s < ledger->announced);
        ledger->known[s] = status == BATPAK_OK ? ACKNOWLEDGED : CANCELLED;
        batpak_batch_free(batch);
    }
    if (ledger->announced > marks.appended) {
        memset(ledger->known + marks.appended, NOTHING, ledger->announced - marks.appended);
    }
    ledger->end = ledger->announced = marks.appended;
}

#endif
