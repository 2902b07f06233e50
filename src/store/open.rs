//! Opening: locks first, then STORE, then the log; nothing in the directory changes before both locks are held, and a read-only
//! opening changes nothing at all.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::{BufferPool, StoreId, TIME_US_MAX};
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, index_name, parse_segment_name, segment_name};
use crate::format::{Malformed, StoreFile};
use crate::index::sealed::SealedIndex;
use crate::io::latch::{Latch, LatchedFile};
use crate::io::{Entry, Lock, LockMode, Storage, fork, time};
use crate::log::damaged;
use crate::log::files::FilePool;
use crate::log::recovery::{Recovered, RecoveredSegment, read_header, recover};
use crate::log::tail::{Space, Tail};
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Instant, Mutex, RwLock};

use super::append::Appender;
use super::commit::GroupCommit;
use super::fence::FenceTable;
use super::helper::Helper;
use super::keys::KeyWindow;
use super::options::{LogLevel, StoreOptions};
use super::recent::Recent;
use super::segments::{Library, MemorySink, settle_fences};
use super::signal::SignalBoard;
use super::{Inner, Marks, Store};

const LOCK_NAME: &str = "LOCK";
const STORE_NAME: &str = "STORE";
const STORE_TEMPORARY_NAME: &str = "STORE.tmp";
const SEGMENTS_NAME: &str = "segments";
/// The directory of checkpoints, which this room only clears of what a kill left.
const CURSORS_NAME: &str = "cursors";

/// What STORE says, or the segments in its place.
struct Identity {
    store_id: StoreId,
    created_us: i64,
    key_window: u64,
}

impl Store {
    /// Opens the store in the directory `path`, or makes one.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Store> {
        options.check()?;
        fork::install()?;
        let storage = options.storage.clone();
        let write = !options.read_only;
        let found = storage.list(path).map_err(|error| match error {
            Error::Io { os_errno: libc::ENOTDIR, path, .. } => {
                Error::NotAStore { path, reason: String::from("it is no directory") }
            }
            other => other,
        })?;
        if found.is_none() {
            if !write || !options.create {
                return Err(Error::NotFound { path: path.to_owned() });
            }
            storage.create_directory(path)?;
        }
        let path = storage.canonicalize(path)?;
        let listed = storage.list(&path)?.ok_or_else(|| Error::NotFound { path: path.clone() })?;
        check_directory(&path, &listed, options)?;
        let locks = lock(&*storage, &path, write)?;
        // Look again: what was seen before the lock may be another opener's work.
        let listed = storage.list(&path)?.ok_or_else(|| Error::NotFound { path: path.clone() })?;
        check_directory(&path, &listed, options)?;
        let directory = path.join(SEGMENTS_NAME);
        let found = identify(&*storage, &path, &directory, options)?;
        let is_made = found.is_some();
        let identity = found.unwrap_or_else(|| new_identity(options));
        if write {
            // A kill may have come between making something here and syncing its name.
            storage.sync_directory(&path)?;
            if let Some(parent) = path.parent() {
                // Not ours to insist on: a parent may be closed to us.
                let _ = storage.sync_directory(parent);
            }
            if storage.list(&directory)?.is_none() {
                storage.create_directory(&directory)?;
            }
        }
        let entries = storage.list(&directory)?.unwrap_or_default();
        // Whatever has a segment's name stands in its place: to pass over it would end the log before it.
        let mut bases: Vec<u64> = entries.iter().filter_map(|entry| parse_segment_name(&entry.name)).collect();
        bases.sort_unstable();
        if is_made && bases.is_empty() {
            let reason = String::from("the store was made, but has no segment file");
            return Err(Error::Corrupt { path: directory.join(segment_name(0)), offset: 0, sequence: 0, reason });
        }
        if write {
            remove_temporaries(&*storage, &directory, &entries)?;
            let cursors = path.join(CURSORS_NAME);
            if let Some(entries) = storage.list(&cursors)? {
                remove_temporaries(&*storage, &cursors, &entries)?;
                // A kill between renaming a checkpoint and syncing its name leaves a place that a consumer resumes at, and a power loss
                // would take back.
                storage.sync_directory(&cursors)?;
            }
        }
        if let Some(&newest) = bases.last() {
            check_none_follows(&storage, &directory, &identity.store_id, newest)?;
        }
        let make_sink = |header: &SegmentHeader| MemorySink::new(header);
        let recovered = recover(&*storage, &directory, &identity.store_id, &bases, write, make_sink)?;
        assemble(path, options, locks, &identity, recovered)
    }
}

