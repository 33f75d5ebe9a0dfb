"""Masked CIM: losses against a transcription, what the encoders see, gradients and targets."""

import functools
import math
from unittest.mock import Mock

import pytest
import torch

from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.cropping.masked_exemplars import MaskedCrops, MaskedExemplarCropper
from cim_lightning.errors import ConfigError
from cim_lightning.methods.masked_cim import MaskedCIM
from cim_lightning.models.alignment import Alignment
from cim_lightning.models.coding_rate import CodingRate
from cim_lightning.models.module_backbone import ModuleBackbone
from cim_lightning.models.pixel_decoder import PixelDecoder
from cim_lightning.models.target import EmaTarget
from cim_lightning.models.token_correlation import TokenCorrelation

CROPPING = MaskedExemplarCropper(ExemplarCropper(2, context_size=16, exemplar_size=8), 4, 0.5)
SETTINGS = {
    "decoder": functools.partial(PixelDecoder, width=16, depth=1, num_heads=2, mlp_ratio=2.0),
    "tokens": functools.partial(TokenCorrelation, hidden_dim=12, out_dim=7, temperature=0.5),
    "target": functools.partial(EmaTarget, momentum=0.9),
    "rate": CodingRate(0.3, 0.2),
    "alignment": Alignment(0.7),
    "optim": Mock,
}


def masked_cim(backbone, **changes) -> MaskedCIM:
    torch.manual_seed(3)
    model = MaskedCIM(backbone, **SETTINGS | changes)
    for target, _ in model.target_pairs():
        for parameter in target.network.parameters():
            parameter.data += 0.01  # the targets differ from the online networks
    return model


