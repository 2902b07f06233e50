//! Defects that must never happen here, each one reproduced: `RELIABILITY` numbers are in the names.

mod power_loss;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::event::Region;
use crate::io::sim::{ChangeKind, Fate, SimStorage};
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

// ---- found here ---------------------------------------------------------------------------------------------------

/// Guards: a poll that begins at a control frame takes the event behind it for damage when that is larger than one read.
#[test]
fn a_large_event_behind_a_mark_is_read() {
    let disk = SimStorage::new(1);
    let store = Store::open(Path::new("/s"), &StoreOptions { segment_bytes: 16 << 20, ..sim(&disk) }).unwrap();
    let large = vec![7; 3 << 20];
    let mut scan = Scan::new(&Region::all());
    let mut at = 0;
    for payload in [&b"small"[..], &large, b"small", &large] {
        store.append(&[event("a", payload)], None, &mut []).unwrap();
        let (batch, next) = scan.next(&store, at, 1, u64::MAX).unwrap();
        assert!(batch.iter().all(|event| event.payload() == payload) && batch.len() == 1);
        at = next;
    }
    let mut scan = Scan::new(&Region::all());
    let lengths: Vec<_> =
        (0..4).map(|at| scan.next(&store, at, 1, u64::MAX).unwrap().0.event(0).payload().len()).collect();
    assert_eq!(lengths, [5, 3 << 20, 5, 3 << 20]);
}

/// A disk whose unsynced segment headers are lost, and nothing else.
fn crash_without_headers(disk: &SimStorage) -> SimStorage {
    disk.crash_with(&mut |change| match change.kind {
        ChangeKind::Write { offset: 0, length: 128 } => Fate::Lost,
        _ => Fate::Kept,
    })
}

/// Guards: an opening that leaves a full segment at once writes its EPOCH frame behind a header that is not durable. The frame
/// without the header was taken for damage, for ever.
#[test]
fn an_epoch_is_not_begun_behind_a_header_that_is_not_durable() {
    let steps = |disk: &SimStorage| {
        let store = Store::open(Path::new("/s"), &sim(disk))?;
        store.append(&[event("a", &vec![1; 1_000_000])], None, &mut [])?;
        store.close(SECOND)?;
        let store = Store::open(Path::new("/s"), &sim(disk))?;
        store.append(&[event("a", &vec![2; 400_000])], Some(Durability::Process), &mut [])?;
        store.close(SECOND)
    };
    let disk = SimStorage::new(1);
    steps(&disk).unwrap();
    for operation in 0..disk.operations() {
        let disk = SimStorage::new(operation);
        disk.crash_at(operation);
        let _ = steps(&disk);
        let crashed = crash_without_headers(&disk);
        Store::open(Path::new("/s"), &sim(&crashed)).unwrap_or_else(|error| panic!("{operation}: {error}"));
    }
}

/// Guards: several segments left before any sync (appends are faster than the helper), and the power fails: a middle one without
/// its header stood between the log and its opening.
#[test]
fn a_lost_header_between_segments_is_a_cut() {
    let disk = SimStorage::new(1);
    let store = Store::open(Path::new("/s"), &StoreOptions { helper_thread: true, ..sim(&disk) }).unwrap();
    store.append(&[event("a", b"kept")], None, &mut []).unwrap();
    // A helper that does nothing stands for one that has not come to it yet.
    store.inner.helper.stop();
    for at in 0..12 {
        store.append(&[event("a", &vec![at; 400_000])], Some(Durability::Process), &mut []).unwrap();
    }
    let headers = |disk: &SimStorage| {
        disk.pending()
            .iter()
            .filter(|change| matches!(change.kind, ChangeKind::Write { offset: 0, length: 128 }))
            .count()
    };
    assert!(headers(&disk) > 3);
    for lost in 0..headers(&disk) {
        let mut header = 0;
        let crashed = disk.crash_with(&mut |change| match change.kind {
            ChangeKind::Write { offset: 0, length: 128 } => {
                header += 1;
                if header == lost + 1 { Fate::Lost } else { Fate::Kept }
            }
            _ => Fate::Kept,
        });
        let opened = Store::open(Path::new("/s"), &sim(&crashed)).unwrap_or_else(|error| panic!("{lost}: {error}"));
        let all = read(&opened, &Region::all());
        assert!(!all.is_empty() && all.len() < 13, "{lost}: {} events", all.len());
        assert!(all.iter().skip(1).enumerate().all(|(at, event)| event.3 == vec![at as u8; 400_000]));
        assert!(opened.stats().cut_bytes > 0);
    }
}

/// Guards: the header of the newest segment rots after an unclean stop; the segment was taken for one that never came to be, and
/// removed with everything that was acknowledged in it.
#[test]
fn a_rotten_header_never_removes_a_segment() {
    for rotations in [0, 1] {
        let disk = SimStorage::new(1);
        let store = Store::open(Path::new("/s"), &sim(&disk)).unwrap();
        for _ in 0..rotations * 3 {
            store.append(&[event("a", &vec![1; 400_000])], None, &mut []).unwrap();
        }
        store.append(&[event("a", b"one")], None, &mut []).unwrap();
        store.append(&[event("a", b"two")], None, &mut []).unwrap();
        store.append(&[event("a", b"three")], None, &mut []).unwrap();
        let newest = store.inner.segments().last().unwrap().data.path().to_owned();
        for offset in 0..128 {
            let rotten = disk.crash_keep_all();
            rotten.flip(&newest, offset, 1);
            let error = match Store::open(Path::new("/s"), &sim(&rotten)) {
                Err(error) => error,
                Ok(store) => {
                    panic!("byte {offset}, {rotations} rotations: {} events left", store.watermarks().appended)
                }
            };
            let named = error.to_string().contains(&newest.display().to_string());
            assert!(named, "byte {offset}: {error}");
        }
    }
}
