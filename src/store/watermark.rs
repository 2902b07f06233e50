//! Waiting until a mark has reached a bound: threads, and a descriptor for event loops.
//!
//! Each waiter is woken once, when its own bound is reached: a publisher compares the marks with the lowest bound waited for, and takes
//! the lock only when there is somebody to wake. No wake-up is lost, for the reason given in `signal`: the waiter enlists,
//! *then* looks at the mark; the publisher moves the mark, *then* looks for who is enlisted.
//!
//! Durable is not waited for but made: who asks for it waits until enough is appended, then joins the group commit. Who must not
//! block leaves that to the helper thread, at once or (`State::sync_at`) when enough is appended, and watches the descriptor.
//!
//! The descriptor is signalled by whoever moved the durable mark, by a failed write or sync, and by close. It is cleared by a look that
//! fails, before the mark is looked at again.
//!
//! `State` is behind a lock of its own, the last in the order: no other is taken, and nothing of a host's is called, under it.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::io::latch::Latch;
use crate::io::notify::EventFd;
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, OnceLock};

use super::signal::SignalBoard;
use super::{Inner, Marks, Store};

/// A mark to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watermark {
    /// Delivered to cursors.
    Visible,
    /// Safe from power loss.
    Durable,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Every sequence below the bound is so.
    Reached,
    /// Not in time.
    TimedOut,
}

/// One wait in [`SignalBoard`]'s count of who is armed.
pub(super) const WAIT: u64 = 1 << 32;

/// The marks that publishers compare with bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Appended,
    Visible,
}

/// Who waits for marks.
#[derive(Debug)]
pub(super) struct MarkWaits {
    marks: Arc<Marks>,
    /// The lowest bound waited for, by [`Mark`]; `u64::MAX`: none. Written under the lock.
    lowest: [AtomicU64; 2],
    state: Mutex<State>,
    durable_notify: OnceLock<EventFd>,
}

#[derive(Debug, Default)]
struct State {
    waiters: Vec<Waiter>,
    /// The helper is to sync once this much is appended.
    sync_at: Option<(u64, Weak<Inner>)>,
    closed: bool,
    /// A close waits for handlers: theirs are the waits to end.
    closing: bool,
}

#[derive(Debug)]
struct Waiter {
    mark: Mark,
    bound: u64,
    condition: Arc<Condvar>,
}

impl MarkWaits {
    pub fn new(marks: Arc<Marks>) -> MarkWaits {
        MarkWaits {
            marks,
            lowest: [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)],
            state: Mutex::default(),
            durable_notify: OnceLock::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self, mark: Mark) -> u64 {
        match mark {
            Mark::Appended => self.marks.appended.load(Ordering::Acquire),
            Mark::Visible => self.marks.visible.load(Ordering::Acquire),
        }
    }

    fn is_due(&self, mark: Mark) -> bool {
        self.lowest[mark as usize].load(Ordering::Relaxed) <= self.now(mark)
    }

    /// After every change of waiters or `sync_at`.
    fn note_lowest(&self, state: &State) {
        for mark in [Mark::Appended, Mark::Visible] {
            let bounds = state.waiters.iter().filter(|waiter| waiter.mark == mark).map(|waiter| waiter.bound);
            let sync_at = state.sync_at.iter().filter(|_| mark == Mark::Appended).map(|(bound, _)| *bound);
            let lowest = bounds.chain(sync_at).min().unwrap_or(u64::MAX);
            self.lowest[mark as usize].store(lowest, Ordering::Relaxed);
        }
    }

    fn signal_durable(&self) {
        if let Some(notify) = self.durable_notify.get() {
            notify.signal();
        }
    }
}

