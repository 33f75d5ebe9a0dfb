"""Splits by the parameters `train` and `val` of the folder source."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from cim_lightning.data.class_labels import exclude, merge, without
from cim_lightning.data.find_images import base_folder, exists, find_images
from cim_lightning.data.given_path import GivenPath
from cim_lightning.data.listing import Listing
from cim_lightning.data.named_splits import Files, NamedSplits, descend, split_by_name
from cim_lightning.data.scan import scan
from cim_lightning.data.split_names import find_train, find_val

ALL = "."  # value of `train`: all images of root


def given_splits(
    roots: Sequence[GivenPath],
    train: Sequence[GivenPath] | None,
    val: Sequence[GivenPath] | None,
    suffixes: Collection[str],
) -> NamedSplits:
    """Return the splits where `train`, `val` or both are given; see folder.

    Args:
        train: paths, or ALL; None: found by name, or all images.
        val: paths; none for no validation images; None: found by name, unless `train` is ALL.

    Raises:
        ConfigError: a path does not exist or has no image.
    """
    bases = [base_folder(root.path) for root in roots]
    everything = train is None or [given.path for given in train] == [ALL]
    chosen = roots if train is None or everything else [_resolved(given, bases) for given in train]
    train_listings = [find_images(given, suffixes) for given in chosen]
    if val is None and not everything:
        val_listings = _val_folders(bases, train_listings, suffixes)
    else:
        val_listings = {given.path: find_images(_resolved(given, bases), suffixes) for given in val or ()}
    paths = {path for listing in val_listings.values() for path in _paths(listing)}
    skipped: Counter[str] = Counter()
    for listing in [*train_listings, *val_listings.values()]:
        skipped.update(listing.skipped)
    files: list[Files] = []
    for given, found in zip(chosen, train_listings, strict=True):
        listing = _without(found, paths)
        if train is None:
            named = split_by_name(listing, given)
            files += named.train
            skipped.update(named.skipped)
            skipped.update({f"in {named.val_name}": sum(map(len, named.val))})
        else:
            files.append(_part(listing, find_train, whole=everything))
    val_files = [_part(listing, find_val) for listing in val_listings.values()]
    names = ", ".join(given.path for given in train or ()), ", ".join(val_listings)
    return NamedSplits(files, val_files, *names, skipped=+skipped)


def _resolved(given: GivenPath, bases: Sequence[str]) -> GivenPath:
    """Return a path relative to the first base folder that has it, or else to the working directory.

    If neither has it, return the path in the first base folder, which errors then name.
    """
    expanded = os.path.expanduser(given.path)
    candidates = [*(os.path.join(base, expanded) for base in bases), expanded]
    return replace(given, path=next((path for path in candidates if exists(path)), candidates[0]))


def _val_folders(
    bases: Sequence[str], train: Iterable[Listing], suffixes: Collection[str]
) -> dict[str, Listing]:
    """Return the images of the validation folder in each base, if it has one that is not for training."""
    used = {os.path.realpath(listing.files.root) for listing in train}
    found = {}
    for base in bases:
        folders = {entry.name: entry.path for entry in os.scandir(base) if entry.is_dir()}
        unused = [name for name, path in folders.items() if os.path.realpath(path) not in used]
        if name := find_val(unused):
            listing = scan(folders[name], suffixes)
            if len(listing.files):
                found[name] = Listing(*listing)
    return found


def _without(listing: Listing, paths: Collection[str]) -> Listing:
    """Return a listing without the files at `paths`."""
    if not paths:
        return listing
    table = listing.table and {name: without(part, paths) for name, part in listing.table.items()}
    return listing._replace(files=exclude(listing.files, paths), table=table)


def _part(listing: Listing, find: Callable[[Iterable[str]], str | None], whole: bool = False) -> Files:
    """Return the rows of a list that have the split `find`, or all of its rows; the files of a folder."""
    if listing.table is None:
        return listing.files if whole else descend(listing.files)[0]
    split = None if whole else find(listing.table)
    return listing.table[split] if split else merge([*listing.table.values()])


def _paths(listing: Listing) -> Iterable[str]:
    return (listing.files.path(i) for i in range(len(listing.files)))
