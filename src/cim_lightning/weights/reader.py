"""Read the weights of a backbone from a file, a folder or the Hub, in any common layout."""

from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.weights.file import load
from cim_lightning.weights.hub import download, timm_state
from cim_lightning.weights.location import HUB, TIMM, find_file
from cim_lightning.weights.selection import AUTO, EVALUATED, is_run, select
from cim_lightning.weights.state import BackboneState


def read_state(weights: str, model: nn.Module, layout: str = AUTO) -> BackboneState:
    """Return the weights of a backbone, under timm's names.

    Args:
        weights: a file, a folder, a run, "timm" (the pretrained weights of the model), or
            "hf-hub:OWNER/NAME".
        model: the timm model that they are for.
        layout: key of a layout; a prefix of the names in the file, such as "student."; or "auto".

    Raises:
        ConfigError: there are no such weights, none for this architecture, or none in this layout.
    """
    if weights == TIMM:
        if layout != AUTO:
            raise ConfigError("weights_layout", layout, "timm's own weights have one layout", suggest=AUTO)
        tensors, name = timm_state(model)
        return BackboneState(tensors, f"timm's {name}", None, [])
    path = download(weights) if weights.startswith(HUB) else find_file(weights, "weights")
    checkpoint = load(path, "weights")
    export = path.absolute().parent.with_name("backbone.safetensors")  # of the last checkpoint
    is_older_run = is_run(checkpoint) and EVALUATED not in checkpoint
    if layout == AUTO and is_older_run and path.name == "last.ckpt" and export.is_file():
        path = export  # the checkpoint does not say which backbone is evaluated
        checkpoint = load(path, "weights")
    selection = select(checkpoint, path, model, layout)
    return BackboneState(selection.tensors, selection.title, path, selection.notes)
