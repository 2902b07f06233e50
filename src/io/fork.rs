//! What a fork does to us: a generation that tells parent from child, and lock descriptors that the child must not keep.
//!
//! A `flock` belongs to the open file description, which a forked child shares. A child that lives on would therefore
//! hold the lock of a parent that died. So every lock descriptor is registered here, and a `pthread_atfork` handler
//! closes the registered ones in the child and raises the [`generation`].
//!
//! Invariants:
//! 1. The child handler is async-signal-safe: it loads and stores atomics and calls `close`, nothing else. No lock is
//!    taken here, so that a fork in the midst of any function leaves nothing locked in the child.
//! 2. A slot holds a descriptor or `FREE`. [`register`] fills it, [`unregister`] and the child handler empty it.
//! 3. `FORKS_BEGUN == FORKS_ENDED` when no fork is under way: the prepare handler raises the first, the parent's handler
//!    raises the second, the child's makes them equal. [`open_registered`] relies on it.
//!
//! Not seen: a raw `clone` system call and glibc's `_Fork`, which run no handlers. A spawned program is no matter, since
//! every descriptor of ours is closed by `exec`.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};

use crate::error::{Error, Result};

const SLOTS_PER_BLOCK: usize = 1024;
const FREE: i32 = -1;

static GENERATION: AtomicU32 = AtomicU32::new(0);
static INSTALLED: AtomicBool = AtomicBool::new(false);
static FORKS_BEGUN: AtomicU32 = AtomicU32::new(0);
static FORKS_ENDED: AtomicU32 = AtomicU32::new(0);
static REGISTRY: Block = Block::new();

/// Slots, and more slots once these are full. Blocks are never freed: a process has as many as it once needed.
struct Block {
    slots: [AtomicI32; SLOTS_PER_BLOCK],
    next: AtomicPtr<Block>,
}

impl Block {
    const fn new() -> Block {
        Block { slots: [const { AtomicI32::new(FREE) }; SLOTS_PER_BLOCK], next: AtomicPtr::new(ptr::null_mut()) }
    }

    fn next(&self) -> Option<&'static Block> {
        // SAFETY: `next` is null or came from `Box::into_raw` in `next_or_grow`, and blocks are never freed.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }

    fn next_or_grow(&self) -> &'static Block {
        if let Some(block) = self.next() {
            return block;
        }
        let fresh = Box::into_raw(Box::new(Block::new()));
        match self.next.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: `fresh` came from `Box::into_raw` just now, and as a published block it is never freed.
            Ok(_) => unsafe { &*fresh },
            Err(other) => {
                // SAFETY: `fresh` came from `Box::into_raw` just now and was not published, so we alone have it.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: `other` is a published block, which is never freed.
                unsafe { &*other }
            }
        }
    }

    fn take_free_slot(&self, fd: RawFd) -> Option<usize> {
        let free = |slot: &AtomicI32| {
            slot.load(Ordering::Relaxed) == FREE
                && slot.compare_exchange(FREE, fd, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        };
        self.slots.iter().position(free)
    }
}

/// The place of a registered descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

/// How often this process is a fork's child since [`install`] was first called: differs from a value read before a
/// fork exactly in the child.
#[inline]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Installs the handlers of fork, once. Call it before the first [`generation`] that is kept for comparison.
pub fn install() -> Result<()> {
    if INSTALLED.load(Ordering::Acquire) {
        return Ok(());
    }
    // Two threads that both get here install the handlers twice, which is harmless: every handler only moves counters
    // on and empties slots.
    // SAFETY: the three handlers are `extern "C"` functions without arguments that live as long as the library, which
    // is linked so that it is never unloaded.
    let code = unsafe { libc::pthread_atfork(Some(on_prepare), Some(on_parent), Some(on_child)) };
    if code != 0 {
        return Err(Error::NoMemory { bytes: size_of::<[usize; 4]>() });
    }
    INSTALLED.store(true, Ordering::Release);
    Ok(())
}

/// Enters a descriptor that a forked child closes. The caller unregisters it before closing it.
pub fn register(fd: RawFd) -> Slot {
    let mut block = &REGISTRY;
    let mut base = 0;
    loop {
        if let Some(index) = block.take_free_slot(fd) {
            return Slot(base + index);
        }
        block = block.next_or_grow();
        base += SLOTS_PER_BLOCK;
    }
}

/// Takes a descriptor out again. Only in the process that registered it: the child handler has emptied the slot, and
/// the child may have filled it anew.
pub fn unregister(slot: Slot) {
    let mut block = &REGISTRY;
    for _ in 0..slot.0 / SLOTS_PER_BLOCK {
        block = block.next_or_grow();
    }
    block.slots[slot.0 % SLOTS_PER_BLOCK].store(FREE, Ordering::SeqCst);
}

/// Opens a file and registers its descriptor so that no fork comes between the two: when one did, the file is closed
/// and opened anew. A child therefore never has a copy that it does not know of and that is locked afterwards.
pub fn open_registered(mut open: impl FnMut() -> Result<File>) -> Result<(File, Slot)> {
    install()?;
    loop {
        let before = wait_for_no_fork();
        let file = open()?;
        let slot = register(file.as_raw_fd());
        if FORKS_BEGUN.load(Ordering::SeqCst) == before {
            return Ok((file, slot));
        }
        unregister(slot);
    }
}

