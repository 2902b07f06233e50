//! Makes images of crashed disks, each one once, and has them judged.
//!
//! An image counts as a trial when no other was like it. One that was seen before is judged again when more was promised of it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::io::sim::{Change, ChangeKind, Interrupted};

/// After so many failures nothing more is tried.
const FAILURES_MAX: u64 = 20;

/// Trials of a row, made by several threads.
#[derive(Default)]
pub(super) struct Explorer {
    images: Mutex<HashSet<u64>>,
    judged: Mutex<HashSet<u64>>,
    pub(super) tally: Mutex<Tally>,
    /// Images whose recovery cut something, whole events, or nothing because the log was closed.
    pub(super) cuts: AtomicU64,
    pub(super) event_cuts: AtomicU64,
    pub(super) clean: AtomicU64,
    trials: AtomicU64,
    failures: AtomicU64,
}

impl Explorer {
    /// Distinct images.
    pub(super) fn trials(&self) -> u64 {
        self.trials.load(Ordering::Relaxed)
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failures() >= FAILURES_MAX
    }

    /// Runs `trial`; a panic is a failure, told with what reproduces it.
    pub(super) fn attempt<T>(&self, context: impl FnOnce() -> String, trial: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(trial)) {
            Ok(result) => Some(result),
            Err(_) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                println!("FAILED: {}", context());
                None
            }
        }
    }

    /// Counts a trial that is told from others by `what`. Says whether it is new.
    pub(super) fn is_new(&self, what: u64) -> bool {
        let is_new = self.images.lock().unwrap().insert(what);
        self.trials.fetch_add(u64::from(is_new), Ordering::Relaxed);
        is_new
    }

    /// Judges an image unless that was done before. Gives what came of it, `None` also for a failure.
    pub(super) fn image(
        &self,
        image: &SimStorage,
        model: &Model,
        loss: Loss,
        notes: &Notes,
        context: impl FnOnce() -> String,
    ) -> Option<Judged> {
        let fingerprint = image.fingerprint();
        // A kill leaves changes that no sync has covered.
        let of_disk = if loss == Loss::Kill { !fingerprint } else { fingerprint };
        let promised = digest(&(of_disk, loss, model));
        if !self.judged.lock().unwrap().insert(promised) {
            return None;
        }
        if self.is_new(fingerprint) {
            self.tally.lock().unwrap().add(notes);
        }
        let judged = self.attempt(context, || judge(image, model, loss, promised % 3 == 0))?;
        self.cuts.fetch_add(u64::from(judged.stats.cut_bytes > 0), Ordering::Relaxed);
        self.event_cuts.fetch_add(u64::from(judged.stats.cut_events > 0), Ordering::Relaxed);
        self.clean.fetch_add(judged.stats.opened_clean, Ordering::Relaxed);
        Some(judged)
    }

    /// Stops a small workload before and within each operation of its last step, and there tries all combinations of fates where
    /// they are few, else some.
    pub(super) fn exhaust(&self, number: u64, steps: &[Step]) {
        const SAMPLES: u64 = 48;
        let operations = |steps: &[Step]| {
            let disk = SimStorage::new(0);
            let ran = self.attempt(|| format!("{steps:?}"), || run(&disk, steps, &mut Model::default()));
            assert!(!matches!(ran, Some(Err(_))), "{steps:?}: {ran:?}");
            disk.operations()
        };
        // What comes before the last step is the end of a shorter workload.
        let first = if steps.len() == 1 { 0 } else { operations(&steps[..steps.len() - 1]) };
        for operation in first..=operations(steps) {
            for how in [Interrupted::Before, Interrupted::Within] {
                let disk = SimStorage::new(number ^ operation << 32);
                disk.crash_within(operation, how);
                let mut model = Model::default();
                let context = || format!("{steps:?} stopped {how:?} {operation}");
                if self.attempt(context, || run(&disk, steps, &mut model)).is_none() {
                    continue;
                }
                if how == Interrupted::Within && !matches!(disk.interruption(), Some((_, Interrupted::Within))) {
                    continue;
                }
                let notes = notes_of_run(&disk, false);
                let killed = disk.crash_keep_all();
                self.image(&killed, &model, Loss::Kill, &notes, || format!("{} by a kill", context()));
                let mut fates = Fates::new(&disk);
                let mut sample = 0;
                loop {
                    let (image, of_fates) = match &mut fates {
                        Some(fates) => power_loss(&disk, &mut |change| fates.choose(change)),
                        None => random_power_loss(&disk, sample),
                    };
                    let notes = [&notes[..], &of_fates].concat();
                    let taken =
                        fates.as_ref().map_or_else(|| format!("seed {sample}"), |fates| format!("{:?}", fates.taken));
                    let context = || format!("{} by power loss, {taken}", context());
                    self.image(&image, &model, Loss::Power, &notes, context);
                    sample += 1;
                    let is_over = fates.as_mut().map_or(sample == SAMPLES, |fates| !fates.advance());
                    if is_over {
                        break;
                    }
                }
                if self.has_failed() {
                    return;
                }
            }
        }
    }

    /// Some lives on one disk, each tried several times: stopped anywhere, sometimes with operations that fail before, and crashed in
    /// several ways. The last image is where the next life begins, whether or not it was seen before: a seed is to lead to the same lives
    /// alone and among others.
    pub(super) fn lives(&self, seed: u64) {
        const RUNS: u64 = 4;
        const IMAGES: u64 = 6;
        let mut random = Random::new(seed);
        let (mut disk, mut model) = (SimStorage::new(seed), Model::default());
        for life in 0..1 + random.below(3) {
            let steps = random_steps(&mut random);
            let probe = disk.crash_keep_all();
            let context = || format!("seed {seed:#x}, life {life}, {steps:?}");
            let Some(_) = self.attempt(context, || run(&probe, &steps, &mut model.clone())) else { return };
            let mut next = None;
            for turn in 0..RUNS {
                let (disk, mut model) = (disk.crash_keep_all(), model.clone());
                disk.reseed(random.next_u64());
                let fault = if turn % 2 == 1 { PlannedFault::random(&mut random, &probe) } else { None };
                if let Some(fault) = fault {
                    fault.plan(&disk);
                }
                let stop = random_stop(&mut random, &probe);
                if fault.is_none() || random.below(2) == 0 {
                    disk.crash_at(stop);
                }
                let context = || format!("{}, run {turn}, stopped at {stop}, {fault:?}", context());
                let ran = self.attempt(context, || match fault {
                    Some(_) => run_on(&disk, &steps, &mut model).lost_names,
                    None => {
                        let _ = run(&disk, &steps, &mut model);
                        false
                    }
                });
                let Some(lost_names) = ran else { return };
                let notes = notes_of_run(&disk, fault.is_some_and(|fault| fault.written.is_some()));
                disk.heal();
                for _ in 0..IMAGES {
                    let seed = random.next_u64();
                    let kill = seed % 8 == 0 && !lost_names;
                    let (image, loss, of_fates) = match kill {
                        true => (disk.crash_keep_all(), Loss::Kill, Notes::new()),
                        false => {
                            let (image, notes) = random_power_loss(&disk, seed);
                            (image, Loss::Power, notes)
                        }
                    };
                    let notes = [&notes[..], &of_fates].concat();
                    let context = || format!("{} by {loss:?} {seed:#x}", context());
                    self.image(&image, &model, loss, &notes, context);
                    next = Some((image, model.clone(), loss));
                }
                if self.has_failed() {
                    return;
                }
            }
            let Some((image, of_image, loss)) = next else { return };
            let Some(judged) = self.attempt(context, || judge(&image, &of_image, loss, false)) else { return };
            (disk, model) = (judged.disk.crash_keep_all(), judged.model);
        }
    }
}

