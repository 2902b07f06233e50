//! Packed columns: integers in blocks of 128, each block with the fewest bits that its range needs, any value in reach of
//! one load.
//!
//! ```text
//! per block a directory row of 16 bytes:
//!   offset size
//!        0    8  minimum
//!        8    4  place of the block's bits, in units of 8 bytes from the section's start
//!       12    1  width w in bits, 0..56
//!       13    3  zero
//! then per block 16 * w bytes: value i is minimum + the w bits from bit i * w on, least significant first;
//!   the last block is filled up with zero bits
//! then 8 zero bytes
//! ```
//!
//! A column of `count` values is valid iff
//! 1. the directory has ceil(count / 128) rows, and 8 bytes stand behind rows and blocks;
//! 2. every width is at most 56;
//! 3. every block's bits lie behind the directory and before the last 8 bytes;
//! 4. the zero bytes of the rows are zero.

use super::{Malformed, u32_at, u64_at};

/// Values in a block.
pub const BLOCK_VALUES: usize = 128;
/// Bytes of a directory row.
pub const ROW_BYTES: usize = 16;
/// Zero bytes behind the blocks.
pub const SLACK_BYTES: usize = 8;
/// The widest values that one 8-byte load reaches at every bit offset.
pub const WIDTH_MAX: u8 = 56;

/// Appends the packed column of `values` to `out`.
///
/// # Panics
/// When values of one block are 2^56 or more apart, or the section exceeds 32 GiB: callers pack offsets, sequences and
/// numbers of what one segment holds.
pub fn pack(mut values: impl ExactSizeIterator<Item = u64>, out: &mut Vec<u8>) {
    let count = values.len();
    let start = out.len();
    let mut row_at = start;
    out.resize(start + count.div_ceil(BLOCK_VALUES) * ROW_BYTES, 0);
    let mut block = [0; BLOCK_VALUES];
    let mut left = count;
    while left > 0 {
        let filled = left.min(BLOCK_VALUES);
        left -= filled;
        let (mut minimum, mut maximum) = (u64::MAX, 0);
        for (slot, value) in block[..filled].iter_mut().zip(&mut values) {
            *slot = value;
            minimum = minimum.min(value);
            maximum = maximum.max(value);
        }
        block[filled..].fill(minimum);
        let width = 64 - (maximum - minimum).leading_zeros();
        assert!(width <= u32::from(WIDTH_MAX), "the values of a block are too far apart");
        let place = u32::try_from((out.len() - start) / 8).expect("a packed column has at most 32 GiB");
        out[row_at..row_at + 8].copy_from_slice(&minimum.to_le_bytes());
        out[row_at + 8..row_at + 12].copy_from_slice(&place.to_le_bytes());
        out[row_at + 12] = width as u8;
        row_at += ROW_BYTES;
        pack_block(&block, minimum, width, out);
    }
    out.extend([0; SLACK_BYTES]);
}

fn pack_block(block: &[u64; BLOCK_VALUES], minimum: u64, width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let mut bytes = [0; 2 * 8 * WIDTH_MAX as usize];
    let (mut word, mut bits, mut at) = (0u64, 0, 0);
    for &value in block {
        let value = value - minimum;
        word |= value << bits;
        bits += width;
        if bits >= 64 {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            at += 8;
            bits -= 64;
            // The bits that did not fit; none when the value ended with the word.
            word = if bits == 0 { 0 } else { value >> (width - bits) };
        }
    }
    out.extend_from_slice(&bytes[..16 * width as usize]);
}

/// The block that value `i` is in.
#[inline]
pub fn block_of(i: u64) -> u64 {
    i / BLOCK_VALUES as u64
}

/// Where, from the section's start, the directory row of value `i` stands.
#[inline]
pub fn directory_offset(i: u64) -> u64 {
    block_of(i) * ROW_BYTES as u64
}

/// A row of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRow {
    /// The least value of the block.
    pub minimum: u64,
    /// Where the block's bits begin, in units of 8 bytes from the section's start.
    pub place: u32,
    /// Bits of a value, at most [`WIDTH_MAX`].
    pub width: u8,
}

impl BlockRow {
    /// Reads a row (conditions 2 and 4). Whether the block's bits lie in the section is for the reader to check, who knows
    /// its length.
    #[inline]
    pub fn decode(bytes: &[u8; ROW_BYTES]) -> Result<BlockRow, Malformed> {
        let row = BlockRow { minimum: u64_at(bytes, 0), place: u32_at(bytes, 8), width: bytes[12] };
        // Width and the zero bytes behind it are one little-endian word.
        if u32_at(bytes, 12) > u32::from(WIDTH_MAX) {
            return Err(Malformed::damaged("a directory row of a packed column is not valid"));
        }
        Ok(row)
    }

