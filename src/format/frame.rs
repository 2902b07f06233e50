//! Frames: what every frame begins with, and the event frame. The control frames are in [`super::control`].
//!
//! ```text
//! offset size                             every frame; it starts at a multiple of 8 and is followed by zeros up to the next
//!      0    4  header CRC
//!      4    4  length, without the padding
//!      8    8  sequence: the event's own; in a control frame, the next event's
//!     16    1  frame type: 0x01 event, 0x10..0x7F critical control, 0x80..0xFF control that may be skipped
//!     17    1  cause count (0 in control frames)
//!     18    2  flags (0 in control frames)
//!     20    4  payload CRC (0 in control frames)
//!                                         event frames go on
//!     24    8  clock
//!     32    8  i64 time, microseconds
//!     40    8  sequence of the entity's previous event; 2^64-1 = none
//!     48    2  kind
//!     50    2  schema version
//!     52    2  entity length
//!     54    2  scope length
//!     56    8  fence id                   iff FENCED
//!           8  foreign mask               iff FOREIGN
//!    12 or 16  correlation                iff CORRELATION_LOCAL or CORRELATION_FULL
//!    12 or 16  each cause                 a local reference, or an id where the foreign mask says so
//!       1 + n  idempotency key            iff KEY: length, bytes
//!              entity, then scope
//!          16  salt                       iff SALTED; the header ends before it
//!              payload                    the rest
//! ```
//!
//! A local reference is u48 sequence, u48 microseconds between the named event's time and this event's.
//!
//! An event frame is valid iff
//! 1. its length is at least 56 and at most the bytes there are, and its type is 0x01;
//! 2. `header CRC = crc32c(seed, frame[4 .. header end])`;
//! 3. `payload CRC = crc32c(0, salt and payload) xor seed`;
//! 4. its sequence follows the previous event's (the reader's to check: it takes the previous frame);
//! 5. the parts fit the length; entity and scope have 1 to 1024 bytes and obey the rules for coordinates
//!    ([`DecodedEvent::check_coordinates`]); there are at most 64 causes; a key has 16 to 64 bytes;
//! 6. no unknown flag is set, not both correlation flags, and FOREIGN iff the mask is not zero and has no bit at or above
//!    the cause count;
//! 7. CONTINUED iff the previous event has MORE (the reader's to check).

use std::ops::Range;

use super::checksum;
use super::{Malformed, align8, array_at, i64_at, put, u16_at, u32_at, u48_at, u64_at};
use crate::event::{CAUSES_MAX, COORDINATE_BYTES_MAX, EventId, check_coordinate};

pub use crate::event::NO_SEQUENCE;

pub use super::control::{
    CLOSE_BYTES, Control, EPOCH_BYTES, MARK_BYTES, decode_control, decode_self_seeded, encode_control, encode_mark,
};

/// What every frame begins with.
pub const FRAME_HEADER_BYTES: usize = 24;
/// The fixed part of an event frame, [`FRAME_HEADER_BYTES`] included: the least length of one.
pub const EVENT_HEADER_BYTES: usize = 56;
/// Frame type of an event.
pub const TYPE_EVENT: u8 = 0x01;
/// Least length of an idempotency key.
pub const KEY_BYTES_MIN: usize = 16;
/// Greatest length of an idempotency key.
pub const KEY_BYTES_MAX: usize = 64;

const LOCAL_BYTES: usize = 12;
const ID_BYTES: usize = 16;
const SALT_BYTES: usize = 16;
/// A local reference reaches less far back than this (8.9 years).
const LOCAL_DISTANCE_LIMIT: u64 = 1 << 48;
const LOCAL_SEQUENCE_LIMIT: u64 = 1 << 48;

/// The bits of an event frame's flags.
pub mod flag {
    /// The next event belongs to the same batch.
    pub const MORE: u16 = 1 << 0;
    /// The previous event belongs to the same batch.
    pub const CONTINUED: u16 = 1 << 1;
    /// The correlation id is that of another event of this store.
    pub const CORRELATION_LOCAL: u16 = 1 << 2;
    /// The correlation id is stored whole.
    pub const CORRELATION_FULL: u16 = 1 << 3;
    /// At least one cause is stored as an id.
    pub const FOREIGN: u16 = 1 << 4;
    /// An idempotency key is stored.
    pub const KEY: u16 = 1 << 5;
    /// Appended under a fence.
    pub const FENCED: u16 = 1 << 6;
    /// A salt precedes the payload.
    pub const SALTED: u16 = 1 << 7;
    /// All flags of this format version.
    pub const KNOWN: u16 = (1 << 8) - 1;
}

/// A cause, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// An earlier event of this store.
    Local {
        /// Its sequence.
        sequence: u64,
        /// Its time.
        time_us: i64,
    },
    /// An event of another store, or one of this store too far back for a local reference.
    Foreign(EventId),
}