def place(batch: MaskedCrops, b: int, k: int, n: int) -> list[float]:
    """Return the bilinear weights of the 4 x 4 patches of the context for token n of an exemplar."""
    boxes = batch.crops.boxes
    (width, height), angle = boxes.size[b, k].tolist(), boxes.angle[b, k].item()
    x, y = ((n % 2 + 0.5) / 2 - 0.5) * width, ((n // 2 + 0.5) / 2 - 0.5) * height
    x = -x if batch.crops.flipped[b, k] else x
    right = boxes.center[b, k, 0].item() + math.cos(angle) * x - math.sin(angle) * y
    down = boxes.center[b, k, 1].item() + math.sin(angle) * x + math.cos(angle) * y
    column, row = (min(max(value * 4 / 20 - 0.5, 0), 3) for value in (right, down))  # views of 20 pixels
    return [max(1 - abs(row - m // 4), 0) * max(1 - abs(column - m % 4), 0) for m in range(16)]


@pytest.mark.parametrize("pixel_weight", [0.0, 3.0])
def test_the_loss_is_that_of_a_transcription(vit, views, normalize, pixel_weight):
    model, batch = masked_cim(vit(), pixel_weight=pixel_weight), CROPPING(views, 0)
    context = normalize(batch.crops.context)
    visible = torch.stack([(~mask).flatten().nonzero().flatten() for mask in batch.mask])
    tokens = model.backbone.forward_visible(context, visible)
    filled = model.decoder.fill_in(tokens, visible, (4, 4))
    keys = model.tokens.correlation.projector(model.expand(filled)).flatten(0, 1)
    keys = [[value / key.norm().item() for value in key.tolist()] for key in keys]
    total = 0.0
    for b in range(6):
        for k in range(2):
            grid = model.target.network(normalize(batch.crops.exemplars[b, k : k + 1])).grid[0]
            for n in range(4):
                query = model.tokens.target.network(grid[:, n // 2, n % 2])
                query = (query / query.norm()).tolist()
                logits = [sum(q * v for q, v in zip(query, key, strict=True)) / 0.5 for key in keys]
                normalizer = math.log(sum(map(math.exp, logits)))
                own = logits[16 * b : 16 * b + 16]
                total += normalizer - sum(map(math.prod, zip(own, place(batch, b, k, n), strict=True)))
    losses = model.compute_losses(batch)
    assert losses["tokens"].item() == pytest.approx(total / (6 * 2 * 4), rel=1e-4)
    # The pixels of a patch have the same order in the images and in the prediction.
    patches = torch.nn.functional.pixel_unshuffle(context, 4).flatten(2).transpose(1, 2)
    patches = (patches - patches.mean(-1, True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    errors = (model.decoder.head(filled) - patches).square()[batch.mask.flatten(1)]
    assert losses["pixels"].item() == pytest.approx(errors.mean().item(), rel=1e-5)
    features = (tokens[:, 0], tokens[:, 1:].mean(dim=1))
    rate = sum(CodingRate(0.3, 0.2)(vectors) for vectors in features)
    assert losses["coding_rate"].item() == pytest.approx(rate.item(), rel=1e-5)
    aligned = 0.0
    for features, kind in ((tokens[:, 0], "pooled"), (tokens[:, 1:].mean(dim=1), "mean")):
        exemplars = model.target.network(normalize(batch.crops.exemplars).flatten(0, 1)).get(kind)
        exemplars, features = exemplars - exemplars.mean(dim=0), features - features.mean(dim=0)
        cosines = torch.cosine_similarity(exemplars, features.repeat_interleave(2, dim=0))
        aligned += 1 - cosines.mean()
    assert losses["alignment"].item() == pytest.approx(aligned.item(), rel=1e-5)
    expected = losses["tokens"] + pixel_weight * losses["pixels"] - 0.3 * rate + 0.7 * aligned
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_masked_patches_reach_only_the_pixels_to_predict(vit, views):
    model, batch = masked_cim(vit()), CROPPING(views, 0)
    before = model.compute_losses(batch)
    masked = batch.mask.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    changed = torch.where(masked, 1 - batch.crops.context, batch.crops.context)
    after = model.compute_losses(batch._replace(crops=batch.crops._replace(context=changed)))
    torch.testing.assert_close(after["tokens"], before["tokens"])
    assert abs(after["pixels"] - before["pixels"]) > 1e-3


LEFT_OUT = [  # terms, and what then has no gradient above 0
    ({"pixel_weight": 0.0}, {"decoder.head."}),
    ({"tokens": None}, set()),
    ({"rate": None, "alignment": None}, set()),
    ({"tokens": None, "rate": None, "alignment": None}, set()),
    ({"tokens": None, "pixel_weight": 0.0}, {"decoder."}),
]


@pytest.mark.parametrize(("changes", "unused"), LEFT_OUT)
def test_gradients_reach_every_trained_parameter_and_no_target(vit, views, changes, unused):
    """DDP requires a gradient of every parameter, also of those of a term that is left out."""
    model = masked_cim(vit(), **changes)
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name, p in trained.items() if p.grad is None} == set()
    zero = {name for name, p in trained.items() if not p.grad.any()}
    assert zero == {name for name in trained if name.startswith(tuple(unused))}
    targets = [p for target, _ in model.target_pairs() for p in target.parameters()]
    assert targets
    assert all(parameter.grad is None for parameter in targets)


def test_terms_can_be_left_out(vit, views):
    batch = CROPPING(views, 0)
    losses = masked_cim(vit(), rate=None, alignment=None).compute_losses(batch)
    assert not {"coding_rate", "alignment"} & losses.keys()
    assert losses["loss"].item() == pytest.approx((losses["tokens"] + losses["pixels"]).item())
    model = masked_cim(vit(), tokens=None, rate=None, alignment=None, pixel_weight=2.0)
    losses = model.compute_losses(batch)
    assert losses.keys() == {"loss", "pixels"}
    assert losses["loss"].item() == pytest.approx(2 * losses["pixels"].item())
    assert not model.predicts_maps
    assert len(model.target_pairs()) == 1


def test_both_targets_follow(vit, views, detach_from_trainer):
    model = MaskedCIM(vit(), **SETTINGS)
    optimizer = detach_from_trainer(model)
    start = {name: p.clone() for name, p in model.tokens.correlation.projector.named_parameters()}
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    optimizer.step()
    model.update_target(1e-9)
    for name, online in model.tokens.correlation.projector.named_parameters():
        copy = dict(model.tokens.target.network.named_parameters())[name]
        torch.testing.assert_close(copy, 0.9 * start[name] + 0.1 * online)


def test_forward_returns_a_map_for_each_exemplar(vit, views):
    batch = CROPPING(views, 0)
    assert masked_cim(vit())(batch).shape == batch.crops.maps.shape


@pytest.mark.parametrize(("size", "parameter"), [((18, 8), "context_size"), ((16, 6), "exemplar_size")])
def test_sizes_that_are_not_whole_patches_are_refused(vit, views, size, parameter):
    cropping = MaskedExemplarCropper(ExemplarCropper(2, context_size=size[0], exemplar_size=size[1]), 2, 0.5)
    with pytest.raises(ConfigError, match=f"{parameter}=.*whole patches of 4 pixels"):
        masked_cim(vit()).prepare(cropping(views, 0), None)


def test_a_backbone_without_patches_is_refused():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, 4))
    with pytest.raises(ConfigError, match="cannot skip patches"):
        masked_cim(ModuleBackbone(network, dim=8, patch_size=4))
