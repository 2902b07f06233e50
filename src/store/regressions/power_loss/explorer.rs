//! Runs workloads, loses what may be lost, and holds what is left against the model.

use super::*;

pub(super) fn consumer_options() -> CursorOptions {
    CursorOptions { checkpoint_id: Some(String::from("c")), ..CursorOptions::default() }
}

pub(super) const AT: &str = "/s";

pub(super) fn options_on(disk: &SimStorage) -> StoreOptions {
    // Time goes on by one microsecond per operation of the disk: a run is the same each time.
    let clock_disk = disk.clone();
    StoreOptions { clock: WallClock::custom(move || 1_000_000 + clock_disk.operations() as i64), ..sim(disk) }
}

pub(super) fn open(disk: &SimStorage) -> Result<Store> {
    Store::open(Path::new(AT), &options_on(disk))
}

/// Runs the steps until one fails, and counts in the model what was acknowledged.
pub(super) fn run(disk: &SimStorage, steps: &[Step], model: &mut Model) -> Result<()> {
    let mut store = open(disk)?;
    let mut cursor = None;
    for step in steps {
        match *step {
            Step::Append { events, bytes, durability } => {
                let items = model.try_batch(events, bytes);
                let items: Vec<_> = items.iter().map(|(entity, payload)| event(entity, payload)).collect();
                let appended = store.append(&items, Some(durability), &mut []);
                if appended.is_err() && !store.inner.latch.is_tripped() {
                    // A clean refusal: nothing was appended.
                    let before = model.tried.len() as u64 - events;
                    assert_eq!(store.watermarks().appended, before, "a refused append used sequences");
                    model.ends.remove(&(before + events));
                    model.tried.truncate(before as usize);
                }
                appended?;
                if disk.is_crashed() {
                    // A store through the mapping was where everything stopped: nobody was there to be told.
                    return Err(Error::Closed { what: "process" });
                }
                model.acknowledged = model.tried.len() as u64;
                if durability == Durable {
                    model.all_durable();
                }
            }
            Step::Fence { events, bytes, commit } => run_fence(disk, &store, model, events, bytes, commit)?,
            Step::Sync => {
                store.sync()?;
                model.acknowledged = model.tried.len() as u64;
                model.all_durable();
            }
            Step::Checkpoint => {
                let cursor = match &cursor {
                    Some(cursor) => cursor,
                    None => &*cursor.insert(Cursor::open(&store, Region::all(), &consumer_options())?),
                };
                cursor.poll(3, 0, PollTimeout::Never)?;
                model.committing = cursor.position()?.next_sequence;
                cursor.checkpoint()?;
                model.committed = model.committing;
                model.durable = model.durable.max(model.committed);
            }
            Step::Reopen => {
                cursor = None;
                store.close(SECOND)?;
                model.acknowledged = model.tried.len() as u64;
                model.all_durable();
                drop(store);
                store = open(disk)?;
            }
            Step::Abandon => {
                cursor = None;
                drop(store);
                store = open(disk)?;
            }
        }
    }
    drop(cursor);
    store.close(SECOND)?;
    model.acknowledged = model.tried.len() as u64;
    model.all_durable();
    Ok(())
}

pub(super) fn run_fence(
    disk: &SimStorage,
    store: &Store,
    model: &mut Model,
    events: u64,
    bytes: usize,
    commit: Option<Durability>,
) -> Result<()> {
    let fence = store.begin_fence(&FenceOptions::default())?;
    model.fences.push(Seen::No);
    let name = entity(FENCED);
    for at in 0..events {
        let payload = model.try_fenced(bytes);
        fence.append(&[event(&name, &payload)], &mut [])?;
        if at + 1 < events {
            let items = model.try_batch(1, 50);
            store.append(&[event(&items[0].0, &items[0].1)], Some(Process), &mut [])?;
            if disk.is_crashed() {
                return Err(Error::Closed { what: "process" });
            }
            model.acknowledged = model.tried.len() as u64;
        }
    }
    let number = model.fences.len() - 1;
    match commit {
        None => fence.cancel(),
        Some(durability) => {
            model.fences[number] = Seen::Perhaps;
            fence.commit(Some(durability))?;
            if disk.is_crashed() {
                return Err(Error::Closed { what: "process" });
            }
            model.fences[number] = Seen::AfterKill;
            model.acknowledged = model.tried.len() as u64;
            if durability == Durable {
                model.all_durable();
            }
            Ok(())
        }
    }
}

