"""Image files with mask files: masks of many kinds become class numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from cim_lightning.data.decode import decode, open_file
from cim_lightning.data.image_formats import pillow_formats
from cim_lightning.errors import BadImageError, ConfigError

IGNORE_INDEX = 255  # value of ignored pixels in masks; the files may use another label
UNKNOWN = 254  # value of labels that are neither a class nor ignored
LOSSLESS = ("PNG", "TIFF", "BMP", "GIF")
QUARTER_TURNS = (5, 6, 7, 8)  # values of the EXIF orientation that exchange width and height


@dataclass(eq=False)
class ImageMaskFiles:
    """A MaskSource of image files.

    Masks are gray or palette images of class labels. A mask with three equal channels is gray, too. Images
    and masks are turned upright by their own EXIF orientation.

    `files[i]` raises ConfigError if a file cannot be read, if the sizes of image and mask differ, or if the
    mask is not a label image or has an unknown label.
    """

    root: str  # folder of the data set
    pairs: Sequence[tuple[str, str]]  # paths of image and mask, relative to root
    class_of: UInt8[np.ndarray, "256"]  # label in the files -> class number, IGNORE_INDEX or UNKNOWN

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        try:
            image = decode(self._folder / self.pairs[index][0])
        except BadImageError as error:
            raise self._error(str(error), "replace the file, or remove it from its list") from error
        labels = self.labels(index)
        if labels.shape != (image.height, image.width):
            self.check_size(index)
        return image, self.class_of[labels]

    def labels(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Return the labels of a mask as in its file; each is a class or ignored."""
        path = self.pairs[index][1]
        try:
            with self._open(path) as mask:
                if mask.format not in LOSSLESS:
                    rule = f"{path} is a {mask.format}, whose compression changes labels"
                    raise self._error(rule, "save masks as PNG")
                mask.load()  # first, as a PNG may have its EXIF after the pixels
                mode, values = mask.mode, np.asarray(ImageOps.exif_transpose(mask))
        except ConfigError:
            raise
        except Exception as error:  # damaged files cause nearly any exception in Pillow
            rule = f"{path} cannot be read ({' '.join(str(error).split())})"
            raise self._error(rule, "replace the file, or remove it from its list") from error
        if values.ndim == 3 and mode in ("LA", "PA"):
            values = values[..., 0]
        if values.ndim == 3 and mode in ("RGB", "RGBA") and (values[..., :3] == values[..., :1]).all():
            values = values[..., 0]
        if values.ndim == 3 or values.dtype.kind == "f":
            rule = f"{path} has mode {mode}, but a mask has one class number per pixel"
            raise self._error(rule, "try an 8-bit gray or palette PNG")
        self._check_labels(values, path)
        return values.astype(np.uint8)

    def check_size(self, index: int) -> bool:
        """Check from the headers of two files that image and mask have the same size.

        Returns:
            Whether the orientation of the image is certain: no EXIF turns it, or the sizes confirm the turn.

        Raises:
            ConfigError: the sizes differ.
        """
        paths = self.pairs[index]
        (image, turn), (mask, mask_turn) = map(self._size, paths)
        upright, mask_upright = _upright(image, turn), _upright(mask, mask_turn)
        if upright == mask_upright:
            is_confirmed = upright != image or turn == 1
            return is_confirmed or mask_turn == turn
        for (path, size, raw), (other, other_size) in (
            ((paths[0], upright, image), (paths[1], mask_upright)),
            ((paths[1], mask_upright, mask), (paths[0], upright)),
        ):
            if size != raw == other_size:
                rule = f"{path} is turned by its EXIF orientation, but {other} is not"
                raise self._error(rule, f"turn {other}, or remove the orientation from {path}")
        rule = f"{paths[1]} is {_times(mask_upright)}, but {paths[0]} is {_times(upright)}"
        raise self._error(rule, "resize the mask with nearest-neighbor interpolation")

    @property
    def _folder(self) -> Path:
        return Path(self.root).expanduser()

    def _open(self, path: str) -> Image.Image:
        """Return an image whose header is read."""
        with open_file(self._folder / path) as file:
            formats = pillow_formats(file.read(32))
        return Image.open(self._folder / path, formats=formats)

    def _size(self, path: str) -> tuple[tuple[int, int], int]:
        """Return width and height in a file, and its EXIF orientation; 1 if there is none."""
        try:
            with self._open(path) as image:
                # Pillow decodes the whole PNG to find an EXIF chunk behind the pixels.
                has_exif = image.format != "PNG" or "exif" in image.info
                turn = image.getexif().get(ExifTags.Base.Orientation, 1) if has_exif else 1
                return image.size, turn if isinstance(turn, int) and 1 <= turn <= 8 else 1
        except Exception as error:
            rule = f"{path} cannot be read ({' '.join(str(error).split())})"
            raise self._error(rule, "replace the file, or remove it from its list") from error

    def _check_labels(self, values: np.ndarray, path: str) -> None:
        is_known = np.zeros(values.shape, bool)
        within = (values >= 0) & (values <= 255)
        is_known[within] = self.class_of[values[within].astype(np.uint8)] != UNKNOWN
        if not is_known.all():
            label, known = int(values[~is_known].min()), np.flatnonzero(self.class_of < UNKNOWN)
            rule = f"{path} has the label {label}, which is not a class ({known.min()}..{known.max()})"
            hint = f"try ignore=[{label}]" if 0 <= label <= 255 else "labels are in 0..255"
            raise self._error(rule, hint)

    def _error(self, rule: str, hint: str) -> ConfigError:
        return ConfigError("root", self.root, rule, hint=hint)


def _upright(size: tuple[int, int], turn: int) -> tuple[int, int]:
    return (size[1], size[0]) if turn in QUARTER_TURNS else size


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
