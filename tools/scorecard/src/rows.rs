//! The rows of the scorecard: what is tried, how often, and by which tests.

/// Where a part of a row is.
pub enum Place {
    /// A filter of the library's own tests.
    Library(&'static str),
    /// A test program of `tests/`, and a filter of its tests.
    Program(&'static str, &'static str),
    /// A filter of the library's own tests, built for the model checker.
    Model(&'static str),
}

/// Tests that are run together.
pub struct Part {
    pub place: Place,
    /// What `RELIABILITY_TRIALS` is in the fast and in the full tier.
    pub trials: [u64; 2],
}

pub struct Row {
    pub id: &'static str,
    pub name: &'static str,
    /// The fewest trials that count, in the fast and in the full tier.
    pub goals: [u64; 2],
    pub parts: &'static [Part],
}

const fn library(filter: &'static str, fast: u64, full: u64) -> Part {
    Part { place: Place::Library(filter), trials: [fast, full] }
}

const fn program(name: &'static str, filter: &'static str, fast: u64, full: u64) -> Part {
    Part { place: Place::Program(name, filter), trials: [fast, full] }
}

const fn model(filter: &'static str, fast: u64, full: u64) -> Part {
    Part { place: Place::Model(filter), trials: [fast, full] }
}

pub const ROWS: [Row; 20] = [
    Row { id: "R1", name: "honest ack", goals: [200, 200], parts: &[program("shim", "row_r1_", 200, 1_000)] },
    Row { id: "R2", name: "crash states", goals: [50_000, 1_000_000], parts: &[library("row_r2_", 50_000, 1_000_000)] },
    Row { id: "R3", name: "crash in recovery", goals: [2_000, 20_000], parts: &[library("row_r3_", 2_000, 20_000)] },
    Row { id: "R4", name: "directory entries", goals: [1_000, 1_000], parts: &[library("row_r4_", 1_000, 10_000)] },
    Row { id: "R5", name: "kill -9", goals: [300, 10_000], parts: &[program("kill9", "row_r5_", 300, 10_000)] },
    Row {
        id: "R6",
        name: "fsync fails",
        goals: [100, 100],
        parts: &[library("row_r6_", 1_000, 10_000), program("shim", "row_r6_", 1, 1_000)],
    },
    Row {
        id: "R7",
        name: "write fails",
        goals: [500, 500],
        parts: &[library("row_r7_", 1_000, 10_000), program("shim", "row_r7_", 1, 3_000)],
    },
    Row { id: "R8", name: "EINTR, short, EAGAIN", goals: [100, 100], parts: &[program("shim", "row_r8_", 1, 3_000)] },
    Row { id: "R9", name: "disk full", goals: [200, 200], parts: &[program("environment", "row_r9_", 200, 1_000)] },
    Row { id: "R10", name: "bit rot", goals: [10_000, 80_000], parts: &[library("row_r10_", 15_000, 1_000_000)] },
    Row {
        id: "R11",
        name: "fuzz",
        goals: [200_000, 2_000_000],
        parts: &[program("fuzz", "row_r11_", 200_000, 2_000_000)],
    },
    Row { id: "R12", name: "memory", goals: [50, 50], parts: &[program("shim", "row_r12_", 1, 500)] },
    Row { id: "R13", name: "environment", goals: [40, 40], parts: &[program("environment", "row_r13_", 1_000, 1_000)] },
    Row {
        id: "R14",
        name: "no SIGBUS",
        goals: [1_000, 10_000],
        parts: &[program("environment", "row_r14_", 1_000, 10_000)],
    },
    Row {
        id: "R15",
        name: "concurrency",
        goals: [1_000_000, 5_000_000],
        parts: &[program("wakeups", "row_r15_", 1_000_000, 5_000_000), model("row_r15_", 100_000, 5_000_000)],
    },
    Row {
        id: "R16",
        name: "C misuse",
        goals: [1_000, 1_000],
        parts: &[program("misuse", "row_r16_", 20_000, 200_000)],
    },
    Row { id: "R17", name: "locking", goals: [300, 3_000], parts: &[program("locking", "row_r17_", 300, 3_000)] },
    Row { id: "R18", name: "clock", goals: [100, 1_000], parts: &[program("clock", "row_r18_", 100, 1_000)] },
    Row { id: "R19", name: "cursor model", goals: [2_000, 20_000], parts: &[library("row_r19_", 2_000, 20_000)] },
    Row { id: "R20", name: "test strength", goals: [16, 16], parts: &[program("planted", "row_r20_", 40, 40)] },
];
