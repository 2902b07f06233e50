//! The error object: the code, the message and the values of an [`Error`], ready for C.
//!
//! It is built without trusting the allocator: where memory is short, a static object stands in.
//|
//| Error
//|
//| What a failed call says about itself. The object belongs to the caller, is immutable, and may be used on any thread.

use std::alloc::{Layout, alloc};
use std::borrow::Cow;
use std::ffi::c_char;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use super::guard;
use super::handle::{self, Castable, Handle};
use super::input;
use super::status::{self, BATPAK_E_INVALID_ARGUMENT, BATPAK_E_NO_MEMORY, BATPAK_OK, batpak_status_t};
use crate::error::{Error, Result};

// The opaque types of the other nouns are in `handle.rs`; this one is here because every signature needs it.
/// An error. NULL stands for "no error" in every function of this section.
pub struct batpak_error_t {
    _opaque: [u8; 0],
}

impl Castable for batpak_error_t {
    type Object = Report;
    const TAG: u64 = u64::from_le_bytes(*b"bpkError");
    const NOUN: &'static str = "error";
    const REMEDY: &'static str = "pass an error that a call of this library has set";
    const SURVIVES_FORK: bool = true;
}

/// The code of an error: a negative status.
///
/// err: may be NULL, which gives BATPAK_OK. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_error_code(err: *const batpak_error_t) -> batpak_status_t {
    // SAFETY: P.
    unsafe { read(err, BATPAK_OK, BATPAK_E_INVALID_ARGUMENT, |report| report.code) }
}

/// The message of an error: what was refused, the value, and what to do. UTF-8 and terminated by a NUL.
///
/// err: may be NULL, which gives "". len: out, may be NULL; the length without the NUL.
/// The text is borrowed from err. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_error_message(err: *const batpak_error_t, len: *mut usize) -> *const c_char {
    // SAFETY: P.
    unsafe {
        let message = read(err, &b"\0"[..], &b"not an error of this library\0"[..], |report| &*report.message);
        input::lend(Some(message), len)
    }
}

/// The operating system's error number behind an error, 0 where there is none.
///
/// err: may be NULL. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_error_os_errno(err: *const batpak_error_t) -> i32 {
    // SAFETY: P.
    unsafe { read(err, 0, 0, |report| report.os_errno) }
}

/// 1 when the same call may succeed later with nothing changed by the caller, else 0.
///
/// err: may be NULL. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_error_is_retryable(err: *const batpak_error_t) -> i32 {
    // SAFETY: P.
    unsafe { read(err, 0, 0, |report| i32::from(report.is_retryable)) }
}

/// 1 when the object that the call was made on is of no further use and should be closed, else 0.
///
/// err: may be NULL. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_error_is_fatal(err: *const batpak_error_t) -> i32 {
    // SAFETY: P.
    unsafe { read(err, 0, 0, |report| i32::from(report.is_fatal)) }
}

/// A value behind an error, as text terminated by a NUL.
///
/// key, key_len: the value's name. Depending on the code there are "what", "part", "path", "operation", "offset",
/// "sequence", "position", "expected", "actual", "stored", "found", "known", "index" (the refused item of a batch),
/// "cause_index", "value", "length", "limit", "count", "bytes", "start", "end", "kind", "category", "id", "entity",
/// "key" (in hexadecimal), "first", "difference", "outcome", "timeout_ms", "reason", "cause", "call", "handlers",
/// "waited_ms", "restarts" and "message". Numbers are decimal.
/// len: out, may be NULL; the length without the NUL. err: may be NULL.
/// Returns text borrowed from err, or NULL (and length 0) where the error has no such value.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_error_detail(
    err: *const batpak_error_t,
    key: *const c_char,
    key_len: usize,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: P.
    unsafe {
        let key = input::bytes("key", key.cast(), key_len).unwrap_or(b"");
        input::lend(read(err, None, None, |report| report.detail(key)), len)
    }
}

/// Frees an error. Texts borrowed from it end with it.
///
/// err: may be NULL. Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_error_free(err: *mut batpak_error_t) {
    // SAFETY: P; an error is a box of `allocate`, or the static one, which stays.
    unsafe {
        if handle::peek(err.cast_const()).is_some() && !ptr::eq(err, out_of_memory()) {
            drop(Box::from_raw(err.cast::<Handle<Report>>()));
        }
    }
}

