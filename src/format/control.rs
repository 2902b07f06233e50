//! Control frames: the library's own entries in the log. They carry the next event's sequence and consume none.
//!
//! They begin as every frame ([`super::frame`]), with cause count, flags and payload CRC zero; the header CRC is over all of
//! `frame[4 .. length]`.
//!
//! ```text
//! type  name          length         body from offset 24
//! 0x10  EPOCH         40             u64 epoch, i64 time
//! 0x11  MARK          48             u64 durable sequence, u64 segment base, u64 offset
//! 0x12  CLOSE         40             u64 epoch, i64 time
//! 0x13  FENCE_COMMIT  32             u64 fence id
//! 0x14  FENCE_CANCEL  40 + 16 n      u64 fence id, u64 n, n ranges of u64 start, u64 end (exclusive)
//! 0x15  CHECKPOINT    32 + id + map  u16 id length, u16 zero, u32 map length, id, map
//! 0x16  ERASE         64             u64 sequence, BLAKE3 digest of the payload
//! 0x17  RETAIN        48 + 32 n      u64 first available sequence, u64 tree size, u64 n, n peaks of 32 bytes
//! ```
//!
//! A control frame is valid iff
//! 1. its length is at least 24 and at most the bytes there are;
//! 2. `header CRC = crc32c(seed, frame[4 .. length])`; EPOCH and CLOSE are seeded with the epoch in their own body;
//! 3. cause count, flags and payload CRC are zero;
//! 4. its type is known, or 0x80 or more; another type from 0x02 on is a newer format;
//! 5. its length is what its type and counts say, and its reserved bytes are zero.

use std::slice::ChunksExact;

use super::checksum;
use super::frame::FRAME_HEADER_BYTES;
use super::segment;
use super::{Malformed, align8, array_at, i64_at, put, u16_at, u32_at, u64_at};
use crate::event::StoreId;

/// Length of a MARK frame.
pub const MARK_BYTES: usize = 48;
/// Length of a CLOSE frame.
pub const CLOSE_BYTES: usize = 40;
/// Length of an EPOCH frame.
pub const EPOCH_BYTES: usize = 40;

/// An opening for writing.
pub const TYPE_EPOCH: u8 = 0x10;
/// What was durable.
pub const TYPE_MARK: u8 = 0x11;
/// A clean close.
pub const TYPE_CLOSE: u8 = 0x12;
/// A fence was committed.
pub const TYPE_FENCE_COMMIT: u8 = 0x13;
/// A fence was cancelled.
pub const TYPE_FENCE_CANCEL: u8 = 0x14;
/// Progress of a consumer.
pub const TYPE_CHECKPOINT: u8 = 0x15;
/// A payload was erased.
pub const TYPE_ERASE: u8 = 0x16;
/// The oldest segments were dropped.
pub const TYPE_RETAIN: u8 = 0x17;
/// The newest critical control frame of this format version.
const TYPE_CRITICAL_KNOWN_MAX: u8 = TYPE_RETAIN;
/// From here on, a frame may be skipped by who does not know it.
const TYPE_SKIPPABLE: u8 = 0x80;

/// A control frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// An opening for writing. All before it was durable when it was written.
    Epoch {
        /// The epoch from here on.
        epoch: u64,
        /// When.
        time_us: i64,
    },
    /// All events below a sequence, and all bytes below an offset and of older segments, were durable.
    Mark {
        /// Events below were durable.
        durable_sequence: u64,
        /// The segment that `offset` is in.
        segment_base: u64,
        /// Bytes of it below were durable.
        offset: u64,
    },
    /// A clean close. All before it is durable.
    Close {
        /// The epoch that ends.
        epoch: u64,
        /// Time of the last event, or the floor.
        time_us: i64,
    },
    /// A fence was committed.
    FenceCommit {
        /// Sequence of its first event.
        fence: u64,
    },
    /// A fence was cancelled.
    FenceCancel {
        /// Sequence of its first event.
        fence: u64,
        /// The cancelled sequences: start, end (exclusive).
        ranges: Vec<(u64, u64)>,
    },
    /// Progress of a consumer.
    Checkpoint {
        /// The consumer.
        id: String,
        /// The checkpoint, as in its file.
        map: Vec<u8>,
    },
    /// A payload was erased.
    Erase {
        /// The event.
        sequence: u64,
        /// BLAKE3 of the payload.
        digest: [u8; 32],
    },
    /// The oldest segments were dropped.
    Retain {
        /// The first event that is left.
        first_available: u64,
        /// Leaves of the tree up to there.
        tree_size: u64,
        /// Its peaks.
        peaks: Vec<[u8; 32]>,
    },
    /// A frame that is not known and need not be.
    Skipped {
        /// 0x80 or more.
        frame_type: u8,
    },
}

