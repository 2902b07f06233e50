//! The operating system's file system.
//!
//! * Reads and writes are `pread` and `pwrite` at offsets; nothing seeks and nothing is allocated on the way.
//! * Interrupted calls and calls that would block are made again, with bounded patience; short ones are continued. A
//!   failed sync is not made again. (An interrupted one is: EINTR says that it did not run to its end, and local file
//!   systems return it before looking at any write-back error.)
//! * No descriptor is 0, 1 or 2, which a host may have closed: what it prints would land in the log.
//! * No write goes beyond the process's limit on file sizes, which would raise SIGXFSZ and end a host that does not expect it.
//! * Every descriptor is close-on-exec. Files are opened non-blocking, which means nothing to regular files but keeps
//!   a FIFO under a file's name from hanging us; whatever is no regular file is then refused.
//! * A lock is `flock` on an open file description of its own, known to [`super::fork`]. Lock files are never unlinked:
//!   two processes could then hold locks on two files of one name.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::fork::{self, Slot};
use super::{Directory, Entry, File, Lock, LockMode, Storage, TailMap};
use crate::error::{Error, Result};

/// The file system of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsStorage;

impl OsStorage {
    /// Like [`Storage::open_read`], with the type known at compile time.
    pub fn open_file_read(&self, path: &Path) -> Result<Option<OsFile>> {
        existing(OsFile::open(path, OpenOptions::new().read(true), "opening"))
    }

    /// Like [`Storage::open_write`], with the type known at compile time.
    pub fn open_file_write(&self, path: &Path) -> Result<Option<OsFile>> {
        existing(OsFile::open(path, OpenOptions::new().read(true).write(true), "opening"))
    }

    /// Like [`Storage::create`], with the type known at compile time.
    pub fn create_file(&self, path: &Path) -> Result<OsFile> {
        OsFile::open(path, OpenOptions::new().read(true).write(true).create(true).truncate(true), "creating")
    }
}

impl Storage for OsStorage {
    fn create_directory(&self, path: &Path) -> Result<()> {
        match DirBuilder::new().create(path) {
            Ok(()) => self.sync_directory(parent_of(path)),
            // Whatever mkdir has against a directory that exists (it may be on read-only media), it exists.
            Err(_) if path.is_dir() => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && parent_of(path) != path => {
                self.create_directory(parent_of(path))?;
                match DirBuilder::new().create(path) {
                    Err(error) if !path.is_dir() => Err(Error::io("creating", path, &error)),
                    _ => self.sync_directory(parent_of(path)),
                }
            }
            Err(error) => Err(Error::io("creating", path, &error)),
        }
    }

    fn list(&self, path: &Path) -> Result<Option<Vec<Entry>>> {
        let failed = |error: &io::Error| Error::io("listing", path, error);
        let directory = match fs::read_dir(path) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let mut entries = Vec::new();
        for item in directory {
            let item = item.map_err(|error| failed(&error))?;
            let Ok(name) = item.file_name().into_string() else { continue };
            let metadata = match item.metadata() {
                // A link to nowhere is an entry all the same: whoever needs the file is told that it is not there.
                Ok(metadata) if metadata.is_symlink() => fs::metadata(item.path()).or(Ok(metadata)),
                metadata => metadata,
            };
            // Without metadata it was removed since.
            if let Ok(metadata) = metadata {
                entries.push(Entry { name, length: metadata.len(), is_directory: metadata.is_dir() });
            }
        }
        Ok(Some(entries))
    }

    fn open_read(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        Ok(self.open_file_read(path)?.map(share))
    }

    fn open_write(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        Ok(self.open_file_write(path)?.map(share))
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        self.create_file(path).map(share)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(|error| Error::io("renaming", from, &error))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", path, &error)),
            _ => Ok(()),
        }
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        OsDirectory::open(path)?.sync()
    }

    fn hold_directory(&self, path: &Path) -> Result<Option<Box<dyn Directory>>> {
        Ok(Some(Box::new(OsDirectory::open(path)?)))
    }

    fn lock(&self, path: &Path, mode: LockMode, create: bool) -> Result<Option<Box<dyn Lock>>> {
        let (file, slot) = fork::open_registered(|| open_for_lock(path, mode, create))?;
        let lock = OsLock { file: Some(file), slot, generation: fork::generation() };
        match lock.acquire(mode) {
            Ok(true) => Ok(Some(Box::new(lock))),
            Ok(false) => Ok(None),
            Err(error) => Err(Error::io("locking", path, &error)),
        }
    }

    fn canonicalize(&self, path: &Path) -> Result<PathBuf> {
        fs::canonicalize(path).map_err(|error| Error::io("resolving", path, &error))
    }
}

