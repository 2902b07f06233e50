//! The idempotency keys of a segment in memory: from a key's hash to the ordinals of the events that carry it.
//!
//! A hash table with chains that grows bucket by bucket (linear hashing): no push ever moves the whole table, and a key takes 20 bytes
//! however many there are. Most look-ups are for keys that are not there: a bucket has 32 marks, one for each value of its keys'
//! topmost five bits, which deny them without a look at a key.
//!
//! Invariants:
//! * one writer at a time (the holder of the append lock) calls [`KeyTable::push`] and [`KeyTable::truncate`]; readers look up at any time;
//! * `keys[i].place` has the index + 1 of the next key of its bucket, which is older: indexes fall along every chain, so a walk
//!   ends whatever the writer does meanwhile;
//! * a bucket has the marks of all its keys, and perhaps some of keys that were truncated;
//! * `state` is twice the number of buckets, plus one while a bucket is being split. Only a split moves keys between chains, so a walk
//!   that began and ended at the same even `state` has seen its whole bucket; [`KeyTable::split`] alone changes it.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

use super::chunks::Chunks;
use crate::error::Result;

/// Buckets of a table without keys: a power of two.
const BUCKETS_MIN: u32 = 1024;
/// Keys for each bucket.
const LOAD: u32 = 2;

#[derive(Debug, Default)]
struct Key {
    hash: AtomicU64,
    /// Bits 0..32 ordinal, 32..64 index + 1 of the next key of the bucket, 0 for none.
    place: AtomicU64,
}

impl Key {
    fn next(&self) -> u32 {
        (self.place.load(Relaxed) >> 32) as u32
    }

    fn ordinal(&self) -> u32 {
        self.place.load(Relaxed) as u32
    }

    fn set(&self, ordinal: u32, next: u32) {
        self.place.store(u64::from(ordinal) | u64::from(next) << 32, Relaxed);
    }
}

/// Keys in the order of their events.
#[derive(Debug)]
pub(crate) struct KeyTable {
    keys: Chunks<Key>,
    /// Bits 0..32 index + 1 of the newest key of the bucket, 0 for none; 32..64 marks.
    buckets: Chunks<AtomicU64>,
    count: AtomicU32,
    state: AtomicU32,
}

/// The bucket of a hash among so many: those that the round of splits has reached go by one more bit.
fn bucket_of(hash: u64, buckets: u32) -> usize {
    let round = 1 << buckets.ilog2();
    let bucket = hash as u32 & (2 * round - 1);
    (if bucket < buckets { bucket } else { bucket & (round - 1) }) as usize
}

/// The mark of a hash in its bucket.
fn mark(hash: u64) -> u64 {
    1 << (32 + (hash >> 59))
}

/// A bucket with other keys and the same marks.
fn with_newest(bucket: u64, newest: u32) -> u64 {
    bucket & !u64::from(u32::MAX) | u64::from(newest)
}

impl KeyTable {
    pub fn new() -> KeyTable {
        KeyTable {
            keys: Chunks::new(),
            buckets: Chunks::new(),
            count: AtomicU32::new(0),
            state: AtomicU32::new(2 * BUCKETS_MIN),
        }
    }

    pub fn len(&self) -> u32 {
        self.count.load(Acquire)
    }

    /// Makes room for `more` keys, so that pushing them allocates nothing.
    pub fn make_room(&self, more: usize) -> Result<()> {
        let (index, buckets) = (self.count.load(Relaxed) as usize, (self.state.load(Relaxed) / 2) as usize);
        self.keys.make_room(index, more)?;
        // The first buckets, and those that splits will add: the others are there.
        self.buckets.make_room(0, BUCKETS_MIN as usize)?;
        self.buckets.make_room(buckets, more / LOAD as usize + 2)
    }

