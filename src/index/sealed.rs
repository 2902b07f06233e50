//! A sealed segment's index, read in place: pages are read and checked as they are needed, nothing is loaded but the header, the
//! filter and the epochs, and on request the filter of the keys. An index file that is missing, of another segment, or damaged is an error
//! here; who owns the segment rebuilds it.

mod listing;

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::region::EntityMatch;
use crate::event::{Kind, KindMatch, Region, StoreId, make_room, zeros};
use crate::format::filter::{BLOCK_BYTES, block_contains, block_index, filter_contains};
use crate::format::index::{self, IndexHeader, Section, StreamRow};
use crate::format::packed::{self, BLOCK_VALUES, BlockRow};
use crate::format::page::{PAGE_BYTES, PAGE_CONTENT, page_seed};
use crate::format::{Malformed, name_hash};

use crate::log::damaged;
use crate::log::files::FileSlot;

use super::pages::{self, Page, PageCache};
use super::{StreamHead, StreamSet};

/// From so many pages on, they are read at once.
const BULK_PAGES: usize = 4;

/// Filters above this size are read by block instead of being kept.
const FILTER_BYTES_KEPT: u64 = 4 << 20;

/// All columns of an index at once (for the active segment's).
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub offsets: Vec<u32>,
    pub streams: Vec<u32>,
    pub scopes: Vec<u32>,
    pub kinds: Vec<u32>,
}

/// The filter over the keys of one segment, in memory.
#[derive(Debug)]
pub(crate) struct KeyFilter {
    blocks: Box<[u8]>,
}

impl KeyFilter {
    /// False: no event of the segment has a key with that hash.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        filter_contains(&self.blocks, hash)
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks.len() as u64
    }
}

/// A row of KEYS or CANCELLED.
type Row = [u8; ROW_BYTES];
const ROW_BYTES: usize = index::KEY_ROW_BYTES;
const _: () = assert!(index::CANCELLED_ROW_BYTES == ROW_BYTES);

/// Neighbouring rows, at least one.
struct Rows {
    first: u64,
    count: u64,
    held: Held,
}

enum Held {
    /// From that byte of the page on.
    Page(Page, usize),
    Row(Row),
}

impl Rows {
    fn row(&self, at: u64) -> Row {
        match &self.held {
            Held::Row(row) => *row,
            Held::Page(page, start) => {
                let start = start + at as usize * ROW_BYTES;
                std::array::from_fn(|byte| page[start + byte])
            }
        }
    }

