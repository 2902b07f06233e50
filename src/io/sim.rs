//! A simulated disk under the real engine: deterministic, seeded, in memory.
//!
//! # The fault model
//!
//! What a process sees is the page cache: every change is visible at once. What survives is another matter.
//!
//! * **Kill** ([`SimStorage::crash_keep_all`]): the process dies, the page cache lives. Every change survives, and what was
//!   not synced is still not. Locks are released.
//! * **Power loss** ([`SimStorage::crash`]): each change that no sync has covered is decided by itself, in any combination:
//!   * a write (also one through a mapping) is kept, lost, or torn: some of its units of 512 bytes or 4 KiB, which lie at
//!     multiples of their size in the file, are kept and the others lost. Later writes may survive earlier ones;
//!   * a change of length is kept or lost;
//!   * a file with unsynced changes may have grown with zeros, to where a lost write ended or to the end of that block;
//!   * a creation, rename or removal, of a file or directory, is kept or lost, whatever became of the changes before it.
//!     A rename is one step: the file is found under one of its names, never both or none. A file in a lost directory is
//!     lost; a file whose creation is lost is lost with all its synced bytes.
//!
//!   The sync that covers writes and lengths is the file's [`File::sync_data`]; the one that covers creations, renames
//!   and removals is [`Storage::sync_directory`] of the directory. Nothing else makes anything durable.
//! * **A failed sync** may have written anything and drops the rest: every change it was to cover is decided on the spot
//!   as by a power loss, the process goes on seeing all of it, and a later sync that succeeds covers only later changes.
//! * **Any operation may fail** ([`SimStorage::fail`]), once or for ever, from the n-th of its kind on. It has then
//!   changed nothing, but for a short write ([`SimStorage::fail_short`]), whose first bytes are there.
//! * **At operation n** ([`SimStorage::crash_at`]) everything stops: that operation has happened, wholly or (a write) in
//!   part, or has not; it and all later ones fail with EIO, and locks cannot be taken. What it left is then looked at
//!   with `crash` or `crash_keep_all`.
//! * **Rot** ([`SimStorage::flip`]): bits change on the medium.
//!
//! A store to a mapping of bytes beyond the end of the file, or that no write has allocated, would be a SIGBUS: it panics.
//!
//! Not modelled: a sync that succeeds and lies; sectors torn within 512 bytes; damage beside what was written.
//!
//! # Use
//!
//! [`SimStorage`] is a handle; clones share one disk. A crash makes a new disk and leaves the old one alone, so one
//! moment can be crashed in many ways. Paths are absolute from a root `/` that always exists. Everything random comes from
//! the seeds given, so with one thread a seed and an operation number reproduce any run.

mod content;
mod disk;
mod faults;
#[cfg(test)]
mod tests;

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use super::{Entry, File, Lock, LockMode, Storage, TailMap};
use crate::error::{Error, Result};
use crate::sync::{Mutex, MutexGuard};
use disk::{Disk, Number, Outcome};
use faults::{Admission, Faults};
pub use faults::{Interrupted, Operation, Repeat};

/// What becomes of an unsynced change at a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It reached the disk.
    Kept,
    /// It did not.
    Lost,
    /// Some units of a write did. Like `Kept` for any other change.
    Torn {
        /// 512 or 4096.
        unit_bytes: u64,
        /// Chooses the units.
        seed: u64,
    },
}

/// An unsynced change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The number of the operation that made it.
    pub operation: u64,
    /// The kind of that operation.
    pub by: Operation,
    /// The path it was made under.
    pub path: PathBuf,
    /// What it does.
    pub kind: ChangeKind,
}

impl Change {
    fn new((operation, by): (u64, Operation), path: &Path, kind: ChangeKind) -> Change {
        Change { operation, by, path: path.to_owned(), kind }
    }
}

/// What an unsynced change does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// Writes bytes of a file, by a write or through a mapping.
    Write {
        /// Where.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Cuts or grows a file.
    SetLength {
        /// The new length.
        length: u64,
    },
    /// Not an operation: after the others of its file were decided, the file grows with zeros.
    Growth {
        /// The new length.
        length: u64,
    },
    /// Makes a file.
    Create,
    /// Makes a directory.
    CreateDirectory,
    /// Renames a file or directory.
    Rename {
        /// The new path.
        to: PathBuf,
    },
    /// Removes a file.
    Remove,
}

