/* The program whose calls fail (see tests/shim.rs): it uses a store in every way, goes on whatever fails, and tells in a report, line
 * by line, what it is about to append, what was acknowledged, and every status that it was given.
 *
 *     victim work DIRECTORY REPORT SEED      two sessions on one store
 *     victim acks DIRECTORY REPORT COUNT THREADS   so many appends, STORAGE and PROCESS in turn, then STORAGE ones on so many threads
 *
 * A line is one write to a file that is appended to, so lines of all threads are in order:
 *     O session                   a session begins: the next open
 *     I call thread durability count length fence   an append is about to be made (fence 0: none)
 *     A call item sequence clock id durability      acknowledged; before the R of its call
 *     R call status errno path    how it ended
 *     B fence | X fence what status errno path      a fence begins; its commit or cancel ended
 *     D what status errno path    any other call
 *     V first all events...       what a cursor read: sequence:call:item, "?" where the payload is not as it was appended
 *     K id position | S id position status          a checkpoint is about to be saved; it was, or not
 */
#include "events.h"

#include <stdarg.h>
#include <sys/prctl.h>

enum { ITEMS_MAX = 1100, PAYLOAD_MAX = 400 << 10, THREADS_MAX = 4, LINE_BYTES = 4096 };
static const int64_t LIMIT_MS = 30000;

static int report = -1;
static uint64_t seed;
static atomic_uint calls, fences;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...) {
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    CHECK(length > 0 && length < (int)sizeof line && write(report, line, (size_t)length) == length);
}

/* " status errno path" of a call, whose error is freed. */
static const char *ended(char *text, batpak_status_t status, batpak_error_t **own) {
    const char *path = batpak_error_detail(*own, "path", 4, NULL);
    snprintf(text, LINE_BYTES - 256, "%d %d %s", (int)status, (int)batpak_error_os_errno(*own), path ? path : "-");
    if ((status < 0) != (*own != NULL) || batpak_error_code(*own) != (status < 0 ? status : 0)) {
        snprintf(text, LINE_BYTES - 256, "%d 0 the-error-object-says-%d", (int)status, (int)batpak_error_code(*own));
    }
    if (status < 0 && getenv("VICTIM_TALKS")) {
        fprintf(stderr, "%s: %s\n", batpak_status_name(status), batpak_error_message(*own, NULL));
    }
    batpak_error_free(*own);
    *own = NULL;
    return text;
}

static batpak_status_t told(const char *what, batpak_status_t status, batpak_error_t **own) {
    char text[LINE_BYTES];
    say("D %s %s\n", what, ended(text, status, own));
    return status;
}

/* ---- contents ------------------------------------------------------------------------------------------------------- */

