//! Reading without a cursor: one event by sequence or id, the head of an entity.

use crate::error::Result;
use crate::event::{EventBatch, EventId, check_coordinate};
use crate::index::StreamHead;
use crate::index::memory::Heads;
use crate::sync::atomic::Ordering;

use super::{Inner, Store, scan};

#[cfg(test)]
mod tests;

/// How far an entity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityHead {
    /// Clock of its last event.
    pub clock: u64,
    /// Sequence of its last event.
    pub last_sequence: u64,
}

impl EntityHead {
    /// `None`: the entity has no event.
    fn of(head: StreamHead) -> Option<EntityHead> {
        let clock = head.next_clock.checked_sub(1)?;
        Some(EntityHead { clock, last_sequence: head.last_sequence })
    }
}

impl Store {
    /// The visible event at `sequence`, as a batch of one; `None` when there is none.
    pub fn get(&self, sequence: u64) -> Result<Option<EventBatch>> {
        self.inner.check_usable()?;
        let first = self.inner.first_sequence();
        let visible = self.inner.marks.visible.load(Ordering::Acquire);
        if (first..visible).contains(&sequence) { scan::read_batch(&self.inner, sequence) } else { Ok(None) }
    }

    /// The visible event with this id, as a batch of one; `None` when there is none. An id says where its event would be, so
    /// this costs what [`Store::get`] costs.
    pub fn get_by_id(&self, id: EventId) -> Result<Option<EventBatch>> {
        self.inner.check_usable()?;
        if id.tag() != self.inner.tag || !id.is_well_formed() {
            return Ok(None);
        }
        let found = self.get(id.sequence())?;
        Ok(found.filter(|batch| batch.events().first().is_some_and(|event| event.id == id.0)))
    }

    /// The first sequence that the log still has; the visible mark when it has none.
    pub fn first_sequence(&self) -> Result<u64> {
        self.inner.check_usable()?;
        Ok(self.inner.first_sequence())
    }

    /// How far an entity is as of now, in what was appended, visible or not: what an append's expected state is compared
    /// with; but what an open fence has appended does not count. `None` when it has no event.
    pub fn entity_head(&self, entity: &[u8]) -> Result<Option<EntityHead>> {
        self.inner.check_usable()?;
        check_coordinate("entity", entity)?;
        let hash = self.inner.name_hash(entity);
        let head = match self.inner.head_in_memory(hash, entity) {
            Some(head) => head,
            None => self.inner.head_in_segments(hash, entity)?,
        };
        // A close meanwhile takes what memory knows away.
        self.inner.check_usable()?;
        Ok(EntityHead::of(head))
    }
}

impl Inner {
    fn first_sequence(&self) -> u64 {
        self.segments()[0].base
    }

    /// The head of an entity that the writer has at hand. Under the append lock, so that clock and sequence are of one event and
    /// no batch is seen half.
    fn head_in_memory(&self, hash: u64, entity: &[u8]) -> Option<StreamHead> {
        let guard = self.lock_appender();
        let appender = guard.as_ref()?;
        let find = |heads: &Heads| heads.find(hash, entity).and_then(|stream| heads.known_head(stream));
        let before_its_fence = appender.fences.head_before(entity);
        before_its_fence
            .or_else(|| find(appender.index.heads()))
            .or_else(|| appender.previous_heads.as_ref().and_then(|heads| find(heads)))
    }

    /// The head of an entity that memory does not have. With no lock: an event that is appended meanwhile may be missed, and is
    /// then one of after the call began.
    fn head_in_segments(&self, hash: u64, entity: &[u8]) -> Result<StreamHead> {
        let segments = self.segments();
        if self.options.read_only {
            // Nobody appends to the newest segment, so it is one among the others.
            if let Some(head) =
                segments[segments.len() - 1].with_index(&self.library, u64::MAX, |index| index.head(hash, entity))?
            {
                return Ok(head);
            }
        }
        self.find_head(hash, entity)
    }
}
