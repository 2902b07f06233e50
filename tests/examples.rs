//! The examples are the first code a user copies: each is compiled as strictly as the library's own C tests, run against
//! the library of this build, and its output compared with what the test works out by itself.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use batpak::cursor::{Cursor, CursorOptions, PollTimeout, Polled};
use batpak::event::{EventBatch, EventId, Region};
use batpak::{Store, StoreOptions};

const SAMPLE_ROWS: usize = 4010;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sample() -> PathBuf {
    root().join("examples-c/flights-sample.csv")
}

/// The examples, compiled once per run of the tests, under the target directory.
struct Examples {
    dir: PathBuf,
}

impl Examples {
    fn get() -> &'static Examples {
        static EXAMPLES: OnceLock<Examples> = OnceLock::new();
        EXAMPLES.get_or_init(Examples::build)
    }

    fn build() -> Examples {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
        let lib = dir.join("lib");
        let _ = fs::remove_dir_all(&dir); // of an earlier run
        fs::create_dir_all(&lib).expect("lib directory");
        let library = built_library();
        for name in ["libbatpak.so", "libbatpak.so.0.1"] {
            symlink(&library, lib.join(name)).expect("a link to the library");
        }
        let examples = Examples { dir };
        for source in sources() {
            examples.compile(&source, &lib);
        }
        examples
    }

    fn compile(&self, source: &Path, lib: &Path) {
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let output = Command::new(compiler)
            .args(["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-pedantic", "-Werror", "-pthread"])
            .arg("-I")
            .arg(root().join("include"))
            .arg("-o")
            .arg(self.program(name_of(source)))
            .arg(source)
            .arg("-L")
            .arg(lib)
            .arg("-lbatpak")
            .arg(format!("-Wl,-rpath,{}", lib.display()))
            .output()
            .expect("a C compiler");
        assert!(output.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    }

    fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Cargo puts the shared library of this build beside the test's own executable.
fn built_library() -> PathBuf {
    let test = std::env::current_exe().expect("the test's path");
    let deps = test.parent().expect("a directory");
    let library = deps.join("libbatpak.so");
    assert!(library.exists(), "{} is missing", library.display());
    library
}

fn sources() -> Vec<PathBuf> {
    let mut sources: Vec<PathBuf> = fs::read_dir(root().join("examples-c"))
        .expect("examples-c")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension() == Some(OsStr::new("c")))
        .collect();
    sources.sort();
    assert_eq!(sources.len(), 7, "an example without a test: {sources:?}");
    sources
}

/// `NN-name.c` is built as `name`.
fn name_of(source: &Path) -> &str {
    source.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.split_once('-')).expect("NN-name.c").1
}

fn run(name: &str, arguments: &[&OsStr]) -> Output {
    Command::new(Examples::get().program(name)).args(arguments).stdin(Stdio::null()).output().expect("the example runs")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn spawn(name: &str, arguments: &[&OsStr]) -> Child {
    Command::new(Examples::get().program(name))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example runs")
}

fn send_signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

// ---- the small ones -----------------------------------------------------------------------------------------------

#[test]
fn the_quickstart_of_the_readme_is_the_example() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let (_, rest) = readme.split_once("```c\n").expect("a C block");
    let (block, _) = rest.split_once("```").expect("its end");
    let example = fs::read_to_string(root().join("examples-c/01-quickstart.c")).expect("the example");
    assert_eq!(block, example);
}

#[test]
fn quickstart_finds_what_earlier_runs_appended() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = dir.path().join("log");
    assert_eq!(stdout(&run("quickstart", &[store.as_os_str()])), "0 user:1: hello\n");
    assert_eq!(stdout(&run("quickstart", &[store.as_os_str()])), "0 user:1: hello\n1 user:1: hello\n");
}

#[test]
fn quickstart_says_why_a_store_cannot_be_opened() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").expect("a file");
    let output = run("quickstart", &[file.as_os_str()]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(message.starts_with("quickstart: ") && message.contains(file.to_str().expect("UTF-8")), "{message}");
}

/// Starts the worker, reads `count` lines, stops it by `signal`; the lines and their first words (sequences).
fn worker_until_signal(store: &Path, count: usize, signal: &str) -> Vec<u64> {
    let mut child = spawn("worker", &[store.as_os_str(), OsStr::new(&count.to_string())]);
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut sequences = Vec::new();
    for line in lines.by_ref().take(count) {
        let line = line.expect("a line");
        let (sequence, rest) = line.split_once(' ').expect("two words");
        assert!(rest.starts_with("order:") && rest.ends_with(" pieces"), "{line}");
        sequences.push(sequence.parse().expect("a sequence"));
    }
    send_signal(&child, signal);
    assert!(child.wait().expect("its end").success());
    assert_eq!(lines.count(), 0, "more lines than events");
    sequences
}

