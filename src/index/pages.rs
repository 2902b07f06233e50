//! Verified pages of sealed indexes, kept for a while: a direct-mapped cache of fixed size, shared by all segments of a store.

use std::sync::{Arc, PoisonError};

use crate::error::Result;
use crate::format::Malformed;
use crate::format::page::{PAGE_BYTES, check_page};
use crate::log::damaged;
use crate::log::files::FileSlot;
use crate::sync::Mutex;

/// 512 pages: 2 MiB when full.
const SLOTS: usize = 512;

/// One page, checked.
pub(crate) type Page = Arc<[u8; PAGE_BYTES]>;

#[derive(Debug)]
struct Kept {
    base: u64,
    number: u64,
    page: Page,
}

#[derive(Debug)]
pub(crate) struct PageCache {
    slots: Box<[Mutex<Option<Kept>>]>,
}

impl Default for PageCache {
    fn default() -> PageCache {
        PageCache { slots: (0..SLOTS).map(|_| Mutex::new(None)).collect() }
    }
}

impl PageCache {
    /// Page `number` of the index of segment `base`, from memory or from the file.
    pub fn page(&self, file: &Arc<FileSlot>, base: u64, seed: u32, number: u64) -> Result<Page> {
        let mixed = (base ^ number.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let slot = &self.slots[(mixed >> 55) as usize % SLOTS];
        if let Some(kept) = &*slot.lock().unwrap_or_else(PoisonError::into_inner) {
            if (kept.base, kept.number) == (base, number) {
                return Ok(kept.page.clone());
            }
        }
        let mut page = Arc::new([0; PAGE_BYTES]);
        // Nobody else has the page yet.
        let bytes = Arc::make_mut(&mut page);
        let read = file.get()?.read_at(bytes, number * PAGE_BYTES as u64)?;
        check(file, &bytes[..read], seed, number)?;
        let kept = Kept { base, number, page: page.clone() };
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        Ok(page)
    }

    /// How many pages are kept.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.slots.iter().filter(|slot| slot.lock().is_ok_and(|kept| kept.is_some())).count()
    }

    /// Forgets the pages of one index, which is to be replaced.
    pub fn forget(&self, base: u64) {
        for slot in &self.slots {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if slot.as_ref().is_some_and(|kept| kept.base == base) {
                *slot = None;
            }
        }
    }
}

/// Checks that `page` is a whole page with the right checksum.
pub(crate) fn check(file: &FileSlot, page: &[u8], seed: u32, number: u64) -> Result<()> {
    let reason = match page.len() {
        PAGE_BYTES if check_page(page, seed, number as u32) => return Ok(()),
        PAGE_BYTES => "an index page has a wrong checksum; delete the file, it is rebuilt",
        _ => "the index file is cut short; delete it, it is rebuilt",
    };
    Err(damaged(file.path(), number * PAGE_BYTES as u64, 0, Malformed::Damaged { reason: reason.to_owned() }))
}
