/* Somebody damages the files of an open store: row R14 of the scorecard.
 *
 *     damage DIRECTORY TRIALS SEED [FIRST]
 *
 * Each trial is a process that opens a copy of a store, with cursors of other threads in the midst of reading, damages one
 * file, uses the store in every way, closes it, and opens it again. What is answered is the truth or an error that names the
 * file; no event ever has another's bytes, none in the midst is silently missing, and nothing ends the process.
 *
 * Appends are synced ones: BATPAK_DURABILITY_PROCESS is the host's choice of a mapping that somebody else can cut off. */
#include "places.h"

#include <stdatomic.h>

enum { READERS = 2 };

static char template[PATH_MAX];
static batpak_store_t *store;
static _Atomic int is_over;
static int was_cut;

/* Errors that damage may be answered with: they name the file. */
static int is_documented(batpak_status_t status, batpak_error_t **err) {
    if (status >= 0) {
        CHECK(*err == NULL);
        return 1;
    }
    const char *message = batpak_error_message(*err, NULL);
    int is_named = strstr(message, "store/") != NULL || strstr(message, "store ") != NULL || status == BATPAK_E_POISONED;
    switch (status) {
    case BATPAK_E_CORRUPT:
        is_named = is_named && batpak_error_detail(*err, "path", 4, NULL) != NULL &&
                   batpak_error_detail(*err, "offset", 6, NULL) != NULL;
        break;
    case BATPAK_E_POISONED: case BATPAK_E_IO: case BATPAK_E_NOT_A_STORE: case BATPAK_E_NEWER_FORMAT:
    case BATPAK_E_STORE_MISMATCH: case BATPAK_E_CHECKPOINT_CORRUPT: case BATPAK_E_CHECKPOINT_REGION_MISMATCH:
    case BATPAK_E_CHECKPOINT_STORE_MISMATCH: case BATPAK_E_CHECKPOINT_AHEAD: case BATPAK_E_CHECKPOINT_DIVERGED:
    case BATPAK_E_CHECKPOINT_NOT_FOUND: break;
    default: is_named = 0;
    }
    if (!is_named) {
        fprintf(stderr, "%s: %s\n", batpak_status_name(status), message);
    }
    batpak_error_free(*err);
    *err = NULL;
    return is_named;
}

#define ANSWERS(call) answers(__LINE__, #call, (call))

/* Returns whether it succeeded. */
static int answers(int line, const char *call, batpak_status_t status) {
    if (!is_documented(status, &error)) {
        fprintf(stderr, "%s:%d: %s\n", __FILE__, line, call);
        exit(1);
    }
    return status >= 0;
}

/* Every event that comes is what it was; between two of one poll none that matches is left out. Returns the last poll's
 * status; the next sequence is one after the last event. */
static batpak_status_t read_all(batpak_cursor_t *cursor, int every, size_t max, batpak_error_t **err, struct content *content) {
    for (uint64_t next = BATPAK_NO_SEQUENCE;;) {
        batpak_batch_t *batch = NULL;
        size_t n = 0;
        batpak_status_t status = batpak_cursor_poll(cursor, max, 0, 0, &batch, err);
        if (status != BATPAK_OK) {
            return status;
        }
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        for (size_t i = 0; i < n; i++) {
            CHECK(events[i].sequence < ledger->announced);
            check_event(ledger, &events[i], content);
            if (every && next != BATPAK_NO_SEQUENCE && events[i].sequence != next) {
                fprintf(stderr, "event %" PRIu64 " is silently missing: %" PRIu64 " came\n", next, events[i].sequence);
                exit(1);
            }
            next = events[i].sequence + 1;
        }
        batpak_batch_free(batch);
    }
}

