//! The index of a segment: header, directory of sections, and the rows of the small sections. The whole index as one value
//! is [`IndexContent`]; the packed columns, the filter and the pages have files of their own.
//!
//! ```text
//! header, at 0 of the stream of contents        directory, 32 bytes a section
//! offset size                                   offset size
//!      0    8  magic BATPKIDX                        0    4  type
//!      8    4  format version                        4    4  zero
//!     12    4  flags: bit 0 PARTIAL                  8    8  offset, a multiple of 8
//!     16   16  store id                             16    8  length in bytes
//!     32    8  base                                 24    8  count
//!     40    8  event count
//!     48    8  log end                          STREAMS row
//!     56    8  i64 time of the first event           0    4  offset in NAMES
//!     64    8  i64 time of the last event            4    2  name length
//!     72    8  epoch in force at log end             6    2  zero
//!     80    8  length of the stream of contents      8    4  first place in POSTINGS
//!     88    4  section count                        12    4  count in POSTINGS
//!     92    4  zero                                 16    8  clock of the first event
//!                                                   24    8  clock of the last event
//! EPOCHS row: u64 offset, u64 epoch                 32    8  sequence of the last event
//! CONTROLS row: u64 offset, u64 sequence, u32 frame type, u32 zero
//! SCOPES row: u16 length, bytes                 KINDS row: u16
//! KEYS row: u64 key hash, u32 ordinal, u32 zero CANCELLED row: u64 start, u64 end (exclusive)
//! ```
//!
//! Header and directory are valid iff
//! 1. the magic matches, and the version is known (a larger one is a newer format);
//! 2. no flag but PARTIAL is set, and bytes 92..96 are zero;
//! 3. there are at most 124 sections, so that header and directory lie in the first page;
//! 4. every section begins at a multiple of 8 behind the directory and ends in the stream of contents;
//! 5. no type is there twice;
//! 6. a section's length is what its type and count say, and a column by ordinal counts the events; POSTINGS counts them all unless some
//!    are cancelled, then fewer; KEY_FILTER is there iff there are keys;
//! 7. store id and base are the segment's ([`IndexHeader::check_place`]; the pages' checksums say so too).

use super::filter::BLOCK_BYTES;
use super::packed::{BLOCK_VALUES, ROW_BYTES, SLACK_BYTES};
use super::page::{PAGE_BYTES, PAGE_CONTENT, page_count};
use super::{FORMAT_VERSION, Malformed, array_at, check_magic_and_version, i64_at, put, u16_at, u32_at, u64_at};
use crate::event::StoreId;

pub use super::index_content::IndexContent;

/// Bytes of the header.
pub const INDEX_HEADER_BYTES: usize = 96;
/// Bytes of a row of the directory.
pub const SECTION_BYTES: usize = 32;
/// Most sections: header and directory lie in the first page.
pub const SECTIONS_MAX: usize = (PAGE_CONTENT - INDEX_HEADER_BYTES) / SECTION_BYTES;
/// Bytes of a STREAMS row.
pub const STREAM_ROW_BYTES: usize = 40;
/// Bytes of an EPOCHS row.
pub const EPOCH_ROW_BYTES: usize = 16;
/// Bytes of a CONTROLS row.
pub const CONTROL_ROW_BYTES: usize = 24;
/// Bytes of a KEYS row.
pub const KEY_ROW_BYTES: usize = 16;
/// Bytes of a CANCELLED row.
pub const CANCELLED_ROW_BYTES: usize = 16;

const MAGIC: &[u8; 8] = b"BATPKIDX";
const FLAG_PARTIAL: u32 = 1;

