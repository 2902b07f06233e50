//! The index of a segment that is being appended to.
//!
//! Invariants:
//! * one writer at a time (the holder of the append lock) calls [`MemoryIndex::push`], [`MemoryIndex::push_key`],
//!   [`MemoryIndex::cancel`], [`MemoryIndex::rewind`], [`MemoryIndex::truncate`], [`Heads::set_head`] and the inserting functions; readers
//!   call the others at any time;
//! * an entry below the visible mark is complete and never changes. The mark is stored with release order after the entries
//!   and read with acquire order before them, so the entries themselves need no order of their own;
//! * `entries[i].previous` is the ordinal + 1 of the previous event of the same stream in this segment, 0 for none: a chain from
//!   `heads[stream].last` back. A reader walks it from the newest match to the oldest that it still needs, so finding an
//!   entity's new events costs what they are, whatever else was appended;
//! * an event that was rewound is in no chain that begins at a head, but keeps its own link: who walks from an older head meets it, and then
//!   all live events before it;
//! * `heads[stream].next_clock - (live events of the stream here)` is the clock of its first live event here; a head without such events may be
//!   unknown, and then nothing is pushed to it before [`Heads::set_head`].

mod listing;

use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, OnceLock, PoisonError};

use super::StreamHead;
use super::chunks::Chunks;
use super::keys::KeyTable;
use super::ranges::Ranges;
use crate::error::Result;
use crate::event::region::EntityMatch;
use crate::event::{Kind, Region, StoreId, make_room, prefix_matches};
use crate::format::name_hash;
use crate::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Names by number and by hash. Numbers are in order of first use.
#[derive(Debug, Default)]
pub(crate) struct NameTable {
    /// High half: the hash's high half; low half: number + 1; 0 = empty. A power of two, at most 3/4 full.
    slots: Vec<u64>,
    hashes: Vec<u64>,
    spans: Vec<(u32, u16)>,
    arena: Vec<u8>,
}

impl NameTable {
    fn slot_of(hash: u64, number: u32) -> u64 {
        (hash & 0xFFFF_FFFF_0000_0000) | u64::from(number + 1)
    }

    #[inline]
    pub fn find(&self, hash: u64, name: &[u8]) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if (slot ^ hash) >> 32 == 0 {
                let number = slot as u32 - 1;
                if self.name(number) == name {
                    return Some(number);
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Makes room for one more name of so many bytes, so that adding it allocates nothing.
    fn make_room(&mut self, length: usize) -> Result<()> {
        if self.is_full() {
            let slots = NameTable::slots_after(self.slots.len());
            let mut larger = Vec::new();
            make_room(&mut larger, slots)?;
            larger.resize(slots, 0);
            self.grow_into(larger);
        }
        make_room(&mut self.spans, 1)?;
        make_room(&mut self.hashes, 1)?;
        make_room(&mut self.arena, length)
    }

    fn is_full(&self) -> bool {
        (self.spans.len() + 1) * 4 > self.slots.len() * 3
    }

    fn slots_after(slots: usize) -> usize {
        (slots * 2).max(64)
    }

    /// Adds a name that is not in the table.
    pub fn insert(&mut self, hash: u64, name: &[u8]) -> u32 {
        if self.is_full() {
            self.grow_into(vec![0; NameTable::slots_after(self.slots.len())]);
        }
        let number = self.spans.len() as u32;
        self.spans.push((self.arena.len() as u32, name.len() as u16));
        self.arena.extend_from_slice(name);
        self.hashes.push(hash);
        self.place(hash, number);
        number
    }

    fn place(&mut self, hash: u64, number: u32) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = NameTable::slot_of(hash, number);
    }

    fn grow_into(&mut self, slots: Vec<u64>) {
        self.slots = slots;
        for number in 0..self.hashes.len() {
            self.place(self.hashes[number], number as u32);
        }
    }

    #[inline]
    pub fn name(&self, number: u32) -> &[u8] {
        let (start, length) = self.spans[number as usize];
        &self.arena[start as usize..start as usize + length as usize]
    }

    pub fn len(&self) -> usize {
        self.spans.len()
    }

    fn bytes(&self) -> u64 {
        (self.slots.capacity() * 8 + self.hashes.capacity() * 8 + self.spans.capacity() * 8 + self.arena.capacity())
            as u64
    }
}

/// In place of a clock: nothing is known of the stream.
const UNKNOWN: u64 = u64::MAX;

/// One stream as of now.
#[derive(Debug, Default)]
struct Head {
    /// [`UNKNOWN`] only while `last` is 0.
    next_clock: AtomicU64,
    /// The last event's sequence before this segment, `u64::MAX` for none.
    previous_sequence: AtomicU64,
    /// Ordinal + 1 of the last event in this segment, 0 for none.
    last: AtomicU32,
}

/// The entities touched in one segment and their heads. It outlives the segment's other columns as the cache of heads.
#[derive(Debug)]
pub(crate) struct Heads {
    base: u64,
    names: RwLock<NameTable>,
    heads: Chunks<Head>,
    /// Some head was unknown once.
    had_unknown: AtomicBool,
}

impl Heads {
    fn new(base: u64) -> Heads {
        Heads { base, names: RwLock::default(), heads: Chunks::new(), had_unknown: AtomicBool::new(false) }
    }

