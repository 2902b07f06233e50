/* What the files of rows share: settings, backends, and rounds in which the sides take turns. */
#ifndef ROWS_H
#define ROWS_H

#include <limits.h>
#include <math.h>

#include "backend.h"
#include "measure.h"

typedef struct settings_t {
    const char *directory, *only, *csv_path;
    FILE *csv;
    size_t rounds;
    /* Events in the rows that append, replay and open so and so many; the long log has ten times as many. */
    size_t events;
    bool quick, sides[SIDES];
} settings_t;

extern settings_t settings;

static const double COMMIT_SECONDS = 0.5;

/* NULL for raw, and for a side that is not wanted or not there. */
const backend_t *backend_at(size_t side);
bool is_here(size_t side);
size_t side_named(const char *name);

/* DIRECTORY/SIDE-NAME; valid until the next call on this thread. */
const char *path_of(size_t side, const char *name);

/* A new store, and its end: it is closed and removed. */
store_t *new_store(size_t side, const char *name, durability_t durability);
void drop_store(size_t side, const char *name, store_t *store);

/* "10 M", "300 k"; valid for a few calls. */
const char *count_text(size_t n);

row_t new_row(const char *group, const char *unit, better_t better, budget_kind_t kind, double budget, const char *name, ...)
    __attribute__((format(printf, 6, 7)));

/* Measures one side once: a value for each row, of which those that stay NAN are left out. */
typedef void (*measure_fn)(void *context, size_t side, size_t round, double *values);

bool are_wanted(const row_t *rows, size_t count);

/* Runs and prints rows that are measured together. Each round takes every side once, and begins with another one. */
void run_rows(row_t *rows, size_t count, size_t rounds, measure_fn measure, void *context);

/* Ends the program unless both are equal. */
void expect_count(uint64_t count, uint64_t expected);

/* A log of n events with causes, made when it is first asked for. n is settings.events or ten times that. */
const char *need_log(size_t side, size_t n);

/* Polls a whole region; the number of events, whose payloads were touched. */
uint64_t read_through(const backend_t *backend, store_t *store, const filter_t *filter);

void append_rows(void);
void storage_rows(void);
void read_rows(void);
void deliver_rows(void);
void open_rows(void);

/* The part of a row that has a process to itself: peers --child WHAT SIDE DIRECTORY N. */
void run_child(char **arguments);

#endif
