//! What is accepted as a checkpoint, and what is refused.

use super::*;
use crate::event::StoreId;
use crate::format::CheckpointFile;
use crate::io::Storage;

const RECORD: &str = "/data/cursors/c.ckpt";

/// A store of six events with a checkpoint `c` behind event 3, on its disk.
fn store_with_checkpoint() -> (SimStorage, Store) {
    let disk = SimStorage::new(1);
    let store = open_store(&disk);
    (0..6).for_each(|_| append(&store, "a"));
    let cursor = durable_cursor(&store, "c");
    poll(&cursor, 4);
    cursor.checkpoint().unwrap();
    cursor.close().unwrap();
    (disk, store)
}

fn write_record(disk: &SimStorage, bytes: &[u8]) {
    disk.create(Path::new(RECORD)).unwrap().write_at(bytes, 0).unwrap();
}

fn record(disk: &SimStorage) -> CheckpointFile {
    CheckpointFile::decode(&disk.contents(Path::new(RECORD)).unwrap()).unwrap()
}

fn write_changed(disk: &SimStorage, change: impl FnOnce(&mut CheckpointFile)) {
    let mut file = record(disk);
    change(&mut file);
    write_record(disk, &file.encode());
}

fn reopen(store: &Store) -> Result<Cursor> {
    Cursor::open(store, Region::all(), &with_checkpoint("c"))
}

#[test]
fn the_file_says_what_was_committed() {
    let (disk, store) = store_with_checkpoint();
    let file = record(&disk);
    assert_eq!((file.position, file.started, file.scanned), (3, true, Some(4)));
    assert_eq!(file.position_id, store.event_id_at(3).unwrap());
    assert_eq!(file.store_id, Some(store.id()));
    assert_eq!(file.region_identity, Region::all().identity());
    assert_eq!(disk.contents(Path::new("/data/cursors/.c.tmp")), None);
    assert_eq!(drain(&reopen(&store).unwrap()), [4, 5]);
}

#[test]
fn any_damage_is_corrupt_and_never_a_rewind() {
    let (disk, store) = store_with_checkpoint();
    let whole = disk.contents(Path::new(RECORD)).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        damaged.push(flipped);
    }
    damaged.push([&whole[..], b"\0"].concat());
    damaged.push(vec![0xC0; 100_000]);
    for bytes in damaged {
        write_record(&disk, &bytes);
        let Err(error) = reopen(&store) else { panic!("accepted: {bytes:x?}") };
        assert!(matches!(&error, Error::CheckpointCorrupt { path, .. } if path == Path::new(RECORD)), "{error}");
    }
    write_record(&disk, &whole);
    assert_eq!(drain(&reopen(&store).unwrap()), [4, 5]);
}

#[test]
fn another_region_is_refused() {
    let (_disk, store) = store_with_checkpoint();
    let region = Region::all().with_scope("test");
    let Err(error) = Cursor::open(&store, region.clone(), &with_checkpoint("c")) else { panic!("accepted") };
    let Error::CheckpointRegionMismatch { stored, expected, .. } = error else { panic!("{error}") };
    assert_eq!((stored, expected), (Region::all().identity(), region.identity()));
}

#[test]
fn an_absent_region_is_a_mismatch_and_not_corrupt() {
    let (disk, store) = store_with_checkpoint();
    let whole = disk.contents(Path::new(RECORD)).unwrap();
    for absent in [
        &b"\x83\xA8position\x01\xA7started\xC3\xAFprocess_boot_ns\xC0"[..],
        b"\x83\xAFprocess_boot_ns\x07\xA7started\xC2\xA8position\x00",
    ] {
        write_record(&disk, absent);
        let Err(error) = reopen(&store) else { panic!("accepted") };
        let Error::CheckpointRegionMismatch { path, stored, expected } = error else { panic!("{error}") };
        assert_eq!((path.as_path(), stored.as_str()), (Path::new(RECORD), "absent"));
        assert_eq!(expected, Region::all().identity());
        assert_eq!(checkpoint::load(&store, "c").unwrap().region_identity, "");
    }
    write_record(&disk, b"\x82\xA8position\x01\xA7started\xC3");
    assert!(matches!(reopen(&store), Err(Error::CheckpointCorrupt { .. })), "only the region may be absent");
    write_record(&disk, &whole);
    assert_eq!(drain(&reopen(&store).unwrap()), [4, 5]);
}