/// Section type. Packed, by ordinal: frame offset / 8.
pub const OFFSETS: u32 = 1;
/// Section type. Packed, by ordinal: number of the stream.
pub const EVENT_STREAMS: u32 = 2;
/// Section type. Packed, by ordinal: number of the scope.
pub const EVENT_SCOPES: u32 = 3;
/// Section type. Packed, by ordinal: number of the kind.
pub const EVENT_KINDS: u32 = 4;
/// Section type. Rows of streams, sorted by entity.
pub const STREAMS: u32 = 5;
/// Section type. The entities' bytes, joined.
pub const NAMES: u32 = 6;
/// Section type. Hash table of stream numbers.
pub const STREAM_TABLE: u32 = 7;
/// Section type. Packed: ordinals of each stream's events that are not cancelled.
pub const POSTINGS: u32 = 8;
/// Section type. Length and bytes of each scope.
pub const SCOPES: u32 = 9;
/// Section type. The kinds.
pub const KINDS: u32 = 10;
/// Section type. Which epoch is in force from which offset on.
pub const EPOCHS: u32 = 11;
/// Section type. Control frames but MARK.
pub const CONTROLS: u32 = 12;
/// Section type. Cancelled sequences.
pub const CANCELLED: u32 = 13;
/// Section type. Filter over the entities.
pub const FILTER: u32 = 14;
/// Section type. Packed: local causes of the segment's events.
pub const CAUSES: u32 = 15;
/// Section type. Packed: ordinals of the events that name them.
pub const CHILDREN: u32 = 16;
/// Section type. Idempotency keys.
pub const KEYS: u32 = 17;
/// Section type. Nodes of the Merkle tree.
pub const TREE: u32 = 18;
/// Section type. Filter over the idempotency keys.
pub const KEY_FILTER: u32 = 19;

/// Where a section is. Its offset is one in the stream of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// [`OFFSETS`] to [`KEY_FILTER`], or a type that is not known and skipped.
    pub kind: u32,
    /// Where it begins.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// How many values or rows it has.
    pub count: u64,
}

impl Section {
    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// Condition 6.
    fn has_right_length(&self, event_count: u64) -> bool {
        let rows = |bytes: usize| self.count.checked_mul(bytes as u64) == Some(self.length);
        // The last term can't overflow: count is below 2^57 as soon as the rows of the directory fit the length.
        let packed = || {
            let directory = self.count.div_ceil(BLOCK_VALUES as u64).checked_mul(ROW_BYTES as u64);
            directory.is_some_and(|directory| directory <= self.length.saturating_sub(SLACK_BYTES as u64))
                && self.length >= SLACK_BYTES as u64
        };
        match self.kind {
            OFFSETS | EVENT_STREAMS | EVENT_SCOPES | EVENT_KINDS => self.count == event_count && packed(),
            POSTINGS => self.count <= event_count && packed(),
            CAUSES | CHILDREN => packed(),
            STREAMS | TREE => rows(STREAM_ROW_BYTES),
            NAMES => rows(1),
            STREAM_TABLE => rows(4) && self.count.is_power_of_two(),
            SCOPES => self.count.checked_mul(2).is_some_and(|least| least <= self.length),
            KINDS => rows(2),
            EPOCHS => rows(EPOCH_ROW_BYTES),
            CANCELLED => rows(CANCELLED_ROW_BYTES),
            KEYS => rows(KEY_ROW_BYTES) && self.count <= event_count,
            CONTROLS => rows(CONTROL_ROW_BYTES),
            FILTER | KEY_FILTER => rows(BLOCK_BYTES) && self.count > 0,
            _ => true,
        }
    }
}

/// Header and directory of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexHeader {
    /// The store.
    pub store_id: StoreId,
    /// The segment.
    pub base: u64,
    /// The segment is the active one; the index was written at a clean close and ends where the log ended.
    pub partial: bool,
    /// How many events it covers.
    pub event_count: u64,
    /// Offset in the segment after the last frame covered.
    pub log_end: u64,
    /// Time of the first event.
    pub first_time_us: i64,
    /// Time of the last event.
    pub last_time_us: i64,
    /// Epoch in force at `log_end`.
    pub last_epoch: u64,
    /// Length of the stream of contents.
    pub stream_length: u64,
    /// The directory.
    pub sections: Vec<Section>,
}

