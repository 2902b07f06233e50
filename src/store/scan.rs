//! Finding and reading a region's events.
//!
//! A scan remembers where it is: which ordinals of the current segment match (computed once per span, from the index), or, for a region that
//! matches everything, the byte where the next frame begins. So a poll costs what it delivers, plus one index look-up per segment
//! or span entered, wherever the cursor stands.
//!
//! Every frame is verified when it is read: header and payload checksums under the epoch's seed, and its sequence.

mod backward;

pub(crate) use backward::BackwardScan;

use std::cell::Cell;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::{BatchBuilder, Buffer, EntityMatch, EventBatch, EventFields, Region, make_room, zeros};
use crate::format::frame::{self, DecodedEvent};
use crate::format::segment::seed;
use crate::format::{Malformed, align8, control};
use crate::io::File;
use crate::log::damaged;
use crate::sync::atomic::Ordering;

use super::segments::{Index, Segment};
use super::{Inner, Store};

/// Events whose columns are looked at in one span when no posting list leads to the matches: bounds the time to the first match
/// of a poll, and the memory of the list.
const SPAN_EVENTS: u32 = 1 << 16;
/// Bytes read at once when events lie one behind the other.
const READ_BYTES: (usize, usize) = (64 << 10, 1 << 20);
/// No event's frame is longer.
const FRAME_BYTES_MAX: u64 = crate::event::PAYLOAD_BYTES_MAX_LIMIT as u64 + (1 << 20);
/// Matches this near to each other are read in one piece.
const GAP_BYTES: u64 = 2 << 10;

/// What a poll may deliver.
#[derive(Debug, Clone, Copy)]
struct Limits {
    events: usize,
    payload_bytes: u64,
}

impl Limits {
    fn reached(&self, batch: &BatchBuilder) -> bool {
        batch.len() >= self.events || !batch.is_empty() && batch.payload_bytes() as u64 >= self.payload_bytes
    }

    fn admits(&self, batch: &BatchBuilder, payload: usize) -> bool {
        batch.is_empty() || (batch.payload_bytes() + payload) as u64 <= self.payload_bytes
    }
}

/// One region's way through the log.
#[derive(Debug)]
pub(crate) struct Scan {
    region: Region,
    unfiltered: bool,
    /// Segment base that `found` and `byte` are about.
    base: u64,
    /// Where the next look is expected; anything else starts anew.
    expected: u64,
    /// Matching ordinals not delivered yet: `found[next..]`, all of the span that ends before ordinal `span_end`.
    found: Vec<u32>,
    next: usize,
    span_end: u32,
    /// Unfiltered only: the byte where the frame of `expected` begins.
    byte: Option<u64>,
    places: Vec<(u64, u64)>,
    /// Start and length of what is read at once.
    pieces: Vec<(u64, usize)>,
    causes: Vec<[u8; 16]>,
}

/// Where reading from one segment ended.
#[derive(Debug, Clone, Copy)]
struct Reached {
    /// The sequence to go on at.
    sequence: u64,
    /// The next match does not fit the batch any more.
    full: bool,
}

/// A segment as a scan sees it.
struct Place<'a> {
    inner: &'a Inner,
    segment: &'a Arc<Segment>,
    /// The next segment's base, or the visible mark.
    end: u64,
    file: Arc<dyn File>,
    /// The epoch that was asked for last, and its seed.
    seed_of: Cell<Option<(u64, u32)>>,
}

impl Scan {
    pub fn new(region: &Region) -> Scan {
        Scan {
            region: region.clone(),
            unfiltered: region.is_unfiltered(),
            base: 0,
            expected: u64::MAX,
            found: Vec::new(),
            next: 0,
            span_end: 0,
            byte: None,
            places: Vec::new(),
            pieces: Vec::new(),
            causes: Vec::new(),
        }
    }

