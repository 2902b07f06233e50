//! Rows R2, R3, R4 of the scorecard, and what of R6 and R7 a simulated disk can show.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::io::sim::{Change, ChangeKind, Interrupted};
use crate::reliability;

const SEED: u64 = 0x5EED_0002;

/// Hands out numbers from 0 on to as many threads as there are cores, until one of them says that it is enough.
fn in_parallel(work: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| while work(next.fetch_add(1, Ordering::Relaxed)) {});
        }
    });
}

/// Guards: what was acknowledged, order and batches, in any state that a crash can leave.
#[test]
fn row_r2_a_crash_leaves_a_prefix_with_all_that_was_acknowledged() {
    const SEEDS: u64 = 64;
    let (trials, seed) = (reliability::trials(3000), reliability::seed(SEED));
    let explorer = Explorer::default();
    in_parallel(|number| {
        let is_enough = explorer.trials() >= trials / 2 || explorer.has_failed();
        if !is_enough {
            explorer.exhaust(number, &small_workload(number, seed));
        }
        !is_enough
    });
    let small = explorer.trials();
    let lives = AtomicU64::new(0);
    in_parallel(|number| {
        let is_enough = number >= SEEDS && explorer.trials() >= trials || explorer.has_failed();
        if !is_enough {
            explorer.lives(seed.wrapping_add(number));
            lives.fetch_add(1, Ordering::Relaxed);
        }
        !is_enough
    });
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let (cuts, event_cuts, clean) = (count(&explorer.cuts), count(&explorer.event_cuts), count(&explorer.clean));
    let what = format!(
        "distinct images, {small} of small workloads, the others of {} seeds; {cuts} cut, {event_cuts} with whole events, {clean} \
         closed",
        count(&lives)
    );
    let tally = explorer.tally.lock().unwrap();
    println!("{tally}");
    reliability::report("R2", explorer.trials(), explorer.failures(), seed, &what);
    assert_eq!(explorer.failures(), 0);
    assert!(explorer.trials() >= trials);
    assert!(cuts > 0 && event_cuts > 0 && clean > 0, "{what}");
    let rare = tally.below(if trials >= 50_000 { 100 } else { 1 });
    assert!(rare.is_empty(), "too rare: {rare:?}");
}

/// Guards: a crash or a fault in recovery, three times over, changes nothing of what is recovered.
#[test]
fn row_r3_a_crash_in_recovery_leads_to_the_same() {
    let (trials, seed) = (reliability::trials(600), reliability::seed(SEED));
    let explorer = Explorer::default();
    in_parallel(|number| {
        let is_enough = explorer.trials() >= trials || explorer.has_failed();
        if !is_enough {
            recover_often(&explorer, seed.wrapping_add(number));
        }
        !is_enough
    });
    reliability::report("R3", explorer.trials(), explorer.failures(), seed, "recoveries stopped or failing 3 deep");
    assert_eq!(explorer.failures(), 0);
    assert!(explorer.trials() >= trials);
}

/// One crashed disk, recovered in many interrupted ways.
fn recover_often(explorer: &Explorer, seed: u64) {
    const WAYS: u64 = 40;
    let mut random = Random::new(seed);
    let steps = random_steps(&mut random);
    let probe = SimStorage::new(seed);
    let context = || format!("seed {seed:#x}, {steps:?}");
    let Some(_) = explorer.attempt(context, || run(&probe, &steps, &mut Model::default())) else { return };
    let (disk, mut model) = (SimStorage::new(seed), Model::default());
    let stop = random.below(probe.operations() + 1);
    disk.crash_at(stop);
    let _ = run(&disk, &steps, &mut model);
    let (image, _) = random_power_loss(&disk, random.next_u64());
    let context = || format!("{} stopped at {stop}", context());
    let Some(result) = explorer.attempt(context, || {
        let recovered = image.crash_keep_all();
        let store = open(&recovered).unwrap_or_else(|error| panic!("does not open: {error}"));
        result_of(&store)
    }) else {
        return;
    };
    for way in 0..WAYS {
        let mut random = Random::new(seed ^ way << 40);
        let tried = explorer.attempt(
            || format!("{}, way {way}", context()),
            || {
                let (mut disk, mut path) = (image.crash_keep_all(), Vec::new());
                for _ in 0..3 {
                    disk = interrupt_recovery(&disk, &mut random, result);
                    path.push(disk.fingerprint());
                }
                let recovered = disk.crash_keep_all();
                let store = open(&recovered).unwrap_or_else(|error| panic!("does not open: {error}"));
                assert_eq!(result_of(&store), result, "another result");
                drop(store);
                judge(&disk, &model, Loss::Power, way % 8 == 0);
                path
            },
        );
        if let Some(path) = tried {
            explorer.is_new(digest(&(image.fingerprint(), path)));
        }
    }
}

