//! What happened: a category of 4 bits above a type of 12 bits.
//!
//! The library's own categories are 0x0 (system) and 0xD (effect). Any `u16` is a kind; whether a *caller* may append it
//! is [`check_caller_kind`]'s question.

use crate::error::{Error, Result};

/// The category of the library's own events.
pub const SYSTEM_CATEGORY: u8 = 0x0;
/// The category reserved for the library's effects.
pub const EFFECT_CATEGORY: u8 = 0xD;

/// The highest category.
pub(crate) const CATEGORY_MAX: u8 = 0xF;
/// The highest type number.
const TYPE_MAX: u16 = 0xFFF;
const TYPE_BITS: u32 = 12;

/// An event's kind: `category << 12 | type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Kind(pub u16);

impl Kind {
    /// The kind of a category (0 to 15, reserved ones too) and a type (0 to 4095). The error holds the part that is out
    /// of range.
    pub fn new(category: u8, type_number: u16) -> Result<Kind> {
        if category > CATEGORY_MAX {
            return Err(Error::KindOutOfRange { value: u32::from(category) });
        }
        if type_number > TYPE_MAX {
            return Err(Error::KindOutOfRange { value: u32::from(type_number) });
        }
        Ok(Kind(u16::from(category) << TYPE_BITS | type_number))
    }

    /// The category, 0 to 15.
    #[inline]
    pub const fn category(self) -> u8 {
        (self.0 >> TYPE_BITS) as u8
    }

    /// The type within the category, 0 to 4095.
    #[inline]
    pub const fn type_number(self) -> u16 {
        self.0 & TYPE_MAX
    }

    /// The category is one of the library's.
    #[inline]
    pub const fn is_reserved(self) -> bool {
        matches!(self.category(), SYSTEM_CATEGORY | EFFECT_CATEGORY)
    }
}

/// Checks a kind that a caller appends: at most 0xFFFF and not of a reserved category.
#[inline]
pub fn check_caller_kind(value: u32) -> Result<Kind> {
    let kind = Kind(u16::try_from(value).map_err(|_| Error::KindOutOfRange { value })?);
    if kind.is_reserved() {
        return Err(Error::KindReserved { kind: kind.0, category: kind.category() });
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_go_together_and_come_apart() {
        let kind = Kind::new(0x3, 0x01F).unwrap();
        assert_eq!((kind, kind.category(), kind.type_number()), (Kind(0x301F), 0x3, 0x01F));
        assert_eq!(Kind::new(15, 4095).unwrap(), Kind(0xFFFF));
        assert_eq!(Kind::new(SYSTEM_CATEGORY, 1).unwrap(), Kind(1));
    }

    #[test]
    fn parts_out_of_range_are_named() {
        assert!(matches!(Kind::new(16, 0), Err(Error::KindOutOfRange { value: 16 })));
        assert!(matches!(Kind::new(1, 4096), Err(Error::KindOutOfRange { value: 4096 })));
    }

    #[test]
    fn callers_get_fourteen_categories() {
        for value in 0..=0xFFFFu32 {
            let reserved = matches!(value >> 12, 0x0 | 0xD);
            match check_caller_kind(value) {
                Ok(kind) => assert!(!reserved && u32::from(kind.0) == value),
                Err(Error::KindReserved { kind, category }) => {
                    assert!(reserved && u32::from(kind) == value && u32::from(category) == value >> 12);
                }
                Err(other) => panic!("{value:#x}: {other}"),
            }
        }
        assert!(matches!(check_caller_kind(0x1_0000), Err(Error::KindOutOfRange { value: 0x1_0000 })));
        assert!(matches!(check_caller_kind(u32::MAX), Err(Error::KindOutOfRange { .. })));
    }
}
