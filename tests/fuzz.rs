//! Row R11 of the scorecard: hostile bytes to every decoder, to whole stores and to the C ABI: nothing panics, and memory stays in proportion.
//!
//! Inputs are changed copies of the seeds in `fuzz/corpus`, mostly with right checksums. The seed and the step of a finding make its input again:
//! `RELIABILITY_SEED=0x5EED FUZZ_STEP=store:441` runs that one alone, and with `FUZZ_SAVE=name` it is kept in `fuzz/found`, where what was found once is
//! tried for ever. `fuzz/` has the same targets for libFuzzer.

#[path = "fuzz/disk.rs"]
mod disk;
#[path = "fuzz/ffi.rs"]
mod ffi;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "common/reliability.rs"]
mod reliability;
#[path = "fuzz/reseal.rs"]
mod reseal;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "fuzz/stores.rs"]
mod stores;
#[path = "fuzz/targets.rs"]
mod targets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use mutate::{Random, mutate};
use targets::{BYTES_PER_BYTE, TARGETS, Target};

/// Counts what each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn count(bytes: isize) {
    // A thread that ends has none of this any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller says.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller says.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // Both are there while it moves.
        count(bytes as isize);
        count(-(layout.size() as isize));
        // SAFETY: as the caller says.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// No execution takes longer, on however slow a machine.
const SLOWEST: Duration = Duration::from_secs(30);

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn committed(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(corpus().join(target))
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed")).collect()
}

/// Runs a target on an input. What went wrong, if anything did; and the most memory held.
fn execute(target: &Target, input: &[u8]) -> (Option<String>, usize) {
    PANICS.take();
    let before = HELD.get();
    PEAK.set(before);
    let started = Instant::now();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = started.elapsed();
    let most = (PEAK.get() - before) as usize;
    // Also one that the C ABI caught.
    let mut wrong = PANICS.take().into_iter().next();
    if outcome.is_err() && wrong.is_none() {
        wrong = Some(String::from("a panic without a word"));
    }
    if most > BYTES_PER_BYTE * input.len() + target.memory {
        wrong = wrong.or(Some(format!("{most} bytes of memory for {} bytes of input", input.len())));
    }
    if took > SLOWEST {
        wrong = wrong.or(Some(format!("it took {took:?}")));
    }
    (wrong, most)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Finding {
    target: &'static str,
    step: u64,
    input: Vec<u8>,
    wrong: String,
}

/// The input of a target's step: first the seeds as they are.
fn input(number: u64, seeds: &[Vec<u8>], seed: u64, step: u64) -> Vec<u8> {
    match seeds.get(step as usize) {
        Some(input) => input.clone(),
        None => mutate(seeds, &mut Random::new(seed ^ (number << 56) ^ step.wrapping_mul(0x9E37_79B9))),
    }
}

/// The one step that `FUZZ_STEP` names, with the panic as it comes.
fn single(step: &str, seed: u64) {
    let (name, step) = step.split_once(':').expect("FUZZ_STEP=target:step");
    let found = (0u64..).zip(&TARGETS).find(|(_, target)| target.name == name);
    let (number, target) = found.expect("a target's name");
    let input = input(number, &committed(name), seed, step.parse().expect("a step"));
    if let Ok(saved) = std::env::var("FUZZ_SAVE") {
        let directory = corpus().with_file_name("found").join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(saved), &input).unwrap();
    }
    println!("{}", hex(&input));
    (target.run)(&input);
    assert_eq!(execute(target, &input).0, None);
}

/// What each thread executes: the target's number, the step, and since when.
type Running = Mutex<[Option<(u64, u64, Instant)>; 2]>;

/// Until the run is over, looks for an execution that does not end: says which it is, and ends the process.
fn watch(running: &Running, seed: u64, over: &mpsc::Receiver<()>) {
    while over.recv_timeout(SLOWEST / 10) == Err(mpsc::RecvTimeoutError::Timeout) {
        let hangs = running.lock().unwrap().iter().flatten().find(|run| run.2.elapsed() > 2 * SLOWEST).copied();
        if let Some((number, step, _)) = hangs {
            let target = &TARGETS[number as usize];
            let input = input(number, &committed(target.name), seed, step);
            println!("R11 {}, seed {seed:#x}, step {step}: it does not end\n  input {}", target.name, hex(&input));
            reliability::report("R11", step, 1, seed, "an execution does not end");
            process::exit(1);
        }
    }
}

