//! Workers: a supervised thread that polls a region and hands batches to a handler.
//!
//! [`Supervisor::tick`] is one round: poll, hand over, act on the outcome. The thread only repeats it, so tests run it
//! without one.
//!
//! | outcome | what becomes of the batch | then |
//! |---|---|---|
//! | `Continue` | committed | next round |
//! | `Stop` | committed | the worker ends |
//! | `StopWithRollback` | nothing of it committed | the worker ends |
//! | `Retry` | the first `set_done` events committed | the rest again after a backoff |
//! | `Fail`, a panic | the first `set_done` events committed | the budget decides: again from committed, or the end |
//!
//! Rules:
//! 1. Committed moves after the handler, never before; with a checkpoint id, after the file is durable.
//! 2. A commit that fails ends the worker: back to committed, callback, `CheckpointWriteFailed`. `Stop` is no exception.
//! 3. More than `retries_max` retries in a row, with nothing committed between them, are one failure, whose message is that
//!    of `RetriesExhausted`. Like every failure it is counted against the restart policy.
//! 4. A restart rewinds to committed. It reads no file and waits for nothing.
//! 5. The first error is the result; every join gives the same one.
//! 6. A worker is ended once its handler is dropped, its checkpoint id free and its hold on the store gone.
//!
//! Fields of [`Shared`]: `stop` is set by [`Shared::request_stop`] and never cleared; `ending.result` is set by
//! [`Shared::settle`], `ending.is_over` by [`Shared::end`], both on the worker's thread.

use std::any::Any;
use std::cell::Cell;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::event::{EventBatch, Region};
use crate::io::{fork, os};
use crate::store::{Child, ChildKind, LogLevel, Signal, Store, Woken};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, thread, thread_local};

use super::checkpoint;
use super::consumer::{BatchBounds, Consumer, PollTimeout, Polled};
use super::delivery::{Delivery, Handler, Outcome};
use super::position::Last;
use super::restart::{Budget, RestartPolicy, backoff};

/// What the kernel keeps of a thread's name.
const THREAD_NAME_BYTES_MAX: usize = 15;
const THREAD_NAME_DEFAULT: &str = "batpak-worker";

/// Called once when the restart policy allows no more, on the worker's thread.
pub type RestartBudgetCallback = Box<dyn FnOnce() + Send>;
/// Called with the checkpoint id when it could not be written, on the worker's thread.
pub type CheckpointFailureCallback = Box<dyn FnMut(&str, &Error) + Send>;

/// How a worker reads, retries and restarts.
pub struct WorkerOptions {
    /// Most events of a batch: at least 1, default 64.
    pub batch_events: usize,
    /// Most payload bytes of a batch, but for its first event; 0, the default, is no bound.
    pub batch_bytes: u64,
    /// The longest that an idle worker sleeps: at least 1 ms, default 10 ms. A publication, a stop and a close wake it at once.
    pub idle_wait: Duration,
    /// How many failures it survives.
    pub restart: RestartPolicy,
    /// Persist progress under this id, and resume from it.
    pub checkpoint_id: Option<String>,
    /// Most retries in a row that the handler may ask for: default 10.
    pub retries_max: u32,
    /// The wait before the first of them, doubled for each further one: default 10 ms.
    pub retry_backoff_ms: u64,
    /// The longest such wait: default 10,000 ms.
    pub retry_backoff_max_ms: u64,
    /// Look for gaps, and hand over so many of a batch, the newest: default 0, off.
    pub gap_capacity: usize,
    /// See [`RestartBudgetCallback`].
    pub on_restart_budget_exhausted: Option<RestartBudgetCallback>,
    /// See [`CheckpointFailureCallback`].
    pub on_checkpoint_failure: Option<CheckpointFailureCallback>,
    /// Names the thread, cut to 15 bytes: default the checkpoint id.
    pub name: Option<String>,
}

impl Default for WorkerOptions {
    fn default() -> WorkerOptions {
        WorkerOptions {
            batch_events: 64,
            batch_bytes: 0,
            idle_wait: Duration::from_millis(10),
            restart: RestartPolicy::Once,
            checkpoint_id: None,
            retries_max: 10,
            retry_backoff_ms: 10,
            retry_backoff_max_ms: 10_000,
            gap_capacity: 0,
            on_restart_budget_exhausted: None,
            on_checkpoint_failure: None,
            name: None,
        }
    }
}

