"""Global random streams are seeded inside the block and restored after it."""

import random

import numpy as np
import torch

from cim_lightning.rng import fork_rng


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(1).item()  # noqa: NPY002


def test_streams_depend_on_the_entropy_and_are_restored_after_the_block() -> None:
    torch.manual_seed(1)
    np.random.seed(2)  # noqa: NPY002
    random.seed(3)
    before = draws()
    torch.manual_seed(1)
    np.random.seed(2)  # noqa: NPY002
    random.seed(3)
    found = []
    for entropy in ((7, 0), (7, 0), (7, 1)):
        with fork_rng(*entropy):
            found.append(draws())
    assert found[0] == found[1]
    assert all(a != b for a, b in zip(found[0], found[2], strict=True))
    assert draws() == before


def test_streams_are_restored_after_an_error() -> None:
    random.seed(3)
    expected = random.random()
    random.seed(3)
    try:
        with fork_rng(0):
            raise KeyError
    except KeyError:
        pass
    assert random.random() == expected
