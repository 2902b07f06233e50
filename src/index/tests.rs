//! All forms of an index say the same of the same events: in memory, sealed, and loaded again; also of keys, and of events that a
//! fence's cancel took out of their streams.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use proptest::prelude::*;

use super::memory::{IndexEntry, MemoryIndex};
use super::pages::PageCache;
use super::sealed::SealedIndex;
use super::{StreamHead, build};
use crate::event::region::KindMatch;
use crate::event::{Kind, NO_SEQUENCE, Region, StoreId};
use crate::format::packed::BLOCK_VALUES;
use crate::format::page::{PAGE_BYTES, PAGE_CONTENT, seal_pages};
use crate::format::{IndexContent, IndexHeader, index, name_hash};
use crate::io::Storage;
use crate::io::sim::SimStorage;
use crate::log::files::FilePool;

const STORE: StoreId = StoreId(*b"ABCDEFGHIJKLMNOP");
const BASE: u64 = 1000;
const ENTITIES: [&str; 7] = ["a", "a:x", "a:y", "a:y:z", "b", "bb", "c"];
const SCOPES: [&str; 3] = ["main", "other", "third"];

/// What is known of one event.
#[derive(Debug, Clone)]
struct Event {
    entity: usize,
    scope: usize,
    kind: u16,
    key: Option<u64>,
    fence: Option<usize>,
    cancelled: bool,
}

/// A step of a random life.
#[derive(Debug, Clone)]
enum Step {
    /// Under a fence, unless another one owns the entity.
    Append { event: Event },
    /// Commits or cancels a fence; whether the canceller knows the heads from before it.
    Decide { fence: usize, cancel: bool, knows_heads: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let event = (0..ENTITIES.len(), 0..SCOPES.len(), 0..3u16, any::<Option<u8>>(), prop::option::of(0..2usize));
    let append = event.prop_map(|(entity, scope, kind, key, fence)| Step::Append {
        // Few different hashes: some keys share one.
        event: Event { entity, scope, kind, key: key.map(|key| hash_of_key(key % 50)), fence, cancelled: false },
    });
    let decide = (0..2usize, any::<bool>(), any::<bool>()).prop_map(|(fence, cancel, knows_heads)| Step::Decide {
        fence,
        cancel,
        knows_heads,
    });
    prop::collection::vec(prop_oneof![8 => append, 1 => decide], 0..300)
}

fn hash_of_key(key: u8) -> u64 {
    name_hash(&STORE, &[key; 16])
}

/// The index under test and, beside it, what it must say.
struct Life {
    index: MemoryIndex,
    events: Vec<Event>,
    /// By entity: the head as of now.
    heads: Vec<StreamHead>,
    /// By fence: the heads before it of the entities that it owns.
    fences: [BTreeMap<usize, StreamHead>; 2],
}

impl Life {
    fn new() -> Life {
        // Some entities have events in older segments.
        let head = |entity: u64| StreamHead {
            next_clock: 10 * entity,
            last_sequence: entity.checked_sub(1).unwrap_or(NO_SEQUENCE),
        };
        Life {
            index: MemoryIndex::new(STORE, BASE, 1, 128),
            events: Vec::new(),
            heads: (0..ENTITIES.len() as u64).map(head).collect(),
            fences: Default::default(),
        }
    }

    fn lived(steps: &[Step]) -> Life {
        let mut life = Life::new();
        for step in steps {
            match step {
                Step::Append { event } => life.append(event.clone()),
                &Step::Decide { fence, cancel: true, knows_heads } => life.cancel(fence, knows_heads),
                Step::Decide { fence, .. } => life.commit(*fence),
            }
        }
        // No segment is sealed while it holds an undecided fence.
        life.cancel(0, false);
        life.commit(1);
        life
    }