static void *read_on(void *number) {
    batpak_error_t *own = NULL;
    batpak_cursor_t *cursor = NULL;
    struct content *content = malloc(sizeof *content);
    int every = number == NULL;
    batpak_region_t region = region_of(BATPAK_ENTITY_EXACT, "entity:3");
    CHECK(content != NULL);
    CHECK(batpak_cursor_open(store, every ? NULL : &region, NULL, &cursor, &own) == BATPAK_OK);
    do {
        batpak_status_t status = read_all(cursor, every, 20, &own, content);
        CHECK(is_documented(status, &own));
        CHECK(batpak_cursor_rewind(cursor, &own) == BATPAK_OK);
        usleep(300);
    } while (!atomic_load(&is_over));
    batpak_cursor_free(cursor);
    free(content);
    return NULL;
}

/* ---- damage --------------------------------------------------------------------------------------------------------- */

enum deed { CUT_TO_NOTHING, CUT_TO_HALF, CUT_BY_ONE, CUT_ANYWHERE, OVERWRITE, OVERWRITE_MUCH, DELETE, REPLACE, REPLACE_BY_ZEROS, GROW, DEEDS };

static const char *const deeds[DEEDS] = {"cut to nothing", "cut to half", "cut by one byte", "cut anywhere", "overwritten",
                                         "overwritten at large", "deleted", "replaced by another", "replaced by zeros", "grown"};

/* The files of a store, its own directories left out. */
static size_t list_files(const char *dir, char (*paths)[PATH_MAX], size_t capacity, size_t n) {
    DIR *directory = opendir(dir);
    CHECK(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char path[PATH_MAX];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        join(path, dir, entry->d_name);
        if (entry->d_type == DT_DIR) {
            n = list_files(path, paths, capacity, n);
        } else {
            CHECK(n < capacity);
            strcpy(paths[n++], path);
        }
    }
    closedir(directory);
    return n;
}

static int compare_paths(const void *one, const void *other) {
    return strcmp(one, other);
}

static void do_deed(enum deed deed, const char *path, const char *other, uint64_t *random) {
    struct stat status;
    uint8_t bytes[4096];
    if (stat(path, &status) != 0) {
        return; /* The store has renamed it meanwhile. */
    }
    uint64_t length = (uint64_t)status.st_size;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)random_next(random);
    }
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0);
    switch (deed) {
    case CUT_TO_NOTHING: CHECK(ftruncate(fd, 0) == 0); break;
    case CUT_TO_HALF: CHECK(ftruncate(fd, (off_t)(length / 2)) == 0); break;
    case CUT_BY_ONE: CHECK(ftruncate(fd, (off_t)(length - (length > 0))) == 0); break;
    case CUT_ANYWHERE: CHECK(ftruncate(fd, (off_t)random_below(random, length + 1)) == 0); break;
    case OVERWRITE:
        CHECK(pwrite(fd, bytes, 1 + random_below(random, 64), (off_t)random_below(random, length + 1)) > 0);
        break;
    case OVERWRITE_MUCH:
        for (int i = 0; i < 8; i++) {
            CHECK(pwrite(fd, bytes, sizeof bytes, (off_t)random_below(random, length + 1)) > 0);
        }
        break;
    case DELETE: CHECK(unlink(path) == 0); break;
    case REPLACE:
        copy_bytes(other, "other");
        CHECK(rename("other", path) == 0);
        break;
    case REPLACE_BY_ZEROS: {
        int zeros = open("other", O_WRONLY | O_CREAT | O_TRUNC, 0666);
        CHECK(zeros >= 0 && ftruncate(zeros, (off_t)length) == 0 && close(zeros) == 0);
        CHECK(rename("other", path) == 0);
        break;
    }
    default: CHECK(pwrite(fd, bytes, 1 + random_below(random, sizeof bytes), (off_t)length) > 0);
    }
    close(fd);
}

/* ---- a trial -------------------------------------------------------------------------------------------------------- */

