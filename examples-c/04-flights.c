/* Counts flights: a resumable import, and a durable worker whose result survives a kill at any instant, counted once.
 *
 *     flights [--dir DIR] [--durability storage|process] [--batch ROWS] [--crash-after EVENTS] FILE|-
 *
 * FILE is the flights table of nycflights13 as CSV ("-" = standard input). Each row becomes one event:
 *
 *     entity    plane:TAILNUM (plane:unknown where the tail number is NA)
 *     scope     the origin airport
 *     kind      KIND_FLOWN, or KIND_CANCELLED where dep_time is NA
 *     payload   the row, as it stands in the file
 *     cause     the plane's previous flight in the file; none for plane:unknown, which is not one plane
 *     key       time_hour, carrier and flight, which no two rows of a year share
 *
 * DIR is the store's data directory, of this program alone. DIR/table.txt, beside the library's files, is what the worker
 * has made of it so far: the counts per carrier, and the sequence of the first event that is not in them. The table goes
 * to standard output, progress to standard error.
 *
 * How the import resumes: it does not. Every run appends every row, and the library appends those whose key it does not
 * know; of the others it returns the first receipt, which has the id that the plane's next flight names as its cause. So
 * rows may come again, in the same file, a shorter or a longer one. A row that was changed since is refused by its line.
 *
 * How each event is counted once: the counts and their next_sequence are replaced together, by one rename. At the start
 * the worker's checkpoint is set to the file's next_sequence, so that no event below it is read; and the handler skips
 * what lies below it, since a batch that failed after the rename is delivered again.
 *
 * --crash-after kills the process (SIGKILL) when this run has counted EVENTS: in the middle of a batch, after the file
 * was replaced and before the checkpoint follows. The next run ends with the table of an uninterrupted one.
 */
#define _XOPEN_SOURCE 700
#include <batpak.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <search.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define KIND_CATEGORY_FLIGHT 1
#define KIND_FLOWN 0x1001     /* category 1, type 1 */
#define KIND_CANCELLED 0x1002 /* category 1, type 2 */
#define CHECKPOINT_ID "flights"
#define WORKER_BATCH_EVENTS 4096 /* one table.txt per batch: three syncs */
#define PROGRESS 50000 /* rows or events between two lines */
#define BATCH_ROWS_MAX 100000
#define ROW_BYTES_MAX 255
#define CODE_BYTES_MAX 8 /* carrier, airport, tail number */
#define KEY_BYTES_MAX 64
#define CARRIERS_MAX 64
#define PATH_BYTES_MAX 4096

static const char HEADER[] = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,"
                             "flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour";

static int complain(const char *what, const char *message)
{
    fprintf(stderr, "flights: %s: %s\n", what, message);
    return -1;
}

static int complain_errno(const char *what)
{
    return complain(what, strerror(errno));
}

static int complain_batpak(const char *what, batpak_error_t *err)
{
    complain(what, batpak_error_message(err, NULL));
    batpak_error_free(err);
    return -1;
}

/* ---- one row ---------------------------------------------------------------------------------------------------- */

enum column {
    DEP_TIME = 3,
    DEP_DELAY = 5,
    CARRIER = 9,
    FLIGHT = 10,
    TAILNUM = 11,
    ORIGIN = 12,
    DEST = 13,
    TIME_HOUR = 18,
    COLUMNS = 19
};

struct field {
    const char *text;
    size_t length;
};

struct row {
    struct field fields[COLUMNS];
};

static bool is_missing(struct field field)
{
    return field.length == 2 && memcmp(field.text, "NA", 2) == 0;
}

