"""A value that changes over training: learning rate, weight decay, momentum, temperature."""

import math
from dataclasses import dataclass

from cim_lightning.checks import check_one_of, check_share


@dataclass(frozen=True)
class Schedule:
    """A change from one value to another over a share of training; constant after it."""

    start: float  # value at the start of training
    end: float  # value at the end of the change
    shape: str = "cosine"  # cosine (half a period) or linear
    share: float = 1.0  # share of training, 0..1, that the change takes; 0: the end value from the start

    def __post_init__(self) -> None:
        check_one_of("shape", self.shape, ("cosine", "linear"))
        check_share("share", self.share)

    def __call__(self, progress: float) -> float:
        """Return the value after a share of training, 0..1."""
        done = min(progress / self.share, 1) if self.share else 1
        remaining = 1 - done if self.shape == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.end + (self.start - self.end) * remaining
