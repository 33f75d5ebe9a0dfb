"""All random streams that libraries draw from, set for a while and put back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def fork_rng(*entropy: int) -> Iterator[None]:
    """Inside, what is drawn from Python's, NumPy's and torch's global streams is a function of `entropy`.

    timm's augmentations and stochastic depth know no generator of their own, only these.
    """
    seed = int(np.random.default_rng(entropy).integers(2**32))
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
