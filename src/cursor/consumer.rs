//! One consumer's pass over a region: what cursors and workers have in common. It is used by one thread at a time; who
//! shares it sees to that.
//!
//! Invariants:
//! 1. A poll starts at the scanned bound, and moves [`Progress`] only after the batch is in hand: a failed poll loses nothing.
//! 2. Committed moves only after the record is durable ([`Consumer::commit_place`]).
//! 3. No wake-up is lost: an empty poll clears the descriptor and arms the signal, and only then looks again.
//! 4. The descriptor is unreadable only between an empty look and the next publication. Whoever clears it and does not
//!    then look and find nothing, or moves back to where events are, owes an announcement (`announcement_due`), which
//!    the owner makes once no lock is held.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::event::{EventBatch, EventId, Region};
use crate::store::{BackwardScan, LogLevel, Scan, Signal, Store, Woken};
use crate::sync::Instant;

use super::checkpoint::{self, Claim};
use super::gap::{GapList, Gaps};
use super::position::{CursorPosition, Direction, Last, Place, Progress};

/// How long a poll that finds nothing waits for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollTimeout {
    /// Not at all: [`Polled::Empty`].
    Never,
    /// At most this long: [`Polled::Timeout`].
    For(Duration),
    /// Until there are events, an interrupt or a close.
    Forever,
}

/// What a poll brought.
#[derive(Debug)]
pub enum Polled {
    /// At least one event.
    Batch(EventBatch),
    /// Nothing matches so far, and the poll was not to wait.
    Empty,
    /// Nothing matched in time.
    Timeout,
    /// Interrupted; nothing was delivered.
    Interrupted,
}

/// The bounds of one batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchBounds {
    pub(crate) events: usize,
    /// `u64::MAX`: none.
    pub(crate) payload_bytes: u64,
}

impl BatchBounds {
    /// At least one event; 0 bytes mean no bound.
    pub(crate) fn new(events: usize, payload_bytes: u64) -> Result<BatchBounds> {
        if events == 0 {
            return Err(Error::InvalidArgument {
                what: "the bound on the events of a batch",
                value: "0".to_owned(),
                remedy: "give at least 1",
            });
        }
        Ok(BatchBounds { events, payload_bytes: if payload_bytes == 0 { u64::MAX } else { payload_bytes } })
    }
}

/// The durable side of a consumer with a checkpoint id.
#[derive(Debug)]
struct Durable {
    claim: Claim,
    region_identity: String,
    /// The file holds the committed place, durably: this consumer has written it. What an earlier one wrote may have been killed
    /// before its name was synced.
    is_saved: bool,
    /// The end of the sealed segments when a refresh was last tried: a failed one waits for the next seal.
    refreshed_at: u64,
}

/// How the log is gone through, as [`Progress::direction`] says.
enum Way {
    Forward(Scan),
    Backward(BackwardScan),
}

pub(crate) struct Consumer {
    store: Store,
    signal: Arc<Signal>,
    way: Way,
    progress: Progress,
    durable: Option<Durable>,
    gaps: Option<Gaps>,
    announcement_due: bool,
}

impl Consumer {
    /// A consumer at its checkpoint, or at the beginning.
    pub(crate) fn open(
        store: &Store,
        region: &Region,
        checkpoint_id: Option<&str>,
        signal: Arc<Signal>,
    ) -> Result<Consumer> {
        store.check_usable()?;
        region.check()?;
        let (durable, progress) = match checkpoint_id {
            None => (None, Progress::default()),
            Some(id) => {
                let (durable, place) = Durable::open(store, region.identity(), id)?;
                (Some(durable), Progress::resume(place))
            }
        };
        let way = Way::Forward(Scan::new(region));
        Ok(Consumer { store: store.clone(), signal, way, progress, durable, gaps: None, announcement_due: false })
    }

