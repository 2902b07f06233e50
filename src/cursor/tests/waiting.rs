//! Waiting, interrupting, closing, and the two ways to be told.

use std::sync::atomic::AtomicU32;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use super::*;

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

/// A close from the log callback of a refresh inside a poll of the same thread: it must not wait for itself.
#[test]
fn a_close_from_inside_a_poll_of_the_same_thread_takes_effect_after_it() {
    let disk = SimStorage::new(1);
    let target: Arc<Mutex<Option<Cursor>>> = Arc::default();
    let closer = target.clone();
    let log = move |_, _: &str, _: &str| {
        if let Some(cursor) = closer.lock().unwrap().take() {
            cursor.close().unwrap();
        }
    };
    let log = crate::store::LogSink::new(Arc::new(log));
    let store = Store::open(Path::new(DATA), &StoreOptions { log, ..options(&disk) }).unwrap();
    let region = Region::all().with_entity("rare");
    let cursor = Cursor::open(&store, region, &with_checkpoint("c")).unwrap();
    append_until_sealed(&store, "common");
    *target.lock().unwrap() = Some(cursor.clone());
    disk.fail(crate::io::sim::Operation::Rename, 0, libc::EIO, crate::io::sim::Repeat::Once);
    assert!(matches!(cursor.poll(9, 0, PollTimeout::Never), Ok(Polled::Empty)));
    assert!(matches!(cursor.poll(9, 0, PollTimeout::Never), Err(Error::Closed { .. })));
    durable_cursor(&store, "c");
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

/// Regression: a wake-up lost between an empty look and the wait.
#[test]
fn no_wake_up_is_lost_to_a_waiting_poll() {
    let store = new_store();
    let cursor = plain_cursor(&store);
    let appender = store.clone();
    let count = 3_000;
    let publisher = thread::spawn(move || {
        for number in 0..count {
            try_append(&appender, "a", b"x", Durability::Process).unwrap();
            if number % 7 == 0 {
                thread::yield_now();
            }
        }
    });
    let mut next = 0;
    while next < count {
        for sequence in sequences(cursor.poll(5, 0, SOON).unwrap()) {
            assert_eq!(sequence, next);
            next += 1;
        }
    }
    publisher.join().unwrap();
}

/// The same for event loops, which see nothing but the descriptor.
#[test]
fn no_wake_up_is_lost_to_an_event_loop() {
    let store = new_store();
    let cursor = plain_cursor(&store);
    let fd = cursor.notify_fd().unwrap();
    let appender = store.clone();
    let count = 3_000;
    let publisher = thread::spawn(move || {
        for number in 0..count {
            try_append(&appender, "a", b"x", Durability::Process).unwrap();
            if number % 3 == 0 {
                thread::yield_now();
            }
        }
    });
    let mut next = 0;
    while next < count {
        let mut ready = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        assert_eq!(unsafe { libc::poll(&raw mut ready, 1, 20_000) }, 1, "stuck at {next}");
        next += poll(&cursor, 2).len() as u64;
    }
    publisher.join().unwrap();
}
