//! A descriptor that an event loop can wait on: readable from [`EventFd::signal`] until [`EventFd::clear`].
//!
//! `raised` saves the system call of a signal to a descriptor that is readable already. No wake-up is lost, because
//! `clear` first drains the descriptor and only then lowers `raised`: every drained signal is followed by a lowering, so
//! `raised` never stays up over a descriptor that is not readable. A signal skipped in between is seen by the caller,
//! who looks for work after clearing. The price is a rare spurious wake-up.

use std::os::fd::RawFd;

use crate::error::Result;
use crate::sync::atomic::{AtomicBool, Ordering};

#[cfg(not(shuttle))]
mod descriptor;
#[cfg(shuttle)]
#[path = "notify/model.rs"]
pub(crate) mod descriptor;

use descriptor::Descriptor;

/// A non-blocking, close-on-exec notification descriptor (an eventfd on Linux, a pipe elsewhere).
#[derive(Debug)]
pub struct EventFd {
    descriptor: Descriptor,
    raised: AtomicBool,
}

impl EventFd {
    /// A descriptor that is not readable yet.
    pub fn new() -> Result<EventFd> {
        Ok(EventFd { descriptor: Descriptor::new()?, raised: AtomicBool::new(false) })
    }

    /// The descriptor to wait on for reading. It stays ours: callers neither read nor close it.
    pub fn fd(&self) -> RawFd {
        self.descriptor.fd()
    }

    /// Makes the descriptor readable. Cheap when it is already. What the woken side shall find must be published before.
    #[inline]
    pub fn signal(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.descriptor.write_one();
        }
    }

    /// Makes the descriptor unreadable. Look for work after this, not before, or a wake-up is lost.
    pub fn clear(&self) {
        self.descriptor.drain();
        self.raised.swap(false, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn is_readable(event: &EventFd, timeout_ms: i32) -> bool {
        let mut poll = libc::pollfd { fd: event.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut poll, 1, timeout_ms) == 1 }
    }

    #[test]
    fn it_is_readable_from_signal_to_clear() {
        let event = EventFd::new().unwrap();
        assert!(!is_readable(&event, 0));
        event.signal();
        event.signal();
        assert!(is_readable(&event, 0));
        event.clear();
        assert!(!is_readable(&event, 0));
        event.clear();
        event.signal();
        assert!(is_readable(&event, 0));
    }

    #[test]
    fn it_neither_blocks_nor_survives_exec() {
        let event = EventFd::new().unwrap();
        // SAFETY: `fcntl` with these commands takes no pointers.
        let (status, flags) =
            unsafe { (libc::fcntl(event.fd(), libc::F_GETFL), libc::fcntl(event.fd(), libc::F_GETFD)) };
        assert_ne!(status & libc::O_NONBLOCK, 0);
        assert_ne!(flags & libc::FD_CLOEXEC, 0);
    }

    /// Guards: lost wake-up. The consumer clears, looks, and waits; with one lost it would wait out the timeout.
    #[test]
    fn no_wake_up_is_lost() {
        const PUBLISHED: u64 = 200_000;
        let event = EventFd::new().unwrap();
        let mark = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..PUBLISHED / 2 {
                        mark.fetch_add(1, Ordering::Release);
                        event.signal();
                    }
                });
            }
            let mut seen = 0;
            while seen < PUBLISHED {
                event.clear();
                let now = mark.load(Ordering::Acquire);
                if now == seen {
                    assert!(is_readable(&event, 10_000), "a wake-up was lost after {seen}");
                }
                seen = now;
            }
        });
    }
}
