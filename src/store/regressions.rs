//! Defects that must never happen here, each one reproduced: `RELIABILITY` numbers are in the names.

mod failures;
mod gate;
mod power_loss;
mod rot;
mod row_r10;
mod waits;
mod writers;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::cursor::{
    Cursor, CursorOptions, Delivery, JoinOutcome, Outcome, PollTimeout, Polled, Worker, WorkerOptions,
};
use crate::event::{Kind, KindMatch, Region};
use crate::format::segment::segment_name;
use crate::io::Storage;
use crate::io::sim::{ChangeKind, Fate, Repeat, SimStorage};
use crate::io::time::WallClock;
use crate::store::scan::Scan;

use gate::{At, Gate, GatedStorage};

const SECOND: Duration = Duration::from_secs(1);

fn sim(disk: &SimStorage) -> StoreOptions {
    StoreOptions {
        storage: Arc::new(disk.clone()),
        segment_bytes: 1 << 20,
        helper_thread: false,
        ..StoreOptions::default()
    }
}

fn event<'a>(entity: &'a str, payload: &'a [u8]) -> NewEvent<'a> {
    NewEvent { entity: entity.as_bytes(), scope: b"s", kind: 0x1001, payload, ..NewEvent::default() }
}

/// Sequence, entity, clock and payload of an event.
type Row = (u64, String, u64, Vec<u8>);

/// Everything a region delivers.
fn read(store: &Store, region: &Region) -> Vec<Row> {
    try_read(store, region).unwrap()
}

fn try_read(store: &Store, region: &Region) -> Result<Vec<Row>> {
    let mut scan = Scan::new(region);
    let (mut at, mut all) = (0, Vec::new());
    loop {
        let (batch, next) = scan.next(store, at, 7, u64::MAX)?;
        if batch.is_empty() {
            assert_eq!(next, store.watermarks().visible);
            return Ok(all);
        }
        all.extend(batch.iter().map(|e| (e.sequence(), e.entity().to_owned(), e.clock(), e.payload().to_vec())));
        at = next;
    }
}

const AT: &str = "/s";

fn open_sim(disk: &SimStorage) -> Store {
    Store::open(Path::new(AT), &sim(disk)).unwrap()
}

fn append(store: &Store, entity: &str, payload: &[u8], durability: Durability) -> Result<()> {
    store.append(&[event(entity, payload)], Some(durability), &mut [])
}

fn payloads(store: &Store) -> Vec<Vec<u8>> {
    read(store, &Region::all()).into_iter().map(|event| event.3).collect()
}

fn segment_path(base: u64) -> std::path::PathBuf {
    Path::new(AT).join("segments").join(segment_name(base))
}

fn with_checkpoint(id: &str) -> CursorOptions {
    CursorOptions { checkpoint_id: Some(id.to_owned()), ..CursorOptions::default() }
}

fn consumer(store: &Store, id: &str) -> Result<Cursor> {
    Cursor::open(store, Region::all(), &with_checkpoint(id))
}

fn poll(cursor: &Cursor, events: usize) -> Vec<u64> {
    match cursor.poll(events, 0, PollTimeout::Never).unwrap() {
        Polled::Batch(batch) => batch.iter().map(|event| event.sequence()).collect(),
        _ => Vec::new(),
    }
}

/// Guards: a batch that fails midway, then acknowledged single appends, then a crash: the singles are lost with the batch.
#[test]
fn regression_03_singles_after_a_failed_batch_survive() {
    // Refused for its third item: nothing of it is in the log.
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    let refused = store.append(&[event("a", b"1"), event("a", b"2"), event("a/b", b"3")], None, &mut []);
    assert!(matches!(refused, Err(Error::BatchItem { index: 2, .. })), "{refused:?}");
    append(&store, "a", b"single", Durability::Storage).unwrap();
    append(&store, "a", b"single", Durability::Process).unwrap();
    assert_eq!(payloads(&open_sim(&disk.crash_keep_all())), [b"single", b"single"]);
    assert_eq!(payloads(&open_sim(&disk.crash_with(&mut |_| Fate::Lost))), [b"single"]);
    // Cut short by its write, at any byte: then no single is acknowledged until the store is opened anew.
    let batch = [event("a", &[1; 300]), event("b", &[2; 300]), event("c", &[3; 300])];
    for written in (0..1200).step_by(37) {
        let disk = SimStorage::new(1);
        let store = open_sim(&disk);
        append(&store, "a", b"before", Durability::Storage).unwrap();
        disk.fail_short(0, written, libc::EIO, Repeat::Once);
        assert!(store.append(&batch, None, &mut []).is_err());
        assert!(matches!(append(&store, "a", b"single", Durability::Storage), Err(Error::Poisoned { .. })));
        assert!(matches!(append(&store, "a", b"single", Durability::Process), Err(Error::Poisoned { .. })));
        assert!(store.close(SECOND).is_err());
        let store = open_sim(&disk);
        let kept = payloads(&store).len();
        assert!(kept == 1 || kept == 4, "half a batch: {kept} events, {written} bytes written");
        append(&store, "a", b"single", Durability::Storage).unwrap();
        for crashed in [disk.crash_keep_all(), disk.crash(written as u64), disk.crash_with(&mut |_| Fate::Lost)] {
            let all = payloads(&open_sim(&crashed));
            assert_eq!((all.len(), &all[kept][..]), (kept + 1, &b"single"[..]), "{written} bytes written");
        }
    }
}

