//! Fences: events appended but hidden until the fence commits; cancelled, they are hidden for ever.
//!
//! A fence is *open* from its beginning until it is committed, cancelled, or its time is over; *settling* from its commit until the
//! FENCE_COMMIT frame is durable; then nothing is left of it in memory. Invariants, under the append lock:
//! * an entity that an open fence has appended to is owned by it: nobody else appends to that entity, so cancelling can put the entity's
//!   head back to where the fence found it;
//! * `visible` never passes the first event of a fence that is open, or settling with STORAGE asked;
//! * no segment is indexed that holds an event of a fence that is open or settling ([`FenceTable::seal_floor`]): a sealed index knows for
//!   good what is cancelled;
//! * the frames that say what was cancelled are owed to the log ([`FenceTable::owed`]) and come before anything else that is written. A crash
//!   before that changes nothing: an undecided fence is cancelled when its epoch is over.
//!
//! | function | moves |
//! |---|---|
//! | [`FenceTable::note`] | the fence's events and entities, under the append that has just been encoded |
//! | [`Inner::commit_fence`] | open to settling |
//! | [`Inner::cancel_fence`] | open to gone |
//! | [`FenceTable::settle`] | settling to gone, after the sync that covers the commit |

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::align8;
use crate::format::control::{self, Control};
use crate::index::StreamHead;
use crate::sync::Instant;
use crate::sync::atomic::{AtomicU8, Ordering};

use super::append::{Appender, NewEvent, Receipt};
use super::options::Durability;
use super::segments::Index;
use super::{Inner, Store};

/// The default of [`FenceOptions::timeout`].
pub const FENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest timeout of a fence.
pub const FENCE_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// How a fence is begun.
#[derive(Debug, Clone, Copy)]
pub struct FenceOptions {
    /// How long it may stay open: up to an hour, default 10 s. Then it is cancelled.
    pub timeout: Duration,
}

impl Default for FenceOptions {
    fn default() -> FenceOptions {
        FenceOptions { timeout: FENCE_TIMEOUT }
    }
}

/// What became of a fence, for its handle.
#[derive(Debug, Default)]
struct Outcome(AtomicU8);

const OPEN: u8 = 0;
const COMMITTED: u8 = 1;
const CANCELLED: u8 = 2;
const EXPIRED: u8 = 3;

impl Outcome {
    fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, outcome: u8) {
        self.0.store(outcome, Ordering::Release);
    }
}

/// A group of events that becomes visible at once, or never. Dropped undecided, it is cancelled.
#[derive(Debug)]
pub struct Fence {
    store: Store,
    key: FenceKey,
}

/// A fence, as the append path names it.
#[derive(Debug, Clone)]
pub(super) struct FenceKey {
    token: u64,
    timeout: Duration,
    outcome: Arc<Outcome>,
}

#[derive(Debug)]
struct OpenFence {
    token: u64,
    /// Sequence of the first event; `u64::MAX` while there is none.
    first: u64,
    /// The fence's events, ascending.
    ranges: Vec<(u64, u64)>,
    deadline: Instant,
    outcome: Arc<Outcome>,
}

/// A committed fence whose FENCE_COMMIT is not known to be durable.
#[derive(Debug, Clone, Copy)]
struct Settling {
    first: u64,
    ticket: u64,
    /// Its events stay hidden until then.
    hides: bool,
}

/// An entity that an open fence has appended to.
#[derive(Debug, Clone, Copy)]
struct Owned {
    token: u64,
    /// The fence's first event of the entity, and the head that it found.
    first: u64,
    head: StreamHead,
}

/// All fences of a store, under the append lock.
#[derive(Debug, Default)]
pub(crate) struct FenceTable {
    tokens: u64,
    /// How many fences with events were cancelled: heads read without the lock may have been rewound since.
    cancels: u64,
    open: Vec<OpenFence>,
    settling: Vec<Settling>,
    /// Entities of open fences.
    owned: HashMap<Box<[u8]>, Owned>,
    /// What the next write begins with.
    owed: Vec<Control>,
}

