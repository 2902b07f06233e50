/* The rows that read a long log: all of it, one entity, a scope, a kind. */
#include <errno.h>
#include <stdlib.h>

#include "process.h"
#include "raw.h"
#include "rows.h"
#include "workload.h"

const char *need_log(size_t side, size_t n) {
    static bool made[SIDES][2];
    bool *is_made = &made[side][n > settings.events];
    char name[32];
    snprintf(name, sizeof name, "log-%zu", n);
    if (!*is_made) {
        const backend_t *backend = backend_at(side);
        uint64_t start = now_ns();
        store_t *store = new_store(side, name, PROCESS);
        append_with_causes(backend, store, n);
        if (backend->settle != NULL) {
            backend->settle(store);
        }
        backend->close(store);
        fprintf(stderr, "made a log of %s events: %s, %.1f s\n", count_text(n), side_names[side], seconds_since(start));
        sync_disk(settings.directory);
        *is_made = true;
    }
    return path_of(side, name);
}

typedef struct seen_t {
    uint64_t count, sum, next;
} seen_t;

static void see(void *user_data, uint64_t sequence, const void *payload, size_t payload_bytes) {
    seen_t *seen = user_data;
    if (sequence < seen->next) {
        errno = 0;
        die("events come out of order");
    }
    seen->next = sequence + 1;
    seen->count++;
    seen->sum += touch(payload, payload_bytes);
}

uint64_t read_through(const backend_t *backend, store_t *store, const filter_t *filter) {
    seen_t seen = {0};
    reader_t *reader = backend->reader(store, filter, NULL);
    while (backend->poll(reader, READ_EVENTS, see, &seen) > 0) {
    }
    backend->close_reader(reader);
    sink += seen.sum;
    return seen.count;
}

/* A log of n events, open on every side that has it: made once, read by several rows. */
typedef struct open_logs_t {
    size_t n;
    store_t *stores[SIDES];
    raw_log_t *raw;
    by_entity_t *by_entity;
} open_logs_t;

static void open_logs(open_logs_t *logs, size_t n) {
    *logs = (open_logs_t){.n = n, .by_entity = sort_by_entity(n)};
    if (is_here(RAW) && is_here(BATPAK)) {
        logs->raw = raw_log_open(need_log(BATPAK, n));
        expect_count(raw_log_events(logs->raw), n);
    }
    for (size_t side = BATPAK; side < SIDES; side++) {
        if (is_here(side)) {
            logs->stores[side] = backend_at(side)->open(need_log(side, n), PROCESS);
        }
    }
}

static void close_logs(open_logs_t *logs) {
    for (size_t side = BATPAK; side < SIDES; side++) {
        if (is_here(side)) {
            backend_at(side)->close(logs->stores[side]);
        }
    }
    if (logs->raw != NULL) {
        raw_log_close(logs->raw);
    }
    free(logs->by_entity->sequences);
    free(logs->by_entity);
}

static void measure_replay(void *context, size_t side, size_t round, double *values) {
    open_logs_t *logs = context;
    const filter_t all = {.by = FILTER_ALL};
    (void)round;
    if (side == RAW && logs->raw != NULL) {
        values[0] = (double)logs->n / raw_replay(logs->raw, PAYLOAD_BYTES) / 1e6;
    } else if (side != RAW) {
        uint64_t start = now_ns();
        expect_count(read_through(backend_at(side), logs->stores[side], &all), logs->n);
        values[0] = (double)logs->n / seconds_since(start) / 1e6;
    }
}

