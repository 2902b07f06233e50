/*
 * libbatpak: an embedded, crash-safe, append-only event log.
 *
 * A program opens a store (one directory), appends events to it, and reads them back in order through cursors, which
 * can keep their position across restarts (checkpoints) and can be driven by supervised threads (workers).
 *
 *     batpak_error_t *error = NULL;
 *     batpak_store_t *store = NULL;
 *     if (batpak_store_open_z("data", NULL, &store, &error) != BATPAK_OK ||
 *         batpak_store_append_one(store, "user:1", 6, "web", 3, 0x1001, "hello", 5, NULL, &error) != BATPAK_OK ||
 *         batpak_store_close(store, -1, &error) != BATPAK_OK) {
 *         fprintf(stderr, "%s\n", batpak_error_message(error, NULL));
 *     }
 *     batpak_error_free(error);
 *     batpak_store_free(store);
 *
 * Rules
 *
 * Pointers. A pointer is valid for the length given with it for the whole call. What may be NULL says so. A length of
 * 0 may come with NULL. Text is UTF-8 with a length and need not be terminated; paths are bytes. Everything passed in
 * is copied or used up during the call, unless it is said to be kept.
 *
 * Results. What a function returns through a pointer is either borrowed, and then its owner is named, or it is an
 * object with a _free function of its own. Memory of the library is never given to free(), nor the caller's to the
 * library. Out-parameters are written on success only, except handles, which are set to NULL on failure.
 *
 * Errors. The last parameter of a function that can fail, err, may be NULL. Otherwise it is always written: NULL on
 * success and for the positive statuses, an error object on failure, which the caller frees with batpak_error_free.
 * Every function can return BATPAK_E_INVALID_ARGUMENT (a parameter is NULL, a handle of the wrong type, or out of
 * range), BATPAK_E_INTERNAL (a defect in the library: only _close and _free are then of use on the object), and,
 * where it takes a store, a fence, a cursor or a worker, BATPAK_E_FORKED and BATPAK_E_CLOSED. The comments name the others.
 *
 * Handles. _close ends the work of an object, can fail, and may be repeated. _free gives the handle back: it takes
 * NULL, never waits, comes in any order, and must be called exactly once per handle. A handle that was freed must not
 * be used; the library cannot detect that.
 *
 * Threads. Each object's comment says how many threads may use it at once. Functions that can wait say so. A thread that is
 * cancelled (pthread_cancel) during a call ends after it.
 *
 * Fork. Objects are not inherited: in the child every call on a store, fence, cursor or worker returns BATPAK_E_FORKED, and
 * _free only forgets. A child opens the store anew.
 *
 * Callbacks. They must return normally: to leave one by longjmp, pthread_exit or a C++ exception ends the process.
 * Where a user_data comes with a user_data_free, that is called exactly once, after the last use, from whatever
 * thread comes to it; when the function that takes them fails, it is not called, and user_data stays the caller's.
 *
 * Structs that start with struct_size are prepared with their _init function, or zeroed with struct_size set by hand:
 * zero stands for the default of every member. Reserved members are zero. A struct of an older header (smaller) is
 * understood; one of a newer header is understood as long as what this version does not know is zero, otherwise the
 * answer is BATPAK_E_UNSUPPORTED.
 *
 * Since. What says nothing else is there since 0.1.
 *
 * Durability. BATPAK_DURABILITY_STORAGE: what was acknowledged survives a power loss. BATPAK_DURABILITY_PROCESS: it
 * survives the death of the process, not that of the machine. Appends of the latter go through a mapping of the log's file:
 * somebody who cuts that file meanwhile ends this process by SIGBUS. Everything else answers damage with an error.
 *
 * Generated from src/ffi by `make header`; do not edit.
 */

#ifndef BATPAK_H
#define BATPAK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* =================================================================================================================
 * Status
 *
 * Every call that can fail returns a status: 0 for success, a negative number for an error, and a positive one for an
 * outcome that is no error, such as a poll that found nothing. The numbers are frozen.
 */

/** success */
#define BATPAK_OK 0
/** there is no (further) such event; the call was not asked to wait for one */
#define BATPAK_EMPTY 1
/** the time given has passed */
#define BATPAK_TIMEOUT 2
/** the wait was ended by an interrupt */
#define BATPAK_INTERRUPTED 3
/** a parameter is NULL, of the wrong type or outside its documented range */
#define BATPAK_E_INVALID_ARGUMENT -1
/** a flag, option, reserved field or version that this library does not have */
#define BATPAK_E_UNSUPPORTED -2
/** an entity or scope is empty */
#define BATPAK_E_COORDINATE_EMPTY -3
/** an entity or scope has more than 1024 bytes */
#define BATPAK_E_COORDINATE_TOO_LONG -4
/** an entity or scope is not UTF-8 */
#define BATPAK_E_COORDINATE_NOT_UTF8 -5
/** an entity or scope has a control byte, '/', '..', '|' or '=' */
#define BATPAK_E_COORDINATE_CHARACTER -6
/** an entity or scope is exactly "*" */
#define BATPAK_E_COORDINATE_WILDCARD -7
/** the entity is "batpak" or starts with "batpak:", which belong to the library */
#define BATPAK_E_ENTITY_RESERVED -8
/** the kind has a category above 15 or a type above 4095 */
#define BATPAK_E_KIND_OUT_OF_RANGE -9
/** the kind has the category 0x0 or 0xD, which belong to the library */
#define BATPAK_E_KIND_RESERVED -10
/** the clock range ends before it starts */
#define BATPAK_E_CLOCK_RANGE_INVERTED -11
/** the payload is larger than the store accepts */
#define BATPAK_E_PAYLOAD_TOO_LARGE -12
/** an event has more than 64 causes */
#define BATPAK_E_TOO_MANY_CAUSES -13
/** a cause looks like an event of this store, but no such event was appended */
#define BATPAK_E_CAUSE_UNKNOWN -14
/** a batch cause is not an earlier item of the same batch */
#define BATPAK_E_CAUSE_NOT_EARLIER -15
/** the batch has no items */
#define BATPAK_E_BATCH_EMPTY -16
/** the batch needs more bytes than one segment file can hold */
#define BATPAK_E_BATCH_TOO_LARGE -17
/** the store holds 2^46 events, the most that ids can number */
#define BATPAK_E_SEQUENCE_EXHAUSTED -18
/** the checkpoint id is not 1 to 200 bytes of [A-Za-z0-9._:-] without a leading dot */
#define BATPAK_E_CHECKPOINT_ID_INVALID -19
/** the idempotency key does not have 16 to 64 bytes */
#define BATPAK_E_KEY_LENGTH -20
/** the entity is not at the clock that the append expects */
#define BATPAK_E_EXPECTED_STATE -30
/** the idempotency key was used for an event with other content */
#define BATPAK_E_IDEMPOTENCY_CONFLICT -31
/** the entity belongs to an open fence; try again later */
#define BATPAK_E_STREAM_FENCED -32
/** a cause or key names an event of another fence that is not decided; try again later */
#define BATPAK_E_FENCE_PENDING -33
/** the fence was cancelled because its time was over */
#define BATPAK_E_FENCE_EXPIRED -34
/** the fence was committed or cancelled before */
#define BATPAK_E_FENCE_DECIDED -35
/** the store, cursor or worker is closed */
#define BATPAK_E_CLOSED -40
/** handlers were still running when close ran into its timeout; call close again */
#define BATPAK_E_BUSY -41
/** another thread is using the object, which serves one thread at a time */
#define BATPAK_E_CONCURRENT -42
/** the call may not be made from inside a handler of the same object */
#define BATPAK_E_REENTRANT -43
/** the object was made before fork and this is the child process */
#define BATPAK_E_FORKED -44
/** the store was opened for reading only */
#define BATPAK_E_READ_ONLY -45
/** an earlier write or sync failed; the store refuses appends until it is opened again */
#define BATPAK_E_POISONED -46
/** a defect inside the library; the object is unusable */
#define BATPAK_E_INTERNAL -47
/** there is no memory for the request */
#define BATPAK_E_NO_MEMORY -48
/** the directory holds something else than a store */
#define BATPAK_E_NOT_A_STORE -60
/** the directory does not exist, or holds no store, and creating was ruled out */
#define BATPAK_E_NOT_FOUND -61
/** the directory already holds a store and BATPAK_STORE_EXCLUSIVE was given */
#define BATPAK_E_ALREADY_EXISTS -62
/** the store is open elsewhere, in this process or another */
#define BATPAK_E_LOCKED -63
/** a file has a format newer than this library reads */
#define BATPAK_E_NEWER_FORMAT -64
/** bytes that were durable are damaged */
#define BATPAK_E_CORRUPT -65
/** a file in the directory belongs to another store */
#define BATPAK_E_STORE_MISMATCH -66
/** the file system has no space, or the quota is used up */
#define BATPAK_E_DISK_FULL -67
/** the operating system refused or failed a file operation */
#define BATPAK_E_IO -68
/** the checkpoint file cannot be read as one */
#define BATPAK_E_CHECKPOINT_CORRUPT -80
/** the checkpoint was made over another region */
#define BATPAK_E_CHECKPOINT_REGION_MISMATCH -81
/** the checkpoint was made on another store */
#define BATPAK_E_CHECKPOINT_STORE_MISMATCH -82
/** the checkpoint lies beyond the end of the log */
#define BATPAK_E_CHECKPOINT_AHEAD -83
/** the log has another event at the checkpoint's position */
#define BATPAK_E_CHECKPOINT_DIVERGED -84
/** another live cursor or worker has the checkpoint id */
#define BATPAK_E_CHECKPOINT_IN_USE -85
/** there is no checkpoint of that id */
#define BATPAK_E_CHECKPOINT_NOT_FOUND -86
/** a worker could not write its checkpoint; it rolled back and stopped */
#define BATPAK_E_CHECKPOINT_WRITE_FAILED -87
/** the sequence was not delivered by this cursor yet */
#define BATPAK_E_NOT_DELIVERED -100
/** the cursor was opened without a checkpoint id */
#define BATPAK_E_NO_CHECKPOINT -101
/** the handler failed more often than the restart policy allows */
#define BATPAK_E_RESTART_BUDGET_EXHAUSTED -102
/** the handler asked for more retries of one batch than allowed */
#define BATPAK_E_RETRIES_EXHAUSTED -103
/** the worker's thread died */
#define BATPAK_E_WORKER_CRASHED -104

/** The outcome of a call: BATPAK_OK, a negative BATPAK_E_ number, or a positive outcome that is no error. */
typedef int32_t batpak_status_t;

/* =================================================================================================================
 * Objects
 */

/** A store: one directory, open. Any number of threads may use it at once. */
typedef struct batpak_store_t batpak_store_t;

/** A group of events that becomes visible at once, or never. Any number of threads may use it at once. */
typedef struct batpak_fence_t batpak_fence_t;

/**
 * A reader of a region of a store, in order. One thread at a time, checked (BATPAK_E_CONCURRENT); it may move between
 * threads. Only interrupt, close and free may come from another thread while a call is under way.
 */
typedef struct batpak_cursor_t batpak_cursor_t;

/**
 * Events as delivered, with all their bytes. Immutable and counted; it may outlive its cursor and store, and any
 * number of threads may use and free it.
 */
typedef struct batpak_batch_t batpak_batch_t;

/** Gaps that a cursor has observed. Immutable; any thread. */
typedef struct batpak_gap_list_t batpak_gap_list_t;

