//! Workers.
//|
//| Worker
//|
//| A worker is a thread of the library's that polls a region and gives the batches to a handler. With a checkpoint id
//| its progress is durable: after a restart the handler gets everything that was not committed before, at least once.

use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::time::Duration;

use super::batch::batpak_event_t;
use super::callback::{UserData, batpak_user_data_free_fn, contain};
use super::cursor::optional_id;
use super::delivery::CHandler;
use super::error::batpak_error_t;
use super::guard;
use super::handle::{self, Castable, batpak_delivery_t, batpak_store_t, batpak_worker_t};
use super::input::{self, invalid, or_default, out_handle};
use super::options::{self, Versioned, check_reserved};
use super::region::{self, batpak_region_t};
use super::status::{self, BATPAK_OK, BATPAK_TIMEOUT, batpak_status_t};
use crate::cursor::worker::{CheckpointFailureCallback, RestartBudgetCallback};
use crate::cursor::{JoinOutcome, RestartPolicy, Worker, WorkerOptions};
use crate::error::{Error, Result};

/// The batch is done: it is committed, and the next one comes.
pub const BATPAK_HANDLER_CONTINUE: i32 = 0;
/// The batch is done: it is committed, and the worker ends.
pub const BATPAK_HANDLER_STOP: i32 = 1;
/// Nothing of the batch is committed, and the worker ends.
pub const BATPAK_HANDLER_STOP_WITH_ROLLBACK: i32 = 2;
/// The batch comes again after a backoff; too many retries in a row are a failure.
pub const BATPAK_HANDLER_RETRY: i32 = 3;
/// The batch failed: it counts against the restart policy, and delivery starts again after the last commit. So does any
/// value that is none of these.
pub const BATPAK_HANDLER_FAIL: i32 = -1;

/// One restart in the worker's life.
pub const BATPAK_RESTART_ONCE: u32 = 0u32;
/// max_restarts within within_ms; the window opens at a failure, and the first failure after its end opens a new one.
pub const BATPAK_RESTART_BOUNDED: u32 = 1u32;

/// Handles one batch: n events, at least one, valid during the call (batpak_delivery_batch keeps them longer). Returns
/// a BATPAK_HANDLER_ constant. Called on the worker's thread, one call at a time, with no lock held and all signals
/// blocked. It may block and call everything but batpak_store_close of its store and the joins of its own worker,
/// which are BATPAK_E_REENTRANT. With RETRY and FAIL, batpak_delivery_set_error tells why and batpak_delivery_set_done
/// what is done all the same.
pub type batpak_handler_fn = Option<
    unsafe extern "C-unwind" fn(
        user_data: *mut c_void,
        delivery: *mut batpak_delivery_t,
        events: *const batpak_event_t,
        n: usize,
    ) -> i32,
>;

/// Tells that the restart policy allows no more; the worker ends. Called at most once, on the worker's thread.
pub type batpak_restart_budget_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>;

/// Tells that the checkpoint could not be written; the worker ends. Called on the worker's thread; code is a status,
/// and the texts are valid during the call only.
pub type batpak_checkpoint_failure_fn = Option<
    unsafe extern "C-unwind" fn(
        user_data: *mut c_void,
        id: *const c_char,
        id_len: usize,
        code: batpak_status_t,
        message: *const c_char,
        message_len: usize,
    ),
>;

