//! R5: kill -9 at any moment: what was acknowledged is there, nothing else is, and the store opens by itself (README.md, "What
//! survives what"; of the store's regressions 5, 6, 12, 24 and 26). A victim in C uses a store through the shared library
//! and is killed; its parent, this test, heard what was announced and what was acknowledged, and holds the store against it.
//!
//! Several victims live at once, each on stores of its own. Where in the engine a kill lands is up to the machine: a seed repeats a
//! run in kind, not instruction by instruction.

mod common;
#[path = "kill9/oracle.rs"]
mod oracle;
#[path = "common/program.rs"]
mod program;
#[path = "common/reliability.rs"]
mod reliability;
#[path = "kill9/victim.rs"]
mod victim;

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use batpak::error::Error;
use batpak::{Store, StoreOptions};

use oracle::Oracle;
use victim::{Random, Record, Told, Victim};

const ROUNDS_DEFAULT: u64 = 60;
/// Victims that live at once. They mostly wait for the disk.
const LANES: u64 = 4;
const SEED_DEFAULT: u64 = 0x6B69_6C6C_2D39;
/// Kills that one store takes before the next store begins.
const ROUNDS_PER_STORE: u64 = 5;
/// Where the first frame of a segment file stands (docs/FORMAT.md).
const SEGMENT_HEADER_BYTES: u64 = 128;
const OPEN_LONGEST: Duration = Duration::from_secs(1);
const LOCKED_LONGEST: Duration = Duration::from_millis(100);

// ---- where to kill ---------------------------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Append,
    Rotation,
    Checkpoint,
    Open,
    Close,
    /// The commit of a fence.
    Fence,
    /// A worker's handler has answered, and its place is being saved.
    Worker,
    /// A segment was left and has no index yet.
    Sealing,
}

const PHASES: [Phase; 8] = [
    Phase::Append,
    Phase::Rotation,
    Phase::Checkpoint,
    Phase::Open,
    Phase::Close,
    Phase::Fence,
    Phase::Worker,
    Phase::Sealing,
];

/// Kills that hit each phase, and how long each takes, which says within what time to kill.
#[derive(Debug)]
struct Phases {
    hits: [u64; 8],
    /// Per unit.
    usual_ns: [u64; 8],
    /// When, and of how many units.
    began: [Option<(u64, u64)>; 8],
    /// The append in hand leaves its segment.
    leaves: bool,
}

/// What the time of a phase grows with: for a big append that rotates the payloads, else nothing.
fn units(phase: Phase, record: &Record) -> u64 {
    if phase == Phase::Rotation { u64::from(record.count) * u64::from(record.bound) / 1024 } else { 1 }
}

impl Phases {
    fn new() -> Phases {
        let usual_ns = [1_000_000, 2_000, 2_000_000, 4_000_000, 3_000_000, 500_000, 2_000_000, 3_000_000];
        Phases { hits: [0; 8], usual_ns, began: [None; 8], leaves: false }
    }

    /// The phase that was hit least is next.
    fn next_aim(&self) -> Phase {
        PHASES[(0..PHASES.len()).min_by_key(|&at| self.hits[at]).expect("some")]
    }

    /// Notes when phases begin and end. Returns the one that the record begins.
    fn hear(&mut self, record: &Record, oracle: &Oracle) -> Option<Phase> {
        let (began, ended) = match record.told {
            Told::Opening => (Some(Phase::Open), None),
            Told::Opened => (None, Some(Phase::Open)),
            Told::Closing => (Some(Phase::Close), None),
            Told::Closed => (None, Some(Phase::Close)),
            Told::Intent if oracle.under_way.rotating && record.count > oracle::BIG_ITEMS => {
                self.leaves = true;
                (Some(Phase::Rotation), None)
            }
            Told::Returned if record.thread == 0 && std::mem::take(&mut self.leaves) => (Some(Phase::Sealing), None),
            Told::Committing => (Some(Phase::Fence), None),
            Told::Committed => (None, Some(Phase::Fence)),
            Told::Saving if record.number == 1 => (Some(Phase::Worker), None),
            Told::Saved if record.number == 1 => (None, Some(Phase::Worker)),
            Told::Intent => (Some(Phase::Append), None),
            Told::Acknowledged if record.thread == 0 && record.count == 0 => {
                let is_big = self.began[Phase::Rotation as usize].is_some();
                (None, Some(if is_big { Phase::Rotation } else { Phase::Append }))
            }
            Told::Saving if record.number == 0 => (Some(Phase::Checkpoint), None),
            Told::Saved if record.number == 0 => (None, Some(Phase::Checkpoint)),
            _ => (None, None),
        };
        if let Some(phase) = began {
            self.began[phase as usize] = Some((record.time_ns, units(phase, record)));
        }
        if let Some(phase) = ended {
            if let Some((began_ns, units)) = self.began[phase as usize].take() {
                let usual_ns = &mut self.usual_ns[phase as usize];
                *usual_ns = (*usual_ns * 7 + record.time_ns.saturating_sub(began_ns) / units) / 8;
            }
        }
        began
    }