static bool is_code(struct field field)
{
    if (field.length == 0 || field.length > CODE_BYTES_MAX) return false;
    for (size_t i = 0; i < field.length; i++) {
        char c = field.text[i];
        if (!(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9')) return false;
    }
    return true;
}

static bool parse_integer(struct field field, int64_t *value)
{
    size_t sign = field.length > 0 && field.text[0] == '-';
    if (field.length == sign || field.length > sign + 9) return false;
    int64_t magnitude = 0;
    for (size_t i = sign; i < field.length; i++) {
        if (field.text[i] < '0' || field.text[i] > '9') return false;
        magnitude = magnitude * 10 + (field.text[i] - '0');
    }
    *value = sign ? -magnitude : magnitude;
    return true;
}

static const char *field_problem(enum column column, struct field field)
{
    int64_t ignored;
    switch (column) {
    case CARRIER:
    case TAILNUM:
    case ORIGIN:
    case DEST:
        return is_code(field) ? NULL : "carrier, tail number and airports are 1 to 8 of A-Z and 0-9";
    case FLIGHT:
        return parse_integer(field, &ignored) ? NULL : "the flight is not an integer";
    case TIME_HOUR: /* the last field: its end shows that the row is whole */
        return field.length == 20 && field.text[19] == 'Z' ? NULL : "time_hour is not like 2013-01-01T10:00:00Z";
    default:
        return is_missing(field) || parse_integer(field, &ignored) ? NULL : "a number is neither an integer nor NA";
    }
}

/* Splits a row and checks every field; NULL, or what is wrong. The fields point into `text`. */
static const char *row_parse(const char *text, size_t length, struct row *row)
{
    if (length > ROW_BYTES_MAX) return "the row has more than 255 bytes";
    size_t start = 0, column = 0;
    for (size_t i = 0; i <= length; i++) {
        if (i < length && text[i] != ',') continue;
        if (column == COLUMNS) return "the row has more than 19 fields";
        struct field field = {text + start, i - start};
        const char *problem = field_problem((enum column)column, field);
        if (problem) return problem;
        row->fields[column++] = field;
        start = i + 1;
    }
    return column == COLUMNS ? NULL : "the row has fewer than 19 fields";
}

/* ---- the table and its file ------------------------------------------------------------------------------------- */

struct carrier {
    char code[CODE_BYTES_MAX + 1];
    uint64_t flown, cancelled;
    uint64_t delays; /* flown rows whose dep_delay is known */
    int64_t delay_minutes;
};

struct table {
    uint64_t next_sequence; /* the first event that is not counted */
    size_t count;
    struct carrier carriers[CARRIERS_MAX]; /* sorted by code */
};

/* The carrier's line, a new one where there is none yet; NULL when the table is full. */
static struct carrier *table_carrier(struct table *table, struct field code)
{
    size_t at = 0;
    for (; at < table->count; at++) {
        int order = strncmp(table->carriers[at].code, code.text, code.length);
        if (order == 0 && table->carriers[at].code[code.length] == '\0') return &table->carriers[at];
        if (order >= 0) break;
    }
    if (table->count == CARRIERS_MAX) return NULL;
    memmove(&table->carriers[at + 1], &table->carriers[at], (table->count - at) * sizeof table->carriers[0]);
    table->count++;
    table->carriers[at] = (struct carrier){.flown = 0};
    memcpy(table->carriers[at].code, code.text, code.length);
    return &table->carriers[at];
}

/* Counts one event; NULL, or what is wrong with it, and then nothing was counted. */
static const char *table_count(struct table *table, const batpak_event_t *event)
{
    struct row row;
    const char *problem = row_parse((const char *)event->payload, event->payload_len, &row);
    if (problem) return problem;
    struct carrier *carrier = table_carrier(table, row.fields[CARRIER]);
    if (!carrier) return "there are more than 64 carriers";

    int64_t delay;
    if (event->kind == KIND_CANCELLED) {
        carrier->cancelled++;
    } else {
        carrier->flown++;
        if (parse_integer(row.fields[DEP_DELAY], &delay)) {
            carrier->delays++;
            carrier->delay_minutes += delay;
        }
    }
    table->next_sequence = event->sequence + 1;
    return NULL;
}

static void table_print_line(const struct carrier *line)
{
    printf("%-8s%9" PRIu64 "%11" PRIu64, line->code, line->flown + line->cancelled, line->cancelled);
    if (line->delays > 0)
        printf("%12.2f\n", (double)line->delay_minutes / (double)line->delays);
    else
        printf("%12s\n", "NA");
}

static int table_print(const struct table *table)
{
    struct carrier total = {.code = "total"};
    printf("%-8s%9s%11s%12s\n", "carrier", "flights", "cancelled", "mean delay");
    for (size_t i = 0; i < table->count; i++) {
        const struct carrier *line = &table->carriers[i];
        table_print_line(line);
        total.flown += line->flown;
        total.cancelled += line->cancelled;
        total.delays += line->delays;
        total.delay_minutes += line->delay_minutes;
    }
    table_print_line(&total);
    return fflush(stdout) == 0 ? 0 : complain_errno("cannot write the table");
}

static int sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return complain_errno(path);
    int result = fsync(fd) == 0 ? 0 : complain_errno(path);
    close(fd);
    return result;
}

static int path_join(char path[PATH_BYTES_MAX], const char *dir, const char *name)
{
    int length = snprintf(path, PATH_BYTES_MAX, "%s/%s", dir, name);
    return length > 0 && length < PATH_BYTES_MAX ? 0 : complain(dir, "the path is too long");
}

static bool table_write(const struct table *table, FILE *file)
{
    fprintf(file, "next_sequence %" PRIu64 "\ncarriers %zu\n", table->next_sequence, table->count);
    for (size_t i = 0; i < table->count; i++) {
        const struct carrier *line = &table->carriers[i];
        fprintf(file, "%s flown %" PRIu64 " cancelled %" PRIu64 " delays %" PRIu64 " minutes %" PRId64 "\n", line->code,
                line->flown, line->cancelled, line->delays, line->delay_minutes);
    }
    fputs("end\n", file);
    return fflush(file) == 0 && !ferror(file) && fsync(fileno(file)) == 0;
}

/* Replaces DIR/table.txt: after a crash at any point it is the old one or the new one, whole. */
static int table_save(const struct table *table, const char *dir)
{
    char path[PATH_BYTES_MAX], temporary[PATH_BYTES_MAX];
    if (path_join(path, dir, "table.txt") < 0 || path_join(temporary, dir, "table.tmp") < 0) return -1;
    FILE *file = fopen(temporary, "w");
    if (!file) return complain_errno(temporary);
    bool written = table_write(table, file);
    if (fclose(file) != 0 || !written) return complain_errno(temporary);
    if (rename(temporary, path) != 0) return complain_errno(path);
    return sync_directory(dir);
}

static bool table_read(struct table *table, FILE *file)
{
    char end[4] = "";
    if (fscanf(file, "next_sequence %" SCNu64 " carriers %zu", &table->next_sequence, &table->count) != 2) return false;
    if (table->count > CARRIERS_MAX) return false;
    for (size_t i = 0; i < table->count; i++) {
        struct carrier *line = &table->carriers[i];
        if (fscanf(file, "%8s flown %" SCNu64 " cancelled %" SCNu64 " delays %" SCNu64 " minutes %" SCNd64, line->code,
                   &line->flown, &line->cancelled, &line->delays, &line->delay_minutes) != 5)
            return false;
    }
    return fscanf(file, "%3s", end) == 1 && strcmp(end, "end") == 0;
}

/* Reads DIR/table.txt; an empty table where there is none. */
static int table_load(struct table *table, const char *dir)
{
    char path[PATH_BYTES_MAX];
    if (path_join(path, dir, "table.txt") < 0) return -1;
    *table = (struct table){.count = 0};
    FILE *file = fopen(path, "r");
    if (!file) return errno == ENOENT ? 0 : complain_errno(path);
    bool read = table_read(table, file);
    fclose(file);
    return read ? 0 : complain(path, "not a table of this program; delete it to count from the first event again");
}

/* ---- the worker ------------------------------------------------------------------------------------------------- */

struct consumer {
    const char *dir;
    uint64_t crash_after; /* 0 = never */
    /* Of the worker's thread while it runs. */
    struct table table;
    uint64_t saved; /* next_sequence of table.txt */
    uint64_t counted; /* in this run */
    /* Between the two threads. */
    pthread_mutex_t lock;
    uint64_t reached; /* every event below it is in table.txt */
    uint64_t target;  /* where to stop; UINT64_MAX until the import has ended */
};

/* Replaces table.txt by what was counted. The log first: the file must never count an event that a power loss takes. */
static const char *consumer_save(struct consumer *consumer, batpak_store_t *store)
{
    batpak_error_t *err;
    if (batpak_store_sync(store, &err) < 0) {
        complain_batpak("cannot sync the log", err);
        return "the log could not be synced";
    }
    if (table_save(&consumer->table, consumer->dir) < 0) return "table.txt could not be replaced";
    consumer->saved = consumer->table.next_sequence;
    return NULL;
}

static const char *consumer_count(struct consumer *consumer, batpak_store_t *store, const batpak_event_t *events, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (events[i].sequence < consumer->table.next_sequence) continue; /* counted before a crash or a failure */
        const char *problem = table_count(&consumer->table, &events[i]);
        if (problem) return problem;
        consumer->counted++;
        if (consumer->counted % PROGRESS == 0) fprintf(stderr, "flights: %" PRIu64 " events counted\n", consumer->counted);
        if (consumer->counted == consumer->crash_after) {
            if ((problem = consumer_save(consumer, store)) != NULL) return problem;
            kill(getpid(), SIGKILL);
        }
    }
    return consumer->saved == consumer->table.next_sequence ? NULL : consumer_save(consumer, store);
}

