"""A Hugging Face folder: config.json and model.safetensors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
from timm.models import save_for_hf
from torch import Tensor

from cim_lightning.export.format import Format, Outputs
from cim_lightning.export.input_spec import Images, normalized
from cim_lightning.export.timm_weights import outputs
from cim_lightning.models.backbone import Backbone

# What timm takes from the architecture's own published weights, such as their tag, license and origin, is not
# said of these: only what describes images, or what the loader must know of the architecture, is kept.
KEPT = {
    *("input_size", "fixed_input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode"),
    *("num_classes", "classifier", "first_conv", "pool_size", "custom_load"),
}


class Hub(Format):
    """`timm.create_model("local-dir:FOLDER", pretrained=True, num_classes=...)` loads it, offline."""

    file = "model.safetensors"

    def write(self, backbone: Backbone, images: Images, folder: Path) -> None:
        whole_view = {"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center"}
        seen = {"input_size": (images.channels, images.size, images.size)}
        seen |= {"mean": images.mean, "std": images.std} | whole_view
        save_for_hf(backbone.model, str(folder), safe_serialization=True, data_config=seen)
        path = folder / "config.json"
        config = json.loads(path.read_text())
        said = config["pretrained_cfg"].items()
        config["pretrained_cfg"] = {key: value for key, value in said if key in KEPT}
        path.write_text(json.dumps(config, indent=2) + "\n")

    def read(self, folder: Path) -> Callable[[Tensor], Outputs]:
        model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
        cfg = model.pretrained_cfg
        return lambda shown: outputs(model, normalized(shown, list(cfg["mean"]), list(cfg["std"])))

    def expected(self, backbone: Backbone, images: Tensor) -> Outputs:
        return outputs(backbone.model, images)
