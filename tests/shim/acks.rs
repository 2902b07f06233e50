//! The order of calls around an acknowledgement (row R1): from the shim's log for appends of several threads, and from strace, where
//! there is one, for those of one thread.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use crate::oracle::Oracle;
use crate::report::{Line, parse};
use crate::run::{KINDS, Kind, Plan, run};

/// Checks so many appends or a few more, by the shim; and half as many by strace. How many were seen, and what was wrong.
pub fn check(trials: u64) -> (u64, Vec<String>) {
    let (mut seen, mut wrong) = (0, Vec::new());
    let count = trials.max(8);
    for threads in [0_u64, 4] {
        let plan = Plan { logs: true, ..Plan::default() };
        let left = run("acks", &[count.to_string(), threads.to_string()], &plan);
        let oracle = Oracle::of(&left);
        wrong.extend(oracle.wrong);
        wrong.extend(oracle.statuses.iter().map(|status| format!("{status:?}")));
        let (of_this, found) = check_order(&left.lines);
        seen += of_this;
        wrong.extend(found);
        left.forget();
    }
    let (of_strace, found) = check_by_strace(count);
    wrong.extend(found);
    println!("R1: {seen} acknowledgements ordered by the shim's log, {of_strace} by strace");
    (seen + of_strace, wrong)
}

/// Where a file stands: how far each call's last item is written to it, and which syncs came then.
#[derive(Default)]
struct Files {
    /// Per call: the file, and where in the report the write that held its last item had returned.
    written: HashMap<u32, (String, usize)>,
    /// Where the file got its name.
    named: HashMap<String, usize>,
    /// Under way, by thread: the path, and where it began.
    syncing: HashMap<u32, (String, usize)>,
    /// Of each path: where its syncs began, those that have returned well.
    synced: HashMap<String, Vec<usize>>,
}

impl Files {
    fn is_synced_since(&self, path: &str, at: usize) -> bool {
        self.synced.get(path).is_some_and(|begun| begun.iter().any(|&begun| begun > at))
    }

    /// What is missing before the call may be acknowledged.
    fn missing(&self, call: u32) -> Option<String> {
        let Some((path, at)) = self.written.get(&call) else { return Some(String::from("its bytes were not written")) };
        if !self.is_synced_since(path, *at) {
            return Some(format!("{path} was not synced after it was written"));
        }
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        match self.named.get(path) {
            Some(named) if !self.is_synced_since(directory, *named) => Some(format!("{directory} was not synced")),
            _ => None,
        }
    }
}

/// How many acknowledgements there were, and which came too early.
fn check_order(lines: &[Line]) -> (u64, Vec<String>) {
    let (mut files, mut seen, mut wrong) = (Files::default(), 0, Vec::new());
    // Call, whether STORAGE, items; and the calls under way of each thread.
    let (mut calls, mut under_way) = (HashMap::new(), HashMap::new());
    let mut begun = 0;
    for (at, line) in lines.iter().enumerate() {
        match line {
            Line::Session => begun = 0,
            Line::Intent { call, thread, durability, count, .. } => {
                calls.insert(*call, (*durability == 0, *count));
                under_way.insert(*thread, *call);
            }
            Line::Result { call, .. } => {
                let (storage, _) = calls[call];
                under_way.retain(|_, other| other != call);
                seen += 1;
                begun += 1;
                if let Some(missing) = files.missing(*call).filter(|_| storage) {
                    wrong.push(format!("call {call} was acknowledged at line {at} of the report, and {missing}"));
                }
            }
            Line::Wrote { path, marks, .. } if path.ends_with(".seg") => {
                for &(call, item) in marks {
                    if calls.get(&call).is_some_and(|(_, count)| item + 1 == *count) {
                        files.written.insert(call, (path.clone(), at));
                    }
                }
            }
            Line::SyncBegins { thread, path } => {
                // The first append of a session also writes what begins it.
                let process = under_way.get(thread).filter(|call| !calls[*call].0 && begun > 0);
                if let Some(call) = process {
                    wrong.push(format!("call {call}, PROCESS, syncs {path} at line {at} of the report"));
                }
                files.syncing.insert(*thread, (path.clone(), at));
            }
            Line::SyncEnds { thread, result: 0, .. } => {
                let Some((path, begun)) = files.syncing.remove(thread) else { continue };
                files.synced.entry(path).or_default().push(begun);
            }
            Line::Renamed { path, result: 0 } => _ = files.named.insert(path.clone(), at),
            _ => {}
        }
    }
    (seen, wrong)
}

// ---- strace ----------------------------------------------------------------------------------------------------------

const CALLS: &str = "trace=pwrite64,pwritev,pwritev2,write,writev,fdatasync,fsync,sync_file_range,rename,renameat,\
                     renameat2,openat,open,unlink,unlinkat,mkdir,mkdirat,ftruncate,fallocate";

