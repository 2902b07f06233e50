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
//! 2. it has these eight keys in this order, or just the first four, once each, in any order;
//! 3. the values have these types;
//! 4. of eight keys: the CRC matches; not started = position 0 and position_id nil; started = position_id not nil and
//!    scanned > position.
//!
//! Integers are written in their shortest form; other forms are read.

use crate::event::{EventId, StoreId};

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFile {
    /// Sequence of the last event processed; 0 when not `started`.
    pub position: u64,
    /// An event was processed.
    pub started: bool,
    /// The region.
    pub region_identity: String,
    /// Id of the event at `position`. `None` when not `started`, and in the short form.
    pub position_id: Option<EventId>,
    /// The store. `None` in the short form of four keys.
    pub store_id: Option<StoreId>,
    /// Every matching event below this was processed. `None` in the short form of four keys.
    pub scanned: Option<u64>,
}

const SHORT_KEYS: usize = 4;
const KEYS: [&str; 8] =
    ["position", "started", "process_boot_ns", "region_identity", "position_id", "store_id", "scanned", "crc32c"];
const CRC_KEY: usize = KEYS.len() - 1;

impl CheckpointFile {
    /// The file's bytes: with all eight keys, or with four where store or `scanned` are not known.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192 + self.region_identity.len());
        let own = self.store_id.zip(self.scanned);
        out.push(FIXMAP | own.map_or(SHORT_KEYS, |_| KEYS.len()) as u8);
        put_str(&mut out, KEYS[0]);
        put_uint(&mut out, self.position);
        put_str(&mut out, KEYS[1]);
        out.push(if self.started { TRUE } else { FALSE });
        put_str(&mut out, KEYS[2]);
        out.push(NIL);
        put_str(&mut out, KEYS[3]);
        put_str(&mut out, &self.region_identity);
        if let Some((store_id, scanned)) = own {
            put_str(&mut out, KEYS[4]);
            match self.position_id {
                Some(id) => put_bin16(&mut out, &id.0),
                None => out.push(NIL),
            }
            put_str(&mut out, KEYS[5]);
            put_bin16(&mut out, &store_id.0);
            put_str(&mut out, KEYS[6]);
            put_uint(&mut out, scanned);
            let crc = crc32c::crc32c(&out);
            put_str(&mut out, KEYS[CRC_KEY]);
            put_uint(&mut out, u64::from(crc));
        }
        out
    }

    /// Reads the whole file, or says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<CheckpointFile, String> {
        if bytes.is_empty() {
            return Err("the file is empty".to_owned());
        }
        let mut reader = Reader { bytes, at: 0 };
        let keys = reader.map_length()?;
        let mut values = Values::default();
        match keys {
            SHORT_KEYS => {
                let mut seen = [false; SHORT_KEYS];
                for _ in 0..keys {
                    let key = reader.string()?;
                    let number = KEYS[..SHORT_KEYS].iter().position(|known| *known == key);
                    let Some(number) = number else { return Err(format!("the key {key:?} is not known")) };
                    if std::mem::replace(&mut seen[number], true) {
                        return Err(format!("the key {key:?} is there twice"));
                    }
                    values.read(number, &mut reader)?;
                }
            }
            _ if keys == KEYS.len() => {
                for (number, expected) in KEYS.iter().enumerate() {
                    let before = reader.at;
                    let key = reader.string()?;
                    if key != *expected {
                        return Err(format!("the key {key:?} stands where {expected:?} belongs"));
                    }
                    values.read(number, &mut reader)?;
                    if number == CRC_KEY && values.crc != u64::from(crc32c::crc32c(&bytes[..before])) {
                        return Err("the checksum is wrong".to_owned());
                    }
                }
            }
            _ => return Err(format!("it has {keys} keys, neither {SHORT_KEYS} nor {}", KEYS.len())),
        }
        if reader.at != bytes.len() {
            return Err(format!("{} byte(s) follow the end", bytes.len() - reader.at));
        }
        values.checked()
    }
}