impl Reference {
    /// The id of the event, given the tag of this store.
    #[inline]
    pub fn id(self, tag: u16) -> EventId {
        match self {
            Reference::Local { sequence, time_us } => EventId::derive(time_us, sequence, tag),
            Reference::Foreign(id) => id,
        }
    }
}

/// The correlation id, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correlation {
    /// The event's own id.
    Own,
    /// The id of an earlier event of this store.
    Local {
        /// Its sequence.
        sequence: u64,
        /// Its time.
        time_us: i64,
    },
    /// Any id.
    Full(EventId),
}

/// All that an event frame holds.
#[derive(Debug, Clone, Copy)]
pub struct EventFields<'a> {
    /// Position in the store.
    pub sequence: u64,
    /// Position among the events of the entity.
    pub clock: u64,
    /// Time, never less than that of the event before.
    pub time_us: i64,
    /// Sequence of the previous event of the entity, or [`NO_SEQUENCE`].
    pub prev_sequence: u64,
    /// Category and type.
    pub kind: u16,
    /// The caller's schema version.
    pub schema: u16,
    /// The next event belongs to the same batch.
    pub more: bool,
    /// The previous event belongs to the same batch.
    pub continued: bool,
    /// The entity.
    pub entity: &'a [u8],
    /// The scope.
    pub scope: &'a [u8],
    /// The correlation id.
    pub correlation: Correlation,
    /// The causes, at most 64.
    pub causes: &'a [Reference],
    /// The payload.
    pub payload: &'a [u8],
    /// `crc32c(0, payload)`, computed ahead so that it costs nothing under the append lock.
    pub payload_crc: u32,
    /// The idempotency key.
    pub key: Option<&'a [u8]>,
    /// The fence: sequence of its first event.
    pub fence: Option<u64>,
}

/// The distance to a local event, if a local reference can say it.
#[inline]
fn local_distance(time_us: i64, sequence: u64, named_us: i64) -> Option<u64> {
    let distance = time_us.wrapping_sub(named_us) as u64;
    (distance < LOCAL_DISTANCE_LIMIT && sequence < LOCAL_SEQUENCE_LIMIT).then_some(distance)
}

/// Which parts a frame has and how long it is.
struct Layout {
    flags: u16,
    foreign_mask: u64,
    header_length: usize,
    length: usize,
}

#[inline]
fn layout(fields: &EventFields<'_>) -> Layout {
    let mut flags = 0;
    let mut header_length = EVENT_HEADER_BYTES + fields.entity.len() + fields.scope.len();
    if fields.more {
        flags |= flag::MORE;
    }
    if fields.continued {
        flags |= flag::CONTINUED;
    }
    if fields.fence.is_some() {
        flags |= flag::FENCED;
        header_length += 8;
    }
    match fields.correlation {
        Correlation::Own => {}
        Correlation::Local { sequence, time_us } if local_distance(fields.time_us, sequence, time_us).is_some() => {
            flags |= flag::CORRELATION_LOCAL;
            header_length += LOCAL_BYTES;
        }
        _ => {
            flags |= flag::CORRELATION_FULL;
            header_length += ID_BYTES;
        }
    }
    let mut foreign_mask = 0;
    for (i, cause) in fields.causes.iter().enumerate() {
        match *cause {
            Reference::Local { sequence, time_us } if local_distance(fields.time_us, sequence, time_us).is_some() => {
                header_length += LOCAL_BYTES;
            }
            _ => {
                foreign_mask |= 1u64 << (i % CAUSES_MAX);
                header_length += ID_BYTES;
            }
        }
    }
    if foreign_mask != 0 {
        flags |= flag::FOREIGN;
        header_length += 8;
    }
    if let Some(key) = fields.key {
        flags |= flag::KEY;
        header_length += 1 + key.len();
    }
    Layout { flags, foreign_mask, header_length, length: header_length + fields.payload.len() }
}

/// Length of the event's frame, without the padding.
#[inline]
pub fn event_length(fields: &EventFields<'_>) -> usize {
    layout(fields).length
}

/// The most bytes, padding included, that the frame of an event with such parts can have.
#[inline]
pub const fn event_length_max(entity_len: usize, scope_len: usize, causes: usize, payload_len: usize) -> usize {
    // Fence, mask, correlation, key and salt may all be there.
    let optional = 8 + 8 + ID_BYTES + ID_BYTES * causes + 1 + KEY_BYTES_MAX + SALT_BYTES;
    align8(EVENT_HEADER_BYTES + optional + entity_len + scope_len + payload_len)
}

/// Writes bytes one part after the other.
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        put(self.out, self.at, bytes);
        self.at += bytes.len();
    }

    #[inline]
    fn local(&mut self, sequence: u64, distance: u64) {
        let both = u128::from(sequence) | u128::from(distance) << 48;
        self.bytes(&both.to_le_bytes()[..LOCAL_BYTES]);
    }
}

