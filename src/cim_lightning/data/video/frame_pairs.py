"""A Source of frames, and of pairs of frames that are close in time."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from cim_lightning.data.image_files import ImageFiles
from cim_lightning.data.pixel_format import Pixels
from cim_lightning.data.video.clip import Clip
from cim_lightning.errors import BadImageError


class FramePairs:
    """Frames of clips, `frame_stride` apart, as a Source. `sample` adds a second frame of the same clip.

    Args:
        files: names and labels of the clips.
        clips: in the same order.
        frame_stride: frames between two images of a clip.
        max_gap: largest distance of the two frames of a pair, in frames; 0: no pairs.
    """

    def __init__(self, files: ImageFiles, clips: Sequence[Clip], frame_stride: int, max_gap: int):
        self.files, self.clips = files, list(clips)
        self.max_gap, self.classes = max_gap, files.classes
        counts = [-(-clip.num_frames // frame_stride) for clip in clips]
        self._clip = np.repeat(np.arange(len(clips), dtype=np.int32), counts)
        starts = np.cumsum([0, *counts[:-1]])
        self._frame = ((np.arange(len(self._clip)) - starts[self._clip]) * frame_stride).astype(np.int32)
        self.labels = files.labels[self._clip]
        self.keys = files.keys[self._clip] + self._frame.astype(np.uint64)
        self.unknown_classes = files.unknown_classes
        text = repr((files.fingerprint, frame_stride, max_gap, [clip.num_frames for clip in clips]))
        self.fingerprint = blake2b(text.encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self._clip)

    def path(self, index: int) -> str:
        """Return the path of the clip of a frame."""
        return self.files.path(int(self._clip[index]))

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        (image,) = self._read(index, [0])
        return image, int(self.labels[index])

    def sample(self, index: int, rng: np.random.Generator) -> tuple[Pixels, int]:
        """Return a pair as an array "h w (2 c)": the frame of `index`, and one at most `max_gap` away.

        The distance is uniform over the frames that the clip has, and may be 0. Without pairs, return the
        frame alone.
        """
        if not self.max_gap:
            return self[index]
        clip, frame = self.clips[self._clip[index]], int(self._frame[index])
        low, high = max(frame - self.max_gap, 0), min(frame + self.max_gap, clip.num_frames - 1)
        gap = int(rng.integers(low, high, endpoint=True)) - frame
        first, second = map(np.asarray, self._read(index, [0, gap]))
        if first.shape != second.shape:
            rule = f"frames {frame} and {frame + gap} have different sizes"
            raise BadImageError(rule, repr(self.path(index)))
        return np.concatenate((first, second), axis=2), int(self.labels[index])

    def _read(self, index: int, gaps: Sequence[int]) -> list[Pixels]:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        frame = int(self._frame[index])
        return self.clips[self._clip[index]].read([frame + gap for gap in gaps])
