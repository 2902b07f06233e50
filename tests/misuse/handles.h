/* Handles of every kind: ones in use, ended ones, ones of another store, and what is no handle at all. */
#ifndef HANDLES_H
#define HANDLES_H

#include "call.h"

static batpak_error_t *error;

/* A store with three events and a checkpoint "kept", another one, and one that is closed. */
static batpak_store_t *store, *other, *closed;
static batpak_cursor_t *watcher;
/* One of each kind, to be passed as something else, and what they were made of, in the closed store, for the ended ones. */
static void *live[KINDS];
static batpak_cursor_t *cursor_of_closed;
static batpak_fence_t *fence_of_closed;
/* Of a handler that is running on another thread, and of one that has returned. */
static batpak_delivery_t *busy_delivery, *idle_delivery;
/* Of the handler that runs on this thread. */
static batpak_delivery_t *delivery_here;
static batpak_worker_t *busy_worker, *idle_worker;
static _Alignas(16) uint64_t zeros[64];

/* It is not durability that is looked at here. */
int fsync(int fd) {
    (void)fd;
    return 0;
}

int fdatasync(int fd) {
    (void)fd;
    return 0;
}

static void count_free(void *user_data) {
    (void)user_data;
    atomic_fetch_add(&frees, 1);
}

static int32_t take_all(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)delivery, (void)events, (void)n;
    return BATPAK_HANDLER_CONTINUE;
}

static void no_wake(void *user_data) {
    (void)user_data;
}

