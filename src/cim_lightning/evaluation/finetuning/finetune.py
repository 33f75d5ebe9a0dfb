"""Accuracy of a classifier that was trained on labels, backbone and all."""

import csv
from collections.abc import Callable
from typing import Any

import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.classifier_training import ClassifierTraining
from cim_lightning.models.classifier import top_accuracy


class Finetune:
    """The part "finetune". The validation images are looked at once, by the classifier at its end.

    Leaves finetune.csv and finetune.png, the loss of its training, in the context's folder.

    Args:
        classifier: trains it.
        num_val: most images to classify; None: all.
    """

    def __init__(self, classifier: Callable[[EvalContext], Any], num_val: int | None):
        if not isinstance(classifier, ClassifierTraining):
            raise ConfigError(
                "classifier@evaluation.finetune.classifier: must be one that is trained; try finetuned"
            )
        if num_val is not None and num_val < 1:
            raise ConfigError(f"evaluation.finetune.num_val={num_val}: at least 1; try 1")
        self.classifier, self.num_val = classifier, num_val

    @torch.no_grad()
    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Shares of validation images, 0..1, whose label is the first, or among the first five."""
        with torch.enable_grad():
            model, losses = self.classifier.train(context)
        _keep(losses, context)
        first = fifth = total = 0
        batches = context.data.center_crop_dataloader("val", self.num_val)
        for batch in tqdm(batches, "classifying", unit="batch", leave=False, disable=None):
            known = batch[1] >= 0
            if not known.any():
                continue
            with context.autocast():
                logits = model(batch[0][known].to(context.device).float() / 255)
            labels = batch[1][known].to(context.device)
            first += top_accuracy(logits, labels, 1)
            fifth += top_accuracy(logits, labels, 5)
            total += len(labels)
        if not total:
            raise ConfigError("data: its val images have no labels, which this part needs; try class folders")
        return {"top1": first / total, "top5": fifth / total, "loss": losses[-1]}


def _keep(losses: list[float], context: EvalContext) -> None:
    context.folder.mkdir(parents=True, exist_ok=True)
    shares = [(i + 1) / len(losses) for i in range(len(losses))]
    with (context.folder / "finetune.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([("share_of_training", "loss"), *zip(shares, losses, strict=True)])
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(shares, losses)
    axes.set(xlabel="share of training", ylabel="training loss")
    axes.grid(alpha=0.3)
    figure.savefig(context.folder / "finetune.png", dpi=110)
