"""`cim-prepare`: its tasks, and `stats`: the mean and standard deviation of the training images."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from cim_lightning.cli.prepare import task_override
from cim_lightning.config import validate
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.errors import ConfigError
from tests.lookalikes import tiff_bytes


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run `cim-prepare` with the given arguments, in this process and an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(*arguments: str) -> None:
        from cim_lightning.cli.main import prepare

        monkeypatch.setattr(sys, "argv", ["cim-prepare", *arguments])
        prepare()

    return run


@pytest.fixture
def bands(tmp_path: Path) -> np.ndarray:
    """Training images "n h w c" of 16 bits and 5 bands below images/train, and a white validation image."""
    pixels = np.random.default_rng(0).integers(0, 50_000, (6, 16, 16, 5), np.uint16)
    pixels[0, :4, :4, 2], pixels[:, :, :, 4] = 65535, 7000
    for i, image in enumerate([*pixels, np.full_like(pixels[0], 65535)]):
        path = tmp_path / "images" / ("train" if i < 6 else "val") / f"{i}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tiff_bytes(image, photometric="minisblack", planarconfig="contig"))
    return pixels


STATS = ("stats", "data.root=images", "data.view_size=16", "data.batch_size=4", "data.num_workers=0")
FORMAT = ("data.channels=5", "data.bits=16", "output_dir=out")


@pytest.mark.user_input(
    "pixels",
    "`cim-prepare stats` of 16-bit TIFF with 5 bands",
    "mean and std of each channel, ready to paste",
)
def test_the_statistics_are_those_of_all_training_pixels(prepare, bands, tmp_path, capsys):
    prepare(*STATS, *FORMAT)
    found = json.loads((tmp_path / "out" / "stats.json").read_text())
    pixels = bands.reshape(-1, 5) / 65535
    np.testing.assert_allclose(found["mean"], pixels.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found["std"], pixels.std(axis=0), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found["highest"], pixels.max(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found["share_white"], [0, 0, 16 / 1536, 0, 0])
    assert (found["images"], found["channels"], found["bits"], found["view_size"]) == (6, 5, 16, 16)
    names = ("mean", "std", "lowest", "highest")
    out = capsys.readouterr().out
    assert "channel 5 has one value only" in out
    assert out.startswith("7 images without labels (6 for training from train, 1 for validation from val)")
    *rows, line = out.splitlines()
    assert rows[-3].split() == ["3", *(f"{found[name][2]:.4f}" for name in names), "0.00%", "1.04%"]
    overrides = dict(word.split("=", 1) for word in shlex.split(line))
    assert list(overrides) == ["data.channels", "data.bits", "backbone.mean", "backbone.std"]
    np.testing.assert_allclose(json.loads(overrides["backbone.mean"]), pixels.mean(axis=0), rtol=1e-3)


@pytest.mark.usefixtures("bands")
def test_a_limit_takes_random_images(prepare, tmp_path):
    prepare(*STATS, *FORMAT, "task.limit=2")
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["images"] == 2


def exit_line(capsys: pytest.CaptureFixture[str], run: Callable[[], None]) -> str:
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.usefixtures("bands")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            [],
            "cim-prepare: the first word must be a task: archives or stats; try cim-prepare stats",
        ),
        (["data.root=images"], "cim-prepare: the first word must be a task: archives or stats; try"),
        (["stat", "data.root=images"], "cim-prepare: task=stat: no such task; did you mean task=stats?"),
        (["stats"], "cim-prepare: data.root: has no default; set data.root=..."),
        ([*STATS, "task.limit=0"], "cim-prepare: task.limit=0: must be at least 1; try task.limit=1"),
        ([*STATS, "task.limit=few"], "cim-prepare: task.limit=few: must be int"),
        (
            [*STATS, "task.limt=2"],
            "cim-prepare: task.limt=2: no such setting or group; did you mean task.limit=2?",
        ),
        ([*STATS, "data.channels=4"], "cim-prepare: data.channels=4: '"),
        ([*STATS], "try data.channels=5"),
    ],
)
def test_a_wrong_command_is_one_line(arguments, expected, prepare, capsys):
    line = exit_line(capsys, lambda: prepare(*arguments))
    assert line.startswith(expected) or line.endswith(expected), line


def test_the_first_word_is_the_task():
    assert task_override(["stats", "data.root=a"]) == ["task=stats", "data.root=a"]
    assert task_override(["--help"]) == ["--help"]
    with pytest.raises(ConfigError, match="first word"):
        task_override([])


def test_gray_photos_and_measured_values_fit_a_backbone(prepare, tmp_path):
    """The values of the line are what a backbone needs: normalized images have mean 0 and deviation 1."""
    rng = np.random.default_rng(0)
    gray = rng.integers(20, 90, (4, 16, 16), np.uint8)
    for i, image in enumerate(gray):
        (tmp_path / "images" / "train").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / "train" / f"{i}.png")
    prepare(*STATS, "data.channels=1", "data.val=none", "output_dir=out")
    found = json.loads((tmp_path / "out" / "stats.json").read_text())
    normalized = (gray / 255 - found["mean"][0]) / found["std"][0]
    assert abs(normalized.mean()) < 1e-6
    assert abs(normalized.std() - 1) < 1e-6


@pytest.mark.parametrize("task", sorted(file.stem for file in (CONF / "task").glob("*.yaml")))
def test_every_task_is_valid(task):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        required = {"archives": ["task.folder=/archives"]}.get(task, [])
        cfg = compose("prepare", [f"task={task}", "data.root=/images", "output_dir=there", *required])
    validate.check(cfg, "prepare")