/// Writes the event's frame and its padding to the start of `out` and returns their length. `seed` is the segment's
/// ([`super::segment::seed`]), `tag` the store's.
///
/// # Panics
/// When `out` is shorter than the padded frame, or a part is longer than the format allows: callers have checked both.
#[inline]
pub fn encode_event(out: &mut [u8], fields: &EventFields<'_>, seed: u32, tag: u16) -> usize {
    let Layout { flags, foreign_mask, header_length, length } = layout(fields);
    assert!((1..=COORDINATE_BYTES_MAX).contains(&fields.entity.len()), "entity length");
    assert!((1..=COORDINATE_BYTES_MAX).contains(&fields.scope.len()), "scope length");
    assert!(fields.causes.len() <= CAUSES_MAX, "cause count");
    assert!(fields.key.is_none_or(|key| (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len())), "key length");
    assert!(u32::try_from(length).is_ok(), "frame length");
    let padded = align8(length);
    let out = &mut out[..padded];

    // The padding lies in the last 8 bytes; whatever of them belongs to the frame is written after this.
    out[padded - 8..].fill(0);
    let mut head = [0; EVENT_HEADER_BYTES];
    put(&mut head, 4, &(length as u32).to_le_bytes());
    put(&mut head, 8, &fields.sequence.to_le_bytes());
    head[16] = TYPE_EVENT;
    head[17] = fields.causes.len() as u8;
    put(&mut head, 18, &flags.to_le_bytes());
    put(&mut head, 20, &(fields.payload_crc ^ seed).to_le_bytes());
    put(&mut head, 24, &fields.clock.to_le_bytes());
    put(&mut head, 32, &fields.time_us.to_le_bytes());
    put(&mut head, 40, &fields.prev_sequence.to_le_bytes());
    put(&mut head, 48, &fields.kind.to_le_bytes());
    put(&mut head, 50, &fields.schema.to_le_bytes());
    put(&mut head, 52, &(fields.entity.len() as u16).to_le_bytes());
    put(&mut head, 54, &(fields.scope.len() as u16).to_le_bytes());

    let mut writer = Writer { out: &mut *out, at: 0 };
    writer.bytes(&head);
    if let Some(fence) = fields.fence {
        writer.bytes(&fence.to_le_bytes());
    }
    if foreign_mask != 0 {
        writer.bytes(&foreign_mask.to_le_bytes());
    }
    match fields.correlation {
        Correlation::Own => {}
        Correlation::Local { sequence, time_us } => write_reference(&mut writer, fields, sequence, time_us, tag),
        Correlation::Full(id) => writer.bytes(&id.0),
    }
    for cause in fields.causes {
        match *cause {
            Reference::Local { sequence, time_us } => write_reference(&mut writer, fields, sequence, time_us, tag),
            Reference::Foreign(id) => writer.bytes(&id.0),
        }
    }
    if let Some(key) = fields.key {
        writer.bytes(&[key.len() as u8]);
        writer.bytes(key);
    }
    writer.bytes(fields.entity);
    writer.bytes(fields.scope);
    debug_assert_eq!(writer.at, header_length);
    writer.bytes(fields.payload);
    debug_assert_eq!(writer.at, length);

    let header_crc = checksum::crc32c_append(seed, &out[4..header_length]);
    put(out, 0, &header_crc.to_le_bytes());
    padded
}

#[inline]
fn write_reference(writer: &mut Writer<'_>, fields: &EventFields<'_>, sequence: u64, time_us: i64, tag: u16) {
    match local_distance(fields.time_us, sequence, time_us) {
        Some(distance) => writer.local(sequence, distance),
        None => writer.bytes(&EventId::derive(time_us, sequence, tag).0),
    }
}

/// An event frame whose checksums hold. It borrows from the bytes it was decoded from.
#[derive(Debug, Clone)]
pub struct DecodedEvent<'a> {
    /// Length of the frame, without the padding.
    pub length: usize,
    /// Position in the store.
    pub sequence: u64,
    /// Position among the events of the entity.
    pub clock: u64,
    /// Time.
    pub time_us: i64,
    /// Sequence of the previous event of the entity, or [`NO_SEQUENCE`].
    pub prev_sequence: u64,
    /// Category and type.
    pub kind: u16,
    /// The caller's schema version.
    pub schema: u16,
    /// Bits of [`flag`].
    pub flags: u16,
    /// The event's id.
    pub id: EventId,
    /// The correlation id; the event's own where none was given.
    pub correlation_id: EventId,
    /// How many causes there are.
    pub cause_count: u8,
    /// The entity.
    pub entity: &'a [u8],
    /// Where the entity begins in the frame.
    pub entity_start: usize,
    /// Where it ends.
    pub entity_end: usize,
    /// The scope.
    pub scope: &'a [u8],
    /// Where the scope begins in the frame.
    pub scope_start: usize,
    /// Where it ends.
    pub scope_end: usize,
    /// The payload.
    pub payload: &'a [u8],
    /// Where the payload begins in the frame.
    pub payload_start: usize,
    /// Where it ends: at the frame's length.
    pub payload_end: usize,
    /// The causes, in the caller's order.
    pub causes: CauseIter<'a>,
    /// The idempotency key.
    pub key: Option<&'a [u8]>,
    /// The fence: sequence of its first event.
    pub fence: Option<u64>,
}

