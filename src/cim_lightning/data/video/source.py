"""The video source: frames of videos, split by clip."""

from cim_lightning.checks import check_at_least
from cim_lightning.data.files import check_path
from cim_lightning.data.given_path import GivenPath
from cim_lightning.data.image_files import ImageFiles
from cim_lightning.data.named_splits import split_by_name
from cim_lightning.data.open_splits import NO_VAL, normalize_val, open_splits
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.source import NoImages, Splits
from cim_lightning.data.video.find_clips import find_clips
from cim_lightning.data.video.frame_pairs import FramePairs
from cim_lightning.errors import ConfigError


def video(
    root: str,
    frame_stride: int,
    max_gap: int,
    val_fraction: float,
    seed: int,
    pixels: PixelFormat,
    val: str | None = None,
) -> Splits:
    """Frames of the video files and the folders of frames in a folder tree.

    All frames of a clip are in the same split. Splits and classes are those of the folder source, with clips
    in place of images: `train/walking/video_1.mp4`, or `train/walking/clip_1/0001.jpg`.

    Args:
        root: the folder, with `~` expanded.
        frame_stride: an image is every frame of this number, from the first frame of each clip.
        max_gap: largest distance of the frames of a training pair, in frames. The context is cropped from the
            first, and the exemplars from the second. 0: both are the same frame, as for images.
        val_fraction: share of the validation clips, above 0 and below 1.
        seed: of the random split.
        pixels: format of the frames.
        val: "none": no validation clips; None: found by name, or drawn at random.

    Raises:
        ConfigError: the folder has too few clips, or a parameter is out of range.
    """
    check_at_least("frame_stride", frame_stride, 1)
    check_at_least("max_gap", max_gap, 0)
    check_path(root)  # commands run this before they import torch
    val = normalize_val(val)
    if val not in (None, NO_VAL):
        hint = "try val=none, or folders train/ and val/ below root"
        raise ConfigError("val", val, "must be none or null", hint=hint)
    listing, clips = find_clips(root, pixels)
    named = split_by_name(listing, GivenPath("root", root, root))
    if len(clips) == 1 and val is None:
        rule = "has one clip; a training and a validation split need two"
        raise ConfigError("root", root, rule, hint="divide the video, or try val=none")
    named = named._replace(skipped=listing.skipped + named.skipped)
    splits = open_splits(named, root, val, val_fraction, seed, pixels)
    train, held_out = (
        FramePairs(part, [clips[part.path(i)] for i in range(len(part))], frame_stride, gap)
        if isinstance(part, ImageFiles)
        else NoImages()
        for part, gap in zip(splits[:2], (max_gap, 0), strict=True)
    )
    frames = f"{len(train):,} training and {len(held_out):,} validation frames, {frame_stride} apart,"
    summary = f"{frames} of {splits.summary.replace(' images ', ' clips ')}"
    return Splits(train, held_out, summary, splits.drawn)
