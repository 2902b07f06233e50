//! Counts the instructions of the hot paths, and compares them with those recorded (docs/PERFORMANCE.md).
//!
//! `instructions check|record`. Runs each workload of `benches/instructions/instructions.c`, as built by make, under callgrind. `check`
//! ends with 1 when one rose too far above `benches/instructions/recorded.txt`, and names the functions; `record` writes that file anew.

mod callgrind;
mod ratchet;
mod recorded;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs, io, process};

use ratchet::{Change, Scope};
use recorded::{Circumstances, Figure, Recorded, WHOLE};

/// As the program has them, and what an operation of them is.
const WORKLOADS: [(&str, &str); 5] = [
    ("append-one", "event"),
    ("append-batch", "event"),
    ("poll-all", "event"),
    ("poll-entity", "event"),
    ("checkpoint-save", "save"),
];

/// Whose functions are told apart.
const LIBRARY: &str = "libbatpak.so";

type Result<T> = std::result::Result<T, String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where make puts the program, and where callgrind's files go.
fn place(name: &str) -> PathBuf {
    root().join("build/instructions").join(name)
}

fn has_valgrind() -> bool {
    let status = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// What a command prints, or why it failed.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn circumstances() -> Result<Circumstances> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    Ok(Circumstances {
        compiler: output(Command::new(rustc).arg("--version").current_dir(root()))?,
        machine: output(Command::new(place("instructions")).arg("--machine"))?,
    })
}

/// A new directory for a store. Its path has the same length everywhere: the library makes paths of it, which are counted in.
fn directory() -> Result<PathBuf> {
    const PATH_BYTES: usize = 120;
    let failed = |error: io::Error| format!("a directory for a store: {error}");
    let parent = env::temp_dir().canonicalize().map_err(failed)?;
    let digits = PATH_BYTES.saturating_sub(parent.as_os_str().len() + "/batpak-instructions-".len()).max(10);
    let directory = parent.join(format!("batpak-instructions-{:0digits$}", process::id()));
    fs::create_dir(&directory).map_err(failed)?;
    Ok(directory)
}

/// Counts one workload: the whole, then the functions, largest first.
fn count(workload: &str) -> Result<Vec<Figure>> {
    let directory = directory()?;
    let costs = place(&format!("{workload}.callgrind"));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["-q", "--tool=callgrind", "--toggle-collect=measure_*"]);
    valgrind.arg(format!("--callgrind-out-file={}", costs.display()));
    let ran = output(valgrind.arg(place("instructions")).arg(workload).arg(&directory));
    let _ = fs::remove_dir_all(&directory);
    let ran = ran?;
    let operations: f64 = ran.parse().map_err(|_| format!("{workload} says {ran:?} instead of how much it did"))?;
    let text = fs::read_to_string(&costs).map_err(|error| format!("{}: {error}", costs.display()))?;
    let profile = callgrind::parse(&text, LIBRARY).map_err(|error| format!("{}: {error}", costs.display()))?;
    let figure = |function: &str, instructions: u64| Figure {
        workload: workload.to_owned(),
        function: function.to_owned(),
        instructions: instructions as f64 / operations,
    };
    let mut figures: Vec<Figure> =
        profile.functions.iter().map(|(function, &instructions)| figure(function, instructions)).collect();
    figures.sort_by(|a, b| b.instructions.total_cmp(&a.instructions).then_with(|| a.function.cmp(&b.function)));
    figures.insert(0, figure(WHOLE, profile.total));
    Ok(figures)
}

fn count_all() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (workload, operation) in WORKLOADS {
        let counted = count(workload)?;
        println!("{workload}: {:.1} instructions per {operation}", counted[0].instructions);
        figures.extend(counted);
    }
    Ok(figures)
}

fn record(path: &Path) -> Result<bool> {
    if !has_valgrind() {
        return Err("there is no valgrind to count instructions with".to_owned());
    }
    let figures = ratchet::worth_recording(&count_all()?).cloned().collect();
    let recorded = Recorded { circumstances: circumstances()?, figures };
    fs::write(path, recorded.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(true)
}

/// True: nothing rose too far.
fn check(path: &Path) -> Result<bool> {
    if !has_valgrind() {
        println!("skipped: there is no valgrind, so no instructions were counted");
        return Ok(true);
    }
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let recorded = Recorded::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let now = circumstances()?;
    let scope = ratchet::scope(&recorded.circumstances, &now);
    match scope {
        Scope::Nothing => {
            println!("skipped: recorded on {}, and this is {}", recorded.circumstances.machine, now.machine);
            return Ok(true);
        }
        Scope::Wholes => println!(
            "recorded with {}, {}; here it is {}, {}: functions are split in other ways, so only whole workloads are compared. \
             When the compiler or libc of CI has changed, look at what rose, and run `make instructions-record`",
            recorded.circumstances.compiler, recorded.circumstances.machine, now.compiler, now.machine
        ),
        Scope::Everything => {}
    }
    let changes = ratchet::compare(&recorded.figures, &count_all()?, scope);
    changes.iter().for_each(|change| println!("{change}"));
    let rose = changes.iter().filter(|change| change.is_rise()).count();
    if rose > 0 {
        println!("FAILED: {rose} of the counts");
    } else if changes.iter().any(Change::is_worth_recording) {
        println!("run `make instructions-record`: what is not recorded may rise again");
    } else {
        println!("nothing rose by more than {} %", ratchet::TOLERANCE_PERCENT);
    }
    Ok(rose == 0)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let path = root().join("benches/instructions/recorded.txt");
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check"] => check(&path),
        ["record"] => record(&path),
        _ => {
            eprintln!("instructions check|record");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::from(2)
        }
    }
}
