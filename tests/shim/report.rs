//! The report of a run as lines: the victim's (victim.c says what they mean) and the shim's (shim.c).

/// A status with what its error object says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub status: i32,
    pub errno: i32,
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Session,
    Intent {
        call: u32,
        thread: u32,
        durability: u32,
        count: u32,
        length: u32,
        fence: u32,
    },
    Ack {
        call: u32,
        item: u32,
        sequence: u64,
        clock: u64,
        id: String,
        durability: u32,
    },
    Result {
        call: u32,
        ended: Ended,
    },
    FenceBegun {
        fence: u32,
    },
    FenceDecided {
        fence: u32,
        commit: bool,
        ended: Ended,
    },
    Done {
        what: String,
        ended: Ended,
    },
    /// `first`: 1 when a reading begins, 0 when it goes on, 2 for a single event. `None`: no payload of the victim's.
    Read {
        first: u8,
        events: Vec<(u64, Option<(u32, u32)>)>,
    },
    Saving {
        id: String,
        position: u64,
    },
    Saved {
        id: String,
        position: u64,
        status: i32,
    },
    Hang {
        what: String,
    },
    End,
    Fault {
        kind: String,
        number: u64,
        errno: i32,
        path: String,
    },
    Wrote {
        thread: u32,
        path: String,
        written: i64,
        marks: Vec<(u32, u32)>,
    },
    SyncBegins {
        thread: u32,
        path: String,
    },
    SyncEnds {
        thread: u32,
        path: String,
        result: i32,
    },
    Renamed {
        path: String,
        result: i32,
    },
    Allocates,
    Count(u64),
    /// A torn or foreign one.
    Unknown(String),
}

pub fn parse(line: &str) -> Line {
    read(line).unwrap_or_else(|| Line::Unknown(line.to_owned()))
}

fn read(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let first = words.next()?;
    let rest: Vec<&str> = words.collect();
    let text = |at: usize| rest.get(at).map(|word| (*word).to_owned());
    fn number<T: std::str::FromStr>(rest: &[&str], at: usize) -> Option<T> {
        rest.get(at)?.parse().ok()
    }
    let ended = |at: usize| {
        let path = rest.get(at + 2..)?.join(" ");
        Some(Ended { status: number(&rest, at)?, errno: number(&rest, at + 1)?, path })
    };
    let u32_at = |at: usize| number::<u32>(&rest, at);
    Some(match first {
        "O" => Line::Session,
        "I" => Line::Intent {
            call: u32_at(0)?,
            thread: u32_at(1)?,
            durability: u32_at(2)?,
            count: u32_at(3)?,
            length: u32_at(4)?,
            fence: u32_at(5)?,
        },
        "A" => Line::Ack {
            call: u32_at(0)?,
            item: u32_at(1)?,
            sequence: number(&rest, 2)?,
            clock: number(&rest, 3)?,
            id: text(4)?,
            durability: u32_at(5)?,
        },
        "R" => Line::Result { call: u32_at(0)?, ended: ended(1)? },
        "B" => Line::FenceBegun { fence: u32_at(0)? },
        "X" => Line::FenceDecided { fence: u32_at(0)?, commit: rest.get(1)? == &"commit", ended: ended(2)? },
        "D" => Line::Done { what: text(0)?, ended: ended(1)? },
        "V" => Line::Read {
            first: number(&rest, 0)?,
            events: rest[1..].iter().map(|word| read_event(word)).collect::<Option<_>>()?,
        },
        "K" => Line::Saving { id: text(0)?, position: number(&rest, 1)? },
        "S" => Line::Saved { id: text(0)?, position: number(&rest, 1)?, status: number(&rest, 2)? },
        "H" => Line::Hang { what: text(0)? },
        "E" => Line::End,
        "F" => Line::Fault { kind: text(0)?, number: number(&rest, 1)?, errno: number(&rest, 2)?, path: text(3)? },
        "w" => Line::Wrote {
            thread: u32_at(0)?,
            path: text(1)?,
            written: number(&rest, 2)?,
            marks: rest[3..].iter().map(|word| read_pair(word)).collect::<Option<_>>()?,
        },
        "b" => Line::SyncBegins { thread: u32_at(0)?, path: text(1)? },
        "s" => Line::SyncEnds { thread: u32_at(0)?, path: text(1)?, result: number(&rest, 2)? },
        "n" => Line::Renamed { path: text(1)?, result: number(&rest, 2)? },
        "m" => Line::Allocates,
        "N" => Line::Count(number(&rest, 1)?),
        _ => return None,
    })
}

fn read_pair(word: &str) -> Option<(u32, u32)> {
    let (call, item) = word.split_once(':')?;
    Some((call.parse().ok()?, item.parse().ok()?))
}

/// "sequence:call:item", with "?" behind where the payload is not what it was.
fn read_event(word: &str) -> Option<(u64, Option<(u32, u32)>)> {
    let (sequence, name) = word.split_once(':')?;
    Some((sequence.parse().ok()?, read_pair(name)))
}