impl IndexHeader {
    /// Header and directory as bytes.
    ///
    /// # Panics
    /// When there are more sections than the first page holds.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.sections.len() <= SECTIONS_MAX, "too many sections");
        let mut bytes = vec![0; INDEX_HEADER_BYTES + SECTION_BYTES * self.sections.len()];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut bytes, 12, &u32::from(self.partial).to_le_bytes());
        put(&mut bytes, 16, &self.store_id.0);
        put(&mut bytes, 32, &self.base.to_le_bytes());
        put(&mut bytes, 40, &self.event_count.to_le_bytes());
        put(&mut bytes, 48, &self.log_end.to_le_bytes());
        put(&mut bytes, 56, &self.first_time_us.to_le_bytes());
        put(&mut bytes, 64, &self.last_time_us.to_le_bytes());
        put(&mut bytes, 72, &self.last_epoch.to_le_bytes());
        put(&mut bytes, 80, &self.stream_length.to_le_bytes());
        put(&mut bytes, 88, &(self.sections.len() as u32).to_le_bytes());
        for (row, section) in bytes[INDEX_HEADER_BYTES..].chunks_exact_mut(SECTION_BYTES).zip(&self.sections) {
            put(row, 0, &section.kind.to_le_bytes());
            put(row, 8, &section.offset.to_le_bytes());
            put(row, 16, &section.length.to_le_bytes());
            put(row, 24, &section.count.to_le_bytes());
        }
        bytes
    }

    /// Reads header and directory from the content of the first page, or more (conditions 1 to 6).
    pub fn decode(content: &[u8]) -> Result<IndexHeader, Malformed> {
        if content.len() < INDEX_HEADER_BYTES {
            return Err(Malformed::damaged(format!("{} bytes are no index header", content.len())));
        }
        check_magic_and_version(content, MAGIC)?;
        let flags = u32_at(content, 12);
        if flags & !FLAG_PARTIAL != 0 || u32_at(content, 92) != 0 {
            return Err(Malformed::damaged("the reserved bits of the index header are not zero"));
        }
        let section_count = u32_at(content, 88) as usize;
        let directory_end = INDEX_HEADER_BYTES.saturating_add(section_count.saturating_mul(SECTION_BYTES));
        if section_count > SECTIONS_MAX || directory_end > content.len() {
            return Err(Malformed::damaged(format!("the index header counts {section_count} sections")));
        }
        let mut header = IndexHeader {
            store_id: StoreId(array_at(content, 16)),
            base: u64_at(content, 32),
            partial: flags & FLAG_PARTIAL != 0,
            event_count: u64_at(content, 40),
            log_end: u64_at(content, 48),
            first_time_us: i64_at(content, 56),
            last_time_us: i64_at(content, 64),
            last_epoch: u64_at(content, 72),
            stream_length: u64_at(content, 80),
            sections: Vec::with_capacity(section_count),
        };
        for row in content[INDEX_HEADER_BYTES..directory_end].chunks_exact(SECTION_BYTES) {
            let section = Section {
                kind: u32_at(row, 0),
                offset: u64_at(row, 8),
                length: u64_at(row, 16),
                count: u64_at(row, 24),
            };
            let is_valid = u32_at(row, 4) == 0
                && section.offset & 7 == 0
                && section.offset >= directory_end as u64
                && section.offset.checked_add(section.length).is_some_and(|end| end <= header.stream_length)
                && header.section(section.kind).is_none()
                && section.has_right_length(header.event_count);
            if !is_valid {
                return Err(Malformed::damaged(format!(
                    "section {} of the index is not valid: {section:?}",
                    section.kind
                )));
            }
            header.sections.push(section);
        }
        if directory_end as u64 > header.stream_length {
            return Err(Malformed::damaged("the index is shorter than its own directory"));
        }
        let count = |kind: u32| header.section(kind).map_or(0, |section| section.count);
        if (count(POSTINGS) < header.event_count) != (count(CANCELLED) > 0) {
            return Err(Malformed::damaged("the postings of the index do not count the events that are not cancelled"));
        }
        if (count(KEYS) > 0) != (count(KEY_FILTER) > 0) {
            return Err(Malformed::damaged("the index has keys without their filter, or a filter without keys"));
        }
        Ok(header)
    }

    /// Checks that the index is that of the segment (condition 7).
    pub fn check_place(&self, store_id: &StoreId, base: u64) -> Result<(), Malformed> {
        if self.store_id != *store_id {
            return Err(Malformed::StoreMismatch { found: self.store_id });
        }
        if self.base != base {
            return Err(Malformed::damaged(format!("the index says base {}, the file's name {base}", self.base)));
        }
        Ok(())
    }

    /// The section of a type. `None`: it is empty.
    pub fn section(&self, kind: u32) -> Option<Section> {
        self.sections.iter().find(|section| section.kind == kind).copied()
    }

    /// Length of the whole file.
    pub fn file_length(&self) -> u64 {
        page_count(self.stream_length).saturating_mul(PAGE_BYTES as u64)
    }
}

