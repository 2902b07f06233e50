//! The segments of an open store, each with the index that finds its events.
//!
//! A segment's index is in one of three states: in memory (the active segment, and sealed ones whose file is not written yet), on
//! disk and open, or not looked at yet. An index file that is missing or does not hold together is rebuilt from the segment when it
//! is needed; only the segment itself can be damaged.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use crate::error::{Error, Result};
use crate::event::{Region, StoreId, make_room};
use crate::format::control::Control;
use crate::format::frame::DecodedEvent;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, index_name, parse_segment_name, segment_name};
use crate::index::StreamHead;
use crate::index::build;
use crate::index::memory::{ControlEntry, IndexEntry, MemoryIndex};
use crate::index::pages::PageCache;
use crate::index::sealed::SealedIndex;
use crate::io::{Directory, Storage};
use crate::log::damaged;
use crate::log::files::{FilePool, FileSlot};
use crate::log::recovery::{Sink, read_header, scan_segment};
use crate::log::walk::{Step, Stop, Walk};
use crate::sync::{Mutex, RwLock};

/// An open index.
#[derive(Debug, Clone)]
pub(crate) enum Index {
    Memory(Arc<MemoryIndex>),
    Sealed(Arc<SealedIndex>),
}

impl Index {
    pub fn matches(&self, region: &Region, from: u32, to: u32, found: &mut Vec<u32>) -> Result<()> {
        match self {
            Index::Memory(index) => index.matches(region, from, to, found),
            Index::Sealed(index) => index.matches(region, from, to, found),
        }
    }

    /// The newest events of an entity below ordinal `to` that the region's scope and kind match, ascending. About `most` of the
    /// entity's events are looked at; every match from the ordinal returned on was found.
    pub fn newest_of(&self, entity: &[u8], region: &Region, to: u32, most: usize, found: &mut Vec<u32>) -> Result<u32> {
        make_room(found, most.min(to as usize))?;
        match self {
            Index::Memory(index) => Ok(index.newest_of(entity, region, to, most, found)),
            Index::Sealed(index) => index.newest_of(entity, region, to, most, found),
        }
    }

    /// Where events begin and where the frames after them do.
    pub fn places(&self, ordinals: &[u32], places: &mut Vec<(u64, u64)>) -> Result<()> {
        make_room(places, ordinals.len())?;
        match self {
            Index::Sealed(index) => index.places(ordinals, places),
            Index::Memory(index) => {
                // Read the end before the count: an event pushed in between has its entry, and the end is only used without one.
                for &ordinal in ordinals {
                    let end = index.log_end();
                    let start = index.entry(ordinal).map_or(end, |entry| entry.offset);
                    let next = if ordinal + 1 < index.count() {
                        index.entry(ordinal + 1).map(|entry| entry.offset)
                    } else {
                        None
                    };
                    places.push((start, next.unwrap_or(end)));
                }
                Ok(())
            }
        }
    }

    pub fn offset(&self, ordinal: u32) -> Result<u64> {
        match self {
            Index::Memory(index) => Ok(index.entry(ordinal).map_or(0, |entry| entry.offset)),
            Index::Sealed(index) => index.offset(ordinal),
        }
    }

    pub fn epoch_at(&self, offset: u64) -> u64 {
        match self {
            Index::Memory(index) => index.epoch_at(offset),
            Index::Sealed(index) => index.epoch_at(offset),
        }
    }

    pub fn head(&self, hash: u64, entity: &[u8]) -> Result<Option<StreamHead>> {
        match self {
            Index::Memory(index) => {
                let heads = index.heads();
                Ok(heads.find(hash, entity).and_then(|stream| heads.known_head(stream)))
            }
            Index::Sealed(index) => index.head(entity),
        }
    }

    /// Appends the ordinals from `from` on whose key has that hash, ascending; also those of cancelled events.
    pub fn find_keys(&self, hash: u64, from: u32, found: &mut Vec<u32>) -> Result<()> {
        match self {
            Index::Memory(index) => {
                index.find_keys(hash, from, found);
                Ok(())
            }
            Index::Sealed(index) => {
                let first = found.len();
                index.find_keys(hash, found)?;
                let older = found[first..].partition_point(|&ordinal| ordinal < from);
                found.drain(first..first + older);
                Ok(())
            }
        }
    }

