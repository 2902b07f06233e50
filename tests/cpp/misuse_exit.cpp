// The ways a process ends while stores are open: exit from main, from a handler, in static destructors and atexit functions, before or after
// the library's own, with workers running. Each ends with the status that it was given, and what was acknowledged is there.
#include "batpak.hpp"
#include "check.h"

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <sys/wait.h>
#include <thread>

static std::string directory;

static void append(batpak_store_t *store) {
    CHECK(batpak_store_append_one(store, "e", 1, "s", 1, 0x1001, "", 0, nullptr, nullptr) == BATPAK_OK);
}

static batpak_store_t *open_raw() {
    batpak_store_t *store = nullptr;
    CHECK(batpak_store_open_z(directory.c_str(), nullptr, &store, nullptr) == BATPAK_OK);
    append(store);
    return store;
}

static std::int32_t go_on(void *, batpak_delivery_t *, const batpak_event_t *, std::size_t) {
    return BATPAK_HANDLER_CONTINUE;
}

static batpak_worker_t *start(batpak_store_t *store, batpak_handler_fn handler) {
    batpak_worker_t *worker = nullptr;
    CHECK(batpak_worker_start(store, nullptr, nullptr, handler, nullptr, nullptr, &worker, nullptr) == BATPAK_OK);
    return worker;
}

// Closes its store when it is destroyed.
struct closer {
    batpak_store_t *store = nullptr;
    batpak_worker_t *worker = nullptr;
    batpak_status_t expected = BATPAK_OK;

    ~closer() {
        if (store == nullptr) {
            return;
        }
        const batpak_status_t status = batpak_store_close(store, -1, nullptr);
        if (status != expected) {
            std::fprintf(stderr, "close is %s\n", batpak_status_name(status));
            std::_Exit(1);
        }
        batpak_worker_free(worker);
        batpak_store_free(store);
    }
};

// What is left on purpose, for those who look for leaks.
static void *volatile left[4];

// Made before main, so destroyed after what main made.
static closer global;
static std::optional<batpak::store> global_store;

static void leave_everything_open() {
    batpak_store_t *store = open_raw();
    left[0] = store;
    left[1] = start(store, go_on);
    append(store);
}

static void close_in_a_static_destructor() {
    global.store = open_raw();
    global.worker = start(global.store, go_on);
}

static void close_in_a_destructor_that_comes_first() {
    static closer local;
    local.store = open_raw();
    local.worker = start(local.store, go_on);
}

static void close_at_exit() {
    static batpak_store_t *store;
    store = open_raw();
    std::atexit([] {
        append(store);
        CHECK(batpak_store_close(store, -1, nullptr) == BATPAK_OK);
        batpak_store_free(store);
    });
}

static void leave_the_wrapper_open() {
    global_store.emplace(directory);
    append(global_store->get());
}

static std::int32_t exit_from_a_handler(void *, batpak_delivery_t *, const batpak_event_t *, std::size_t) {
    // The static destructors run here, within the handler: to wait for it would be for ever.
    std::exit(7);
}

static void end_by_a_handler() {
    global.store = open_raw();
    global.expected = BATPAK_E_REENTRANT;
    batpak_worker_t *worker = start(global.store, exit_from_a_handler);
    left[2] = worker;
    batpak_worker_join(worker, -1, nullptr);
}

static void keep_threads_busy() {
    static batpak_store_t *store;
    store = open_raw();
    left[3] = store;
    for (int i = 0; i < 3; i++) {
        std::thread([] {
            for (;;) {
                batpak_store_append_one(store, "e", 1, "s", 1, 0x1001, "", 0, nullptr, nullptr);
            }
        }).detach();
    }
    append(store);
}

// A forked child exits with its parent's store and worker, and runs the same destructors as the parent.
static void exit_in_a_forked_child() {
#ifdef __SANITIZE_ADDRESS__
    std::puts("SKIPPED: the address sanitizer cannot fork beside threads");
    global.store = open_raw();
#else
    global.store = open_raw();
    global.worker = start(global.store, go_on);
    const pid_t child = fork();
    if (child == 0) {
        global.expected = BATPAK_E_FORKED;
        std::exit(7);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    append(global.store);
#endif
}

static void exit_quickly() {
    global.store = open_raw();
    std::quick_exit(7);
}

// Runs `body` in a child that then exits, if it does not itself.
static void ends(const char *name, void (*body)()) {
    char *dir = make_dir();
    directory = std::string(dir) + "/store";
    std::fflush(nullptr);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(100);
        body();
        std::exit(7);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) {
        std::fprintf(stderr, "%s: the child ended with %#x\n", name, static_cast<unsigned>(status));
        std::exit(1);
    }
    batpak_store_t *store = nullptr;
    batpak_watermarks_t marks;
    CHECK(batpak_store_open_z(directory.c_str(), nullptr, &store, nullptr) == BATPAK_OK);
    CHECK(batpak_store_watermarks(store, &marks, nullptr) == BATPAK_OK && marks.appended >= 1);
    CHECK(batpak_store_close(store, -1, nullptr) == BATPAK_OK);
    batpak_store_free(store);
    std::printf("%s\n", name);
    remove_dir(dir);
}

int main() {
    /* What a process that exits in the midst of things still holds valgrind calls a leak; it is loaded by this variable. */
    const char *preload = std::getenv("LD_PRELOAD");
    if (preload != nullptr && std::strstr(preload, "vgpreload") != nullptr) {
        std::puts("skipped: exits are not looked at under valgrind");
        return 0;
    }
    ends("leave everything open", leave_everything_open);
    ends("close in a static destructor", close_in_a_static_destructor);
    ends("close in a destructor that comes first", close_in_a_destructor_that_comes_first);
    ends("close at exit", close_at_exit);
    ends("leave the wrapper open", leave_the_wrapper_open);
    ends("end by a handler", end_by_a_handler);
    ends("keep threads busy", keep_threads_busy);
    ends("exit in a forked child", exit_in_a_forked_child);
    ends("exit quickly", exit_quickly);
    return 0;
}