impl Control {
    /// The frame's type.
    pub fn frame_type(&self) -> u8 {
        match self {
            Control::Epoch { .. } => TYPE_EPOCH,
            Control::Mark { .. } => TYPE_MARK,
            Control::Close { .. } => TYPE_CLOSE,
            Control::FenceCommit { .. } => TYPE_FENCE_COMMIT,
            Control::FenceCancel { .. } => TYPE_FENCE_CANCEL,
            Control::Checkpoint { .. } => TYPE_CHECKPOINT,
            Control::Erase { .. } => TYPE_ERASE,
            Control::Retain { .. } => TYPE_RETAIN,
            Control::Skipped { frame_type } => *frame_type,
        }
    }
}

/// Appends the control frame and its padding to `out`, which ends where the frame starts. For EPOCH and CLOSE the caller
/// gives the seed of the epoch in the frame.
///
/// # Panics
/// When a checkpoint's id or map is longer than its length field can say.
pub fn encode_control(out: &mut Vec<u8>, sequence: u64, control: &Control, seed: u32) {
    let start = out.len();
    out.extend([0; FRAME_HEADER_BYTES]);
    let mut word = |value: u64| out.extend(value.to_le_bytes());
    match control {
        Control::Epoch { epoch, time_us } | Control::Close { epoch, time_us } => {
            word(*epoch);
            word(*time_us as u64);
        }
        Control::Mark { durable_sequence, segment_base, offset } => {
            word(*durable_sequence);
            word(*segment_base);
            word(*offset);
        }
        Control::FenceCommit { fence } => word(*fence),
        Control::FenceCancel { fence, ranges } => {
            word(*fence);
            word(ranges.len() as u64);
            for &(range_start, range_end) in ranges {
                word(range_start);
                word(range_end);
            }
        }
        Control::Checkpoint { id, map } => {
            let id_length = u16::try_from(id.len()).expect("a checkpoint id has at most 200 bytes");
            let map_length = u32::try_from(map.len()).expect("a checkpoint map has a few kilobytes at most");
            word(u64::from(id_length) | u64::from(map_length) << 32);
            out.extend(id.as_bytes());
            out.extend(map);
        }
        Control::Erase { sequence, digest } => {
            word(*sequence);
            out.extend(digest);
        }
        Control::Retain { first_available, tree_size, peaks } => {
            word(*first_available);
            word(*tree_size);
            word(peaks.len() as u64);
            out.extend(peaks.as_flattened());
        }
        Control::Skipped { .. } => {}
    }
    let length = out.len() - start;
    out.resize(start + align8(length), 0);
    seal(&mut out[start..start + length], sequence, control.frame_type(), seed);
}

/// Writes a MARK frame to the start of `out` and returns its length.
///
/// # Panics
/// When `out` has less than [`MARK_BYTES`].
#[inline]
pub fn encode_mark(
    out: &mut [u8],
    sequence: u64,
    durable_sequence: u64,
    segment_base: u64,
    offset: u64,
    seed: u32,
) -> usize {
    let frame = &mut out[..MARK_BYTES];
    frame[..FRAME_HEADER_BYTES].fill(0);
    put(frame, 24, &durable_sequence.to_le_bytes());
    put(frame, 32, &segment_base.to_le_bytes());
    put(frame, 40, &offset.to_le_bytes());
    seal(frame, sequence, TYPE_MARK, seed);
    MARK_BYTES
}

fn seal(frame: &mut [u8], sequence: u64, frame_type: u8, seed: u32) {
    let length = u32::try_from(frame.len()).expect("a control frame is far shorter than 4 GiB");
    put(frame, 4, &length.to_le_bytes());
    put(frame, 8, &sequence.to_le_bytes());
    frame[16] = frame_type;
    let crc = checksum::crc32c_append(seed, &frame[4..]);
    put(frame, 0, &crc.to_le_bytes());
}

