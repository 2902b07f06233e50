//! Delivery: cursors that read a region in order, checkpoints that make their position durable, workers that run a
//! handler on it.
//!
//! A [`Cursor`] is used by one thread at a time, any one; a second one gets `Concurrent`. Only
//! [`Cursor::interrupt`] and [`Cursor::close`] are for every thread at any time.
//!
//! Invariants of the sharing:
//! 1. The consumer is touched only under its mutex, which is never waited for but by a close, and never by the thread that
//!    holds it.
//! 2. No lock is held while a host's wake function runs for this cursor: announcements are made after unlocking.
//! 3. `closing` is set once, by [`Cursor::close`] or by the store's close, and never cleared. Whoever sets it, or unlocks and
//!    then sees it, gives up the checkpoint id; between the two orders stands a fence, so that one of them does.
//!
//! The interrupt that callers see is latched here, in `interrupted`. [`Signal::interrupt`] serves as a plain wake-up.

use std::sync::{Arc, PoisonError, TryLockError, Weak};

use crate::error::{Error, Result};
use crate::event::{EventId, Region};
use crate::io::thread;
use crate::store::{Child, ChildKind, Signal, Store};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::sync::{Instant, Mutex, MutexGuard};

pub mod checkpoint;
mod consumer;
mod delivery;
mod gap;
mod position;
mod restart;
#[cfg(test)]
mod tests;
pub mod worker;

pub use checkpoint::Checkpoint;
pub use consumer::{PollTimeout, Polled};
pub use delivery::{Delivery, Handler, Outcome};
pub use gap::{Gap, GapList, SequenceRange};
pub use position::{CursorPosition, Direction};
pub use restart::RestartPolicy;
pub use worker::{JoinOutcome, Worker, WorkerOptions, WorkerStats};

use consumer::{BatchBounds, Consumer};

/// How a cursor is opened.
#[derive(Debug, Clone, Default)]
pub struct CursorOptions {
    /// Resume from the checkpoint of this id, and persist to it. One live consumer may have it. Default: none.
    pub checkpoint_id: Option<String>,
    /// Which way to read. Backward begins at the visible end, ends at the first event, never waits, and takes no checkpoint and no gaps.
    pub direction: Direction,
    /// Look for gaps, and keep so many until [`Cursor::take_gaps`]. Default: 0, off.
    pub gap_capacity: usize,
}

/// An ordered reader of a region. Every clone is the same cursor.
#[derive(Debug, Clone)]
pub struct Cursor {
    shared: Arc<Shared>,
}

impl Cursor {
    /// Opens a cursor at its checkpoint, or at the beginning when it has none; backward, at the visible end.
    pub fn open(store: &Store, region: Region, options: &CursorOptions) -> Result<Cursor> {
        let signal = store.new_signal();
        let consumer = match (options.direction, options.checkpoint_id.as_deref()) {
            (Direction::Forward, id) => {
                Consumer::open(store, &region, id, signal.clone())?.with_gaps(options.gap_capacity)
            }
            (Direction::Backward, None) if options.gap_capacity == 0 => {
                Consumer::open_backward(store, &region, signal.clone())?
            }
            (Direction::Backward, None) => {
                return Err(Error::InvalidArgument {
                    what: "the gap capacity of a backward cursor",
                    value: options.gap_capacity.to_string(),
                    remedy: "give 0; gaps are what a reader forward steps over",
                });
            }
            (Direction::Backward, Some(id)) => {
                return Err(Error::InvalidArgument {
                    what: "the checkpoint id of a backward cursor",
                    value: format!("{id:?}"),
                    remedy: "give none; a checkpoint says that everything before it is done",
                });
            }
        };
        let shared = Arc::new(Shared {
            store: store.clone(),
            signal,
            consumer: Mutex::new(consumer),
            holder: AtomicUsize::new(NOBODY),
            interrupted: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            is_store_closing: AtomicBool::new(false),
        });
        let child: Weak<dyn Child> = Arc::downgrade(&shared) as Weak<dyn Child>;
        store.register_child(child)?;
        Ok(Cursor { shared })
    }

