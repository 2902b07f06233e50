//! Cursors that wait, against appends, interrupts and closes.

use super::*;
use crate::store::{Waited, Watermark};

#[test]
fn row_r15_a_poll_that_waits_is_woken() {
    model("polls without a timeout against appends").run(|| {
        let (_disk, store) = new_store();
        let pollers = (0..2).map(|_| {
            let cursor = cursor(&store, None).unwrap();
            thread::spawn(move || poll_first(&cursor, 4))
        });
        let pollers: Vec<_> = pollers.collect();
        let appenders = (0..2).map(|_| {
            let store = store.clone();
            thread::spawn(move || {
                append(&store, "e", any_durability());
                append(&store, "e", any_durability());
            })
        });
        join(appenders.collect());
        // The last PROCESS event waits for nothing, but for STORAGE ones below it: those are synced by now.
        join(pollers);
        store.close(FOREVER).unwrap();
    });
}

/// Two that begin to wait at a time, one of them again and again, and a wait for a mark: none is left out of the count of those who wait
/// while another is taken out of it (a poll was never woken in 1 of 20,000 schedules of the scenario above).
#[test]
fn row_r15_who_begins_to_wait_hides_nobody_else() {
    model("cursors and a wait that begin while others publish").run(|| {
        let store = open(&SimStorage::new(1), false);
        append(&store, "e", Durability::Process);
        let pollers = (0..2).map(|_| {
            let cursor = cursor(&store, None).unwrap();
            thread::spawn(move || poll_first(&cursor, 3))
        });
        let pollers: Vec<_> = pollers.collect();
        let waiter = {
            let store = store.clone();
            thread::spawn(move || store.wait(Watermark::Visible, 3, None).unwrap())
        };
        let appenders = (0..2).map(|_| {
            let store = store.clone();
            thread::spawn(move || append(&store, "e", Durability::Process))
        });
        join(appenders.collect());
        join(pollers);
        assert_eq!(waiter.join().unwrap(), Waited::Reached);
        store.close(FOREVER).unwrap();
    });
}

/// Polls until it is told that the cursor or the store is closed; interrupts are counted.
fn poll_until_closed(cursor: Cursor) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let (mut next, mut interrupts) = (0, 0);
        loop {
            match cursor.poll(9, 0, PollTimeout::Forever) {
                Ok(Polled::Interrupted) => interrupts += 1,
                Ok(polled) => {
                    for sequence in sequences(&polled) {
                        assert_eq!(sequence, next, "a cursor skips or repeats");
                        next += 1;
                    }
                }
                Err(Error::Closed { .. }) => return interrupts,
                Err(other) => panic!("{other:?}"),
            }
        }
    })
}

#[test]
fn row_r15_a_close_of_the_cursor_ends_its_poll_and_frees_its_id() {
    model("a poll against appends and the close of its cursor").run(|| {
        let (_disk, store) = new_store();
        let waiting = cursor(&store, Some("c")).unwrap();
        let poller = poll_until_closed(waiting.clone());
        let appender = {
            let store = store.clone();
            thread::spawn(move || append(&store, "e", any_durability()))
        };
        waiting.close().unwrap();
        let next = cursor(&store, Some("c")).expect("the id is free once the close has returned");
        poller.join().unwrap();
        appender.join().unwrap();
        poll_first(&next, 1);
        store.close(FOREVER).unwrap();
    });
}

#[test]
fn row_r15_a_close_of_the_store_ends_every_poll() {
    model("polls against appends, the close of a cursor and that of the store").run(|| {
        let (disk, store) = new_store();
        let (first, second) = (cursor(&store, Some("c")).unwrap(), cursor(&store, None).unwrap());
        let pollers = vec![poll_until_closed(first.clone()), poll_until_closed(second)];
        let appender = {
            let store = store.clone();
            thread::spawn(move || match try_append(&store, "e", any_durability()) {
                Ok(_) => 1,
                Err(Error::Closed { .. }) => 0,
                Err(other) => panic!("{other:?}"),
            })
        };
        let closer = thread::spawn(move || match first.close() {
            Ok(()) | Err(Error::Closed { .. }) => {}
            Err(other) => panic!("{other:?}"),
        });
        store.close(FOREVER).unwrap();
        join(pollers);
        closer.join().unwrap();
        let appended = appender.join().unwrap();
        drop(store);
        let store = open(&disk, false);
        assert_eq!(store.watermarks().visible, appended, "acknowledged, and not there after a clean close");
        cursor(&store, Some("c")).expect("the id is free");
    });
}

#[test]
fn row_r15_an_interrupt_ends_the_poll_that_waits() {
    model("polls against interrupts").run(|| {
        let (_disk, store) = new_store();
        let waiting = cursor(&store, None).unwrap();
        let poller = {
            let cursor = waiting.clone();
            thread::spawn(
                move || {
                    while !matches!(cursor.poll(9, 0, PollTimeout::Forever).unwrap(), Polled::Interrupted) {}
                },
            )
        };
        let appender = {
            let store = store.clone();
            thread::spawn(move || append(&store, "e", any_durability()))
        };
        waiting.interrupt().unwrap();
        poller.join().unwrap();
        appender.join().unwrap();
        store.close(FOREVER).unwrap();
    });
}

#[test]
fn row_r15_a_poll_with_a_timeout_ends() {
    model("polls with a timeout").with_patience(60).run(|| {
        let (_disk, store) = new_store();
        let waiting = cursor(&store, None).unwrap();
        let poller = thread::spawn(move || {
            let (mut next, mut timeouts) = (0, 0);
            while next < 2 || timeouts == 0 {
                match waiting.poll(9, 0, PollTimeout::For(Duration::from_millis(3))).unwrap() {
                    Polled::Timeout => timeouts += 1,
                    polled => next += sequences(&polled).len(),
                }
            }
        });
        append(&store, "e", any_durability());
        append(&store, "e", any_durability());
        poller.join().unwrap();
        store.close(FOREVER).unwrap();
    });
}
