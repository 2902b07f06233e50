//! Option structs, items and regions through the C ABI. Their bytes are hostile; their pointers are null or good for their lengths, as the contract asks.

use std::cell::RefCell;
use std::ffi::c_void;
use std::path::PathBuf;
use std::ptr;

type Struct = *mut c_void;
type Object = *mut c_void;

unsafe extern "C" {
    fn batpak_store_open(path: *const u8, len: usize, options: Struct, store: *mut Object, err: *mut Object) -> i32;
    fn batpak_store_close(store: Object, timeout_ms: i64, err: *mut Object) -> i32;
    fn batpak_store_free(store: Object);
    fn batpak_store_append(
        store: Object,
        items: Struct,
        n: usize,
        options: Struct,
        receipts: *mut c_void,
        err: *mut Object,
    ) -> i32;
    fn batpak_store_stats(store: Object, stats: Struct, err: *mut Object) -> i32;
    fn batpak_store_import(store: Object, from: Object, options: Struct, result: *mut c_void, err: *mut Object) -> i32;
    fn batpak_fence_begin(store: Object, options: Struct, fence: *mut Object, err: *mut Object) -> i32;
    fn batpak_fence_free(fence: Object);
    fn batpak_cursor_open(store: Object, region: Struct, options: Struct, cursor: *mut Object, err: *mut Object)
    -> i32;
    fn batpak_cursor_poll(
        cursor: Object,
        max_events: usize,
        max_payload_bytes: u64,
        timeout_ms: i64,
        batch: *mut Object,
        err: *mut Object,
    ) -> i32;
    fn batpak_cursor_free(cursor: Object);
    fn batpak_batch_free(batch: Object);
    fn batpak_region_identity(
        region: Struct,
        buffer: *mut u8,
        capacity: usize,
        len: *mut usize,
        err: *mut Object,
    ) -> i32;
    fn batpak_worker_start(
        store: Object,
        region: Struct,
        options: Struct,
        handler: Option<extern "C" fn()>,
        user_data: *mut c_void,
        user_data_free: Option<extern "C" fn()>,
        worker: *mut Object,
        err: *mut Object,
    ) -> i32;
    fn batpak_error_free(err: Object);
    fn batpak_error_message(err: Object, len: *mut usize) -> *const u8;
}

/// As large as a struct may say that it is.
const STRUCT_BYTES: usize = 4096;
/// Executions that one store is used for: names of checkpoints leave files.
const EXECUTIONS: u32 = 500;

#[repr(C, align(8))]
struct Room([u8; STRUCT_BYTES]);

struct Opened {
    store: Object,
    directory: PathBuf,
    left: u32,
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: the handle is the test's own, closed and freed once.
        unsafe {
            batpak_store_close(self.store, 1000, ptr::null_mut());
            batpak_store_free(self.store);
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

thread_local! {
    static OPENED: RefCell<Option<Opened>> = const { RefCell::new(None) };
}

/// Memory, where there is a directory of it: appends of option structs that ask for durability sync.
fn directory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "-");
    parent.join(format!("batpak-fuzz-{}-{thread}", std::process::id()))
}

fn with_store(run: impl FnOnce(Object)) {
    OPENED.with_borrow_mut(|opened| {
        if opened.as_ref().is_none_or(|opened| opened.left == 0) {
            drop(opened.take());
            let directory = directory();
            let _ = std::fs::remove_dir_all(&directory);
            let path = directory.to_string_lossy().into_owned();
            let mut options = Room([0; STRUCT_BYTES]);
            // struct_size, flags (no helper thread), the least segment.
            options.0[..16].copy_from_slice(&[120, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0]);
            let mut store = ptr::null_mut();
            // SAFETY: the path is valid for its length, the struct for its size.
            let status = unsafe {
                batpak_store_open(path.as_ptr(), path.len(), (&raw mut options).cast(), &mut store, ptr::null_mut())
            };
            assert_eq!(status, 0, "a store of the test's own opens");
            *opened = Some(Opened { store, directory, left: EXECUTIONS });
        }
        let Some(opened) = opened else { return };
        opened.left -= 1;
        run(opened.store);
    });
}

/// A struct of hostile bytes whose pointers, at the given offsets with their lengths, are good.
fn room(bytes: &[u8], pointers: &[(usize, Option<usize>, usize)], backing: &[u64], choice: u8) -> Room {
    let mut room = Room([0; STRUCT_BYTES]);
    let length = bytes.len().min(STRUCT_BYTES);
    room.0[..length].copy_from_slice(&bytes[..length]);
    for (at, &(pointer, count, item_bytes)) in pointers.iter().enumerate() {
        let is_null = choice >> (at % 8) & 1 == 0;
        let address = if is_null { 0 } else { backing.as_ptr() as usize };
        room.0[pointer..pointer + 8].copy_from_slice(&address.to_le_bytes());
        if let (Some(count), false) = (count, is_null) {
            let asked = u64::from_le_bytes(std::array::from_fn(|byte| room.0[count + byte]));
            let most = (std::mem::size_of_val(backing) / item_bytes) as u64;
            room.0[count..count + 8].copy_from_slice(&(asked % (most + 1)).to_le_bytes());
        }
    }
    room
}

fn free_error(err: Object) {
    if !err.is_null() {
        // SAFETY: the error object is the call's, freed once.
        unsafe {
            assert!(!batpak_error_message(err, ptr::null_mut()).is_null());
            batpak_error_free(err);
        }
    }
}