static int32_t handle_flights(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n)
{
    struct consumer *consumer = user_data;
    const char *problem = consumer_count(consumer, batpak_delivery_store(delivery), events, n);
    if (problem) {
        char message[160];
        int length = snprintf(message, sizeof message, "after event %" PRIu64 ": %s", consumer->table.next_sequence, problem);
        (void)batpak_delivery_set_error(delivery, message, (size_t)length, NULL); /* failing anyway */
        return BATPAK_HANDLER_FAIL;
    }
    pthread_mutex_lock(&consumer->lock);
    consumer->reached = consumer->table.next_sequence;
    bool finished = consumer->reached >= consumer->target;
    pthread_mutex_unlock(&consumer->lock);
    return finished ? BATPAK_HANDLER_STOP : BATPAK_HANDLER_CONTINUE;
}

static int flights_region(batpak_region_t *region)
{
    batpak_error_t *err;
    if (batpak_region_init(region, sizeof *region, &err) < 0) return complain_batpak("region", err);
    region->kind_match = BATPAK_KIND_CATEGORY;
    region->kind = KIND_CATEGORY_FLIGHT;
    return 0;
}

/* Loads table.txt and sets the checkpoint to what it has: the file is the truth, the checkpoint follows. */
static int consumer_load(struct consumer *consumer, batpak_store_t *store, const batpak_region_t *region)
{
    if (table_load(&consumer->table, consumer->dir) < 0) return -1;
    consumer->reached = consumer->saved = consumer->table.next_sequence;

    batpak_error_t *err;
    batpak_watermarks_t marks;
    if (batpak_store_watermarks(store, &marks, &err) < 0) return complain_batpak("watermarks", err);
    if (consumer->saved > marks.visible)
        return complain("table.txt", "it counts events that the log does not have; delete it to count again");
    if (batpak_checkpoint_save(store, CHECKPOINT_ID, strlen(CHECKPOINT_ID), region, consumer->saved, &err) < 0)
        return complain_batpak("cannot set the checkpoint", err);
    return 0;
}

