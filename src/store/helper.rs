//! The store's one background thread: prepares space ahead, prepares the next segment's file, seals segments that were left, and
//! syncs for those who asked without waiting.
//!
//! It starts at the first append that could use it. Nothing depends on it but speed: whatever it has not done yet is done by
//! the append that needs it, and its failures are reported to the log function (a failed sync, as everywhere, poisons the store).
//! Without it (`helper_thread: false`) sealing happens in the append that left the segment.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, PoisonError, Weak};

use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::io::fork;
use crate::log::tail::Space;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, thread, thread_local};

use super::Inner;
use super::append::Appender;
use super::options::LogLevel;
use super::rotation::NEXT_SEGMENT_NAME;
use super::segments::Segment;

/// Segments that may wait for their index before appends wait for the thread: bounds memory.
const SEALS_WAITING_MAX: usize = 6;
/// Space is prepared as far ahead as the segment is long, within these bounds.
const AHEAD_BYTES: (u64, u64) = (256 << 10, 8 << 20);

#[derive(Debug, Default)]
struct State {
    space: Option<Arc<Space>>,
    space_end: u64,
    wants_next: bool,
    next: Option<Space>,
    /// With the next segment's base.
    seals: VecDeque<(Arc<Segment>, u64)>,
    sealing: bool,
    /// When a fence expires, or earlier.
    fence_deadline: Option<Instant>,
    wants_sync: bool,
    stopped: bool,
    thread: Option<JoinHandle<()>>,
    start_error: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    done: Condvar,
    waiting: AtomicU64,
    /// The first event of an open fence: segments with events from there on are not sealed.
    open_floor: AtomicU64,
}

/// The appender's side of the thread.
#[derive(Debug)]
pub(crate) struct Helper {
    shared: Arc<Shared>,
    enabled: AtomicBool,
    fork_generation: u32,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Job {
    Sync,
    Prepare(Arc<Space>, u64),
    Next,
    Seal(Arc<Segment>),
    ExpireFences,
    Stop,
}

impl Helper {
    pub fn new(enabled: bool) -> Helper {
        let shared = Shared { open_floor: AtomicU64::new(u64::MAX), ..Shared::default() };
        Helper { shared: Arc::new(shared), enabled: AtomicBool::new(enabled), fork_generation: fork::generation() }
    }

    /// Asks for space when what is prepared runs low, and for the next segment's file when this one is half full. Called under the
    /// append lock; cheap when there is nothing to ask.
    #[inline]
    pub fn look_ahead(&self, inner: &Inner, appender: &Appender) {
        let (offset, space) = (appender.tail.offset(), appender.tail.space());
        let ahead = offset.clamp(AHEAD_BYTES.0, AHEAD_BYTES.1);
        let end = (offset + ahead).next_multiple_of(AHEAD_BYTES.0).min(space.limit());
        if space.prepared() < (offset + ahead / 2).min(space.limit()) && space.ask_for(end) {
            self.ask(inner, |state| (state.space, state.space_end) = (Some(space.clone()), end));
        }
        if offset > space.limit() / 2 && space.ask_for_next() {
            self.ask(inner, |state| state.wants_next = state.next.is_none());
        }
    }

    #[cold]
    fn ask(&self, inner: &Inner, change: impl FnOnce(&mut State)) {
        let mut state = self.shared.lock();
        if state.stopped || !self.is_enabled() {
            return;
        }
        change(&mut state);
        self.start(inner, &mut state);
        self.shared.work.notify_one();
    }

