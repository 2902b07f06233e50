//! Idempotency: an append whose key was used before returns the receipt of then.
//!
//! Keys of the active segment, and of those that wait for their index, are found in memory; those of sealed segments in the KEYS table of their
//! index, read in place, behind a filter that is in memory. Only segments of the window are asked: newest first, until the keyed events of
//! those asked are as many as the store's key window. So the window is kept to whole segments: at least as many keys as it says.
//!
//! A look-up happens before the append lock, for everything appended so far; under the lock only keys that came since are looked for, in
//! memory. A hit is a hash: the event is read and its key compared, then its content.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use crate::error::{Error, Result};
use crate::event::EventId;
use crate::format::frame::{DecodedEvent, KEY_BYTES_MAX, KEY_BYTES_MIN, Reference};
use crate::index::memory::MemoryIndex;
use crate::index::sealed::KeyFilter;
use crate::sync::RwLock;
use crate::sync::atomic::Ordering;

use super::append::{NO_ITEM, NewEvent, Prepared, Scratch, item};
use super::fence::FenceKey;
use super::segments::{Index, Segment};
use super::{Inner, scan};

/// The event that used a key first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Original {
    pub sequence: u64,
    pub clock: u64,
    pub time_us: i64,
    pub id: EventId,
    pub correlation_id: EventId,
    /// It was appended under a fence; and that is the caller's own, and not decided.
    pub is_fenced: bool,
    pub is_undecided: bool,
}

/// A sealed segment of the window.
#[derive(Debug)]
struct SealedKeys {
    base: u64,
    /// The next segment's base.
    end: u64,
    segment: Arc<Segment>,
    filter: Arc<KeyFilter>,
}

/// The segments that keys are looked for in, newest first.
#[derive(Debug, Default)]
struct Window {
    version: u64,
    in_memory: Vec<(u64, Arc<Segment>)>,
    sealed: Vec<SealedKeys>,
}

/// The window, made anew when the segments have changed.
#[derive(Debug, Default)]
pub(super) struct KeyWindow {
    window: RwLock<Option<Arc<Window>>>,
}

pub(super) fn check_key(key: &[u8]) -> Result<()> {
    match key.len() {
        0 | KEY_BYTES_MIN..=KEY_BYTES_MAX => Ok(()),
        length => Err(Error::KeyLength { length }),
    }
}

impl KeyWindow {
    /// Bytes of the filters in memory.
    pub fn bytes(&self) -> u64 {
        let window = self.window.read().unwrap_or_else(PoisonError::into_inner);
        window.iter().flat_map(|window| &window.sealed).map(|keys| keys.filter.bytes()).sum()
    }
}

impl Inner {
    fn key_window_now(&self) -> Result<Arc<Window>> {
        let version = self.segments_version.load(Ordering::Acquire);
        if let Some(window) = &*self.keys.window.read().unwrap_or_else(PoisonError::into_inner) {
            if window.version == version {
                return Ok(window.clone());
            }
        }
        let mut place = self.keys.window.write().unwrap_or_else(PoisonError::into_inner);
        let mut known: HashMap<u64, Arc<KeyFilter>> = match &*place {
            Some(window) => window.sealed.iter().map(|keys| (keys.base, keys.filter.clone())).collect(),
            None => HashMap::new(),
        };
        let segments = self.segments();
        let mut window = Window { version, ..Window::default() };
        let (mut keys, mut end) = (0, u64::MAX);
        for (at, segment) in segments.iter().enumerate().rev() {
            if keys >= self.key_window {
                break;
            }
            let (count, filter) = segment.with_index(&self.library, end, |index| match index {
                Index::Memory(_) => Ok((index.key_count(), None)),
                Index::Sealed(sealed) => match known.remove(&segment.base) {
                    Some(filter) => Ok((index.key_count(), Some(filter))),
                    None => Ok((index.key_count(), sealed.key_filter()?.map(Arc::new))),
                },
            })?;
            match filter {
                Some(filter) => {
                    window.sealed.push(SealedKeys { base: segment.base, end, segment: segment.clone(), filter });
                }
                None if at == segments.len() - 1 || count > 0 => window.in_memory.push((end, segment.clone())),
                None => {}
            }
            keys += count;
            end = segment.base;
        }
        let window = Arc::new(window);
        *place = Some(window.clone());
        Ok(window)
    }

