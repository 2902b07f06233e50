//! Close against everything: handlers that run, workers that start, another close.

use super::workers::{Seen, handler, with_id};
use super::*;
use crate::cursor::Worker;

#[test]
fn row_r15_a_close_waits_for_running_handlers() {
    model("a worker against appends and the close of its store").run(|| {
        let (disk, store) = new_store();
        let seen = Arc::new(Seen::default());
        let worker = Worker::start(&store, Region::all(), with_id(), handler(&seen)).unwrap();
        let appender = {
            let store = store.clone();
            thread::spawn(move || (0..3).take_while(|_| try_append(&store, "e", any_durability()).is_ok()).count())
        };
        for _ in 0..below(40) {
            thread::yield_now();
        }
        store.close(FOREVER).unwrap();
        seen.forbid();
        worker.join(None).unwrap();
        let appended = appender.join().unwrap() as u64;
        drop((worker, store));
        assert_eq!(events_on(&disk), appended);
        seen.check();
    });
}

/// A worker is started while the store closes: it is told so, or ended, and no handler runs once the close has returned.
#[test]
fn row_r15_a_worker_that_starts_during_a_close() {
    model("a worker that starts while its store closes").run(|| {
        let (_disk, store) = new_store();
        append(&store, "e", Durability::Storage);
        let seen = Arc::new(Seen::default());
        let starter = {
            let (store, seen) = (store.clone(), seen.clone());
            thread::spawn(move || match Worker::start(&store, Region::all(), with_id(), handler(&seen)) {
                Ok(worker) => match worker.join(None) {
                    Ok(_) | Err(Error::Closed { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                },
                Err(Error::Closed { .. }) => {}
                Err(other) => panic!("{other:?}"),
            })
        };
        store.close(FOREVER).unwrap();
        seen.forbid();
        starter.join().unwrap();
        seen.check();
    });
}

#[test]
fn row_r15_two_closes_and_a_handler() {
    model("two closes with a timeout, and a worker").with_patience(30).run(|| {
        let (_disk, store) = new_store();
        let seen = Arc::new(Seen::default());
        let worker = Worker::start(&store, Region::all(), with_id(), handler(&seen)).unwrap();
        append(&store, "e", Durability::Process);
        let closers = (0..2).map(|_| {
            let store = store.clone();
            thread::spawn(move || {
                loop {
                    match store.close(Duration::from_millis(below(3))) {
                        Ok(()) => return,
                        Err(Error::Busy { .. }) => thread::yield_now(),
                        Err(other) => panic!("{other:?}"),
                    }
                }
            })
        });
        join(closers.collect());
        seen.forbid();
        assert!(store.is_closed());
        worker.join(None).unwrap();
        seen.check();
    });
}

/// Everybody stops at once: appends, a fence, a poll, and a close.
#[test]
fn row_r15_a_cursor_that_opens_during_a_close() {
    model("a cursor that is opened and polled while its store closes").run(|| {
        let (_disk, store) = new_store();
        append(&store, "e", Durability::Process);
        let poller = {
            let store = store.clone();
            thread::spawn(move || {
                let cursor = match cursor(&store, Some("c")) {
                    Ok(cursor) => cursor,
                    Err(Error::Closed { .. }) => return,
                    Err(other) => panic!("{other:?}"),
                };
                loop {
                    match cursor.poll(1, 0, PollTimeout::Forever) {
                        Ok(_) => match cursor.checkpoint() {
                            Ok(()) | Err(Error::Closed { .. }) => {}
                            Err(other) => panic!("{other:?}"),
                        },
                        Err(Error::Closed { .. }) => return,
                        Err(other) => panic!("{other:?}"),
                    }
                }
            })
        };
        store.close(FOREVER).unwrap();
        poller.join().unwrap();
    });
}
