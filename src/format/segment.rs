//! The header of a segment, the seed of its frames' checksums, and the names of segment files.
//!
//! ```text
//! offset size
//!      0    8  magic BATPKSEG
//!      8    4  format version
//!     12    4  CRC32C of bytes 16..128
//!     16   16  store id
//!     32    8  base: sequence of the first event
//!     40    8  epoch in force at offset 128
//!     48    8  i64 time that no event of the segment precedes, microseconds
//!     56    8  i64 creation time of the store
//!     64    8  key window of the store
//!     72   56  zero
//! ```
//!
//! Valid iff
//! 1. there are 128 bytes;
//! 2. the magic matches;
//! 3. the version is known (a larger one is a newer format);
//! 4. the CRC matches;
//! 5. bytes 72..128 are zero;
//! 6. the store id is the store's ([`SegmentHeader::check_place`]);
//! 7. the base is the file name's ([`SegmentHeader::check_place`]).

use super::checksum;
use super::{Malformed, array_at, check_file_header, i64_at, put, seal_file_header, u64_at};
use crate::event::StoreId;

/// Bytes of the header; the first frame stands behind it.
pub const SEGMENT_HEADER_BYTES: usize = 128;

const MAGIC: &[u8; 8] = b"BATPKSEG";

/// What the first bytes of a segment say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store.
    pub store_id: StoreId,
    /// Sequence of the segment's first event.
    pub base: u64,
    /// Epoch in force at the first frame.
    pub epoch: u64,
    /// No event of the segment is earlier than this.
    pub time_us: i64,
    /// When the store was created.
    pub created_us: i64,
    /// How many keyed events idempotency remembers.
    pub key_window: u64,
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        put(&mut bytes, 16, &self.store_id.0);
        put(&mut bytes, 32, &self.base.to_le_bytes());
        put(&mut bytes, 40, &self.epoch.to_le_bytes());
        put(&mut bytes, 48, &self.time_us.to_le_bytes());
        put(&mut bytes, 56, &self.created_us.to_le_bytes());
        put(&mut bytes, 64, &self.key_window.to_le_bytes());
        seal_file_header(&mut bytes, MAGIC);
        bytes
    }

    /// Reads the header at the start of `bytes` (conditions 1 to 5).
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, Malformed> {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(Malformed::damaged(format!(
                "a segment begins with {SEGMENT_HEADER_BYTES} bytes of header, there are {}",
                bytes.len()
            )));
        };
        check_file_header(bytes, MAGIC)?;
        if bytes[72..].iter().any(|&byte| byte != 0) {
            return Err(Malformed::damaged("the reserved bytes of the segment header are not zero"));
        }
        Ok(SegmentHeader {
            store_id: StoreId(array_at(bytes, 16)),
            base: u64_at(bytes, 32),
            epoch: u64_at(bytes, 40),
            time_us: i64_at(bytes, 48),
            created_us: i64_at(bytes, 56),
            key_window: u64_at(bytes, 64),
        })
    }

    /// Checks that the header is that of the file `segment_name(base)` of the store (conditions 6 and 7).
    pub fn check_place(&self, store_id: &StoreId, base: u64) -> Result<(), Malformed> {
        if self.store_id != *store_id {
            return Err(Malformed::StoreMismatch { found: self.store_id });
        }
        if self.base != base {
            return Err(Malformed::damaged(format!("the header says base {}, the file's name {base}", self.base)));
        }
        Ok(())
    }

    /// The seed of the segment's frames while `epoch` is in force.
    pub fn seed(&self, epoch: u64) -> u32 {
        seed(&self.store_id, self.base, epoch)
    }
}

/// The seed of the checksums of all frames that stand in the segment while `epoch` is in force. Frames of another store,
/// another segment or an earlier life of this one do not read as valid.
pub fn seed(store_id: &StoreId, base: u64, epoch: u64) -> u32 {
    let mut bytes = [0; 32];
    put(&mut bytes, 0, &store_id.0);
    put(&mut bytes, 16, &base.to_le_bytes());
    put(&mut bytes, 24, &epoch.to_le_bytes());
    checksum::crc32c(&bytes)
}

