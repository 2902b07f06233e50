//! The hot paths one by one, by Criterion, through the crate's own API: for whoever changes one of them and wants to know what came of it.
//! What the C library does beside the machine's limits is measured by `make bench-quick`.
//!
//! `make bench-criterion`, or `cargo bench --bench hot_paths -- FILTER`. Events have 128 bytes of payload and one of 10,000 entities in an
//! order that is the same each time. The stores are made in `BATPAK_BENCH_DIR`, else in the target directory: that is the disk measured.

use std::env;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use batpak::cursor::{Cursor, CursorOptions, PollTimeout, Polled, checkpoint};
use batpak::event::{EventBatch, Region};
use batpak::{Durability, NewEvent, Store, StoreOptions};
use criterion::{Bencher, Criterion, Throughput};
use tempfile::TempDir;

const PAYLOAD_BYTES: usize = 128;
const ENTITIES: usize = 10_000;
const SCOPES: usize = 100;
const BATCH_EVENTS: usize = 1000;
const READ_EVENTS: usize = 1024;
/// Of the log that is read: whole polls.
const LOG_EVENTS: usize = 256 * READ_EVENTS;
/// So small that most of that log is in sealed segments.
const LOG_SEGMENT_BYTES: u64 = 16 << 20;
/// Appends go to a new store after so many events: else a fast machine fills the disk.
const APPENDED_EVENTS_MAX: usize = 200_000;

fn directory() -> TempDir {
    let parent = env::var_os("BATPAK_BENCH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    tempfile::tempdir_in(parent).unwrap()
}

fn close(store: &Store) {
    store.close(Duration::MAX).unwrap();
}

/// Events, in the same order each time.
struct Source {
    entities: Vec<String>,
    scopes: Vec<String>,
    payload: [u8; PAYLOAD_BYTES],
    random: u64,
}

impl Source {
    fn new() -> Source {
        Source {
            entities: (0..ENTITIES).map(|number| format!("e:{number:014}")).collect(),
            scopes: (0..SCOPES).map(|number| format!("scope-{number:02}")).collect(),
            payload: [b'p'; PAYLOAD_BYTES],
            random: 0x9E37_79B9_7F4A_7C15,
        }
    }

    /// Entity and scope of the next event, by number.
    fn draw(&mut self) -> (usize, usize) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 32) as usize % ENTITIES, self.random as u32 as usize % SCOPES)
    }

    fn event(&self, (entity, scope): (usize, usize)) -> NewEvent<'_> {
        let (entity, scope) = (self.entities[entity].as_bytes(), self.scopes[scope].as_bytes());
        NewEvent { entity, scope, kind: 0x1001, payload: &self.payload, ..NewEvent::default() }
    }

    fn append(&mut self, store: &Store, n: usize, durability: Durability) {
        let drawn: Vec<_> = (0..n).map(|_| self.draw()).collect();
        let events: Vec<_> = drawn.iter().map(|&drawn| self.event(drawn)).collect();
        store.append(&events, Some(durability), &mut []).unwrap();
    }
}

/// A store to append to, until it has enough.
struct Target {
    directory: TempDir,
    store: Store,
    room: usize,
}

impl Target {
    fn new(source: &mut Source) -> Target {
        let directory = directory();
        let store = Store::open(directory.path(), &StoreOptions::default()).unwrap();
        // What is done once per store and per entity.
        source.append(&store, ENTITIES, Durability::Process);
        Target { directory, store, room: APPENDED_EVENTS_MAX }
    }

    fn remove(self) {
        close(&self.store);
        self.directory.close().unwrap();
    }
}

/// Appends `n` events at once, again and again. To make the events is timed, to make the stores is not.
fn measure_append(
    bencher: &mut Bencher<'_>,
    source: &mut Source,
    target: &mut Target,
    n: usize,
    durability: Durability,
) {
    bencher.iter_custom(|mut appends| {
        let mut elapsed = Duration::ZERO;
        while appends > 0 {
            if target.room < n {
                std::mem::replace(target, Target::new(source)).remove();
            }
            let round = appends.min((target.room / n) as u64);
            let start = Instant::now();
            for _ in 0..round {
                if n == 1 {
                    let drawn = source.draw();
                    target.store.append(&[source.event(drawn)], Some(durability), &mut []).unwrap();
                } else {
                    source.append(&target.store, n, durability);
                }
            }
            elapsed += start.elapsed();
            target.room -= round as usize * n;
            appends -= round;
        }
        elapsed
    });
}

