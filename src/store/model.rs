//! The store against a plain vector (row R19 of the scorecard): random appends, batches, expected states, keys and fences, cursors and
//! workers ([`consumers`]), with kills, power losses, crashes in recovery and reopenings between them. After each step the store must say
//! what the model says, and each consumer gets what matches behind its position.

mod consumers;

use std::collections::HashMap;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::*;
use crate::event::{Event, Region};
use crate::io::sim::{Random, SimStorage};
use crate::reliability;
use crate::store::scan::Scan;

/// Sequences of operations in `make test`.
const SEQUENCES: u64 = 300;
const OPERATIONS: usize = 100;
const ENTITIES: [&str; 5] = ["a", "a:x", "b", "c", "c:y"];
const SCOPES: [&str; 2] = ["s", "t"];

/// Draws for one sequence.
struct Draws(Random);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    Hidden(usize),
    Cancelled,
}

/// What was appended, and what it became.
#[derive(Debug, Clone)]
struct Entry {
    state: State,
    entity: &'static str,
    scope: &'static str,
    kind: u32,
    /// This byte, so many times.
    payload: (u8, usize),
    key: Option<Vec<u8>>,
    causes: Vec<EventId>,
    correlation: EventId,
    id: EventId,
    clock: u64,
    prev: u64,
    /// Acknowledged as surviving: power loss, a kill.
    durable: bool,
    kept: bool,
    /// The first event of its batch.
    begins: bool,
}

/// An item as drawn, before it is appended.
#[derive(Debug, Clone)]
struct Draft {
    entity: &'static str,
    scope: &'static str,
    kind: u32,
    /// This byte, so many times.
    payload: (u8, usize),
    key: Option<Vec<u8>>,
    causes: Vec<EventId>,
    batch_causes: Vec<u32>,
    expected: Expected,
}

struct OpenModelFence {
    number: usize,
    fence: Fence,
}

struct World {
    random: Draws,
    disk: SimStorage,
    store: Option<Store>,
    log: Vec<Entry>,
    fences: Vec<OpenModelFence>,
    next_fence: usize,
    next_key: u64,
    /// Committed without a sync: a power loss may take them back whole.
    soft_fences: Vec<Vec<usize>>,
    readers: Vec<consumers::Reader>,
}

fn options(disk: &SimStorage) -> StoreOptions {
    StoreOptions {
        storage: Arc::new(disk.clone()),
        segment_bytes: 1 << 20,
        helper_thread: false,
        ..StoreOptions::default()
    }
}

fn open(disk: &SimStorage) -> Store {
    Store::open(Path::new("/m"), &options(disk)).unwrap()
}

