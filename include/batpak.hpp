// libbatpak for C++17: owners, views and exceptions over batpak.h, which says what each call does.
//
// Handles are move-only objects whose destructors give them back. A failed call throws batpak::error, with the code.
// Views (std::string_view, batpak::event) are borrowed from the batch that they came from. Handlers are function
// objects; what they throw becomes BATPAK_HANDLER_FAIL with the exception's message: no exception reaches the library.
#ifndef BATPAK_HPP
#define BATPAK_HPP

#include "batpak.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace batpak {

/// An event's, store's or correlation id.
using id = std::array<std::uint8_t, 16>;
/// For timeouts: as long as it takes.
constexpr std::chrono::milliseconds forever{-1};

/// A failed call.
class error : public std::runtime_error {
public:
    /// Takes the object over.
    explicit error(batpak_error_t *object)
        : std::runtime_error(batpak_error_message(object, nullptr)), object_(object, batpak_error_free) {}

    batpak_status_t code() const noexcept { return batpak_error_code(object_.get()); }
    /// The name of the code's constant.
    const char *name() const noexcept { return batpak_status_name(code()); }
    std::int32_t os_errno() const noexcept { return batpak_error_os_errno(object_.get()); }
    bool is_retryable() const noexcept { return batpak_error_is_retryable(object_.get()) != 0; }
    bool is_fatal() const noexcept { return batpak_error_is_fatal(object_.get()) != 0; }
    /// A value behind the error, such as "path" or "index".
    std::optional<std::string> detail(std::string_view key) const {
        std::size_t len = 0;
        const char *text = batpak_error_detail(object_.get(), key.data(), key.size(), &len);
        return text ? std::optional<std::string>(std::in_place, text, len) : std::nullopt;
    }

private:
    std::shared_ptr<batpak_error_t> object_;
};

namespace detail {

/// Runs a call with a place for its error, and throws it.
template <class Call>
batpak_status_t check(Call &&call) {
    batpak_error_t *object = nullptr;
    const batpak_status_t status = call(&object);
    if (status < 0) {
        throw error(object);
    }
    return status;
}

template <class Handle, void (*Free)(Handle *)>
struct freeing {
    void operator()(Handle *handle) const noexcept { Free(handle); }
};

template <class Handle, void (*Free)(Handle *)>
using owner = std::unique_ptr<Handle, freeing<Handle, Free>>;

inline id id_of(const std::uint8_t *bytes) {
    id copy;
    std::memcpy(copy.data(), bytes, copy.size());
    return copy;
}

inline std::optional<std::uint64_t> sequence_of(std::uint64_t sequence) {
    return sequence == BATPAK_NO_SEQUENCE ? std::nullopt : std::optional<std::uint64_t>(sequence);
}

/// The library's functions for a function object on the heap, as user_data.
template <class Function>
void delete_function(void *user_data) {
    delete static_cast<Function *>(user_data);
}

} // namespace detail

/// One event, borrowed from its batch.
class event {
public:
    explicit event(const batpak_event_t &raw) noexcept : raw_(&raw) {}

    const batpak_event_t &raw() const noexcept { return *raw_; }
    std::uint64_t sequence() const noexcept { return raw_->sequence; }
    std::uint64_t clock() const noexcept { return raw_->clock; }
    std::optional<std::uint64_t> prev_sequence() const { return detail::sequence_of(raw_->prev_sequence); }
    std::int64_t time_us() const noexcept { return raw_->time_us; }
    batpak::id id() const { return detail::id_of(raw_->id); }
    batpak::id correlation_id() const { return detail::id_of(raw_->correlation_id); }
    std::uint32_t kind() const noexcept { return raw_->kind; }
    std::uint32_t schema() const noexcept { return raw_->schema; }
    bool is_erased() const noexcept { return (raw_->flags & BATPAK_EVENT_ERASED) != 0; }
    std::string_view entity() const noexcept { return {raw_->entity, raw_->entity_len}; }
    std::string_view scope() const noexcept { return {raw_->scope, raw_->scope_len}; }
    std::string_view payload() const noexcept {
        return {static_cast<const char *>(raw_->payload), raw_->payload_len};
    }
    std::size_t cause_count() const noexcept { return raw_->cause_count; }
    batpak::id cause(std::size_t index) const { return detail::id_of(raw_->causes[index]); }

private:
    const batpak_event_t *raw_;
};

/// An array of events, borrowed.
class events {
public:
    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = event;
        using difference_type = std::ptrdiff_t;
        using pointer = const event *;
        using reference = event;

        explicit iterator(const batpak_event_t *at) noexcept : at_(at) {}
        event operator*() const noexcept { return event(*at_); }
        iterator &operator++() noexcept {
            ++at_;
            return *this;
        }
        iterator operator++(int) noexcept { return iterator(at_++); }
        bool operator==(const iterator &other) const noexcept { return at_ == other.at_; }
        bool operator!=(const iterator &other) const noexcept { return at_ != other.at_; }

