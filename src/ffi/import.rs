//! Imports.
//|
//| Import
//|
//| The events of another store are appended anew, each with an idempotency key made of the source's id and the event's:
//| an import that was cut short, or is repeated, appends what is missing and nothing twice.

use std::mem::offset_of;

use super::error::batpak_error_t;
use super::guard;
use super::handle::{self, batpak_store_t};
use super::input::out;
use super::options::{self, Versioned, check_reserved};
use super::status::{BATPAK_OK, batpak_status_t};
use super::store::{BATPAK_DURABILITY_DEFAULT, durability_of};
use crate::error::Result;
use crate::store::ImportOptions;

/// How to import.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct batpak_import_options_t {
    /// sizeof(batpak_import_options_t).
    pub struct_size: u32,
    /// A BATPAK_DURABILITY_ constant: what the events survive on return.
    pub durability: u32,
    /// The source's first sequence to import: 0, or the next_sequence of an import of all that is below.
    pub from_sequence: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

// SAFETY: repr(C), integers without padding, the size first.
unsafe impl Versioned for batpak_import_options_t {
    const NAME: &'static str = "batpak_import_options_t";
    const REMEDY: &'static str = "call batpak_import_options_init first";

    fn defaults() -> batpak_import_options_t {
        batpak_import_options_t {
            struct_size: size_of::<batpak_import_options_t>() as u32,
            durability: BATPAK_DURABILITY_DEFAULT,
            from_sequence: 0,
            reserved: [0; 4],
        }
    }

    fn check(&self) -> Result<()> {
        check_reserved(Self::NAME, &self.reserved, 0, 0)
    }
}

/// What an import did. The layout is frozen: 64 bytes.
#[repr(C)]
pub struct batpak_import_result_t {
    /// The source's sequence to go on at, once it has more.
    pub next_sequence: u64,
    /// Events appended.
    pub appended: u64,
    /// Events that had been imported before.
    pub duplicates: u64,
    /// Zero.
    pub reserved: [u64; 5],
}

const _: () = {
    assert!(size_of::<batpak_import_result_t>() == 64 && align_of::<batpak_import_result_t>() == 8);
    assert!(offset_of!(batpak_import_result_t, duplicates) == 16);
};

/// Fills import options with the defaults.
///
/// options: out. size: sizeof(batpak_import_options_t). err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_import_options_init(
    options: *mut batpak_import_options_t,
    size: usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::call(err, || options::init(options, size).map(|()| BATPAK_OK)) }
}

/// Appends all visible events of another store, in its order, that were not imported before.
///
/// store: appended to. source: another open store, read-only or not. options: may be NULL for the defaults. result:
/// out. err: out, may be NULL.
/// Sequence, clock, time and id of each event are new. Causes and correlation ids that name imported events get the new
/// ids; others are kept as they are. After a failure call it again, with the same options: what is there counts as
/// duplicates, as long as the key window of the store reaches back to it.
/// Errors: those of batpak_store_append, and of reading the source; BATPAK_E_INVALID_ARGUMENT: source is the store itself or
/// a copy of it. What was appended before an error stays.
/// Any thread; waits for the disk. On BATPAK_OK the events are as durable as asked. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_import(
    store: *mut batpak_store_t,
    source: *mut batpak_store_t,
    options: *const batpak_import_options_t,
    result: *mut batpak_import_result_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(store, err, |store| {
            let place = out("result", result)?;
            let given = options::read(options)?;
            let source = handle::borrow(source.cast_const())?.object();
            let options =
                ImportOptions { from_sequence: given.from_sequence, durability: durability_of(given.durability)? };
            let imported = store.import(source, &options)?;
            place.write(batpak_import_result_t {
                next_sequence: imported.next_sequence,
                appended: imported.appended,
                duplicates: imported.duplicates,
                reserved: [0; 5],
            });
            Ok(BATPAK_OK)
        })
    }
}