impl World {
    fn new(seed: u64) -> World {
        let disk = SimStorage::new(seed);
        let store = Some(open(&disk));
        World {
            random: Draws(Random::new(seed)),
            disk,
            store,
            log: Vec::new(),
            fences: Vec::new(),
            next_fence: 0,
            next_key: 0,
            soft_fences: Vec::new(),
            readers: consumers::readers(),
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// The newest event of the entity that counts for who appends: hidden ones of others do not come up, their entity is fenced.
    fn last_of(&self, entity: &str) -> Option<usize> {
        self.log.iter().rposition(|entry| entry.entity == entity && entry.state != State::Cancelled)
    }

    fn owner(&self, entity: &str) -> Option<usize> {
        self.log.iter().rev().find_map(|entry| match entry.state {
            State::Hidden(fence) if entry.entity == entity => Some(fence),
            _ => None,
        })
    }

    fn draft(&mut self, position: usize) -> Draft {
        let random = &mut self.random;
        let entity = ENTITIES[random.below(ENTITIES.len())];
        let mut draft = Draft {
            entity,
            scope: SCOPES[random.below(SCOPES.len())],
            kind: 0x1000 + random.below(3) as u32,
            payload: (random.next() as u8, if random.chance(8) { 150_000 } else { 1 + random.below(200) }),
            key: None,
            causes: Vec::new(),
            batch_causes: Vec::new(),
            expected: Expected::Any,
        };
        if random.chance(30) && !self.log.is_empty() {
            let at = random.below(self.log.len());
            draft.causes.push(self.log[at].id);
        }
        if position > 0 && random.chance(30) {
            draft.batch_causes.push(random.below(position) as u32);
        }
        let keyed: Vec<usize> = (0..self.log.len()).filter(|&at| self.log[at].key.is_some()).collect();
        match random.below(10) {
            0..3 => {
                self.next_key += 1;
                draft.key = Some(format!("key-{:016}", self.next_key).into_bytes());
            }
            // A retry, of the same content or of another.
            3..6 if !keyed.is_empty() => {
                let old = &self.log[keyed[random.below(keyed.len())]];
                let other = random.chance(15);
                draft = Draft {
                    entity: old.entity,
                    scope: old.scope,
                    kind: if other { 0x1003 } else { old.kind },
                    payload: old.payload,
                    key: old.key.clone(),
                    causes: old.causes.clone(),
                    batch_causes: Vec::new(),
                    expected: Expected::Any,
                };
            }
            _ => {}
        }
        let clock = self.last_of(draft.entity).map(|at| self.log[at].clock);
        draft.expected = match self.random.below(10) {
            0 => Expected::NoStream,
            1 | 2 => clock.map_or(Expected::NoStream, Expected::Exact),
            3 => Expected::Exact(self.random.below(4) as u64),
            _ => Expected::Any,
        };
        draft
    }

    /// Appends a batch and does the same to the model.
    fn append(&mut self) {
        let count = 1 + if self.random.chance(40) { self.random.below(4) } else { 0 };
        let drafts: Vec<Draft> = (0..count).map(|position| self.draft(position)).collect();
        let fence = (!self.fences.is_empty() && self.random.chance(50)).then(|| self.random.below(self.fences.len()));
        let durability = if self.random.chance(40) { Durability::Storage } else { Durability::Process };
        let payloads: Vec<Vec<u8>> = drafts.iter().map(|draft| vec![draft.payload.0; draft.payload.1]).collect();
        let events: Vec<NewEvent<'_>> = drafts
            .iter()
            .zip(&payloads)
            .map(|(draft, payload)| NewEvent {
                entity: draft.entity.as_bytes(),
                scope: draft.scope.as_bytes(),
                kind: draft.kind,
                payload,
                causes: &draft.causes,
                batch_causes: &draft.batch_causes,
                key: draft.key.as_deref().unwrap_or_default(),
                expected: draft.expected,
                ..NewEvent::default()
            })
            .collect();
        let mut receipts = vec![Receipt::default(); count];
        let own = fence.map(|at| self.fences[at].number);
        let result = match fence {
            Some(at) => self.fences[at].fence.append(&events, &mut receipts),
            None => self.store().append(&events, Some(durability), &mut receipts),
        };
        let before = self.store().watermarks().appended;
        match self.predict(&drafts, own) {
            Ok(outcomes) => {
                result.unwrap_or_else(|error| panic!("refused: {error}\n{drafts:?}"));
                self.apply(&drafts, &outcomes, &receipts, own, durability);
            }
            Err(refused) => {
                let error = result.expect_err(refused);
                assert_eq!(name(&error), refused, "{error}\n{drafts:?}");
                assert_eq!(before, self.log.len() as u64, "a refused batch used sequences");
            }
        }
    }

    /// What must become of a batch: for each item the event that it repeats, or itself.
    fn predict(&self, drafts: &[Draft], own: Option<usize>) -> std::result::Result<Vec<Outcome>, &'static str> {
        // Causes are looked at first.
        for draft in drafts {
            for cause in &draft.causes {
                if let Some(entry) = self.log.iter().find(|entry| entry.id == *cause) {
                    match entry.state {
                        State::Cancelled => return Err("CauseUnknown"),
                        State::Hidden(fence) if Some(fence) != own => return Err("FencePending"),
                        _ => {}
                    }
                }
            }
        }
        let mut outcomes: Vec<Outcome> = Vec::new();
        let mut keys: HashMap<&[u8], usize> = HashMap::new();
        // Two items of a batch with one key are compared before the log is asked.
        for (at, draft) in drafts.iter().enumerate() {
            let Some(key) = &draft.key else { continue };
            match keys.get(&key[..]) {
                Some(&first) if !same_items(&drafts[first], draft) => return Err("IdempotencyConflict"),
                Some(_) => {}
                None => {
                    keys.insert(key, at);
                }
            }
        }
        for (at, draft) in drafts.iter().enumerate() {
            let Some(key) = &draft.key else {
                outcomes.push(Outcome::New);
                continue;
            };
            if keys[&key[..]] != at {
                outcomes.push(Outcome::Same(keys[&key[..]]));
                continue;
            }
            let old =
                self.log.iter().rposition(|entry| entry.key.as_ref() == Some(key) && entry.state != State::Cancelled);
            let Some(old) = old else {
                outcomes.push(Outcome::New);
                continue;
            };
            let entry = &self.log[old];
            if let State::Hidden(fence) = entry.state {
                if Some(fence) != own {
                    return Err("FencePending");
                }
            }
            let mut causes: Vec<Option<EventId>> = draft.causes.iter().copied().map(Some).collect();
            causes.extend(draft.batch_causes.iter().map(|&cause| match outcomes[cause as usize] {
                Outcome::Old(old) => Some(self.log[old].id),
                Outcome::Same(first) => match outcomes[first] {
                    Outcome::Old(old) => Some(self.log[old].id),
                    _ => None,
                },
                Outcome::New => None,
            }));
            let same = entry.entity == draft.entity
                && entry.scope == draft.scope
                && entry.kind == draft.kind
                && entry.payload == draft.payload
                && causes == entry.causes.iter().copied().map(Some).collect::<Vec<_>>();
            if !same {
                return Err("IdempotencyConflict");
            }
            outcomes.push(Outcome::Old(old));
        }
        for (draft, outcome) in drafts.iter().zip(&outcomes) {
            if *outcome == Outcome::New && self.owner(draft.entity).is_some_and(|owner| Some(owner) != own) {
                return Err("StreamFenced");
            }
        }
        let mut clocks: HashMap<&str, Option<u64>> = HashMap::new();
        for (draft, outcome) in drafts.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Outcome::New) {
            let _ = outcome;
            let last =
                clocks.entry(draft.entity).or_insert_with(|| self.last_of(draft.entity).map(|at| self.log[at].clock));
            let met = match draft.expected {
                Expected::Any => true,
                Expected::NoStream => last.is_none(),
                Expected::Exact(clock) => *last == Some(clock),
            };
            if !met {
                return Err("ExpectedState");
            }
            *last = Some(last.map_or(0, |clock| clock + 1));
        }
        Ok(outcomes)
    }

