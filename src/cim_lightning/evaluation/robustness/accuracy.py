"""Accuracy of a classifier under many changes of the same images, in one pass over them."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.robustness.attacks import Classifier

# Images of 0..1, their labels and a generator -> images of 0..1 of the same shape.
Change = Callable[[Tensor, Tensor, torch.Generator], Tensor]


def accuracies(
    classifier: Classifier, changes: Mapping[str, Change], context: EvalContext, split: str, limit: int | None
) -> dict[str, float]:
    """Share (0..1) of at most `limit` images of a split that are right under each change, by its name.

    Every change of a batch starts from the same random numbers, a function of seed and batch. Images
    without a label are passed over. Raises ConfigError where no image has a label.
    """
    batches = context.data.center_crop_dataloader(split, limit)
    correct, total = dict.fromkeys(changes, 0), 0
    with tqdm(total=len(batches) * len(changes), desc=f"trials of {split}", leave=False, disable=None) as bar:
        for number, batch in enumerate(batches):
            labeled = batch[1] >= 0
            if not labeled.any():
                bar.update(len(changes))
                continue
            images = batch[0][labeled].to(context.device).float() / 255
            labels = batch[1][labeled].to(context.device)
            total += len(labels)
            for name, change in changes.items():
                generator = torch.Generator(context.device).manual_seed(context.seed + number)
                correct[name] += right(classifier, change(images, labels, generator), labels)
                bar.update()
    if not total:
        raise ConfigError(f"data: no image of {split} has a label; try data.root=<a folder of class folders>")
    return {name: count / total for name, count in correct.items()}


def unchanged(images: Tensor, labels: Tensor, generator: object) -> Tensor:
    """The images as they are."""
    return images


@torch.no_grad()
def right(classifier: Classifier, images: Float[Tensor, "b c h w"], labels: Int64[Tensor, " b"]) -> int:
    """How many images are given their label."""
    return int((classifier(images).argmax(dim=1) == labels).sum())
