//! What must be true of one store after every kill, from what its victims said before they died.
//!
//! `seen` only grows: an event that was read once is there, the same, for as long as the store is. Events that a life added are
//! held against its intents, in the order in which the log has them; then its acknowledgements are held against the events. Where the
//! log has no event to show, it must say that one was cancelled, and for good.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use batpak::cursor::{Cursor, CursorOptions, PollTimeout, Polled, checkpoint};
use batpak::error::Error;
use batpak::event::{Event, Region};
use batpak::{NewEvent, Receipt, Store};

use crate::victim::{Content, FENCING, KEYING, Name, Random, Record, Told};

/// The consumers, by the number that the victim has for them.
pub const CONSUMERS: [&str; 2] = ["cursor", "worker"];
/// An append of more items fills more than half of a segment.
pub const BIG_ITEMS: u32 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    name: Name,
    id: [u8; 16],
    clock: u64,
    time_us: i64,
    prev_sequence: Option<u64>,
    /// Of entity, scope, kind and payload.
    digest: u64,
}

#[derive(Debug, Clone, Copy)]
struct Intent {
    count: u32,
    bound: u32,
    seed: u64,
    /// Of the life, from 1; 0 for none.
    fence: u32,
}

impl Intent {
    fn content(&self, name: Name) -> Content {
        Content::of(self.seed, self.bound, name)
    }

    fn is_keyed(&self, name: Name) -> bool {
        name.thread == KEYING && self.seed & 1 == 1
    }
}

/// A fence of the life in hand.
#[derive(Debug, Clone, Copy, Default)]
struct Fence {
    announced: u32,
    seen: u32,
    committing: bool,
    committed: bool,
    cancelling: bool,
}

/// Sequences that a consumer was led past.
#[derive(Debug, Clone, Copy)]
struct Stride {
    consumer: usize,
    /// The first due, in the alternative where a checkpoint may say one of two.
    due: (u64, u64),
    first: u64,
    last: u64,
    count: u32,
}

/// A consumer's position as far as it is known: the last that was saved, and the one that was to be saved when the
/// process died. `None` is the beginning.
#[derive(Debug, Clone, Copy, Default)]
struct Consumer {
    saved: Option<u64>,
    saving: Option<u64>,
    /// In this session.
    delivered: Option<u64>,
}

/// What was under way when the victim died.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnderWay {
    pub opening: bool,
    pub closing: bool,
    pub appending: bool,
    /// An append that had to leave its segment.
    pub rotating: bool,
    /// A call of `batpak_cursor_checkpoint`.
    pub saving: bool,
    /// A commit of a fence.
    pub fencing: bool,
    /// A worker between its handler's answer and the next batch.
    pub acknowledging: bool,
}

#[derive(Debug, Default)]
pub struct Oracle {
    pub life: u32,
    pub under_way: UnderWay,
    /// A store was seen to be there.
    pub made: bool,
    pub acknowledged: u64,
    pub lost: u64,
    pub invented: u64,
    /// Everything else that is wrong, and the first of those.
    pub wrong: Vec<String>,
    /// `None`: cancelled.
    seen: Vec<Option<Seen>>,
    fences: HashMap<u32, Fence>,
    strides: Vec<Stride>,
    /// Some of the keyed events of all lives.
    keyed: Vec<(u64, Name, Intent)>,
    pub retried: u64,
    pub cancelled: u64,
    heads: HashMap<String, (u64, u64)>,
    /// Calls of each thread, of the life in hand.
    calls: HashMap<u32, u32>,
    intents: HashMap<(u32, u32), Intent>,
    acks: Vec<(u64, Name, [u8; 16], u64)>,
    consumers: [Consumer; 2],
    in_flight: HashMap<u32, u32>,
    /// Payload bytes that may have come to the segment after the last big append.
    since_big: Option<u64>,
}

impl Oracle {
    fn complain(&mut self, what: String) {
        if self.wrong.len() < 20 {
            self.wrong.push(what);
        }
    }

