//! What must be true of a run and of the store that it left, whatever failed: what was acknowledged is there, as it was acknowledged;
//! nothing is there that was not announced; calls and fences are whole; a poisoned store acknowledges nothing more and is read all
//! the same; statuses are documented ones and name the file and the system's error.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use batpak::cursor::{Cursor, CursorOptions, PollTimeout, Polled, checkpoint};
use batpak::error::Error;
use batpak::event::Region;
use batpak::{Store, StoreOptions};

use crate::report::{Ended, Line};
use crate::run::{Fault, Run};

pub const OK: i32 = 0;
pub const EMPTY: i32 = 1;
pub const POISONED: i32 = -46;
pub const NO_MEMORY: i32 = -48;
pub const DISK_FULL: i32 = -67;
pub const IO: i32 = -68;
pub const CHECKPOINT_NOT_FOUND: i32 = -86;
pub const CHECKPOINT_WRITE_FAILED: i32 = -87;

/// An append as told.
#[derive(Debug, Clone, Default)]
struct Call {
    storage: bool,
    count: u32,
    length: u32,
    fence: u32,
    session: u32,
    /// Item, sequence, clock and id of each receipt.
    acks: Vec<(u32, u64, u64, String)>,
    status: Option<i32>,
    /// A segment's sync, or its directory's, had failed in this session before the call began.
    after_failed_sync: bool,
    /// The store had said that it is poisoned before the call began. One that was under way may have been durable before.
    after_poison: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decided {
    /// Not, or by being freed: then it is cancelled.
    Open,
    Committed,
    Cancelled,
    /// A commit failed: whole or not at all.
    Unclear,
}

/// A consumer's position: the last saved, and those that were to be saved since.
#[derive(Debug, Clone, Default)]
struct Saved {
    last: Option<u64>,
    announced: Vec<u64>,
}

#[derive(Default)]
pub struct Oracle {
    calls: BTreeMap<u32, Call>,
    fences: HashMap<u32, Decided>,
    saved: HashMap<String, Saved>,
    /// What the readings of each session brought, with what was acknowledged by then.
    session: u32,
    poisoned: bool,
    sync_failed: bool,
    reading: Vec<(u64, Option<(u32, u32)>)>,
    /// Statuses that were no success.
    pub statuses: Vec<(String, Ended)>,
    pub faults: u64,
    pub acknowledged: u64,
    pub wrong: Vec<String>,
}

/// An event of the store that was left.
struct Found {
    sequence: u64,
    clock: u64,
    id: String,
}

impl Oracle {
    fn complain(&mut self, what: String) {
        if self.wrong.len() < 12 {
            self.wrong.push(what);
        }
    }

    // ---- listening -----------------------------------------------------------------------------------------------

    /// Hears a whole run.
    pub fn of(run: &Run) -> Oracle {
        let mut oracle = Oracle::default();
        if let Some(how) = &run.ended {
            oracle.complain(format!("the victim ended badly: {how}: {}", run.errors.trim()));
        }
        run.lines.iter().for_each(|line| oracle.hear(line));
        let opened = oracle.session > 0;
        if run.ended.is_none() && !(opened && run.lines.contains(&Line::End)) {
            oracle.complain(String::from("the victim did not come to its end"));
        }
        oracle
    }

