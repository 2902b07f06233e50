//! What workers promise: most of it a round at a time, without a thread.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::thread;

use super::super::tests::{append, drain, durable_cursor, new_store, open_store, options};
use super::*;
use crate::io::sim::{Operation, Repeat, SimStorage};
use crate::store::StoreOptions;

/// One delivery as the handler saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    sequences: Vec<u64>,
    attempt: u32,
}

fn seen(sequences: impl IntoIterator<Item = u64>, attempt: u32) -> Seen {
    Seen { sequences: sequences.into_iter().collect(), attempt }
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// What a scripted handler does with one batch.
type Step = Box<dyn FnMut(&Delivery<'_>) -> Outcome + Send>;

/// Follows a script, then goes on for ever.
struct Scripted {
    steps: VecDeque<Step>,
    log: Log,
}

impl Handler for Scripted {
    fn handle(&mut self, delivery: &Delivery<'_>) -> Outcome {
        let sequences = delivery.batch().events().iter().map(|event| event.sequence).collect();
        self.log.lock().unwrap().push(Seen { sequences, attempt: delivery.attempt() });
        match self.steps.pop_front() {
            Some(mut step) => step(delivery),
            None => Outcome::Continue,
        }
    }
}

fn answer(outcome: Outcome) -> Step {
    Box::new(move |_| outcome.clone())
}

fn done_then(done: usize, outcome: Outcome) -> Step {
    Box::new(move |delivery| {
        delivery.set_done(done).unwrap();
        outcome.clone()
    })
}

fn retry() -> Outcome {
    Outcome::Retry { message: "not yet".to_owned() }
}

fn fail() -> Outcome {
    Outcome::Fail { message: "no good".to_owned() }
}

fn quick() -> WorkerOptions {
    WorkerOptions { idle_wait: Duration::from_millis(1), retry_backoff_ms: 0, ..WorkerOptions::default() }
}

fn durable() -> WorkerOptions {
    WorkerOptions { checkpoint_id: Some("w".to_owned()), ..quick() }
}

/// A worker without a thread.
struct Bench {
    supervisor: Supervisor,
    log: Log,
}

impl Bench {
    fn new(store: &Store, options: WorkerOptions, steps: Vec<Step>) -> Bench {
        let log = Log::default();
        let handler = Box::new(Scripted { steps: steps.into(), log: log.clone() });
        let seed = Seed { store: store.clone(), region: Region::all(), options, handler };
        Bench { supervisor: Supervisor::open(Arc::new(Shared::new(store)), seed).unwrap(), log }
    }

    /// One round that is not the last.
    fn goes_on(&mut self) {
        match self.supervisor.tick() {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(result) => panic!("it ended: {result:?}"),
        }
    }

    /// One round that is the last.
    fn ends(&mut self) -> Result<()> {
        match self.supervisor.tick() {
            ControlFlow::Continue(()) => panic!("it goes on"),
            ControlFlow::Break(result) => result,
        }
    }

    fn committed(&self) -> Option<u64> {
        self.supervisor.consumer.position().committed
    }

    fn log(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }
}

fn store_of(events: usize) -> Store {
    let store = new_store();
    (0..events).for_each(|_| append(&store, "a"));
    store
}

#[test]
fn continue_commits_after_the_handler() {
    let store = store_of(3);
    let at_delivery = store.clone();
    let step: Step = Box::new(move |_| {
        assert!(matches!(checkpoint::load(&at_delivery, "w"), Err(Error::CheckpointNotFound { .. })));
        Outcome::Continue
    });
    let mut bench = Bench::new(&store, durable(), vec![step]);
    bench.goes_on();
    assert_eq!(checkpoint::load(&store, "w").unwrap().position, Some(2));
    bench.goes_on();
    assert_eq!(bench.log(), [seen(0..3, 1)]);
}

#[test]
fn stop_commits_and_ends() {
    let store = store_of(3);
    let mut bench = Bench::new(&store, durable(), vec![answer(Outcome::Stop)]);
    bench.ends().unwrap();
    assert_eq!(checkpoint::load(&store, "w").unwrap().position, Some(2));
}

#[test]
fn stop_with_rollback_commits_nothing_and_ends() {
    let store = store_of(3);
    let mut bench = Bench::new(&store, durable(), vec![done_then(2, Outcome::StopWithRollback)]);
    bench.ends().unwrap();
    drop(bench);
    assert!(matches!(checkpoint::load(&store, "w"), Err(Error::CheckpointNotFound { .. })));
    assert_eq!(drain(&durable_cursor(&store, "w")), [0, 1, 2]);
}

#[test]
fn a_retry_redelivers_the_same_batch() {
    let store = store_of(3);
    let appender = store.clone();
    let step: Step = Box::new(move |_| {
        append(&appender, "a");
        retry()
    });
    let mut bench = Bench::new(&store, quick(), vec![step, answer(retry())]);
    (0..4).for_each(|_| bench.goes_on());
    assert_eq!(bench.log(), [seen(0..3, 1), seen(0..3, 2), seen(0..3, 3), seen(3..4, 1)]);
}

#[test]
fn a_retry_commits_what_is_done_and_redelivers_the_rest() {
    let store = store_of(5);
    let mut bench = Bench::new(&store, durable(), vec![done_then(2, retry()), done_then(3, retry())]);
    bench.goes_on();
    assert_eq!(checkpoint::load(&store, "w").unwrap().position, Some(1));
    bench.goes_on();
    assert_eq!(checkpoint::load(&store, "w").unwrap().position, Some(4), "all done, so nothing to retry");
    append(&store, "a");
    bench.goes_on();
    assert_eq!(bench.log(), [seen(0..5, 1), seen(2..5, 1), seen(5..6, 1)]);
}

#[test]
fn too_many_retries_are_one_failure() {
    let store = store_of(1);
    let options = WorkerOptions { retries_max: 2, ..quick() };
    let mut bench = Bench::new(&store, options, (0..6).map(|_| answer(retry())).collect());
    (0..5).for_each(|_| bench.goes_on());
    let Err(Error::RestartBudgetExhausted { restarts: 1, message }) = bench.ends() else { panic!("no such end") };
    assert!(message.contains("more than 2 retries") && message.ends_with("not yet"), "{message}");
    assert_eq!(bench.log().last().unwrap().attempt, 6);
}

#[test]
fn progress_renews_the_retries() {
    let store = store_of(4);
    let options = WorkerOptions { retries_max: 1, batch_events: 1, ..quick() };
    let steps = (0..8).map(|step| answer(if step % 2 == 0 { retry() } else { Outcome::Continue })).collect();
    let mut bench = Bench::new(&store, options, steps);
    (0..8).for_each(|_| bench.goes_on());
    assert_eq!(bench.committed(), Some(3));
}

/// Regression 12: a handler that always fails, and join says OK.
#[test]
fn a_failure_restarts_from_committed_until_the_budget_is_used_up() {
    let store = store_of(4);
    let exhausted = Arc::new(AtomicU64::new(0));
    let counter = exhausted.clone();
    let options = WorkerOptions {
        batch_events: 2,
        on_restart_budget_exhausted: Some(Box::new(move || count(&counter, 1))),
        ..durable()
    };
    let mut bench = Bench::new(&store, options, vec![answer(Outcome::Continue), answer(fail()), answer(fail())]);
    bench.goes_on();
    bench.goes_on();
    assert_eq!(exhausted.load(Ordering::Relaxed), 0);
    let Err(Error::RestartBudgetExhausted { restarts: 1, message }) = bench.ends() else { panic!("no such end") };
    assert_eq!(message, "no good");
    assert_eq!(exhausted.load(Ordering::Relaxed), 1);
    assert_eq!(bench.log(), [seen(0..2, 1), seen(2..4, 1), seen(2..4, 2)]);
    assert_eq!(checkpoint::load(&store, "w").unwrap().position, Some(1));
}

#[test]
fn a_failure_commits_what_is_done() {
    let store = store_of(4);
    let mut bench = Bench::new(&store, durable(), vec![done_then(3, fail())]);
    bench.goes_on();
    bench.goes_on();
    assert_eq!(bench.log(), [seen(0..4, 1), seen(3..4, 1)]);
}

#[test]
fn a_restart_reads_no_file() {
    let disk = SimStorage::new(1);
    let store = open_store(&disk);
    append(&store, "a");
    let mut bench = Bench::new(&store, durable(), vec![answer(fail())]);
    disk.fail(Operation::Open, 0, libc::EIO, Repeat::Forever);
    assert!(bench.supervisor.fail(String::new()).is_continue());
    disk.heal();
    bench.supervisor.budget = Budget::new(RestartPolicy::Once);
    bench.goes_on();
    bench.goes_on();
    assert_eq!(bench.committed(), Some(0));
}

#[test]
fn a_panic_is_a_failure_with_its_message() {
    let store = store_of(2);
    let options = WorkerOptions { restart: RestartPolicy::Bounded { max_restarts: 0, within_ms: 1 }, ..quick() };
    let step: Step = Box::new(|delivery| {
        delivery.set_done(1).unwrap();
        panic!("number {}", 7)
    });
    let mut bench = Bench::new(&store, options, vec![step]);
    let Err(Error::RestartBudgetExhausted { restarts: 0, message }) = bench.ends() else { panic!("no such end") };
    assert_eq!(message, "panic: number 7");
    assert_eq!(bench.committed(), Some(0));
}

#[test]
fn the_message_may_come_from_the_delivery() {
    let store = store_of(1);
    let options = WorkerOptions { restart: RestartPolicy::Bounded { max_restarts: 0, within_ms: 1 }, ..quick() };
    let step: Step = Box::new(|delivery| {
        delivery.set_error("from the side");
        Outcome::Fail { message: String::new() }
    });
    let Err(Error::RestartBudgetExhausted { message, .. }) = Bench::new(&store, options, vec![step]).ends() else {
        panic!("no such end")
    };
    assert_eq!(message, "from the side");
}

/// W4, for every outcome that commits.
#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_worker() {
    let steps: [fn() -> Step; 4] =
        [|| answer(Outcome::Continue), || answer(Outcome::Stop), || done_then(1, retry()), || done_then(1, fail())];
    for step in steps {
        let disk = SimStorage::new(1);
        let store = open_store(&disk);
        (0..2).for_each(|_| append(&store, "a"));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let told = failures.clone();
        let callback = move |id: &str, error: &Error| told.lock().unwrap().push((id.to_owned(), error.os_errno()));
        let options = WorkerOptions { on_checkpoint_failure: Some(Box::new(callback)), ..durable() };
        let mut bench = Bench::new(&store, options, vec![step()]);
        disk.fail(Operation::Rename, 0, libc::EIO, Repeat::Once);
        let Err(Error::CheckpointWriteFailed { id, source }) = bench.ends() else { panic!("no such end") };
        assert_eq!((id.as_str(), source.os_errno()), ("w", libc::EIO));
        assert_eq!(*failures.lock().unwrap(), [("w".to_owned(), libc::EIO)]);
        assert_eq!(bench.supervisor.consumer.position().position, None, "rolled back");
        drop(bench);
        assert_eq!(drain(&durable_cursor(&store, "w")), [0, 1]);
    }
}

#[test]
fn a_panicking_callback_changes_nothing() {
    let store = store_of(1);
    let options = WorkerOptions {
        restart: RestartPolicy::Bounded { max_restarts: 0, within_ms: 1 },
        on_restart_budget_exhausted: Some(Box::new(|| panic!("callback"))),
        ..quick()
    };
    let ended = Bench::new(&store, options, vec![answer(fail())]).ends();
    assert!(matches!(ended, Err(Error::RestartBudgetExhausted { .. })));
}

#[test]
fn a_delivery_knows_its_worker() {
    let store = store_of(2);
    let step: Step = Box::new(|delivery| {
        assert_eq!(delivery.checkpoint_id(), Some("w"));
        let event = delivery.batch().event(1).id();
        let key = delivery.idempotency_key(event, 3).unwrap();
        let text = format!("w/{event}/3");
        assert_eq!(key, blake3::derive_key("libbatpak delivery idempotency key v1", text.as_bytes()));
        assert_ne!(key, delivery.idempotency_key(event, 4).unwrap());
        assert_ne!(key, delivery.idempotency_key(delivery.batch().event(0).id(), 3).unwrap());
        assert!(matches!(delivery.set_done(3), Err(Error::InvalidArgument { .. })));
        Outcome::Continue
    });
    Bench::new(&store, durable(), vec![step]).goes_on();
    let step: Step = Box::new(|delivery| {
        assert_eq!(delivery.checkpoint_id(), None);
        let key = delivery.idempotency_key(delivery.batch().event(0).id(), 0);
        assert!(matches!(key, Err(Error::NoCheckpoint)));
        Outcome::Stop
    });
    Bench::new(&store, quick(), vec![step]).ends().unwrap();
}

#[test]
fn a_requested_stop_ends_the_next_round_and_saves_an_idle_scan() {
    let store = store_of(3);
    let mut bench = Bench::new(&store, durable(), vec![]);
    bench.supervisor.consumer = {
        drop(std::mem::replace(
            &mut bench.supervisor.consumer,
            Consumer::open(&store, &Region::all(), None, store.new_signal()).unwrap(),
        ));
        let rare = Region::all().with_entity("rare");
        Consumer::open(&store, &rare, Some("w"), bench.supervisor.shared.signal.clone()).unwrap()
    };
    bench.goes_on();
    bench.supervisor.shared.request_stop();
    bench.ends().unwrap();
    assert_eq!(checkpoint::load(&store, "w").unwrap().scanned, 3);
}

#[test]
fn options_out_of_range_are_refused_at_start() {
    let store = new_store();
    let start = |options| Worker::start(&store, Region::all(), options, |_: &Delivery<'_>| Outcome::Continue);
    for options in [
        WorkerOptions { batch_events: 0, ..quick() },
        WorkerOptions { idle_wait: Duration::ZERO, ..quick() },
        WorkerOptions { restart: RestartPolicy::Bounded { max_restarts: 1, within_ms: 0 }, ..quick() },
        WorkerOptions { name: Some("a\0b".to_owned()), ..quick() },
    ] {
        assert!(matches!(start(options), Err(Error::InvalidArgument { .. })));
    }
    let bad_id = WorkerOptions { checkpoint_id: Some("../w".to_owned()), ..quick() };
    assert!(matches!(start(bad_id), Err(Error::CheckpointIdInvalid { .. })));
}

#[test]
fn a_durable_worker_needs_a_store_for_writing() {
    let disk = SimStorage::new(1);
    open_store(&disk).close(Duration::from_secs(9)).unwrap();
    let read_only = StoreOptions { read_only: true, ..options(&disk) };
    let store = Store::open(Path::new("/data"), &read_only).unwrap();
    let started = Worker::start(&store, Region::all(), durable(), |_: &Delivery<'_>| Outcome::Continue);
    assert!(matches!(started, Err(Error::ReadOnly { .. })));
}

// ---- with a thread -----------------------------------------------------------------------------------------------

const LONG: Option<Duration> = Some(Duration::from_secs(20));

fn start(store: &Store, options: WorkerOptions, handler: impl Handler + 'static) -> Worker {
    Worker::start(store, Region::all(), options, handler).unwrap()
}

/// A handler that sends what it sees.
fn sender() -> (impl Handler + 'static, mpsc::Receiver<u64>) {
    let (sender, receiver) = mpsc::channel();
    let handler = move |delivery: &Delivery<'_>| {
        for event in delivery.batch().events() {
            let _ = sender.send(event.sequence);
        }
        Outcome::Continue
    };
    (handler, receiver)
}

#[test]
fn a_worker_delivers_what_is_there_and_what_comes() {
    let store = store_of(2);
    let (handler, received) = sender();
    let worker = start(&store, WorkerOptions::default(), handler);
    append(&store, "a");
    let sequences: Vec<u64> = (0..3).map(|_| received.recv_timeout(LONG.unwrap()).unwrap()).collect();
    assert_eq!(sequences, [0, 1, 2]);
    assert_eq!(worker.stop_and_join(LONG).unwrap(), JoinOutcome::Stopped);
    let stats = worker.stats();
    assert_eq!((stats.events, stats.failures, stats.is_running), (3, 0, false));
    assert!(stats.batches >= 1 && stats.commits == stats.batches);
    assert_eq!(worker.join(LONG).unwrap(), JoinOutcome::Stopped, "joining again is fine");
}

#[test]
fn join_is_passive_and_times_out() {
    let store = new_store();
    let worker = start(&store, WorkerOptions::default(), sender().0);
    assert_eq!(worker.join(Some(Duration::from_millis(20))).unwrap(), JoinOutcome::TimedOut);
    assert!(worker.stats().is_running);
    worker.stop();
    assert_eq!(worker.join(LONG).unwrap(), JoinOutcome::Stopped);
}

/// Regression 16: stop waited out the idle sleep.
#[test]
fn stop_does_not_wait_for_the_idle_wait() {
    let store = new_store();
    let options = WorkerOptions { idle_wait: Duration::from_secs(3_600), ..WorkerOptions::default() };
    let worker = start(&store, options, sender().0);
    thread::sleep(Duration::from_millis(20));
    let begun = Instant::now();
    worker.stop_and_join(LONG).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn stop_ends_a_backoff() {
    let store = store_of(1);
    let (began, has_begun) = mpsc::channel();
    let handler = move |_: &Delivery<'_>| {
        began.send(()).unwrap();
        retry()
    };
    let options = WorkerOptions { retry_backoff_ms: 3_600_000, retry_backoff_max_ms: u64::MAX, ..durable() };
    let worker = start(&store, options, handler);
    has_begun.recv_timeout(LONG.unwrap()).unwrap();
    worker.stop_and_join(LONG).unwrap();
    assert_eq!(drain(&durable_cursor(&store, "w")), [0]);
}

#[test]
fn what_loading_finds_comes_from_join() {
    let store = store_of(3);
    let cursor = durable_cursor(&store, "w");
    let in_use = start(&store, durable(), sender().0);
    assert!(matches!(in_use.join(LONG), Err(Error::CheckpointInUse { .. })));
    assert!(matches!(in_use.join(LONG), Err(Error::CheckpointInUse { .. })), "each time");
    drop(cursor);
    checkpoint::save(&store, "w", &Region::all().with_scope("other"), 1).unwrap();
    let (handler, received) = sender();
    let mismatched = start(&store, durable(), handler);
    assert!(matches!(mismatched.join(LONG), Err(Error::CheckpointRegionMismatch { .. })));
    assert!(received.recv().is_err(), "nothing was delivered and the handler is gone");
}

#[test]
fn the_handler_is_dropped_and_the_id_free_when_join_returns() {
    let store = store_of(1);
    for _ in 0..20 {
        let (handler, received) = sender();
        let worker = start(&store, durable(), handler);
        worker.stop_and_join(LONG).unwrap();
        while received.try_recv().is_ok() {}
        assert!(matches!(received.try_recv(), Err(mpsc::TryRecvError::Disconnected)));
        durable_cursor(&store, "w").close().unwrap();
    }
}

/// Regression 16: a dropped handle kept the store locked.
#[test]
fn a_dropped_handle_stops_the_worker_without_waiting() {
    let store = store_of(1);
    let (release, held) = mpsc::channel::<()>();
    let (began, has_begun) = mpsc::channel();
    let handler = move |_: &Delivery<'_>| {
        began.send(()).unwrap();
        let _ = held.recv();
        Outcome::Continue
    };
    let worker = start(&store, durable(), handler);
    has_begun.recv_timeout(LONG.unwrap()).unwrap();
    drop(worker);
    drop(release);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match super::super::Cursor::open(&store, Region::all(), &super::super::tests::with_checkpoint("w")) {
            Ok(cursor) => break assert_eq!(drain(&cursor), [], "the batch in hand was committed"),
            Err(Error::CheckpointInUse { .. }) if Instant::now() < deadline => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn calls_that_would_wait_for_the_handler_are_refused_in_it() {
    let store = store_of(1);
    let shared: Arc<Mutex<Option<Arc<Worker>>>> = Arc::default();
    let own = shared.clone();
    let (results, received) = mpsc::channel();
    let handler = move |delivery: &Delivery<'_>| {
        let worker = loop {
            match own.lock().unwrap().take() {
                Some(worker) => break worker,
                None => thread::yield_now(),
            }
        };
        results.send(worker.join(None).map(drop)).unwrap();
        results.send(worker.stop_and_join(None).map(drop)).unwrap();
        results.send(delivery.store().close(Duration::from_secs(20))).unwrap();
        assert!(delivery.store().in_handler());
        assert!(!new_store().in_handler());
        Outcome::Stop
    };
    let worker = Arc::new(start(&store, quick(), handler));
    *shared.lock().unwrap() = Some(worker.clone());
    for _ in 0..3 {
        assert!(matches!(received.recv_timeout(LONG.unwrap()).unwrap(), Err(Error::Reentrant { .. })));
    }
    assert_eq!(worker.join(LONG).unwrap(), JoinOutcome::Stopped);
    assert!(!store.in_handler());
}

#[test]
fn the_close_of_the_store_stops_its_workers() {
    let disk = SimStorage::new(1);
    let store = open_store(&disk);
    (0..3).for_each(|_| append(&store, "a"));
    let (handler, received) = sender();
    let worker = start(&store, durable(), handler);
    received.recv_timeout(LONG.unwrap()).unwrap();
    store.close(Duration::from_secs(20)).unwrap();
    assert_eq!(worker.join(LONG).unwrap(), JoinOutcome::Stopped);
    let store = open_store(&disk);
    assert_eq!(drain(&durable_cursor(&store, "w")), []);
}

#[test]
fn a_close_that_a_handler_holds_up_says_so() {
    let store = store_of(1);
    let (release, held) = mpsc::channel::<()>();
    let (began, has_begun) = mpsc::channel();
    let handler = move |_: &Delivery<'_>| {
        began.send(()).unwrap();
        let _ = held.recv();
        Outcome::Continue
    };
    let worker = start(&store, quick(), handler);
    has_begun.recv_timeout(LONG.unwrap()).unwrap();
    assert!(matches!(store.close(Duration::from_millis(20)), Err(Error::Busy { handlers: 1, .. })));
    append(&store, "a");
    drop(release);
    store.close(Duration::from_secs(20)).unwrap();
    assert_eq!(worker.join(LONG).unwrap(), JoinOutcome::Stopped);
}

#[test]
fn a_thread_that_dies_outside_the_handler_is_named() {
    struct Bomb;
    impl Handler for Bomb {
        fn handle(&mut self, _: &Delivery<'_>) -> Outcome {
            Outcome::Stop
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on the way out");
        }
    }
    let store = store_of(1);
    let worker = start(&store, durable(), Bomb);
    let Err(Error::WorkerCrashed { message }) = worker.join(LONG) else { panic!("no such end") };
    assert_eq!(message, "panic: on the way out");
    durable_cursor(&store, "w").close().unwrap();
}

/// The last hold on a store may be a worker's: its thread then drops the store, and must not wait for itself.
#[test]
fn a_worker_may_outlive_every_other_hold_on_its_store() {
    let disk = SimStorage::new(1);
    let store = open_store(&disk);
    append(&store, "a");
    let (handler, received) = sender();
    let worker = start(&store, durable(), handler);
    drop(store);
    assert_eq!(received.recv_timeout(LONG.unwrap()).unwrap(), 0);
    assert_eq!(worker.stop_and_join(LONG).unwrap(), JoinOutcome::Stopped);
    assert_eq!(drain(&durable_cursor(&open_store(&disk), "w")), []);
}

#[test]
fn threads_are_named_for_people_who_look_for_them() {
    let name = |name: Option<&str>, id: Option<&str>| {
        WorkerOptions { name: name.map(str::to_owned), checkpoint_id: id.map(str::to_owned), ..quick() }.thread_name()
    };
    assert_eq!(name(None, None), "batpak-worker");
    assert_eq!(name(None, Some("billing")), "billing");
    assert_eq!(name(Some("mailer"), Some("billing")), "mailer");
    assert_eq!(name(Some("a-name-that-is-too-long"), None), "a-name-that-is-");
    assert_eq!(name(Some("fourteen-byteää"), None), "fourteen-byteä");
    assert_eq!(name(Some(""), None), "batpak-worker");
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_thread_has_its_name_and_all_signals_blocked() {
    let store = store_of(1);
    let (sent, received) = mpsc::channel();
    let handler = move |_: &Delivery<'_>| {
        sent.send(std::fs::read_to_string("/proc/thread-self/status").unwrap()).unwrap();
        Outcome::Stop
    };
    let options = WorkerOptions { name: Some("watched".to_owned()), ..quick() };
    let worker = start(&store, options, handler);
    let status = received.recv_timeout(LONG.unwrap()).unwrap();
    worker.join(LONG).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert_eq!(field("Name:"), "watched");
    let blocked = u64::from_str_radix(field("SigBlk:"), 16).unwrap();
    // SIGKILL and SIGSTOP cannot be blocked; 32 to 34 belong to the C library.
    let blockable = (1..=31).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal));
    for signal in blockable {
        assert_ne!(blocked & (1 << (signal - 1)), 0, "signal {signal} in {blocked:x}");
    }
}
