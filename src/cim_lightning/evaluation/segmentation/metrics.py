"""Intersection over union and accuracy of predicted masks, from one confusion matrix over the data set."""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Integer
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex


class SegmentationMetrics:
    """Metrics over all pixels whose true label is not `ignore_index`.

    Args:
        classes: names.
        ignore_index: label of the pixels that are not counted.
        device: of predictions and masks.
    """

    def __init__(self, classes: Sequence[str], ignore_index: int, device: torch.device):
        self.classes = classes
        # Its validation searches every mask for unique values; the masks were validated when they were read.
        self.metric = MulticlassJaccardIndex(
            len(classes), average=None, ignore_index=ignore_index, validate_args=False
        ).to(device)

    def update(self, predicted: Integer[Tensor, "*size"], mask: Integer[Tensor, "*size"]) -> None:
        """Count the pixels of one or more images."""
        self.metric.update(predicted, mask)

    def compute(self) -> dict[str, float]:
        """Return miou, pixel_accuracy, class_accuracy and iou_<class>, each 0..1; nan without pixels.

        miou is the mean over the classes in any mask or prediction; the other classes have no iou_<class>.
        class_accuracy is the mean over the classes in any mask.
        """
        matrix = self.metric.confmat.double()  # pyright: ignore
        correct, true, predicted = matrix.diag(), matrix.sum(dim=1), matrix.sum(dim=0)
        iou = self.metric.compute().double()
        occurs = true + predicted > 0
        metrics = {
            "miou": iou[occurs].mean().item(),
            "pixel_accuracy": (correct.sum() / true.sum()).item(),
            "class_accuracy": (correct / true)[true > 0].mean().item(),
        }
        for name, value, present in zip(self.classes, iou.tolist(), occurs.tolist(), strict=True):
            if present:
                metrics["iou_" + re.sub(r"\W+", "_", name).strip("_").lower()] = value
        return metrics
