"""The weights of a backbone, read from a file."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor


class BackboneState(NamedTuple):
    """Weights under timm's names. They may still have heads and decoders."""

    tensors: dict[str, Tensor]
    layout: str  # where they come from, for messages, such as "MAE"
    path: Path | None  # None: downloaded
    notes: list[str]  # what a user should know, such as "EMA weights (teacher.backbone.)"