/// Decodes the control frame at the start of `frame`, which may be followed by anything: the next event's sequence, the
/// content, and the length without padding.
pub fn decode_control(frame: &[u8], seed: u32) -> Result<(u64, Control, usize), Malformed> {
    let frame = whole_frame(frame)?;
    if u32_at(frame, 0) != checksum::crc32c_append(seed, &frame[4..]) {
        return Err(Malformed::damaged("the control frame's checksum is wrong"));
    }
    let control = decode_body(frame)?;
    Ok((u64_at(frame, 8), control, frame.len()))
}

/// Decodes the EPOCH or CLOSE frame at the start of `frame`: their checksum is seeded with the epoch that they name.
pub fn decode_self_seeded(frame: &[u8], store_id: &StoreId, base: u64) -> Result<(u64, Control, usize), Malformed> {
    let frame = whole_frame(frame)?;
    if !matches!(frame[16], TYPE_EPOCH | TYPE_CLOSE) || frame.len() != EPOCH_BYTES {
        return Err(Malformed::damaged(format!("frame type {:#04x} names no epoch", frame[16])));
    }
    decode_control(frame, segment::seed(store_id, base, u64_at(frame, 24)))
}

fn whole_frame(bytes: &[u8]) -> Result<&[u8], Malformed> {
    if bytes.len() < FRAME_HEADER_BYTES {
        return Err(Malformed::damaged(format!("{} bytes are no frame", bytes.len())));
    }
    let length = u32_at(bytes, 4) as usize;
    if length < FRAME_HEADER_BYTES || length > bytes.len() {
        return Err(Malformed::damaged(format!(
            "the control frame's length is {length}, of {} bytes there are",
            bytes.len()
        )));
    }
    Ok(&bytes[..length])
}

/// Conditions 3 to 5, on a frame whose checksum holds.
fn decode_body(frame: &[u8]) -> Result<Control, Malformed> {
    let frame_type = frame[16];
    match frame_type {
        TYPE_EPOCH..=TYPE_RETAIN => {}
        0x00 | 0x01 => return Err(Malformed::damaged(format!("frame type {frame_type:#04x} is no control frame"))),
        TYPE_SKIPPABLE.. => return Ok(Control::Skipped { frame_type }),
        _ => {
            let (found, known) = (u32::from(frame_type), u32::from(TYPE_CRITICAL_KNOWN_MAX));
            return Err(Malformed::NewerFormat { what: "frame type", found, known });
        }
    }
    if frame[17..24] != [0; 7] {
        return Err(Malformed::damaged("the control frame's cause count, flags and payload CRC are not zero"));
    }
    let body = Body { bytes: &frame[FRAME_HEADER_BYTES..], frame_type };
    match frame_type {
        TYPE_EPOCH => body.exact(16).map(|b| Control::Epoch { epoch: u64_at(b, 0), time_us: i64_at(b, 8) }),
        TYPE_MARK => body.exact(24).map(|b| Control::Mark {
            durable_sequence: u64_at(b, 0),
            segment_base: u64_at(b, 8),
            offset: u64_at(b, 16),
        }),
        TYPE_CLOSE => body.exact(16).map(|b| Control::Close { epoch: u64_at(b, 0), time_us: i64_at(b, 8) }),
        TYPE_FENCE_COMMIT => body.exact(8).map(|b| Control::FenceCommit { fence: u64_at(b, 0) }),
        TYPE_FENCE_CANCEL => body.counted(16, 16).map(|(b, ranges)| Control::FenceCancel {
            fence: u64_at(b, 0),
            ranges: ranges.map(|range| (u64_at(range, 0), u64_at(range, 8))).collect(),
        }),
        TYPE_CHECKPOINT => body.checkpoint(),
        TYPE_ERASE => body.exact(40).map(|b| Control::Erase { sequence: u64_at(b, 0), digest: array_at(b, 8) }),
        _ => body.counted(24, 32).map(|(b, peaks)| Control::Retain {
            first_available: u64_at(b, 0),
            tree_size: u64_at(b, 8),
            peaks: peaks.map(|peak| array_at(peak, 0)).collect(),
        }),
    }
}

/// The bytes of a control frame after what all frames begin with.
struct Body<'a> {
    bytes: &'a [u8],
    frame_type: u8,
}

impl<'a> Body<'a> {
    fn wrong_length(&self) -> Malformed {
        Malformed::damaged(format!(
            "a control frame of type {:#04x} and {} bytes is not valid",
            self.frame_type,
            self.bytes.len() + FRAME_HEADER_BYTES
        ))
    }

