//! Byte buffers that batches own, and the pool that keeps a steady poll loop from allocating.
//!
//! Invariants:
//! 1. The heap address of a [`Buffer`]'s bytes never changes, wherever the `Buffer` is moved to.
//! 2. A buffer is zeroed once, when it is made. One that comes from the pool holds bytes of its last use, so its user
//!    hands out only what it has overwritten.
//! 3. What the pool holds is idle: nobody has a pointer into it.
//! 4. Nothing is allocated, freed or zeroed in bulk under the pool's lock, and no `Buffer` is dropped under it (that
//!    would take the lock again).

use std::alloc::{self, Layout};
use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};

use super::view::EventView;
use crate::error::{Error, Result};
use crate::sync::{Mutex, MutexGuard};

/// The smallest pooled buffer.
const CLASS_BYTES_MIN: usize = 64 << 10;
/// The largest pooled buffer; larger ones are allocated and freed.
const CLASS_BYTES_MAX: usize = 1 << 20;
const BUFFERS_MAX_DEFAULT: usize = 32;
const BYTES_MAX_DEFAULT: usize = 4 << 20;

/// Makes room for `more` elements, so that adding them allocates nothing. For lists as long as a caller wants them.
#[inline]
pub fn make_room<T>(list: &mut Vec<T>, more: usize) -> Result<()> {
    if list.capacity() - list.len() >= more { Ok(()) } else { grow(list, more) }
}

#[cold]
fn grow<T>(list: &mut Vec<T>, more: usize) -> Result<()> {
    list.try_reserve(more).map_err(|_| no_memory::<T>(list.len().saturating_add(more)))
}

fn no_memory<T>(count: usize) -> Error {
    Error::NoMemory { bytes: count.saturating_mul(size_of::<T>()) }
}

/// So many zeros. Large ones come from the system as they are: nothing is written.
pub fn zeros(len: usize) -> Result<Vec<u8>> {
    if len == 0 {
        return Ok(Vec::new());
    }
    let layout = Layout::array::<u8>(len).map_err(|_| no_memory::<u8>(len))?;
    // SAFETY: the layout has at least one byte.
    let bytes = unsafe { alloc::alloc_zeroed(layout) };
    if bytes.is_null() {
        return Err(no_memory::<u8>(len));
    }
    // SAFETY: allocated just now by the global allocator with this layout, and all of it is initialised.
    Ok(unsafe { Vec::from_raw_parts(bytes, len, len) })
}

/// Bytes on the heap whose address never changes. Goes back to its pool on drop.
///
/// A `Vec` and not a `Box`, whose moves would claim that no other pointer to its bytes is in use.
pub struct Buffer {
    bytes: Vec<u8>,
    pool: Option<Arc<Shared>>,
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// A buffer of exactly these bytes, of no pool.
impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Buffer {
        Buffer { bytes, pool: None }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.put_buffer(mem::take(&mut self.bytes));
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len()).field("pooled", &self.pool.is_some()).finish()
    }
}

/// Keeps idle buffers, and the lists of dropped batches, for the next one. A clone is the same pool.
///
/// Bounded in number and bytes: beyond, what was idle longest is freed. Any thread may use it, and buffers may outlive it.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

impl BufferPool {
    /// A pool that keeps up to 32 buffers of together 4 MiB.
    pub fn new() -> BufferPool {
        BufferPool::with_limits(BUFFERS_MAX_DEFAULT, BYTES_MAX_DEFAULT)
    }

    /// A pool that keeps up to `buffers_max` idle buffers of together at most `bytes_max`, and as many lists of batches of
    /// together at most a quarter of that.
    pub fn with_limits(buffers_max: usize, bytes_max: usize) -> BufferPool {
        let shelves =
            Shelves { buffers: Shelf::new(buffers_max, bytes_max), lists: Shelf::new(buffers_max, bytes_max / 4) };
        BufferPool { shared: Arc::new(Shared { shelves: Mutex::new(shelves) }) }
    }

