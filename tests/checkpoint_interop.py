"""The bytes of a checkpoint file, read and written by a MessagePack of our own (C1), and what is refused of them (C4).

usage: checkpoint_interop.py LIBRARY [NAME...]

Needs nothing but the standard library; the store is driven through the C ABI.
"""

import ctypes
import os
import struct
import sys
import tempfile

# ---- MessagePack, as far as it goes -----------------------------------------------------------------------------------


class Raw(bytes):
    """Bytes that are put as they are, for forms that the encoder does not choose."""


def shortest_uint(value):
    if value < 0x80:
        return bytes([value])
    for marker, form, bound in ((0xCC, ">B", 8), (0xCD, ">H", 16), (0xCE, ">I", 32), (0xCF, ">Q", 64)):
        if value < 1 << bound:
            return bytes([marker]) + struct.pack(form, value)
    raise OverflowError(value)


def pack(value):
    if isinstance(value, Raw):
        return bytes(value)
    if value is None or value is False or value is True:
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return shortest_uint(value) if value >= 0 else b"\xd3" + struct.pack(">q", value)
    if isinstance(value, bytes):
        return bytes([0xC4, len(value)]) + value
    if isinstance(value, str):
        text = value.encode()
        if len(text) < 32:
            return bytes([0xA0 | len(text)]) + text
        return (b"\xd9" + bytes([len(text)]) if len(text) < 256 else b"\xda" + struct.pack(">H", len(text))) + text
    pairs = list(value)
    return bytes([0x80 | len(pairs)]) + b"".join(pack(key) + pack(item) for key, item in pairs)


def unpack(data):
    """The pairs of the map that the data are, in their order."""
    value, rest = unpack_one(data)
    assert rest == b"", "bytes follow the map"
    return value


def unpack_one(data):
    marker, rest = data[0], data[1:]
    if marker < 0x80:
        return marker, rest
    if marker < 0x90:
        pairs = []
        for _ in range(marker & 0x0F):
            key, rest = unpack_one(rest)
            value, rest = unpack_one(rest)
            pairs.append((key, value))
        return pairs, rest
    if 0xA0 <= marker < 0xC0:
        return rest[: marker & 31].decode(), rest[marker & 31 :]
    if marker in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[marker], rest
    if marker in (0xCC, 0xCD, 0xCE, 0xCF):
        width = 1 << marker - 0xCC
        return int.from_bytes(rest[:width], "big"), rest[width:]
    if marker in (0xC4, 0xD9):
        length, rest = rest[0], rest[1:]
        return rest[:length] if marker == 0xC4 else rest[:length].decode(), rest[length:]
    raise ValueError(f"marker {marker:#x}")


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sealed(pairs):
    """A map of the pairs and a right checksum of what stands before it."""
    head = bytes([0x80 | len(pairs) + 1]) + b"".join(pack(key) + pack(value) for key, value in pairs)
    return head + pack("crc32c") + pack(crc32c(head))


# ---- the library ------------------------------------------------------------------------------------------------------

BATPAK_OK, BATPAK_EMPTY = 0, 1
CORRUPT, REGION_MISMATCH, STORE_MISMATCH, AHEAD, DIVERGED = -80, -81, -82, -83, -84
NO_SEQUENCE = 2**64 - 1
PROCESS, PREFIX = 2, 1
EVENT_BYTES = 160


class Region(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("entity_match", ctypes.c_uint32),
        ("entity", ctypes.c_char_p),
        ("entity_len", ctypes.c_size_t),
        ("scope", ctypes.c_char_p),
        ("scope_len", ctypes.c_size_t),
        ("kind_match", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
        ("has_clock_range", ctypes.c_uint32),
        ("reserved0", ctypes.c_uint32),
        ("clock_start", ctypes.c_uint64),
        ("clock_end", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64 * 4),
    ]


class CursorOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("checkpoint_id", ctypes.c_char_p),
        ("checkpoint_id_len", ctypes.c_size_t),
        ("reserved", ctypes.c_uint64 * 4),
    ]


class StoreOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("segment_bytes", ctypes.c_uint64),
        ("payload_bytes_max", ctypes.c_uint64),
        ("key_window", ctypes.c_uint64),
        ("durability", ctypes.c_uint32),
        ("reserved0", ctypes.c_uint32),
        ("callbacks", ctypes.c_void_p * 6),
        ("reserved", ctypes.c_uint64 * 4),
    ]


class Refused(Exception):
    def __init__(self, code, message, path):
        super().__init__(message)
        self.code, self.message, self.path = code, message, path


class Library:
    def __init__(self, path):
        self.dll = ctypes.CDLL(path)
        self.dll.batpak_error_message.restype = ctypes.c_char_p
        self.dll.batpak_error_detail.restype = ctypes.c_char_p
        self.dll.batpak_batch_events.restype = ctypes.c_void_p

    def __call__(self, name, *arguments):
        error = ctypes.c_void_p()
        status = getattr(self.dll, name)(*arguments, ctypes.byref(error))
        if status < 0:
            message = self.dll.batpak_error_message(error, None).decode()
            path = self.dll.batpak_error_detail(error, b"path", ctypes.c_size_t(4), None)
            self.dll.batpak_error_free(error)
            raise Refused(status, message, path and path.decode())
        return status


class Store:
    """A store in a directory of its own, with events of entities that start with "a"."""

    def __init__(self, events):
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.realpath(self.directory.name)
        self.handle = ctypes.c_void_p()
        options = StoreOptions(struct_size=ctypes.sizeof(StoreOptions), durability=PROCESS)
        library("batpak_store_open_z", self.path.encode(), ctypes.byref(options), ctypes.byref(self.handle))
        self.append(events)
        store_id = ctypes.create_string_buffer(16)
        library("batpak_store_id", self.handle, store_id)
        self.id = store_id.raw

    def __enter__(self):
        return self

    def __exit__(self, *_):
        library("batpak_store_close", self.handle, ctypes.c_int64(-1))
        library.dll.batpak_store_free(self.handle)
        self.directory.cleanup()

    def append(self, events):
        size = ctypes.c_size_t
        for number in range(events):
            entity = b"a" if number % 2 else b"a:b"
            library(
                "batpak_store_append_one", self.handle, entity, size(len(entity)), b"s", size(1), 0x1001, b"x", size(1), None
            )

    def file(self, name):
        return os.path.join(self.path, "cursors", name + ".ckpt")

    def read(self, name):
        with open(self.file(name), "rb") as file:
            return file.read()

    def write(self, name, data):
        os.makedirs(os.path.join(self.path, "cursors"), exist_ok=True)
        with open(self.file(name), "wb") as file:
            file.write(data)

    def save(self, name, next_sequence):
        text = name.encode()
        region = prefix_a()
        library(
            "batpak_checkpoint_save",
            self.handle,
            text,
            ctypes.c_size_t(len(text)),
            ctypes.byref(region),
            ctypes.c_uint64(next_sequence),
        )

    def cursor(self, name):
        return Cursor(self, name)


def prefix_a():
    return Region(struct_size=ctypes.sizeof(Region), entity_match=PREFIX, entity=b"a", entity_len=1)


class Cursor:
    def __init__(self, store, name):
        text = name.encode()
        options = CursorOptions(ctypes.sizeof(CursorOptions), 0, text, len(text))
        region = prefix_a()
        self.handle = ctypes.c_void_p()
        opened = ctypes.byref(self.handle)
        library("batpak_cursor_open", store.handle, ctypes.byref(region), ctypes.byref(options), opened)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        library("batpak_cursor_close", self.handle)
        library.dll.batpak_cursor_free(self.handle)

    def poll(self, most):
        """Sequences and ids of the next events."""
        batch, count = ctypes.c_void_p(), ctypes.c_size_t()
        most, none, now = ctypes.c_size_t(most), ctypes.c_uint64(0), ctypes.c_int64(0)
        if library("batpak_cursor_poll", self.handle, most, none, now, ctypes.byref(batch)) == BATPAK_EMPTY:
            return []
        events = library.dll.batpak_batch_events(batch, ctypes.byref(count))
        found = []
        for at in range(count.value):
            event = ctypes.string_at(events + at * EVENT_BYTES, EVENT_BYTES)
            found.append((struct.unpack_from("<Q", event)[0], event[32:48]))
        library.dll.batpak_batch_free(batch)
        return found

    def checkpoint(self):
        library("batpak_cursor_checkpoint", self.handle)