#[test]
fn another_store_is_refused() {
    let (disk, store) = store_with_checkpoint();
    write_changed(&disk, |file| file.store_id = Some(StoreId([9; 16])));
    assert!(matches!(reopen(&store), Err(Error::CheckpointStoreMismatch { .. })));
}

/// Regression 12: the worker of such a checkpoint idled for ever.
#[test]
fn a_position_beyond_the_log_is_refused() {
    let (disk, store) = store_with_checkpoint();
    write_changed(&disk, |file| (file.position, file.scanned) = (6, Some(7)));
    assert!(matches!(reopen(&store), Err(Error::CheckpointAhead { position: 6, end: 6, .. })));
    write_changed(&disk, |file| (file.position, file.scanned) = (3, Some(7)));
    assert!(matches!(reopen(&store), Err(Error::CheckpointAhead { position: 6, end: 6, .. })));
    write_changed(&disk, |file| (file.position, file.scanned) = (u64::MAX - 1, Some(u64::MAX)));
    assert!(matches!(reopen(&store), Err(Error::CheckpointAhead { .. })));
    write_changed(&disk, |file| (file.position, file.scanned) = (3, Some(6)));
    assert_eq!(drain(&reopen(&store).unwrap()), []);
}

/// Regression 22: a restored copy that went another way.
#[test]
fn another_event_at_the_position_is_refused() {
    let (disk, store) = store_with_checkpoint();
    write_changed(&disk, |file| file.position_id = Some(EventId::derive(1, 3, store.id().tag())));
    assert!(matches!(reopen(&store), Err(Error::CheckpointDiverged { position: 3, .. })));
}

