#include "workload.h"

#include <stdio.h>
#include <stdlib.h>

#include "measure.h"

char entities[ENTITIES][ENTITY_BYTES + 1], scopes[SCOPES][SCOPE_BYTES + 1];

void make_names(void) {
    for (size_t i = 0; i < ENTITIES; i++) {
        snprintf(entities[i], sizeof entities[i], "e:%014zu", i);
    }
    for (size_t i = 0; i < SCOPES; i++) {
        snprintf(scopes[i], sizeof scopes[i], "scope-%02zu", i);
    }
}

workload_t new_workload(uint64_t number) {
    workload_t workload = {.random = 0x9E3779B97F4A7C15u * (number + 1)};
    memset(workload.payload, 'p', sizeof workload.payload);
    return workload;
}

void append_singles(const backend_t *backend, store_t *store, workload_t *workload, size_t n) {
    for (size_t i = 0; i < n; i++) {
        next_event(workload);
        log_event_t event = event_of(workload);
        backend->append(store, &event, 1);
    }
}

batch_t *new_batch(void) {
    batch_t *batch = allocate(1, sizeof *batch);
    memset(batch->payloads, 'p', sizeof batch->payloads);
    return batch;
}

void fill_batch(batch_t *batch, workload_t *workload) {
    for (size_t i = 0; i < BATCH_EVENTS; i++) {
        next_event(workload);
        batch->entities[i] = workload->entity;
        batch->events[i] = event_of(workload);
        memcpy(batch->payloads[i], workload->payload, 8);
        batch->events[i].payload = batch->payloads[i];
    }
}

void append_batches(const backend_t *backend, store_t *store, workload_t *workload, batch_t *batch, size_t n) {
    for (size_t done = 0; done < n; done += BATCH_EVENTS) {
        fill_batch(batch, workload);
        backend->append(store, batch->events, BATCH_EVENTS);
    }
}

void append_with_causes(const backend_t *backend, store_t *store, size_t n) {
    uint64_t *last = allocate(ENTITIES, sizeof *last);
    batch_t *batch = new_batch();
    workload_t workload = new_workload(0);
    memset(last, 0xFF, ENTITIES * sizeof *last);
    if (backend->expect_causes != NULL) {
        backend->expect_causes(store);
    }
    for (size_t done = 0; done < n; done += BATCH_EVENTS) {
        fill_batch(batch, &workload);
        for (size_t i = 0; i < BATCH_EVENTS; i++) {
            batch->events[i].cause = last[batch->entities[i]];
            last[batch->entities[i]] = done + i;
        }
        backend->append(store, batch->events, BATCH_EVENTS);
    }
    free(batch);
    free(last);
}

by_entity_t *sort_by_entity(size_t n) {
    by_entity_t *by = allocate(1, sizeof *by);
    uint32_t *next = allocate(ENTITIES + 1, sizeof *next);
    workload_t workload = new_workload(0);
    by->sequences = allocate(n, sizeof *by->sequences);
    for (size_t i = 0; i < n; i++) {
        next_event(&workload);
        by->first[workload.entity + 1]++;
    }
    for (size_t i = 0; i < ENTITIES; i++) {
        by->first[i + 1] += by->first[i];
    }
    memcpy(next, by->first, sizeof by->first);
    workload = new_workload(0);
    for (size_t i = 0; i < n; i++) {
        next_event(&workload);
        by->sequences[next[workload.entity]++] = (uint32_t)i;
    }
    free(next);
    return by;
}

uint32_t *sequences_of(size_t n, bool of_scope, uint32_t which, size_t *found) {
    uint32_t *sequences = allocate(n, sizeof *sequences);
    workload_t workload = new_workload(0);
    *found = 0;
    for (size_t i = 0; i < n; i++) {
        next_event(&workload);
        if ((of_scope ? workload.scope : workload.kind) == which) {
            sequences[(*found)++] = (uint32_t)i;
        }
    }
    return sequences;
}
