//! R16: what a caller can get wrong and the library can see is answered, never a crash, a hang or a leak. A program is generated from the
//! header that calls every function with each parameter wrong in every way, alone and together: NULL, handles that are closed, of another
//! kind, of another store or of a forked parent, lengths and numbers at their ends, bytes that are no UTF-8, structs of other sizes.
//!
//! What takes more than one call is written by hand: `tests/c/misuse_*.c`.

mod common;
#[path = "misuse/program.rs"]
mod generated;
#[path = "misuse/header.rs"]
mod header;
#[path = "common/program.rs"]
mod program;
#[path = "common/reliability.rs"]
mod reliability;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::{env, str};

const SEED: u64 = 0x000D_0D6E;
/// Calls with several parameters wrong.
const RANDOM_CALLS: u64 = 2_000;

#[test]
fn row_r16_every_function_with_every_parameter_wrong() {
    let program = build("native", &[]);
    let random = reliability::trials(RANDOM_CALLS);
    let calls = run(Command::new(&program), random);
    reliability::report("R16", calls, 0, seed(), "every function with each parameter wrong, alone and with others");
}

#[test]
fn row_r16_the_same_under_valgrind() {
    if let Some(why) = skipped() {
        println!("skipped: {why}");
        return;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: there is no valgrind");
        return;
    }
    let program = build("valgrind", &[]);
    let mut command = Command::new("valgrind");
    command.args(["-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]).arg(&program);
    let calls = run(command, reliability::trials(RANDOM_CALLS) / 20);
    reliability::report("R16", calls, 0, seed(), "the same under valgrind, with leaks counted");
}

#[test]
fn row_r16_the_same_under_sanitizers() {
    if let Some(why) = skipped() {
        println!("skipped: {why}");
        return;
    }
    let program = build("sanitizers", &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    let mut command = Command::new(&program);
    command.env("ASAN_OPTIONS", "abort_on_error=1:allocator_may_return_null=1");
    let calls = run(command, reliability::trials(RANDOM_CALLS));
    reliability::report("R16", calls, 0, seed(), "the same under the address and undefined-behaviour sanitizers");
}

/// `make test` calls natively only.
fn skipped() -> Option<&'static str> {
    env::var("RELIABILITY_TRIALS").is_err().then_some("RELIABILITY_TRIALS is not set, and this takes its time")
}

fn seed() -> u64 {
    reliability::seed(SEED)
}

/// The program, against the library of this build.
fn build(name: &str, flags: &[&str]) -> PathBuf {
    let place = common::scratch_dir("misuse").join(name);
    fs::create_dir_all(&place).expect("a directory for the program");
    let text = fs::read_to_string(common::root().join("include/batpak.h")).expect("the header");
    let (text, functions) = generated::write(&header::read(&text));
    assert!(functions > 90, "only {functions} functions were found in the header");
    let (source, program) = (place.join("misuse.c"), place.join("program"));
    fs::write(&source, text).expect("a place for the program");
    let library = common::library_dir(&format!("misuse/{name}"));
    let paths = [
        format!("-I{}", common::root().join("tests/misuse").display()),
        format!("-L{}", library.display()),
        format!("-Wl,-rpath,{}", library.display()),
    ];
    // What is generated converts pointers of all kinds.
    let flags = ["-Wno-pedantic"].into_iter().chain(flags.iter().copied()).chain(paths.iter().map(String::as_str));
    program::compile(&source, &program, flags.chain(["-lbatpak"]));
    program
}

/// The number of calls. The program watches itself: one that waits for ever ends it, by name.
fn run(mut command: Command, random: u64) -> u64 {
    let place = common::scratch_dir("misuse").join("tmp");
    fs::create_dir_all(&place).expect("a directory for stores");
    let output =
        command.arg(random.to_string()).arg(seed().to_string()).env("TMPDIR", &place).output().expect("the program");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{} with seed {:#x}, {random} random calls\n{said}{}",
        output.status,
        seed(),
        String::from_utf8_lossy(&output.stderr)
    );
    said.lines()
        .find_map(|line| line.strip_prefix("calls "))
        .and_then(|number| number.parse().ok())
        .expect("the number of calls")
}
