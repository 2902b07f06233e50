//! The store under the model: what was drawn is done to both. A step that the disk stops in the midst of is known by
//! [`World::is_stopped`]: nobody hears its answer, and the model allows for both outcomes.

use std::sync::atomic::{AtomicI64, Ordering};

use super::consumers::{Reader, Saved};
use super::oracle::{Draft, ENTITIES, KINDS, Oracle, Outcome, SCOPES, State, Want};
use super::workers::ModelWorker;
use super::*;
use crate::event::EventId;
use crate::io::sim::Random;
use crate::io::time::WallClock;
use crate::store::{Expected, Fence, FenceOptions, Receipt};

/// Draws for one step.
pub(super) struct Draws(pub(super) Random);

impl Draws {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

pub(super) struct OpenModelFence {
    pub(super) number: usize,
    pub(super) fence: Fence,
}

pub(super) struct World {
    pub(super) random: Draws,
    /// It fills segments.
    is_heavy: bool,
    pub(super) disk: SimStorage,
    pub(super) store: Option<Store>,
    pub(super) oracle: Oracle,
    pub(super) fences: Vec<OpenModelFence>,
    next_fence: usize,
    next_key: u64,
    pub(super) clock: Arc<AtomicI64>,
    pub(super) readers: Vec<Reader>,
    pub(super) workers: Vec<ModelWorker>,
    pub(super) saved: Vec<Saved>,
    /// What was done, where somebody wants to know.
    pub(super) story: Option<Vec<String>>,
    pub(super) counts: Counts,
}

/// How much of what a test is for happened in it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) delivered: u64,
    pub(super) resumed: u64,
    pub(super) crashes: u64,
    pub(super) in_midst: u64,
    pub(super) in_recovery: u64,
    pub(super) gaps: u64,
    pub(super) seals: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Counts) {
        let Counts { delivered, resumed, crashes, in_midst, in_recovery, gaps, seals } = other;
        self.delivered += delivered;
        self.resumed += resumed;
        self.crashes += crashes;
        self.in_midst += in_midst;
        self.in_recovery += in_recovery;
        self.gaps += gaps;
        self.seals += seals;
    }
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut random = Draws(Random::new(seed));
        let disk = SimStorage::new(seed);
        let clock = Arc::new(AtomicI64::new(1_700_000_000_000_000));
        let mut wants = || want(&mut random);
        let saved: Vec<Saved> = ["c0", "c1", "w0"].map(|id| Saved::new(id, wants())).into();
        let readers = vec![
            Reader::new(Some(0), saved[0].want.clone()),
            Reader::new(Some(1), saved[1].want.clone()),
            Reader::new(None, wants()),
            Reader::new(None, Want::default()),
        ];
        let workers = vec![ModelWorker::new(Some(2), saved[2].want.clone()), ModelWorker::new(None, wants())];
        let mut world = World {
            is_heavy: random.chance(30),
            random,
            disk,
            store: None,
            oracle: Oracle::default(),
            fences: Vec::new(),
            next_fence: 0,
            next_key: 0,
            clock,
            readers,
            workers,
            saved,
            story: None,
            counts: Counts::default(),
        };
        world.store = Some(world.open(false).unwrap());
        world
    }

    pub(super) fn options(&self, read_only: bool) -> StoreOptions {
        let clock = self.clock.clone();
        StoreOptions {
            read_only,
            clock: WallClock::custom(move || clock.load(Ordering::Relaxed)),
            ..options(&self.disk)
        }
    }

    pub(super) fn open(&self, read_only: bool) -> Result<Store> {
        Store::open(Path::new(DATA), &self.options(read_only))
    }

    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().expect("open between steps")
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(what());
        }
    }

    /// The disk has stopped: no answer of this life is heard any more.
    pub(super) fn is_stopped(&self) -> bool {
        self.disk.is_crashed()
    }

    // ---- appending -----------------------------------------------------------------------------------------------

    fn draft(&mut self, position: usize) -> Draft {
        let random = &mut self.random;
        let log = &self.oracle.log;
        let length = match random.below(100) {
            0..25 if self.is_heavy => 50_000 + random.below(400_000),
            0..2 => 100_000,
            _ => 1 + random.below(200),
        };
        let mut draft = Draft {
            entity: random.one_of(&ENTITIES),
            scope: random.one_of(&SCOPES),
            kind: random.one_of(&KINDS),
            payload: (random.next() as u8, length),
            key: None,
            causes: Vec::new(),
            batch_causes: Vec::new(),
            expected: Expected::Any,
        };
        if random.chance(30) && !log.is_empty() {
            draft.causes.push(log[random.below(log.len())].id);
        }
        if position > 0 && random.chance(30) {
            draft.batch_causes.push(random.below(position) as u32);
        }
        let keyed: Vec<usize> = (0..log.len()).filter(|&at| log[at].key.is_some()).collect();
        match random.below(10) {
            0..3 => {
                self.next_key += 1;
                draft.key = Some(format!("key-{:016}", self.next_key).into_bytes());
            }
            // A retry, of the same content or of another.
            3..6 if !keyed.is_empty() => {
                let old = &log[keyed[random.below(keyed.len())]];
                let kind = if random.chance(15) { 0x1003 } else { old.kind };
                let (key, causes) = (old.key.clone(), old.causes.clone());
                let (entity, scope, payload) = (old.entity, old.scope, old.payload);
                draft = Draft { entity, scope, kind, payload, key, causes, ..draft };
                draft.batch_causes.clear();
            }
            _ => {}
        }
        let clock = self.oracle.last_of(draft.entity).map(|at| log[at].clock);
        draft.expected = match random.below(10) {
            0 => Expected::NoStream,
            1 | 2 => clock.map_or(Expected::NoStream, Expected::Exact),
            3 => Expected::Exact(random.below(4) as u64),
            _ => Expected::Any,
        };
        draft
    }

    /// Appends a batch and does the same to the model.
    pub(super) fn append(&mut self) {
        let count = 1 + if self.random.chance(40) { self.random.below(4) } else { 0 };
        let drafts: Vec<Draft> = (0..count).map(|position| self.draft(position)).collect();
        let fence = (!self.fences.is_empty() && self.random.chance(50)).then(|| self.random.below(self.fences.len()));
        let durability = self.draw_durability(40);
        self.note(|| format!("append {durability:?}, fence {fence:?}: {}", in_short(&drafts)));
        let own = fence.map(|at| self.fences[at].number);
        let mut receipts = vec![Receipt::default(); count];
        let payloads: Vec<Vec<u8>> = drafts.iter().map(|draft| vec![draft.payload.0; draft.payload.1]).collect();
        let events: Vec<NewEvent<'_>> =
            drafts.iter().zip(&payloads).map(|(draft, payload)| event(draft, payload)).collect();
        let result = match fence {
            Some(at) => self.fences[at].fence.append(&events, &mut receipts),
            None => self.store().append(&events, Some(durability), &mut receipts),
        };
        let predicted = self.oracle.predict(&drafts, own);
        if self.is_stopped() {
            if let Ok(outcomes) = predicted {
                self.oracle.append(&drafts, &outcomes, own);
            }
            return;
        }
        match predicted {
            Ok(outcomes) => {
                result.unwrap_or_else(|error| panic!("refused: {error}\n{drafts:?}"));
                let places = self.oracle.append(&drafts, &outcomes, own);
                self.check_receipts(&places, &outcomes, &receipts);
                if own.is_none() {
                    let end = places.iter().max().map_or(0, |place| place + 1);
                    self.oracle.acknowledge(end, durability);
                }
            }
            Err(refused) => {
                let error = result.expect_err(refused);
                assert_eq!(name(&error), refused, "{error}\n{drafts:?}");
                let appended = self.store().watermarks().appended;
                assert_eq!(appended, self.oracle.log.len() as u64, "a refused batch used sequences");
            }
        }
    }

    fn check_receipts(&mut self, places: &[usize], outcomes: &[Outcome], receipts: &[Receipt]) {
        for ((&place, outcome), receipt) in places.iter().zip(outcomes).zip(receipts) {
            let before = place.checked_sub(1).map(|before| self.oracle.log[before].time_us);
            if *outcome == Outcome::New {
                assert!(before.is_none_or(|before| before <= receipt.time_us), "{receipt:?} is before {before:?}");
                self.oracle.hear(place, receipt.id, receipt.time_us);
            }
            let entry = &self.oracle.log[place];
            assert_eq!(receipt.sequence, place as u64, "{receipt:?}, {entry:?}");
            assert_eq!((receipt.clock, receipt.id), (entry.clock, entry.id), "{receipt:?}, {entry:?}");
            assert_eq!(receipt.correlation_id, entry.correlation, "{receipt:?}, {entry:?}");
            assert_eq!(receipt.duplicate, *outcome != Outcome::New, "{receipt:?}, {entry:?}");
        }
    }

    pub(super) fn draw_durability(&mut self, storage_percent: usize) -> Durability {
        if self.random.chance(storage_percent) { Durability::Storage } else { Durability::Process }
    }

    // ---- fences --------------------------------------------------------------------------------------------------

    pub(super) fn begin_fence(&mut self) {
        self.note(|| String::from("begin a fence"));
        // A machine that is busy does not expire it.
        let options = FenceOptions { timeout: Duration::from_secs(3600) };
        let begun = self.store().begin_fence(&options);
        if let Some(fence) = self.answer(begun) {
            self.fences.push(OpenModelFence { number: self.next_fence, fence });
            self.next_fence += 1;
        }
    }

    pub(super) fn commit_fence(&mut self) {
        let at = self.random.below(self.fences.len());
        let durability = self.draw_durability(50);
        self.note(|| format!("commit fence {at}, {durability:?}"));
        let committed = self.fences[at].fence.commit(Some(durability));
        let heard = self.answer(committed).map(|()| durability);
        let number = self.fences.remove(at).number;
        self.oracle.end_fence(number, State::Live, heard);
    }

    pub(super) fn cancel_fence(&mut self) {
        let at = self.random.below(self.fences.len());
        let how = self.random.below(3);
        self.note(|| format!("cancel fence {at}, {}", ["by name", "by dropping it", "by its timeout"][how]));
        match how {
            0 => {
                let cancelled = self.fences[at].fence.cancel();
                let _ = self.answer(cancelled);
            }
            1 => {}
            _ => {
                self.fences[at].fence.expire_now();
                let late = self.fences[at].fence.commit(None);
                assert!(matches!(late, Err(Error::FenceExpired { .. })) || self.is_stopped(), "{late:?}");
            }
        }
        let number = self.fences.remove(at).number;
        self.oracle.end_fence(number, State::Cancelled, None);
    }

    /// An answer that must be a good one, unless nobody hears it.
    pub(super) fn answer<T>(&self, result: Result<T>) -> Option<T> {
        match result {
            _ if self.is_stopped() => None,
            Ok(value) => Some(value),
            Err(error) => panic!("refused: {error}"),
        }
    }
}

