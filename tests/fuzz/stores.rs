//! Whole stores made of hostile files, and calls of the library on them.
//!
//! An input is a flag byte, then files, then calls. A file is its kind, the number in its name, its length (u16), its bytes; kind 0xFF ends them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use batpak::cursor::{Cursor, CursorOptions, Direction, PollTimeout, Polled, checkpoint};
use batpak::event::{EventId, Kind, KindMatch, Region, StoreId};
use batpak::format::segment::{index_name, segment_name};
use batpak::io::time::WallClock;
use batpak::store::{Expected, FenceOptions, ImportOptions, Receipt};
use batpak::{Durability, Error, NewEvent, Store, StoreOptions};

use super::disk::Disk;
use super::reseal;
use super::targets::STORE;

pub const AT: &str = "/s";
pub const CREATED_US: i64 = 1_700_000_000_000_000;
const CALLS_MAX: usize = 24;

/// Kinds of files.
pub const STORE_FILE: u8 = 0;
pub const SEGMENT: u8 = 1;
pub const INDEX: u8 = 2;
pub const CHECKPOINT: u8 = 3;
pub const END: u8 = 0xFF;

pub fn options(disk: &Disk, read_only: bool) -> StoreOptions {
    StoreOptions {
        read_only,
        helper_thread: false,
        segment_bytes: 1 << 20,
        clock: WallClock::custom(|| CREATED_US + 5_000_000),
        storage: Arc::new(disk.clone()),
        ..StoreOptions::default()
    }
}

pub fn open(disk: &Disk, read_only: bool) -> batpak::Result<Store> {
    Store::open(Path::new(AT), &options(disk, read_only))
}

fn path_of(kind: u8, number: u64) -> PathBuf {
    match kind & 3 {
        STORE_FILE => Path::new(AT).join("STORE"),
        SEGMENT => Path::new(AT).join("segments").join(segment_name(number)),
        INDEX => Path::new(AT).join("segments").join(index_name(number)),
        _ => Path::new(AT).join("cursors").join(format!("c{}.ckpt", number & 3)),
    }
}

/// Adds a file as inputs have it.
pub fn push_file(input: &mut Vec<u8>, kind: u8, number: u64, bytes: &[u8]) {
    input.push(kind);
    input.extend(number.to_le_bytes());
    input.extend((bytes.len() as u16).to_le_bytes());
    input.extend(bytes);
}

/// Puts the files on the disk. Returns the calls.
fn lay<'a>(mut input: &'a [u8], seals: bool, disk: &Disk) -> &'a [u8] {
    while let Some((&kind, rest)) = input.split_first() {
        input = rest;
        if kind == END {
            break;
        }
        let Some((head, rest)) = input.split_first_chunk::<10>() else { break };
        let number = u64::from_le_bytes(std::array::from_fn(|byte| head[byte]));
        let length = usize::from(u16::from_le_bytes([head[8], head[9]])).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        let mut bytes = bytes.to_vec();
        if seals {
            match kind & 3 {
                STORE_FILE => reseal::file_header(&mut bytes, 64),
                SEGMENT => reseal::segment(&mut bytes),
                INDEX => reseal::index(&mut bytes, &STORE, number),
                _ => reseal::checkpoint(&mut bytes),
            }
        }
        disk.put(&path_of(kind, number), &bytes);
        input = rest;
    }
    input
}

fn regions(choice: u8) -> Region {
    let region = match choice & 7 {
        0 => Region::all(),
        1 => Region::all().with_entity("a"),
        2 => Region::all().with_entity_prefix("a"),
        3 => Region::all().with_entity("b"),
        4 => Region::all().with_scope("s"),
        5 => Region::all().with_kind(KindMatch::Exact(Kind(0x1001))),
        6 => Region::all().with_kind(KindMatch::Category(2)).with_scope("t"),
        _ => Region::all().with_entity_prefix("a").with_scope("s").with_clock(1, 9),
    };
    if choice & 8 != 0 { region.with_kind(KindMatch::Any) } else { region }
}

