//! The latch for I/O failure: after a failed write or sync nothing more is written.
//!
//! A failed sync may have dropped the very pages it was asked to write and reports that only once, so a second sync
//! that succeeds proves nothing. Hence: the first failure trips the [`Latch`], for good; [`LatchedFile`] refuses every
//! later write and sync; reads go on.
//!
//! Invariants:
//! 1. The cause, once set by [`Latch::trip`], never changes.
//! 2. No sync of a file returns success when an earlier sync of that file failed. The kernel reports a write-back error
//!    to one caller per descriptor; a second sync, let in before the first caller has tripped the latch, would see
//!    success. So syncs of one file take turns, and the latch is checked inside the turn.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::{File, TailMap};
use crate::error::{Error, Result};
use crate::sync::{Mutex, OnceLock};

/// A switch that goes from healthy to tripped, once.
#[derive(Default)]
pub struct Latch {
    cause: OnceLock<String>,
    announce: Option<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Latch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Latch").field("cause", &self.cause.get()).finish_non_exhaustive()
    }
}

impl Latch {
    /// A healthy latch.
    pub fn new() -> Latch {
        Latch::default()
    }

    /// One that calls `announce` when it has tripped: whoever waits for what can no longer come is to look. The locks of the failed
    /// operation are held then.
    pub fn announcing(announce: impl Fn() + Send + Sync + 'static) -> Latch {
        Latch { announce: Some(Box::new(announce)), ..Latch::default() }
    }

    /// `Poisoned` with the first cause when tripped. One atomic load when healthy.
    #[inline]
    pub fn check(&self) -> Result<()> {
        match self.cause.get() {
            None => Ok(()),
            Some(cause) => Err(poisoned(cause)),
        }
    }

    /// Trips the latch; the first cause stays.
    #[cold]
    pub fn trip(&self, error: &Error) {
        self.cause.get_or_init(|| error.to_string());
        if let Some(announce) = &self.announce {
            announce();
        }
    }

    /// Whether [`Latch::check`] refuses.
    #[inline]
    pub fn is_tripped(&self) -> bool {
        self.cause.get().is_some()
    }

    #[inline]
    fn watch<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.trip(error);
        }
        result
    }
}

#[cold]
fn poisoned(cause: &str) -> Error {
    Error::Poisoned { cause: cause.to_owned() }
}

/// A file whose failed writes and syncs trip a latch that it may share with others.
#[derive(Debug)]
pub struct LatchedFile {
    file: Arc<dyn File>,
    latch: Arc<Latch>,
    sync_turn: Mutex<()>,
}

impl LatchedFile {
    /// Puts `file` behind `latch`. One `LatchedFile` per open file: its syncs take turns only among themselves.
    pub fn new(file: Arc<dyn File>, latch: Arc<Latch>) -> LatchedFile {
        LatchedFile { file, latch, sync_turn: Mutex::new(()) }
    }

    /// The latch it trips.
    pub fn latch(&self) -> &Arc<Latch> {
        &self.latch
    }

    /// Writes where nothing is stored yet, to prepare space ahead. A failure trips nothing: an append that still fits is
    /// not concerned. Refused, like every write, once the latch is tripped.
    pub fn write_at_unlatched(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.latch.check()?;
        self.file.write_at(bytes, offset)
    }
}

