//! What a store knows of its cursors and workers: enough to close without waiting for any but a running handler.

use std::cell::Cell;

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
