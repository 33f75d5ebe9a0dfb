"""Classification term of semi-supervised training, on the labeled images of a batch."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cim_lightning.checks import check_at_least, check_share
from cim_lightning.errors import ConfigError
from cim_lightning.metric_registry import Metric

UNLABELED = -1
WEIGHT = 1.0
METRICS = (
    Metric("label_loss", "cross-entropy of the labels", higher_is_better=False),
    Metric(
        "label_accuracy",
        "accuracy of the label head",
        higher_is_better=True,
        digits=1,
        unit="%",
        validation_only=True,
    ),
)


class LabelHead(nn.Module):
    """Linear classifier of a method's features, whose loss is added to that of the method.

    Each labeled image has the same weight in every batch: the loss is the sum over the labeled images of a
    batch, divided by their expected number. So a step on several devices, or on accumulated batches, equals
    the step on all images at once. In validation, it is the mean over the labeled images.

    Without `labels`, the head has no parameters and changes nothing.

    Args:
        dim: width of the features.
        labels: share of the training images that have a label, above 0 and at most 1; None: no classifier.
        weight: factor of the cross-entropy, 0 or more.
    """

    def __init__(self, dim: int, labels: float | None = None, weight: float = WEIGHT):
        super().__init__()
        check_share("labels", labels, zero=False)
        check_at_least("labels_weight", weight, 0)
        if labels is None and weight != WEIGHT:
            raise ConfigError(
                "labels_weight", weight, "there is no classifier without labels", suggest=WEIGHT
            )
        self.dim, self.labels, self.weight = dim, labels, weight
        self.classifier: nn.Linear | None = None
        self.register_load_state_dict_pre_hook(_build_as_saved)

    def prepare(self, num_classes: int | None) -> None:
        """Build the classifier, if it is needed and not built yet.

        Args:
            num_classes: classes of the training images; None: they have no labels.

        Raises:
            ConfigError: there are no labels.
        """
        if self.labels is None or self.classifier is not None:
            return
        if num_classes is None:
            hint = "put them into one folder per class, or try labels=null"
            raise ConfigError("labels", self.labels, "the training images have no labels", hint=hint)
        self.classifier = nn.Linear(self.dim, num_classes)

    def add_to(
        self, losses: Mapping[str, Tensor], features: Float[Tensor, "n d"], labels: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the losses of a batch, with the classification added to "loss" and with its metrics.

        Args:
            losses: of the method, with "loss".
            features: of the online encoder. An image may have several consecutive rows, such as one per
                exemplar: their mean is classified.
            labels: of the images "b"; UNLABELED for an image without a label.

        Raises:
            ConfigError: there is a classifier, but the batch has no labels or `prepare` was not called.
        """
        if self.labels is None:
            return dict(losses)
        if labels is None:
            rule, hint = "the batches have no labels", "use batches (crops, labels), or try labels=null"
            raise ConfigError("labels", self.labels, rule, hint=hint)
        metrics = self(features, labels)
        return {**losses, "loss": losses["loss"] + self.weight * metrics["label_loss"]} | metrics

    def forward(self, features: Float[Tensor, "n d"], labels: Int64[Tensor, " b"]) -> dict[str, Tensor]:
        """Return "label_loss", and in validation "label_accuracy" in %. Both are 0 without labeled images."""
        if self.labels is None or self.classifier is None:
            rule = "the number of classes is not known"
            raise ConfigError("labels", self.labels, rule, hint="call prepare before training")
        logits = self.classifier(features.unflatten(0, (len(labels), -1)).mean(dim=1)).float()
        # Without labeled images, the sum is 0 and has gradients of 0, which DDP requires.
        total = F.cross_entropy(logits, labels, ignore_index=UNLABELED, reduction="sum")
        if self.training:
            return {"label_loss": total / (self.labels * len(labels))}
        count = (labels != UNLABELED).sum().clamp(min=1)
        correct = (logits.argmax(dim=-1) == labels).sum()
        return {"label_loss": total / count, "label_accuracy": 100 * correct / count}


def _build_as_saved(head: LabelHead, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
    """Build the classifier with the number of classes in a checkpoint, before its weights are loaded."""
    weight = state_dict.get(f"{prefix}classifier.weight")
    if weight is not None:
        head.prepare(len(weight))
