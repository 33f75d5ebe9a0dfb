"""Low-shot classification: logistic regression on frozen features with few labels."""

import statistics
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor
from tqdm import tqdm

from cim_lightning.checks import check_at_least
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.features import Labels
from cim_lightning.evaluation.linear import accuracies, standardized
from cim_lightning.evaluation.logistic import fit_weights

LBFGS_STEPS = 100  # enough to converge on few labels


@dataclass
class LowShot:
    """Accuracy of logistic regression on few labeled training images, averaged over random draws of them.

    No hyperparameter is tuned, because no labels remain for tuning. The features are means over the grid,
    standardized on all training images, which needs no labels.
    """

    shares: list[float]  # shares of each class's training images, above 0 and at most 1
    shots: list[int]  # numbers of training images per class
    draws: int  # random draws per share and per number of shots
    penalty: float  # weight of the L2 penalty, see fit_weights
    num_train: int | None  # maximum number of images to draw from; None: all
    num_val: int | None  # maximum number of images to classify; None: all

    def __post_init__(self) -> None:
        if not all(0 < share <= 1 for share in self.shares):
            raise ConfigError("shares", self.shares, "each must be above 0 and at most 1", suggest=[0.01])
        if not all(shot >= 1 for shot in self.shots):
            raise ConfigError("shots", self.shots, "each must be at least 1", suggest=[1])
        check_at_least("draws", self.draws, 1)
        check_at_least("penalty", self.penalty, 0)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return mean accuracies in 0..1 as "0.01_of_all" and "5_a_class", each with its "_deviation"."""
        train = context.labeled_features("train", self.num_train)
        val = context.labeled_features("val", self.num_val)
        x, val_x = (part.to(context.device) for part in standardized(train.mean, val.mean))
        y, val_y = train.labels.to(context.device), val.labels.to(context.device)
        classes = int(max(y.max(), val_y.max())) + 1
        sizes: dict[str, float | int] = {f"{share:g}_of_all": float(share) for share in self.shares}
        sizes |= {f"{shot}_a_class": shot for shot in self.shots}
        metrics = {}
        for name, size in tqdm(sizes.items(), desc="low shot", leave=False, disable=None):
            values = []
            for draw in range(self.draws):
                generator = torch.Generator().manual_seed(context.seed + draw)
                subset = draw_per_class(train.labels, size, generator).to(context.device)
                weights = fit_weights(x[subset], y[subset], classes, self.penalty, LBFGS_STEPS)
                values.append(accuracies(weights[None], val_x, val_y).item())
            metrics |= {name: statistics.fmean(values), f"{name}_deviation": statistics.pstdev(values)}
        return metrics


def draw_per_class(labels: Labels, size: float, generator: torch.Generator) -> Int64[Tensor, " m"]:
    """Return the indices of a random subset of each class, with at least one image per class.

    An int `size` is a number of images per class, a float a share of each class.
    """
    subsets = []
    for label in labels.unique().tolist():
        indices = (labels == label).nonzero().flatten()
        count = size if isinstance(size, int) else max(round(size * len(indices)), 1)
        subsets.append(indices[torch.randperm(len(indices), generator=generator)[:count]])
    return torch.cat(subsets)
