//! Durable positions of named consumers: one file and one lock per id, in `{data_dir}/cursors`.
//!
//! * `{id}.ckpt`: the record, laid out in `docs/FORMAT.md`, section 6.
//! * `.{id}.lock`: held by the one live consumer of the id; never removed, since a lock on a removed file excludes nobody.
//! * `.{id}.tmp`: a record being written. An id cannot begin with a dot, so neither name can be another id's record.
//!
//! Writing ([`Claim::write`]), in this order:
//! 1. the log is made durable up to the scanned bound. Up to the position would not do: were the log cut between the
//!    two by a power loss, the sequences there would be given to other events and the consumer would skip those;
//! 2. the first time in a store's opening, the data directory is synced, since whoever made `cursors` may have been stopped before its
//!    entry was durable. A sync that fails, here or when `cursors` was made, is not tried again: its retry could succeed with the
//!    entry lost, and every checkpoint with it;
//! 3. the record is written to the temporary file and synced;
//! 4. it is renamed to its name, and the directory synced.
//!
//! Reading ([`Claim::resume`]): a consumer starts at a record iff
//! 1. the file decodes (else `CheckpointCorrupt`);
//! 2. its region is there and the consumer's (else `CheckpointRegionMismatch`);
//! 3. its store is this one (else `CheckpointStoreMismatch`);
//! 4. its position and its scanned bound are not beyond what is visible (else `CheckpointAhead`);
//! 5. the event at its position has its id (else `CheckpointDiverged`).
//!
//! No file is a fresh start. A record of only the first four keys has no store, id and scanned bound to check: it starts
//! right after its position. Nothing is ever skipped or rewound instead of an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::{EventId, Region, StoreId};
use crate::format::CheckpointFile;
use crate::io::{Lock, LockMode, Storage};
use crate::store::Store;

use super::position::{Last, Place};

/// The directory of checkpoints within a store's.
const DIRECTORY: &str = "cursors";
const EXTENSION: &str = ".ckpt";
pub(crate) const ID_BYTES_MAX: usize = 200;
/// A record is a region's identity and some numbers; a longer file is not one.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What a checkpoint file says, unchecked against the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Sequence of the last event processed. None: not started.
    pub position: Option<u64>,
    /// The id of that event; none in files of only the first four keys.
    pub position_id: Option<EventId>,
    /// Every match below this sequence was processed.
    pub scanned: u64,
    /// The region that the consumer reads; empty where a file of only the first four keys does not say.
    pub region_identity: String,
    /// The store that the file belongs to; none in files of only the first four keys.
    pub store_id: Option<StoreId>,
}

impl From<CheckpointFile> for Checkpoint {
    fn from(file: CheckpointFile) -> Checkpoint {
        let position = file.started.then_some(file.position);
        Checkpoint {
            position,
            position_id: file.position_id,
            scanned: file.scanned.unwrap_or_else(|| position.map_or(0, |sequence| sequence.saturating_add(1))),
            region_identity: file.region_identity,
            store_id: file.store_id,
        }
    }
}

/// Reads the checkpoint of `id`. What it says is not checked against the log; a live consumer may replace it at any time.
pub fn load(store: &Store, id: &str) -> Result<Checkpoint> {
    store.check_usable()?;
    let files = Files::of(store, id)?;
    match files.read(store.storage())? {
        Some(file) => Ok(file.into()),
        None => Err(Error::CheckpointNotFound { id: id.to_owned() }),
    }
}

/// Writes the checkpoint of `id`: its consumer will start at `next_sequence`, 0 being the beginning. Refused while the
/// id has a live consumer, and beyond what is visible.
pub fn save(store: &Store, id: &str, region: &Region, next_sequence: u64) -> Result<()> {
    store.check_usable()?;
    check_writable(store, "saving a checkpoint")?;
    region.check()?;
    let place = place_at(store, next_sequence)?;
    Claim::acquire(store, id)?.write(store, &region.identity(), place)
}

/// The ids that have a checkpoint, sorted.
pub fn list(store: &Store) -> Result<Vec<String>> {
    store.check_usable()?;
    let entries = store.storage().list(&store.path().join(DIRECTORY))?.unwrap_or_default();
    let mut ids: Vec<String> = entries
        .iter()
        .filter(|entry| !entry.is_directory)
        .filter_map(|entry| entry.name.strip_suffix(EXTENSION))
        .filter(|id| check_id(id).is_ok())
        .map(str::to_owned)
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Removes the checkpoint of `id`; it will start at the beginning. Refused while the id has a live consumer.
pub fn delete(store: &Store, id: &str) -> Result<()> {
    store.check_usable()?;
    check_writable(store, "deleting a checkpoint")?;
    let files = Files::of(store, id)?;
    if !files.exists(store.storage())? {
        return Err(Error::CheckpointNotFound { id: id.to_owned() });
    }
    let claim = Claim::acquire(store, id)?;
    store.storage().remove(&claim.files.record)?;
    store.storage().sync_directory(&claim.files.directory)
}

/// Refuses what would write into a store that was opened for reading only.
pub(crate) fn check_writable(store: &Store, call: &'static str) -> Result<()> {
    match store.is_read_only() {
        true => Err(Error::ReadOnly { path: store.path().to_owned(), call }),
        false => Ok(()),
    }
}

/// Ids are file names that cannot leave their directory.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let reason = match id.as_bytes() {
        [] => "it is empty",
        bytes if bytes.len() > ID_BYTES_MAX => "it is too long",
        [b'.', ..] => "it starts with a dot",
        bytes if !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(byte)) => {
            "it has a character that is not allowed"
        }
        _ => return Ok(()),
    };
    Err(Error::CheckpointIdInvalid { value: id.to_owned(), reason })
}

