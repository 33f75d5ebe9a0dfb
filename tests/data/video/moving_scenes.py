"""Clips of a textured square that moves over a textured background by a known step per frame."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, SQUARE = 48, 16  # pixels


def scene(seed: int, num_frames: int, step: int = 2) -> np.ndarray:
    """Return frames "t h w 3"; the square is at (left, top) = (step * t, 16)."""
    rng = np.random.default_rng(seed)
    background = np.kron(rng.integers(0, 128, (SIDE // 4, SIDE // 4, 3)), np.ones((4, 4, 1)))
    square = np.kron(rng.integers(128, 256, (SQUARE // 4, SQUARE // 4, 3)), np.ones((4, 4, 1)))
    frames = np.repeat(background[None], num_frames, axis=0).astype(np.uint8)
    for t, frame in enumerate(frames):
        frame[16 : 16 + SQUARE, step * t : step * t + SQUARE] = square
    return frames


def write_frames(folder: Path, frames: np.ndarray, suffix: str = ".png") -> None:
    """Write the frames to images whose names have numbers without leading zeros."""
    folder.mkdir(parents=True)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame_{t}{suffix}")


def write_video(
    path: Path,
    frames: np.ndarray,
    codec: str = "ffv1",
    times: Sequence[int] | None = None,
    b_frames: int = 0,
    **options: str,
) -> None:
    """Write the frames to a video; ffv1 is without loss.

    Args:
        times: of the frames in ms, with a frame rate of 1000 in the header; None: 25 frames per second.
        options: of the container.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25 if times is None else 1000)
        stream.codec_context.max_b_frames = b_frames
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        stream.codec_context.gop_size = 6
        for t, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[t], Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
