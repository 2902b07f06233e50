//! Cursors that read from the newest event back.

use super::*;

fn backward(store: &Store, region: Region) -> Cursor {
    let options = CursorOptions { direction: Direction::Backward, ..CursorOptions::default() };
    Cursor::open(store, region, &options).unwrap()
}

fn ten(store: &Store) {
    (0..10).for_each(|i| append(store, if i % 2 == 0 { "even" } else { "odd" }));
}

#[test]
fn the_newest_comes_first_and_the_first_last() {
    let store = new_store();
    let nothing = backward(&store, Region::all());
    ten(&store);
    assert_eq!(poll(&nothing, 9), [], "it began before there was an event");
    let cursor = backward(&store, Region::all());
    append(&store, "late");
    assert_eq!(cursor.lag().unwrap(), 10);
    assert_eq!(poll(&cursor, 4), [9, 8, 7, 6]);
    assert_eq!(cursor.lag().unwrap(), 6);
    assert_eq!(drain(&cursor), [5, 4, 3, 2, 1, 0]);
    assert_eq!((poll(&cursor, 1), cursor.lag().unwrap()), (vec![], 0));
    assert_eq!(drain(&backward(&store, Region::all().with_entity("odd"))), [9, 7, 5, 3, 1]);
}

/// Both directions stand between the same two events.
#[test]
fn a_seek_divides_the_log_for_both_directions() {
    let store = new_store();
    ten(&store);
    let (forward, backward) = (plain_cursor(&store), backward(&store, Region::all()));
    for sequence in 0..=10 {
        forward.seek(sequence).unwrap();
        backward.seek(sequence).unwrap();
        let (above, below) = (drain(&forward), drain(&backward));
        assert_eq!(above, (sequence..10).collect::<Vec<_>>());
        assert_eq!(below, (0..sequence).rev().collect::<Vec<_>>());
    }
    assert!(matches!(backward.seek(11), Err(Error::InvalidArgument { .. })));
    backward.seek_end().unwrap();
    assert_eq!(poll(&backward, 1), [9]);
    backward.seek_beginning().unwrap();
    assert_eq!(poll(&backward, 1), []);
}

#[test]
fn a_position_leads_back() {
    let store = new_store();
    ten(&store);
    let cursor = backward(&store, Region::all().with_entity("odd"));
    let fresh = cursor.position().unwrap();
    assert_eq!((fresh.next_sequence, fresh.position, fresh.scanned, fresh.committed), (10, None, 10, None));
    assert_eq!(poll(&cursor, 2), [9, 7]);
    let kept = cursor.position().unwrap();
    assert_eq!((kept.next_sequence, kept.position, kept.committed), (7, Some(7), None));
    assert_eq!(kept.position_id, store.event_id_at(7).unwrap());
    assert_eq!(drain(&cursor), [5, 3, 1]);
    assert_eq!(cursor.position().unwrap().scanned, 0);
    cursor.seek(kept.next_sequence).unwrap();
    assert_eq!(cursor.position().unwrap().position, Some(7));
    assert_eq!(poll(&cursor, 1), [5]);
    cursor.seek_position(kept.next_sequence, kept.position_id).unwrap();
    assert_eq!(drain(&cursor), [5, 3, 1]);
    let other = Some(EventId([7; 16]));
    assert!(matches!(cursor.seek_position(7, other), Err(Error::CheckpointDiverged { position: 7, .. })));
    assert!(matches!(cursor.seek_position(10, other), Err(Error::CheckpointAhead { position: 10, end: 10, .. })));
    assert!(matches!(cursor.seek_position(11, None), Err(Error::CheckpointAhead { position: 11, end: 10, .. })));
    // A position of before the first delivery, in a log that has grown since.
    append(&store, "odd");
    cursor.seek_position(fresh.next_sequence, Some(EventId([0; 16]))).unwrap();
    assert_eq!(poll(&cursor, 1), [9]);
    cursor.rewind().unwrap();
    assert_eq!(drain(&cursor), [9, 7, 5, 3, 1], "where the cursor was opened");
}

#[test]
fn it_never_waits_and_has_no_checkpoint() {
    let store = new_store();
    append(&store, "a");
    let cursor = backward(&store, Region::all());
    assert_eq!(poll(&cursor, 1), [0]);
    for timeout in [PollTimeout::Forever, SOON, PollTimeout::Never] {
        assert!(matches!(cursor.poll(1, 0, timeout), Ok(Polled::Empty)));
    }
    cursor.interrupt().unwrap();
    assert!(matches!(cursor.poll(1, 0, PollTimeout::Never), Ok(Polled::Interrupted)));
    assert!(matches!(cursor.notify_fd(), Err(Error::InvalidArgument { .. })));
    assert!(matches!(cursor.set_wake(Some(Box::new(|| ()))), Err(Error::InvalidArgument { .. })));
    assert!(matches!(cursor.checkpoint(), Err(Error::NoCheckpoint)));
    assert!(matches!(cursor.checkpoint_at(0), Err(Error::NoCheckpoint)));
    let options = CursorOptions { direction: Direction::Backward, ..with_checkpoint("c") };
    assert!(matches!(Cursor::open(&store, Region::all(), &options), Err(Error::InvalidArgument { .. })));
    assert!(checkpoint::list(&store).unwrap().is_empty());
    store.close(Duration::from_secs(9)).unwrap();
    assert!(matches!(cursor.poll(1, 0, PollTimeout::Never), Err(Error::Closed { .. })));
}

#[test]
fn a_time_divides_the_log_like_a_sequence() {
    let now = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let told = now.clone();
    let clock = crate::io::time::WallClock::custom(move || told.load(Ordering::SeqCst));
    let store = Store::open(Path::new(DATA), &StoreOptions { clock, ..options(&SimStorage::new(1)) }).unwrap();
    for time in [1_000, 2_000, 2_000, 3_000] {
        now.store(time, Ordering::SeqCst);
        append(&store, "a");
    }
    let cursor = backward(&store, Region::all());
    let before = |time| {
        cursor.seek_time(time).unwrap();
        drain(&cursor)
    };
    assert_eq!(before(1_000), []);
    assert_eq!(before(1_001), [0]);
    assert_eq!(before(2_000), [0]);
    assert_eq!(before(2_001), [2, 1, 0]);
    assert_eq!(before(9_000), [3, 2, 1, 0]);
}
