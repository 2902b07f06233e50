//! The tests that are written in C and C++: every file of `tests/c` and `tests/cpp` is a program, built strictly
//! against the header and the shared library of this build, and run with a directory and a time limit of its own.
//!
//! `C_TEST=name` runs one, `C_TEST_SECONDS` changes the limit, `C_TEST_FLAGS` adds compiler flags (for sanitizers),
//! `C_TEST_UNDER` is a command to run each program under (valgrind).

mod common;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, io};

const SECONDS_DEFAULT: u64 = 120;

#[test]
fn c_programs_succeed() {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    run_all("c", &compiler, "-std=c11");
}

#[test]
fn cpp_programs_succeed() {
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    run_all("cpp", &compiler, "-std=c++17");
}

/// Builds and runs each file of `tests/{language}`, as many at a time as there are processors.
fn run_all(language: &str, compiler: &str, standard: &str) {
    let suite = Suite {
        compiler: compiler.to_owned(),
        standard: standard.to_owned(),
        scratch: common::scratch_dir("c_suite").join(language),
        library: common::library_dir(&format!("c_suite/{language}")),
    };
    let sources = sources(language);
    assert!(!sources.is_empty(), "tests/{language} has no such program");
    let queue = Mutex::new(sources.iter());
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = queue.lock().expect("the queue").next();
            let Some(source) = next else { return };
            let started = Instant::now();
            match suite.build_and_run(source) {
                Ok(()) => println!("{}: ok, {:.1} s", source.display(), started.elapsed().as_secs_f64()),
                Err(message) => failures.lock().expect("the failures").push(message),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().expect("the failures");
    assert!(failures.is_empty(), "{} of {} failed\n{}", failures.len(), sources.len(), failures.join("\n"));
}

fn sources(language: &str) -> Vec<PathBuf> {
    let only = env::var("C_TEST").ok();
    let entries = fs::read_dir(common::root().join("tests").join(language)).expect("the directory of the programs");
    let mut sources: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == language))
        .filter(|path| only.as_deref().is_none_or(|only| path.file_stem().is_some_and(|stem| stem == only)))
        .collect();
    sources.sort();
    sources
}

struct Suite {
    compiler: String,
    standard: String,
    /// Programs, outputs and directories.
    scratch: PathBuf,
    library: PathBuf,
}

impl Suite {
    fn build_and_run(&self, source: &Path) -> Result<(), String> {
        let name = source.file_stem().and_then(|stem| stem.to_str()).expect("a name in UTF-8");
        let place = self.scratch.join(name);
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(place.join("tmp")).map_err(|error| format!("{}: {error}", place.display()))?;
        self.build(source, &place)?;
        self.run(source, &place)
    }

    fn build(&self, source: &Path, place: &Path) -> Result<(), String> {
        let output = Command::new(&self.compiler)
            .args([
                &self.standard,
                "-D_GNU_SOURCE",
                "-g",
                "-O1",
                "-Wall",
                "-Wextra",
                "-pedantic",
                "-Werror",
                "-pthread",
            ])
            .args(words("C_TEST_FLAGS"))
            .arg("-I")
            .arg(common::root().join("include"))
            .arg("-I")
            .arg(common::root().join("tests/c"))
            .arg("-o")
            .arg(place.join("program"))
            .arg(source)
            .arg("-L")
            .arg(&self.library)
            .arg(format!("-Wl,-rpath,{}", self.library.display()))
            .args(["-lbatpak", "-ldl"])
            .output()
            .map_err(|error| format!("{}: {error}", self.compiler))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{}:\n{}", source.display(), String::from_utf8_lossy(&output.stderr))),
        }
    }

    fn run(&self, source: &Path, place: &Path) -> Result<(), String> {
        let output = place.join("output");
        let ended = self.start_and_wait(place, &output).map_err(|error| format!("{}: {error}", source.display()))?;
        match ended {
            None => Ok(()),
            Some(how) => {
                let output = fs::read(&output).unwrap_or_default();
                Err(format!("{}: {how}\n{}", source.display(), String::from_utf8_lossy(&output)))
            }
        }
    }

    /// `None`: success. Output goes to a file, so that no pipe can fill up, or be held open by what the program leaves
    /// behind.
    fn start_and_wait(&self, place: &Path, output: &Path) -> io::Result<Option<String>> {
        let seconds = env::var("C_TEST_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS_DEFAULT);
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let file = File::create(output)?;
        let program = place.join("program");
        let mut words = words("C_TEST_UNDER").into_iter();
        let mut command = match words.next() {
            Some(first) => Command::new(first),
            None => Command::new(&program),
        };
        command.args(words);
        if command.get_program() != program.as_os_str() {
            command.arg(&program);
        }
        // A group of its own: what it forked is ended with it.
        command.process_group(0).env("TMPDIR", place.join("tmp")).current_dir(place);
        let mut child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok((!status.success()).then(|| status.to_string()));
            }
            if Instant::now() >= deadline {
                // SAFETY: a signal to the group that the child leads. It was not waited for, so its number is its own.
                unsafe { libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL) };
                child.wait()?;
                return Ok(Some(format!("ended after {seconds} s")));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// An environment variable as words.
fn words(variable: &str) -> Vec<String> {
    env::var(variable).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}
