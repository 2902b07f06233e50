//! Cursors against the model. A reader's place is one number: the sequence from which on everything that it wants is due.

use std::collections::VecDeque;

use super::checks::{Seen, due_event, seen};
use super::oracle::{Oracle, Want};
use super::world::{NO_ID, World};
use super::*;
use crate::cursor::{Gap, GapList, SequenceRange, checkpoint};

/// What the checkpoint of an id may say: one place, or after a stop in the midst of writing it the old or the new one.
pub(super) struct Saved {
    pub(super) id: &'static str,
    pub(super) want: Want,
    pub(super) places: Vec<u64>,
}

impl Saved {
    pub(super) fn new(id: &'static str, want: Want) -> Saved {
        Saved { id, want, places: vec![0] }
    }
}

/// A consumer in the model, and its cursor while it has one.
pub(super) struct Reader {
    pub(super) saved: Option<usize>,
    pub(super) want: Want,
    cursor: Option<Cursor>,
    next: u64,
    committed: u64,
    gaps: GapQueue,
}

impl Reader {
    pub(super) fn new(saved: Option<usize>, want: Want) -> Reader {
        Reader { saved, want, cursor: None, next: 0, committed: 0, gaps: GapQueue::default() }
    }

    /// Its life is over.
    pub(super) fn end(&mut self) {
        self.cursor = None;
    }
}

/// The gaps that a consumer has not asked for.
#[derive(Debug, Default)]
pub(super) struct GapQueue {
    pub(super) capacity: usize,
    gaps: VecDeque<Gap>,
    dropped: u64,
}

impl GapQueue {
    pub(super) fn of(capacity: usize) -> GapQueue {
        GapQueue { capacity, ..GapQueue::default() }
    }

    /// Notes what a delivery stepped over. `expected` is what would have come had nothing been skipped.
    pub(super) fn observe(&mut self, oracle: &Oracle, mut expected: u64, delivered: &[u64]) {
        for &sequence in delivered.iter().filter(|_| self.capacity > 0) {
            let ranges = oracle.cancelled(expected, sequence);
            if !ranges.is_empty() {
                let cancelled = ranges.into_iter().map(|(start, end)| SequenceRange { start, end }).collect();
                self.gaps.push_back(Gap { expected_sequence: expected, delivered_sequence: sequence, cancelled });
            }
            while self.gaps.len() > self.capacity {
                self.gaps.pop_front();
                self.dropped += 1;
            }
            expected = sequence + 1;
        }
    }

    pub(super) fn take(&mut self) -> GapList {
        GapList { gaps: std::mem::take(&mut self.gaps).into(), dropped: std::mem::take(&mut self.dropped) }
    }
}

impl World {
    /// One step of one of the cursors.
    pub(super) fn step_reader(&mut self) {
        let at = self.random.below(self.readers.len());
        let Some(cursor) = self.readers[at].cursor.clone() else { return self.open_reader(at) };
        match self.random.below(100) {
            0..25 => self.poll(at, &cursor),
            25..50 => {
                self.poll(at, &cursor);
                if !self.is_stopped() {
                    self.checkpoint(at, &cursor);
                }
            }
            50..65 => self.checkpoint(at, &cursor),
            65..70 => self.checkpoint_at(at, &cursor),
            70..74 => self.rewind(at, &cursor),
            74..79 => self.seek(at, &cursor),
            79..82 => self.seek_time(at, &cursor),
            82..85 => self.seek_position(at, &cursor),
            85..90 => self.take_gaps(at, &cursor),
            90..92 => self.open_twice(at),
            _ => self.close_reader(at, &cursor),
        }
        if !self.is_stopped() {
            self.check_position(at);
        }
    }

    fn open_reader(&mut self, at: usize) {
        let capacity = self.random.one_of(&[0, 1, 3, 100]);
        let Reader { saved, want, .. } = &self.readers[at];
        let (saved, region) = (*saved, want.region());
        self.note(|| format!("open cursor {at} on {}, gaps {capacity}", region.identity()));
        let checkpoint_id = saved.map(|saved| self.saved[saved].id.to_owned());
        let options = CursorOptions { checkpoint_id, gap_capacity: capacity, ..CursorOptions::default() };
        let opened = Cursor::open(self.store(), region, &options);
        let Some(cursor) = self.answer(opened) else { return };
        let next = saved.map_or(0, |saved| self.saved[saved].places[0]);
        self.counts.resumed += u64::from(next > 0);
        let reader = &mut self.readers[at];
        (reader.cursor, reader.next, reader.committed) = (Some(cursor), next, next);
        reader.gaps = GapQueue::of(capacity);
        self.check_position(at);
    }

