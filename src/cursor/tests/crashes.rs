//! Power losses, kills and failing operations: a consumer skips nothing, and repeats only what it did not checkpoint.

use super::*;
use crate::io::sim::{Fate, Interrupted, Operation, Repeat};

/// A consumer of `wanted` between events of `noise`, with all that was acknowledged to its caller.
#[derive(Default)]
struct Consumed {
    /// Acknowledged appends.
    appended: u64,
    /// Acknowledged checkpoint: the next sequence.
    committed: u64,
    /// What a checkpoint that failed or was cut short may have committed.
    attempted: u64,
}

fn region() -> Region {
    Region::all().with_entity("wanted")
}

/// Appends, polls and checkpoints until done or until the disk stops.
fn run(disk: &SimStorage, durability: Durability, consumed: &mut Consumed) -> Result<()> {
    let store = Store::open(Path::new(DATA), &options(disk))?;
    let cursor = Cursor::open(&store, region(), &with_checkpoint("c"))?;
    for round in 0..3 {
        for entity in ["noise", "wanted", "noise"] {
            try_append(&store, entity, format!("{round}").as_bytes(), durability)?;
            consumed.appended += 1;
        }
        cursor.poll(2, 0, PollTimeout::Never)?;
        cursor.poll(2, 0, PollTimeout::Never)?;
        consumed.attempted = cursor.position()?.next_sequence;
        cursor.checkpoint()?;
        consumed.committed = consumed.attempted;
    }
    store.close(Duration::from_secs(9))
}

/// Opens what a crash left: everything acknowledged as committed is behind the cursor, everything else comes.
fn check_after(disk: &SimStorage, consumed: &Consumed, what: &str) {
    let store = open_store(disk);
    let cursor =
        Cursor::open(&store, region(), &with_checkpoint("c")).unwrap_or_else(|error| panic!("{what}: {error}"));
    let next = cursor.position().unwrap().next_sequence;
    assert!(next == consumed.committed || next == consumed.attempted, "{what}: resumed at {next}");
    // New events take the sequences of the lost ones: those too must come.
    let end = store.watermarks().visible;
    for entity in ["wanted", "noise", "wanted"] {
        append(&store, entity);
    }
    let expected: Vec<u64> = (next..end).filter(|sequence| sequence % 3 == 1).chain([end, end + 2]).collect();
    assert_eq!(drain(&cursor), expected, "{what}: log of {end}, resumed at {next}");
    cursor.checkpoint().unwrap();
    drop(cursor);
    store.close(Duration::from_secs(9)).unwrap();
}

fn crash_everywhere(durability: Durability) {
    let counting = SimStorage::new(0);
    run(&counting, durability, &mut Consumed::default()).unwrap();
    for operation in 0..=counting.operations() {
        let disk = SimStorage::new(operation);
        disk.crash_at(operation);
        let mut consumed = Consumed::default();
        let _ = run(&disk, durability, &mut consumed);
        check_after(&disk.crash_keep_all(), &consumed, &format!("killed at {operation}"));
        for seed in 0..12 {
            check_after(&disk.crash(seed), &consumed, &format!("power lost at {operation}, seed {seed}"));
        }
        check_after(&disk.crash_with(&mut |_| Fate::Lost), &consumed, &format!("all unsynced lost at {operation}"));
    }
}

#[test]
fn a_crash_at_any_operation_skips_nothing() {
    crash_everywhere(Durability::Storage);
}

/// C2: the checkpoint is never ahead of the log, not even where the log promises nothing across a power loss. That holds
/// for the scanned bound too: sequences lost above the position and given to matching events must be seen.
#[test]
fn a_checkpoint_makes_the_log_durable_first() {
    crash_everywhere(Durability::Process);
}

