"""What timm needs to know about exported weights: arguments of create_model, and the input images."""

import tempfile
from pathlib import Path
from typing import Any

from timm.models._hub import save_config_for_hf  # timm has no public function for the configuration alone

from cim_lightning.atomic import read_json
from cim_lightning.models.timm_backbone import TimmBackbone

# Entries of timm's pretrained_cfg that describe the input or the architecture. The others, such as tag,
# license and origin, describe timm's own weights.
CONFIG_KEYS = {
    *("input_size", "fixed_input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode"),
    *("num_classes", "classifier", "first_conv", "pool_size", "custom_load"),
}


def timm_config(backbone: TimmBackbone, image_size: int) -> dict[str, Any]:
    """Return the content of a `config.json`, which timm reads from a Hugging Face folder.

    Its `pretrained_cfg` has the input size, mean, std and interpolation of the images, from which
    `timm.data.resolve_model_data_config` gets the preprocessing. Its `model_args` are the arguments of
    `timm.create_model`.

    Args:
        image_size: side of the square images in training, in pixels.
    """
    data_config = {"input_size": (backbone.in_channels, image_size, image_size), **backbone.normalization}
    data_config |= {"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        save_config_for_hf(backbone.timm_model(), str(path), data_config=data_config)
        config = read_json(path)
    entries = {key: value for key, value in config["pretrained_cfg"].items() if key in CONFIG_KEYS}
    return config | {"pretrained_cfg": entries}
