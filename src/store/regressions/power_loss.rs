//! Power loss, kills and failing operations at every boundary of a workload, against a plain model of what was
//! acknowledged.
//!
//! A workload runs on a simulated disk that stops at one operation. What the disk then holds is opened and held against the
//! [`Model`]; then the opening itself is crashed at each of its operations. A failure names what reproduces it.

use std::collections::BTreeSet;

use super::*;
use crate::cursor::{Cursor, CursorOptions, PollTimeout};
use crate::io::sim::{Fate, Operation, Random, Repeat};
use crate::io::time::WallClock;

/// One step of a workload.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Events of this many payload bytes each, in one call.
    Append {
        events: u64,
        bytes: usize,
        durability: Durability,
    },
    /// A fence with so many events of this many payload bytes, one call each, and an event of its own entity's neighbours between
    /// them; then it is committed, or cancelled.
    Fence {
        events: u64,
        bytes: usize,
        commit: Option<Durability>,
    },
    Sync,
    /// Polls a consumer forward and commits its position.
    Checkpoint,
    /// A clean close and an opening.
    Reopen,
    /// An opening without a close.
    Abandon,
}

use Durability::{Process, Storage as Durable};

fn one(bytes: usize, durability: Durability) -> Step {
    Step::Append { events: 1, bytes, durability }
}

fn batch(events: u64, bytes: usize, durability: Durability) -> Step {
    Step::Append { events, bytes, durability }
}

/// Whether the events of a fence are seen once the store is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    No,
    /// Its commit was under way.
    Perhaps,
    /// It was committed with PROCESS: seen after a kill, perhaps after a power loss.
    AfterKill,
    Yes,
}

/// One event tried.
#[derive(Debug, Clone, Copy)]
struct Tried {
    entity: u64,
    bytes: usize,
    /// In `fences`.
    fence: Option<usize>,
}

/// What ended a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Kill,
    Power,
}

/// Everything that was tried, and how much of it was acknowledged.
#[derive(Debug, Clone, Default)]
struct Model {
    /// By sequence.
    tried: Vec<Tried>,
    fences: Vec<Seen>,
    /// Sequences at which a batch ends: the log may end nowhere else.
    ends: BTreeSet<u64>,
    /// Acknowledged as surviving a power loss.
    durable: u64,
    /// Acknowledged as surviving a kill.
    acknowledged: u64,
    /// What the consumer committed, and what it was about to.
    committed: u64,
    committing: u64,
}

const ENTITIES: u64 = 3;
/// Only fences append to it.
const FENCED: u64 = 7;

fn entity(number: u64) -> String {
    format!("e:{number}")
}

/// A pattern of its own for each event, which ends anywhere.
fn payload(sequence: u64, bytes: usize) -> Vec<u8> {
    let mut payload = (sequence * 0x0101 + 1).to_le_bytes().repeat(bytes.div_ceil(8));
    payload.truncate(bytes);
    payload
}