    /// All entities touched here. Nobody adds one while the guard lives.
    pub fn names(&self) -> RwLockReadGuard<'_, NameTable> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of an entity touched here.
    #[inline]
    pub fn find(&self, hash: u64, entity: &[u8]) -> Option<u32> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).find(hash, entity)
    }

    /// The head of a stream that is known.
    #[inline]
    pub fn head(&self, stream: u32) -> StreamHead {
        let Some(head) = self.heads.get(stream as usize) else { return StreamHead::NEW };
        let last = head.last.load(Relaxed);
        debug_assert!(
            last != 0 || head.next_clock.load(Relaxed) != UNKNOWN,
            "the head of stream {stream} is not known"
        );
        StreamHead { next_clock: head.next_clock.load(Relaxed), last_sequence: self.last_sequence(head, last) }
    }

    /// The sequence of a stream's last event, which is `last` here.
    #[inline]
    fn last_sequence(&self, head: &Head, last: u32) -> u64 {
        match last {
            0 => head.previous_sequence.load(Relaxed),
            last => self.base + u64::from(last) - 1,
        }
    }

    /// The head of a stream; `None` when its events here were all rewound and older segments must tell.
    #[inline]
    pub fn known_head(&self, stream: u32) -> Option<StreamHead> {
        let head = self.heads.get(stream as usize)?;
        let is_known = head.last.load(Relaxed) != 0 || head.next_clock.load(Relaxed) != UNKNOWN;
        is_known.then(|| self.head(stream))
    }

    /// The head of a stream that has a live event here.
    pub fn live_head(&self, stream: u32) -> Option<StreamHead> {
        let head = self.heads.get(stream as usize)?;
        (head.last.load(Relaxed) != 0).then(|| self.head(stream))
    }

    /// Whether the head of a stream here is known. For the writer; one load where no head was ever unknown.
    #[inline]
    pub fn is_known(&self, stream: u32) -> bool {
        !self.had_unknown.load(Relaxed) || self.known_head(stream).is_some()
    }

    /// Says what the head is of a stream that has no live event here.
    pub fn set_head(&self, stream: u32, known: StreamHead) {
        let head = self.heads.make(stream as usize);
        debug_assert_eq!(head.last.load(Relaxed), 0, "stream {stream} has live events here");
        head.previous_sequence.store(known.last_sequence, Relaxed);
        head.next_clock.store(known.next_clock, Relaxed);
    }

    fn insert(&self, hash: u64, entity: &[u8], seed: StreamHead) -> u32 {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let head = self.heads.make(names.len());
        if seed.next_clock == UNKNOWN {
            self.had_unknown.store(true, Relaxed);
        }
        head.next_clock.store(seed.next_clock, Relaxed);
        head.previous_sequence.store(seed.last_sequence, Relaxed);
        head.last.store(0, Relaxed);
        names.insert(hash, entity)
    }

    pub fn len(&self) -> usize {
        self.names.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn bytes(&self) -> u64 {
        self.heads.bytes() + self.names.read().unwrap_or_else(PoisonError::into_inner).bytes()
    }
}

