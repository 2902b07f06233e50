//! Leaving a full segment for a new one.
//!
//! The next file is prepared under a temporary name. Under the append lock it gets its header and its final name, without a sync: nothing in
//! it is acknowledged as durable before a group commit has synced the older segment, the new one and the directory, in this order.

use std::sync::{Arc, PoisonError};

use crate::error::{Error, Result};
use crate::format::control;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name};
use crate::index::memory::MemoryIndex;
use crate::io::latch::LatchedFile;
use crate::log::tail::Space;
use crate::sync::atomic::Ordering;

use super::Inner;
use super::append::Appender;
use super::segments::Segment;

/// The next segment while the helper prepares it.
pub(super) const NEXT_SEGMENT_NAME: &str = "next.seg.tmp";
/// The next segment while the append that needs it makes it.
const OWN_SEGMENT_NAME: &str = "own.seg.tmp";

impl Inner {
    /// Leaves the active segment, which has at least one event, for a new one. On failure nothing changed.
    pub(super) fn rotate(&self, appender: &mut Appender) -> Result<()> {
        if !appender.epoch_begun {
            // Not in the new segment: EPOCH says that all before it is durable, which the header there is not yet.
            appender.tail.reserve(control::EPOCH_BYTES as u64)?;
            self.begin_epoch(appender)?;
        }
        let base = appender.next_sequence;
        let header = SegmentHeader {
            store_id: self.store_id,
            base,
            epoch: appender.epoch,
            time_us: appender.last_time_us,
            created_us: self.created_us,
            key_window: self.key_window,
        };
        appender.tail.flush(self.mapped.load(Ordering::Relaxed))?;
        let space = self.new_space(&header)?;
        let index = Arc::new(MemoryIndex::new(self.store_id, base, header.epoch, SEGMENT_HEADER_BYTES as u64));
        let segment = self.library.segment(base, Some(index.clone()));
        let left = self.push_segment(segment);
        appender.unsynced.push_back((appender.tail.space().file().clone(), base));
        appender.directory_unsynced = true;
        appender.previous_heads = Some(appender.index.heads().clone());
        appender.index = index;
        // The header names the epoch, but only an EPOCH frame or a synced header makes it known: the header is synced with the first group.
        appender.tail.move_to(Arc::new(space), &self.store_id, base, header.epoch, SEGMENT_HEADER_BYTES as u64);
        appender.rotations += 1;
        self.seals.fetch_add(1, Ordering::Release);
        self.helper.seal(left, base);
        Ok(())
    }

    /// A segment file under its final name, with its header in the page cache. Its name and bytes become durable with the first
    /// sync that covers them: until then no STORAGE event in it is acknowledged, and recovery takes it for absent.
    fn new_space(&self, header: &SegmentHeader) -> Result<Space> {
        self.library.check_place()?;
        let path = self.library.directory.join(segment_name(header.base));
        let (ahead, name) = match self.helper.take_prepared() {
            Some(space) => (space, NEXT_SEGMENT_NAME),
            // The helper may be in the midst of writing zeros to its file: this is another one.
            None => (self.prepare_space(OWN_SEGMENT_NAME, SEGMENT_HEADER_BYTES as u64)?, OWN_SEGMENT_NAME),
        };
        let temporary = self.library.directory.join(name);
        let made = (|| {
            ahead.file().write_at_unlatched(&header.encode(), 0)?;
            self.storage.rename(&temporary, &path)?;
            self.storage.open_write(&path)?.ok_or_else(|| Error::Corrupt {
                path: path.clone(),
                offset: 0,
                sequence: header.base,
                reason: String::from("the new segment file was removed while it was being made"),
            })
        })();
        match made {
            Ok(file) => Ok(ahead.reopened(Arc::new(LatchedFile::new(file, self.latch.clone())))),
            Err(error) => {
                let _ = self.storage.remove(&temporary);
                // The rename may have happened. A segment that begins where the old one goes on would make that one's events unreadable.
                self.storage.remove(&path).inspect_err(|error| self.latch.trip(error))?;
                Err(error)
            }
        }
    }

    /// A file for the next segment, under a temporary name, with `bytes` prepared.
    pub(super) fn prepare_space(&self, name: &str, bytes: u64) -> Result<Space> {
        self.library.check_place()?;
        let file = self.storage.create(&self.library.directory.join(name))?;
        let space = Space::new(Arc::new(LatchedFile::new(file, self.latch.clone())), 0, self.options.segment_bytes);
        space.prepare(bytes)?;
        if self.mapped.load(Ordering::Relaxed) {
            let _ = space.map();
        }
        Ok(space)
    }

    /// Adds the newest segment and returns the one before it.
    fn push_segment(&self, segment: Arc<Segment>) -> Arc<Segment> {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        let mut longer = Vec::with_capacity(segments.len() + 1);
        longer.extend(segments.iter().cloned());
        let left = longer[longer.len() - 1].clone();
        longer.push(segment);
        *segments = Arc::new(longer);
        self.segments_version.fetch_add(1, Ordering::Release);
        left
    }
}