/// Guards: a short write (the disk is full), space returns, later appends are acknowledged: none of them is readable, and the store does
/// not open any more.
#[test]
fn regression_04_appends_after_a_full_disk_are_readable() {
    for durability in [Durability::Storage, Durability::Process] {
        for written in [0, 1, 30, 512, 5000] {
            for nth in 0..6 {
                let disk = SimStorage::new(nth);
                let store = open_sim(&disk);
                disk.fail_short(nth, written, libc::ENOSPC, Repeat::Forever);
                let mut acknowledged = 0;
                while append(&store, "a", &[acknowledged as u8; 90_000], durability).is_ok() && acknowledged < 40 {
                    acknowledged += 1;
                }
                assert!(acknowledged < 40);
                let full = append(&store, "a", b"still full", durability);
                assert!(matches!(full, Ok(()) | Err(Error::DiskFull { .. } | Error::Poisoned { .. })), "{full:?}");
                let small = full.is_ok();
                assert_eq!(payloads(&store).len(), acknowledged + usize::from(small), "full, and readable");
                disk.heal();
                let store = match append(&store, "a", b"after", durability) {
                    Ok(()) => store,
                    // The write of frames itself failed: only a new opening goes on.
                    Err(Error::Poisoned { .. }) => {
                        drop(store);
                        let store = open_sim(&disk);
                        append(&store, "a", b"after", durability).unwrap();
                        store
                    }
                    Err(error) => panic!("{error}"),
                };
                store.sync().unwrap();
                for crashed in [disk.crash_keep_all(), disk.crash_with(&mut |_| Fate::Lost), disk.crash(nth)] {
                    let all = payloads(&open_sim(&crashed));
                    assert!(
                        all.len() > acknowledged,
                        "{durability:?}, write {nth}, {written} bytes: {} events",
                        all.len()
                    );
                    assert!((0..acknowledged).all(|at| all[at] == [at as u8; 90_000]));
                    assert_eq!(all.last().unwrap(), b"after");
                }
            }
        }
    }
}

/// Guards: a torn tail is tolerated once but left in place: after three more appends and another crash the store never opens.
#[test]
fn regression_05_a_torn_tail_is_mended_before_anything_is_appended() {
    for seed in 0..60 {
        let mut disk = SimStorage::new(seed);
        let mut acknowledged = 0;
        for round in 0..4 {
            let store =
                Store::open(Path::new(AT), &sim(&disk)).unwrap_or_else(|error| panic!("{seed}, {round}: {error}"));
            let kept = store.watermarks().appended;
            assert!(kept >= acknowledged, "seed {seed}, round {round}: {kept} of {acknowledged}");
            for _ in 0..3 {
                append(&store, "a", &[1; 700], Durability::Storage).unwrap();
            }
            acknowledged = kept + 3;
            for _ in 0..5 {
                append(&store, "a", &[2; 700], Durability::Process).unwrap();
            }
            disk = disk.crash_with(&mut |change| match change.kind {
                ChangeKind::Write { .. } => Fate::Torn { unit_bytes: 512, seed: seed * 31 + change.operation },
                _ => Fate::Kept,
            });
        }
    }
}

/// Guards: kill -9 during open leaves a zero-length or half-written newest segment that is fatal for ever.
#[test]
fn regression_06_a_newest_segment_without_a_header_is_as_if_absent() {
    for events in [0, 1] {
        for written in [0, 1, 16, 127, 128] {
            for zeros in [0, 5000] {
                let disk = SimStorage::new(1);
                let store = open_sim(&disk);
                if events > 0 {
                    append(&store, "a", b"kept", Durability::Storage).unwrap();
                }
                let header = disk.contents(&segment_path(0)).unwrap()[..128].to_vec();
                let killed = disk.crash_keep_all();
                // A rotated segment's header, or the first one's, which is made under another name.
                let path = if events > 0 { segment_path(1) } else { segment_path(0) };
                let file = killed.create(&path).unwrap();
                file.write_at(&header[..written.min(120)], 0).unwrap();
                file.set_length((written as u64).max(zeros)).unwrap();
                let store = open_sim(&killed);
                assert_eq!(payloads(&store).len(), events, "{written} bytes of a header");
                append(&store, "a", b"after", Durability::Storage).unwrap();
                let store = open_sim(&killed.crash_with(&mut |_| Fate::Lost));
                assert_eq!(payloads(&store).len(), events + 1);
            }
        }
    }
    // Killed at each operation of the first opening, and of the one after it.
    let disk = SimStorage::new(1);
    open_sim(&disk);
    for operation in 0..disk.operations() {
        let killed = SimStorage::new(operation);
        killed.crash_at(operation);
        assert!(Store::open(Path::new(AT), &sim(&killed)).is_err());
        for disk in [killed.crash_keep_all(), killed.crash(operation)] {
            append(&open_sim(&disk), "a", b"after", Durability::Storage).unwrap();
            assert_eq!(payloads(&open_sim(&disk.crash_with(&mut |_| Fate::Lost))), [b"after"]);
        }
    }
}