static char *path_of(const char *name) {
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static batpak_store_t *open_named(const char *name) {
    batpak_store_t *opened = NULL;
    CHECK_OK(batpak_store_open_z(path_of(name), NULL, &opened, &error), error);
    return opened;
}

static uint64_t append_to(batpak_store_t *to) {
    batpak_receipt_t receipt;
    CHECK_OK(batpak_store_append_one(to, "e", 1, "s", 1, 0x1001, "payload", 7, &receipt, &error), error);
    return receipt.sequence;
}

static batpak_cursor_t *cursor_on(batpak_store_t *on) {
    batpak_cursor_options_t options;
    batpak_cursor_t *cursor = NULL;
    batpak_batch_t *batch = NULL;
    CHECK_OK(batpak_cursor_options_init(&options, sizeof options, &error), error);
    options.checkpoint_id = "fresh", options.checkpoint_id_len = 5;
    CHECK_OK(batpak_cursor_open(on, NULL, &options, &cursor, &error), error);
    /* It has something to checkpoint and more to come. */
    CHECK_OK(batpak_cursor_rewind(cursor, &error), error);
    CHECK_OK(batpak_cursor_seek(cursor, 0, &error), error);
    CHECK_OK(batpak_cursor_poll(cursor, 1, 0, 0, &batch, &error), error);
    batpak_batch_free(batch);
    return cursor;
}

/* A new handle of a kind, on a store, to be freed. */
static void *fresh_on(enum kind kind, batpak_store_t *on) {
    void *handle = NULL;
    switch (kind) {
    case FENCE:
        CHECK_OK(batpak_fence_begin(on, NULL, (batpak_fence_t **)&handle, &error), error);
        break;
    case CURSOR:
        handle = cursor_on(on);
        break;
    case BATCH:
        CHECK_OK(batpak_store_get(on, 0, (batpak_batch_t **)&handle, &error), error);
        break;
    case GAP_LIST:
        CHECK_OK(batpak_cursor_take_gaps(live[CURSOR], (batpak_gap_list_t **)&handle, &error), error);
        break;
    case CHECKPOINT:
        CHECK_OK(batpak_checkpoint_load(on, "kept", 4, (batpak_checkpoint_t **)&handle, &error), error);
        break;
    case CHECKPOINT_LIST:
        CHECK_OK(batpak_checkpoint_list(on, (batpak_checkpoint_list_t **)&handle, &error), error);
        break;
    case ENTITY_LIST:
        CHECK_OK(batpak_store_entities(on, NULL, 0, NULL, 0, 10, (batpak_entity_list_t **)&handle, &error), error);
        break;
    case WORKER:
        CHECK_OK(batpak_worker_start(on, NULL, NULL, take_all, NULL, NULL, (batpak_worker_t **)&handle, &error), error);
        break;
    case ERROR:
        CHECK(batpak_store_get(on, 0, NULL, (batpak_error_t **)&handle) == BATPAK_E_INVALID_ARGUMENT);
        break;
    case STORE:
    case DELIVERY:
    case KINDS:
        CHECK(!"made here");
    }
    return handle;
}

static void free_handle(enum kind kind, void *handle) {
    switch (kind) {
    case STORE:
        CHECK_OK(batpak_store_close(handle, -1, &error), error);
        batpak_store_free(handle);
        break;
    case FENCE:
        batpak_fence_free(handle);
        break;
    case CURSOR:
        batpak_cursor_free(handle);
        break;
    case BATCH:
        batpak_batch_free(handle);
        break;
    case GAP_LIST:
        batpak_gap_list_free(handle);
        break;
    case CHECKPOINT:
        batpak_checkpoint_free(handle);
        break;
    case CHECKPOINT_LIST:
        batpak_checkpoint_list_free(handle);
        break;
    case ENTITY_LIST:
        batpak_entity_list_free(handle);
        break;
    case WORKER: {
        /* So that its user data are freed. It may have ended as its options say, but not by a panic. */
        batpak_status_t status = batpak_worker_stop_and_join(handle, -1, NULL);
        CHECK(is_child ? status == BATPAK_E_FORKED : status <= 0 && status != BATPAK_E_INTERNAL && status != BATPAK_E_WORKER_CRASHED);
        batpak_worker_free(handle);
        break;
    }
    case ERROR:
        batpak_error_free(handle);
        break;
    case DELIVERY:
    case KINDS:
        CHECK(!"freed");
    }
}

/* One more reference to give back. */
static void keep_retained(struct call *call, batpak_batch_t *batch) {
    if (batch != NULL && call->verdict != REFUSED) {
        keep(call, BATCH, batch);
    }
}

/* What a call that ends a handle may be given, or another may be given often. */
static void *right_handle(struct call *call, enum kind kind) {
    if (is_child) {
        return live[kind];
    }
    if (kind == DELIVERY) {
        return delivery_here;
    }
    if (kind == STORE && !call->function->is_free && !call->function->is_close) {
        return store;
    }
    void *handle = kind == STORE ? open_named("fresh") : fresh_on(kind, store);
    if (!call->function->is_free) {
        keep(call, kind, handle);
    }
    return handle;
}

static int survives_fork(enum kind kind) {
    return kind != STORE && kind != FENCE && kind != CURSOR && kind != WORKER && kind != DELIVERY;
}

/* Ended, by itself or with its store. NULL: there is no such handle. */
static void *ended_handle(struct call *call, const char *name, enum kind kind, int with_its_store) {
    int is_freed = call->function->is_free;
    if (with_its_store) {
        void *of_closed = kind == CURSOR ? (void *)cursor_of_closed : kind == FENCE ? (void *)fence_of_closed : NULL;
        if (of_closed == NULL || is_freed) {
            return NULL;
        }
        deviate(call, name, "of a closed store", call->function->is_close ? FINE : REFUSED, BATPAK_E_CLOSED);
        return of_closed;
    }
    if (kind == STORE && !is_freed) {
        deviate(call, name, "closed", call->function->is_close ? FINE : REFUSED, BATPAK_E_CLOSED);
        return closed;
    }
    void *handle = NULL;
    if (kind == STORE) {
        handle = open_named("fresh");
        CHECK_OK(batpak_store_close(handle, -1, &error), error);
    } else if (kind == CURSOR) {
        handle = fresh_on(kind, store);
        CHECK_OK(batpak_cursor_close(handle, &error), error);
    } else if (kind == FENCE) {
        handle = fresh_on(kind, store);
        CHECK_OK(batpak_fence_commit(handle, 0, &error), error);
    } else if (kind == WORKER) {
        handle = fresh_on(kind, store);
        CHECK_OK(batpak_worker_stop_and_join(handle, -1, &error), error);
    } else {
        return NULL;
    }
    if (!is_freed) {
        keep(call, kind, handle);
    }
    if (kind == CURSOR) {
        deviate(call, name, "closed", call->function->is_close || is_freed ? FINE : REFUSED, BATPAK_E_CLOSED);
    } else {
        deviate(call, name, "ended", MAYBE, 0);
    }
    return handle;
}

/* Right elsewhere: of another store, or of another handler. */
static void *handle_of_another(struct call *call, const char *name, enum kind kind, int second) {
    if (kind == DELIVERY) {
        refuse(call, name, second ? "of a handler on another thread" : "of a handler that has returned");
        return second ? busy_delivery : idle_delivery;
    }
    if (kind == STORE || second || call->function->is_free) {
        return NULL;
    }
    deviate(call, name, "of another store", FINE, 0);
    void *handle = kind == GAP_LIST ? fresh_on(kind, store) : fresh_on(kind, other);
    keep(call, kind, handle);
    return handle;
}

static void *wrong_kind(struct call *call, const char *name, enum kind kind, int number) {
    static char how[64];
    if (number >= (int)kind) {
        number++;
    }
    if (number >= KINDS) {
        return NULL;
    }
    snprintf(how, sizeof how, "a handle of a %s", kind_names[number]);
    refuse(call, name, how);
    return live[number];
}

/* A handle that a function is called on, or another that it takes. */
static void *handle_slot(struct call *call, int slot, const char *name, enum kind kind) {
    int variant = call->variant[slot];
    if (is_child && variant == 0 && !survives_fork(kind)) {
        /* Of two of the parent's either may be named. */
        deviate(call, name, "the parent's", call->function->is_free ? FINE : REFUSED, BATPAK_E_FORKED);
    }
    if (is_child && variant > 0) {
        return over(call);
    }
    void *handle = NULL;
    if (variant == 0) {
        return right_handle(call, kind);
    }
    if (variant == 1) {
        refuse(call, name, "NULL");
        return NULL;
    }
    if (variant == 2) {
        refuse(call, name, "zeros");
        return zeros;
    }
    if (variant == 3) {
        refuse(call, name, "misaligned");
        return (char *)live[kind] + 1;
    }
    variant -= 4;
    if (variant < KINDS - 1) {
        return wrong_kind(call, name, kind, variant);
    }
    variant -= KINDS - 1;
    while (variant < 4 && handle == NULL) {
        handle = variant < 2 ? ended_handle(call, name, kind, variant == 1) : handle_of_another(call, name, kind, variant == 3);
        /* What there is none of is passed over, as a right one: the variants after it keep their numbers. */
        if (handle == NULL) {
            return right_handle(call, kind);
        }
    }
    return handle != NULL ? handle : over(call);
}

/* The store that is read from, where another is written to. */
static batpak_store_t *source_slot(struct call *call, int slot, const char *name) {
    if (is_child) {
        return other;
    }
    if (call->variant[slot] == 0) {
        return other;
    }
    if (call->variant[slot] == 1) {
        refuse(call, name, "the store itself");
        return store;
    }
    call->variant[slot]--;
    batpak_store_t *handle = handle_slot(call, slot, name, STORE);
    call->variant[slot]++;
    return handle == store ? other : handle;
}

/* ---- the stage ------------------------------------------------------------------------------------------------------ */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int is_released;

static int32_t hold(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)events, (void)n;
    pthread_mutex_lock(&mutex);
    busy_delivery = delivery;
    pthread_cond_broadcast(&changed);
    while (!is_released) {
        pthread_cond_wait(&changed, &mutex);
    }
    pthread_mutex_unlock(&mutex);
    return BATPAK_HANDLER_CONTINUE;
}

