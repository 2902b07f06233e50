/* An event as the peers without columns keep it, and the id that a user of any peer would make. */
#ifndef RECORD_H
#define RECORD_H

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "backend.h"
#include "measure.h"

/* Names and payload follow. */
typedef struct record_head_t {
    uint8_t id[16];
    uint64_t time_us, cause;
    uint16_t kind, entity_bytes, scope_bytes, zero;
} record_head_t;

_Static_assert(sizeof(record_head_t) == 40, "no padding");

/* Microseconds since the epoch: once for each append call. */
static inline uint64_t wall_time_us(void) {
    struct timespec time;
    if (clock_gettime(CLOCK_REALTIME, &time) != 0) {
        die("clock_gettime");
    }
    return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_nsec / 1000u;
}

/* Time first, then the sequence, stirred. */
static inline void make_id(uint8_t id[16], uint64_t time_us, uint64_t sequence) {
    uint64_t first = __builtin_bswap64(time_us), last = (sequence + 1) * 0x9E3779B97F4A7C15u;
    last ^= last >> 29;
    memcpy(id, &first, 8);
    memcpy(id + 8, &last, 8);
}

static inline size_t record_bytes(const log_event_t *event) {
    return sizeof(record_head_t) + event->entity_bytes + event->scope_bytes + event->payload_bytes;
}

static inline void record_write(char *place, const log_event_t *event, uint64_t time_us, uint64_t sequence) {
    record_head_t head = {.time_us = time_us,
                          .cause = event->cause,
                          .kind = event->kind,
                          .entity_bytes = (uint16_t)event->entity_bytes,
                          .scope_bytes = (uint16_t)event->scope_bytes};
    make_id(head.id, time_us, sequence);
    memcpy(place, &head, sizeof head);
    place += sizeof head;
    memcpy(place, event->entity, event->entity_bytes);
    place += event->entity_bytes;
    memcpy(place, event->scope, event->scope_bytes);
    memcpy(place + event->scope_bytes, event->payload, event->payload_bytes);
}

/* Gives the record to `visit` if it passes the filter. An entity was looked up in an index: nothing is left to compare. */
static inline bool record_visit(const char *record, size_t bytes, uint64_t sequence, const filter_t *filter, visit_fn visit,
                                void *user_data) {
    record_head_t head;
    memcpy(&head, record, sizeof head);
    size_t scope = sizeof head + head.entity_bytes, payload = scope + head.scope_bytes;
    if (filter->by == FILTER_KIND && head.kind != filter->kind) {
        return false;
    }
    if (filter->by == FILTER_SCOPE &&
        (head.scope_bytes != filter->text_bytes || memcmp(record + scope, filter->text, filter->text_bytes) != 0)) {
        return false;
    }
    visit(user_data, sequence, record + payload, bytes - payload);
    return true;
}

#endif