    fn count_below(&self, is_below: impl Fn(&Row) -> bool) -> u64 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_below(&self.row(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// After so many guesses that missed, a search halves what is left: hashes are uniform, but bytes from disk need not be.
const GUESSES_MAX: u32 = 6;

/// An open sealed index.
#[derive(Debug)]
pub(crate) struct SealedIndex {
    slot: Arc<FileSlot>,
    cache: Arc<PageCache>,
    store_id: StoreId,
    seed: u32,
    header: IndexHeader,
    filter: Option<Vec<u8>>,
    epochs: Vec<(u64, u64)>,
}

impl SealedIndex {
    /// Opens the index and checks that it is that of the segment.
    pub fn open(slot: Arc<FileSlot>, cache: Arc<PageCache>, store_id: &StoreId, base: u64) -> Result<SealedIndex> {
        let seed = page_seed(store_id, base);
        let first = cache.page(&slot, base, seed, 0)?;
        let header = IndexHeader::decode(&first[..PAGE_CONTENT])
            .map_err(|malformed| damaged(slot.path(), 0, base, malformed))?;
        let mut index =
            SealedIndex { slot, cache, store_id: *store_id, seed, header, filter: None, epochs: Vec::new() };
        if index.header.store_id != *store_id || index.header.base != base {
            return Err(index.inconsistent("the store id or the base"));
        }
        let pages = index.slot.get()?.length()? / PAGE_BYTES as u64;
        if index.header.stream_length > pages * PAGE_CONTENT as u64 {
            return Err(index.inconsistent("the length"));
        }
        let filter = index.section(index::FILTER);
        if filter.length <= FILTER_BYTES_KEPT {
            index.filter = Some(index.read(filter.offset, filter.length as usize)?);
        }
        let epochs = index.section(index::EPOCHS);
        let rows = index.read(epochs.offset, epochs.length as usize)?;
        index.epochs = index.decoded(index::decode_epochs(&rows))?;
        Ok(index)
    }

    /// The error of an index that does not hold together.
    pub fn inconsistent(&self, what: &str) -> Error {
        damaged(
            self.slot.path(),
            0,
            self.header.base,
            Malformed::Damaged {
                reason: format!("{what} in the index is not the segment's; delete the file, it is rebuilt"),
            },
        )
    }

    fn decoded<T>(&self, result: Result<T, Malformed>) -> Result<T> {
        result.map_err(|malformed| damaged(self.slot.path(), 0, self.header.base, malformed))
    }

    fn section(&self, kind: u32) -> Section {
        self.header.section(kind).unwrap_or(Section { kind, offset: 0, length: 0, count: 0 })
    }

    /// Bytes from `offset` of the stream of contents on.
    fn read_into(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        if offset + bytes.len() as u64 > self.header.stream_length {
            return Err(self.inconsistent("a section's place"));
        }
        let (mut number, mut within) = (offset / PAGE_CONTENT as u64, (offset % PAGE_CONTENT as u64) as usize);
        let mut filled = 0;
        if bytes.len() > BULK_PAGES * PAGE_CONTENT {
            return self.read_bulk(number, within, bytes);
        }
        while filled < bytes.len() {
            let page = self.cache.page(&self.slot, self.header.base, self.seed, number)?;
            let length = (PAGE_CONTENT - within).min(bytes.len() - filled);
            bytes[filled..filled + length].copy_from_slice(&page[within..within + length]);
            filled += length;
            (number, within) = (number + 1, 0);
        }
        Ok(())
    }

    /// Many pages by one read, past the cache.
    fn read_bulk(&self, first: u64, mut within: usize, bytes: &mut [u8]) -> Result<()> {
        let count = (within + bytes.len()).div_ceil(PAGE_CONTENT);
        let mut pages = zeros(count * PAGE_BYTES)?;
        let read = self.slot.get()?.read_at(&mut pages, first * PAGE_BYTES as u64)?;
        let mut filled = 0;
        for (at, page) in pages[..read].chunks(PAGE_BYTES).enumerate() {
            pages::check(&self.slot, page, self.seed, first + at as u64)?;
            let length = (PAGE_CONTENT - within).min(bytes.len() - filled);
            bytes[filled..filled + length].copy_from_slice(&page[within..within + length]);
            filled += length;
            within = 0;
        }
        if filled < bytes.len() {
            return Err(self.inconsistent("the length"));
        }
        Ok(())
    }

    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        if offset + length as u64 > self.header.stream_length {
            return Err(self.inconsistent("a section's place"));
        }
        let mut bytes = zeros(length)?;
        self.read_into(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn read_array<const N: usize>(&self, offset: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_into(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// As [`SealedIndex::read_array`], for one who reads in one neighbourhood: asks for a page only when it is another than the one it has.
    #[inline]
    fn read_near<const N: usize>(&self, offset: u64, near: &mut Option<(u64, Page)>) -> Result<[u8; N]> {
        let (number, within) = (offset / PAGE_CONTENT as u64, (offset % PAGE_CONTENT as u64) as usize);
        if within + N > PAGE_CONTENT || offset + N as u64 > self.header.stream_length {
            return self.read_array(offset);
        }
        let page = match near {
            Some((held, page)) if *held == number => &*page,
            _ => &near.insert((number, self.cache.page(&self.slot, self.header.base, self.seed, number)?)).1,
        };
        Ok(std::array::from_fn(|byte| page[within + byte]))
    }

    fn read_section(&self, kind: u32) -> Result<Vec<u8>> {
        let section = self.section(kind);
        self.read(section.offset, section.length as usize)
    }

    pub fn base(&self) -> u64 {
        self.header.base
    }

    pub fn count(&self) -> u32 {
        self.header.event_count as u32
    }

    pub fn log_end(&self) -> u64 {
        self.header.log_end
    }

    pub fn is_partial(&self) -> bool {
        self.header.partial
    }

    pub fn last_epoch(&self) -> u64 {
        self.header.last_epoch
    }

    pub fn times_us(&self) -> (i64, i64) {
        (self.header.first_time_us, self.header.last_time_us)
    }

    pub fn epochs(&self) -> Result<Vec<(u64, u64)>> {
        Ok(self.epochs.clone())
    }

    /// The epoch in force at a byte of the segment.
    pub fn epoch_at(&self, offset: u64) -> u64 {
        let after = self.epochs.partition_point(|&(from, _)| from <= offset);
        self.epochs[..after].last().map_or(0, |epoch| epoch.1)
    }

    pub fn controls(&self) -> Result<Vec<(u64, u64, u8)>> {
        let bytes = self.read_section(index::CONTROLS)?;
        self.decoded(index::decode_controls(&bytes))
    }

    pub fn scopes(&self) -> Result<Vec<Vec<u8>>> {
        let bytes = self.read_section(index::SCOPES)?;
        self.decoded(index::decode_scopes(&bytes, self.section(index::SCOPES).count))
    }

    pub fn kinds(&self) -> Result<Vec<u16>> {
        let bytes = self.read_section(index::KINDS)?;
        self.decoded(index::decode_kinds(&bytes))
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> u64 {
        (size_of::<SealedIndex>() + self.filter.as_ref().map_or(0, Vec::len) + self.epochs.len() * 16) as u64
    }

    /// All streams with their names, in order.
    pub fn streams(&self) -> Result<Vec<(Vec<u8>, StreamRow)>> {
        let rows = self.read_section(index::STREAMS)?;
        let names = self.read_section(index::NAMES)?;
        rows.chunks_exact(index::STREAM_ROW_BYTES)
            .map(|bytes| {
                let row = self.decode_row(bytes)?;
                let start = row.name_offset as usize;
                let name = names
                    .get(start..start + row.name_length as usize)
                    .ok_or_else(|| self.inconsistent("a name's place"))?;
                Ok((name.to_vec(), row))
            })
            .collect()
    }

    /// All columns.
    pub fn columns(&self) -> Result<Columns> {
        let column = |kind| -> Result<Vec<u32>> {
            let bytes = self.read_section(kind)?;
            let view = self.decoded(packed::PackedView::new(&bytes, self.count() as usize))?;
            let mut values = Vec::new();
            self.decoded(view.unpack_all(&mut values))?;
            Ok(values)
        };
        Ok(Columns {
            offsets: column(index::OFFSETS)?,
            streams: column(index::EVENT_STREAMS)?,
            scopes: column(index::EVENT_SCOPES)?,
            kinds: column(index::EVENT_KINDS)?,
        })
    }

    fn row(&self, number: u32) -> Result<StreamRow> {
        let section = self.section(index::STREAMS);
        if u64::from(number) >= section.count {
            return Err(self.inconsistent("a stream number"));
        }
        let bytes: [u8; index::STREAM_ROW_BYTES] =
            self.read_array(section.offset + u64::from(number) * index::STREAM_ROW_BYTES as u64)?;
        self.decode_row(&bytes)
    }

    fn decode_row(&self, bytes: &[u8]) -> Result<StreamRow> {
        let bytes: &[u8; index::STREAM_ROW_BYTES] = bytes.try_into().map_err(|_| self.inconsistent("a stream row"))?;
        let row = StreamRow::decode(bytes);
        if row.is_valid() { Ok(row) } else { Err(self.inconsistent("a stream without events")) }
    }

    fn name(&self, row: &StreamRow) -> Result<Vec<u8>> {
        let names = self.section(index::NAMES);
        if u64::from(row.name_offset) + u64::from(row.name_length) > names.length {
            return Err(self.inconsistent("a name's place"));
        }
        self.read(names.offset + u64::from(row.name_offset), usize::from(row.name_length))
    }

    /// Whether a stream with a name of that length has this one.
    fn is_named(&self, row: &StreamRow, entity: &[u8]) -> Result<bool> {
        let names = self.section(index::NAMES);
        let (number, within) = {
            let offset = names.offset + u64::from(row.name_offset);
            (offset / PAGE_CONTENT as u64, (offset % PAGE_CONTENT as u64) as usize)
        };
        let end = within + entity.len();
        if end > PAGE_CONTENT || u64::from(row.name_offset) + entity.len() as u64 > names.length {
            return Ok(self.name(row)? == entity);
        }
        let page = self.cache.page(&self.slot, self.header.base, self.seed, number)?;
        Ok(page[within..end] == *entity)
    }

    fn may_contain(&self, hash: u64) -> Result<bool> {
        match &self.filter {
            Some(filter) => Ok(filter_contains(filter, hash)),
            None => {
                let section = self.section(index::FILTER);
                let blocks = section.length / BLOCK_BYTES as u64;
                let block = block_index(hash, blocks);
                let bytes: [u8; 32] = self.read_array(section.offset + block * 32)?;
                Ok(block_contains(&bytes, hash))
            }
        }
    }

    /// The number and the row of an entity's stream: one filter probe when it is not here.
    pub fn find(&self, entity: &[u8]) -> Result<Option<(u32, StreamRow)>> {
        let hash = name_hash(&self.store_id, entity);
        if !self.may_contain(hash)? {
            return Ok(None);
        }
        let table = self.section(index::STREAM_TABLE);
        let slots = table.length / 4;
        let (mut at, mut near) = (hash & slots.saturating_sub(1), None);
        for _ in 0..slots {
            let slot = u32::from_le_bytes(self.read_near(table.offset + at * 4, &mut near)?);
            if slot == 0 {
                return Ok(None);
            }
            let row = self.row(slot - 1)?;
            if usize::from(row.name_length) == entity.len() && self.is_named(&row, entity)? {
                return Ok(Some((slot - 1, row)));
            }
            at = (at + 1) & (slots - 1);
        }
        Ok(None)
    }

    /// An entity's head as of this segment's end, if it has events here that are not cancelled.
    pub fn head(&self, entity: &[u8]) -> Result<Option<StreamHead>> {
        let row = self.find(entity)?.map(|(_, row)| row).filter(|row| row.postings_count > 0);
        let end = self.header.base.saturating_add(self.header.event_count);
        if row.is_some_and(|row| row.last_clock > row.last_sequence || row.last_sequence >= end) {
            return Err(self.inconsistent("a stream's last event"));
        }
        let head = |row: StreamRow| StreamHead {
            next_clock: row.last_clock.saturating_add(1),
            last_sequence: row.last_sequence,
        };
        Ok(row.map(head))
    }

    /// How many events here have a key.
    pub fn key_count(&self) -> u64 {
        self.section(index::KEYS).count
    }

    /// The filter over the keys, read whole; `None` when there are none.
    pub fn key_filter(&self) -> Result<Option<KeyFilter>> {
        if self.key_count() == 0 {
            return Ok(None);
        }
        Ok(Some(KeyFilter { blocks: self.read_section(index::KEY_FILTER)?.into() }))
    }

    /// All keys: hash and ordinal, sorted.
    pub fn keys(&self) -> Result<Vec<(u64, u32)>> {
        let bytes = self.read_section(index::KEYS)?;
        self.decoded(index::decode_keys(&bytes, self.header.event_count))
    }

    /// Appends the ordinals whose key has that hash, ascending; also those of cancelled events. The filter is not asked. Reads about two
    /// pages: the hashes are uniform, so a hash says where it stands.
    pub fn find_keys(&self, hash: u64, found: &mut Vec<u32>) -> Result<()> {
        let section = self.section(index::KEYS);
        let rows_in = |distance: u64| ((u128::from(distance) * u128::from(section.count)) >> 64) as u64;
        let guess = |seen: Option<(u64, &Row)>| match seen {
            None => Some(rows_in(hash)),
            Some((place, row)) => {
                let here = index::key_hash(row);
                let rows = rows_in(here.abs_diff(hash));
                Some(if here < hash { place.saturating_add(rows) } else { place.saturating_sub(rows) })
            }
        };
        let first = self.lower_bound_of_rows(&section, guess, |row| index::key_hash(row) < hash)?;
        for place in first..section.count {
            let row = self.read_array(section.offset + place * ROW_BYTES as u64)?;
            let (other, ordinal) = self.decoded(index::decode_key(&row, self.header.event_count))?;
            if other != hash {
                break;
            }
            found.push(ordinal);
        }
        Ok(())
    }

    /// All cancelled ranges.
    pub fn cancelled_ranges(&self) -> Result<Vec<(u64, u64)>> {
        let bytes = self.read_section(index::CANCELLED)?;
        self.decoded(index::decode_cancelled(&bytes, self.header.base, self.header.event_count))
    }

    /// Appends the cancelled ranges in `from..to`, clipped to it, ascending.
    pub fn cancelled(&self, from: u64, to: u64, found: &mut Vec<(u64, u64)>) -> Result<()> {
        let section = self.section(index::CANCELLED);
        if section.count == 0 || from >= to {
            return Ok(());
        }
        // The first that ends behind `from`.
        let first = self.lower_bound_of_rows(&section, |_| None, |row| index::range_end(row) <= from)?;
        let mut least = from;
        for place in first..section.count {
            let row = self.read_array(section.offset + place * ROW_BYTES as u64)?;
            let (start, end) = self.decoded(index::decode_range(&row, self.header.base, self.header.event_count))?;
            if start >= to {
                break;
            }
            if end <= least {
                return Err(self.inconsistent("a cancelled range"));
            }
            found.push((start.max(from), end.min(to)));
            least = end;
        }
        Ok(())
    }

    /// The event was cancelled.
    pub fn is_cancelled(&self, sequence: u64) -> Result<bool> {
        let section = self.section(index::CANCELLED);
        if section.count == 0 {
            return Ok(false);
        }
        let place = self.lower_bound_of_rows(&section, |_| None, |row| index::range_end(row) <= sequence)?;
        if place == section.count {
            return Ok(false);
        }
        let row = self.read_array(section.offset + place * ROW_BYTES as u64)?;
        let (start, end) = self.decoded(index::decode_range(&row, self.header.base, self.header.event_count))?;
        Ok((start..end).contains(&sequence))
    }

    /// The first of the rows, which are sorted, that `is_below` denies. Each step looks at all rows of one page; `guess` may say which row's,
    /// given one that was seen. In rows that are not sorted some place is found, as soon.
    fn lower_bound_of_rows(
        &self,
        section: &Section,
        guess: impl Fn(Option<(u64, &Row)>) -> Option<u64>,
        is_below: impl Fn(&Row) -> bool,
    ) -> Result<u64> {
        let (mut low, mut high) = (0, section.count);
        let mut guessed = guess(None);
        let mut guesses = 0;
        while low < high {
            let place = guessed.map_or(low + (high - low) / 2, |place| place.clamp(low, high - 1));
            let rows = self.rows_around(section, place, low..high)?;
            let below = rows.count_below(&is_below);
            let seen = match below {
                0 => 0,
                below if below < rows.count => return Ok(rows.first + below),
                below => below - 1,
            };
            if below == 0 {
                high = rows.first
            } else {
                low = rows.first + rows.count
            }
            guesses += 1;
            guessed = guess(Some((rows.first + seen, &rows.row(seen)))).filter(|_| guesses < GUESSES_MAX);
        }
        Ok(low)
    }

    /// The rows within the bounds that lie whole in the page where row `place` begins; or that row alone, when it goes on in the next page.
    fn rows_around(&self, section: &Section, place: u64, bounds: Range<u64>) -> Result<Rows> {
        let offset = section.offset + place * ROW_BYTES as u64;
        let (number, within) = (offset / PAGE_CONTENT as u64, (offset % PAGE_CONTENT as u64) as usize);
        let before = ((within / ROW_BYTES) as u64).min(place - bounds.start);
        let after = (((PAGE_CONTENT - within) / ROW_BYTES) as u64).min(bounds.end - place);
        if after == 0 {
            return Ok(Rows { first: place, count: 1, held: Held::Row(self.read_array(offset)?) });
        }
        let page = self.cache.page(&self.slot, self.header.base, self.seed, number)?;
        let start = within - before as usize * ROW_BYTES;
        Ok(Rows { first: place - before, count: before + after, held: Held::Page(page, start) })
    }

    /// The streams whose entity is `prefix` or continues it with `:`.
    fn prefixed(&self, prefix: &[u8]) -> Result<StreamSet> {
        let mut set = StreamSet::default();
        if let Some((number, _)) = self.find(prefix)? {
            set.ranges.push(number..number + 1);
        }
        let mut from = prefix.to_vec();
        from.push(b':');
        let mut to = prefix.to_vec();
        to.push(b':' + 1);
        let range = self.lower_bound(&from)?..self.lower_bound(&to)?;
        if !range.is_empty() {
            set.ranges.push(range);
        }
        Ok(set)
    }

    /// The first stream whose name is not below `name`.
    fn lower_bound(&self, name: &[u8]) -> Result<u32> {
        let (mut low, mut high) = (0, self.section(index::STREAMS).count as u32);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.name(&self.row(middle)?)?.as_slice() < name { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// Values `range` of a packed column, in order.
    fn each(&self, kind: u32, range: Range<u64>, mut value: impl FnMut(u64, u64)) -> Result<()> {
        let section = self.section(kind);
        if range.end > section.count {
            return Err(self.inconsistent("a column's length"));
        }
        if range.is_empty() {
            return Ok(());
        }
        let (first, last) = (range.start / BLOCK_VALUES as u64, (range.end - 1) / BLOCK_VALUES as u64);
        let rows = self
            .read(section.offset + first * packed::ROW_BYTES as u64, (last - first + 1) as usize * packed::ROW_BYTES)?;
        let mut decoded = Vec::new();
        make_room(&mut decoded, (last - first + 1) as usize)?;
        for row in rows.chunks_exact(packed::ROW_BYTES) {
            let row: &[u8; packed::ROW_BYTES] = row.try_into().map_err(|_| self.inconsistent("a column's row"))?;
            decoded.push(self.decoded(BlockRow::decode(row))?);
        }
        // The blocks lie one behind the other: one read gets a run of them.
        const RUN: usize = 64;
        let mut values = [0; BLOCK_VALUES];
        for (run, rows) in decoded.chunks(RUN).enumerate() {
            let start = rows[0].bits_offset();
            let end = rows[rows.len() - 1].bits_offset()
                + rows[rows.len() - 1].bits_length() as u64
                + packed::SLACK_BYTES as u64;
            if end < start || end > section.length {
                return Err(self.inconsistent("a column's block"));
            }
            let bits = self.read(section.offset + start, (end - start) as usize)?;
            for (at, row) in rows.iter().enumerate() {
                let from =
                    row.bits_offset().checked_sub(start).ok_or_else(|| self.inconsistent("a column's block"))? as usize;
                let bits = bits.get(from..).ok_or_else(|| self.inconsistent("a column's block"))?;
                self.decoded(packed::unpack_block(row, bits, &mut values))?;
                let block_start = (first + (run * RUN + at) as u64) * BLOCK_VALUES as u64;
                let within = range.start.max(block_start)..range.end.min(block_start + BLOCK_VALUES as u64);
                for index in within {
                    value(index, values[(index - block_start) as usize]);
                }
            }
        }
        Ok(())
    }

    /// One value of a packed column.
    fn value(&self, kind: u32, at: u64) -> Result<u64> {
        let section = self.section(kind);
        if at >= section.count {
            return Err(self.inconsistent("a column's length"));
        }
        let row = self.decoded(BlockRow::decode(&self.read_array(section.offset + packed::directory_offset(at))?))?;
        let (offset, shift) = packed::value_range(&row, at);
        if offset + 8 > section.length {
            return Err(self.inconsistent("a column's block"));
        }
        Ok(row.value(u64::from_le_bytes(self.read_array(section.offset + offset)?), shift))
    }

    /// A value of a packed column and, unless it is the last, the one after it.
    fn value_and_next(&self, kind: u32, at: u64, near: &mut [Option<(u64, Page)>; 2]) -> Result<(u64, Option<u64>)> {
        let section = self.section(kind);
        if at >= section.count {
            return Err(self.inconsistent("a column's length"));
        }
        let [rows, bits] = near;
        let row = self.read_near(section.offset + packed::directory_offset(at), rows)?;
        let row = self.decoded(BlockRow::decode(&row))?;
        let (offset, shift) = packed::value_range(&row, at);
        let (next_offset, next_shift) = packed::value_range(&row, at + 1);
        let shares_block = packed::block_of(at) == packed::block_of(at + 1);
        // Both are within the bits of the block, or those are followed by as many.
        if offset + 8 > section.length || shares_block && next_offset + 8 > section.length {
            return Err(self.inconsistent("a column's block"));
        }
        let value = row.value(u64::from_le_bytes(self.read_near(section.offset + offset, bits)?), shift);
        let next = match at + 1 < section.count {
            false => None,
            true if shares_block => {
                let load = self.read_near(section.offset + next_offset, bits)?;
                Some(row.value(u64::from_le_bytes(load), next_shift))
            }
            true => Some(self.value(kind, at + 1)?),
        };
        Ok((value, next))
    }

    /// Where an event's frame begins.
    pub fn offset(&self, ordinal: u32) -> Result<u64> {
        self.place_of(self.value(index::OFFSETS, ordinal.into())?)
    }

    /// The byte that a value of OFFSETS stands for.
    fn place_of(&self, value: u64) -> Result<u64> {
        let place = value.checked_mul(8).filter(|&place| place < self.header.log_end);
        place.ok_or_else(|| self.inconsistent("an event's place"))
    }

    /// Where the frames of the ordinals (ascending) begin, and where the next event's begins.
    pub fn places(&self, ordinals: &[u32], places: &mut Vec<(u64, u64)>) -> Result<()> {
        let count = u64::from(self.count());
        self.check_ascending(ordinals)?;
        let (mut at, mut near) = (0, [None, None]);
        while at < ordinals.len() {
            // Many ordinals that share a few blocks are read together: to unpack a block costs what so many values one by one do.
            const MANY: usize = 16;
            let first = u64::from(ordinals[at]);
            let within = ordinals[at..].partition_point(|&o| u64::from(o) < first + 2 * BLOCK_VALUES as u64);
            let group = &ordinals[at..at + within];
            if group.len() < MANY {
                for &one in group {
                    let (place, next) = self.value_and_next(index::OFFSETS, one.into(), &mut near)?;
                    let end = next.map_or(Ok(self.header.log_end), |next| self.place_of(next))?;
                    places.push((self.place_of(place)?, end));
                }
                at += within;
                continue;
            }
            let last = u64::from(group[group.len() - 1]);
            let mut offsets = Vec::new();
            make_room(&mut offsets, (last - first + 2) as usize)?;
            let mut outside = false;
            self.each(index::OFFSETS, first..(last + 2).min(count), |_, value| match self.place_of(value) {
                Ok(place) => offsets.push(place),
                Err(_) => outside = true,
            })?;
            if outside {
                return Err(self.inconsistent("an event's place"));
            }
            if last + 1 == count {
                offsets.push(self.header.log_end);
            }
            places.extend(group.iter().map(|&o| {
                let i = (u64::from(o) - first) as usize;
                (offsets[i], offsets[i + 1])
            }));
            at += within;
        }
        Ok(())
    }

    /// The ordinals in `from..to` that the region's entity, scope and kind match, ascending. (The clock range is the reader's to check.)
    pub fn matches(&self, region: &Region, from: u32, to: u32, found: &mut Vec<u32>) -> Result<()> {
        let streams = match &region.entity {
            EntityMatch::Any => None,
            EntityMatch::Exact(entity) => Some(match self.find(entity.as_bytes())? {
                None => return Ok(()),
                Some((number, _)) => StreamSet::one(number),
            }),
            EntityMatch::Prefix(prefix) => Some(self.prefixed(prefix.as_bytes())?),
        };
        let first = found.len();
        match streams {
            None => {
                make_room(found, to.saturating_sub(from) as usize)?;
                found.extend(from..to);
            }
            Some(set) => self.postings(&set, from, to, found)?,
        }
        self.keep_scope(region, first, found)?;
        self.keep_kind(region, first, found)
    }

    fn postings(&self, set: &StreamSet, from: u32, to: u32, found: &mut Vec<u32>) -> Result<()> {
        let first = found.len();
        for range in &set.ranges {
            let (row, last) = (self.row(range.start)?, self.row(range.end - 1)?);
            let (mut start, end) =
                (u64::from(row.postings_start), u64::from(last.postings_start) + u64::from(last.postings_count));
            if range.len() == 1 {
                start += self.postings_below(start, end, from)?;
            }
            make_room(found, end.saturating_sub(start).min(u64::from(to.saturating_sub(from))) as usize)?;
            self.each(index::POSTINGS, start..end, |_, ordinal| {
                if (u64::from(from)..u64::from(to)).contains(&ordinal) {
                    found.push(ordinal as u32);
                }
            })?;
        }
        if set.ranges.len() > 1 || set.ranges.iter().any(|range| range.len() > 1) {
            found[first..].sort_unstable();
        }
        self.check_ascending(&found[first..])
    }

    /// What the postings say of streams ascends, and is of the segment.
    fn check_ascending(&self, ordinals: &[u32]) -> Result<()> {
        let are_here = ordinals.last().is_none_or(|&last| u64::from(last) < self.header.event_count);
        match are_here && ordinals.is_sorted_by(|one, next| one < next) {
            true => Ok(()),
            false => Err(self.inconsistent("the order of the postings")),
        }
    }

    /// How many of one stream's postings are below `ordinal`.
    fn postings_below(&self, start: u64, end: u64, ordinal: u32) -> Result<u64> {
        let (mut low, mut high) = (start, end);
        if ordinal == 0 {
            return Ok(0);
        }
        // The last block or two is read whole anyway.
        while high - low > BLOCK_VALUES as u64 {
            let middle = low + (high - low) / 2;
            if self.value(index::POSTINGS, middle)? < u64::from(ordinal) { low = middle + 1 } else { high = middle }
        }
        Ok(low - start)
    }

    fn keep_scope(&self, region: &Region, first: usize, found: &mut Vec<u32>) -> Result<()> {
        let Some(scope) = &region.scope else { return Ok(()) };
        match self.scopes()?.iter().position(|s| s == scope.as_bytes()) {
            None => {
                found.truncate(first);
                Ok(())
            }
            Some(number) => self.keep(index::EVENT_SCOPES, first, found, |value| value == number as u64),
        }
    }

    fn keep_kind(&self, region: &Region, first: usize, found: &mut Vec<u32>) -> Result<()> {
        if matches!(region.kind, KindMatch::None | KindMatch::Any) {
            return Ok(());
        }
        let kinds = self.kinds()?;
        let wanted: Vec<bool> = kinds.iter().map(|&kind| region.matches_kind(Kind(kind))).collect();
        if wanted.iter().all(|&wanted| wanted) {
            return Ok(());
        }
        self.keep(index::EVENT_KINDS, first, found, |value| wanted.get(value as usize).copied().unwrap_or(false))
    }

    /// Keeps the ordinals of `found[first..]` whose value in the column passes: by single look-ups when they are few, else by a pass.
    fn keep(&self, kind: u32, first: usize, found: &mut Vec<u32>, wanted: impl Fn(u64) -> bool) -> Result<()> {
        let (Some(&low), Some(&high)) = (found[first..].first(), found.last()) else { return Ok(()) };
        let mut kept = first;
        if (found.len() - first) * 64 < (high - low) as usize {
            for at in first..found.len() {
                if wanted(self.value(kind, found[at].into())?) {
                    found[kept] = found[at];
                    kept += 1;
                }
            }
        } else {
            let mut at = first;
            self.each(kind, u64::from(low)..u64::from(high) + 1, |ordinal, value| {
                if at < found.len() && u64::from(found[at]) == ordinal {
                    if wanted(value) {
                        found[kept] = found[at];
                        kept += 1;
                    }
                    at += 1;
                }
            })?;
        }
        found.truncate(kept);
        Ok(())
    }
}
