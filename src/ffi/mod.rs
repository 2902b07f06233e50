//! The C surface: conversion only, no decisions.
//!
//! Each noun of `include/batpak.h` has a file here, and the header is generated from these files, in the order that
//! `tools/header` lists. Comments marked `///` and `//|` go into the header, so they speak to C programmers; what
//! concerns Rust stands in `//` comments.
//!
//! * [`guard`] stands around every export: a panic becomes a status, and `err` is always written.
//! * [`handle`] makes, checks and frees the objects that callers hold.
//! * [`status`] numbers the errors.
//! * [`options`] reads and writes the public structs that start with their size.
//! * [`callback`] wraps the caller's functions.
//!
//! # What the `SAFETY` comments refer to
//! The exports trust their callers in exactly what the opening of the header ("Rules") says:
//! * **P** (pointers): a pointer parameter is null or valid for what the function documents, for the length given with
//!   it, during the call. A handle is null or came from this library and was not freed. `err` is null or writable.
//! * **T** (threads): an object is used from as many threads as its type's comment allows.
//!
//! Everything else that a caller can get wrong is checked and answered with a status.
//|
//| libbatpak: an embedded, crash-safe, append-only event log.
//|
//| A program opens a store (one directory), appends events to it, and reads them back in order through cursors, which
//| can keep their position across restarts (checkpoints) and can be driven by supervised threads (workers).
//|
//|     batpak_error_t *error = NULL;
//|     batpak_store_t *store = NULL;
//|     if (batpak_store_open_z("data", NULL, &store, &error) != BATPAK_OK ||
//|         batpak_store_append_one(store, "user:1", 6, "web", 3, 0x1001, "hello", 5, NULL, &error) != BATPAK_OK ||
//|         batpak_store_close(store, -1, &error) != BATPAK_OK) {
//|         fprintf(stderr, "%s\n", batpak_error_message(error, NULL));
//|     }
//|     batpak_error_free(error);
//|     batpak_store_free(store);
//|
//| Rules
//|
//| Pointers. A pointer is valid for the length given with it for the whole call. What may be NULL says so. A length of
//| 0 may come with NULL. Text is UTF-8 with a length and need not be terminated; paths are bytes. Everything passed in
//| is copied or used up during the call, unless it is said to be kept.
//|
//| Results. What a function returns through a pointer is either borrowed, and then its owner is named, or it is an
//| object with a _free function of its own. Memory of the library is never given to free(), nor the caller's to the
//| library. Out-parameters are written on success only, except handles, which are set to NULL on failure.
//|
//| Errors. The last parameter of a function that can fail, err, may be NULL. Otherwise it is always written: NULL on
//| success and for the positive statuses, an error object on failure, which the caller frees with batpak_error_free.
//| Every function can return BATPAK_E_INVALID_ARGUMENT (a parameter is NULL, a handle of the wrong type, or out of
//| range), BATPAK_E_INTERNAL (a defect in the library: only _close and _free are then of use on the object), and,
//| where it takes a store, a fence, a cursor or a worker, BATPAK_E_FORKED and BATPAK_E_CLOSED. The comments name the others.
//|
//| Handles. _close ends the work of an object, can fail, and may be repeated. _free gives the handle back: it takes
//| NULL, never waits, comes in any order, and must be called exactly once per handle. A handle that was freed must not
//| be used; the library cannot detect that.
//|
//| Threads. Each object's comment says how many threads may use it at once. Functions that can wait say so. A thread that is
//| cancelled (pthread_cancel) during a call ends after it.
//|
//| Fork. Objects are not inherited: in the child every call on a store, fence, cursor or worker returns BATPAK_E_FORKED, and
//| _free only forgets. A child opens the store anew.
//|
//| Callbacks. They must return normally: to leave one by longjmp, pthread_exit or a C++ exception ends the process.
//| Where a user_data comes with a user_data_free, that is called exactly once, after the last use, from whatever
//| thread comes to it; when the function that takes them fails, it is not called, and user_data stays the caller's.
//|
//| Structs that start with struct_size are prepared with their _init function, or zeroed with struct_size set by hand:
//| zero stands for the default of every member. Reserved members are zero. A struct of an older header (smaller) is
//| understood; one of a newer header is understood as long as what this version does not know is zero, otherwise the
//| answer is BATPAK_E_UNSUPPORTED.
//|
//| Since. What says nothing else is there since 0.1.
//|
//| Durability. BATPAK_DURABILITY_STORAGE: what was acknowledged survives a power loss. BATPAK_DURABILITY_PROCESS: it
//| survives the death of the process, not that of the machine. Appends of the latter go through a mapping of the log's file:
//| somebody who cuts that file meanwhile ends this process by SIGBUS. Everything else answers damage with an error.

// The names are those of the C types.
#![allow(non_camel_case_types)]
// The contract of each export stands in its comment in the words of the header, and in "Rules" above.
#![allow(clippy::missing_safety_doc)]

mod batch;
mod callback;
mod checkpoint;
mod cursor;
mod delivery;
mod entity;
mod error;
mod event;
mod fence;
mod gap;
mod guard;
mod handle;
mod import;
mod input;
#[cfg(all(test, target_pointer_width = "64"))]
mod layout;
mod options;
mod region;
mod status;
mod store;
mod version;
mod wait;
mod worker;
