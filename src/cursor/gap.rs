//! Gaps: where a delivery stepped over cancelled sequences. The rule is [`observe`], pure; [`Gaps`] keeps what was observed.
//!
//! A gap lies between what was expected (the sequence after the position, 0 when not started; inside a batch the one after the event
//! before) and what was delivered, and only where a cancelled range lies between the two. Events that do not match are none.
//! As what is expected follows from the position, not from how far was scanned, a range behind the last match is observed
//! with the next one, and what is delivered again has its gaps again.

use std::collections::VecDeque;

use crate::error::Result;
use crate::event::EventBatch;
use crate::store::Store;

/// Sequences from `start` up to and without `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SequenceRange {
    /// The first.
    pub start: u64,
    /// The one after the last.
    pub end: u64,
}

/// A delivery that stepped over cancelled sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The sequence after the event delivered before; 0 when there was none.
    pub expected_sequence: u64,
    /// What was delivered instead.
    pub delivered_sequence: u64,
    /// What of the skipped sequences was cancelled: ascending, at least one range.
    pub cancelled: Vec<SequenceRange>,
}

/// Gaps that were observed, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GapList {
    /// The newest, as many as the capacity allows.
    pub gaps: Vec<Gap>,
    /// How many older ones there was no room for.
    pub dropped: u64,
}

/// The gaps of a batch. `delivered` and `cancelled` ascend.
fn observe(
    mut expected: u64,
    delivered: impl IntoIterator<Item = u64>,
    cancelled: &[(u64, u64)],
    mut found: impl FnMut(Gap),
) {
    let mut rest = cancelled;
    for delivered in delivered {
        rest = &rest[rest.partition_point(|&(_, end)| end <= expected)..];
        let ranges: Vec<SequenceRange> = rest
            .iter()
            .map(|&(start, end)| SequenceRange { start: start.max(expected), end: end.min(delivered) })
            .take_while(|range| range.start < range.end)
            .collect();
        if !ranges.is_empty() {
            found(Gap { expected_sequence: expected, delivered_sequence: delivered, cancelled: ranges });
        }
        expected = delivered + 1;
    }
}

/// What one consumer has observed and not been asked for yet.
#[derive(Debug)]
pub(crate) struct Gaps {
    capacity: usize,
    queue: VecDeque<Gap>,
    dropped: u64,
}

impl Gaps {
    /// `None`: off, and nothing is looked for.
    pub(crate) fn new(capacity: usize) -> Option<Gaps> {
        (capacity > 0).then(|| Gaps { capacity, queue: VecDeque::new(), dropped: 0 })
    }

    /// Looks for the gaps of a batch, whose first event was expected to be `expected`. On failure nothing was noted.
    pub(crate) fn look(&mut self, store: &Store, expected: u64, batch: &EventBatch) -> Result<()> {
        let events = batch.events();
        let Some(last) = events.last().map(|event| event.sequence) else { return Ok(()) };
        if (last + 1).saturating_sub(expected) == events.len() as u64 {
            // Nothing was skipped.
            return Ok(());
        }
        let cancelled = store.cancelled(expected, last)?;
        if !cancelled.is_empty() {
            observe(expected, events.iter().map(|event| event.sequence), &cancelled, |gap| self.push(gap));
        }
        Ok(())
    }

    fn push(&mut self, gap: Gap) {
        if self.queue.len() == self.capacity {
            self.queue.pop_front();
            self.dropped += 1;
        }
        self.queue.push_back(gap);
    }

    /// All that there is, and how many were dropped since this was last asked.
    pub(crate) fn take(&mut self) -> GapList {
        GapList { gaps: std::mem::take(&mut self.queue).into(), dropped: std::mem::take(&mut self.dropped) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(expected: u64, delivered: &[u64], cancelled: &[(u64, u64)]) -> Vec<(u64, u64, Vec<(u64, u64)>)> {
        let mut gaps = Vec::new();
        observe(expected, delivered.iter().copied(), cancelled, |gap| {
            let ranges = gap.cancelled.iter().map(|range| (range.start, range.end)).collect();
            gaps.push((gap.expected_sequence, gap.delivered_sequence, ranges));
        });
        gaps
    }

    fn gap(delivered_sequence: u64) -> Gap {
        let cancelled = vec![SequenceRange { start: 0, end: delivered_sequence }];
        Gap { expected_sequence: 0, delivered_sequence, cancelled }
    }

    #[test]
    fn g1_a_capacity_of_zero_is_off() {
        assert!(Gaps::new(0).is_none());
        assert!(Gaps::new(1).is_some());
    }

    #[test]
    fn g1_the_oldest_is_dropped_when_full_and_drops_are_counted() {
        let mut gaps = Gaps::new(2).unwrap();
        (1..=5).for_each(|sequence| gaps.push(gap(sequence)));
        assert_eq!(gaps.take(), GapList { gaps: vec![gap(4), gap(5)], dropped: 3 });
    }

    #[test]
    fn g2_what_is_skipped_without_a_cancelled_range_is_no_gap() {
        assert_eq!(observed(0, &[3, 7, 8], &[]), []);
        // Cancelled before what was expected, and behind what was delivered.
        assert_eq!(observed(10, &[13, 20], &[(4, 10), (21, 30)]), []);
    }

    #[test]
    fn g2_expected_is_zero_at_first_and_inside_a_batch_the_event_before_plus_one() {
        assert_eq!(observed(0, &[2, 5], &[(0, 2), (3, 4)]), [(0, 2, vec![(0, 2)]), (3, 5, vec![(3, 4)])]);
    }

    #[test]
    fn g2_expected_is_the_position_plus_one_when_started() {
        assert_eq!(observed(8, &[12], &[(9, 11)]), [(8, 12, vec![(9, 11)])]);
    }

    #[test]
    fn g2_ranges_are_clipped_to_what_was_skipped() {
        assert_eq!(observed(5, &[8], &[(2, 6), (7, 12)]), [(5, 8, vec![(5, 6), (7, 8)])]);
        // One range over several skipped intervals: its part in each.
        assert_eq!(observed(5, &[8, 9, 12], &[(0, 20)]), [(5, 8, vec![(5, 8)]), (10, 12, vec![(10, 12)])]);
    }

    #[test]
    fn g2_only_the_intervals_with_a_cancelled_range_are_recorded() {
        let cancelled = [(1, 2), (31, 32), (33, 35)];
        let expected = [(0, 10, vec![(1, 2)]), (31, 40, vec![(31, 32), (33, 35)])];
        assert_eq!(observed(0, &[10, 20, 30, 40], &cancelled), expected);
    }

    #[test]
    fn g2_a_trailing_range_comes_with_the_next_match() {
        // The poll before ended with 4; 5 to 8 were cancelled and scanned since without a match.
        assert_eq!(observed(5, &[9], &[(5, 8)]), [(5, 9, vec![(5, 8)])]);
    }

    #[test]
    fn g2_a_redelivery_has_its_gaps_again() {
        let (delivered, cancelled) = ([3, 9], [(4, 6)]);
        assert_eq!(observed(0, &delivered, &cancelled), observed(0, &delivered, &cancelled));
    }

    #[test]
    fn g3_taking_drains() {
        let mut gaps = Gaps::new(1).unwrap();
        gaps.push(gap(1));
        gaps.push(gap(2));
        assert_eq!(gaps.take(), GapList { gaps: vec![gap(2)], dropped: 1 });
        assert_eq!(gaps.take(), GapList::default());
        gaps.push(gap(3));
        assert_eq!(gaps.take(), GapList { gaps: vec![gap(3)], dropped: 0 });
    }
}
