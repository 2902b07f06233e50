//! Where a consumer stands: three bounds and the rules that move them. No I/O, no locks.
//!
//! * *position*: the last event that the consumer is done with, because it was delivered or because a seek stepped over
//!   it. None: not started. It is kept with the event's id, so that a log that went another way is recognised.
//! * *scanned*: every match below it was delivered or stepped over. The next poll starts here.
//! * *committed*: the position and scanned bound that a restart, or a rewind, returns to.
//!
//! Invariants, for the current and the committed [`Place`] alike:
//! 1. `scanned > position` when started.
//! 2. No match lies between `position` and `scanned`.
//!
//! | function | moves |
//! |---|---|
//! | [`Progress::deliver`] | position and scanned, forward |
//! | [`Progress::pass`] | scanned, forward: nothing matched |
//! | [`Progress::place`] | position and scanned, anywhere: a seek |
//! | [`Progress::rewind`] | position and scanned, to committed |
//! | [`Progress::commit`] | committed, anywhere |
//!
//! A seek to `s` places the consumer as if everything below `s` had been delivered: `scanned = s`, and `position = s - 1`
//! with the id of that event, whether or not it matches the region; a seek to 0 is "not started". So a checkpoint right
//! after a seek keeps the seek, readers of the first four keys of its file resume at `s` as well, and `next_sequence`
//! is `s`.
//!
//! **Backward** the same bounds are looked at from the other side: every match at or above *scanned* was delivered or
//! stepped over, `scanned <= position` when started, and a seek to `s` steps over `s` and everything above. `s` stands
//! before the event of that sequence in both directions: forward delivers it and what is above, backward what is below.
//! Committed is where the pass began.

use crate::event::{EventId, EventView};

/// An event as a position names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) sequence: u64,
    pub(crate) id: EventId,
}

impl From<&EventView> for Last {
    fn from(event: &EventView) -> Last {
        Last { sequence: event.sequence, id: EventId(event.id) }
    }
}

/// A position and the scanned bound that goes with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// None: not started.
    pub(crate) last: Option<Last>,
    pub(crate) scanned: u64,
}

impl Place {
    /// Done with `last` and everything before it.
    pub(crate) fn just_after(last: Last) -> Place {
        Place { last: Some(last), scanned: last.sequence + 1 }
    }

    /// What a caller exports to come back here: the sequence after the position, 0 when not started.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.last.map_or(0, |last| last.sequence + 1)
    }
}

/// Which way a cursor reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// From older to newer events.
    #[default]
    Forward,
    /// From newer to older events, and no further than the first.
    Backward,
}

/// The current and the committed place of one consumer.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    direction: Direction,
    current: Place,
    committed: Place,
}

impl Progress {
    /// A consumer that resumes at `committed`.
    pub(crate) fn resume(committed: Place) -> Progress {
        Progress { direction: Direction::Forward, current: committed, committed }
    }

    /// A consumer that reads backward what is below `end`.
    pub(crate) fn backward(end: u64) -> Progress {
        let place = Place { last: None, scanned: end };
        Progress { direction: Direction::Backward, current: place, committed: place }
    }

    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    pub(crate) fn current(&self) -> Place {
        self.current
    }

    pub(crate) fn committed(&self) -> Place {
        self.committed
    }

    /// A batch that ends with `last` was handed over; no other match lies below `scanned`, or backward at or above it.
    pub(crate) fn deliver(&mut self, last: Last, scanned: u64) {
        debug_assert!(match self.direction {
            Direction::Forward => self.current.scanned <= last.sequence && last.sequence < scanned,
            Direction::Backward => scanned <= last.sequence && last.sequence < self.current.scanned,
        });
        self.current = Place { last: Some(last), scanned };
    }

    /// Nothing matched below `scanned`, or backward at or above it.
    pub(crate) fn pass(&mut self, scanned: u64) {
        self.current.scanned = match self.direction {
            Direction::Forward => self.current.scanned.max(scanned),
            Direction::Backward => self.current.scanned.min(scanned),
        };
    }

    /// A seek.
    pub(crate) fn place(&mut self, place: Place) {
        self.current = place;
    }

    pub(crate) fn rewind(&mut self) {
        self.current = self.committed;
    }

    pub(crate) fn commit(&mut self, place: Place) {
        self.committed = place;
    }

    /// Everything delivered is committed, and the scan has gone on since: what a refresh of the checkpoint would save.
    pub(crate) fn is_ahead_without_deliveries(&self) -> bool {
        self.current.last == self.committed.last && self.current.scanned > self.committed.scanned
    }
}

/// What a cursor says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorPosition {
    /// Sequence of the last event delivered or stepped over by a seek. None: not started.
    pub position: Option<u64>,
    /// The id of that event.
    pub position_id: Option<EventId>,
    /// The sequence after `position`, 0 when not started: what to keep, with `position_id`, to come back by
    /// [`Cursor::seek_position`](super::Cursor::seek_position). Backward: `position`, when not started `scanned`.
    pub next_sequence: u64,
    /// Every match below this sequence was delivered. Backward: every one from it on.
    pub scanned: u64,
    /// The position that the checkpoint holds, and that a rewind returns to. None: the beginning.
    pub committed: Option<u64>,
}

impl From<&Progress> for CursorPosition {
    fn from(progress: &Progress) -> CursorPosition {
        let current = progress.current;
        CursorPosition {
            position: current.last.map(|last| last.sequence),
            position_id: current.last.map(|last| last.id),
            next_sequence: match progress.direction {
                Direction::Forward => current.next_sequence(),
                Direction::Backward => current.last.map_or(current.scanned, |last| last.sequence),
            },
            scanned: current.scanned,
            committed: progress.committed.last.map(|last| last.sequence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u64) -> Last {
        Last { sequence, id: EventId::derive(1_000 + sequence as i64, sequence, 7) }
    }

    #[test]
    fn a_fresh_consumer_has_not_started() {
        let position = CursorPosition::from(&Progress::default());
        assert_eq!(position.position, None);
        assert_eq!((position.next_sequence, position.scanned, position.committed), (0, 0, None));
    }

    #[test]
    fn a_rewind_restores_the_scanned_bound_too() {
        let mut progress = Progress::resume(Place { last: Some(event(4)), scanned: 9 });
        progress.deliver(event(12), 20);
        progress.pass(30);
        progress.rewind();
        assert_eq!(progress.current(), Place { last: Some(event(4)), scanned: 9 });
    }

    #[test]
    fn sequence_zero_is_a_position_of_its_own() {
        let mut progress = Progress::default();
        progress.deliver(event(0), 1);
        let position = CursorPosition::from(&progress);
        assert_eq!((position.position, position.next_sequence), (Some(0), 1));
    }

    #[test]
    fn only_a_scan_beyond_the_committed_position_is_worth_a_refresh() {
        let mut progress = Progress::default();
        assert!(!progress.is_ahead_without_deliveries());
        progress.pass(10);
        assert!(progress.is_ahead_without_deliveries());
        progress.deliver(event(11), 12);
        assert!(!progress.is_ahead_without_deliveries(), "an event was delivered and not committed");
        progress.commit(progress.current());
        assert!(!progress.is_ahead_without_deliveries());
        progress.pass(40);
        assert!(progress.is_ahead_without_deliveries());
    }

    #[test]
    fn a_pass_never_goes_back() {
        let mut progress = Progress::resume(Place { last: None, scanned: 9 });
        progress.pass(3);
        assert_eq!(progress.current().scanned, 9);
    }
}
