"""Images that the jobs of a process share."""

import csv
from functools import cached_property
from typing import Any

import pytest

from cim_lightning.cli import dataset_cache
from cim_lightning.data import sources


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were looked through, in order."""
    looked: list[str] = []
    scan = sources.scan

    def noted(source_kwargs: str) -> Any:
        looked.append(source_kwargs)
        return scan(source_kwargs)

    monkeypatch.setattr(sources, "scan", noted)
    return looked


def test_a_sweep_and_its_evaluations_look_for_images_once_and_another_run_does_anew(
    run_pretrain, tiny, photos, scans, tmp_path
):
    small = [*tiny, "trainer.max_steps=1", "callbacks.knn=null", "evaluation=[knn]"]
    run_pretrain("-m", *small, "cropping.rotation=0,45", "output_dir=sweep")
    assert scans == [str(photos)]
    with (tmp_path / "sweep" / "table.csv").open() as table:
        assert [bool(row["k-NN, %"]) for row in csv.DictReader(table)] == [True, True]
    run_pretrain(*small, "output_dir=run")
    assert scans == [str(photos)] * 2


class Data:
    """Opens its images when they are first asked for, and counts how often that was."""

    times = 0

    def __init__(self, **source_kwargs: Any):
        self.source_kwargs = source_kwargs

    @cached_property
    def splits(self) -> int:
        Data.times += 1
        return Data.times


def test_what_is_asked_for_in_other_words_is_opened_by_itself():
    dataset_cache.forget()
    source = {"source": {"val_fraction": 0.1}, "batch_size": 8}
    assert dataset_cache.shared(Data(root="a"), source) == 1
    again = Data(root="a")
    assert dataset_cache.shared(again, source | {"batch_size": 16}) == again.splits == 1
    assert dataset_cache.shared(Data(root="b"), source) == 2
    assert dataset_cache.shared(Data(root="b"), {"source": {"val_fraction": 0.2}}) == 3
    dataset_cache.forget()
    assert dataset_cache.shared(Data(root="b"), {"source": {"val_fraction": 0.2}}) == 4
    dataset_cache.forget()