static int consumer_start(struct consumer *consumer, batpak_store_t *store, batpak_worker_t **worker)
{
    batpak_error_t *err;
    batpak_region_t region;
    batpak_worker_options_t options;
    if (flights_region(&region) < 0 || consumer_load(consumer, store, &region) < 0) return -1;
    if (batpak_worker_options_init(&options, sizeof options, &err) < 0) return complain_batpak("options", err);
    options.batch_events = WORKER_BATCH_EVENTS;
    options.checkpoint_id = CHECKPOINT_ID;
    options.checkpoint_id_len = strlen(CHECKPOINT_ID);
    if (batpak_worker_start(store, &region, &options, handle_flights, consumer, NULL, worker, &err) < 0)
        return complain_batpak("cannot start the worker", err);
    return 0;
}

/* Waits until the worker has counted every event below `target`, or has failed. */
static int consumer_finish(struct consumer *consumer, batpak_worker_t *worker, uint64_t target)
{
    pthread_mutex_lock(&consumer->lock);
    consumer->target = target;
    bool finished = consumer->reached >= target;
    pthread_mutex_unlock(&consumer->lock);

    /* Not finished: another batch comes, and its handler sees the target. Finished: none may come, so it is stopped. */
    batpak_error_t *err;
    batpak_status_t status = finished ? batpak_worker_stop_and_join(worker, -1, &err) : batpak_worker_join(worker, -1, &err);
    return status < 0 ? complain_batpak("the worker failed", err) : 0;
}

