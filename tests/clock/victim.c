/* Lives with a store under a wall clock that tests/clock.rs chooses: DIR MODE SEED TIMED END.
 *
 * The clock is this program's own clock_gettime, which the library finds first. The monotonic one stays honest, and is what
 * every wait is measured by. What was acknowledged is counted in DIR.count, which outlives a kill. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

enum { HONEST, FROZEN, JITTER, YEARS, BACKWARDS, EXTREMES, GARBAGE, END };

static int mode;
static uint64_t chance;

static uint64_t next_random(void) {
    uint64_t z = __atomic_add_fetch(&chance, 0x9E3779B97F4A7C15u, __ATOMIC_RELAXED);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* 1900, the epoch and around, the ends of 32 bits, of 64 bits of nanoseconds, of what ids and microseconds hold, and of all. */
static const int64_t extremes[] = {-2208988800,  -1, 0, 1, 2147483647, 2147483648, 4294967296, 9223372036, 9223372037, 253402300800,
                                   281474976710, 281474976711, 9223372036854, 9223372036855, INT64_MAX, INT64_MIN, -9223372036855};

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int64_t calls;
    int status = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock != CLOCK_REALTIME || status != 0) {
        return status;
    }
    int64_t call = __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED), year = 31556952;
    uint64_t any = next_random();
    switch (mode) {
    case FROZEN: now->tv_sec = 1000000000, now->tv_nsec = 999999999; break;
    case JITTER: now->tv_sec += (int64_t)(any % 21) - 10, now->tv_nsec = (long)(any >> 8) % 1000000000; break;
    case YEARS: now->tv_sec += ((int64_t)(any % 101) - 50) * year; break;
    case BACKWARDS: now->tv_sec -= call * 3600; break;
    case EXTREMES: now->tv_sec = extremes[any % (sizeof extremes / sizeof *extremes)]; break;
    case GARBAGE: now->tv_sec = (int64_t)next_random(); break;
    case END: now->tv_sec = INT64_MAX; break;
    default: break;
    }
    if (now->tv_nsec < 0) {
        now->tv_nsec = -now->tv_nsec;
    }
    return 0;
}

static int64_t monotonic_ms(void) {
    struct timespec now;
    CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now) == 0);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A wait of `ms` that began at `since` is over: not early, and not much too late even on a machine with much else to do. */
#define CHECK_WAITED(since, ms) \
    do { \
        int64_t check_waited = monotonic_ms() - (since); \
        CHECK(check_waited >= (ms) - 1); \
        CHECK(check_waited < 20000); \
    } while (0)

static batpak_store_t *store;
static batpak_error_t *error;
static uint64_t *acknowledged;
static int64_t newest_time = INT64_MIN;

/* ---- what earlier lives left ---- */

static int compare_ids(const void *one, const void *other) {
    return memcmp(one, other, 16);
}

/* Every event is there, readable, in order, with an id of its own, however the clocks were. */
static void read_all(void) {
    batpak_watermarks_t marks;
    batpak_cursor_t *cursor;
    batpak_batch_t *batch, *again;
    batpak_status_t status;
    uint64_t next = 0, clocks[4] = {0};
    CHECK_OK(batpak_store_watermarks(store, &marks, &error), error);
    CHECK(marks.appended >= *acknowledged);
    uint8_t(*ids)[16] = malloc(marks.appended * 16 + 16);
    CHECK(ids != NULL);
    CHECK_OK(batpak_cursor_open(store, NULL, NULL, &cursor, &error), error);
    while ((status = batpak_cursor_poll(cursor, 100, 0, 0, &batch, &error)) == BATPAK_OK) {
        size_t n;
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        for (size_t i = 0; i < n; i++) {
            uint64_t *clock = &clocks[events[i].entity[0] - 'a'];
            /* Of fences that were cancelled the sequences are left out, and the clocks are not. */
            CHECK(events[i].sequence >= next && events[i].sequence < marks.appended);
            CHECK_EQUAL(events[i].clock, *clock);
            CHECK(events[i].time_us >= newest_time);
            CHECK(events[i].payload_len == 8 && memcmp(events[i].payload, "payload!", 8) == 0);
            newest_time = events[i].time_us;
            next = events[i].sequence + 1;
            ++*clock;
        }
        CHECK_OK(batpak_store_get_by_id(store, events[n - 1].id, &again, &error), error);
        CHECK_EQUAL(batpak_batch_events(again, NULL)->sequence, events[n - 1].sequence);
        batpak_batch_free(again);
        batpak_batch_free(batch);
    }
    CHECK_EQUAL(status, BATPAK_EMPTY);
    /* Once more for the ids. */
    size_t total = 0;
    for (uint64_t sequence = 0; sequence < marks.appended; sequence++) {
        status = batpak_store_get(store, sequence, &batch, &error);
        CHECK(status == BATPAK_OK || status == BATPAK_EMPTY);
        if (status == BATPAK_OK) {
            memcpy(ids[total++], batpak_batch_events(batch, NULL)->id, 16);
            batpak_batch_free(batch);
        }
    }
    qsort(ids, total, 16, compare_ids);
    for (size_t i = 1; i < total; i++) {
        CHECK(memcmp(ids[i - 1], ids[i], 16) != 0);
    }
    free(ids);
    batpak_cursor_free(cursor);
}

