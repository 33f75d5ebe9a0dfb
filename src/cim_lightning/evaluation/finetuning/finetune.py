"""Accuracy of a fine-tuned classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from cim_lightning.checks import check_at_least
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.classifier_training import ClassifierTraining
from cim_lightning.evaluation.fitting import validate
from cim_lightning.evaluation.requirements import needs_labels
from cim_lightning.metric_registry import COLUMN, Metric


@dataclass
class Finetune:
    """Top-1 and top-5 accuracy of a trained classifier on the validation images."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("top1", "top-1 accuracy", None, (COLUMN,), True, "fine-tuned", 1, unit="%"),
        Metric("top5", "top-5 accuracy", None, (), True, digits=1, unit="%"),
    )

    classifier: Callable[[EvalContext], Any]  # a ClassifierTraining
    num_val: int | None  # maximum number of images to classify; None: all

    def __post_init__(self) -> None:
        if not isinstance(self.classifier, ClassifierTraining):
            name, hint = type(self.classifier).__name__, "choose finetuned, probe, rsb_a2 or rsb_a3"
            raise ConfigError("classifier", name, "must be trained on views", hint=hint)
        check_at_least("num_val", self.num_val, 1)

    def applies(self, context: EvalContext) -> str | None:
        if reason := needs_labels(context):
            return reason
        training: Any = self.classifier
        training.check(context)
        return None

    def forward_passes(self, context: EvalContext) -> float:
        training: Any = self.classifier
        val = context.num_images("val", self.num_val) * (training.epochs + 1)
        return training.forward_passes(context) + val

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return "top1" and "top5" accuracy in %."""
        training: Any = self.classifier
        module, data = training.train(context, self.num_val)
        metrics = validate(module, data, context)
        context.record(
            features=training.features,
            trained="backbone and head" if training.finetune else "head",
            epochs=training.epochs,
            batch_size=module.global_batch_size,
            train_images=len(data.indices),
            images=context.num_images("val", self.num_val),
        )
        return {name: metrics[f"val/{name}"] for name in ("top1", "top5")}
