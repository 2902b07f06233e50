/* A plug-in's life: the library is loaded, used and let go, again and again, also with a store left open. It leaves no threads, and no code is
 * pulled from under one. What is loaded is a copy, which this program is not linked with. */
#include "events.h"

#include <dlfcn.h>

enum { ROUNDS = 100, RUNS_WITH_WORK = 12 };

/* The functions of the copy. */
struct library {
    void *handle;
    batpak_status_t (*open)(const char *, const batpak_store_options_t *, batpak_store_t **, batpak_error_t **);
    batpak_status_t (*append)(batpak_store_t *, const char *, size_t, const char *, size_t, uint32_t, const void *, size_t,
                              batpak_receipt_t *, batpak_error_t **);
    batpak_status_t (*start)(batpak_store_t *, const batpak_region_t *, const batpak_worker_options_t *, batpak_handler_fn, void *,
                             batpak_user_data_free_fn, batpak_worker_t **, batpak_error_t **);
    batpak_status_t (*close)(batpak_store_t *, int64_t, batpak_error_t **);
    void (*free_worker)(batpak_worker_t *);
    void (*free_store)(batpak_store_t *);
};

/* A function pointer from dlsym, as POSIX has it. */
#define FIND(library, member, name) \
    do { \
        void *found = dlsym((library).handle, name); \
        CHECK(found != NULL); \
        memcpy(&(library).member, &found, sizeof found); \
    } while (0)

static struct library load(const char *path) {
    struct library library = {.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL)};
    if (library.handle == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    FIND(library, open, "batpak_store_open_z");
    FIND(library, append, "batpak_store_append_one");
    FIND(library, start, "batpak_worker_start");
    FIND(library, close, "batpak_store_close");
    FIND(library, free_worker, "batpak_worker_free");
    FIND(library, free_store, "batpak_store_free");
    return library;
}

static char *copy_library(const char *dir) {
    Dl_info info;
    char *path = malloc(PATH_MAX), buffer[65536];
    /* Through the address of a function, as an object pointer. */
    batpak_status_t (*function)(uint32_t, batpak_error_t **) = batpak_check_abi;
    void *address;
    memcpy(&address, &function, sizeof address);
    CHECK(path != NULL && dladdr(address, &info) != 0);
    snprintf(path, PATH_MAX, "%s/copy.so", dir);
    FILE *from = fopen(info.dli_fname, "rb"), *to = fopen(path, "wb");
    CHECK(from != NULL && to != NULL);
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, from)) > 0;) {
        CHECK(fwrite(buffer, 1, n, to) == n);
    }
    CHECK(fclose(to) == 0 && fclose(from) == 0);
    return path;
}

static size_t count_threads(void) {
    size_t n = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        n += entry->d_name[0] != '.';
    }
    closedir(tasks);
    return n;
}

/* A thread that was joined may still be listed for a moment. */
static void expect_threads(size_t n) {
    for (int i = 0; i < 2000 && count_threads() > n; i++) {
        usleep(1000);
    }
    CHECK_EQUAL(count_threads(), n);
}

static struct counter handled = COUNTER;

static int32_t handle(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)delivery, (void)events;
    counter_add(&handled, n);
    return BATPAK_HANDLER_CONTINUE;
}

/* Leaves the store open, with a worker that has handled an event. */
static batpak_store_t *use(struct library *library, const char *dir, batpak_worker_t **worker) {
    batpak_store_t *store = NULL;
    uint64_t before = counter_get(&handled);
    CHECK(library->open(dir, NULL, &store, NULL) == BATPAK_OK);
    CHECK(library->start(store, NULL, NULL, handle, NULL, NULL, worker, NULL) == BATPAK_OK);
    CHECK(library->append(store, "a", 1, "s", 1, 0x1001, "x", 1, NULL, NULL) == BATPAK_OK);
    counter_wait(&handled, before + 1);
    return store;
}

static void it_is_loaded_and_let_go_a_hundred_times(const char *path) {
    char *dir = make_dir();
    size_t threads = count_threads();
    for (int i = 0; i < ROUNDS; i++) {
        struct library library = load(path);
        if (i < RUNS_WITH_WORK) {
            batpak_worker_t *worker = NULL;
            batpak_store_t *store = use(&library, dir, &worker);
            CHECK(library.close(store, -1, NULL) == BATPAK_OK);
            library.free_worker(worker);
            library.free_store(store);
        }
        CHECK(dlclose(library.handle) == 0);
        expect_threads(threads);
    }
    remove_dir(dir);
}

/* The worker and the store's own thread go on in code that stays. */
static void it_is_let_go_with_a_store_open(const char *path) {
    char *dir = make_dir();
    struct library library = load(path);
    batpak_worker_t *worker = NULL;
    batpak_store_t *store = use(&library, dir, &worker);
    uint64_t before = counter_get(&handled);
    CHECK(dlclose(library.handle) == 0);
    usleep(30000);
    /* A second loading meets the first one's store. */
    library = load(path);
    CHECK(library.open(dir, NULL, &(batpak_store_t *){NULL}, NULL) == BATPAK_E_LOCKED);
    CHECK(library.append(store, "a", 1, "s", 1, 0x1001, "x", 1, NULL, NULL) == BATPAK_OK);
    counter_wait(&handled, before + 1);
    CHECK(library.close(store, -1, NULL) == BATPAK_OK);
    library.free_worker(worker);
    library.free_store(store);
    CHECK(dlclose(library.handle) == 0);
    remove_dir(dir);
}

static struct library last;

/* A thread that has used the library ends after it was let go: what it has of its own in the library is destroyed then. */
static void *use_and_wait(void *argument) {
    batpak_append_t items[2] = {item_of("a", "x"), item_of("a", "y")};
    batpak_status_t (*append_items)(batpak_store_t *, const batpak_append_t *, size_t, const batpak_append_options_t *,
                                    batpak_receipt_t *, batpak_error_t **);
    void *found = dlsym(last.handle, "batpak_store_append");
    memcpy(&append_items, &found, sizeof found);
    batpak_store_t *store = NULL;
    CHECK(last.open(argument, NULL, &store, NULL) == BATPAK_OK);
    CHECK(append_items(store, items, 2, NULL, NULL, NULL) == BATPAK_OK);
    CHECK(last.close(store, -1, NULL) == BATPAK_OK);
    last.free_store(store);
    CHECK(dlclose(last.handle) == 0);
    return NULL;
}

static void it_is_let_go_before_a_thread_that_used_it_ends(const char *path) {
    char *dir = make_dir();
    last = load(path);
    pthread_join(start_thread(use_and_wait, dir), NULL);
    remove_dir(dir);
}

int main(void) {
    char *dir = make_dir();
    char *path = copy_library(dir);
    it_is_loaded_and_let_go_a_hundred_times(path);
    puts("it_is_loaded_and_let_go_a_hundred_times");
    it_is_let_go_before_a_thread_that_used_it_ends(path);
    puts("it_is_let_go_before_a_thread_that_used_it_ends");
    it_is_let_go_with_a_store_open(path);
    puts("it_is_let_go_with_a_store_open");
    free(path);
    remove_dir(dir);
    return 0;
}
