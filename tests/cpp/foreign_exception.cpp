// An exception that leaves a C callback ends the process there, as the header says: it must not pass through the
// library, where locks are held.
#include "check.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static std::int32_t throwing_handler(void *, batpak_delivery_t *, const batpak_event_t *, std::size_t) {
    throw std::runtime_error("out of a handler");
}

static std::int64_t throwing_clock(void *) {
    throw std::runtime_error("out of a clock");
}

static void throwing_wake(void *) {
    throw std::runtime_error("out of a wake function");
}

static void throwing_log(void *, std::uint32_t, const char *, std::size_t, const char *, std::size_t) {
    throw std::runtime_error("out of a log function");
}

static void throwing_free(void *) {
    throw std::runtime_error("out of a function that frees user data");
}

static void throwing_budget(void *) {
    throw std::runtime_error("out of a callback");
}

static void throwing_failure(void *, const char *, std::size_t, batpak_status_t, const char *, std::size_t) {
    throw std::runtime_error("out of a callback");
}

static std::int32_t failing_handler(void *, batpak_delivery_t *, const batpak_event_t *, std::size_t) {
    return BATPAK_HANDLER_FAIL;
}

static std::string directory;
static std::atomic<bool> syncs_fail;

// The library finds it first.
extern "C" int fdatasync(int fd) {
    if (syncs_fail) {
        errno = EIO;
        return -1;
    }
    return static_cast<int>(syscall(SYS_fdatasync, fd));
}

// What cannot be replaced by a file stands in the place of the checkpoint.
static std::int32_t obstructing_handler(void *, batpak_delivery_t *, const batpak_event_t *, std::size_t) {
    const std::string place = directory + "/cursors/w.ckpt";
    mkdir((directory + "/cursors").c_str(), 0700);
    mkdir(place.c_str(), 0700);
    mkdir((place + "/in-it").c_str(), 0700);
    return BATPAK_HANDLER_CONTINUE;
}

static void append_one(batpak_store_t *store) {
    batpak_store_append_one(store, "e", 1, "s", 1, 0x1001, "", 0, nullptr, nullptr);
}

static void in_a_handler(batpak_store_t *store) {
    batpak_worker_t *worker = nullptr;
    append_one(store);
    batpak_worker_start(store, nullptr, nullptr, throwing_handler, nullptr, nullptr, &worker, nullptr);
    batpak_worker_join(worker, -1, nullptr);
}

static void in_a_wake_function(batpak_store_t *store) {
    batpak_cursor_t *cursor = nullptr;
    batpak_batch_t *batch = nullptr;
    batpak_cursor_open(store, nullptr, nullptr, &cursor, nullptr);
    batpak_cursor_set_wake(cursor, throwing_wake, nullptr, nullptr, nullptr);
    batpak_cursor_poll(cursor, 1, 0, 0, &batch, nullptr);
    append_one(store);
}

static void in_a_free(batpak_store_t *store) {
    batpak_worker_t *worker = nullptr;
    batpak_worker_start(store, nullptr, nullptr, failing_handler, nullptr, throwing_free, &worker, nullptr);
    batpak_worker_stop_and_join(worker, -1, nullptr);
}

static void in_a_free_of_a_wake(batpak_store_t *store) {
    batpak_cursor_t *cursor = nullptr;
    batpak_cursor_open(store, nullptr, nullptr, &cursor, nullptr);
    batpak_cursor_set_wake(cursor, throwing_wake, nullptr, throwing_free, nullptr);
    batpak_cursor_free(cursor);
}

static void run_with(batpak_store_t *store, batpak_worker_options_t options) {
    batpak_worker_t *worker = nullptr;
    append_one(store);
    batpak_worker_start(store, nullptr, &options, failing_handler, nullptr, nullptr, &worker, nullptr);
    batpak_worker_join(worker, -1, nullptr);
}

static void in_the_last_restart(batpak_store_t *store) {
    batpak_worker_options_t options;
    batpak_worker_options_init(&options, sizeof options, nullptr);
    options.on_restart_budget_exhausted = throwing_budget;
    run_with(store, options);
}

static void in_a_failed_checkpoint(batpak_store_t *store) {
    batpak_worker_options_t options;
    batpak_worker_t *worker = nullptr;
    batpak_worker_options_init(&options, sizeof options, nullptr);
    options.on_checkpoint_failure = throwing_failure;
    options.checkpoint_id = "w", options.checkpoint_id_len = 1;
    append_one(store);
    batpak_worker_start(store, nullptr, &options, obstructing_handler, nullptr, nullptr, &worker, nullptr);
    batpak_worker_join(worker, -1, nullptr);
}

// The store's own thread says that a sync has failed.
static void in_a_log_function(batpak_store_t *store) {
    append_one(store);
    syncs_fail = true;
    batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, 1, 0, nullptr);
    sleep(60);
}

// Runs `body` on a fresh store in a child, which must end by abort.
static void aborts(const char *name, batpak_clock_fn clock, void (*body)(batpak_store_t *)) {
    char *dir = make_dir();
    directory = dir;
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const rlimit no_core{0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        batpak_store_options_t options;
        batpak_store_t *store = nullptr;
        batpak_store_options_init(&options, sizeof options, nullptr);
        options.clock = clock;
        options.log = throwing_log;
        options.durability = BATPAK_DURABILITY_PROCESS;
        if (batpak_store_open_z(dir, &options, &store, nullptr) == BATPAK_OK) {
            body(store);
        }
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
        std::fprintf(stderr, "%s: the child ended with %#x\n", name, static_cast<unsigned>(status));
        std::exit(1);
    }
    remove_dir(dir);
}

int main() {
    /* Each case ends a process, which under valgrind takes minutes; it is loaded by this variable. */
    const char *preload = std::getenv("LD_PRELOAD");
    if (preload != nullptr && std::strstr(preload, "vgpreload") != nullptr) {
        std::puts("skipped: aborts are not looked at under valgrind");
        return 0;
    }
    aborts("handler", nullptr, in_a_handler);
    aborts("wake function", nullptr, in_a_wake_function);
    aborts("clock", throwing_clock, append_one);
    aborts("log function", nullptr, in_a_log_function);
    aborts("function that frees a worker's user data", nullptr, in_a_free);
    aborts("function that frees a wake function's user data", nullptr, in_a_free_of_a_wake);
    aborts("callback of the last restart", nullptr, in_the_last_restart);
    aborts("callback of a failed checkpoint", nullptr, in_a_failed_checkpoint);
    return 0;
}