/// What was read so far.
#[derive(Default)]
struct Values {
    position: u64,
    started: bool,
    region_identity: String,
    position_id: Option<EventId>,
    own: Option<StoreId>,
    scanned: Option<u64>,
    crc: u64,
}

impl Values {
    /// Reads the value of the key of that number.
    fn read(&mut self, key: usize, reader: &mut Reader<'_>) -> Result<(), String> {
        match key {
            0 => self.position = reader.uint()?,
            1 => self.started = reader.boolean()?,
            2 if reader.take_nil() => {}
            2 => drop(reader.uint()?),
            3 => self.region_identity = reader.string()?.to_owned(),
            4 if reader.take_nil() => {}
            4 => self.position_id = Some(EventId(reader.bin16()?)),
            5 => self.own = Some(StoreId(reader.bin16()?)),
            6 => self.scanned = Some(reader.uint()?),
            _ => self.crc = reader.uint()?,
        }
        Ok(())
    }

    fn checked(self) -> Result<CheckpointFile, String> {
        let Values { position, started, region_identity, position_id, own: store_id, scanned, .. } = self;
        if let Some(scanned) = scanned {
            if started && (position_id.is_none() || scanned <= position) {
                return Err(format!(
                    "it is started, but has scanned {scanned} and position {position}, or no position_id"
                ));
            }
            if !started && (position_id.is_some() || position != 0) {
                return Err(format!("it is not started, but has position {position}, or a position_id"));
            }
        }
        Ok(CheckpointFile { position, started, region_identity, position_id, store_id, scanned })
    }
}

// The part of MessagePack that checkpoints need.

const FIXMAP: u8 = 0x80;
const FIXSTR: u8 = 0xA0;
const NIL: u8 = 0xC0;
const FALSE: u8 = 0xC2;
const TRUE: u8 = 0xC3;
const BIN8: u8 = 0xC4;
const BIN16: u8 = 0xC5;
const BIN32: u8 = 0xC6;
const UINT8: u8 = 0xCC;
const UINT16: u8 = 0xCD;
const UINT32: u8 = 0xCE;
const UINT64: u8 = 0xCF;
const INT8: u8 = 0xD0;
const INT16: u8 = 0xD1;
const INT32: u8 = 0xD2;
const INT64: u8 = 0xD3;
const STR8: u8 = 0xD9;
const STR16: u8 = 0xDA;
const STR32: u8 = 0xDB;
const MAP16: u8 = 0xDE;
const MAP32: u8 = 0xDF;

fn put_uint(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_be_bytes();
    match value {
        0..=0x7F => out.push(value as u8),
        0x80..=0xFF => out.extend([UINT8, value as u8]),
        0x100..=0xFFFF => {
            out.push(UINT16);
            out.extend(&bytes[6..]);
        }
        0x1_0000..=0xFFFF_FFFF => {
            out.push(UINT32);
            out.extend(&bytes[4..]);
        }
        _ => {
            out.push(UINT64);
            out.extend(&bytes);
        }
    }
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    let length = text.len() as u32;
    let bytes = length.to_be_bytes();
    match length {
        0..=31 => out.push(FIXSTR | length as u8),
        32..=0xFF => out.extend([STR8, bytes[3]]),
        0x100..=0xFFFF => out.extend([STR16, bytes[2], bytes[3]]),
        _ => {
            out.push(STR32);
            out.extend(bytes);
        }
    }
    out.extend(text.as_bytes());
}

