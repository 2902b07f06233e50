//! Ends of a life and beginnings of the next one: closes, kills, power losses, stops in the midst of any step, and of recovery.

use super::checks::read;
use super::world::World;
use super::*;
use crate::event::Region;

/// Stops in a row that one recovery meets.
const RECOVERY_DEPTH: usize = 3;

impl World {
    pub(super) fn close(&mut self) {
        self.note(|| String::from("close"));
        let closed = self.store().close(Duration::from_secs(60));
        let heard = self.answer(closed).is_some();
        if heard {
            self.oracle.acknowledge_all();
        }
    }

    pub(super) fn sync(&mut self) {
        self.note(|| String::from("sync"));
        let synced = self.store().sync();
        if self.answer(synced).is_some() {
            self.oracle.acknowledge_all();
        }
    }

    /// Dies here, or where the disk has stopped already, and comes back.
    pub(super) fn crash(&mut self) {
        let power_loss = self.survive();
        self.end();
        self.reopen(power_loss);
    }

    /// What a kill or a power loss leaves becomes the disk. Returns which one it was.
    fn survive(&mut self) -> bool {
        let (power_loss, seed) = (self.random.chance(60), self.random.next());
        self.note(|| if power_loss { format!("power loss, {seed:#x}") } else { String::from("kill") });
        self.disk = if power_loss { self.disk.crash(seed) } else { self.disk.crash_keep_all() };
        self.counts.crashes += 1;
        power_loss
    }

    /// Lets a step come to the disk's n-th operation from here and no further.
    pub(super) fn stopped(&mut self, step: impl FnOnce(&mut World)) {
        // Mostly soon: few steps take many operations.
        let bound = 1 + self.random.below(12);
        let within = self.random.below(bound) as u64;
        self.note(|| format!("the disk stops at its operation {within} from here:"));
        self.disk.crash_at(self.disk.operations() + within);
        step(self);
        self.counts.in_midst += u64::from(self.is_stopped());
        self.crash();
    }

    /// All handles of this life go; what is undecided is cancelled.
    pub(super) fn end(&mut self) {
        self.readers.iter_mut().for_each(|reader| reader.end());
        self.workers.iter_mut().for_each(|worker| worker.end());
        self.fences.clear();
        self.counts.seals += self.store.as_ref().map_or(0, Store::seals);
        self.store = None;
        self.oracle.end();
    }

    pub(super) fn reopen(&mut self, mut power_loss: bool) {
        for _ in 0..RECOVERY_DEPTH {
            if !self.random.chance(25) {
                break;
            }
            let within = self.random.below(12) as u64;
            self.note(|| format!("recovery stops at its operation {within}:"));
            self.disk.crash_at(self.disk.operations() + within);
            let opened = self.open(false);
            let stopped = self.is_stopped();
            assert!(stopped || opened.is_ok(), "the store does not open: {opened:?}");
            drop(opened);
            self.counts.in_recovery += u64::from(stopped);
            power_loss |= self.survive();
        }
        let looked = self.random.chance(25).then(|| live(&self.open(true).expect("it opens for reading")));
        let store = self.open(false).unwrap_or_else(|error| panic!("the store does not open: {error}"));
        let visible = live(&store);
        assert!(looked.is_none_or(|looked| looked == visible), "an opening for reading shows other events");
        self.oracle.reopened(store.watermarks().appended as usize, &visible, power_loss);
        for at in 0..self.oracle.log.len() {
            if self.oracle.log[at].unheard {
                let id = store.event_id_at(at as u64).expect("readable").expect("an event");
                let time_us = store.get(at as u64).expect("readable").map_or(0, |batch| batch.event(0).time_us());
                self.oracle.hear(at, id, time_us);
            }
        }
        self.store = Some(store);
        self.check_saved();
    }
}

/// Sequences of the live events.
fn live(store: &Store) -> Vec<u64> {
    read(store, &Region::all()).iter().map(|event| event.sequence).collect()
}
