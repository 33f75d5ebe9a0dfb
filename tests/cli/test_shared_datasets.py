"""Images that the jobs of one process share."""

import csv
from functools import cached_property
from typing import Any

import pytest

from cim_lightning.cli.shared_datasets import SharedDatasets
from cim_lightning.data import find_images


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were scanned, in order."""
    scanned: list[str] = []
    scan = find_images.scan

    def recording_scan(root: str, *args: Any) -> Any:
        scanned.append(root)
        return scan(root, *args)

    monkeypatch.setattr(find_images, "scan", recording_scan)
    return scanned


def test_a_sweep_scans_the_images_once_and_a_later_run_scans_them_again(
    run_pretrain, tiny, photos, scans, tmp_path
):
    small = [*tiny, "trainer.max_steps=1", "callbacks.knn=null", "evaluation=[knn]"]
    run_pretrain("-m", *small, "cropping.rotation=0,45", "output_dir=sweep")
    assert scans == [str(photos)]
    with (tmp_path / "sweep" / "table.csv").open() as table:
        assert [bool(row["k-NN, mean, k = 20, %"]) for row in csv.DictReader(table)] == [True, True]
    run_pretrain(*small, "output_dir=run")
    assert scans == [str(photos)] * 2


class Data:
    """Opens its images on first use, and counts how often."""

    opened = 0

    def __init__(self, **source_kwargs: Any):
        self.source_kwargs = source_kwargs

    @cached_property
    def splits(self) -> int:
        Data.opened += 1
        return Data.opened


def test_images_are_shared_by_source_and_its_arguments_alone():
    cache = SharedDatasets()
    source = {"source": {"val_fraction": 0.1}, "batch_size": 8}
    assert cache.open(Data(root="a"), source) == 1
    again = Data(root="a")
    assert cache.open(again, source | {"batch_size": 16}) == again.splits == 1
    assert cache.open(Data(root="b"), source) == 2
    assert cache.open(Data(root="b"), {"source": {"val_fraction": 0.2}}) == 3
    cache.clear()
    assert cache.open(Data(root="b"), {"source": {"val_fraction": 0.2}}) == 4
