//! Deliveries: the caller's handler behind the library's trait, and what it may ask while it runs.
//|
//| Delivery
//|
//| What a handler can ask and say about the batch in hand. Valid during the handler's call, on its thread.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::batch::{Batch, batpak_event_t, c_events};
use super::callback::{UserData, contain};
use super::error::batpak_error_t;
use super::gap::{Gaps, batpak_gap_t};
use super::guard;
use super::handle::{self, Castable, batpak_batch_t, batpak_delivery_t, batpak_store_t};
use super::input::{self, invalid, out};
use super::status::{BATPAK_OK, batpak_status_t};
use super::worker::{
    BATPAK_HANDLER_CONTINUE, BATPAK_HANDLER_FAIL, BATPAK_HANDLER_RETRY, BATPAK_HANDLER_STOP,
    BATPAK_HANDLER_STOP_WITH_ROLLBACK,
};
use crate::cursor::{Delivery, Handler, Outcome};
use crate::error::Result;
use crate::event::EventId;
use crate::io::thread;
use crate::store::Store;

/// A handler that is not null.
type HandlerFunction =
    unsafe extern "C-unwind" fn(*mut c_void, *mut batpak_delivery_t, *const batpak_event_t, usize) -> i32;

/// What a delivery handle stands for. One per worker.
///
/// Invariants: `current` is set exactly while [`CHandler::handle`] runs, and points to its parameter. `thread` is then the
/// [thread](thread::current) that it runs on, else 0, and only that thread touches what has no lock.
pub(super) struct DeliveryObject {
    thread: AtomicUsize,
    current: Cell<Option<NonNull<Delivery<'static>>>>,
    /// Terminated.
    checkpoint_id: Option<Vec<u8>>,
    /// A handle of the worker's own, lent to the handler.
    store: *mut batpak_store_t,
    /// Made when the handler first asks for it, given back after its call.
    batch: Cell<*mut batpak_batch_t>,
    /// As the batch. Boxed, for what was lent must not move.
    gaps: RefCell<Option<Box<Gaps>>>,
    error: RefCell<String>,
}

impl Castable for batpak_delivery_t {
    type Object = DeliveryObject;
    const TAG: u64 = u64::from_le_bytes(*b"bpkDlvry");
    const NOUN: &'static str = "delivery";
    const REMEDY: &'static str =
        "pass the delivery that the handler was called with, during the call and on its thread";
    const SURVIVES_FORK: bool = false;
}

/// The caller's handler.
pub(super) struct CHandler {
    function: HandlerFunction,
    data: Arc<UserData>,
    delivery: *mut batpak_delivery_t,
}

// SAFETY: the delivery object moves with the handler to the worker's thread, and to others it shows nothing but `thread`, which is
// atomic; the user data are the caller's, who was told on which thread they are used.
unsafe impl Send for CHandler {}

impl CHandler {
    pub(super) fn new(
        function: HandlerFunction,
        data: Arc<UserData>,
        store: Store,
        checkpoint_id: Option<&str>,
    ) -> CHandler {
        let delivery = DeliveryObject {
            thread: AtomicUsize::new(0),
            current: Cell::new(None),
            checkpoint_id: checkpoint_id.map(|id| [id.as_bytes(), b"\0"].concat()),
            store: handle::create(store),
            batch: Cell::new(ptr::null_mut()),
            gaps: RefCell::default(),
            error: RefCell::default(),
        };
        CHandler { function, data, delivery: handle::create(delivery) }
    }

    fn object(&self) -> &DeliveryObject {
        // SAFETY: the handle is ours until `drop`.
        unsafe { handle::peek(self.delivery.cast_const()) }
            .map_or_else(|| unreachable!("made by new"), |cell| cell.object())
    }
}

impl Drop for CHandler {
    fn drop(&mut self) {
        let store = self.object().store;
        // SAFETY: both handles are ours, and the handler, whom they were lent to, is not running.
        unsafe {
            handle::free(self.delivery);
            handle::free(store);
        }
    }
}

