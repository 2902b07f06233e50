//! The storage of a memory index: arrays that grow while others read them.

use std::sync::OnceLock;

const CHUNK: usize = 4096;
const CHUNKS_PER_GROUP: usize = 256;
const GROUPS: usize = 1024;

type Chunk<T> = OnceLock<Box<[T]>>;
type Group<T> = OnceLock<Box<[Chunk<T>]>>;

/// An append-only array whose elements never move: readers keep no lock while it grows.
pub(crate) struct Chunks<T> {
    groups: Box<[Group<T>]>,
}

impl<T: Default> Chunks<T> {
    pub fn new() -> Chunks<T> {
        Chunks { groups: (0..GROUPS).map(|_| OnceLock::new()).collect() }
    }

    /// The element, made when missing.
    #[inline]
    pub fn make(&self, index: usize) -> &T {
        let chunk = index / CHUNK;
        let group = self.groups[chunk / CHUNKS_PER_GROUP]
            .get_or_init(|| (0..CHUNKS_PER_GROUP).map(|_| OnceLock::new()).collect());
        let chunk = group[chunk % CHUNKS_PER_GROUP].get_or_init(|| (0..CHUNK).map(|_| T::default()).collect());
        &chunk[index % CHUNK]
    }

    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        let chunk = index / CHUNK;
        self.groups.get(chunk / CHUNKS_PER_GROUP)?.get()?[chunk % CHUNKS_PER_GROUP].get().map(|c| &c[index % CHUNK])
    }

    pub fn bytes(&self) -> u64 {
        let chunks =
            self.groups.iter().filter_map(|g| g.get()).flat_map(|g| g.iter()).filter(|c| c.get().is_some()).count();
        (chunks * CHUNK * size_of::<T>()) as u64
    }
}

impl<T> std::fmt::Debug for Chunks<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chunks")
    }
}
