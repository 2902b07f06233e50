//! The frozen numbers of the statuses, their names and descriptions, and the map from [`Error`] to them.
//!
//! Every error variant has a number (the map is exhaustive, so a new variant does not compile without one). Numbers are
//! never changed or given to another meaning; a retired one stays reserved here. The description of a status is the
//! comment of its constant: a test compares the two.
//|
//| Status
//|
//| Every call that can fail returns a status: 0 for success, a negative number for an error, and a positive one for an
//| outcome that is no error, such as a poll that found nothing. The numbers are frozen.

use crate::error::Error;

/// The outcome of a call: BATPAK_OK, a negative BATPAK_E_ number, or a positive outcome that is no error.
#[allow(non_camel_case_types)]
pub type batpak_status_t = i32;

/// success
pub const BATPAK_OK: i32 = 0;
/// the poll found no event; it was not asked to wait
pub const BATPAK_EMPTY: i32 = 1;
/// the time given has passed
pub const BATPAK_TIMEOUT: i32 = 2;
/// the wait was ended by an interrupt
pub const BATPAK_INTERRUPTED: i32 = 3;
/// a parameter is NULL, of the wrong type or outside its documented range
pub const BATPAK_E_INVALID_ARGUMENT: i32 = -1;
/// a flag, option, reserved field or version that this library does not have
pub const BATPAK_E_UNSUPPORTED: i32 = -2;
/// an entity or scope is empty
pub const BATPAK_E_COORDINATE_EMPTY: i32 = -3;
/// an entity or scope has more than 1024 bytes
pub const BATPAK_E_COORDINATE_TOO_LONG: i32 = -4;
/// an entity or scope is not UTF-8
pub const BATPAK_E_COORDINATE_NOT_UTF8: i32 = -5;
/// an entity or scope has a control byte, '/', '..', '|' or '='
pub const BATPAK_E_COORDINATE_CHARACTER: i32 = -6;
/// an entity or scope is exactly "*"
pub const BATPAK_E_COORDINATE_WILDCARD: i32 = -7;
/// the entity is "batpak" or starts with "batpak:", which belong to the library
pub const BATPAK_E_ENTITY_RESERVED: i32 = -8;
/// the kind has a category above 15 or a type above 4095
pub const BATPAK_E_KIND_OUT_OF_RANGE: i32 = -9;
/// the kind has the category 0x0 or 0xD, which belong to the library
pub const BATPAK_E_KIND_RESERVED: i32 = -10;
/// the clock range ends before it starts
pub const BATPAK_E_CLOCK_RANGE_INVERTED: i32 = -11;
/// the payload is larger than the store accepts
pub const BATPAK_E_PAYLOAD_TOO_LARGE: i32 = -12;
/// an event has more than 64 causes
pub const BATPAK_E_TOO_MANY_CAUSES: i32 = -13;
/// a cause looks like an event of this store, but no such event was appended
pub const BATPAK_E_CAUSE_UNKNOWN: i32 = -14;
/// a batch cause is not an earlier item of the same batch
pub const BATPAK_E_CAUSE_NOT_EARLIER: i32 = -15;
/// the batch has no items
pub const BATPAK_E_BATCH_EMPTY: i32 = -16;
/// the batch needs more bytes than one segment file can hold
pub const BATPAK_E_BATCH_TOO_LARGE: i32 = -17;
/// the store holds 2^46 events, the most that ids can number
pub const BATPAK_E_SEQUENCE_EXHAUSTED: i32 = -18;
/// the checkpoint id is not 1 to 200 bytes of [A-Za-z0-9._:-] without a leading dot
pub const BATPAK_E_CHECKPOINT_ID_INVALID: i32 = -19;
/// the idempotency key does not have 16 to 64 bytes
pub const BATPAK_E_KEY_LENGTH: i32 = -20;