/// The same, where the position is durable and only the scan has gone on.
#[test]
fn a_scanned_bound_is_not_saved_before_the_log_below_it_is_durable() {
    let disk = SimStorage::new(5);
    let store = open_store(&disk);
    append(&store, "wanted");
    let cursor = Cursor::open(&store, region(), &with_checkpoint("c")).unwrap();
    assert_eq!(poll(&cursor, 9), [0]);
    cursor.checkpoint().unwrap();
    (0..5).for_each(|_| try_append(&store, "noise", b"x", Durability::Process).unwrap());
    assert_eq!(poll(&cursor, 9), []);
    cursor.checkpoint().unwrap();
    let store = open_store(&disk.crash_with(&mut |_| Fate::Lost));
    let end = store.watermarks().visible;
    append(&store, "wanted");
    let cursor = Cursor::open(&store, region(), &with_checkpoint("c")).unwrap();
    assert_eq!(poll(&cursor, 9), [end]);
}

#[test]
fn a_checkpoint_that_fails_moves_nothing_and_the_next_one_succeeds() {
    for operation in [Operation::Create, Operation::Write, Operation::Sync, Operation::Rename, Operation::SyncDirectory]
    {
        for nth in 0..2 {
            let disk = SimStorage::new(3);
            let store = open_store(&disk);
            (0..4).for_each(|_| append(&store, "wanted"));
            let cursor = Cursor::open(&store, region(), &with_checkpoint("c")).unwrap();
            poll(&cursor, 1);
            cursor.checkpoint().unwrap();
            poll(&cursor, 1);
            disk.fail(operation, nth, libc::EIO, Repeat::Once);
            let failed = cursor.checkpoint();
            if nth == 0 {
                assert!(matches!(failed, Err(Error::Io { os_errno: libc::EIO, .. })), "{operation:?}: {failed:?}");
                assert_eq!(cursor.position().unwrap().committed, Some(0), "{operation:?}");
            }
            disk.heal();
            cursor.checkpoint().unwrap();
            assert_eq!(cursor.position().unwrap().committed, Some(1));
            let disk = disk.crash_with(&mut |_| Fate::Lost);
            let cursor = Cursor::open(&open_store(&disk), region(), &with_checkpoint("c")).unwrap();
            assert_eq!(drain(&cursor), [2, 3], "{operation:?}");
        }
    }
}

/// A directory whose entry was lost by a failed sync would take every later checkpoint with it.
#[test]
fn a_failed_sync_of_the_data_directory_is_not_tried_again() {
    let disk = SimStorage::new(3);
    let store = open_store(&disk);
    append(&store, "wanted");
    let cursor = Cursor::open(&store, region(), &with_checkpoint("c")).unwrap();
    poll(&cursor, 1);
    disk.fail(Operation::SyncDirectory, 0, libc::EIO, Repeat::Once);
    assert!(cursor.checkpoint().is_err());
    assert!(cursor.checkpoint().is_err());
    assert_eq!(cursor.position().unwrap().committed, None);
}

/// Found by row R6, workload 3 of its list with the seventh sync of a directory failing: the sync that was to make the entry of `cursors`
/// durable failed, the next consumer found the directory, synced it with success, and lost what it was told is durable.
#[test]
fn a_directory_that_was_made_without_its_sync_takes_no_checkpoint() {
    let disk = SimStorage::new(3);
    let store = open_store(&disk);
    append(&store, "wanted");
    disk.fail(Operation::SyncDirectory, 0, libc::EIO, Repeat::Once);
    assert!(Cursor::open(&store, region(), &with_checkpoint("c")).is_err());
    for id in ["c", "d"] {
        let cursor = Cursor::open(&store, region(), &with_checkpoint(id)).unwrap();
        poll(&cursor, 1);
        assert!(cursor.checkpoint().is_err(), "{id}");
    }
    // A directory that could not be made is made the next time.
    let disk = SimStorage::new(3);
    let store = open_store(&disk);
    append(&store, "wanted");
    disk.fail(Operation::CreateDirectory, 0, libc::ENOSPC, Repeat::Once);
    assert!(Cursor::open(&store, region(), &with_checkpoint("c")).is_err());
    let cursor = Cursor::open(&store, region(), &with_checkpoint("c")).unwrap();
    poll(&cursor, 1);
    cursor.checkpoint().unwrap();
    let store = open_store(&disk.crash_with(&mut |_| Fate::Lost));
    assert_eq!(drain(&Cursor::open(&store, region(), &with_checkpoint("c")).unwrap()), []);
}

