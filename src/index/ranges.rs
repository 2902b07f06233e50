//! The cancelled sequences of a segment in memory: half-open ranges, ascending, disjoint, and no two of them touch.

use std::ops::Range;

/// Start and end (exclusive).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    ranges: Vec<(u64, u64)>,
}

impl Ranges {
    /// Adds what of `ranges`, in any order, lies within the bounds.
    pub fn add(&mut self, ranges: &[(u64, u64)], bounds: Range<u64>) {
        let clip = |&(start, end): &(u64, u64)| (start.max(bounds.start), end.min(bounds.end));
        let mut added: Vec<(u64, u64)> = ranges.iter().map(clip).filter(|(start, end)| start < end).collect();
        added.sort_unstable();
        let Some(&(least, _)) = added.first() else { return };
        // Ranges that end before the first new one begins stay as they are: mostly all of them do.
        let later = self.ranges.split_off(self.ranges.partition_point(|&(_, end)| end < least));
        let (mut later, mut added) = (later.into_iter().peekable(), added.into_iter().peekable());
        while let Some(next) = match (later.peek(), added.peek()) {
            (Some(a), Some(b)) if a <= b => later.next(),
            (Some(_), None) => later.next(),
            _ => added.next(),
        } {
            match self.ranges.last_mut() {
                Some(last) if next.0 <= last.1 => last.1 = last.1.max(next.1),
                _ => self.ranges.push(next),
            }
        }
    }

    /// Takes away what is at or above `end`.
    pub fn truncate(&mut self, end: u64) {
        self.ranges.truncate(self.ranges.partition_point(|&(start, _)| start < end));
        if let Some(last) = self.ranges.last_mut() {
            last.1 = last.1.min(end);
        }
    }

    pub fn contains(&self, sequence: u64) -> bool {
        let place = self.ranges.partition_point(|&(_, end)| end <= sequence);
        self.ranges.get(place).is_some_and(|&(start, _)| start <= sequence)
    }

    /// Appends what lies in `from..to`, clipped to it.
    pub fn within(&self, from: u64, to: u64, found: &mut Vec<(u64, u64)>) {
        let rest = &self.ranges[self.ranges.partition_point(|&(_, end)| end <= from)..];
        let here = rest.iter().take_while(|&&(start, _)| start < to && from < to);
        found.extend(here.map(|&(start, end)| (start.max(from), end.min(to))));
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn as_slice(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> u64 {
        (self.ranges.capacity() * size_of::<(u64, u64)>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the order in which ranges come, and however often, they say the same as a mark on every sequence.
        #[test]
        fn ranges_are_marks_on_sequences(
            batches in prop::collection::vec(prop::collection::vec((90..135u64, 0..9u64), 0..6), 0..6),
            cut in 95..130u64,
        ) {
            let mut ranges = Ranges::default();
            let mut marks = [false; 200];
            for batch in &batches {
                let batch: Vec<(u64, u64)> = batch.iter().map(|&(start, length)| (start, start + length)).collect();
                ranges.add(&batch, 100..130);
                ranges.add(&batch, 100..130);
                for &(start, end) in &batch {
                    (start.max(100)..end.min(130)).for_each(|sequence| marks[sequence as usize] = true);
                }
                prop_assert!(ranges.as_slice().is_sorted_by(|a, b| a.1 < b.0));
            }
            for step in 0..2 {
                for from in 95..132u64 {
                    prop_assert_eq!(ranges.contains(from), marks[from as usize]);
                    for to in from.saturating_sub(2)..132 {
                        let mut found = Vec::new();
                        ranges.within(from, to, &mut found);
                        prop_assert!(found.iter().all(|(start, end)| start < end));
                        let sequences: Vec<u64> = found.iter().flat_map(|&(start, end)| start..end).collect();
                        let marked: Vec<u64> = (from..to).filter(|&sequence| marks[sequence as usize]).collect();
                        prop_assert_eq!(sequences, marked);
                    }
                }
                if step == 0 {
                    ranges.truncate(cut);
                    marks[cut as usize..].fill(false);
                }
            }
        }
    }
}