#[test]
fn worker_resumes_where_a_signal_stopped_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = dir.path().join("log");
    assert_eq!(worker_until_signal(&store, 10, "-TERM"), (0..10).collect::<Vec<_>>());
    assert_eq!(worker_until_signal(&store, 100, "-INT"), (10..110).collect::<Vec<_>>());
    assert_eq!(worker_until_signal(&store, 1, "-TERM"), [110]);
}

#[test]
fn event_loop_answers_each_line_and_resumes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = dir.path().join("log");
    let mut child = spawn("event-loop", &[store.as_os_str()]);
    let mut input = child.stdin.take().expect("its input");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    for (sequence, word) in ["one", "two", "three"].iter().enumerate() {
        writeln!(input, "{word}").expect("a line in");
        assert_eq!(lines.next().expect("an answer").expect("a line"), format!("{sequence} {word}"));
    }
    write!(input, "four\nfive").expect("two lines in, the last without its end");
    drop(input);
    let rest: Vec<String> = lines.map(|line| line.expect("a line")).collect();
    assert_eq!(rest, ["3 four", "4 five"]);
    assert!(child.wait().expect("its end").success());
    assert_eq!(stdout(&run("event-loop", &[store.as_os_str()])), "", "a second run saw old events");
}

/// What a fence hides is seen at its commit, whole, or never; a cancel leaves no trace in the clocks.
#[test]
fn fence_shows_an_order_whole_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let expected = "meanwhile: the entity \"stock:lamp\" belongs to an open fence; try again once that is committed or cancelled\n\
                    before the commit:\n  nothing\n\
                    after the commit:\n\
                    \x20 event 0: stock:lamp, clock 0: for order 1\n\
                    \x20 event 1: payment:1, clock 0: 30.00\n\
                    \x20 event 2: order:1, clock 0: parcel 77\n\
                    after the cancel:\n\
                    \x20 event 5: stock:lamp, clock 1: for order 3\n\
                    \x20 before event 5: 3 to 4 were cancelled\n";
    assert_eq!(stdout(&run("fence", &[dir.path().join("log").as_os_str()])), expected);
}

/// No withdrawal is lost and none is one too many, however the two threads fall together.
#[test]
fn optimistic_empties_the_account_exactly() {
    for _ in 0..3 {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = dir.path().join("log");
        let expected = "333 withdrawals of 3, 1 left, clock 333\n";
        assert_eq!(stdout(&run("optimistic", &[store.as_os_str()])), expected);
        let clocks: Vec<u64> = events_of(&store)
            .iter()
            .flat_map(|batch| batch.iter().map(|event| event.clock()).collect::<Vec<_>>())
            .collect();
        assert_eq!(clocks, (0..=333).collect::<Vec<_>>());

        let second = run("optimistic", &[store.as_os_str()]);
        assert_eq!(stdout(&second), "0 withdrawals of 3, 1 left, clock 333\n");
        let message = String::from_utf8_lossy(&second.stderr);
        assert!(message.contains("is at clock 333, expected no event"), "{message}");
    }
}

/// A command whose process died before it answered is carried out once, and an id is not reused for another.
#[test]
fn idempotent_pays_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = dir.path().join("log");
    let expected = "first try: killed, no answer\n\
                    second try: event 0, appended before\n\
                    another amount: the idempotency key 7061796d656e7420323032352d303031 belongs to event 0, which has \
                    another payload; use a new key for a new event\n\
                    events in the log: 1\n";
    for _ in 0..2 {
        assert_eq!(stdout(&run("idempotent", &[store.as_os_str()])), expected);
    }
}

// ---- flights ------------------------------------------------------------------------------------------------------

#[derive(Default)]
struct Counts {
    flights: u64,
    cancelled: u64,
    delays: i64,
    minutes: i64,
}

impl Counts {
    fn add(&mut self, row: &[&str]) {
        self.flights += 1;
        self.cancelled += u64::from(row[3] == "NA");
        if row[5] != "NA" {
            self.delays += 1;
            self.minutes += row[5].parse::<i64>().expect("a delay");
        }
    }
}

