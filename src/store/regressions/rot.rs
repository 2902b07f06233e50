//! Bits that rot: every byte of every file of a small store, one bit each. Detected, with the file's name, or harmless; never a panic,
//! never other events.

use super::*;
use crate::io::Entry;

/// The files under a directory.
pub(super) fn files(disk: &SimStorage, directory: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut all = Vec::new();
    for Entry { name, length, is_directory } in disk.list(directory).unwrap().unwrap() {
        let path = directory.join(name);
        match is_directory {
            true => all.extend(files(disk, &path)),
            false => all.push((path, length)),
        }
    }
    all
}

type Events = Vec<(u64, String, u64, Vec<u8>)>;

/// Everything that can be read of a store, in several ways, or the first error.
fn read_all(disk: &SimStorage, read_only: bool) -> Result<(Events, Vec<Events>, Vec<u64>)> {
    let store = Store::open(Path::new(AT), &StoreOptions { read_only, ..sim(disk) })?;
    let read = |region: &Region| -> Result<Events> {
        let mut scan = Scan::new(region);
        let (mut at, mut all) = (0, Vec::new());
        loop {
            let (batch, next) = scan.next(&store, at, 3, u64::MAX)?;
            if batch.is_empty() {
                return Ok(all);
            }
            all.extend(batch.iter().map(|e| (e.sequence(), e.entity().to_owned(), e.clock(), e.payload().to_vec())));
            at = next;
        }
    };
    let all = read(&Region::all())?;
    let mut parts = Vec::new();
    for entity in ["a", "b", "a:x", "none"] {
        parts.push(read(&Region::all().with_entity(entity.to_owned()))?);
    }
    parts.push(read(&Region::all().with_entity_prefix("a"))?);
    parts.push(read(&Region::all().with_scope("s"))?);
    let cursor = consumer(&store, "c")?;
    let mut rest = Vec::new();
    // A batch ends before damage; the next poll meets it, or goes on behind a control frame that nobody needs.
    while let Polled::Batch(batch) = cursor.poll(99, 0, PollTimeout::Never)? {
        rest.extend(batch.iter().map(|event| event.sequence()));
    }
    drop(cursor);
    store.close(SECOND)?;
    Ok((all, parts, rest))
}

/// A cleanly closed store of two segments and a checkpoint.
fn reference() -> SimStorage {
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    // A batch does not fit beside the first: the segment is left, with few bytes in it.
    for (entity, payload) in [("a", &b"one"[..]), ("b", b"two"), ("a:x", b""), ("a", b"three")] {
        append(&store, entity, payload, Durability::Process).unwrap();
    }
    store.close(SECOND).unwrap();
    let store = open_sim(&disk);
    append(&store, "b", b"four", Durability::Storage).unwrap();
    store.inner.rotate(store.inner.lock_appender().as_mut().unwrap()).unwrap();
    append(&store, "a", b"five", Durability::Storage).unwrap();
    append(&store, "b", b"six", Durability::Process).unwrap();
    let cursor = consumer(&store, "c").unwrap();
    assert_eq!(poll(&cursor, 3), [0, 1, 2]);
    cursor.checkpoint().unwrap();
    drop(cursor);
    store.close(SECOND).unwrap();
    assert_eq!(store.stats().segments, 2);
    disk
}

pub(super) fn names(error: &Error, path: &Path) -> bool {
    let directory = path.parent().unwrap().join(path.file_stem().unwrap());
    // Damage to an index may be found as what it is derived from.
    error.to_string().contains(&directory.display().to_string())
}

#[test]
fn every_rotten_byte_of_a_closed_store_is_found_or_harmless() {
    let disk = reference();
    let whole = read_all(&disk.crash_keep_all(), true).unwrap();
    assert_eq!((whole.0.len(), &whole.2[..]), (7, &[3, 4, 5, 6][..]));
    let (mut found, mut harmless) = (0, 0);
    for (path, length) in files(&disk, Path::new(AT)) {
        for offset in 0..length {
            for read_only in [true, false] {
                let rotten = disk.crash_keep_all();
                rotten.flip(&path, offset, 1 << (offset % 8));
                match read_all(&rotten, read_only) {
                    Ok(read) => {
                        assert!(read == whole, "{} byte {offset}: other events: {read:?}", path.display());
                        harmless += 1;
                    }
                    Err(error) => {
                        assert!(names(&error, &path), "{} byte {offset}: {error}", path.display());
                        found += 1;
                    }
                }
            }
        }
    }
    assert!(found > 1000 && harmless > 1000, "{found} found, {harmless} harmless");
}

/// As above for a store that was killed: what rots below the last durable assertion is found, what rots above it is cut and reported.
#[test]
fn every_rotten_byte_of_a_killed_store_is_found_or_cut_and_reported() {
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    for at in 0..6 {
        append(&store, ["a", "b"][at % 2], &[at as u8; 40], Durability::Storage).unwrap();
    }
    append(&store, "a", &[6; 40], Durability::Process).unwrap();
    let end = store.inner.lock_appender().as_ref().unwrap().tail.offset();
    let whole = read(&store, &Region::all());
    for offset in 0..end {
        let rotten = disk.crash_keep_all();
        rotten.flip(&segment_path(0), offset, 1 << (offset % 8));
        match Store::open(Path::new(AT), &sim(&rotten)) {
            Err(error) => assert!(names(&error, &segment_path(0)), "byte {offset}: {error}"),
            Ok(store) => {
                let all = read(&store, &Region::all());
                assert!(all[..] == whole[..all.len()], "byte {offset}: other events");
                assert!(all.len() >= 5, "byte {offset}: {} events left of 5 that a mark covers", all.len());
                assert!(all.len() == 7 || store.stats().cut_bytes > 0, "byte {offset}: a cut that is not reported");
            }
        }
    }
}

/// Guards: the newest segment of a cleanly closed store loses its end (zeroed, cut short, or put back to an older age), and the store opens
/// without the events there, saying nothing. Found by row R10 (sectors and files, seed 0x5EED, step 28276).
#[test]
fn a_log_that_lost_its_end_after_a_clean_close_is_found() {
    let disk = reference();
    let newest = segment_path(5);
    let whole = disk.contents(&newest).unwrap();
    let index = newest.with_extension("idx");
    let end = |disk: &SimStorage| open_sim(disk).watermarks().appended;
    for length in (0..whole.len()).step_by(8) {
        for zeros in [0, whole.len() - length] {
            let cut = disk.crash_keep_all();
            let file = cut.open_write(&newest).unwrap().unwrap();
            file.set_length(length as u64).unwrap();
            file.set_length((length + zeros) as u64).unwrap();
            for read_only in [true, false] {
                let error = Store::open(Path::new(AT), &StoreOptions { read_only, ..sim(&cut) }).unwrap_err();
                assert!(names(&error, &newest), "{length} bytes left, {zeros} zeros: {error}");
            }
            // Who wants the log as it is now deletes the index, as the message says.
            cut.remove(&index).unwrap();
            assert!((5..=7).contains(&end(&cut)));
        }
    }
    // An older age of it, with a clean close of its own at its end.
    let later = disk.crash_keep_all();
    let store = open_sim(&later);
    append(&store, "a", b"later", Durability::Storage).unwrap();
    store.close(SECOND).unwrap();
    later.create(&newest).unwrap().write_at(&whole, 0).unwrap();
    let error = Store::open(Path::new(AT), &sim(&later)).unwrap_err();
    assert!(names(&error, &newest), "{error}");
    assert_eq!(end(&disk), 7);
}
