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


def load(checkpoint: "Weights", backbone: DictConfig | None = None) -> tuple[Any, "Backbone"]:
    """Return the method and the backbone with their weights; no method if the weights come from elsewhere.

    Args:
        checkpoint: the weights.
        backbone: settings of a backbone for weights that do not name theirs.
    """
    from cim_lightning.weights import RunCheckpoint

    if not isinstance(checkpoint, RunCheckpoint):
        return None, checkpoint.load_backbone(lambda: build(backbone))
    method = checkpoint.load_method(lambda: build(OmegaConf.create(checkpoint.settings).method))
    return method, method.eval_backbone


def fill_from_checkpoint(cfg: DictConfig, checkpoint: "Weights") -> None:
    """Fill in the data settings that the command leaves to the checkpoint.

    Backbones from elsewhere get the preprocessing of most ImageNet models.

    Raises:
        ConfigError: nothing says which data or backbone, or two things do.
    """
    from cim_lightning.weights import RunCheckpoint

    if checkpoint.names_architecture and cfg.get("backbone") is not None:
        raise ConfigError(f"backbone: {checkpoint.path} names its own; leave backbone= out")
    if not checkpoint.names_architecture and cfg.get("backbone") is None:
        raise ConfigError("backbone: these weights do not name theirs; try backbone=vit_base_patch16")
    given = {key: value for key, value in cfg.data.items() if value is not None}
    if isinstance(checkpoint, RunCheckpoint):
        data: Any = checkpoint.settings["data"]
        if "_target_" in given:  # other data, shown in the same way
            data = {key: data[key] for key in ("view_size", "cropping")}
    elif "_target_" in given:
        files = [OmegaConf.load(CONF / "cropping" / f"{name}.yaml") for name in ("_normalized", "resize")]
        data = {"view_size": 224, "cropping": OmegaConf.merge(*files)}
        del data["cropping"]["defaults"]
        if checkpoint.names_architecture:
            data["cropping"]["normalize"], data["view_size"] = checkpoint.input_spec()
    else:
        raise ConfigError("data: these weights come without data; try data=folder data.root=...")
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
            if override.lstrip("+~").startswith(f"evaluation.{name}."):
                raise ConfigError(
                    f"{override}: {name} is not evaluated; try evaluation=[...,{name}] beside it"
                )
        del evaluators[name]