/* ---- doings ---- */

/* The milliseconds that an id begins with. */
static int64_t time_in_id(const uint8_t *id) {
    int64_t time = 0;
    for (int i = 0; i < 6; i++) {
        time = time << 8 | id[i];
    }
    return time;
}

/* Appends n events in one call, as one of the kinds that there are, and checks what the receipts say. */
static void append(size_t n, uint32_t durability) {
    batpak_append_t items[8];
    batpak_receipt_t receipts[8];
    batpak_append_options_t options;
    CHECK_OK(batpak_append_options_init(&options, sizeof options, &error), error);
    options.durability = durability;
    for (size_t i = 0; i < n; i++) {
        CHECK_OK(batpak_append_init(&items[i], sizeof items[i], &error), error);
        items[i].kind = 0x1001;
        items[i].entity = &"abc"[next_random() % 3], items[i].entity_len = 1;
        items[i].scope = "s", items[i].scope_len = 1;
        items[i].payload = "payload!", items[i].payload_len = 8;
    }
    CHECK_OK(batpak_store_append(store, items, n, &options, receipts, &error), error);
    for (size_t i = 0; i < n; i++) {
        CHECK(receipts[i].time_us >= newest_time);
        CHECK_EQUAL(receipts[i].time_us / 1000, time_in_id(receipts[i].id));
        CHECK(receipts[i].sequence >= *acknowledged);
        newest_time = receipts[i].time_us;
        *acknowledged = receipts[i].sequence + 1;
    }
}

static void append_under(batpak_fence_t *fence) {
    batpak_append_t item;
    CHECK_OK(batpak_append_init(&item, sizeof item, &error), error);
    item.kind = 0x1001;
    item.entity = "d", item.entity_len = 1, item.scope = "s", item.scope_len = 1;
    item.payload = "payload!", item.payload_len = 8;
    batpak_receipt_t receipt;
    CHECK_OK(batpak_fence_append(fence, &item, 1, NULL, &receipt, &error), error);
    CHECK(receipt.time_us >= newest_time);
    newest_time = receipt.time_us;
}

/* One fence has all the time that it needs, another one too little. */
static void use_fences(void) {
    batpak_fence_options_t options;
    batpak_fence_t *fence;
    batpak_watermarks_t marks;
    CHECK_OK(batpak_fence_options_init(&options, sizeof options, &error), error);
    options.timeout_ms = 3600000;
    CHECK_OK(batpak_fence_begin(store, &options, &fence, &error), error);
    append_under(fence);
    CHECK_OK(batpak_fence_commit(fence, BATPAK_DURABILITY_PROCESS, &error), error);
    batpak_fence_free(fence);
    int64_t since = monotonic_ms();
    options.timeout_ms = 20;
    CHECK_OK(batpak_fence_begin(store, &options, &fence, &error), error);
    batpak_status_t status;
    batpak_append_t item;
    CHECK_OK(batpak_append_init(&item, sizeof item, &error), error);
    item.kind = 0x1001, item.entity = "e", item.entity_len = 1, item.scope = "s", item.scope_len = 1;
    /* On a slow machine its time may be over here already. */
    status = batpak_fence_append(fence, &item, 1, NULL, NULL, NULL);
    CHECK(status == BATPAK_OK || status == BATPAK_E_FENCE_EXPIRED);
    CHECK_OK(batpak_store_watermarks(store, &marks, &error), error);
    CHECK_OK(batpak_store_wait(store, BATPAK_WATERMARK_VISIBLE, marks.appended, 20000, &error), error);
    if (status == BATPAK_OK) {
        CHECK_WAITED(since, 20);
    }
    status = batpak_fence_commit(fence, BATPAK_DURABILITY_PROCESS, NULL);
    CHECK_EQUAL(status, BATPAK_E_FENCE_EXPIRED);
    batpak_fence_free(fence);
}