fn wait_for_no_fork() -> u32 {
    loop {
        let begun = FORKS_BEGUN.load(Ordering::SeqCst);
        if FORKS_ENDED.load(Ordering::SeqCst) == begun {
            return begun;
        }
        std::thread::yield_now();
    }
}

extern "C" fn on_prepare() {
    FORKS_BEGUN.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn on_parent() {
    FORKS_ENDED.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn on_child() {
    let mut block = Some(&REGISTRY);
    while let Some(current) = block {
        for slot in &current.slots {
            let fd = slot.swap(FREE, Ordering::SeqCst);
            if fd != FREE {
                // SAFETY: `close` takes any number. The slot held an open descriptor of ours, and in the child nothing
                // else closes it: a lock of an older generation leaves its descriptor alone.
                unsafe { libc::close(fd) };
            }
        }
        block = current.next();
    }
    // Other threads' forks that were under way do not exist in the child.
    FORKS_ENDED.store(FORKS_BEGUN.load(Ordering::SeqCst), Ordering::SeqCst);
    GENERATION.fetch_add(1, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::os::OsStorage;
    use crate::io::{LockMode, Storage};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// Forks a child that reports whether it sees another generation, then lives until the stream is dropped.
    fn fork_watching_child() -> (libc::pid_t, u8, UnixStream) {
        let before = generation();
        let (mut stop_reader, stop_writer) = UnixStream::pair().unwrap();
        let (mut report_reader, mut report_writer) = UnixStream::pair().unwrap();
        // SAFETY: the child only loads an atomic and calls read, write, close and _exit on its own copies.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid == 0 {
            drop(stop_writer);
            let _ = report_writer.write(&[u8::from(generation() != before)]);
            let _ = stop_reader.read(&mut [0]);
            // SAFETY: leaves at once, without running what the parent registered for its own exit.
            unsafe { libc::_exit(0) };
        }
        let mut report = [9];
        report_reader.read_exact(&mut report).unwrap();
        (pid, report[0], stop_writer)
    }

    fn wait_for(pid: libc::pid_t) {
        let mut status = -1;
        // SAFETY: waits for our own child and writes its status.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0, "the child found something wrong");
    }

    /// Guards: a forked child keeps a dead parent's lock. The parent's copy is closed as a death would close it,
    /// without an unlock, while the child lives.
    #[test]
    fn a_child_sees_a_new_generation_and_does_not_keep_the_lock() {
        install().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        let open = || File::create(&path).map_err(|error| Error::io("creating", &path, &error));
        let (file, slot) = open_registered(open).unwrap();
        // SAFETY: `flock` takes no pointers, and the descriptor is open.
        assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0);
        let before = generation();

        let (pid, saw_new_generation, stop) = fork_watching_child();
        assert_eq!(saw_new_generation, 1);
        assert_eq!(generation(), before, "the parent's generation must not move");
        assert!(OsStorage.lock(&path, LockMode::Exclusive, true).unwrap().is_none());
        unregister(slot);
        drop(file);
        let again = OsStorage.lock(&path, LockMode::Exclusive, true).unwrap();
        assert!(again.is_some(), "the living child still holds the lock");

        drop(stop);
        wait_for(pid);
    }

    /// Guards: the child's drop of an inherited lock releases the parent's, or closes a descriptor that is not its own.
    #[test]
    fn dropping_an_inherited_lock_in_the_child_leaves_the_parents_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        let lock = OsStorage.lock(&path, LockMode::Exclusive, true).unwrap().unwrap();
        // SAFETY: the child only duplicates descriptors, drops a box (an atomic load and a free) and leaves.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // Every free number below is taken, so also that of the lock's closed descriptor.
            // SAFETY: `dup` takes no pointers.
            let taken: [RawFd; 256] = std::array::from_fn(|_| unsafe { libc::dup(0) });
            drop(lock);
            // SAFETY: `fcntl` with this command takes no pointers.
            let is_lost = |fd: &RawFd| *fd >= 0 && unsafe { libc::fcntl(*fd, libc::F_GETFD) } < 0;
            // SAFETY: leaves at once, without running what the parent registered for its own exit.
            unsafe { libc::_exit(i32::from(taken.iter().any(is_lost))) };
        }
        wait_for(pid);
        assert!(OsStorage.lock(&path, LockMode::Exclusive, true).unwrap().is_none());
        drop(lock);
        assert!(OsStorage.lock(&path, LockMode::Exclusive, true).unwrap().is_some());
    }

    /// Guards: the 1025th lock goes unregistered.
    #[test]
    fn the_registry_grows_beyond_its_first_block() {
        // Descriptors that no process has open: a child of another test that closes them closes nothing.
        let slots: Vec<Slot> = (0..2500).map(|n| register(1_000_000_000 + n)).collect();
        let mut distinct: Vec<usize> = slots.iter().map(|slot| slot.0).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 2500);
        assert!(*distinct.last().unwrap() >= 2 * SLOTS_PER_BLOCK);
        slots.into_iter().for_each(unregister);
        assert!(register(1_000_000_000).0 < 2 * SLOTS_PER_BLOCK);
    }
}
