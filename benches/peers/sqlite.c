/* SQLite: a table of events with an index of entities, and a table of consumers.
 *
 * WAL. PROCESS is synchronous=OFF, which kill -9 cannot hurt; STORAGE is FULL, a sync of the WAL per commit. AHEAD is NORMAL, which
 * syncs before it checkpoints, and a commit with FULL at each sync. One connection writes, under a mutex: it holds the file's locks
 * until somebody reads (EXCLUSIVE). Each reader that is open has a connection, and leaves it with its statements to the next one.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "backend.h"
#include "measure.h"
#include "record.h"

enum { FILTERS = 4 };

typedef struct connection_t {
    sqlite3 *db;
    /* Prepared when it is first asked for. */
    sqlite3_stmt *selects[FILTERS];
    struct connection_t *next;
} connection_t;

struct store_t {
    pthread_mutex_t lock;
    sqlite3 *writer;
    sqlite3_stmt *begin, *commit, *insert, *save, *mark;
    char path[PATH_MAX];
    durability_t durability;
    uint64_t next;
    bool was_read;
    connection_t *idle;
};

struct reader_t {
    store_t *store;
    connection_t *connection;
    sqlite3_stmt *select;
    char *name;
    uint64_t next;
};

static void check(int code, int expected, sqlite3 *connection, const char *what) {
    if (__builtin_expect(code != expected, 0)) {
        errno = 0;
        die("SQLite: %s: %s", what, connection != NULL ? sqlite3_errmsg(connection) : sqlite3_errstr(code));
    }
}

static void execute(sqlite3 *connection, const char *sql) {
    check(sqlite3_exec(connection, sql, NULL, NULL, NULL), SQLITE_OK, connection, sql);
}

static sqlite3_stmt *prepare(sqlite3 *connection, const char *sql) {
    sqlite3_stmt *statement;
    check(sqlite3_prepare_v3(connection, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL), SQLITE_OK, connection, sql);
    return statement;
}

/* Runs a statement that returns no rows. */
static void run(sqlite3_stmt *statement) {
    sqlite3 *connection = sqlite3_db_handle(statement);
    check(sqlite3_step(statement), SQLITE_DONE, connection, sqlite3_sql(statement));
    check(sqlite3_reset(statement), SQLITE_OK, connection, sqlite3_sql(statement));
}

/* The one number that a query answers with; NONE when that is NULL, or there is no row. */
static uint64_t query_number(sqlite3 *connection, sqlite3_stmt *statement) {
    uint64_t number = NONE;
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        if (sqlite3_column_type(statement, 0) == SQLITE_INTEGER) {
            number = (uint64_t)sqlite3_column_int64(statement, 0);
        }
        code = sqlite3_step(statement);
    }
    check(code, SQLITE_DONE, connection, sqlite3_sql(statement));
    check(sqlite3_finalize(statement), SQLITE_OK, connection, "finalize");
    return number;
}

static sqlite3 *open_connection(const char *path) {
    sqlite3 *connection;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    check(sqlite3_open_v2(path, &connection, flags, NULL), SQLITE_OK, NULL, path);
    check(sqlite3_busy_timeout(connection, 10000), SQLITE_OK, connection, "busy_timeout");
    execute(connection, "PRAGMA mmap_size=2147418112; PRAGMA cache_size=-262144; PRAGMA temp_store=MEMORY");
    return connection;
}

static const char *version(void) {
    return sqlite3_libversion();
}

static const char *const synchronous[] = {[PROCESS] = "PRAGMA synchronous=OFF",
                                          [STORAGE] = "PRAGMA synchronous=FULL",
                                          [AHEAD] = "PRAGMA synchronous=NORMAL"};

/* Spares every allocation a lock and a count. */
static void configure(void) {
    check(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0), SQLITE_OK, NULL, "config");
}