    fn hear(&mut self, line: &Line) {
        match line {
            Line::Session => {
                self.session += 1;
                (self.poisoned, self.sync_failed) = (false, false);
                // A fence that is open when its session ends is cancelled.
            }
            Line::Intent { call, durability, count, length, fence, .. } => {
                let call_now = Call {
                    storage: *durability == 0,
                    count: *count,
                    length: *length,
                    fence: *fence,
                    session: self.session,
                    after_failed_sync: self.sync_failed,
                    after_poison: self.poisoned,
                    ..Call::default()
                };
                self.calls.insert(*call, call_now);
            }
            Line::Ack { call, item, sequence, clock, id, durability } => {
                self.hear_ack(*call, (*item, *sequence, *clock, id.clone()), *durability);
            }
            Line::Result { call, ended } => self.hear_result(*call, ended),
            Line::FenceBegun { fence } => _ = self.fences.insert(*fence, Decided::Open),
            Line::FenceDecided { fence, commit, ended } => self.hear_decided(*fence, *commit, ended),
            Line::Done { what, ended } => self.hear_done(what, ended),
            Line::Read { first, events } => {
                if *first == 1 {
                    self.reading.clear();
                }
                if *first < 2 {
                    self.reading.extend_from_slice(events);
                }
                for (sequence, _) in events.iter().filter(|(_, name)| name.is_none()) {
                    self.complain(format!("event {sequence} was read with a payload that nobody appended"));
                }
            }
            Line::Saving { id, position } => {
                let saved = self.saved.entry(id.clone()).or_default();
                saved.announced.push(*position);
            }
            Line::Saved { id, position, status: OK } => {
                self.saved.insert(id.clone(), Saved { last: Some(*position), announced: Vec::new() });
            }
            Line::Fault { kind, errno, path, .. } => {
                self.faults += 1;
                let of_log = path.ends_with(".seg") || path.ends_with("/segments");
                self.sync_failed |= kind == "sync" && of_log && *errno != 0 && *errno != libc::EINTR;
            }
            Line::Hang { what } => self.complain(format!("{what} made no progress")),
            Line::Unknown(line) => self.complain(format!("a line that says nothing: {line}")),
            _ => {}
        }
    }

    fn hear_ack(&mut self, number: u32, receipt: (u32, u64, u64, String), durability: u32) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let due = match (call.fence, call.storage) {
            (0, true) => 1,
            (0, false) => 2,
            _ => 0,
        };
        call.acks.push(receipt);
        if durability != due {
            self.complain(format!("call {number}: the receipt says durability {durability}, not {due}"));
        }
    }

    fn hear_status(&mut self, what: String, ended: &Ended) {
        if ended.status == POISONED {
            self.poisoned = true;
        }
        if ended.status != OK && ended.status != EMPTY {
            self.statuses.push((what, ended.clone()));
        }
    }

    fn hear_result(&mut self, number: u32, ended: &Ended) {
        self.hear_status(format!("append {number}"), ended);
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.status = Some(ended.status);
        let (acks, count, late) = (call.acks.len() as u32, call.count, call.storage && call.after_failed_sync);
        let was_poisoned = call.after_poison;
        if ended.status == OK {
            self.acknowledged += 1;
            if acks != count {
                self.complain(format!("call {number} of {count} events was acknowledged with {acks} receipts"));
            }
            if was_poisoned {
                self.complain(format!("call {number} was acknowledged by a store that had said it is poisoned"));
            }
            if late {
                self.complain(format!("call {number} was acknowledged after a failed sync"));
            }
        }
    }

    fn hear_decided(&mut self, fence: u32, commit: bool, ended: &Ended) {
        let was_poisoned = self.poisoned;
        self.hear_status(format!("fence {fence}"), ended);
        let decided = match (commit, ended.status) {
            (true, OK) => Decided::Committed,
            (true, DISK_FULL) => Decided::Open,
            (true, _) => Decided::Unclear,
            (false, OK) if self.fences.get(&fence) != Some(&Decided::Unclear) => Decided::Cancelled,
            (false, _) => return,
        };
        if was_poisoned && decided == Decided::Committed {
            self.complain(format!("fence {fence} was committed by a store that had said it is poisoned"));
        }
        self.fences.insert(fence, decided);
    }

    fn hear_done(&mut self, what: &str, ended: &Ended) {
        self.hear_status(what.to_owned(), ended);
        // Read to the end: everything acknowledged is there, but what an undecided fence hides.
        if what == "read-poll" && ended.status == EMPTY {
            let read: HashSet<(u64, (u32, u32))> =
                self.reading.iter().filter_map(|(sequence, name)| Some((*sequence, (*name)?))).collect();
            let hidden = self.hidden_from();
            let mut missing = Vec::new();
            for (number, call) in self.calls.iter().filter(|(_, call)| call.status == Some(OK)) {
                let shown = call.fence == 0 || self.fences.get(&call.fence) == Some(&Decided::Committed);
                for (item, sequence, ..) in call.acks.iter().filter(|ack| shown && ack.1 < hidden) {
                    if !read.contains(&(*sequence, (*number, *item))) {
                        missing.push(format!(
                            "event {sequence}, {item} of call {number}, was not read (session {})",
                            self.session
                        ));
                    }
                }
            }
            missing.into_iter().for_each(|what| self.complain(what));
        }
    }