impl File for LatchedFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn length(&self) -> Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length: u64) -> Result<()> {
        self.latch.check()?;
        self.latch.watch(self.file.set_length(length))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buffer, offset)
    }

    #[inline]
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.latch.check()?;
        self.latch.watch(self.file.write_at(bytes, offset))
    }

    fn sync_data(&self) -> Result<()> {
        let _turn = self.sync_turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.latch.check()?;
        self.latch.watch(self.file.sync_data().and_then(|()| self.file.check_whole()))
    }

    fn check_whole(&self) -> Result<()> {
        self.file.check_whole()
    }

    /// Refused once tripped. A failure trips nothing: nothing was written, and writing goes on without a mapping.
    fn map_tail(&self, length: u64) -> Result<Box<dyn TailMap>> {
        self.latch.check()?;
        self.file.map_tail(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Storage;
    use crate::io::sim::{Operation, Repeat, SimStorage};

    fn latched_file() -> (SimStorage, Arc<Latch>, LatchedFile) {
        let storage = SimStorage::new(1);
        let latch = Arc::new(Latch::new());
        let file = storage.create(Path::new("/file")).unwrap();
        file.write_at(b"before", 0).unwrap();
        (storage, Arc::clone(&latch), LatchedFile::new(file, latch))
    }

    fn assert_refuses_writes_but_reads(file: &LatchedFile) {
        let refused = |result: Result<()>| assert!(matches!(result, Err(Error::Poisoned { .. })), "{result:?}");
        refused(file.write_at(b"x", 0));
        refused(file.write_at_unlatched(b"x", 0));
        refused(file.set_length(0));
        refused(file.sync_data());
        refused(file.map_tail(6).map(drop));
        let mut buffer = [0; 6];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 6);
        assert_eq!(&buffer, b"before");
        assert_eq!(file.length().unwrap(), 6);
    }

    /// Guards: appending goes on after a failed write or sync.
    #[test]
    fn each_failing_change_trips_the_latch_and_returns_its_own_error() {
        type Call = fn(&LatchedFile) -> Result<()>;
        let calls: [(Operation, Call); 3] = [
            (Operation::Write, |file| file.write_at(b"after!", 0)),
            (Operation::SetLength, |file| file.set_length(1)),
            (Operation::Sync, |file| file.sync_data()),
        ];
        for (operation, call) in calls {
            let (storage, latch, file) = latched_file();
            storage.fail(operation, 0, libc::EIO, Repeat::Once);
            let error = call(&file).unwrap_err();
            assert_eq!(error.os_errno(), libc::EIO);
            assert!(latch.is_tripped());
            assert_refuses_writes_but_reads(&file);
        }
    }

    /// Guards: a sync is tried again after it failed. The disk is asked exactly once.
    #[test]
    fn a_failed_sync_is_never_retried() {
        let (storage, _, file) = latched_file();
        storage.fail(Operation::Sync, 0, libc::EIO, Repeat::Once);
        assert!(file.sync_data().is_err());
        let operations = storage.operations();
        assert!(file.sync_data().is_err());
        assert_eq!(storage.operations(), operations);
    }

    /// Guards: a full disk while preparing space ahead poisons a store whose next append still fits.
    #[test]
    fn a_failure_to_prepare_ahead_poisons_nothing() {
        let (storage, latch, file) = latched_file();
        storage.fail(Operation::Write, 0, libc::ENOSPC, Repeat::Once);
        assert!(matches!(file.write_at_unlatched(b"zeros", 6), Err(Error::DiskFull { .. })));
        assert!(!latch.is_tripped());
        file.write_at(b"after!", 0).unwrap();
        file.sync_data().unwrap();
    }

    /// Guards: the message names a later symptom in place of the first cause.
    #[test]
    fn the_first_cause_stays() {
        let latch = Latch::new();
        assert!(latch.check().is_ok());
        latch.trip(&Error::NoCheckpoint);
        latch.trip(&Error::BatchEmpty);
        let Err(Error::Poisoned { cause }) = latch.check() else { panic!("not poisoned") };
        assert_eq!(cause, Error::NoCheckpoint.to_string());
    }

    /// Guards: who waits for what can no longer come is not told.
    #[test]
    fn it_announces_that_it_has_tripped() {
        let announced = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = announced.clone();
        let latch = Latch::announcing(move || {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(announced.load(std::sync::atomic::Ordering::Relaxed), 0);
        latch.trip(&Error::NoCheckpoint);
        assert_eq!(announced.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    /// Guards: of two threads that sync at once, the one that the kernel does not tell of the failure acknowledges.
    #[test]
    fn no_concurrent_sync_succeeds_after_one_failed() {
        for seed in 0..200 {
            let (storage, _, file) = latched_file();
            storage.fail(Operation::Sync, seed % 4, libc::EIO, Repeat::Once);
            let successes = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| file.sync_data().is_ok())).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).filter(|succeeded| *succeeded).count()
            });
            assert_eq!(successes as u64, seed % 4, "syncs that succeeded must be those before the failing one");
        }
    }
}
