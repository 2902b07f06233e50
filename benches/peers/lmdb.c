/* LMDB: events by sequence, which are appended, and sequences by entity, sorted duplicates of fixed size.
 *
 * STORAGE is what LMDB does unasked: data and meta page synced at each commit. The others are MDB_NOSYNC, which kill -9 cannot hurt
 * because the kernel has all pages of a commit, and MDB_WRITEMAP, which is faster by far without syncs and no faster with them. LMDB
 * lets one thread write at a time, and each commit is one sync.
 */
#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>

#include "backend.h"
#include "measure.h"
#include "record.h"

#define MAP_BYTES ((size_t)64 << 30)

struct store_t {
    MDB_env *environment;
    MDB_dbi events, sequences, consumers;
    durability_t durability;
    /* Belongs to whoever is in a write transaction. */
    uint64_t next;
};

struct reader_t {
    store_t *store;
    MDB_txn *transaction;
    MDB_cursor *events, *sequences;
    filter_t filter;
    char *name;
    uint64_t next;
};

#define OK(call) check((call), #call)

static void check(int code, const char *call) {
    if (__builtin_expect(code != MDB_SUCCESS, 0)) {
        errno = 0;
        die("LMDB: %s: %s", call, mdb_strerror(code));
    }
}

static const char *version(void) {
    static char text[32];
    int major, minor, patch;
    mdb_version(&major, &minor, &patch);
    snprintf(text, sizeof text, "%d.%d.%d", major, minor, patch);
    return text;
}

static uint64_t last_sequence(MDB_txn *transaction, MDB_dbi events) {
    MDB_cursor *cursor;
    MDB_val key, value;
    uint64_t sequence = NONE;
    OK(mdb_cursor_open(transaction, events, &cursor));
    int code = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    if (code != MDB_NOTFOUND) {
        check(code, "mdb_cursor_get");
        memcpy(&sequence, key.mv_data, sizeof sequence);
    }
    mdb_cursor_close(cursor);
    return sequence;
}

static store_t *open_store(const char *directory, durability_t durability) {
    store_t *store = allocate(1, sizeof *store);
    MDB_txn *transaction;
    make_directory(directory);
    store->durability = durability;
    OK(mdb_env_create(&store->environment));
    OK(mdb_env_set_mapsize(store->environment, MAP_BYTES));
    OK(mdb_env_set_maxdbs(store->environment, 3));
    unsigned int flags = durability == STORAGE ? 0 : MDB_NOSYNC | MDB_WRITEMAP;
    OK(mdb_env_open(store->environment, directory, MDB_NOTLS | flags, 0600));
    OK(mdb_txn_begin(store->environment, NULL, 0, &transaction));
    OK(mdb_dbi_open(transaction, "events", MDB_CREATE | MDB_INTEGERKEY, &store->events));
    OK(mdb_dbi_open(transaction, "sequences", MDB_CREATE | MDB_DUPSORT | MDB_DUPFIXED | MDB_INTEGERDUP, &store->sequences));
    OK(mdb_dbi_open(transaction, "consumers", MDB_CREATE, &store->consumers));
    store->next = last_sequence(transaction, store->events) + 1;
    OK(mdb_txn_commit(transaction));
    return store;
}

static void close_store(store_t *store) {
    OK(mdb_env_sync(store->environment, 1));
    mdb_env_close(store->environment);
    free(store);
}

static uint64_t count_events(store_t *store) {
    return store->next;
}

static void append(store_t *store, const log_event_t *events, size_t n) {
    MDB_txn *transaction;
    OK(mdb_txn_begin(store->environment, NULL, 0, &transaction));
    uint64_t time_us = wall_time_us();
    for (size_t i = 0; i < n; i++, store->next++) {
        MDB_val sequence = {sizeof store->next, &store->next};
        MDB_val record = {record_bytes(&events[i]), NULL};
        MDB_val entity = {events[i].entity_bytes, (void *)(uintptr_t)events[i].entity};
        OK(mdb_put(transaction, store->events, &sequence, &record, MDB_APPEND | MDB_RESERVE));
        record_write(record.mv_data, &events[i], time_us, store->next);
        OK(mdb_put(transaction, store->sequences, &entity, &sequence, MDB_APPENDDUP));
    }
    OK(mdb_txn_commit(transaction));
}

static void sync_store(store_t *store) {
    OK(mdb_env_sync(store->environment, 1));
}

