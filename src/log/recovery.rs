//! From segment files of unknown state to a log (docs/FORMAT.md, section 4).
//!
//! Three promises:
//! * what a durable assertion covers is either whole or an error that names the place: it is never cut;
//! * what none covers is cut at the first frame that is not valid, or where an incomplete batch begins, and the cut is reported;
//! * a crash at any point of the repair leaves files from which the same result follows: later segments go first, newest first,
//!   then the file is cut, and all of it is synced before the log is appended to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::{StoreId, zeros};
use crate::format::Malformed;
use crate::format::control::{self, Control};
use crate::format::frame::{self, DecodedEvent};
use crate::format::index::IndexHeader;
use crate::format::page::{PAGE_BYTES, PAGE_CONTENT, check_page, page_seed};
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, index_name, seed, segment_name};
use crate::io::{File, Storage};

use super::damaged;
use super::walk::{Step, Stop, Walk};

/// What a scan feeds: an index, or nothing.
pub(crate) trait Sink {
    fn event(&mut self, offset: u64, event: &DecodedEvent<'_>) -> Result<()>;
    fn control(&mut self, offset: u64, sequence: u64, frame_type: u8, control: &Control);
    /// Takes back the events from the `events`-th on.
    fn truncate(&mut self, events: u32, last_time_us: i64);
    /// The offset after the last frame that counts.
    fn end(&mut self, offset: u64);
}

/// What was taken away to make the log whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    pub path: PathBuf,
    pub offset: u64,
    /// The next event's sequence: none at or above it is left.
    pub sequence: u64,
    /// Bytes from `offset` on that were not zero space, and of the segments removed.
    pub bytes: u64,
    /// Whole events among them: items of an incomplete batch, events of the segments removed.
    pub events: u64,
    pub segments_removed: u64,
    pub reason: String,
}

/// One segment of the recovered log. Without a sink its `.idx` can be trusted.
#[derive(Debug)]
pub(crate) struct RecoveredSegment<S> {
    pub base: u64,
    pub sink: Option<S>,
}

/// The recovered log.
#[derive(Debug)]
pub(crate) struct Recovered<S> {
    /// Ascending by base.
    pub segments: Vec<RecoveredSegment<S>>,
    pub next_sequence: u64,
    pub last_time_us: i64,
    /// The epoch in force at the end.
    pub epoch: u64,
    /// Offset after the last frame of the newest segment.
    pub end: u64,
    /// The log was closed cleanly; nothing was scanned.
    pub clean: bool,
    pub cut: Option<Cut>,
}

/// Reads and checks a segment's header. The inner error says why the bytes are no header.
pub(crate) fn read_header(
    file: &dyn File,
    store_id: Option<&StoreId>,
    base: u64,
) -> Result<Result<SegmentHeader, Malformed>> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    let header = match SegmentHeader::decode(&bytes[..read]) {
        Ok(header) => header,
        Err(malformed) => return Ok(Err(malformed)),
    };
    if let Some(store_id) = store_id {
        if let Err(malformed) = header.check_place(store_id, base) {
            return Ok(Err(malformed));
        }
    }
    Ok(Ok(header))
}

/// One segment, scanned from its beginning.
#[derive(Debug)]
pub(crate) struct ScannedSegment<S> {
    pub sink: S,
    pub end: u64,
    pub next_sequence: u64,
    pub epoch: u64,
    pub last_time_us: i64,
    pub stop: Stop,
    /// The furthest durable position asserted by the frames read: segment base and offset.
    pub asserted: Option<(u64, u64)>,
    /// Whole items of an incomplete batch, not counted.
    pub truncated: u64,
    pub file_bytes: u64,
}

impl<S: Sink> ScannedSegment<S> {
    /// What a scan of a file without a valid header finds: nothing.
    fn without_header(
        found: &Found,
        store_id: &StoreId,
        make: &impl Fn(&SegmentHeader) -> S,
    ) -> Result<ScannedSegment<S>> {
        let header =
            SegmentHeader { store_id: *store_id, base: found.base, epoch: 0, time_us: 0, created_us: 0, key_window: 0 };
        Ok(ScannedSegment {
            sink: make(&header),
            end: 0,
            next_sequence: found.base,
            epoch: 0,
            last_time_us: 0,
            stop: Stop::Invalid(String::from("the file has no valid header")),
            asserted: None,
            truncated: 0,
            file_bytes: found.file.length()?,
        })
    }
}

