//! Waiting without sleeping: one signal per cursor, armed by who finds nothing, fired by who publishes.
//!
//! The protocol that loses no wake-up: the waiter arms, *then* looks at the marks again, then waits; the publisher moves the mark, *then*
//! looks for armed signals. Both pairs are ordered by sequentially consistent fences, so one of the two sees the other. Firing disarms: a
//! signal is fired once per arming, however much is published (coalesced).
//!
//! No lock is held while the wake function of a host runs.

use std::sync::{Arc, PoisonError, Weak};

use crate::error::Result;
use crate::io::notify::EventFd;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, OnceLock};

use super::Marks;
use super::watermark::{MarkWaits, WAIT};

type WakeFunction = Arc<dyn Fn() + Send + Sync>;

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Something may have become visible.
    Published,
    /// The deadline passed.
    Timeout,
    /// [`Signal::interrupt`] was called; the latch is now clear.
    Interrupted,
    /// The store was closed.
    Closed,
}

/// The armed signals of one store, and the waits for its marks.
#[derive(Debug)]
pub(crate) struct SignalBoard {
    /// Armed signals, and [`WAIT`] for each wait for a mark: one load tells a publisher that there is nobody. Never less than there are.
    pub(super) armed: AtomicU64,
    signals: Mutex<Vec<Weak<Signal>>>,
    pub(super) waits: MarkWaits,
}

impl SignalBoard {
    pub(super) fn new(marks: Arc<Marks>) -> SignalBoard {
        SignalBoard { armed: AtomicU64::new(0), signals: Mutex::default(), waits: MarkWaits::new(marks) }
    }

    pub fn new_signal(self: &Arc<SignalBoard>) -> Arc<Signal> {
        let signal = Arc::new(Signal {
            board: self.clone(),
            armed: AtomicBool::new(false),
            state: Mutex::default(),
            condition: Condvar::new(),
            notify: OnceLock::new(),
            wake: Mutex::default(),
        });
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        signals.retain(|signal| signal.strong_count() > 0);
        signals.push(Arc::downgrade(&signal));
        signal
    }

    /// Fires every armed signal and wakes whose bound is reached. Call it after moving a mark, with no lock held.
    #[inline]
    pub fn publish(&self) {
        fence(Ordering::SeqCst);
        let armed = self.armed.load(Ordering::Relaxed);
        if armed > 0 {
            self.wake(armed);
        }
    }

    #[cold]
    fn wake(&self, armed: u64) {
        if armed >= WAIT {
            self.wake_reached();
        }
        if armed % WAIT > 0 {
            self.fire_armed();
        }
    }

    fn fire_armed(&self) {
        // All of them are kept until the lock is given back: with its last reference a signal drops what the host gave it.
        let signals: Vec<_> = {
            let signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
            signals.iter().filter_map(Weak::upgrade).collect()
        };
        for signal in signals.into_iter().filter(|signal| signal.disarm()) {
            signal.fire(|state| state.published = true);
        }
    }

    /// Ends all waiting, for good.
    pub fn close(&self) {
        self.close_waits();
        let signals: Vec<_> = {
            let signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
            signals.iter().filter_map(Weak::upgrade).collect()
        };
        for signal in signals {
            signal.disarm();
            signal.fire(|state| state.closed = true);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    published: bool,
    interrupted: bool,
    closed: bool,
}

/// What one cursor waits on: a thread, a descriptor or a host's function, whichever it has.
pub(crate) struct Signal {
    board: Arc<SignalBoard>,
    armed: AtomicBool,
    state: Mutex<State>,
    condition: Condvar,
    notify: OnceLock<EventFd>,
    wake: Mutex<Option<WakeFunction>>,
}

impl std::fmt::Debug for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signal").field("armed", &self.armed).finish_non_exhaustive()
    }
}

impl Signal {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the next publication fires this signal. Look at the marks again after it.
    pub fn arm(&self) {
        // Counted before it can be disarmed: a publisher that disarmed it in between would take another's place out of the count, and
        // whoever publishes then would see nobody.
        self.board.armed.fetch_add(1, Ordering::SeqCst);
        if self.armed.swap(true, Ordering::SeqCst) {
            self.board.armed.fetch_sub(1, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
    }

    /// Nobody waits any more. Says whether the signal was armed.
    pub fn disarm(&self) -> bool {
        let was_armed = self.armed.swap(false, Ordering::SeqCst);
        if was_armed {
            self.board.armed.fetch_sub(1, Ordering::SeqCst);
        }
        was_armed
    }

    fn fire(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.condition.notify_all();
        if let Some(notify) = self.notify.get() {
            notify.signal();
        }
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Waits until fired, interrupted, closed, or the deadline. `None` waits for ever.
    pub fn wait(&self, deadline: Option<Instant>) -> Woken {
        let mut state = self.state();
        loop {
            if state.closed {
                return Woken::Closed;
            }
            if std::mem::take(&mut state.interrupted) {
                return Woken::Interrupted;
            }
            if std::mem::take(&mut state.published) {
                return Woken::Published;
            }
            state = match deadline {
                None => self.condition.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Woken::Timeout;
                    }
                    self.condition.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Wakes the waiter, or the next one if there is none now.
    pub fn interrupt(&self) {
        self.fire(|state| state.interrupted = true);
    }

    /// The descriptor for event loops, made at first use and readable at first.
    pub fn notify_fd(&self) -> Result<i32> {
        if self.notify.get().is_none() {
            let notify = EventFd::new()?;
            notify.signal();
            let _ = self.notify.set(notify);
        }
        self.notify.get().map_or_else(|| unreachable!("set above"), |notify| Ok(notify.fd()))
    }

    /// Event loops wait on this signal, so an empty poll leaves it armed.
    pub fn is_watched(&self) -> bool {
        self.notify.get().is_some() || self.wake.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Makes the descriptor unreadable. Look at the marks again after it.
    pub fn clear_notify(&self) {
        if let Some(notify) = self.notify.get() {
            notify.clear();
        }
    }

    /// Sets or removes the host's wake function. A call of the old one that has begun may still be running on return.
    pub fn set_wake(&self, wake: Option<Box<dyn Fn() + Send + Sync>>) {
        let old = std::mem::replace(
            &mut *self.wake.lock().unwrap_or_else(PoisonError::into_inner),
            wake.map(|wake| -> WakeFunction { Arc::from(wake) }),
        );
        drop(old);
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        self.disarm();
    }
}