    /// Has the thread make durable what is appended.
    pub fn sync(&self, inner: &Inner) {
        self.ask(inner, |state| state.wants_sync = true);
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    fn start(&self, inner: &Inner, state: &mut State) {
        if state.thread.is_none() && !state.stopped {
            let (shared, weak) = (self.shared.clone(), inner.itself.clone());
            let thread = thread::Builder::new().name(String::from("batpak-helper"));
            match thread.spawn(move || run(&shared, &weak)) {
                Ok(thread) => state.thread = Some(thread),
                Err(error) => {
                    // From now on as without the option. Said later: the append lock is held here.
                    self.enabled.store(false, Ordering::Relaxed);
                    state.start_error = Some(error.to_string());
                }
            }
        }
    }

    /// The first event of an open fence is now `floor`. Called under the append lock.
    pub fn set_open_floor(&self, floor: u64) {
        self.shared.open_floor.store(floor, Ordering::Release);
    }

    /// A fence was begun: it is to be cancelled when its time is over.
    pub fn watch_fences(&self, inner: &Inner) {
        let deadline = inner.fence_deadline();
        let mut state = self.shared.lock();
        if state.stopped || !self.is_enabled() {
            return;
        }
        state.fence_deadline = deadline;
        self.start(inner, &mut state);
        self.shared.work.notify_one();
    }

    /// Fences were decided: segments may be fit to be sealed now.
    pub fn fences_decided(&self) {
        if self.shared.waiting.load(Ordering::Acquire) > 0 {
            // With the lock, so that a thread that has just looked is waiting by now.
            drop(self.shared.lock());
            self.shared.work.notify_one();
        }
    }

    /// A segment was left, and the next one begins at `end`: its index is to be written. Called under the append lock.
    pub fn seal(&self, segment: Arc<Segment>, end: u64) {
        let mut state = self.shared.lock();
        state.seals.push_back((segment, end));
        self.shared.waiting.store(state.seals.len() as u64, Ordering::Release);
        self.shared.work.notify_one();
    }

    /// After an append, with no lock held: seals, when that is the caller's to do, or waits for a thread that is far behind.
    #[inline]
    pub fn throttle(&self, inner: &Inner) {
        let waiting = self.shared.waiting.load(Ordering::Acquire) as usize;
        if waiting > 0 && !self.is_enabled() || waiting > SEALS_WAITING_MAX {
            self.throttle_slowly(inner);
        }
    }

    #[cold]
    fn throttle_slowly(&self, inner: &Inner) {
        let mut state = self.shared.lock();
        if self.is_enabled() {
            self.start(inner, &mut state);
        }
        let works = |state: &State| state.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        while works(&state)
            && state.seals.len() > SEALS_WAITING_MAX
            // An open fence keeps them for its time at most; its own appends must not wait for that.
            && self.shared.can_seal(&state)
            && !state.stopped
            && !inner.latch.is_tripped()
        {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if works(&state) {
            return;
        }
        let start_error = state.start_error.take();
        drop(state);
        if let Some(error) = start_error {
            inner
                .options
                .log
                .write(LogLevel::Warning, "helper", || format!("the helper thread does not start: {error}"));
        }
        self.finish(inner);
    }

    /// The next segment's file, if it is ready.
    pub fn take_prepared(&self) -> Option<Space> {
        let mut state = self.shared.lock();
        state.wants_next = false;
        state.next.take()
    }

    /// Does all sealing that is left, on this thread.
    pub fn finish(&self, inner: &Inner) {
        loop {
            let segment = {
                let mut state = self.shared.lock();
                while state.sealing {
                    state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if !self.shared.can_seal(&state) {
                    return;
                }
                let Some((segment, _)) = state.seals.front().cloned() else { return };
                state.sealing = true;
                segment
            };
            let _done = Sealing(&self.shared);
            seal(inner, &segment);
        }
    }

    /// This thread is the helper.
    pub fn is_this_thread(&self) -> bool {
        HELPER.with(Cell::get) == Arc::as_ptr(&self.shared).addr()
    }

    /// Ends the thread and waits for it. It may be in the middle of a job, not longer.
    pub fn stop(&self) {
        let thread = {
            let mut state = self.shared.lock();
            state.stopped = true;
            state.thread.take()
        };
        self.shared.work.notify_all();
        self.shared.done.notify_all();
        if let Some(thread) = thread.filter(|_| HELPER.with(Cell::get) == 0) {
            let _ = thread.join();
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // In a forked child the lock may be held for ever, by a thread that is not there.
        if fork::generation() == self.fork_generation {
            self.shared.lock().stopped = true;
            self.shared.work.notify_all();
        }
    }
}

/// A seal under way: done when dropped, also by a panic.
struct Sealing<'a>(&'a Shared);

impl Drop for Sealing<'_> {
    fn drop(&mut self) {
        self.0.sealed();
    }
}

impl Shared {
    fn sealed(&self) {
        let mut state = self.lock();
        state.seals.pop_front();
        state.sealing = false;
        self.waiting.store(state.seals.len() as u64, Ordering::Release);
        drop(state);
        self.done.notify_all();
    }

    /// The oldest segment that waits has no event of an open fence.
    fn can_seal(&self, state: &State) -> bool {
        state.seals.front().is_some_and(|&(_, end)| end <= self.open_floor.load(Ordering::Acquire))
    }

    fn next_job(&self) -> Job {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return Job::Stop;
            }
            if std::mem::take(&mut state.wants_sync) {
                return Job::Sync;
            }
            if let Some(space) = state.space.take() {
                if space.prepared() < state.space_end {
                    return Job::Prepare(space, state.space_end);
                }
            }
            if state.wants_next && state.next.is_none() {
                return Job::Next;
            }
            if !state.sealing && self.can_seal(&state) {
                if let Some((segment, _)) = state.seals.front().cloned() {
                    state.sealing = true;
                    return Job::Seal(segment);
                }
            }
            state = match state.fence_deadline {
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.fence_deadline = None;
                        return Job::ExpireFences;
                    }
                    self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

thread_local! {
    /// The store's helper that runs on this thread, by the address of what it shares; 0 for none. Nobody joins itself.
    static HELPER: Cell<usize> = const { Cell::new(0) };
}

fn run(shared: &Shared, inner: &Weak<Inner>) {
    HELPER.with(|helper| helper.set(ptr::from_ref(shared).addr()));
    crate::io::os::block_all_signals();
    crate::io::thread::never_cancel();
    loop {
        let job = shared.next_job();
        let Some(inner) = inner.upgrade() else { return };
        if matches!(job, Job::Stop) {
            return;
        }
        // A host's log function may panic. Appends wait for what a thread has yet to do: it does not end before it is told to.
        if catch_unwind(AssertUnwindSafe(|| carry_out(shared, &inner, job))).is_err() {
            shared.lock().wants_next = false;
        }
    }
}

fn carry_out(shared: &Shared, inner: &Inner, job: Job) {
    match job {
        Job::Stop => {}
        Job::Sync => {
            if let Err(error) = inner.commit_decided(inner.marks.appended.load(Ordering::Acquire)) {
                inner
                    .options
                    .log
                    .write(LogLevel::Error, "sync", || format!("a sync in the background failed: {error}"));
            }
        }
        Job::Prepare(space, end) => {
            if let Err(error) = space.prepare(end) {
                inner.options.log.write(LogLevel::Warning, "log", || format!("preparing space ahead failed: {error}"));
            }
        }
        Job::Next => {
            let made = inner.prepare_space(NEXT_SEGMENT_NAME, AHEAD_BYTES.1.min(inner.options.segment_bytes));
            let mut state = shared.lock();
            match made {
                Ok(space) if state.wants_next => (state.next, state.wants_next) = (Some(space), false),
                Ok(_) => {}
                Err(error) => {
                    state.wants_next = false;
                    drop(state);
                    inner
                        .options
                        .log
                        .write(LogLevel::Warning, "log", || format!("preparing the next segment failed: {error}"));
                }
            }
        }
        Job::ExpireFences => {
            inner.expire_fences();
            let deadline = inner.fence_deadline();
            let mut state = shared.lock();
            // A fence begun meanwhile has set its own.
            state.fence_deadline = [state.fence_deadline, deadline].into_iter().flatten().min();
        }
        Job::Seal(segment) => {
            let _done = Sealing(shared);
            seal(inner, &segment);
        }
    }
}

/// Makes a segment that was left durable, then writes its index.
fn seal(inner: &Inner, segment: &Segment) {
    let end = segment.open_index().map_or(segment.base, |index| segment.base + u64::from(index.count()));
    let durable = inner.settle_before_seal(end).and_then(|()| inner.commit_sealed(end));
    // A whole index says that another segment follows: the name of that one is to be durable first, even if no event needs it yet.
    let named = durable.and_then(|()| inner.library.sync_directory().inspect_err(|error| inner.latch.trip(error)));
    let sealed = named.and_then(|()| segment.seal(&inner.library));
    inner.segments_version.fetch_add(1, Ordering::Release);
    if let Err(error) = sealed {
        inner.options.log.write(LogLevel::Error, "index", || {
            format!("sealing segment {} failed, its index stays in memory: {error}", segment.base)
        });
    }
}

const _: () = assert!(AHEAD_BYTES.0 > SEGMENT_HEADER_BYTES as u64);
