/* RocksDB: events by sequence, and a column family of entity and sequence that says which events an entity has.
 *
 * PROCESS writes its log without a sync, STORAGE with one, which threads that come together share. Sequences are given before the
 * write, and writes end in any order: readers see only up to the first one that has not ended.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "backend.h"
#include "measure.h"
#include "record.h"

enum { EVENTS, SEQUENCES, CONSUMERS, FAMILIES };
enum { ENTITY_BYTES_MAX = 1024, GETS_MAX = 1024 };

/* Writes under way may be so many events apart. */
#define WINDOW ((uint64_t)1 << 17)

struct store_t {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_writeoptions_t *write, *write_synced;
    rocksdb_readoptions_t *get;
    rocksdb_column_family_handle_t *families[FAMILIES];
    durability_t durability;
    _Atomic uint64_t next, visible;
    pthread_mutex_t lock;
    /* Where a write that has ended began: one past its last sequence. */
    uint64_t *ends;
};

struct reader_t {
    store_t *store;
    rocksdb_readoptions_t *scan;
    /* NULL when all that it saw was delivered. */
    rocksdb_iterator_t *iterator;
    filter_t filter;
    char *name, upper[ENTITY_BYTES_MAX + 8];
    /* The iterator saw everything below `bound`. */
    uint64_t next, bound;
};

static void check(char *error, const char *what) {
    if (__builtin_expect(error != NULL, 0)) {
        errno = 0;
        die("RocksDB: %s: %s", what, error);
    }
}

static const char *version(void) {
    return ROCKSDB_VERSION;
}

static rocksdb_options_t *make_options(void) {
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_create_missing_column_families(options, 1);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_increase_parallelism(options, 4);
    rocksdb_options_set_write_buffer_size(options, (size_t)64 << 20);
    rocksdb_options_set_max_write_buffer_number(options, 4);
    rocksdb_options_set_max_total_wal_size(options, (uint64_t)512 << 20);
    rocksdb_options_set_skip_stats_update_on_db_open(options, 1);
    rocksdb_options_set_keep_log_file_num(options, 1);

    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_cache_t *cache = rocksdb_cache_create_lru((size_t)512 << 20);
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_block_size(table, (size_t)16 << 10);
    rocksdb_block_based_options_set_format_version(table, 5);
    const int hashed = rocksdb_block_based_table_data_block_index_type_binary_search_and_hash;
    rocksdb_block_based_options_set_data_block_index_type(table, hashed);
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_cache_destroy(cache);
    rocksdb_block_based_options_destroy(table);
    return options;
}

/* One past the last sequence in the store. */
static uint64_t find_end(store_t *store) {
    rocksdb_iterator_t *iterator = rocksdb_create_iterator_cf(store->db, store->get, store->families[EVENTS]);
    char *error = NULL;
    uint64_t sequence, end = 0;
    size_t bytes;
    rocksdb_iter_seek_to_last(iterator);
    if (rocksdb_iter_valid(iterator)) {
        memcpy(&sequence, rocksdb_iter_key(iterator, &bytes), sizeof sequence);
        end = __builtin_bswap64(sequence) + 1;
    }
    rocksdb_iter_get_error(iterator, &error);
    check(error, "reading the last event");
    rocksdb_iter_destroy(iterator);
    return end;
}

static store_t *open_store(const char *directory, durability_t durability) {
    static const char *const names[FAMILIES] = {"default", "sequences", "consumers"};
    store_t *store = allocate(1, sizeof *store);
    char *error = NULL;
    store->durability = durability;
    store->options = make_options();
    store->write = rocksdb_writeoptions_create();
    store->write_synced = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(store->write_synced, 1);
    store->get = rocksdb_readoptions_create();
    store->ends = allocate(WINDOW, sizeof *store->ends);
    if (pthread_mutex_init(&store->lock, NULL) != 0) {
        die("pthread_mutex_init");
    }
    const rocksdb_options_t *const options[FAMILIES] = {store->options, store->options, store->options};
    store->db = rocksdb_open_column_families(store->options, directory, FAMILIES, names, options, store->families, &error);
    check(error, directory);
    store->next = store->visible = find_end(store);
    return store;
}

static void close_store(store_t *store) {
    rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(flush, 1);
    for (size_t i = 0; i < FAMILIES; i++) {
        char *error = NULL;
        rocksdb_flush_cf(store->db, flush, store->families[i], &error);
        check(error, "flush");
    }
    rocksdb_flushoptions_destroy(flush);
    for (size_t i = 0; i < FAMILIES; i++) {
        rocksdb_column_family_handle_destroy(store->families[i]);
    }
    rocksdb_close(store->db);
    rocksdb_readoptions_destroy(store->get);
    rocksdb_writeoptions_destroy(store->write);
    rocksdb_writeoptions_destroy(store->write_synced);
    rocksdb_options_destroy(store->options);
    pthread_mutex_destroy(&store->lock);
    free(store->ends);
    free(store);
}

