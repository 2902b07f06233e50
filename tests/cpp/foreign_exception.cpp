// An exception that leaves a C callback ends the process there, as the header says: it must not pass through the
// library, where locks are held.
#include "check.h"

#include <csignal>
#include <stdexcept>
#include <sys/resource.h>
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

// Runs `body` on a fresh store in a child, which must end by abort.
static void aborts(const char *name, batpak_clock_fn clock, void (*body)(batpak_store_t *)) {
    char *dir = make_dir();
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const rlimit no_core{0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        batpak_store_options_t options;
        batpak_store_t *store = nullptr;
        batpak_store_options_init(&options, sizeof options, nullptr);
        options.clock = clock;
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
    aborts("handler", nullptr, in_a_handler);
    aborts("wake function", nullptr, in_a_wake_function);
    aborts("clock", throwing_clock, append_one);
    return 0;
}