    fn lose(&mut self, what: String) {
        self.lost += 1;
        self.complain(what);
    }

    fn invent(&mut self, what: String) {
        self.invented += 1;
        self.complain(what);
    }

    // ---- listening -----------------------------------------------------------------------------------------------

    pub fn begin_life(&mut self, life: u32) {
        self.life = life;
        self.under_way = UnderWay::default();
        self.calls.clear();
        self.intents.clear();
        self.acks.clear();
        self.fences.clear();
        self.strides.clear();
        self.in_flight.clear();
        self.since_big = None;
    }

    pub fn hear(&mut self, record: &Record) {
        match record.told {
            Told::Opening => {
                self.under_way.opening = true;
                self.consumers.iter_mut().for_each(|consumer| consumer.delivered = None);
            }
            Told::Opened => (self.under_way.opening, self.made) = (false, true),
            Told::Closing => self.under_way.closing = true,
            Told::Closed => self.under_way.closing = false,
            Told::Intent => self.hear_intent(record),
            Told::Acknowledged => {
                let name = Name { life: self.life, thread: record.thread, call: record.number, item: record.count };
                self.acks.push((record.sequence, name, record.id, record.clock));
            }
            Told::Returned => {
                if self.in_flight.remove(&record.thread).is_some_and(|count| count > BIG_ITEMS) {
                    self.since_big = Some(0);
                }
            }
            Told::Delivered => self.hear_delivered(record),
            Told::Saving => {
                self.consumers[record.number as usize].saving = Some(record.sequence);
                self.under_way.saving |= record.number == 0;
                self.under_way.acknowledging |= record.number == 1;
            }
            Told::Saved => {
                let consumer = &mut self.consumers[record.number as usize];
                consumer.saved = Some(record.sequence);
                self.under_way.saving &= record.number != 0;
                self.under_way.acknowledging &= record.number != 1;
            }
            Told::Committing | Told::Committed | Told::Cancelling => {
                let fence = self.fences.entry(record.number + 1).or_default();
                fence.committing |= record.told == Told::Committing;
                fence.committed |= record.told == Told::Committed;
                fence.cancelling |= record.told == Told::Cancelling;
                self.under_way.fencing = record.told == Told::Committing;
            }
            Told::Child => {}
        }
        let rotates = |count: &u32| *count > BIG_ITEMS && self.is_certain_to_rotate();
        self.under_way.rotating = self.in_flight.values().any(rotates);
        self.under_way.appending = !self.in_flight.is_empty();
    }

    fn hear_intent(&mut self, record: &Record) {
        let fence = record.sequence as u32;
        let intent = Intent { count: record.count, bound: record.bound, seed: record.value, fence };
        if fence > 0 {
            self.fences.entry(fence).or_default().announced += record.count;
        }
        self.intents.insert((record.thread, record.number), intent);
        self.in_flight.insert(record.thread, record.count);
        if record.count <= BIG_ITEMS {
            let bytes = u64::from(record.count) * u64::from(record.bound + 100);
            self.since_big = self.since_big.map(|since| since + bytes);
        }
    }

    /// A big append is in the segment, and too little came after it for another one to have begun.
    pub fn is_certain_to_rotate(&self) -> bool {
        self.since_big.is_some_and(|since| since < 300 << 10)
    }

    /// A consumer goes on right after what it had, and starts where its checkpoint says.
    fn hear_delivered(&mut self, record: &Record) {
        let consumer = &mut self.consumers[record.number as usize];
        let after = |position: Option<u64>| position.map_or(0, |position| position + 1);
        let due = match consumer.delivered {
            Some(last) => (last + 1, last + 1),
            None => (after(consumer.saved), consumer.saving.map_or(after(consumer.saved), |saving| saving + 1)),
        };
        if consumer.delivered.is_none() && due.0 != due.1 && record.sequence >= due.0.max(due.1) {
            // It had saved what it was saving, or what it was given starts with what was cancelled: held against the log later.
            consumer.saved = consumer.saving;
        }
        consumer.saving = None;
        consumer.delivered = Some(record.value);
        let consumer = record.number as usize;
        let (first, last, count) = (record.sequence, record.value, record.count);
        self.strides.push(Stride { consumer, due, first, last, count });
    }

