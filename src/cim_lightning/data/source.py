"""The Source protocol, and the training and validation images of a data set."""

from typing import NamedTuple, Protocol, runtime_checkable

from cim_lightning.data.pixel_format import Pixels

NO_LABEL = -1


@runtime_checkable
class Source(Protocol):
    """A map-style data set: `source[i]` returns an image and its label, or raises BadImageError.

    Images have the `PixelFormat` of the data set. Labels are in 0..len(classes) - 1, or NO_LABEL (-1).

    Optional attributes:
        labels: an int array, required if some images have no label, and for `label_share`.
        unknown_classes: sorted names of classes that training images lack. Their images have no label.
        path: method that returns the path of image i, for messages.
        content: method that returns the bytes of the file of image i, or raises BadImageError.
        keys: uint64 numbers that identify the images, such as hashes of their names. The order, the views and
            the crops of the images depend on them. Without keys, the index of an image identifies it.
        in_memory: whether the decoded images are in memory, so that a cache is of no use.
        fingerprint: hash of names and labels. Two sources of the same images have the same one.
    """

    @property
    def classes(self) -> list[str] | None: ...  # None: there are no labels

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Pixels, int]: ...


class NoImages:
    """A Source without images: the validation images of a run without validation."""

    classes: list[str] | None = None
    fingerprint = ""

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        raise IndexError(f"image {index} of 0")


class Splits(NamedTuple):
    """Training and validation images. Without validation, `val` has no images."""

    train: Source
    val: Source
    summary: str = ""  # what was found, used and skipped, in one line
    drawn: bool = False  # whether the validation images are a random part of the training images

    def describe(self) -> str:
        """Return the summary, or the numbers of images if there is none."""
        counts = f"{len(self.train):,} training and {len(self.val):,} validation images"
        return self.summary or counts
