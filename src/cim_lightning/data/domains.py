"""Several folders of class folders, looked at side by side: domains, corruptions, variants of a test set."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.files import labeled
from cim_lightning.data.sources import Splits, folder
from cim_lightning.errors import ConfigError

SETTING = "evaluation.domain_shift.domains.root"
VARIANTS = "evaluation.variants.folders"
CORRUPTED = "evaluation.imagenet_c.folders"
SEVERITIES = (1, 2, 3, 4, 5)


def domains(
    root: str, view_size: int, batch_size: int, num_workers: int, val_fraction: float, seed: int
) -> dict[str, ImageData]:
    """Images by domain, of `root/<domain>/<class>/...`, as PACS is laid out.

    Raises ConfigError where there is no such folder, fewer than two in it, or a domain that has other
    classes than the first.
    """
    where = Path(root).expanduser()
    names = (
        sorted(p.name for p in where.iterdir() if p.is_dir() and p.name[0] != ".") if where.is_dir() else []
    )
    if len(names) < 2:
        raise ConfigError(
            f"{SETTING}={root}: holds {len(names)} domain folders, not two or more; "
            "try a folder laid out as <domain>/<class>/<image>"
        )
    found = {
        name: _images(
            partial(folder, str(where / name), val_fraction, seed), view_size, batch_size, num_workers
        )
        for name in names
    }
    first = found[names[0]].splits.train.classes or []
    for name, images in found.items():
        classes = images.splits.train.classes or []
        for one in set(first) ^ set(classes):
            nearest = (difflib.get_close_matches(one, first, 1, cutoff=0) or ["none"])[0]
            raise ConfigError(
                f"{SETTING}={root}: {names[0]} and {name} do not both have the class {one!r}; try {nearest!r}"
            )
    return found


def named(
    roots: Mapping[str, str], view_size: int, batch_size: int, num_workers: int
) -> dict[str, ImageData]:
    """All images of each folder, as "val" of the name that it is given.

    Raises ConfigError where there is no folder, or one of them has no class folders.
    """
    if not roots:
        raise ConfigError(
            f"{VARIANTS}.roots={{}}: no folder; try {VARIANTS}.roots={{imagenet_a: /my/imagenet-a}}"
        )
    return {
        name: _images(
            partial(Splits, *_whole_folder(root, f"{VARIANTS}.roots.{name}")),
            view_size,
            batch_size,
            num_workers,
        )
        for name, root in roots.items()
    }


def corrupted(
    root: str, corruptions: Sequence[str], view_size: int, batch_size: int, num_workers: int
) -> dict[tuple[str, int], ImageData]:
    """Images by corruption and severity, of `root/<corruption>/<1 to 5>/<class>/...`, as ImageNet-C's.

    They are listed when they are first looked at: there are millions. Raises ConfigError where a folder of
    them is not there.
    """
    folders = {(name, s): Path(root).expanduser() / name / str(s) for name in corruptions for s in SEVERITIES}
    for (name, severity), path in folders.items():
        if not path.is_dir():
            raise ConfigError(
                f"{CORRUPTED}.root={root}: has no folder {name}/{severity}; try a folder laid out as "
                "<corruption>/<severity>/<class>/<image>, or evaluation.imagenet_c.corruptions=[those there]"
            )
    return {
        key: _images(
            partial(_whole_folder, str(path), f"{CORRUPTED}.root"), view_size, batch_size, num_workers
        )
        for key, path in folders.items()
    }


def _whole_folder(root: str, setting: str) -> Splits:
    files = labeled(root, setting)
    return Splits(files, files)


def _images(source: Callable[[], Splits], view_size: int, batch_size: int, num_workers: int) -> ImageData:
    return ImageData(source, _whole, batch_size, num_workers, view_size, (1, 1), (1, 1), 0, seed=0)


def _whole(views: object, seed: int) -> object:
    """These images are looked at whole, so nothing is cropped out of them."""
    return views
