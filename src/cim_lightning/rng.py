"""Temporary seeds for the global random streams of Python, NumPy and torch."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def fork_rng(*entropy: int) -> Iterator[None]:
    """Seed the global random streams inside the block, and restore them after it.

    For code without a generator argument, such as timm's augmentations and stochastic depth.

    Args:
        entropy: integers that determine the seed.
    """
    seed = int(np.random.default_rng(entropy).integers(2**32))
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
