//! One error type for the whole library: each variant is one cause, with the values that a caller needs to act.
//!
//! Decisions match variants, never text. `Display` is the message a user reads: what was refused, the value, what to do.
//! The ABI numbers live in `ffi/status.rs`, which maps every variant.

use std::io;
use std::path::{Path, PathBuf};

/// The result type of every fallible function of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs, reason = "a field is what its variant's message says it is")]
#[non_exhaustive]
pub enum Error {
    // ---- the caller's values -------------------------------------------------------------------------------------
    /// A parameter outside its documented range.
    #[error("{what} is {value}; {remedy}")]
    InvalidArgument { what: &'static str, value: String, remedy: &'static str },
    /// A coordinate part (entity or scope) is empty.
    #[error("the {part} is empty; give 1 to 1024 bytes of UTF-8")]
    CoordinateEmpty { part: &'static str },
    /// A coordinate part is longer than 1024 bytes.
    #[error("the {part} has {length} bytes; at most 1024 are allowed")]
    CoordinateTooLong { part: &'static str, length: usize },
    /// A coordinate part is not UTF-8.
    #[error("the {part} is not UTF-8 (first bad byte at {offset}); encode it as UTF-8")]
    CoordinateNotUtf8 { part: &'static str, offset: usize },
    /// A coordinate part has a byte or a sequence that coordinates may not have.
    #[error("the {part} {value:?} has {found} at byte {offset}; control bytes, '/', '..', '|' and '=' are not allowed")]
    CoordinateCharacter { part: &'static str, value: String, found: String, offset: usize },
    /// A coordinate part is exactly `*`.
    #[error("the {part} is \"*\", which regions use for \"any\"; choose another name")]
    CoordinateWildcard { part: &'static str },
    /// The entity belongs to the library.
    #[error(
        "the entity {value:?} is reserved for the library; choose one that is not \"batpak\" and does not start with \"batpak:\""
    )]
    EntityReserved { value: String },
    /// A kind category outside 0..=15 or a type outside 0..=4095.
    #[error("the kind {value:#x} is out of range; category is 0 to 15, type 0 to 4095")]
    KindOutOfRange { value: u32 },
    /// A kind whose category belongs to the library (0x0 system, 0xD effect).
    #[error("the kind {kind:#06x} has the reserved category {category:#x}; use a category other than 0x0 and 0xD")]
    KindReserved { kind: u16, category: u8 },
    /// A clock range whose start is above its end.
    #[error("the clock range {start}-{end} is inverted; give start <= end")]
    ClockRangeInverted { start: u64, end: u64 },
    /// A payload above the store's limit.
    #[error("the payload has {length} bytes; this store accepts at most {limit}")]
    PayloadTooLarge { length: usize, limit: usize },
    /// More than 64 causes.
    #[error("the event has {count} causes; at most 64 are allowed")]
    TooManyCauses { count: usize },
    /// A cause that carries this store's tag but is no event of it.
    #[error(
        "the cause {id} carries this store's tag but no such event was appended; pass an id from a receipt or an event"
    )]
    CauseUnknown { id: String },
    /// A batch cause that is not an earlier item of the batch.
    #[error("the cause names batch item {index}; only earlier items of the same batch can be named")]
    CauseNotEarlier { index: u32 },
    /// A batch with no item.
    #[error("the batch is empty; give at least one event")]
    BatchEmpty,
    /// A batch with more items or bytes than one segment can ever hold.
    #[error("the batch needs {bytes} bytes; at most {limit} fit one segment file")]
    BatchTooLarge { bytes: u64, limit: u64 },
    /// One item of a batch was refused; the whole batch was.
    #[error("batch item {index}: {source}")]
    BatchItem { index: usize, source: Box<Error> },
    /// 2^46 events.
    #[error("the store holds 2^46 events, the most an event id can number; start a new store")]
    SequenceExhausted,
    /// A checkpoint id that cannot be a file name.
    #[error(
        "the checkpoint id {value:?} is not valid: {reason}; use 1 to 200 bytes of [A-Za-z0-9._:-], not starting with a dot"
    )]
    CheckpointIdInvalid { value: String, reason: &'static str },
    /// A feature, option or version this build does not have.
    #[error("{what} is not supported by this version; {remedy}")]
    Unsupported { what: String, remedy: &'static str },

    /// An idempotency key of the wrong length.
    #[error("the idempotency key has {length} bytes; give 16 to 64, or none")]
    KeyLength { length: usize },

    // ---- what the log says against an append -----------------------------------------------------------------------
    /// The entity is not at the clock that the append expects.
    #[error("the entity {entity:?} {}, expected {}; read its head and decide anew", at_clock(*actual), no_or_clock(*expected))]
    ExpectedState { entity: String, expected: Option<u64>, actual: Option<u64> },
    /// The key was used for another event.
    #[error(
        "the idempotency key {key} belongs to {first}, which has another {difference}; use a new key for a new event"
    )]
    IdempotencyConflict { key: String, first: String, difference: &'static str },
    /// The entity belongs to an open fence.
    #[error("the entity {entity:?} belongs to an open fence; try again once that is committed or cancelled")]
    StreamFenced { entity: String },
    /// A cause or a key names an event of another fence that is not decided.
    #[error("the {what} names event {sequence} of a fence that is not decided; try again once it is")]
    FencePending { what: &'static str, sequence: u64 },
    /// The fence's time was over.
    #[error("the fence was cancelled after its timeout of {timeout_ms} ms; begin a new one and append again")]
    FenceExpired { timeout_ms: u64 },
    /// The fence was committed or cancelled before.
    #[error("the fence was {outcome} already; begin a new one")]
    FenceDecided { outcome: &'static str },

    // ---- state ---------------------------------------------------------------------------------------------------
    /// The store, cursor or worker was closed.
    #[error("the {what} is closed; open a new one")]
    Closed { what: &'static str },
    /// Close ran into its timeout while handlers were running.
    #[error("{handlers} worker handler(s) still running after {waited_ms} ms; nothing was closed, call close again")]
    Busy { handlers: usize, waited_ms: u64 },
    /// The object is in use by another thread.
    #[error("the {what} is in use by another thread; it may be used by one thread at a time")]
    Concurrent { what: &'static str },
    /// A call that may not be made from inside a callback.
    #[error("{call} was called from inside a handler of the same {what}; return from the handler first")]
    Reentrant { call: &'static str, what: &'static str },
    /// The process forked after the object was created.
    #[error("the {what} was opened before fork; open it again in the child")]
    Forked { what: &'static str },
    /// The store was opened for reading only.
    #[error("the store at {path} was opened read-only; {call} needs a store opened for writing", path = path.display())]
    ReadOnly { path: PathBuf, call: &'static str },
    /// An earlier write or sync failed.
    #[error("the store refuses appends since a write failed ({cause}); close it, mend the cause and open it again")]
    Poisoned { cause: String },
    /// A panic inside the library.
    #[error("internal error: {message}; the {what} is unusable, please report it")]
    Internal { what: &'static str, message: String },
    /// No memory for a buffer of the caller's size.
    #[error("no memory for {bytes} bytes")]
    NoMemory { bytes: usize },

    // ---- the directory and its files -----------------------------------------------------------------------------
    /// The directory holds something, but no store.
    #[error("{path} is not a store: {reason}; give an empty or new directory, or a store's", path = path.display())]
    NotAStore { path: PathBuf, reason: String },
    /// The directory does not exist and creating was not asked for.
    #[error("{path} does not exist; create it, or open with the create flag", path = path.display())]
    NotFound { path: PathBuf },
    /// The directory holds a store and creating exclusively was asked for.
    #[error("{path} already holds a store; open it without the exclusive flag", path = path.display())]
    AlreadyExists { path: PathBuf },
    /// Another opening holds the store.
    #[error("{path} is open elsewhere (in this or another process); close it there first", path = path.display())]
    Locked { path: PathBuf },
    /// A file of a newer format version.
    #[error("{path} has {what} {found}, this library reads up to {known}; use a newer libbatpak", path = path.display())]
    NewerFormat { path: PathBuf, what: &'static str, found: u32, known: u32 },
    /// Bytes that were durable are damaged.
    #[error("{path} is damaged at byte {offset} (event {sequence}): {reason}; restore a copy, or repair explicitly", path = path.display())]
    Corrupt { path: PathBuf, offset: u64, sequence: u64, reason: String },
    /// A file belongs to another store.
    #[error("{path} belongs to store {found}, not to {expected}; put it back where it came from", path = path.display())]
    StoreMismatch { path: PathBuf, found: String, expected: String },
    /// The file system has no space left.
    #[error("no space left while {operation} {path}; free some space and call again", path = path.display())]
    DiskFull { operation: &'static str, path: PathBuf, os_errno: i32 },
    /// Any other failure of the operating system.
    #[error("{operation} {path} failed: {message}; {advice}", path = path.display(), advice = advice(*os_errno))]
    Io { operation: &'static str, path: PathBuf, os_errno: i32, message: String },

    // ---- checkpoints ---------------------------------------------------------------------------------------------
    /// A checkpoint file that cannot be read as one.
    #[error("the checkpoint {path} is corrupt: {reason}; restore it, or delete it to start from the beginning", path = path.display())]
    CheckpointCorrupt { path: PathBuf, reason: String },
    /// A checkpoint of another region.
    #[error("the checkpoint {path} is of region {stored:?}, the cursor's is {expected:?}; use another id, or delete it", path = path.display())]
    CheckpointRegionMismatch { path: PathBuf, stored: String, expected: String },
    /// A checkpoint of another store.
    #[error("the checkpoint {path} is of store {found}, this is {expected}; use another id, or delete it", path = path.display())]
    CheckpointStoreMismatch { path: PathBuf, found: String, expected: String },
    /// A checkpoint beyond the log's end.
    #[error("the checkpoint {path} is at event {position}, but the log ends before event {end}; restore the log, or delete it", path = path.display())]
    CheckpointAhead { path: PathBuf, position: u64, end: u64 },
    /// Another event stands at the checkpoint's position.
    #[error("the checkpoint {path} saw event {stored} at {position}, the log has {found}: the log went another way; reprocess, or delete it", path = path.display())]
    CheckpointDiverged { path: PathBuf, position: u64, stored: String, found: String },
    /// Another live consumer has the checkpoint.
    #[error("the checkpoint id {id:?} is in use by another cursor or worker; close that one, or use another id")]
    CheckpointInUse { id: String },
    /// No checkpoint of that id.
    #[error("there is no checkpoint {id:?}")]
    CheckpointNotFound { id: String },
    /// A worker could not persist its progress.
    #[error(
        "the worker could not write checkpoint {id:?}: {source}; it rolled back to its last checkpoint and stopped"
    )]
    CheckpointWriteFailed { id: String, source: Box<Error> },

    // ---- cursors and workers -------------------------------------------------------------------------------------
    /// `checkpoint_at` beyond what was delivered.
    #[error(
        "sequence {sequence} was not delivered by this cursor yet (position {position}); commit at most what was polled"
    )]
    NotDelivered { sequence: u64, position: String },
    /// The cursor has no checkpoint id.
    #[error("the cursor was opened without a checkpoint id; open it with one to persist its position")]
    NoCheckpoint,
    /// The handler failed more often than the restart policy allows.
    #[error("the restart budget is exhausted after {restarts} restart(s); the last failure: {message}")]
    RestartBudgetExhausted { restarts: u32, message: String },
    /// The handler asked for more retries of one batch than allowed.
    #[error("the handler asked for more than {limit} retries of the batch at event {sequence}: {message}")]
    RetriesExhausted { limit: u32, sequence: u64, message: String },
    /// The worker's thread died.
    #[error("the worker's thread died: {message}")]
    WorkerCrashed { message: String },
}

fn at_clock(clock: Option<u64>) -> String {
    clock.map_or_else(|| String::from("has no event"), |clock| format!("is at clock {clock}"))
}

fn no_or_clock(clock: Option<u64>) -> String {
    clock.map_or_else(|| String::from("no event"), |clock| format!("clock {clock}"))
}

/// What to do about an error of the operating system.
fn advice(os_errno: i32) -> &'static str {
    match os_errno {
        libc::EACCES | libc::EPERM => "give this process the permission, or run it as the owner of the files",
        libc::EMFILE => "raise the process's limit on open files (ulimit -n), or close some",
        libc::ENFILE => "the whole system has too many files open: close some, or raise its limit",
        libc::EROFS => "open the store read-only, or make the file system writable",
        libc::EFBIG => "raise the process's limit on file sizes (ulimit -f)",
        libc::ENOENT | libc::ESTALE => "put back what was removed or renamed, or open the store where it is now",
        libc::ENOTDIR | libc::EEXIST | libc::EISDIR | libc::EINVAL | libc::ENXIO | libc::ENODEV => {
            "move away what stands there in the place of a file or directory of the store"
        }
        libc::ELOOP | libc::ENAMETOOLONG => "use a path that is shorter, or that has fewer links",
        libc::ENOMEM | libc::EAGAIN => "give the process more memory or threads, or wait",
        libc::EIO => "look after the disk, and check the store before it is used again",
        _ => "mend the cause and call again",
    }
}

impl Error {
    /// The error of an operating-system call on `path`; a full disk or quota gets its own variant.
    pub fn io(operation: &'static str, path: &Path, source: &io::Error) -> Error {
        let os_errno = source.raw_os_error().unwrap_or(0);
        match os_errno {
            libc::ENOSPC | libc::EDQUOT => Error::DiskFull { operation, path: path.to_owned(), os_errno },
            _ => Error::Io { operation, path: path.to_owned(), os_errno, message: source.to_string() },
        }
    }

    /// The operating system's error number, 0 where there is none.
    pub fn os_errno(&self) -> i32 {
        match self {
            Error::DiskFull { os_errno, .. } | Error::Io { os_errno, .. } => *os_errno,
            Error::BatchItem { source, .. } | Error::CheckpointWriteFailed { source, .. } => source.os_errno(),
            _ => 0,
        }
    }

    /// The same call may succeed later, with nothing changed by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Error::Busy { .. }
                | Error::Concurrent { .. }
                | Error::Locked { .. }
                | Error::DiskFull { .. }
                | Error::CheckpointInUse { .. }
                | Error::NoMemory { .. }
                | Error::StreamFenced { .. }
                | Error::FencePending { .. }
        ) || matches!(self, Error::BatchItem { source, .. } if source.is_retryable())
    }

    /// The object is of no further use for what was asked; close it.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Error::Poisoned { .. }
                | Error::Internal { .. }
                | Error::Forked { .. }
                | Error::Closed { .. }
                | Error::Corrupt { .. }
        )
    }
}
