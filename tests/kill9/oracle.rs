//! What must be true of one store after every kill, from what its victims said before they died.
//!
//! `seen` only grows: an event that was read once is there, the same, for as long as the store is. Events that a life added are
//! held against its intents, in the order in which the log has them; then its acknowledgements are held against the events.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use batpak::Store;
use batpak::cursor::{Cursor, CursorOptions, PollTimeout, Polled, checkpoint};
use batpak::error::Error;
use batpak::event::{Event, Region};

use crate::victim::{Content, Name, Record, Told};

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
    seen: Vec<Seen>,
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
            }
            Told::Saved => {
                let consumer = &mut self.consumers[record.number as usize];
                consumer.saved = Some(record.sequence);
                self.under_way.saving &= record.number != 0;
            }
            Told::Child => {}
        }
        let rotates = |count: &u32| *count > BIG_ITEMS && self.is_certain_to_rotate();
        self.under_way.rotating = self.in_flight.values().any(rotates);
        self.under_way.appending = !self.in_flight.is_empty();
    }

    fn hear_intent(&mut self, record: &Record) {
        let intent = Intent { count: record.count, bound: record.bound, seed: record.value };
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
        let before = record.sequence.checked_sub(1);
        let is_next = match consumer.delivered {
            Some(last) => before == Some(last),
            None => before == consumer.saved || before == consumer.saving,
        };
        let had = *consumer;
        if consumer.delivered.is_none() {
            (consumer.saved, consumer.saving) = (before, None);
        }
        consumer.delivered = Some(record.sequence + u64::from(record.count) - 1);
        if !is_next {
            let id = CONSUMERS[record.number as usize];
            self.complain(format!("{id} was given {} after {had:?}", record.sequence));
        }
    }

    // ---- checking ------------------------------------------------------------------------------------------------

    /// Holds the store against everything said.
    pub fn check(&mut self, store: &Store) {
        self.check_log(store);
        self.check_acknowledged();
        for number in 0..CONSUMERS.len() {
            self.check_consumer(store, number);
        }
    }

    fn check_log(&mut self, store: &Store) {
        let mut count = 0;
        // The event before, when it is new, and how many its call has.
        let mut before: Option<(Name, u32)> = None;
        let read_all = read(store, None, |event| {
            if event.sequence() != count {
                self.complain(format!("event {} stands where {count} is due", event.sequence()));
            }
            count += 1;
            let Some(found) = see(event) else {
                self.invent(format!("event {}: a payload that nobody wrote", event.sequence()));
                return;
            };
            match self.seen.get(event.sequence() as usize) {
                Some(was) if *was == found => {}
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
        if let Some((name, of)) = before {
            if name.item + 1 < of {
                self.complain(format!("the log ends with half a batch, {name:?} of {of}"));
            }
        }
        if (count as usize) < self.seen.len() {
            self.lose(format!("the log has {count} events and had {}", self.seen.len()));
        }
    }

    fn check_new(&mut self, event: Event<'_>, found: Seen, before: &mut Option<(Name, u32)>) {
        let (sequence, name) = (event.sequence(), found.name);
        let last = self.seen.last().copied();
        self.seen.push(found);
        let intent = self.intents.get(&(name.thread, name.call)).copied();
        let Some(intent) = intent.filter(|intent| name.life == self.life && name.item < intent.count) else {
            self.invent(format!("event {sequence}, {name:?}, was not announced in life {}", self.life));
            return;
        };
        let content = Content::of(intent.seed, intent.bound, name);
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
                if name.item != 0 || name.call != due {
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
            self.acknowledged += 1;
            let found = self.seen.get(sequence as usize).copied();
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
            if event.sequence() != next {
                self.complain(format!("{id}: resumed at {position:?}, given {} for {next}", event.sequence()));
            }
            next = event.sequence() + 1;
        });
        if let Err(error) = resumed {
            self.complain(format!("{id}: {error}"));
        }
        if next != self.seen.len() as u64 {
            self.complain(format!("{id}: resumed at {position:?}, the last was {next} of {}", self.seen.len()));
        }
        self.consumers[number] = Consumer { saved: position, saving: None, delivered: None };
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
    let options = CursorOptions { checkpoint_id: id.map(str::to_owned) };
    let cursor = Cursor::open(store, Region::all(), &options)?;
    while let Polled::Batch(batch) = cursor.poll(1000, 0, PollTimeout::Never)? {
        batch.iter().for_each(&mut each);
    }
    cursor.close()
}