// ---- for the other files of this layer ------------------------------------------------------------------------------

/// Turns a result into a status, and writes `err`.
///
/// # Safety
/// `err` is null or writable.
#[inline]
pub(super) unsafe fn finish(result: Result<batpak_status_t>, err: *mut *mut batpak_error_t) -> batpak_status_t {
    let (status, object) = match result {
        Ok(status) => (status, ptr::null_mut()),
        Err(error) => failure(&error, !err.is_null()),
    };
    // SAFETY: as the caller says.
    unsafe { input::put(err, object) };
    status
}

/// What the error object holds. Texts end with a NUL.
pub(super) struct Report {
    code: batpak_status_t,
    os_errno: i32,
    is_retryable: bool,
    is_fatal: bool,
    message: Cow<'static, [u8]>,
    details: Vec<(&'static str, Vec<u8>)>,
}

impl Report {
    fn detail(&self, key: &[u8]) -> Option<&[u8]> {
        self.details.iter().find(|(name, _)| name.as_bytes() == key).map(|(_, text)| &text[..])
    }
}

static OUT_OF_MEMORY: Handle<Report> = Handle::new(
    batpak_error_t::TAG,
    0,
    Report {
        code: BATPAK_E_NO_MEMORY,
        os_errno: 0,
        is_retryable: true,
        is_fatal: false,
        message: Cow::Borrowed(b"no memory, not even for the description of what failed\0"),
        details: Vec::new(),
    },
);

fn out_of_memory() -> *mut batpak_error_t {
    ptr::from_ref(&OUT_OF_MEMORY).cast_mut().cast()
}

/// Reads an error: `none` for null, `wrong` for what is no error.
///
/// # Safety
/// `err` as for [`handle::peek`].
unsafe fn read<'a, T>(err: *const batpak_error_t, none: T, wrong: T, get: impl FnOnce(&'a Report) -> T) -> T {
    // SAFETY: as the caller says.
    match unsafe { handle::peek(err) } {
        Some(cell) => get(cell.object()),
        None if err.is_null() => none,
        None => wrong,
    }
}

#[cold]
fn failure(error: &Error, wanted: bool) -> (batpak_status_t, *mut batpak_error_t) {
    let code = status::of(error);
    if !wanted {
        return (code, ptr::null_mut());
    }
    let object = guard::value(None, || report(error, code).and_then(allocate));
    (code, object.unwrap_or_else(out_of_memory))
}

/// `None`: no memory.
fn report(error: &Error, code: batpak_status_t) -> Option<Report> {
    let mut details = Details(Vec::new());
    details.of(error)?;
    Some(Report {
        code,
        os_errno: error.os_errno(),
        is_retryable: error.is_retryable(),
        is_fatal: error.is_fatal(),
        message: Cow::Owned(text(format_args!("{error}"))?),
        details: details.0,
    })
}

fn allocate(report: Report) -> Option<*mut batpak_error_t> {
    // SAFETY: the layout's size is not 0.
    let place = unsafe { alloc(Layout::new::<Handle<Report>>()) }.cast::<Handle<Report>>();
    if place.is_null() {
        return None;
    }
    // SAFETY: fresh memory of this layout; `batpak_error_free` drops it as the box that it then is.
    unsafe { place.write(Handle::new(batpak_error_t::TAG, 0, report)) };
    Some(place.cast())
}

/// The text with a closing NUL. `None`: no memory.
fn text(arguments: fmt::Arguments<'_>) -> Option<Vec<u8>> {
    struct Bytes(Vec<u8>);
    impl Write for Bytes {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0.try_reserve(part.len() + 1).map_err(|_| fmt::Error)?;
            self.0.extend_from_slice(part.as_bytes());
            Ok(())
        }
    }
    let mut bytes = Bytes(Vec::new());
    bytes.write_fmt(arguments).ok()?;
    terminated(bytes.0)
}

fn terminated(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    bytes.try_reserve(1).ok()?;
    bytes.push(0);
    Some(bytes)
}

