//! The storage of a memory index: arrays that grow while others read them.
//!
//! Elements lie in chunks, chunks are found through groups of pointers, and groups through a few pointers of the array itself: so an element
//! never moves, and an array of a few elements is small.
//!
//! Invariants: a pointer is null or owns a group of [`GROUP`] pointers, or a chunk of [`CHUNK`] elements, and once it is not null it stays as it is
//! until the array is dropped. Whoever sets it has made what it points to before (release); whoever reads it sees that (acquire).

use std::ptr::{self, NonNull};
use std::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Release},
};

use crate::error::Result;
use crate::event::make_room;

const CHUNK: usize = 4096;
const GROUP: usize = 512;
const GROUPS: usize = 64;

/// Null, or the first of so many elements that it owns.
struct Owner<T, const N: usize>(AtomicPtr<T>);

impl<T, const N: usize> Default for Owner<T, N> {
    fn default() -> Owner<T, N> {
        Owner(AtomicPtr::new(ptr::null_mut()))
    }
}

// SAFETY: as a boxed slice: what it owns goes with it.
unsafe impl<T: Send, const N: usize> Send for Owner<T, N> {}
// SAFETY: as a boxed slice that is shared, and set once by any thread: references to the elements are given to all, and they may be dropped by
// another thread than made them.
unsafe impl<T: Send + Sync, const N: usize> Sync for Owner<T, N> {}

impl<T, const N: usize> Owner<T, N> {
    /// The element, when there are any. `index` is taken modulo their number.
    #[inline]
    fn get(&self, index: usize) -> Option<&T> {
        let first = NonNull::new(self.0.load(Acquire))?;
        // SAFETY: so many elements, which never move and live as long as this.
        Some(unsafe { first.add(index % N).as_ref() })
    }

    /// Makes the elements, unless they are there.
    fn make(&self) -> Result<()>
    where
        T: Default,
    {
        if self.0.load(Acquire).is_null() {
            let mut elements = Vec::new();
            make_room(&mut elements, N)?;
            elements.resize_with(N, T::default);
            let made = Box::into_raw(elements.into_boxed_slice()).cast();
            if self.0.compare_exchange(ptr::null_mut(), made, Release, Acquire).is_err() {
                // SAFETY: made above, and nobody has seen it.
                drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(made, N)) });
            }
        }
        Ok(())
    }
}

impl<T, const N: usize> Drop for Owner<T, N> {
    fn drop(&mut self) {
        let first = *self.0.get_mut();
        if !first.is_null() {
            // SAFETY: owned, made from a boxed slice of that length, and nobody has a reference any more.
            drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(first, N)) });
        }
    }
}

/// An append-only array whose elements never move: readers keep no lock while it grows.
pub(crate) struct Chunks<T> {
    groups: [Owner<Owner<T, CHUNK>, GROUP>; GROUPS],
}

impl<T: Default> Chunks<T> {
    pub fn new() -> Chunks<T> {
        Chunks { groups: [const { Owner(AtomicPtr::new(ptr::null_mut())) }; GROUPS] }
    }

    /// The element, made when missing.
    ///
    /// # Panics
    /// When it is missing and there is no memory for it, and at an index beyond what a segment can hold.
    #[inline]
    pub fn make(&self, index: usize) -> &T {
        match self.get(index) {
            Some(element) => element,
            None => self.make_slowly(index),
        }
    }

    #[cold]
    fn make_slowly(&self, index: usize) -> &T {
        self.make_room(index, 1).expect("memory for an index");
        self.get(index).expect("made above")
    }

    /// Makes `count` elements from `from` on, so that [`Chunks::make`] of them allocates nothing.
    pub fn make_room(&self, from: usize, count: usize) -> Result<()> {
        for chunk in from / CHUNK..(from + count).div_ceil(CHUNK) {
            let group = &self.groups[chunk / GROUP];
            group.make()?;
            if let Some(chunk) = group.get(chunk) {
                chunk.make()?;
            }
        }
        Ok(())
    }

    /// Whether `count` elements from `from` on are sure to be there when all before `from` were made one by one.
    #[inline]
    pub fn has_room(from: usize, count: usize) -> bool {
        from % CHUNK != 0 && from % CHUNK + count <= CHUNK
    }
}

impl<T> Chunks<T> {
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        let chunk = index / CHUNK;
        self.groups.get(chunk / GROUP)?.get(chunk)?.get(index)
    }

    pub fn bytes(&self) -> u64 {
        let chunks = self.groups.iter().flat_map(|group| (0..GROUP).map_while(|chunk| group.get(chunk)));
        (chunks.filter(|chunk| chunk.get(0).is_some()).count() * CHUNK * size_of::<T>()) as u64
    }
}

impl<T> std::fmt::Debug for Chunks<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chunks")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn elements_stay_where_they_are_while_others_are_made() {
        let array: Chunks<AtomicU64> = Chunks::new();
        assert!(array.get(0).is_none() && array.get(usize::MAX).is_none());
        assert_eq!(array.bytes(), 0);
        let places: Vec<*const AtomicU64> = (0..3 * CHUNK)
            .map(|index| {
                let element = array.make(index);
                element.store(index as u64, Relaxed);
                ptr::from_ref(element)
            })
            .collect();
        for (index, place) in places.iter().enumerate() {
            let element = array.get(index).unwrap();
            assert!(ptr::eq(element, *place) && element.load(Relaxed) == index as u64);
        }
        assert_eq!(array.bytes(), 3 * 8 * CHUNK as u64);
        assert!(array.get(3 * CHUNK).is_none());
    }

    #[test]
    fn threads_that_make_the_same_elements_share_them() {
        let array: Chunks<AtomicU64> = Chunks::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..2 * CHUNK).for_each(|index| _ = array.make(index).fetch_add(1, Relaxed)));
            }
        });
        assert!((0..2 * CHUNK).all(|index| array.get(index).unwrap().load(Relaxed) == 4));
    }

    #[test]
    fn each_element_is_dropped_once() {
        #[derive(Default)]
        struct Counted(Option<Arc<AtomicUsize>>);
        impl Drop for Counted {
            fn drop(&mut self) {
                if let Some(count) = &self.0 {
                    count.fetch_add(1, Relaxed);
                }
            }
        }
        let count = Arc::new(AtomicUsize::new(0));
        let array: Chunks<Mutex<Counted>> = Chunks::new();
        array.make_room(0, CHUNK + 1).unwrap();
        for index in [0, CHUNK - 1, CHUNK] {
            array.get(index).unwrap().lock().unwrap().0 = Some(count.clone());
        }
        drop(array);
        assert_eq!(count.load(Relaxed), 3);
    }
}
