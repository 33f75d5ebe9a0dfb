"""Features of a frozen backbone, and closed forms of the label-free metrics."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.features import effective_rank, extract, spread
from cim_lightning.models.backbone import Features
from cim_lightning.models.timm_backbone import TimmBackbone


def test_rank_one_is_one():
    direction = torch.tensor([1.0, 2.0, -2.0])
    assert effective_rank(torch.arange(5.0)[:, None] * direction + 7) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("d", [2, 5, 7])
def test_orthogonal_columns_of_equal_length_have_rank_d(d):
    table = torch.cat((torch.eye(d), -torch.eye(d)))  # centered
    assert effective_rank(3 * table) == pytest.approx(d, rel=1e-5)


def test_two_unequal_directions_have_a_rank_between_1_and_2():
    table = torch.tensor(
        [[3.0, 0], [-3, 0], [0, 1], [0, -1]]
    )  # singular values 3 and 1, after a square root of 2
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(table) == pytest.approx(math.exp(entropy), rel=1e-5)


def test_rank_is_invariant_to_scale_shift_and_rotation():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(20, 4, generator=generator)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator))[0]
    assert effective_rank(5 * table @ rotation + 2) == pytest.approx(effective_rank(table), rel=1e-4)


def test_identical_features_have_no_spread():
    assert spread(torch.tensor([[3.0, 4.0]]).repeat(6, 1)) == pytest.approx(0, abs=1e-7)
    assert spread(torch.tensor([[3.0, 4.0], [6.0, 8.0]])) == pytest.approx(
        0, abs=1e-7
    )  # they differ in length only


def test_one_feature_has_no_spread():
    assert spread(torch.tensor([[3.0, 4.0]])) == 0


def test_spread_of_two_opposite_features():
    # (1, 0) and (-1, 0): deviations 1 and 0, whose mean is a half.
    assert spread(torch.tensor([[2.0, 0.0], [-3.0, 0.0]])) == pytest.approx(1 / 2)


CPU = torch.device("cpu")


def small(name: str = "test_resnet", **kwargs: Any) -> TimmBackbone:
    torch.manual_seed(0)
    return TimmBackbone(name, kwargs, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def batches(*sizes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(2)
    views = [torch.randint(0, 256, (n, 3, 64, 64), dtype=torch.uint8, generator=generator) for n in sizes]
    return [(part, torch.arange(len(part))) for part in views]


@pytest.mark.parametrize("training", [True, False])
def test_extraction_preserves_modes_and_batch_norm_statistics(training):
    backbone = small().train(training)
    backbone.model.layer1.eval()  # one frozen module
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    modes = {name: module.training for name, module in backbone.named_modules()}
    features = extract(backbone, batches(3, 2), CPU, 5)
    assert {name: module.training for name, module in backbone.named_modules()} == modes
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())
    assert not features.pooled.requires_grad


def test_features_are_those_of_the_normalized_images_for_any_batch_size():
    backbone = small("test_vit", dynamic_img_size=True).train()  # its class token differs from the mean
    (views, labels), (more, _) = batches(3, 2)
    whole = extract(backbone, [(torch.cat((views, more)), torch.arange(5))], CPU, 5)
    parts = extract(backbone, [(views, labels), (more, torch.tensor([3, 4]))], CPU, 9)
    backbone.eval()
    with torch.no_grad():
        expected = backbone(torch.cat((views, more)).float() / 255 * 2 - 1)
    assert not torch.allclose(expected.pooled, expected.grid.mean(dim=(2, 3)), atol=0.1)
    for name, vectors in (("pooled", expected.pooled), ("mean", expected.grid.mean(dim=(2, 3)))):
        assert whole.get(name).dtype == torch.float16
        torch.testing.assert_close(whole.get(name).float(), vectors, rtol=2**-10, atol=1e-4)  # fp16
        torch.testing.assert_close(parts.get(name), whole.get(name), rtol=2**-9, atol=1e-3)
    assert parts.labels.tolist() == whole.labels.tolist() == [0, 1, 2, 3, 4]


def test_the_features_of_two_layers_are_their_mean():
    backbone, (batch,) = small("test_vit", dynamic_img_size=True).eval(), batches(3)
    with torch.no_grad():
        layers = backbone.intermediates(batch[0].float() / 255 * 2 - 1, [-2, -1], norm=True)
    found = extract(backbone, [batch], CPU, 3, layers=2)
    for name in ("pooled", "mean"):
        expected = (layers[0].get(name) + layers[1].get(name)) / 2
        torch.testing.assert_close(found.get(name).float(), expected, rtol=2**-10, atol=1e-3)


def test_stochastic_depth_is_off_during_extraction():
    backbone = small("test_vit", drop_path_rate=0.9, dynamic_img_size=True).train()
    assert any(type(module).__name__ == "DropPath" for module in backbone.modules())
    (batch,) = batches(4)
    first, second = (extract(backbone, [batch], CPU, 4) for _ in range(2))
    assert torch.equal(first.pooled, second.pooled)


@pytest.mark.parametrize("broken", ["pooled", "grid"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_features_that_are_not_finite_raise(broken, value):
    def break_features(module: nn.Module, inputs: object, features: Features) -> None:
        getattr(features, broken).view(-1)[-1] = value

    backbone = small()
    backbone.register_forward_hook(break_features)
    with pytest.raises(
        ConfigError, match=r"^the backbone's features are not finite, or exceed 65504: .* diverged, .*; try "
    ):
        extract(backbone, batches(2), CPU, 2)
