//! The list of entities against what was appended, in every state of a store, page by page.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::event::prefix_matches;
use crate::io::sim::{Operation, Repeat, SimStorage};
use crate::store::{Durability, NewEvent, StoreOptions};

/// Name, clock, last sequence.
type Row = (String, u64, u64);

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

fn append(store: &Store, entity: &str, payload: &[u8], durability: Durability) {
    let event = NewEvent { entity: entity.as_bytes(), scope: b"s", kind: 0x1001, payload, ..NewEvent::default() };
    store.append(&[event], Some(durability), &mut []).unwrap();
}

/// Names that sort unlike they look, some in one segment only, some in all.
fn name(i: u64) -> String {
    match i % 4 {
        0 => format!("a:{}", i % 50),
        1 => format!("user:{i}"),
        2 => ["a", "a!", "a;", "a::", "A", "ż", "user", "user2", "batpakx", "bat"][i as usize / 4 % 10].to_owned(),
        _ => format!("once-{:05}", i.wrapping_mul(7919) % 100_000),
    }
}

fn filled(disk: &SimStorage) -> (Store, BTreeMap<Vec<u8>, (u64, u64)>) {
    let store = open(disk);
    let mut expected: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
    for i in 0..8000 {
        let name = name(i);
        append(&store, &name, &[b'x'; 400], Durability::Process);
        let clock = expected.get(name.as_bytes()).map_or(0, |head| head.0 + 1);
        expected.insert(name.into_bytes(), (clock, i));
    }
    assert!(store.stats().segments > 3);
    (store, expected)
}

fn pages(store: &Store, prefix: &str, most: usize) -> Vec<Row> {
    let (mut all, mut after) = (Vec::new(), Vec::new());
    loop {
        let page = store.entities(prefix.as_bytes(), &after, most).unwrap();
        assert!(page.len() <= most);
        all.extend(
            page.iter()
                .map(|entity| (String::from_utf8(entity.name.to_vec()).unwrap(), entity.clock, entity.last_sequence)),
        );
        if page.len() < most {
            return all;
        }
        after = page.get(most - 1).unwrap().name.to_vec();
    }
}

fn check(store: &Store, expected: &BTreeMap<Vec<u8>, (u64, u64)>) {
    for prefix in ["", "a", "user", "user:1", "a:", "nobody", "once", "ż", "batpak"] {
        let expected: Vec<Row> = expected
            .iter()
            .map(|(name, &(clock, last))| (String::from_utf8(name.clone()).unwrap(), clock, last))
            .filter(|(name, ..)| prefix.is_empty() || prefix_matches(prefix, name))
            .collect();
        for most in [1000, 7, 100_000] {
            assert_eq!(pages(store, prefix, most), expected, "{prefix:?} by {most}");
        }
    }
}

#[test]
fn every_entity_is_listed_once_with_its_last_event() {
    let disk = SimStorage::new(1);
    let (store, mut expected) = filled(&disk);
    check(&store, &expected);
    // New names in an order that was asked for already.
    for i in 0..300u64 {
        let name = format!("new:{}", i.wrapping_mul(7919) % 1000);
        append(&store, &name, b"x", Durability::Process);
        expected.insert(name.into_bytes(), (0, 8000 + i));
        if i % 100 == 0 {
            check(&store, &expected);
        }
    }
    check(&store, &expected);
    let killed = disk.crash_keep_all();
    drop(store);
    let read_only = StoreOptions { read_only: true, ..options(&killed) };
    check(&Store::open(Path::new("/s"), &read_only).unwrap(), &expected);
    let store = open(&killed);
    check(&store, &expected);
    store.close(Duration::from_secs(9)).unwrap();
    drop(store);
    check(&open(&killed), &expected);
}

