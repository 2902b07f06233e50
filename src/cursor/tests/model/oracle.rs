//! What the store must say: a plain vector of everything appended, and what became of it.

use std::collections::HashMap;

use crate::event::{EventId, KindMatch, Region};
use crate::store::{Durability, Expected};

pub(super) const ENTITIES: [&str; 5] = ["a", "a:x", "b", "c", "c:y"];
pub(super) const SCOPES: [&str; 2] = ["s", "t"];
pub(super) const KINDS: [u32; 4] = [0x1000, 0x1001, 0x1002, 0x2001];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Live,
    Hidden(usize),
    Cancelled,
}

/// What was appended, and what it became.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) state: State,
    pub(super) entity: &'static str,
    pub(super) scope: &'static str,
    pub(super) kind: u32,
    /// This byte, so many times.
    pub(super) payload: (u8, usize),
    pub(super) key: Option<Vec<u8>>,
    pub(super) causes: Vec<EventId>,
    pub(super) correlation: EventId,
    pub(super) id: EventId,
    pub(super) time_us: i64,
    pub(super) clock: u64,
    pub(super) prev: u64,
    /// Acknowledged as surviving: power loss, a kill.
    pub(super) durable: bool,
    pub(super) kept: bool,
    /// Causes that are items of its own batch, by their places.
    batch_causes: Vec<usize>,
    /// Nobody heard of its id and time: the process was stopped in the midst of its append.
    pub(super) unheard: bool,
    /// The first event of its batch.
    pub(super) begins: bool,
}

/// An item as drawn, before it is appended.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) entity: &'static str,
    pub(super) scope: &'static str,
    pub(super) kind: u32,
    /// This byte, so many times.
    pub(super) payload: (u8, usize),
    pub(super) key: Option<Vec<u8>>,
    pub(super) causes: Vec<EventId>,
    pub(super) batch_causes: Vec<u32>,
    pub(super) expected: Expected,
}

/// What must become of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    New,
    /// The event that it repeats.
    Old(usize),
    /// The earlier item that it repeats.
    Same(usize),
}

/// A fence whose commit a crash may take back, whole.
#[derive(Debug)]
pub(super) struct SoftFence {
    events: Vec<usize>,
    /// Nobody heard of the commit: a kill may take it back too.
    unheard: bool,
}

/// What a consumer wants, and says so to the store by a region: the rules are written anew here.
#[derive(Debug, Clone, Default)]
pub(super) struct Want {
    pub(super) entity: Option<&'static str>,
    pub(super) prefix: Option<&'static str>,
    pub(super) scope: Option<&'static str>,
    pub(super) kind: Option<u32>,
    pub(super) category: Option<u8>,
    pub(super) clock: Option<(u64, u64)>,
}

impl Want {
    pub(super) fn region(&self) -> Region {
        let mut region = Region::all();
        if let Some(entity) = self.entity {
            region = region.with_entity(entity);
        }
        if let Some(prefix) = self.prefix {
            region = region.with_entity_prefix(prefix);
        }
        if let Some(scope) = self.scope {
            region = region.with_scope(scope);
        }
        if let Some(kind) = self.kind {
            region = region.with_kind(KindMatch::Exact(crate::event::Kind(kind as u16)));
        }
        if let Some(category) = self.category {
            region = region.with_kind(KindMatch::Category(category));
        }
        if let Some((start, end)) = self.clock {
            region = region.with_clock(start, end);
        }
        region
    }

    fn has(&self, entry: &Entry) -> bool {
        let continues = |prefix: &str| entry.entity.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(':'));
        self.entity.is_none_or(|entity| entry.entity == entity)
            && self.prefix.is_none_or(|prefix| entry.entity == prefix || continues(prefix))
            && self.scope.is_none_or(|scope| entry.scope == scope)
            && self.kind.is_none_or(|kind| entry.kind == kind)
            && self.category.is_none_or(|category| entry.kind >> 12 == u32::from(category))
            && self.clock.is_none_or(|(start, end)| entry.clock >= start && entry.clock <= end)
    }
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) log: Vec<Entry>,
    soft_fences: Vec<SoftFence>,
}

