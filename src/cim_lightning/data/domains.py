"""Several domains of the same classes: one folder of class folders for each."""

import difflib
from functools import partial
from pathlib import Path

from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.sources import folder
from cim_lightning.errors import SettingError

SETTING = "evaluation.domain_shift.domains.root"


def domains(
    root: str, view_size: int, batch_size: int, num_workers: int, val_fraction: float, seed: int
) -> dict[str, ImageData]:
    """Images by domain, of `root/<domain>/<class>/...`, as PACS is laid out.

    Raises SettingError where there is no such folder, fewer than two in it, or a domain that has other
    classes than the first.
    """
    where = Path(root).expanduser()
    names = (
        sorted(p.name for p in where.iterdir() if p.is_dir() and p.name[0] != ".") if where.is_dir() else []
    )
    if len(names) < 2:
        raise SettingError(
            f"{SETTING}={root}: holds {len(names)} domain folders, not two or more; "
            "nearest: a folder laid out as <domain>/<class>/<image>"
        )
    found = {
        name: ImageData(
            partial(folder, str(where / name), val_fraction, seed),
            _whole,
            batch_size,
            num_workers,
            view_size,
            (1, 1),
            (1, 1),
            0,
            seed,
        )
        for name in names
    }
    first = found[names[0]].splits.train.classes or []
    for name, images in found.items():
        classes = images.splits.train.classes or []
        for one in set(first) ^ set(classes):
            nearest = (difflib.get_close_matches(one, first, 1, cutoff=0) or ["none"])[0]
            raise SettingError(
                f"{SETTING}={root}: {names[0]} and {name} do not both have the class {one!r}; "
                f"nearest: {nearest!r}"
            )
    return found


def _whole(views: object, seed: int) -> object:
    """These images are looked at whole, so nothing is cropped out of them."""
    return views
