/* Expected state at work: threads that read an entity's last event, add to what it says, and append on condition that nobody else did
 * meanwhile, try again when somebody did. Nothing is counted twice, nothing is lost. */
#include "writers.h"

enum { THREADS = 8, ENTITIES = 100, INCREMENTS = 200000 };

static char names[ENTITIES][16];

/* What a thread knows of an entity: its last event's clock and the sum in its payload. */
struct known {
    uint64_t events, sum;
};

struct adder {
    batpak_store_t *store;
    uint64_t random, added[ENTITIES], events[ENTITIES], retries;
    struct known known[ENTITIES];
    /* A reader for each entity, which is where its thread has read. */
    batpak_cursor_t *cursors[ENTITIES];
};

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Reads what others have appended to the entity since this thread has looked. */
static void catch_up(struct adder *adder, int entity, batpak_error_t **err) {
    batpak_batch_t *batch = NULL;
    batpak_status_t status;
    if (adder->cursors[entity] == NULL) {
        batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, names[entity]);
        CHECK_OK(batpak_cursor_open(adder->store, &region, NULL, &adder->cursors[entity], err), *err);
    }
    while ((status = batpak_cursor_poll(adder->cursors[entity], 1000, 0, 0, &batch, err)) == BATPAK_OK) {
        size_t n = 0;
        const batpak_event_t *event = batpak_batch_events(batch, &n);
        CHECK_EQUAL(event->clock, adder->known[entity].events);
        event += n - 1;
        CHECK(event->payload_len == 8);
        memcpy(&adder->known[entity].sum, event->payload, 8);
        adder->known[entity].events = event->clock + 1;
        batpak_batch_free(batch);
    }
    check_status_is(__FILE__, __LINE__, "batpak_cursor_poll", status, BATPAK_EMPTY, err);
}

static void *add(void *argument) {
    struct adder *adder = argument;
    batpak_error_t *own = NULL;
    for (int i = 0; i < INCREMENTS / THREADS; i++) {
        /* Half of all goes to five entities, where threads meet. */
        uint64_t chosen = next_random(&adder->random);
        int entity = (int)(chosen & 1 ? (chosen >> 8) % 5 : (chosen >> 8) % ENTITIES);
        uint64_t more = 1 + (chosen >> 32) % 1000;
        for (;;) {
            struct known known = adder->known[entity];
            uint64_t sum = known.sum + more;
            batpak_append_t item = item_of(names[entity], NULL);
            item.payload = &sum;
            item.payload_len = sizeof sum;
            item.expected = known.events ? BATPAK_EXPECT_EXACT : BATPAK_EXPECT_NO_STREAM;
            item.expected_clock = known.events ? known.events - 1 : 0;
            batpak_receipt_t receipt;
            batpak_status_t status = batpak_store_append(adder->store, &item, 1, NULL, &receipt, &own);
            if (status == BATPAK_OK) {
                CHECK_EQUAL(receipt.clock, known.events);
                break;
            }
            const char *actual = batpak_error_detail(own, "actual", 6, NULL);
            /* Where the entity is said to be is beyond what was known. */
            CHECK(actual != NULL && strtoull(actual, NULL, 10) + 1 > known.events);
            check_status_is(__FILE__, __LINE__, "batpak_store_append", status, BATPAK_E_EXPECTED_STATE, &own);
            adder->retries++;
            catch_up(adder, entity, &own);
        }
        adder->added[entity] += more;
        adder->events[entity]++;
    }
    for (int entity = 0; entity < ENTITIES; entity++) {
        batpak_cursor_free(adder->cursors[entity]);
    }
    return NULL;
}

/* The last event of every entity has the sum of all increments, and its clock their number. */
static void check_sums(batpak_store_t *store, const struct adder *adders) {
    static struct adder reader;
    memset(&reader, 0, sizeof reader);
    reader.store = store;
    for (int entity = 0; entity < ENTITIES; entity++) {
        uint64_t sum = 0, events = 0;
        for (int i = 0; i < THREADS; i++) {
            sum += adders[i].added[entity];
            events += adders[i].events[entity];
        }
        catch_up(&reader, entity, &error);
        CHECK_EQUAL(reader.known[entity].sum, sum);
        CHECK_EQUAL(reader.known[entity].events, events);
        batpak_cursor_free(reader.cursors[entity]);
    }
}

static void optimistic_increments_are_exact(void) {
    static struct adder adders[THREADS];
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, 4 * MIB, BATPAK_DURABILITY_PROCESS);
    pthread_t threads[THREADS];
    uint64_t retries = 0;
    for (int i = 0; i < ENTITIES; i++) {
        snprintf(names[i], sizeof names[i], "sum:%d", i);
    }
    for (int i = 0; i < THREADS; i++) {
        adders[i].store = store;
        adders[i].random = 88172645463325252u + (uint64_t)i * 7919;
        threads[i] = start_thread(add, &adders[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        join_thread(threads[i]);
        retries += adders[i].retries;
    }
    /* Mismatches used no sequence. */
    CHECK_EQUAL(marks_of(store).appended, INCREMENTS);
    CHECK(retries > ENTITIES && stats_of(store).segments >= 3);
    check_sums(store, adders);
    close_store(store);
    store = open_store_with(dir, 4 * MIB, BATPAK_DURABILITY_PROCESS);
    check_sums(store, adders);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(optimistic_increments_are_exact);
    return 0;
}
