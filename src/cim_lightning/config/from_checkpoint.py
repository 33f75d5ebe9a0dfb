"""What an evaluation is asked: completed by what the checkpoint says of itself, without what is not meant."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from cim_lightning.config import messages
from cim_lightning.config.compose import CONF
from cim_lightning.errors import ConfigError


def drop_unasked(parts: DictConfig) -> None:
    """Takes out what a recipe says of parts that this command does not ask for: they have no class."""
    for name in [str(name) for name in parts if "_target_" not in parts[name]]:
        if (typed := messages.as_typed(f"evaluation.{name}")) != f"evaluation.{name}":
            raise ConfigError(f"{typed}: no such part is asked for; try evaluation=[...,{name}] beside it")
        del parts[name]


def complete(cfg: DictConfig, found: Any) -> None:
    """Fills in, of the data, what the command leaves to the run that made the checkpoint.

    Backbones of other origin are shown images as ImageNet's models mostly are.
    """
    said = {key: value for key, value in cfg.data.items() if value is not None}
    whole = [OmegaConf.load(CONF / "cropping" / f"{name}.yaml") for name in ("_normalized", "resize")]
    own: Any = {"view_size": 224, "cropping": OmegaConf.merge(*whole)}
    del own["cropping"]["defaults"]
    if found.recipe is not None:
        own["view_size"], own["cropping"]["normalize"] = found.recipe["image_size"], found.recipe["normalize"]
    if found.settings is not None:
        own = found.settings["data"]
    known = found.settings is not None or found.recipe is not None
    if known and cfg.get("backbone") is not None:
        raise ConfigError(f"backbone: {found.path} says itself which it is; try no backbone=")
    if not known and cfg.get("backbone") is None:
        raise ConfigError("backbone: these weights do not say whose they are; try backbone=vit_base_patch16")
    if "_target_" in said:
        own = {key: own[key] for key in ("view_size", "cropping")}
    elif found.settings is None:
        raise ConfigError("data: these weights bring no data of their own; try data=folder data.root=...")
    cfg.data = OmegaConf.merge(own, said)


def decisive(settings: Any) -> Any:
    """Settings, as plain values, without those that no number depends on."""
    if isinstance(settings, dict):
        return {key: decisive(value) for key, value in settings.items() if key != "num_workers"}
    return [decisive(value) for value in settings] if isinstance(settings, list) else settings