    private:
        const batpak_event_t *at_;
    };

    events(const batpak_event_t *first, std::size_t count) noexcept : first_(first), count_(count) {}
    std::size_t size() const noexcept { return count_; }
    bool empty() const noexcept { return count_ == 0; }
    event operator[](std::size_t index) const noexcept { return event(first_[index]); }
    iterator begin() const noexcept { return iterator(first_); }
    iterator end() const noexcept { return iterator(first_ + count_); }

private:
    const batpak_event_t *first_;
    std::size_t count_;
};

/// A batch of events. It may outlive its cursor and its store.
class batch {
public:
    /// Takes the reference over.
    explicit batch(batpak_batch_t *handle) noexcept : handle_(handle) {}

    batpak_batch_t *get() const noexcept { return handle_.get(); }
    batpak::events events() const noexcept {
        std::size_t n = 0;
        const batpak_event_t *first = batpak_batch_events(handle_.get(), &n);
        return {first, n};
    }
    std::size_t size() const noexcept { return events().size(); }
    event operator[](std::size_t index) const noexcept { return events()[index]; }
    events::iterator begin() const noexcept { return events().begin(); }
    events::iterator end() const noexcept { return events().end(); }
    /// Another owner of the same events.
    batch share() const noexcept { return batch(batpak_batch_retain(handle_.get())); }

private:
    detail::owner<batpak_batch_t, batpak_batch_free> handle_;
};

/// A delivery that stepped over cancelled sequences; see batpak_gap_t.
struct gap {
    std::uint64_t expected_sequence;
    std::uint64_t delivered_sequence;
    /// First, and one after the last.
    std::vector<std::pair<std::uint64_t, std::uint64_t>> cancelled;
};

/// The newest gaps, oldest of them first, and how many older ones were dropped.
struct gap_list {
    std::vector<gap> gaps;
    std::uint64_t dropped = 0;
};

namespace detail {

inline std::vector<gap> gaps_of(const batpak_gap_t *first, std::size_t n) {
    std::vector<gap> gaps;
    for (std::size_t i = 0; i < n; ++i) {
        gaps.push_back({first[i].expected_sequence, first[i].delivered_sequence, {}});
        for (std::size_t range = 0; range < first[i].range_count; ++range) {
            gaps.back().cancelled.emplace_back(first[i].ranges[range].start, first[i].ranges[range].end);
        }
    }
    return gaps;
}

} // namespace detail

/// What a reader wants to see; everything at first.
class region {
public:
    region &entity(std::string name) { return set_entity(BATPAK_ENTITY_EXACT, std::move(name)); }
    region &entity_prefix(std::string prefix) { return set_entity(BATPAK_ENTITY_PREFIX, std::move(prefix)); }
    region &scope(std::string name) {
        scope_ = std::move(name);
        return *this;
    }
    region &any_kind() { return set_kind(BATPAK_KIND_ANY, 0); }
    region &category(std::uint32_t category) { return set_kind(BATPAK_KIND_CATEGORY, category); }
    region &kind(std::uint32_t kind) { return set_kind(BATPAK_KIND_EXACT, kind); }
    region &clocks(std::uint64_t first, std::uint64_t last) {
        clocks_ = {first, last};
        return *this;
    }

    /// The text by which checkpoints know it.
    std::string identity() const {
        const batpak_region_t raw = this->raw();
        std::size_t len = 0;
        detail::check([&](auto err) { return batpak_region_identity(&raw, nullptr, 0, &len, err); });
        std::string text(len + 1, '\0');
        detail::check([&](auto err) { return batpak_region_identity(&raw, text.data(), text.size(), &len, err); });
        text.resize(len);
        return text;
    }

    /// For C, borrowed from this object.
    batpak_region_t raw() const {
        batpak_region_t raw;
        detail::check([&](auto err) { return batpak_region_init(&raw, sizeof raw, err); });
        raw.entity_match = entity_match_;
        raw.entity = entity_match_ == BATPAK_ENTITY_ANY ? nullptr : entity_.data();
        raw.entity_len = entity_.size();
        raw.scope = scope_ ? scope_->data() : nullptr;
        raw.scope_len = scope_ ? scope_->size() : 0;
        raw.kind_match = kind_match_;
        raw.kind = kind_;
        raw.has_clock_range = clocks_ ? 1 : 0;
        raw.clock_start = clocks_ ? clocks_->first : 0;
        raw.clock_end = clocks_ ? clocks_->second : 0;
        return raw;
    }

private:
    region &set_entity(std::uint32_t match, std::string name) {
        entity_match_ = match;
        entity_ = std::move(name);
        return *this;
    }
    region &set_kind(std::uint32_t match, std::uint32_t kind) {
        kind_match_ = match;
        kind_ = kind;
        return *this;
    }

    std::uint32_t entity_match_ = BATPAK_ENTITY_ANY;
    std::string entity_;
    std::optional<std::string> scope_;
    std::uint32_t kind_match_ = BATPAK_KIND_NONE;
    std::uint32_t kind_ = 0;
    std::optional<std::pair<std::uint64_t, std::uint64_t>> clocks_;
};

