"""Find the clips in a folder tree: video files, and folders of frames."""

import os
import re
from collections import defaultdict

import numpy as np

from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.find_images import base_folder, find_images
from cim_lightning.data.given_path import GivenPath
from cim_lightning.data.listing import Listing
from cim_lightning.data.pixel_format import PixelFormat
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
    found = find_images(GivenPath("root", root, root), {*SUFFIXES, *pixels.suffixes})
    base, skipped = base_folder(root), found.skipped
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
        raise ConfigError("root", root, "has no video and no folder of frames", hint=f"found: {hint}")
    names = sorted(clips)
    listing = Listing(FileIndex.from_names(base, names), skipped)
    return listing, {listing.files.path(i): clips[name] for i, name in enumerate(names)}


def _numbers(name: str) -> list[tuple[int, str]]:
    """Return a sort key that compares runs of digits as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]