/// An operation of the run that the probe has made: any, or one of a kind that is chosen first, so that rare kinds are met too.
fn random_stop(random: &mut Random, probe: &SimStorage) -> u64 {
    if random.below(2) == 0 {
        return random.below(probe.operations() + 1);
    }
    let history = probe.history();
    let mut kinds: Vec<Operation> = Operation::ALL.into_iter().filter(|kind| history.contains(kind)).collect();
    // Rarest first; that one twice as likely as any other.
    kinds.sort_by_key(|kind| history.iter().filter(|of| *of == kind).count());
    let chosen = random.below(kinds.len() as u64 + 1).saturating_sub(1) as usize;
    let Some(&kind) = kinds.get(chosen) else { return 0 };
    let of_kind: Vec<usize> = (0..history.len()).filter(|at| history[*at] == kind).collect();
    // At it, or right after it.
    of_kind[random.below(of_kind.len() as u64) as usize] as u64 + random.below(2)
}

/// All combinations of fates, one after the other: where a choice decides which others there are, as they come.
struct Fates {
    /// Each choice and how many there were.
    taken: Vec<(u64, u64)>,
    at: usize,
    tears: bool,
}

impl Fates {
    const MOST: u64 = 1 << 12;

    /// `None` when there are too many.
    fn new(disk: &SimStorage) -> Option<Fates> {
        let pending = disk.pending();
        let writes = pending.iter().filter(|change| matches!(change.kind, ChangeKind::Write { .. })).count() as u32;
        let others = pending.len() as u32 - writes;
        // A file may have grown in two ways; without tears a write has two fates, else four.
        let files =
            pending.iter().filter(|change| matches!(change.kind, ChangeKind::Write { .. })).map(|change| &change.path);
        let growths = 2 * files.collect::<HashSet<_>>().len() as u32;
        let tears = 2 * writes + others + growths <= Fates::MOST.ilog2();
        let few = writes + others + growths <= Fates::MOST.ilog2();
        few.then_some(Fates { taken: Vec::new(), at: 0, tears })
    }