impl Oracle {
    /// The newest event of the entity that counts for who appends: hidden ones of others do not come up, their entity is fenced.
    pub(super) fn last_of(&self, entity: &str) -> Option<usize> {
        self.log.iter().rposition(|entry| entry.entity == entity && entry.state != State::Cancelled)
    }

    fn owner(&self, entity: &str) -> Option<usize> {
        self.log.iter().rev().find_map(|entry| match entry.state {
            State::Hidden(fence) if entry.entity == entity => Some(fence),
            _ => None,
        })
    }

    /// Where visible ends: at the first event of an undecided fence.
    pub(super) fn visible(&self) -> usize {
        self.log.iter().position(|entry| matches!(entry.state, State::Hidden(_))).unwrap_or(self.log.len())
    }

    /// What a consumer at `next` is still to be given, in order.
    pub(super) fn due(&self, want: &Want, next: u64) -> Vec<u64> {
        let is_due = |at: &usize| self.log[*at].state == State::Live && want.has(&self.log[*at]);
        (next as usize..self.visible()).filter(is_due).map(|at| at as u64).collect()
    }

    /// The cancelled ranges of `from..to`, none touching the next.
    pub(super) fn cancelled(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for at in from..to {
            if self.log[at as usize].state != State::Cancelled {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.1 == at => last.1 += 1,
                _ => ranges.push((at, at + 1)),
            }
        }
        ranges
    }

    // ---- appending -----------------------------------------------------------------------------------------------

    /// What must become of a batch: for each item the event that it repeats, or itself.
    pub(super) fn predict(&self, drafts: &[Draft], own: Option<usize>) -> Result<Vec<Outcome>, &'static str> {
        self.check_causes(drafts, own)?;
        let firsts = first_items_of_keys(drafts)?;
        let mut outcomes: Vec<Outcome> = Vec::new();
        for (at, draft) in drafts.iter().enumerate() {
            let outcome = match firsts[at] {
                None => Outcome::New,
                Some(first) if first != at => Outcome::Same(first),
                Some(_) => self.look_up(draft, own, &outcomes)?,
            };
            outcomes.push(outcome);
        }
        let is_new = |(draft, outcome): (&'_ Draft, &Outcome)| (*outcome == Outcome::New).then(|| draft.clone());
        let new: Vec<Draft> = drafts.iter().zip(&outcomes).filter_map(is_new).collect();
        if new.iter().any(|draft| self.owner(draft.entity).is_some_and(|owner| Some(owner) != own)) {
            return Err("StreamFenced");
        }
        self.check_expected(&new)?;
        Ok(outcomes)
    }

