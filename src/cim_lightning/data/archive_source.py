"""The images of archives with an index, which `cim-prepare archives` writes."""

from collections import Counter
from pathlib import Path

from cim_lightning.data import archive_index
from cim_lightning.data.archive_index import ArchiveIndex
from cim_lightning.data.open_splits import NO_VAL
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.source import NoImages, Source, Splits
from cim_lightning.data.split_summary import summarize
from cim_lightning.data.tar_images import TarImages


def has_index(root: str) -> bool:
    """Return whether a folder of archives has an index."""
    return (Path(root).expanduser() / archive_index.FILE).is_file()


def indexed_splits(root: str, val: str | None, pixels: PixelFormat) -> Splits:
    """Return the images of archives, with the order, keys, labels and splits of their source.

    Args:
        root: folder of the archives and of their index.
        val: NO_VAL: no validation images; None: those of the index.
        pixels: format of the images.

    Raises:
        ConfigError: the index is damaged, or an archive is missing.
    """
    folder = Path(root).expanduser().absolute()
    index = archive_index.read(folder, root)
    paths = [str(folder / name) for name in index.archives]
    train = _images(index, "train", paths, pixels)
    unused: Counter[str] = Counter()
    if val == NO_VAL or "val" not in index.splits:
        if "val" in index.splits:
            unused["for validation"] = len(index.splits["val"].labels)
        return Splits(train, NoImages(), summarize(train, NoImages(), unused))
    images = _images(index, "val", paths, pixels)
    return Splits(train, images, summarize(train, images, unused), index.drawn)


def _images(index: ArchiveIndex, split: str, paths: list[str], pixels: PixelFormat) -> Source:
    files, places, labels, keys = index.splits[split]
    about = index.classes[split], pixels, index.unknown_classes[split]
    return TarImages(paths, files, places, labels, *about, keys)
