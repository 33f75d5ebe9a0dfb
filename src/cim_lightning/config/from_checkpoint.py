"""Settings and objects from a checkpoint: the data and the backbone to evaluate, and the whole method."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config import messages, validate
from cim_lightning.config.compose import CONF, choice_config
from cim_lightning.config.saved_settings import data_of_run, pixel_defaults
from cim_lightning.config.trusted_targets import check_trusted
from cim_lightning.errors import ConfigError

if TYPE_CHECKING:  # it imports torch, which takes seconds
    from cim_lightning.checkpoint import Weights
    from cim_lightning.models.backbone import Backbone

NO_WEIGHTS = {"weights": None, "weights_layout": "auto"}

build = functools.partial(instantiate, _convert_="all")  # plain lists and dicts, not those of OmegaConf


def load(
    weights: "Weights", backbone: DictConfig | None = None, trusted_packages: Iterable[str] = ()
) -> tuple[Any, "Backbone"]:
    """Return the method (None if this is no run) and the backbone, both with the weights.

    Args:
        weights: from `read_weights`.
        backbone: settings of a backbone, for weights without an architecture.
        trusted_packages: whose classes the settings in a checkpoint may name, besides those of conf/.

    Raises:
        ConfigError: the weights do not fit, the backbone has other weights, or a checkpoint names a class
            that is not trusted.
    """
    from cim_lightning.checkpoint import PlainWeights, RunCheckpoint

    if isinstance(weights, RunCheckpoint):
        check_trusted(weights.settings["method"], weights.path, trusted_packages)
        try:
            method = build(without_weights(weights.settings)["method"])
            weights.load(method)
        except ConfigError:
            raise
        except Exception as error:  # damaged settings can raise anything
            reason = _last_line(error.__cause__ or error)
            hint = "the file may be damaged, or of another version; copy or train it again"
            raise ConfigError(
                "checkpoint", weights.path, f"its settings build no method ({reason})", hint=hint
            ) from error
        return method, method.eval_backbone
    if not isinstance(weights, PlainWeights):
        return None, weights.load()
    given = backbone and backbone.get("weights")
    if given is not None:
        hint = f"try checkpoint={given}"
        raise ConfigError("weights", given, "the weights to evaluate are the checkpoint", hint=hint)
    plain: dict[str, Any] = OmegaConf.to_container(backbone, resolve=True)  # pyright: ignore -- not None here
    layout = plain.pop("weights_layout", "auto")
    return None, weights.load(build(plain), layout)


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def without_weights(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run without the weights that its training started from.

    A checkpoint replaces them, and their file may be gone.
    """
    from cim_lightning.models.timm_models import WEIGHTS

    backbone = dict(settings["method"].get("backbone") or {})
    backbone |= {key: value for key, value in NO_WEIGHTS.items() if key in backbone}
    if isinstance(kwargs := backbone.get("kwargs"), dict):  # earlier versions accepted timm's arguments
        backbone["kwargs"] = {key: value for key, value in kwargs.items() if key not in WEIGHTS}
    return settings | {"method": settings["method"] | {"backbone": backbone}}


def load_backbone(
    weights: str | Path,
    backbone: "str | Backbone | None" = None,
    trusted_packages: Iterable[str] = (),
    **settings: Any,
) -> "Backbone":
    """Return a backbone with weights, in evaluation mode.

    Args:
        weights: a run's folder or checkpoint, an exported backbone.safetensors or its folder, or "untrained";
            or other weights, see `TimmBackbone.load_weights`.
        backbone: the architecture, for other weights and an untrained backbone. It is a choice of
            conf/backbone, such as "vit_tiny_patch16", or a backbone that receives the weights.
        trusted_packages: whose classes the settings of a run may name, besides those of conf/.
        settings: of that choice, to change, such as `kwargs={"img_size": 64}`.

    Raises:
        ConfigError: there are no such weights, they belong to another architecture, or a setting is invalid.
    """
    from cim_lightning.checkpoint import PlainWeights, read_weights

    found = read_weights(str(weights))
    _check_architecture(found, backbone)
    if settings and not isinstance(backbone, str):
        raise ConfigError(f"{', '.join(settings)}: can be changed for a choice of conf/backbone only")
    if not isinstance(found, PlainWeights):
        _, loaded = load(found, trusted_packages=trusted_packages)
        loaded.image_size = found.image_size()
    elif isinstance(backbone, str):
        layout = settings.pop("weights_layout", "auto")
        loaded = found.load(_build_backbone(backbone, settings), layout)
    else:
        loaded = found.load(backbone)  # pyright: ignore -- not None, see _check_architecture
    return loaded.eval()