/// Scans a segment whose header is valid.
pub(crate) fn scan_segment<S: Sink>(
    file: &Arc<dyn File>,
    header: &SegmentHeader,
    mut sink: S,
) -> Result<ScannedSegment<S>> {
    let start = SEGMENT_HEADER_BYTES as u64;
    let mut walk = Walk::new(file.clone(), header.store_id, header.base, header.epoch, start, header.base)?;
    let mut last_time_us = header.time_us;
    let mut asserted = None;
    // The state before the batch that is being read.
    let mut batch: Option<(u64, u64, i64)> = None;
    let stop = loop {
        match walk.next()? {
            Step::Event { offset, event } => {
                if event.time_us < last_time_us {
                    // The walk has stepped over it: like the items of an incomplete batch it is taken back.
                    batch = batch.or(Some((offset, event.sequence, last_time_us)));
                    break Stop::Invalid(format!("event {} is earlier than the one before", event.sequence));
                }
                let more = event.more();
                let before = (offset, event.sequence, last_time_us);
                last_time_us = event.time_us;
                sink.event(offset, &event)?;
                batch = if more { batch.or(Some(before)) } else { None };
            }
            Step::Control { offset, sequence, frame_type, control } => {
                match &control {
                    Control::Epoch { time_us, .. } | Control::Close { time_us, .. } => {
                        asserted = Some((header.base, offset));
                        last_time_us = last_time_us.max(*time_us);
                    }
                    Control::Mark { segment_base, offset, .. } => {
                        asserted = asserted.max(Some((*segment_base, *offset)))
                    }
                    Control::FenceCommit { .. } | Control::FenceCancel { .. } | Control::Skipped { .. } => {}
                    _ => {
                        let malformed = Malformed::NewerFormat {
                            what: "control frame type",
                            found: frame_type.into(),
                            known: control::TYPE_FENCE_CANCEL.into(),
                        };
                        return Err(damaged(file.path(), offset, sequence, malformed));
                    }
                }
                sink.control(offset, sequence, frame_type, &control);
            }
            Step::End(stop) => break stop,
        }
    };
    let (epoch, file_bytes) = (walk.epoch(), walk.file_bytes());
    let (mut end, mut next_sequence, mut stop) = (walk.offset(), walk.next_sequence(), stop);
    let mut truncated = 0;
    if let Some((offset, sequence, time_us)) = batch {
        truncated = next_sequence - sequence;
        sink.truncate((sequence - header.base) as u32, time_us);
        (end, next_sequence, last_time_us) = (offset, sequence, time_us);
        if !matches!(stop, Stop::Invalid(_)) {
            stop = Stop::Invalid(format!("the batch that begins with event {sequence} is incomplete"));
        }
    }
    sink.end(end);
    Ok(ScannedSegment { sink, end, next_sequence, epoch, last_time_us, stop, asserted, truncated, file_bytes })
}