/* ---- the import ------------------------------------------------------------------------------------------------- */

struct plane {
    char tail[CODE_BYTES_MAX + 1];
    bool is_in_batch; /* its last flight so far is an item of the batch in hand; else that has an id */
    uint32_t batch_index;
    uint8_t id[16];
};

/* What an item of the batch in hand points to. */
struct pending {
    uint64_t line;
    char row[ROW_BYTES_MAX];
    char entity[sizeof "plane:unknown" + CODE_BYTES_MAX];
    char key[KEY_BYTES_MAX];
    uint8_t cause[16];
    uint32_t batch_cause;
    struct plane *plane; /* NULL: unknown */
};

struct import {
    batpak_store_t *store;
    const char *name; /* of the input, for messages */
    FILE *input;
    uint64_t line;    /* read last, from 1 */
    uint64_t appended, duplicates;
    void *planes;     /* tsearch tree of struct plane */
    size_t batch_rows, count;
    struct pending *pending;
    batpak_append_t *items;
    batpak_receipt_t *receipts;
    batpak_append_t blank;
    batpak_append_options_t options;
};

static int complain_line(const struct import *import, uint64_t line, const char *message)
{
    fprintf(stderr, "flights: %s: line %" PRIu64 ": %s\n", import->name, line, message);
    return -1;
}

static int plane_compare(const void *left, const void *right)
{
    return strcmp(((const struct plane *)left)->tail, ((const struct plane *)right)->tail);
}

/* The plane of that tail number, a new one where there is none; `*is_new` says which. NULL: no memory. */
static struct plane *plane_get(struct import *import, struct field tail, bool *is_new)
{
    struct plane *plane = calloc(1, sizeof *plane);
    if (!plane) return NULL;
    memcpy(plane->tail, tail.text, tail.length);
    struct plane **found = tsearch(plane, &import->planes, plane_compare);
    *is_new = found && *found == plane;
    if (*is_new) return plane;
    free(plane);
    return found ? *found : NULL;
}

/* Says why a batch was refused, by the line of the row that was, where it was one. */
static int complain_append(const struct import *import, batpak_error_t *err)
{
    const char *index = batpak_error_detail(err, "index", 5, NULL); /* NULL: a batch of one, or no row is to blame */
    size_t at = index ? strtoul(index, NULL, 10) : 0;
    if ((!index && import->count > 1) || at >= import->count) return complain_batpak("cannot append", err);
    complain_line(import, import->pending[at].line, batpak_error_message(err, NULL));
    batpak_error_free(err);
    return -1;
}

static int import_flush(struct import *import)
{
    if (import->count == 0) return 0;
    batpak_error_t *err;
    if (batpak_store_append(import->store, import->items, import->count, &import->options, import->receipts, &err) < 0)
        return complain_append(import, err);
    for (size_t i = 0; i < import->count; i++) {
        const batpak_receipt_t *receipt = &import->receipts[i];
        if (receipt->flags & BATPAK_RECEIPT_DUPLICATE)
            import->duplicates++;
        else
            import->appended++;
        struct plane *plane = import->pending[i].plane;
        if (!plane) continue;
        memcpy(plane->id, receipt->id, sizeof plane->id); /* a duplicate has the id of then */
        plane->is_in_batch = false;
    }
    import->count = 0;
    return 0;
}

/* Names the plane's previous flight as the cause: by its place where it is in this batch, else by its id. */
static void set_cause(batpak_append_t *item, struct pending *pending)
{
    const struct plane *plane = pending->plane;
    if (plane->is_in_batch) {
        pending->batch_cause = plane->batch_index;
        item->batch_causes = &pending->batch_cause;
        item->batch_cause_count = 1;
    } else {
        memcpy(pending->cause, plane->id, sizeof pending->cause);
        item->causes = pending->cause;
        item->cause_count = 1;
    }
}

