//! Every way to ask a store, and the answers held against those of the store that did not rot.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::format::checksum;

use super::reference::{ENTITIES, Known, consumer_options, consumers};
use super::*;
use crate::cursor::{Direction, checkpoint};
use crate::event::{Event, Kind, KindMatch};
use crate::store::scan::BackwardScan;

/// Questions whose answers are what a checkpoint's file says, and what follows from it.
pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const CONSUMER: &str = "consumer";
pub(super) const CONSUMER_GAPS: &str = "gaps of consumer";

/// What was answered to one question: values in their order, and the error that ended them.
#[derive(Debug)]
struct Answer {
    question: (&'static str, u64),
    values: Vec<u64>,
    error: Option<Error>,
}

/// The answers to all questions, always in the same order.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<Answer>);

fn digest(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn digest_of(event: &Event<'_>) -> u64 {
    let numbers = [event.sequence(), event.clock(), event.prev_sequence().unwrap_or(u64::MAX), event.time_us() as u64];
    let more = [u64::from(event.schema()), u64::from(event.kind().0), u64::from(event.flags())];
    let mut crc = numbers.iter().chain(&more).fold(0, |crc, word| checksum::crc32c_append(crc, &word.to_le_bytes()));
    for id in [event.id(), event.correlation_id()].iter().chain(event.causes()) {
        crc = checksum::crc32c_append(crc, &id.0);
    }
    for bytes in [event.entity().as_bytes(), event.scope().as_bytes(), event.payload()] {
        crc = checksum::crc32c_append(crc, &(bytes.len() as u32).to_le_bytes());
        crc = checksum::crc32c_append(crc, bytes);
    }
    // The sequence as it is, so that a difference can be read.
    event.sequence() << 32 | u64::from(crc)
}

fn digest_of_receipt(receipt: &Receipt) -> u64 {
    digest((
        receipt.sequence,
        receipt.clock,
        receipt.time_us,
        receipt.id.0,
        receipt.correlation_id.0,
        receipt.duplicate,
    ))
}

/// Whether an error tells of damage, and where.
pub(super) fn is_of(error: &Error, path: &Path) -> bool {
    let error = if let Error::BatchItem { source, .. } = error { source } else { error };
    let tells = matches!(
        error,
        Error::Corrupt { .. }
            | Error::NewerFormat { .. }
            | Error::StoreMismatch { .. }
            | Error::CheckpointCorrupt { .. }
            | Error::CheckpointRegionMismatch { .. }
            | Error::CheckpointStoreMismatch { .. }
            | Error::CheckpointDiverged { .. }
            | Error::CheckpointAhead { .. }
    );
    tells && names(error, path)
}

impl Answers {
    fn ask(&mut self, question: (&'static str, u64), answer: impl FnOnce(&mut Vec<u64>) -> Result<()>) {
        let mut values = Vec::new();
        let error = answer(&mut values).err();
        self.0.push(Answer { question, values, error });
    }

    pub(super) fn has_errors(&self) -> bool {
        self.0.iter().any(|answer| answer.error.is_some())
    }

    pub(super) fn assert_whole(&self) {
        for answer in &self.0 {
            assert!(answer.error.is_none(), "{:?}: {:?}", answer.question, answer.error);
        }
    }

    /// How the answers differ from the right ones, but for errors that `accepts` does.
    pub(super) fn difference(
        &self,
        right: &Answers,
        accepts: impl Fn(&Error) -> bool,
        leaves_out: &[&str],
    ) -> Option<String> {
        for (mine, right) in self.0.iter().zip(&right.0).filter(|(mine, _)| !leaves_out.contains(&mine.question.0)) {
            let Answer { question, values, error } = mine;
            let is_prefix = right.values.starts_with(values);
            match error {
                Some(error) if !accepts(error) => return Some(format!("{question:?}: {error:?}")),
                Some(_) if !is_prefix => return Some(format!("{question:?}: other values before an error")),
                None if *values != right.values => {
                    let same = values.iter().zip(&right.values).take_while(|(a, b)| a == b).count();
                    let (is, was) = (values.len(), right.values.len());
                    return Some(format!("{question:?}: {is} values instead of {was}, the first {same} are right"));
                }
                _ => {}
            }
        }
        (self.0.len() != right.0.len()).then(|| String::from("other questions were asked"))
    }
}

fn regions() -> Vec<Region> {
    let all = Region::all;
    let mut regions = vec![
        all(),
        all().with_entity_prefix("a"),
        all().with_scope("s"),
        all().with_scope("t"),
        all().with_kind(KindMatch::Category(2)),
        all().with_kind(KindMatch::Exact(Kind(0x1002))),
        all().with_kind(KindMatch::Exact(Kind(0x1002))).with_scope("s").with_entity("b"),
        all().with_entity_prefix("a").with_scope("s").with_kind(KindMatch::Category(1)),
        all().with_entity("a").with_clock(3, 20),
        all().with_entity("none"),
        all().with_entity("imported"),
    ];
    regions.extend(ENTITIES.map(|entity| all().with_entity(entity)));
    regions
}

/// All that reading answers. Changes nothing but what a store mends by itself.
pub(super) fn read(store: &Store, known: &Known) -> Answers {
    let mut answers = Answers::default();
    answers.ask(("marks", 0), |values| {
        let marks = store.watermarks();
        values.extend([marks.appended, marks.visible, marks.durable]);
        Ok(())
    });
    for (number, region) in regions().iter().enumerate() {
        let at_once = [3, 50, 1000][number % 3];
        answers.ask(("forward, region", number as u64), |values| forward(store, region, at_once, values));
        answers.ask(("backward, region", number as u64), |values| backward(store, region, at_once, values));
    }
    let end = store.watermarks().visible;
    for sequence in 0..end {
        answers.ask(("get", sequence), |values| {
            values.push(store.get(sequence)?.map_or(0, |batch| digest_of(&batch.event(0))));
            Ok(())
        });
    }
    for id in known.ids.iter().step_by(3) {
        answers.ask(("the id of", id.sequence()), |values| {
            values.push(store.get_by_id(*id)?.map_or(0, |batch| digest_of(&batch.event(0))));
            Ok(())
        });
    }
    for (number, entity) in ENTITIES.into_iter().chain(["none", "imported"]).enumerate() {
        answers.ask(("head of entity", number as u64), |values| {
            values.push(digest(store.entity_head(entity.as_bytes())?.map(|head| (head.clock, head.last_sequence))));
            Ok(())
        });
    }
    for (prefix, most) in [("", 2), ("", 100), ("a", 1)] {
        answers.ask(("entities, so many at once", most as u64), |values| list(store, prefix, most, values));
    }
    for (from, to) in [(0, end), (end / 3, end - 3)] {
        answers.ask(("cancelled from", from), |values| {
            values.extend(store.cancelled(from, to)?.into_iter().map(digest));
            Ok(())
        });
    }
    answers.ask(("a time", 0), |values| {
        values.push(store.first_sequence_at_or_after(i64::MIN)?);
        values.push(store.first_sequence_at_or_after(i64::MAX)?);
        Ok(())
    });
    consume(store, &mut answers);
    answers
}

fn forward(store: &Store, region: &Region, at_once: usize, values: &mut Vec<u64>) -> Result<()> {
    let (mut scan, mut at) = (Scan::new(region), 0);
    loop {
        let (batch, next) = scan.next(store, at, at_once, u64::MAX)?;
        if batch.is_empty() {
            return Ok(());
        }
        values.extend(batch.iter().map(|event| digest_of(&event)));
        at = next;
    }
}

fn backward(store: &Store, region: &Region, at_once: usize, values: &mut Vec<u64>) -> Result<()> {
    let (mut scan, mut at) = (BackwardScan::new(region), store.watermarks().visible);
    loop {
        let (batch, next) = scan.next(store, at, at_once, u64::MAX)?;
        if batch.is_empty() {
            return Ok(());
        }
        values.extend(batch.iter().map(|event| digest_of(&event)));
        at = next;
    }
}

fn list(store: &Store, prefix: &str, most: usize, values: &mut Vec<u64>) -> Result<()> {
    let mut after = Vec::new();
    loop {
        let page = store.entities(prefix.as_bytes(), &after, most)?;
        for entity in page.iter() {
            values.push(digest((entity.name, entity.clock, entity.last_sequence)));
            after = entity.name.to_vec();
        }
        if page.len() < most {
            return Ok(());
        }
    }
}

/// Checkpoints as they are, and everything that their consumers have not had, with the gaps; then a cursor without one, and backward.
fn consume(store: &Store, answers: &mut Answers) {
    answers.ask(("checkpoints", 0), |values| {
        values.push(digest(checkpoint::list(store)?));
        Ok(())
    });
    for (number, (id, region, capacity, _)) in (0u64..).zip(consumers()) {
        answers.ask((CHECKPOINT, number), |values| {
            values.push(digest(format!("{:?}", checkpoint::load(store, id)?)));
            Ok(())
        });
        poll_all(answers, [CONSUMER, CONSUMER_GAPS], number, store, region, &consumer_options(id, capacity));
    }
    let whole = CursorOptions { gap_capacity: 100, ..CursorOptions::default() };
    let newest_first = CursorOptions { direction: Direction::Backward, ..CursorOptions::default() };
    for (number, options) in [(0, whole), (1, newest_first)] {
        poll_all(answers, ["cursor", "gaps of cursor"], number, store, Region::all(), &options);
    }
}

/// Two answers: the events, and the gaps, which come with no certain batch where one ends early before damage.
fn poll_all(
    answers: &mut Answers,
    names: [&'static str; 2],
    number: u64,
    store: &Store,
    region: Region,
    options: &CursorOptions,
) {
    let mut gaps = Vec::new();
    answers.ask((names[0], number), |values| {
        let cursor = Cursor::open(store, region, options)?;
        let position = cursor.position()?;
        values.push(digest((position.position, position.next_sequence, position.scanned)));
        while let Polled::Batch(batch) = cursor.poll(40, 0, PollTimeout::Never)? {
            values.extend(batch.iter().map(|event| digest_of(&event)));
            for gap in cursor.take_gaps()?.gaps {
                gaps.push(digest((gap.expected_sequence, gap.delivered_sequence, format!("{:?}", gap.cancelled))));
            }
        }
        Ok(())
    });
    let error = answers.0.last().and_then(|answer| answer.error.clone());
    answers.0.push(Answer { question: (names[1], number), values: gaps, error });
}

/// All that appending answers: keys known before, a key with other content, an import repeated, new events of every entity with causes old and
/// unknown. Ends with the first error that it did not ask for, as what follows would have other numbers.
pub(super) fn append(store: &Store, source: Option<&Store>, known: &Known) -> Answers {
    let mut answers = Answers::default();
    answers.ask(("appending", 0), |values| {
        let mut receipts = [Receipt::default()];
        for keyed in &known.keyed {
            let again = NewEvent { key: &keyed.key, ..event(keyed.entity, &keyed.payload) };
            store.append(&[again], Some(Durability::Process), &mut receipts)?;
            assert_eq!(
                (receipts[0].sequence, receipts[0].duplicate),
                (keyed.receipt.sequence, true),
                "a key used anew"
            );
            values.push(digest_of_receipt(&receipts[0]));
            let other = NewEvent { payload: b"other", ..again };
            match store.append(&[other], Some(Durability::Process), &mut receipts) {
                Err(Error::IdempotencyConflict { .. }) => values.push(1),
                Err(error) => return Err(error),
                Ok(()) => values.push(2),
            }
        }
        if let Some(source) = source {
            let imported = store.import(source, &Default::default())?;
            values.push(digest((imported.next_sequence, imported.appended, imported.duplicates)));
        }
        for (number, entity) in ENTITIES.into_iter().chain(["imported", "new"]).enumerate() {
            let cause = known.ids[number * 7];
            let causes = [cause];
            store.append(
                &[NewEvent { causes: &causes, ..event(entity, b"appended later") }],
                Some(if number % 2 == 0 { Durability::Process } else { Durability::Storage }),
                &mut receipts,
            )?;
            values.push(digest_of_receipt(&receipts[0]));
            let unknown = [EventId::derive(1, cause.sequence(), cause.tag())];
            match store.append(&[NewEvent { causes: &unknown, ..event(entity, b"refused") }], None, &mut receipts) {
                Err(Error::CauseUnknown { .. }) => values.push(1),
                Err(error) => return Err(error),
                Ok(()) => values.push(2),
            }
        }
        Ok(())
    });
    answers
}
