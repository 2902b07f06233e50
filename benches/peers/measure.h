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

/* Memory of zeros. */
void *allocate(size_t n, size_t bytes);

/* Makes a directory; it may be there. */
void make_directory(const char *path);

/* Monotonic nanoseconds. */
uint64_t now_ns(void);
double seconds_since(uint64_t start_ns);

/* Sleeps until then; returns at once when it has passed. */
void sleep_until(uint64_t until_ns);

typedef struct samples_t {
    size_t count;
    double values[ROUNDS_MAX];
} samples_t;

/* The p-th part of the sorted values: 0.5 is the median. */
double quantile(const samples_t *samples, double p);

/* Latencies of a run, in nanoseconds: the first `capacity` of them. */
typedef struct latencies_t {
    uint64_t *values;
    size_t count, capacity;
} latencies_t;

void latencies_init(latencies_t *latencies, size_t capacity);
void latencies_free(latencies_t *latencies);
static inline void latency(latencies_t *latencies, uint64_t ns) {
    if (latencies->count < latencies->capacity) {
        latencies->values[latencies->count++] = ns;
    }
}
void latencies_join(latencies_t *all, const latencies_t *more);
/* Sorts them. */
double latency_quantile(latencies_t *latencies, double p);

/* The columns: what the machine can do with nothing around it, the library, its peers. */
enum { RAW, BATPAK, SQLITE, LMDB, ROCKSDB, SIDES };
extern const char *const side_names[SIDES];

typedef enum budget_kind_t {
    BUDGET_NONE,
    BUDGET_AT_LEAST,
    BUDGET_AT_MOST,
    /* Of the raw limit's median. */
    BUDGET_AT_LEAST_OF_RAW,
    BUDGET_AT_MOST_OF_RAW,
} budget_kind_t;

typedef enum better_t { HIGHER, LOWER } better_t;

/* One line of the table. A side that has no part in it is left empty. */
typedef struct row_t {
    char name[64];
    /* The chart that it belongs to. */
    const char *group, *unit;
    better_t better;
    budget_kind_t budget_kind;
    double budget;
    samples_t sides[SIDES];
} row_t;

void sample(samples_t *samples, double value);

void print_heading(FILE *csv);
void print_row(const row_t *row, FILE *csv);

#endif
