"""Behind `cim-export`: a backbone leaves the house."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from cim_lightning import schema
from cim_lightning.doors.restored import restored


def run(cfg: DictConfig) -> None:
    """Writes the backbone in the format asked for."""
    schema.check(cfg, "export")
    form = instantiate(cfg.format)

    from cim_lightning import trained
    from cim_lightning.export.images import Images

    found = trained.read(cfg.checkpoint)
    normalize, size = trained.shown(found)
    method = restored(found)
    backbone = (method.result if method else trained.exported(found)).eval()
    images = Images(backbone.recipe["in_chans"], size, normalize)
    folder = Path(HydraConfig.get().runtime.output_dir)
    form.export(backbone, images, folder, {"checkpoint": str(found.path)} | backbone.recipe)
