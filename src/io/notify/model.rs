//! A descriptor for the models: no system call, and a wait that the scheduler knows of.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::sync::{Arc, PoisonError, Weak};

use crate::error::Result;
use crate::sync::{Condvar, Mutex};

#[derive(Debug, Default)]
struct Counter {
    is_readable: Mutex<bool>,
    changed: Condvar,
}

std::thread_local! {
    /// By number, for who has only that.
    static COUNTERS: RefCell<Vec<Weak<Counter>>> = const { RefCell::new(Vec::new()) };
}

/// The numbers begin where no process has a descriptor.
const FIRST: RawFd = 1 << 30;

#[derive(Debug)]
pub struct Descriptor {
    counter: Arc<Counter>,
    fd: RawFd,
}

impl Descriptor {
    pub fn new() -> Result<Descriptor> {
        let counter = Arc::new(Counter::default());
        let fd = COUNTERS.with_borrow_mut(|counters| {
            counters.push(Arc::downgrade(&counter));
            FIRST + counters.len() as RawFd - 1
        });
        Ok(Descriptor { counter, fd })
    }

    pub fn fd(&self) -> RawFd {
        self.fd
    }

    pub fn write_one(&self) {
        *self.counter.is_readable.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.counter.changed.notify_all();
    }

    pub fn drain(&self) {
        *self.counter.is_readable.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// What `poll(2)` without a timeout is to a host.
#[cfg(test)]
pub fn wait_readable(fd: RawFd) {
    let counter =
        COUNTERS.with_borrow(|counters| counters[(fd - FIRST) as usize].upgrade()).expect("an open descriptor");
    let mut is_readable = counter.is_readable.lock().unwrap_or_else(PoisonError::into_inner);
    while !*is_readable {
        is_readable = counter.changed.wait(is_readable).unwrap_or_else(PoisonError::into_inner);
    }
}