impl DecodedEvent<'_> {
    /// The next event belongs to the same batch.
    #[inline]
    pub fn more(&self) -> bool {
        self.flags & flag::MORE != 0
    }

    /// The previous event belongs to the same batch.
    #[inline]
    pub fn continued(&self) -> bool {
        self.flags & flag::CONTINUED != 0
    }

    /// From the frame's start to the next frame's.
    #[inline]
    pub fn padded_length(&self) -> usize {
        align8(self.length)
    }

    /// Checks entity and scope against all rules for coordinates. Decoding checks their lengths only.
    pub fn check_coordinates(&self) -> Result<(), Malformed> {
        for (part, bytes) in [("entity", self.entity), ("scope", self.scope)] {
            check_coordinate(part, bytes).map_err(|error| Malformed::damaged(error.to_string()))?;
        }
        Ok(())
    }
}

/// The causes of one event.
#[derive(Debug, Clone)]
pub struct CauseIter<'a> {
    bytes: &'a [u8],
    foreign_mask: u64,
    left: u8,
    time_us: i64,
    tag: u16,
}

impl<'a> CauseIter<'a> {
    /// The ids of the causes.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = EventId> + use<'a> {
        let tag = self.tag;
        self.clone().map(move |cause| cause.id(tag))
    }
}

impl Iterator for CauseIter<'_> {
    type Item = Reference;

    #[inline]
    fn next(&mut self) -> Option<Reference> {
        self.left = self.left.checked_sub(1)?;
        let is_foreign = self.foreign_mask & 1 != 0;
        self.foreign_mask >>= 1;
        let (cause, rest) = self.bytes.split_at(if is_foreign { ID_BYTES } else { LOCAL_BYTES });
        self.bytes = rest;
        Some(match is_foreign {
            true => Reference::Foreign(EventId(array_at(cause, 0))),
            false => local_reference(cause, 0, self.time_us),
        })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for CauseIter<'_> {}

#[inline]
fn local_reference(bytes: &[u8], at: usize, time_us: i64) -> Reference {
    let distance = u48_at(bytes, at + 6) as i64;
    Reference::Local { sequence: u48_at(bytes, at), time_us: time_us.wrapping_sub(distance) }
}

/// Cuts a frame into its parts, and remembers when they do not fit.
struct Parts {
    at: usize,
    length: usize,
}

impl Parts {
    #[inline]
    fn take(&mut self, bytes: usize) -> Result<Range<usize>, Malformed> {
        let start = self.at;
        self.at += bytes;
        if self.at <= self.length { Ok(start..self.at) } else { Err(does_not_fit(self.length)) }
    }
}

#[cold]
fn does_not_fit(length: usize) -> Malformed {
    Malformed::damaged(format!("the parts of the event frame exceed its {length} bytes"))
}

/// Decodes the event frame at the start of `frame`, which may be followed by anything. `verify_payload` may be false
/// where the payload is not looked at, or was erased.
#[inline]
pub fn decode_event(frame: &[u8], seed: u32, tag: u16, verify_payload: bool) -> Result<DecodedEvent<'_>, Malformed> {
    let Some(head) = frame.first_chunk::<EVENT_HEADER_BYTES>() else {
        return Err(Malformed::damaged(format!("{} bytes are no event frame", frame.len())));
    };
    let length = u32_at(head, 4) as usize;
    let flags = u16_at(head, 18);
    let cause_count = head[17];
    if length < EVENT_HEADER_BYTES || length > frame.len() || head[16] != TYPE_EVENT {
        return Err(not_an_event(length, frame.len(), head[16]));
    }
    let correlation_flags = flags & (flag::CORRELATION_LOCAL | flag::CORRELATION_FULL);
    if flags & !flag::KNOWN != 0
        || correlation_flags == flag::CORRELATION_LOCAL | flag::CORRELATION_FULL
        || usize::from(cause_count) > CAUSES_MAX
    {
        return Err(bad_flags(flags, cause_count));
    }
    let frame = &frame[..length];
    let time_us = i64_at(head, 32);
    let sequence = u64_at(head, 8);
    let entity_length = usize::from(u16_at(head, 52));
    let scope_length = usize::from(u16_at(head, 54));
    if entity_length.wrapping_sub(1) >= COORDINATE_BYTES_MAX || scope_length.wrapping_sub(1) >= COORDINATE_BYTES_MAX {
        return Err(bad_coordinate_lengths(entity_length, scope_length));
    }

    let mut parts = Parts { at: EVENT_HEADER_BYTES, length };
    let mut fence = None;
    if flags & flag::FENCED != 0 {
        fence = Some(u64_at(frame, parts.take(8)?.start));
    }
    let mut foreign_mask = 0;
    if flags & flag::FOREIGN != 0 {
        foreign_mask = u64_at(frame, parts.take(8)?.start);
        let known_causes = u64::MAX.checked_shl(u32::from(cause_count)).map_or(u64::MAX, |above| !above);
        if foreign_mask == 0 || foreign_mask & !known_causes != 0 {
            return Err(Malformed::damaged(format!(
                "the foreign mask {foreign_mask:#x} does not fit {cause_count} causes"
            )));
        }
    }
    let id = EventId::derive(time_us, sequence, tag);
    let mut correlation_id = id;
    if correlation_flags == flag::CORRELATION_LOCAL {
        correlation_id = local_reference(frame, parts.take(LOCAL_BYTES)?.start, time_us).id(tag);
    } else if correlation_flags == flag::CORRELATION_FULL {
        correlation_id = EventId(array_at(frame, parts.take(ID_BYTES)?.start));
    }
    let mut cause_bytes: &[u8] = &[];
    if cause_count != 0 {
        let ids = foreign_mask.count_ones() as usize;
        cause_bytes = &frame[parts.take(LOCAL_BYTES * usize::from(cause_count) + (ID_BYTES - LOCAL_BYTES) * ids)?];
    }
    let mut key = None;
    if flags & flag::KEY != 0 {
        let key_length = usize::from(frame[parts.take(1)?.start]);
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key_length) {
            return Err(Malformed::damaged(format!("the idempotency key has {key_length} bytes")));
        }
        key = Some(&frame[parts.take(key_length)?]);
    }
    let entity_start = parts.take(entity_length + scope_length)?.start;
    let header_length = parts.at;
    if flags & flag::SALTED != 0 {
        parts.take(SALT_BYTES)?;
    }
    let payload_start = parts.at;
    let scope_start = entity_start + entity_length;

    // Two independent checksums: the processor works on both at a time.
    let header_crc = checksum::crc32c_append(seed, &frame[4..header_length]);
    let payload_is_right = !verify_payload || checksum::crc32c(&frame[header_length..]) ^ seed == u32_at(head, 20);
    if header_crc != u32_at(head, 0) || !payload_is_right {
        return Err(bad_checksum(header_crc == u32_at(head, 0)));
    }
    Ok(DecodedEvent {
        length,
        sequence,
        clock: u64_at(head, 24),
        time_us,
        prev_sequence: u64_at(head, 40),
        kind: u16_at(head, 48),
        schema: u16_at(head, 50),
        flags,
        id,
        correlation_id,
        cause_count,
        entity: &frame[entity_start..scope_start],
        entity_start,
        entity_end: scope_start,
        scope: &frame[scope_start..header_length],
        scope_start,
        scope_end: header_length,
        payload: &frame[payload_start..],
        payload_start,
        payload_end: length,
        causes: CauseIter { bytes: cause_bytes, foreign_mask, left: cause_count, time_us, tag },
        key,
        fence,
    })
}