/// Opens what a crash left, checks it, goes on with it, and crashes the opening at each of its own operations.
pub(super) fn check_crash(disk: &SimStorage, model: &Model, (least, loss): (u64, Loss), depth: u32, what: &str) {
    let crashed_model = model;
    let mut model = model.clone();
    let before = disk.crash_keep_all();
    let store = open(disk).unwrap_or_else(|error| panic!("{what}: does not open: {error}"));
    let end = model.check(&store, least, loss, what);
    model.check_checkpoint(&store, disk_is_durable(&before), what);
    let opened = disk.operations();
    if depth > 0 {
        // Recovery that is stopped anywhere leaves files with the same result.
        for operation in 0..opened {
            let what = format!("{what}, recovery stopped at {operation}");
            let again = before.crash_keep_all();
            again.crash_at(operation);
            drop(open(&again));
            check_crash(&again.crash_keep_all(), &model, (end, Loss::Kill), 0, &format!("{what} by a kill"));
            let seed = operation * 7 + u64::from(depth);
            // A kill left unsynced bytes in the page cache, which a power loss may still take.
            let (known, least) = if disk_is_durable(&before) { (&model, end) } else { (crashed_model, model.durable) };
            check_crash(
                &again.crash(seed),
                known,
                (least, Loss::Power),
                depth - 1,
                &format!("{what} by power loss {seed}"),
            );
        }
    }
    // What was recovered is durable, and goes on.
    model.settle(end);
    let crashed = disk.crash_with(&mut |_| Fate::Lost);
    let store_again = open(&crashed).unwrap_or_else(|error| panic!("{what}: does not open again: {error}"));
    model.check(&store_again, end, Loss::Power, &format!("{what}, everything unsynced lost after recovery"));
    drop(store_again);
    let items = model.try_batch(2, 700);
    let items: Vec<_> = items.iter().map(|(entity, payload)| event(entity, payload)).collect();
    store.append(&items, Some(Durable), &mut []).unwrap_or_else(|error| panic!("{what}: appends no more: {error}"));
    model.check(&store, end + 2, Loss::Kill, what);
    let crashed = disk.crash_with(&mut |_| Fate::Lost);
    let store = open(&crashed).unwrap_or_else(|error| panic!("{what}: does not open after going on: {error}"));
    model.check(&store, end + 2, Loss::Power, &format!("{what}, after going on"));
    store.close(SECOND).unwrap();
}

pub(super) fn disk_is_durable(disk: &SimStorage) -> bool {
    disk.pending().is_empty()
}

/// Stops the workload at each of its operations, then kills or cuts the power in several ways.
pub(super) fn crash_everywhere(steps: &[Step], seeds: u64, depth: u32) {
    let counting = SimStorage::new(0);
    run(&counting, steps, &mut Model::default()).unwrap();
    for operation in 0..=counting.operations() {
        let disk = SimStorage::new(operation);
        disk.crash_at(operation);
        let mut model = Model::default();
        let _ = run(&disk, steps, &mut model);
        let what = format!("{steps:?} stopped at {operation}");
        let (kill, power) = ((model.acknowledged, Loss::Kill), (model.durable, Loss::Power));
        check_crash(&disk.crash_keep_all(), &model, kill, depth, &format!("{what} by a kill"));
        let lost = disk.crash_with(&mut |_| Fate::Lost);
        check_crash(&lost, &model, power, depth, &format!("{what}, everything unsynced lost"));
        for seed in 0..seeds {
            let what = format!("{what} by power loss {seed}");
            check_crash(&disk.crash(seed), &model, power, depth.min((seed == 0).into()), &what);
        }
    }
}
