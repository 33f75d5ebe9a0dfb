"""Methods that learn from labels beside their own loss (`labels`): what is classified, and its gradients."""

import functools
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F

from cim_lightning.cropping.correlation_metrics import MeanMapBaseline
from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.cropping.masked_exemplars import MaskedExemplarCropper
from cim_lightning.cropping.masking import MaskedCropper
from cim_lightning.errors import ConfigError
from cim_lightning.methods.cim import CIM
from cim_lightning.methods.mae import MAE
from cim_lightning.methods.masked_cim import MaskedCIM
from cim_lightning.models.decoder import CorrelationDecoder
from cim_lightning.models.masked_backbone import visible_patches
from cim_lightning.models.pixel_decoder import PixelDecoder
from cim_lightning.models.token_correlation import TokenCorrelation

EXEMPLARS = ExemplarCropper(2, context_size=16, exemplar_size=8)
PIXELS = functools.partial(PixelDecoder, width=16, depth=1, num_heads=2, mlp_ratio=2.0)
TOKENS = functools.partial(TokenCorrelation, hidden_dim=12, out_dim=7)
DECODER = functools.partial(CorrelationDecoder, width=16, num_heads=2)
SMALL_CIM = functools.partial(
    CIM, decoder=DECODER, baseline=MeanMapBaseline(loss=0.5, iou=0.25, best_iou=0.375, pointing=0.125)
)
METHODS = {
    "cim": (SMALL_CIM, EXEMPLARS),
    "cim, context": (functools.partial(SMALL_CIM, online_input="context"), EXEMPLARS),
    "masked_cim": (
        functools.partial(MaskedCIM, decoder=PIXELS, tokens=TOKENS),
        MaskedExemplarCropper(EXEMPLARS, 4, 0.5),
    ),
    "mae": (functools.partial(MAE, decoder=PIXELS), MaskedCropper(16, 4, 0.5)),
}
LABELS = torch.tensor([1, -1, 0, 4, -1, 2])


def build(name, vit, **settings):
    torch.manual_seed(0)
    method, cropping = METHODS[name]
    return method(vit(), optim=Mock, **settings), cropping


def classified(model, crops):
    """Return the features of each image by which the online encoder's input is classified."""
    backbone = model.backbone
    if isinstance(model, CIM):
        if model.online_input == "context":
            return backbone(backbone.normalize(crops.context)).pooled
        rows = [backbone(backbone.normalize(crops.exemplars[:, k])).pooled for k in range(2)]
        return (rows[0] + rows[1]) / 2
    images = crops.images if isinstance(model, MAE) else crops.crops.context
    _, visible = visible_patches(crops.mask, crops.num_masked, (4, 4))
    return backbone.forward_visible(backbone.normalize(images), visible)[:, 0]


@pytest.mark.parametrize("name", METHODS)
def test_the_classification_of_online_features_is_added_to_the_loss(vit, views, name):
    plain, cropping = build(name, vit)
    model, _ = build(name, vit, labels=0.5, labels_weight=3.0)
    crops = cropping(views, 0)
    model.prepare(crops, 5)
    torch.manual_seed(1)
    losses = model.compute_batch_losses((crops, LABELS))
    torch.manual_seed(1)
    expected = plain.compute_batch_losses((crops, LABELS))
    logits = model.label_head.classifier(classified(model, crops))
    known = LABELS >= 0
    term = F.cross_entropy(logits[known], LABELS[known], reduction="sum") / (0.5 * 6)
    torch.testing.assert_close(losses["label_loss"], term)
    trained = [p for p in model.backbone.parameters() if p.requires_grad]  # the term trains the encoder
    both = (torch.autograd.grad(x, trained, retain_graph=True) for x in (losses.pop("label_loss"), term))
    torch.testing.assert_close(*both)
    torch.testing.assert_close(losses.pop("loss"), expected.pop("loss") + 3 * term)
    assert losses.keys() == expected.keys()
    assert model.state_dict().keys() - plain.state_dict().keys() == {
        "label_head.classifier.weight",
        "label_head.classifier.bias",
    }


@pytest.mark.parametrize("name", ["cim", "masked_cim", "mae"])
def test_a_batch_without_labels_has_the_loss_and_gradients_of_the_method_alone(vit, views, name):
    plain, cropping = build(name, vit)
    model, _ = build(name, vit, labels=0.5)
    crops = cropping(views, 0)
    model.prepare(crops, 5)
    gradients = []
    for method in (plain, model):
        torch.manual_seed(1)
        losses = method.compute_batch_losses((crops, torch.full((6,), -1)))
        losses["loss"].backward()
        trained = {name: p for name, p in method.named_parameters() if p.requires_grad}
        assert all(p.grad is not None for p in trained.values())
        gradients.append({name: p.grad for name, p in trained.items()})
    assert not gradients[1].pop("label_head.classifier.weight").any()
    assert not gradients[1].pop("label_head.classifier.bias").any()
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", ["cim", "masked_cim", "mae"])
def test_data_without_labels_are_refused(vit, views, name):
    model, cropping = build(name, vit, labels=0.5)
    crops = cropping(views, 0)
    with pytest.raises(ConfigError, match=r"^labels=0\.5: the training images have no labels; "):
        model.prepare(crops, None)
    model.prepare(crops, 5)
    with pytest.raises(ConfigError, match=r"^labels=0\.5: the batches have no labels; "):
        model.compute_batch_losses(crops)


def test_labels_are_learned(vit, views):
    """The labels of random images are learned from some of them, while validation reads all."""
    model, cropping = build("mae", vit, labels=4 / 6)
    crops, everything = cropping(views, 0), torch.tensor([1, 3, 0, 4, 0, 2])
    model.prepare(crops, 5)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(30):
        optimizer.zero_grad()
        model.compute_batch_losses((crops, LABELS))["loss"].backward()
        optimizer.step()
    model.eval()
    assert model.compute_batch_losses((crops, LABELS))["label_accuracy"] == 100
    losses = model.compute_batch_losses((crops, everything))
    assert losses["label_accuracy"] >= 100 * 4 / 6 - 0.1
    assert losses["label_loss"] > model.compute_batch_losses((crops, LABELS))["label_loss"]
