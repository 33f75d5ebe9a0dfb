"""Runs on images other than RGB, and their evaluation: settings that follow, and those that do not fit."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cim_lightning.api import compose, load_backbone
from cim_lightning.errors import ConfigError

SMALL = ["evaluation=knn", "trainer=cpu", "data.num_workers=0"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Folders of 16-bit gray, RGBA and RGB images of two classes."""
    root, rng = tmp_path_factory.mktemp("channels"), np.random.default_rng(0)
    for i in range(20):
        for name, shape, dtype in (
            ("gray", (36, 40), np.uint16),
            ("rgba", (36, 40, 4), np.uint8),
            ("rgb", (36, 40, 3), np.uint8),
        ):
            path = root / name / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, np.iinfo(dtype).max, shape, dtype)).save(path)
    return root


@pytest.mark.user_input(
    "pixels", "16-bit gray PNG files, evaluated later", "channels and bits as in training"
)
def test_an_evaluation_has_the_channels_and_bits_of_the_run(root, run_pretrain, run_evaluate, tiny, capsys):
    gray = [f"data.root={root / 'gray'}", "data.channels=1", "data.bits=16", "data.source.val_fraction=0.3"]
    run_pretrain(*tiny, *gray, "data.batch_size=4", "trainer.max_steps=2", "output_dir=run", "evaluation=knn")
    after_training = capsys.readouterr().out
    metrics = run_evaluate("same", "checkpoint=run", *SMALL[:2])
    assert f"k = 1 | {metrics['knn/mean_k1']:.1f} %" in after_training
    other = ["data=folder", f"data.root={root / 'rgb'}"]
    assert run_evaluate("luma", "checkpoint=run", *other, *SMALL)["train_images"] == 19
    assert run_evaluate("export", "checkpoint=run/backbone.safetensors", *other, *SMALL)["train_images"] == 19
    assert load_backbone("run/backbone.safetensors").in_channels == load_backbone("run").in_channels == 1
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run_evaluate("wrong", "checkpoint=run", *other, "data.channels=3", *SMALL)
    error = capsys.readouterr().err.splitlines()[-1]
    reason = "data.channels=3: the backbone is for images of 1 channel(s); try data.channels=1"
    assert error == f"cim-evaluate: {reason}"


@pytest.mark.user_input("pixels", "a checkpoint for 4 channels on RGB images", "refused: names both numbers")
def test_a_backbone_of_other_channels_than_the_images_is_refused(root, run_evaluate, capfd):
    scale = ["backbone.mean=[.5,.5,.5,.5]", "backbone.std=[.3,.3,.3,.3]"]
    untrained = ["checkpoint=untrained", "backbone=vit_micro_patch4", *scale, "data.view_size=32"]
    data = ["data=folder", f"data.root={root / 'rgb'}"]
    with pytest.raises(SystemExit):
        run_evaluate("out", *untrained, *data, "data.channels=4", *SMALL)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("cim-evaluate: data.channels=4: ")
    assert line.endswith(".png': has 3 channels, must have 4; try data.channels=3")


@pytest.mark.parametrize(
    ("folder", "overrides", "parts"),
    [
        pytest.param(
            "rgb",
            ["data.channels=4"],
            ["data.channels=4: ", "has 3 channels, must have 4; try data.channels=3"],
            id="images",
        ),
        pytest.param(
            "rgba",
            ["data.channels=4"],
            ["backbone.mean=null: is required for 4 channels; measure it with cim-prepare stats"],
            id="mean",
            marks=pytest.mark.user_input("pixels", "4 channels without a mean", "refused: cim-prepare stats"),
        ),
        pytest.param(
            "rgb",
            ["backbone.in_channels=1"],
            ["backbone.in_channels=1: the images have 3 channels; try backbone.in_channels=3"],
            id="backbone",
            marks=pytest.mark.user_input("value", "backbone.in_channels=1 on RGB images", "refused: try 3"),
        ),
    ],
)
def test_channels_that_do_not_fit_are_refused_before_training(
    folder, overrides, parts, root, tiny, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        compose(*tiny, f"data.root={root / folder}", *overrides)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_backbone_of_the_api_has_any_number_of_channels(channels):
    scale = {} if channels == 1 else {"mean": [0.5, 0.5], "std": [0.3, 0.3]}
    backbone = load_backbone("untrained", "vit_micro_patch4", in_channels=channels, **scale)
    assert backbone.in_channels == channels
    assert backbone.normalization["mean"] == ([0.449] if channels == 1 else [0.5, 0.5])
