#!/usr/bin/env python3
"""Reads every file of a store by docs/FORMAT.md alone, sharing no code with the library, and checks that all of it agrees.

    format.py [--json] DATA_DIR

Walks STORE, every segment, every index and every checkpoint. Prints one line and exits 0, or names the first discrepancy
and exits 1. A store that was not closed cleanly is fine: what recovery would cut is left out, and said.
"""

import argparse
import collections
import json
import os
import re
import struct
import sys

VERSION = 1
NO_SEQUENCE = 2**64 - 1
U64 = 2**64 - 1
MORE, CONTINUED, CORRELATION_LOCAL, CORRELATION_FULL, FOREIGN, KEY, FENCED, SALTED = (1 << bit for bit in range(8))
EPOCH, MARK, CLOSE, FENCE_COMMIT, FENCE_CANCEL = range(0x10, 0x15)
CRITICAL_NAMES = {0x15: "CHECKPOINT", 0x16: "ERASE", 0x17: "RETAIN"}


class Discrepancy(Exception):
    """Something in the store that the format does not allow."""


def check(condition, where, message):
    if not condition:
        raise Discrepancy("%s: %s" % (where, message))


# ---- CRC32C ------------------------------------------------------------------------------------------------------------


def crc_tables():
    """Four tables of 65,536: the state after 16 bits and 0, 2, 4 or 6 zero bytes."""
    byte_table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        byte_table.append(value)
    low = []
    for value in range(65536):
        state = byte_table[value & 255]
        low.append(state >> 8 ^ byte_table[(state ^ value >> 8) & 255])
    tables = [low]
    for _ in range(3):
        tables.append([low[state & 65535] ^ state >> 16 for state in tables[-1]])
    return byte_table, tables


BYTE_TABLE, (T0, T1, T2, T3) = crc_tables()


def crc32c(seed, data):
    state = seed ^ 0xFFFFFFFF
    whole = len(data) & ~7
    for a, b, c, d in struct.iter_unpack("<4H", data[:whole]):
        state = T3[state & 65535 ^ a] ^ T2[state >> 16 ^ b] ^ T1[c] ^ T0[d]
    for byte in data[whole:]:
        state = state >> 8 ^ BYTE_TABLE[(state ^ byte) & 255]
    return state ^ 0xFFFFFFFF


assert crc32c(0, b"123456789") == 0xE3069283
assert crc32c(crc32c(0, b"12345"), b"6789") == 0xE3069283


# ---- small things ------------------------------------------------------------------------------------------------------


def read(path):
    with open(path, "rb") as file:
        return file.read()


def names_in(directory):
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def align8(n):
    return n + 7 & ~7


def u48(data, at):
    return int.from_bytes(data[at : at + 6], "little")


def event_id(time_us, sequence, tag):
    high = time_us // 1000 << 16 | 7 << 12 | time_us % 1000
    low = 2 << 62 | sequence << 16 | tag
    return struct.pack(">QQ", high, low)


def coordinate_fault(data):
    """Why the bytes are no entity and no scope; None when they are."""
    if not 1 <= len(data) <= 1024:
        return "has %d bytes" % len(data)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "is not UTF-8"
    if data == b"*":
        return "is *"
    if b".." in data or any(byte < 0x20 or byte in b"\x7f/|=" for byte in data):
        return "has a character that coordinates may not have"
    return None


def check_file_header(data, magic, size, where):
    check(len(data) >= size, where, "%d bytes, not %d" % (len(data), size))
    check(data[:8] == magic, where, "the magic is %r, not %r" % (data[:8], magic))
    version, crc = struct.unpack_from("<II", data, 8)
    check(version <= VERSION, where, "format version %d is newer than %d" % (version, VERSION))
    check(version == VERSION, where, "format version %d" % version)
    check(crc == crc32c(0, data[16:size]), where, "header CRC")


# ---- STORE and segments ------------------------------------------------------------------------------------------------

Event = collections.namedtuple("Event", "offset end sequence clock time prev kind schema entity scope id more key fence")
ControlFrame = collections.namedtuple("ControlFrame", "offset end sequence type body")


def read_store_file(path):
    data = read(path)
    check(len(data) == 64, "STORE", "%d bytes, not 64" % len(data))
    check_file_header(data, b"BATPKSTO", 64, "STORE")
    check(not any(data[48:]), "STORE", "reserved bytes are not zero")
    return (data[16:32],) + struct.unpack_from("<qQ", data, 32)


