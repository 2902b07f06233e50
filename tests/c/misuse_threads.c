/* One object in the hands of many threads, more than it says it serves: they come back, with a status that is documented, and nothing is
 * damaged. */
#include "worker.h"

static atomic_int is_over;

static void allowed(const char *what, batpak_status_t status, batpak_error_t *own, const batpak_status_t *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (status == list[i]) {
            batpak_error_free(own);
            return;
        }
    }
    fprintf(stderr, "%s is %s: %s\n", what, batpak_status_name(status), batpak_error_message(own, NULL));
    exit(1);
}

#define ALLOWED(call, ...) \
    do { \
        batpak_error_t *own = NULL; \
        batpak_status_t allowed_status = (call); \
        const batpak_status_t allowed_list[] = {__VA_ARGS__}; \
        allowed(#call, allowed_status, own, allowed_list, sizeof allowed_list / sizeof *allowed_list); \
    } while (0)

/* ---- one cursor, many threads --------------------------------------------------------------------------------------- */

struct shared_cursor {
    batpak_cursor_t *cursor;
    unsigned seed;
    atomic_int *freed;
};

static void count_wake(void *user_data) {
    (void)user_data;
}

static void count_freed(void *user_data) {
    atomic_fetch_add((atomic_int *)user_data, 1);
}

static atomic_int given;

static void *use_a_cursor(void *argument) {
    struct shared_cursor *shared = argument;
    batpak_cursor_t *cursor = shared->cursor;
    for (int i = 0; i < 400; i++) {
        batpak_batch_t *batch = NULL;
        batpak_gap_list_t *gaps = NULL;
        batpak_cursor_position_t position;
        uint64_t number;
        int32_t fd;
        batpak_status_t status;
        switch (rand_r(&shared->seed) % 10) {
        case 0:
        case 1:
            ALLOWED(batpak_cursor_poll(cursor, 3, 0, 1, &batch, &own), BATPAK_OK, BATPAK_TIMEOUT, BATPAK_INTERRUPTED, BATPAK_E_CONCURRENT,
                    BATPAK_E_CLOSED);
            batpak_batch_free(batch);
            break;
        case 2:
            ALLOWED(batpak_cursor_rewind(cursor, &own), BATPAK_OK, BATPAK_E_CONCURRENT, BATPAK_E_CLOSED);
            break;
        case 3:
            ALLOWED(batpak_cursor_seek_end(cursor, &own), BATPAK_OK, BATPAK_E_CONCURRENT, BATPAK_E_CLOSED);
            break;
        case 4:
            ALLOWED(batpak_cursor_position(cursor, &position, &own), BATPAK_OK, BATPAK_E_CONCURRENT, BATPAK_E_CLOSED);
            break;
        case 5:
            ALLOWED(batpak_cursor_lag(cursor, &number, &own), BATPAK_OK, BATPAK_E_CONCURRENT, BATPAK_E_CLOSED);
            break;
        case 6:
            ALLOWED(batpak_cursor_take_gaps(cursor, &gaps, &own), BATPAK_OK, BATPAK_E_CONCURRENT, BATPAK_E_CLOSED);
            batpak_gap_list_free(gaps);
            break;
        case 7:
            ALLOWED(batpak_cursor_notify_fd(cursor, &fd, &own), BATPAK_OK, BATPAK_E_CONCURRENT, BATPAK_E_CLOSED);
            break;
        case 8:
            status = batpak_cursor_set_wake(cursor, i % 2 ? count_wake : NULL, shared->freed, count_freed, NULL);
            CHECK(status == BATPAK_OK || status == BATPAK_E_CONCURRENT || status == BATPAK_E_CLOSED);
            given += status == BATPAK_OK;
            break;
        default:
            ALLOWED(batpak_cursor_interrupt(cursor, &own), BATPAK_OK, BATPAK_E_CLOSED);
            break;
        }
    }
    return NULL;
}

static void *append_until_over(void *argument) {
    while (!is_over) {
        ALLOWED(batpak_store_append_one(argument, "a", 1, "s", 1, 0x1001, "x", 1, NULL, &own), BATPAK_OK, BATPAK_E_CLOSED);
    }
    return NULL;
}

static void one_cursor_in_many_threads(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    pthread_t appender;
    is_over = 0;
    appender = start_thread(append_until_over, store);
    for (int round = 0; round < 5; round++) {
        atomic_int freed = 0;
        struct shared_cursor shared[4];
        pthread_t threads[4];
        batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
        given = 0;
        for (int i = 0; i < 4; i++) {
            shared[i] = (struct shared_cursor){cursor, (unsigned)(round * 4 + i + 1), &freed};
            threads[i] = start_thread(use_a_cursor, &shared[i]);
        }
        if (round % 2 == 1) {
            usleep(2000);
            CHECK_OK(batpak_cursor_close(cursor, &error), error);
        }
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
        }
        batpak_cursor_free(cursor);
        /* The last free comes when the last call of a wake function has returned, and the appender may be in one. */
        for (int i = 0; i < SOON_MS && freed < given; i++) {
            usleep(1000);
        }
        CHECK_EQUAL(freed, given);
    }
    is_over = 1;
    pthread_join(appender, NULL);
    close_store(store);
    remove_dir(dir);
}