    fn append(&mut self, mut event: Event) {
        let (index, ordinal) = (&self.index, self.events.len() as u32);
        let (entity, scope) = (event.entity, SCOPES[event.scope].as_bytes());
        let owner = (0..2).find(|&fence| self.fences[fence].contains_key(&entity));
        event.fence = owner.or(event.fence);
        let hash = index.hash(ENTITIES[entity].as_bytes());
        let stream = index
            .heads()
            .find(hash, ENTITIES[entity].as_bytes())
            .unwrap_or_else(|| index.insert_stream(hash, ENTITIES[entity].as_bytes(), self.heads[entity]));
        if index.heads().known_head(stream).is_none() {
            index.heads().set_head(stream, self.heads[entity]);
        }
        assert_eq!(index.heads().known_head(stream), Some(self.heads[entity]));
        if let Some(fence) = event.fence {
            self.fences[fence].entry(entity).or_insert(self.heads[entity]);
        }
        let hash = index.hash(scope);
        let scope = index.find_scope(hash, scope).or_else(|| index.insert_scope(hash, scope)).unwrap();
        let entry = IndexEntry { offset: offset_of(ordinal), kind: event.kind, scope, stream };
        index.push(entry, i64::from(ordinal));
        index.set_log_end(offset_of(ordinal + 1));
        if let Some(hash) = event.key {
            index.push_key(hash, ordinal);
        }
        let head = &mut self.heads[entity];
        *head = StreamHead { next_clock: head.next_clock + 1, last_sequence: BASE + u64::from(ordinal) };
        self.events.push(event);
    }

    fn commit(&mut self, fence: usize) {
        self.fences[fence].clear();
        self.events.iter_mut().filter(|event| event.fence == Some(fence)).for_each(|event| event.fence = None);
    }

    fn cancel(&mut self, fence: usize, knows_heads: bool) {
        let mut ranges = Vec::new();
        let mut first_of = BTreeMap::new();
        for (sequence, event) in (BASE..).zip(&mut self.events) {
            if event.fence == Some(fence) {
                (event.fence, event.cancelled) = (None, true);
                ranges.push((sequence, sequence + 1));
                first_of.entry(event.entity).or_insert(sequence);
            }
        }
        if ranges.is_empty() {
            return;
        }
        // What lies in other segments is not for this index.
        ranges.push((BASE - 3, BASE));
        self.index.cancel(&ranges);
        self.index.cancel(&ranges[..1]);
        for (entity, head) in std::mem::take(&mut self.fences[fence]) {
            let (name, known) = (ENTITIES[entity].as_bytes(), knows_heads.then_some(head));
            self.index.rewind(self.index.hash(name), name, first_of[&entity], known);
            self.heads[entity] = head;
        }
    }

    fn is_cancelled(&self, ordinal: u32) -> bool {
        self.events.get(ordinal as usize).is_some_and(|event| event.cancelled)
    }

    /// The live ordinals that `wanted` picks.
    fn live(&self, from: u32, to: u32, wanted: impl Fn(&Event) -> bool) -> Vec<u32> {
        (from..to).filter(|&ordinal| !self.is_cancelled(ordinal) && wanted(&self.events[ordinal as usize])).collect()
    }

