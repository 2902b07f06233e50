/* The benchmark: libbatpak through its C ABI, beside the machine's own limit and the stores that one would take instead.
 *
 * Each row runs in rounds, and in each round all sides take turns, so that whatever else the machine does meets all. The events
 * are those of workload.h; nobody asks for receipts. Opening, closing and the preparing of raw's files are not timed but in the
 * rows about them. A ratio above 1 says that the library is ahead.
 *
 *     peers [--rounds N] [--events N] [--only TEXT] [--backends LIST] [--quick] [--csv FILE] DIRECTORY
 *
 * --events is the size of the log in the rows that append, replay and open one; the long rows have ten times as many. --only runs
 * the rows whose name has the text (rows that are measured together come together); --backends takes some of raw, batpak, sqlite,
 * lmdb, rocksdb, with commas; --quick is one round, 300,000 events and no long rows.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process.h"
#include "rows.h"
#include "workload.h"

settings_t settings = {.rounds = 3, .events = 1000000, .sides = {true, true, true, true, true}};

/* -------------------------------------------------------------------------------------------------------------------
 * Backends
 */

/* From bench-SIDE.so beside this program; NULL when it was not built. */
static const backend_t *load(size_t side) {
    char path[PATH_MAX];
    ssize_t bytes = readlink("/proc/self/exe", path, sizeof path - 1);
    if (bytes < 0) {
        die("/proc/self/exe");
    }
    path[bytes] = '\0';
    char *name = strrchr(path, '/') + 1;
    snprintf(name, sizeof path - (size_t)(name - path), "bench-%s.so", side_names[side]);
    if (access(path, R_OK) != 0) {
        return NULL;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const backend_t *backend = library != NULL ? dlsym(library, "backend") : NULL;
    if (backend == NULL) {
        errno = 0;
        die("%s", dlerror());
    }
    return backend;
}

const backend_t *backend_at(size_t side) {
    static const backend_t *backends[SIDES];
    static bool looked[SIDES];
    if (side == RAW || !settings.sides[side]) {
        return NULL;
    }
    if (!looked[side]) {
        looked[side] = true;
        backends[side] = load(side);
    }
    return backends[side];
}

bool is_here(size_t side) {
    return side == RAW ? settings.sides[RAW] : backend_at(side) != NULL;
}

size_t side_named(const char *name) {
    for (size_t side = 0; side < SIDES; side++) {
        if (strcmp(name, side_names[side]) == 0) {
            return side;
        }
    }
    errno = 0;
    die("no backend is named %s", name);
}

const char *path_of(size_t side, const char *name) {
    static _Thread_local char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s-%s", settings.directory, side_names[side], name);
    return path;
}

store_t *new_store(size_t side, const char *name, durability_t durability) {
    return backend_at(side)->open(path_of(side, name), durability);
}

void drop_store(size_t side, const char *name, store_t *store) {
    backend_at(side)->close(store);
    remove_tree(path_of(side, name));
}

/* -------------------------------------------------------------------------------------------------------------------
 * Rows
 */

const char *count_text(size_t n) {
    static char texts[8][24];
    static size_t next;
    char *text = texts[next++ % 8];
    if (n % 1000000 == 0) {
        snprintf(text, sizeof texts[0], "%zu M", n / 1000000);
    } else {
        snprintf(text, sizeof texts[0], "%g k", (double)n / 1000);
    }
    return text;
}

row_t new_row(const char *group, const char *unit, better_t better, budget_kind_t kind, double budget, const char *name, ...) {
    row_t row = {.group = group, .unit = unit, .better = better, .budget_kind = kind, .budget = budget};
    va_list arguments;
    va_start(arguments, name);
    vsnprintf(row.name, sizeof row.name, name, arguments);
    va_end(arguments);
    return row;
}

bool are_wanted(const row_t *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (settings.only == NULL || strstr(rows[i].name, settings.only) != NULL) {
            return true;
        }
    }
    return false;
}

static bool has_samples(const row_t *row) {
    for (size_t side = 0; side < SIDES; side++) {
        if (row->sides[side].count > 0) {
            return true;
        }
    }
    return false;
}

