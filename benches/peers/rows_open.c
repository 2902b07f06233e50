/* The rows about opening, memory and disk. What is opened or looked at has a process to itself, which is this program anew.
 *
 * Raw's memory is that process before it loads a backend: what a backend adds begins with its own library.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "process.h"
#include "raw.h"
#include "rows.h"
#include "workload.h"

/* Nearly all that one of libbatpak's segments holds, so that all of it is to be recovered. */
enum { KILLED_BATCHES = 100, FULL_BATCHES = 300 };

/* -------------------------------------------------------------------------------------------------------------------
 * Children
 */

typedef struct opened_t {
    double open_ms, resident_mib;
} opened_t;

static void open_and_tell(size_t side, const char *directory) {
    const backend_t *backend = backend_at(side);
    uint64_t start = now_ns();
    store_t *store = backend->open(directory, PROCESS);
    double open_ms = seconds_since(start) * 1e3;
    printf("%f %f %f\n", open_ms, resident_mib(), (double)backend->count(store));
    backend->close(store);
}

static void append_and_be_killed(size_t side, const char *directory, size_t batches) {
    store_t *store = backend_at(side)->open(directory, PROCESS);
    workload_t workload = new_workload(1);
    append_batches(backend_at(side), store, &workload, new_batch(), batches * BATCH_EVENTS);
    raise(SIGKILL);
}

/* "e:" and 14 digits. */
static void write_name(char *name, size_t number) {
    for (size_t i = ENTITY_BYTES; i-- > 2; number /= 10) {
        name[i] = (char)('0' + number % 10);
    }
    name[0] = 'e';
    name[1] = ':';
}

/* Each of n events has an entity of its own, in no order; tells how many came in a second, and the memory at the end. */
static void append_distinct(size_t side, const char *directory, size_t n) {
    static char names[BATCH_EVENTS][ENTITY_BYTES];
    const size_t stride = 7919;
    const backend_t *backend = backend_at(side);
    store_t *store = backend->open(directory, PROCESS);
    workload_t workload = new_workload(0);
    batch_t *batch = new_batch();
    if (n % stride == 0) {
        die("%zu is a multiple of %zu", n, stride);
    }
    uint64_t start = now_ns();
    for (size_t done = 0; done < n; done += BATCH_EVENTS) {
        fill_batch(batch, &workload);
        for (size_t i = 0; i < BATCH_EVENTS; i++) {
            write_name(names[i], (done + i) * stride % n);
            batch->events[i].entity = names[i];
        }
        backend->append(store, batch->events, BATCH_EVENTS);
    }
    double rate = (double)n / seconds_since(start) / 1e6;
    printf("%f %f\n", rate, resident_mib());
    free(batch);
    backend->close(store);
}

void run_child(char **arguments) {
    const char *what = arguments[0], *directory = arguments[2];
    size_t side = side_named(arguments[1]), n = strtoul(arguments[3], NULL, 10);
    if (strcmp(what, "nothing") == 0) {
        printf("%f\n", resident_mib());
    } else if (strcmp(what, "open") == 0) {
        open_and_tell(side, directory);
    } else if (strcmp(what, "kill") == 0) {
        append_and_be_killed(side, directory, n);
    } else if (strcmp(what, "distinct") == 0) {
        append_distinct(side, directory, n);
    } else {
        errno = 0;
        die("no child does %s", what);
    }
}

static int run(const char *what, size_t side, const char *directory, size_t n, double *values, size_t values_count) {
    char number[24];
    snprintf(number, sizeof number, "%zu", n);
    const char *arguments[] = {"--child", what, side_names[side], directory, number, NULL};
    return run_self(arguments, values, values_count);
}

/* Opens and closes; the store holds `expected` events. */
static opened_t open_in_child(size_t side, const char *directory, uint64_t expected) {
    double values[3];
    if (run("open", side, directory, 0, values, 3) != 0) {
        die("the child that opened %s", directory);
    }
    expect_count((uint64_t)values[2], expected);
    return (opened_t){.open_ms = values[0], .resident_mib = values[1]};
}

static void kill_in_child(size_t side, const char *directory, size_t batches) {
    int status = run("kill", side, directory, batches, NULL, 0);
    errno = 0;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        die("the child that was to be killed in %s", directory);
    }
}

/* -------------------------------------------------------------------------------------------------------------------
 * A long log
 */

typedef struct long_log_t {
    size_t n;
    /* What the kills have added. */
    size_t added[SIDES];
} long_log_t;

static void measure_open(void *context, size_t side, size_t round, double *values) {
    long_log_t *log = context;
    double resident;
    (void)round;
    if (side != RAW) {
        opened_t opened = open_in_child(side, need_log(side, log->n), log->n + log->added[side]);
        values[0] = opened.open_ms;
        values[1] = opened.resident_mib;
    } else if (run("nothing", RAW, settings.directory, 0, &resident, 1) == 0) {
        values[1] = resident;
    } else {
        die("the child that does nothing");
    }
}

