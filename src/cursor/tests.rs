//! What cursors and checkpoints promise, on a simulated disk.

mod backward;
mod checkpoints;
mod crashes;
mod cursors;
mod gaps;
mod model;
mod waiting;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::io::sim::SimStorage;
use crate::store::{Durability, NewEvent, StoreOptions};

pub(super) const DATA: &str = "/data";

pub(super) fn options(disk: &SimStorage) -> StoreOptions {
    StoreOptions {
        segment_bytes: 1 << 20,
        helper_thread: false,
        storage: Arc::new(disk.clone()),
        ..StoreOptions::default()
    }
}

pub(super) fn open_store(disk: &SimStorage) -> Store {
    Store::open(Path::new(DATA), &options(disk)).unwrap()
}

/// A store on a disk of its own.
pub(super) fn new_store() -> Store {
    open_store(&SimStorage::new(1))
}

pub(super) fn append(store: &Store, entity: &str) {
    append_payload(store, entity, b"x");
}

pub(super) fn append_payload(store: &Store, entity: &str, payload: &[u8]) {
    try_append(store, entity, payload, Durability::Storage).unwrap();
}

pub(super) fn try_append(store: &Store, entity: &str, payload: &[u8], durability: Durability) -> Result<()> {
    let event = NewEvent { entity: entity.as_bytes(), scope: b"test", kind: 0x1001, payload, ..NewEvent::default() };
    store.append(&[event], Some(durability), &mut [])
}

/// Appends to `entity` until a segment is sealed.
pub(super) fn append_until_sealed(store: &Store, entity: &str) {
    let seals = store.seals();
    while store.seals() == seals {
        append_payload(store, entity, &[b'x'; 100_000]);
    }
}

pub(super) fn with_checkpoint(id: &str) -> CursorOptions {
    CursorOptions { checkpoint_id: Some(id.to_owned()), ..CursorOptions::default() }
}

pub(super) fn durable_cursor(store: &Store, id: &str) -> Cursor {
    Cursor::open(store, Region::all(), &with_checkpoint(id)).unwrap()
}

pub(super) fn plain_cursor(store: &Store) -> Cursor {
    Cursor::open(store, Region::all(), &CursorOptions::default()).unwrap()
}

pub(super) fn sequences(polled: Polled) -> Vec<u64> {
    match polled {
        Polled::Batch(batch) => batch.events().iter().map(|event| event.sequence).collect(),
        other => panic!("no batch: {other:?}"),
    }
}

/// Polls at most `events`; none is an empty list.
pub(super) fn poll(cursor: &Cursor, events: usize) -> Vec<u64> {
    match cursor.poll(events, 0, PollTimeout::Never).unwrap() {
        Polled::Empty => Vec::new(),
        polled => sequences(polled),
    }
}

/// All that is left.
pub(super) fn drain(cursor: &Cursor) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let more = poll(cursor, 3);
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

pub(super) const SOON: PollTimeout = PollTimeout::For(Duration::from_secs(20));
