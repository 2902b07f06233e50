//! Cursors.
//|
//| Cursor
//|
//| A cursor delivers the events of a region in order, each once per pass, from the store's first event on or from where
//| its checkpoint says. A poll moves the cursor's position; a checkpoint makes the position durable, so that after a
//| restart events behind it do not come again: at-least-once delivery.
//|
//| A cursor stands between two events, and a sequence that it is moved to (seek) stands before the event of that
//| sequence. Forward, what is delivered next is that event or one above; backward (BATPAK_DIRECTION_BACKWARD), one
//| below. A backward cursor delivers the newest event first and ends at the first event of the log: it is for "the last
//| few", not for following a log, has no checkpoint and never waits.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::sync::{Arc, Mutex, PoisonError};

use super::batch::{BATPAK_NO_SEQUENCE, Batch};
use super::callback::{UserData, batpak_user_data_free_fn, contain};
use super::error::batpak_error_t;
use super::gap::Gaps;
use super::guard;
use super::handle::{self, Castable, batpak_batch_t, batpak_cursor_t, batpak_gap_list_t, batpak_store_t};
use super::input::{self, invalid, out, out_handle};
use super::options::{self, Versioned, check_reserved};
use super::region::{self, batpak_region_t};
use super::status::{BATPAK_EMPTY, BATPAK_INTERRUPTED, BATPAK_OK, BATPAK_TIMEOUT, batpak_status_t};
use crate::cursor::checkpoint::ID_BYTES_MAX;
use crate::cursor::{Cursor, CursorOptions, Direction, PollTimeout, Polled};
use crate::error::{Error, Result};
use crate::event::EventId;

/// Tells that events may be available. Called once per poll that found none, on the thread that appends (or interrupts
/// or closes), with no lock held; it must return at once and call no function of this library: let it wake the thread
/// that polls.
pub type batpak_wake_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>;

/// From older to newer events.
pub const BATPAK_DIRECTION_FORWARD: u32 = 0u32;
/// From newer to older events, beginning with the newest that is visible when the cursor is opened.
pub const BATPAK_DIRECTION_BACKWARD: u32 = 1u32;

/// How to open a cursor.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct batpak_cursor_options_t {
    /// sizeof(batpak_cursor_options_t).
    pub struct_size: u32,
    /// Zero.
    pub flags: u32,
    /// The id of the checkpoint to resume from and to write: 1 to 200 bytes of [A-Za-z0-9._:-], not starting with a
    /// dot. One live cursor or worker may have it. NULL: none, the cursor starts at the beginning.
    pub checkpoint_id: *const c_char,
    /// Its length in bytes.
    pub checkpoint_id_len: usize,
    /// A BATPAK_DIRECTION_ constant. With BATPAK_DIRECTION_BACKWARD, checkpoint_id is NULL and gap_capacity 0.
    pub direction: u32,
    /// Zero.
    pub reserved0: u32,
    /// Look for gaps, and keep so many until batpak_cursor_take_gaps; 0, the default, is off and costs nothing.
    pub gap_capacity: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

// SAFETY: repr(C), integers and pointers without padding, the size first.
unsafe impl Versioned for batpak_cursor_options_t {
    const NAME: &'static str = "batpak_cursor_options_t";
    const REMEDY: &'static str = "call batpak_cursor_options_init first";

    fn defaults() -> batpak_cursor_options_t {
        batpak_cursor_options_t {
            struct_size: size_of::<batpak_cursor_options_t>() as u32,
            flags: 0,
            checkpoint_id: std::ptr::null(),
            checkpoint_id_len: 0,
            direction: BATPAK_DIRECTION_FORWARD,
            reserved0: 0,
            gap_capacity: 0,
            reserved: [0; 3],
        }
    }

    fn check(&self) -> Result<()> {
        check_reserved(Self::NAME, &self.reserved, self.flags, 0)?;
        check_reserved(Self::NAME, &[], self.reserved0, 0)
    }
}