fn appends(criterion: &mut Criterion) {
    let mut source = Source::new();
    let mut target = Target::new(&mut source);
    let mut group = criterion.benchmark_group("append");
    for (name, n, durability) in [
        ("one, PROCESS", 1, Durability::Process),
        ("batch of 1000, PROCESS", BATCH_EVENTS, Durability::Process),
        ("one, STORAGE", 1, Durability::Storage),
    ] {
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(name, |bencher| measure_append(bencher, &mut source, &mut target, n, durability));
    }
    group.finish();
    target.remove();
}

/// The store that everything else reads.
fn open_log(directory: &TempDir) -> Store {
    let options = StoreOptions { segment_bytes: LOG_SEGMENT_BYTES, ..StoreOptions::default() };
    Store::open(directory.path(), &options).unwrap()
}

fn make_log() -> TempDir {
    let directory = directory();
    let (store, mut source) = (open_log(&directory), Source::new());
    for _ in 0..LOG_EVENTS / READ_EVENTS {
        source.append(&store, READ_EVENTS, Durability::Process);
    }
    close(&store);
    directory
}

/// Reads the first and last eight bytes of each payload.
fn touch(batch: &EventBatch) -> u64 {
    let sum = |payload: &[u8]| {
        let (first, last) = (payload.first_chunk().unwrap(), payload.last_chunk().unwrap());
        u64::from_ne_bytes(*first).wrapping_add(u64::from_ne_bytes(*last))
    };
    batch.iter().fold(0, |total, event| total.wrapping_add(sum(event.payload())))
}

/// Polls once. None: there is nothing more.
fn poll(cursor: &Cursor) -> Option<usize> {
    match cursor.poll(READ_EVENTS, 0, PollTimeout::Never).unwrap() {
        Polled::Batch(batch) => {
            black_box(touch(&batch));
            Some(batch.len())
        }
        _ => None,
    }
}

/// The first poll of a region, from the beginning of the log. Returns how many events it brings.
fn poll_first(cursor: &Cursor) -> usize {
    cursor.seek_beginning().unwrap();
    poll(cursor).unwrap()
}

fn polls(criterion: &mut Criterion) {
    let directory = make_log();
    let store = open_log(&directory);
    let open = |region: Region| Cursor::open(&store, region, &CursorOptions::default()).unwrap();
    let mut group = criterion.benchmark_group("poll");

    let all = open(Region::all());
    group.throughput(Throughput::Elements(READ_EVENTS as u64));
    group.bench_function("all, 1024 events", |bencher| {
        bencher.iter(|| poll(&all).unwrap_or_else(|| poll_first(&all)));
    });

    let entity = open(Region::all().with_entity(Source::new().entities[4711].as_str()));
    group.throughput(Throughput::Elements(poll_first(&entity) as u64));
    group.bench_function("one entity of 10,000", |bencher| bencher.iter(|| poll_first(&entity)));

    let scope = open(Region::all().with_scope(Source::new().scopes[47].as_str()));
    group.throughput(Throughput::Elements(poll_first(&scope) as u64));
    group.bench_function("one scope of 100", |bencher| bencher.iter(|| poll_first(&scope)));
    group.finish();
    close(&store);
}

fn turning_points(criterion: &mut Criterion) {
    let directory = make_log();
    let store = open_log(&directory);
    let mut next_sequence = 0;
    criterion.bench_function("checkpoint save", |bencher| {
        bencher.iter(|| {
            next_sequence = (next_sequence + 1) % LOG_EVENTS as u64;
            checkpoint::save(&store, "consumer", &Region::all(), next_sequence).unwrap();
        });
    });
    close(&store);

    criterion.bench_function("open after a clean close", |bencher| {
        bencher.iter_custom(|opens| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..opens {
                let start = Instant::now();
                let store = open_log(&directory);
                elapsed += start.elapsed();
                close(&store);
            }
            elapsed
        });
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    appends(&mut criterion);
    polls(&mut criterion);
    turning_points(&mut criterion);
    criterion.final_summary();
}