    /// How many events have a key.
    pub fn key_count(&self) -> u64 {
        match self {
            Index::Memory(index) => index.key_count(),
            Index::Sealed(index) => index.key_count(),
        }
    }

    /// Appends the cancelled ranges in `from..to` (sequences), clipped to it, ascending.
    pub fn cancelled(&self, from: u64, to: u64, found: &mut Vec<(u64, u64)>) -> Result<()> {
        match self {
            Index::Memory(index) => {
                index.cancelled(from, to, found);
                Ok(())
            }
            Index::Sealed(index) => index.cancelled(from, to, found),
        }
    }

    /// The event was cancelled.
    pub fn is_cancelled(&self, sequence: u64) -> Result<bool> {
        match self {
            Index::Memory(index) => Ok(index.is_cancelled(sequence)),
            Index::Sealed(index) => index.is_cancelled(sequence),
        }
    }

    pub fn log_end(&self) -> u64 {
        match self {
            Index::Memory(index) => index.log_end(),
            Index::Sealed(index) => index.log_end(),
        }
    }

    pub fn count(&self) -> u32 {
        match self {
            Index::Memory(index) => index.count(),
            Index::Sealed(index) => index.count(),
        }
    }

    pub fn times_us(&self) -> (i64, i64) {
        match self {
            Index::Memory(index) => index.times_us(),
            Index::Sealed(index) => index.times_us(),
        }
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Index::Memory(index) => index.bytes(),
            Index::Sealed(index) => index.bytes(),
        }
    }
}

/// One segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub base: u64,
    pub data: Arc<FileSlot>,
    index_slot: Arc<FileSlot>,
    index: RwLock<Option<Index>>,
}

/// What every segment of a store needs to open its index.
#[derive(Debug)]
pub(crate) struct Library {
    pub storage: Arc<dyn Storage>,
    pub store_id: StoreId,
    pub directory: PathBuf,
    /// The same directory, held open by who writes.
    pub held: Option<Box<dyn Directory>>,
    /// How a sync of it has failed.
    pub directory_failed: Mutex<Option<Error>>,
    pub files: Arc<FilePool>,
    pub pages: Arc<PageCache>,
    pub read_only: bool,
}

impl Library {
    /// Makes what was created, renamed and removed here durable. Where it is held, this fails for no lack of descriptors. One that failed
    /// may have dropped names for good, and is never tried again: a retry could succeed without them.
    pub fn sync_directory(&self) -> Result<()> {
        let mut failed = self.directory_failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &*failed {
            return Err(error.clone());
        }
        let synced = match &self.held {
            Some(held) => held.sync(),
            None => self.storage.sync_directory(&self.directory),
        };
        synced.inspect_err(|error| *failed = Some(error.clone()))
    }

    /// The directory is still the one that was opened. To be asked before anything is made, renamed or removed in it by name: what has its
    /// name now may be another store.
    pub fn check_place(&self) -> Result<()> {
        self.held.as_ref().map_or(Ok(()), |held| held.check_place())
    }

    pub fn segment(&self, base: u64, index: Option<Arc<MemoryIndex>>) -> Arc<Segment> {
        Arc::new(Segment {
            base,
            data: self.files.slot(self.directory.join(segment_name(base))),
            index_slot: self.files.slot(self.directory.join(index_name(base))),
            index: RwLock::new(index.map(Index::Memory)),
        })
    }

    /// Writes a file whole: under another name, synced, then renamed. The directory is not synced.
    pub fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        self.check_place()?;
        let written = (|| {
            let file = self.storage.create(&temporary)?;
            file.write_at(bytes, 0)?;
            file.sync_data()?;
            self.storage.rename(&temporary, path)
        })();
        if written.is_err() {
            let _ = self.storage.remove(&temporary);
        }
        written
    }

    /// Scans a segment that is whole up to `end` (the next one's base).
    fn rebuild(&self, segment: &Segment, end: u64) -> Result<MemoryIndex> {
        let file = segment.data.get()?;
        let path = segment.data.path();
        let header = read_header(&*file, Some(&self.store_id), segment.base)?
            .map_err(|malformed| damaged(path, 0, segment.base, malformed))?;
        let scan = scan_segment(&file, &header, MemorySink::new(&header))?;
        if scan.next_sequence != end {
            let reason = match scan.stop {
                _ if scan.next_sequence > end => {
                    format!("the segment goes on, but event {end} is the next one's first")
                }
                Stop::Invalid(reason) => reason,
                _ => format!("the segment ends, but events up to {end} belong to it"),
            };
            return Err(Error::Corrupt {
                path: path.to_owned(),
                offset: scan.end,
                sequence: scan.next_sequence,
                reason,
            });
        }
        let mut sink = scan.sink;
        if !sink.undecided.is_empty() {
            let undecided = sink.undecided.keys().copied().collect();
            let committed = self.committed_later(segment.base, scan.epoch, undecided)?;
            sink.committed.extend(committed);
            settle_fences(std::iter::once(&mut sink));
        }
        Ok(sink.index)
    }
}