/* A sample of the entities, one after the other, each with a reader of its own; another sample in each round. */
static void measure_entities(void *context, size_t side, size_t round, double *values) {
    open_logs_t *logs = context;
    const by_entity_t *by = logs->by_entity;
    /* About 100,000 events. */
    const size_t step = logs->n / 100000 > 0 ? logs->n / 100000 : 1;
    uint64_t count = 0, expected = 0, raw_ns = 0, start = now_ns();
    for (size_t entity = round; entity < ENTITIES; entity += step) {
        uint32_t first = by->first[entity], n = by->first[entity + 1] - first;
        expected += n;
        if (side != RAW) {
            filter_t filter = {.by = FILTER_ENTITY, .text = entities[entity], .text_bytes = ENTITY_BYTES};
            count += read_through(backend_at(side), logs->stores[side], &filter);
        } else if (logs->raw != NULL) {
            raw_ns += (uint64_t)(raw_scattered(logs->raw, by->sequences + first, n) * 1e9);
        }
    }
    if (side != RAW) {
        values[0] = (double)count / seconds_since(start) / 1e6;
        expect_count(count, expected);
    } else if (logs->raw != NULL) {
        values[0] = (double)expected / ((double)raw_ns / 1e9) / 1e6;
    }
}

typedef struct part_t {
    open_logs_t *logs;
    filter_t filter;
    uint32_t *sequences;
    size_t found;
} part_t;

/* Raw knows where the events are, and reads them one by one, or the whole log where that is less work. */
static void measure_part(void *context, size_t side, size_t round, double *values) {
    part_t *part = context;
    raw_log_t *raw = part->logs->raw;
    (void)round;
    if (side == RAW && raw != NULL) {
        bool is_rare = part->found < part->logs->n / 10;
        double seconds = is_rare ? raw_scattered(raw, part->sequences, part->found) : raw_replay(raw, PAYLOAD_BYTES);
        values[0] = (double)part->found / seconds / 1e6;
    } else if (side != RAW) {
        uint64_t start = now_ns();
        expect_count(read_through(backend_at(side), part->logs->stores[side], &part->filter), part->found);
        values[0] = (double)part->found / seconds_since(start) / 1e6;
    }
}

static void run_part(open_logs_t *logs, bool of_scope, uint32_t which) {
    row_t row = new_row("reading", "M/s", HIGHER, BUDGET_NONE, 0, "%s with %s of %s", of_scope ? "a scope" : "a kind",
                        which == HALF ? "50 %" : "1 %", count_text(logs->n));
    part_t part = {.logs = logs, .filter = {.by = of_scope ? FILTER_SCOPE : FILTER_KIND}};
    if (!are_wanted(&row, 1)) {
        return;
    }
    part.filter.text = scopes[which];
    part.filter.text_bytes = SCOPE_BYTES;
    part.filter.kind = (uint16_t)(KIND_FIRST + which);
    part.sequences = sequences_of(logs->n, of_scope, which, &part.found);
    run_rows(&row, 1, 2 * settings.rounds, measure_part, &part);
    free(part.sequences);
}

static void run_log(size_t n) {
    const char *count = count_text(n);
    open_logs_t logs = {0};
    row_t rows[] = {
        new_row("reading", "M/s", HIGHER, BUDGET_AT_LEAST, 17, "replay all of %s", count),
        new_row("reading", "M/s", HIGHER, BUDGET_AT_LEAST_OF_RAW, 0.85, "one entity of 10,000 in %s", count),
        new_row("", "", HIGHER, BUDGET_NONE, 0, "a scope with 1 %% 50 %% of %s a kind with", count),
    };
    if (!are_wanted(rows, n == settings.events ? 3 : 2)) {
        return;
    }
    open_logs(&logs, n);
    if (are_wanted(&rows[0], 1)) {
        run_rows(&rows[0], 1, 2 * settings.rounds, measure_replay, &logs);
    }
    if (are_wanted(&rows[1], 1)) {
        run_rows(&rows[1], 1, 2 * settings.rounds, measure_entities, &logs);
    }
    for (uint32_t i = 0; n == settings.events && i < 4; i++) {
        run_part(&logs, i < 2, i % 2 == 0 ? RARE : HALF);
    }
    close_logs(&logs);
}

void read_rows(void) {
    run_log(settings.events);
    if (!settings.quick) {
        run_log(10 * settings.events);
    }
}
