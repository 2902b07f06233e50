//! How a store is opened, and what an append promises.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::{PAYLOAD_BYTES_MAX_DEFAULT, PAYLOAD_BYTES_MAX_LIMIT};
use crate::io::Storage;
use crate::io::os::OsStorage;
use crate::io::time::WallClock;

/// What an acknowledged event survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Power loss: acknowledged after fdatasync of every byte up to its own last one.
    #[default]
    Storage,
    /// The death of the process (kill -9): acknowledged when it and every lower byte are in the page cache.
    Process,
}

/// How grave a log message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something was lost, refused or failed in the background.
    Error,
    /// Something unusual was mended.
    Warning,
    /// What the store does at its turning points.
    Info,
}

/// Receives level, target and message.
pub type LogFunction = dyn Fn(LogLevel, &str, &str) + Send + Sync;

/// Where log messages go: nowhere, unless a function is given.
#[derive(Clone, Default)]
pub struct LogSink(Option<Arc<LogFunction>>);

impl LogSink {
    /// Messages go to `function`, on any thread, with no lock held that appends or polls take.
    pub fn new(function: Arc<LogFunction>) -> LogSink {
        LogSink(Some(function))
    }

    pub(crate) fn write(&self, level: LogLevel, target: &str, message: impl FnOnce() -> String) {
        if let Some(function) = &self.0 {
            function(level, target, &message());
        }
    }
}

impl std::fmt::Debug for LogSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "LogSink(set)" } else { "LogSink(none)" })
    }
}

/// The least and the most of `segment_bytes`.
pub const SEGMENT_BYTES_RANGE: (u64, u64) = (1 << 20, 1 << 30);

/// So small that the crash tests can go through rotations and seals by the thousand.
#[cfg(test)]
pub(crate) const SEGMENT_BYTES_OF_TESTS: u64 = 16 << 10;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Make the directory and the store when missing (default true).
    pub create: bool,
    /// Refuse a directory that already holds a store (default false).
    pub exclusive: bool,
    /// Change nothing in the directory (default false).
    pub read_only: bool,
    /// Prepare space and build indexes on a thread of the store's own (default true); else appends do that work.
    pub helper_thread: bool,
    /// A segment file's size: 1 MiB to 1 GiB, default 64 MiB. A larger batch gets a file of its own.
    pub segment_bytes: u64,
    /// The largest payload accepted: up to 64 MiB, default 16 MiB.
    pub payload_bytes_max: usize,
    /// For appends that do not say (default [`Durability::Storage`]).
    pub durability: Durability,
    /// How many keyed events idempotency remembers, fixed when the store is made (default 4 Mi).
    pub key_window: u64,
    /// The wall clock, in microseconds since the Unix epoch.
    pub clock: WallClock,
    /// Where log messages go.
    pub log: LogSink,
    /// The file system.
    pub storage: Arc<dyn Storage>,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            create: true,
            exclusive: false,
            read_only: false,
            helper_thread: true,
            segment_bytes: 64 << 20,
            payload_bytes_max: PAYLOAD_BYTES_MAX_DEFAULT,
            durability: Durability::Storage,
            key_window: 4 << 20,
            clock: WallClock::default(),
            log: LogSink::default(),
            storage: Arc::new(OsStorage),
        }
    }
}

impl StoreOptions {
    /// Every value in its range.
    pub fn check(&self) -> Result<()> {
        let (least, most) = SEGMENT_BYTES_RANGE;
        #[cfg(test)]
        let least = if self.segment_bytes == SEGMENT_BYTES_OF_TESTS { SEGMENT_BYTES_OF_TESTS } else { least };
        if !(least..=most).contains(&self.segment_bytes) {
            return Err(Error::InvalidArgument {
                what: "segment_bytes",
                value: self.segment_bytes.to_string(),
                remedy: "give 1048576 (1 MiB) to 1073741824 (1 GiB)",
            });
        }
        if !(1..=PAYLOAD_BYTES_MAX_LIMIT).contains(&self.payload_bytes_max) {
            return Err(Error::InvalidArgument {
                what: "payload_bytes_max",
                value: self.payload_bytes_max.to_string(),
                remedy: "give 1 to 67108864 (64 MiB)",
            });
        }
        if self.key_window == 0 || self.key_window > 1 << 32 {
            return Err(Error::InvalidArgument {
                what: "key_window",
                value: self.key_window.to_string(),
                remedy: "give 1 to 4294967296 events",
            });
        }
        Ok(())
    }
}