impl FenceTable {
    /// Nothing to look at: the fast path of an append.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// No event at or above it is visible: the first of an undecided fence.
    pub fn floor(&self) -> u64 {
        let open = self.open.iter().map(|fence| fence.first);
        open.chain(self.settling.iter().filter(|fence| fence.hides).map(|fence| fence.first)).min().unwrap_or(u64::MAX)
    }

    /// No segment that has events at or above it may be indexed.
    fn seal_floor(&self) -> u64 {
        self.open_floor().min(self.settling.iter().map(|fence| fence.first).min().unwrap_or(u64::MAX))
    }

    fn open_floor(&self) -> u64 {
        self.open.iter().map(|fence| fence.first).min().unwrap_or(u64::MAX)
    }

    /// The head of an entity as everybody but its fence sees it, if a fence owns it.
    pub fn head_before(&self, entity: &[u8]) -> Option<StreamHead> {
        self.owned.get(entity).map(|owned| owned.head)
    }

    /// How often heads were rewound.
    pub fn cancels(&self) -> u64 {
        self.cancels
    }

    /// The undecided fence that has the event.
    fn undecided_of(&self, sequence: u64) -> Option<u64> {
        let has = |fence: &&OpenFence| {
            let after = fence.ranges.partition_point(|range| range.0 <= sequence);
            after > 0 && sequence < fence.ranges[after - 1].1
        };
        self.open.iter().find(has).map(|fence| fence.token)
    }

    /// The fence of the key while it is open.
    fn get(&mut self, key: &FenceKey) -> Result<&mut OpenFence> {
        let open = self.open.iter_mut().find(|fence| fence.token == key.token);
        open.ok_or_else(|| key.decided().unwrap_or(Error::Closed { what: "fence's store" }))
    }

    /// No fence hides anything: every event may be seen as far as its durability goes.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.open.is_empty() && self.settling.is_empty()
    }

    /// The fence takes events.
    pub fn check_open(&mut self, key: &FenceKey) -> Result<()> {
        self.get(key).map(|_| ())
    }

    /// Whether the entities of `events` are free for the fence, or for appends without one.
    pub fn check_owned<'a>(
        &self,
        entities: impl Iterator<Item = (usize, &'a [u8])>,
        own: Option<&FenceKey>,
    ) -> Result<(), (usize, Error)> {
        let own = own.map(|key| key.token);
        for (at, entity) in entities {
            if self.owned.get(entity).is_some_and(|owned| Some(owned.token) != own) {
                let entity = String::from_utf8_lossy(entity).into_owned();
                return Err((at, Error::StreamFenced { entity }));
            }
        }
        Ok(())
    }

    /// The sequence of the fence's first event, given that of the next event; `None` when the fence is not open any more.
    pub fn id(&self, key: &FenceKey, next: u64) -> Option<u64> {
        self.open.iter().find(|fence| fence.token == key.token).map(|fence| fence.first.min(next))
    }

    /// An event of the fence was encoded. `head` is the entity's before it.
    pub fn note(&mut self, key: &FenceKey, sequence: u64, entity: &[u8], head: StreamHead) {
        let Ok(fence) = self.get(key) else { return };
        fence.first = fence.first.min(sequence);
        match fence.ranges.last_mut() {
            Some(last) if last.1 == sequence => last.1 += 1,
            _ => fence.ranges.push((sequence, sequence + 1)),
        }
        if !self.owned.contains_key(entity) {
            self.owned.insert(entity.into(), Owned { token: key.token, first: sequence, head });
        }
    }

    /// A sync has covered everything up to `ticket`.
    pub fn settle(&mut self, ticket: u64) {
        self.settling.retain(|fence| fence.ticket > ticket);
    }

    /// Takes over what recovery found undecided, so that the log says it.
    pub fn owe(&mut self, fence: u64, ranges: Vec<(u64, u64)>) {
        self.owed.push(Control::FenceCancel { fence, ranges });
    }

    /// Bytes that the cancellations owed will need.
    pub fn owed_bytes(&self) -> u64 {
        let bytes = |frame: &Control| match frame {
            Control::FenceCancel { ranges, .. } => align8(40 + 16 * ranges.len()) as u64,
            _ => 0,
        };
        self.owed.iter().map(bytes).sum()
    }

    #[inline]
    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    pub fn take_owed(&mut self) -> Vec<Control> {
        std::mem::take(&mut self.owed)
    }
}