/// A small seeded generator (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A fate by even chances.
    fn fate(&mut self, change: &Change) -> Fate {
        self.fate_keeping(2, change)
    }

    /// A fate that is `Kept` in `kept` of 4 cases, else, for a write, as often torn as lost.
    pub fn fate_keeping(&mut self, kept: u64, change: &Change) -> Fate {
        if self.below(4) < kept {
            return Fate::Kept;
        }
        match (&change.kind, self.below(4)) {
            (ChangeKind::Write { .. }, 0) => Fate::Torn { unit_bytes: 512, seed: self.next_u64() },
            (ChangeKind::Write { .. }, 1) => Fate::Torn { unit_bytes: 4096, seed: self.next_u64() },
            _ => Fate::Lost,
        }
    }
}

/// A simulated disk; clones share it.
#[derive(Debug, Clone)]
pub struct SimStorage {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    disk: Disk,
    faults: Faults,
    random: Random,
    locks: Vec<HeldLock>,
    next_lock: u64,
    failures: Vec<(Operation, i32, PathBuf)>,
}

#[derive(Debug)]
struct HeldLock {
    id: u64,
    number: Number,
    mode: LockMode,
}

impl SimStorage {
    /// An empty disk. The seed decides what failed syncs and interrupted operations leave behind.
    pub fn new(seed: u64) -> SimStorage {
        SimStorage::with_disk(Disk::new(), seed)
    }

    fn with_disk(disk: Disk, seed: u64) -> SimStorage {
        let random = Random::new(seed);
        let state =
            State { disk, faults: Faults::default(), random, locks: Vec::new(), next_lock: 0, failures: Vec::new() };
        SimStorage { shared: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- crashes -------------------------------------------------------------------------------------------------

    /// A disk as a power loss may leave this one now. Some seeds lose or keep everything unsynced, the others mix.
    pub fn crash(&self, seed: u64) -> SimStorage {
        let mut random = Random::new(seed);
        let mood = random.below(8);
        let survivor = self.crash_with(&mut |change| match mood {
            0 => Fate::Lost,
            1 => Fate::Kept,
            mood => random.fate_keeping(mood % 4, change),
        });
        survivor.state().random = Random::new(seed ^ 0x5EED);
        survivor
    }

    /// Chooses anew what decides what failed syncs and interrupted operations leave behind.
    pub fn reseed(&self, seed: u64) {
        self.state().random = Random::new(seed);
    }

    /// A disk as a power loss leaves this one when `decide` says what becomes of each unsynced change. It is asked
    /// about directories before their contents, and about the changes of one file or directory in their order.
    pub fn crash_with(&self, decide: &mut dyn FnMut(&Change) -> Fate) -> SimStorage {
        let disk = self.state().disk.crash(decide);
        SimStorage::with_disk(disk, 0)
    }

    /// The disk after the process was killed: nothing is lost, nothing has become durable, the locks are free.
    pub fn crash_keep_all(&self) -> SimStorage {
        let state = self.state();
        let seed = state.random.clone().next_u64();
        SimStorage::with_disk(state.disk.clone(), seed)
    }

    /// The unsynced changes, as [`SimStorage::crash_with`] would ask about them if all the entries survive.
    pub fn pending(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.crash_with(&mut |change| {
            if !matches!(change.kind, ChangeKind::Growth { .. }) {
                changes.push(change.clone());
            }
            Fate::Kept
        });
        changes
    }

    // ---- faults --------------------------------------------------------------------------------------------------

    /// Makes the operation of this kind that comes after `nth` others from now on fail with `errno`.
    pub fn fail(&self, operation: Operation, nth: u64, errno: i32, repeat: Repeat) {
        self.state().faults.add(operation, nth, None, errno, repeat);
    }

    /// Makes a write fail after its first `written` bytes (a write not longer than that is whole, and fails too).
    pub fn fail_short(&self, nth: u64, written: usize, errno: i32, repeat: Repeat) {
        self.state().faults.add(Operation::Write, nth, Some(written), errno, repeat);
    }

    /// Takes all planned failures back, and a stop that was not reached.
    pub fn heal(&self) {
        self.state().faults.heal();
    }

    /// How many operations that change or sync the disk were begun: the number that the next one gets.
    pub fn operations(&self) -> u64 {
        self.state().faults.operations()
    }

    /// Stops everything at the operation of this number.
    pub fn crash_at(&self, operation: u64) {
        self.state().faults.crash_at(operation);
    }

    /// As [`SimStorage::crash_at`], and says how much of that operation happens.
    pub fn crash_within(&self, operation: u64, how: Interrupted) {
        self.state().faults.crash_within(operation, how);
    }

    /// The kind of the operation at which everything stopped, and how much of it had happened.
    pub fn interruption(&self) -> Option<(Operation, Interrupted)> {
        self.state().faults.interruption
    }

    /// How often each kind of operation was begun, in the order of [`Operation::ALL`].
    pub fn counts(&self) -> [u64; Operation::ALL.len()] {
        self.state().faults.counts
    }

    /// The kinds of the operations that were begun, by number.
    pub fn history(&self) -> Vec<Operation> {
        self.state().faults.history.clone()
    }

    /// The failures that were planned and happened: kind, error number and path.
    pub fn failures(&self) -> Vec<(Operation, i32, PathBuf)> {
        self.state().failures.clone()
    }

    /// Whether the operation of [`SimStorage::crash_at`] was reached.
    pub fn is_crashed(&self) -> bool {
        self.state().faults.is_crashed()
    }

    /// Flips the bits of `mask` in one byte, durably and unnoticed.
    ///
    /// # Panics
    /// When there is no such byte.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let mut state = self.state();
        let file = state.disk.find_file(path).and_then(|number| state.disk.file_mut(number));
        let file = file.unwrap_or_else(|errno| panic!("no file {}: {errno}", path.display()));
        assert!(offset < file.current.length(), "{} has no byte {offset}", path.display());
        file.flip(offset, mask);
    }

    // ---- looking -------------------------------------------------------------------------------------------------

    /// The bytes of a file as a process sees them now, without counting as an operation.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let number = state.disk.find_file(path).ok()?;
        state.disk.file(number).ok().map(|file| file.current.to_vec())
    }

