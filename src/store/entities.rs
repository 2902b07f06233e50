//! Which entities there are.
//!
//! Each segment's index lists its entities in order, a few at a time; what is listed is the merge of these lists, with what the
//! newest segment says of an entity. So a page costs what it holds, times the segments, and a search in each; nothing is
//! held of what is not on the page.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::check_coordinate;
use crate::event::coordinate::RESERVED_ENTITY;
use crate::index::listing::{Entities, Entity, NameRange};
use crate::index::memory::MemoryIndex;
use crate::sync::atomic::Ordering;

use super::segments::{Index, Segment};
use super::{Inner, Store};

#[cfg(test)]
mod tests;

/// Entities that a segment lists at once: few at first.
const AT_ONCE: (usize, usize) = (8, 128);

/// One segment's part in a list.
struct Source<'a> {
    inner: &'a Inner,
    segment: &'a Arc<Segment>,
    /// The next segment's base.
    end: u64,
    visible: u64,
    /// What is still to be asked for; `None` for nothing.
    range: Option<NameRange>,
    at_once: usize,
    /// What was listed, from `next` on not taken yet.
    listed: Entities,
    next: usize,
}

impl Store {
    /// The first entities that have a visible event, in the order of their bytes: those that `prefix` matches as in a region (the
    /// entity itself and those that go on from it with `:`), all but the library's own for an empty one. `after`, when it is
    /// not empty, is left out with all before it: the last one of the page before. At most `most`; fewer are all.
    pub fn entities(&self, prefix: &[u8], after: &[u8], most: usize) -> Result<Entities> {
        let inner = &*self.inner;
        inner.check_usable()?;
        if most == 0 {
            return Err(Error::InvalidArgument {
                what: "the bound on the entities of a page",
                value: "0".to_owned(),
                remedy: "give at least 1",
            });
        }
        if !prefix.is_empty() {
            check_coordinate("entity", prefix)?;
        }
        let visible = inner.marks.visible.load(Ordering::Acquire);
        let segments = inner.segments();
        let mut page = Entities::default();
        for range in ranges(prefix, after) {
            let mut sources: Vec<Source<'_>> = (0..segments.len())
                .rev()
                .filter(|&at| segments[at].base < visible)
                .map(|at| Source {
                    inner,
                    segment: &segments[at],
                    end: segments.get(at + 1).map_or(u64::MAX, |next| next.base),
                    visible,
                    range: Some(range.clone()),
                    at_once: AT_ONCE.0,
                    listed: Entities::default(),
                    next: 0,
                })
                .collect();
            merge(&mut sources, most, &mut page)?;
        }
        Ok(page)
    }
}

/// What the prefix matches and lies behind `after`, in order.
fn ranges(prefix: &[u8], after: &[u8]) -> Vec<NameRange> {
    let with = |name: &[u8], end: u8| [name, &[end]].concat();
    let range = |from: Vec<u8>, to: Option<Vec<u8>>| NameRange { from, to };
    let ranges = match prefix {
        b"" => {
            let reserved = RESERVED_ENTITY.as_bytes();
            vec![
                range(Vec::new(), Some(reserved.to_vec())),
                range(with(reserved, 0), Some(with(reserved, b':'))),
                range(with(reserved, b':' + 1), None),
            ]
        }
        _ => {
            vec![range(prefix.to_vec(), Some(with(prefix, 0))), range(with(prefix, b':'), Some(with(prefix, b':' + 1)))]
        }
    };
    match after {
        b"" => ranges,
        _ => ranges.iter().filter_map(|range| range.after(after)).collect(),
    }
}

/// Adds to the page what the sources have, up to `most`. The newest source comes first.
fn merge(sources: &mut [Source<'_>], most: usize, page: &mut Entities) -> Result<()> {
    while page.len() < most {
        for source in &mut *sources {
            source.fill()?;
        }
        // Of equal names the first one is taken: the newest.
        let first = sources.iter().filter_map(Source::peek).min_by_key(|entity| entity.name);
        let Some(entity) = first else { break };
        page.push(entity);
        let taken = page.get(page.len() - 1).map_or(&b""[..], |entity| entity.name);
        for source in &mut *sources {
            if source.peek().is_some_and(|entity| entity.name == taken) {
                source.next += 1;
            }
        }
    }
    Ok(())
}

impl Source<'_> {
    fn peek(&self) -> Option<Entity<'_>> {
        self.listed.get(self.next)
    }

    /// Lists more when all that was listed is taken.
    fn fill(&mut self) -> Result<()> {
        while self.next == self.listed.len() {
            let Some(range) = self.range.take() else { return Ok(()) };
            self.inner.check_usable()?;
            let (most, listed, visible, inner) = (self.at_once, &mut self.listed, self.visible, self.inner);
            let last = self.segment.with_index(&inner.library, self.end, |index| {
                listed.clear();
                match index {
                    // A segment is sealed when all of it is visible.
                    Index::Sealed(index) => index.list(&range, most, listed),
                    Index::Memory(index) => Ok(list_memory(inner, index, &range, most, visible, listed)),
                }
            })?;
            self.next = 0;
            self.range = last.and_then(|last| range.after(&last));
            self.at_once = (most * 2).min(AT_ONCE.1);
        }
        Ok(())
    }
}

/// Lists the entities of an index in memory that have a visible event in it. Returns the name behind which there may be more.
fn list_memory(
    inner: &Inner,
    index: &MemoryIndex,
    range: &NameRange,
    most: usize,
    visible: u64,
    listed: &mut Entities,
) -> Option<Vec<u8>> {
    let mut found = index.list(range, most);
    let heads: Vec<_> = {
        // The clock and the sequence of a head belong together only while nobody appends.
        let _appender = inner.lock_appender();
        found.iter().map(|&(_, stream)| index.heads().known_head(stream)).collect()
    };
    for ((name, stream), head) in found.iter().zip(heads) {
        // What was cancelled left the head unknown, or as it was before this segment.
        if let Some((clock, last_sequence)) = head.and_then(|head| index.last_below(*stream, head, visible)) {
            listed.push(Entity { name, clock, last_sequence });
        }
    }
    if found.len() == most { found.pop().map(|(name, _)| name) } else { None }
}
