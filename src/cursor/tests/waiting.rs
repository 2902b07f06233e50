//! Waiting, interrupting, closing, and the two ways to be told.

use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use super::*;
use crate::io::sim::{Operation, Repeat};

/// A poll in a thread of its own that has begun to wait.
fn waiting_poll(cursor: &Cursor) -> thread::JoinHandle<Result<Polled>> {
    let (cursor, (started, has_started)) = (cursor.clone(), mpsc::channel());
    let poll = thread::spawn(move || {
        started.send(()).unwrap();
        cursor.poll(9, 0, SOON)
    });
    has_started.recv().unwrap();
    thread::sleep(Duration::from_millis(20));
    poll
}

#[test]
fn a_poll_waits_for_a_publication() {
    let store = new_store();
    let cursor = plain_cursor(&store);
    let poll = waiting_poll(&cursor);
    append(&store, "a");
    assert_eq!(sequences(poll.join().unwrap().unwrap()), [0]);
}

#[test]
fn a_poll_gives_up_at_its_timeout() {
    let cursor = plain_cursor(&new_store());
    let start = Instant::now();
    let polled = cursor.poll(9, 0, PollTimeout::For(Duration::from_millis(30))).unwrap();
    assert!(matches!(polled, Polled::Timeout), "{polled:?}");
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert!(matches!(cursor.poll(9, 0, PollTimeout::For(Duration::ZERO)), Ok(Polled::Empty)));
}

#[test]
fn an_interrupt_ends_the_waiting_poll_and_only_that() {
    let store = new_store();
    let cursor = plain_cursor(&store);
    let poll = waiting_poll(&cursor);
    cursor.interrupt().unwrap();
    assert!(matches!(poll.join().unwrap(), Ok(Polled::Interrupted)));
    assert!(matches!(cursor.poll(9, 0, PollTimeout::For(Duration::from_millis(5))), Ok(Polled::Timeout)));
}

#[test]
fn an_interrupt_is_latched_once_and_loses_no_event() {
    let store = new_store();
    append(&store, "a");
    let cursor = plain_cursor(&store);
    cursor.interrupt().unwrap();
    cursor.interrupt().unwrap();
    assert!(matches!(cursor.poll(9, 0, PollTimeout::Never), Ok(Polled::Interrupted)));
    assert_eq!(super::poll(&cursor, 9), [0]);
}

#[test]
fn a_second_thread_is_told_and_not_made_to_wait() {
    let store = new_store();
    let cursor = plain_cursor(&store);
    let poll = waiting_poll(&cursor);
    assert!(matches!(cursor.poll(9, 0, SOON), Err(Error::Concurrent { what: "cursor" })));
    assert!(matches!(cursor.position(), Err(Error::Concurrent { .. })));
    cursor.interrupt().unwrap();
    poll.join().unwrap().unwrap();
    cursor.position().unwrap();
}

#[test]
fn a_close_wakes_the_poll_and_frees_the_id_before_it_returns() {
    let store = new_store();
    let cursor = durable_cursor(&store, "c");
    let poll = waiting_poll(&cursor);
    cursor.close().unwrap();
    let next = durable_cursor(&store, "c");
    assert!(matches!(poll.join().unwrap(), Err(Error::Closed { what: "cursor" })));
    assert!(matches!(cursor.poll(9, 0, SOON), Err(Error::Closed { what: "cursor" })));
    assert!(matches!(cursor.interrupt(), Err(Error::Closed { .. })));
    cursor.close().unwrap();
    assert_eq!(super::poll(&next, 1), []);
}

#[test]
fn the_close_of_the_store_wakes_the_poll_and_frees_the_id() {
    let disk = SimStorage::new(1);
    let store = open_store(&disk);
    let cursor = durable_cursor(&store, "c");
    let idle = durable_cursor(&store, "idle");
    let poll = waiting_poll(&cursor);
    store.close(Duration::from_secs(9)).unwrap();
    assert!(matches!(poll.join().unwrap(), Err(Error::Closed { .. })));
    assert!(matches!(idle.poll(9, 0, SOON), Err(Error::Closed { .. })));
    let store = open_store(&disk);
    durable_cursor(&store, "c");
    durable_cursor(&store, "idle");
    cursor.close().unwrap();
}

#[test]
fn the_last_handle_frees_the_id() {
    let store = new_store();
    let cursor = durable_cursor(&store, "c");
    let other = cursor.clone();
    drop(cursor);
    let taken = Cursor::open(&store, Region::all(), &with_checkpoint("c"));
    assert!(matches!(taken, Err(Error::CheckpointInUse { .. })));
    drop(other);
    durable_cursor(&store, "c");
}