    /// A number that differs, but for chance, between disks that differ in what a process can see.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.state().disk.hash_current(&mut hasher);
        hasher.finish()
    }

    // ---- operations ----------------------------------------------------------------------------------------------

    /// Runs one operation under the planned faults. `apply` gets the operation's number.
    fn run<T>(
        &self,
        operation: Operation,
        word: &'static str,
        path: &Path,
        apply: impl FnOnce(&mut Disk, (u64, Operation)) -> Outcome<T>,
    ) -> Result<T> {
        let mut state = self.state();
        let number = (state.faults.operations(), operation);
        let outcome = match state.admit(operation, path) {
            Admission::Proceed => apply(&mut state.disk, number),
            Admission::Short { errno, .. } | Admission::Refuse(errno) => Err(errno),
            Admission::Interrupt => {
                if state.happens() {
                    let _ = apply(&mut state.disk, number);
                }
                Err(libc::EIO)
            }
        };
        outcome.map_err(|errno| os_error(word, path, errno))
    }

    fn open(&self, path: &Path, writable: bool) -> Result<Option<Arc<dyn File>>> {
        let found = self.run(Operation::Open, "opening", path, |disk, _| match disk.find_file(path) {
            Err(libc::ENOENT) => Ok(None),
            found => found.map(Some),
        })?;
        Ok(found.map(|number| self.file(number, path, writable)))
    }

    fn file(&self, number: Number, path: &Path, writable: bool) -> Arc<dyn File> {
        Arc::new(SimFile { storage: self.clone(), number, path: path.to_owned(), writable })
    }
}

