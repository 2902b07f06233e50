//! Defects of conditional appends and fences.

use super::*;

type Events = Vec<(u64, EventId)>;

/// Sequence and id of every event that is delivered, and the gaps on the way.
fn delivered(store: &Store) -> (Events, Vec<(u64, u64)>) {
    let cursor =
        Cursor::open(store, Region::all(), &CursorOptions { gap_capacity: 1000, ..CursorOptions::default() }).unwrap();
    let mut all = Vec::new();
    while let Polled::Batch(batch) = cursor.poll(3, 0, PollTimeout::Never).unwrap() {
        all.extend(batch.iter().map(|event| (event.sequence(), event.id())));
    }
    let gaps = cursor.take_gaps().unwrap();
    (all, gaps.gaps.iter().flat_map(|gap| gap.cancelled.iter().map(|range| (range.start, range.end))).collect())
}

/// Guards: sequences are given anew when the log is rewritten (here: sealed, reopened, recovered, its indexes made anew); a consumer skips,
/// and cancelled ranges point at other events.
#[test]
fn regression_02_sequences_and_cancelled_ranges_stay_what_they_are() {
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    let (mut live, mut cancelled) = (Vec::new(), Vec::new());
    for round in 0..12 {
        let fence = store.begin_fence(&FenceOptions::default()).unwrap();
        for part in 0..2 {
            let mut receipts = [Receipt::default(); 2];
            let payload = vec![round; 60_000];
            fence.append(&[event("fenced", &payload), event("fenced", b"")], &mut receipts).unwrap();
            let list = if round % 3 == 0 { &mut live } else { &mut cancelled };
            list.extend(receipts.map(|receipt| (receipt.sequence, receipt.id)));
            if part == 0 {
                store.append(&[event("free", &payload)], Some(Durability::Process), &mut receipts[..1]).unwrap();
                live.push((receipts[0].sequence, receipts[0].id));
            }
        }
        if round % 3 == 0 { fence.commit(None).unwrap() } else { fence.cancel().unwrap() }
    }
    append(&store, "free", b"last", Durability::Storage).unwrap();
    live.sort_unstable_by_key(|event| event.0);
    let check = |store: &Store, what: &str| {
        let (all, ranges) = delivered(store);
        assert_eq!(all[..live.len()], live[..], "{what}");
        let gone: Vec<u64> = ranges.iter().flat_map(|&(start, end)| start..end).collect();
        assert_eq!(gone, cancelled.iter().map(|event| event.0).collect::<Vec<_>>(), "{what}");
        for (sequence, id) in &cancelled {
            assert!(store.get(*sequence).unwrap().is_none() && store.get_by_id(*id).unwrap().is_none(), "{what}");
        }
    };
    check(&store, "as appended");
    assert!(store.stats().segments >= 3);
    let killed = disk.crash_keep_all();
    check(&open_sim(&killed), "killed");
    check(&open_sim(&disk.crash_with(&mut |_| Fate::Lost)), "the power failed");
    store.close(SECOND).unwrap();
    drop(store);
    for without_indexes in [false, true] {
        let disk = disk.crash_keep_all();
        if without_indexes {
            let directory = Path::new(AT).join("segments");
            for entry in disk.list(&directory).unwrap().unwrap() {
                if entry.name.ends_with(".idx") {
                    disk.remove(&directory.join(entry.name)).unwrap();
                }
            }
        }
        for read_only in [true, false] {
            let store = Store::open(Path::new(AT), &StoreOptions { read_only, ..sim(&disk) }).unwrap();
            check(&store, &format!("reopened, without indexes: {without_indexes}, read-only: {read_only}"));
        }
    }
}

/// Guards: a fence's events are durable, by another's sync, and its commit is not. A sync, a wait for durable, a duplicate or a checkpoint
/// then acknowledged what a power loss cancelled.
#[test]
fn what_is_acknowledged_as_durable_is_of_fences_whose_commit_is() {
    for way in 0..4 {
        let disk = SimStorage::new(1);
        let store = open_sim(&disk);
        let fenced = [NewEvent { key: b"0123456789abcdef", ..event("fenced", b"fenced") }];
        let fence = store.begin_fence(&FenceOptions::default()).unwrap();
        fence.append(&fenced, &mut []).unwrap();
        append(&store, "free", b"free", Durability::Storage).unwrap();
        fence.commit(Some(Durability::Process)).unwrap();
        assert_eq!(payloads(&open_sim(&disk.crash_with(&mut |_| Fate::Lost))), [b"free"]);
        match way {
            0 => store.sync().unwrap(),
            1 => assert_eq!(store.wait(Watermark::Durable, 2, Some(SECOND)).unwrap(), Waited::Reached),
            2 => {
                let mut receipts = [Receipt::default()];
                store.append(&fenced, Some(Durability::Storage), &mut receipts).unwrap();
                assert!(receipts[0].duplicate && receipts[0].durability == Some(Durability::Storage));
            }
            _ => {
                let cursor = consumer(&store, "reader").unwrap();
                assert_eq!(poll(&cursor, 9), [0, 1]);
                cursor.checkpoint().unwrap();
            }
        }
        let found = payloads(&open_sim(&disk.crash_with(&mut |_| Fate::Lost)));
        assert_eq!(found, [&b"fenced"[..], b"free"], "way {way}");
    }
}

/// Guards: without the helper thread nobody ended a fence whose time was over while readers waited behind it: they waited for ever.
#[test]
fn who_waits_ends_the_fence_that_nobody_watches() {
    for begun_before in [true, false] {
        let disk = SimStorage::new(1);
        let store = open_sim(&disk);
        let begin = || {
            let fence = store.begin_fence(&FenceOptions { timeout: Duration::from_millis(60) }).unwrap();
            fence.append(&[event("fenced", b"")], &mut []).unwrap();
            append(&store, "free", b"behind", Durability::Process).unwrap();
            fence
        };
        let cursor = Cursor::open(&store, Region::all(), &CursorOptions::default()).unwrap();
        let early = begun_before.then(begin);
        let late = std::thread::scope(|scope| {
            let polling = scope.spawn(|| cursor.poll(9, 0, PollTimeout::For(60 * SECOND)));
            let waiting = scope.spawn(|| store.wait(Watermark::Visible, 2, Some(60 * SECOND)));
            let late = (!begun_before).then(|| {
                std::thread::sleep(Duration::from_millis(20));
                begin()
            });
            assert_eq!(waiting.join().unwrap().unwrap(), Waited::Reached);
            let Polled::Batch(batch) = polling.join().unwrap().unwrap() else { panic!("no event") };
            assert_eq!(batch.iter().map(|event| event.sequence()).collect::<Vec<_>>(), [1]);
            late
        });
        let fence = early.or(late).unwrap();
        assert!(matches!(fence.commit(None), Err(Error::FenceExpired { .. })));
    }
}