/// A segment's index is made whole only once the next segment's name is durable: of the newest one there is none, or a partial one. Else
/// somebody has taken away what came behind, and the log would end before its end with nobody told.
fn check_none_follows(storage: &Arc<dyn Storage>, directory: &Path, store_id: &StoreId, newest: u64) -> Result<()> {
    let slot = FilePool::new(storage.clone()).slot(directory.join(index_name(newest)));
    if slot.find()?.is_none() {
        return Ok(());
    }
    // A damaged one says nothing; it is rebuilt.
    let Ok(index) = SealedIndex::open(slot, Arc::default(), store_id, newest) else { return Ok(()) };
    if index.is_partial() {
        return Ok(());
    }
    let next = newest + u64::from(index.count());
    let reason = String::from("the segment is missing, but the one before was left for it");
    Err(Error::Corrupt { path: directory.join(segment_name(next)), offset: 0, sequence: next, reason })
}

/// Removes what was being made when an earlier opening ended: nobody else can be making it while the locks are held.
fn remove_temporaries(storage: &dyn Storage, directory: &Path, entries: &[Entry]) -> Result<()> {
    for entry in entries.iter().filter(|entry| !entry.is_directory && entry.name.ends_with(".tmp")) {
        storage.remove(&directory.join(&entry.name))?;
    }
    Ok(())
}

/// Refuses a directory that is no store, and one that is when it must not be.
fn check_directory(path: &Path, listed: &[Entry], options: &StoreOptions) -> Result<()> {
    let has = |name: &str| listed.iter().any(|entry| entry.name == name);
    if has(STORE_NAME) || has(SEGMENTS_NAME) {
        return match options.exclusive {
            true => Err(Error::AlreadyExists { path: path.to_owned() }),
            false => Ok(()),
        };
    }
    let foreign =
        listed.iter().find(|entry| ![LOCK_NAME, STORE_TEMPORARY_NAME, "lost+found"].contains(&entry.name.as_str()));
    match foreign {
        Some(entry) => {
            let reason = format!("it holds {:?} but neither STORE nor segments", entry.name);
            Err(Error::NotAStore { path: path.to_owned(), reason })
        }
        None if options.read_only || !options.create => {
            Err(Error::NotAStore { path: path.to_owned(), reason: String::from("it is empty") })
        }
        None => Ok(()),
    }
}

fn lock(storage: &dyn Storage, path: &Path, write: bool) -> Result<Vec<Box<dyn Lock>>> {
    let mode = if write { LockMode::Exclusive } else { LockMode::Shared };
    let locked = || Error::Locked { path: path.to_owned() };
    let mut locks = vec![storage.lock(path, mode, false)?.ok_or_else(locked)?];
    let file = path.join(LOCK_NAME);
    if write || storage.open_read(&file)?.is_some() {
        locks.push(storage.lock(&file, mode, write)?.ok_or_else(locked)?);
    }
    Ok(locks)
}

/// The store's identity: from STORE, or rebuilt from a segment. `None`: there is no store yet.
fn identify(storage: &dyn Storage, path: &Path, directory: &Path, options: &StoreOptions) -> Result<Option<Identity>> {
    let file_path = path.join(STORE_NAME);
    let malformed = match storage.open_read(&file_path)? {
        None => None,
        Some(file) => {
            let mut bytes = vec![0; file.length()?.min(4096) as usize];
            let read = file.read_at(&mut bytes, 0)?;
            match StoreFile::decode(&bytes[..read]) {
                Ok(found) => {
                    return Ok(Some(Identity {
                        store_id: found.store_id,
                        created_us: found.created_us,
                        key_window: found.key_window,
                    }));
                }
                Err(newer @ Malformed::NewerFormat { .. }) => return Err(damaged(&file_path, 0, 0, newer)),
                Err(malformed) => Some(malformed),
            }
        }
    };
    let mut bases: Vec<u64> = storage
        .list(directory)?
        .unwrap_or_default()
        .iter()
        .filter_map(|entry| parse_segment_name(&entry.name))
        .collect();
    bases.sort_unstable();
    let has_segments = !bases.is_empty();
    for base in bases {
        let Some(file) = storage.open_read(&directory.join(segment_name(base)))? else { continue };
        match read_header(&*file, None, base)? {
            Ok(header) => {
                let identity = Identity {
                    store_id: header.store_id,
                    created_us: header.created_us,
                    key_window: header.key_window,
                };
                options.log.write(LogLevel::Warning, "store", || {
                    format!("{} is missing or damaged; rebuilt from segment {base}", file_path.display())
                });
                if !options.read_only {
                    // Whoever was killed in the midst of making the store may not have come to this.
                    storage.sync_directory(path)?;
                    storage.sync_directory(directory)?;
                    write_store_file(storage, path, &identity)?;
                }
                return Ok(Some(identity));
            }
            Err(newer @ Malformed::NewerFormat { .. }) => return Err(damaged(file.path(), 0, base, newer)),
            Err(_) => {}
        }
    }
    match malformed {
        Some(malformed) => Err(damaged(&file_path, 0, 0, malformed)),
        // A new id would make what the segments hold another store's for good.
        None if has_segments => Err(Error::NotAStore {
            path: path.to_owned(),
            reason: String::from("STORE is missing and no segment file has a readable header"),
        }),
        None if options.read_only => {
            Err(Error::NotAStore { path: path.to_owned(), reason: String::from("it has neither STORE nor segments") })
        }
        None => Ok(None),
    }
}