    /// A consumer at the visible end, which reads what is there from the newest event back and then nothing more.
    pub(crate) fn open_backward(store: &Store, region: &Region, signal: Arc<Signal>) -> Result<Consumer> {
        store.check_usable()?;
        region.check()?;
        let progress = Progress::backward(store.watermarks().visible);
        let way = Way::Backward(BackwardScan::new(region));
        Ok(Consumer { store: store.clone(), signal, way, progress, durable: None, gaps: None, announcement_due: false })
    }

    /// Looks for gaps from now on, unless the capacity is 0.
    pub(crate) fn with_gaps(mut self, capacity: usize) -> Consumer {
        self.gaps = Gaps::new(capacity);
        self
    }

    /// The gaps observed since this was last asked.
    pub(crate) fn take_gaps(&mut self) -> GapList {
        self.gaps.as_mut().map(Gaps::take).unwrap_or_default()
    }

    /// The checkpoint id, when there is one.
    pub(crate) fn checkpoint_id(&self) -> Option<&str> {
        self.durable.as_ref().map(|durable| durable.claim.id())
    }

    pub(crate) fn position(&self) -> CursorPosition {
        CursorPosition::from(&self.progress)
    }

    /// Visible sequences that were not scanned yet.
    pub(crate) fn lag(&self) -> Result<u64> {
        let scanned = self.progress.current().scanned;
        Ok(match self.progress.direction() {
            Direction::Forward => self.store.watermarks().visible.saturating_sub(scanned),
            Direction::Backward => scanned.saturating_sub(self.store.first_sequence()?),
        })
    }

    /// Only what is still to be appended can be waited for.
    pub(crate) fn check_can_wait(&self) -> Result<()> {
        match self.progress.direction() {
            Direction::Forward => Ok(()),
            Direction::Backward => Err(Error::InvalidArgument {
                what: "the direction of the cursor",
                value: "backward".to_owned(),
                remedy: "poll it until it is empty; nothing new ever comes to it",
            }),
        }
    }

    // ---- reading -------------------------------------------------------------------------------------------------

    /// The next matches, waiting for them if asked to. `interrupted` says that the poll is to end.
    pub(crate) fn poll(
        &mut self,
        bounds: BatchBounds,
        timeout: PollTimeout,
        interrupted: impl Fn() -> bool,
    ) -> Result<Polled> {
        if interrupted() {
            return Ok(Polled::Interrupted);
        }
        if let Some(batch) = self.look(bounds)? {
            return Ok(Polled::Batch(batch));
        }
        if self.progress.direction() == Direction::Backward {
            return Ok(Polled::Empty);
        }
        self.wait_for_batch(bounds, timeout, interrupted)
    }

    #[cold]
    fn wait_for_batch(
        &mut self,
        bounds: BatchBounds,
        timeout: PollTimeout,
        interrupted: impl Fn() -> bool,
    ) -> Result<Polled> {
        let deadline = Deadline::of(timeout);
        loop {
            self.refresh_after_seal();
            if deadline == Deadline::Never && !self.signal.is_watched() {
                return Ok(Polled::Empty);
            }
            self.signal.clear_notify();
            self.signal.arm();
            // Also where the look does not come to an end: what was published before the descriptor was cleared is there unannounced.
            self.announcement_due = true;
            if interrupted() {
                self.stand_down();
                return Ok(Polled::Interrupted);
            }
            if let Some(batch) = self.look(bounds)? {
                self.stand_down();
                return Ok(Polled::Batch(batch));
            }
            self.announcement_due = false;
            if let Some(nothing) = self.wait(deadline)? {
                return Ok(nothing);
            }
            if interrupted() {
                return Ok(Polled::Interrupted);
            }
            if let Some(batch) = self.look(bounds)? {
                return Ok(Polled::Batch(batch));
            }
        }
    }

    /// Waits for the armed signal. None: look again.
    fn wait(&self, deadline: Deadline) -> Result<Option<Polled>> {
        let own = match deadline {
            Deadline::Never => return Ok(Some(Polled::Empty)),
            Deadline::At(instant) => Some(instant),
            Deadline::None => None,
        };
        let expiry = self.store.expiry_to_watch();
        match self.signal.wait([own, expiry].into_iter().flatten().min()) {
            Woken::Published | Woken::Interrupted => Ok(None),
            // The next look ends the fence, and sees what it has hidden.
            Woken::Timeout if own.is_none_or(|own| own > Instant::now()) => Ok(None),
            Woken::Timeout => {
                self.stand_down();
                Ok(Some(Polled::Timeout))
            }
            Woken::Closed => Err(Error::Closed { what: "store" }),
        }
    }

