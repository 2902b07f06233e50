//! docs/FORMAT.md says all there is to say of the files: a program written from it alone reads and checks every byte of a store.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use batpak::cursor::{Cursor, CursorOptions, PollTimeout, Polled};
use batpak::event::{Region, StoreId};
use batpak::format::frame::{Control, encode_control, encode_event};
use batpak::format::segment::{index_name, segment_name};
use batpak::format::{Correlation, EventFields, IndexContent, SegmentHeader, StoreFile, name_hash};
use batpak::store::{Fence, FenceOptions};
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

/// Keys with and without duplicates, fences that commit, cancel, span segments, and are left open by a kill; cancelled events that are all that
/// an entity has in a segment.
fn make_fenced_store(directory: &Path, close_last: bool) {
    let options = StoreOptions { segment_bytes: 1 << 20, ..StoreOptions::default() };
    for opening in 0..3_u32 {
        let store = Store::open(directory, &options).unwrap();
        let mut fences: Vec<Option<Fence>> = (0..3).map(|_| None).collect();
        for i in 0..9000_u32 {
            let entities = ["flight", "crew", "rare"].map(|group| match group {
                "flight" => format!("{group}:{}", i % 61),
                "crew" => format!("{group}:{}", i % 7),
                _ => format!("{group}:{opening}:{i}"),
            });
            // Some keys come again within the opening, some in the next.
            let key = match i % 5 {
                0 => format!("opening {opening}, number {}", i / 10 * 10),
                1 => format!("of any opening, number {i:08}"),
                _ => String::new(),
            };
            let event = |entity: usize| NewEvent {
                entity: entities[entity].as_bytes(),
                scope: b"main",
                kind: 0x1001,
                payload: &[7; 150],
                ..NewEvent::default()
            };
            let mut receipts = [Receipt::default(); 2];
            let fence = &mut fences[(i % 3) as usize];
            let is_under = i / 100 % 4 == 1 && i % 7 < 3;
            if is_under && fence.is_none() {
                *fence = Some(store.begin_fence(&FenceOptions { timeout: Duration::from_secs(3600) }).unwrap());
            }
            // An entity that is fenced by another refuses, and so does a key of another event; that is as good.
            let outcome = match fence {
                Some(fence) if is_under => {
                    let items = [event((i % 2) as usize), NewEvent { key: key.as_bytes(), ..event(2) }];
                    fence.append(&items, &mut receipts)
                }
                _ => {
                    let item = NewEvent { key: key.as_bytes(), ..event((i % 2) as usize) };
                    store.append(&[item], Some(Durability::Process), &mut receipts[..1])
                }
            };
            let said = format!("{outcome:?}");
            assert!(outcome.is_ok() || said.contains("Fence") || said.contains("IdempotencyConflict"), "{said}");
            if i % 400 == 250 || i % 400 == 390 {
                let at = (i / 400 % 3) as usize;
                match fences[at].take() {
                    // The last opening leaves one open from its first segment on.
                    Some(fence) if opening == 2 && at == 2 => fences[at] = Some(fence),
                    Some(fence) if i % 800 < 400 => fence.cancel().unwrap(),
                    Some(fence) => fence.commit(None).unwrap(),
                    None => {}
                }
            }
        }
        if opening < 2 || close_last {
            if opening == 1 {
                // The close cancels those that are open.
                store.close(Duration::from_secs(10)).unwrap();
                drop(fences);
            } else {
                drop(fences);
                store.close(Duration::from_secs(10)).unwrap();
            }
        } else {
            // As a kill leaves it: fences undecided.
            std::mem::forget((fences, store));
        }
    }
}