static uint64_t mixed(uint64_t z) {
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* The mark that the shim looks for, call, item, length; then bytes that these say. The parent makes the same. */
static void fill(uint8_t *payload, uint32_t call, uint32_t item, uint32_t length) {
    uint32_t words[3] = {call, item, length};
    memcpy(payload, "SHIMMARK", 8);
    memcpy(payload + 8, words, 12);
    uint64_t state = (uint64_t)call << 32 | item;
    for (size_t at = 20; at < length; at += 8) {
        uint64_t word = mixed(state += UINT64_C(0x9E3779B97F4A7C15));
        memcpy(payload + at, &word, length - at < 8 ? length - at : 8);
    }
}

static int is_intact(const batpak_event_t *event, uint8_t *scratch, uint32_t *words) {
    const uint8_t *payload = event->payload;
    memset(words, 0xff, 12);
    if (event->payload_len < 20 || memcmp(payload, "SHIMMARK", 8) != 0) {
        return 0;
    }
    memcpy(words, payload + 8, 12);
    if (words[2] != event->payload_len || words[2] > PAYLOAD_MAX) {
        return 0;
    }
    fill(scratch, words[0], words[1], words[2]);
    return memcmp(scratch, payload, words[2]) == 0;
}

/* ---- appends -------------------------------------------------------------------------------------------------------- */

struct writer {
    batpak_store_t *store;
    uint32_t count, length;
    uint8_t *payloads;
    const char *key; /* of the next event */
    uint32_t flags;
};

static void acknowledge(uint32_t call, uint32_t count, const batpak_receipt_t *receipts) {
    char text[LINE_BYTES];
    size_t used = 0;
    for (uint32_t at = 0; at < count; at++) {
        char id[33];
        for (int i = 0; i < 16; i++) {
            snprintf(id + 2 * i, 3, "%02x", receipts[at].id[i]);
        }
        if (used + 200 > sizeof text) {
            say("%s", text);
            used = 0;
        }
        used += (size_t)snprintf(text + used, sizeof text - used, "A %u %u %" PRIu64 " %" PRIu64 " %s %u\n", call, at,
                                 receipts[at].sequence, receipts[at].clock, id, receipts[at].durability);
    }
    say("%s", text);
}

/* One call; durability 0 is the default. */
static batpak_status_t append_call(struct writer *writer, uint32_t durability, uint32_t count, uint32_t length,
                                   batpak_fence_t *fence, uint32_t fence_number) {
    batpak_append_t items[ITEMS_MAX];
    batpak_receipt_t receipts[ITEMS_MAX];
    char entity[16], text[LINE_BYTES];
    uint32_t call = atomic_fetch_add(&calls, 1);
    CHECK(count <= ITEMS_MAX && length >= 20 && (size_t)count * length <= 4 * (size_t)PAYLOAD_MAX);
    /* A fence owns its entities until it is decided. */
    snprintf(entity, sizeof entity, fence ? "f:%u" : "e:%u", fence ? fence_number : call % 5);
    for (uint32_t at = 0; at < count; at++) {
        uint8_t *payload = writer->payloads + (size_t)at * length;
        fill(payload, call, at, length);
        items[at] = item_of(entity, NULL);
        items[at].payload = payload;
        items[at].payload_len = length;
        items[at].key = writer->key;
        items[at].key_len = writer->key ? strlen(writer->key) : 0;
    }
    batpak_append_options_t options = durably(durability);
    options.flags = writer->flags;
    batpak_error_t *own = NULL;
    say("I %u %d %u %u %u %u\n", call, (int)thread_number(), fence ? 9 : durability, count, length, fence_number);
    batpak_status_t status = fence ? batpak_fence_append(fence, items, count, NULL, receipts, &own)
                                   : batpak_store_append(writer->store, items, count, &options, receipts, &own);
    if (status == BATPAK_OK) {
        acknowledge(call, count, receipts);
    }
    say("R %u %s\n", call, ended(text, status, &own));
    if (status == BATPAK_OK && writer->key != NULL) { /* the same once more is the same event */
        batpak_receipt_t again;
        status = told("append-again", batpak_store_append(writer->store, items, 1, &options, &again, &own), &own);
        CHECK(status != BATPAK_OK || (again.sequence == receipts->sequence && again.flags == BATPAK_RECEIPT_DUPLICATE));
    }
    return status;
}

static void append_some(struct writer *writer, uint32_t times, uint32_t durability, uint32_t count, uint32_t length) {
    for (uint32_t i = 0; i < times; i++) {
        append_call(writer, durability, count, length, NULL, 0);
    }
}

static void *append_thread(void *argument) {
    struct writer *writer = argument;
    append_some(writer, writer->count, 0, 1, writer->length);
    return NULL;
}

static void append_together(struct writer *first, uint32_t threads, uint32_t times, uint32_t length) {
    struct writer writers[THREADS_MAX];
    pthread_t started[THREADS_MAX];
    CHECK(threads <= THREADS_MAX);
    for (uint32_t i = 0; i < threads; i++) {
        writers[i] = (struct writer){.store = first->store, .count = times, .length = length, .payloads = malloc(length)};
        CHECK(writers[i].payloads != NULL);
        started[i] = start_thread(append_thread, &writers[i]);
    }
    for (uint32_t i = 0; i < threads; i++) {
        join_thread(started[i]);
        free(writers[i].payloads);
    }
}

/* A fence with two appends, another's append between them, and what decides it. */
static void use_fence(struct writer *writer, uint32_t durability, int commits) {
    batpak_fence_t *fence = NULL;
    batpak_error_t *own = NULL;
    char text[LINE_BYTES];
    uint32_t number = atomic_fetch_add(&fences, 1) + 1;
    if (told("fence", batpak_fence_begin(writer->store, NULL, &fence, &own), &own) != BATPAK_OK) {
        return;
    }
    say("B %u\n", number);
    append_call(writer, 0, 2, 300, fence, number);
    append_call(writer, BATPAK_DURABILITY_PROCESS, 1, 200, NULL, 0);
    append_call(writer, 0, 1, 5000, fence, number);
    /* A full disk leaves it open: once more. */
    for (int i = 0; commits && i < 2; i++) {
        batpak_status_t status = batpak_fence_commit(fence, durability, &own);
        say("X %u commit %s\n", number, ended(text, status, &own));
        commits = status == BATPAK_E_DISK_FULL;
    }
    if (!commits) {
        batpak_fence_free(fence);
        return;
    }
    batpak_status_t status = batpak_fence_cancel(fence, &own);
    say("X %u cancel %s\n", number, ended(text, status, &own));
    batpak_fence_free(fence);
}

/* ---- consumers ------------------------------------------------------------------------------------------------------ */

/* What was read, in lines of some events each. Returns the last sequence. */
static uint64_t say_read(const batpak_event_t *events, size_t n, int first) {
    static uint8_t scratch[PAYLOAD_MAX];
    char text[2048];
    uint64_t last = 0;
    for (size_t at = 0; at < n;) {
        size_t used = 0;
        for (size_t i = 0; i < 40 && at < n; i++, at++) {
            uint32_t words[3];
            int intact = is_intact(&events[at], scratch, words);
            used += (size_t)snprintf(text + used, sizeof text - used, " %" PRIu64 ":%u:%u%s", events[at].sequence,
                                     words[0], words[1], intact ? "" : "?");
            last = events[at].sequence;
        }
        say("V %d%s\n", first, text);
        first = 0;
    }
    return last;
}

/* Everything that there is, from the beginning. */
static void read_all(batpak_store_t *store) {
    batpak_cursor_t *cursor = NULL;
    batpak_error_t *own = NULL;
    batpak_status_t status = told("read-open", batpak_cursor_open(store, NULL, NULL, &cursor, &own), &own);
    for (int first = 1; status == BATPAK_OK; first = 0) {
        batpak_batch_t *batch = NULL;
        size_t n = 0;
        status = batpak_cursor_poll(cursor, 200, 0, 0, &batch, &own);
        if (status != BATPAK_OK) {
            told("read-poll", status, &own);
            break;
        }
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        say_read(events, n, first);
        batpak_batch_free(batch);
    }
    batpak_cursor_free(cursor);
}

/* The events of one entity, forward; all, backward. What comes is only looked at. */
static void read_ways(batpak_store_t *store) {
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "e:1");
    batpak_cursor_options_t options;
    CHECK(batpak_cursor_options_init(&options, sizeof options, NULL) == BATPAK_OK);
    for (uint32_t way = 0; way < 2; way++) {
        batpak_cursor_t *cursor = NULL;
        batpak_batch_t *batch = NULL;
        batpak_error_t *own = NULL;
        size_t n = 0;
        options.direction = way == 0 ? BATPAK_DIRECTION_FORWARD : BATPAK_DIRECTION_BACKWARD;
        told("way-open", batpak_cursor_open(store, way == 0 ? &region : NULL, &options, &cursor, &own), &own);
        if (cursor != NULL
            && told("way-poll", batpak_cursor_poll(cursor, 2000, 0, 0, &batch, &own), &own) == BATPAK_OK) {
            const batpak_event_t *events = batpak_batch_events(batch, &n);
            say_read(events, n, 2);
        }
        batpak_batch_free(batch);
        batpak_cursor_free(cursor);
    }
}

