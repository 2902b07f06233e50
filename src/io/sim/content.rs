//! The bytes of a simulated file: sparse pages, cheap to clone.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

const PAGE_BYTES: usize = 4096;

type Page = Arc<[u8; PAGE_BYTES]>;

static ZEROS: LazyLock<Page> = LazyLock::new(|| Arc::new([0; PAGE_BYTES]));

/// A page that is absent was never written: it reads as zeros and has no block on the disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    length: u64,
    pages: BTreeMap<u64, Page>,
}

impl Content {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            let (page, used) = split(length);
            let first_gone = if used == 0 { page } else { page + 1 };
            self.pages.split_off(&first_gone);
            if let Some(last) = self.pages.get_mut(&page) {
                Arc::make_mut(last)[used..].fill(0);
            }
        }
        self.length = length;
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let available = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        for (page, within, range) in pieces(offset, available) {
            match self.pages.get(&page) {
                Some(bytes) => buffer[range.clone()].copy_from_slice(&bytes[within..within + range.len()]),
                None => buffer[range].fill(0),
            }
        }
        available
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        for (page, within, range) in pieces(offset, bytes.len()) {
            let piece = &bytes[range];
            let target = self.pages.entry(page).or_insert_with(|| Arc::clone(&ZEROS));
            if target[within..within + piece.len()] != *piece {
                Arc::make_mut(target)[within..within + piece.len()].copy_from_slice(piece);
            }
        }
        if !bytes.is_empty() {
            self.length = self.length.max(offset + bytes.len() as u64);
        }
    }

    /// Whether the whole range lies in the file and was written before.
    pub(super) fn is_allocated(&self, offset: u64, length: usize) -> bool {
        offset.checked_add(length as u64).is_some_and(|end| end <= self.length)
            && pieces(offset, length).all(|(page, _, _)| self.pages.contains_key(&page))
    }

    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        let mut byte = [0];
        if self.read(&mut byte, offset) == 1 {
            self.write(&[byte[0] ^ mask], offset);
        }
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length as usize];
        self.read(&mut bytes, 0);
        bytes
    }
}

/// What a reader can see; holes and written zeros are the same.
impl Hash for Content {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.length.hash(hasher);
        for (number, page) in &self.pages {
            if !Arc::ptr_eq(page, &ZEROS) && **page != **ZEROS {
                number.hash(hasher);
                hasher.write(&page[..]);
            }
        }
    }
}

fn split(offset: u64) -> (u64, usize) {
    (offset / PAGE_BYTES as u64, (offset % PAGE_BYTES as u64) as usize)
}

/// The page, the position within it and the range of the buffer, for each page that `length` bytes at `offset` touch.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let (page, within) = split(offset + done as u64);
        let start = done;
        done += (PAGE_BYTES - within).min(length - done);
        Some((page, within, start..done))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sparse pages against a plain vector.
    #[test]
    fn it_behaves_like_a_vector() {
        let mut random = crate::io::sim::Random::new(7);
        let mut content = Content::default();
        let mut model: Vec<u8> = Vec::new();
        for _ in 0..2000 {
            let offset = random.below(20_000) as usize;
            let length = random.below(9_000) as usize;
            if random.below(4) == 0 {
                content.set_length(offset as u64);
                model.resize(offset, 0);
            } else {
                let bytes = vec![random.below(3) as u8; length];
                content.write(&bytes, offset as u64);
                if length > 0 {
                    model.resize(model.len().max(offset + length), 0);
                    model[offset..offset + length].copy_from_slice(&bytes);
                }
            }
            assert_eq!(content.length(), model.len() as u64);
            assert_eq!(content.to_vec(), model);
        }
    }

    #[test]
    fn only_written_pages_are_allocated() {
        let mut content = Content::default();
        content.write(&[0; 4096], 4096);
        content.set_length(20_000);
        assert!(content.is_allocated(5000, 3192));
        assert!(!content.is_allocated(5000, 3193));
        assert!(!content.is_allocated(0, 1));
        assert!(!content.is_allocated(u64::MAX, 1));
    }
}
