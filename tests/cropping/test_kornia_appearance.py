"""Augmentations of kornia: its chain is the oracle for `Appearance`, and YAML chooses the augmentations."""

import re

import kornia.augmentation as K
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from cim_lightning.config.compose import CONF
from cim_lightning.cropping.appearance import Appearance
from cim_lightning.cropping.kornia_appearance import KorniaAppearance
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom, image_seeds


def crops(n: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    return low + (high - low) * torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def paper_chain() -> KorniaAppearance:
    return instantiate(OmegaConf.load(CONF / "cropping" / "appearance" / "kornia.yaml"), _convert_="all")


def test_ours_matches_the_chain_of_kornia_with_the_same_parameters():
    """Hue is not compared: kornia's turns the color circle of HSV, ours the gray axis of RGB."""
    before, n = crops(32, 0.4, 0.6), 32
    ours = Appearance(hue=0, jitter_prob=1, blur=1, blur_sigma=(0.1, 1.0))
    colors = ours.sample(n, ImageRandom(image_seeds(0, 1)))
    after = ours.apply(before, colors)
    for i in range(n):
        expected = before[i : i + 1]
        operations = [
            kornia_operation(getattr(colors, name)[i].item(), name)
            for name in ("brightness", "contrast", "saturation")
        ]
        for step in colors.order[i].tolist():
            expected = operations[step](expected) if step < 3 else expected
        assert 0 < expected.min() < expected.max() < 1  # nothing was clipped
        if colors.grayscale[i]:
            expected = K.RandomGrayscale(p=1.0)(expected)
        sigma = colors.sigma[i].item()
        expected = K.RandomGaussianBlur((7, 7), (sigma, sigma), p=1.0)(expected)
        if colors.solarize[i]:
            expected = K.RandomSolarize(0.0, 0.0, p=1.0)(expected)
        torch.testing.assert_close(after[i], expected[0], atol=1e-5, rtol=0)


def kornia_operation(factor: float, name: str):
    return K.ColorJitter(**{name: (factor, factor)}, p=1.0)


def test_colors_are_a_function_of_the_seeds(paper_chain):
    before = crops(6)
    seed = paper_chain.sample(2, ImageRandom(image_seeds(3, 3)))
    state = torch.get_rng_state()
    after = paper_chain.apply(before, seed)
    assert torch.equal(torch.get_rng_state(), state)  # the global stream goes on as before
    torch.rand(5)
    assert torch.equal(paper_chain.apply(before, seed), after)
    assert not torch.equal(after, before)
    random = ImageRandom(image_seeds(4, 3))
    others = [paper_chain.apply(before, paper_chain.sample(2, random)) for _ in range(2)]
    assert not any(torch.equal(other, after) for other in others)
    assert not torch.equal(*others)  # a second kind of crops has its own colors
    permuted = paper_chain.sample(2, ImageRandom(image_seeds(3, 3)[[2, 0, 1]]))
    assert torch.equal(permuted, seed)


def test_any_augmentations_are_applied_in_order_and_null_leaves_one_out():
    invert = {"first": K.RandomInvert(p=1.0), "second": None, "third": K.RandomSolarize(0.0, 0.0, p=1.0)}
    before = torch.tensor([0.1, 0.8]).expand(1, 3, 2, 2)
    after = KorniaAppearance(invert).apply(before, torch.tensor([1, 2]))
    torch.testing.assert_close(after, torch.tensor([0.1, 0.2]).expand(1, 3, 2, 2))  # 0.9 -> 0.1; 0.2


def test_augmentations_that_do_not_fit_are_refused(caplog):
    with pytest.raises(ConfigError, match=r"^appearance=.*; try appearance=null$"):
        KorniaAppearance({"blur": None})
    with pytest.raises(ConfigError, match=r"^augmentations=blur: must be an augmentation of kornia"):
        KorniaAppearance({"blur": 0.5})
    small = KorniaAppearance({"crop": K.RandomCrop((4, 4))})
    assert caplog.messages == ["appearance: crop moves pixels, and boxes and correlation maps do not follow"]
    with pytest.raises(ConfigError, match=re.escape("must keep the size 3x8x8, not make 3x4x4")):
        small.apply(crops(2), torch.tensor([1, 2]))
    large = KorniaAppearance({"blur": K.RandomGaussianBlur((19, 19), (1.0, 1.0), p=1.0)})
    with pytest.raises(ConfigError, match=r"^augmentations=\[blur\]: [^\n]*$"):
        large.apply(crops(2), torch.tensor([1, 2]))
    with pytest.raises(ConfigError, match=r"^augmentations=\[jitter\]: [^\n]*$"):
        KorniaAppearance({"jitter": K.ColorJitter(hue=0.1, p=1.0)}).apply(
            crops(2)[:, :1], torch.tensor([1, 2])
        )


def test_the_statistics_of_our_chain_are_those_of_kornias(paper_chain):
    """Mean and spread over many exemplars of one picture, which also depend on the probabilities."""
    n = 1500
    one = torch.linspace(0.25, 0.75, 3 * 64).view(1, 3, 8, 8)
    same = one.expand(n, -1, -1, -1)
    random = ImageRandom(image_seeds(0, n))
    ours = Appearance()
    results = [
        ours.apply(same, ours.sample(1, random)),
        paper_chain.apply(same, paper_chain.sample(1, random)),
    ]
    means, spreads = zip(*((r.mean(), r.flatten(1).mean(1).std()) for r in results), strict=True)
    assert means[0] == pytest.approx(means[1].item(), abs=0.02)
    assert spreads[0] == pytest.approx(spreads[1].item(), rel=0.1)