void run_rows(row_t *rows, size_t count, size_t rounds, measure_fn measure, void *context) {
    double values[16];
    for (size_t round = 0; round < rounds; round++) {
        for (size_t turn = 0; turn < SIDES; turn++) {
            size_t side = (round + turn) % SIDES;
            if (!is_here(side)) {
                continue;
            }
            for (size_t i = 0; i < count; i++) {
                values[i] = NAN;
            }
            measure(context, side, round, values);
            for (size_t i = 0; i < count; i++) {
                if (!isnan(values[i])) {
                    sample(&rows[i].sides[side], values[i]);
                }
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (has_samples(&rows[i])) {
            print_row(&rows[i], settings.csv);
        }
    }
}

void expect_count(uint64_t count, uint64_t expected) {
    if (count != expected) {
        errno = 0;
        die("%llu events, not %llu", (unsigned long long)count, (unsigned long long)expected);
    }
}

/* -------------------------------------------------------------------------------------------------------------------
 * The program
 */

static void choose_sides(const char *list) {
    char text[256], *rest = NULL;
    snprintf(text, sizeof text, "%s", list);
    memset(settings.sides, 0, sizeof settings.sides);
    for (char *name = strtok_r(text, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
        settings.sides[side_named(name)] = true;
    }
}

static FILE *open_csv(const char *path) {
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        die("%s", path);
    }
    return file;
}

static _Noreturn void explain(const char *program) {
    errno = 0;
    die("usage: %s [--rounds 1..20] [--events N] [--only TEXT] [--backends LIST] [--quick] [--csv FILE] DIRECTORY", program);
}

static void take_option(const char *program, const char *name, const char *value) {
    if (value == NULL) {
        explain(program);
    } else if (strcmp(name, "--rounds") == 0) {
        settings.rounds = strtoul(value, NULL, 10);
    } else if (strcmp(name, "--events") == 0) {
        settings.events = strtoul(value, NULL, 10) / BATCH_EVENTS * BATCH_EVENTS;
    } else if (strcmp(name, "--only") == 0) {
        settings.only = value;
    } else if (strcmp(name, "--backends") == 0) {
        choose_sides(value);
    } else if (strcmp(name, "--csv") == 0) {
        settings.csv_path = value;
    } else {
        explain(program);
    }
}

static void parse(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) {
            settings.quick = true;
            settings.rounds = 1;
            settings.events = 300000;
        } else if (argv[i][0] == '-') {
            take_option(argv[0], argv[i], argv[i + 1]);
            i++;
        } else {
            settings.directory = argv[i];
        }
    }
    if (settings.directory == NULL || settings.rounds == 0 || settings.rounds > 20 || settings.events == 0) {
        explain(argv[0]);
    }
    settings.csv = open_csv(settings.csv_path != NULL ? settings.csv_path : "/dev/null");
}

static void print_sides(void) {
    for (size_t side = BATPAK; side < SIDES; side++) {
        if (is_here(side)) {
            printf("%s %s%s", side_names[side], backend_at(side)->version(), side + 1 < SIDES ? ", " : "\n");
        } else {
            printf("no %s%s", side_names[side], side + 1 < SIDES ? ", " : "\n");
        }
    }
    printf("%d-byte payloads, %d entities of %d bytes, %s events, %zu round%s\n", (int)PAYLOAD_BYTES, (int)ENTITIES,
           (int)ENTITY_BYTES, count_text(settings.events), settings.rounds, settings.rounds == 1 ? "" : "s");
}

int main(int argc, char **argv) {
    make_names();
    if (argc == 6 && strcmp(argv[1], "--child") == 0) {
        run_child(argv + 2);
        return 0;
    }
    parse(argc, argv);
    print_machine(settings.directory);
    print_sides();
    print_load("at the start");
    print_heading(settings.csv);
    append_rows();
    storage_rows();
    deliver_rows();
    read_rows();
    open_rows();
    print_load("at the end");
    return fclose(settings.csv) == 0 ? 0 : 1;
}
