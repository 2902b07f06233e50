//! The caller's functions, and the value that goes with them.
//!
//! They are typed `C-unwind` and called inside `catch_unwind`: a foreign exception ends the process there, as the
//! header says, instead of passing through frames that hold locks. `Option` is within each type, so NULL is `None`.
//|
//| Callbacks

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Frees what a user_data points to. Called exactly once, after the last use, on whatever thread comes to it; it may
/// call no function of this library on the object that held the user_data.
pub type batpak_user_data_free_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>;

/// Gives the time: microseconds since the Unix epoch. Called by appends, possibly on several threads at once; it must
/// return at once and call no function of this library.
pub type batpak_clock_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void) -> i64>;

/// Takes a log message. level: BATPAK_LOG_ERROR, BATPAK_LOG_WARNING or BATPAK_LOG_INFO; target names the part of the
/// library; both texts are valid during the call only. Called on any thread, possibly on several at once; it should
/// return soon and call no function of this library.
pub type batpak_log_fn = Option<
    unsafe extern "C-unwind" fn(
        user_data: *mut c_void,
        level: u32,
        target: *const c_char,
        target_len: usize,
        message: *const c_char,
        message_len: usize,
    ),
>;

/// Something was lost, refused or failed in the background.
pub const BATPAK_LOG_ERROR: u32 = 1u32;
/// Something unusual was mended.
pub const BATPAK_LOG_WARNING: u32 = 2u32;
/// What the library does at its turning points.
pub const BATPAK_LOG_INFO: u32 = 3u32;

/// A caller's value. Its free function runs when the last clone is dropped, once it was [armed](UserData::arm): until
/// then it is still the caller's, who keeps it when the call that takes it fails.
pub(super) struct UserData {
    pointer: *mut c_void,
    free: batpak_user_data_free_fn,
    is_ours: AtomicBool,
}

// SAFETY: the library only hands the pointer to the caller's functions, and the header says on which threads those run.
unsafe impl Send for UserData {}
// SAFETY: as for `Send`; the pointer is never written.
unsafe impl Sync for UserData {}

impl UserData {
    pub(super) fn new(pointer: *mut c_void, free: batpak_user_data_free_fn) -> Arc<UserData> {
        Arc::new(UserData { pointer, free, is_ours: AtomicBool::new(false) })
    }

    /// The call that takes the value succeeded. Whoever arms holds a clone, so nothing was dropped unarmed before.
    pub(super) fn arm(&self) {
        self.is_ours.store(true, Ordering::Release);
    }

    pub(super) fn pointer(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let (Some(free), true) = (self.free, self.is_ours.load(Ordering::Acquire)) {
            // SAFETY: the caller gave this function for this value, and this is its only call.
            contain((), || unsafe { free(self.pointer) });
        }
    }
}

/// Runs a call into the caller's code. A panic there (of a caller written in the library's own language) gives
/// `otherwise`; a foreign exception ends the process.
#[inline]
pub(super) fn contain<T>(otherwise: T, call: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    unsafe extern "C-unwind" fn count(user_data: *mut c_void) {
        // SAFETY: the tests pass a counter that outlives the value.
        unsafe { &*user_data.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn a_value_is_freed_once_and_only_after_it_was_taken() {
        let counter = AtomicUsize::new(0);
        let value = || UserData::new((&raw const counter).cast_mut().cast(), Some(count));
        drop(value());
        assert_eq!(counter.load(Ordering::Relaxed), 0);
        let first = value();
        let second = first.clone();
        first.arm();
        drop(first);
        assert_eq!(counter.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(counter.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_panic_in_a_callback_stays_there() {
        assert_eq!(contain(7, || panic!("from a callback")), 7);
    }
}
