//! A whole index as one value, and the complete file that it becomes. `docs/FORMAT.md` section 5 and [`super::index`] say
//! what the bytes mean.
//!
//! The file holds header and directory, then the small sections that every opening needs (EPOCHS, CONTROLS, CANCELLED, KINDS, SCOPES),
//! then what a look-up by entity meets, in that order (FILTER, STREAM_TABLE, STREAMS, NAMES, POSTINGS), then the columns, then
//! the keys (KEY_FILTER, KEYS).
//!
//! Beyond what header and packed columns ask for ([`super::index`], [`super::packed`]), a file is valid iff
//! 1. every page is ([`super::page`]), and there are just the pages that the length of the stream of contents asks for;
//! 2. every number in a column by ordinal is one of a row of the section that it refers to;
//! 3. the names of STREAMS lie in NAMES and ascend;
//! 4. every stream's place in POSTINGS starts where the one before ended, its ordinals ascend and are those of its events that are not
//!    cancelled; a stream without such events has zeros for clocks and last sequence;
//! 5. STREAM_TABLE has more slots than there are streams;
//! 6. cancelled ranges ascend, lie in the segment, and do not touch; keys ascend, each of another event, and KEY_FILTER lets them all pass.

use std::ops::Range;

use super::filter::{FilterBuilder, filter_contains};
use super::index::{
    self, INDEX_HEADER_BYTES, IndexHeader, SECTION_BYTES, STREAM_ROW_BYTES, Section, StreamRow, decode_cancelled,
    decode_controls, decode_epochs, decode_keys, decode_kinds, decode_scopes, encode_cancelled, encode_controls,
    encode_epochs, encode_keys, encode_kinds, encode_scopes,
};
use super::packed::{PackedView, pack};
use super::page::{PAGE_BYTES, PAGE_CONTENT, check_page, page_count, page_seed, seal_pages};
use super::{Malformed, align8, name_hash, put, u32_at};
use crate::event::StoreId;

/// All that the index of one segment holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexContent {
    /// Sequence of the segment's first event.
    pub base: u64,
    /// The segment is the active one.
    pub partial: bool,
    /// Offset in the segment after the last frame covered.
    pub log_end: u64,
    /// Time of the first event.
    pub first_time_us: i64,
    /// Time of the last event.
    pub last_time_us: i64,
    /// Epoch in force at `log_end`.
    pub last_epoch: u64,
    /// By ordinal: frame offset / 8.
    pub offsets: Vec<u32>,
    /// By ordinal: number of the stream, in `names` and the fields beside it.
    pub streams_of: Vec<u32>,
    /// By ordinal: number of the scope, in `scopes`.
    pub scopes_of: Vec<u32>,
    /// By ordinal: the kind.
    pub kinds_of: Vec<u16>,
    /// By stream: the entity. In any order, each once.
    pub names: Vec<Box<[u8]>>,
    /// By stream: clock of its first event in the segment that is not cancelled; here and below 0 when there is none.
    pub first_clocks: Vec<u64>,
    /// By stream: clock of the last such event.
    pub last_clocks: Vec<u64>,
    /// By stream: sequence of the last such event.
    pub last_sequences: Vec<u64>,
    /// Scopes, in order of first use.
    pub scopes: Vec<Vec<u8>>,
    /// Offset, epoch: ascending, the first at offset 128. Of rows with one offset the last counts.
    pub epochs: Vec<(u64, u64)>,
    /// Offset, sequence, frame type of control frames but MARK.
    pub controls: Vec<(u64, u64, u8)>,
    /// Cancelled sequences: start, end (exclusive). Ascending, and no two ranges touch.
    pub cancelled: Vec<(u64, u64)>,
    /// Key hash, ordinal: of the events that have a key. Encoded in ascending order.
    pub keys: Vec<(u64, u32)>,
}

