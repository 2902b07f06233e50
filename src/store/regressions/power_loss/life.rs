//! Runs a workload against a store, and tells the model what was acknowledged.

use std::sync::Mutex;

use super::*;
use crate::cursor::checkpoint;
use crate::io::time::{RANDOM_BYTE, WallClock};
use crate::store::Expected;
use crate::store::options::SEGMENT_BYTES_OF_TESTS;

pub(super) fn options_on(disk: &SimStorage) -> StoreOptions {
    // Time goes on by one microsecond per operation of the disk: a run is the same each time.
    let clock_disk = disk.clone();
    let clock = WallClock::custom(move || 1_000_000 + clock_disk.operations() as i64);
    StoreOptions { clock, segment_bytes: SEGMENT_BYTES_OF_TESTS, ..sim(disk) }
}

/// Opens the store; one that is made has the same id each time.
pub(super) fn open(disk: &SimStorage) -> Result<Store> {
    let before = RANDOM_BYTE.replace(Some(0x5E));
    let opened = Store::open(Path::new(AT), &options_on(disk));
    RANDOM_BYTE.set(before);
    opened
}

pub(super) fn new_event<'a>(entity: &'a str, payload: &'a [u8]) -> NewEvent<'a> {
    event(entity, payload)
}

/// Appends what was tried, all with the same further conditions.
pub(super) fn append_tried(
    tried: &[Tried],
    conditions: &NewEvent<'_>,
    append: impl FnOnce(&[NewEvent<'_>], &mut [Receipt]) -> Result<()>,
) -> Result<Vec<Receipt>> {
    let texts: Vec<_> = tried.iter().map(|tried| (entity(tried.entity), tried.payload())).collect();
    let with = |(entity, payload)| {
        let NewEvent { entity, scope, kind, payload, .. } = new_event(entity, payload);
        NewEvent { entity, scope, kind, payload, ..*conditions }
    };
    let items: Vec<_> = texts.iter().map(|(entity, payload)| with((entity.as_str(), payload.as_slice()))).collect();
    let mut receipts = vec![Receipt::default(); items.len()];
    append(&items, &mut receipts).map(|()| receipts)
}

/// The process is gone: nobody was there to be told.
fn stopped() -> Error {
    Error::Closed { what: "process" }
}

/// How far a workload went.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// Steps that failed.
    pub(super) failed: u64,
    /// A failed sync may have dropped names that are still there to be seen: nothing is promised to who goes on with them unless the
    /// power fails.
    pub(super) lost_names: bool,
}

/// Runs the steps until one fails, and counts in the model what was acknowledged.
pub(super) fn run(disk: &SimStorage, steps: &[Step], model: &mut Model) -> Result<()> {
    let mut life = Life::new(disk, model);
    life.open()?;
    steps.iter().try_for_each(|step| life.step(*step))
}

/// Runs all steps, whatever fails: what is acknowledged after a failure counts too.
pub(super) fn run_on(disk: &SimStorage, steps: &[Step], model: &mut Model) -> Ran {
    let mut life = Life::new(disk, model);
    let mut ran = Ran::default();
    let _ = life.open();
    for step in steps {
        if disk.is_crashed() || life.has_lost_names() && life.store.is_none() {
            break;
        }
        ran.failed += u64::from(life.step_after_failures(*step).is_err());
    }
    ran.lost_names = life.has_lost_names();
    ran
}

struct Life<'a> {
    disk: &'a SimStorage,
    model: &'a mut Model,
    // Dropped in this order.
    cursor: Option<Cursor>,
    fences: Vec<(Fence, usize)>,
    store: Option<Store>,
}

