//! Runs the rows of the reliability scorecard and prints a line for each (docs/RELIABILITY.md).
//!
//! `scorecard fast|full [ROW...]`. A row passes when every test of it succeeds, tells of no failure, and of at least as many trials as
//! the goal says. What the tests print goes to `build/reliability/ROW.log`. Ends with 1 when a row fails.

mod report;
mod rows;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use std::{env, fs, io, thread};

use report::Tally;
use rows::{Part, Place, ROWS, Row};

const TIERS: [&str; 2] = ["fast", "full"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn command(part: &Part, tier: usize) -> Command {
    let mut command = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.current_dir(root()).args(["test", "--locked"]);
    let filter = match part.place {
        Place::Library(filter) => {
            command.arg("--lib");
            filter
        }
        Place::Program(name, filter) => {
            command.args(["--test", name]);
            filter
        }
        Place::Model(filter) => {
            // A build of its own: the other one is not to be built anew for it.
            let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
            command.arg("--lib").arg("--target-dir").arg(target.join("models")).env("RUSTFLAGS", "--cfg shuttle");
            filter
        }
    };
    // One test at a time: each uses all processors by itself.
    command.args([filter, "--", "--nocapture", "--test-threads=1"]);
    command.env("RELIABILITY_TRIALS", part.trials[tier].to_string());
    command
}

/// Runs a part; its output is kept, and returned with whether it succeeded.
fn run(part: &Part, tier: usize, log: &mut fs::File) -> io::Result<(bool, String)> {
    let mut command = command(part, tier);
    writeln!(log, "$ RELIABILITY_TRIALS={} {command:?}", part.trials[tier])?;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.try_clone()?).spawn()?;
    let mut output = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_end(&mut output)?;
    }
    let status = child.wait()?;
    log.write_all(&output)?;
    Ok((status.success(), String::from_utf8_lossy(&output).into_owned()))
}

/// Runs a row. True: it passes.
fn score(row: &Row, tier: usize, logs: &Path) -> io::Result<bool> {
    let path = logs.join(format!("{}.log", row.id));
    let mut log = fs::File::create(&path)?;
    let started = Instant::now();
    let (mut total, mut skipped, mut shown) = (Tally::default(), Vec::new(), Vec::new());
    for part in row.parts {
        let (succeeded, output) = run(part, tier, &mut log)?;
        let mut tally = report::read(&output, row.id);
        // A test that fails before it tells, or that is not there.
        if !succeeded || tally.trials == 0 {
            tally.failures = tally.failures.max(1);
        }
        if tally.failures > 0 {
            shown.extend(report::findings(&output, row.id));
        }
        total.add(tally);
        skipped.extend(output.lines().filter(|line| line.contains("skipped:")).map(str::to_owned));
    }
    let passes = total.failures == 0 && total.trials >= row.goals[tier];
    println!(
        "{:<4} {:<21} goal {:>9}  trials {:>10}  failures {:>4}  seed {:<18} {:>5} s  {}",
        row.id,
        row.name,
        format!(">={}", row.goals[tier]),
        total.trials,
        total.failures,
        total.seed.as_deref().unwrap_or("none"),
        started.elapsed().as_secs(),
        if passes { "pass" } else { "FAIL" }
    );
    for line in skipped {
        println!("     {}", line.trim());
    }
    // A log is not always to be had where the scorecard is read.
    shown.iter().for_each(|line| println!("     {line}"));
    if !passes {
        println!("     see {}", path.strip_prefix(root()).unwrap_or(&path).display());
    }
    Ok(passes)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let tier = arguments.first().and_then(|tier| TIERS.iter().position(|name| name == tier));
    let is_row = |id: &String| ROWS.iter().any(|row| row.id == id);
    let (Some(tier), true) = (tier, arguments.iter().skip(1).all(is_row)) else {
        eprintln!("scorecard fast|full [ROW...], a row being R1 to R{}", ROWS.len());
        return ExitCode::from(2);
    };
    let wanted = |row: &&Row| arguments.len() == 1 || arguments[1..].iter().any(|id| id == row.id);
    let logs = root().join("build/reliability");
    if let Err(error) = fs::create_dir_all(&logs) {
        eprintln!("{}: {error}", logs.display());
        return ExitCode::from(2);
    }
    println!("scorecard, {} tier, {} processors", TIERS[tier], thread::available_parallelism().map_or(1, usize::from));
    let started = Instant::now();
    let mut failed = Vec::new();
    for row in ROWS.iter().filter(wanted) {
        match score(row, tier, &logs) {
            Ok(true) => {}
            Ok(false) => failed.push(row.id),
            Err(error) => {
                println!("{:<4} {:<21} cannot be run: {error}  FAIL", row.id, row.name);
                failed.push(row.id);
            }
        }
        let _ = io::stdout().flush();
    }
    let seconds = started.elapsed().as_secs();
    if failed.is_empty() {
        println!("all rows pass, {seconds} s");
        ExitCode::SUCCESS
    } else {
        println!("failing rows: {}, {seconds} s", failed.join(" "));
        ExitCode::FAILURE
    }
}