/// the entity is not at the clock that the append expects
pub const BATPAK_E_EXPECTED_STATE: i32 = -30;
/// the idempotency key was used for an event with other content
pub const BATPAK_E_IDEMPOTENCY_CONFLICT: i32 = -31;
/// the entity belongs to an open fence; try again later
pub const BATPAK_E_STREAM_FENCED: i32 = -32;
/// a cause or key names an event of another fence that is not decided; try again later
pub const BATPAK_E_FENCE_PENDING: i32 = -33;
/// the fence was cancelled because its time was over
pub const BATPAK_E_FENCE_EXPIRED: i32 = -34;
/// the fence was committed or cancelled before
pub const BATPAK_E_FENCE_DECIDED: i32 = -35;

/// the store, cursor or worker is closed
pub const BATPAK_E_CLOSED: i32 = -40;
/// handlers were still running when close ran into its timeout; call close again
pub const BATPAK_E_BUSY: i32 = -41;
/// another thread is using the object, which serves one thread at a time
pub const BATPAK_E_CONCURRENT: i32 = -42;
/// the call may not be made from inside a handler of the same object
pub const BATPAK_E_REENTRANT: i32 = -43;
/// the object was made before fork and this is the child process
pub const BATPAK_E_FORKED: i32 = -44;
/// the store was opened for reading only
pub const BATPAK_E_READ_ONLY: i32 = -45;
/// an earlier write or sync failed; the store refuses appends until it is opened again
pub const BATPAK_E_POISONED: i32 = -46;
/// a defect inside the library; the object is unusable
pub const BATPAK_E_INTERNAL: i32 = -47;
/// there is no memory for the request
pub const BATPAK_E_NO_MEMORY: i32 = -48;

/// the directory holds something else than a store
pub const BATPAK_E_NOT_A_STORE: i32 = -60;
/// the directory does not exist, or holds no store, and creating was ruled out
pub const BATPAK_E_NOT_FOUND: i32 = -61;
/// the directory already holds a store and BATPAK_STORE_EXCLUSIVE was given
pub const BATPAK_E_ALREADY_EXISTS: i32 = -62;
/// the store is open elsewhere, in this process or another
pub const BATPAK_E_LOCKED: i32 = -63;
/// a file has a format newer than this library reads
pub const BATPAK_E_NEWER_FORMAT: i32 = -64;
/// bytes that were durable are damaged
pub const BATPAK_E_CORRUPT: i32 = -65;
/// a file in the directory belongs to another store
pub const BATPAK_E_STORE_MISMATCH: i32 = -66;
/// the file system has no space, or the quota is used up
pub const BATPAK_E_DISK_FULL: i32 = -67;
/// the operating system refused or failed a file operation
pub const BATPAK_E_IO: i32 = -68;

/// the checkpoint file cannot be read as one
pub const BATPAK_E_CHECKPOINT_CORRUPT: i32 = -80;
/// the checkpoint was made over another region
pub const BATPAK_E_CHECKPOINT_REGION_MISMATCH: i32 = -81;
/// the checkpoint was made on another store
pub const BATPAK_E_CHECKPOINT_STORE_MISMATCH: i32 = -82;
/// the checkpoint lies beyond the end of the log
pub const BATPAK_E_CHECKPOINT_AHEAD: i32 = -83;
/// the log has another event at the checkpoint's position
pub const BATPAK_E_CHECKPOINT_DIVERGED: i32 = -84;
/// another live cursor or worker has the checkpoint id
pub const BATPAK_E_CHECKPOINT_IN_USE: i32 = -85;
/// there is no checkpoint of that id
pub const BATPAK_E_CHECKPOINT_NOT_FOUND: i32 = -86;
/// a worker could not write its checkpoint; it rolled back and stopped
pub const BATPAK_E_CHECKPOINT_WRITE_FAILED: i32 = -87;