fn share(file: OsFile) -> Arc<dyn File> {
    Arc::new(file)
}

/// The directory that holds `path`; the current one for a bare name.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn existing(opened: Result<OsFile>) -> Result<Option<OsFile>> {
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(Error::Io { os_errno: libc::ENOENT, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How often a call that made no progress is made again before its error is taken for an answer.
struct Patience {
    interrupted: u32,
    would_block: u32,
}

impl Patience {
    fn new() -> Patience {
        Patience { interrupted: 10_000, would_block: 1_000 }
    }

    /// Whether to make the call again, after a pause where that may help.
    #[cold]
    fn allows(&mut self, error: &io::Error) -> bool {
        match error.kind() {
            io::ErrorKind::Interrupted => take_one(&mut self.interrupted),
            io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_micros(100));
                take_one(&mut self.would_block)
            }
            _ => false,
        }
    }
}

fn take_one(left: &mut u32) -> bool {
    let any = *left > 0;
    *left = left.saturating_sub(1);
    any
}

/// Where descriptors of ours begin: those below are the standard streams, or free because the host has closed them.
const FIRST_DESCRIPTOR: libc::c_int = 3;

/// The same open file under a descriptor that is none of the standard streams'.
pub(super) fn above_standard(file: OwnedFd) -> io::Result<OwnedFd> {
    if file.as_raw_fd() >= FIRST_DESCRIPTOR {
        return Ok(file);
    }
    // SAFETY: `fcntl` with this command takes no pointers, and the descriptor is open.
    let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was opened just now, and nobody else has its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn open_above(options: &OpenOptions, path: &Path) -> io::Result<fs::File> {
    let file = options.open(path)?;
    above_standard(file.into()).map(fs::File::from)
}

/// The most bytes that a file of this process may have.
fn file_bytes_max() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is ours to be written to.
    match unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } {
        0 => limit.rlim_cur,
        _ => u64::MAX,
    }
}

fn check_file_bytes(end: u64) -> io::Result<()> {
    match end > file_bytes_max() {
        true => Err(io::Error::from_raw_os_error(libc::EFBIG)),
        false => Ok(()),
    }
}

/// An open regular file.
#[derive(Debug)]
pub struct OsFile {
    file: fs::File,
    path: PathBuf,
    /// The bytes that it has by what was written through it: at least so many must be there.
    end: AtomicU64,
}

impl OsFile {
    fn open(path: &Path, options: &mut OpenOptions, operation: &'static str) -> Result<OsFile> {
        let failed = |error: &io::Error| Error::io(operation, path, error);
        let mut patience = Patience::new();
        let file = loop {
            match open_above(options.custom_flags(libc::O_NONBLOCK), path) {
                Ok(file) => break file,
                Err(error) if patience.allows(&error) => {}
                Err(error) => return Err(failed(&error)),
            }
        };
        let kind = file.metadata().map_err(|error| failed(&error))?.file_type();
        if kind.is_file() {
            return Ok(OsFile { file, path: path.to_owned(), end: AtomicU64::new(0) });
        }
        let errno = if kind.is_dir() { libc::EISDIR } else { libc::EINVAL };
        Err(failed(&io::Error::from_raw_os_error(errno)))
    }

    #[cold]
    fn error(&self, operation: &'static str, error: &io::Error) -> Error {
        Error::io(operation, &self.path, error)
    }
}

