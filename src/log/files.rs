//! Open descriptors for any number of sealed files: opened at first use, the oldest closed when there are too many.
//!
//! A reader holds its own reference, so closing a slot under it takes nothing away.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, Weak};

use crate::error::{Error, Result};
use crate::io::{File, Storage};
use crate::sync::Mutex;

/// Descriptors kept open per store for sealed segments and their indexes.
const OPEN_MAX: usize = 256;

/// The slots that hold a descriptor, oldest first.
#[derive(Debug)]
pub(crate) struct FilePool {
    storage: Arc<dyn Storage>,
    open: Mutex<VecDeque<Weak<FileSlot>>>,
}

impl FilePool {
    pub fn new(storage: Arc<dyn Storage>) -> Arc<FilePool> {
        Arc::new(FilePool { storage, open: Mutex::default() })
    }

    /// A slot for the file at `path`, which need not be opened yet.
    pub fn slot(self: &Arc<FilePool>, path: PathBuf) -> Arc<FileSlot> {
        Arc::new(FileSlot { pool: self.clone(), path, file: Mutex::default() })
    }

    /// Opens a file, if it is there. Where descriptors are short, those of other files give way.
    fn open(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        loop {
            match self.storage.open_read(path) {
                Err(Error::Io { os_errno: libc::EMFILE | libc::ENFILE, .. }) if self.close_oldest() => {}
                opened => return opened,
            }
        }
    }

    /// Lets the oldest descriptor go. Says whether there was one.
    fn close_oldest(&self) -> bool {
        loop {
            let oldest = self.open.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match oldest {
                None => return false,
                Some(slot) => {
                    if slot.upgrade().is_some_and(|slot| slot.close()) {
                        return true;
                    }
                }
            }
        }
    }

    fn opened(&self, slot: &Arc<FileSlot>) {
        let oldest = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.push_back(Arc::downgrade(slot));
            if open.len() > OPEN_MAX { open.pop_front() } else { None }
        };
        if let Some(slot) = oldest.and_then(|slot| slot.upgrade()) {
            slot.close();
        }
    }
}

/// One file that is opened for reading when needed.
#[derive(Debug)]
pub(crate) struct FileSlot {
    pool: Arc<FilePool>,
    path: PathBuf,
    file: Mutex<Option<Arc<dyn File>>>,
}

impl FileSlot {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file. A missing one is an error: it was there when the store was opened.
    pub fn get(self: &Arc<FileSlot>) -> Result<Arc<dyn File>> {
        self.find()?.ok_or_else(|| Error::Corrupt {
            path: self.path.clone(),
            offset: 0,
            sequence: 0,
            reason: String::from("the file was removed while the store was open"),
        })
    }

    /// The open file, `None` when there is none.
    pub fn find(self: &Arc<FileSlot>) -> Result<Option<Arc<dyn File>>> {
        if let Some(file) = &*self.file.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Some(file.clone()));
        }
        let Some(file) = self.pool.open(&self.path)? else { return Ok(None) };
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file.clone());
        self.pool.opened(self);
        Ok(Some(file))
    }

    /// Lets the descriptor go; the next use opens it anew. Says whether there was one.
    pub fn close(&self) -> bool {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
}
