"""Find the image files of a folder, a list or a glob."""

import glob
import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from cim_lightning.data.array_files import ARRAY_SUFFIXES, NPY
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.file_list import read_list
from cim_lightning.data.given_path import GivenPath
from cim_lightning.data.image_formats import decodable_suffixes
from cim_lightning.data.list_rows import LIST_SUFFIXES
from cim_lightning.data.listing import Listing
from cim_lightning.data.scan import scan
from cim_lightning.data.video.video_file import SUFFIXES as VIDEO_SUFFIXES

# What to do with files that hold images, but are none.
CONTAINERS = {
    "try data=webdataset": (".tar",),
    "try data=hf": (".parquet", ".arrow"),
    "extract the archives first": (".zip", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"),
    "write its images to files, or to NPY arrays, first": (
        ".h5",
        ".hdf5",
        ".npz",
        ".mat",
        ".tfrecord",
        ".lmdb",
    ),
    "try data=video": VIDEO_SUFFIXES,
}


def find_images(given: GivenPath, suffixes: Collection[str]) -> Listing:
    """List the images of a folder, of a list file, or of a glob such as "/data/*/images/**/*.png".

    Args:
        given: `~` is expanded. A path that exists is no glob.
        suffixes: of images.

    Raises:
        ConfigError: the path does not exist, or has no image.
    """
    path = os.path.abspath(os.path.expanduser(given.path))
    if os.path.isfile(path):
        if path.lower().endswith(LIST_SUFFIXES):
            return read_list(path, given, suffixes)
        rule = f"is a file, must be a folder or a list ({', '.join(LIST_SUFFIXES)})"
        raise given.error(rule, _advice(path) or f"try {given.parameter}={os.path.dirname(path)}")
    if glob.has_magic(path) and not os.path.exists(path):
        if not exists(path):
            folder = next(folder for folder in Path(path).parents if folder.exists())
            raise given.error("matches no file or folder", f"the path exists up to {folder}")
        listing = _list_glob(path, suffixes)
    else:
        found = scan(given.existing_folder(), suffixes)
        listing = Listing(found.files, found.skipped)
    if not len(listing.files):
        raise given.error(
            f"has no image ({', '.join(suffixes)})", describe_skipped(listing.skipped, suffixes)
        )
    return listing


def exists(path: str) -> bool:
    """Return whether there is a file or folder at a path, or one that matches it as a glob."""
    return os.path.exists(path) or (
        glob.has_magic(path) and next(glob.iglob(path, recursive=True), None) is not None
    )


def base_folder(path: str) -> str:
    """Return the folder to which `train` and `val` are relative: the root, or the folder of a list."""
    expanded = os.path.abspath(os.path.expanduser(path))
    if os.path.isfile(expanded):
        return os.path.dirname(expanded)
    while glob.has_magic(expanded) and not os.path.exists(expanded):
        expanded = os.path.dirname(expanded)
    return expanded


def _list_glob(pattern: str, suffixes: Collection[str]) -> Listing:
    """List the files that match a pattern. If only folders match, list the images in these folders."""
    base = base_folder(pattern)
    matches = [os.path.relpath(match, base) for match in glob.iglob(pattern, recursive=True)]
    files = [match for match in matches if os.path.isfile(os.path.join(base, match))]
    skipped: Counter[str] = Counter()
    if files:
        names = {name for name in files if name.lower().endswith(tuple(suffixes))}
        skipped.update(
            os.path.splitext(name)[1].lower() or "no suffix" for name in files if name not in names
        )
    else:
        names = set()
        for folder in matches:
            found = scan(os.path.join(base, folder), suffixes)
            names.update(f"{folder}/{found.files.name(i)}" for i in range(len(found.files)))
            skipped += found.skipped
    return Listing(FileIndex.from_names(base, sorted(names)), skipped)


def describe_skipped(skipped: Counter[str], suffixes: Collection[str]) -> str:
    """Return what was found instead of images, and how to read it, as the hint of an error.

    Args:
        skipped: number of files by reason, such as ".tar".
        suffixes: of images.
    """
    found = ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common(5)) or "nothing"
    advice = next(filter(None, map(_advice, skipped)), "")
    arrays = [reason for reason in skipped if reason in ARRAY_SUFFIXES]
    images = [reason for reason in skipped if reason in decodable_suffixes()]
    if not advice and arrays:
        reads_arrays = NPY in suffixes
        advice = "pip install 'cim-lightning[scientific]'" if reads_arrays else "try channels=1 bits=16"
        advice += f" to read {arrays[0]} files"
    elif not advice and images:
        advice = f"try channels=3 to read {images[0]} files"
    return f"found: {found}{'; ' if advice else ''}{advice}"


def _advice(name: str) -> str:
    """Return what to do with a file that holds images, but is none; "" for other files."""
    return next((advice for advice, suffixes in CONTAINERS.items() if name.lower().endswith(suffixes)), "")
