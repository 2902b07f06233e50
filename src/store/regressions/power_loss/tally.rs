//! How often each kind of operation met each fault.

use std::fmt;

use super::*;
use crate::io::sim::{Change, ChangeKind, Interrupted};

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    StoppedBefore,
    StoppedWithin,
    StoppedAfter,
    FailsEio,
    FailsEnospc,
    ShortEio,
    ShortEnospc,
    Kept,
    Lost,
    Torn512,
    Torn4096,
    /// It was kept, and an earlier one was not.
    Reordered,
    /// Its bytes were not kept, but zeros in their place.
    Grown,
}

use Fault::*;

const FAULTS: [Fault; 13] = [
    StoppedBefore,
    StoppedWithin,
    StoppedAfter,
    FailsEio,
    FailsEnospc,
    ShortEio,
    ShortEnospc,
    Kept,
    Lost,
    Torn512,
    Torn4096,
    Reordered,
    Grown,
];

#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    counts: [[u64; FAULTS.len()]; Operation::ALL.len()],
}

/// What one image has seen.
pub(super) type Notes = Vec<(Operation, Fault)>;

/// A pair that can occur.
fn can_occur(operation: Operation, fault: Fault) -> bool {
    let is_sync = matches!(operation, Operation::Sync | Operation::SyncDirectory);
    let is_written = matches!(operation, Operation::Write | Operation::Store);
    match fault {
        StoppedBefore | StoppedAfter => operation.is_counted(),
        StoppedWithin | Torn512 | Torn4096 | Grown => is_written,
        FailsEio | FailsEnospc => operation != Operation::Store,
        ShortEio | ShortEnospc => operation == Operation::Write,
        Kept | Lost | Reordered => operation.is_counted() && !is_sync,
    }
}

impl Tally {
    pub(super) fn add(&mut self, notes: &[(Operation, Fault)]) {
        for &(operation, fault) in notes {
            self.counts[operation as usize][fault as usize] += 1;
        }
    }

    /// The pairs that can occur and were met less often.
    pub(super) fn below(&self, least: u64) -> Vec<(Operation, Fault, u64)> {
        let pairs = Operation::ALL.into_iter().flat_map(|operation| FAULTS.map(|fault| (operation, fault)));
        pairs
            .filter(|&(operation, fault)| can_occur(operation, fault))
            .map(|(operation, fault)| (operation, fault, self.counts[operation as usize][fault as usize]))
            .filter(|pair| pair.2 < least)
            .collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:16}", "")?;
        FAULTS.iter().try_for_each(|fault| write!(f, "{:>14}", format!("{fault:?}")))?;
        for operation in Operation::ALL {
            write!(f, "\n{:16}", format!("{operation:?}"))?;
            for fault in FAULTS {
                match self.counts[operation as usize][fault as usize] {
                    0 if !can_occur(operation, fault) => write!(f, "{:>14}", "-")?,
                    count => write!(f, "{count:>14}")?,
                }
            }
        }
        Ok(())
    }
}

/// What happened to the operations of a run.
pub(super) fn notes_of_run(disk: &SimStorage, short: bool) -> Notes {
    let stopped = disk.interruption().map(|(operation, how)| match how {
        Interrupted::Before => (operation, StoppedBefore),
        Interrupted::Within => (operation, StoppedWithin),
        Interrupted::After => (operation, StoppedAfter),
    });
    let failed = disk.failures().into_iter().take(1).map(|(operation, errno, _)| match (errno, short) {
        (libc::ENOSPC, true) => (operation, ShortEnospc),
        (libc::ENOSPC, false) => (operation, FailsEnospc),
        (_, true) => (operation, ShortEio),
        (_, false) => (operation, FailsEio),
    });
    stopped.into_iter().chain(failed).collect()
}

/// A power loss with fates of `choose`, and notes of them.
pub(super) fn power_loss(disk: &SimStorage, choose: &mut dyn FnMut(&Change) -> Fate) -> (SimStorage, Notes) {
    let mut notes = Notes::new();
    let mut kept = Vec::new();
    let mut first_lost = u64::MAX;
    let image = disk.crash_with(&mut |change| {
        let fate = choose(change);
        let by = change.by;
        if matches!(change.kind, ChangeKind::Growth { .. }) {
            if fate != Fate::Lost {
                notes.push((by, Grown));
            }
            return fate;
        }
        match fate {
            Fate::Kept => kept.push((change.operation, by)),
            Fate::Lost => first_lost = first_lost.min(change.operation),
            Fate::Torn { unit_bytes: 512, .. } => notes.push((by, Torn512)),
            Fate::Torn { .. } => notes.push((by, Torn4096)),
        }
        if fate == Fate::Lost {
            notes.push((by, Lost));
        }
        fate
    });
    for (operation, by) in kept {
        notes.push((by, Kept));
        if operation > first_lost {
            notes.push((by, Reordered));
        }
    }
    (image, notes)
}

/// A power loss by chance: some seeds lose or keep everything, the others mix.
pub(super) fn random_power_loss(disk: &SimStorage, seed: u64) -> (SimStorage, Notes) {
    let mut random = Random::new(seed);
    let mood = random.below(8);
    let (image, notes) = power_loss(disk, &mut |change| match mood {
        0 => Fate::Lost,
        1 => Fate::Kept,
        mood => random.fate_keeping(mood % 4, change),
    });
    image.reseed(seed ^ 0x5EED);
    (image, notes)
}
