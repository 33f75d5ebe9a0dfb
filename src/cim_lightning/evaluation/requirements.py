"""Reasons why an evaluator does not apply; None if the requirement is met.

`Evaluator.applies` returns one of them, or several with `or`. They complete the sentence "<evaluator> needs ...".
"""

from cim_lightning.cropping.exemplars import Crops
from cim_lightning.evaluation.context import EvalContext


def needs_labels(context: EvalContext) -> str | None:
    """Require labels of the training and of the validation images."""
    splits = context.data.splits
    return None if splits.train.classes and splits.val.classes else "needs images with labels"


def needs_cim(context: EvalContext) -> str | None:
    """Require the whole method of a CIM run: crops in, correlation logits out."""
    batch_type = getattr(context.method, "batch_type", None)
    cim = isinstance(batch_type, type) and issubclass(batch_type, Crops)
    return None if cim else "needs a checkpoint of CIM"