/// What flights must print for that CSV text.
fn expected_table(csv: &str) -> String {
    let mut carriers: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut total = Counts::default();
    for line in csv.lines().skip(1) {
        let row: Vec<&str> = line.split(',').collect();
        carriers.entry(row[9]).or_default().add(&row);
        total.add(&row);
    }
    let mut table = format!("{:<8}{:>9}{:>11}{:>12}\n", "carrier", "flights", "cancelled", "mean delay");
    for (name, counts) in carriers.iter().map(|(name, counts)| (*name, counts)).chain([("total", &total)]) {
        let mean = counts.minutes as f64 / counts.delays as f64;
        let mean = if counts.delays == 0 { "NA".into() } else { format!("{mean:.2}") };
        writeln!(table, "{name:<8}{:>9}{:>11}{mean:>12}", counts.flights, counts.cancelled).expect("a string");
    }
    table
}

fn sample_text() -> String {
    fs::read_to_string(sample()).expect("the sample")
}

/// The first `rows` rows of the sample as a file of their own.
fn head_of_sample(dir: &Path, rows: usize) -> PathBuf {
    let path = dir.join(format!("head-{rows}.csv"));
    let head: Vec<String> = sample_text().lines().take(rows + 1).map(str::to_owned).collect();
    fs::write(&path, head.join("\n") + "\n").expect("a file");
    path
}

fn flights(dir: &Path, options: &[&str], file: &Path) -> Output {
    let mut arguments: Vec<&OsStr> = vec![OsStr::new("--dir"), dir.as_os_str()];
    arguments.extend(options.iter().map(OsStr::new));
    arguments.push(file.as_os_str());
    run("flights", &arguments)
}

fn assert_refused(output: &Output, reason: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains(reason), "{message:?} does not say {reason:?}");
    assert!(output.stdout.is_empty(), "a table was printed after an error");
}

fn assert_says(output: &Output, what: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains(what), "{message:?} does not say {what:?}");
}

fn assert_killed(output: &Output) {
    assert_eq!(output.status.signal(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
}

/// `next_sequence` of the table that a run left.
fn saved_sequence(dir: &Path) -> u64 {
    let table = fs::read_to_string(dir.join("table.txt")).expect("table.txt");
    let first = table.lines().next().expect("a line");
    first.strip_prefix("next_sequence ").expect("next_sequence").parse().expect("a number")
}

#[test]
fn the_sample_has_what_the_year_has() {
    let table = expected_table(&sample_text());
    assert_eq!(table.lines().count(), 1 + 16 + 1);
    let total = table.lines().last().expect("the total").split_whitespace().collect::<Vec<_>>();
    assert_eq!(total, ["total", &SAMPLE_ROWS.to_string(), "105", "11.96"]);
    assert!(sample_text().lines().any(|line| line.split(',').nth(11) == Some("NA")));
}

#[test]
fn flights_prints_the_table_and_a_second_run_appends_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let expected = expected_table(&sample_text());
    let first = flights(dir.path(), &[], &sample());
    assert_eq!(stdout(&first), expected);
    assert_says(&first, "4010 rows appended, 0 duplicates; 4010 events counted; peak memory ");

    let second = flights(dir.path(), &[], &sample());
    assert_eq!(stdout(&second), expected);
    assert_says(&second, "flights: 0 rows appended, 4010 duplicates; 0 events counted; peak memory ");
}

#[test]
fn flights_reads_standard_input() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(Examples::get().program("flights"))
        .args([
            OsStr::new("--dir"),
            dir.path().as_os_str(),
            OsStr::new("--durability"),
            OsStr::new("process"),
            OsStr::new("-"),
        ])
        .stdin(fs::File::open(sample()).expect("the sample"))
        .output()
        .expect("flights runs");
    assert_eq!(stdout(&output), expected_table(&sample_text()));
}

#[test]
fn flights_killed_anywhere_counts_nothing_twice() {
    let expected = expected_table(&sample_text());
    for crash_after in [1, 1000, 4009, 4010] {
        for options in [&["--batch", "1000"][..], &["--batch", "7", "--durability", "process"]] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let count = crash_after.to_string();
            assert_killed(&flights(dir.path(), &[options, &["--crash-after", &count]].concat(), &sample()));
            assert_eq!(saved_sequence(dir.path()), crash_after, "the file was replaced before the kill");
            assert_eq!(stdout(&flights(dir.path(), options, &sample())), expected);
            assert_eq!(saved_sequence(dir.path()), SAMPLE_ROWS as u64);
        }
    }
}