/// What an acknowledged event survives.
enum class durability : std::uint32_t {
    by_default = BATPAK_DURABILITY_DEFAULT,
    storage = BATPAK_DURABILITY_STORAGE,
    process = BATPAK_DURABILITY_PROCESS,
};

/// What store::wait waits for.
enum class watermark : std::uint32_t {
    visible = BATPAK_WATERMARK_VISIBLE,
    durable = BATPAK_WATERMARK_DURABLE,
};

/// How to open a store.
struct store_options {
    bool read_only = false;
    bool create = true;
    bool exclusive = false;
    bool helper_thread = true;
    std::uint64_t segment_bytes = 0;
    std::uint64_t payload_bytes_max = 0;
    std::uint64_t key_window = 0;
    batpak::durability durability = batpak::durability::by_default;
    /// Microseconds since the Unix epoch. Must not throw.
    std::function<std::int64_t()> clock;
    /// Level (BATPAK_LOG_...), target, message. What it throws is dropped.
    std::function<void(std::uint32_t, std::string_view, std::string_view)> log;
};

/// What must be true of an entity for an append to happen; at first, nothing.
class expected {
public:
    constexpr expected() noexcept = default;
    static constexpr expected any() noexcept { return {}; }
    static constexpr expected no_stream() noexcept { return {BATPAK_EXPECT_NO_STREAM, 0}; }
    /// The entity's last event has this clock.
    static constexpr expected exact(std::uint64_t clock) noexcept { return {BATPAK_EXPECT_EXACT, clock}; }

    constexpr std::uint32_t match() const noexcept { return match_; }
    constexpr std::uint64_t clock() const noexcept { return clock_; }

private:
    constexpr expected(std::uint32_t match, std::uint64_t clock) noexcept : match_(match), clock_(clock) {}

    std::uint32_t match_ = BATPAK_EXPECT_ANY;
    std::uint64_t clock_ = 0;
};

/// An event to append. Views are borrowed during the append.
struct new_event {
    std::string_view entity;
    std::string_view scope;
    std::uint32_t kind = 0;
    std::string_view payload;
    std::uint32_t schema = 0;
    std::vector<id> causes;
    /// Indexes of earlier items of the batch.
    std::vector<std::uint32_t> batch_causes;
    std::optional<id> correlation_id;
    /// Idempotency key: 16 to 64 bytes, or none when nothing is given.
    std::string_view key = {};
    batpak::expected expected = {};
};

namespace detail {

inline void fill(batpak_append_t &item, const new_event &event) {
    item = batpak_append_t();
    item.struct_size = sizeof item;
    item.kind = event.kind;
    item.schema = event.schema;
    item.entity = event.entity.data();
    item.entity_len = event.entity.size();
    item.scope = event.scope.data();
    item.scope_len = event.scope.size();
    item.payload = event.payload.data();
    item.payload_len = event.payload.size();
    item.causes = event.causes.empty() ? nullptr : event.causes.front().data();
    item.cause_count = event.causes.size();
    item.batch_causes = event.batch_causes.data();
    item.batch_cause_count = event.batch_causes.size();
    item.correlation_id = event.correlation_id ? event.correlation_id->data() : nullptr;
    item.key = event.key.data();
    item.key_len = event.key.size();
    item.expected = event.expected.match();
    item.expected_clock = event.expected.clock();
}

/// Runs an append of the events: call(items, n, options, receipts, err).
template <class Call>
std::vector<batpak_receipt_t> append(const std::vector<new_event> &events, durability asked, Call &&call) {
    std::vector<batpak_append_t> items(events.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
        fill(items[i], events[i]);
    }
    batpak_append_options_t options;
    check([&](auto err) { return batpak_append_options_init(&options, sizeof options, err); });
    options.durability = static_cast<std::uint32_t>(asked);
    std::vector<batpak_receipt_t> receipts(items.size());
    check([&](auto err) { return call(items.data(), items.size(), &options, receipts.data(), err); });
    return receipts;
}

} // namespace detail

/// The clock and the sequence of an entity's last event.
struct entity_head {
    std::uint64_t clock;
    std::uint64_t last_sequence;
};

/// One entity of a list, borrowed from it.
struct entity {
    std::string_view name;
    std::uint64_t clock;
    std::uint64_t last_sequence;
};

/// Some entities, in order. It may outlive its store.
class entity_list {
public:
    /// Takes the list over.
    explicit entity_list(batpak_entity_list_t *handle) noexcept : handle_(handle) {
        first_ = batpak_entity_list_entities(handle, &count_);
    }

    std::size_t size() const noexcept { return count_; }
    bool empty() const noexcept { return count_ == 0; }
    entity operator[](std::size_t index) const noexcept {
        const batpak_entity_t &raw = first_[index];
        return {{raw.entity, raw.entity_len}, raw.clock, raw.last_sequence};
    }

private:
    detail::owner<batpak_entity_list_t, batpak_entity_list_free> handle_;
    const batpak_entity_t *first_ = nullptr;
    std::size_t count_ = 0;
};

