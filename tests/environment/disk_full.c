/* A disk that is full again and again: row R9 of the scorecard.
 *
 *     disk_full DIRECTORY CYCLES SEED
 *
 * DIRECTORY is on a small file system of its own. Each cycle is a process: it opens the store, fills the disk, uses the
 * full one in every way, gets some space back (a ballast file shrinks: retention is none of this version), goes on, and
 * closes, dies or is killed. The ledger is the parent's, which never opens the store itself. */
#include "ledger.h"

#include <sys/statvfs.h>

static char store_dir[PATH_MAX], ballast[PATH_MAX];
static struct ledger *ledger;
static batpak_append_t items[ITEMS_MAX];
static struct content contents[ITEMS_MAX];

enum { FILLING = 1, FULL };
enum ending { CLOSES, LEAVES, KILLED_FULL, KILLED_FILLING, ENDINGS };

/* ---- the disk ------------------------------------------------------------------------------------------------------- */

static uint64_t free_bytes(void) {
    struct statvfs status;
    CHECK(statvfs(ballast, &status) == 0 || statvfs(store_dir, &status) == 0);
    return (uint64_t)status.f_bavail * status.f_frsize;
}

/* Fills the disk but for `left` bytes. */
static void load_ballast(uint64_t left) {
    static uint8_t block[64 << 10];
    memset(block, 0xB5, sizeof block);
    int fd = open(ballast, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    while (free_bytes() > left + sizeof block && write(fd, block, sizeof block) == (ssize_t)sizeof block) {
    }
    CHECK(fsync(fd) == 0 && close(fd) == 0);
}

static uint64_t ballast_bytes(void) {
    struct stat status;
    return stat(ballast, &status) == 0 ? (uint64_t)status.st_size : 0;
}

/* Gives bytes of the ballast back. */
static void drop_ballast(uint64_t bytes) {
    uint64_t all = ballast_bytes();
    CHECK(truncate(ballast, (off_t)(all > bytes ? all - bytes : 0)) == 0);
}

/* ---- appending ------------------------------------------------------------------------------------------------------ */

/* Nothing may have changed. */
static void refused(batpak_store_t *store) {
    if (batpak_error_code(error) != BATPAK_E_DISK_FULL) {
        fprintf(stderr, "%s\n", batpak_error_message(error, NULL));
    }
    CHECK_EQUAL(batpak_error_code(error), BATPAK_E_DISK_FULL);
    CHECK(batpak_error_os_errno(error) == ENOSPC && batpak_error_is_retryable(error) && !batpak_error_is_fatal(error));
    CHECK(strstr(batpak_error_message(error, NULL), store_dir) != NULL);
    batpak_error_free(error);
    error = NULL;
    decide(ledger, NOTHING);
    CHECK_EQUAL(marks_of(store).appended, ledger->end);
    ledger->refused++;
}

/* Returns whether there was space. */
static int append_some(batpak_store_t *store, size_t n, uint32_t durability) {
    batpak_append_options_t options = durably(durability);
    batpak_receipt_t receipts[ITEMS_MAX];
    items_of(ledger, ledger->end, n, items, contents);
    announce(ledger, n);
    batpak_status_t status = batpak_store_append(store, items, n, &options, receipts, &error);
    if (status != BATPAK_OK) {
        refused(store);
        return 0;
    }
    CHECK_EQUAL(receipts[0].sequence, ledger->end);
    CHECK_EQUAL(receipts[n - 1].sequence, ledger->end + n - 1);
    decide(ledger, ACKNOWLEDGED);
    return 1;
}

/* A fence of two appends, committed or cancelled; one that meets the full disk is tried again once and then given up. */
static int fence_some(batpak_store_t *store, size_t n, uint64_t *random) {
    batpak_fence_t *fence = NULL;
    size_t first = 1 + random_below(random, n), appended = 0;
    uint32_t durability = random_below(random, 2) ? BATPAK_DURABILITY_STORAGE : BATPAK_DURABILITY_PROCESS;
    CHECK_OK(batpak_fence_begin(store, NULL, &fence, &error), error);
    items_of(ledger, ledger->end, n, items, contents);
    announce(ledger, n);
    batpak_status_t status = batpak_fence_append(fence, items, first, NULL, NULL, &error);
    if (status == BATPAK_OK) {
        appended = first;
        status = first < n ? batpak_fence_append(fence, items + first, n - first, NULL, NULL, &error) : BATPAK_OK;
    }
    if (status == BATPAK_OK) {
        appended = n;
        if (random_below(random, 3) == 0) {
            CHECK_OK(batpak_fence_cancel(fence, &error), error);
            decide(ledger, CANCELLED);
            batpak_fence_free(fence);
            ledger->fences++;
            return 1;
        }
        status = batpak_fence_commit(fence, durability, &error);
    }
    if (status == BATPAK_OK) {
        decide(ledger, ACKNOWLEDGED);
    } else {
        CHECK_STATUS(status, BATPAK_E_DISK_FULL, error);
        CHECK_OK(batpak_fence_cancel(fence, &error), error);
        if (appended < n) {
            memset(ledger->known + ledger->end + appended, NOTHING, n - appended);
            ledger->announced = ledger->end + appended;
        }
        decide(ledger, appended > 0 ? CANCELLED : NOTHING);
        CHECK_EQUAL(marks_of(store).appended, ledger->end);
        ledger->refused++;
    }
    batpak_fence_free(fence);
    ledger->fences++;
    return status == BATPAK_OK;
}

/* A checkpoint works or says that the disk is full; then the one before is still there. It may be full at any time: the
 * store's own thread prepares space, and gives it back. */
static void checkpoint_some(batpak_store_t *store, batpak_cursor_t *cursor) {
    uint64_t sequences[100], before = is_saved(store, "consumer") ? saved_position(store, "consumer") : BATPAK_NO_SEQUENCE;
    size_t n = poll_sequences(cursor, 100, sequences);
    batpak_status_t status = batpak_cursor_checkpoint(cursor, &error);
    if (status == BATPAK_OK) {
        CHECK_EQUAL(saved_position(store, "consumer"), position_of(cursor).position);
        CHECK(n == 0 || position_of(cursor).position == sequences[n - 1]);
    } else {
        CHECK_STATUS(status, BATPAK_E_DISK_FULL, error);
        CHECK_EQUAL(before == BATPAK_NO_SEQUENCE ? before : saved_position(store, "consumer"), before);
    }
    ledger->checkpoints++;
}

/* Appends in every way until not even a small event fits. */
static void fill(batpak_store_t *store, batpak_cursor_t *cursor, uint64_t *random) {
    for (int refusals = 0; refusals < 6;) {
        size_t n = refusals > 2 ? 1 : 1 + random_below(random, random_below(random, 4) == 0 ? ITEMS_MAX : 4);
        uint32_t durability = random_below(random, 3) ? BATPAK_DURABILITY_PROCESS : BATPAK_DURABILITY_STORAGE;
        int fitted = random_below(random, 8) == 0 ? fence_some(store, n, random) : append_some(store, n, durability);
        refusals = fitted ? 0 : refusals + 1;
        if (random_below(random, 40) == 0) {
            checkpoint_some(store, cursor);
        }
    }
}

/* ---- the full disk -------------------------------------------------------------------------------------------------- */

static void use_full_disk(batpak_store_t *store, batpak_cursor_t *cursor, uint64_t *random) {
    verify(store, ledger);
    verify_entities(store, ledger);
    for (int i = 0; i < 20; i++) {
        uint64_t sequence = random_below(random, ledger->end);
        batpak_batch_t *batch = NULL;
        batpak_status_t status = batpak_store_get(store, sequence, &batch, &error);
        CHECK_EQUAL(status, ledger->known[sequence] == ACKNOWLEDGED ? BATPAK_OK : BATPAK_EMPTY);
        batpak_batch_free(batch);
    }
    checkpoint_some(store, cursor);
    append_some(store, 1, BATPAK_DURABILITY_STORAGE);
    append_some(store, 3, BATPAK_DURABILITY_PROCESS);
    CHECK_OK(batpak_store_sync(store, &error), error);
    CHECK_EQUAL(marks_of(store).durable, ledger->end);
    stats_of(store);
}

static void open_full_disk(uint64_t *random) {
    batpak_store_options_t options;
    batpak_store_t *store = NULL;
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.flags = BATPAK_STORE_READ_ONLY;
    CHECK_OK(batpak_store_open_z(store_dir, &options, &store, &error), error);
    verify(store, ledger);
    if (ledger->announced == ledger->end) {
        verify_entities(store, ledger);
    }
    close_store(store);
    options.flags = 0;
    options.segment_bytes = MIB;
    batpak_status_t status = batpak_store_open_z(store_dir, &options, &store, &error);
    if (status != BATPAK_OK) {
        CHECK_STATUS(status, BATPAK_E_DISK_FULL, error);
        CHECK(store == NULL);
        return;
    }
    ledger->reopened++;
    verify(store, ledger);
    adopt(store, ledger);
    append_some(store, 1, BATPAK_DURABILITY_PROCESS);
    append_some(store, 1 + random_below(random, 3), BATPAK_DURABILITY_STORAGE);
    verify(store, ledger);
    status = batpak_store_close(store, SOON_MS, &error);
    CHECK(status == BATPAK_OK || status == BATPAK_E_DISK_FULL);
    batpak_error_free(error);
    error = NULL;
    batpak_store_free(store);
}

/* ---- cycles --------------------------------------------------------------------------------------------------------- */

static void live(uint64_t state, enum ending ending) {
    uint64_t *random = &state;
    batpak_store_options_t options;
    batpak_store_t *store = NULL;
    /* What was left or killed is met first by an opening on the full disk, or by one that has space. */
    if (ledger->announced > 0 && random_below(random, 2) == 0) {
        open_full_disk(random);
    }
    drop_ballast((48 << 10) + random_below(random, 900 << 10));
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.segment_bytes = MIB;
    options.flags = random_below(random, 3) == 0 ? BATPAK_STORE_NO_HELPER_THREAD : 0;
    CHECK_OK(batpak_store_open_z(store_dir, &options, &store, &error), error);
    ledger->cut += stats_of(store).cut_bytes > 0;
    verify(store, ledger);
    adopt(store, ledger);
    verify_entities(store, ledger);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "consumer");
    atomic_store(&ledger->stage, FILLING);
    do {
        fill(store, cursor, random);
        atomic_store(&ledger->stage, FULL);
        use_full_disk(store, cursor, random);
        while (ending == KILLED_FULL) {
            append_some(store, 1, BATPAK_DURABILITY_STORAGE);
            append_some(store, 1, BATPAK_DURABILITY_PROCESS);
            checkpoint_some(store, cursor);
        }
        /* Space comes back: the same opening goes on. */
        drop_ballast((32 << 10) + random_below(random, 700 << 10));
    } while (random_below(random, 2) == 0);
    fill(store, cursor, random);
    if (ending == LEAVES) {
        _exit(0);
    }
    close_cursor(cursor);
    batpak_status_t status = batpak_store_close(store, SOON_MS, &error);
    CHECK(status == BATPAK_OK || status == BATPAK_E_DISK_FULL);
    batpak_error_free(error);
    error = NULL;
    batpak_store_free(store);
    open_full_disk(random);
}

