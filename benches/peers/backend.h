/* What the benchmark asks of a log: libbatpak has it, and for each peer a file beside this one builds it as its user would.
 *
 * A backend is a shared object of its own, bench-NAME.so, loaded when it is needed: a process that looks at the memory of one
 * carries none of the others. It ends the program with die() whenever a call fails, so that nothing here returns an error.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include <stddef.h>
#include <stdint.h>

/* In place of a sequence: there is none. */
#define NONE UINT64_MAX

/* One event to append. The backend gives it its sequence (from 0, gapless), an id of 16 bytes and a time. */
typedef struct log_event_t {
    const char *entity, *scope;
    size_t entity_bytes, scope_bytes;
    const void *payload;
    uint32_t payload_bytes;
    uint16_t kind;
    /* The sequence of the event that led to this one, or NONE. */
    uint64_t cause;
} log_event_t;

typedef enum durability_t {
    /* What append has returned from survives kill -9. */
    PROCESS,
    /* It survives a power loss. */
    STORAGE,
    /* As PROCESS, and sync is called when a power loss is to be survived. */
    AHEAD,
} durability_t;

typedef enum filter_by_t { FILTER_ALL, FILTER_ENTITY, FILTER_SCOPE, FILTER_KIND } filter_by_t;

typedef struct filter_t {
    filter_by_t by;
    /* The entity or scope; it lives longer than the reader. */
    const char *text;
    size_t text_bytes;
    uint16_t kind;
} filter_t;

/* Takes one event. The payload is valid during the call. A backend has the other fields at hand too, but for SQLite, whose user
 * would have to ask for each: it is spared that. */
typedef void (*visit_fn)(void *user_data, uint64_t sequence, const void *payload, size_t payload_bytes);

/* Each backend defines these for itself. */
typedef struct store_t store_t;
typedef struct reader_t reader_t;
typedef struct worker_t worker_t;

typedef struct backend_t {
    const char *(*version)(void);

    /* Makes the directory when there is none. On return the store can be appended to and read. */
    store_t *(*open)(const char *directory, durability_t durability);
    /* Makes all durable. */
    void (*close)(store_t *store);
    /* Events in the store; no append is under way. */
    uint64_t (*count)(store_t *store);
    /* All of the events or none, also across a crash; any thread. */
    void (*append)(store_t *store, const log_event_t *events, size_t n);
    /* Makes all that was appended to an AHEAD store durable. */
    void (*sync)(store_t *store);

    /* Begins at the first event or, with a name, behind the last checkpoint of that name. A named reader is of a STORAGE store. */
    reader_t *(*reader)(store_t *store, const filter_t *filter, const char *name);
    /* The next events that the filter lets through, `most` at most, ascending; 0 when there are none yet. */
    size_t (*poll)(reader_t *reader, size_t most, visit_fn visit, void *user_data);
    /* The position of a named reader survives a power loss. */
    void (*checkpoint)(reader_t *reader);
    void (*close_reader)(reader_t *reader);

    /* The rest is NULL where there is nothing to do, or nothing that does it. */

    /* Waits for, or does, what the backend would do in the background for reads to be at their best. */
    void (*settle)(store_t *store);
    /* Events will name as causes the events appended from now on, by one thread. */
    void (*expect_causes)(store_t *store);
    /* An append that happens once per key. */
    void (*append_keyed)(store_t *store, const log_event_t *event, const void *key, size_t key_bytes);
    /* A thread of the backend's own that follows the log. Stopping it waits for its end. */
    worker_t *(*worker_start)(store_t *store, visit_fn visit, void *user_data);
    void (*worker_stop)(worker_t *worker);
} backend_t;

/* The symbol that bench-NAME.so exports. */
extern const backend_t backend;

#endif