fn write_store_file(storage: &dyn Storage, path: &Path, identity: &Identity) -> Result<()> {
    let bytes =
        StoreFile { store_id: identity.store_id, created_us: identity.created_us, key_window: identity.key_window }
            .encode();
    let temporary = path.join(STORE_TEMPORARY_NAME);
    let file = storage.create(&temporary)?;
    file.write_at(&bytes, 0)?;
    file.sync_data()?;
    storage.rename(&temporary, &path.join(STORE_NAME))?;
    storage.sync_directory(path)
}

fn new_identity(options: &StoreOptions) -> Identity {
    Identity {
        store_id: StoreId(time::random_bytes()),
        created_us: options.clock.now_us().clamp(0, TIME_US_MAX),
        key_window: options.key_window,
    }
}

/// The first segment of a store that has none: whole, or not there. STORE comes after it: a store that has STORE and no segment has lost
/// them.
fn make_first_segment(library: &Library, identity: &Identity) -> Result<()> {
    let header = SegmentHeader {
        store_id: identity.store_id,
        base: 0,
        epoch: 1,
        time_us: identity.created_us,
        created_us: identity.created_us,
        key_window: identity.key_window,
    };
    library.write_whole(&library.directory.join(segment_name(0)), &header.encode())?;
    library.sync_directory()
}