    /// Reads matching visible events from sequence `from` on, in order, at most `events` and `payload_bytes` (the first comes even above
    /// it). Returns them and the new bound: every match below it was below `from` or is in the batch.
    pub fn next(&mut self, store: &Store, from: u64, events: usize, payload_bytes: u64) -> Result<(EventBatch, u64)> {
        let inner = &*store.inner;
        let limits = Limits { events: events.max(1), payload_bytes };
        let mut batch = BatchBuilder::with_pool(&inner.pool, limits.events.min(1024))?;
        let mut at = from;
        // Until this look ends well, the next one starts anew.
        if at != std::mem::replace(&mut self.expected, u64::MAX) {
            self.forget();
        }
        loop {
            inner.check_usable()?;
            inner.expire_fences();
            let visible = inner.marks.visible.load(Ordering::Acquire);
            if at >= visible || limits.reached(&batch) {
                break;
            }
            let segments = inner.segments();
            let number = segments.partition_point(|segment| segment.base <= at) - 1;
            let segment = &segments[number];
            let next_base = segments.get(number + 1).map(|next| next.base);
            let end = next_base.unwrap_or(u64::MAX).min(visible);
            if self.base != segment.base {
                self.forget();
                self.base = segment.base;
            }
            let place = Place { inner, segment, end, file: segment.data.get()?, seed_of: Cell::new(None) };
            let result = if self.unfiltered {
                self.read_run(&place, next_base.unwrap_or(visible), at, &limits, &mut batch)
            } else {
                self.read_matches(&place, next_base.unwrap_or(visible), at, &limits, &mut batch)
            };
            match result {
                Ok(reached) => {
                    at = reached.sequence;
                    if reached.full {
                        break;
                    }
                }
                // What was read before the damage is delivered; the next look meets it again.
                Err(_) if !batch.is_empty() => {
                    self.forget();
                    at = batch.last_sequence().map_or(at, |last| last + 1);
                    break;
                }
                Err(error) => {
                    self.forget();
                    return Err(error);
                }
            }
        }
        self.expected = at;
        Ok((batch.finish(), at))
    }

    fn forget(&mut self) {
        self.found.clear();
        self.next = 0;
        self.span_end = 0;
        self.byte = None;
    }

    /// Delivers consecutive events from one segment.
    fn read_run(
        &mut self,
        place: &Place<'_>,
        index_end: u64,
        from: u64,
        limits: &Limits,
        batch: &mut BatchBuilder,
    ) -> Result<Reached> {
        let ordinal = (from - place.segment.base) as u32;
        let library = &place.inner.library;
        let (start, epochs_of, average, log_end) = place.segment.with_index(library, index_end, |index| {
            let start = match self.byte {
                Some(byte) => byte,
                None => index.offset(ordinal)?,
            };
            let log_end = index.log_end();
            Ok((start, index.clone(), (log_end / u64::from(index.count().max(1))).saturating_add(8), log_end))
        })?;
        let mut seed_now = place.seed(&epochs_of, start);
        // What an index says of the log's end may be anything.
        let wanted = ((limits.events - batch.len()).min((place.end - from) as usize) as u64).saturating_mul(average);
        // A tail that is followed live has little new: no more is read than there is.
        let wanted =
            wanted.clamp(READ_BYTES.0 as u64, READ_BYTES.1 as u64).min(log_end.saturating_sub(start).max(1)) as usize;
        let mut buffer = place.inner.pool.take(wanted)?;
        let mut filled = place.file.read_at(&mut buffer[..wanted], start)?;
        if frame::peek(&buffer[..filled]).is_some_and(|peek| peek.length > filled && peek.sequence == from) {
            // One frame larger than a usual read.
            let length = frame::peek(&buffer[..filled]).map_or(0, |peek| peek.length);
            let left = place.file.length()?.saturating_sub(start);
            if length as u64 > left {
                return Err(place.damage(start, from, "the frame is cut off by the end of the file"));
            }
            buffer = place.inner.pool.take(length)?;
            filled = place.file.read_at(&mut buffer[..length], start)?;
        }
        let number = batch.add_buffer(buffer);
        let (mut at, mut sequence, mut full) = (0, from, false);
        while sequence < place.end && !limits.reached(batch) {
            // The padding after the last frame may lie beyond what was read.
            let bytes = &batch.buffer(number)[at.min(filled)..filled];
            let Some(peek) = frame::peek(bytes).filter(|peek| peek.length <= bytes.len()) else {
                let is_cut = bytes.len() >= frame::FRAME_HEADER_BYTES && frame::peek(bytes).is_none();
                // Behind a control frame the next look begins with the event, however large it is.
                if at == 0 || is_cut {
                    return Err(place.damage(start + at as u64, sequence, "no frame stands here"));
                }
                break;
            };
            let offset = start + at as u64;
            if peek.frame_type != frame::TYPE_EVENT {
                seed_now = place.control_seed(&bytes[..peek.length], peek.frame_type, seed_now, offset, sequence)?;
                at += align8(peek.length);
                continue;
            }
            let event = frame::decode_event(&bytes[..peek.length], seed_now, place.inner.tag, true)
                .map_err(|malformed| damaged(place.segment.data.path(), offset, sequence, malformed))?;
            if event.sequence != sequence {
                return Err(place.damage(offset, sequence, "another event stands here"));
            }
            let padded = event.padded_length();
            if !place.delivers(None, &event)? {
                at += padded;
                sequence += 1;
                continue;
            }
            if !limits.admits(batch, event.payload.len()) {
                full = true;
                break;
            }
            let fields = fields(&event, at, &mut self.causes);
            push(batch, number, &fields, &self.causes)?;
            at += padded;
            sequence += 1;
        }
        self.byte = Some(start + at as u64);
        Ok(Reached { sequence, full })
    }