#[test]
fn a_page_begins_behind_any_name() {
    let (store, expected) = filled(&SimStorage::new(1));
    for after in ["", "A", "a", "a:", "a:1", "a:49", "b", "user:4001", "user:~", "ż", "żż", "batpak"] {
        for prefix in ["", "a", "user"] {
            let page = store.entities(prefix.as_bytes(), after.as_bytes(), 5).unwrap();
            let found: Vec<&[u8]> = page.iter().map(|entity| entity.name).collect();
            let wanted: Vec<&[u8]> = expected
                .keys()
                .map(Vec::as_slice)
                .filter(|name| prefix.is_empty() || prefix_matches(prefix, std::str::from_utf8(name).unwrap()))
                .filter(|name| *name > after.as_bytes())
                .take(5)
                .collect();
            assert_eq!(found, wanted, "{prefix:?} after {after:?}");
        }
    }
    assert_eq!(store.entities(b"a", &[0xFF], 5).unwrap().len(), 0);
}

#[test]
fn the_librarys_entities_are_those_of_a_prefix_that_names_them() {
    let all = ranges(b"", b"");
    let lists = |ranges: &[NameRange], name: &[u8]| {
        ranges.iter().any(|range| range.from.as_slice() <= name && !range.ends_before(name))
    };
    for name in ["a", "bat", "batpaj", "batpak!", "batpak-x", "batpak;", "batpaka", "z", "\u{10FFFF}"] {
        assert!(lists(&all, name.as_bytes()), "{name}");
    }
    for name in ["batpak", "batpak:", "batpak:x", "batpak:~"] {
        assert!(!lists(&all, name.as_bytes()), "{name}");
        assert!(!lists(&ranges(b"bat", b""), name.as_bytes()), "{name}");
        assert!(lists(&ranges(b"batpak", b""), name.as_bytes()), "{name}");
    }
    assert!(!lists(&ranges(b"batpak", b""), b"batpak2"));
}

#[test]
fn only_visible_events_count() {
    let disk = SimStorage::new(1);
    let store = open(&disk);
    append(&store, "old", b"x", Durability::Storage);
    append(&store, "old", b"x", Durability::Storage);
    disk.fail(Operation::Sync, 0, libc::EIO, Repeat::Forever);
    for entity in ["old", "new"] {
        let event = NewEvent { entity: entity.as_bytes(), scope: b"s", kind: 0x1001, ..NewEvent::default() };
        assert!(store.append(&[event], Some(Durability::Storage), &mut []).is_err());
    }
    assert_eq!(store.watermarks().visible, 2);
    assert_eq!(pages(&store, "", 10), [("old".to_owned(), 1, 1)]);
}

#[test]
fn bad_questions_are_refused() {
    let store = open(&SimStorage::new(1));
    assert_eq!(store.entities(b"", b"", 1).unwrap().len(), 0);
    assert!(matches!(store.entities(b"", b"", 0), Err(Error::InvalidArgument { .. })));
    assert!(matches!(store.entities(b"a/b", b"", 1), Err(Error::CoordinateCharacter { .. })));
    assert!(matches!(store.entities(&[0x80], b"", 1), Err(Error::CoordinateNotUtf8 { .. })));
    store.close(Duration::from_secs(9)).unwrap();
    assert!(matches!(store.entities(b"", b"", 1), Err(Error::Closed { .. })));
}

#[test]
fn names_are_listed_while_others_are_appended() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions { segment_bytes: 1 << 20, ..StoreOptions::default() };
    let store = Store::open(directory.path(), &options).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..30_000u64 {
                append(&store, &format!("e{}", i.wrapping_mul(7919) % 30_011), &[b'x'; 60], Durability::Process);
            }
        });
        let mut listed = 0;
        while listed < 30_000 {
            let before = store.watermarks().visible;
            let rows = pages(&store, "", 500);
            assert!(rows.len() as u64 >= before && rows.is_sorted_by(|one, other| one.0 < other.0));
            assert!(rows.iter().all(|(_, clock, _)| *clock == 0));
            listed = rows.len();
        }
    });
    assert!(store.stats().segments > 2);
}
