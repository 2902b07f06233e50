//! Who holds the store: another process, this one, a forked child, one that is stopped, killed, or became another program.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use std::{fs, path::Path, thread};

use crate::holder::{ALREADY_EXISTS, EXCLUSIVE, Holder, LOCKED, OK, READ_ONLY, Trial};
use crate::{Bench, Case};

pub const CASES: &[Case] = &[
    ("two processes", two_processes),
    ("same process twice", same_process_twice),
    ("a child uses the handle", child_uses_handle),
    ("a child outlives its killed parent", child_outlives_killed_parent),
    ("a child outlives a parent that exits", child_outlives_leaving_parent),
    ("a child outlives a parent's close", child_outlives_close),
    ("forks while opening and closing", forks_while_opening),
    ("a started program outlives its parent", program_outlives_parent),
    ("a killed holder", killed_holder),
    ("a stopped holder", stopped_holder),
    ("readers", readers),
    ("a refused opening lets go", refused_opening_lets_go),
];

/// After a holder's death.
const FREE_WITHIN: Duration = Duration::from_millis(100);

impl Bench<'_> {
    /// The store's holder is gone: it is free at once, with so many events at least.
    pub fn is_free(&mut self, path: &Path, events: i64) -> Trial {
        let started = Instant::now();
        // A child that is being forked as its parent dies has the lock until it has let go of it.
        while self.other.open(path, OK).is_err() && started.elapsed() < FREE_WITHIN {
            thread::yield_now();
        }
        if started.elapsed() >= FREE_WITHIN {
            return Err(format!("{} is not free after {FREE_WITHIN:?}", path.display()));
        }
        self.longest_open = self.longest_open.max(started.elapsed());
        let count = self.other.ask("read", [0; 3], &[])?;
        if count < events {
            return Err(format!("{count} events, not {events}"));
        }
        self.other.append(1)?;
        self.other.close()
    }

    pub fn is_locked(&mut self, path: &Path) -> Trial {
        self.other.open(path, LOCKED)?;
        self.other.expect("open", [0, READ_ONLY, 0], &[path], LOCKED)
    }
}

fn two_processes(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    for _ in 0..3 {
        bench.is_locked(&store)?;
        holder.append(3)?;
    }
    holder.close()?;
    bench.is_free(&store, 9)
}

/// The second opening fails and closes its descriptors, which must not cost the first its lock.
fn same_process_twice(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    for flags in [0, READ_ONLY, EXCLUSIVE] {
        let answer = if flags == EXCLUSIVE { ALREADY_EXISTS } else { LOCKED };
        holder.expect("open", [1, flags, 0], &[&store], answer)?;
        bench.is_locked(&store)?;
    }
    holder.append(1)?;
    holder.close()?;
    holder.expect("open", [1, 0, 0], &[&store], OK)?;
    bench.is_locked(&store)?;
    holder.expect("close", [1, 0, 0], &[], OK)?;
    bench.is_free(&store, 1)
}

fn child_uses_handle(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    holder.expect("fork", [0; 3], &[&store], 0)?;
    bench.is_locked(&store)?;
    holder.append(2)?;
    holder.expect("count", [0; 3], &[], 2)?;
    holder.close()?;
    bench.is_free(&store, 2)
}

fn child_outlives_killed_parent(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    holder.append(4)?;
    holder.expect("fork", [0; 3], &[&store], 0)?;
    holder.die();
    bench.is_free(&store, 4)
}

fn child_outlives_leaving_parent(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    holder.append(4)?;
    holder.expect("fork", [0; 3], &[&store], 0)?;
    holder.leave();
    bench.is_free(&store, 4)
}

fn child_outlives_close(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    holder.expect("fork", [0; 3], &[&store], 0)?;
    holder.close()?;
    bench.is_free(&store, 0)?;
    holder.open(&store, OK)?;
    bench.is_locked(&store)
}

fn forks_while_opening(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::start();
    holder.expect("storm", [0, 15, 0], &[&store], OK)?;
    bench.is_locked(&store)?;
    if bench.below(2) == 0 {
        holder.close()?;
    } else {
        holder.die();
    }
    bench.is_free(&store, 0)
}

fn program_outlives_parent(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    holder.expect("exec", [0; 3], &[], 0)?;
    bench.is_locked(&store)?;
    holder.die();
    bench.is_free(&store, 0)
}

/// Killed at rest, or at a random moment of its appends.
fn killed_holder(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    holder.append(5)?;
    if bench.below(2) == 0 {
        holder.tell("append", [0, 1 << 20, 0], &[]);
        std::thread::sleep(std::time::Duration::from_micros(bench.below(20_000)));
    }
    bench.is_locked(&store)?;
    holder.die();
    bench.is_free(&store, 5)
}

fn stopped_holder(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    holder.signal(libc::SIGSTOP);
    bench.is_locked(&store)?;
    if bench.below(2) == 0 {
        holder.signal(libc::SIGCONT);
        holder.append(1)?;
        bench.is_locked(&store)?;
        holder.close()?;
        return bench.is_free(&store, 1);
    }
    holder.die();
    bench.is_free(&store, 0)
}

/// Many read, or one writes; a reader changes nothing in the directory.
fn readers(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    holder.append(3)?;
    bench.is_locked(&store)?;
    if bench.below(2) == 0 {
        holder.close()?;
    } else {
        holder = {
            holder.die();
            Holder::start()
        };
    }
    if bench.below(2) == 0 {
        fs::remove_file(store.join("LOCK")).map_err(|error| error.to_string())?;
    }
    let look = |path: &Path| fs::metadata(path).map(|it| (it.mtime(), it.mtime_nsec(), it.nlink()));
    let before = look(&store).map_err(|error| error.to_string())?;
    holder.expect("open", [0, READ_ONLY, 0], &[&store], OK)?;
    holder.expect("open", [1, READ_ONLY, 0], &[&store], OK)?;
    bench.other.open(&store, LOCKED)?;
    bench.other.expect("open", [0, READ_ONLY, 0], &[&store], OK)?;
    bench.other.expect("read", [0; 3], &[], 3)?;
    bench.other.close()?;
    holder.close()?;
    bench.other.open(&store, LOCKED)?;
    holder.expect("close", [1, 0, 0], &[], OK)?;
    if look(&store).ok() != Some(before) {
        return Err(String::from("a reader changed the directory"));
    }
    bench.is_free(&store, 3)
}

fn refused_opening_lets_go(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::start();
    holder.passes(&store)?;
    holder.expect("open", [0, EXCLUSIVE, 0], &[&store], ALREADY_EXISTS)?;
    bench.is_free(&store, 0)?;
    let name = store.join("STORE");
    let (bytes, aside) = (fs::read(&name).map_err(|error| error.to_string())?, bench.dir.join("segments"));
    fs::rename(store.join("segments"), &aside).map_err(|error| error.to_string())?;
    fs::write(&name, b"garbage").map_err(|error| error.to_string())?;
    if holder.ask("open", [0; 3], &[&store])? == OK {
        return Err(String::from("a store without segments and with a damaged STORE opens"));
    }
    fs::write(&name, bytes).map_err(|error| error.to_string())?;
    let _ = fs::remove_dir(store.join("segments"));
    fs::rename(&aside, store.join("segments")).map_err(|error| error.to_string())?;
    bench.is_free(&store, 1)
}
