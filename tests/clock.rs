//! Row R18: whatever the wall clock says, and said in earlier lives of the store, events are in order and readable, their times
//! never go back, their ids are their own, and waits, timeouts, backoffs and the time of fences are measured by the monotonic clock.
//!
//! A trial is a store with a few lives, each with a clock of its own kind, that end by a close, an exit or a kill. The victim,
//! tests/clock/victim.c, checks all that by itself.

mod common;
#[path = "common/program.rs"]
mod program;
#[path = "common/reliability.rs"]
mod reliability;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SEED_DEFAULT: u64 = 0x18_C10C;
const TRIALS_DEFAULT: u64 = 20;
const LIVES: u64 = 3;
/// As the victim numbers them.
const MODES: [&str; 7] = ["honest", "frozen", "jitter", "years", "backwards", "extremes", "garbage"];
const ENDS: [&str; 3] = ["close", "exit", "kill"];

/// The program, against the library of this build.
fn build_as(user: &str) -> PathBuf {
    program::build(&format!("clock-{user}"), "tests/clock/victim.c", &[])
}

/// splitmix64.
fn below(random: &mut u64, bound: u64) -> u64 {
    *random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *random;
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ z >> 31) % bound
}

/// One life. The error says what the victim found wrong.
fn live(program: &Path, dir: &Path, mode: u64, seed: u64, is_timed: bool, end: &str) -> Result<(), String> {
    let output = Command::new(program)
        .arg(dir)
        .args([mode.to_string(), seed.to_string(), u8::from(is_timed).to_string(), end.to_owned()])
        .output()
        .expect("the victim starts");
    let is_well = if end == "kill" { output.status.signal() == Some(libc::SIGKILL) } else { output.status.success() };
    if is_well {
        return Ok(());
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// The lives of one store, the last of which is under an honest clock and closes. Only one takes the time to wait.
fn trial(program: &Path, dir: &Path, number: u64, mut random: u64) -> Result<(), String> {
    for life in 0..=LIVES {
        let (mut mode, mut end) = (below(&mut random, 5), ENDS[below(&mut random, 3) as usize]);
        if life == LIVES {
            (mode, end) = (0, "close");
        } else if life == 1 || (life == 0 && number % 2 == 1) {
            // The time never goes back, so that after the end of time there is but one: half of the stores are spared it at first,
            // the others are made under such a clock.
            mode = number % MODES.len() as u64;
        }
        let is_timed = life == 1;
        live(program, dir, mode, below(&mut random, u64::MAX), is_timed, end)
            .map_err(|what| format!("life {life}, {}, {end}: {what}", MODES[mode as usize]))?;
    }
    Ok(())
}

/// The bugs: an event older than the one before it is taken for the remains of an earlier life and cut; a fence never runs out, or
/// at once, when the wall clock leaps.
#[test]
fn row_r18_the_wall_clock_decides_nothing() {
    let (trials, seed) = (reliability::trials(TRIALS_DEFAULT), reliability::seed(SEED_DEFAULT));
    let program = build_as("row");
    let mut failures = 0;
    for number in 0..trials {
        let dir = common::scratch_dir("clock-row").join(format!("store-{number}"));
        let count = dir.with_extension("count");
        let _ = (fs::remove_dir_all(&dir), fs::remove_file(&count));
        match trial(&program, &dir, number, seed.wrapping_add(number)) {
            Ok(()) => {
                let _ = (fs::remove_dir_all(&dir), fs::remove_file(&count));
            }
            Err(what) => {
                println!("RELIABILITY_SEED={seed:#x} trial {number} in {}: {what}", dir.display());
                failures += 1;
            }
        }
    }
    let what = "clock: frozen, jitter, years, backwards, extremes and garbage over lives that close, exit or are killed; no retention yet";
    reliability::report("R18", trials, failures, seed, what);
    assert_eq!(failures, 0);
}

/// The bug (seed 0x18C10C, trial 33): a store made when the clock was beyond what ids can tell gave its events times that their
/// ids did not have.
#[test]
fn a_store_made_at_the_end_of_time_has_times_as_its_ids() {
    let dir = common::scratch_dir("clock-end").join("store");
    let _ = (fs::remove_dir_all(&dir), fs::remove_file(dir.with_extension("count")));
    live(&build_as("end"), &dir, 7, 1, false, "close").expect("times and ids agree");
}