const REGION: &[(usize, Option<usize>, usize)] = &[(8, Some(16), 1), (24, Some(32), 1)];
const ITEM: &[(usize, Option<usize>, usize)] = &[
    (16, Some(24), 1),
    (32, Some(40), 1),
    (48, Some(56), 1),
    (64, Some(72), 16),
    (80, Some(88), 4),
    (96, None, 16),
    (104, Some(112), 1),
];
const CURSOR: &[(usize, Option<usize>, usize)] = &[(8, Some(16), 1)];
const WORKER: &[(usize, Option<usize>, usize)] = &[(56, Some(64), 1), (72, Some(80), 1)];

/// The first byte chooses the call, the second which pointers are null; then the struct; the end backs the pointers.
pub fn options(data: &[u8]) {
    let Some((&[call, choice], bytes)) = data.split_first_chunk::<2>() else { return };
    let (bytes, tail) = bytes.split_at(bytes.len().saturating_sub(24));
    let mut backing = vec![0u64; 8];
    for (word, chunk) in backing.iter_mut().zip(tail.chunks(8)) {
        let mut whole = [b'a'; 8];
        whole[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_le_bytes(whole);
    }
    let make = |pointers: &[_]| room(bytes, pointers, &backing, choice);
    let mut err: Object = ptr::null_mut();
    let mut object: Object = ptr::null_mut();
    let place = (&raw mut object).cast::<Object>();
    // SAFETY (of all calls): structs have the 4096 bytes that they may at most say; their pointers are null or valid for their lengths; handles
    // are live and freed once; out-parameters are this function's own and large enough.
    match call % 9 {
        0 => {
            let mut given =
                make(&[(40, None, 8), (48, None, 8), (56, None, 8), (64, None, 8), (72, None, 8), (80, None, 8)]);
            // Neither callbacks nor a store that is made.
            given.0[40..88].fill(0);
            let path = b"/dev/null/no/store";
            // SAFETY: above.
            unsafe { batpak_store_open(path.as_ptr(), path.len(), (&raw mut given).cast(), place, &mut err) };
            assert!(object.is_null());
        }
        1 => {
            let mut given = make(REGION);
            let (mut text, mut length) = ([0; 4096], 0);
            // SAFETY: above.
            unsafe { batpak_region_identity((&raw mut given).cast(), text.as_mut_ptr(), 4096, &mut length, &mut err) };
        }
        2 => with_store(|store| {
            let (mut item, mut receipts) = (make(ITEM), Room([0; STRUCT_BYTES]));
            let item = (&raw mut item).cast();
            // SAFETY: above; one item.
            unsafe { batpak_store_append(store, item, 1, ptr::null_mut(), (&raw mut receipts).cast(), &mut err) };
        }),
        3 => with_store(|store| {
            let (mut how, mut receipts) = (make(&[]), Room([0; STRUCT_BYTES]));
            // A good item: a size, a kind, an entity and a scope.
            let mut bytes = [0; 168];
            (bytes[0], bytes[5], bytes[24], bytes[40]) = (168, 0x10, 1, 1);
            let name = [u64::from(b'a')];
            let mut item = room(&bytes, ITEM, &name, 0b11);
            let (item, how) = ((&raw mut item).cast(), (&raw mut how).cast());
            // SAFETY: above; one item.
            unsafe { batpak_store_append(store, item, 1, how, (&raw mut receipts).cast(), &mut err) };
        }),
        4 => with_store(|store| {
            let (mut region, mut how) = (make(REGION), Room([0; STRUCT_BYTES]));
            how.0[0] = 64;
            // SAFETY: above.
            unsafe {
                batpak_cursor_open(store, (&raw mut region).cast(), (&raw mut how).cast(), place, &mut err);
                let mut batch: Object = ptr::null_mut();
                if !object.is_null() && batpak_cursor_poll(object, 9, 0, 0, &mut batch, ptr::null_mut()) == 0 {
                    batpak_batch_free(batch);
                }
                batpak_cursor_free(object);
            }
        }),
        5 => with_store(|store| {
            let mut how = make(CURSOR);
            // SAFETY: above.
            unsafe {
                batpak_cursor_open(store, ptr::null_mut(), (&raw mut how).cast(), place, &mut err);
                batpak_cursor_free(object);
            }
        }),
        6 => with_store(|store| {
            let mut how = make(&[]);
            // SAFETY: above.
            unsafe {
                batpak_fence_begin(store, (&raw mut how).cast(), place, &mut err);
                batpak_fence_free(object);
            }
        }),
        7 => with_store(|store| {
            let (mut how, mut result) = (make(&[]), Room([0; STRUCT_BYTES]));
            // SAFETY: above. A store is not imported into itself.
            let status =
                unsafe { batpak_store_import(store, store, (&raw mut how).cast(), (&raw mut result).cast(), &mut err) };
            assert_ne!(status, 0);
        }),
        _ => with_store(|store| {
            let (mut how, mut stats) = (make(WORKER), make(&[]));
            // The two callbacks behind the names.
            how.0[88..].fill(0);
            // SAFETY: above. Without a handler no worker starts.
            unsafe {
                batpak_worker_start(
                    store,
                    ptr::null_mut(),
                    (&raw mut how).cast(),
                    None,
                    ptr::null_mut(),
                    None,
                    place,
                    &mut err,
                );
                assert!(object.is_null());
                free_error(err);
                err = ptr::null_mut();
                batpak_store_stats(store, (&raw mut stats).cast(), &mut err);
            }
        }),
    }
    free_error(err);
}
