//! The store: opening, appending, marks.
//|
//| Store

use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::path::Path;
use std::sync::Arc;

use super::callback::{
    BATPAK_LOG_ERROR, BATPAK_LOG_INFO, BATPAK_LOG_WARNING, UserData, batpak_clock_fn, batpak_log_fn,
    batpak_user_data_free_fn, contain,
};
use super::error::batpak_error_t;
use super::guard;
use super::handle::{self, Castable, batpak_store_t};
use super::input::{self, invalid, optional_out, or_default, out, out_handle};
use super::options::{self, Versioned, check_reserved};
use super::status::{BATPAK_OK, batpak_status_t};
use crate::error::{Error, Result};
use crate::event::EventId;
use crate::io::time::WallClock;
use crate::store::{Durability, Expected, Fence, LogLevel, LogSink, NewEvent, Receipt, Store, StoreOptions};

/// In flags of the store's options: change nothing in the directory; the store must exist.
pub const BATPAK_STORE_READ_ONLY: u32 = 1u32;
/// In flags: a missing directory or store is BATPAK_E_NOT_FOUND instead of being made.
pub const BATPAK_STORE_NO_CREATE: u32 = 2u32;
/// In flags: an existing store is BATPAK_E_ALREADY_EXISTS.
pub const BATPAK_STORE_EXCLUSIVE: u32 = 4u32;
/// In flags: no thread of the store's own; appends then do the work of preparing space. A fence whose time is over is
/// then cancelled by the next call that meets it: a reader that waits behind it waits for that call.
pub const BATPAK_STORE_NO_HELPER_THREAD: u32 = 8u32;

/// What the store's options say; in those, BATPAK_DURABILITY_STORAGE.
pub const BATPAK_DURABILITY_DEFAULT: u32 = 0u32;
/// An acknowledged event survives a power loss: it was synced, and every event before it.
pub const BATPAK_DURABILITY_STORAGE: u32 = 1u32;
/// An acknowledged event survives the death of the process (kill -9), not that of the machine.
pub const BATPAK_DURABILITY_PROCESS: u32 = 2u32;

/// How to open a store. Callbacks and their user_data are kept until the store is gone (closed, and its handle and
/// those of its fences, cursors and workers freed).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct batpak_store_options_t {
    /// sizeof(batpak_store_options_t).
    pub struct_size: u32,
    /// BATPAK_STORE_ flags.
    pub flags: u32,
    /// Size of a segment file: 1 MiB to 1 GiB; 0 for the default, 64 MiB.
    pub segment_bytes: u64,
    /// The largest payload accepted: up to 64 MiB; 0 for the default, 16 MiB.
    pub payload_bytes_max: u64,
    /// Events whose idempotency keys are remembered, fixed when the store is made; 0 for the default, 4194304.
    pub key_window: u64,
    /// The durability of appends that do not say: a BATPAK_DURABILITY_ constant.
    pub durability: u32,
    /// Zero.
    pub reserved0: u32,
    /// The wall clock; NULL for the system's.
    pub clock: batpak_clock_fn,
    /// Passed to clock.
    pub clock_user_data: *mut c_void,
    /// Frees clock_user_data; may be NULL.
    pub clock_user_data_free: batpak_user_data_free_fn,
    /// Takes log messages; NULL for silence.
    pub log: batpak_log_fn,
    /// Passed to log.
    pub log_user_data: *mut c_void,
    /// Frees log_user_data; may be NULL.
    pub log_user_data_free: batpak_user_data_free_fn,
    /// Zero.
    pub reserved: [u64; 4],
}

// SAFETY: repr(C), integers, pointers and nullable functions without padding, the size first.
unsafe impl Versioned for batpak_store_options_t {
    const NAME: &'static str = "batpak_store_options_t";
    const REMEDY: &'static str = "call batpak_store_options_init first";

    fn defaults() -> batpak_store_options_t {
        let defaults = StoreOptions::default();
        batpak_store_options_t {
            struct_size: size_of::<batpak_store_options_t>() as u32,
            flags: 0,
            segment_bytes: defaults.segment_bytes,
            payload_bytes_max: defaults.payload_bytes_max as u64,
            key_window: defaults.key_window,
            durability: number_of(defaults.durability),
            reserved0: 0,
            clock: None,
            clock_user_data: std::ptr::null_mut(),
            clock_user_data_free: None,
            log: None,
            log_user_data: std::ptr::null_mut(),
            log_user_data_free: None,
            reserved: [0; 4],
        }
    }

    fn check(&self) -> Result<()> {
        let known =
            BATPAK_STORE_READ_ONLY | BATPAK_STORE_NO_CREATE | BATPAK_STORE_EXCLUSIVE | BATPAK_STORE_NO_HELPER_THREAD;
        check_reserved(Self::NAME, &self.reserved, self.flags, known)?;
        check_reserved(Self::NAME, &[], self.reserved0, 0)
    }
}

/// The entity may be at any clock.
pub const BATPAK_EXPECT_ANY: u32 = 0u32;
/// The entity has no event.
pub const BATPAK_EXPECT_NO_STREAM: u32 = 1u32;
/// The entity's last event has the clock expected_clock.
pub const BATPAK_EXPECT_EXACT: u32 = 2u32;

