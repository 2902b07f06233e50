//! Rows R9, R13 and R14 of the scorecard: the disk is full, the environment is hostile, somebody damages the files of an
//! open store. All of it on a real file system and through the C ABI: the programs are in `tests/environment`.
//!
//! File systems of their own are mounted in a mount namespace of the program that uses them: they are gone with it,
//! however it ends. Where a machine does not allow that, it is said and skipped.

mod common;
#[path = "common/reliability.rs"]
mod reliability;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io};

/// A program of `tests/environment`, compiled as strictly as the C suite and against the library of this build.
fn program(name: &str) -> PathBuf {
    let library = common::library_dir(&format!("environment/{name}"));
    let program = common::scratch_dir("environment").join(name).join("program");
    let tests = common::root().join("tests");
    let output = Command::new(env::var("CC").unwrap_or_else(|_| "cc".to_owned()))
        .args(["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-pedantic", "-Werror", "-pthread"])
        .args(env::var("C_TEST_FLAGS").unwrap_or_default().split_whitespace())
        .args(
            ["include", "tests/c", "tests/environment"].map(|dir| format!("-I{}", common::root().join(dir).display())),
        )
        .arg("-o")
        .arg(&program)
        .arg(tests.join("environment").join(name).with_extension("c"))
        .arg("-L")
        .arg(&library)
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .args(["-lbatpak", "-ldl"])
        .output()
        .expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
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
        println!("skipped: without a file system of our own no disk can be filled");
    }
    reliability::report("R9", done, failures, seed, "fill and free: a tmpfs, a loop-mounted ext4");
    assert_eq!(failures, 0, "RELIABILITY_SEED={seed:#x}: a full disk did damage");
}
