"""A clip: frames of one scene, from a video file or from a folder of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.pixel_format import PixelFormat, Pixels


@runtime_checkable
class Clip(Protocol):
    """Frames in the order of time."""

    @property
    def num_frames(self) -> int: ...

    def read(self, indices: Sequence[int]) -> list[Pixels]:
        """Return frames (0 <= index < num_frames), or raise BadImageError."""
        ...


@dataclass(frozen=True)
class FrameFolder:
    """The images of a folder as frames."""

    files: FileIndex  # in the order of time
    pixels: PixelFormat

    @property
    def num_frames(self) -> int:
        return len(self.files)

    def read(self, indices: Sequence[int]) -> list[Pixels]:
        return [self.pixels.decode(self.files.path(index)) for index in indices]
