//! Consumers of the model: cursors and workers over several regions, with and without checkpoints. What the oracle keeps of one is its
//! position and what is committed; the next delivery is what matches behind the position, nothing skipped and nothing twice.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Draws, Entry, Seen, State, World, seen, seen_of};
use crate::cursor::{
    Cursor, CursorOptions, Delivery, JoinOutcome, Outcome, PollTimeout, Polled, RestartPolicy, Worker, WorkerOptions,
    checkpoint,
};
use crate::error::Error;
use crate::event::{Kind, KindMatch, Region};

const REGIONS: usize = 8;

fn region(number: usize) -> Region {
    let all = Region::all;
    match number {
        0 => all(),
        1 => all().with_entity("a"),
        2 => all().with_entity_prefix("a"),
        3 => all().with_scope("t"),
        4 => all().with_kind(KindMatch::Exact(Kind(0x1001))),
        5 => all().with_clock(1, 3),
        6 => all().with_scope("s").with_kind(KindMatch::Category(1)).with_entity_prefix("c"),
        _ => all().with_entity("nobody"),
    }
}

fn matches(number: usize, entry: &Entry) -> bool {
    let below = |prefix: &str| entry.entity == prefix || entry.entity.starts_with(&format!("{prefix}:"));
    match number {
        0 => true,
        1 => entry.entity == "a",
        2 => below("a"),
        3 => entry.scope == "t",
        4 => entry.kind == 0x1001,
        5 => (1..=3).contains(&entry.clock),
        6 => entry.scope == "s" && entry.kind >> 12 == 1 && below("c"),
        _ => false,
    }
}

/// One consumer. A position is the sequence after the last event delivered, 0 for none.
pub(super) struct Reader {
    region: usize,
    id: Option<String>,
    cursor: Option<Cursor>,
    position: usize,
    committed: usize,
}

impl Reader {
    /// The handle goes; without a checkpoint so does the place.
    fn end(&mut self) {
        self.cursor = None;
        if self.id.is_none() {
            self.committed = 0;
        }
        self.position = self.committed;
    }
}

pub(super) fn readers() -> Vec<Reader> {
    let reader = |number: usize| Reader {
        region: number % REGIONS,
        id: (number < REGIONS).then(|| format!("reader-{number}")),
        cursor: None,
        position: 0,
        committed: 0,
    };
    // One of each region that resumes, and a few that do not.
    (0..REGIONS + 4).map(reader).collect()
}

/// Where a gap was expected to end, where it did, and what was cancelled in between.
type SeenGap = (u64, u64, Vec<(u64, u64)>);
/// What handlers were given, and what they answered.
type Told = Arc<Mutex<Vec<(Vec<Seen>, Answer)>>>;

/// What a handler answers.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Continue,
    Stop,
    Rollback,
    Retry { done: usize },
    Fail { done: usize },
}

impl Answer {
    fn draw(random: &mut Draws) -> Answer {
        match random.below(10) {
            0..5 => Answer::Continue,
            5 => Answer::Stop,
            6 => Answer::Rollback,
            7 => Answer::Retry { done: random.below(3) },
            _ => Answer::Fail { done: random.below(3) },
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            Answer::Continue => Outcome::Continue,
            Answer::Stop => Outcome::Stop,
            Answer::Rollback => Outcome::StopWithRollback,
            Answer::Retry { .. } => Outcome::Retry { message: String::from("again") },
            Answer::Fail { .. } => Outcome::Fail { message: String::from("no") },
        }
    }
}

impl World {
    pub(super) fn end_readers(&mut self) {
        self.readers.iter_mut().for_each(Reader::end);
    }

    /// No event at or above it is visible.
    pub(super) fn floor(&self) -> usize {
        self.log.iter().position(|entry| matches!(entry.state, State::Hidden(_))).unwrap_or(self.log.len())
    }

