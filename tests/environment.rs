//! Rows R9, R13 and R14 of the scorecard: the disk is full, the environment is hostile, somebody damages the files of an
//! open store. All of it on a real file system and through the C ABI: the programs are in `tests/environment`.
//!
//! File systems of their own are mounted in a mount namespace of the program that uses them: they are gone with it,
//! however it ends. Where a machine does not allow that, it is said and skipped.

mod common;
#[path = "common/program.rs"]
mod program;
#[path = "common/reliability.rs"]
mod reliability;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use batpak::{Error, NewEvent, Store, StoreOptions};

/// A program of `tests/environment`.
fn program(name: &str) -> PathBuf {
    program::build(&format!("environment/{name}"), format!("tests/environment/{name}.c"), &[])
}

/// An empty directory, in a place that a failure leaves to be looked at.
fn fresh_dir(name: &str) -> PathBuf {
    let dir = common::scratch_dir("environment").join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// Runs to the end and prints what was said. Returns whether it succeeded.
fn run(command: &mut Command) -> io::Result<bool> {
    let output = command.output()?;
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        println!("{command:?}: {}", output.status);
    }
    Ok(output.status.success())
}

/// What a program of cases tells of itself in its last line: how many it ran, and how many failed.
fn counts(output: &Output) -> (u64, u64) {
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the program itself ended with {}", output.status);
    let last = text.lines().last().unwrap_or_default();
    let number = |name: &str| last.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok());
    (number("trials=").expect("a number of trials"), number("failures=").expect("a number of failures"))
}

/// Runs a shell script in a mount namespace of its own, as root in a user namespace where we are not root.
fn in_mount_namespace(script: &str, arguments: &[&Path]) -> Command {
    // SAFETY: `geteuid` takes nothing and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    let mut command = Command::new("unshare");
    command.arg(if is_root { "-m" } else { "-rm" }).args(["sh", "-e", "-c", script, "sh"]).args(arguments);
    command
}

/// A small file system, by what mounts it on `$1`.
struct Disk {
    name: &'static str,
    mount: &'static str,
    /// Of so many cycles one is here: syncs take their time on a device.
    share: u64,
}

const DISKS: [Disk; 2] = [
    Disk { name: "tmpfs", mount: "mount -t tmpfs -o size=12m batpak-test \"$1\"", share: 1 },
    Disk {
        name: "ext4",
        mount: "truncate -s 16M \"$1.img\"; mkfs.ext4 -q -F -m 0 \"$1.img\"; mount -o loop \"$1.img\" \"$1\"",
        share: 4,
    },
];

impl Disk {
    fn can_be_mounted(&self, dir: &Path) -> bool {
        let mut command = in_mount_namespace(&format!("{}; test -d \"$1\"", self.mount), &[dir]);
        let output = command.output();
        let why = match &output {
            Ok(output) if output.status.success() => return true,
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
            Err(error) => error.to_string(),
        };
        println!("skipped: a small {} of our own: {why}", self.name);
        false
    }
}

/// The promise: a full disk refuses appends and takes nothing away. Reading, closing and opening go on, and with space so does appending.
#[test]
fn row_r9_a_disk_that_is_full_again_and_again_loses_nothing() {
    let (cycles, seed) = (reliability::trials(8), reliability::seed(0x0D15_CF11));
    let program = program("disk_full");
    let (mut done, mut failures) = (0, 0);
    for disk in &DISKS {
        let dir = fresh_dir(disk.name);
        if !disk.can_be_mounted(&dir) {
            continue;
        }
        let script = format!("{}; shift; exec \"$@\"", disk.mount);
        let mut command = in_mount_namespace(&script, &[&dir, &program, &dir]);
        let share = (cycles / disk.share).max(2);
        command.args([share.to_string(), seed.to_string()]);
        println!("{}:", disk.name);
        done += share;
        failures += u64::from(!run(&mut command).expect("unshare"));
    }
    if done == 0 {
        println!(
            "skipped: without a file system of our own no disk can be filled; row R13 has a limit on file sizes in its place"
        );
    }
    reliability::report("R9", done, failures, seed, "fill and free: a tmpfs, a loop-mounted ext4");
    assert_eq!(failures, 0, "RELIABILITY_SEED={seed:#x}: a full disk did damage");
}