/// The place of a consumer whose next event is at or after `next_sequence`, which may be at most what is visible.
pub(crate) fn place_at(store: &Store, next_sequence: u64) -> Result<Place> {
    let Some(sequence) = next_sequence.checked_sub(1) else { return Ok(Place::default()) };
    let visible = store.watermarks().visible;
    let id = if next_sequence <= visible { store.event_id_at(sequence)? } else { None };
    match id {
        Some(id) => Ok(Place::just_after(Last { sequence, id })),
        None => Err(beyond_the_end(next_sequence, visible)),
    }
}

/// The place of a consumer that reads backward, and next what is below `sequence`, which may be at most what is visible.
pub(crate) fn place_below(store: &Store, sequence: u64) -> Result<Place> {
    let visible = store.watermarks().visible;
    if sequence > visible {
        return Err(beyond_the_end(sequence, visible));
    }
    let id = if sequence < visible { store.event_id_at(sequence)? } else { None };
    Ok(Place { last: id.map(|id| Last { sequence, id }), scanned: sequence })
}

fn beyond_the_end(next_sequence: u64, visible: u64) -> Error {
    Error::InvalidArgument {
        what: "the next sequence",
        value: format!("{next_sequence}, beyond the end of the visible log at {visible}"),
        remedy: "give a sequence up to the visible watermark",
    }
}

/// A position that somebody kept, held against the log: it must lie in it, and name the event that is there.
pub(crate) fn check_against_log(store: &Store, path: &Path, sequence: u64, stored: Option<EventId>) -> Result<Last> {
    let end = store.watermarks().visible;
    let found = if sequence < end { store.event_id_at(sequence)? } else { None };
    let path = || path.to_owned();
    match (found, stored) {
        (None, _) => Err(Error::CheckpointAhead { path: path(), position: sequence, end }),
        (Some(found), Some(stored)) if found != stored => Err(Error::CheckpointDiverged {
            path: path(),
            position: sequence,
            stored: stored.to_string(),
            found: found.to_string(),
        }),
        (Some(id), _) => Ok(Last { sequence, id }),
    }
}

/// The names of one id's files.
#[derive(Debug)]
struct Files {
    directory: PathBuf,
    record: PathBuf,
    temporary: PathBuf,
    lock: PathBuf,
}

impl Files {
    fn of(store: &Store, id: &str) -> Result<Files> {
        check_id(id)?;
        let directory = store.path().join(DIRECTORY);
        Ok(Files {
            record: directory.join(format!("{id}{EXTENSION}")),
            temporary: directory.join(format!(".{id}.tmp")),
            lock: directory.join(format!(".{id}.lock")),
            directory,
        })
    }

    fn exists(&self, storage: &Arc<dyn Storage>) -> Result<bool> {
        Ok(storage.open_read(&self.record)?.is_some())
    }

    fn read(&self, storage: &Arc<dyn Storage>) -> Result<Option<CheckpointFile>> {
        let Some(file) = storage.open_read(&self.record)? else { return Ok(None) };
        let length = file.length()?;
        if length > FILE_BYTES_MAX {
            return Err(self.corrupt(format!("it has {length} bytes, more than any checkpoint")));
        }
        let mut bytes = vec![0; length as usize];
        let count = file.read_at(&mut bytes, 0)?;
        bytes.truncate(count);
        CheckpointFile::decode(&bytes).map(Some).map_err(|reason| self.corrupt(reason))
    }

    fn corrupt(&self, reason: String) -> Error {
        Error::CheckpointCorrupt { path: self.record.clone(), reason }
    }

    /// Replaces the record, so that a crash leaves the old one or the new one.
    fn replace(&self, storage: &Arc<dyn Storage>, bytes: &[u8]) -> Result<()> {
        let renamed = self.write_temporary(storage, bytes).and_then(|()| storage.rename(&self.temporary, &self.record));
        if let Err(error) = renamed {
            // Best effort: the next write empties it anyway.
            let _ = storage.remove(&self.temporary);
            return Err(error);
        }
        storage.sync_directory(&self.directory)
    }

