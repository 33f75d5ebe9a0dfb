"""IoU and accuracy of predicted masks, from one confusion matrix over the data set."""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Integer
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from cim_lightning.data.segmentation import IGNORE_INDEX


class SegmentationMetrics:
    """Metrics over all pixels whose true label is not IGNORE_INDEX.

    Args:
        classes: names of the classes.
        device: of predictions and masks.
    """

    def __init__(self, classes: Sequence[str], device: torch.device):
        self.classes = classes
        # validate_args=False skips a slow search for unique values; ImageMaskFiles has validated the masks.
        self.metric = MulticlassJaccardIndex(
            len(classes), average=None, ignore_index=IGNORE_INDEX, validate_args=False
        ).to(device)

    def update(self, predicted: Integer[Tensor, "*size"], mask: Integer[Tensor, "*size"]) -> None:
        """Add the pixels of one or more images."""
        self.metric.update(predicted, mask)

    def compute(self) -> dict[str, float]:
        """Return miou, pixel_accuracy, class_accuracy and iou_<class>, each 0..1; nan without pixels.

        Classes that are in no mask and in no prediction have no iou_<class>, and are not part of miou.
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