    fn count(&mut self, oracle: &Oracle, is_sealing: bool) {
        self.began = [None; 8];
        self.leaves = false;
        let now = oracle.under_way;
        let hits = [
            now.appending,
            now.rotating,
            now.saving,
            now.opening,
            now.closing,
            now.fencing,
            now.acknowledging,
            is_sealing,
        ];
        self.hits.iter_mut().zip(hits).for_each(|(count, hit)| *count += u64::from(hit));
    }
}

/// Returns as the first frame comes to a segment that is not there yet. Writing a big batch takes a tenth of its append:
/// kills at random times would seldom leave half of one.
fn watch_for_frames(dir: &Path) {
    let newest = || segment_bases(dir).pop();
    let (before, started) = (newest(), Instant::now());
    while started.elapsed() < Duration::from_millis(100) {
        let now = newest();
        let Some(base) = now.as_ref().filter(|_| now != before) else { continue };
        let Ok(file) = fs::File::open(dir.join(format!("segments/{base}.seg"))) else { return };
        let mut byte = [0];
        while started.elapsed() < Duration::from_millis(100) {
            if file.read_at(&mut byte, SEGMENT_HEADER_BYTES).is_ok_and(|read| read == 1) && byte != [0] {
                return;
            }
        }
    }
}

/// Lets a victim run, and kills it at a random moment of the phase: of its n-th time.
fn live_and_die(dir: &Path, oracle: &mut Oracle, phases: &mut Phases, random: &mut Random, aim: Phase) {
    let is_new = !dir.exists();
    let times = match aim {
        Phase::Append => 60,
        Phase::Rotation => 4,
        Phase::Checkpoint | Phase::Fence | Phase::Worker => 20,
        Phase::Sealing => 3,
        Phase::Open | Phase::Close => 3,
    };
    // A new store's first opening makes it, which takes longer than another one.
    let (times, longest) = if is_new { (1, 2200) } else { (times, 1100) };
    let mut countdown = 1 + random.below(times);
    let (thousandths, in_midst) = (random.below(longest), aim == Phase::Rotation && random.below(3) > 0);
    let flag = |is: bool| String::from(if is { "1" } else { "0" });
    let is_short = matches!(aim, Phase::Open | Phase::Close);
    let more = [
        oracle.life.to_string(),
        random.next().to_string(),
        flag(is_short),
        flag(matches!(aim, Phase::Rotation | Phase::Sealing)),
    ];
    let mut victim = Victim::start(&["run"], dir, &more);
    while let Some(record) = victim.next() {
        oracle.hear(&record);
        if phases.hear(&record, oracle) == Some(aim) && countdown > 0 {
            countdown -= 1;
            if countdown == 0 {
                let usual_ns = phases.usual_ns[aim as usize] * units(aim, &record);
                if in_midst {
                    watch_for_frames(dir);
                    victim.kill();
                } else {
                    victim.kill_at(record.time_ns + usual_ns * thousandths / 1000);
                }
            }
        }
    }
    victim.bury();
    phases.count(oracle, is_sealing(dir));
}

// ---- what the kill left ----------------------------------------------------------------------------------------------

fn names_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
}

/// The first sequences of the segments, as their files' names have them, in order.
fn segment_bases(dir: &Path) -> Vec<String> {
    let names = names_in(&dir.join("segments"));
    let mut bases: Vec<_> = names.iter().filter_map(|name| name.strip_suffix(".seg").map(str::to_owned)).collect();
    bases.retain(|base| base.bytes().all(|byte| byte.is_ascii_digit()));
    bases.sort_unstable();
    bases
}

/// Files under way to their names, anywhere in the store.
fn temporaries(dir: &Path) -> Vec<String> {
    let dirs = [dir.to_owned(), dir.join("segments"), dir.join("cursors")];
    dirs.iter().flat_map(|dir| names_in(dir)).filter(|name| name.ends_with(".tmp")).collect()
}

/// Whether a segment that was left has no index yet.
fn is_sealing(dir: &Path) -> bool {
    let mut left = segment_bases(dir);
    left.pop();
    left.iter().any(|base| !dir.join(format!("segments/{base}.idx")).exists())
}

/// How a round leaves the store to the next victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// As the kill left it: the victim recovers it, and may be killed at that.
    Untouched,
    /// Recovered, and not closed.
    Recovered,
    /// Closed.
    Closed,
}

fn open(dir: &Path, read_only: bool) -> batpak::Result<Store> {
    Store::open(dir, &StoreOptions { read_only, segment_bytes: 1 << 20, ..StoreOptions::default() })
}

