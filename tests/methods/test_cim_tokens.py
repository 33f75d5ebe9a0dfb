"""CIM with token correlation: places, terms of the loss, gradients and targets."""

import functools

import pytest
import torch
from torch import nn

from cim_lightning.cropping.correlation_metrics import MeanMapBaseline
from cim_lightning.cropping.exemplars import Crops, ExemplarCropper
from cim_lightning.cropping.places import exemplar_places
from cim_lightning.errors import ConfigError
from cim_lightning.methods.cim import CIM
from cim_lightning.models.decoder import CorrelationDecoder
from cim_lightning.models.label_propagation import LabelPropagation
from cim_lightning.models.module_backbone import ModuleBackbone
from cim_lightning.models.target import EmaTarget, SeparateTarget, SharedTarget
from cim_lightning.models.timm_backbone import TimmBackbone
from cim_lightning.models.token_correlation import TokenCorrelation
from cim_lightning.optim import AdamWCosine

VIT = {"patch_size": 8, "img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2, "dynamic_img_size": True}
BASELINE = MeanMapBaseline(loss=0.5, iou=0.25, best_iou=0.375, pointing=0.125)
TARGETS = {
    "ema": functools.partial(EmaTarget, momentum=0.9),
    "shared": SharedTarget,
    "separate": SeparateTarget,
}
TOKENS = functools.partial(TokenCorrelation, hidden_dim=12, out_dim=8)
DECODER = functools.partial(CorrelationDecoder, width=8, depth=1, num_heads=2, mlp_ratio=2.0)
CROPPING = ExemplarCropper(2, context_size=40, exemplar_size=16, appearance=None)


def cim(**changes) -> CIM:
    torch.manual_seed(0)
    backbone = TimmBackbone("vit_tiny_patch16_224", VIT, "sincos", True, "xavier")
    settings = {"backbone": backbone, "decoder": None, "target": TARGETS["ema"], "baseline": BASELINE}
    return CIM(**settings | {"tokens": TOKENS, "batch_size": 2} | changes)


def crops(b: int = 3, cropping: ExemplarCropper = CROPPING) -> Crops:
    generator = torch.Generator().manual_seed(0)
    return cropping(torch.randint(0, 256, (b, 3, 40, 40), dtype=torch.uint8, generator=generator), 0)


class PositionCode(nn.Module):
    """Features of an image of coordinates: a Gaussian about the mean (x, y) of each patch of 8 pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = nn.functional.avg_pool2d(images, 8)[..., None]
        centers = torch.linspace(0, 0.4, 21)
        x, y = (torch.exp(-(((axis - centers) / 0.02) ** 2)) for axis in (mean[:, 0], mean[:, 1]))
        return (x[..., None] * y[..., None, :]).flatten(-2).movedim(-1, 1)


@pytest.mark.parametrize("online_input", ["exemplars", "context"])
def test_features_that_know_their_position_find_the_place_of_every_token(online_input):
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    views = torch.stack((x, y, x)).to(torch.uint8).expand(4, -1, -1, -1)
    batch = ExemplarCropper(5, context_size=96, exemplar_size=24, appearance=None)(views, 3)
    assert 0 < batch.flipped.sum() < 20
    backbone = ModuleBackbone(PositionCode(), 441, 8, mean=[0, 0, 0], std=[1, 1, 1])
    method = cim(backbone=backbone, target=SharedTarget, online_input=online_input)
    method.tokens.correlation.projector = nn.Identity()
    metrics = method.eval().compute_losses(batch)
    assert metrics["token_accuracy"] > 0.99
    assert metrics["iou"] > 0.8
    assert metrics["pointing"] == 1


@pytest.mark.parametrize("online_input", ["exemplars", "context"])
def test_the_queries_are_exemplar_tokens_and_the_keys_context_tokens(online_input, normalize):
    method, batch = cim(online_input=online_input), crops()
    nn.init.normal_(method.tokens.target.network[0].weight)  # unlike the online projector
    nn.init.normal_(method.target.network.model.norm.weight)
    online = method.backbone, method.tokens.correlation.projector
    target = method.target.network, method.tokens.target.network
    (encode_exemplars, project_queries), (encode_context, project_keys) = (
        (online, target) if online_input == "exemplars" else (target, online)
    )
    queries = torch.stack(  # one exemplar at a time
        [
            torch.stack(
                [
                    project_queries(encode_exemplars(image[None]).grid[0].flatten(1).T)
                    for image in normalize(exemplars)
                ]
            )
            for exemplars in batch.exemplars
        ]
    )
    contexts = [encode_context(image[None]).grid[0] for image in normalize(batch.context)]
    keys = torch.stack([project_keys(context.flatten(1).T) for context in contexts])
    places = exemplar_places(batch, (2, 2), (5, 5))
    expected = method.tokens.correlation(queries, keys, places)
    metrics = method.compute_losses(batch)
    torch.testing.assert_close(metrics["tokens"], expected)
    torch.testing.assert_close(metrics["loss"], 2 * expected)  # a sum over the two exemplars
    assert "token_accuracy" not in metrics
    accuracy = method.tokens.correlation.accuracy(queries, keys, places)
    assert method.eval().compute_losses(batch)["token_accuracy"] == accuracy


@pytest.mark.parametrize("decoder", [None, DECODER], ids=["tokens", "both"])
@pytest.mark.parametrize("online_input", ["exemplars", "context"])
@pytest.mark.parametrize("target", TARGETS)
def test_gradients_reach_exactly_the_trainable_parameters(target, online_input, decoder):
    method = cim(target=TARGETS[target], online_input=online_input, decoder=decoder)
    method.compute_losses(crops())["loss"].backward()
    without = {name for name, p in method.named_parameters() if p.grad is None}
    assert without == {name for name, p in method.named_parameters() if not p.requires_grad}
    zero = {name for name, p in method.named_parameters() if p.requires_grad and not p.grad.any()}
    assert zero == set()
    assert any(name.startswith("tokens.") for name, p in method.named_parameters() if p.requires_grad)


def test_with_a_decoder_the_token_loss_is_added_to_the_map_loss_with_its_weight():
    batch = crops()
    maps = cim(decoder=DECODER, tokens=None).compute_losses(batch)
    both = cim(decoder=DECODER, tokens=functools.partial(TOKENS, weight=0.5), reduction="mean")
    metrics = both.compute_losses(batch)
    torch.testing.assert_close(metrics["loss"], maps["loss"] / 2 + metrics["tokens"])
    assert metrics["skill"] == maps["skill"]
    both.tokens.correlation.weight = 1.0
    torch.testing.assert_close(both.compute_losses(batch)["tokens"], 2 * metrics["tokens"])


def test_without_a_decoder_the_maps_are_those_of_the_tokens():
    method, batch = cim(), crops()
    logits = method(batch)
    assert logits.shape == batch.maps.shape
    assert logits.isfinite().all()
    assert not logits.requires_grad
    metrics = method.compute_losses(batch)
    assert "skill" not in metrics
    assert metrics["pointing_baseline"] == 0.125
    single = Crops(*(None if part is None else part[1:2] for part in batch))
    torch.testing.assert_close(method(single)[0], logits[1], atol=1e-3, rtol=1e-3)


def test_the_projector_of_the_target_follows_the_online_one():
    method = cim()
    online, target = method.tokens.correlation.projector[0].weight, method.tokens.target.network[0].weight
    assert torch.equal(online, target)
    with torch.no_grad():
        online += 1
    before = target.clone()
    method.update_target(1e-9)
    torch.testing.assert_close(target, 0.9 * before + 0.1 * online)


@pytest.mark.parametrize("online_input", ["exemplars", "context"])
def test_the_tokens_of_one_batch_are_learned(online_input):
    method, batch = cim(online_input=online_input, reduction="mean"), crops(4)
    optimizer, _ = AdamWCosine(1e-2, 0.0, [0.9, 0.95], 0.0)(method, 256, 60)
    first = method.eval().compute_losses(batch)
    method.train()
    for _ in range(60):
        optimizer.zero_grad()
        method.compute_losses(batch)["loss"].backward()
        optimizer.step()
        method.target.update(method.backbone, 0.5)
        method.tokens.target.update(method.tokens.correlation.projector, 0.5)
    last = method.eval().compute_losses(batch)
    assert last["tokens"] < first["tokens"] - 1
    assert last["token_accuracy"] > 2 * first["token_accuracy"]


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"tokens": None}, r"^decoder=null: there is no loss .* or tokens; try method/tokens=correlation"),
        (
            {"cross_frame": LabelPropagation()},
            r"^cross_frame=LabelPropagation: does not work with tokens; leave one",
        ),
    ],
)
def test_a_mistake_gets_one_line(mistake, message):
    with pytest.raises(ConfigError, match=message):
        cim(**mistake)


def test_pairs_of_frames_are_refused():
    views = torch.randint(0, 256, (2, 2, 3, 40, 40), dtype=torch.uint8)
    with pytest.raises(ConfigError, match=r"of the same frame; try data\.max_gap=0$"):
        cim().compute_losses(CROPPING(views, 0))
