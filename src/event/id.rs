//! Identities: of events, derived from what a frame already holds, and of stores.
//!
//! An event id is a UUIDv7 (RFC 9562, section 5.7), 16 bytes in network order:
//!
//! | bits | field | holds |
//! |---|---|---|
//! | 0 to 47 | unix_ts_ms | milliseconds since the Unix epoch |
//! | 48 to 51 | ver | 7 |
//! | 52 to 63 | rand_a | microseconds within the millisecond, 0 to 999 |
//! | 64 to 65 | var | binary 10 |
//! | 66 to 111 | rand_b, high 46 bits | the event's sequence |
//! | 112 to 127 | rand_b, low 16 bits | the tag of the event's store |
//!
//! So an id is never stored for an event of the same store, says where to look its event up, and ids of one store
//! sort like its sequences. An id is well formed iff ver is 7, var is binary 10 and rand_a is at most 999.

use super::SEQUENCE_LIMIT;
use std::fmt;

/// The last microsecond whose millisecond has 48 bits.
pub const TIME_US_MAX: i64 = (1 << 48) * 1000 - 1;
const VERSION: u64 = 7;
const VARIANT: u64 = 0b10;
const RAND_A_MASK: u64 = 0xFFF;
const MICROS_MAX: u64 = 999;

/// The identity of one event, the same in every copy of its store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct EventId(pub [u8; 16]);

impl EventId {
    /// The id of the event at `sequence`, appended at `time_us`, of the store with `tag`.
    ///
    /// Without a branch, since it runs once per event. Times are clamped to 0..2^48 milliseconds and the sequence is
    /// taken modulo [`SEQUENCE_LIMIT`]; appends refuse both before they come here.
    #[inline]
    pub const fn derive(time_us: i64, sequence: u64, tag: u16) -> EventId {
        let not_negative = if time_us < 0 { 0 } else { time_us };
        let time_us = (if not_negative > TIME_US_MAX { TIME_US_MAX } else { not_negative }) as u64;
        let high = (time_us / 1000) << 16 | VERSION << 12 | (time_us % 1000);
        let low = VARIANT << 62 | (sequence & (SEQUENCE_LIMIT - 1)) << 16 | tag as u64;
        EventId(((high as u128) << 64 | low as u128).to_be_bytes())
    }

    /// The event's time in microseconds since the Unix epoch.
    #[inline]
    pub const fn time_us(&self) -> i64 {
        ((self.high() >> 16) * 1000 + (self.high() & RAND_A_MASK)) as i64
    }

    /// The event's sequence in its store.
    #[inline]
    pub const fn sequence(&self) -> u64 {
        self.low() >> 16 & (SEQUENCE_LIMIT - 1)
    }

    /// The tag of the event's store ([`StoreId::tag`]).
    #[inline]
    pub const fn tag(&self) -> u16 {
        self.low() as u16
    }

    /// This can be the id of an event: version, variant and microseconds are what [`EventId::derive`] makes.
    #[inline]
    pub const fn is_well_formed(&self) -> bool {
        self.high() >> 12 & 0xF == VERSION && self.high() & RAND_A_MASK <= MICROS_MAX && self.low() >> 62 == VARIANT
    }

    #[inline]
    const fn high(&self) -> u64 {
        (u128::from_be_bytes(self.0) >> 64) as u64
    }

    #[inline]
    const fn low(&self) -> u64 {
        u128::from_be_bytes(self.0) as u64
    }
}

/// The canonical UUID text, lower case.
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at..at + 2].copy_from_slice(&hex(*byte));
            at += 2;
        }
        f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The identity of a store: 16 random bytes, drawn when it is created.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct StoreId(pub [u8; 16]);

impl StoreId {
    /// What the ids of the store's events carry of it: its first two bytes, read as a little-endian number.
    #[inline]
    pub const fn tag(&self) -> u16 {
        u16::from_le_bytes([self.0[0], self.0[1]])
    }
}

