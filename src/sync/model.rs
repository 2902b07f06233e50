//! The room under a scheduler: shuttle's primitives, and what it has not.
//!
//! Time passes only when a wait times out. Whether it ever does is the scenario's choice ([`set_patience`]): with none a wait that is
//! not woken never ends, which the scheduler reports as a deadlock; with some, it times out after so many steps of the others at most,
//! unless it was woken.

use std::cell::Cell;
use std::sync::{Arc, LockResult, PoisonError, atomic as real};
use std::time::Duration;

pub use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

pub use shuttle::thread_local;

// ---- time --------------------------------------------------------------------------------------------------------

std::thread_local! {
    /// Nanoseconds since the scenario began. All threads of an execution run on one of the system's.
    static CLOCK: Cell<u64> = const { Cell::new(0) };
    /// The most steps that a wait with a timeout waits; none: it never times out.
    static PATIENCE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Begins a scenario: sets the clock back, and says how many steps of others a timeout may be.
#[cfg(test)]
pub fn set_patience(steps: Option<u64>) {
    CLOCK.set(0);
    PATIENCE.set(steps);
}

/// A moment of the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// Now.
    pub fn now() -> Instant {
        Instant(CLOCK.get())
    }

    /// As the standard library's.
    pub fn checked_add(&self, duration: Duration) -> Option<Instant> {
        self.0.checked_add(u64::try_from(duration.as_nanos()).ok()?).map(Instant)
    }

    /// As the standard library's.
    pub fn saturating_duration_since(&self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// As the standard library's.
    pub fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(*self)
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        self.checked_add(duration).expect("a moment that the clock can count")
    }
}

impl std::ops::Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

// ---- conditions --------------------------------------------------------------------------------------------------

/// A condition whose waits time out as the scenario has it.
#[derive(Debug, Default)]
pub struct Condvar {
    inner: Arc<shuttle::sync::Condvar>,
}

impl Condvar {
    /// One that nobody waits for.
    pub fn new() -> Condvar {
        Condvar::default()
    }

    /// As the standard library's.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.inner.wait(guard)
    }

    /// As the standard library's; whether it timed out is for the clock to say.
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        duration: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, ())> {
        let timer = PATIENCE.get().map(|steps| Timer::start(&self.inner, duration, steps));
        let waited = self.inner.wait(guard);
        drop(timer);
        match waited {
            Ok(guard) => Ok((guard, ())),
            Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), ()))),
        }
    }

    /// As the standard library's.
    pub fn notify_one(&self) {
        self.inner.notify_one();
    }

    /// As the standard library's.
    pub fn notify_all(&self) {
        self.inner.notify_all();
    }
}

/// Lets the time of one wait pass, on a thread of its own. Whoever else waits for the condition is woken too, for nothing, as may be.
struct Timer(Arc<real::AtomicBool>);

impl Timer {
    fn start(condition: &Arc<shuttle::sync::Condvar>, duration: Duration, steps: u64) -> Timer {
        use shuttle::rand::Rng;
        let (is_over, condition) = (Arc::new(real::AtomicBool::new(false)), condition.clone());
        let (of_thread, until) = (is_over.clone(), Instant::now().checked_add(duration));
        let steps = shuttle::rand::thread_rng().gen_range(0..=steps);
        shuttle::thread::spawn(move || {
            for _ in 0..steps {
                shuttle::thread::yield_now();
                if of_thread.load(real::Ordering::SeqCst) {
                    return;
                }
            }
            if let Some(Instant(until)) = until {
                CLOCK.set(CLOCK.get().max(until));
                // It may be about to wait.
                while !of_thread.load(real::Ordering::SeqCst) {
                    condition.notify_all();
                    shuttle::thread::yield_now();
                }
            }
        });
        Timer(is_over)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.store(true, real::Ordering::SeqCst);
    }
}

// ---- values set once ---------------------------------------------------------------------------------------------

/// A value that is set once. Setting and looking are steps.
#[derive(Debug)]
pub struct OnceLock<T> {
    turn: Mutex<()>,
    is_set: atomic::AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> OnceLock<T> {
    /// One that is not set.
    pub fn new() -> OnceLock<T> {
        OnceLock { turn: Mutex::new(()), is_set: atomic::AtomicBool::new(false), value: std::sync::OnceLock::new() }
    }

    /// The value, if it is set.
    pub fn get(&self) -> Option<&T> {
        if self.is_set.load(atomic::Ordering::Acquire) { self.value.get() } else { None }
    }

    /// Sets it, unless it is.
    pub fn set(&self, value: T) -> Result<(), T> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.value.set(value)?;
        self.is_set.store(true, atomic::Ordering::Release);
        Ok(())
    }

    /// The value, made now if there is none.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.value.get().is_none() {
            let _ = self.value.set(make());
            self.is_set.store(true, atomic::Ordering::Release);
        }
        self.value.get().expect("set above")
    }
}

// ---- threads -----------------------------------------------------------------------------------------------------

/// Threads, with a handle that can be asked whether its thread has ended.
pub mod thread {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Names and starts a thread.
    #[derive(Debug)]
    pub struct Builder(shuttle::thread::Builder);

    impl Builder {
        /// As the standard library's.
        #[expect(clippy::new_without_default, reason = "as the standard library's")]
        pub fn new() -> Builder {
            Builder(shuttle::thread::Builder::new())
        }

        /// As the standard library's.
        pub fn name(self, name: String) -> Builder {
            Builder(self.0.name(name))
        }

        /// As the standard library's.
        pub fn spawn<T: Send + 'static>(self, run: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
            let is_finished = Arc::new(AtomicBool::new(false));
            let finished = Finished(is_finished.clone());
            let inner = self.0.spawn(move || {
                let _finished = finished;
                run()
            })?;
            Ok(JoinHandle { inner, is_finished })
        }
    }

    struct Finished(Arc<AtomicBool>);

    impl Drop for Finished {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// A thread that was started.
    #[derive(Debug)]
    pub struct JoinHandle<T> {
        inner: shuttle::thread::JoinHandle<T>,
        is_finished: Arc<AtomicBool>,
    }

    impl<T> JoinHandle<T> {
        /// As the standard library's.
        pub fn join(self) -> std::thread::Result<T> {
            self.inner.join()
        }

        /// As the standard library's.
        pub fn is_finished(&self) -> bool {
            self.is_finished.load(Ordering::SeqCst)
        }
    }
}