#[test]
fn stores_with_keys_and_fences_are_read_from_the_document_alone() {
    for close_last in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        make_fenced_store(directory.path(), close_last);
        let Some((passed, text)) = walk(directory.path()) else { return };
        print!("{text}");
        assert!(passed, "{text}");
        assert!(text.contains("keys, ") && !text.contains(" 0 cancelled"), "{text}");
        if !close_last {
            // The next opening cancels what was undecided, and indexes say so. The killed store still holds its locks: of a copy.
            let copy = tempfile::tempdir().unwrap();
            std::fs::create_dir(copy.path().join("segments")).unwrap();
            for entry in std::fs::read_dir(directory.path().join("segments")).unwrap() {
                let path = entry.unwrap().path();
                std::fs::copy(&path, copy.path().join("segments").join(path.file_name().unwrap())).unwrap();
            }
            let store = Store::open(copy.path(), &StoreOptions::default()).unwrap();
            let event = NewEvent { entity: b"after", scope: b"main", kind: 0x1001, ..NewEvent::default() };
            store.append(&[event], None, &mut []).unwrap();
            store.close(Duration::from_secs(10)).unwrap();
            let Some((passed, text)) = walk(copy.path()) else { return };
            print!("{text}");
            assert!(passed, "{text}");
        }
    }
}

// ---- keys and fences, made by hand --------------------------------------------------------------------------------------------

/// An event of a store made by hand: entity, scope `main`, kind 0x1001.
#[derive(Debug, Clone, Copy)]
struct Made {
    entity: &'static str,
    clock: u64,
    previous: u64,
    fence: Option<u64>,
    key: Option<&'static [u8]>,
    cancelled: bool,
}

#[derive(Debug, Clone)]
enum Frame {
    Event(Made),
    Control(Control),
}

fn live(entity: &'static str, clock: u64, previous: u64) -> Frame {
    Frame::Event(Made { entity, clock, previous, fence: None, key: None, cancelled: false })
}

fn fenced(entity: &'static str, clock: u64, previous: u64, fence: u64, cancelled: bool) -> Frame {
    Frame::Event(Made { entity, clock, previous, fence: Some(fence), key: None, cancelled })
}

fn keyed(frame: Frame, key: &'static [u8]) -> Frame {
    match frame {
        Frame::Event(made) => Frame::Event(Made { key: Some(key), ..made }),
        control => control,
    }
}

const NONE: u64 = u64::MAX;
const KEYS: [&[u8]; 2] = [b"a key of 16 byte", b"another key, of some more bytes"];

/// Three segments: a fence that is cancelled while others append, one that commits in the next segment, one that an opening ends, and a
/// last segment of which nothing is left.
fn fenced_log() -> Vec<Vec<Frame>> {
    let epoch = |epoch| Frame::Control(Control::Epoch { epoch, time_us: 1_000_000 });
    let commit = Frame::Control(Control::FenceCommit { fence: 6 });
    let cancel = Frame::Control(Control::FenceCancel { fence: 1, ranges: vec![(1, 2), (3, 5)] });
    let repeated = Frame::Control(Control::FenceCancel { fence: 10, ranges: vec![(10, 11)] });
    let close = Frame::Control(Control::Close { epoch: 3, time_us: 1_000_000 });
    vec![
        vec![
            epoch(1),
            keyed(live("a", 0, NONE), KEYS[0]),
            keyed(fenced("a", 1, 0, 1, true), KEYS[1]),
            live("b", 0, NONE),
            fenced("c", 0, NONE, 1, true),
            fenced("a", 2, 1, 1, true),
            cancel,
            keyed(live("a", 1, 0), KEYS[1]),
            fenced("d", 0, NONE, 6, false),
        ],
        vec![
            fenced("d", 1, 6, 6, false),
            live("b", 1, 2),
            commit,
            live("d", 2, 7),
            keyed(fenced("e", 0, NONE, 10, true), KEYS[0]),
            epoch(2),
            repeated,
            live("e", 0, NONE),
        ],
        vec![fenced("f", 0, NONE, 12, true), fenced("a", 2, 5, 12, true), epoch(3), close],
    ]
}