    /// What a consumer of the region has before it.
    fn ahead(&self, region: usize, position: usize) -> Vec<usize> {
        let is_ahead = |at: &usize| self.log[*at].state == State::Live && matches(region, &self.log[*at]);
        (position..self.floor()).filter(is_ahead).collect()
    }

    /// Everything below the position survives a power loss: a checkpoint has said so.
    fn owe(&mut self, position: usize) {
        for entry in &mut self.log[..position] {
            (entry.kept, entry.durable) = (true, true);
        }
        self.soft_fences.retain(|events| events.iter().all(|&at| at >= position));
    }

    pub(super) fn step_reader(&mut self) {
        let at = self.random.below(self.readers.len());
        if self.readers[at].cursor.is_none() {
            match self.readers[at].id.is_some() && self.random.chance(40) {
                true => self.work(at),
                false => self.open_reader(at),
            }
            return;
        }
        match self.random.below(20) {
            0..10 => self.poll(at),
            10..14 => self.checkpoint(at),
            14 => {
                let reader = &mut self.readers[at];
                reader.cursor.as_ref().unwrap().rewind().unwrap();
                reader.position = reader.committed;
            }
            15 | 16 => {
                let to = self.random.below(self.floor() + 1);
                self.readers[at].cursor.as_ref().unwrap().seek(to as u64).unwrap();
                self.readers[at].position = to;
            }
            17 => {
                let end = self.floor();
                self.readers[at].cursor.as_ref().unwrap().seek_end().unwrap();
                self.readers[at].position = end;
            }
            _ => {
                self.readers[at].cursor.as_ref().unwrap().close().unwrap();
                self.readers[at].end();
            }
        }
    }

    fn open_reader(&mut self, at: usize) {
        let reader = &self.readers[at];
        let options =
            CursorOptions { checkpoint_id: reader.id.clone(), gap_capacity: 1_000, ..CursorOptions::default() };
        let cursor = Cursor::open(self.store(), region(reader.region), &options).unwrap();
        let next = cursor.position().unwrap().next_sequence;
        assert_eq!(next, reader.committed as u64, "{:?} resumes", reader.id);
        self.readers[at].cursor = Some(cursor);
    }

    fn poll(&mut self, at: usize) {
        let limit = 1 + self.random.below(6);
        let (region, position) = (self.readers[at].region, self.readers[at].position);
        let ahead = self.ahead(region, position);
        let cursor = self.readers[at].cursor.as_ref().unwrap();
        let polled = cursor.poll(limit, 0, PollTimeout::Never).unwrap();
        let found: Vec<Seen> = match &polled {
            Polled::Batch(batch) => batch.iter().map(seen_of).collect(),
            Polled::Empty => Vec::new(),
            other => panic!("{other:?}"),
        };
        let expected: Vec<Seen> = ahead.iter().take(limit).map(|&at| seen(at, &self.log[at])).collect();
        assert_eq!(found, expected, "region {region} from {position}, at most {limit}");
        let gaps: Vec<SeenGap> = cursor
            .take_gaps()
            .unwrap()
            .gaps
            .into_iter()
            .map(|gap| {
                let ranges = gap.cancelled.iter().map(|range| (range.start, range.end)).collect();
                (gap.expected_sequence, gap.delivered_sequence, ranges)
            })
            .collect();
        let mut position = position;
        let mut expected_gaps = Vec::new();
        for event in &expected {
            let delivered = event.0 as usize;
            let cancelled = self.cancelled_between(position, delivered);
            if !cancelled.is_empty() {
                expected_gaps.push((position as u64, delivered as u64, cancelled));
            }
            position = delivered + 1;
        }
        assert_eq!(gaps, expected_gaps, "gaps of region {region}");
        self.readers[at].position = position;
    }

