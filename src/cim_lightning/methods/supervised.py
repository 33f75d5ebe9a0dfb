"""Supervised training with the same optimizer: the upper reference of every comparison."""

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cim_lightning.cropping.resize import ImageBatch
from cim_lightning.errors import ConfigError
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone

UNLABELED = -1


class Supervised(Method):
    """Cross-entropy of a linear classifier on the pooled features.

    `prepare` builds the classifier, because the number of classes depends on the data. Unlabeled images (-1)
    do not contribute to the loss.

    Args:
        backbone: the network to train.
        optim: see Method.
    """

    batch_type = ImageBatch

    def __init__(self, backbone: Backbone, optim: Callable[..., Any]):
        super().__init__(backbone, optim)
        self.classifier: Any = None  # built by prepare

    def prepare(self, batch: Any, num_classes: int | None) -> None:
        super().prepare(batch, num_classes)
        if num_classes is None:
            message = "the images have no labels, which Supervised needs; put them into class folders"
            raise ConfigError(message)
        self._build_classifier(num_classes)

    def compute_batch_losses(self, batch: tuple[ImageBatch, Tensor]) -> dict[str, Tensor]:
        return self.compute_losses(*batch)

    def compute_losses(self, crops: ImageBatch, labels: Tensor) -> dict[str, Tensor]:
        logits = self.classifier(self.backbone(crops.images).pooled).float()
        labeled = labels != UNLABELED
        count = labeled.sum().clamp(min=1)
        loss = F.cross_entropy(logits, labels, ignore_index=UNLABELED, reduction="sum")
        correct = ((logits.argmax(dim=-1) == labels) & labeled).sum()
        return {"loss": loss / count, "accuracy": correct / count}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        self._build_classifier(len(state_dict["classifier.weight"]))
        return super().load_state_dict(state_dict, *args, **kwargs)

    def _build_classifier(self, num_classes: int) -> None:
        if self.classifier is None:
            self.classifier = nn.Linear(self.backbone.dim, num_classes)
