//! Power loss, kills and failing operations at every boundary of a workload, against a plain model of what was
//! acknowledged.
//!
//! A workload runs on a simulated disk that stops at one operation. What the disk then holds is opened and held against the
//! [`Model`]; then the opening itself is crashed at each of its operations. A failure names what reproduces it.

mod explorer;
mod model;
mod workload;

use std::collections::BTreeSet;

use super::*;
use crate::cursor::{Cursor, CursorOptions, PollTimeout};
use crate::io::sim::{Fate, Operation, Random, Repeat};
use crate::io::time::WallClock;

use explorer::*;
use model::*;
use workload::*;

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