# ---- the tests ----------------------------------------------------------------------------------------------------------

IDENTITY = "entity=a|scope=*|fact=none|clock=*"
COMMON_KEYS = ["position", "started", "process_boot_ns", "region_identity"]
OWN_KEYS = ["position_id", "store_id", "scanned", "crc32c"]


def refused(store, name, code):
    """The consumer is refused twice with that code, the path in message and detail, and the file stays as it is."""
    before = store.read(name)
    for _ in range(2):
        try:
            with store.cursor(name) as cursor:
                raise AssertionError(f"accepted, at {cursor.poll(1)}: {before.hex()}")
        except Refused as error:
            assert error.code == code, f"{error.code} instead of {code}: {error.message}: {before.hex()}"
            assert error.path == store.file(name), error.path
            assert error.path in error.message, error.message
    assert store.read(name) == before


def next_sequence(store, name):
    with store.cursor(name) as cursor:
        found = cursor.poll(1)
        return found[0][0] if found else None


def at_300(store):
    """A checkpoint of the library's own at position 300; the id of that event."""
    with store.cursor("own") as cursor:
        found = cursor.poll(301)
        assert [sequence for sequence, _ in found] == list(range(301))
        cursor.checkpoint()
    return found[300][1]


def own_pairs(store, event_id, **changes):
    values = {"position": 300, "started": True, "process_boot_ns": None, "region_identity": IDENTITY}
    values.update(position_id=event_id, store_id=store.id, scanned=301)
    values.update(changes)
    return list(values.items())


def C1_any_decoder_reads_the_four_keys_in_order_and_then_ours():
    with Store(400) as store:
        event_id = at_300(store)
        data = store.read("own")
        pairs = unpack(data)
        assert [key for key, _ in pairs] == COMMON_KEYS + OWN_KEYS, pairs
        values = dict(pairs)
        assert (values["position"], values["started"], values["process_boot_ns"]) == (300, True, None), values
        assert values["region_identity"] == IDENTITY
        assert (values["position_id"], values["store_id"], values["scanned"]) == (event_id, store.id, 301)
        assert values["crc32c"] == crc32c(data[: data.index(b"\xa6crc32c")])


def C1_integers_have_their_shortest_form():
    with Store(400) as store:
        event_id = at_300(store)
        assert b"\xa8position\xcd\x01\x2c\xa7started\xc3" in store.read("own")
        assert store.read("own") == sealed(own_pairs(store, event_id))
        for position in (0, 1, 127, 128, 255, 256, 399):
            store.save("short", position + 1)
            assert b"\xa8position" + shortest_uint(position) + b"\xa7started\xc3" in store.read("short"), position
            assert store.read("short") == pack(unpack(store.read("short")))
        store.save("short", 0)
        pairs = unpack(store.read("short"))
        assert pairs[:4] == list(zip(COMMON_KEYS, (0, False, None, IDENTITY))), pairs
        assert dict(pairs)["position_id"] is None and dict(pairs)["scanned"] == 0


def C1_a_file_made_elsewhere_with_just_the_four_keys_is_accepted():
    with Store(400) as store:
        for position in (0, 1, 127, 128, 300, 398):
            store.write("four", pack(zip(COMMON_KEYS, (position, True, None, IDENTITY))))
            assert next_sequence(store, "four") == position + 1
        store.write("four", pack(zip(COMMON_KEYS, (399, True, None, IDENTITY))))
        assert next_sequence(store, "four") is None
        store.write("four", pack(zip(COMMON_KEYS, (0, False, None, IDENTITY))))
        assert next_sequence(store, "four") == 0
        store.write("four", pack(zip(COMMON_KEYS, (7, True, 1_700_000_000_000_000_000, IDENTITY))))
        assert next_sequence(store, "four") == 8
        wide = (b"\xcc\x07", b"\xcd\0\7", b"\xce\0\0\0\7", b"\xcf\0\0\0\0\0\0\0\7", b"\xd0\7", b"\xd3\0\0\0\0\0\0\0\7")
        for form in wide:
            store.write("four", pack(zip(COMMON_KEYS, (Raw(form), True, None, IDENTITY))))
            assert next_sequence(store, "four") == 8, form
        pairs = list(zip(COMMON_KEYS, (7, True, None, IDENTITY)))
        store.write("four", pack(reversed(pairs)))
        assert next_sequence(store, "four") == 8


