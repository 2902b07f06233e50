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
        ..IndexContent::default()
    };
    // Streams in order of first use, without those whose append was refused.
    let mut numbers: Vec<u32> = vec![u32::MAX; index.stream_count()];
    let mut counts: Vec<u64> = Vec::new();
    index.with_names(|entities, scopes| {
        for entry in (0..count as u32).map_while(|ordinal| index.entry(ordinal)) {
            let number = &mut numbers[entry.stream as usize];
            if *number == u32::MAX {
                *number = content.names.len() as u32;
                content.names.push(entities.name(entry.stream).into());
                let head = index.heads().head(entry.stream);
                content.last_clocks.push(head.next_clock.wrapping_sub(1));
                content.last_sequences.push(head.last_sequence);
                counts.push(0);
            }
            counts[*number as usize] += 1;
            content.offsets.push((entry.offset / 8) as u32);
            content.streams_of.push(*number);
            content.scopes_of.push(u32::from(entry.scope));
            content.kinds_of.push(entry.kind);
        }
        content.scopes = (0..scopes.len() as u32).map(|number| scopes.name(number).into()).collect();
    });
    content.first_clocks =
        content.last_clocks.iter().zip(&counts).map(|(last, count)| (last + 1).saturating_sub(*count)).collect();
    content.encode(store_id)
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
        memory.insert_scope(memory.hash(&scope), &scope);
    }
    let columns = index.columns()?;
    for (name, row) in index.streams()? {
        // Each of these streams has an event here, so the link before the first one is never asked for.
        let seed = StreamHead { next_clock: row.first_clock, ..StreamHead::NEW };
        memory.insert_stream(memory.hash(&name), &name, seed);
    }
    let kinds = index.kinds()?;
    let (first_time_us, last_time_us) = index.times_us();
    for ordinal in 0..columns.offsets.len() {
        let entry = IndexEntry {
            offset: u64::from(columns.offsets[ordinal]) * 8,
            kind: kinds
                .get(columns.kinds[ordinal] as usize)
                .copied()
                .ok_or_else(|| index.inconsistent("a kind number"))?,
            scope: columns.scopes[ordinal] as u16,
            stream: match columns.streams[ordinal] {
                stream if (stream as usize) < memory.stream_count() => stream,
                _ => return Err(index.inconsistent("a stream number")),
            },
        };
        memory.push(entry, if ordinal == 0 { first_time_us } else { last_time_us });
    }
    memory.set_log_end(index.log_end());
    Ok(memory)
}