/// Where a cursor stands. The layout is frozen: 64 bytes.
#[repr(C)]
pub struct batpak_cursor_position_t {
    /// The sequence after position; 0 when not started. With position_id it is what to keep elsewhere, to come back
    /// with batpak_cursor_seek_position. Backward: position; when not started, scanned.
    pub next_sequence: u64,
    /// Sequence of the last event delivered, or stepped over by a seek; BATPAK_NO_SEQUENCE when not started.
    pub position: u64,
    /// Every match below this sequence was delivered. Backward: every match from this sequence up to where the cursor
    /// began.
    pub scanned: u64,
    /// The position that the checkpoint holds, and that a rewind returns to; BATPAK_NO_SEQUENCE for the beginning.
    pub committed: u64,
    /// The id of the event at position; zero when not started.
    pub position_id: [u8; 16],
    /// Zero.
    pub reserved: [u64; 2],
}

const _: () = {
    assert!(size_of::<batpak_cursor_position_t>() == 64 && align_of::<batpak_cursor_position_t>() == 8);
    assert!(offset_of!(batpak_cursor_position_t, position_id) == 32);
};

/// A cursor and what its wake function was set with. The last clone of the user data is dropped here, where no lock is
/// held.
pub(super) struct CursorObject {
    cursor: Cursor,
    wake_data: Mutex<Option<Arc<UserData>>>,
}

impl Castable for batpak_cursor_t {
    type Object = CursorObject;
    const TAG: u64 = u64::from_le_bytes(*b"bpkCursr");
    const NOUN: &'static str = "cursor";
    const REMEDY: &'static str = "pass a cursor that batpak_cursor_open has given";
    const SURVIVES_FORK: bool = false;
}

/// A call on the cursor alone.
///
/// # Safety
/// As for [`guard::on`].
unsafe fn on_cursor(
    cursor: *mut batpak_cursor_t,
    err: *mut *mut batpak_error_t,
    body: impl FnOnce(&Cursor) -> Result<()>,
) -> batpak_status_t {
    // SAFETY: as the caller says.
    unsafe { guard::on(cursor, err, |object| body(&object.cursor).map(|()| BATPAK_OK)) }
}

/// Fills cursor options with the defaults.
///
/// options: out. size: sizeof(batpak_cursor_options_t). err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_options_init(
    options: *mut batpak_cursor_options_t,
    size: usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::call(err, || options::init(options, size).map(|()| BATPAK_OK)) }
}

/// Opens a cursor: at its checkpoint, or at the beginning; backward, at the visible end.
///
/// region: may be NULL for everything. options: may be NULL for the defaults. cursor: out; to be closed with
/// batpak_cursor_close and freed with batpak_cursor_free; NULL on failure. err: out, may be NULL.
/// A checkpoint that does not fit is an error, never a silent start from elsewhere.
/// Errors: BATPAK_E_COORDINATE_..., BATPAK_E_KIND_OUT_OF_RANGE, BATPAK_E_CLOCK_RANGE_INVERTED;
/// BATPAK_E_CHECKPOINT_ID_INVALID, _IN_USE, _CORRUPT, _REGION_MISMATCH, _STORE_MISMATCH, _AHEAD, _DIVERGED;
/// BATPAK_E_IO.
/// Any thread; with a checkpoint it waits for the disk. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_open(
    store: *mut batpak_store_t,
    region: *const batpak_region_t,
    options: *const batpak_cursor_options_t,
    cursor: *mut *mut batpak_cursor_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        let place = out_handle("cursor", cursor);
        guard::on(store, err, |store| {
            let place = place?;
            let given = options::read(options)?;
            let checkpoint_id = optional_id(given.checkpoint_id, given.checkpoint_id_len)?;
            let direction = direction_of(given.direction)?;
            let gap_capacity = usize::try_from(given.gap_capacity).unwrap_or(usize::MAX);
            let options = CursorOptions { checkpoint_id, direction, gap_capacity };
            let cursor = Cursor::open(store, region::read(region)?, &options)?;
            place.write(handle::create(CursorObject { cursor, wake_data: Mutex::default() }));
            Ok(BATPAK_OK)
        })
    }
}

