//! What a worker's handler is given, and what it answers.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::{EventBatch, EventId};
use crate::store::Store;

use super::gap::GapList;

/// Consumes the batches of one worker, on the worker's thread, with no lock held. It may call everything but the close of
/// its store and the join of its own worker.
pub trait Handler: Send {
    /// One batch. A panic counts as [`Outcome::Fail`].
    fn handle(&mut self, delivery: &Delivery<'_>) -> Outcome;
}

impl<F> Handler for F
where
    F: FnMut(&Delivery<'_>) -> Outcome + Send,
{
    fn handle(&mut self, delivery: &Delivery<'_>) -> Outcome {
        self(delivery)
    }
}

/// What becomes of a batch. An empty message stands for the one given to [`Delivery::set_error`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done: it is committed, and the next one comes.
    Continue,
    /// Done: it is committed, and the worker ends.
    Stop,
    /// Not done: nothing of it is committed, and the worker ends.
    StopWithRollback,
    /// Not now: it comes again after a backoff. Too many in a row count as a failure.
    Retry {
        /// Why.
        message: String,
    },
    /// Not done: it counts against the restart policy, and delivery starts again after the last commit.
    Fail {
        /// Why.
        message: String,
    },
}

/// One batch in the hands of a handler.
#[derive(Debug)]
pub struct Delivery<'a> {
    store: &'a Store,
    checkpoint_id: Option<&'a str>,
    batch: &'a Arc<EventBatch>,
    attempt: u32,
    gaps: GapList,
    done: Cell<usize>,
    error: RefCell<String>,
}

/// Sets this use of the hash apart from every other.
const KEY_CONTEXT: &str = "libbatpak delivery idempotency key v1";

impl<'a> Delivery<'a> {
    pub(crate) fn new(
        store: &'a Store,
        checkpoint_id: Option<&'a str>,
        batch: &'a Arc<EventBatch>,
        attempt: u32,
    ) -> Delivery<'a> {
        Delivery {
            store,
            checkpoint_id,
            batch,
            attempt,
            gaps: GapList::default(),
            done: Cell::new(0),
            error: RefCell::default(),
        }
    }

    pub(crate) fn with_gaps(self, gaps: GapList) -> Delivery<'a> {
        Delivery { gaps, ..self }
    }

    /// The gaps of this batch; none without [`WorkerOptions::gap_capacity`](super::WorkerOptions::gap_capacity).
    pub fn gaps(&self) -> &GapList {
        &self.gaps
    }

    /// The events; keep the `Arc` to keep them.
    pub fn batch(&self) -> &Arc<EventBatch> {
        self.batch
    }

    /// The store that the events are of.
    pub fn store(&self) -> &Store {
        self.store
    }

    /// The checkpoint id of a durable worker: the witness that what is done here is done at least once, whatever
    /// crashes. None: the worker has no checkpoint.
    pub fn checkpoint_id(&self) -> Option<&str> {
        self.checkpoint_id
    }

    /// How often the batch's first event was handed over in this worker's life, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The first `events` of the batch are done: they are committed even if the outcome is [`Outcome::Retry`],
    /// [`Outcome::Fail`] or a panic, and do not come again. The last call counts.
    pub fn set_done(&self, events: usize) -> Result<()> {
        if events > self.batch.len() {
            return Err(Error::InvalidArgument {
                what: "the number of events done",
                value: format!("{events} of {}", self.batch.len()),
                remedy: "give at most the number of events in the batch",
            });
        }
        self.done.set(events);
        Ok(())
    }

    /// The message of an outcome that brings none of its own. The last call counts.
    pub fn set_error(&self, message: impl Into<String>) {
        *self.error.borrow_mut() = message.into();
    }

    /// A key for the `output_number`-th thing that the handler appends because of `event`: the same at each redelivery
    /// and in each life of the process, so that the append happens once.
    ///
    /// It is BLAKE3 in key derivation mode with the context `libbatpak delivery idempotency key v1`, over the text
    /// `{checkpoint id}/{event id as UUID}/{output number in decimal}`. A worker without a checkpoint has none.
    pub fn idempotency_key(&self, event: EventId, output_number: u32) -> Result<[u8; 32]> {
        let checkpoint_id = self.checkpoint_id.ok_or(Error::NoCheckpoint)?;
        Ok(blake3::derive_key(KEY_CONTEXT, format!("{checkpoint_id}/{event}/{output_number}").as_bytes()))
    }

    pub(crate) fn done(&self) -> usize {
        self.done.get()
    }

    pub(crate) fn take_error(&self) -> String {
        self.error.take()
    }
}