static void use_store(uint64_t *random, batpak_cursor_t *consumer) {
    struct content *content = malloc(sizeof *content);
    CHECK(content != NULL);
    for (int turn = 0; turn < 12; turn++) {
        switch (random_below(random, 9)) {
        case 0: case 1: {
            batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
            if (random_below(random, 2)) {
                answers(__LINE__, "seek", batpak_cursor_seek(cursor, random_below(random, marks_of(store).visible), &error));
            }
            answers(__LINE__, "poll", read_all(cursor, 1, 1 + random_below(random, 600), &error, content));
            close_cursor(cursor);
            break;
        }
        case 2: {
            uint64_t sequence = random_below(random, ledger->end);
            batpak_batch_t *batch = NULL;
            batpak_status_t status = batpak_store_get(store, sequence, &batch, &error);
            if (ANSWERS(status)) {
                size_t n = 0;
                const batpak_event_t *events = batpak_batch_events(batch, &n);
                CHECK(status == BATPAK_OK && n == 1 && events[0].sequence == sequence);
                check_event(ledger, &events[0], content);
                batpak_batch_free(batch);
            }
            break;
        }
        case 3: {
            batpak_entity_list_t *list = NULL;
            if (ANSWERS(batpak_store_entities(store, NULL, 0, NULL, 0, 100, &list, &error))) {
                size_t n = 0;
                batpak_entity_list_entities(list, &n);
                CHECK_EQUAL(n, ENTITIES);
                batpak_entity_list_free(list);
            }
            break;
        }
        case 4: {
            batpak_entity_head_t head;
            char name[24];
            snprintf(name, sizeof name, "entity:%u", (unsigned)random_below(random, ENTITIES + 1));
            ANSWERS(batpak_store_entity_head(store, name, strlen(name), &head, &error));
            break;
        }
        case 5: case 6: {
            size_t n = 1 + random_below(random, random_below(random, 4) ? 4 : ITEMS_MAX);
            uint64_t end = ledger->end;
            batpak_status_t status = append_next(store, n, BATPAK_DURABILITY_STORAGE);
            if (status < 0) {
                /* Refused with nothing changed, or the store is poisoned and an opening decides. */
                ANSWERS(status);
                if (status != BATPAK_E_POISONED && marks_of(store).appended == end) {
                    decide(ledger, NOTHING);
                } else {
                    free(content);
                    return;
                }
            }
            break;
        }
        case 7: {
            batpak_batch_t *batch = NULL;
            batpak_status_t status = batpak_cursor_poll(consumer, 50, 0, 0, &batch, &error);
            if (answers(__LINE__, "poll", status)) {
                batpak_batch_free(batch);
                ANSWERS(batpak_cursor_checkpoint(consumer, &error));
            }
            break;
        }
        default:
            ANSWERS(batpak_store_sync(store, &error));
            ANSWERS(batpak_checkpoint_save(store, "other", 5, NULL, random_below(random, ledger->end), &error));
            stats_of(store);
        }
    }
    free(content);
}

/* What is there after a new opening: all that was acknowledged, in order, up to a place that is named. */
static void look_again(uint32_t flags) {
    struct content *content = malloc(sizeof *content);
    CHECK(content != NULL);
    if (!answers(__LINE__, "open", open_with("store", flags, &store))) {
        CHECK(store == NULL);
        free(content);
        return;
    }
    batpak_watermarks_t marks = marks_of(store);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    uint64_t end = 0;
    if (answers(__LINE__, "poll", read_all(cursor, 1, 500, &error, content))) {
        /* Without an error it is all of it. */
        batpak_cursor_position_t position = position_of(cursor);
        end = position.next_sequence;
        CHECK_EQUAL(end, marks.visible);
        /* A cut is told once, by the opening that makes it. */
        was_cut = was_cut || stats_of(store).cut_bytes > 0;
        if (end < ledger->end && !was_cut) {
            fprintf(stderr, "events %" PRIu64 " to %" PRIu64 " were acknowledged and are silently missing\n", end, ledger->end - 1);
            exit(1);
        }
    }
    close_cursor(cursor);
    batpak_entity_list_t *list = NULL;
    ANSWERS(batpak_store_entities(store, NULL, 0, NULL, 0, 100, &list, &error));
    batpak_entity_list_free(list);
    cursor = NULL;
    if (ANSWERS(try_cursor(store, NULL, "consumer", &cursor, &error))) {
        ANSWERS(read_all(cursor, 1, 500, &error, content));
        close_cursor(cursor);
    }
    ANSWERS(batpak_store_close(store, SOON_MS, &error));
    batpak_store_free(store);
    free(content);
}

