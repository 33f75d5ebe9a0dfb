"""Supervised training with the same optimizer: the upper reference of every comparison."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cim_lightning.checks import check_at_least
from cim_lightning.cropping.resize import ImageBatch
from cim_lightning.errors import ConfigError
from cim_lightning.methods.method import Method
from cim_lightning.metric_registry import Metric
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.label_head import UNLABELED
from cim_lightning.optim import AdamWCosine, Optim

OPTIM = AdamWCosine()


class Supervised(Method):
    """Cross-entropy of a linear classifier on the pooled features.

    Unlabeled images (-1) do not contribute to the loss.

    Args:
        backbone: the network to train.
        optim, batch_size: see Method.
        num_classes: of the training images; None: `prepare` or a checkpoint sets it.
    """

    batch_type = ImageBatch
    metrics = (Metric("accuracy", "classification accuracy", higher_is_better=True, digits=1, unit="%"),)

    def __init__(
        self,
        backbone: Backbone,
        optim: Optim = OPTIM,
        num_classes: int | None = None,
        batch_size: int = 256,
    ):
        super().__init__(backbone, optim, batch_size)
        check_at_least("num_classes", num_classes, 1)
        self.classifier: nn.Linear | None = None
        if num_classes is not None:
            self._build_classifier(num_classes)

    def prepare(self, batch: Any, num_classes: int | None) -> None:
        super().prepare(batch, num_classes)
        if num_classes is None:
            message = "the images have no labels, which Supervised needs; put them into class folders"
            raise ConfigError(message)
        self._build_classifier(num_classes)

    def compute_batch_losses(self, batch: Any) -> dict[str, Tensor]:
        crops, labels = self.unpack(batch)
        if labels is None:
            raise ConfigError("Supervised needs batches (ImageBatch, labels), not ImageBatch alone")
        return self.compute_losses(crops, labels)

    def compute_losses(self, crops: ImageBatch, labels: Tensor) -> dict[str, Tensor]:
        if self.classifier is None:
            raise ConfigError("num_classes", None, "Supervised needs the number of classes", suggest=1000)
        logits = self.classifier(self.backbone(self.backbone.normalize(crops.images)).pooled).float()
        labeled = labels != UNLABELED
        count = labeled.sum().clamp(min=1)
        loss = F.cross_entropy(logits, labels, ignore_index=UNLABELED, reduction="sum")
        correct = ((logits.argmax(dim=-1) == labels) & labeled).sum()
        return {"loss": loss / count, "accuracy": 100 * correct / count}  # accuracy in percent

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        self._build_classifier(len(state_dict["classifier.weight"]))
        return super().load_state_dict(state_dict, *args, **kwargs)

    def _build_classifier(self, num_classes: int) -> None:
        if self.classifier is None:
            self.classifier = nn.Linear(self.backbone.dim, num_classes)