impl IndexContent {
    /// The bytes of the complete index file, with streams in the order of their names.
    ///
    /// # Panics
    /// When columns differ in length or a number in one has nothing to refer to.
    pub fn encode(&self, store_id: &StoreId) -> Vec<u8> {
        let event_count = self.offsets.len();
        assert_eq!(self.streams_of.len(), event_count);
        assert_eq!(self.scopes_of.len(), event_count);
        assert_eq!(self.kinds_of.len(), event_count);
        let stream_columns = [&self.first_clocks, &self.last_clocks, &self.last_sequences];
        assert!(stream_columns.iter().all(|column| column.len() == self.names.len()));
        debug_assert!(self.scopes_of.iter().all(|&scope| (scope as usize) < self.scopes.len()));
        assert!(self.cancelled.is_sorted_by(|a, b| a.1 < b.0));

        let order = self.streams_by_name();
        let streams_of = self.sorted_streams_of(&order);
        let (starts, postings) = postings(&streams_of, order.len(), &self.live_runs());
        let (kinds, kind_numbers) = self.numbered_kinds();
        let (table, filter) = self.table_and_filter(&order, &starts, store_id);
        let epochs = self.epochs_by_offset();
        let mut keys = self.keys.clone();
        keys.sort_unstable();

        let name_bytes = self.names.iter().map(|name| name.len()).sum::<usize>();
        let sections = SECTIONS_ALWAYS + usize::from(!self.cancelled.is_empty()) + 2 * usize::from(!keys.is_empty());
        let mut file = SectionWriter::new(sections, name_bytes + 12 * event_count + 64 * order.len() + 18 * keys.len());
        file.section(index::EPOCHS, epochs.len(), |out| encode_epochs(&epochs, out));
        file.section(index::CONTROLS, self.controls.len(), |out| encode_controls(&self.controls, out));
        if !self.cancelled.is_empty() {
            file.section(index::CANCELLED, self.cancelled.len(), |out| encode_cancelled(&self.cancelled, out));
        }
        file.section(index::KINDS, kinds.len(), |out| encode_kinds(&kinds, out));
        file.section(index::SCOPES, self.scopes.len(), |out| {
            encode_scopes(self.scopes.iter().map(Vec::as_slice), out);
        });
        file.section(index::FILTER, filter.len() / 32, |out| out.extend(&filter));
        file.section(index::STREAM_TABLE, table.len(), |out| {
            out.extend(table.iter().flat_map(|slot| slot.to_le_bytes()));
        });
        file.section(index::STREAMS, order.len(), |out| self.encode_streams(&order, &starts, out));
        file.section(index::NAMES, name_bytes, |out| {
            order.iter().for_each(|&number| out.extend_from_slice(&self.names[number as usize]));
        });
        let columns = [
            (index::POSTINGS, &postings),
            (index::OFFSETS, &self.offsets),
            (index::EVENT_STREAMS, &streams_of),
            (index::EVENT_SCOPES, &self.scopes_of),
            (index::EVENT_KINDS, &kind_numbers),
        ];
        for (kind, column) in columns {
            file.section(kind, column.len(), |out| pack(column.iter().map(|&value| u64::from(value)), out));
        }
        if !keys.is_empty() {
            let mut filter = FilterBuilder::for_keys(keys.len());
            keys.iter().for_each(|key| filter.insert(key.0));
            let filter = filter.finish();
            file.section(index::KEY_FILTER, filter.len() / 32, |out| out.extend(&filter));
            file.section(index::KEYS, keys.len(), |out| encode_keys(&keys, out));
        }
        seal_pages(&file.finish(self, store_id), store_id, self.base)
    }

