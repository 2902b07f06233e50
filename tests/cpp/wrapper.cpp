// batpak.hpp: owners, views, exceptions with codes, and handlers whose exceptions never reach the library.
#include "check.h"

#include "batpak.hpp"

#include <atomic>
#include <stdexcept>
#include <thread>
#include <type_traits>

// Runs a call that is to throw batpak::error.
template <class Call>
static batpak::error thrown_by(Call call) {
    try {
        call();
    } catch (const batpak::error &error) {
        return error;
    }
    CHECK(!"an exception");
    std::abort();
}

static_assert(!std::is_copy_constructible_v<batpak::store> && std::is_nothrow_move_constructible_v<batpak::store>, "");
static_assert(!std::is_copy_constructible_v<batpak::batch> && std::is_nothrow_move_constructible_v<batpak::cursor>, "");
static_assert(std::is_copy_constructible_v<batpak::error>, "exceptions are copied");

static void appends_and_reads(batpak::store &store) {
    const auto receipt = store.append("user:1", "web", 0x1001, "first");
    batpak::new_event second{"user:2", "web", 0x1002, "second", 7, {batpak::detail::id_of(receipt.id)}, {}, {}};
    batpak::new_event third{"user:1", "app", 0x2001, "third", 0, {}, {0}, {}};
    CHECK(store.append({second, third}, batpak::durability::process).size() == 2);
    CHECK(!store.wait(batpak::watermark::visible, 4, std::chrono::milliseconds(1)));
    CHECK(store.wait(batpak::watermark::durable, 3) && store.durable_fd() >= 0);
    store.sync();
    CHECK(store.watermarks().durable == 3 && store.stats().appended == 3);

    batpak::cursor cursor(store, {}, {}, 8);
    auto batch = cursor.poll(10);
    CHECK(cursor.take_gaps().gaps.empty() && cursor.take_gaps().dropped == 0);
    CHECK(batch && batch->size() == 3);
    std::string payloads;
    for (const batpak::event event : *batch) {
        payloads += event.payload();
        payloads += ' ';
    }
    CHECK(payloads == "first second third ");
    const auto event = (*batch)[1];
    CHECK(event.sequence() == 1 && event.clock() == 0 && !event.prev_sequence() && event.schema() == 7);
    CHECK(event.entity() == "user:2" && event.scope() == "web" && event.kind() == 0x1002 && !event.is_erased());
    CHECK(event.cause_count() == 1 && event.cause(0) == (*batch)[0].id());
    CHECK((*batch)[2].prev_sequence() == 0u && (*batch)[2].cause(0) == event.id());

    batpak_status_t status = BATPAK_OK;
    CHECK(!cursor.poll(1, std::chrono::milliseconds(1), 0, &status) && status == BATPAK_TIMEOUT);
    // Batches outlive their cursor, and each share is an owner.
    auto shared = batch->share();
    batch.reset();
    CHECK(shared[0].payload() == "first");
}

static void reads_a_region(batpak::store &store) {
    batpak::region region;
    region.entity_prefix("user").scope("web").category(1).clocks(0, 9);
    CHECK(region.identity() == "entity=user|scope=web|fact=category:1|clock=0-9");
    batpak::cursor cursor(store, region, "reader");
    CHECK(cursor.poll(10)->size() == 2);
    cursor.checkpoint();
    const auto position = cursor.position();
    CHECK(position.next_sequence == 2 && cursor.next_sequence() == 2);
    cursor.seek_beginning();
    cursor.seek_position(position.next_sequence, batpak::detail::id_of(position.position_id));
    CHECK(batpak::checkpoint::list(store) == std::vector<std::string>{"reader"});
    CHECK(batpak::checkpoint::load(store, "reader").position == 1u);
    const auto in_use = thrown_by([&] { batpak::cursor(store, region, "reader"); });
    CHECK(in_use.code() == BATPAK_E_CHECKPOINT_IN_USE && in_use.is_retryable());
    cursor.close();
    batpak::checkpoint::remove(store, "reader");
    batpak::checkpoint::save(store, "reader", batpak::region(), 1);
    CHECK(batpak::checkpoint::load(store, "reader").region_identity == batpak::region().identity());
}