static void measure_killed(void *context, size_t side, size_t round, double *values) {
    long_log_t *log = context;
    if (side != RAW) {
        kill_in_child(side, need_log(side, log->n), KILLED_BATCHES);
        log->added[side] += KILLED_BATCHES * BATCH_EVENTS;
    }
    measure_open(context, side, round, values);
}

static void measure_disk(void *context, size_t side, size_t round, double *values) {
    long_log_t *log = context;
    (void)round;
    if (side != RAW) {
        values[0] = (double)disk_bytes(need_log(side, log->n)) / (double)log->n - NAME_BYTES - PAYLOAD_BYTES;
    }
}

static void run_long_log(size_t n) {
    long_log_t log = {.n = n};
    const char *count = count_text(n);
    row_t disk = new_row("opening", "B/event", LOWER, BUDGET_AT_MOST, 96, "disk beyond payload and names, %s", count);
    row_t clean[] = {
        new_row("opening", "ms", LOWER, BUDGET_AT_MOST, 5, "open after a clean close, %s", count),
        new_row("opening", "MiB", LOWER, BUDGET_AT_MOST, 16, "  resident memory after a clean close, %s", count),
    };
    row_t killed[] = {
        new_row("opening", "ms", LOWER, BUDGET_AT_MOST, 100, "open after a kill, %s", count),
        new_row("opening", "MiB", LOWER, BUDGET_AT_MOST, 16, "  resident memory after a kill, %s", count),
    };
    if (are_wanted(&disk, 1)) {
        run_rows(&disk, 1, 1, measure_disk, &log);
    }
    if (are_wanted(clean, 2)) {
        run_rows(clean, 2, 3 * settings.rounds, measure_open, &log);
    }
    if (are_wanted(killed, 2)) {
        run_rows(killed, 2, settings.rounds, measure_killed, &log);
    }
}

/* -------------------------------------------------------------------------------------------------------------------
 * A store whose last segment is full
 */

/* After the kill, and after the clean close that follows. Raw reads what the library would have to. */
static void measure_full(void *context, size_t side, size_t round, double *values) {
    const size_t n = FULL_BATCHES * BATCH_EVENTS;
    (void)context, (void)round;
    if (side == RAW && !is_here(BATPAK)) {
        return;
    }
    char directory[PATH_MAX];
    snprintf(directory, sizeof directory, "%s", path_of(side, "killed"));
    kill_in_child(side == RAW ? BATPAK : side, directory, FULL_BATCHES);
    if (side == RAW) {
        raw_log_t *log = raw_log_open(directory);
        expect_count(raw_log_events(log), n);
        values[0] = raw_replay(log, PAYLOAD_BYTES) * 1e3;
        raw_log_close(log);
    } else {
        values[0] = open_in_child(side, directory, n).open_ms;
        values[1] = open_in_child(side, directory, n).open_ms;
    }
    remove_tree(directory);
}

/* -------------------------------------------------------------------------------------------------------------------
 * As many entities as events
 */

static void measure_distinct(void *context, size_t side, size_t round, double *values) {
    const size_t n = *(size_t *)context;
    (void)round;
    /* The peers' part ends at the smaller number: it would take minutes. */
    if (side == RAW || (side != BATPAK && n > settings.events)) {
        return;
    }
    char directory[PATH_MAX];
    snprintf(directory, sizeof directory, "%s", path_of(side, "distinct"));
    if (run("distinct", side, directory, n, values, 2) != 0) {
        die("the child that appended to %s", directory);
    }
    values[2] = open_in_child(side, directory, n).resident_mib;
    remove_tree(directory);
}

static void run_distinct(size_t n) {
    const char *count = count_text(n);
    row_t rows[] = {
        new_row("append", "M/s", HIGHER, BUDGET_NONE, 0, "%s distinct entities, batches of 1000", count),
        new_row("opening", "MiB", LOWER, BUDGET_AT_MOST, 512, "  resident memory at the end, %s distinct", count),
        new_row("opening", "MiB", LOWER, BUDGET_AT_MOST, 512, "  resident memory reopened, %s distinct", count),
    };
    if (are_wanted(rows, 3)) {
        run_rows(rows, 3, settings.rounds, measure_distinct, &n);
    }
}

void open_rows(void) {
    row_t full[] = {
        new_row("opening", "ms", LOWER, BUDGET_AT_MOST, 100, "open after a kill, segment full"),
        new_row("opening", "ms", LOWER, BUDGET_AT_MOST, 5, "open after a close, segment full"),
    };
    run_long_log(settings.events);
    if (!settings.quick) {
        run_long_log(10 * settings.events);
    }
    if (are_wanted(full, 2)) {
        run_rows(full, 2, settings.rounds, measure_full, NULL);
    }
    run_distinct(settings.events);
    if (!settings.quick) {
        run_distinct(10 * settings.events);
    }
}
