//! Reading the index of the active segment from its newest event back, and its entities in order.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, PoisonError};

use crate::event::{Kind, Region};
use crate::index::StreamHead;
use crate::index::listing::NameRange;
use crate::sync::Mutex;

use super::{Heads, MemoryIndex};

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

/// Names are compared under the lock that whoever adds one waits for: so many at a time.
const COMPARISONS_LOCKED: usize = 1024;

/// The numbers of the streams in the order of their names, brought up to date by whoever lists them: sorted runs, each more than
/// twice as long as the next, so that every number is merged as often as the runs are many.
#[derive(Debug, Default)]
pub(super) struct NameOrder {
    runs: Mutex<Vec<Arc<[u32]>>>,
}

impl NameOrder {
    fn runs(&self, heads: &Heads) -> Vec<Arc<[u32]>> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut longer = runs.clone();
        let (known, total) = (runs.iter().map(|run| run.len()).sum(), heads.len());
        for start in (known..total).step_by(COMPARISONS_LOCKED / 8) {
            let mut run: Vec<u32> = (start as u32..(start + COMPARISONS_LOCKED / 8).min(total) as u32).collect();
            let names = heads.names();
            run.sort_unstable_by(|&one, &other| names.name(one).cmp(names.name(other)));
            drop(names);
            while let Some(last) = longer.last().filter(|last| last.len() <= 2 * run.len()) {
                run = merged(heads, last, &run);
                longer.pop();
            }
            longer.push(run.into());
        }
        runs.clone_from(&longer);
        longer
    }
}

fn merged(heads: &Heads, one: &[u32], other: &[u32]) -> Vec<u32> {
    let mut merged = Vec::with_capacity(one.len() + other.len());
    let (mut at, mut other_at) = (0, 0);
    while at < one.len() && other_at < other.len() {
        let names = heads.names();
        for _ in 0..COMPARISONS_LOCKED {
            let (Some(&first), Some(&second)) = (one.get(at), other.get(other_at)) else { break };
            if names.name(first) < names.name(second) {
                merged.push(first);
                at += 1;
            } else {
                merged.push(second);
                other_at += 1;
            }
        }
    }
    merged.extend_from_slice(&one[at..]);
    merged.extend_from_slice(&other[other_at..]);
    merged
}

impl MemoryIndex {
    /// The first entities of a range, at most `most`, with their streams; fewer are all. Some may have no event here.
    pub fn list(&self, range: &NameRange, most: usize) -> Vec<(Vec<u8>, u32)> {
        let runs = self.order.runs(&self.heads);
        let names = self.heads.names();
        let mut rest: Vec<&[u32]> = runs
            .iter()
            .map(|run| &run[run.partition_point(|&stream| names.name(stream) < range.from.as_slice())..])
            .collect();
        let mut found = Vec::with_capacity(most);
        while found.len() < most {
            let next = rest.iter_mut().filter(|run| !run.is_empty()).min_by_key(|run| names.name(run[0]));
            let Some(run) = next else { break };
            let name = names.name(run[0]);
            if range.ends_before(name) {
                break;
            }
            found.push((name.to_vec(), run[0]));
            *run = &run[1..];
        }
        found
    }

    /// Clock and sequence of a stream's last event below sequence `visible`; `None` when it has none here. `head` is the
    /// stream's, taken while nobody appended.
    pub fn last_below(&self, stream: u32, head: StreamHead, visible: u64) -> Option<(u64, u64)> {
        let (mut clock, mut sequence) = (head.next_clock, head.last_sequence);
        while sequence != u64::MAX && sequence >= self.base {
            clock = clock.checked_sub(1)?;
            if sequence < visible {
                return Some((clock, sequence));
            }
            debug_assert_eq!(self.entry((sequence - self.base) as u32).map(|entry| entry.stream), Some(stream));
            sequence = match self.before((sequence - self.base) as u32) {
                0 => return None,
                next => self.base + u64::from(next) - 1,
            };
        }
        None
    }
}
