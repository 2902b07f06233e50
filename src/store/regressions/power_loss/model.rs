//! What was tried and acknowledged, and what has to be true of a store after a loss.

use std::collections::BTreeMap;

use super::*;
use crate::cursor::checkpoint;
use crate::event::EventId;

/// Whether the events of a fence are seen once the store is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Seen {
    No,
    /// Its commit was under way.
    Perhaps,
    /// It was committed with PROCESS: seen after a kill, perhaps after a power loss.
    AfterKill,
    Yes,
}

/// One event tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tried {
    /// Which bytes it has: no two events have the same, whatever sequence they get, but for retries of a key.
    pub(super) content: u64,
    pub(super) entity: u64,
    pub(super) bytes: usize,
    /// In `fences`.
    pub(super) fence: Option<usize>,
}

/// What ended a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Loss {
    Kill,
    Power,
}

/// A consumer with a checkpoint: where it may stand, and what it was given.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct Consumer {
    /// It resumes nowhere below what it committed, nor above what it was about to.
    pub(super) committed: u64,
    pub(super) committing: u64,
    /// The content of each event that it was given and took, by sequence.
    pub(super) taken: BTreeMap<u64, u64>,
}

/// The cursor, the worker, and the one whose position is saved for it.
pub(super) const CONSUMERS: [&str; 3] = ["c", "w", "s"];
pub(super) const CURSOR: usize = 0;
pub(super) const WORKER: usize = 1;
pub(super) const SAVED: usize = 2;

/// Everything that was tried, and how much of it was acknowledged.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct Model {
    /// By sequence.
    pub(super) tried: Vec<Tried>,
    pub(super) fences: Vec<Seen>,
    /// Sequences at which a batch ends: the log may end nowhere else.
    ends: BTreeSet<u64>,
    /// Acknowledged as surviving a power loss.
    pub(super) durable: u64,
    /// Acknowledged as surviving a kill.
    pub(super) acknowledged: u64,
    pub(super) consumers: [Consumer; CONSUMERS.len()],
    /// The ids that receipts gave for keys, by sequence.
    receipts: BTreeMap<u64, EventId>,
    serial: u64,
}

const ENTITIES: u64 = 3;
/// Only [`Step::Expecting`] appends to it.
const EXPECTED: u64 = 3;
/// Only fences append to it and those that follow: one for each fence that is open.
const FENCED: u64 = 10;
/// Contents of keys are not those of serial numbers.
const KEYED: u64 = 1 << 40;

/// Long enough for heads of frames to lie across the units that writes are torn at.
pub(super) fn entity(number: u64) -> String {
    format!("entity-with-a-name-of-some-length:{number}")
}

/// A pattern of its own for each event, which ends anywhere.
pub(super) fn payload(content: u64, bytes: usize) -> Vec<u8> {
    let mut payload = (content * 0x0101 + 1).to_le_bytes().repeat(bytes.div_ceil(8));
    payload.truncate(bytes);
    payload
}

pub(super) fn key(number: u64) -> [u8; 16] {
    [number as u8 + 1; 16]
}

impl Tried {
    pub(super) fn payload(&self) -> Vec<u8> {
        payload(self.content, self.bytes)
    }
}

impl Model {
    pub(super) fn next(&self) -> u64 {
        self.tried.len() as u64
    }

