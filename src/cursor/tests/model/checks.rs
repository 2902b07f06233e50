//! What the store must say after a step: everything that can be read of it.

use super::oracle::{ENTITIES, Entry, Oracle, State, Want};
use super::world::World;
use super::*;
use crate::event::{Event, EventId};
use crate::store::{BackwardScan, Entity, Scan};

/// An event as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) sequence: u64,
    entity: String,
    kind: u32,
    time_us: i64,
    clock: u64,
    prev: u64,
    payload: (u8, usize),
    causes: Vec<EventId>,
}

pub(super) fn due_event(oracle: &Oracle, sequence: u64) -> Seen {
    let Entry { entity, kind, time_us, clock, prev, payload, ref causes, .. } = oracle.log[sequence as usize];
    Seen { sequence, entity: entity.to_owned(), kind, time_us, clock, prev, payload, causes: causes.clone() }
}

pub(super) fn seen(event: Event<'_>) -> Seen {
    let (payload, byte) = (event.payload(), event.payload()[0]);
    assert!(payload == vec![byte; payload.len()], "event {} has a payload of several bytes", event.sequence());
    Seen {
        sequence: event.sequence(),
        entity: event.entity().to_owned(),
        kind: u32::from(event.kind().0),
        time_us: event.time_us(),
        clock: event.clock(),
        prev: event.prev_sequence().unwrap_or(u64::MAX),
        payload: (byte, payload.len()),
        causes: event.causes().to_vec(),
    }
}

pub(super) fn read(store: &Store, region: &Region) -> Vec<Seen> {
    let mut scan = Scan::new(region);
    let (mut at, mut all) = (0, Vec::new());
    loop {
        let (batch, next) = scan.next(store, at, 5, u64::MAX).unwrap();
        all.extend(batch.iter().map(seen));
        if batch.is_empty() {
            return all;
        }
        at = next;
    }
}

fn read_backward(store: &Store, region: &Region) -> Vec<Seen> {
    let mut scan = BackwardScan::new(region);
    let (mut at, mut all) = (store.watermarks().visible, Vec::new());
    loop {
        let (batch, next) = scan.next(store, at, 5, u64::MAX).unwrap();
        all.extend(batch.iter().map(seen));
        if batch.is_empty() {
            return all;
        }
        at = next;
    }
}

impl World {
    pub(super) fn check(&mut self) {
        let (store, oracle) = (self.store().clone(), &self.oracle);
        assert_eq!(store.watermarks().appended, oracle.log.len() as u64);
        let floor = oracle.visible();
        assert_eq!(store.watermarks().visible, floor as u64, "visible");
        // One region a check in full; all of them come up.
        let wants = [
            Want::default(),
            Want { entity: Some(self.random.one_of(&ENTITIES)), ..Want::default() },
            self.saved[self.random.below(3)].want.clone(),
        ];
        for want in wants {
            let mut due: Vec<Seen> =
                self.oracle.due(&want, 0).into_iter().map(|at| due_event(&self.oracle, at)).collect();
            assert_eq!(read(&store, &want.region()), due, "{want:?}");
            if self.random.chance(50) {
                due.reverse();
                assert_eq!(read_backward(&store, &want.region()), due, "backward, {want:?}");
            }
        }
        self.check_singles(&store, floor);
        self.check_entities(&store, floor);
    }

    /// What is read without a cursor.
    fn check_singles(&self, store: &Store, floor: usize) {
        for (at, entry) in self.oracle.log.iter().enumerate() {
            let is_seen = at < floor && entry.state == State::Live;
            let found = store.get_by_id(entry.id).unwrap();
            let found = found.as_ref().map(|batch| seen(batch.event(0)));
            assert_eq!(found, is_seen.then(|| due_event(&self.oracle, at as u64)));
            assert_eq!(store.get(at as u64).unwrap().is_some(), is_seen);
        }
        let cancelled = store.cancelled(0, floor as u64).unwrap();
        assert_eq!(cancelled, self.oracle.cancelled(0, floor as u64), "cancelled ranges");
    }

    fn check_entities(&self, store: &Store, floor: usize) {
        let log = &self.oracle.log;
        let mut listed = Vec::new();
        for entity in ENTITIES {
            let newest = |visible: usize| {
                let is_it = |at: &usize| log[*at].entity == entity && log[*at].state == State::Live;
                (0..visible).rev().find(is_it).map(|at| (log[at].clock, at as u64))
            };
            let head = store.entity_head(entity.as_bytes()).unwrap().map(|head| (head.clock, head.last_sequence));
            assert_eq!(head, newest(log.len()), "the head of {entity}");
            listed.extend(newest(floor).map(|(clock, last)| (entity.to_owned(), clock, last)));
        }
        let mut found = Vec::new();
        loop {
            let after = found.last().map_or(String::new(), |(name, ..): &(String, u64, u64)| name.clone());
            let page = store.entities(b"", after.as_bytes(), 2).unwrap();
            let row = |entity: Entity<'_>| {
                (String::from_utf8(entity.name.to_vec()).unwrap(), entity.clock, entity.last_sequence)
            };
            found.extend(page.iter().map(row));
            if page.len() < 2 {
                break;
            }
        }
        assert_eq!(found, listed, "entities");
    }
}