impl FenceKey {
    /// Why the fence takes nothing any more.
    fn decided(&self) -> Option<Error> {
        match self.outcome.get() {
            OPEN => None,
            COMMITTED => Some(Error::FenceDecided { outcome: "committed" }),
            EXPIRED => Some(Error::FenceExpired { timeout_ms: self.timeout.as_millis() as u64 }),
            _ => Some(Error::FenceDecided { outcome: "cancelled" }),
        }
    }
}

impl Store {
    /// Begins a fence. It costs nothing until something is appended to it.
    pub fn begin_fence(&self, options: &FenceOptions) -> Result<Fence> {
        self.inner.check_writable("begin a fence")?;
        if options.timeout.is_zero() || options.timeout > FENCE_TIMEOUT_MAX {
            return Err(Error::InvalidArgument {
                what: "timeout_ms",
                value: options.timeout.as_millis().to_string(),
                remedy: "give 1 to 3600000 (an hour)",
            });
        }
        let mut guard = self.inner.lock_appender();
        let appender = guard.as_mut().filter(|appender| !appender.closed).ok_or(Error::Closed { what: "store" })?;
        self.inner.latch.check()?;
        appender.fences.tokens += 1;
        let key = FenceKey { token: appender.fences.tokens, timeout: options.timeout, outcome: Arc::default() };
        let deadline = Instant::now() + options.timeout;
        let (token, outcome) = (key.token, key.outcome.clone());
        appender.fences.open.push(OpenFence { token, first: u64::MAX, ranges: Vec::new(), deadline, outcome });
        self.inner.fences_changed(appender);
        drop(guard);
        match self.inner.helper.is_enabled() {
            true => self.inner.helper.watch_fences(&self.inner),
            false => self.inner.signals.watch_fences(),
        }
        Ok(Fence { store: self.clone(), key })
    }
}

impl Store {
    /// When a fence expires that only who waits can end: without the helper thread.
    pub(crate) fn expiry_to_watch(&self) -> Option<Instant> {
        if self.inner.helper.is_enabled() { None } else { self.inner.fence_deadline() }
    }
}