    /// Compares what an index says with what it must say.
    fn check(&self, index: &dyn Says) {
        let count = self.events.len() as u32;
        for (from, to) in [(0, count), (count / 3, count), (count / 3, count * 2 / 3), (count, count)] {
            for (entity, name) in ENTITIES.iter().enumerate() {
                let exact = index.matches(&Region::all().with_entity(*name), from, to);
                assert_eq!(exact, self.live(from, to, |event| event.entity == entity), "{name} in {from}..{to}");
            }
            let prefixed = |event: &Event| (0..4).contains(&event.entity);
            self.check_matches(index, &Region::all().with_entity_prefix("a"), from, to, prefixed);
            self.check_matches(index, &Region::all(), from, to, |_| true);
            self.check_matches(index, &Region::all().with_scope("other"), from, to, |event| event.scope == 1);
            let kind = Region::all().with_kind(KindMatch::Exact(Kind(2)));
            self.check_matches(index, &kind, from, to, |event| event.kind == 2);
            let mut ranges = index.cancelled(BASE + u64::from(from), BASE + u64::from(to));
            assert!(ranges.is_sorted_by(|a, b| a.1 < b.0));
            let marked: Vec<u64> = ranges.drain(..).flat_map(|(start, end)| start..end).collect();
            let expected = (from..to).filter(|&ordinal| self.is_cancelled(ordinal));
            assert_eq!(marked, expected.map(|ordinal| BASE + u64::from(ordinal)).collect::<Vec<_>>());
        }
        for ordinal in 0..count + 3 {
            assert_eq!(index.is_cancelled(BASE + u64::from(ordinal)), self.is_cancelled(ordinal), "{ordinal}");
        }
        assert!(!index.is_cancelled(BASE - 1));
        for key in 0..52 {
            let hash = hash_of_key(key);
            let keyed = |&ordinal: &u32| self.events[ordinal as usize].key == Some(hash);
            assert_eq!(index.keys(hash), (0..count).filter(keyed).collect::<Vec<_>>(), "key {key}");
        }
        let keyed = self.events.iter().filter(|event| event.key.is_some()).count();
        assert_eq!(index.key_count(), keyed as u64);
        for (entity, name) in ENTITIES.iter().enumerate() {
            let has_live = !self.live(0, count, |event| event.entity == entity).is_empty();
            match index.head(name) {
                Some(head) => assert_eq!(head, self.heads[entity], "{name}"),
                None => assert!(!has_live, "the head of {name}"),
            }
        }
    }

