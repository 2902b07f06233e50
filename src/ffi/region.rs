//! Regions.
//|
//| Region
//|
//| What a reader wants to see: an entity or all that start with a prefix, a scope, a kind, a range of clocks. All
//| conditions hold together. NULL in place of a region means everything. Events of the library's own entities
//| ("batpak" and "batpak:...") are seen by regions that name them only.

use std::ffi::c_char;
use std::str;

use super::error::batpak_error_t;
use super::guard;
use super::input::{self, invalid, out};
use super::options::{self, Versioned, check_reserved};
use super::status::{BATPAK_OK, batpak_status_t};
use crate::error::{Error, Result};
use crate::event::coordinate::check_coordinate;
use crate::event::{EntityMatch, Kind, KindMatch, Region};

/// Every entity; entity is NULL.
pub const BATPAK_ENTITY_ANY: u32 = 0u32;
/// The entity itself, and those that continue with ':' after it: "user" matches "user" and "user:1", not "users".
pub const BATPAK_ENTITY_PREFIX: u32 = 1u32;
/// This entity only.
pub const BATPAK_ENTITY_EXACT: u32 = 2u32;

/// Every kind: nothing is said about it.
pub const BATPAK_KIND_NONE: u32 = 0u32;
/// Every kind: that is asked for. It selects as BATPAK_KIND_NONE does, but is another region to checkpoints.
pub const BATPAK_KIND_ANY: u32 = 1u32;
/// The kinds of one category: kind is 0 to 15.
pub const BATPAK_KIND_CATEGORY: u32 = 2u32;
/// One kind: kind is category << 12 | type.
pub const BATPAK_KIND_EXACT: u32 = 3u32;

/// A region. Texts are borrowed during the call that it is passed to.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct batpak_region_t {
    /// sizeof(batpak_region_t).
    pub struct_size: u32,
    /// BATPAK_ENTITY_ANY, _PREFIX or _EXACT.
    pub entity_match: u32,
    /// The entity or prefix; NULL with BATPAK_ENTITY_ANY.
    pub entity: *const c_char,
    /// Its length in bytes.
    pub entity_len: usize,
    /// The scope, or NULL for every scope.
    pub scope: *const c_char,
    /// Its length in bytes.
    pub scope_len: usize,
    /// BATPAK_KIND_NONE, _ANY, _CATEGORY or _EXACT.
    pub kind_match: u32,
    /// The category or kind; 0 with the others.
    pub kind: u32,
    /// 1: only events whose clock is in the range. 0: all.
    pub has_clock_range: u32,
    /// Zero.
    pub reserved0: u32,
    /// The first clock in the range.
    pub clock_start: u64,
    /// The last clock in the range.
    pub clock_end: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

// SAFETY: repr(C), integers and pointers without padding, the size first.
unsafe impl Versioned for batpak_region_t {
    const NAME: &'static str = "batpak_region_t";
    const REMEDY: &'static str = "call batpak_region_init first";

    fn defaults() -> batpak_region_t {
        batpak_region_t {
            struct_size: size_of::<batpak_region_t>() as u32,
            entity_match: BATPAK_ENTITY_ANY,
            entity: std::ptr::null(),
            entity_len: 0,
            scope: std::ptr::null(),
            scope_len: 0,
            kind_match: BATPAK_KIND_NONE,
            kind: 0,
            has_clock_range: 0,
            reserved0: 0,
            clock_start: 0,
            clock_end: 0,
            reserved: [0; 4],
        }
    }

    fn check(&self) -> Result<()> {
        check_reserved(Self::NAME, &self.reserved, self.reserved0, 0)
    }
}

/// Prepares a region that matches everything.
///
/// region: out. size: sizeof(batpak_region_t). err: out, may be NULL.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_region_init(
    region: *mut batpak_region_t,
    size: usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe { guard::call(err, || options::init(region, size).map(|()| BATPAK_OK)) }
}

/// The text by which checkpoints know a region: equal for equal regions, different for different ones.
///
/// region: may be NULL. buffer, capacity: out; the text and a NUL are written when they fit; may be NULL and 0 to ask
/// for the length. len: out; the text's length without the NUL, written in any case when the region is valid.
/// err: out, may be NULL.
/// Errors: BATPAK_E_COORDINATE_..., BATPAK_E_KIND_OUT_OF_RANGE, BATPAK_E_CLOCK_RANGE_INVERTED; a buffer that is too
/// small and not NULL is BATPAK_E_INVALID_ARGUMENT.
/// Any thread; never waits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batpak_region_identity(
    region: *const batpak_region_t,
    buffer: *mut c_char,
    capacity: usize,
    len: *mut usize,
    err: *mut *mut batpak_error_t,
) -> batpak_status_t {
    // SAFETY: P.
    unsafe {
        guard::call(err, || {
            let len = out("len", len)?;
            let identity = read(region)?.identity();
            len.write(identity.len());
            if !buffer.is_null() {
                if capacity <= identity.len() {
                    return Err(invalid("capacity", &capacity, "give the length that was written, plus 1 for the NUL"));
                }
                std::ptr::copy_nonoverlapping(identity.as_ptr(), buffer.cast::<u8>(), identity.len());
                buffer.add(identity.len()).write(0);
            }
            Ok(BATPAK_OK)
        })
    }
}