class Segment:
    """One .seg file; its frames as far as they are valid."""

    def __init__(self, name, data):
        self.name, self.data = name, data
        check_file_header(data, b"BATPKSEG", 128, name)
        self.store_id = data[16:32]
        self.base, self.first_epoch, self.time, self.created, self.key_window = struct.unpack_from("<QQqqQ", data, 32)
        check(not any(data[72:128]), name, "reserved bytes of the header are not zero")
        check(name == "%020d.seg" % self.base, name, "the header says base %d" % self.base)
        self.tag = int.from_bytes(self.store_id[:2], "little")
        self.events, self.controls, self.marks = [], [], []
        self.end = 128  # after the last valid frame
        self.epoch = self.first_epoch
        self.fault = None  # why reading stopped, None at zeros or at the end of the file

    def seed(self, epoch):
        return crc32c(0, self.store_id + struct.pack("<QQ", self.base, epoch))

    def where(self, offset, sequence):
        return "%s at byte %d (event %d)" % (self.name, offset, sequence)

    def walk(self):
        """Reads frames until one is not valid. What is wrong in a frame whose checksums hold is a discrepancy."""
        seed, sequence, at, data = self.seed(self.epoch), self.base, 128, self.data
        after_close = False
        more = False  # the previous event of the segment has MORE
        while at + 24 <= len(data):
            length = int.from_bytes(data[at + 4 : at + 8], "little")
            if not any(data[at : at + 24]):
                break
            if length < 24 or at + length > len(data):
                self.fault = "length %d" % length
                break
            where, frame = self.where(at, sequence), data[at : at + length]
            if frame[16] == 1:
                reason = self.event_checksum_fault(frame, seed)
                if reason:
                    self.fault = reason
                    break
                event, continued = self.event(frame, at, where)
                check(continued == more, where, "CONTINUED is %s after MORE %s" % (continued, more))
                check(event.sequence == sequence, where, "sequence %d" % event.sequence)
                check(not after_close, where, "an event follows CLOSE")
                self.events.append(event)
                sequence, more = sequence + 1, event.more
            else:
                kind = frame[16]
                own_seed = self.seed(struct.unpack_from("<Q", frame, 24)[0]) if kind in (EPOCH, CLOSE) and length >= 32 else seed
                if struct.unpack_from("<I", frame)[0] != crc32c(own_seed, frame[4:]):
                    self.fault = "control frame CRC"
                    break
                check(not more, where, "a control frame inside a batch")
                check(not after_close or kind == EPOCH, where, "type %#x follows CLOSE" % kind)
                control = self.control(frame, at, where, sequence)
                after_close = kind == CLOSE
                if kind == EPOCH:
                    seed = self.seed(self.epoch)
                (self.marks if kind == MARK else self.controls).append(control)
            padded = at + align8(length)
            check(not any(data[at + length : min(padded, len(data))]), where, "the padding is not zero")
            at = self.end = padded
        self.next_sequence = sequence
        if self.fault is None and any(data[self.end :]):
            self.fault = "bytes that are not zero and no frame"

    def event_checksum_fault(self, frame, seed):
        """Conditions 1 to 3, for which the end of the header must be found."""
        if len(frame) < 56:
            return "event frame of %d bytes" % len(frame)
        parts = self.event_parts(frame)
        if parts is None:
            return "the parts of the event frame do not fit it"
        header_end = parts["header_end"]
        header_crc, payload_crc = struct.unpack_from("<I", frame)[0], struct.unpack_from("<I", frame, 20)[0]
        if header_crc != crc32c(seed, frame[4:header_end]):
            return "header CRC"
        if payload_crc != crc32c(0, frame[header_end:]) ^ seed:
            return "payload CRC"
        return None

    @staticmethod
    def event_parts(frame):
        """Where the optional parts of the header are; None when they exceed the frame."""
        count, flags = frame[17], struct.unpack_from("<H", frame, 18)[0]
        entity_length, scope_length = struct.unpack_from("<HH", frame, 52)
        parts, at = {"fence": None, "mask": 0, "correlation": None, "causes": [], "key": None}, 56
        if flags & FENCED:
            parts["fence"] = int.from_bytes(frame[at : at + 8], "little")
            at += 8
        if flags & FOREIGN:
            parts["mask"] = int.from_bytes(frame[at : at + 8], "little")
            at += 8
        if flags & (CORRELATION_LOCAL | CORRELATION_FULL):
            parts["correlation"] = at
            at += 12 if flags & CORRELATION_LOCAL else 16
        for cause in range(count):
            parts["causes"].append(at)
            at += 16 if parts["mask"] >> cause & 1 else 12
        if flags & KEY:
            if at >= len(frame):
                return None
            parts["key"] = frame[at + 1 : at + 1 + frame[at]]
            at += 1 + frame[at]
        parts["entity"] = frame[at : at + entity_length]
        parts["scope"] = frame[at + entity_length : at + entity_length + scope_length]
        parts["header_end"] = at + entity_length + scope_length
        parts["payload"] = parts["header_end"] + (16 if flags & SALTED else 0)
        return parts if parts["payload"] <= len(frame) else None

    def event(self, frame, at, where):
        """The event in a frame whose checksums hold (conditions 5 and 6)."""
        sequence, _, count, flags, _, clock, time, prev, kind, schema = struct.unpack_from("<QBBHIQqQHH", frame, 8)
        parts = self.event_parts(frame)
        check(flags < 256, where, "flags %#06x" % flags)
        check(count <= 64, where, "%d causes" % count)
        both = CORRELATION_LOCAL | CORRELATION_FULL
        check(flags & both != both, where, "both correlation flags")
        check(bool(flags & FOREIGN) == (parts["mask"] != 0), where, "FOREIGN with mask %#x" % parts["mask"])
        check(parts["mask"] >> count == 0, where, "mask %#x for %d causes" % (parts["mask"], count))
        check(parts["key"] is None or 16 <= len(parts["key"]) <= 64, where, "idempotency key length")
        for part in "entity", "scope":
            fault = coordinate_fault(parts[part])
            check(not fault, where, "the %s %r %s" % (part, parts[part], fault))
        check(sequence < 2**46 and 0 <= time < 1000 << 48, where, "sequence or time has no id")
        references = []
        if flags & CORRELATION_LOCAL:
            references.append(parts["correlation"])
        references += [start for i, start in enumerate(parts["causes"]) if not parts["mask"] >> i & 1]
        self.references.extend((sequence, u48(frame, r), time - u48(frame, r + 6), where) for r in references)
        identity = event_id(time, sequence, self.tag)
        if flags & CORRELATION_FULL:
            correlation = frame[parts["correlation"] : parts["correlation"] + 16]
            check(correlation != identity, where, "its own id is stored as the correlation id")
        event = Event(
            at, at + align8(len(frame)), sequence, clock, time, prev, kind, schema, parts["entity"], parts["scope"], identity,
            bool(flags & MORE), parts["key"], parts["fence"],
        )
        return event, bool(flags & CONTINUED)

    def control(self, frame, at, where, sequence):
        """The control frame in a frame whose checksum holds."""
        kind, length = frame[16], len(frame)
        check(kind != 0, where, "frame type 0")
        check(kind not in CRITICAL_NAMES, where, "control frame %s is of a newer version" % CRITICAL_NAMES.get(kind))
        check(kind >= 0x80 or kind <= FENCE_CANCEL, where, "frame type %#04x is of a newer version" % kind)
        check(struct.unpack_from("<Q", frame, 8)[0] == sequence, where, "the control frame's sequence")
        body = ()
        if kind < 0x80:
            check(not any(frame[17:24]), where, "cause count, flags or payload CRC of a control frame")
            lengths = {MARK: 48, FENCE_COMMIT: 32}
            if kind == FENCE_CANCEL and length >= 40:
                lengths[kind] = 40 + 16 * struct.unpack_from("<Q", frame, 32)[0]
            check(length == lengths.get(kind, 40), where, "control frame %#04x of %d bytes" % (kind, length))
            if kind == FENCE_CANCEL:
                body = struct.unpack_from("<Q", frame, 24)[0], list(struct.iter_unpack("<QQ", frame[40:]))
            else:
                body = struct.unpack_from({MARK: "<QQQ", FENCE_COMMIT: "<Q"}.get(kind, "<Qq"), frame, 24)
        if kind == EPOCH:
            check(body[0] > self.epoch, where, "EPOCH %d where %d is in force" % (body[0], self.epoch))
            self.epoch = body[0]
        if kind == CLOSE:
            check(body[0] == self.epoch, where, "CLOSE of epoch %d where %d is in force" % (body[0], self.epoch))
        return ControlFrame(at, at + align8(length), sequence, kind, body)

    def durable_assertions_from(self, start):
        """Sound MARK, EPOCH and CLOSE frames at any multiple of 8 from `start`, read as recovery does: (base, offset)."""
        seeds, data = [self.seed(self.epoch)], self.data
        for at in range(start, len(data) - 39, 8):
            kind, length = data[at + 16], int.from_bytes(data[at + 4 : at + 8], "little")
            frame = data[at : at + length]
            if (kind, length) == (MARK, 48) and len(frame) == 48:
                crc = struct.unpack_from("<I", frame)[0]
                if any(crc == crc32c(seed, frame[4:]) for seed in seeds):
                    yield struct.unpack_from("<QQ", frame, 32)
            elif kind in (EPOCH, CLOSE) and length == 40:
                seed = self.seed(struct.unpack_from("<Q", frame, 24)[0])
                if struct.unpack_from("<I", frame)[0] == crc32c(seed, frame[4:]):
                    seeds.append(seed)
                    yield self.base, at


