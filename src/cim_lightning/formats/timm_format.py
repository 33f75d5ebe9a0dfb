"""Weights for timm: backbone.safetensors, and backbone.json with the arguments of timm.create_model."""

from pathlib import Path

import timm
from safetensors.torch import save_file
from timm.data import resolve_model_data_config

from cim_lightning.atomic import read_json, replacing, write_json
from cim_lightning.formats.format import Format, Loaded, require_timm, timm_outputs
from cim_lightning.formats.timm_config import timm_config
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.timm_backbone import TimmBackbone


class TimmFormat(Format):
    """backbone.safetensors and backbone.json.

    This line restores the model, with `config` from backbone.json:

        timm.create_model(
            **config["create_model"],
            pretrained=True,
            pretrained_cfg_overlay=config["pretrained_cfg"] | {"file": "backbone.safetensors"},
        )

    With `img_size=...` in `create_model`, timm resamples the position table to another image size.
    `pretrained_cfg` describes the input for `timm.data.resolve_model_data_config`. `config` also has the
    `width` of the features, and for other programs the side `image_size` of the images in pixels, and the
    `mean` and `std` of each channel for images in 0..1.
    """

    file = "backbone.safetensors"

    def write(self, backbone: Backbone, image_size: int, folder: Path) -> None:
        timm_backbone = require_timm(backbone)
        save_weights(timm_backbone, folder / self.file)
        described = timm_config(timm_backbone, image_size)
        config = {
            "create_model": timm_backbone.timm_kwargs | described["model_args"],
            "pretrained_cfg": described["pretrained_cfg"],
            **backbone.normalization,
            "image_size": image_size,
            "width": backbone.dim,
        }
        write_json(folder / "backbone.json", config)

    def load(self, folder: Path) -> Loaded:
        config = read_json(folder / "backbone.json")
        overlay = config["pretrained_cfg"] | {"file": str(folder / self.file)}
        model = timm.create_model(
            **config["create_model"], pretrained=True, pretrained_cfg_overlay=overlay
        ).eval()
        data_config = resolve_model_data_config(model)
        return (
            lambda images: timm_outputs(model, images),
            list(data_config["mean"]),
            list(data_config["std"]),
        )


def save_weights(backbone: TimmBackbone, path: Path) -> None:
    """Write the tensors of the timm model to a safetensors file, atomically."""
    state = backbone.timm_model().state_dict().items()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