/// One event: where it stands and what it is.
#[derive(Debug, Default)]
struct Slot {
    /// Bits 0..32 frame offset / 8, 32..48 kind, 48..64 scope number.
    place: AtomicU64,
    /// Bits 0..32 stream, 32..64 ordinal + 1 of the stream's previous event here.
    stream: AtomicU64,
}

/// What an index says of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub offset: u64,
    pub kind: u16,
    pub scope: u16,
    pub stream: u32,
}

/// A control frame (all but MARK), for the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ControlEntry {
    pub offset: u64,
    pub sequence: u64,
    pub frame_type: u8,
}

/// The index of the active segment, or of one that waits for its `.idx`.
#[derive(Debug)]
pub(crate) struct MemoryIndex {
    store_id: StoreId,
    base: u64,
    heads: Arc<Heads>,
    order: listing::NameOrder,
    scopes: RwLock<NameTable>,
    slots: Chunks<Slot>,
    count: AtomicU32,
    log_end: AtomicU64,
    first_time_us: AtomicU64,
    last_time_us: AtomicU64,
    epochs: Mutex<Vec<(u64, u64)>>,
    controls: Mutex<Vec<ControlEntry>>,
    /// Made for the first key.
    keys: OnceLock<Box<KeyTable>>,
    cancelled: RwLock<Ranges>,
    has_cancelled: AtomicBool,
}