/// the sequence was not delivered by this cursor yet
pub const BATPAK_E_NOT_DELIVERED: i32 = -100;
/// the cursor was opened without a checkpoint id
pub const BATPAK_E_NO_CHECKPOINT: i32 = -101;
/// the handler failed more often than the restart policy allows
pub const BATPAK_E_RESTART_BUDGET_EXHAUSTED: i32 = -102;
/// the handler asked for more retries of one batch than allowed
pub const BATPAK_E_RETRIES_EXHAUSTED: i32 = -103;
/// the worker's thread died
pub const BATPAK_E_WORKER_CRASHED: i32 = -104;

/// One row of the table of statuses.
pub(super) struct Row {
    pub(super) code: i32,
    /// With a closing NUL, as is `description`.
    pub(super) name: &'static str,
    pub(super) description: &'static str,
}

const fn row(code: i32, name: &'static str, description: &'static str) -> Row {
    Row { code, name, description }
}

/// Every status of this version, in the order of the header.
pub(super) const ROWS: &[Row] = &[
    row(BATPAK_OK, "BATPAK_OK\0", "success\0"),
    row(BATPAK_EMPTY, "BATPAK_EMPTY\0", "the poll found no event; it was not asked to wait\0"),
    row(BATPAK_TIMEOUT, "BATPAK_TIMEOUT\0", "the time given has passed\0"),
    row(BATPAK_INTERRUPTED, "BATPAK_INTERRUPTED\0", "the wait was ended by an interrupt\0"),
    row(
        BATPAK_E_INVALID_ARGUMENT,
        "BATPAK_E_INVALID_ARGUMENT\0",
        "a parameter is NULL, of the wrong type or outside its documented range\0",
    ),
    row(
        BATPAK_E_UNSUPPORTED,
        "BATPAK_E_UNSUPPORTED\0",
        "a flag, option, reserved field or version that this library does not have\0",
    ),
    row(BATPAK_E_COORDINATE_EMPTY, "BATPAK_E_COORDINATE_EMPTY\0", "an entity or scope is empty\0"),
    row(
        BATPAK_E_COORDINATE_TOO_LONG,
        "BATPAK_E_COORDINATE_TOO_LONG\0",
        "an entity or scope has more than 1024 bytes\0",
    ),
    row(BATPAK_E_COORDINATE_NOT_UTF8, "BATPAK_E_COORDINATE_NOT_UTF8\0", "an entity or scope is not UTF-8\0"),
    row(
        BATPAK_E_COORDINATE_CHARACTER,
        "BATPAK_E_COORDINATE_CHARACTER\0",
        "an entity or scope has a control byte, '/', '..', '|' or '='\0",
    ),
    row(BATPAK_E_COORDINATE_WILDCARD, "BATPAK_E_COORDINATE_WILDCARD\0", "an entity or scope is exactly \"*\"\0"),
    row(
        BATPAK_E_ENTITY_RESERVED,
        "BATPAK_E_ENTITY_RESERVED\0",
        "the entity is \"batpak\" or starts with \"batpak:\", which belong to the library\0",
    ),
    row(
        BATPAK_E_KIND_OUT_OF_RANGE,
        "BATPAK_E_KIND_OUT_OF_RANGE\0",
        "the kind has a category above 15 or a type above 4095\0",
    ),
    row(
        BATPAK_E_KIND_RESERVED,
        "BATPAK_E_KIND_RESERVED\0",
        "the kind has the category 0x0 or 0xD, which belong to the library\0",
    ),
    row(BATPAK_E_CLOCK_RANGE_INVERTED, "BATPAK_E_CLOCK_RANGE_INVERTED\0", "the clock range ends before it starts\0"),
    row(BATPAK_E_PAYLOAD_TOO_LARGE, "BATPAK_E_PAYLOAD_TOO_LARGE\0", "the payload is larger than the store accepts\0"),
    row(BATPAK_E_TOO_MANY_CAUSES, "BATPAK_E_TOO_MANY_CAUSES\0", "an event has more than 64 causes\0"),
    row(
        BATPAK_E_CAUSE_UNKNOWN,
        "BATPAK_E_CAUSE_UNKNOWN\0",
        "a cause looks like an event of this store, but no such event was appended\0",
    ),
    row(
        BATPAK_E_CAUSE_NOT_EARLIER,
        "BATPAK_E_CAUSE_NOT_EARLIER\0",
        "a batch cause is not an earlier item of the same batch\0",
    ),
    row(BATPAK_E_BATCH_EMPTY, "BATPAK_E_BATCH_EMPTY\0", "the batch has no items\0"),
    row(
        BATPAK_E_BATCH_TOO_LARGE,
        "BATPAK_E_BATCH_TOO_LARGE\0",
        "the batch needs more bytes than one segment file can hold\0",
    ),
    row(
        BATPAK_E_SEQUENCE_EXHAUSTED,
        "BATPAK_E_SEQUENCE_EXHAUSTED\0",
        "the store holds 2^46 events, the most that ids can number\0",
    ),
    row(
        BATPAK_E_CHECKPOINT_ID_INVALID,
        "BATPAK_E_CHECKPOINT_ID_INVALID\0",
        "the checkpoint id is not 1 to 200 bytes of [A-Za-z0-9._:-] without a leading dot\0",
    ),
    row(BATPAK_E_KEY_LENGTH, "BATPAK_E_KEY_LENGTH\0", "the idempotency key does not have 16 to 64 bytes\0"),
    row(
        BATPAK_E_EXPECTED_STATE,
        "BATPAK_E_EXPECTED_STATE\0",
        "the entity is not at the clock that the append expects\0",
    ),
    row(
        BATPAK_E_IDEMPOTENCY_CONFLICT,
        "BATPAK_E_IDEMPOTENCY_CONFLICT\0",
        "the idempotency key was used for an event with other content\0",
    ),
    row(BATPAK_E_STREAM_FENCED, "BATPAK_E_STREAM_FENCED\0", "the entity belongs to an open fence; try again later\0"),
    row(
        BATPAK_E_FENCE_PENDING,
        "BATPAK_E_FENCE_PENDING\0",
        "a cause or key names an event of another fence that is not decided; try again later\0",
    ),
    row(BATPAK_E_FENCE_EXPIRED, "BATPAK_E_FENCE_EXPIRED\0", "the fence was cancelled because its time was over\0"),
    row(BATPAK_E_FENCE_DECIDED, "BATPAK_E_FENCE_DECIDED\0", "the fence was committed or cancelled before\0"),
    row(BATPAK_E_CLOSED, "BATPAK_E_CLOSED\0", "the store, cursor or worker is closed\0"),
    row(
        BATPAK_E_BUSY,
        "BATPAK_E_BUSY\0",
        "handlers were still running when close ran into its timeout; call close again\0",
    ),
    row(
        BATPAK_E_CONCURRENT,
        "BATPAK_E_CONCURRENT\0",
        "another thread is using the object, which serves one thread at a time\0",
    ),
    row(
        BATPAK_E_REENTRANT,
        "BATPAK_E_REENTRANT\0",
        "the call may not be made from inside a handler of the same object\0",
    ),
    row(BATPAK_E_FORKED, "BATPAK_E_FORKED\0", "the object was made before fork and this is the child process\0"),
    row(BATPAK_E_READ_ONLY, "BATPAK_E_READ_ONLY\0", "the store was opened for reading only\0"),
    row(
        BATPAK_E_POISONED,
        "BATPAK_E_POISONED\0",
        "an earlier write or sync failed; the store refuses appends until it is opened again\0",
    ),
    row(BATPAK_E_INTERNAL, "BATPAK_E_INTERNAL\0", "a defect inside the library; the object is unusable\0"),
    row(BATPAK_E_NO_MEMORY, "BATPAK_E_NO_MEMORY\0", "there is no memory for the request\0"),
    row(BATPAK_E_NOT_A_STORE, "BATPAK_E_NOT_A_STORE\0", "the directory holds something else than a store\0"),
    row(
        BATPAK_E_NOT_FOUND,
        "BATPAK_E_NOT_FOUND\0",
        "the directory does not exist, or holds no store, and creating was ruled out\0",
    ),
    row(
        BATPAK_E_ALREADY_EXISTS,
        "BATPAK_E_ALREADY_EXISTS\0",
        "the directory already holds a store and BATPAK_STORE_EXCLUSIVE was given\0",
    ),
    row(BATPAK_E_LOCKED, "BATPAK_E_LOCKED\0", "the store is open elsewhere, in this process or another\0"),
    row(BATPAK_E_NEWER_FORMAT, "BATPAK_E_NEWER_FORMAT\0", "a file has a format newer than this library reads\0"),
    row(BATPAK_E_CORRUPT, "BATPAK_E_CORRUPT\0", "bytes that were durable are damaged\0"),
    row(BATPAK_E_STORE_MISMATCH, "BATPAK_E_STORE_MISMATCH\0", "a file in the directory belongs to another store\0"),
    row(BATPAK_E_DISK_FULL, "BATPAK_E_DISK_FULL\0", "the file system has no space, or the quota is used up\0"),
    row(BATPAK_E_IO, "BATPAK_E_IO\0", "the operating system refused or failed a file operation\0"),
    row(BATPAK_E_CHECKPOINT_CORRUPT, "BATPAK_E_CHECKPOINT_CORRUPT\0", "the checkpoint file cannot be read as one\0"),
    row(
        BATPAK_E_CHECKPOINT_REGION_MISMATCH,
        "BATPAK_E_CHECKPOINT_REGION_MISMATCH\0",
        "the checkpoint was made over another region\0",
    ),
    row(
        BATPAK_E_CHECKPOINT_STORE_MISMATCH,
        "BATPAK_E_CHECKPOINT_STORE_MISMATCH\0",
        "the checkpoint was made on another store\0",
    ),
    row(BATPAK_E_CHECKPOINT_AHEAD, "BATPAK_E_CHECKPOINT_AHEAD\0", "the checkpoint lies beyond the end of the log\0"),
    row(
        BATPAK_E_CHECKPOINT_DIVERGED,
        "BATPAK_E_CHECKPOINT_DIVERGED\0",
        "the log has another event at the checkpoint's position\0",
    ),
    row(
        BATPAK_E_CHECKPOINT_IN_USE,
        "BATPAK_E_CHECKPOINT_IN_USE\0",
        "another live cursor or worker has the checkpoint id\0",
    ),
    row(BATPAK_E_CHECKPOINT_NOT_FOUND, "BATPAK_E_CHECKPOINT_NOT_FOUND\0", "there is no checkpoint of that id\0"),
    row(
        BATPAK_E_CHECKPOINT_WRITE_FAILED,
        "BATPAK_E_CHECKPOINT_WRITE_FAILED\0",
        "a worker could not write its checkpoint; it rolled back and stopped\0",
    ),
    row(BATPAK_E_NOT_DELIVERED, "BATPAK_E_NOT_DELIVERED\0", "the sequence was not delivered by this cursor yet\0"),
    row(BATPAK_E_NO_CHECKPOINT, "BATPAK_E_NO_CHECKPOINT\0", "the cursor was opened without a checkpoint id\0"),
    row(
        BATPAK_E_RESTART_BUDGET_EXHAUSTED,
        "BATPAK_E_RESTART_BUDGET_EXHAUSTED\0",
        "the handler failed more often than the restart policy allows\0",
    ),
    row(
        BATPAK_E_RETRIES_EXHAUSTED,
        "BATPAK_E_RETRIES_EXHAUSTED\0",
        "the handler asked for more retries of one batch than allowed\0",
    ),
    row(BATPAK_E_WORKER_CRASHED, "BATPAK_E_WORKER_CRASHED\0", "the worker's thread died\0"),
];