    /// An id has one live consumer, and one region.
    fn open_twice(&mut self, at: usize) {
        let Some(saved) = self.readers[at].saved else { return };
        let options = with_checkpoint(self.saved[saved].id);
        self.note(|| format!("open the id of cursor {at} a second time"));
        let second = Cursor::open(self.store(), self.readers[at].want.region(), &options);
        assert!(matches!(second, Err(Error::CheckpointInUse { .. })) || self.is_stopped(), "{second:?}");
    }

    fn poll(&mut self, at: usize, cursor: &Cursor) {
        let limit = 1 + self.random.below(8);
        let bytes = if self.random.chance(20) { 1 + self.random.below(300) as u64 } else { 0 };
        self.note(|| format!("poll cursor {at} for {limit} events, {bytes} bytes"));
        let polled = cursor.poll(limit, bytes, PollTimeout::Never);
        let Some(polled) = self.answer(polled) else { return };
        let given: Vec<Seen> = match &polled {
            Polled::Batch(batch) => batch.iter().map(seen).collect(),
            Polled::Empty => Vec::new(),
            other => panic!("{other:?}"),
        };
        let reader = &mut self.readers[at];
        let sequences = check_given(&self.oracle, &reader.want, reader.next, &given, limit, bytes == 0);
        if bytes > 0 && given.len() > 1 {
            let payload: usize = sequences.iter().map(|&at| self.oracle.log[at as usize].payload.1).sum();
            assert!(payload as u64 <= bytes, "{payload} bytes of at most {bytes}");
        }
        reader.gaps.observe(&self.oracle, reader.next, &sequences);
        if let Some(last) = sequences.last() {
            reader.next = last + 1;
        } else {
            assert_eq!(cursor.lag().unwrap(), 0, "an empty poll has scanned everything");
        }
        self.counts.delivered += given.len() as u64;
    }

    fn checkpoint(&mut self, at: usize, cursor: &Cursor) {
        self.note(|| format!("checkpoint cursor {at}"));
        let (result, next) = (cursor.checkpoint(), self.readers[at].next);
        self.committed(at, result, next);
    }

    fn checkpoint_at(&mut self, at: usize, cursor: &Cursor) {
        let sequence = self.random.below(self.oracle.visible() + 2) as u64;
        self.note(|| format!("checkpoint cursor {at} at {sequence}"));
        let result = cursor.checkpoint_at(sequence);
        let reader = &self.readers[at];
        if reader.saved.is_some() && sequence >= reader.next && !self.is_stopped() {
            assert!(matches!(result, Err(Error::NotDelivered { .. })), "{result:?}");
        } else if sequence < reader.next || reader.saved.is_none() {
            self.committed(at, result, sequence + 1);
        }
    }

    /// What came of a commit of everything below `next`.
    fn committed(&mut self, at: usize, result: Result<()>, next: u64) {
        let reader = &mut self.readers[at];
        let Some(saved) = reader.saved else {
            return assert!(matches!(result, Err(Error::NoCheckpoint)), "{result:?}");
        };
        if self.disk.is_crashed() {
            return self.saved[saved].places.push(next);
        }
        result.unwrap_or_else(|error| panic!("no checkpoint: {error}"));
        reader.committed = next;
        self.saved[saved].places = vec![next];
        self.oracle.committed_below(next);
    }

    fn rewind(&mut self, at: usize, cursor: &Cursor) {
        self.note(|| format!("rewind cursor {at}"));
        let rewound = cursor.rewind();
        let _ = self.answer(rewound);
        self.readers[at].next = self.readers[at].committed;
    }

    fn seek(&mut self, at: usize, cursor: &Cursor) {
        let visible = self.oracle.visible() as u64;
        let sequence = self.random.below(visible as usize + 2) as u64;
        self.note(|| format!("seek cursor {at} to {sequence}"));
        let sought = cursor.seek(sequence);
        if sequence > visible {
            assert!(matches!(sought, Err(Error::InvalidArgument { .. })) || self.is_stopped(), "{sought:?}");
        } else if self.answer(sought).is_some() {
            self.readers[at].next = sequence;
        }
    }

    fn seek_time(&mut self, at: usize, cursor: &Cursor) {
        let visible = self.oracle.visible();
        if visible == 0 {
            return;
        }
        let time_us = self.oracle.log[self.random.below(visible)].time_us + self.random.below(3) as i64 - 1;
        self.note(|| format!("seek cursor {at} to the time {time_us}"));
        let sought = cursor.seek_time(time_us);
        if self.answer(sought).is_some() {
            let first = self.oracle.log[..visible].partition_point(|entry| entry.time_us < time_us);
            self.readers[at].next = first as u64;
        }
    }

