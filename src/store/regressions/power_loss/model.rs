//! What was tried and acknowledged, and what has to be true of a store after a loss.

use super::*;

/// Whether the events of a fence are seen once the store is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    No,
    /// Its commit was under way.
    Perhaps,
    /// It was committed with PROCESS: seen after a kill, perhaps after a power loss.
    AfterKill,
    Yes,
}

/// One event tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tried {
    pub(super) entity: u64,
    pub(super) bytes: usize,
    /// In `fences`.
    pub(super) fence: Option<usize>,
}

/// What ended a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Kill,
    Power,
}

/// Everything that was tried, and how much of it was acknowledged.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    /// By sequence.
    pub(super) tried: Vec<Tried>,
    pub(super) fences: Vec<Seen>,
    /// Sequences at which a batch ends: the log may end nowhere else.
    pub(super) ends: BTreeSet<u64>,
    /// Acknowledged as surviving a power loss.
    pub(super) durable: u64,
    /// Acknowledged as surviving a kill.
    pub(super) acknowledged: u64,
    /// What the consumer committed, and what it was about to.
    pub(super) committed: u64,
    pub(super) committing: u64,
}

pub(super) const ENTITIES: u64 = 3;
/// Only fences append to it.
pub(super) const FENCED: u64 = 7;

pub(super) fn entity(number: u64) -> String {
    format!("e:{number}")
}

/// A pattern of its own for each event, which ends anywhere.
pub(super) fn payload(sequence: u64, bytes: usize) -> Vec<u8> {
    let mut payload = (sequence * 0x0101 + 1).to_le_bytes().repeat(bytes.div_ceil(8));
    payload.truncate(bytes);
    payload
}

impl Model {
    /// The next `events` events of a batch.
    pub(super) fn try_batch(&mut self, events: u64, bytes: usize) -> Vec<(String, Vec<u8>)> {
        let mut items = Vec::new();
        for _ in 0..events {
            let sequence = self.tried.len() as u64;
            let of = Random::new(sequence ^ 0xE0).below(ENTITIES);
            self.tried.push(Tried { entity: of, bytes, fence: None });
            items.push((entity(of), payload(sequence, bytes)));
        }
        self.ends.insert(self.tried.len() as u64);
        items
    }

    /// The next event of the newest fence.
    pub(super) fn try_fenced(&mut self, bytes: usize) -> Vec<u8> {
        let sequence = self.tried.len() as u64;
        self.tried.push(Tried { entity: FENCED, bytes, fence: Some(self.fences.len() - 1) });
        self.ends.insert(sequence + 1);
        payload(sequence, bytes)
    }

    /// Everything so far survives a power loss.
    pub(super) fn all_durable(&mut self) {
        self.durable = self.acknowledged;
        for seen in self.fences.iter_mut().filter(|seen| **seen == Seen::AfterKill) {
            *seen = Seen::Yes;
        }
    }

    /// The log ends here for good: what was tried beyond never happened.
    pub(super) fn settle(&mut self, end: u64) {
        self.tried.truncate(end as usize);
        self.ends = self.ends.range(..=end).copied().collect();
        (self.durable, self.acknowledged) = (end, end);
    }

    pub(super) fn least(&self, loss: Loss) -> u64 {
        match loss {
            Loss::Kill => self.acknowledged,
            Loss::Power => self.durable,
        }
    }

    /// Everything that the promises say about a store that was opened after a loss. Gives the log's end; what the fences came to is
    /// settled.
    pub(super) fn check(&mut self, store: &Store, least: u64, loss: Loss, what: &str) -> u64 {
        let end = store.watermarks().appended;
        let most = self.tried.len() as u64;
        assert!(end >= least, "{what}: {least} acknowledged, {end} kept");
        assert!(end <= most, "{what}: {most} tried, {end} there");
        assert!(
            end == 0 || self.ends.contains(&end),
            "{what}: the log ends at {end}, within a batch of {:?}",
            self.ends
        );
        assert_eq!(store.watermarks().visible, end, "{what}: no fence is open");
        let all = read(store, &Region::all());
        for (fence, seen) in self.fences.iter_mut().enumerate() {
            let of_fence = |at: u64| self.tried[at as usize].fence == Some(fence);
            let events = (0..end).filter(|&at| of_fence(at)).count();
            let found = all.iter().filter(|event| of_fence(event.0)).count();
            assert!(found == 0 || found == events, "{what}: {found} of {events} events of a fence");
            let allowed = match *seen {
                Seen::No => found == 0,
                Seen::Yes => found == events,
                Seen::AfterKill => found == events || loss == Loss::Power,
                Seen::Perhaps => true,
            };
            assert!(allowed, "{what}: {found} of {events} events of a fence that should be {seen:?}");
            *seen = if found > 0 { Seen::Yes } else { Seen::No };
        }
        let live = |at: &u64| self.tried[*at as usize].fence.is_none_or(|fence| self.fences[fence] == Seen::Yes);
        let expected: Vec<u64> = (0..end).filter(live).collect();
        assert_eq!(all.iter().map(|event| event.0).collect::<Vec<_>>(), expected, "{what}");
        let mut clocks = [0; FENCED as usize + 1];
        for (sequence, found, clock, bytes) in &all {
            let Tried { entity: of, bytes: length, .. } = self.tried[*sequence as usize];
            assert_eq!((found, *clock), (&entity(of), clocks[of as usize]), "{what}: event {sequence}");
            clocks[of as usize] += 1;
            assert!(*bytes == payload(*sequence, length), "{what}: event {sequence} has another payload");
        }
        for of in (0..ENTITIES).chain([FENCED]) {
            let own: Vec<u64> = all.iter().filter(|event| event.1 == entity(of)).map(|event| event.0).collect();
            let found: Vec<u64> = read(store, &Region::all().with_entity(entity(of))).iter().map(|e| e.0).collect();
            assert_eq!(found, own, "{what}: by the index");
        }
        end
    }

    /// The consumer resumes at what it committed, or at what it was committing. What a kill left unsynced, a later power loss may
    /// still take back: only from a disk where all is durable does the resumed place become the committed one.
    pub(super) fn check_checkpoint(&mut self, store: &Store, is_durable: bool, what: &str) {
        let cursor = Cursor::open(store, Region::all(), &consumer_options()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let next = cursor.position().unwrap().next_sequence;
        assert!(next == self.committed || next == self.committing, "{what}: resumed at {next}, not {}", self.committed);
        self.committing = next;
        if is_durable {
            self.committed = next;
        }
    }
}
