//! The version, the ABI and the features of the build, and what is known about statuses.
//|
//| Version and features
//|
//| The macros tell what a program was compiled with, the functions what it runs with.

use std::ffi::c_char;

use super::error::batpak_error_t;
use super::guard;
use super::input::{self, out};
use super::status::{self, BATPAK_OK, batpak_status_t};
use crate::error::Error;

/// The version's first number.
pub const BATPAK_VERSION_MAJOR: u32 = 0u32;
/// The version's second number. Until 1.0 the library's file name (soname) changes with it.
pub const BATPAK_VERSION_MINOR: u32 = 1u32;
/// The version's third number.
pub const BATPAK_VERSION_PATCH: u32 = 0u32;
/// The version in one number: major * 1000000 + minor * 1000 + patch.
pub const BATPAK_VERSION_NUMBER: u32 = 1000u32;
/// The version as text.
pub const BATPAK_VERSION_STRING: &str = "0.1.0";
/// The binary interface of this header, for batpak_check_abi.
pub const BATPAK_ABI_VERSION: u32 = 1u32;

/// The optional abilities that this build has.
const FEATURES: &[&str] = &[
    "append",
    "batch",
    "causes",
    "checkpoint",
    "cursor",
    "expected-state",
    "fence",
    "idempotency",
    "leaf-hash",
    "notify-fd",
    "worker",
];

/// One status as batpak_status_list tells it. The texts are terminated, and live as long as the library is loaded.
#[repr(C)]
pub struct batpak_status_info_t {
    /// The number.
    pub code: batpak_status_t,
    /// Zero.
    pub reserved: u32,
    /// The name of its constant.
    pub name: *const c_char,
    /// What it means, in a few words.
    pub description: *const c_char,
}

// SAFETY: the pointers are to static texts that nobody writes.
unsafe impl Sync for batpak_status_info_t {}

static STATUS_LIST: [batpak_status_info_t; status::ROWS.len()] = {
    const EMPTY: batpak_status_info_t =
        batpak_status_info_t { code: 0, reserved: 0, name: std::ptr::null(), description: std::ptr::null() };
    let mut list = [EMPTY; status::ROWS.len()];
    let mut index = 0;
    while index < list.len() {
        let row = &status::ROWS[index];
        list[index] = batpak_status_info_t {
            code: row.code,
            reserved: 0,
            name: row.name.as_ptr().cast(),
            description: row.description.as_ptr().cast(),
        };
        index += 1;
    }
    list
};

/// The version of the loaded library in one number, as BATPAK_VERSION_NUMBER.
///
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn batpak_version_number() -> u32 {
    BATPAK_VERSION_NUMBER
}

/// The version of the loaded library as terminated text, which lives as long as the library is loaded.
///
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn batpak_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Asks whether the loaded library serves programs compiled with the given binary interface.
///
/// abi_version: pass BATPAK_ABI_VERSION. err: out, may be NULL.
/// Returns BATPAK_OK, or BATPAK_E_UNSUPPORTED: link or load another version of the library.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_check_abi(abi_version: u32, err: *mut *mut batpak_error_t) -> batpak_status_t {
    let check = || match abi_version {
        BATPAK_ABI_VERSION => Ok(BATPAK_OK),
        _ => Err(Error::Unsupported {
            what: format!("the binary interface {abi_version}"),
            remedy: "this library has number 1; build the program with the header of the library that it loads",
        }),
    };
    // SAFETY: P.
    unsafe { guard::call(err, check) }
}

/// 1 when the loaded library has the named ability, else 0.
///
/// name, name_len: "append", "batch", "causes", "checkpoint", "cursor", "expected-state", "fence", "idempotency",
/// "leaf-hash", "notify-fd", "worker", or the name of an ability of later versions.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_has_feature(name: *const c_char, name_len: usize) -> i32 {
    guard::value(0, || {
        // SAFETY: P.
        let name = unsafe { input::bytes("name", name.cast(), name_len) }.unwrap_or(b"");
        i32::from(FEATURES.iter().any(|feature| feature.as_bytes() == name))
    })
}

/// The name of a status's constant as terminated text, such as "BATPAK_E_CLOSED"; "BATPAK_E_UNKNOWN" for a number that
/// the loaded library does not know. Never NULL. The text lives as long as the library is loaded.
///
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn batpak_status_name(status: batpak_status_t) -> *const c_char {
    status::name(status).as_ptr().cast()
}

/// What a status means, in a few words, as terminated text. Never NULL. The text lives as long as the library is
/// loaded.
///
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn batpak_status_description(status: batpak_status_t) -> *const c_char {
    status::description(status).as_ptr().cast()
}

/// All statuses of the loaded library, for language bindings.
///
/// list, n: out; the array, which lives as long as the library is loaded, and its length. err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_status_list(
    list: *mut *const batpak_status_info_t,
    n: *mut usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::call(err, || {
            let (list, n) = (out("list", list)?, out("n", n)?);
            list.write(STATUS_LIST.as_ptr());
            n.write(STATUS_LIST.len());
            Ok(BATPAK_OK)
        })
    }
}

// The literals are those of the package.
const _: () = {
    const fn number(text: &str) -> u32 {
        match u32::from_str_radix(text, 10) {
            Ok(number) => number,
            Err(_) => panic!("not a number"),
        }
    }
    const fn is_same(one: &[u8], other: &[u8]) -> bool {
        let mut index = 0;
        while index < one.len() && index < other.len() && one[index] == other[index] {
            index += 1;
        }
        index == one.len() && index == other.len()
    }
    assert!(BATPAK_VERSION_MAJOR == number(env!("CARGO_PKG_VERSION_MAJOR")));
    assert!(BATPAK_VERSION_MINOR == number(env!("CARGO_PKG_VERSION_MINOR")));
    assert!(BATPAK_VERSION_PATCH == number(env!("CARGO_PKG_VERSION_PATCH")));
    assert!(
        BATPAK_VERSION_NUMBER == BATPAK_VERSION_MAJOR * 1_000_000 + BATPAK_VERSION_MINOR * 1000 + BATPAK_VERSION_PATCH
    );
    assert!(is_same(BATPAK_VERSION_STRING.as_bytes(), env!("CARGO_PKG_VERSION").as_bytes()));
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_found_by_their_whole_name() {
        let has = |name: &str| {
            // SAFETY: the name has its length.
            unsafe { batpak_has_feature(name.as_ptr().cast(), name.len()) }
        };
        assert_eq!((has("cursor"), has("curs"), has("proof")), (1, 0, 0));
    }
}
