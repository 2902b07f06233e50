//! What the tests of the built library share: where it is.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A directory with the shared library of this build, or the one that TEST_LIBRARY names, under the names that linkers and loaders look
/// for. `user` tells the test that asks apart from others that run at the same time.
pub fn library_dir(user: &str) -> PathBuf {
    // Cargo puts the library beside the test's own executable.
    let test = env::current_exe().expect("the path of the test");
    let library = env::var_os("TEST_LIBRARY").map_or_else(|| test.with_file_name("libbatpak.so"), PathBuf::from);
    assert!(library.exists(), "{} is missing", library.display());
    let dir = scratch_dir(user).join("lib");
    fs::create_dir_all(&dir).expect("a directory for the library");
    for name in ["libbatpak.so".to_owned(), soname()] {
        let link = dir.join(name);
        let _ = fs::remove_file(&link);
        symlink(&library, &link).expect("a link to the library");
    }
    dir
}

/// The name that programs linked with the library look for.
pub fn soname() -> String {
    format!("libbatpak.so.{}.{}", env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"))
}

/// A directory for what a test builds, kept between runs.
pub fn scratch_dir(user: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(user)
}
