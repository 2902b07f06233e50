//! Gaps of cursors and workers, over ranges that are cancelled behind the store's back. The rule itself is tested in `gap`.

use super::*;
use crate::cursor::gap::GapList;

type Seen = Vec<(u64, u64, Vec<(u64, u64)>)>;

fn seen(list: &GapList) -> Seen {
    let ranges = |gap: &Gap| gap.cancelled.iter().map(|range| (range.start, range.end)).collect();
    list.gaps.iter().map(|gap| (gap.expected_sequence, gap.delivered_sequence, ranges(gap))).collect()
}

fn take(cursor: &Cursor) -> Seen {
    let list = cursor.take_gaps().unwrap();
    assert_eq!(list.dropped, 0);
    seen(&list)
}

/// One event of entity `a`, `b` or `c` per character.
fn append_all(store: &Store, entities: &str) {
    entities.chars().for_each(|entity| append(store, &entity.to_string()));
}

fn reader(store: &Store, checkpoint_id: Option<&str>, gap_capacity: usize) -> Cursor {
    let options = CursorOptions { checkpoint_id: checkpoint_id.map(str::to_owned), gap_capacity };
    Cursor::open(store, Region::all().with_entity("a"), &options).unwrap()
}

#[test]
fn g1_gaps_are_off_by_default() {
    let store = new_store();
    append_all(&store, "bba");
    store.cancel(None, &[(0, 2)]);
    let cursor = Cursor::open(&store, Region::all().with_entity("a"), &CursorOptions::default()).unwrap();
    assert_eq!(poll(&cursor, 9), [2]);
    assert_eq!(cursor.take_gaps().unwrap(), GapList::default());
}

#[test]
fn g1_the_oldest_is_dropped_when_full_and_drops_are_counted() {
    let store = new_store();
    append_all(&store, "babababa");
    store.cancel(None, &[(0, 1), (2, 3), (4, 5), (6, 7)]);
    let cursor = reader(&store, None, 2);
    assert_eq!(poll(&cursor, 3), [1, 3, 5]);
    assert_eq!(poll(&cursor, 3), [7]);
    let list = cursor.take_gaps().unwrap();
    assert_eq!((seen(&list), list.dropped), (vec![(4, 5, vec![(4, 5)]), (6, 7, vec![(6, 7)])], 2));
    assert_eq!(cursor.take_gaps().unwrap(), GapList::default(), "G3: taking drains");
}

#[test]
fn g2_a_gap_is_where_a_cancelled_range_was_skipped() {
    // 0 1 2 3 4 5 6 7 8 9: two of b are cancelled (2, 3), and one of c (7).
    let store = new_store();
    append_all(&store, "cabbacacca");
    store.cancel(None, &[(2, 4), (7, 8)]);
    for batch in 1..=4 {
        let cursor = reader(&store, None, 9);
        while !poll(&cursor, batch).is_empty() {}
        // Between 4 and 6 c does not match, which is no gap; nor is it at the start.
        assert_eq!(take(&cursor), [(2, 4, vec![(2, 4)]), (7, 9, vec![(7, 8)])], "in batches of {batch}");
    }
}

#[test]
fn g2_expected_is_zero_when_not_started_and_else_the_position_plus_one() {
    let store = new_store();
    append_all(&store, "bbabba");
    store.cancel(None, &[(0, 2), (3, 5)]);
    let cursor = reader(&store, None, 9);
    assert_eq!(poll(&cursor, 1), [2]);
    assert_eq!(take(&cursor), [(0, 2, vec![(0, 2)])]);
    assert_eq!(poll(&cursor, 1), [5]);
    assert_eq!(take(&cursor), [(3, 5, vec![(3, 5)])]);
    // A seek into the midst of a range clips it.
    cursor.seek(4).unwrap();
    assert_eq!(poll(&cursor, 1), [5]);
    assert_eq!(take(&cursor), [(4, 5, vec![(4, 5)])]);
}

#[test]
fn g2_a_trailing_range_is_observed_with_the_next_match() {
    let store = new_store();
    append_all(&store, "abb");
    store.cancel(None, &[(1, 3)]);
    let cursor = reader(&store, None, 9);
    assert_eq!(drain(&cursor), [0]);
    assert_eq!(cursor.position().unwrap().scanned, 3);
    assert_eq!(take(&cursor), []);
    append_all(&store, "cca");
    assert_eq!(drain(&cursor), [5]);
    assert_eq!(take(&cursor), [(1, 5, vec![(1, 3)])]);
}