impl Segment {
    /// The index that is open already.
    pub fn open_index(&self) -> Option<Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The index, opened or rebuilt when needed. `end` is the next segment's base.
    pub fn index(&self, library: &Library, end: u64) -> Result<Index> {
        if let Some(index) = &*self.index.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(index.clone());
        }
        let mut state = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = &*state {
            return Ok(index.clone());
        }
        let index = match self.open_sealed(library, end) {
            Ok(Some(sealed)) => Index::Sealed(Arc::new(sealed)),
            Err(error @ (Error::Io { .. } | Error::DiskFull { .. })) => return Err(error),
            Ok(None) | Err(_) => {
                let memory = library.rebuild(self, end)?;
                let bytes = build::encode(&memory, &library.store_id, false);
                self.forget_index(library);
                // As for a seal: the next segment's name comes first.
                let write =
                    || library.sync_directory().and_then(|()| library.write_whole(self.index_slot.path(), &bytes));
                if !library.read_only && write().is_ok() {
                    Index::Sealed(Arc::new(SealedIndex::open(
                        self.index_slot.clone(),
                        library.pages.clone(),
                        &library.store_id,
                        self.base,
                    )?))
                } else {
                    Index::Memory(Arc::new(memory))
                }
            }
        };
        *state = Some(index.clone());
        Ok(index)
    }

    /// The index file is about to be another one.
    fn forget_index(&self, library: &Library) {
        self.index_slot.close();
        library.pages.forget(self.base);
    }

    fn open_sealed(&self, library: &Library, end: u64) -> Result<Option<SealedIndex>> {
        if self.index_slot.find()?.is_none() {
            return Ok(None);
        }
        let sealed = SealedIndex::open(self.index_slot.clone(), library.pages.clone(), &library.store_id, self.base)?;
        let is_whole = !sealed.is_partial() && u64::from(sealed.count()) == end - self.base;
        Ok(is_whole.then_some(sealed))
    }

    /// Runs `read` with the index; when the index file turns out to be damaged, rebuilds it and runs `read` once more.
    pub fn with_index<R>(&self, library: &Library, end: u64, mut read: impl FnMut(&Index) -> Result<R>) -> Result<R> {
        match read(&self.index(library, end)?) {
            Err(Error::Corrupt { path, .. }) if path == self.index_slot.path() => {
                *self.index.write().unwrap_or_else(PoisonError::into_inner) = None;
                self.forget_index(library);
                if !library.read_only {
                    library.check_place()?;
                    library.storage.remove(self.index_slot.path())?;
                    return read(&self.index(library, end)?);
                }
                let memory = Index::Memory(Arc::new(library.rebuild(self, end)?));
                *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(memory.clone());
                read(&memory)
            }
            result => result,
        }
    }

    /// Writes the index of a segment that nobody appends to any more, and reads it from there on.
    pub fn seal(&self, library: &Library) -> Result<()> {
        let Some(Index::Memory(memory)) = self.open_index() else { return Ok(()) };
        let bytes = build::encode(&memory, &library.store_id, false);
        self.forget_index(library);
        library.write_whole(self.index_slot.path(), &bytes)?;
        let sealed = SealedIndex::open(self.index_slot.clone(), library.pages.clone(), &library.store_id, self.base)?;
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(Index::Sealed(Arc::new(sealed)));
        Ok(())
    }

    /// Writes the partial index of the active segment at a clean close.
    pub fn write_partial(&self, library: &Library, memory: &MemoryIndex) -> Result<()> {
        library.write_whole(self.index_slot.path(), &build::encode(memory, &library.store_id, true))
    }

    /// The memory index of the active segment, from the partial index of a clean close, or by scanning.
    pub fn load_active(
        &self,
        library: &Library,
        next_sequence: u64,
        log_end: u64,
        epoch: u64,
    ) -> Result<Arc<MemoryIndex>> {
        let partial = (|| {
            if self.index_slot.find()?.is_none() {
                return Ok(None);
            }
            let sealed =
                SealedIndex::open(self.index_slot.clone(), library.pages.clone(), &library.store_id, self.base)?;
            let fits = (sealed.log_end(), sealed.last_epoch(), self.base + u64::from(sealed.count()))
                == (log_end, epoch, next_sequence);
            if fits { build::load(&sealed, &library.store_id).map(Some) } else { Ok(None) }
        })();
        self.forget_index(library);
        let memory = match partial {
            Ok(Some(memory)) => memory,
            Ok(None) | Err(_) => library.rebuild(self, next_sequence)?,
        };
        let memory = Arc::new(memory);
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(Index::Memory(memory.clone()));
        Ok(memory)
    }
}