impl Handler for CHandler {
    fn handle(&mut self, delivery: &Delivery<'_>) -> Outcome {
        let events = delivery.batch().events();
        let call = Call::begin(self.object(), delivery);
        // SAFETY: the caller gave this function for this value; the events have their number and live during the call.
        let code = contain(None, || unsafe {
            Some((self.function)(self.data.pointer(), self.delivery, c_events(events), events.len()))
        });
        let message = call.end();
        match code {
            Some(BATPAK_HANDLER_CONTINUE) => Outcome::Continue,
            Some(BATPAK_HANDLER_STOP) => Outcome::Stop,
            Some(BATPAK_HANDLER_STOP_WITH_ROLLBACK) => Outcome::StopWithRollback,
            Some(BATPAK_HANDLER_RETRY) => Outcome::Retry { message },
            Some(BATPAK_HANDLER_FAIL) => Outcome::Fail { message },
            Some(other) if message.is_empty() => {
                Outcome::Fail { message: format!("the handler returned {other}, which is no BATPAK_HANDLER_ constant") }
            }
            Some(_) => Outcome::Fail { message },
            None => Outcome::Fail { message: "the handler panicked".to_owned() },
        }
    }
}

/// One run of the handler.
struct Call<'a>(&'a DeliveryObject);

impl<'a> Call<'a> {
    fn begin(object: &'a DeliveryObject, delivery: &Delivery<'_>) -> Call<'a> {
        object.current.set(Some(NonNull::from(delivery).cast()));
        object.error.take();
        object.thread.store(thread::current(), Ordering::Relaxed);
        Call(object)
    }

    /// The handler's message.
    fn end(self) -> String {
        self.0.thread.store(0, Ordering::Relaxed);
        self.0.current.set(None);
        let batch = self.0.batch.replace(ptr::null_mut());
        // SAFETY: null, or the reference that `batpak_delivery_batch` made for the object.
        unsafe { handle::free(batch) };
        self.0.gaps.take();
        self.0.error.take()
    }
}

impl DeliveryObject {
    /// The delivery in hand. `None` outside the handler's call, and on any thread but the handler's.
    fn current(&self) -> Option<&Delivery<'_>> {
        if self.thread.load(Ordering::Relaxed) != thread::current() {
            return None;
        }
        // SAFETY: set only while the delivery lives (the type's invariant); the lifetime is cut to that of a call from
        // within the handler, which ends before.
        self.current.get().map(|delivery| unsafe { delivery.as_ref() })
    }

    fn required(&self) -> Result<&Delivery<'_>> {
        self.current().ok_or_else(|| {
            let value = "used outside the handler's call, or on another thread";
            invalid(batpak_delivery_t::NOUN, &value, batpak_delivery_t::REMEDY)
        })
    }
}

/// The delivery in hand behind a handle, or `otherwise`.
///
/// # Safety
/// `delivery` as for [`handle::peek`].
unsafe fn ask<'a, T>(
    delivery: *const batpak_delivery_t,
    otherwise: T,
    get: impl FnOnce(&'a DeliveryObject, &'a Delivery<'a>) -> T,
) -> T {
    // SAFETY: as the caller says.
    let object: Option<&'a DeliveryObject> = unsafe { handle::peek(delivery) }.map(|cell| cell.object());
    match object.and_then(|object| Some((object, object.current()?))) {
        Some((object, current)) => guard::value(otherwise, || get(object, current)),
        None => otherwise,
    }
}

/// The worker's checkpoint id: the witness that what the handler does is done at least once, whatever crashes.
///
/// len: out, may be NULL; the length without the NUL.
/// Returns terminated text borrowed from the delivery; NULL when the worker has no checkpoint.
/// The handler's thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_delivery_checkpoint_id(
    delivery: *const batpak_delivery_t,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: P; the text lives as long as the worker.
    unsafe { input::lend(ask(delivery, None, |object, _| object.checkpoint_id.as_deref()), len) }
}