#[test]
fn g2_a_rewind_and_a_restart_present_gaps_again() {
    let disk = SimStorage::new(1);
    let store = open_store(&disk);
    append_all(&store, "abaa");
    store.cancel(None, &[(1, 2)]);
    let expected = [(1, 2, vec![(1, 2)])];
    let cursor = reader(&store, Some("r"), 9);
    assert_eq!(poll(&cursor, 1), [0]);
    cursor.checkpoint().unwrap();
    assert_eq!(poll(&cursor, 1), [2]);
    assert_eq!(take(&cursor), expected);
    cursor.rewind().unwrap();
    assert_eq!(drain(&cursor), [2, 3]);
    assert_eq!(take(&cursor), expected);
    drop(cursor);
    let cursor = reader(&store, Some("r"), 9);
    assert_eq!(drain(&cursor), [2, 3]);
    assert_eq!(take(&cursor), expected);
    cursor.checkpoint().unwrap();
    drop(cursor);
    assert_eq!(drain(&reader(&store, Some("r"), 9)), []);
}

/// In memory and sealed, and over the border between segments, where one range is stored as two.
#[test]
fn g2_gaps_are_the_same_in_every_segment() {
    let disk = SimStorage::new(1);
    let store = open_store(&disk);
    append_all(&store, "ab");
    store.cancel(Some("b"), &[(1, 2)]);
    append(&store, "a");
    let big = vec![b'x'; 100_000];
    let mut sequence = 3;
    while store.seals() < 2 {
        append_payload(&store, "b", &big);
        store.cancel(Some("b"), &[(sequence, sequence + 1)]);
        sequence += 1;
    }
    append(&store, "a");
    let expected = [(1, 2, vec![(1, 2)]), (3, sequence, vec![(3, sequence)])];
    let cursor = reader(&store, None, 9);
    assert_eq!(drain(&cursor), [0, 2, sequence]);
    assert_eq!(take(&cursor), expected);
    assert_eq!(store.cancelled(2, sequence - 1).unwrap(), [(3, sequence - 1)]);
    assert_eq!(store.cancelled(sequence, u64::MAX).unwrap(), []);
    assert_eq!(store.cancelled(5, 5).unwrap(), []);
}

#[test]
fn g3_a_handler_reads_the_gaps_of_its_batch_at_each_attempt() {
    use std::sync::mpsc;
    let store = new_store();
    append_all(&store, "baaba");
    store.cancel(None, &[(0, 1), (3, 4)]);
    let (send, received) = mpsc::channel();
    let options = WorkerOptions {
        batch_events: 2,
        gap_capacity: 9,
        retry_backoff_ms: 1,
        restart: RestartPolicy::Bounded { max_restarts: 3, within_ms: 60_000 },
        ..WorkerOptions::default()
    };
    let mut calls = 0;
    let worker = Worker::start(&store, Region::all().with_entity("a"), options, move |delivery: &Delivery<'_>| {
        calls += 1;
        let _ = send.send(seen(delivery.gaps()));
        match calls {
            1 => Outcome::Retry { message: String::new() },
            2 => Outcome::Fail { message: String::new() },
            3 => Outcome::Continue,
            _ => Outcome::Stop,
        }
    })
    .unwrap();
    assert_eq!(worker.join(Some(Duration::from_secs(20))).unwrap(), JoinOutcome::Stopped);
    let first = vec![(0, 1, vec![(0, 1)])];
    assert_eq!(received.iter().collect::<Vec<_>>(), [first.clone(), first.clone(), first, vec![(3, 4, vec![(3, 4)])]]);
}

/// Guards: a poll whose question for gaps fails has moved the position, and its events never come.
#[test]
fn g2_a_question_that_fails_loses_no_event() {
    let disk = SimStorage::new(1);
    let store = open_store(&disk);
    append_all(&store, "aba");
    store.cancel(Some("b"), &[(1, 2)]);
    append_until_sealed(&store, "c");
    let cursor = reader(&store, None, 9);
    let mut failed = 0;
    for nth in 0.. {
        disk.fail(crate::io::sim::Operation::Read, nth, libc::EIO, crate::io::sim::Repeat::Once);
        let polled = cursor.poll(9, 0, PollTimeout::Never);
        disk.heal();
        match polled {
            Ok(polled) => {
                assert_eq!(sequences(polled), [0, 2]);
                break;
            }
            Err(_) => failed += 1,
        }
        assert_eq!(cursor.position().unwrap().position, None);
        assert_eq!(take(&cursor), []);
    }
    assert!(failed > 0);
    assert_eq!(take(&cursor), [(1, 2, vec![(1, 2)])]);
}
