//! Makes the checksums of changed bytes right again, so that what stands behind them is tried too.

use batpak::event::StoreId;
use batpak::format::page::{PAGE_BYTES, PAGE_CONTENT, page_seed};
use batpak::format::segment;
use crc32c::{crc32c, crc32c_append};

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

fn put(bytes: &mut [u8], at: usize, crc: u32) {
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// STORE, or a segment's header: the first bytes of a file.
pub fn file_header(bytes: &mut [u8], length: usize) {
    if bytes.len() >= length {
        let crc = crc32c(&bytes[16..length]);
        put(bytes, 12, crc);
    }
}

/// A checkpoint: its last value is the checksum.
pub fn checkpoint(bytes: &mut [u8]) {
    const KEY: &[u8] = b"\xa6crc32c";
    if let Some(at) = bytes.windows(KEY.len()).rposition(|window| window == KEY) {
        if bytes.len() == at + KEY.len() + 5 {
            let crc = crc32c(&bytes[..at]);
            bytes[at + KEY.len()] = 0xCE;
            bytes[at + KEY.len() + 1..].copy_from_slice(&crc.to_be_bytes());
        }
    }
}

/// The pages of an index.
pub fn index(bytes: &mut [u8], store_id: &StoreId, base: u64) {
    let seed = page_seed(store_id, base);
    for (number, page) in (0u32..).zip(bytes.chunks_exact_mut(PAGE_BYTES)) {
        let crc = crc32c_append(crc32c_append(seed, &number.to_le_bytes()), &page[..PAGE_CONTENT]);
        put(page, PAGE_CONTENT, crc);
    }
}

/// The frame at the start of the bytes. `None`: its length is none.
fn frame<'a>(bytes: &'a mut [u8], store_id: &StoreId, base: u64, seed: &mut u32) -> Option<&'a mut [u8]> {
    let length = u32_at(bytes.get(..24)?, 4) as usize;
    let frame = bytes.get_mut(..length).filter(|frame| frame.len() >= 24)?;
    if frame[16] == 1 {
        event(frame, *seed);
    } else {
        if matches!(frame[16], 0x10 | 0x12) && frame.len() >= 32 {
            *seed = segment::seed(store_id, base, u64_at(frame, 24));
        }
        let crc = crc32c_append(*seed, &frame[4..]);
        put(frame, 0, crc);
    }
    Some(frame)
}

/// An event's frame: where its header ends follows from its flags and lengths.
pub fn event(frame: &mut [u8], seed: u32) {
    if frame.len() < 56 {
        return;
    }
    let flags = u16_at(frame, 18);
    let has = |bit: usize| flags >> bit & 1;
    let mut at = 56 + 8 * has(6);
    let mut mask = 0;
    if has(4) == 1 && frame.len() >= at + 8 {
        mask = u64_at(frame, at);
    }
    at += 8 * has(4) + 12 * has(2) + 16 * has(3) + 12 * usize::from(frame[17]) + 4 * mask.count_ones() as usize;
    if has(5) == 1 {
        at += 1 + frame.get(at).map_or(0, |&length| usize::from(length));
    }
    at += u16_at(frame, 52) + u16_at(frame, 54);
    let header_end = at.min(frame.len());
    let crc = crc32c(&frame[header_end..]) ^ seed;
    put(frame, 20, crc);
    let crc = crc32c_append(seed, &frame[4..header_end]);
    put(frame, 0, crc);
}

/// A segment: header, and frames as far as their lengths lead.
pub fn segment(bytes: &mut [u8]) {
    file_header(bytes, 128);
    if bytes.len() < 128 {
        return;
    }
    let store_id = StoreId(std::array::from_fn(|byte| bytes[16 + byte]));
    let (base, epoch) = (u64_at(bytes, 32), u64_at(bytes, 40));
    let mut seed = segment::seed(&store_id, base, epoch);
    let mut at = 128;
    while let Some(length) =
        bytes.get_mut(at..).and_then(|rest| frame(rest, &store_id, base, &mut seed)).map(|frame| frame.len())
    {
        at += length.next_multiple_of(8);
    }
}

/// One frame under a given seed.
pub fn single(bytes: &mut [u8], store_id: &StoreId, base: u64, seed: u32) {
    let mut seed = seed;
    frame(bytes, store_id, base, &mut seed);
}
