"""Clips of a textured square that moves over a textured background by a known step per frame."""

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


def write_video(path: Path, frames: np.ndarray, codec: str = "ffv1", rate: int = 25, gop: int = 6) -> None:
    """Write the frames to a video; ffv1 is without loss."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        stream.codec_context.gop_size = gop
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
