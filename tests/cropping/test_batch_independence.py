"""Crops of an image alone, in any batch and at any place of it are the same, for every cropping of conf/."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.image_random import ImageRandom, image_seeds

NAMES = sorted(path.stem for path in Path(CONF, "cropping").glob("*.yaml"))
B = 7  # images; no other dimension of a batch has this size
SIDE = 64
SMALL = {"multi_crop": ["cropping.local_crop.size=32"], "masked_multi_crop": ["cropping.local_crop.size=32"]}


@pytest.fixture(scope="module")
def cropping():
    """Build a cropping of conf/cropping for small views."""
    register_resolvers()
    common = [f"data.view_size={SIDE}", "backbone=vit_micro_patch8"]

    def build(name: str, *overrides: str) -> Any:
        overrides = (f"cropping={name}", *common, *SMALL.get(name, []), *overrides)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return instantiate(compose("pretrain", [*overrides]).cropping)

    return build


@pytest.fixture(scope="module")
def views() -> torch.Tensor:
    size = (B, 3, SIDE, SIDE)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


SEEDS = image_seeds(3, B)


def tensors(batch: Any) -> list[torch.Tensor]:
    """Return the tensors of a batch or of parameters."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    if batch is None or isinstance(batch, int):
        return []
    parts = batch if isinstance(batch, tuple) else vars(batch).values()
    return [tensor for part in parts for tensor in tensors(part)]


def assert_selects(part: Any, whole: Any, images: list[int]) -> None:
    """Assert that a batch has exactly the given images of the whole one."""
    pairs = list(zip(tensors(part), tensors(whole), strict=True))
    assert pairs
    for found, expected in pairs:
        dim = expected.shape.index(B)
        assert torch.equal(found, expected.index_select(dim, torch.tensor(images)))


@pytest.mark.parametrize("name", NAMES)
def test_another_order_of_the_images_gives_the_same_crops(name, cropping, views):
    crop, order = cropping(name), [3, 0, 6, 5, 1, 2, 4]
    assert_selects(crop(views[order], SEEDS[order]), crop(views, SEEDS), order)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "multi_block"])
def test_crops_of_an_image_alone_or_in_another_batch_are_the_same(name, cropping, views):
    crop = cropping(name)
    whole = crop(views, SEEDS)
    for images in ([2], [5, 2], [0, 1, 2, 3]):
        assert_selects(crop(views[images], SEEDS[images]), whole, images)


def test_blocks_of_an_image_depend_on_the_batch_only_through_their_sizes(cropping, views):
    sizes = ("target_scale=[0.2,0.2]", "target_ratio=[1,1]", "context_scale=[0.9,0.9]")
    crop = cropping("multi_block", *(f"cropping.{size}" for size in sizes))
    whole = crop(views, SEEDS)
    for image in range(B):
        alone = crop(views[[image]], SEEDS[[image]])
        assert torch.equal(alone.targets[0], whole.targets[image])
        assert torch.equal(alone.images[0], whole.images[image])
        batches = ([image], [image, (image + 1) % B], [image, (image + 2) % B], list(range(image, B)))
        contexts = [set(crop(views[batch], SEEDS[batch]).context[0].tolist()) for batch in batches]
        contexts.sort(key=len)  # a smaller context is a part of a larger one
        assert all(small <= large for small, large in itertools.pairwise(contexts))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "resize"])
def test_other_seeds_give_other_crops(name, cropping, views):
    crop = cropping(name)
    pairs = zip(tensors(crop(views[:1], SEEDS[:1])), tensors(crop(views[:1], SEEDS[1:2])), strict=True)
    assert any(first.shape != second.shape or not torch.equal(first, second) for first, second in pairs)


def test_one_integer_is_a_seed_per_image(cropping, views):
    crop = cropping("small")
    assert_selects(crop(views, 3), crop(views, SEEDS), list(range(B)))
    params = crop.sample((SIDE, SIDE), ImageRandom(SEEDS))
    assert_selects(crop.apply(views, params), crop(views, SEEDS), list(range(B)))