/* ---- closing under everything --------------------------------------------------------------------------------------- */

struct user {
    batpak_store_t *store;
    int what;
};

static void *use_until_closed(void *argument) {
    struct user *user = argument;
    batpak_store_t *store = user->store;
    batpak_status_t status = BATPAK_OK;
    batpak_cursor_t *cursor = NULL;
    batpak_fence_t *fence = NULL;
    batpak_worker_t *worker = NULL;
    batpak_batch_t *batch = NULL;
    while (status >= 0) {
        char id[8];
        snprintf(id, sizeof id, "c%d", user->what);
        switch (user->what) {
        case 0:
            status = batpak_store_append_one(store, "a", 1, "s", 1, 0x1001, "x", 1, NULL, NULL);
            break;
        case 1:
            status = batpak_store_wait(store, BATPAK_WATERMARK_VISIBLE, UINT64_MAX, -1, NULL);
            break;
        case 2:
            status = batpak_cursor_open(store, NULL, NULL, &cursor, NULL);
            if (status == BATPAK_OK) {
                while ((status = batpak_cursor_poll(cursor, 8, 0, -1, &batch, NULL)) == BATPAK_OK) {
                    batpak_batch_free(batch);
                }
                batpak_cursor_free(cursor);
            }
            break;
        case 3:
            status = batpak_checkpoint_save(store, id, strlen(id), NULL, 0, NULL);
            break;
        case 4:
            status = batpak_fence_begin(store, NULL, &fence, NULL);
            if (status == BATPAK_OK) {
                batpak_append_t item = item_of("f", "x");
                status = batpak_fence_append(fence, &item, 1, NULL, NULL, NULL);
                status = status == BATPAK_OK ? batpak_fence_commit(fence, 0, NULL) : status;
                batpak_fence_free(fence);
                /* Closing cancels the fences before it ends everything. */
                status = status == BATPAK_E_FENCE_DECIDED ? BATPAK_OK : status;
            }
            break;
        case 5: {
            struct script script = SCRIPT(.codes = {0});
            script.codes[0] = BATPAK_HANDLER_STOP;
            status = batpak_worker_start(store, NULL, NULL, follow, &script, count_script_free, &worker, NULL);
            if (status == BATPAK_OK) {
                batpak_status_t ended = batpak_worker_stop_and_join(worker, -1, NULL);
                CHECK(ended == BATPAK_OK || ended == BATPAK_E_CLOSED);
                batpak_worker_free(worker);
                CHECK_EQUAL(counter_get(&script.freed), 1);
            }
            break;
        }
        case 6:
            status = batpak_store_sync(store, NULL);
            break;
        case 7: {
            batpak_store_stats_t stats = {.struct_size = sizeof stats};
            status = batpak_store_stats(store, &stats, NULL);
            break;
        }
        default:
            usleep(1000);
            status = batpak_store_close(store, -1, NULL);
            status = status == BATPAK_OK ? BATPAK_E_CLOSED : status;
            break;
        }
    }
    if (status != BATPAK_E_CLOSED) {
        fprintf(stderr, "kind of user %d: %s\n", user->what, batpak_status_name(status));
        exit(1);
    }
    return NULL;
}

enum { USERS = 10, CLOSING_ROUNDS = 12 };

/* Two of them close, at the same time. */
static void closing_while_all_else_is_under_way(void) {
    for (int round = 0; round < CLOSING_ROUNDS; round++) {
        char *dir = make_dir();
        batpak_store_t *store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
        struct user users[USERS];
        pthread_t threads[USERS];
        for (int i = 0; i < USERS; i++) {
            users[i] = (struct user){store, i};
            threads[i] = start_thread(use_until_closed, &users[i]);
        }
        for (int i = 0; i < USERS; i++) {
            pthread_join(threads[i], NULL);
        }
        batpak_store_free(store);
        store = open_store(dir);
        append(store, "a", "after");
        close_store(store);
        remove_dir(dir);
    }
}

/* ---- opening and closing -------------------------------------------------------------------------------------------- */

static atomic_int owners, openings;

static void *open_and_close(void *argument) {
    for (int i = 0; i < 15; i++) {
        batpak_store_t *store = NULL;
        batpak_error_t *own = NULL;
        batpak_status_t status = batpak_store_open_z(argument, NULL, &store, &own);
        if (status == BATPAK_OK) {
            CHECK_EQUAL(atomic_fetch_add(&owners, 1), 0);
            openings++;
            append_item(store, item_of("a", "x"));
            atomic_fetch_sub(&owners, 1);
            CHECK_OK(batpak_store_close(store, -1, &own), own);
            batpak_store_free(store);
        } else {
            check_status_is(__FILE__, __LINE__, "batpak_store_open_z", status, BATPAK_E_LOCKED, &own);
        }
    }
    return NULL;
}

