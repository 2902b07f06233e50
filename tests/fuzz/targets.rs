//! What is fuzzed: plain functions of bytes, which must not panic, take memory out of proportion, or hang, whatever the bytes are. The test of the
//! stable compiler and the libFuzzer programs of `fuzz/` call the same ones.
//!
//! An input's first byte says how it is taken: with bit 0 its checksums are made right first ([`super::reseal`]).

use batpak::event::{EntityMatch, Kind, KindMatch, Region, StoreId, check_caller_entity, check_coordinate};
use batpak::format::packed::PackedView;
use batpak::format::{
    CheckpointFile, IndexContent, IndexHeader, SegmentHeader, StoreFile, control, frame, page, segment,
};

use super::{ffi, reseal, stores};

/// A target.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Of a thousand executions of all targets: cheap ones are tried more often.
    pub share: u64,
    /// Memory that an execution may hold at once, beside [`BYTES_PER_BYTE`] for each byte of its input.
    pub memory: usize,
}

/// A decoder makes rows and strings of its input, a store an index with its tables and copies of the events for readers; all of it at most so many
/// times the input.
pub const BYTES_PER_BYTE: usize = 64;

/// Decoders hold nothing but what they decoded, and error messages.
const OF_A_DECODER: usize = 64 << 10;
/// A store has a table of the latest events (0.3 MiB), a cache of index pages (up to 2 MiB), buffers for reading (1 MiB each, and pooled) and a prepared
/// piece of its segment in this disk in memory (0.25 MiB, doubled as it grows); an execution opens up to three times, an import two at once.
const OF_A_STORE: usize = 24 << 20;

const fn target(name: &'static str, run: fn(&[u8]), share: u64, memory: usize) -> Target {
    Target { name, run, share, memory }
}

pub static TARGETS: [Target; 12] = [
    target("frame", frame, 140, OF_A_DECODER),
    target("segment_header", segment_header, 100, OF_A_DECODER),
    target("index", index, 80, OF_A_DECODER),
    target("packed", packed, 100, OF_A_DECODER),
    target("checkpoint", checkpoint, 120, OF_A_DECODER),
    target("store_file", store_file, 100, OF_A_DECODER),
    target("region", region, 120, OF_A_DECODER),
    target("options", ffi::options, 60, OF_A_STORE),
    target("store", stores::store, 60, OF_A_STORE),
    target("sealed_index", stores::sealed_index, 60, OF_A_STORE),
    target("append", stores::append, 30, OF_A_STORE),
    target("import", stores::import, 30, OF_A_STORE),
];

pub const STORE: StoreId = StoreId([0x11; 16]);
pub const BASE: u64 = 0;
pub const EPOCH: u64 = 1;

/// The flags in the first byte, and the rest.
pub fn split(data: &[u8]) -> Option<(u8, Vec<u8>)> {
    let (&flags, rest) = data.split_first()?;
    Some((flags, rest.to_vec()))
}

fn frame(data: &[u8]) {
    let Some((flags, mut bytes)) = split(data) else { return };
    let seed = segment::seed(&STORE, BASE, EPOCH);
    if flags & 1 != 0 {
        reseal::single(&mut bytes, &STORE, BASE, seed);
    }
    let _ = frame::peek(&bytes);
    for verify in [true, false] {
        if let Ok(event) = frame::decode_event(&bytes, seed, STORE.tag(), verify) {
            assert!(event.length <= bytes.len() && event.payload_end == event.length);
            assert_eq!(event.payload.len(), event.payload_end - event.payload_start);
            assert_eq!(event.causes.ids().count(), usize::from(event.cause_count));
            assert_eq!(event.causes.clone().count(), event.causes.len());
            let _ = event.check_coordinates();
            let _ = (event.id.time_us(), event.correlation_id.sequence(), event.padded_length());
        }
    }
    if let Ok((sequence, decoded, length)) = control::decode_control(&bytes, seed) {
        // What was read is written the same, but for the bodies of frames that are skipped.
        if !matches!(decoded, control::Control::Skipped { .. }) {
            let mut again = Vec::new();
            control::encode_control(&mut again, sequence, &decoded, seed);
            assert_eq!(again[..length], bytes[..length]);
        }
    }
    let _ = control::decode_self_seeded(&bytes, &STORE, BASE);
}

