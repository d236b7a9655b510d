"""Byte surgery on finished files: cuts, flips, zeros, and the boxes of an mp4."""

import struct

from .kinds import Draw
from .media import packets_of


def half(data: bytes) -> bytes:
    """The first half."""
    return data[: len(data) // 2]


def without(data: bytes, start: float, end: float) -> bytes:
    """All but the bytes between two shares of the length."""
    return data[: int(len(data) * start)] + data[int(len(data) * end) :]


def zeroed(data: bytes, start: int, end: int) -> bytes:
    """Zeros from byte `start` to byte `end`."""
    return data[:start] + bytes(end - start) + data[end:]


def flipped(data: bytes, draw: Draw, start: int, end: int, bits: int) -> bytes:
    """`bits` bits between byte `start` and byte `end` turned over, at places that the draw chooses."""
    result = bytearray(data)
    for place in draw.random.sample(range(start * 8, end * 8), bits):
        result[place // 8] ^= 1 << place % 8
    return bytes(result)


def patched(data: bytes, place: int, value: bytes) -> bytes:
    """`value` written over the bytes at `place`."""
    return data[:place] + value + data[place + len(value) :]


def every_packet(data: bytes, change: dict[int, bytes]) -> bytes:
    """Bytes at fixed places of every video payload written over: {place in the payload: new bytes}."""
    for start, _ in packets_of(data):
        for place, value in change.items():
            data = patched(data, start + place, value)
    return data


def box(data: bytes, name: bytes) -> tuple[int, int]:
    """(start, end) of the last mp4 box of that name, its header included."""
    start = data.rindex(name) - 4
    return start, start + int.from_bytes(data[start : start + 4], "big")


def in_box(data: bytes, name: bytes, place: int, value: bytes) -> bytes:
    """`value` written over the bytes at `place` in the last box of that name."""
    return patched(data, box(data, name)[0] + place, value)


def without_box(data: bytes, name: bytes) -> bytes:
    """The bytes of the box gone, the sizes around it as they were."""
    start, end = box(data, name)
    return data[:start] + data[end:]


def moov_first(data: bytes) -> bytes:
    """A plain mp4 (ftyp, free, mdat, moov) with its header before the pictures, as the web wants it."""
    start, end = box(data, b"moov")
    first, _ = box(data, b"mdat")
    moov = bytearray(data[start:end])
    place = moov.index(b"stco") + 8
    for entry in range(place + 4, place + 4 + 4 * int.from_bytes(moov[place : place + 4], "big"), 4):
        moov[entry : entry + 4] = struct.pack(">I", int.from_bytes(moov[entry : entry + 4], "big") + len(moov))
    return data[:first] + bytes(moov) + data[first:start] + data[end:]


def after(data: bytes, word: bytes, skip: int) -> int:
    """The place `skip` bytes after the last `word`."""
    return data.rindex(word) + len(word) + skip


def without_ts_packets(data: bytes, draw: Draw, share: float) -> bytes:
    """An MPEG-TS that lost packets of 188 bytes on its way, tables excepted."""
    packets = [data[place : place + 188] for place in range(0, len(data), 188)]
    lost = set(draw.random.sample(range(8, len(packets)), int(len(packets) * share)))
    return b"".join(packet for number, packet in enumerate(packets) if number not in lost)


def renumbered_ts(data: bytes) -> bytes:
    """An MPEG-TS whose packets are counted on without a break, per stream."""
    result, counts = bytearray(data), dict[int, int]()
    for place in range(0, len(data), 188):
        stream = int.from_bytes(data[place + 1 : place + 3], "big") & 0x1FFF
        if data[place + 3] & 0x10:  # only packets with a payload count
            counts[stream] = (counts.get(stream, -1) + 1) % 16
        result[place + 3] = data[place + 3] & 0xF0 | counts.get(stream, 0)
    return bytes(result)
