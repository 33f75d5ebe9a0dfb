"""IoU and accuracy of predicted masks, from one confusion matrix over the data set."""

import re
from collections.abc import Sequence

from torchmetrics.classification import MulticlassJaccardIndex

from cim_lightning.data.segmentation import IGNORE_INDEX


class SegmentationMetrics(MulticlassJaccardIndex):
    """Metrics over all pixels whose true label is not IGNORE_INDEX, of the classes with these names.

    `compute` adds the confusion matrices of all processes.
    """

    def __init__(self, classes: Sequence[str]):
        # validate_args=False skips a slow search for unique values; ImageMaskFiles has validated the masks.
        super().__init__(len(classes), average=None, ignore_index=IGNORE_INDEX, validate_args=False)
        self.classes = classes

    def compute(self) -> dict[str, float]:
        """Return miou, pixel_accuracy, class_accuracy and iou_<class>, in percent; nan without pixels.

        Classes that are in no mask and in no prediction have no iou_<class>, and are not part of miou.
        class_accuracy is the mean over the classes in any mask.
        """
        matrix = self.confmat.double()  # pyright: ignore
        correct, true, predicted = matrix.diag(), matrix.sum(dim=1), matrix.sum(dim=0)
        iou = 100 * super().compute().double()
        occurs = true + predicted > 0
        metrics = {
            "miou": iou[occurs].mean().item(),
            "pixel_accuracy": 100 * (correct.sum() / true.sum()).item(),
            "class_accuracy": 100 * (correct / true)[true > 0].mean().item(),
        }
        names = ["iou_" + re.sub(r"\W+", "_", name).strip("_").lower() for name in self.classes]
        return metrics | {names[i]: iou[i].item() for i in occurs.nonzero().flatten().tolist()}
