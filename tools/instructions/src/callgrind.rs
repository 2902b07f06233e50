//! Reads what callgrind writes: its own instructions of each function, and behind each `calls=` line those of a call with all below it.
//!
//! Names of files and functions are written out once, `(7) name`, and are `(7)` from then on. Lines that name a place (`fl=`, `fi=`, `fe=`
//! and those of callees) are of no interest: a function is what the compiler made one, whatever was inlined into it.

use std::collections::{BTreeMap, HashMap};

/// The instructions of one run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub total: u64,
    /// Of the functions of one object, with all that they call.
    pub functions: BTreeMap<String, u64>,
}

/// A name and its number.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn resolve(&mut self, text: &str) -> Result<String, String> {
        let numbered = text.strip_prefix('(').and_then(|text| text.split_once(')'));
        let Some((number, name)) = numbered else { return Ok(text.to_owned()) };
        if !name.is_empty() {
            self.0.insert(number.to_owned(), name.trim_start().to_owned());
        }
        self.0.get(number).cloned().ok_or_else(|| format!("the name ({number}) is nowhere"))
    }
}

/// A function's name without what differs from build to build or call to call: the hash `::h0123456789abcdef` at its end, hashes of
/// crates (`[0123456789abcdef]`), and the depth of a recursion (`'2`).
fn plain(name: &str) -> String {
    let is_hash = |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = match name.rsplit_once('\'') {
        Some((before, depth)) if !depth.is_empty() && depth.bytes().all(|byte| byte.is_ascii_digit()) => before,
        _ => name,
    };
    let name = match name.rsplit_once("::h") {
        Some((before, hash)) if is_hash(hash) => before,
        _ => name,
    };
    let mut parts = name.split('[');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((hash, rest)) if is_hash(hash) => plain.push_str(rest),
            _ => plain.extend(["[", part]),
        }
    }
    plain
}

/// The counts of the functions whose object's path has `object` in it.
pub fn parse(text: &str, object: &str) -> Result<Profile, String> {
    let (mut objects, mut functions) = (Names::default(), Names::default());
    let (mut profile, mut has_total) = (Profile::default(), false);
    let (mut is_wanted, mut caller, mut callee, mut is_call) = (false, String::new(), String::new(), false);
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=') {
            match key {
                "ob" => is_wanted = objects.resolve(value)?.contains(object),
                "cob" => drop(objects.resolve(value)?),
                "fn" => caller = plain(&functions.resolve(value)?),
                "cfn" => callee = plain(&functions.resolve(value)?),
                "calls" => is_call = true,
                _ => {}
            }
        } else if let Some(total) = line.strip_prefix("summary: ") {
            profile.total = total.trim().parse().map_err(|_| format!("{line:?} is no sum"))?;
            has_total = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            // Where, and how many; none where nothing was counted.
            let cost = line.split(' ').nth(1).unwrap_or("0");
            let cost: u64 = cost.parse().map_err(|_| format!("{line:?} is no cost"))?;
            // What a function spends in calls of itself is counted inside.
            if is_wanted && !(is_call && caller == callee) {
                *profile.functions.entry(caller.clone()).or_default() += cost;
            }
            is_call = false;
        }
    }
    if has_total { Ok(profile) } else { Err("callgrind wrote no summary".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
version: 1
positions: line
events: Ir
summary: 1000

ob=(1) /usr/bin/program
fl=(1) ???
fn=(1) main
cob=(2) /tree/libbatpak.so.0.1
cfi=(2) append.rs
cfn=(2) batpak::append::h0123456789abcdef
calls=10 7
12 900
+3 100

ob=(2)
fl=(2)
fn=(2)
7 300
fi=(3) crc.rs
* 50
fe=(2)
cob=(3) /lib/libc.so.6
cfn=(4) memcpy
calls=10 0
+1 150
cfn=(5) batpak::encode
calls=10 9
-2 400

fn=(5)
9 200
cfn=(6) batpak::encode'2
calls=5 9
9 200

fn=(6)
9 200
";

    #[test]
    fn a_function_has_its_own_and_those_of_its_calls() {
        let profile = parse(PROFILE, "libbatpak.so").unwrap();
        assert_eq!(profile.total, 1000);
        let functions: Vec<_> = profile.functions.iter().map(|(name, &cost)| (name.as_str(), cost)).collect();
        assert_eq!(functions, [("batpak::append", 900), ("batpak::encode", 400)]);
    }

    #[test]
    fn a_name_has_nothing_of_its_build() {
        assert_eq!(plain("<batpak::Scan as Next>::next::h0123456789abcdef"), "<batpak::Scan as Next>::next");
        assert_eq!(plain("<batpak[0123456789abcdef]::Scan>::next"), "<batpak::Scan>::next");
        assert_eq!(plain("batpak::help::h1"), "batpak::help::h1");
        assert_eq!(plain("drop_in_place<[u8]>"), "drop_in_place<[u8]>");
    }

    #[test]
    fn a_file_that_was_cut_off_is_an_error() {
        assert!(parse("fn=(1) main\n1 2\n", "libbatpak.so").is_err());
        assert!(parse("summary: 1\nfn=(9)\n", "libbatpak.so").is_err());
    }
}