/** A checkpoint as loaded. Immutable; any thread. */
typedef struct batpak_checkpoint_t batpak_checkpoint_t;

/** The ids of a store's checkpoints. Immutable; any thread. */
typedef struct batpak_checkpoint_list_t batpak_checkpoint_list_t;

/** Some of a store's entities, in order. Immutable; it may outlive its store; any thread. */
typedef struct batpak_entity_list_t batpak_entity_list_t;

/** A thread of the library's that gives events to a handler. Any number of threads may use it at once. */
typedef struct batpak_worker_t batpak_worker_t;

/**
 * What a handler is told about one delivery. It is the library's, valid during the handler's call and on its thread
 * only.
 */
typedef struct batpak_delivery_t batpak_delivery_t;

/* =================================================================================================================
 * Error
 *
 * What a failed call says about itself. The object belongs to the caller, is immutable, and may be used on any thread.
 */

/** An error. NULL stands for "no error" in every function of this section. */
typedef struct batpak_error_t batpak_error_t;

/**
 * The code of an error: a negative status.
 *
 * err: may be NULL, which gives BATPAK_OK. Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_error_code(const batpak_error_t *err);

/**
 * The message of an error: what was refused, the value, and what to do. UTF-8 and terminated by a NUL.
 *
 * err: may be NULL, which gives "". len: out, may be NULL; the length without the NUL.
 * The text is borrowed from err. Any thread; never waits. Since 0.1.
 */
const char *batpak_error_message(const batpak_error_t *err, size_t *len);

/**
 * The operating system's error number behind an error, 0 where there is none.
 *
 * err: may be NULL. Any thread; never waits. Since 0.1.
 */
int32_t batpak_error_os_errno(const batpak_error_t *err);

/**
 * 1 when the same call may succeed later with nothing changed by the caller, else 0.
 *
 * err: may be NULL. Any thread; never waits. Since 0.1.
 */
int32_t batpak_error_is_retryable(const batpak_error_t *err);

/**
 * 1 when the object that the call was made on is of no further use and should be closed, else 0.
 *
 * err: may be NULL. Any thread; never waits. Since 0.1.
 */
int32_t batpak_error_is_fatal(const batpak_error_t *err);

/**
 * A value behind an error, as text terminated by a NUL.
 *
 * key, key_len: the value's name. Depending on the code there are "what", "part", "path", "operation", "offset",
 * "sequence", "position", "expected", "actual", "stored", "found", "known", "index" (the refused item of a batch),
 * "cause_index", "value", "length", "limit", "count", "bytes", "start", "end", "kind", "category", "id", "entity",
 * "key" (in hexadecimal), "first", "difference", "outcome", "timeout_ms", "reason", "cause", "call", "handlers",
 * "waited_ms", "restarts" and "message". Numbers are decimal.
 * len: out, may be NULL; the length without the NUL. err: may be NULL.
 * Returns text borrowed from err, or NULL (and length 0) where the error has no such value.
 * Any thread; never waits. Since 0.1.
 */
const char *batpak_error_detail(const batpak_error_t *err, const char *key, size_t key_len, size_t *len);

/**
 * Frees an error. Texts borrowed from it end with it.
 *
 * err: may be NULL. Any thread; never waits. Since 0.1.
 */
void batpak_error_free(batpak_error_t *err);

/* =================================================================================================================
 * Version and features
 *
 * The macros tell what a program was compiled with, the functions what it runs with.
 */

/** The version as text. */
#define BATPAK_VERSION_STRING "0.1.0"
/** The version's first number. */
#define BATPAK_VERSION_MAJOR 0u
/** The version's second number. Until 1.0 the library's file name (soname) changes with it. */
#define BATPAK_VERSION_MINOR 1u
/** The version's third number. */
#define BATPAK_VERSION_PATCH 0u
/** The version in one number: major * 1000000 + minor * 1000 + patch. */
#define BATPAK_VERSION_NUMBER 1000u
/** The binary interface of this header, for batpak_check_abi. */
#define BATPAK_ABI_VERSION 1u

/**
 * One status as batpak_status_list tells it. The texts are terminated, and live as long as the library is loaded.
 */
typedef struct batpak_status_info_t {
    /** The number. */
    batpak_status_t code;
    /** Zero. */
    uint32_t reserved;
    /** The name of its constant. */
    const char *name;
    /** What it means, in a few words. */
    const char *description;
} batpak_status_info_t;

/**
 * The version of the loaded library in one number, as BATPAK_VERSION_NUMBER.
 *
 * Any thread; never waits. Since 0.1.
 */
uint32_t batpak_version_number(void);

/**
 * The version of the loaded library as terminated text, which lives as long as the library is loaded.
 *
 * Any thread; never waits. Since 0.1.
 */
const char *batpak_version_string(void);

/**
 * Asks whether the loaded library serves programs compiled with the given binary interface.
 *
 * abi_version: pass BATPAK_ABI_VERSION. err: out, may be NULL.
 * Returns BATPAK_OK, or BATPAK_E_UNSUPPORTED: link or load another version of the library.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_check_abi(uint32_t abi_version, batpak_error_t **err);

/**
 * 1 when the loaded library has the named ability, else 0.
 *
 * name, name_len: "append", "batch", "causes", "checkpoint", "cursor", "expected-state", "fence", "idempotency",
 * "leaf-hash", "notify-fd", "worker", or the name of an ability of later versions.
 * Any thread; never waits. Since 0.1.
 */
int32_t batpak_has_feature(const char *name, size_t name_len);

/**
 * The name of a status's constant as terminated text, such as "BATPAK_E_CLOSED"; "BATPAK_E_UNKNOWN" for a number that
 * the loaded library does not know. Never NULL. The text lives as long as the library is loaded.
 *
 * Any thread; never waits. Since 0.1.
 */
const char *batpak_status_name(batpak_status_t status);

/**
 * What a status means, in a few words, as terminated text. Never NULL. The text lives as long as the library is
 * loaded.
 *
 * Any thread; never waits. Since 0.1.
 */
const char *batpak_status_description(batpak_status_t status);

/**
 * All statuses of the loaded library, for language bindings.
 *
 * list, n: out; the array, which lives as long as the library is loaded, and its length. err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_status_list(const batpak_status_info_t **list, size_t *n, batpak_error_t **err);

/* =================================================================================================================
 * Callbacks
 */

/** Something was lost, refused or failed in the background. */
#define BATPAK_LOG_ERROR 1u
/** Something unusual was mended. */
#define BATPAK_LOG_WARNING 2u
/** What the library does at its turning points. */
#define BATPAK_LOG_INFO 3u

/**
 * Frees what a user_data points to. Called exactly once, after the last use, on whatever thread comes to it; it may
 * call no function of this library on the object that held the user_data.
 */
typedef void (*batpak_user_data_free_fn)(void *user_data);

/**
 * Gives the time: microseconds since the Unix epoch. Called by appends, possibly on several threads at once; it must
 * return at once and call no function of this library.
 */
typedef int64_t (*batpak_clock_fn)(void *user_data);

/**
 * Takes a log message. level: BATPAK_LOG_ERROR, BATPAK_LOG_WARNING or BATPAK_LOG_INFO; target names the part of the
 * library; both texts are valid during the call only. Called on any thread, possibly on several at once; it should
 * return soon and call no function of this library.
 */
typedef void (*batpak_log_fn)(void *user_data,
                              uint32_t level,
                              const char *target,
                              size_t target_len,
                              const char *message,
                              size_t message_len);

/* =================================================================================================================
 * Store
 */

/** In flags of the store's options: change nothing in the directory; the store must exist. */
#define BATPAK_STORE_READ_ONLY 1u
/** In flags: a missing directory or store is BATPAK_E_NOT_FOUND instead of being made. */
#define BATPAK_STORE_NO_CREATE 2u
/** In flags: an existing store is BATPAK_E_ALREADY_EXISTS. */
#define BATPAK_STORE_EXCLUSIVE 4u

/**
 * In flags: no thread of the store's own; appends then do the work of preparing space. A fence whose time is over is
 * then cancelled by the next call that meets it: a reader that waits behind it waits for that call.
 */
#define BATPAK_STORE_NO_HELPER_THREAD 8u
/** What the store's options say; in those, BATPAK_DURABILITY_STORAGE. */
#define BATPAK_DURABILITY_DEFAULT 0u
/** An acknowledged event survives a power loss: it was synced, and every event before it. */
#define BATPAK_DURABILITY_STORAGE 1u
/** An acknowledged event survives the death of the process (kill -9), not that of the machine. */
#define BATPAK_DURABILITY_PROCESS 2u
/** The entity may be at any clock. */
#define BATPAK_EXPECT_ANY 0u
/** The entity has no event. */
#define BATPAK_EXPECT_NO_STREAM 1u
/** The entity's last event has the clock expected_clock. */
#define BATPAK_EXPECT_EXACT 2u
/** In flags of the append options: compute the leaf hashes of the receipts, which takes its time. */
#define BATPAK_APPEND_LEAF_HASH 1u
/** In flags of a receipt: the event had been appended before; this is the receipt of then. */
#define BATPAK_RECEIPT_DUPLICATE 1u

/**
 * How to open a store. Callbacks and their user_data are kept until the store is gone (closed, and its handle and
 * those of its fences, cursors and workers freed).
 */
typedef struct batpak_store_options_t {
    /** sizeof(batpak_store_options_t). */
    uint32_t struct_size;
    /** BATPAK_STORE_ flags. */
    uint32_t flags;
    /** Size of a segment file: 1 MiB to 1 GiB; 0 for the default, 64 MiB. */
    uint64_t segment_bytes;
    /** The largest payload accepted: up to 64 MiB; 0 for the default, 16 MiB. */
    uint64_t payload_bytes_max;
    /** Events whose idempotency keys are remembered, fixed when the store is made; 0 for the default, 4194304. */
    uint64_t key_window;
    /** The durability of appends that do not say: a BATPAK_DURABILITY_ constant. */
    uint32_t durability;
    /** Zero. */
    uint32_t reserved0;
    /** The wall clock; NULL for the system's. */
    batpak_clock_fn clock;
    /** Passed to clock. */
    void *clock_user_data;
    /** Frees clock_user_data; may be NULL. */
    batpak_user_data_free_fn clock_user_data_free;
    /** Takes log messages; NULL for silence. */
    batpak_log_fn log;
    /** Passed to log. */
    void *log_user_data;
    /** Frees log_user_data; may be NULL. */
    batpak_user_data_free_fn log_user_data_free;
    /** Zero. */
    uint64_t reserved[4];
} batpak_store_options_t;

/**
 * One event to append. Texts, payload and arrays are borrowed during the append. In an array of items each has the
 * same struct_size, which is the distance from one to the next.
 */