impl std::fmt::Debug for WorkerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerOptions")
            .field("batch_events", &self.batch_events)
            .field("batch_bytes", &self.batch_bytes)
            .field("idle_wait", &self.idle_wait)
            .field("restart", &self.restart)
            .field("checkpoint_id", &self.checkpoint_id)
            .field("retries_max", &self.retries_max)
            .field("retry_backoff_ms", &self.retry_backoff_ms)
            .field("retry_backoff_max_ms", &self.retry_backoff_max_ms)
            .field("gap_capacity", &self.gap_capacity)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl WorkerOptions {
    /// Every value in its range.
    pub fn check(&self) -> Result<()> {
        BatchBounds::new(self.batch_events, self.batch_bytes)?;
        self.restart.check()?;
        if self.idle_wait < Duration::from_millis(1) {
            return Err(Error::InvalidArgument {
                what: "the idle wait",
                value: format!("{:?}", self.idle_wait),
                remedy: "give at least 1 ms; a publication wakes the worker at once",
            });
        }
        if let Some(id) = &self.checkpoint_id {
            checkpoint::check_id(id)?;
        }
        match &self.name {
            Some(name) if name.contains('\0') => Err(Error::InvalidArgument {
                what: "the worker's name",
                value: format!("{name:?}"),
                remedy: "give a name without zero bytes",
            }),
            _ => Ok(()),
        }
    }

    fn thread_name(&self) -> String {
        let name = self.name.as_deref().or(self.checkpoint_id.as_deref());
        let name = name.filter(|name| !name.is_empty()).unwrap_or(THREAD_NAME_DEFAULT);
        let end = (0..=THREAD_NAME_BYTES_MAX.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
        name[..end.unwrap_or(0)].to_owned()
    }
}

/// How a join ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinOutcome {
    /// The worker has ended, and without an error.
    Stopped,
    /// It is still running.
    TimedOut,
}

/// What a worker has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// Batches handed over.
    pub batches: u64,
    /// Events in them, redeliveries included.
    pub events: u64,
    /// Commits.
    pub commits: u64,
    /// Retries that the handler asked for.
    pub retries: u64,
    /// Failures: outcomes, panics and exhausted retries.
    pub failures: u64,
    /// Restarts after failures.
    pub restarts: u64,
    /// The thread has not ended.
    pub is_running: bool,
}

#[derive(Debug, Default)]
struct Counters {
    batches: AtomicU64,
    events: AtomicU64,
    commits: AtomicU64,
    retries: AtomicU64,
    failures: AtomicU64,
    restarts: AtomicU64,
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

// ---- the handle --------------------------------------------------------------------------------------------------

/// A running worker. Dropping it tells the worker to stop and does not wait.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    /// Starts the thread and returns. Options out of range are errors here; what is found when the checkpoint is loaded comes
    /// from [`Worker::join`].
    pub fn start(
        store: &Store,
        region: Region,
        options: WorkerOptions,
        handler: impl Handler + 'static,
    ) -> Result<Worker> {
        store.check_usable()?;
        options.check()?;
        region.check()?;
        if options.checkpoint_id.is_some() {
            checkpoint::check_writable(store, "a worker with a checkpoint id")?;
        }
        let name = options.thread_name();
        let shared = Arc::new(Shared::new(store));
        let child: Weak<dyn Child> = Arc::downgrade(&shared) as Weak<dyn Child>;
        store.register_child(child)?;
        let seed = Seed { store: store.clone(), region, options, handler: Box::new(handler) };
        let of_thread = shared.clone();
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn(move || run(&of_thread, seed))
            .map_err(|error| Error::io("starting the thread", Path::new(&name), &error))?;
        Ok(Worker { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Tells the worker to stop, after the batch in hand. Does not wait.
    pub fn stop(&self) {
        self.shared.request_stop();
    }

    /// Waits for the worker to end, without telling it to, and gives its error if it ended with one. `None` waits for ever.
    pub fn join(&self, timeout: Option<Duration>) -> Result<JoinOutcome> {
        self.shared.check_joinable("join")?;
        self.wait(timeout)
    }

    /// [`Worker::stop`], then [`Worker::join`].
    pub fn stop_and_join(&self, timeout: Option<Duration>) -> Result<JoinOutcome> {
        self.shared.check_joinable("stop_and_join")?;
        self.stop();
        self.wait(timeout)
    }

    fn wait(&self, timeout: Option<Duration>) -> Result<JoinOutcome> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let Some(result) = self.shared.wait_for_end(deadline) else { return Ok(JoinOutcome::TimedOut) };
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It has nothing left to do. How it ended is in the result.
            let _ = thread.join();
        }
        result.map(|()| JoinOutcome::Stopped)
    }

    /// What it has done so far.
    pub fn stats(&self) -> WorkerStats {
        let counters = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WorkerStats {
            batches: get(&counters.batches),
            events: get(&counters.events),
            commits: get(&counters.commits),
            retries: get(&counters.retries),
            failures: get(&counters.failures),
            restarts: get(&counters.restarts),
            is_running: !self.shared.ending().is_over,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            // The child has no such thread to detach, and whoever held the signal's locks is not in it.
            std::mem::forget(self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take());
            return;
        }
        self.stop();
    }
}

// ---- what handle and thread share --------------------------------------------------------------------------------

#[derive(Debug, Default)]
struct Ending {
    result: Option<Result<()>>,
    is_over: bool,
}

#[derive(Debug)]
pub(super) struct Shared {
    signal: Arc<Signal>,
    stop: AtomicBool,
    ending: Mutex<Ending>,
    ended: Condvar,
    counters: Counters,
    fork_generation: u32,
}

impl Shared {
    pub(super) fn new(store: &Store) -> Shared {
        Shared {
            signal: store.new_signal(),
            stop: AtomicBool::new(false),
            ending: Mutex::default(),
            ended: Condvar::new(),
            counters: Counters::default(),
            fork_generation: fork::generation(),
        }
    }