    /// Delivers matching events from one segment.
    fn read_matches(
        &mut self,
        place: &Place<'_>,
        index_end: u64,
        from: u64,
        limits: &Limits,
        batch: &mut BatchBuilder,
    ) -> Result<Reached> {
        let base = place.segment.base;
        let library = &place.inner.library;
        if self.next == self.found.len() {
            let start = ((from - base) as u32).max(self.span_end);
            let end = (place.end - base) as u32;
            let span_end = match self.region.entity {
                EntityMatch::Exact(_) | EntityMatch::Prefix(_) if !self.is_spanned(place) => end,
                _ => end.min(start.saturating_add(SPAN_EVENTS)),
            };
            let (region, found) = (&self.region, &mut self.found);
            place.segment.with_index(library, index_end, |index| {
                found.clear();
                index.matches(region, start, span_end, found)
            })?;
            (self.next, self.span_end) = (0, span_end);
            if self.found.is_empty() {
                return Ok(Reached { sequence: base + u64::from(span_end), full: false });
            }
        }
        let count = (self.found.len() - self.next).min(limits.events - batch.len());
        let ordinals = &self.found[self.next..self.next + count];
        let places = &mut self.places;
        let index = place.segment.with_index(library, index_end, |index| {
            places.clear();
            index.places(ordinals, places)?;
            Ok(index.clone())
        })?;
        let (mut done, mut full) = (0, false);
        while done < count && !full {
            let pieces = self.pieces(place, done, count)?;
            let group = pieces.events;
            let mut buffer = place.inner.pool.take(pieces.bytes)?;
            let mut at = 0;
            for &(start, length) in &self.pieces {
                let read = place.file.read_at(&mut buffer[at..at + length], start)?;
                buffer[at + read..at + length].fill(0);
                at += length;
            }
            let number = batch.add_buffer(buffer);
            let (mut piece, mut piece_at) = (0, 0);
            for at in done..done + group {
                let sequence = base + u64::from(self.found[self.next]);
                let offset = self.places[at].0;
                while offset >= self.pieces[piece].0 + self.pieces[piece].1 as u64 {
                    piece_at += self.pieces[piece].1;
                    piece += 1;
                }
                let (start, length) = self.pieces[piece];
                let within = piece_at + (offset - start) as usize;
                let bytes = &batch.buffer(number)[within..piece_at + length];
                let event = place.event(&index, bytes, offset, sequence)?;
                if place.delivers(Some(&self.region), &event)? {
                    if !limits.admits(batch, event.payload.len()) {
                        full = true;
                        break;
                    }
                    let fields = fields(&event, within, &mut self.causes);
                    push(batch, number, &fields, &self.causes)?;
                }
                self.next += 1;
            }
            done += group;
        }
        let ordinal = self.found.get(self.next).copied().unwrap_or(self.span_end);
        Ok(Reached { sequence: base + u64::from(ordinal), full })
    }

    /// Whether the matches of this segment are found by looking at every event's columns.
    fn is_spanned(&self, place: &Place<'_>) -> bool {
        matches!(self.region.entity, EntityMatch::Any)
            || matches!(self.region.entity, EntityMatch::Prefix(_))
                && matches!(place.segment.open_index(), Some(Index::Memory(_)))
    }