    /// No thread waits any more: spares publishers the call, unless an event loop waits.
    fn stand_down(&self) {
        if !self.signal.is_watched() {
            self.signal.disarm();
        }
    }

    /// The matches from the scanned bound on, or backward below it, without waiting.
    fn look(&mut self, bounds: BatchBounds) -> Result<Option<EventBatch>> {
        let from = self.progress.current().scanned;
        let (batch, scanned) = match &mut self.way {
            Way::Forward(scan) => scan.next(&self.store, from, bounds.events, bounds.payload_bytes),
            Way::Backward(scan) => scan.next(&self.store, from, bounds.events, bounds.payload_bytes),
        }?;
        match batch.events().last() {
            Some(last) => {
                if let Some(gaps) = &mut self.gaps {
                    gaps.look(&self.store, self.progress.current().next_sequence(), &batch)?;
                }
                self.progress.deliver(Last::from(last), scanned);
                Ok(Some(batch))
            }
            None => {
                self.progress.pass(scanned);
                Ok(None)
            }
        }
    }

    // ---- moving --------------------------------------------------------------------------------------------------

    /// Back to the committed place.
    pub(crate) fn rewind(&mut self) {
        self.progress.rewind();
        self.announcement_due = true;
    }

    /// The next delivered sequence will be `sequence` or later; backward, an earlier one.
    pub(crate) fn seek(&mut self, sequence: u64) -> Result<()> {
        let place = match self.progress.direction() {
            Direction::Forward => checkpoint::place_at(&self.store, sequence),
            Direction::Backward => checkpoint::place_below(&self.store, sequence),
        }?;
        self.move_to(place);
        Ok(())
    }

    pub(crate) fn seek_time(&mut self, time_us: i64) -> Result<()> {
        let sequence = self.store.first_sequence_at_or_after(time_us)?;
        self.seek(sequence)
    }

    pub(crate) fn seek_end(&mut self) -> Result<()> {
        self.seek(self.store.watermarks().visible)
    }

    /// To a place that a caller kept: held against the log like a checkpoint.
    pub(crate) fn seek_position(&mut self, next_sequence: u64, id: Option<EventId>) -> Result<()> {
        let path = Path::new("given by the caller");
        let place = match (self.progress.direction(), next_sequence.checked_sub(1)) {
            (Direction::Forward, None) => Place::default(),
            (Direction::Forward, Some(sequence)) => {
                Place::just_after(checkpoint::check_against_log(&self.store, path, sequence, id)?)
            }
            (Direction::Backward, _) => {
                // Before the first delivery the position has no event, and an id of zeros.
                let id = id.filter(|id| id.0 != [0; 16]);
                if id.is_none() && next_sequence == self.store.watermarks().visible {
                    Place { last: None, scanned: next_sequence }
                } else {
                    let last = checkpoint::check_against_log(&self.store, path, next_sequence, id)?;
                    Place { last: Some(last), scanned: next_sequence }
                }
            }
        };
        self.move_to(place);
        Ok(())
    }

    fn move_to(&mut self, place: Place) {
        self.progress.place(place);
        self.announcement_due = true;
    }

    /// Says, once, that events may be available although the descriptor is clear.
    pub(crate) fn take_announcement(&mut self) -> bool {
        std::mem::take(&mut self.announcement_due) && self.signal.is_watched()
    }

    // ---- committing ----------------------------------------------------------------------------------------------

    /// Commits everything delivered: to the file with a checkpoint id, else in memory.
    pub(crate) fn commit(&mut self) -> Result<()> {
        self.commit_place(self.progress.current())
    }

    /// Commits a delivered event and everything before it.
    pub(crate) fn commit_event(&mut self, event: Last) -> Result<()> {
        self.commit_place(Place::just_after(event))
    }