    fn write_temporary(&self, storage: &Arc<dyn Storage>, bytes: &[u8]) -> Result<()> {
        let file = storage.create(&self.temporary)?;
        file.write_at(bytes, 0)?;
        file.sync_data()
    }
}

/// The right to be the consumer of an id, held for as long as it lives.
#[derive(Debug)]
pub(crate) struct Claim {
    id: String,
    files: Files,
    /// None only on a store opened for reading, where a lock file may be impossible to make.
    _lock: Option<Box<dyn Lock>>,
}

impl Claim {
    /// Takes the lock of `id`, making `cursors` when there is none. A store opened for reading only makes nothing: where
    /// no lock file stands already, or none can be opened, it reads without a lock.
    pub(crate) fn acquire(store: &Store, id: &str) -> Result<Claim> {
        let files = Files::of(store, id)?;
        let in_use = || Error::CheckpointInUse { id: id.to_owned() };
        store.check_place()?;
        let lock = match store.is_read_only() {
            false => Some(lock_for_writing(store, &files)?.ok_or_else(in_use)?),
            true => match store.storage().lock(&files.lock, LockMode::Exclusive, false) {
                Ok(held) => Some(held.ok_or_else(in_use)?),
                Err(_) => None,
            },
        };
        Ok(Claim { id: id.to_owned(), files, _lock: lock })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The checkpoint file, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.files.record
    }

    /// Where the consumer of a region starts: the five checks at the top of this file. None: there is no file.
    pub(crate) fn resume(&self, store: &Store, region_identity: &str) -> Result<Option<Place>> {
        let Some(file) = self.files.read(store.storage())? else { return Ok(None) };
        self.check_owner(store, &file, region_identity)?;
        let last = match file.started {
            true => Some(check_against_log(store, self.path(), file.position, file.position_id)?),
            false => None,
        };
        let unscanned = last.map_or(Place::default(), Place::just_after);
        let place = Place { scanned: file.scanned.unwrap_or(unscanned.scanned), ..unscanned };
        self.check_scanned(store, place, unscanned.scanned)?;
        Ok(Some(place))
    }

    fn check_owner(&self, store: &Store, file: &CheckpointFile, region_identity: &str) -> Result<()> {
        let path = || self.path().to_owned();
        if file.region_identity != region_identity {
            let stored = match file.region_identity.as_str() {
                "" => "absent".to_owned(),
                stored => stored.to_owned(),
            };
            let expected = region_identity.to_owned();
            return Err(Error::CheckpointRegionMismatch { path: path(), stored, expected });
        }
        match file.store_id {
            Some(found) if found != store.id() => Err(Error::CheckpointStoreMismatch {
                path: path(),
                found: found.to_string(),
                expected: store.id().to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// The scanned bound lies beyond the position and in the log.
    fn check_scanned(&self, store: &Store, place: Place, lowest: u64) -> Result<()> {
        let end = store.watermarks().visible;
        if place.scanned < lowest {
            return Err(self.files.corrupt(format!("its scanned bound {} is not above its position", place.scanned)));
        }
        if place.scanned > end {
            let position = place.scanned - 1;
            return Err(Error::CheckpointAhead { path: self.path().to_owned(), position, end });
        }
        Ok(())
    }

    /// Persists `place`: steps 1 to 4 at the top of this file. After a failure the file holds either the old or the new
    /// place, both true.
    pub(crate) fn write(&self, store: &Store, region_identity: &str, place: Place) -> Result<()> {
        debug_assert!(place.scanned >= place.next_sequence());
        check_writable(store, "a checkpoint")?;
        store.check_place()?;
        store.make_durable(place.scanned)?;
        store.settle_cursors_entry()?;
        let file = CheckpointFile {
            position: place.last.map_or(0, |last| last.sequence),
            started: place.last.is_some(),
            region_identity: region_identity.to_owned(),
            position_id: place.last.map(|last| last.id),
            store_id: Some(store.id()),
            scanned: Some(place.scanned),
        };
        self.files.replace(store.storage(), &file.encode())
    }
}

/// None: another consumer holds it.
fn lock_for_writing(store: &Store, files: &Files) -> Result<Option<Box<dyn Lock>>> {
    let storage = store.storage();
    match storage.lock(&files.lock, LockMode::Exclusive, true) {
        Err(Error::Io { os_errno: libc::ENOENT, .. }) => {
            // Making a directory makes its parents: not the one of a store that was deleted.
            if storage.list(store.path())?.is_none() {
                return Err(Error::NotFound { path: store.path().to_owned() });
            }
            if let Err(error) = storage.create_directory(&files.directory) {
                if !matches!(storage.list(&files.directory), Ok(None)) {
                    store.doubt_cursors_entry(&error);
                }
                return Err(error);
            }
            storage.lock(&files.lock, LockMode::Exclusive, true)
        }
        locked => locked,
    }
}
