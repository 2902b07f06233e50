//! Events as callers see them: the frozen C view, the batch that owns its bytes, and the safe Rust view.
//!
//! # Layout of [`EventView`] (`batpak_event_t`), 160 bytes where pointers have 64 bits
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | sequence |
//! | 8 | 8 | clock |
//! | 16 | 8 | prev_sequence, 2^64 - 1 = none |
//! | 24 | 8 | time_us, signed |
//! | 32 | 16 | id |
//! | 48 | 16 | correlation_id |
//! | 64 | 4 | kind |
//! | 68 | 4 | schema |
//! | 72 | 4 | flags: bit 0 = erased |
//! | 76 | 4 | cause_count |
//! | 80 | 8 + 8 | entity: pointer, length |
//! | 96 | 8 + 8 | scope: pointer, length |
//! | 112 | 8 + 8 | payload: pointer, length |
//! | 128 | 8 | causes: pointer to cause_count ids of 16 bytes, NULL where there are none |
//! | 136 | 24 | reserved, zero |
//!
//! # Invariants of an [`EventBatch`]
//! 1. `entity`, `scope` and `payload` of each view point into one of the batch's buffers, and their lengths end within
//!    it. Only [`BatchBuilder::push`] makes views, and it checks that.
//! 2. `causes` of each view with `cause_count` > 0 points to as many elements of the batch's `cause_ids`. Only
//!    [`BatchBuilder::finish`] sets it, after the last cause was added.
//! 3. Buffers and `cause_ids` are neither written nor dropped between that and the drop of the batch, which has no
//!    method to do so. Moving the batch moves none of these bytes.

use std::fmt;
use std::ops::Range;
use std::ptr;
use std::slice;

use super::buffer::{BatchLists, Buffer, BufferPool, make_room};
use super::id::EventId;
use super::kind::Kind;
use crate::error::Result;

/// In place of a sequence: there is none.
pub const NO_SEQUENCE: u64 = u64::MAX;
/// The payload was erased: whatever bytes stand in its place are not the original ones.
pub const FLAG_ERASED: u32 = 1;

/// A builder makes room for at most this many events ahead, whatever the caller's bound is.
const EVENTS_RESERVED_MAX: usize = 4096;

/// One event, as C sees it. Never grows: an array of these has a fixed stride.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct EventView {
    /// Position in the store.
    pub sequence: u64,
    /// Position in the entity.
    pub clock: u64,
    /// Sequence of the entity's event before, or [`NO_SEQUENCE`].
    pub prev_sequence: u64,
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
    /// The event's id.
    pub id: [u8; 16],
    /// The correlation id.
    pub correlation_id: [u8; 16],
    /// Category << 12 | type.
    pub kind: u32,
    /// The caller's schema version.
    pub schema: u32,
    /// [`FLAG_ERASED`], ...
    pub flags: u32,
    /// Number of `causes`.
    pub cause_count: u32,
    /// The entity's bytes, not terminated.
    pub entity: *const u8,
    /// Number of them.
    pub entity_len: usize,
    /// The scope's bytes, not terminated.
    pub scope: *const u8,
    /// Number of them.
    pub scope_len: usize,
    /// The payload's bytes.
    pub payload: *const u8,
    /// Number of them.
    pub payload_len: usize,
    /// The ids of the causes; null where there are none.
    pub causes: *const [u8; 16],
    /// Zero.
    pub reserved: [u64; 3],
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<EventView>() == 160 && align_of::<EventView>() == 8);
    assert!(offset_of!(EventView, sequence) == 0);
    assert!(offset_of!(EventView, clock) == 8);
    assert!(offset_of!(EventView, prev_sequence) == 16);
    assert!(offset_of!(EventView, time_us) == 24);
    assert!(offset_of!(EventView, id) == 32);
    assert!(offset_of!(EventView, correlation_id) == 48);
    assert!(offset_of!(EventView, kind) == 64);
    assert!(offset_of!(EventView, schema) == 68);
    assert!(offset_of!(EventView, flags) == 72);
    assert!(offset_of!(EventView, cause_count) == 76);
    assert!(offset_of!(EventView, entity) == 80);
    assert!(offset_of!(EventView, entity_len) == 88);
    assert!(offset_of!(EventView, scope) == 96);
    assert!(offset_of!(EventView, scope_len) == 104);
    assert!(offset_of!(EventView, payload) == 112);
    assert!(offset_of!(EventView, payload_len) == 120);
    assert!(offset_of!(EventView, causes) == 128);
    assert!(offset_of!(EventView, reserved) == 136);
};

