//! Group commit: one write and one fdatasync for everything appended since the last, by whoever comes first.
//!
//! A lone writer writes and syncs at once. Writers that come while a sync is under way find their bytes in the buffer; the first of
//! them to wake writes and syncs for all. `syncing` is set while one thread is at it; durable moves only here, after the syncs that
//! cover it, oldest segment first. Visible follows it: who was told that an event is durable sees it, so nobody is told by a mark
//! that the leader is in the midst of moving.

use std::sync::PoisonError;

use crate::error::{Error, Result};
use crate::io::File;
use crate::sync::atomic::Ordering;
use crate::sync::{Condvar, Instant, Mutex};

use super::Inner;
use super::append::Mark;
use super::watermark::Waited;

#[derive(Debug, Default)]
pub(crate) struct GroupCommit {
    /// While one thread syncs: durable and its ticket as it found them.
    syncing: Mutex<Option<(u64, u64)>>,
    done: Condvar,
}

/// The one thread that syncs. Dropping it, also in a panic, lets the next one.
struct Leader<'a>(&'a GroupCommit);

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        *self.0.syncing.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.done.notify_all();
    }
}

/// How far one sync goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Everything appended.
    All,
    /// Only the segments that are left: what a sealed segment needs, without syncing the active one's bytes.
    Sealed,
}

impl Inner {
    /// Returns once every sequence below `bound` is durable.
    pub(super) fn commit(&self, bound: u64) -> Result<()> {
        self.commit_to(bound, 0, Extent::All, None).map(|_| ())
    }

    /// As [`Inner::commit`], and once the frames counted by `ticket` are durable.
    pub(super) fn commit_ticket(&self, bound: u64, ticket: u64) -> Result<()> {
        self.commit_to(bound, ticket, Extent::All, None).map(|_| ())
    }

    /// As [`Inner::commit`], and once the commits of fences that have events below `bound` are durable too.
    pub(super) fn commit_decided(&self, bound: u64) -> Result<()> {
        self.commit_ticket(bound, self.ticket_below(bound))
    }

    /// What a call would wait for that is to make everything below `bound` survive is durable.
    pub(super) fn is_durable(&self, bound: u64) -> bool {
        let marks = &self.marks;
        marks.durable.load(Ordering::Acquire) >= bound
            && marks.ticket.load(Ordering::Acquire) >= self.ticket_below(bound)
    }

    /// The ticket that covers the commits of fences with events below `bound`.
    fn ticket_below(&self, bound: u64) -> u64 {
        match bound <= self.marks.seal_floor.load(Ordering::Acquire) {
            true => 0,
            false => self.lock_appender().as_ref().map_or(0, |appender| appender.ticket),
        }
    }

    /// Makes the segments that were left durable, up to `bound`.
    pub(super) fn commit_sealed(&self, bound: u64) -> Result<()> {
        self.commit_to(bound, 0, Extent::Sealed, None).map(|_| ())
    }

    /// As [`Inner::commit_decided`], but waits for another thread's sync no longer than until `deadline`. Its own it sees through.
    pub(super) fn commit_until(&self, bound: u64, deadline: Option<Instant>) -> Result<Waited> {
        self.commit_to(bound, self.ticket_below(bound), Extent::All, deadline)
    }

    fn commit_to(&self, bound: u64, ticket: u64, extent: Extent, deadline: Option<Instant>) -> Result<Waited> {
        let mut syncing = self.group.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let marks = &self.marks;
            let found = || (marks.durable.load(Ordering::Acquire), marks.ticket.load(Ordering::Acquire));
            let (durable, settled) = syncing.unwrap_or_else(found);
            if durable >= bound && settled >= ticket {
                return Ok(Waited::Reached);
            }
            self.latch.check()?;
            if syncing.is_some() {
                let Some(deadline) = deadline else {
                    syncing = self.group.done.wait(syncing).unwrap_or_else(PoisonError::into_inner);
                    continue;
                };
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(Waited::TimedOut);
                }
                syncing = self.group.done.wait_timeout(syncing, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            *syncing = Some((durable, settled));
            drop(syncing);
            let leader = Leader(&self.group);
            let result = self.sync_once(extent);
            drop(leader);
            result?;
            // With the leadership given up: a host's wake function may wait for another thread's commit.
            self.signals.publish_durable();
            syncing = self.group.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes what is buffered and syncs what is not durable. One thread at a time.
    fn sync_once(&self, extent: Extent) -> Result<()> {
        let (older, directory, active, mark, bound, ticket) = {
            let mut guard = self.lock_appender();
            let Some(appender) = guard.as_mut() else { return Err(Error::Closed { what: "store" }) };
            if extent == Extent::All {
                appender.tail.flush(false)?;
            }
            let older: Vec<_> = appender.unsynced.iter().map(|(file, _)| file.clone()).collect();
            let directory = std::mem::take(&mut appender.directory_unsynced);
            let active = (extent == Extent::All).then(|| appender.tail.space().file().clone());
            let (bound, offset) = match extent {
                Extent::All => (appender.next_sequence, appender.tail.offset()),
                Extent::Sealed => (appender.tail.base(), 0),
            };
            let mark = Mark { durable_sequence: bound, segment_base: appender.tail.base(), offset };
            let ticket = if extent == Extent::All { appender.ticket } else { 0 };
            (older, directory, active, mark, bound, ticket)
        };
        for file in &older {
            file.sync_data()?;
        }
        if let Some(file) = active {
            file.sync_data()?;
        }
        if directory {
            self.library.sync_directory().inspect_err(|error| self.latch.trip(error))?;
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        {
            let mut guard = self.lock_appender();
            if let Some(appender) = guard.as_mut() {
                appender.unsynced.drain(..older.len());
                appender.mark = Some(mark);
                while appender.pending.front().is_some_and(|range| range.1 <= bound) {
                    appender.pending.pop_front();
                }
                if let Some(first) = appender.pending.front_mut() {
                    first.0 = first.0.max(bound);
                }
                // Not `next_sequence`: an append whose write failed has moved that one.
                let appended = self.marks.appended.load(Ordering::Acquire);
                self.marks.durable.fetch_max(bound, Ordering::AcqRel);
                if self.marks.ticket.fetch_max(ticket, Ordering::AcqRel) < ticket {
                    appender.fences.settle(ticket);
                    self.fences_changed(appender);
                }
                let visible = appender.visible_bound(appended);
                // Beyond what was written here may be events of a fence that was cancelled meanwhile, in the buffer still: readers pass over
                // them where they stand in the file. A failure poisons the store, and nothing more is shown.
                if visible <= bound || appender.tail.flush(self.mapped.load(Ordering::Relaxed)).is_ok() {
                    self.marks.visible.fetch_max(visible, Ordering::AcqRel);
                }
            }
        }
        Ok(())
    }
}
