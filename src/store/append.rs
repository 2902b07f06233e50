//! Appending: everything that can be refused is refused before the first sequence is given out.
//!
//! Before the append lock: argument checks, hashes, payload checksums, causes (recent ones from memory, older ones by one read).
//! Under it: stream and scope numbers, space, frames into the buffer, the index; no hashing of payloads, no sync (but for the one EPOCH
//! frame of an opening), and no I/O but the write that a PROCESS append consists of.
//! After it: waking who waits; for STORAGE the group commit.
//!
//! Fields of [`Appender`] and who advances them: `next_sequence`, `last_time_us`, `pending` by [`Inner::encode`]; `unsynced`,
//! `directory_unsynced` by [`Inner::rotate`] and, back, by the group commit; `mark` by the group commit and, back, by `encode`.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};

use crate::error::{Error, Result};
use crate::event::{
    CAUSES_MAX, CanonicalHeader, EventId, SEQUENCE_LIMIT, TIME_US_MAX, check_caller_entity, check_caller_kind,
    check_coordinate, leaf_hash, make_room, payload_digest,
};
use crate::format::checksum;
use crate::format::control::{self, Control};
use crate::format::frame::{self, Correlation, EventFields, Reference};
use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::index::StreamHead;
use crate::index::memory::{ControlEntry, Heads, IndexEntry, MemoryIndex};
use crate::io::File;
use crate::io::latch::LatchedFile;
use crate::log::tail::Tail;
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::sync::thread_local;

use super::fence::{FenceKey, FenceTable};
use super::keys::{Original, check_key, is_new_since, reference_to};
use super::options::Durability;
use super::recent::RecentEvent;
use super::{Inner, Store};

/// What has to be true of the entity for an append to happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expected {
    /// Anything.
    #[default]
    Any,
    /// It has no event.
    NoStream,
    /// Its last event has this clock.
    Exact(u64),
}

/// An event to append.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewEvent<'a> {
    /// The stream: UTF-8, 1 to 1024 bytes.
    pub entity: &'a [u8],
    /// An attribute: UTF-8, 1 to 1024 bytes.
    pub scope: &'a [u8],
    /// Category (4 bits) << 12 | type (12 bits).
    pub kind: u32,
    /// The caller's schema version.
    pub schema: u16,
    /// Opaque bytes.
    pub payload: &'a [u8],
    /// Events that led to this one, of this store or others.
    pub causes: &'a [EventId],
    /// Earlier items of the same batch that led to this one; they follow `causes`.
    pub batch_causes: &'a [u32],
    /// Given, else inherited from the first cause, else the event's own id.
    pub correlation: Option<EventId>,
    /// Idempotency key: 16 to 64 bytes, or none.
    pub key: &'a [u8],
    /// Checked under the append lock, against earlier items of the batch too.
    pub expected: Expected,
    /// A cause with this store's tag that is no event of it is another store's (for imports: a tag has 16 bits), instead of an error.
    pub unknown_causes_are_foreign: bool,
}

/// What an append answers for one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Position in the store.
    pub sequence: u64,
    /// Position among the entity's events.
    pub clock: u64,
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
    /// The event's id.
    pub id: EventId,
    /// The correlation id.
    pub correlation_id: EventId,
    /// What the event survives as of the answer; `None` under a fence: its commit decides.
    pub durability: Option<Durability>,
    /// The event had been appended before, with the same key.
    pub duplicate: bool,
}

impl Default for Receipt {
    fn default() -> Receipt {
        Receipt {
            sequence: 0,
            clock: 0,
            time_us: 0,
            id: EventId([0; 16]),
            correlation_id: EventId([0; 16]),
            durability: None,
            duplicate: false,
        }
    }
}

/// A durable position, to be told to recovery by the next write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub durable_sequence: u64,
    pub segment_base: u64,
    pub offset: u64,
}

