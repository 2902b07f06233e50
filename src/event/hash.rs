//! The leaf hash: what the hash tree knows of an event.
//!
//! ```text
//! leaf hash = BLAKE3(0x00 || canonical header || payload digest)
//! payload digest = BLAKE3(payload), 32 bytes
//! ```
//!
//! The canonical header does not depend on how frames are laid out, so that a proof outlives a format version. All
//! numbers are little-endian:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | sequence, unsigned |
//! | 8 | 8 | clock, unsigned |
//! | 16 | 8 | time in microseconds since the Unix epoch, signed (two's complement) |
//! | 24 | 2 | kind: category << 12 \| type |
//! | 26 | 2 | schema |
//! | 28 | 16 | correlation id |
//! | 44 | 2 | E, bytes of the entity |
//! | 46 | 2 | S, bytes of the scope |
//! | 48 | 2 | C, number of causes |
//! | 50 | E | entity, UTF-8, no terminator |
//! | 50 + E | S | scope, UTF-8, no terminator |
//! | 50 + E + S | 16 C | the ids of the causes, in the order given at append |
//!
//! Valid iff
//! 1. E and S are 1 to 1024 and C is 0 to 64;
//! 2. every id (correlation and causes, local ones too) is whole: 16 bytes in network order, as callers see it;
//! 3. nothing follows: the length is 50 + E + S + 16 C.
//!
//! Each length stands before what it measures, at a fixed place, so that no two headers have the same encoding; the
//! digest after it has a fixed length, so neither have two hashed inputs. 0x00 sets leaves apart from nodes (0x01).

use super::CAUSES_MAX;
use super::COORDINATE_BYTES_MAX;
use super::id::EventId;

/// What stands before a leaf's bytes (RFC 6962).
const LEAF_PREFIX: u8 = 0x00;
/// Bytes before the entity.
const FIXED_BYTES: usize = 50;
/// Leaves up to this long are hashed from the stack in one call; few are longer.
const STACK_BYTES: usize = 512;

/// All of an event that its leaf hash covers, but for the payload.
#[derive(Debug, Clone, Copy)]
pub struct CanonicalHeader<'a> {
    /// Position in the store.
    pub sequence: u64,
    /// Position in the entity.
    pub clock: u64,
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
    /// Category and type.
    pub kind: u16,
    /// The caller's schema version.
    pub schema: u16,
    /// The correlation id.
    pub correlation_id: [u8; 16],
    /// The entity: 1 to 1024 bytes.
    pub entity: &'a [u8],
    /// The scope: 1 to 1024 bytes.
    pub scope: &'a [u8],
    /// The causes' ids, at most 64, in their order.
    pub causes: &'a [EventId],
}

impl CanonicalHeader<'_> {
    /// Bytes of the encoding.
    pub fn encoded_len(&self) -> usize {
        FIXED_BYTES + self.entity.len() + self.scope.len() + 16 * self.causes.len()
    }

    /// Appends the encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        self.for_each_part(|part| out.extend_from_slice(part));
    }

    /// Hands out the encoding, piece by piece.
    #[inline]
    fn for_each_part(&self, mut put: impl FnMut(&[u8])) {
        debug_assert!(self.entity.len() <= COORDINATE_BYTES_MAX && self.scope.len() <= COORDINATE_BYTES_MAX);
        debug_assert!(self.causes.len() <= CAUSES_MAX);
        let mut fixed = [0; FIXED_BYTES];
        fixed[0..8].copy_from_slice(&self.sequence.to_le_bytes());
        fixed[8..16].copy_from_slice(&self.clock.to_le_bytes());
        fixed[16..24].copy_from_slice(&self.time_us.to_le_bytes());
        fixed[24..26].copy_from_slice(&self.kind.to_le_bytes());
        fixed[26..28].copy_from_slice(&self.schema.to_le_bytes());
        fixed[28..44].copy_from_slice(&self.correlation_id);
        fixed[44..46].copy_from_slice(&(self.entity.len() as u16).to_le_bytes());
        fixed[46..48].copy_from_slice(&(self.scope.len() as u16).to_le_bytes());
        fixed[48..50].copy_from_slice(&(self.causes.len() as u16).to_le_bytes());
        put(&fixed);
        put(self.entity);
        put(self.scope);
        for cause in self.causes {
            put(&cause.0);
        }
    }
}