/// One event to append. Texts, payload and arrays are borrowed during the append. In an array of items each has the
/// same struct_size, which is the distance from one to the next.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct batpak_append_t {
    /// sizeof(batpak_append_t).
    pub struct_size: u32,
    /// category << 12 | type; category 0 to 15 but 0x0 and 0xD, which are the library's; type 0 to 4095.
    pub kind: u32,
    /// The version of the payload's schema, the caller's own: 0 to 65535.
    pub schema: u32,
    /// Zero.
    pub flags: u32,
    /// The entity that the event belongs to: 1 to 1024 bytes of UTF-8 without control bytes, '/', '..', '|' and '=',
    /// not "*".
    pub entity: *const c_char,
    /// Its length in bytes.
    pub entity_len: usize,
    /// The scope: as an entity.
    pub scope: *const c_char,
    /// Its length in bytes.
    pub scope_len: usize,
    /// The payload: any bytes.
    pub payload: *const c_void,
    /// Its length in bytes.
    pub payload_len: usize,
    /// The ids of the events that led to this one, 16 bytes each, from receipts or events; NULL where there are none.
    pub causes: *const u8,
    /// Number of ids. At most 64 causes in all.
    pub cause_count: usize,
    /// Causes within the batch: indexes of earlier items. They follow the causes above. NULL where there are none.
    pub batch_causes: *const u32,
    /// Number of indexes.
    pub batch_cause_count: usize,
    /// 16 bytes, or NULL: the correlation id of the first cause, or without causes the event's own id.
    pub correlation_id: *const u8,
    /// Idempotency key: 16 to 64 bytes of the caller's, or NULL for none. An append whose key was used before by an
    /// event of the same content appends nothing and returns the receipt of then, flagged BATPAK_RECEIPT_DUPLICATE;
    /// one of other content is BATPAK_E_IDEMPOTENCY_CONFLICT. Content is everything above but flags. Keys are looked at
    /// before the expected state, which is no content.
    pub key: *const c_void,
    /// Its length in bytes.
    pub key_len: usize,
    /// A BATPAK_EXPECT_ constant: what must be true of the entity, earlier items of the batch included.
    pub expected: u32,
    /// Zero.
    pub reserved0: u32,
    /// The clock for BATPAK_EXPECT_EXACT; else zero.
    pub expected_clock: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

// SAFETY: repr(C), integers and pointers without padding, the size first.
unsafe impl Versioned for batpak_append_t {
    const NAME: &'static str = "batpak_append_t";
    const REMEDY: &'static str = "call batpak_append_init first, and give all items of an array the same struct_size";

    fn defaults() -> batpak_append_t {
        batpak_append_t {
            struct_size: size_of::<batpak_append_t>() as u32,
            kind: 0,
            schema: 0,
            flags: 0,
            entity: std::ptr::null(),
            entity_len: 0,
            scope: std::ptr::null(),
            scope_len: 0,
            payload: std::ptr::null(),
            payload_len: 0,
            causes: std::ptr::null(),
            cause_count: 0,
            batch_causes: std::ptr::null(),
            batch_cause_count: 0,
            correlation_id: std::ptr::null(),
            key: std::ptr::null(),
            key_len: 0,
            expected: BATPAK_EXPECT_ANY,
            reserved0: 0,
            expected_clock: 0,
            reserved: [0; 4],
        }
    }

    #[inline]
    fn check(&self) -> Result<()> {
        check_reserved(Self::NAME, &self.reserved, self.flags | self.reserved0, 0)
    }
}

/// In flags of the append options: compute the leaf hashes of the receipts, which takes its time.
pub const BATPAK_APPEND_LEAF_HASH: u32 = 1u32;

/// How to append.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct batpak_append_options_t {
    /// sizeof(batpak_append_options_t).
    pub struct_size: u32,
    /// A BATPAK_DURABILITY_ constant.
    pub durability: u32,
    /// BATPAK_APPEND_ flags.
    pub flags: u32,
    /// Zero.
    pub reserved0: u32,
    /// Zero.
    pub reserved: [u64; 4],
}

// SAFETY: repr(C), integers without padding, the size first.
unsafe impl Versioned for batpak_append_options_t {
    const NAME: &'static str = "batpak_append_options_t";
    const REMEDY: &'static str = "call batpak_append_options_init first";

    #[inline]
    fn defaults() -> batpak_append_options_t {
        batpak_append_options_t {
            struct_size: size_of::<batpak_append_options_t>() as u32,
            durability: BATPAK_DURABILITY_DEFAULT,
            flags: 0,
            reserved0: 0,
            reserved: [0; 4],
        }
    }

    fn check(&self) -> Result<()> {
        check_reserved(Self::NAME, &self.reserved, self.flags, BATPAK_APPEND_LEAF_HASH)?;
        check_reserved(Self::NAME, &[], self.reserved0, 0)
    }
}

/// In flags of a receipt: the event had been appended before; this is the receipt of then.
pub const BATPAK_RECEIPT_DUPLICATE: u32 = 1u32;

