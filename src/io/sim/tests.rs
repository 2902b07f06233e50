//! The simulated disk keeps to its fault model: what it promises to lose is sometimes lost, and nothing else ever.

use super::*;
use std::collections::BTreeSet;

const FILE: &str = "/file";

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn synced_file(storage: &SimStorage, bytes: &[u8]) -> Arc<dyn File> {
    let file = storage.create(path(FILE)).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    storage.sync_directory(path("/")).unwrap();
    file
}

/// The different contents of a file after many power losses; `None` where the file is gone.
fn survivors(storage: &SimStorage, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..2000).map(|seed| storage.crash(seed).contents(path(name))).collect()
}

fn set<const N: usize>(contents: [Option<&[u8]>; N]) -> BTreeSet<Option<Vec<u8>>> {
    contents.into_iter().map(|bytes| bytes.map(<[u8]>::to_vec)).collect()
}

#[test]
fn what_was_synced_survives_every_crash() {
    let storage = SimStorage::new(1);
    synced_file(&storage, b"synced");
    assert!(storage.pending().is_empty());
    assert_eq!(survivors(&storage, FILE), set([Some(b"synced")]));
}

#[test]
fn an_unsynced_creation_may_be_lost_with_its_synced_bytes() {
    let storage = SimStorage::new(1);
    let file = storage.create(path(FILE)).unwrap();
    file.write_at(b"synced", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(survivors(&storage, FILE), set([None, Some(b"synced")]));
}

#[test]
fn unsynced_bytes_of_a_durable_name_may_be_lost() {
    let storage = SimStorage::new(1);
    let file = storage.create(path(FILE)).unwrap();
    storage.sync_directory(path("/")).unwrap();
    file.write_at(b"x", 0).unwrap();
    let found = survivors(&storage, FILE);
    assert!(found.contains(&Some(vec![])) && found.contains(&Some(b"x".to_vec())));
    assert!(found.contains(&Some(vec![0])), "grown with zeros");
    assert!(found.contains(&Some(vec![0; 4096])), "grown to the end of the block");
    assert!(!found.contains(&None));
}

#[test]
fn later_writes_may_survive_earlier_ones() {
    let storage = SimStorage::new(1);
    let file = synced_file(&storage, b"..");
    file.write_at(b"1", 0).unwrap();
    file.write_at(b"2", 1).unwrap();
    let short =
        survivors(&storage, FILE).into_iter().flatten().filter(|bytes| bytes.len() == 2).collect::<BTreeSet<_>>();
    assert_eq!(short, [*b"..", *b"1.", *b".2", *b"12"].map(|bytes| bytes.to_vec()).into());
}

#[test]
fn writes_are_torn_at_units_that_lie_in_the_file() {
    let storage = SimStorage::new(1);
    let file = synced_file(&storage, &[0; 16_384]);
    file.write_at(&[1; 12_000], 300).unwrap();
    let mut units = [false; 2];
    for bytes in survivors(&storage, FILE).into_iter().flatten() {
        let written = &bytes[300..12_300];
        let edges = (1..written.len()).filter(|n| written[*n] != written[n - 1]).map(|n| n + 300);
        for edge in edges {
            assert_eq!(edge % 512, 0, "torn within a sector");
            units[usize::from(edge % 4096 == 0)] = true;
        }
        assert!(bytes[..300].iter().chain(&bytes[12_300..]).all(|byte| *byte == 0), "damage beside the write");
    }
    assert_eq!(units, [true, true], "both kinds of tear occur");
}

#[test]
fn a_cut_may_be_lost() {
    let storage = SimStorage::new(1);
    let file = synced_file(&storage, b"12345");
    file.set_length(2).unwrap();
    let found = survivors(&storage, FILE);
    assert!(found.contains(&Some(b"12345".to_vec())) && found.contains(&Some(b"12".to_vec())));
}

#[test]
fn emptying_by_creation_is_a_change_of_length() {
    let storage = SimStorage::new(1);
    synced_file(&storage, b"12345");
    storage.create(path(FILE)).unwrap();
    let found = survivors(&storage, FILE);
    assert!(found.contains(&Some(b"12345".to_vec())) && found.contains(&Some(vec![])) && !found.contains(&None));
}

#[test]
fn a_mapped_store_is_pending_until_the_files_sync() {
    let storage = SimStorage::new(1);
    let file = synced_file(&storage, &[b'.'; 8]);
    let map = file.map_tail(4096).unwrap();
    map.store(b"m", 3);
    let found = survivors(&storage, FILE);
    assert!(found.contains(&Some(b"........".to_vec())) && found.contains(&Some(b"...m....".to_vec())));
    file.sync_data().unwrap();
    assert_eq!(survivors(&storage, FILE), set([Some(b"...m....")]));
}

#[test]
#[should_panic(expected = "SIGBUS")]
fn a_mapped_store_to_a_hole_is_a_bus_error() {
    let storage = SimStorage::new(1);
    let file = storage.create(path(FILE)).unwrap();
    file.set_length(8192).unwrap();
    file.map_tail(8192).unwrap().store(b"x", 0);
}

#[test]
fn a_rename_is_one_step_whatever_came_before() {
    let storage = SimStorage::new(1);
    synced_file(&storage, b"old");
    let fresh = storage.create(path("/temporary")).unwrap();
    fresh.write_at(b"new", 0).unwrap();
    fresh.sync_data().unwrap();
    storage.rename(path("/temporary"), path(FILE)).unwrap();
    let states: BTreeSet<_> = (0..500)
        .map(|seed| storage.crash(seed))
        .map(|after| (after.contents(path("/temporary")), after.contents(path(FILE))))
        .collect();
    let old = Some(b"old".to_vec());
    let new = Some(b"new".to_vec());
    assert_eq!(states, BTreeSet::from([(None, old.clone()), (new.clone(), old), (None, new)]));
}

#[test]
fn an_inode_never_has_two_names() {
    let storage = SimStorage::new(1);
    synced_file(&storage, b"x");
    storage.rename(path(FILE), path("/b")).unwrap();
    storage.rename(path("/b"), path("/c")).unwrap();
    storage.remove(path("/c")).unwrap();
    storage.create(path(FILE)).unwrap();
    for seed in 0..2000 {
        let after = storage.crash(seed);
        let with_bytes = [FILE, "/b", "/c"].iter().filter(|name| after.contents(path(name)) == Some(b"x".to_vec()));
        assert!(with_bytes.count() <= 1);
    }
}

#[test]
fn a_removal_may_be_lost() {
    let storage = SimStorage::new(1);
    synced_file(&storage, b"x");
    storage.remove(path(FILE)).unwrap();
    assert_eq!(survivors(&storage, FILE), set([None, Some(b"x")]));
    storage.sync_directory(path("/")).unwrap();
    assert_eq!(survivors(&storage, FILE), set([None]));
}

#[test]
fn making_directories_makes_them_durable_but_for_a_crash_within() {
    let storage = SimStorage::new(1);
    storage.create_directory(path("/a/b")).unwrap();
    assert!(storage.pending().is_empty());

    // Two directories, each made and then synced: the crash comes upon the second one's sync.
    let interrupted = SimStorage::new(1);
    interrupted.crash_at(3);
    assert!(interrupted.create_directory(path("/a/b")).is_err());
    let lists = (0..100).map(|seed| interrupted.crash(seed).list(path("/a")).unwrap().unwrap().len());
    assert_eq!(lists.collect::<BTreeSet<_>>(), BTreeSet::from([0, 1]));
}

#[test]
fn a_failed_sync_drops_changes_that_no_later_sync_brings_back() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let storage = SimStorage::new(seed);
        let file = synced_file(&storage, b"..");
        storage.fail(Operation::Sync, 0, libc::EIO, Repeat::Once);
        file.write_at(b"1", 0).unwrap();
        assert_eq!(file.sync_data().unwrap_err().os_errno(), libc::EIO);
        file.write_at(b"2", 1).unwrap();
        file.sync_data().unwrap();
        assert_eq!(storage.contents(path(FILE)).unwrap(), b"12", "the page cache has it all");
        outcomes.extend(survivors(&storage, FILE));
    }
    assert_eq!(outcomes, set([Some(b".2"), Some(b"12")]));
}

