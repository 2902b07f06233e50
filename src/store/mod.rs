//! The store: one directory, one writer, any number of threads.
//!
//! Marks, as exclusive bounds of sequences: `visible <= appended`, `durable <= appended`.
//! * `appended` is moved by `Inner::encode` alone, under the append lock;
//! * `durable` by `Inner::sync_once` alone, after the syncs that cover it;
//! * `visible` by both, under the append lock: to the first STORAGE event that is not durable, else to `appended`.
//!
//! Locks, in the order in which they may be taken: group commit, append lock, segment list, helper, segment index, waits for marks.
//! Signals are fired with none of them held.

mod append;
mod child;
mod close;
mod commit;
mod entities;
mod fence;
mod gap;
mod helper;
mod import;
mod keys;
mod open;
mod options;
mod read;
mod recent;
#[cfg(test)]
mod regressions;
mod rotation;
pub(crate) mod scan;
mod segments;
mod signal;
#[cfg(test)]
mod tests;
mod watermark;

pub use crate::index::listing::{Entities, Entity};
pub use append::{Expected, NewEvent, Receipt};
pub use fence::{FENCE_TIMEOUT, FENCE_TIMEOUT_MAX, Fence, FenceOptions};
pub use import::{ImportOptions, Imported};
pub use options::{Durability, LogFunction, LogLevel, LogSink, SEGMENT_BYTES_RANGE, StoreOptions};
pub use read::EntityHead;
pub use watermark::{Waited, Watermark};

pub(crate) use child::{Child, ChildKind, HandlerScope};
pub(crate) use scan::{BackwardScan, Scan};
pub(crate) use signal::{Signal, Woken};

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, Weak};

use crate::error::{Error, Result};
use crate::event::{BufferPool, EventId, StoreId};
use crate::format::name_hash;
use crate::io::latch::Latch;
use crate::io::{Lock, Storage, fork};
use crate::log::recovery::Cut;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Instant, Mutex, RwLock};

use append::Appender;
use child::Children;
use close::Closing;
use commit::GroupCommit;
use helper::Helper;
use keys::KeyWindow;
use recent::{Recent, RecentEvent};
use segments::{Library, Segment};
use signal::SignalBoard;

/// An open store. Clones are the same store; any thread may use it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// How far the store is: all sequences below a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermarks {
    /// Given to events.
    pub appended: u64,
    /// Delivered to cursors.
    pub visible: u64,
    /// Safe from power loss.
    pub durable: u64,
}

/// Figures of an open store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Sequences given to events.
    pub appended: u64,
    /// Sequences visible to cursors.
    pub visible: u64,
    /// Sequences safe from power loss.
    pub durable: u64,
    /// Segment files.
    pub segments: u64,
    /// Segments left in this opening.
    pub segments_sealed: u64,
    /// Bytes of the files in `segments/`, space prepared ahead included.
    pub bytes_on_disk: u64,
    /// Entities whose heads are in memory.
    pub entities_in_memory: u64,
    /// Bytes of memory held by open indexes.
    pub memory_bytes: u64,
    /// Open cursors.
    pub cursors_open: u64,
    /// Workers that have not ended.
    pub workers_running: u64,
    /// Group syncs of this opening.
    pub syncs: u64,
    /// The epoch in force.
    pub epoch: u64,
    /// Bytes that recovery cut at this opening.
    pub cut_bytes: u64,
    /// Whole events among them.
    pub cut_events: u64,
    /// Whether the last close was clean (1) or the log was scanned (0).
    pub opened_clean: u64,
}

#[derive(Debug)]
struct Marks {
    appended: AtomicU64,
    visible: AtomicU64,
    durable: AtomicU64,
    /// Frames that are no events and were waited for: [`Appender::ticket`] as of the last sync.
    ticket: AtomicU64,
    /// First event of an open fence, and of one that is open or whose commit may not be durable; `u64::MAX`: none.
    open_floor: AtomicU64,
    seal_floor: AtomicU64,
    /// When the next fence expires, in microseconds since the store was opened; `u64::MAX`: none is open.
    fence_deadline_us: AtomicU64,
}

