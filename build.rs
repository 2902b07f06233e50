//! Link arguments of the shared library.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_FAMILY").as_deref() != Ok("unix")
        || env::var("CARGO_CFG_TARGET_VENDOR").as_deref() == Ok("apple")
    {
        return;
    }
    // Until 1.0 every minor version is another binary interface.
    let (major, minor) = (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libbatpak.so.{major}.{minor}");
    // Threads of the host may have thread-local state of the library, whose destructors must not be unmapped.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
