//! Workers: the handler against stop, close and free, and the checkpoint against the handler.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use super::*;
use crate::cursor::{Delivery, JoinOutcome, Outcome, Worker, WorkerOptions, checkpoint};

/// What a handler saw, kept where no scheduler looks. A panic in a handler is the worker's to catch, so the scenario asks.
#[derive(Default)]
pub(super) struct Seen {
    next: AtomicU64,
    forbidden: AtomicBool,
    wrong: Mutex<Vec<String>>,
    running: AtomicU64,
}

impl Seen {
    fn note(&self, wrong: String) {
        self.wrong.lock().unwrap().push(wrong);
    }

    /// From now on the handler must not be called, and does not run.
    pub(super) fn forbid(&self) {
        self.forbidden.store(true, SeqCst);
        if self.running.load(SeqCst) > 0 {
            self.note(String::from("a handler is running that was waited for"));
        }
    }

    pub(super) fn check(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

/// A handler that expects events in order, none left out, and takes some steps.
pub(super) fn handler(seen: &Arc<Seen>) -> impl FnMut(&Delivery<'_>) -> Outcome + Send + 'static {
    let seen = seen.clone();
    move |delivery| {
        seen.running.fetch_add(1, SeqCst);
        if seen.forbidden.load(SeqCst) {
            seen.note(String::from("the handler was called after its end"));
        }
        thread::yield_now();
        for event in delivery.batch().events() {
            let next = seen.next.load(SeqCst);
            if event.sequence > next {
                seen.note(format!("event {next} was skipped for {}", event.sequence));
            }
            seen.next.store(next.max(event.sequence + 1), SeqCst);
        }
        thread::yield_now();
        if seen.forbidden.load(SeqCst) {
            seen.note(String::from("the handler was running at its end"));
        }
        seen.running.fetch_sub(1, SeqCst);
        Outcome::Continue
    }
}

pub(super) fn with_id() -> WorkerOptions {
    WorkerOptions { checkpoint_id: Some(String::from("w")), batch_events: 1, ..WorkerOptions::default() }
}

fn appender(store: &Store, events: u64) -> thread::JoinHandle<u64> {
    let store = store.clone();
    thread::spawn(move || {
        for done in 0..events {
            match try_append(&store, "e", any_durability()) {
                Ok(_) => {}
                Err(Error::Closed { .. }) => return done,
                Err(other) => panic!("{other:?}"),
            }
        }
        events
    })
}

/// What is left for the next life of the consumer begins at or before the first event that no handler has seen.
fn check_resumption(store: &Store, seen: &Seen) {
    let resumed = cursor(store, Some("w")).expect("the id is free");
    let next = seen.next.load(SeqCst);
    let first = sequences(&resumed.poll(9, 0, PollTimeout::Never).unwrap()).first().copied();
    if let Some(first) = first {
        assert!(first <= next, "event {next} is skipped: the checkpoint is ahead of the handler");
    } else {
        assert_eq!(next, store.watermarks().visible, "events are skipped: the checkpoint is ahead of the handler");
    }
}

#[test]
fn row_r15_no_handler_is_called_after_a_stop_has_returned() {
    model("a worker against appends and its stop").run(|| {
        let (_disk, store) = new_store();
        let seen = Arc::new(Seen::default());
        let worker = Worker::start(&store, Region::all(), with_id(), handler(&seen)).unwrap();
        let appender = appender(&store, 3);
        for _ in 0..below(30) {
            thread::yield_now();
        }
        assert_eq!(worker.stop_and_join(None).unwrap(), JoinOutcome::Stopped);
        seen.forbid();
        appender.join().unwrap();
        store.sync().unwrap();
        check_resumption(&store, &seen);
        store.close(FOREVER).unwrap();
        seen.check();
    });
}

/// No timeout ever wakes it: a worker delivers all that is appended.
#[test]
fn row_r15_a_worker_is_woken_by_every_publication() {
    model("an idle worker that only publications wake").run(|| {
        let (_disk, store) = new_store();
        let seen = Arc::new(Seen::default());
        let mut deliver = handler(&seen);
        let stop_at_the_end = {
            let seen = seen.clone();
            move |delivery: &Delivery<'_>| {
                deliver(delivery);
                if seen.next.load(SeqCst) == 4 { Outcome::Stop } else { Outcome::Continue }
            }
        };
        let worker = Worker::start(&store, Region::all(), with_id(), stop_at_the_end).unwrap();
        let appenders = vec![appender(&store, 2), appender(&store, 2)];
        assert_eq!(worker.join(None).unwrap(), JoinOutcome::Stopped);
        seen.forbid();
        join(appenders);
        check_resumption(&store, &seen);
        store.close(FOREVER).unwrap();
        seen.check();
    });
}

/// The checkpoint is written after the handler and after the events are durable: whatever the moment of a kill or a power loss, what
/// the disk says is done has been handled and is there.
#[test]
fn row_r15_a_checkpoint_is_never_ahead() {
    model("the checkpoint of a worker, at kills and power losses").run(|| {
        let (disk, store) = new_store();
        let seen = Arc::new(Seen::default());
        let worker = Worker::start(&store, Region::all(), with_id(), handler(&seen)).unwrap();
        let appender = appender(&store, 3);
        let mut images = Vec::new();
        for _ in 0..3 {
            for _ in 0..below(40) {
                thread::yield_now();
            }
            // The image first: what was handled after it does no harm.
            let (image, lost) = if coin() { (disk.crash_keep_all(), false) } else { (power_loss(&disk), true) };
            images.push((image, lost, seen.next.load(SeqCst)));
        }
        appender.join().unwrap();
        worker.stop_and_join(None).unwrap();
        store.close(FOREVER).unwrap();
        for (image, lost, handled) in images {
            let store = open(&image, false);
            let end = store.watermarks().visible;
            match checkpoint::load(&store, "w") {
                Ok(found) => {
                    let done = found.position.map_or(0, |sequence| sequence + 1);
                    assert!(done <= end, "{done} events are done, and {end} are in the log (power lost: {lost})");
                    assert!(done <= handled, "{done} events are done, and {handled} were handled (power lost: {lost})");
                    cursor(&store, Some("w")).expect("the checkpoint fits the log");
                }
                Err(Error::CheckpointNotFound { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        seen.check();
    });
}

/// A handler that stops its own worker, or frees its handle, while others stop it and append.
#[test]
fn row_r15_a_handler_may_stop_its_own_worker() {
    model("a handler that stops and frees its own worker, against a stop").run(|| {
        let (_disk, store) = new_store();
        let (seen, place) = (Arc::new(Seen::default()), Arc::new(Mutex::new(None::<Arc<Worker>>)));
        let mut deliver = handler(&seen);
        let of_handler = place.clone();
        let handler = move |delivery: &Delivery<'_>| {
            deliver(delivery);
            let own = of_handler.lock().unwrap().take();
            if let Some(worker) = own {
                worker.stop();
                assert!(matches!(worker.join(None), Err(Error::Reentrant { .. })));
                assert!(matches!(delivery.store().close(FOREVER), Err(Error::Reentrant { .. })));
            }
            Outcome::Continue
        };
        let worker = Arc::new(Worker::start(&store, Region::all(), with_id(), handler).unwrap());
        *place.lock().unwrap() = Some(worker.clone());
        let appender = appender(&store, 2);
        if coin() {
            worker.stop();
        }
        let ended = if coin() {
            // The handle may have been the last: the thread ends by itself, or the store's close ends it.
            drop(worker);
            None
        } else {
            Some(worker.stop_and_join(None))
        };
        appender.join().unwrap();
        store.close(FOREVER).unwrap();
        seen.forbid();
        if let Some(ended) = ended {
            ended.unwrap();
        }
        place.lock().unwrap().take();
        seen.check();
    });
}

/// Retries wait out a backoff, which a stop or a close ends.
#[test]
fn row_r15_a_stop_ends_a_backoff() {
    model("a worker in its backoff against a stop or a close").run(|| {
        let (_disk, store) = new_store();
        let handler = |_: &Delivery<'_>| Outcome::Retry { message: String::new() };
        let worker = Worker::start(&store, Region::all(), with_id(), handler).unwrap();
        append(&store, "e", any_durability());
        for _ in 0..below(30) {
            thread::yield_now();
        }
        if coin() {
            worker.stop_and_join(None).unwrap();
            store.close(FOREVER).unwrap();
        } else {
            store.close(FOREVER).unwrap();
            worker.join(None).unwrap();
        }
    });
}