/// The values of an error under the names of the variant's fields, which the header lists.
struct Details(Vec<(&'static str, Vec<u8>)>);

impl Details {
    fn of(&mut self, error: &Error) -> Option<()> {
        use Error as E;
        match error {
            E::InvalidArgument { what, value, remedy: _ } => self.add("what", what)?.add("value", value)?,
            E::CoordinateEmpty { part } | E::CoordinateWildcard { part } => self.add("part", part)?,
            E::CoordinateTooLong { part, length } => {
                self.add("part", part)?.add("length", length)?.add("limit", crate::event::COORDINATE_BYTES_MAX)?
            }
            E::CoordinateNotUtf8 { part, offset } => self.add("part", part)?.add("offset", offset)?,
            E::CoordinateCharacter { part, value, found, offset } => {
                self.add("part", part)?.add("value", value)?.add("found", found)?.add("offset", offset)?
            }
            E::EntityReserved { value } => self.add("value", value)?,
            E::KindOutOfRange { value } => self.add("kind", value)?,
            E::KindReserved { kind, category } => self.add("kind", kind)?.add("category", category)?,
            E::ClockRangeInverted { start, end } => self.add("start", start)?.add("end", end)?,
            E::PayloadTooLarge { length, limit } => self.add("length", length)?.add("limit", limit)?,
            E::TooManyCauses { count } => self.add("count", count)?.add("limit", crate::event::CAUSES_MAX)?,
            E::CauseUnknown { id } => self.add("id", id)?,
            E::CauseNotEarlier { index } => self.add("cause_index", index)?,
            E::BatchEmpty | E::SequenceExhausted | E::NoCheckpoint => self,
            E::BatchTooLarge { bytes, limit } => self.add("bytes", bytes)?.add("limit", limit)?,
            E::BatchItem { index, source } => {
                self.add("index", index)?;
                return self.of(source);
            }
            E::CheckpointIdInvalid { value, reason } => self.add("value", value)?.add("reason", reason)?,
            E::KeyLength { length } => self.add("length", length)?,
            E::ExpectedState { entity, expected, actual } => {
                let text = |clock: &Option<u64>| clock.map_or_else(|| String::from("none"), |clock| clock.to_string());
                self.add("entity", entity)?.add("expected", text(expected))?.add("actual", text(actual))?
            }
            E::IdempotencyConflict { key, first, difference } => {
                self.add("key", key)?.add("first", first)?.add("difference", difference)?
            }
            E::StreamFenced { entity } => self.add("entity", entity)?,
            E::FencePending { what, sequence } => self.add("what", what)?.add("sequence", sequence)?,
            E::FenceExpired { timeout_ms } => self.add("timeout_ms", timeout_ms)?,
            E::FenceDecided { outcome } => self.add("outcome", outcome)?,
            E::Unsupported { what, remedy: _ } => self.add("what", what)?,
            E::Closed { what } | E::Concurrent { what } | E::Forked { what } => self.add("what", what)?,
            E::Busy { handlers, waited_ms } => self.add("handlers", handlers)?.add("waited_ms", waited_ms)?,
            E::Reentrant { call, what } => self.add("call", call)?.add("what", what)?,
            E::ReadOnly { path, call } => self.path(path)?.add("call", call)?,
            E::Poisoned { cause } => self.add("cause", cause)?,
            E::Internal { what, message } => self.add("what", what)?.add("message", message)?,
            E::NoMemory { bytes } => self.add("bytes", bytes)?,
            E::NotAStore { path, reason } | E::CheckpointCorrupt { path, reason } => {
                self.path(path)?.add("reason", reason)?
            }
            E::NotFound { path } | E::AlreadyExists { path } | E::Locked { path } => self.path(path)?,
            E::NewerFormat { path, what, found, known } => {
                self.path(path)?.add("what", what)?.add("found", found)?.add("known", known)?
            }
            E::Corrupt { path, offset, sequence, reason } => {
                self.path(path)?.add("offset", offset)?.add("sequence", sequence)?.add("reason", reason)?
            }
            E::StoreMismatch { path, found, expected } | E::CheckpointStoreMismatch { path, found, expected } => {
                self.path(path)?.add("found", found)?.add("expected", expected)?
            }
            E::DiskFull { operation, path, os_errno: _ } => self.add("operation", operation)?.path(path)?,
            E::Io { operation, path, os_errno: _, message } => {
                self.add("operation", operation)?.path(path)?.add("message", message)?
            }
            E::CheckpointRegionMismatch { path, stored, expected } => {
                self.path(path)?.add("stored", stored)?.add("expected", expected)?
            }
            E::CheckpointAhead { path, position, end } => {
                self.path(path)?.add("position", position)?.add("end", end)?
            }
            E::CheckpointDiverged { path, position, stored, found } => {
                self.path(path)?.add("position", position)?.add("stored", stored)?.add("found", found)?
            }
            E::CheckpointInUse { id } | E::CheckpointNotFound { id } => self.add("id", id)?,
            E::CheckpointWriteFailed { id, source } => {
                self.add("id", id)?.add("cause", status::name(status::of(source)).trim_end_matches('\0'))?;
                return self.of(source);
            }
            E::NotDelivered { sequence, position } => self.add("sequence", sequence)?.add("position", position)?,
            E::RestartBudgetExhausted { restarts, message } => {
                self.add("restarts", restarts)?.add("message", message)?
            }
            E::RetriesExhausted { limit, sequence, message } => {
                self.add("limit", limit)?.add("sequence", sequence)?.add("message", message)?
            }
            E::WorkerCrashed { message } => self.add("message", message)?,
        };
        Some(())
    }

    fn add(&mut self, key: &'static str, value: impl fmt::Display) -> Option<&mut Details> {
        let text = text(format_args!("{value}"))?;
        self.push(key, text)
    }

    /// Paths are bytes, whatever their encoding.
    fn path(&mut self, path: &Path) -> Option<&mut Details> {
        let bytes = path.as_os_str().as_bytes();
        let mut copy = Vec::new();
        copy.try_reserve(bytes.len() + 1).ok()?;
        copy.extend_from_slice(bytes);
        self.push("path", terminated(copy)?)
    }

    fn push(&mut self, key: &'static str, text: Vec<u8>) -> Option<&mut Details> {
        self.0.try_reserve(1).ok()?;
        self.0.push((key, text));
        Some(self)
    }
}

// Errors are shared between threads by callers.
const _: () = {
    const fn shareable<T: Send + Sync>() {}
    shareable::<Handle<Report>>();
};

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::path::PathBuf;

    use super::*;

    fn object(error: Error) -> *mut batpak_error_t {
        let mut object = ptr::null_mut();
        // SAFETY: `object` is writable.
        let status = unsafe { finish(Err(error), &mut object) };
        assert!(status < 0 && !object.is_null());
        object
    }

    fn detail(object: *const batpak_error_t, key: &str) -> Option<String> {
        let mut len = usize::MAX;
        // SAFETY: the object is live, the key has its length.
        let text = unsafe { batpak_error_detail(object, key.as_ptr().cast(), key.len(), &mut len) };
        if text.is_null() {
            assert_eq!(len, 0);
            return None;
        }
        // SAFETY: details end with a NUL and live as long as the object.
        let text = unsafe { CStr::from_ptr(text) };
        assert_eq!(text.count_bytes(), len);
        Some(text.to_str().expect("UTF-8").to_owned())
    }

    #[test]
    fn a_refused_item_keeps_its_index_and_the_values_of_its_cause() {
        let source = Box::new(Error::PayloadTooLarge { length: 20, limit: 10 });
        let object = object(Error::BatchItem { index: 7, source });
        assert_eq!(detail(object, "index").as_deref(), Some("7"));
        assert_eq!(detail(object, "length").as_deref(), Some("20"));
        assert_eq!(detail(object, "limit").as_deref(), Some("10"));
        assert_eq!(detail(object, "path"), None);
        // SAFETY: the object is live and not used again.
        unsafe { batpak_error_free(object) };
    }

    #[test]
    fn messages_end_with_nul_and_say_their_length() {
        let object = object(Error::NotFound { path: PathBuf::from("/no/such") });
        let mut len = 0;
        // SAFETY: the object is live.
        let message = unsafe { CStr::from_ptr(batpak_error_message(object, &mut len)) };
        assert_eq!(message.count_bytes(), len);
        assert!(message.to_str().expect("UTF-8").starts_with("/no/such does not exist"));
        // SAFETY: the object is live and not used again.
        unsafe { batpak_error_free(object) };
    }

    #[test]
    fn the_static_error_can_be_read_and_freed() {
        let object = out_of_memory();
        // SAFETY: the static object is always live, and freeing it does nothing.
        unsafe {
            assert_eq!(batpak_error_code(object), BATPAK_E_NO_MEMORY);
            batpak_error_free(object);
            batpak_error_free(object);
            assert_eq!(batpak_error_is_retryable(object), 1);
            batpak_error_free(ptr::null_mut());
            assert_eq!(batpak_error_code(ptr::null()), BATPAK_OK);
        }
    }
}
