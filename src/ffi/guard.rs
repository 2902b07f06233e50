//! What stands around every export: no panic crosses the boundary, `err` is always written, and cancelling a thread waits for the end of its
//! call.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{self, batpak_error_t};
use super::handle::{self, Castable, Handle};
use super::status::batpak_status_t;
use crate::error::{Error, Result};
use crate::io::thread::Uncancelled;

/// Runs a call that needs no object.
///
/// # Safety
/// `err` is null or writable.
#[inline]
pub(super) unsafe fn call(
    err: *mut *mut batpak_error_t,
    body: impl FnOnce() -> Result<batpak_status_t>,
) -> batpak_status_t {
    let _uncancelled = Uncancelled::enter();
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
    let _uncancelled = Uncancelled::enter();
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
    let _uncancelled = Uncancelled::enter();
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

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::super::error::batpak_error_free;
    use super::super::status::{BATPAK_E_INTERNAL, BATPAK_E_INVALID_ARGUMENT, BATPAK_OK};
    use super::*;

    struct Sample;

    impl Castable for Sample {
        type Object = u32;
        const TAG: u64 = u64::from_le_bytes(*b"bpkTest1");
        const NOUN: &'static str = "sample";
        const REMEDY: &'static str = "pass a sample";
        const SURVIVES_FORK: bool = true;
    }

    struct Other;

    impl Castable for Other {
        type Object = u32;
        const TAG: u64 = u64::from_le_bytes(*b"bpkTest2");
        const NOUN: &'static str = "other";
        const REMEDY: &'static str = "pass another";
        const SURVIVES_FORK: bool = true;
    }

    fn read(sample: *const Sample) -> batpak_status_t {
        // SAFETY: the tests pass live handles or null.
        unsafe { on(sample, ptr::null_mut(), |number| Ok(*number as i32)) }
    }

    #[test]
    fn a_panic_is_a_status_and_poisons_but_for_closing() {
        let sample = handle::create::<Sample>(7);
        let mut err = ptr::null_mut();
        assert_eq!(read(sample), 7);
        // SAFETY: the handle is live, `err` is writable.
        unsafe {
            assert_eq!(on(sample, &mut err, |_| panic!("on purpose")), BATPAK_E_INTERNAL);
            assert!(!err.is_null());
            batpak_error_free(err);
            assert_eq!(call(&mut err, || panic!("on purpose")), BATPAK_E_INTERNAL);
            batpak_error_free(err);
            assert_eq!(read(sample), BATPAK_E_INTERNAL);
            assert_eq!(on_poisoned(sample, &mut err, |_| Ok(BATPAK_OK)), BATPAK_OK);
            assert!(err.is_null());
            handle::free(sample);
        }
    }

    #[test]
    fn a_handle_is_of_one_type_and_lives_until_its_last_reference() {
        let sample = handle::create::<Sample>(7);
        let other = handle::create::<Other>(8);
        // SAFETY: the handles are live until their last free.
        unsafe {
            assert_eq!(read(ptr::null()), BATPAK_E_INVALID_ARGUMENT);
            assert_eq!(read(other.cast()), BATPAK_E_INVALID_ARGUMENT);
            handle::free::<Sample>(other.cast());
            handle::free::<Sample>(ptr::null_mut());
            assert!(handle::peek(other.cast_const()).is_some());
            assert_eq!(handle::retain(sample), sample);
            handle::free(sample);
            assert_eq!(read(sample), 7);
            handle::free(sample);
            handle::free(other);
        }
    }
}