/// An opening that stops or meets a fault, or both. Gives the disk that a kill or a power loss then leaves.
fn interrupt_recovery(disk: &SimStorage, random: &mut Random, result: u64) -> SimStorage {
    let probe = disk.crash_keep_all();
    drop(open(&probe).unwrap_or_else(|error| panic!("does not open: {error}")));
    let disk = disk.crash_keep_all();
    disk.reseed(random.next_u64());
    let fault = if random.below(2) == 0 { PlannedFault::random(random, &probe) } else { None };
    if let Some(fault) = fault {
        fault.plan(&disk);
    }
    if fault.is_none() || random.below(2) == 0 {
        disk.crash_at(random.below(probe.operations() + 1));
    }
    if let Ok(store) = open(&disk) {
        disk.heal();
        if !disk.is_crashed() {
            assert_eq!(result_of(&store), result, "another result after {fault:?} in recovery");
        }
    }
    let failures = disk.failures();
    let lost_names = failures.iter().any(|(operation, ..)| *operation == Operation::SyncDirectory);
    if random.below(2) == 0 && !lost_names {
        return disk.crash_keep_all();
    }
    random_power_loss(&disk, random.next_u64()).0
}

/// Workloads that between them do everything.
pub(super) fn thorough_workloads() -> Vec<Vec<Step>> {
    use Step::*;
    vec![
        vec![
            one(100, Durable),
            batch(2, 6400, Process),
            Checkpoint,
            batch(2, 4800, Durable),
            fence(2, 10, Some(Process)),
        ],
        vec![one(600, Process), fence(1, 9, None), Reopen, one(9600, Process), Sync, batch(3, 50, Durable), Close],
        vec![keyed(1, Process), open_fence(2, 3000), batch(3, 4000, Process), keyed(1, Durable), Work(Manner::Stop)],
        vec![batch(4, 50, Durable), Work(Manner::Retry), Save, Abandon, Work(Manner::Continue), Checkpoint, Close],
        vec![
            open_fence(2, 5000),
            one(9000, Durable),
            one(9000, Process),
            Decide { commit: Some(Durable) },
            Save,
            Reopen,
        ],
        vec![batch(5, 5000, Process), Reopen, keyed(2, Durable), Abandon, keyed(2, Process), batch(2, 9000, Durable)],
        vec![
            Expecting { right: true, durability: Durable },
            Expecting { right: false, durability: Durable },
            one(20_000, Durable),
            Checkpoint,
            one(15_000, Process),
            Checkpoint,
            fence(3, 7000, Some(Durable)),
        ],
    ]
}

/// The thorough workloads, then random ones.
fn workload(number: u64, seed: u64) -> Vec<Step> {
    let thorough = thorough_workloads();
    match thorough.get(number as usize) {
        Some(steps) => steps.clone(),
        None => random_steps(&mut Random::new(seed.wrapping_add(number))),
    }
}

/// Guards: names that no sync of their directory has covered.
#[test]
fn row_r4_no_lost_directory_entry_takes_what_was_acknowledged() {
    let (trials, seed) = (reliability::trials(600), reliability::seed(SEED));
    let explorer = Explorer::default();
    let stops = AtomicU64::new(0);
    in_parallel(|number| {
        let is_enough = number >= 7 && explorer.trials() >= trials || explorer.has_failed();
        if !is_enough {
            stops.fetch_add(lose_entries(&explorer, &workload(number, seed)), Ordering::Relaxed);
        }
        !is_enough
    });
    let what = format!("distinct images without one or two of the unsynced names, of {} stops", stops.into_inner());
    reliability::report("R4", explorer.trials(), explorer.failures(), seed, &what);
    assert_eq!(explorer.failures(), 0);
    assert!(explorer.trials() >= trials);
}

/// At each operation each unsynced entry, and each two of them, are lost; all contents are kept, or lost. Gives the stops.
fn lose_entries(explorer: &Explorer, steps: &[Step]) -> u64 {
    let probe = SimStorage::new(0);
    let Some(_) = explorer.attempt(|| format!("{steps:?}"), || run(&probe, steps, &mut Model::default())) else {
        return 0;
    };
    let is_entry = |change: &Change| {
        use ChangeKind::{Create, CreateDirectory, Remove, Rename};
        matches!(change.kind, Create | CreateDirectory | Rename { .. } | Remove)
    };
    let mut stops = 0;
    for operation in 0..=probe.operations() {
        let (disk, mut model) = (SimStorage::new(operation), Model::default());
        disk.crash_within(operation, Interrupted::Before);
        let context = || format!("{steps:?} stopped before {operation}");
        let Some(_) = explorer.attempt(context, || run(&disk, steps, &mut model)) else { return stops };
        let entries: Vec<Change> = disk.pending().into_iter().filter(is_entry).collect();
        stops += u64::from(!entries.is_empty());
        for (at, first) in entries.iter().enumerate() {
            for second in &entries[at..] {
                for contents in [Fate::Kept, Fate::Lost] {
                    let image = disk.crash_with(&mut |change| match is_entry(change) {
                        true if change == first || change == second => Fate::Lost,
                        true => Fate::Kept,
                        false => contents,
                    });
                    let context = || format!("{} without {first:?} and {second:?}, contents {contents:?}", context());
                    explorer.image(&image, &model, Loss::Power, &Notes::new(), context);
                }
            }
        }
    }
    stops
}

