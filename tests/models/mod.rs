//! R15: the real engine under a scheduler that tries interleavings (shuttle), on the simulated disk.
//!
//! Each scenario is run under many schedules, half of them random, half with a few preemptions at random places (PCT). Threads that wait
//! for each other, or for a wake-up that was lost, are a deadlock, and fail the test; so does every assertion.
//! Where a scenario has no patience no wait ever times out, so that a timeout hides no lost wake-up; with patience each timed wait ends
//! at some random step.
//!
//! A failing schedule is printed, with what repeats it: the seed of the one schedule (`SHUTTLE_RANDOM_SEED`) or that of the run.

mod closing;
mod commits;
mod cursors;
mod descriptors;
mod fences;
mod helper;
mod keys;
mod waits;
mod workers;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;
use shuttle::{Config, MaxSteps, Runner};

use crate::cursor::{Cursor, CursorOptions, PollTimeout, Polled};
use crate::error::{Error, Result};
use crate::event::Region;
use crate::io::sim::{Fate, SimStorage};
use crate::io::time::WallClock;
use crate::reliability;
use crate::store::{Durability, NewEvent, Receipt, Store, StoreOptions};
use crate::sync::model::set_patience;

const FOREVER: Duration = Duration::MAX;
const STACK_BYTES: usize = 512 << 10;
/// Far beyond what a schedule takes that makes progress.
const STEPS_MAX: usize = 2_000_000;
/// The preemptions of PCT's schedules.
const PCT_DEPTH: usize = 4;

/// How a scenario is run.
#[derive(Clone, Copy)]
struct Model {
    what: &'static str,
    /// See [`set_patience`].
    patience: Option<u64>,
    /// One schedule costs as much as so many of a usual scenario.
    cost: u64,
}

/// Of `what`, with no timeouts.
fn model(what: &'static str) -> Model {
    Model { what, patience: None, cost: 1 }
}

impl Model {
    /// Timed waits end after so many steps of others at most.
    fn with_patience(self, steps: u64) -> Model {
        Model { patience: Some(steps), ..self }
    }

    fn with_cost(self, cost: u64) -> Model {
        Model { cost, ..self }
    }

    /// Runs it under as many schedules as the row's trials, which count wake-ups, leave room for.
    fn run(self, scenario: impl Fn() + Send + Sync + Copy + 'static) {
        let schedules = (reliability::trials(50_000) / 250 / self.cost).clamp(20, 20_000);
        let seed = reliability::seed(0x5EED);
        let begin = move || {
            set_patience(self.patience);
            scenario();
        };
        let half = schedules as usize / 2;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            Runner::new(RandomScheduler::new_from_seed(seed, half), config()).run(begin);
            Runner::new(PctScheduler::new_from_seed(seed, PCT_DEPTH, half), config()).run(begin);
        }));
        reliability::report("R15", schedules, outcome.is_err().into(), seed, &format!("schedules: {}", self.what));
        if let Err(panic) = outcome {
            eprintln!("RELIABILITY_SEED={seed:#x} with the same RELIABILITY_TRIALS repeats the run of {:?}", self.what);
            resume_unwind(panic);
        }
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    config
}

// ---- what the scenarios share ------------------------------------------------------------------------------------

const DATA: &str = "/data";

fn options(disk: &SimStorage, helper_thread: bool) -> StoreOptions {
    StoreOptions {
        segment_bytes: 1 << 20,
        helper_thread,
        storage: Arc::new(disk.clone()),
        clock: WallClock::custom(|| 1_700_000_000_000_000),
        ..StoreOptions::default()
    }
}

fn open(disk: &SimStorage, helper_thread: bool) -> Store {
    Store::open(Path::new(DATA), &options(disk, helper_thread)).expect("the store opens")
}

/// A store on a disk of its own, with the helper thread or without.
fn new_store() -> (SimStorage, Store) {
    let disk = SimStorage::new(1);
    let store = open(&disk, coin());
    (disk, store)
}

fn coin() -> bool {
    below(2) == 0
}

/// A choice of the scenario, which the schedule records.
fn below(bound: u64) -> u64 {
    shuttle::rand::thread_rng().gen_range(0..bound)
}

fn either(a: Durability, b: Durability) -> Durability {
    if coin() { a } else { b }
}

fn any_durability() -> Durability {
    either(Durability::Storage, Durability::Process)
}

fn append_payload(store: &Store, entity: &str, payload: &[u8], durability: Durability) -> Result<u64> {
    let mut receipts = [Receipt::default()];
    let event = NewEvent { entity: entity.as_bytes(), scope: b"s", kind: 0x1001, payload, ..NewEvent::default() };
    store.append(&[event], Some(durability), &mut receipts)?;
    Ok(receipts[0].sequence)
}

fn try_append(store: &Store, entity: &str, durability: Durability) -> Result<u64> {
    append_payload(store, entity, b"payload", durability)
}

fn append(store: &Store, entity: &str, durability: Durability) -> u64 {
    try_append(store, entity, durability).expect("an append to an open store on a sound disk")
}

/// The disk after a power loss now that leaves nothing but what was synced.
fn power_loss(disk: &SimStorage) -> SimStorage {
    disk.crash_with(&mut |_| Fate::Lost)
}

/// How many events a store on the disk has, once it is opened.
fn events_on(disk: &SimStorage) -> u64 {
    open(disk, false).watermarks().visible
}

fn cursor(store: &Store, checkpoint_id: Option<&str>) -> Result<Cursor> {
    let options = CursorOptions { checkpoint_id: checkpoint_id.map(str::to_owned), ..CursorOptions::default() };
    Cursor::open(store, Region::all(), &options)
}

fn sequences(polled: &Polled) -> Vec<u64> {
    match polled {
        Polled::Batch(batch) => batch.events().iter().map(|event| event.sequence).collect(),
        _ => Vec::new(),
    }
}

/// Polls without a timeout until `count` events have come, which must be the first ones in order.
fn poll_first(cursor: &Cursor, count: u64) {
    let mut next = 0;
    while next < count {
        for sequence in sequences(&cursor.poll(2, 0, PollTimeout::Forever).expect("a poll of an open store")) {
            assert_eq!(sequence, next, "a cursor skips or repeats");
            next += 1;
        }
    }
}

fn is_closed<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Closed { .. }))
}

fn join<T>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("a thread of the scenario")).collect()
}
