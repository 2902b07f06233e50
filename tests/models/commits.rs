//! Group commit: the leader's turn goes round, and nothing is acknowledged that a power loss takes.

use super::*;
use crate::io::sim::{Operation, Repeat};

/// Every append returns, and what it acknowledged is on the disk at that moment.
#[test]
fn row_r15_appends_are_acknowledged_after_their_sync() {
    model("STORAGE appends of three threads").run(|| {
        let (disk, store) = new_store();
        let appenders = (0..3).map(|thread| {
            let (disk, store) = (disk.clone(), store.clone());
            thread::spawn(move || {
                for round in 0..2 {
                    let sequence = append(&store, &format!("e{thread}"), Durability::Storage);
                    let marks = store.watermarks();
                    assert!(marks.durable > sequence, "acknowledged, and durable is {}", marks.durable);
                    assert!(marks.visible > sequence, "acknowledged, and visible is {}", marks.visible);
                    if round == 1 {
                        return (sequence, power_loss(&disk));
                    }
                }
                unreachable!("returned in the second round")
            })
        });
        for (sequence, image) in join(appenders.collect()) {
            assert!(events_on(&image) > sequence, "event {sequence} was acknowledged and is lost");
        }
        assert_eq!(store.watermarks().durable, 6);
        store.close(FOREVER).unwrap();
    });
}

/// What cursors see of STORAGE events is durable.
#[test]
fn row_r15_nothing_is_visible_before_it_is_durable() {
    model("visible is never beyond durable for STORAGE").run(|| {
        let (disk, store) = new_store();
        let watcher = {
            let (disk, store) = (disk.clone(), store.clone());
            thread::spawn(move || {
                let mut images = Vec::new();
                for _ in 0..6 {
                    let visible = store.watermarks().visible;
                    let durable = store.watermarks().durable;
                    assert!(visible <= durable, "visible is {visible}, durable {durable}");
                    if visible > 0 && images.len() < 2 {
                        images.push((visible, power_loss(&disk)));
                    }
                    thread::yield_now();
                }
                images
            })
        };
        let appenders = (0..2).map(|_| {
            let store = store.clone();
            thread::spawn(move || {
                append(&store, "e", Durability::Storage);
                append(&store, "e", Durability::Storage);
            })
        });
        join(appenders.collect());
        for (visible, image) in watcher.join().unwrap() {
            assert!(events_on(&image) >= visible, "{visible} events were visible, and not all survive");
        }
        store.close(FOREVER).unwrap();
    });
}

/// A sync fails: from then on every append is told, and so is who waits for the mark.
#[test]
fn row_r15_nobody_waits_for_a_sync_that_has_failed() {
    model("STORAGE appends and a sync that fails").run(|| {
        let (disk, store) = new_store();
        disk.fail(Operation::Sync, below(4), libc::EIO, Repeat::Once);
        let waiter = {
            let store = store.clone();
            thread::spawn(move || {
                let waited = store.wait(crate::store::Watermark::Durable, 100, None);
                assert!(matches!(waited, Err(Error::Poisoned { .. } | Error::Io { .. })), "{waited:?}");
            })
        };
        let appenders = (0..3).map(|_| {
            let (disk, store) = (disk.clone(), store.clone());
            thread::spawn(move || {
                let mut last = None;
                for _ in 0..3 {
                    match try_append(&store, "e", Durability::Storage) {
                        Ok(sequence) => last = Some((sequence, power_loss(&disk))),
                        Err(Error::Poisoned { .. } | Error::Io { .. }) => break,
                        Err(other) => panic!("{other:?}"),
                    }
                }
                last
            })
        });
        for (sequence, image) in join(appenders.collect()).into_iter().flatten() {
            assert!(events_on(&image) > sequence, "event {sequence} was acknowledged and is lost");
        }
        // Until the failing one was reached: one thread may have gone on alone.
        while try_append(&store, "e", Durability::Storage).is_ok() {}
        waiter.join().unwrap();
        assert!(matches!(try_append(&store, "e", Durability::Process), Err(Error::Poisoned { .. })));
        let _ = store.close(FOREVER);
    });
}