/// What an append says of one event. The layout is frozen: 128 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct batpak_receipt_t {
    /// Position in the store's order.
    pub sequence: u64,
    /// Position among the events of its entity.
    pub clock: u64,
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
    /// The event's id.
    pub id: [u8; 16],
    /// The correlation id.
    pub correlation_id: [u8; 16],
    /// The durability reached: BATPAK_DURABILITY_STORAGE or BATPAK_DURABILITY_PROCESS; 0 under a fence, whose commit
    /// decides.
    pub durability: u32,
    /// BATPAK_RECEIPT_DUPLICATE.
    pub flags: u32,
    /// The leaf hash, when it was asked for; else zero.
    pub leaf_hash: [u8; 32],
    /// Zero.
    pub reserved: [u64; 4],
}

const _: () = {
    assert!(size_of::<batpak_receipt_t>() == 128 && align_of::<batpak_receipt_t>() == 8);
    assert!(offset_of!(batpak_receipt_t, id) == 24);
    assert!(offset_of!(batpak_receipt_t, durability) == 56);
    assert!(offset_of!(batpak_receipt_t, leaf_hash) == 64);
    assert!(offset_of!(batpak_receipt_t, reserved) == 96);
};

/// How far the log is: bounds on sequences, each the first that is not yet so. None ever decreases while the store is
/// open.
#[repr(C)]
pub struct batpak_watermarks_t {
    /// Sequences below were appended.
    pub appended: u64,
    /// Sequences below are delivered to cursors.
    pub visible: u64,
    /// Sequences below survive a power loss. That a fence was committed with BATPAK_DURABILITY_PROCESS may not, even if
    /// its events do: batpak_store_sync and batpak_store_wait see to both.
    pub durable: u64,
    /// Zero.
    pub reserved: u64,
}

/// Numbers about a store.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct batpak_store_stats_t {
    /// sizeof(batpak_store_stats_t).
    pub struct_size: u32,
    /// Zero.
    pub reserved0: u32,
    /// As in batpak_watermarks_t.
    pub appended: u64,
    /// As in batpak_watermarks_t.
    pub visible: u64,
    /// As in batpak_watermarks_t.
    pub durable: u64,
    /// Segment files.
    pub segments: u64,
    /// Segments that were left for a new one since the store was opened.
    pub segments_sealed: u64,
    /// Bytes of segments and indexes on disk.
    pub bytes_on_disk: u64,
    /// Entities whose state is in memory.
    pub entities_in_memory: u64,
    /// Memory that the store holds, in bytes, about.
    pub memory_bytes: u64,
    /// Cursors that are open.
    pub cursors_open: u64,
    /// Workers that are running.
    pub workers_running: u64,
    /// Syncs of the log since the store was opened.
    pub syncs: u64,
    /// The epoch in force: how many openings have appended. 0 in a store opened for reading only.
    pub epoch: u64,
    /// Bytes that were cut from the log's end when the store was opened: the remains of an append that a crash cut
    /// short.
    pub cut_bytes: u64,
    /// Complete events among them; they had never been acknowledged as durable.
    pub cut_events: u64,
    /// Zero.
    pub reserved: [u64; 8],
}

// SAFETY: repr(C), integers without padding, the size first.
unsafe impl Versioned for batpak_store_stats_t {
    const NAME: &'static str = "batpak_store_stats_t";
    const REMEDY: &'static str = "call batpak_store_stats_init first";

    fn defaults() -> batpak_store_stats_t {
        batpak_store_stats_t {
            struct_size: size_of::<batpak_store_stats_t>() as u32,
            reserved0: 0,
            appended: 0,
            visible: 0,
            durable: 0,
            segments: 0,
            segments_sealed: 0,
            bytes_on_disk: 0,
            entities_in_memory: 0,
            memory_bytes: 0,
            cursors_open: 0,
            workers_running: 0,
            syncs: 0,
            epoch: 0,
            cut_bytes: 0,
            cut_events: 0,
            reserved: [0; 8],
        }
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl Castable for batpak_store_t {
    type Object = Store;
    const TAG: u64 = u64::from_le_bytes(*b"bpkStore");
    const NOUN: &'static str = "store";
    const REMEDY: &'static str = "pass a store that batpak_store_open has given";
    const SURVIVES_FORK: bool = false;
}

/// Fills store options with the defaults.
///
/// options: out. size: sizeof(batpak_store_options_t). err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_options_init(
    options: *mut batpak_store_options_t,
    size: usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::call(err, || options::init(options, size).map(|()| BATPAK_OK)) }
}