/// How a worker reads, retries and restarts. Callbacks and callback_user_data are kept until the worker has ended.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct batpak_worker_options_t {
    /// sizeof(batpak_worker_options_t).
    pub struct_size: u32,
    /// BATPAK_RESTART_ONCE or BATPAK_RESTART_BOUNDED.
    pub restart_policy: u32,
    /// Most events of a batch; 0 for the default, 64.
    pub batch_events: u64,
    /// Most payload bytes of a batch, but for its first event; 0 for no bound.
    pub batch_payload_bytes: u64,
    /// The longest that an idle worker sleeps; new events wake it at once. 0 for the default, 10.
    pub idle_wait_ms: u64,
    /// With BATPAK_RESTART_BOUNDED: restarts allowed in a window; 0 allows none.
    pub max_restarts: u32,
    /// Most retries in a row that the handler may ask for; 0 for the default, 10.
    pub retries_max: u32,
    /// With BATPAK_RESTART_BOUNDED: the length of a window, at least 1.
    pub within_ms: u64,
    /// The wait before the first retry, doubled for each further one up to 10 seconds; 0 for the default, 10.
    pub retry_backoff_ms: u64,
    /// Persist progress under this id and resume from it, as in batpak_cursor_options_t; NULL for none.
    pub checkpoint_id: *const c_char,
    /// Its length in bytes.
    pub checkpoint_id_len: usize,
    /// Names the thread, cut to 15 bytes; NULL for the checkpoint id.
    pub name: *const c_char,
    /// Its length in bytes.
    pub name_len: usize,
    /// May be NULL.
    pub on_restart_budget_exhausted: batpak_restart_budget_fn,
    /// May be NULL.
    pub on_checkpoint_failure: batpak_checkpoint_failure_fn,
    /// Passed to both.
    pub callback_user_data: *mut c_void,
    /// Frees callback_user_data; may be NULL.
    pub callback_user_data_free: batpak_user_data_free_fn,
    /// Look for gaps, and show the handler so many of each batch; 0, the default, is off and costs nothing.
    pub gap_capacity: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

// SAFETY: repr(C), integers, pointers and nullable functions without padding, the size first.
unsafe impl Versioned for batpak_worker_options_t {
    const NAME: &'static str = "batpak_worker_options_t";
    const REMEDY: &'static str = "call batpak_worker_options_init first";

    fn defaults() -> batpak_worker_options_t {
        let defaults = WorkerOptions::default();
        batpak_worker_options_t {
            struct_size: size_of::<batpak_worker_options_t>() as u32,
            restart_policy: BATPAK_RESTART_ONCE,
            batch_events: defaults.batch_events as u64,
            batch_payload_bytes: defaults.batch_bytes,
            idle_wait_ms: defaults.idle_wait.as_millis() as u64,
            max_restarts: 0,
            retries_max: defaults.retries_max,
            within_ms: 0,
            retry_backoff_ms: defaults.retry_backoff_ms,
            checkpoint_id: std::ptr::null(),
            checkpoint_id_len: 0,
            name: std::ptr::null(),
            name_len: 0,
            on_restart_budget_exhausted: None,
            on_checkpoint_failure: None,
            callback_user_data: std::ptr::null_mut(),
            callback_user_data_free: None,
            gap_capacity: 0,
            reserved: [0; 3],
        }
    }

    fn check(&self) -> Result<()> {
        check_reserved(Self::NAME, &self.reserved, 0, 0)
    }
}

/// What a worker has done so far.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct batpak_worker_stats_t {
    /// sizeof(batpak_worker_stats_t).
    pub struct_size: u32,
    /// 1 until the worker has ended.
    pub is_running: u32,
    /// Batches given to the handler.
    pub batches: u64,
    /// Events in them; an event that comes again counts again.
    pub events: u64,
    /// Commits.
    pub commits: u64,
    /// Retries that the handler asked for.
    pub retries: u64,
    /// Failures.
    pub failures: u64,
    /// Restarts after failures.
    pub restarts: u64,
    /// Zero.
    pub reserved: [u64; 8],
}

// SAFETY: repr(C), integers without padding, the size first.
unsafe impl Versioned for batpak_worker_stats_t {
    const NAME: &'static str = "batpak_worker_stats_t";
    const REMEDY: &'static str = "call batpak_worker_stats_init first";

    fn defaults() -> batpak_worker_stats_t {
        batpak_worker_stats_t {
            struct_size: size_of::<batpak_worker_stats_t>() as u32,
            is_running: 0,
            batches: 0,
            events: 0,
            commits: 0,
            retries: 0,
            failures: 0,
            restarts: 0,
            reserved: [0; 8],
        }
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl Castable for batpak_worker_t {
    type Object = Worker;
    const TAG: u64 = u64::from_le_bytes(*b"bpkWorkr");
    const NOUN: &'static str = "worker";
    const REMEDY: &'static str = "pass a worker that batpak_worker_start has given";
    const SURVIVES_FORK: bool = false;
}

/// Fills worker options with the defaults.
///
/// options: out. size: sizeof(batpak_worker_options_t). err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_worker_options_init(
    options: *mut batpak_worker_options_t,
    size: usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::call(err, || options::init(options, size).map(|()| BATPAK_OK)) }
}

