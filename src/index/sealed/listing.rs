//! Reading a sealed index from its newest event back.

use crate::error::Result;
use crate::event::Region;
use crate::format::index;
use crate::format::packed::BLOCK_VALUES;

use super::SealedIndex;

impl SealedIndex {
    /// The newest events of an entity below ordinal `to` that the region's scope and kind match, ascending. About `most` of the
    /// entity's events are looked at; every match from the ordinal returned on was found.
    pub fn newest_of(&self, entity: &[u8], region: &Region, to: u32, most: usize, found: &mut Vec<u32>) -> Result<u32> {
        let Some((_, row)) = self.find(entity)? else { return Ok(0) };
        let start = u64::from(row.postings_start);
        let (mut low, mut high) = (start, start + u64::from(row.postings_count));
        // What is left between the two is read anyway.
        while row.last_sequence >= self.base() + u64::from(to) && high - low > BLOCK_VALUES as u64 {
            let middle = low + (high - low) / 2;
            if self.value(index::POSTINGS, middle)? < u64::from(to) { low = middle + 1 } else { high = middle }
        }
        let from = start.max(low.min(high.saturating_sub(most as u64)));
        let first = found.len();
        self.each(index::POSTINGS, from..high, |_, ordinal| {
            if ordinal < u64::from(to) {
                found.push(ordinal as u32);
            }
        })?;
        let reached = match found.get(first) {
            _ if from == start => 0,
            Some(&oldest) => oldest,
            None => return Err(self.inconsistent("the order of the postings")),
        };
        self.keep_scope(region, first, found)?;
        self.keep_kind(region, first, found)?;
        Ok(reached)
    }
}
