//! R15: no wake-up is lost, on the machine's own memory and scheduler: two threads play ping-pong through the real library, each asleep
//! without a timeout until the other has appended. A lost wake-up is a game that stands still.
//!
//! What the models (tests/models) try in all orders is here tried very often, with the orders that the hardware makes.

#[path = "common/reliability.rs"]
mod reliability;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use batpak::cursor::{Cursor, CursorOptions, Delivery, Outcome, PollTimeout, Polled, Worker, WorkerOptions};
use batpak::event::Region;
use batpak::store::{Waited, Watermark};
use batpak::{Durability, NewEvent, Store, StoreOptions};

/// A game that does not move for so long stands still, on however busy a machine.
const STANDSTILL: Duration = Duration::from_secs(300);

/// One store of a game, the events of one side.
#[derive(Clone)]
struct Side {
    store: Store,
    cursor: Cursor,
    durability: Durability,
}

impl Side {
    fn new(directory: &tempfile::TempDir, name: &str, durability: Durability) -> Side {
        let store = Store::open(&directory.path().join(name), &StoreOptions::default()).unwrap();
        let cursor = Cursor::open(&store, Region::all(), &CursorOptions::default()).unwrap();
        Side { store, cursor, durability }
    }

    fn append(&self) {
        let event = NewEvent { entity: b"e", scope: b"s", kind: 0x1001, payload: b"ping", ..NewEvent::default() };
        self.store.append(&[event], Some(self.durability), &mut []).unwrap();
    }
}

/// Returns once the side has `bound` events, asleep until then.
type Wait = fn(&Side, bound: u64);

struct Game {
    name: &'static str,
    durability: Durability,
    wait: Wait,
}

const GAMES: [Game; 7] = [
    Game { name: "polls", durability: Durability::Process, wait: poll },
    Game { name: "polls for STORAGE", durability: Durability::Storage, wait: poll },
    Game { name: "descriptors of cursors", durability: Durability::Process, wait: watch_cursor },
    Game { name: "wake functions", durability: Durability::Process, wait: park },
    Game { name: "waits for visible", durability: Durability::Process, wait: wait_visible },
    Game { name: "waits for durable", durability: Durability::Process, wait: wait_durable },
    Game { name: "descriptors of durable", durability: Durability::Process, wait: watch_durable },
];

fn poll(side: &Side, bound: u64) {
    while side.cursor.position().unwrap().next_sequence < bound {
        let polled = side.cursor.poll(8, 0, PollTimeout::Forever).unwrap();
        assert!(matches!(polled, Polled::Batch(_)), "{polled:?}");
    }
}

fn watch(fd: i32) {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    while unsafe { libc::poll(&raw mut entry, 1, -1) } != 1 {}
}

fn watch_cursor(side: &Side, bound: u64) {
    let fd = side.cursor.notify_fd().unwrap();
    while side.cursor.position().unwrap().next_sequence < bound {
        watch(fd);
        side.cursor.poll(8, 0, PollTimeout::Never).unwrap();
    }
}

fn park(side: &Side, bound: u64) {
    thread_local! {
        static WOKEN: Arc<AtomicBool> = Arc::new(AtomicBool::new(false));
    }
    let woken = WOKEN.with(Arc::clone);
    if bound == 1 {
        let (woken, sleeper) = (woken.clone(), thread::current());
        let wake = move || {
            woken.store(true, Ordering::SeqCst);
            sleeper.unpark();
        };
        side.cursor.set_wake(Some(Box::new(wake))).unwrap();
    }
    loop {
        // Until there is nothing: then the function is called again.
        while let Polled::Batch(_) = side.cursor.poll(8, 0, PollTimeout::Never).unwrap() {}
        if side.cursor.position().unwrap().next_sequence >= bound {
            return;
        }
        while !woken.swap(false, Ordering::SeqCst) {
            thread::park();
        }
    }
}

fn wait_visible(side: &Side, bound: u64) {
    assert_eq!(side.store.wait(Watermark::Visible, bound, None).unwrap(), Waited::Reached);
}

fn wait_durable(side: &Side, bound: u64) {
    assert_eq!(side.store.wait(Watermark::Durable, bound, None).unwrap(), Waited::Reached);
}

fn watch_durable(side: &Side, bound: u64) {
    let fd = side.store.durable_fd().unwrap();
    while side.store.wait(Watermark::Durable, bound, Some(Duration::ZERO)).unwrap() == Waited::TimedOut {
        watch(fd);
    }
}

/// A place where a sync costs little, if there is one: what is looked at is the race between who waits and who wakes.
fn directory() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    tempfile::tempdir_in(&memory).or_else(|_| tempfile::tempdir()).unwrap()
}

/// A few hundred nanoseconds at most, so that the other side is met at every step of falling asleep.
fn dawdle(random: &mut u64) {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    for _ in 0..(*random >> 33) % 256 {
        std::hint::spin_loop();
    }
}

