//! Event loops: a descriptor is readable while there may be something, and a host's wake function is called when there is.

use super::*;
use crate::io::notify::descriptor::wait_readable;
use crate::store::{Waited, Watermark};

/// Two threads append two events each; `look` is to end once it has seen all four.
fn against_appends(store: &Store, look: impl FnOnce() + Send + 'static) {
    let watcher = thread::spawn(look);
    let appenders = (0..2).map(|_| {
        let store = store.clone();
        thread::spawn(move || {
            append(&store, "e", any_durability());
            append(&store, "e", any_durability());
        })
    });
    join(appenders.collect());
    watcher.join().unwrap();
}

#[test]
fn row_r15_a_descriptor_tells_of_every_publication() {
    model("an event loop on a cursor's descriptor").run(|| {
        let (_disk, store) = new_store();
        let cursor = cursor(&store, None).unwrap();
        let fd = cursor.notify_fd().unwrap();
        against_appends(&store, move || {
            let mut next = 0;
            while next < 4 {
                wait_readable(fd);
                for sequence in sequences(&cursor.poll(2, 0, PollTimeout::Never).unwrap()) {
                    assert_eq!(sequence, next, "a cursor skips or repeats");
                    next += 1;
                }
            }
        });
        store.close(FOREVER).unwrap();
    });
}

#[test]
fn row_r15_a_wake_function_is_called_for_every_publication() {
    model("a wake function of a cursor").run(|| {
        let (_disk, store) = new_store();
        let cursor = cursor(&store, None).unwrap();
        let woken = Arc::new((shuttle::sync::Mutex::new(true), shuttle::sync::Condvar::new()));
        let by_host = woken.clone();
        let wake = move || {
            *by_host.0.lock().unwrap() = true;
            by_host.1.notify_one();
        };
        cursor.set_wake(Some(Box::new(wake))).unwrap();
        against_appends(&store, move || {
            let mut next = 0;
            while next < 4 {
                let mut is_woken = woken.0.lock().unwrap();
                while !*is_woken {
                    is_woken = woken.1.wait(is_woken).unwrap();
                }
                *is_woken = false;
                drop(is_woken);
                // Until there is nothing: then the function is called again.
                loop {
                    match sequences(&cursor.poll(2, 0, PollTimeout::Never).unwrap()).as_slice() {
                        [] => break,
                        some => next += some.len(),
                    }
                }
            }
        });
        store.close(FOREVER).unwrap();
    });
}

#[test]
fn row_r15_the_descriptor_of_durable_tells_of_every_sync() {
    model("an event loop on the descriptor of the durable mark").run(|| {
        let disk = SimStorage::new(1);
        let store = open(&disk, true);
        let fd = store.durable_fd().unwrap();
        let watching = store.clone();
        against_appends(&store, move || {
            // Nobody else need sync: the helper is asked to.
            for bound in [1 + below(3), 4] {
                while watching.wait(Watermark::Durable, bound, Some(Duration::ZERO)).unwrap() == Waited::TimedOut {
                    wait_readable(fd);
                }
                assert!(watching.watermarks().durable >= bound);
            }
        });
        store.close(FOREVER).unwrap();
    });
}

#[test]
fn row_r15_a_close_makes_descriptors_readable() {
    model("event loops and a close").run(|| {
        let disk = SimStorage::new(1);
        let store = open(&disk, true);
        let cursor = cursor(&store, None).unwrap();
        let (of_cursor, of_durable) = (cursor.notify_fd().unwrap(), store.durable_fd().unwrap());
        let loops = vec![
            thread::spawn(move || {
                while !is_closed(&cursor.poll(2, 0, PollTimeout::Never)) {
                    wait_readable(of_cursor);
                }
            }),
            {
                let store = store.clone();
                thread::spawn(move || {
                    while !is_closed(&store.wait(Watermark::Durable, 9, Some(Duration::ZERO))) {
                        wait_readable(of_durable);
                    }
                })
            },
        ];
        append(&store, "e", any_durability());
        store.close(FOREVER).unwrap();
        join(loops);
    });
}