#[test]
fn flights_killed_again_and_again_still_ends() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for kills in 1..=8 {
        assert_killed(&flights(dir.path(), &["--crash-after", "500", "--batch", "100"], &sample()));
        assert_eq!(saved_sequence(dir.path()), kills * 500);
    }
    assert_eq!(stdout(&flights(dir.path(), &["--crash-after", "500"], &sample())), expected_table(&sample_text()));
}

/// All events of a store, in batches of one poll each.
fn events_of(dir: &Path) -> Vec<EventBatch> {
    let options = StoreOptions { read_only: true, ..StoreOptions::default() };
    let store = Store::open(dir, &options).expect("the store opens");
    let cursor = Cursor::open(&store, Region::all(), &CursorOptions::default()).expect("a cursor");
    let mut batches = Vec::new();
    while let Polled::Batch(batch) = cursor.poll(1024, u64::MAX, PollTimeout::Never).expect("a poll") {
        batches.push(batch);
    }
    batches
}

/// The log has each row of the text once, in order, and each event's cause is its plane's flight before.
fn assert_rows_and_causes(dir: &Path, csv: &str) {
    let batches = events_of(dir);
    let events: Vec<_> = batches.iter().flat_map(|batch| batch.iter()).collect();
    assert_eq!(events.len(), csv.lines().count() - 1);
    let mut previous: HashMap<&str, EventId> = HashMap::new();
    let mut causes = 0;
    for (event, line) in events.iter().zip(csv.lines().skip(1)) {
        let row: Vec<&str> = line.split(',').collect();
        assert_eq!(event.payload(), line.as_bytes());
        assert_eq!(event.scope(), row[12]);
        assert_eq!(event.kind().0, if row[3] == "NA" { 0x1002 } else { 0x1001 });
        let tail = if row[11] == "NA" { "unknown" } else { row[11] };
        assert_eq!(event.entity(), format!("plane:{tail}"));
        let cause = previous.insert(event.entity(), event.id()).filter(|_| tail != "unknown");
        assert_eq!(event.causes(), cause.as_slice());
        causes += event.causes().len();
    }
    assert!(causes * 4 > events.len(), "{causes} causes of {} events", events.len());
}

/// A plane's flight before is known whether it was in the same batch, in an earlier one, or appended by an earlier run:
/// then from its duplicate.
#[test]
fn flights_appends_rows_and_causes_of_one_plane() {
    let (dir, files) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    for rows in [700, 701, 2500, 1000, SAMPLE_ROWS] {
        stdout(&flights(dir.path(), &["--batch", "300"], &head_of_sample(files.path(), rows)));
    }
    assert_rows_and_causes(dir.path(), &sample_text());
}

/// Numbers that look random, from a seed that a failure prints.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        eprintln!("seed {}", now.as_nanos() as u64);
        Random(now.as_nanos() as u64)
    }

    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn assert_sample_is_in(dir: &Path) {
    let again = flights(dir, &[], &sample());
    assert_eq!(stdout(&again), expected_table(&sample_text()));
    assert_says(&again, "flights: 0 rows appended, 4010 duplicates; 0 events counted");
    assert_rows_and_causes(dir, &sample_text());
}

/// Kills from outside hit the import too: in an append, in an open, between two batches. However often it is killed and
/// repeated, each row is in the log once. A kill comes early enough for most imports to be killed several times.
#[test]
fn flights_killed_at_20_random_moments_appends_each_row_once() {
    const KILLS: u32 = 20;
    let file = sample();
    let arguments = |dir: &tempfile::TempDir| {
        let dir = dir.path().to_str().expect("UTF-8");
        ["--batch", "5", "--dir", dir, file.to_str().expect("UTF-8")].map(str::to_owned)
    };
    let mut dir = tempfile::tempdir().expect("a temporary directory");
    let start = Instant::now();
    stdout(&run("flights", &arguments(&dir).each_ref().map(OsStr::new)));
    let whole_us = start.elapsed().as_micros() as u64;

    let mut random = Random::new();
    let (mut kills, mut runs) = (0, 0);
    dir = tempfile::tempdir().expect("a temporary directory");
    while kills < KILLS {
        let mut child = spawn("flights", &arguments(&dir).each_ref().map(OsStr::new));
        std::thread::sleep(Duration::from_micros(random.below(whole_us / 6)));
        send_signal(&child, "-KILL");
        match child.wait().expect("its end").signal() {
            Some(9) => kills += 1,
            _ => {
                assert_sample_is_in(dir.path());
                dir = tempfile::tempdir().expect("a temporary directory");
            }
        }
        runs += 1;
        assert!(runs < 10 * KILLS, "only {kills} kills in {runs} runs");
    }
    assert_eq!(stdout(&flights(dir.path(), &[], &file)), expected_table(&sample_text()));
    assert_sample_is_in(dir.path());
}

