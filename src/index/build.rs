//! Between the two forms of an index: a [`MemoryIndex`] becomes the bytes of an `.idx`, and the partial `.idx` of a clean close becomes the
//! memory index of the active segment again.

use crate::error::Result;
use crate::event::StoreId;
use crate::format::IndexContent;

use super::StreamHead;
use super::memory::{ControlEntry, IndexEntry, MemoryIndex};
use super::sealed::SealedIndex;

/// The bytes of the `.idx` file. Nobody appends to the index any more, or the caller holds the append lock.
pub(crate) fn encode(index: &MemoryIndex, store_id: &StoreId, partial: bool) -> Vec<u8> {
    let count = index.count() as usize;
    let mut content = IndexContent {
        base: index.base(),
        partial,
        log_end: index.log_end(),
        first_time_us: index.times_us().0,
        last_time_us: index.times_us().1,
        last_epoch: index.last_epoch(),
        offsets: Vec::with_capacity(count),
        streams_of: Vec::with_capacity(count),
        scopes_of: Vec::with_capacity(count),
        kinds_of: Vec::with_capacity(count),
        epochs: index.epochs(),
        controls: index.controls().iter().map(|c| (c.offset, c.sequence, c.frame_type)).collect(),
        cancelled: index.cancelled_ranges(),
        keys: index.keys(),
        ..IndexContent::default()
    };
    // Streams in order of first use, without those whose append was refused.
    let mut numbers: Vec<u32> = vec![u32::MAX; index.stream_count()];
    let mut counts: Vec<u64> = Vec::new();
    let mut cancelled = Passing::new(index.cancelled_ranges());
    index.with_names(|entities, scopes| {
        for (sequence, entry) in (index.base()..).zip((0..count as u32).map_while(|ordinal| index.entry(ordinal))) {
            let number = &mut numbers[entry.stream as usize];
            if *number == u32::MAX {
                *number = content.names.len() as u32;
                content.names.push(entities.name(entry.stream).into());
                // With a live event the stream has a head, else zeros.
                content.last_clocks.push(index.heads().live_head(entry.stream).map_or(0, |head| head.next_clock - 1));
                content.last_sequences.push(0);
                counts.push(0);
            }
            if !cancelled.contains(sequence) {
                content.last_sequences[*number as usize] = sequence;
                counts[*number as usize] += 1;
            }
            content.offsets.push((entry.offset / 8) as u32);
            content.streams_of.push(*number);
            content.scopes_of.push(u32::from(entry.scope));
            content.kinds_of.push(entry.kind);
        }
        content.scopes = (0..scopes.len() as u32).map(|number| scopes.name(number).into()).collect();
    });
    debug_assert!(
        (0u32..).zip(&numbers).filter(|&(_, &number)| number != u32::MAX).all(|(stream, &number)| {
            let last = (counts[number as usize] > 0).then_some(content.last_sequences[number as usize]);
            index.heads().live_head(stream).map(|head| head.last_sequence) == last
        }),
        "what was cancelled is not what was rewound"
    );
    let first_clock = |(last, count): (&u64, &u64)| if *count == 0 { 0 } else { (last + 1).saturating_sub(*count) };
    content.first_clocks = content.last_clocks.iter().zip(&counts).map(first_clock).collect();
    content.encode(store_id)
}

/// Cancelled ranges, passed in ascending order.
struct Passing {
    ranges: std::iter::Peekable<std::vec::IntoIter<(u64, u64)>>,
}

impl Passing {
    fn new(ranges: Vec<(u64, u64)>) -> Passing {
        Passing { ranges: ranges.into_iter().peekable() }
    }

    /// Whether the sequence, above all that were asked for before, lies in a range.
    fn contains(&mut self, sequence: u64) -> bool {
        while self.ranges.next_if(|&(_, end)| end <= sequence).is_some() {}
        self.ranges.peek().is_some_and(|&(start, _)| start <= sequence)
    }
}

/// The memory index of the active segment from its partial index. Every page read is checked; an index that does not
/// hold together is an error, and the caller scans the segment instead.
pub(crate) fn load(index: &SealedIndex, store_id: &StoreId) -> Result<MemoryIndex> {
    let epochs = index.epochs()?;
    let (start, epoch) = epochs.first().copied().unwrap_or((crate::format::segment::SEGMENT_HEADER_BYTES as u64, 1));
    let memory = MemoryIndex::new(*store_id, index.base(), epoch, start);
    for &(offset, epoch) in epochs.iter().skip(1) {
        memory.push_epoch(offset, epoch);
    }
    for (offset, sequence, frame_type) in index.controls()? {
        memory.push_control(ControlEntry { offset, sequence, frame_type });
    }
    for scope in index.scopes()? {
        memory.make_room_for_names(0, scope.len())?;
        memory.insert_scope(memory.hash(&scope), &scope);
    }
    let scopes = memory.scopes().len();
    let columns = index.columns()?;
    for (name, row) in index.streams()? {
        // Of a stream with a live event here, the link before the first one is never asked for. Of the others nothing is known.
        let next_clock = if row.postings_count == 0 { u64::MAX } else { row.first_clock };
        if row.first_clock > index.base() + u64::from(index.count()) {
            return Err(index.inconsistent("a stream's clock"));
        }
        memory.make_room_for_names(name.len(), 0)?;
        memory.insert_stream(memory.hash(&name), &name, StreamHead { next_clock, ..StreamHead::NEW });
    }
    let ranges = index.cancelled_ranges()?;
    let mut cancelled = Passing::new(ranges.clone());
    let keys = index.keys()?;
    let key_count = keys.len();
    let mut key_of = vec![None; if keys.is_empty() { 0 } else { columns.offsets.len() }];
    for (hash, ordinal) in keys {
        match key_of.get_mut(ordinal as usize).map(|key| key.replace(hash)) {
            Some(None) => {}
            _ => return Err(index.inconsistent("a key")),
        }
    }
    let kinds = index.kinds()?;
    let (first_time_us, last_time_us) = index.times_us();
    memory.make_room(columns.offsets.len(), key_count)?;
    for ordinal in 0..columns.offsets.len() {
        let entry = IndexEntry {
            offset: u64::from(columns.offsets[ordinal]) * 8,
            kind: kinds
                .get(columns.kinds[ordinal] as usize)
                .copied()
                .ok_or_else(|| index.inconsistent("a kind number"))?,
            scope: match columns.scopes[ordinal] {
                scope if (scope as usize) < scopes => scope as u16,
                _ => return Err(index.inconsistent("a scope number")),
            },
            stream: match columns.streams[ordinal] {
                stream if (stream as usize) < memory.stream_count() => stream,
                _ => return Err(index.inconsistent("a stream number")),
            },
        };
        let time_us = if ordinal == 0 { first_time_us } else { last_time_us };
        match cancelled.contains(index.base() + ordinal as u64) {
            true => memory.push_rewound(entry, time_us),
            false if memory.heads().known_head(entry.stream).is_none() => {
                return Err(index.inconsistent("a stream without events"));
            }
            false => _ = memory.push(entry, time_us),
        }
        if let Some(&Some(hash)) = key_of.get(ordinal) {
            memory.push_key(hash, ordinal as u32);
        }
    }
    memory.cancel(&ranges);
    memory.set_log_end(index.log_end());
    Ok(memory)
}
