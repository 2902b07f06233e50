//! Checkpoints without a cursor.
//|
//| Checkpoint
//|
//| The durable position of a named consumer, a cursor or a worker. These functions read and change checkpoints without
//| one.

use std::ffi::c_char;
use std::ptr;

use super::batch::BATPAK_NO_SEQUENCE;
use super::cursor::optional_id;
use super::error::batpak_error_t;
use super::guard;
use super::handle::{self, Castable, batpak_checkpoint_list_t, batpak_checkpoint_t, batpak_store_t};
use super::input::{self, out_handle};
use super::region::{self, batpak_region_t};
use super::status::{BATPAK_OK, batpak_status_t};
use crate::cursor::{Checkpoint, checkpoint};
use crate::error::Result;

/// A checkpoint with its text terminated for C.
pub(super) struct Loaded {
    checkpoint: Checkpoint,
    region_identity: Vec<u8>,
}

impl Castable for batpak_checkpoint_t {
    type Object = Loaded;
    const TAG: u64 = u64::from_le_bytes(*b"bpkCkpt_");
    const NOUN: &'static str = "checkpoint";
    const REMEDY: &'static str = "pass a checkpoint that batpak_checkpoint_load has given";
    const SURVIVES_FORK: bool = true;
}

/// Ids, each terminated.
pub(super) struct Ids(Vec<Vec<u8>>);

impl Castable for batpak_checkpoint_list_t {
    type Object = Ids;
    const TAG: u64 = u64::from_le_bytes(*b"bpkCkLst");
    const NOUN: &'static str = "checkpoint list";
    const REMEDY: &'static str = "pass a list that batpak_checkpoint_list has given";
    const SURVIVES_FORK: bool = true;
}

fn terminated(text: String) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    bytes.push(0);
    bytes
}

/// # Safety
/// `id` is null or valid for `id_len` bytes.
unsafe fn required_id(id: *const c_char, id_len: usize) -> Result<String> {
    // SAFETY: as the caller says.
    Ok(unsafe { optional_id(id, id_len) }?.unwrap_or_default())
}

/// Reads a checkpoint. It is not compared with the log; its consumer may replace it at any time.
///
/// id, id_len: the checkpoint id. checkpoint: out; to be freed with batpak_checkpoint_free; NULL on failure. err: out,
/// may be NULL.
/// Errors: BATPAK_E_CHECKPOINT_NOT_FOUND, BATPAK_E_CHECKPOINT_CORRUPT, BATPAK_E_CHECKPOINT_ID_INVALID, BATPAK_E_IO.
/// Any thread; waits for the disk. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_load(
    store: *mut batpak_store_t,
    id: *const c_char,
    id_len: usize,
    checkpoint: *mut *mut batpak_checkpoint_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        let place = out_handle("checkpoint", checkpoint);
        guard::on(store, err, |store| {
            let place = place?;
            let checkpoint = checkpoint::load(store, &required_id(id, id_len)?)?;
            let region_identity = terminated(checkpoint.region_identity.clone());
            place.write(handle::create(Loaded { checkpoint, region_identity }));
            Ok(BATPAK_OK)
        })
    }
}

/// Whether the consumer has processed anything: 1 or 0.
///
/// checkpoint: may be NULL, which gives 0. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_started(checkpoint: *const batpak_checkpoint_t) -> i32 {
    // SAFETY: P.
    unsafe { read(checkpoint, 0, |loaded| i32::from(loaded.checkpoint.position.is_some())) }
}

/// Sequence of the last event processed, BATPAK_NO_SEQUENCE when not started.
///
/// checkpoint: may be NULL, which gives BATPAK_NO_SEQUENCE. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_position(checkpoint: *const batpak_checkpoint_t) -> u64 {
    // SAFETY: P.
    unsafe { read(checkpoint, BATPAK_NO_SEQUENCE, |loaded| loaded.checkpoint.position.unwrap_or(BATPAK_NO_SEQUENCE)) }
}

/// The sequence below which every match was processed.
///
/// checkpoint: may be NULL, which gives 0. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_scanned(checkpoint: *const batpak_checkpoint_t) -> u64 {
    // SAFETY: P.
    unsafe { read(checkpoint, 0, |loaded| loaded.checkpoint.scanned) }
}

/// The id of the event at the position.
///
/// checkpoint: may be NULL. id: out; 16 bytes, written only when there is one.
/// Returns 1 when there is one; 0 when not started, or when the file is of a program that stores none.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_position_id(checkpoint: *const batpak_checkpoint_t, id: *mut u8) -> i32 {
    // SAFETY: P.
    unsafe { write_id(id, read(checkpoint, None, |loaded| loaded.checkpoint.position_id.map(|id| id.0))) }
}

/// The id of the store that the checkpoint was made on.
///
/// checkpoint: may be NULL. id: out; 16 bytes, written only when there is one.
/// Returns 1 when there is one; 0 when the file is of a program that stores none.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_store_id(checkpoint: *const batpak_checkpoint_t, id: *mut u8) -> i32 {
    // SAFETY: P.
    unsafe { write_id(id, read(checkpoint, None, |loaded| loaded.checkpoint.store_id.map(|id| id.0))) }
}

