# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes out of an image file what does not show: where and when it was taken, by whom, with which camera.

The pixels stay as they are, byte for byte; nothing is decoded. Of the EXIF block only the orientation is kept, because
without it a phone's photo would lie on its side. Color profiles stay.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_EXIF = b"Exif\x00\x00"
_ORIENTATION = 0x0112
# JPEG segments that are dropped: APP1 (EXIF, XMP), APP3-APP13, APP15 (makers' notes, IPTC), comments. APP0 (JFIF),
# APP2 (color profile) and APP14 (Adobe's color transform) are needed to show the image.
_JPEG_DROPPED = {0xE1, *range(0xE3, 0xEE), 0xEF, 0xFE}
_JPEG_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in coded pixels FF stands for itself with 00 behind it
# Chunks that the picture, its colors and its movement need; programs put what they like into others.
_PNG_KEPT = set(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD hIST pHYs sPLT acTL fcTL fdAT".split()
)
_WEBP_KEPT = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"}
_GIF_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_WEBP_FLAGS = 0x08 | 0x04  # of VP8X: there is EXIF, there is XMP


def without_private_parts(data: bytes, kind: str) -> bytes | None:
    """The image without its metadata.

    Args:
        data: a whole file.
        kind: its media type, told by its first bytes.
    Returns:
        The file as it may be shown to strangers; None when this format, or this file, cannot be cleaned without
        decoding it (AVIF, a broken file): then it has to be converted, or refused.
    """
    try:
        if kind == "image/jpeg":
            return _jpeg(data)
        if kind == "image/png":
            return _png(data)
        if kind == "image/webp":
            return _webp(data)
        if kind == "image/gif":
            return _gif(data)
    except (IndexError, struct.error):
        return None
    return None


def _jpeg(data: bytes) -> bytes | None:
    kept = [data[:2]]
    turned = 1
    for marker, start, end in _jpeg_segments(data):
        if marker == 0xDA:  # the picture itself; what comes behind its end (a second picture, say) is not shown
            kept += _picture(data, start, end)
            exif = _orientation_segment(turned) if turned != 1 else b""
            place = 2 if len(kept) > 2 and kept[1][1:2] == b"\xe0" else 1  # behind JFIF, which comes first
            return b"".join([*kept[:place], exif, *kept[place:]])
        if marker == 0xE1 and data[start + 4 : start + 10] == _EXIF:
            turned = _orientation(data[start + 10 : end])
        if marker not in _JPEG_DROPPED:
            kept.append(data[start:end])
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment before and with the start of scan."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker in _JPEG_STANDALONE:
            place += 2
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        yield marker, place, end
        if marker == 0xDA or end <= place + 3:
            return
        place = end


def _picture(data: bytes, start: int, place: int) -> list[bytes]:
    """The picture from its first scan's header at `start`, whose pixels begin at `place`, to its end, in pieces.

    Between scans stand the tables of the next one, and whatever else a program put there. A torn file has no end mark.
    """
    kept: list[bytes] = []
    while found := _MARK.search(data, place):
        if found.group() == b"\xff\xd9":
            return [*kept, data[start : found.end()]]
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
        if found.group()[1] in _JPEG_DROPPED:
            kept.append(data[start : found.start()])
            start = place
    return [*kept, data[start:]]


def _orientation(tiff: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1 when it is not said or not readable."""
    try:
        order = {b"II": "<", b"MM": ">"}[tiff[:2]]
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, first)
        for entry in range(min(count, 512)):
            tag, _kind, _count, value = struct.unpack_from(f"{order}HHIH", tiff, first + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return int(value) if 1 <= value <= 8 else 1
    except (KeyError, struct.error):
        return 1
    return 1


def _tiff_of(orientation: int) -> bytes:
    """A TIFF block that says the orientation and nothing else."""
    return b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)


def _orientation_segment(orientation: int) -> bytes:
    body = _EXIF + _tiff_of(orientation)
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def _png(data: bytes) -> bytes:
    kept, place, turned = [data[:8]], 8, 1
    while place < len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        end = place + 12 + size
        if name == b"eXIf":
            turned = _orientation(data[place + 8 : end - 4])
        if name in _PNG_KEPT:
            kept.append(data[place:end])
        place = end
        if name == b"IEND":
            break
    if turned != 1:
        kept.insert(2, _png_chunk(b"eXIf", _tiff_of(turned)))  # behind IHDR
    return b"".join(kept)


def _png_chunk(name: bytes, body: bytes) -> bytes:
    import zlib

    return struct.pack(">I4s", len(body), name) + body + struct.pack(">I", zlib.crc32(name + body))


def _webp(data: bytes) -> bytes:
    kept, place = [], 12
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        end = place + 8 + size + size % 2
        chunk = data[place:end]
        if name == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & ~_WEBP_FLAGS]) + chunk[9:]
        if name in _WEBP_KEPT:
            kept.append(chunk)
        place = end
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _gif(data: bytes) -> bytes | None:
    place = _behind_colors(13, data[10])
    kept = [data[:place]]
    while (mark := data[place]) != 0x3B:  # what stands behind the end is not shown
        if mark == 0x21:  # an extension: pauses and loops are kept; comments, text and XMP are not
            end = _behind_blocks(data, place + 2)
            if data[place + 1] == 0xF9 or (data[place + 1] == 0xFF and data[place + 3 : place + 14] in _GIF_LOOPS):
                kept.append(data[place:end])
        elif mark == 0x2C:
            end = _behind_blocks(data, _behind_colors(place + 10, data[place + 9]) + 1)
            kept.append(data[place:end])
        else:
            return None
        place = end
    return b"".join([*kept, b";"])


def _behind_colors(place: int, flags: int) -> int:
    """Where a GIF goes on behind the color table at `place`, if the flags say that there is one."""
    return place + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)


def _behind_blocks(data: bytes, place: int) -> int:
    """Where a GIF goes on behind a run of sub-blocks, which an empty one ends."""
    while data[place]:
        place += 1 + data[place]
    return place + 1
