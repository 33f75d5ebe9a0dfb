"""Behind `cim-export`: a backbone leaves the house."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from cim_lightning.config import validate
from cim_lightning.config.restore import restored


def run(cfg: DictConfig) -> None:
    """Writes the backbone in the format asked for."""
    validate.check(cfg, "export")
    form = instantiate(cfg.format)

    from cim_lightning import checkpoint
    from cim_lightning.export.input_spec import Images

    found = checkpoint.read(cfg.checkpoint)
    normalize, size = checkpoint.shown(found)
    method = restored(found)
    backbone = (method.eval_backbone if method else checkpoint.exported(found)).eval()
    images = Images(backbone.timm_kwargs["in_chans"], size, normalize)
    folder = Path(HydraConfig.get().runtime.output_dir)
    form.export(backbone, images, folder, {"checkpoint": str(found.path)} | backbone.timm_kwargs)
