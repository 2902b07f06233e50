//! Eight processes that want the same store at the same time.

use std::fs;

use crate::holder::{ALREADY_EXISTS, EXCLUSIVE, Holder, LOCKED, OK, Trial};
use crate::{Bench, Case};

pub const CASES: &[Case] = &[
    ("a race to open", race_to_open),
    ("a race of mortals", race_of_mortals),
    ("a race under a LOCK that is removed", race_without_lock),
    ("a race to make", race_to_make),
    ("a race to make alone", race_to_make_alone),
];

const RACERS: u64 = 8;
const WINS: u64 = 4;

fn start(bench: &mut Bench<'_>, one_in: u64) -> Vec<Holder> {
    let (store, marker) = (bench.dir.join("store"), bench.dir.join("marker"));
    let mut racers: Vec<Holder> = (0..RACERS).map(|_| Holder::start()).collect();
    for racer in &mut racers {
        let seed = bench.below(u64::MAX);
        racer.tell("race", [WINS, one_in, seed], &[&store, &marker]);
    }
    racers
}

/// Hears all of them. Returns how many died.
fn finish(mut racers: Vec<Holder>) -> Result<i64, String> {
    let mut died = 0;
    for racer in &mut racers {
        match racer.hear() {
            None => died += 1,
            Some(refused) if refused >= 0 => {}
            Some(-1000) => return Err(String::from("two have the store at once")),
            Some(status) => return Err(format!("an opening, an append or a close is {status}")),
        }
    }
    Ok(died)
}

/// Each win appended one event: as many wins are there.
fn race_to_open(bench: &mut Bench<'_>) -> Trial {
    let racers = start(bench, 0);
    let died = finish(racers)?;
    if died > 0 {
        return Err(format!("{died} racers died"));
    }
    bench.is_free(&bench.dir.join("store"), (RACERS * WINS) as i64)
}

/// Some die with the store in hand: the others come in, and each one that died had appended.
fn race_of_mortals(bench: &mut Bench<'_>) -> Trial {
    let racers = start(bench, 6);
    let died = finish(racers)?;
    let least = (RACERS as i64 - died) * WINS as i64 + died;
    bench.is_free(&bench.dir.join("store"), least)
}

fn race_without_lock(bench: &mut Bench<'_>) -> Trial {
    let lock = bench.dir.join("store/LOCK");
    let racers = start(bench, 0);
    for _ in 0..40 {
        let _ = fs::remove_file(&lock);
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
    finish(racers)?;
    bench.is_free(&bench.dir.join("store"), (RACERS * WINS) as i64)
}

/// Whoever does not make it finds it made or held.
fn race_to_make(bench: &mut Bench<'_>) -> Trial {
    race_once(bench, 0).map(drop)
}

/// Exclusively only one can have made it.
fn race_to_make_alone(bench: &mut Bench<'_>) -> Trial {
    race_once(bench, EXCLUSIVE).map(drop)
}

fn race_once(bench: &mut Bench<'_>, flags: u64) -> Trial {
    let store = bench.dir.join("deep/er/store");
    let mut racers: Vec<Holder> = (0..RACERS).map(|_| Holder::start()).collect();
    racers.iter_mut().for_each(|racer| racer.tell("open", [0, flags, 0], &[&store]));
    let answers: Vec<Option<i64>> = racers.iter_mut().map(Holder::hear).collect();
    let winners = answers.iter().filter(|&&answer| answer == Some(OK)).count();
    let others = |answer: &&Option<i64>| !matches!(**answer, Some(OK | LOCKED | ALREADY_EXISTS));
    if winners != 1 || answers.iter().any(|answer| others(&answer)) {
        return Err(format!("the openings are {answers:?}"));
    }
    let at = answers.iter().position(|&answer| answer == Some(OK)).expect("one won");
    racers[at].append(2)?;
    racers[at].die();
    bench.is_free(&store, 2)
}
