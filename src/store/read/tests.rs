//! Single events and heads of entities, on a simulated disk: several segments, sealed and active, and after reopening.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::error::Error;
use crate::io::Storage;
use crate::io::sim::SimStorage;
use crate::store::{Durability, NewEvent, Receipt, StoreOptions};

const EVENTS: u64 = 6000;

pub(super) fn options(disk: &SimStorage) -> StoreOptions {
    StoreOptions {
        storage: Arc::new(disk.clone()),
        segment_bytes: 1 << 20,
        helper_thread: false,
        ..StoreOptions::default()
    }
}

fn open(disk: &SimStorage) -> Store {
    Store::open(Path::new("/s"), &options(disk)).unwrap()
}

pub(super) fn append(store: &Store, entity: &str, payload: &[u8], durability: Durability) -> Receipt {
    let mut receipts = [Receipt::default()];
    let event = NewEvent { entity: entity.as_bytes(), scope: b"s", kind: 0x1001, payload, ..NewEvent::default() };
    store.append(&[event], Some(durability), &mut receipts).unwrap();
    receipts[0]
}

fn payload(sequence: u64) -> Vec<u8> {
    sequence.to_string().repeat(1 + (sequence % 5) as usize * 40).into_bytes()
}

fn entity(sequence: u64) -> String {
    match sequence {
        0 => String::from("first"),
        _ => format!("e:{}", sequence % 7),
    }
}

/// A store of several segments, and the receipts of its events.
fn filled(disk: &SimStorage) -> (Store, Vec<Receipt>) {
    let store = open(disk);
    let receipts = (0..EVENTS).map(|i| append(&store, &entity(i), &payload(i), Durability::Process)).collect();
    assert!(store.stats().segments > 2);
    (store, receipts)
}

/// What `check` says of a store in every state: as written, after a kill, after a clean close, opened for reading only.
fn in_every_state(check: impl Fn(&Store, &[Receipt])) {
    let disk = SimStorage::new(1);
    let (store, receipts) = filled(&disk);
    check(&store, &receipts);
    let killed = disk.crash_keep_all();
    drop(store);
    let read_only = StoreOptions { read_only: true, ..options(&killed) };
    let store = Store::open(Path::new("/s"), &read_only).unwrap();
    check(&store, &receipts);
    drop(store);
    let store = open(&killed);
    assert_eq!(store.stats().opened_clean, 0);
    check(&store, &receipts);
    store.close(Duration::from_secs(9)).unwrap();
    drop(store);
    let store = open(&killed);
    assert_eq!(store.stats().opened_clean, 1);
    check(&store, &receipts);
    store.close(Duration::from_secs(9)).unwrap();
    drop(store);
    let store = Store::open(Path::new("/s"), &read_only).unwrap();
    check(&store, &receipts);
}

fn only_event(batch: &EventBatch) -> (u64, String, Vec<u8>) {
    assert_eq!(batch.len(), 1);
    let event = batch.event(0);
    (event.sequence(), event.entity().to_owned(), event.payload().to_vec())
}

#[test]
fn every_event_is_found_by_sequence_and_by_id() {
    in_every_state(|store, receipts| {
        for receipt in receipts {
            let expected = (receipt.sequence, entity(receipt.sequence), payload(receipt.sequence));
            assert_eq!(only_event(&store.get(receipt.sequence).unwrap().unwrap()), expected);
            assert_eq!(only_event(&store.get_by_id(receipt.id).unwrap().unwrap()), expected);
        }
        assert_eq!(store.first_sequence().unwrap(), 0);
    });
}

#[test]
fn what_is_not_there_is_none() {
    in_every_state(|store, receipts| {
        for sequence in [EVENTS, EVENTS + 1, u64::MAX - 1, u64::MAX] {
            assert!(store.get(sequence).unwrap().is_none());
        }
        let receipt = receipts[1000];
        let tag = receipt.id.tag();
        let others = [
            EventId([0; 16]),
            EventId([0xFF; 16]),
            EventId::derive(receipt.time_us, receipt.sequence, tag ^ 1),
            EventId::derive(receipt.time_us + 1, receipt.sequence, tag),
            EventId::derive(receipt.time_us, EVENTS, tag),
        ];
        for id in others {
            assert!(store.get_by_id(id).unwrap().is_none(), "{id}");
        }
    });
}

#[test]
fn an_event_has_its_causes_and_ids() {
    let store = open(&SimStorage::new(1));
    let first = append(&store, "a", b"x", Durability::Storage);
    let foreign = EventId::derive(1, 2, store.id().tag() ^ 1);
    let causes = [first.id, foreign];
    let event = NewEvent { entity: b"b", scope: b"s", kind: 0x2002, schema: 7, causes: &causes, ..NewEvent::default() };
    let mut receipts = [Receipt::default()];
    store.append(&[event], None, &mut receipts).unwrap();
    let batch = store.get(1).unwrap().unwrap();
    // The batch owns what it shows.
    drop(store);
    let event = batch.event(0);
    assert_eq!((event.id(), event.correlation_id()), (receipts[0].id, first.id));
    assert_eq!((event.schema(), event.clock(), event.scope()), (7, 0, "s"));
    assert_eq!(event.causes(), causes);
}

