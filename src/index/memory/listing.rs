//! Reading the index of the active segment from its newest event back.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::event::{Kind, Region};

use super::MemoryIndex;

impl MemoryIndex {
    /// The newest events of an entity below ordinal `to` that the region's scope and kind match, ascending. At most `most` of the
    /// entity's events are looked at; every match from the ordinal returned on was found.
    pub fn newest_of(&self, entity: &[u8], region: &Region, to: u32, most: usize, found: &mut Vec<u32>) -> u32 {
        let Some(stream) = self.heads.find(self.hash(entity), entity) else { return 0 };
        let scope = match &region.scope {
            None => None,
            Some(scope) => match self.find_scope(self.hash(scope.as_bytes()), scope.as_bytes()) {
                None => return 0,
                number => number,
            },
        };
        let first = found.len();
        let mut next = self.first_below(stream, to);
        for _ in 0..most {
            let Some(ordinal) = next.checked_sub(1) else { break };
            let Some(entry) = self.entry(ordinal) else { break };
            if scope.is_none_or(|scope| scope == entry.scope) && region.matches_kind(Kind(entry.kind)) {
                found.push(ordinal);
            }
            next = self.before(ordinal);
        }
        found[first..].reverse();
        next
    }

    /// Ordinal + 1 of a stream's newest event below ordinal `to`, 0 for none.
    fn first_below(&self, stream: u32, to: u32) -> u32 {
        let mut next = self.heads.heads.make(stream as usize).last.load(Acquire);
        // Whoever goes on from an event of the stream is spared the way from its head. Below the head slots are complete.
        if to < next && self.entry(to).is_some_and(|entry| entry.stream == stream) {
            return self.before(to);
        }
        while next > to {
            next = self.before(next - 1);
        }
        next
    }

    /// Ordinal + 1 of the event of the same stream before this one, 0 for none.
    fn before(&self, ordinal: u32) -> u32 {
        self.slots.get(ordinal as usize).map_or(0, |slot| (slot.stream.load(Relaxed) >> 32) as u32)
    }
}
