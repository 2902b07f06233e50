//! The bugs, each as edits of the library's source. `crate::planted(n)` is true in the variant of bug `n`, counted from 1.

/// Replaces the one place of `file` that reads `find`.
pub struct Edit {
    pub file: &'static str,
    pub find: &'static str,
    pub replace: &'static str,
}

pub struct Bug {
    pub name: &'static str,
    pub edits: &'static [Edit],
}

/// What every variant has: the question which bug it is.
pub const QUESTION: Edit = Edit {
    file: "src/lib.rs",
    find: "pub use error::{Error, Result};",
    replace: r#"pub use error::{Error, Result};

pub(crate) fn planted(bug: u32) -> bool {
    static PLANTED: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    let read = || std::env::var("PLANTED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    *PLANTED.get_or_init(read) == bug
}"#,
};

pub const BUGS: [Bug; 16] = [
    Bug {
        name: "skip the data fsync",
        edits: &[Edit {
            file: "src/io/latch.rs",
            find: "        self.latch.watch(self.file.sync_data().",
            replace: "        if crate::planted(1) {
            return Ok(());
        }
        self.latch.watch(self.file.sync_data().",
        }],
    },
    Bug {
        name: "skip the directory fsync",
        edits: &[Edit {
            file: "src/store/commit.rs",
            find: "        if directory {",
            replace: "        if directory && !crate::planted(2) {",
        }],
    },
    Bug {
        name: "acknowledge before the sync",
        edits: &[Edit {
            file: "src/store/append.rs",
            find: "Some(Durability::Storage) if scratch.originals.is_empty() => self.commit(bound)?,",
            replace: "Some(Durability::Storage) if crate::planted(3) => {
                if let Some(appender) = self.lock_appender().as_mut() {
                    appender.tail.flush(false)?;
                }
            }
            Some(Durability::Storage) if scratch.originals.is_empty() => self.commit(bound)?,",
        }],
    },
    Bug {
        name: "checkpoint before the handler",
        edits: &[Edit {
            file: "src/cursor/worker.rs",
            find: "        let gaps = self.consumer.take_gaps();",
            replace: "        if crate::planted(4) {
            let _ = self.consumer.commit();
        }
        let gaps = self.consumer.take_gaps();",
        }],
    },
    Bug {
        name: "checkpoint without syncing the log first",
        edits: &[Edit {
            file: "src/cursor/checkpoint.rs",
            find: "        store.make_durable(place.scanned)?;",
            replace: "        if !crate::planted(5) {
            store.make_durable(place.scanned)?;
        }",
        }],
    },
    Bug {
        name: "no header CRC",
        edits: &[Edit {
            file: "src/format/frame.rs",
            find: "    if header_crc != u32_at(head, 0) || !payload_is_right {",
            replace: "    let header_crc = if crate::planted(6) { u32_at(head, 0) } else { header_crc };
    if header_crc != u32_at(head, 0) || !payload_is_right {",
        }],
    },
    Bug {
        name: "no payload CRC",
        edits: &[Edit {
            file: "src/format/frame.rs",
            find: "    let payload_is_right = !verify_payload ||",
            replace: "    let payload_is_right = crate::planted(7) || !verify_payload ||",
        }],
    },
    Bug {
        name: "CRC without the epoch seed",
        edits: &[Edit {
            file: "src/format/segment.rs",
            find: "    put(&mut bytes, 24, &epoch.to_le_bytes());
    checksum::crc32c(&bytes)",
            replace: "    put(&mut bytes, 24, &if crate::planted(8) { 0 } else { epoch }.to_le_bytes());
    checksum::crc32c(&bytes)",
        }],
    },
    Bug {
        name: "cut tail not zeroed",
        edits: &[
            Edit {
            file: "src/log/recovery.rs",
            find: "            if found.base == scanned[last].0.base {",
            replace: "            if found.base == scanned[last].0.base && !crate::planted(9) {",
            },
            Edit {
                file: "src/store/open.rs",
                find: "            // Only bytes that `Space::prepare` wrote",
                replace: "            let start = if crate::planted(9) { file.length()?.max(recovered.end) } else { recovered.end };
            // Only bytes that `Space::prepare` wrote",
            },
            Edit {
                file: "src/store/open.rs",
                find: "latch.clone())), recovered.end, options",
                replace: "latch.clone())), start, options",
            },
        ],
    },
    Bug {
        name: "visible ahead of durable for STORAGE",
        edits: &[Edit {
            file: "src/store/append.rs",
            find: "            Some(Durability::Storage) => match appender.pending.back_mut() {",
            replace: "            Some(Durability::Storage) if crate::planted(10) => {
                appender.tail.flush(false)?;
                self.marks.visible.fetch_max(appender.visible_bound(bound), Ordering::AcqRel);
            }
            Some(Durability::Storage) => match appender.pending.back_mut() {",
        }],
    },
    Bug {
        name: "short write not cut back",
        edits: &[Edit {
            file: "src/io/latch.rs",
            find: "        self.latch.watch(self.file.write_at(bytes, offset))",
            replace: "        if crate::planted(11) {
            return self.file.write_at(bytes, offset);
        }
        self.latch.watch(self.file.write_at(bytes, offset))",
        }],
    },
    Bug {
        name: "keep appending after a failed fsync",
        edits: &[Edit {
            file: "src/io/latch.rs",
            find: "        let _turn = self.sync_turn.lock()",
            replace: "        if crate::planted(12) {
            return self.file.sync_data();
        }
        let _turn = self.sync_turn.lock()",
        }],
    },
    Bug {
        name: "commit an incomplete batch at recovery",
        edits: &[Edit {
            file: "src/log/recovery.rs",
            find: "    if let Some((offset, sequence, time_us)) = batch {",
            replace: "    if let Some((offset, sequence, time_us)) = batch.filter(|_| !crate::planted(13)) {",
        }],
    },
    Bug {
        name: "show an undecided fence after recovery",
        edits: &[Edit {
            file: "src/store/segments.rs",
            find: "        for fence in undecided.into_iter().filter(|fence| !committed.contains(fence)) {",
            replace: "        for fence in undecided.into_iter().filter(|fence| !committed.contains(fence) && !crate::planted(14)) {",
        }],
    },
    Bug {
        name: "polls start at the last match only",
        edits: &[
            Edit {
                file: "src/cursor/consumer.rs",
                find: "        let from = self.progress.current().scanned;",
                replace: "        let place = self.progress.current();
        let is_planted = crate::planted(15) && self.progress.direction() == Direction::Forward;
        let from = if is_planted { place.next_sequence() } else { place.scanned };",
            },
            Edit {
                file: "src/cursor/position.rs",
                find: "            Direction::Forward => self.current.scanned <= last.sequence && last.sequence < scanned,",
                replace: "            Direction::Forward => last.sequence < scanned,",
            },
        ],
    },
    Bug {
        name: "lost wake-up (clear after look)",
        edits: &[Edit {
            file: "src/cursor/consumer.rs",
            find: "            self.announcement_due = false;
            if let Some(nothing)",
            replace: "            self.announcement_due = false;
            if crate::planted(16) {
                self.signal.clear_notify();
                self.signal.disarm();
                self.signal.arm();
            }
            if let Some(nothing)",
        }],
    },
];