impl MemoryIndex {
    /// An empty index of the segment whose header says `epoch` and whose frames begin at `log_start`.
    pub fn new(store_id: StoreId, base: u64, epoch: u64, log_start: u64) -> MemoryIndex {
        MemoryIndex {
            store_id,
            base,
            heads: Arc::new(Heads::new(base)),
            order: listing::NameOrder::default(),
            scopes: RwLock::default(),
            slots: Chunks::new(),
            count: AtomicU32::new(0),
            log_end: AtomicU64::new(log_start),
            first_time_us: AtomicU64::new(0),
            last_time_us: AtomicU64::new(0),
            epochs: Mutex::new(vec![(log_start, epoch)]),
            controls: Mutex::default(),
            keys: OnceLock::new(),
            cancelled: RwLock::default(),
            has_cancelled: AtomicBool::new(false),
        }
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    /// How many events the segment has, whether visible or not.
    pub fn count(&self) -> u32 {
        self.count.load(Acquire)
    }

    /// The offset after the last frame.
    pub fn log_end(&self) -> u64 {
        self.log_end.load(Acquire)
    }

    pub fn heads(&self) -> &Arc<Heads> {
        &self.heads
    }

    pub fn hash(&self, name: &[u8]) -> u64 {
        name_hash(&self.store_id, name)
    }

    /// The number of a scope used here.
    #[inline]
    pub fn find_scope(&self, hash: u64, scope: &[u8]) -> Option<u16> {
        self.scopes.read().unwrap_or_else(PoisonError::into_inner).find(hash, scope).map(|n| n as u16)
    }

    /// All scopes used here. Nobody adds one while the guard lives.
    pub fn scopes(&self) -> RwLockReadGuard<'_, NameTable> {
        self.scopes.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all scopes, when no event is here to refer to one.
    pub fn clear_scopes(&self) {
        debug_assert_eq!(self.count(), 0);
        *self.scopes.write().unwrap_or_else(PoisonError::into_inner) = NameTable::default();
    }

    /// Adds a scope; `None` when the segment has as many as a number can name.
    pub fn insert_scope(&self, hash: u64, scope: &[u8]) -> Option<u16> {
        let mut scopes = self.scopes.write().unwrap_or_else(PoisonError::into_inner);
        (scopes.len() < usize::from(u16::MAX)).then(|| scopes.insert(hash, scope) as u16)
    }

    /// Makes room for `events` more events, of which `keyed` have a key: to push them then allocates nothing. For the one writer.
    #[inline]
    pub fn make_room(&self, events: usize, keyed: usize) -> Result<()> {
        let count = self.count.load(Relaxed) as usize;
        if keyed == 0 && Chunks::<Slot>::has_room(count, events) {
            return Ok(());
        }
        self.slots.make_room(count, events)?;
        match keyed {
            0 => Ok(()),
            keyed => self.keys.get_or_init(|| Box::new(KeyTable::new())).make_room(keyed),
        }
    }

    /// Makes room for one more entity and one more scope of so many bytes. For the one writer.
    pub fn make_room_for_names(&self, entity_bytes: usize, scope_bytes: usize) -> Result<()> {
        let mut names = self.heads.names.write().unwrap_or_else(PoisonError::into_inner);
        self.heads.heads.make_room(names.len(), 1)?;
        names.make_room(entity_bytes)?;
        self.scopes.write().unwrap_or_else(PoisonError::into_inner).make_room(scope_bytes)
    }

    /// Adds an entity with its head as of the segment's beginning.
    pub fn insert_stream(&self, hash: u64, entity: &[u8], seed: StreamHead) -> u32 {
        self.heads.insert(hash, entity, seed)
    }

    /// Adds the next event and moves its stream's head. Returns the head before.
    #[inline]
    pub fn push(&self, entry: IndexEntry, time_us: i64) -> StreamHead {
        let head = self.heads.heads.make(entry.stream as usize);
        let (next_clock, last) = (head.next_clock.load(Relaxed), head.last.load(Relaxed));
        debug_assert_ne!(next_clock, UNKNOWN, "the head of stream {} is not known", entry.stream);
        let before = StreamHead { next_clock, last_sequence: self.heads.last_sequence(head, last) };
        let ordinal = self.push_slot(entry, last);
        head.next_clock.store(next_clock + 1, Relaxed);
        // Publishes the slot: a chain is entered here, above the visible mark.
        head.last.store(ordinal + 1, Release);
        self.count_event(ordinal, time_us);
        before
    }

    /// Adds the next event of a stream that it was taken out of already.
    pub(super) fn push_rewound(&self, entry: IndexEntry, time_us: i64) {
        let ordinal = self.push_slot(entry, self.heads.heads.make(entry.stream as usize).last.load(Relaxed));
        self.count_event(ordinal, time_us);
    }

    #[inline]
    fn push_slot(&self, entry: IndexEntry, previous: u32) -> u32 {
        let ordinal = self.count.load(Relaxed);
        let slot = self.slots.make(ordinal as usize);
        let place = (entry.offset / 8) | (u64::from(entry.kind) << 32) | (u64::from(entry.scope) << 48);
        slot.place.store(place, Relaxed);
        slot.stream.store(u64::from(entry.stream) | (u64::from(previous) << 32), Relaxed);
        ordinal
    }

    #[inline]
    fn count_event(&self, ordinal: u32, time_us: i64) {
        if ordinal == 0 {
            self.first_time_us.store(time_us as u64, Relaxed);
        }
        self.last_time_us.store(time_us as u64, Relaxed);
        self.count.store(ordinal + 1, Release);
    }

    /// Takes the events from ordinal `count` on back, newest first (recovery only: an incomplete batch).
    pub fn truncate(&self, count: u32, last_time_us: i64) {
        for ordinal in (count..self.count()).rev() {
            let slot = self.slots.make(ordinal as usize).stream.load(Relaxed);
            let head = self.heads.heads.make(slot as u32 as usize);
            // Not if it was rewound.
            if head.last.load(Relaxed) == ordinal + 1 {
                head.last.store((slot >> 32) as u32, Relaxed);
                head.next_clock.store(head.next_clock.load(Relaxed) - 1, Relaxed);
            }
        }
        if let Some(keys) = self.keys.get() {
            keys.truncate(count);
        }
        if self.has_cancelled.load(Relaxed) {
            self.write_cancelled().truncate(self.base + u64::from(count));
        }
        self.last_time_us.store(last_time_us as u64, Relaxed);
        self.count.store(count, Release);
    }

    /// Remembers the key of the event that was just pushed.
    #[inline]
    pub fn push_key(&self, hash: u64, ordinal: u32) {
        debug_assert_eq!(ordinal + 1, self.count.load(Relaxed));
        self.keys.get_or_init(|| Box::new(KeyTable::new())).push(hash, ordinal);
    }

    /// Appends the ordinals from `from` on whose key has that hash, ascending; also those of cancelled events.
    #[inline]
    pub fn find_keys(&self, hash: u64, from: u32, found: &mut Vec<u32>) {
        if let Some(keys) = self.keys.get() {
            keys.find(hash, from, found);
        }
    }

    /// How many events here have a key.
    pub fn key_count(&self) -> u64 {
        self.keys.get().map_or(0, |keys| keys.len().into())
    }

    /// All keys: hash and ordinal, by ordinal.
    pub fn keys(&self) -> Vec<(u64, u32)> {
        self.keys.get().map_or_else(Vec::new, |keys| keys.all())
    }

    fn write_cancelled(&self) -> RwLockWriteGuard<'_, Ranges> {
        self.cancelled.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_cancelled(&self) -> RwLockReadGuard<'_, Ranges> {
        self.cancelled.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what of the ranges (start, end exclusive; in any order) lies in this segment's events as cancelled. To take the events out of
    /// their streams is for [`MemoryIndex::rewind`].
    pub fn cancel(&self, ranges: &[(u64, u64)]) {
        let bounds = self.base..self.base + u64::from(self.count());
        let mut cancelled = self.write_cancelled();
        cancelled.add(ranges, bounds);
        self.has_cancelled.store(!cancelled.is_empty(), Release);
    }

    /// Appends the cancelled ranges in `from..to`, clipped to it, ascending.
    pub fn cancelled(&self, from: u64, to: u64, found: &mut Vec<(u64, u64)>) {
        if self.has_cancelled.load(Relaxed) {
            self.read_cancelled().within(from, to, found);
        }
    }

    /// The event was cancelled. What is cancelled when the visible mark passes it is seen here by who has read the mark.
    #[inline]
    pub fn is_cancelled(&self, sequence: u64) -> bool {
        self.has_cancelled.load(Relaxed) && self.read_cancelled().contains(sequence)
    }

    /// All cancelled ranges.
    pub fn cancelled_ranges(&self) -> Vec<(u64, u64)> {
        self.read_cancelled().as_slice().to_vec()
    }

    /// Takes the entity's events from `from_sequence` on out of its stream: its own first event under a fence, for it may have live ones behind
    /// the fence's first. They keep their places and their stream's number. `known` is the stream's head afterwards; without it the events that
    /// are left here tell, and if there is none, the head is unknown.
    pub fn rewind(&self, hash: u64, entity: &[u8], from_sequence: u64, known: Option<StreamHead>) {
        let Some(stream) = self.heads.find(hash, entity) else { return };
        let head = self.heads.heads.make(stream as usize);
        let (mut last, mut next_clock) = (head.last.load(Relaxed), head.next_clock.load(Relaxed));
        while last != 0 && self.base + u64::from(last) > from_sequence {
            last = (self.slots.make(last as usize - 1).stream.load(Relaxed) >> 32) as u32;
            next_clock -= 1;
        }
        debug_assert!(
            last == 0 || known.is_none_or(|known| known.last_sequence == self.base + u64::from(last) - 1),
            "the events left say another head than {known:?}"
        );
        let head_now = match known {
            Some(known) => known,
            None if last == 0 => {
                self.heads.had_unknown.store(true, Relaxed);
                StreamHead { next_clock: UNKNOWN, last_sequence: u64::MAX }
            }
            None => StreamHead { next_clock, last_sequence: head.previous_sequence.load(Relaxed) },
        };
        if last == 0 {
            head.previous_sequence.store(head_now.last_sequence, Relaxed);
        }
        head.next_clock.store(head_now.next_clock, Relaxed);
        head.last.store(last, Release);
    }

    pub fn set_log_end(&self, offset: u64) {
        self.log_end.store(offset, Release);
    }

    pub fn push_epoch(&self, offset: u64, epoch: u64) {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).push((offset, epoch));
    }