    /// Like [`Consumer::commit`], for consumers with a checkpoint id only.
    pub(crate) fn checkpoint(&mut self) -> Result<()> {
        self.check_durable()?;
        self.commit()
    }

    /// Commits up to `sequence`, which is at most the position. It may lie below what is committed already: those
    /// events come again after a restart.
    pub(crate) fn checkpoint_at(&mut self, sequence: u64) -> Result<()> {
        self.check_durable()?;
        let position = self.progress.current().last.map(|last| last.sequence);
        if position.is_none_or(|position| sequence > position) {
            let position = position.map_or_else(|| "none".to_owned(), |position| position.to_string());
            return Err(Error::NotDelivered { sequence, position });
        }
        self.commit_place(checkpoint::place_at(&self.store, sequence + 1)?)
    }

    fn check_durable(&self) -> Result<()> {
        match &self.durable {
            None => Err(Error::NoCheckpoint),
            Some(_) => checkpoint::check_writable(&self.store, "a checkpoint"),
        }
    }

    fn commit_place(&mut self, place: Place) -> Result<()> {
        if let Some(durable) = &mut self.durable {
            durable.save(&self.store, place, self.progress.committed())?;
        }
        self.progress.commit(place);
        Ok(())
    }

    /// Saves how far an idle consumer has scanned, once it has passed the end of sealed segments that the checkpoint lies below, so
    /// that a rare region is not scanned again after a restart and pins no segment. The bound says it, not a count of seals: a
    /// segment may seal between the look and a count, or before the consumer was there.
    fn refresh_after_seal(&mut self) {
        let Some(durable) = &mut self.durable else { return };
        if !self.progress.is_ahead_without_deliveries() {
            return;
        }
        let end = self.store.sealed_end();
        let is_passed = self.progress.committed().scanned < end && end <= self.progress.current().scanned;
        if is_passed && durable.refreshed_at < end {
            durable.refreshed_at = end;
            self.refresh();
        }
    }

    /// The same, whatever was sealed: for the end of a consumer. What was delivered and not committed stays so. A failure is
    /// logged and costs only the scan: the committed place stays right.
    pub(crate) fn refresh(&mut self) {
        if self.durable.is_none() || self.store.is_read_only() || !self.progress.is_ahead_without_deliveries() {
            return;
        }
        if let Err(error) = self.commit() {
            let id = self.checkpoint_id().unwrap_or_default();
            let message = format!("checkpoint {id:?} was not refreshed, its region is scanned again: {error}");
            self.store.log(LogLevel::Warning, "cursor", &message);
        }
    }

    /// Gives up the checkpoint id, for another consumer to take.
    pub(crate) fn release(&mut self) {
        self.durable = None;
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("progress", &self.progress)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

impl Durable {
    fn open(store: &Store, region_identity: String, id: &str) -> Result<(Durable, Place)> {
        let claim = Claim::acquire(store, id)?;
        let resumed = claim.resume(store, &region_identity)?;
        let durable = Durable { claim, region_identity, is_saved: false, refreshed_at: 0 };
        Ok((durable, resumed.unwrap_or_default()))
    }

    fn save(&mut self, store: &Store, place: Place, committed: Place) -> Result<()> {
        if self.is_saved && place == committed {
            return Ok(());
        }
        self.is_saved = false;
        self.claim.write(store, &self.region_identity, place)?;
        self.is_saved = true;
        Ok(())
    }
}

/// When waiting ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deadline {
    /// Before it begins.
    Never,
    At(Instant),
    /// No deadline.
    None,
}

impl Deadline {
    fn of(timeout: PollTimeout) -> Deadline {
        match timeout {
            PollTimeout::Never | PollTimeout::For(Duration::ZERO) => Deadline::Never,
            // Beyond what the clock can count is for ever.
            PollTimeout::For(duration) => Instant::now().checked_add(duration).map_or(Deadline::None, Deadline::At),
            PollTimeout::Forever => Deadline::None,
        }
    }
}