#[test]
fn flights_says_that_the_table_cannot_be_written() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(Examples::get().program("flights"))
        .args([OsStr::new("--dir"), dir.path().as_os_str(), sample().as_os_str()])
        .stdout(fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full"))
        .output()
        .expect("flights runs");
    assert_refused(&output, "cannot write the table");
}

#[test]
fn flights_refuses_a_bad_row_by_its_line_and_goes_on_once_it_is_mended() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cases = [
        ("2013,1,1", "fewer than 19 fields"),
        (
            "2013,1,1,517,515,2,830,819,11,UA,NA,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z",
            "the flight is not an integer",
        ),
        (
            "2013,1,1,x,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z",
            "neither an integer nor NA",
        ),
        ("2013,1,1,517,515,2,830,819,11,UA,1545,N/1,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z", "1 to 8 of A-Z"),
        ("2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10", "time_hour"),
    ];
    for (row, reason) in cases {
        let mut lines: Vec<String> = sample_text().lines().map(str::to_owned).collect();
        lines[2500] = row.into();
        let bad = dir.path().join("bad.csv");
        fs::write(&bad, lines.join("\n") + "\n").expect("a file");
        let data = dir.path().join("data");
        let output = flights(&data, &[], &bad);
        assert_refused(&output, "line 2501: ");
        assert_refused(&output, reason);
    }
    assert_eq!(stdout(&flights(&dir.path().join("data"), &[], &sample())), expected_table(&sample_text()));
}

/// Rows are known by their keys: a file that was imported before, or a part of it, adds nothing; one that goes on adds the
/// rest; a row that was changed since is refused, and nothing of its batch appended.
#[test]
fn flights_tells_rows_by_their_keys() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let head = head_of_sample(dir.path(), 1500);
    let head_table = expected_table(&fs::read_to_string(&head).expect("the head"));
    assert_eq!(stdout(&flights(&data, &[], &head)), head_table);

    let shorter = flights(&data, &[], &head_of_sample(dir.path(), 1200));
    assert_eq!(stdout(&shorter), head_table, "the table is of the log, not of the file");
    assert_says(&shorter, "flights: 0 rows appended, 1200 duplicates; 0 events counted");

    let mut changed: Vec<String> = sample_text().lines().map(str::to_owned).collect();
    let row: Vec<&str> = changed[1300].split(',').collect();
    let (flown, tail) = (row[..14].join(","), row[14..].join(","));
    changed[1300] = format!("{flown},9{tail}");
    let other = dir.path().join("other.csv");
    fs::write(&other, changed.join("\n") + "\n").expect("a file");
    for batch in ["1000", "1"] {
        let refused = flights(&data, &["--batch", batch], &other);
        assert_refused(&refused, "line 1301: ");
        assert_refused(&refused, " belongs to event 1299, which has another payload; use a new key for a new event");
    }
    fs::write(&other, "a,b\n1,2\n").expect("a file");
    assert_refused(&flights(&data, &[], &other), "line 1: not the header");

    let longer = flights(&data, &[], &sample());
    assert_eq!(stdout(&longer), expected_table(&sample_text()));
    assert_says(&longer, "flights: 2510 rows appended, 1500 duplicates; 2510 events counted");
    assert_rows_and_causes(&data, &sample_text());
}

/// A file of its own, such as another month's, follows in the same log; its planes' chains begin anew.
#[test]
fn flights_imports_one_file_after_another() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let text = sample_text();
    let rest = dir.path().join("rest.csv");
    let lines: Vec<&str> = text.lines().take(1).chain(text.lines().skip(1501)).collect();
    fs::write(&rest, lines.join("\n") + "\n").expect("a file");
    stdout(&flights(&data, &[], &head_of_sample(dir.path(), 1500)));
    for (appended, duplicates) in [(2510, 0), (0, 2510)] {
        let output = flights(&data, &[], &rest);
        assert_eq!(stdout(&output), expected_table(&text));
        assert_says(&output, &format!("flights: {appended} rows appended, {duplicates} duplicates"));
    }
    // A row of it in a file with another history is another event: its cause says so.
    assert_refused(&flights(&data, &[], &sample()), ", which has another cause");
}