    /// Looks for the keys of all items among what was appended at or above `scratch.keys_checked`, and notes how far it looked. Items that are
    /// duplicates know their original then. No lock is held.
    pub(super) fn find_duplicates(
        &self,
        events: &[NewEvent<'_>],
        scratch: &mut Scratch,
        own: Option<&FenceKey>,
    ) -> Result<()> {
        let (from, bound) = (scratch.keys_checked, self.marks.appended.load(Ordering::Acquire));
        let window = self.key_window_now()?;
        if from == 0 {
            link_same_keys(events, scratch)?;
        }
        let mut found = Vec::new();
        for at in 0..events.len() {
            let Prepared { key_hash, original, same_as, .. } = scratch.items[at];
            if events[at].key.is_empty() || original != NO_ITEM || same_as != NO_ITEM {
                continue;
            }
            found.clear();
            self.find_key(&window, key_hash, from, bound, &mut found)?;
            // Newest first: of a key used again after its first event was cancelled, the last one counts.
            found.sort_unstable_by(|a, b| b.cmp(a));
            for &sequence in &found {
                let original = item(self.compare(sequence, events, scratch, at, own), at, events.len())?;
                if let Some(original) = original {
                    scratch.items[at].original = scratch.originals.len() as u32;
                    scratch.items[at].correlation = Some(original.correlation_id);
                    scratch.originals.push(original);
                    break;
                }
            }
        }
        scratch.keys_checked = bound;
        Ok(())
    }

    /// The id of the event that has used a key; `None`: none that counts.
    pub(super) fn id_of_key(&self, key: &[u8]) -> Result<Option<EventId>> {
        let bound = self.marks.appended.load(Ordering::Acquire);
        let mut found = Vec::new();
        self.find_key(&*self.key_window_now()?, self.name_hash(key), 0, bound, &mut found)?;
        found.sort_unstable_by(|a, b| b.cmp(a));
        for sequence in found {
            self.make_readable(sequence)?;
            let id = scan::read_one(self, sequence, |event| {
                (event.key == Some(key)).then_some((event.id, event.fence.is_some()))
            })?;
            match id {
                Some((id, is_fenced)) if !is_fenced || !self.is_cancelled(sequence)? => return Ok(Some(id)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Sequences in `from..bound` whose key has the hash.
    fn find_key(&self, window: &Window, hash: u64, from: u64, bound: u64, found: &mut Vec<u64>) -> Result<()> {
        let mut ordinals = Vec::new();
        for (end, segment) in &window.in_memory {
            if *end <= from {
                break;
            }
            let first = from.saturating_sub(segment.base) as u32;
            segment.with_index(&self.library, *end, |index| {
                ordinals.clear();
                index.find_keys(hash, first, &mut ordinals)
            })?;
            found.extend(ordinals.iter().map(|&ordinal| segment.base + u64::from(ordinal)));
        }
        for keys in window.sealed.iter().take_while(|keys| keys.end > from) {
            if keys.filter.may_contain(hash) {
                keys.segment.with_index(&self.library, keys.end, |index| {
                    ordinals.clear();
                    index.find_keys(hash, 0, &mut ordinals)
                })?;
                found.extend(ordinals.iter().map(|&ordinal| keys.base + u64::from(ordinal)));
            }
        }
        found.retain(|&sequence| (from..bound).contains(&sequence));
        Ok(())
    }

    /// Holds the event at `sequence` against an item whose key has the same hash. `None`: the key is another, or the event was cancelled.
    fn compare(
        &self,
        sequence: u64,
        events: &[NewEvent<'_>],
        scratch: &Scratch,
        at: usize,
        own: Option<&FenceKey>,
    ) -> Result<Option<Original>> {
        self.make_readable(sequence)?;
        let event = &events[at];
        let looked_at = scan::read_one(self, sequence, |found| {
            if found.key != Some(event.key) {
                return None;
            }
            let original = Original {
                sequence,
                clock: found.clock,
                time_us: found.time_us,
                id: found.id,
                correlation_id: found.correlation_id,
                is_fenced: found.fence.is_some(),
                is_undecided: false,
            };
            Some((original, difference(found, events, scratch, at)))
        })?;
        let Some((mut original, difference)) = looked_at else { return Ok(None) };
        if original.is_fenced {
            if self.is_cancelled(sequence)? {
                return Ok(None);
            }
            original.is_undecided = self.check_pending("key", sequence, own)?;
            // Cancelled between the two looks.
            if self.is_cancelled(sequence)? {
                return Ok(None);
            }
        }
        match difference {
            None => Ok(Some(original)),
            Some(difference) => Err(conflict(event.key, format!("event {sequence}"), difference)),
        }
    }

    /// The bytes of an appended event are where reads find them: not in the buffer of the tail any more.
    pub(super) fn make_readable(&self, sequence: u64) -> Result<()> {
        if sequence < self.marks.visible.load(Ordering::Acquire) {
            return Ok(());
        }
        match &mut *self.lock_appender() {
            Some(appender) => appender.tail.flush(self.mapped.load(Ordering::Relaxed)),
            None => Ok(()),
        }
    }
}

/// Under the append lock: no event at or above `checked` has a key of this hash.
#[inline]
pub(super) fn is_new_since(index: &MemoryIndex, hash: u64, checked: u64) -> bool {
    let Some(from) = checked.checked_sub(index.base()) else { return false };
    if u64::from(index.count()) <= from {
        return true;
    }
    let mut found = Vec::new();
    index.find_keys(hash, from as u32, &mut found);
    found.is_empty()
}

fn conflict(key: &[u8], first: String, difference: &'static str) -> Error {
    let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
    Error::IdempotencyConflict { key, first, difference }
}

/// Finds items of the batch that have the same key: the later ones are duplicates of the first, or conflicts.
fn link_same_keys(events: &[NewEvent<'_>], scratch: &mut Scratch) -> Result<()> {
    if events.len() == 1 {
        return Ok(());
    }
    let mut first_of: HashMap<&[u8], u32> = HashMap::with_capacity(events.len());
    for (at, event) in events.iter().enumerate().filter(|(_, event)| !event.key.is_empty()) {
        let first = *first_of.entry(event.key).or_insert(at as u32);
        if first as usize == at {
            continue;
        }
        if let Some(difference) = difference_of_items(&events[first as usize], event, scratch) {
            let error = conflict(event.key, format!("item {first} of the batch"), difference);
            return item(Err(error), at, events.len());
        }
        scratch.items[at].same_as = first;
    }
    Ok(())
}

fn difference_of_items(first: &NewEvent<'_>, second: &NewEvent<'_>, scratch: &Scratch) -> Option<&'static str> {
    let first_item = |&cause: &u32| match scratch.items[cause as usize].same_as {
        NO_ITEM => cause,
        same => same,
    };
    let same_causes = first.causes == second.causes
        && first.batch_causes.len() == second.batch_causes.len()
        && first.batch_causes.iter().map(first_item).eq(second.batch_causes.iter().map(first_item));
    first_difference([
        ("entity", first.entity == second.entity),
        ("scope", first.scope == second.scope),
        ("kind", first.kind == second.kind),
        ("schema", first.schema == second.schema),
        ("cause", same_causes),
        ("correlation id", first.correlation == second.correlation),
        ("payload", first.payload == second.payload),
    ])
}

/// What sets the event apart from the item; `None` when it is the same append, done before.
fn difference(found: &DecodedEvent<'_>, events: &[NewEvent<'_>], scratch: &Scratch, at: usize) -> Option<&'static str> {
    let event = &events[at];
    let cause_of = |&cause: &u32| scratch.original_of(cause as usize);
    let mut causes = found.causes.ids();
    let same_causes = causes.len() == event.causes.len() + event.batch_causes.len()
        && event.causes.iter().all(|cause| causes.next() == Some(*cause))
        && event.batch_causes.iter().all(|cause| causes.next() == cause_of(cause).map(|original| original.id));
    let inherited = match event.batch_causes.first() {
        Some(cause) if event.causes.is_empty() => cause_of(cause).map(|original| original.correlation_id),
        _ => scratch.items[at].correlation,
    };
    let correlation = event.correlation.or(inherited).unwrap_or(found.id);
    first_difference([
        ("entity", found.entity == event.entity),
        ("scope", found.scope == event.scope),
        ("kind", u32::from(found.kind) == event.kind),
        ("schema", found.schema == event.schema),
        ("cause", same_causes),
        ("correlation id", found.correlation_id == correlation),
        ("payload", found.payload == event.payload),
    ])
}

fn first_difference<const N: usize>(parts: [(&'static str, bool); N]) -> Option<&'static str> {
    parts.into_iter().find(|(_, is_same)| !is_same).map(|(part, _)| part)
}

/// A reference to an event that was there before.
pub(super) fn reference_to(original: &Original) -> Reference {
    Reference::Local { sequence: original.sequence, time_us: original.time_us }
}
