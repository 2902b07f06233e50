//! What a refused or interrupted call leaves behind must not be met again later.

use super::*;
use crate::format::{checksum, frame};
use crate::io::sim::Operation;

/// Guards: a rotation that fails behind its rename (no descriptor is left) leaves a segment file under its final name. Later events of
/// the old segment lie beyond its base: after the next rotation and a reopening they could not be read any more.
#[test]
fn a_refused_rotation_leaves_no_segment_behind() {
    for operation in [Operation::Open, Operation::Rename, Operation::Create, Operation::Write] {
        let disk = SimStorage::new(1);
        let store = open_sim(&disk);
        append(&store, "a", b"zero", Durability::Storage).unwrap();
        disk.fail(operation, 0, libc::EMFILE, Repeat::Once);
        assert!(append(&store, "a", &vec![9; 1_100_000], Durability::Storage).is_err(), "{operation:?}");
        disk.heal();
        append(&store, "a", b"one", Durability::Storage).unwrap();
        append(&store, "a", &vec![2; 1_100_000], Durability::Storage).unwrap();
        append(&store, "a", b"three", Durability::Storage).unwrap();
        let expected = payloads(&store);
        assert_eq!(expected.len(), 4);
        for disk in [disk.crash_keep_all(), disk.crash_with(&mut |_| Fate::Lost)] {
            assert!(payloads(&open_sim(&disk)) == expected, "{operation:?}");
        }
        store.close(SECOND).unwrap();
        let store = open_sim(&disk);
        assert!(payloads(&store) == expected, "{operation:?}");
        assert_eq!(store.stats().cut_bytes, 0, "{operation:?}");
    }
}

/// Guards: a kill between the CLOSE frame and its sync. The next opening finds it in the page cache and writes its EPOCH frame behind
/// it; a power loss that takes the one and keeps the other was then taken for damage, for ever.
#[test]
fn an_epoch_is_not_begun_behind_a_close_that_is_not_durable() {
    let life = |disk: &SimStorage| {
        let store = open_sim(disk);
        append(&store, "a", b"first", Durability::Storage)?;
        store.close(SECOND)
    };
    let second = |disk: &SimStorage| {
        let store = Store::open(Path::new(AT), &sim(disk))?;
        append(&store, "a", b"second", Durability::Storage)
    };
    let counting = SimStorage::new(1);
    life(&counting).unwrap();
    for killed_at in counting.operations() - 12..counting.operations() {
        let disk = SimStorage::new(1);
        disk.crash_at(killed_at);
        let _ = life(&disk);
        let killed = disk.crash_keep_all();
        let counting = killed.crash_keep_all();
        second(&counting).unwrap();
        for at in 0..counting.operations() {
            let disk = killed.crash_keep_all();
            disk.crash_at(at);
            let _ = second(&disk);
            for seed in 0..24 {
                let crashed = disk.crash(seed);
                let opened = Store::open(Path::new(AT), &sim(&crashed));
                assert!(opened.is_ok(), "killed at {killed_at}, power lost at {at}, seed {seed}: {:?}", opened.err());
            }
        }
    }
}

/// Guards: an event whose time goes back ends the log, but was counted: everything appended behind it stood one place off in the index.
#[test]
fn a_frame_that_breaks_the_order_of_time_is_cut_before_it_counts() {
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    append(&store, "a", b"kept", Durability::Storage).unwrap();
    let (offset, seed, earlier) = {
        let guard = store.inner.lock_appender();
        let appender = guard.as_ref().unwrap();
        (appender.tail.offset(), appender.tail.seed(), appender.last_time_us - 1)
    };
    let payload = b"of another clock";
    let fields = frame::EventFields {
        sequence: 1,
        clock: 1,
        time_us: earlier,
        prev_sequence: 0,
        kind: 0x1001,
        schema: 0,
        more: false,
        continued: false,
        entity: b"a",
        scope: b"s",
        correlation: frame::Correlation::Own,
        causes: &[],
        payload,
        payload_crc: checksum::crc32c(payload),
        key: None,
        fence: None,
    };
    let mut bytes = vec![0; frame::event_length_max(1, 1, 0, payload.len())];
    let length = frame::encode_event(&mut bytes, &fields, seed, store.id().tag());
    let disk = disk.crash_keep_all();
    let file = disk.open_write(&segment_path(0)).unwrap().unwrap();
    file.write_at(&bytes[..length], offset).unwrap();
    let store = open_sim(&disk);
    assert_eq!(store.watermarks().appended, 1);
    append(&store, "a", b"after", Durability::Storage).unwrap();
    assert_eq!(payloads(&store), [&b"kept"[..], b"after"]);
    assert_eq!(payloads(&open_sim(&disk.crash_keep_all())), [&b"kept"[..], b"after"]);
}

