"""The recipes of conf/experiment/domains, on generated look-alikes."""

import csv
import json
import shlex
import sys

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from cim_lightning.config import validate
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.config.from_checkpoint import build
from cim_lightning.data.pixel_format import PixelFormat
from tests import lookalikes

RECIPES = {
    file.stem: getattr(lookalikes, f"write_{file.stem}") for file in CONF.glob("experiment/domains/*.yaml")
}
FORMATS = {"aerial": PixelFormat(8, 16), "medical": PixelFormat(1, 16), "microscopy": PixelFormat(1, 16)}
SMALL = [  # of docs/domains.md
    "backbone=vit_micro_patch8",
    "cropping=half",
    "decoder=cross_attention_small",
    "data.view_size=64",
    "data.batch_size=8",
    "data.num_workers=0",
    "optim.base_lr=0.02",
    "optim.warmup=0",
    "trainer=cpu",
    "logger=[csv]",
    "callbacks.knn=null",
]


def composed(recipe: str, *overrides: str) -> DictConfig:
    """Compose as the command does, except for the folder of the run."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        given = ["paths.run=run", "data.root=/images", f"experiment=domains/{recipe}"]
        return compose("pretrain", [*given, *overrides])


@pytest.mark.user_input(
    "value", "a recipe of `domains` without `backbone.mean`", "one line that names `cim-prepare stats`"
)
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_normalization_has_to_be_measured(recipe):
    cfg = composed(recipe, *(override for override in SMALL if override.startswith("backbone")))
    with pytest.raises(InstantiationException, match=r"mean=\[\]: is required for .*cim-prepare stats"):
        build(cfg.backbone)


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(
            "aerial",
            marks=pytest.mark.user_input(
                "pixels", "satellite images: tiled TIFF of 8 bands", "`domains/aerial` trains"
            ),
        ),
        pytest.param(
            "medical",
            marks=pytest.mark.user_input(
                "pixels", "DICOM of 12 bits, MONOCHROME1 and MONOCHROME2 mixed", "`domains/medical` trains"
            ),
        ),
        pytest.param(
            "microscopy",
            marks=pytest.mark.user_input(
                "pixels", "microscopy: gray TIFF of 16 bits", "`domains/microscopy` trains"
            ),
        ),
    ],
)
def test_the_loss_falls(recipe, run_pretrain, tmp_path, monkeypatch, capsys):
    RECIPES[recipe](tmp_path / "images", 6, size=64)
    pixels = FORMATS[recipe]
    given = [
        f"data.root={tmp_path / 'images'}",
        f"data.channels={pixels.channels}",
        f"data.bits={pixels.bits}",
    ]
    monkeypatch.setattr(
        sys, "argv", ["cim-prepare", "stats", *given, "data.view_size=64", "data.num_workers=0"]
    )
    from cim_lightning.cli.main import prepare

    prepare()
    measured = shlex.split(capsys.readouterr().out.splitlines()[-1])
    given += [*SMALL, *measured, "trainer.max_steps=16", "trainer.log_every_n_steps=1", "output_dir=run"]
    run_pretrain(f"experiment=domains/{recipe}", *given)
    rows = csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines())
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) == 16
    assert np.isfinite(losses).all()
    assert np.mean(losses[-4:]) < np.mean(losses[:2]) - 0.1
    assert list((tmp_path / "run" / "panels").glob("*.png"))
    settings = json.loads((tmp_path / "run" / "backbone.json").read_text())
    assert len(settings["pretrained_cfg"]["mean"]) == pixels.channels


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_valid(recipe):
    values = f"[{', '.join(['0.5'] * FORMATS[recipe].channels)}]"
    cfg = composed(recipe, f"backbone.mean={values}", f"backbone.std={values}")
    validate.check(cfg, "pretrain")
    assert PixelFormat(cfg.data.channels, cfg.data.bits) == FORMATS[recipe]


@pytest.mark.parametrize("recipe", RECIPES)
def test_look_alikes_are_read_in_the_format_of_their_recipe(recipe, tmp_path):
    RECIPES[recipe](tmp_path, 2, size=40)
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    images = [FORMATS[recipe].decode(path) for path in paths]
    assert {image.shape for image in images} == {(40, 40, FORMATS[recipe].channels)}
    assert {image.dtype for image in images} == {np.dtype(np.uint16)}
    if recipe == "medical":  # the background is dark, whether the file is inverted or not
        assert all(image[:3].mean() < image[15:25, 15:25].mean() / 2 for image in images)