/// The region that the checkpoint was made over, as batpak_region_identity tells it.
///
/// checkpoint: may be NULL, which gives NULL. len: out, may be NULL; the length without the NUL.
/// Returns terminated text borrowed from the checkpoint.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_region_identity(
    checkpoint: *const batpak_checkpoint_t,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: P; the text lives as long as the checkpoint.
    unsafe { input::lend(handle::peek(checkpoint).map(|cell| &*cell.object().region_identity), len) }
}

/// Frees a checkpoint. The stored one stays.
///
/// checkpoint: may be NULL. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_free(checkpoint: *mut batpak_checkpoint_t) {
    // SAFETY: P; the reference was the caller's.
    unsafe { handle::free(checkpoint) }
}

/// Writes a checkpoint: its consumer will start at next_sequence.
///
/// id, id_len: the checkpoint id. region: the consumer's, may be NULL for everything. next_sequence: at most the
/// visible watermark; 0 for the beginning. err: out, may be NULL.
/// Errors: BATPAK_E_CHECKPOINT_IN_USE while a cursor or worker has the id; BATPAK_E_CHECKPOINT_ID_INVALID,
/// BATPAK_E_COORDINATE_..., BATPAK_E_READ_ONLY, BATPAK_E_POISONED, BATPAK_E_DISK_FULL, BATPAK_E_IO.
/// Any thread; waits for the disk. On BATPAK_OK the checkpoint, and the log up to it, survive a power loss. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_save(
    store: *mut batpak_store_t,
    id: *const c_char,
    id_len: usize,
    region: *const batpak_region_t,
    next_sequence: u64,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(store, err, |store| {
            checkpoint::save(store, &required_id(id, id_len)?, &region::read(region)?, next_sequence)?;
            Ok(BATPAK_OK)
        })
    }
}

/// Removes a checkpoint: its consumer will start at the beginning.
///
/// id, id_len: the checkpoint id. err: out, may be NULL.
/// Errors: BATPAK_E_CHECKPOINT_NOT_FOUND; BATPAK_E_CHECKPOINT_IN_USE while a cursor or worker has the id;
/// BATPAK_E_CHECKPOINT_ID_INVALID, BATPAK_E_READ_ONLY, BATPAK_E_IO.
/// Any thread; waits for the disk. On BATPAK_OK the removal survives a power loss. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_delete(
    store: *mut batpak_store_t,
    id: *const c_char,
    id_len: usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::on(store, err, |store| checkpoint::delete(store, &required_id(id, id_len)?).map(|()| BATPAK_OK)) }
}

/// The ids of all checkpoints, sorted.
///
/// list: out; to be freed with batpak_checkpoint_list_free; NULL on failure. err: out, may be NULL.
/// Errors: BATPAK_E_IO.
/// Any thread; waits for the disk. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_list(
    store: *mut batpak_store_t,
    list: *mut *mut batpak_checkpoint_list_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        let place = out_handle("list", list);
        guard::on(store, err, |store| {
            let place = place?;
            let ids = checkpoint::list(store)?.into_iter().map(terminated).collect();
            place.write(handle::create(Ids(ids)));
            Ok(BATPAK_OK)
        })
    }
}

/// How many ids a list has.
///
/// list: may be NULL, which gives 0. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_list_count(list: *const batpak_checkpoint_list_t) -> usize {
    // SAFETY: P.
    unsafe { handle::peek(list) }.map_or(0, |cell| cell.object().0.len())
}

/// One id of a list.
///
/// list: may be NULL. index: below the count. len: out, may be NULL; the length without the NUL.
/// Returns terminated text borrowed from the list, NULL when there is no such index.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_list_id(
    list: *const batpak_checkpoint_list_t,
    index: usize,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: P; the text lives as long as the list.
    unsafe {
        let id = handle::peek(list).and_then(|cell| cell.object().0.get(index));
        input::lend(id.map(Vec::as_slice), len)
    }
}

/// Frees a list.
///
/// list: may be NULL. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_checkpoint_list_free(list: *mut batpak_checkpoint_list_t) {
    // SAFETY: P; the reference was the caller's.
    unsafe { handle::free(list) }
}

/// # Safety
/// `checkpoint` as for [`handle::peek`].
unsafe fn read<T>(checkpoint: *const batpak_checkpoint_t, none: T, get: impl FnOnce(&Loaded) -> T) -> T {
    // SAFETY: as the caller says.
    unsafe { handle::peek(checkpoint) }.map_or(none, |cell| get(cell.object()))
}

/// # Safety
/// `place` is null or valid for writing 16 bytes.
unsafe fn write_id(place: *mut u8, id: Option<[u8; 16]>) -> i32 {
    let Some(id) = id else { return 0 };
    if !place.is_null() {
        // SAFETY: valid for 16 bytes, as the caller says.
        unsafe { ptr::copy_nonoverlapping(id.as_ptr(), place, id.len()) };
    }
    1
}
