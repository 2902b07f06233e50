//! Gaps.
//|
//| Gap
//|
//| Where a delivery stepped over cancelled sequences: events that were appended under a fence and never came. A cursor or
//| worker looks for gaps when its options have a gap_capacity. The capacity bounds how many are kept: when there are
//| more, the oldest are dropped, and the drops counted.
//|
//| A gap lies between the sequence that was expected (the one after the event delivered before; 0 when there was none)
//| and the one that was delivered, and only where something between the two was cancelled: to step over events that do
//| not match the region is no gap. What was cancelled behind the last match comes with the next one, and events that are
//| delivered again have their gaps again.

use std::mem::offset_of;
use std::ptr;

use super::handle::{self, Castable, batpak_gap_list_t};
use super::input;
use crate::cursor::{GapList, SequenceRange};

/// Sequences from start up to and without end. The layout is frozen: 16 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct batpak_sequence_range_t {
    /// The first.
    pub start: u64,
    /// The one after the last.
    pub end: u64,
}

/// One gap. Its pointer is borrowed from the list or delivery. The layout is frozen and never grows: 48 bytes where
/// pointers have 64 bits.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct batpak_gap_t {
    /// The sequence after the event delivered before; 0 when there was none.
    pub expected_sequence: u64,
    /// What was delivered instead.
    pub delivered_sequence: u64,
    /// What of the sequences between the two was cancelled: ascending, not overlapping.
    pub ranges: *const batpak_sequence_range_t,
    /// Number of ranges, at least 1.
    pub range_count: usize,
    /// Zero.
    pub reserved: [u64; 2],
}

// The C range is the range: same members, same places.
const _: () = {
    assert!(size_of::<batpak_sequence_range_t>() == size_of::<SequenceRange>());
    assert!(align_of::<batpak_sequence_range_t>() == align_of::<SequenceRange>());
    assert!(offset_of!(batpak_sequence_range_t, start) == offset_of!(SequenceRange, start));
    assert!(offset_of!(batpak_sequence_range_t, end) == offset_of!(SequenceRange, end));
};

/// Gaps as C sees them, and what they point to.
pub(super) struct Gaps {
    views: Vec<batpak_gap_t>,
    list: GapList,
}

// SAFETY: the pointers in `views` lead to memory that `list` owns, and neither changes.
unsafe impl Send for Gaps {}
// SAFETY: as above.
unsafe impl Sync for Gaps {}

impl Gaps {
    pub(super) fn new(list: GapList) -> Gaps {
        Gaps { views: views(&list), list }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.list.dropped
    }

    /// An array that lives as long as the object; null when there are none.
    ///
    /// # Safety
    /// `n` is null or writable.
    pub(super) unsafe fn lend(&self, n: *mut usize) -> *const batpak_gap_t {
        // SAFETY: as the caller says.
        unsafe { input::put(n, self.views.len()) };
        if self.views.is_empty() { ptr::null() } else { self.views.as_ptr() }
    }
}

/// They point into the list.
fn views(list: &GapList) -> Vec<batpak_gap_t> {
    list.gaps
        .iter()
        .map(|gap| batpak_gap_t {
            expected_sequence: gap.expected_sequence,
            delivered_sequence: gap.delivered_sequence,
            ranges: gap.cancelled.as_ptr().cast(),
            range_count: gap.cancelled.len(),
            reserved: [0; 2],
        })
        .collect()
}

impl Castable for batpak_gap_list_t {
    type Object = Gaps;
    const TAG: u64 = u64::from_le_bytes(*b"bpkGaps_");
    const NOUN: &'static str = "gap list";
    const REMEDY: &'static str = "pass a list that batpak_cursor_take_gaps has given";
    const SURVIVES_FORK: bool = true;
}

/// The gaps of a list, oldest first.
///
/// list: may be NULL, which gives NULL and 0. n: out, may be NULL; the number of gaps.
/// Returns an array borrowed from the list; NULL when there are none.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_gap_list_gaps(list: *const batpak_gap_list_t, n: *mut usize) -> *const batpak_gap_t {
    // SAFETY: P; the gaps live as long as the list.
    unsafe {
        match handle::peek(list) {
            Some(cell) => cell.object().lend(n),
            None => {
                input::put(n, 0);
                ptr::null()
            }
        }
    }
}

/// How many older gaps were dropped, since the list before was taken, because the capacity was used up.
///
/// list: may be NULL, which gives 0. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_gap_list_dropped(list: *const batpak_gap_list_t) -> u64 {
    // SAFETY: P.
    unsafe { handle::peek(list) }.map_or(0, |cell| cell.object().dropped())
}

/// Frees a list.
///
/// list: may be NULL. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_gap_list_free(list: *mut batpak_gap_list_t) {
    // SAFETY: P; the reference was the caller's.
    unsafe { handle::free(list) }
}

// Lists are read and freed on any thread.
const _: () = {
    const fn shareable<T: Send + Sync>() {}
    shareable::<Gaps>();
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Gap;

    #[test]
    fn g2_a_list_shows_each_gap_and_its_ranges() {
        let range = |start, end| SequenceRange { start, end };
        let gaps = vec![
            Gap { expected_sequence: 0, delivered_sequence: 5, cancelled: vec![range(1, 2), range(3, 5)] },
            Gap { expected_sequence: 6, delivered_sequence: 9, cancelled: vec![range(6, 9)] },
        ];
        let list = handle::create::<batpak_gap_list_t>(Gaps::new(GapList { gaps, dropped: 7 }));
        let mut n = 0;
        // SAFETY: the handle is live until it is freed, and so are the arrays lent from it.
        unsafe {
            let first = batpak_gap_list_gaps(list, &mut n);
            let shown: Vec<_> = std::slice::from_raw_parts(first, n)
                .iter()
                .map(|gap| {
                    let ranges = std::slice::from_raw_parts(gap.ranges, gap.range_count);
                    let ranges: Vec<_> = ranges.iter().map(|range| (range.start, range.end)).collect();
                    (gap.expected_sequence, gap.delivered_sequence, ranges)
                })
                .collect();
            assert_eq!(shown, [(0, 5, vec![(1, 2), (3, 5)]), (6, 9, vec![(6, 9)])]);
            assert_eq!(batpak_gap_list_dropped(list), 7);
            batpak_gap_list_free(list);
        }
    }
}