class Log:
    """All segments, up to where recovery would cut."""

    def __init__(self, directory, store):
        self.store_id, self.created, self.key_window = store or (None, None, None)
        self.segments, self.events, self.heads = [], [], {}
        self.cancelled = set()  # sequences
        self.cut, self.durable, self.clean = None, 0, False
        self.references = []
        files = [name for name in names_in(directory) if re.fullmatch(r"[0-9]{20}\.seg", name)]
        for place, name in enumerate(files):
            newest = place == len(files) - 1
            try:
                segment = Segment(name, read(os.path.join(directory, name)))
            except Discrepancy as discrepancy:
                if newest and place and "newer" not in str(discrepancy):
                    self.cut = str(discrepancy)
                    break
                raise
            before = self.segments[-1] if self.segments else None
            if before and segment.base > before.next_sequence:
                self.stop(before, directory, files[place:])
                break
            self.take(segment)
            if segment.fault or self.batch_is_open(segment):
                self.stop(segment, directory, files[place + 1 :])
                break
        self.check_references()
        self.decide_fences()
        self.check_streams()
        self.check_marks()
        if self.segments:
            last = self.segments[-1]
            final = last.controls[-1] if last.controls else None
            is_last = final and final.type == CLOSE and final.end == last.end == len(last.data)
            self.clean = bool(is_last and self.cut is None)

    @staticmethod
    def batch_is_open(segment):
        return bool(segment.events) and segment.events[-1].more

    def take(self, segment):
        """Adds a segment after the others."""
        name, before = segment.name, self.segments[-1] if self.segments else None
        if self.store_id is None:
            self.store_id, self.created, self.key_window = segment.store_id, segment.created, segment.key_window
        check(segment.store_id == self.store_id, name, "it belongs to store %s" % segment.store_id.hex())
        check(segment.created == self.created, name, "creation time differs from the store's")
        check(segment.key_window == self.key_window, name, "key window differs from the store's")
        expected = before.next_sequence if before else 0
        check(segment.base == expected, name, "base %d where event %d is next" % (segment.base, expected))
        if before:
            check(segment.first_epoch >= before.epoch, name, "epoch %d after %d" % (segment.first_epoch, before.epoch))
        segment.references = self.references
        segment.walk()
        floor = segment.time
        if self.events:
            floor = max(floor, self.events[-1].time)
        for event in segment.events:
            where = segment.where(event.offset, event.sequence)
            check(event.time >= floor, where, "time %d is earlier than %d" % (event.time, floor))
            floor = event.time
        for control in segment.controls:
            if control.type == CLOSE:
                before_close = [e.time for e in segment.events if e.sequence < control.sequence][-1:]
                where = segment.where(control.offset, control.sequence)
                check(not before_close or control.body[1] >= before_close[0], where, "CLOSE is earlier than the last event")
            if control.type in (EPOCH, CLOSE):
                self.durable = max(self.durable, control.sequence)
        for mark in segment.marks:
            self.durable = max(self.durable, mark.body[0])
        self.events += segment.events
        self.segments.append(segment)

    def stop(self, segment, directory, later):
        """The log ends inside `segment`: nothing durable may lie behind, and an incomplete batch is left out."""
        end, fault = segment.end, segment.fault or "the log goes on in no frame"
        while self.batch_is_open(segment):
            # The batch began behind the last event without MORE.
            event = segment.events.pop()
            end = event.offset
            self.events.pop()
            segment.next_sequence -= 1
        self.cut = "%s: %s" % (segment.where(end, segment.next_sequence), fault)
        assertions = list(segment.durable_assertions_from(end))
        for name in later:
            data = read(os.path.join(directory, name))
            try:
                assertions += Segment(name, data).durable_assertions_from(128)
            except Discrepancy:
                continue
        place = (segment.base, end)
        check(not any(assertion > place for assertion in assertions), self.cut.split(":")[0], "damaged below a durable end: " + fault)
        segment.end = end
        sequence = segment.next_sequence
        self.references = [reference for reference in self.references if reference[0] < sequence]

    def decide_fences(self):
        """Which events are cancelled: those that a FENCE_CANCEL names, and those of fences undecided when their epoch is over."""
        undecided, owners, over = {}, {}, {}

        def end_of_epoch():
            for fence, sequences in undecided.items():
                self.cancelled.update(sequences)
            over.update(undecided)
            undecided.clear()
            owners.clear()

        epoch = 0
        for segment in self.segments:
            if segment.first_epoch > epoch:
                end_of_epoch()
            epoch = segment.epoch
            for frame in sorted(segment.events + segment.controls, key=lambda frame: frame.offset):
                where = segment.where(frame.offset, frame.sequence)
                if isinstance(frame, Event):
                    fence = frame.fence
                    owner = owners.get(frame.entity)
                    check(owner is None or owner == fence, where, "%r is fenced by %s" % (frame.entity, owner))
                    if fence is not None:
                        check(fence in undecided or fence == frame.sequence, where, "fence %d is not open" % fence)
                        undecided.setdefault(fence, []).append(frame.sequence)
                        owners[frame.entity] = fence
                elif frame.type == EPOCH:
                    end_of_epoch()
                elif frame.type in (FENCE_COMMIT, FENCE_CANCEL):
                    fence = frame.body[0]
                    if frame.type == FENCE_CANCEL and fence in over:
                        # The opening repeats what the end of an epoch has cancelled.
                        its_own, least = ranges_of(over.pop(fence)), 0
                        check(frame.body[1], where, "FENCE_CANCEL names nothing")
                        for start, end in frame.body[1]:
                            inside = least <= start < end and any(first <= start and end <= last for first, last in its_own)
                            check(inside, where, "FENCE_CANCEL names %d to %d, not in %s" % (start, end, its_own))
                            least = end
                        continue
                    check(fence in undecided, where, "fence %d is not open" % fence)
                    owners = {entity: owner for entity, owner in owners.items() if owner != fence}
                    if frame.type == FENCE_COMMIT:
                        del undecided[fence]
                        continue
                    its_own = ranges_of(undecided[fence])
                    check(frame.body[1] == its_own, where, "FENCE_CANCEL names %s, not %s" % (frame.body[1], its_own))
                    self.cancelled.update(undecided.pop(fence))
        end_of_epoch()

    def check_streams(self):
        """Clocks and previous links: over live events; those of a cancelled one go on from the live ones and its own fence's before it."""
        cancelled_heads = {}
        for segment in self.segments:
            for event in segment.events:
                where = segment.where(event.offset, event.sequence)
                head = self.heads.get(event.entity, (-1, NO_SEQUENCE))
                is_cancelled = event.sequence in self.cancelled
                if is_cancelled:
                    head = cancelled_heads.get((event.fence, event.entity), head)
                clock, last = head
                check(event.clock == clock + 1, where, "clock %d after %d of %r" % (event.clock, clock, event.entity))
                check(event.prev == last, where, "previous link %d, not %d" % (event.prev, last))
                if is_cancelled:
                    cancelled_heads[event.fence, event.entity] = event.clock, event.sequence
                else:
                    self.heads[event.entity] = event.clock, event.sequence

    def check_references(self):
        for sequence, named, time, where in self.references:
            check(named < sequence, where, "a local reference to event %d" % named)
            found = self.events[named].time
            check(found == time, where, "a local reference says time %d of event %d, which has %d" % (time, named, found))

    def check_marks(self):
        ends = {segment.base: segment.end for segment in self.segments}
        for segment in self.segments:
            for mark in segment.marks:
                if mark.offset >= segment.end:
                    continue
                durable, base, offset = mark.body
                where = segment.where(mark.offset, mark.sequence)
                check(durable <= mark.sequence, where, "MARK says %d is durable" % durable)
                check(base in ends and offset <= ends[base], where, "MARK names byte %d of segment %d" % (offset, base))
                check(base < segment.base or offset <= mark.offset, where, "MARK names bytes behind itself")


