"""The callback that lists the images that cannot be decoded in the folder of a run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest

from cim_lightning.callbacks.bad_files import BadFiles
from cim_lightning.data.bad_images import BadImages


def trainer(images: Any, checkpoint: str | None = None, rank: int = 0) -> Any:
    data = SimpleNamespace(splits=(range(5), range(2), ""), **({"bad_images": images} if images else {}))
    mock: Any = MagicMock(spec=L.Trainer, ckpt_path=checkpoint, is_global_zero=rank == 0)
    mock.datamodule = data
    return mock


def names(folder: Path) -> list[str]:
    return [line.partition(",")[0] for line in (folder / "bad_files.csv").read_text().splitlines()[1:]]


def run(folder: Path, *found: str, checkpoint: str | None = None) -> BadImages:
    """A run that validates before training, unless it is resumed, and finds bad images in both parts."""
    images, callback = BadImages(), BadFiles(str(folder))
    images.add("first", "found before the folder of the run was known")
    stages = ["fit"] if checkpoint else ["validate", "fit"]
    for stage, *names in zip(stages, found, strict=True):
        callback.setup(trainer(images, checkpoint), None, stage)
        for name in names:
            images.add(name, "truncated")
    callback.on_fit_end(trainer(images), None)
    return images


@pytest.mark.fault(
    "process", "a run with damaged images is resumed", "`bad_files.csv` goes on, without doubles"
)
def test_a_resumed_run_adds_to_the_file_and_a_new_one_starts_it(tmp_path, caplog):
    run(tmp_path, "a", "b")
    assert names(tmp_path) == ["first", "a", "b"]
    run(tmp_path, "b", checkpoint="last.ckpt")
    run(tmp_path, "c", checkpoint="last.ckpt")
    assert names(tmp_path) == ["first", "a", "b", "c"]
    assert caplog.messages[-1] == f"4 of 7 images could not be decoded: {tmp_path}/bad_files.csv"
    run(tmp_path, "d", "e")
    assert names(tmp_path) == ["first", "d", "e"]


def test_the_other_processes_keep_the_rows_of_the_first(tmp_path):
    first, second, callback = BadImages(), BadImages(), BadFiles(str(tmp_path))
    callback.setup(trainer(first), None, "validate")
    first.add("a", "truncated")
    callback.setup(trainer(second, rank=1), None, "validate")
    second.add("b", "truncated")
    callback.on_fit_end(trainer(second, rank=1), None)
    assert names(tmp_path) == ["a", "b"]


def test_other_data_loaders_and_runs_without_bad_images_have_no_file(tmp_path, caplog):
    callback = BadFiles(str(tmp_path))
    for images in (None, BadImages()):
        callback.setup(trainer(images), None, "fit")
        callback.on_fit_end(trainer(images), None)
    assert (list(tmp_path.iterdir()), caplog.messages) == ([], [])