    /// The next matching visible events: at most `events`, and `payload_bytes` of payload but for the first event (0: no
    /// bound). It moves the position, never the checkpoint.
    ///
    /// An interrupt comes before events that are there. After an error the position is where it was. Backward, the events
    /// come newest first, and behind the first one the poll is empty at once.
    pub fn poll(&self, events: usize, payload_bytes: u64, timeout: PollTimeout) -> Result<Polled> {
        let bounds = BatchBounds::new(events, payload_bytes)?;
        let mut consumer = self.shared.enter()?;
        let polled = consumer.poll(bounds, timeout, || self.shared.is_interrupted());
        match polled {
            Ok(Polled::Interrupted) if self.shared.is_closing() => Err(self.shared.closed()),
            Ok(Polled::Interrupted) => {
                self.shared.interrupted.store(false, Ordering::SeqCst);
                Ok(Polled::Interrupted)
            }
            polled => polled,
        }
    }

    /// Makes the position durable: after a restart, events behind it do not come again.
    pub fn checkpoint(&self) -> Result<()> {
        self.shared.enter()?.checkpoint()
    }

    /// Makes a position durable that lies at or before the current one: `sequence` and all before it are done.
    pub fn checkpoint_at(&self, sequence: u64) -> Result<()> {
        self.shared.enter()?.checkpoint_at(sequence)
    }

    /// Goes back to what the checkpoint says; without one, to the beginning, or backward to where the cursor was opened.
    pub fn rewind(&self) -> Result<()> {
        self.shared.enter()?.rewind();
        Ok(())
    }

    /// Moves to `sequence`: the next event delivered is that one or a later one; backward, an earlier one. At most the
    /// visible watermark.
    pub fn seek(&self, sequence: u64) -> Result<()> {
        self.shared.enter()?.seek(sequence)
    }

    /// Moves to the first event at or after a time in microseconds since the Unix epoch. Backward, that one is not delivered
    /// but what is before it.
    pub fn seek_time(&self, time_us: i64) -> Result<()> {
        self.shared.enter()?.seek_time(time_us)
    }

    /// Moves before the first event.
    pub fn seek_beginning(&self) -> Result<()> {
        self.seek(0)
    }

    /// Moves behind the last visible event.
    pub fn seek_end(&self) -> Result<()> {
        self.shared.enter()?.seek_end()
    }

    /// Where the cursor stands.
    pub fn position(&self) -> Result<CursorPosition> {
        Ok(self.shared.enter()?.position())
    }

    /// Comes back to a position that the caller kept ([`CursorPosition::next_sequence`] and
    /// [`CursorPosition::position_id`]), after holding it against the log as a checkpoint would be: `CheckpointAhead` beyond
    /// the end, `CheckpointDiverged` when the log has another event there. Without an id only the first is checked.
    pub fn seek_position(&self, next_sequence: u64, id: Option<EventId>) -> Result<()> {
        self.shared.enter()?.seek_position(next_sequence, id)
    }

    /// The gaps of what was delivered since this was last asked; none without [`CursorOptions::gap_capacity`].
    pub fn take_gaps(&self) -> Result<GapList> {
        Ok(self.shared.enter()?.take_gaps())
    }

    /// How many visible events were not scanned yet, matching or not.
    pub fn lag(&self) -> Result<u64> {
        self.shared.enter()?.lag()
    }

    /// A descriptor for event loops, owned by the cursor: readable while events may be available, until a poll finds none.
    pub fn notify_fd(&self) -> Result<i32> {
        let consumer = self.shared.enter()?;
        consumer.check_can_wait()?;
        let fd = self.shared.signal.notify_fd()?;
        self.shared.signal.arm();
        Ok(fd)
    }

    /// Calls `wake` when events may be available, once per poll that found none; None removes it. Poll until there is
    /// nothing after setting it. It runs on the publisher's thread, with no lock held.
    pub fn set_wake(&self, wake: Option<Box<dyn Fn() + Send + Sync>>) -> Result<()> {
        let consumer = self.shared.enter()?;
        consumer.check_can_wait()?;
        self.shared.signal.set_wake(wake);
        self.shared.signal.arm();
        Ok(())
    }

    /// Ends the poll that is waiting, or else the next one, with [`Polled::Interrupted`]. From any thread.
    pub fn interrupt(&self) -> Result<()> {
        self.shared.store.check_usable()?;
        if self.shared.is_closing() {
            return Err(self.shared.closed());
        }
        self.shared.interrupted.store(true, Ordering::SeqCst);
        self.shared.signal.interrupt();
        Ok(())
    }

    /// Ends the cursor, from any thread: a poll that is waiting ends with `Closed`, and the checkpoint id is free on return.
    /// What was polled and not checkpointed comes again. Closing again is fine.
    pub fn close(&self) -> Result<()> {
        self.shared.close()
    }
}

