"""Check of the format of a data set's images before training."""

from typing import Any

from cim_lightning.data.loader import read_within
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.errors import BadImageError, ConfigError, WrongFormatError

FIRST_IMAGES = 8  # of which one must have the right format


def check_first_images(source: Any, pixels: PixelFormat, timeout: float | None = None) -> None:
    """Check the format of an image of a source before training, if one of the first images is intact.

    Raises:
        ConfigError: none of the first images can be converted to the format.
        LoadingError: an image is not read within the time limit, in seconds.
    """
    errors = []
    for index in range(min(len(source), FIRST_IMAGES)):
        try:
            return pixels.check(read_within(source, index, timeout)[0])
        except WrongFormatError as error:
            errors.append(error)
        except BadImageError:  # a damaged image; the data set skips it
            pass
    if errors:
        found = errors[0].channels
        if found is None:
            raise ConfigError("bits", pixels.bits, str(errors[0]), hint="scale or convert the files")
        raise ConfigError("channels", pixels.channels, str(errors[0]), suggest=found)