    fn seek_position(&mut self, at: usize, cursor: &Cursor) {
        let visible = self.oracle.visible() as u64;
        let next = self.random.below(visible as usize + 2) as u64;
        let id = next.checked_sub(1).and_then(|at| self.oracle.log.get(at as usize)).map(|entry| entry.id);
        let id = if self.random.chance(20) { Some(NO_ID) } else { id };
        self.note(|| format!("seek cursor {at} to the position {next}, {id:?}"));
        let sought = cursor.seek_position(next, id);
        if self.is_stopped() {
            return;
        }
        match next {
            0 => sought.unwrap(),
            next if next > visible => {
                return assert!(matches!(sought, Err(Error::CheckpointAhead { .. })), "{sought:?}");
            }
            _ if id == Some(NO_ID) => {
                return assert!(matches!(sought, Err(Error::CheckpointDiverged { .. })), "{sought:?}");
            }
            _ => sought.unwrap(),
        }
        self.readers[at].next = next;
    }

    fn take_gaps(&mut self, at: usize, cursor: &Cursor) {
        self.note(|| format!("take the gaps of cursor {at}"));
        let gaps = cursor.take_gaps();
        if let Some(gaps) = self.answer(gaps) {
            self.counts.gaps += gaps.gaps.len() as u64;
            assert_eq!(gaps, self.readers[at].gaps.take(), "gaps");
        }
    }

    fn close_reader(&mut self, at: usize, cursor: &Cursor) {
        let by_name = self.random.chance(70);
        self.note(|| format!("{} cursor {at}", if by_name { "close" } else { "drop" }));
        if by_name {
            let closed = cursor.close();
            let _ = self.answer(closed);
        }
        self.readers[at].end();
    }

    /// Nothing that is due lies below what the cursor has scanned.
    fn check_position(&mut self, at: usize) {
        let Reader { cursor: Some(cursor), next, committed, want, .. } = &self.readers[at] else { return };
        let position = cursor.position().unwrap();
        assert_eq!(position.next_sequence, *next, "{position:?}");
        assert_eq!(position.position, next.checked_sub(1), "{position:?}");
        assert_eq!(position.committed, committed.checked_sub(1), "{position:?}");
        let id = position.position.map(|at| self.oracle.log[at as usize].id);
        assert_eq!(position.position_id, id, "{position:?}");
        let skipped = self.oracle.due(want, *next).into_iter().find(|&at| at < position.scanned);
        assert_eq!(skipped, None, "skipped: {position:?}, {want:?}");
    }

    /// After an opening: every checkpoint says what it may say, and is not ahead of the log.
    pub(super) fn check_saved(&mut self) {
        for saved in &mut self.saved {
            let store = self.store.as_ref().expect("open");
            let next = match checkpoint::load(store, saved.id) {
                Ok(found) => {
                    let next = found.position.map_or(0, |position| position + 1);
                    assert!(found.scanned <= self.oracle.log.len() as u64, "{found:?} is ahead of the log");
                    let id = found.position.map(|at| self.oracle.log[at as usize].id);
                    assert_eq!(found.position_id, id, "{found:?} names another event");
                    let skipped = self.oracle.due(&saved.want, next).into_iter().find(|&at| at < found.scanned);
                    assert_eq!(skipped, None, "skipped: {found:?}, {:?}", saved.want);
                    next
                }
                Err(Error::CheckpointNotFound { .. }) => 0,
                Err(error) => panic!("the checkpoint {:?}: {error}", saved.id),
            };
            assert!(saved.places.contains(&next), "{:?} resumes at {next}, not at {:?}", saved.id, saved.places);
            saved.places = vec![next];
        }
    }

    /// Every consumer goes on to the end: whatever it was not given before its checkpoint comes now.
    pub(super) fn drain_all(&mut self) {
        for at in 0..self.readers.len() {
            if self.readers[at].cursor.is_none() {
                self.open_reader(at);
            }
            let cursor = self.readers[at].cursor.clone().expect("just opened");
            while !self.oracle.due(&self.readers[at].want, self.readers[at].next).is_empty() {
                self.poll(at, &cursor);
            }
            self.poll(at, &cursor);
        }
    }
}

/// Holds what was given against what is due. Returns its sequences.
pub(super) fn check_given(
    oracle: &Oracle,
    want: &Want,
    next: u64,
    given: &[Seen],
    limit: usize,
    is_full: bool,
) -> Vec<u64> {
    let due = oracle.due(want, next);
    let sequences: Vec<u64> = given.iter().map(|event| event.sequence).collect();
    let at_most = &due[..due.len().min(limit)];
    let expected = if is_full { at_most } else { &at_most[..at_most.len().min(sequences.len().max(1))] };
    assert_eq!(sequences, expected, "given, and due from {next} on for {want:?}");
    for event in given {
        assert_eq!(*event, due_event(oracle, event.sequence), "another event than was appended");
    }
    sequences
}
