// What a user of the wrapper can get wrong: exceptions out of whatever is called, objects that were moved from or closed, stores and workers
// that end within their own handlers. An exception with a code, or nothing; never the end of the process.
#include "batpak.hpp"
#include "check.h"

#include <atomic>
#include <cerrno>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <thread>

static std::atomic<bool> syncs_fail;

// The library finds it first.
extern "C" int fdatasync(int fd) {
    if (syncs_fail) {
        errno = EIO;
        return -1;
    }
    return static_cast<int>(syscall(SYS_fdatasync, fd));
}

template <typename Function> static batpak_status_t code_of(Function &&function) {
    try {
        function();
    } catch (const batpak::error &error) {
        CHECK(error.what()[0] != 0);
        return error.code();
    }
    return BATPAK_OK;
}

struct not_an_exception {};

static batpak::worker_options once(const char *checkpoint_id) {
    batpak::worker_options options;
    options.checkpoint_id = checkpoint_id;
    return options;
}

static void what_is_thrown_out_of_callbacks_is_dropped(const std::string &path) {
    std::atomic<int> logged{0}, woken{0}, told{0};
    batpak::store_options options;
    options.durability = batpak::durability::process;
    options.log = [&](std::uint32_t, std::string_view, std::string_view) {
        ++logged;
        throw not_an_exception();
    };
    batpak::store store(path, options);
    batpak::cursor cursor(store);
    cursor.set_wake([&] {
        ++woken;
        throw std::runtime_error("out of a wake function");
    });
    CHECK(!cursor.poll(1));
    store.append("e", "s", 0x1001, "x");
    CHECK(woken == 1 && cursor.poll(1));

    // A handler that throws what is no exception, and a callback that does at the end of its restarts.
    auto worker_options = once("thrower");
    worker_options.on_restart_budget_exhausted = [&] {
        ++told;
        throw not_an_exception();
    };
    batpak::worker worker(store, {}, worker_options, [](batpak::delivery &) -> batpak::outcome { throw not_an_exception(); });
    CHECK(code_of([&] { worker.join(); }) == BATPAK_E_RESTART_BUDGET_EXHAUSTED && told == 1);

    // A checkpoint that cannot be written.
    worker_options = once("obstructed");
    worker_options.on_checkpoint_failure = [&](std::string_view, batpak_status_t, std::string_view) {
        ++told;
        throw not_an_exception();
    };
    batpak::worker obstructed(store, {}, worker_options, [&](batpak::delivery &) {
        mkdir((path + "/cursors").c_str(), 0700);
        mkdir((path + "/cursors/obstructed.ckpt").c_str(), 0700);
        mkdir((path + "/cursors/obstructed.ckpt/in-it").c_str(), 0700);
        return batpak::outcome::proceed;
    });
    CHECK(code_of([&] { obstructed.join(); }) == BATPAK_E_CHECKPOINT_WRITE_FAILED && told == 2);

    // A log function, on the store's own thread.
    syncs_fail = true;
    store.append("e", "s", 0x1001, "y");
    CHECK(batpak_store_wait(store.get(), BATPAK_WATERMARK_DURABLE, 2, 0, nullptr) == BATPAK_TIMEOUT);
    while (logged == 0) {
        std::this_thread::yield();
    }
    syncs_fail = false;
    CHECK(code_of([&] { store.close(); }) != BATPAK_E_INTERNAL);
}

static void what_was_moved_from_is_refused(const std::string &path) {
    batpak::store store(path), other(std::move(store));
    CHECK(store.get() == nullptr && other.get() != nullptr);
    CHECK(code_of([&] { store.append("e", "s", 0x1001, "x"); }) == BATPAK_E_INVALID_ARGUMENT);
    CHECK(code_of([&] { batpak::cursor cursor(store); }) == BATPAK_E_INVALID_ARGUMENT);
    CHECK(code_of([&] { batpak::fence fence(store); }) == BATPAK_E_INVALID_ARGUMENT);
    CHECK(code_of([&] { store.close(); }) == BATPAK_E_INVALID_ARGUMENT);
    other.append("e", "s", 0x1001, "x");

    batpak::cursor cursor(other), second(std::move(cursor));
    CHECK(code_of([&] { cursor.poll(1); }) == BATPAK_E_INVALID_ARGUMENT);
    auto batch = second.poll(1);
    batpak::batch kept = std::move(*batch);
    CHECK(batch->size() == 0 && batch->begin() == batch->end() && batch->share().size() == 0 && kept.size() == 1);

    batpak::fence fence(other), moved(std::move(fence));
    CHECK(code_of([&] { fence.commit(); }) == BATPAK_E_INVALID_ARGUMENT);
    moved.commit();
    CHECK(code_of([&] { moved.cancel(); }) == BATPAK_E_FENCE_DECIDED);

    batpak::worker worker(other, {}, {}, [](batpak::delivery &) { return batpak::outcome::proceed; });
    batpak::worker taken(std::move(worker));
    CHECK(code_of([&] { worker.stop(); }) == BATPAK_E_INVALID_ARGUMENT);

    other.close();
    other.close();
    CHECK(code_of([&] { second.poll(1); }) == BATPAK_E_CLOSED);
    CHECK(code_of([&] { other.append("e", "s", 0x1001, "x"); }) == BATPAK_E_CLOSED);
    CHECK(kept[0].payload() == "x");
    other = batpak::store(path);
    other.append("e", "s", 0x1001, "y");
}