/// A row of STREAMS: one entity of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRow {
    /// Where its name begins in NAMES.
    pub name_offset: u32,
    /// Length of its name.
    pub name_length: u16,
    /// Where its events begin in POSTINGS.
    pub postings_start: u32,
    /// How many there are: those that are not cancelled. When there is none, the fields below are 0 and mean nothing.
    pub postings_count: u32,
    /// Clock of the first of them.
    pub first_clock: u64,
    /// Clock of the last.
    pub last_clock: u64,
    /// Sequence of the last.
    pub last_sequence: u64,
}

impl StreamRow {
    /// The row's bytes.
    pub fn encode(&self) -> [u8; STREAM_ROW_BYTES] {
        let mut bytes = [0; STREAM_ROW_BYTES];
        put(&mut bytes, 0, &self.name_offset.to_le_bytes());
        put(&mut bytes, 4, &self.name_length.to_le_bytes());
        put(&mut bytes, 8, &self.postings_start.to_le_bytes());
        put(&mut bytes, 12, &self.postings_count.to_le_bytes());
        put(&mut bytes, 16, &self.first_clock.to_le_bytes());
        put(&mut bytes, 24, &self.last_clock.to_le_bytes());
        put(&mut bytes, 32, &self.last_sequence.to_le_bytes());
        bytes
    }

    /// A row without events says nothing else of them.
    pub fn is_valid(&self) -> bool {
        self.postings_count > 0 || (self.first_clock, self.last_clock, self.last_sequence) == (0, 0, 0)
    }

    /// Reads a row. That its ranges lie in NAMES and POSTINGS is for the reader to check, who knows their lengths.
    #[inline]
    pub fn decode(bytes: &[u8; STREAM_ROW_BYTES]) -> StreamRow {
        StreamRow {
            name_offset: u32_at(bytes, 0),
            name_length: u16_at(bytes, 4),
            postings_start: u32_at(bytes, 8),
            postings_count: u32_at(bytes, 12),
            first_clock: u64_at(bytes, 16),
            last_clock: u64_at(bytes, 24),
            last_sequence: u64_at(bytes, 32),
        }
    }
}

/// Appends the KEYS section: rows of key hash and ordinal.
pub fn encode_keys(keys: &[(u64, u32)], out: &mut Vec<u8>) {
    for &(hash, ordinal) in keys {
        out.extend(hash.to_le_bytes());
        out.extend(u64::from(ordinal).to_le_bytes());
    }
}

/// The hash in a row of KEYS, by which the rows are sorted.
#[inline]
pub fn key_hash(row: &[u8; KEY_ROW_BYTES]) -> u64 {
    u64_at(row, 0)
}

/// Reads a row of KEYS in an index of so many events: key hash and ordinal.
#[inline]
pub fn decode_key(row: &[u8; KEY_ROW_BYTES], event_count: u64) -> Result<(u64, u32), Malformed> {
    // Ordinal and the zero bytes behind it are one little-endian word.
    match u64_at(row, 8) {
        ordinal if ordinal < event_count && ordinal <= u64::from(u32::MAX) => Ok((key_hash(row), ordinal as u32)),
        _ => Err(Malformed::damaged("a key of the index is of no event")),
    }
}

/// Reads the KEYS section: ascending. That no event has two is for the caller to check, who has the events.
pub fn decode_keys(bytes: &[u8], event_count: u64) -> Result<Vec<(u64, u32)>, Malformed> {
    let rows = bytes.chunks_exact(KEY_ROW_BYTES);
    let keys = rows.map(|row| decode_key(&array_at(row, 0), event_count)).collect::<Result<Vec<_>, _>>()?;
    if keys.is_sorted() { Ok(keys) } else { Err(Malformed::damaged("the keys of the index are not in order")) }
}

/// Appends the CANCELLED section: rows of start and end (exclusive).
pub fn encode_cancelled(ranges: &[(u64, u64)], out: &mut Vec<u8>) {
    for &(start, end) in ranges {
        out.extend(start.to_le_bytes());
        out.extend(end.to_le_bytes());
    }
}