/// Starts a worker and returns at once. What goes wrong later, loading its checkpoint included, comes from
/// batpak_worker_join.
///
/// region: may be NULL for everything. options: may be NULL for the defaults. handler: called as batpak_handler_fn
/// says. user_data: passed to it. user_data_free: may be NULL; called when the worker has ended, before a join returns.
/// worker: out; to be freed with batpak_worker_free; NULL on failure. err: out, may be NULL.
/// Errors: those of the region; BATPAK_E_CHECKPOINT_ID_INVALID, BATPAK_E_READ_ONLY, BATPAK_E_IO (no thread). The user
/// data then stay the caller's.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_worker_start(
    store: *mut batpak_store_t,
    region: *const batpak_region_t,
    options: *const batpak_worker_options_t,
    handler: batpak_handler_fn,
    user_data: *mut c_void,
    user_data_free: batpak_user_data_free_fn,
    worker: *mut *mut batpak_worker_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        let place = out_handle("worker", worker);
        guard::on(store, err, |store| {
            let place = place?;
            let Some(handler) = handler else {
                return Err(invalid("handler", &"NULL", "pass a function"));
            };
            let given = options::read(options)?;
            let callback_data = UserData::new(given.callback_user_data, given.callback_user_data_free);
            let options = worker_options(&given, &callback_data)?;
            let data = UserData::new(user_data, user_data_free);
            let handler = CHandler::new(handler, data.clone(), store.clone(), options.checkpoint_id.as_deref());
            let worker = Worker::start(store, region::read(region)?, options, handler)?;
            // Only now are they the library's: a failed call consumes nothing. The clones here outlive the arming.
            data.arm();
            callback_data.arm();
            place.write(handle::create(worker));
            Ok(BATPAK_OK)
        })
    }
}

/// Tells a worker to end after the batch in hand. An idle one ends at once.
///
/// err: out, may be NULL.
/// Any thread, also from the handler; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_worker_stop(
    worker: *mut batpak_worker_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(worker, err, |worker| {
            worker.stop();
            Ok(BATPAK_OK)
        })
    }
}

/// Waits for a worker to end, without telling it to.
///
/// timeout_ms: how long to wait: 0 just looks, -1 is for ever. err: out, may be NULL.
/// Returns BATPAK_OK: it has ended as it should; BATPAK_TIMEOUT: it is still running; or the error that it ended with,
/// the same at each call: those of batpak_cursor_open and batpak_cursor_poll, BATPAK_E_CHECKPOINT_WRITE_FAILED,
/// BATPAK_E_RESTART_BUDGET_EXHAUSTED (with the handler's message), BATPAK_E_WORKER_CRASHED. BATPAK_E_REENTRANT: called
/// from its own handler.
/// Any thread; waits as long as asked. When it has ended, its user data are freed and its checkpoint id is free.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_worker_join(
    worker: *mut batpak_worker_t,
    timeout_ms: i64,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::on(worker, err, |worker| worker.join(input::timeout(timeout_ms)?).map(joined)) }
}

/// batpak_worker_stop, then batpak_worker_join.
///
/// timeout_ms: how long to wait: 0 just looks, -1 is for ever. err: out, may be NULL.
/// Returns and errors as batpak_worker_join.
/// Any thread; waits as long as asked. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_worker_stop_and_join(
    worker: *mut batpak_worker_t,
    timeout_ms: i64,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::on(worker, err, |worker| worker.stop_and_join(input::timeout(timeout_ms)?).map(joined)) }
}

/// Prepares the struct for batpak_worker_stats.
///
/// stats: out. size: sizeof(batpak_worker_stats_t). err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_worker_stats_init(
    stats: *mut batpak_worker_stats_t,
    size: usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::call(err, || options::init(stats, size).map(|()| BATPAK_OK)) }
}

