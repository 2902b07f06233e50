#include "measure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

const char *const side_names[SIDES] = {"raw", "batpak", "sqlite", "lmdb", "rocksdb"};

void die(const char *format, ...) {
    int number = errno;
    va_list arguments;
    fflush(stdout);
    fprintf(stderr, "bench: ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, number != 0 ? ": %s\n" : "\n", strerror(number));
    /* Other threads may be in the middle of something. */
    _Exit(1);
}

void *allocate(size_t n, size_t bytes) {
    void *memory = calloc(n, bytes);
    if (memory == NULL) {
        die("%zu * %zu bytes", n, bytes);
    }
    return memory;
}

void make_directory(const char *path) {
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        die("%s", path);
    }
}

uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

double seconds_since(uint64_t start_ns) {
    return (double)(now_ns() - start_ns) / 1e9;
}

void sleep_until(uint64_t until_ns) {
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

void sample(samples_t *samples, double value) {
    if (samples->count < ROUNDS_MAX) {
        samples->values[samples->count++] = value;
    }
}

static int compare_doubles(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static int compare_latencies(const void *one, const void *other) {
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

/* The value at p among n sorted ones: the nearest, so that it was measured. */
static size_t rank(size_t n, double p) {
    return (size_t)(p * (double)(n - 1) + 0.5);
}

double quantile(const samples_t *samples, double p) {
    samples_t sorted = *samples;
    if (sorted.count == 0) {
        return 0;
    }
    qsort(sorted.values, sorted.count, sizeof sorted.values[0], compare_doubles);
    return sorted.values[rank(sorted.count, p)];
}

void latencies_init(latencies_t *latencies, size_t capacity) {
    *latencies = (latencies_t){.values = allocate(capacity, sizeof *latencies->values), .capacity = capacity};
}

void latencies_free(latencies_t *latencies) {
    free(latencies->values);
}

void latencies_join(latencies_t *all, const latencies_t *more) {
    for (size_t i = 0; i < more->count; i++) {
        latency(all, more->values[i]);
    }
}

double latency_quantile(latencies_t *latencies, double p) {
    if (latencies->count == 0) {
        return 0;
    }
    qsort(latencies->values, latencies->count, sizeof latencies->values[0], compare_latencies);
    return (double)latencies->values[rank(latencies->count, p)];
}

static double median(const row_t *row, size_t side) {
    return quantile(&row->sides[side], 0.5);
}

static bool is_of_raw(const row_t *row) {
    return row->budget_kind == BUDGET_AT_LEAST_OF_RAW || row->budget_kind == BUDGET_AT_MOST_OF_RAW;
}

/* The budget in the row's unit; false: there is none, or what it is compared with was not measured. */
static bool budget_of(const row_t *row, double *budget) {
    if (row->budget_kind == BUDGET_NONE || row->sides[BATPAK].count == 0 || (is_of_raw(row) && row->sides[RAW].count == 0)) {
        return false;
    }
    *budget = is_of_raw(row) ? row->budget * median(row, RAW) : row->budget;
    return true;
}

/* Four significant digits at most. */
static void format_number(char *text, size_t capacity, double value) {
    snprintf(text, capacity, "%.*f", value >= 1000 ? 0 : value >= 100 ? 1 : value >= 0.1 || value == 0 ? 2 : 4, value);
}

static void format_side(char *text, size_t capacity, const row_t *row, size_t side) {
    if (row->sides[side].count == 0) {
        snprintf(text, capacity, "-");
    } else {
        format_number(text, capacity, median(row, side));
    }
}

static void format_spread(char *text, size_t capacity, const row_t *row) {
    char least[24], most[24];
    format_number(least, sizeof least, quantile(&row->sides[BATPAK], 0));
    format_number(most, sizeof most, quantile(&row->sides[BATPAK], 1));
    snprintf(text, capacity, "%s..%s", least, most);
}

/* How many times better the library is than `other`; empty when one of them has no number. */
static void format_ratio(char *text, size_t capacity, const row_t *row, double other) {
    double ours = median(row, BATPAK);
    text[0] = '\0';
    if (row->sides[BATPAK].count > 0 && ours > 0 && other > 0) {
        double ratio = row->better == HIGHER ? ours / other : other / ours;
        snprintf(text, capacity, "%.*f", ratio >= 100 ? 0 : ratio >= 0.1 ? 2 : 4, ratio);
    }
}

static double best_peer(const row_t *row) {
    double best = 0;
    for (size_t side = SQLITE; side < SIDES; side++) {
        double value = median(row, side);
        if (row->sides[side].count > 0 && (best == 0 || (row->better == HIGHER ? value > best : value < best))) {
            best = value;
        }
    }
    return best;
}

static void format_budget(char *text, size_t capacity, const row_t *row) {
    bool at_least = row->budget_kind == BUDGET_AT_LEAST || row->budget_kind == BUDGET_AT_LEAST_OF_RAW;
    double budget;
    text[0] = '\0';
    if (budget_of(row, &budget)) {
        bool is_met = at_least ? median(row, BATPAK) >= budget : median(row, BATPAK) <= budget;
        snprintf(text, capacity, "%s %g%s  %s", at_least ? ">=" : "<=", row->budget, is_of_raw(row) ? " raw" : "",
                 is_met ? "met" : "MISSED");
    }
}

#define LINE "%-44s %-8s %8s %8s %-15s %8s %8s %8s %7s %6s  %s\n"

void print_heading(FILE *csv) {
    printf(LINE, "row", "unit", "raw", "batpak", "(min..max)", "sqlite", "lmdb", "rocksdb", "x peer", "x raw", "budget");
    fprintf(csv, "row,unit,backend,rounds,min,median,max,budget,group,better\n");
}

static void write_csv(FILE *csv, const row_t *row) {
    const char *name = row->name + strspn(row->name, " ");
    char text[32] = "";
    double budget;
    if (budget_of(row, &budget)) {
        snprintf(text, sizeof text, "%.6g", budget);
    }
    for (size_t side = 0; side < SIDES; side++) {
        const samples_t *samples = &row->sides[side];
        if (samples->count > 0) {
            fprintf(csv, "\"%s\",%s,%s,%zu,%.6g,%.6g,%.6g,%s,%s,%s\n", name, row->unit, side_names[side], samples->count,
                    quantile(samples, 0), quantile(samples, 0.5), quantile(samples, 1), text, row->group,
                    row->better == HIGHER ? "higher" : "lower");
        }
    }
    fflush(csv);
}

void print_row(const row_t *row, FILE *csv) {
    char sides[SIDES][24], spread[56] = "", to_peer[24], to_raw[24], budget[64];
    for (size_t side = 0; side < SIDES; side++) {
        format_side(sides[side], sizeof sides[side], row, side);
    }
    if (row->sides[BATPAK].count > 1) {
        format_spread(spread, sizeof spread, row);
    }
    format_ratio(to_peer, sizeof to_peer, row, best_peer(row));
    format_ratio(to_raw, sizeof to_raw, row, median(row, RAW));
    format_budget(budget, sizeof budget, row);
    printf(LINE, row->name, row->unit, sides[RAW], sides[BATPAK], spread, sides[SQLITE], sides[LMDB], sides[ROCKSDB], to_peer,
           to_raw, budget);
    fflush(stdout);
    write_csv(csv, row);
}