    fn apply(
        &mut self,
        drafts: &[Draft],
        outcomes: &[Outcome],
        receipts: &[Receipt],
        own: Option<usize>,
        durability: Durability,
    ) {
        let mut begins = true;
        let mut places: Vec<usize> = Vec::new();
        for (at, draft) in drafts.iter().enumerate() {
            let receipt = &receipts[at];
            let place = match outcomes[at] {
                Outcome::Old(old) => old,
                Outcome::Same(first) => places[first],
                Outcome::New => self.log.len(),
            };
            places.push(place);
            if outcomes[at] == Outcome::New {
                let last = self.last_of(draft.entity);
                let mut causes = draft.causes.clone();
                causes.extend(draft.batch_causes.iter().map(|&cause| self.log[places[cause as usize]].id));
                let first_cause = causes.first().and_then(|id| self.log.iter().find(|entry| entry.id == *id));
                self.log.push(Entry {
                    state: own.map_or(State::Live, State::Hidden),
                    entity: draft.entity,
                    scope: draft.scope,
                    kind: draft.kind,
                    payload: draft.payload,
                    key: draft.key.clone(),
                    correlation: first_cause.map_or(receipt.id, |cause| cause.correlation),
                    causes,
                    id: receipt.id,
                    clock: last.map_or(0, |at| self.log[at].clock + 1),
                    prev: last.map_or(u64::MAX, |at| at as u64),
                    durable: false,
                    kept: false,
                    begins: std::mem::take(&mut begins),
                });
            }
            let entry = &self.log[place];
            assert_eq!(receipt.sequence, place as u64, "{drafts:?}");
            assert_eq!((receipt.clock, receipt.id), (entry.clock, entry.id), "{drafts:?}");
            assert_eq!(receipt.correlation_id, entry.correlation, "{drafts:?}");
            assert_eq!(receipt.duplicate, outcomes[at] != Outcome::New, "{drafts:?}");
        }
        if own.is_none() {
            let end = places.iter().max().map_or(0, |place| place + 1);
            // Everything below is as durable too.
            for entry in &mut self.log[..end] {
                entry.kept = true;
                entry.durable |= durability == Durability::Storage;
            }
        }
    }