struct Inner {
    itself: Weak<Inner>,
    path: PathBuf,
    options: StoreOptions,
    storage: Arc<dyn Storage>,
    library: Library,
    store_id: StoreId,
    tag: u16,
    created_us: i64,
    opened_at: Instant,
    key_window: u64,
    keys: KeyWindow,
    /// Raised when a segment was left or indexed.
    segments_version: AtomicU64,
    fork_generation: u32,
    latch: Arc<Latch>,
    locks: Mutex<Vec<Box<dyn Lock>>>,
    closed: AtomicBool,
    closing: Closing,
    marks: Arc<Marks>,
    signals: Arc<SignalBoard>,
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    append: Mutex<Option<Appender>>,
    group: GroupCommit,
    helper: Helper,
    recent: Recent,
    /// A PROCESS append happened: segments are mapped from now on.
    mapped: AtomicBool,
    pool: BufferPool,
    children: Mutex<Children>,
    /// Whether the entry of the directory of checkpoints is durable: not known before somebody needs it.
    cursors_entry: Mutex<Option<Result<()>>>,
    seals: AtomicU64,
    syncs: AtomicU64,
    cut: Option<Cut>,
    opened_clean: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).field("marks", &self.marks).finish_non_exhaustive()
    }
}

impl Inner {
    fn check_usable(&self) -> Result<()> {
        if fork::generation() != self.fork_generation {
            return Err(Error::Forked { what: "store" });
        }
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed { what: "store" }) } else { Ok(()) }
    }

    fn check_writable(&self, call: &'static str) -> Result<()> {
        self.check_usable()?;
        if self.options.read_only {
            return Err(Error::ReadOnly { path: self.path.clone(), call });
        }
        Ok(())
    }

    #[inline]
    fn name_hash(&self, name: &[u8]) -> u64 {
        name_hash(&self.store_id, name)
    }

    fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Time and correlation id of an older event, read from the log. `None`: there is no such event.
    fn read_recent(&self, sequence: u64) -> Result<Option<RecentEvent>> {
        if sequence >= self.marks.appended.load(Ordering::Acquire) {
            return Ok(None);
        }
        self.make_readable(sequence)?;
        let (recent, is_fenced) = scan::read_one(self, sequence, |event| {
            let recent = RecentEvent { time_us: event.time_us, correlation_id: event.correlation_id };
            (recent, event.fence.is_some())
        })?;
        Ok((!is_fenced || !self.is_cancelled(sequence)?).then_some(recent))
    }

    /// Whether the event of a fence was cancelled.
    fn is_cancelled(&self, sequence: u64) -> Result<bool> {
        let segments = self.segments();
        let at = segments.partition_point(|segment| segment.base <= sequence) - 1;
        let end = segments.get(at + 1).map_or(u64::MAX, |next| next.base);
        segments[at].with_index(&self.library, end, |index| index.is_cancelled(sequence))
    }

    fn children(&self) -> Vec<Arc<dyn Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner).all()
    }
}

impl Store {
    /// The store's id.
    pub fn id(&self) -> StoreId {
        self.inner.store_id
    }

