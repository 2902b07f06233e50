//! Order, bounds, position, committing and seeking.

use super::*;
use crate::event::KindMatch;

#[test]
fn sequence_zero_is_never_skipped() {
    let store = new_store();
    let cursor = plain_cursor(&store);
    assert_eq!(poll(&cursor, 9), []);
    append(&store, "a");
    assert_eq!(poll(&cursor, 9), [0]);
    assert_eq!(cursor.position().unwrap().position, Some(0));
    assert_eq!(poll(&cursor, 9), []);
}

#[test]
fn events_come_in_order_once_per_pass() {
    let store = new_store();
    (0..10).for_each(|_| append(&store, "a"));
    let cursor = plain_cursor(&store);
    assert_eq!(poll(&cursor, 4), [0, 1, 2, 3]);
    assert_eq!(poll(&cursor, 1), [4]);
    assert_eq!(drain(&cursor), [5, 6, 7, 8, 9]);
    assert_eq!(cursor.lag().unwrap(), 0);
}

#[test]
fn a_batch_is_bounded_by_bytes_but_for_its_first_event() {
    let store = new_store();
    for length in [10, 10, 10, 50, 10] {
        append_payload(&store, "a", &vec![b'x'; length]);
    }
    let cursor = plain_cursor(&store);
    let poll = |bytes| sequences(cursor.poll(100, bytes, PollTimeout::Never).unwrap());
    assert_eq!(poll(25), [0, 1]);
    assert_eq!(poll(25), [2]);
    assert_eq!(poll(25), [3]);
    assert_eq!(poll(0), [4]);
}

#[test]
fn a_poll_for_no_events_is_refused() {
    let cursor = plain_cursor(&new_store());
    assert!(matches!(cursor.poll(0, 0, PollTimeout::Never), Err(Error::InvalidArgument { .. })));
}

#[test]
fn only_matches_move_the_position_and_everything_moves_the_scan() {
    let store = new_store();
    for entity in ["a", "b", "b", "a:x", "b"] {
        append(&store, entity);
    }
    let cursor = Cursor::open(
        &store,
        Region::all().with_entity_prefix("a").with_kind(KindMatch::Any),
        &CursorOptions::default(),
    )
    .unwrap();
    assert_eq!(drain(&cursor), [0, 3]);
    let position = cursor.position().unwrap();
    assert_eq!((position.position, position.next_sequence, position.scanned), (Some(3), 4, 5));
    assert_eq!(position.position_id, store.event_id_at(3).unwrap());
}

#[test]
fn a_checkpoint_resumes_and_what_was_not_checkpointed_comes_again() {
    let store = new_store();
    (0..6).for_each(|_| append(&store, "a"));
    let cursor = durable_cursor(&store, "c");
    assert_eq!(poll(&cursor, 2), [0, 1]);
    cursor.checkpoint().unwrap();
    assert_eq!(poll(&cursor, 2), [2, 3]);
    let position = cursor.position().unwrap();
    assert_eq!((position.position, position.committed), (Some(3), Some(1)));
    drop(cursor);
    let cursor = durable_cursor(&store, "c");
    assert_eq!(cursor.position().unwrap().committed, Some(1));
    assert_eq!(drain(&cursor), [2, 3, 4, 5]);
}