    pub fn push_control(&self, control: ControlEntry) {
        self.controls.lock().unwrap_or_else(PoisonError::into_inner).push(control);
    }

    pub fn epochs(&self) -> Vec<(u64, u64)> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn controls(&self) -> Vec<ControlEntry> {
        self.controls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The epoch in force at a byte of the segment.
    pub fn epoch_at(&self, offset: u64) -> u64 {
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.iter().rev().find(|&&(from, _)| from <= offset).map_or(0, |epoch| epoch.1)
    }

    /// The epoch in force at the end.
    pub fn last_epoch(&self) -> u64 {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).last().map_or(0, |e| e.1)
    }

    pub fn times_us(&self) -> (i64, i64) {
        (self.first_time_us.load(Relaxed) as i64, self.last_time_us.load(Relaxed) as i64)
    }

    /// One event's entry.
    #[inline]
    pub fn entry(&self, ordinal: u32) -> Option<IndexEntry> {
        let slot = self.slots.get(ordinal as usize)?;
        let place = slot.place.load(Relaxed);
        Some(IndexEntry {
            offset: (place & 0xFFFF_FFFF) * 8,
            kind: (place >> 32) as u16,
            scope: (place >> 48) as u16,
            stream: slot.stream.load(Relaxed) as u32,
        })
    }

