//! Where inputs begin: small good ones of every target, made by the library, and kept in `fuzz/corpus`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use batpak::cursor::{Cursor, CursorOptions, PollTimeout};
use batpak::event::{EventId, Region, StoreId};
use batpak::format::segment::{SegmentHeader, parse_index_name, parse_segment_name, segment_name};
use batpak::format::{CheckpointFile, Correlation, EventFields, Reference, StoreFile, control, frame, packed, segment};
use batpak::store::{FenceOptions, Receipt};
use batpak::{Durability, NewEvent, Store};

use super::disk::Disk;
use super::stores::{AT, CHECKPOINT, CREATED_US, END, INDEX, SEGMENT, STORE_FILE, open, push_file};
use super::targets::{BASE, EPOCH, STORE};

pub fn lay_identity(disk: &Disk, store_id: StoreId) {
    let file = StoreFile { store_id, created_us: CREATED_US, key_window: 1 << 20 };
    let (created_us, key_window) = (file.created_us, file.key_window);
    let first = SegmentHeader { store_id, base: 0, epoch: 1, time_us: created_us, created_us, key_window };
    disk.put(&Path::new(AT).join("segments").join(segment_name(0)), &first.encode());
    disk.put(&Path::new(AT).join("STORE"), &file.encode());
}

fn event<'a>(entity: &'a str, payload: &'a [u8]) -> NewEvent<'a> {
    NewEvent { entity: entity.as_bytes(), scope: b"s", kind: 0x1001, payload, ..NewEvent::default() }
}

/// Some of everything.
fn grow(store: &Store, round: u8) {
    let mut receipts = [Receipt::default()];
    let key = [round; 16];
    store.append(&[event("a", b"one")], None, &mut receipts).unwrap();
    let causes = [receipts[0].id, EventId::derive(CREATED_US, 3, 0xBEEF)];
    store.append(&[NewEvent { causes: &causes, key: &key, ..event("b", b"two") }], None, &mut []).unwrap();
    let batch = [event("a:x", b""), NewEvent { kind: 0x2001, scope: b"t", batch_causes: &[0], ..event("a", b"three") }];
    store.append(&batch, Some(Durability::Process), &mut []).unwrap();
    for commits in [true, false] {
        let fence = store.begin_fence(&FenceOptions::default()).unwrap();
        fence.append(&[event("fenced", b"fenced"), event("a:y", b"fenced")], &mut []).unwrap();
        if commits { fence.commit(None).unwrap() } else { fence.cancel().unwrap() }
    }
    store.append(&[event("a", b"last")], None, &mut []).unwrap();
}

/// Paths and contents.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// A cleanly closed store of two segments and a checkpoint, and the same before the close.
fn stores() -> &'static [Files; 2] {
    static MADE: OnceLock<[Files; 2]> = OnceLock::new();
    MADE.get_or_init(|| {
        let disk = Disk::default();
        lay_identity(&disk, STORE);
        let store = open(&disk, false).unwrap();
        grow(&store, 1);
        let (base, epoch) = (store.watermarks().appended, store.stats().epoch);
        store.close(Duration::from_secs(9)).unwrap();
        // A segment is left when it is full: this one is left by hand.
        let time_us = CREATED_US + 6_000_000;
        let header =
            SegmentHeader { store_id: STORE, base, epoch, time_us, created_us: CREATED_US, key_window: 1 << 20 };
        disk.put(&Path::new(AT).join("segments").join(segment_name(base)), &header.encode());
        let store = open(&disk, false).unwrap();
        grow(&store, 2);
        let options = CursorOptions { checkpoint_id: Some(String::from("c1")), ..CursorOptions::default() };
        let cursor = Cursor::open(&store, Region::all(), &options).unwrap();
        cursor.poll(3, 0, PollTimeout::Never).unwrap();
        cursor.checkpoint().unwrap();
        drop(cursor);
        let killed = disk.contents();
        store.close(Duration::from_secs(9)).unwrap();
        [disk.contents(), killed]
    })
}