fn want(random: &mut Draws) -> Want {
    let mut want = Want::default();
    match random.below(10) {
        0..2 => want.entity = Some(random.one_of(&ENTITIES)),
        2..5 => want.prefix = Some(random.one_of(&["a", "c", "b", "a:x"])),
        _ => {}
    }
    if random.chance(30) {
        want.scope = Some(random.one_of(&SCOPES));
    }
    match random.below(10) {
        0..2 => want.kind = Some(random.one_of(&KINDS)),
        2..4 => want.category = Some(1 + random.below(2) as u8),
        _ => {}
    }
    if random.chance(20) {
        let start = random.below(6) as u64;
        want.clock = Some((start, start + random.below(8) as u64));
    }
    want
}

fn event<'a>(draft: &'a Draft, payload: &'a [u8]) -> NewEvent<'a> {
    NewEvent {
        entity: draft.entity.as_bytes(),
        scope: draft.scope.as_bytes(),
        kind: draft.kind,
        payload,
        causes: &draft.causes,
        batch_causes: &draft.batch_causes,
        key: draft.key.as_deref().unwrap_or_default(),
        expected: draft.expected,
        ..NewEvent::default()
    }
}

fn in_short(drafts: &[Draft]) -> String {
    let one = |draft: &Draft| {
        let key = draft.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned());
        let Draft { entity, scope, kind, payload: (_, length), .. } = draft;
        format!("{entity} {scope} {kind:#x} {length} bytes, key {key:?}, {:?}", draft.expected)
    };
    drafts.iter().map(one).collect::<Vec<_>>().join("; ")
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

/// No event has it.
pub(super) const NO_ID: EventId = EventId([0; 16]);