/// Opens a store, and makes it when there is none.
///
/// path, path_len: the directory, as bytes; its parent must exist unless the store is made. options: may be NULL for
/// the defaults. store: out; to be closed with batpak_store_close and freed with batpak_store_free; NULL on failure.
/// err: out, may be NULL.
/// One opening for writing holds a store at a time, in all processes: a second one is BATPAK_E_LOCKED. After a crash
/// the log's end is repaired here: what was acknowledged stays.
/// Errors: BATPAK_E_LOCKED, BATPAK_E_NOT_A_STORE, BATPAK_E_NOT_FOUND, BATPAK_E_ALREADY_EXISTS, BATPAK_E_CORRUPT,
/// BATPAK_E_NEWER_FORMAT, BATPAK_E_STORE_MISMATCH, BATPAK_E_UNSUPPORTED, BATPAK_E_DISK_FULL, BATPAK_E_IO,
/// BATPAK_E_NO_MEMORY.
/// Any thread; waits for the disk. A store that it made is durable on return. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_open(
    path: *const c_char,
    path_len: usize,
    options: *const batpak_store_options_t,
    store: *mut *mut batpak_store_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::call(err, || {
            let store = out_handle("store", store)?;
            store.write(open(input::path(path, path_len)?, options)?);
            Ok(BATPAK_OK)
        })
    }
}

/// As batpak_store_open, with a path that is terminated by a NUL.
///
/// path: the directory. The rest, and the errors, are those of batpak_store_open.
/// Any thread; waits for the disk. A store that it made is durable on return. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_open_z(
    path: *const c_char,
    options: *const batpak_store_options_t,
    store: *mut *mut batpak_store_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::call(err, || {
            let store = out_handle("store", store)?;
            let path = input::terminated("path", path)?;
            store.write(open(input::path(path.as_ptr().cast(), path.len())?, options)?);
            Ok(BATPAK_OK)
        })
    }
}

/// Closes a store: stops its workers and waits for their handlers, makes everything appended durable, and lets go of
/// the directory. Its cursors and workers then answer BATPAK_E_CLOSED; batches stay readable. A store that is closed
/// already is BATPAK_OK.
///
/// timeout_ms: how long to wait for running handlers; -1 for ever. err: out, may be NULL.
/// Errors: BATPAK_E_BUSY: handlers were still running, the store is still open, call again; BATPAK_E_REENTRANT: called
/// from a handler of one of its workers, or from another callback that closing would wait for; BATPAK_E_DISK_FULL,
/// BATPAK_E_IO, BATPAK_E_POISONED: the store is closed, but what was not yet durable may not survive a power loss.
/// Any thread; waits for handlers and the disk. Everything acknowledged is durable on BATPAK_OK. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_close(
    store: *mut batpak_store_t,
    timeout_ms: i64,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on_poisoned(store, err, |store| {
            store.close(input::timeout_or_century(timeout_ms)?)?;
            Ok(BATPAK_OK)
        })
    }
}

/// Gives the handle of a store back. It does not close: while fences, cursors or workers of the store are not freed, or
/// its own thread has work in hand, a store that was not closed stays open, and the directory locked.
///
/// store: may be NULL. Any thread, also from a handler; never waits for handlers. Nothing is made durable. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_free(store: *mut batpak_store_t) {
    // SAFETY: P; the reference was the caller's.
    unsafe { handle::free(store) }
}

/// Prepares an event to append: all members zero but struct_size.
///
/// item: out. size: sizeof(batpak_append_t). err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_append_init(
    item: *mut batpak_append_t,
    size: usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::call(err, || options::init(item, size).map(|()| BATPAK_OK)) }
}

/// Fills append options with the defaults.
///
/// options: out. size: sizeof(batpak_append_options_t). err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_append_options_init(
    options: *mut batpak_append_options_t,
    size: usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::call(err, || options::init(options, size).map(|()| BATPAK_OK)) }
}

/// Appends events atomically: all of them or none, also after a crash.
///
/// items, n: the events, at least one; each item's struct_size is the distance to the next. options: may be NULL for
/// the defaults. receipts: out; n receipts, or NULL. err: out, may be NULL.
/// A batch that is refused appends nothing; the error's detail "index" names the item. Items whose idempotency key was
/// used before return their receipt of then, flagged, and as durable as asked; the others are appended atomically.
/// Errors: BATPAK_E_COORDINATE_..., BATPAK_E_ENTITY_RESERVED, BATPAK_E_KIND_..., BATPAK_E_PAYLOAD_TOO_LARGE,
/// BATPAK_E_TOO_MANY_CAUSES, BATPAK_E_CAUSE_..., BATPAK_E_KEY_LENGTH, BATPAK_E_BATCH_EMPTY, BATPAK_E_BATCH_TOO_LARGE,
/// BATPAK_E_SEQUENCE_EXHAUSTED, BATPAK_E_READ_ONLY, BATPAK_E_POISONED, BATPAK_E_NO_MEMORY: nothing was appended.
/// BATPAK_E_EXPECTED_STATE: the entity is not where the item expects it, and nothing was appended; the details
/// "expected" and "actual" are clocks, or "none" for an entity without events. BATPAK_E_IDEMPOTENCY_CONFLICT: the key
/// belongs to another event, "first", with another "difference": entity, scope, kind, schema, cause, correlation id or
/// payload. BATPAK_E_STREAM_FENCED, BATPAK_E_FENCE_PENDING: an open fence owns the entity, or the cause or key; try
/// again once it is decided.
/// BATPAK_E_DISK_FULL, BATPAK_E_IO: nothing was acknowledged. When a write or a sync has failed, further appends are
/// BATPAK_E_POISONED, and once the store is opened again the events are all there or all not.
/// Any thread; with BATPAK_DURABILITY_STORAGE it waits for the disk. On BATPAK_OK the events are as durable as asked.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_append(
    store: *mut batpak_store_t,
    items: *const batpak_append_t,
    n: usize,
    options: *const batpak_append_options_t,
    receipts: *mut batpak_receipt_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::on(store, err, |store| Request::new(items, n, options, receipts)?.append(Target::Store(store))) }
}

