//! Parameters that are pointers and lengths, and texts lent to the caller.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::slice;
use std::time::Duration;

use crate::error::{Error, Result};

/// A century: for ever, without overflowing clocks.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The bytes at `pointer`.
///
/// # Safety
/// `pointer` is null or valid for reading `len` bytes for `'a`.
#[inline]
pub(super) unsafe fn bytes<'a>(what: &'static str, pointer: *const u8, len: usize) -> Result<&'a [u8]> {
    // SAFETY: as the caller says.
    unsafe { items(what, pointer, len) }
}

/// The items at `pointer`: none where `len` is 0, whatever the pointer.
///
/// # Safety
/// `pointer` is null or valid for reading `len` items for `'a`.
#[inline]
pub(super) unsafe fn items<'a, T>(what: &'static str, pointer: *const T, len: usize) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || !pointer.is_aligned() || len > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(bad_items(what, pointer.is_null(), pointer.is_aligned(), len));
    }
    // SAFETY: not null, aligned, and valid for `len` items as the caller says; the length is below isize::MAX bytes.
    Ok(unsafe { slice::from_raw_parts(pointer, len) })
}

#[cold]
fn bad_items(what: &'static str, is_null: bool, is_aligned: bool, len: usize) -> Error {
    if is_null {
        invalid(what, &format!("NULL with length {len}"), "pass a pointer, or length 0")
    } else if !is_aligned {
        invalid(what, &"misaligned", "pass a pointer to an array of the documented type")
    } else {
        invalid(what, &format!("of length {len}"), "no array can be that long; pass its real length")
    }
}

/// A parameter outside its range.
#[cold]
pub(super) fn invalid(what: &'static str, value: &dyn std::fmt::Display, remedy: &'static str) -> Error {
    Error::InvalidArgument { what, value: value.to_string(), remedy }
}

/// A path of bytes.
///
/// # Safety
/// As for [`bytes`].
pub(super) unsafe fn path<'a>(pointer: *const c_char, len: usize) -> Result<&'a Path> {
    // SAFETY: as the caller says.
    let bytes = unsafe { bytes("path", pointer.cast(), len) }?;
    if bytes.is_empty() {
        return Err(invalid("path", &"empty", "name a directory"));
    }
    if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
        return Err(invalid("path", &format!("with a NUL at byte {offset}"), "pass its length without a NUL"));
    }
    Ok(Path::new(OsStr::from_bytes(bytes)))
}

/// The bytes of a terminated text.
///
/// # Safety
/// `pointer` is null or points to a terminated text that is valid for `'a`.
pub(super) unsafe fn terminated<'a>(what: &'static str, pointer: *const c_char) -> Result<&'a [u8]> {
    if pointer.is_null() {
        return Err(invalid(what, &"NULL", "pass a terminated text"));
    }
    // SAFETY: not null, and terminated as the caller says.
    Ok(unsafe { CStr::from_ptr(pointer) }.to_bytes())
}

/// A text that must be UTF-8.
///
/// # Safety
/// As for [`bytes`].
pub(super) unsafe fn text<'a>(what: &'static str, pointer: *const c_char, len: usize) -> Result<&'a str> {
    // SAFETY: as the caller says.
    let bytes = unsafe { bytes(what, pointer.cast(), len) }?;
    std::str::from_utf8(bytes).map_err(|error| {
        invalid(what, &format!("not UTF-8 from byte {} on", error.valid_up_to()), "encode it as UTF-8")
    })
}

/// Sixteen bytes, or `None` for null.
///
/// # Safety
/// `pointer` is null or valid for reading 16 bytes.
#[inline]
pub(super) unsafe fn id(pointer: *const u8) -> Option<[u8; 16]> {
    // SAFETY: as the caller says; an array of bytes has no alignment.
    unsafe { pointer.cast::<[u8; 16]>().as_ref() }.copied()
}

/// The place of a required out-parameter.
#[inline]
pub(super) fn out<T>(what: &'static str, pointer: *mut T) -> Result<*mut T> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(bad_out(what, pointer.is_null()));
    }
    Ok(pointer)
}

#[cold]
fn bad_out(what: &'static str, is_null: bool) -> Error {
    let value = if is_null { "NULL" } else { "misaligned" };
    invalid(what, &value, "pass a pointer to a variable of the documented type")
}

/// Writes an out-parameter that may be left out, where there is no way to refuse a misaligned one.
///
/// # Safety
/// `pointer` is null or writable.
#[inline]
pub(super) unsafe fn put<T>(pointer: *mut T, value: T) {
    if !pointer.is_null() {
        // SAFETY: not null, and writable as the caller says.
        unsafe { pointer.write_unaligned(value) };
    }
}

/// The place of receipts or the like, that may be left out.
#[inline]
pub(super) fn optional_out<T>(what: &'static str, pointer: *mut T) -> Result<Option<*mut T>> {
    if pointer.is_null() { Ok(None) } else { out(what, pointer).map(Some) }
}

/// The place of a required out-parameter for a handle, which is null until there is one.
///
/// # Safety
/// `pointer` is null or writable.
#[inline]
pub(super) unsafe fn out_handle<T>(what: &'static str, pointer: *mut *mut T) -> Result<*mut *mut T> {
    let place = out(what, pointer)?;
    // SAFETY: not null, aligned, and writable as the caller says.
    unsafe { place.write(std::ptr::null_mut()) };
    Ok(place)
}

/// A timeout in milliseconds: -1 is for ever, and `None`.
pub(super) fn timeout(milliseconds: i64) -> Result<Option<Duration>> {
    match milliseconds {
        -1 => Ok(None),
        0.. => Ok(Some(Duration::from_millis(milliseconds.unsigned_abs()).min(FOREVER))),
        _ => Err(invalid("timeout_ms", &milliseconds, "give 0 or more, or -1 for ever")),
    }
}

/// A timeout for those who know no "for ever".
pub(super) fn timeout_or_century(milliseconds: i64) -> Result<Duration> {
    Ok(timeout(milliseconds)?.unwrap_or(FOREVER))
}

/// A parameter where 0 stands for the default.
pub(super) fn or_default<T: PartialEq + Default>(value: T, default: T) -> T {
    if value == T::default() { default } else { value }
}

/// Lends a text that ends with a NUL: its pointer, and its length without the NUL. `None` is null and 0.
///
/// # Safety
/// `len` is null or writable.
pub(super) unsafe fn lend(text: Option<&[u8]>, len: *mut usize) -> *const c_char {
    debug_assert!(text.is_none_or(|text| text.last() == Some(&0)));
    // SAFETY: as the caller says.
    unsafe { put(len, text.map_or(0, |text| text.len() - 1)) };
    text.map_or(std::ptr::null(), |text| text.as_ptr().cast())
}