/// Feeds a memory index from a scan.
#[derive(Debug)]
pub(crate) struct MemorySink {
    pub index: MemoryIndex,
    /// Fences whose decision has not come yet, by id.
    undecided: BTreeMap<u64, FencedEvents>,
    committed: HashSet<u64>,
    cancelled: HashSet<u64>,
}

/// A fence's events in one segment.
#[derive(Debug, Default)]
struct FencedEvents {
    ranges: Vec<(u64, u64)>,
    /// Each stream: the fence's first event of it here, and its head before the fence as far as this segment knows.
    streams: BTreeMap<u32, (u64, Option<StreamHead>)>,
}

impl MemorySink {
    pub fn new(header: &SegmentHeader) -> MemorySink {
        let start = SEGMENT_HEADER_BYTES as u64;
        MemorySink {
            index: MemoryIndex::new(header.store_id, header.base, header.epoch, start),
            undecided: BTreeMap::new(),
            committed: HashSet::new(),
            cancelled: HashSet::new(),
        }
    }

    /// `head` is the stream's before the event.
    fn note_fenced(&mut self, fence: u64, event: &DecodedEvent<'_>, stream: u32, head: StreamHead) {
        let fenced = self.undecided.entry(fence).or_default();
        match fenced.ranges.last_mut() {
            Some(last) if last.1 == event.sequence => last.1 += 1,
            _ => fenced.ranges.push((event.sequence, event.sequence + 1)),
        }
        // An event before this segment may be the fence's own: then the head before the fence is not known here.
        let base = self.index.base();
        let is_known = fence >= base || head.last_sequence >= base;
        fenced.streams.entry(stream).or_insert((event.sequence, is_known.then_some(head)));
    }

    /// Takes the events of an undecided fence out of the index.
    fn cancel(&mut self, fence: u64) -> Option<Vec<(u64, u64)>> {
        let fenced = self.undecided.remove(&fence)?;
        self.index.cancel(&fenced.ranges);
        for (stream, (first, head)) in fenced.streams {
            let name = self.index.heads().names().name(stream).to_vec();
            self.index.rewind(self.index.hash(&name), &name, first, head);
        }
        Some(fenced.ranges)
    }
}

/// Decides the fences that scanned segments (ascending) leave undecided: by a decision in a later one, else cancelled, since their epoch is over.
/// Returns those that no frame of the log cancels, with their events.
pub(super) fn settle_fences<'a>(sinks: impl Iterator<Item = &'a mut MemorySink>) -> Vec<(u64, Vec<(u64, u64)>)> {
    let mut sinks: Vec<_> = sinks.collect();
    let committed: HashSet<u64> = sinks.iter().flat_map(|sink| sink.committed.iter().copied()).collect();
    let cancelled: HashSet<u64> = sinks.iter().flat_map(|sink| sink.cancelled.iter().copied()).collect();
    let mut owed: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for sink in &mut sinks {
        let undecided: Vec<u64> = sink.undecided.keys().copied().collect();
        for fence in undecided.into_iter().filter(|fence| !committed.contains(fence)) {
            let ranges = sink.cancel(fence).unwrap_or_default();
            if !cancelled.contains(&fence) {
                owed.entry(fence).or_default().extend(ranges);
            }
        }
    }
    owed.into_iter().collect()
}

