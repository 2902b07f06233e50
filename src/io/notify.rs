//! A descriptor that an event loop can wait on: readable from [`EventFd::signal`] until [`EventFd::clear`].
//!
//! `raised` saves the system call of a signal to a descriptor that is readable already. No wake-up is lost, because
//! `clear` first drains the descriptor and only then lowers `raised`: every drained signal is followed by a lowering, so
//! `raised` never stays up over a descriptor that is not readable. A signal skipped in between is seen by the caller,
//! who looks for work after clearing. The price is a rare spurious wake-up.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::os::above_standard;
use crate::error::{Error, Result};

/// A non-blocking, close-on-exec notification descriptor (an eventfd on Linux, a pipe elsewhere).
#[derive(Debug)]
pub struct EventFd {
    reader: OwnedFd,
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    writer: OwnedFd,
    raised: AtomicBool,
}

impl EventFd {
    /// A descriptor that is not readable yet.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub fn new() -> Result<EventFd> {
        // SAFETY: `eventfd` takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(creation_error());
        }
        // SAFETY: `fd` was opened just now, and nobody else has its number.
        let reader = above_standard(unsafe { OwnedFd::from_raw_fd(fd) }).map_err(|_| creation_error())?;
        Ok(EventFd { reader, raised: AtomicBool::new(false) })
    }

    /// A descriptor that is not readable yet.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub fn new() -> Result<EventFd> {
        let mut fds = [-1; 2];
        // SAFETY: `fds` has room for the two descriptors that `pipe` writes.
        if unsafe { libc::pipe(fds.as_mut_ptr()) } < 0 {
            return Err(creation_error());
        }
        // SAFETY: both were opened just now, and nobody else has their numbers.
        let (reader, writer) = unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
        for fd in fds {
            // SAFETY: `fcntl` with these commands takes no pointers, and `fd` is ours.
            let failed = unsafe {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) < 0
                    || libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) < 0
            };
            if failed {
                return Err(creation_error());
            }
        }
        Ok(EventFd { reader, writer, raised: AtomicBool::new(false) })
    }

    /// The descriptor to wait on for reading. It stays ours: callers neither read nor close it.
    pub fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Makes the descriptor readable. Cheap when it is already. What the woken side shall find must be published before.
    #[inline]
    pub fn signal(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.write_one();
        }
    }

    /// Makes the descriptor unreadable. Look for work after this, not before, or a wake-up is lost.
    pub fn clear(&self) {
        self.drain();
        self.raised.swap(false, Ordering::AcqRel);
    }

    /// A full counter or pipe (EAGAIN) is readable, which is all that is wanted.
    fn write_one(&self) {
        let one = 1u64.to_ne_bytes();
        loop {
            // SAFETY: `one` is readable for its whole length, and the descriptor is open as long as `self`.
            let count = unsafe { libc::write(self.writer_fd(), one.as_ptr().cast(), one.len()) };
            if count >= 0 || !was_interrupted() {
                return;
            }
        }
    }

    fn drain(&self) {
        let mut buffer = [0u8; 8];
        loop {
            // SAFETY: `buffer` is writable for its whole length, and the descriptor is open as long as `self`.
            let count = unsafe { libc::read(self.reader.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
            let drained = if cfg!(any(target_os = "linux", target_os = "android")) { count >= 0 } else { count == 0 };
            if drained || (count < 0 && !was_interrupted()) {
                return;
            }
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn writer_fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn writer_fd(&self) -> RawFd {
        self.writer.as_raw_fd()
    }
}

fn was_interrupted() -> bool {
    io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
}

#[cold]
fn creation_error() -> Error {
    Error::io("creating", Path::new("notification descriptor"), &io::Error::last_os_error())
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