    /// For reads that may yield cancelled events, which the caller tells.
    fn check_matches(&self, index: &dyn Says, region: &Region, from: u32, to: u32, wanted: impl Fn(&Event) -> bool) {
        let mut found = index.matches(region, from, to);
        assert!(found.is_sorted_by(|a, b| a < b));
        found.retain(|&ordinal| !self.is_cancelled(ordinal));
        assert_eq!(found, self.live(from, to, wanted), "{region:?} in {from}..{to}");
    }
}

fn offset_of(ordinal: u32) -> u64 {
    128 + 64 * u64::from(ordinal)
}

/// What both forms of an index can say.
trait Says {
    fn matches(&self, region: &Region, from: u32, to: u32) -> Vec<u32>;
    fn cancelled(&self, from: u64, to: u64) -> Vec<(u64, u64)>;
    fn is_cancelled(&self, sequence: u64) -> bool;
    fn keys(&self, hash: u64) -> Vec<u32>;
    fn key_count(&self) -> u64;
    fn head(&self, entity: &str) -> Option<StreamHead>;
}

fn collected<T>(fill: impl FnOnce(&mut Vec<T>)) -> Vec<T> {
    let mut found = Vec::new();
    fill(&mut found);
    found
}

impl Says for MemoryIndex {
    fn matches(&self, region: &Region, from: u32, to: u32) -> Vec<u32> {
        collected(|found| self.matches(region, from, to, found).unwrap())
    }
    fn cancelled(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        collected(|found| self.cancelled(from, to, found))
    }
    fn is_cancelled(&self, sequence: u64) -> bool {
        self.is_cancelled(sequence)
    }
    fn keys(&self, hash: u64) -> Vec<u32> {
        let all = collected(|found| self.find_keys(hash, 0, found));
        for &from in &all {
            let later = collected(|found| self.find_keys(hash, from, found));
            assert!(all.ends_with(&later) && later[0] == from);
        }
        all
    }
    fn key_count(&self) -> u64 {
        self.key_count()
    }
    fn head(&self, entity: &str) -> Option<StreamHead> {
        self.heads().known_head(self.heads().find(self.hash(entity.as_bytes()), entity.as_bytes())?)
    }
}

impl Says for SealedIndex {
    fn matches(&self, region: &Region, from: u32, to: u32) -> Vec<u32> {
        collected(|found| self.matches(region, from, to, found).unwrap())
    }
    fn cancelled(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        collected(|found| self.cancelled(from, to, found).unwrap())
    }
    fn is_cancelled(&self, sequence: u64) -> bool {
        self.is_cancelled(sequence).unwrap()
    }
    fn keys(&self, hash: u64) -> Vec<u32> {
        let found = collected(|found| self.find_keys(hash, found).unwrap());
        assert!(found.is_empty() || self.key_filter().unwrap().unwrap().may_contain(hash), "the filter denies a key");
        found
    }
    fn key_count(&self) -> u64 {
        self.key_count()
    }
    fn head(&self, entity: &str) -> Option<StreamHead> {
        self.head(entity.as_bytes()).unwrap()
    }
}

/// An index file on a disk of its own.
fn on_disk(bytes: &[u8]) -> crate::Result<(SealedIndex, Arc<PageCache>)> {
    let storage = SimStorage::new(0);
    let path = PathBuf::from("/00000000000000001000.idx");
    storage.create(&path).unwrap().write_at(bytes, 0).unwrap();
    let cache = Arc::new(PageCache::default());
    let slot = FilePool::new(Arc::new(storage)).slot(path);
    Ok((SealedIndex::open(slot, cache.clone(), &STORE, BASE)?, cache))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every form of the index says of every event, key and cancelled range what happened, and a form made from another is no different.
    #[test]
    fn all_forms_of_an_index_say_the_same(steps in steps()) {
        let life = Life::lived(&steps);
        life.check(&life.index);
        let bytes = build::encode(&life.index, &STORE, true);
        IndexContent::decode(&bytes, &STORE, BASE).unwrap();
        let (sealed, _) = on_disk(&bytes).unwrap();
        life.check(&sealed);
        let loaded = build::load(&sealed, &STORE).unwrap();
        life.check(&loaded);
        prop_assert!(build::encode(&loaded, &STORE, true) == bytes, "the loaded index makes another file");
        for (entity, name) in ENTITIES.iter().enumerate() {
            // Of a stream without live events only older segments know.
            let is_live = life.events.iter().any(|event| event.entity == entity && !event.cancelled);
            prop_assert_eq!(Says::head(&sealed, name).is_some(), is_live);
            prop_assert_eq!(Says::head(&loaded, name).is_some(), is_live);
        }
    }

    /// An incomplete batch that recovery takes back leaves no key, no range and no link behind, also of events that were cancelled.
    #[test]
    fn a_truncated_index_is_as_if_the_events_had_not_come(steps in steps(), keep in 0..300usize) {
        let life = Life::lived(&steps);
        let keep = keep.min(life.events.len());
        life.index.truncate(keep as u32, 0);
        let mut kept = Life::new();
        kept.heads = (0..ENTITIES.len()).map(|entity| {
            let before = Life::new().heads[entity];
            let live: Vec<u32> = life.live(0, keep as u32, |event| event.entity == entity);
            StreamHead {
                next_clock: before.next_clock + live.len() as u64,
                last_sequence: live.last().map_or(before.last_sequence, |&last| BASE + u64::from(last)),
            }
        }).collect();
        kept.events = life.events[..keep].to_vec();
        kept.check(&life.index);
    }

    /// Damage under right page checksums, in the rows of keys and cancelled ranges: an error or a wrong answer, but no panic and no end.
    #[test]
    fn hostile_rows_are_answered(steps in steps(), picks in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 40)) {
        let life = Life::lived(&steps);
        let bytes = build::encode(&life.index, &STORE, true);
        let content: Vec<u8> = bytes.chunks(PAGE_BYTES).flat_map(|page| &page[..PAGE_CONTENT]).copied().collect();
        let header = IndexHeader::decode(&content).unwrap();
        for kind in [index::KEYS, index::KEY_FILTER, index::CANCELLED, index::STREAMS, index::POSTINGS] {
            let Some(section) = header.section(kind).filter(|section| section.length > 0) else { continue };
            for (pick, value) in &picks {
                let mut hostile = content[..header.stream_length as usize].to_vec();
                hostile[section.offset as usize + pick.index(section.length as usize)] = *value;
                let Ok((sealed, _)) = on_disk(&seal_pages(&hostile, &STORE, BASE)) else { continue };
                for key in 0..50 {
                    let _ = sealed.find_keys(hash_of_key(key), &mut Vec::new());
                }
                for sequence in (BASE - 2..BASE + 300).step_by(7) {
                    let _ = sealed.is_cancelled(sequence);
                    let mut found = Vec::new();
                    let _ = sealed.cancelled(sequence, sequence + 40, &mut found);
                    prop_assert!(found.iter().all(|&(start, end)| sequence <= start && start < end && end <= sequence + 40));
                }
                let _ = sealed.matches(&Region::all().with_entity_prefix("a"), 0, 300, &mut Vec::new());
                let _ = (sealed.head(b"a"), sealed.key_filter(), build::load(&sealed, &STORE));
            }
        }
    }
}

