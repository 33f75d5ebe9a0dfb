"""Every command in folders whose names have all special characters of shells, YAML and Hydra's grammar."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cim_lightning.cli import main

NAME = '1 (a), ü=b [c] {d} it\'s "e" $f #g; h\\i'


@pytest.mark.user_input(
    "path",
    "all special characters in `data.root`, `output_dir`, `checkpoint` and the folder of a report",
    "training, resume, evaluation, export and report work",
)
def test_all_commands_work_in_a_folder_with_special_characters(
    run_pretrain: Callable[..., None],
    tiny: list[str],
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    shutil.copytree(photos, tmp_path / NAME)
    run = f"run {NAME}"
    small = [
        *tiny,
        f"data.root={NAME}",
        f"output_dir={run}",
        "trainer.limit_val_batches=1",
        "callbacks.knn=null",
    ]
    run_pretrain(*small, "trainer.max_steps=1")
    run_pretrain(*small, "trainer.max_steps=2")
    assert f"resuming {tmp_path}/{run}/checkpoints/last.ckpt at step 1" in capfd.readouterr().out
    for command, *arguments in (
        ("evaluate", f"checkpoint={run}", "evaluation=knn", "evaluation.knn.ks=[1]", "trainer=cpu"),
        ("export", f"checkpoint={run}/checkpoints/last.ckpt", f"output_dir=exported {NAME}"),
        ("report", run),
    ):
        monkeypatch.setattr(sys, "argv", [f"cim-{command}", *arguments])
        getattr(main, command)()
    assert json.loads((tmp_path / run / "evaluation" / "metrics.json").read_text())["train_images"] == 43
    assert (tmp_path / f"exported {NAME}" / "backbone.safetensors").exists()
    assert (tmp_path / run / "report.html").exists()


@pytest.mark.user_input("path", "an `output_dir` that is a file", "one line: try another output_dir")
def test_an_output_folder_that_is_a_file_gets_one_line(run_pretrain, tiny, tmp_path, capfd):
    (tmp_path / "run (1)").touch()
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*tiny, "output_dir=run (1)")
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert (
        line == 'cim-pretrain: output_dir="run (1)": cannot be written (File exists); try another output_dir'
    )
