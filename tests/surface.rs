//! The C surface from outside: what `tests/surface/check.sh` checks, against the library of this build. Its words are
//! printed as they come.

mod common;

use std::process::Command;

fn check(name: &str) {
    let user = format!("surface/{name}");
    let status = Command::new(common::root().join("tests/surface/check.sh"))
        .arg(name)
        .arg(common::library_dir(&user))
        .arg(common::scratch_dir(&user))
        .status()
        .expect("a shell");
    assert!(status.success(), "{name}: see above");
}

#[test]
fn what_is_declared_is_exported_and_nothing_else() {
    check("symbols");
}

#[test]
fn the_binary_has_its_name_and_stays_loaded() {
    check("binary");
}

#[test]
fn the_header_compiles_alone_in_every_standard() {
    check("compile");
}

#[test]
fn structs_are_laid_out_in_c_as_recorded() {
    check("layout");
}

#[test]
fn version_macros_and_functions_agree() {
    check("version");
}

#[test]
fn the_example_of_the_header_runs() {
    check("example");
}

#[test]
fn cffi_reads_the_header_and_the_events() {
    check("cffi");
}
