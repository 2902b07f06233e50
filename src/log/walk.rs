//! Reading a segment's frames in order, each one verified: for recovery, for rebuilding an index, for repair tools.
//!
//! The walker knows the rules that bind neighbours (sequence, batch flags, epoch) and stops at the first frame that breaks
//! one; what that means is the caller's to say.

use std::sync::Arc;

use crate::error::Result;
use crate::event::{StoreId, make_room};
use crate::format::control::{self, Control};
use crate::format::frame::{self, DecodedEvent};
use crate::format::segment::seed;
use crate::format::{Malformed, align8};
use crate::io::File;

use super::damaged;

const CHUNK_BYTES: usize = 1 << 20;

/// Why a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At the file's end, on a frame boundary.
    EndOfFile,
    /// At a zero word: space prepared ahead.
    Zeros,
    /// At bytes that are no frame.
    Invalid(String),
}

/// One step of a walk.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Event { offset: u64, event: DecodedEvent<'a> },
    Control { offset: u64, sequence: u64, frame_type: u8, control: Control },
    End(Stop),
}

/// Walks one segment.
#[derive(Debug)]
pub(crate) struct Walk {
    file: Arc<dyn File>,
    store_id: StoreId,
    base: u64,
    epoch: u64,
    seed: u32,
    file_bytes: u64,
    offset: u64,
    next_sequence: u64,
    more: bool,
    chunk: Vec<u8>,
    chunk_start: u64,
}

impl Walk {
    /// Starts at `offset`, where `epoch` is in force and `next_sequence` comes next.
    pub fn new(
        file: Arc<dyn File>,
        store_id: StoreId,
        base: u64,
        epoch: u64,
        offset: u64,
        next_sequence: u64,
    ) -> Result<Walk> {
        let file_bytes = file.length()?;
        Ok(Walk {
            file,
            store_id,
            base,
            epoch,
            seed: seed(&store_id, base, epoch),
            file_bytes,
            offset,
            next_sequence,
            more: false,
            chunk: Vec::new(),
            chunk_start: offset,
        })
    }

    /// Where the next frame would begin.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Makes `bytes` bytes from the current offset available, or as many as the file has, and says how many.
    fn fill(&mut self, bytes: usize) -> Result<usize> {
        let at = (self.offset - self.chunk_start) as usize;
        if at + bytes <= self.chunk.len() {
            return Ok(bytes);
        }
        let left = self.file_bytes.saturating_sub(self.offset);
        let wanted = (bytes.max(CHUNK_BYTES) as u64).min(left) as usize;
        let more = wanted.saturating_sub(self.chunk.len());
        make_room(&mut self.chunk, more)?;
        self.chunk.resize(wanted, 0);
        self.chunk_start = self.offset;
        let read = self.file.read_at(&mut self.chunk, self.offset)?;
        self.chunk.truncate(read);
        Ok(read.min(bytes))
    }

    fn at(&self) -> usize {
        (self.offset - self.chunk_start) as usize
    }

    /// The next frame, or why there is none.
    pub fn next(&mut self) -> Result<Step<'_>> {
        if self.fill(frame::FRAME_HEADER_BYTES)? < frame::FRAME_HEADER_BYTES {
            let rest = &self.chunk[self.at()..];
            let zeros = rest.iter().all(|&byte| byte == 0);
            return Ok(Step::End(match (rest.is_empty(), zeros) {
                (true, _) => Stop::EndOfFile,
                (false, true) => Stop::Zeros,
                _ => Stop::Invalid(String::from("a frame header is cut off by the end of the file")),
            }));
        }
        let head = &self.chunk[self.at()..self.at() + frame::FRAME_HEADER_BYTES];
        if head.iter().all(|&byte| byte == 0) {
            return Ok(Step::End(Stop::Zeros));
        }
        let Some(peek) = frame::peek(head) else {
            return Ok(Step::End(Stop::Invalid(String::from("the frame's length is below the least"))));
        };
        if peek.length as u64 > self.file_bytes - self.offset {
            return Ok(Step::End(Stop::Invalid(format!(
                "a frame of {} bytes is cut off by the end of the file",
                peek.length
            ))));
        }
        if self.fill(peek.length)? < peek.length {
            return Ok(Step::End(Stop::Invalid(String::from("the file ends within a frame"))));
        }
        let start = self.at();
        let padded = align8(peek.length);
        let bytes = &self.chunk[start..start + peek.length];
        let offset = self.offset;
        if peek.frame_type == frame::TYPE_EVENT {
            let event = match frame::decode_event(bytes, self.seed, self.store_id.tag(), true) {
                Ok(event) => event,
                Err(malformed) => return self.stop(malformed),
            };
            if let Err(malformed) = event.check_coordinates() {
                return self.stop(malformed);
            }
            if event.sequence != self.next_sequence {
                let reason = format!("event {} stands where {} was expected", event.sequence, self.next_sequence);
                return Ok(Step::End(Stop::Invalid(reason)));
            }
            // An entity has no more events than the log, and its earlier ones are earlier.
            let has_previous = event.prev_sequence != frame::NO_SEQUENCE;
            if event.clock > event.sequence || has_previous && event.prev_sequence >= event.sequence {
                let reason = format!(
                    "event {} says clock {} and previous event {}",
                    event.sequence, event.clock, event.prev_sequence
                );
                return Ok(Step::End(Stop::Invalid(reason)));
            }
            if event.continued() != self.more {
                return Ok(Step::End(Stop::Invalid(String::from(
                    "the batch flags do not continue the previous frame's",
                ))));
            }
            self.more = event.more();
            self.next_sequence += 1;
            self.offset += padded as u64;
            return Ok(Step::Event { offset, event });
        }
        let decoded = match peek.frame_type {
            control::TYPE_EPOCH | control::TYPE_CLOSE => control::decode_self_seeded(bytes, &self.store_id, self.base),
            _ => control::decode_control(bytes, self.seed),
        };
        let (sequence, control, _) = match decoded {
            Ok(decoded) => decoded,
            Err(malformed) => return self.stop(malformed),
        };
        if sequence != self.next_sequence || self.more {
            return Ok(Step::End(Stop::Invalid(format!(
                "a control frame at {sequence} stands where {} was expected",
                self.next_sequence
            ))));
        }
        match control {
            Control::Epoch { epoch, .. } if epoch <= self.epoch => {
                return Ok(Step::End(Stop::Invalid(format!("epoch {epoch} does not follow {}", self.epoch))));
            }
            Control::Epoch { epoch, .. } => {
                self.epoch = epoch;
                self.seed = seed(&self.store_id, self.base, epoch);
            }
            Control::Close { epoch, .. } if epoch != self.epoch => {
                return Ok(Step::End(Stop::Invalid(format!(
                    "a close of epoch {epoch} stands in epoch {}",
                    self.epoch
                ))));
            }
            _ => {}
        }
        self.offset += padded as u64;
        Ok(Step::Control { offset, sequence, frame_type: peek.frame_type, control })
    }

    fn stop(&self, malformed: Malformed) -> Result<Step<'static>> {
        match malformed {
            Malformed::Damaged { reason } => Ok(Step::End(Stop::Invalid(reason))),
            newer => Err(damaged(self.file.path(), self.offset, self.next_sequence, newer)),
        }
    }
}