    /// Below what sequence no fence of this session hides anything.
    fn hidden_from(&self) -> u64 {
        let unclear = |call: &&Call| {
            call.session == self.session && matches!(self.fences.get(&call.fence), Some(Decided::Unclear))
        };
        self.calls.values().filter(unclear).flat_map(|call| call.acks.iter().map(|ack| ack.1)).min().unwrap_or(u64::MAX)
    }

    // ---- the store that was left ---------------------------------------------------------------------------------

    /// Opens the store with nothing failing, and holds it against what was said; appends to it, and opens it once more.
    pub fn check_store(&mut self, dir: &Path) {
        if !dir.exists() {
            if self.acknowledged > 0 {
                self.complain(String::from("the store's directory is gone"));
            }
            return;
        }
        for round in 0..2 {
            let options = StoreOptions { segment_bytes: 1 << 20, helper_thread: false, ..StoreOptions::default() };
            let store = match Store::open(dir, &options) {
                Ok(store) => store,
                Err(error) => return self.complain(format!("the store does not open (round {round}): {error}")),
            };
            self.check_events(&store);
            if round == 0 {
                self.check_checkpoints(&store);
                let event = batpak::NewEvent {
                    entity: b"after",
                    scope: b"s",
                    kind: 0x1002,
                    payload: b"after",
                    ..Default::default()
                };
                if let Err(error) = store.append(&[event], None, &mut []) {
                    self.complain(format!("the store takes nothing more: {error}"));
                }
            }
            if let Err(error) = store.close(Duration::from_secs(60)) {
                self.complain(format!("the store does not close (round {round}): {error}"));
            }
        }
    }

    fn check_events(&mut self, store: &Store) {
        let mut found: BTreeMap<(u32, u32), Found> = BTreeMap::new();
        let mut wrong = Vec::new();
        let mut last = None;
        let read = read_all(store, |event| {
            let sequence = event.sequence();
            if last.is_some_and(|last| last >= sequence) {
                wrong.push(format!("event {sequence} comes after {last:?}"));
            }
            last = Some(sequence);
            if event.kind().0 == 0x1002 {
                return;
            }
            let Some((name, length)) = name_of(event.payload()) else {
                return wrong.push(format!("event {sequence}: a payload that nobody appended"));
            };
            let id = event.id().0.iter().map(|byte| format!("{byte:02x}")).collect();
            if self.calls.get(&name.0).is_none_or(|call| name.1 >= call.count || length != call.length) {
                wrong.push(format!("event {sequence}: {name:?} was not announced"));
            }
            if found.insert(name, Found { sequence, clock: event.clock(), id }).is_some() {
                wrong.push(format!("event {sequence}: {name:?} is there twice"));
            }
        });
        if let Err(error) = read {
            wrong.push(format!("the store that was left cannot be read: {error}"));
        }
        wrong.into_iter().for_each(|what| self.complain(what));
        self.check_calls(&found);
        self.check_fences(&found);
    }

    fn check_calls(&mut self, found: &BTreeMap<(u32, u32), Found>) {
        let mut wrong = Vec::new();
        for (&number, call) in &self.calls {
            let present = found.range((number, 0)..=(number, u32::MAX)).count() as u32;
            if present != 0 && present != call.count {
                wrong.push(format!("call {number} is there with {present} of {} events", call.count));
            }
            let of_fence = self.fences.get(&call.fence).copied().unwrap_or(Decided::Committed);
            let due = match (call.status, of_fence) {
                (Some(OK), Decided::Committed) => Some(true),
                (_, Decided::Cancelled | Decided::Open) => Some(false),
                // A store that went on after it had refused the call has nothing of it.
                (Some(_), _) if self.goes_on_after(number, call.session) => Some(false),
                _ => None,
            };
            match due {
                Some(true) if present == 0 => wrong.push(format!("call {number} was acknowledged and is lost")),
                Some(false) if present > 0 => {
                    wrong.push(format!("call {number}, {call:?}, is there and should not be"))
                }
                _ => {}
            }
            for (item, sequence, clock, id) in &call.acks {
                let Some(at) = found.get(&(number, *item)) else { continue };
                if (at.sequence, at.clock, &at.id) != (*sequence, *clock, id) {
                    wrong.push(format!("call {number}: acknowledged as {sequence}, clock {clock}, is {}", at.sequence));
                }
            }
        }
        wrong.into_iter().for_each(|what| self.complain(what));
    }

