//! What an entity and a scope may look like, and how an entity prefix matches.
//!
//! A coordinate part is valid iff
//! 1. it has 1 to 1024 bytes;
//! 2. it is not exactly `*`;
//! 3. it is UTF-8;
//! 4. it has no byte below 0x20, no 0x7F, no `/`, no `|`, no `=` and no `..`.
//!
//! The checks are made in this order and the first that fails names the error; within 4 the lowest offset does.
//! `|`, `=` and `*` are what region identities are punctuated with; `/` and `..` keep a name from being a path.

use super::COORDINATE_BYTES_MAX;
use crate::error::{Error, Result};

/// The root of the library's own entities.
pub(crate) const RESERVED_ENTITY: &str = "batpak";

/// Checks one coordinate part. `part` is `"entity"` or `"scope"` and goes into the error.
#[inline]
pub fn check_coordinate<'a>(part: &'static str, bytes: &'a [u8]) -> Result<&'a str> {
    if bytes.is_empty() {
        return Err(Error::CoordinateEmpty { part });
    }
    if bytes.len() > COORDINATE_BYTES_MAX {
        return Err(Error::CoordinateTooLong { part, length: bytes.len() });
    }
    if bytes == b"*" {
        return Err(Error::CoordinateWildcard { part });
    }
    if is_plain(bytes) {
        // SAFETY: `is_plain` is true only if every byte is below 0x80, and such bytes are UTF-8.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    check_text(part, bytes)
}

/// Checks an entity that a caller appends to: a valid coordinate part that is not the library's.
#[inline]
pub fn check_caller_entity(bytes: &[u8]) -> Result<&str> {
    let entity = check_coordinate("entity", bytes)?;
    if is_reserved_entity(entity) {
        return Err(Error::EntityReserved { value: entity.to_owned() });
    }
    Ok(entity)
}

/// The entity is the library's: `batpak` or `batpak:...`.
#[inline]
pub fn is_reserved_entity(entity: &str) -> bool {
    prefix_matches(RESERVED_ENTITY, entity)
}

/// The entity is `prefix` itself or goes on from it with `:`. So `alice` matches `alice` and `alice:x`, not `alice2`,
/// and `alice:` matches `alice::x`, not `alice:x`.
#[inline]
pub fn prefix_matches(prefix: &str, entity: &str) -> bool {
    match entity.as_bytes().strip_prefix(prefix.as_bytes()) {
        Some(rest) => rest.first().is_none_or(|&next| next == b':'),
        None => false,
    }
}

/// Rules 3 and 4, one character at a time: the exact judge of what `is_plain` does not wave through.
#[inline(never)]
fn check_text<'a>(part: &'static str, bytes: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error::CoordinateNotUtf8 { part, offset: e.valid_up_to() })?;
    for (offset, &byte) in bytes.iter().enumerate() {
        let found = match byte {
            0..=0x1F | 0x7F => format!("the control byte {byte:#04x}"),
            b'/' | b'|' | b'=' => format!("'{}'", char::from(byte)),
            b'.' if bytes.get(offset + 1) == Some(&b'.') => "'..'".to_owned(),
            _ => continue,
        };
        return Err(Error::CoordinateCharacter { part, value: text.to_owned(), found, offset });
    }
    Ok(text)
}

/// True only for ASCII that satisfies rule 4. False decides nothing: `check_text` does.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let mut refused = 0;
    let mut dots_before = 0;
    let mut rest = bytes;
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let dots = lanes_equal(word, b'.');
        // A dot in the last lane of the word before stands before the first lane of this one.
        refused |= lanes_refused(word) | (dots & (dots << 8 | dots_before));
        dots_before = dots >> 56;
        rest = after;
    }
    if !rest.is_empty() {
        // The last 8 bytes, which overlap the word before and so hold the pair at the seam; or all of a short part.
        let word = match bytes.last_chunk::<8>() {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => rest.iter().fold(lanes(b'a'), |word, &byte| word << 8 | u64::from(byte)),
        };
        let dots = lanes_equal(word, b'.');
        refused |= lanes_refused(word) | (dots & dots << 8);
    }
    refused == 0
}