    /// A buffer of at least `min_len` bytes: a power of two from 64 KiB to 1 MiB, or exactly `min_len` above.
    ///
    /// Its bytes are initialised, not zero.
    pub fn take(&self, min_len: usize) -> Result<Buffer> {
        if min_len > CLASS_BYTES_MAX {
            return zeros(min_len).map(Buffer::from);
        }
        let len = min_len.max(CLASS_BYTES_MIN).next_power_of_two();
        let idle = self.shared.shelves().buffers.take(|bytes| bytes.len() == len);
        let bytes = idle.map_or_else(|| zeros(len), Ok)?;
        Ok(Buffer { bytes, pool: Some(Arc::clone(&self.shared)) })
    }

    /// Empty lists for a batch, with the room of an earlier batch if one is idle.
    pub(super) fn take_lists(&self) -> BatchLists {
        self.shared.shelves().lists.take(|_| true).unwrap_or_default()
    }

    /// Takes the lists of a batch that is gone. They must be empty.
    pub(super) fn put_lists(&self, lists: BatchLists) {
        debug_assert!(lists.buffers.is_empty() && lists.views.is_empty() && lists.cause_ids.is_empty());
        let surplus = self.shared.shelves().lists.put(lists);
        drop(surplus);
    }

    /// Idle buffers and their bytes.
    #[cfg(test)]
    fn idle(&self) -> (usize, usize) {
        let shelves = self.shared.shelves();
        (shelves.buffers.items.len(), shelves.buffers.bytes)
    }
}

impl Default for BufferPool {
    fn default() -> BufferPool {
        BufferPool::new()
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shelves = self.shared.shelves();
        f.debug_struct("BufferPool")
            .field("idle_buffers", &shelves.buffers.items.len())
            .field("idle_bytes", &(shelves.buffers.bytes + shelves.lists.bytes))
            .finish()
    }
}

/// The lists a batch is made of.
#[derive(Default)]
pub(super) struct BatchLists {
    pub(super) buffers: Vec<Buffer>,
    pub(super) views: Vec<EventView>,
    pub(super) cause_ids: Vec<[u8; 16]>,
}

struct Shared {
    shelves: Mutex<Shelves>,
}

struct Shelves {
    buffers: Shelf<Vec<u8>>,
    lists: Shelf<BatchLists>,
}

impl Shared {
    fn put_buffer(&self, bytes: Vec<u8>) {
        let surplus = self.shelves().buffers.put(bytes);
        drop(surplus);
    }

    /// Shelves are whole between any two statements, so a panic elsewhere under the lock spoils nothing.
    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something with a size on the heap.
trait HeapBytes {
    fn heap_bytes(&self) -> usize;
}

impl HeapBytes for Vec<u8> {
    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

impl HeapBytes for BatchLists {
    fn heap_bytes(&self) -> usize {
        self.buffers.capacity() * size_of::<Buffer>()
            + self.views.capacity() * size_of::<EventView>()
            + self.cause_ids.capacity() * size_of::<[u8; 16]>()
    }
}

/// Idle items, the longest idle first. `bytes` is the sum of their `heap_bytes`; `put` and `take` move it.
struct Shelf<T> {
    items: Vec<T>,
    bytes: usize,
    items_max: usize,
    bytes_max: usize,
}

impl<T: HeapBytes> Shelf<T> {
    fn new(items_max: usize, bytes_max: usize) -> Shelf<T> {
        Shelf { items: Vec::new(), bytes: 0, items_max, bytes_max }
    }

    /// The item last put that is wanted: the one most likely still in the processor's cache.
    fn take(&mut self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let index = self.items.iter().rposition(wanted)?;
        let item = self.items.remove(index);
        self.bytes -= item.heap_bytes();
        Some(item)
    }