/// Appends one event, with the store's durability and without causes: the short form of batpak_store_append.
///
/// entity, entity_len, scope, scope_len, kind, payload, payload_len: as the members of batpak_append_t; schema is 0.
/// receipt: out, may be NULL. err: out, may be NULL.
/// Errors: as batpak_store_append.
/// Any thread; with BATPAK_DURABILITY_STORAGE it waits for the disk. On BATPAK_OK the event is as durable as the
/// store's options say. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_append_one(
    store: *mut batpak_store_t,
    entity: *const c_char,
    entity_len: usize,
    scope: *const c_char,
    scope_len: usize,
    kind: u32,
    payload: *const c_void,
    payload_len: usize,
    receipt: *mut batpak_receipt_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(store, err, |store| {
            let place = optional_out("receipt", receipt)?;
            let event = NewEvent {
                entity: input::bytes("entity", entity.cast(), entity_len)?,
                scope: input::bytes("scope", scope.cast(), scope_len)?,
                kind,
                payload: input::bytes("payload", payload.cast(), payload_len)?,
                ..NewEvent::default()
            };
            let mut answer = [Receipt::default()];
            store.append(&[event], None, &mut answer)?;
            if let Some(place) = place {
                place.write(receipt_of(&answer[0]));
            }
            Ok(BATPAK_OK)
        })
    }
}

/// Makes everything appended so far durable.
///
/// err: out, may be NULL.
/// Errors: BATPAK_E_POISONED, BATPAK_E_READ_ONLY; BATPAK_E_IO, BATPAK_E_DISK_FULL: the store is poisoned.
/// Any thread; waits for the disk. On BATPAK_OK all events appended before the call survive a power loss. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_sync(
    store: *mut batpak_store_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::on(store, err, |store| store.sync().map(|()| BATPAK_OK)) }
}

/// How far the log is.
///
/// marks: out. err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_watermarks(
    store: *mut batpak_store_t,
    marks: *mut batpak_watermarks_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(store, err, |store| {
            let place = out("marks", marks)?;
            store.check_usable()?;
            let marks = store.watermarks();
            place.write(batpak_watermarks_t {
                appended: marks.appended,
                visible: marks.visible,
                durable: marks.durable,
                reserved: 0,
            });
            Ok(BATPAK_OK)
        })
    }
}

/// Prepares the struct for batpak_store_stats.
///
/// stats: out. size: sizeof(batpak_store_stats_t). err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_stats_init(
    stats: *mut batpak_store_stats_t,
    size: usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::call(err, || options::init(stats, size).map(|()| BATPAK_OK)) }
}

/// Numbers about a store.
///
/// stats: in and out; prepared with batpak_store_stats_init. err: out, may be NULL.
/// Any thread; lists the directory of segments, and may wait for an append that is under way. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_stats(
    store: *mut batpak_store_t,
    stats: *mut batpak_store_stats_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(store, err, |store| {
            store.check_usable()?;
            options::write(stats, &stats_of(store))?;
            Ok(BATPAK_OK)
        })
    }
}

/// The store's id: 16 random bytes, given when it was made.
///
/// id: out; 16 bytes. err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_id(
    store: *mut batpak_store_t,
    id: *mut u8,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(store, err, |store| {
            let place = out("id", id)?;
            store.check_usable()?;
            place.cast::<[u8; 16]>().write(store.id().0);
            Ok(BATPAK_OK)
        })
    }
}

// ---- opening --------------------------------------------------------------------------------------------------------

/// # Safety
/// As for [`options::read`].
unsafe fn open(path: &Path, options: *const batpak_store_options_t) -> Result<*mut batpak_store_t> {
    // SAFETY: as the caller says.
    let given = unsafe { options::read(options) }?;
    let clock_data = UserData::new(given.clock_user_data, given.clock_user_data_free);
    let log_data = UserData::new(given.log_user_data, given.log_user_data_free);
    let store = Store::open(path, &store_options(&given, &clock_data, &log_data)?)?;
    // Only now are they the library's: a failed call consumes nothing.
    clock_data.arm();
    log_data.arm();
    Ok(handle::create(store))
}

fn store_options(
    given: &batpak_store_options_t,
    clock_data: &Arc<UserData>,
    log_data: &Arc<UserData>,
) -> Result<StoreOptions> {
    let defaults = StoreOptions::default();
    let has = |flag| given.flags & flag != 0;
    let payload_bytes_max = or_default(given.payload_bytes_max, defaults.payload_bytes_max as u64);
    Ok(StoreOptions {
        create: !has(BATPAK_STORE_NO_CREATE),
        exclusive: has(BATPAK_STORE_EXCLUSIVE),
        read_only: has(BATPAK_STORE_READ_ONLY),
        helper_thread: !has(BATPAK_STORE_NO_HELPER_THREAD),
        segment_bytes: or_default(given.segment_bytes, defaults.segment_bytes),
        payload_bytes_max: usize::try_from(payload_bytes_max).unwrap_or(usize::MAX),
        durability: durability_of(given.durability)?.unwrap_or(defaults.durability),
        key_window: or_default(given.key_window, defaults.key_window),
        clock: clock(given.clock, clock_data),
        log: log_sink(given.log, log_data),
        storage: defaults.storage,
    })
}