    /// Adds the key of an event that is newer than those of all other keys.
    pub fn push(&self, hash: u64, ordinal: u32) {
        let (index, buckets) = (self.count.load(Relaxed), self.state.load(Relaxed) / 2);
        let bucket = self.buckets.make(bucket_of(hash, buckets));
        let before = bucket.load(Relaxed);
        let key = self.keys.make(index as usize);
        key.hash.store(hash, Relaxed);
        key.set(ordinal, before as u32);
        // Publishes the key.
        bucket.store(with_newest(before, index + 1) | mark(hash), Release);
        self.count.store(index + 1, Release);
        if index >= LOAD * buckets {
            self.split(buckets);
        }
    }

    /// Adds one bucket, and to it those keys of another that have one more bit of their hashes set. Both chains stay in order.
    fn split(&self, buckets: u32) {
        self.state.store(2 * buckets + 1, Relaxed);
        fence(Release);
        let round = 1 << buckets.ilog2();
        let sides = [self.buckets.make((buckets - round) as usize), self.buckets.make(buckets as usize)];
        let mut split = [0; 2];
        let mut last: [Option<&Key>; 2] = [None; 2];
        let mut next = sides[0].load(Relaxed) as u32;
        while next != 0 {
            let key = self.keys.make(next as usize - 1);
            let hash = key.hash.load(Relaxed);
            let side = usize::from(hash as u32 & round != 0);
            split[side] |= mark(hash);
            match last[side].replace(key) {
                Some(newer) => newer.set(newer.ordinal(), next),
                None => split[side] = with_newest(split[side], next),
            }
            next = key.next();
        }
        for side in 0..2 {
            if let Some(oldest) = last[side] {
                oldest.set(oldest.ordinal(), 0);
            }
            sides[side].store(split[side], Release);
        }
        self.state.store(2 * (buckets + 1), Release);
    }

    /// Takes back the keys of events from ordinal `events` on (recovery only: nobody reads).
    pub fn truncate(&self, events: u32) {
        let buckets = self.state.load(Relaxed) / 2;
        for index in (0..self.count.load(Relaxed)).rev() {
            let key = self.keys.make(index as usize);
            if key.ordinal() < events {
                break;
            }
            // The newest key of all is the newest of its bucket.
            let bucket = self.buckets.make(bucket_of(key.hash.load(Relaxed), buckets));
            bucket.store(with_newest(bucket.load(Relaxed), key.next()), Release);
            self.count.store(index, Release);
        }
    }

    /// Appends the ordinals from `from` on whose key has that hash, ascending.
    pub fn find(&self, hash: u64, from: u32, found: &mut Vec<u32>) {
        let first = found.len();
        loop {
            let state = self.state.load(Acquire);
            if state & 1 == 0 {
                self.walk(hash, from, state / 2, found);
                fence(Acquire);
                if self.state.load(Relaxed) == state {
                    break found[first..].reverse();
                }
                found.truncate(first);
            }
            std::hint::spin_loop();
        }
    }

    fn walk(&self, hash: u64, from: u32, buckets: u32, found: &mut Vec<u32>) {
        let Some(bucket) = self.buckets.get(bucket_of(hash, buckets)) else { return };
        let bucket = bucket.load(Acquire);
        if bucket & mark(hash) == 0 {
            return;
        }
        let mut next = bucket as u32;
        while let Some(key) = next.checked_sub(1).and_then(|index| self.keys.get(index as usize)) {
            if key.ordinal() < from {
                break;
            }
            if key.hash.load(Relaxed) == hash {
                found.push(key.ordinal());
            }
            next = key.next();
        }
    }