impl Storage for SimStorage {
    fn create_directory(&self, path: &Path) -> Result<()> {
        let path = disk::normalize(path);
        let mut missing = Vec::new();
        for ancestor in path.ancestors() {
            match self.run(Operation::Open, "creating", ancestor, |disk, _| disk.list(ancestor)) {
                Ok(_) => break,
                Err(Error::Io { os_errno: libc::ENOENT, .. }) => missing.push(ancestor),
                Err(error) => return Err(error),
            }
        }
        for directory in missing.into_iter().rev() {
            self.run(Operation::CreateDirectory, "creating", directory, |disk, operation| {
                disk.create_directory(directory, operation)
            })?;
            self.sync_directory(directory.parent().unwrap_or(directory))?;
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> Result<Option<Vec<Entry>>> {
        let found = self.run(Operation::List, "listing", path, |disk, _| match disk.list(path) {
            Err(libc::ENOENT) => Ok(None),
            found => found.map(Some),
        })?;
        let entry = |(name, length, is_directory): (std::ffi::OsString, u64, bool)| {
            Some(Entry { name: name.into_string().ok()?, length, is_directory })
        };
        Ok(found.map(|entries| entries.into_iter().filter_map(entry).collect()))
    }

    fn open_read(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        self.open(path, false)
    }

    fn open_write(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        self.open(path, true)
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        let number =
            self.run(Operation::Create, "creating", path, |disk, operation| disk.create_file(path, operation))?;
        Ok(self.file(number, path, true))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.run(Operation::Rename, "renaming", from, |disk, operation| disk.rename(from, to, operation))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.run(Operation::Remove, "removing", path, |disk, operation| match disk.remove(path, operation) {
            Err(libc::ENOENT) => Ok(()),
            removed => removed,
        })
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        let outcome = match state.admit(Operation::SyncDirectory, path) {
            Admission::Proceed => state.disk.sync_directory(path),
            Admission::Interrupt => {
                if state.happens() {
                    let _ = state.disk.sync_directory(path);
                }
                Err(libc::EIO)
            }
            Admission::Short { errno, .. } | Admission::Refuse(errno) => {
                if !state.faults.is_crashed() {
                    let State { disk, random, .. } = &mut *state;
                    disk.fail_to_sync_directory(path, random);
                }
                Err(errno)
            }
        };
        outcome.map_err(|errno| os_error("syncing", path, errno))
    }

    fn lock(&self, path: &Path, mode: LockMode, create: bool) -> Result<Option<Box<dyn Lock>>> {
        let find = |disk: &mut Disk, _| match disk.find(path) {
            Err(libc::ENOENT) if create => Ok(None),
            found => found.map(Some),
        };
        let number = match self.run(Operation::Lock, "opening", path, find)? {
            Some(number) => number,
            None => {
                self.run(Operation::Create, "opening", path, |disk, operation| disk.create_file(path, operation))?
            }
        };
        Ok(self
            .state()
            .take_lock(number, mode)
            .map(|id| Box::new(SimLock { storage: self.clone(), id }) as Box<dyn Lock>))
    }

    fn canonicalize(&self, path: &Path) -> Result<PathBuf> {
        self.run(Operation::Open, "resolving", path, |disk, _| disk.find(path).map(|_| disk::normalize(path)))
    }
}

impl State {
    /// `None`: held in a conflicting mode.
    fn take_lock(&mut self, number: Number, mode: LockMode) -> Option<u64> {
        let both_shared = |held: &HeldLock| mode == LockMode::Shared && held.mode == LockMode::Shared;
        if self.locks.iter().any(|held| held.number == number && !both_shared(held)) {
            return None;
        }
        let id = self.next_lock;
        self.next_lock += 1;
        self.locks.push(HeldLock { id, number, mode });
        Some(id)
    }
}

#[cold]
fn os_error(word: &'static str, path: &Path, errno: i32) -> Error {
    Error::io(word, path, &io::Error::from_raw_os_error(errno))
}

#[derive(Debug)]
struct SimLock {
    storage: SimStorage,
    id: u64,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.storage.state().locks.retain(|held| held.id != self.id);
    }
}

/// An open simulated file. It reaches its bytes whatever becomes of its name.
#[derive(Debug)]
struct SimFile {
    storage: SimStorage,
    number: Number,
    path: PathBuf,
    writable: bool,
}

impl File for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn length(&self) -> Result<u64> {
        self.storage
            .run(Operation::Open, "measuring", &self.path, |disk, _| Ok(disk.file(self.number)?.current.length()))
    }