/// A panicking clock shows the epoch's beginning, which the store takes as a step back.
fn clock(function: batpak_clock_fn, data: &Arc<UserData>) -> WallClock {
    let data = data.clone();
    match function {
        // SAFETY: the caller gave this function for this value; the header says when and where it is called.
        Some(now) => WallClock::custom(move || contain(0, || unsafe { now(data.pointer()) })),
        None => WallClock::System,
    }
}

fn log_sink(function: batpak_log_fn, data: &Arc<UserData>) -> LogSink {
    let Some(write) = function else { return LogSink::default() };
    let data = data.clone();
    LogSink::new(Arc::new(move |level: LogLevel, target: &str, message: &str| {
        let level = match level {
            LogLevel::Error => BATPAK_LOG_ERROR,
            LogLevel::Warning => BATPAK_LOG_WARNING,
            LogLevel::Info => BATPAK_LOG_INFO,
        };
        let (target_text, message_text) = (target.as_ptr().cast(), message.as_ptr().cast());
        // SAFETY: the caller gave this function for this value; the texts have their lengths and live during the call.
        contain((), || unsafe {
            write(data.pointer(), level, target_text, target.len(), message_text, message.len());
        });
    }))
}

/// `None`: the default.
pub(super) fn durability_of(number: u32) -> Result<Option<Durability>> {
    match number {
        BATPAK_DURABILITY_DEFAULT => Ok(None),
        BATPAK_DURABILITY_STORAGE => Ok(Some(Durability::Storage)),
        BATPAK_DURABILITY_PROCESS => Ok(Some(Durability::Process)),
        other => Err(invalid("durability", &other, "give one of the BATPAK_DURABILITY_ constants")),
    }
}

fn number_of(durability: Durability) -> u32 {
    match durability {
        Durability::Storage => BATPAK_DURABILITY_STORAGE,
        Durability::Process => BATPAK_DURABILITY_PROCESS,
    }
}

// ---- appending ------------------------------------------------------------------------------------------------------

/// The items of one append, `stride` bytes apart.
struct Items {
    first: *const batpak_append_t,
    stride: usize,
    count: usize,
}

impl Items {
    /// # Safety
    /// `items` is null or points to `n` items, each as long as the first one's size says.
    #[inline]
    unsafe fn new(items: *const batpak_append_t, n: usize) -> Result<Items> {
        if n == 0 {
            return Err(Error::BatchEmpty);
        }
        if items.is_null() || !items.is_aligned() {
            let value = if items.is_null() { "NULL" } else { "misaligned" };
            return Err(invalid("items", &value, "pass an array of batpak_append_t"));
        }
        // SAFETY: not null, aligned, and starts with its size as the caller says.
        let stride = options::check_size::<batpak_append_t>(unsafe { items.cast::<u32>().read() } as usize)?;
        if n > isize::MAX as usize / stride {
            return Err(invalid("n", &n, "no array can be that long; pass the number of items"));
        }
        Ok(Items { first: items, stride, count: n })
    }

    /// The item at `index` as the store takes it.
    ///
    /// # Safety
    /// `index` is below `count`, and the item's pointers are null or valid for their lengths for `'a`.
    #[inline]
    unsafe fn event<'a>(&self, index: usize) -> Result<NewEvent<'a>> {
        // SAFETY: within the array that `new` was given; a stride is a multiple of the alignment.
        let item = unsafe { self.first.byte_add(index * self.stride) };
        // SAFETY: as above; items start with their size.
        let size = unsafe { item.cast::<u32>().read() };
        if size as usize != self.stride {
            return Err(unequal_size(size));
        }
        if self.stride == size_of::<batpak_append_t>() {
            // SAFETY: not null, aligned, as long as the type, and not written during the call.
            let item = unsafe { &*item };
            item.check()?;
            // SAFETY: as the caller says.
            return unsafe { event_of(item) };
        }
        // SAFETY: the item is as long as it says; the rest as the caller says.
        unsafe { event_of(&options::read(item)?) }
    }
}

#[cold]
fn unequal_size(size: u32) -> Error {
    invalid(batpak_append_t::NAME, &format!("of struct_size {size}"), batpak_append_t::REMEDY)
}

