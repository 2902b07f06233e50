//! The store's one background thread: prepares space ahead, prepares the next segment's file, seals segments that were left.
//!
//! It starts at the first append that could use it. Nothing depends on it but speed: whatever it has not done yet is done by
//! the append that needs it, and its failures are reported to the log function (a failed sync, as everywhere, poisons the store).
//! Without it (`helper_thread: false`) sealing happens in the append that left the segment.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::log::tail::Space;

use super::Inner;
use super::append::Appender;
use super::commit::Extent;
use super::options::LogLevel;
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
    seals: VecDeque<Arc<Segment>>,
    sealing: bool,
    stopped: bool,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    done: Condvar,
    waiting: AtomicU64,
}

/// The appender's side of the thread.
#[derive(Debug)]
pub(crate) struct Helper {
    shared: Arc<Shared>,
    enabled: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Job {
    Prepare(Arc<Space>, u64),
    Next,
    Seal(Arc<Segment>),
    Stop,
}

impl Helper {
    pub fn new(enabled: bool) -> Helper {
        Helper { shared: Arc::default(), enabled }
    }

    /// Asks for space when what is prepared runs low. Called under the append lock; cheap when there is nothing to ask.
    #[inline]
    pub fn look_ahead(&self, inner: &Inner, appender: &Appender) {
        let (offset, space) = (appender.tail.offset(), appender.tail.space());
        let ahead = offset.clamp(AHEAD_BYTES.0, AHEAD_BYTES.1);
        if self.enabled && space.prepared() < (offset + ahead / 2).min(space.limit()) {
            self.ask(inner, space, (offset + ahead).min(space.limit()), offset > space.limit() / 2);
        }
    }

    #[cold]
    fn ask(&self, inner: &Inner, space: &Arc<Space>, end: u64, wants_next: bool) {
        let mut state = self.shared.lock();
        let asked = state.space.as_ref().is_some_and(|asked| Arc::ptr_eq(asked, space));
        if state.stopped || asked && state.space_end >= end && !wants_next {
            return;
        }
        (state.space, state.space_end) = (Some(space.clone()), end);
        state.wants_next |= wants_next && state.next.is_none();
        self.start(inner, &mut state);
        self.shared.work.notify_one();
    }

    fn start(&self, inner: &Inner, state: &mut State) {
        if state.thread.is_none() && !state.stopped {
            let (shared, weak) = (self.shared.clone(), inner.itself.clone());
            let thread = std::thread::Builder::new().name(String::from("batpak-helper"));
            match thread.spawn(move || run(&shared, &weak)) {
                Ok(thread) => state.thread = Some(thread),
                Err(error) => {
                    inner
                        .options
                        .log
                        .write(LogLevel::Warning, "helper", || format!("the helper thread does not start: {error}"));
                }
            }
        }
    }

    /// A segment was left: its index is to be written. Called under the append lock.
    pub fn seal(&self, segment: Arc<Segment>) {
        let mut state = self.shared.lock();
        state.seals.push_back(segment);
        self.shared.waiting.store(state.seals.len() as u64, Ordering::Release);
        self.shared.work.notify_one();
    }

    /// After an append, with no lock held: seals, when that is the caller's to do, or waits for a thread that is far behind.
    #[inline]
    pub fn throttle(&self, inner: &Inner) {
        let waiting = self.shared.waiting.load(Ordering::Acquire) as usize;
        if waiting > 0 && !self.enabled || waiting > SEALS_WAITING_MAX {
            self.throttle_slowly(inner);
        }
    }

    #[cold]
    fn throttle_slowly(&self, inner: &Inner) {
        if !self.enabled {
            return self.finish(inner);
        }
        let mut state = self.shared.lock();
        self.start(inner, &mut state);
        while state.seals.len() > SEALS_WAITING_MAX
            && !state.stopped
            && state.thread.is_some()
            && !inner.latch.is_tripped()
        {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
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
                let Some(segment) = state.seals.front().cloned() else { return };
                state.sealing = true;
                segment
            };
            seal(inner, &segment);
            self.shared.sealed();
        }
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
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.work.notify_all();
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

    fn next_job(&self) -> Job {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return Job::Stop;
            }
            if let Some(space) = state.space.take() {
                if space.prepared() < state.space_end {
                    return Job::Prepare(space, state.space_end);
                }
            }
            if state.wants_next && state.next.is_none() {
                return Job::Next;
            }
            if !state.sealing {
                if let Some(segment) = state.seals.front().cloned() {
                    state.sealing = true;
                    return Job::Seal(segment);
                }
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn run(shared: &Shared, inner: &Weak<Inner>) {
    crate::io::os::block_all_signals();
    loop {
        let job = shared.next_job();
        let Some(inner) = inner.upgrade() else { return };
        match job {
            Job::Stop => return,
            Job::Prepare(space, end) => {
                if let Err(error) = space.prepare(end) {
                    inner
                        .options
                        .log
                        .write(LogLevel::Warning, "log", || format!("preparing space ahead failed: {error}"));
                }
            }
            Job::Next => {
                let made = inner.prepare_space(AHEAD_BYTES.1.min(inner.options.segment_bytes));
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
            Job::Seal(segment) => {
                seal(&inner, &segment);
                shared.sealed();
            }
        }
    }
}

/// Makes a segment that was left durable, then writes its index.
fn seal(inner: &Inner, segment: &Segment) {
    let end = segment.open_index().map_or(segment.base, |index| segment.base + u64::from(index.count()));
    let sealed = inner.commit_extent(end, Extent::Sealed).and_then(|()| segment.seal(&inner.library));
    if let Err(error) = sealed {
        inner.options.log.write(LogLevel::Error, "index", || {
            format!("sealing segment {} failed, its index stays in memory: {error}", segment.base)
        });
    }
}

const _: () = assert!(AHEAD_BYTES.0 > SEGMENT_HEADER_BYTES as u64);
