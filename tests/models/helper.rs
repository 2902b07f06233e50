//! The helper thread: preparing, sealing and throttling against appends and a close.

use super::*;

const PAYLOAD: [u8; 600_000] = [b'x'; 600_000];

/// Appends that each fill more than half a segment: every other one leaves one.
fn filler(store: &Store, entity: &'static str, appends: u64) -> thread::JoinHandle<u64> {
    let store = store.clone();
    thread::spawn(move || {
        for done in 0..appends {
            match append_payload(&store, entity, &PAYLOAD, any_durability()) {
                Ok(_) => {}
                Err(Error::Closed { .. }) => return done,
                Err(other) => panic!("{other:?}"),
            }
        }
        appends
    })
}

#[test]
fn row_r15_segments_are_left_and_sealed_while_others_append() {
    model("rotation and sealing against appends and a close").with_cost(4).run(|| {
        let (disk, store) = new_store();
        let fillers = vec![filler(&store, "a", 3), filler(&store, "b", 3)];
        let reader = {
            let cursor = cursor(&store, Some("c")).unwrap();
            thread::spawn(move || {
                let mut next = 0;
                loop {
                    match cursor.poll(1, 0, PollTimeout::Forever) {
                        Ok(polled) => {
                            for sequence in sequences(&polled) {
                                assert_eq!(sequence, next, "a cursor skips or repeats");
                                next += 1;
                            }
                        }
                        Err(Error::Closed { .. }) => return next,
                        Err(other) => panic!("{other:?}"),
                    }
                }
            })
        };
        if coin() {
            thread::yield_now();
        } else {
            while store.watermarks().visible < 1 + below(5) {
                thread::yield_now();
            }
        }
        store.close(FOREVER).unwrap();
        let appended: u64 = join(fillers).into_iter().sum();
        assert!(reader.join().unwrap() <= appended);
        drop(store);
        assert_eq!(events_on(&disk), appended, "acknowledged, and not there after a clean close");
    });
}

/// More segments wait for their index than may: appends wait for the helper, which goes on to the end.
#[test]
fn row_r15_appends_wait_for_a_helper_that_is_behind() {
    model("appends that outrun the helper").with_cost(20).run(|| {
        let disk = SimStorage::new(1);
        let store = open(&disk, true);
        let fillers = vec![filler(&store, "a", 6), filler(&store, "b", 6)];
        if coin() {
            join(fillers);
            store.close(FOREVER).unwrap();
            assert_eq!(events_on_closed(store, &disk), 12);
        } else {
            while store.watermarks().appended < 9 {
                thread::yield_now();
            }
            store.close(FOREVER).unwrap();
            let appended: u64 = join(fillers).into_iter().sum();
            assert_eq!(events_on_closed(store, &disk), appended);
        }
    });
}

fn events_on_closed(store: Store, disk: &SimStorage) -> u64 {
    drop(store);
    events_on(disk)
}

/// Whoever drops the last hold on a store that is still open, the helper ends.
#[test]
fn row_r15_the_helper_ends_with_its_store() {
    model("the last hold on an open store").run(|| {
        let disk = SimStorage::new(1);
        let store = open(&disk, true);
        let appender = {
            let store = store.clone();
            thread::spawn(move || {
                append(&store, "e", any_durability());
                // Has the helper sync.
                let _ = store.wait(crate::store::Watermark::Durable, 1, Some(Duration::ZERO));
            })
        };
        drop(store);
        appender.join().unwrap();
    });
}
