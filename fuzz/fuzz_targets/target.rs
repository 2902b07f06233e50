//! A target of tests/fuzz for libFuzzer: the one that the program is named after.
#![no_main]

#[path = "../../tests/fuzz/disk.rs"]
mod disk;
#[path = "../../tests/fuzz/ffi.rs"]
mod ffi;
#[path = "../../tests/fuzz/reseal.rs"]
mod reseal;
#[path = "../../tests/fuzz/seeds.rs"]
#[allow(dead_code, reason = "the seeds are in fuzz/corpus")]
mod seeds;
#[path = "../../tests/fuzz/stores.rs"]
mod stores;
#[path = "../../tests/fuzz/targets.rs"]
#[allow(dead_code, reason = "shares and bounds are of the run without libFuzzer")]
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

use targets::{TARGETS, Target};

fn target() -> &'static Target {
    static CHOSEN: OnceLock<&Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let program = std::env::current_exe().expect("the path of the program");
        let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target is named {name}"))
    })
}

fuzz_target!(|input: &[u8]| (target().run)(input));
