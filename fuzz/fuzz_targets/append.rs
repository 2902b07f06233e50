#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| libbatpak_fuzz::run("append", data));
