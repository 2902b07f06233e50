//! Fences: their events are seen together or never, and who waits behind one is woken when it is decided.

use super::*;
use crate::store::{Fence, FenceOptions, Waited, Watermark};

fn append_under(fence: &Fence, entity: &str) -> u64 {
    let mut receipts = [Receipt::default()];
    let event = NewEvent { entity: entity.as_bytes(), scope: b"s", kind: 0x1001, payload: b"f", ..NewEvent::default() };
    fence.append(&[event], &mut receipts).unwrap();
    receipts[0].sequence
}

/// One thread commits or cancels two events under a fence while another appends; a third waits for all, a fourth polls.
#[test]
fn row_r15_who_waits_behind_a_fence_is_woken() {
    model("fences against appends, waits and polls").run(|| {
        let (_disk, store) = new_store();
        let commits = coin();
        let fenced = {
            let store = store.clone();
            thread::spawn(move || {
                let fence = store.begin_fence(&FenceOptions::default()).unwrap();
                let own = [append_under(&fence, "f"), append_under(&fence, "f")];
                match (commits, coin()) {
                    (true, _) => fence.commit(Some(any_durability())).unwrap(),
                    (false, true) => fence.cancel().unwrap(),
                    (false, false) => drop(fence),
                }
                own
            })
        };
        let appender = {
            let store = store.clone();
            thread::spawn(move || [append(&store, "e", any_durability()), append(&store, "e", any_durability())])
        };
        let waiter = {
            let store = store.clone();
            thread::spawn(move || store.wait(Watermark::Visible, 4, None).unwrap())
        };
        let poller = {
            let cursor = cursor(&store, None).unwrap();
            let expected = if commits { 4 } else { 2 };
            thread::spawn(move || {
                let mut all = Vec::new();
                while all.len() < expected {
                    let visible_after = sequences(&cursor.poll(9, 0, PollTimeout::Forever).unwrap());
                    all.extend(visible_after);
                }
                all
            })
        };
        let (fenced, own) = (fenced.join().unwrap(), appender.join().unwrap());
        assert_eq!(waiter.join().unwrap(), Waited::Reached);
        let mut expected: Vec<u64> = if commits { [fenced, own].concat() } else { own.to_vec() };
        expected.sort_unstable();
        assert_eq!(poller.join().unwrap(), expected);
        store.close(FOREVER).unwrap();
    });
}

/// Two looks, the second at once after the first: if the first event of a fence is visible, so is the last.
#[test]
fn row_r15_a_fence_is_seen_whole() {
    model("looks at a fence that commits").run(|| {
        let (_disk, store) = new_store();
        let fence = store.begin_fence(&FenceOptions::default()).unwrap();
        append_under(&fence, "f");
        append(&store, "e", Durability::Process);
        append_under(&fence, "f");
        let watcher = {
            let store = store.clone();
            thread::spawn(move || {
                for _ in 0..5 {
                    let visible = store.watermarks().visible;
                    assert!(visible == 0 || visible == 3, "half a fence is visible: {visible}");
                    thread::yield_now();
                }
            })
        };
        let appender = {
            let store = store.clone();
            thread::spawn(move || store.sync().unwrap())
        };
        fence.commit(Some(any_durability())).unwrap();
        appender.join().unwrap();
        watcher.join().unwrap();
        assert_eq!(store.watermarks().visible, 3);
        store.close(FOREVER).unwrap();
    });
}

/// A fence that nobody decides ends when its time is over, and what it held back is seen.
#[test]
fn row_r15_a_fence_whose_time_is_over_wakes_who_waits_behind_it() {
    model("a fence that expires, and a wait and a poll behind it").with_patience(30).run(|| {
        let (_disk, store) = new_store();
        let fence = store.begin_fence(&FenceOptions { timeout: Duration::from_millis(5) }).unwrap();
        if coin() {
            let mut receipts = [Receipt::default()];
            let event = NewEvent { entity: b"f", scope: b"s", kind: 0x1001, payload: b"f", ..NewEvent::default() };
            match fence.append(&[event], &mut receipts) {
                Ok(()) | Err(Error::FenceExpired { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        let poller = {
            let cursor = cursor(&store, None).unwrap();
            thread::spawn(move || {
                let polled = cursor.poll(9, 0, PollTimeout::Forever).unwrap();
                assert_eq!(sequences(&polled).len(), 1, "only the event without a fence");
            })
        };
        let sequence = append(&store, "e", any_durability());
        assert_eq!(store.wait(Watermark::Visible, sequence + 1, None).unwrap(), Waited::Reached);
        poller.join().unwrap();
        store.close(FOREVER).unwrap();
    });
}

/// A close cancels what is undecided, against a commit at the same time: either is whole.
#[test]
fn row_r15_a_close_against_a_commit_of_a_fence() {
    model("a fence's commit against a close").run(|| {
        let (disk, store) = new_store();
        let fence = store.begin_fence(&FenceOptions::default()).unwrap();
        append_under(&fence, "f");
        append_under(&fence, "f");
        let committer = thread::spawn(move || match fence.commit(Some(any_durability())) {
            Ok(()) => true,
            Err(Error::Closed { .. } | Error::FenceDecided { .. }) => false,
            Err(other) => panic!("{other:?}"),
        });
        store.close(FOREVER).unwrap();
        let committed = committer.join().unwrap();
        drop(store);
        let store = open(&disk, false);
        let seen = sequences(&cursor(&store, None).unwrap().poll(9, 0, PollTimeout::Never).unwrap());
        assert!(seen.is_empty() || seen == [0, 1], "half a fence: {seen:?}");
        assert!(!committed || seen == [0, 1], "the commit was acknowledged");
    });
}
