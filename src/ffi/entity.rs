//! Entities.
//|
//| Entity
//|
//| How far an entity is, and which entities there are.

use std::ffi::c_char;
use std::mem::offset_of;
use std::ptr;

use super::batch::BATPAK_NO_SEQUENCE;
use super::error::batpak_error_t;
use super::guard;
use super::handle::{self, Castable, batpak_entity_list_t, batpak_store_t};
use super::input::{self, out, out_handle};
use super::status::{BATPAK_OK, batpak_status_t};
use crate::store::Entities;

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

/// One entity of a list. Its text is borrowed from the list. The layout is frozen and never grows: 64 bytes where pointers
/// have 64 bits.
#[repr(C)]
pub struct batpak_entity_t {
    /// The entity, UTF-8, followed by a NUL.
    pub entity: *const c_char,
    /// Its length in bytes, without the NUL.
    pub entity_len: usize,
    /// Clock of its last visible event.
    pub clock: u64,
    /// Sequence of its last visible event.
    pub last_sequence: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<batpak_entity_t>() == 64 && align_of::<batpak_entity_t>() == 8);
    assert!(offset_of!(batpak_entity_t, entity_len) == 8);
    assert!(offset_of!(batpak_entity_t, clock) == 16);
    assert!(offset_of!(batpak_entity_t, last_sequence) == 24);
    assert!(offset_of!(batpak_entity_t, reserved) == 32);
};

// Invariant: each `entity` points to `entity_len` bytes and a NUL in the heap block of `names`, which is neither written
// nor freed while the list lives; moving the list does not move it.
pub(super) struct EntityList {
    rows: Vec<batpak_entity_t>,
    _names: Entities,
}

// SAFETY: the pointers are to memory that the list owns and nobody writes (the invariant above).
unsafe impl Send for EntityList {}
// SAFETY: as for `Send`; nothing in it changes.
unsafe impl Sync for EntityList {}

impl EntityList {
    fn new(names: Entities) -> EntityList {
        let rows = names
            .iter()
            .map(|entity| batpak_entity_t {
                entity: entity.name.as_ptr().cast(),
                entity_len: entity.name.len(),
                clock: entity.clock,
                last_sequence: entity.last_sequence,
                reserved: [0; 4],
            })
            .collect();
        EntityList { rows, _names: names }
    }
}

impl Castable for batpak_entity_list_t {
    type Object = EntityList;
    const TAG: u64 = u64::from_le_bytes(*b"bpkEntLs");
    const NOUN: &'static str = "entity list";
    const REMEDY: &'static str = "pass a list that batpak_store_entities has given";
    const SURVIVES_FORK: bool = true;
}

/// The entities that have a visible event, in the order of their bytes, a page at a time.
///
/// prefix, prefix_len: only the entity itself and those that continue with ':' after it, as BATPAK_ENTITY_PREFIX has it;
/// of length 0 for all but the library's own ("batpak" and "batpak:..."), which only a prefix names. after, after_len:
/// only what comes behind these bytes, for instance the last entity of the page before; of length 0 to begin.
/// max_entities: at least 1. list: out; to be freed with batpak_entity_list_free; NULL on failure. err: out, may be NULL.
/// A list of less than max_entities, or of none, is the last one. An entity that gets its first event meanwhile may be
/// missing.
/// Errors: BATPAK_E_COORDINATE_..., BATPAK_E_CORRUPT, BATPAK_E_IO.
/// Any thread; may read from the disk: what it costs grows with the page and the segments, not with the entities.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_entities(
    store: *mut batpak_store_t,
    prefix: *const c_char,
    prefix_len: usize,
    after: *const c_char,
    after_len: usize,
    max_entities: usize,
    list: *mut *mut batpak_entity_list_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        let place = out_handle("list", list);
        guard::on(store, err, |store| {
            let place = place?;
            let prefix = input::bytes("prefix", prefix.cast(), prefix_len)?;
            let after = input::bytes("after", after.cast(), after_len)?;
            let found = store.entities(prefix, after, max_entities)?;
            place.write(handle::create(EntityList::new(found)));
            Ok(BATPAK_OK)
        })
    }
}

/// The entities of a list: one call per list, then plain memory.
///
/// list: may be NULL, which gives NULL and 0. n: out, may be NULL; the number of entities.
/// Returns an array borrowed from the list.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_entity_list_entities(
    list: *const batpak_entity_list_t,
    n: *mut usize,
) -> *const batpak_entity_t {
    // SAFETY: P; the rows live as long as the list.
    unsafe {
        let rows = handle::peek(list).map(|cell| &*cell.object().rows);
        input::put(n, rows.map_or(0, <[batpak_entity_t]>::len));
        rows.map_or(ptr::null(), <[batpak_entity_t]>::as_ptr)
    }
}

/// Frees a list.
///
/// list: may be NULL. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_entity_list_free(list: *mut batpak_entity_list_t) {
    // SAFETY: P; the reference was the caller's.
    unsafe { handle::free(list) }
}