    /// Entities touched here, also those whose append was refused.
    pub fn stream_count(&self) -> usize {
        self.heads.len()
    }

    /// Names with their numbers, for building the sealed index.
    pub fn with_names<R>(&self, read: impl FnOnce(&NameTable, &NameTable) -> R) -> R {
        let entities = self.heads.names.read().unwrap_or_else(PoisonError::into_inner);
        let scopes = self.scopes.read().unwrap_or_else(PoisonError::into_inner);
        read(&entities, &scopes)
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> u64 {
        let names = self.heads.bytes() + self.scopes.read().unwrap_or_else(PoisonError::into_inner).bytes();
        let keys = self.keys.get().map_or(0, |keys| keys.bytes());
        self.slots.bytes() + names + keys + self.read_cancelled().bytes()
    }

    /// The ordinals in `from..to` that the region's entity, scope and kind match, ascending. (The clock range is the reader's to check.)
    pub fn matches(&self, region: &Region, from: u32, to: u32, found: &mut Vec<u32>) -> Result<()> {
        let scope = match &region.scope {
            None => None,
            Some(scope) => match self.find_scope(self.hash(scope.as_bytes()), scope.as_bytes()) {
                None => return Ok(()),
                number => number,
            },
        };
        let wanted = |entry: &IndexEntry| {
            scope.is_none_or(|scope| scope == entry.scope) && region.matches_kind(Kind(entry.kind))
        };
        match &region.entity {
            EntityMatch::Exact(entity) => self.chain(entity.as_bytes(), from, to, wanted, found),
            EntityMatch::Any => self.every(from, to, wanted, found),
            EntityMatch::Prefix(prefix) => {
                let names = self.heads.names();
                let is_named = |stream: u32| {
                    std::str::from_utf8(names.name(stream)).is_ok_and(|name| prefix_matches(prefix, name))
                };
                // A table of answers pays from as many events on as there are streams.
                if ((to - from) as usize) < names.len() {
                    return self.every(from, to, |entry| is_named(entry.stream) && wanted(entry), found);
                }
                let mut known: Vec<Option<bool>> = Vec::new();
                make_room(&mut known, names.len())?;
                known.resize(names.len(), None);
                let mut matches = |stream: u32| *known[stream as usize].get_or_insert_with(|| is_named(stream));
                self.every(from, to, |entry| matches(entry.stream) && wanted(entry), found)
            }
        }
    }

    fn every(
        &self,
        from: u32,
        to: u32,
        mut wanted: impl FnMut(&IndexEntry) -> bool,
        found: &mut Vec<u32>,
    ) -> Result<()> {
        for ordinal in from..to {
            if self.entry(ordinal).is_some_and(|entry| wanted(&entry)) {
                make_room(found, 1)?;
                found.push(ordinal);
            }
        }
        Ok(())
    }

    fn chain(
        &self,
        entity: &[u8],
        from: u32,
        to: u32,
        wanted: impl Fn(&IndexEntry) -> bool,
        found: &mut Vec<u32>,
    ) -> Result<()> {
        let Some(stream) = self.heads.find(self.hash(entity), entity) else { return Ok(()) };
        let first = found.len();
        let mut next = self.heads.heads.make(stream as usize).last.load(Acquire);
        while next > from {
            let ordinal = next - 1;
            let Some(slot) = self.slots.get(ordinal as usize) else { break };
            next = (slot.stream.load(Relaxed) >> 32) as u32;
            if ordinal < to && self.entry(ordinal).is_some_and(|entry| wanted(&entry)) {
                make_room(found, 1)?;
                found.push(ordinal);
            }
        }
        found[first..].reverse();
        Ok(())
    }
}