    /// Splits the places from `from` on into pieces that are read at once: neighbours together, as many as fill one buffer.
    fn pieces(&mut self, place: &Place<'_>, from: usize, count: usize) -> Result<Pieces> {
        self.pieces.clear();
        let mut pieces = Pieces { events: 0, bytes: 0 };
        for at in from..count {
            let (start, end) = self.places[at];
            if end <= start || self.pieces.last().is_some_and(|&(before, length)| start < before + length as u64) {
                let sequence = place.segment.base + u64::from(self.found[self.next + at - from]);
                return Err(place.damage(start, sequence, "the index gives no place for the event"));
            }
            let length = place.frame_bytes(start, end)? as usize;
            match self.pieces.last_mut() {
                Some((before, so_far))
                    if start - (*before + *so_far as u64) <= GAP_BYTES && pieces.bytes + length <= READ_BYTES.1 =>
                {
                    let longer = (start - *before) as usize + length;
                    pieces.bytes += longer - *so_far;
                    *so_far = longer;
                }
                Some(_) if pieces.bytes + length > READ_BYTES.1 => break,
                _ => {
                    make_room(&mut self.pieces, 1)?;
                    self.pieces.push((start, length));
                    pieces.bytes += length;
                }
            }
            pieces.events += 1;
        }
        Ok(pieces)
    }
}

/// What [`Scan::pieces`] found: so many events in so many bytes.
#[derive(Debug, Clone, Copy)]
struct Pieces {
    events: usize,
    bytes: usize,
}

impl Place<'_> {
    /// Whether a verified event of this segment goes to a reader of `region`, as far as that takes more than what the region asks of the
    /// index: not when its fence was cancelled (what is visible is decided). Every delivery asks here.
    #[inline]
    fn delivers(&self, region: Option<&Region>, event: &DecodedEvent<'_>) -> Result<bool> {
        // The index is open: the event was found in it.
        let is_cancelled = event.fence.is_some()
            && self.segment.with_index(&self.inner.library, self.end, |index| index.is_cancelled(event.sequence))?;
        Ok(!is_cancelled && region.is_none_or(|region| region.matches_clock(event.clock)))
    }

    /// How many bytes to read for the frame at `start`, when the next event's is at `end`: no more than a frame can have, as what follows it can only
    /// be control frames, and where that is much no more than there are.
    fn frame_bytes(&self, start: u64, end: u64) -> Result<u64> {
        let bytes = end.saturating_sub(start).min(FRAME_BYTES_MAX);
        match bytes > READ_BYTES.1 as u64 {
            true => Ok(bytes.min(self.file.length()?.saturating_sub(start))),
            false => Ok(bytes),
        }
    }

    /// The event whose frame `bytes` begin with and the index has at `offset`, verified.
    fn event<'b>(&self, index: &Index, bytes: &'b [u8], offset: u64, sequence: u64) -> Result<DecodedEvent<'b>> {
        let Some(peek) = frame::peek(bytes).filter(|peek| peek.length <= bytes.len()) else {
            return Err(self.damage(offset, sequence, "no frame stands here"));
        };
        let event = frame::decode_event(&bytes[..peek.length], self.seed(index, offset), self.inner.tag, true)
            .map_err(|malformed| damaged(self.segment.data.path(), offset, sequence, malformed))?;
        match event.sequence == sequence {
            true => Ok(event),
            false => Err(self.damage(offset, sequence, "another event stands here")),
        }
    }

    fn seed(&self, index: &Index, offset: u64) -> u32 {
        let epoch = index.epoch_at(offset);
        match self.seed_of.get() {
            Some((of, seed)) if of == epoch => seed,
            _ => {
                let seed = seed(&self.inner.store_id, self.segment.base, epoch);
                self.seed_of.set(Some((epoch, seed)));
                seed
            }
        }
    }

    fn damage(&self, offset: u64, sequence: u64, reason: &str) -> Error {
        damaged(self.segment.data.path(), offset, sequence, Malformed::Damaged { reason: reason.to_owned() })
    }

    /// The seed in force after a control frame, which is verified on the way.
    fn control_seed(&self, bytes: &[u8], frame_type: u8, current: u32, offset: u64, sequence: u64) -> Result<u32> {
        let decoded = match frame_type {
            control::TYPE_EPOCH | control::TYPE_CLOSE => {
                control::decode_self_seeded(bytes, &self.inner.store_id, self.segment.base)
            }
            _ => control::decode_control(bytes, current),
        };
        match decoded {
            Ok((_, control::Control::Epoch { epoch, .. }, _)) => {
                Ok(seed(&self.inner.store_id, self.segment.base, epoch))
            }
            Ok(_) => Ok(current),
            Err(malformed) => Err(damaged(self.segment.data.path(), offset, sequence, malformed)),
        }
    }
}

