//! Importing the events of another store.
//!
//! Each event is appended anew: new sequence, clock, time and id. Its idempotency key is the source store's id and the event's id there, so an
//! import that was cut short, or is repeated, appends what is missing and nothing twice. Causes and correlation ids that name imported events
//! are changed to the new ids; others are kept, as those of another store's events.
//!
//! An event with a cause in the batch being built names it by its place there. That puts causes of the batch last; where this is not their
//! order, and where a correlation id is of the batch and cannot be inherited, the batch is appended first. So what is appended does not
//! depend on where batches begin, and a repetition has the same content.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::event::{EventBatch, EventId, EventView, Region};

use super::append::{NewEvent, Receipt};
use super::options::Durability;
use super::{Scan, Store};

/// How to import.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImportOptions {
    /// The source's first sequence to import (default 0): what an earlier import of all below returned.
    pub from_sequence: u64,
    /// What the events survive on return; `None`: the store's default.
    pub durability: Option<Durability>,
}

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// The source's sequence to go on at once it has more.
    pub next_sequence: u64,
    /// Events appended.
    pub appended: u64,
    /// Events that had been imported before.
    pub duplicates: u64,
}

const BATCH_EVENTS: usize = 1024;
const BATCH_BYTES: u64 = 4 << 20;
/// Events between syncs: bounds what a failure makes one append again.
const SYNC_EVENTS: u64 = 1 << 16;
/// Imported events whose new ids are kept at hand.
const KNOWN_EVENTS: usize = 1 << 16;

/// An imported event: its new id, and its old correlation id.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: EventId,
    correlation: EventId,
}

/// The new ids of the latest events; of older ones the log tells.
#[derive(Debug, Default)]
struct KnownEvents {
    newer: HashMap<u64, Known>,
    older: HashMap<u64, Known>,
}

impl KnownEvents {
    fn insert(&mut self, sequence: u64, known: Known) {
        if self.newer.len() >= KNOWN_EVENTS / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(sequence, known);
    }

    fn get(&self, sequence: u64) -> Option<Known> {
        self.newer.get(&sequence).or_else(|| self.older.get(&sequence)).copied()
    }
}

/// An event as it will be appended.
#[derive(Debug, Default)]
struct Draft {
    key: [u8; 32],
    causes: Vec<EventId>,
    batch_causes: Vec<u32>,
    correlation: Option<EventId>,
}

/// One import under way.
struct Import<'a> {
    store: &'a Store,
    source: &'a Store,
    known: KnownEvents,
    imported: Imported,
}

impl Store {
    /// Appends all visible events of `source`, in its order, that were not imported before. Call it again after a failure, or when the source
    /// has more: what is there is not appended twice, as long as the key window reaches.
    pub fn import(&self, source: &Store, options: &ImportOptions) -> Result<Imported> {
        self.inner.check_writable("import")?;
        source.check_usable()?;
        if source.id() == self.id() {
            return Err(Error::InvalidArgument {
                what: "the store to import from",
                value: String::from("the store itself, or a copy of it"),
                remedy: "give another store",
            });
        }
        let mut import = Import {
            store: self,
            source,
            known: KnownEvents::default(),
            imported: Imported { next_sequence: options.from_sequence, ..Imported::default() },
        };
        let durability = options.durability.unwrap_or(self.inner.options.durability);
        let mut scan = Scan::new(&Region::all());
        let mut unsynced = 0;
        loop {
            let at = import.imported.next_sequence;
            let (batch, next) = scan.next(source, at, BATCH_EVENTS, BATCH_BYTES)?;
            import.imported.next_sequence = next.max(at);
            if batch.is_empty() {
                break;
            }
            import.append(&batch)?;
            unsynced += batch.len() as u64;
            if durability == Durability::Storage && unsynced >= SYNC_EVENTS {
                self.sync()?;
                unsynced = 0;
            }
        }
        if durability == Durability::Storage {
            self.sync()?;
        }
        Ok(import.imported)
    }
}