impl Model {
    /// The next `events` events of a batch.
    fn try_batch(&mut self, events: u64, bytes: usize) -> Vec<(String, Vec<u8>)> {
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
    fn try_fenced(&mut self, bytes: usize) -> Vec<u8> {
        let sequence = self.tried.len() as u64;
        self.tried.push(Tried { entity: FENCED, bytes, fence: Some(self.fences.len() - 1) });
        self.ends.insert(sequence + 1);
        payload(sequence, bytes)
    }

    /// Everything so far survives a power loss.
    fn all_durable(&mut self) {
        self.durable = self.acknowledged;
        for seen in self.fences.iter_mut().filter(|seen| **seen == Seen::AfterKill) {
            *seen = Seen::Yes;
        }
    }

    /// The log ends here for good: what was tried beyond never happened.
    fn settle(&mut self, end: u64) {
        self.tried.truncate(end as usize);
        self.ends = self.ends.range(..=end).copied().collect();
        (self.durable, self.acknowledged) = (end, end);
    }

    fn least(&self, loss: Loss) -> u64 {
        match loss {
            Loss::Kill => self.acknowledged,
            Loss::Power => self.durable,
        }
    }

    /// Everything that the promises say about a store that was opened after a loss. Gives the log's end; what the fences came to is
    /// settled.
    fn check(&mut self, store: &Store, least: u64, loss: Loss, what: &str) -> u64 {
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
    fn check_checkpoint(&mut self, store: &Store, is_durable: bool, what: &str) {
        let cursor = Cursor::open(store, Region::all(), &consumer()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let next = cursor.position().unwrap().next_sequence;
        assert!(next == self.committed || next == self.committing, "{what}: resumed at {next}, not {}", self.committed);
        self.committing = next;
        if is_durable {
            self.committed = next;
        }
    }
}

fn consumer() -> CursorOptions {
    CursorOptions { checkpoint_id: Some(String::from("c")), ..CursorOptions::default() }
}

const AT: &str = "/s";

fn options_on(disk: &SimStorage) -> StoreOptions {
    // Time goes on by one microsecond per operation of the disk: a run is the same each time.
    let clock_disk = disk.clone();
    StoreOptions { clock: WallClock::custom(move || 1_000_000 + clock_disk.operations() as i64), ..sim(disk) }
}

fn open(disk: &SimStorage) -> Result<Store> {
    Store::open(Path::new(AT), &options_on(disk))
}

/// Runs the steps until one fails, and counts in the model what was acknowledged.
fn run(disk: &SimStorage, steps: &[Step], model: &mut Model) -> Result<()> {
    let mut store = open(disk)?;
    let mut cursor = None;
    for step in steps {
        match *step {
            Step::Append { events, bytes, durability } => {
                let items = model.try_batch(events, bytes);
                let items: Vec<_> = items.iter().map(|(entity, payload)| event(entity, payload)).collect();
                let appended = store.append(&items, Some(durability), &mut []);
                if appended.is_err() && !store.inner.latch.is_tripped() {
                    // A clean refusal: nothing was appended.
                    let before = model.tried.len() as u64 - events;
                    assert_eq!(store.watermarks().appended, before, "a refused append used sequences");
                    model.ends.remove(&(before + events));
                    model.tried.truncate(before as usize);
                }
                appended?;
                if disk.is_crashed() {
                    // A store through the mapping was where everything stopped: nobody was there to be told.
                    return Err(Error::Closed { what: "process" });
                }
                model.acknowledged = model.tried.len() as u64;
                if durability == Durable {
                    model.all_durable();
                }
            }
            Step::Fence { events, bytes, commit } => run_fence(disk, &store, model, events, bytes, commit)?,
            Step::Sync => {
                store.sync()?;
                model.acknowledged = model.tried.len() as u64;
                model.all_durable();
            }
            Step::Checkpoint => {
                let cursor = match &cursor {
                    Some(cursor) => cursor,
                    None => &*cursor.insert(Cursor::open(&store, Region::all(), &consumer())?),
                };
                cursor.poll(3, 0, PollTimeout::Never)?;
                model.committing = cursor.position()?.next_sequence;
                cursor.checkpoint()?;
                model.committed = model.committing;
                model.durable = model.durable.max(model.committed);
            }
            Step::Reopen => {
                cursor = None;
                store.close(SECOND)?;
                model.acknowledged = model.tried.len() as u64;
                model.all_durable();
                drop(store);
                store = open(disk)?;
            }
            Step::Abandon => {
                cursor = None;
                drop(store);
                store = open(disk)?;
            }
        }
    }
    drop(cursor);
    store.close(SECOND)?;
    model.acknowledged = model.tried.len() as u64;
    model.all_durable();
    Ok(())
}

fn run_fence(
    disk: &SimStorage,
    store: &Store,
    model: &mut Model,
    events: u64,
    bytes: usize,
    commit: Option<Durability>,
) -> Result<()> {
    let fence = store.begin_fence(&FenceOptions::default())?;
    model.fences.push(Seen::No);
    let name = entity(FENCED);
    for at in 0..events {
        let payload = model.try_fenced(bytes);
        fence.append(&[event(&name, &payload)], &mut [])?;
        if at + 1 < events {
            let items = model.try_batch(1, 50);
            store.append(&[event(&items[0].0, &items[0].1)], Some(Process), &mut [])?;
            if disk.is_crashed() {
                return Err(Error::Closed { what: "process" });
            }
            model.acknowledged = model.tried.len() as u64;
        }
    }
    let number = model.fences.len() - 1;
    match commit {
        None => fence.cancel(),
        Some(durability) => {
            model.fences[number] = Seen::Perhaps;
            fence.commit(Some(durability))?;
            if disk.is_crashed() {
                return Err(Error::Closed { what: "process" });
            }
            model.fences[number] = Seen::AfterKill;
            model.acknowledged = model.tried.len() as u64;
            if durability == Durable {
                model.all_durable();
            }
            Ok(())
        }
    }
}

/// Opens what a crash left, checks it, goes on with it, and crashes the opening at each of its own operations.
fn check_crash(disk: &SimStorage, model: &Model, (least, loss): (u64, Loss), depth: u32, what: &str) {
    let crashed_model = model;
    let mut model = model.clone();
    let before = disk.crash_keep_all();
    let store = open(disk).unwrap_or_else(|error| panic!("{what}: does not open: {error}"));
    let end = model.check(&store, least, loss, what);
    model.check_checkpoint(&store, disk_is_durable(&before), what);
    let opened = disk.operations();
    if depth > 0 {
        // Recovery that is stopped anywhere leaves files with the same result.
        for operation in 0..opened {
            let what = format!("{what}, recovery stopped at {operation}");
            let again = before.crash_keep_all();
            again.crash_at(operation);
            drop(open(&again));
            check_crash(&again.crash_keep_all(), &model, (end, Loss::Kill), 0, &format!("{what} by a kill"));
            let seed = operation * 7 + u64::from(depth);
            // A kill left unsynced bytes in the page cache, which a power loss may still take.
            let (known, least) = if disk_is_durable(&before) { (&model, end) } else { (crashed_model, model.durable) };
            check_crash(
                &again.crash(seed),
                known,
                (least, Loss::Power),
                depth - 1,
                &format!("{what} by power loss {seed}"),
            );
        }
    }
    // What was recovered is durable, and goes on.
    model.settle(end);
    let crashed = disk.crash_with(&mut |_| Fate::Lost);
    let store_again = open(&crashed).unwrap_or_else(|error| panic!("{what}: does not open again: {error}"));
    model.check(&store_again, end, Loss::Power, &format!("{what}, everything unsynced lost after recovery"));
    drop(store_again);
    let items = model.try_batch(2, 700);
    let items: Vec<_> = items.iter().map(|(entity, payload)| event(entity, payload)).collect();
    store.append(&items, Some(Durable), &mut []).unwrap_or_else(|error| panic!("{what}: appends no more: {error}"));
    model.check(&store, end + 2, Loss::Kill, what);
    let crashed = disk.crash_with(&mut |_| Fate::Lost);
    let store = open(&crashed).unwrap_or_else(|error| panic!("{what}: does not open after going on: {error}"));
    model.check(&store, end + 2, Loss::Power, &format!("{what}, after going on"));
    store.close(SECOND).unwrap();
}

fn disk_is_durable(disk: &SimStorage) -> bool {
    disk.pending().is_empty()
}

/// Stops the workload at each of its operations, then kills or cuts the power in several ways.
fn crash_everywhere(steps: &[Step], seeds: u64, depth: u32) {
    let counting = SimStorage::new(0);
    run(&counting, steps, &mut Model::default()).unwrap();
    for operation in 0..=counting.operations() {
        let disk = SimStorage::new(operation);
        disk.crash_at(operation);
        let mut model = Model::default();
        let _ = run(&disk, steps, &mut model);
        let what = format!("{steps:?} stopped at {operation}");
        let (kill, power) = ((model.acknowledged, Loss::Kill), (model.durable, Loss::Power));
        check_crash(&disk.crash_keep_all(), &model, kill, depth, &format!("{what} by a kill"));
        let lost = disk.crash_with(&mut |_| Fate::Lost);
        check_crash(&lost, &model, power, depth, &format!("{what}, everything unsynced lost"));
        for seed in 0..seeds {
            let what = format!("{what} by power loss {seed}");
            check_crash(&disk.crash(seed), &model, power, depth.min((seed == 0).into()), &what);
        }
    }
}

#[test]
fn a_crash_of_single_appends() {
    crash_everywhere(&[one(100, Durable), one(5000, Process), one(9, Durable), one(700, Process)], 12, 2);
}

#[test]
fn a_crash_of_batches() {
    crash_everywhere(&[batch(3, 900, Process), batch(2, 5000, Durable), batch(5, 0, Process), Step::Sync], 12, 2);
}

#[test]
fn a_crash_of_close_and_reopening() {
    let steps = [one(100, Process), Step::Reopen, one(600, Durable), Step::Reopen, Step::Abandon, one(50, Process)];
    crash_everywhere(&steps, 12, 1);
}

#[test]
fn a_crash_of_rotations() {
    let steps = [
        batch(2, 400_000, Process),
        batch(2, 400_000, Durable),
        one(10, Process),
        one(900_000, Process),
        one(3, Durable),
    ];
    crash_everywhere(&steps, 6, 1);
}

/// The first append of an opening that does not fit the segment any more.
#[test]
fn a_crash_of_a_rotation_that_begins_an_epoch() {
    let steps = [one(1_000_000, Durable), Step::Reopen, one(400_000, Process), Step::Abandon, one(900_000, Durable)];
    crash_everywhere(&steps, 12, 1);
}

#[test]
fn a_crash_of_checkpoints() {
    let steps =
        [batch(4, 50, Process), Step::Checkpoint, one(90, Process), Step::Checkpoint, Step::Reopen, Step::Checkpoint];
    crash_everywhere(&steps, 12, 1);
}

fn fence(events: u64, bytes: usize, commit: Option<Durability>) -> Step {
    Step::Fence { events, bytes, commit }
}

#[test]
fn a_crash_of_fences() {
    let steps = [
        fence(2, 100, Some(Durable)),
        fence(2, 300, None),
        one(20, Durable),
        fence(1, 700, Some(Process)),
        fence(3, 10, Some(Process)),
        Step::Reopen,
        fence(2, 60, None),
    ];
    crash_everywhere(&steps, 8, 1);
}

/// A fence with events in several segments.
#[test]
fn a_crash_of_fences_over_rotations() {
    let steps = [
        fence(3, 500_000, Some(Process)),
        fence(3, 450_000, None),
        one(300_000, Process),
        fence(2, 600_000, Some(Durable)),
    ];
    crash_everywhere(&steps, 4, 1);
}

fn random_steps(random: &mut Random) -> Vec<Step> {
    let count = 4 + random.below(16);
    (0..count)
        .map(|_| {
            let durability = if random.below(3) == 0 { Durable } else { Process };
            let bytes = match random.below(6) {
                0 => 0,
                1..=3 => random.below(2000) as usize,
                4 => random.below(40_000) as usize,
                _ => random.below(700_000) as usize,
            };
            match random.below(15) {
                12 => fence(1 + random.below(4), bytes / 2, Some(durability)),
                13 => fence(1 + random.below(4), bytes / 2, None),
                14 => fence(1 + random.below(2), 30, Some(Process)),
                0 => Step::Sync,
                1 => Step::Reopen,
                2 => Step::Checkpoint,
                3 => Step::Abandon,
                4..=6 => batch(2 + random.below(6), bytes / 4, durability),
                _ => one(bytes, durability),
            }
        })
        .collect()
}

/// Several lives on one disk, each ended at random.
#[test]
fn random_lives_lose_nothing_that_was_acknowledged() {
    for seed in 0..seeds(300) {
        let mut random = Random::new(seed);
        let mut disk = SimStorage::new(seed);
        let mut model = Model::default();
        for life in 0..4 {
            let steps = random_steps(&mut random);
            let what = format!("seed {seed}, life {life}");
            disk.crash_at(disk.operations() + random.below(20 + 10 * steps.len() as u64));
            let _ = run(&disk, &steps, &mut model);
            let loss = if random.below(4) == 0 { Loss::Kill } else { Loss::Power };
            let least = model.least(loss);
            disk = match loss {
                Loss::Kill => disk.crash_keep_all(),
                Loss::Power => disk.crash(random.next_u64()),
            };
            // Sometimes recovery is stopped too, up to three times.
            for _ in 0..random.below(4) {
                let again = disk.crash_keep_all();
                again.crash_at(random.below(12));
                drop(open(&again));
                let durable = disk_is_durable(&disk);
                disk = if durable && random.below(2) == 0 {
                    again.crash(random.next_u64())
                } else {
                    again.crash_keep_all()
                };
            }
            let is_durable = disk_is_durable(&disk);
            let store = open(&disk).unwrap_or_else(|error| panic!("{what}: does not open: {error}"));
            let end = model.check(&store, least, loss, &what);
            model.check_checkpoint(&store, is_durable, &what);
            model.settle(end);
            let lost = disk.crash_with(&mut |_| Fate::Lost);
            let store = open(&lost).unwrap_or_else(|error| panic!("{what}: does not open again: {error}"));
            model.check(&store, end, Loss::Power, &format!("{what}, everything unsynced lost after recovery"));
        }
    }
}

fn seeds(default: u64) -> u64 {
    std::env::var("BATPAK_POWER_LOSS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}

/// Each operation of a workload fails, once or for ever, with each error: what was acknowledged is there after reopening, whether
/// the power fails or not, and readable before.
#[test]
fn any_operation_may_fail() {
    let steps = [
        one(100, Durable),
        batch(2, 400_000, Process),
        Step::Checkpoint,
        batch(2, 300_000, Durable),
        fence(2, 10, Some(Process)),
        one(10, Process),
        fence(1, 9, None),
        Step::Reopen,
        one(600_000, Process),
        Step::Sync,
        batch(3, 50, Durable),
    ];
    for operation in Operation::ALL {
        for repeat in [Repeat::Once, Repeat::Forever] {
            for errno in [libc::EIO, libc::ENOSPC] {
                let mut unharmed = 0;
                for nth in 0.. {
                    let what = format!("{operation:?} {nth} fails with {errno}, {repeat:?}");
                    let disk = SimStorage::new(nth);
                    disk.fail(operation, nth, errno, repeat);
                    let mut model = Model::default();
                    let result = run(&disk, &steps, &mut model);
                    disk.heal();
                    let what_killed = format!("{what}, then a kill");
                    let killed = disk.crash_keep_all();
                    match operation {
                        // A name that the failed sync dropped looks as if it were there until the power fails.
                        Operation::SyncDirectory => {
                            let least = model.acknowledged;
                            model.check(&open(&killed).unwrap(), least, Loss::Kill, &what_killed);
                        }
                        _ => check_crash(&killed, &model, (model.acknowledged, Loss::Kill), 0, &what_killed),
                    }
                    for seed in 0..3 {
                        let crashed = disk.crash(seed);
                        let power = (model.durable, Loss::Power);
                        check_crash(&crashed, &model, power, 0, &format!("{what}, then power loss {seed}"));
                    }
                    // Some failures are mended on the way.
                    unharmed = if result.is_ok() { unharmed + 1 } else { 0 };
                    if unharmed > 8 {
                        break;
                    }
                }
            }
        }
    }
}

/// As above for writes that are cut short.
#[test]
fn any_write_may_be_short() {
    let steps = [
        one(100, Durable),
        batch(3, 900, Process),
        one(50_000, Durable),
        Step::Reopen,
        batch(2, 600_000, Durable),
        one(9, Process),
    ];
    for repeat in [Repeat::Once, Repeat::Forever] {
        for written in [1, 24, 100, 512, 4096] {
            for nth in 0.. {
                let what = format!("write {nth} stops after {written} bytes, {repeat:?}");
                let disk = SimStorage::new(nth);
                disk.fail_short(nth, written, libc::ENOSPC, repeat);
                let mut model = Model::default();
                let result = run(&disk, &steps, &mut model);
                disk.heal();
                let (kill, power) = ((model.acknowledged, Loss::Kill), (model.durable, Loss::Power));
                check_crash(&disk.crash_keep_all(), &model, kill, 0, &format!("{what}, then a kill"));
                check_crash(&disk.crash(nth), &model, power, 0, &format!("{what}, then power loss"));
                if result.is_ok() {
                    break;
                }
            }
        }
    }
}
