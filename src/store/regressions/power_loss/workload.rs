//! What a life of a store consists of, and how lives are made up.

use super::*;

/// One step of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Events of this many payload bytes each, in one call.
    Append {
        events: u64,
        bytes: usize,
        durability: Durability,
    },
    /// An event with this idempotency key: appended the first time, answered with the old receipt from then on.
    Keyed {
        key: u64,
        durability: Durability,
    },
    /// An event that expects its entity to be where it is, or (`right` is false) where it is not.
    Expecting {
        right: bool,
        durability: Durability,
    },
    /// A fence with so many events of this many payload bytes, one call each, and an event of another entity between them.
    Fence {
        events: u64,
        bytes: usize,
        end: FenceEnd,
    },
    /// Commits, or cancels, the oldest fence that was left open.
    Decide {
        commit: Option<Durability>,
    },
    Sync,
    /// Polls a consumer forward and commits its position.
    Checkpoint,
    /// Saves the position at the end of what is visible for a consumer that is not there.
    Save,
    /// A worker is given what there is for it and ends.
    Work(Manner),
    /// A clean close.
    Close,
    /// A clean close and an opening.
    Reopen,
    /// An opening without a close.
    Abandon,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FenceEnd {
    Commit(Durability),
    Cancel,
    /// Later steps run while it is open.
    Open,
}

/// What a worker's handler does with its first batch; with the second it is done, and stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Stop,
    Continue,
    /// The first event is done, the rest is to come again.
    Retry,
    /// The first event is done, then the handler fails.
    Fail,
    /// Nothing of it is done.
    Rollback,
}

pub(super) use Durability::{Process, Storage as Durable};

pub(super) fn one(bytes: usize, durability: Durability) -> Step {
    Step::Append { events: 1, bytes, durability }
}

pub(super) fn batch(events: u64, bytes: usize, durability: Durability) -> Step {
    Step::Append { events, bytes, durability }
}

pub(super) fn fence(events: u64, bytes: usize, commit: Option<Durability>) -> Step {
    Step::Fence { events, bytes, end: commit.map_or(FenceEnd::Cancel, FenceEnd::Commit) }
}

pub(super) fn open_fence(events: u64, bytes: usize) -> Step {
    Step::Fence { events, bytes, end: FenceEnd::Open }
}

pub(super) fn keyed(key: u64, durability: Durability) -> Step {
    Step::Keyed { key, durability }
}

pub(super) fn random_steps(random: &mut Random) -> Vec<Step> {
    let count = 3 + random.below(14);
    (0..count).map(|_| random_step(random)).collect()
}

/// Sizes are such that a segment of the tests is full after a few events; some events are larger than one.
fn random_step(random: &mut Random) -> Step {
    let durability = if random.below(3) == 0 { Durable } else { Process };
    let bytes = match random.below(8) {
        0 => 0,
        1..=3 => random.below(300) as usize,
        4 | 5 => random.below(2000) as usize,
        6 => random.below(7000) as usize,
        _ => random.below(20_000) as usize,
    };
    match random.below(26) {
        0 => Step::Sync,
        1 => Step::Reopen,
        2 | 3 => Step::Checkpoint,
        4 => Step::Abandon,
        5 => Step::Save,
        6 => Step::Work(Manner::Stop),
        7 => match random.below(4) {
            0 => Step::Work(Manner::Continue),
            1 => Step::Work(Manner::Retry),
            2 => Step::Work(Manner::Fail),
            _ => Step::Work(Manner::Rollback),
        },
        8..=10 => keyed(random.below(4), durability),
        11 => Step::Expecting { right: random.below(4) > 0, durability },
        12 => fence(1 + random.below(4), bytes / 2, Some(durability)),
        13 => fence(1 + random.below(3), bytes / 2, None),
        14 => open_fence(1 + random.below(2), bytes / 2),
        15 => Step::Decide { commit: (random.below(3) > 0).then_some(durability) },
        16..=18 => batch(2 + random.below(6), bytes / 4, durability),
        19 => batch(4 + random.below(12), 0, durability),
        _ => one(bytes, durability),
    }
}

/// What small workloads are put together from.
const ALPHABET: [Step; 19] = [
    Step::Append { events: 1, bytes: 100, durability: Durable },
    Step::Append { events: 1, bytes: 700, durability: Process },
    Step::Append { events: 3, bytes: 300, durability: Durable },
    Step::Append { events: 2, bytes: 2500, durability: Process },
    Step::Append { events: 2, bytes: 7000, durability: Process },
    Step::Append { events: 9, bytes: 0, durability: Process },
    Step::Append { events: 1, bytes: 9000, durability: Durable },
    Step::Fence { events: 2, bytes: 60, end: FenceEnd::Commit(Durable) },
    Step::Fence { events: 2, bytes: 60, end: FenceEnd::Commit(Process) },
    Step::Fence { events: 2, bytes: 60, end: FenceEnd::Cancel },
    Step::Fence { events: 1, bytes: 6000, end: FenceEnd::Open },
    Step::Keyed { key: 1, durability: Durable },
    Step::Expecting { right: true, durability: Process },
    Step::Sync,
    Step::Checkpoint,
    Step::Work(Manner::Stop),
    Step::Save,
    Step::Reopen,
    Step::Abandon,
];

/// The small workloads in their order: all of one step, all of two, then such of three to six steps.
pub(super) fn small_workload(number: u64, seed: u64) -> Vec<Step> {
    let letters = ALPHABET.len() as u64;
    if number < letters {
        return vec![ALPHABET[number as usize]];
    }
    let number = number - letters;
    if number < letters * letters {
        // Not in the order of the alphabet: a short run sees some of everything.
        let at = number * 131 % (letters * letters);
        return vec![ALPHABET[(at / letters) as usize], ALPHABET[(at % letters) as usize]];
    }
    let mut random = Random::new(seed ^ number.wrapping_mul(0x9E37_79B9));
    (0..3 + random.below(4)).map(|_| ALPHABET[random.below(letters) as usize]).collect()
}