/// What a worker has done so far.
///
/// stats: in and out; prepared with batpak_worker_stats_init. err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_worker_stats(
    worker: *mut batpak_worker_t,
    stats: *mut batpak_worker_stats_t,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(worker, err, |worker| {
            let now = worker.stats();
            let value = batpak_worker_stats_t {
                is_running: u32::from(now.is_running),
                batches: now.batches,
                events: now.events,
                commits: now.commits,
                retries: now.retries,
                failures: now.failures,
                restarts: now.restarts,
                ..batpak_worker_stats_t::defaults()
            };
            options::write(stats, &value).map(|()| BATPAK_OK)
        })
    }
}

/// Gives the handle of a worker back. A running worker is told to stop; its handler may still run on return, and its
/// user data are freed when it has ended.
///
/// worker: may be NULL. Any thread, also from the handler; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_worker_free(worker: *mut batpak_worker_t) {
    // SAFETY: P; the reference was the caller's.
    unsafe { handle::free(worker) }
}

fn joined(outcome: JoinOutcome) -> batpak_status_t {
    match outcome {
        JoinOutcome::Stopped => BATPAK_OK,
        JoinOutcome::TimedOut => BATPAK_TIMEOUT,
    }
}

/// # Safety
/// The texts are null or valid for their lengths, and the callbacks are as the header says.
unsafe fn worker_options(given: &batpak_worker_options_t, data: &Arc<UserData>) -> Result<WorkerOptions> {
    let defaults = WorkerOptions::default();
    // SAFETY: as the caller says.
    let (checkpoint_id, name) = unsafe {
        let name = input::text("name", given.name, given.name_len)?;
        (optional_id(given.checkpoint_id, given.checkpoint_id_len)?, name)
    };
    Ok(WorkerOptions {
        batch_events: usize::try_from(given.batch_events)
            .map_or(usize::MAX, |events| or_default(events, defaults.batch_events)),
        batch_bytes: given.batch_payload_bytes,
        idle_wait: Duration::from_millis(or_default(given.idle_wait_ms, defaults.idle_wait.as_millis() as u64)),
        restart: restart_policy(given)?,
        checkpoint_id,
        retries_max: or_default(given.retries_max, defaults.retries_max),
        retry_backoff_ms: or_default(given.retry_backoff_ms, defaults.retry_backoff_ms),
        on_restart_budget_exhausted: budget_callback(given.on_restart_budget_exhausted, data),
        on_checkpoint_failure: failure_callback(given.on_checkpoint_failure, data),
        gap_capacity: usize::try_from(given.gap_capacity).unwrap_or(usize::MAX),
        name: (!name.is_empty()).then(|| name.to_owned()),
        ..defaults
    })
}

fn restart_policy(given: &batpak_worker_options_t) -> Result<RestartPolicy> {
    match given.restart_policy {
        BATPAK_RESTART_ONCE => Ok(RestartPolicy::Once),
        BATPAK_RESTART_BOUNDED => {
            Ok(RestartPolicy::Bounded { max_restarts: given.max_restarts, within_ms: given.within_ms })
        }
        other => Err(invalid("restart_policy", &other, "give one of the BATPAK_RESTART_ constants")),
    }
}

fn budget_callback(function: batpak_restart_budget_fn, data: &Arc<UserData>) -> Option<RestartBudgetCallback> {
    let (function, data) = (function?, data.clone());
    // SAFETY: the caller gave this function for this value.
    Some(Box::new(move || contain((), || unsafe { function(data.pointer()) })))
}

fn failure_callback(function: batpak_checkpoint_failure_fn, data: &Arc<UserData>) -> Option<CheckpointFailureCallback> {
    let (function, data) = (function?, data.clone());
    Some(Box::new(move |id: &str, error: &Error| {
        let (code, message) = (status::of(error), error.to_string());
        // SAFETY: the caller gave this function for this value; the texts have their lengths and live during the call.
        contain((), || unsafe {
            function(data.pointer(), id.as_ptr().cast(), id.len(), code, message.as_ptr().cast(), message.len());
        });
    }))
}
