"""Behind `cim-evaluate`: a backbone is judged."""

import functools
import logging
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cim_lightning.cli import dataset_cache
from cim_lightning.config import from_checkpoint, validate
from cim_lightning.config.restore import restored

log = logging.getLogger("cim_lightning")


def run(cfg: DictConfig) -> None:
    """Judges what the door's settings name, into the door's folder."""
    if HydraConfig.get().mode is RunMode.RUN:
        dataset_cache.forget()
    judge(cfg, Path(HydraConfig.get().runtime.output_dir))


def judge(cfg: DictConfig, folder: Path) -> None:
    """Runs every part of an evaluation that is not done yet, and prints the table.

    Args:
        cfg: checkpoint, data, backbone where the checkpoint does not say it, evaluation, device and seed.
        folder: where the numbers go.
    """
    from cim_lightning import checkpoint

    found = checkpoint.read(cfg.checkpoint)
    OmegaConf.set_struct(cfg, False)
    from_checkpoint.complete(cfg, found)
    from_checkpoint.drop_unasked(cfg.evaluation)
    validate.check(cfg, "evaluate")
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore
    make = functools.partial(instantiate, _convert_="all")
    data = make(cfg.data)
    splits = dataset_cache.shared(
        data, settings["data"]
    )  # a folder that is missing or empty is told before anything large is built
    parts = {name: make(part) for name, part in cfg.evaluation.items()}
    method = restored(found)

    import torch

    from cim_lightning.evaluation.context import EvalContext, device_of
    from cim_lightning.evaluation.suite import evaluate

    torch.manual_seed(cfg.seed)  # of an untrained backbone
    backbone = method.eval_backbone if method else checkpoint.backbone(found, lambda: make(cfg.backbone))
    normalize = data.cropping.normalize
    device = device_of(cfg.device)
    about = {"checkpoint": str(found.path or cfg.checkpoint), "backbone": backbone.timm_kwargs["model_name"]}
    log.info("%s: %s of %s; %s", folder, about["backbone"], about["checkpoint"], device)
    log.info("%d training and %d validation images", *map(len, splits))
    weights = {"modified": found.path.stat().st_mtime_ns} if found.path else {}
    same = {"data": settings["data"], "backbone": settings.get("backbone"), "seed": cfg.seed}
    origin = from_checkpoint.decisive(about | weights | same)
    context = EvalContext(
        backbone.to(device).eval(), method, normalize, data, device, folder, cfg.seed, origin
    )
    wanted = {
        name: origin | {"part": from_checkpoint.decisive(part)}
        for name, part in settings["evaluation"].items()
    }
    evaluate(parts, context, wanted, about)
    print((folder / "table.md").read_text())
