"""Exemplar sensitivity against loops over pairs, values by hand, and decoders whose answer is known."""

import math

import pytest
import torch

from cim_lightning.cropping.correlation_metrics import MeanMapBaseline
from cim_lightning.cropping.exemplar_sensitivity import SENSITIVITY_METRICS, exemplar_sensitivity

BASELINE = MeanMapBaseline(loss=0.5, iou=0.0, best_iou=0.0, pointing=0.0)
B, K, SIDE = 3, 4, 5
SHARES = ("variance_position", "variance_context", "variance_exemplar")


def random_maps(b: int = B, k: int = K) -> torch.Tensor:
    return torch.rand(b, k, SIDE, SIDE, generator=torch.Generator().manual_seed(b * k)) < 0.4


def random_logits(seed: int, b: int = B, k: int = K) -> torch.Tensor:
    return torch.randn(b, k, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2


def sensitivity(logits: torch.Tensor, swapped: torch.Tensor, maps: torch.Tensor) -> dict[str, torch.Tensor]:
    return exemplar_sensitivity(logits, swapped, maps.float(), BASELINE)


def cross_entropy(logits: torch.Tensor, true: torch.Tensor) -> float:
    probability = torch.sigmoid(logits.double())
    return float(-torch.where(true, probability, 1 - probability).log().mean())


def skill(losses: list[float]) -> float:
    return 1 - sum(losses) / len(losses) / BASELINE.loss


def test_every_metric_equals_a_loop():
    logits, swapped, maps = random_logits(1), random_logits(2), random_maps()
    preferred, other, foreign, context = [], [], [], []
    for i in range(B):
        for j in range(K):
            foreign.append(cross_entropy(swapped[i, j], maps[i, j]))
            context.append(cross_entropy(swapped[i, j], maps[(i + 1) % B, j]))
            for n in set(range(K)) - {j}:
                other.append(cross_entropy(logits[i, j], maps[i, n]))
                preferred.append(cross_entropy(logits[i, j], maps[i, j]) < other[-1])
    total = sum(((logits - logits.mean()) ** 2).flatten().tolist())
    parts = [0.0, 0.0, 0.0]
    for i in range(B):
        for j in range(K):
            for y in range(SIDE):
                for x in range(SIDE):
                    position, image = logits[:, :, y, x].mean(), logits[i, :, y, x].mean()
                    values = (position - logits.mean(), image - position, logits[i, j, y, x] - image)
                    parts = [part + float(value) ** 2 for part, value in zip(parts, values, strict=True)]
    expected = {
        "exemplar_sensitivity": 100 * sum(preferred) / len(preferred),
        "skill_other_exemplar": skill(other),
        "skill_swapped": skill(foreign),
        "skill_other_context": skill(context),
    } | dict(zip(SHARES, [100 * part / total for part in parts], strict=True))
    found = sensitivity(logits, swapped, maps)
    assert found.keys() == expected.keys() == {metric.name for metric in SENSITIVITY_METRICS}
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-4)


def test_a_decoder_that_ignores_the_exemplar():
    maps, of_context = random_maps(), random_logits(3, k=1).expand(B, K, SIDE, SIDE)
    found = sensitivity(of_context, of_context, maps)
    assert found["exemplar_sensitivity"] == 50
    assert found["variance_exemplar"].item() == pytest.approx(0, abs=1e-9)
    own = [cross_entropy(of_context[i, j], maps[i, j]) for i in range(B) for j in range(K)]
    for name in ("skill_swapped", "skill_other_exemplar"):
        assert found[name].item() == pytest.approx(skill(own), abs=1e-5)


def test_a_decoder_that_ignores_both_images():
    prior = random_logits(4, b=1, k=1).expand(B, K, SIDE, SIDE)
    found = sensitivity(prior, prior, random_maps())
    assert found["exemplar_sensitivity"] == 50
    assert [found[name].item() for name in SHARES] == pytest.approx([100, 0, 0], abs=1e-4)


def test_a_decoder_that_returns_the_map_of_the_exemplar_whatever_the_context():
    maps = random_maps()
    logits = 40.0 * maps - 20
    found = sensitivity(logits, logits.roll(-1, 0), maps)
    assert found["exemplar_sensitivity"] == 100
    assert found["skill_other_context"].item() == pytest.approx(1, abs=1e-5)
    assert found["skill_swapped"] < -10
    assert found["skill_other_exemplar"] < -10


def test_pairs_and_equal_maps_by_hand():
    maps = torch.tensor([[[[1, 0]], [[0, 1]], [[0, 1]]]], dtype=torch.bool).expand(1, 3, 2, 2)
    logits = torch.tensor([[[[2.0, 0]], [[3.0, 1]], [[0.0, 1]]]]).expand(1, 3, 2, 2)
    # The first prefers its map to both others, the second not to the first, the third does. The second and
    # the third map are equal: a half for each of their two pairs.
    found = sensitivity(logits, logits, maps)
    assert found["exemplar_sensitivity"].item() == pytest.approx(100 * (2 + 0.5 + 1 + 0.5) / 6)


def test_the_variance_of_a_sum_of_effects_is_split_exactly():
    position = torch.tensor([1.0, -1, 3, -3]).reshape(2, 2)  # mean square 5
    context = torch.tensor([2.0, -2])[:, None, None, None]  # 4
    exemplar = torch.tensor([[1.0, -1], [-1, 1]])[..., None, None]  # 1; its mean in an image is 0
    found = sensitivity(position + context + exemplar, torch.zeros(2, 2, 2, 2), torch.zeros(2, 2, 2, 2))
    assert [found[name].item() for name in SHARES] == pytest.approx([50, 40, 10], rel=1e-5)


@pytest.mark.parametrize(
    ("b", "k", "expected"),
    [
        (1, 3, {"exemplar_sensitivity", "skill_other_exemplar"}),
        (3, 1, {"skill_swapped", "skill_other_context"}),
        (1, 1, set()),
    ],
)
def test_metrics_that_a_batch_does_not_define_are_left_out(b, k, expected):
    found = sensitivity(random_logits(1, b, k), random_logits(2, b, k), random_maps(b, k))
    assert found.keys() == expected
    assert all(math.isfinite(value) for value in found.values())


def test_without_a_baseline_there_are_no_skills():
    expected = sensitivity(random_logits(1), random_logits(2), random_maps())
    found = exemplar_sensitivity(random_logits(1), random_logits(2), random_maps().float(), None)
    assert found == {name: value for name, value in expected.items() if not name.startswith("skill")}


def test_constant_logits_have_no_variance():
    zeros = torch.zeros(B, K, SIDE, SIDE)
    found = sensitivity(zeros, zeros, random_maps())
    assert [found[name].item() for name in SHARES] == [0, 0, 0]
