//! Which operations of a simulated disk fail, and when everything stops.

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Opening a file, asking for a length or a path. Not counted.
    Open,
    /// Listing a directory. Not counted.
    List,
    /// Taking a lock. Not counted.
    Lock,
    /// Reading. Not counted.
    Read,
    /// Mapping a file. Not counted.
    Map,
    /// Making a directory.
    CreateDirectory,
    /// Making a file, also a lock file, or emptying one.
    Create,
    /// Renaming.
    Rename,
    /// Removing.
    Remove,
    /// Making directory entries durable.
    SyncDirectory,
    /// Writing.
    Write,
    /// Storing through a mapping. It cannot fail, but it can be where everything stops.
    Store,
    /// Cutting or growing a file.
    SetLength,
    /// Making a file's bytes durable.
    Sync,
}

impl Operation {
    /// Every kind, in the order above.
    pub const ALL: [Operation; 14] = [
        Operation::Open,
        Operation::List,
        Operation::Lock,
        Operation::Read,
        Operation::Map,
        Operation::CreateDirectory,
        Operation::Create,
        Operation::Rename,
        Operation::Remove,
        Operation::SyncDirectory,
        Operation::Write,
        Operation::Store,
        Operation::SetLength,
        Operation::Sync,
    ];

    /// Whether it changes or syncs the disk: only these are numbered.
    pub fn is_counted(self) -> bool {
        use Operation::{List, Lock, Map, Open, Read};
        !matches!(self, Open | List | Lock | Read | Map)
    }
}

/// How long a planned failure lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// One operation fails.
    Once,
    /// Every later one of the kind fails too.
    Forever,
}

/// How much of the operation at which everything stops has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interrupted {
    /// Nothing.
    Before,
    /// A part of a write; like `After` for any other operation.
    Within,
    /// All of it, and nobody was told.
    After,
}

/// What an operation that is about to begin shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Proceed,
    /// Fail, having changed nothing.
    Refuse(i32),
    /// Write this much, then fail.
    Short {
        written: usize,
        errno: i32,
    },
    /// Everything stops in the midst of it.
    Interrupt,
}

#[derive(Debug)]
struct Fault {
    operation: Operation,
    operations_before: u64,
    written: Option<usize>,
    errno: i32,
    repeat: Repeat,
    spent: bool,
}

/// The plan, and the count of operations.
#[derive(Debug, Default)]
pub(super) struct Faults {
    planned: Vec<Fault>,
    operations: u64,
    crash_at: Option<(u64, Option<Interrupted>)>,
    crashed: bool,
    current: Option<Operation>,
    pub(super) interruption: Option<(Operation, Interrupted)>,
    pub(super) counts: [u64; Operation::ALL.len()],
    /// By number.
    pub(super) history: Vec<Operation>,
}

impl Faults {
    pub(super) fn add(&mut self, operation: Operation, nth: u64, written: Option<usize>, errno: i32, repeat: Repeat) {
        self.planned.push(Fault { operation, operations_before: nth, written, errno, repeat, spent: false });
    }

    pub(super) fn heal(&mut self) {
        self.planned.clear();
        self.crash_at = self.crash_at.filter(|_| self.crashed);
    }

    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn crash_at(&mut self, operation: u64) {
        self.crash_at = Some((operation, None));
        self.crashed |= operation < self.operations;
    }

    pub(super) fn crash_within(&mut self, operation: u64, how: Interrupted) {
        self.crash_at(operation);
        self.crash_at = Some((operation, Some(how)));
    }

    /// What [`Faults::crash_within`] asked for.
    pub(super) fn planned_interruption(&self) -> Option<Interrupted> {
        self.crash_at.and_then(|(_, how)| how)
    }

    pub(super) fn note_interruption(&mut self, how: Interrupted) {
        self.interruption = self.current.map(|operation| (operation, how));
    }

    pub(super) fn is_crashed(&self) -> bool {
        self.crashed
    }

    pub(super) fn admit(&mut self, operation: Operation) -> Admission {
        if self.crashed {
            return Admission::Refuse(libc::EIO);
        }
        self.counts[operation as usize] += 1;
        if operation.is_counted() {
            let number = self.operations;
            self.operations += 1;
            self.history.push(operation);
            if self.crash_at.is_some_and(|(planned, _)| planned == number) {
                self.crashed = true;
                self.current = Some(operation);
                return Admission::Interrupt;
            }
        }
        self.planned_failure(operation).unwrap_or(Admission::Proceed)
    }

    fn planned_failure(&mut self, operation: Operation) -> Option<Admission> {
        if operation == Operation::Store {
            return None;
        }
        let mut failure = None;
        for fault in self.planned.iter_mut().filter(|fault| fault.operation == operation && !fault.spent) {
            if fault.operations_before > 0 {
                fault.operations_before -= 1;
            } else if failure.is_none() {
                fault.spent = fault.repeat == Repeat::Once;
                failure = Some(match fault.written {
                    Some(written) => Admission::Short { written, errno: fault.errno },
                    None => Admission::Refuse(fault.errno),
                });
            }
        }
        failure
    }
}
