//! libbatpak: an embedded, crash-safe, append-only event log with a causal graph, durable cursors and supervised workers.
//!
//! The product is the C library (`include/batpak.h`); this crate is what it is made of. Rooms, bottom layer first; imports point
//! down (`docs/ARCHITECTURE.md`):

pub mod error;
// What threads meet at: the standard library's, or a scheduler's.
pub mod event;
pub mod io;
mod sync;
// Bytes and values, on no layer of their own above this one.
pub mod format;
mod log;
// Derived from the log.
mod index;
// Policy.
pub mod store;
// Delivery.
pub mod cursor;
// The C surface: conversion only.
pub mod ffi;

#[cfg(test)]
#[path = "../tests/common/reliability.rs"]
mod reliability;

#[cfg(all(test, shuttle))]
#[path = "../tests/models/mod.rs"]
mod models;

pub use error::{Error, Result};
pub use store::{Durability, NewEvent, Receipt, Stats, Store, StoreOptions, Watermarks};