/// # Safety
/// The item's pointers are null or valid for their lengths for `'a`.
#[inline]
unsafe fn event_of<'a>(item: &batpak_append_t) -> Result<NewEvent<'a>> {
    let schema = u16::try_from(item.schema).map_err(|_| invalid("schema", &item.schema, "give 0 to 65535"))?;
    // SAFETY: as the caller says; an `EventId` is 16 bytes without alignment.
    unsafe {
        Ok(NewEvent {
            entity: input::bytes("entity", item.entity.cast(), item.entity_len)?,
            scope: input::bytes("scope", item.scope.cast(), item.scope_len)?,
            kind: item.kind,
            schema,
            payload: input::bytes("payload", item.payload.cast(), item.payload_len)?,
            causes: input::items("causes", item.causes.cast::<EventId>(), item.cause_count)?,
            batch_causes: input::items("batch_causes", item.batch_causes, item.batch_cause_count)?,
            correlation: input::id(item.correlation_id).map(EventId),
            key: key_of(item)?,
            expected: expected_of(item)?,
            unknown_causes_are_foreign: false,
        })
    }
}

/// # Safety
/// The item's key is null or valid for its length for `'a`.
#[inline]
unsafe fn key_of<'a>(item: &batpak_append_t) -> Result<&'a [u8]> {
    // SAFETY: as the caller says.
    let key = unsafe { input::bytes("key", item.key.cast(), item.key_len) }?;
    // A key that is there and empty is a mistake, not "none".
    if key.is_empty() && !item.key.is_null() { Err(Error::KeyLength { length: 0 }) } else { Ok(key) }
}

#[inline]
fn expected_of(item: &batpak_append_t) -> Result<Expected> {
    match (item.expected, item.expected_clock) {
        (BATPAK_EXPECT_ANY, 0) => Ok(Expected::Any),
        (BATPAK_EXPECT_NO_STREAM, 0) => Ok(Expected::NoStream),
        (BATPAK_EXPECT_EXACT, clock) => Ok(Expected::Exact(clock)),
        (BATPAK_EXPECT_ANY | BATPAK_EXPECT_NO_STREAM, clock) => {
            Err(invalid("expected_clock", &clock, "give it with BATPAK_EXPECT_EXACT, else 0"))
        }
        (other, _) => Err(invalid("expected", &other, "give one of the BATPAK_EXPECT_ constants")),
    }
}

/// Batches larger than this give their scratch memory back.
const SCRATCH_ITEMS_MAX: usize = 4096;

/// What a batch is converted into, kept per thread so that a steady stream of batches allocates nothing.
#[derive(Default)]
struct Scratch {
    events: Vec<NewEvent<'static>>,
    receipts: Vec<Receipt>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch { events: Vec::new(), receipts: Vec::new() }) };
}

/// What is appended to.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Store(&'a Store),
    Fence(&'a Fence),
}