impl Life<'_> {
    fn new<'a>(disk: &'a SimStorage, model: &'a mut Model) -> Life<'a> {
        Life { disk, model, cursor: None, fences: Vec::new(), store: None }
    }

    fn has_lost_names(&self) -> bool {
        self.disk.failures().iter().any(|(operation, ..)| *operation == Operation::SyncDirectory)
    }

    /// What an earlier opening left is settled: a twin of the disk, which fails nowhere, says how.
    fn open(&mut self) -> Result<()> {
        if self.has_lost_names() {
            return Err(stopped());
        }
        let mut settled = None;
        if !self.disk.is_crashed() && self.model.next() > 0 {
            let twin = open(&self.disk.crash_keep_all()).unwrap_or_else(|error| panic!("does not open: {error}"));
            let mut model = self.model.clone();
            let end = model.check(&twin, model.acknowledged, Loss::Kill);
            model.settle(end);
            settled = Some(model);
        }
        let store = open(self.disk)?;
        self.check_alive()?;
        if let Some(model) = settled {
            // Durable now.
            *self.model = model;
        }
        assert_eq!(store.watermarks().appended, self.model.next(), "another log than a moment before");
        self.store = Some(store);
        Ok(())
    }

    fn store(&self) -> Result<Store> {
        self.store.clone().ok_or_else(stopped)
    }

    /// A store through the mapping may have been where everything stopped.
    fn check_alive(&self) -> Result<()> {
        if self.disk.is_crashed() { Err(stopped()) } else { Ok(()) }
    }

    fn leave(&mut self) {
        self.cursor = None;
        self.fences.clear();
        self.store = None;
    }

    fn step_after_failures(&mut self, step: Step) -> Result<()> {
        if self.store.is_none() {
            self.open()?;
        }
        let failures = self.disk.failures().len();
        let result = self.step(step);
        self.check_alive()?;
        let failures = self.disk.failures().split_off(failures);
        if let Some(store) = &self.store {
            let is_of_log = |(operation, _, path): &(Operation, i32, std::path::PathBuf)| match operation {
                Operation::Sync => path.extension().is_some_and(|extension| extension == "seg"),
                Operation::SyncDirectory => path.ends_with("segments"),
                _ => false,
            };
            if !matches!(step, Step::Reopen | Step::Abandon) && failures.iter().any(is_of_log) {
                assert!(store.inner.latch.is_tripped(), "a sync of the log failed and the store is not poisoned");
            }
            if result.is_err() && !self.reads_fail() {
                self.check_readable(store);
            }
        }
        result
    }

    /// A reading operation has failed.
    fn reads_fail(&self) -> bool {
        self.disk.failures().iter().any(|(operation, ..)| !operation.is_counted())
    }

    /// What is visible is readable, whatever has failed but reading.
    fn check_readable(&self, store: &Store) {
        let visible = store.watermarks().visible;
        let all = match try_read(store, &Region::all()) {
            Ok(all) => all,
            // The read that was to fail was one of these, or a write of an index on the way was where everything stopped.
            Err(Error::Io { .. }) if self.reads_fail() || self.disk.is_crashed() => return,
            Err(error) => panic!("what is visible is not readable: {error}"),
        };
        for (sequence, found, _, bytes) in &all {
            let tried = self.model.tried[*sequence as usize];
            assert!(*found == entity(tried.entity) && *bytes == tried.payload(), "event {sequence} is another one");
        }
        let is_there = |at: u64| self.model.tried[at as usize].fence.is_some() || all.iter().any(|event| event.0 == at);
        assert!((0..visible).all(is_there), "of {visible} visible events only {} are read", all.len());
    }

    fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Append { events, bytes, durability } => self.append(events, bytes, durability),
            Step::Keyed { key, durability } => self.keyed(key, durability),
            Step::Expecting { right, durability } => self.expecting(right, durability),
            Step::Fence { events, bytes, end } => self.fence(events, bytes, end),
            Step::Decide { commit } => self.decide(commit),
            Step::Sync => {
                let store = self.store()?;
                store.sync()?;
                // Of a poisoned store, what it says it has.
                let appended = store.watermarks().appended;
                self.model.durable_below(appended);
                if !store.inner.latch.is_tripped() {
                    self.model.acknowledge(Some(Durable));
                }
                Ok(())
            }
            Step::Checkpoint => self.checkpoint(),
            Step::Save => self.save(),
            Step::Work(manner) => self.work(manner),
            Step::Close => {
                let store = self.store()?;
                self.cursor = None;
                self.store = None;
                let closed = store.close(SECOND);
                self.fences.clear();
                closed?;
                self.model.acknowledge(Some(Durable));
                Ok(())
            }
            Step::Reopen => {
                self.step(Step::Close)?;
                self.open()
            }
            Step::Abandon => {
                self.leave();
                self.open()
            }
        }
    }

    /// Counts what an append came to. `before`: the sequence it was to have.
    fn appended(
        &mut self,
        appended: Result<Vec<Receipt>>,
        before: u64,
        was_poisoned: bool,
        durability: Option<Durability>,
    ) -> Result<Vec<Receipt>> {
        let store = self.store()?;
        let marks = store.watermarks();
        self.model.durable_below(marks.durable);
        match appended {
            Err(error) => {
                if was_poisoned || !store.inner.latch.is_tripped() {
                    // A clean refusal: nothing was appended.
                    assert!(was_poisoned || marks.appended == before, "a refused append used sequences: {error}");
                    self.model.refuse(before);
                } else if durability == Some(Durable) {
                    assert!(marks.visible <= before.max(marks.durable), "seen before it is durable");
                }
                Err(error)
            }
            Ok(receipts) => {
                self.check_alive()?;
                assert!(!was_poisoned, "acknowledged by a poisoned store");
                for (at, receipt) in receipts.iter().enumerate() {
                    assert_eq!((receipt.sequence, receipt.duplicate), (before + at as u64, false));
                    assert_eq!(receipt.durability, durability);
                }
                // Under a fence nothing is promised before the commit.
                if durability.is_some() {
                    self.model.acknowledge(durability);
                }
                Ok(receipts)
            }
        }
    }

    fn append_new(
        &mut self,
        tried: &[Tried],
        conditions: &NewEvent<'_>,
        durability: Durability,
    ) -> Result<Vec<Receipt>> {
        let store = self.store()?;
        let (before, was_poisoned) = (self.model.next() - tried.len() as u64, store.inner.latch.is_tripped());
        let appended =
            append_tried(tried, conditions, |items, receipts| store.append(items, Some(durability), receipts));
        self.appended(appended, before, was_poisoned, Some(durability))
    }

    fn append(&mut self, events: u64, bytes: usize, durability: Durability) -> Result<()> {
        let tried = self.model.try_batch(events, bytes);
        self.append_new(&tried, &NewEvent::default(), durability).map(drop)
    }

    fn keyed(&mut self, number: u64, durability: Durability) -> Result<()> {
        let key = key(number);
        let conditions = NewEvent { key: &key, ..NewEvent::default() };
        let Some(known) = self.model.find_key(number) else {
            let tried = self.model.try_keyed(number);
            let receipts = self.append_new(&[tried], &conditions, durability)?;
            self.model.note_receipt(&receipts[0]);
            return Ok(());
        };
        let store = self.store()?;
        let before = store.watermarks().appended;
        let append = |items: &[NewEvent<'_>], receipts: &mut [Receipt]| store.append(items, Some(durability), receipts);
        let receipts = append_tried(&[Model::keyed(number)], &conditions, append)?;
        self.check_alive()?;
        assert_eq!((receipts[0].sequence, receipts[0].duplicate), (known, true), "the key is not remembered");
        assert_eq!(store.watermarks().appended, before, "a retry of a key was appended");
        self.model.note_receipt(&receipts[0]);
        match receipts[0].durability {
            Some(Durable) => self.model.durable_below(known + 1),
            _ => self.model.acknowledged = self.model.acknowledged.max(known + 1),
        }
        Ok(())
    }

    fn expecting(&mut self, right: bool, durability: Durability) -> Result<()> {
        let (tried, count) = self.model.try_expecting();
        let expected = match (right, count) {
            (true, 0) => Expected::NoStream,
            (true, count) => Expected::Exact(count - 1),
            (false, 0) => Expected::Exact(0),
            (false, count) => Expected::Exact(count),
        };
        let result = self.append_new(&[tried], &NewEvent { expected, ..NewEvent::default() }, durability);
        match result {
            Err(Error::ExpectedState { .. }) if !right => Ok(()),
            Err(error @ Error::ExpectedState { .. }) => panic!("{error}"),
            Ok(_) if !right => panic!("appended where {count} events were not expected"),
            result => result.map(drop),
        }
    }

    fn fence(&mut self, events: u64, bytes: usize, end: FenceEnd) -> Result<()> {
        const OPEN_MAX: usize = 3;
        if self.fences.len() == OPEN_MAX {
            return self.decide(None);
        }
        let store = self.store()?;
        let fence = store.begin_fence(&FenceOptions::default())?;
        let (number, open) = (self.model.fences.len(), self.free_slot());
        self.model.fences.push(Seen::No);
        for at in 0..events {
            let tried = self.model.try_fenced(number, open, bytes);
            let (before, was_poisoned) = (self.model.next() - 1, store.inner.latch.is_tripped());
            let appended =
                append_tried(&[tried], &NewEvent::default(), |items, receipts| fence.append(items, receipts));
            self.appended(appended, before, was_poisoned, None)?;
            if at + 1 < events {
                self.append(1, 50, Process)?;
            }
        }
        self.fences.push((fence, number));
        match end {
            FenceEnd::Open => Ok(()),
            FenceEnd::Cancel => self.end_fence(self.fences.len() - 1, None),
            FenceEnd::Commit(durability) => self.end_fence(self.fences.len() - 1, Some(durability)),
        }
    }

    /// Each open fence has an entity of its own.
    fn free_slot(&self) -> usize {
        let entity_of = |number: usize| self.model.tried.iter().rev().find(|tried| tried.fence == Some(number));
        let used: Vec<u64> =
            self.fences.iter().filter_map(|(_, number)| entity_of(*number)).map(|tried| tried.entity).collect();
        (0..).find(|slot| !used.contains(&Model::fenced(*slot))).unwrap_or(0)
    }

    fn decide(&mut self, commit: Option<Durability>) -> Result<()> {
        if self.fences.is_empty() { Ok(()) } else { self.end_fence(0, commit) }
    }

    fn end_fence(&mut self, at: usize, commit: Option<Durability>) -> Result<()> {
        let (fence, number) = self.fences.remove(at);
        let Some(durability) = commit else { return fence.cancel() };
        let was_poisoned = fence.store().inner.latch.is_tripped();
        if !was_poisoned {
            self.model.fences[number] = Seen::Perhaps;
        }
        fence.commit(Some(durability))?;
        self.check_alive()?;
        assert!(!was_poisoned, "a fence was committed by a poisoned store");
        self.model.fences[number] = Seen::AfterKill;
        self.model.acknowledge(Some(durability));
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        let store = self.store()?;
        let cursor = match &self.cursor {
            Some(cursor) => cursor,
            None => &*self.cursor.insert(Cursor::open(&store, Region::all(), &with_checkpoint(CONSUMERS[CURSOR]))?),
        };
        if let Polled::Batch(batch) = cursor.poll(3, 0, PollTimeout::Never)? {
            let sequences: Vec<u64> = batch.iter().map(|event| event.sequence()).collect();
            self.model.take(CURSOR, &sequences);
        }
        let next = cursor.position()?.next_sequence;
        let consumer = &mut self.model.consumers[CURSOR];
        consumer.committing = consumer.committing.max(next);
        cursor.checkpoint()?;
        self.check_alive()?;
        self.model.commit(CURSOR, next);
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        let store = self.store()?;
        let next = store.watermarks().visible;
        let consumer = &mut self.model.consumers[SAVED];
        consumer.committing = consumer.committing.max(next);
        checkpoint::save(&store, CONSUMERS[SAVED], &Region::all(), next)?;
        self.check_alive()?;
        self.model.commit(SAVED, next);
        Ok(())
    }

    /// While the worker works this thread waits: what the disk does is the same each time.
    fn work(&mut self, manner: Manner) -> Result<()> {
        const BATCH: usize = 3;
        let store = self.store()?;
        let next = match checkpoint::load(&store, CONSUMERS[WORKER]) {
            Ok(checkpoint) => checkpoint.scanned,
            Err(Error::CheckpointNotFound { .. }) => 0,
            Err(error) => return Err(error),
        };
        let (there, _) = Scan::new(&Region::all()).next(&store, next, BATCH + 1, u64::MAX)?;
        if there.is_empty() {
            return Ok(());
        }
        // A worker that is to get a second batch needs something to get: else it would wait.
        let manner = match manner {
            Manner::Continue if there.len() <= BATCH => Manner::Stop,
            Manner::Retry | Manner::Fail if there.len() == 1 => Manner::Stop,
            manner => manner,
        };
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let of_handler = accepted.clone();
        let mut batches = 0;
        let handler = move |delivery: &Delivery<'_>| {
            batches += 1;
            let sequences: Vec<u64> = delivery.batch().iter().map(|event| event.sequence()).collect();
            // Its own length: where a read fails on the way a batch is shorter.
            let done = match manner {
                _ if batches > 1 => sequences.len(),
                Manner::Stop | Manner::Continue => sequences.len(),
                Manner::Retry | Manner::Fail => 1,
                Manner::Rollback => 0,
            };
            of_handler.lock().unwrap().extend_from_slice(&sequences[..done]);
            delivery.set_done(done).unwrap();
            match manner {
                _ if batches > 1 => Outcome::Stop,
                Manner::Stop => Outcome::Stop,
                Manner::Continue => Outcome::Continue,
                Manner::Retry => Outcome::Retry { message: String::from("later") },
                Manner::Fail => Outcome::Fail { message: String::from("no") },
                Manner::Rollback => Outcome::StopWithRollback,
            }
        };
        let options = WorkerOptions {
            batch_events: BATCH,
            checkpoint_id: Some(String::from(CONSUMERS[WORKER])),
            retry_backoff_ms: 0,
            ..WorkerOptions::default()
        };
        let worker = Worker::start(&store, Region::all(), options, handler)?;
        let ended = worker.join(None);
        // Never ahead of what the handler took.
        let accepted = std::mem::take(&mut *accepted.lock().unwrap());
        let last = accepted.last().map_or(0, |last| last + 1);
        self.model.take(WORKER, &accepted);
        let consumer = &mut self.model.consumers[WORKER];
        consumer.committing = consumer.committing.max(last);
        ended?;
        self.check_alive()?;
        if last > 0 {
            self.model.commit(WORKER, last);
        }
        Ok(())
    }
}