    /// All keys: hash and ordinal, by ordinal.
    pub fn all(&self) -> Vec<(u64, u32)> {
        let keys = (0..self.len() as usize).map_while(|index| self.keys.get(index));
        keys.map(|key| (key.hash.load(Relaxed), key.ordinal())).collect()
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> u64 {
        self.keys.bytes() + self.buckets.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    fn mixed(i: u64) -> u64 {
        let h = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (h ^ h >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    }

    fn found(table: &KeyTable, hash: u64, from: u32) -> Vec<u32> {
        let mut found = Vec::new();
        table.find(hash, from, &mut found);
        found
    }

    proptest! {
        /// The table finds what a list would, with equal hashes, hashes that differ in high bits alone, and after truncation.
        #[test]
        fn a_table_finds_what_a_list_would(
            picks in prop::collection::vec((0..40u64, 1..4u32), 0..60),
            spread in 1..5000u32,
            cut in 0..200u32,
        ) {
            let hash = |pick: u64| if pick < 20 { mixed(pick) } else { pick << 40 };
            let table = KeyTable::new();
            let mut list = Vec::new();
            let mut ordinal = 0;
            for &(pick, step) in &picks {
                // Others in between, so that buckets are split.
                for filler in 0..spread / 60 {
                    table.push(mixed(1 << 30 | u64::from(ordinal + filler)), ordinal);
                }
                ordinal += step;
                table.push(hash(pick), ordinal);
                list.push((hash(pick), ordinal));
                ordinal += 1;
            }
            for cut in [u32::MAX, cut] {
                table.truncate(cut);
                list.retain(|key| key.1 < cut);
                for (pick, from) in (0..40).flat_map(|pick| [(pick, 0), (pick, ordinal / 2)]) {
                    let expected: Vec<u32> =
                        list.iter().filter(|key| key.0 == hash(pick) && key.1 >= from).map(|key| key.1).collect();
                    prop_assert_eq!(found(&table, hash(pick), from), expected);
                }
                prop_assert!(table.all().iter().all(|key| key.1 < cut));
            }
            table.push(hash(0), u32::MAX - 1);
            prop_assert_eq!(found(&table, hash(0), ordinal), [u32::MAX - 1]);
        }
    }

    /// A key costs 20 bytes, whatever their number.
    #[test]
    fn a_key_takes_twenty_bytes() {
        let table = KeyTable::new();
        (0..300_000).for_each(|i| table.push(mixed(i.into()), i));
        assert!(table.bytes() <= 300_000 * 20 + 2 * 4096 * 20, "{} bytes", table.bytes());
        assert_eq!(table.len(), 300_000);
    }

    /// A reader finds every key that was there when it began, while the writer splits buckets under it.
    #[test]
    fn readers_miss_no_key_while_buckets_are_split() {
        let table = KeyTable::new();
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let table = &table;
                scope.spawn(move || {
                    let mut at = thread;
                    loop {
                        let count = table.len();
                        if count > 0 {
                            at = mixed(at) % u64::from(count);
                            assert_eq!(found(table, mixed(at), 0), [at as u32]);
                        }
                        if count == 60_000 {
                            break;
                        }
                    }
                });
            }
            (0..60_000).for_each(|i| table.push(mixed(i.into()), i));
        });
    }

    /// Not a test: `cargo test --release cost_of_a_key -- --ignored --nocapture` prints it.
    #[test]
    #[ignore = "a measurement"]
    fn cost_of_a_key() {
        for _ in 0..3 {
            let (table, mut hits) = (KeyTable::new(), Vec::new());
            let start = Instant::now();
            (0..280_000).for_each(|i| table.push(mixed(i.into()), i));
            let pushed = start.elapsed() / 280_000;
            let start = Instant::now();
            (0..280_000).for_each(|i| table.find(mixed(i + (1 << 40)), 0, &mut hits));
            let absent = start.elapsed() / 280_000;
            let start = Instant::now();
            (0..280_000).for_each(|i| table.find(mixed(i), 0, &mut hits));
            let present = start.elapsed() / 280_000;
            assert_eq!(hits.len(), 280_000);
            let table = KeyTable::new();
            let start = Instant::now();
            (0..280_000).for_each(|i| {
                table.find(mixed(i), 0, &mut hits);
                table.push(mixed(i), i as u32);
            });
            let both = start.elapsed() / 280_000;
            println!(
                "push {pushed:?}, find an absent key {absent:?}, a present one {present:?}; find and push {both:?}"
            );
        }
    }
}
