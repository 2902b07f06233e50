//! The house stands as docs/ARCHITECTURE.md draws it: imports point down, and what is fenced stays in its room.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms, bottom first. A room may import from itself and from those before it.
const LAYERS: [&[&str]; 8] =
    [&["error", "sync"], &["event", "io"], &["format"], &["log"], &["index"], &["store"], &["cursor"], &["ffi", "bin"]];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
}

/// Each source file with its room and the lines that are not of its unit tests.
fn files() -> Vec<(String, PathBuf, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    found
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name != "lib.rs"))
        .filter(|path| {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            !name.contains("/tests")
                && !name.ends_with("tests.rs")
                && !name.contains("/regressions")
                && !name.ends_with("conformance.rs")
        })
        .map(|path| {
            let relative = path.strip_prefix(&root).unwrap().to_owned();
            let room =
                relative.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            (room, relative, code.lines().map(str::to_owned).collect())
        })
        .collect()
}

fn layer(room: &str) -> usize {
    LAYERS.iter().position(|layer| layer.contains(&room)).unwrap_or_else(|| panic!("the room {room} has no layer"))
}

#[test]
fn imports_point_down() {
    let mut edges = 0;
    for (room, path, lines) in files() {
        for line in lines {
            let code = line.split("//").next().unwrap_or_default();
            for (at, _) in code.match_indices("crate::") {
                let target: String =
                    code[at + 7..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if target.is_empty() || target.chars().next().is_some_and(char::is_uppercase) {
                    continue;
                }
                edges += 1;
                assert!(layer(&target) <= layer(&room), "{} imports upwards: {}", path.display(), line.trim());
                let sideways = layer(&target) == layer(&room) && target != room;
                assert!(!sideways, "{} imports a neighbour of its layer: {}", path.display(), line.trim());
            }
        }
    }
    assert!(edges > 100, "only {edges} imports were found: is the test looking at the code?");
}

#[test]
fn only_io_touches_the_file_system() {
    for (room, path, lines) in files() {
        for line in lines.iter().filter(|_| room != "io") {
            let code = line.split("//").next().unwrap_or_default();
            for fenced in
                ["std::fs", "File::open", "OpenOptions", "libc::open", "libc::pwrite", "libc::fsync", "libc::mmap"]
            {
                assert!(!code.contains(fenced), "{} touches the file system: {}", path.display(), line.trim());
            }
        }
    }
}

#[test]
fn only_ffi_exports() {
    for (room, path, lines) in files() {
        for line in lines.iter().filter(|_| room != "ffi") {
            assert!(
                !line.contains("no_mangle") && !line.contains("export_name"),
                "{} exports: {}",
                path.display(),
                line.trim()
            );
        }
    }
}