/// The same by what the kernel was asked for; and that the shim has counted every such call.
fn check_by_strace(count: u64) -> (u64, Vec<String>) {
    let works = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        println!("R1 by strace skipped: there is no strace, or it may not trace");
        return (0, Vec::new());
    }
    // The shim stands before the victim only, not before strace.
    let under = ["strace", "-f", "-y", "-s", "96", "-e", CALLS, "-o", "{place}/strace"].map(str::to_owned).to_vec();
    let left = run("acks", &[count.to_string(), String::from("0")], &Plan { under, ..Plan::default() });
    let mut wrong = Oracle::of(&left).wrong;
    let place = left.dir.parent().expect("a parent").to_owned();
    let text = fs::read_to_string(place.join("strace")).unwrap_or_default();
    let traced = Traced::of(&text, &left.dir.display().to_string());
    let (seen, found) = check_order(&traced.lines);
    wrong.extend(found);
    if seen != count {
        wrong.push(format!("strace has shown {seen} of {count} acknowledgements"));
    }
    let counts = left.counts();
    for kind in [Kind::Write, Kind::Sync, Kind::Rename, Kind::Open, Kind::Unlink, Kind::Mkdir, Kind::Truncate] {
        let (traced, shim) = (traced.counts[kind as usize], counts[kind as usize]);
        if traced != shim {
            wrong.push(format!("{kind:?}: strace has shown {traced} calls, the shim has counted {shim}"));
        }
    }
    left.forget();
    (seen, wrong)
}

struct Traced {
    lines: Vec<Line>,
    counts: [u64; KINDS],
}

impl Traced {
    /// The calls on what lies below `dir`, and the victim's own report, as lines of a report.
    fn of(text: &str, dir: &str) -> Traced {
        let mut traced = Traced { lines: Vec::new(), counts: [0; KINDS] };
        let mut unfinished: HashMap<&str, &str> = HashMap::new();
        // Of the one thread that appends: its number, the call under way and how many items it has.
        let mut under_way = None;
        for line in text.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let rest = rest.trim_start();
            if let Some(start) = rest.strip_suffix("<unfinished ...>") {
                unfinished.insert(thread, start);
                traced.begin(thread, start, dir);
                continue;
            }
            let (start, resumed) = match rest.starts_with("<... ") {
                true => (unfinished.remove(thread).unwrap_or(""), true),
                false => (rest, false),
            };
            if !resumed {
                traced.begin(thread, start, dir);
            }
            let well = !rest.contains(" = -1 ") && !rest.contains(" = ?");
            traced.end(thread, start, dir, well, &mut under_way);
        }
        traced
    }

    fn begin(&mut self, thread: &str, start: &str, dir: &str) {
        let Some(kind) = kind_of(start).filter(|_| start.contains(dir)) else { return };
        self.counts[kind as usize] += 1;
        if kind == Kind::Sync {
            let path = path_in(start, dir);
            self.lines.push(Line::SyncBegins { thread: thread.parse().unwrap_or(0), path });
        }
    }

    fn end(&mut self, thread: &str, start: &str, dir: &str, well: bool, under_way: &mut Option<(u32, u32, u32)>) {
        let thread: u32 = thread.parse().unwrap_or(0);
        if start.starts_with("write(") && start.contains("/report>") {
            for said in start.split('"').nth(1).unwrap_or("").split("\\n").filter(|said| !said.is_empty()) {
                // Long ones are cut.
                let line = parse(said);
                match &line {
                    Line::Intent { call, count, .. } => *under_way = Some((thread, *call, *count)),
                    Line::Result { .. } => *under_way = None,
                    Line::Session => {}
                    _ => continue,
                }
                self.lines.push(line);
            }
            return;
        }
        let Some(kind) = kind_of(start).filter(|_| well && start.contains(dir)) else { return };
        match kind {
            Kind::Sync => self.lines.push(Line::SyncEnds { thread, path: path_in(start, dir), result: 0 }),
            Kind::Rename => {
                let to = start.rsplit('"').nth(1).unwrap_or("");
                let path = to.strip_prefix(dir).unwrap_or(to).trim_start_matches('/').to_owned();
                self.lines.push(Line::Renamed { path, result: 0 });
            }
            Kind::Write => {
                // What the thread writes while it appends has that append; other threads write zeros.
                let own = under_way.iter().filter(|(appender, ..)| *appender == thread);
                let marks = own.map(|(_, call, count)| (*call, count - 1)).collect();
                self.lines.push(Line::Wrote { thread, path: path_in(start, dir), written: 0, marks });
            }
            _ => {}
        }
    }
}

fn kind_of(start: &str) -> Option<Kind> {
    Some(match start.split('(').next()? {
        "pwrite64" | "pwritev" | "pwritev2" | "write" | "writev" => Kind::Write,
        "fdatasync" | "fsync" | "sync_file_range" => Kind::Sync,
        "rename" | "renameat" | "renameat2" => Kind::Rename,
        // To list a directory, which the shim counts by itself.
        "open" | "openat" if start.contains("O_DIRECTORY") && start.contains("O_NONBLOCK") => Kind::List,
        "open" | "openat" => Kind::Open,
        "unlink" | "unlinkat" => Kind::Unlink,
        "mkdir" | "mkdirat" => Kind::Mkdir,
        "ftruncate" | "fallocate" => Kind::Truncate,
        _ => return None,
    })
}

/// The path of the call's descriptor, from the directory on.
fn path_in(start: &str, dir: &str) -> String {
    let path = start.split('<').nth(1).and_then(|rest| rest.split('>').next()).unwrap_or("");
    path.strip_prefix(dir).unwrap_or(path).trim_start_matches('/').to_owned()
}
