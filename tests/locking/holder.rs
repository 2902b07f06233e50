//! The holder as its parent sees it: a program that does with stores what it is told.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use crate::{common, program};

/// What a test finds wrong, in words.
pub type Trial = Result<(), String>;

pub const OK: i64 = 0;
pub const LOCKED: i64 = -63;
pub const ALREADY_EXISTS: i64 = -62;
pub const IO: i64 = -68;
pub const READ_ONLY: u64 = 1;
pub const EXCLUSIVE: u64 = 4;
/// What the holder answers when the machine does not let it.
pub const NOT_POSSIBLE: i64 = 1000;

/// The program, compiled once against the library of this build.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| program::build("locking", "tests/locking/holder.c", &[]))
}

/// An empty directory for a trial, in a place that a failure leaves to be looked at.
pub fn fresh_dir(name: &str) -> PathBuf {
    let dir = common::scratch_dir("locking").join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// A running holder. Dropped, it is killed, and what it forked ends.
pub struct Holder {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Holder {
    pub fn start() -> Holder {
        let mut child =
            Command::new(program()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the holder starts");
        let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Holder { child, stdin, stdout: BufReader::new(stdout) }
    }

    /// One that has the store open in its slot 0.
    pub fn of(path: &Path) -> Result<Holder, String> {
        let mut holder = Holder::start();
        holder.expect("open", [0, 0, 0], &[path], OK)?;
        Ok(holder)
    }

    /// Gives a command, whose answer is to be heard.
    pub fn tell(&mut self, command: &str, numbers: [u64; 3], paths: &[&Path]) {
        let mut line = format!("{command} {} {} {}", numbers[0], numbers[1], numbers[2]);
        for path in paths {
            line.push(' ');
            line.push_str(path.to_str().expect("UTF-8"));
        }
        line.push('\n');
        // One that is gone is noticed by its missing answer.
        let _ = self.stdin.write_all(line.as_bytes());
    }

    /// The next answer; `None` when the holder is gone.
    pub fn hear(&mut self) -> Option<i64> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim().parse().expect("a number")),
        }
    }

    pub fn ask(&mut self, command: &str, numbers: [u64; 3], paths: &[&Path]) -> Result<i64, String> {
        self.tell(command, numbers, paths);
        self.hear().ok_or_else(|| format!("{command} {numbers:?} {paths:?} ended the holder"))
    }

    pub fn expect(&mut self, command: &str, numbers: [u64; 3], paths: &[&Path], answer: i64) -> Trial {
        let actual = self.ask(command, numbers, paths)?;
        if actual == answer {
            return Ok(());
        }
        Err(format!("{command} {numbers:?} {paths:?} is {actual}, not {answer}"))
    }

    pub fn open(&mut self, path: &Path, answer: i64) -> Trial {
        self.expect("open", [0, 0, 0], &[path], answer)
    }

    /// Opens and closes.
    pub fn passes(&mut self, path: &Path) -> Trial {
        self.open(path, OK)?;
        self.close()
    }

    pub fn append(&mut self, events: u64) -> Trial {
        self.expect("append", [0, events, 0], &[], OK)
    }

    pub fn close(&mut self) -> Trial {
        self.expect("close", [0, 0, 0], &[], OK)
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: `kill` takes no pointers; the child is ours and was not waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
    }

    /// Kills it and waits until it is gone. What it forked stays while `self` does.
    pub fn die(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("its end");
    }

    /// Tells it to exit with its stores open, and waits until it is gone.
    pub fn leave(&mut self) {
        self.tell("exit", [0; 3], &[]);
        self.child.wait().expect("its end");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