typedef struct batpak_append_t {
    /** sizeof(batpak_append_t). */
    uint32_t struct_size;
    /** category << 12 | type; category 0 to 15 but 0x0 and 0xD, which are the library's; type 0 to 4095. */
    uint32_t kind;
    /** The version of the payload's schema, the caller's own: 0 to 65535. */
    uint32_t schema;
    /** Zero. */
    uint32_t flags;
    /**
     * The entity that the event belongs to: 1 to 1024 bytes of UTF-8 without control bytes, '/', '..', '|' and '=',
     * not "*".
     */
    const char *entity;
    /** Its length in bytes. */
    size_t entity_len;
    /** The scope: as an entity. */
    const char *scope;
    /** Its length in bytes. */
    size_t scope_len;
    /** The payload: any bytes. */
    const void *payload;
    /** Its length in bytes. */
    size_t payload_len;
    /**
     * The ids of the events that led to this one, 16 bytes each, from receipts or events; NULL where there are none.
     */
    const uint8_t *causes;
    /** Number of ids. At most 64 causes in all. */
    size_t cause_count;
    /**
     * Causes within the batch: indexes of earlier items. They follow the causes above. NULL where there are none.
     */
    const uint32_t *batch_causes;
    /** Number of indexes. */
    size_t batch_cause_count;
    /** 16 bytes, or NULL: the correlation id of the first cause, or without causes the event's own id. */
    const uint8_t *correlation_id;
    /**
     * Idempotency key: 16 to 64 bytes of the caller's, or NULL for none. An append whose key was used before by an
     * event of the same content appends nothing and returns the receipt of then, flagged BATPAK_RECEIPT_DUPLICATE;
     * one of other content is BATPAK_E_IDEMPOTENCY_CONFLICT. Content is everything above but flags. Keys are looked at
     * before the expected state, which is no content.
     */
    const void *key;
    /** Its length in bytes. */
    size_t key_len;
    /** A BATPAK_EXPECT_ constant: what must be true of the entity, earlier items of the batch included. */
    uint32_t expected;
    /** Zero. */
    uint32_t reserved0;
    /** The clock for BATPAK_EXPECT_EXACT; else zero. */
    uint64_t expected_clock;
    /** Zero. */
    uint64_t reserved[4];
} batpak_append_t;

/** How to append. */
typedef struct batpak_append_options_t {
    /** sizeof(batpak_append_options_t). */
    uint32_t struct_size;
    /** A BATPAK_DURABILITY_ constant. */
    uint32_t durability;
    /** BATPAK_APPEND_ flags. */
    uint32_t flags;
    /** Zero. */
    uint32_t reserved0;
    /** Zero. */
    uint64_t reserved[4];
} batpak_append_options_t;

/** What an append says of one event. The layout is frozen: 128 bytes. */
typedef struct batpak_receipt_t {
    /** Position in the store's order. */
    uint64_t sequence;
    /** Position among the events of its entity. */
    uint64_t clock;
    /** Microseconds since the Unix epoch. */
    int64_t time_us;
    /** The event's id. */
    uint8_t id[16];
    /** The correlation id. */
    uint8_t correlation_id[16];
    /**
     * The durability reached: BATPAK_DURABILITY_STORAGE or BATPAK_DURABILITY_PROCESS; 0 under a fence, whose commit
     * decides.
     */
    uint32_t durability;
    /** BATPAK_RECEIPT_DUPLICATE. */
    uint32_t flags;
    /** The leaf hash, when it was asked for; else zero. */
    uint8_t leaf_hash[32];
    /** Zero. */
    uint64_t reserved[4];
} batpak_receipt_t;

/**
 * How far the log is: bounds on sequences, each the first that is not yet so. None ever decreases while the store is
 * open.
 */
typedef struct batpak_watermarks_t {
    /** Sequences below were appended. */
    uint64_t appended;
    /** Sequences below are delivered to cursors. */
    uint64_t visible;
    /**
     * Sequences below survive a power loss. That a fence was committed with BATPAK_DURABILITY_PROCESS may not, even if
     * its events do: batpak_store_sync and batpak_store_wait see to both.
     */
    uint64_t durable;
    /** Zero. */
    uint64_t reserved;
} batpak_watermarks_t;

/** Numbers about a store. */
typedef struct batpak_store_stats_t {
    /** sizeof(batpak_store_stats_t). */
    uint32_t struct_size;
    /** Zero. */
    uint32_t reserved0;
    /** As in batpak_watermarks_t. */
    uint64_t appended;
    /** As in batpak_watermarks_t. */
    uint64_t visible;
    /** As in batpak_watermarks_t. */
    uint64_t durable;
    /** Segment files. */
    uint64_t segments;
    /** Segments that were left for a new one since the store was opened. */
    uint64_t segments_sealed;
    /** Bytes of segments and indexes on disk. */
    uint64_t bytes_on_disk;
    /** Entities whose state is in memory. */
    uint64_t entities_in_memory;
    /** Memory that the store holds, in bytes, about. */
    uint64_t memory_bytes;
    /** Cursors that are open. */
    uint64_t cursors_open;
    /** Workers that are running. */
    uint64_t workers_running;
    /** Syncs of the log since the store was opened. */
    uint64_t syncs;
    /** The epoch in force: how many openings have appended. 0 in a store opened for reading only. */
    uint64_t epoch;
    /**
     * Bytes that were cut from the log's end when the store was opened: the remains of an append that a crash cut
     * short.
     */
    uint64_t cut_bytes;
    /** Complete events among them; they had never been acknowledged as durable. */
    uint64_t cut_events;
    /** Zero. */
    uint64_t reserved[8];
} batpak_store_stats_t;

/**
 * Fills store options with the defaults.
 *
 * options: out. size: sizeof(batpak_store_options_t). err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_store_options_init(batpak_store_options_t *options, size_t size, batpak_error_t **err);

/**
 * Opens a store, and makes it when there is none.
 *
 * path, path_len: the directory, as bytes; its parent must exist unless the store is made. options: may be NULL for
 * the defaults. store: out; to be closed with batpak_store_close and freed with batpak_store_free; NULL on failure.
 * err: out, may be NULL.
 * One opening for writing holds a store at a time, in all processes: a second one is BATPAK_E_LOCKED. After a crash
 * the log's end is repaired here: what was acknowledged stays.
 * Errors: BATPAK_E_LOCKED, BATPAK_E_NOT_A_STORE, BATPAK_E_NOT_FOUND, BATPAK_E_ALREADY_EXISTS, BATPAK_E_CORRUPT,
 * BATPAK_E_NEWER_FORMAT, BATPAK_E_STORE_MISMATCH, BATPAK_E_UNSUPPORTED, BATPAK_E_DISK_FULL, BATPAK_E_IO,
 * BATPAK_E_NO_MEMORY.
 * Any thread; waits for the disk. A store that it made is durable on return. Since 0.1.
 */
batpak_status_t batpak_store_open(const char *path,
                                  size_t path_len,
                                  const batpak_store_options_t *options,
                                  batpak_store_t **store,
                                  batpak_error_t **err);

/**
 * As batpak_store_open, with a path that is terminated by a NUL.
 *
 * path: the directory. The rest, and the errors, are those of batpak_store_open.
 * Any thread; waits for the disk. A store that it made is durable on return. Since 0.1.
 */
batpak_status_t batpak_store_open_z(const char *path,
                                    const batpak_store_options_t *options,
                                    batpak_store_t **store,
                                    batpak_error_t **err);

/**
 * Closes a store: stops its workers and waits for their handlers, makes everything appended durable, and lets go of
 * the directory. Its cursors and workers then answer BATPAK_E_CLOSED; batches stay readable. A store that is closed
 * already is BATPAK_OK.
 *
 * timeout_ms: how long to wait for running handlers; -1 for ever. err: out, may be NULL.
 * Errors: BATPAK_E_BUSY: handlers were still running, the store is still open, call again; BATPAK_E_REENTRANT: called
 * from a handler of one of its workers, or from another callback that closing would wait for; BATPAK_E_DISK_FULL,
 * BATPAK_E_IO, BATPAK_E_POISONED: the store is closed, but what was not yet durable may not survive a power loss.
 * Any thread; waits for handlers and the disk. Everything acknowledged is durable on BATPAK_OK. Since 0.1.
 */
batpak_status_t batpak_store_close(batpak_store_t *store, int64_t timeout_ms, batpak_error_t **err);

/**
 * Gives the handle of a store back. It does not close: while fences, cursors or workers of the store are not freed, or
 * its own thread has work in hand, a store that was not closed stays open, and the directory locked.
 *
 * store: may be NULL. Any thread, also from a handler; never waits for handlers. Nothing is made durable. Since 0.1.
 */
void batpak_store_free(batpak_store_t *store);

/**
 * Prepares an event to append: all members zero but struct_size.
 *
 * item: out. size: sizeof(batpak_append_t). err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_append_init(batpak_append_t *item, size_t size, batpak_error_t **err);

/**
 * Fills append options with the defaults.
 *
 * options: out. size: sizeof(batpak_append_options_t). err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_append_options_init(batpak_append_options_t *options, size_t size, batpak_error_t **err);

/**
 * Appends events atomically: all of them or none, also after a crash.
 *
 * items, n: the events, at least one; each item's struct_size is the distance to the next. options: may be NULL for
 * the defaults. receipts: out; n receipts, or NULL. err: out, may be NULL.
 * A batch that is refused appends nothing; the error's detail "index" names the item. Items whose idempotency key was
 * used before return their receipt of then, flagged, and as durable as asked; the others are appended atomically.
 * Errors: BATPAK_E_COORDINATE_..., BATPAK_E_ENTITY_RESERVED, BATPAK_E_KIND_..., BATPAK_E_PAYLOAD_TOO_LARGE,
 * BATPAK_E_TOO_MANY_CAUSES, BATPAK_E_CAUSE_..., BATPAK_E_KEY_LENGTH, BATPAK_E_BATCH_EMPTY, BATPAK_E_BATCH_TOO_LARGE,
 * BATPAK_E_SEQUENCE_EXHAUSTED, BATPAK_E_READ_ONLY, BATPAK_E_POISONED, BATPAK_E_NO_MEMORY: nothing was appended.
 * BATPAK_E_EXPECTED_STATE: the entity is not where the item expects it, and nothing was appended; the details
 * "expected" and "actual" are clocks, or "none" for an entity without events. BATPAK_E_IDEMPOTENCY_CONFLICT: the key
 * belongs to another event, "first", with another "difference": entity, scope, kind, schema, cause, correlation id or
 * payload. BATPAK_E_STREAM_FENCED, BATPAK_E_FENCE_PENDING: an open fence owns the entity, or the cause or key; try
 * again once it is decided.
 * BATPAK_E_DISK_FULL, BATPAK_E_IO: nothing was acknowledged. When a write or a sync has failed, further appends are
 * BATPAK_E_POISONED, and once the store is opened again the events are all there or all not.
 * Any thread; with BATPAK_DURABILITY_STORAGE it waits for the disk. On BATPAK_OK the events are as durable as asked.
 * Since 0.1.
 */
batpak_status_t batpak_store_append(batpak_store_t *store,
                                    const batpak_append_t *items,
                                    size_t n,
                                    const batpak_append_options_t *options,
                                    batpak_receipt_t *receipts,
                                    batpak_error_t **err);

/**
 * Appends one event, with the store's durability and without causes: the short form of batpak_store_append.
 *
 * entity, entity_len, scope, scope_len, kind, payload, payload_len: as the members of batpak_append_t; schema is 0.
 * receipt: out, may be NULL. err: out, may be NULL.
 * Errors: as batpak_store_append.
 * Any thread; with BATPAK_DURABILITY_STORAGE it waits for the disk. On BATPAK_OK the event is as durable as the
 * store's options say. Since 0.1.
 */
batpak_status_t batpak_store_append_one(batpak_store_t *store,
                                        const char *entity,
                                        size_t entity_len,
                                        const char *scope,
                                        size_t scope_len,
                                        uint32_t kind,
                                        const void *payload,
                                        size_t payload_len,
                                        batpak_receipt_t *receipt,
                                        batpak_error_t **err);

