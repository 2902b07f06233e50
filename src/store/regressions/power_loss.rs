//! Power loss, kills and failing operations at every boundary of a workload, against a plain model of what was
//! acknowledged.
//!
//! A workload ([`workload`]) runs ([`life`]) on a simulated disk that stops at one operation or lets it fail. What the disk then holds
//! is opened and held against the model of what was promised ([`model`], [`judge`]). Which disks there are is made up by
//! [`explorer`]; [`rows`] are the rows of the scorecard. A failure names what reproduces it.

mod explorer;
mod judge;
mod life;
mod model;
mod rows;
mod tally;
mod workload;

use std::collections::BTreeSet;

use super::*;
use crate::cursor::{Cursor, PollTimeout, Polled};
use crate::io::sim::{Fate, Operation, Random, Repeat};

use explorer::*;
use judge::*;
use life::*;
use model::*;
use tally::*;
use workload::*;

/// Sequence, entity, clock, payload.
type Event = (u64, String, u64, Vec<u8>);

/// Stops the workload at each of its operations, then kills, or cuts the power in several ways; and stops what recovers from that at each
/// of its own operations.
fn crash_everywhere(steps: &[Step], seeds: u64) {
    let explorer = Explorer::default();
    let counting = SimStorage::new(0);
    run(&counting, steps, &mut Model::default()).unwrap();
    for operation in 0..=counting.operations() {
        let (disk, mut model) = (SimStorage::new(operation), Model::default());
        disk.crash_at(operation);
        let _ = run(&disk, steps, &mut model);
        let context = || format!("{steps:?} stopped at {operation}");
        let none = Notes::new();
        explorer.image(&disk.crash_keep_all(), &model, Loss::Kill, &none, || format!("{} by a kill", context()));
        let lost = disk.crash_with(&mut |_| Fate::Lost);
        for (seed, image) in std::iter::once(lost).chain((0..seeds).map(|seed| disk.crash(seed))).enumerate() {
            let context = || format!("{} by power loss {seed}", context());
            if explorer.image(&image, &model, Loss::Power, &none, context).is_some() && seed < 2 {
                explorer.attempt(context, || stop_recovery_everywhere(&image));
            }
        }
    }
    assert_eq!(explorer.failures(), 0);
}

/// Recovery that is stopped anywhere leaves files with the same result.
fn stop_recovery_everywhere(image: &SimStorage) {
    let whole = image.crash_keep_all();
    let result = result_of(&open(&whole).unwrap());
    for operation in 0..whole.operations() {
        let again = image.crash_keep_all();
        again.crash_at(operation);
        drop(open(&again));
        for left in [again.crash_keep_all(), again.crash(operation), again.crash_with(&mut |_| Fate::Lost)] {
            let store = open(&left).unwrap_or_else(|error| panic!("recovery stopped at {operation}: {error}"));
            assert_eq!(result_of(&store), result, "recovery stopped at {operation}");
        }
    }
}

#[test]
fn a_crash_of_single_appends() {
    crash_everywhere(&[one(100, Durable), one(5000, Process), one(9, Durable), one(700, Process), Step::Close], 12);
}

#[test]
fn a_crash_of_batches() {
    let steps = [batch(3, 900, Process), batch(2, 5000, Durable), batch(5, 0, Process), Step::Sync, Step::Close];
    crash_everywhere(&steps, 12);
}

#[test]
fn a_crash_of_close_and_reopening() {
    let steps = [one(100, Process), Step::Reopen, one(600, Durable), Step::Reopen, Step::Abandon, one(50, Process)];
    crash_everywhere(&steps, 12);
}

#[test]
fn a_crash_of_rotations() {
    let steps =
        [batch(2, 6300, Process), batch(2, 6300, Durable), one(10, Process), one(14_000, Process), one(3, Durable)];
    crash_everywhere(&steps, 12);
}

/// The first append of an opening that does not fit the segment any more.
#[test]
fn a_crash_of_a_rotation_that_begins_an_epoch() {
    let steps = [one(15_000, Durable), Step::Reopen, one(6000, Process), Step::Abandon, one(14_000, Durable)];
    crash_everywhere(&steps, 12);
}

#[test]
fn a_crash_of_checkpoints() {
    let steps =
        [batch(4, 50, Process), Step::Checkpoint, one(90, Process), Step::Checkpoint, Step::Reopen, Step::Checkpoint];
    crash_everywhere(&steps, 12);
}

/// A worker's checkpoint is never ahead of what its handler took.
#[test]
fn a_crash_of_workers() {
    for manner in [Manner::Stop, Manner::Continue, Manner::Retry, Manner::Fail, Manner::Rollback] {
        crash_everywhere(&[batch(5, 50, Process), Step::Work(manner), one(90, Durable), Step::Work(Manner::Stop)], 6);
    }
}

#[test]
fn a_crash_of_keys_and_expectations() {
    let right = Step::Expecting { right: true, durability: Process };
    let wrong = Step::Expecting { right: false, durability: Durable };
    let steps = [
        keyed(1, Process),
        right,
        keyed(1, Durable),
        wrong,
        Step::Abandon,
        keyed(1, Process),
        right,
        keyed(2, Durable),
    ];
    crash_everywhere(&steps, 12);
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
    crash_everywhere(&steps, 8);
}

/// Guards: regression 8, an open fence's events become visible by a crash.
#[test]
fn a_crash_of_open_fences() {
    let decide = |commit| Step::Decide { commit };
    let steps = [
        open_fence(2, 100),
        one(20, Durable),
        open_fence(2, 9000),
        decide(Some(Process)),
        one(9000, Process),
        decide(None),
        open_fence(1, 30),
        Step::Reopen,
        one(5, Durable),
    ];
    crash_everywhere(&steps, 8);
}

/// A fence with events in several segments.
#[test]
fn a_crash_of_fences_over_rotations() {
    let steps =
        [fence(3, 8000, Some(Process)), fence(3, 7000, None), one(5000, Process), fence(2, 9000, Some(Durable))];
    crash_everywhere(&steps, 8);
}

/// A run is the same each time: else no seed would reproduce anything.
#[test]
fn a_workload_leaves_the_same_disk_each_time() {
    for seed in 0..20 {
        let steps = random_steps(&mut Random::new(seed));
        let leave = || {
            let disk = SimStorage::new(seed);
            run(&disk, &steps, &mut Model::default()).unwrap_or_else(|error| panic!("{steps:?}: {error}"));
            (disk.operations(), disk.fingerprint())
        };
        assert_eq!(leave(), leave(), "{steps:?}");
    }
}
