"""`cim-evaluate`: evaluate a backbone."""

import logging
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cim_lightning.cli.sweep import current_sweep
from cim_lightning.config import from_checkpoint, validate
from cim_lightning.config.result_settings import result_settings

log = logging.getLogger("cim_lightning")


def run(cfg: DictConfig) -> None:
    """Evaluate the configured checkpoint, into the output folder of the command."""
    hydra_cfg = HydraConfig.get()
    OmegaConf.set_struct(cfg, False)
    from_checkpoint.drop_unused(cfg.evaluation, hydra_cfg.overrides.task)
    evaluate(cfg, Path(hydra_cfg.runtime.output_dir))


def evaluate(cfg: DictConfig, folder: Path) -> None:
    """Run every evaluator without a cached result, and print the table.

    Args:
        cfg: checkpoint, data, evaluation, device, seed, and the backbone if the checkpoint has none.
        folder: of the results.
    """
    from cim_lightning.weights import read_weights

    weights = read_weights(cfg.checkpoint)
    from_checkpoint.fill_from_checkpoint(cfg, weights)
    validate.check(cfg, "evaluate")
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore
    data = from_checkpoint.build(cfg.data)
    # Missing images fail here, before anything slow.
    train, val = current_sweep().datasets.open(data, settings["data"])
    evaluators = from_checkpoint.build(cfg.evaluation)

    import torch

    from cim_lightning.evaluation.context import EvalContext, resolve_device
    from cim_lightning.evaluation.suite import evaluate

    torch.manual_seed(cfg.seed)  # for an untrained backbone
    method, backbone = from_checkpoint.load(weights, cfg.get("backbone"))
    device, model = resolve_device(cfg.device), backbone.timm_kwargs["model_name"]
    description = {"checkpoint": str(weights.path or cfg.checkpoint), "backbone": model}
    log.info("%s: evaluating %s (timm %s) on %s", folder, *description.values(), device)
    log.info("%d training and %d validation images", len(train), len(val))
    mtime = {"modified": weights.path.stat().st_mtime_ns} if weights.path else {}
    inputs = {"data": settings["data"], "backbone": settings.get("backbone"), "seed": cfg.seed}
    cache_key = result_settings(description | mtime | inputs)
    context = EvalContext(backbone.to(device).eval(), method, data, device, folder, cfg.seed, cache_key)
    args = {
        name: cache_key | {"evaluator": result_settings(evaluator)}
        for name, evaluator in settings["evaluation"].items()
    }
    evaluate(evaluators, context, args, description)
    print((folder / "table.md").read_text())