#[test]
fn a_failed_directory_sync_drops_entries() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let storage = SimStorage::new(seed);
        storage.create(path(FILE)).unwrap();
        storage.fail(Operation::SyncDirectory, 0, libc::EIO, Repeat::Once);
        assert!(storage.sync_directory(path("/")).is_err());
        storage.sync_directory(path("/")).unwrap();
        outcomes.insert(storage.crash(seed).contents(path(FILE)).is_some());
    }
    assert_eq!(outcomes, BTreeSet::from([false, true]));
}

#[test]
fn a_kill_keeps_the_page_cache_and_leaves_it_unsynced() {
    let storage = SimStorage::new(1);
    let file = storage.create(path(FILE)).unwrap();
    file.write_at(b"cached", 0).unwrap();
    let killed = storage.crash_keep_all();
    assert_eq!(killed.contents(path(FILE)).unwrap(), b"cached");
    assert_eq!(killed.pending(), storage.pending());
    assert!(survivors(&killed, FILE).contains(&None));
}

#[test]
fn a_crash_frees_the_locks_and_leaves_the_old_disk_alone() {
    let storage = SimStorage::new(1);
    let held = storage.lock(path("/"), LockMode::Exclusive, false).unwrap();
    for after in [storage.crash(1), storage.crash_keep_all()] {
        assert!(after.lock(path("/"), LockMode::Exclusive, false).unwrap().is_some());
        after.create(path(FILE)).unwrap();
    }
    assert!(storage.lock(path("/"), LockMode::Exclusive, false).unwrap().is_none());
    assert!(storage.contents(path(FILE)).is_none());
    drop(held);
}

