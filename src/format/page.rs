//! The pages of an index file.
//!
//! ```text
//! offset in page  size
//!              0  4092  content
//!           4092     4  CRC32C of: store id, base (u64), page number (u32, from 0), content
//! ```
//!
//! The stream of contents is all contents joined: its byte L stands in page L / 4092 at L % 4092. The last page is filled up
//! with zeros.
//!
//! A page is valid iff it has 4096 bytes and its CRC matches.

use super::checksum;
use super::{put, u32_at};
use crate::event::StoreId;

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;
/// Bytes of a page's content.
pub const PAGE_CONTENT: usize = 4092;

/// The seed of the checksums of the pages of the index with that base.
pub fn page_seed(store_id: &StoreId, base: u64) -> u32 {
    checksum::crc32c_append(checksum::crc32c(&store_id.0), &base.to_le_bytes())
}

/// How many pages hold so many bytes of content.
pub fn page_count(stream_length: u64) -> u64 {
    stream_length.div_ceil(PAGE_CONTENT as u64)
}

/// The whole file: `content` cut into pages, each with its checksum.
pub fn seal_pages(content: &[u8], store_id: &StoreId, base: u64) -> Vec<u8> {
    let seed = page_seed(store_id, base);
    let mut file = vec![0; content.len().div_ceil(PAGE_CONTENT) * PAGE_BYTES];
    for ((number, page), content) in (0..).zip(file.chunks_exact_mut(PAGE_BYTES)).zip(content.chunks(PAGE_CONTENT)) {
        put(page, 0, content);
        let crc = page_crc(&page[..PAGE_CONTENT], seed, number);
        put(page, PAGE_CONTENT, &crc.to_le_bytes());
    }
    file
}

/// Whether `page` is the sound page of that number.
#[inline]
pub fn check_page(page: &[u8], seed: u32, number: u32) -> bool {
    page.len() == PAGE_BYTES && page_crc(&page[..PAGE_CONTENT], seed, number) == u32_at(page, PAGE_CONTENT)
}

#[inline]
fn page_crc(content: &[u8], seed: u32, number: u32) -> u32 {
    checksum::crc32c_append(checksum::crc32c_append(seed, &number.to_le_bytes()), content)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([6; 16]);

    #[test]
    fn contents_are_cut_at_4092_bytes() {
        for (length, pages) in [(0, 0), (1, 1), (4092, 1), (4093, 2), (3 * 4092 + 5, 4)] {
            let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let file = seal_pages(&content, &STORE, 9);
            assert_eq!(file.len(), pages * PAGE_BYTES);
            assert_eq!(page_count(length as u64), pages as u64);
            let joined: Vec<u8> =
                file.chunks(PAGE_BYTES).flat_map(|page| &page[..PAGE_CONTENT]).copied().take(length).collect();
            assert_eq!(joined, content);
            for (number, page) in (0..).zip(file.chunks(PAGE_BYTES)) {
                assert!(check_page(page, page_seed(&STORE, 9), number));
            }
        }
    }

    #[test]
    fn the_checksum_is_the_documented_one() {
        let file = seal_pages(b"content", &STORE, 9);
        let mut covered = STORE.0.to_vec();
        covered.extend(9u64.to_le_bytes());
        covered.extend(0u32.to_le_bytes());
        covered.extend(&file[..PAGE_CONTENT]);
        assert_eq!(file[PAGE_CONTENT..], checksum::crc32c(&covered).to_le_bytes());
    }

    #[test]
    fn every_flipped_bit_and_every_other_place_is_detected() {
        let page = seal_pages(&[1; 4092], &STORE, 9);
        let seed = page_seed(&STORE, 9);
        for bit in 0..8 * PAGE_BYTES {
            let mut damaged = page.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!check_page(&damaged, seed, 0), "bit {bit}");
        }
        assert!(!check_page(&page, seed, 1));
        assert!(!check_page(&page, page_seed(&STORE, 10), 0));
        assert!(!check_page(&page, page_seed(&StoreId([7; 16]), 9), 0));
        assert!(!check_page(&page[..4095], seed, 0));
    }
}