/// Guards: out-of-order write-back below the unsynced tail is taken for rot, and the store refuses to open. Only below what was durable
/// is it rot, and there it is never cut.
#[test]
fn regression_07_a_hole_is_a_tear_above_the_durable_mark_and_rot_below() {
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    append(&store, "a", b"durable", Durability::Storage).unwrap();
    append(&store, "a", b"durable", Durability::Storage).unwrap();
    for at in 0..6 {
        append(&store, "a", &[at; 600], Durability::Process).unwrap();
    }
    let changes = disk.pending();
    let stores: Vec<u64> = changes.iter().map(|change| change.operation).collect();
    assert!(stores.len() >= 6);
    for lost in stores {
        let crashed = disk.crash_with(&mut |change| if change.operation == lost { Fate::Lost } else { Fate::Kept });
        let store = open_sim(&crashed);
        let all = payloads(&store);
        assert!(all.len() >= 2, "operation {lost} lost: {} events", all.len());
        assert!(all[2..].iter().enumerate().all(|(at, payload)| *payload == [at as u8; 600]));
        // Of an event lost at the very end there is no trace.
        assert!(all.len() >= 7 || store.stats().cut_bytes > 0, "operation {lost} lost: the cut is not reported");
    }
    // The MARK behind the first event says that it was durable: damage to it is never cut away.
    let bytes = disk.contents(&segment_path(0)).unwrap();
    let first = bytes.windows(7).position(|window| window == b"durable").unwrap() as u64;
    disk.flip(&segment_path(0), first, 4);
    for disk in [disk.crash_keep_all(), disk.crash_with(&mut |_| Fate::Lost)] {
        let error = Store::open(Path::new(AT), &sim(&disk)).unwrap_err();
        let Error::Corrupt { path, offset: 128, sequence: 0, .. } = &error else { panic!("{error}") };
        assert_eq!(*path, segment_path(0));
    }
}