static uint64_t count_events(store_t *store) {
    return store->visible;
}

/* A write has ended: moves the end of what is visible as far as writes have ended without a hole. */
static void end_write(store_t *store, uint64_t first, uint64_t end) {
    pthread_mutex_lock(&store->lock);
    uint64_t visible = store->visible;
    store->ends[first % WINDOW] = end;
    for (uint64_t ended; (ended = store->ends[visible % WINDOW]) > visible;) {
        visible = ended;
    }
    store->visible = visible;
    pthread_mutex_unlock(&store->lock);
}

/* What a thread writes with, for as long as it lives. */
typedef struct scratch_t {
    rocksdb_writebatch_t *batch;
    char index[ENTITY_BYTES_MAX + 8], *record;
    size_t capacity;
} scratch_t;

static pthread_key_t scratch_key;

static void free_scratch(void *user_data) {
    scratch_t *scratch = user_data;
    rocksdb_writebatch_destroy(scratch->batch);
    free(scratch->record);
    free(scratch);
}

static void make_scratch_key(void) {
    if ((errno = pthread_key_create(&scratch_key, free_scratch)) != 0) {
        die("pthread_key_create");
    }
}

static scratch_t *scratch_of_thread(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static _Thread_local scratch_t *scratch;
    if (scratch == NULL) {
        pthread_once(&once, make_scratch_key);
        scratch = allocate(1, sizeof *scratch);
        scratch->batch = rocksdb_writebatch_create();
        if ((errno = pthread_setspecific(scratch_key, scratch)) != 0) {
            die("pthread_setspecific");
        }
    }
    return scratch;
}

static void put(store_t *store, scratch_t *scratch, const log_event_t *event, uint64_t time_us, uint64_t sequence) {
    uint64_t key = __builtin_bswap64(sequence);
    size_t bytes = record_bytes(event);
    if (bytes > scratch->capacity) {
        free(scratch->record);
        scratch->record = allocate(1, scratch->capacity = bytes);
    }
    record_write(scratch->record, event, time_us, sequence);
    memcpy(scratch->index, event->entity, event->entity_bytes);
    memcpy(scratch->index + event->entity_bytes, &key, sizeof key);
    rocksdb_writebatch_put_cf(scratch->batch, store->families[EVENTS], (const char *)&key, sizeof key, scratch->record, bytes);
    rocksdb_writebatch_put_cf(scratch->batch, store->families[SEQUENCES], scratch->index, event->entity_bytes + sizeof key, "", 0);
}

static void append(store_t *store, const log_event_t *events, size_t n) {
    scratch_t *scratch = scratch_of_thread();
    char *error = NULL;
    uint64_t time_us = wall_time_us(), first = atomic_fetch_add(&store->next, n);
    for (size_t i = 0; i < n; i++) {
        put(store, scratch, &events[i], time_us, first + i);
    }
    rocksdb_write(store->db, store->durability == STORAGE ? store->write_synced : store->write, scratch->batch, &error);
    check(error, "write");
    rocksdb_writebatch_clear(scratch->batch);
    end_write(store, first, first + n);
}

static void sync_store(store_t *store) {
    char *error = NULL;
    rocksdb_flush_wal(store->db, 1, &error);
    check(error, "flush_wal");
}

/* What compaction has not come to. */
static void settle(store_t *store) {
    for (size_t i = 0; i < FAMILIES; i++) {
        rocksdb_compact_range_cf(store->db, store->families[i], NULL, 0, NULL, 0);
    }
}

static reader_t *open_reader(store_t *store, const filter_t *filter, const char *name) {
    reader_t *reader = allocate(1, sizeof *reader);
    reader->store = store;
    reader->filter = *filter;
    reader->scan = rocksdb_readoptions_create();
    if (name != NULL) {
        char *error = NULL, *value;
        size_t bytes;
        if (store->durability != STORAGE || (reader->name = strdup(name)) == NULL) {
            die("a reader named %s", name);
        }
        value = rocksdb_get_cf(store->db, store->get, store->families[CONSUMERS], name, strlen(name), &bytes, &error);
        check(error, "reading a position");
        if (value != NULL) {
            memcpy(&reader->next, value, sizeof reader->next);
            rocksdb_free(value);
        }
    }
    if (filter->by == FILTER_ENTITY) {
        memcpy(reader->upper, filter->text, filter->text_bytes);
        memset(reader->upper + filter->text_bytes, 0xFF, 8);
        rocksdb_readoptions_set_iterate_upper_bound(reader->scan, reader->upper, filter->text_bytes + 8);
    }
    return reader;
}

