//! Batches of delivered events.
//|
//| Batch
//|
//| Events as a poll or a worker delivered them, with their payloads, in one piece of memory of the library's.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::Arc;

use super::handle::{self, Castable, batpak_batch_t};
use super::input;
use crate::event::EventBatch;
use crate::event::view::{EventView, FLAG_ERASED, NO_SEQUENCE};

/// In place of a sequence: there is none.
pub const BATPAK_NO_SEQUENCE: u64 = 0xFFFF_FFFF_FFFF_FFFFu64;
/// In flags of an event: its payload was erased; the bytes in its place are not the ones appended.
pub const BATPAK_EVENT_ERASED: u32 = 1u32;

/// One event. Its pointers are borrowed from the batch. The layout is frozen and never grows: 160 bytes where pointers
/// have 64 bits.
#[repr(C)]
pub struct batpak_event_t {
    /// Position in the store's order, from 0, without gaps.
    pub sequence: u64,
    /// Position among the events of its entity, from 0.
    pub clock: u64,
    /// Sequence of the entity's event before, or BATPAK_NO_SEQUENCE.
    pub prev_sequence: u64,
    /// Microseconds since the Unix epoch; never decreasing along the sequence.
    pub time_us: i64,
    /// The event's id (UUIDv7, in network order).
    pub id: [u8; 16],
    /// The correlation id.
    pub correlation_id: [u8; 16],
    /// Category << 12 | type.
    pub kind: u32,
    /// The schema version that the appender gave.
    pub schema: u32,
    /// BATPAK_EVENT_ERASED.
    pub flags: u32,
    /// Number of causes.
    pub cause_count: u32,
    /// The entity, UTF-8, not terminated.
    pub entity: *const c_char,
    /// Its length in bytes.
    pub entity_len: usize,
    /// The scope, UTF-8, not terminated.
    pub scope: *const c_char,
    /// Its length in bytes.
    pub scope_len: usize,
    /// The payload.
    pub payload: *const c_void,
    /// Its length in bytes.
    pub payload_len: usize,
    /// The ids of the events that led to this one, 16 bytes each; NULL where there are none.
    pub causes: *const [u8; 16],
    /// Zero.
    pub reserved: [u64; 3],
}

// The C event is the view: same members, same places, under the types that suit C.
const _: () = {
    assert!(size_of::<batpak_event_t>() == size_of::<EventView>());
    assert!(align_of::<batpak_event_t>() == align_of::<EventView>());
    assert!(offset_of!(batpak_event_t, sequence) == offset_of!(EventView, sequence));
    assert!(offset_of!(batpak_event_t, clock) == offset_of!(EventView, clock));
    assert!(offset_of!(batpak_event_t, prev_sequence) == offset_of!(EventView, prev_sequence));
    assert!(offset_of!(batpak_event_t, time_us) == offset_of!(EventView, time_us));
    assert!(offset_of!(batpak_event_t, id) == offset_of!(EventView, id));
    assert!(offset_of!(batpak_event_t, correlation_id) == offset_of!(EventView, correlation_id));
    assert!(offset_of!(batpak_event_t, kind) == offset_of!(EventView, kind));
    assert!(offset_of!(batpak_event_t, schema) == offset_of!(EventView, schema));
    assert!(offset_of!(batpak_event_t, flags) == offset_of!(EventView, flags));
    assert!(offset_of!(batpak_event_t, cause_count) == offset_of!(EventView, cause_count));
    assert!(offset_of!(batpak_event_t, entity) == offset_of!(EventView, entity));
    assert!(offset_of!(batpak_event_t, entity_len) == offset_of!(EventView, entity_len));
    assert!(offset_of!(batpak_event_t, scope) == offset_of!(EventView, scope));
    assert!(offset_of!(batpak_event_t, scope_len) == offset_of!(EventView, scope_len));
    assert!(offset_of!(batpak_event_t, payload) == offset_of!(EventView, payload));
    assert!(offset_of!(batpak_event_t, payload_len) == offset_of!(EventView, payload_len));
    assert!(offset_of!(batpak_event_t, causes) == offset_of!(EventView, causes));
    assert!(offset_of!(batpak_event_t, reserved) == offset_of!(EventView, reserved));
    assert!(BATPAK_NO_SEQUENCE == NO_SEQUENCE && BATPAK_EVENT_ERASED == FLAG_ERASED);
};

/// A batch of a poll, or one that a worker's handler asked for.
pub(super) enum Batch {
    Polled(EventBatch),
    Delivered(Arc<EventBatch>),
}

impl Batch {
    #[inline]
    fn events(&self) -> &[EventView] {
        match self {
            Batch::Polled(batch) => batch.events(),
            Batch::Delivered(batch) => batch.events(),
        }
    }
}

impl Castable for batpak_batch_t {
    type Object = Batch;
    const TAG: u64 = u64::from_le_bytes(*b"bpkBatch");
    const NOUN: &'static str = "batch";
    const REMEDY: &'static str = "pass a batch that batpak_cursor_poll has given";
    const SURVIVES_FORK: bool = true;
}

/// The events as C sees them.
#[inline]
pub(super) fn c_events(events: &[EventView]) -> *const batpak_event_t {
    events.as_ptr().cast()
}

/// The events of a batch: one call per batch, then plain memory.
///
/// batch: may be NULL, which gives NULL and 0. n: out; the number of events.
/// Returns an array borrowed from the batch.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_batch_events(batch: *const batpak_batch_t, n: *mut usize) -> *const batpak_event_t {
    // SAFETY: P; the events live as long as the batch.
    unsafe {
        let events = handle::peek(batch).map(|cell| cell.object().events());
        input::put(n, events.map_or(0, <[EventView]>::len));
        events.map_or(ptr::null(), c_events)
    }
}

/// One more reference to a batch, to be given back with a batpak_batch_free of its own.
///
/// batch: may be NULL. Returns batch.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_batch_retain(batch: *mut batpak_batch_t) -> *mut batpak_batch_t {
    // SAFETY: P.
    unsafe { handle::retain(batch) }
}

/// Gives a reference to a batch back. With the last one its events end.
///
/// batch: may be NULL. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_batch_free(batch: *mut batpak_batch_t) {
    // SAFETY: P; the reference was the caller's.
    unsafe { handle::free(batch) }
}

// Batches are read and freed on any thread.
const _: () = {
    const fn shareable<T: Send + Sync>() {}
    shareable::<Batch>();
};
