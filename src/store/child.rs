//! What a store knows of its cursors and workers: enough to close without waiting for any but a running handler.

use std::cell::Cell;
use std::sync::{Arc, Weak};

use crate::sync::{Instant, thread_local};

/// A cursor or a worker of a store.
pub(crate) trait Child: Send + Sync {
    /// Asks a worker to end. No waiting.
    fn stop(&self);
    /// Waits until no handler runs any more. A cursor answers at once.
    fn wait_idle(&self, deadline: Option<Instant>) -> bool;
    /// The last chance to persist while the log can still be synced. Must not block.
    fn at_close(&self);
    /// The store is closed: give up what excludes others.
    fn release(&self);
    /// It was not closed, or has not ended.
    fn is_live(&self) -> bool;
    /// Cursor or worker.
    fn kind(&self) -> ChildKind;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChildKind {
    Cursor,
    Worker,
}

/// The cursors and workers of a store.
#[derive(Default)]
pub(super) struct Children {
    known: Vec<Weak<dyn Child>>,
    /// A close has ended them and goes on: no more come.
    is_ended: bool,
}

impl Children {
    /// `false`: too late.
    pub fn add(&mut self, child: Weak<dyn Child>) -> bool {
        if !self.is_ended {
            self.known.retain(|child| child.strong_count() > 0);
            self.known.push(child);
        }
        !self.is_ended
    }

    pub fn all(&self) -> Vec<Arc<dyn Child>> {
        self.known.iter().filter_map(Weak::upgrade).collect()
    }

    /// No more come after this, unless a worker has come after the others were waited for: then that one is to be waited for too.
    /// Gives all there are, to be let go of without the lock.
    pub fn end(&mut self) -> Vec<Arc<dyn Child>> {
        let all = self.all();
        self.is_ended = !all.iter().any(|child| child.kind() == ChildKind::Worker && child.is_live());
        all
    }

    pub fn is_ended(&self) -> bool {
        self.is_ended
    }
}

thread_local! {
    /// The store whose handler this thread is running, by address; 0 for none.
    static HANDLER_OF: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, this thread runs a handler of a store: calls that would wait for the handler are refused.
#[derive(Debug)]
pub(crate) struct HandlerScope {
    outer: usize,
}

impl HandlerScope {
    pub fn enter(store: usize) -> HandlerScope {
        HandlerScope { outer: HANDLER_OF.with(|of| of.replace(store)) }
    }

    pub fn is_within(store: usize) -> bool {
        HANDLER_OF.with(Cell::get) == store
    }
}

impl Drop for HandlerScope {
    fn drop(&mut self) {
        HANDLER_OF.with(|of| of.set(self.outer));
    }
}