    fn set_length(&self, length: u64) -> Result<()> {
        self.storage.run(Operation::SetLength, "resizing", &self.path, |disk, operation| {
            if !self.writable || i64::try_from(length).is_err() {
                return Err(libc::EINVAL);
            }
            disk.file_mut(self.number)?.set_length(length, &self.path, operation);
            Ok(())
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.storage.run(Operation::Read, "reading", &self.path, |disk, _| {
            if i64::try_from(offset).is_err() {
                return Err(libc::EINVAL);
            }
            Ok(disk.file(self.number)?.current.read(buffer, offset))
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let failed = |errno| Err(os_error("writing", &self.path, errno));
        if !self.writable {
            return failed(libc::EBADF);
        }
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| i64::try_from(end).is_err()) {
            return failed(libc::EINVAL);
        }
        let mut state = self.storage.state();
        match state.write(Operation::Write, self.number, &self.path, bytes, offset) {
            Ok(()) => Ok(()),
            Err(errno) => failed(errno),
        }
    }

    fn sync_data(&self) -> Result<()> {
        let mut state = self.storage.state();
        let admission = state.admit(Operation::Sync, &self.path);
        let crashed = state.faults.is_crashed();
        let happens = admission == Admission::Interrupt && state.happens();
        let State { disk, random, .. } = &mut *state;
        let outcome = disk.file_mut(self.number).and_then(|file| match admission {
            Admission::Proceed => {
                file.sync();
                Ok(())
            }
            Admission::Interrupt => {
                if happens {
                    file.sync();
                }
                Err(libc::EIO)
            }
            Admission::Short { errno, .. } | Admission::Refuse(errno) => {
                if !crashed {
                    file.fail_to_sync(random);
                }
                Err(errno)
            }
        });
        outcome.map_err(|errno| os_error("syncing", &self.path, errno))
    }

    fn map_tail(&self, length: u64) -> Result<Box<dyn TailMap>> {
        self.storage.run(Operation::Map, "mapping", &self.path, |_, _| match (self.writable, length) {
            (false, _) => Err(libc::EACCES),
            (true, 0) => Err(libc::EINVAL),
            (true, _) => Ok(()),
        })?;
        let (storage, path) = (self.storage.clone(), self.path.clone());
        Ok(Box::new(SimTailMap { storage, number: self.number, path, length }))
    }
}

impl State {
    /// A write, or a store through a mapping, with as much of it done as the planned faults let through.
    fn write(&mut self, operation: Operation, number: Number, path: &Path, bytes: &[u8], offset: u64) -> Outcome<()> {
        let operation_number = (self.faults.operations(), operation);
        let (done, outcome) = match self.admit(operation, path) {
            Admission::Proceed => (bytes.len(), Ok(())),
            Admission::Refuse(errno) => (0, Err(errno)),
            Admission::Short { written, errno } => (written.min(bytes.len()), Err(errno)),
            Admission::Interrupt => (self.interrupted_length(bytes.len()), Err(libc::EIO)),
        };
        if done > 0 {
            self.disk.file_mut(number)?.write(&bytes[..done], offset, path, operation_number);
        }
        outcome
    }

    fn admit(&mut self, operation: Operation, path: &Path) -> Admission {
        let admission = self.faults.admit(operation);
        if let Admission::Short { errno, .. } | Admission::Refuse(errno) = admission {
            if !self.faults.is_crashed() {
                self.failures.push((operation, errno, path.to_owned()));
            }
        }
        admission
    }

    /// Whether the operation that everything stops at has happened.
    fn happens(&mut self) -> bool {
        let how = match self.faults.planned_interruption() {
            Some(Interrupted::Before) => Interrupted::Before,
            Some(_) => Interrupted::After,
            None if self.random.below(2) == 0 => Interrupted::After,
            None => Interrupted::Before,
        };
        self.faults.note_interruption(how);
        how == Interrupted::After
    }

    fn interrupted_length(&mut self, length: usize) -> usize {
        let within = |random: &mut Random| 1 + random.below(length as u64 - 1) as usize;
        let done = match self.faults.planned_interruption() {
            Some(Interrupted::Before) => 0,
            Some(Interrupted::Within) if length > 1 => within(&mut self.random),
            Some(_) => length,
            None => match self.random.below(4) {
                0 => 0,
                1 if length > 1 => within(&mut self.random),
                _ => length,
            },
        };
        self.faults.note_interruption(match done {
            0 => Interrupted::Before,
            done if done < length => Interrupted::Within,
            _ => Interrupted::After,
        });
        done
    }
}

#[derive(Debug)]
struct SimTailMap {
    storage: SimStorage,
    number: Number,
    path: PathBuf,
    length: u64,
}

impl TailMap for SimTailMap {
    fn store(&self, bytes: &[u8], offset: u64) {
        let fits = offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= self.length);
        assert!(fits, "a store of {} bytes at {offset} is outside the mapping of {}", bytes.len(), self.length);
        if bytes.is_empty() {
            return;
        }
        let mut state = self.storage.state();
        if state.faults.is_crashed() {
            return;
        }
        let allocated = state.disk.file(self.number).is_ok_and(|file| file.current.is_allocated(offset, bytes.len()));
        assert!(allocated, "SIGBUS: {} bytes at {offset} of {} are not allocated", bytes.len(), self.path.display());
        // No fault is planned for stores: one that the crash interrupts leaves a part, and nobody is told.
        let _ = state.write(Operation::Store, self.number, &self.path, bytes, offset);
    }

    fn populate(&self, _offset: u64, _length: u64) {}
}
