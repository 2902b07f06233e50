//! What was cancelled: sequences that were given to events under a fence that never committed.

use crate::error::Result;

use super::Store;

impl Store {
    /// The cancelled ranges (start, end exclusive) within `from..to`, clipped to it, ascending, none touching the next. One question to
    /// each segment of the interval.
    pub fn cancelled(&self, from: u64, to: u64) -> Result<Vec<(u64, u64)>> {
        let inner = &*self.inner;
        inner.check_usable()?;
        let mut all: Vec<(u64, u64)> = Vec::new();
        if from >= to {
            return Ok(all);
        }
        let segments = inner.segments();
        let first = segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        let mut found = Vec::new();
        for (number, segment) in segments.iter().enumerate().skip(first).take_while(|(_, segment)| segment.base < to) {
            let end = segments.get(number + 1).map_or(u64::MAX, |next| next.base);
            segment.with_index(&inner.library, end, |index| {
                found.clear();
                index.cancelled(from.max(segment.base), to.min(end), &mut found)
            })?;
            for &(start, end) in &found {
                match all.last_mut() {
                    // A fence went on over a rotation.
                    Some(last) if last.1 == start => last.1 = end,
                    _ => all.push((start, end)),
                }
            }
        }
        Ok(all)
    }
    /// Cancels in every index that is in memory, as if fences had covered the ranges. With `entity`, all of whose events they cover, its
    /// stream is as if it had never begun; without, the segments must not be sealed.
    #[cfg(test)]
    pub(crate) fn cancel(&self, entity: Option<&str>, ranges: &[(u64, u64)]) {
        for segment in self.inner.segments().iter() {
            if let Some(super::segments::Index::Memory(index)) = segment.open_index() {
                index.cancel(ranges);
                if let Some(entity) = entity.map(str::as_bytes) {
                    index.rewind(index.hash(entity), entity, 0, Some(crate::index::StreamHead::NEW));
                }
            }
        }
    }
}