/// The number of an error. A refused batch item has the number of its cause, as if it had been appended alone; the
/// item's index is a detail of the error object.
pub(super) fn of(error: &Error) -> batpak_status_t {
    match error {
        Error::BatchItem { source, .. } => of(source),
        Error::InvalidArgument { .. } => BATPAK_E_INVALID_ARGUMENT,
        Error::Unsupported { .. } => BATPAK_E_UNSUPPORTED,
        Error::CoordinateEmpty { .. } => BATPAK_E_COORDINATE_EMPTY,
        Error::CoordinateTooLong { .. } => BATPAK_E_COORDINATE_TOO_LONG,
        Error::CoordinateNotUtf8 { .. } => BATPAK_E_COORDINATE_NOT_UTF8,
        Error::CoordinateCharacter { .. } => BATPAK_E_COORDINATE_CHARACTER,
        Error::CoordinateWildcard { .. } => BATPAK_E_COORDINATE_WILDCARD,
        Error::EntityReserved { .. } => BATPAK_E_ENTITY_RESERVED,
        Error::KindOutOfRange { .. } => BATPAK_E_KIND_OUT_OF_RANGE,
        Error::KindReserved { .. } => BATPAK_E_KIND_RESERVED,
        Error::ClockRangeInverted { .. } => BATPAK_E_CLOCK_RANGE_INVERTED,
        Error::PayloadTooLarge { .. } => BATPAK_E_PAYLOAD_TOO_LARGE,
        Error::TooManyCauses { .. } => BATPAK_E_TOO_MANY_CAUSES,
        Error::CauseUnknown { .. } => BATPAK_E_CAUSE_UNKNOWN,
        Error::CauseNotEarlier { .. } => BATPAK_E_CAUSE_NOT_EARLIER,
        Error::BatchEmpty => BATPAK_E_BATCH_EMPTY,
        Error::BatchTooLarge { .. } => BATPAK_E_BATCH_TOO_LARGE,
        Error::SequenceExhausted => BATPAK_E_SEQUENCE_EXHAUSTED,
        Error::CheckpointIdInvalid { .. } => BATPAK_E_CHECKPOINT_ID_INVALID,
        Error::KeyLength { .. } => BATPAK_E_KEY_LENGTH,
        Error::ExpectedState { .. } => BATPAK_E_EXPECTED_STATE,
        Error::IdempotencyConflict { .. } => BATPAK_E_IDEMPOTENCY_CONFLICT,
        Error::StreamFenced { .. } => BATPAK_E_STREAM_FENCED,
        Error::FencePending { .. } => BATPAK_E_FENCE_PENDING,
        Error::FenceExpired { .. } => BATPAK_E_FENCE_EXPIRED,
        Error::FenceDecided { .. } => BATPAK_E_FENCE_DECIDED,
        Error::Closed { .. } => BATPAK_E_CLOSED,
        Error::Busy { .. } => BATPAK_E_BUSY,
        Error::Concurrent { .. } => BATPAK_E_CONCURRENT,
        Error::Reentrant { .. } => BATPAK_E_REENTRANT,
        Error::Forked { .. } => BATPAK_E_FORKED,
        Error::ReadOnly { .. } => BATPAK_E_READ_ONLY,
        Error::Poisoned { .. } => BATPAK_E_POISONED,
        Error::Internal { .. } => BATPAK_E_INTERNAL,
        Error::NoMemory { .. } => BATPAK_E_NO_MEMORY,
        Error::NotAStore { .. } => BATPAK_E_NOT_A_STORE,
        Error::NotFound { .. } => BATPAK_E_NOT_FOUND,
        Error::AlreadyExists { .. } => BATPAK_E_ALREADY_EXISTS,
        Error::Locked { .. } => BATPAK_E_LOCKED,
        Error::NewerFormat { .. } => BATPAK_E_NEWER_FORMAT,
        Error::Corrupt { .. } => BATPAK_E_CORRUPT,
        Error::StoreMismatch { .. } => BATPAK_E_STORE_MISMATCH,
        Error::DiskFull { .. } => BATPAK_E_DISK_FULL,
        Error::Io { .. } => BATPAK_E_IO,
        Error::CheckpointCorrupt { .. } => BATPAK_E_CHECKPOINT_CORRUPT,
        Error::CheckpointRegionMismatch { .. } => BATPAK_E_CHECKPOINT_REGION_MISMATCH,
        Error::CheckpointStoreMismatch { .. } => BATPAK_E_CHECKPOINT_STORE_MISMATCH,
        Error::CheckpointAhead { .. } => BATPAK_E_CHECKPOINT_AHEAD,
        Error::CheckpointDiverged { .. } => BATPAK_E_CHECKPOINT_DIVERGED,
        Error::CheckpointInUse { .. } => BATPAK_E_CHECKPOINT_IN_USE,
        Error::CheckpointNotFound { .. } => BATPAK_E_CHECKPOINT_NOT_FOUND,
        Error::CheckpointWriteFailed { .. } => BATPAK_E_CHECKPOINT_WRITE_FAILED,
        Error::NotDelivered { .. } => BATPAK_E_NOT_DELIVERED,
        Error::NoCheckpoint => BATPAK_E_NO_CHECKPOINT,
        Error::RestartBudgetExhausted { .. } => BATPAK_E_RESTART_BUDGET_EXHAUSTED,
        Error::RetriesExhausted { .. } => BATPAK_E_RETRIES_EXHAUSTED,
        Error::WorkerCrashed { .. } => BATPAK_E_WORKER_CRASHED,
    }
}