#[cold]
fn not_an_event(length: usize, available: usize, frame_type: u8) -> Malformed {
    Malformed::damaged(match frame_type {
        TYPE_EVENT => format!("the event frame's length is {length}, of {available} bytes there are"),
        _ => format!("frame type {frame_type:#04x} is no event"),
    })
}

#[cold]
fn bad_flags(flags: u16, cause_count: u8) -> Malformed {
    Malformed::damaged(format!("an event frame with flags {flags:#06x} and {cause_count} causes is not valid"))
}

#[cold]
fn bad_coordinate_lengths(entity: usize, scope: usize) -> Malformed {
    Malformed::damaged(format!("entity of {entity} and scope of {scope} bytes; 1 to {COORDINATE_BYTES_MAX} are valid"))
}

#[cold]
fn bad_checksum(header_is_right: bool) -> Malformed {
    Malformed::damaged(match header_is_right {
        true => "the payload's checksum is wrong",
        false => "the frame header's checksum is wrong",
    })
}

/// What the first bytes of a frame claim, with nothing verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peek {
    /// Length of the frame, without the padding.
    pub length: usize,
    /// The event's sequence, or the next event's.
    pub sequence: u64,
    /// [`TYPE_EVENT`] or a control frame's type.
    pub frame_type: u8,
}