/// The leaf hash of an event with this header and payload digest.
pub fn leaf_hash(header: &CanonicalHeader<'_>, payload_digest: &[u8; 32]) -> [u8; 32] {
    let length = 1 + header.encoded_len() + payload_digest.len();
    if length > STACK_BYTES {
        return leaf_hash_long(header, payload_digest);
    }
    let mut input = [0; STACK_BYTES];
    input[0] = LEAF_PREFIX;
    let mut at = 1;
    header.for_each_part(|part| {
        input[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    });
    input[at..length].copy_from_slice(payload_digest);
    *blake3::hash(&input[..length]).as_bytes()
}

/// [`leaf_hash`], for any length.
fn leaf_hash_long(header: &CanonicalHeader<'_>, payload_digest: &[u8; 32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[LEAF_PREFIX]);
    header.for_each_part(|part| {
        hasher.update(part);
    });
    hasher.update(payload_digest);
    *hasher.finalize().as_bytes()
}

/// What stands for a payload in its event's leaf, also once the payload is erased.
#[inline]
pub fn payload_digest(payload: &[u8]) -> [u8; 32] {
    *blake3::hash(payload).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    const CAUSES: [EventId; 2] = [EventId([0xC1; 16]), EventId([0xC2; 16])];

    fn sample() -> CanonicalHeader<'static> {
        CanonicalHeader {
            sequence: 0x0102_0304_0506_0708,
            clock: 9,
            time_us: -2,
            kind: 0x3001,
            schema: 7,
            correlation_id: [0xAA; 16],
            entity: b"order:42",
            scope: b"eu",
            causes: &CAUSES,
        }
    }

    /// The table of the opening comment, by hand.
    const SAMPLE_ENCODING: &str = "0807060504030201\
        0900000000000000\
        feffffffffffffff\
        0130\
        0700\
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
        0800\
        0200\
        0200\
        6f726465723a3432\
        6575\
        c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1\
        c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2";

    #[test]
    fn the_encoding_is_the_documented_one() {
        let mut encoded = b"before".to_vec();
        sample().encode(&mut encoded);
        assert_eq!(hex(&encoded[6..]), SAMPLE_ENCODING);
        assert_eq!(encoded.len() - 6, sample().encoded_len());
    }

    #[test]
    fn the_empty_payload_has_blake3s_published_digest() {
        assert_eq!(hex(&payload_digest(b"")), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    }

    #[test]
    fn the_leaf_is_prefix_header_digest() {
        let digest = payload_digest(b"payload");
        let mut input = vec![0x00];
        sample().encode(&mut input);
        input.extend_from_slice(&digest);
        assert_eq!(leaf_hash(&sample(), &digest), *blake3::hash(&input).as_bytes());
    }

    /// Proofs handed out by every version hold such hashes.
    #[test]
    fn the_leaf_hash_is_frozen() {
        assert_eq!(
            hex(&leaf_hash(&sample(), &payload_digest(b"payload"))),
            "946b981f0fb43ab02653bb71e36dc1f49ceeee53f6402da6fe17f9e83a385029"
        );
    }

    #[test]
    fn the_largest_header_hashes() {
        let name = [b'n'; COORDINATE_BYTES_MAX];
        let causes = [EventId([1; 16]); CAUSES_MAX];
        let header = CanonicalHeader { entity: &name, scope: &name, causes: &causes, ..sample() };
        let mut input = vec![0x00];
        header.encode(&mut input);
        input.extend_from_slice(&[5; 32]);
        assert_eq!(leaf_hash(&header, &[5; 32]), *blake3::hash(&input).as_bytes());
    }

    /// Guards: the hash covers only the payload; kind, entity or order can be edited, and verify says intact.
    #[test]
    fn regression_11_the_hash_covers_every_field() {
        let base = sample();
        let leaf = |header: &CanonicalHeader<'_>| leaf_hash(header, &[5; 32]);
        let changed = [
            CanonicalHeader { sequence: 1, ..base },
            CanonicalHeader { clock: 1, ..base },
            CanonicalHeader { time_us: 1, ..base },
            CanonicalHeader { kind: 1, ..base },
            CanonicalHeader { schema: 1, ..base },
            CanonicalHeader { correlation_id: [1; 16], ..base },
            CanonicalHeader { entity: b"order:4", scope: b"2eu", ..base },
            CanonicalHeader { entity: b"order:43", ..base },
            CanonicalHeader { scope: b"us", ..base },
            CanonicalHeader { causes: &CAUSES[..1], ..base },
            CanonicalHeader { causes: &[CAUSES[1], CAUSES[0]], ..base },
        ];
        let mut leaves: Vec<_> = changed.iter().chain([&base]).map(leaf).collect();
        leaves.push(leaf_hash(&base, &[6; 32]));
        leaves.sort_unstable();
        leaves.dedup();
        assert_eq!(leaves.len(), changed.len() + 2);
    }

    proptest! {
        /// The stack and the streaming path are one function, on both sides of the boundary.
        #[test]
        fn both_paths_agree(
            entity in proptest::collection::vec(any::<u8>(), 1..500),
            scope in proptest::collection::vec(any::<u8>(), 1..30),
            causes in proptest::collection::vec(any::<[u8; 16]>().prop_map(EventId), 0..8),
            sequence: u64, time_us: i64, digest: [u8; 32],
        ) {
            let header =
                CanonicalHeader { sequence, time_us, entity: &entity, scope: &scope, causes: &causes, ..sample() };
            prop_assert_eq!(leaf_hash(&header, &digest), leaf_hash_long(&header, &digest));
        }

        #[test]
        fn names_and_causes_do_not_run_together(
            a in ("[ab]{1,4}", "[ab]{1,4}", 0usize..3), b in ("[ab]{1,4}", "[ab]{1,4}", 0usize..3),
        ) {
            let encode = |(entity, scope, causes): &(String, String, usize)| {
                let causes = vec![EventId([b'a'; 16]); *causes];
                let mut out = Vec::new();
                CanonicalHeader { entity: entity.as_bytes(), scope: scope.as_bytes(), causes: &causes, ..sample() }
                    .encode(&mut out);
                out
            };
            prop_assert_eq!(a == b, encode(&a) == encode(&b));
        }
    }
}