    fn end_fence(&mut self, at: usize, state: State, durability: Durability) {
        let number = self.fences.remove(at).number;
        let mut events = Vec::new();
        for (at, entry) in self.log.iter_mut().enumerate() {
            if entry.state == State::Hidden(number) {
                entry.state = state;
                events.push(at);
            }
        }
        if state == State::Live {
            let durable = durability == Durability::Storage;
            for entry in &mut self.log {
                entry.kept = true;
                entry.durable |= durable;
            }
            match durable {
                true => self.soft_fences.clear(),
                false if events.is_empty() => {}
                false => self.soft_fences.push(events),
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(160) {
            0..60 => self.append(),
            100..160 => self.step_reader(),
            60..70 if self.fences.len() < 3 => {
                let fence = self.store().begin_fence(&FenceOptions::default()).unwrap();
                self.fences.push(OpenModelFence { number: self.next_fence, fence });
                self.next_fence += 1;
            }
            70..78 if !self.fences.is_empty() => {
                let at = self.random.below(self.fences.len());
                let durability = if self.random.chance(50) { Durability::Storage } else { Durability::Process };
                self.fences[at].fence.commit(Some(durability)).unwrap();
                self.end_fence(at, State::Live, durability);
            }
            78..86 if !self.fences.is_empty() => {
                let at = self.random.below(self.fences.len());
                match self.random.below(3) {
                    0 => self.fences[at].fence.cancel().unwrap(),
                    // Dropped undecided, by `end_fence`.
                    1 => {}
                    _ => {
                        self.fences[at].fence.expire_now();
                        let late = self.fences[at].fence.commit(None);
                        assert!(matches!(late, Err(Error::FenceExpired { .. })), "{late:?}");
                    }
                }
                self.end_fence(at, State::Cancelled, Durability::Process);
            }
            86..89 => {
                self.store().sync().unwrap();
                self.log.iter_mut().for_each(|entry| (entry.kept, entry.durable) = (true, true));
                self.soft_fences.clear();
            }
            89..92 => {
                self.store().close(Duration::from_secs(1)).unwrap();
                self.end();
                self.log.iter_mut().for_each(|entry| (entry.kept, entry.durable) = (true, true));
                self.soft_fences.clear();
                self.reopen(false);
            }
            92..94 => {
                let killed = self.disk.crash_keep_all();
                self.end();
                self.disk = killed;
                self.interrupt_recovery();
                self.reopen(false);
            }
            94..96 => {
                let seed = self.random.next();
                let crashed = self.disk.crash(seed);
                self.end();
                self.disk = crashed;
                self.interrupt_recovery();
                self.reopen(true);
            }
            _ => {}
        }
    }

    /// Sometimes openings are killed.
    fn interrupt_recovery(&mut self) {
        while self.random.chance(30) {
            let again = self.disk.crash_keep_all();
            again.crash_at(self.random.below(12) as u64);
            drop(Store::open(Path::new("/m"), &options(&again)));
            self.disk = again.crash_keep_all();
        }
    }

    /// All handles of this life go; what is undecided is cancelled.
    fn end(&mut self) {
        self.end_readers();
        self.fences.clear();
        self.store = None;
        for entry in &mut self.log {
            if matches!(entry.state, State::Hidden(_)) {
                entry.state = State::Cancelled;
            }
        }
    }

    fn reopen(&mut self, power_loss: bool) {
        let store = open(&self.disk);
        let left = store.watermarks().appended as usize;
        let owed = self.log.iter().rposition(|entry| entry.durable || entry.kept && !power_loss).map_or(0, |at| at + 1);
        assert!(
            left >= owed && left <= self.log.len(),
            "{left} of {} events left, {owed} were promised",
            self.log.len()
        );
        assert!(left == self.log.len() || self.log[left].begins, "half a batch");
        self.log.truncate(left);
        let soft = std::mem::take(&mut self.soft_fences);
        if power_loss {
            // The frame that committed such a fence may be lost: then none of it is there.
            let visible: Vec<u64> = read(&store, &Region::all()).iter().map(|event| event.0).collect();
            for fence in soft {
                let events: Vec<usize> = fence.into_iter().filter(|&at| at < left).collect();
                let seen = events.iter().filter(|&&at| visible.contains(&(at as u64))).count();
                assert!(seen == 0 || seen == events.len(), "half a fence");
                if seen == 0 {
                    events.iter().for_each(|&at| self.log[at].state = State::Cancelled);
                }
            }
        }
        // What recovery has read it has made durable.
        for entry in &mut self.log {
            (entry.kept, entry.durable) = (true, true);
        }
        self.store = Some(store);
    }

    fn check(&self) {
        let store = self.store();
        assert_eq!(store.watermarks().appended, self.log.len() as u64);
        let floor = self.floor();
        let visible = store.watermarks().visible;
        assert_eq!(visible, floor as u64, "visible");
        let live: Vec<usize> = (0..floor).filter(|&at| self.log[at].state == State::Live).collect();
        let of = |wanted: &dyn Fn(&Entry) -> bool| -> Vec<Seen> {
            live.iter().filter(|&&at| wanted(&self.log[at])).map(|&at| seen(at, &self.log[at])).collect()
        };
        let all = Region::all;
        assert_eq!(read(store, &all()), of(&|_| true));
        for entity in ENTITIES {
            assert_eq!(read(store, &all().with_entity(entity.to_owned())), of(&|e| e.entity == entity), "{entity}");
        }
        assert_eq!(read(store, &all().with_entity_prefix("a")), of(&|e| e.entity == "a" || e.entity.starts_with("a:")));
        assert_eq!(read(store, &all().with_scope("t")), of(&|e| e.scope == "t"));
        for (region, mut expected) in [
            (all(), of(&|_| true)),
            (all().with_entity("a".to_owned()), of(&|e| e.entity == "a")),
            (all().with_scope("t"), of(&|e| e.scope == "t")),
        ] {
            expected.reverse();
            assert_eq!(read_backward(store, &region), expected, "backward");
        }
        self.check_single(store, floor);
        self.check_readers();
    }

    /// What is read without a cursor.
    fn check_single(&self, store: &Store, floor: usize) {
        for (at, entry) in self.log.iter().enumerate() {
            let is_seen = at < floor && entry.state == State::Live;
            let found = store.get(at as u64).unwrap();
            assert_eq!(found.as_ref().map(|batch| seen_of(batch.event(0))), is_seen.then(|| seen(at, entry)));
            assert_eq!(store.get_by_id(entry.id).unwrap().is_some(), is_seen);
        }
        let cancelled: Vec<u64> =
            (0..floor).filter(|&at| self.log[at].state == State::Cancelled).map(|at| at as u64).collect();
        let ranges = store.cancelled(0, floor as u64).unwrap();
        assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?} touch");
        assert_eq!(ranges.iter().flat_map(|&(start, end)| start..end).collect::<Vec<_>>(), cancelled);
        let mut listed = Vec::new();
        for entity in ENTITIES {
            let newest = |visible: usize| {
                let of = |at: &usize| self.log[*at].entity == entity && self.log[*at].state == State::Live;
                (0..visible).rev().find(of).map(|at| (self.log[at].clock, at as u64))
            };
            let head = store.entity_head(entity.as_bytes()).unwrap();
            assert_eq!(
                head.map(|head| (head.clock, head.last_sequence)),
                newest(self.log.len()),
                "the head of {entity}"
            );
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    New,
    Old(usize),
    Same(usize),
}

fn same_items(first: &Draft, second: &Draft) -> bool {
    first.entity == second.entity
        && first.scope == second.scope
        && first.kind == second.kind
        && first.payload == second.payload
        && first.causes == second.causes
        && first.batch_causes == second.batch_causes
}

fn name(error: &Error) -> &'static str {
    match error {
        Error::BatchItem { source, .. } => name(source),
        Error::CauseUnknown { .. } => "CauseUnknown",
        Error::FencePending { .. } => "FencePending",
        Error::IdempotencyConflict { .. } => "IdempotencyConflict",
        Error::StreamFenced { .. } => "StreamFenced",
        Error::ExpectedState { .. } => "ExpectedState",
        _ => "another",
    }
}

/// Sequence, entity, clock, previous, payload, causes.
type Seen = (u64, String, u64, u64, (u8, usize), Vec<EventId>);

fn seen(at: usize, entry: &Entry) -> Seen {
    (at as u64, entry.entity.to_owned(), entry.clock, entry.prev, entry.payload, entry.causes.clone())
}

fn read(store: &Store, region: &Region) -> Vec<Seen> {
    let mut scan = Scan::new(region);
    let (mut at, mut all) = (0, Vec::new());
    loop {
        let (batch, next) = scan.next(store, at, 5, u64::MAX).unwrap();
        all.extend(batch.iter().map(seen_of));
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
        all.extend(batch.iter().map(seen_of));
        if batch.is_empty() {
            return all;
        }
        at = next;
    }
}

fn seen_of(event: Event<'_>) -> Seen {
    let (payload, byte) = (event.payload(), event.payload()[0]);
    assert!(payload.iter().all(|other| *other == byte));
    (
        event.sequence(),
        event.entity().to_owned(),
        event.clock(),
        event.prev_sequence().unwrap_or(u64::MAX),
        (byte, payload.len()),
        event.causes().to_vec(),
    )
}

fn run(seed: u64, operations: usize) {
    let mut world = World::new(seed);
    for _ in 0..operations {
        world.step();
        if world.random.chance(15) {
            world.check();
        }
    }
    world.check();
}

/// The fewest operations of the sequence that fail.
fn shortest(seed: u64) -> usize {
    (1..OPERATIONS).find(|&operations| catch_unwind(|| run(seed, operations)).is_err()).unwrap_or(OPERATIONS)
}

#[test]
fn row_r19_the_store_says_what_the_model_says() {
    let (first, sequences) = (reliability::seed(0), reliability::trials(SEQUENCES));
    let next = AtomicU64::new(0);
    let failing = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let seed = first.wrapping_add(at);
                    if at >= sequences || failing.load(Ordering::Relaxed) > 0 {
                        return;
                    }
                    if catch_unwind(|| run(seed, OPERATIONS)).is_err() {
                        failing.fetch_add(1, Ordering::Relaxed);
                        println!(
                            "RELIABILITY_SEED={seed} RELIABILITY_TRIALS=1 fails with its first {} operations",
                            shortest(seed)
                        );
                    }
                }
            });
        }
    });
    let failures = failing.into_inner();
    reliability::report(
        "R19",
        sequences,
        failures,
        first,
        "sequences of 100 operations, consumers and crashes included",
    );
    assert_eq!(failures, 0);
}
