//! The only code that touches the file system, descriptors and mappings.
//!
//! Everything above works on the traits here, so that a simulated disk can stand under the real engine. The traits are
//! small enough to implement in a test, and one conformance suite runs against every implementation.
//!
//! * [`Storage`] names files and makes, renames, removes and lists them. A new or renamed file is durable only after
//!   [`Storage::sync_directory`] on its directory.
//! * [`File`] reads and writes at offsets. Bytes are durable only after [`File::sync_data`].
//! * [`TailMap`] writes into a mapping of a file whose blocks are already allocated.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;

#[cfg(test)]
mod conformance;
pub mod fork;
pub mod latch;
pub mod notify;
pub mod os;
#[cfg(any(test, feature = "simulation"))]
pub mod sim;
pub mod time;

/// What a directory listing says of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The file's name within the directory (names that are not UTF-8 are left out of listings).
    pub name: String,
    /// Length in bytes.
    pub length: u64,
    /// The entry is a directory.
    pub is_directory: bool,
}

/// A file system, or a stand-in for one.
pub trait Storage: Send + Sync + Debug {
    /// Makes the directory and its parents. Existing ones are fine. Each one made is durable when this returns (its
    /// parent is synced); one that was there already may still be waiting for a [`Storage::sync_directory`].
    fn create_directory(&self, path: &Path) -> Result<()>;
    /// Lists a directory, in no order. `None`: there is no such directory.
    fn list(&self, path: &Path) -> Result<Option<Vec<Entry>>>;
    /// Opens an existing file for reading. `None`: there is no such file.
    fn open_read(&self, path: &Path) -> Result<Option<Arc<dyn File>>>;
    /// Opens an existing file for reading and writing. `None`: there is no such file.
    fn open_write(&self, path: &Path) -> Result<Option<Arc<dyn File>>>;
    /// Creates a file (an existing one is emptied) for reading and writing.
    fn create(&self, path: &Path) -> Result<Arc<dyn File>>;
    /// Renames within one directory, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file. A missing one is fine.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Makes creations, renames and removals in the directory durable.
    fn sync_directory(&self, path: &Path) -> Result<()>;
    /// Opens a directory that is to be synced again and again, so that a sync takes no further descriptor: there may be none left
    /// when it matters. `None`: [`Storage::sync_directory`] takes none here.
    fn hold_directory(&self, _path: &Path) -> Result<Option<Box<dyn Directory>>> {
        Ok(None)
    }
    /// Locks a file (made when missing and `create`) or a directory, exclusively or shared, without waiting.
    /// `None`: someone else holds it in a conflicting mode.
    fn lock(&self, path: &Path, mode: LockMode, create: bool) -> Result<Option<Box<dyn Lock>>>;
    /// Resolves links and relative parts, so that two names of one directory are one.
    fn canonicalize(&self, path: &Path) -> Result<PathBuf>;
}

/// How a lock excludes others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// No other holder.
    Exclusive,
    /// Other shared holders only.
    Shared,
}

/// A held lock, released when dropped. A forked child does not hold it: its copy of the descriptor is closed at fork.
pub trait Lock: Send + Sync + Debug {}

/// An open directory.
pub trait Directory: Send + Sync + Debug {
    /// Makes creations, renames and removals in it durable.
    fn sync(&self) -> Result<()>;
}

/// An open file.
pub trait File: Send + Sync + Debug {
    /// The path it was opened under, for messages.
    fn path(&self) -> &Path;
    /// Length in bytes.
    fn length(&self) -> Result<u64>;
    /// Cuts or grows (with zeros) to `length` bytes.
    fn set_length(&self, length: u64) -> Result<()>;
    /// Fills as much of `buffer` as the file has from `offset` on, and says how much. Interrupted and short reads are
    /// continued; less than the whole buffer means the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;
    /// Writes all of `bytes` at `offset`. Interrupted and short writes are continued.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()>;
    /// Makes all written bytes and the length durable (fdatasync).
    fn sync_data(&self) -> Result<()>;
    /// Maps the first `length` bytes for writing. Only ranges that lie in the file, with blocks allocated by
    /// [`File::write_at`], may be stored to.
    fn map_tail(&self, length: u64) -> Result<Box<dyn TailMap>>;
}

/// A mapping for appending. A store to it is in the page cache at once: it survives a kill of the process, not a power loss.
pub trait TailMap: Send + Sync + Debug {
    /// Copies `bytes` to `offset`. The caller guarantees that nobody else writes the range and that it is allocated.
    ///
    /// # Panics
    /// When the range is outside the mapping.
    fn store(&self, bytes: &[u8], offset: u64);
    /// Prepares the page tables of an allocated range, so that storing to it takes no fault. A hint: failures are ignored.
    fn populate(&self, offset: u64, length: u64);
}
