//! What a life of a store consists of.

use super::*;

/// One step of a workload.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Events of this many payload bytes each, in one call.
    Append {
        events: u64,
        bytes: usize,
        durability: Durability,
    },
    /// A fence with so many events of this many payload bytes, one call each, and an event of its own entity's neighbours between
    /// them; then it is committed, or cancelled.
    Fence {
        events: u64,
        bytes: usize,
        commit: Option<Durability>,
    },
    Sync,
    /// Polls a consumer forward and commits its position.
    Checkpoint,
    /// A clean close and an opening.
    Reopen,
    /// An opening without a close.
    Abandon,
}

pub(super) use Durability::{Process, Storage as Durable};

pub(super) fn one(bytes: usize, durability: Durability) -> Step {
    Step::Append { events: 1, bytes, durability }
}

pub(super) fn batch(events: u64, bytes: usize, durability: Durability) -> Step {
    Step::Append { events, bytes, durability }
}

pub(super) fn fence(events: u64, bytes: usize, commit: Option<Durability>) -> Step {
    Step::Fence { events, bytes, commit }
}

pub(super) fn random_steps(random: &mut Random) -> Vec<Step> {
    let count = 4 + random.below(16);
    (0..count)
        .map(|_| {
            let durability = if random.below(3) == 0 { Durable } else { Process };
            let bytes = match random.below(6) {
                0 => 0,
                1..=3 => random.below(2000) as usize,
                4 => random.below(40_000) as usize,
                _ => random.below(700_000) as usize,
            };
            match random.below(15) {
                12 => fence(1 + random.below(4), bytes / 2, Some(durability)),
                13 => fence(1 + random.below(4), bytes / 2, None),
                14 => fence(1 + random.below(2), 30, Some(Process)),
                0 => Step::Sync,
                1 => Step::Reopen,
                2 => Step::Checkpoint,
                3 => Step::Abandon,
                4..=6 => batch(2 + random.below(6), bytes / 4, durability),
                _ => one(bytes, durability),
            }
        })
        .collect()
}
