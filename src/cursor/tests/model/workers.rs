//! Workers against the model, a round at a time and without their threads. A handler answers what was drawn, and tells what it was
//! given.

use std::ops::ControlFlow;
use std::sync::Mutex;

use super::checks::{Seen, seen};
use super::consumers::{GapQueue, check_given};
use super::oracle::Want;
use super::world::World;
use super::*;
use crate::cursor::worker::{Seed, Shared, Supervisor};
use crate::cursor::{Delivery, GapList, Outcome, RestartPolicy, WorkerOptions};

const RETRIES_MAX: u32 = 2;
const RESTARTS_MAX: u32 = 2;

/// What a handler does with its batch, of which it says that so many of a hundred parts are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Continue,
    Stop,
    StopWithRollback,
    Retry(usize),
    Fail(usize),
    Panic(usize),
}

/// What a handler was given.
struct Given {
    events: Vec<Seen>,
    attempt: u32,
    gaps: GapList,
    id: Option<String>,
    done: usize,
}

#[derive(Default)]
struct Script {
    answer: Option<Answer>,
    given: Option<Given>,
}

/// A worker in the model, and its supervisor while it runs.
pub(super) struct ModelWorker {
    saved: Option<usize>,
    want: Want,
    supervisor: Option<Supervisor>,
    script: Arc<Mutex<Script>>,
    batch_events: usize,
    gaps: GapQueue,
    next: u64,
    committed: u64,
    retries: u32,
    restarts: u32,
    redelivery: Option<usize>,
    attempts: (u64, u32),
}

impl ModelWorker {
    pub(super) fn new(saved: Option<usize>, want: Want) -> ModelWorker {
        ModelWorker {
            saved,
            want,
            supervisor: None,
            script: Arc::default(),
            batch_events: 1,
            gaps: GapQueue::default(),
            next: 0,
            committed: 0,
            retries: 0,
            restarts: 0,
            redelivery: None,
            attempts: (0, 0),
        }
    }

    pub(super) fn end(&mut self) {
        self.supervisor = None;
    }

    fn handler(&self) -> impl FnMut(&Delivery<'_>) -> Outcome + Send + use<> {
        let script = self.script.clone();
        move |delivery: &Delivery<'_>| {
            let mut script = script.lock().unwrap();
            let answer = script.answer.expect("an answer was drawn");
            let done = match answer {
                Answer::Retry(percent) | Answer::Fail(percent) | Answer::Panic(percent) => {
                    delivery.batch().len() * percent / 100
                }
                _ => 0,
            };
            delivery.set_done(done).unwrap();
            script.given = Some(Given {
                events: delivery.batch().iter().map(seen).collect(),
                attempt: delivery.attempt(),
                gaps: delivery.gaps().clone(),
                id: delivery.checkpoint_id().map(str::to_owned),
                done,
            });
            drop(script);
            let message = String::from("drawn");
            match answer {
                Answer::Continue => Outcome::Continue,
                Answer::Stop => Outcome::Stop,
                Answer::StopWithRollback => Outcome::StopWithRollback,
                Answer::Retry(_) => Outcome::Retry { message },
                Answer::Fail(_) => Outcome::Fail { message },
                // A panic that no hook prints.
                Answer::Panic(_) => std::panic::resume_unwind(Box::new(message)),
            }
        }
    }
}

/// How a round was to end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    GoesOn,
    Stopped,
    BudgetExhausted,
}

impl World {
    /// A round of a worker, or its start.
    pub(super) fn step_worker(&mut self) {
        let at = self.random.below(self.workers.len());
        if self.workers[at].supervisor.is_none() {
            self.start_worker(at);
        } else if self.random.chance(4) {
            self.note(|| format!("drop worker {at}"));
            self.workers[at].end();
        } else {
            self.tick(at);
        }
    }

    fn start_worker(&mut self, at: usize) {
        let (capacity, batch_events) = (self.random.one_of(&[0, 1, 100]), 1 + self.random.below(6));
        self.note(|| format!("start worker {at}, batches of {batch_events}, gaps {capacity}"));
        let worker = &mut self.workers[at];
        let options = WorkerOptions {
            batch_events,
            idle_wait: Duration::ZERO,
            restart: RestartPolicy::Bounded { max_restarts: RESTARTS_MAX, within_ms: 3_600_000 },
            checkpoint_id: worker.saved.map(|saved| self.saved[saved].id.to_owned()),
            retries_max: RETRIES_MAX,
            retry_backoff_ms: 0,
            gap_capacity: capacity,
            ..WorkerOptions::default()
        };
        let handler = Box::new(worker.handler());
        let region = worker.want.region();
        let store = self.store().clone();
        let opened = Supervisor::open(Arc::new(Shared::new(&store)), Seed { store, region, options, handler });
        let Some(supervisor) = self.answer(opened) else { return };
        let next = self.workers[at].saved.map_or(0, |saved| self.saved[saved].places[0]);
        self.counts.resumed += u64::from(next > 0);
        let worker = &mut self.workers[at];
        worker.supervisor = Some(supervisor);
        (worker.next, worker.committed, worker.batch_events) = (next, next, batch_events);
        (worker.retries, worker.restarts, worker.redelivery, worker.attempts) = (0, 0, None, (0, 0));
        worker.gaps = GapQueue::of(capacity);
    }