    fn request_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.signal.interrupt();
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn is_forked(&self) -> bool {
        fork::generation() != self.fork_generation
    }

    fn ending(&self) -> MutexGuard<'_, Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first error wins; success is only what is left when there was none.
    fn settle(&self, result: Result<()>) {
        let mut ending = self.ending();
        if !matches!(ending.result, Some(Err(_))) {
            ending.result = Some(result);
        }
    }

    fn end(&self) {
        self.ending().is_over = true;
        self.ended.notify_all();
    }

    /// None: still running at the deadline.
    fn wait_for_end(&self, deadline: Option<Instant>) -> Option<Result<()>> {
        let mut ending = self.ending();
        while !ending.is_over {
            ending = match deadline {
                None => self.ended.wait(ending).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.ended.wait_timeout(ending, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let died = || Error::WorkerCrashed { message: "it ended without a result".to_owned() };
        Some(ending.result.clone().unwrap_or_else(|| Err(died())))
    }

    fn check_joinable(&self, call: &'static str) -> Result<()> {
        if self.is_forked() {
            return Err(Error::Forked { what: "worker" });
        }
        match self.runs_here() {
            true => Err(Error::Reentrant { call, what: "worker" }),
            false => Ok(()),
        }
    }

    fn runs_here(&self) -> bool {
        RUNNING.with(Cell::get) == self.identity()
    }

    /// Its address: the thread keeps it alive.
    fn identity(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl Child for Shared {
    fn stop(&self) {
        self.request_stop();
    }

    /// On its own thread a worker is as good as ended: it may be dropping the last hold on its store.
    fn wait_idle(&self, deadline: Option<Instant>) -> bool {
        self.runs_here() || self.wait_for_end(deadline).is_some()
    }

    fn at_close(&self) {}

    /// It has ended by now.
    fn release(&self) {}

    fn is_live(&self) -> bool {
        !self.ending().is_over
    }

    fn kind(&self) -> ChildKind {
        ChildKind::Worker
    }
}

// ---- the thread --------------------------------------------------------------------------------------------------

/// What a thread is started with.
pub(super) struct Seed {
    pub(super) store: Store,
    pub(super) region: Region,
    pub(super) options: WorkerOptions,
    pub(super) handler: Box<dyn Handler>,
}

thread_local! {
    /// The worker that the current thread is, by [`Shared::identity`]; 0 for none.
    static RUNNING: Cell<usize> = const { Cell::new(0) };
}

/// The thread. The host's signal handlers run on the host's threads. All of it counts as handler: callbacks and the
/// handler's destructor are the host's code too.
fn run(shared: &Arc<Shared>, seed: Seed) {
    os::block_all_signals();
    crate::io::thread::never_cancel();
    let _scope = seed.store.enter_handler();
    RUNNING.with(|running| running.set(shared.identity()));
    let ended = catch_unwind(AssertUnwindSafe(|| supervise(shared, seed)));
    if let Err(panic) = ended {
        shared.settle(Err(Error::WorkerCrashed { message: panic_message(panic) }));
    }
    RUNNING.with(|running| running.set(0));
    shared.end();
}

/// Opens, runs and drops the worker; the result is settled before its parts are dropped.
fn supervise(shared: &Arc<Shared>, seed: Seed) {
    match Supervisor::open(shared.clone(), seed) {
        Err(error) => shared.settle(Err(error)),
        Ok(mut supervisor) => {
            let result = loop {
                if let ControlFlow::Break(result) = supervisor.tick() {
                    break result;
                }
            };
            shared.settle(result);
        }
    }
}

/// What a round leads to: the next one, or the worker's result.
pub(super) type Round = ControlFlow<Result<()>>;

const NEXT_ROUND: Round = ControlFlow::Continue(());

fn end_with(error: Error) -> Round {
    ControlFlow::Break(Err(error))
}

/// The worker without its thread. Fields drop in order: the handler first, the store last.
pub(super) struct Supervisor {
    handler: Box<dyn Handler>,
    options: WorkerOptions,
    consumer: Consumer,
    bounds: BatchBounds,
    budget: Budget,
    /// Retries in a row with nothing committed between them.
    retries: u32,
    /// The next batch is the rest of one that was retried: this many events.
    redelivery: Option<usize>,
    /// The first event of the last batch, and how often it came first.
    attempts: (u64, u32),
    shared: Arc<Shared>,
    store: Store,
}

impl Supervisor {
    pub(super) fn open(shared: Arc<Shared>, seed: Seed) -> Result<Supervisor> {
        let Seed { store, region, options, handler } = seed;
        let consumer = Consumer::open(&store, &region, options.checkpoint_id.as_deref(), shared.signal.clone())?
            .with_gaps(options.gap_capacity);
        Ok(Supervisor {
            handler,
            bounds: BatchBounds::new(options.batch_events, options.batch_bytes)?,
            budget: Budget::new(options.restart),
            options,
            consumer,
            retries: 0,
            redelivery: None,
            attempts: (0, 0),
            shared,
            store,
        })
    }

    /// One round.
    pub(super) fn tick(&mut self) -> Round {
        if self.shared.is_stopping() {
            return self.leave();
        }
        let bounds = BatchBounds { events: self.redelivery.unwrap_or(self.bounds.events), ..self.bounds };
        let timeout = PollTimeout::For(self.options.idle_wait);
        match self.consumer.poll(bounds, timeout, || self.shared.is_stopping()) {
            Ok(Polled::Batch(batch)) => self.deliver(&Arc::new(batch)),
            Ok(Polled::Empty | Polled::Timeout | Polled::Interrupted) => NEXT_ROUND,
            Err(Error::Closed { .. }) if self.shared.is_stopping() => ControlFlow::Break(Ok(())),
            Err(error) => end_with(error),
        }
    }

    /// The end that was asked for.
    fn leave(&mut self) -> Round {
        self.consumer.refresh();
        ControlFlow::Break(Ok(()))
    }

    fn deliver(&mut self, batch: &Arc<EventBatch>) -> Round {
        self.count_delivery(batch);
        let gaps = self.consumer.take_gaps();
        let delivery =
            Delivery::new(&self.store, self.consumer.checkpoint_id(), batch, self.attempts.1).with_gaps(gaps);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.handler.handle(&delivery)))
            .unwrap_or_else(|panic| Outcome::Fail { message: panic_message(panic) });
        let (done, note) = (delivery.done(), delivery.take_error());
        match outcome {
            Outcome::Continue => self.commit_all(),
            Outcome::Stop => {
                self.commit_all()?;
                self.leave()
            }
            Outcome::StopWithRollback => {
                self.consumer.rewind();
                ControlFlow::Break(Ok(()))
            }
            Outcome::Retry { message } => {
                self.commit_first(batch, done)?;
                self.retry(batch, done, &first_of([message, note], "the handler asked for a retry"))
            }
            Outcome::Fail { message } => {
                self.commit_first(batch, done)?;
                self.fail(first_of([message, note], "the handler failed"))
            }
        }
    }

    fn count_delivery(&mut self, batch: &EventBatch) {
        let first = batch.events().first().map_or(0, |event| event.sequence);
        let (last_first, attempts) = self.attempts;
        self.attempts = (first, if first == last_first { attempts.saturating_add(1) } else { 1 });
        count(&self.shared.counters.batches, 1);
        count(&self.shared.counters.events, batch.len() as u64);
    }

    // ---- committing ----------------------------------------------------------------------------------------------

    fn commit_all(&mut self) -> Round {
        let committed = self.consumer.commit();
        self.after_commit(committed)
    }

    /// Commits the first `done` events.
    fn commit_first(&mut self, batch: &EventBatch, done: usize) -> Round {
        let committed = match done.checked_sub(1) {
            None => return NEXT_ROUND,
            Some(_) if done == batch.len() => self.consumer.commit(),
            Some(last) => self.consumer.commit_event(Last::from(&batch.events()[last])),
        };
        self.after_commit(committed)
    }

    fn after_commit(&mut self, committed: Result<()>) -> Round {
        match committed {
            Ok(()) => {
                count(&self.shared.counters.commits, 1);
                self.retries = 0;
                self.redelivery = None;
                NEXT_ROUND
            }
            Err(error) => self.commit_failed(error),
        }
    }

    fn commit_failed(&mut self, error: Error) -> Round {
        self.consumer.rewind();
        let id = self.consumer.checkpoint_id().unwrap_or_default().to_owned();
        if let Some(callback) = &mut self.options.on_checkpoint_failure {
            call_back(&self.store, || callback(&id, &error));
        }
        end_with(Error::CheckpointWriteFailed { id, source: Box::new(error) })
    }

    // ---- failing -------------------------------------------------------------------------------------------------

    fn retry(&mut self, batch: &EventBatch, done: usize, message: &str) -> Round {
        let left = &batch.events()[done..];
        let Some(first) = left.first() else { return NEXT_ROUND };
        count(&self.shared.counters.retries, 1);
        let limit = self.options.retries_max;
        if self.retries >= limit {
            let (sequence, message) = (first.sequence, message.to_owned());
            return self.fail(Error::RetriesExhausted { limit, sequence, message }.to_string());
        }
        self.retries += 1;
        self.consumer.rewind();
        self.redelivery = Some(left.len());
        self.sleep(backoff(self.options.retry_backoff_ms, self.options.retry_backoff_max_ms, self.retries));
        NEXT_ROUND
    }

    fn fail(&mut self, message: String) -> Round {
        count(&self.shared.counters.failures, 1);
        self.consumer.rewind();
        self.retries = 0;
        self.redelivery = None;
        if self.budget.spend(Instant::now()) {
            count(&self.shared.counters.restarts, 1);
            return NEXT_ROUND;
        }
        if let Some(callback) = self.options.on_restart_budget_exhausted.take() {
            call_back(&self.store, callback);
        }
        end_with(Error::RestartBudgetExhausted { restarts: self.budget.used(), message })
    }

    /// Waits out a backoff; a stop or a close ends it.
    fn sleep(&self, duration: Duration) {
        let deadline = Instant::now().checked_add(duration);
        while !self.shared.is_stopping() {
            match self.shared.signal.wait(deadline) {
                Woken::Timeout | Woken::Closed => return,
                Woken::Published | Woken::Interrupted => {}
            }
        }
    }
}

/// Runs a callback of the host's; a panic in it changes nothing here.
fn call_back(store: &Store, callback: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(callback)) {
        store.log(LogLevel::Error, "worker", &format!("a callback panicked: {}", panic_message(panic)));
    }
}

fn first_of(messages: [String; 2], otherwise: &str) -> String {
    messages.into_iter().find(|message| !message.is_empty()).unwrap_or_else(|| otherwise.to_owned())
}

fn panic_message(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => format!("panic: {text}"),
        Err(panic) => match panic.downcast_ref::<&str>() {
            Some(text) => format!("panic: {text}"),
            None => "panic".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests;