/// Reads the claims of the frame at the start of `bytes`. `None`: no frame starts here (too few bytes, or a length that no
/// frame has: zeros after the last frame read so).
#[inline]
pub fn peek(bytes: &[u8]) -> Option<Peek> {
    let head = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
    let length = u32_at(head, 4) as usize;
    (length >= FRAME_HEADER_BYTES).then(|| Peek { length, sequence: u64_at(head, 8), frame_type: head[16] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEED: u32 = 0x1234_5678;
    const TAG: u16 = 0xBEEF;

    /// Fields with owned parts.
    #[derive(Debug, Clone)]
    struct Owned {
        sequence: u64,
        time_us: i64,
        numbers: (u64, u64, u16, u16),
        more: bool,
        continued: bool,
        entity: Vec<u8>,
        scope: Vec<u8>,
        correlation: Correlation,
        causes: Vec<Reference>,
        payload: Vec<u8>,
        key: Option<Vec<u8>>,
        fence: Option<u64>,
    }

    impl Owned {
        fn fields(&self) -> EventFields<'_> {
            let (clock, prev_sequence, kind, schema) = self.numbers;
            EventFields {
                sequence: self.sequence,
                clock,
                time_us: self.time_us,
                prev_sequence,
                kind,
                schema,
                more: self.more,
                continued: self.continued,
                entity: &self.entity,
                scope: &self.scope,
                correlation: self.correlation,
                causes: &self.causes,
                payload: &self.payload,
                payload_crc: checksum::crc32c(&self.payload),
                key: self.key.as_deref(),
                fence: self.fence,
            }
        }

        fn encode(&self) -> Vec<u8> {
            let length = event_length(&self.fields());
            let mut out = vec![0xAA; align8(length) + 8];
            let padded = encode_event(&mut out, &self.fields(), SEED, TAG);
            assert_eq!(padded, align8(length));
            assert!(
                padded <= event_length_max(self.entity.len(), self.scope.len(), self.causes.len(), self.payload.len())
            );
            assert_eq!(out[padded..], [0xAA; 8], "nothing is written behind the padding");
            assert!(out[length..padded].iter().all(|&byte| byte == 0), "the padding is zero");
            out.truncate(padded);
            out
        }
    }

    fn everything() -> Owned {
        let time_us = 1_700_000_000_123_456;
        Owned {
            sequence: 1_000_000,
            time_us,
            numbers: (12, 999_990, 0x1002, 3),
            more: true,
            continued: true,
            entity: b"order:1234567".to_vec(),
            scope: b"main".to_vec(),
            correlation: Correlation::Local { sequence: 5, time_us: time_us - 77 },
            causes: vec![
                Reference::Local { sequence: 999_999, time_us },
                Reference::Foreign(EventId([7; 16])),
                Reference::Local { sequence: 1, time_us: time_us - (1 << 48) + 1 },
            ],
            payload: b"the payload".to_vec(),
            key: Some(b"0123456789abcdef0".to_vec()),
            fence: Some(999_000),
        }
    }

    fn plain() -> Owned {
        Owned {
            sequence: 0,
            time_us: 1,
            numbers: (0, NO_SEQUENCE, 0x1000, 0),
            more: false,
            continued: false,
            entity: b"a".to_vec(),
            scope: b"b".to_vec(),
            correlation: Correlation::Own,
            causes: vec![],
            payload: vec![],
            key: None,
            fence: None,
        }
    }

    fn assert_same(owned: &Owned, decoded: &DecodedEvent<'_>) {
        let (clock, prev_sequence, kind, schema) = owned.numbers;
        assert_eq!(decoded.length, event_length(&owned.fields()));
        assert_eq!((decoded.sequence, decoded.time_us), (owned.sequence, owned.time_us));
        assert_eq!(
            (decoded.clock, decoded.prev_sequence, decoded.kind, decoded.schema),
            (clock, prev_sequence, kind, schema)
        );
        assert_eq!((decoded.more(), decoded.continued()), (owned.more, owned.continued));
        assert_eq!((decoded.entity, decoded.scope), (&owned.entity[..], &owned.scope[..]));
        assert_eq!(decoded.payload, owned.payload);
        assert_eq!((decoded.key, decoded.fence), (owned.key.as_deref(), owned.fence));
        assert_eq!(decoded.id, EventId::derive(owned.time_us, owned.sequence, TAG));
        let correlation_id = match owned.correlation {
            Correlation::Own => decoded.id,
            Correlation::Local { sequence, time_us } => EventId::derive(time_us, sequence, TAG),
            Correlation::Full(id) => id,
        };
        assert_eq!(decoded.correlation_id, correlation_id);
        assert_eq!(usize::from(decoded.cause_count), owned.causes.len());
        let ids: Vec<EventId> = owned.causes.iter().map(|cause| cause.id(TAG)).collect();
        assert_eq!(decoded.causes.ids().len(), ids.len());
        assert_eq!(decoded.causes.ids().collect::<Vec<_>>(), ids);
    }

    #[test]
    fn a_plain_event_is_laid_out_as_documented() {
        let bytes = plain().encode();
        assert_eq!(bytes.len(), 64);
        assert_eq!(bytes[4..8], 58u32.to_le_bytes());
        assert_eq!(bytes[16..20], [1, 0, 0, 0]);
        assert_eq!(bytes[20..24], SEED.to_le_bytes(), "the CRC of no payload is 0");
        assert_eq!(bytes[40..48], [0xFF; 8]);
        assert_eq!(&bytes[48..58], b"\x00\x10\x00\x00\x01\x00\x01\x00ab");
        assert_eq!(bytes[0..4], checksum::crc32c_append(SEED, &bytes[4..58]).to_le_bytes());
    }

    #[test]
    fn optional_parts_stand_in_the_documented_order() {
        let owned = everything();
        let bytes = owned.encode();
        let mut expected = Vec::new();
        expected.extend(999_000u64.to_le_bytes());
        expected.extend(0b010u64.to_le_bytes());
        expected.extend([5, 0, 0, 0, 0, 0, 77, 0, 0, 0, 0, 0]);
        expected.extend([0x3F, 0x42, 0x0F, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([7; 16]);
        expected.extend([1, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        expected.push(17);
        expected.extend(b"0123456789abcdef0order:1234567mainthe payload");
        assert_eq!(bytes[56..56 + expected.len()], expected);
        assert_eq!(bytes[17], 3);
        assert_eq!(u16_at(&bytes, 18), 0b0111_0111);
    }

    #[test]
    fn causes_further_back_than_a_local_reference_reaches_become_ids() {
        let mut owned = plain();
        owned.time_us = 1 << 50;
        owned.sequence = 10;
        let far = owned.time_us - (1 << 48);
        owned.causes = vec![
            Reference::Local { sequence: 3, time_us: far },
            Reference::Local { sequence: 4, time_us: far + 1 },
            Reference::Local { sequence: 5, time_us: owned.time_us + 1 },
        ];
        owned.correlation = Correlation::Local { sequence: 3, time_us: far };
        let bytes = owned.encode();
        let decoded = decode_event(&bytes, SEED, TAG, true).unwrap();
        assert_same(&owned, &decoded);
        assert_eq!(decoded.flags, flag::CORRELATION_FULL | flag::FOREIGN);
        assert_eq!(decoded.causes.clone().nth(1), Some(Reference::Local { sequence: 4, time_us: far + 1 }));
        assert_eq!(decoded.causes.clone().next(), Some(Reference::Foreign(EventId::derive(far, 3, TAG))));
    }

    #[test]
    fn sixty_four_foreign_causes_fit() {
        let mut owned = plain();
        owned.causes = vec![Reference::Foreign(EventId([9; 16])); 64];
        let bytes = owned.encode();
        assert_same(&owned, &decode_event(&bytes, SEED, TAG, true).unwrap());
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        for owned in [plain(), everything()] {
            let bytes = owned.encode();
            for bit in 0..8 * event_length(&owned.fields()) {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(decode_event(&damaged, SEED, TAG, true).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn every_cut_is_detected() {
        let owned = everything();
        let bytes = owned.encode();
        for length in 0..event_length(&owned.fields()) {
            assert!(decode_event(&bytes[..length], SEED, TAG, true).is_err(), "{length} bytes");
        }
        assert!(decode_event(&bytes[..event_length(&owned.fields())], SEED, TAG, true).is_ok());
    }

    #[test]
    fn a_frame_of_another_seed_is_not_valid() {
        let bytes = everything().encode();
        assert!(decode_event(&bytes, SEED ^ 1, TAG, true).is_err());
        assert!(decode_event(&bytes, SEED ^ 1, TAG, false).is_err());
    }

    #[test]
    fn an_erased_payload_is_read_on_request() {
        let owned = everything();
        let mut bytes = owned.encode();
        let payload = bytes.len() - align8(owned.payload.len()) + 8;
        bytes[payload] = !bytes[payload];
        assert!(decode_event(&bytes, SEED, TAG, true).is_err());
        assert!(decode_event(&bytes, SEED, TAG, false).is_ok());
    }

    #[test]
    fn a_salt_precedes_the_payload() {
        let owned = plain();
        let mut bytes = owned.encode();
        bytes.truncate(58);
        bytes.extend([0x55; 16]);
        bytes.extend(b"xyz");
        put(&mut bytes, 4, &77u32.to_le_bytes());
        put(&mut bytes, 18, &flag::SALTED.to_le_bytes());
        let payload_crc = checksum::crc32c(&bytes[58..]) ^ SEED;
        put(&mut bytes, 20, &payload_crc.to_le_bytes());
        let header_crc = checksum::crc32c_append(SEED, &bytes[4..58]);
        put(&mut bytes, 0, &header_crc.to_le_bytes());
        let decoded = decode_event(&bytes, SEED, TAG, true).unwrap();
        assert_eq!((decoded.payload, decoded.payload_start, decoded.scope_end), (&b"xyz"[..], 74, 58));
    }

    /// Frames that break one condition under a right header checksum: only the condition itself can refuse them.
    #[test]
    fn hostile_headers_are_refused() {
        let resealed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = plain().encode();
            change(&mut bytes);
            // Whatever the decoder takes the header to be, one of these ends is right.
            (56..=64).any(|end| {
                let crc = checksum::crc32c_append(SEED, &bytes[4..end]);
                put(&mut bytes, 0, &crc.to_le_bytes());
                decode_event(&bytes, SEED, TAG, false).is_ok()
            })
        };
        assert!(resealed(&|_| ()));
        assert!(!resealed(&|bytes| put(bytes, 52, &0u16.to_le_bytes())), "no entity");
        assert!(!resealed(&|bytes| put(bytes, 54, &0u16.to_le_bytes())), "no scope");
        assert!(!resealed(&|bytes| put(bytes, 54, &3u16.to_le_bytes())), "scope beyond the end");
        assert!(!resealed(&|bytes| put(bytes, 52, &0xFFFFu16.to_le_bytes())), "entity beyond the end");
        assert!(!resealed(&|bytes| bytes[17] = 1), "a cause beyond the end");
        assert!(!resealed(&|bytes| bytes[17] = 65), "too many causes");
        assert!(!resealed(&|bytes| bytes[16] = 0), "no event");
        assert!(!resealed(&|bytes| put(bytes, 4, &55u32.to_le_bytes())), "too short");
        assert!(!resealed(&|bytes| put(bytes, 4, &u32::MAX.to_le_bytes())), "too long");
        for bit in 0..16 {
            let refused = !resealed(&|bytes| put(bytes, 18, &(1u16 << bit).to_le_bytes()));
            assert_eq!(refused, bit >= 2, "flag {bit}: no room for its part, or unknown");
        }
    }

    #[test]
    fn a_foreign_mask_must_fit_the_causes() {
        let mut owned = plain();
        owned.causes = vec![Reference::Foreign(EventId([9; 16]))];
        let bytes = owned.encode();
        for mask in [0u64, 0b11, 1 << 63] {
            let mut bad = bytes.clone();
            put(&mut bad, 56, &mask.to_le_bytes());
            for end in 56..=82 {
                let crc = checksum::crc32c_append(SEED, &bad[4..end]);
                put(&mut bad, 0, &crc.to_le_bytes());
                assert!(decode_event(&bad, SEED, TAG, false).is_err());
            }
        }
    }

    #[test]
    fn coordinates_are_checked_in_full_on_request() {
        let mut owned = plain();
        owned.entity = b"a/b".to_vec();
        let bytes = owned.encode();
        let decoded = decode_event(&bytes, SEED, TAG, true).unwrap();
        assert!(decoded.check_coordinates().is_err());
        let bytes = plain().encode();
        assert!(decode_event(&bytes, SEED, TAG, true).unwrap().check_coordinates().is_ok());
    }

    #[test]
    fn peek_reads_claims_and_passes_zeros_by() {
        let bytes = everything().encode();
        let length = event_length(&everything().fields());
        assert_eq!(peek(&bytes), Some(Peek { length, sequence: 1_000_000, frame_type: TYPE_EVENT }));
        assert_eq!(peek(&bytes[..23]), None);
        assert_eq!(peek(&[0; 64]), None);
    }

    fn reference(time_us: i64) -> impl Strategy<Value = Reference> {
        prop_oneof![
            (0..1u64 << 46, 0..1i64 << 49)
                .prop_map(move |(sequence, back)| Reference::Local { sequence, time_us: (time_us - back).max(0) }),
            any::<[u8; 16]>().prop_map(|id| Reference::Foreign(EventId(id))),
        ]
    }

    fn owned() -> impl Strategy<Value = Owned> {
        (0..1i64 << 52).prop_flat_map(|time_us| {
            let correlation = prop_oneof![
                Just(Correlation::Own),
                reference(time_us).prop_map(|reference| match reference {
                    Reference::Local { sequence, time_us } => Correlation::Local { sequence, time_us },
                    Reference::Foreign(id) => Correlation::Full(id),
                }),
            ];
            (
                (0..1u64 << 46, any::<(u64, u64, u16, u16)>(), any::<(bool, bool)>()),
                prop::collection::vec(any::<u8>(), 1..=1024),
                prop::collection::vec(any::<u8>(), 1..40),
                correlation,
                prop::collection::vec(reference(time_us), 0..=64),
                prop::collection::vec(any::<u8>(), 0..300),
                prop::option::of(prop::collection::vec(any::<u8>(), 16..=64)),
                prop::option::of(any::<u64>()),
            )
                .prop_map(
                    move |((sequence, numbers, batch), entity, scope, correlation, causes, payload, key, fence)| {
                        Owned {
                            sequence,
                            time_us,
                            numbers,
                            more: batch.0,
                            continued: batch.1,
                            entity,
                            scope,
                            correlation,
                            causes,
                            payload,
                            key,
                            fence,
                        }
                    },
                )
        })
    }

    proptest! {
        #[test]
        fn events_round_trip(owned in owned()) {
            let bytes = owned.encode();
            assert_same(&owned, &decode_event(&bytes, SEED, TAG, true).unwrap());
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), length in 0..400u32) {
            let _ = decode_event(&bytes, SEED, TAG, true);
            // Past the cheap checks, into the parts.
            if bytes.len() >= 56 {
                put(&mut bytes, 4, &length.to_le_bytes());
                bytes[16] = TYPE_EVENT;
                bytes[17] %= 70;
                bytes[19] = 0;
                bytes[53] %= 4;
                bytes[55] %= 4;
                let _ = decode_event(&bytes, SEED, TAG, true);
            }
        }
    }
}