    fn exact(&self, length: usize) -> Result<&'a [u8], Malformed> {
        if self.bytes.len() == length { Ok(self.bytes) } else { Err(self.wrong_length()) }
    }

    /// A fixed part whose last word counts the rows of `row_bytes` that follow it.
    fn counted(&self, fixed: usize, row_bytes: usize) -> Result<(&'a [u8], ChunksExact<'a, u8>), Malformed> {
        let (head, rest) = self.bytes.split_at_checked(fixed).ok_or_else(|| self.wrong_length())?;
        let rows = rest.chunks_exact(row_bytes);
        let is_whole = rows.remainder().is_empty() && u64_at(head, fixed - 8) == rows.len() as u64;
        if is_whole { Ok((head, rows)) } else { Err(self.wrong_length()) }
    }

    fn checkpoint(&self) -> Result<Control, Malformed> {
        let (head, rest) = self.bytes.split_at_checked(8).ok_or_else(|| self.wrong_length())?;
        let id_length = usize::from(u16_at(head, 0));
        let map_length = u32_at(head, 4) as usize;
        let is_whole = u16_at(head, 2) == 0 && id_length.checked_add(map_length) == Some(rest.len());
        if !is_whole {
            return Err(self.wrong_length());
        }
        let (id, map) = rest.split_at(id_length);
        match std::str::from_utf8(id) {
            Ok(id) => Ok(Control::Checkpoint { id: id.to_owned(), map: map.to_vec() }),
            Err(_) => Err(Malformed::damaged("the id in the checkpoint frame is not UTF-8")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEED: u32 = 0xABCD_0123;
    const STORE: StoreId = StoreId([3; 16]);

    fn encode(control: &Control, seed: u32) -> Vec<u8> {
        let mut out = vec![0xEE; 8];
        encode_control(&mut out, 42, control, seed);
        assert_eq!(out[..8], [0xEE; 8]);
        assert_eq!(out.len() % 8, 0);
        out.split_off(8)
    }

    fn samples() -> Vec<Control> {
        vec![
            Control::Epoch { epoch: 3, time_us: -1 },
            Control::Mark { durable_sequence: 40, segment_base: 30, offset: 4096 },
            Control::Close { epoch: 2, time_us: 1_700_000_000_000_000 },
            Control::FenceCommit { fence: 9 },
            Control::FenceCancel { fence: 9, ranges: vec![] },
            Control::FenceCancel { fence: 9, ranges: vec![(9, 10), (12, 40)] },
            Control::Checkpoint { id: "billing".into(), map: vec![0x80, 1, 2] },
            Control::Erase { sequence: 7, digest: [5; 32] },
            Control::Retain { first_available: 1000, tree_size: 1000, peaks: vec![[1; 32], [2; 32]] },
            Control::Skipped { frame_type: 0x80 },
            Control::Skipped { frame_type: 0xFF },
        ]
    }

    #[test]
    fn control_frames_round_trip_with_their_documented_lengths() {
        let lengths = [40, 48, 40, 32, 40, 72, 42, 64, 112, 24, 24];
        for (control, length) in samples().into_iter().zip(lengths) {
            let bytes = encode(&control, SEED);
            assert_eq!(decode_control(&bytes, SEED), Ok((42, control.clone(), length)));
            let followed = [&bytes[..], &[0x77; 100]].concat();
            assert_eq!(decode_control(&followed, SEED), Ok((42, control, length)));
        }
    }

    #[test]
    fn the_mark_without_allocation_is_the_same_frame() {
        let mut out = [0xFF; MARK_BYTES + 1];
        assert_eq!(encode_mark(&mut out, 42, 40, 30, 4096, SEED), MARK_BYTES);
        let mark = Control::Mark { durable_sequence: 40, segment_base: 30, offset: 4096 };
        assert_eq!(out[..MARK_BYTES], encode(&mark, SEED));
        assert_eq!(out[MARK_BYTES], 0xFF);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_detected() {
        for control in samples() {
            let bytes = encode(&control, SEED);
            let length = decode_control(&bytes, SEED).unwrap().2;
            for bit in 0..8 * length {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(decode_control(&damaged, SEED).is_err(), "{control:?}: bit {bit}");
            }
            for cut in 0..length {
                assert!(decode_control(&bytes[..cut], SEED).is_err(), "{control:?}: {cut} bytes");
            }
        }
    }

    #[test]
    fn epoch_and_close_carry_their_own_seed() {
        for control in [Control::Epoch { epoch: 8, time_us: 5 }, Control::Close { epoch: 8, time_us: 5 }] {
            let bytes = encode(&control, segment::seed(&STORE, 100, 8));
            assert_eq!(decode_self_seeded(&bytes, &STORE, 100), Ok((42, control, 40)));
            assert!(decode_self_seeded(&bytes, &STORE, 101).is_err());
            assert!(decode_self_seeded(&bytes, &StoreId([4; 16]), 100).is_err());
            for bit in 0..8 * bytes.len() {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(decode_self_seeded(&damaged, &STORE, 100).is_err(), "bit {bit}");
            }
        }
        let mark = Control::Mark { durable_sequence: 8, segment_base: 8, offset: 8 };
        assert!(decode_self_seeded(&encode(&mark, segment::seed(&STORE, 100, 8)), &STORE, 100).is_err());
    }

    /// Puts a type on an otherwise sound frame.
    fn with_type(frame_type: u8) -> Vec<u8> {
        encode(&Control::Skipped { frame_type }, SEED)
    }

    #[test]
    fn an_unknown_critical_type_is_a_newer_format_only_under_a_right_checksum() {
        for frame_type in (0x02..0x10).chain(0x18..0x80) {
            let bytes = with_type(frame_type);
            let newer = Malformed::NewerFormat { what: "frame type", found: u32::from(frame_type), known: 0x17 };
            assert_eq!(decode_control(&bytes, SEED), Err(newer));
            assert!(matches!(decode_control(&bytes, !SEED), Err(Malformed::Damaged { .. })));
        }
        for frame_type in [0, 1] {
            assert!(matches!(decode_control(&with_type(frame_type), SEED), Err(Malformed::Damaged { .. })));
        }
        for frame_type in TYPE_EPOCH..=TYPE_RETAIN {
            assert!(matches!(decode_control(&with_type(frame_type), SEED), Err(Malformed::Damaged { .. })), "no body");
        }
    }

    #[test]
    fn hostile_counts_and_lengths_are_refused() {
        let reseal = |bytes: &mut [u8]| {
            let length = u32_at(bytes, 4) as usize;
            let crc = checksum::crc32c_append(SEED, &bytes[4..length]);
            put(bytes, 0, &crc.to_le_bytes());
        };
        let changes: [(Control, usize); 5] = [
            (Control::FenceCancel { fence: 0, ranges: vec![(1, 2)] }, 32),
            (Control::Retain { first_available: 1, tree_size: 1, peaks: vec![[0; 32]] }, 40),
            (Control::Checkpoint { id: "a".into(), map: vec![1] }, 24),
            (Control::Checkpoint { id: "a".into(), map: vec![1] }, 26),
            (Control::Checkpoint { id: "a".into(), map: vec![1] }, 28),
        ];
        for (control, at) in changes {
            for value in [0x00, 0x02, 0x7F, 0xFF] {
                let mut bytes = encode(&control, SEED);
                let wide = at == 32 || at == 40;
                let changed = if wide { [value; 8].to_vec() } else { [value; 2].to_vec() };
                if bytes[at..at + changed.len()] == changed[..] {
                    continue;
                }
                put(&mut bytes, at, &changed);
                reseal(&mut bytes);
                assert!(decode_control(&bytes, SEED).is_err(), "{control:?} with {value:#x} at {at}");
            }
        }
        let mut flagged = encode(&Control::FenceCommit { fence: 0 }, SEED);
        flagged[18] = 1;
        reseal(&mut flagged);
        assert!(decode_control(&flagged, SEED).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), frame_type in 0x10..0x18u8) {
            let _ = decode_control(&bytes, SEED);
            let _ = decode_self_seeded(&bytes, &STORE, 0);
            if bytes.len() >= FRAME_HEADER_BYTES {
                // Sound but for the body.
                bytes[17..24].fill(0);
                let length = bytes.len();
                let mut sealed = std::mem::take(&mut bytes);
                seal(&mut sealed[..length], 1, frame_type, SEED);
                let _ = decode_control(&sealed, SEED);
                let _ = decode_self_seeded(&sealed, &STORE, 0);
            }
        }
    }
}