/* An iterator at the first event that was not delivered. False: there is none. */
static bool begin_scan(reader_t *reader) {
    store_t *store = reader->store;
    if (reader->iterator != NULL) {
        return true;
    }
    if ((reader->bound = store->visible) <= reader->next) {
        return false;
    }
    uint64_t key = __builtin_bswap64(reader->next);
    char index[ENTITY_BYTES_MAX + 8];
    if (reader->filter.by == FILTER_ENTITY) {
        memcpy(index, reader->filter.text, reader->filter.text_bytes);
        memcpy(index + reader->filter.text_bytes, &key, sizeof key);
        reader->iterator = rocksdb_create_iterator_cf(store->db, reader->scan, store->families[SEQUENCES]);
        rocksdb_iter_seek(reader->iterator, index, reader->filter.text_bytes + sizeof key);
    } else {
        reader->iterator = rocksdb_create_iterator_cf(store->db, reader->scan, store->families[EVENTS]);
        rocksdb_iter_seek(reader->iterator, (const char *)&key, sizeof key);
    }
    return true;
}

static void end_scan(reader_t *reader) {
    char *error = NULL;
    rocksdb_iter_get_error(reader->iterator, &error);
    check(error, "iterating");
    rocksdb_iter_destroy(reader->iterator);
    reader->iterator = NULL;
    reader->next = reader->bound;
}

/* The sequence at the end of a key, if it is one to be delivered. */
static bool sequence_at(reader_t *reader, uint64_t *sequence) {
    size_t bytes;
    if (!rocksdb_iter_valid(reader->iterator)) {
        return false;
    }
    const char *key = rocksdb_iter_key(reader->iterator, &bytes);
    memcpy(sequence, key + bytes - sizeof *sequence, sizeof *sequence);
    *sequence = __builtin_bswap64(*sequence);
    return *sequence < reader->bound;
}

static size_t poll_log(reader_t *reader, size_t most, visit_fn visit, void *user_data) {
    size_t n = 0;
    for (uint64_t sequence; n < most; rocksdb_iter_next(reader->iterator)) {
        size_t bytes;
        if (!sequence_at(reader, &sequence)) {
            end_scan(reader);
            break;
        }
        const char *record = rocksdb_iter_value(reader->iterator, &bytes);
        n += record_visit(record, bytes, sequence, &reader->filter, visit, user_data);
        reader->next = sequence + 1;
    }
    return n;
}

/* Collects sequences from the index, then reads their events at once. */
static size_t poll_entity(reader_t *reader, size_t most, visit_fn visit, void *user_data) {
    static _Thread_local uint64_t sequences[GETS_MAX], keys[GETS_MAX];
    static _Thread_local const char *key_pointers[GETS_MAX];
    static _Thread_local size_t key_bytes[GETS_MAX];
    static _Thread_local rocksdb_pinnableslice_t *values[GETS_MAX];
    static _Thread_local char *errors[GETS_MAX];
    store_t *store = reader->store;
    size_t n = 0;
    for (; n < most && n < GETS_MAX; rocksdb_iter_next(reader->iterator), n++) {
        if (!sequence_at(reader, &sequences[n])) {
            end_scan(reader);
            break;
        }
        keys[n] = __builtin_bswap64(sequences[n]);
        key_pointers[n] = (const char *)&keys[n];
        key_bytes[n] = sizeof keys[n];
        reader->next = sequences[n] + 1;
    }
    if (n > 0) {
        rocksdb_batched_multi_get_cf(store->db, store->get, store->families[EVENTS], n, key_pointers, key_bytes, values, errors,
                                     true);
    }
    for (size_t i = 0; i < n; i++) {
        size_t bytes;
        check(errors[i], "multi_get");
        const char *record = values[i] != NULL ? rocksdb_pinnableslice_value(values[i], &bytes) : NULL;
        if (record == NULL) {
            die("RocksDB: the index names an event that is not there");
        }
        record_visit(record, bytes, sequences[i], &reader->filter, visit, user_data);
        rocksdb_pinnableslice_destroy(values[i]);
    }
    return n;
}

static size_t poll_reader(reader_t *reader, size_t most, visit_fn visit, void *user_data) {
    if (!begin_scan(reader)) {
        return 0;
    }
    return reader->filter.by == FILTER_ENTITY ? poll_entity(reader, most, visit, user_data)
                                              : poll_log(reader, most, visit, user_data);
}

static void checkpoint(reader_t *reader) {
    store_t *store = reader->store;
    char *error = NULL;
    rocksdb_put_cf(store->db, store->write_synced, store->families[CONSUMERS], reader->name, strlen(reader->name),
                   (const char *)&reader->next, sizeof reader->next, &error);
    check(error, "writing a position");
}

static void close_reader(reader_t *reader) {
    if (reader->iterator != NULL) {
        rocksdb_iter_destroy(reader->iterator);
    }
    rocksdb_readoptions_destroy(reader->scan);
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
    .settle = settle,
};
