"""Settings of runs of earlier versions."""

from typing import Any

MOVED = {"cim_lightning.data.source.folder": "cim_lightning.data.folder.folder"}
# Parameters that are newer than some runs, with the value that means what these runs did.
ADDED: dict[str, dict[str, Any]] = {
    "cim_lightning.data.datamodule.ImageData": {"channels": 3, "bits": 8},
    "cim_lightning.models.timm_backbone.TimmBackbone": {"in_channels": 3, "weights_layout": "auto"},
}
# The default of images of three channels, which is null now.
IMAGENET = {"in_channels": 3, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def upgrade(settings: Any) -> Any:
    """Return a copy of plain settings, or of a part of them, that the present version understands."""
    if isinstance(settings, list):
        return [upgrade(value) for value in settings]
    if not isinstance(settings, dict):
        return settings
    node = {key: upgrade(value) for key, value in settings.items()}
    target = str(node.get("_target_", ""))
    if target in MOVED:
        node["_target_"] = MOVED[target]
    kwargs = node.get("kwargs")
    if isinstance(kwargs, dict) and "in_chans" in kwargs:
        node.setdefault("in_channels", kwargs.pop("in_chans"))
    node = ADDED.get(target, {}) | node
    if node.items() >= IMAGENET.items() and node.get("weights") is None:
        node |= dict.fromkeys(("mean", "std"))
    return node
