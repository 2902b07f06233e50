//! Entities in the order of their names: what the two forms of an index list, and what is listed.

/// Names from one on, and below another where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameRange {
    pub from: Vec<u8>,
    pub to: Option<Vec<u8>>,
}

impl NameRange {
    /// Whether `name` lies behind the range.
    pub fn ends_before(&self, name: &[u8]) -> bool {
        self.to.as_deref().is_some_and(|to| name >= to)
    }

    /// What is left of the range behind `name`; `None` for nothing.
    pub fn after(&self, name: &[u8]) -> Option<NameRange> {
        let mut next = name.to_vec();
        next.push(0);
        let from = next.max(self.from.clone());
        (!self.ends_before(&from)).then(|| NameRange { from, to: self.to.clone() })
    }
}

/// One entity of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entity<'a> {
    /// The entity.
    pub name: &'a [u8],
    /// Clock of its last event.
    pub clock: u64,
    /// Sequence of its last event.
    pub last_sequence: u64,
}

/// Entities with their names, in order. Each name is followed by a NUL, for C; no name has one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entities {
    names: Vec<u8>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    start: usize,
    length: usize,
    clock: u64,
    last_sequence: u64,
}

impl Entities {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The entity at `index`.
    pub fn get(&self, index: usize) -> Option<Entity<'_>> {
        let row = self.rows.get(index)?;
        let name = &self.names[row.start..row.start + row.length];
        Some(Entity { name, clock: row.clock, last_sequence: row.last_sequence })
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = Entity<'_>> {
        (0..self.len()).map_while(|index| self.get(index))
    }

    pub(crate) fn push(&mut self, entity: Entity<'_>) {
        let (start, length) = (self.names.len(), entity.name.len());
        self.names.extend_from_slice(entity.name);
        self.names.push(0);
        self.rows.push(Row { start, length, clock: entity.clock, last_sequence: entity.last_sequence });
    }

    pub(crate) fn clear(&mut self) {
        self.names.clear();
        self.rows.clear();
    }
}
