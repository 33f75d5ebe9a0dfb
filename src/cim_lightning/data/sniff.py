"""Image formats by the first bytes of a file, for files without a suffix."""

import re

from cim_lightning.data.image_formats import CONTAINER_BRANDS, HEIC_BRANDS, JXL_SIGNATURES

HEAD = 256  # bytes that are needed
SUFFIX = re.compile(r"\.(?=.*[a-z])[a-z0-9]+")  # others, such as .03 and .jpg_large, are parts of names
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)
AVIF_BRANDS = {b"avif", b"avis"}
HEIF_BRANDS = {*HEIC_BRANDS, *CONTAINER_BRANDS}


def sniff(head: bytes) -> str:
    """Return the usual suffix of an image format, such as ".jpg".

    Args:
        head: the first HEAD bytes of a file, or the whole file.

    Returns:
        .avif, .bmp, .dcm, .gif, .heic, .jpg, .jxl, .npy, .png, .tif or .webp; "" for any other content.
    """
    signatures = {
        ".jpg": b"\xff\xd8\xff",
        ".png": b"\x89PNG\r\n\x1a\n",
        ".gif": (b"GIF87a", b"GIF89a"),
        ".tif": TIFF_SIGNATURES,
        ".jxl": JXL_SIGNATURES,
        ".npy": b"\x93NUMPY",
    }
    for suffix, signature in signatures.items():
        if head.startswith(signature):
            return suffix
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    # Two letters alone would match text, so the size of the second header decides.
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADER_SIZES:
        return ".bmp"
    if head[128:132] == b"DICM":
        return ".dcm"
    return _sniff_isobmff(head)


def _sniff_isobmff(head: bytes) -> str:
    """Return the format of an ISO base media file, by its brands: the major one, then the compatible ones."""
    if head[4:8] != b"ftyp":
        return ""
    brands_end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, brands_end, 4))}
    # AVIF files often have the general brands of HEIF too.
    return ".avif" if brands & AVIF_BRANDS else ".heic" if brands & HEIF_BRANDS else ""