/// A share of all executions: of each target every second step.
fn fuzz(
    trials: u64,
    seed: u64,
    part: u64,
    running: &Running,
    findings: &Mutex<Vec<Finding>>,
) -> Vec<(u64, usize, Duration)> {
    let mut done = Vec::new();
    for (number, target) in (0u64..).zip(&TARGETS) {
        let seeds = committed(target.name);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        let (mut steps, mut most, started) = (0, 0, Instant::now());
        for step in (part..(trials * target.share).div_ceil(1000)).step_by(2) {
            let input = input(number, &seeds, seed, step);
            running.lock().unwrap()[part as usize] = Some((number, step, Instant::now()));
            let (wrong, memory) = execute(target, &input);
            running.lock().unwrap()[part as usize] = None;
            most = most.max(memory);
            steps += 1;
            if let Some(wrong) = wrong {
                findings.lock().unwrap().push(Finding { target: target.name, step, input, wrong });
            }
        }
        done.push((steps, most, started.elapsed()));
    }
    done
}

#[test]
fn row_r11_hostile_bytes_panic_nowhere_and_take_memory_in_proportion() {
    const { assert!(cfg!(debug_assertions), "without debug assertions less is found") };
    let (trials, seed) = (reliability::trials(20_000), reliability::seed(0x5EED));
    if let Ok(step) = std::env::var("FUZZ_STEP") {
        return single(&step, seed);
    }
    panic::set_hook(Box::new(|info| {
        let text = info.to_string().replace('\n', " ");
        let _ = PANICS.try_with(|panics| panics.borrow_mut().push(text));
    }));
    let (findings, running) = (Mutex::default(), Running::default());
    let (ended, over) = mpsc::channel();
    let parts: Vec<_> = std::thread::scope(|scope| {
        let (findings, running) = (&findings, &running);
        scope.spawn(move || watch(running, seed, &over));
        let threads = [0, 1].map(|part| scope.spawn(move || fuzz(trials, seed, part, running, findings)));
        let parts = threads.into_iter().map(|thread| thread.join()).collect();
        drop(ended);
        parts
    });
    drop(panic::take_hook());
    let parts: Vec<_> = parts.into_iter().map(|part| part.expect("the harness itself")).collect();
    let mut executions = 0;
    for (at, target) in TARGETS.iter().enumerate() {
        let (one, two) = (parts[0][at], parts[1][at]);
        executions += one.0 + two.0;
        let most = one.1.max(two.1) >> 10;
        println!("{:>14}: {:>6} executions, {most:>5} KiB at most, {:?}", target.name, one.0 + two.0, one.2.max(two.2));
    }
    let findings = findings.into_inner().unwrap();
    let mut told: Vec<String> = Vec::new();
    for finding in &findings {
        // One of a kind.
        let kind =
            format!("{} {}", finding.target, finding.wrong.chars().filter(|c| !c.is_ascii_digit()).collect::<String>());
        if told.contains(&kind) || told.len() == 20 {
            continue;
        }
        told.push(kind);
        let Finding { target, step, input, wrong } = finding;
        println!("R11 {target}, seed {seed:#x}, step {step}: {wrong}\n  input {}", hex(input));
    }
    reliability::report("R11", executions, findings.len() as u64, seed, "executions of fuzz targets");
    assert!(findings.is_empty(), "{} of {executions} executions went wrong", findings.len());
}

/// The inputs that a defect was found with stay harmless.
#[test]
fn found_inputs_stay_harmless() {
    for target in &TARGETS {
        for input in committed(&format!("../found/{}", target.name)) {
            let (wrong, _) = execute(target, &input);
            assert_eq!(wrong, None, "{}: {}", target.name, hex(&input));
        }
    }
}

/// With `FUZZ_WRITE_SEEDS=1` writes the seeds anew; else holds that there are some, not too many, and that they are good.
#[test]
fn seeds_are_small_and_good() {
    let writes = std::env::var_os("FUZZ_WRITE_SEEDS").is_some();
    let mut bytes = 0;
    for target in &TARGETS {
        let directory = corpus().join(target.name);
        if writes {
            let _ = fs::remove_dir_all(&directory);
            fs::create_dir_all(&directory).unwrap();
            for (number, seed) in seeds::of(target.name).iter().enumerate() {
                fs::write(directory.join(format!("{number:02}")), seed).unwrap();
            }
        }
        for seed in committed(target.name) {
            bytes += seed.len();
            assert_eq!(execute(target, &seed).0, None, "{}", target.name);
        }
    }
    assert!((1..200 << 10).contains(&bytes), "{bytes} bytes of seeds");
}