/// A store: any thread. Its destructor closes it and waits for running handlers; close() also tells what went wrong.
class store {
public:
    explicit store(std::string_view path, const store_options &options = {}) {
        using clock_function = std::function<std::int64_t()>;
        using log_function = std::function<void(std::uint32_t, std::string_view, std::string_view)>;
        batpak_store_options_t raw;
        detail::check([&](auto err) { return batpak_store_options_init(&raw, sizeof raw, err); });
        raw.flags = (options.read_only ? BATPAK_STORE_READ_ONLY : 0) | (options.create ? 0 : BATPAK_STORE_NO_CREATE) |
                    (options.exclusive ? BATPAK_STORE_EXCLUSIVE : 0) |
                    (options.helper_thread ? 0 : BATPAK_STORE_NO_HELPER_THREAD);
        raw.segment_bytes = options.segment_bytes;
        raw.payload_bytes_max = options.payload_bytes_max;
        raw.key_window = options.key_window;
        raw.durability = static_cast<std::uint32_t>(options.durability);
        auto clock = options.clock ? std::make_unique<clock_function>(options.clock) : nullptr;
        auto log = options.log ? std::make_unique<log_function>(options.log) : nullptr;
        if (clock) {
            raw.clock = [](void *user_data) noexcept { return (*static_cast<clock_function *>(user_data))(); };
            raw.clock_user_data = clock.get();
            raw.clock_user_data_free = detail::delete_function<clock_function>;
        }
        if (log) {
            raw.log = [](void *user_data, std::uint32_t level, const char *target, std::size_t target_len,
                         const char *message, std::size_t message_len) noexcept {
                try {
                    (*static_cast<log_function *>(user_data))(level, {target, target_len}, {message, message_len});
                } catch (...) {
                }
            };
            raw.log_user_data = log.get();
            raw.log_user_data_free = detail::delete_function<log_function>;
        }
        batpak_store_t *handle = nullptr;
        detail::check([&](auto err) { return batpak_store_open(path.data(), path.size(), &raw, &handle, err); });
        // The library has taken them over.
        clock.release();
        log.release();
        handle_.reset(handle);
    }

    store(store &&) noexcept = default;
    store &operator=(store &&other) noexcept {
        if (this != &other) {
            close_quietly();
            handle_ = std::move(other.handle_);
        }
        return *this;
    }
    ~store() { close_quietly(); }

    batpak_store_t *get() const noexcept { return handle_.get(); }

    /// Appends all events or none.
    std::vector<batpak_receipt_t> append(const std::vector<new_event> &events,
                                         durability asked = durability::by_default) {
        return detail::append(events, asked, [&](auto items, auto n, auto options, auto receipts, auto err) {
            return batpak_store_append(get(), items, n, options, receipts, err);
        });
    }

    /// Appends one event, with the store's durability.
    batpak_receipt_t append(std::string_view entity, std::string_view scope, std::uint32_t kind,
                            std::string_view payload) {
        batpak_receipt_t receipt;
        detail::check([&](auto err) {
            return batpak_store_append_one(get(), entity.data(), entity.size(), scope.data(), scope.size(), kind,
                                           payload.data(), payload.size(), &receipt, err);
        });
        return receipt;
    }

    /// Appends what another store has and was not imported yet: see batpak_store_import.
    batpak_import_result_t import_from(const store &source, std::uint64_t from_sequence = 0) {
        batpak_import_options_t options;
        batpak_import_result_t result;
        detail::check([&](auto err) { return batpak_import_options_init(&options, sizeof options, err); });
        options.from_sequence = from_sequence;
        detail::check([&](auto err) { return batpak_store_import(get(), source.get(), &options, &result, err); });
        return result;
    }

