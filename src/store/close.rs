//! Closing: workers first, then the log, then the locks. Cursors and batches never hold it up; a running handler does.

use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::format::control::{self, Control};
use crate::io::File;

use super::options::LogLevel;
use super::rotation::NEXT_SEGMENT_NAME;
use super::{ChildKind, Inner, Store};

/// Lets one thread close at a time; the others wait, as long as they want to.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    is_under_way: Mutex<bool>,
    done: Condvar,
}

impl Closing {
    /// `None`: another thread was still at it at the deadline.
    fn enter(&self, deadline: Option<Instant>) -> Option<Turn<'_>> {
        let mut is_under_way = self.is_under_way.lock().unwrap_or_else(PoisonError::into_inner);
        while *is_under_way {
            is_under_way = match deadline {
                None => self.done.wait(is_under_way).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.done.wait_timeout(is_under_way, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        *is_under_way = true;
        Some(Turn(self))
    }
}

struct Turn<'a>(&'a Closing);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.is_under_way.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.done.notify_one();
    }
}

impl Store {
    /// Stops the workers, makes everything durable, writes the index of the active segment and unlocks the directory.
    ///
    /// [`Error::Busy`] when a handler is still running after `timeout`: the store stays open, with its workers
    /// stopping; call again. Any other error: the store is closed, but not everything could be written; the next opening recovers.
    /// Closing a closed store is fine.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        let inner = &self.inner;
        if crate::io::fork::generation() != inner.fork_generation {
            return Err(Error::Forked { what: "store" });
        }
        if self.in_handler() {
            return Err(Error::Reentrant { call: "close", what: "store" });
        }
        let started = Instant::now();
        let deadline = started.checked_add(timeout);
        let turn = inner.closing.enter(deadline);
        if inner.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let children = inner.children();
        children.iter().for_each(|child| child.stop());
        inner.signals.end_waits_of_handlers(true);
        let handlers =
            children.iter().filter(|child| child.kind() == ChildKind::Worker && !child.wait_idle(deadline)).count();
        inner.signals.end_waits_of_handlers(false);
        if handlers > 0 || turn.is_none() {
            return Err(Error::Busy { handlers, waited_ms: started.elapsed().as_millis() as u64 });
        }
        children.iter().for_each(|child| child.at_close());
        let result = if inner.options.read_only { Ok(()) } else { inner.close_log() };
        inner.closed.store(true, Ordering::Release);
        inner.signals.close();
        inner.children().iter().for_each(|child| child.release());
        inner.locks.lock().unwrap_or_else(PoisonError::into_inner).clear();
        result
    }
}

impl Inner {
    /// Ends the log with a CLOSE frame at the file's very end, and leaves the active segment's index beside it.
    fn close_log(&self) -> Result<()> {
        self.helper.stop();
        let (bound, ticket) = match &mut *self.lock_appender() {
            Some(appender) => {
                appender.closed = true;
                self.cancel_all_fences(appender);
                // Where there is no space the log does without: an undecided fence is cancelled with its epoch.
                let first = control::MARK_BYTES as u64 + appender.fences.owed_bytes();
                if appender.fences.owes() && appender.tail.reserve_last(first).is_ok() {
                    self.write_first(appender);
                    appender.ticket += 1;
                }
                (appender.next_sequence, appender.ticket)
            }
            None => return Ok(()),
        };
        // Segments that open fences kept from it.
        self.helper.finish(self);
        let committed = self.commit_ticket(bound, ticket);
        let mut guard = self.lock_appender();
        let Some(appender) = guard.as_mut() else { return Ok(()) };
        let mut index_error = None;
        let result = committed.and_then(|()| self.latch.check()).and_then(|()| {
            if !appender.needs_close {
                return Ok(());
            }
            appender.tail.reserve_last(control::CLOSE_BYTES as u64)?;
            // Alone: were it written again by the next opening, nothing before it would be.
            let frame = Control::Close { epoch: appender.epoch, time_us: appender.last_time_us };
            self.write_indexed(appender, &frame);
            appender.tail.flush(false)?;
            let file = appender.tail.space().file();
            file.set_length(appender.tail.offset())?;
            file.sync_data()?;
            let newest = self.segments();
            if let Some(segment) = newest.last() {
                // Derived: the next opening rebuilds it if this fails.
                index_error = segment.write_partial(&self.library, &appender.index).err();
            }
            self.library.sync_directory()
        });
        let _ = self.storage.remove(&self.library.directory.join(NEXT_SEGMENT_NAME));
        // Let the mappings and the descriptors go.
        drop(guard.take());
        drop(guard);
        drop(self.helper.take_prepared());
        if let Some(error) = index_error {
            self.options
                .log
                .write(LogLevel::Warning, "close", || format!("the active segment's index was not written: {error}"));
        }
        result
    }
}
