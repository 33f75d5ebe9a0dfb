"""Settings and objects from a checkpoint: the data and the backbone to evaluate, and the whole method."""

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config.compose import CONF
from cim_lightning.errors import ConfigError

if TYPE_CHECKING:  # it imports torch, which takes seconds
    from cim_lightning.models.backbone import Backbone
    from cim_lightning.weights import Weights

build = functools.partial(instantiate, _convert_="all")  # plain lists and dicts, not those of OmegaConf


def load(weights: "Weights", backbone: DictConfig | None = None) -> tuple[Any, "Backbone"]:
    """Return the method (None if this is no run) and the backbone, both with the weights.

    Args:
        weights: from `read_weights`.
        backbone: settings of a backbone, for timm weights.
    """
    from cim_lightning.weights import RunCheckpoint, TimmWeights

    if isinstance(weights, RunCheckpoint):
        method = build(OmegaConf.create(weights.settings).method)
        method.load_state_dict(weights.state)
        return method, method.eval_backbone
    return None, weights.load(build(backbone)) if isinstance(weights, TimmWeights) else weights.load()


def fill_from_checkpoint(cfg: DictConfig, weights: "Weights") -> None:
    """Fill in the data settings that the command leaves to the checkpoint.

    Backbones without a run get the preprocessing of most ImageNet models.

    Raises:
        ConfigError: data or backbone is missing, or is given twice.
    """
    from cim_lightning.weights import RunCheckpoint, TimmWeights

    if isinstance(weights, TimmWeights) and cfg.get("backbone") is None:
        raise ConfigError("backbone: these weights have no architecture; try backbone=vit_base_patch16")
    if not isinstance(weights, TimmWeights) and cfg.get("backbone") is not None:
        raise ConfigError(f"backbone: {weights.path} already has an architecture; remove backbone=...")
    given = {key: value for key, value in cfg.data.items() if value is not None}
    if isinstance(weights, RunCheckpoint):
        data: Any = weights.settings["data"]
        if "_target_" in given:  # another data set, with the same preprocessing
            data = {key: data[key] for key in ("view_size", "cropping")}
    elif "_target_" in given:
        data = {"view_size": 224, "cropping": OmegaConf.load(CONF / "cropping" / "resize.yaml")}
        if not isinstance(weights, TimmWeights):
            _, data["view_size"] = weights.input_spec()
    else:
        raise ConfigError("data: these weights have no data set; try data=folder data.root=...")
    cfg.data = OmegaConf.merge(data, given)


def drop_unused(evaluators: DictConfig, overrides: Iterable[str]) -> None:
    """Remove the settings that a recipe has for evaluators that this command does not run.

    Args:
        evaluators: settings by name; those without a class are not run.
        overrides: of the command line.

    Raises:
        ConfigError: the command line itself has settings for such an evaluator.
    """
    for name in [str(name) for name in evaluators if "_target_" not in evaluators[name]]:
        for override in overrides:
            key = override.lstrip("+").partition("=")[0]
            if f"{key}.".startswith(f"evaluation.{name}."):
                raise ConfigError(f"{override}: {name} is not evaluated; try evaluation=[...,{name}]")
        del evaluators[name]