/// Runs the sides of a game to their end, and fails when it stands still: with how far it has come.
fn referee(name: &str, seed: u64, woken: &Arc<AtomicU64>, sides: Vec<Box<dyn FnOnce() + Send>>) {
    let (ended, has_ended) = channel();
    let mut playing = sides.len();
    for side in sides {
        let ended = ended.clone();
        thread::spawn(move || {
            side();
            ended.send(()).unwrap();
        });
    }
    drop(ended);
    let (mut last, mut since) = (0, Instant::now());
    while playing > 0 {
        match has_ended.recv_timeout(Duration::from_secs(1)) {
            Ok(()) => playing -= 1,
            Err(RecvTimeoutError::Timeout) => {
                let now = woken.load(Ordering::Relaxed);
                if now != last {
                    (last, since) = (now, Instant::now());
                }
                if since.elapsed() > STANDSTILL {
                    reliability::report("R15", now, 1, seed, &format!("wake-ups: {name}"));
                    panic!("{name}: a wake-up is lost after {now}, RELIABILITY_SEED={seed:#x}");
                }
            }
            Err(RecvTimeoutError::Disconnected) => panic!("{name}: a side has panicked"),
        }
    }
    reliability::report("R15", woken.load(Ordering::Relaxed), 0, seed, &format!("wake-ups: {name}"));
}

/// One side: waits for the other's n-th event, and appends its own.
fn play(wait: Wait, (own, other): (Side, Side), serves: bool, rounds: u64, woken: Arc<AtomicU64>, mut random: u64) {
    for round in 1..=rounds {
        if serves {
            own.append();
        }
        wait(&other, round);
        woken.fetch_add(1, Ordering::Relaxed);
        dawdle(&mut random);
        if !serves {
            own.append();
        }
    }
}

fn ping_pong(game: &Game, rounds: u64, seed: u64) {
    let directory = directory();
    let (ping, pong) = (Side::new(&directory, "ping", game.durability), Side::new(&directory, "pong", game.durability));
    let woken = Arc::new(AtomicU64::new(0));
    let side = |own: &Side, other: &Side, serves: bool| -> Box<dyn FnOnce() + Send> {
        let (wait, pair, woken) = (game.wait, (own.clone(), other.clone()), woken.clone());
        Box::new(move || play(wait, pair, serves, rounds, woken, seed ^ u64::from(serves)))
    };
    referee(game.name, seed, &woken, vec![side(&ping, &pong, true), side(&pong, &ping, false)]);
    ping.store.close(STANDSTILL).unwrap();
    pong.store.close(STANDSTILL).unwrap();
}

/// A worker whose sleep no timeout ends answers each event; the other side polls.
fn workers(rounds: u64, seed: u64) {
    let directory = directory();
    let (ping, pong) =
        (Side::new(&directory, "ping", Durability::Process), Side::new(&directory, "pong", Durability::Process));
    let woken = Arc::new(AtomicU64::new(0));
    let (answers, by_worker, mut random) = (pong.clone(), woken.clone(), seed);
    let handler = move |delivery: &Delivery<'_>| {
        for _ in delivery.batch().events() {
            by_worker.fetch_add(1, Ordering::Relaxed);
            dawdle(&mut random);
            answers.append();
        }
        Outcome::Continue
    };
    let options = WorkerOptions { idle_wait: Duration::MAX, ..WorkerOptions::default() };
    let worker = Worker::start(&ping.store, Region::all(), options, handler).unwrap();
    let server: Box<dyn FnOnce() + Send> = {
        let (ping, pong, woken) = (ping.clone(), pong.clone(), woken.clone());
        Box::new(move || play(poll, (ping, pong), true, rounds, woken, seed))
    };
    referee("workers", seed, &woken, vec![server]);
    worker.stop_and_join(None).unwrap();
    ping.store.close(STANDSTILL).unwrap();
    pong.store.close(STANDSTILL).unwrap();
}

/// Three threads commit in groups: each return of an append that another's sync has covered is a wake-up.
fn group_commits(appends: u64, seed: u64) {
    let directory = directory();
    let side = Side::new(&directory, "store", Durability::Storage);
    let woken = Arc::new(AtomicU64::new(0));
    let appenders = (0..3).map(|thread| -> Box<dyn FnOnce() + Send> {
        let (side, woken, mut random) = (side.clone(), woken.clone(), seed ^ thread);
        Box::new(move || {
            for _ in 0..appends / 3 {
                side.append();
                woken.fetch_add(1, Ordering::Relaxed);
                dawdle(&mut random);
            }
        })
    });
    referee("group commits", seed, &woken, appenders.collect());
    side.store.close(STANDSTILL).unwrap();
}

#[test]
fn row_r15_no_wake_up_is_lost() {
    let (trials, seed) = (reliability::trials(50_000), reliability::seed(0x5EED));
    // One after the other: each has the two cores for itself.
    let share = trials.div_ceil(GAMES.len() as u64 + 2);
    for game in &GAMES {
        ping_pong(game, share.div_ceil(2), seed);
    }
    workers(share.div_ceil(2), seed);
    group_commits(share.next_multiple_of(3), seed);
}