/// Delivers the next events of the region, and waits for some when there are none. A backward cursor delivers the ones
/// before, newest first, and does not wait: behind the first one it returns BATPAK_EMPTY, whatever timeout_ms is.
///
/// max_events: at least 1. max_payload_bytes: a bound on the payloads of the batch, which does not hold for its first
/// event; 0 for none. timeout_ms: how long to wait: 0 not at all, -1 for ever. batch: out; to be freed with
/// batpak_batch_free; NULL unless the status is BATPAK_OK. err: out, may be NULL.
/// Returns BATPAK_OK with at least one event; BATPAK_EMPTY (there is none, and it did not wait); BATPAK_TIMEOUT (none
/// came); BATPAK_INTERRUPTED (batpak_cursor_interrupt was called; it comes before events that are there).
/// Errors: BATPAK_E_CONCURRENT, BATPAK_E_CORRUPT, BATPAK_E_NO_MEMORY, BATPAK_E_IO; the position is then where it was.
/// One thread at a time; waits as long as asked, and for the disk. A poll makes nothing durable. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_poll(
    cursor: *mut batpak_cursor_t,
    max_events: usize,
    max_payload_bytes: u64,
    timeout_ms: i64,
    batch: *mut *mut batpak_batch_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        let place = out_handle("batch", batch);
        guard::on(cursor, err, |object| {
            let place = place?;
            let timeout = match input::timeout(timeout_ms)? {
                None => PollTimeout::Forever,
                Some(timeout) if timeout.is_zero() => PollTimeout::Never,
                Some(timeout) => PollTimeout::For(timeout),
            };
            Ok(match object.cursor.poll(max_events, max_payload_bytes, timeout)? {
                Polled::Batch(batch) => {
                    place.write(handle::create(Batch::Polled(batch)));
                    BATPAK_OK
                }
                Polled::Empty => BATPAK_EMPTY,
                Polled::Timeout => BATPAK_TIMEOUT,
                Polled::Interrupted => BATPAK_INTERRUPTED,
            })
        })
    }
}

/// Makes the position durable: events up to it do not come again after a restart.
///
/// err: out, may be NULL.
/// Errors: BATPAK_E_NO_CHECKPOINT, BATPAK_E_CONCURRENT, BATPAK_E_READ_ONLY, BATPAK_E_POISONED, BATPAK_E_DISK_FULL,
/// BATPAK_E_IO; the checkpoint is then the one before.
/// One thread at a time; waits for the disk. On BATPAK_OK the checkpoint, and the log up to it, survive a power loss.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_checkpoint(
    cursor: *mut batpak_cursor_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { on_cursor(cursor, err, Cursor::checkpoint) }
}

/// Makes a position durable that lies before the current one: the event of this sequence and all before it are done.
///
/// sequence: at most the position. err: out, may be NULL.
/// Errors: BATPAK_E_NOT_DELIVERED when it is beyond the position; the others of batpak_cursor_checkpoint.
/// One thread at a time; waits for the disk. On BATPAK_OK as durable as batpak_cursor_checkpoint. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_checkpoint_at(
    cursor: *mut batpak_cursor_t,
    sequence: u64,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { on_cursor(cursor, err, |cursor| cursor.checkpoint_at(sequence)) }
}

/// Goes back to the last checkpoint; without one, to the beginning; backward, to where the cursor was opened. What was
/// delivered since comes again.
///
/// err: out, may be NULL. Errors: BATPAK_E_CONCURRENT.
/// One thread at a time; never waits. The checkpoint stays as it is. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_rewind(
    cursor: *mut batpak_cursor_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { on_cursor(cursor, err, Cursor::rewind) }
}

/// Moves the cursor: the next event delivered has this sequence or a higher one; backward, a lower one.
///
/// sequence: at most the visible watermark. err: out, may be NULL. Errors: BATPAK_E_CONCURRENT, BATPAK_E_IO.
/// One thread at a time; may read from the disk. The checkpoint stays as it is until the next one is made. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_seek(
    cursor: *mut batpak_cursor_t,
    sequence: u64,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { on_cursor(cursor, err, |cursor| cursor.seek(sequence)) }
}

/// Moves the cursor to the first event at or after a time; backward, what is delivered next is earlier than the time.
///
/// time_us: microseconds since the Unix epoch. err: out, may be NULL. Errors: BATPAK_E_CONCURRENT, BATPAK_E_IO.
/// One thread at a time; may read from the disk. The checkpoint stays as it is until the next one is made. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_seek_time(
    cursor: *mut batpak_cursor_t,
    time_us: i64,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { on_cursor(cursor, err, |cursor| cursor.seek_time(time_us)) }
}

