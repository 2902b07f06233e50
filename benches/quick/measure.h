/* Time, samples of interleaved rounds, and the table and CSV file that they become. */
#ifndef MEASURE_H
#define MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define ROUNDS_MAX 64

/* Ends the program with a message, as printf; an errno that is not 0 is named. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Monotonic nanoseconds. */
uint64_t now_ns(void);

/* Sleeps until then; returns at once when it has passed. */
void sleep_until(uint64_t until_ns);

typedef struct samples_t {
    size_t count;
    double values[ROUNDS_MAX];
} samples_t;

void sample(samples_t *samples, double value);

/* The p-th part of the sorted values: 0.5 is the median. */
double quantile(const samples_t *samples, double p);

/* The same of latencies; sorts them. */
double latency_quantile(uint64_t *latencies, size_t n, double p);

typedef enum budget_kind_t {
    BUDGET_NONE,
    BUDGET_AT_LEAST,
    BUDGET_AT_MOST,
    /* Of the raw limit's median. */
    BUDGET_AT_LEAST_OF_RAW,
    BUDGET_AT_MOST_OF_RAW,
} budget_kind_t;

/* One line of the table. What has no raw limit leaves `raw` empty. */
typedef struct row_t {
    const char *name;
    const char *unit;
    budget_kind_t budget_kind;
    double budget;
    samples_t raw;
    samples_t ours;
} row_t;

void print_heading(FILE *csv);
void print_row(const row_t *row, FILE *csv);

#endif
