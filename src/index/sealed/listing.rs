//! Reading a sealed index from its newest event back, and its entities in order.

use crate::error::Result;
use crate::event::{COORDINATE_BYTES_MAX, Region, make_room};
use crate::format::index::{self, StreamRow};
use crate::format::packed::BLOCK_VALUES;
use crate::index::listing::{Entities, Entity, NameRange};

use super::SealedIndex;

impl SealedIndex {
    /// The newest events of an entity below ordinal `to` that the region's scope and kind match, ascending. About `most` of the
    /// entity's events are looked at; every match from the ordinal returned on was found.
    pub fn newest_of(&self, entity: &[u8], region: &Region, to: u32, most: usize, found: &mut Vec<u32>) -> Result<u32> {
        let Some((_, row)) = self.find(entity)? else { return Ok(0) };
        let start = u64::from(row.postings_start);
        let mut high = start + u64::from(row.postings_count);
        let mut low = if row.last_sequence < self.base() + u64::from(to) { high } else { start };
        // What is left between the two is read anyway.
        while high - low > BLOCK_VALUES as u64 {
            let middle = low + (high - low) / 2;
            if self.value(index::POSTINGS, middle)? < u64::from(to) { low = middle + 1 } else { high = middle }
        }
        let from = start.max(low.min(high.saturating_sub(most as u64)));
        let first = found.len();
        make_room(found, (high - from) as usize)?;
        self.each(index::POSTINGS, from..high, |_, ordinal| {
            if ordinal < u64::from(to) {
                found.push(ordinal as u32);
            }
        })?;
        self.check_ascending(&found[first..])?;
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

impl SealedIndex {
    /// The first entities of a range that have a live event here, of `most` that are looked at. Returns the name behind which there may
    /// be more.
    pub fn list(&self, range: &NameRange, most: usize, entities: &mut Entities) -> Result<Option<Vec<u8>>> {
        let (streams, names) = (self.section(index::STREAMS), self.section(index::NAMES));
        let first = u64::from(self.lower_bound(&range.from)?);
        let count = streams.count.saturating_sub(first).min(most as u64);
        let rows = self
            .read(streams.offset + first * index::STREAM_ROW_BYTES as u64, count as usize * index::STREAM_ROW_BYTES)?;
        let rows: Vec<StreamRow> =
            rows.chunks_exact(index::STREAM_ROW_BYTES).map(|row| self.decode_row(row)).collect::<Result<_>>()?;
        // Names lie in the order of the streams, without gaps.
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(None) };
        let start = u64::from(first.name_offset);
        let end = u64::from(last.name_offset) + u64::from(last.name_length);
        if start > end || end > names.length || end - start > rows.len() as u64 * COORDINATE_BYTES_MAX as u64 {
            return Err(self.inconsistent("a name's place"));
        }
        let bytes = self.read(names.offset + start, (end - start) as usize)?;
        let mut more = None;
        for (at_row, row) in rows.iter().enumerate() {
            let at = u64::from(row.name_offset).wrapping_sub(start) as usize;
            let name = at.checked_add(usize::from(row.name_length)).and_then(|end| bytes.get(at..end));
            let name = name.ok_or_else(|| self.inconsistent("a name's place"))?;
            if range.ends_before(name) {
                break;
            }
            if row.postings_count > 0 {
                entities.push(Entity { name, clock: row.last_clock, last_sequence: row.last_sequence });
            }
            if at_row + 1 == most {
                more = Some(name.to_vec());
            }
        }
        Ok(more)
    }
}
