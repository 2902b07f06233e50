//! The idempotency keys of a segment in memory: from a key's hash to the ordinals of the events that carry it.
//!
//! A hash table with chains that grows by one bucket a key (linear hashing): no push ever moves the whole table, and a key takes
//! 20 bytes however many there are.
//!
//! Invariants:
//! * one writer at a time (the holder of the append lock) calls [`KeyTable::push`] and [`KeyTable::truncate`]; readers look up at any time;
//! * `keys[i].place` has the index + 1 of the next key of its bucket, which is older: indexes fall along every chain, so a walk
//!   ends whatever the writer does meanwhile;
//! * `state` is twice the number of buckets, plus one while a bucket is being split. Only a split moves keys between chains, so a walk
//!   that began and ended at the same even `state` has seen its whole bucket; [`KeyTable::split`] alone changes it.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

use super::chunks::Chunks;

/// Buckets of a table without keys: a power of two.
const BUCKETS_MIN: u32 = 1024;

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
    /// Index + 1 of the newest key of the bucket, 0 for none.
    buckets: Chunks<AtomicU32>,
    count: AtomicU32,
    state: AtomicU32,
}

/// The bucket of a hash among so many: those that the round of splits has reached go by one more bit.
fn bucket_of(hash: u64, buckets: u32) -> usize {
    let round = 1 << buckets.ilog2();
    let bucket = hash as u32 & (2 * round - 1);
    (if bucket < buckets { bucket } else { bucket & (round - 1) }) as usize
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

    /// Adds the key of an event that is newer than those of all other keys.
    pub fn push(&self, hash: u64, ordinal: u32) {
        let (index, buckets) = (self.count.load(Relaxed), self.state.load(Relaxed) / 2);
        let head = self.buckets.make(bucket_of(hash, buckets));
        let key = self.keys.make(index as usize);
        key.hash.store(hash, Relaxed);
        key.set(ordinal, head.load(Relaxed));
        // Publishes the key.
        head.store(index + 1, Release);
        self.count.store(index + 1, Release);
        if index >= buckets {
            self.split(buckets);
        }
    }

    /// Adds one bucket, and to it those keys of another that have one more bit of their hashes set. Both chains stay in order.
    fn split(&self, buckets: u32) {
        self.state.store(2 * buckets + 1, Relaxed);
        fence(Release);
        let round = 1 << buckets.ilog2();
        let heads = [self.buckets.make((buckets - round) as usize), self.buckets.make(buckets as usize)];
        let mut last: [Option<&Key>; 2] = [None; 2];
        let mut next = heads[0].load(Relaxed);
        while next != 0 {
            let key = self.keys.make(next as usize - 1);
            let side = usize::from(key.hash.load(Relaxed) as u32 & round != 0);
            match last[side].replace(key) {
                Some(newer) => newer.set(newer.ordinal(), next),
                None => heads[side].store(next, Release),
            }
            next = key.next();
        }
        for (head, last) in heads.into_iter().zip(last) {
            match last {
                Some(key) => key.set(key.ordinal(), 0),
                None => head.store(0, Relaxed),
            }
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
            self.buckets.make(bucket_of(key.hash.load(Relaxed), buckets)).store(key.next(), Release);
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
        let Some(head) = self.buckets.get(bucket_of(hash, buckets)) else { return };
        let mut next = head.load(Acquire);
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
