//! The file STORE: who the store is, and what was fixed when it was created.
//!
//! ```text
//! offset size
//!      0    8  magic BATPKSTO
//!      8    4  format version
//!     12    4  CRC32C of bytes 16..64
//!     16   16  store id
//!     32    8  i64 creation time, microseconds
//!     40    8  key window
//!     48   16  zero
//! ```
//!
//! Valid iff
//! 1. the file has 64 bytes;
//! 2. the magic matches;
//! 3. the version is known (a larger one is a newer format);
//! 4. the CRC matches;
//! 5. the last 16 bytes are zero.

use super::{Malformed, array_at, check_file_header, i64_at, put, seal_file_header, u64_at};
use crate::event::StoreId;

/// Length of the file.
pub const STORE_FILE_BYTES: usize = 64;

const MAGIC: &[u8; 8] = b"BATPKSTO";

/// What STORE says. It can be rebuilt from the header of any segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFile {
    /// Random; part of every checksum in the log.
    pub store_id: StoreId,
    /// When the store was created.
    pub created_us: i64,
    /// How many keyed events idempotency remembers.
    pub key_window: u64,
}

impl StoreFile {
    /// The file's bytes.
    pub fn encode(&self) -> [u8; STORE_FILE_BYTES] {
        let mut bytes = [0; STORE_FILE_BYTES];
        put(&mut bytes, 16, &self.store_id.0);
        put(&mut bytes, 32, &self.created_us.to_le_bytes());
        put(&mut bytes, 40, &self.key_window.to_le_bytes());
        seal_file_header(&mut bytes, MAGIC);
        bytes
    }

    /// Reads the whole file.
    pub fn decode(bytes: &[u8]) -> Result<StoreFile, Malformed> {
        let Ok(bytes) = <&[u8; STORE_FILE_BYTES]>::try_from(bytes) else {
            return Err(Malformed::damaged(format!("STORE has {} bytes, not {STORE_FILE_BYTES}", bytes.len())));
        };
        check_file_header(bytes, MAGIC)?;
        if bytes[48..].iter().any(|&byte| byte != 0) {
            return Err(Malformed::damaged("the reserved bytes of STORE are not zero"));
        }
        Ok(StoreFile {
            store_id: StoreId(array_at(bytes, 16)),
            created_us: i64_at(bytes, 32),
            key_window: u64_at(bytes, 40),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_file() -> StoreFile {
        StoreFile { store_id: StoreId(*b"fedcba9876543210"), created_us: 1_600_000_000_000_000, key_window: 77 }
    }

    #[test]
    fn round_trips() {
        let bytes = store_file().encode();
        assert_eq!(&bytes[..12], b"BATPKSTO\x01\0\0\0");
        assert_eq!(StoreFile::decode(&bytes), Ok(store_file()));
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_detected() {
        let bytes = store_file().encode();
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(StoreFile::decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(StoreFile::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(StoreFile::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = store_file().encode();
        bytes[8] = 9;
        assert!(matches!(StoreFile::decode(&bytes), Err(Malformed::NewerFormat { found: 9, known: 1, .. })));
    }
}