def C1_a_file_made_elsewhere_becomes_ours_with_the_next_checkpoint():
    with Store(400) as store:
        store.write("four", pack(zip(COMMON_KEYS, (299, True, None, IDENTITY))))
        with store.cursor("four") as cursor:
            (sequence, event_id), = cursor.poll(1)
            assert sequence == 300
            cursor.checkpoint()
        assert store.read("four") == sealed(own_pairs(store, event_id))


def C1_a_file_of_ours_made_elsewhere_is_accepted():
    with Store(400) as store:
        event_id = at_300(store)
        store.write("made", sealed(own_pairs(store, event_id)))
        assert next_sequence(store, "made") == 301
        store.write("made", sealed(own_pairs(store, event_id, scanned=350)))
        assert next_sequence(store, "made") == 350


def C4_truncated_at_every_length_is_corrupt():
    with Store(400) as store:
        event_id = at_300(store)
        four = pack(zip(COMMON_KEYS, (300, True, None, IDENTITY)))
        for data in (sealed(own_pairs(store, event_id)), four):
            for length in range(len(data)):
                store.write("cut", data[:length])
                refused(store, "cut", CORRUPT)


def C4_trailing_bytes_are_corrupt():
    with Store(400) as store:
        event_id = at_300(store)
        four = pack(zip(COMMON_KEYS, (300, True, None, IDENTITY)))
        for data in (sealed(own_pairs(store, event_id)), four):
            for tail in (b"\0", b"\xc0", b"\n", data, b"x" * 4096, b"x" * 100_000):
                store.write("long", data + tail)
                refused(store, "long", CORRUPT)


def C4_any_flipped_bit_is_corrupt():
    with Store(400) as store:
        data = bytearray(sealed(own_pairs(store, at_300(store))))
        for at in range(len(data)):
            for bit in range(8):
                data[at] ^= 1 << bit
                store.write("flip", data)
                refused(store, "flip", CORRUPT)
                data[at] ^= 1 << bit


def C4_a_wrong_checksum_is_corrupt():
    with Store(400) as store:
        event_id = at_300(store)
        good = sealed(own_pairs(store, event_id))
        moved = sealed(own_pairs(store, event_id, position=299))
        store.write("sum", moved[: -len(pack(crc32c(b"")))] + good[-len(pack(crc32c(b""))) :])
        checksum = crc32c(good[: good.index(b"\xa6crc32c")])
        for wrong in (0, checksum ^ 1, checksum ^ 0x80000000, 2**32 + checksum, 2**64 - 1):
            store.write("sum", good[: good.index(b"\xa6crc32c")] + pack("crc32c") + pack(wrong))
            refused(store, "sum", CORRUPT)


def C4_duplicate_unknown_and_missing_keys_are_corrupt():
    with Store(400) as store:
        event_id = at_300(store)
        common = list(zip(COMMON_KEYS, (300, True, None, IDENTITY)))
        own = own_pairs(store, event_id)
        maps = [common[:at] + [common[twice]] + common[at + 1 :] for at in range(4) for twice in range(4) if at != twice]
        maps += [common + [common[at]] for at in range(4)]
        maps += [common + [("more", 1)], common[:3] + [("region", IDENTITY)], common[1:], [], own, own[:5], own[:6]]
        for pairs in maps:
            store.write("keys", pack(pairs))
            refused(store, "keys", CORRUPT)
        for at in range(7):
            for changed in (own[:at] + own[at + 1 :], own[:at] + [own[at]] + own[at:], own[:at] + [own[at - 1]] + own[at + 1 :]):
                store.write("keys", sealed(changed))
                refused(store, "keys", CORRUPT)


