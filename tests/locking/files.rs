//! By what name the store is tried, and what was done to its files meanwhile: links, mounts, LOCK removed, replaced, closed to
//! us, the directory moved or copied.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::{ffi::CString, fs};

use crate::holder::{Holder, IO, LOCKED, NOT_POSSIBLE, OK, READ_ONLY, Trial};
use crate::{Bench, Case};

pub const CASES: &[Case] = &[
    ("aliases", aliases),
    ("a bind mount", bind_mount),
    ("LOCK of another store", lock_of_another),
    ("LOCK removed", lock_removed),
    ("LOCK replaced", lock_replaced),
    ("LOCK closed to us", lock_closed),
    ("the directory moved", directory_moved),
    ("a copy", copy),
    ("descriptors of others", descriptors_of_others),
];

/// The results of the file system, in words.
fn done<T>(result: std::io::Result<T>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn aliases(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    done(symlink(&store, bench.dir.join("absolute")))?;
    done(symlink("store", bench.dir.join("relative")))?;
    done(symlink("relative", bench.dir.join("twice")))?;
    done(fs::create_dir(bench.dir.join("aside")))?;
    done(symlink("../aside", bench.dir.join("aside/up")))?;
    let names =
        ["absolute", "relative", "twice", "store/", "store/.", "store/../store", "aside/up/../store", ".//store"];
    for name in names {
        bench.is_locked(&bench.dir.join(name))?;
    }
    let mut stranger = Holder::start();
    for (place, name) in
        [("", "store"), ("", "./store"), ("store", "."), ("aside", "../store"), ("store/segments", "..")]
    {
        stranger.expect("go", [0; 3], &[&bench.dir.join(place)], OK)?;
        stranger.open(Path::new(name), LOCKED)?;
    }
    holder.die();
    let name = names[bench.below(names.len() as u64) as usize];
    let mut holder = Holder::of(&bench.dir.join(name))?;
    bench.is_locked(&store)?;
    holder.close()?;
    bench.is_free(&store, 0)
}

fn bind_mount(bench: &mut Bench<'_>) -> Trial {
    let (store, place) = (bench.dir.join("store"), bench.dir.join("place"));
    done(fs::create_dir(&place))?;
    let mut holder = Holder::of(&store)?;
    match bench.other.ask("bound", [0; 3], &[&store, &place])? {
        NOT_POSSIBLE => bench.skipped = Some("this process may not mount"),
        OK => {}
        _ => return Err(String::from("the store opens where it is mounted a second time")),
    }
    holder.close()?;
    bench.is_free(&store, 0)
}

/// Two stores whose LOCK is one file are held as one: never two writers, whatever else.
fn lock_of_another(bench: &mut Bench<'_>) -> Trial {
    let (store, twin) = (bench.dir.join("store"), bench.dir.join("twin"));
    bench.other.passes(&twin)?;
    done(fs::remove_file(twin.join("LOCK")))?;
    let mut holder = Holder::of(&store)?;
    done(fs::hard_link(store.join("LOCK"), twin.join("LOCK")))?;
    bench.other.open(&twin, LOCKED)?;
    bench.is_locked(&store)?;
    holder.die();
    bench.is_free(&twin, 0)?;
    bench.is_free(&store, 0)
}

fn lock_removed(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    done(fs::remove_file(store.join("LOCK")))?;
    bench.is_locked(&store)?;
    // Whoever was refused may have made a new one, which is removed again.
    let _ = fs::remove_file(store.join("LOCK"));
    bench.is_locked(&store)?;
    holder.append(1)?;
    if bench.below(2) == 0 {
        holder.close()?;
    } else {
        holder.die();
    }
    bench.is_free(&store, 1)
}

fn lock_replaced(bench: &mut Bench<'_>) -> Trial {
    let (store, aside) = (bench.dir.join("store"), bench.dir.join("aside"));
    let mut holder = Holder::of(&store)?;
    let lock = store.join("LOCK");
    done(fs::rename(&lock, &aside))?;
    let kind = bench.below(6);
    match kind {
        0 => done(fs::write(&lock, b""))?,
        1 => done(symlink(&aside, &lock))?,
        2 => done(symlink("nowhere", &lock))?,
        3 => done(fs::create_dir(&lock))?,
        4 => done(fs::copy(&aside, &lock).map(drop))?,
        _ => {
            let name = CString::new(lock.to_str().expect("UTF-8")).expect("no NUL");
            // SAFETY: `name` is NUL-terminated.
            assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        }
    }
    bench.is_locked(&store)?;
    holder.expect("open", [1, 0, 0], &[&store], LOCKED)?;
    holder.append(1)?;
    holder.die();
    if kind == 2 || kind > 4 || kind == 3 {
        // These are no lock files: to open them or not is the same to us, as long as it is one writer.
        let _ = fs::remove_file(&lock);
        let _ = fs::remove_dir(&lock);
    }
    bench.is_free(&store, 1)
}

/// A LOCK that may not be opened opens nothing; given back, all is as before.
fn lock_closed(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    let lock = store.join("LOCK");
    let mode = [0o000, 0o400, 0o444][bench.below(3) as usize];
    done(fs::set_permissions(&lock, fs::Permissions::from_mode(mode)))?;
    bench.is_locked(&store)?;
    holder.append(1)?;
    holder.close()?;
    // Root may open it all the same.
    match bench.other.ask("open", [0; 3], &[&store])? {
        OK => bench.other.close()?,
        IO => {}
        status => return Err(format!("a LOCK of mode {mode:o} is {status}")),
    }
    done(fs::set_permissions(&lock, fs::Permissions::from_mode(0o600)))?;
    bench.is_free(&store, 1)
}

/// Under its new name the store is still held; nothing is at the old one, and what was acknowledged is where it went.
fn directory_moved(bench: &mut Bench<'_>) -> Trial {
    let (store, moved) = (bench.dir.join("store"), bench.dir.join("moved"));
    let mut holder = Holder::of(&store)?;
    holder.append(2)?;
    done(fs::rename(&store, &moved))?;
    bench.is_locked(&moved)?;
    let acknowledged = append_on(&mut holder)?;
    holder.die();
    bench.is_free(&moved, 2 + acknowledged)
}

/// A store that was made where the holder's was before is not the holder's: it writes nothing there.
pub fn directory_replaced(bench: &mut Bench<'_>) -> Trial {
    let (store, moved) = (bench.dir.join("store"), bench.dir.join("moved"));
    let mut holder = Holder::of(&store)?;
    holder.append(2)?;
    done(fs::rename(&store, &moved))?;
    bench.other.open(&store, OK)?;
    bench.other.append(3)?;
    let before = names(&store)?;
    let acknowledged = append_on(&mut holder)?;
    let after = names(&store)?;
    if before != after {
        return Err(format!("the holder of a moved store wrote into another one: {before:?} became {after:?}"));
    }
    bench.is_locked_for_strangers(&moved)?;
    holder.die();
    bench.other.append(1)?;
    bench.other.close()?;
    bench.is_free(&store, 4)?;
    bench.is_free(&moved, 2 + acknowledged)
}

/// Appends more than a segment holds, an event at a time. Returns how many were acknowledged: without its directory the store may
/// refuse, but not pretend.
fn append_on(holder: &mut Holder) -> Result<i64, String> {
    let mut acknowledged = 0;
    for _ in 0..2000 {
        if holder.ask("append", [0, 1, 0], &[])? != OK {
            break;
        }
        acknowledged += 1;
    }
    Ok(acknowledged)
}

impl Bench<'_> {
    /// As `is_locked`, while the other one has a store of its own in hand.
    fn is_locked_for_strangers(&mut self, path: &Path) -> Trial {
        self.other.expect("open", [1, 0, 0], &[path], LOCKED)?;
        self.other.expect("open", [1, READ_ONLY, 0], &[path], LOCKED)
    }
}