/// Moves the cursor before the first event, where a backward cursor is at its end.
///
/// err: out, may be NULL. Errors: BATPAK_E_CONCURRENT.
/// One thread at a time; never waits. The checkpoint stays as it is until the next one is made. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_seek_beginning(
    cursor: *mut batpak_cursor_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { on_cursor(cursor, err, Cursor::seek_beginning) }
}

/// Moves the cursor behind the last visible event, where a backward cursor begins anew.
///
/// err: out, may be NULL. Errors: BATPAK_E_CONCURRENT, BATPAK_E_IO.
/// One thread at a time; may read from the disk. The checkpoint stays as it is until the next one is made. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_seek_end(
    cursor: *mut batpak_cursor_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { on_cursor(cursor, err, Cursor::seek_end) }
}

/// Comes back to a position that was kept elsewhere, for instance in the transaction of another database.
///
/// next_sequence, position_id: as in batpak_cursor_position_t; position_id is 16 bytes, or NULL to leave the event at
/// the position unchecked, as zeros do backward. err: out, may be NULL.
/// Errors: BATPAK_E_CHECKPOINT_AHEAD: beyond the log's end; BATPAK_E_CHECKPOINT_DIVERGED: the log has another event
/// there; BATPAK_E_CONCURRENT, BATPAK_E_IO.
/// One thread at a time; may read from the disk. The checkpoint stays as it is until the next one is made. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_seek_position(
    cursor: *mut batpak_cursor_t,
    next_sequence: u64,
    position_id: *const u8,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { on_cursor(cursor, err, |cursor| cursor.seek_position(next_sequence, input::id(position_id).map(EventId))) }
}

/// Where the cursor stands.
///
/// position: out. err: out, may be NULL. Errors: BATPAK_E_CONCURRENT.
/// One thread at a time; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_position(
    cursor: *mut batpak_cursor_t,
    position: *mut batpak_cursor_position_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        on_cursor(cursor, err, |cursor| {
            let place = out("position", position)?;
            let position = cursor.position()?;
            place.write(batpak_cursor_position_t {
                next_sequence: position.next_sequence,
                position: position.position.unwrap_or(BATPAK_NO_SEQUENCE),
                scanned: position.scanned,
                committed: position.committed.unwrap_or(BATPAK_NO_SEQUENCE),
                position_id: position.position_id.map_or([0; 16], |id| id.0),
                reserved: [0; 2],
            });
            Ok(())
        })
    }
}

/// The sequence after the position, 0 at the beginning, and backward the position: what batpak_cursor_seek takes to come
/// back.
///
/// next_sequence: out. err: out, may be NULL. Errors: BATPAK_E_CONCURRENT.
/// One thread at a time; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_next_sequence(
    cursor: *mut batpak_cursor_t,
    next_sequence: *mut u64,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        on_cursor(cursor, err, |cursor| {
            let place = out("next_sequence", next_sequence)?;
            place.write(cursor.position()?.next_sequence);
            Ok(())
        })
    }
}

/// How many visible events the cursor has not looked at yet, whether they match or not.
///
/// events: out. err: out, may be NULL. Errors: BATPAK_E_CONCURRENT.
/// One thread at a time; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_lag(
    cursor: *mut batpak_cursor_t,
    events: *mut u64,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        on_cursor(cursor, err, |cursor| {
            let place = out("events", events)?;
            place.write(cursor.lag()?);
            Ok(())
        })
    }
}

/// The gaps of what was delivered since this was last called (see Gap above), oldest first. They are handed over: the
/// next call has only newer ones.
///
/// gaps: out; to be freed with batpak_gap_list_free; NULL on failure. Empty without gap_capacity in the options. err:
/// out, may be NULL.
/// Errors: BATPAK_E_CONCURRENT.
/// One thread at a time; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_take_gaps(
    cursor: *mut batpak_cursor_t,
    gaps: *mut *mut batpak_gap_list_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        let place = out_handle("gaps", gaps);
        on_cursor(cursor, err, |cursor| {
            let place = place?;
            place.write(handle::create(Gaps::new(cursor.take_gaps()?)));
            Ok(())
        })
    }
}