fn event(entity: usize, fence: Option<usize>, key: Option<u64>) -> Event {
    Event { entity, scope: 0, kind: 0, key, fence, cancelled: false }
}

/// A segment of which nothing is left is still an index, and denies all heads.
#[test]
fn a_whole_segment_may_be_cancelled() {
    let mut life = Life::new();
    for i in 0..300 {
        life.append(event(i % 3, Some(0), Some(hash_of_key(i as u8 % 50))));
    }
    life.cancel(0, false);
    let (sealed, _) = on_disk(&build::encode(&life.index, &STORE, false)).unwrap();
    life.check(&life.index);
    life.check(&sealed);
    life.check(&build::load(&sealed, &STORE).unwrap());
    assert_eq!(Says::cancelled(&sealed, 0, u64::MAX), [(BASE, BASE + 300)]);
    assert_eq!(Says::head(&sealed, "a"), None);
    assert_eq!(Says::head(&life.index, "a"), None);
}

/// A segment that knows no key and no cancelled range has no bytes for them, in the file or in memory.
#[test]
fn an_index_without_keys_and_fences_is_as_before() {
    let mut life = Life::new();
    (0..300).for_each(|i| life.append(event(i % 7, None, None)));
    let bytes = build::encode(&life.index, &STORE, false);
    let header = IndexHeader::decode(&bytes[..PAGE_CONTENT]).unwrap();
    for kind in [index::KEYS, index::KEY_FILTER, index::CANCELLED] {
        assert_eq!(header.section(kind), None);
    }
    let before = life.index.bytes();
    life.append(event(0, None, Some(1)));
    assert!(life.index.bytes() > before);
    assert!(on_disk(&bytes).unwrap().0.key_filter().unwrap().is_none());
}

