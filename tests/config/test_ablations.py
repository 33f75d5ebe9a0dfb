"""Recipes in conf/experiment/ablation: every ablation of the paper, and one short job of each."""

import json
import shlex
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config import validate
from cim_lightning.config.compose import CONF, register_resolvers

# Every ablation of the paper, and the reduction of the loss: the recipe and its swept settings.
ABLATIONS = {
    "exemplar scale": ("scale", {"cropping.scale"}),
    "shape (aspect ratio)": ("shape", {"cropping.ratio"}),
    "rotation": ("rotation", {"cropping.rotation"}),
    "appearance transforms": (
        "appearance",
        {"cropping.appearance.jitter_prob", "cropping.appearance.blur", "cropping.appearance.solarize"},
    ),
    "number of exemplars": ("exemplars", {"cropping.num_exemplars"}),
    "context size": ("context_size", {"cropping.context_size"}),
    "exemplar size": ("exemplar_size", {"cropping.exemplar_size"}),
    "encoders: shared / separate / EMA": ("encoders", {"target"}),
    "bootstrap direction": ("direction", {"method.online_input"}),
    "decoder: cross-attention or convolution": ("decoder", {"decoder"}),
    "decoder depth": ("decoder_depth", {"decoder.depth"}),
    "decoder width": ("decoder_width", {"decoder.width"}),
    "backbones": ("backbone", {"backbone"}),
    "pre-training length": ("length", {"trainer.max_epochs"}),
    "loss reduction": ("reduction", {"method.reduction"}),
}
REQUIRED = {  # values that an ablation must have
    "target": {"ema", "shared", "separate"},
    "method.online_input": {"exemplars", "context"},
    "decoder": {"cross_attention", "convolution"},
    "backbone": {"vit_small_patch16", "vit_base_patch16", "resnet50"},
    "method.reduction": {"sum", "mean"},
}
RECIPES = sorted(file.stem for file in (CONF / "experiment" / "ablation").glob("*.yaml"))
SMALL = [
    "backbone.kwargs.depth=1",
    "backbone.kwargs.embed_dim=32",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.log_every_n_steps=1",
    "callbacks.panels=null",
    "callbacks.knn=null",
    "evaluation.linear.epochs=1",
]


def composed(*more: str) -> DictConfig:
    register_resolvers()
    overrides = ["data=folder", "data.root=/images", "paths.run=run", "output_dir=here", *more]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("pretrain", overrides, return_hydra_config=True)


def swept(recipe: str) -> dict[str, list[str]]:
    """Return the values of every setting that a recipe sweeps, as on the command line."""
    params: Any = OmegaConf.load(CONF / "experiment" / "ablation" / f"{recipe}.yaml").hydra.sweeper.params
    return {str(key): values_of(str(value)) for key, value in params.items()}


def values_of(choices: str) -> list[str]:
    """Split `0,15` or `[0.1,0.2],[0.3,0.4]` at the commas outside brackets."""
    values, depth = [""], 0
    for letter in choices:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            values.append("")
        else:
            values[-1] += letter
    return values


def test_every_ablation_of_the_paper_has_a_recipe():
    assert sorted(recipe for recipe, _ in ABLATIONS.values()) == RECIPES
    for row, (recipe, keys) in ABLATIONS.items():
        assert swept(recipe).keys() - {"seed"} == keys, row


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_sweeps_the_default_other_values_and_three_seeds(recipe):
    for key, values in swept(recipe).items():
        assert len(set(values)) == len(values) >= (3 if key == "seed" else 2)
        assert REQUIRED.get(key, set()) <= set(values)
        if key != "seed":
            plain: Any = composed()
            chosen = plain.hydra.runtime.choices.get(key)
            shipped = chosen if chosen is not None else OmegaConf.select(plain, key)
            assert str(shipped).replace(" ", "") in values, key


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_valid_with_all_its_values(recipe):
    assert {"knn", "linear"} <= composed(f"experiment=ablation/{recipe}").evaluation.keys()
    for key, values in swept(recipe).items():
        for value in values if key != "seed" else ():
            cfg = composed(f"experiment=ablation/{recipe}", f"{key}={value}")
            validate.check(OmegaConf.masked_copy(cfg, [k for k in cfg if k != "hydra"]), "pretrain")


def test_a_recipe_changes_nothing_but_its_swept_settings():
    ablation, base = (
        composed("experiment=[cifar10_cpu,ablation/rotation]"),
        composed("experiment=cifar10_cpu"),
    )
    for group in ("backbone", "cropping", "decoder", "data", "optim", "trainer", "callbacks", "method"):
        assert ablation[group] == base[group], group


def minutes(recipe: str) -> list[str]:
    """Return the short command in the comment of a recipe, without its data."""
    lines = (CONF / "experiment" / "ablation" / f"{recipe}.yaml").read_text().splitlines()
    comments = " ".join(line.lstrip("#").strip().rstrip("\\") for line in lines if line.startswith("#"))
    program, *arguments = shlex.split(comments.partition("In minutes:")[2])
    assert (program, arguments[-1]) == ("cim-pretrain", "data.root=FOLDER")
    return arguments[:-1]


ORDINARY = {"encoders", "exemplars", "rotation"}  # the other recipes take minutes together


@pytest.mark.parametrize(
    "recipe", [pytest.param(r, marks=[pytest.mark.slow] * (r not in ORDINARY)) for r in RECIPES]
)
def test_one_job_of_the_short_command_trains_and_evaluates(recipe, run_pretrain, photos, tmp_path):
    flag, experiment, *typed = minutes(recipe)
    base = "cifar10_cpu" if recipe == "length" else "cifar10_ablation"  # its length is a budget
    assert (flag, experiment) == ("-m", f"experiment=[{base},ablation/{recipe}]")
    chosen = {key: values[-1] for key, values in swept(recipe).items()}
    chosen |= {key: values_of(value)[-1] for key, _, value in (override.partition("=") for override in typed)}
    small = [o for o in SMALL if not (recipe == "backbone" and o.startswith("backbone"))]
    one_job = [f"{key}={value}" for key, value in chosen.items() if key != "trainer.max_epochs"]
    short = "trainer.max_epochs=1" if recipe == "length" else "budget.images=16"
    run_pretrain(flag, experiment, *small, *one_job, short, f"data.root={photos}", "output_dir=sweep")
    metrics = json.loads((tmp_path / "sweep" / "0" / "metrics.json").read_text())
    assert metrics["steps"] == 2
    evaluated = json.loads((tmp_path / "sweep" / "0" / "evaluation" / "metrics.json").read_text())
    assert {name.partition("/")[0] for name in evaluated} >= {"knn", "linear"}
    assert not (tmp_path / "sweep" / "1").exists()