impl Fence {
    /// Appends events under the fence, all or none. They are not synced; no receipt promises anything before the commit.
    pub fn append(&self, events: &[NewEvent<'_>], receipts: &mut [Receipt]) -> Result<()> {
        self.check()?;
        self.store.append_under(events, None, Some(&self.key), receipts)
    }

    /// Makes all events of the fence visible at once, when they are as durable as asked; `None` is the store's default. Committing again is fine.
    pub fn commit(&self, durability: Option<Durability>) -> Result<()> {
        if self.key.outcome.get() != COMMITTED {
            self.check()?;
        }
        self.store.inner.check_writable("commit a fence")?;
        self.store.inner.commit_fence(&self.key, durability)
    }

    /// Hides the fence's events for ever, and puts its entities back to where it found them. Cancelling again is fine, also after the timeout.
    pub fn cancel(&self) -> Result<()> {
        self.store.inner.check_usable()?;
        match self.key.outcome.get() {
            COMMITTED => Err(Error::FenceDecided { outcome: "committed" }),
            OPEN => self.store.inner.cancel_fence(&self.key, CANCELLED),
            _ => Ok(()),
        }
    }

    /// The store that the fence is of.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// As if its time were over.
    #[cfg(test)]
    pub(crate) fn expire_now(&self) {
        if let Some(appender) = &mut *self.store.inner.lock_appender() {
            if let Ok(fence) = appender.fences.get(&self.key) {
                fence.deadline = Instant::now();
            }
            self.store.inner.fences_changed(appender);
            std::thread::sleep(Duration::from_micros(2));
        }
    }

    fn check(&self) -> Result<()> {
        self.store.inner.check_usable()?;
        self.store.inner.expire_fences();
        self.key.decided().map_or(Ok(()), Err)
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        if self.key.outcome.get() == OPEN && self.store.inner.check_usable().is_ok() {
            let _ = self.store.inner.cancel_fence(&self.key, CANCELLED);
        }
    }
}

impl Inner {
    /// Writes FENCE_COMMIT, and waits for it to be as durable as asked.
    fn commit_fence(&self, key: &FenceKey, durability: Option<Durability>) -> Result<()> {
        let durability = durability.unwrap_or(self.options.durability);
        let (bound, ticket) = {
            let mut guard = self.lock_appender();
            self.latch.check()?;
            let appender = guard.as_mut().filter(|appender| !appender.closed).ok_or(Error::Closed { what: "store" })?;
            if key.outcome.get() == COMMITTED {
                // A commit that did not come to its end, or a second one.
                (appender.next_sequence, appender.ticket)
            } else {
                let first = appender.fences.get(key)?.first;
                if first != u64::MAX {
                    self.begin_control(appender, u64::from(FENCE_COMMIT_BYTES))?;
                    self.write_indexed(appender, &Control::FenceCommit { fence: first });
                    appender.ticket += 1;
                    let hides = durability == Durability::Storage;
                    appender.fences.settling.push(Settling { first, ticket: appender.ticket, hides });
                }
                let FenceTable { open, owned, .. } = &mut appender.fences;
                open.retain(|fence| fence.token != key.token);
                owned.retain(|_, owned| owned.token != key.token);
                key.outcome.set(COMMITTED);
                if durability == Durability::Process {
                    appender.tail.flush(true)?;
                }
                self.fences_changed(appender);
                (appender.next_sequence, appender.ticket)
            }
        };
        match durability {
            Durability::Process => self.signals.publish(),
            Durability::Storage => self.commit_ticket(bound, ticket)?,
        }
        self.helper.fences_decided();
        Ok(())
    }

    /// Cancels an open fence; one that is decided stays as it is.
    fn cancel_fence(&self, key: &FenceKey, outcome: u8) -> Result<()> {
        if let Some(appender) = &mut *self.lock_appender() {
            self.cancel_open(appender, key.token, outcome);
        }
        self.signals.publish();
        self.helper.fences_decided();
        Ok(())
    }

    /// Takes the fence's events out of sight, for good: marks them, and takes back what they did to their entities' heads.
    fn cancel_open(&self, appender: &mut Appender, token: u64, outcome: u8) {
        let Some(at) = appender.fences.open.iter().position(|fence| fence.token == token) else { return };
        let fence = appender.fences.open.swap_remove(at);
        if fence.first != u64::MAX {
            appender.fences.cancels += 1;
            let mut entities = Vec::new();
            appender.fences.owned.retain(|entity, owned| {
                if owned.token == token {
                    entities.push((entity.clone(), *owned));
                }
                owned.token != token
            });
            let segments = self.segments();
            let start = segments.partition_point(|segment| segment.base <= fence.first).saturating_sub(1);
            for (at, segment) in segments.iter().enumerate().skip(start) {
                // None of these is indexed: see the invariants.
                let Some(Index::Memory(index)) = segment.open_index() else { continue };
                index.cancel(&fence.ranges);
                let end = segments.get(at + 1).map_or(u64::MAX, |next| next.base);
                for (entity, owned) in entities.iter().filter(|(_, owned)| owned.first < end) {
                    index.rewind(self.name_hash(entity), entity, owned.first, Some(owned.head));
                }
            }
            for &(from, to) in &fence.ranges {
                self.recent.forget(from, to);
            }
            appender.fences.owed.push(Control::FenceCancel { fence: fence.first, ranges: fence.ranges });
        }
        fence.outcome.set(outcome);
        self.fences_changed(appender);
    }