impl Target<'_> {
    #[inline]
    fn append(self, events: &[NewEvent<'_>], durability: u32, receipts: &mut [Receipt]) -> Result<()> {
        match self {
            Target::Store(store) => store.append(events, durability_of(durability)?, receipts),
            Target::Fence(fence) if durability == BATPAK_DURABILITY_DEFAULT => fence.append(events, receipts),
            Target::Fence(_) => {
                Err(invalid("durability", &durability, "leave it 0 under a fence, and give it to the commit"))
            }
        }
    }

    fn leaf_hashes(self, events: &[NewEvent<'_>], answers: &[Receipt], hashes: &mut [[u8; 32]]) {
        match self {
            Target::Store(store) => store.leaf_hashes(events, answers, hashes),
            Target::Fence(fence) => fence.store().leaf_hashes(events, answers, hashes),
        }
    }
}

/// One call of `batpak_store_append` or `batpak_fence_append`.
///
/// Invariant: made from the parameters of that call, so its pointers are good as the header's Rules say.
pub(super) struct Request {
    items: Items,
    options: batpak_append_options_t,
    receipts: *mut batpak_receipt_t,
}

impl Request {
    /// # Safety
    /// The parameters are those of an append, good as the header's Rules say.
    pub(super) unsafe fn new(
        items: *const batpak_append_t,
        n: usize,
        options: *const batpak_append_options_t,
        receipts: *mut batpak_receipt_t,
    ) -> Result<Request> {
        // Before anything is appended: afterwards it would be too late to refuse them.
        optional_out("receipts", receipts)?;
        // SAFETY: as the caller says.
        Ok(Request { items: unsafe { Items::new(items, n) }?, options: unsafe { options::read(options) }?, receipts })
    }

    #[inline]
    pub(super) fn append(&self, target: Target<'_>) -> Result<batpak_status_t> {
        match self.items.count {
            1 => self.append_single(target),
            _ => self.append_batch(target),
        }
    }

    /// One event: no scratch, no allocation.
    #[inline]
    fn append_single(&self, target: Target<'_>) -> Result<batpak_status_t> {
        // SAFETY: P; there is one item.
        let events = [unsafe { self.items.event(0) }?];
        let mut answers = [Receipt::default()];
        target.append(&events, self.options.durability, &mut answers)?;
        self.write_receipts(target, &events, &answers, &mut [[0; 32]])
    }

    fn append_batch(&self, target: Target<'_>) -> Result<batpak_status_t> {
        let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
        let mut events = scratch.events;
        let result = self.append_with(target, &mut events, &mut scratch.receipts);
        events.clear();
        // An empty vector keeps its memory through this, and loses the lifetime of what was in it.
        scratch.events = events.into_iter().map(|_| NewEvent::default()).collect();
        if scratch.events.capacity() <= SCRATCH_ITEMS_MAX {
            let _ = SCRATCH.try_with(|place| place.set(scratch));
        }
        result
    }

    fn append_with(
        &self,
        target: Target<'_>,
        events: &mut Vec<NewEvent<'_>>,
        answers: &mut Vec<Receipt>,
    ) -> Result<batpak_status_t> {
        let count = self.items.count;
        let no_memory =
            |_| Error::NoMemory { bytes: count.saturating_mul(size_of::<NewEvent>() + size_of::<Receipt>()) };
        events.try_reserve(count).map_err(no_memory)?;
        for index in 0..count {
            // SAFETY: P; `index` is below `count`.
            let event = unsafe { self.items.event(index) };
            events.push(event.map_err(|source| Error::BatchItem { index, source: Box::new(source) })?);
        }
        answers.clear();
        if !self.receipts.is_null() {
            answers.try_reserve(count).map_err(no_memory)?;
            answers.resize(count, Receipt::default());
        }
        let mut hashes = Vec::new();
        if self.wants_leaf_hashes() {
            // Before anything is appended.
            hashes.try_reserve_exact(count).map_err(no_memory)?;
            hashes.resize(count, [0; 32]);
        }
        target.append(events, self.options.durability, answers)?;
        self.write_receipts(target, events, answers, &mut hashes)
    }

    fn wants_leaf_hashes(&self) -> bool {
        !self.receipts.is_null() && self.options.flags & BATPAK_APPEND_LEAF_HASH != 0
    }

    #[inline]
    fn write_receipts(
        &self,
        target: Target<'_>,
        events: &[NewEvent<'_>],
        answers: &[Receipt],
        hashes: &mut [[u8; 32]],
    ) -> Result<batpak_status_t> {
        if self.receipts.is_null() {
            return Ok(BATPAK_OK);
        }
        for (index, answer) in answers.iter().enumerate() {
            // SAFETY: the caller's array has as many receipts as there are items, and so as there are answers.
            unsafe { self.receipts.add(index).write(receipt_of(answer)) };
        }
        if self.wants_leaf_hashes() {
            self.write_leaf_hashes(target, events, answers, hashes);
        }
        Ok(BATPAK_OK)
    }

    #[cold]
    fn write_leaf_hashes(
        &self,
        target: Target<'_>,
        events: &[NewEvent<'_>],
        answers: &[Receipt],
        hashes: &mut [[u8; 32]],
    ) {
        target.leaf_hashes(events, answers, hashes);
        for (index, hash) in hashes.iter().enumerate() {
            // SAFETY: as in `write_receipts`, which has written these receipts.
            unsafe { (*self.receipts.add(index)).leaf_hash = *hash };
        }
    }
}

#[inline]
fn receipt_of(receipt: &Receipt) -> batpak_receipt_t {
    batpak_receipt_t {
        sequence: receipt.sequence,
        clock: receipt.clock,
        time_us: receipt.time_us,
        id: receipt.id.0,
        correlation_id: receipt.correlation_id.0,
        durability: receipt.durability.map_or(BATPAK_DURABILITY_DEFAULT, number_of),
        flags: if receipt.duplicate { BATPAK_RECEIPT_DUPLICATE } else { 0 },
        leaf_hash: [0; 32],
        reserved: [0; 4],
    }
}

fn stats_of(store: &Store) -> batpak_store_stats_t {
    let stats = store.stats();
    batpak_store_stats_t {
        appended: stats.appended,
        visible: stats.visible,
        durable: stats.durable,
        segments: stats.segments,
        segments_sealed: stats.segments_sealed,
        bytes_on_disk: stats.bytes_on_disk,
        entities_in_memory: stats.entities_in_memory,
        memory_bytes: stats.memory_bytes,
        cursors_open: stats.cursors_open,
        workers_running: stats.workers_running,
        syncs: stats.syncs,
        epoch: stats.epoch,
        cut_bytes: stats.cut_bytes,
        cut_events: stats.cut_events,
        ..batpak_store_stats_t::defaults()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::ptr;

    use super::super::status::BATPAK_E_NO_MEMORY;
    use super::*;

    /// Guards: a count that no array can have poisons the store: its bytes were multiplied out for the message.
    #[test]
    fn an_impossible_count_is_refused_and_poisons_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().as_os_str().as_bytes();
        let mut store = ptr::null_mut();
        let item = batpak_append_t { struct_size: 8, ..batpak_append_t::defaults() };
        // SAFETY: every pointer is valid for what is read before the refusal; the handle is freed once.
        unsafe {
            let opened = batpak_store_open(path.as_ptr().cast(), path.len(), ptr::null(), &mut store, ptr::null_mut());
            assert_eq!(opened, BATPAK_OK);
            let n = isize::MAX as usize / 8;
            let refused = batpak_store_append(store, &item, n, ptr::null(), ptr::null_mut(), ptr::null_mut());
            assert_eq!(refused, BATPAK_E_NO_MEMORY);
            assert_eq!(batpak_store_sync(store, ptr::null_mut()), BATPAK_OK);
            batpak_store_free(store);
        }
    }
}
