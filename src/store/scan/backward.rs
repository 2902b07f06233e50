//! A region's events from the newest back.
//!
//! As in a scan forward, the matching ordinals of a span are found once, from the index alone, and kept until they are delivered; then
//! come those of the span before. A span is short at first and grows while nothing matches, so that the newest match is found
//! at once. For one entity it is as many of the entity's events as a poll asks for, whatever else lies between them.

use std::cell::Cell;

use crate::error::Result;
use crate::event::{BatchBuilder, EntityMatch, EventBatch, Region, make_room};
use crate::store::Store;
use crate::store::segments::Index;
use crate::sync::atomic::Ordering;

use super::{GAP_BYTES, Limits, Place, READ_BYTES, SPAN_EVENTS, fields, push};

#[cfg(test)]
mod tests;

/// Events whose columns are looked at in the first span, and events of one entity in any.
const FIRST_SPAN_EVENTS: u32 = 1 << 10;

/// One region's way back through the log.
#[derive(Debug)]
pub(crate) struct BackwardScan {
    region: Region,
    unfiltered: bool,
    /// Segment base that `found` and `span_start` are about.
    base: u64,
    /// Where the next look is expected; anything else starts anew.
    expected: Option<u64>,
    /// Matching ordinals not delivered yet, ascending: all of the span that begins with ordinal `span_start`.
    found: Vec<u32>,
    span_start: u32,
    span_events: u32,
    places: Vec<(u64, u64)>,
    pieces: Vec<Piece>,
    causes: Vec<[u8; 16]>,
}

/// Bytes that are read at once, and where they go in the buffer.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u64,
    length: usize,
    at: usize,
}

/// What is delivered at once: so many of the newest matches of the span.
#[derive(Debug, Clone, Copy)]
struct Group {
    events: usize,
    bytes: usize,
}

impl BackwardScan {
    pub fn new(region: &Region) -> BackwardScan {
        BackwardScan {
            region: region.clone(),
            unfiltered: region.is_unfiltered(),
            base: 0,
            expected: None,
            found: Vec::new(),
            span_start: 0,
            span_events: FIRST_SPAN_EVENTS,
            places: Vec::new(),
            pieces: Vec::new(),
            causes: Vec::new(),
        }
    }

    /// Reads matching events below sequence `below` (at most the visible mark), newest first, at most `events` and
    /// `payload_bytes` (the first comes even above it). Returns them and the new bound: every match from it on was at `below` or
    /// above, or is in the batch. Without a match that is the log's first sequence.
    pub fn next(&mut self, store: &Store, below: u64, events: usize, payload_bytes: u64) -> Result<(EventBatch, u64)> {
        let inner = &*store.inner;
        let limits = Limits { events: events.max(1), payload_bytes };
        let mut batch = BatchBuilder::with_pool(&inner.pool, limits.events.min(1024))?;
        let mut at = below.min(inner.marks.visible.load(Ordering::Acquire));
        // Until this look ends well, the next one starts anew.
        if self.expected.take() != Some(at) {
            self.forget();
        }
        let mut full = false;
        while !full && !limits.reached(&batch) {
            inner.check_usable()?;
            let segments = inner.segments();
            if at <= segments[0].base {
                break;
            }
            let number = segments.partition_point(|segment| segment.base < at) - 1;
            let segment = &segments[number];
            if self.base != segment.base {
                self.forget();
                self.base = segment.base;
            }
            let end = segments.get(number + 1).map_or(u64::MAX, |next| next.base);
            let place = Place { inner, segment, end, file: segment.data.get()?, seed_of: Cell::new(None) };
            match self.read(&place, (at - segment.base) as u32, &limits, &mut batch) {
                Ok(is_full) => full = is_full,
                // What was read before the damage is delivered; the next look meets it again.
                Err(_) if !batch.is_empty() => {
                    self.forget();
                    at = batch.last_sequence().unwrap_or(at);
                    break;
                }
                Err(error) => return Err(error),
            }
            at = self.base + self.found.last().map_or(u64::from(self.span_start), |&next| u64::from(next) + 1);
        }
        self.expected = Some(at);
        Ok((batch.finish(), at))
    }

    fn forget(&mut self) {
        self.found.clear();
        self.span_start = 0;
        self.span_events = FIRST_SPAN_EVENTS;
    }

    /// Delivers from what was found, or else from the span that ends below ordinal `to`. True: the batch is full.
    fn read(&mut self, place: &Place<'_>, to: u32, limits: &Limits, batch: &mut BatchBuilder) -> Result<bool> {
        if self.found.is_empty() {
            self.find(place, to, limits)?;
        }
        if self.found.is_empty() { Ok(false) } else { self.deliver(place, limits, batch) }
    }

