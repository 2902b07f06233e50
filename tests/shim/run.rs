//! Runs the victim under the shim: both are compiled once, every run has a directory of its own.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, process};

use crate::report::{Line, parse};
use crate::{common, program};

/// A victim takes 50 milliseconds; one that takes this long hangs.
const HANG_MS: i32 = 120_000;

/// The program and the library that stands before the C library.
pub struct Programs {
    pub victim: PathBuf,
    pub shim: PathBuf,
}

pub fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let shim = common::scratch_dir("shim").join("shim.so");
        let victim = program::build("shim", "tests/shim/victim.c", &[]);
        program::compile("tests/shim/shim.c", &shim, ["-fPIC", "-shared", "-ldl"]);
        Programs { victim, shim }
    })
}

/// Which calls are to fail, and how (shim.c says it for `SHIM_FAULT`).
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub kind: Kind,
    pub first: u64,
    pub last: u64,
    pub every: u64,
    pub errno: i32,
    pub cut: Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    No,
    /// Transfers are cut to half and do not fail.
    All,
    /// The first is cut, those after it fail.
    First,
}

/// Kinds of calls, by the number that the shim has for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Write,
    Read,
    Sync,
    Open,
    Rename,
    Unlink,
    Mkdir,
    Truncate,
    Lock,
    Stat,
    List,
    Resolve,
    Map,
    Alloc,
}

pub const KINDS: usize = 14;

const ALL_KINDS: [Kind; KINDS] = [
    Kind::Write,
    Kind::Read,
    Kind::Sync,
    Kind::Open,
    Kind::Rename,
    Kind::Unlink,
    Kind::Mkdir,
    Kind::Truncate,
    Kind::Lock,
    Kind::Stat,
    Kind::List,
    Kind::Resolve,
    Kind::Map,
    Kind::Alloc,
];

impl Fault {
    /// The k-th call of the kind.
    pub fn once(kind: Kind, k: u64, errno: i32) -> Fault {
        Fault { kind, first: k, last: k, every: 1, errno, cut: Cut::No }
    }

    /// The k-th and all after it.
    pub fn for_ever(kind: Kind, k: u64, errno: i32) -> Fault {
        Fault { last: u64::MAX, ..Fault::once(kind, k, errno) }
    }

    pub fn is_for_ever(&self) -> bool {
        self.last == u64::MAX
    }

    pub fn as_text(&self) -> String {
        let Fault { kind, first, last, every, errno, cut } = *self;
        format!("{}:{first}:{last}:{every}:{errno}:{}", kind as u8, cut as u8)
    }

    pub fn from_text(text: &str) -> Fault {
        let numbers: Vec<u64> = text.split(':').map(|number| number.parse().expect("a number")).collect();
        let [kind, first, last, every, errno, cut] = numbers[..] else { panic!("{text} has not six numbers") };
        let cut = [Cut::No, Cut::All, Cut::First][cut as usize];
        Fault { kind: ALL_KINDS[kind as usize], first, last, every, errno: errno as i32, cut }
    }
}

/// One run of the victim.
pub struct Run {
    /// What calls are counted below; the store is in it.
    pub dir: PathBuf,
    pub lines: Vec<Line>,
    /// How it ended, when not by returning 0 from main.
    pub ended: Option<String>,
    /// What it wrote to its standard error.
    pub errors: String,
}

impl Run {
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    pub fn counts(&self) -> [u64; KINDS] {
        let mut counts = [0; KINDS];
        let told = self.lines.iter().filter_map(|line| match line {
            Line::Count(count) => Some(*count),
            _ => None,
        });
        counts.iter_mut().zip(told).for_each(|(count, told)| *count = told);
        counts
    }

    /// Everything that it left is removed.
    pub fn forget(self) {
        let _ = fs::remove_dir_all(self.dir.parent().expect("a parent"));
    }
}

/// How to run it.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub fault: Option<Fault>,
    /// Allocations from this size on count.
    pub alloc_least: Option<u64>,
    pub logs: bool,
    /// A command to run it under.
    pub under: Vec<String>,
}

/// Runs the victim in a new directory and waits for its end.
pub fn run(mode: &str, more: &[String], plan: &Plan) -> Run {
    let place = new_place();
    let (dir, report, errors) = (place.join("files"), place.join("report"), place.join("errors"));
    fs::create_dir_all(&dir).expect("a directory for the store");
    let Programs { victim, shim } = programs();
    let mut words = plan.under.iter().map(|word| word.replace("{place}", &place.display().to_string()));
    let mut command = match words.next() {
        Some(first) => Command::new(first),
        None => Command::new(victim),
    };
    command.args(words);
    let mut variables = vec![
        (String::from("LD_PRELOAD"), shim.display().to_string()),
        (String::from("SHIM_DIRECTORY"), dir.display().to_string()),
        (String::from("SHIM_REPORT"), report.display().to_string()),
    ];
    variables.extend(plan.fault.map(|fault| (String::from("SHIM_FAULT"), fault.as_text())));
    variables.extend(plan.alloc_least.map(|least| (String::from("SHIM_ALLOC"), least.to_string())));
    variables.extend(plan.logs.then(|| (String::from("SHIM_LOG"), String::from("1"))));
    if plan.under.is_empty() {
        command.envs(variables);
    } else {
        // Not for the command that it runs under.
        command.arg("env").args(variables.iter().map(|(name, value)| format!("{name}={value}"))).arg(victim);
    }
    command.arg(mode).arg(dir.join("store")).arg(&report).args(more);
    if env::var_os("SHIM_ONE").is_none() {
        command.env("RUST_BACKTRACE", "0");
    }
    let file = File::create(&errors).expect("a file for errors");
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).spawn().expect("the victim starts");
    // It writes nothing there, so an event on the pipe is its end.
    let pipe = child.stdout.take().expect("a pipe");
    let mut end = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure of ours, with a descriptor that is open.
    let hangs = unsafe { libc::poll(&raw mut end, 1, HANG_MS) } == 0;
    if hangs {
        let _ = child.kill();
    }
    let status = child.wait().expect("its end");
    let ended = match hangs {
        true => Some(format!("it hangs: not ended after {HANG_MS} ms")),
        false => (!status.success()).then(|| status.to_string()),
    };
    let text = fs::read(&report).unwrap_or_default();
    let lines = String::from_utf8_lossy(&text).lines().map(parse).collect();
    Run { dir, lines, ended, errors: fs::read_to_string(&errors).unwrap_or_default() }
}

/// A directory for one run: in memory where there is such a place, since a sync there takes no time.
fn new_place() -> PathBuf {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let base = BASE.get_or_init(|| {
        let memory = Path::new("/dev/shm").join(format!("libbatpak-shim-{}", process::id()));
        let base = match fs::create_dir(&memory) {
            Ok(()) => memory,
            Err(_) => common::scratch_dir("shim").join("runs"),
        };
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(&base).expect("a directory for the runs");
        base.canonicalize().expect("its path")
    });
    let place = base.join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
    fs::create_dir_all(&place).expect("a directory for the run");
    place
}