static int32_t show(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)events, (void)n;
    pthread_mutex_lock(&mutex);
    idle_delivery = delivery;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    return BATPAK_HANDLER_CONTINUE;
}

static batpak_worker_t *worker_with(batpak_handler_fn handler, const char *id, batpak_delivery_t **shown) {
    batpak_worker_options_t options;
    batpak_worker_t *worker = NULL;
    CHECK_OK(batpak_worker_options_init(&options, sizeof options, &error), error);
    options.checkpoint_id = id, options.checkpoint_id_len = strlen(id);
    CHECK_OK(batpak_worker_start(other, NULL, &options, handler, NULL, NULL, &worker, &error), error);
    pthread_mutex_lock(&mutex);
    while (*shown == NULL) {
        pthread_cond_wait(&changed, &mutex);
    }
    pthread_mutex_unlock(&mutex);
    return worker;
}

static void set_stage(void) {
    store = open_named("store");
    other = open_named("other");
    closed = open_named("closed");
    for (int i = 0; i < 3; i++) {
        append_to(store), append_to(other), append_to(closed);
    }
    CHECK_OK(batpak_checkpoint_save(store, "kept", 4, NULL, 2, &error), error);
    CHECK_OK(batpak_checkpoint_save(other, "kept", 4, NULL, 2, &error), error);
    cursor_of_closed = cursor_on(closed);
    fence_of_closed = fresh_on(FENCE, closed);
    CHECK_OK(batpak_store_close(closed, -1, &error), error);
    live[STORE] = store;
    CHECK_OK(batpak_cursor_open(store, NULL, NULL, (batpak_cursor_t **)&live[CURSOR], &error), error);
    CHECK_OK(batpak_cursor_open(store, NULL, NULL, &watcher, &error), error);
    for (enum kind kind = STORE; kind < KINDS; kind++) {
        if (live[kind] == NULL && kind != DELIVERY) {
            live[kind] = fresh_on(kind, store);
        }
    }
    busy_worker = worker_with(hold, "busy", &busy_delivery);
    idle_worker = worker_with(show, "idle", &idle_delivery);
    live[DELIVERY] = idle_delivery;
}

