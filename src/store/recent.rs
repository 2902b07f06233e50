//! What causes ask of recent events, without the append lock: time and correlation id by sequence.
//!
//! A direct-mapped table of sequence locks: the writer (one at a time, under the append lock) invalidates a slot, fills it, and names the
//! sequence again; a reader that saw the same sequence before and after read one event's values.

use crate::error::Result;
use crate::event::{EventId, make_room};
use crate::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};

/// Few in the models, where each is made anew for every schedule.
const SLOTS: usize = if cfg!(shuttle) { 8 } else { 8192 };
const EMPTY: u64 = u64::MAX;

#[derive(Debug)]
struct Slot {
    sequence: AtomicU64,
    time_us: AtomicI64,
    correlation: [AtomicU64; 2],
}

/// Time and correlation id of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecentEvent {
    pub time_us: i64,
    pub correlation_id: EventId,
}

#[derive(Debug)]
pub(crate) struct Recent {
    slots: Box<[Slot]>,
}

impl Recent {
    pub fn new() -> Result<Recent> {
        let slot =
            || Slot { sequence: AtomicU64::new(EMPTY), time_us: AtomicI64::new(0), correlation: Default::default() };
        let mut slots = Vec::new();
        make_room(&mut slots, SLOTS)?;
        slots.resize_with(SLOTS, slot);
        Ok(Recent { slots: slots.into_boxed_slice() })
    }

    #[inline]
    pub fn put(&self, sequence: u64, event: RecentEvent) {
        let slot = &self.slots[sequence as usize % SLOTS];
        let id = u128::from_le_bytes(event.correlation_id.0);
        slot.sequence.store(EMPTY, Ordering::Relaxed);
        fence(Ordering::Release);
        slot.time_us.store(event.time_us, Ordering::Relaxed);
        slot.correlation[0].store(id as u64, Ordering::Relaxed);
        slot.correlation[1].store((id >> 64) as u64, Ordering::Relaxed);
        slot.sequence.store(sequence, Ordering::Release);
    }

    /// Forgets the events of a range: they were cancelled.
    pub fn forget(&self, from: u64, to: u64) {
        for sequence in from.max(to.saturating_sub(SLOTS as u64))..to {
            let slot = &self.slots[sequence as usize % SLOTS];
            let _ = slot.sequence.compare_exchange(sequence, EMPTY, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    pub fn get(&self, sequence: u64) -> Option<RecentEvent> {
        let slot = &self.slots[sequence as usize % SLOTS];
        if slot.sequence.load(Ordering::Acquire) != sequence {
            return None;
        }
        let time_us = slot.time_us.load(Ordering::Relaxed);
        let id = u128::from(slot.correlation[0].load(Ordering::Relaxed))
            | (u128::from(slot.correlation[1].load(Ordering::Relaxed)) << 64);
        fence(Ordering::Acquire);
        (slot.sequence.load(Ordering::Relaxed) == sequence)
            .then_some(RecentEvent { time_us, correlation_id: EventId(id.to_le_bytes()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_answers_only_for_the_sequence_it_holds() {
        let recent = Recent::new().unwrap();
        let event = RecentEvent { time_us: 7, correlation_id: EventId([3; 16]) };
        assert_eq!(recent.get(5), None);
        recent.put(5, event);
        assert_eq!(recent.get(5), Some(event));
        recent.put(5 + SLOTS as u64, event);
        assert_eq!(recent.get(5), None);
    }
}
