//! The filters over an index's entities and over its keys: split-block Bloom filters, as in the Parquet format.
//!
//! ```text
//! the filter = blocks of 32 bytes = eight u32 words
//! block number of hash h = ((h >> 32) * blocks) >> 32
//! word i of the block has bit ((h & 0xFFFFFFFF) * SALT[i] mod 2^32) >> 27 set
//! ```
//!
//! Valid iff its length is a multiple of 32 and not 0. A damaged filter cannot be told from a sound one here: the checksums of
//! its pages tell.

/// Bytes of one block: the part of the filter that one look-up needs.
pub const BLOCK_BYTES: usize = 32;

const SALT: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// Collects hashes into a filter.
#[derive(Debug, Clone)]
pub struct FilterBuilder {
    blocks: Vec<[u32; 8]>,
}

impl FilterBuilder {
    /// A filter for `count` different hashes: 10.5 bits each, about one look-up in a hundred is a false positive.
    pub fn new(count: usize) -> FilterBuilder {
        FilterBuilder::with_half_bits(count, 21)
    }

    /// A filter for `count` different keys: 12 bits each. A new key is looked for in every segment of the window, so false positives add up.
    pub fn for_keys(count: usize) -> FilterBuilder {
        FilterBuilder::with_half_bits(count, 24)
    }

    fn with_half_bits(count: usize, half_bits: usize) -> FilterBuilder {
        FilterBuilder { blocks: vec![[0; 8]; (count * half_bits).div_ceil(2 * 8 * BLOCK_BYTES).max(1)] }
    }

    /// Adds a hash.
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        let index = block_index(hash, self.blocks.len() as u64) as usize;
        for (word, salt) in self.blocks[index].iter_mut().zip(SALT) {
            *word |= bit(hash, salt);
        }
    }

    /// The filter's bytes.
    pub fn finish(self) -> Vec<u8> {
        self.blocks.as_flattened().iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// The number of the block that knows of `hash`, in a filter of `blocks` blocks.
#[inline]
pub fn block_index(hash: u64, blocks: u64) -> u64 {
    ((hash >> 32) * (blocks & 0xFFFF_FFFF)) >> 32
}

/// False: `hash` was not inserted. True: it probably was.
#[inline]
pub fn block_contains(block: &[u8; BLOCK_BYTES], hash: u64) -> bool {
    block.chunks_exact(4).zip(SALT).all(|(word, salt)| super::u32_at(word, 0) & bit(hash, salt) != 0)
}

/// Asks the whole filter. One whose length is not valid knows nothing and says true.
#[inline]
pub fn filter_contains(blocks: &[u8], hash: u64) -> bool {
    let index = block_index(hash, (blocks.len() / BLOCK_BYTES) as u64) as usize;
    match blocks.get(index * BLOCK_BYTES..).and_then(|rest| rest.first_chunk()) {
        Some(block) => block_contains(block, hash),
        None => true,
    }
}

#[inline]
fn bit(hash: u64, salt: u32) -> u32 {
    1 << ((hash as u32).wrapping_mul(salt) >> 27)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(count: u64, from: u64) -> impl Iterator<Item = u64> {
        (from..from + count).map(|i| {
            let h = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (h ^ h >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
        })
    }

    #[test]
    fn nothing_inserted_is_ever_denied() {
        for count in [1, 2, 24, 25, 1000, 10_000] {
            let mut builder = FilterBuilder::new(count as usize);
            hashes(count, 0).for_each(|hash| builder.insert(hash));
            let filter = builder.finish();
            assert_eq!(filter.len() % BLOCK_BYTES, 0);
            assert!(filter.len() * 8 <= count as usize * 11 + 256);
            assert!(hashes(count, 0).all(|hash| filter_contains(&filter, hash)));
        }
    }

    #[test]
    fn few_others_are_let_through() {
        for (mut builder, most) in [(FilterBuilder::new(10_000), 1_500), (FilterBuilder::for_keys(10_000), 900)] {
            hashes(10_000, 0).for_each(|hash| builder.insert(hash));
            let filter = builder.finish();
            let wrong = hashes(100_000, 1 << 40).filter(|&hash| filter_contains(&filter, hash)).count();
            println!("{wrong} of 100,000");
            assert!(wrong < most, "{wrong} of 100,000");
        }
    }

    #[test]
    fn a_filter_of_no_valid_length_denies_nothing() {
        assert!(filter_contains(&[], 7));
        assert!(filter_contains(&[0; 31], 7));
        assert!(!filter_contains(&[0; 32], 7));
    }

    #[test]
    fn one_block_can_be_asked_alone() {
        let mut builder = FilterBuilder::new(1000);
        builder.insert(0xDEAD_BEEF_0123_4567);
        let filter = builder.finish();
        let index = block_index(0xDEAD_BEEF_0123_4567, (filter.len() / 32) as u64) as usize;
        let block: &[u8; 32] = filter[32 * index..].first_chunk().unwrap();
        assert!(block_contains(block, 0xDEAD_BEEF_0123_4567));
        assert_eq!(filter.iter().map(|byte| byte.count_ones()).sum::<u32>(), 8);
    }
}