/* Polls at most `most` events and saves the position. */
static void consume(batpak_cursor_t *cursor, size_t most) {
    batpak_batch_t *batch = NULL;
    batpak_error_t *own = NULL;
    size_t n = 0;
    batpak_status_t status = told("poll", batpak_cursor_poll(cursor, most, 0, 0, &batch, &own), &own);
    if (status != BATPAK_OK) {
        return;
    }
    const batpak_event_t *events = batpak_batch_events(batch, &n);
    uint64_t last = events[n - 1].sequence;
    batpak_batch_free(batch);
    say("K cursor %" PRIu64 "\n", last);
    status = batpak_cursor_checkpoint(cursor, &own);
    say("S cursor %" PRIu64 " %d\n", last, (int)status);
    told("checkpoint", status, &own);
}

struct handled {
    atomic_uint_fast64_t next;
    uint64_t saving;
};

/* Called again, the batch before is committed. */
static int32_t handle(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    struct handled *handled = user_data;
    (void)delivery;
    say("K worker %" PRIu64 "\n", events[n - 1].sequence);
    atomic_store(&handled->next, events[n - 1].sequence + 1);
    return BATPAK_HANDLER_CONTINUE;
}

static void work(batpak_store_t *store) {
    static struct handled handled;
    batpak_worker_options_t options;
    batpak_worker_t *worker = NULL;
    batpak_watermarks_t marks;
    batpak_error_t *own = NULL;
    CHECK(batpak_worker_options_init(&options, sizeof options, NULL) == BATPAK_OK);
    options.checkpoint_id = "worker";
    options.checkpoint_id_len = 6;
    options.batch_events = 300;
    atomic_store(&handled.next, 0);
    batpak_status_t status = batpak_worker_start(store, NULL, &options, handle, &handled, NULL, &worker, &own);
    if (told("worker", status, &own) != BATPAK_OK) {
        return;
    }
    told("marks", batpak_store_watermarks(store, &marks, &own), &own);
    uint64_t start = now_us();
    do { /* the last visible event may be a cancelled one, which no handler is given: not for ever */
        status = batpak_worker_join(worker, 2, NULL);
    } while (status == BATPAK_TIMEOUT && atomic_load(&handled.next) + 8 < marks.visible
             && now_us() - start < (uint64_t)LIMIT_MS * 1000);
    if (now_us() - start >= (uint64_t)LIMIT_MS * 1000) {
        say("H worker\n");
    }
    status = told("worker-join", batpak_worker_stop_and_join(worker, LIMIT_MS, &own), &own);
    batpak_worker_free(worker);
}