/// Polls until the end, an error, or so many batches.
fn poll_all(store: &Store, region: Region, options: &CursorOptions) {
    let Ok(cursor) = Cursor::open(store, region, options) else { return };
    let mut last = None;
    for _ in 0..40 {
        let Ok(Polled::Batch(batch)) = cursor.poll(50, 0, PollTimeout::Never) else { break };
        for event in batch.iter() {
            let is_after = last.is_none_or(|last| match options.direction {
                Direction::Forward => event.sequence() > last,
                Direction::Backward => event.sequence() < last,
            });
            assert!(is_after, "event {} after {last:?}", event.sequence());
            last = Some(event.sequence());
            let _ = (event.entity().len(), event.scope().len(), event.payload().len(), event.causes().len());
            let _ = (event.prev_sequence(), event.id().time_us(), event.correlation_id(), event.kind(), event.flags());
        }
    }
    let _ = (cursor.position(), cursor.lag(), cursor.take_gaps());
    if options.checkpoint_id.is_some() {
        let _ = (cursor.checkpoint(), cursor.checkpoint_at(1), cursor.rewind());
    }
    let _ = (cursor.seek_time(CREATED_US), cursor.seek_end(), cursor.seek(2));
}

/// A store and how it is opened, to be opened again.
struct World {
    disk: Disk,
    store: Store,
    read_only: bool,
    /// The segments hold what a store writes; else an index may have hidden what is wrong with them, until it was replaced.
    has_good_segments: bool,
    /// An id that an append returned.
    known: EventId,
}

impl World {
    fn call(&mut self, number: u8, argument: u8) {
        let store = &self.store;
        let wide = u64::from(argument);
        let backward = CursorOptions { direction: Direction::Backward, ..CursorOptions::default() };
        let named = CursorOptions {
            checkpoint_id: Some(format!("c{}", argument & 3)),
            gap_capacity: usize::from(argument >> 2 & 3),
            ..CursorOptions::default()
        };
        match number % 20 {
            0 => poll_all(store, regions(argument), &CursorOptions { gap_capacity: 3, ..CursorOptions::default() }),
            1 => poll_all(store, regions(argument), &backward),
            2 => poll_all(store, regions(argument >> 4), &named),
            3 => {
                for sequence in [wide, wide << 30, store.watermarks().visible.wrapping_sub(1)] {
                    if let Ok(Some(batch)) = store.get(sequence) {
                        assert_eq!(batch.event(0).sequence(), sequence);
                        let id = batch.event(0).id();
                        assert!(store.get_by_id(id).is_ok_and(|found| found.is_some()), "an event without its id");
                        self.known = id;
                    }
                    let _ = store.event_id_at(sequence);
                }
            }
            4 => drop((store.entity_head(b"a"), store.entity_head(b"a:x"), store.entity_head(b"none"))),
            5 => {
                let _ =
                    store.entities([&b""[..], b"a"][usize::from(argument & 1)], b"", usize::from(argument >> 1) + 1);
                let _ = store.entities(b"", b"a", 3);
            }
            6 => drop((store.cancelled(0, u64::MAX), store.cancelled(wide, wide + 9))),
            7 => {
                for time_us in [i64::MIN, CREATED_US + i64::from(argument), i64::MAX] {
                    let _ = store.first_sequence_at_or_after(time_us);
                }
            }
            8 => drop((store.stats(), store.first_sequence(), store.watermarks())),
            9 => {
                let _ = (checkpoint::list(store), checkpoint::load(store, "c1"));
                let _ = checkpoint::save(store, "c2", &regions(argument), wide);
                let _ = checkpoint::delete(store, "c3");
            }
            10 => drop(store.sync()),
            11 => self.reopen(),
            12..18 => self.append(number, argument),
            _ => self.fence(argument),
        }
    }

