//! What every implementation of the traits must do, run on the operating system's and on the simulated one.
//!
//! Each case gets a storage and an empty directory in it.

use std::path::Path;

use super::os::OsStorage;
use super::sim::SimStorage;
use super::{File, LockMode, Storage};
use crate::error::Error;

fn on_every_storage(case: impl Fn(&dyn Storage, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    case(&OsStorage, &OsStorage.canonicalize(directory.path()).unwrap());
    let storage = SimStorage::new(1);
    storage.create_directory(Path::new("/root")).unwrap();
    case(&storage, Path::new("/root"));
}

fn read_all(file: &dyn File) -> Vec<u8> {
    let mut buffer = vec![0xEE; file.length().unwrap() as usize + 10];
    let count = file.read_at(&mut buffer, 0).unwrap();
    buffer.truncate(count);
    buffer
}

fn names(storage: &dyn Storage, path: &Path) -> Vec<String> {
    let mut names: Vec<String> = storage.list(path).unwrap().unwrap().into_iter().map(|entry| entry.name).collect();
    names.sort();
    names
}

fn write_file(storage: &dyn Storage, path: &Path, bytes: &[u8]) {
    storage.create(path).unwrap().write_at(bytes, 0).unwrap();
}

fn assert_io<T>(result: Result<T, Error>, operation: &str, path: &Path) {
    match result {
        Err(Error::Io { operation: found, path: found_path, .. }) => {
            assert_eq!(found, operation);
            assert_eq!(found_path, path);
        }
        Err(other) => panic!("{operation} {}: another error: {other:?}", path.display()),
        Ok(_) => panic!("{operation} {}: no error", path.display()),
    }
}

#[test]
fn bytes_are_read_back_where_they_were_written() {
    on_every_storage(|storage, root| {
        let file = storage.create(&root.join("file")).unwrap();
        file.write_at(b"hello world", 0).unwrap();
        file.write_at(b"W", 6).unwrap();
        file.write_at(b"", 1 << 40).unwrap();
        assert_eq!(read_all(&*file), b"hello World");
        let mut middle = [0; 3];
        assert_eq!(file.read_at(&mut middle, 4).unwrap(), 3);
        assert_eq!(&middle, b"o W");
        assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
        assert_eq!(file.path(), root.join("file"));
        file.sync_data().unwrap();
    });
}

#[test]
fn a_read_ends_at_the_end_of_the_file() {
    on_every_storage(|storage, root| {
        let file = storage.create(&root.join("file")).unwrap();
        file.write_at(b"12345", 0).unwrap();
        let mut buffer = [7; 8];
        assert_eq!(file.read_at(&mut buffer, 3).unwrap(), 2);
        assert_eq!(&buffer, b"45\x07\x07\x07\x07\x07\x07");
        assert_eq!(file.read_at(&mut buffer, 5).unwrap(), 0);
        assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
    });
}

#[test]
fn a_gap_before_a_write_reads_as_zeros() {
    on_every_storage(|storage, root| {
        let file = storage.create(&root.join("file")).unwrap();
        file.write_at(b"x", 10_000).unwrap();
        let bytes = read_all(&*file);
        assert_eq!(bytes.len(), 10_001);
        assert!(bytes[..10_000].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn large_writes_are_whole() {
    on_every_storage(|storage, root| {
        let bytes: Vec<u8> = (0..3_000_003u32).map(|n| (n % 251) as u8).collect();
        let file = storage.create(&root.join("file")).unwrap();
        file.write_at(&bytes, 77).unwrap();
        assert_eq!(file.length().unwrap(), 77 + bytes.len() as u64);
        assert_eq!(&read_all(&*file)[77..], bytes);
    });
}

/// Guards: what was cut off comes back when the file grows again.
#[test]
fn cutting_and_growing_leaves_zeros() {
    on_every_storage(|storage, root| {
        let file = storage.create(&root.join("file")).unwrap();
        file.write_at(&[1; 9000], 0).unwrap();
        file.set_length(5).unwrap();
        assert_eq!(read_all(&*file), [1; 5]);
        file.set_length(9000).unwrap();
        let bytes = read_all(&*file);
        assert_eq!(bytes.len(), 9000);
        assert!(bytes[5..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn an_offset_beyond_all_files_is_an_error() {
    on_every_storage(|storage, root| {
        let path = root.join("file");
        let file = storage.create(&path).unwrap();
        assert_io(file.write_at(b"x", u64::MAX), "writing", &path);
        assert_io(file.read_at(&mut [0], u64::MAX), "reading", &path);
        assert_io(file.set_length(u64::MAX), "resizing", &path);
        assert_eq!(file.length().unwrap(), 0);
    });
}

#[test]
fn a_missing_file_is_none() {
    on_every_storage(|storage, root| {
        assert!(storage.open_read(&root.join("missing")).unwrap().is_none());
        assert!(storage.open_write(&root.join("missing")).unwrap().is_none());
        assert!(storage.open_write(&root.join("no/such/file")).unwrap().is_none());
        assert!(storage.list(&root.join("missing")).unwrap().is_none());
        storage.remove(&root.join("missing")).unwrap();
    });
}

#[test]
fn handles_share_one_file() {
    on_every_storage(|storage, root| {
        let path = root.join("file");
        let first = storage.create(&path).unwrap();
        let second = storage.open_write(&path).unwrap().unwrap();
        let reader = storage.open_read(&path).unwrap().unwrap();
        first.write_at(b"aaaa", 0).unwrap();
        second.write_at(b"bb", 1).unwrap();
        assert_eq!(read_all(&*reader), b"abba");
        reader.sync_data().unwrap();
    });
}

#[test]
fn a_file_opened_for_reading_refuses_changes() {
    on_every_storage(|storage, root| {
        let path = root.join("file");
        write_file(storage, &path, b"kept");
        let reader = storage.open_read(&path).unwrap().unwrap();
        assert_io(reader.write_at(b"x", 0), "writing", &path);
        assert_io(reader.set_length(0), "resizing", &path);
        assert_io(reader.map_tail(4096), "mapping", &path);
        assert_eq!(read_all(&*reader), b"kept");
    });
}

#[test]
fn creating_again_empties_the_file() {
    on_every_storage(|storage, root| {
        let path = root.join("file");
        write_file(storage, &path, b"old");
        let old = storage.open_read(&path).unwrap().unwrap();
        assert_eq!(storage.create(&path).unwrap().length().unwrap(), 0);
        assert_eq!(old.length().unwrap(), 0, "it is the same file");
    });
}

#[test]
fn a_rename_replaces_its_target() {
    on_every_storage(|storage, root| {
        let (from, to) = (root.join("from"), root.join("to"));
        write_file(storage, &from, b"new");
        write_file(storage, &to, b"old");
        let replaced = storage.open_read(&to).unwrap().unwrap();
        storage.rename(&from, &to).unwrap();
        storage.sync_directory(root).unwrap();
        assert_eq!(names(storage, root), ["to"]);
        assert_eq!(read_all(&*storage.open_read(&to).unwrap().unwrap()), b"new");
        assert_eq!(read_all(&*replaced), b"old", "an open file outlives its name");
        assert_io(storage.rename(&from, &to), "renaming", &from);
    });
}

#[test]
fn a_directory_can_be_renamed() {
    on_every_storage(|storage, root| {
        storage.create_directory(&root.join("a")).unwrap();
        write_file(storage, &root.join("a/file"), b"x");
        storage.rename(&root.join("a"), &root.join("b")).unwrap();
        assert_eq!(names(storage, root), ["b"]);
        assert_eq!(names(storage, &root.join("b")), ["file"]);
    });
}

#[test]
fn a_removed_file_lives_on_while_open() {
    on_every_storage(|storage, root| {
        let path = root.join("file");
        let file = storage.create(&path).unwrap();
        file.write_at(b"x", 0).unwrap();
        storage.remove(&path).unwrap();
        assert!(names(storage, root).is_empty());
        file.write_at(b"y", 1).unwrap();
        file.sync_data().unwrap();
        assert_eq!(read_all(&*file), b"xy");
    });
}

#[test]
fn directories_are_made_with_their_parents() {
    on_every_storage(|storage, root| {
        storage.create_directory(&root.join("a/b/c")).unwrap();
        storage.create_directory(&root.join("a/b/c")).unwrap();
        storage.create_directory(&root.join("a/b")).unwrap();
        assert_eq!(names(storage, &root.join("a/b")), ["c"]);
        write_file(storage, &root.join("file"), b"");
        assert_io(storage.create_directory(&root.join("file")), "creating", &root.join("file"));
    });
}

#[test]
fn a_listing_tells_lengths_and_kinds() {
    on_every_storage(|storage, root| {
        storage.create_directory(&root.join("directory")).unwrap();
        write_file(storage, &root.join("file"), b"12345");
        let mut entries = storage.list(root).unwrap().unwrap();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(entries.len(), 2);
        assert!(entries[0].name == "directory" && entries[0].is_directory);
        assert!(entries[1].name == "file" && !entries[1].is_directory && entries[1].length == 5);
    });
}

#[test]
fn a_file_and_a_directory_are_not_taken_for_each_other() {
    on_every_storage(|storage, root| {
        let (file, directory) = (root.join("file"), root.join("directory"));
        write_file(storage, &file, b"");
        storage.create_directory(&directory).unwrap();
        assert_io(storage.open_read(&directory), "opening", &directory);
        assert_io(storage.open_write(&directory), "opening", &directory);
        assert_io(storage.create(&directory), "creating", &directory);
        assert_io(storage.remove(&directory), "removing", &directory);
        assert_io(storage.list(&file), "listing", &file);
        assert!(storage.sync_directory(&file).is_err());
        assert_io(storage.open_read(&file.join("below")), "opening", &file.join("below"));
    });
}

#[test]
fn a_file_needs_its_directory() {
    on_every_storage(|storage, root| {
        let path = root.join("missing/file");
        assert_io(storage.create(&path), "creating", &path);
        assert!(storage.sync_directory(&root.join("missing")).is_err());
    });
}

#[test]
fn two_names_of_one_path_are_one() {
    on_every_storage(|storage, root| {
        storage.create_directory(&root.join("a/b")).unwrap();
        assert_eq!(storage.canonicalize(&root.join("a/./b/../b")).unwrap(), root.join("a/b"));
        assert_io(storage.canonicalize(&root.join("missing")), "resolving", &root.join("missing"));
    });
}

#[test]
fn an_exclusive_lock_excludes_all_others() {
    on_every_storage(|storage, root| {
        for path in [root.join("LOCK"), root.to_path_buf()] {
            let held = storage.lock(&path, LockMode::Exclusive, true).unwrap().unwrap();
            assert!(storage.lock(&path, LockMode::Exclusive, true).unwrap().is_none());
            assert!(storage.lock(&path, LockMode::Shared, true).unwrap().is_none());
            drop(held);
            let again = storage.lock(&path, LockMode::Exclusive, true).unwrap();
            assert!(again.is_some());
        }
        assert_eq!(names(storage, root), ["LOCK"], "a lock file is never unlinked");
    });
}

#[test]
fn shared_locks_exclude_only_exclusive_ones() {
    on_every_storage(|storage, root| {
        for path in [root.join("LOCK"), root.to_path_buf()] {
            let first = storage.lock(&path, LockMode::Shared, true).unwrap().unwrap();
            let second = storage.lock(&path, LockMode::Shared, true).unwrap().unwrap();
            drop(first);
            assert!(storage.lock(&path, LockMode::Exclusive, true).unwrap().is_none());
            drop(second);
            assert!(storage.lock(&path, LockMode::Exclusive, true).unwrap().is_some());
        }
    });
}

#[test]
fn a_lock_keeps_what_the_file_holds_and_makes_none_unasked() {
    on_every_storage(|storage, root| {
        let path = root.join("LOCK");
        assert_io(storage.lock(&path, LockMode::Exclusive, false), "opening", &path);
        assert_io(storage.lock(&path, LockMode::Shared, false), "opening", &path);
        assert!(names(storage, root).is_empty());
        write_file(storage, &path, b"kept");
        drop(storage.lock(&path, LockMode::Exclusive, true).unwrap().unwrap());
        assert_eq!(read_all(&*storage.open_read(&path).unwrap().unwrap()), b"kept");
    });
}

#[test]
fn a_store_to_a_mapping_is_read_at_once() {
    on_every_storage(|storage, root| {
        let file = storage.create(&root.join("file")).unwrap();
        file.write_at(&[0; 8192], 0).unwrap();
        let map = file.map_tail(1 << 20).unwrap();
        map.populate(0, 8192);
        map.store(b"mapped", 4093);
        map.store(b"", 1 << 20);
        let reader = storage.open_read(&root.join("file")).unwrap().unwrap();
        let mut buffer = [0; 6];
        reader.read_at(&mut buffer, 4093).unwrap();
        assert_eq!(&buffer, b"mapped");
        // The file grows under the mapping.
        file.write_at(&[0; 4096], 8192).unwrap();
        map.store(b"grown", 12_283);
        drop(file);
        map.store(b"open", 0);
        assert_eq!(reader.length().unwrap(), 12_288);
        assert_eq!(&read_all(&*reader)[12_283..], b"grown");
        assert_eq!(&read_all(&*reader)[..4], b"open");
        reader.sync_data().unwrap();
    });
}

/// Guards: a store beside the mapping writes into the host's memory.
#[test]
fn a_store_outside_the_mapping_panics() {
    on_every_storage(|storage, root| {
        let file = storage.create(&root.join("file")).unwrap();
        file.write_at(&[0; 8192], 0).unwrap();
        let map = file.map_tail(4096).unwrap();
        for offset in [4090, 4096, u64::MAX, u64::MAX - 3] {
            let stored = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| map.store(b"1234567", offset)));
            assert!(stored.is_err(), "at {offset}");
        }
        assert_io(file.map_tail(0), "mapping", &root.join("file"));
    });
}

/// Threads write and read disjoint ranges through one handle.
#[test]
fn threads_may_share_a_file() {
    on_every_storage(|storage, root| {
        let file = storage.create(&root.join("file")).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let file = &file;
                scope.spawn(move || {
                    for block in 0..100 {
                        let offset = (block * 4 + thread) * 100;
                        file.write_at(&[thread as u8; 100], offset).unwrap();
                        let mut buffer = [0xEE; 100];
                        file.read_at(&mut buffer, offset).unwrap();
                        assert_eq!(buffer, [thread as u8; 100]);
                    }
                });
            }
        });
        assert_eq!(file.length().unwrap(), 40_000);
    });
}
