"""CIM: metrics, gradients and updates of the target."""

import copy
import functools
import math
import re
from unittest import mock

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from cim_lightning.cropping.correlation_metrics import MeanMapBaseline, estimate_mean_map_baseline
from cim_lightning.cropping.exemplars import Crops, ExemplarCropper
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom, image_seeds
from cim_lightning.methods.cim import CIM
from cim_lightning.models.backbone import Features
from cim_lightning.models.decoder import ConvolutionDecoder, CorrelationDecoder
from cim_lightning.models.heads import ContrastiveHead
from cim_lightning.models.target import EmaTarget, SeparateTarget, SharedTarget
from cim_lightning.models.timm_backbone import TimmBackbone
from cim_lightning.optim import AdamWCosine

VIT = {"patch_size": 8, "img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2, "dynamic_img_size": True}
TARGETS = {
    "ema": functools.partial(EmaTarget, momentum=0.9, tied=[]),
    "shared": SharedTarget,
    "separate": SeparateTarget,
}
CROPPING = ExemplarCropper(
    num_exemplars=2,
    scale=[0.05, 0.48],
    ratio=[1 / 3, 3.0],
    rotation=45.0,
    context_size=32,
    exemplar_size=16,
    flip=0.5,
    appearance=None,
)
CONTRAST = functools.partial(ContrastiveHead, hidden_dim=8, out_dim=4, temperature=0.2, weight=1.0)
BASELINE = MeanMapBaseline(loss=0.5, iou=0.25, best_iou=0.375, pointing=0.125)
FROZEN = {
    "backbone.model.pos_embed",
    "backbone.model.patch_embed.proj.weight",
    "backbone.model.patch_embed.proj.bias",
}


def cim(**changes) -> CIM:
    torch.manual_seed(0)
    settings = {
        "backbone": TimmBackbone("vit_tiny_patch16_224", VIT, "sincos", True, "xavier"),
        "decoder": functools.partial(CorrelationDecoder, width=8, depth=1, num_heads=2, mlp_ratio=2.0),
        "target": TARGETS["ema"],
        "optim": AdamWCosine(base_lr=0.1, weight_decay=0.05, betas=[0.9, 0.95], warmup=0.0),
        "baseline": BASELINE,
        "online_input": "exemplars",
        "reduction": "sum",
        "contrast": None,
        "batch_size": 2,
    }
    return CIM(**settings | changes)


def crops(b: int = 3, seed: int = 0, cropping: ExemplarCropper = CROPPING) -> Crops:
    generator = torch.Generator().manual_seed(seed)
    return cropping(torch.randint(0, 256, (b, 3, 40, 40), dtype=torch.uint8, generator=generator), seed)


class FixedDecoder(torch.nn.Module):
    """A decoder that always returns the same logits."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = logits

    def forward(self, context, exemplars, size) -> torch.Tensor:
        return self.logits


def cim_with_logits(logits: torch.Tensor, **changes) -> CIM:
    return cim(decoder=lambda dim: FixedDecoder(logits), **changes)


# --- gradients ---


@pytest.mark.parametrize("contrast", [None, CONTRAST], ids=["alone", "contrast"])
@pytest.mark.parametrize("online_input", ["exemplars", "context"])
@pytest.mark.parametrize("target", TARGETS)
def test_gradients_reach_exactly_the_trainable_parameters(target, online_input, contrast):
    method = cim(target=TARGETS[target], online_input=online_input, contrast=contrast)
    method.compute_losses(crops())["loss"].backward()
    without = {name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()}
    frozen = FROZEN | {
        f"target.network.{name.removeprefix('backbone.')}" for name in FROZEN if target == "separate"
    }
    if target == "ema":
        frozen |= {name for name, _ in method.named_parameters() if "target." in name}
    assert without == frozen
    assert {name for name, p in method.named_parameters() if not p.requires_grad} == frozen


@pytest.mark.parametrize("decoder", [CorrelationDecoder, ConvolutionDecoder])
@pytest.mark.parametrize("online_input", ["exemplars", "context"])
@pytest.mark.parametrize("target", TARGETS)
def test_every_trainable_parameter_gets_a_gradient_if_pooling_has_parameters(target, online_input, decoder):
    """DDP fails if a gradient is None instead of zero."""
    convnext = TimmBackbone("convnext_atto", {"depths": [1] * 4, "dims": [8] * 4}, "timm", False, "timm")
    heads = {"num_heads": 2} if decoder is CorrelationDecoder else {}
    build_decoder = functools.partial(decoder, width=8, depth=1, mlp_ratio=2.0, **heads)
    cropping = ExemplarCropper(
        2, [0.05, 0.48], [1 / 3, 3.0], 45.0, context_size=32, exemplar_size=32, flip=0.5, appearance=None
    )
    method = cim(backbone=convnext, target=TARGETS[target], online_input=online_input, decoder=build_decoder)
    method.compute_losses(crops(cropping=cropping))["loss"].backward()
    assert [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("online_input", ["exemplars", "context"])
def test_each_network_has_its_own_input(online_input, normalize):
    method, batch = cim(online_input=online_input), crops()
    with (
        mock.patch.object(method.backbone, "forward", wraps=method.backbone.forward) as online,
        mock.patch.object(method.target.network, "forward", wraps=method.target.network.forward) as target,
    ):
        method(batch)
    inputs = {"exemplars": normalize(batch.exemplars).flatten(0, 1), "context": normalize(batch.context)}
    torch.testing.assert_close(online.call_args.args[0], inputs.pop(online_input))
    torch.testing.assert_close(target.call_args.args[0], *inputs.values())
    assert online.call_count == target.call_count == 1  # all exemplars in one batch


def test_both_online_inputs_give_the_same_logits_if_the_networks_are_equal():
    batch = crops()
    torch.testing.assert_close(cim(online_input="exemplars")(batch), cim(online_input="context")(batch))


def test_logits_depend_on_their_own_image_and_exemplar_only():
    method, batch = cim(), crops()
    logits = method(batch)
    for i in range(3):
        for j in range(2):
            single = Crops(
                batch.context[i : i + 1],
                batch.exemplars[i : i + 1, j : j + 1],
                batch.maps[i : i + 1, j : j + 1],
                batch.boxes[i : i + 1],
            )
            torch.testing.assert_close(method(single)[0, 0], logits[i, j], atol=1e-5, rtol=1e-5)


# --- numbers ---


def test_the_loss_is_a_mean_over_pixels_and_images_and_a_sum_over_exemplars():
    batch = crops()
    logits = torch.randn(3, 2, 32, 32)
    pixel = -torch.where(batch.maps, torch.sigmoid(logits), 1 - torch.sigmoid(logits)).log()
    summed, mean = (
        cim_with_logits(logits, reduction=reduction).compute_losses(batch) for reduction in ("sum", "mean")
    )
    torch.testing.assert_close(summed["loss"], pixel[:, 0].mean() + pixel[:, 1].mean())
    torch.testing.assert_close(mean["loss"], pixel.mean())
    torch.testing.assert_close(summed["skill"], 1 - pixel.mean() / 0.5)
    assert torch.equal(summed["skill"], mean["skill"])


def test_the_metrics_of_the_baseline_are_logged():
    metrics = cim().compute_losses(crops())
    assert metrics["iou_baseline"] == 0.25
    assert metrics["best_iou_baseline"] == 0.375
    assert metrics["pointing_baseline"] == 0.125
    assert all(value.ndim == 0 for value in metrics.values())


def test_the_mean_map_has_skill_0_and_the_true_map_1():
    maps = CROPPING.boxes.sample(2, (32, 32), ImageRandom(image_seeds(5, 1000))).rasterize(32, 32)
    baseline, batch = estimate_mean_map_baseline(CROPPING), crops(1000)
    batch = batch._replace(maps=maps)
    share = maps.float().mean(dim=(0, 1))
    logit = torch.logit(share, eps=1e-4).expand(1000, 2, 32, 32)

    unused = Features(torch.zeros(1, 1), torch.zeros(1, 1, 1, 1))

    def compute_metrics(logits):
        method = cim_with_logits(logits, baseline=baseline)
        with mock.patch.object(method, "_encode", return_value=(unused, unused)):
            return method.compute_losses(batch)

    assert compute_metrics(logit)["skill"].item() == pytest.approx(0, abs=0.02)
    assert compute_metrics(logit)["iou"].item() == pytest.approx(baseline.iou, abs=0.02)
    assert compute_metrics(logit)["pointing"].item() == pytest.approx(baseline.pointing, abs=0.03)
    perfect = compute_metrics(40 * maps.float() - 20)
    assert perfect["skill"].item() == pytest.approx(1, abs=1e-5)
    assert perfect["iou"] == perfect["pointing"] == 1


@pytest.mark.parametrize(("reduction", "factor"), [("sum", 2), ("mean", 1)])
def test_the_contrastive_term_is_reduced_over_the_two_exemplars_like_the_map_loss(
    normalize, reduction, factor
):
    batch = crops()
    without = cim(reduction=reduction).compute_losses(batch)["loss"]
    method = cim(contrast=functools.partial(CONTRAST, weight=0.5), reduction=reduction)
    metrics = method.compute_losses(batch)
    torch.testing.assert_close(metrics["loss"], without + factor * metrics["contrast"])
    online = method.backbone(normalize(batch.exemplars).flatten(0, 1)).pooled
    keys = method.contrast_target.network(method.target.network(normalize(batch.context)).pooled)
    torch.testing.assert_close(metrics["contrast"], method.contrast(online, keys))
    method.contrast.weight = 1.0
    torch.testing.assert_close(metrics["contrast"], 0.5 * method.contrast(online, keys))


# --- the target ---


def test_every_target_is_updated_with_its_own_network():
    method = cim(contrast=CONTRAST)
    update, update_head = (mock.Mock(return_value={"momentum": 0.5}) for _ in range(2))
    method.target.update, method.contrast_target.update = update, update_head
    method.update_target(0.25)
    for called, network in ((update, method.backbone), (update_head, method.contrast.projector)):
        (online, progress, applied), _ = called.call_args
        assert online is network
        assert progress == 0.25
        assert applied is None  # there was no optimizer step
    assert method.step_metrics.to_host() == {"train/momentum": 0.5}


class TinyCrops(L.LightningDataModule):
    """Sixteen images of noise. The loader yields seeds; the crops are made after the batch transfer."""

    def train_dataloader(self):
        return DataLoader(range(8), batch_size=None)

    def val_dataloader(self):
        return DataLoader([99], batch_size=None)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return crops(2, batch), torch.zeros(2)


class Recorder(L.Callback):
    """Records the online weights after each optimizer step, and the target after each batch."""

    def __init__(self):
        self.progress, self.online, self.target = [], [], []

    def on_fit_start(self, trainer, method):
        self.start = copy.deepcopy(method.backbone.state_dict())
        self.update_target = method.update_target
        method.update_target = functools.partial(self.record, method)

    def record(self, method, progress):
        self.progress.append(progress)
        self.online.append(copy.deepcopy(method.backbone.state_dict()))
        self.update_target(progress)

    def on_train_batch_end(self, trainer, method, *_):
        self.target.append(copy.deepcopy(method.target.network.state_dict()))


@pytest.mark.filterwarnings("ignore:Found .* in eval mode", "ignore:.*does not have many workers")
def test_the_target_is_updated_once_per_optimizer_step_under_accumulation(tmp_path):
    recorder, method = Recorder(), cim(target=functools.partial(EmaTarget, momentum=0.6, tied=[]))
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=2,
        callbacks=[recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(method, datamodule=TinyCrops())
    assert trainer.global_step == 4
    assert recorder.progress == [0.25, 0.5, 0.75, 1]
    name = "model.blocks.1.mlp.fc1.weight"
    expected, targets = recorder.start[name], []
    for progress, online in zip(recorder.progress, recorder.online, strict=True):
        momentum = 1 - 0.4 * (1 + math.cos(math.pi * progress)) / 2
        expected = momentum * expected + (1 - momentum) * online[name]
        targets.append(expected)
    moved = [state[name] for state in recorder.target]
    assert torch.equal(moved[0], recorder.start[name])  # no update after the first of two accumulated batches
    for step, batch in enumerate((1, 3, 5, 7)):
        torch.testing.assert_close(moved[batch], targets[step], atol=1e-6, rtol=1e-6)
        assert batch == 7 or torch.equal(moved[batch], moved[batch + 1])
    assert (targets[0] - recorder.start[name]).abs().max() > 1e-5
    assert method.global_batch_size == 4  # 2 images x 2 batches x 1 device


def test_the_loss_falls_below_chance_on_one_batch():
    method, batch = cim(reduction="mean"), crops()
    optimizer, _ = AdamWCosine(1e-2, 0.0, [0.9, 0.95], 0.0)(method, 256, 60)
    losses = []
    for _ in range(60):
        loss = method.compute_losses(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    chance = F.binary_cross_entropy(batch.maps.float().mean().expand(1), batch.maps.float().mean().expand(1))
    assert losses[-1] < 0.7 * chance < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (
            {"online_input": "contexts"},
            "online_input=contexts: must be one of exemplars, context; did you mean context?",
        ),
        ({"reduction": "max"}, "reduction=max: must be one of sum, mean; did you mean mean?"),
    ],
)
def test_a_mistake_gets_one_line_with_the_choices(mistake, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        cim(**mistake)


def test_without_contrast_there_is_one_target():
    assert len(cim().target_pairs()) == 1
    assert len(cim(contrast=CONTRAST).target_pairs()) == 2