def ranges_of(sequences):
    """Ascending sequences as ranges (start, end) that do not touch."""
    ranges = []
    for sequence in sequences:
        if ranges and ranges[-1][1] == sequence:
            ranges[-1] = ranges[-1][0], sequence + 1
        else:
            ranges.append((sequence, sequence + 1))
    return ranges


# ---- indexes -----------------------------------------------------------------------------------------------------------

OFFSETS, EVENT_STREAMS, EVENT_SCOPES, EVENT_KINDS, STREAMS, NAMES, STREAM_TABLE, POSTINGS = range(1, 9)
SCOPES, KINDS, EPOCHS, CONTROLS, CANCELLED, FILTER = range(9, 15)
KEYS, KEY_FILTER = 17, 19
ROW_BYTES = {STREAMS: 40, NAMES: 1, STREAM_TABLE: 4, KINDS: 2, EPOCHS: 16, CONTROLS: 24, CANCELLED: 16, FILTER: 32, KEYS: 16, KEY_FILTER: 32}
FILTER_SALTS = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)


def name_hash(store_id, name):
    def fold(a, b):
        return (a * b & U64) ^ (a * b >> 64)

    secret = int.from_bytes(store_id[8:], "little") | 1
    h = int.from_bytes(store_id[:8], "little") ^ len(name) * 0x9E3779B97F4A7C15 & U64
    for at in range(0, len(name), 8):
        h = fold(h ^ int.from_bytes(name[at : at + 8], "little"), secret)
    return fold(h, 0xC4CEB9FE1A85EC53)