    fn next_content(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn push(&mut self, tried: Tried) -> Tried {
        self.tried.push(tried);
        tried
    }

    fn end_batch(&mut self) {
        self.ends.insert(self.next());
    }

    /// The next `events` events of a batch.
    pub(super) fn try_batch(&mut self, events: u64, bytes: usize) -> Vec<Tried> {
        let mut items = Vec::new();
        for _ in 0..events {
            let content = self.next_content();
            let entity = Random::new(content ^ 0xE0).below(ENTITIES);
            items.push(self.push(Tried { content, entity, bytes, fence: None }));
        }
        self.end_batch();
        items
    }

    /// The entity of the `open`-th fence of those that are open.
    pub(super) fn fenced(open: usize) -> u64 {
        FENCED + open as u64
    }

    /// The next event of a fence that is the `open`-th of those that are open.
    pub(super) fn try_fenced(&mut self, fence: usize, open: usize, bytes: usize) -> Tried {
        let content = self.next_content();
        let tried = self.push(Tried { content, entity: Model::fenced(open), bytes, fence: Some(fence) });
        self.end_batch();
        tried
    }

    /// The event of a key: the same whenever it is tried.
    pub(super) fn keyed(number: u64) -> Tried {
        let content = KEYED | number;
        Tried { content, entity: number % ENTITIES, bytes: 40 + 131 * number as usize, fence: None }
    }

    pub(super) fn try_keyed(&mut self, number: u64) -> Tried {
        let tried = self.push(Model::keyed(number));
        self.end_batch();
        tried
    }

    pub(super) fn find_key(&self, number: u64) -> Option<u64> {
        self.tried.iter().position(|tried| tried.content == KEYED | number).map(|at| at as u64)
    }

    /// The event for an entity that nobody else appends to, and how many it has.
    pub(super) fn try_expecting(&mut self) -> (Tried, u64) {
        let count = self.tried.iter().filter(|tried| tried.entity == EXPECTED).count() as u64;
        let content = self.next_content();
        let tried = self.push(Tried { content, entity: EXPECTED, bytes: 30, fence: None });
        self.end_batch();
        (tried, count)
    }

    /// What was tried from here on was refused.
    pub(super) fn refuse(&mut self, from: u64) {
        self.tried.truncate(from as usize);
        self.ends = self.ends.range(..=from).copied().collect();
    }

    /// The receipt of a key: an event has one id for ever.
    pub(super) fn note_receipt(&mut self, receipt: &Receipt) {
        let known = *self.receipts.entry(receipt.sequence).or_insert(receipt.id);
        assert_eq!(receipt.id, known, "event {} has another id in a later receipt", receipt.sequence);
    }

    /// Everything so far survives a kill, and perhaps a power loss.
    pub(super) fn acknowledge(&mut self, durability: Option<Durability>) {
        self.acknowledged = self.next();
        if durability == Some(Durable) {
            self.durable_below(self.next());
            self.all_decided(u64::MAX);
        }
    }

    /// The events below `bound` survive a power loss.
    pub(super) fn durable_below(&mut self, bound: u64) {
        self.durable = self.durable.max(bound);
        self.acknowledged = self.acknowledged.max(bound);
    }

    /// And so do the commits of fences whose events are all below `bound`.
    pub(super) fn all_decided(&mut self, bound: u64) {
        for fence in 0..self.fences.len() {
            let is_below = || self.tried.iter().skip(bound as usize).all(|tried| tried.fence != Some(fence));
            if self.fences[fence] == Seen::AfterKill && is_below() {
                self.fences[fence] = Seen::Yes;
            }
        }
    }

    /// A consumer took these events.
    pub(super) fn take(&mut self, consumer: usize, sequences: &[u64]) {
        let taken = &mut self.consumers[consumer].taken;
        taken.extend(sequences.iter().map(|&sequence| (sequence, self.tried[sequence as usize].content)));
    }

    /// A consumer's position is durable, and so is all before it.
    pub(super) fn commit(&mut self, consumer: usize, next: u64) {
        let consumer = &mut self.consumers[consumer];
        (consumer.committed, consumer.committing) = (next, next);
        self.durable_below(next);
        self.all_decided(next);
    }

    /// The log ends here for good: what was tried beyond never happened.
    pub(super) fn settle(&mut self, end: u64) {
        self.refuse(end);
        self.receipts.retain(|sequence, _| *sequence < end);
        (self.durable, self.acknowledged) = (end, end);
    }

    pub(super) fn least(&self, loss: Loss) -> u64 {
        match loss {
            Loss::Kill => self.acknowledged,
            Loss::Power => self.durable,
        }
    }

    /// Everything that the promises say about the log of a store that was opened after a loss. Gives the log's end; what the fences
    /// came to is settled.
    pub(super) fn check(&mut self, store: &Store, least: u64, loss: Loss) -> u64 {
        let end = store.watermarks().appended;
        let most = self.next();
        assert!(end >= least, "{least} acknowledged, {end} kept");
        assert!(end <= most, "{most} tried, {end} there");
        assert!(end == 0 || self.ends.contains(&end), "the log ends at {end}, within a batch of {:?}", self.ends);
        assert_eq!(store.watermarks().visible, end, "no fence is open");
        let all = read(store, &Region::all());
        self.settle_fences(&all, end, loss);
        let expected: Vec<u64> = (0..end).filter(|at| self.is_live(*at)).collect();
        assert_eq!(all.iter().map(|event| event.0).collect::<Vec<_>>(), expected, "other events than were appended");
        self.check_contents(&all);
        for of in all.iter().map(|event| &event.1).collect::<BTreeSet<_>>() {
            let own = all.iter().filter(|event| event.1 == *of).map(|event| event.0);
            let found = read(store, &Region::all().with_entity(of.clone()));
            assert!(own.eq(found.iter().map(|event| event.0)), "the index of {of} finds {found:?}");
        }
        end
    }

    pub(super) fn is_live(&self, at: u64) -> bool {
        self.tried[at as usize].fence.is_none_or(|fence| self.fences[fence] == Seen::Yes)
    }

    fn settle_fences(&mut self, all: &[Event], end: u64, loss: Loss) {
        for fence in 0..self.fences.len() {
            let of_fence = |at: u64| self.tried.get(at as usize).is_some_and(|tried| tried.fence == Some(fence));
            let events = (0..end).filter(|&at| of_fence(at)).count();
            let found = all.iter().filter(|event| of_fence(event.0)).count();
            assert!(found == 0 || found == events, "{found} of {events} events of a fence");
            let seen = self.fences[fence];
            let is_allowed = match seen {
                Seen::No => found == 0,
                Seen::Yes => found == events,
                Seen::AfterKill => found == events || loss == Loss::Power,
                Seen::Perhaps => true,
            };
            assert!(is_allowed, "{found} of {events} events of a fence that should be {seen:?}");
            self.fences[fence] = if found > 0 { Seen::Yes } else { Seen::No };
        }
    }

    fn check_contents(&self, all: &[Event]) {
        let mut clocks = BTreeMap::new();
        for (sequence, found, clock, bytes) in all {
            let tried = self.tried[*sequence as usize];
            let expected = clocks.entry(tried.entity).or_insert(0);
            assert_eq!((found, *clock), (&entity(tried.entity), *expected), "event {sequence}");
            *expected += 1;
            assert!(*bytes == tried.payload(), "event {sequence} has another payload");
        }
    }

    /// Each consumer resumes at what it committed, or at what it was committing; what lies before was given to it, as it is now, and
    /// what lies behind comes. What a kill left unsynced, a later power loss may still take back: only from a disk where all is
    /// durable does the resumed place become the committed one.
    pub(super) fn check_consumers(&mut self, store: &Store, is_durable: bool) {
        for (at, id) in CONSUMERS.into_iter().enumerate() {
            let consumer = &self.consumers[at];
            if consumer.committed == 0 && checkpoint::load(store, id).is_err() {
                assert!(
                    checkpoint::load(store, id).is_err_and(|error| matches!(error, Error::CheckpointNotFound { .. }))
                );
                continue;
            }
            let options = with_checkpoint(id);
            let cursor = Cursor::open(store, Region::all(), &options).unwrap_or_else(|error| panic!("{id}: {error}"));
            let next = cursor.position().unwrap().next_sequence;
            let (committed, committing) = (consumer.committed, consumer.committing);
            assert!(
                (committed..=committing).contains(&next),
                "{id} resumed at {next}, which is not within {committed} and {committing}"
            );
            for sequence in (0..next).filter(|sequence| at != SAVED && self.is_live(*sequence)) {
                let content = self.tried[sequence as usize].content;
                assert_eq!(
                    consumer.taken.get(&sequence),
                    Some(&content),
                    "{id} is past {sequence} but has not seen it"
                );
            }
            let expected: Vec<u64> = (next..self.next()).filter(|sequence| self.is_live(*sequence)).collect();
            let mut given = Vec::new();
            loop {
                match poll(&cursor, 5) {
                    batch if batch.is_empty() => break,
                    batch => given.extend(batch),
                }
            }
            assert_eq!(given, expected, "{id}, resumed at {next}, is given other events");
            let consumer = &mut self.consumers[at];
            consumer.committing = next;
            if is_durable {
                consumer.committed = next;
            }
        }
    }
}