/* ---- sessions ------------------------------------------------------------------------------------------------------- */

/* Opens, and when that fails once more. */
static batpak_store_t *open_told(const char *dir) {
    static int session;
    batpak_store_options_t options;
    batpak_store_t *store = NULL;
    batpak_error_t *own = NULL;
    CHECK(batpak_store_options_init(&options, sizeof options, NULL) == BATPAK_OK);
    options.segment_bytes = MIB;
    for (int i = 0; i < 2 && store == NULL; i++) {
        say("O %d\n", ++session);
        told("open", batpak_store_open_z(dir, &options, &store, &own), &own);
    }
    return store;
}

static void close_told(batpak_store_t *store) {
    batpak_error_t *own = NULL;
    told("close", batpak_store_close(store, LIMIT_MS, &own), &own);
    told("close-again", batpak_store_close(store, LIMIT_MS, &own), &own);
    batpak_store_free(store);
}

static void get_told(batpak_store_t *store, uint64_t sequence) {
    batpak_batch_t *batch = NULL;
    batpak_error_t *own = NULL;
    if (told("get", batpak_store_get(store, sequence, &batch, &own), &own) == BATPAK_OK) {
        size_t n = 0;
        say_read(batpak_batch_events(batch, &n), 1, 2);
    }
    batpak_batch_free(batch);
}