static int is_over(pid_t child, int *status) {
    pid_t ended = waitpid(child, status, WNOHANG);
    CHECK(ended >= 0);
    return ended == child;
}

/* Returns whether the process ended as it should. */
static int live_and_die(uint64_t state, enum ending ending) {
    int status = 0, over;
    atomic_store(&ledger->stage, 0);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        live(state, ending);
        _exit(0);
    }
    if (ending == KILLED_FULL || ending == KILLED_FILLING) {
        uint64_t stage = ending == KILLED_FULL ? FULL : FILLING;
        uint64_t delay_us = random_below(&state, ending == KILLED_FULL ? 20000 : 100000), start = now_us();
        while (!(over = is_over(child, &status)) && atomic_load(&ledger->stage) < stage && now_us() - start < 60000000) {
            usleep(200);
        }
        for (start = now_us(); !over && now_us() - start < delay_us; over = is_over(child, &status)) {
            usleep(100);
        }
        if (!over) {
            CHECK(kill(child, SIGKILL) == 0);
            CHECK(waitpid(child, &status, 0) == child);
            /* Or it had ended by itself just before. */
            if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
                return 1;
            }
        }
    } else {
        uint64_t start = now_us();
        while (!(over = is_over(child, &status)) && now_us() - start < 120000000) {
            usleep(200);
        }
        if (!over) {
            fprintf(stderr, "hangs\n");
            kill(child, SIGKILL);
            return 0;
        }
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "ended by signal %d\n", WTERMSIG(status));
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
    uint64_t cycles = strtoull(argv[2], NULL, 0), seed = strtoull(argv[3], NULL, 0), random = seed, generations = 0;
    uint64_t events = 0, ended[ENDINGS] = {0};
    snprintf(store_dir, sizeof store_dir, "%s/store", argv[1]);
    snprintf(ballast, sizeof ballast, "%s/ballast", argv[1]);
    ledger = new_ledger(seed);
    for (uint64_t cycle = 0; cycle < cycles; cycle++) {
        /* Without ballast, or ledger, there is nothing to go on with: a new store. */
        if (ballast_bytes() == 0 || ledger->end > LEDGER_EVENTS - 50000) {
            events += ledger->end;
            ledger->end = ledger->announced = 0;
            memset(ledger->known, NOTHING, sizeof ledger->known);
            remove_tree(store_dir);
            load_ballast(2 * MIB);
            generations++;
        }
        uint64_t state = random_next(&random);
        enum ending ending = (enum ending)random_below(&random, ENDINGS);
        if (!live_and_die(state, ending)) {
            fprintf(stderr, "seed %#" PRIx64 ", cycle %" PRIu64 ", ending %d: see above\n", seed, cycle, (int)ending);
            return 1;
        }
        ended[ending]++;
    }
    printf("%" PRIu64 " cycles on %" PRIu64 " stores, closed %" PRIu64 ", left %" PRIu64 ", killed full %" PRIu64
           ", killed filling %" PRIu64 "; events %" PRIu64 ", refusals %" PRIu64 ", fences %" PRIu64 ", checkpoints %" PRIu64
           ", opened for writing while full %" PRIu64 ", cut %" PRIu64 "\n",
           cycles, generations, ended[CLOSES], ended[LEAVES], ended[KILLED_FULL], ended[KILLED_FILLING],
           events + ledger->end, ledger->refused, ledger->fences, ledger->checkpoints, ledger->reopened, ledger->cut);
    return 0;
}
