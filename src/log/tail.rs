//! The writing end of the active segment.
//!
//! Offsets, in order: `written <= offset <= prepared`.
//! * `offset`: end of the last frame encoded; moved by [`Tail::advance`] alone.
//! * `written`: end of the bytes handed to the page cache; moved by [`Tail::flush`] alone. `buffer` holds `written..offset`.
//! * `prepared`: end of the blocks that are allocated and zero; moved by [`Space::prepare`] alone, on any thread. Nothing is written
//!   at or above it but zeros, nothing but frames below it: so preparing ahead and appending never meet.
//!
//! PROCESS appends go through a mapping of the prepared blocks (no system call); STORAGE appends stay in the buffer until the
//! group's one write. A PROCESS append flushes the STORAGE bytes below it first, so all bytes below an acknowledged one are in
//! the page cache.

use std::sync::{Arc, PoisonError};

use crate::error::{Error, Result};
use crate::event::StoreId;
use crate::format::segment::seed;
use crate::io::latch::LatchedFile;
use crate::io::{File, TailMap};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, OnceLock};

/// Zeros are written in pieces of this size: larger ones gain nothing, smaller ones cost calls.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// Room kept free below the limit for the control frames that end a segment.
pub(crate) const RESERVE_BYTES: u64 = 256;

/// The blocks of a segment file that is, or will be, appended to. Shared with the thread that prepares ahead.
#[derive(Debug)]
pub(crate) struct Space {
    file: Arc<LatchedFile>,
    prepared: AtomicU64,
    preparing: Mutex<()>,
    limit: u64,
    /// Where preparing began.
    start: u64,
    /// How far preparing was asked for, and whether the next segment's file was.
    asked: AtomicU64,
    asked_next: AtomicBool,
    map: OnceLock<Option<Box<dyn TailMap>>>,
}

impl Space {
    /// Space of a file whose first `prepared` bytes exist.
    pub fn new(file: Arc<LatchedFile>, prepared: u64, limit: u64) -> Space {
        Space {
            file,
            prepared: AtomicU64::new(prepared),
            preparing: Mutex::default(),
            limit,
            start: prepared,
            asked: AtomicU64::new(0),
            asked_next: AtomicBool::new(false),
            map: OnceLock::new(),
        }
    }

    /// The same blocks under a new name.
    pub fn reopened(self, file: Arc<LatchedFile>) -> Space {
        Space { file, ..self }
    }

    pub fn file(&self) -> &Arc<LatchedFile> {
        &self.file
    }

    pub fn prepared(&self) -> u64 {
        self.prepared.load(Ordering::Acquire)
    }

    /// Notes that space up to `end` is wanted. Says whether that is news.
    #[inline]
    pub fn ask_for(&self, end: u64) -> bool {
        self.asked.load(Ordering::Relaxed) < end && self.asked.fetch_max(end, Ordering::Relaxed) < end
    }

    /// Notes that the next segment's file is wanted. Says whether that is news.
    #[inline]
    pub fn ask_for_next(&self) -> bool {
        !self.asked_next.load(Ordering::Relaxed) && !self.asked_next.swap(true, Ordering::Relaxed)
    }

    /// The size at which the segment is full.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Allocates and zeroes blocks up to `end`. A failure takes nothing away: what was prepared stays usable.
    pub fn prepare(&self, end: u64) -> Result<()> {
        while self.prepared() < end {
            let _only_one = self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
            let from = self.prepared();
            if from >= end {
                break;
            }
            // Zeros behind a gap would hide that somebody has cut the file.
            self.file().check_whole()?;
            let to = end.min((from / ZEROS.len() as u64 + 1) * ZEROS.len() as u64);
            self.file().write_at_unlatched(&ZEROS[..(to - from) as usize], from)?;
            if let Some(Some(map)) = self.map.get() {
                map.populate(from, to.min(self.limit).saturating_sub(from));
            }
            self.prepared.store(to, Ordering::Release);
        }
        Ok(())
    }

    /// The mapping, made at first use. `None` where the system refuses one: then appends are written instead.
    pub fn map(&self) -> Option<&dyn TailMap> {
        self.map
            .get_or_init(|| {
                let map = self.file().map_tail(self.limit).ok()?;
                let end = self.prepared().min(self.limit);
                map.populate(self.start, end.saturating_sub(self.start));
                Some(map)
            })
            .as_deref()
    }
}

