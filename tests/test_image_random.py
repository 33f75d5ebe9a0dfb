"""Random numbers per image against published outputs, a slow transcription, and simple statistics."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cim_lightning.image_random import BLOCK, INCREMENT, ImageRandom, image_seeds, splitmix64


def slow_splitmix64(seed: int, count: int) -> list[int]:
    """Return the first outputs as unsigned integers, one after another."""
    state, outputs = seed % 2**64, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        x = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        outputs.append(x ^ (x >> 31))
    return outputs


def random(seed: int = 0, num_images: int = 100) -> ImageRandom:
    return ImageRandom(image_seeds(seed, num_images))


def test_outputs_are_the_published_ones():
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    (outputs,) = splitmix64(torch.tensor([1234567]), 0, 5).tolist()
    assert [value % 2**64 for value in outputs] == published


int64 = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=50, deadline=None)
@given(seeds=st.lists(int64, min_size=1, max_size=4), first=st.integers(0, 300), count=st.integers(1, 30))
@example(seeds=[-(2**63), 2**63 - 1, 0, -1], first=0, count=30)
def test_outputs_match_a_slow_transcription(seeds, first, count):
    outputs = splitmix64(torch.tensor(seeds), first, count)
    slow = [slow_splitmix64(seed, first + count)[first:] for seed in seeds]
    assert [[value % 2**64 for value in row] for row in outputs.tolist()] == slow


def test_uniform_numbers_are_the_upper_24_bits():
    seeds = torch.tensor([5, -9])
    expected = [[(x >> 40) / 2**24 for x in slow_splitmix64(seed, 40)] for seed in (5, -9)]
    numbers = ImageRandom(seeds).uniform(40)
    assert numbers.double().tolist() == expected  # fp32 represents them exactly
    torch.testing.assert_close(ImageRandom(seeds).uniform(40, low=-3, high=5), 8 * numbers - 3)


def test_numbers_do_not_depend_on_the_shapes_before():
    together = random().uniform(3 * BLOCK)
    one, parts = random(), []
    for size in (3, BLOCK - 5, 4, BLOCK + 7):  # within, at and across the ends of blocks
        parts.append(one.uniform(size))
    parts.append(one.uniform(3, 5, 7).flatten(1))
    assert torch.equal(torch.cat(parts, dim=1), together[:, : sum(part.shape[1] for part in parts)])


def test_numbers_of_an_image_depend_on_its_seed_only():
    seeds = image_seeds(1, 9)
    order = [4, 0, 7]
    for draw in (
        lambda r: r.uniform(2, 3),
        lambda r: r.uniform(300, low=1, high=2),
        lambda r: r.bernoulli(0.3, 4),
        lambda r: r.permutation(2, 20),
    ):
        assert torch.equal(draw(ImageRandom(seeds[order])), draw(ImageRandom(seeds))[order])


def test_numbers_shared_by_a_batch_depend_on_the_set_of_its_images():
    seeds = image_seeds(1, 9)
    shared = ImageRandom(seeds).of_batch().uniform(5)
    assert shared.shape == (1, 5)
    assert torch.equal(shared, ImageRandom(seeds.flip(0)).of_batch().uniform(5))
    assert not torch.equal(shared, ImageRandom(seeds[:8]).of_batch().uniform(5))


@pytest.mark.parametrize("seed", [0, -1, 2**62, 2**64 + 3])
def test_one_integer_gives_a_seed_to_each_image(seed):
    seeds = image_seeds(seed, 5)
    assert [value % 2**64 for value in seeds.tolist()] == slow_splitmix64(seed, 5)
    assert torch.equal(seeds[:3], image_seeds(seed, 3))


def distance_to_uniform(numbers: torch.Tensor) -> float:
    """Return the Kolmogorov-Smirnov distance times the root of the count; 1 in 1000 exceed 1.95."""
    ordered = numbers.flatten().double().sort().values
    return (ordered - (torch.arange(len(ordered)) + 0.5) / len(ordered)).abs().max().item() * math.sqrt(
        len(ordered)
    )


SEEDS = {
    "consecutive": torch.arange(1000),
    "of images": image_seeds(0, 1000),
    "single bits": torch.tensor([2**i for i in range(63)]),
}


@pytest.mark.parametrize("kind", SEEDS)
def test_numbers_are_uniform_and_independent(kind):
    numbers = ImageRandom(SEEDS[kind]).uniform(200).double()
    assert 0 <= numbers.min() < numbers.max() < 1
    assert distance_to_uniform(numbers) < 1.95
    assert distance_to_uniform(numbers[:, 0]) < 1.95  # over images, in the first draw
    z = (numbers - 0.5) * math.sqrt(12)  # variance 1
    pairs = [z[:, :-1] * z[:, 1:], z[:-1] * z[1:], z[:-1, :-1] * z[1:, 1:], z[:, :-100] * z[:, 100:]]
    for product in pairs:  # draws and images one apart, and draws that are far apart
        assert abs(product.mean().item()) * math.sqrt(product.numel()) < 3.3


def test_pairs_of_draws_fill_the_square():
    numbers = random(num_images=4000).uniform(2, 20)
    cells = (numbers * 8).long()
    counts = torch.bincount((8 * cells[:, 0] + cells[:, 1]).flatten(), minlength=64).double()
    expected = counts.sum() / 64
    assert ((counts - expected) ** 2 / expected).sum() < 104  # chi-square of 63 degrees of freedom, 0.1 %


def test_permutations_are_equally_likely():
    orders = random(num_images=6000).permutation(2, 4).flatten(0, 1)
    assert orders.sort(dim=1).values.eq(torch.arange(4)).all()
    counts = orders.unique(dim=0, return_counts=True)[1].double()
    assert len(counts) == 24
    assert ((counts - 500) ** 2 / 500).sum() < 50  # 23 degrees of freedom, 0.1 %


def test_a_probability_of_0_never_happens_and_one_of_1_always():
    assert not random().bernoulli(0.0, 50).any()
    assert random().bernoulli(1.0, 50).all()
    zero = ImageRandom(torch.tensor([-INCREMENT]))  # the state of its first output is 0
    assert not zero.bernoulli(0.0, 1).any()
    assert random().bernoulli(0.3, 500).float().mean().item() == pytest.approx(0.3, abs=0.01)