static void clear_stage(void) {
    pthread_mutex_lock(&mutex);
    is_released = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    free_handle(WORKER, busy_worker), free_handle(WORKER, idle_worker);
    for (enum kind kind = CURSOR; kind < KINDS; kind++) {
        if (kind != DELIVERY) {
            free_handle(kind, live[kind]);
        }
    }
    batpak_cursor_free(watcher), batpak_cursor_free(cursor_of_closed);
    batpak_fence_free(live[FENCE]), batpak_fence_free(fence_of_closed);
    free_handle(STORE, other), free_handle(STORE, closed), free_handle(STORE, store);
}

/* After all that was done to them, the live objects still work. */
static void check_canaries(void) {
    batpak_batch_t *batch = NULL;
    batpak_watermarks_t marks;
    size_t n = 0;
    CHECK_OK(batpak_store_watermarks(store, &marks, &error), error);
    uint64_t sequence = append_to(store);
    CHECK(sequence >= marks.appended);
    CHECK_OK(batpak_cursor_seek(watcher, sequence, &error), error);
    CHECK_OK(batpak_cursor_poll(watcher, 10, 0, 60000, &batch, &error), error);
    const batpak_event_t *events = batpak_batch_events(batch, &n);
    CHECK(n == 1 && events->sequence == sequence && events->payload_len == 7 && memcmp(events->payload, "payload", 7) == 0);
    batpak_batch_free(batch);
    CHECK(batpak_batch_events(live[BATCH], &n)->sequence == 0 && n == 1);
    CHECK(batpak_gap_list_dropped(live[GAP_LIST]) == 0 && batpak_checkpoint_position(live[CHECKPOINT]) == 1);
    CHECK(batpak_checkpoint_list_count(live[CHECKPOINT_LIST]) > 0 && batpak_entity_list_entities(live[ENTITY_LIST], &n) != NULL);
    CHECK(batpak_error_code(live[ERROR]) == BATPAK_E_INVALID_ARGUMENT);
    CHECK_OK(batpak_cursor_rewind(live[CURSOR], &error), error);
    CHECK_STATUS(batpak_worker_join(live[WORKER], 0, &error), BATPAK_TIMEOUT, error);
    batpak_fence_t *fence = NULL;
    CHECK_OK(batpak_fence_begin(store, NULL, &fence, &error), error);
    CHECK_OK(batpak_fence_commit(fence, 0, &error), error);
    batpak_fence_free(fence);
}

#endif