static void wait_in_vain(void) {
    batpak_watermarks_t marks;
    batpak_cursor_t *cursor;
    batpak_batch_t *batch;
    batpak_region_t region;
    CHECK_OK(batpak_region_init(&region, sizeof region, &error), error);
    region.entity_match = BATPAK_ENTITY_EXACT, region.entity = "nobody", region.entity_len = 6;
    CHECK_OK(batpak_cursor_open(store, &region, NULL, &cursor, &error), error);
    int64_t since = monotonic_ms();
    CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 15, &batch, &error), BATPAK_TIMEOUT, error);
    CHECK_WAITED(since, 15);
    batpak_cursor_free(cursor);
    CHECK_OK(batpak_store_watermarks(store, &marks, &error), error);
    since = monotonic_ms();
    CHECK_STATUS(batpak_store_wait(store, BATPAK_WATERMARK_VISIBLE, marks.appended + 1, 15, &error), BATPAK_TIMEOUT, error);
    CHECK_WAITED(since, 15);
}

static int calls, release;

/* Asks three times for another try, then keeps its worker busy until it is released. */
static int32_t try_again(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)delivery, (void)events, (void)n;
    if (__atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) <= 3) {
        return BATPAK_HANDLER_RETRY;
    }
    while (!__atomic_load_n(&release, __ATOMIC_SEQ_CST)) {
        usleep(500);
    }
    return BATPAK_HANDLER_STOP;
}

/* Backoffs of 4, 8 and 16 ms, a join and a close that run out of time, and a close that does not. */
static void use_worker_and_close(void) {
    batpak_worker_options_t options;
    batpak_worker_t *worker;
    CHECK_OK(batpak_worker_options_init(&options, sizeof options, &error), error);
    options.retry_backoff_ms = 4;
    int64_t since = monotonic_ms();
    CHECK_OK(batpak_worker_start(store, NULL, &options, try_again, NULL, NULL, &worker, &error), error);
    while (__atomic_load_n(&calls, __ATOMIC_SEQ_CST) < 4) {
        CHECK(monotonic_ms() - since < 20000);
        usleep(500);
    }
    CHECK_WAITED(since, 4 + 8 + 16);
    since = monotonic_ms();
    CHECK_STATUS(batpak_worker_join(worker, 10, &error), BATPAK_TIMEOUT, error);
    CHECK_WAITED(since, 10);
    since = monotonic_ms();
    CHECK_STATUS(batpak_store_close(store, 10, &error), BATPAK_E_BUSY, error);
    CHECK_WAITED(since, 10);
    __atomic_store_n(&release, 1, __ATOMIC_SEQ_CST);
    since = monotonic_ms();
    CHECK_OK(batpak_store_close(store, 20000, &error), error);
    CHECK_WAITED(since, 0);
    batpak_worker_free(worker);
}

static void *kill_soon(void *unused) {
    (void)unused;
    usleep((useconds_t)(next_random() % 8000));
    kill(getpid(), SIGKILL);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 6);
    const char *dir = argv[1], *end = argv[5];
    char name[PATH_MAX];
    mode = atoi(argv[2]);
    chance = strtoull(argv[3], NULL, 10);
    snprintf(name, sizeof name, "%s.count", dir);
    int file = open(name, O_RDWR | O_CREAT, 0600);
    CHECK(file >= 0 && ftruncate(file, 8) == 0);
    acknowledged = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(acknowledged != MAP_FAILED);

    batpak_store_options_t options;
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.segment_bytes = 1 << 20;
    CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
    read_all();
    for (int i = 0; i < 12; i++) {
        append(1 + next_random() % 8, i == 6 ? BATPAK_DURABILITY_STORAGE : BATPAK_DURABILITY_PROCESS);
    }
    if (atoi(argv[4])) {
        wait_in_vain();
        use_fences();
        append(3, BATPAK_DURABILITY_PROCESS);
    }
    if (strcmp(end, "kill") == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, kill_soon, NULL) == 0);
        for (;;) {
            append(1 + next_random() % 8, next_random() % 20 == 0 ? BATPAK_DURABILITY_STORAGE : BATPAK_DURABILITY_PROCESS);
        }
    }
    if (strcmp(end, "exit") == 0) {
        _exit(0);
    }
    if (atoi(argv[4])) {
        use_worker_and_close();
    } else {
        CHECK_OK(batpak_store_close(store, 20000, &error), error);
    }
    batpak_store_free(store);
    return 0;
}