    /// Adds an item and returns what no longer fits, to be freed once the lock is released.
    fn put(&mut self, item: T) -> Vec<T> {
        self.bytes += item.heap_bytes();
        self.items.push(item);
        let mut surplus = 0;
        while self.items.len() - surplus > self.items_max || self.bytes > self.bytes_max {
            self.bytes -= self.items[surplus].heap_bytes();
            surplus += 1;
        }
        self.items.drain(..surplus).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards: a buffer of the size that a caller asked for ends the process when there is no memory for it.
    #[test]
    fn what_there_is_no_memory_for_is_an_error() {
        let impossible = isize::MAX as usize;
        assert!(matches!(zeros(impossible), Err(Error::NoMemory { bytes }) if bytes == impossible));
        assert!(matches!(BufferPool::new().take(impossible), Err(Error::NoMemory { .. })));
        assert!(matches!(make_room(&mut vec![0u64], impossible), Err(Error::NoMemory { .. })));
        assert_eq!(zeros(3).unwrap(), [0; 3]);
        assert_eq!(zeros(0).unwrap(), []);
    }

    #[test]
    fn lengths_are_size_classes() {
        let pool = BufferPool::new();
        let len = |min_len| pool.take(min_len).unwrap().len();
        assert_eq!((len(0), len(1), len(64 << 10)), (64 << 10, 64 << 10, 64 << 10));
        assert_eq!((len((64 << 10) + 1), len(1 << 20)), (128 << 10, 1 << 20));
        assert_eq!(len((1 << 20) + 1), (1 << 20) + 1);
    }

    #[test]
    fn a_dropped_buffer_is_the_next_of_its_class() {
        let pool = BufferPool::new();
        let mut buffer = pool.take(100_000).unwrap();
        assert!(buffer.iter().all(|&byte| byte == 0));
        buffer[0] = 7;
        let address = buffer.as_ptr();
        drop(buffer);
        let other_class = pool.take(1).unwrap();
        assert_ne!(other_class.as_ptr(), address);
        let again = pool.take(131_072).unwrap();
        assert_eq!((again.as_ptr(), again[0]), (address, 7));
        assert_eq!(pool.idle(), (0, 0));
    }

    #[test]
    fn large_buffers_are_not_kept() {
        let pool = BufferPool::new();
        drop(pool.take(2 << 20).unwrap());
        drop(Buffer::from(vec![1, 2, 3]));
        assert_eq!(pool.idle(), (0, 0));
    }

    #[test]
    fn both_limits_hold() {
        let by_count = BufferPool::with_limits(2, usize::MAX);
        drop((0..5).map(|_| by_count.take(1)).collect::<Vec<_>>());
        assert_eq!(by_count.idle(), (2, 128 << 10));
        let by_bytes = BufferPool::with_limits(100, 200 << 10);
        drop((0..5).map(|_| by_bytes.take(1)).collect::<Vec<_>>());
        assert_eq!(by_bytes.idle(), (3, 192 << 10));
        let nothing = BufferPool::with_limits(0, 0);
        drop(nothing.take(1));
        assert_eq!(nothing.idle(), (0, 0));
    }

    /// A pool full of sizes no longer asked for must make room for those that are.
    #[test]
    fn the_longest_idle_goes_first() {
        let pool = BufferPool::with_limits(2, usize::MAX);
        drop((pool.take(64 << 10).unwrap(), pool.take(128 << 10).unwrap()));
        let large = pool.take(256 << 10).unwrap();
        let address = large.as_ptr();
        drop(large);
        assert_eq!(pool.idle(), (2, (128 + 256) << 10));
        assert_eq!(pool.take(256 << 10).unwrap().as_ptr(), address);
    }

    #[test]
    fn buffers_outlive_the_pool_and_move_between_threads() {
        let pool = BufferPool::new();
        let buffer = pool.take(1).unwrap();
        drop(pool);
        std::thread::spawn(move || drop(buffer)).join().unwrap();
    }

    #[test]
    fn threads_share_a_pool() {
        let pool = BufferPool::with_limits(4, usize::MAX);
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let pool = pool.clone();
                scope.spawn(move || {
                    for _ in 0..200 {
                        let mut buffer = pool.take(1).unwrap();
                        buffer.fill(thread);
                        assert!(buffer.iter().all(|&byte| byte == thread));
                    }
                });
            }
        });
        let (count, bytes) = pool.idle();
        assert!((1..=4).contains(&count) && bytes == count * (64 << 10));
    }
}