/// What the append lock guards.
#[derive(Debug)]
pub(crate) struct Appender {
    pub tail: Tail,
    pub index: Arc<MemoryIndex>,
    /// Heads of the segment before, so that busy entities need no look-up after a rotation.
    pub previous_heads: Option<Arc<Heads>>,
    pub next_sequence: u64,
    pub last_time_us: i64,
    pub epoch: u64,
    /// The epoch's EPOCH frame (or its segment header) is durable.
    pub epoch_begun: bool,
    /// Frames were written in this opening, or the log was not closed cleanly before.
    pub needs_close: bool,
    /// STORAGE events that are not durable yet: ranges, ascending.
    pub pending: VecDeque<(u64, u64)>,
    /// Older segments with bytes that are not durable, oldest first, each with the sequence after its last event.
    pub unsynced: VecDeque<(Arc<LatchedFile>, u64)>,
    pub directory_unsynced: bool,
    pub mark: Option<Mark>,
    /// How many frames were written that a waiter waits for though they are no events.
    pub ticket: u64,
    pub fences: FenceTable,
    pub rotations: u64,
    pub closed: bool,
}

impl Appender {
    /// Sequences below it may be seen, of those below `appended`.
    pub fn visible_bound(&self, appended: u64) -> u64 {
        self.pending.front().map_or(appended, |range| range.0).min(self.fences.floor()).min(appended)
    }
}

/// No item, no original.
pub(super) const NO_ITEM: u32 = u32::MAX;

/// What is known of an item before the lock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prepared {
    entity_hash: u64,
    scope_hash: u64,
    payload_crc: u32,
    stream: u32,
    scope: u16,
    kind: u16,
    references: (u32, u32),
    /// Given or inherited; `None`: the own id, or a batch item's.
    pub correlation: Option<EventId>,
    bytes_max: u32,
    pub key_hash: u64,
    /// In `originals`: the event that used the key first.
    pub original: u32,
    /// The first item of the batch with the same key.
    pub same_as: u32,
    /// Once the item is encoded.
    sequence: u64,
}

impl Prepared {
    fn is_new(&self) -> bool {
        self.original == NO_ITEM && self.same_as == NO_ITEM
    }
}

#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub items: Vec<Prepared>,
    references: Vec<Reference>,
    pub originals: Vec<Original>,
    /// Keys were looked for among all events below it.
    pub keys_checked: u64,
    has_keys: bool,
    has_expected: bool,
    /// The next clock of each stream that an expected state was compared with.
    clocks: HashMap<u32, u64>,
}

impl Scratch {
    fn clear(&mut self) {
        self.items.clear();
        self.references.clear();
        self.originals.clear();
        self.clocks.clear();
        (self.keys_checked, self.has_keys, self.has_expected) = (0, false, false);
    }

    /// The event that an item turned out to be, when it was there before.
    pub fn original_of(&self, at: usize) -> Option<&Original> {
        let item = self.items.get(at)?;
        let item = if item.same_as == NO_ITEM { item } else { self.items.get(item.same_as as usize)? };
        self.originals.get(item.original as usize)
    }
}

thread_local! {
    /// Vectors kept between appends of a thread, so that an append allocates nothing.
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

const SCRATCH_ITEMS_KEPT: usize = 4096;

/// The most that one batch may need: its frames are buffered whole.
const BATCH_BYTES_MAX: u64 = 2 << 30;

/// On what terms a batch is appended.
#[derive(Debug, Clone, Copy)]
struct Terms<'a> {
    /// `None` under a fence.
    durability: Option<Durability>,
    fence: Option<&'a FenceKey>,
}

/// How far the numbering of a batch is.
#[derive(Debug, Default)]
struct Progress {
    /// Items numbered, and the most that their frames need.
    items: usize,
    bytes: u64,
    /// The segment that the numbers are of, by how often was rotated; `None` before the first.
    rotations: Option<u64>,
}

/// How a numbering ended.
enum Numbered {
    All,
    /// The segment has as many scopes as a number can name.
    SegmentIsFull,
    /// The head of the next item's entity is to be looked up, without the lock.
    UnknownEntity,
    /// The next item's key may have been used since keys were looked for.
    UnknownKey,
}

pub(super) fn item<T>(result: Result<T>, index: usize, count: usize) -> Result<T> {
    match result {
        Err(error) if count > 1 => Err(Error::BatchItem { index, source: Box::new(error) }),
        result => result,
    }
}

