//! Single events.
//|
//| Event
//|
//| Events one at a time, by sequence or id. What reads many in order is a cursor.

use super::batch::Batch;
use super::error::batpak_error_t;
use super::guard;
use super::handle::{self, batpak_batch_t, batpak_store_t};
use super::input::{self, invalid, out, out_handle};
use super::status::{BATPAK_EMPTY, BATPAK_OK, batpak_status_t};
use crate::error::Result;
use crate::event::{EventBatch, EventId};
use crate::store::Store;

/// The event at a sequence.
///
/// sequence: any number. batch: out; one event, to be freed with batpak_batch_free; NULL unless the status is
/// BATPAK_OK. err: out, may be NULL.
/// Returns BATPAK_OK; BATPAK_EMPTY when no visible event has the sequence.
/// Errors: BATPAK_E_CORRUPT, BATPAK_E_NO_MEMORY, BATPAK_E_IO.
/// Any thread; may read from the disk. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_get(
    store: *mut batpak_store_t,
    sequence: u64,
    batch: *mut *mut batpak_batch_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { get(store, batch, err, |store| store.get(sequence)) }
}

/// The event with an id. The id says where its event is, so this costs no more than batpak_store_get.
///
/// id: 16 bytes, from a receipt or an event. batch: out; one event, to be freed with batpak_batch_free; NULL unless the
/// status is BATPAK_OK. err: out, may be NULL.
/// Returns BATPAK_OK; BATPAK_EMPTY when no visible event of this store has the id.
/// Errors: BATPAK_E_CORRUPT, BATPAK_E_NO_MEMORY, BATPAK_E_IO.
/// Any thread; may read from the disk. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_get_by_id(
    store: *mut batpak_store_t,
    id: *const u8,
    batch: *mut *mut batpak_batch_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        get(store, batch, err, |store| {
            let id = input::id(id).ok_or_else(|| invalid("id", &"NULL", "pass the 16 bytes of an id"))?;
            store.get_by_id(EventId(id))
        })
    }
}

/// The first sequence that the log has: where reading from the beginning begins. 0 until the oldest events are given
/// up; the visible watermark while there is no event.
///
/// sequence: out. err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_first_sequence(
    store: *mut batpak_store_t,
    sequence: *mut u64,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(store, err, |store| {
            let place = out("sequence", sequence)?;
            place.write(store.first_sequence()?);
            Ok(BATPAK_OK)
        })
    }
}

/// # Safety
/// As for [`guard::on`]; `batch` is null or writable.
unsafe fn get(
    store: *mut batpak_store_t,
    batch: *mut *mut batpak_batch_t,
    err: *mut *mut batpak_error_t,
    find: impl FnOnce(&Store) -> Result<Option<EventBatch>>,
) -> batpak_status_t {
    // SAFETY: as the caller says.
    unsafe {
        let place = out_handle("batch", batch);
        guard::on(store, err, |store| {
            let place = place?;
            let Some(found) = find(store)? else { return Ok(BATPAK_EMPTY) };
            place.write(handle::create(Batch::Polled(found)));
            Ok(BATPAK_OK)
        })
    }
}
