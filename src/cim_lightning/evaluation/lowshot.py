"""Classification from few labels: how little a frozen backbone needs to be told."""

import statistics

import torch
from jaxtyping import Int64
from torch import Tensor
from tqdm import tqdm

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.linear import accuracies, standardized
from cim_lightning.evaluation.logistic import regression

STEPS = 100  # of L-BFGS, which few labels never need


class LowShot:
    """Accuracy of logistic regression on few labeled training images, over several draws of them.

    Nothing is chosen on the way: few labels leave none to choose by. The features, the mean over the grid,
    are standardized on all training images, which takes no label.

    Args:
        shares: shares of the training images, above 0 and at most 1, drawn class by class.
        shots: numbers of images a class.
        draws: how often each is drawn anew.
        penalty: weight of half the squared length of the weights, against the mean cross-entropy.
        num_train, num_val: most images to draw from and to classify; None: all.
    """

    def __init__(
        self,
        shares: list[float],
        shots: list[int],
        draws: int,
        penalty: float,
        num_train: int | None,
        num_val: int | None,
    ):
        if not all(0 < share <= 1 for share in shares):
            raise ConfigError(f"evaluation.lowshot.shares={shares}: each above 0, at most 1; try [0.01]")
        if not all(shot >= 1 for shot in shots):
            raise ConfigError(f"evaluation.lowshot.shots={shots}: each at least 1; try [1]")
        if draws < 1:
            raise ConfigError(f"evaluation.lowshot.draws={draws}: at least 1; try 1")
        if penalty < 0:
            raise ConfigError(f"evaluation.lowshot.penalty={penalty}: must be 0 or more; try 0")
        self.shares, self.shots, self.draws, self.penalty = shares, shots, draws, penalty
        self.num_train, self.num_val = num_train, num_val

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Mean accuracy over draws, 0..1, and its deviation, as "0.01_of_all" and "5_a_class" and so on."""
        train, val = (
            context.labeled_features("train", self.num_train),
            context.labeled_features("val", self.num_val),
        )
        x, queries = (part.to(context.device) for part in standardized(train.mean, val.mean))
        y, answers = train.labels.to(context.device), val.labels.to(context.device)
        sizes: dict[str, float | int] = {f"{share:g}_of_all": float(share) for share in self.shares}
        sizes |= {f"{shot}_a_class": shot for shot in self.shots}
        numbers = {}
        for name, size in tqdm(sizes.items(), desc="low shot", leave=False, disable=None):
            reached = []
            for draw in range(self.draws):
                generator = torch.Generator().manual_seed(context.seed + draw)
                few = drawn(train.labels, size, generator).to(context.device)
                weights = regression(
                    x[few], y[few], int(max(y.max(), answers.max())) + 1, self.penalty, STEPS
                )
                reached.append(accuracies(weights[None], queries, answers).item())
            numbers |= {name: statistics.fmean(reached), f"{name}_deviation": statistics.pstdev(reached)}
        return numbers


def drawn(labels: Int64[Tensor, " n"], size: float, generator: torch.Generator) -> Int64[Tensor, " m"]:
    """Places of the images drawn of each class: so many of a whole number, such a share of a fraction.

    At least one of every class that there is, at most all of it.
    """
    places = []
    for label in labels.unique().tolist():
        of_class = (labels == label).nonzero().flatten()
        count = size if isinstance(size, int) else max(round(size * len(of_class)), 1)
        places.append(of_class[torch.randperm(len(of_class), generator=generator)[:count]])
    return torch.cat(places)