static void a_delivery_that_is_kept_is_refused(const std::string &path) {
    batpak::store store(path);
    std::unique_ptr<batpak::delivery> kept;
    std::promise<void> handled;
    batpak::worker worker(store, {}, {}, [&](batpak::delivery &delivery) {
        kept = std::make_unique<batpak::delivery>(delivery);
        // On another thread, while the handler runs.
        std::thread([&] {
            CHECK(code_of([&] { kept->set_done(0); }) == BATPAK_E_INVALID_ARGUMENT);
            CHECK(kept->store() == nullptr && kept->keep().size() == 0);
        }).join();
        handled.set_value();
        return batpak::outcome::proceed;
    });
    store.append("e", "s", 0x1001, "x");
    handled.get_future().wait();
    CHECK(code_of([&] { kept->set_error("too late"); }) == BATPAK_E_INVALID_ARGUMENT);
    CHECK(kept->attempt() == 0 && !kept->checkpoint_id() && kept->gaps().gaps.empty());
}

// The closure of a handler owns the store, and the store's last owner is that closure.
static void a_handler_that_owns_the_store(const std::string &path) {
    auto store = std::make_shared<batpak::store>(path);
    auto freed = std::make_shared<std::promise<void>>();
    auto future = freed->get_future();
    std::shared_ptr<void> witness(nullptr, [freed](void *) { freed->set_value(); });
    store->append("e", "s", 0x1001, "x");
    batpak_store_t *raw = store->get();
    batpak::worker worker(*store, {}, {}, [store, witness](batpak::delivery &) { return batpak::outcome::stop; });
    CHECK(raw != nullptr);
    witness.reset();
    store.reset();
    worker.join();
    future.wait();
    CHECK(!worker.stats().is_running);
}

// A worker that is destroyed, and a store that is closed and destroyed, by the handler of the worker.
static void a_handler_that_destroys_its_worker(const std::string &path) {
    auto store = std::make_unique<batpak::store>(path);
    std::unique_ptr<batpak::worker> worker;
    std::promise<void> started, done;
    auto may_go = started.get_future().share();
    worker = std::make_unique<batpak::worker>(*store, batpak::region(), batpak::worker_options(), [&, may_go](batpak::delivery &) {
        may_go.wait();
        CHECK(code_of([&] { store->close(); }) == BATPAK_E_REENTRANT);
        CHECK(code_of([&] { worker->stop_and_join(); }) == BATPAK_E_REENTRANT);
        worker.reset();
        store.reset();
        done.set_value();
        return batpak::outcome::proceed;
    });
    store->append("e", "s", 0x1001, "x");
    started.set_value();
    done.get_future().wait();
    CHECK(!worker && !store);
    // The last of it goes with the worker's thread.
    while (code_of([&] { batpak::store again(path); }) == BATPAK_E_LOCKED) {
        std::this_thread::yield();
    }
}

int main() {
    char *dir = make_dir();
    const std::string base(dir);
    what_is_thrown_out_of_callbacks_is_dropped(base + "/thrown");
    std::puts("what_is_thrown_out_of_callbacks_is_dropped");
    what_was_moved_from_is_refused(base + "/moved");
    std::puts("what_was_moved_from_is_refused");
    a_delivery_that_is_kept_is_refused(base + "/kept");
    std::puts("a_delivery_that_is_kept_is_refused");
    a_handler_that_owns_the_store(base + "/owner");
    std::puts("a_handler_that_owns_the_store");
    a_handler_that_destroys_its_worker(base + "/destroyer");
    std::puts("a_handler_that_destroys_its_worker");
    remove_dir(dir);
    return 0;
}
