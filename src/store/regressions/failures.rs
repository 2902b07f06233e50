//! What a refused or interrupted call leaves behind must not be met again later.

use super::*;
use crate::format::frame;
use crate::io::sim::Operation;

/// Guards: a rotation that fails behind its rename (no descriptor is left) leaves a segment file under its final name. Later events of
/// the old segment lie beyond its base: after the next rotation and a reopening they could not be read any more.
#[test]
fn a_refused_rotation_leaves_no_segment_behind() {
    for operation in [Operation::Open, Operation::Rename, Operation::Create, Operation::Write] {
        let disk = SimStorage::new(1);
        let store = open_sim(&disk);
        append(&store, "a", b"zero", Durability::Storage).unwrap();
        disk.fail(operation, 0, libc::EMFILE, Repeat::Once);
        assert!(append(&store, "a", &vec![9; 1_100_000], Durability::Storage).is_err(), "{operation:?}");
        disk.heal();
        append(&store, "a", b"one", Durability::Storage).unwrap();
        append(&store, "a", &vec![2; 1_100_000], Durability::Storage).unwrap();
        append(&store, "a", b"three", Durability::Storage).unwrap();
        let expected = payloads(&store);
        assert_eq!(expected.len(), 4);
        for disk in [disk.crash_keep_all(), disk.crash_with(&mut |_| Fate::Lost)] {
            assert!(payloads(&open_sim(&disk)) == expected, "{operation:?}");
        }
        store.close(SECOND).unwrap();
        let store = open_sim(&disk);
        assert!(payloads(&store) == expected, "{operation:?}");
        assert_eq!(store.stats().cut_bytes, 0, "{operation:?}");
    }
}

/// Guards: a kill between the CLOSE frame and its sync. The next opening finds it in the page cache and writes its EPOCH frame behind
/// it; a power loss that takes the one and keeps the other was then taken for damage, for ever.
#[test]
fn an_epoch_is_not_begun_behind_a_close_that_is_not_durable() {
    let life = |disk: &SimStorage| {
        let store = open_sim(disk);
        append(&store, "a", b"first", Durability::Storage)?;
        store.close(SECOND)
    };
    let second = |disk: &SimStorage| {
        let store = Store::open(Path::new(AT), &sim(disk))?;
        append(&store, "a", b"second", Durability::Storage)
    };
    let counting = SimStorage::new(1);
    life(&counting).unwrap();
    for killed_at in counting.operations() - 12..counting.operations() {
        let disk = SimStorage::new(1);
        disk.crash_at(killed_at);
        let _ = life(&disk);
        let killed = disk.crash_keep_all();
        let counting = killed.crash_keep_all();
        second(&counting).unwrap();
        for at in 0..counting.operations() {
            let disk = killed.crash_keep_all();
            disk.crash_at(at);
            let _ = second(&disk);
            for seed in 0..24 {
                let crashed = disk.crash(seed);
                let opened = Store::open(Path::new(AT), &sim(&crashed));
                assert!(opened.is_ok(), "killed at {killed_at}, power lost at {at}, seed {seed}: {:?}", opened.err());
            }
        }
    }
}

/// Guards: an event whose time goes back ends the log, but was counted: everything appended behind it stood one place off in the index.
#[test]
fn a_frame_that_breaks_the_order_of_time_is_cut_before_it_counts() {
    let disk = SimStorage::new(1);
    let store = open_sim(&disk);
    append(&store, "a", b"kept", Durability::Storage).unwrap();
    let (offset, seed, earlier) = {
        let guard = store.inner.lock_appender();
        let appender = guard.as_ref().unwrap();
        (appender.tail.offset(), appender.tail.seed(), appender.last_time_us - 1)
    };
    let payload = b"of another clock";
    let fields = frame::EventFields {
        sequence: 1,
        clock: 1,
        time_us: earlier,
        prev_sequence: 0,
        kind: 0x1001,
        schema: 0,
        more: false,
        continued: false,
        entity: b"a",
        scope: b"s",
        correlation: frame::Correlation::Own,
        causes: &[],
        payload,
        payload_crc: crc32c::crc32c(payload),
        key: None,
        fence: None,
    };
    let mut bytes = vec![0; frame::event_length_max(1, 1, 0, payload.len())];
    let length = frame::encode_event(&mut bytes, &fields, seed, store.id().tag());
    let disk = disk.crash_keep_all();
    let file = disk.open_write(&segment_path(0)).unwrap().unwrap();
    file.write_at(&bytes[..length], offset).unwrap();
    let store = open_sim(&disk);
    assert_eq!(store.watermarks().appended, 1);
    append(&store, "a", b"after", Durability::Storage).unwrap();
    assert_eq!(payloads(&store), [&b"kept"[..], b"after"]);
    assert_eq!(payloads(&open_sim(&disk.crash_keep_all())), [&b"kept"[..], b"after"]);
}