    /// Whether a fence is open whose time is over. Cheap when none is open.
    pub(super) fn fence_is_over(&self) -> bool {
        self.fence_deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Cancels the fences whose time is over, and wakes who waits for what they hid. No lock is held.
    pub(super) fn expire_fences(&self) {
        if !self.fence_is_over() {
            return;
        }
        if let Some(appender) = &mut *self.lock_appender() {
            let now = Instant::now();
            let over = |fence: &&OpenFence| fence.deadline <= now;
            while let Some(token) = appender.fences.open.iter().find(over).map(|fence| fence.token) {
                self.cancel_open(appender, token, EXPIRED);
            }
        }
        self.signals.publish();
        self.helper.fences_decided();
    }

    /// Cancels all fences: the store is being closed.
    pub(super) fn cancel_all_fences(&self, appender: &mut Appender) {
        while let Some(token) = appender.fences.open.first().map(|fence| fence.token) {
            self.cancel_open(appender, token, CANCELLED);
        }
    }

    /// When the next fence expires. `None`: no fence is open.
    pub(crate) fn fence_deadline(&self) -> Option<Instant> {
        match self.marks.fence_deadline_us.load(Ordering::Acquire) {
            u64::MAX => None,
            micros => Some(self.opened_at + Duration::from_micros(micros)),
        }
    }

    /// Publishes what others look at without the lock: the floors, the next deadline, and how far is visible now.
    pub(super) fn fences_changed(&self, appender: &mut Appender) {
        let marks = &self.marks;
        let deadline = appender.fences.open.iter().map(|fence| fence.deadline).min();
        // A microsecond late rather than early.
        let micros =
            deadline.map_or(u64::MAX, |at| at.saturating_duration_since(self.opened_at).as_micros() as u64 + 1);
        marks.fence_deadline_us.store(micros, Ordering::Release);
        marks.open_floor.store(appender.fences.open_floor(), Ordering::Release);
        self.helper.set_open_floor(appender.fences.open_floor());
        marks.seal_floor.store(appender.fences.seal_floor(), Ordering::Release);
        let visible = appender.visible_bound(marks.appended.load(Ordering::Acquire));
        if visible > marks.visible.load(Ordering::Acquire) {
            // Readers pass over what is below: it must not stand in the buffer. A failure poisons the store, and nothing more is shown.
            if appender.tail.flush(self.mapped.load(Ordering::Relaxed)).is_ok() {
                marks.visible.fetch_max(visible, Ordering::AcqRel);
            }
        }
    }

    /// Refuses an event of another's undecided fence. Says whether it is one of `own`, and so undecided too.
    pub(super) fn check_pending(&self, what: &'static str, sequence: u64, own: Option<&FenceKey>) -> Result<bool> {
        if sequence < self.marks.open_floor.load(Ordering::Acquire) {
            return Ok(false);
        }
        // Or who tries again would be told the same for ever.
        self.expire_fences();
        let guard = self.lock_appender();
        match guard.as_ref().and_then(|appender| appender.fences.undecided_of(sequence)) {
            None => Ok(false),
            Some(token) if own.is_some_and(|own| own.token == token) => Ok(true),
            Some(_) => Err(Error::FencePending { what, sequence }),
        }
    }

    /// The commits of the fences in a segment are made durable before it is indexed.
    pub(super) fn settle_before_seal(&self, end: u64) -> Result<()> {
        if end <= self.marks.seal_floor.load(Ordering::Acquire) {
            return Ok(());
        }
        let (bound, ticket) = match &*self.lock_appender() {
            Some(appender) => (appender.next_sequence, appender.ticket),
            None => return Err(Error::Closed { what: "store" }),
        };
        self.commit_ticket(bound, ticket)
    }

    /// Space and the frames that come first, for a control frame of `bytes`. On failure nothing changed.
    fn begin_control(&self, appender: &mut Appender, bytes: u64) -> Result<()> {
        let room = bytes + appender.fences.owed_bytes() + (control::MARK_BYTES + control::EPOCH_BYTES) as u64;
        if !appender.tail.fits(room) && appender.index.count() > 0 {
            self.rotate(appender)?;
        }
        appender.tail.make_room(room as usize)?;
        appender.tail.reserve(room)?;
        self.begin_epoch(appender)?;
        self.write_first(appender);
        Ok(())
    }
}

const FENCE_COMMIT_BYTES: u32 = 32;