static void first_session(struct writer *writer, const char *dir) {
    batpak_error_t *own = NULL;
    batpak_store_t *store = writer->store = open_told(dir);
    if (store == NULL) {
        return;
    }
    uint32_t vary = (uint32_t)(mixed(seed) % 97);
    append_some(writer, 3, 0, 1, 100 + vary);
    append_some(writer, 4, BATPAK_DURABILITY_PROCESS, 1, 900 + vary);
    append_some(writer, 1, 0, 20, 500 + vary);
    writer->flags = BATPAK_APPEND_LEAF_HASH;
    append_call(writer, BATPAK_DURABILITY_PROCESS, ITEMS_MAX, 24, NULL, 0);
    *writer = (struct writer){.store = store, .payloads = writer->payloads, .key = "a key of the victim's"};
    append_call(writer, 0, 1, 200, NULL, 0);
    writer->key = NULL;
    batpak_cursor_t *cursor = NULL;
    batpak_cursor_options_t options;
    CHECK(batpak_cursor_options_init(&options, sizeof options, NULL) == BATPAK_OK);
    options.checkpoint_id = "cursor";
    options.checkpoint_id_len = 6;
    told("cursor", batpak_cursor_open(store, NULL, &options, &cursor, &own), &own);
    if (cursor != NULL) {
        consume(cursor, 10);
    }
    append_together(writer, 2, 4, 2000 + vary);
    for (int i = 0; i < 3; i++) { /* through two rotations */
        append_call(writer, BATPAK_DURABILITY_PROCESS, 2, 150000 + vary, NULL, 0);
        append_call(writer, 0, 1, 390000 + vary, NULL, 0);
    }
    use_fence(writer, BATPAK_DURABILITY_STORAGE, 1);
    use_fence(writer, 0, 0);
    use_fence(writer, BATPAK_DURABILITY_PROCESS, 1);
    told("sync", batpak_store_sync(store, &own), &own);
    if (cursor != NULL) {
        consume(cursor, 2000);
    }
    get_told(store, 1);
    work(store);
    append_call(writer, 0, 4, 300000 + vary, NULL, 0); /* more than a segment takes: one of its own */
    append_some(writer, 2, BATPAK_DURABILITY_PROCESS, 1, 60 + vary);
    append_some(writer, 2, 0, 1, 60 + vary);
    batpak_watermarks_t marks;
    told("marks", batpak_store_watermarks(store, &marks, &own), &own);
    told("checkpoint-save", batpak_checkpoint_save(store, "saved", 5, NULL, marks.visible / 2, &own), &own);
    told("checkpoint-delete", batpak_checkpoint_delete(store, "saved", 5, &own), &own);
    read_all(store);
    read_ways(store);
    if (cursor != NULL) {
        told("cursor-close", batpak_cursor_close(cursor, &own), &own);
    }
    batpak_cursor_free(cursor);
    close_told(store);
}

static void second_session(struct writer *writer, const char *dir) {
    batpak_store_t *store = writer->store = open_told(dir);
    if (store == NULL) {
        return;
    }
    append_some(writer, 2, BATPAK_DURABILITY_PROCESS, 1, 300);
    append_some(writer, 2, 0, 3, 300);
    batpak_watermarks_t marks;
    batpak_error_t *own = NULL;
    told("marks", batpak_store_watermarks(store, &marks, &own), &own);
    work(store);
    read_all(store);
    get_told(store, marks.visible - 1);
    close_told(store);
}

static void acks(struct writer *writer, const char *dir, uint32_t count, uint32_t threads) {
    CHECK((writer->store = open_told(dir)) != NULL);
    for (uint32_t i = 0; i < count; i++) {
        append_call(writer, i % 2 ? BATPAK_DURABILITY_PROCESS : 0, 1 + i % 3, 10000, NULL, 0);
    }
    close_told(writer->store);
    if (threads > 0) { /* with nothing mapped, so that all bytes are written by a call */
        CHECK((writer->store = open_told(dir)) != NULL);
        append_together(writer, threads, count / threads, 20000);
        close_told(writer->store);
    }
}

int main(int argc, char **argv) {
    CHECK(argc >= 5);
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    CHECK((report = open(argv[3], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)) >= 0);
    struct writer writer = {.payloads = malloc(4 * (size_t)PAYLOAD_MAX)};
    CHECK(writer.payloads != NULL);
    seed = strtoull(argv[4], NULL, 10);
    if (strcmp(argv[1], "acks") == 0) {
        CHECK(argc == 6);
        acks(&writer, argv[2], (uint32_t)seed, (uint32_t)strtoul(argv[5], NULL, 10));
    } else {
        first_session(&writer, argv[2]);
        second_session(&writer, argv[2]);
    }
    say("E\n");
    free(writer.payloads);
    return 0;
}
