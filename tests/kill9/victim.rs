//! The victim as its parent sees it: the program, its records, and the contents that a seed stands for.

use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, thread};

use crate::{common, program};

/// The program, compiled once against the library of this build.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| program::build("kill9", "tests/kill9/victim.c", &[]))
}

/// An empty directory for a store, in a place that a failure leaves to be looked at.
pub fn fresh_dir(name: &str) -> PathBuf {
    let dir = common::scratch_dir("kill9").join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.parent().expect("a parent")).expect("a directory");
    dir
}

/// The monotonic clock that the records' times are of.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours to be written to.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) }, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

// ---- records ---------------------------------------------------------------------------------------------------------

/// What a record tells, by the number that the victim has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Opening,
    Opened,
    Closing,
    Closed,
    Intent,
    Acknowledged,
    Returned,
    Delivered,
    Saving,
    Saved,
    Child,
    Committing,
    Committed,
    Cancelling,
}

/// `struct record` of the victim.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    pub told: Told,
    pub thread: u32,
    pub number: u32,
    pub count: u32,
    pub sequence: u64,
    pub clock: u64,
    pub time_ns: u64,
    pub value: u64,
    pub id: [u8; 16],
    pub bound: u32,
}

const RECORD_BYTES: usize = 80;

impl Record {
    fn decode(bytes: &[u8]) -> Record {
        const ALL: [Told; 14] = [
            Told::Opening,
            Told::Opened,
            Told::Closing,
            Told::Closed,
            Told::Intent,
            Told::Acknowledged,
            Told::Returned,
            Told::Delivered,
            Told::Saving,
            Told::Saved,
            Told::Child,
            Told::Committing,
            Told::Committed,
            Told::Cancelling,
        ];
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        Record {
            told: ALL[u32_at(0) as usize - 1],
            thread: u32_at(4),
            number: u32_at(8),
            count: u32_at(12),
            sequence: u64_at(16),
            clock: u64_at(24),
            time_ns: u64_at(32),
            value: u64_at(40),
            id: bytes[48..64].try_into().expect("16 bytes"),
            bound: u32_at(64),
        }
    }
}

// ---- the process -----------------------------------------------------------------------------------------------------

/// A running victim and its pipe. Dropped, it is killed.
pub struct Victim {
    child: Child,
    pipe: ChildStdout,
    pub stdin: Option<ChildStdin>,
    bytes: Vec<u8>,
    used: usize,
}

impl Victim {
    pub fn start(arguments: &[&str], dir: &Path, more: &[String]) -> Victim {
        let mut child = Command::new(program())
            .args(arguments)
            .arg(dir)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the victim starts");
        let (pipe, stdin) = (child.stdout.take().expect("a pipe"), child.stdin.take());
        // A victim that waits for its parent to read is killed there and nowhere else. Refused, the pipe stays small.
        // SAFETY: this command takes an integer.
        unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, 1 << 20) };
        Victim { child, pipe, stdin, bytes: Vec::new(), used: 0 }
    }

    /// The next record; `None` when all who could write are gone.
    pub fn next(&mut self) -> Option<Record> {
        while self.bytes.len() - self.used < RECORD_BYTES {
            let mut chunk = [0; 64 << 10];
            match self.pipe.read(&mut chunk) {
                Ok(0) => return None,
                Ok(read) => {
                    self.bytes.drain(..self.used);
                    self.used = 0;
                    self.bytes.extend_from_slice(&chunk[..read]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the victim's pipe: {error}"),
            }
        }
        let record = Record::decode(&self.bytes[self.used..]);
        self.used += RECORD_BYTES;
        Some(record)
    }

    /// The next record, which is to be of this type.
    pub fn expect(&mut self, told: Told) -> Record {
        let record = self.next().expect("the victim ended by itself");
        assert_eq!(record.told, told);
        record
    }

    /// Sends the signal when the clock has come to `time_ns`.
    pub fn kill_at(&mut self, time_ns: u64) {
        if let Some(wait) = time_ns.checked_sub(now_ns()) {
            thread::sleep(Duration::from_nanos(wait));
        }
        self.kill();
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
    }

    /// Waits for the end that the signal brings.
    pub fn bury(mut self) {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.wait().expect("its end");
        assert_eq!(status.signal(), Some(libc::SIGKILL), "the victim failed by itself: {status}");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---- contents --------------------------------------------------------------------------------------------------------

/// splitmix64, as the victim has it.
#[derive(Debug, Clone, Copy)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The writers, by thread, that use keys and fences.
pub const KEYING: u32 = 1;
pub const FENCING: u32 = 2;

/// Who appended an event: it stands at the start of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    pub life: u32,
    pub thread: u32,
    pub call: u32,
    pub item: u32,
}

impl Name {
    pub fn of_payload(payload: &[u8]) -> Option<Name> {
        let word = |at: usize| payload.get(at..at + 4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("4")));
        Some(Name { life: word(0)?, thread: word(4)?, call: word(8)?, item: word(12)? })
    }

    /// The bytes that its payload begins with, which are its key too where it has one.
    pub fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (place, word) in bytes.chunks_exact_mut(4).zip([self.life, self.thread, self.call, self.item]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// What the victim's `fill` makes of a seed.
#[derive(Debug, PartialEq, Eq)]
pub struct Content {
    pub entity: String,
    pub scope: String,
    pub kind: u16,
    pub payload: Vec<u8>,
}

impl Content {
    pub fn of(seed: u64, bound: u32, name: Name) -> Content {
        let mut random = Random(seed.wrapping_add(name.item.into()));
        let chosen = random.next();
        let length = 16 + ((chosen >> 32) % u64::from(bound)) as usize;
        let mut payload = Vec::with_capacity(length + 8);
        payload.extend_from_slice(&name.bytes());
        while payload.len() < length {
            payload.extend_from_slice(&random.next().to_le_bytes());
        }
        payload.truncate(length);
        Content {
            entity: format!(
                "{}:{}",
                if name.thread == FENCING { 'f' } else { 'e' },
                if chosen & 1 == 1 { chosen >> 1 & 7 } else { chosen >> 1 & 511 }
            ),
            scope: format!("s{}", chosen >> 10 & 3),
            kind: 0x1000 | (chosen >> 12 & 0xff) as u16,
            payload,
        }
    }
}