/// The name of the log file whose first event is `base`.
pub fn segment_name(base: u64) -> String {
    format!("{base:020}.seg")
}

/// The name of the index of the segment whose first event is `base`.
pub fn index_name(base: u64) -> String {
    format!("{base:020}.idx")
}

/// The base in the name of a log file. `None`: it is no log file's name.
pub fn parse_segment_name(name: &str) -> Option<u64> {
    parse_name(name, ".seg")
}

/// The base in the name of an index. `None`: it is no index's name.
pub fn parse_index_name(name: &str) -> Option<u64> {
    parse_name(name, ".idx")
}

fn parse_name(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?;
    let is_base = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_base { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId(*b"0123456789abcdef");

    fn header() -> SegmentHeader {
        SegmentHeader {
            store_id: STORE,
            base: 1000,
            epoch: 7,
            time_us: 1_700_000_000_000_001,
            created_us: -5,
            key_window: 1 << 22,
        }
    }

    #[test]
    fn header_round_trips() {
        assert_eq!(SegmentHeader::decode(&header().encode()), Ok(header()));
        let mut longer = header().encode().to_vec();
        longer.extend([9; 500]);
        assert_eq!(SegmentHeader::decode(&longer), Ok(header()));
    }

    #[test]
    fn header_is_laid_out_as_documented() {
        let bytes = header().encode();
        assert_eq!(&bytes[..12], b"BATPKSEG\x01\0\0\0");
        assert_eq!(&bytes[16..32], b"0123456789abcdef");
        assert_eq!(bytes[32..40], 1000u64.to_le_bytes());
        assert_eq!(bytes[40..48], 7u64.to_le_bytes());
        assert_eq!(bytes[64..72], (1u64 << 22).to_le_bytes());
        assert_eq!(bytes[72..], [0; 56]);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_detected() {
        let bytes = header().encode();
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(SegmentHeader::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = header().encode();
        bytes[8] = 2;
        let newer = Malformed::NewerFormat { what: "format version", found: 2, known: 1 };
        assert_eq!(SegmentHeader::decode(&bytes), Err(newer));
    }

    #[test]
    fn reserved_bytes_must_be_zero_even_under_a_right_checksum() {
        let mut bytes = header().encode();
        bytes[100] = 1;
        seal_file_header(&mut bytes, MAGIC);
        assert!(matches!(SegmentHeader::decode(&bytes), Err(Malformed::Damaged { .. })));
    }

    #[test]
    fn a_header_of_another_place_is_refused() {
        assert_eq!(header().check_place(&STORE, 1000), Ok(()));
        assert!(matches!(header().check_place(&STORE, 999), Err(Malformed::Damaged { .. })));
        let other = StoreId([1; 16]);
        assert_eq!(header().check_place(&other, 1000), Err(Malformed::StoreMismatch { found: STORE }));
    }

    #[test]
    fn the_seed_depends_on_each_part() {
        let seeds = [
            seed(&STORE, 0, 1),
            seed(&STORE, 0, 2),
            seed(&STORE, 1, 1),
            seed(&StoreId([0; 16]), 0, 1),
            seed(&STORE, 1, 0),
        ];
        for (i, a) in seeds.iter().enumerate() {
            assert!(seeds[..i].iter().all(|b| a != b));
        }
        let mut joined = STORE.0.to_vec();
        joined.extend(3u64.to_le_bytes());
        joined.extend(4u64.to_le_bytes());
        assert_eq!(seed(&STORE, 3, 4), checksum::crc32c(&joined));
    }

    #[test]
    fn names_parse_back_and_nothing_else_does() {
        for base in [0, 1, 9_999, 1 << 46, u64::MAX] {
            assert_eq!(parse_segment_name(&segment_name(base)), Some(base));
            assert_eq!(parse_index_name(&index_name(base)), Some(base));
            assert_eq!(parse_segment_name(&index_name(base)), None);
        }
        assert_eq!(segment_name(42), "00000000000000000042.seg");
        for name in [
            "",
            ".seg",
            "42.seg",
            "00000000000000000042.seg.tmp",
            "000000000000000000042.seg",
            "99999999999999999999.seg",
            "+0000000000000000042.seg",
            "0000000000000000004é.seg",
        ] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }
}