/// A durable cursor of `rare` whose next empty poll runs `act`, once, after it has looked and before it waits: from the log
/// callback of a refresh that fails.
fn cursor_acting_before_it_waits(act: impl FnOnce(&Store, &Cursor) + Send + 'static) -> (Store, Cursor) {
    cursor_acting_on(&SimStorage::new(1), act)
}

fn cursor_acting_on(disk: &SimStorage, act: impl FnOnce(&Store, &Cursor) + Send + 'static) -> (Store, Cursor) {
    let target: Arc<Mutex<Option<(Store, Cursor)>>> = Arc::default();
    let (taken, act) = (target.clone(), Mutex::new(Some(act)));
    let log = move |_, target: &str, _: &str| {
        let parts = if target == "cursor" { taken.lock().unwrap().take() } else { None };
        if let Some((store, cursor)) = parts {
            act.lock().unwrap().take().unwrap()(&store, &cursor);
        }
    };
    let log = crate::store::LogSink::new(Arc::new(log));
    let store = Store::open(Path::new(DATA), &StoreOptions { log, ..options(disk) }).unwrap();
    let cursor = Cursor::open(&store, Region::all().with_entity("rare"), &with_checkpoint("c")).unwrap();
    append_until_sealed(&store, "common");
    *target.lock().unwrap() = Some((store.clone(), cursor.clone()));
    disk.fail(Operation::Rename, 0, libc::EIO, Repeat::Once);
    (store, cursor)
}

#[test]
fn a_close_from_inside_a_poll_of_the_same_thread_takes_effect_after_it() {
    let (store, cursor) = cursor_acting_before_it_waits(|_, cursor| cursor.close().unwrap());
    assert!(matches!(cursor.poll(9, 0, PollTimeout::Never), Ok(Polled::Empty)));
    assert!(matches!(cursor.poll(9, 0, PollTimeout::Never), Err(Error::Closed { .. })));
    Cursor::open(&store, Region::all().with_entity("rare"), &with_checkpoint("c")).unwrap();
}

#[test]
fn what_is_published_between_the_look_and_the_wait_is_found() {
    let (_store, cursor) = cursor_acting_before_it_waits(|store, _| append(store, "rare"));
    assert_eq!(sequences(cursor.poll(9, 0, PollTimeout::For(Duration::from_secs(5))).unwrap()).len(), 1);
}

#[test]
fn the_descriptor_stays_readable_for_what_is_left_of_it() {
    let (_store, cursor) = cursor_acting_before_it_waits(|store, _| {
        append(store, "rare");
        append(store, "rare");
    });
    let fd = cursor.notify_fd().unwrap();
    // Nothing armed: only the poll itself can say that there is more.
    cursor.shared.signal.disarm();
    assert_eq!(poll(&cursor, 1).len(), 1);
    assert!(is_readable(fd));
}

/// Guards: a poll clears the descriptor and is then interrupted, or fails, before it has looked again: what was published in
/// between stays unannounced, and an event loop sleeps on it.
#[test]
fn the_descriptor_stays_readable_when_the_poll_ends_before_it_has_looked_again() {
    let (_store, cursor) = cursor_acting_before_it_waits(|store, cursor| {
        append(store, "rare");
        cursor.interrupt().unwrap();
    });
    let fd = cursor.notify_fd().unwrap();
    assert!(matches!(cursor.poll(9, 0, PollTimeout::Never), Ok(Polled::Interrupted)));
    assert!(is_readable(fd), "interrupted");

    let disk = SimStorage::new(1);
    let reads = disk.clone();
    let (_store, cursor) = cursor_acting_on(&disk, move |store, _| {
        append(store, "rare");
        reads.fail(Operation::Read, 0, libc::EIO, Repeat::Once);
    });
    let fd = cursor.notify_fd().unwrap();
    assert!(matches!(cursor.poll(9, 0, PollTimeout::Never), Err(Error::Io { .. })));
    assert!(is_readable(fd), "failed");
    assert_eq!(poll(&cursor, 9).len(), 1);
    assert_eq!(poll(&cursor, 9), []);
    assert!(!is_readable(fd));
}

