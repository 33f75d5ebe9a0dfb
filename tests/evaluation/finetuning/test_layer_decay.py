"""Learning rates by layer for a ViT and a ResNet, and the schedules by hand."""

import re
from functools import partial

import pytest
import timm.optim
import torch
from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.timm_backbone import TimmBackbone

DEFAULT = {
    "lr": 2.0,
    "layer_decay": 0.5,
    "weight_decay": 0.1,
    "optimizer": partial(torch.optim.AdamW, betas=(0.9, 0.999)),
    "lr_for": None,
    "warmup": 0.25,
    "schedule": "linear",
}
PLAIN = {"positions": "timm", "freeze_patch_embed": False, "init": "timm"}


def optim(**changes) -> LayerDecayOptim:
    return LayerDecayOptim(**DEFAULT | changes)


def lrs_and_decays(backbone: Backbone) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter of timm's model; each must occur once."""
    names = {id(p): name for name, p in backbone.model.named_parameters()}
    groups = optim().groups(backbone, 2.0)
    values = [(names[id(p)], (g["lr"], g["weight_decay"])) for g in groups for p in g["params"]]
    assert sorted(name for name, _ in values) == sorted(names.values())
    return dict(values)


def test_every_block_of_a_vit_has_its_own_learning_rate() -> None:
    kwargs = {"depth": 3, "embed_dim": 12, "num_heads": 2, "dynamic_img_size": True}
    values = lrs_and_decays(TimmBackbone("vit_tiny_patch16_224", kwargs, **PLAIN))
    expected = {"norm": 1.0, "blocks.2": 1.0, "blocks.1": 0.5, "blocks.0": 0.25}
    for name, (lr, _) in values.items():
        (wanted,) = {v for k, v in expected.items() if name.startswith(f"{k}.")} or {0.125}  # the stem
        assert lr == wanted, name
    assert values["blocks.1.attn.qkv.weight"][1] == 0.1
    for name in ("blocks.1.attn.qkv.bias", "blocks.1.norm1.weight", "cls_token", "pos_embed"):
        assert values[name][1] == 0, name


def test_every_block_of_a_resnet_has_its_own_learning_rate() -> None:
    values = lrs_and_decays(TimmBackbone("resnet18", {}, **PLAIN))
    blocks = [f"layer{stage}.{i}." for stage in (4, 3, 2, 1) for i in (1, 0)]
    for power, block in enumerate(blocks, start=1):
        lrs = {lr for name, (lr, _) in values.items() if name.startswith(block)}
        assert lrs == {2.0 * 0.5**power}, block
    assert {values[name][0] for name in ("conv1.weight", "bn1.weight", "bn1.bias")} == {2.0 * 0.5**9}


def test_the_head_has_the_full_learning_rate_and_a_frozen_backbone_none() -> None:
    backbone = TimmBackbone("resnet18", {}, **PLAIN).requires_grad_(False)
    optimizer, schedule = optim()(backbone, nn.Conv2d(2, 3, 1), 16, 8)
    assert [(len(g["params"]), g["initial_lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (1, 2.0, 0),
        (1, 2.0, 0.1),
    ]
    backbone.requires_grad_(True)
    optimizer, schedule = optim()(backbone, nn.Conv2d(2, 3, 1), 16, 8)
    factors = []
    for _ in range(3):
        factors.append({g["lr"] / g["initial_lr"] for g in optimizer.param_groups})
        optimizer.step()
        schedule.step()
    assert factors == [{0.0}, {0.5}, {1.0}]


@pytest.mark.parametrize(
    ("changes", "factors"),
    [
        ({}, [0, 0.5, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0]),
        ({"schedule": "cosine"}, [0, 0.5, 1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873, 0, 0]),
        ({"warmup": 0.0}, [1, 7 / 8]),
    ],
)
def test_the_schedule_by_hand(changes: dict, factors: list[float]) -> None:
    optimizer, schedule = optim(**changes)(TimmBackbone("resnet18", {}, **PLAIN), nn.Linear(2, 2), 16, 8)
    reached = []
    for _ in factors:
        reached.append(schedule.get_last_lr()[-1] / 2.0)
        optimizer.step()
        schedule.step()
    assert reached == pytest.approx(factors, abs=1e-7)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lr", 0.0),
        ("layer_decay", 0.0),
        ("layer_decay", 1.5),
        ("weight_decay", -1.0),
        ("lr_for", 0),
        ("warmup", 2.0),
        ("schedule", "step"),
    ],
)
def test_invalid_settings_raise(setting: str, value: object) -> None:
    message = re.escape(f"{setting}={value}: ")
    with pytest.raises(ConfigError, match=f"^{message}[^\n]*; (try {setting}=|did you mean )[^\n]*$"):
        optim(**{setting: value})


def test_the_optimizer_is_configurable_and_its_learning_rate_scales_with_the_batch() -> None:
    sgd = partial(torch.optim.SGD, momentum=0.7)
    optimizer, _ = optim(optimizer=sgd, lr_for=256)(
        TimmBackbone("resnet18", {}, **PLAIN), nn.Conv2d(2, 3, 1), 64, 8
    )
    assert isinstance(optimizer, torch.optim.SGD)
    assert all(group["momentum"] == 0.7 for group in optimizer.param_groups)
    assert max(group["initial_lr"] for group in optimizer.param_groups) == 2.0 * 64 / 256


def test_the_optimizers_of_the_recipes_update_the_weights() -> None:
    for optimizer_class in (timm.optim.Lamb, partial(timm.optim.Lars, momentum=0.9)):
        head = nn.Linear(3, 2)
        before = head.weight.detach().clone()
        optimizer, schedule = optim(optimizer=optimizer_class, warmup=0.0)(
            TimmBackbone("resnet18", {}, **PLAIN), head, 8, 8
        )
        head(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        schedule.step()
        assert not torch.equal(head.weight, before)
