"""Random numbers per image, the same in every batch, in every process and on every device."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

# The constants of SplitMix64 as signed integers, since torch multiplies int64 modulo 2^64.
INCREMENT, FIRST_FACTOR, SECOND_FACTOR = (
    value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
INVERSE = (pow(INCREMENT, -1, 2**64) + 2**63) % 2**64 - 2**63  # INVERSE * INCREMENT = 1 modulo 2^64
FLOAT_BITS = 24  # fp32 represents every multiple of 2^-24 in 0..1
MAX_COMPARED = 8  # numbers that are sorted by comparing all of them, which is one kernel of a compiled graph
BLOCK = 256  # numbers per image that are computed at once, to start few operations


def splitmix64(seeds: Int64[Tensor, " b"], first: int, count: int) -> Int64[Tensor, "b {count}"]:
    """Return the outputs first, first + 1, ... of the generator with each seed; 0 is its first output.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; constants of
    variant 13 by Stafford.
    """
    counter = torch.arange(first + 1, first + count + 1, device=seeds.device)
    # This is seeds + counter * INCREMENT. torch.compile takes that product for an index, which overflows.
    x = (seeds[:, None] * INVERSE + counter) * INCREMENT
    x = (x ^ _shift_right(x, 30)) * FIRST_FACTOR
    x = (x ^ _shift_right(x, 27)) * SECOND_FACTOR
    return x ^ _shift_right(x, 31)


def _shift_right(x: Int64[Tensor, "b n"], bits: int) -> Int64[Tensor, "b n"]:
    """Shift in zeros. The operator >> of torch shifts in the sign."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def _argsort(numbers: Float32[Tensor, "*b n"]) -> Int64[Tensor, "*b n"]:
    """Return numbers.argsort(dim=-1, stable=True), for few numbers."""
    index = torch.arange(numbers.shape[-1], device=numbers.device)
    own, other = numbers[..., None], numbers[..., None, :]
    first = (other < own) | ((other == own) & (index < index[:, None]))  # equal numbers: in their order
    rank = first.sum(dim=-1)
    return ((rank[..., None, :] == index[:, None]) * index).sum(dim=-1)


def image_seeds(seed: int, num_images: int, device: Any = "cpu") -> Int64[Tensor, " {num_images}"]:
    """Return seeds of images from one seed. More images do not change the seeds of the first ones."""
    signed = (seed + 2**63) % 2**64 - 2**63
    return splitmix64(torch.full((1,), signed, device=device), 0, num_images)[0]


class ImageRandom:
    """Random numbers of b images: row i is a function of seeds[i] and of the numbers drawn before.

    All rows advance together. A sampler that draws a number only for some images would shift the later
    numbers of the other ones: draw it for all, and select.

    Args:
        seeds: one per image, of any values. The numbers are on their device.
    """

    def __init__(self, seeds: Int64[Tensor, " b"]):
        self.seeds = seeds
        self._drawn = 0  # numbers per image so far
        self._block: Tensor | None = None  # "b n": the numbers before `_end`
        self._end = 0

    @property
    def num_images(self) -> int:
        return len(self.seeds)

    @property
    def device(self) -> torch.device:
        return self.seeds.device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Float32[Tensor, "b ..."]:
        """Return uniform numbers "b *shape" from low (included) to high (excluded, up to rounding)."""
        numbers = self._take(math.prod(shape)).reshape(self.num_images, *shape)
        return numbers if (low, high) == (0, 1) else low + (high - low) * numbers

    def bernoulli(self, probability: float, *shape: int) -> Bool[Tensor, "b ..."]:
        """Return booleans "b *shape" that are True with a probability in 0..1."""
        return self.uniform(*shape) < probability

    def permutation(self, *shape: int) -> Int64[Tensor, "b ..."]:
        """Return random permutations of 0, 1, ... in the last dimension of "b *shape"."""
        numbers = self.uniform(*shape)
        return _argsort(numbers) if shape[-1] <= MAX_COMPARED else numbers.argsort(dim=-1, stable=True)

    def of_batch(self) -> "ImageRandom":
        """Return numbers that all images share: one row, a function of the set of the seeds.

        Only for what all images of a batch must have in common, such as the shape of a tensor.
        """
        return ImageRandom(self.seeds.sum()[None])

    def _take(self, count: int) -> Float32[Tensor, "b {count}"]:
        start, self._drawn = self._drawn, self._drawn + count
        if self._block is None or self._drawn > self._end:
            size = max(count, BLOCK)
            bits = _shift_right(splitmix64(self.seeds, start, size), 64 - FLOAT_BITS)
            self._block, self._end = bits.float() * 2.0**-FLOAT_BITS, start + size
        first = start - (self._end - self._block.shape[1])
        return self._block[:, first : first + count]
