#include "measure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void die(const char *format, ...) {
    int number = errno;
    va_list arguments;
    fprintf(stderr, "bench-quick: ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, number != 0 ? ": %s\n" : "\n", strerror(number));
    exit(1);
}

uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
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

double latency_quantile(uint64_t *latencies, size_t n, double p) {
    if (n == 0) {
        return 0;
    }
    qsort(latencies, n, sizeof latencies[0], compare_latencies);
    return (double)latencies[rank(n, p)];
}

/* "5.12 (5.01 .. 5.20)", four significant digits at most. */
static void format_samples(char *text, size_t capacity, const samples_t *samples) {
    if (samples->count == 0) {
        snprintf(text, capacity, "-");
        return;
    }
    double median = quantile(samples, 0.5);
    int decimals = median >= 1000 ? 0 : median >= 100 ? 1 : median >= 0.1 ? 2 : 4;
    snprintf(text, capacity, "%.*f (%.*f .. %.*f)", decimals, median, decimals, quantile(samples, 0), decimals,
             quantile(samples, 1));
}

static bool is_met(const row_t *row) {
    double ours = quantile(&row->ours, 0.5), raw = quantile(&row->raw, 0.5);
    switch (row->budget_kind) {
    case BUDGET_AT_LEAST: return ours >= row->budget;
    case BUDGET_AT_MOST: return ours <= row->budget;
    case BUDGET_AT_LEAST_OF_RAW: return ours >= row->budget * raw;
    case BUDGET_AT_MOST_OF_RAW: return ours <= row->budget * raw;
    default: return true;
    }
}

static void format_budget(char *text, size_t capacity, const row_t *row) {
    bool at_least = row->budget_kind == BUDGET_AT_LEAST || row->budget_kind == BUDGET_AT_LEAST_OF_RAW;
    bool of_raw = row->budget_kind == BUDGET_AT_LEAST_OF_RAW || row->budget_kind == BUDGET_AT_MOST_OF_RAW;
    text[0] = '\0';
    if (row->budget_kind != BUDGET_NONE) {
        snprintf(text, capacity, "%s %g%s%s", at_least ? ">=" : "<=", row->budget, of_raw ? " raw" : "",
                 is_met(row) ? "" : "  MISSED");
    }
}

void print_heading(FILE *csv) {
    printf("%-34s %-8s %-27s %-27s %6s  %s\n", "row", "unit", "raw: median (min .. max)", "batpak: median (min .. max)",
           "ratio", "budget");
    fprintf(csv, "row,unit,side,median,min,max,rounds\n");
}

static void write_csv(FILE *csv, const row_t *row, const char *side, const samples_t *samples) {
    if (samples->count > 0) {
        fprintf(csv, "\"%s\",%s,%s,%.6g,%.6g,%.6g,%zu\n", row->name, row->unit, side, quantile(samples, 0.5),
                quantile(samples, 0), quantile(samples, 1), samples->count);
    }
}

void print_row(const row_t *row, FILE *csv) {
    char raw[64], ours[64], ratio[16] = "", budget[64];
    format_samples(raw, sizeof raw, &row->raw);
    format_samples(ours, sizeof ours, &row->ours);
    format_budget(budget, sizeof budget, row);
    if (row->raw.count > 0) {
        snprintf(ratio, sizeof ratio, "%.2f", quantile(&row->ours, 0.5) / quantile(&row->raw, 0.5));
    }
    printf("%-34s %-8s %-27s %-27s %6s  %s\n", row->name, row->unit, raw, ours, ratio, budget);
    fflush(stdout);
    write_csv(csv, row, "raw", &row->raw);
    write_csv(csv, row, "batpak", &row->ours);
    fflush(csv);
}
