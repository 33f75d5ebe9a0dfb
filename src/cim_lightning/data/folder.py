"""The folder source: images in folders or lists, split by names or at random."""

import itertools
import os
from collections import Counter
from collections.abc import Sequence

from cim_lightning.checks import check_at_least, check_share
from cim_lightning.data.files import check_path
from cim_lightning.data.find_images import find_images
from cim_lightning.data.given_path import GivenPath
from cim_lightning.data.given_splits import given_splits
from cim_lightning.data.named_splits import NamedSplits, split_by_name
from cim_lightning.data.open_splits import NO_VAL, normalize_val, open_splits
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.source import Splits
from cim_lightning.errors import ConfigError, format_value

RANDOM = "random"  # value of `val`: part of the training images, even if others are named for validation


def folder(
    root: str | Sequence[str],
    val_fraction: float,
    seed: int,
    pixels: PixelFormat,
    train: str | Sequence[str] | None = None,
    val: str | Sequence[str] | None = None,
) -> Splits:
    """Images in folder trees, at any depth, or in lists of files.

    Splits: folders such as `train` and `validation` (see split_names), or the column "split" of a list.
    Otherwise, the validation images are drawn at random from all images.

    Labels: the first-level folders below root, or below the training folder, are the classes, or the column
    "label" of a list. With fewer than two classes there are no labels. Validation images of a class that the
    training images lack have no label.

    Args:
        root: a folder, a list (see file_list), a glob, or several of them. `~` is expanded.
        val_fraction: share of the validation images, above 0 and below 1; each split has at least one image.
        seed: of the random split.
        pixels: format of the images.
        train, val: of the same kinds as root, and relative to it or to the working directory; null: found by
            name. `train=.` uses all images, and `val=none` no validation images. `val=random` draws the
            validation images from the training images, even if others are named for validation: those are
            left out, so that a search can be measured without them. Validation images are left out of the
            training images.

    Raises:
        ConfigError: a path does not exist or has too few images; or folders look like splits, but have other
            names.
    """
    check_share("val_fraction", val_fraction, zero=False, one=False)
    check_at_least("seed", seed, 0)
    if isinstance(root, str):
        check_path(root)  # commands run this before they import torch
    val = normalize_val(val)
    roots = _paths("root", root) or []
    _check_disjoint(roots)
    if train is None and val in (None, NO_VAL, RANDOM):
        named = _by_name(roots, pixels)
    else:
        named = given_splits(roots, _paths("train", train), _paths("val", val), pixels.suffixes)
    if val == RANDOM and named.val:
        unused = Counter({f"in {named.val_name}": sum(map(len, named.val))})
        named = named._replace(val=[], val_name="", skipped=named.skipped + unused)
    return open_splits(named, root, val, val_fraction, seed, pixels)


def _paths(parameter: str, value: str | Sequence[str] | None) -> list[GivenPath] | None:
    """Return the paths of a parameter: None if it is not given, none for NO_VAL and RANDOM."""
    if value is None:
        return None
    if parameter == "val" and value in (NO_VAL, RANDOM):
        return []
    paths = [value] if isinstance(value, str) else [str(path) for path in value]
    if not paths or "" in paths:  # "" would be the working directory
        raise ConfigError(
            parameter, value, "has an empty path" if paths else "has no path", hint="name a folder"
        )
    return [GivenPath(parameter, value, path) for path in paths]


def _by_name(roots: Sequence[GivenPath], pixels: PixelFormat) -> NamedSplits:
    """Return the splits of all roots. If some have validation images, the others are for training only."""
    found = []
    for root in roots:
        listing = find_images(root, pixels.suffixes)
        named = split_by_name(listing, root)
        found.append(named._replace(skipped=listing.skipped + named.skipped))
    if len(found) == 1:
        return found[0]
    train = [files for named in found for files in named.train]
    val = [files for named in found for files in named.val]
    return NamedSplits(train, val, skipped=sum((named.skipped for named in found), Counter()))


def _check_disjoint(roots: Sequence[GivenPath]) -> None:
    """Require roots that do not contain each other, whose images would be there twice."""
    paths = [root.path for root in roots]
    real = [os.path.realpath(os.path.expanduser(path)) for path in paths]
    for outer, inner in itertools.permutations(range(len(paths)), 2):
        if f"{real[inner]}/".startswith(f"{real[outer]}/"):
            rule = f"the images of {paths[inner]} are in {paths[outer]}, too"
            hint = f"try root={format_value([*paths[:inner], *paths[inner + 1 :]])}"
            raise ConfigError("root", paths, rule, hint=hint)