/**
 * Makes everything appended so far durable.
 *
 * err: out, may be NULL.
 * Errors: BATPAK_E_POISONED, BATPAK_E_READ_ONLY; BATPAK_E_IO, BATPAK_E_DISK_FULL: the store is poisoned.
 * Any thread; waits for the disk. On BATPAK_OK all events appended before the call survive a power loss. Since 0.1.
 */
batpak_status_t batpak_store_sync(batpak_store_t *store, batpak_error_t **err);

/**
 * How far the log is.
 *
 * marks: out. err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_store_watermarks(batpak_store_t *store, batpak_watermarks_t *marks, batpak_error_t **err);

/**
 * Prepares the struct for batpak_store_stats.
 *
 * stats: out. size: sizeof(batpak_store_stats_t). err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_store_stats_init(batpak_store_stats_t *stats, size_t size, batpak_error_t **err);

/**
 * Numbers about a store.
 *
 * stats: in and out; prepared with batpak_store_stats_init. err: out, may be NULL.
 * Any thread; lists the directory of segments, and may wait for an append that is under way. Since 0.1.
 */
batpak_status_t batpak_store_stats(batpak_store_t *store, batpak_store_stats_t *stats, batpak_error_t **err);

/**
 * The store's id: 16 random bytes, given when it was made.
 *
 * id: out; 16 bytes. err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_store_id(batpak_store_t *store, uint8_t *id, batpak_error_t **err);

/* =================================================================================================================
 * Fence
 *
 * A fence groups events, of any number of appends, that become visible at once when it is committed, or never. It owns
 * the entities that it appends to: until it is decided, others get BATPAK_E_STREAM_FENCED for them, which they may try
 * again. Events of others that come after its first one stay hidden meanwhile, so keep fences short. A fence that is
 * not decided in its time, or when the store is closed or the process dies, is cancelled: its events are hidden for
 * ever, and its entities are where it found them.
 */

/** How to begin a fence. */
typedef struct batpak_fence_options_t {
    /** sizeof(batpak_fence_options_t). */
    uint32_t struct_size;
    /**
     * How long the fence may stay open, in milliseconds: up to 3600000; 0 for the default, 10000. Then it is cancelled.
     */
    uint32_t timeout_ms;
    /** Zero. */
    uint64_t reserved[4];
} batpak_fence_options_t;

/**
 * Fills fence options with the defaults.
 *
 * options: out. size: sizeof(batpak_fence_options_t). err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_fence_options_init(batpak_fence_options_t *options, size_t size, batpak_error_t **err);

/**
 * Begins a fence. Until something is appended under it, it hides nothing and owns nothing.
 *
 * options: may be NULL for the defaults. fence: out; to be committed or cancelled, and freed with batpak_fence_free;
 * NULL on failure. err: out, may be NULL.
 * Errors: BATPAK_E_INVALID_ARGUMENT, BATPAK_E_READ_ONLY, BATPAK_E_POISONED.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_fence_begin(batpak_store_t *store,
                                   const batpak_fence_options_t *options,
                                   batpak_fence_t **fence,
                                   batpak_error_t **err);

/**
 * Appends events under a fence, all of them or none.
 *
 * items, n, receipts: as in batpak_store_append. options: may be NULL; its durability must be 0. err: out, may be NULL.
 * The receipts say durability 0: nothing is promised before the commit. Expected states and idempotency keys see the
 * fence's own events.
 * Errors: those of batpak_store_append; BATPAK_E_FENCE_EXPIRED, BATPAK_E_FENCE_DECIDED: the fence takes nothing more.
 * Any thread; does not wait for a sync. Nothing is durable on return. Since 0.1.
 */
batpak_status_t batpak_fence_append(batpak_fence_t *fence,
                                    const batpak_append_t *items,
                                    size_t n,
                                    const batpak_append_options_t *options,
                                    batpak_receipt_t *receipts,
                                    batpak_error_t **err);

/**
 * Makes all events of a fence visible, at once. A fence that is committed already is BATPAK_OK.
 *
 * durability: a BATPAK_DURABILITY_ constant. err: out, may be NULL.
 * Errors: BATPAK_E_FENCE_EXPIRED, BATPAK_E_FENCE_DECIDED: it was cancelled; BATPAK_E_DISK_FULL: it is still open, try
 * again; BATPAK_E_IO, BATPAK_E_POISONED: it is decided when the store is opened again, whole.
 * Any thread; with BATPAK_DURABILITY_STORAGE it waits for the disk. On BATPAK_OK the fence and its events are as durable
 * as asked; with BATPAK_DURABILITY_PROCESS a power loss may still take them back, all together. Since 0.1.
 */
batpak_status_t batpak_fence_commit(batpak_fence_t *fence,
                                    uint32_t durability,
                                    batpak_error_t **err);

/**
 * Hides the events of a fence for ever, and puts its entities back to where it found them. A fence that is cancelled
 * already, or whose time was over, is BATPAK_OK.
 *
 * err: out, may be NULL.
 * Errors: BATPAK_E_FENCE_DECIDED: it was committed.
 * Any thread; never waits for the disk. Nothing can bring the events back, a crash neither. Since 0.1.
 */
batpak_status_t batpak_fence_cancel(batpak_fence_t *fence, batpak_error_t **err);

/**
 * Gives the handle of a fence back. A fence that is not decided is cancelled.
 *
 * fence: may be NULL. Any thread; never waits for the disk. Since 0.1.
 */
void batpak_fence_free(batpak_fence_t *fence);

/* =================================================================================================================
 * Waiting for watermarks
 *
 * batpak_store_watermarks tells how far the log is; these functions wait until it is as far as the caller needs.
 *
 * Appending ahead. One thread gets most out of the disk when it appends with BATPAK_DURABILITY_PROCESS and asks once
 * for many events whether they are durable, before it acknowledges them to whomever it serves:
 *
 *     for (i = 0; i < n; i++)
 *         batpak_store_append(store, &items[i], 1, &process, &receipt, &err);
 *     batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, receipt.sequence + 1, -1, &err);
 *
 * To go on appending meanwhile, it asks with timeout 0 instead, and acknowledges what is below the durable watermark.
 */

/** Sequences below it are delivered to cursors. */
#define BATPAK_WATERMARK_VISIBLE 1u
/** Sequences below it survive a power loss. */
#define BATPAK_WATERMARK_DURABLE 2u

/**
 * Waits until a watermark has reached a bound, that is until every sequence below the bound is visible, or durable.
 *
 * watermark: a BATPAK_WATERMARK_ constant. bound: the sequence after the last one of interest; it may lie beyond what
 * is appended so far. timeout_ms: how long to wait: 0 not at all, -1 for ever. err: out, may be NULL.
 * To wait for BATPAK_WATERMARK_DURABLE forces a sync, as soon as all below the bound is appended, and shares it with
 * whoever else needs one. A sync that this thread has begun is seen through, also beyond the timeout. With timeout 0
 * the sync is left to the store's own thread, which begins it as soon as all below the bound is appended (with
 * BATPAK_STORE_NO_HELPER_THREAD the call only looks). To wait for BATPAK_WATERMARK_VISIBLE forces nothing.
 * Returns BATPAK_OK: the watermark is there; BATPAK_TIMEOUT: it is not, in time.
 * Errors: BATPAK_E_CLOSED: the store was closed meanwhile; in a worker's handler, a close is waiting for the handler.
 * BATPAK_E_POISONED: a write or a sync has failed; BATPAK_E_IO, BATPAK_E_DISK_FULL: the sync that this call began has.
 * BATPAK_E_READ_ONLY: durable cannot be forced in a store that was opened for reading only.
 * Any thread, any number at once, also in a handler; waits as long as asked and, when durable is waited for, for the
 * disk; never with timeout 0. On BATPAK_OK for BATPAK_WATERMARK_DURABLE the events below the bound survive a power
 * loss. Since 0.1.
 */
batpak_status_t batpak_store_wait(batpak_store_t *store,
                                  uint32_t watermark,
                                  uint64_t bound,
                                  int64_t timeout_ms,
                                  batpak_error_t **err);

/**
 * A descriptor for poll, epoll and the like: readable when the durable watermark may have moved, and when the store was
 * closed or poisoned. Only a batpak_store_wait for BATPAK_WATERMARK_DURABLE with timeout 0 that returns BATPAK_TIMEOUT
 * makes it unreadable, and has a sync made that makes it readable again: so begin with such a call, and on readability
 * call it for what is still waited for until BATPAK_TIMEOUT. There is one per store, for one event loop.
 *
 * fd: out; the store's, non-blocking, closed with the store's last handle: neither read, write nor close it. err: out,
 * may be NULL.
 * Errors: BATPAK_E_IO.
 * Any thread; never waits. It forces no sync. Since 0.1.
 */
batpak_status_t batpak_store_durable_fd(batpak_store_t *store, int32_t *fd, batpak_error_t **err);

/* =================================================================================================================
 * Region
 *
 * What a reader wants to see: an entity or all that start with a prefix, a scope, a kind, a range of clocks. All
 * conditions hold together. NULL in place of a region means everything. Events of the library's own entities
 * ("batpak" and "batpak:...") are seen by regions that name them only.
 */

/** Every entity; entity is NULL. */
#define BATPAK_ENTITY_ANY 0u
/**
 * The entity itself, and those that continue with ':' after it: "user" matches "user" and "user:1", not "users".
 */
#define BATPAK_ENTITY_PREFIX 1u
/** This entity only. */
#define BATPAK_ENTITY_EXACT 2u
/** Every kind: nothing is said about it. */
#define BATPAK_KIND_NONE 0u
/** Every kind: that is asked for. It selects as BATPAK_KIND_NONE does, but is another region to checkpoints. */
#define BATPAK_KIND_ANY 1u
/** The kinds of one category: kind is 0 to 15. */
#define BATPAK_KIND_CATEGORY 2u
/** One kind: kind is category << 12 | type. */
#define BATPAK_KIND_EXACT 3u

/** A region. Texts are borrowed during the call that it is passed to. */
typedef struct batpak_region_t {
    /** sizeof(batpak_region_t). */
    uint32_t struct_size;
    /** BATPAK_ENTITY_ANY, _PREFIX or _EXACT. */
    uint32_t entity_match;
    /** The entity or prefix; NULL with BATPAK_ENTITY_ANY. */
    const char *entity;
    /** Its length in bytes. */
    size_t entity_len;
    /** The scope, or NULL for every scope. */
    const char *scope;
    /** Its length in bytes. */
    size_t scope_len;
    /** BATPAK_KIND_NONE, _ANY, _CATEGORY or _EXACT. */
    uint32_t kind_match;
    /** The category or kind; 0 with the others. */
    uint32_t kind;
    /** 1: only events whose clock is in the range. 0: all. */
    uint32_t has_clock_range;
    /** Zero. */
    uint32_t reserved0;
    /** The first clock in the range. */
    uint64_t clock_start;
    /** The last clock in the range. */
    uint64_t clock_end;
    /** Zero. */
    uint64_t reserved[4];
} batpak_region_t;

