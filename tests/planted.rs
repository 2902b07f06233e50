//! The strength of the tests (row R20 of the scorecard): sixteen bugs, each planted into a copy of the library, are each caught by tests
//! that pass without it. Prints which test caught which. And each regression has a bug, one of those or another, that its own test must
//! not miss.
//!
//! The bugs are edits of the source ([`bugs::BUGS`]), so that production code has no hooks for them; where the source has moved on an
//! edit no longer fits, and this test says so. All of them are planted into one copy, which is built once and asks the
//! environment which one it is.

#[path = "planted/bugs.rs"]
mod bugs;
#[path = "common/mod.rs"]
#[allow(dead_code, reason = "the copy is a library of its own")]
mod common;
#[path = "common/program.rs"]
mod program;
#[path = "common/reliability.rs"]
mod reliability;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bugs::{BUGS, Bug, Edit, MORE_BUGS, REGRESSIONS, Regression, Test};

/// The tests that hunt for bugs, as filters of the library's own tests: those that take little time.
const HUNTERS: [&str; 10] = [
    "regression_",
    "row_r19_",
    "row_r4_",
    "cursor::tests",
    "cursor::worker",
    "store::tests",
    "waits::",
    "writers::",
    "failures::",
    "every_rotten_byte_of_a_killed_store",
];
/// How much each hunter tries.
const TRIALS: &str = "300";
/// A bug may make a test wait for ever: that is caught too, when the run without a bug takes less than a quarter of it.
const LONGEST: Duration = Duration::from_secs(60);
/// How long the others may still take when one has caught the bug.
const AFTER_THE_FIRST: Duration = Duration::from_secs(10);
/// Who catches a bug is named up to this many; then the run ends.
const NAMED: usize = 3;

/// Copies what the copy is built from, with the edits made.
fn copy_tree(from: &Path, to: &Path, planted: &BTreeMap<PathBuf, String>) {
    fs::create_dir_all(to).expect("a directory of the copy");
    for entry in fs::read_dir(from).expect("a directory of the source") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            copy_tree(&entry.path(), &target, planted);
        } else {
            copy_file(&entry.path(), &target, planted);
        }
    }
}

/// Leaves a file as it is that would be the same: the build of the copy is then incremental.
fn copy_file(from: &Path, to: &Path, planted: &BTreeMap<PathBuf, String>) {
    let bytes = match planted.get(from) {
        Some(text) => text.clone().into_bytes(),
        None => fs::read(from).expect("a file of the source"),
    };
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return;
    }
    fs::write(to, bytes).expect("a file of the copy");
}

/// The sources that the bugs edit, with all of them. What an edit does not fit is an error that names it.
fn plant() -> Result<BTreeMap<PathBuf, String>, String> {
    let mut texts = BTreeMap::new();
    let edits = BUGS.iter().chain(&MORE_BUGS).flat_map(|bug| bug.edits.iter().map(move |edit| (bug.name, edit)));
    for (name, Edit { file, find, replace }) in edits.chain([("the question", &bugs::QUESTION)]) {
        let path = common::root().join(file);
        let text: &mut String =
            texts.entry(path).or_insert_with_key(|path| fs::read_to_string(path).unwrap_or_default());
        let places = text.matches(find).count();
        if places != 1 {
            return Err(format!("{name}: {file} has {places} places that read\n{find}\nadapt tests/planted/bugs.rs"));
        }
        *text = text.replacen(find, replace, 1);
    }
    Ok(texts)
}

/// Runs cargo in the copy.
fn cargo(copy: &Path, arguments: &[&str]) -> String {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(arguments)
        .args(["--locked", "--lib"])
        .env("CARGO_TARGET_DIR", copy.with_extension("target"))
        .env_remove("RUSTFLAGS")
        .current_dir(copy)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the copy does not build\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What is built of the copy, once.
struct Built {
    /// The library's own tests.
    tests: PathBuf,
    /// A directory with the shared library.
    library: PathBuf,
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let copy = common::scratch_dir("planted/copy");
        let planted = plant().unwrap_or_else(|message| panic!("{message}"));
        for folder in ["src", "tests/common", "tests/surface"] {
            copy_tree(&common::root().join(folder), &copy.join(folder), &planted);
        }
        for file in ["Cargo.toml", "Cargo.lock", "README.md", "benches/hot_paths.rs"] {
            fs::create_dir_all(copy.join(file).parent().expect("a directory")).expect("a directory of the copy");
            copy_file(&common::root().join(file), &copy.join(file), &planted);
        }
        let messages = cargo(&copy, &["test", "--no-run", "--message-format=json-render-diagnostics"]);
        let key = "\"executable\":\"";
        let tests = messages.lines().filter_map(|line| line.split_once(key)?.1.split('"').next()).next_back();
        let tests = PathBuf::from(tests.expect("cargo names the program"));
        cargo(&copy, &["build"]);
        let library = common::scratch_dir("planted/library");
        fs::create_dir_all(&library).expect("a directory for the library");
        for name in ["libbatpak.so".to_owned(), common::soname()] {
            fs::copy(copy.with_extension("target").join("debug/libbatpak.so"), library.join(name))
                .expect("the library");
        }
        Built { tests, library }
    })
}

/// Each of the two tests uses all processors by itself, and has limits of time.
static TURN: Mutex<()> = Mutex::new(());

/// What a run of the hunters came to.
#[derive(Debug, PartialEq, Eq)]
struct Hunt {
    /// The tests that failed, until enough had.
    caught: Vec<String>,
    took: Duration,
}

