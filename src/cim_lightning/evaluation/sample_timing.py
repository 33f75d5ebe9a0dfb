"""Times of short runs on random features, from which the time of long runs is estimated."""

import time
from collections.abc import Callable

import torch
from jaxtyping import Float16, Int64
from torch import Tensor

from cim_lightning.evaluation.context import EvalContext


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the time of the second of two calls; the first one chooses and loads kernels."""
    with torch.enable_grad():  # some train, whatever the caller's gradient mode is
        work()
        _synchronize(device)
        start = time.perf_counter()
        work()
        _synchronize(device)
        return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_features(
    context: EvalContext, count: int
) -> tuple[Float16[Tensor, "n d"], Int64[Tensor, " n"], int]:
    """Return features and labels as those of the context's data, and the number of classes."""
    generator = torch.Generator().manual_seed(0)
    classes = max(len(context.data.splits.train.classes or ()), 2)
    features = torch.randn(count, context.backbone.dim, generator=generator).half()
    return features, torch.randint(classes, (count,), generator=generator), classes
