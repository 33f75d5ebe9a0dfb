"""Reasons why an evaluator does not apply; None if the requirement is met.

`Evaluator.applies` returns one of them, or several with `or`. Each completes a sentence that starts with the
evaluator's name.
"""

from cim_lightning.cropping.exemplars import Crops, ExemplarCropper
from cim_lightning.data.mask_check import check_masks
from cim_lightning.data.segmentation import OpenSegmentationData, open_splits
from cim_lightning.evaluation.context import EvalContext


def needs_labels(context: EvalContext) -> str | None:
    """Require labels of the training and of the validation images, of two or more classes."""
    splits = context.data.splits
    if reason := needs_val_images(context):
        return reason
    if not (splits.train.classes and splits.val.classes):
        return "needs images with labels"
    if unknown := getattr(splits.val, "unknown_classes", None):
        return f"needs training images of all validation classes ({', '.join(unknown[:5])} has none)"
    return None if len(splits.train.classes) > 1 else "needs labels of two or more classes"


def needs_val_images(context: EvalContext) -> str | None:
    """Require validation images."""
    return None if len(context.data.splits.val) else "needs validation images"


def needs_rgb(context: EvalContext) -> str | None:
    """Require a backbone for images of three channels."""
    channels = context.backbone.in_channels
    return None if channels == 3 else f"needs a backbone for RGB images, not for {channels} channel(s)"


def needs_cim(context: EvalContext) -> str | None:
    """Require the whole method of a CIM run, which maps crops to correlation logits, and its cropping."""
    batch_type = getattr(context.method, "batch_type", None)
    if not (isinstance(batch_type, type) and issubclass(batch_type, Crops)):
        return "needs a checkpoint of CIM"
    cropping = getattr(context.data, "cropping", None)
    return None if isinstance(cropping, ExemplarCropper) else "needs the cropping of CIM's pre-training"


def needs_masks(source: OpenSegmentationData | None) -> str | None:
    """Require a source of images with masks. Raise ConfigError if its files are invalid."""
    if source is None:
        return "needs images with masks"
    check_masks(open_splits(source))
    return None
