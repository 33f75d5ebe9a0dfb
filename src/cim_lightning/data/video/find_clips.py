"""Find the clips in a folder tree: video files, and folders of frames."""

import os
import re
from collections import defaultdict

import numpy as np

from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.files import existing_folder
from cim_lightning.data.listing import Listing
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.scan import scan
from cim_lightning.data.video.clip import Clip, FrameFolder
from cim_lightning.data.video.video_file import SUFFIXES, VideoFile
from cim_lightning.errors import BadImageError, ConfigError


def find_clips(root: str, pixels: PixelFormat) -> tuple[Listing, dict[str, Clip]]:
    """Return the clips below a folder as a listing of their names, and by path.

    Every folder that has images is a clip. Its frames are in the order of the numbers in their names, so
    `frame_10.png` follows `frame_9.png`. Videos that cannot be opened, and single images, are skipped.

    Raises:
        ConfigError: the folder does not exist, or has no clip.
    """
    base = existing_folder(root)
    found = scan(base, {*SUFFIXES, *pixels.suffixes})
    skipped = found.skipped
    clips: dict[str, Clip] = {}
    frames: dict[str, list[int]] = defaultdict(list)
    for index in range(len(found.files)):
        name = found.files.name(index)
        if not name.lower().endswith(SUFFIXES):
            frames[os.path.dirname(name) or "."].append(index)
            continue
        try:
            clips[name] = VideoFile.open(found.files.path(index), pixels)
        except BadImageError:
            skipped["videos that cannot be opened"] += 1
    for folder, indices in frames.items():
        if len(indices) < 2:
            skipped["single images"] += 1
            continue
        ordered = sorted(indices, key=lambda index: _numbers(os.path.basename(found.files.name(index))))
        clips[folder] = FrameFolder(found.files.take(np.array(ordered)), pixels)
    if not clips:
        hint = ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common())
        hint = f"found: {hint or 'nothing'}"
        raise ConfigError("root", root, "has no video and no folder of frames", hint=hint)
    names = sorted(clips)
    listing = Listing(FileIndex.from_names(base, names), skipped)
    return listing, {listing.files.path(i): clips[name] for i, name in enumerate(names)}


def _numbers(name: str) -> list[tuple[int, str]]:
    """Return a sort key that compares runs of digits as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]
