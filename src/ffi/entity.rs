//! Entities.
//|
//| Entity
//|
//| How far an entity is, and which entities there are.

use std::ffi::c_char;
use std::mem::offset_of;

use super::batch::BATPAK_NO_SEQUENCE;
use super::error::batpak_error_t;
use super::guard;
use super::handle::batpak_store_t;
use super::input::{self, out};
use super::status::{BATPAK_OK, batpak_status_t};

/// How far an entity is. The layout is frozen: 64 bytes.
#[repr(C)]
pub struct batpak_entity_head_t {
    /// 1: the entity has an event. 0: it has none.
    pub exists: u32,
    /// Zero.
    pub reserved0: u32,
    /// Clock of its last event; 0 when there is none.
    pub clock: u64,
    /// Sequence of its last event, or BATPAK_NO_SEQUENCE.
    pub last_sequence: u64,
    /// Zero.
    pub reserved: [u64; 5],
}

const _: () = {
    assert!(size_of::<batpak_entity_head_t>() == 64 && align_of::<batpak_entity_head_t>() == 8);
    assert!(offset_of!(batpak_entity_head_t, clock) == 8);
    assert!(offset_of!(batpak_entity_head_t, last_sequence) == 16);
    assert!(offset_of!(batpak_entity_head_t, reserved) == 24);
};

/// How far an entity is, as of now: for programs that read an entity, decide, and append only if it has not changed.
///
/// It counts every event that was appended, also one that is not visible yet: it is what an append would be compared
/// with.
/// entity, entity_len: the entity. head: out. err: out, may be NULL.
/// Errors: BATPAK_E_COORDINATE_..., BATPAK_E_IO, BATPAK_E_CORRUPT.
/// Any thread; waits for appends that are under way, and for an entity that was not used lately reads from the disk,
/// which no append waits for. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_entity_head(
    store: *mut batpak_store_t,
    entity: *const c_char,
    entity_len: usize,
    head: *mut batpak_entity_head_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(store, err, |store| {
            let place = out("head", head)?;
            let found = store.entity_head(input::bytes("entity", entity.cast(), entity_len)?)?;
            place.write(batpak_entity_head_t {
                exists: u32::from(found.is_some()),
                reserved0: 0,
                clock: found.map_or(0, |head| head.clock),
                last_sequence: found.map_or(BATPAK_NO_SEQUENCE, |head| head.last_sequence),
                reserved: [0; 5],
            });
            Ok(BATPAK_OK)
        })
    }
}
