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
static_assert(!std::is_copy_constructible_v<batpak::fence> && std::is_nothrow_move_constructible_v<batpak::fence>, "");
static_assert(!std::is_copy_assignable_v<batpak::fence> && std::is_nothrow_move_assignable_v<batpak::fence>, "");
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

    CHECK(store.read(1)->size() == 1 && (*store.read(1))[0].payload() == "second" && !store.read(3));
    CHECK((*store.read(event.id()))[0].sequence() == 1 && !store.read(batpak::id{}) && store.first_sequence() == 0);
    CHECK(store.head("user:1")->clock == 1 && store.head("user:1")->last_sequence == 2 && !store.head("nobody"));

    const auto users = store.entities("user", "user:1", 9);
    CHECK(users.size() == 1 && users[0].name == "user:2" && users[0].clock == 0 && users[0].last_sequence == 1);
    CHECK(store.entities({}, {}, 1)[0].name == "user:1" && store.entities("nobody", {}, 1).empty());
    batpak::cursor backward(store, batpak::region(), batpak::direction::backward);
    CHECK((*backward.poll(1))[0].sequence() == 2 && backward.poll(9, batpak::forever)->size() == 2 && !backward.poll(1));

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

// All visible payloads of an entity, each with a space behind it.
static std::string payloads_of(batpak::store &store, const char *entity) {
    batpak::cursor cursor(store, batpak::region().entity(entity));
    std::string payloads;
    while (const auto batch = cursor.poll(100)) {
        for (const auto event : *batch) {
            payloads += event.payload();
            payloads += ' ';
        }
    }
    return payloads;
}

static batpak::new_event event_of(std::string_view entity, std::string_view payload) {
    batpak::new_event event;
    event.entity = entity;
    event.scope = "s";
    event.kind = 0x1001;
    event.payload = payload;
    return event;
}

static void appends_on_conditions() {
    char *dir = make_dir();
    {
        batpak::store store(dir);
        auto first = event_of("a", "0"), second = event_of("a", "1");
        first.expected = batpak::expected::no_stream();
        first.key = "0123456789abcdef";
        second.expected = batpak::expected::exact(0);
        const auto receipts = store.append({first, second});
        CHECK(receipts[0].clock == 0 && receipts[1].clock == 1);
        const auto mismatch = thrown_by([&] { store.append({event_of("b", "x"), second}); });
        CHECK(mismatch.code() == BATPAK_E_EXPECTED_STATE && mismatch.detail("index") == "1");
        CHECK(mismatch.detail("expected") == "0" && mismatch.detail("actual") == "1");
        // A retry is answered by its key, whatever it expects.
        const auto again = store.append({first});
        CHECK(again[0].flags == BATPAK_RECEIPT_DUPLICATE && again[0].sequence == receipts[0].sequence);
        first.payload = "other";
        const auto conflict = thrown_by([&] { store.append({first}); });
        CHECK(conflict.code() == BATPAK_E_IDEMPOTENCY_CONFLICT && conflict.detail("difference") == "payload");
        // A key that is given and empty is a mistake, not "none".
        second.key = "";
        CHECK(thrown_by([&] { store.append({second}); }).code() == BATPAK_E_KEY_LENGTH);
        second.key = {};
        second.expected = batpak::expected::any();
        store.append({second});
        CHECK(payloads_of(store, "a") == "0 1 1 ");
    }
    remove_dir(dir);
}

static void fences_are_committed_or_gone() {
    char *dir = make_dir();
    {
        batpak::store store(dir);
        batpak::fence committed(store);
        const auto receipt = committed.append("a", "s", 0x1001, "0");
        CHECK(receipt.sequence == 0 && receipt.durability == BATPAK_DURABILITY_DEFAULT);
        CHECK(committed.append({event_of("a", "1"), event_of("b", "0")})[0].clock == 1);
        CHECK(payloads_of(store, "a").empty());
        const auto fenced = thrown_by([&] { store.append("a", "s", 0x1001, "x"); });
        CHECK(fenced.code() == BATPAK_E_STREAM_FENCED && fenced.is_retryable() && fenced.detail("entity") == "a");
        committed.commit(batpak::durability::process);
        committed.commit();
        CHECK(payloads_of(store, "a") == "0 1 ");
        CHECK(thrown_by([&] { committed.cancel(); }).code() == BATPAK_E_FENCE_DECIDED);

        batpak::fence cancelled(store);
        cancelled.append("a", "s", 0x1001, "x");
        cancelled.cancel();
        cancelled.cancel();
        CHECK(thrown_by([&] { cancelled.commit(); }).code() == BATPAK_E_FENCE_DECIDED);

        // What leaves a scope undecided is cancelled, also by an exception.
        try {
            batpak::fence left(store, std::chrono::minutes(1));
            left.append("a", "s", 0x1001, "x");
            throw std::runtime_error("on the way");
        } catch (const std::runtime_error &) {
        }
        CHECK(store.append("a", "s", 0x1001, "2").clock == 2);

        // A fence that is moved to cancels its own; one that is moved from has none.
        batpak::fence one(store), other(store);
        one.append("c", "s", 0x1001, "x");
        other.append("d", "s", 0x1001, "0");
        one = std::move(other);
        CHECK(store.append("c", "s", 0x1001, "0").clock == 0);
        CHECK(thrown_by([&] { other.commit(); }).code() == BATPAK_E_INVALID_ARGUMENT);
        batpak::fence last(std::move(one));
        last.commit();
        CHECK(payloads_of(store, "d") == "0 " && payloads_of(store, "a") == "0 1 2 ");

        for (const std::chrono::milliseconds timeout : {std::chrono::milliseconds(7200000), std::chrono::milliseconds(-1)}) {
            CHECK(thrown_by([&] { batpak::fence(store, timeout); }).code() == BATPAK_E_INVALID_ARGUMENT);
        }
        batpak::fence brief(store, std::chrono::milliseconds(1000));
        brief.append("e", "s", 0x1001, "x");
        CHECK(store.wait(batpak::watermark::visible, store.watermarks().appended));
        CHECK(thrown_by([&] { brief.commit(); }).code() == BATPAK_E_FENCE_EXPIRED);
        store.close();
        CHECK(thrown_by([&] { batpak::fence late(store); }).code() == BATPAK_E_CLOSED);
    }
    remove_dir(dir);
}

static void stores_are_imported() {
    char *from = make_dir(), *dir = make_dir();
    {
        batpak::store source(from), store(dir);
        batpak::new_event event;
        event.entity = "e";
        event.scope = "s";
        event.kind = 0x1001;
        source.append({event});
        CHECK(store.import_from(source).appended == 1);
        CHECK(store.import_from(source).duplicates == 1);
        CHECK(thrown_by([&] { store.import_from(store); }).code() == BATPAK_E_INVALID_ARGUMENT);
    }
    remove_dir(from);
    remove_dir(dir);
}

int main() {
    stores_are_imported();
    appends_on_conditions();
    fences_are_committed_or_gone();
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
