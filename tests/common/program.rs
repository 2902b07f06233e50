//! Programs in C that tests run against the library of this build, compiled as strictly as the C suite.

#![allow(dead_code, reason = "no test uses all of it")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, fs};

use crate::common;

/// Compiles a source below the repository to a program that finds the library; `user` tells it apart from those of other tests.
pub fn build(user: &str, source: impl AsRef<Path>, more: &[&str]) -> PathBuf {
    let library = common::library_dir(user);
    let program = common::scratch_dir(user).join("program");
    let paths = [format!("-L{}", library.display()), format!("-Wl,-rpath,{}", library.display())];
    let flags = paths.iter().map(String::as_str).chain(more.iter().copied()).chain(["-lbatpak", "-ldl"]);
    compile(source, &program, flags);
    program
}

/// Compiles a source below the repository. What is there already stays whole until the new one takes its place: another run of the same
/// test may be using it.
pub fn compile(source: impl AsRef<Path>, to: &Path, flags: impl IntoIterator<Item = impl AsRef<OsStr>>) {
    let source = common::root().join(source);
    let new = to.with_extension(format!("{}.new", process::id()));
    let near = source.parent().expect("its directory").to_owned();
    let output = Command::new(env::var("CC").unwrap_or_else(|_| "cc".to_owned()))
        .args(["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-pedantic", "-Werror", "-pthread"])
        .args(env::var("C_TEST_FLAGS").unwrap_or_default().split_whitespace())
        .args(
            [common::root().join("include"), common::root().join("tests/c"), near]
                .map(|dir| format!("-I{}", dir.display())),
        )
        .args([Path::new("-o"), &new, &source])
        .args(flags)
        .output()
        .expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&new, to).expect("the program in its place");
}