/**
 * Prepares a region that matches everything.
 *
 * region: out. size: sizeof(batpak_region_t). err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_region_init(batpak_region_t *region, size_t size, batpak_error_t **err);

/**
 * The text by which checkpoints know a region: equal for equal regions, different for different ones.
 *
 * region: may be NULL. buffer, capacity: out; the text and a NUL are written when they fit; may be NULL and 0 to ask
 * for the length. len: out; the text's length without the NUL, written in any case when the region is valid.
 * err: out, may be NULL.
 * Errors: BATPAK_E_COORDINATE_..., BATPAK_E_KIND_OUT_OF_RANGE, BATPAK_E_CLOCK_RANGE_INVERTED; a buffer that is too
 * small and not NULL is BATPAK_E_INVALID_ARGUMENT.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_region_identity(const batpak_region_t *region,
                                       char *buffer,
                                       size_t capacity,
                                       size_t *len,
                                       batpak_error_t **err);

/* =================================================================================================================
 * Batch
 *
 * Events as a poll or a worker delivered them, with their payloads, in one piece of memory of the library's.
 */

/** In place of a sequence: there is none. */
#define BATPAK_NO_SEQUENCE 18446744073709551615ull
/** In flags of an event: its payload was erased; the bytes in its place are not the ones appended. */
#define BATPAK_EVENT_ERASED 1u

/**
 * One event. Its pointers are borrowed from the batch. The layout is frozen and never grows: 160 bytes where pointers
 * have 64 bits.
 */
typedef struct batpak_event_t {
    /** Position in the store's order, from 0, without gaps. */
    uint64_t sequence;
    /** Position among the events of its entity, from 0. */
    uint64_t clock;
    /** Sequence of the entity's event before, or BATPAK_NO_SEQUENCE. */
    uint64_t prev_sequence;
    /** Microseconds since the Unix epoch; never decreasing along the sequence. */
    int64_t time_us;
    /** The event's id (UUIDv7, in network order). */
    uint8_t id[16];
    /** The correlation id. */
    uint8_t correlation_id[16];
    /** Category << 12 | type. */
    uint32_t kind;
    /** The schema version that the appender gave. */
    uint32_t schema;
    /** BATPAK_EVENT_ERASED. */
    uint32_t flags;
    /** Number of causes. */
    uint32_t cause_count;
    /** The entity, UTF-8, not terminated. */
    const char *entity;
    /** Its length in bytes. */
    size_t entity_len;
    /** The scope, UTF-8, not terminated. */
    const char *scope;
    /** Its length in bytes. */
    size_t scope_len;
    /** The payload. */
    const void *payload;
    /** Its length in bytes. */
    size_t payload_len;
    /** The ids of the events that led to this one, 16 bytes each; NULL where there are none. */
    const uint8_t (*causes)[16];
    /** Zero. */
    uint64_t reserved[3];
} batpak_event_t;

/**
 * The events of a batch: one call per batch, then plain memory.
 *
 * batch: may be NULL, which gives NULL and 0. n: out; the number of events.
 * Returns an array borrowed from the batch.
 * Any thread; never waits. Since 0.1.
 */
const batpak_event_t *batpak_batch_events(const batpak_batch_t *batch, size_t *n);

/**
 * One more reference to a batch, to be given back with a batpak_batch_free of its own.
 *
 * batch: may be NULL. Returns batch.
 * Any thread; never waits. Since 0.1.
 */
batpak_batch_t *batpak_batch_retain(batpak_batch_t *batch);

/**
 * Gives a reference to a batch back. With the last one its events end.
 *
 * batch: may be NULL. Any thread; never waits. Since 0.1.
 */
void batpak_batch_free(batpak_batch_t *batch);

/* =================================================================================================================
 * Event
 *
 * Events one at a time, by sequence or id. What reads many in order is a cursor.
 */

/**
 * The event at a sequence.
 *
 * sequence: any number. batch: out; one event, to be freed with batpak_batch_free; NULL unless the status is
 * BATPAK_OK. err: out, may be NULL.
 * Returns BATPAK_OK; BATPAK_EMPTY when no visible event has the sequence.
 * Errors: BATPAK_E_CORRUPT, BATPAK_E_NO_MEMORY, BATPAK_E_IO.
 * Any thread; may read from the disk. Since 0.1.
 */
batpak_status_t batpak_store_get(batpak_store_t *store,
                                 uint64_t sequence,
                                 batpak_batch_t **batch,
                                 batpak_error_t **err);

/**
 * The event with an id. The id says where its event is, so this costs no more than batpak_store_get.
 *
 * id: 16 bytes, from a receipt or an event. batch: out; one event, to be freed with batpak_batch_free; NULL unless the
 * status is BATPAK_OK. err: out, may be NULL.
 * Returns BATPAK_OK; BATPAK_EMPTY when no visible event of this store has the id.
 * Errors: BATPAK_E_CORRUPT, BATPAK_E_NO_MEMORY, BATPAK_E_IO.
 * Any thread; may read from the disk. Since 0.1.
 */
batpak_status_t batpak_store_get_by_id(batpak_store_t *store,
                                       const uint8_t *id,
                                       batpak_batch_t **batch,
                                       batpak_error_t **err);

/**
 * The first sequence that the log has: where reading from the beginning begins. 0 until the oldest events are given
 * up; the visible watermark while there is no event.
 *
 * sequence: out. err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_store_first_sequence(batpak_store_t *store, uint64_t *sequence, batpak_error_t **err);

/* =================================================================================================================
 * Entity
 *
 * How far an entity is, and which entities there are.
 */

/** How far an entity is. The layout is frozen: 64 bytes. */
typedef struct batpak_entity_head_t {
    /** 1: the entity has an event. 0: it has none. */
    uint32_t exists;
    /** Zero. */
    uint32_t reserved0;
    /** Clock of its last event; 0 when there is none. */
    uint64_t clock;
    /** Sequence of its last event, or BATPAK_NO_SEQUENCE. */
    uint64_t last_sequence;
    /** Zero. */
    uint64_t reserved[5];
} batpak_entity_head_t;

/**
 * One entity of a list. Its text is borrowed from the list. The layout is frozen and never grows: 64 bytes where pointers
 * have 64 bits.
 */
typedef struct batpak_entity_t {
    /** The entity, UTF-8, followed by a NUL. */
    const char *entity;
    /** Its length in bytes, without the NUL. */
    size_t entity_len;
    /** Clock of its last visible event. */
    uint64_t clock;
    /** Sequence of its last visible event. */
    uint64_t last_sequence;
    /** Zero. */
    uint64_t reserved[4];
} batpak_entity_t;

/**
 * How far an entity is, as of now: for programs that read an entity, decide, and append only if it has not changed.
 *
 * It counts every event that was appended, also one that is not visible yet: it is what an append would be compared
 * with.
 * entity, entity_len: the entity. head: out. err: out, may be NULL.
 * Errors: BATPAK_E_COORDINATE_..., BATPAK_E_IO, BATPAK_E_CORRUPT.
 * Any thread; waits for appends that are under way, and for an entity that was not used lately reads from the disk,
 * which no append waits for. Since 0.1.
 */
batpak_status_t batpak_store_entity_head(batpak_store_t *store,
                                         const char *entity,
                                         size_t entity_len,
                                         batpak_entity_head_t *head,
                                         batpak_error_t **err);

/**
 * The entities that have a visible event, in the order of their bytes, a page at a time.
 *
 * prefix, prefix_len: only the entity itself and those that continue with ':' after it, as BATPAK_ENTITY_PREFIX has it;
 * of length 0 for all but the library's own ("batpak" and "batpak:..."), which only a prefix names. after, after_len:
 * only what comes behind these bytes, for instance the last entity of the page before; of length 0 to begin.
 * max_entities: at least 1. list: out; to be freed with batpak_entity_list_free; NULL on failure. err: out, may be NULL.
 * A list of less than max_entities, or of none, is the last one. An entity that gets its first event meanwhile may be
 * missing.
 * Errors: BATPAK_E_COORDINATE_..., BATPAK_E_CORRUPT, BATPAK_E_IO.
 * Any thread; may read from the disk: what it costs grows with the page and the segments, not with the entities.
 * Since 0.1.
 */
batpak_status_t batpak_store_entities(batpak_store_t *store,
                                      const char *prefix,
                                      size_t prefix_len,
                                      const char *after,
                                      size_t after_len,
                                      size_t max_entities,
                                      batpak_entity_list_t **list,
                                      batpak_error_t **err);

/**
 * The entities of a list: one call per list, then plain memory.
 *
 * list: may be NULL, which gives NULL and 0. n: out, may be NULL; the number of entities.
 * Returns an array borrowed from the list.
 * Any thread; never waits. Since 0.1.
 */
const batpak_entity_t *batpak_entity_list_entities(const batpak_entity_list_t *list, size_t *n);

/**
 * Frees a list.
 *
 * list: may be NULL. Any thread; never waits. Since 0.1.
 */
void batpak_entity_list_free(batpak_entity_list_t *list);

/* =================================================================================================================
 * Import
 *
 * The events of another store are appended anew, each with an idempotency key made of the source's id and the event's:
 * an import that was cut short, or is repeated, appends what is missing and nothing twice.
 */

/** How to import. */
typedef struct batpak_import_options_t {
    /** sizeof(batpak_import_options_t). */
    uint32_t struct_size;
    /** A BATPAK_DURABILITY_ constant: what the events survive on return. */
    uint32_t durability;
    /** The source's first sequence to import: 0, or the next_sequence of an import of all that is below. */
    uint64_t from_sequence;
    /** Zero. */
    uint64_t reserved[4];
} batpak_import_options_t;

/** What an import did. The layout is frozen: 64 bytes. */
typedef struct batpak_import_result_t {
    /** The source's sequence to go on at, once it has more. */
    uint64_t next_sequence;
    /** Events appended. */
    uint64_t appended;
    /** Events that had been imported before. */
    uint64_t duplicates;
    /** Zero. */
    uint64_t reserved[5];
} batpak_import_result_t;

/**
 * Fills import options with the defaults.
 *
 * options: out. size: sizeof(batpak_import_options_t). err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_import_options_init(batpak_import_options_t *options, size_t size, batpak_error_t **err);

/**
 * Appends all visible events of another store, in its order, that were not imported before.
 *
 * store: appended to. source: another open store, read-only or not. options: may be NULL for the defaults. result:
 * out. err: out, may be NULL.
 * Sequence, clock, time and id of each event are new. Causes and correlation ids that name imported events get the new
 * ids; others are kept as they are. After a failure call it again, with the same options: what is there counts as
 * duplicates, as long as the key window of the store reaches back to it.
 * Errors: those of batpak_store_append, and of reading the source; BATPAK_E_INVALID_ARGUMENT: source is the store itself or
 * a copy of it. What was appended before an error stays.
 * Any thread; waits for the disk. On BATPAK_OK the events are as durable as asked. Since 0.1.
 */
batpak_status_t batpak_store_import(batpak_store_t *store,
                                    batpak_store_t *source,
                                    const batpak_import_options_t *options,
                                    batpak_import_result_t *result,
                                    batpak_error_t **err);

/* =================================================================================================================
 * Gap
 *
 * Where a delivery stepped over cancelled sequences: events that were appended under a fence and never came. A cursor or
 * worker looks for gaps when its options have a gap_capacity. The capacity bounds how many are kept: when there are
 * more, the oldest are dropped, and the drops counted.
 *
 * A gap lies between the sequence that was expected (the one after the event delivered before; 0 when there was none)
 * and the one that was delivered, and only where something between the two was cancelled: to step over events that do
 * not match the region is no gap. What was cancelled behind the last match comes with the next one, and events that are
 * delivered again have their gaps again.
 */