// ---- sharing -----------------------------------------------------------------------------------------------------

const NOBODY: usize = 0;

#[derive(Debug)]
struct Shared {
    store: Store,
    signal: Arc<Signal>,
    consumer: Mutex<Consumer>,
    /// The thread in the consumer, by [`thread::current`].
    holder: AtomicUsize,
    interrupted: AtomicBool,
    closing: AtomicBool,
    /// The store's close holds the consumer, or has held it; set before it tries to, never cleared.
    is_store_closing: AtomicBool,
}

impl Shared {
    /// The consumer, for the only thread that is in it.
    fn enter(&self) -> Result<Entered<'_>> {
        self.store.check_usable()?;
        let consumer = match self.consumer.try_lock() {
            Ok(consumer) => consumer,
            Err(TryLockError::WouldBlock) if self.is_closing() => return Err(self.closed()),
            Err(TryLockError::WouldBlock) => {
                fence(Ordering::SeqCst);
                return Err(match self.is_store_closing.load(Ordering::Relaxed) {
                    true => Error::Closed { what: "store" },
                    false => Error::Concurrent { what: "cursor" },
                });
            }
            Err(TryLockError::Poisoned(_)) => {
                return Err(Error::Internal { what: "cursor", message: "a call on it panicked".to_owned() });
            }
        };
        self.holder.store(thread::current(), Ordering::Relaxed);
        let entered = Entered { shared: self, consumer: Some(consumer) };
        match self.is_closing() {
            true => Err(self.closed()),
            false => Ok(entered),
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// A poll is to end.
    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst) || self.is_closing()
    }

    fn closed(&self) -> Error {
        Error::Closed { what: "cursor" }
    }

    fn close(&self) -> Result<()> {
        if let Err(forked @ Error::Forked { .. }) = self.store.check_usable() {
            return Err(forked);
        }
        self.closing.store(true, Ordering::SeqCst);
        self.signal.interrupt();
        if self.holder.load(Ordering::Relaxed) == thread::current() {
            // From inside a call of this thread on this cursor: that call gives up the id when it returns.
            return Ok(());
        }
        let mut consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.store.check_usable().is_ok() {
            consumer.refresh();
        }
        self.give_up(&mut consumer);
        Ok(())
    }

    fn give_up(&self, consumer: &mut MutexGuard<'_, Consumer>) {
        consumer.release();
    }

    /// Gives up the id unless somebody is in the consumer, who then does it on leaving.
    fn give_up_if_free(&self) {
        fence(Ordering::SeqCst);
        match self.consumer.try_lock() {
            Ok(mut consumer) => self.give_up(&mut consumer),
            Err(TryLockError::Poisoned(poisoned)) => self.give_up(&mut poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
    }
}

impl Child for Shared {
    /// A cursor never holds up a close, and goes on if the close is given up.
    fn stop(&self) {}

    fn wait_idle(&self, _deadline: Option<Instant>) -> bool {
        true
    }

    fn at_close(&self) {
        // For a thread of the host's that finds the consumer taken: by no other of its own.
        self.is_store_closing.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if let Ok(mut consumer) = self.consumer.try_lock() {
            consumer.refresh();
        }
    }

    fn release(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.signal.interrupt();
        self.give_up_if_free();
    }

    fn is_live(&self) -> bool {
        !self.is_closing()
    }

    fn kind(&self) -> ChildKind {
        ChildKind::Cursor
    }
}

/// The consumer in the hands of one thread.
struct Entered<'a> {
    shared: &'a Shared,
    /// None only while dropping.
    consumer: Option<MutexGuard<'a, Consumer>>,
}

impl std::ops::Deref for Entered<'_> {
    type Target = Consumer;

    fn deref(&self) -> &Consumer {
        self.consumer.as_ref().expect("held until dropped")
    }
}

impl std::ops::DerefMut for Entered<'_> {
    fn deref_mut(&mut self) -> &mut Consumer {
        self.consumer.as_mut().expect("held until dropped")
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let announce = self.consumer.as_mut().is_some_and(|consumer| consumer.take_announcement());
        self.shared.holder.store(NOBODY, Ordering::Relaxed);
        self.consumer = None;
        fence(Ordering::SeqCst);
        if self.shared.closing.load(Ordering::SeqCst) {
            self.shared.give_up_if_free();
        }
        if announce {
            self.shared.signal.interrupt();
        }
    }
}