/// Readers that walk a stream while its events are rewound see every live event below the visible mark, once and in order.
#[test]
fn readers_miss_no_live_event_while_a_fence_is_cancelled() {
    let index = MemoryIndex::new(STORE, BASE, 1, 128);
    let hash = index.hash(b"a");
    let stream = index.insert_stream(hash, b"a", StreamHead::NEW);
    index.insert_scope(index.hash(b"main"), b"main");
    let (visible, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let region = Region::all().with_entity("a");
                while !stop.load(Ordering::Relaxed) {
                    let to = visible.load(Ordering::Acquire);
                    let from = to.saturating_sub(200);
                    let mut found = collected(|found| index.matches(&region, from, to, found).unwrap());
                    assert!(found.is_sorted_by(|a, b| a < b));
                    found.retain(|&ordinal| !index.is_cancelled(BASE + u64::from(ordinal)));
                    assert!(found.iter().copied().eq((from..to).filter(|ordinal| ordinal % 3 == 0)), "{from}..{to}");
                }
            });
        }
        for round in 0..20_000u32 {
            let ordinal = 3 * round;
            for ordinal in ordinal..ordinal + 3 {
                index.push(IndexEntry { offset: offset_of(ordinal), kind: 0, scope: 0, stream }, 0);
                if ordinal % 3 == 0 {
                    visible.store(ordinal + 1, Ordering::Release);
                }
            }
            let first = BASE + u64::from(ordinal) + 1;
            index.cancel(&[(first, first + 2)]);
            let head = StreamHead { next_clock: u64::from(round) + 1, last_sequence: first - 1 };
            index.rewind(hash, b"a", first, (round % 2 == 0).then_some(head));
            assert_eq!(index.heads().known_head(stream), Some(head));
            visible.store(ordinal + 3, Ordering::Release);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

fn hash_of_number(i: u32) -> u64 {
    name_hash(&STORE, format!("key number {i:08}").as_bytes())
}

/// A segment of one stream, where every event has a key.
fn keyed_segment(keys: u32) -> MemoryIndex {
    let index = MemoryIndex::new(STORE, BASE, 1, 128);
    let stream = index.insert_stream(index.hash(b"a"), b"a", StreamHead::NEW);
    index.insert_scope(index.hash(b"main"), b"main");
    for ordinal in 0..keys {
        index.push(IndexEntry { offset: offset_of(ordinal), kind: 0, scope: 0, stream }, 0);
        index.push_key(hash_of_number(ordinal), ordinal);
    }
    index
}

/// What the newest events of a stream cost is up to how many are asked for, not to how many there are; whatever their number is said to be.
#[test]
fn the_newest_events_of_a_stream_are_found_without_the_others() {
    const EVENTS: u32 = 100_000;
    let (sealed, cache) = on_disk(&build::encode(&keyed_segment(EVENTS), &STORE, false)).unwrap();
    for (to, asked) in [(EVENTS, 300), (EVENTS / 2, 300), (400, 300), (200, 300)] {
        cache.forget(BASE);
        let mut found = Vec::new();
        let reached = sealed.newest_of(b"a", &Region::all(), to, asked, &mut found).unwrap();
        assert_eq!(found, (reached..to).collect::<Vec<_>>());
        assert!(
            found.len() + BLOCK_VALUES >= asked.min(to as usize) && found.len() <= asked + 2 * BLOCK_VALUES,
            "{}",
            found.len()
        );
        assert!(found.capacity() <= asked + 2 * BLOCK_VALUES && cache.len() < 16, "{} pages", cache.len());
    }
}

/// A key is found in a sealed segment by two or three pages, whatever there is: its hash says where it stands.
#[test]
fn a_key_is_looked_up_in_few_pages() {
    const KEYS: u32 = 100_000;
    let (sealed, cache) = on_disk(&build::encode(&keyed_segment(KEYS), &STORE, false)).unwrap();
    let (mut pages, mut most) = (0, 0);
    for i in (0..KEYS * 2).step_by(997) {
        cache.forget(BASE);
        let found = collected(|found| sealed.find_keys(hash_of_number(i), found).unwrap());
        assert_eq!(found, if i < KEYS { vec![i] } else { vec![] });
        (pages, most) = (pages + cache.len(), most.max(cache.len()));
    }
    let average = pages as f64 / 201.0;
    println!("{average} pages on average, {most} at most");
    assert!(average < 2.5 && most <= 5, "{average} pages on average, {most} at most");
}

/// Not a test: `cargo test --release cost_of_sealed_keys -- --ignored --nocapture` prints it.
#[test]
#[ignore = "a measurement"]
fn cost_of_sealed_keys() {
    const KEYS: u32 = 280_000;
    let index = keyed_segment(KEYS);
    let start = Instant::now();
    let bytes = build::encode(&index, &STORE, false);
    println!("encoded in {:?}: {} bytes a key", start.elapsed(), bytes.len() / KEYS as usize);
    let (sealed, _) = on_disk(&bytes).unwrap();
    let start = Instant::now();
    build::load(&sealed, &STORE).unwrap();
    println!("loaded in {:?}", start.elapsed());
    let filter = sealed.key_filter().unwrap().unwrap();
    let start = Instant::now();
    let passed = (KEYS..2 * KEYS).filter(|&i| filter.may_contain(hash_of_number(i))).count();
    println!("filter of {} bytes: {:?} a key, {passed} of {KEYS} pass", filter.bytes(), start.elapsed() / KEYS);
    let mut found = Vec::new();
    let start = Instant::now();
    (0..20_000).for_each(|i| sealed.find_keys(hash_of_number(i * 14), &mut found).unwrap());
    println!("found in {:?} a key, from the simulated disk", start.elapsed() / 20_000);
}