/** Sequences from start up to and without end. The layout is frozen: 16 bytes. */
typedef struct batpak_sequence_range_t {
    /** The first. */
    uint64_t start;
    /** The one after the last. */
    uint64_t end;
} batpak_sequence_range_t;

/**
 * One gap. Its pointer is borrowed from the list or delivery. The layout is frozen and never grows: 48 bytes where
 * pointers have 64 bits.
 */
typedef struct batpak_gap_t {
    /** The sequence after the event delivered before; 0 when there was none. */
    uint64_t expected_sequence;
    /** What was delivered instead. */
    uint64_t delivered_sequence;
    /** What of the sequences between the two was cancelled: ascending, not overlapping. */
    const batpak_sequence_range_t *ranges;
    /** Number of ranges, at least 1. */
    size_t range_count;
    /** Zero. */
    uint64_t reserved[2];
} batpak_gap_t;

/**
 * The gaps of a list, oldest first.
 *
 * list: may be NULL, which gives NULL and 0. n: out, may be NULL; the number of gaps.
 * Returns an array borrowed from the list; NULL when there are none.
 * Any thread; never waits. Since 0.1.
 */
const batpak_gap_t *batpak_gap_list_gaps(const batpak_gap_list_t *list, size_t *n);

/**
 * How many older gaps were dropped, since the list before was taken, because the capacity was used up.
 *
 * list: may be NULL, which gives 0. Any thread; never waits. Since 0.1.
 */
uint64_t batpak_gap_list_dropped(const batpak_gap_list_t *list);

/**
 * Frees a list.
 *
 * list: may be NULL. Any thread; never waits. Since 0.1.
 */
void batpak_gap_list_free(batpak_gap_list_t *list);

/* =================================================================================================================
 * Cursor
 *
 * A cursor delivers the events of a region in order, each once per pass, from the store's first event on or from where
 * its checkpoint says. A poll moves the cursor's position; a checkpoint makes the position durable, so that after a
 * restart events behind it do not come again: at-least-once delivery.
 *
 * A cursor stands between two events, and a sequence that it is moved to (seek) stands before the event of that
 * sequence. Forward, what is delivered next is that event or one above; backward (BATPAK_DIRECTION_BACKWARD), one
 * below. A backward cursor delivers the newest event first and ends at the first event of the log: it is for "the last
 * few", not for following a log, has no checkpoint and never waits.
 */

/** From older to newer events. */
#define BATPAK_DIRECTION_FORWARD 0u
/** From newer to older events, beginning with the newest that is visible when the cursor is opened. */
#define BATPAK_DIRECTION_BACKWARD 1u

/** How to open a cursor. */
typedef struct batpak_cursor_options_t {
    /** sizeof(batpak_cursor_options_t). */
    uint32_t struct_size;
    /** Zero. */
    uint32_t flags;
    /**
     * The id of the checkpoint to resume from and to write: 1 to 200 bytes of [A-Za-z0-9._:-], not starting with a
     * dot. One live cursor or worker may have it. NULL: none, the cursor starts at the beginning.
     */
    const char *checkpoint_id;
    /** Its length in bytes. */
    size_t checkpoint_id_len;
    /** A BATPAK_DIRECTION_ constant. With BATPAK_DIRECTION_BACKWARD, checkpoint_id is NULL and gap_capacity 0. */
    uint32_t direction;
    /** Zero. */
    uint32_t reserved0;
    /** Look for gaps, and keep so many until batpak_cursor_take_gaps; 0, the default, is off and costs nothing. */
    uint64_t gap_capacity;
    /** Zero. */
    uint64_t reserved[3];
} batpak_cursor_options_t;

/** Where a cursor stands. The layout is frozen: 64 bytes. */
typedef struct batpak_cursor_position_t {
    /**
     * The sequence after position; 0 when not started. With position_id it is what to keep elsewhere, to come back
     * with batpak_cursor_seek_position. Backward: position; when not started, scanned.
     */
    uint64_t next_sequence;
    /** Sequence of the last event delivered, or stepped over by a seek; BATPAK_NO_SEQUENCE when not started. */
    uint64_t position;
    /**
     * Every match below this sequence was delivered. Backward: every match from this sequence up to where the cursor
     * began.
     */
    uint64_t scanned;
    /**
     * The position that the checkpoint holds, and that a rewind returns to; BATPAK_NO_SEQUENCE for the beginning.
     */
    uint64_t committed;
    /** The id of the event at position; zero when not started. */
    uint8_t position_id[16];
    /** Zero. */
    uint64_t reserved[2];
} batpak_cursor_position_t;

/**
 * Tells that events may be available. Called once per poll that found none, on the thread that appends (or interrupts
 * or closes), with no lock held; it must return at once and call no function of this library: let it wake the thread
 * that polls.
 */
typedef void (*batpak_wake_fn)(void *user_data);

/**
 * Fills cursor options with the defaults.
 *
 * options: out. size: sizeof(batpak_cursor_options_t). err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_cursor_options_init(batpak_cursor_options_t *options, size_t size, batpak_error_t **err);

/**
 * Opens a cursor: at its checkpoint, or at the beginning; backward, at the visible end.
 *
 * region: may be NULL for everything. options: may be NULL for the defaults. cursor: out; to be closed with
 * batpak_cursor_close and freed with batpak_cursor_free; NULL on failure. err: out, may be NULL.
 * A checkpoint that does not fit is an error, never a silent start from elsewhere.
 * Errors: BATPAK_E_COORDINATE_..., BATPAK_E_KIND_OUT_OF_RANGE, BATPAK_E_CLOCK_RANGE_INVERTED;
 * BATPAK_E_CHECKPOINT_ID_INVALID, _IN_USE, _CORRUPT, _REGION_MISMATCH, _STORE_MISMATCH, _AHEAD, _DIVERGED;
 * BATPAK_E_IO.
 * Any thread; with a checkpoint it waits for the disk. Since 0.1.
 */
batpak_status_t batpak_cursor_open(batpak_store_t *store,
                                   const batpak_region_t *region,
                                   const batpak_cursor_options_t *options,
                                   batpak_cursor_t **cursor,
                                   batpak_error_t **err);

/**
 * Delivers the next events of the region, and waits for some when there are none. A backward cursor delivers the ones
 * before, newest first, and does not wait: behind the first one it returns BATPAK_EMPTY, whatever timeout_ms is.
 *
 * max_events: at least 1. max_payload_bytes: a bound on the payloads of the batch, which does not hold for its first
 * event; 0 for none. timeout_ms: how long to wait: 0 not at all, -1 for ever. batch: out; to be freed with
 * batpak_batch_free; NULL unless the status is BATPAK_OK. err: out, may be NULL.
 * Returns BATPAK_OK with at least one event; BATPAK_EMPTY (there is none, and it did not wait); BATPAK_TIMEOUT (none
 * came); BATPAK_INTERRUPTED (batpak_cursor_interrupt was called; it comes before events that are there).
 * Errors: BATPAK_E_CONCURRENT, BATPAK_E_CORRUPT, BATPAK_E_NO_MEMORY, BATPAK_E_IO; the position is then where it was.
 * One thread at a time; waits as long as asked, and for the disk. A poll makes nothing durable. Since 0.1.
 */
batpak_status_t batpak_cursor_poll(batpak_cursor_t *cursor,
                                   size_t max_events,
                                   uint64_t max_payload_bytes,
                                   int64_t timeout_ms,
                                   batpak_batch_t **batch,
                                   batpak_error_t **err);

/**
 * Makes the position durable: events up to it do not come again after a restart.
 *
 * err: out, may be NULL.
 * Errors: BATPAK_E_NO_CHECKPOINT, BATPAK_E_CONCURRENT, BATPAK_E_READ_ONLY, BATPAK_E_POISONED, BATPAK_E_DISK_FULL,
 * BATPAK_E_IO; the checkpoint is then the one before.
 * One thread at a time; waits for the disk. On BATPAK_OK the checkpoint, and the log up to it, survive a power loss.
 * Since 0.1.
 */
batpak_status_t batpak_cursor_checkpoint(batpak_cursor_t *cursor, batpak_error_t **err);

/**
 * Makes a position durable that lies before the current one: the event of this sequence and all before it are done.
 *
 * sequence: at most the position. err: out, may be NULL.
 * Errors: BATPAK_E_NOT_DELIVERED when it is beyond the position; the others of batpak_cursor_checkpoint.
 * One thread at a time; waits for the disk. On BATPAK_OK as durable as batpak_cursor_checkpoint. Since 0.1.
 */
batpak_status_t batpak_cursor_checkpoint_at(batpak_cursor_t *cursor, uint64_t sequence, batpak_error_t **err);

/**
 * Goes back to the last checkpoint; without one, to the beginning; backward, to where the cursor was opened. What was
 * delivered since comes again.
 *
 * err: out, may be NULL. Errors: BATPAK_E_CONCURRENT.
 * One thread at a time; never waits. The checkpoint stays as it is. Since 0.1.
 */
batpak_status_t batpak_cursor_rewind(batpak_cursor_t *cursor, batpak_error_t **err);

/**
 * Moves the cursor: the next event delivered has this sequence or a higher one; backward, a lower one.
 *
 * sequence: at most the visible watermark. err: out, may be NULL. Errors: BATPAK_E_CONCURRENT, BATPAK_E_IO.
 * One thread at a time; may read from the disk. The checkpoint stays as it is until the next one is made. Since 0.1.
 */
batpak_status_t batpak_cursor_seek(batpak_cursor_t *cursor, uint64_t sequence, batpak_error_t **err);

/**
 * Moves the cursor to the first event at or after a time; backward, what is delivered next is earlier than the time.
 *
 * time_us: microseconds since the Unix epoch. err: out, may be NULL. Errors: BATPAK_E_CONCURRENT, BATPAK_E_IO.
 * One thread at a time; may read from the disk. The checkpoint stays as it is until the next one is made. Since 0.1.
 */
batpak_status_t batpak_cursor_seek_time(batpak_cursor_t *cursor, int64_t time_us, batpak_error_t **err);

/**
 * Moves the cursor before the first event, where a backward cursor is at its end.
 *
 * err: out, may be NULL. Errors: BATPAK_E_CONCURRENT.
 * One thread at a time; never waits. The checkpoint stays as it is until the next one is made. Since 0.1.
 */
batpak_status_t batpak_cursor_seek_beginning(batpak_cursor_t *cursor, batpak_error_t **err);

/**
 * Moves the cursor behind the last visible event, where a backward cursor begins anew.
 *
 * err: out, may be NULL. Errors: BATPAK_E_CONCURRENT, BATPAK_E_IO.
 * One thread at a time; may read from the disk. The checkpoint stays as it is until the next one is made. Since 0.1.
 */
batpak_status_t batpak_cursor_seek_end(batpak_cursor_t *cursor, batpak_error_t **err);

/**
 * Comes back to a position that was kept elsewhere, for instance in the transaction of another database.
 *
 * next_sequence, position_id: as in batpak_cursor_position_t; position_id is 16 bytes, or NULL to leave the event at
 * the position unchecked, as zeros do backward. err: out, may be NULL.
 * Errors: BATPAK_E_CHECKPOINT_AHEAD: beyond the log's end; BATPAK_E_CHECKPOINT_DIVERGED: the log has another event
 * there; BATPAK_E_CONCURRENT, BATPAK_E_IO.
 * One thread at a time; may read from the disk. The checkpoint stays as it is until the next one is made. Since 0.1.
 */