/// Writes the log, with an index of every segment as far as `change` leaves it as it should be.
fn write_by_hand(directory: &Path, segments: &[Vec<Frame>], change: &dyn Fn(&mut IndexContent)) {
    let store_id = StoreId(*b"made by hand, 16");
    let (created_us, key_window) = (1, 100);
    let store_file = StoreFile { store_id, created_us, key_window };
    std::fs::create_dir(directory.join("segments")).unwrap();
    std::fs::write(directory.join("STORE"), store_file.encode()).unwrap();
    let (mut sequence, mut epoch) = (0, 0);
    for frames in segments {
        let base = sequence;
        let first_epoch: u64 = if base == 0 { 0 } else { epoch };
        let header = SegmentHeader { store_id, base, epoch: first_epoch, time_us: 1, created_us, key_window };
        let mut bytes = header.encode().to_vec();
        let mut index = IndexContent {
            base,
            first_time_us: 1_000_000,
            last_time_us: 1_000_000,
            scopes: vec![b"main".to_vec()],
            epochs: vec![(128, first_epoch)],
            ..IndexContent::default()
        };
        for frame in frames {
            let offset = bytes.len() as u64;
            match frame {
                Frame::Event(made) => {
                    bytes.extend(event_bytes(made, sequence, header.seed(epoch)));
                    add_to_index(&mut index, made, sequence, offset);
                    if let Some(key) = made.key {
                        index.keys.push((name_hash(&store_id, key), (sequence - base) as u32));
                    }
                    sequence += 1;
                }
                Frame::Control(control) => {
                    if let Control::Epoch { epoch: next, .. } = control {
                        epoch = *next;
                        index.epochs.push((offset, epoch));
                    }
                    encode_control(&mut bytes, sequence, control, header.seed(epoch));
                    index.controls.push((offset, sequence, control.frame_type()));
                }
            }
        }
        (index.log_end, index.last_epoch) = (bytes.len() as u64, epoch);
        change(&mut index);
        std::fs::write(directory.join("segments").join(segment_name(base)), bytes).unwrap();
        std::fs::write(directory.join("segments").join(index_name(base)), index.encode(&store_id)).unwrap();
    }
}

fn event_bytes(made: &Made, sequence: u64, seed: u32) -> Vec<u8> {
    let fields = EventFields {
        sequence,
        clock: made.clock,
        time_us: 1_000_000,
        prev_sequence: made.previous,
        kind: 0x1001,
        schema: 0,
        more: false,
        continued: false,
        entity: made.entity.as_bytes(),
        scope: b"main",
        correlation: Correlation::Own,
        causes: &[],
        payload: b"",
        payload_crc: 0,
        key: made.key,
        fence: made.fence,
    };
    let mut bytes = vec![0; 256];
    let length = encode_event(&mut bytes, &fields, seed, u16::from_le_bytes(*b"ma"));
    bytes.truncate(length.next_multiple_of(8));
    bytes
}

fn add_to_index(index: &mut IndexContent, made: &Made, sequence: u64, offset: u64) {
    let name = made.entity.as_bytes();
    let stream = index.names.iter().position(|known| **known == *name).unwrap_or_else(|| {
        index.names.push(name.into());
        for column in [&mut index.first_clocks, &mut index.last_clocks, &mut index.last_sequences] {
            column.push(0);
        }
        index.names.len() - 1
    });
    if made.cancelled {
        match index.cancelled.last_mut() {
            Some(last) if last.1 == sequence => last.1 += 1,
            _ => index.cancelled.push((sequence, sequence + 1)),
        }
    } else {
        let is_cancelled = |at: u64| index.cancelled.iter().any(|range| (range.0..range.1).contains(&at));
        let before = (index.base..).zip(&index.streams_of);
        if !before.into_iter().any(|(at, &of)| of as usize == stream && !is_cancelled(at)) {
            index.first_clocks[stream] = made.clock;
        }
        index.last_clocks[stream] = made.clock;
        index.last_sequences[stream] = sequence;
    }
    index.offsets.push((offset / 8) as u32);
    index.streams_of.push(stream as u32);
    index.scopes_of.push(0);
    index.kinds_of.push(0x1001);
}

