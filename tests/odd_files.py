"""Files that people have among their images: damaged ones, odd ones, and ones that are no images."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.lookalikes import tiff_bytes

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
RGB = Image.fromarray(PIXELS)
GRAY16 = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(data)), png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


def zip_bytes() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jpg", b"x")
    return file.getvalue()


def with_transparency() -> Image.Image:
    image = RGB.convert("P")
    image.info["transparency"] = 0
    return image


JPEG, PNG, TIFF = encoded(RGB, "JPEG", quality=95), encoded(RGB, "PNG"), encoded(RGB, "TIFF")
GIF, WEBP, BMP = encoded(RGB, "GIF"), encoded(RGB, "WEBP", lossless=True), encoded(RGB, "BMP")
FRAMES = [Image.new("RGB", (16, 16), color) for color in ("red", "lime")]
ANIMATION = {"save_all": True, "append_images": FRAMES[1:]}
ROTATED = Image.Exif()
ROTATED[0x0112] = 6
PAGE = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>"

# Files that no program can decode to an image.
BAD: dict[str, bytes] = {
    "empty.jpg": b"",
    "zeros.jpg": bytes(4096),
    "text.jpg": b"see the other folder\n",
    "page.jpg": PAGE,
    "error.png": b'{"message": "rate limit exceeded"}',
    "pointer.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n",
    "archive.png": zip_bytes(),
    "document.jpg": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "drawing.png": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "video.jpg": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(64),
    "postscript.jpg": encoded(RGB, "EPS"),
    "photoshop.jpg": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, 8, 3) + bytes(64),
    "encrypted.jpg": np.random.default_rng(1).bytes(4096),
    "start.jpg": JPEG[:20],
    "header.jpg": JPEG[:200],
    "no_mark.jpg": JPEG[:-2],
    "half.jpg": JPEG[: len(JPEG) // 2],
    "half.png": PNG[: len(PNG) // 2],
    "no_end.png": PNG[: len(PNG) - 100],
    "half.gif": GIF[: len(GIF) // 2],
    "half.webp": WEBP[: len(WEBP) // 2],
    "half.bmp": BMP[: len(BMP) // 2],
    "half.tif": TIFF[: len(TIFF) // 2],
    "header.tif": TIFF[:8],
    "flipped.png": flipped(PNG, len(PNG) // 2),
    "crc.png": flipped(PNG, 30),
    "no_header.dib": encoded(RGB, "DIB"),
    "bomb.png": png_of(30000, 30000),
    "no_width.png": png_of(0, 10),
    "no_pixels.png": png_of(48, 40),
    "bomb.bmp": BMP[:18] + struct.pack("<ii", 60000, 60000) + BMP[26:],
    "bomb.gif": GIF[:6] + struct.pack("<HH", 65535, 65535) + GIF[10:],
    "bands.tif": tiff_bytes(np.zeros((4, 4, 8), np.uint8), photometric="minisblack", planarconfig="contig"),
    "text\nin two lines.jpg": b"text",
    os.fsdecode(b"not utf-8 \xff.jpg"): b"text",
}

# Files that are decoded, however odd.
ODD: dict[str, bytes] = {
    "cmyk.jpg": encoded(RGB.convert("CMYK"), "JPEG"),
    "gray.jpg": encoded(RGB.convert("L"), "JPEG"),
    "progressive.jpg": encoded(RGB, "JPEG", progressive=True),
    "rotated.jpg": encoded(RGB, "JPEG", exif=ROTATED),
    "tail.jpg": JPEG + PAGE,
    "two pictures.jpg": encoded(FRAMES[0], "MPO", **ANIMATION),
    "gray16.png": encoded(GRAY16, "PNG"),
    "bits.png": encoded(RGB.convert("1"), "PNG"),
    "palette.png": encoded(with_transparency(), "PNG"),
    "opacity.png": encoded(RGB.convert("RGBA"), "PNG"),
    "profile.png": PNG[:33] + png_chunk(b"iCCP", b"profile\0\0broken") + PNG[33:],
    "metadata.png": PNG[:33] + png_chunk(b"tEXt", b"a\0" + bytes(100))[:-1] + b"?" + PNG[33:],
    "tail.png": PNG + PAGE,
    "animated.png": encoded(FRAMES[0], "PNG", **ANIMATION),
    "animated.gif": encoded(FRAMES[0], "GIF", **ANIMATION),
    "animated.webp": encoded(FRAMES[0], "WEBP", **ANIMATION),
    "modern.avif": encoded(RGB, "AVIF"),
    "nan.tif": encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"),
    "pages.tif": tiff_bytes(np.stack([PIXELS] * 2), photometric="rgb"),
    "packed.tif": encoded(RGB, "TIFF", compression="tiff_lzw"),
    "pixel.png": encoded(RGB.crop((0, 0, 1, 1)), "PNG"),
    "line.png": encoded(Image.new("RGB", (1, 5000)), "PNG"),
    "png inside.jpg": PNG,
    "UPPER.JPG": JPEG,
    "old.jfif": JPEG,
    "old.jpe": JPEG,
    "no suffix": JPEG,
    "download.jpg_large": JPEG,
    "two\nlines.jpg": JPEG,
    "猫 😀.jpg": JPEG,
    os.fsdecode(b"latin \xe9.jpg"): JPEG,
    "n" * 251 + ".jpg": JPEG,
    "folder.jpg/inside.jpg": JPEG,
}

# Files and links that a scan skips, by the reason.
SKIPPED: dict[str, str] = {
    ".hidden.jpg": "hidden files",
    "._half.jpg": "hidden files",
    "Thumbs.db": "hidden files",
    "__MACOSX/": "hidden folders",
    ".thumbnails/": "hidden folders",
    "notes.txt": ".txt",
    "photo.jpg.part": ".part",
    "raw.cr2": ".cr2",
    "no image": "no suffix",
    "nothing": "empty files",
    "broken.jpg": "broken links",
    "loop.jpg": "broken links",
    "up": "links to a folder above",
    "pipe.jpg": "special files",
}


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files with these contents."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def write_skipped(folder: Path) -> None:
    """Write what SKIPPED names."""
    for name in SKIPPED:
        path = folder / name
        if name.endswith("/"):
            write_files(path, {"a.jpg": JPEG})
        elif name in ("broken.jpg", "loop.jpg", "up"):
            path.symlink_to({"broken.jpg": "nowhere.jpg", "loop.jpg": "loop.jpg", "up": "."}[name])
        elif name == "pipe.jpg":
            os.mkfifo(path)
        else:
            path.write_bytes({"nothing": b"", "no image": b"text"}.get(name, JPEG))