// SAFETY: a view is plain data. Its pointers are to bytes that nobody writes while the view is in use (invariant 3), and
// following one is unsafe and argued where it is done.
unsafe impl Send for EventView {}
// SAFETY: as for `Send`; a view has no interior mutability.
unsafe impl Sync for EventView {}

/// What a decoder knows of an event. The ranges are within the buffer given with it.
#[derive(Debug, Clone)]
pub struct EventFields {
    /// Position in the store.
    pub sequence: u64,
    /// Position in the entity.
    pub clock: u64,
    /// Sequence of the entity's event before, or [`NO_SEQUENCE`].
    pub prev_sequence: u64,
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
    /// The event's id.
    pub id: [u8; 16],
    /// The correlation id.
    pub correlation_id: [u8; 16],
    /// Category << 12 | type.
    pub kind: u16,
    /// The caller's schema version.
    pub schema: u16,
    /// [`FLAG_ERASED`], ...
    pub flags: u32,
    /// Where the entity is.
    pub entity: Range<usize>,
    /// Where the scope is.
    pub scope: Range<usize>,
    /// Where the payload is.
    pub payload: Range<usize>,
}

/// Collects events and the buffers they lie in. [`BatchBuilder::finish`] makes them a batch.
pub struct BatchBuilder {
    /// Views with causes have a null `causes` until `finish`.
    batch: EventBatch,
    /// Sum of the payload lengths; advanced by `push`.
    payload_bytes: usize,
}

impl BatchBuilder {
    /// An empty builder with room for about `events_capacity` events. It is a hint; any bound will do.
    pub fn new(events_capacity: usize) -> Result<BatchBuilder> {
        BatchBuilder::with_lists(BatchLists::default(), None, events_capacity)
    }

    /// The same, with lists from `pool`, to which the batch's drop returns them.
    pub fn with_pool(pool: &BufferPool, events_capacity: usize) -> Result<BatchBuilder> {
        BatchBuilder::with_lists(pool.take_lists(), Some(pool.clone()), events_capacity)
    }

    fn with_lists(mut lists: BatchLists, pool: Option<BufferPool>, events_capacity: usize) -> Result<BatchBuilder> {
        make_room(&mut lists.views, events_capacity.min(EVENTS_RESERVED_MAX))?;
        let BatchLists { buffers, views, cause_ids } = lists;
        Ok(BatchBuilder { batch: EventBatch { views, buffers, cause_ids, pool }, payload_bytes: 0 })
    }

    /// Makes room for one more event with so many causes: to add it then allocates nothing.
    #[inline]
    pub fn make_room(&mut self, causes: usize) -> Result<()> {
        make_room(&mut self.batch.views, 1)?;
        make_room(&mut self.batch.cause_ids, causes)
    }

    /// Gives the batch a buffer, filled; the index is for [`BatchBuilder::push`].
    pub fn add_buffer(&mut self, buffer: Buffer) -> usize {
        self.batch.buffers.push(buffer);
        self.batch.buffers.len() - 1
    }

    /// The bytes of a buffer that was added.
    ///
    /// # Panics
    /// If no buffer has that index.
    #[inline]
    pub fn buffer(&self, buffer: usize) -> &[u8] {
        &self.batch.buffers[buffer]
    }