/// The promise: what an environment forbids is a documented error, told at once with the path and what to do; when it is over, everything
/// acknowledged is there, and the store works.
#[test]
fn row_r13_a_hostile_environment_is_told_at_once_and_survived() {
    let (trials, seed) = (reliability::trials(100), reliability::seed(0x0E57_11E5));
    // Where somebody who is not root can get at it.
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a directory for everybody");
    let output = Command::new(program("hostile"))
        .arg(dir.path())
        .args([trials.to_string(), seed.to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("the program");
    let (done, failures) = counts(&output);
    reliability::report("R13", done, failures, seed, "limits, permissions, paths, odd files, signals, small stacks");
    if failures > 0 {
        println!("what is left of the cases that failed: {}", dir.keep().display());
    }
    assert_eq!(failures, 0, "RELIABILITY_SEED={seed:#x}: see the names of the cases above");
}

/// The promise: whatever somebody does to the files of an open store, the host lives, and is told the truth or an error that names the file.
#[test]
fn row_r14_damage_to_an_open_store_never_kills_the_host() {
    let (trials, seed) = (reliability::trials(40), reliability::seed(0x0516_B005));
    let (program, dir) = (program("damage"), fresh_dir("damaged"));
    // Half of the trials wait for the disk while the others do not.
    let halves: Vec<_> = [(0, trials.div_ceil(2)), (trials.div_ceil(2), trials / 2)]
        .into_iter()
        .map(|(first, count)| {
            let place = dir.join(first.to_string());
            fs::create_dir_all(&place).expect("a directory");
            let numbers = [count, seed, first].map(|number| number.to_string());
            let mut command = Command::new(&program);
            command.arg(place).args(numbers).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("the program")
        })
        .collect();
    let (mut done, mut failures) = (0, 0);
    for half in halves {
        let (half_done, half_failures) = counts(&half.wait_with_output().expect("the program"));
        (done, failures) = (done + half_done, failures + half_failures);
    }
    reliability::report(
        "R14",
        done,
        failures,
        seed,
        "files of an open store cut, overwritten, deleted, replaced, grown",
    );
    assert_eq!(
        failures,
        0,
        "RELIABILITY_SEED={seed:#x}: see the trials above, what is left of them is in {}",
        dir.display()
    );
}

/// A closed store of three segments, and the names of its segment files, in order.
fn closed_store(dir: &Path) -> Vec<PathBuf> {
    let options = StoreOptions { segment_bytes: 1 << 20, ..StoreOptions::default() };
    let store = Store::open(dir, &options).expect("a store");
    let payload = vec![7; 400_000];
    let event = NewEvent { entity: b"e", scope: b"s", kind: 0x1001, payload: &payload, ..NewEvent::default() };
    for _ in 0..6 {
        store.append(&[event], None, &mut []).expect("an append");
    }
    store.close(Duration::from_secs(20)).expect("a close");
    let entries = fs::read_dir(dir.join("segments")).expect("segments");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort_unstable();
    assert!(paths.len() >= 3, "{paths:?}");
    paths
}

fn assert_missing(dir: &Path, missing: &Path) {
    for read_only in [true, false] {
        let opened = Store::open(dir, &StoreOptions { read_only, ..StoreOptions::default() });
        match opened {
            Err(Error::Corrupt { path, .. }) => assert_eq!(path, missing),
            other => panic!("{missing:?} is missing, and that is {other:?}"),
        }
    }
}

/// The bug (row R14, seed 1, trial 97): the newest segment was deleted, and the store opened without its events and gave their sequences away again.
#[test]
fn a_newest_segment_that_is_gone_is_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let paths = closed_store(&dir.path().canonicalize().expect("a path").join("store"));
    let newest = paths.last().expect("a segment");
    let kept = fs::read(newest).expect("the segment");
    fs::remove_file(newest).expect("a removal");
    assert_missing(&dir.path().join("store"), newest);
    // Whatever else has the name is no segment to be passed over.
    fs::create_dir(newest).expect("a directory");
    assert!(matches!(Store::open(&dir.path().join("store"), &StoreOptions::default()), Err(Error::Io { .. })));
    fs::remove_dir(newest).expect("a removal");
    fs::write(newest, kept).expect("the segment");
    assert_eq!(
        Store::open(&dir.path().join("store"), &StoreOptions::default()).expect("a store").watermarks().visible,
        6
    );
}

/// The bug (row R13, a directory in place of store/segments): a store that had lost all its segments opened as an empty one.
#[test]
fn a_store_without_segments_is_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().canonicalize().expect("a path").join("store");
    let paths = closed_store(&store);
    fs::rename(store.join("segments"), store.join("kept")).expect("a rename");
    assert_missing(&store, &paths[0]);
}
