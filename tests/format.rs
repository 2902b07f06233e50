//! docs/FORMAT.md says all there is to say of the files: a program written from it alone reads and checks every byte of a store.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use batpak::cursor::{Cursor, CursorOptions, PollTimeout, Polled};
use batpak::event::Region;
use batpak::{Durability, NewEvent, Receipt, Store, StoreOptions};

/// Runs tests/format.py; `None` where there is no Python.
fn walk(directory: &Path) -> Option<(bool, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format.py");
    match Command::new("python3").arg(script).arg(directory).output() {
        Ok(output) => {
            let text =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            Some((output.status.success(), text))
        }
        Err(error) => {
            println!("skipped: python3 does not run ({error})");
            None
        }
    }
}

/// Three openings, several segments, both durabilities, batches, causes of all kinds, a checkpoint.
fn make_store(directory: &Path, close_last: bool) {
    let options = StoreOptions { segment_bytes: 1 << 20, ..StoreOptions::default() };
    let mut causes = Vec::new();
    for opening in 0..3 {
        let store = Store::open(directory, &options).unwrap();
        for i in 0..2500_u32 {
            let entities = [format!("plane:{}", i % 97), format!("crew:{}", i % 11)];
            let payload = vec![i as u8; (i % 300) as usize];
            let event = |entity: usize, kind| NewEvent {
                entity: entities[entity].as_bytes(),
                scope: [&b"JFK"[..], b"LGA", b"EWR"][i as usize % 3],
                kind,
                schema: 3,
                payload: &payload,
                causes: &causes,
                ..NewEvent::default()
            };
            let reply = NewEvent { batch_causes: &[0], causes: &[], ..event(1, 0x2002) };
            let items = [event(0, 0x1001), reply];
            let durability = if i % 50 == 0 { Durability::Storage } else { Durability::Process };
            let mut receipts = [Receipt::default(); 2];
            let count = 1 + (i % 4 == 0) as usize;
            store.append(&items[..count], Some(durability), &mut receipts).unwrap();
            causes = match i % 5 {
                0 => vec![receipts[0].id],
                1 => vec![receipts[0].id, batpak::event::EventId([9; 16])],
                _ => vec![],
            };
        }
        let options = CursorOptions { checkpoint_id: Some(String::from("walker")), ..CursorOptions::default() };
        let cursor = Cursor::open(&store, Region::all().with_entity_prefix("plane"), &options).unwrap();
        if let Polled::Batch(batch) = cursor.poll(100, 0, PollTimeout::Never).unwrap() {
            assert_eq!(batch.len(), 100);
        }
        cursor.checkpoint().unwrap();
        if opening < 2 || close_last {
            store.close(Duration::from_secs(10)).unwrap();
        } else {
            // As a kill leaves it: no CLOSE, space prepared ahead, an index missing.
            std::mem::forget(store);
        }
    }
}

#[test]
fn a_program_written_from_the_document_reads_every_file() {
    for close_last in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        make_store(directory.path(), close_last);
        let Some((passed, text)) = walk(directory.path()) else { return };
        print!("{text}");
        assert!(passed, "{text}");
        assert!(text.contains("9375 events") && text.contains("1 checkpoints: ok"), "{text}");
    }
}

#[test]
fn it_finds_a_flipped_bit() {
    let directory = tempfile::tempdir().unwrap();
    make_store(directory.path(), true);
    let segments = directory.path().join("segments");
    for (suffix, offset) in [("seg", 70_000), ("idx", 9_000)] {
        let path = std::fs::read_dir(&segments)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|extension| extension == suffix))
            .unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[offset] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        let Some((passed, text)) = walk(directory.path()) else { return };
        assert!(!passed, "{} at {offset}: {text}", path.display());
        std::fs::write(&path, &whole).unwrap();
    }
}