impl File for OsFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn length(&self) -> Result<u64> {
        match self.file.metadata() {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) => Err(self.error("measuring", &error)),
        }
    }

    fn set_length(&self, length: u64) -> Result<()> {
        let mut patience = Patience::new();
        // Growing is what the limit is about.
        let result = if length > self.length()? { check_file_bytes(length) } else { Ok(()) };
        result.map_err(|error| self.error("resizing", &error))?;
        loop {
            match self.file.set_len(length) {
                Ok(()) => {
                    self.end.store(length, Ordering::Release);
                    return Ok(());
                }
                Err(error) if patience.allows(&error) => {}
                Err(error) => return Err(self.error("resizing", &error)),
            }
        }
    }

    #[inline]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut patience = Patience::new();
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    patience = Patience::new();
                }
                Err(error) if patience.allows(&error) => {}
                Err(error) => return Err(self.error("reading", &error)),
            }
        }
        Ok(filled)
    }

    #[inline]
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut patience = Patience::new();
        let mut written = 0;
        let end = if bytes.is_empty() { 0 } else { offset.saturating_add(bytes.len() as u64) };
        check_file_bytes(end).map_err(|error| self.error("writing", &error))?;
        while written < bytes.len() {
            match self.file.write_at(&bytes[written..], offset + written as u64) {
                Ok(0) => return Err(self.error("writing", &io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    written += count;
                    patience = Patience::new();
                }
                Err(error) if patience.allows(&error) => {}
                Err(error) => return Err(self.error("writing", &error)),
            }
        }
        self.end.fetch_max(end, Ordering::AcqRel);
        Ok(())
    }

    #[inline]
    fn sync_data(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| self.error("syncing", &error))
    }

    fn check_whole(&self) -> Result<()> {
        // First what is to be there: another thread may be adding to it.
        let end = self.end.load(Ordering::Acquire);
        let metadata = self.file.metadata().map_err(|error| self.error("measuring", &error))?;
        let message = match (metadata.nlink(), metadata.len()) {
            (0, _) => String::from("somebody has removed or replaced the file while it was open"),
            (_, length) if length < end => {
                format!("somebody has cut the file from at least {end} to {length} bytes while it was open")
            }
            _ => return Ok(()),
        };
        Err(Error::Io { operation: "syncing", path: self.path.clone(), os_errno: libc::ESTALE, message })
    }

    fn map_tail(&self, length: u64) -> Result<Box<dyn TailMap>> {
        match OsTailMap::new(&self.file, length) {
            Ok(map) => Ok(Box::new(map)),
            Err(error) => Err(self.error("mapping", &error)),
        }
    }
}

/// An open directory.
#[derive(Debug)]
struct OsDirectory {
    file: fs::File,
    path: PathBuf,
}

impl OsDirectory {
    fn open(path: &Path) -> Result<OsDirectory> {
        match open_above(OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY), path) {
            Ok(file) => Ok(OsDirectory { file, path: path.to_owned() }),
            Err(error) => Err(Error::io("opening", path, &error)),
        }
    }
}

impl Directory for OsDirectory {
    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::io("syncing", &self.path, &error))
    }

    fn check_place(&self) -> Result<()> {
        let failed = |error: &io::Error| Error::io("finding", &self.path, error);
        let held = self.file.metadata().map_err(|error| failed(&error))?;
        let named = fs::metadata(&self.path).map_err(|error| failed(&error))?;
        if (held.dev(), held.ino()) == (named.dev(), named.ino()) {
            return Ok(());
        }
        let message = String::from("another directory stands where this one was opened");
        Err(Error::Io { operation: "finding", path: self.path.clone(), os_errno: libc::ESTALE, message })
    }
}

/// A shared, writable mapping of a file's first bytes.
///
/// Invariant: `start..start + length` is mapped readable and writable from construction to drop.
#[derive(Debug)]
pub struct OsTailMap {
    start: NonNull<u8>,
    length: usize,
    page_bytes: usize,
}

// SAFETY: the mapping belongs to no thread; it is plain memory until `drop` unmaps it.
unsafe impl Send for OsTailMap {}
// SAFETY: `store` is the only access through `&self`, and its contract leaves each range to one writer.
unsafe impl Sync for OsTailMap {}

impl OsTailMap {
    fn new(file: &fs::File, length: u64) -> io::Result<OsTailMap> {
        let length = usize::try_from(length).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours; the descriptor is open.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(OsTailMap { start, length, page_bytes: page_bytes() })
    }

    /// `offset..offset + length` as positions in the mapping, if it lies inside.
    #[inline]
    fn range(&self, offset: u64, length: u64) -> Option<(usize, usize)> {
        let end = offset.checked_add(length)?;
        // Both fit a `usize`, since they are at most `self.length`.
        (end <= self.length as u64).then_some((offset as usize, end as usize))
    }
}