/// Guards: a checkpoint ahead of the log: the worker idles for ever and join is OK. A handler that always fails: join is OK.
#[test]
fn regression_12_a_worker_that_cannot_work_says_so() {
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    for _ in 0..4 {
        append(&store, "a", b"1", Durability::Process).unwrap();
    }
    let ended = disk.crash_with(&mut |_| Fate::Lost);
    let cursor = consumer(&store, "c").unwrap();
    assert_eq!(poll(&cursor, 9), [0, 1, 2, 3]);
    cursor.checkpoint().unwrap();
    store.close(SECOND).unwrap();
    // The checkpoint beside a log that ends earlier.
    let record = disk.contents(Path::new("/s/cursors/c.ckpt")).unwrap();
    let store = open_sim(&ended);
    ended.create_directory(Path::new("/s/cursors")).unwrap();
    ended.create(Path::new("/s/cursors/c.ckpt")).unwrap().write_at(&record, 0).unwrap();
    drop(store);
    let store = open_sim(&ended);
    assert_eq!(store.watermarks().appended, 0);
    let error = consumer(&store, "c").unwrap_err();
    assert!(matches!(error, Error::CheckpointStoreMismatch { .. } | Error::CheckpointAhead { .. }), "{error}");
    let options = WorkerOptions { checkpoint_id: Some(String::from("c")), ..WorkerOptions::default() };
    let worker = Worker::start(&store, Region::all(), options, |_: &Delivery<'_>| Outcome::Continue).unwrap();
    let error = worker.join(Some(10 * SECOND)).unwrap_err();
    assert!(matches!(error, Error::CheckpointStoreMismatch { .. } | Error::CheckpointAhead { .. }), "{error}");

    append(&store, "a", b"1", Durability::Storage).unwrap();
    let handler = |_: &Delivery<'_>| Outcome::Fail { message: String::from("no good") };
    let worker = Worker::start(&store, Region::all(), WorkerOptions::default(), handler).unwrap();
    let error = worker.join(Some(10 * SECOND)).unwrap_err();
    assert!(
        matches!(&error, Error::RestartBudgetExhausted { restarts: 1, message } if message == "no good"),
        "{error}"
    );
}

/// Guards: one flipped bit in a checkpoint moves the consumer silently.
#[test]
fn regression_13_every_bit_of_a_checkpoint_counts() {
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    for _ in 0..6 {
        append(&store, "a", b"1", Durability::Process).unwrap();
    }
    let cursor = consumer(&store, "c").unwrap();
    assert_eq!(poll(&cursor, 3), [0, 1, 2]);
    cursor.checkpoint().unwrap();
    cursor.close().unwrap();
    let path = Path::new("/s/cursors/c.ckpt");
    let length = disk.contents(path).unwrap().len() as u64;
    for bit in 0..length * 8 {
        disk.flip(path, bit / 8, 1 << (bit % 8));
        let Err(Error::CheckpointCorrupt { path: named, .. }) = consumer(&store, "c") else {
            panic!("bit {bit} accepted")
        };
        assert_eq!(named, path);
        disk.flip(path, bit / 8, 1 << (bit % 8));
    }
    assert_eq!(poll(&consumer(&store, "c").unwrap(), 9), [3, 4, 5]);
}

/// Guards: a checkpoint id with `../` escapes the directory. Two workers on one id both deliver everything and share the file.
#[test]
fn regression_14_a_checkpoint_id_is_a_name_and_has_one_consumer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = Store::open(&path, &StoreOptions::default()).unwrap();
    append(&store, "a", b"1", Durability::Process).unwrap();
    for id in
        ["../escaped", "..", "a/../../escaped", "/escaped", ".escaped", "a\\..\\b/c", "%2e%2e/escaped", "escaped\0"]
    {
        assert!(matches!(consumer(&store, id), Err(Error::CheckpointIdInvalid { .. })), "{id:?}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    let options = || WorkerOptions { checkpoint_id: Some(String::from("w")), ..WorkerOptions::default() };
    let (delivered, deliveries) = std::sync::mpsc::channel();
    let handler = move |delivery: &Delivery<'_>| {
        delivered.send(delivery.batch().len()).unwrap();
        Outcome::Continue
    };
    let first = Worker::start(&store, Region::all(), options(), handler.clone()).unwrap();
    assert_eq!(deliveries.recv_timeout(10 * SECOND).unwrap(), 1);
    let second = Worker::start(&store, Region::all(), options(), handler).unwrap();
    assert!(matches!(second.join(Some(10 * SECOND)), Err(Error::CheckpointInUse { .. })));
    assert!(matches!(consumer(&store, "w"), Err(Error::CheckpointInUse { .. })));
    assert_eq!(first.stop_and_join(Some(10 * SECOND)).unwrap(), JoinOutcome::Stopped);
    assert!(deliveries.try_recv().is_err(), "the second delivered too");
    consumer(&store, "w").unwrap();
}

/// Guards: a durable wait that forces no sync times out on an idle store.
#[test]
fn regression_15_asking_for_durability_forces_a_sync() {
    let wait = |store: &Store, timeout| match store.wait(Watermark::Durable, 2, timeout)? {
        Waited::Reached => Ok(()),
        Waited::TimedOut => panic!("it timed out"),
    };
    for ask in [
        &Store::sync as &dyn Fn(&Store) -> Result<()>,
        &|store| store.make_durable(2),
        &|store| wait(store, None),
        &|store| wait(store, Some(Duration::from_millis(1))),
    ] {
        let disk = SimStorage::new(1);
        let store = open_sim(&disk);
        append(&store, "a", b"1", Durability::Process).unwrap();
        append(&store, "a", b"2", Durability::Process).unwrap();
        assert_eq!(store.watermarks().durable, 0);
        ask(&store).unwrap();
        assert_eq!(store.watermarks().durable, 2);
        assert_eq!(payloads(&open_sim(&disk.crash_with(&mut |_| Fate::Lost))), [b"1", b"2"]);
    }
}

/// Guards: stop() waits out the idle sleep; dropping the handle keeps the store locked.
#[test]
fn regression_16_stop_wakes_and_drop_unlocks() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions::default();
    let store = Store::open(directory.path(), &options).unwrap();
    let idle = || WorkerOptions { idle_wait: 600 * SECOND, ..WorkerOptions::default() };
    let worker = Worker::start(&store, Region::all(), idle(), |_: &Delivery<'_>| Outcome::Continue).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    assert_eq!(worker.stop_and_join(Some(60 * SECOND)).unwrap(), JoinOutcome::Stopped);
    assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());

    append(&store, "a", b"1", Durability::Process).unwrap();
    let worker = Worker::start(&store, Region::all(), idle(), |_: &Delivery<'_>| Outcome::Continue).unwrap();
    let cursor = consumer(&store, "c").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    drop((worker, cursor, store));
    // The worker's thread lets go of the store a moment later.
    let start = Instant::now();
    let store = loop {
        match Store::open(directory.path(), &options) {
            Ok(store) => break store,
            Err(Error::Locked { .. }) if start.elapsed() < 5 * SECOND => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(payloads(&store), [b"1"]);
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) }, 0);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Guards: polling walks every entry: draining N events costs O(N^2), an idle worker burns a core.
#[test]
fn regression_17_a_poll_costs_what_it_delivers() {
    let directory = tempfile::tempdir().unwrap();
    let store =
        Store::open(directory.path(), &StoreOptions { helper_thread: false, ..StoreOptions::default() }).unwrap();
    // One match, then nothing that matches: a poll that began behind the match would walk all of it.
    let rare = NewEvent { scope: b"rare", kind: 0x2001, ..event("rare", b"x") };
    store.append(&[rare], Some(Durability::Process), &mut []).unwrap();
    let noise: Vec<_> = (0..1000).map(|_| event("noise", b"x")).collect();
    for _ in 0..200 {
        store.append(&noise, Some(Durability::Process), &mut []).unwrap();
    }
    let regions = [
        Region::all().with_entity(String::from("rare")),
        Region::all().with_entity(String::from("nobody")),
        Region::all().with_scope("rare"),
        Region::all().with_scope("nowhere"),
        Region::all().with_kind(KindMatch::Exact(Kind(0x2001))),
    ];
    for region in regions {
        let cursor = Cursor::open(&store, region.clone(), &CursorOptions::default()).unwrap();
        while !poll(&cursor, 1).is_empty() {}
        let start = thread_time();
        for _ in 0..2000 {
            assert_eq!(poll(&cursor, 1), []);
        }
        let idle = thread_time() - start;
        assert!(idle < Duration::from_millis(400), "2000 empty polls of {region:?} behind 200,000 events: {idle:?}");
    }
    // Draining twice as much costs about twice as much: with a walk from the beginning it would be four times.
    let drain = |polls: usize| {
        let cursor = Cursor::open(&store, Region::all(), &CursorOptions::default()).unwrap();
        let start = thread_time();
        for at in 0..polls {
            assert_eq!(poll(&cursor, 4), (4 * at as u64..4 * at as u64 + 4).collect::<Vec<_>>());
        }
        thread_time() - start
    };
    drain(1000);
    let (some, all) = (drain(2500), drain(20_000));
    assert!(all < some * 8 * 3 + Duration::from_millis(200), "10,000 events took {some:?}, 80,000 took {all:?}");
}

/// Guards: a sealed file truncated by someone else kills the host with SIGBUS.
#[test]
fn regression_18_a_truncated_file_is_an_error_code() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions { segment_bytes: 1 << 20, helper_thread: false, ..StoreOptions::default() };
    let store = Store::open(directory.path(), &options).unwrap();
    for at in 0..30 {
        append(&store, if at % 2 == 0 { "even" } else { "odd" }, &[at; 100_000], Durability::Storage).unwrap();
    }
    assert!(store.stats().segments >= 3);
    let sealed = directory.path().join("segments").join(segment_name(0));
    let index = sealed.with_extension("idx");
    assert_eq!(payloads(&store).len(), 30);
    let whole = fs::read(&sealed).unwrap();
    let end = whole.iter().rposition(|&byte| byte != 0).unwrap();
    let lengths = (0..end).step_by(33_333).chain([1, 24, 127, 128, 129, 200]);
    for length in lengths.map(|length| length as u64) {
        fs::OpenOptions::new().write(true).open(&sealed).unwrap().set_len(length).unwrap();
        let mut scan = Scan::new(&Region::all());
        let mut at = 0;
        let error = loop {
            match scan.next(&store, at, 3, u64::MAX) {
                Ok((batch, next)) => {
                    assert!(batch.iter().all(|event| event.payload() == [event.sequence() as u8; 100_000]));
                    assert!(!batch.is_empty(), "{length} bytes left, and all was read");
                    at = next;
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, Error::Corrupt { path, .. } if *path == sealed), "{length} bytes left: {error}");
        let mut scan = Scan::new(&Region::all().with_entity(String::from("odd")));
        assert!((0..9).any(|at| scan.next(&store, at, 1, u64::MAX).is_err()));
        append(&store, "even", b"goes on", Durability::Storage).unwrap();
        fs::write(&sealed, &whole).unwrap();
    }
    // The index is only derived.
    fs::OpenOptions::new().write(true).open(&index).unwrap().set_len(100).unwrap();
    assert_eq!(read(&store, &Region::all().with_entity(String::from("odd"))).len(), 15);
    store.close(SECOND).unwrap();
}

/// Everything about a directory's files that an opening could change.
fn listing(directory: &Path) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::metadata(&path).unwrap();
        all.push((path.clone(), metadata.len(), metadata.modified().unwrap(), fs::read(&path).ok()));
        if metadata.is_dir() {
            all.extend(listing(&path));
        }
    }
    all.sort();
    all
}

