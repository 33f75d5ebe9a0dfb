"""Training on labels, with the same budget: the upper end of the scale. Ours; no recipe of any paper."""

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cim_lightning.cropping.resize import ImageBatch
from cim_lightning.errors import ConfigError
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone

UNKNOWN = -1


class Supervised(Method):
    """Learns the labels, by cross-entropy of a linear classifier on the pooled features.

    The classifier is made as wide as the data have classes, once they are known. Images without a label
    count for nothing.

    Args:
        backbone: the network to be trained.
        optim: see Method.
    """

    batch_type = ImageBatch

    def __init__(self, backbone: Backbone, optim: Callable[..., Any]):
        super().__init__(backbone, optim)
        self.classifier: nn.Linear | None = None

    def setup(self, stage: str) -> None:
        super().setup(stage)
        classes = self.trainer.datamodule.splits.train.classes  # pyright: ignore
        if classes is None:
            raise ConfigError("method=supervised: the images have no labels; try class folders")
        self._widen(len(classes))

    def compute_batch_losses(self, batch: tuple[ImageBatch, Tensor]) -> dict[str, Tensor]:
        """The one method that colors at labels."""
        return self.compute_losses(batch[0], batch[1])

    def compute_losses(self, crops: ImageBatch, labels: Tensor) -> dict[str, Tensor]:
        assert self.classifier is not None  # since setup
        scores = self.classifier(self.backbone(crops.images).pooled).float()
        known = labels != UNKNOWN
        costs = F.cross_entropy(scores, labels, ignore_index=UNKNOWN, reduction="sum")
        right = ((scores.argmax(dim=-1) == labels) & known).sum()
        return {"loss": costs / known.sum().clamp(min=1), "accuracy": right / known.sum().clamp(min=1)}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        self._widen(len(state_dict["classifier.weight"]))
        return super().load_state_dict(state_dict, *args, **kwargs)

    def _widen(self, classes: int) -> None:
        if self.classifier is None:
            self.classifier = nn.Linear(self.backbone.dim, classes)
