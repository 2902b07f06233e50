//! A disk on which one kind of operation waits until it is let go on, so that a race has one outcome.

use std::path::PathBuf;

use super::*;
use crate::io::{Entry, File, Lock, LockMode, Storage, TailMap};
use crate::sync::Condvar;

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// The helper's writes to the next segment's file.
    HelperWrite,
    /// Every sync of a file, once [`Gate::shut`] was called.
    Sync,
}

/// Where it waits.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_shut: bool,
    is_reached: bool,
    is_open: bool,
    is_passed: bool,
}

impl Gate {
    pub(super) fn shut(&self) {
        self.state.lock().unwrap().is_shut = true;
    }

    pub(super) fn is_reached(&self) -> bool {
        self.state.lock().unwrap().is_reached
    }

    pub(super) fn is_passed(&self) -> bool {
        self.state.lock().unwrap().is_passed
    }

    pub(super) fn open(&self) {
        self.state.lock().unwrap().is_open = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_reached = true;
        while !state.is_open {
            state = self.changed.wait(state).unwrap();
        }
    }
}

#[derive(Debug)]
pub(super) struct GatedStorage {
    pub(super) disk: SimStorage,
    pub(super) gate: Arc<Gate>,
    pub(super) at: At,
}

impl GatedStorage {
    fn gated(&self, file: Arc<dyn File>, path: &Path) -> Arc<dyn File> {
        let waits = match self.at {
            At::Sync => true,
            At::HelperWrite => {
                std::thread::current().name() == Some("batpak-helper") && path.to_string_lossy().ends_with(".seg.tmp")
            }
        };
        if waits { Arc::new(GatedFile { file, gate: self.gate.clone(), at: self.at }) } else { file }
    }
}

impl Storage for GatedStorage {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        Ok(self.gated(self.disk.create(path)?, path))
    }

    fn create_directory(&self, path: &Path) -> Result<()> {
        self.disk.create_directory(path)
    }

    fn list(&self, path: &Path) -> Result<Option<Vec<Entry>>> {
        self.disk.list(path)
    }

    fn open_read(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        self.disk.open_read(path)
    }

    fn open_write(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        Ok(self.disk.open_write(path)?.map(|file| self.gated(file, path)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.disk.remove(path)
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        self.disk.sync_directory(path)
    }

    fn lock(&self, path: &Path, mode: LockMode, create: bool) -> Result<Option<Box<dyn Lock>>> {
        self.disk.lock(path, mode, create)
    }

    fn canonicalize(&self, path: &Path) -> Result<PathBuf> {
        self.disk.canonicalize(path)
    }
}

#[derive(Debug)]
struct GatedFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
    at: At,
}

impl File for GatedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        if self.at == At::HelperWrite {
            self.gate.pass();
        }
        let written = self.file.write_at(bytes, offset);
        // A later write is enough of a sign that the first one is over.
        self.gate.state.lock().unwrap().is_passed = true;
        written
    }

    fn path(&self) -> &Path {
        self.file.path()
    }

    fn length(&self) -> Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length: u64) -> Result<()> {
        self.file.set_length(length)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn sync_data(&self) -> Result<()> {
        if self.at == At::Sync && self.gate.state.lock().unwrap().is_shut {
            self.gate.pass();
        }
        self.file.sync_data()
    }

    fn map_tail(&self, length: u64) -> Result<Box<dyn TailMap>> {
        self.file.map_tail(length)
    }
}