fn put_bin16(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    out.extend([BIN8, 16]);
    out.extend(bytes);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes[self.at..].get(..length).ok_or("it is cut off")?;
        self.at += length;
        Ok(taken)
    }

    fn marker(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn big_endian(&mut self, length: usize) -> Result<u64, String> {
        Ok(self.take(length)?.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, String> {
        usize::try_from(self.big_endian(bytes)?).map_err(|_| "it is cut off".to_owned())
    }

    fn wrong_type<T>(&self, wanted: &str, marker: u8) -> Result<T, String> {
        Err(format!("byte {} ({marker:#04x}) is not the start of a {wanted}", self.at - 1))
    }

    fn map_length(&mut self) -> Result<usize, String> {
        match self.marker()? {
            marker @ 0x80..=0x8F => Ok(usize::from(marker & 0x0F)),
            MAP16 => self.length(2),
            MAP32 => self.length(4),
            marker => self.wrong_type("map", marker),
        }
    }

    fn take_nil(&mut self) -> bool {
        let is_nil = self.bytes.get(self.at) == Some(&NIL);
        self.at += usize::from(is_nil);
        is_nil
    }

    fn boolean(&mut self) -> Result<bool, String> {
        match self.marker()? {
            FALSE => Ok(false),
            TRUE => Ok(true),
            marker => self.wrong_type("bool", marker),
        }
    }

    /// Any form of an integer that is not negative.
    fn uint(&mut self) -> Result<u64, String> {
        let marker = self.marker()?;
        let signed_bytes = match marker {
            0..=0x7F => return Ok(u64::from(marker)),
            UINT8 => return self.big_endian(1),
            UINT16 => return self.big_endian(2),
            UINT32 => return self.big_endian(4),
            UINT64 => return self.big_endian(8),
            INT8 => 1,
            INT16 => 2,
            INT32 => 4,
            INT64 => 8,
            _ => return self.wrong_type("uint", marker),
        };
        let value = self.big_endian(signed_bytes)?;
        if value >> (8 * signed_bytes - 1) != 0 {
            return Err("an integer is negative".to_owned());
        }
        Ok(value)
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let length = match self.marker()? {
            marker @ 0xA0..=0xBF => usize::from(marker & 0x1F),
            STR8 => self.length(1)?,
            STR16 => self.length(2)?,
            STR32 => self.length(4)?,
            marker => return self.wrong_type("string", marker),
        };
        std::str::from_utf8(self.take(length)?).map_err(|_| "a string is not UTF-8".to_owned())
    }

    fn bin16(&mut self) -> Result<[u8; 16], String> {
        let length = match self.marker()? {
            BIN8 => self.length(1)?,
            BIN16 => self.length(2)?,
            BIN32 => self.length(4)?,
            marker => return self.wrong_type("binary", marker),
        };
        <[u8; 16]>::try_from(self.take(length)?).map_err(|_| format!("an id has {length} bytes, not 16"))
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
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(b"\xA6crc32c");
        put_uint(&mut bytes, u64::from(crc));
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
    fn other_shapes_are_refused_by_reason() {
        let reason = |bytes: &[u8]| CheckpointFile::decode(bytes).unwrap_err();
        assert_eq!(reason(b""), "the file is empty");
        assert_eq!(reason(b"\x80"), "it has 0 keys, neither 4 nor 8");
        assert!(reason(b"\xC0").contains("not the start of a map"));
        assert!(reason(b"\xDF\xFF\xFF\xFF\xFF").contains("4294967295 keys"));
        let twice = b"\x84\xA8position\x01\xA8position\x01\xA7started\xC3\xAFprocess_boot_ns\xC0";
        assert!(reason(twice).contains("twice"));
        let unknown = b"\x84\xA8positiom\x01\xA7started\xC3\xAFprocess_boot_ns\xC0\xAFregion_identity\xA0";
        assert!(reason(unknown).contains("not known"));
        assert!(reason(b"\x84\xA8position\xFF").contains("not the start of a uint"));
        assert!(reason(b"\x84\xA8position\xD0\xFF").contains("negative"));
        assert!(reason(b"\x84\xA8position\xC0").contains("not the start of a uint"));
        assert!(reason(b"\x84\xA7started\x01").contains("not the start of a bool"));
        assert!(reason(b"\x84\xAFregion_identity\xA1\xFF").contains("UTF-8"));
        assert!(reason(b"\x84\xAFregion_identity\xDB\xFF\xFF\xFF\xFF").contains("cut off"));
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
            let mut out = Vec::new();
            put_uint(&mut out, value);
            assert_eq!(out, expected);
            assert_eq!(Reader { bytes: &out, at: 0 }.uint(), Ok(value));
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