    /// Adds an event, without causes yet.
    ///
    /// # Panics
    /// If no buffer has that index or a range is not within it: decoders check lengths before they come here.
    #[inline]
    pub fn push(&mut self, buffer: usize, fields: &EventFields) {
        let bytes: &[u8] = &self.batch.buffers[buffer];
        let (entity, scope) = (&bytes[fields.entity.clone()], &bytes[fields.scope.clone()]);
        let payload = &bytes[fields.payload.clone()];
        self.batch.views.push(EventView {
            sequence: fields.sequence,
            clock: fields.clock,
            prev_sequence: fields.prev_sequence,
            time_us: fields.time_us,
            id: fields.id,
            correlation_id: fields.correlation_id,
            kind: u32::from(fields.kind),
            schema: u32::from(fields.schema),
            flags: fields.flags,
            cause_count: 0,
            entity: entity.as_ptr(),
            entity_len: entity.len(),
            scope: scope.as_ptr(),
            scope_len: scope.len(),
            payload: payload.as_ptr(),
            payload_len: payload.len(),
            causes: ptr::null(),
            reserved: [0; 3],
        });
        self.payload_bytes += payload.len();
    }

    /// Adds a cause to the event pushed last.
    ///
    /// # Panics
    /// If no event was pushed.
    #[inline]
    pub fn push_cause(&mut self, id: [u8; 16]) {
        let view = self.batch.views.last_mut().expect("a cause comes after its event");
        view.cause_count += 1;
        self.batch.cause_ids.push(id);
    }

    /// Sum of the payload lengths.
    #[inline]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Number of events.
    #[inline]
    pub fn len(&self) -> usize {
        self.batch.views.len()
    }

    /// There is no event.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.batch.views.is_empty()
    }

    /// Sequence of the event added last.
    pub fn last_sequence(&self) -> Option<u64> {
        self.batch.views.last().map(|view| view.sequence)
    }

    /// The batch of what was added.
    pub fn finish(mut self) -> EventBatch {
        // Causes were added in the order of their events, so each event's follow those of the event before.
        let mut rest = self.batch.cause_ids.as_slice();
        for view in &mut self.batch.views {
            if rest.is_empty() {
                break;
            }
            if view.cause_count > 0 {
                let (own, after) = rest.split_at(view.cause_count as usize);
                view.causes = own.as_ptr();
                rest = after;
            }
        }
        self.batch
    }
}

impl fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBuilder").field("len", &self.len()).field("payload_bytes", &self.payload_bytes).finish()
    }
}

/// Events, and the bytes they point to. Immutable; may be read and dropped on any thread.
pub struct EventBatch {
    views: Vec<EventView>,
    buffers: Vec<Buffer>,
    cause_ids: Vec<[u8; 16]>,
    pool: Option<BufferPool>,
}

impl EventBatch {
    /// The events as C sees them. Their pointers are good while the batch lives.
    #[inline]
    pub fn events(&self) -> &[EventView] {
        &self.views
    }

    /// Number of events.
    #[inline]
    pub fn len(&self) -> usize {
        self.views.len()
    }

    /// There is no event.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// The event at `index`.
    ///
    /// # Panics
    /// If `index` is not below [`EventBatch::len`].
    #[inline]
    pub fn event(&self, index: usize) -> Event<'_> {
        Event { view: &self.views[index] }
    }

    /// The event at `index`, if there is one.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Event<'_>> {
        self.views.get(index).map(|view| Event { view })
    }

    /// The events, in order.
    #[inline]
    pub fn iter(&self) -> Events<'_> {
        Events { views: self.views.iter() }
    }
}

impl<'a> IntoIterator for &'a EventBatch {
    type Item = Event<'a>;
    type IntoIter = Events<'a>;

    fn into_iter(self) -> Events<'a> {
        self.iter()
    }
}

impl fmt::Debug for EventBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl Drop for EventBatch {
    fn drop(&mut self) {
        let Some(pool) = self.pool.take() else { return };
        let mut lists = BatchLists {
            buffers: std::mem::take(&mut self.buffers),
            views: std::mem::take(&mut self.views),
            cause_ids: std::mem::take(&mut self.cause_ids),
        };
        lists.views.clear();
        lists.cause_ids.clear();
        // Each goes back to its own pool.
        lists.buffers.clear();
        pool.put_lists(lists);
    }
}

/// An event of a batch, borrowed from it.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// Always an element of a finished batch's `views`, which is borrowed for `'a`.
    view: &'a EventView,
}

