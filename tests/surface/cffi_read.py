"""cffi reads the header and, through it, appends and reads an event: so names, types and layouts are as declared.

    cffi_read.py COMPILER HEADER LIBRARY SCRATCH
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import cffi

compiler, header, library, scratch = sys.argv[1:]

# What a binding does: drop the includes, let the preprocessor do the rest. Constants are lost by that; they are plain
# numbers, which cffi takes as they are.
text = pathlib.Path(header).read_text(encoding="utf-8")
without_includes = re.sub(r"^#include .*$", "", text, flags=re.M)
declarations = subprocess.run(
    [compiler, "-E", "-P", "-x", "c", "-"], input=without_includes, capture_output=True, text=True, check=True
).stdout
constants = re.findall(r"^#define (BATPAK_\w+) (-?\d+)u?(?:ll)?$", text, flags=re.M)

ffi = cffi.FFI()
ffi.cdef(declarations + "".join(f"#define {name} {value}\n" for name, value in constants))
lib = ffi.dlopen(library)
error = ffi.new("batpak_error_t **")


def ok(status):
    if status < 0:
        raise SystemExit(ffi.string(lib.batpak_error_message(error[0], ffi.NULL)).decode())
    assert error[0] == ffi.NULL
    return status


directory = tempfile.mkdtemp(dir=scratch)
path = directory.encode()
store = ffi.new("batpak_store_t **")
cursor = ffi.new("batpak_cursor_t **")
batch = ffi.new("batpak_batch_t **")
receipt = ffi.new("batpak_receipt_t *")
n = ffi.new("size_t *")

ok(lib.batpak_store_open(path, len(path), ffi.NULL, store, error))
ok(lib.batpak_store_append_one(store[0], b"user:1", 6, b"web", 3, 0x1001, b"payload", 7, receipt, error))
ok(lib.batpak_cursor_open(store[0], ffi.NULL, ffi.NULL, cursor, error))
assert ok(lib.batpak_cursor_poll(cursor[0], 10, 0, 0, batch, error)) == lib.BATPAK_OK
event = lib.batpak_batch_events(batch[0], n)
assert n[0] == 1
assert bytes(ffi.buffer(event.id)) == bytes(ffi.buffer(receipt.id))
assert (event.sequence, event.clock, event.kind, event.time_us) == (0, 0, 0x1001, receipt.time_us)
assert event.prev_sequence == 2**64 - 1
assert ffi.unpack(event.entity, event.entity_len) == b"user:1"
assert ffi.unpack(event.scope, event.scope_len) == b"web"
assert bytes(ffi.buffer(event.payload, event.payload_len)) == b"payload"
assert (event.cause_count, event.causes) == (0, ffi.NULL)
status = lib.batpak_store_append_one(store[0], b"", 0, b"web", 3, 0x1001, b"", 0, ffi.NULL, error)
assert status == lib.BATPAK_E_COORDINATE_EMPTY
lib.batpak_error_free(error[0])
lib.batpak_batch_free(batch[0])
lib.batpak_cursor_free(cursor[0])
ok(lib.batpak_store_close(store[0], -1, error))
lib.batpak_store_free(store[0])
shutil.rmtree(directory)

functions = len(set(re.findall(r"\b(batpak_\w+)\(", declarations)))
print(f"surface: cffi: cffi {cffi.__version__} read {functions} functions and {len(constants)} constants, and an event through them")
