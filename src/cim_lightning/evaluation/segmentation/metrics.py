"""Intersection over union and accuracy of predicted masks, from one confusion matrix over the data set."""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Integer
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex


class SegmentationMetrics:
    """Counts pixels; pixels of the ignored label count for nothing.

    Args:
        classes: names, in the order of their numbers.
        ignored: the label of such pixels in the truth.
        device: of predictions and truth.
    """

    def __init__(self, classes: Sequence[str], ignored: int, device: torch.device):
        self.classes = classes
        # Its checks look for unique values, pixel by pixel; masks were checked when they were read.
        self.metric = MulticlassJaccardIndex(
            len(classes), average=None, ignore_index=ignored, validate_args=False
        ).to(device)

    def update(self, predicted: Integer[Tensor, "*size"], truth: Integer[Tensor, "*size"]) -> None:
        """Counts the pixels of one or more images."""
        self.metric.update(predicted, truth)

    def compute(self) -> dict[str, float]:
        """miou, pixel_accuracy, class_accuracy and iou_<class>, each 0..1.

        Means are over the classes that occur, in truth or prediction for miou (a class that does in neither
        has no iou_<class>), in the truth for class_accuracy. Nothing counted gives nan.
        """
        matrix = self.metric.confmat.double()  # pyright: ignore
        right, true, found = matrix.diag(), matrix.sum(dim=1), matrix.sum(dim=0)
        iou = self.metric.compute().double()
        occurs = true + found > 0
        each = {
            f"iou_{_plain(name)}": iou[i].item() for i, name in enumerate(self.classes) if occurs[i].item()
        }
        return {
            "miou": iou[occurs].mean().item(),
            "pixel_accuracy": (right.sum() / true.sum()).item(),
            "class_accuracy": (right / true)[true > 0].mean().item(),
            **each,
        }


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()
