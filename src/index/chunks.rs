//! The storage of a memory index: arrays that grow while others read them.

use std::sync::OnceLock;

use crate::error::Result;
use crate::event::make_room;

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

    /// Makes `count` elements from `from` on, so that [`Chunks::make`] of them allocates nothing. One thread at a time.
    pub fn make_room(&self, from: usize, count: usize) -> Result<()> {
        for chunk in from / CHUNK..(from + count).div_ceil(CHUNK) {
            let group = made(&self.groups[chunk / CHUNKS_PER_GROUP], CHUNKS_PER_GROUP)?;
            made(&group[chunk % CHUNKS_PER_GROUP], CHUNK)?;
        }
        Ok(())
    }

    /// Whether `count` elements from `from` on are sure to be there when all before `from` were made one by one.
    #[inline]
    pub fn has_room(from: usize, count: usize) -> bool {
        from % CHUNK != 0 && from % CHUNK + count <= CHUNK
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

fn made<T: Default>(place: &OnceLock<Box<[T]>>, count: usize) -> Result<&[T]> {
    if let Some(there) = place.get() {
        return Ok(there);
    }
    let mut elements = Vec::new();
    make_room(&mut elements, count)?;
    elements.resize_with(count, T::default);
    // No other thread makes it meanwhile; if one did, its elements are as good.
    Ok(place.get_or_init(|| elements.into_boxed_slice()))
}

impl<T> std::fmt::Debug for Chunks<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chunks")
    }
}
