//! The file of a consumer's checkpoint: one MessagePack map.
//!
//! ```text
//! key              type           meaning
//! position         uint           sequence of the last event processed; 0 when not started
//! started          bool           an event was processed
//! process_boot_ns  nil or uint    reserved; written as nil
//! region_identity  str            the region
//! position_id      bin 16 or nil  id of the event at position; nil when not started
//! store_id         bin 16         the store
//! scanned          uint           every matching event below was processed; > position when started
//! crc32c           uint           CRC32C of all bytes of the file before this key
//! ```
//!
//! Valid iff
//! 1. it is one map, in all of the file;
//! 2. it has these eight keys in this order, or just the first four, once each, in any order; of the four,
//!    region_identity may be absent, which no consumer resumes from;
//! 3. the values have these types;
//! 4. of eight keys: everything is in its shortest form; the CRC matches; not started = position 0 and position_id nil;
//!    started = position_id not nil and scanned > position.

use std::collections::BTreeMap;
use std::fmt;

use rmp_serde::decode;
use serde::de::{Error as _, IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::checksum;
use crate::event::{EventId, StoreId};

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFile {
    /// Sequence of the last event processed; 0 when not `started`.
    pub position: u64,
    /// An event was processed.
    pub started: bool,
    /// The region. Empty, as no region's is, where the short form does not say.
    pub region_identity: String,
    /// Id of the event at `position`. `None` when not `started`, and in the short form.
    pub position_id: Option<EventId>,
    /// The store. `None` in the short form of four keys.
    pub store_id: Option<StoreId>,
    /// Every matching event below this was processed. `None` in the short form of four keys.
    pub scanned: Option<u64>,
}

impl CheckpointFile {
    /// The file's bytes: with all eight keys, or in the short form where store or `scanned` are not known.
    pub fn encode(&self) -> Vec<u8> {
        let &CheckpointFile { position, started, ref region_identity, position_id, .. } = self;
        let (process_boot_ns, region_identity) = (None, region_identity.as_str());
        let Some((store_id, scanned)) = self.store_id.zip(self.scanned) else {
            let region_identity = Some(Text(region_identity)).filter(|text| !text.0.is_empty());
            return to_bytes(&Short { position, started, process_boot_ns, region_identity });
        };
        let position_id = position_id.map(|id| Id(id.0));
        let store_id = Id(store_id.0);
        let full =
            Full { position, started, process_boot_ns, region_identity, position_id, store_id, scanned, crc32c: 0 };
        to_bytes(&Full { crc32c: full.checksum(), ..full })
    }

    /// Reads the whole file, or says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<CheckpointFile, String> {
        match bytes {
            [] => Err("the file is empty".to_owned()),
            [MAP_OF_EIGHT, ..] => Full::decode(bytes),
            _ => Short::decode(bytes).map_err(reason),
        }
    }
}

/// The first byte of the one form that a map of eight keys has.
const MAP_OF_EIGHT: u8 = 0x88;

/// The eight keys, in their order.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of the eight keys")]
struct Full<'a> {
    position: u64,
    started: bool,
    process_boot_ns: Option<u64>,
    region_identity: &'a str,
    position_id: Option<Id>,
    store_id: Id,
    scanned: u64,
    crc32c: u32,
}

impl Full<'_> {
    fn decode(bytes: &[u8]) -> Result<CheckpointFile, String> {
        let full: Full<'_> = rmp_serde::from_slice(bytes).map_err(reason)?;
        // What the derived decoder is lenient about: order, types of a kind, longer forms, and what follows the end.
        if to_bytes(&full) != bytes {
            return Err("it is not its eight keys, in order and shortest form, and nothing else".to_owned());
        }
        if full.crc32c != full.checksum() {
            return Err("the checksum is wrong".to_owned());
        }
        let Full { position, started, region_identity, position_id, store_id, scanned, .. } = full;
        if started && (position_id.is_none() || scanned <= position) {
            return Err(format!("it is started, but has scanned {scanned} and position {position}, or no position_id"));
        }
        if !started && (position_id.is_some() || position != 0) {
            return Err(format!("it is not started, but has position {position}, or a position_id"));
        }
        Ok(CheckpointFile {
            position,
            started,
            region_identity: region_identity.to_owned(),
            position_id: position_id.map(|id| EventId(id.0)),
            store_id: Some(StoreId(store_id.0)),
            scanned: Some(scanned),
        })
    }

    /// Of all bytes before the last key.
    fn checksum(&self) -> u32 {
        let bytes = to_bytes(&Full { crc32c: 0, ..*self });
        checksum::crc32c(&bytes[..bytes.len() - b"\xA6crc32c\0".len()])
    }
}

