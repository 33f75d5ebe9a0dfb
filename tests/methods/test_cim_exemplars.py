"""CIM with swapped and absent exemplars, against the same images swapped by hand; and with a prior."""

import functools
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from cim_lightning.cropping.correlation_metrics import (
    estimate_mean_map_baseline,
    iou_and_pointing,
    mean_map_logits,
)
from cim_lightning.cropping.exemplar_sensitivity import SENSITIVITY_METRICS, exemplar_sensitivity
from cim_lightning.cropping.exemplars import Crops, ExemplarCropper
from cim_lightning.errors import ConfigError
from cim_lightning.methods.cim import CIM
from cim_lightning.models.decoder import CorrelationDecoder
from cim_lightning.models.timm_backbone import TimmBackbone
from cim_lightning.models.token_correlation import TokenCorrelation

VIT = {"patch_size": 8, "img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2, "dynamic_img_size": True}
CROPPING = ExemplarCropper(3, context_size=32, exemplar_size=16, appearance=None)
BASELINE = estimate_mean_map_baseline(CROPPING)
NAMES = {metric.name for metric in SENSITIVITY_METRICS}
DECODER = functools.partial(CorrelationDecoder, width=8, num_heads=2)


def cim(decoder=DECODER, **changes) -> CIM:
    torch.manual_seed(0)
    backbone = TimmBackbone("vit_tiny_patch16_224", VIT, "sincos", True, "xavier")
    method = CIM(backbone, decoder, baseline=BASELINE, batch_size=4, **changes)
    if decoder is DECODER:
        torch.nn.init.normal_(method.decoder.head.weight)  # clear differences between predictions
    return method


@pytest.fixture(scope="module")
def crops() -> Crops:
    generator = torch.Generator().manual_seed(1)
    return CROPPING(torch.randint(0, 256, (4, 3, 40, 40), dtype=torch.uint8, generator=generator), 1)


@pytest.mark.parametrize("online_input", ["exemplars", "context"])
def test_validation_compares_predictions_for_swapped_images(online_input, crops):
    method = cim(online_input=online_input).eval()
    with torch.no_grad():
        swapped = method(crops._replace(exemplars=crops.exemplars.roll(-1, 0)))
        expected = exemplar_sensitivity(method(crops), swapped, crops.maps.float(), BASELINE)
        with mock.patch.object(method.backbone, "forward", wraps=method.backbone.forward) as online:
            found = method.compute_losses(crops)
    assert online.call_count == 1  # features are swapped, not images
    assert found.keys() >= expected.keys() == NAMES
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-4)
    assert found["exemplar_sensitivity"] != 50


def test_training_steps_do_not_compute_them(crops):
    assert not cim().compute_losses(crops).keys() & NAMES


@pytest.mark.parametrize("online_input", ["exemplars", "context"])
def test_absent_exemplars_are_those_of_the_next_image_with_an_empty_map(online_input, crops):
    method = cim(absent=0.5, online_input=online_input)
    # 6 of 12 exemplars: the third one of each image, and the second one of the last two images.
    absent = torch.zeros(4, 3, dtype=torch.bool)
    absent[:, 2] = absent[2:, 1] = True
    exemplars = crops.exemplars.clone()
    exemplars[absent] = crops.exemplars.roll(-1, 0)[absent]
    logits = method(crops._replace(exemplars=exemplars))
    found = method.compute_losses(crops)
    loss = F.binary_cross_entropy_with_logits(logits, (crops.maps & ~absent[..., None, None]).float()) * 3
    torch.testing.assert_close(found["loss"], loss)
    torch.testing.assert_close(found["absent_area"], logits[absent].sigmoid().mean())
    present = logits[~absent][None], crops.maps[~absent][None]
    skill = BASELINE.skill(F.binary_cross_entropy_with_logits(present[0], present[1].float()))
    for name, value in {"skill": skill, **iou_and_pointing(*present)}.items():
        torch.testing.assert_close(found[name], value)


def test_the_sensitivity_does_not_depend_on_absent_exemplars(crops):
    with torch.no_grad():
        expected, found = (cim(absent=absent).eval().compute_losses(crops) for absent in (0.0, 0.5))
    assert {name: found[name] for name in NAMES} == {name: expected[name] for name in NAMES}
    assert found["loss"] != expected["loss"]


def test_a_decoder_with_the_mean_map_as_prior_starts_at_the_baseline(crops):
    method = cim(functools.partial(DECODER, prior=mean_map_logits(CROPPING))).eval()
    many = CROPPING(torch.zeros(600, 3, 40, 40, dtype=torch.uint8), 2)
    with torch.no_grad():
        found = method.compute_losses(many)
    assert found["skill"].item() == pytest.approx(0, abs=0.025)  # 1,800 exemplars
    assert found["exemplar_sensitivity"] == 50
    assert found["variance_position"].item() == pytest.approx(100, abs=1e-3)


def test_token_correlation_alone_has_a_sensitivity_without_skills(crops):
    method = cim(None, tokens=functools.partial(TokenCorrelation, hidden_dim=8, out_dim=4)).eval()
    with torch.no_grad():
        found = method.compute_losses(crops)
    assert found.keys() & NAMES == {name for name in NAMES if not name.startswith("skill")}


def test_absent_exemplars_need_a_decoder_and_batches_in_which_there_are_some(crops):
    with pytest.raises(ConfigError, match=r"^absent=0\.5: must be 0 without a decoder; try absent=0$"):
        cim(None, tokens=TokenCorrelation, absent=0.5)
    with pytest.raises(ConfigError, match=r"^absent=0\.01: is less than one of the 12 exemplars of a batch"):
        cim(absent=0.01).prepare(crops, None)
    cim(absent=0.25).prepare(crops, None)