batpak_status_t batpak_cursor_seek_position(batpak_cursor_t *cursor,
                                            uint64_t next_sequence,
                                            const uint8_t *position_id,
                                            batpak_error_t **err);

/**
 * Where the cursor stands.
 *
 * position: out. err: out, may be NULL. Errors: BATPAK_E_CONCURRENT.
 * One thread at a time; never waits. Since 0.1.
 */
batpak_status_t batpak_cursor_position(batpak_cursor_t *cursor,
                                       batpak_cursor_position_t *position,
                                       batpak_error_t **err);

/**
 * The sequence after the position, 0 at the beginning, and backward the position: what batpak_cursor_seek takes to come
 * back.
 *
 * next_sequence: out. err: out, may be NULL. Errors: BATPAK_E_CONCURRENT.
 * One thread at a time; never waits. Since 0.1.
 */
batpak_status_t batpak_cursor_next_sequence(batpak_cursor_t *cursor, uint64_t *next_sequence, batpak_error_t **err);

/**
 * How many visible events the cursor has not looked at yet, whether they match or not.
 *
 * events: out. err: out, may be NULL. Errors: BATPAK_E_CONCURRENT.
 * One thread at a time; never waits. Since 0.1.
 */
batpak_status_t batpak_cursor_lag(batpak_cursor_t *cursor, uint64_t *events, batpak_error_t **err);

/**
 * The gaps of what was delivered since this was last called (see Gap above), oldest first. They are handed over: the
 * next call has only newer ones.
 *
 * gaps: out; to be freed with batpak_gap_list_free; NULL on failure. Empty without gap_capacity in the options. err:
 * out, may be NULL.
 * Errors: BATPAK_E_CONCURRENT.
 * One thread at a time; never waits. Since 0.1.
 */
batpak_status_t batpak_cursor_take_gaps(batpak_cursor_t *cursor, batpak_gap_list_t **gaps, batpak_error_t **err);

/**
 * A descriptor for poll, epoll and the like: readable while events may be available. Only a batpak_cursor_poll that
 * finds none makes it unreadable, so on readability poll with timeout 0 until BATPAK_EMPTY. A backward cursor has none:
 * BATPAK_E_INVALID_ARGUMENT.
 *
 * fd: out; the cursor's, non-blocking, closed with its last handle: neither read, write nor close it. err: out, may
 * be NULL.
 * Errors: BATPAK_E_CONCURRENT, BATPAK_E_IO.
 * One thread at a time; never waits. Since 0.1.
 */
batpak_status_t batpak_cursor_notify_fd(batpak_cursor_t *cursor, int32_t *fd, batpak_error_t **err);

/**
 * Has a function called when events may be available: the other way into an event loop. After setting it, poll until
 * BATPAK_EMPTY. On a backward cursor: BATPAK_E_INVALID_ARGUMENT.
 *
 * wake: called as batpak_wake_fn says; NULL removes it. user_data: passed to it. user_data_free: may be NULL; called
 * once wake was replaced or removed, or the cursor freed, and no call of it is running any more. err: out, may be
 * NULL.
 * Errors: BATPAK_E_CONCURRENT; nothing was taken over.
 * One thread at a time; never waits. A call of the former function may still be running on return. Since 0.1.
 */
batpak_status_t batpak_cursor_set_wake(batpak_cursor_t *cursor,
                                       batpak_wake_fn wake,
                                       void *user_data,
                                       batpak_user_data_free_fn user_data_free,
                                       batpak_error_t **err);

/**
 * Ends the poll that is waiting, or else the next one, with BATPAK_INTERRUPTED.
 *
 * err: out, may be NULL.
 * Any thread, at any time; never waits. Since 0.1.
 */
batpak_status_t batpak_cursor_interrupt(batpak_cursor_t *cursor, batpak_error_t **err);

/**
 * Ends the cursor: a poll that is waiting returns BATPAK_E_CLOSED, and the checkpoint id is free for another. What was
 * delivered and not checkpointed comes again to the next cursor of the id. A cursor that is closed already is
 * BATPAK_OK.
 *
 * err: out, may be NULL.
 * Any thread, at any time; waits for a poll on another thread to return. Since 0.1.
 */
batpak_status_t batpak_cursor_close(batpak_cursor_t *cursor, batpak_error_t **err);

/**
 * Gives the handle of a cursor back. A cursor that was not closed ends with it. Batches stay.
 *
 * cursor: may be NULL. Any thread, once no other call on the cursor is under way; never waits. Nothing is
 * checkpointed. Since 0.1.
 */
void batpak_cursor_free(batpak_cursor_t *cursor);

/* =================================================================================================================
 * Checkpoint
 *
 * The durable position of a named consumer, a cursor or a worker. These functions read and change checkpoints without
 * one.
 */

/**
 * Reads a checkpoint. It is not compared with the log; its consumer may replace it at any time.
 *
 * id, id_len: the checkpoint id. checkpoint: out; to be freed with batpak_checkpoint_free; NULL on failure. err: out,
 * may be NULL.
 * Errors: BATPAK_E_CHECKPOINT_NOT_FOUND, BATPAK_E_CHECKPOINT_CORRUPT, BATPAK_E_CHECKPOINT_ID_INVALID, BATPAK_E_IO.
 * Any thread; waits for the disk. Since 0.1.
 */
batpak_status_t batpak_checkpoint_load(batpak_store_t *store,
                                       const char *id,
                                       size_t id_len,
                                       batpak_checkpoint_t **checkpoint,
                                       batpak_error_t **err);

/**
 * Whether the consumer has processed anything: 1 or 0.
 *
 * checkpoint: may be NULL, which gives 0. Any thread; never waits. Since 0.1.
 */
int32_t batpak_checkpoint_started(const batpak_checkpoint_t *checkpoint);

/**
 * Sequence of the last event processed, BATPAK_NO_SEQUENCE when not started.
 *
 * checkpoint: may be NULL, which gives BATPAK_NO_SEQUENCE. Any thread; never waits. Since 0.1.
 */
uint64_t batpak_checkpoint_position(const batpak_checkpoint_t *checkpoint);

/**
 * The sequence below which every match was processed.
 *
 * checkpoint: may be NULL, which gives 0. Any thread; never waits. Since 0.1.
 */
uint64_t batpak_checkpoint_scanned(const batpak_checkpoint_t *checkpoint);

/**
 * The id of the event at the position.
 *
 * checkpoint: may be NULL. id: out; 16 bytes, written only when there is one.
 * Returns 1 when there is one; 0 when not started, or when the file is of a program that stores none.
 * Any thread; never waits. Since 0.1.
 */
int32_t batpak_checkpoint_position_id(const batpak_checkpoint_t *checkpoint, uint8_t *id);

/**
 * The id of the store that the checkpoint was made on.
 *
 * checkpoint: may be NULL. id: out; 16 bytes, written only when there is one.
 * Returns 1 when there is one; 0 when the file is of a program that stores none.
 * Any thread; never waits. Since 0.1.
 */
int32_t batpak_checkpoint_store_id(const batpak_checkpoint_t *checkpoint, uint8_t *id);

/**
 * The region that the checkpoint was made over, as batpak_region_identity tells it.
 *
 * checkpoint: may be NULL, which gives NULL. len: out, may be NULL; the length without the NUL.
 * Returns terminated text borrowed from the checkpoint.
 * Any thread; never waits. Since 0.1.
 */
const char *batpak_checkpoint_region_identity(const batpak_checkpoint_t *checkpoint, size_t *len);

/**
 * Frees a checkpoint. The stored one stays.
 *
 * checkpoint: may be NULL. Any thread; never waits. Since 0.1.
 */
void batpak_checkpoint_free(batpak_checkpoint_t *checkpoint);

/**
 * Writes a checkpoint: its consumer will start at next_sequence.
 *
 * id, id_len: the checkpoint id. region: the consumer's, may be NULL for everything. next_sequence: at most the
 * visible watermark; 0 for the beginning. err: out, may be NULL.
 * Errors: BATPAK_E_CHECKPOINT_IN_USE while a cursor or worker has the id; BATPAK_E_CHECKPOINT_ID_INVALID,
 * BATPAK_E_COORDINATE_..., BATPAK_E_READ_ONLY, BATPAK_E_POISONED, BATPAK_E_DISK_FULL, BATPAK_E_IO.
 * Any thread; waits for the disk. On BATPAK_OK the checkpoint, and the log up to it, survive a power loss. Since 0.1.
 */
batpak_status_t batpak_checkpoint_save(batpak_store_t *store,
                                       const char *id,
                                       size_t id_len,
                                       const batpak_region_t *region,
                                       uint64_t next_sequence,
                                       batpak_error_t **err);

/**
 * Removes a checkpoint: its consumer will start at the beginning.
 *
 * id, id_len: the checkpoint id. err: out, may be NULL.
 * Errors: BATPAK_E_CHECKPOINT_NOT_FOUND; BATPAK_E_CHECKPOINT_IN_USE while a cursor or worker has the id;
 * BATPAK_E_CHECKPOINT_ID_INVALID, BATPAK_E_READ_ONLY, BATPAK_E_IO.
 * Any thread; waits for the disk. On BATPAK_OK the removal survives a power loss. Since 0.1.
 */
batpak_status_t batpak_checkpoint_delete(batpak_store_t *store, const char *id, size_t id_len, batpak_error_t **err);

/**
 * The ids of all checkpoints, sorted.
 *
 * list: out; to be freed with batpak_checkpoint_list_free; NULL on failure. err: out, may be NULL.
 * Errors: BATPAK_E_IO.
 * Any thread; waits for the disk. Since 0.1.
 */
batpak_status_t batpak_checkpoint_list(batpak_store_t *store, batpak_checkpoint_list_t **list, batpak_error_t **err);

/**
 * How many ids a list has.
 *
 * list: may be NULL, which gives 0. Any thread; never waits. Since 0.1.
 */
size_t batpak_checkpoint_list_count(const batpak_checkpoint_list_t *list);

/**
 * One id of a list.
 *
 * list: may be NULL. index: below the count. len: out, may be NULL; the length without the NUL.
 * Returns terminated text borrowed from the list, NULL when there is no such index.
 * Any thread; never waits. Since 0.1.
 */
const char *batpak_checkpoint_list_id(const batpak_checkpoint_list_t *list, size_t index, size_t *len);

/**
 * Frees a list.
 *
 * list: may be NULL. Any thread; never waits. Since 0.1.
 */
void batpak_checkpoint_list_free(batpak_checkpoint_list_t *list);

/* =================================================================================================================
 * Worker
 *
 * A worker is a thread of the library's that polls a region and gives the batches to a handler. With a checkpoint id
 * its progress is durable: after a restart the handler gets everything that was not committed before, at least once.
 */

/** The batch is done: it is committed, and the next one comes. */
#define BATPAK_HANDLER_CONTINUE 0
/** The batch is done: it is committed, and the worker ends. */
#define BATPAK_HANDLER_STOP 1
/** Nothing of the batch is committed, and the worker ends. */
#define BATPAK_HANDLER_STOP_WITH_ROLLBACK 2
/** The batch comes again after a backoff; too many retries in a row are a failure. */
#define BATPAK_HANDLER_RETRY 3

