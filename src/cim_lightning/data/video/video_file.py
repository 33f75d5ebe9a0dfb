"""Frames of a video file, read with PyAV."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cim_lightning.data.decode import bad_image_errors
from cim_lightning.data.optional_packages import require
from cim_lightning.data.pixel_format import PixelFormat, Pixels

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv")
REWINDS = (0, 1, 10)  # seconds before a frame, until the decoder starts early enough; then the start


@dataclass(frozen=True)
class VideoFile:
    """A video file. Frame `i` is the first frame that is shown at or after `i` times the mean frame duration.

    A frame is reached by decoding from the key frame before it. Files with many key frames are faster. In
    containers without exact times, such as .mpg, and .avi with frames out of order, it may be a neighbor.
    """

    path: str
    num_frames: int
    duration: Fraction  # mean of a frame, in units of the stream's time base
    pixels: PixelFormat

    @classmethod
    def open(cls, path: str, pixels: PixelFormat) -> "VideoFile":
        """Return the video, with the number and the mean duration of its frames.

        Both are from its header. If the header has none, or the file ends before, all packets are read.

        Raises:
            BadImageError: the file is no video, or is damaged at its start.
            ConfigError: PyAV is not installed.
        """
        require("av", "video", "video files")
        import av

        with bad_image_errors(path), av.open(path) as container:
            stream: Any = container.streams.video[0]
            if stream.frames and stream.average_rate:
                duration = 1 / stream.average_rate / stream.time_base
                video = cls(path, stream.frames, duration, pixels)
                last = video._time(stream, video.num_frames - 1)
                container.seek(last, stream=stream)
                if max(_packet_times(container, stream), default=last - 1) >= last:
                    return video
        with bad_image_errors(path), av.open(path) as container:
            times = sorted(_packet_times(container, container.streams.video[0]))
            if not times:
                raise ValueError("has no frame")
            # Recordings of a browser have a frame rate of 1000 in the header, so the times decide.
            duration = Fraction(times[-1] - times[0], len(times) - 1) if len(times) > 1 else Fraction(0)
            return cls(path, len(times), duration, pixels)

    def read(self, indices: Sequence[int]) -> list[Pixels]:
        import av

        with bad_image_errors(self.path), av.open(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"  # data workers are the parallelism
            frames = {index: self._read(container, stream, index) for index in sorted(set(indices))}
        return [frames[index] for index in indices]

    def _read(self, container: Any, stream: Any, index: int) -> Pixels:
        wanted, start = self._time(stream, index), self._time(stream, 0)
        last: Any = None
        for seek in (*(wanted - math.ceil(seconds / stream.time_base) for seconds in REWINDS), start):
            container.seek(max(seek, start), stream=stream)
            first = last = None
            for last in container.decode(stream):
                first = first or last
                if last.pts is not None and last.pts >= wanted:
                    break
            # Some containers find the key frame after the wanted frame.
            if seek <= start or (first and first.pts is not None and first.pts <= wanted + self.duration):
                break
        if last is None:
            raise ValueError(f"has no frame {index}")
        # Phones store the orientation beside the pixels.
        image = last.to_image()
        return self.pixels.convert(image.rotate(last.rotation, expand=True) if last.rotation else image)

    def _time(self, stream: Any, index: int) -> int:
        """Return the time of a frame in units of the time base, half a frame early, as containers round."""
        return math.ceil((stream.start_time or 0) + (index - Fraction(1, 2)) * self.duration)


def _packet_times(container: Any, stream: Any) -> Iterator[int]:
    """Yield the times of the packets of a stream; damaged ones at the end of a file are left out."""
    import av

    try:
        for packet in container.demux(stream):
            time = packet.dts if packet.pts is None else packet.pts
            if packet.size and time is not None:
                yield time
    except av.FFmpegError:
        return
