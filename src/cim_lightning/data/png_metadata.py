"""Removal of the metadata of PNG files."""

import struct
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXEL_CHUNKS = (b"tRNS", b"eXIf")  # ancillary chunks with transparency and orientation


def without_metadata(data: bytes) -> bytes:
    """Return a PNG without the chunks that do not change its pixels, and other data unchanged.

    Chunks that a decoder needs are copied unchanged, with a wrong checksum or cut off, too.
    """
    if not data.startswith(PNG_SIGNATURE):
        return data
    chunks, start = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while start + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        chunk = data[start : start + 12 + length]
        kind, checksum = chunk[4:8], struct.pack(">I", zlib.crc32(chunk[4:-4]))
        is_critical = not kind[0] & 0x20  # a capital first letter
        if is_critical or (kind in PIXEL_CHUNKS and chunk[-4:] == checksum):
            chunks.append(chunk)
        start += len(chunk)
    return b"".join(chunks)