/**
 * The batch failed: it counts against the restart policy, and delivery starts again after the last commit. So does any
 * value that is none of these.
 */
#define BATPAK_HANDLER_FAIL -1
/** One restart in the worker's life. */
#define BATPAK_RESTART_ONCE 0u
/**
 * max_restarts within within_ms; the window opens at a failure, and the first failure after its end opens a new one.
 */
#define BATPAK_RESTART_BOUNDED 1u

/** Tells that the restart policy allows no more; the worker ends. Called at most once, on the worker's thread. */
typedef void (*batpak_restart_budget_fn)(void *user_data);

/**
 * Tells that the checkpoint could not be written; the worker ends. Called on the worker's thread; code is a status,
 * and the texts are valid during the call only.
 */
typedef void (*batpak_checkpoint_failure_fn)(void *user_data,
                                             const char *id,
                                             size_t id_len,
                                             batpak_status_t code,
                                             const char *message,
                                             size_t message_len);

/**
 * How a worker reads, retries and restarts. Callbacks and callback_user_data are kept until the worker has ended.
 */
typedef struct batpak_worker_options_t {
    /** sizeof(batpak_worker_options_t). */
    uint32_t struct_size;
    /** BATPAK_RESTART_ONCE or BATPAK_RESTART_BOUNDED. */
    uint32_t restart_policy;
    /** Most events of a batch; 0 for the default, 64. */
    uint64_t batch_events;
    /** Most payload bytes of a batch, but for its first event; 0 for no bound. */
    uint64_t batch_payload_bytes;
    /** The longest that an idle worker sleeps; new events wake it at once. 0 for the default, 10. */
    uint64_t idle_wait_ms;
    /** With BATPAK_RESTART_BOUNDED: restarts allowed in a window; 0 allows none. */
    uint32_t max_restarts;
    /** Most retries in a row that the handler may ask for; 0 for the default, 10. */
    uint32_t retries_max;
    /** With BATPAK_RESTART_BOUNDED: the length of a window, at least 1. */
    uint64_t within_ms;
    /** The wait before the first retry, doubled for each further one up to 10 seconds; 0 for the default, 10. */
    uint64_t retry_backoff_ms;
    /** Persist progress under this id and resume from it, as in batpak_cursor_options_t; NULL for none. */
    const char *checkpoint_id;
    /** Its length in bytes. */
    size_t checkpoint_id_len;
    /** Names the thread, cut to 15 bytes; NULL for the checkpoint id. */
    const char *name;
    /** Its length in bytes. */
    size_t name_len;
    /** May be NULL. */
    batpak_restart_budget_fn on_restart_budget_exhausted;
    /** May be NULL. */
    batpak_checkpoint_failure_fn on_checkpoint_failure;
    /** Passed to both. */
    void *callback_user_data;
    /** Frees callback_user_data; may be NULL. */
    batpak_user_data_free_fn callback_user_data_free;
    /** Look for gaps, and show the handler so many of each batch; 0, the default, is off and costs nothing. */
    uint64_t gap_capacity;
    /** Zero. */
    uint64_t reserved[3];
} batpak_worker_options_t;

/**
 * Handles one batch: n events, at least one, valid during the call (batpak_delivery_batch keeps them longer). Returns
 * a BATPAK_HANDLER_ constant. Called on the worker's thread, one call at a time, with no lock held and all signals
 * blocked. It may block and call everything but batpak_store_close of its store and the joins of its own worker,
 * which are BATPAK_E_REENTRANT. With RETRY and FAIL, batpak_delivery_set_error tells why and batpak_delivery_set_done
 * what is done all the same.
 */
typedef int32_t (*batpak_handler_fn)(void *user_data,
                                     batpak_delivery_t *delivery,
                                     const batpak_event_t *events,
                                     size_t n);

/** What a worker has done so far. */
typedef struct batpak_worker_stats_t {
    /** sizeof(batpak_worker_stats_t). */
    uint32_t struct_size;
    /** 1 until the worker has ended. */
    uint32_t is_running;
    /** Batches given to the handler. */
    uint64_t batches;
    /** Events in them; an event that comes again counts again. */
    uint64_t events;
    /** Commits. */
    uint64_t commits;
    /** Retries that the handler asked for. */
    uint64_t retries;
    /** Failures. */
    uint64_t failures;
    /** Restarts after failures. */
    uint64_t restarts;
    /** Zero. */
    uint64_t reserved[8];
} batpak_worker_stats_t;

/**
 * Fills worker options with the defaults.
 *
 * options: out. size: sizeof(batpak_worker_options_t). err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_worker_options_init(batpak_worker_options_t *options, size_t size, batpak_error_t **err);

/**
 * Starts a worker and returns at once. What goes wrong later, loading its checkpoint included, comes from
 * batpak_worker_join.
 *
 * region: may be NULL for everything. options: may be NULL for the defaults. handler: called as batpak_handler_fn
 * says. user_data: passed to it. user_data_free: may be NULL; called when the worker has ended, before a join returns.
 * worker: out; to be freed with batpak_worker_free; NULL on failure. err: out, may be NULL.
 * Errors: those of the region; BATPAK_E_CHECKPOINT_ID_INVALID, BATPAK_E_READ_ONLY, BATPAK_E_IO (no thread). The user
 * data then stay the caller's.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_worker_start(batpak_store_t *store,
                                    const batpak_region_t *region,
                                    const batpak_worker_options_t *options,
                                    batpak_handler_fn handler,
                                    void *user_data,
                                    batpak_user_data_free_fn user_data_free,
                                    batpak_worker_t **worker,
                                    batpak_error_t **err);

/**
 * Tells a worker to end after the batch in hand. An idle one ends at once.
 *
 * err: out, may be NULL.
 * Any thread, also from the handler; never waits. Since 0.1.
 */
batpak_status_t batpak_worker_stop(batpak_worker_t *worker, batpak_error_t **err);

/**
 * Waits for a worker to end, without telling it to.
 *
 * timeout_ms: how long to wait: 0 just looks, -1 is for ever. err: out, may be NULL.
 * Returns BATPAK_OK: it has ended as it should; BATPAK_TIMEOUT: it is still running; or the error that it ended with,
 * the same at each call: those of batpak_cursor_open and batpak_cursor_poll, BATPAK_E_CHECKPOINT_WRITE_FAILED,
 * BATPAK_E_RESTART_BUDGET_EXHAUSTED (with the handler's message), BATPAK_E_WORKER_CRASHED. BATPAK_E_REENTRANT: called
 * from its own handler.
 * Any thread; waits as long as asked. When it has ended, its user data are freed and its checkpoint id is free.
 * Since 0.1.
 */
batpak_status_t batpak_worker_join(batpak_worker_t *worker, int64_t timeout_ms, batpak_error_t **err);

/**
 * batpak_worker_stop, then batpak_worker_join.
 *
 * timeout_ms: how long to wait: 0 just looks, -1 is for ever. err: out, may be NULL.
 * Returns and errors as batpak_worker_join.
 * Any thread; waits as long as asked. Since 0.1.
 */
batpak_status_t batpak_worker_stop_and_join(batpak_worker_t *worker, int64_t timeout_ms, batpak_error_t **err);

/**
 * Prepares the struct for batpak_worker_stats.
 *
 * stats: out. size: sizeof(batpak_worker_stats_t). err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_worker_stats_init(batpak_worker_stats_t *stats, size_t size, batpak_error_t **err);

/**
 * What a worker has done so far.
 *
 * stats: in and out; prepared with batpak_worker_stats_init. err: out, may be NULL.
 * Any thread; never waits. Since 0.1.
 */
batpak_status_t batpak_worker_stats(batpak_worker_t *worker, batpak_worker_stats_t *stats, batpak_error_t **err);

/**
 * Gives the handle of a worker back. A running worker is told to stop; its handler may still run on return, and its
 * user data are freed when it has ended.
 *
 * worker: may be NULL. Any thread, also from the handler; never waits. Since 0.1.
 */
void batpak_worker_free(batpak_worker_t *worker);

/* =================================================================================================================
 * Delivery
 *
 * What a handler can ask and say about the batch in hand. Valid during the handler's call, on its thread.
 */

/**
 * The worker's checkpoint id: the witness that what the handler does is done at least once, whatever crashes.
 *
 * len: out, may be NULL; the length without the NUL.
 * Returns terminated text borrowed from the delivery; NULL when the worker has no checkpoint.
 * The handler's thread; never waits. Since 0.1.
 */
const char *batpak_delivery_checkpoint_id(const batpak_delivery_t *delivery, size_t *len);

/**
 * How often the batch's first event was given to the handler in this worker's life, from 1.
 *
 * The handler's thread; never waits. Since 0.1.
 */
uint32_t batpak_delivery_attempt(const batpak_delivery_t *delivery);

/**
 * The store that the events are of, for appends by the handler.
 *
 * Returns a handle borrowed from the delivery: not to be freed.
 * The handler's thread; never waits. Since 0.1.
 */
batpak_store_t *batpak_delivery_store(const batpak_delivery_t *delivery);

/**
 * The batch that the events are of.
 *
 * Returns a handle borrowed from the delivery: batpak_batch_retain keeps the events beyond the handler's call.
 * The handler's thread; never waits. Since 0.1.
 */
batpak_batch_t *batpak_delivery_batch(const batpak_delivery_t *delivery);

/**
 * The gaps of the batch (see Gap above), oldest first.
 *
 * n: out, may be NULL; the number of gaps. dropped: out, may be NULL; how many older ones of the batch the worker's
 * gap_capacity left no room for.
 * Returns an array borrowed from the delivery until the handler returns; NULL when there are none, and without
 * gap_capacity in the worker's options.
 * The handler's thread; never waits. Since 0.1.
 */
const batpak_gap_t *batpak_delivery_gaps(const batpak_delivery_t *delivery, size_t *n, uint64_t *dropped);

/**
 * A key for something that the handler does because of an event: the same at each redelivery and after each restart,
 * different for each event and output, so that its receiver can tell a repetition.
 *
 * event_index: of the batch. output_number: the handler's own count of what it does because of this event, from 0.
 * key: out; 32 bytes. err: out, may be NULL.
 * Errors: BATPAK_E_NO_CHECKPOINT: the worker has no checkpoint id.
 * The handler's thread; never waits. Since 0.1.
 */
batpak_status_t batpak_delivery_idempotency_key(const batpak_delivery_t *delivery,
                                                size_t event_index,
                                                uint32_t output_number,
                                                uint8_t *key,
                                                batpak_error_t **err);

/**
 * Says that the first n events of the batch are done: they are committed even if the handler then returns RETRY or
 * FAIL, and do not come again. The last call counts.
 *
 * n: 0 to the number of events in the batch. err: out, may be NULL.
 * The handler's thread; never waits. Since 0.1.
 */
batpak_status_t batpak_delivery_set_done(batpak_delivery_t *delivery, size_t n, batpak_error_t **err);

/**
 * Says why the handler is about to return RETRY or FAIL; batpak_worker_join tells it when the worker ends for it. The
 * last call counts.
 *
 * message, message_len: UTF-8; other bytes are replaced. err: out, may be NULL.
 * The handler's thread; never waits. Since 0.1.
 */
batpak_status_t batpak_delivery_set_error(batpak_delivery_t *delivery,
                                          const char *message,
                                          size_t message_len,
                                          batpak_error_t **err);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* BATPAK_H */
