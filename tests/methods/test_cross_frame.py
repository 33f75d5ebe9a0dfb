"""CIM on pairs of frames: what is cropped from which frame, and the targets."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.cropping.resize import ResizeCropper, resize
from cim_lightning.errors import ConfigError
from cim_lightning.methods.cim import CIM
from cim_lightning.models.decoder import CorrelationDecoder
from cim_lightning.models.label_propagation import LabelPropagation
from cim_lightning.models.timm_backbone import TimmBackbone

spec = importlib.util.spec_from_file_location(
    "moving_scenes", Path(__file__).parents[1] / "data" / "video" / "moving_scenes.py"
)
moving_scenes = importlib.util.module_from_spec(spec)
sys.modules["moving_scenes"] = moving_scenes
spec.loader.exec_module(moving_scenes)

VIT = {"depth": 1, "embed_dim": 16, "num_heads": 2, "patch_size": 8, "dynamic_img_size": True}


def make_cropper(**changed):
    sizes = {"num_exemplars": 3, "context_size": 32, "exemplar_size": 16}
    return ExemplarCropper(**sizes | {"appearance": None, "flip": 0, "rotation": 0} | changed)


def make_method(**changed):
    torch.manual_seed(0)
    decoder = {"width": 16, "depth": 1, "num_heads": 2}
    backbone = TimmBackbone("vit_tiny_patch16_224", VIT)
    return CIM(backbone, lambda dim: CorrelationDecoder(dim, **decoder), batch_size=2, **changed)


def test_the_context_is_of_the_first_frame_and_the_exemplars_of_the_second():
    first = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    second = torch.full_like(first, 51)
    second[:, :, 16:] = 255  # the lower half is white
    crops = make_cropper()(torch.stack((first, second), dim=1), seeds=1)
    torch.testing.assert_close(crops.context, first / 255)
    torch.testing.assert_close(crops.other_frames, second / 255)
    white = crops.maps[:, :, 16:].sum(dim=(2, 3)) / crops.maps.sum(dim=(2, 3))
    means = crops.exemplars.mean(dim=(2, 3, 4))
    torch.testing.assert_close(means, 0.2 + 0.8 * white, rtol=0, atol=0.08)
    single = make_cropper()(second, seeds=1)
    assert single.other_frames is None
    assert torch.equal(single.exemplars, crops.exemplars)
    assert torch.equal(single.maps, crops.maps)


def test_croppings_of_single_images_refuse_pairs():
    views = torch.zeros(2, 2, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ConfigError, match=r"^cropping=ResizeCropper: crops single .*; try data\.max_gap=0"):
        ResizeCropper(32)(views, 0)


def test_the_target_of_equal_frames_is_the_box_and_that_of_others_follows_the_target_encoder():
    method = make_method(cross_frame=LabelPropagation(0.1))
    with torch.no_grad():
        for parameter in method.target.parameters():  # unlike the online encoder
            parameter.add_(0.05 * torch.randn_like(parameter))
    frames = torch.from_numpy(moving_scenes.scene(0, 8)).permute(0, 3, 1, 2)
    views = torch.stack((frames[[2, 5]], frames[[2, 0]]), dim=1)  # the first pair has the same frame twice
    crops = make_cropper()(views, seeds=3)
    maps = method.target_maps(crops)
    assert torch.equal(maps[0], crops.maps[0].float())
    with torch.no_grad():  # a slow transcription
        context, other = (
            method.target(method.backbone, method.backbone.normalize(resize(part / 255, 32))).grid[1]
            for part in (frames[[2, 5]], frames[[2, 0]])
        )
    expected = torch.zeros(3, 4, 4)
    for k in range(3):
        box = crops.maps[1, k].float().view(4, 8, 4, 8).mean(dim=(1, 3))
        for y in range(4):
            for x in range(4):
                cosine = torch.cosine_similarity(context[:, y, x, None, None], other, dim=0)
                weights = (cosine / 0.1).exp()
                expected[k, y, x] = (weights * box).sum() / weights.sum()
    enlarged = F.interpolate(expected[None], 32, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(maps[1], enlarged, rtol=0, atol=1e-5)
    assert not torch.allclose(maps[1], crops.maps[1].float(), atol=0.1)


@pytest.mark.user_input("value", "`data.max_gap=8` without `method/cross_frame`", "one line with the setting")
def test_pairs_without_a_cross_frame_target_are_an_error():
    views = torch.zeros(2, 2, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(
        ConfigError, match=r"^cross_frame=null: .* different frames; try method/cross_frame=p"
    ):
        make_method().compute_losses(make_cropper()(views, 0))


def test_the_loss_of_equal_frames_is_the_loss_of_images():
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    method = make_method(cross_frame=LabelPropagation(0.1))
    alone = method.compute_losses(make_cropper()(images, 5))
    twice = method.compute_losses(make_cropper()(torch.stack((images, images), dim=1), 5))
    assert alone.keys() == twice.keys()
    for name, value in alone.items():
        assert torch.equal(value, twice[name]), name


@pytest.mark.parametrize(("online_input", "num_calls"), [("exemplars", 2), ("context", 3)])
def test_the_target_encodes_each_frame_once(online_input, num_calls, monkeypatch):
    method = make_method(cross_frame=LabelPropagation(0.1), online_input=online_input)
    frames = torch.from_numpy(moving_scenes.scene(1, 8)).permute(0, 3, 1, 2)
    crops = make_cropper()(torch.stack((frames[[0, 1]], frames[[6, 7]]), dim=1), 0)
    maps, seen = method.target_maps(crops), []
    forward = type(method.target).forward

    def counted(target, *inputs):
        seen.append(inputs[-1].shape)
        return forward(target, *inputs)

    monkeypatch.setattr(type(method.target), "forward", counted)
    monkeypatch.setattr(F, "binary_cross_entropy_with_logits", lambda logits, used: (used - maps).abs().max())
    assert method.compute_losses(crops)["loss"] == 0
    assert len(seen) == num_calls


def test_targets_have_no_gradient_and_the_online_network_has():
    method = make_method(cross_frame=LabelPropagation(0.1))
    frames = torch.from_numpy(moving_scenes.scene(1, 8)).permute(0, 3, 1, 2)
    crops = make_cropper()(torch.stack((frames[[0, 1]], frames[[6, 7]]), dim=1), 0)
    method.compute_losses(crops)["loss"].backward()
    trained = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert any(name.startswith("backbone.") for name in trained)
    assert not any(name.startswith("target.") for name in trained)