fn is_readable(fd: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

#[test]
fn the_descriptor_is_readable_while_events_may_be_available() {
    let store = new_store();
    let cursor = plain_cursor(&store);
    let fd = cursor.notify_fd().unwrap();
    assert_eq!(cursor.notify_fd().unwrap(), fd);
    assert!(is_readable(fd), "nobody has looked yet");
    assert_eq!(poll(&cursor, 1), []);
    assert!(!is_readable(fd));
    append(&store, "a");
    append(&store, "a");
    assert!(is_readable(fd));
    assert_eq!(poll(&cursor, 1), [0]);
    assert!(is_readable(fd), "there is one more");
    assert_eq!(poll(&cursor, 1), [1]);
    assert_eq!(poll(&cursor, 1), []);
    assert!(!is_readable(fd));
    cursor.seek_beginning().unwrap();
    assert!(is_readable(fd), "a seek leads back to events");
    assert_eq!(drain(&cursor), [0, 1]);
    assert!(!is_readable(fd));
    cursor.interrupt().unwrap();
    assert!(is_readable(fd), "event loops see interrupts");
    assert!(matches!(cursor.poll(9, 0, PollTimeout::Never), Ok(Polled::Interrupted)));
}

#[test]
fn the_wake_function_is_called_once_per_empty_poll() {
    let store = new_store();
    let cursor = plain_cursor(&store);
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let wake = move || {
        counter.fetch_add(1, Ordering::SeqCst);
    };
    cursor.set_wake(Some(Box::new(wake))).unwrap();
    assert_eq!(poll(&cursor, 1), []);
    (0..5).for_each(|_| append(&store, "a"));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(drain(&cursor).len(), 5);
    append(&store, "a");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    cursor.set_wake(None).unwrap();
    drain(&cursor);
    append(&store, "a");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert_eq!(Arc::strong_count(&calls), 1, "the removed function is dropped");
}

#[test]
fn a_wake_function_may_use_the_cursor() {
    let store = new_store();
    let cursor = plain_cursor(&store);
    let (seen, sees) = mpsc::channel();
    let weak = Arc::downgrade(&cursor.shared);
    let wake = move || {
        let Some(shared) = weak.upgrade() else { return };
        let lag = Cursor { shared }.lag();
        let _ = seen.send(lag.unwrap());
    };
    cursor.set_wake(Some(Box::new(wake))).unwrap();
    assert_eq!(poll(&cursor, 1), []);
    append(&store, "a");
    assert_eq!(sees.recv().unwrap(), 1);
    drain(&cursor);
    cursor.rewind().unwrap();
    assert_eq!(sees.recv().unwrap(), 1, "an announcement is made with no lock held");
}

/// Appends two events at once, `rounds` times, each time as soon as all before are consumed: so that publications fall between
/// the consumer's empty look and its wait, and nothing later makes up for a wake-up that was lost.
fn publish_in_step(store: &Store, rounds: u64, consumed: &Arc<AtomicU64>) -> thread::JoinHandle<()> {
    let (store, consumed) = (store.clone(), consumed.clone());
    thread::spawn(move || {
        let event = NewEvent { entity: b"a", scope: b"test", kind: 0x1001, ..NewEvent::default() };
        for round in 0..rounds {
            let deadline = Instant::now() + Duration::from_secs(20);
            while consumed.load(Ordering::SeqCst) < 2 * round {
                assert!(Instant::now() < deadline, "the consumer is stuck in round {round}");
                std::hint::spin_loop();
            }
            // The consumer's way from the last event to its wait takes longer at times.
            (0..round % 64 * 8).for_each(|_| std::hint::spin_loop());
            store.append(&[event; 2], Some(Durability::Process), &mut []).unwrap();
        }
    })
}

const ROUNDS: u64 = 20_000;

/// R15: a wake-up lost between an empty look and the wait.
#[test]
fn no_wake_up_is_lost_to_a_waiting_poll() {
    let store = new_store();
    let cursor = plain_cursor(&store);
    let consumed = Arc::new(AtomicU64::new(0));
    let publisher = publish_in_step(&store, ROUNDS, &consumed);
    for next in 0..2 * ROUNDS {
        assert_eq!(sequences(cursor.poll(1, 0, SOON).unwrap()), [next]);
        consumed.store(next + 1, Ordering::SeqCst);
    }
    publisher.join().unwrap();
}

/// The same for event loops, which see nothing but the descriptor and may stop polling before they find nothing.
#[test]
fn no_wake_up_is_lost_to_an_event_loop() {
    let store = new_store();
    let cursor = plain_cursor(&store);
    let fd = cursor.notify_fd().unwrap();
    let consumed = Arc::new(AtomicU64::new(0));
    let publisher = publish_in_step(&store, ROUNDS, &consumed);
    let mut next = 0;
    while next < 2 * ROUNDS {
        let mut ready = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        assert_eq!(unsafe { libc::poll(&raw mut ready, 1, 10_000) }, 1, "stuck at {next}");
        next += poll(&cursor, 1).len() as u64;
        consumed.store(next, Ordering::SeqCst);
    }
    publisher.join().unwrap();
}