/// How often the batch's first event was given to the handler in this worker's life, from 1.
///
/// The handler's thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_delivery_attempt(delivery: *const batpak_delivery_t) -> u32 {
    // SAFETY: P.
    unsafe { ask(delivery, 0, |_, current| current.attempt()) }
}

/// The store that the events are of, for appends by the handler.
///
/// Returns a handle borrowed from the delivery: not to be freed.
/// The handler's thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_delivery_store(delivery: *const batpak_delivery_t) -> *mut batpak_store_t {
    // SAFETY: P.
    unsafe { ask(delivery, ptr::null_mut(), |object, _| object.store) }
}

/// The batch that the events are of.
///
/// Returns a handle borrowed from the delivery: batpak_batch_retain keeps the events beyond the handler's call.
/// The handler's thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_delivery_batch(delivery: *const batpak_delivery_t) -> *mut batpak_batch_t {
    // SAFETY: P.
    unsafe {
        ask(delivery, ptr::null_mut(), |object, current| {
            if object.batch.get().is_null() {
                object.batch.set(handle::create(Batch::Delivered(current.batch().clone())));
            }
            object.batch.get()
        })
    }
}

/// The gaps of the batch (see Gap above), oldest first.
///
/// n: out, may be NULL; the number of gaps. dropped: out, may be NULL; how many older ones of the batch the worker's
/// gap_capacity left no room for.
/// Returns an array borrowed from the delivery until the handler returns; NULL when there are none, and without
/// gap_capacity in the worker's options.
/// The handler's thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_delivery_gaps(
    delivery: *const batpak_delivery_t,
    n: *mut usize,
    dropped: *mut u64,
) -> *const batpak_gap_t {
    // SAFETY: P.
    unsafe {
        input::put(n, 0);
        input::put(dropped, 0);
        ask(delivery, ptr::null(), |object, current| {
            let mut place = object.gaps.borrow_mut();
            let gaps = place.get_or_insert_with(|| Box::new(Gaps::new(current.gaps().clone())));
            input::put(dropped, gaps.dropped());
            gaps.lend(n)
        })
    }
}

/// A key for something that the handler does because of an event: the same at each redelivery and after each restart,
/// different for each event and output, so that its receiver can tell a repetition.
///
/// event_index: of the batch. output_number: the handler's own count of what it does because of this event, from 0.
/// key: out; 32 bytes. err: out, may be NULL.
/// Errors: BATPAK_E_NO_CHECKPOINT: the worker has no checkpoint id.
/// The handler's thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_delivery_idempotency_key(
    delivery: *const batpak_delivery_t,
    event_index: usize,
    output_number: u32,
    key: *mut u8,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(delivery, err, |object| {
            let place = out("key", key)?;
            let current = object.required()?;
            let Some(event) = current.batch().events().get(event_index) else {
                return Err(invalid("event_index", &event_index, "give the index of an event of the batch"));
            };
            let key = current.idempotency_key(EventId(event.id), output_number)?;
            place.cast::<[u8; 32]>().write(key);
            Ok(BATPAK_OK)
        })
    }
}

/// Says that the first n events of the batch are done: they are committed even if the handler then returns RETRY or
/// FAIL, and do not come again. The last call counts.
///
/// n: 0 to the number of events in the batch. err: out, may be NULL.
/// The handler's thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_delivery_set_done(
    delivery: *mut batpak_delivery_t,
    n: usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::on(delivery, err, |object| object.required()?.set_done(n).map(|()| BATPAK_OK)) }
}

/// Says why the handler is about to return RETRY or FAIL; batpak_worker_join tells it when the worker ends for it. The
/// last call counts.
///
/// message, message_len: UTF-8; other bytes are replaced. err: out, may be NULL.
/// The handler's thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_delivery_set_error(
    delivery: *mut batpak_delivery_t,
    message: *const c_char,
    message_len: usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::on(delivery, err, |object| {
            object.required()?;
            let message = input::bytes("message", message.cast(), message_len)?;
            *object.error.borrow_mut() = String::from_utf8_lossy(message).into_owned();
            Ok(BATPAK_OK)
        })
    }
}
