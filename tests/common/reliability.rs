//! What the tests of the scorecard share (docs/RELIABILITY.md): how often to try, from which seed, and the line that says what came
//! of it. Also part of the library's own tests.
//!
//! `RELIABILITY_TRIALS` and `RELIABILITY_SEED` are set by `make reliability`; without them a test takes the numbers of `make test`.

#![allow(dead_code, reason = "no test uses all of it")]

use std::env;

/// How often to try.
pub fn trials(default: u64) -> u64 {
    number("RELIABILITY_TRIALS").unwrap_or(default)
}

/// What everything random is chosen by.
pub fn seed(default: u64) -> u64 {
    number("RELIABILITY_SEED").unwrap_or(default)
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    let digits = text.strip_prefix("0x");
    let number = digits.map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is no number: give one, like 1000 or 0x5EED")))
}

/// Tells the scorecard of trials of a row, like `R5`, and what was looked for. Several tests may tell of one row: their trials add up.
pub fn report(row: &str, trials: u64, failures: u64, seed: u64, what: &str) {
    println!("scorecard {row} trials={trials} failures={failures} seed={seed:#x} {what}");
}
