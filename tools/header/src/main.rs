//! Writes `include/batpak.h` from `src/ffi`, or with `--check` fails when it differs from what it would write.
//!
//! cbindgen groups what it writes by kind of item. The header is grouped by noun, so cbindgen runs once per file of
//! `src/ffi`, and this program joins the parts and puts the file's own prose (its `//|` lines) above each. It also
//! writes what cbindgen leaves out: text constants.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

/// The files of `src/ffi` in the order of the header.
const SECTIONS: [&str; 18] = [
    "status",
    "handle",
    "error",
    "version",
    "callback",
    "store",
    "fence",
    "wait",
    "region",
    "batch",
    "event",
    "entity",
    "import",
    "gap",
    "cursor",
    "checkpoint",
    "worker",
    "delivery",
];

/// Types that no function of their own section mentions, in the order in which they are to appear.
const INCLUDED: [(&str, &[&str]); 3] = [
    ("status", &["batpak_status_t"]),
    (
        "handle",
        &[
            "batpak_store_t",
            "batpak_fence_t",
            "batpak_cursor_t",
            "batpak_batch_t",
            "batpak_gap_list_t",
            "batpak_checkpoint_t",
            "batpak_checkpoint_list_t",
            "batpak_entity_list_t",
            "batpak_worker_t",
            "batpak_delivery_t",
        ],
    ),
    ("callback", &["batpak_user_data_free_fn", "batpak_clock_fn", "batpak_log_fn"]),
];

/// Words that mean nothing to a C programmer: their presence is a mistake in a comment.
const FOREIGN_WORDS: [&str; 14] = [
    "Rust", "rust", "Arc<", "Option<", "Result<", "Vec<", "unwrap", "panic", "crate", "# Safety", "trait", "impl ",
    "usize", "[`",
];

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("include/batpak.h");
    let header = match header(&root) {
        Ok(header) => header,
        Err(message) => {
            eprintln!("header: {message}");
            return ExitCode::FAILURE;
        }
    };
    if env::args().any(|argument| argument == "--check") {
        return check(&path, &header);
    }
    fs::create_dir_all(root.join("include")).expect("make include/");
    fs::write(&path, &header).expect("write include/batpak.h");
    println!("header: wrote include/batpak.h, {} lines", header.lines().count());
    ExitCode::SUCCESS
}

fn check(path: &Path, header: &str) -> ExitCode {
    let found = fs::read_to_string(path).unwrap_or_default();
    if found == header {
        println!("header: include/batpak.h is what src/ffi says, {} lines", header.lines().count());
        return ExitCode::SUCCESS;
    }
    let line = found.lines().zip(header.lines()).position(|(one, other)| one != other);
    let line = line.unwrap_or(found.lines().count().min(header.lines().count()));
    eprintln!("header: include/batpak.h differs from src/ffi from line {} on; run `make header`", line + 1);
    eprintln!("  committed: {}", found.lines().nth(line).unwrap_or("(end)"));
    eprintln!("  generated: {}", header.lines().nth(line).unwrap_or("(end)"));
    ExitCode::FAILURE
}

fn header(root: &Path) -> Result<String, String> {
    let mut text = String::new();
    text.push_str(&comment(&prose(root, "mod")?, "Generated from src/ffi by `make header`; do not edit."));
    text.push_str("\n#ifndef BATPAK_H\n#define BATPAK_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n");
    text.push_str("#ifdef __cplusplus\nextern \"C\" {\n#endif\n");
    for name in SECTIONS {
        let _ = write!(text, "\n{}\n{}", comment(&prose(root, name)?, ""), section(root, name)?);
    }
    text.push_str("\n#ifdef __cplusplus\n} /* extern \"C\" */\n#endif\n\n#endif /* BATPAK_H */\n");
    match FOREIGN_WORDS.iter().find(|word| text.contains(**word)) {
        Some(word) => Err(format!("a comment in src/ffi says {word:?}, which is not for C programmers")),
        None => Ok(text),
    }
}