static void trial(uint64_t state) {
    static char paths[64][PATH_MAX];
    uint64_t *random = &state;
    pthread_t readers[READERS];
    uint64_t sequences[50];
    copy_dir(template, "store");
    store = open_here("store", random_below(random, 3) ? 0 : BATPAK_STORE_NO_HELPER_THREAD);
    batpak_cursor_t *consumer = open_cursor(store, NULL, "consumer");
    append_well(store, 1 + random_below(random, 20), BATPAK_DURABILITY_STORAGE);
    poll_sequences(consumer, 50, sequences);
    CHECK_OK(batpak_cursor_checkpoint(consumer, &error), error);
    if (random_below(random, 2)) {
        verify(store, ledger);
    }
    for (intptr_t i = 0; i < READERS; i++) {
        readers[i] = start_thread(read_on, (void *)i);
    }
    if (random_below(random, 2)) {
        usleep((useconds_t)random_below(random, 3000));
    }
    size_t n = list_files("store", paths, 64, 0);
    qsort(paths, n, PATH_MAX, compare_paths);
    size_t at = random_below(random, n);
    enum deed deed = (enum deed)random_below(random, DEEDS);
    /* For the report: what is about to be done. */
    printf("%s %s\n", paths[at], deeds[deed]);
    fflush(stdout);
    do_deed(deed, paths[at], paths[random_below(random, n)], random);
    use_store(random, consumer);
    atomic_store(&is_over, 1);
    for (int i = 0; i < READERS; i++) {
        join_thread(readers[i]);
    }
    ANSWERS(batpak_cursor_close(consumer, &error));
    batpak_cursor_free(consumer);
    ANSWERS(batpak_store_close(store, SOON_MS, &error));
    batpak_store_free(store);
    look_again(BATPAK_STORE_READ_ONLY);
    look_again(0);
    look_again(0);
}

int main(int argc, char **argv) {
    CHECK(argc >= 4);
    uint64_t trials = strtoull(argv[2], NULL, 0), seed = strtoull(argv[3], NULL, 0), failed = 0;
    uint64_t first = argc > 4 ? strtoull(argv[4], NULL, 0) : 0;
    CHECK(chdir(argv[1]) == 0 && getcwd(template, sizeof template) != NULL);
    strcat(template, "/template");
    remove_tree(template);
    ledger = new_ledger(1);
    struct ledger *shared = ledger;
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        make_template(template, 1);
        memcpy(shared, ledger, sizeof *shared);
        _exit(0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    struct ledger *pristine = new_ledger(1);
    memcpy(pristine, ledger, sizeof *pristine);
    for (uint64_t number = first; number < first + trials && failed < 10; number++) {
        char place[64], what[256] = "?";
        snprintf(place, sizeof place, "trial-%" PRIu64, number);
        memcpy(ledger, pristine, sizeof *ledger);
        remove_tree(place);
        CHECK(mkdir(place, 0755) == 0);
        fflush(NULL);
        child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(60);
            CHECK(chdir(place) == 0 && freopen("what", "w", stdout) != NULL);
            trial(seed + number * UINT64_C(0x9E3779B97F4A7C15));
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            remove_tree(place);
            continue;
        }
        char path[128];
        snprintf(path, sizeof path, "%s/what", place);
        FILE *file = fopen(path, "r");
        if (file != NULL) {
            what[strcspn(fgets(what, sizeof what, file) ? what : "?", "\n")] = 0;
            fclose(file);
        }
        fprintf(stderr, "seed %#" PRIx64 ", trial %" PRIu64 ", %s: %s %d\n", seed, number, what,
                WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        failed++;
    }
    printf("trials=%" PRIu64 " failures=%" PRIu64 "\n", trials, failed);
    return 0;
}
