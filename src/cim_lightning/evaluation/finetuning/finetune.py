"""Accuracy of a fine-tuned classifier."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from cim_lightning.checks import check_at_least
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.classifier_training import ClassifierTraining
from cim_lightning.models.classifier import top_accuracy


@dataclass
class Finetune:
    """Top-1 and top-5 accuracy of a trained classifier on the validation images.

    Writes the training loss to finetune.csv and finetune.png in the context's folder.
    """

    classifier: Callable[[EvalContext], Any]  # a ClassifierTraining
    num_val: int | None  # maximum number of images to classify; None: all

    def __post_init__(self) -> None:
        if not isinstance(self.classifier, ClassifierTraining):
            name, hint = type(self.classifier).__name__, "choose finetuned, probe, rsb_a2 or rsb_a3"
            raise ConfigError("classifier", name, "must be trained on views", hint=hint)
        check_at_least("num_val", self.num_val, 1)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return "top1" and "top5" accuracy, 0..1, and the final training "loss"."""
        model, losses = self.classifier.train(context)  # pyright: ignore
        write_losses(losses, context)
        top1 = top5 = total = 0
        batches = context.batches("val", self.num_val, shard=False)
        for views, labels, _ in tqdm(batches, "accuracy", unit="batch", leave=False, disable=None):
            labeled = labels >= 0
            if labeled.any():
                with torch.no_grad(), context.autocast():
                    logits = model(views[labeled].to(context.device).float() / 255)
                labels = labels[labeled].to(context.device)
                top1 += top_accuracy(logits, labels, 1)
                top5 += top_accuracy(logits, labels, 5)
                total += len(labels)
        if not total:
            raise ConfigError("the val images have no labels; put them into one folder per class")
        return {"top1": top1 / total, "top5": top5 / total, "loss": losses[-1]}


def write_losses(losses: list[float], context: EvalContext) -> None:
    """Write the training losses to finetune.csv and plot them in finetune.png."""
    context.folder.mkdir(parents=True, exist_ok=True)
    shares = [(i + 1) / len(losses) for i in range(len(losses))]
    with (context.folder / "finetune.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("share_of_training", "loss"), *zip(shares, losses, strict=True)])
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(shares, losses)
    axes.set(xlabel="share of training", ylabel="training loss")
    axes.grid(alpha=0.3)
    figure.savefig(context.folder / "finetune.png", dpi=110)