/// The end in a row of CANCELLED; the rows are sorted by it, too.
#[inline]
pub fn range_end(row: &[u8; CANCELLED_ROW_BYTES]) -> u64 {
    u64_at(row, 8)
}

/// Reads a row of CANCELLED in the index of a segment of so many events: start and end (exclusive).
#[inline]
pub fn decode_range(row: &[u8; CANCELLED_ROW_BYTES], base: u64, event_count: u64) -> Result<(u64, u64), Malformed> {
    let (start, end) = (u64_at(row, 0), u64_at(row, 8));
    if base <= start && start < end && end - base <= event_count {
        Ok((start, end))
    } else {
        Err(Malformed::damaged(format!("the index says that {start} to {end} are cancelled, which are not its own")))
    }
}

/// Reads the CANCELLED section: ranges ascend, and between two of them there is an event.
pub fn decode_cancelled(bytes: &[u8], base: u64, event_count: u64) -> Result<Vec<(u64, u64)>, Malformed> {
    let rows = bytes.chunks_exact(CANCELLED_ROW_BYTES);
    let ranges = rows.map(|row| decode_range(&array_at(row, 0), base, event_count)).collect::<Result<Vec<_>, _>>()?;
    if ranges.is_sorted_by(|a, b| a.1 < b.0) {
        Ok(ranges)
    } else {
        Err(Malformed::damaged("the cancelled ranges of the index are not in order"))
    }
}

/// Appends the SCOPES section.
///
/// # Panics
/// When a scope has more than 65,535 bytes.
pub fn encode_scopes<'a>(scopes: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for scope in scopes {
        out.extend(u16::try_from(scope.len()).expect("a scope has at most 1024 bytes").to_le_bytes());
        out.extend(scope);
    }
}

/// Reads the SCOPES section, which must hold `count` scopes and nothing else.
pub fn decode_scopes(bytes: &[u8], count: u64) -> Result<Vec<Vec<u8>>, Malformed> {
    let damaged = || Malformed::damaged("the scopes of the index are not valid");
    let mut scopes = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (scope, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or_else(damaged)?;
        scopes.push(scope.to_vec());
        rest = after;
    }
    if rest.is_empty() && scopes.len() as u64 == count { Ok(scopes) } else { Err(damaged()) }
}

/// Appends the KINDS section.
pub fn encode_kinds(kinds: &[u16], out: &mut Vec<u8>) {
    out.extend(kinds.iter().flat_map(|kind| kind.to_le_bytes()));
}

/// Reads the KINDS section.
pub fn decode_kinds(bytes: &[u8]) -> Result<Vec<u16>, Malformed> {
    let rows = bytes.chunks_exact(2);
    if !rows.remainder().is_empty() {
        return Err(Malformed::damaged("the kinds of the index are not valid"));
    }
    Ok(rows.map(|row| u16_at(row, 0)).collect())
}

/// Appends the EPOCHS section: rows of offset and epoch.
pub fn encode_epochs(epochs: &[(u64, u64)], out: &mut Vec<u8>) {
    for &(offset, epoch) in epochs {
        out.extend(offset.to_le_bytes());
        out.extend(epoch.to_le_bytes());
    }
}

/// Reads the EPOCHS section. Offsets ascend, or it is damaged.
pub fn decode_epochs(bytes: &[u8]) -> Result<Vec<(u64, u64)>, Malformed> {
    let epochs: Vec<(u64, u64)> =
        bytes.chunks_exact(EPOCH_ROW_BYTES).map(|row| (u64_at(row, 0), u64_at(row, 8))).collect();
    if epochs.is_sorted_by(|a, b| a.0 < b.0) {
        Ok(epochs)
    } else {
        Err(Malformed::damaged("the epochs of the index are not in order"))
    }
}

/// Appends the CONTROLS section: rows of offset, sequence and frame type.
pub fn encode_controls(controls: &[(u64, u64, u8)], out: &mut Vec<u8>) {
    for &(offset, sequence, frame_type) in controls {
        out.extend(offset.to_le_bytes());
        out.extend(sequence.to_le_bytes());
        out.extend(u64::from(frame_type).to_le_bytes());
    }
}