/// The name of a status (with its closing NUL), also for numbers that this version does not know.
pub(super) fn name(code: i32) -> &'static str {
    find(code).map_or("BATPAK_E_UNKNOWN\0", |row| row.name)
}

/// The description of a status (with its closing NUL), also for numbers that this version does not know.
pub(super) fn description(code: i32) -> &'static str {
    find(code).map_or("a status that this version of the library does not know\0", |row| row.description)
}

fn find(code: i32) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The constants of this file as (name, number, comment), read from its source.
    fn constants() -> Vec<(String, i32, String)> {
        let mut comment = String::new();
        let mut found = Vec::new();
        for line in include_str!("status.rs").lines() {
            if let Some(text) = line.strip_prefix("/// ") {
                comment = text.to_owned();
            } else if let Some(rest) = line.strip_prefix("pub const BATPAK_") {
                let (name, value) = rest.split_once(": i32 = ").expect("a typed literal");
                let code = value.trim_end_matches(';').parse().expect("a literal");
                found.push((format!("BATPAK_{name}"), code, comment.clone()));
            }
        }
        found
    }

    #[test]
    fn the_table_has_every_constant_once_with_its_comment() {
        let table: Vec<_> = ROWS
            .iter()
            .map(|row| {
                (
                    row.name.trim_end_matches('\0').to_owned(),
                    row.code,
                    row.description.trim_end_matches('\0').to_owned(),
                )
            })
            .collect();
        assert_eq!(table, constants());
    }

    #[test]
    fn numbers_are_unique_and_names_end_with_nul() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..index].iter().all(|earlier| earlier.code != row.code), "{} is twice", row.code);
            assert!(row.name.ends_with('\0') && row.description.ends_with('\0'));
        }
        assert_eq!(name(-9999), "BATPAK_E_UNKNOWN\0");
    }

    #[test]
    fn a_refused_item_has_the_number_of_its_cause() {
        let error = Error::BatchItem { index: 3, source: Box::new(Error::BatchEmpty) };
        assert_eq!(of(&error), BATPAK_E_BATCH_EMPTY);
    }
}
