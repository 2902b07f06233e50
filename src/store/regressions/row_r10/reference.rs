//! The store that rots: small, and with every kind of file, frame and section that version 0.1 writes.

use super::*;
use crate::event::StoreId;
use crate::format::StoreFile;
use crate::format::segment::{SegmentHeader, segment_name};

/// Where the store is that the reference imports from.
pub(super) const SOURCE_AT: &str = "/source";
const CREATED_US: i64 = 1_700_000_000_000_000;
pub(super) const ENTITIES: [&str; 6] = ["a", "b", "a:x", "a:y", "lone", "fenced"];

/// Ids, times and checksums are the same in every run.
pub(super) fn options(disk: &SimStorage, read_only: bool) -> StoreOptions {
    let clock = crate::io::time::WallClock::custom(|| CREATED_US + 1_000_000);
    StoreOptions { read_only, clock, ..sim(disk) }
}

pub(super) fn open_at(disk: &SimStorage, path: &str, read_only: bool) -> Result<Store> {
    Store::open(Path::new(path), &options(disk, read_only))
}

fn make_at(disk: &SimStorage, path: &str, id: u8) -> Store {
    let file = StoreFile { store_id: StoreId([id; 16]), created_us: CREATED_US, key_window: 1 << 20 };
    let segments = Path::new(path).join("segments");
    disk.create_directory(&segments).unwrap();
    let (created_us, key_window) = (file.created_us, file.key_window);
    let first =
        SegmentHeader { store_id: file.store_id, base: 0, epoch: 1, time_us: created_us, created_us, key_window };
    overwrite(disk, &segments.join(segment_name(0)), &first.encode());
    overwrite(disk, &Path::new(path).join("STORE"), &file.encode());
    open_at(disk, path, false).unwrap()
}

/// Puts a file in the place of another.
pub(super) fn overwrite(disk: &SimStorage, path: &Path, bytes: &[u8]) {
    let file = disk.create(path).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_directory(path.parent().unwrap()).unwrap();
}

/// An event that was appended with a key, to be appended again.
#[derive(Debug, Clone)]
pub(super) struct Keyed {
    pub key: Vec<u8>,
    pub entity: &'static str,
    pub payload: Vec<u8>,
    pub receipt: Receipt,
}

/// What questions need to know of the store.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    pub keyed: Vec<Keyed>,
    pub ids: Vec<EventId>,
    /// Events below it are durable, and a frame says so.
    pub marked: u64,
}

/// The reference, as it grows.
pub(super) struct Reference {
    pub disk: SimStorage,
    pub known: Known,
    /// Every file at each of its ages.
    pub older: Vec<(std::path::PathBuf, Vec<u8>)>,
    store: Store,
}

fn key(number: u64) -> Vec<u8> {
    format!("idempotency-key-{number:04}").into_bytes()
}

impl Reference {
    fn rotate(&self) {
        self.store.inner.rotate(self.store.inner.lock_appender().as_mut().unwrap()).unwrap();
    }

    fn append(&mut self, event: NewEvent<'_>, durability: Durability) -> Receipt {
        let mut receipts = [Receipt::default()];
        self.store.append(&[event], Some(durability), &mut receipts).unwrap();
        self.known.ids.push(receipts[0].id);
        receipts[0]
    }

    fn keyed(&mut self, number: u64, entity: &'static str) {
        let (key, payload) = (key(number), format!("keyed {number}").into_bytes());
        let receipt = self.append(NewEvent { key: &key, ..event(entity, &payload) }, Durability::Process);
        self.known.keyed.push(Keyed { key, entity, payload, receipt });
    }

