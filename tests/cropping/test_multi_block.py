"""Target and context blocks: shapes, positions, disjointness, and seed."""

import re

import pytest
import torch

from cim_lightning.cropping.multi_block import MultiBlockCropper
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom, image_seeds

VIEWS = torch.randint(0, 256, (5, 3, 28, 28), dtype=torch.uint8)
GRID = 14


def cropper(**changes) -> MultiBlockCropper:
    return MultiBlockCropper(**{"size": 28, "mask_patch_size": 2} | changes)


def cells(indices: torch.Tensor) -> list[tuple[int, int]]:
    """Return the (row, column) of indices in row-major order."""
    return [divmod(index, GRID) for index in indices.tolist()]


@pytest.mark.parametrize("seed", range(20))
def test_targets_are_blocks_and_the_context_has_none_of_their_patches(seed):
    batch = cropper()(VIEWS, seed)
    assert batch.grid == GRID
    assert batch.num_images == 5
    assert batch.targets.shape[:2] == (5, 4)
    sizes = set()
    for image in range(5):
        context = set(cells(batch.context[image]))
        assert len(context) == batch.context.shape[1] >= 10
        for block in batch.targets[image]:
            rows, columns = ({*axis} for axis in zip(*cells(block), strict=True))
            height, width = max(rows) - min(rows) + 1, max(columns) - min(columns) + 1
            assert len(set(cells(block))) == len(rows) * len(columns) == height * width == len(block)
            assert not context & set(cells(block))
            sizes.add((height, width))
    ((height, width),) = sizes  # one size for the whole batch
    assert 0.15 - 0.04 <= height * width / GRID**2 <= 0.2 + 0.04  # sides are rounded to whole patches
    assert 0.75 - 0.2 <= height / width <= 1.5 + 0.3


def test_sizes_have_the_scales_and_ratios_of_the_settings():
    fixed = cropper(
        target_scale=[0.25, 0.25], target_ratio=[4.0, 4.0], num_targets=1, context_scale=[1.0, 1.0]
    )
    batch = fixed(VIEWS, 0)
    for block in batch.targets[:, 0]:
        rows, columns = ({*axis} for axis in zip(*cells(block), strict=True))
        assert (len(rows), len(columns)) == (14, 4)  # 14 x 3.5 patches; a half is rounded to even
    assert batch.context.shape == (5, GRID**2 - 14 * 4)  # the context block covers the image


def spread(values: list[float]) -> tuple[float, float, float]:
    return min(values), sum(values) / len(values), max(values)


def test_sizes_are_uniform_in_their_ranges():
    fine = {"size": 100, "mask_patch_size": 1, "num_targets": 1, "min_context": 1}
    seeds = [image_seeds(seed, 1) for seed in range(200)]
    blocks = [cropper(**fine).sample((100, 100), ImageRandom(seed)).targets[0, 0] for seed in seeds]
    shares = [len(block) / 100**2 for block in blocks]
    ratios = [len((block // 100).unique()) / len((block % 100).unique()) for block in blocks]
    assert spread(shares) == pytest.approx((0.15, 0.175, 0.2), abs=0.005)
    assert spread(ratios) == pytest.approx((0.75, 1.125, 1.5), abs=0.06)
    tiny = cropper(**fine, target_scale=[1e-4, 1e-4], target_ratio=[1, 1])
    contexts = [tiny.sample((100, 100), ImageRandom(seed)).context.shape[1] / 100**2 for seed in seeds]
    assert spread(contexts) == pytest.approx((0.85, 0.925, 1.0), abs=0.012)


def test_the_context_is_a_square_block_if_the_targets_are_elsewhere():
    small = cropper(
        num_targets=1, target_scale=[0.005, 0.005], target_ratio=[1, 1], context_scale=[0.25, 0.25]
    )
    batch = small(VIEWS, 3)
    assert batch.targets.shape == (5, 1, 1)
    for image in range(5):
        rows, columns = ({*axis} for axis in zip(*cells(batch.context[image]), strict=True))
        assert (len(rows), len(columns)) == (7, 7)


def test_all_positions_of_a_block_are_equally_likely():
    corner = cropper(num_targets=1, target_scale=[0.25, 0.25], target_ratio=[1, 1], min_context=1)
    blocks = corner.sample((28, 28), ImageRandom(image_seeds(0, 8000))).targets[:, 0]
    first = torch.bincount(blocks[:, 0], minlength=GRID**2).view(GRID, GRID) / 8000
    assert (first[8:].sum() + first[:, 8:].sum()) == 0
    assert (first[:8, :8] - 1 / 64).abs().max() < 0.006


def test_context_that_is_left_out_is_random():
    """With one large context per image, the number of the batch is that of its smallest context."""
    drawn = cropper().sample((28, 28), ImageRandom(image_seeds(1, 4000)))
    share = torch.bincount(drawn.context.flatten(), minlength=GRID**2).view(GRID, GRID) / 4000
    assert abs(share[: GRID // 2].sum() / share.sum() - 0.5) < 0.02
    assert abs(share[:, : GRID // 2].sum() / share.sum() - 0.5) < 0.02


def test_placements_without_enough_context_are_drawn_again():
    """Four blocks of a quarter of the patches often cover nearly everything."""
    settings = {"target_scale": [0.25, 0.25], "target_ratio": [1, 1]}
    few = cropper(min_context=1, **settings).sample((28, 28), ImageRandom(image_seeds(0, 500)))
    many = cropper(min_context=60, **settings).sample((28, 28), ImageRandom(image_seeds(0, 500)))
    assert few.context.shape[1] < 60 <= many.context.shape[1]


def test_blocks_depend_on_the_seed_only():
    first = cropper()(VIEWS, 3)
    torch.rand(3)
    again, other = cropper()(VIEWS, 3), cropper()(VIEWS, 4)
    assert torch.equal(first.context, again.context)
    assert torch.equal(first.targets, again.targets)
    assert first.targets.shape != other.targets.shape or not torch.equal(first.targets, other.targets)
    assert not torch.equal(first.targets[0], first.targets[1])


@pytest.mark.parametrize(
    ("changes", "message", "suggestion"),
    [
        ({"mask_patch_size": 5}, "mask_patch_size=5", "4"),
        ({"mask_patch_size": 28}, "mask_patch_size=28", "14"),
        ({"num_targets": 0}, "num_targets=0", "1"),
        ({"target_scale": [0.2, 0.1]}, "target_scale=[0.2, 0.1]", "[0.15, 0.2]"),
        ({"target_ratio": [0.0, 1.0]}, "target_ratio=[0.0, 1.0]", "[0.75, 1.5]"),
        ({"context_scale": [0.9, 1.1]}, "context_scale=[0.9, 1.1]", "[0.85, 1.0]"),
        ({"min_context": 200}, "min_context=200", "196"),
    ],
)
def test_a_mistake_gets_one_line_with_a_suggestion(changes, message, suggestion):
    (name,) = changes
    pattern = f"^{re.escape(message)}: [^\n]*; try {name}={re.escape(suggestion)}$"
    with pytest.raises(ConfigError, match=pattern):
        cropper(**changes)


def test_targets_that_always_cover_the_image_get_one_line():
    with pytest.raises(
        ConfigError, match=r"^target_scale=\[1.0, 1.0\]: the target blocks cover all of 14x14"
    ):
        cropper(target_scale=[1.0, 1.0], target_ratio=[1, 1])(VIEWS, 0)