    /// Where, from the section's start, the block's bits begin.
    #[inline]
    pub fn bits_offset(&self) -> u64 {
        u64::from(self.place) * 8
    }

    /// Length of the block's bits in bytes.
    #[inline]
    pub fn bits_length(&self) -> usize {
        16 * usize::from(self.width)
    }

    /// Picks the value out of the 8 bytes that [`value_range`] told to load.
    #[inline]
    pub fn value(&self, load: u64, shift: u32) -> u64 {
        self.minimum.wrapping_add(load >> shift & self.mask())
    }

    #[inline]
    fn mask(&self) -> u64 {
        (1 << self.width) - 1
    }
}

/// Where, from the section's start, the 8 bytes stand that hold value `i` of the column (whose block has that row), and by
/// how many bits to shift them.
#[inline]
pub fn value_range(row: &BlockRow, i: u64) -> (u64, u32) {
    let bit = i % BLOCK_VALUES as u64 * u64::from(row.width);
    (row.bits_offset() + bit / 8, (bit % 8) as u32)
}

/// Unpacks a whole block. `bytes` begins with the block's bits and holds at least all of them; what follows does not matter.
#[inline]
pub fn unpack_block(row: &BlockRow, bytes: &[u8], values: &mut [u64; BLOCK_VALUES]) -> Result<(), Malformed> {
    let length = row.bits_length();
    if let Some(bytes) = bytes.get(..length + SLACK_BYTES) {
        unpack(row, bytes, values);
        return Ok(());
    }
    let mut padded = [0; 16 * WIDTH_MAX as usize + SLACK_BYTES];
    let Some(bits) = bytes.get(..length) else {
        return Err(Malformed::damaged("a block of a packed column is cut off"));
    };
    padded[..length].copy_from_slice(bits);
    unpack(row, &padded[..length + SLACK_BYTES], values);
    Ok(())
}

#[inline]
fn unpack(row: &BlockRow, bytes: &[u8], values: &mut [u64; BLOCK_VALUES]) {
    let width = usize::from(row.width);
    let mask = row.mask();
    // Eight values take `width` bytes: every group of eight starts at a byte.
    for (group, values) in values.chunks_exact_mut(8).enumerate() {
        let bytes = &bytes[group * width..group * width + width + SLACK_BYTES];
        for (j, value) in values.iter_mut().enumerate() {
            let bit = j * width;
            *value = row.minimum.wrapping_add(u64_at(bytes, bit / 8) >> (bit % 8) & mask);
        }
    }
}