#[derive(Debug, Default, Clone)]
struct Run {
    longest_open: Duration,
    /// Rounds whose victim died before its store was ever open.
    making: u64,
    /// Rounds that left an append that had to be cut.
    cut: u64,
    /// Of the latter: batches with whole items on disk.
    halves: u64,
    retried: u64,
    cancelled: u64,
}

impl Run {
    fn check(&mut self, dir: &Path, oracle: &mut Oracle, leave: Leave, random: &mut Random) {
        // Nothing was promised of a store whose making was cut short, but that it can be made.
        let read_only = leave == Leave::Untouched && oracle.made;
        let started = Instant::now();
        let store = match open(dir, read_only) {
            Ok(store) => store,
            Err(error) => return oracle.wrong.push(format!("the store does not open: {error}")),
        };
        let took = started.elapsed();
        self.longest_open = self.longest_open.max(took);
        if took > OPEN_LONGEST {
            oracle.wrong.push(format!("opening took {took:?}"));
        }
        if !read_only {
            oracle.made = true;
            let left = temporaries(dir);
            if !left.is_empty() {
                oracle.wrong.push(format!("after an opening for writing there are {left:?}"));
            }
        }
        self.cut += u64::from(store.stats().cut_bytes > 0);
        self.halves += u64::from(store.stats().cut_events > 0);
        oracle.check(&store);
        if !read_only && oracle.wrong.is_empty() {
            oracle.retry_keyed(&store, random);
        }
        if leave == Leave::Closed {
            if let Err(error) = store.close(Duration::from_secs(20)) {
                oracle.wrong.push(format!("the store does not close: {error}"));
            }
        }
    }
}

/// One victim after the other, and what came of them.
struct Lane {
    number: u64,
    seed: u64,
    random: Random,
    phases: Phases,
    run: Run,
    oracle: Oracle,
    dir: PathBuf,
    rounds: u64,
    lost: u64,
    invented: u64,
    acknowledged: u64,
    wrong: Option<String>,
}

impl Lane {
    fn new(number: u64, seed: u64) -> Lane {
        Lane {
            number,
            seed,
            random: Random(seed.wrapping_add(number)),
            phases: Phases::new(),
            run: Run::default(),
            oracle: Oracle::default(),
            dir: PathBuf::new(),
            rounds: 0,
            lost: 0,
            invented: 0,
            acknowledged: 0,
            wrong: None,
        }
    }

    /// A life, its end, and what that left.
    fn round(&mut self) {
        if self.rounds % ROUNDS_PER_STORE == 0 {
            let _ = fs::remove_dir_all(&self.dir);
            self.oracle = Oracle::default();
            self.dir = victim::fresh_dir(&format!("store-{}-{}", self.number, self.rounds / ROUNDS_PER_STORE));
        }
        self.oracle.begin_life(self.rounds as u32);
        // The first kill of each store is to come while it is being made.
        let aim = if self.dir.exists() { self.phases.next_aim() } else { Phase::Open };
        let leave = [Leave::Untouched, Leave::Recovered, Leave::Closed][self.random.below(3) as usize];
        live_and_die(&self.dir, &mut self.oracle, &mut self.phases, &mut self.random, aim);
        self.run.making += u64::from(!self.oracle.made);
        self.run.check(&self.dir, &mut self.oracle, leave, &mut self.random);
        self.acknowledged += std::mem::take(&mut self.oracle.acknowledged);
        self.lost += std::mem::take(&mut self.oracle.lost);
        self.invented += std::mem::take(&mut self.oracle.invented);
        self.run.retried += std::mem::take(&mut self.oracle.retried);
        self.run.cancelled += std::mem::take(&mut self.oracle.cancelled);
        if !self.oracle.wrong.is_empty() {
            let (seed, number, path) = (self.seed, self.number, self.dir.display());
            self.wrong = Some(format!(
                "RELIABILITY_SEED={seed:#x}, victim {number}, its round {}, {aim:?}, {leave:?}, {path}:\n  {}",
                self.rounds,
                self.oracle.wrong.join("\n  ")
            ));
        }
        self.rounds += 1;
    }
}

/// Lets all lanes run until there were so many rounds, or one has found something.
fn run_lanes(rounds: u64, seed: u64) -> Vec<Lane> {
    victim::program();
    let (next, is_over, done) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for number in 0..LANES {
            let (next, is_over, done) = (&next, &is_over, &done);
            scope.spawn(move || {
                let mut lane = Lane::new(number, seed);
                while next.fetch_add(1, Ordering::Relaxed) < rounds && !is_over.load(Ordering::Relaxed) {
                    lane.round();
                    is_over.fetch_or(lane.wrong.is_some(), Ordering::Relaxed);
                }
                if lane.wrong.is_none() {
                    let _ = fs::remove_dir_all(&lane.dir);
                }
                done.lock().expect("no panic").push(lane);
            });
        }
    });
    done.into_inner().expect("no panic")
}