impl Import<'_> {
    /// Appends the events of a batch of the source, in as few batches as their causes allow.
    fn append(&mut self, batch: &EventBatch) -> Result<()> {
        let mut start = 0;
        let mut drafts: Vec<Draft> = Vec::with_capacity(batch.len());
        for at in 0..batch.len() {
            let draft = match self.draft(batch, start, at)? {
                Some(draft) => draft,
                None => {
                    self.append_drafts(batch, start, &drafts)?;
                    drafts.clear();
                    start = at;
                    // Now nothing is of the batch any more.
                    self.draft(batch, start, at)?.unwrap_or_default()
                }
            };
            drafts.push(draft);
        }
        self.append_drafts(batch, start, &drafts)
    }

    /// What becomes of the event at `at`, in a batch that begins with the one at `start`. `None`: the batch must be appended first.
    fn draft(&mut self, batch: &EventBatch, start: usize, at: usize) -> Result<Option<Draft>> {
        let (event, view) = (batch.event(at), &batch.events()[at]);
        let mut draft = Draft { key: self.key(event.id()), ..Draft::default() };
        for &cause in event.causes() {
            match self.place_in(batch, start, at, cause) {
                Some(place) => draft.batch_causes.push((place - start) as u32),
                None if draft.batch_causes.is_empty() => draft.causes.push(self.new_id(cause)?.unwrap_or(cause)),
                None => return Ok(None),
            }
        }
        let correlation = event.correlation_id();
        draft.correlation = match self.place_in(batch, start, at, correlation) {
            _ if correlation == event.id() => None,
            _ if self.inherits(batch, start, at, view) => None,
            Some(_) => return Ok(None),
            None => Some(self.new_id(correlation)?.unwrap_or(correlation)),
        };
        Ok(Some(draft))
    }

    fn key(&self, id: EventId) -> [u8; 32] {
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.source.id().0);
        key[16..].copy_from_slice(&id.0);
        key
    }

    /// Where in the batch, from `start` on and before `at`, the event with this id is.
    fn place_in(&self, batch: &EventBatch, start: usize, at: usize, id: EventId) -> Option<usize> {
        let views = &batch.events()[start..at];
        let place = views.binary_search_by_key(&id.sequence(), |view| view.sequence).ok()?;
        (views[place].id == id.0).then_some(start + place)
    }

    /// The event's correlation id is that of its first cause, and so will be inherited from that one's new event.
    fn inherits(&self, batch: &EventBatch, start: usize, at: usize, view: &EventView) -> bool {
        let Some(&first) = batch.event(at).causes().first() else { return false };
        let correlation = match self.place_in(batch, start, at, first) {
            Some(place) => Some(EventId(batch.events()[place].correlation_id)),
            None if self.is_sources(first) => self.known.get(first.sequence()).map(|known| known.correlation),
            None => None,
        };
        correlation == Some(EventId(view.correlation_id))
    }

    fn is_sources(&self, id: EventId) -> bool {
        id.is_well_formed() && id.tag() == self.source.id().tag()
    }

    /// The id that an event of the source has here; `None` when it is not here.
    fn new_id(&mut self, id: EventId) -> Result<Option<EventId>> {
        if !self.is_sources(id) {
            return Ok(None);
        }
        if let Some(known) = self.known.get(id.sequence()) {
            return Ok(Some(known.id));
        }
        self.store.inner.id_of_key(&self.key(id))
    }

    fn append_drafts(&mut self, batch: &EventBatch, start: usize, drafts: &[Draft]) -> Result<()> {
        if drafts.is_empty() {
            return Ok(());
        }
        let events: Vec<NewEvent<'_>> = drafts
            .iter()
            .enumerate()
            .map(|(place, draft)| {
                let event = batch.event(start + place);
                NewEvent {
                    entity: event.entity().as_bytes(),
                    scope: event.scope().as_bytes(),
                    kind: event.kind().0.into(),
                    schema: event.schema(),
                    payload: event.payload(),
                    causes: &draft.causes,
                    batch_causes: &draft.batch_causes,
                    correlation: draft.correlation,
                    key: &draft.key,
                    // The tags of the two stores may be the same.
                    unknown_causes_are_foreign: true,
                    ..NewEvent::default()
                }
            })
            .collect();
        let mut receipts = vec![Receipt::default(); events.len()];
        self.store.append(&events, Some(Durability::Process), &mut receipts)?;
        for (place, receipt) in receipts.iter().enumerate() {
            let event = batch.event(start + place);
            self.known.insert(event.sequence(), Known { id: receipt.id, correlation: event.correlation_id() });
            match receipt.duplicate {
                true => self.imported.duplicates += 1,
                false => self.imported.appended += 1,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::io::sim::{Random, SimStorage};
    use crate::store::StoreOptions;

    fn open(disk: &SimStorage, path: &str) -> Store {
        let options = StoreOptions {
            storage: Arc::new(disk.clone()),
            segment_bytes: 1 << 20,
            helper_thread: false,
            ..StoreOptions::default()
        };
        Store::open(Path::new(path), &options).unwrap()
    }

    /// What an event says, with its causes and its correlation as what they are in the log: a sequence, or an id of elsewhere.
    type Seen = (String, String, u16, u16, Vec<u8>, Vec<Result<u64, EventId>>, Result<u64, EventId>);

    fn read(store: &Store) -> Vec<Seen> {
        let named = |id: EventId| match store.get_by_id(id).unwrap() {
            Some(batch) => Ok(batch.event(0).sequence()),
            None => Err(id),
        };
        let mut scan = Scan::new(&Region::all());
        let (mut at, mut all) = (0, Vec::new());
        loop {
            let (batch, next) = scan.next(store, at, 100, u64::MAX).unwrap();
            if batch.is_empty() {
                return all;
            }
            all.extend(batch.iter().map(|event| {
                let causes = event.causes().iter().map(|&cause| named(cause)).collect();
                let payload = event.payload().to_vec();
                let (entity, scope) = (event.entity().to_owned(), event.scope().to_owned());
                (entity, scope, event.kind().0, event.schema(), payload, causes, named(event.correlation_id()))
            }));
            at = next;
        }
    }

    /// Appends events with causes of every kind: near, far, several, foreign, in the batch; correlations own, inherited, given.
    fn grow(store: &Store, events: usize, random: &mut Random) {
        let mut ids: Vec<EventId> = Vec::new();
        for number in 0..events {
            let mut causes = Vec::new();
            for _ in 0..random.below(4) {
                match random.below(5) {
                    0 => causes.push(EventId([random.below(200) as u8 + 1; 16])),
                    1 if !ids.is_empty() => causes.push(ids[random.below(ids.len() as u64) as usize]),
                    _ if !ids.is_empty() => {
                        causes.push(ids[ids.len() - 1 - random.below(ids.len().min(3) as u64) as usize])
                    }
                    _ => {}
                }
            }
            let correlation = match random.below(8) {
                0 if !ids.is_empty() => Some(ids[random.below(ids.len() as u64) as usize]),
                1 => Some(EventId([9; 16])),
                _ => None,
            };
            let entity = format!("e:{}", random.below(20));
            let event = NewEvent {
                entity: entity.as_bytes(),
                scope: [&b"s"[..], b"t"][number % 2],
                kind: 0x1000 + number as u32 % 7,
                schema: number as u16 % 3,
                payload: &vec![number as u8; random.below(900) as usize],
                causes: &causes,
                correlation,
                ..NewEvent::default()
            };
            let follower = NewEvent { causes: &[], batch_causes: &[0], correlation: None, ..event };
            let mut receipts = [Receipt::default(); 2];
            let count = 1 + number % 2;
            store.append(&[event, follower][..count], Some(Durability::Process), &mut receipts).unwrap();
            ids.extend(receipts[..count].iter().map(|receipt| receipt.id));
        }
    }

    #[test]
    fn what_is_imported_says_the_same_and_names_what_was_imported() {
        let disk = SimStorage::new(1);
        let mut random = Random::new(1);
        let (source, store) = (open(&disk, "/source"), open(&disk, "/store"));
        store
            .append(&[NewEvent { entity: b"own", scope: b"s", kind: 0x1001, ..NewEvent::default() }], None, &mut [])
            .unwrap();
        let mut next = 0;
        for round in 0..3 {
            grow(&source, 1500, &mut random);
            let all = source.watermarks().visible;
            let from_sequence = if round == 1 { next } else { 0 };
            let imported = store.import(&source, &ImportOptions { from_sequence, durability: None }).unwrap();
            let duplicates = if round == 1 { 0 } else { next };
            assert_eq!(imported, Imported { next_sequence: all, appended: all - next, duplicates });
            next = all;
        }
        assert_eq!(store.watermarks().durable, next + 1);
        let shift = |named: Result<u64, EventId>| named.map(|sequence| sequence + 1);
        let expected: Vec<Seen> = read(&source)
            .into_iter()
            .map(|mut event| {
                event.5 = event.5.into_iter().map(shift).collect();
                event.6 = shift(event.6);
                event
            })
            .collect();
        let found = read(&store);
        assert_eq!(found.len(), expected.len() + 1);
        for (at, (found, expected)) in found.iter().skip(1).zip(&expected).enumerate() {
            assert_eq!(found, expected, "event {at}");
        }
    }

    /// Guards: an import that a crash cut short was appended twice in part, or refused for other content.
    #[test]
    fn an_import_cut_short_anywhere_is_finished_by_another() {
        let mut random = Random::new(2);
        let source_disk = SimStorage::new(2);
        let source = open(&source_disk, "/source");
        grow(&source, 700, &mut random);
        let all = source.watermarks().visible;
        let mut disk = SimStorage::new(3);
        open(&disk, "/store");
        let mut rounds = 0;
        loop {
            disk.crash_at(disk.operations() + 5 + random.below(12));
            let options = StoreOptions {
                storage: Arc::new(disk.clone()),
                segment_bytes: 1 << 20,
                helper_thread: false,
                ..StoreOptions::default()
            };
            let ended = Store::open(Path::new("/store"), &options)
                .and_then(|store| store.import(&source, &ImportOptions::default()));
            if ended.is_ok() || rounds > 200 {
                break;
            }
            rounds += 1;
            disk = if rounds % 2 == 0 { disk.crash_keep_all() } else { disk.crash(random.next_u64()) };
        }
        assert!(rounds > 3, "{rounds} crashes");
        let store = open(&disk.crash_keep_all(), "/store");
        let again = store.import(&source, &ImportOptions::default()).unwrap();
        assert_eq!((again.appended, again.duplicates), (0, all));
        assert_eq!(read(&store), read(&source));
    }

    #[test]
    fn a_store_is_not_imported_into_itself() {
        let disk = SimStorage::new(1);
        let store = open(&disk, "/store");
        assert!(matches!(store.import(&store, &ImportOptions::default()), Err(Error::InvalidArgument { .. })));
    }
}
