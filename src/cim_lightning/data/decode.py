"""Any JPEG, PNG, WebP, BMP, GIF or TIFF -> an upright RGB image, or one line saying why not."""

import io
import os
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from cim_lightning.errors import BadImageError

# Only these may be tried: others (EPS, for one) start programs on whatever a download contains.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

EXIF_ORIENTATION = 0x0112
TIFF_BITS_PER_SAMPLE = 258
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """Decode the file at a path, or its bytes, to an RGB image as a viewer would show it.

    * EXIF orientation is applied; of an animation or a stack of pages it is the first frame.
    * Transparency is laid over white, the page on which most such drawings are meant to be seen: the
      color stored below transparent pixels is arbitrary, and over black dark line art would vanish.
      A single transparent color in a PNG of 2, 4 or 16 bits is shown as that color.
    * 16-bit gray is scaled (`value / 257`), not clipped; `_eight_bits` has the rule for wider pixels.
    * ICC profiles are ignored: applying them costs more than decoding, and training sets were
      seldom made so. CMYK is converted by Pillow's plain formula, Adobe's inversion undone.

    Raises BadImageError, one line with the path and the reason, for what is missing, empty, truncated,
    no image, or beyond Pillow's limit for decompression bombs (179 million pixels). Damage inside a
    JPEG that leaves it decodable goes unseen, as it does in every libjpeg program. Pillow's warnings are
    silenced by a switch that belongs to the process: decode in worker processes, not in threads.
    """
    try:
        data = source if isinstance(source, bytes) else _read(source)
        if not data:
            raise ValueError("the file is empty")
        # Doubtful metadata and large sizes make Pillow warn; neither says that the pixels are bad.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(data)
    except Exception as error:  # damaged files make Pillow raise nearly anything, struct.error included
        raise BadImageError(f"{_name(source)}: {_reason(error)}") from error


def _decode(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        image.load()
        # After loading: a PNG may hold its EXIF last, and a TIFF turns itself and forgets its tag.
        turn = UPRIGHT.get(_orientation(image))
        rgb = _rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def _read(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(EXIF_ORIENTATION)
    except Exception:  # unreadable EXIF is common, raises nearly anything, and leaves the pixels good
        value = None
    return value if isinstance(value, int) else 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    if image.has_transparency_data:
        seen = Image.new("RGBA", image.size, "white")
        seen.alpha_composite(image.convert("RGBA"))
        image = seen
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray of more than eight bits -> "L", by the depth of the file or, failing that, by its values.

    Unsigned 16-bit (12-bit) pixels: 0..65535 (0..4095) -> 0..255. 32-bit integers: the same while their
    values lie in 0..65535, since some writers and some versions of Pillow store 16-bit images so. Floats:
    the first of 0..1, 0..255 and 0..65535 that holds every value. Anything else has no scale of its own
    (heights, temperatures): its lowest value becomes 0, its highest 255. NaN and infinities become 0.
    """
    pixels = np.asarray(image).astype(np.float64)
    known = np.isfinite(pixels)
    values = pixels[known]
    low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
    for top in _usual_tops(image):
        if low >= 0 and high <= top:
            low, high = 0.0, top
            break
    gray = np.zeros(pixels.shape, np.uint8)
    if high > low:
        gray[known] = np.rint((values - low) * (255 / (high - low)))
    return Image.fromarray(gray)


def _usual_tops(image: Image.Image) -> tuple[float, ...]:
    if image.mode == "F":
        return 1.0, 255.0, 65535.0
    bits = getattr(image, "tag_v2", {}).get(TIFF_BITS_PER_SAMPLE, (16,))
    return (4095.0,) if bits == (12,) else (65535.0,)


def _name(source: str | os.PathLike[str] | bytes) -> str:
    # repr: a path with a line break in it must not break the message's single line
    return f"{len(source)} bytes" if isinstance(source, bytes) else repr(os.fspath(source))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own text names a BytesIO object
        return f"not an image, or its header is damaged (read are {', '.join(FORMATS)})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