/// The region that a caller describes, checked.
///
/// # Safety
/// As for [`options::read`], and its texts are null or valid for their lengths.
pub(super) unsafe fn read(region: *const batpak_region_t) -> Result<Region> {
    // SAFETY: as the caller says.
    let (given, entity, scope) = unsafe {
        let given = options::read(region)?;
        let entity = input::bytes("entity", given.entity.cast(), given.entity_len)?;
        let scope = input::bytes("scope", given.scope.cast(), given.scope_len)?;
        (given, entity, scope)
    };
    let region = Region {
        entity: entity_match(&given, entity)?,
        scope: match given.scope.is_null() {
            true => None,
            false => Some(check_coordinate("scope", scope)?.to_owned()),
        },
        kind: kind_match(&given)?,
        clock: match given.has_clock_range {
            0 => None,
            1 => Some((given.clock_start, given.clock_end)),
            other => return Err(invalid("has_clock_range", &other, "give 0 or 1")),
        },
    };
    region.check()?;
    Ok(region)
}

fn entity_match(given: &batpak_region_t, entity: &[u8]) -> Result<EntityMatch> {
    let checked = || check_coordinate("entity", entity).map(str::to_owned);
    match given.entity_match {
        BATPAK_ENTITY_ANY if entity.is_empty() => Ok(EntityMatch::Any),
        BATPAK_ENTITY_ANY => {
            Err(invalid("entity", &"set although entity_match is BATPAK_ENTITY_ANY", "say how it is to match"))
        }
        BATPAK_ENTITY_PREFIX => checked().map(EntityMatch::Prefix),
        BATPAK_ENTITY_EXACT => checked().map(EntityMatch::Exact),
        other => Err(invalid("entity_match", &other, "give one of the BATPAK_ENTITY_ constants")),
    }
}

fn kind_match(given: &batpak_region_t) -> Result<KindMatch> {
    let out_of_range = Error::KindOutOfRange { value: given.kind };
    match given.kind_match {
        BATPAK_KIND_NONE | BATPAK_KIND_ANY if given.kind != 0 => Err(invalid(
            "kind",
            &"set although kind_match asks for no kind",
            "give BATPAK_KIND_CATEGORY or BATPAK_KIND_EXACT",
        )),
        BATPAK_KIND_NONE => Ok(KindMatch::None),
        BATPAK_KIND_ANY => Ok(KindMatch::Any),
        BATPAK_KIND_CATEGORY => u8::try_from(given.kind).map(KindMatch::Category).map_err(|_| out_of_range),
        BATPAK_KIND_EXACT => {
            u16::try_from(given.kind).map(|kind| KindMatch::Exact(Kind(kind))).map_err(|_| out_of_range)
        }
        other => Err(invalid("kind_match", &other, "give one of the BATPAK_KIND_ constants")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(change: impl FnOnce(&mut batpak_region_t)) -> Result<Region> {
        let mut region = batpak_region_t::defaults();
        change(&mut region);
        // SAFETY: the tests set static texts with their lengths.
        unsafe { read(&region) }
    }

    #[test]
    fn null_is_everything() {
        // SAFETY: null stands for the default.
        assert_eq!(unsafe { read(std::ptr::null()) }.expect("valid"), Region::all());
        assert_eq!(given(|_| ()).expect("valid"), Region::all());
    }

    #[test]
    fn every_field_is_carried_over() {
        let region = given(|region| {
            region.entity_match = BATPAK_ENTITY_EXACT;
            (region.entity, region.entity_len) = (c"user:1".as_ptr(), 6);
            (region.scope, region.scope_len) = (c"web".as_ptr(), 3);
            (region.kind_match, region.kind) = (BATPAK_KIND_EXACT, 0x1002);
            (region.has_clock_range, region.clock_start, region.clock_end) = (1, 4, 9);
        });
        assert_eq!(region.expect("valid").identity(), "entity=user:1|scope=web|fact=exact:1:2|clock=4-9|match=exact");
    }

    #[test]
    fn what_is_half_said_is_refused() {
        type Change = fn(&mut batpak_region_t);
        let refused: [Change; 7] = [
            |region| (region.entity, region.entity_len) = (c"user".as_ptr(), 4),
            |region| region.entity_match = BATPAK_ENTITY_PREFIX,
            |region| region.entity_match = 3,
            |region| region.scope_len = 3,
            |region| region.kind = 1,
            |region| region.kind_match = 4,
            |region| region.has_clock_range = 2,
        ];
        for (index, change) in refused.into_iter().enumerate() {
            assert!(given(change).is_err(), "case {index}");
        }
    }
}
