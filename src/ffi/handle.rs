//! The objects that callers hold: a tagged, counted cell behind an opaque pointer.
//!
//! # Invariants
//! 1. Every `*mut C` given to a caller, `C: Castable`, is `Arc::into_raw` of an `Arc<Handle<C::Object>>` (for errors: a
//!    box or a static of the same layout). The tag of such a cell is `C::TAG`, and no two types share one.
//! 2. The tag lies first in every cell, so it can be read before the type is known. It is [`FREED`] once the last
//!    reference is gone, which catches some uses after free, not all.
//! 3. A cell made before a fork is neither used nor dropped in the child (locks in it may be held by threads that the
//!    child does not have): [`borrow`] refuses it, [`free`] forgets it.
//|
//| Objects

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::io::fork;
use crate::io::thread::Uncancelled;

/// A store: one directory, open. Any number of threads may use it at once.
pub struct batpak_store_t {
    _opaque: [u8; 0],
}

/// A group of events that becomes visible at once, or never. Any number of threads may use it at once.
pub struct batpak_fence_t {
    _opaque: [u8; 0],
}

/// A reader of a region of a store, in order. One thread at a time, checked (BATPAK_E_CONCURRENT); it may move between
/// threads. Only interrupt, close and free may come from another thread while a call is under way.
pub struct batpak_cursor_t {
    _opaque: [u8; 0],
}

/// Events as delivered, with all their bytes. Immutable and counted; it may outlive its cursor and store, and any
/// number of threads may use and free it.
pub struct batpak_batch_t {
    _opaque: [u8; 0],
}

/// Gaps that a cursor has observed. Immutable; any thread.
pub struct batpak_gap_list_t {
    _opaque: [u8; 0],
}

/// A checkpoint as loaded. Immutable; any thread.
pub struct batpak_checkpoint_t {
    _opaque: [u8; 0],
}

/// The ids of a store's checkpoints. Immutable; any thread.
pub struct batpak_checkpoint_list_t {
    _opaque: [u8; 0],
}

/// Some of a store's entities, in order. Immutable; it may outlive its store; any thread.
pub struct batpak_entity_list_t {
    _opaque: [u8; 0],
}

/// A thread of the library's that gives events to a handler. Any number of threads may use it at once.
pub struct batpak_worker_t {
    _opaque: [u8; 0],
}

/// What a handler is told about one delivery. It is the library's, valid during the handler's call and on its thread
/// only.
pub struct batpak_delivery_t {
    _opaque: [u8; 0],
}

/// What is in a cell once its last reference is gone.
const FREED: u64 = u64::from_le_bytes(*b"bpkFREED");

/// An opaque C type and what stands behind it.
pub(super) trait Castable {
    type Object;
    /// What the cell starts with.
    const TAG: u64;
    /// The noun for messages.
    const NOUN: &'static str;
    /// What to do instead of passing something else.
    const REMEDY: &'static str;
    /// The object may be used in the child of a fork: it is immutable memory.
    const SURVIVES_FORK: bool;
}

/// The cell behind an opaque pointer.
#[repr(C)]
pub(super) struct Handle<T> {
    tag: AtomicU64,
    generation: u32,
    poisoned: AtomicBool,
    object: T,
}

impl<T> Handle<T> {
    pub(super) const fn new(tag: u64, generation: u32, object: T) -> Handle<T> {
        Handle { tag: AtomicU64::new(tag), generation, poisoned: AtomicBool::new(false), object }
    }

    #[inline]
    pub(super) fn object(&self) -> &T {
        &self.object
    }

    /// After a panic inside the object: further calls are refused.
    pub(super) fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    #[inline]
    fn is_of_this_process(&self) -> bool {
        self.generation == fork::generation()
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.tag.store(FREED, Ordering::Relaxed);
    }
}