impl TailMap for OsTailMap {
    #[inline]
    fn store(&self, bytes: &[u8], offset: u64) {
        let Some((start, _)) = self.range(offset, bytes.len() as u64) else {
            panic!("a store of {} bytes at {offset} is outside the mapping of {}", bytes.len(), self.length);
        };
        // SAFETY: the range was checked to lie in the mapping (type invariant). Nobody else accesses it meanwhile and
        // its blocks are allocated, by the contract of `TailMap::store`. `bytes` cannot overlap: no reference into the
        // mapping is ever handed out.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(start), bytes.len()) };
    }

    fn populate(&self, offset: u64, length: u64) {
        let clipped = length.min((self.length as u64).saturating_sub(offset));
        let Some((start, end)) = self.range(offset, clipped) else { return };
        let start = start - start % self.page_bytes;
        if start < end {
            populate_pages(self.start.as_ptr().wrapping_add(start), end - start);
        }
    }
}

impl Drop for OsTailMap {
    fn drop(&mut self) {
        // SAFETY: exactly this range was mapped by `new`, and no reference into it was ever handed out.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// `start` is on a page boundary, inside a mapping with at least `length` more bytes.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn populate_pages(start: *mut u8, length: usize) {
    // SAFETY: populating changes no contents, and an address that is not mapped is refused with an error, as is
    // everything that an older kernel does not know. A hint: failures are ignored.
    unsafe { libc::madvise(start.cast(), length, libc::MADV_POPULATE_WRITE) };
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn populate_pages(_start: *mut u8, _length: usize) {}

fn page_bytes() -> usize {
    // SAFETY: `sysconf` takes no pointers.
    let answer = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(answer).ok().filter(|bytes| bytes.is_power_of_two()).unwrap_or(4096)
}

/// Opens what is to be locked. An exclusive lock on a file is opened for writing, which read-only media refuse; a shared
/// one, and one on a directory, for reading.
fn open_for_lock(path: &Path, mode: LockMode, create: bool) -> Result<fs::File> {
    let read = || open_above(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK), path);
    let write = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create).truncate(false).custom_flags(libc::O_NONBLOCK);
        open_above(&options, path)
    };
    let opened = match mode {
        LockMode::Exclusive => match write() {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => read(),
            opened => opened,
        },
        LockMode::Shared => match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => write(),
            opened => opened,
        },
    };
    opened.map_err(|error| Error::io("opening", path, &error))
}

/// Blocks every signal in the calling thread, so that the host's handlers never run on a thread of ours.
pub fn block_all_signals() {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises the set that `pthread_sigmask` then reads; a null old set is allowed.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
    }
}

/// A held lock. Its descriptor is registered with [`super::fork`] for as long as it is open in this process.
#[derive(Debug)]
struct OsLock {
    /// `None` only while dropping.
    file: Option<fs::File>,
    slot: Slot,
    generation: u32,
}

impl Lock for OsLock {}