impl SignalBoard {
    /// Wakes those whose bound is reached. A publisher's, with no lock held.
    pub(super) fn wake_reached(&self) {
        let waits = &self.waits;
        if !waits.is_due(Mark::Appended) && !waits.is_due(Mark::Visible) {
            return;
        }
        let mut woken = Vec::new();
        let mut sync = None;
        {
            let mut state = waits.lock();
            state.waiters.retain(|waiter| {
                let is_reached = waits.now(waiter.mark) >= waiter.bound;
                if is_reached {
                    woken.push(waiter.condition.clone());
                }
                !is_reached
            });
            if state.sync_at.as_ref().is_some_and(|(bound, _)| waits.now(Mark::Appended) >= *bound) {
                sync = state.sync_at.take();
            }
            waits.note_lowest(&state);
            self.armed.fetch_sub((woken.len() + usize::from(sync.is_some())) as u64 * WAIT, Ordering::SeqCst);
        }
        for condition in woken {
            condition.notify_one();
        }
        if let Some((bound, inner)) = sync {
            match inner.upgrade() {
                // Who asked for more than `bound` is to ask again, and may have cleared the descriptor since this was synced.
                Some(inner) if inner.is_durable(bound) => waits.signal_durable(),
                Some(inner) => inner.helper.sync(&inner),
                None => {}
            }
        }
    }

    /// Has everybody look at the state of the store.
    fn wake_all(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.waits.lock();
        change(&mut state);
        for waiter in &state.waiters {
            waiter.condition.notify_one();
        }
    }

    /// The durable mark has moved: signals the descriptor and publishes. No lock is held.
    pub(super) fn publish_durable(&self) {
        self.waits.signal_durable();
        self.publish();
    }

    /// The latch has tripped: no mark will move any more. Locks may be held: nothing of the host's is called.
    pub(super) fn poison_waits(&self) {
        self.wake_all(|_| ());
        self.waits.signal_durable();
    }

    /// Ends all waits, for good.
    pub(super) fn close_waits(&self) {
        self.wake_all(|state| state.closed = true);
        self.waits.signal_durable();
    }

    /// A fence was begun that nobody watches but who waits.
    pub(super) fn watch_fences(&self) {
        self.wake_all(|_| ());
        self.publish();
    }

    /// While a close waits for handlers, these must not wait for what may never come.
    pub(super) fn end_waits_of_handlers(&self, closing: bool) {
        self.wake_all(|state| state.closing = closing);
    }

    /// Waits until `mark` has reached `bound`.
    fn wait_for(&self, mark: Mark, bound: u64, deadline: Option<Instant>, caller: &Caller<'_>) -> Result<Waited> {
        let waits = &self.waits;
        if waits.now(mark) >= bound {
            return Ok(Waited::Reached);
        }
        let condition = Arc::new(Condvar::new());
        let mut state = waits.lock();
        state.waiters.push(Waiter { mark, bound, condition: condition.clone() });
        waits.note_lowest(&state);
        self.armed.fetch_add(WAIT, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let ended = loop {
            if waits.now(mark) >= bound {
                break Ok(Waited::Reached);
            }
            if let Err(error) = caller.check(&state) {
                break Err(error);
            }
            let expiry = caller.expires.and_then(Inner::fence_deadline);
            state = match [deadline, expiry].into_iter().flatten().min() {
                None => condition.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if !left.is_zero() {
                        condition.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                    } else if deadline == Some(until) {
                        break Ok(Waited::TimedOut);
                    } else {
                        drop(state);
                        if let Some(inner) = caller.expires {
                            inner.expire_fences();
                        }
                        waits.lock()
                    }
                }
            };
        };
        // Unless who woke it has done so.
        if let Some(at) = state.waiters.iter().position(|waiter| Arc::ptr_eq(&waiter.condition, &condition)) {
            state.waiters.swap_remove(at);
            waits.note_lowest(&state);
            self.armed.fetch_sub(WAIT, Ordering::SeqCst);
        }
        ended
    }

    /// Has the helper sync as soon as `bound` is appended; of several bounds the lowest counts, as who is woken by it asks again.
    fn sync_at(&self, bound: u64, inner: Weak<Inner>) {
        {
            let mut state = self.waits.lock();
            match &mut state.sync_at {
                Some((lowest, _)) => *lowest = bound.min(*lowest),
                none => {
                    *none = Some((bound, inner));
                    self.armed.fetch_add(WAIT, Ordering::SeqCst);
                }
            }
            self.waits.note_lowest(&state);
        }
        fence(Ordering::SeqCst);
        self.wake_reached();
    }
}