/// The byte in each of the eight lanes of a word.
const fn lanes(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The high bit of each lane that equals `byte`; exact if all lanes are below 0x80.
#[inline]
const fn lanes_equal(word: u64, byte: u8) -> u64 {
    !(word ^ lanes(byte)).wrapping_add(lanes(0x7F)) & lanes(0x80)
}

/// Not zero if a lane is above 0x7E, below 0x20, or one of `/`, `|`, `=`.
#[inline]
const fn lanes_refused(word: u64) -> u64 {
    let not_ascii = word;
    let control = !word.wrapping_add(lanes(0x80 - 0x20));
    let delete = word.wrapping_add(lanes(0x80 - 0x7F));
    (not_ascii | control | delete) & lanes(0x80)
        | lanes_equal(word, b'/')
        | lanes_equal(word, b'|')
        | lanes_equal(word, b'=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(bytes: &[u8]) -> Result<&str> {
        check_coordinate("entity", bytes)
    }

    #[test]
    fn each_cause_has_its_error() {
        assert!(matches!(check(b""), Err(Error::CoordinateEmpty { part: "entity" })));
        assert!(matches!(check(&[b'a'; 1025]), Err(Error::CoordinateTooLong { length: 1025, .. })));
        assert!(matches!(check(b"*"), Err(Error::CoordinateWildcard { .. })));
        assert!(matches!(check(b"ab\xFFcd"), Err(Error::CoordinateNotUtf8 { offset: 2, .. })));
        assert!(matches!(check_coordinate("scope", b""), Err(Error::CoordinateEmpty { part: "scope" })));
        assert!(matches!(check_caller_entity(b"batpak:x"), Err(Error::EntityReserved { .. })));
    }

    #[test]
    fn what_is_valid_comes_back_unchanged() {
        for text in ["a", "a.b.c", "**", "a*", "order:42", "a b", "zażółć", "🦇", "end.", ".start", "a.b.c.d.e.f."]
        {
            assert_eq!(check(text.as_bytes()).unwrap(), text);
        }
        assert!(check(&[b'x'; 1024]).is_ok());
    }

    /// Each refused sequence at each offset of parts of many lengths: words, tails and seams between them.
    #[test]
    fn a_refused_character_is_found_at_every_offset() {
        let refused: [(&[u8], &str); 7] = [
            (b"/", "'/'"),
            (b"|", "'|'"),
            (b"=", "'='"),
            (b"..", "'..'"),
            (b"\x00", "the control byte 0x00"),
            (b"\x1F", "the control byte 0x1f"),
            (b"\x7F", "the control byte 0x7f"),
        ];
        for (sequence, name) in refused {
            for length in sequence.len()..40 {
                for at in 0..=length - sequence.len() {
                    let mut bytes = vec![b'a'; length];
                    bytes[at..at + sequence.len()].copy_from_slice(sequence);
                    match check(&bytes) {
                        Err(Error::CoordinateCharacter { offset, found, value, .. }) => {
                            assert_eq!((offset, found.as_str(), value.as_bytes()), (at, name, &bytes[..]));
                        }
                        other => panic!("{bytes:?} gave {other:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn the_message_says_what_and_where() {
        let message = check(b"a/b").unwrap_err().to_string();
        assert!(message.starts_with("the entity \"a/b\" has '/' at byte 1;"), "{message}");
    }

    #[test]
    fn a_prefix_ends_at_a_colon() {
        assert!(prefix_matches("alice", "alice"));
        assert!(prefix_matches("alice", "alice:x"));
        assert!(!prefix_matches("alice", "alice2"));
        assert!(!prefix_matches("alice:x", "alice"));
        assert!(!prefix_matches("alice:", "alice:x"));
        assert!(prefix_matches("alice:", "alice::x"));
    }

    #[test]
    fn only_the_librarys_entities_are_reserved() {
        assert!(is_reserved_entity("batpak") && is_reserved_entity("batpak:") && is_reserved_entity("batpak:a:b"));
        assert!(!is_reserved_entity("batpak2") && !is_reserved_entity("Batpak") && !is_reserved_entity("bat"));
        assert_eq!(check_caller_entity(b"batpak2").unwrap(), "batpak2");
    }

    /// Bytes that are mostly ordinary, with the interesting ones well represented.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            12 => 0x21u8..0x7F,
            3 => Just(b'.'),
            1 => any::<u8>(),
            1 => prop_oneof![Just(0x1Fu8), Just(0x20), Just(0x7E), Just(0x7F), Just(0x80), Just(0xFF)],
        ];
        proptest::collection::vec(byte, 1..48)
    }

    proptest! {
        #[test]
        fn the_fast_pass_agrees_with_the_exact_one(bytes in bytes()) {
            prop_assert!(!is_plain(&bytes) || check_text("entity", &bytes).is_ok());
            if bytes.len() >= 8 && bytes.is_ascii() {
                prop_assert_eq!(is_plain(&bytes), check_text("entity", &bytes).is_ok());
            }
        }

        #[test]
        fn every_string_is_judged_without_a_panic(text in ".{0,40}") {
            if let Ok(checked) = check(text.as_bytes()) {
                prop_assert_eq!(checked, text.as_str());
                prop_assert!(!text.contains(['/', '|', '=']) && !text.contains("..") && text != "*");
            }
        }
    }
}
