//! Derived and rebuildable: what finds events without reading the log.
//!
//! * [`memory::MemoryIndex`] grows with the active segment; the writer appends to it while readers read below the visible mark.
//! * [`sealed::SealedIndex`] reads a sealed segment's `.idx` in place, by pages.
//! * [`build`] turns the first into the second, and back for an active segment found after a clean close.

pub(crate) mod build;
mod chunks;
mod keys;
pub(crate) mod listing;
pub(crate) mod memory;
pub(crate) mod pages;
mod ranges;
pub(crate) mod sealed;
#[cfg(test)]
mod tests;

use std::ops::Range;

/// What an index knows of one stream of its segment, and so of the entity as of the segment's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamHead {
    /// Clock of the entity's next event.
    pub next_clock: u64,
    /// Sequence of its last event, `u64::MAX` when there is none.
    pub last_sequence: u64,
}

impl StreamHead {
    /// An entity that has no event.
    pub const NEW: StreamHead = StreamHead { next_clock: 0, last_sequence: u64::MAX };
}

/// The streams of one index that an entity match names: numbers in `ranges`, ascending and disjoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StreamSet {
    pub ranges: Vec<Range<u32>>,
}

impl StreamSet {
    /// One stream.
    pub fn one(number: u32) -> StreamSet {
        StreamSet { ranges: std::iter::once(number..number + 1).collect() }
    }
}