    fn append(&mut self, number: u8, argument: u8) {
        let entity: &[u8] = [&b"a"[..], b"b", b"a:x", b"new"][usize::from(argument & 3)];
        let payload = vec![argument; usize::from(argument) * 7];
        let causes = [self.known];
        let key = [argument >> 3; 16];
        let event = NewEvent { entity, scope: b"s", kind: 0x1001, payload: &payload, ..NewEvent::default() };
        let durability = Some(if number & 1 == 0 { Durability::Process } else { Durability::Storage });
        let mut receipts = [Receipt::default(); 2];
        let appended = match number % 20 {
            12 | 13 => self.store.append(&[event], durability, &mut receipts[..1]),
            14 => self.store.append(&[NewEvent { key: &key, ..event }], durability, &mut receipts[..1]),
            15 => self.store.append(&[NewEvent { causes: &causes, ..event }], durability, &mut receipts[..1]),
            16 => {
                let expected = Expected::Exact(u64::from(argument >> 4));
                self.store.append(&[NewEvent { expected, ..event }], durability, &mut receipts[..1])
            }
            _ => {
                let second = NewEvent { batch_causes: &[0], causes: &causes, ..event };
                self.store.append(&[event, second], durability, &mut receipts)
            }
        };
        if appended.is_ok() {
            self.known = receipts[0].id;
        }
    }

    fn fence(&mut self, argument: u8) {
        let Ok(fence) = self.store.begin_fence(&FenceOptions::default()) else { return };
        let event = NewEvent { entity: b"a", scope: b"s", kind: 0x1001, payload: b"fenced", ..NewEvent::default() };
        let _ = fence.append(&[event, event], &mut []);
        match argument % 3 {
            0 => drop(fence.commit(Some(Durability::Storage))),
            1 => drop(fence.commit(Some(Durability::Process))),
            _ => drop(fence.cancel()),
        }
    }

    fn reopen(&mut self) {
        let appended = self.store.watermarks().appended;
        let closed = self.store.close(Duration::from_secs(9));
        match open(&self.disk, self.read_only) {
            Ok(store) => {
                let kept = store.watermarks().appended;
                assert!(
                    closed.is_err() || kept == appended,
                    "{kept} of {appended} events are left after a clean close"
                );
                self.store = store;
            }
            Err(Error::Corrupt { .. }) if !self.has_good_segments => {}
            Err(error) => assert!(closed.is_err() || self.read_only, "after a clean close: {error}"),
        }
    }
}

/// Opens, calls, closes, opens again.
fn run(disk: Disk, has_good_segments: bool, read_only: bool, calls: &[u8]) {
    let Ok(store) = open(&disk, read_only) else { return };
    let mut world =
        World { disk, store, read_only, has_good_segments, known: EventId::derive(CREATED_US, 0, STORE.tag()) };
    for call in calls.chunks_exact(2).take(CALLS_MAX) {
        world.call(call[0], call[1]);
    }
    world.reopen();
    poll_all(&world.store, Region::all(), &CursorOptions::default());
}

/// Any files.
pub fn store(data: &[u8]) {
    let Some((&flags, input)) = data.split_first() else { return };
    let disk = Disk::default();
    let calls = lay(input, flags & 1 != 0, &disk);
    run(disk, false, flags & 2 != 0, calls);
}

/// Any index beside a good segment, which tells what is right: an index that leads astray is found, or was not asked.
pub fn sealed_index(data: &[u8]) {
    let Some((&flags, input)) = data.split_first() else { return };
    let (bytes, calls) = input.split_at(input.len().saturating_sub(8));
    let disk = Disk::default();
    super::seeds::lay_two_segments(&disk);
    let mut bytes = bytes.to_vec();
    if flags & 1 != 0 {
        reseal::index(&mut bytes, &STORE, 0);
    }
    disk.put(&path_of(INDEX, 0), &bytes);
    run(
        disk.clone(),
        true,
        flags & 2 != 0,
        &[calls, &[0, 0, 0, 2, 1, 1, 1, 4, 3, 1, 4, 0, 5, 6, 6, 0, 14, 9, 15, 1]].concat(),
    );
}