static void many_threads_open_one_directory(void) {
    char *dir = make_dir();
    pthread_t threads[4];
    owners = openings = 0;
    for (int i = 0; i < 4; i++) {
        threads[i] = start_thread(open_and_close, dir);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    batpak_store_t *store = open_store(dir);
    CHECK_EQUAL(marks_of(store).appended, openings);
    close_store(store);
    remove_dir(dir);
}

/* ---- a delivery on another thread ----------------------------------------------------------------------------------- */

static void *use_a_delivery(void *argument) {
    batpak_delivery_t *delivery = argument;
    batpak_error_t *own = NULL;
    uint8_t key[32];
    size_t n = 7;
    CHECK(batpak_delivery_store(delivery) == NULL && batpak_delivery_batch(delivery) == NULL);
    CHECK(batpak_delivery_attempt(delivery) == 0 && batpak_delivery_gaps(delivery, &n, NULL) == NULL && n == 0);
    CHECK_STATUS(batpak_delivery_idempotency_key(delivery, 0, 0, key, &own), BATPAK_E_INVALID_ARGUMENT, own);
    CHECK_STATUS(batpak_delivery_set_done(delivery, 0, &own), BATPAK_E_INVALID_ARGUMENT, own);
    for (int i = 0; i < 200; i++) {
        CHECK_STATUS(batpak_delivery_set_error(delivery, "theirs", 6, &own), BATPAK_E_INVALID_ARGUMENT, own);
    }
    return NULL;
}

/* Both say what was wrong, at the same time: the handler's word counts. */
static void lend_the_delivery(struct script *script, batpak_delivery_t *delivery, int call) {
    pthread_t threads[2];
    batpak_error_t *own = NULL;
    (void)script, (void)call;
    for (int i = 0; i < 2; i++) {
        threads[i] = start_thread(use_a_delivery, delivery);
    }
    for (int i = 0; i < 200; i++) {
        CHECK_OK(batpak_delivery_set_error(delivery, "ours", 4, &own), own);
        CHECK(batpak_delivery_batch(delivery) != NULL);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void a_delivery_is_of_its_handlers_thread(void) {
    char *dir = make_dir();
    batpak_store_t *store = store_of(dir, 1);
    struct script script = SCRIPT(.codes = {BATPAK_HANDLER_FAIL, BATPAK_HANDLER_FAIL}, .within = lend_the_delivery);
    batpak_worker_options_t options = worker_options(&script, "w");
    batpak_worker_t *worker = start_worker(store, &script, &options);
    CHECK(batpak_worker_join(worker, SOON_MS, &error) == BATPAK_E_RESTART_BUDGET_EXHAUSTED);
    CHECK(strstr(batpak_error_message(error, NULL), "ours") != NULL);
    batpak_error_free(error);
    error = NULL;
    batpak_worker_free(worker);
    close_store(store);
    remove_dir(dir);
}

/* ---- freeing on another thread -------------------------------------------------------------------------------------- */

struct left {
    batpak_batch_t *batch;
    batpak_error_t *error;
    batpak_entity_list_t *list;
};

static batpak_store_t *reader;

/* The thread ends; what it made goes on. */
static void *leave_something(void *argument) {
    struct left *left = argument;
    CHECK(batpak_store_get(reader, 0, &left->batch, NULL) == BATPAK_OK);
    CHECK(batpak_store_get(reader, 0, NULL, &left->error) == BATPAK_E_INVALID_ARGUMENT);
    CHECK(batpak_store_entities(reader, NULL, 0, NULL, 0, 10, &left->list, NULL) == BATPAK_OK);
    append_many(reader, "b", 10, 3);
    return NULL;
}

static void what_a_thread_made_outlives_it(void) {
    char *dir = make_dir();
    reader = store_of(dir, 1);
    for (int i = 0; i < 50; i++) {
        struct left left = {0};
        size_t n = 0;
        pthread_join(start_thread(leave_something, &left), NULL);
        CHECK(batpak_batch_events(left.batch, &n)->sequence == 0 && n == 1);
        CHECK(batpak_error_code(left.error) == BATPAK_E_INVALID_ARGUMENT);
        CHECK(batpak_entity_list_entities(left.list, &n) != NULL && n >= 1);
        batpak_batch_free(left.batch);
        batpak_error_free(left.error);
        batpak_entity_list_free(left.list);
    }
    close_store(reader);
    remove_dir(dir);
}

int main(void) {
    RUN(one_cursor_in_many_threads);
    RUN(closing_while_all_else_is_under_way);
    RUN(many_threads_open_one_directory);
    RUN(a_delivery_is_of_its_handlers_thread);
    RUN(what_a_thread_made_outlives_it);
    return 0;
}