    void sync() {
        detail::check([&](auto err) { return batpak_store_sync(get(), err); });
    }
    /// Waits until every sequence below the bound is visible, or durable. False: not in time.
    bool wait(watermark mark, std::uint64_t bound, std::chrono::milliseconds timeout = forever) {
        return detail::check([&](auto err) {
                   return batpak_store_wait(get(), static_cast<std::uint32_t>(mark), bound, timeout.count(), err);
               }) == BATPAK_OK;
    }
    /// Readable when the durable watermark may have moved.
    std::int32_t durable_fd() {
        std::int32_t fd = -1;
        detail::check([&](auto err) { return batpak_store_durable_fd(get(), &fd, err); });
        return fd;
    }
    batpak_watermarks_t watermarks() const {
        batpak_watermarks_t marks;
        detail::check([&](auto err) { return batpak_store_watermarks(get(), &marks, err); });
        return marks;
    }
    batpak_store_stats_t stats() const {
        batpak_store_stats_t stats;
        detail::check([&](auto err) { return batpak_store_stats_init(&stats, sizeof stats, err); });
        detail::check([&](auto err) { return batpak_store_stats(get(), &stats, err); });
        return stats;
    }
    batpak::id id() const {
        batpak::id id;
        detail::check([&](auto err) { return batpak_store_id(get(), id.data(), err); });
        return id;
    }
    /// The event at a sequence; none when no visible event has it.
    std::optional<batch> read(std::uint64_t sequence) const {
        batpak_batch_t *handle = nullptr;
        detail::check([&](auto err) { return batpak_store_get(get(), sequence, &handle, err); });
        return handle ? std::optional<batch>(std::in_place, handle) : std::nullopt;
    }
    /// The event with an id; none when no visible event of this store has it.
    std::optional<batch> read(const batpak::id &id) const {
        batpak_batch_t *handle = nullptr;
        detail::check([&](auto err) { return batpak_store_get_by_id(get(), id.data(), &handle, err); });
        return handle ? std::optional<batch>(std::in_place, handle) : std::nullopt;
    }
    std::uint64_t first_sequence() const {
        std::uint64_t sequence = 0;
        detail::check([&](auto err) { return batpak_store_first_sequence(get(), &sequence, err); });
        return sequence;
    }
    /// How far an entity is, in what was appended; none when it has no event.
    std::optional<entity_head> head(std::string_view entity) const {
        batpak_entity_head_t raw;
        detail::check([&](auto err) { return batpak_store_entity_head(get(), entity.data(), entity.size(), &raw, err); });
        return raw.exists ? std::optional<entity_head>({raw.clock, raw.last_sequence}) : std::nullopt;
    }
    /// The first entities that match a prefix (all, when it is empty) behind one (from the first, when that is empty); less
    /// than asked for are all.
    entity_list entities(std::string_view prefix, std::string_view after, std::size_t max_entities) const {
        batpak_entity_list_t *handle = nullptr;
        detail::check([&](auto err) {
            return batpak_store_entities(get(), prefix.data(), prefix.size(), after.data(), after.size(), max_entities,
                                         &handle, err);
        });
        return entity_list(handle);
    }
    void close(std::chrono::milliseconds timeout = forever) {
        detail::check([&](auto err) { return batpak_store_close(get(), timeout.count(), err); });
    }

private:
    void close_quietly() noexcept {
        if (handle_) {
            batpak_store_close(handle_.get(), -1, nullptr);
        }
    }

    detail::owner<batpak_store_t, batpak_store_free> handle_;
};

/// Events that become visible at once, or never: any thread. Its destructor cancels what was not committed.
class fence {
public:
    /// A timeout of zero is the default, 10 seconds.
    explicit fence(store &store, std::chrono::milliseconds timeout = {}) {
        batpak_fence_options_t options;
        detail::check([&](auto err) { return batpak_fence_options_init(&options, sizeof options, err); });
        if (timeout.count() != 0) {
            // What does not fit is too long, and so refused.
            const bool fits = timeout.count() > 0 && timeout.count() < UINT32_MAX;
            options.timeout_ms = fits ? static_cast<std::uint32_t>(timeout.count()) : UINT32_MAX;
        }
        batpak_fence_t *handle = nullptr;
        detail::check([&](auto err) { return batpak_fence_begin(store.get(), &options, &handle, err); });
        handle_.reset(handle);
    }

    batpak_fence_t *get() const noexcept { return handle_.get(); }

    /// Appends all events or none. Nothing is promised before the commit.
    std::vector<batpak_receipt_t> append(const std::vector<new_event> &events) {
        const auto call = [&](auto items, auto n, auto options, auto receipts, auto err) {
            return batpak_fence_append(get(), items, n, options, receipts, err);
        };
        return detail::append(events, durability::by_default, call);
    }
    batpak_receipt_t append(std::string_view entity, std::string_view scope, std::uint32_t kind,
                            std::string_view payload) {
        new_event event;
        event.entity = entity;
        event.scope = scope;
        event.kind = kind;
        event.payload = payload;
        return append({event}).front();
    }
    /// Makes the events visible, as durable as asked. Again is fine.
    void commit(durability asked = durability::by_default) {
        detail::check(
            [&](auto err) { return batpak_fence_commit(get(), static_cast<std::uint32_t>(asked), err); });
    }
    /// Hides the events for ever. Again is fine.
    void cancel() {
        detail::check([&](auto err) { return batpak_fence_cancel(get(), err); });
    }

private:
    detail::owner<batpak_fence_t, batpak_fence_free> handle_;
};

/// Which way a cursor reads.
enum class direction : std::uint32_t {
    forward = BATPAK_DIRECTION_FORWARD,
    backward = BATPAK_DIRECTION_BACKWARD,
};

/// A cursor: one thread at a time. Its destructor closes it.
class cursor {
public:
    /// An empty checkpoint id is none. With a gap capacity it looks for gaps.
    explicit cursor(const store &store, const region &region = {}, std::string_view checkpoint_id = {},
                    std::uint64_t gap_capacity = 0)
        : cursor(store, region, checkpoint_id, direction::forward, gap_capacity) {}
    cursor(const store &store, const region &region, direction direction) : cursor(store, region, {}, direction, 0) {}

    batpak_cursor_t *get() const noexcept { return handle_.get(); }

    /// The next events; none when there are none in time, or on an interrupt. status: BATPAK_OK, _EMPTY, _TIMEOUT or
    /// _INTERRUPTED.
    std::optional<batch> poll(std::size_t max_events, std::chrono::milliseconds timeout = {},
                              std::uint64_t max_payload_bytes = 0, batpak_status_t *status = nullptr) {
        batpak_batch_t *handle = nullptr;
        const batpak_status_t outcome = detail::check([&](auto err) {
            return batpak_cursor_poll(get(), max_events, max_payload_bytes, timeout.count(), &handle, err);
        });
        if (status) {
            *status = outcome;
        }
        return handle ? std::optional<batch>(std::in_place, handle) : std::nullopt;
    }

