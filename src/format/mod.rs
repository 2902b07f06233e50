//! The bytes of a store's files: values to bytes and back. No I/O, no locks, no clocks.
//!
//! `docs/FORMAT.md` is the specification; each file here opens with the part of it that it owns and with the conditions
//! under which bytes are valid. Encoders assert what their callers promise. Decoders meet hostile bytes: they never panic,
//! never allocate more than the bytes in hand can hold, and say what is wrong as a [`Malformed`]. The caller adds path and
//! offset.

use crate::event::StoreId;

pub mod checkpoint;
pub mod checksum;
pub mod control;
pub mod filter;
pub mod frame;
pub mod index;
mod index_content;
pub mod packed;
pub mod page;
pub mod segment;
pub mod store_file;

pub use checkpoint::CheckpointFile;
pub use control::Control;
pub use frame::{Correlation, DecodedEvent, EventFields, Reference};
pub use index::{IndexContent, IndexHeader};
pub use segment::SegmentHeader;
pub use store_file::StoreFile;

/// The format version of every file that this library writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Why bytes were not decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A newer library made them.
    #[error("{what} {found} is newer than {known}, the newest that is known")]
    NewerFormat {
        /// The part of the format that is newer.
        what: &'static str,
        /// What the bytes say.
        found: u32,
        /// The newest that this library knows.
        known: u32,
    },
    /// They break a condition of the format.
    #[error("{reason}")]
    Damaged {
        /// Which one.
        reason: String,
    },
    /// They are sound, but another store's.
    #[error("it belongs to store {found}")]
    StoreMismatch {
        /// The store named in them.
        found: StoreId,
    },
}

impl Malformed {
    #[cold]
    pub(crate) fn damaged(reason: impl Into<String>) -> Malformed {
        Malformed::Damaged { reason: reason.into() }
    }
}

/// The next multiple of 8.
#[inline]
pub const fn align8(n: usize) -> usize {
    (n + 7) & !7
}

/// The hash of a name: it places entities and idempotency keys in an index's tables and filters. Each group of bytes is multiplied by a
/// secret of the store, to 128 bits, and folded: who does not know the store id cannot choose names that collide.
#[inline]
pub fn name_hash(store_id: &StoreId, name: &[u8]) -> u64 {
    let secret = u64_at(&store_id.0, 8) | 1;
    let mut hash = u64_at(&store_id.0, 0) ^ (name.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let fold = |value: u64, factor: u64| {
        let product = u128::from(value) * u128::from(factor);
        product as u64 ^ (product >> 64) as u64
    };
    let mut groups = name.chunks_exact(8);
    for group in &mut groups {
        hash = fold(hash ^ u64_at(group, 0), secret);
    }
    let rest = groups.remainder();
    if !rest.is_empty() {
        let group = match name.last_chunk::<8>() {
            Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
            None => rest.iter().rev().fold(0, |group, &byte| group << 8 | u64::from(byte)),
        };
        hash = fold(hash ^ group, secret);
    }
    fold(hash, 0xC4CE_B9FE_1A85_EC53)
}

/// The `N` bytes at `at`, which the caller knows to be there.
#[inline]
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

#[inline]
pub(crate) fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(array_at(bytes, at))
}

#[inline]
pub(crate) fn u48_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u16_at(bytes, at + 4)) << 32
}

/// Writes `value` at `at`, where the caller knows that there is room.
#[inline]
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Checks what the headers of all files have in common: magic in 0..8, version in 8..12.
pub(crate) fn check_magic_and_version(bytes: &[u8], magic: &[u8; 8]) -> Result<(), Malformed> {
    if bytes[..8] != *magic {
        return Err(Malformed::damaged(format!("the magic is not {}", String::from_utf8_lossy(magic))));
    }
    match u32_at(bytes, 8) {
        FORMAT_VERSION => Ok(()),
        0 => Err(Malformed::damaged("the format version is 0")),
        found => Err(Malformed::NewerFormat { what: "format version", found, known: FORMAT_VERSION }),
    }
}

/// Checks the header of a log or store file: magic, version, and in 12..16 the CRC of everything after it.
pub(crate) fn check_file_header(bytes: &[u8], magic: &[u8; 8]) -> Result<(), Malformed> {
    check_magic_and_version(bytes, magic)?;
    if u32_at(bytes, 12) != checksum::crc32c(&bytes[16..]) {
        return Err(Malformed::damaged("the header's checksum is wrong"));
    }
    Ok(())
}

/// Completes the header of a log or store file, whose fields stand from 16 on.
pub(crate) fn seal_file_header(bytes: &mut [u8], magic: &[u8; 8]) {
    put(bytes, 0, magic);
    put(bytes, 8, &FORMAT_VERSION.to_le_bytes());
    let crc = checksum::crc32c(&bytes[16..]);
    put(bytes, 12, &crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash as docs/FORMAT.md words it, with no shortcut.
    fn name_hash_plain(store_id: &StoreId, name: &[u8]) -> u64 {
        let word = |bytes: &[u8]| {
            let mut x = [0; 8];
            x[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(x)
        };
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product % (1 << 64)) as u64 ^ (product / (1 << 64)) as u64
        };
        let mut h = word(&store_id.0[..8]) ^ (name.len() as u64).wrapping_mul(0x9E3779B97F4A7C15);
        for group in name.chunks(8) {
            h = fold(h ^ word(group), word(&store_id.0[8..]) | 1);
        }
        fold(h, 0xC4CEB9FE1A85EC53)
    }

    /// Guards: two bits flipped in two groups cancelled each other, in every store.
    #[test]
    fn no_pair_of_flipped_bits_collides() {
        let store_id = StoreId(std::array::from_fn(|i| (29 * i + 5) as u8));
        let name = [7; 24];
        let plain = name_hash(&store_id, &name);
        let flipped = |bits: &[usize]| {
            let mut other = name;
            bits.iter().for_each(|bit| other[bit / 8] ^= 1 << (bit % 8));
            name_hash(&store_id, &other)
        };
        for one in 0..192 {
            assert_ne!(flipped(&[one]), plain);
            assert!((0..one).all(|other| flipped(&[one, other]) != plain), "bit {one} and another");
        }
        assert_ne!(flipped(&[63, 64 + 63, 64 + 31]), plain);
    }

    #[test]
    fn name_hash_is_the_documented_one_at_every_length() {
        let store_id = StoreId(std::array::from_fn(|i| (17 * i + 3) as u8));
        let name: Vec<u8> = (0..1024u32).map(|i| (i * 7 + 1) as u8).collect();
        for length in 0..=name.len() {
            assert_eq!(name_hash(&store_id, &name[..length]), name_hash_plain(&store_id, &name[..length]), "{length}");
        }
    }

    #[test]
    fn align8_rounds_up() {
        assert_eq!([0, 1, 7, 8, 9].map(align8), [0, 8, 8, 8, 16]);
    }
}