/// The first four keys, in any order and with integers in any form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of the first four keys")]
struct Short<'a> {
    position: u64,
    started: bool,
    /// With a function, since an option without one may be absent.
    #[serde(deserialize_with = "Option::deserialize")]
    process_boot_ns: Option<u64>,
    /// With a function, since an option without one may be nil.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    region_identity: Option<Text<'a>>,
}

impl Short<'_> {
    fn decode(bytes: &[u8]) -> Result<CheckpointFile, decode::Error> {
        let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
        let Short { position, started, region_identity, .. } = Short::deserialize(&mut reader)?;
        // Only at the end is there no marker to read.
        if !matches!(<()>::deserialize(&mut reader), Err(decode::Error::InvalidMarkerRead(_))) {
            return Err(decode::Error::custom("bytes follow the end"));
        }
        // The derived decoder takes an array too, and numbers or binaries for keys.
        rmp_serde::from_slice::<BTreeMap<Text<'_>, IgnoredAny>>(bytes)?;
        let region_identity = region_identity.map_or(String::new(), |text| text.0.to_owned());
        Ok(CheckpointFile { position, started, region_identity, position_id: None, store_id: None, scanned: None })
    }
}

/// A str, and not a bin.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Text<'a>(&'a str);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(text))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Text<'de>>, D::Error> {
    Text::deserialize(deserializer).map(Some)
}

/// A bin of 16 bytes.
#[derive(Clone, Copy)]
struct Id([u8; 16]);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        bytes.try_into().map(Id).map_err(|_| D::Error::invalid_length(bytes.len(), &"an id of 16 bytes"))
    }
}

fn to_bytes(record: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(record).expect("a map of numbers, text and ids has an encoding")
}