impl<'a> Event<'a> {
    /// Position in the store.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.view.sequence
    }

    /// Position in the entity.
    #[inline]
    pub fn clock(&self) -> u64 {
        self.view.clock
    }

    /// Sequence of the entity's event before.
    #[inline]
    pub fn prev_sequence(&self) -> Option<u64> {
        (self.view.prev_sequence != NO_SEQUENCE).then_some(self.view.prev_sequence)
    }

    /// Microseconds since the Unix epoch.
    #[inline]
    pub fn time_us(&self) -> i64 {
        self.view.time_us
    }

    /// The event's id.
    #[inline]
    pub fn id(&self) -> EventId {
        EventId(self.view.id)
    }

    /// The correlation id.
    #[inline]
    pub fn correlation_id(&self) -> EventId {
        EventId(self.view.correlation_id)
    }

    /// The kind.
    #[inline]
    pub fn kind(&self) -> Kind {
        Kind(self.view.kind as u16)
    }

    /// The caller's schema version.
    #[inline]
    pub fn schema(&self) -> u16 {
        self.view.schema as u16
    }

    /// [`FLAG_ERASED`], ...
    #[inline]
    pub fn flags(&self) -> u32 {
        self.view.flags
    }

    /// The payload was erased.
    #[inline]
    pub fn is_erased(&self) -> bool {
        self.view.flags & FLAG_ERASED != 0
    }

    /// The entity. Empty if the bytes on disk are not UTF-8, which no append of ours has written.
    #[inline]
    pub fn entity(&self) -> &'a str {
        // SAFETY: invariants 1 and 3: a range of a buffer that lives, unwritten, for `'a`.
        std::str::from_utf8(unsafe { bytes(self.view.entity, self.view.entity_len) }).unwrap_or_default()
    }

    /// The scope. Empty if the bytes on disk are not UTF-8, which no append of ours has written.
    #[inline]
    pub fn scope(&self) -> &'a str {
        // SAFETY: invariants 1 and 3: a range of a buffer that lives, unwritten, for `'a`.
        std::str::from_utf8(unsafe { bytes(self.view.scope, self.view.scope_len) }).unwrap_or_default()
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        // SAFETY: invariants 1 and 3: a range of a buffer that lives, unwritten, for `'a`.
        unsafe { bytes(self.view.payload, self.view.payload_len) }
    }

    /// The ids of the causes, in the order given at append.
    #[inline]
    pub fn causes(&self) -> &'a [EventId] {
        if self.view.cause_count == 0 {
            return &[];
        }
        // SAFETY: invariants 2 and 3: so many elements of `cause_ids`, unwritten, for `'a`. `EventId` is a transparent
        // `[u8; 16]`.
        unsafe { slice::from_raw_parts(self.view.causes.cast::<EventId>(), self.view.cause_count as usize) }
    }
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("sequence", &self.sequence())
            .field("id", &self.id())
            .field("entity", &self.entity())
            .field("scope", &self.scope())
            .field("clock", &self.clock())
            .field("kind", &self.kind())
            .field("payload_len", &self.view.payload_len)
            .finish_non_exhaustive()
    }
}

/// The bytes at a pointer of a view.
///
/// # Safety
/// `pointer` must be to `len` initialised bytes that live, unwritten, for `'a`.
#[inline]
unsafe fn bytes<'a>(pointer: *const u8, len: usize) -> &'a [u8] {
    // SAFETY: what the caller promises; `push` took the pointer from a slice, so it is not null and `len` is possible.
    unsafe { slice::from_raw_parts(pointer, len) }
}

/// The events of a batch, in order.
#[derive(Debug, Clone)]
pub struct Events<'a> {
    views: slice::Iter<'a, EventView>,
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    #[inline]
    fn next(&mut self) -> Option<Event<'a>> {
        self.views.next().map(|view| Event { view })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.views.size_hint()
    }
}

impl DoubleEndedIterator for Events<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.views.next_back().map(|view| Event { view })
    }
}

