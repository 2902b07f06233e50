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
    crc32c::crc32c(&bytes)",
            replace: "    put(&mut bytes, 24, &if crate::planted(8) { 0 } else { epoch }.to_le_bytes());
    crc32c::crc32c(&bytes)",
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
