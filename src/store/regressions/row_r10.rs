//! Row R10 of the scorecard, bit rot: of a cleanly closed store any bit of any file may change, and each question is answered rightly or
//! with an error that names the file; nothing differs in silence and nothing panics. So do sectors that were zeroed or swapped, files cut
//! short, files put back to an older age, files exchanged. Of a store that was killed, rot above the last mark is cut and reported.

mod questions;
mod reference;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use super::rot::{files, names};
use super::*;
use crate::event::EventId;
use crate::io::sim::Random;
use crate::reliability;
use crate::store::FenceOptions;
use questions::{Answers, CHECKPOINT, CONSUMER, CONSUMER_GAPS, append, is_of, read};
use reference::{Reference, SOURCE_AT, open_at, overwrite, reference};

const SECTOR: u64 = 512;

/// What happens to the files of a store.
#[derive(Debug, Clone)]
enum Fault {
    Flip { path: PathBuf, offset: u64, bit: u8 },
    Zero { path: PathBuf, offset: u64 },
    Swap { path: PathBuf, offsets: [u64; 2] },
    Cut { path: PathBuf, length: u64 },
    Older { path: PathBuf, bytes: Vec<u8> },
    Exchange { paths: [PathBuf; 2] },
}

impl Fault {
    /// Changes the disk. False: nothing is different then.
    fn strike(&self, disk: &SimStorage) -> bool {
        let contents = |path: &PathBuf| disk.contents(path).unwrap();
        let replace = |path: &PathBuf, bytes: &[u8]| {
            let is_news = contents(path) != bytes;
            overwrite(disk, path, bytes);
            is_news
        };
        match self {
            Fault::Flip { path, offset, bit } => {
                disk.flip(path, *offset, 1 << bit);
                true
            }
            Fault::Zero { path, offset } => {
                let mut bytes = contents(path);
                let end = bytes.len().min((offset + SECTOR) as usize);
                bytes[*offset as usize..end].fill(0);
                replace(path, &bytes)
            }
            Fault::Swap { path, offsets } => {
                let mut bytes = contents(path);
                let [first, second] = offsets.map(|offset| offset as usize);
                let length = (SECTOR as usize).min(bytes.len() - second);
                let (before, after) = bytes.split_at_mut(second);
                before[first..first + length].swap_with_slice(&mut after[..length]);
                replace(path, &bytes)
            }
            Fault::Cut { path, length } => replace(path, &contents(path)[..*length as usize]),
            Fault::Older { path, bytes } => replace(path, bytes),
            Fault::Exchange { paths: [first, second] } => {
                let (was_first, was_second) = (contents(first), contents(second));
                overwrite(disk, second, &was_first);
                replace(first, &was_second)
            }
        }
    }

    fn paths(&self) -> &[PathBuf] {
        match self {
            Fault::Exchange { paths } => paths,
            Fault::Flip { path, .. }
            | Fault::Zero { path, .. }
            | Fault::Swap { path, .. }
            | Fault::Cut { path, .. }
            | Fault::Older { path, .. } => std::slice::from_ref(path),
        }
    }

    /// Questions that nobody can answer rightly: a checkpoint's older file is as good as the newer one, and its consumer has events again. Of one
    /// that is another's, only who opens the consumer knows the region.
    fn leaves_out(&self) -> &'static [&'static str] {
        let is_checkpoint = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "ckpt");
        match self {
            Fault::Older { path, .. } if is_checkpoint(path) => &[CHECKPOINT, CONSUMER, CONSUMER_GAPS],
            Fault::Exchange { paths } if is_checkpoint(&paths[0]) => &[CHECKPOINT],
            _ => &[],
        }
    }

    fn accepts(&self, error: &Error) -> bool {
        self.paths().iter().any(|path| is_of(error, path))
    }
}

/// As many flips as trials were asked for: of some bytes, or every byte with one bit each, or with all of them. Of the zeros behind a segment's last
/// frame (space prepared ahead) one is like another: but for the first ones it is every 64th.
fn flips(disk: &SimStorage, trials: u64, seed: u64) -> Vec<Fault> {
    let mut places: Vec<(PathBuf, u64)> = Vec::new();
    let mut zeros = Vec::new();
    for (path, length) in files(disk, Path::new(AT)) {
        let bytes = disk.contents(&path).unwrap();
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at as u64 + 128);
        let end = if is_segment { used.min(length) } else { length };
        places.extend((0..end).map(|offset| (path.clone(), offset)));
        zeros.extend((end..length).map(|offset| (path.clone(), offset)));
    }
    let takes_all = trials >= 8 * places.len() as u64;
    places.extend(zeros.into_iter().step_by(64));
    let bytes = places.len() as u64;
    let bits = trials.div_ceil(bytes).clamp(1, 8);
    let bits = if takes_all { 8 } else { bits as u8 };
    let step = (bytes / trials.max(1)).max(1);
    let mut faults = Vec::new();
    for (number, (path, offset)) in (0u64..).zip(places).skip((seed % step) as usize).step_by(step as usize) {
        let first = Random::new(seed ^ number << 8).below(8) as u8;
        faults.extend((0..bits).map(|bit| Fault::Flip { path: path.clone(), offset, bit: (first + bit) % 8 }));
    }
    faults
}