impl Library {
    /// Which of the undecided fences of a segment are committed by a frame of a later one.
    fn committed_later(&self, base: u64, epoch: u64, mut undecided: HashSet<u64>) -> Result<HashSet<u64>> {
        let mut committed = HashSet::new();
        let entries = self.storage.list(&self.directory)?.unwrap_or_default();
        let mut later: Vec<u64> = entries.iter().filter_map(|entry| parse_segment_name(&entry.name)).collect();
        later.retain(|&later| later > base);
        later.sort_unstable();
        for base in later {
            let Some(file) = self.storage.open_read(&self.directory.join(segment_name(base)))? else { continue };
            // What is not decided in its own epoch is cancelled.
            let Ok(header) = read_header(&*file, Some(&self.store_id), base)? else { break };
            if header.epoch != epoch {
                break;
            }
            let start = SEGMENT_HEADER_BYTES as u64;
            let mut walk = Walk::new(file, self.store_id, base, epoch, start, base)?;
            loop {
                match walk.next()? {
                    Step::Control { control: Control::FenceCommit { fence }, .. } => {
                        if undecided.remove(&fence) {
                            committed.insert(fence);
                        }
                    }
                    Step::Control { control: Control::FenceCancel { fence, .. }, .. } => {
                        undecided.remove(&fence);
                    }
                    Step::Control { control: Control::Epoch { .. }, .. } => return Ok(committed),
                    Step::Event { .. } | Step::Control { .. } => {}
                    Step::End(_) => break,
                }
                if undecided.is_empty() {
                    return Ok(committed);
                }
            }
        }
        Ok(committed)
    }
}

impl Sink for MemorySink {
    fn event(&mut self, offset: u64, event: &DecodedEvent<'_>) -> Result<()> {
        let index = &self.index;
        index.make_room(1, event.key.is_some().into())?;
        let entity_hash = index.hash(event.entity);
        let said = StreamHead { next_clock: event.clock, last_sequence: event.prev_sequence };
        // What is known here counts, so that the index holds together whatever the frame says.
        let (stream, head) = match index.heads().find(entity_hash, event.entity) {
            Some(stream) => match index.heads().known_head(stream) {
                Some(head) => (stream, head),
                None => {
                    // The stream's events here so far were cancelled: it goes on where it was before.
                    index.heads().set_head(stream, said);
                    (stream, said)
                }
            },
            None => {
                index.make_room_for_names(event.entity.len(), 0)?;
                (index.insert_stream(entity_hash, event.entity, said), said)
            }
        };
        let scope_hash = index.hash(event.scope);
        let scope = match index.find_scope(scope_hash, event.scope) {
            None => {
                index.make_room_for_names(0, event.scope.len())?;
                index.insert_scope(scope_hash, event.scope)
            }
            found => found,
        };
        let entry = IndexEntry { offset, kind: event.kind, scope: scope.unwrap_or(u16::MAX), stream };
        index.push(entry, event.time_us);
        if let Some(key) = event.key {
            index.push_key(index.hash(key), index.count() - 1);
        }
        if let Some(fence) = event.fence {
            self.note_fenced(fence, event, stream, head);
        }
        Ok(())
    }

    fn control(&mut self, offset: u64, sequence: u64, frame_type: u8, control: &Control) {
        match control {
            Control::Mark { .. } => return,
            Control::Epoch { epoch, .. } => {
                self.index.push_epoch(offset, *epoch);
                // Fences of the epoch before are over.
                while let Some(&fence) = self.undecided.keys().next() {
                    self.cancel(fence);
                }
            }
            Control::FenceCommit { fence } => {
                self.undecided.remove(fence);
                self.committed.insert(*fence);
            }
            Control::FenceCancel { fence, .. } => {
                // Its ranges are the fence's events, which say so themselves.
                self.cancel(*fence);
                self.cancelled.insert(*fence);
            }
            _ => {}
        }
        self.index.push_control(ControlEntry { offset, sequence, frame_type });
    }

    fn truncate(&mut self, events: u32, last_time_us: i64) {
        self.index.truncate(events, last_time_us);
        let end = self.index.base() + u64::from(events);
        for fenced in self.undecided.values_mut() {
            fenced.ranges.retain(|range| range.0 < end);
            if let Some(last) = fenced.ranges.last_mut() {
                last.1 = last.1.min(end);
            }
        }
        // Of a fence whose only batch is cut nothing is left; its id will be another's.
        self.undecided.retain(|_, fenced| !fenced.ranges.is_empty());
    }

    fn end(&mut self, offset: u64) {
        self.index.set_log_end(offset);
    }
}