    /// Finds the matches of the span that ends below ordinal `to`.
    fn find(&mut self, place: &Place<'_>, to: u32, limits: &Limits) -> Result<()> {
        let (region, found) = (&self.region, &mut self.found);
        if self.unfiltered {
            self.span_start = to.saturating_sub(limits.events.min(SPAN_EVENTS as usize) as u32);
            make_room(found, (to - self.span_start) as usize)?;
            found.extend(self.span_start..to);
            return Ok(());
        }
        let span_events = self.span_events;
        self.span_events = (span_events * 2).min(SPAN_EVENTS);
        self.span_start = place.segment.with_index(&place.inner.library, place.end, |index| {
            found.clear();
            match (&region.entity, index) {
                (EntityMatch::Exact(entity), _) => {
                    let most = limits.events.clamp(FIRST_SPAN_EVENTS as usize, SPAN_EVENTS as usize);
                    index.newest_of(entity.as_bytes(), region, to, most, found)
                }
                // Posting lists of many streams are put in order once per segment.
                (EntityMatch::Prefix(_), Index::Sealed(_)) => index.matches(region, 0, to, found).map(|()| 0),
                _ => {
                    let from = to.saturating_sub(span_events);
                    index.matches(region, from, to, found).map(|()| from)
                }
            }
        })?;
        Ok(())
    }

    /// Delivers the newest of the matches found. True: the next one does not fit the batch any more.
    fn deliver(&mut self, place: &Place<'_>, limits: &Limits, batch: &mut BatchBuilder) -> Result<bool> {
        let count = self.found.len().min(limits.events - batch.len());
        let ordinals = &self.found[self.found.len() - count..];
        let places = &mut self.places;
        let index = place.segment.with_index(&place.inner.library, place.end, |index| {
            places.clear();
            index.places(ordinals, places)?;
            Ok(index.clone())
        })?;
        while !self.places.is_empty() {
            let left = limits.payload_bytes.saturating_sub(batch.payload_bytes() as u64);
            let group = self.group(place, (READ_BYTES.1 as u64).min(left.max(READ_BYTES.0 as u64)))?;
            let mut buffer = place.inner.pool.take(group.bytes)?;
            for piece in &self.pieces {
                let bytes = &mut buffer[piece.at..piece.at + piece.length];
                let read = place.file.read_at(bytes, piece.start)?;
                bytes[read..].fill(0);
            }
            let number = batch.add_buffer(buffer);
            let mut piece = self.pieces.len() - 1;
            for _ in 0..group.events {
                let sequence = place.segment.base + u64::from(self.found[self.found.len() - 1]);
                let offset = self.places[self.places.len() - 1].0;
                while offset < self.pieces[piece].start {
                    piece -= 1;
                }
                let Piece { start, length, at } = self.pieces[piece];
                let within = at + (offset - start) as usize;
                let event = place.event(&index, &batch.buffer(number)[within..at + length], offset, sequence)?;
                if place.delivers(Some(&self.region), &event)? {
                    if !limits.admits(batch, event.payload.len()) {
                        return Ok(true);
                    }
                    let fields = fields(&event, within, &mut self.causes);
                    push(batch, number, &fields, &self.causes)?;
                }
                self.found.pop();
                self.places.pop();
            }
        }
        Ok(false)
    }

    /// The newest of the places that together fill about `bytes_max`, at least one, as pieces to read at once: neighbours together.
    fn group(&mut self, place: &Place<'_>, bytes_max: u64) -> Result<Group> {
        let mut group = Group { events: 0, bytes: 0 };
        let mut beyond = u64::MAX;
        for &(start, end) in self.places.iter().rev() {
            let length = place.frame_bytes(start, end)?;
            if length == 0 || start + length > beyond {
                let at = self.found.len() - 1 - group.events;
                let sequence = place.segment.base + u64::from(self.found[at]);
                return Err(place.damage(start, sequence, "the index gives no place for the event"));
            }
            let is_near = beyond - (start + length) <= GAP_BYTES;
            let more = if is_near { beyond - start } else { length };
            if group.events > 0 && group.bytes as u64 + more > bytes_max {
                break;
            }
            group.bytes += more as usize;
            group.events += 1;
            beyond = start;
        }
        self.pieces.clear();
        for &(start, end) in &self.places[self.places.len() - group.events..] {
            let length = place.frame_bytes(start, end)?;
            match self.pieces.last_mut() {
                Some(last) if start - (last.start + last.length as u64) <= GAP_BYTES => {
                    last.length = (start + length - last.start) as usize;
                }
                last => {
                    let at = last.map_or(0, |last| last.at + last.length);
                    make_room(&mut self.pieces, 1)?;
                    self.pieces.push(Piece { start, length: length as usize, at });
                }
            }
        }
        Ok(group)
    }
}