fn source(root: &Path, name: &str) -> PathBuf {
    root.join("src/ffi").join(format!("{name}.rs"))
}

fn read(root: &Path, name: &str) -> Result<String, String> {
    let path = source(root, name);
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The `//|` lines of a file, without the marks; the first is empty.
fn prose(root: &Path, name: &str) -> Result<Vec<String>, String> {
    let text = read(root, name)?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("//|"));
    let lines: Vec<String> = lines.skip(1).map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned()).collect();
    if lines.is_empty() { Err(format!("src/ffi/{name}.rs has no `//|` lines")) } else { Ok(lines) }
}

/// A block comment, with a bar above when it opens a section.
fn comment(lines: &[String], last: &str) -> String {
    let bar = if last.is_empty() { format!(" {}", "=".repeat(113)) } else { String::new() };
    let mut text = format!("/*{bar}\n");
    for line in lines {
        text.push_str(format!(" * {line}").trim_end());
        text.push('\n');
    }
    if !last.is_empty() {
        let _ = write!(text, " *\n * {last}\n");
    }
    text.push_str(" */\n");
    text
}

/// One noun, as cbindgen writes it, and its text constants.
fn section(root: &Path, name: &str) -> Result<String, String> {
    let included = INCLUDED.iter().find(|(section, _)| *section == name).map_or(&[][..], |(_, types)| *types);
    let mut text = text_constants(&read(root, name)?);
    if name == "handle" {
        // Opaque types alone: cbindgen would sort them by name.
        for one in included.chunks(1) {
            text.push_str(&bindings(root, name, one)?);
            text.push('\n');
        }
    } else {
        text.push_str(&bindings(root, name, included)?);
    }
    Ok(tidy(text.trim_end()))
}

fn bindings(root: &Path, name: &str, included: &[&str]) -> Result<String, String> {
    let mut config = cbindgen::Config::from_file(root.join("cbindgen.toml"))?;
    config.export.include.extend(included.iter().map(|name| (*name).to_owned()));
    let bindings = cbindgen::Builder::new().with_config(config).with_src(source(root, name)).generate();
    let mut bytes = Vec::new();
    bindings.map_err(|error| error.to_string())?.write(&mut bytes);
    let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
    Ok(text.trim_start().to_owned())
}

/// Comments of one line on one line, constants in blocks, and types by their typedef names.
fn tidy(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut tidied: Vec<String> = Vec::new();
    let mut index = 0;
    while index < lines.len() {
        let line = lines[index];
        let is_short = line.trim() == "/**" && lines.get(index + 2).is_some_and(|line| line.trim() == "*/");
        let indent = &line[..line.len() - line.trim_start().len()];
        if is_short && lines[index + 1].len() <= 112 {
            tidied.push(format!("{indent}/** {} */", lines[index + 1].trim().trim_start_matches("* ")));
            index += 3;
            continue;
        }
        let is_between_constants = line.is_empty()
            && tidied.last().is_some_and(|last| last.starts_with("#define"))
            && lines.get(index + 3).is_some_and(|line| line.trim() == "*/")
            && lines.get(index + 4).is_some_and(|line| line.starts_with("#define"));
        if !is_between_constants {
            tidied.push(match line.starts_with("typedef struct") {
                true => line.to_owned(),
                false => line.replace("struct batpak_", "batpak_"),
            });
        }
        index += 1;
    }
    tidied.join("\n") + "\n"
}

/// `pub const NAME: &str = "..."` with its comment.
fn text_constants(source: &str) -> String {
    let mut text = String::new();
    let lines: Vec<&str> = source.lines().collect();
    for pair in lines.windows(2) {
        let Some((name, value)) = pair[1].strip_prefix("pub const ").and_then(|rest| rest.split_once(": &str = "))
        else {
            continue;
        };
        let comment = pair[0].trim_start_matches("/// ");
        let _ = write!(text, "/**\n * {comment}\n */\n#define {name} {}\n\n", value.trim_end_matches(';'));
    }
    text
}