/// Found by row R2 with seed 0xC0FFEE (life 0xC10A54): a kill came between the rename of a checkpoint and the sync of its directory. The next
/// consumer resumed there, and a checkpoint of the same place wrote nothing and said that it was durable.
#[test]
fn a_checkpoint_of_the_place_that_a_kill_left_is_made_durable() {
    let leave = |stop: u64| {
        let disk = SimStorage::new(3);
        disk.crash_within(stop, Interrupted::Before);
        let store = open_store(&disk);
        append(&store, "wanted");
        let cursor = Cursor::open(&store, region(), &with_checkpoint("c")).unwrap();
        poll(&cursor, 1);
        let _ = cursor.checkpoint();
        (disk.operations(), disk.crash_keep_all())
    };
    let (operations, _) = leave(u64::MAX);
    let (_, killed) = leave(operations - 1);
    let store = open_store(&killed);
    let cursor = Cursor::open(&store, region(), &with_checkpoint("c")).unwrap();
    assert_eq!(cursor.position().unwrap().next_sequence, 1);
    cursor.checkpoint().unwrap();
    let store = open_store(&killed.crash_with(&mut |_| Fate::Lost));
    assert_eq!(drain(&Cursor::open(&store, region(), &with_checkpoint("c")).unwrap()), []);
}

#[test]
fn a_full_disk_is_named_and_leaves_the_checkpoint_whole() {
    let disk = SimStorage::new(3);
    let store = open_store(&disk);
    (0..4).for_each(|_| append(&store, "wanted"));
    let cursor = Cursor::open(&store, region(), &with_checkpoint("c")).unwrap();
    poll(&cursor, 2);
    cursor.checkpoint().unwrap();
    poll(&cursor, 2);
    disk.fail_short(0, 7, libc::ENOSPC, Repeat::Once);
    assert!(matches!(cursor.checkpoint(), Err(Error::DiskFull { .. })));
    assert_eq!(disk.contents(Path::new("/data/cursors/.c.tmp")), None, "space is given back");
    cursor.rewind().unwrap();
    assert_eq!(drain(&cursor), [2, 3]);
    drop(cursor);
    let cursor = Cursor::open(&store, region(), &with_checkpoint("c")).unwrap();
    assert_eq!(drain(&cursor), [2, 3]);
}

/// The bug: a kill between renaming a checkpoint and syncing its name leaves a position that the next life resumes at and takes for
/// saved, so that its checkpoint there is acknowledged without a sync; a power loss then takes it back. Found by R19.
#[test]
fn a_position_that_was_resumed_and_acknowledged_survives_a_power_loss() {
    let begin = |disk: &SimStorage| {
        let store = open_store(disk);
        (0..4).for_each(|_| append(&store, "wanted"));
        let cursor = durable_cursor(&store, "c");
        poll(&cursor, 1);
        cursor.checkpoint().unwrap();
        poll(&cursor, 1);
        (store, cursor)
    };
    let counting = SimStorage::new(7);
    let (_store, cursor) = begin(&counting);
    let first = counting.operations();
    cursor.checkpoint().unwrap();
    for operation in first..counting.operations() {
        let disk = SimStorage::new(7);
        let (_store, cursor) = begin(&disk);
        disk.crash_at(operation);
        let _ = cursor.checkpoint();
        let killed = disk.crash_keep_all();
        let store = open_store(&killed);
        let cursor = durable_cursor(&store, "c");
        let resumed = cursor.position().unwrap().next_sequence;
        cursor.checkpoint().unwrap();
        let store = open_store(&killed.crash_with(&mut |_| Fate::Lost));
        let found = durable_cursor(&store, "c").position().unwrap().next_sequence;
        assert_eq!(found, resumed, "stopped at operation {}", operation - first);
    }
}
