"""Absent exemplars: exemplars of other images, whose right answer is an empty map."""

import functools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from cim_lightning.checks import check_share
from cim_lightning.errors import ConfigError
from cim_lightning.metric_registry import PLOT, PRETEXT, TABLE, Metric

ABSENT_AREA = Metric("absent_area", "area, absent exemplars", PRETEXT, (TABLE, PLOT), False)
Rows = tuple[Tensor, ...]  # features of exemplars: tensors with b k rows each, k of an image in sequence


def of_next_image(exemplars: Rows, k: int) -> Rows:
    """Return for each image the k exemplars of the next image; the last image gets those of the first."""
    return tuple(part.roll(-k, 0) for part in exemplars)


class AbsentExemplars:
    """Replaces a share of a batch's exemplars by those of the next images.

    The exemplars of an image are exchangeable, so the last ones are replaced, and nothing is drawn. The
    numbers of replaced exemplars of two images differ by at most one. A batch of one image has none.

    Args:
        share: share of the replaced exemplars, rounded to exemplars of the batch; at least 0 and below 1.
    """

    def __init__(self, share: float):
        check_share("absent", share, one=False)
        self.share = share

    def count(self, b: int, k: int) -> int:
        """Return how many of the b k exemplars of a batch are replaced. At least one is not."""
        return min(round(self.share * b * k), b * k - 1) if b > 1 else 0

    def check(self, batch_size: int, k: int) -> None:
        """Raise ConfigError if no exemplar of a batch is replaced, although the share is above 0."""
        if not self.share or self.count(batch_size, k):
            return
        if batch_size < 2:
            raise ConfigError("absent", self.share, "needs batches of 2 images or more", suggest=0)
        rule = f"is less than one of the {batch_size * k} exemplars of a batch"
        raise ConfigError("absent", self.share, rule, suggest=math.ceil(100 / (batch_size * k)) / 100)

    def replace(self, exemplars: Rows, k: int) -> Rows:
        """Return the features of b k exemplars after the replacement."""
        b = len(exemplars[0]) // k
        if not (count := self.count(b, k)):
            return exemplars
        foreign = of_next_image(exemplars, k)
        return tuple(map(functools.partial(_join, k=k, count=count), exemplars, foreign))

    def present(self, maps: Shaped[Tensor, "b k s s"]) -> Shaped[Tensor, "..."]:
        """Return the maps or logits of the exemplars that are not replaced, as those of one image."""
        b, k = maps.shape[:2]
        count = self.count(b, k)
        return maps.transpose(0, 1).flatten(0, 1)[None, :-count] if count else maps

    def add_loss(
        self, loss: Float[Tensor, ""], logits: Float[Tensor, "b k s s"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the mean loss of all exemplars, and metrics of the absent ones.

        Args:
            loss: mean cross-entropy of the exemplars that are not replaced.
            logits: of all exemplars.
        """
        b, k = logits.shape[:2]
        if not (count := self.count(b, k)):
            return loss, {}
        absent = logits.transpose(0, 1).flatten(0, 1)[-count:]
        share = count / (b * k)
        loss = (1 - share) * loss + share * F.softplus(absent).mean()  # cross-entropy of an empty map
        return loss, {ABSENT_AREA.name: absent.detach().sigmoid().mean()}


def _join(
    own: Float[Tensor, "n *s"], foreign: Float[Tensor, "n *s"], k: int, count: int
) -> Float[Tensor, "n *s"]:
    """Return rows of k exemplars per image, of which the last `count`, sorted by slot, are foreign."""
    rows = torch.cat((_by_slot(own, k)[:-count], _by_slot(foreign, k)[-count:]))
    return rows.unflatten(0, (k, -1)).transpose(0, 1).flatten(0, 1)


def _by_slot(rows: Float[Tensor, "n *s"], k: int) -> Float[Tensor, "n *s"]:
    """Sort rows of k exemplars per image: the first exemplars of all images, then the second ones, ..."""
    return rows.unflatten(0, (-1, k)).transpose(0, 1).flatten(0, 1)
