/* The events that every side appends and reads: in an order that is random, and the same each time.
 *
 * 16-byte entity out of 10,000; 8-byte scope out of 8 and kind out of 8, of which the first takes half of the events, the second a
 * hundredth, and the others share the rest; 128-byte payload.
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stdbool.h>
#include <string.h>

#include "backend.h"

enum { PAYLOAD_BYTES = 128, ENTITY_BYTES = 16, SCOPE_BYTES = 8, NAME_BYTES = ENTITY_BYTES + SCOPE_BYTES };
enum { ENTITIES = 10000, SCOPES = 8, KINDS = 8, KIND_FIRST = 0x1001 };
/* Scopes and kinds by their share of the events. */
enum { HALF = 0, RARE = 1 };
enum { BATCH_EVENTS = 1000, READ_EVENTS = 1024 };

/* An event without causes in libbatpak's log: 56 bytes of header, names, payload. Checked against a log that was written. */
enum { FRAME_BYTES = 56 + NAME_BYTES + PAYLOAD_BYTES };

extern char entities[ENTITIES][ENTITY_BYTES + 1], scopes[SCOPES][SCOPE_BYTES + 1];
void make_names(void);

typedef struct workload_t {
    uint64_t random;
    uint32_t entity, scope, kind;
    char payload[PAYLOAD_BYTES];
} workload_t;

workload_t new_workload(uint64_t number);

/* Of 1024: 512 are the first, 10 the second. */
static inline uint32_t share(uint64_t random) {
    uint32_t draw = random & 1023;
    return draw < 512 ? HALF : draw < 522 ? RARE : 2 + draw % (SCOPES - 2);
}

static inline void next_event(workload_t *workload) {
    uint64_t random = workload->random;
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    workload->random = random;
    workload->entity = (uint32_t)(((random >> 32) * ENTITIES) >> 32);
    workload->scope = share(random);
    workload->kind = share(random >> 10);
    memcpy(workload->payload, &random, sizeof random);
}

static inline log_event_t event_of(const workload_t *workload) {
    return (log_event_t){.entity = entities[workload->entity],
                         .entity_bytes = ENTITY_BYTES,
                         .scope = scopes[workload->scope],
                         .scope_bytes = SCOPE_BYTES,
                         .kind = (uint16_t)(KIND_FIRST + workload->kind),
                         .payload = workload->payload,
                         .payload_bytes = PAYLOAD_BYTES,
                         .cause = NONE};
}

void append_singles(const backend_t *backend, store_t *store, workload_t *workload, size_t n);

/* A batch with payloads of its own. */
typedef struct batch_t {
    log_event_t events[BATCH_EVENTS];
    uint32_t entities[BATCH_EVENTS];
    char payloads[BATCH_EVENTS][PAYLOAD_BYTES];
} batch_t;

batch_t *new_batch(void);
void fill_batch(batch_t *batch, workload_t *workload);

/* n is a multiple of BATCH_EVENTS. */
void append_batches(const backend_t *backend, store_t *store, workload_t *workload, batch_t *batch, size_t n);

/* A new log of n events, each of which names as its cause the one before of its entity. */
void append_with_causes(const backend_t *backend, store_t *store, size_t n);

/* The sequences of a log of n events as append_with_causes makes it, by entity: those of entity i begin at first[i]. */
typedef struct by_entity_t {
    uint32_t *sequences, first[ENTITIES + 1];
} by_entity_t;

by_entity_t *sort_by_entity(size_t n);

/* The sequences of its events of a scope, or of a kind; the count in *found. */
uint32_t *sequences_of(size_t n, bool of_scope, uint32_t which, size_t *found);

#endif
