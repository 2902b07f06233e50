//! Idempotency keys: who appends with a key that another is just using appends nothing.

use super::*;

fn append_with_key(store: &Store, key: &[u8], payload: &[u8], durability: Durability) -> Result<Receipt> {
    let mut receipts = [Receipt::default()];
    let event = NewEvent { entity: b"e", scope: b"s", kind: 0x1001, payload, key, ..NewEvent::default() };
    store.append(&[event], Some(durability), &mut receipts)?;
    Ok(receipts[0])
}

#[test]
fn row_r15_one_key_is_one_event() {
    model("three threads with one idempotency key").run(|| {
        let (disk, store) = new_store();
        let appenders = (0..3).map(|_| {
            let (disk, store) = (disk.clone(), store.clone());
            thread::spawn(move || {
                append(&store, "other", any_durability());
                let durability = any_durability();
                let receipt = append_with_key(&store, &[b'k'; 16], b"same", durability).unwrap();
                (receipt, (durability == Durability::Storage).then(|| power_loss(&disk)))
            })
        });
        let answers = join(appenders.collect());
        let (first, _) = answers[0];
        assert_eq!(answers.iter().filter(|(receipt, _)| !receipt.duplicate).count(), 1, "appended once");
        for (receipt, image) in answers {
            assert_eq!((receipt.sequence, receipt.id), (first.sequence, first.id));
            if let Some(image) = image {
                assert!(events_on(&image) > receipt.sequence, "a duplicate was acknowledged and is lost");
            }
        }
        assert_eq!(store.watermarks().appended, 4);
        store.close(FOREVER).unwrap();
    });
}

/// The same across a rotation: the key moves from memory to a sealed index between two looks.
#[test]
fn row_r15_one_key_is_one_event_across_segments() {
    model("one idempotency key while segments are left and sealed").with_cost(4).run(|| {
        let (_disk, store) = new_store();
        let filler = {
            let store = store.clone();
            thread::spawn(move || {
                for _ in 0..3 {
                    append_payload(&store, "big", &[b'x'; 600_000], Durability::Process).unwrap();
                }
            })
        };
        let appenders = (0..2).map(|_| {
            let store = store.clone();
            thread::spawn(move || {
                let first = append_with_key(&store, &[b'k'; 16], b"same", Durability::Process).unwrap();
                let second = append_with_key(&store, &[b'k'; 16], b"same", Durability::Process).unwrap();
                assert!(second.duplicate && second.sequence == first.sequence);
                first
            })
        });
        let receipts = join(appenders.collect());
        assert_eq!(receipts[0].sequence, receipts[1].sequence);
        assert_eq!(receipts.iter().filter(|receipt| !receipt.duplicate).count(), 1, "appended once");
        filler.join().unwrap();
        store.close(FOREVER).unwrap();
    });
}
