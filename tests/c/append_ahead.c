/* Appending ahead: one thread that acknowledges durable events, a hundred times as fast as with one sync for each. It appends
 * with BATPAK_DURABILITY_PROCESS, goes on while the library syncs, and acknowledges what the durable watermark has passed. */
#include "events.h"

enum { EVENTS = 1000000, WINDOW = 1 << 16, BURST = 1 << 12, LONE = 1000 };

static const char payload[128];

static uint64_t append_one(batpak_store_t *store, uint64_t number, const batpak_append_options_t *options) {
    char entity[17];
    batpak_receipt_t receipt;
    snprintf(entity, sizeof entity, "entity:%09u", (unsigned)(number % 10000));
    batpak_append_t item = item_of(entity, "");
    item.payload = payload;
    item.payload_len = sizeof payload;
    CHECK_OK(batpak_store_append(store, &item, 1, options, &receipt, &error), error);
    return receipt.sequence;
}

/* To whomever this program serves. */
static uint64_t acknowledged;

static void acknowledge_below(uint64_t bound) {
    CHECK(acknowledged <= bound);
    acknowledged = bound;
}

/* After each burst it asks for a sync and does not wait for it. Only when a whole window is not durable yet, it waits. */
static void append_ahead(batpak_store_t *store) {
    batpak_append_options_t process = durably(BATPAK_DURABILITY_PROCESS);
    uint64_t next = 0;
    while (next < EVENTS) {
        next = append_one(store, next, &process) + 1;
        if (next % BURST != 0) {
            continue;
        }
        batpak_status_t status = batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, next, 0, &error);
        CHECK(status >= BATPAK_OK);
        if (next - acknowledged >= WINDOW) {
            CHECK_OK(batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, next - WINDOW / 2, -1, &error), error);
        }
        acknowledge_below(marks_of(store).durable);
    }
    CHECK_OK(batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, next, -1, &error), error);
    acknowledge_below(next);
}

/* The same in its shortest form: a burst, then one wait. */
static void append_bursts(batpak_store_t *store) {
    batpak_append_options_t process = durably(BATPAK_DURABILITY_PROCESS);
    for (uint64_t next = 0; next < EVENTS;) {
        for (int i = 0; i < WINDOW && next < EVENTS; i++) {
            next = append_one(store, next, &process) + 1;
        }
        CHECK_OK(batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, next, -1, &error), error);
        acknowledge_below(next);
    }
}

static void append_one_by_one(batpak_store_t *store) {
    batpak_append_options_t storage = durably(BATPAK_DURABILITY_STORAGE);
    for (uint64_t next = 0; next < LONE;) {
        next = append_one(store, next, &storage) + 1;
        acknowledge_below(next);
    }
}

static double events_per_second(const char *name, void (*run)(batpak_store_t *), uint64_t events) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    acknowledged = 0;
    uint64_t start = now_ns();
    run(store);
    double rate = (double)events * 1e9 / (double)(now_ns() - start);
    batpak_watermarks_t marks = marks_of(store);
    CHECK(acknowledged == events && marks.durable == events && marks.visible == events);
    printf("  %-28s %9.0f events/s, %6" PRIu64 " syncs\n", name, rate, stats_of(store).syncs);
    close_store(store);
    remove_dir(dir);
    return rate;
}

int main(void) {
    double lone = events_per_second("STORAGE, one at a time", append_one_by_one, LONE);
    double bursts = events_per_second("appending ahead, in bursts", append_bursts, EVENTS);
    double ahead = events_per_second("appending ahead, all the time", append_ahead, EVENTS);
    CHECK(bursts > lone && ahead > lone);
    return 0;
}