    /// The numbers of the streams, in the order of their names.
    fn streams_by_name(&self) -> Vec<u32> {
        // Eight bytes behind what all names begin with decide most comparisons.
        let first = self.names.first().map_or(&[][..], |name| name);
        let common = self.names.iter().fold(first.len(), |common, name| {
            first[..common].iter().zip(&name[..]).take_while(|(a, b)| a == b).count()
        });
        let mut order: Vec<(u64, u32)> = (0..)
            .zip(self.names.iter())
            .map(|(number, name)| {
                let rest = &name[common..];
                let mut key = [0; 8];
                put(&mut key, 0, &rest[..rest.len().min(8)]);
                (u64::from_be_bytes(key), number)
            })
            .collect();
        order.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| self.names[a.1 as usize].cmp(&self.names[b.1 as usize]))
        });
        order.into_iter().map(|(_, number)| number).collect()
    }

    /// The column of streams, with streams numbered in the order of their names.
    fn sorted_streams_of(&self, order: &[u32]) -> Vec<u32> {
        let mut place = vec![0; order.len()];
        (0..).zip(order).for_each(|(sorted, &number)| place[number as usize] = sorted);
        self.streams_of.iter().map(|&number| place[number as usize]).collect()
    }

    /// The epochs, without those that an EPOCH frame at the same offset replaced.
    fn epochs_by_offset(&self) -> Vec<(u64, u64)> {
        let mut epochs = self.epochs.clone();
        epochs.reverse();
        epochs.dedup_by_key(|row| row.0);
        epochs.reverse();
        epochs
    }

    /// The kinds in order of first use, and the column of their numbers.
    fn numbered_kinds(&self) -> (Vec<u16>, Vec<u32>) {
        const UNUSED: u32 = u32::MAX;
        let mut kinds = Vec::new();
        // By the kind's two bytes: one table of all kinds would be large for a segment that has few.
        let mut number_of: [Option<Box<[u32; 256]>>; 256] = [const { None }; 256];
        let numbers = self.kinds_of.iter().map(|&kind| {
            let numbers = number_of[usize::from(kind >> 8)].get_or_insert_with(|| Box::new([UNUSED; 256]));
            let number = &mut numbers[usize::from(kind & 0xff)];
            if *number == UNUSED {
                *number = kinds.len() as u32;
                kinds.push(kind);
            }
            *number
        });
        let numbers = numbers.collect();
        (kinds, numbers)
    }

    /// The ordinals between the cancelled ranges.
    fn live_runs(&self) -> Vec<Range<u32>> {
        let mut runs = Vec::with_capacity(self.cancelled.len() + 1);
        let mut start = 0;
        for &(from, to) in &self.cancelled {
            runs.push(start..(from - self.base) as u32);
            start = (to - self.base) as u32;
        }
        runs.push(start..self.offsets.len() as u32);
        runs
    }

    /// All streams by hash, and a filter of those that have an event which is not cancelled.
    fn table_and_filter(&self, order: &[u32], starts: &[u32], store_id: &StoreId) -> (Vec<u32>, Vec<u8>) {
        let mut table = vec![0; (order.len() * 4 / 3 + 1).next_power_of_two()];
        let mut filter = FilterBuilder::new(order.len());
        let mask = table.len() - 1;
        for ((sorted, &number), bounds) in (0u32..).zip(order).zip(starts.windows(2)) {
            let hash = name_hash(store_id, &self.names[number as usize]);
            if bounds[0] < bounds[1] {
                filter.insert(hash);
            }
            let mut slot = hash as usize & mask;
            while table[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            table[slot] = sorted + 1;
        }
        (table, filter.finish())
    }

    fn encode_streams(&self, order: &[u32], starts: &[u32], out: &mut Vec<u8>) {
        let mut name_offset = 0;
        for (bounds, &number) in starts.windows(2).zip(order) {
            let number = number as usize;
            let name_length = self.names[number].len();
            let row = StreamRow {
                name_offset: u32::try_from(name_offset).expect("the names of one segment have less than 4 GiB"),
                name_length: u16::try_from(name_length).expect("an entity has at most 1024 bytes"),
                postings_start: bounds[0],
                postings_count: bounds[1] - bounds[0],
                first_clock: self.first_clocks[number],
                last_clock: self.last_clocks[number],
                last_sequence: self.last_sequences[number],
            };
            assert!(row.is_valid(), "a stream without events has a head");
            out.extend_from_slice(&row.encode());
            name_offset += name_length;
        }
    }

    /// Reads the whole file of the index of the segment with that base.
    pub fn decode(file: &[u8], store_id: &StoreId, base: u64) -> Result<IndexContent, Malformed> {
        let content = checked_content(file, store_id, base)?;
        let header = IndexHeader::decode(&content)?;
        header.check_place(store_id, base)?;
        if header.file_length() != file.len() as u64 {
            return Err(Malformed::damaged("the index file's length is not the one in its header"));
        }
        let sections = Sections { header: &header, content: &content };
        let mut index = IndexContent {
            base,
            partial: header.partial,
            log_end: header.log_end,
            first_time_us: header.first_time_us,
            last_time_us: header.last_time_us,
            last_epoch: header.last_epoch,
            offsets: sections.column(index::OFFSETS)?,
            streams_of: sections.column(index::EVENT_STREAMS)?,
            scopes_of: sections.column(index::EVENT_SCOPES)?,
            scopes: decode_scopes(sections.bytes(index::SCOPES), sections.count(index::SCOPES))?,
            epochs: decode_epochs(sections.bytes(index::EPOCHS))?,
            controls: decode_controls(sections.bytes(index::CONTROLS))?,
            ..IndexContent::default()
        };
        let event_count = index.offsets.len();
        let kinds = decode_kinds(sections.bytes(index::KINDS))?;
        let kind_numbers = sections.column(index::EVENT_KINDS)?;
        let kind = |number: u32| kinds.get(number as usize).copied().ok_or_else(|| refers_to_nothing("kind"));
        index.kinds_of = kind_numbers.into_iter().map(kind).collect::<Result<_, _>>()?;
        if index.scopes_of.iter().any(|&scope| scope as usize >= index.scopes.len()) {
            return Err(refers_to_nothing("scope"));
        }
        let columns = [index.streams_of.len(), index.scopes_of.len(), index.kinds_of.len()];
        if header.event_count != event_count as u64 || columns != [event_count; 3] {
            return Err(Malformed::damaged("the columns of the index differ in length"));
        }
        index.cancelled = decode_cancelled(sections.bytes(index::CANCELLED), base, header.event_count)?;
        index.decode_streams(&sections)?;
        index.keys = decode_keys(sections.bytes(index::KEYS), header.event_count)?;
        let mut has_key = vec![false; event_count];
        if index.keys.iter().any(|key| std::mem::replace(&mut has_key[key.1 as usize], true)) {
            return Err(Malformed::damaged("an event of the index has two keys"));
        }
        let filter = sections.bytes(index::KEY_FILTER);
        if index.keys.iter().any(|key| !filter_contains(filter, key.0)) {
            return Err(Malformed::damaged("the filter of the index denies one of its keys"));
        }
        Ok(index)
    }

    /// Conditions 2 to 5 for the streams, whose column is there already.
    fn decode_streams(&mut self, sections: &Sections<'_>) -> Result<(), Malformed> {
        let mut names = sections.bytes(index::NAMES);
        let mut name_offset = 0;
        let mut starts = vec![0];
        for row in sections.bytes(index::STREAMS).chunks_exact(STREAM_ROW_BYTES) {
            let row = StreamRow::decode(&super::array_at(row, 0));
            let is_next = row.name_offset as usize == name_offset && row.postings_start == starts[starts.len() - 1];
            let cut = names.split_at_checked(usize::from(row.name_length));
            let end = row.postings_start.checked_add(row.postings_count);
            let (Some((name, rest)), Some(end), true) = (cut, end, is_next && row.is_valid()) else {
                return Err(Malformed::damaged("a stream of the index is not valid"));
            };
            if self.names.last().is_some_and(|last| **last >= *name) {
                return Err(Malformed::damaged("the streams of the index are not in order"));
            }
            names = rest;
            name_offset += name.len();
            self.names.push(name.into());
            self.first_clocks.push(row.first_clock);
            self.last_clocks.push(row.last_clock);
            self.last_sequences.push(row.last_sequence);
            starts.push(end);
        }
        if self.streams_of.iter().any(|&stream| stream as usize >= self.names.len()) {
            return Err(refers_to_nothing("stream"));
        }
        let expected = postings(&self.streams_of, self.names.len(), &self.live_runs());
        if (starts, sections.column(index::POSTINGS)?) != expected {
            return Err(Malformed::damaged("the postings of the index are not those of its events"));
        }
        if !self.names.is_empty() && sections.count(index::STREAM_TABLE) <= self.names.len() as u64 {
            return Err(Malformed::damaged("the stream table of the index is too small"));
        }
        Ok(())
    }

    /// The number of the stream of that name, by the file's own table: what a reader in place does, for a whole file.
    pub fn find_stream(file: &[u8], store_id: &StoreId, base: u64, name: &[u8]) -> Result<Option<u32>, Malformed> {
        let content = checked_content(file, store_id, base)?;
        let header = IndexHeader::decode(&content)?;
        let sections = Sections { header: &header, content: &content };
        let (table, streams) = (sections.bytes(index::STREAM_TABLE), sections.bytes(index::STREAMS));
        let slots = table.len() / 4;
        let hash = name_hash(store_id, name);
        for probe in 0..slots {
            let slot = (hash as usize).wrapping_add(probe) & (slots - 1);
            let Some(number) = u32_at(table, 4 * slot).checked_sub(1) else {
                return Ok(None);
            };
            let row = streams.get(number as usize * STREAM_ROW_BYTES..).and_then(|rest| rest.first_chunk());
            let Some(row) = row.map(StreamRow::decode) else {
                return Err(refers_to_nothing("stream"));
            };
            let found = sections.bytes(index::NAMES).get(row.name_offset as usize..);
            if found.and_then(|found| found.get(..usize::from(row.name_length))) == Some(name) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}

fn refers_to_nothing(what: &str) -> Malformed {
    Malformed::damaged(format!("the index refers to a {what} that it does not have"))
}

/// For each stream where its ordinals begin, and a last row where they end; and the ordinals, which are those of the runs. O(events).
fn postings(streams_of: &[u32], stream_count: usize, runs: &[Range<u32>]) -> (Vec<u32>, Vec<u32>) {
    let of_run = |run: &Range<u32>| &streams_of[run.start as usize..run.end as usize];
    let mut starts = vec![0u32; stream_count + 1];
    runs.iter().flat_map(of_run).for_each(|&stream| starts[stream as usize + 1] += 1);
    for stream in 0..stream_count {
        starts[stream + 1] += starts[stream];
    }
    let mut next = starts.clone();
    let mut ordinals = vec![0; starts[stream_count] as usize];
    for run in runs {
        for (ordinal, &stream) in run.clone().zip(of_run(run)) {
            let next = &mut next[stream as usize];
            ordinals[*next as usize] = ordinal;
            *next += 1;
        }
    }
    (starts, ordinals)
}

/// Writes sections one after the other, behind the room for header and directory.
struct SectionWriter {
    stream: Vec<u8>,
    sections: Vec<Section>,
}

/// How many sections [`IndexContent::encode`] writes besides those of keys and cancelled ranges.
const SECTIONS_ALWAYS: usize = 13;

impl SectionWriter {
    /// For so many sections.
    fn new(sections: usize, capacity: usize) -> SectionWriter {
        let mut stream = Vec::with_capacity(PAGE_BYTES + capacity);
        stream.resize(INDEX_HEADER_BYTES + sections * SECTION_BYTES, 0);
        SectionWriter { stream, sections: Vec::with_capacity(sections) }
    }

    fn section(&mut self, kind: u32, count: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.stream.resize(align8(self.stream.len()), 0);
        let offset = self.stream.len();
        write(&mut self.stream);
        let length = self.stream.len() - offset;
        self.sections.push(Section { kind, offset: offset as u64, length: length as u64, count: count as u64 });
    }

    fn finish(mut self, index: &IndexContent, store_id: &StoreId) -> Vec<u8> {
        let directory_end = INDEX_HEADER_BYTES + self.sections.len() * SECTION_BYTES;
        assert_eq!(self.sections.first().map(|first| first.offset), Some(directory_end as u64));
        let header = IndexHeader {
            store_id: *store_id,
            base: index.base,
            partial: index.partial,
            event_count: index.offsets.len() as u64,
            log_end: index.log_end,
            first_time_us: index.first_time_us,
            last_time_us: index.last_time_us,
            last_epoch: index.last_epoch,
            stream_length: self.stream.len() as u64,
            sections: self.sections,
        };
        put(&mut self.stream, 0, &header.encode());
        self.stream
    }
}

/// The sections of an index in memory.
struct Sections<'a> {
    header: &'a IndexHeader,
    content: &'a [u8],
}

impl<'a> Sections<'a> {
    /// Empty for an absent section. The header's check has put all others into the stream of contents.
    fn bytes(&self, kind: u32) -> &'a [u8] {
        let range = self.header.section(kind).map(|section| section.offset as usize..section.end() as usize);
        range.and_then(|range| self.content.get(range)).unwrap_or_default()
    }

    fn count(&self, kind: u32) -> u64 {
        self.header.section(kind).map_or(0, |section| section.count)
    }

    fn column(&self, kind: u32) -> Result<Vec<u32>, Malformed> {
        let mut values = Vec::new();
        if let Some(section) = self.header.section(kind) {
            PackedView::new(self.bytes(kind), section.count as usize)?.unpack_all(&mut values)?;
        }
        Ok(values)
    }
}