/// Makes a cell; the caller of the library owns the one reference to it.
pub(super) fn create<C: Castable>(object: C::Object) -> *mut C {
    let cell = Arc::new(Handle::new(C::TAG, fork::generation(), object));
    Arc::into_raw(cell).cast_mut().cast()
}

/// The cell behind `pointer`, whatever state its object is in. `None`: null, or no cell of this type.
///
/// # Safety
/// `pointer` is null or points to a live cell (of any type) that outlives `'a`, or to at least 8 readable bytes.
#[inline]
pub(super) unsafe fn peek<'a, C: Castable>(pointer: *const C) -> Option<&'a Handle<C::Object>> {
    let tag = pointer.cast::<AtomicU64>();
    if tag.is_null() || !tag.is_aligned() {
        return None;
    }
    // SAFETY: not null, aligned and readable, as the caller says.
    if unsafe { (*tag).load(Ordering::Relaxed) } != C::TAG {
        return None;
    }
    // SAFETY: only a cell of this type has this tag (invariant 1), and it is live, as the caller says.
    Some(unsafe { &*pointer.cast::<Handle<C::Object>>() })
}

/// The cell behind `pointer`, when its object may be used.
///
/// # Safety
/// As for [`peek`].
#[inline]
pub(super) unsafe fn borrow<'a, C: Castable>(pointer: *const C) -> Result<&'a Handle<C::Object>> {
    // SAFETY: the same contract.
    let cell = unsafe { borrow_poisoned(pointer) }?;
    if cell.poisoned.load(Ordering::Relaxed) {
        return Err(poisoned::<C>());
    }
    Ok(cell)
}

/// As [`borrow`], but also for an object that a panic left in an unknown state: to close it.
///
/// # Safety
/// As for [`peek`].
#[inline]
pub(super) unsafe fn borrow_poisoned<'a, C: Castable>(pointer: *const C) -> Result<&'a Handle<C::Object>> {
    // SAFETY: the same contract.
    match unsafe { peek(pointer) } {
        Some(cell) if C::SURVIVES_FORK || cell.is_of_this_process() => Ok(cell),
        Some(_) => Err(Error::Forked { what: C::NOUN }),
        None => Err(not_a_handle::<C>(pointer.is_null())),
    }
}

#[cold]
fn not_a_handle<C: Castable>(is_null: bool) -> Error {
    let value = if is_null { "NULL" } else { "a handle of another type, or one that was freed" };
    Error::InvalidArgument { what: C::NOUN, value: value.to_owned(), remedy: C::REMEDY }
}

#[cold]
fn poisoned<C: Castable>() -> Error {
    Error::Internal { what: C::NOUN, message: "an earlier call failed with an internal error".to_owned() }
}

/// One more reference, for the caller to free.
///
/// # Safety
/// As for [`peek`].
pub(super) unsafe fn retain<C: Castable>(pointer: *mut C) -> *mut C {
    // SAFETY: the same contract.
    match unsafe { peek(pointer.cast_const()) } {
        Some(cell) => {
            // SAFETY: the cell came from `Arc::into_raw` (invariant 1) and is live.
            unsafe { Arc::increment_strong_count(std::ptr::from_ref(cell)) };
            pointer
        }
        None => std::ptr::null_mut(),
    }
}

/// Gives one reference back. Null and what is no cell of this type are left alone; so is a cell of another process.
///
/// # Safety
/// As for [`peek`], and the caller owns a reference to the cell and does not use it again.
pub(super) unsafe fn free<C: Castable>(pointer: *mut C) {
    // SAFETY: the same contract.
    let Some(cell) = (unsafe { peek(pointer.cast_const()) }) else { return };
    if !cell.is_of_this_process() {
        return;
    }
    let cell = std::ptr::from_ref(cell);
    let _uncancelled = Uncancelled::enter();
    // A panic while dropping must not cross the boundary, and there is nobody to tell.
    // SAFETY: the cell came from `Arc::into_raw` (invariant 1), and the caller owns the reference given back here.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe { Arc::decrement_strong_count(cell) }));
}
