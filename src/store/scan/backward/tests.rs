//! Backward is forward from the other end: the same events for every region, in every state of a store, whatever the batches.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::error::Error;
use crate::event::{Kind, KindMatch};
use crate::io::sim::SimStorage;
use crate::store::{Durability, NewEvent, Scan, StoreOptions};

const EVENTS: u64 = 9000;

fn options(disk: &SimStorage) -> StoreOptions {
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

fn payload(i: u64) -> Vec<u8> {
    match i {
        // Larger than what is read at once.
        4000 | 4001 => vec![b'L'; 3 << 20],
        _ => i.to_string().repeat(1 + (i % 5) as usize * 40).into_bytes(),
    }
}

/// Busy entities, some of them in one family, and two events of a rare one; scopes and kinds at other periods; now and then a
/// batch; control frames between them by the durabilities.
fn filled(disk: &SimStorage) -> Store {
    let store = open(disk);
    let mut i = 0;
    while i < EVENTS {
        let count = if i % 11 == 0 { 4.min(EVENTS - i) } else { 1 };
        let entities: Vec<String> = (i..i + count)
            .map(|i| match i {
                5 | 4500 => String::from("rare"),
                _ if i % 3 == 0 => format!("family:{}", i % 5),
                _ => format!("e:{}", i % 7),
            })
            .collect();
        let payloads: Vec<Vec<u8>> = (i..i + count).map(payload).collect();
        let events: Vec<NewEvent<'_>> = (0..count as usize)
            .map(|at| NewEvent {
                entity: entities[at].as_bytes(),
                scope: if (i + at as u64) % 13 == 0 { b"t" } else { b"s" },
                kind: if (i + at as u64) % 17 == 0 { 0x2001 } else { 0x1001 },
                payload: &payloads[at],
                ..NewEvent::default()
            })
            .collect();
        let durability = if i % 3 == 0 { Durability::Storage } else { Durability::Process };
        store.append(&events, Some(durability), &mut []).unwrap();
        i += count;
    }
    assert!(store.stats().segments > 3);
    store
}

fn regions() -> Vec<Region> {
    let all = Region::all;
    vec![
        all(),
        all().with_entity("e:3"),
        all().with_entity("rare"),
        all().with_entity("never"),
        all().with_entity("e:3").with_scope("t"),
        all().with_entity("e:3").with_kind(KindMatch::Exact(Kind(0x2001))),
        all().with_entity("e:3").with_clock(100, 150),
        all().with_entity_prefix("family"),
        all().with_entity_prefix("rare"),
        all().with_entity_prefix("family").with_scope("t"),
        all().with_scope("t"),
        all().with_scope("never"),
        all().with_kind(KindMatch::Category(2)),
        all().with_kind(KindMatch::Any),
        all().with_clock(3, 4),
    ]
}

fn forward(store: &Store, region: &Region) -> Vec<u64> {
    let (mut scan, mut at, mut all) = (Scan::new(region), 0, Vec::new());
    loop {
        let (batch, next) = scan.next(store, at, 500, u64::MAX).unwrap();
        if batch.is_empty() {
            return all;
        }
        all.extend(batch.iter().map(|event| event.sequence()));
        at = next;
    }
}

fn backward(store: &Store, region: &Region, below: u64, events: usize, payload_bytes: u64) -> Vec<u64> {
    let (mut scan, mut at, mut all) = (BackwardScan::new(region), below, Vec::new());
    loop {
        let (batch, next) = scan.next(store, at, events, payload_bytes).unwrap();
        assert!(next <= at && batch.len() <= events);
        let bytes: usize = batch.iter().map(|event| event.payload().len()).sum();
        assert!(batch.len() <= 1 || bytes as u64 <= payload_bytes);
        if batch.is_empty() {
            assert_eq!(next, 0);
            return all;
        }
        for event in &batch {
            assert!(event.sequence() >= next && event.sequence() < at);
            assert_eq!(event.payload(), payload(event.sequence()));
            all.push(event.sequence());
        }
        at = next;
    }
}

fn reversed(mut sequences: Vec<u64>) -> Vec<u64> {
    sequences.reverse();
    sequences
}

fn check(store: &Store) {
    for region in regions() {
        let expected = reversed(forward(store, &region));
        let identity = region.identity();
        assert_eq!(backward(store, &region, EVENTS, 100, u64::MAX), expected, "{identity}");
        assert_eq!(backward(store, &region, EVENTS, usize::MAX, u64::MAX), expected, "{identity}");
        assert_eq!(backward(store, &region, EVENTS, 64, 1000), expected, "{identity}");
    }
}

#[test]
fn backward_is_forward_reversed() {
    let disk = SimStorage::new(1);
    let store = filled(&disk);
    check(&store);
    let killed = disk.crash_keep_all();
    drop(store);
    let read_only = StoreOptions { read_only: true, ..options(&killed) };
    check(&Store::open(Path::new("/s"), &read_only).unwrap());
    let store = open(&killed);
    check(&store);
    store.close(Duration::from_secs(9)).unwrap();
    drop(store);
    check(&open(&killed));
}

#[test]
fn it_begins_anywhere_and_one_at_a_time() {
    let store = filled(&SimStorage::new(1));
    for region in regions() {
        let all = reversed(forward(&store, &region));
        for below in (0..=EVENTS).step_by(1777).chain([1, 4001, 4002, EVENTS - 1]) {
            let expected: Vec<u64> = all.iter().copied().filter(|&sequence| sequence < below).take(40).collect();
            let (mut scan, mut at, mut found) = (BackwardScan::new(&region), below, Vec::new());
            while found.len() < expected.len() {
                let (batch, next) = scan.next(&store, at, 1, u64::MAX).unwrap();
                found.push(batch.event(0).sequence());
                at = next;
            }
            assert_eq!(found, expected, "{} below {below}", region.identity());
        }
    }
}

/// The ordinals of a span outlive the change of its segment's index from memory to the file.
#[test]
fn a_seal_in_the_midst_changes_nothing() {
    let disk = SimStorage::new(1);
    let store = open(&disk);
    let append = |entity: &[u8], payload: &[u8]| {
        let event = NewEvent { entity, scope: b"s", kind: 0x1001, payload, ..NewEvent::default() };
        store.append(&[event], Some(Durability::Process), &mut []).unwrap();
    };
    (0..3000).for_each(|i: u32| append(if i % 2 == 0 { b"even" } else { b"odd" }, b"x"));
    for region in [Region::all(), Region::all().with_entity("even"), Region::all().with_scope("s")] {
        let expected = reversed(forward(&store, &region));
        let below = store.watermarks().visible;
        let mut scan = BackwardScan::new(&region);
        let (batch, mut at) = scan.next(&store, below, 10, u64::MAX).unwrap();
        let mut found: Vec<u64> = batch.iter().map(|event| event.sequence()).collect();
        let seals = store.seals();
        while store.seals() == seals {
            append(b"filler", &[b'x'; 100_000]);
        }
        loop {
            let (batch, next) = scan.next(&store, at, 10, u64::MAX).unwrap();
            if batch.is_empty() {
                break;
            }
            found.extend(batch.iter().map(|event| event.sequence()));
            at = next;
        }
        assert_eq!(found, expected, "{}", region.identity());
    }
}

#[test]
fn what_is_after_the_damage_is_delivered_first() {
    let disk = SimStorage::new(1);
    drop(filled(&disk));
    let disk = disk.crash_keep_all();
    let store = open(&disk);
    let segment = Path::new("/s/segments").join(crate::format::segment::segment_name(0));
    let bytes = disk.contents(&segment).unwrap();
    let wanted = payload(709);
    let offset = bytes.windows(wanted.len()).position(|window| window == wanted).unwrap();
    disk.flip(&segment, offset as u64, 1);
    for region in [Region::all(), Region::all().with_scope("s")] {
        let mut scan = BackwardScan::new(&region);
        let (batch, at) = scan.next(&store, 720, 64, u64::MAX).unwrap();
        assert_eq!(batch.event(batch.len() - 1).sequence(), 710);
        assert_eq!(at, 710);
        for _ in 0..2 {
            assert!(matches!(scan.next(&store, at, 64, u64::MAX), Err(Error::Corrupt { sequence: 709, .. })));
        }
        let (batch, _) = scan.next(&store, 709, 1, u64::MAX).unwrap();
        assert_eq!(batch.event(0).sequence(), 708);
    }
}