/// The tests that have failed so far.
fn failed(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let failed = |line: &str| line.strip_prefix("test ")?.strip_suffix(" ... FAILED").map(str::to_owned);
    text.lines().filter_map(failed).collect()
}

/// Runs the hunters in the variant of a bug.
fn hunt(program: &Path, bug: usize) -> std::io::Result<Hunt> {
    let dir = common::scratch_dir(&format!("planted/{bug}"));
    fs::create_dir_all(&dir)?;
    let log = dir.join("output");
    let file = fs::File::create(&log)?;
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(HUNTERS)
        .args(["--test-threads=2"])
        .env("PLANTED", bug.to_string())
        .env("RELIABILITY_TRIALS", TRIALS)
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    let mut deadline = started + LONGEST;
    let mut caught = Vec::new();
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        let known = caught.len();
        caught = failed(&log);
        if known == 0 && !caught.is_empty() {
            deadline = deadline.min(Instant::now() + AFTER_THE_FIRST);
        }
        if caught.len() >= NAMED || Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(Duration::from_millis(20));
    };
    caught = failed(&log);
    match ended {
        None if caught.is_empty() => caught.push("a test that waits for ever".to_owned()),
        Some(status) if !status.success() && caught.is_empty() => {
            caught.push(format!("a test that ends with {status}"))
        }
        _ => {}
    }
    Ok(Hunt { caught, took: started.elapsed() })
}

fn describe(bug: &Bug, number: usize, caught: &[String]) -> String {
    let names = if caught.is_empty() { "NOT CAUGHT".to_owned() } else { caught.join(", ") };
    format!("{number:>2}  {:<42} {names}", bug.name)
}

#[test]
fn row_r20_every_planted_bug_is_caught() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let program = &built().tests;

    // Variant 0 has none: what fails there catches nothing.
    let queue = Mutex::new(0..=BUGS.len());
    let results = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(bug) = queue.lock().expect("the queue").next() else { return };
                    let hunted = hunt(program, bug).expect("the hunters run");
                    results.lock().expect("the results").insert(bug, hunted);
                }
            });
        }
    });
    let mut results = results.into_inner().expect("the results");
    let without = results.remove(&0).expect("a run without a bug");
    assert!(without.caught.is_empty(), "without a bug there fail {:?}", without.caught);
    assert!(without.took < LONGEST / 4, "without a bug it takes {:?}: give the hunters less to do", without.took);
    let mut missed = Vec::new();
    println!("planted bug                                    caught by");
    for (number, Hunt { caught, .. }) in results {
        let bug = &BUGS[number - 1];
        println!("{}", describe(bug, number, &caught));
        if caught.is_empty() {
            missed.push(bug.name);
        }
    }
    reliability::report("R20", BUGS.len() as u64, missed.len() as u64, 0, "planted bugs");
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// How a run in the variant of a bug ends: success, failure, or not at all.
fn ends_well(command: &mut Command, bug: u32, log: &Path) -> std::io::Result<bool> {
    let file = fs::File::create(log)?;
    command.env("PLANTED", bug.to_string()).env("RELIABILITY_TRIALS", TRIALS).env_remove("RUST_BACKTRACE");
    let mut child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
    let deadline = Instant::now() + if bug > 0 { LONGEST / 2 } else { LONGEST };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a regression's test with its bug, and without.
fn try_regression(regression: &Regression) -> std::io::Result<[bool; 2]> {
    let name = match regression.test {
        Test::Library(name) | Test::C(name) => name,
    };
    let place = common::scratch_dir(&format!("planted/regressions/{name}{}", regression.bug));
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(place.join("tmp"))?;
    let run = |bug: u32| {
        let mut command = match regression.test {
            Test::Library(filter) => {
                let mut command = Command::new(&built().tests);
                command.args([filter, "--test-threads=2"]);
                command
            }
            Test::C(name) => {
                let library = built().library.display().to_string();
                let flags = [format!("-L{library}"), format!("-Wl,-rpath,{library}")];
                let flags = flags.iter().map(String::as_str).chain(["-lbatpak", "-ldl"]);
                program::compile(format!("tests/c/{name}.c"), &place.join("program"), flags);
                let mut command = Command::new(place.join("program"));
                // Cargo names the directory of the library without bugs there.
                command.env("LD_LIBRARY_PATH", &built().library);
                command
            }
        };
        ends_well(command.env("TMPDIR", place.join("tmp")), bug, &place.join(format!("output-{bug}")))
    };
    Ok([run(regression.bug)?, run(0)?])
}

#[test]
fn row_r20_every_regression_fails_with_its_bug() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built();
    let (queue, wrong) = (Mutex::new(REGRESSIONS.iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(regression) = queue.lock().expect("the queue").next() else { return };
                    let name = match regression.test {
                        Test::Library(name) | Test::C(name) => name,
                    };
                    let bug =
                        BUGS.iter().chain(&MORE_BUGS).nth(regression.bug as usize - 1).expect("a bug of that number");
                    let [with, without] = try_regression(regression).expect("the test runs");
                    let seen = if with { "NOT CAUGHT" } else { "caught" };
                    println!(
                        "{name:<18} {:>2}  {:<58} {seen}{}",
                        regression.bug,
                        bug.name,
                        if without { "" } else { ", and fails without it" }
                    );
                    if with || !without {
                        wrong.lock().expect("the wrong ones").push(name);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("the wrong ones");
    reliability::report(
        "R20",
        REGRESSIONS.len() as u64,
        wrong.len() as u64,
        0,
        "regressions, each with a bug that its test must see",
    );
    assert!(wrong.is_empty(), "{wrong:?}, in {}", built.tests.display());
}