/// Whether the walker accepts such a store, and what it prints.
fn walk_by_hand(segments: &[Vec<Frame>], change: &dyn Fn(&mut IndexContent)) -> Option<(bool, String)> {
    let directory = tempfile::tempdir().unwrap();
    write_by_hand(directory.path(), segments, change);
    walk(directory.path())
}

#[test]
fn keys_and_fences_are_read_from_the_document_alone() {
    let Some((passed, text)) = walk_by_hand(&fenced_log(), &|_| ()) else { return };
    assert!(passed && text.contains("3 segments, 14 events, 3 indexes"), "{text}");
}

/// The walker finds an index that says something else of keys and cancelled events than the frames do.
#[test]
fn it_finds_an_index_of_other_keys_or_cancelled_events() {
    let in_first = |change: &'static dyn Fn(&mut IndexContent)| {
        walk_by_hand(&fenced_log(), &move |index: &mut IndexContent| {
            if index.base == 0 {
                change(index);
            }
        })
    };
    type Change = &'static dyn Fn(&mut IndexContent);
    let changes: [(&str, Change); 6] = [
        ("CANCELLED", &|index| index.cancelled[0] = (0, 2)),
        ("CANCELLED", &|index| index.cancelled.truncate(1)),
        ("KEYS", &|index| index.keys.clear()),
        ("KEYS", &|index| index.keys[0].0 ^= 1),
        ("KEYS", &|index| index.keys[0].1 += 1),
        ("STREAMS", &|index| index.last_clocks[0] = 2),
    ];
    for (what, change) in changes {
        let Some((passed, text)) = in_first(change) else { return };
        assert!(!passed && text.contains(what), "{what}: {text}");
    }
}

/// The walker finds frames that break what fences promise: clocks that count cancelled events, ranges that are not the fence's, a stranger's event in
/// a fenced stream, a fence that goes on behind its decision.
#[test]
fn it_finds_frames_that_break_a_fence() {
    let changed = |segment: usize, place: usize, frame: Frame| {
        let mut log = fenced_log();
        log[segment][place] = frame;
        walk_by_hand(&log, &|_| ())
    };
    let cancel = |ranges: &[(u64, u64)]| Frame::Control(Control::FenceCancel { fence: 1, ranges: ranges.to_vec() });
    let commit = |fence| Frame::Control(Control::FenceCommit { fence });
    let changes = [
        (0, 7, live("a", 3, 4), "clock 3"),
        (0, 7, live("a", 1, 4), "previous link 4"),
        (0, 5, fenced("a", 1, 0, 1, true), "clock 1"),
        (0, 6, cancel(&[(1, 5)]), "FENCE_CANCEL names"),
        (0, 6, cancel(&[(1, 2)]), "FENCE_CANCEL names"),
        (0, 6, cancel(&[(1, 2), (3, 4), (4, 5)]), "FENCE_CANCEL names"),
        (0, 6, cancel(&[(1, 2), (3, u64::MAX)]), "FENCE_CANCEL names"),
        (0, 4, fenced("b", 1, 2, 3, true), "fence 1 is not open"),
        (0, 7, fenced("a", 1, 0, 1, false), "fence 1 is not open"),
        (1, 0, live("d", 1, 6), "is fenced by 6"),
        (1, 2, commit(7), "fence 7 is not open"),
        (1, 6, Frame::Control(Control::FenceCancel { fence: 10, ranges: vec![(9, 11)] }), "FENCE_CANCEL names"),
        (1, 6, commit(10), "fence 10 is not open"),
        (1, 7, fenced("e", 1, 10, 10, true), "fence 10 is not open"),
    ];
    for (segment, place, frame, what) in changes {
        let Some((passed, text)) = changed(segment, place, frame.clone()) else { return };
        // Where a change makes two faults, either will do.
        let is_found = text.contains(what) || (what.starts_with("fence 1 ") && text.contains("FENCE_CANCEL names"));
        assert!(!passed && is_found, "{frame:?}: {text}");
    }
}