fn assemble(
    path: std::path::PathBuf,
    options: &StoreOptions,
    locks: Vec<Box<dyn Lock>>,
    identity: &Identity,
    recovered: Option<Recovered<MemorySink>>,
) -> Result<Store> {
    let storage = options.storage.clone();
    let store_id = identity.store_id;
    let directory = path.join(SEGMENTS_NAME);
    let library = Library {
        storage: storage.clone(),
        store_id,
        held: if options.read_only { None } else { storage.hold_directory(&directory)? },
        directory_failed: Mutex::default(),
        directory,
        files: FilePool::new(storage.clone()),
        pages: Arc::default(),
        read_only: options.read_only,
    };
    let fresh = recovered.is_none();
    let recovered = match recovered {
        Some(recovered) => recovered,
        None => {
            if !options.read_only {
                make_first_segment(&library, identity)?;
                write_store_file(&*storage, &path, identity)?;
            }
            Recovered {
                segments: vec![RecoveredSegment { base: 0, sink: None }],
                next_sequence: 0,
                last_time_us: identity.created_us,
                epoch: 1,
                end: SEGMENT_HEADER_BYTES as u64,
                clean: true,
                cut: None,
            }
        }
    };
    if let Some(cut) = &recovered.cut {
        options.log.write(LogLevel::Warning, "recovery", || {
            format!(
                "{}: cut at byte {} (event {}), {} bytes and {} segment(s) that were never acknowledged as durable: {}",
                cut.path.display(),
                cut.offset,
                cut.sequence,
                cut.bytes,
                cut.segments_removed,
                cut.reason
            )
        });
    }
    let mut recovered = recovered;
    let undecided = settle_fences(recovered.segments.iter_mut().filter_map(|segment| segment.sink.as_mut()));
    let last = recovered.segments.len() - 1;
    let bases: Vec<u64> = recovered.segments.iter().map(|segment| segment.base).collect();
    let mut segments = Vec::with_capacity(recovered.segments.len());
    let mut active = None;
    let mut to_seal = Vec::new();
    for (at, found) in recovered.segments.into_iter().enumerate() {
        let index = found.sink.map(|sink| Arc::new(sink.index));
        let segment = library.segment(found.base, index.clone());
        match index {
            _ if at == last && fresh => {
                let memory =
                    Arc::new(crate::index::memory::MemoryIndex::new(store_id, 0, 1, SEGMENT_HEADER_BYTES as u64));
                let segment = library.segment(0, Some(memory.clone()));
                active = Some(memory);
                segments.push(segment);
                continue;
            }
            Some(index) if at == last => active = Some(index),
            None if at == last => {
                active =
                    Some(segment.load_active(&library, recovered.next_sequence, recovered.end, recovered.epoch)?);
            }
            Some(_) => to_seal.push((segment.clone(), bases[at + 1])),
            None => {}
        }
        segments.push(segment);
    }
    let index = active.unwrap_or_else(|| unreachable!("a recovered log has at least one segment"));
    let mark = || AtomicU64::new(recovered.next_sequence);
    let marks = Arc::new(Marks {
        appended: mark(),
        visible: mark(),
        durable: mark(),
        ticket: AtomicU64::new(0),
        open_floor: AtomicU64::new(u64::MAX),
        seal_floor: AtomicU64::new(u64::MAX),
        fence_deadline_us: AtomicU64::new(u64::MAX),
    });
    let signals = Arc::new(SignalBoard::new(marks.clone()));
    let latch = Arc::new(Latch::announcing({
        let signals = signals.clone();
        move || signals.poison_waits()
    }));
    let appender = match options.read_only {
        true => None,
        false => {
            let newest = segments[last].data.path();
            let file = storage.open_write(newest)?.ok_or_else(|| Error::Corrupt {
                path: newest.to_owned(),
                offset: 0,
                sequence: recovered.next_sequence,
                reason: String::from("the newest segment vanished while the store was being opened"),
            })?;
            // Only bytes that `Space::prepare` wrote are known to have blocks: preparing begins at the last frame's end.
            let space =
                Space::new(Arc::new(LatchedFile::new(file, latch.clone())), recovered.end, options.segment_bytes);
            let base = segments[last].base;
            let mut fences = FenceTable::default();
            for (fence, ranges) in undecided {
                fences.owe(fence, ranges);
            }
            Some(Appender {
                tail: Tail::new(Arc::new(space), &store_id, base, recovered.epoch, recovered.end),
                index,
                previous_heads: None,
                next_sequence: recovered.next_sequence,
                last_time_us: recovered.last_time_us,
                epoch: recovered.epoch,
                epoch_begun: fresh,
                needs_close: !recovered.clean,
                pending: Default::default(),
                unsynced: Default::default(),
                // The newest segment's name may be another opening's work, closed and killed before it was synced.
                directory_unsynced: recovered.clean && !fresh,
                mark: None,
                ticket: 0,
                fences,
                rotations: 0,
                closed: false,
            })
        }
    };
    let recent = Recent::new()?;
    let inner = Arc::new_cyclic(|itself| Inner {
        itself: itself.clone(),
        path,
        options: options.clone(),
        storage,
        library,
        store_id,
        tag: store_id.tag(),
        created_us: identity.created_us,
        opened_at: Instant::now(),
        key_window: identity.key_window,
        keys: KeyWindow::default(),
        segments_version: AtomicU64::new(0),
        fork_generation: fork::generation(),
        latch,
        locks: Mutex::new(locks),
        closed: AtomicBool::new(false),
        closing: Default::default(),
        marks,
        signals,
        segments: RwLock::new(Arc::new(segments)),
        append: Mutex::new(appender),
        group: GroupCommit::default(),
        helper: Helper::new(options.helper_thread),
        recent,
        mapped: AtomicBool::new(false),
        pool: BufferPool::new(),
        children: Mutex::default(),
        cursors_entry: Mutex::default(),
        seals: AtomicU64::new(0),
        syncs: AtomicU64::new(0),
        cut: recovered.cut,
        opened_clean: recovered.clean,
    });
    if !options.read_only {
        for (segment, end) in to_seal {
            inner.helper.seal(segment, end);
        }
    }
    Ok(Store { inner })
}