#[test]
fn the_nth_operation_of_a_kind_fails_once_or_for_ever() {
    let storage = SimStorage::new(1);
    let file = storage.create(path(FILE)).unwrap();
    storage.fail(Operation::Write, 1, libc::ENOSPC, Repeat::Once);
    file.write_at(b"a", 0).unwrap();
    assert!(matches!(file.write_at(b"b", 1), Err(Error::DiskFull { .. })));
    file.write_at(b"c", 2).unwrap();
    storage.fail(Operation::Read, 0, libc::EIO, Repeat::Forever);
    assert!((0..3).all(|_| file.read_at(&mut [0], 0).is_err()));
    storage.heal();
    assert_eq!(storage.contents(path(FILE)).unwrap(), b"a\0c");
    assert!(file.read_at(&mut [0], 0).is_ok());
}

#[test]
fn a_short_write_leaves_its_first_bytes() {
    let storage = SimStorage::new(1);
    let file = storage.create(path(FILE)).unwrap();
    storage.fail_short(0, 3, libc::ENOSPC, Repeat::Once);
    assert!(file.write_at(b"12345", 0).is_err());
    assert_eq!(storage.contents(path(FILE)).unwrap(), b"123");
}

#[test]
fn every_kind_of_operation_can_fail() {
    for operation in Operation::ALL.into_iter().filter(|operation| *operation != Operation::Store) {
        let storage = SimStorage::new(1);
        let file = storage.create(path(FILE)).unwrap();
        storage.fail(operation, 0, libc::EMFILE, Repeat::Forever);
        let failures = [
            storage.open_read(path(FILE)).is_err(),
            storage.list(path("/")).is_err(),
            storage.lock(path("/"), LockMode::Shared, false).is_err(),
            file.read_at(&mut [0], 0).is_err(),
            file.map_tail(4096).is_err(),
            storage.create_directory(path("/directory")).is_err(),
            storage.create(path("/other")).is_err(),
            storage.rename(path("/other"), path("/third")).is_err(),
            storage.remove(path("/third")).is_err(),
            storage.sync_directory(path("/")).is_err(),
            file.write_at(b"x", 0).is_err(),
            file.set_length(0).is_err(),
            file.sync_data().is_err(),
        ];
        assert!(failures.iter().any(|failed| *failed), "{operation:?} did not fail");
    }
}