impl Store {
    /// Appends the events, all or none. `receipts` is empty or has a place for each event.
    ///
    /// On return the events survive what the durability says; `None` is the store's default. With an error nothing was appended and no
    /// sequence was used, but for a failed write or sync: then the store is poisoned, and after reopening the events are there or
    /// not, whole.
    pub fn append(
        &self,
        events: &[NewEvent<'_>],
        durability: Option<Durability>,
        receipts: &mut [Receipt],
    ) -> Result<()> {
        self.append_under(events, durability, None, receipts)
    }

    /// As [`Store::append`], under a fence.
    pub(super) fn append_under(
        &self,
        events: &[NewEvent<'_>],
        durability: Option<Durability>,
        fence: Option<&FenceKey>,
        receipts: &mut [Receipt],
    ) -> Result<()> {
        // In a function at the end of the thread or the process it may be gone.
        let mut scratch = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_default();
        let result = self.inner.append(events, durability, fence, receipts, &mut scratch);
        if scratch.items.capacity() <= SCRATCH_ITEMS_KEPT {
            scratch.clear();
            let _ = SCRATCH.try_with(|place| place.set(Some(scratch)));
        }
        result
    }

    /// The leaf hashes of events that were just appended together: `receipts` are the append's.
    pub fn leaf_hashes(&self, events: &[NewEvent<'_>], receipts: &[Receipt], hashes: &mut [[u8; 32]]) {
        let mut causes = Vec::new();
        for ((event, receipt), hash) in events.iter().zip(receipts).zip(hashes) {
            causes.clear();
            causes.extend_from_slice(event.causes);
            causes.extend(
                event.batch_causes.iter().filter_map(|&index| receipts.get(index as usize)).map(|receipt| receipt.id),
            );
            let header = CanonicalHeader {
                sequence: receipt.sequence,
                clock: receipt.clock,
                time_us: receipt.time_us,
                kind: event.kind as u16,
                schema: event.schema,
                correlation_id: receipt.correlation_id.0,
                entity: event.entity,
                scope: event.scope,
                causes: &causes,
            };
            *hash = leaf_hash(&header, &payload_digest(event.payload));
        }
    }
}

impl Inner {
    fn append(
        &self,
        events: &[NewEvent<'_>],
        durability: Option<Durability>,
        fence: Option<&FenceKey>,
        receipts: &mut [Receipt],
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.check_writable("append")?;
        if events.is_empty() {
            return Err(Error::BatchEmpty);
        }
        let durability = match fence {
            Some(_) => None,
            None => Some(durability.unwrap_or(self.options.durability)),
        };
        let terms = Terms { durability, fence };
        scratch.clear();
        make_room(&mut scratch.items, events.len())?;
        for (index, event) in events.iter().enumerate() {
            let prepared = item(self.prepare(event, index, fence, &mut scratch.references), index, events.len())?;
            scratch.items.push(prepared);
            scratch.has_keys |= !event.key.is_empty();
            scratch.has_expected |= event.expected != Expected::Any;
        }
        if scratch.has_keys {
            self.find_duplicates(events, scratch, fence)?;
        }
        if scratch.has_expected && events.len() > 1 {
            let no_memory = |_| Error::NoMemory { bytes: events.len().saturating_mul(size_of::<(u32, u64)>()) };
            scratch.clocks.try_reserve(events.len()).map_err(no_memory)?;
        }
        let now_us = self.options.clock.now_us().min(TIME_US_MAX);
        let mut bound = 0;
        if scratch.items.iter().any(Prepared::is_new) {
            let mut appender = self.make_ready(events, scratch, fence)?;
            bound = self.encode(&mut appender, events, scratch, terms, now_us, receipts)?;
        }
        self.answer_duplicates(scratch, receipts);
        // What was there before is waited for as if it were new.
        bound = scratch.originals.iter().map(|original| original.sequence + 1).fold(bound, u64::max);
        match durability {
            Some(Durability::Storage) if scratch.originals.is_empty() => self.commit(bound)?,
            Some(Durability::Storage) => self.commit_decided(bound)?,
            Some(Durability::Process) | None => self.signals.publish(),
        }
        if !scratch.originals.is_empty() {
            self.tell_durability(durability, scratch, receipts);
        }
        self.helper.throttle(self);
        Ok(())
    }

    /// The receipts of items that were there before, or that are the same as another of the batch.
    fn answer_duplicates(&self, scratch: &Scratch, receipts: &mut [Receipt]) {
        if scratch.originals.is_empty() && !scratch.has_keys {
            return;
        }
        for at in 0..receipts.len().min(scratch.items.len()) {
            if let Some(original) = scratch.original_of(at) {
                receipts[at] = Receipt {
                    sequence: original.sequence,
                    clock: original.clock,
                    time_us: original.time_us,
                    id: original.id,
                    correlation_id: original.correlation_id,
                    durability: None,
                    duplicate: true,
                };
            } else if scratch.items[at].same_as != NO_ITEM {
                receipts[at] = Receipt { duplicate: true, ..receipts[scratch.items[at].same_as as usize] };
            }
        }
    }

    /// What duplicates survive by now.
    #[cold]
    fn tell_durability(&self, asked: Option<Durability>, scratch: &Scratch, receipts: &mut [Receipt]) {
        let (durable, floor) =
            (self.marks.durable.load(Ordering::Acquire), self.marks.seal_floor.load(Ordering::Acquire));
        for (at, receipt) in receipts.iter_mut().enumerate() {
            let Some(original) = scratch.original_of(at) else { continue };
            // A fence's event may be durable while its commit is not.
            let bound = if original.is_fenced { durable.min(floor) } else { durable };
            receipt.durability = match asked {
                _ if original.is_undecided => None,
                Some(Durability::Storage) => asked,
                _ if original.sequence < bound => Some(Durability::Storage),
                _ => Some(Durability::Process),
            };
        }
    }

    /// All checks and computations that need no lock.
    fn prepare(
        &self,
        event: &NewEvent<'_>,
        index: usize,
        fence: Option<&FenceKey>,
        references: &mut Vec<Reference>,
    ) -> Result<Prepared> {
        let kind = check_caller_kind(event.kind)?.0;
        if event.payload.len() > self.options.payload_bytes_max {
            return Err(Error::PayloadTooLarge { length: event.payload.len(), limit: self.options.payload_bytes_max });
        }
        check_key(event.key)?;
        // Coordinates that the index knows were checked when they got there; lengths bound what is hashed.
        for (part, bytes) in [("entity", event.entity), ("scope", event.scope)] {
            if bytes.is_empty() || bytes.len() > crate::event::COORDINATE_BYTES_MAX {
                check_coordinate(part, bytes)?;
            }
        }
        let count = event.causes.len() + event.batch_causes.len();
        let start = references.len() as u32;
        let mut correlation = event.correlation;
        if count > 0 {
            if count > CAUSES_MAX {
                return Err(Error::TooManyCauses { count });
            }
            if let Some(&bad) = event.batch_causes.iter().find(|&&cause| cause as usize >= index) {
                return Err(Error::CauseNotEarlier { index: bad });
            }
            make_room(references, count)?;
            for (at, &cause) in event.causes.iter().enumerate() {
                let (reference, inherited) = match self.resolve_cause(cause, fence) {
                    Err(Error::CauseUnknown { .. }) if event.unknown_causes_are_foreign => {
                        (Reference::Foreign(cause), None)
                    }
                    resolved => resolved?,
                };
                if at == 0 && correlation.is_none() {
                    correlation = inherited;
                }
                references.push(reference);
            }
            // Items of this batch get their sequence under the lock.
            references.extend(
                event.batch_causes.iter().map(|&cause| Reference::Local { sequence: cause.into(), time_us: 0 }),
            );
        }
        Ok(Prepared {
            entity_hash: self.name_hash(event.entity),
            scope_hash: self.name_hash(event.scope),
            payload_crc: checksum::crc32c(event.payload),
            stream: 0,
            scope: 0,
            kind,
            references: (start, references.len() as u32),
            correlation,
            bytes_max: frame::event_length_max(event.entity.len(), event.scope.len(), count, event.payload.len())
                as u32,
            key_hash: if event.key.is_empty() { 0 } else { self.name_hash(event.key) },
            original: NO_ITEM,
            same_as: NO_ITEM,
            sequence: 0,
        })
    }

    /// How a cause is stored, and the correlation id to inherit from it (none from another store's event).
    fn resolve_cause(&self, cause: EventId, fence: Option<&FenceKey>) -> Result<(Reference, Option<EventId>)> {
        if cause.tag() != self.tag || !cause.is_well_formed() {
            return Ok((Reference::Foreign(cause), None));
        }
        let sequence = cause.sequence();
        let unknown = || Error::CauseUnknown { id: cause.to_string() };
        if sequence >= self.marks.appended.load(Ordering::Acquire) {
            return Err(unknown());
        }
        self.check_pending("cause", sequence, fence)?;
        let known = match self.recent.get(sequence) {
            Some(recent) => recent,
            None => self.read_recent(sequence)?.ok_or_else(unknown)?,
        };
        if known.time_us != cause.time_us() {
            return Err(unknown());
        }
        Ok((Reference::Local { sequence, time_us: known.time_us }, Some(known.correlation_id)))
    }

    /// Takes the append lock with every stream and scope numbered and the segment chosen: from here on nothing is refused but
    /// for lack of space.
    fn make_ready(
        &self,
        events: &[NewEvent<'_>],
        scratch: &mut Scratch,
        fence: Option<&FenceKey>,
    ) -> Result<MutexGuard<'_, Option<Appender>>> {
        let mut guard = self.lock_appender();
        let mut progress = Progress::default();
        loop {
            self.latch.check()?;
            let appender = guard.as_mut().filter(|appender| !appender.closed).ok_or(Error::Closed { what: "store" })?;
            if appender.next_sequence + events.len() as u64 > SEQUENCE_LIMIT {
                return Err(Error::SequenceExhausted);
            }
            if progress.rotations != Some(appender.rotations) {
                // Numbers are a segment's own.
                progress = Progress { rotations: Some(appender.rotations), ..Progress::default() };
            }
            if !appender.fences.is_empty() && self.fence_is_over() {
                drop(guard);
                self.expire_fences();
                guard = self.lock_appender();
                continue;
            }
            if let Some(fence) = fence {
                appender.fences.check_open(fence)?;
            }
            match self.number(appender, events, scratch, &mut progress)? {
                Numbered::All => {}
                Numbered::SegmentIsFull => {
                    self.rotate(appender)?;
                    continue;
                }
                Numbered::UnknownEntity => {
                    let cancels = appender.fences.cancels();
                    drop(guard);
                    let (hash, entity) = (scratch.items[progress.items].entity_hash, events[progress.items].entity);
                    let head = self.find_head(hash, entity)?;
                    guard = self.lock_appender();
                    // Only if no segment was left meanwhile does the look-up cover all but the active one, and only if no fence was
                    // cancelled is what it found still so.
                    let is_current = |now: &&mut Appender| {
                        Some(now.rotations) == progress.rotations && now.fences.cancels() == cancels
                    };
                    if let Some(appender) = guard.as_mut().filter(is_current) {
                        appender.index.make_room_for_names(entity.len(), 0)?;
                        let heads = appender.index.heads();
                        match heads.find(hash, entity) {
                            None => {
                                appender.index.insert_stream(hash, entity, head);
                            }
                            Some(stream) if heads.known_head(stream).is_none() => heads.set_head(stream, head),
                            Some(_) => {}
                        }
                    }
                    continue;
                }
                Numbered::UnknownKey => {
                    drop(guard);
                    self.find_duplicates(events, scratch, fence)?;
                    guard = self.lock_appender();
                    // Items that turned out to be duplicates need no room.
                    progress = Progress::default();
                    if !scratch.items.iter().any(Prepared::is_new) {
                        return Ok(guard);
                    }
                    continue;
                }
            }
            if !appender.fences.is_empty() {
                let new = events.iter().enumerate().filter(|(at, _)| scratch.items[*at].is_new());
                let owned = appender.fences.check_owned(new.map(|(at, event)| (at, event.entity)), fence);
                owned.or_else(|(at, error)| item(Err(error), at, events.len()))?;
            }
            if scratch.has_expected {
                check_expected(appender, events, scratch)?;
            }
            if progress.bytes > BATCH_BYTES_MAX {
                return Err(Error::BatchTooLarge { bytes: progress.bytes, limit: BATCH_BYTES_MAX });
            }
            let controls = appender.fences.owed_bytes() + (control::MARK_BYTES + control::EPOCH_BYTES) as u64;
            let room = progress.bytes + controls;
            if !appender.tail.fits(room) && appender.index.count() > 0 {
                self.rotate(appender)?;
                continue;
            }
            appender.tail.make_room(room as usize)?;
            appender.index.make_room(events.len(), if scratch.has_keys { events.len() } else { 0 })?;
            appender.tail.reserve(room)?;
            self.begin_epoch(appender)?;
            return Ok(guard);
        }
    }

    /// Numbers the streams and scopes of the items from `progress.items` on, giving numbers to names that the segment does not have.
    fn number(
        &self,
        appender: &Appender,
        events: &[NewEvent<'_>],
        scratch: &mut Scratch,
        progress: &mut Progress,
    ) -> Result<Numbered> {
        let index = &appender.index;
        let (has_keys, checked, items) = (scratch.has_keys, scratch.keys_checked, &mut scratch.items[..]);
        loop {
            let (streams, scopes) = (index.heads().names(), index.scopes());
            while let (Some(event), Some(prepared)) = (events.get(progress.items), items.get_mut(progress.items)) {
                if has_keys {
                    if !prepared.is_new() {
                        progress.items += 1;
                        continue;
                    }
                    if !event.key.is_empty() && !is_new_since(index, prepared.key_hash, checked) {
                        return Ok(Numbered::UnknownKey);
                    }
                }
                let stream = streams.find(prepared.entity_hash, event.entity);
                let scope = scopes.find(prepared.scope_hash, event.scope);
                let (Some(stream), Some(scope)) = (stream, scope) else { break };
                if !index.heads().is_known(stream) {
                    return Ok(Numbered::UnknownEntity);
                }
                (prepared.stream, prepared.scope) = (stream, scope as u16);
                progress.bytes += u64::from(prepared.bytes_max);
                progress.items += 1;
            }
            drop((streams, scopes));
            let at = progress.items;
            let Some(event) = events.get(at) else { return Ok(Numbered::All) };
            let (entity_hash, scope_hash) = (items[at].entity_hash, items[at].scope_hash);
            index.make_room_for_names(event.entity.len(), event.scope.len())?;
            if index.heads().find(entity_hash, event.entity).is_none() {
                item(check_caller_entity(event.entity), at, events.len())?;
                match self.known_head(appender, entity_hash, event.entity) {
                    Some(head) => index.insert_stream(entity_hash, event.entity, head),
                    None => return Ok(Numbered::UnknownEntity),
                };
            }
            if index.find_scope(scope_hash, event.scope).is_none() {
                item(check_coordinate("scope", event.scope), at, events.len())?;
                if index.insert_scope(scope_hash, event.scope).is_none() {
                    if index.count() > 0 {
                        return Ok(Numbered::SegmentIsFull);
                    }
                    // No event refers to them yet.
                    index.clear_scopes();
                    return Err(Error::InvalidArgument {
                        what: "the number of different scopes in the batch",
                        value: String::from("above 65535"),
                        remedy: "split the batch",
                    });
                }
            }
        }
    }

    /// The head of an entity that is not in the active segment, if memory knows it.
    fn known_head(&self, appender: &Appender, hash: u64, entity: &[u8]) -> Option<StreamHead> {
        if let Some(heads) = &appender.previous_heads {
            if let Some(head) = heads.find(hash, entity).and_then(|stream| heads.known_head(stream)) {
                return Some(head);
            }
        }
        (self.segments().len() == 1).then_some(StreamHead::NEW)
    }

    /// The head of an entity as of the end of the sealed segments: newest first, one filter probe each. No lock is held.
    pub(super) fn find_head(&self, hash: u64, entity: &[u8]) -> Result<StreamHead> {
        let segments = self.segments();
        for at in (0..segments.len() - 1).rev() {
            let head =
                segments[at].with_index(&self.library, segments[at + 1].base, |index| index.head(hash, entity))?;
            if let Some(head) = head {
                return Ok(head);
            }
        }
        Ok(StreamHead::NEW)
    }

    /// Writes and syncs the EPOCH frame before the first append of an opening.
    pub(super) fn begin_epoch(&self, appender: &mut Appender) -> Result<()> {
        if appender.epoch_begun {
            return Ok(());
        }
        let offset = appender.tail.offset();
        if !appender.needs_close {
            // The CLOSE here may be in the page cache only: by a kill before its sync, or by a sync that failed and dropped its bytes, which
            // are then never written unless they are written again. EPOCH says that it is durable, so it is synced first.
            let close = offset - control::CLOSE_BYTES.min(offset as usize - SEGMENT_HEADER_BYTES) as u64;
            let file = appender.tail.space().file();
            let mut bytes = [0; control::CLOSE_BYTES];
            let read = file.read_at(&mut bytes[..(offset - close) as usize], close)?;
            file.write_at(&bytes[..read], close)?;
            file.sync_data()?;
        }
        let epoch = appender.epoch + 1;
        appender.tail.set_epoch(&self.store_id, epoch);
        let frame = Control::Epoch { epoch, time_us: appender.last_time_us };
        self.write_control(appender, &frame);
        appender.tail.flush(false)?;
        appender.tail.space().file().sync_data()?;
        appender.index.push_epoch(offset, epoch);
        appender.index.push_control(ControlEntry {
            offset,
            sequence: appender.next_sequence,
            frame_type: control::TYPE_EPOCH,
        });
        appender.index.set_log_end(appender.tail.offset());
        (appender.epoch, appender.epoch_begun, appender.needs_close) = (epoch, true, true);
        Ok(())
    }

    /// Encodes a control frame at the tail. Space for it is reserved.
    pub(super) fn write_control(&self, appender: &mut Appender, control: &Control) {
        let mut bytes = Vec::with_capacity(64);
        control::encode_control(&mut bytes, appender.next_sequence, control, appender.tail.seed());
        appender.tail.place(bytes.len()).copy_from_slice(&bytes);
        appender.tail.advance(bytes.len());
    }

    /// As [`Inner::write_control`], and the index knows of it.
    pub(super) fn write_indexed(&self, appender: &mut Appender, control: &Control) {
        let entry = ControlEntry {
            offset: appender.tail.offset(),
            sequence: appender.next_sequence,
            frame_type: control.frame_type(),
        };
        self.write_control(appender, control);
        appender.index.push_control(entry);
        appender.index.set_log_end(appender.tail.offset());
    }

    /// What every write begins with: the MARK of the sync before it, and the cancellations that the log does not have yet.
    #[inline]
    pub(super) fn write_first(&self, appender: &mut Appender) {
        if let Some(mark) = appender.mark.take() {
            let (next, seed) = (appender.next_sequence, appender.tail.seed());
            let out = appender.tail.place(control::MARK_BYTES);
            control::encode_mark(out, next, mark.durable_sequence, mark.segment_base, mark.offset, seed);
            appender.tail.advance(control::MARK_BYTES);
        }
        if appender.fences.owes() {
            for cancelled in appender.fences.take_owed() {
                self.write_indexed(appender, &cancelled);
            }
        }
    }

    /// Gives out sequences, encodes frames, moves index and marks. Returns the bound that a STORAGE append has to wait for.
    fn encode(
        &self,
        guard: &mut Option<Appender>,
        events: &[NewEvent<'_>],
        scratch: &mut Scratch,
        Terms { durability, fence }: Terms<'_>,
        now_us: i64,
        receipts: &mut [Receipt],
    ) -> Result<u64> {
        let appender = guard.as_mut().ok_or(Error::Closed { what: "store" })?;
        let Some(last) = scratch.items.iter().rposition(Prepared::is_new) else { return Ok(0) };
        let first = appender.next_sequence;
        let time_us = now_us.max(appender.last_time_us);
        let (tag, seed) = (self.tag, appender.tail.seed());
        let fence_id = fence.and_then(|fence| appender.fences.id(fence, first));
        self.write_first(appender);
        let mut sequence = first;
        let Scratch { items, references, originals, .. } = scratch;
        for (at, event) in events.iter().enumerate().take(last + 1) {
            let (earlier, rest) = items.split_at_mut(at);
            let prepared = &mut rest[0];
            if !prepared.is_new() {
                continue;
            }
            let (start, end) = (prepared.references.0 as usize, prepared.references.1 as usize);
            let given = end - event.batch_causes.len();
            let mut correlation_id = prepared.correlation;
            for (place, &cause) in (given..end).zip(event.batch_causes) {
                let (reference, correlation) = batch_cause(earlier, originals, cause as usize, time_us);
                references[place] = reference;
                if place == start {
                    correlation_id = correlation_id.or(correlation);
                }
            }
            let id = EventId::derive(time_us, sequence, tag);
            let correlation = match correlation_id {
                None => Correlation::Own,
                Some(given) if given == id => Correlation::Own,
                Some(given)
                    if given.tag() == tag
                        && given.is_well_formed()
                        && given.sequence() < sequence
                        && given.time_us() <= time_us =>
                {
                    Correlation::Local { sequence: given.sequence(), time_us: given.time_us() }
                }
                Some(given) => Correlation::Full(given),
            };
            let correlation_id = correlation_id.unwrap_or(id);
            (prepared.correlation, prepared.sequence) = (Some(correlation_id), sequence);
            let offset = appender.tail.offset();
            let entry = IndexEntry { offset, kind: prepared.kind, scope: prepared.scope, stream: prepared.stream };
            let head = appender.index.push(entry, time_us);
            let fields = EventFields {
                sequence,
                clock: head.next_clock,
                time_us,
                prev_sequence: head.last_sequence,
                kind: prepared.kind,
                schema: event.schema,
                more: at < last,
                continued: sequence > first,
                entity: event.entity,
                scope: event.scope,
                correlation,
                causes: &references[start..end],
                payload: event.payload,
                payload_crc: prepared.payload_crc,
                key: (!event.key.is_empty()).then_some(event.key),
                fence: fence_id,
            };
            let length = frame::encode_event(appender.tail.place(prepared.bytes_max as usize), &fields, seed, tag);
            appender.tail.advance(length);
            if !event.key.is_empty() {
                appender.index.push_key(prepared.key_hash, appender.index.count() - 1);
            }
            self.recent.put(sequence, RecentEvent { time_us, correlation_id });
            if let Some(fence) = fence {
                appender.fences.note(fence, sequence, event.entity, head);
            }
            if let Some(receipt) = receipts.get_mut(at) {
                *receipt = Receipt {
                    sequence,
                    clock: head.next_clock,
                    time_us,
                    id,
                    correlation_id,
                    durability,
                    duplicate: false,
                };
            }
            sequence += 1;
        }
        let bound = sequence;
        (appender.next_sequence, appender.last_time_us, appender.needs_close) = (bound, time_us, true);
        match durability {
            Some(Durability::Process) => {
                self.mapped.store(true, Ordering::Relaxed);
                appender.tail.flush(true)?;
            }
            // A fence's events wait for its commit; not all of them in memory.
            None if appender.tail.buffered() > FENCE_BUFFER_BYTES => {
                appender.tail.flush(self.mapped.load(Ordering::Relaxed))?
            }
            _ => {}
        }
        appender.index.set_log_end(appender.tail.offset());
        self.marks.appended.store(bound, Ordering::Release);
        match durability {
            Some(Durability::Storage) => match appender.pending.back_mut() {
                Some(last) if last.1 == first => last.1 = bound,
                _ => appender.pending.push_back((first, bound)),
            },
            Some(Durability::Process) if appender.pending.is_empty() && appender.fences.is_quiet() => {
                self.marks.visible.store(bound, Ordering::Release);
            }
            Some(Durability::Process) => {
                self.marks.visible.fetch_max(appender.visible_bound(bound), Ordering::AcqRel);
            }
            None => self.fences_changed(appender),
        }
        self.helper.look_ahead(self, appender);
        Ok(bound)
    }

    pub(super) fn lock_appender(&self) -> MutexGuard<'_, Option<Appender>> {
        self.append.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An earlier item of the batch as a cause, and the correlation id to inherit from it.
fn batch_cause(earlier: &[Prepared], originals: &[Original], at: usize, time_us: i64) -> (Reference, Option<EventId>) {
    let same_as = earlier[at].same_as;
    let item = &earlier[if same_as == NO_ITEM { at } else { same_as as usize }];
    match originals.get(item.original as usize) {
        Some(original) => (reference_to(original), Some(original.correlation_id)),
        None => (Reference::Local { sequence: item.sequence, time_us }, item.correlation),
    }
}

/// Compares what items expect with what is, as earlier items of the batch will have made it.
fn check_expected(appender: &Appender, events: &[NewEvent<'_>], scratch: &mut Scratch) -> Result<()> {
    let heads = appender.index.heads();
    let Scratch { items, clocks, .. } = scratch;
    clocks.clear();
    for (at, (event, prepared)) in events.iter().zip(items).enumerate().filter(|(_, (_, item))| item.is_new()) {
        let next_clock = match events.len() {
            1 => heads.head(prepared.stream).next_clock,
            _ => *clocks.entry(prepared.stream).or_insert_with(|| heads.head(prepared.stream).next_clock),
        };
        let (expected, is_met) = match event.expected {
            Expected::Any => (None, true),
            Expected::NoStream => (None, next_clock == 0),
            Expected::Exact(clock) => (Some(clock), clock.checked_add(1) == Some(next_clock)),
        };
        if !is_met {
            let entity = String::from_utf8_lossy(event.entity).into_owned();
            let error = Error::ExpectedState { entity, expected, actual: next_clock.checked_sub(1) };
            return item(Err(error), at, events.len());
        }
        if events.len() > 1 {
            clocks.insert(prepared.stream, next_clock + 1);
        }
    }
    Ok(())
}

/// Bytes of undecided fences that may wait in memory.
const FENCE_BUFFER_BYTES: usize = 256 << 10;