    /// The cancelled sequences from `start` up to `end`, as ranges that do not touch.
    fn cancelled_between(&self, start: usize, end: usize) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for at in (start..end).filter(|&at| self.log[at].state == State::Cancelled) {
            match ranges.last_mut() {
                Some(last) if last.1 == at as u64 => last.1 += 1,
                _ => ranges.push((at as u64, at as u64 + 1)),
            }
        }
        ranges
    }

    fn checkpoint(&mut self, at: usize) {
        let is_partial = self.random.chance(30);
        let below = self.random.below(self.readers[at].position + 1);
        let reader = &mut self.readers[at];
        let cursor = reader.cursor.as_ref().unwrap();
        if reader.id.is_none() {
            let refused = cursor.checkpoint();
            assert!(matches!(refused, Err(Error::NoCheckpoint)), "{refused:?}");
            return;
        }
        if is_partial && below > 0 {
            cursor.checkpoint_at(below as u64 - 1).unwrap();
            reader.committed = below;
        } else {
            cursor.checkpoint().unwrap();
            reader.committed = reader.position;
        }
        let committed = reader.committed;
        self.owe(committed);
    }

    /// A worker lives until its handler has given its last answer, or nothing is left for it.
    fn work(&mut self, at: usize) {
        let (of, mut position) = (self.readers[at].region, self.readers[at].position);
        let ahead = self.ahead(of, position);
        let Some(&last) = ahead.last() else { return };
        let mut answers: Vec<Answer> = (0..self.random.below(5)).map(|_| Answer::draw(&mut self.random)).collect();
        answers.push(Answer::Stop);
        answers.reverse();
        let told = Told::default();
        let telling = told.clone();
        let handler = move |delivery: &Delivery<'_>| {
            let events: Vec<Seen> = delivery.batch().iter().map(seen_of).collect();
            let is_last = events.last().is_some_and(|event| event.0 == last as u64);
            let answer = match answers.pop().unwrap_or(Answer::Stop) {
                Answer::Continue if is_last => Answer::Stop,
                Answer::Retry { done } => Answer::Retry { done: done.min(events.len() - 1) },
                Answer::Fail { done } => Answer::Fail { done: done.min(events.len() - 1) },
                answer => answer,
            };
            if let Answer::Retry { done } | Answer::Fail { done } = answer {
                delivery.set_done(done).unwrap();
            }
            telling.lock().unwrap().push((events, answer));
            answer.outcome()
        };
        let options = WorkerOptions {
            batch_events: 1 + self.random.below(5),
            restart: RestartPolicy::Bounded { max_restarts: 100, within_ms: 60_000 },
            checkpoint_id: self.readers[at].id.clone(),
            retry_backoff_ms: 1,
            retry_backoff_max_ms: 1,
            ..WorkerOptions::default()
        };
        let worker = Worker::start(self.store(), region(of), options, handler).unwrap();
        let ended = worker.join(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(ended, JoinOutcome::Stopped, "a worker of region {of} from {position}");
        for (events, answer) in told.lock().unwrap().iter() {
            let rest = ahead.iter().filter(|&&at| at >= position).take(events.len());
            let expected: Vec<Seen> = rest.map(|&at| seen(at, &self.log[at])).collect();
            assert_eq!(*events, expected, "a worker of region {of} from {position}");
            let done = match *answer {
                Answer::Continue | Answer::Stop => events.len(),
                Answer::Rollback => 0,
                Answer::Retry { done } | Answer::Fail { done } => done,
            };
            if let Some(last) = done.checked_sub(1) {
                position = events[last].0 as usize + 1;
            }
        }
        (self.readers[at].position, self.readers[at].committed) = (position, position);
        self.owe(position);
    }

    /// The files say what was committed.
    pub(super) fn check_readers(&self) {
        for reader in &self.readers {
            let Some(id) = &reader.id else { continue };
            let position = match checkpoint::load(self.store(), id) {
                Ok(file) => file.position.map_or(0, |position| position as usize + 1),
                Err(Error::CheckpointNotFound { .. }) => 0,
                Err(error) => panic!("{id}: {error}"),
            };
            assert_eq!(position, reader.committed, "the checkpoint of {id}");
        }
    }
}