    /// Whether a later call of the same session, by any thread, was acknowledged.
    fn goes_on_after(&self, number: u32, session: u32) -> bool {
        let refused = self.calls.get(&number).is_some_and(|call| call.status != Some(OK));
        // Calls of two threads may have been under way at once.
        refused && self.calls.range(number + 4..).any(|(_, call)| call.session == session && call.status == Some(OK))
    }

    /// A fence's appends are all there or all not.
    fn check_fences(&mut self, found: &BTreeMap<(u32, u32), Found>) {
        let mut wrong = Vec::new();
        for (&fence, decided) in &self.fences {
            let calls = self.calls.iter().filter(|(_, call)| call.fence == fence && call.status == Some(OK));
            let present: Vec<bool> = calls.map(|(&number, _)| found.contains_key(&(number, 0))).collect();
            if present.contains(&true) && present.contains(&false) {
                wrong.push(format!("fence {fence}, {decided:?}, is there in part"));
            }
        }
        wrong.into_iter().for_each(|what| self.complain(what));
    }

    fn check_checkpoints(&mut self, store: &Store) {
        for (id, saved) in self.saved.clone() {
            let position = match checkpoint::load(store, &id) {
                Ok(checkpoint) => checkpoint.position,
                Err(Error::CheckpointNotFound { .. }) => None,
                Err(error) => {
                    self.complain(format!("checkpoint {id}: {error}"));
                    continue;
                }
            };
            let is_known = position == saved.last || position.is_some_and(|at| saved.announced.contains(&at));
            if !is_known {
                self.complain(format!("checkpoint {id} is {position:?}, of {saved:?}"));
            }
        }
    }

    // ---- statuses ------------------------------------------------------------------------------------------------

    /// Every status that was no success is one of these, and an I/O error names a file and the error that was made.
    pub fn check_statuses(&mut self, allowed: &[i32], fault: &Fault, dir: &Path) {
        let place = dir.display().to_string();
        for (what, ended) in self.statuses.clone() {
            if !allowed.contains(&ended.status) {
                self.complain(format!("{what} answered {ended:?}, which is not one of {allowed:?}"));
            }
            if matches!(ended.status, IO | DISK_FULL) && (ended.errno != fault.errno || !ended.path.starts_with(&place))
            {
                self.complain(format!("{what} answered {ended:?}; errno {} below {place} was due", fault.errno));
            }
        }
    }
}

fn read_all(store: &Store, mut each: impl FnMut(batpak::event::Event<'_>)) -> batpak::Result<()> {
    let cursor = Cursor::open(store, Region::all(), &CursorOptions::default())?;
    while let Polled::Batch(batch) = cursor.poll(1000, 0, PollTimeout::Never)? {
        batch.iter().for_each(&mut each);
    }
    cursor.close()
}

/// Call and item of a payload of the victim's, and its length; `None` when it is none, or not as it was.
fn name_of(payload: &[u8]) -> Option<((u32, u32), u32)> {
    let word = |at: usize| Some(u32::from_le_bytes(payload.get(at..at + 4)?.try_into().ok()?));
    let (call, item, length) = (word(8)?, word(12)?, word(16)?);
    if &payload[..8] != b"SHIMMARK" || length as usize != payload.len() {
        return None;
    }
    let mut state = u64::from(call) << 32 | u64::from(item);
    for piece in payload[20..].chunks(8) {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        if piece != &(z ^ z >> 31).to_le_bytes()[..piece.len()] {
            return None;
        }
    }
    Some(((call, item), length))
}