    /// What consumers were led past was cancelled.
    fn check_strides(&mut self) {
        for stride in std::mem::take(&mut self.strides) {
            let events = |from: u64, to: u64| {
                let range = from.min(to) as usize..to as usize;
                self.seen.get(range).map(|seen| seen.iter().flatten().count() as u64)
            };
            let is_next = |due: u64| due <= stride.first && events(due, stride.first) == Some(0);
            let is_whole = events(stride.first, stride.last + 1) == Some(stride.count.into());
            if !(is_next(stride.due.0) || is_next(stride.due.1)) || !is_whole {
                self.complain(format!("{}: {stride:?} is not what was due", CONSUMERS[stride.consumer]));
            }
        }
    }

    // ---- checking ------------------------------------------------------------------------------------------------

    /// Holds the store against everything said.
    pub fn check(&mut self, store: &Store) {
        self.check_log(store);
        self.check_fences();
        self.check_acknowledged();
        self.check_strides();
        for number in 0..CONSUMERS.len() {
            self.check_consumer(store, number);
        }
    }

    fn check_log(&mut self, store: &Store) {
        let mut count = 0;
        let visible = store.watermarks().visible;
        let cancelled: BTreeSet<u64> = match store.cancelled(0, visible) {
            Ok(ranges) => ranges.into_iter().flat_map(|(start, end)| start..end).collect(),
            Err(error) => return self.complain(format!("the cancelled ranges: {error}")),
        };
        // The event before, when it is new, and how many its call has.
        let mut before: Option<(Name, u32)> = None;
        let read_all = read(store, None, |event| {
            count = self.pass_cancelled(&cancelled, count, event.sequence());
            if event.sequence() != count {
                self.complain(format!("event {} stands where {count} is due", event.sequence()));
            }
            if cancelled.contains(&event.sequence()) {
                self.invent(format!("event {} is cancelled and delivered", event.sequence()));
            }
            count = event.sequence() + 1;
            let Some(found) = see(event) else {
                self.invent(format!("event {}: a payload that nobody wrote", event.sequence()));
                return;
            };
            match self.seen.get(event.sequence() as usize) {
                Some(Some(was)) if *was == found => {}
                Some(was) => {
                    let was = *was;
                    self.complain(format!("event {} was {was:?} and is {found:?}", event.sequence()));
                }
                None => self.check_new(event, found, &mut before),
            }
        });
        if let Err(error) = read_all {
            self.complain(format!("after {count} events: {error}"));
        }
        let count = self.pass_cancelled(&cancelled, count, visible);
        if count != visible {
            self.complain(format!("the log ends at {count}, and says {visible}"));
        }
        if let Some((name, of)) = before {
            if name.item + 1 < of {
                self.complain(format!("the log ends with half a batch, {name:?} of {of}"));
            }
        }
        if (count as usize) < self.seen.len() {
            self.lose(format!("the log has {count} events and had {}", self.seen.len()));
        }
    }

    /// Steps over cancelled sequences, at most to `end`.
    fn pass_cancelled(&mut self, cancelled: &BTreeSet<u64>, mut at: u64, end: u64) -> u64 {
        while at < end && cancelled.contains(&at) {
            match self.seen.get(at as usize) {
                Some(None) => {}
                Some(Some(was)) => {
                    let was = *was;
                    self.lose(format!("event {at} was cancelled after it was seen: {was:?}"));
                }
                None => {
                    self.seen.push(None);
                    self.cancelled += 1;
                }
            }
            at += 1;
        }
        at
    }

