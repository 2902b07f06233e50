//! Fences.
//|
//| Fence
//|
//| A fence groups events, of any number of appends, that become visible at once when it is committed, or never. It owns
//| the entities that it appends to: until it is decided, others get BATPAK_E_STREAM_FENCED for them, which they may try
//| again. Events of others that come after its first one stay hidden meanwhile, so keep fences short. A fence that is
//| not decided in its time, or when the store is closed or the process dies, is cancelled: its events are hidden for
//| ever, and its entities are where it found them.

use super::error::batpak_error_t;
use super::guard;
use super::handle::{self, Castable, batpak_fence_t, batpak_store_t};
use super::input::{or_default, out_handle};
use super::options::{self, Versioned, check_reserved};
use super::status::{BATPAK_OK, batpak_status_t};
use super::store::{
    BATPAK_DURABILITY_DEFAULT, Request, Target, batpak_append_options_t, batpak_append_t, batpak_receipt_t,
    durability_of,
};
use crate::error::Result;
use crate::store::{FENCE_TIMEOUT, Fence, FenceOptions};
use std::time::Duration;

/// How to begin a fence.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct batpak_fence_options_t {
    /// sizeof(batpak_fence_options_t).
    pub struct_size: u32,
    /// How long the fence may stay open, in milliseconds: up to 3600000; 0 for the default, 10000. Then it is cancelled.
    pub timeout_ms: u32,
    /// Zero.
    pub reserved: [u64; 4],
}

// SAFETY: repr(C), integers without padding, the size first.
unsafe impl Versioned for batpak_fence_options_t {
    const NAME: &'static str = "batpak_fence_options_t";
    const REMEDY: &'static str = "call batpak_fence_options_init first";

    fn defaults() -> batpak_fence_options_t {
        batpak_fence_options_t {
            struct_size: size_of::<batpak_fence_options_t>() as u32,
            timeout_ms: FENCE_TIMEOUT.as_millis() as u32,
            reserved: [0; 4],
        }
    }

    fn check(&self) -> Result<()> {
        check_reserved(Self::NAME, &self.reserved, 0, 0)
    }
}

impl Castable for batpak_fence_t {
    type Object = Fence;
    const TAG: u64 = u64::from_le_bytes(*b"bpkFence");
    const NOUN: &'static str = "fence";
    const REMEDY: &'static str = "pass a fence that batpak_fence_begin has given";
    const SURVIVES_FORK: bool = false;
}

/// Fills fence options with the defaults.
///
/// options: out. size: sizeof(batpak_fence_options_t). err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_fence_options_init(
    options: *mut batpak_fence_options_t,
    size: usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::call(err, || options::init(options, size).map(|()| BATPAK_OK)) }
}

/// Begins a fence. Until something is appended under it, it hides nothing and owns nothing.
///
/// options: may be NULL for the defaults. fence: out; to be committed or cancelled, and freed with batpak_fence_free;
/// NULL on failure. err: out, may be NULL.
/// Errors: BATPAK_E_INVALID_ARGUMENT, BATPAK_E_READ_ONLY, BATPAK_E_POISONED.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_fence_begin(
    store: *mut batpak_store_t,
    options: *const batpak_fence_options_t,
    fence: *mut *mut batpak_fence_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        let place = out_handle("fence", fence);
        guard::on(store, err, |store| {
            let place = place?;
            let given = options::read(options)?;
            let timeout_ms = or_default(given.timeout_ms, FENCE_TIMEOUT.as_millis() as u32);
            let options = FenceOptions { timeout: Duration::from_millis(timeout_ms.into()) };
            place.write(handle::create(store.begin_fence(&options)?));
            Ok(BATPAK_OK)
        })
    }
}

/// Appends events under a fence, all of them or none.
///
/// items, n, receipts: as in batpak_store_append. options: may be NULL; its durability must be 0. err: out, may be NULL.
/// The receipts say durability 0: nothing is promised before the commit. Expected states and idempotency keys see the
/// fence's own events.
/// Errors: those of batpak_store_append; BATPAK_E_FENCE_EXPIRED, BATPAK_E_FENCE_DECIDED: the fence takes nothing more.
/// Any thread; does not wait for a sync. Nothing is durable on return. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_fence_append(
    fence: *mut batpak_fence_t,
    items: *const batpak_append_t,
    n: usize,
    options: *const batpak_append_options_t,
    receipts: *mut batpak_receipt_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::on(fence, err, |fence| Request::new(items, n, options, receipts)?.append(Target::Fence(fence))) }
}

/// Makes all events of a fence visible, at once. A fence that is committed already is BATPAK_OK.
///
/// durability: a BATPAK_DURABILITY_ constant. err: out, may be NULL.
/// Errors: BATPAK_E_FENCE_EXPIRED, BATPAK_E_FENCE_DECIDED: it was cancelled; BATPAK_E_DISK_FULL: it is still open, try
/// again; BATPAK_E_IO, BATPAK_E_POISONED: it is decided when the store is opened again, whole.
/// Any thread; with BATPAK_DURABILITY_STORAGE it waits for the disk. On BATPAK_OK the fence and its events are as durable
/// as asked; with BATPAK_DURABILITY_PROCESS a power loss may still take them back, all together. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_fence_commit(
    fence: *mut batpak_fence_t,
    durability: u32,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::on(fence, err, |fence| fence.commit(durability_of(durability)?).map(|()| BATPAK_OK)) }
}

/// Hides the events of a fence for ever, and puts its entities back to where it found them. A fence that is cancelled
/// already, or whose time was over, is BATPAK_OK.
///
/// err: out, may be NULL.
/// Errors: BATPAK_E_FENCE_DECIDED: it was committed.
/// Any thread; never waits for the disk. Nothing can bring the events back, a crash neither. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_fence_cancel(
    fence: *mut batpak_fence_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::on(fence, err, |fence| fence.cancel().map(|()| BATPAK_OK)) }
}

/// Gives the handle of a fence back. A fence that is not decided is cancelled.
///
/// fence: may be NULL. Any thread; never waits for the disk. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_fence_free(fence: *mut batpak_fence_t) {
    // SAFETY: P; the reference was the caller's.
    unsafe { handle::free(fence) }
}

const _: () = assert!(BATPAK_DURABILITY_DEFAULT == 0);