static void errors_have_codes_and_values(batpak::store &store) {
    const batpak::new_event good{"user:1", "web", 0x1001, "", 0, {}, {}, {}};
    const batpak::new_event bad{"a/b", "web", 0x1001, "", 0, {}, {}, {}};
    const auto error = thrown_by([&] { store.append({good, bad}); });
    CHECK(error.code() == BATPAK_E_COORDINATE_CHARACTER);
    CHECK(std::string(error.name()) == "BATPAK_E_COORDINATE_CHARACTER");
    CHECK(error.detail("index") == "1" && error.detail("part") == "entity" && !error.detail("path"));
    CHECK(std::string(error.what()).find("a/b") != std::string::npos && !error.is_fatal() && error.os_errno() == 0);
    const auto missing = thrown_by([&] {
        batpak::store_options options;
        options.create = false;
        batpak::store("/nonexistent/store", options);
    });
    CHECK(missing.code() == BATPAK_E_NOT_FOUND && missing.detail("path") == "/nonexistent/store");
}

static void a_throwing_handler_fails(batpak::store &store) {
    std::atomic<int> calls{0}, exhausted{0};
    batpak::worker_options options;
    options.restarts_within = {2, std::chrono::minutes(1)};
    options.on_restart_budget_exhausted = [&] { ++exhausted; };
    batpak::worker worker(store, batpak::region(), options, [&](batpak::delivery &) -> batpak::outcome {
        ++calls;
        throw std::runtime_error("no such flight");
    });
    const auto error = thrown_by([&] { worker.join(); });
    CHECK(error.code() == BATPAK_E_RESTART_BUDGET_EXHAUSTED && error.detail("message") == "no such flight");
    CHECK(calls == 3 && exhausted == 1 && worker.stats().failures == 3);

    batpak::worker other(store, batpak::region(), {}, [&](batpak::delivery &) -> batpak::outcome { throw 42; });
    CHECK(thrown_by([&] { other.join(); }).code() == BATPAK_E_RESTART_BUDGET_EXHAUSTED);
}

static void a_worker_handles(batpak::store &store) {
    auto witness = std::make_shared<int>(0);
    std::optional<batpak::batch> kept;
    std::uint64_t events = 0;
    batpak::worker_options options;
    options.checkpoint_id = "worker";
    options.gap_capacity = 8;
    batpak::worker worker(store, batpak::region(), options, [&, witness](batpak::delivery &delivery) {
        CHECK(delivery.checkpoint_id() == "worker" && delivery.attempt() == 1 && delivery.gaps().gaps.empty());
        CHECK(delivery.idempotency_key(0, 0) != delivery.idempotency_key(0, 1));
        for (const auto event : delivery.events()) {
            events += event.payload().size() > 0;
        }
        kept = delivery.keep();
        ++*witness;
        return batpak::outcome::stop;
    });
    CHECK(worker.join());
    CHECK(events == 3 && kept->size() == 3 && *witness == 1);
    // The handler, and what it captured, went when the worker ended.
    CHECK(witness.use_count() == 1);
    CHECK(batpak::checkpoint::load(store, "worker").position == 2u);
}

static void wakes_and_interrupts(batpak::store &store) {
    std::atomic<int> woken{0};
    auto witness = std::make_shared<int>(0);
    {
        batpak::cursor cursor(store);
        cursor.set_wake([&, witness] { ++woken; });
        while (cursor.poll(100)) {
        }
        store.append("user:1", "web", 0x1001, "wake up");
        CHECK(woken >= 1 && cursor.lag() == 1);
        std::thread interrupter([&] { cursor.interrupt(); });
        batpak_status_t status = BATPAK_OK;
        while (cursor.poll(1, batpak::forever, 0, &status)) {
        }
        CHECK(status == BATPAK_INTERRUPTED);
        interrupter.join();
        CHECK(cursor.notify_fd() >= 0);
    }
    CHECK(witness.use_count() == 1);
}

int main() {
    char *dir = make_dir();
    auto witness = std::make_shared<int>(0);
    {
        batpak::store_options options;
        options.clock = [witness] { return std::int64_t{1700000000000000} + ++*witness; };
        options.log = [](std::uint32_t, std::string_view, std::string_view) { throw std::runtime_error("in the log"); };
        batpak::store store(dir, options);
        options = {};
        CHECK(thrown_by([&] { batpak::store second(dir, options); }).code() == BATPAK_E_LOCKED);
        appends_and_reads(store);
        reads_a_region(store);
        errors_have_codes_and_values(store);
        a_throwing_handler_fails(store);
        a_worker_handles(store);
        wakes_and_interrupts(store);
        batpak::store moved(std::move(store));
        moved.close();
        CHECK(thrown_by([&] { moved.sync(); }).code() == BATPAK_E_CLOSED);
    }
    CHECK(witness.use_count() == 1);
    // The destructor closed it, so it can be opened.
    batpak::store again(dir);
    CHECK(again.watermarks().durable == 4);
    again.close();
    remove_dir(dir);
    return 0;
}