/* Readable, and with separators: carriers and flights have no fixed length. 24 to 40 bytes. */
static size_t make_key(char key[KEY_BYTES_MAX], const struct row *row)
{
    const struct field *hour = &row->fields[TIME_HOUR], *carrier = &row->fields[CARRIER], *flight = &row->fields[FLIGHT];
    return (size_t)snprintf(key, KEY_BYTES_MAX, "%.*s %.*s %.*s", (int)hour->length, hour->text, (int)carrier->length,
                            carrier->text, (int)flight->length, flight->text);
}

static int import_add(struct import *import, const char *text, size_t length)
{
    struct row row;
    struct pending *pending = &import->pending[import->count];
    batpak_append_t *item = &import->items[import->count];
    const char *problem = row_parse(text, length, &row);
    if (problem) return complain_line(import, import->line, problem);
    memcpy(pending->row, text, length);
    (void)row_parse(pending->row, length, &row); /* once more, to point into the copy; it was fine */
    pending->line = import->line;

    bool cancelled = is_missing(row.fields[DEP_TIME]), is_new = false, known = !is_missing(row.fields[TAILNUM]);
    struct field tail = row.fields[TAILNUM];
    *item = import->blank;
    item->kind = cancelled ? KIND_CANCELLED : KIND_FLOWN;
    item->entity = pending->entity;
    item->entity_len = (size_t)snprintf(pending->entity, sizeof pending->entity, "plane:%.*s", known ? (int)tail.length : 7,
                                        known ? tail.text : "unknown");
    item->scope = row.fields[ORIGIN].text;
    item->scope_len = row.fields[ORIGIN].length;
    item->payload = pending->row;
    item->payload_len = length;
    item->key = pending->key;
    item->key_len = make_key(pending->key, &row);

    pending->plane = known ? plane_get(import, tail, &is_new) : NULL;
    if (known && !pending->plane) return complain("planes", strerror(ENOMEM));
    if (known && !is_new) set_cause(item, pending);
    if (known) pending->plane->is_in_batch = true;
    if (known) pending->plane->batch_index = (uint32_t)import->count;
    import->count++;
    return import->count == import->batch_rows ? import_flush(import) : 0;
}

static int import_line(struct import *import, const char *text, size_t length)
{
    if (length > 0 && text[length - 1] == '\n') length--;
    if (length > 0 && text[length - 1] == '\r') length--;
    if (++import->line == 1) {
        if (length == strlen(HEADER) && memcmp(text, HEADER, length) == 0) return 0;
        return complain_line(import, import->line, "not the header of the flights table");
    }
    if ((import->line - 1) % PROGRESS == 0) fprintf(stderr, "flights: %" PRIu64 " rows read\n", import->line - 1);
    return import_add(import, text, length);
}

static int import_lines(struct import *import)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    int result = 0;
    while (result == 0 && (length = getline(&line, &capacity, import->input)) >= 0)
        result = import_line(import, line, (size_t)length);
    if (result == 0 && !feof(import->input)) result = complain_errno(import->name);
    free(line);
    if (result < 0) return result;
    if (import->line == 0) return complain(import->name, "the file is empty");
    return import_flush(import);
}

static int import_init(struct import *import, uint32_t durability)
{
    batpak_error_t *err;
    if (batpak_append_init(&import->blank, sizeof import->blank, &err) < 0) return complain_batpak("append", err);
    if (batpak_append_options_init(&import->options, sizeof import->options, &err) < 0)
        return complain_batpak("options", err);
    import->options.durability = durability;

    import->pending = calloc(import->batch_rows, sizeof *import->pending);
    import->items = calloc(import->batch_rows, sizeof *import->items);
    import->receipts = calloc(import->batch_rows, sizeof *import->receipts);
    return import->pending && import->items && import->receipts ? 0 : complain("batch", strerror(ENOMEM));
}

static void import_free(struct import *import)
{
    while (import->planes) {
        struct plane *plane = *(struct plane **)import->planes; /* a node begins with its key */
        tdelete(plane, &import->planes, plane_compare);
        free(plane);
    }
    free(import->pending);
    free(import->items);
    free(import->receipts);
}

/* ---- the program ------------------------------------------------------------------------------------------------ */