/// A packed column whose bytes are all in memory.
#[derive(Debug, Clone, Copy)]
pub struct PackedView<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> PackedView<'a> {
    /// Checks the whole column (conditions 1 to 4).
    pub fn new(bytes: &'a [u8], count: usize) -> Result<PackedView<'a>, Malformed> {
        let rows = count.div_ceil(BLOCK_VALUES);
        let directory = rows.checked_mul(ROW_BYTES).filter(|&length| length <= bytes.len().saturating_sub(SLACK_BYTES));
        let Some(directory) = directory.filter(|_| bytes.len() >= SLACK_BYTES) else {
            return Err(Malformed::damaged(format!("{} bytes hold no packed column of {count} values", bytes.len())));
        };
        let view = PackedView { bytes, count };
        let end = (bytes.len() - SLACK_BYTES) as u64;
        for block in 0..rows {
            let row = view.row(block)?;
            let start = row.bits_offset();
            if row.width > 0 && (start < directory as u64 || start + row.bits_length() as u64 > end) {
                return Err(Malformed::damaged("a block of a packed column lies outside of it"));
            }
        }
        Ok(view)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline]
    fn row(&self, block: usize) -> Result<BlockRow, Malformed> {
        BlockRow::decode(&super::array_at(self.bytes, block * ROW_BYTES))
    }

    /// Value `i`.
    ///
    /// # Panics
    /// When there is no such value.
    #[inline]
    pub fn get(&self, i: usize) -> u64 {
        assert!(i < self.count);
        let row = self.row(i / BLOCK_VALUES).unwrap_or_else(|_| unreachable!("all rows were checked"));
        if row.width == 0 {
            return row.minimum;
        }
        let (at, shift) = value_range(&row, i as u64);
        row.value(u64_at(self.bytes, at as usize), shift)
    }

    /// Appends all values to `values`. Refuses a column with a value of more than 32 bits.
    pub fn unpack_all(&self, values: &mut Vec<u32>) -> Result<(), Malformed> {
        let mut block_values = [0; BLOCK_VALUES];
        values.reserve(self.count);
        for block in 0..self.count.div_ceil(BLOCK_VALUES) {
            let row = self.row(block)?;
            let bits = if row.width == 0 { &[] } else { &self.bytes[row.bits_offset() as usize..] };
            unpack_block(&row, bits, &mut block_values)?;
            let filled = (self.count - block * BLOCK_VALUES).min(BLOCK_VALUES);
            if block_values[..filled].iter().any(|&value| value > u64::from(u32::MAX)) {
                return Err(Malformed::damaged("a value of a packed column exceeds 32 bits"));
            }
            values.extend(block_values[..filled].iter().map(|&value| value as u32));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(values: &[u64]) -> Vec<u8> {
        let mut out = vec![0xCC; 16];
        pack(values.iter().copied(), &mut out);
        assert_eq!(out[..16], [0xCC; 16]);
        out.split_off(16)
    }

    #[test]
    fn a_column_is_laid_out_as_documented() {
        let bytes = packed(&[10, 11, 13]);
        // One row, 16 * 2 bytes of bits, slack.
        assert_eq!(bytes.len(), 16 + 32 + 8);
        assert_eq!(bytes[..16], [10, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[16], 0b11_01_00);
        assert!(bytes[17..].iter().all(|&byte| byte == 0));
        assert_eq!(packed(&[]), [0; 8]);
        assert_eq!(packed(&[7; 128]).len(), 16 + 8, "equal values take no bits");
    }

    #[test]
    fn every_width_round_trips() {
        for width in 0..=56u32 {
            let top = if width == 0 { 0 } else { (1u64 << width) - 1 };
            let values: Vec<u64> = (0..300u64)
                .map(|i| 1000 + if i % 3 == 0 { top } else { i.wrapping_mul(0x9E3779B97F4A7C15) & top })
                .collect();
            let bytes = packed(&values);
            let view = PackedView::new(&bytes, values.len()).unwrap();
            assert_eq!((0..values.len()).map(|i| view.get(i)).collect::<Vec<_>>(), values, "width {width}");
            for block in 0..3 {
                let row =
                    BlockRow::decode(bytes[directory_offset(block * 128) as usize..].first_chunk().unwrap()).unwrap();
                let start = row.bits_offset() as usize;
                let mut out = [0; 128];
                // With and without anything behind the bits.
                for end in [start + row.bits_length(), bytes.len()] {
                    unpack_block(&row, &bytes[start..end], &mut out).unwrap();
                    let expected = &values[128 * block as usize..];
                    let filled = expected.len().min(128);
                    assert_eq!(out[..filled], expected[..filled], "width {width}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "too far apart")]
    fn values_too_far_apart_are_the_callers_mistake() {
        packed(&[0, 1 << 56]);
    }

    #[test]
    fn hostile_columns_are_refused() {
        let good = packed(&[5, 600, 7]);
        assert!(PackedView::new(&good, 3).is_ok());
        for length in 0..good.len() {
            assert!(PackedView::new(&good[..length], 3).is_err(), "{length} bytes");
        }
        assert!(PackedView::new(&good, usize::MAX).is_err());
        for (at, value) in [(12, 57), (12, 255), (13, 1), (15, 1), (8, 0), (8, 3), (11, 0xFF)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(PackedView::new(&bad, 3).is_err(), "{value} at {at}");
        }
        let row = BlockRow { minimum: 0, place: 0, width: 9 };
        assert!(unpack_block(&row, &[0; 143], &mut [0; 128]).is_err());
    }

    #[test]
    fn values_over_32_bits_do_not_become_others() {
        let bytes = packed(&[1 << 32]);
        assert!(PackedView::new(&bytes, 1).unwrap().unpack_all(&mut Vec::new()).is_err());
        let bytes = packed(&[u64::from(u32::MAX)]);
        assert!(PackedView::new(&bytes, 1).unwrap().unpack_all(&mut Vec::new()).is_ok());
    }

    proptest! {
        #[test]
        fn columns_round_trip(values in prop::collection::vec(any::<u32>(), 0..700), width in 0..33u32) {
            let values: Vec<u32> = values.into_iter().map(|value| value.checked_shr(32 - width).unwrap_or(0)).collect();
            let bytes = packed(&values.iter().map(|&value| u64::from(value)).collect::<Vec<_>>());
            let mut out = Vec::new();
            PackedView::new(&bytes, values.len()).unwrap().unpack_all(&mut out).unwrap();
            prop_assert_eq!(out, values);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0..700usize) {
            if let Ok(view) = PackedView::new(&bytes, count) {
                let _ = view.unpack_all(&mut Vec::new());
                (0..count).for_each(|i| { view.get(i); });
            }
        }
    }
}
