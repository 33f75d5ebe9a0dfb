"""`cim-export`: write a backbone for other projects."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cim_lightning.config import from_checkpoint, validate


def run(cfg: DictConfig) -> None:
    """Export the backbone of a checkpoint in the configured format."""
    validate.check(cfg, "export")
    form = from_checkpoint.build(cfg.format)

    from cim_lightning.checkpoint import read_weights

    weights = read_weights(cfg.checkpoint)
    image_size = weights.image_size()
    _, backbone = from_checkpoint.load(weights)
    folder = Path(HydraConfig.get().runtime.output_dir)
    about = {"checkpoint": str(weights.path), "backbone": backbone.name}
    form.export(backbone.eval(), image_size, folder, about)