/// The stream of contents of an index file, all pages checked. Its length is what the header says, if the file has it.
fn checked_content(file: &[u8], store_id: &StoreId, base: u64) -> Result<Vec<u8>, Malformed> {
    let seed = page_seed(store_id, base);
    let mut content = Vec::with_capacity(file.len());
    for (number, page) in (0..).zip(file.chunks(PAGE_BYTES)) {
        if !check_page(page, seed, number) {
            return Err(Malformed::damaged(format!("page {number} of the index is damaged")));
        }
        content.extend_from_slice(&page[..PAGE_CONTENT]);
    }
    let header = IndexHeader::decode(&content)?;
    if page_count(header.stream_length) != page_count(content.len() as u64) {
        return Err(Malformed::damaged("the index file's length is not the one in its header"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::super::filter::filter_contains;
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    const STORE: StoreId = StoreId(*b"ABCDEFGHIJKLMNOP");

    /// Events of which stream `stream(i)` is the i-th's.
    fn index_of(events: u32, names: &[&[u8]], stream: impl Fn(u32) -> u32) -> IndexContent {
        let mut index = IndexContent {
            base: 1000,
            partial: true,
            log_end: 128 + 232 * u64::from(events),
            first_time_us: 5,
            last_time_us: 6,
            last_epoch: 3,
            scopes: vec![b"main".to_vec(), b"other".to_vec()],
            epochs: vec![(128, 2), (360, 3)],
            controls: vec![(128, 1000, 0x10)],
            ..IndexContent::default()
        };
        for name in names {
            index.names.push(name.to_vec().into());
            index.first_clocks.push(0);
            index.last_clocks.push(0);
            index.last_sequences.push(0);
        }
        for i in 0..events {
            let stream = stream(i);
            index.offsets.push(16 + 29 * i);
            index.streams_of.push(stream);
            index.scopes_of.push(i % 2);
            index.kinds_of.push(0x1000 + (i % 5) as u16);
            index.last_clocks[stream as usize] += 1;
            index.last_sequences[stream as usize] = 1000 + u64::from(i);
        }
        index
    }

    /// The same index with its streams in the order of their names.
    fn sorted(index: &IndexContent) -> IndexContent {
        let mut order: Vec<u32> = (0..index.names.len() as u32).collect();
        order.sort_by_key(|&number| &index.names[number as usize]);
        let mut sorted = index.clone();
        for (place, &number) in order.iter().enumerate() {
            sorted.names[place] = index.names[number as usize].clone();
            sorted.first_clocks[place] = index.first_clocks[number as usize];
            sorted.last_clocks[place] = index.last_clocks[number as usize];
            sorted.last_sequences[place] = index.last_sequences[number as usize];
        }
        for stream in &mut sorted.streams_of {
            *stream = order.iter().position(|number| number == stream).unwrap() as u32;
        }
        sorted
    }

    /// The same index with cancelled ordinals and a key at every third event; some share a hash.
    fn with_keys_and_cancelled(mut index: IndexContent, cancelled: &[Range<u32>]) -> IndexContent {
        let sequence = |ordinal: u32| index.base + u64::from(ordinal);
        index.cancelled = cancelled.iter().map(|range| (sequence(range.start), sequence(range.end))).collect();
        for stream in 0..index.names.len() {
            let is_live = |ordinal: u32| !cancelled.iter().any(|range| range.contains(&ordinal));
            if !(0..).zip(&index.streams_of).any(|(ordinal, &of)| of as usize == stream && is_live(ordinal)) {
                index.first_clocks[stream] = 0;
                index.last_clocks[stream] = 0;
                index.last_sequences[stream] = 0;
            }
        }
        let key = |ordinal: u32| (name_hash(&STORE, &(ordinal % 100).to_le_bytes()), ordinal);
        index.keys = (0..index.offsets.len() as u32).step_by(3).map(key).collect();
        index.keys.sort_unstable();
        index
    }

    const NAMES: [&[u8]; 6] = [b"user:zoe", b"user:al", b"user:alice", b"user:a", b"user:alicf", b"user:\xC3\xBC"];

    #[test]
    fn an_index_round_trips_with_sorted_streams() {
        let index = index_of(700, &NAMES, |i| (i * i + i / 3) % 6);
        let file = index.encode(&STORE);
        assert_eq!(file.len() % PAGE_BYTES, 0);
        assert_eq!(IndexContent::decode(&file, &STORE, 1000), Ok(sorted(&index)));
    }

    /// Keys, ranges and streams without a live event come back as they were, and such a stream is not in the filter.
    #[test]
    fn keys_and_cancelled_ranges_round_trip() {
        let by_stream = |i: u32| if i < 40 { 5 } else { i % 5 };
        let (some, all) = ([0..40, 699..700], 0..700);
        for cancelled in [&some[..1], &some, &[3..4, 5..9, 690..700], std::slice::from_ref(&all)] {
            let index = with_keys_and_cancelled(index_of(700, &NAMES, by_stream), cancelled);
            let file = index.encode(&STORE);
            assert_eq!(IndexContent::decode(&file, &STORE, 1000), Ok(sorted(&index)));
            assert!(IndexContent::find_stream(&file, &STORE, 1000, NAMES[5]).is_ok_and(|found| found.is_some()));
            let content = checked_content(&file, &STORE, 1000).unwrap();
            let header = IndexHeader::decode(&content).unwrap();
            let filter = Sections { header: &header, content: &content }.bytes(index::FILTER);
            if cancelled[0] == (0..40) {
                assert!(!filter_contains(filter, name_hash(&STORE, NAMES[5])));
            }
        }
    }

    #[test]
    fn an_event_has_at_most_one_key() {
        let mut index = index_of(3, &NAMES, |i| i);
        index.keys = vec![(7, 1), (9, 1)];
        assert!(IndexContent::decode(&index.encode(&STORE), &STORE, 1000).is_err());
    }

    #[test]
    fn an_index_of_nothing_is_one_page() {
        let index = IndexContent { epochs: vec![(128, 1)], log_end: 168, ..IndexContent::default() };
        let file = index.encode(&STORE);
        assert_eq!(file.len(), PAGE_BYTES);
        assert_eq!(IndexContent::decode(&file, &STORE, 0), Ok(index));
        assert_eq!(IndexContent::find_stream(&file, &STORE, 0, b"a"), Ok(None));
    }

    #[test]
    fn an_epoch_at_the_first_frame_replaces_the_headers() {
        let index = IndexContent { epochs: vec![(128, 1), (128, 2), (400, 3)], ..IndexContent::default() };
        let decoded = IndexContent::decode(&index.encode(&STORE), &STORE, 0).unwrap();
        assert_eq!(decoded.epochs, [(128, 2), (400, 3)]);
    }

    #[test]
    fn streams_are_found_by_table_and_filter() {
        let names: Vec<Vec<u8>> = (0..3000).map(|i| format!("entity:{:07}", i * 7919 % 3000).into_bytes()).collect();
        let index = index_of(3000, &names.iter().map(Vec::as_slice).collect::<Vec<_>>(), |i| i);
        let file = index.encode(&STORE);
        let content = checked_content(&file, &STORE, 1000).unwrap();
        let header = IndexHeader::decode(&content).unwrap();
        let filter = Sections { header: &header, content: &content }.bytes(index::FILTER);
        for i in (0..3000).step_by(37) {
            let name = format!("entity:{i:07}").into_bytes();
            assert_eq!(IndexContent::find_stream(&file, &STORE, 1000, &name), Ok(Some(i)));
            assert!(filter_contains(filter, name_hash(&STORE, &name)));
        }
        assert_eq!(IndexContent::find_stream(&file, &STORE, 1000, b"entity:0003000"), Ok(None));
    }

    #[test]
    fn damage_and_other_places_are_detected() {
        let index = index_of(700, &NAMES, |i| i % 6);
        let file = index.encode(&STORE);
        for byte in (0..file.len()).step_by(61) {
            let mut damaged = file.clone();
            damaged[byte] ^= 0x10;
            assert!(IndexContent::decode(&damaged, &STORE, 1000).is_err(), "byte {byte}");
        }
        for length in (0..file.len()).step_by(509).chain([PAGE_BYTES]) {
            assert!(IndexContent::decode(&file[..length], &STORE, 1000).is_err(), "{length} bytes");
        }
        let longer = [&file[..], &seal_pages(&[], &STORE, 1000)].concat();
        assert!(IndexContent::decode(&longer, &STORE, 1000).is_ok(), "nothing was added");
        let longer = [&file[..], &file[..PAGE_BYTES]].concat();
        assert!(IndexContent::decode(&longer, &STORE, 1000).is_err());
        assert!(IndexContent::decode(&file, &STORE, 1001).is_err());
        assert!(IndexContent::decode(&file, &StoreId([0; 16]), 1000).is_err());
    }

    /// Damage under right checksums: made by a faulty writer, or by hand.
    #[test]
    fn hostile_contents_never_panic() {
        let index = with_keys_and_cancelled(index_of(300, &NAMES, |i| i.min(5 + i % 5) % 6), &[4..6, 200..203]);
        let content = checked_content(&index.encode(&STORE), &STORE, 1000).unwrap();
        let length = IndexHeader::decode(&content).unwrap().stream_length as usize;
        for at in 0..length {
            for value in [0, 1, 0x7F, 0xFF, content[at] ^ 1] {
                let mut hostile = content[..length].to_vec();
                hostile[at] = value;
                let file = seal_pages(&hostile, &STORE, 1000);
                let _ = IndexContent::decode(&file, &STORE, 1000);
                if at % 16 == 0 {
                    let _ = IndexContent::find_stream(&file, &STORE, 1000, NAMES[1]);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn indexes_round_trip(
            names in prop::collection::btree_set(prop::collection::vec(any::<u8>(), 1..12), 1..40),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..400),
            cancelled in prop::collection::btree_set(0..400u32, 0..40),
        ) {
            let names: Vec<&[u8]> = names.iter().rev().map(Vec::as_slice).collect();
            let streams: Vec<u32> = picks.iter().map(|pick| pick.index(names.len()) as u32).collect();
            let index = index_of(streams.len() as u32, &names, |i| streams[i as usize]);
            let mut ranges: Vec<Range<u32>> = Vec::new();
            for &ordinal in cancelled.iter().filter(|&&ordinal| (ordinal as usize) < streams.len()) {
                match ranges.last_mut() {
                    Some(last) if last.end == ordinal => last.end += 1,
                    _ => ranges.push(ordinal..ordinal + 1),
                }
            }
            for index in [with_keys_and_cancelled(index.clone(), &ranges), index] {
                let file = index.encode(&STORE);
                prop_assert_eq!(IndexContent::decode(&file, &STORE, 1000), Ok(sorted(&index)));
            }
        }
    }

    /// Not a test: `cargo test --release index_of_a_whole_segment -- --ignored --nocapture` prints the time.
    #[test]
    #[ignore = "a measurement"]
    fn index_of_a_whole_segment() {
        let names: Vec<Vec<u8>> =
            (0..10_000).map(|i| format!("entity:{:09}", i * 7919 % 10_000).into_bytes()).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let index = index_of(280_000, &names, |i| i.wrapping_mul(2_654_435_761) % 10_000);
        for _ in 0..5 {
            let start = Instant::now();
            let file = index.encode(&STORE);
            let encoded = start.elapsed();
            let start = Instant::now();
            assert!(IndexContent::decode(&file, &STORE, 1000).is_ok());
            println!("{} bytes, encoded in {encoded:?}, decoded in {:?}", file.len(), start.elapsed());
        }
    }
}
