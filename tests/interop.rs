//! Checkpoint files and other people's MessagePack: `tests/checkpoint_interop.py`, with a decoder and an encoder of its
//! own, against the library of this build. Without Python it is skipped, aloud.

mod common;

use std::process::Command;

#[test]
fn checkpoints_are_read_and_written_by_others() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if Command::new(&python).arg("--version").output().is_err() {
        println!("skipped: there is no {python}");
        return;
    }
    let library = common::library_dir("interop").join("libbatpak.so");
    let script = common::root().join("tests/checkpoint_interop.py");
    let output = Command::new(&python).arg(script).arg(library).output().expect("the interpreter runs");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