/// 32 hexadecimal digits, lower case.
impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 32];
        for (digits, byte) in text.chunks_exact_mut(2).zip(self.0) {
            digits.copy_from_slice(&hex(byte));
        }
        f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xF)]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 9562, appendix A.6: 017F22E2-79B0-7CC3-98C4-DC0C0C07398F is at 1645557742000 ms. Its rand_a is no
    /// microsecond, so the same time with ours.
    #[test]
    fn the_layout_is_that_of_rfc_9562() {
        let id = EventId::derive(1_645_557_742_000_123, 0x1234_5678_9ABC, 0xBEEF);
        assert_eq!(id.to_string(), "017f22e2-79b0-707b-9234-56789abcbeef");
        assert_eq!(format!("{id:?}"), id.to_string());
        assert_eq!(format!("{id:>38}"), format!("  {id}"));
    }

    #[test]
    fn extremes_fit() {
        let first = EventId::derive(0, 0, 0);
        assert_eq!(first.to_string(), "00000000-0000-7000-8000-000000000000");
        let last = EventId::derive(TIME_US_MAX, SEQUENCE_LIMIT - 1, u16::MAX);
        assert_eq!(last.to_string(), "ffffffff-ffff-73e7-bfff-ffffffffffff");
        assert!(first.is_well_formed() && last.is_well_formed());
    }

    #[test]
    fn times_are_clamped() {
        assert_eq!(EventId::derive(-1, 5, 6), EventId::derive(0, 5, 6));
        assert_eq!(EventId::derive(i64::MIN, 5, 6), EventId::derive(0, 5, 6));
        assert_eq!(EventId::derive(i64::MAX, 5, 6).time_us(), TIME_US_MAX);
    }

    #[test]
    fn other_uuids_are_not_well_formed() {
        let good = EventId::derive(1_700_000_000_000_999, 7, 8);
        let change = |index: usize, byte: u8| {
            let mut bytes = good.0;
            bytes[index] = byte;
            EventId(bytes)
        };
        assert!(good.is_well_formed());
        assert!(!change(6, 0x43).is_well_formed(), "version 4");
        assert!(!change(8, 0xC0).is_well_formed(), "variant 11");
        assert!(!change(8, 0x00).is_well_formed(), "variant 00");
        assert!(!change(7, 0xE8).is_well_formed(), "1000 microseconds");
        assert!(!EventId([0; 16]).is_well_formed());
        assert!(!EventId([0xFF; 16]).is_well_formed());
    }

    #[test]
    fn a_store_shows_in_hex_and_tags_little_endian() {
        let mut bytes = [0xA0; 16];
        bytes[..3].copy_from_slice(&[0x34, 0x12, 0x0F]);
        let store = StoreId(bytes);
        assert_eq!(store.tag(), 0x1234);
        assert_eq!(store.to_string(), "34120fa0a0a0a0a0a0a0a0a0a0a0a0a0");
    }

    proptest! {
        #[test]
        fn parts_come_back(time_us in 0..=TIME_US_MAX, sequence in 0..SEQUENCE_LIMIT, tag: u16) {
            let id = EventId::derive(time_us, sequence, tag);
            prop_assert!(id.is_well_formed());
            prop_assert_eq!((id.time_us(), id.sequence(), id.tag()), (time_us, sequence, tag));
        }

        #[test]
        fn ids_sort_by_time_then_sequence(
            a in (0..100_000i64, 0..SEQUENCE_LIMIT), b in (0..100_000i64, 0..SEQUENCE_LIMIT), tag: u16,
        ) {
            prop_assert_eq!(EventId::derive(a.0, a.1, tag).cmp(&EventId::derive(b.0, b.1, tag)), a.cmp(&b));
        }

        #[test]
        fn any_bytes_can_be_taken_apart(bytes: [u8; 16]) {
            let id = EventId(bytes);
            prop_assert!(id.sequence() < SEQUENCE_LIMIT && id.time_us() >= 0);
            if id.is_well_formed() {
                prop_assert_eq!(EventId::derive(id.time_us(), id.sequence(), id.tag()), id);
            }
        }
    }
}
