"""Frames of a video file, read with PyAV."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cim_lightning.data.decode import bad_image_errors
from cim_lightning.data.optional_packages import require
from cim_lightning.data.pixel_format import PixelFormat, Pixels

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv")


@dataclass(frozen=True)
class VideoFile:
    """A video file. Frame `i` is the first frame that is shown at or after `i` times the mean frame duration.

    A frame is reached by decoding from the key frame before it. Files with many key frames are faster.
    """

    path: str
    num_frames: int
    pixels: PixelFormat

    @classmethod
    def open(cls, path: str, pixels: PixelFormat) -> "VideoFile":
        """Return the video, with the number of frames from its header, or by counting if it has none.

        Raises:
            BadImageError: the file is no video, or is damaged at its start.
            ConfigError: PyAV is not installed.
        """
        require("av", "video", "video files")
        import av

        with bad_image_errors(path), av.open(path) as container:
            stream = container.streams.video[0]
            count = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
            if not count or not stream.average_rate:
                raise ValueError("has no frame")
        return cls(path, count, pixels)

    def read(self, indices: Sequence[int]) -> list[Pixels]:
        import av

        with bad_image_errors(self.path), av.open(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"  # data workers are the parallelism
            frames = {index: self._read(container, stream, index) for index in sorted(set(indices))}
        return [frames[index] for index in indices]

    def _read(self, container: Any, stream: Any, index: int) -> Pixels:
        time = Fraction(index) / stream.average_rate / stream.time_base + (stream.start_time or 0)
        # Half a frame earlier, since containers round the times of frames.
        wanted = math.ceil(time - Fraction(1, 2) / stream.average_rate / stream.time_base)
        container.seek(wanted, stream=stream)
        last = None
        for last in container.decode(stream):
            if last.pts is not None and last.pts >= wanted:
                break
        if last is None:
            raise ValueError(f"has no frame {index}")
        # Phones store the orientation beside the pixels.
        image = last.to_image()
        return self.pixels.convert(image.rotate(last.rotation, expand=True) if last.rotation else image)