    /// A committed fence is there whole, one that was being committed whole or not at all, any other not at all.
    fn check_fences(&mut self) {
        let fences: Vec<(u32, Fence)> = self.fences.iter().map(|(number, fence)| (*number, *fence)).collect();
        for (number, fence) in fences {
            let (none, all) = (fence.seen == 0, fence.seen == fence.announced);
            match (fence.committed, fence.committing) {
                (true, _) if !all => self.lose(format!("fence {number} was committed: {fence:?}")),
                (false, true) if !none && !all => self.complain(format!("half of fence {number}: {fence:?}")),
                (false, false) if !none => self.invent(format!("fence {number} was not committed: {fence:?}")),
                _ => {}
            }
        }
    }

    /// Appends again, as somebody who never heard the answer: the answers are the first ones, and nothing is appended.
    pub fn retry_keyed(&mut self, store: &Store, random: &mut Random) {
        let before = store.watermarks().appended;
        for _ in 0..self.keyed.len().min(10) {
            let (sequence, name, intent) = self.keyed[random.below(self.keyed.len() as u64) as usize];
            let (content, key) = (intent.content(name), name.bytes());
            let mut receipts = [Receipt::default()];
            let event = |kind: u16| NewEvent {
                entity: content.entity.as_bytes(),
                scope: content.scope.as_bytes(),
                kind: u32::from(kind),
                payload: &content.payload,
                key: &key,
                ..NewEvent::default()
            };
            match store.append(&[event(content.kind)], None, &mut receipts) {
                Ok(()) => {
                    let [receipt] = receipts;
                    let found = Some((receipt.sequence, receipt.id.0, receipt.clock));
                    let was = self.seen[sequence as usize].map(|was| (sequence, was.id, was.clock));
                    if found != was || !receipt.duplicate {
                        self.invent(format!("{name:?}, tried again: {receipt:?}, not {was:?}"));
                    }
                }
                Err(error) => self.complain(format!("{name:?}, tried again: {error}")),
            }
            let other = store.append(&[event(content.kind ^ 1)], None, &mut receipts);
            if !matches!(&other, Err(error) if is_conflict(error)) {
                self.complain(format!("{name:?}, with another kind: {other:?}"));
            }
            self.retried += 1;
        }
        let after = store.watermarks().appended;
        if after != before {
            self.invent(format!("keyed appends, tried again, have appended {before}..{after}"));
        }
    }

    fn check_new(&mut self, event: Event<'_>, found: Seen, before: &mut Option<(Name, u32)>) {
        let (sequence, name) = (event.sequence(), found.name);
        let last = self.seen.iter().rev().flatten().next().copied();
        self.seen.push(Some(found));
        let intent = self.intents.get(&(name.thread, name.call)).copied();
        let Some(intent) = intent.filter(|intent| name.life == self.life && name.item < intent.count) else {
            self.invent(format!("event {sequence}, {name:?}, was not announced in life {}", self.life));
            return;
        };
        if let Some(fence) = self.fences.get_mut(&intent.fence).filter(|_| intent.fence > 0) {
            fence.seen += 1;
        }
        if intent.is_keyed(name) && self.keyed.len() < 4000 {
            self.keyed.push((sequence, name, intent));
        }
        let content = intent.content(name);
        let is_same = event.payload() == content.payload
            && event.entity() == content.entity
            && event.scope() == content.scope
            && event.kind().0 == content.kind;
        if !is_same {
            self.invent(format!("event {sequence}, {name:?}, has other contents than announced"));
        }
        match *before {
            Some((earlier, of)) if earlier.item + 1 < of => {
                if name != (Name { item: earlier.item + 1, ..earlier }) {
                    self.complain(format!("event {sequence}, {name:?}, stands in the batch of {earlier:?}"));
                }
            }
            _ => {
                let due = *self.calls.get(&name.thread).unwrap_or(&0);
                // Calls under a fence may be cancelled.
                if name.item != 0 || (name.call != due && (name.thread != FENCING || name.call < due)) {
                    self.complain(format!("event {sequence}, {name:?}, stands where call {due} of its thread is due"));
                }
                self.calls.insert(name.thread, name.call + 1);
            }
        }
        *before = Some((name, intent.count));
        let (clock, prev_sequence) = match self.heads.insert(content.entity, (sequence, found.clock)) {
            Some((sequence, clock)) => (clock + 1, Some(sequence)),
            None => (0, None),
        };
        if (found.clock, found.prev_sequence) != (clock, prev_sequence) {
            self.complain(format!("event {sequence}: {found:?}, not clock {clock} after {prev_sequence:?}"));
        }
        if last.is_some_and(|last| last.time_us > found.time_us) {
            self.complain(format!("event {sequence} is earlier than the one before"));
        }
    }