/// Guards: read-only media or a read-only open fails; opening a store writes an event into it.
#[test]
fn regression_19_reading_changes_nothing() {
    use std::os::unix::fs::PermissionsExt;
    for clean in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let options = StoreOptions { segment_bytes: 1 << 20, helper_thread: false, ..StoreOptions::default() };
        let store = Store::open(&path, &options).unwrap();
        for at in 0..15 {
            append(&store, "a", &[at; 100_000], Durability::Process).unwrap();
        }
        if clean {
            store.close(SECOND).unwrap();
        }
        drop(store);
        fs::remove_file(path.join("LOCK")).unwrap();
        let modes = |mode| {
            for part in ["segments", "."] {
                fs::set_permissions(path.join(part), fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        modes(0o555);
        let before = listing(&path);
        let read_only = StoreOptions { read_only: true, ..options.clone() };
        let (one, two) = (Store::open(&path, &read_only).unwrap(), Store::open(&path, &read_only).unwrap());
        for store in [&one, &two] {
            assert_eq!(payloads(store).len(), 15);
            let cursor =
                Cursor::open(store, Region::all().with_entity(String::from("a")), &CursorOptions::default()).unwrap();
            assert_eq!(poll(&cursor, 99).len(), 15);
            assert!(matches!(append(store, "a", b"", Durability::Storage), Err(Error::ReadOnly { .. })));
            store.close(SECOND).unwrap();
        }
        assert_eq!(listing(&path), before);
        modes(0o755);
        // An opening for writing that appends nothing adds no event either.
        for _ in 0..3 {
            let store = Store::open(&path, &options).unwrap();
            assert_eq!(store.watermarks().appended, 15);
            store.close(SECOND).unwrap();
        }
        assert_eq!(payloads(&Store::open(&path, &options).unwrap()).len(), 15);
    }
}

/// Guards: a consumer commits its position elsewhere; power fails; the log ends earlier; the sequences are given to other events, which
/// are skipped.
#[test]
fn regression_21_a_position_kept_elsewhere_is_held_against_the_log() {
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    append(&store, "a", b"durable", Durability::Storage).unwrap();
    append(&store, "a", b"lost", Durability::Process).unwrap();
    append(&store, "a", b"lost", Durability::Process).unwrap();
    let cursor = Cursor::open(&store, Region::all(), &CursorOptions::default()).unwrap();
    let kept: Vec<_> = (0..3)
        .map(|_| {
            assert_eq!(poll(&cursor, 1).len(), 1);
            let position = cursor.position().unwrap();
            (position.next_sequence, position.position_id)
        })
        .collect();
    let crashed = disk.crash_with(&mut |_| Fate::Lost);
    let store = open_sim(&crashed);
    let cursor = Cursor::open(&store, Region::all(), &CursorOptions::default()).unwrap();
    assert!(matches!(
        cursor.seek_position(kept[2].0, kept[2].1),
        Err(Error::CheckpointAhead { position: 2, end: 1, .. })
    ));
    cursor.seek_position(kept[0].0, kept[0].1).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    append(&store, "a", b"other", Durability::Storage).unwrap();
    append(&store, "a", b"other", Durability::Storage).unwrap();
    for (next, id) in &kept[1..] {
        assert!(matches!(cursor.seek_position(*next, *id), Err(Error::CheckpointDiverged { .. })), "{next}");
    }
    assert_eq!(poll(&cursor, 9), [1, 2], "nothing moved");
}

/// Guards: a store restored from a backup and appended to meets its old checkpoints and skips.
#[test]
fn regression_22_a_restored_store_refuses_checkpoints_of_its_other_future() {
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    append(&store, "a", b"1", Durability::Storage).unwrap();
    store.close(SECOND).unwrap();
    let backup = disk.crash_keep_all();
    let store = open_sim(&disk);
    append(&store, "a", b"2", Durability::Storage).unwrap();
    append(&store, "a", b"3", Durability::Storage).unwrap();
    let cursor = consumer(&store, "c").unwrap();
    assert_eq!(poll(&cursor, 9), [0, 1, 2]);
    cursor.checkpoint().unwrap();
    let record = disk.contents(Path::new("/s/cursors/c.ckpt")).unwrap();
    std::thread::sleep(Duration::from_millis(2));

    let store = open_sim(&backup);
    backup.create_directory(Path::new("/s/cursors")).unwrap();
    backup.create(Path::new("/s/cursors/c.ckpt")).unwrap().write_at(&record, 0).unwrap();
    assert!(matches!(consumer(&store, "c"), Err(Error::CheckpointAhead { position: 2, end: 1, .. })));
    for _ in 0..3 {
        append(&store, "a", b"other", Durability::Storage).unwrap();
    }
    assert!(matches!(consumer(&store, "c"), Err(Error::CheckpointDiverged { position: 2, .. })));
}

/// Guards: after a cut, stale frames beyond the new tail line up again and read as events.
#[test]
fn regression_23_frames_of_an_earlier_life_never_come_back() {
    // A clock that stands still: no frame is refused for its time alone.
    let open = |disk: &SimStorage| {
        let options = StoreOptions { clock: WallClock::custom(|| 1_000_000), ..sim(disk) };
        Store::open(Path::new(AT), &options).unwrap()
    };
    let disk = SimStorage::new(1);
    let store = open(&disk);
    for at in 0..8 {
        append(&store, "a", &[at; 100], Durability::Process).unwrap();
    }
    let bytes = disk.contents(&segment_path(0)).unwrap();
    let frame = |at: usize| bytes.windows(100).position(|window| window == [at as u8; 100]).unwrap();
    let (length, first) = (frame(2) - frame(1), 128);
    // Event 1 is lost; the later ones reached the disk.
    let second_store =
        disk.pending().iter().filter(|c| matches!(c.kind, ChangeKind::Write { .. })).nth_back(6).unwrap().operation;
    let crashed = disk.crash_with(&mut |change| if change.operation == second_store { Fate::Lost } else { Fate::Kept });
    for durability in [Durability::Storage, Durability::Process] {
        let disk = crashed.crash_keep_all();
        let store = open(&disk);
        assert_eq!(payloads(&store), [[0; 100]]);
        append(&store, "a", &[9; 100], durability).unwrap();
        // However the file ends now: put the old frames where they fit, as if the cut had left them.
        let end = store.inner.lock_appender().as_ref().unwrap().tail.offset();
        assert_eq!(payloads(&open(&disk.crash_keep_all())).len(), 2);
        for old in 1..8 {
            let killed = disk.crash_keep_all();
            let stale = &bytes[first + old * length..first + 8 * length];
            killed.open_write(&segment_path(0)).unwrap().unwrap().write_at(stale, end).unwrap();
            let all = payloads(&open(&killed));
            assert_eq!(all, [[0; 100], [9; 100]], "{durability:?}: stale frames from event {old} on");
        }
    }
}

/// Guards: what was cut stays in the file, for a later life to meet.
#[test]
fn regression_23_what_was_cut_is_gone() {
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    for at in 0..8 {
        append(&store, "a", &[at; 100], Durability::Process).unwrap();
    }
    // Event 0 reached the disk, and all behind event 1.
    let second =
        disk.pending().iter().filter(|c| matches!(c.kind, ChangeKind::Write { .. })).nth_back(6).unwrap().operation;
    let crashed = disk.crash_with(&mut |change| if change.operation == second { Fate::Lost } else { Fate::Kept });
    let store = open_sim(&crashed);
    assert!(store.stats().cut_bytes > 0);
    append(&store, "a", &[9; 100], Durability::Storage).unwrap();
    let end = store.inner.lock_appender().as_ref().unwrap().tail.offset() as usize;
    let bytes = crashed.contents(&segment_path(0)).unwrap();
    assert!(bytes[end..].iter().all(|&byte| byte == 0), "bytes of an earlier life stand behind the tail");
    let again = open_sim(&crashed.crash_keep_all());
    assert_eq!(again.stats().cut_bytes, 0, "there is nothing left to cut");
}

/// Guards: kill -9 loses an acknowledged PROCESS frame because STORAGE bytes below it were still in a buffer of the process.
#[test]
fn regression_24_all_below_a_process_append_is_in_the_page_cache() {
    let disk = SimStorage::new(1);
    let gate = Arc::new(Gate::default());
    let storage = Arc::new(GatedStorage { disk: disk.clone(), gate: gate.clone(), at: At::Sync });
    let store = Store::open(Path::new(AT), &StoreOptions { storage, ..sim(&disk) }).unwrap();
    append(&store, "a", b"0", Durability::Storage).unwrap();
    gate.shut();
    let waiting = |payload: &'static [u8]| {
        let store = store.clone();
        std::thread::spawn(move || append(&store, "a", payload, Durability::Storage))
    };
    let appended = |count| {
        while store.watermarks().appended < count {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let first = waiting(b"1");
    appended(2);
    while !gate.is_reached() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // The group's sync is under way: this one stays in the buffer.
    let second = waiting(b"2");
    appended(3);
    append(&store, "a", b"3", Durability::Process).unwrap();
    let killed = disk.crash_keep_all();
    assert_eq!(payloads(&open_sim(&killed)), [b"0", b"1", b"2", b"3"]);
    assert_eq!(store.watermarks().visible, 1, "not before what is below is durable");
    gate.open();
    first.join().unwrap().unwrap();
    second.join().unwrap().unwrap();
    assert_eq!(store.watermarks().visible, 4);
}

/// Guards: the end of a group's sync shows events that came to the buffer while it ran, those of a cancelled fence, and readers find no frame
/// where they pass over them. Found by row R15 (fences against appends, waits and polls, seed 0x5eed).
#[test]
fn a_fence_cancelled_during_a_sync_is_passed_over_in_the_file() {
    let disk = SimStorage::new(1);
    let gate = Arc::new(Gate::default());
    let storage = Arc::new(GatedStorage { disk: disk.clone(), gate: gate.clone(), at: At::Sync });
    let store = Store::open(Path::new(AT), &StoreOptions { storage, ..sim(&disk) }).unwrap();
    append(&store, "a", b"0", Durability::Storage).unwrap();
    gate.shut();
    let first = {
        let store = store.clone();
        std::thread::spawn(move || append(&store, "a", b"1", Durability::Storage))
    };
    while !gate.is_reached() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let fence = store.begin_fence(&FenceOptions::default()).unwrap();
    fence.append(&[event("fenced", b"2")], &mut []).unwrap();
    fence.cancel().unwrap();
    gate.open();
    first.join().unwrap().unwrap();
    assert_eq!(store.watermarks().visible, 3);
    assert_eq!(payloads(&store), [b"0", b"1"]);
}

/// Guards: a deleted or replaced LOCK admits a second writer; a lock outlives its opening. (That a forked child does not keep a dead
/// parent's lock is tested with real deaths in `tests/kill9.rs`.)
#[test]
fn regression_26_one_writer_whatever_becomes_of_the_lock_file() {
    let directory = tempfile::tempdir().unwrap();
    let (path, alias) = (directory.path().join("store"), directory.path().join("alias"));
    let options = StoreOptions::default();
    let store = Store::open(&path, &options).unwrap();
    std::os::unix::fs::symlink(&path, &alias).unwrap();
    let lock = path.join("LOCK");
    let is_locked = || {
        for path in [&path, &alias, &path.join("../store/.")] {
            for read_only in [false, true] {
                let second = Store::open(path, &StoreOptions { read_only, ..options.clone() });
                assert!(matches!(second, Err(Error::Locked { .. })), "{}: {second:?}", path.display());
            }
        }
    };
    is_locked();
    fs::remove_file(&lock).unwrap();
    is_locked();
    fs::write(&lock, b"").unwrap();
    is_locked();
    fs::rename(&lock, path.join("LOCK.old")).unwrap();
    is_locked();
    append(&store, "a", b"1", Durability::Storage).unwrap();
    store.close(SECOND).unwrap();
    let store = Store::open(&path, &options).unwrap();
    assert_eq!(payloads(&store), [b"1"]);
}

// ---- found here ---------------------------------------------------------------------------------------------------

/// Guards: a poll that begins at a control frame takes the event behind it for damage when that is larger than one read.
#[test]
fn a_large_event_behind_a_mark_is_read() {
    let disk = SimStorage::new(1);
    let store = Store::open(Path::new("/s"), &StoreOptions { segment_bytes: 16 << 20, ..sim(&disk) }).unwrap();
    let large = vec![7; 3 << 20];
    let mut scan = Scan::new(&Region::all());
    let mut at = 0;
    for payload in [&b"small"[..], &large, b"small", &large] {
        store.append(&[event("a", payload)], None, &mut []).unwrap();
        let (batch, next) = scan.next(&store, at, 1, u64::MAX).unwrap();
        assert!(batch.iter().all(|event| event.payload() == payload) && batch.len() == 1);
        at = next;
    }
    let mut scan = Scan::new(&Region::all());
    let lengths: Vec<_> =
        (0..4).map(|at| scan.next(&store, at, 1, u64::MAX).unwrap().0.event(0).payload().len()).collect();
    assert_eq!(lengths, [5, 3 << 20, 5, 3 << 20]);
}

/// A disk whose unsynced segment headers are lost, and nothing else.
fn crash_without_headers(disk: &SimStorage) -> SimStorage {
    disk.crash_with(&mut |change| match change.kind {
        ChangeKind::Write { offset: 0, length: 128 } => Fate::Lost,
        _ => Fate::Kept,
    })
}

/// Guards: an opening that leaves a full segment at once writes its EPOCH frame behind a header that is not durable. The frame
/// without the header was taken for damage, for ever.
#[test]
fn an_epoch_is_not_begun_behind_a_header_that_is_not_durable() {
    let steps = |disk: &SimStorage| {
        let store = Store::open(Path::new("/s"), &sim(disk))?;
        store.append(&[event("a", &vec![1; 1_000_000])], None, &mut [])?;
        store.close(SECOND)?;
        let store = Store::open(Path::new("/s"), &sim(disk))?;
        store.append(&[event("a", &vec![2; 400_000])], Some(Durability::Process), &mut [])?;
        store.close(SECOND)
    };
    let disk = SimStorage::new(1);
    steps(&disk).unwrap();
    for operation in 0..disk.operations() {
        let disk = SimStorage::new(operation);
        disk.crash_at(operation);
        let _ = steps(&disk);
        let crashed = crash_without_headers(&disk);
        Store::open(Path::new("/s"), &sim(&crashed)).unwrap_or_else(|error| panic!("{operation}: {error}"));
    }
}

/// Guards: several segments left before any sync (appends are faster than the helper), and the power fails: a middle one without
/// its header stood between the log and its opening.
#[test]
fn a_lost_header_between_segments_is_a_cut() {
    let disk = SimStorage::new(1);
    let store = Store::open(Path::new("/s"), &StoreOptions { helper_thread: true, ..sim(&disk) }).unwrap();
    store.append(&[event("a", b"kept")], None, &mut []).unwrap();
    // A helper that does nothing stands for one that has not come to it yet.
    store.inner.helper.stop();
    for at in 0..12 {
        store.append(&[event("a", &vec![at; 400_000])], Some(Durability::Process), &mut []).unwrap();
    }
    let headers = |disk: &SimStorage| {
        disk.pending()
            .iter()
            .filter(|change| matches!(change.kind, ChangeKind::Write { offset: 0, length: 128 }))
            .count()
    };
    assert!(headers(&disk) > 3);
    let mut ends = Vec::new();
    for lost in 0..headers(&disk) {
        let mut header = 0;
        let crashed = disk.crash_with(&mut |change| match change.kind {
            ChangeKind::Write { offset: 0, length: 128 } => {
                header += 1;
                if header == lost + 1 { Fate::Lost } else { Fate::Kept }
            }
            _ => Fate::Kept,
        });
        let opened = Store::open(Path::new("/s"), &sim(&crashed)).unwrap_or_else(|error| panic!("{lost}: {error}"));
        let all = read(&opened, &Region::all());
        assert!(all.iter().skip(1).enumerate().all(|(at, event)| event.3 == vec![at as u8; 400_000]));
        assert_eq!(opened.stats().cut_bytes > 0, all.len() < 13, "{lost}");
        ends.push(all.len());
    }
    ends.sort_unstable();
    ends.dedup();
    // Two of these fit a segment. Where the zeros that a header was written over are what is lost, nothing is.
    assert_eq!(ends, [3, 5, 7, 9, 11, 13]);
}

/// Guards: the header of the newest segment rots after an unclean stop; the segment was taken for one that never came to be, and
/// removed with everything that was acknowledged in it.
#[test]
fn a_rotten_header_never_removes_a_segment() {
    for rotations in [0, 1] {
        let disk = SimStorage::new(1);
        let store = Store::open(Path::new("/s"), &sim(&disk)).unwrap();
        for _ in 0..rotations * 3 {
            store.append(&[event("a", &vec![1; 400_000])], None, &mut []).unwrap();
        }
        store.append(&[event("a", b"one")], None, &mut []).unwrap();
        store.append(&[event("a", b"two")], None, &mut []).unwrap();
        store.append(&[event("a", b"three")], None, &mut []).unwrap();
        let newest = store.inner.segments().last().unwrap().data.path().to_owned();
        for offset in 0..128 {
            let rotten = disk.crash_keep_all();
            rotten.flip(&newest, offset, 1);
            let error = match Store::open(Path::new("/s"), &sim(&rotten)) {
                Err(error) => error,
                Ok(store) => {
                    panic!("byte {offset}, {rotations} rotations: {} events left", store.watermarks().appended)
                }
            };
            let named = error.to_string().contains(&newest.display().to_string());
            assert!(named, "byte {offset}: {error}");
        }
    }
}

/// Guards: the helper prepares the next segment's file while an append that cannot wait makes one itself. They had one name, and so
/// one file: the helper's zeros went over acknowledged events.
#[test]
fn the_helper_never_writes_to_a_segment_that_an_append_made() {
    let disk = SimStorage::new(1);
    let gate = Arc::new(Gate::default());
    let storage = Arc::new(GatedStorage { disk: disk.clone(), gate: gate.clone(), at: At::HelperWrite });
    let store = Store::open(Path::new("/s"), &StoreOptions { helper_thread: true, storage, ..sim(&disk) }).unwrap();
    let mut appended = 0;
    let mut append = || {
        store.append(&[event("a", &[appended as u8; 60_000])], None, &mut []).unwrap();
        appended += 1;
    };
    while !gate.is_reached() {
        append();
        std::thread::sleep(Duration::from_millis(1));
    }
    let segments = store.stats().segments;
    while store.stats().segments == segments {
        append();
    }
    append();
    append();
    gate.open();
    while !gate.is_passed() {
        std::thread::sleep(Duration::from_millis(1));
    }
    append();
    let all = read(&store, &Region::all());
    assert!(all.len() as u64 == appended && all.iter().all(|event| event.3 == [event.0 as u8; 60_000]));
    store.close(SECOND).unwrap();
    let store = Store::open(Path::new("/s"), &sim(&disk)).unwrap();
    assert_eq!(read(&store, &Region::all()).len() as u64, appended);
}