/// Looks at every frame boundary from `from` on for a durable assertion beyond `cut`, a segment's base and a byte of it.
fn assertion_beyond(
    file: &dyn File,
    store_id: &StoreId,
    base: u64,
    epoch: u64,
    from: u64,
    cut: (u64, u64),
) -> Result<Option<u64>> {
    const CHUNK: usize = 1 << 20;
    // The EPOCH frame that names the next epoch may be what is damaged: each opening raises it by one.
    let mut seeds: Vec<u32> = (epoch..epoch.saturating_add(8)).map(|epoch| seed(store_id, base, epoch)).collect();
    let mut chunk = zeros(CHUNK + control::MARK_BYTES)?;
    let mut start = from.next_multiple_of(8);
    loop {
        let read = file.read_at(&mut chunk, start)?;
        for at in (0..read.min(CHUNK)).step_by(8) {
            let bytes = &chunk[at..read];
            let Some(peek) = frame::peek(bytes).filter(|peek| peek.length <= bytes.len()) else { continue };
            let frame_bytes = &bytes[..peek.length];
            let offset = start + at as u64;
            match (peek.frame_type, peek.length) {
                (control::TYPE_EPOCH, control::EPOCH_BYTES) | (control::TYPE_CLOSE, control::CLOSE_BYTES) => {
                    if let Ok((_, control, _)) = control::decode_self_seeded(frame_bytes, store_id, base) {
                        // A copy in a payload names an epoch that was over, or in force already, where the log is cut.
                        let is_news = match control {
                            Control::Epoch { epoch: named, .. } => named > epoch,
                            Control::Close { epoch: named, .. } => named >= epoch,
                            _ => false,
                        };
                        if is_news && (base, offset) > cut {
                            return Ok(Some(offset));
                        }
                        if let Control::Epoch { epoch, .. } = control {
                            seeds.push(seed(store_id, base, epoch));
                        }
                    }
                }
                (control::TYPE_MARK, control::MARK_BYTES) => {
                    for &seed in &seeds {
                        if let Ok((_, Control::Mark { segment_base, offset: durable, .. }, _)) =
                            control::decode_control(frame_bytes, seed)
                        {
                            if (segment_base, durable) > cut {
                                return Ok(Some(offset));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        if read < chunk.len() {
            return Ok(None);
        }
        start += CHUNK as u64;
    }
}

/// Whether all bytes of the file from `from` on are zero.
fn zero_from(file: &dyn File, from: u64) -> Result<bool> {
    let mut chunk = zeros(1 << 20)?;
    let mut at = from;
    loop {
        let read = file.read_at(&mut chunk, at)?;
        if chunk[..read].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        if read < chunk.len() {
            return Ok(true);
        }
        at += read as u64;
    }
}

/// A segment file as found.
struct Found {
    base: u64,
    path: PathBuf,
    file: Arc<dyn File>,
    header: Result<SegmentHeader, Malformed>,
}

fn find(storage: &dyn Storage, directory: &Path, store_id: &StoreId, base: u64) -> Result<Found> {
    let path = directory.join(segment_name(base));
    let file = storage.open_read(&path)?.ok_or_else(|| Error::Corrupt {
        path: path.clone(),
        offset: 0,
        sequence: base,
        reason: String::from("the segment file vanished while the store was being opened"),
    })?;
    let header = read_header(&*file, Some(store_id), base)?;
    if let Err(malformed @ (Malformed::NewerFormat { .. } | Malformed::StoreMismatch { .. })) = &header {
        return Err(match malformed {
            Malformed::StoreMismatch { found } => {
                Error::StoreMismatch { path, found: found.to_string(), expected: store_id.to_string() }
            }
            newer => damaged(&path, 0, base, newer.clone()),
        });
    }
    Ok(Found { base, path, file, header })
}

/// A valid CLOSE at the very end: the next sequence, the epoch, the time.
pub(crate) fn closed(file: &dyn File, header: &SegmentHeader) -> Result<Option<(u64, u64, i64)>> {
    let length = file.length()?;
    let Some(offset) =
        length.checked_sub(control::CLOSE_BYTES as u64).filter(|&offset| offset >= SEGMENT_HEADER_BYTES as u64)
    else {
        return Ok(None);
    };
    let mut bytes = [0; control::CLOSE_BYTES];
    if file.read_at(&mut bytes, offset)? < bytes.len()
        || frame::peek(&bytes).is_none_or(|p| p.frame_type != control::TYPE_CLOSE)
    {
        return Ok(None);
    }
    match control::decode_self_seeded(&bytes, &header.store_id, header.base) {
        // One that leads to before its segment, with whatever checksum, closes nothing.
        Ok((sequence, Control::Close { epoch, time_us }, _)) if sequence >= header.base && epoch >= header.epoch => {
            Ok(Some((sequence, epoch, time_us)))
        }
        _ => Ok(None),
    }
}

/// How far the log had come at the clean close that left the segment's partial index: it was written when all below was durable. `None`: no index
/// says so. An index without events may be left of a segment that never came to be (its name was lost, the index's was not), and another segment of
/// a later epoch have taken its place: it counts for its own epoch only.
fn closed_end(
    storage: &dyn Storage,
    directory: &Path,
    store_id: &StoreId,
    base: u64,
    epoch: Option<u64>,
) -> Option<u64> {
    let file = storage.open_read(&directory.join(index_name(base))).ok()??;
    let mut page = [0; PAGE_BYTES];
    // An index that cannot be read is as if absent.
    let read = file.read_at(&mut page, 0).ok()?;
    if read < PAGE_BYTES || !check_page(&page, page_seed(store_id, base), 0) {
        return None;
    }
    let header = IndexHeader::decode(&page[..PAGE_CONTENT]).ok()?;
    header.check_place(store_id, base).ok()?;
    let is_of_epoch = epoch.map_or(header.event_count > 0, |epoch| header.last_epoch >= epoch);
    (header.partial && is_of_epoch).then_some(header.log_end)
}

fn ends_early(end: u64, closed_end: u64) -> String {
    format!(
        "the log ends at byte {end}, but the index of its last clean close says that it went on to byte {closed_end}; \
         where the older log is what is wanted, delete the index"
    )
}

/// Recovers the log of `directory`, whose segment files have the given bases (ascending). `make` makes the sink for a segment that has to
/// be scanned. With `mend`, what has to be cut is cut, and everything left is durable on return; without, the files stay as they are.
pub(crate) fn recover<S: Sink>(
    storage: &dyn Storage,
    directory: &Path,
    store_id: &StoreId,
    bases: &[u64],
    mend: bool,
    make: impl Fn(&SegmentHeader) -> S,
) -> Result<Option<Recovered<S>>> {
    let Some(&newest) = bases.last() else { return Ok(None) };
    if bases[0] > 0 {
        let reason = format!("the segment is missing, the first one left begins with event {}", bases[0]);
        return Err(Error::Corrupt { path: directory.join(segment_name(0)), offset: 0, sequence: 0, reason });
    }
    let newest = find(storage, directory, store_id, newest)?;
    if let Ok(header) = &newest.header {
        if let Some((next_sequence, epoch, last_time_us)) = closed(&*newest.file, header)? {
            let end = newest.file.length()?;
            let closed_end = closed_end(storage, directory, store_id, newest.base, Some(header.epoch));
            if let Some(closed_end) = closed_end.filter(|&closed_end| closed_end > end) {
                let reason = ends_early(end, closed_end);
                return Err(Error::Corrupt { path: newest.path, offset: end, sequence: next_sequence, reason });
            }
            let segments = bases.iter().map(|&base| RecoveredSegment { base, sink: None }).collect();
            return Ok(Some(Recovered { segments, next_sequence, last_time_us, epoch, end, clean: true, cut: None }));
        }
    }

    // Scan backwards until a durable assertion says that older segments are whole. A file without a header holds nothing: its name
    // became durable before its bytes; or else it is damaged, which the assertions tell.
    let mut scanned: Vec<(Found, ScannedSegment<S>)> = Vec::new();
    let mut asserted: Option<(u64, u64)> = None;
    let mut next = Some(newest);
    while let Some(found) = next.take() {
        let scan = match &found.header {
            Ok(header) => scan_segment(&found.file, header, make(header))?,
            Err(_) => ScannedSegment::without_header(&found, store_id, &make)?,
        };
        asserted = asserted.max(scan.asserted);
        let older = bases.iter().rev().find(|&&base| base < found.base).copied();
        let ends_before = found.header.is_err();
        scanned.push((found, scan));
        match (older, asserted) {
            (None, _) => {}
            (Some(older), Some((base, _))) if older < base && !ends_before => {}
            (Some(older), _) => next = Some(find(storage, directory, store_id, older)?),
        }
    }
    scanned.reverse();
    let (newest, newest_epoch) = scanned
        .last()
        .map_or((0, None), |(found, _)| (found.base, found.header.as_ref().ok().map(|header| header.epoch)));
    let closed = closed_end(storage, directory, store_id, newest, newest_epoch).map(|closed_end| (newest, closed_end));
    if let (Found { base, path, file, header: Err(malformed) }, _) = &scanned[0] {
        // The first segment is made whole before it gets its name: only where nothing is in it did it never come to be.
        if *base > 0 || scanned.len() > 1 || closed.is_some() || !zero_from(&**file, SEGMENT_HEADER_BYTES as u64)? {
            return Err(damaged(path, 0, *base, malformed.clone()));
        }
        if mend {
            remove_segments(storage, directory, std::iter::once(*base))?;
        }
        return Ok(None);
    }

    // The first place where the log does not go on.
    let mut cut: Option<Cut> = None;
    let count = scanned.len();
    let mut last = count - 1;
    for at in 0..count {
        let (found, scan) = &scanned[at];
        let after = scanned.get(at + 1).map(|(after, _)| after).filter(|after| after.base == scan.next_sequence);
        let continues = after.is_some_and(|after| after.header.is_ok());
        let whole = !matches!(scan.stop, Stop::Invalid(_));
        let is_last = at == count - 1;
        let is_early = is_last && closed > Some((found.base, scan.end));
        if whole && (continues || is_last && !is_early && zero_from(&*found.file, scan.end)?) {
            continue;
        }
        // Where this segment is whole and the next one, in its place, has no header, the log ends at that one's beginning.
        let headless = after.filter(|_| whole).and_then(|after| Some((after, after.header.as_ref().err()?)));
        let place = headless.map_or((found.base, scan.end), |(after, _)| (after.base, 0));
        let reason = match &scan.stop {
            Stop::Invalid(reason) => reason.clone(),
            _ if headless.is_some() => {
                format!("the segment file that goes on with event {} has no valid header", scan.next_sequence)
            }
            _ if is_early => ends_early(scan.end, closed.map_or(0, |(_, closed_end)| closed_end)),
            _ if is_last => String::from("zeros stand where a frame was expected, and other bytes after them"),
            _ => format!(
                "the segment ends with event {} but the next one begins with {}",
                scan.next_sequence as i128 - 1,
                scanned[at + 1].0.base
            ),
        };
        let mut covered = asserted.max(closed) > Some(place);
        let mut epoch = scan.epoch;
        for (later, later_scan) in &scanned[at..] {
            let from = if later.base == found.base { scan.end } else { SEGMENT_HEADER_BYTES as u64 };
            // A file without a header does not say its epoch: it is the one before.
            epoch = epoch.max(later_scan.epoch);
            covered = covered || assertion_beyond(&*later.file, store_id, later.base, epoch, from, place)?.is_some();
        }
        if covered {
            if let Some((after, malformed)) = headless {
                return Err(damaged(&after.path, 0, after.base, malformed.clone()));
            }
            return Err(Error::Corrupt {
                path: found.path.clone(),
                offset: scan.end,
                sequence: scan.next_sequence,
                reason,
            });
        }
        let removed: u64 = scanned[at + 1..].iter().map(|(_, later)| later.file_bytes).sum();
        cut = Some(Cut {
            path: found.path.clone(),
            offset: scan.end,
            sequence: scan.next_sequence,
            bytes: scan.file_bytes.saturating_sub(scan.end) + removed,
            events: scan.truncated
                + scanned[at + 1..]
                    .iter()
                    .map(|(after, scan)| scan.next_sequence - after.base + scan.truncated)
                    .sum::<u64>(),
            segments_removed: (count - at - 1) as u64,
            reason,
        });
        last = at;
        break;
    }
    if mend {
        if last + 1 < count {
            // An index that is whole says that another segment follows, so it goes first.
            storage.remove(&directory.join(index_name(scanned[last].0.base)))?;
            storage.sync_directory(directory)?;
        }
        remove_segments(storage, directory, scanned[last + 1..].iter().rev().map(|(found, _)| found.base))?;
        for (found, scan) in &scanned[..=last] {
            let Some(file) = storage.open_write(&found.path)? else { continue };
            if found.base == scanned[last].0.base {
                if scan.file_bytes > scan.end {
                    file.set_length(scan.end)?;
                }
                // Only a close leaves a file that ends with its last frame: an event's payload may end with a copy of a CLOSE frame.
                file.set_length(scan.end + 8)?;
            }
            let durable = match asserted {
                Some((base, _)) if base > found.base => scan.end,
                Some((base, offset)) if base == found.base => offset,
                _ => 0,
            };
            write_again(&*file, durable, scan.end)?;
            file.sync_data()?;
        }
        storage.remove(&directory.join(index_name(scanned[last].0.base)))?;
        storage.sync_directory(directory)?;
    }
    let first_scanned = scanned[0].0.base;
    let (_, end_scan) = &scanned[last];
    let (next_sequence, last_time_us, epoch, end) = (
        end_scan.next_sequence,
        end_scan.last_time_us,
        scanned[..=last].iter().map(|(_, s)| s.epoch).max().unwrap_or(1),
        end_scan.end,
    );
    let mut segments: Vec<_> =
        bases.iter().filter(|&&base| base < first_scanned).map(|&base| RecoveredSegment { base, sink: None }).collect();
    segments.extend(
        scanned
            .into_iter()
            .take(last + 1)
            .map(|(found, scan)| RecoveredSegment { base: found.base, sink: Some(scan.sink) }),
    );
    Ok(Some(Recovered { segments, next_sequence, last_time_us, epoch, end, clean: false, cut }))
}

/// Writes bytes of a file to where they are. A sync that failed in an earlier opening may have dropped them: they are in the page cache to
/// be seen, and no sync would write them any more.
fn write_again(file: &dyn File, from: u64, end: u64) -> Result<()> {
    let mut chunk = zeros(end.saturating_sub(from).min(1 << 20) as usize)?;
    let mut at = from;
    while at < end {
        let length = (end - at).min(chunk.len() as u64) as usize;
        let read = file.read_at(&mut chunk[..length], at)?;
        if read == 0 {
            break;
        }
        file.write_at(&chunk[..read], at)?;
        at += read as u64;
    }
    Ok(())
}

fn remove_segments(storage: &dyn Storage, directory: &Path, bases: impl Iterator<Item = u64>) -> Result<()> {
    let mut any = false;
    for base in bases {
        storage.remove(&directory.join(index_name(base)))?;
        storage.remove(&directory.join(segment_name(base)))?;
        any = true;
    }
    if any { storage.sync_directory(directory) } else { Ok(()) }
}
