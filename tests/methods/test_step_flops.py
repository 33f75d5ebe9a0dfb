"""Counted operations of a whole training step of CIM and masked CIM against a formula of their sizes.

tests/test_flops_by_hand.py has the backbones and decoders alone.
"""

import functools
from typing import NamedTuple
from unittest.mock import Mock

import pytest

from cim_lightning.cropping.correlation_metrics import MeanMapBaseline
from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.cropping.masked_exemplars import MaskedExemplarCropper
from cim_lightning.flops import flops_per_image
from cim_lightning.methods.cim import CIM
from cim_lightning.methods.masked_cim import MaskedCIM
from cim_lightning.models.coding_rate import CodingRate
from cim_lightning.models.decoder import CorrelationDecoder
from cim_lightning.models.pixel_decoder import PixelDecoder
from cim_lightning.models.token_correlation import TokenCorrelation

IMAGES, K = 6, 2
DIM, DEPTH, PIXELS = 24, 2, 4 * 4 * 3  # of the ViT: width, blocks, and values in a patch
CONTEXT, EXEMPLAR, VISIBLE = 16, 4, 8  # patches
WIDTH = 20  # of the decoders
HIDDEN, OUT = 12, 7  # of the projector
CROPPING = ExemplarCropper(K, context_size=16, exemplar_size=8)
BASELINE = MeanMapBaseline(loss=0.5, iou=0.25, best_iou=0.375, pointing=0.125)


class Cost(NamedTuple):
    """Operations per image: of the forward pass, and of the backward pass."""

    forward: float = 0
    backward: float = 0

    def __add__(self, other):
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))

    def __mul__(self, count):
        return Cost(*(count * part for part in self))


def product(rows: int, inner: int, columns: float, gradients: int = 2) -> Cost:
    """Return the cost of a matrix product, with the gradient of both factors, of one of them, or of none."""
    operations = 2 * rows * inner * columns
    return Cost(operations, gradients * operations)


def transformer(tokens: int, width: int, depth: int, mlp_ratio: int = 4) -> Cost:
    linear = product(tokens, width, (3 + 1 + 2 * mlp_ratio) * width)  # queries to values, output, and MLP
    attention = product(tokens, width, tokens) * 2  # scores and weighted sums, over all heads
    return (linear + attention) * depth


def projector(tokens: int) -> Cost:
    return product(tokens, DIM, HIDDEN) + product(tokens, HIDDEN, OUT)


def without_gradient(cost: Cost) -> Cost:
    return Cost(cost.forward)


def target(patches: int) -> Cost:
    return without_gradient(product(patches, PIXELS, DIM) + transformer(patches + 1, DIM, DEPTH))


def similarities() -> Cost:
    """Return the cost of the exemplar tokens of an image with its own context, and with those of the batch.

    The target's tokens need no gradient.
    """
    own = product(K * EXEMPLAR, OUT, CONTEXT, gradients=1)
    return own + product(K * EXEMPLAR, OUT, IMAGES * CONTEXT, gradients=1)


@pytest.mark.parametrize("tokens", [False, True])
def test_cim(vit, views, tokens):
    decoder = functools.partial(CorrelationDecoder, width=WIDTH, num_heads=2)
    correlation = functools.partial(TokenCorrelation, hidden_dim=HIDDEN, out_dim=OUT) if tokens else None
    method = CIM(vit(freeze=True), decoder, optim=Mock, baseline=BASELINE, tokens=correlation)
    frozen_embedding = without_gradient(product(EXEMPLAR, PIXELS, DIM))
    online = (frozen_embedding + transformer(EXEMPLAR + 1, DIM, DEPTH)) * K
    keys = K * (EXEMPLAR + 1)
    expected = [
        online,
        target(CONTEXT),
        product(CONTEXT, DIM, WIDTH, gradients=1),  # the decoder's embedding of the target's features
        product(CONTEXT, WIDTH, WIDTH),  # queries, the same for all exemplars
        product(keys, DIM, WIDTH),
        product(keys, WIDTH, 2 * WIDTH),
        product(CONTEXT, WIDTH, keys) * 2,  # scores and weighted sums
        product(K * CONTEXT, WIDTH, (1 + 8) * WIDTH),  # output and MLP
        product(K * CONTEXT, WIDTH, 2),  # two classes
    ]
    if tokens:
        expected += [projector(K * EXEMPLAR), without_gradient(projector(CONTEXT)), similarities()]
    assert_counted(method, CROPPING(views, 0), expected)


@pytest.mark.parametrize("tokens", [False, True])
def test_masked_cim(vit, views, tokens):
    decoder = functools.partial(PixelDecoder, width=WIDTH, depth=3, num_heads=2, mlp_ratio=2.0)
    correlation = functools.partial(TokenCorrelation, hidden_dim=HIDDEN, out_dim=OUT) if tokens else None
    method = MaskedCIM(vit(), decoder, correlation, optim=Mock, rate=CodingRate())
    expected = [
        product(CONTEXT, PIXELS, DIM, gradients=1),  # images need no gradient
        transformer(VISIBLE + 1, DIM, DEPTH),
        target(EXEMPLAR) * K,
        product(VISIBLE + 1, DIM, WIDTH),
        transformer(CONTEXT + 1, WIDTH, depth=3, mlp_ratio=2),
        product(CONTEXT, WIDTH, PIXELS),
        product(IMAGES, DIM, 1) * 2,  # coding rates: products of all pairs of images, per image
    ]
    if tokens:
        expected += [product(CONTEXT, WIDTH, DIM), projector(CONTEXT)]
        expected += [without_gradient(projector(K * EXEMPLAR)), similarities()]
    assert_counted(method, MaskedExemplarCropper(CROPPING, 4, 0.5)(views, 0), expected)


def assert_counted(method, batch, expected: list[Cost]) -> None:
    found = flops_per_image(method, batch)
    total = sum(expected, start=Cost())
    assert found.forward == pytest.approx(total.forward, rel=1e-9)
    assert found.backward == pytest.approx(total.backward, rel=1e-9)