#[test]
fn a_rewind_goes_to_the_checkpoint_or_to_the_beginning() {
    let store = new_store();
    (0..6).for_each(|_| append(&store, "a"));
    let durable = durable_cursor(&store, "c");
    poll(&durable, 2);
    durable.checkpoint().unwrap();
    drain(&durable);
    durable.rewind().unwrap();
    assert_eq!(drain(&durable), [2, 3, 4, 5]);
    let plain = plain_cursor(&store);
    drain(&plain);
    plain.rewind().unwrap();
    assert_eq!(drain(&plain), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn less_than_was_polled_can_be_committed_and_no_more() {
    let store = new_store();
    (0..6).for_each(|_| append(&store, "a"));
    let cursor = durable_cursor(&store, "c");
    assert!(matches!(cursor.checkpoint_at(0), Err(Error::NotDelivered { sequence: 0, .. })));
    poll(&cursor, 4);
    assert!(matches!(cursor.checkpoint_at(4), Err(Error::NotDelivered { sequence: 4, .. })));
    cursor.checkpoint_at(1).unwrap();
    let position = cursor.position().unwrap();
    assert_eq!((position.position, position.committed), (Some(3), Some(1)));
    assert_eq!(poll(&cursor, 9), [4, 5], "the position stays");
    cursor.close().unwrap();
    assert_eq!(drain(&durable_cursor(&store, "c")), [2, 3, 4, 5]);
}

#[test]
fn checkpoints_need_an_id() {
    let store = new_store();
    append(&store, "a");
    let cursor = plain_cursor(&store);
    poll(&cursor, 1);
    assert!(matches!(cursor.checkpoint(), Err(Error::NoCheckpoint)));
    assert!(matches!(cursor.checkpoint_at(0), Err(Error::NoCheckpoint)));
}

#[test]
fn a_seek_goes_anywhere_in_the_visible_log() {
    let store = new_store();
    (0..6).for_each(|_| append(&store, "a"));
    let cursor = plain_cursor(&store);
    cursor.seek(4).unwrap();
    let position = cursor.position().unwrap();
    assert_eq!((position.position, position.next_sequence, position.scanned), (Some(3), 4, 4));
    assert_eq!(drain(&cursor), [4, 5]);
    cursor.seek_beginning().unwrap();
    assert_eq!(cursor.position().unwrap().position, None);
    assert_eq!(poll(&cursor, 1), [0]);
    cursor.seek_end().unwrap();
    assert_eq!(poll(&cursor, 1), []);
    append(&store, "a");
    assert_eq!(poll(&cursor, 1), [6]);
    assert!(matches!(cursor.seek(8), Err(Error::InvalidArgument { .. })));
    assert_eq!(cursor.position().unwrap().next_sequence, 7, "a refused seek moves nothing");
}

#[test]
fn a_seek_by_time_finds_the_first_event_at_or_after_it() {
    let now = Arc::new(std::sync::atomic::AtomicI64::new(1_000));
    let clock = now.clone();
    let disk = SimStorage::new(1);
    let clock = crate::io::time::WallClock::custom(move || clock.load(Ordering::SeqCst));
    let store = Store::open(Path::new(DATA), &StoreOptions { clock, ..options(&disk) }).unwrap();
    for time in [1_000, 2_000, 3_000] {
        now.store(time, Ordering::SeqCst);
        append(&store, "a");
    }
    let cursor = plain_cursor(&store);
    cursor.seek_time(1_001).unwrap();
    assert_eq!(drain(&cursor), [1, 2]);
    cursor.seek_time(0).unwrap();
    assert_eq!(poll(&cursor, 1), [0]);
    cursor.seek_time(9_000).unwrap();
    assert_eq!(poll(&cursor, 1), []);
}

#[test]
fn a_checkpoint_right_after_a_seek_keeps_the_seek() {
    let store = new_store();
    (0..6).for_each(|_| append(&store, "a"));
    let cursor = durable_cursor(&store, "c");
    cursor.seek(4).unwrap();
    cursor.checkpoint().unwrap();
    cursor.close().unwrap();
    let cursor = durable_cursor(&store, "c");
    assert_eq!(cursor.position().unwrap().next_sequence, 4);
    cursor.seek(0).unwrap();
    cursor.checkpoint().unwrap();
    cursor.close().unwrap();
    let cursor = durable_cursor(&store, "c");
    assert_eq!(drain(&cursor), [0, 1, 2, 3, 4, 5]);
}

/// Regressions 21 and 22, for positions that callers keep in their own database.
#[test]
fn a_position_kept_elsewhere_is_held_against_the_log() {
    let store = new_store();
    (0..6).for_each(|_| append(&store, "a"));
    let cursor = plain_cursor(&store);
    poll(&cursor, 3);
    let kept = cursor.position().unwrap();
    cursor.seek_position(0, None).unwrap();
    assert_eq!(poll(&cursor, 1), [0]);
    cursor.seek_position(kept.next_sequence, kept.position_id).unwrap();
    assert_eq!(drain(&cursor), [3, 4, 5]);
    let other = Some(EventId([7; 16]));
    assert!(matches!(cursor.seek_position(3, other), Err(Error::CheckpointDiverged { position: 2, .. })));
    assert!(matches!(
        cursor.seek_position(7, kept.position_id),
        Err(Error::CheckpointAhead { position: 6, end: 6, .. })
    ));
    cursor.seek_position(3, None).unwrap();
    assert_eq!(drain(&cursor), [3, 4, 5]);
}

#[test]
fn a_read_only_store_resumes_but_does_not_checkpoint() {
    let disk = SimStorage::new(1);
    let store = open_store(&disk);
    (0..4).for_each(|_| append(&store, "a"));
    let cursor = durable_cursor(&store, "c");
    poll(&cursor, 2);
    cursor.checkpoint().unwrap();
    store.close(Duration::from_secs(9)).unwrap();
    let before = disk.operations();
    let store = Store::open(Path::new(DATA), &StoreOptions { read_only: true, ..options(&disk) }).unwrap();
    let cursor = durable_cursor(&store, "c");
    assert_eq!(drain(&cursor), [2, 3]);
    assert!(matches!(cursor.checkpoint(), Err(Error::ReadOnly { .. })));
    let fresh = durable_cursor(&store, "never-written");
    assert_eq!(drain(&fresh), [0, 1, 2, 3]);
    cursor.close().unwrap();
    fresh.close().unwrap();
    assert!(matches!(checkpoint::delete(&store, "c"), Err(Error::ReadOnly { .. })));
    assert!(matches!(checkpoint::save(&store, "c", &Region::all(), 0), Err(Error::ReadOnly { .. })));
    drop(store);
    assert_eq!(disk.operations(), before, "nothing was written");
}

/// Rare regions: C8.
#[test]
fn an_idle_consumer_saves_its_scan_when_a_segment_seals_and_at_close() {
    let store = new_store();
    let region = || Region::all().with_entity("rare");
    append(&store, "rare");
    let cursor = Cursor::open(&store, region(), &with_checkpoint("c")).unwrap();
    assert_eq!(poll(&cursor, 9), [0]);
    cursor.checkpoint().unwrap();
    append(&store, "common");
    assert_eq!(poll(&cursor, 9), []);
    assert_eq!(checkpoint::load(&store, "c").unwrap().scanned, 1, "nothing was sealed");
    append_until_sealed(&store, "common");
    let end = store.watermarks().visible;
    assert_eq!(poll(&cursor, 9), []);
    let saved = checkpoint::load(&store, "c").unwrap();
    assert_eq!((saved.position, saved.scanned), (Some(0), end));
    append(&store, "common");
    assert_eq!(poll(&cursor, 9), []);
    assert_eq!(checkpoint::load(&store, "c").unwrap().scanned, end, "once per seal");
    cursor.close().unwrap();
    assert_eq!(checkpoint::load(&store, "c").unwrap().scanned, end + 1);
    let cursor = Cursor::open(&store, region(), &with_checkpoint("c")).unwrap();
    assert_eq!(cursor.position().unwrap().scanned, end + 1);
    append(&store, "common");
    poll(&cursor, 9);
    store.close(Duration::from_secs(9)).unwrap();
    drop(cursor);
}

/// Guards: segments that sealed before the consumer was there, or between its look and its save, were taken for looked after: the
/// checkpoint stayed behind them until the next seal.
#[test]
fn an_idle_consumer_saves_its_scan_of_segments_that_sealed_before() {
    let store = new_store();
    append_until_sealed(&store, "common");
    append_until_sealed(&store, "common");
    let cursor = Cursor::open(&store, Region::all().with_entity("rare"), &with_checkpoint("c")).unwrap();
    assert_eq!(poll(&cursor, 9), []);
    assert_eq!(checkpoint::load(&store, "c").unwrap().scanned, store.watermarks().visible);
}

#[test]
fn a_refresh_never_commits_what_was_only_delivered() {
    let store = new_store();
    append(&store, "rare");
    let region = Region::all().with_entity("rare");
    let cursor = Cursor::open(&store, region.clone(), &with_checkpoint("c")).unwrap();
    assert_eq!(poll(&cursor, 9), [0]);
    append_until_sealed(&store, "common");
    assert_eq!(poll(&cursor, 9), []);
    cursor.close().unwrap();
    assert!(matches!(checkpoint::load(&store, "c"), Err(Error::CheckpointNotFound { .. })));
    let cursor = Cursor::open(&store, region, &with_checkpoint("c")).unwrap();
    assert_eq!(poll(&cursor, 9), [0]);
}

#[test]
fn a_checkpoint_that_is_written_already_is_not_written_again() {
    let disk = SimStorage::new(1);
    let store = open_store(&disk);
    append(&store, "a");
    let cursor = durable_cursor(&store, "c");
    poll(&cursor, 1);
    cursor.checkpoint().unwrap();
    let before = disk.operations();
    cursor.checkpoint().unwrap();
    cursor.checkpoint_at(0).unwrap();
    assert_eq!(disk.operations(), before);
}
