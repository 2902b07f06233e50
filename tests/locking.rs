//! Row R17: a store has one writer at a time, whoever tries and by whatever name, and is free as soon as its writer is gone.
//!
//! Each trial is a case in a directory of its own. Cases come in turn, so that a few trials see each once. That a lock is free
//! is asked right after its holder's death was waited for: the answer must be yes at the first try, on however slow a machine.

mod common;
#[path = "locking/files.rs"]
mod files;
#[path = "locking/holder.rs"]
mod holder;
#[path = "locking/processes.rs"]
mod processes;
#[path = "common/program.rs"]
mod program;
#[path = "locking/races.rs"]
mod races;
#[path = "common/reliability.rs"]
mod reliability;

use std::fs;
use std::path::Path;
use std::time::Duration;

use holder::{Holder, Trial};

/// What a trial has: a directory, one who tries to get at the store from another process, and chance.
struct Bench<'a> {
    dir: &'a Path,
    other: &'a mut Holder,
    random: u64,
    longest_open: Duration,
    skipped: Option<&'static str>,
}

impl Bench<'_> {
    /// splitmix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ z >> 31) % bound
    }
}

type Case = (&'static str, fn(&mut Bench<'_>) -> Trial);

fn cases() -> Vec<Case> {
    [processes::CASES, files::CASES, races::CASES].concat()
}

const SEED_DEFAULT: u64 = 0x17_10CC;
const TRIALS_DEFAULT: u64 = 40;

/// The bugs: a deleted or replaced LOCK admits a second writer; a forked child keeps a dead parent's lock; another name of the
/// directory is another store.
#[test]
fn row_r17_there_is_at_most_one_writer() {
    let (trials, seed) = (reliability::trials(TRIALS_DEFAULT), reliability::seed(SEED_DEFAULT));
    let cases = cases();
    let mut other = Holder::start();
    let (mut ran, mut failed, mut skipped, mut longest_open) = (0, Vec::new(), Vec::new(), Duration::ZERO);
    let mut turn = 0;
    while ran < trials {
        let (name, case) = cases[(turn % cases.len() as u64) as usize];
        let dir = holder::fresh_dir(&format!("trial-{turn}"));
        let random = seed.wrapping_add(turn);
        let mut bench = Bench { dir: &dir, other: &mut other, random, longest_open, skipped: None };
        let result = case(&mut bench);
        longest_open = bench.longest_open;
        match (result, bench.skipped) {
            (Err(what), _) => {
                println!("RELIABILITY_SEED={seed:#x} turn {turn}, {name}, in {}: {what}", dir.display());
                failed.push(name);
                ran += 1;
                // It may still hold what it should not have.
                other = Holder::start();
            }
            (Ok(()), Some(why)) => {
                if !skipped.contains(&name) {
                    println!("skipped: {name}: {why}");
                    skipped.push(name);
                }
            }
            (Ok(()), None) => ran += 1,
        }
        if failed.last() != Some(&name) {
            let _ = fs::remove_dir_all(&dir);
        }
        turn += 1;
    }
    let what = format!(
        "locking: {} cases of forks, names, lock files, deaths and races; longest opening after a death {} ms",
        cases.len() - skipped.len(),
        longest_open.as_millis()
    );
    reliability::report("R17", ran, failed.len() as u64, seed, &what);
    assert!(failed.is_empty(), "{failed:?}");
}

/// The bug: a store's files are opened by their paths, so that a holder whose directory was moved writes its next segments into
/// whatever store stands in that place now.
#[test]
fn a_moved_store_writes_nothing_into_the_one_in_its_place() {
    let (dir, mut other) = (holder::fresh_dir("moved"), Holder::start());
    let mut bench = Bench { dir: &dir, other: &mut other, random: 0, longest_open: Duration::ZERO, skipped: None };
    files::directory_replaced(&mut bench).expect("each keeps to itself");
}
