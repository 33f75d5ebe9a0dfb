"""`cim-prepare archives`: write the images of a data set once, reduced, into archives that train faster."""

import logging
import os
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cim_lightning.checks import check_at_least
from cim_lightning.cli import lock
from cim_lightning.config.machine import format_bytes
from cim_lightning.errors import ConfigError, format_value

if TYPE_CHECKING:  # it imports torch, which takes seconds
    from cim_lightning.data.archiving import Archiver

log = logging.getLogger("cim_lightning")
RESERVE = 1.05  # free space, as a multiple of the estimate


def archives(
    data: Any,
    output_dir: Path,
    folder: str,
    short_side: int | None = 256,
    format: str = "jpeg",
    quality: int = 90,
    subsampling: str = "4:4:4",
    images_per_archive: int = 10_000,
) -> None:
    """Write the images of a data set into tar archives with an index, for `data=webdataset`.

    The same command continues after a kill: finished archives stay. Images that cannot be decoded are left
    out, and listed in bad_files.csv. Nothing is written into the folder of the images.

    Args:
        data: an ImageData. Its workers encode.
        output_dir: of the log.
        folder: of the archives: a new folder, or that of an earlier run of the command.
        short_side: larger images are reduced to it, in pixels; None: all images keep their size.
        format: "jpeg"; or "raw": pixels that need no decoding.
        quality: of JPEG, 1..100.
        subsampling: of the colors of JPEG: "4:4:4" or "4:2:0".
        images_per_archive: at least 1.

    Raises:
        ConfigError: a setting is invalid, the folder has other files, or the disk is too small.
    """
    from tqdm import tqdm

    from cim_lightning.data.archive_folder import ArchiveFolder, identity
    from cim_lightning.data.archiving import SPLITS, Archiver
    from cim_lightning.data.pixel_format import RGB8
    from cim_lightning.data.stored_image import StoredFormat

    check_at_least("images_per_archive", images_per_archive, 1)
    stored = StoredFormat(data.pixels, short_side, format, quality, subsampling)
    path = Path(folder).expanduser().absolute()
    _check_source(data, path, folder)
    log.info("%s", data.splits.describe())
    settings = asdict(data.pixels)
    description = {
        "short_side": short_side,
        "format": format,
        **({"quality": quality, "subsampling": subsampling} if format == "jpeg" else {}),
        "images_per_archive": images_per_archive,
        **settings,
        **{f"{split}_images": identity(getattr(data.splits, split)) for split in SPLITS},
    }
    target = ArchiveFolder(path, description)
    archiver = Archiver(data.splits, target, stored, images_per_archive, data.loading)
    _announce(archiver, data.num_workers, folder)
    held = lock.acquire(path, "folder")
    try:
        target.open()
        data.bad_images.open(path / "bad_files.csv", keep=True)
        left = archiver.images_left()
        with tqdm(total=left, desc="archives", unit=" images", leave=False, disable=None) as bar:
            archiver.write(bar.update)
    finally:
        held.release()
    data.bad_images.log_count(len(data.splits.train) + len(data.splits.val))
    size = sum(file.stat().st_size for file in path.glob("*.tar"))
    log.info("%s of archives are complete, and were read back; to train with them:", format_bytes(size))
    pixels = {f"data.{name}": value for name, value in settings.items() if value != getattr(RGB8, name)}
    overrides = {"data.root": path, **pixels}
    shown = [f"{name}={format_value(value)}" for name, value in overrides.items()]
    print(shlex.join(["cim-pretrain", "data=webdataset", *shown]))


def _check_source(data: Any, path: Path, folder: str) -> None:
    """Check that the images can be archived, and that their folders would not change.

    Raises:
        ConfigError: the images are pairs of frames, or the archives would be inside a folder of images.
    """
    if pairs := data.source_kwargs.get("max_gap"):
        raise ConfigError("max_gap", pairs, "is for pairs of frames, which archives do not have", suggest=0)
    for root in _image_folders(data):
        if path.resolve().is_relative_to(root.resolve()):
            rule = f"is inside the folder of the images, {root}, which never changes"
            raise ConfigError("folder", folder, rule, hint="try a folder elsewhere")


def _image_folders(data: Any) -> list[Path]:
    """Return the folders that the settings of the source name, and those that have the images.

    The common folder of images in several places, such as those of a list, may have other folders, too.
    """
    from cim_lightning.data.file_index import FileIndex
    from cim_lightning.data.given_splits import ALL

    values = [
        part
        for value in data.source_kwargs.values()
        for part in (value if isinstance(value, list | tuple) else [value])
    ]
    paths = [os.path.expanduser(value) for value in values if isinstance(value, str) and value != ALL]
    found = [Path(path) for path in paths if os.path.isdir(path)]
    for source in data.splits[:2]:
        files = getattr(source, "files", None)
        if isinstance(files, FileIndex) and files.root:
            numbers, names = files.first_folders()
            found += [Path(files.root, name) for name in [*names, *([""] if (numbers < 0).any() else [])]]
    return found


def _announce(archiver: "Archiver", num_workers: int, folder: str) -> None:
    """Log what remains to be done, with an estimate of its time and size.

    Raises:
        ConfigError: the disk is too small.
    """
    left, total = archiver.images_left(), archiver.num_images()
    if left < total:
        log.info("%s of %s images are in finished archives", f"{total - left:,}", f"{total:,}")
    if not left:
        return
    from cim_lightning.doctor.resources import duration

    seconds, size = archiver.estimate()
    existing = next(path for path in (archiver.folder.path, *archiver.folder.path.parents) if path.exists())
    free, needed = shutil.disk_usage(existing).free, size * left
    if free < RESERVE * needed:
        rule = f"has {format_bytes(free)} free space, and the archives need about {format_bytes(needed)}"
        hint = "free some space, or try a smaller short_side or quality"
        raise ConfigError("folder", folder, rule, hint=hint)
    time = duration(seconds * left / max(num_workers, 1))
    processes = f"{max(num_workers, 1)} process{'es' * (num_workers > 1)}"
    log.info("writing %s images: about %s, %s with %s", f"{left:,}", format_bytes(needed), time, processes)