/// A regression's test, and the bug that it must not miss.
pub struct Regression {
    /// A filter of the library's own tests, or the name of a program of `tests/c`.
    pub test: Test,
    /// One of [`BUGS`] by its number, or one of [`MORE_BUGS`], which count on from there.
    pub bug: u32,
}

pub enum Test {
    Library(&'static str),
    C(&'static str),
}

/// The regressions of the store's past and what would bring them back. Two have no line: 2 and 20, which come with compaction and backups, are
/// not there yet (the part of 2 that can be tested already is).
pub const REGRESSIONS: [Regression; 25] = [
    Regression { test: Test::C("fences_kill"), bug: 17 },
    Regression { test: Test::Library("regression_03_"), bug: 13 },
    Regression { test: Test::Library("regression_04_"), bug: 35 },
    Regression { test: Test::Library("regression_05_"), bug: 36 },
    Regression { test: Test::Library("regression_06_"), bug: 18 },
    Regression { test: Test::Library("regression_07_"), bug: 19 },
    Regression { test: Test::C("fences_kill"), bug: 14 },
    Regression { test: Test::C("fences"), bug: 20 },
    Regression { test: Test::C("expected_state"), bug: 21 },
    Regression { test: Test::C("idempotency"), bug: 22 },
    Regression { test: Test::Library("regression_11_"), bug: 23 },
    Regression { test: Test::Library("regression_12_"), bug: 24 },
    Regression { test: Test::Library("regression_13_"), bug: 25 },
    Regression { test: Test::Library("regression_14_"), bug: 26 },
    Regression { test: Test::Library("regression_15_"), bug: 27 },
    Regression { test: Test::Library("regression_16_"), bug: 28 },
    Regression { test: Test::Library("regression_17_"), bug: 15 },
    Regression { test: Test::Library("regression_18_"), bug: 29 },
    Regression { test: Test::Library("regression_19_"), bug: 30 },
    Regression { test: Test::Library("regression_21_"), bug: 31 },
    Regression { test: Test::Library("regression_22_"), bug: 31 },
    Regression { test: Test::Library("regression_23_what_"), bug: 9 },
    Regression { test: Test::Library("regression_24_"), bug: 32 },
    Regression { test: Test::C("fences"), bug: 33 },
    Regression { test: Test::Library("regression_26_"), bug: 34 },
];

pub const MORE_BUGS: [Bug; 20] = [
    Bug {
        name: "a refused batch uses sequences",
        edits: &[Edit {
            file: "src/store/append.rs",
            find: "                check_expected(appender, events, scratch)?;",
            replace: "                let met = check_expected(appender, events, scratch);
                if met.is_err() && crate::planted(17) {
                    appender.next_sequence += events.len() as u64;
                }
                met?;",
        }],
    },
    Bug {
        name: "a newest segment without a header is fatal",
        edits: &[Edit {
            file: "src/log/recovery.rs",
            find: "            Err(_) => ScannedSegment::without_header(&found, store_id, &make)?,",
            replace: "            Err(malformed) if crate::planted(18) => return Err(damaged(&found.path, 0, found.base, malformed.clone())),
            Err(_) => ScannedSegment::without_header(&found, store_id, &make)?,",
        }],
    },
    Bug {
        name: "bytes that came out of order are taken for rot",
        edits: &[Edit {
            file: "src/log/recovery.rs",
            find: "        if covered {
            if let Some((after",
            replace: "        if covered || crate::planted(19) {
            if let Some((after",
        }],
    },
    Bug {
        name: "events of one batch have the same clock",
        edits: &[Edit {
            file: "src/index/memory.rs",
            find: "        head.next_clock.store(next_clock + 1, Relaxed);
        // Publishes",
            replace: "        if !crate::planted(20) || last == 0 {
            head.next_clock.store(next_clock + 1, Relaxed);
        }
        // Publishes",
        }],
    },
    Bug {
        name: "no stream and one event are the same",
        edits: &[Edit {
            file: "src/store/append.rs",
            find: "            Expected::NoStream => (None, next_clock == 0),",
            replace: "            Expected::NoStream if crate::planted(21) => (None, next_clock <= 1),
            Expected::NoStream => (None, next_clock == 0),",
        }],
    },
    Bug {
        name: "the expected state is asked of duplicates too",
        edits: &[Edit {
            file: "src/store/append.rs",
            find: "        if scratch.has_keys {
            self.find_duplicates(events, scratch, fence)?;",
            replace: "        if crate::planted(22) {
            for event in events.iter().filter(|event| event.expected == Expected::NoStream) {
                let head = self.find_head(self.name_hash(event.entity), event.entity)?;
                let appender = self.lock_appender();
                let heads = appender.as_ref().map(|appender| appender.index.heads().clone());
                let here = heads.and_then(|heads| heads.known_head(heads.find(self.name_hash(event.entity), event.entity)?));
                if here.unwrap_or(head).next_clock > 0 {
                    let entity = String::from_utf8_lossy(event.entity).into_owned();
                    return Err(Error::ExpectedState { entity, expected: None, actual: Some(0) });
                }
            }
        }
        if scratch.has_keys {
            self.find_duplicates(events, scratch, fence)?;",
        }],
    },
    Bug {
        name: "the leaf hash covers the payload only",
        edits: &[Edit {
            file: "src/event/hash.rs",
            find: "    let length = 1 + header.encoded_len() + payload_digest.len();",
            replace: "    if crate::planted(23) {
        return *blake3::hash(payload_digest).as_bytes();
    }
    let length = 1 + header.encoded_len() + payload_digest.len();",
        }],
    },
    Bug {
        name: "a handler that fails is gone on with",
        edits: &[Edit {
            file: "src/cursor/worker.rs",
            find: "            Outcome::Fail { message } => {",
            replace: "            Outcome::Fail { .. } if crate::planted(24) => self.commit_all(),
            Outcome::Fail { message } => {",
        }],
    },
    Bug {
        name: "a checkpoint's checksum is not looked at",
        edits: &[Edit {
            file: "src/format/checkpoint.rs",
            find: "        if full.crc32c != full.checksum() {",
            replace: "        if full.crc32c != full.checksum() && !crate::planted(25) {",
        }],
    },
    Bug {
        name: "any checkpoint id is a path",
        edits: &[Edit {
            file: "src/cursor/checkpoint.rs",
            find: "        _ => return Ok(()),
    };
    Err(Error::CheckpointIdInvalid",
            replace: "        _ => return Ok(()),
    };
    if crate::planted(26) {
        return Ok(());
    }
    Err(Error::CheckpointIdInvalid",
        }],
    },
    Bug {
        name: "a wait for durable makes nothing durable",
        edits: &[Edit {
            file: "src/store/watermark.rs",
            find: "                Waited::Reached => inner.commit_until(bound, deadline),",
            replace: "                Waited::Reached if crate::planted(27) => inner.signals.wait_for(Mark::Appended, u64::MAX, deadline, &caller),
                Waited::Reached => inner.commit_until(bound, deadline),",
        }],
    },
    Bug {
        name: "stopping waits out the idle wait",
        edits: &[Edit {
            file: "src/cursor/worker.rs",
            find: "        self.stop.store(true, Ordering::SeqCst);
        self.signal.interrupt();",
            replace: "        self.stop.store(true, Ordering::SeqCst);
        if !crate::planted(28) {
            self.signal.interrupt();
        }",
        }],
    },
    Bug {
        name: "the end of a file that was cut is the end of what there is",
        edits: &[Edit {
            file: "src/store/scan.rs",
            find: "                if at == 0 || is_cut {",
            replace: "                if crate::planted(29) {
                    return Ok(Reached { sequence: place.end, full });
                }
                if at == 0 || is_cut {",
        }],
    },
    Bug {
        name: "opening for reading writes",
        edits: &[Edit {
            file: "src/store/open.rs",
            find: "        let write = !options.read_only;",
            replace: "        let write = !options.read_only || crate::planted(30);",
        }],
    },
    Bug {
        name: "a position is not held against the event that is there",
        edits: &[Edit {
            file: "src/cursor/checkpoint.rs",
            find: "        (Some(found), Some(stored)) if found != stored =>",
            replace: "        (Some(found), Some(stored)) if found != stored && !crate::planted(31) =>",
        }],
    },
    Bug {
        name: "an append with PROCESS stays in a buffer of the process",
        edits: &[Edit {
            file: "src/store/append.rs",
            find: "                self.mapped.store(true, Ordering::Relaxed);
                appender.tail.flush(true)?;",
            replace: "                self.mapped.store(true, Ordering::Relaxed);
                if !crate::planted(32) {
                    appender.tail.flush(true)?;
                }",
        }],
    },
    Bug {
        name: "a cancelled fence leaves its clocks",
        edits: &[Edit {
            file: "src/store/fence.rs",
            find: "                    index.rewind(self.name_hash(entity), entity, owned.first, Some(owned.head));",
            replace: "                    if !crate::planted(33) {
                        index.rewind(self.name_hash(entity), entity, owned.first, Some(owned.head));
                    }",
        }],
    },
    Bug {
        name: "the lock is not taken",
        edits: &[Edit {
            file: "src/io/os.rs",
            find: "        let Some(file) = &self.file else { return Ok(()) };",
            replace: "        let Some(file) = self.file.as_ref().filter(|_| !crate::planted(34)) else { return Ok(()) };",
        }],
    },
    Bug {
        name: "what a full disk refused is taken for written",
        edits: &[Edit {
            file: "src/log/tail.rs",
            find: "            None => self.space.file().write_at(bytes, self.written)?,",
            replace: "            None if crate::planted(35) => {
                let written = self.space.file().write_at_unlatched(bytes, self.written);
                (self.written, self.used) = (self.offset, 0);
                return written;
            }
            None => self.space.file().write_at(bytes, self.written)?,",
        }],
    },
    Bug {
        name: "a torn tail is left in place",
        edits: &[Edit {
            file: "src/store/open.rs",
            find: "                tail: Tail::new(Arc::new(space), &store_id, base, recovered.epoch, recovered.end),",
            replace: "                tail: {
                    let torn = if crate::planted(36) && recovered.cut.is_some() { 64 } else { 0 };
                    Tail::new(Arc::new(space), &store_id, base, recovered.epoch, recovered.end + torn)
                },",
        }],
    },
];