/// The closed store without the index of its first segment.
pub fn lay_two_segments(disk: &Disk) {
    for (path, bytes) in &stores()[0] {
        if !path.ends_with("segments/00000000000000000000.idx") {
            disk.put(path, bytes);
        }
    }
}

fn first_index() -> Vec<u8> {
    let found = stores()[0].iter().find(|(path, _)| path.ends_with("segments/00000000000000000000.idx"));
    found.expect("the first segment has an index").1.clone()
}

/// A store as an input: its files without the zeros behind them, then calls.
fn pack_store(files: &[(PathBuf, Vec<u8>)], flags: u8, calls: &[u8]) -> Vec<u8> {
    let mut input = vec![flags];
    for (path, bytes) in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (kind, number) = match (parse_segment_name(&name), parse_index_name(&name)) {
            (Some(base), _) => (SEGMENT, base),
            (_, Some(base)) => (INDEX, base),
            _ if name == "STORE" => (STORE_FILE, 0),
            _ if name.ends_with(".ckpt") => (CHECKPOINT, 1),
            _ => continue,
        };
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1).next_multiple_of(8);
        push_file(&mut input, kind, number, &bytes[..end.min(bytes.len())]);
    }
    input.push(END);
    input.extend(calls);
    input
}

fn frames() -> Vec<Vec<u8>> {
    let seed = segment::seed(&STORE, BASE, EPOCH);
    let id = EventId::derive(CREATED_US, 1, 0xBEEF);
    let causes = [Reference::Local { sequence: 2, time_us: CREATED_US }, Reference::Foreign(id)];
    let plain = EventFields {
        sequence: 5,
        clock: 2,
        time_us: CREATED_US + 9,
        prev_sequence: 3,
        kind: 0x1001,
        schema: 1,
        more: false,
        continued: false,
        entity: b"a:x",
        scope: b"s",
        correlation: Correlation::Own,
        causes: &[],
        payload: b"payload",
        payload_crc: crc32c::crc32c(b"payload"),
        key: None,
        fence: None,
    };
    let full = EventFields {
        causes: &causes,
        correlation: Correlation::Full(id),
        key: Some(b"0123456789abcdef"),
        fence: Some(4),
        more: true,
        ..plain
    };
    let mut all: Vec<Vec<u8>> = [plain, full]
        .iter()
        .map(|fields| {
            let mut bytes = vec![0; 512];
            let length = frame::encode_event(&mut bytes, fields, seed, STORE.tag());
            bytes.truncate(length);
            bytes
        })
        .collect();
    let controls = [
        control::Control::Epoch { epoch: EPOCH, time_us: CREATED_US },
        control::Control::Mark { durable_sequence: 4, segment_base: 0, offset: 128 },
        control::Control::Close { epoch: EPOCH, time_us: CREATED_US },
        control::Control::FenceCommit { fence: 1 },
        control::Control::FenceCancel { fence: 1, ranges: vec![(1, 2), (4, 9)] },
        control::Control::Checkpoint { id: String::from("c1"), map: vec![0x80] },
        control::Control::Erase { sequence: 1, digest: [7; 32] },
        control::Control::Retain { first_available: 9, tree_size: 9, peaks: vec![[1; 32]] },
        control::Control::Skipped { frame_type: 0x90 },
    ];
    for control in &controls {
        let mut bytes = Vec::new();
        control::encode_control(&mut bytes, 5, control, seed);
        all.push(bytes);
    }
    all
}

fn checkpoints() -> Vec<Vec<u8>> {
    let full = CheckpointFile {
        position: 4,
        started: true,
        region_identity: Region::all().with_entity("a").identity(),
        position_id: Some(EventId::derive(CREATED_US, 4, STORE.tag())),
        store_id: Some(STORE),
        scanned: Some(9),
    };
    let fresh = CheckpointFile { position: 0, started: false, position_id: None, ..full.clone() };
    let short = CheckpointFile { store_id: None, scanned: None, position_id: None, ..full.clone() };
    [full, fresh, short].iter().map(CheckpointFile::encode).collect()
}

