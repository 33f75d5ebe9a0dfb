"""Negative numbers and NaN are refused for every numeric setting of conf/ when its part is built."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.config.from_checkpoint import build
from cim_lightning.config.trainer_settings import check_trainer
from cim_lightning.errors import ConfigError

BASE = ("paths.run=run", "output_dir=run", "logger=[]", "trainer=cpu", "data.num_workers=0")
SMALL = ("backbone=vit_micro_patch4", "data.view_size=32")
EVALUATORS = "knn,linear,lowshot,attentive,representation,correlation,robustness,dense,finetune,segmentation"
COMMANDS = {
    "cim": (
        "cropping=small",
        f"evaluation=[{EVALUATORS}]",
        "method/contrast=global",
        "method/tokens=correlation",
    ),
    "convolution": ("cropping=small", "decoder=convolution"),
    "mae": ("method=mae",),
    "ijepa": ("method=ijepa",),
    "ibot": ("method=ibot", "budget=compute", "budget.petaflop=1"),
}
GROUPS = ["backbone", "cropping", "decoder", "target", "optim", "data", "evaluation", "trainer", "method"]
GROUPS += ["callbacks", "budget"]
# Arguments with which methods and evaluators call partial settings.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "PixelDecoder": (8, 12),
    "EmaTarget": (nn.Linear(2, 2),),
    "CorrelationDecoder": (8,),
    "ConvolutionDecoder": (8,),
    "BlockPredictor": (8,),
    "ContrastiveHead": (8,),
    "TokenCorrelation": (8,),
    "DINOHead": (8,),
}
# Settings for which -1 or NaN has a meaning, or which something else checks.
EXCEPTIONS = {
    "trainer.devices": "-1: all devices; Lightning checks the others",
    "trainer.max_steps": "-1: no limit",
    "trainer.num_sanity_val_steps": "-1: all batches",
    "evaluation.robustness.shuffle_patches": "checked with the size of the images, in `applies`",
    "method.target_temperature.start": "a Schedule has any values; DINO and iBOT check theirs",
    "method.target_temperature.end": "a Schedule has any values; DINO and iBOT check theirs",
}


def numbers(node: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield the path and the first value of every number and list of numbers that is not a reference."""
    for name in node if isinstance(node, DictConfig) else ():
        if OmegaConf.is_interpolation(node, name):
            continue
        if isinstance(node[name], DictConfig):
            yield from numbers(node[name], f"{path}.{name}".lstrip("."))
        else:
            first = next(iter(node[name]), None) if OmegaConf.is_list(node[name]) else node[name]
            if isinstance(first, int | float) and not isinstance(first, bool):
                yield f"{path}.{name}".lstrip("."), first


def enclosing(cfg: DictConfig, path: str) -> str | None:
    """Return the path of the nearest group with a class."""
    parts = path.split(".")
    groups = [".".join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1)]
    return next((g for g in groups if "_target_" in OmegaConf.select(cfg, g)), None)


def build_with(
    cfg: DictConfig, path: str, group: str, value: float, arguments: dict[str, tuple[Any, ...]]
) -> None:
    changed = OmegaConf.to_container(OmegaConf.select(cfg, group), resolve=True)
    node = OmegaConf.create({"node": changed}).node
    key, old = path.removeprefix(f"{group}."), OmegaConf.select(cfg, path)
    OmegaConf.update(node, key, [value, *list(old)[1:]] if OmegaConf.is_list(old) else value)
    if group == "trainer":
        check_trainer(node, has_length=False)
        return
    part = build(node)
    if node.get("_partial_"):
        name = str(node["_target_"]).rpartition(".")[2]
        part(*arguments.get(name, ()))


@contextlib.contextmanager
def cause() -> Iterator[None]:
    """Raise what a constructor raised under Hydra."""
    try:
        yield
    except InstantiationException as error:
        found: BaseException = error
        while found.__cause__ is not None and not isinstance(found, ConfigError):
            found = found.__cause__
        raise found from None


@pytest.mark.parametrize("command", COMMANDS)
def test_every_number_has_a_valid_range(command):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("pretrain", [*BASE, *SMALL, *COMMANDS[command]])
    arguments = ARGUMENTS | {"UperNet": (build(cfg.backbone), 3)}
    accepted, checked = {}, 0
    for path, number in (pair for name in GROUPS for pair in numbers(cfg.get(name), name)):
        group = enclosing(cfg, path)
        skipped = path in EXCEPTIONS or path.startswith("data.source") or "optim.optimizer" in path
        if (
            group is None
            or skipped
            or (command != "cim" and path.startswith(("data", "callbacks", "trainer")))
        ):
            continue
        for value in (-1, math.nan) if isinstance(number, float) else (-1,):
            checked += 1
            try:
                with cause():
                    build_with(cfg, path, group, value, arguments)
                accepted[f"{path}={value}"] = "accepted"
            except ConfigError:
                pass
            except Exception as error:
                accepted[f"{path}={value}"] = repr(error)
    assert not accepted
    assert checked > (80 if command == "cim" else 15)
