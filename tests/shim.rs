//! The shipped shared library on a real file system whose calls fail (docs/RELIABILITY.md, rows R1, R6, R7, R8 and R12). A program in
//! C uses a store in every way; a library that is loaded before the C library counts its calls and lets the k-th of a kind
//! fail, once or for ever, for every k. What the program was told is then held against what is there.
//!
//! Without `RELIABILITY_TRIALS` some k are tried, with it every k, and as often as it says.
//! `SHIM_ONE=kind:first:last:every:errno:cut` with the numbers of a failure tries that one alone, as often as `RELIABILITY_TRIALS` says.

#![cfg(target_os = "linux")]

#[path = "shim/acks.rs"]
mod acks;
mod common;
#[path = "shim/oracle.rs"]
mod oracle;
#[path = "common/program.rs"]
mod program;
#[path = "common/reliability.rs"]
mod reliability;
#[path = "shim/report.rs"]
mod report;
#[path = "shim/run.rs"]
mod run;

use std::collections::BTreeMap;
use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use oracle::{CHECKPOINT_NOT_FOUND, CHECKPOINT_WRITE_FAILED, DISK_FULL, IO, NO_MEMORY, Oracle, POISONED};
use run::{Cut, Fault, KINDS, Kind, Plan, run};

const SEED: u64 = 0x5113;
/// Allocations from this size on are taken to be of a size that a caller chose.
const ALLOC_LEAST: u64 = 32 << 10;

/// What a row demands of a run beside what holds of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// Errors, of these, and what they promise.
    CleanErrors,
    /// Nothing: no status but success.
    Invisible,
    /// No error but for want of memory, and nothing that lasts.
    NoMemory,
}

/// The calls of a run in which nothing fails.
fn count(seed: u64) -> [u64; KINDS] {
    let plan = Plan { alloc_least: Some(ALLOC_LEAST), ..Plan::default() };
    let clean = run("work", &[seed.to_string()], &plan);
    let mut oracle = Oracle::of(&clean);
    oracle.check_store(&clean.store());
    assert!(oracle.wrong.is_empty(), "with nothing failing: {:#?}", oracle.wrong);
    assert!(oracle.statuses.is_empty(), "with nothing failing: {:?}", oracle.statuses);
    let counts = clean.counts();
    clean.forget();
    counts
}

/// Makes one call fail, or more, and says what is wrong with what came of it; `None`: there was no such call.
fn try_fault(fault: Fault, seed: u64, demand: Demand) -> Option<Vec<String>> {
    let plan = Plan { fault: Some(fault), alloc_least: Some(ALLOC_LEAST), ..Plan::default() };
    let left = run("work", &[seed.to_string()], &plan);
    let mut oracle = Oracle::of(&left);
    oracle.check_store(&left.store());
    match demand {
        Demand::CleanErrors => {
            let mut allowed = vec![IO, CHECKPOINT_WRITE_FAILED, CHECKPOINT_NOT_FOUND];
            // What fails before anything is written harms nothing.
            if [Kind::Write, Kind::Sync, Kind::Truncate, Kind::Unlink].contains(&fault.kind) {
                allowed.push(POISONED);
            }
            if [libc::ENOSPC, libc::EDQUOT].contains(&fault.errno) {
                allowed.push(DISK_FULL);
            }
            oracle.check_statuses(&allowed, &fault, &left.dir);
        }
        Demand::Invisible if !oracle.statuses.is_empty() => {
            let seen = format!("the caller saw it: {:?}", oracle.statuses);
            oracle.wrong.push(seen);
        }
        Demand::Invisible => {}
        Demand::NoMemory => {
            oracle.check_statuses(&[NO_MEMORY], &fault, &left.dir);
            if !fault.is_for_ever() && oracle.statuses.len() > 1 {
                let seen = format!("one allocation failed, and more than one call: {:?}", oracle.statuses);
                oracle.wrong.push(seen);
            }
        }
    }
    let hit = oracle.faults > 0;
    let wrong = std::mem::take(&mut oracle.wrong);
    if wrong.is_empty() {
        left.forget();
        return hit.then_some(wrong);
    }
    let place = format!("files and report in {}", left.dir.parent().expect("a parent").display());
    Some(wrong.into_iter().chain([place]).collect())
}