    fn choose(&mut self, change: &Change) -> Fate {
        let is_write = matches!(change.kind, ChangeKind::Write { length, .. } if length > 1);
        let of = if is_write && self.tears { 4 } else { 2 };
        if self.at == self.taken.len() {
            self.taken.push((0, of));
        }
        let (choice, _) = self.taken[self.at];
        self.at += 1;
        match choice {
            0 => Fate::Lost,
            1 => Fate::Kept,
            2 => Fate::Torn { unit_bytes: 512, seed: change.operation },
            _ => Fate::Torn { unit_bytes: 4096, seed: change.operation ^ 1 },
        }
    }

    /// The next combination; false after the last.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, of)) = self.taken.pop() {
            if choice + 1 < of {
                self.taken.push((choice + 1, of));
                return true;
            }
        }
        false
    }
}

/// An operation that is to fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedFault {
    pub(super) operation: Operation,
    pub(super) nth: u64,
    pub(super) errno: i32,
    pub(super) written: Option<usize>,
    pub(super) repeat: Repeat,
}

impl PlannedFault {
    /// Of a run that the probe has made without one. The kinds are equally likely, short writes among them.
    pub(super) fn random(random: &mut Random, probe: &SimStorage) -> Option<PlannedFault> {
        let counts = probe.counts();
        let kinds: Vec<Operation> = Operation::ALL
            .into_iter()
            .filter(|operation| counts[*operation as usize] > 0 && *operation != Operation::Store)
            .chain([Operation::Write])
            .collect();
        let at = random.below(kinds.len() as u64) as usize;
        let operation = kinds[at];
        Some(PlannedFault {
            operation,
            nth: random.below(counts[operation as usize].max(1)),
            errno: if random.below(2) == 0 { libc::EIO } else { libc::ENOSPC },
            written: (at + 1 == kinds.len()).then(|| 1 + random.below(600) as usize),
            repeat: if random.below(3) == 0 { Repeat::Forever } else { Repeat::Once },
        })
    }

    pub(super) fn plan(&self, disk: &SimStorage) {
        match self.written {
            Some(written) => disk.fail_short(self.nth, written, self.errno, self.repeat),
            None => disk.fail(self.operation, self.nth, self.errno, self.repeat),
        }
    }
}