#[test]
fn a_file_of_the_first_four_keys_is_accepted() {
    let (disk, store) = store_with_checkpoint();
    let short = |position, started| {
        let region_identity = Region::all().identity();
        CheckpointFile { position, started, region_identity, position_id: None, store_id: None, scanned: None }.encode()
    };
    write_record(&disk, &short(1, true));
    let cursor = reopen(&store).unwrap();
    let position = cursor.position().unwrap();
    assert_eq!((position.position, position.scanned), (Some(1), 2));
    assert_eq!(position.position_id, store.event_id_at(1).unwrap());
    assert_eq!(drain(&cursor), [2, 3, 4, 5]);
    cursor.close().unwrap();
    write_record(&disk, &short(0, false));
    let cursor = reopen(&store).unwrap();
    assert_eq!(drain(&cursor), [0, 1, 2, 3, 4, 5]);
    cursor.close().unwrap();
    write_record(&disk, &short(6, true));
    assert!(matches!(reopen(&store), Err(Error::CheckpointAhead { position: 6, end: 6, .. })));
    write_record(&disk, &short(u64::MAX, true));
    assert!(matches!(reopen(&store), Err(Error::CheckpointAhead { .. })));
    assert_eq!(checkpoint::load(&store, "c").unwrap().scanned, u64::MAX);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_of_the_system() {
    use crate::io::sim::{Operation, Repeat};
    let (disk, store) = store_with_checkpoint();
    disk.fail(Operation::Read, 0, libc::EIO, Repeat::Once);
    assert!(matches!(reopen(&store), Err(Error::Io { os_errno: libc::EIO, .. })));
    assert_eq!(drain(&reopen(&store).unwrap()), [4, 5], "and the id is free again");
}

/// Regression 14.
#[test]
fn ids_cannot_leave_their_directory() {
    let store = new_store();
    let long = "x".repeat(201);
    for id in ["", ".", "..", "../x", "a/b", ".hidden", "a b", "a\0", "ä", "a\n", &long] {
        let opened = Cursor::open(&store, Region::all(), &with_checkpoint(id));
        assert!(matches!(opened, Err(Error::CheckpointIdInvalid { .. })), "{id:?}");
        assert!(matches!(checkpoint::load(&store, id), Err(Error::CheckpointIdInvalid { .. })), "{id:?}");
        assert!(matches!(checkpoint::delete(&store, id), Err(Error::CheckpointIdInvalid { .. })), "{id:?}");
    }
    for id in ["a", "A.b_c:d-9", "a..b", "-", &long[..200]] {
        Cursor::open(&store, Region::all(), &with_checkpoint(id)).unwrap();
    }
}

/// Regression 14: two workers on one id both delivered everything.
#[test]
fn an_id_has_one_live_consumer() {
    let store = new_store();
    append(&store, "a");
    let cursor = durable_cursor(&store, "c");
    assert!(matches!(reopen(&store), Err(Error::CheckpointInUse { .. })));
    poll(&cursor, 1);
    cursor.checkpoint().unwrap();
    assert!(matches!(checkpoint::delete(&store, "c"), Err(Error::CheckpointInUse { .. })));
    assert!(matches!(checkpoint::save(&store, "c", &Region::all(), 0), Err(Error::CheckpointInUse { .. })));
    durable_cursor(&store, "other");
    cursor.close().unwrap();
    reopen(&store).unwrap();
}

#[test]
fn an_open_that_fails_frees_the_id() {
    let (disk, store) = store_with_checkpoint();
    let whole = disk.contents(Path::new(RECORD)).unwrap();
    write_record(&disk, b"rubbish");
    assert!(matches!(reopen(&store), Err(Error::CheckpointCorrupt { .. })));
    write_record(&disk, &whole);
    reopen(&store).unwrap();
}

#[test]
fn checkpoints_are_saved_listed_loaded_and_deleted_without_a_cursor() {
    let store = new_store();
    assert_eq!(checkpoint::list(&store).unwrap(), [""; 0]);
    (0..4).for_each(|_| append(&store, "a"));
    checkpoint::save(&store, "b", &Region::all(), 2).unwrap();
    checkpoint::save(&store, "a.ckpt", &Region::all(), 0).unwrap();
    assert_eq!(checkpoint::list(&store).unwrap(), ["a.ckpt", "b"]);
    let loaded = checkpoint::load(&store, "b").unwrap();
    assert_eq!((loaded.position, loaded.scanned), (Some(1), 2));
    assert_eq!(loaded.position_id, store.event_id_at(1).unwrap());
    assert_eq!(loaded.store_id, Some(store.id()));
    assert_eq!(checkpoint::load(&store, "a.ckpt").unwrap().position, None);
    let cursor = durable_cursor(&store, "b");
    assert_eq!(drain(&cursor), [2, 3]);
    drop(cursor);
    checkpoint::delete(&store, "b").unwrap();
    assert_eq!(checkpoint::list(&store).unwrap(), ["a.ckpt"]);
    assert!(matches!(checkpoint::load(&store, "b"), Err(Error::CheckpointNotFound { .. })));
    assert!(matches!(checkpoint::delete(&store, "b"), Err(Error::CheckpointNotFound { .. })));
    assert_eq!(drain(&durable_cursor(&store, "b")), [0, 1, 2, 3]);
    assert!(matches!(checkpoint::save(&store, "b", &Region::all(), 5), Err(Error::InvalidArgument { .. })));
}

#[test]
fn a_store_without_consumers_has_no_directory_for_them() {
    let disk = SimStorage::new(1);
    let store = open_store(&disk);
    plain_cursor(&store);
    checkpoint::list(&store).unwrap();
    assert!(matches!(checkpoint::delete(&store, "c"), Err(Error::CheckpointNotFound { .. })));
    assert_eq!(disk.list(Path::new("/data/cursors")).unwrap(), None);
}