/// A descriptor for poll, epoll and the like: readable while events may be available. Only a batpak_cursor_poll that
/// finds none makes it unreadable, so on readability poll with timeout 0 until BATPAK_EMPTY. A backward cursor has none:
/// BATPAK_E_INVALID_ARGUMENT.
///
/// fd: out; the cursor's, non-blocking, closed with its last handle: neither read, write nor close it. err: out, may
/// be NULL.
/// Errors: BATPAK_E_CONCURRENT, BATPAK_E_IO.
/// One thread at a time; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_notify_fd(
    cursor: *mut batpak_cursor_t,
    fd: *mut i32,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        on_cursor(cursor, err, |cursor| {
            let place = out("fd", fd)?;
            place.write(cursor.notify_fd()?);
            Ok(())
        })
    }
}

/// Has a function called when events may be available: the other way into an event loop. After setting it, poll until
/// BATPAK_EMPTY. On a backward cursor: BATPAK_E_INVALID_ARGUMENT.
///
/// wake: called as batpak_wake_fn says; NULL removes it. user_data: passed to it. user_data_free: may be NULL; called
/// once wake was replaced or removed, or the cursor freed, and no call of it is running any more. err: out, may be
/// NULL.
/// Errors: BATPAK_E_CONCURRENT; nothing was taken over.
/// One thread at a time; never waits. A call of the former function may still be running on return. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_set_wake(
    cursor: *mut batpak_cursor_t,
    wake: batpak_wake_fn,
    user_data: *mut c_void,
    user_data_free: batpak_user_data_free_fn,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::on(cursor, err, |object| object.set_wake(wake, UserData::new(user_data, user_data_free))) }
}

/// Ends the poll that is waiting, or else the next one, with BATPAK_INTERRUPTED.
///
/// err: out, may be NULL.
/// Any thread, at any time; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_interrupt(
    cursor: *mut batpak_cursor_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { on_cursor(cursor, err, Cursor::interrupt) }
}

/// Ends the cursor: a poll that is waiting returns BATPAK_E_CLOSED, and the checkpoint id is free for another. What was
/// delivered and not checkpointed comes again to the next cursor of the id. A cursor that is closed already is
/// BATPAK_OK.
///
/// err: out, may be NULL.
/// Any thread, at any time; waits for a poll on another thread to return. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_close(
    cursor: *mut batpak_cursor_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::on_poisoned(cursor, err, |object| object.cursor.close().map(|()| BATPAK_OK)) }
}

/// Gives the handle of a cursor back. A cursor that was not closed ends with it. Batches stay.
///
/// cursor: may be NULL. Any thread, once no other call on the cursor is under way; never waits. Nothing is
/// checkpointed. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_cursor_free(cursor: *mut batpak_cursor_t) {
    // SAFETY: P; the reference was the caller's.
    unsafe { handle::free(cursor) }
}

impl CursorObject {
    fn set_wake(&self, function: batpak_wake_fn, data: Arc<UserData>) -> Result<batpak_status_t> {
        let wake = function.map(|wake| -> Box<dyn Fn() + Send + Sync> {
            let data = data.clone();
            // SAFETY: the caller gave this function for this value; the header says when and where it is called.
            Box::new(move || contain((), || unsafe { wake(data.pointer()) }))
        });
        self.cursor.set_wake(wake)?;
        data.arm();
        let kept = function.map(|_| data);
        let former = {
            let mut place = self.wake_data.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *place, kept)
        };
        // The caller's free function may run here: no lock is held.
        drop(former);
        Ok(BATPAK_OK)
    }
}

fn direction_of(number: u32) -> Result<Direction> {
    match number {
        BATPAK_DIRECTION_FORWARD => Ok(Direction::Forward),
        BATPAK_DIRECTION_BACKWARD => Ok(Direction::Backward),
        other => Err(invalid("direction", &other, "give one of the BATPAK_DIRECTION_ constants")),
    }
}

/// A checkpoint id; bytes that are no UTF-8 become characters that no id may have.
///
/// # Safety
/// `pointer` is null or valid for `len` bytes.
pub(super) unsafe fn optional_id(pointer: *const c_char, len: usize) -> Result<Option<String>> {
    // SAFETY: as the caller says.
    let bytes = unsafe { input::bytes("checkpoint_id", pointer.cast(), len) }?;
    // Before it is copied: a length that is a mistake must not ask for as much memory.
    if bytes.len() > ID_BYTES_MAX {
        return Err(Error::CheckpointIdInvalid { value: format!("{len} bytes"), reason: "it is too long" });
    }
    Ok((!pointer.is_null()).then(|| String::from_utf8_lossy(bytes).into_owned()))
}
