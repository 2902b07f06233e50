//! The primitives that threads meet at: locks, conditions, atomics, threads, and the clock that waits end by.
//!
//! In every build of the library these are the standard library's own, under another path. Under `--cfg shuttle` they
//! are those of a scheduler that tries interleavings (`model`), so that what the models run is the engine itself.
//! What a thread keeps while another may want it comes from here; reference counts, and what is never held between two steps that
//! others see (the atomics of an index), do not.

#[cfg(shuttle)]
pub mod model;

#[cfg(shuttle)]
pub(crate) use model::thread_local;
#[cfg(shuttle)]
pub use model::{
    Condvar, Instant, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic, thread,
};

#[cfg(not(shuttle))]
pub use std::{
    sync::{Condvar, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic},
    thread, thread_local,
    time::Instant,
};