fn reason(error: decode::Error) -> String {
    match error {
        decode::Error::InvalidMarkerRead(_) | decode::Error::InvalidDataRead(_) => "it is cut off".to_owned(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checkpoint() -> CheckpointFile {
        CheckpointFile {
            position: 300,
            started: true,
            region_identity: "entity=a|scope=*|fact=none|clock=*".to_owned(),
            position_id: Some(EventId(*b"IIIIIIIIIIIIIIII")),
            store_id: Some(StoreId(*b"SSSSSSSSSSSSSSSS")),
            scanned: Some(301),
        }
    }

    /// The bytes before the crc, made by hand from the MessagePack specification.
    const BY_HAND: &[u8] = b"\x88\
        \xA8position\xCD\x01\x2C\
        \xA7started\xC3\
        \xAFprocess_boot_ns\xC0\
        \xAFregion_identity\xD9\x22entity=a|scope=*|fact=none|clock=*\
        \xABposition_id\xC4\x10IIIIIIIIIIIIIIII\
        \xA8store_id\xC4\x10SSSSSSSSSSSSSSSS\
        \xA7scanned\xCD\x01\x2D";

    const SHORT_BY_HAND: &[u8] = b"\x84\
        \xA8position\xCD\x01\x2C\
        \xA7started\xC3\
        \xAFprocess_boot_ns\xC0\
        \xAFregion_identity\xD9\x22entity=a|scope=*|fact=none|clock=*";

    fn short() -> CheckpointFile {
        CheckpointFile { position_id: None, store_id: None, scanned: None, ..checkpoint() }
    }

    /// Puts the right crc behind the bytes before it.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let crc = checksum::crc32c(&bytes);
        bytes.extend(b"\xA6crc32c");
        bytes.extend(to_bytes(&crc));
        bytes
    }

    fn changed(from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = BY_HAND.windows(from.len()).position(|window| window == from).unwrap();
        [&BY_HAND[..at], to, &BY_HAND[at + from.len()..]].concat()
    }

    #[test]
    fn the_file_is_the_one_made_by_hand() {
        let bytes = checkpoint().encode();
        assert_eq!(bytes[..BY_HAND.len()], *BY_HAND);
        assert_eq!(bytes, sealed(BY_HAND.to_vec()));
        assert_eq!(CheckpointFile::decode(&bytes), Ok(checkpoint()));
    }

    #[test]
    fn the_first_four_keys_alone_are_accepted_in_any_order() {
        assert_eq!(short().encode(), SHORT_BY_HAND);
        assert_eq!(CheckpointFile::decode(SHORT_BY_HAND), Ok(short()));
        let parts = [
            &b"\xAFregion_identity\xD9\x22entity=a|scope=*|fact=none|clock=*"[..],
            b"\xAFprocess_boot_ns\xCF\0\0\0\0\0\0\0\x07",
            b"\xA7started\xC3",
            b"\xA8position\xCE\0\0\x01\x2C",
        ];
        for shift in 0..4 {
            let mut parts = parts;
            parts.rotate_left(shift);
            let bytes = [&[0xDE, 0, 4], &parts.concat()[..]].concat();
            assert_eq!(CheckpointFile::decode(&bytes), Ok(short()), "not in shortest forms, but four sound keys");
        }
    }

    #[test]
    fn every_flipped_bit_every_cut_and_every_trailing_byte_is_detected() {
        let bytes = checkpoint().encode();
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(CheckpointFile::decode(&damaged).is_err(), "bit {bit}");
        }
        for bytes in [&bytes[..], SHORT_BY_HAND] {
            for length in 0..bytes.len() {
                assert!(CheckpointFile::decode(&bytes[..length]).is_err(), "{length} bytes");
            }
            assert!(CheckpointFile::decode(&[bytes, &[0xC0]].concat()).is_err());
        }
    }

    #[test]
    fn an_absent_region_is_not_corrupt() {
        let absent = CheckpointFile { region_identity: String::new(), ..short() };
        let bytes = b"\x83\xAFprocess_boot_ns\xC0\xA8position\xCD\x01\x2C\xA7started\xC3";
        assert_eq!(CheckpointFile::decode(bytes), Ok(absent.clone()));
        assert_eq!(CheckpointFile::decode(&absent.encode()), Ok(absent));
    }

    #[test]
    fn other_shapes_are_refused_by_reason() {
        let reason = |bytes: &[u8]| CheckpointFile::decode(bytes).unwrap_err();
        assert_eq!(reason(b""), "the file is empty");
        assert_eq!(reason(b"\x80"), "missing field `position`");
        assert_eq!(reason(b"\xC0"), "invalid type: unit value, expected a map of the first four keys");
        assert_eq!(reason(b"\xDF\xFF\xFF\xFF\xFF"), "it is cut off");
        let twice = b"\x84\xA8position\x01\xA8position\x01\xA7started\xC3\xAFprocess_boot_ns\xC0";
        assert_eq!(reason(twice), "duplicate field `position`");
        let unknown = b"\x84\xA8positiom\x01\xA7started\xC3\xAFprocess_boot_ns\xC0\xAFregion_identity\xA0";
        assert!(reason(unknown).contains("unknown field `positiom`"));
        let two = b"\x82\xA8position\x01\xA7started\xC3";
        assert_eq!(reason(two), "missing field `process_boot_ns`");
        assert_eq!(reason(b"\x84\xA8position\xFF"), "invalid value: integer `-1`, expected u64");
        assert_eq!(reason(b"\x84\xA8position\xD0\xFF"), "invalid value: integer `-1`, expected u64");
        assert_eq!(reason(b"\x84\xA8position\xC0"), "invalid type: unit value, expected u64");
        assert_eq!(reason(b"\x84\xA7started\x01"), "invalid type: integer `1`, expected a boolean");
        assert!(reason(b"\x84\xAFregion_identity\xA1\xFF").contains("utf8"));
        assert_eq!(reason(b"\x84\xAFregion_identity\xDB\xFF\xFF\xFF\xFF"), "it is cut off");
        assert_eq!(reason(b"\x84\xAFregion_identity\xC4\x01a"), "invalid type: byte array, expected a string");
        assert_eq!(reason(b"\x84\xAFregion_identity\xC0"), "invalid type: unit value, expected a string");
        assert!(reason(b"\x94\x01\xC3\xC0\xA1a").contains("sequence"), "an array");
        let numbered = b"\x84\x00\x01\x01\xC3\x02\xC0\x03\xA1a";
        assert_eq!(reason(numbered), "invalid type: integer `0`, expected a string");
        let binary = b"\x83\xC4\x08position\x01\xA7started\xC3\xAFprocess_boot_ns\xC0";
        assert_eq!(reason(binary), "invalid type: byte array, expected a string");
        for end in [0x00, 0x81, 0x91, 0xC1, 0xC4, 0xC7, 0xD9, 0xFF] {
            assert_eq!(reason(&[SHORT_BY_HAND, &[end]].concat()), "bytes follow the end");
        }
        let deep = [&b"\x84\xA8position"[..], &[0x91; 60_000]].concat();
        assert_eq!(reason(&deep), "wrong msgpack marker FixArray(1)");
    }

    #[test]
    fn contradictions_are_refused_under_a_right_checksum() {
        let refused = |bytes: Vec<u8>| CheckpointFile::decode(&sealed(bytes)).is_err();
        assert!(!refused(BY_HAND.to_vec()));
        assert!(!refused(changed(b"\xC0", b"\x05")), "process_boot_ns is reserved");
        assert!(refused(changed(b"\xA7started\xC3", b"\xA7started\xC2")), "not started at 300");
        assert!(refused(changed(b"\xC4\x10IIIIIIIIIIIIIIII", b"\xC0")), "started with no id");
        assert!(refused(changed(b"\xC4\x10IIIIIIIIIIIIIIII", b"\xC4\x0FIIIIIIIIIIIIIII")), "a short id");
        assert!(refused(changed(b"\xCD\x01\x2D", b"\xCD\x01\x2C")), "scanned not above position");
        assert!(refused(changed(b"\x88", b"\x87")), "seven keys");
        assert!(refused(changed(b"started", b"Started")), "another key");
        let swapped = changed(b"\xA8position\xCD\x01\x2C\xA7started\xC3", b"\xA7started\xC3\xA8position\xCD\x01\x2C");
        assert!(refused(swapped), "another order");
        assert!(refused(changed(b"\xCD\x01\x2C", b"\xCE\0\0\x01\x2C")), "a longer form of an integer");
        assert!(refused(changed(b"\x88", b"\xDE\0\x08")), "a longer form of the map");
        assert!(refused(changed(b"\xD9\x22", b"\xDA\0\x22")), "a longer form of a string");
        assert!(refused(changed(b"\xC4\x10S", b"\xB0S")), "a string for an id");
        assert!(refused(changed(b"\xD9\x22", b"\xC4\x22")), "a binary for the region");
        let fresh =
            CheckpointFile { position: 0, started: false, position_id: None, scanned: Some(17), ..checkpoint() };
        assert_eq!(CheckpointFile::decode(&fresh.encode()), Ok(fresh));
    }

    #[test]
    fn integers_have_their_shortest_form() {
        let cases: [(u64, &[u8]); 9] = [
            (0, &[0]),
            (127, &[127]),
            (128, &[0xCC, 128]),
            (255, &[0xCC, 255]),
            (256, &[0xCD, 1, 0]),
            (65535, &[0xCD, 255, 255]),
            (65536, &[0xCE, 0, 1, 0, 0]),
            (1 << 32, &[0xCF, 0, 0, 0, 1, 0, 0, 0, 0]),
            (u64::MAX, &[0xCF, 255, 255, 255, 255, 255, 255, 255, 255]),
        ];
        for (value, expected) in cases {
            let bytes = CheckpointFile { position: value, ..short() }.encode();
            assert_eq!(bytes[b"\x84\xA8position".len()..][..expected.len()], *expected);
            assert_eq!(CheckpointFile::decode(&bytes).unwrap().position, value);
        }
    }

    proptest! {
        #[test]
        fn checkpoints_round_trip(
            position in any::<u64>(), started: bool, identity in ".{0,300}", id: [u8; 16], store: [u8; 16], ahead in 1..1000u64,
        ) {
            let position = if started { position.min(u64::MAX - ahead) } else { 0 };
            let checkpoint = CheckpointFile {
                position,
                started,
                region_identity: identity,
                position_id: started.then_some(EventId(id)),
                store_id: Some(StoreId(store)),
                scanned: Some(position + ahead),
            };
            prop_assert_eq!(CheckpointFile::decode(&checkpoint.encode()), Ok(checkpoint));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), at in 0..100usize) {
            let _ = CheckpointFile::decode(&bytes);
            let mut near = checkpoint().encode();
            for (i, byte) in bytes.iter().enumerate().take(9) {
                let at = (at + i) % near.len();
                near[at] = *byte;
            }
            let _ = CheckpointFile::decode(&near);
        }
    }
}
