"""`cim-export`: write a backbone for other projects."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cim_lightning.config import from_checkpoint, validate
from cim_lightning.errors import ConfigError
from cim_lightning.weights.location import check_file


def run(cfg: DictConfig) -> None:
    """Export the backbone of a checkpoint in the configured format."""
    validate.check(cfg, "export", HydraConfig.get().overrides.task)
    if cfg.push is not None and "push" not in cfg.format:
        choice = HydraConfig.get().runtime.choices["format"]
        raise ConfigError("push", cfg.push, f"format={choice} has no upload", hint="try format=hf")
    check_file(cfg.checkpoint, "checkpoint")

    from cim_lightning.checkpoint import read_weights  # imports torch, which takes seconds
    from cim_lightning.cli.model_info import model_info

    form = from_checkpoint.build(cfg.format)
    weights = read_weights(cfg.checkpoint)
    image_size = weights.image_size()
    method, backbone = from_checkpoint.load(weights, trusted_packages=cfg.trusted_packages)
    folder = Path(HydraConfig.get().runtime.output_dir)
    about = model_info(weights.path, backbone, method)  # pyright: ignore -- weights of an image size have a path
    form.export(backbone.eval(), image_size, folder, about)