    /// The data directory, without links.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.inner.options.read_only
    }

    /// Closed.
    pub fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire)
    }

    /// [`Error::Forked`] in a forked child, [`Error::Closed`] after close.
    #[inline]
    pub fn check_usable(&self) -> Result<()> {
        self.inner.check_usable()
    }

    /// The marks as of now.
    pub fn watermarks(&self) -> Watermarks {
        let marks = &self.inner.marks;
        // In this order, what is visible or durable is never beyond what was appended.
        let (visible, durable) = (marks.visible.load(Ordering::Acquire), marks.durable.load(Ordering::Acquire));
        Watermarks { appended: marks.appended.load(Ordering::Acquire), visible, durable }
    }

    /// Makes everything appended so far durable, and visible.
    pub fn sync(&self) -> Result<()> {
        self.inner.check_writable("sync")?;
        self.inner.commit_decided(self.inner.marks.appended.load(Ordering::Acquire))
    }

    /// Makes every sequence below `bound` durable. A read-only store promises nothing and does nothing.
    pub fn make_durable(&self, bound: u64) -> Result<()> {
        self.inner.check_usable()?;
        if self.inner.options.read_only {
            return Ok(());
        }
        self.inner.commit_decided(bound.min(self.inner.marks.appended.load(Ordering::Acquire)))
    }

    /// The id of the visible event at `sequence`; `None` when there is none.
    pub fn event_id_at(&self, sequence: u64) -> Result<Option<EventId>> {
        self.inner.check_usable()?;
        if sequence >= self.inner.marks.visible.load(Ordering::Acquire) {
            return Ok(None);
        }
        scan::read_one(&self.inner, sequence, |event| event.id).map(Some)
    }

    /// The first visible sequence whose event is not earlier than `time_us`; the visible mark when there is none.
    pub fn first_sequence_at_or_after(&self, time_us: i64) -> Result<u64> {
        self.inner.check_usable()?;
        scan::first_at_or_after(&self.inner, time_us)
    }

    /// How many segments were left in this opening.
    pub fn seals(&self) -> u64 {
        self.inner.seals.load(Ordering::Acquire)
    }

    /// Every sequence below lies in a segment that was left.
    pub(crate) fn sealed_end(&self) -> u64 {
        let segments = self.inner.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.last().map_or(0, |newest| newest.base)
    }

    /// Figures as of now.
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let marks = self.watermarks();
        let segments = inner.segments();
        let children = inner.children();
        let of_kind = |kind| children.iter().filter(|child| child.kind() == kind && child.is_live()).count() as u64;
        let (entities_in_memory, epoch) = match &*inner.lock_appender() {
            Some(appender) => {
                let before = appender.previous_heads.as_ref().map_or(0, |heads| heads.len());
                ((appender.index.stream_count() + before) as u64, appender.epoch)
            }
            None => (0, 0),
        };
        let files = inner.storage.list(&inner.library.directory).ok().flatten().unwrap_or_default();
        Stats {
            appended: marks.appended,
            visible: marks.visible,
            durable: marks.durable,
            segments: segments.len() as u64,
            segments_sealed: self.seals(),
            bytes_on_disk: files.iter().map(|file| file.length).sum(),
            entities_in_memory,
            memory_bytes: inner.keys.bytes()
                + segments.iter().filter_map(|s| s.open_index()).map(|index| index.bytes()).sum::<u64>(),
            cursors_open: of_kind(ChildKind::Cursor),
            workers_running: of_kind(ChildKind::Worker),
            syncs: inner.syncs.load(Ordering::Relaxed),
            epoch,
            cut_bytes: inner.cut.as_ref().map_or(0, |cut| cut.bytes),
            cut_events: inner.cut.as_ref().map_or(0, |cut| cut.events),
            opened_clean: inner.opened_clean.into(),
        }
    }

    /// As [`segments::Library::check_place`], of the store's directory.
    pub(crate) fn check_place(&self) -> Result<()> {
        self.inner.library.check_place()
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.inner.storage
    }

    /// Makes the entry of the directory of checkpoints durable, once. A sync that failed is not tried again: it could succeed with the
    /// entry lost. One that could not be begun may be.
    pub(crate) fn settle_cursors_entry(&self) -> Result<()> {
        let mut entry = self.inner.cursors_entry.lock().unwrap_or_else(PoisonError::into_inner);
        if entry.is_none() {
            *entry = Some(match self.inner.storage.hold_directory(&self.inner.path)? {
                Some(held) => held.sync(),
                None => self.inner.storage.sync_directory(&self.inner.path),
            });
        }
        entry.clone().unwrap_or(Ok(()))
    }

    /// That directory was made, and the sync of its entry failed.
    pub(crate) fn doubt_cursors_entry(&self, error: &Error) {
        *self.inner.cursors_entry.lock().unwrap_or_else(PoisonError::into_inner) = Some(Err(error.clone()));
    }

    pub(crate) fn log(&self, level: LogLevel, target: &str, message: &str) {
        self.inner.options.log.write(level, target, || message.to_owned());
    }

    /// A signal that publications of this store fire.
    pub(crate) fn new_signal(&self) -> Arc<Signal> {
        self.inner.signals.new_signal()
    }

    /// Makes a cursor or worker known to close. [`Error::Closed`] when it is too late for that: nobody would end it.
    pub(crate) fn register_child(&self, child: Weak<dyn Child>) -> Result<()> {
        match self.inner.children.lock().unwrap_or_else(PoisonError::into_inner).add(child) {
            true => Ok(()),
            false => Err(Error::Closed { what: "store" }),
        }
    }

    /// This thread runs a handler of this store while the scope lives.
    pub(crate) fn enter_handler(&self) -> HandlerScope {
        HandlerScope::enter(Arc::as_ptr(&self.inner) as usize)
    }

    /// This thread is inside a handler of this store.
    pub(crate) fn in_handler(&self) -> bool {
        HandlerScope::is_within(Arc::as_ptr(&self.inner) as usize)
    }
}