/// The promise: after kill -9 at any moment, also inside open and close, every acknowledged event is there as it was
/// acknowledged, PROCESS ones too; no other than announced ones are; calls are whole, and so are fences; a keyed append that is tried
/// again has its first answer; checkpoints skip nothing.
#[test]
fn row_r5_killed_at_any_moment_nothing_is_lost_or_invented() {
    let (rounds, seed) = (reliability::trials(ROUNDS_DEFAULT), reliability::seed(SEED_DEFAULT));
    let started = Instant::now();
    let lanes = run_lanes(rounds, seed);
    let sum = |of: fn(&Lane) -> u64| lanes.iter().map(of).sum::<u64>();
    let done = sum(|lane| lane.rounds);
    let hits: Vec<u64> = (0..PHASES.len()).map(|at| lanes.iter().map(|lane| lane.phases.hits[at]).sum()).collect();
    let longest = lanes.iter().map(|lane| lane.run.longest_open).max().unwrap_or_default();
    let inside: Vec<String> = PHASES.iter().zip(&hits).map(|(phase, hits)| format!("{phase:?} {hits}")).collect();
    let what = format!(
        "kill -9 inside {}; stores half made {}, appends cut {}, in midst of a batch {}; longest open {} ms; events acknowledged {}, \
         lost {}, invented {}; cancelled {}; keyed appends tried again {}; {:.0} s",
        inside.join(", "),
        sum(|lane| lane.run.making),
        sum(|lane| lane.run.cut),
        sum(|lane| lane.run.halves),
        longest.as_millis(),
        sum(|lane| lane.acknowledged),
        sum(|lane| lane.lost),
        sum(|lane| lane.invented),
        sum(|lane| lane.run.cancelled),
        sum(|lane| lane.run.retried),
        started.elapsed().as_secs_f64(),
    );
    let wrong: Vec<&str> = lanes.iter().filter_map(|lane| lane.wrong.as_deref()).collect();
    reliability::report("R5", done, wrong.len() as u64, seed, &what);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A few kills may miss any of them.
    for (phase, hits) in PHASES.iter().zip(&hits).filter(|_| rounds >= 40) {
        assert!(*hits >= rounds / 40, "{phase:?} was hit {hits} times in {rounds} rounds");
    }
}

// ---- the lock --------------------------------------------------------------------------------------------------------

/// Opens a store whose holder was just killed. Returns for how long it was still locked.
fn open_after_kill(dir: &Path) -> (Store, Duration) {
    let (killed, mut locked) = (Instant::now(), Duration::ZERO);
    loop {
        match open(dir, false) {
            Ok(store) => return (store, locked),
            Err(Error::Locked { .. }) => locked = killed.elapsed(),
            Err(error) => panic!("{error}"),
        }
        assert!(locked < Duration::from_secs(10), "still locked after {locked:?}");
        std::thread::yield_now();
    }
}

/// The promise: a store is free within 100 ms of its holder's death, and nobody has it before.
#[test]
fn a_killed_holders_lock_is_free_at_once() {
    for _ in 0..5 {
        let dir = victim::fresh_dir("held");
        let mut victim = Victim::start(&["hold"], &dir, &[]);
        victim.expect(Told::Opened);
        assert!(matches!(open(&dir, false), Err(Error::Locked { .. })), "two have the store");
        victim.kill();
        let (store, locked) = open_after_kill(&dir);
        assert!(locked < LOCKED_LONGEST, "locked for {locked:?} after its holder was killed");
        assert_eq!(store.watermarks().visible, 1);
        victim.bury();
    }
}

/// The bug: a lock belongs to an open file that a forked child shares, so that a child which outlives its killed parent
/// keeps the store locked.
#[test]
fn regression_26_a_forked_child_does_not_keep_a_killed_parents_lock() {
    let dir = victim::fresh_dir("forked");
    let mut victim = Victim::start(&["fork"], &dir, &[]);
    let told = [victim.next(), victim.next()].map(|record| record.expect("the victim ended by itself").told);
    assert!(told.contains(&Told::Opened) && told.contains(&Told::Child), "{told:?}");
    victim.kill();
    let (store, locked) = open_after_kill(&dir);
    assert!(locked < LOCKED_LONGEST, "locked for {locked:?} after its holder was killed");
    assert_eq!(store.watermarks().visible, 1);
    // The child was there all along: it answers, and ends when its pipe does.
    let mut stdin = victim.stdin.take().expect("a pipe");
    stdin.write_all(b"?").expect("the child reads");
    victim.expect(Told::Child);
    drop(stdin);
    assert!(victim.next().is_none());
    victim.bury();
}
