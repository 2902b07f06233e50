//! Public structs that start with their size: old and new headers meet here.

use std::ptr;

use super::input::{invalid, out};
use crate::error::{Error, Result};

/// No struct of ours comes near it: a larger size is a mistake, and is not read.
const STRUCT_BYTES_MAX: usize = 4096;
/// The size itself, and at least one more member.
const STRUCT_BYTES_MIN: usize = 8;

/// A public struct with `struct_size` first.
///
/// # Safety
/// The type is `repr(C)` with a `u32` first and no padding, and every bit pattern of it is a value.
pub(super) unsafe trait Versioned: Copy {
    /// The C name.
    const NAME: &'static str;
    /// What to do when the size is wrong.
    const REMEDY: &'static str;
    /// What zero stands for, written out; `struct_size` is that of this version.
    fn defaults() -> Self;
    /// Reserved members and unknown flags.
    fn check(&self) -> Result<()>;
}

/// What an options pointer stands for: the defaults for null, and for members that an older header does not have.
///
/// # Safety
/// `pointer` is null or points to a struct of `T`'s type in some version, whose first member is its size.
pub(super) unsafe fn read<T: Versioned>(pointer: *const T) -> Result<T> {
    let mut value = T::defaults();
    if pointer.is_null() {
        return Ok(value);
    }
    if !pointer.is_aligned() {
        return Err(invalid(T::NAME, &"misaligned", "pass a pointer to the struct"));
    }
    // SAFETY: not null, aligned, and starts with its size as the caller says.
    let size = check_size::<T>(unsafe { pointer.cast::<u32>().read() } as usize)?;
    // SAFETY: the struct has `size` bytes, as it says; `value` has at least as many as are copied, and any bytes are a
    // value of `T`.
    unsafe {
        check_tail(pointer, size)?;
        ptr::copy_nonoverlapping(pointer.cast::<u8>(), (&raw mut value).cast(), size.min(size_of::<T>()));
    }
    value.check()?;
    Ok(value)
}

/// Fills a struct of the caller's size with the defaults.
///
/// # Safety
/// `pointer` is null or valid for writing `size` bytes.
pub(super) unsafe fn init<T: Versioned>(pointer: *mut T, size: usize) -> Result<()> {
    let pointer = out(T::NAME, pointer)?;
    let size = check_size::<T>(size)?;
    // SAFETY: not null, aligned, and valid for `size` bytes as the caller says.
    unsafe { fill(pointer, size, &T::defaults()) };
    Ok(())
}

/// Fills a struct that the caller prepared with its size.
///
/// # Safety
/// `pointer` is null or points to a struct whose first member is its size in bytes.
pub(super) unsafe fn write<T: Versioned>(pointer: *mut T, value: &T) -> Result<()> {
    let pointer = out(T::NAME, pointer)?;
    // SAFETY: not null, aligned, and starts with its size as the caller says.
    let size = check_size::<T>(unsafe { pointer.cast::<u32>().read() } as usize)?;
    // SAFETY: not null, aligned, and valid for `size` bytes as it says.
    unsafe { fill(pointer, size, value) };
    Ok(())
}

/// # Safety
/// `pointer` is valid for writing `size` bytes, at least [`STRUCT_BYTES_MIN`].
unsafe fn fill<T: Versioned>(pointer: *mut T, size: usize, value: &T) {
    // SAFETY: within `size` bytes, as the caller says, and within `value`.
    unsafe {
        ptr::write_bytes(pointer.cast::<u8>(), 0, size);
        ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>(), pointer.cast(), size.min(size_of::<T>()));
        pointer.cast::<u32>().write(size as u32);
    }
}

/// A size that some version of the struct can have: members have at most 8 bytes, so a multiple of the alignment cuts
/// none of them in two.
pub(super) fn check_size<T: Versioned>(size: usize) -> Result<usize> {
    if !(STRUCT_BYTES_MIN..=STRUCT_BYTES_MAX).contains(&size) || size % align_of::<T>() != 0 {
        return Err(bad_size::<T>(size));
    }
    Ok(size)
}

#[cold]
fn bad_size<T: Versioned>(size: usize) -> Error {
    Error::InvalidArgument { what: T::NAME, value: format!("of struct_size {size}"), remedy: T::REMEDY }
}