/// The end of the log, under the append lock.
#[derive(Debug)]
pub(crate) struct Tail {
    space: Arc<Space>,
    base: u64,
    seed: u32,
    offset: u64,
    written: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl Tail {
    /// The tail of a segment whose frames end at `offset`, all of them in the page cache.
    pub fn new(space: Arc<Space>, store_id: &StoreId, base: u64, epoch: u64, offset: u64) -> Tail {
        Tail { space, base, seed: seed(store_id, base, epoch), offset, written: offset, buffer: Vec::new(), used: 0 }
    }

    /// Goes on in another segment, with the same buffer.
    pub fn move_to(&mut self, space: Arc<Space>, store_id: &StoreId, base: u64, epoch: u64, offset: u64) {
        debug_assert_eq!(self.used, 0, "a segment is left with nothing unwritten");
        let buffer = std::mem::take(&mut self.buffer);
        *self = Tail { buffer, ..Tail::new(space, store_id, base, epoch, offset) };
    }

    /// A new epoch begins after the frames so far.
    pub fn set_epoch(&mut self, store_id: &StoreId, epoch: u64) {
        self.seed = seed(store_id, self.base, epoch);
    }

    pub fn space(&self) -> &Arc<Space> {
        &self.space
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    pub fn seed(&self) -> u32 {
        self.seed
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether `bytes` more still belong into this segment.
    pub fn fits(&self, bytes: u64) -> bool {
        self.offset + bytes + RESERVE_BYTES <= self.space.limit()
    }

    /// Makes sure that `bytes` can be written without asking the file system for space. On failure nothing changed.
    pub fn reserve(&self, bytes: u64) -> Result<()> {
        let end = self.offset + bytes + RESERVE_BYTES;
        if end <= self.space.prepared() {
            return Ok(());
        }
        self.space.prepare(end.next_multiple_of(64 << 10).min(self.space.limit()).max(end))
    }

    /// As [`Tail::reserve`], for the frame that ends the log: it may use the room kept for it.
    pub fn reserve_last(&self, bytes: u64) -> Result<()> {
        self.space.prepare(self.offset + bytes)
    }

    /// Makes sure that the buffer can take `bytes` more.
    pub fn make_room(&mut self, bytes: usize) -> Result<()> {
        let end = self.used + bytes;
        if end > self.buffer.len() {
            let length = end.next_power_of_two().max(64 << 10);
            self.buffer.try_reserve_exact(length - self.buffer.len()).map_err(|_| Error::NoMemory { bytes: length })?;
            self.buffer.resize(length, 0);
        }
        Ok(())
    }

    /// A place for `bytes` more; what is encoded there counts once [`Tail::advance`] says how much it was.
    #[inline]
    pub fn place(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.used + bytes;
        if end > self.buffer.len() {
            self.buffer.resize(end.next_power_of_two().max(64 << 10), 0);
        }
        &mut self.buffer[self.used..end]
    }

    #[inline]
    pub fn advance(&mut self, bytes: usize) {
        self.used += bytes;
        self.offset += bytes as u64;
    }

    /// Bytes that are encoded and not handed to the page cache.
    pub fn buffered(&self) -> usize {
        self.used
    }

    /// Hands the buffered bytes to the page cache: through the mapping where `mapped` and possible, else by one write.
    /// A failed write trips the latch: nothing is acknowledged after it.
    #[inline]
    pub fn flush(&mut self, mapped: bool) -> Result<()> {
        if self.used == 0 {
            return Ok(());
        }
        let bytes = &self.buffer[..self.used];
        let map = if mapped && self.offset <= self.space.limit() { self.space.map() } else { None };
        match map {
            Some(map) => map.store(bytes, self.written),
            None => self.space.file().write_at(bytes, self.written)?,
        }
        self.written = self.offset;
        self.used = 0;
        const KEEP: usize = 4 << 20;
        if self.buffer.len() > KEEP {
            self.buffer = Vec::new();
        }
        Ok(())
    }
}