/// Tries all of the faults, on all processors; prints and reports what came of it, and fails when something was wrong.
fn sweep(row: &str, demand: Demand, what: &str, faults: impl Fn(&[u64; KINDS]) -> Vec<Fault>, sample: u64) {
    let (wanted, seed) =
        (env::var("RELIABILITY_TRIALS").is_ok().then(|| reliability::trials(0)), reliability::seed(SEED));
    let (mut trials, mut missed, mut kinds) = (0, 0, BTreeMap::new());
    let mut wrong = Vec::new();
    for pass in 0.. {
        let counts = count(seed + pass);
        let mut all = faults(&counts);
        if let Some(one) = one_fault() {
            all = vec![one; wanted.unwrap_or(1) as usize];
        } else if wanted.is_none() {
            // Some, spread over all.
            let step = (all.len() as u64).div_ceil(sample).max(1) as usize;
            all = all.into_iter().skip(seed as usize % step).step_by(step).collect();
        }
        all.iter().for_each(|fault| *kinds.entry(format!("{:?}", fault.kind)).or_insert(0) += 1);
        let (hit, failed) = try_all(&all, seed + pass, demand);
        trials += hit;
        missed += all.len() as u64 - hit;
        wrong.extend(failed);
        if wanted.is_none_or(|wanted| trials >= wanted) || !wrong.is_empty() || one_fault().is_some() {
            break;
        }
    }
    let shown: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    println!("{row}: {trials} runs with a fault, {missed} that had no such call; faults of {}", shown.join(", "));
    wrong.iter().take(12).for_each(|what| println!("{row} {what}"));
    reliability::report(row, trials, wrong.len() as u64, seed, what);
    assert!(wrong.is_empty(), "{} of {trials} runs", wrong.len());
}

/// How many met their fault, and what was wrong.
fn try_all(faults: &[Fault], seed: u64, demand: Demand) -> (u64, Vec<String>) {
    let (next, hit, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(&fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Some(found) = try_fault(fault, seed, demand) else { continue };
                    hit.fetch_add(1, Ordering::Relaxed);
                    if !found.is_empty() {
                        let found = format!("SHIM_ONE={} seed={seed}\n  {}", fault.as_text(), found.join("\n  "));
                        wrong.lock().expect("what is wrong").push(found);
                    }
                }
            });
        }
    });
    (hit.into_inner() as u64, wrong.into_inner().expect("what is wrong"))
}

fn one_fault() -> Option<Fault> {
    env::var("SHIM_ONE").ok().map(|text| Fault::from_text(&text))
}

/// Every k of a kind, with each of the errors.
fn each(counts: &[u64; KINDS], kind: Kind, errors: &[i32], make: impl Fn(Kind, u64, i32) -> Fault) -> Vec<Fault> {
    let ks = 1..=counts[kind as usize];
    ks.flat_map(|k| errors.iter().map(|&errno| make(kind, k, errno)).collect::<Vec<_>>()).collect()
}

/// Every k, once and for ever.
fn once_and_for_ever(counts: &[u64; KINDS], kind: Kind, errors: &[i32]) -> Vec<Fault> {
    let mut all = each(counts, kind, errors, Fault::once);
    all.extend(each(counts, kind, errors, Fault::for_ever));
    all
}

/// The promise: an append is acknowledged after the sync of its bytes has returned, and of its file's name.
#[test]
fn row_r1_an_acknowledged_append_was_synced_before() {
    let (trials, seed) = (reliability::trials(200), reliability::seed(SEED));
    let (seen, wrong) = acks::check(trials);
    wrong.iter().take(12).for_each(|what| println!("R1 {what}"));
    let what = "an append with the default durability returns after the sync of its bytes, one with PROCESS makes none";
    reliability::report("R1", seen, wrong.len() as u64, seed, what);
    assert!(wrong.is_empty() && seen >= trials);
}

/// The promise: after a failed sync of the log nothing more is acknowledged, and what had been acknowledged is there.
#[test]
fn row_r6_a_failed_sync_acknowledges_nothing_more() {
    let faults = |counts: &[u64; KINDS]| {
        let mut all = each(counts, Kind::Sync, &[libc::EIO, libc::ENOSPC], Fault::once);
        all.extend(each(counts, Kind::Sync, &[libc::EIO], Fault::for_ever));
        all
    };
    sweep("R6", Demand::CleanErrors, "every sync of files and directories fails, with EIO and ENOSPC", faults, 40);
}

