"""`cim-export`: write a backbone for other projects."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cim_lightning.config import from_checkpoint, validate


def run(cfg: DictConfig) -> None:
    """Export the backbone of a checkpoint in the configured format."""
    validate.check(cfg, "export")
    form = from_checkpoint.build(cfg.format)

    from cim_lightning.export.format import InputSpec
    from cim_lightning.weights import read_weights

    weights = read_weights(cfg.checkpoint)
    normalize, size = weights.input_spec()
    _, backbone = from_checkpoint.load(weights)
    spec = InputSpec(backbone.timm_kwargs["in_chans"], size, normalize)
    folder = Path(HydraConfig.get().runtime.output_dir)
    form.export(backbone.eval(), spec, folder, {"checkpoint": str(weights.path)} | backbone.timm_kwargs)