static store_t *open_store(const char *directory, durability_t durability) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, configure);
    store_t *store = allocate(1, sizeof *store);
    make_directory(directory);
    store->durability = durability;
    snprintf(store->path, sizeof store->path, "%s/log.sqlite", directory);
    if (pthread_mutex_init(&store->lock, NULL) != 0) {
        die("pthread_mutex_init");
    }
    sqlite3 *writer = store->writer = open_connection(store->path);
    execute(writer, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=16000");
    execute(writer, synchronous[durability]);
    execute(writer, "CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, id BLOB, time INTEGER, entity TEXT, scope TEXT,"
                    " kind INTEGER, cause INTEGER, payload BLOB);"
                    "CREATE INDEX IF NOT EXISTS events_of_entity ON events (entity);"
                    "CREATE TABLE IF NOT EXISTS consumers (name TEXT PRIMARY KEY, position INTEGER) WITHOUT ROWID;"
                    "CREATE TABLE IF NOT EXISTS marks (n INTEGER PRIMARY KEY, value INTEGER)");
    /* The WAL's index exists by now, so that the mode can be left again. */
    execute(writer, "PRAGMA locking_mode=EXCLUSIVE");
    store->begin = prepare(writer, "BEGIN IMMEDIATE");
    store->commit = prepare(writer, "COMMIT");
    store->insert = prepare(writer, "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
    store->save = prepare(writer, "INSERT OR REPLACE INTO consumers VALUES (?1, ?2)");
    store->mark = prepare(writer, "INSERT OR REPLACE INTO marks VALUES (1, ?1)");
    store->next = query_number(writer, prepare(writer, "SELECT max(seq) FROM events")) + 1;
    return store;
}

static void close_store(store_t *store) {
    for (connection_t *connection = store->idle, *next; connection != NULL; connection = next) {
        next = connection->next;
        for (size_t i = 0; i < FILTERS; i++) {
            check(sqlite3_finalize(connection->selects[i]), SQLITE_OK, connection->db, "finalize");
        }
        check(sqlite3_close(connection->db), SQLITE_OK, NULL, "close");
        free(connection);
    }
    sqlite3_stmt *statements[] = {store->begin, store->commit, store->insert, store->save, store->mark};
    if (store->durability != STORAGE) {
        execute(store->writer, synchronous[STORAGE]);
    }
    execute(store->writer, "PRAGMA wal_checkpoint(TRUNCATE)");
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        check(sqlite3_finalize(statements[i]), SQLITE_OK, store->writer, "finalize");
    }
    check(sqlite3_close(store->writer), SQLITE_OK, NULL, "close");
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static void insert(store_t *store, const log_event_t *event, uint64_t time_us) {
    sqlite3_stmt *statement = store->insert;
    uint8_t id[16];
    make_id(id, time_us, store->next);
    int code = sqlite3_bind_int64(statement, 1, (sqlite3_int64)store->next);
    code |= sqlite3_bind_blob(statement, 2, id, sizeof id, SQLITE_STATIC);
    code |= sqlite3_bind_int64(statement, 3, (sqlite3_int64)time_us);
    code |= sqlite3_bind_text(statement, 4, event->entity, (int)event->entity_bytes, SQLITE_STATIC);
    code |= sqlite3_bind_text(statement, 5, event->scope, (int)event->scope_bytes, SQLITE_STATIC);
    code |= sqlite3_bind_int(statement, 6, event->kind);
    code |= event->cause != NONE ? sqlite3_bind_int64(statement, 7, (sqlite3_int64)event->cause)
                                 : sqlite3_bind_null(statement, 7);
    code |= sqlite3_bind_blob(statement, 8, event->payload, (int)event->payload_bytes, SQLITE_STATIC);
    check(code, SQLITE_OK, store->writer, "bind");
    run(statement);
    store->next++;
}

static uint64_t count_events(store_t *store) {
    return store->next;
}

static void append(store_t *store, const log_event_t *events, size_t n) {
    pthread_mutex_lock(&store->lock);
    uint64_t time_us = wall_time_us();
    if (n > 1) {
        run(store->begin);
    }
    for (size_t i = 0; i < n; i++) {
        insert(store, &events[i], time_us);
    }
    if (n > 1) {
        run(store->commit);
    }
    pthread_mutex_unlock(&store->lock);
}

/* A commit that syncs the WAL, and with it all commits before. */
static void sync_store(store_t *store) {
    pthread_mutex_lock(&store->lock);
    execute(store->writer, synchronous[STORAGE]);
    check(sqlite3_bind_int64(store->mark, 1, (sqlite3_int64)store->next), SQLITE_OK, store->writer, "bind");
    run(store->mark);
    execute(store->writer, synchronous[store->durability]);
    pthread_mutex_unlock(&store->lock);
}

/* The first reader ends the writer's hold on the file. */
static connection_t *take_connection(store_t *store) {
    pthread_mutex_lock(&store->lock);
    if (!store->was_read) {
        execute(store->writer, "PRAGMA locking_mode=NORMAL; SELECT count(*) FROM marks");
        store->was_read = true;
    }
    connection_t *connection = store->idle;
    if (connection != NULL) {
        store->idle = connection->next;
    }
    pthread_mutex_unlock(&store->lock);
    if (connection == NULL) {
        connection = allocate(1, sizeof *connection);
        connection->db = open_connection(store->path);
    }
    return connection;
}

static sqlite3_stmt *select_of(connection_t *connection, const filter_t *filter) {
    static const char *const selects[FILTERS] = {
        [FILTER_ALL] = "SELECT seq, payload FROM events WHERE seq >= ?1 ORDER BY seq LIMIT ?2",
        [FILTER_ENTITY] = "SELECT seq, payload FROM events WHERE entity = ?3 AND seq >= ?1 ORDER BY seq LIMIT ?2",
        [FILTER_SCOPE] = "SELECT seq, payload FROM events WHERE seq >= ?1 AND scope = ?3 ORDER BY seq LIMIT ?2",
        [FILTER_KIND] = "SELECT seq, payload FROM events WHERE seq >= ?1 AND kind = ?3 ORDER BY seq LIMIT ?2",
    };
    sqlite3_stmt *select = connection->selects[filter->by];
    if (select == NULL) {
        select = connection->selects[filter->by] = prepare(connection->db, selects[filter->by]);
    }
    int code = SQLITE_OK;
    if (filter->by == FILTER_KIND) {
        code = sqlite3_bind_int(select, 3, filter->kind);
    } else if (filter->by != FILTER_ALL) {
        code = sqlite3_bind_text(select, 3, filter->text, (int)filter->text_bytes, SQLITE_STATIC);
    }
    check(code, SQLITE_OK, connection->db, "bind");
    return select;
}

static reader_t *open_reader(store_t *store, const filter_t *filter, const char *name) {
    reader_t *reader = allocate(1, sizeof *reader);
    reader->store = store;
    reader->connection = take_connection(store);
    reader->select = select_of(reader->connection, filter);
    if (name != NULL) {
        if (store->durability != STORAGE || (reader->name = strdup(name)) == NULL) {
            die("a reader named %s", name);
        }
        sqlite3 *db = reader->connection->db;
        sqlite3_stmt *load = prepare(db, "SELECT position FROM consumers WHERE name = ?1");
        check(sqlite3_bind_text(load, 1, name, -1, SQLITE_STATIC), SQLITE_OK, db, "bind");
        uint64_t position = query_number(db, load);
        reader->next = position != NONE ? position : 0;
    }
    return reader;
}

static size_t poll_reader(reader_t *reader, size_t most, visit_fn visit, void *user_data) {
    sqlite3 *db = reader->connection->db;
    sqlite3_stmt *select = reader->select;
    size_t n = 0;
    int code = sqlite3_bind_int64(select, 1, (sqlite3_int64)reader->next);
    code |= sqlite3_bind_int64(select, 2, (sqlite3_int64)most);
    check(code, SQLITE_OK, db, "bind");
    while ((code = sqlite3_step(select)) == SQLITE_ROW) {
        uint64_t sequence = (uint64_t)sqlite3_column_int64(select, 0);
        const void *payload = sqlite3_column_blob(select, 1);
        visit(user_data, sequence, payload, (size_t)sqlite3_column_bytes(select, 1));
        reader->next = sequence + 1;
        n++;
    }
    check(code, SQLITE_DONE, db, "select");
    check(sqlite3_reset(select), SQLITE_OK, db, "reset");
    return n;
}

static void checkpoint(reader_t *reader) {
    store_t *store = reader->store;
    pthread_mutex_lock(&store->lock);
    int code = sqlite3_bind_text(store->save, 1, reader->name, -1, SQLITE_STATIC);
    code |= sqlite3_bind_int64(store->save, 2, (sqlite3_int64)reader->next);
    check(code, SQLITE_OK, store->writer, "bind");
    run(store->save);
    pthread_mutex_unlock(&store->lock);
}

static void close_reader(reader_t *reader) {
    store_t *store = reader->store;
    pthread_mutex_lock(&store->lock);
    reader->connection->next = store->idle;
    store->idle = reader->connection;
    pthread_mutex_unlock(&store->lock);
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
