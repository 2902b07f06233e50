//! Waiting for watermarks.
//|
//| Waiting for watermarks
//|
//| batpak_store_watermarks tells how far the log is; these functions wait until it is as far as the caller needs.
//|
//| Appending ahead. One thread gets most out of the disk when it appends with BATPAK_DURABILITY_PROCESS and asks once
//| for many events whether they are durable, before it acknowledges them to whomever it serves:
//|
//|     for (i = 0; i < n; i++)
//|         batpak_store_append(store, &items[i], 1, &process, &receipt, &err);
//|     batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, receipt.sequence + 1, -1, &err);
//|
//| To go on appending meanwhile, it asks with timeout 0 instead, and acknowledges what is below the durable watermark.

use super::error::batpak_error_t;
use super::guard;
use super::handle::batpak_store_t;
use super::input::{self, invalid, out};
use super::status::{BATPAK_OK, BATPAK_TIMEOUT, batpak_status_t};
use crate::error::Result;
use crate::store::{Waited, Watermark};

/// Sequences below it are delivered to cursors.
pub const BATPAK_WATERMARK_VISIBLE: u32 = 1u32;
/// Sequences below it survive a power loss.
pub const BATPAK_WATERMARK_DURABLE: u32 = 2u32;

/// Waits until a watermark has reached a bound, that is until every sequence below the bound is visible, or durable.
///
/// watermark: a BATPAK_WATERMARK_ constant. bound: the sequence after the last one of interest; it may lie beyond what
/// is appended so far. timeout_ms: how long to wait: 0 not at all, -1 for ever. err: out, may be NULL.
/// To wait for BATPAK_WATERMARK_DURABLE forces a sync, as soon as all below the bound is appended, and shares it with
/// whoever else needs one. A sync that this thread has begun is seen through, also beyond the timeout. With timeout 0
/// the sync is left to the store's own thread, which begins it as soon as all below the bound is appended (with
/// BATPAK_STORE_NO_HELPER_THREAD the call only looks). To wait for BATPAK_WATERMARK_VISIBLE forces nothing.
/// Returns BATPAK_OK: the watermark is there; BATPAK_TIMEOUT: it is not, in time.
/// Errors: BATPAK_E_CLOSED: the store was closed meanwhile; in a worker's handler, a close is waiting for the handler.
/// BATPAK_E_POISONED: a write or a sync has failed; BATPAK_E_IO, BATPAK_E_DISK_FULL: the sync that this call began has.
/// BATPAK_E_READ_ONLY: durable cannot be forced in a store that was opened for reading only.
/// Any thread, any number at once, also in a handler; waits as long as asked and, when durable is waited for, for the
/// disk; never with timeout 0. On BATPAK_OK for BATPAK_WATERMARK_DURABLE the events below the bound survive a power
/// loss. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_wait(
    store: *mut batpak_store_t,
    watermark: u32,
    bound: u64,
    timeout_ms: i64,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(store, err, |store| {
            let waited = store.wait(watermark_of(watermark)?, bound, input::timeout(timeout_ms)?)?;
            Ok(match waited {
                Waited::Reached => BATPAK_OK,
                Waited::TimedOut => BATPAK_TIMEOUT,
            })
        })
    }
}

/// A descriptor for poll, epoll and the like: readable when the durable watermark may have moved, and when the store was
/// closed or poisoned. Only a batpak_store_wait for BATPAK_WATERMARK_DURABLE with timeout 0 that returns BATPAK_TIMEOUT
/// makes it unreadable, and has a sync made that makes it readable again: so begin with such a call, and on readability
/// call it for what is still waited for until BATPAK_TIMEOUT. There is one per store, for one event loop.
///
/// fd: out; the store's, non-blocking, closed with the store's last handle: neither read, write nor close it. err: out,
/// may be NULL.
/// Errors: BATPAK_E_IO.
/// Any thread; never waits. It forces no sync. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_store_durable_fd(
    store: *mut batpak_store_t,
    fd: *mut i32,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(store, err, |store| {
            let place = out("fd", fd)?;
            place.write(store.durable_fd()?);
            Ok(BATPAK_OK)
        })
    }
}

fn watermark_of(number: u32) -> Result<Watermark> {
    match number {
        BATPAK_WATERMARK_VISIBLE => Ok(Watermark::Visible),
        BATPAK_WATERMARK_DURABLE => Ok(Watermark::Durable),
        other => Err(invalid("watermark", &other, "give one of the BATPAK_WATERMARK_ constants")),
    }
}