impl ExactSizeIterator for Events<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Fields of an event whose names and payload stand one after the other from `at`.
    fn fields(sequence: u64, at: usize, entity: usize, scope: usize, payload: usize) -> EventFields {
        EventFields {
            sequence,
            clock: sequence + 1,
            prev_sequence: if sequence == 0 { NO_SEQUENCE } else { sequence - 1 },
            time_us: 1_700_000_000_000_000 + sequence as i64,
            id: EventId::derive(1_700_000_000_000_000, sequence, 7).0,
            correlation_id: [sequence as u8; 16],
            kind: 0x3001,
            schema: 2,
            flags: 0,
            entity: at..at + entity,
            scope: at + entity..at + entity + scope,
            payload: at + entity + scope..at + entity + scope + payload,
        }
    }

    #[test]
    fn events_come_back_as_pushed() {
        let mut builder = BatchBuilder::new(usize::MAX).unwrap();
        let first = builder.add_buffer(Buffer::from(b"..alice:xeupayload".to_vec()));
        let second = builder.add_buffer(Buffer::from(b"bobus".to_vec()));
        assert_eq!((first, second, builder.buffer(second)), (0, 1, &b"bobus"[..]));
        builder.push(first, &fields(0, 2, 7, 2, 7));
        builder.push_cause([1; 16]);
        builder.push_cause([2; 16]);
        builder.push(second, &EventFields { flags: FLAG_ERASED, ..fields(1, 0, 3, 2, 0) });
        builder.push(second, &fields(2, 0, 3, 2, 0));
        builder.push_cause([3; 16]);
        assert_eq!((builder.len(), builder.payload_bytes(), builder.is_empty()), (3, 7, false));
        let batch = builder.finish();

        let [a, b, c] = [0, 1, 2].map(|index| batch.event(index));
        assert_eq!((a.entity(), a.scope(), a.payload()), ("alice:x", "eu", &b"payload"[..]));
        assert_eq!((a.sequence(), a.clock(), a.prev_sequence()), (0, 1, None));
        assert_eq!((a.kind(), a.schema(), a.flags(), a.is_erased()), (Kind(0x3001), 2, 0, false));
        assert_eq!((a.id().sequence(), a.correlation_id()), (0, EventId([0; 16])));
        assert_eq!(a.time_us(), 1_700_000_000_000_000);
        assert_eq!(a.causes(), [EventId([1; 16]), EventId([2; 16])]);
        assert_eq!((b.entity(), b.scope(), b.payload()), ("bob", "us", &b""[..]));
        assert_eq!((b.prev_sequence(), b.is_erased(), b.causes()), (Some(0), true, &[][..]));
        assert_eq!(c.causes(), [EventId([3; 16])]);
        assert!(batch.events()[1].causes.is_null() && batch.events()[1].reserved == [0; 3]);
        assert_eq!(batch.iter().map(|event| event.sequence()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((&batch).into_iter().rev().map(|event| event.sequence()).collect::<Vec<_>>(), [2, 1, 0]);
        assert!(batch.get(3).is_none() && batch.len() == 3 && batch.iter().len() == 3);
    }

    /// Buffers are added, and causes, while earlier views already point into them.
    #[test]
    fn pointers_survive_growth_and_moves() {
        let mut builder = BatchBuilder::new(0).unwrap();
        for number in 0..300u64 {
            let text = format!("entity{number}scopepayload{number}");
            let digits = number.to_string().len();
            let buffer = builder.add_buffer(Buffer::from(text.into_bytes()));
            builder.push(buffer, &fields(number, 0, 6 + digits, 5, 7 + digits));
            for cause in 0..number % 4 {
                builder.push_cause([cause as u8; 16]);
            }
        }
        let batch = Arc::new(builder.finish());
        let other = Arc::clone(&batch);
        std::thread::spawn(move || {
            for (number, event) in other.iter().enumerate() {
                assert_eq!(event.entity(), format!("entity{number}"));
                assert_eq!((event.scope(), event.payload()), ("scope", format!("payload{number}").as_bytes()));
                let causes: Vec<_> = (0..number % 4).map(|cause| EventId([cause as u8; 16])).collect();
                assert_eq!(event.causes(), causes);
            }
        })
        .join()
        .unwrap();
        assert_eq!(batch.len(), 300);
    }

    #[test]
    fn a_steady_loop_reuses_everything() {
        let pool = BufferPool::new();
        let mut addresses = Vec::new();
        for _ in 0..5 {
            let mut builder = BatchBuilder::with_pool(&pool, 64).unwrap();
            assert!(builder.is_empty() && builder.payload_bytes() == 0 && builder.batch.cause_ids.is_empty());
            let mut bytes = pool.take(10).unwrap();
            bytes[..4].copy_from_slice(b"espp");
            let buffer = builder.add_buffer(bytes);
            for sequence in 0..64 {
                builder.push(buffer, &fields(sequence, 0, 1, 1, 2));
                builder.push_cause([9; 16]);
            }
            let batch = builder.finish();
            assert!(batch.iter().all(|event| event.payload() == b"pp" && event.causes() == [EventId([9; 16])]));
            addresses.push((batch.events().as_ptr(), batch.buffers[0].as_ptr(), batch.cause_ids.as_ptr()));
        }
        assert!(addresses.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_builder_that_is_given_up_returns_its_lists() {
        let pool = BufferPool::new();
        let mut builder = BatchBuilder::with_pool(&pool, 64).unwrap();
        builder.add_buffer(pool.take(1).unwrap());
        let address = builder.batch.views.as_ptr();
        drop(builder);
        assert_eq!(BatchBuilder::with_pool(&pool, 64).unwrap().batch.views.as_ptr(), address);
    }

    #[test]
    fn names_that_are_not_utf8_are_empty() {
        let mut builder = BatchBuilder::new(1).unwrap();
        let buffer = builder.add_buffer(Buffer::from(vec![0xFF, 0xFE, 1]));
        builder.push(buffer, &fields(0, 0, 1, 1, 1));
        let batch = builder.finish();
        assert_eq!((batch.event(0).entity(), batch.event(0).scope(), batch.event(0).payload()), ("", "", &[1][..]));
        assert_eq!(batch.events()[0].entity_len, 1);
    }

    #[test]
    fn an_empty_batch_is_fine() {
        let batch = BatchBuilder::new(0).unwrap().finish();
        assert!(batch.is_empty() && batch.events().is_empty() && batch.iter().next().is_none());
        assert_eq!(format!("{batch:?}"), "[]");
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn a_range_past_its_buffer_is_refused() {
        let mut builder = BatchBuilder::new(1).unwrap();
        let buffer = builder.add_buffer(Buffer::from(vec![0; 4]));
        builder.push(buffer, &fields(0, 0, 1, 1, 3));
    }

    #[test]
    #[should_panic(expected = "a cause comes after its event")]
    fn a_cause_without_an_event_is_refused() {
        BatchBuilder::new(1).unwrap().push_cause([0; 16]);
    }

    #[test]
    fn batches_go_anywhere() {
        fn any_thread<T: Send + Sync + 'static>() {}
        any_thread::<EventBatch>();
        any_thread::<BatchBuilder>();
        any_thread::<BufferPool>();
        any_thread::<Event<'static>>();
    }

    proptest! {
        #[test]
        fn any_shape_comes_back(shapes in proptest::collection::vec((0usize..9, 0usize..9, 0usize..40, 0u8..5), 0..60)) {
            let mut builder = BatchBuilder::new(shapes.len()).unwrap();
            let mut last = 0;
            for (number, &(entity, scope, payload, causes)) in shapes.iter().enumerate() {
                if number % 7 == 0 {
                    last = builder.add_buffer(Buffer::from((0..=255u8).map(|byte| byte & 0x7F).collect::<Vec<_>>()));
                }
                builder.push(last, &fields(number as u64, number, entity, scope, payload));
                (0..causes).for_each(|cause| builder.push_cause([cause; 16]));
            }
            prop_assert_eq!(builder.payload_bytes(), shapes.iter().map(|shape| shape.2).sum::<usize>());
            let batch = builder.finish();
            for (number, (event, &(entity, scope, payload, causes))) in batch.iter().zip(&shapes).enumerate() {
                let bytes = [event.entity().as_bytes(), event.scope().as_bytes(), event.payload()].concat();
                prop_assert_eq!((event.entity().len(), event.scope().len()), (entity, scope));
                prop_assert_eq!(event.payload().len(), payload);
                prop_assert!(bytes.iter().enumerate().all(|(index, &byte)| usize::from(byte) == (number + index) & 0x7F));
                prop_assert!(event.causes().iter().enumerate().all(|(index, id)| id.0 == [index as u8; 16]));
                prop_assert_eq!(event.causes().len(), usize::from(causes));
            }
        }
    }
}
