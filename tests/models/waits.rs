//! Waits for marks: woken when the bound is reached, by a close, by a failure, and at their time.

use super::*;
use crate::io::sim::{Operation, Repeat};
use crate::store::{Waited, Watermark};

fn waiter(store: &Store, mark: Watermark, bound: u64, timeout: Option<Duration>) -> thread::JoinHandle<Result<Waited>> {
    let store = store.clone();
    thread::spawn(move || {
        let waited = store.wait(mark, bound, timeout);
        if matches!(waited, Ok(Waited::Reached)) {
            let marks = store.watermarks();
            let now = if mark == Watermark::Visible { marks.visible } else { marks.durable };
            assert!(now >= bound, "told of {bound}, and the mark is {now}");
        }
        waited
    })
}

#[test]
fn row_r15_a_wait_for_a_mark_is_woken() {
    model("waits for visible and durable without a timeout").run(|| {
        let (_disk, store) = new_store();
        let waiters = vec![
            waiter(&store, Watermark::Visible, 1 + below(4), None),
            waiter(&store, Watermark::Visible, 4, None),
            waiter(&store, Watermark::Durable, 1 + below(4), None),
        ];
        let appenders = (0..2).map(|_| {
            let store = store.clone();
            thread::spawn(move || {
                append(&store, "e", any_durability());
                append(&store, "e", any_durability());
            })
        });
        join(appenders.collect());
        for waited in join(waiters) {
            assert_eq!(waited.unwrap(), Waited::Reached);
        }
        store.close(FOREVER).unwrap();
    });
}

#[test]
fn row_r15_a_wait_with_a_timeout_ends() {
    model("waits for marks with a timeout").with_patience(40).run(|| {
        let (_disk, store) = new_store();
        let soon = Some(Duration::from_millis(5));
        let waiters = vec![
            waiter(&store, Watermark::Visible, 2, soon),
            waiter(&store, Watermark::Durable, 2, soon),
            waiter(&store, Watermark::Visible, 9, soon),
        ];
        append(&store, "e", Durability::Process);
        append(&store, "e", any_durability());
        let waited: Vec<_> = join(waiters).into_iter().map(|waited| waited.unwrap()).collect();
        assert_eq!(waited[2], Waited::TimedOut, "there is no event 8");
        assert_eq!(store.wait(Watermark::Visible, 2, soon).unwrap(), Waited::Reached);
        store.close(FOREVER).unwrap();
    });
}

#[test]
fn row_r15_a_close_ends_every_wait() {
    model("waits for marks and a close").run(|| {
        let (_disk, store) = new_store();
        let waiters = vec![
            waiter(&store, Watermark::Visible, 50, None),
            waiter(&store, Watermark::Durable, 50, None),
            waiter(&store, Watermark::Durable, 1, Some(Duration::from_secs(1))),
        ];
        append(&store, "e", any_durability());
        store.close(FOREVER).unwrap();
        let mut waited = join(waiters);
        let last = waited.pop().unwrap();
        assert!(matches!(last, Ok(Waited::Reached)) || is_closed(&last), "{last:?}");
        for waited in waited {
            assert!(is_closed(&waited), "{waited:?}");
        }
    });
}

#[test]
fn row_r15_a_failure_ends_every_wait() {
    model("waits for marks and a failed write or sync").run(|| {
        let (disk, store) = new_store();
        let operation = if coin() { Operation::Sync } else { Operation::Write };
        let waiters = vec![waiter(&store, Watermark::Visible, 50, None), waiter(&store, Watermark::Durable, 2, None)];
        let appender = {
            let store = store.clone();
            thread::spawn(move || {
                append(&store, "e", Durability::Storage);
                disk.fail(operation, 0, libc::EIO, Repeat::Forever);
                // A write that fails while space is prepared ahead is no failure of the store's.
                while try_append(&store, "e", Durability::Storage).is_ok() {}
            })
        };
        appender.join().unwrap();
        for waited in join(waiters) {
            let told = matches!(waited, Err(Error::Poisoned { .. } | Error::Io { .. }));
            assert!(told, "{waited:?}");
        }
        let _ = store.close(FOREVER);
    });
}