impl OsLock {
    /// `false`: someone else holds it.
    fn acquire(&self, mode: LockMode) -> io::Result<bool> {
        let operation = match mode {
            LockMode::Exclusive => libc::LOCK_EX,
            LockMode::Shared => libc::LOCK_SH,
        };
        loop {
            match self.flock(operation | libc::LOCK_NB) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn flock(&self, operation: libc::c_int) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        // SAFETY: `flock` takes no pointers, and the descriptor is open.
        match unsafe { libc::flock(file.as_raw_fd(), operation) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for OsLock {
    /// In a forked child the descriptor is closed already, its number may be another's, and the lock is the parent's.
    fn drop(&mut self) {
        if fork::generation() != self.generation {
            std::mem::forget(self.file.take());
            return;
        }
        // Unlocked by name, not just by the close: a child forked between the next two lines has an unknown copy.
        let _ = self.flock(libc::LOCK_UN);
        fork::unregister(self.slot);
        drop(self.file.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;

    fn is_close_on_exec(fd: i32) -> bool {
        // SAFETY: `fcntl` with this command takes no pointers.
        unsafe { libc::fcntl(fd, libc::F_GETFD) & libc::FD_CLOEXEC != 0 }
    }

    /// Guards: a FIFO under a segment's name hangs the open.
    #[test]
    fn a_fifo_in_a_files_place_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: `name` is NUL-terminated.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        assert!(matches!(OsStorage.open_read(&path), Err(Error::Io { .. })));
        assert!(matches!(OsStorage.open_write(&path), Err(Error::Io { .. })));
    }

    #[test]
    fn descriptors_are_closed_by_exec() {
        let directory = tempfile::tempdir().unwrap();
        let file = OsStorage.create_file(&directory.path().join("file")).unwrap();
        assert!(is_close_on_exec(file.file.as_raw_fd()));
        let lock = open_for_lock(directory.path(), LockMode::Exclusive, false).unwrap();
        assert!(is_close_on_exec(lock.as_raw_fd()));
    }

    /// Guards: a store on read-only media cannot be opened for reading because its lock file cannot be opened for writing.
    #[test]
    fn a_shared_lock_needs_no_write_permission() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        drop(OsStorage.create_file(&path).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(OsStorage.lock(&path, LockMode::Shared, true).unwrap().is_some());
    }

    /// Guards: an append is acknowledged in a file that somebody has removed or cut, where nobody will find it.
    #[test]
    fn a_file_that_was_removed_or_cut_is_not_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = OsStorage.create_file(&path).unwrap();
        file.write_at(b"bytes", 10).unwrap();
        file.check_whole().unwrap();
        file.set_length(12).unwrap();
        file.check_whole().unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(11).unwrap();
        assert!(matches!(file.check_whole(), Err(Error::Io { os_errno: libc::ESTALE, .. })));
        file.write_at(b"bytes", 10).unwrap();
        file.check_whole().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(matches!(file.check_whole(), Err(Error::Io { os_errno: libc::ESTALE, .. })));
    }

    /// Guards: a store whose directory was renamed writes into the one that came in its place.
    #[test]
    fn another_directory_in_the_place_of_a_held_one_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let (path, away) = (root.path().join("held"), root.path().join("away"));
        fs::create_dir(&path).unwrap();
        let held = OsStorage.hold_directory(&path).unwrap().unwrap();
        held.check_place().unwrap();
        fs::rename(&path, &away).unwrap();
        assert!(matches!(held.check_place(), Err(Error::Io { os_errno: libc::ENOENT, .. })));
        fs::create_dir(&path).unwrap();
        assert!(matches!(held.check_place(), Err(Error::Io { os_errno: libc::ESTALE, .. })));
        fs::remove_dir(&path).unwrap();
        fs::rename(&away, &path).unwrap();
        held.check_place().unwrap();
    }

    /// Guards: a full device is not told apart from other failures.
    #[test]
    fn a_full_device_is_a_full_disk() {
        let file = fs::File::options().write(true).open("/dev/full");
        let Ok(file) = file else { return };
        let file = OsFile { file, path: PathBuf::from("/dev/full"), end: AtomicU64::new(0) };
        assert!(matches!(file.write_at(b"x", 0), Err(Error::DiskFull { operation: "writing", .. })));
    }

    #[test]
    fn populating_any_range_is_harmless() {
        let directory = tempfile::tempdir().unwrap();
        let file = OsStorage.create_file(&directory.path().join("file")).unwrap();
        file.write_at(&[0; 10_000], 0).unwrap();
        let map = file.map_tail(1 << 20).unwrap();
        for (offset, length) in [(0, 10_000), (5, 1), (9_999, 1 << 30), (1 << 19, 4096), (u64::MAX, u64::MAX), (3, 0)] {
            map.populate(offset, length);
        }
        map.store(b"end", 9_997);
        assert_eq!(file.length().unwrap(), 10_000);
    }

    #[test]
    fn a_thread_can_be_kept_free_of_signals() {
        let blocked = std::thread::spawn(|| {
            block_all_signals();
            let mut now = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: with a null new set the call only writes the current one to `now`, which is then initialised.
            unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), now.as_mut_ptr());
                libc::sigismember(now.as_ptr(), libc::SIGTERM) == 1
            }
        });
        assert!(blocked.join().unwrap());
    }

    #[test]
    fn waiting_ends() {
        let mut patience = Patience::new();
        let interrupted = io::Error::from_raw_os_error(libc::EINTR);
        assert!((0..10_000).all(|_| patience.allows(&interrupted)));
        assert!(!patience.allows(&interrupted));
        assert!(!patience.allows(&io::Error::from_raw_os_error(libc::EIO)));
    }
}
