"""Hugging Face folder: config.json and model.safetensors."""

from pathlib import Path
from typing import Any

import timm
from timm.models import save_for_hf

from cim_lightning.atomic import read_json, write_json
from cim_lightning.formats.format import Format, Loaded, require_timm, timm_outputs
from cim_lightning.models.backbone import Backbone

# Entries of timm's pretrained_cfg that describe the input or the architecture. The others, such as tag,
# license and origin, describe timm's own weights.
CONFIG_KEYS = {
    *("input_size", "fixed_input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode"),
    *("num_classes", "classifier", "first_conv", "pool_size", "custom_load"),
}


class HFFormat(Format):
    """Folder for `timm.create_model("local-dir:FOLDER", pretrained=True, num_classes=...)`."""

    file = "model.safetensors"

    def write(self, backbone: Backbone, image_size: int, folder: Path) -> None:
        model = require_timm(backbone).timm_model()
        data_config = {"input_size": (backbone.in_channels, image_size, image_size), **backbone.normalization}
        data_config |= {"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center"}
        save_for_hf(model, str(folder), safe_serialization=True, data_config=data_config)
        config = read_json(folder / "config.json")
        entries = {key: value for key, value in config["pretrained_cfg"].items() if key in CONFIG_KEYS}
        write_json(folder / "config.json", config | {"pretrained_cfg": entries})

    def load(self, folder: Path) -> Loaded:
        model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
        mean, std = (list(model.pretrained_cfg[name]) for name in ("mean", "std"))
        return (lambda images: timm_outputs(model, images)), mean, std