    void checkpoint() {
        detail::check([&](auto err) { return batpak_cursor_checkpoint(get(), err); });
    }
    void checkpoint_at(std::uint64_t sequence) {
        detail::check([&](auto err) { return batpak_cursor_checkpoint_at(get(), sequence, err); });
    }
    void rewind() {
        detail::check([&](auto err) { return batpak_cursor_rewind(get(), err); });
    }
    void seek(std::uint64_t sequence) {
        detail::check([&](auto err) { return batpak_cursor_seek(get(), sequence, err); });
    }
    void seek_time(std::int64_t time_us) {
        detail::check([&](auto err) { return batpak_cursor_seek_time(get(), time_us, err); });
    }
    void seek_beginning() {
        detail::check([&](auto err) { return batpak_cursor_seek_beginning(get(), err); });
    }
    void seek_end() {
        detail::check([&](auto err) { return batpak_cursor_seek_end(get(), err); });
    }
    void seek_position(std::uint64_t next_sequence, const std::optional<id> &position_id = std::nullopt) {
        const std::uint8_t *bytes = position_id ? position_id->data() : nullptr;
        detail::check([&](auto err) { return batpak_cursor_seek_position(get(), next_sequence, bytes, err); });
    }
    batpak_cursor_position_t position() const {
        batpak_cursor_position_t position;
        detail::check([&](auto err) { return batpak_cursor_position(get(), &position, err); });
        return position;
    }
    std::uint64_t next_sequence() const {
        std::uint64_t sequence = 0;
        detail::check([&](auto err) { return batpak_cursor_next_sequence(get(), &sequence, err); });
        return sequence;
    }
    std::uint64_t lag() const {
        std::uint64_t events = 0;
        detail::check([&](auto err) { return batpak_cursor_lag(get(), &events, err); });
        return events;
    }
    /// The gaps of what was delivered since this was last called.
    gap_list take_gaps() {
        batpak_gap_list_t *handle = nullptr;
        detail::check([&](auto err) { return batpak_cursor_take_gaps(get(), &handle, err); });
        const detail::owner<batpak_gap_list_t, batpak_gap_list_free> owned(handle);
        std::size_t n = 0;
        const batpak_gap_t *first = batpak_gap_list_gaps(handle, &n);
        return {detail::gaps_of(first, n), batpak_gap_list_dropped(handle)};
    }
    std::int32_t notify_fd() {
        std::int32_t fd = -1;
        detail::check([&](auto err) { return batpak_cursor_notify_fd(get(), &fd, err); });
        return fd;
    }
    /// An empty function removes it. What it throws is dropped.
    void set_wake(std::function<void()> wake) {
        using function = std::function<void()>;
        if (!wake) {
            detail::check([&](auto err) { return batpak_cursor_set_wake(get(), nullptr, nullptr, nullptr, err); });
            return;
        }
        auto owned = std::make_unique<function>(std::move(wake));
        const batpak_wake_fn call = [](void *user_data) noexcept {
            try {
                (*static_cast<function *>(user_data))();
            } catch (...) {
            }
        };
        detail::check([&](auto err) {
            return batpak_cursor_set_wake(get(), call, owned.get(), detail::delete_function<function>, err);
        });
        owned.release();
    }
    /// From any thread.
    void interrupt() {
        detail::check([&](auto err) { return batpak_cursor_interrupt(get(), err); });
    }
    /// From any thread.
    void close() {
        detail::check([&](auto err) { return batpak_cursor_close(get(), err); });
    }

private:
    cursor(const store &store, const region &region, std::string_view checkpoint_id, direction direction,
           std::uint64_t gap_capacity) {
        const batpak_region_t raw = region.raw();
        batpak_cursor_options_t options;
        detail::check([&](auto err) { return batpak_cursor_options_init(&options, sizeof options, err); });
        options.checkpoint_id = checkpoint_id.empty() ? nullptr : checkpoint_id.data();
        options.checkpoint_id_len = checkpoint_id.size();
        options.direction = static_cast<std::uint32_t>(direction);
        options.gap_capacity = gap_capacity;
        batpak_cursor_t *handle = nullptr;
        detail::check([&](auto err) { return batpak_cursor_open(store.get(), &raw, &options, &handle, err); });
        handle_.reset(handle);
    }

    detail::owner<batpak_cursor_t, batpak_cursor_free> handle_;
};

/// A checkpoint as stored.
struct checkpoint {
    std::optional<std::uint64_t> position;
    std::optional<id> position_id;
    std::uint64_t scanned = 0;
    std::optional<id> store_id;
    std::string region_identity;