    fn age(&mut self) {
        for (path, _) in files(&self.disk, Path::new(AT)) {
            let bytes = self.disk.contents(&path).unwrap();
            // Of one that is still appended to, all but the zeros.
            let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1).next_multiple_of(8);
            self.older.push((path, bytes[..end.min(bytes.len())].to_vec()));
        }
    }

    fn reopen(&mut self) {
        self.store.close(SECOND).unwrap();
        self.age();
        self.store = open_at(&self.disk, AT, false).unwrap();
    }

    /// Every part that an event frame can have.
    fn first_segment(&mut self) {
        let plain = |entity, payload| event(entity, payload);
        let first = self.append(plain("a", b"one"), Durability::Storage);
        self.append(plain("b", b""), Durability::Process);
        self.append(NewEvent { kind: 0x1002, scope: b"t", ..plain("a:x", b"three") }, Durability::Process);
        self.append(NewEvent { causes: &[first.id], schema: 7, ..plain("b", b"caused") }, Durability::Storage);
        let foreign = EventId::derive(CREATED_US, 9, 0xBEEF);
        let causes = [foreign, first.id];
        self.append(
            NewEvent { causes: &causes, correlation: Some(foreign), ..plain("a:y", b"foreign") },
            Durability::Process,
        );
        self.append(plain("a", &[0x5A; 4200]), Durability::Process);
        let batch_causes = [0, 1];
        let batch = [
            plain("a", b"of a batch"),
            NewEvent { kind: 0x2001, ..plain("b", b"of a batch") },
            NewEvent { batch_causes: &batch_causes, ..plain("a:x", b"of a batch") },
        ];
        self.store.append(&batch, Some(Durability::Process), &mut []).unwrap();
        for number in 0..4 {
            self.keyed(number, ["a", "b"][number as usize % 2]);
        }
        self.reopen();
        self.fences(0);
        self.rotate();
    }

    /// A fence that commits, one that is cancelled, and one that the close of this life cancels.
    fn fences(&mut self, round: u64) {
        for commits in [true, false] {
            let fence = self.store.begin_fence(&FenceOptions::default()).unwrap();
            let keyed = key(100 + round * 2 + u64::from(commits));
            let item = NewEvent { key: &keyed, ..event("fenced", b"fenced") };
            fence.append(&[item, event("a:y", b"fenced")], &mut []).unwrap();
            self.append(event("b", b"between"), Durability::Process);
            fence.append(&[event("fenced", b"fenced again")], &mut []).unwrap();
            if commits { fence.commit(Some(Durability::Storage)).unwrap() } else { fence.cancel().unwrap() }
        }
    }

    /// Columns of more than one block, and a fence over the rotation.
    fn second_segment(&mut self) {
        for number in 0..140 {
            let entity = ["a", "b", "a:x"][number % 3];
            let kind = [0x1001, 0x1002, 0x2001][number % 3];
            self.append(NewEvent { kind, ..event(entity, &[number as u8; 9]) }, Durability::Process);
        }
        self.keyed(10, "a");
        let fence = self.store.begin_fence(&FenceOptions::default()).unwrap();
        fence.append(&[event("fenced", b"before the rotation")], &mut []).unwrap();
        self.rotate();
        fence.append(&[event("fenced", b"after it")], &mut []).unwrap();
        fence.commit(Some(Durability::Storage)).unwrap();
    }

    /// Nothing but what was cancelled of one entity; a checkpoint of each kind.
    fn third_segment(&mut self) {
        let fence = self.store.begin_fence(&FenceOptions::default()).unwrap();
        fence.append(&[event("lone", b"never seen"), event("lone", b"never seen")], &mut []).unwrap();
        drop(fence);
        self.append(event("a", b"last of its segment"), Durability::Storage);
        self.rotate();
        self.append(event("b", b"first of the newest"), Durability::Storage);
        for (id, region, capacity, events) in consumers() {
            let cursor = Cursor::open(&self.store, region, &consumer_options(id, capacity)).unwrap();
            if events > 0 {
                poll(&cursor, events);
            }
            cursor.checkpoint().unwrap();
        }
        self.reopen();
    }

    fn newest_segment(&mut self, source: &Store) {
        self.append(event("lone", b"seen"), Durability::Storage);
        self.keyed(20, "a");
        self.fences(1);
        self.store.import(source, &Default::default()).unwrap();
        let undecided = self.store.begin_fence(&FenceOptions::default()).unwrap();
        undecided.append(&[event("a:x", b"of no decision")], &mut []).unwrap();
        std::mem::forget(undecided);
        self.keyed(21, "b");
        self.append(event("a", b"the last one"), Durability::Storage);
    }
}

/// The consumers with a checkpoint: id, region, gap capacity, events polled before it. No two have one region: the files of two that had could be
/// exchanged, and nothing would tell, as a checkpoint does not say whose it is.
pub(super) fn consumers() -> [(&'static str, Region, usize, usize); 4] {
    [
        ("all", Region::all(), 0, 5),
        ("gaps", Region::all().with_kind(crate::event::KindMatch::Any), 8, 10),
        ("a", Region::all().with_entity("a"), 8, 2),
        ("none", Region::all().with_scope("t"), 0, 0),
    ]
}

pub(super) fn consumer_options(id: &str, gap_capacity: usize) -> CursorOptions {
    CursorOptions { gap_capacity, ..with_checkpoint(id) }
}

/// Cleanly closed, or as a kill leaves it.
pub(super) fn reference(is_closed: bool) -> Reference {
    let disk = SimStorage::new(1);
    let source = make_at(&disk, SOURCE_AT, 2);
    source.append(&[event("imported", b"1"), event("a", b"2"), event("imported", b"3")], None, &mut []).unwrap();
    let store = make_at(&disk, AT, 1);
    let mut reference = Reference { disk, known: Known::default(), older: Vec::new(), store };
    reference.first_segment();
    reference.second_segment();
    reference.third_segment();
    reference.newest_segment(&source);
    source.close(SECOND).unwrap();
    if is_closed {
        reference.store.close(SECOND).unwrap();
    } else {
        // A sync, the mark that tells of it, and what no sync covered.
        reference.store.sync().unwrap();
        reference.known.marked = reference.store.watermarks().durable;
        reference.append(event("a", b"behind the mark"), Durability::Process);
        let batch = [event("b", b"of the last batch"), event("a", &[7; 300])];
        reference.store.append(&batch, Some(Durability::Process), &mut []).unwrap();
        reference.age();
        reference.disk = reference.disk.crash_keep_all();
    }
    reference
}