struct options {
    const char *dir, *file;
    uint32_t durability;
    uint64_t batch_rows, crash_after;
};

static bool parse_count(const char *text, uint64_t most, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *value >= 1 && *value <= most;
}

static bool parse_option(struct options *options, const char *name, const char *value)
{
    if (strcmp(name, "--dir") == 0) {
        options->dir = value;
        return value[0] != '\0';
    }
    if (strcmp(name, "--durability") == 0) {
        bool process = strcmp(value, "process") == 0;
        options->durability = process ? BATPAK_DURABILITY_PROCESS : BATPAK_DURABILITY_STORAGE;
        return process || strcmp(value, "storage") == 0;
    }
    if (strcmp(name, "--batch") == 0) return parse_count(value, BATCH_ROWS_MAX, &options->batch_rows);
    if (strcmp(name, "--crash-after") == 0) return parse_count(value, UINT64_MAX, &options->crash_after);
    return false;
}

static bool parse_arguments(int argc, char **argv, struct options *options)
{
    *options = (struct options){.dir = "flights-data", .durability = BATPAK_DURABILITY_STORAGE, .batch_rows = 1000};
    int i = 1;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2)
        if (!parse_option(options, argv[i], argv[i + 1])) return false;
    if (i + 1 != argc || strncmp(argv[i], "--", 2) == 0) return false;
    options->file = argv[i];
    return true;
}

/* The sequence behind the last event: what the worker has to reach. */
static int log_end(batpak_store_t *store, uint64_t *end)
{
    batpak_error_t *err;
    batpak_watermarks_t marks;
    if (batpak_store_watermarks(store, &marks, &err) < 0) return complain_batpak("watermarks", err);
    *end = marks.visible;
    return 0;
}

static void print_summary(const struct import *import, const struct consumer *consumer)
{
    struct rusage usage = {.ru_maxrss = 0};
    getrusage(RUSAGE_SELF, &usage);
    fprintf(stderr,
            "flights: %" PRIu64 " rows appended, %" PRIu64 " duplicates; %" PRIu64
            " events counted; peak memory %ld KiB\n",
            import->appended, import->duplicates, consumer->counted, usage.ru_maxrss);
}

static int import_and_count(batpak_store_t *store, const struct options *options, FILE *input)
{
    struct import import = {.store = store, .name = options->file, .input = input, .batch_rows = options->batch_rows};
    struct consumer consumer = {.dir = options->dir, .crash_after = options->crash_after, .target = UINT64_MAX};
    pthread_mutex_init(&consumer.lock, NULL);

    batpak_worker_t *worker = NULL;
    int result = import_init(&import, options->durability);
    if (result == 0) result = consumer_start(&consumer, store, &worker);
    if (result == 0) {
        uint64_t target = 0; /* after a failed import the worker stops where it is */
        result = import_lines(&import);
        if (result == 0) result = log_end(store, &target);
        if (consumer_finish(&consumer, worker, target) < 0) result = -1;
    }
    batpak_worker_free(worker);
    import_free(&import);
    pthread_mutex_destroy(&consumer.lock);
    if (result < 0) return result;
    print_summary(&import, &consumer);
    return table_print(&consumer.table);
}

int main(int argc, char **argv)
{
    struct options options;
    if (!parse_arguments(argc, argv, &options)) {
        fprintf(stderr,
                "usage: %s [--dir DIR] [--durability storage|process] [--batch ROWS] [--crash-after EVENTS] FILE|-\n", argv[0]);
        return 2;
    }
    FILE *input = strcmp(options.file, "-") == 0 ? stdin : fopen(options.file, "r");
    if (!input) {
        complain_errno(options.file);
        return EXIT_FAILURE;
    }

    batpak_error_t *err;
    batpak_store_t *store;
    int result = 0;
    if (batpak_store_open_z(options.dir, NULL, &store, &err) < 0) { /* opening makes DIR */
        result = complain_batpak("cannot open the store", err);
    } else {
        result = import_and_count(store, &options, input);
        if (batpak_store_close(store, -1, &err) < 0) result = complain_batpak("cannot close the store", err);
        batpak_store_free(store);
    }
    if (input != stdin) fclose(input);
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