/// The promise: a failed write is a clean error, and leaves a store that is readable and opens again.
#[test]
fn row_r7_a_failed_write_is_a_clean_error() {
    let faults = |counts: &[u64; KINDS]| {
        let mut all = once_and_for_ever(counts, Kind::Write, &[libc::EIO, libc::ENOSPC, libc::EDQUOT]);
        for errno in [libc::EIO, libc::ENOSPC] {
            let short_once = |kind, k, errno| Fault { last: k + 1, cut: Cut::First, ..Fault::once(kind, k, errno) };
            let short_for_ever = |kind, k, errno| Fault { cut: Cut::First, ..Fault::for_ever(kind, k, errno) };
            all.extend(each(counts, Kind::Write, &[errno], short_once));
            all.extend(each(counts, Kind::Write, &[errno], short_for_ever));
        }
        all
    };
    sweep("R7", Demand::CleanErrors, "every write fails, or is short and then fails, once and for ever", faults, 40);
}

/// The promise: so is any other call that fails.
#[test]
fn row_r7_any_other_failed_call_is_a_clean_error() {
    let faults = |counts: &[u64; KINDS]| {
        let mut all = once_and_for_ever(counts, Kind::Open, &[libc::EMFILE]);
        all.extend(each(counts, Kind::Open, &[libc::EIO, libc::ENOSPC], Fault::once));
        for kind in [Kind::Rename, Kind::Unlink, Kind::Mkdir, Kind::Truncate] {
            all.extend(once_and_for_ever(counts, kind, &[libc::EIO, libc::ENOSPC]));
        }
        for kind in [Kind::Read, Kind::Stat, Kind::List, Kind::Resolve, Kind::Lock] {
            all.extend(once_and_for_ever(counts, kind, &[libc::EIO]));
        }
        all.extend(once_and_for_ever(counts, Kind::Map, &[libc::ENOMEM]));
        all
    };
    sweep("R7", Demand::CleanErrors, "every other call on files and directories fails, once and for ever", faults, 40);
}

/// The promise: what the system may answer to a call that is to be made again, or went only half the way, stays unseen.
#[test]
fn row_r8_interrupted_short_and_refused_calls_are_invisible() {
    let faults = |counts: &[u64; KINDS]| {
        let interrupted = [Kind::Write, Kind::Read, Kind::Sync, Kind::Open, Kind::Truncate, Kind::Lock];
        let mut all = Vec::new();
        let in_a_row = |kind, k, errno| Fault { last: k + 4, ..Fault::once(kind, k, errno) };
        for kind in interrupted {
            all.extend(each(counts, kind, &[libc::EINTR], Fault::once));
            all.extend(each(counts, kind, &[libc::EINTR], in_a_row).into_iter().step_by(5));
            // Every second one, to the end.
            all.push(Fault { every: 2, ..Fault::for_ever(kind, 1, libc::EINTR) });
        }
        for kind in [Kind::Write, Kind::Read] {
            let short = |kind, k, errno| Fault { cut: Cut::All, ..Fault::once(kind, k, errno) };
            all.extend(each(counts, kind, &[libc::EINTR], short));
            all.push(Fault { cut: Cut::All, ..Fault::for_ever(kind, 1, 0) });
        }
        for kind in [Kind::Write, Kind::Read, Kind::Open] {
            all.extend(each(counts, kind, &[libc::EAGAIN], Fault::once));
        }
        // Without a mapping, appends are written.
        all.extend(once_and_for_ever(counts, Kind::Map, &[libc::ENOMEM]));
        all
    };
    sweep("R8", Demand::Invisible, "every call is interrupted, cut short or asked to come again", faults, 40);
}

/// The promise: a buffer that there is no memory for is an error of its call, and harms nothing.
#[test]
fn row_r12_no_memory_is_an_error_and_no_harm() {
    let faults = |counts: &[u64; KINDS]| once_and_for_ever(counts, Kind::Alloc, &[libc::ENOMEM]);
    sweep("R12", Demand::NoMemory, "every allocation of 32 KiB or more fails, once and for ever", faults, 40);
}