def load_method(path: str | Path, trusted_packages: Iterable[str] = ()) -> Any:
    """Return the `Method` of a run's folder or checkpoint with its weights, in evaluation mode.

    Args:
        path: of the folder or checkpoint.
        trusted_packages: whose classes its settings may name, besides those of conf/.

    Raises:
        ConfigError: there is no run, or its settings name a class that is not trusted.
    """
    from cim_lightning.checkpoint import RunCheckpoint, read_weights

    weights = read_weights(str(path))
    if not isinstance(weights, RunCheckpoint):
        raise ConfigError("path", path, "is not a run, but a backbone", hint="try load_backbone")
    method, _ = load(weights, trusted_packages=trusted_packages)
    return method.eval()


def _build_backbone(choice: str, settings: dict[str, Any]) -> "Backbone":
    cfg = None
    try:
        cfg = choice_config("backbone", choice)
        OmegaConf.set_struct(cfg, False)
        cfg.merge_with({"data": pixel_defaults(), "backbone": settings})
        validate.check_target("backbone", cfg, "evaluate")
        return build(cfg.backbone)
    except Exception as error:
        line = messages.explain(error, "evaluate", cfg, [f"backbone={choice}"])
        if line is None:
            raise
        raise ConfigError(line) from error


def _check_architecture(weights: "Weights", backbone: Any) -> None:
    """Raise ConfigError unless either the weights or the settings have the architecture."""
    from cim_lightning.checkpoint import PlainWeights

    if isinstance(weights, PlainWeights) and backbone is None:
        raise ConfigError("backbone: these weights have no architecture; try backbone=vit_base_patch16")
    if not isinstance(weights, PlainWeights) and backbone is not None:
        raise ConfigError(f"backbone: {weights.path} already has an architecture; remove backbone=...")


def fill_from_checkpoint(cfg: DictConfig, weights: "Weights", trusted_packages: Iterable[str] = ()) -> None:
    """Fill in the data settings that the command leaves to the checkpoint.

    Backbones without a run get the preprocessing of most ImageNet models.

    Args:
        cfg: settings of conf/evaluate.yaml.
        weights: from `read_weights`.
        trusted_packages: whose classes the settings in a checkpoint may name, besides those of conf/.

    Raises:
        ConfigError: data or backbone is missing or given twice, or a checkpoint names a class that is not
            trusted.
    """
    from cim_lightning.checkpoint import ExportedBackbone, PlainWeights, RunCheckpoint

    _check_architecture(weights, cfg.get("backbone"))
    given = {key: value for key, value in cfg.data.items() if value is not None}
    if isinstance(weights, RunCheckpoint):
        data: Any = weights.settings["data"]
        if "_target_" in given:  # another data set, with the same preprocessing
            data = {key: data[key] for key in ("view_size", "cropping", "channels", "bits") if key in data}
        check_trusted(data, weights.path, trusted_packages)
    elif "_target_" in given:
        data = {"view_size": 224, "cropping": OmegaConf.load(CONF / "cropping" / "resize.yaml")}
        if not isinstance(weights, PlainWeights):
            data |= {"view_size": weights.image_size(), "channels": weights.in_channels()}
    elif isinstance(weights, ExportedBackbone) and (run := weights.path.with_name("config.yaml")).exists():
        data = data_of_run(run)  # a run without training has no checkpoint
        check_trusted(data, run, trusted_packages)
    else:
        raise ConfigError("data: these weights have no data set; try data=folder data.root=...")
    unset = {key: None for key in cfg.data if "_target_" in given}  # hints of errors name them, too
    cfg.data = OmegaConf.merge(unset, pixel_defaults(), data, given)