/// Every file below a directory.
fn names(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let (mut found, mut left) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in done(fs::read_dir(&dir))? {
            let path = done(entry)?.path();
            if path.is_dir() {
                left.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn copy_all(from: &Path, to: &Path) -> Trial {
    for path in names(from)? {
        let place = to.join(path.strip_prefix(from).expect("below it"));
        let dir = if path.is_dir() { &place } else { place.parent().expect("a parent") };
        done(fs::create_dir_all(dir))?;
        if path.is_file() {
            done(fs::copy(&path, &place))?;
        }
    }
    Ok(())
}

/// A copy is a store of its own.
fn copy(bench: &mut Bench<'_>) -> Trial {
    let (store, twin) = (bench.dir.join("store"), bench.dir.join("twin"));
    let mut holder = Holder::of(&store)?;
    holder.append(3)?;
    copy_all(&store, &twin)?;
    bench.is_free(&twin, 3)?;
    bench.is_locked(&store)?;
    holder.append(1)?;
    holder.expect("read", [0; 3], &[], 4)?;
    holder.close()?;
    bench.is_free(&store, 4)
}

fn descriptors_of_others(bench: &mut Bench<'_>) -> Trial {
    let store = bench.dir.join("store");
    let mut holder = Holder::of(&store)?;
    holder.expect("unrelated", [0; 3], &[&store], 0)?;
    bench.is_locked(&store)?;
    bench.other.expect("unrelated", [0; 3], &[&store], 0)?;
    bench.is_locked(&store)?;
    holder.close()?;
    bench.is_free(&store, 0)
}