def C4_values_of_another_type_are_corrupt():
    with Store(400) as store:
        event_id = at_300(store)
        bad = {
            "position": (None, True, "300", b"\0" * 16, -1, Raw(b"\xca\0\0\0\0")),
            "started": (None, 0, 1, "true"),
            "process_boot_ns": (True, "", -1),
            "region_identity": (None, 1, IDENTITY.encode(), Raw(b"\xa2\xff\xff")),
            "position_id": (None, 1, "", b"", b"\0" * 15, b"\0" * 17),
            "store_id": (None, 1, b"", b"\0" * 15),
            "scanned": (None, True, -1, 300, 0),
        }
        for key, values in bad.items():
            for value in values:
                store.write("type", sealed(own_pairs(store, event_id, **{key: value})))
                refused(store, "type", CORRUPT)
                if key in COMMON_KEYS:
                    common = {**dict(zip(COMMON_KEYS, (300, True, None, IDENTITY))), key: value}
                    store.write("type", pack(common.items()))
                    refused(store, "type", CORRUPT)
        for data in (b"\x90", b"\x84", b"{}", b"\xc0", b"\x93\x01\x02\x03", b"\xdf\xff\xff\xff\xff", b"\xde\x00"):
            store.write("type", data)
            refused(store, "type", CORRUPT)


def C4_another_region_is_a_region_mismatch():
    with Store(400) as store:
        event_id = at_300(store)
        for other in (IDENTITY + "|match=exact", "entity=*|scope=*|fact=none|clock=*", "entity=a|scope=*|fact=any|clock=*", ""):
            store.write("region", sealed(own_pairs(store, event_id, region_identity=other)))
            refused(store, "region", REGION_MISMATCH)
            store.write("region", pack(zip(COMMON_KEYS, (300, True, None, other))))
            refused(store, "region", REGION_MISMATCH)


def C4_an_absent_identity_is_a_region_mismatch():
    with Store(400) as store:
        store.write("absent", pack(zip(COMMON_KEYS[:3], (300, True, None))))
        refused(store, "absent", REGION_MISMATCH)


def C4_another_store_is_a_store_mismatch():
    with Store(400) as store, Store(400) as other:
        event_id = at_300(store)
        store.write("store", sealed(own_pairs(other, event_id)))
        refused(store, "store", STORE_MISMATCH)
        at_300(other)
        store.write("store", other.read("own"))
        refused(store, "store", STORE_MISMATCH)


def C4_another_event_at_the_position_is_diverged():
    with Store(400) as store:
        event_id = at_300(store)
        for at in range(16):
            changed = bytearray(event_id)
            changed[at] ^= 1
            store.write("event", sealed(own_pairs(store, bytes(changed))))
            refused(store, "event", DIVERGED)
        store.write("event", sealed(own_pairs(store, event_id, position=299)))
        refused(store, "event", DIVERGED)


def C4_beyond_the_log_is_ahead():
    with Store(400) as store:
        event_id = at_300(store)
        for position in (400, 401, 65536, 2**32, 2**46, 2**64 - 2):
            store.write("ahead", sealed(own_pairs(store, event_id, position=position, scanned=position + 1)))
            refused(store, "ahead", AHEAD)
            store.write("ahead", sealed(own_pairs(store, event_id, scanned=position + 1)))
            refused(store, "ahead", AHEAD)
            store.write("ahead", pack(zip(COMMON_KEYS, (position, True, None, IDENTITY))))
            refused(store, "ahead", AHEAD)
        store.write("ahead", pack(zip(COMMON_KEYS, (NO_SEQUENCE, True, None, IDENTITY))))
        refused(store, "ahead", AHEAD)
        store.write("ahead", sealed(own_pairs(store, event_id, scanned=400)))
        assert next_sequence(store, "ahead") is None


def main():
    tests = {name: test for name, test in globals().items() if name[:2] in ("C1", "C4")}
    for name in sys.argv[2:] or tests:
        tests[name]()
        print(name, flush=True)


if __name__ == "__main__":
    library = Library(os.path.abspath(sys.argv[1]))
    main()
