//! Threads, of the host and of ours: what tells them apart, and what keeps them from being cancelled.
//!
//! Most of what the operating system is asked for here is a cancellation point. A thread that is cancelled (`pthread_cancel`) while it is in a
//! call of ours would be unwound from there through our frames, which ends the process, for locks are held in them. So cancelling waits
//! until the call is over.

use crate::sync::thread_local;

thread_local! {
    // Without a destructor: it is there as long as the thread, also in the destructors of others and in atexit functions.
    static THREAD: u8 = const { 0 };
}

/// A number that no other living thread has, and not 0.
pub fn current() -> usize {
    THREAD.with(|thread| std::ptr::from_ref(thread).addr())
}

/// No thread of ours is ever cancelled.
pub fn never_cancel() {
    std::mem::forget(Uncancelled::enter());
}

pub use imp::Uncancelled;

#[cfg(not(target_os = "android"))]
mod imp {
    use std::ffi::c_int;

    #[cfg(target_vendor = "apple")]
    const DISABLE: c_int = 0;
    #[cfg(not(target_vendor = "apple"))]
    const DISABLE: c_int = 1;

    unsafe extern "C" {
        fn pthread_setcancelstate(state: c_int, former: *mut c_int) -> c_int;
    }

    /// While it lives, this thread is not cancelled.
    pub struct Uncancelled {
        former: c_int,
    }

    impl Uncancelled {
        /// Until it is dropped; scopes may be nested.
        #[inline]
        pub fn enter() -> Uncancelled {
            let mut former = DISABLE;
            // SAFETY: it writes `former`, and fails for no valid state.
            unsafe { pthread_setcancelstate(DISABLE, &mut former) };
            Uncancelled { former }
        }
    }

    impl Drop for Uncancelled {
        #[inline]
        fn drop(&mut self) {
            let mut ours = DISABLE;
            // SAFETY: as in `enter`; the state is one that this thread had.
            unsafe { pthread_setcancelstate(self.former, &mut ours) };
        }
    }
}

/// Where threads cannot be cancelled.
#[cfg(target_os = "android")]
mod imp {
    /// Nothing to prevent.
    pub struct Uncancelled;

    impl Uncancelled {
        /// Does nothing.
        pub fn enter() -> Uncancelled {
            Uncancelled
        }
    }
}