/// Sectors, cuts, older ages and exchanges, all of them.
fn whole_faults(all: &[(PathBuf, u64)], older: &[(PathBuf, Vec<u8>)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, length) in all {
        let path = || path.clone();
        for offset in (0..*length).step_by(SECTOR as usize) {
            faults.push(Fault::Zero { path: path(), offset });
            let later = (offset + SECTOR..*length).step_by(SECTOR as usize);
            faults.extend(later.map(|other| Fault::Swap { path: path(), offsets: [offset, other] }));
        }
        faults.extend((0..*length).step_by(64).map(|length| Fault::Cut { path: path(), length }));
    }
    for (path, bytes) in older {
        faults.push(Fault::Older { path: path.clone(), bytes: bytes.clone() });
    }
    for (at, (first, _)) in all.iter().enumerate() {
        for (second, _) in &all[at + 1..] {
            if first.parent() == second.parent() && first.extension() == second.extension() {
                faults.push(Fault::Exchange { paths: [first.clone(), second.clone()] });
            }
        }
    }
    faults
}

/// Runs trials on two threads. Each says whether the fault was found, or what is wrong.
fn run(what: &str, seed: u64, faults: &[Fault], trial: impl Fn(&Fault, usize) -> Result<bool, String> + Sync) {
    let next = AtomicUsize::new(0);
    let wrong: Mutex<Vec<(usize, String)>> = Mutex::default();
    let found = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(fault) = faults.get(at) else { return };
                    let outcome = catch_unwind(AssertUnwindSafe(|| trial(fault, at)));
                    match outcome.unwrap_or_else(|_| Err(String::from("a panic"))) {
                        Ok(is_found) => drop(found.fetch_add(is_found.into(), Ordering::Relaxed)),
                        Err(text) => wrong.lock().unwrap().push((at, text)),
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    for (at, text) in wrong.iter().take(20) {
        let mut fault = format!("{:?}", faults[*at]);
        fault.truncate(200);
        println!("seed {seed:#x}, step {at}: {fault}: {text}");
    }
    let found = found.into_inner();
    println!("{what}: {found} found, {} harmless", faults.len() - found - wrong.len());
    reliability::report("R10", faults.len() as u64, wrong.len() as u64, seed, what);
    assert!(wrong.is_empty(), "{} of {} trials went wrong", wrong.len(), faults.len());
    assert!(found > faults.len() / 100, "nothing was found: were the files read at all?");
}

/// The closed store and its right answers: read, appended to, read again.
struct Closed {
    reference: Reference,
    read: Answers,
    appended: Answers,
    appended_without_import: Answers,
    read_again: Answers,
}

impl Closed {
    fn new() -> Closed {
        let reference = reference(true);
        let disk = reference.disk.crash_keep_all();
        let source = open_at(&disk, SOURCE_AT, true).unwrap();
        let store = open_at(&disk, AT, false).unwrap();
        assert_eq!((store.stats().opened_clean, store.stats().segments), (1, 4));
        let answers = read(&store, &reference.known);
        let appended = append(&store, Some(&source), &reference.known);
        store.close(SECOND).unwrap();
        let again = read(&open_at(&disk, AT, true).unwrap(), &reference.known);
        let other = open_at(&reference.disk.crash_keep_all(), AT, false).unwrap();
        let appended_without_import = append(&other, None, &reference.known);
        [&answers, &appended, &appended_without_import, &again].into_iter().for_each(Answers::assert_whole);
        Closed { reference, read: answers, appended, appended_without_import, read_again: again }
    }

    /// One fault, looked at by a reader or a writer.
    fn trial(&self, fault: &Fault, read_only: bool, with_import: bool) -> Result<bool, String> {
        let known = &self.reference.known;
        let disk = self.reference.disk.crash_keep_all();
        if !fault.strike(&disk) {
            return Ok(false);
        }
        let accepts = |error: &Error| fault.accepts(error);
        let store = match open_at(&disk, AT, read_only) {
            Ok(store) => store,
            Err(error) if accepts(&error) => return Ok(true),
            Err(error) => return Err(format!("opening: {error:?}")),
        };
        let answers = read(&store, known);
        self.check(fault, "read", &answers, &self.read)?;
        if read_only {
            return Ok(answers.has_errors());
        }
        let source = with_import.then(|| open_at(&disk, SOURCE_AT, true).unwrap());
        let appended = append(&store, source.as_ref(), known);
        let right = if with_import { &self.appended } else { &self.appended_without_import };
        self.check(fault, "appended", &appended, right)?;
        match store.close(SECOND) {
            Err(error) if !accepts(&error) => return Err(format!("closing: {error:?}")),
            _ => {}
        }
        if !with_import || appended.has_errors() {
            return Ok(answers.has_errors() || appended.has_errors());
        }
        match open_at(&disk, AT, true) {
            Ok(store) => self.check(fault, "read again", &read(&store, known), &self.read_again)?,
            Err(error) if accepts(&error) => return Ok(true),
            Err(error) => return Err(format!("opening again: {error:?}")),
        }
        Ok(answers.has_errors())
    }

    fn check(&self, fault: &Fault, when: &str, answers: &Answers, right: &Answers) -> Result<(), String> {
        let difference = answers.difference(right, |error| fault.accepts(error), fault.leaves_out());
        difference.map_or(Ok(()), |difference| Err(format!("{when}: {difference}")))
    }
}

#[test]
fn row_r10_every_rotten_bit_of_a_closed_store_is_found_or_harmless() {
    let (trials, seed) = (reliability::trials(4_000), reliability::seed(0x5EED));
    let closed = Closed::new();
    let faults = flips(&closed.reference.disk, trials, seed);
    run("bits flipped in the files of a closed store", seed, &faults, |fault, at| {
        closed.trial(fault, at % 2 == 0, at % 4 == 1)
    });
}

#[test]
fn row_r10_whole_sectors_and_files_of_a_closed_store_are_found_or_harmless() {
    let (trials, seed) = (reliability::trials(1_000), reliability::seed(0x5EED));
    let closed = Closed::new();
    let all = files(&closed.reference.disk, Path::new(AT));
    let mut faults = whole_faults(&all, &closed.reference.older);
    let step = (faults.len() as u64 / trials.max(1)).max(1);
    faults = faults.into_iter().step_by(step as usize).collect();
    run("sectors and files of a closed store", seed, &faults, |fault, at| {
        closed.trial(fault, at % 2 == 0, at % 4 == 1)
    });
}

/// The killed store, its right answers, and how far a frame says that it is durable.
struct Killed {
    reference: Reference,
    newest: PathBuf,
    whole: Answers,
    /// Where the last mark begins.
    last_mark: u64,
    /// The right answers of what is left when the log is cut at a byte.
    cut: Mutex<BTreeMap<u64, Arc<Answers>>>,
}

impl Killed {
    fn new() -> Killed {
        let reference = reference(false);
        let store = open_at(&reference.disk.crash_keep_all(), AT, true).unwrap();
        assert_eq!((store.stats().opened_clean, store.stats().cut_bytes), (0, 0));
        let whole = read(&store, &reference.known);
        whole.assert_whole();
        let newest = segment_path(store.inner.segments().last().unwrap().base);
        let bytes = reference.disk.contents(&newest).unwrap();
        let is_mark = |at: &usize| bytes[at + 4..at + 8] == [48, 0, 0, 0] && bytes[at + 16] == 0x11;
        let last_mark = (128..bytes.len() - 48).step_by(8).rfind(is_mark).unwrap() as u64;
        Killed { reference, newest, whole, last_mark, cut: Mutex::default() }
    }

    /// What a whole log that ends at a byte of the newest segment answers.
    fn cut_at(&self, offset: u64) -> Arc<Answers> {
        self.cut
            .lock()
            .unwrap()
            .entry(offset)
            .or_insert_with(|| {
                let disk = self.reference.disk.crash_keep_all();
                disk.open_write(&self.newest).unwrap().unwrap().set_length(offset).unwrap();
                let store = open_at(&disk, AT, true).unwrap();
                assert_eq!(store.stats().cut_bytes, 0, "cut at {offset}, which is no end of a frame");
                Arc::new(read(&store, &self.reference.known))
            })
            .clone()
    }

    fn trial(&self, fault: &Fault, read_only: bool) -> Result<bool, String> {
        let disk = self.reference.disk.crash_keep_all();
        if !fault.strike(&disk) {
            return Ok(false);
        }
        let accepts = |error: &Error| fault.accepts(error);
        let store = match open_at(&disk, AT, read_only) {
            Ok(store) => store,
            Err(error) if accepts(&error) => return Ok(true),
            Err(error) => return Err(format!("opening: {error:?}")),
        };
        let answers = read(&store, &self.reference.known);
        let right = match &store.inner.cut {
            None => answers.difference(&self.whole, accepts, &[]),
            Some(cut) if cut.sequence < self.reference.known.marked || cut.offset < self.last_mark => {
                return Err(format!("what a mark covers was cut: {cut:?}"));
            }
            Some(cut) if store.stats().cut_bytes == 0 => return Err(format!("a cut that is not reported: {cut:?}")),
            Some(cut) => answers.difference(&self.cut_at(cut.offset), accepts, &[]),
        };
        let is_cut = store.inner.cut.is_some();
        right.map_or(Ok(is_cut || answers.has_errors()), |difference| Err(format!("cut: {is_cut}, {difference}")))
    }
}

#[test]
fn row_r10_rot_in_a_killed_store_is_found_below_the_last_mark_and_cut_and_reported_above() {
    let (trials, seed) = (reliability::trials(1_000), reliability::seed(0x5EED));
    let killed = Killed::new();
    let mut faults = flips(&killed.reference.disk, trials, seed);
    let below = (0..killed.last_mark.saturating_sub(SECTOR)).step_by(64);
    faults.extend(below.map(|offset| Fault::Zero { path: killed.newest.clone(), offset }));
    run("rot in a killed store", seed, &faults, |fault, at| killed.trial(fault, at % 2 == 0));
}