    fn check_acknowledged(&mut self) {
        for (sequence, name, id, clock) in std::mem::take(&mut self.acks) {
            let fence = self.intents.get(&(name.thread, name.call)).map_or(0, |intent| intent.fence);
            if fence > 0 && self.fences.get(&fence).is_none_or(|fence| fence.seen == 0) {
                // Nothing was promised before the commit; that one is held against the log as a whole.
                continue;
            }
            self.acknowledged += 1;
            let found = self.seen.get(sequence as usize).copied().flatten();
            if found.map(|found| (found.name, found.id, found.clock)) != Some((name, id, clock)) {
                self.lose(format!("acknowledged: {name:?} as event {sequence}, clock {clock}; there is {found:?}"));
            }
        }
    }

    /// The checkpoint is one of the two that it can be, and resuming from it skips nothing.
    fn check_consumer(&mut self, store: &Store, number: usize) {
        let (id, known) = (CONSUMERS[number], self.consumers[number]);
        let position = match checkpoint::load(store, id) {
            Ok(checkpoint) => checkpoint.position,
            Err(Error::CheckpointNotFound { .. }) => None,
            Err(error) => return self.complain(format!("{id}: {error}")),
        };
        if position != known.saved && position != known.saving {
            self.complain(format!("{id}: the checkpoint is {position:?}, of {known:?}"));
        }
        if position.is_some_and(|position| position >= self.seen.len() as u64) {
            self.complain(format!("{id}: the checkpoint {position:?} is ahead of {} events", self.seen.len()));
        }
        let mut next = position.map_or(0, |position| position + 1);
        let resumed = read(store, Some(id), |event| {
            while event.sequence() > next && self.seen.get(next as usize) == Some(&None) {
                next += 1;
            }
            if event.sequence() != next {
                self.complain(format!("{id}: resumed at {position:?}, given {} for {next}", event.sequence()));
            }
            next = event.sequence() + 1;
        });
        if let Err(error) = resumed {
            self.complain(format!("{id}: {error}"));
        }
        while self.seen.get(next as usize) == Some(&None) {
            next += 1;
        }
        if next != self.seen.len() as u64 {
            self.complain(format!("{id}: resumed at {position:?}, the last was {next} of {}", self.seen.len()));
        }
        self.consumers[number] = Consumer { saved: position, saving: None, delivered: None };
    }
}

fn is_conflict(error: &Error) -> bool {
    match error {
        Error::BatchItem { source, .. } => is_conflict(source),
        error => matches!(error, Error::IdempotencyConflict { .. }),
    }
}

fn see(event: Event<'_>) -> Option<Seen> {
    let mut hasher = DefaultHasher::new();
    (event.entity(), event.scope(), event.kind().0, event.payload()).hash(&mut hasher);
    Some(Seen {
        name: Name::of_payload(event.payload())?,
        id: event.id().0,
        clock: event.clock(),
        time_us: event.time_us(),
        prev_sequence: event.prev_sequence(),
        digest: hasher.finish(),
    })
}

/// Reads to the end: from the checkpoint of the id, or from the beginning.
fn read(store: &Store, id: Option<&str>, mut each: impl FnMut(Event<'_>)) -> batpak::Result<()> {
    let options = CursorOptions { checkpoint_id: id.map(str::to_owned), ..CursorOptions::default() };
    let cursor = Cursor::open(store, Region::all(), &options)?;
    while let Polled::Batch(batch) = cursor.poll(1000, 0, PollTimeout::Never)? {
        batch.iter().for_each(&mut each);
    }
    cursor.close()
}
