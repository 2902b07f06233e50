//! R19, and every other promise that can be read: random appends, batches, expected states, keys, fences, cursors, checkpoints, gaps
//! and workers on a simulated disk, with closes, kills, power losses, stops in the midst of any of these and of recovery. After each
//! the store must say what a plain vector says: no consumer is ever given anything but what is due to it, nothing is skipped, and only
//! what came after its last checkpoint comes again.
//!
//! Sequence number n of a run has the seed `RELIABILITY_SEED + n`, and each of its steps a seed of its own. So a failure is repeated by
//! its seed and `RELIABILITY_TRIALS=1`, and also with steps left out: the test looks for the fewest that still fail, and tells
//! their story.

mod checks;
mod consumers;
mod crashes;
mod oracle;
mod workers;
mod world;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::io::sim::Random;
use crate::reliability;
use world::{Counts, Draws, World};

const STEPS: u64 = 100;
const SEQUENCES: u64 = 300;
/// Runs that looking for the fewest steps may cost.
const SHRINKING_RUNS: usize = 400;

impl World {
    fn step(&mut self) {
        match self.random.below(100) {
            0..34 => self.append(),
            34..39 if self.fences.len() < 3 => self.begin_fence(),
            39..44 if !self.fences.is_empty() => self.commit_fence(),
            44..48 if !self.fences.is_empty() => self.cancel_fence(),
            48..50 => self.sync(),
            50..52 => self.jump(),
            52..73 => self.step_reader(),
            // What was just saved is the likeliest to be taken back.
            73 => {
                self.step_reader();
                self.crash();
            }
            74..89 => self.step_worker(),
            89..91 => {
                self.close();
                self.end();
                self.reopen(false);
            }
            91..93 => self.crash(),
            93..97 => self.step_stopped(),
            _ => self.check(),
        }
    }

    /// A step that the disk stops in the midst of.
    fn step_stopped(&mut self) {
        match self.random.below(8) {
            0 | 1 => self.stopped(World::append),
            2 if !self.fences.is_empty() => self.stopped(World::commit_fence),
            3 => self.stopped(World::sync),
            4 => self.stopped(World::close),
            5 => self.stopped(World::step_worker),
            _ => self.stopped(World::step_reader),
        }
    }

    /// The wall clock jumps, by years too.
    fn jump(&mut self) {
        let by = [1, 1_000_000, 86_400_000_000, 400_000_000_000_000];
        let by = self.random.one_of(&by);
        let by = if self.random.chance(50) { by } else { -by };
        self.note(|| format!("the clock jumps by {by} us"));
        self.clock.fetch_add(by, Ordering::Relaxed);
    }
}

/// How a run failed.
struct Failure {
    steps_taken: usize,
    story: Vec<String>,
}

/// Runs the steps of a sequence that `wanted` has.
fn run(seed: u64, wanted: &[u64], with_story: bool) -> std::result::Result<Counts, Failure> {
    let mut world = World::new(seed);
    world.story = with_story.then(Vec::new);
    let mut taken = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for &step in wanted {
            taken += 1;
            world.random = Draws(Random::new(seed.rotate_left(32) ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
            world.step();
        }
        world.check();
        world.drain_all();
    }));
    match outcome {
        Ok(()) => Ok(world.counts),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
            let mut story = world.story.take().unwrap_or_default();
            story.push(message.to_owned());
            Err(Failure { steps_taken: taken, story })
        }
    }
}

/// The fewest steps that still fail: the shortest beginning, and of it what cannot be left out.
fn shrink(seed: u64, until: usize) -> Vec<u64> {
    let fails = |steps: &[u64]| run(seed, steps, false).is_err();
    let all: Vec<u64> = (0..until as u64).collect();
    let shortest = (1..=until).find(|&length| fails(&all[..length])).unwrap_or(until);
    let mut steps = all[..shortest].to_vec();
    let mut runs = 0;
    let mut size = steps.len() / 2;
    while size > 0 && runs < SHRINKING_RUNS {
        let mut at = 0;
        while at < steps.len() && runs < SHRINKING_RUNS {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            runs += 1;
            if fails(&fewer) { steps = fewer } else { at += size }
        }
        size /= 2;
    }
    steps
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Panics of runs that look for fewer steps are not printed.
fn be_quiet_when_asked() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !IS_QUIET.get() {
            usual(panic);
        }
    }));
}

/// What reproduces the failure of a sequence, in words.
fn explain(seed: u64, taken: usize) -> String {
    IS_QUIET.set(true);
    let steps = shrink(seed, taken);
    let story = run(seed, &steps, true).err().map_or_else(Vec::new, |failure| failure.story);
    IS_QUIET.set(false);
    format!(
        "RELIABILITY_SEED={seed:#x} RELIABILITY_TRIALS=1 repeats it. It failed after {taken} steps; these {} suffice, {steps:?}:\n  {}",
        steps.len(),
        story.join("\n  ")
    )
}

#[test]
fn row_r19_every_consumer_is_given_what_the_model_says() {
    be_quiet_when_asked();
    let (sequences, first) = (reliability::trials(SEQUENCES), reliability::seed(0));
    let (next, failures, counts) = (AtomicU64::new(0), Mutex::new(Vec::new()), Mutex::new(Counts::default()));
    let steps: Vec<u64> = (0..STEPS).collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= sequences || failures.lock().unwrap().len() >= 3 {
                        return;
                    }
                    let seed = first.wrapping_add(number);
                    match run(seed, &steps, false) {
                        Ok(of_run) => counts.lock().unwrap().add(&of_run),
                        Err(failure) => {
                            let what = explain(seed, failure.steps_taken);
                            failures.lock().unwrap().push(what);
                        }
                    }
                }
            });
        }
    });
    let (failures, counts) = (failures.into_inner().unwrap(), counts.into_inner().unwrap());
    reliability::report(
        "R19",
        sequences.min(next.into_inner()),
        failures.len() as u64,
        first,
        &format!("sequences of {STEPS} operations: {counts:?}"),
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