/// Why a wait may have to end early.
struct Caller<'a> {
    latch: &'a Latch,
    is_handler: bool,
    /// No helper thread does it: who waits ends the fences whose time is over.
    expires: Option<&'a Inner>,
}

impl Caller<'_> {
    fn check(&self, state: &State) -> Result<()> {
        if state.closed || state.closing && self.is_handler {
            return Err(Error::Closed { what: "store" });
        }
        self.latch.check()
    }
}

impl Inner {
    /// Has the helper sync, unless `bound` is durable. Without a helper nothing happens.
    fn sync_in_background(&self, bound: u64) {
        if !self.is_durable(bound) {
            self.helper.sync(self);
        }
    }
}

impl Store {
    /// Waits until `mark` has reached `bound`: all sequences below it are visible, or durable. `None` waits for ever, zero not at all.
    ///
    /// Waiting for durable forces a sync, as soon as `bound` is appended; one that this thread has begun is waited for beyond
    /// the timeout. With a timeout of zero the helper thread is asked for it, and the descriptor of [`Store::durable_fd`] cleared.
    ///
    /// [`Error::Closed`] when the store closes meanwhile (inside a handler: when a close waits for it), [`Error::Poisoned`] when a write
    /// or sync has failed and the mark is not there.
    pub fn wait(&self, mark: Watermark, bound: u64, timeout: Option<Duration>) -> Result<Waited> {
        let inner = &*self.inner;
        inner.check_usable()?;
        if self.has_reached(mark, bound) {
            return Ok(Waited::Reached);
        }
        inner.latch.check()?;
        if mark == Watermark::Durable {
            inner.check_writable("a wait for durable")?;
        }
        let deadline = match timeout {
            Some(Duration::ZERO) => return self.look(mark, bound),
            // Beyond what the clock can count is for ever.
            timeout => timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        };
        let expires = (!inner.helper.is_enabled()).then_some(inner);
        let caller = Caller { latch: &inner.latch, is_handler: self.in_handler(), expires };
        match mark {
            Watermark::Visible => inner.signals.wait_for(Mark::Visible, bound, deadline, &caller),
            Watermark::Durable => match inner.signals.wait_for(Mark::Appended, bound, deadline, &caller)? {
                Waited::Reached => inner.commit_until(bound, deadline),
                Waited::TimedOut => Ok(Waited::TimedOut),
            },
        }
    }

    /// A descriptor for event loops, owned by the store: readable when the durable mark may have moved, until a wait for
    /// durable with a timeout of zero times out. Readable at first.
    pub fn durable_fd(&self) -> Result<i32> {
        self.inner.check_usable()?;
        let place = &self.inner.signals.waits.durable_notify;
        if place.get().is_none() {
            let notify = EventFd::new()?;
            notify.signal();
            let _ = place.set(notify);
        }
        place.get().map_or_else(|| unreachable!("set above"), |notify| Ok(notify.fd()))
    }

    fn has_reached(&self, mark: Watermark, bound: u64) -> bool {
        match mark {
            Watermark::Visible => self.inner.marks.visible.load(Ordering::Acquire) >= bound,
            Watermark::Durable => self.inner.is_durable(bound),
        }
    }

    /// The mark is not there, and the caller must not block.
    fn look(&self, mark: Watermark, bound: u64) -> Result<Waited> {
        if mark == Watermark::Visible {
            return Ok(Waited::TimedOut);
        }
        let inner = &*self.inner;
        let waits = &inner.signals.waits;
        if let Some(notify) = waits.durable_notify.get() {
            notify.clear();
        }
        // Whatever signalled before the clearing is seen from here on.
        let looked = match inner.check_usable().and_then(|()| inner.latch.check()) {
            Ok(()) if self.has_reached(mark, bound) => Ok(Waited::Reached),
            Ok(()) => Ok(Waited::TimedOut),
            Err(error) => Err(error),
        };
        if !matches!(looked, Ok(Waited::TimedOut)) {
            waits.signal_durable();
            return looked;
        }
        if inner.helper.is_enabled() {
            match waits.now(Mark::Appended) >= bound {
                true => inner.sync_in_background(bound),
                false => inner.signals.sync_at(bound, inner.itself.clone()),
            }
        }
        Ok(Waited::TimedOut)
    }
}