    /// Causes are looked at first.
    fn check_causes(&self, drafts: &[Draft], own: Option<usize>) -> Result<(), &'static str> {
        for cause in drafts.iter().flat_map(|draft| &draft.causes) {
            match self.log.iter().find(|entry| entry.id == *cause).map(|entry| entry.state) {
                Some(State::Cancelled) => return Err("CauseUnknown"),
                Some(State::Hidden(fence)) if Some(fence) != own => return Err("FencePending"),
                _ => {}
            }
        }
        Ok(())
    }

    /// What the log says to a key.
    fn look_up(&self, draft: &Draft, own: Option<usize>, before: &[Outcome]) -> Result<Outcome, &'static str> {
        let is_it = |entry: &Entry| entry.key == draft.key && entry.state != State::Cancelled;
        let Some(old) = self.log.iter().rposition(is_it) else { return Ok(Outcome::New) };
        let entry = &self.log[old];
        if matches!(entry.state, State::Hidden(fence) if Some(fence) != own) {
            return Err("FencePending");
        }
        let id_of = |cause: usize| match before[cause] {
            Outcome::Old(old) => Some(self.log[old].id),
            Outcome::Same(first) => match before[first] {
                Outcome::Old(old) => Some(self.log[old].id),
                _ => None,
            },
            Outcome::New => None,
        };
        let mut causes: Vec<Option<EventId>> = draft.causes.iter().copied().map(Some).collect();
        causes.extend(draft.batch_causes.iter().map(|&cause| id_of(cause as usize)));
        let is_same = entry.entity == draft.entity
            && entry.scope == draft.scope
            && entry.kind == draft.kind
            && entry.payload == draft.payload
            && causes == entry.causes.iter().copied().map(Some).collect::<Vec<_>>();
        if is_same { Ok(Outcome::Old(old)) } else { Err("IdempotencyConflict") }
    }

    /// Later items see earlier ones.
    fn check_expected(&self, new: &[Draft]) -> Result<(), &'static str> {
        let mut clocks: HashMap<&str, Option<u64>> = HashMap::new();
        for draft in new {
            let last =
                clocks.entry(draft.entity).or_insert_with(|| self.last_of(draft.entity).map(|at| self.log[at].clock));
            let met = match draft.expected {
                Expected::Any => true,
                Expected::NoStream => last.is_none(),
                Expected::Exact(clock) => *last == Some(clock),
            };
            if !met {
                return Err("ExpectedState");
            }
            *last = Some(last.map_or(0, |clock| clock + 1));
        }
        Ok(())
    }

    /// Puts a batch into the log. What only the store can say, ids and times, is unheard as yet. Returns where each item is.
    pub(super) fn append(&mut self, drafts: &[Draft], outcomes: &[Outcome], own: Option<usize>) -> Vec<usize> {
        let mut begins = true;
        let mut places: Vec<usize> = Vec::new();
        for (draft, outcome) in drafts.iter().zip(outcomes) {
            places.push(match *outcome {
                Outcome::Old(old) => old,
                Outcome::Same(first) => places[first],
                Outcome::New => self.log.len(),
            });
            if *outcome != Outcome::New {
                continue;
            }
            let last = self.last_of(draft.entity);
            self.log.push(Entry {
                state: own.map_or(State::Live, State::Hidden),
                entity: draft.entity,
                scope: draft.scope,
                kind: draft.kind,
                payload: draft.payload,
                key: draft.key.clone(),
                causes: draft.causes.clone(),
                batch_causes: draft.batch_causes.iter().map(|&cause| places[cause as usize]).collect(),
                correlation: EventId([0; 16]),
                id: EventId([0; 16]),
                time_us: 0,
                clock: last.map_or(0, |at| self.log[at].clock + 1),
                prev: last.map_or(u64::MAX, |at| at as u64),
                durable: false,
                kept: false,
                unheard: true,
                begins: std::mem::take(&mut begins),
            });
        }
        places
    }

    /// The id and time of an event that was appended, and with them what follows from them. In order.
    pub(super) fn hear(&mut self, at: usize, id: EventId, time_us: i64) {
        let of_batch = std::mem::take(&mut self.log[at].batch_causes);
        let causes: Vec<EventId> = of_batch.into_iter().map(|cause| self.log[cause].id).collect();
        let entry = &mut self.log[at];
        entry.causes.extend(causes);
        let first = entry.causes.first().copied();
        let correlation =
            first.and_then(|id| self.log.iter().find(|entry| entry.id == id)).map(|cause| cause.correlation);
        let entry = &mut self.log[at];
        (entry.id, entry.time_us, entry.unheard) = (id, time_us, false);
        entry.correlation = correlation.unwrap_or(id);
    }

    // ---- promises ------------------------------------------------------------------------------------------------

    /// Everything below `end` was acknowledged.
    pub(super) fn acknowledge(&mut self, end: usize, durability: Durability) {
        for entry in &mut self.log[..end] {
            entry.kept = true;
            entry.durable |= durability == Durability::Storage;
        }
    }

    pub(super) fn acknowledge_all(&mut self) {
        self.acknowledge(self.log.len(), Durability::Storage);
        self.soft_fences.clear();
    }

    /// A consumer's checkpoint was acknowledged: what it lies behind is as durable, the commits of fences included.
    pub(super) fn committed_below(&mut self, next: u64) {
        let decided = |fence: &SoftFence| fence.events.iter().any(|&at| (at as u64) < next);
        let last = self.soft_fences.iter().filter(|fence| decided(fence)).filter_map(|fence| fence.events.last()).max();
        let end = last.map_or(0, |last| last + 1).max(next as usize);
        self.acknowledge(end, Durability::Storage);
        self.soft_fences.retain(|fence| !decided(fence));
    }

    /// Decides a fence. `heard`: how durable the answer said that it is.
    pub(super) fn end_fence(&mut self, number: usize, state: State, heard: Option<Durability>) {
        let of = |at: &usize| self.log[*at].state == State::Hidden(number);
        let events: Vec<usize> = (0..self.log.len()).filter(of).collect();
        events.iter().for_each(|&at| self.log[at].state = state);
        if state != State::Live {
            return;
        }
        if let Some(durability) = heard {
            self.acknowledge(self.log.len(), durability);
        }
        match heard {
            Some(Durability::Storage) => self.soft_fences.clear(),
            _ if events.is_empty() => {}
            heard => self.soft_fences.push(SoftFence { events, unheard: heard.is_none() }),
        }
    }

    /// The process has ended: what is undecided is cancelled.
    pub(super) fn end(&mut self) {
        for entry in &mut self.log {
            if matches!(entry.state, State::Hidden(_)) {
                entry.state = State::Cancelled;
            }
        }
    }

    /// A new opening found `left` events, of which it shows those of `visible`.
    pub(super) fn reopened(&mut self, left: usize, visible: &[u64], power_loss: bool) {
        let is_owed = |entry: &Entry| entry.durable || entry.kept && !power_loss;
        let owed = self.log.iter().rposition(is_owed).map_or(0, |at| at + 1);
        let all = self.log.len();
        assert!(left >= owed && left <= all, "{left} of {all} events left, {owed} were promised");
        assert!(left == all || self.log[left].begins, "half a batch: {left} of {all} left");
        for fence in std::mem::take(&mut self.soft_fences) {
            let seen = fence.events.iter().filter(|&&at| visible.binary_search(&(at as u64)).is_ok()).count();
            assert!(seen == 0 || seen == fence.events.len(), "half a fence: {seen} of {fence:?}");
            assert!(seen > 0 || power_loss || fence.unheard, "a kill took the commit of {fence:?}");
            if seen == 0 {
                fence.events.iter().for_each(|&at| self.log[at].state = State::Cancelled);
            }
        }
        self.log.truncate(left);
        // What recovery has read it has made durable.
        self.acknowledge_all();
    }
}

/// Two items of a batch with one key are compared before the log is asked. Returns the first item of each one's key.
fn first_items_of_keys(drafts: &[Draft]) -> Result<Vec<Option<usize>>, &'static str> {
    let mut keys: HashMap<&[u8], usize> = HashMap::new();
    let mut firsts = Vec::new();
    for (at, draft) in drafts.iter().enumerate() {
        let first = draft.key.as_deref().map(|key| *keys.entry(key).or_insert(at));
        if first.is_some_and(|first| !same_items(&drafts[first], draft)) {
            return Err("IdempotencyConflict");
        }
        firsts.push(first);
    }
    Ok(firsts)
}

fn same_items(first: &Draft, second: &Draft) -> bool {
    first.entity == second.entity
        && first.scope == second.scope
        && first.kind == second.kind
        && first.payload == second.payload
        && first.causes == second.causes
        && first.batch_causes == second.batch_causes
}