    static checkpoint load(const store &store, std::string_view checkpoint_id) {
        batpak_checkpoint_t *handle = nullptr;
        detail::check([&](auto err) {
            return batpak_checkpoint_load(store.get(), checkpoint_id.data(), checkpoint_id.size(), &handle, err);
        });
        const detail::owner<batpak_checkpoint_t, batpak_checkpoint_free> owned(handle);
        checkpoint loaded;
        batpak::id id;
        std::size_t len = 0;
        loaded.position = detail::sequence_of(batpak_checkpoint_position(handle));
        if (batpak_checkpoint_position_id(handle, id.data())) {
            loaded.position_id = id;
        }
        loaded.scanned = batpak_checkpoint_scanned(handle);
        if (batpak_checkpoint_store_id(handle, id.data())) {
            loaded.store_id = id;
        }
        const char *identity = batpak_checkpoint_region_identity(handle, &len);
        loaded.region_identity.assign(identity, len);
        return loaded;
    }
    static void save(store &store, std::string_view checkpoint_id, const region &region, std::uint64_t next_sequence) {
        const batpak_region_t raw = region.raw();
        detail::check([&](auto err) {
            return batpak_checkpoint_save(store.get(), checkpoint_id.data(), checkpoint_id.size(), &raw, next_sequence,
                                          err);
        });
    }
    static std::vector<std::string> list(const store &store) {
        batpak_checkpoint_list_t *handle = nullptr;
        detail::check([&](auto err) { return batpak_checkpoint_list(store.get(), &handle, err); });
        const detail::owner<batpak_checkpoint_list_t, batpak_checkpoint_list_free> owned(handle);
        std::vector<std::string> ids;
        for (std::size_t i = 0; i < batpak_checkpoint_list_count(handle); ++i) {
            std::size_t len = 0;
            const char *text = batpak_checkpoint_list_id(handle, i, &len);
            ids.emplace_back(text, len);
        }
        return ids;
    }
    static void remove(store &store, std::string_view checkpoint_id) {
        detail::check([&](auto err) {
            return batpak_checkpoint_delete(store.get(), checkpoint_id.data(), checkpoint_id.size(), err);
        });
    }
};

/// What becomes of a batch.
enum class outcome : std::int32_t {
    proceed = BATPAK_HANDLER_CONTINUE,
    stop = BATPAK_HANDLER_STOP,
    stop_with_rollback = BATPAK_HANDLER_STOP_WITH_ROLLBACK,
    retry = BATPAK_HANDLER_RETRY,
    fail = BATPAK_HANDLER_FAIL,
};

/// One batch in the hands of a handler, during its call.
class delivery {
public:
    delivery(batpak_delivery_t *handle, batpak::events events) noexcept : handle_(handle), events_(events) {}

    batpak_delivery_t *get() const noexcept { return handle_; }
    const batpak::events &events() const noexcept { return events_; }
    /// The events beyond the call.
    batch keep() const noexcept { return batch(batpak_batch_retain(batpak_delivery_batch(handle_))); }
    /// Borrowed; for appends with the functions of batpak.h.
    batpak_store_t *store() const noexcept { return batpak_delivery_store(handle_); }
    std::optional<std::string_view> checkpoint_id() const noexcept {
        std::size_t len = 0;
        const char *text = batpak_delivery_checkpoint_id(handle_, &len);
        return text ? std::optional<std::string_view>(std::in_place, text, len) : std::nullopt;
    }
    std::uint32_t attempt() const noexcept { return batpak_delivery_attempt(handle_); }
    /// The gaps of the batch.
    gap_list gaps() const {
        std::size_t n = 0;
        std::uint64_t dropped = 0;
        const batpak_gap_t *first = batpak_delivery_gaps(handle_, &n, &dropped);
        return {detail::gaps_of(first, n), dropped};
    }
    std::array<std::uint8_t, 32> idempotency_key(std::size_t event_index, std::uint32_t output_number) const {
        std::array<std::uint8_t, 32> key;
        detail::check([&](auto err) {
            return batpak_delivery_idempotency_key(handle_, event_index, output_number, key.data(), err);
        });
        return key;
    }
    void set_done(std::size_t n) {
        detail::check([&](auto err) { return batpak_delivery_set_done(handle_, n, err); });
    }
    void set_error(std::string_view message) {
        detail::check([&](auto err) {
            return batpak_delivery_set_error(handle_, message.data(), message.size(), err);
        });
    }

private:
    batpak_delivery_t *handle_;
    batpak::events events_;
};

/// How a worker reads, retries and restarts.
struct worker_options {
    /// Empty: none.
    std::string checkpoint_id;
    std::string name;
    std::uint64_t batch_events = 0;
    std::uint64_t batch_payload_bytes = 0;
    std::chrono::milliseconds idle_wait{0};
    /// Restarts within a window; none: one restart in the worker's life.
    std::optional<std::pair<std::uint32_t, std::chrono::milliseconds>> restarts_within;
    std::uint32_t retries_max = 0;
    std::chrono::milliseconds retry_backoff{0};
    /// Look for gaps, and show the handler so many of each batch.
    std::uint64_t gap_capacity = 0;
    /// What these throw is dropped.
    std::function<void()> on_restart_budget_exhausted;
    std::function<void(std::string_view checkpoint_id, batpak_status_t code, std::string_view message)>
        on_checkpoint_failure;
};