    fn draw_answer(&mut self) -> Answer {
        let done = self.random.one_of(&[0, 0, 30, 60, 100]);
        match self.random.below(100) {
            0..60 => Answer::Continue,
            60..64 => Answer::Stop,
            64..68 => Answer::StopWithRollback,
            68..84 => Answer::Retry(done),
            84..96 => Answer::Fail(done),
            _ => Answer::Panic(done),
        }
    }

    fn tick(&mut self, at: usize) {
        let answer = self.draw_answer();
        self.note(|| format!("a round of worker {at}, whose handler would say {answer:?}"));
        let worker = &mut self.workers[at];
        *worker.script.lock().unwrap() = Script { answer: Some(answer), given: None };
        let round = worker.supervisor.as_mut().expect("it runs").tick();
        let given = worker.script.lock().unwrap().given.take();
        let Some(given) = given else {
            if !self.is_stopped() {
                let worker = &self.workers[at];
                assert_eq!(self.oracle.due(&worker.want, worker.next), [], "worker {at} was not given what is due");
                assert!(matches!(round, ControlFlow::Continue(())), "{round:?}");
            }
            return;
        };
        self.check_delivery(at, &given);
        let (end, committed) = self.workers[at].take(answer, &given);
        if self.is_stopped() {
            let saved = self.workers[at].saved;
            return self.may_have_saved(saved, committed);
        }
        let told = match round {
            ControlFlow::Continue(()) => End::GoesOn,
            ControlFlow::Break(Ok(())) => End::Stopped,
            ControlFlow::Break(Err(Error::RestartBudgetExhausted { .. })) => End::BudgetExhausted,
            ControlFlow::Break(Err(error)) => panic!("worker {at}: {error}"),
        };
        assert_eq!(told, end, "worker {at} after {answer:?}");
        if let (Some(saved), Some(next)) = (self.workers[at].saved, committed) {
            self.saved[saved].places = vec![next];
            self.oracle.committed_below(next);
        }
        if end != End::GoesOn {
            self.workers[at].end();
        }
    }

    fn may_have_saved(&mut self, saved: Option<usize>, place: Option<u64>) {
        if let (Some(saved), Some(place)) = (saved, place) {
            self.saved[saved].places.push(place);
        }
    }

    /// What the handler was given is what is due.
    fn check_delivery(&mut self, at: usize, given: &Given) {
        let worker = &mut self.workers[at];
        let limit = worker.redelivery.unwrap_or(worker.batch_events);
        let sequences = check_given(&self.oracle, &worker.want, worker.next, &given.events, limit, true);
        worker.gaps.observe(&self.oracle, worker.next, &sequences);
        self.counts.gaps += given.gaps.gaps.len() as u64;
        assert_eq!(given.gaps, worker.gaps.take(), "gaps of worker {at}");
        let again = if worker.attempts.0 == sequences[0] { worker.attempts.1 } else { 0 };
        worker.attempts = (sequences[0], again + 1);
        assert_eq!(given.attempt, again + 1, "the attempt of worker {at}");
        assert_eq!(given.id.as_deref(), worker.saved.map(|saved| self.saved[saved].id));
        self.counts.delivered += sequences.len() as u64;
    }
}

impl ModelWorker {
    /// Does what an answer asks for. Returns how the round ends, and what was committed.
    fn take(&mut self, answer: Answer, given: &Given) -> (End, Option<u64>) {
        let after = |event: &Seen| event.sequence + 1;
        let before = self.next;
        self.next = given.events.last().map_or(before, after);
        let done = given.done.checked_sub(1).map(|last| after(&given.events[last]));
        match answer {
            Answer::Continue | Answer::Stop => {
                let next = self.next;
                self.commit(next);
                (if answer == Answer::Stop { End::Stopped } else { End::GoesOn }, Some(next))
            }
            Answer::StopWithRollback => (End::Stopped, None),
            Answer::Retry(_) | Answer::Fail(_) | Answer::Panic(_) => {
                if let Some(next) = done {
                    self.commit(next);
                }
                let is_retry = matches!(answer, Answer::Retry(_));
                (if is_retry { self.retry(given.events.len() - given.done) } else { self.fail() }, done)
            }
        }
    }

    fn commit(&mut self, next: u64) {
        (self.committed, self.retries, self.redelivery) = (next, 0, None);
    }

    fn retry(&mut self, left: usize) -> End {
        if left == 0 {
            return End::GoesOn;
        }
        if self.retries >= RETRIES_MAX {
            return self.fail();
        }
        self.retries += 1;
        (self.next, self.redelivery) = (self.committed, Some(left));
        End::GoesOn
    }

    fn fail(&mut self) -> End {
        (self.next, self.retries, self.redelivery) = (self.committed, 0, None);
        if self.restarts == RESTARTS_MAX {
            return End::BudgetExhausted;
        }
        self.restarts += 1;
        End::GoesOn
    }
}