/// Structs as their `_init` functions leave them, with some members set.
fn option_structs() -> Vec<Vec<u8>> {
    let sizes: [u32; 9] = [120, 112, 168, 48, 112, 64, 48, 48, 144];
    let mut all = Vec::new();
    for (call, size) in (0u8..).zip(sizes) {
        for choice in [0, 0xFF, 0x07] {
            let mut bytes = vec![0; size as usize];
            bytes[..4].copy_from_slice(&size.to_le_bytes());
            match call {
                1 | 4 => {
                    (bytes[4], bytes[16], bytes[32], bytes[40], bytes[44]) = (2, 5, 3, 3, 1);
                    bytes[45] = 0x10;
                }
                2 if choice != 0 => {
                    bytes[5] = 0x10;
                    (bytes[24], bytes[40], bytes[56], bytes[112]) = (3, 2, 9, 16);
                }
                _ => {}
            }
            all.push([&[call, choice], &bytes[..], b"abcdefghijklmnopqrstuvwx"].concat());
        }
    }
    all
}

/// The good inputs of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let flagged = |all: Vec<Vec<u8>>| all.into_iter().map(|bytes| [&[1], &bytes[..]].concat()).collect();
    let calls: &[u8] = &[
        0, 0, 1, 1, 2, 1, 3, 4, 4, 0, 5, 2, 6, 1, 7, 1, 8, 0, 9, 1, 12, 5, 13, 9, 14, 3, 15, 7, 17, 1, 18, 0, 19, 2,
        11, 0,
    ];
    let [closed, killed] = stores();
    let header = |base| {
        let time_us = CREATED_US;
        SegmentHeader { store_id: STORE, base, epoch: 1, time_us, created_us: time_us, key_window: 9 }.encode().to_vec()
    };
    match target {
        "frame" => flagged(frames()),
        "segment_header" => flagged(vec![header(0), header(77), segment_name(12).into_bytes()]),
        "store_file" => {
            flagged(vec![StoreFile { store_id: STORE, created_us: CREATED_US, key_window: 4 }.encode().to_vec()])
        }
        "checkpoint" => flagged(checkpoints()),
        "index" => flagged(vec![first_index()]),
        "packed" => [3u8, 127, 200]
            .iter()
            .map(|&count| {
                let mut bytes = vec![count, 0];
                packed::pack((0..u32::from(count)).map(|value| u64::from(value * value)), &mut bytes);
                bytes
            })
            .collect(),
        "region" => vec![
            [&[1, 1, 2], &b"useruser"[..]].concat(),
            [&[0x3F, 3, 0], "käse:1|scope/..*".as_bytes()].concat(),
            [&[0x1E, 9, 0x10], &b"a\x7Fbatpak"[..]].concat(),
        ],
        "options" => option_structs(),
        "store" => {
            let mut all: Vec<_> = [1, 3].iter().map(|&flags| pack_store(closed, flags, calls)).collect();
            all.push(pack_store(killed, 1, calls));
            all.push(pack_store(&[], 1, calls));
            // Without its indexes, so that all that is said comes from the log.
            let without: Vec<_> =
                closed.iter().filter(|(path, _)| path.extension().is_none_or(|e| e != "idx")).cloned().collect();
            all.push(pack_store(&without, 1, calls));
            all
        }
        "sealed_index" => flagged(vec![[&first_index()[..], &[0, 1, 4, 0, 5, 0, 6, 0]].concat()]),
        "append" => {
            let one = |head: [u8; 8], rest: &[u8]| [&head[..], rest].concat();
            vec![
                [
                    one([1, 1, 3, 0, 0, 1, 0x10, 0], b"aspay"),
                    one([3, 1, 0, 16, 1, 1, 0x10, 2], b"a:xs0123456789abcdef"),
                ]
                .concat(),
                one([1, 1, 0, 16, 2, 2, 0x20, 0], b"bs0123456789abcdef"),
            ]
        }
        _ => vec![pack_store(closed, 1, &[]), pack_store(killed, 1, &[])],
    }
}