/// What a batch says of a verified event whose frame begins at `at` of its buffer, and the ids of its causes.
#[inline]
fn fields(event: &DecodedEvent<'_>, at: usize, causes: &mut Vec<[u8; 16]>) -> EventFields {
    causes.clear();
    if event.cause_count > 0 {
        causes.extend(event.causes.ids().map(|id| id.0));
    }
    EventFields {
        sequence: event.sequence,
        clock: event.clock,
        prev_sequence: event.prev_sequence,
        time_us: event.time_us,
        id: event.id.0,
        correlation_id: event.correlation_id.0,
        kind: event.kind,
        schema: event.schema,
        flags: 0,
        entity: at + event.entity_start..at + event.entity_end,
        scope: at + event.scope_start..at + event.scope_end,
        payload: at + event.payload_start..at + event.payload_end,
    }
}

#[inline]
fn push(batch: &mut BatchBuilder, buffer: usize, fields: &EventFields, causes: &[[u8; 16]]) -> Result<()> {
    batch.make_room(causes.len())?;
    batch.push(buffer, fields);
    for &cause in causes {
        batch.push_cause(cause);
    }
    Ok(())
}

/// Reads and verifies one visible event.
pub(super) fn read_one<R>(inner: &Inner, sequence: u64, read: impl Fn(&DecodedEvent<'_>) -> R) -> Result<R> {
    Ok(read_frame(inner, sequence, |_, event| read(event))?.0)
}

/// One visible event as a batch; `None` when it is not delivered.
pub(super) fn read_batch(inner: &Inner, sequence: u64) -> Result<Option<EventBatch>> {
    let mut causes = Vec::new();
    let (fields, bytes) = read_frame(inner, sequence, |place, event| -> Result<_> {
        Ok(place.delivers(None, event)?.then(|| fields(event, 0, &mut causes)))
    })?;
    let Some(fields) = fields? else { return Ok(None) };
    let mut batch = BatchBuilder::new(1)?;
    let number = batch.add_buffer(Buffer::from(bytes));
    push(&mut batch, number, &fields, &causes)?;
    Ok(Some(batch.finish()))
}

/// Reads and verifies one visible event. The bytes returned begin with its frame.
fn read_frame<R>(
    inner: &Inner,
    sequence: u64,
    read: impl FnOnce(&Place<'_>, &DecodedEvent<'_>) -> R,
) -> Result<(R, Vec<u8>)> {
    let segments = inner.segments();
    let number = segments.partition_point(|segment| segment.base <= sequence) - 1;
    let segment = &segments[number];
    let index_end = segments.get(number + 1).map_or(u64::MAX, |next| next.base);
    let place = Place { inner, segment, end: index_end, file: segment.data.get()?, seed_of: Cell::new(None) };
    let ordinal = (sequence - segment.base) as u32;
    let mut places = Vec::with_capacity(1);
    let index = segment.with_index(&inner.library, index_end, |index| {
        places.clear();
        index.places(&[ordinal], &mut places)?;
        Ok(index.clone())
    })?;
    let (start, end) = places[0];
    let mut bytes = zeros(place.frame_bytes(start, end)? as usize)?;
    let filled = place.file.read_at(&mut bytes, start)?;
    bytes.truncate(filled);
    let event = place.event(&index, &bytes, start, sequence)?;
    let answer = read(&place, &event);
    Ok((answer, bytes))
}

/// The first visible sequence whose time is at or after `time_us`. Times never decrease along the sequence.
pub(super) fn first_at_or_after(inner: &Inner, time_us: i64) -> Result<u64> {
    let visible = inner.marks.visible.load(Ordering::Acquire);
    let (mut low, mut high) = (0, visible);
    // Segments first, by the times in their indexes; then events.
    let segments = inner.segments();
    let (mut first, mut last) = (0, segments.len());
    while last - first > 1 {
        let middle = first + (last - first) / 2;
        let end = segments.get(middle + 1).map_or(visible, |next| next.base);
        if segments[middle].base >= visible {
            last = middle;
            continue;
        }
        let begins_us = segments[middle].with_index(&inner.library, end, |index| Ok(index.times_us().0))?;
        if begins_us < time_us { first = middle } else { last = middle }
    }
    low = low.max(segments[first].base);
    high = high.min(segments.get(last).map_or(visible, |segment| segment.base));
    while low < high {
        let middle = low + (high - low) / 2;
        if read_one(inner, middle, |event| event.time_us)? < time_us { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}