/// Runs workloads with each fault that `faults` makes for one of its operations of these kinds; then kills, and cuts the power. Gives how many
/// faults there were.
fn fail_each(
    explorer: &Explorer,
    trials: u64,
    seed: u64,
    kinds: &[Operation],
    faults: &(dyn Fn(Operation, u64) -> Vec<PlannedFault> + Sync),
) -> u64 {
    let count = AtomicU64::new(0);
    in_parallel(|number| {
        let is_enough = number >= 7 && count.load(Ordering::Relaxed) >= trials || explorer.has_failed();
        if is_enough {
            return false;
        }
        let steps = workload(number, seed);
        let probe = SimStorage::new(0);
        let context = || format!("{steps:?}");
        let Some(_) = explorer.attempt(context, || run(&probe, &steps, &mut Model::default())) else { return true };
        for &operation in kinds {
            for fault in (0..probe.counts()[operation as usize]).flat_map(|nth| faults(operation, nth)) {
                count.fetch_add(u64::from(fail_one(explorer, &steps, fault)), Ordering::Relaxed);
                if explorer.has_failed() {
                    return false;
                }
            }
        }
        true
    });
    count.into_inner()
}

/// Says whether the fault came.
fn fail_one(explorer: &Explorer, steps: &[Step], fault: PlannedFault) -> bool {
    let (disk, mut model) = (SimStorage::new(fault.nth), Model::default());
    fault.plan(&disk);
    let context = || format!("{steps:?} with {fault:?}");
    let Some(ran) = explorer.attempt(context, || run_on(&disk, steps, &mut model)) else { return true };
    if disk.failures().is_empty() {
        return false;
    }
    disk.heal();
    if !ran.lost_names {
        let killed = disk.crash_keep_all();
        explorer.image(&killed, &model, Loss::Kill, &Notes::new(), || format!("{}, then a kill", context()));
    }
    for seed in 0..3 {
        let (image, _) = random_power_loss(&disk, seed);
        let context = || format!("{}, then power loss {seed}", context());
        explorer.image(&image, &model, Loss::Power, &Notes::new(), context);
    }
    true
}

fn plain_faults(operation: Operation, nth: u64) -> Vec<PlannedFault> {
    let all = [libc::EIO, libc::ENOSPC].map(|errno| {
        [Repeat::Once, Repeat::Forever].map(|repeat| PlannedFault { operation, nth, errno, written: None, repeat })
    });
    all.concat()
}

/// Guards: a failed sync is not tried again, nothing is acknowledged after it.
#[test]
fn row_r6_simulated_a_failed_sync_loses_nothing_that_was_acknowledged() {
    let (trials, seed) = (reliability::trials(100), reliability::seed(SEED));
    let explorer = Explorer::default();
    let kinds = [Operation::Sync, Operation::SyncDirectory];
    let count = fail_each(&explorer, trials, seed, &kinds, &plain_faults);
    let what =
        format!("failed syncs of files and directories on a simulated disk, {} images after them", explorer.trials());
    reliability::report("R6", count, explorer.failures(), seed, &what);
    assert_eq!(explorer.failures(), 0);
    assert!(count >= trials);
}

/// Guards: a write that fails, or is cut short, is not built upon.
#[test]
fn row_r7_simulated_a_failed_write_loses_nothing_that_was_acknowledged() {
    let (trials, seed) = (reliability::trials(100), reliability::seed(SEED));
    let explorer = Explorer::default();
    let faults = |operation: Operation, nth: u64| {
        let plain = plain_faults(operation, nth);
        let short =
            |written| plain.clone().into_iter().map(move |fault| PlannedFault { written: Some(written), ..fault });
        plain.iter().copied().chain([1, 24, 600].into_iter().flat_map(short)).collect()
    };
    let count = fail_each(&explorer, trials, seed, &[Operation::Write], &faults);
    let what = format!("failed and short writes on a simulated disk, {} images after them", explorer.trials());
    reliability::report("R7", count, explorer.failures(), seed, &what);
    assert_eq!(explorer.failures(), 0);
    assert!(count >= trials);
}

/// Every other operation fails too: opening, listing, locking, reading, mapping, and those that make, rename, remove and cut.
#[test]
fn any_operation_may_fail() {
    let explorer = Explorer::default();
    let done: HashSet<Operation> =
        [Operation::Sync, Operation::SyncDirectory, Operation::Write, Operation::Store].into();
    let kinds: Vec<Operation> = Operation::ALL.into_iter().filter(|operation| !done.contains(operation)).collect();
    let count = fail_each(&explorer, 1, SEED, &kinds, &plain_faults);
    assert_eq!(explorer.failures(), 0);
    assert!(count > 100);
}
