//! What stands around every export: no panic crosses the boundary, and `err` is always written.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{self, batpak_error_t};
use super::handle::{self, Castable, Handle};
use super::status::batpak_status_t;
use crate::error::{Error, Result};

/// Runs a call that needs no object.
///
/// # Safety
/// `err` is null or writable.
#[inline]
pub(super) unsafe fn call(
    err: *mut *mut batpak_error_t,
    body: impl FnOnce() -> Result<batpak_status_t>,
) -> batpak_status_t {
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(internal("library", &*panic)));
    // SAFETY: as the caller says.
    unsafe { error::finish(result, err) }
}

/// Runs a call on an object. A panic poisons it.
///
/// # Safety
/// `pointer` as for [`handle::peek`]; `err` is null or writable.
#[inline]
pub(super) unsafe fn on<C: Castable>(
    pointer: *const C,
    err: *mut *mut batpak_error_t,
    body: impl FnOnce(&C::Object) -> Result<batpak_status_t>,
) -> batpak_status_t {
    // SAFETY: as the caller says.
    let result = unsafe { handle::borrow(pointer) }.and_then(|cell| run(cell, C::NOUN, body));
    // SAFETY: as the caller says.
    unsafe { error::finish(result, err) }
}

/// As [`on`], but also on an object that a panic poisoned: to close it.
///
/// # Safety
/// As for [`on`].
pub(super) unsafe fn on_poisoned<C: Castable>(
    pointer: *const C,
    err: *mut *mut batpak_error_t,
    body: impl FnOnce(&C::Object) -> Result<batpak_status_t>,
) -> batpak_status_t {
    // SAFETY: as the caller says.
    let result = unsafe { handle::borrow_poisoned(pointer) }.and_then(|cell| run(cell, C::NOUN, body));
    // SAFETY: as the caller says.
    unsafe { error::finish(result, err) }
}

#[inline]
fn run<T>(
    cell: &Handle<T>,
    noun: &'static str,
    body: impl FnOnce(&T) -> Result<batpak_status_t>,
) -> Result<batpak_status_t> {
    catch_unwind(AssertUnwindSafe(|| body(cell.object()))).unwrap_or_else(|panic| {
        cell.poison();
        Err(internal(noun, &*panic))
    })
}

/// Runs a getter that has no way to report an error.
#[inline]
pub(super) fn value<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

#[cold]
fn internal(what: &'static str, panic: &(dyn Any + Send)) -> Error {
    Error::Internal { what, message: panic_message(panic) }
}

/// What a panic said.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}