def filter_insert(blocks, h):
    number = (h >> 32) * (len(blocks) // 32) >> 32
    for place, salt in enumerate(FILTER_SALTS):
        bit = ((h & 0xFFFFFFFF) * salt & 0xFFFFFFFF) >> 27
        blocks[32 * number + 4 * place + bit // 8] |= 1 << bit % 8


def filter_contains(blocks, h):
    number = (h >> 32) * (len(blocks) // 32) >> 32
    words = struct.unpack_from("<8I", blocks, 32 * number)
    return all(word >> ((h & 0xFFFFFFFF) * salt & 0xFFFFFFFF) // 2**27 & 1 for word, salt in zip(words, FILTER_SALTS))


class Index:
    """One .idx file, checked against the frames of its segment."""

    def __init__(self, name, data, segment, cancelled):
        self.name, self.segment = name, segment
        self.content = self.join_pages(data)
        self.read_header(data)
        self.live = [event.sequence not in cancelled for event in self.events]
        self.check_cancelled()
        self.check_keys()
        self.check_events()
        self.check_streams()
        self.check_frames()

    def check(self, condition, message):
        check(condition, self.name, message)

    def join_pages(self, data):
        self.check(data and len(data) % 4096 == 0, "%d bytes are no whole pages" % len(data))
        seed = crc32c(0, self.segment.store_id + struct.pack("<Q", self.segment.base))
        contents = []
        for number in range(len(data) // 4096):
            page = data[4096 * number : 4096 * (number + 1)]
            crc = crc32c(crc32c(seed, struct.pack("<I", number)), page[:4092])
            self.check(crc == struct.unpack_from("<I", page, 4092)[0], "CRC of page %d" % number)
            contents.append(page[:4092])
        return b"".join(contents)

    def read_header(self, data):
        content, segment = self.content, self.segment
        self.check(content[:8] == b"BATPKIDX", "the magic is %r" % content[:8])
        version, flags = struct.unpack_from("<II", content, 8)
        self.check(version == VERSION, "format version %d" % version)
        self.check(flags in (0, 1), "flags %#x" % flags)
        self.partial = flags == 1
        base, self.count, self.log_end, self.first, self.last, self.epoch, length, sections, zero = struct.unpack_from(
            "<QQQqqQQII", content, 32
        )
        self.check(content[16:32] == segment.store_id, "it belongs to store %s" % content[16:32].hex())
        self.check(base == segment.base, "base %d" % base)
        self.check(zero == 0, "reserved bytes of the header")
        self.check(sections <= 124, "%d sections" % sections)
        self.check(-(-length // 4092) * 4096 == len(data), "length %d in a file of %d" % (length, len(data)))
        self.check(not any(content[length:]), "the last page is not filled up with zeros")
        self.sections = {}
        for row in range(sections):
            kind, zero, offset, size, count = struct.unpack_from("<IIQQQ", content, 96 + 32 * row)
            self.check(zero == 0 and kind not in self.sections, "directory row of section %d" % kind)
            inside = 96 + 32 * sections <= offset and offset % 8 == 0 and offset + size <= length
            self.check(inside, "section %d lies at %d to %d of %d" % (kind, offset, offset + size, length))
            self.check(kind not in ROW_BYTES or ROW_BYTES[kind] * count == size, "section %d: %d bytes, %d rows" % (kind, size, count))
            self.sections[kind] = content[offset : offset + size], count
        frames = sorted(segment.events + segment.controls + segment.marks)
        self.frames = [frame for frame in frames if frame.offset < self.log_end]
        self.events = [event for event in segment.events if event.offset < self.log_end]
        end = self.frames[-1].end if self.frames else 128
        self.check(self.log_end == end, "log end %d, but a frame ends at %d" % (self.log_end, end))
        self.check(self.partial or self.log_end == segment.end, "log end %d, but the segment ends at %d" % (self.log_end, segment.end))
        self.check(self.count == len(self.events), "%d events, but the segment has %d" % (self.count, len(self.events)))

    def rows(self, kind, form):
        return list(struct.iter_unpack(form, self.sections.get(kind, (b"", 0))[0]))

    def column(self, kind):
        """A packed column, whole."""
        data, count = self.sections.get(kind, (bytes(8), 0))
        blocks, values = -(-count // 128), []
        self.check(len(data) >= 16 * blocks + 8 and not any(data[-8:]), "section %d: %d bytes" % (kind, len(data)))
        for block in range(blocks):
            minimum, place, width, zero = struct.unpack("<QIB3s", data[16 * block : 16 * block + 16])
            self.check(width <= 56 and not any(zero), "section %d: row %d" % (kind, block))
            start, size = 8 * place, 16 * width
            inside = not width or 16 * blocks <= start and start + size <= len(data) - 8
            self.check(inside, "section %d: block %d lies outside" % (kind, block))
            bits, mask = int.from_bytes(data[start : start + size], "little"), (1 << width) - 1
            filled = min(128, count - 128 * block)
            values.extend(minimum + (bits >> i * width & mask) for i in range(filled))
            self.check(bits >> filled * width == 0, "section %d: block %d is not filled up with zero bits" % (kind, block))
        return values

    def equal(self, what, found, expected):
        found, expected = list(found), list(expected)
        self.check(len(found) == len(expected), "%s: %d values, not %d" % (what, len(found), len(expected)))
        for place, (a, b) in enumerate(zip(found, expected)):
            self.check(a == b, "%s: value %d is %r, not %r" % (what, place, a, b))

    def check_events(self):
        events = self.events
        if events:
            self.check((self.first, self.last) == (events[0].time, events[-1].time), "times of the first and last event")
        scopes, data = [], self.sections.get(SCOPES, (b"", 0))[0]
        while data:
            length = int.from_bytes(data[:2], "little")
            self.check(len(data) >= 2 + length, "SCOPES is cut off")
            scopes.append(data[2 : 2 + length])
            data = data[2 + length :]
        kinds = [kind for (kind,) in self.rows(KINDS, "<H")]
        self.equal("SCOPES", scopes, dict.fromkeys(event.scope for event in events))
        self.check(len(scopes) == self.sections.get(SCOPES, (b"", 0))[1], "count of SCOPES")
        self.equal("KINDS", kinds, dict.fromkeys(event.kind for event in events))
        scope_numbers = {scope: number for number, scope in enumerate(scopes)}
        kind_numbers = {kind: number for number, kind in enumerate(kinds)}
        self.equal("OFFSETS", self.column(OFFSETS), (event.offset // 8 for event in events))
        self.equal("EVENT_SCOPES", self.column(EVENT_SCOPES), (scope_numbers[event.scope] for event in events))
        self.equal("EVENT_KINDS", self.column(EVENT_KINDS), (kind_numbers[event.kind] for event in events))

    def check_cancelled(self):
        cancelled = [event.sequence for event, live in zip(self.events, self.live) if not live]
        self.equal("CANCELLED", self.rows(CANCELLED, "<QQ"), ranges_of(cancelled))

    def check_keys(self):
        keyed = [(name_hash(self.segment.store_id, event.key), ordinal, 0) for ordinal, event in enumerate(self.events) if event.key is not None]
        self.equal("KEYS", self.rows(KEYS, "<QII"), sorted(keyed))
        blocks = self.sections.get(KEY_FILTER, (b"", 0))[0]
        self.check(bool(keyed) == bool(blocks), "%d keys and a KEY_FILTER of %d bytes" % (len(keyed), len(blocks)))
        for h, ordinal, _ in keyed:
            self.check(filter_contains(blocks, h), "KEY_FILTER denies the key of event %d" % self.events[ordinal].sequence)

    def check_streams(self):
        ordinals = collections.defaultdict(list)
        for ordinal, event in enumerate(self.events):
            if self.live[ordinal]:
                ordinals[event.entity].append(ordinal)
            else:
                ordinals[event.entity]  # its stream has a row, if only this one
        expected_names = sorted(ordinals)
        numbers = {name: number for number, name in enumerate(expected_names)}
        names = self.sections.get(NAMES, (b"", 0))[0]
        self.check(names == b"".join(expected_names), "NAMES are not the entities of the segment, sorted")
        rows, place, name_at = [], 0, 0
        for name in expected_names:
            of_stream = [self.events[ordinal] for ordinal in ordinals[name]]
            head = (of_stream[0].clock, of_stream[-1].clock, of_stream[-1].sequence) if of_stream else (0, 0, 0)
            rows.append((name_at, len(name), 0, place, len(of_stream)) + head)
            name_at, place = name_at + len(name), place + len(of_stream)
        self.equal("STREAMS", self.rows(STREAMS, "<IHHIIQQQ"), rows)
        self.equal("EVENT_STREAMS", self.column(EVENT_STREAMS), (numbers[event.entity] for event in self.events))
        self.equal("POSTINGS", self.column(POSTINGS), (o for name in expected_names for o in ordinals[name]))
        self.check_table_and_filter(expected_names, [name for name in expected_names if ordinals[name]])

    def check_table_and_filter(self, names, live_names):
        table = [slot for (slot,) in self.rows(STREAM_TABLE, "<I")]
        blocks = self.sections.get(FILTER, (b"", 0))[0]
        if not names and not table:
            return
        slots = len(table)
        self.check(slots > len(names) and slots & slots - 1 == 0, "STREAM_TABLE of %d slots for %d streams" % (slots, len(names)))
        self.check(sorted(filter(None, table)) == list(range(1, len(names) + 1)), "STREAM_TABLE does not hold every stream once")
        for number, name in enumerate(names):
            h = name_hash(self.segment.store_id, name)
            slot = h & slots - 1
            while table[slot] not in (0, number + 1):
                slot = slot + 1 & slots - 1
            self.check(table[slot] == number + 1, "STREAM_TABLE does not lead to %r" % name)
        hashes = [name_hash(self.segment.store_id, name) for name in live_names]
        for name, h in zip(live_names, hashes):
            self.check(blocks and filter_contains(blocks, h), "FILTER denies %r" % name)
        # Made of these alone: every bit is one of theirs.
        expected = bytearray(len(blocks))
        for h in hashes:
            filter_insert(expected, h)
        self.check(expected == blocks, "FILTER has bits of other entities")

    def check_frames(self):
        segment = self.segment
        epochs = {128: segment.first_epoch}
        controls = [control for control in segment.controls if control.offset < self.log_end]
        epochs.update((control.offset, control.body[0]) for control in controls if control.type == EPOCH)
        self.equal("EPOCHS", self.rows(EPOCHS, "<QQ"), sorted(epochs.items()))
        self.check(self.epoch == epochs[max(epochs)], "epoch at log end")
        expected = [(control.offset, control.sequence, control.type, 0) for control in controls]
        self.equal("CONTROLS", self.rows(CONTROLS, "<QQII"), expected)


# ---- checkpoints -------------------------------------------------------------------------------------------------------

REGION = re.compile(
    r"entity=(\*|[^|=]+)\|scope=(\*|[^|=]+)\|fact=(none|any|category:(0|[1-9a-f])|exact:(0|[1-9a-f]):(0|[1-9a-f][0-9a-f]{0,2}))"
    r"\|clock=(\*|[0-9]+-[0-9]+)(\|match=exact)?"
)
LONG_KEYS = ["position", "started", "process_boot_ns", "region_identity", "position_id", "store_id", "scanned", "crc32c"]


class MessagePack:
    """A reader of the MessagePack values that a checkpoint may hold."""

    def __init__(self, data, where):
        self.data, self.at, self.where = data, 0, where
        self.shortest = True  # every integer so far has its shortest form

    def take(self, length):
        check(self.at + length <= len(self.data), self.where, "it is cut off")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, length):
        return int.from_bytes(self.take(length), "big")

    def uint(self, length):
        value = self.number(length)
        self.shortest &= value >= {1: 0x80, 2: 0x100, 4: 0x10000, 8: 0x100000000}[length]
        return value

    def value(self):
        marker = self.take(1)[0]
        if marker < 0x80:
            return marker
        if 0xA0 <= marker < 0xC0:
            return self.text(marker & 31)
        if marker in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[marker]
        if 0xC4 <= marker <= 0xC6:
            return self.take(self.number(1 << marker - 0xC4))
        if 0xCC <= marker <= 0xCF:
            return self.uint(1 << marker - 0xCC)
        if 0xD0 <= marker <= 0xD3:
            self.shortest = False
            length = 1 << marker - 0xD0
            return int.from_bytes(self.take(length), "big", signed=True)
        if 0xD9 <= marker <= 0xDB:
            return self.text(self.number(1 << marker - 0xD9))
        raise Discrepancy("%s: byte %#04x at %d" % (self.where, marker, self.at - 1))

    def text(self, length):
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise Discrepancy("%s: a string that is not UTF-8" % self.where)

    def map(self):
        marker = self.take(1)[0]
        check(marker in range(0x80, 0x90) or marker in (0xDE, 0xDF), self.where, "it is no map")
        count = marker & 15 if marker < 0x90 else self.number(2 if marker == 0xDE else 4)
        starts, values = {}, {}
        for _ in range(count):
            start = self.at
            key = self.value()
            check(isinstance(key, str) and key not in values, self.where, "the key %r" % (key,))
            starts[key], values[key] = start, self.value()
        check(self.at == len(self.data), self.where, "bytes follow the map")
        return starts, values


def is_uint(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= U64


def read_checkpoint(name, data, log):
    where = "cursors/" + name
    reader = MessagePack(data, where)
    starts, values = reader.map()
    own = list(values) == LONG_KEYS
    check(own or sorted(values) == sorted(LONG_KEYS[:4]), where, "its keys are %s" % list(values))
    check(is_uint(values["position"]), where, "position %r" % (values["position"],))
    check(isinstance(values["started"], bool), where, "started %r" % (values["started"],))
    boot = values["process_boot_ns"]
    check(boot is None or is_uint(boot), where, "process_boot_ns %r" % (boot,))
    region = values["region_identity"]
    check(isinstance(region, str) and REGION.fullmatch(region), where, "region_identity %r" % (region,))
    check(not region.endswith("|match=exact") or not region.startswith("entity=*"), where, "an exact region of any entity")
    position, started = values["position"], values["started"]
    check(not started or position < len(log.events), where, "position %d, but the log ends before event %d" % (position, len(log.events)))
    if own:
        check(reader.shortest and data[0] == 0x88, where, "an integer or the map is not in its shortest form")
        check(boot is None, where, "process_boot_ns is not nil")
        check(is_uint(values["crc32c"]) and values["crc32c"] == crc32c(0, data[: starts["crc32c"]]), where, "its CRC")
        check(values["store_id"] == log.store_id, where, "it belongs to another store")
        check(is_uint(values["scanned"]) and values["scanned"] <= len(log.events), where, "scanned %r" % (values["scanned"],))
        if started:
            check(values["position_id"] == log.events[position].id, where, "position_id is not the id of event %d" % position)
            check(values["scanned"] > position, where, "scanned %d, position %d" % (values["scanned"], position))
        else:
            check(position == 0 and values["position_id"] is None, where, "a position, but not started")
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in values.items()}


# ---- the whole store ---------------------------------------------------------------------------------------------------


def walk(data_dir):
    """Checks everything and returns what there is."""
    check(os.path.isdir(data_dir), data_dir, "no such directory")
    store_path = os.path.join(data_dir, "STORE")
    store = read_store_file(store_path) if os.path.exists(store_path) else None
    directory = os.path.join(data_dir, "segments")
    log = Log(directory, store)
    check(store or log.segments, data_dir, "neither STORE nor a segment: no store")
    by_base = {segment.base: segment for segment in log.segments}
    indexes, orphans = 0, []
    for name in names_in(directory):
        if not re.fullmatch(r"[0-9]{20}\.idx", name):
            continue
        segment = by_base.get(int(name[:20]))
        if segment is None:
            orphans.append(name)
            continue
        Index(name, read(os.path.join(directory, name)), segment, log.cancelled)
        indexes += 1
    check(not log.clean or not orphans, data_dir, "an index without its segment: %s" % orphans)
    checkpoints = {}
    for name in names_in(os.path.join(data_dir, "cursors")):
        if name.startswith(".") or not name.endswith(".ckpt"):
            continue
        check(re.fullmatch(r"[A-Za-z0-9_:-][A-Za-z0-9._:-]{0,199}\.ckpt", name), "cursors/" + name, "no checkpoint id")
        checkpoints[name[:-5]] = read_checkpoint(name, read(os.path.join(data_dir, "cursors", name)), log)
    return {
        "store_id": log.store_id.hex(),
        "created_us": log.created,
        "key_window": log.key_window,
        "segments": len(log.segments),
        "events": len(log.events),
        "cancelled": ranges_of(sorted(log.cancelled)),
        "keys": sum(event.key is not None for event in log.events),
        "indexes": indexes,
        "entities": {
            name.decode("utf-8"): {"events": clock + 1, "last_clock": clock, "last_sequence": sequence}
            for name, (clock, sequence) in sorted(log.heads.items())
        },
        "watermarks": {
            "next_sequence": len(log.events),
            "durable_sequence": log.durable,
            "last_time_us": log.events[-1].time if log.events else None,
            "epoch": log.segments[-1].epoch if log.segments else None,
        },
        "clean": log.clean,
        "cut": log.cut,
        "checkpoints": checkpoints,
    }


def main():
    parser = argparse.ArgumentParser(description="Checks every file of a store against docs/FORMAT.md.")
    parser.add_argument("data_dir", metavar="DATA_DIR")
    parser.add_argument("--json", action="store_true", help="print what the store holds as one JSON object")
    options = parser.parse_args()
    try:
        found = walk(options.data_dir)
    except Discrepancy as discrepancy:
        print("format.py: %s" % discrepancy, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
        return 0
    counts = found["segments"], found["events"], found["indexes"], len(found["checkpoints"])
    print("format.py: %d segments, %d events, %d indexes, %d checkpoints: ok" % counts)
    cancelled = sum(end - start for start, end in found["cancelled"])
    if found["keys"] or cancelled:
        print("format.py: %d keys, %d cancelled events" % (found["keys"], cancelled))
    if found["cut"]:
        print("format.py: recovery will cut the log: %s" % found["cut"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