/// A worker whose handler runs until the sender is dropped, or for 4 seconds.
fn slow_worker(store: &Store) -> (Worker, std::sync::mpsc::Sender<()>) {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (began, begun) = std::sync::mpsc::channel();
    let handler = move |_: &Delivery<'_>| {
        began.send(()).unwrap();
        let _ = released.recv_timeout(Duration::from_secs(4));
        Outcome::Continue
    };
    let worker = Worker::start(store, Region::all(), WorkerOptions::default(), handler).unwrap();
    begun.recv().unwrap();
    (worker, release)
}

/// Guards: a close with a timeout waits behind another thread's close for as long as that one does.
#[test]
fn a_close_keeps_its_timeout_behind_another_close() {
    let store = open_sim(&SimStorage::new(1));
    append(&store, "a", b"x", Durability::Storage).unwrap();
    let (worker, release) = slow_worker(&store);
    let patient = {
        let store = store.clone();
        std::thread::spawn(move || store.close(Duration::from_secs(60)))
    };
    std::thread::sleep(Duration::from_millis(100));
    let started = Instant::now();
    let result = store.close(Duration::from_millis(20));
    assert!(matches!(result, Err(Error::Busy { handlers: 1, .. })), "{result:?}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    drop(release);
    patient.join().unwrap().unwrap();
    store.close(Duration::ZERO).unwrap();
    assert_eq!(worker.join(Some(SECOND)).unwrap(), JoinOutcome::Stopped);
}

/// Guards: cursors that were closed count as open, and workers that have ended as running, until their handles are freed.
#[test]
fn stats_count_what_is_alive() {
    let store = open_sim(&SimStorage::new(1));
    append(&store, "a", b"x", Durability::Storage).unwrap();
    let cursor = Cursor::open(&store, Region::all(), &CursorOptions::default()).unwrap();
    let (worker, release) = slow_worker(&store);
    assert_eq!((store.stats().cursors_open, store.stats().workers_running), (1, 1));
    drop(release);
    cursor.close().unwrap();
    worker.stop_and_join(Some(4 * SECOND)).unwrap();
    assert_eq!((store.stats().cursors_open, store.stats().workers_running), (0, 0));
}

/// Guards: the host's log function runs at close with the append lock held.
#[test]
fn close_logs_with_no_lock_held() {
    let disk = SimStorage::new(1);
    let (store, held) = (Arc::new(std::sync::OnceLock::<Store>::new()), Arc::new(Mutex::new(None)));
    let log = {
        let (store, held) = (store.clone(), held.clone());
        move |_: LogLevel, _: &str, _: &str| {
            *held.lock().unwrap() = Some(store.get().is_some_and(|store| store.inner.append.try_lock().is_err()));
        }
    };
    let options = StoreOptions { log: LogSink::new(Arc::new(log)), ..sim(&disk) };
    store.set(Store::open(Path::new(AT), &options).unwrap()).unwrap();
    let store = store.get().unwrap();
    append(store, "a", b"x", Durability::Storage).unwrap();
    // The active segment's index: the one file that a close makes.
    disk.fail(Operation::Create, 0, libc::EIO, Repeat::Once);
    store.close(SECOND).unwrap();
    assert_eq!(*held.lock().unwrap(), Some(false));
}

/// Guards: a log function that panics ends the helper thread. Nobody then syncs for who must not block, and appends that wait for it to seal
/// wait for ever.
#[test]
fn the_helper_outlives_a_panic_of_the_log_function() {
    let disk = SimStorage::new(1);
    let (logged, has_logged) = std::sync::mpsc::channel();
    let log = move |_: LogLevel, _: &str, _: &str| {
        logged.send(()).unwrap();
        panic!("of the host");
    };
    let options = StoreOptions { helper_thread: true, log: LogSink::new(Arc::new(log)), ..sim(&disk) };
    let store = Store::open(Path::new(AT), &options).unwrap();
    // More than half a segment: the helper makes the next one's file, and fails.
    disk.fail(Operation::Create, 0, libc::EIO, Repeat::Once);
    append(&store, "a", &vec![1; 700_000], Durability::Process).unwrap();
    has_logged.recv().unwrap();
    let deadline = Instant::now() + 20 * SECOND;
    assert_eq!(store.wait(Watermark::Durable, 1, Some(Duration::ZERO)).unwrap(), Waited::TimedOut);
    while store.watermarks().durable == 0 {
        assert!(Instant::now() < deadline, "the helper is gone");
        std::thread::sleep(Duration::from_millis(1));
    }
    store.close(SECOND).unwrap();
}

/// Guards: a store that was closed and not yet freed keeps the next segment's descriptor, mapping and blocks.
#[test]
fn a_close_lets_the_prepared_segment_go() {
    let disk = SimStorage::new(1);
    let store = Store::open(Path::new(AT), &StoreOptions { helper_thread: true, ..sim(&disk) }).unwrap();
    append(&store, "a", &vec![1; 700_000], Durability::Process).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let next = Path::new(AT).join("segments").join("next.seg.tmp");
    while disk.contents(&next).is_none_or(|bytes| bytes.len() < 1 << 20) {
        assert!(Instant::now() < deadline, "the helper prepares no segment");
        std::thread::sleep(Duration::from_millis(1));
    }
    store.close(SECOND).unwrap();
    assert!(store.inner.helper.take_prepared().is_none());
}

/// Guards: an event whose payload ends with a copy of the store's own CLOSE frame (say, of its segment file) is the last one at a crash.
/// Recovery cuts the file right behind it, and the opening after that takes the copy for a clean close: the log ends where it once did.
#[test]
fn a_copy_of_a_close_frame_closes_nothing() {
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    append(&store, "a", b"first", Durability::Storage).unwrap();
    store.close(SECOND).unwrap();
    let mut copy = disk.contents(&segment_path(0)).unwrap();
    let store = open_sim(&disk);
    append(&store, "a", b"second", Durability::Storage).unwrap();
    // So that the frame ends where its padding does.
    let header = frame::EVENT_HEADER_BYTES + "a".len() + "s".len();
    let missing = (header + copy.len()).next_multiple_of(8) - (header + copy.len());
    copy.splice(0..0, vec![0; missing]);
    append(&store, "a", &copy, Durability::Storage).unwrap();
    let expected = payloads(&store);
    let killed = disk.crash_keep_all();
    drop(open_sim(&killed));
    let store = open_sim(&killed);
    assert!(payloads(&store) == expected);
    append(&store, "a", b"after", Durability::Storage).unwrap();
    assert_eq!(payloads(&open_sim(&killed.crash_keep_all())).len(), 4);
}

/// Guards: a copy of the store's own EPOCH and CLOSE frames in the payload of an event that no sync has covered, behind a torn one, is
/// taken for an assertion that the tear was durable: the store does not open again.
#[test]
fn a_copy_of_an_epoch_frame_asserts_nothing() {
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    append(&store, "a", b"first", Durability::Storage).unwrap();
    store.close(SECOND).unwrap();
    let store = open_sim(&disk);
    append(&store, "a", b"second", Durability::Storage).unwrap();
    let mut copy = disk.contents(&segment_path(0)).unwrap();
    copy.truncate(store.inner.lock_appender().as_ref().unwrap().tail.offset() as usize);
    append(&store, "a", b"torn", Durability::Process).unwrap();
    let torn = disk.operations() - 1;
    // Its frames stand at multiples of 8.
    let header = frame::EVENT_HEADER_BYTES + "a".len() + "s".len();
    copy.splice(0..0, vec![0; header.next_multiple_of(8) - header]);
    append(&store, "a", &copy, Durability::Process).unwrap();
    let crashed = disk.crash_with(&mut |change| if change.operation == torn { Fate::Lost } else { Fate::Kept });
    let opened = Store::open(Path::new(AT), &sim(&crashed)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(payloads(&opened), [&b"first"[..], b"second"]);
}