/// A worker: any thread. Its destructor stops it and waits for its handler.
class worker {
public:
    using handler = std::function<outcome(delivery &)>;

    worker(const store &store, const region &region, const worker_options &options, handler handle) {
        const batpak_region_t raw_region = region.raw();
        auto callbacks = std::make_unique<worker_options>(options);
        auto function = std::make_unique<handler>(std::move(handle));
        const batpak_worker_options_t raw = raw_options(options, callbacks.get());
        batpak_worker_t *started = nullptr;
        detail::check([&](auto err) {
            return batpak_worker_start(store.get(), &raw_region, &raw, call, function.get(),
                                       detail::delete_function<handler>, &started, err);
        });
        // The library has taken them over.
        function.release();
        callbacks.release();
        handle_.reset(started);
    }

    worker(worker &&) noexcept = default;
    worker &operator=(worker &&other) noexcept {
        if (this != &other) {
            end_quietly();
            handle_ = std::move(other.handle_);
        }
        return *this;
    }
    ~worker() { end_quietly(); }

    batpak_worker_t *get() const noexcept { return handle_.get(); }
    void stop() {
        detail::check([&](auto err) { return batpak_worker_stop(get(), err); });
    }
    /// False: still running. Throws what the worker ended with.
    bool join(std::chrono::milliseconds timeout = forever) {
        return detail::check([&](auto err) { return batpak_worker_join(get(), timeout.count(), err); }) == BATPAK_OK;
    }
    bool stop_and_join(std::chrono::milliseconds timeout = forever) {
        return detail::check([&](auto err) { return batpak_worker_stop_and_join(get(), timeout.count(), err); }) ==
               BATPAK_OK;
    }
    batpak_worker_stats_t stats() const {
        batpak_worker_stats_t stats;
        detail::check([&](auto err) { return batpak_worker_stats_init(&stats, sizeof stats, err); });
        detail::check([&](auto err) { return batpak_worker_stats(get(), &stats, err); });
        return stats;
    }

private:
    static std::int32_t call(void *user_data, batpak_delivery_t *raw, const batpak_event_t *first,
                             std::size_t n) noexcept {
        try {
            delivery delivery(raw, events(first, n));
            return static_cast<std::int32_t>((*static_cast<handler *>(user_data))(delivery));
        } catch (const std::exception &exception) {
            batpak_delivery_set_error(raw, exception.what(), std::strlen(exception.what()), nullptr);
        } catch (...) {
            const char message[] = "the handler threw something that is no std::exception";
            batpak_delivery_set_error(raw, message, sizeof message - 1, nullptr);
        }
        return BATPAK_HANDLER_FAIL;
    }

    /// The callbacks of the copy in `callbacks`, which the library is to own.
    static batpak_worker_options_t raw_options(const worker_options &options, worker_options *callbacks) {
        batpak_worker_options_t raw;
        detail::check([&](auto err) { return batpak_worker_options_init(&raw, sizeof raw, err); });
        raw.batch_events = options.batch_events;
        raw.batch_payload_bytes = options.batch_payload_bytes;
        raw.idle_wait_ms = static_cast<std::uint64_t>(options.idle_wait.count());
        if (options.restarts_within) {
            raw.restart_policy = BATPAK_RESTART_BOUNDED;
            raw.max_restarts = options.restarts_within->first;
            raw.within_ms = static_cast<std::uint64_t>(options.restarts_within->second.count());
        }
        raw.retries_max = options.retries_max;
        raw.retry_backoff_ms = static_cast<std::uint64_t>(options.retry_backoff.count());
        raw.gap_capacity = options.gap_capacity;
        raw.checkpoint_id = options.checkpoint_id.empty() ? nullptr : options.checkpoint_id.data();
        raw.checkpoint_id_len = options.checkpoint_id.size();
        raw.name = options.name.empty() ? nullptr : options.name.data();
        raw.name_len = options.name.size();
        raw.callback_user_data = callbacks;
        raw.callback_user_data_free = detail::delete_function<worker_options>;
        if (options.on_restart_budget_exhausted) {
            raw.on_restart_budget_exhausted = [](void *user_data) noexcept {
                try {
                    static_cast<worker_options *>(user_data)->on_restart_budget_exhausted();
                } catch (...) {
                }
            };
        }
        if (options.on_checkpoint_failure) {
            raw.on_checkpoint_failure = [](void *user_data, const char *id, std::size_t id_len, batpak_status_t code,
                                           const char *message, std::size_t message_len) noexcept {
                try {
                    static_cast<worker_options *>(user_data)->on_checkpoint_failure({id, id_len}, code,
                                                                                    {message, message_len});
                } catch (...) {
                }
            };
        }
        return raw;
    }

    void end_quietly() noexcept {
        if (handle_) {
            batpak_worker_stop_and_join(handle_.get(), -1, nullptr);
        }
    }

    detail::owner<batpak_worker_t, batpak_worker_free> handle_;
};

} // namespace batpak

#endif // BATPAK_HPP