static reader_t *open_reader(store_t *store, const filter_t *filter, const char *name) {
    reader_t *reader = allocate(1, sizeof *reader);
    reader->store = store;
    reader->filter = *filter;
    if (name != NULL && (store->durability != STORAGE || (reader->name = strdup(name)) == NULL)) {
        die("a reader named %s", name);
    }
    OK(mdb_txn_begin(store->environment, NULL, MDB_RDONLY, &reader->transaction));
    OK(mdb_cursor_open(reader->transaction, store->events, &reader->events));
    OK(mdb_cursor_open(reader->transaction, store->sequences, &reader->sequences));
    if (name != NULL) {
        MDB_val key = {strlen(name), reader->name}, value;
        int code = mdb_get(reader->transaction, store->consumers, &key, &value);
        if (code != MDB_NOTFOUND) {
            check(code, "mdb_get");
            memcpy(&reader->next, value.mv_data, sizeof reader->next);
        }
    }
    mdb_txn_reset(reader->transaction);
    return reader;
}

static size_t poll_log(reader_t *reader, size_t most, visit_fn visit, void *user_data) {
    MDB_val key = {sizeof reader->next, &reader->next}, record;
    size_t n = 0;
    int code = mdb_cursor_get(reader->events, &key, &record, MDB_SET_RANGE);
    for (; code == MDB_SUCCESS; code = mdb_cursor_get(reader->events, &key, &record, MDB_NEXT)) {
        uint64_t sequence;
        memcpy(&sequence, key.mv_data, sizeof sequence);
        reader->next = sequence + 1;
        n += record_visit(record.mv_data, record.mv_size, sequence, &reader->filter, visit, user_data);
        if (n == most) {
            return n;
        }
    }
    check(code == MDB_NOTFOUND ? MDB_SUCCESS : code, "mdb_cursor_get");
    return n;
}

/* The entity's sequences come a page at once; each event is then looked up. */
static size_t poll_entity(reader_t *reader, size_t most, visit_fn visit, void *user_data) {
    MDB_val entity = {reader->filter.text_bytes, (void *)(uintptr_t)reader->filter.text};
    MDB_val value = {sizeof reader->next, &reader->next};
    size_t n = 0;
    int code = mdb_cursor_get(reader->sequences, &entity, &value, MDB_GET_BOTH_RANGE);
    for (; code == MDB_SUCCESS && n < most; code = mdb_cursor_get(reader->sequences, &entity, &value, MDB_NEXT_DUP)) {
        uint64_t sequence;
        MDB_val key = {sizeof sequence, &sequence}, record;
        memcpy(&sequence, value.mv_data, sizeof sequence);
        OK(mdb_cursor_get(reader->events, &key, &record, MDB_SET));
        n += record_visit(record.mv_data, record.mv_size, sequence, &reader->filter, visit, user_data);
        reader->next = sequence + 1;
    }
    check(code == MDB_NOTFOUND ? MDB_SUCCESS : code, "mdb_cursor_get");
    return n;
}

static size_t poll_reader(reader_t *reader, size_t most, visit_fn visit, void *user_data) {
    OK(mdb_txn_renew(reader->transaction));
    OK(mdb_cursor_renew(reader->transaction, reader->events));
    OK(mdb_cursor_renew(reader->transaction, reader->sequences));
    size_t n = reader->filter.by == FILTER_ENTITY ? poll_entity(reader, most, visit, user_data)
                                                  : poll_log(reader, most, visit, user_data);
    mdb_txn_reset(reader->transaction);
    return n;
}

static void checkpoint(reader_t *reader) {
    MDB_txn *transaction;
    MDB_val key = {strlen(reader->name), reader->name}, value = {sizeof reader->next, &reader->next};
    OK(mdb_txn_begin(reader->store->environment, NULL, 0, &transaction));
    OK(mdb_put(transaction, reader->store->consumers, &key, &value, 0));
    OK(mdb_txn_commit(transaction));
}

static void close_reader(reader_t *reader) {
    mdb_cursor_close(reader->events);
    mdb_cursor_close(reader->sequences);
    mdb_txn_abort(reader->transaction);
    free(reader->name);
    free(reader);
}

const backend_t backend = {
    .version = version,
    .open = open_store,
    .close = close_store,
    .count = count_events,
    .append = append,
    .sync = sync_store,
    .reader = open_reader,
    .poll = poll_reader,
    .checkpoint = checkpoint,
    .close_reader = close_reader,
};
