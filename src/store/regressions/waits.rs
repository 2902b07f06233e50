//! Waiting for marks, where the disk decides how it ends. The rest is tested through the C surface (`tests/c/wait_marks.c`).

use super::*;

/// Runs a wait on a thread of its own, and looks on until it is enlisted.
fn enlisted(
    store: &Store,
    mark: Watermark,
    bound: u64,
    timeout: Option<Duration>,
) -> std::thread::JoinHandle<Result<Waited>> {
    use crate::store::watermark::WAIT;
    let armed = || store.inner.signals.armed.load(Ordering::SeqCst) / WAIT;
    let (before, waiting) = (armed(), store.clone());
    let thread = std::thread::spawn(move || waiting.wait(mark, bound, timeout));
    while armed() == before {
        std::thread::yield_now();
    }
    thread
}

/// Guards: after a failed write or sync, at whatever place, somebody waits for ever for what can no longer come.
#[test]
fn a_failed_write_or_sync_ends_every_wait() {
    use crate::io::sim::Operation;
    // A PROCESS append goes into a mapping; its sync is the wait's.
    for (operation, durability) in [
        (Operation::Write, Durability::Storage),
        (Operation::Sync, Durability::Storage),
        (Operation::Sync, Durability::Process),
    ] {
        let disk = SimStorage::new(1);
        let store = open_sim(&disk);
        append(&store, "a", b"kept", Durability::Storage).unwrap();
        let waits = [Watermark::Visible, Watermark::Durable].map(|mark| enlisted(&store, mark, 9, None));
        disk.fail(operation, 0, libc::EIO, Repeat::Forever);
        let appended = append(&store, "a", b"lost", durability);
        assert_eq!(appended.is_ok(), durability == Durability::Process);
        assert!(store.wait(Watermark::Durable, 2, None).is_err());
        for wait in waits {
            let ended = wait.join().unwrap();
            assert!(matches!(ended, Err(Error::Poisoned { .. })), "{operation:?} {durability:?}: {ended:?}");
        }
        assert_eq!(store.wait(Watermark::Durable, 1, None).unwrap(), Waited::Reached, "what is there is there");
        assert!(store.close(SECOND).is_err());
    }
}

/// Guards: a follower of the group commit waits out a sync that takes longer than its timeout.
#[test]
fn a_follower_waits_no_longer_than_its_timeout() {
    let disk = SimStorage::new(1);
    let gate = Arc::new(Gate::default());
    let storage = Arc::new(GatedStorage { disk: disk.clone(), gate: gate.clone(), at: At::Sync });
    let store = Store::open(Path::new(AT), &StoreOptions { storage, ..sim(&disk) }).unwrap();
    append(&store, "a", b"0", Durability::Storage).unwrap();
    append(&store, "a", b"1", Durability::Process).unwrap();
    gate.shut();
    let of_leader = store.clone();
    let leader = std::thread::spawn(move || of_leader.wait(Watermark::Durable, 2, Some(Duration::from_millis(1))));
    while !gate.is_reached() {
        std::thread::sleep(Duration::from_millis(1));
    }
    for timeout in [1, 30].map(Duration::from_millis) {
        let start = Instant::now();
        assert_eq!(store.wait(Watermark::Durable, 2, Some(timeout)).unwrap(), Waited::TimedOut);
        assert!(start.elapsed() >= timeout);
    }
    // Without a timeout it follows, and is served by the sync after this one if it came too late for it.
    append(&store, "a", b"2", Durability::Process).unwrap();
    let of_follower = store.clone();
    let follower = std::thread::spawn(move || of_follower.wait(Watermark::Durable, 3, None));
    gate.open();
    assert_eq!(leader.join().unwrap().unwrap(), Waited::Reached, "its own sync is seen through");
    assert_eq!(follower.join().unwrap().unwrap(), Waited::Reached);
    assert_eq!(store.watermarks().durable, 3);
}

/// Guards: what a wait for durable has acknowledged is lost in a power loss.
#[test]
fn what_was_waited_for_survives_power_loss() {
    for seed in 0..20 {
        let disk = SimStorage::new(seed);
        let store = open_sim(&disk);
        for event in 0..40 {
            append(&store, "a", &vec![event; 40_000], Durability::Process).unwrap();
        }
        let waited = enlisted(&store, Watermark::Durable, 45, Some(60 * SECOND));
        for event in 40..45 {
            append(&store, "a", &[event], Durability::Process).unwrap();
        }
        assert_eq!(waited.join().unwrap().unwrap(), Waited::Reached);
        append(&store, "a", b"ahead", Durability::Process).unwrap();
        let kept = open_sim(&disk.crash(seed)).watermarks().appended;
        assert!((45..=46).contains(&kept), "{kept} kept");
    }
}

/// Guards: a wait that has ended stays enlisted, and every later publication looks for it.
#[test]
fn nobody_stays_enlisted() {
    let store = open_sim(&SimStorage::new(1));
    let armed = || store.inner.signals.armed.load(Ordering::SeqCst);
    for mark in [Watermark::Visible, Watermark::Durable] {
        assert_eq!(store.wait(mark, 9, Some(Duration::from_millis(1))).unwrap(), Waited::TimedOut);
        assert_eq!(armed(), 0);
        let bound = store.watermarks().appended + 1;
        let waiting = enlisted(&store, mark, bound, None);
        append(&store, "a", b"1", Durability::Process).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), Waited::Reached);
        assert_eq!(armed(), 0);
    }
    let waiting = enlisted(&store, Watermark::Visible, 9, None);
    store.close(SECOND).unwrap();
    assert!(matches!(waiting.join().unwrap(), Err(Error::Closed { .. })));
    assert_eq!(armed(), 0);
}
