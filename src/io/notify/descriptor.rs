//! What the operating system keeps of an [`EventFd`](super::EventFd).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use crate::error::{Error, Result};
#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::io::os::above_standard;

#[derive(Debug)]
pub struct Descriptor {
    reader: OwnedFd,
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    writer: OwnedFd,
}

impl Descriptor {
    /// A descriptor that is not readable yet.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub fn new() -> Result<Descriptor> {
        // SAFETY: `eventfd` takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(creation_error());
        }
        // SAFETY: `fd` was opened just now, and nobody else has its number.
        let reader = above_standard(unsafe { OwnedFd::from_raw_fd(fd) }).map_err(|_| creation_error())?;
        Ok(Descriptor { reader })
    }

    /// A descriptor that is not readable yet.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub fn new() -> Result<Descriptor> {
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
        Ok(Descriptor { reader, writer })
    }

    pub fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// A full counter or pipe (EAGAIN) is readable, which is all that is wanted.
    pub fn write_one(&self) {
        let one = 1u64.to_ne_bytes();
        loop {
            // SAFETY: `one` is readable for its whole length, and the descriptor is open as long as `self`.
            let count = unsafe { libc::write(self.writer_fd(), one.as_ptr().cast(), one.len()) };
            if count >= 0 || !was_interrupted() {
                return;
            }
        }
    }

    /// Takes everything that was written.
    pub fn drain(&self) {
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