#[test]
fn an_event_that_is_not_visible_is_not_found_but_counts_for_its_entity() {
    let disk = SimStorage::new(1);
    let store = open(&disk);
    append(&store, "a", b"x", Durability::Storage);
    disk.fail(crate::io::sim::Operation::Sync, 0, libc::EIO, crate::io::sim::Repeat::Forever);
    let event = NewEvent { entity: b"a", scope: b"s", kind: 0x1001, ..NewEvent::default() };
    assert!(store.append(&[event], Some(Durability::Storage), &mut []).is_err());
    assert_eq!(store.watermarks().visible, 1);
    assert!(store.get(1).unwrap().is_none());
    assert_eq!(store.entity_head(b"a").unwrap(), Some(EntityHead { clock: 1, last_sequence: 1 }));
}

#[test]
fn heads_are_those_of_the_last_event_wherever_it_is() {
    in_every_state(|store, receipts| {
        for name in (0..7).map(|i| format!("e:{i}")).chain(["first".to_owned()]) {
            let last = receipts.iter().rfind(|receipt| entity(receipt.sequence) == name).unwrap();
            let expected = EntityHead { clock: last.clock, last_sequence: last.sequence };
            assert_eq!(store.entity_head(name.as_bytes()).unwrap(), Some(expected), "{name}");
        }
        for absent in ["e", "e:7", "batpak:x"] {
            assert_eq!(store.entity_head(absent.as_bytes()).unwrap(), None);
        }
    });
}

#[test]
fn a_head_moves_with_every_append_and_no_refused_one() {
    let (store, _) = filled(&SimStorage::new(1));
    // The entity's only event is in a sealed segment, neither of the newest two.
    assert_eq!(store.entity_head(b"first").unwrap(), Some(EntityHead { clock: 0, last_sequence: 0 }));
    let refused = NewEvent { entity: b"first", scope: b"*", kind: 0x1001, ..NewEvent::default() };
    assert!(store.append(&[refused], None, &mut []).is_err());
    assert_eq!(store.entity_head(b"first").unwrap(), Some(EntityHead { clock: 0, last_sequence: 0 }));
    append(&store, "first", b"x", Durability::Process);
    assert_eq!(store.entity_head(b"first").unwrap(), Some(EntityHead { clock: 1, last_sequence: EVENTS }));
    let refused = NewEvent { entity: b"never", scope: b"*", kind: 0x1001, ..NewEvent::default() };
    assert!(store.append(&[refused], None, &mut []).is_err());
    assert_eq!(store.entity_head(b"never").unwrap(), None);
}

#[test]
fn an_entity_that_no_event_can_have_is_refused() {
    let store = open(&SimStorage::new(1));
    assert!(matches!(store.entity_head(b""), Err(Error::CoordinateEmpty { .. })));
    assert!(matches!(store.entity_head(b"a/b"), Err(Error::CoordinateCharacter { .. })));
    assert!(matches!(store.entity_head(&[0x80]), Err(Error::CoordinateNotUtf8 { .. })));
}

#[test]
fn a_closed_store_answers_nothing() {
    let store = open(&SimStorage::new(1));
    let receipt = append(&store, "a", b"x", Durability::Storage);
    store.close(Duration::from_secs(9)).unwrap();
    assert!(matches!(store.get(0), Err(Error::Closed { .. })));
    assert!(matches!(store.get_by_id(receipt.id), Err(Error::Closed { .. })));
    assert!(matches!(store.entity_head(b"a"), Err(Error::Closed { .. })));
    assert!(matches!(store.first_sequence(), Err(Error::Closed { .. })));
}

#[test]
fn damage_is_an_error_with_its_place_and_only_where_it_is() {
    let disk = SimStorage::new(1);
    let (store, _) = filled(&disk);
    drop(store);
    let disk = disk.crash_keep_all();
    let store = open(&disk);
    let segment = Path::new("/s/segments").join(crate::format::segment::segment_name(0));
    let offset = {
        let bytes = disk.contents(&segment).unwrap();
        let wanted = payload(704);
        bytes.windows(wanted.len()).position(|window| window == wanted).unwrap() as u64
    };
    disk.flip(&segment, offset, 1);
    match store.get(704) {
        Err(Error::Corrupt { path, sequence, .. }) => assert_eq!((path, sequence), (segment.clone(), 704)),
        other => panic!("{other:?}"),
    }
    assert!(store.get(703).unwrap().is_some() && store.get(705).unwrap().is_some());
    // A damaged index costs a rebuild, when the segment is whole.
    disk.flip(&segment, offset, 1);
    let index = Path::new("/s/segments").join(crate::format::segment::index_name(0));
    store.close(Duration::from_secs(9)).unwrap();
    drop(store);
    let length = disk.contents(&index).unwrap().len() as u64;
    (0..length).step_by(4096).for_each(|page| disk.flip(&index, page + 100, 1));
    let store = open(&disk);
    assert_eq!(store.get(703).unwrap().unwrap().event(0).sequence(), 703);
    assert_eq!(store.entity_head(b"first").unwrap(), Some(EntityHead { clock: 0, last_sequence: 0 }));
    assert!(disk.open_read(&index).unwrap().is_some());
}
