//! The targets of `tests/fuzz`, for libFuzzer: `fuzz/run.sh`.
#![allow(dead_code, reason = "the tests use more of these modules")]

#[path = "../../tests/fuzz/disk.rs"]
mod disk;
#[path = "../../tests/fuzz/ffi.rs"]
mod ffi;
#[path = "../../tests/fuzz/reseal.rs"]
mod reseal;
#[path = "../../tests/fuzz/seeds.rs"]
mod seeds;
#[path = "../../tests/fuzz/stores.rs"]
mod stores;
#[path = "../../tests/fuzz/targets.rs"]
mod targets;

/// Runs a target on an input.
///
/// # Panics
/// When there is no such target, or the input is a finding.
pub fn run(name: &str, data: &[u8]) {
    let target = targets::TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of that name").run)(data);
}
