//! The store's own promises, on a real and on a simulated disk. Delivery and the C surface have their tests elsewhere.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::event::{EntityMatch, KindMatch, Region};
use crate::io::sim::SimStorage;
use crate::store::scan::Scan;

const SECOND: Duration = Duration::from_secs(1);

fn sim(disk: &SimStorage) -> StoreOptions {
    StoreOptions {
        storage: Arc::new(disk.clone()),
        segment_bytes: 1 << 20,
        helper_thread: false,
        ..StoreOptions::default()
    }
}

fn event<'a>(entity: &'a str, payload: &'a [u8]) -> NewEvent<'a> {
    NewEvent { entity: entity.as_bytes(), scope: b"s", kind: 0x1001, payload, ..NewEvent::default() }
}

fn append(store: &Store, entity: &str, payload: &[u8], durability: Durability) -> Receipt {
    let mut receipts = [Receipt::default()];
    store.append(&[event(entity, payload)], Some(durability), &mut receipts).unwrap();
    receipts[0]
}

/// Sequence, entity, clock, payload of everything a region delivers.
fn read(store: &Store, region: &Region) -> Vec<(u64, String, u64, Vec<u8>)> {
    let mut scan = Scan::new(region);
    let (mut at, mut all) = (0, Vec::new());
    loop {
        let (batch, next) = scan.next(store, at, 7, u64::MAX).unwrap();
        if batch.is_empty() {
            assert_eq!(next, store.watermarks().visible);
            return all;
        }
        all.extend(batch.iter().map(|e| (e.sequence(), e.entity().to_owned(), e.clock(), e.payload().to_vec())));
        at = next;
    }
}

fn fill(store: &Store, events: u64) {
    for i in 0..events {
        let entity = format!("e:{}", i % 7);
        let payload = i.to_string().repeat(1 + (i % 5) as usize * 40);
        let durability = if i % 3 == 0 { Durability::Storage } else { Durability::Process };
        append(store, &entity, payload.as_bytes(), durability);
    }
}

fn check_filled(store: &Store, events: u64) {
    let all = read(store, &Region::all());
    assert_eq!(all.len() as u64, events);
    for (i, (sequence, entity, clock, payload)) in all.iter().enumerate() {
        let i = i as u64;
        assert_eq!((*sequence, entity.as_str(), *clock), (i, format!("e:{}", i % 7).as_str(), i / 7));
        assert_eq!(payload, i.to_string().repeat(1 + (i % 5) as usize * 40).as_bytes());
    }
    for e in 0..7 {
        let own: Vec<_> = all.iter().filter(|event| event.1 == format!("e:{e}")).cloned().collect();
        assert_eq!(read(store, &Region::all().with_entity(format!("e:{e}"))), own);
    }
    assert_eq!(read(store, &Region::all().with_entity_prefix("e")), all);
    assert_eq!(read(store, &Region::all().with_scope("s").with_kind(KindMatch::Category(1))), all);
    assert_eq!(read(store, &Region::all().with_scope("t")), []);
}

#[test]
fn what_is_appended_is_read_across_segments_and_reopening() {
    for helper_thread in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions { segment_bytes: 1 << 20, helper_thread, ..StoreOptions::default() };
        for round in 1..=3 {
            let store = Store::open(directory.path(), &options).unwrap();
            let before = store.watermarks().appended;
            assert_eq!(before, (round - 1) * 6000);
            assert_eq!(store.stats().opened_clean, 1);
            for i in before..round * 6000 {
                let payload = i.to_string().repeat(1 + (i % 5) as usize * 40);
                append(&store, &format!("e:{}", i % 7), payload.as_bytes(), Durability::Process);
            }
            check_filled(&store, round * 6000);
            store.close(SECOND).unwrap();
        }
        let store = Store::open(directory.path(), &StoreOptions { read_only: true, ..options }).unwrap();
        check_filled(&store, 18000);
        assert!(store.stats().segments > 2);
    }
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let disk = SimStorage::new(1);
    let store = Store::open(Path::new("/s"), &sim(&disk)).unwrap();
    fill(&store, 9000);
    let killed = disk.crash_keep_all();
    drop(store);
    let store = Store::open(Path::new("/s"), &sim(&killed)).unwrap();
    assert_eq!(store.stats().opened_clean, 0);
    check_filled(&store, 9000);
    store.close(SECOND).unwrap();
    let store = Store::open(Path::new("/s"), &sim(&killed)).unwrap();
    check_filled(&store, 9000);
}