/// Appends any events; what was accepted is what is read.
pub fn append(data: &[u8]) {
    let disk = Disk::default();
    let Ok(store) = open(&disk, false) else { return };
    let mut accepted: Vec<(u64, Vec<u8>, Vec<u8>)> = Vec::new();
    let mut rest = data;
    let mut ids = vec![EventId([0; 16])];
    for _ in 0..16 {
        let Some((head, tail)) = rest.split_first_chunk::<8>() else { break };
        let part = |length: u8, from: &mut &[u8]| -> Vec<u8> {
            let (part, left) = from.split_at(usize::from(length).min(from.len()));
            *from = left;
            part.to_vec()
        };
        rest = tail;
        let (entity, scope) = (part(head[0] & 15, &mut rest), part(head[1] & 7, &mut rest));
        let (payload, key) = (part(head[2], &mut rest), part(head[3] & 0x5F, &mut rest));
        let causes: Vec<EventId> = (0..head[4] & 0x41).map(|at| ids[usize::from(at) % ids.len()]).collect();
        let event = NewEvent {
            entity: &entity,
            scope: &scope,
            kind: u32::from_le_bytes([head[5], head[6], 0, 0]),
            schema: u16::from(head[7]),
            payload: &payload,
            key: &key,
            causes: &causes,
            batch_causes: if head[4] & 2 != 0 { &[0] } else { &[] },
            correlation: (head[4] & 4 != 0).then(|| ids[ids.len() - 1]),
            unknown_causes_are_foreign: head[4] & 8 != 0,
            expected: if head[4] & 16 != 0 { Expected::NoStream } else { Expected::Any },
        };
        let mut receipts = [Receipt::default(); 2];
        let is_pair = head[4] & 2 != 0;
        let first = NewEvent { batch_causes: &[], key: &[], ..event };
        let (one, two) = ([event], [first, event]);
        let events: &[NewEvent<'_>] = if is_pair { &two } else { &one };
        if store.append(events, Some(Durability::Process), &mut receipts[..events.len()]).is_ok() {
            for receipt in receipts.iter().take(events.len()).filter(|receipt| !receipt.duplicate) {
                accepted.push((receipt.sequence, entity.clone(), payload.clone()));
                ids.push(receipt.id);
            }
        }
    }
    store.close(Duration::from_secs(9)).expect("a clean close");
    let store = open(&disk, false).expect("a store that was closed");
    let mut read = Vec::new();
    let cursor = Cursor::open(&store, Region::all(), &CursorOptions::default()).expect("a cursor");
    while let Ok(Polled::Batch(batch)) = cursor.poll(5, 0, PollTimeout::Never) {
        read.extend(
            batch.iter().map(|event| (event.sequence(), event.entity().as_bytes().to_vec(), event.payload().to_vec())),
        );
    }
    assert_eq!(read, accepted);
}

/// A good store imports from one of any files, twice.
pub fn import(data: &[u8]) {
    let Some((&flags, input)) = data.split_first() else { return };
    let disk = Disk::default();
    lay(input, flags & 1 != 0, &disk);
    let Ok(source) = open(&disk, true) else { return };
    let target = Disk::default();
    super::seeds::lay_identity(&target, StoreId([0x22; 16]));
    let store = open(&target, false).expect("a good store");
    let first = store.import(&source, &ImportOptions::default());
    let again = store.import(&source, &ImportOptions::default());
    if let (Ok(first), Ok(again)) = (first, again) {
        assert_eq!(again.appended, 0, "imported twice, after {first:?}");
    }
    store.close(Duration::from_secs(9)).expect("a clean close");
    open(&target, true).expect("a store that was closed");
}