/// What a newer header has and this version does not know must be zero.
///
/// # Safety
/// `pointer` is valid for reading `size` bytes.
pub(super) unsafe fn check_tail<T: Versioned>(pointer: *const T, size: usize) -> Result<()> {
    for offset in size_of::<T>()..size {
        // SAFETY: within `size` bytes, as the caller says.
        if unsafe { pointer.cast::<u8>().add(offset).read() } != 0 {
            return Err(unsupported(format!("{} with something at byte {offset}", T::NAME)));
        }
    }
    Ok(())
}

/// A member or flag that this version does not know.
#[cold]
pub(super) fn unsupported(what: String) -> Error {
    Error::Unsupported { what, remedy: "leave reserved members and unknown flags zero, or use a newer libbatpak" }
}

/// Reserved members are zero, and no flag outside `known` is set.
#[inline]
pub(super) fn check_reserved(name: &str, reserved: &[u64], flags: u32, known: u32) -> Result<()> {
    if flags & !known != 0 {
        return Err(unsupported(format!("{name} with flags {:#x}", flags & !known)));
    }
    if reserved.iter().any(|word| *word != 0) {
        return Err(unsupported(format!("{name} with a reserved member that is not zero")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    #[repr(C)]
    struct Sample {
        struct_size: u32,
        flags: u32,
        amount: u64,
        reserved: u64,
    }

    // SAFETY: repr(C), integers only, without padding.
    unsafe impl Versioned for Sample {
        const NAME: &'static str = "sample";
        const REMEDY: &'static str = "call sample_init first";
        fn defaults() -> Sample {
            Sample { struct_size: 24, flags: 0, amount: 7, reserved: 0 }
        }
        fn check(&self) -> Result<()> {
            check_reserved(Self::NAME, &[self.reserved], self.flags, 1)
        }
    }

    #[repr(C, align(8))]
    struct Larger([u8; 32]);

    fn larger(tail: u8) -> Larger {
        let mut bytes = [0u8; 32];
        bytes[0] = 32;
        bytes[8] = 9;
        bytes[31] = tail;
        Larger(bytes)
    }

    fn read_at(pointer: *const Sample) -> Result<Sample> {
        // SAFETY: the tests pass null or structs as long as they say.
        unsafe { read(pointer) }
    }

    #[test]
    fn an_older_struct_gets_defaults_for_the_rest() {
        let old = Sample { struct_size: 8, flags: 1, amount: 55, reserved: 66 };
        let value = read_at(&old).expect("accepted");
        assert_eq!((value.flags, value.amount, value.reserved), (1, 7, 0));
        assert_eq!(read_at(ptr::null()).expect("accepted"), Sample::defaults());
    }

    #[test]
    fn a_newer_struct_is_understood_while_its_news_are_zero() {
        let newer = larger(0);
        assert_eq!(read_at((&raw const newer).cast()).expect("accepted").amount, 9);
        let newer = larger(1);
        assert!(matches!(read_at((&raw const newer).cast()), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn impossible_sizes_are_refused_before_anything_is_read() {
        for size in [0, 4, 7, 12, 25, 4104, u32::MAX] {
            let sample = Sample { struct_size: size, flags: 0, amount: 0, reserved: 0 };
            assert!(matches!(read_at(&sample), Err(Error::InvalidArgument { .. })), "{size}");
        }
    }

    #[test]
    fn reserved_members_and_unknown_flags_are_refused() {
        let with = |flags, reserved| read_at(&Sample { struct_size: 24, flags, amount: 0, reserved });
        assert!(with(1, 0).is_ok());
        assert!(matches!(with(2, 0), Err(Error::Unsupported { .. })));
        assert!(matches!(with(0, 1), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn init_writes_no_byte_beyond_the_callers_size() {
        let mut sample = Sample { struct_size: 1, flags: 1, amount: 55, reserved: 66 };
        // SAFETY: 16 of its 24 bytes.
        unsafe { init(&raw mut sample, 16) }.expect("accepted");
        assert_eq!(sample, Sample { struct_size: 16, flags: 0, amount: 7, reserved: 66 });
    }
}