/// Reads the CONTROLS section.
pub fn decode_controls(bytes: &[u8]) -> Result<Vec<(u64, u64, u8)>, Malformed> {
    let rows = bytes.chunks_exact(CONTROL_ROW_BYTES);
    rows.map(|row| match u8::try_from(u64_at(row, 16)) {
        Ok(frame_type) => Ok((u64_at(row, 0), u64_at(row, 8), frame_type)),
        Err(_) => Err(Malformed::damaged("the control frames of the index are not valid")),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> IndexHeader {
        IndexHeader {
            store_id: StoreId([8; 16]),
            base: 500,
            partial: true,
            event_count: 3,
            log_end: 4096,
            first_time_us: 10,
            last_time_us: 20,
            last_epoch: 2,
            stream_length: 1000,
            sections: vec![
                Section { kind: KINDS, offset: 256, length: 4, count: 2 },
                Section { kind: OFFSETS, offset: 264, length: 40, count: 3 },
                Section { kind: 999, offset: 304, length: 656, count: 77 },
                Section { kind: POSTINGS, offset: 960, length: 40, count: 3 },
            ],
        }
    }

    #[test]
    fn header_round_trips_and_skips_unknown_sections() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), 96 + 4 * 32);
        assert_eq!(IndexHeader::decode(&bytes), Ok(header()));
        assert_eq!(header().section(OFFSETS).map(|section| section.end()), Some(304));
        assert_eq!(header().section(FILTER), None);
        assert_eq!(header().file_length(), 4096);
        for length in 0..bytes.len() {
            assert!(IndexHeader::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_header_of_another_place_is_refused() {
        assert_eq!(header().check_place(&StoreId([8; 16]), 500), Ok(()));
        assert!(matches!(header().check_place(&StoreId([9; 16]), 500), Err(Malformed::StoreMismatch { .. })));
        assert!(matches!(header().check_place(&StoreId([8; 16]), 501), Err(Malformed::Damaged { .. })));
    }

    #[test]
    fn hostile_directories_are_refused() {
        let refused = |change: &dyn Fn(&mut IndexHeader)| {
            let mut header = header();
            change(&mut header);
            IndexHeader::decode(&header.encode()).is_err()
        };
        assert!(!refused(&|_| ()));
        assert!(refused(&|header| header.sections[2].length = 697), "beyond the end");
        assert!(
            refused(&|header| header.sections[3].count = 2),
            "an event that is neither in its stream nor cancelled"
        );
        assert!(refused(&|header| header.sections[3].count = 4), "more postings than events");
        assert!(refused(&|header| header.sections[2].length = u64::MAX), "overflow");
        assert!(refused(&|header| header.sections[2].offset = 300), "unaligned");
        assert!(refused(&|header| header.sections[2].offset = 216), "inside the directory");
        assert!(refused(&|header| header.sections[2].kind = KINDS), "twice");
        assert!(refused(&|header| header.sections[0].count = 3), "count and length differ");
        assert!(refused(&|header| header.sections[1].count = 4), "not one value per event");
        assert!(refused(&|header| header.sections[1].length = 16), "no room for the slack");
        assert!(refused(&|header| header.event_count = u64::MAX), "count and events differ");
        assert!(refused(&|header| header.stream_length = 100), "shorter than the directory");
        for (at, value) in [(0, 0), (8, 0), (8, 2), (12, 2), (88, 125), (91, 255), (92, 1), (96 + 4, 1)] {
            let mut bytes = header().encode();
            bytes[at] = value;
            assert!(IndexHeader::decode(&bytes).is_err(), "{value} at {at}");
        }
    }

    #[test]
    fn sections_that_belong_together_are_there_together() {
        let with = |sections: &[Section]| {
            let mut header = header();
            header.sections.truncate(2);
            header.sections.extend(sections);
            IndexHeader::decode(&header.encode()).is_ok()
        };
        let row = |kind, count, row_bytes| Section { kind, offset: 512, length: count * row_bytes, count };
        let postings = |count| Section { kind: POSTINGS, offset: 960, length: 40, count };
        assert!(with(&[postings(2), row(CANCELLED, 1, 16)]), "one event is cancelled");
        assert!(with(&[row(CANCELLED, 1, 16)]), "all are");
        assert!(!with(&[postings(3), row(CANCELLED, 1, 16)]), "none is, but a range says so");
        assert!(with(&[postings(3), row(KEYS, 3, 16), row(KEY_FILTER, 1, 32)]));
        assert!(!with(&[postings(3), row(KEYS, 3, 16)]), "keys without a filter");
        assert!(!with(&[postings(3), row(KEY_FILTER, 1, 32)]), "a filter without keys");
        assert!(!with(&[postings(3), row(KEYS, 4, 16), row(KEY_FILTER, 1, 32)]), "more keys than events");
        assert!(!with(&[postings(3), row(KEYS, 3, 16), row(KEY_FILTER, 1, 31)]), "half a block");
    }

    /// What a row says of events that the segment does not have is found before it is followed.
    #[test]
    fn keys_and_cancelled_ranges_out_of_order_or_place_are_refused() {
        let mut bytes = Vec::new();
        encode_keys(&[(7, 0), (7, 2), (9, 1)], &mut bytes);
        assert_eq!(bytes[16..32], [7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_keys(&bytes, 3), Ok(vec![(7, 0), (7, 2), (9, 1)]));
        assert!(decode_keys(&bytes, 2).is_err(), "ordinal 2 of two events");
        for keys in [[(7, 2), (7, 0)], [(9, 0), (7, 1)]] {
            let mut bytes = Vec::new();
            encode_keys(&keys, &mut bytes);
            assert!(decode_keys(&bytes, 3).is_err(), "{keys:?}");
        }
        bytes[12] = 1;
        assert!(decode_keys(&bytes, u64::MAX).is_err(), "the zero bytes are not zero");

        let ranges = |ranges: &[(u64, u64)]| {
            let mut bytes = Vec::new();
            encode_cancelled(ranges, &mut bytes);
            decode_cancelled(&bytes, 100, 10)
        };
        assert_eq!(ranges(&[(100, 102), (103, 110)]), Ok(vec![(100, 102), (103, 110)]));
        for wrong in [&[(99, 101)][..], &[(109, 111)], &[(103, 103)], &[(105, 103)], &[(100, 102), (102, 103)]] {
            assert!(ranges(wrong).is_err(), "{wrong:?}");
        }
        assert!(ranges(&[(104, 106), (100, 102)]).is_err() && ranges(&[(u64::MAX - 1, u64::MAX)]).is_err());
    }

    #[test]
    fn rows_round_trip() {
        let row = StreamRow {
            name_offset: 1,
            name_length: 2,
            postings_start: 3,
            postings_count: 4,
            first_clock: 5,
            last_clock: 6,
            last_sequence: 7,
        };
        assert_eq!(StreamRow::decode(&row.encode()), row);

        let scopes: Vec<Vec<u8>> = vec![b"main".to_vec(), vec![], vec![b'x'; 1024]];
        let mut bytes = Vec::new();
        encode_scopes(scopes.iter().map(Vec::as_slice), &mut bytes);
        assert_eq!(bytes[..6], *b"\x04\0main");
        assert_eq!(decode_scopes(&bytes, 3), Ok(scopes));
        assert!(decode_scopes(&bytes, 2).is_err());
        assert!(decode_scopes(&bytes[..bytes.len() - 1], 3).is_err());

        let mut bytes = Vec::new();
        encode_kinds(&[0x1001, 7], &mut bytes);
        assert_eq!(decode_kinds(&bytes), Ok(vec![0x1001, 7]));
        assert!(decode_kinds(&bytes[..3]).is_err());

        let mut bytes = Vec::new();
        encode_epochs(&[(128, 1), (4096, 2)], &mut bytes);
        assert_eq!(decode_epochs(&bytes), Ok(vec![(128, 1), (4096, 2)]));
        bytes[16] = 128;
        bytes[17] = 0;
        assert!(decode_epochs(&bytes).is_err());

        let mut bytes = Vec::new();
        encode_controls(&[(128, 0, 0x10), (400, 3, 0x12)], &mut bytes);
        assert_eq!(bytes.len(), 2 * CONTROL_ROW_BYTES);
        assert_eq!(decode_controls(&bytes), Ok(vec![(128, 0, 0x10), (400, 3, 0x12)]));
        bytes[17] = 1;
        assert!(decode_controls(&bytes).is_err());
    }
}