#[test]
fn at_the_crash_point_everything_stops() {
    let mut left = BTreeSet::new();
    for seed in 0..100 {
        let storage = SimStorage::new(seed);
        let file = synced_file(&storage, &[b'.'; 8]);
        let map = file.map_tail(4096).unwrap();
        storage.crash_at(storage.operations());
        assert!(!storage.is_crashed());
        assert_eq!(file.write_at(b"12345678", 0).unwrap_err().os_errno(), libc::EIO);
        assert!(storage.is_crashed());
        map.store(b"late", 0);
        assert!(file.read_at(&mut [0], 0).is_err() && file.sync_data().is_err() && file.length().is_err());
        assert!(storage.create(path("/late")).is_err() && storage.list(path("/")).is_err());
        assert!(storage.lock(path("/"), LockMode::Exclusive, true).is_err());
        left.insert(storage.crash_keep_all().contents(path(FILE)).unwrap());
    }
    assert!(left.contains(&b"........"[..]) && left.contains(&b"12345678"[..]) && left.contains(&b"123....."[..]));
}

#[test]
fn operations_are_numbered_and_changes_name_theirs() {
    let storage = SimStorage::new(1);
    let file = storage.create(path(FILE)).unwrap();
    file.write_at(b"x", 0).unwrap();
    file.set_length(4).unwrap();
    assert_eq!(storage.operations(), 3);
    let numbers: Vec<u64> = storage.pending().iter().map(|change| change.operation).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn a_chosen_crash_does_what_was_chosen() {
    let storage = SimStorage::new(1);
    let file = synced_file(&storage, b"..");
    file.write_at(b"1", 0).unwrap();
    file.write_at(b"2", 1).unwrap();
    let second = storage.pending()[1].clone();
    let after = storage.crash_with(&mut |change| if *change == second { Fate::Kept } else { Fate::Lost });
    assert_eq!(after.contents(path(FILE)).unwrap(), b".2");
}

#[test]
fn the_same_seeds_give_the_same_disk() {
    let run = |seed: u64| {
        let storage = SimStorage::new(seed);
        let file = synced_file(&storage, b"");
        for block in 0..20 {
            file.write_at(&[block as u8; 3000], block * 1000).unwrap();
        }
        (0..50).map(|crash| storage.crash(crash).fingerprint()).collect::<Vec<_>>()
    };
    assert_eq!(run(5), run(5));
    assert!(run(5).into_iter().collect::<BTreeSet<_>>().len() > 20, "crashes differ");
}

#[test]
fn rot_is_durable() {
    let storage = SimStorage::new(1);
    synced_file(&storage, b"abc");
    storage.flip(path(FILE), 1, 0x01);
    assert_eq!(survivors(&storage, FILE), set([Some(b"acc")]));
}

/// Guards: the harness cannot afford its crash images. A 4 MiB zeroed tail costs next to nothing to crash.
#[test]
fn a_crash_of_a_prepared_tail_is_cheap() {
    let storage = SimStorage::new(1);
    let file = synced_file(&storage, &vec![0; 4 << 20]);
    file.write_at(&[1; 200], 100).unwrap();
    let started = std::time::Instant::now();
    let images: BTreeSet<u64> = (0..1000).map(|seed| storage.crash(seed).fingerprint()).collect();
    assert!(images.len() >= 2);
    assert!(started.elapsed().as_secs() < 10, "1000 crashes took {:?}", started.elapsed());
}