#[test]
fn power_loss_keeps_a_prefix_with_every_storage_event() {
    for seed in 0..40 {
        let disk = SimStorage::new(seed);
        let store = Store::open(Path::new("/s"), &sim(&disk)).unwrap();
        let events = 1000 + seed * 211;
        fill(&store, events);
        let durable = store.watermarks().durable;
        let crashed = disk.crash(seed);
        let store = Store::open(Path::new("/s"), &sim(&crashed)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let kept = store.watermarks().appended;
        assert!(kept >= durable && kept <= events, "seed {seed}: {durable} durable, {kept} kept");
        check_filled(&store, kept);
        let again = crashed.crash(seed + 1000);
        let store = Store::open(Path::new("/s"), &sim(&again)).unwrap();
        assert_eq!(store.watermarks().appended, kept, "seed {seed}: recovery itself was not durable");
        append(&store, "e:x", b"after", Durability::Storage);
        let again = again.crash(seed + 2000);
        let store = Store::open(Path::new("/s"), &sim(&again)).unwrap();
        assert_eq!(store.watermarks().appended, kept + 1);
    }
}

#[test]
fn a_batch_is_all_or_nothing_and_larger_than_a_segment_if_it_must() {
    let disk = SimStorage::new(3);
    let store = Store::open(Path::new("/s"), &sim(&disk)).unwrap();
    append(&store, "a", b"1", Durability::Storage);
    let payload = vec![7; 3000];
    let batch: Vec<_> = (0..1000).map(|_| event("big", &payload)).collect();
    let mut receipts = vec![Receipt::default(); 1000];
    store.append(&batch, None, &mut receipts).unwrap();
    assert_eq!((receipts[0].sequence, receipts[999].sequence, receipts[999].clock), (1, 1000, 999));
    append(&store, "a", b"2", Durability::Storage);
    assert_eq!(store.stats().segments, 3);
    let bad = [event("a", b"3"), event("a/b", b"4")];
    let error = store.append(&bad, None, &mut []).unwrap_err();
    assert!(matches!(error, Error::BatchItem { index: 1, .. }), "{error}");
    assert_eq!(append(&store, "a", b"3", Durability::Process).sequence, 1002);
    let big = Region { entity: EntityMatch::Exact(String::from("big")), ..Region::all() };
    assert_eq!(read(&store, &big).len(), 1000);
    let killed = disk.crash_keep_all();
    let store = Store::open(Path::new("/s"), &sim(&killed)).unwrap();
    assert_eq!(read(&store, &big).len(), 1000);
    assert_eq!(read(&store, &Region::all()).len(), 1003);
}

#[test]
fn causes_and_correlation() {
    let disk = SimStorage::new(4);
    let store = Store::open(Path::new("/s"), &sim(&disk)).unwrap();
    let root = append(&store, "a", b"root", Durability::Storage);
    let mut receipts = [Receipt::default(); 3];
    let causes = [root.id];
    let foreign = [EventId([0xAB; 16])];
    let items = [
        NewEvent { causes: &causes, ..event("b", b"child") },
        NewEvent { batch_causes: &[0], ..event("c", b"grandchild") },
        NewEvent { causes: &foreign, ..event("d", b"stranger") },
    ];
    store.append(&items, None, &mut receipts).unwrap();
    assert_eq!(receipts.map(|r| r.correlation_id), [root.id, root.id, receipts[2].id]);
    let mut scan = Scan::new(&Region::all());
    let (batch, _) = scan.next(&store, 0, 10, u64::MAX).unwrap();
    let causes: Vec<_> = batch.iter().map(|e| e.causes().to_vec()).collect();
    assert_eq!(causes, [vec![], vec![root.id], vec![receipts[0].id], foreign.to_vec()]);
    let correlations: Vec<_> = batch.iter().map(|e| e.correlation_id()).collect();
    assert_eq!(correlations, [root.id, root.id, root.id, receipts[2].id]);
    let unknown = [EventId::derive(root.time_us + 1, 0, store.id().tag())];
    let error = store.append(&[NewEvent { causes: &unknown, ..event("e", b"") }], None, &mut []).unwrap_err();
    assert!(matches!(error, Error::CauseUnknown { .. }), "{error}");
}

#[test]
fn a_failed_sync_poisons_and_reopening_keeps_what_was_acknowledged() {
    use crate::io::sim::{Operation, Repeat};
    let disk = SimStorage::new(5);
    let store = Store::open(Path::new("/s"), &sim(&disk)).unwrap();
    append(&store, "a", b"kept", Durability::Storage);
    disk.fail(Operation::Sync, 0, libc::EIO, Repeat::Once);
    let failed = store.append(&[event("a", b"lost")], None, &mut []).unwrap_err();
    assert!(matches!(failed, Error::Io { .. }), "{failed}");
    let refused = store.append(&[event("a", b"refused")], None, &mut []).unwrap_err();
    assert!(matches!(refused, Error::Poisoned { .. }), "{refused}");
    assert_eq!(read(&store, &Region::all()).len(), 1);
    assert!(store.close(SECOND).is_err());
    let crashed = disk.crash(9);
    let store = Store::open(Path::new("/s"), &sim(&crashed)).unwrap();
    assert_eq!(read(&store, &Region::all())[0].3, b"kept");
}

/// Guards: a kill inside the saving of a checkpoint leaves `.{id}.tmp` behind for good, where docs/FORMAT.md has every such
/// file removed at the next opening for writing.
#[test]
fn what_was_being_made_is_removed_at_the_next_opening_for_writing() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions::default();
    Store::open(directory.path(), &options).unwrap().close(SECOND).unwrap();
    std::fs::create_dir_all(directory.path().join("cursors")).unwrap();
    let half_made = ["cursors/.c.tmp", "segments/next.seg.tmp"].map(|name| directory.path().join(name));
    let kept = ["cursors/c.ckpt", "cursors/.c.tmp.lock"].map(|name| directory.path().join(name));
    half_made.iter().chain(&kept).for_each(|path| std::fs::write(path, b"half").unwrap());

    let read_only = StoreOptions { read_only: true, ..StoreOptions::default() };
    drop(Store::open(directory.path(), &read_only).unwrap());
    assert!(half_made.iter().all(|path| path.exists()), "a read-only opening changes nothing");
    drop(Store::open(directory.path(), &options).unwrap());
    assert!(!half_made.iter().any(|path| path.exists()));
    assert!(kept.iter().all(|path| path.exists()));
}
