//! Opens what a crash left, and holds it against the model.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::*;
use crate::store::Stats;

/// What came of an image.
pub(super) struct Judged {
    /// The disk after recovery, and the model that goes with it.
    pub(super) disk: SimStorage,
    pub(super) model: Model,
    pub(super) stats: Stats,
}

/// A number that differs, but for chance, between models that differ in anything that matters.
pub(super) fn digest(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn is_durable(disk: &SimStorage) -> bool {
    disk.pending().is_empty()
}

/// Opens the image and checks all promises: what is there, where consumers go on, that recovery said what it cut, and that what it
/// left is durable. With `goes_on` the store is also appended to and crashed again.
///
/// # Panics
/// When a promise is broken.
pub(super) fn judge(image: &SimStorage, model: &Model, loss: Loss, goes_on: bool) -> Judged {
    judge_from(image, model, model.least(loss), loss, goes_on)
}

pub(super) fn judge_from(image: &SimStorage, model: &Model, least: u64, loss: Loss, goes_on: bool) -> Judged {
    let (disk, mut model) = (image.crash_keep_all(), model.clone());
    let store = open(&disk).unwrap_or_else(|error| panic!("does not open: {error}"));
    let stats = store.stats();
    let most = model.next();
    let end = model.check(&store, least, loss);
    assert!(stats.cut_events <= most - end, "{} events cut of {}", stats.cut_events, most - end);
    check_cut(image, &disk, &stats);
    model.settle(end);
    // What was recovered is durable.
    let lost = disk.crash_with(&mut |_| Fate::Lost);
    let again = open(&lost).unwrap_or_else(|error| panic!("does not open again: {error}"));
    model.check(&again, end, Loss::Power);
    drop(again);
    model.check_consumers(&store, is_durable(image));
    let recovered = disk.crash_keep_all();
    if goes_on {
        go_on(&disk, store, &mut model.clone());
    }
    Judged { disk: recovered, model, stats }
}

/// New events follow the old ones, keys are remembered, and that too survives.
fn go_on(disk: &SimStorage, store: Store, model: &mut Model) {
    let tried = model.try_batch(2, 700);
    append_tried(&tried, &NewEvent::default(), |items, receipts| store.append(items, Some(Durable), receipts))
        .unwrap_or_else(|error| panic!("appends no more: {error}"));
    for number in 0..4 {
        let (known, key) = (model.find_key(number), key(number));
        let conditions = NewEvent { key: &key, ..NewEvent::default() };
        let append = |items: &[NewEvent<'_>], receipts: &mut [Receipt]| store.append(items, Some(Durable), receipts);
        let receipts = append_tried(&[Model::keyed(number)], &conditions, append)
            .unwrap_or_else(|error| panic!("key {number} is refused: {error}"));
        let sequence = known.unwrap_or(model.next());
        assert_eq!((receipts[0].sequence, receipts[0].duplicate), (sequence, known.is_some()), "key {number}");
        if known.is_none() {
            model.try_keyed(number);
        }
        model.note_receipt(&receipts[0]);
    }
    let end = model.next();
    model.check(&store, end, Loss::Kill);
    let crashed = disk.crash_with(&mut |_| Fate::Lost);
    let again = open(&crashed).unwrap_or_else(|error| panic!("does not open after going on: {error}"));
    model.check(&again, end, Loss::Power);
    store.close(SECOND).unwrap_or_else(|error| panic!("does not close: {error}"));
}

/// Bytes that are not zero do not vanish unsaid, and a clean opening cuts nothing.
fn check_cut(before: &SimStorage, after: &SimStorage, stats: &Stats) {
    if stats.opened_clean == 1 {
        assert_eq!((stats.cut_bytes, stats.cut_events), (0, 0), "cut after a clean close");
    }
    let (before, after) = (segment_lengths(before), segment_lengths(after));
    let shorter = |(name, length): (&String, &usize)| after.get(name).unwrap_or(&0) < length;
    assert!(
        stats.cut_bytes > 0 || !before.iter().any(shorter),
        "recovery cut without saying so: {before:?} became {after:?}, {stats:?}"
    );
}

/// How long each segment file is without the zeros at its end.
fn segment_lengths(disk: &SimStorage) -> BTreeMap<String, usize> {
    let directory = Path::new(AT).join("segments");
    let entries = disk.list(&directory).ok().flatten().unwrap_or_default();
    let segments = entries.into_iter().filter(|entry| entry.name.ends_with(".seg"));
    let length = |name: &String| {
        let bytes = disk.contents(&directory.join(name)).unwrap_or_default();
        bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    };
    segments.map(|entry| (entry.name.clone(), length(&entry.name))).collect()
}

/// A number for all that a store shows.
pub(super) fn result_of(store: &Store) -> u64 {
    digest(&(store.watermarks().appended, read(store, &Region::all())))
}