fn segment_header(data: &[u8]) {
    let Some((flags, mut bytes)) = split(data) else { return };
    if flags & 1 != 0 {
        reseal::file_header(&mut bytes, 128);
    }
    if let Ok(header) = SegmentHeader::decode(&bytes) {
        assert_eq!(header.encode(), bytes[..128]);
        let _ = header.check_place(&STORE, BASE);
    }
    if let Ok(name) = std::str::from_utf8(&bytes) {
        if let Some(base) = segment::parse_segment_name(name) {
            assert_eq!(segment::segment_name(base), name);
        }
        let _ = segment::parse_index_name(name);
    }
}

fn store_file(data: &[u8]) {
    let Some((flags, mut bytes)) = split(data) else { return };
    if flags & 1 != 0 {
        reseal::file_header(&mut bytes, 64);
    }
    if let Ok(file) = StoreFile::decode(&bytes) {
        assert_eq!(file.encode()[..], bytes[..]);
    }
}

fn checkpoint(data: &[u8]) {
    let Some((flags, mut bytes)) = split(data) else { return };
    if flags & 1 != 0 {
        reseal::checkpoint(&mut bytes);
    }
    if let Ok(file) = CheckpointFile::decode(&bytes) {
        assert_eq!(CheckpointFile::decode(&file.encode()), Ok(file));
    }
}

/// The whole of an index at once.
fn index(data: &[u8]) {
    let Some((flags, mut bytes)) = split(data) else { return };
    if flags & 1 != 0 {
        reseal::index(&mut bytes, &STORE, BASE);
    }
    if let Some(first) = bytes.get(..page::PAGE_CONTENT) {
        if let Ok(header) = IndexHeader::decode(first) {
            let _ = (header.file_length(), header.check_place(&STORE, BASE));
        }
    }
    if let Ok(content) = IndexContent::decode(&bytes, &STORE, BASE) {
        // A valid index is one that can be written again, and read as the same.
        let again = content.encode(&STORE);
        assert_eq!(IndexContent::decode(&again, &STORE, BASE).as_ref(), Ok(&content));
    }
}

fn packed(data: &[u8]) {
    let Some((&[count, blocks], bytes)) = data.split_first_chunk::<2>() else { return };
    let count = usize::from(count) + 128 * usize::from(blocks & 3);
    if let Ok(view) = PackedView::new(bytes, count) {
        let each: Vec<u64> = (0..view.len()).map(|at| view.get(at)).collect();
        let mut all = Vec::new();
        if view.unpack_all(&mut all).is_ok() {
            assert!(each.iter().zip(&all).all(|(&one, &other)| one == u64::from(other)));
        }
    }
}

/// Coordinates and regions against the rules as the documentation has them.
fn region(data: &[u8]) {
    let Some((&[choice, kind, clock], bytes)) = data.split_first_chunk::<3>() else { return };
    let (entity, scope) = bytes.split_at(bytes.len() / 2);
    let is_valid = |part: &[u8]| {
        std::str::from_utf8(part).is_ok_and(|text| {
            (1..=1024).contains(&text.len())
                && text != "*"
                && !text.contains("..")
                && !text.bytes().any(|byte| byte < 0x20 || byte == 0x7F || b"/|=".contains(&byte))
        })
    };
    for part in [entity, scope] {
        assert_eq!(check_coordinate("entity", part).is_ok(), is_valid(part), "{part:?}");
        let _ = check_caller_entity(part);
    }
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    let region = Region {
        entity: match choice % 3 {
            0 => EntityMatch::Any,
            1 => EntityMatch::Prefix(text(entity)),
            _ => EntityMatch::Exact(text(entity)),
        },
        scope: (choice & 4 != 0).then(|| text(scope)),
        kind: match choice >> 3 & 3 {
            0 => KindMatch::None,
            1 => KindMatch::Any,
            2 => KindMatch::Category(kind),
            _ => KindMatch::Exact(Kind(u16::from_le_bytes([kind, clock]))),
        },
        clock: (choice & 32 != 0).then_some((u64::from(clock), u64::from(kind))),
    };
    let has_bad_clock = region.clock.is_some_and(|(start, end)| start > end);
    if region.check().is_ok() {
        assert!(!has_bad_clock);
        assert!(region.identity().starts_with("entity="));
    }
    let _ = (region.matches_entity(&text(scope)), region.matches_scope(&text(entity)));
    let _ =
        (region.matches_kind(Kind(u16::from(kind))), region.matches_clock(u64::from(clock)), region.is_unfiltered());
}
