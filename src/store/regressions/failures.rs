//! What a refused or interrupted call leaves behind must not be met again later.

use super::*;
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
