"""Weights of a run: those of the backbone that its method evaluates."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from cim_lightning.checkpoint import PlainWeights, read_weights
from cim_lightning.formats.timm_format import TimmFormat
from cim_lightning.methods.cim import CIM
from cim_lightning.methods.dino import DINO
from cim_lightning.methods.mae import MAE
from cim_lightning.methods.method import Method
from cim_lightning.models.heads import DINOHead
from cim_lightning.models.timm_backbone import TimmBackbone
from cim_lightning.weights.match import match
from cim_lightning.weights.reader import read_state

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}


def build(kind: str) -> Method:
    backbone = TimmBackbone("vit_tiny_patch16_224", SMALL)
    if kind == "mae":
        return MAE(backbone)
    return DINO(backbone, head=lambda dim: DINOHead(dim, hidden_dim=8, bottleneck_dim=4, out_dim=8))


def save_run(method: Method, folder: Path, old: bool = False) -> Path:
    """Write a checkpoint as Lightning does; `old`: as before methods recorded what they evaluate."""
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn_like(parameter))  # an EMA copy that differs from the online network
    content = {"state_dict": method.state_dict(), "hyper_parameters": {"method": {}, "data": {}}}
    content |= {"pytorch-lightning_version": "2.6.0", "optimizer_states": [{}], "global_step": 3}
    method.on_save_checkpoint(content)
    if old:
        del content["eval_backbone"]
    path = folder / "checkpoints" / "last.ckpt"
    path.parent.mkdir()
    torch.save(content, path)
    return path


def test_a_checkpoint_of_another_trainer_names_the_evaluated_backbone_too(tmp_path):
    """Without settings of `cim-pretrain`; CIM evaluates the online backbone, not its EMA copy."""
    method = CIM(TimmBackbone("vit_tiny_patch16_224", SMALL))
    content = {"state_dict": method.state_dict(), "pytorch-lightning_version": "2.6.0"}
    method.on_save_checkpoint(content)
    torch.save(content, tmp_path / "a.ckpt")
    state = read_state(str(tmp_path / "a.ckpt"), method.backbone.timm_model())
    assert state.notes == ["state_dict.backbone.model"]


@pytest.mark.parametrize("kind", ["mae", "dino"])
@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.user_input(
    "weights", "a run of `cim-pretrain`: folder or checkpoint", "the backbone that it evaluates"
)
def test_the_evaluated_backbone_is_read(kind, is_folder, tmp_path):
    method = build(kind)
    path = save_run(method, tmp_path)
    model = TimmBackbone("vit_tiny_patch16_224", SMALL).timm_model()
    state = read_state(str(tmp_path if is_folder else path), model)
    assert (state.path, state.layout) == (path, "run of cim-pretrain")
    assert (method.eval_backbone is method.backbone) == (kind == "mae")
    assert state.notes == (
        ["state_dict.backbone.model"] if kind == "mae" else ["EMA weights (state_dict.target.network.model)"]
    )
    expected = method.eval_backbone.timm_model().state_dict()
    found = match(state, model.state_dict(), "vit")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_older_run_has_the_online_backbone(tmp_path):
    method = build("dino")
    path = save_run(method, tmp_path, old=True)
    online = method.backbone.timm_model()
    found = match(read_state(str(path), online), online.state_dict(), "vit")
    assert all(torch.equal(found[name], tensor) for name, tensor in online.state_dict().items())
    state = read_state(str(path), online, "state_dict.target.")
    expected = method.eval_backbone.timm_model().state_dict()
    assert torch.equal(state.tensors["cls_token"], expected["cls_token"])


def test_an_older_run_with_an_export_has_the_evaluated_backbone(tmp_path):
    method = build("dino")
    path = save_run(method, tmp_path, old=True)
    TimmFormat(0).write(method.eval_backbone, 32, tmp_path)
    evaluated = method.eval_backbone.timm_model()
    for source in (path, tmp_path):
        found = match(read_state(str(source), evaluated), evaluated.state_dict(), "vit")
        assert all(torch.equal(found[name], t) for name, t in evaluated.state_dict().items())


def test_another_checkpoint_of_an_older_run_is_not_replaced_by_the_export(tmp_path):
    method = build("mae")
    best = save_run(method, tmp_path, old=True).rename(tmp_path / "checkpoints" / "best.ckpt")
    TimmFormat(0).write(TimmBackbone("vit_tiny_patch16_224", SMALL), 32, tmp_path)  # of the last checkpoint
    expected = method.backbone.timm_model()
    state = read_state(str(best), expected)
    assert state.path == best
    assert all(torch.equal(state.tensors[name], t) for name, t in expected.state_dict().items())


@pytest.mark.user_input(
    "weights", "solo-learn: a checkpoint with a setting `method`", "loaded, and not taken for a run"
)
@pytest.mark.parametrize(
    "settings", [{"method": "byol", "data": "x"}, argparse.Namespace(method="byol"), None]
)
def test_settings_of_other_programs_are_no_run(settings, tmp_path):
    model = TimmBackbone("vit_tiny_patch16_224", SMALL).timm_model()
    content: dict[str, Any] = {"pytorch-lightning_version": "1.9.0", "hyper_parameters": settings}
    content["state_dict"] = {f"backbone.{name}": tensor for name, tensor in model.state_dict().items()}
    content["state_dict"]["projector.0.weight"] = torch.ones(2)
    torch.save(content, tmp_path / "a.ckpt")
    assert read_state(str(tmp_path / "a.ckpt"), model).layout == "Lightning (solo-learn)"
    assert isinstance(read_weights(str(tmp_path / "a.ckpt")), PlainWeights)


@pytest.mark.user_input("weights", "an exported backbone: folder or `backbone.safetensors`", "loaded")
def test_an_exported_backbone_is_read(tmp_path):
    backbone = TimmBackbone("vit_tiny_patch16_224", SMALL)
    TimmFormat(0).write(backbone, 32, tmp_path)
    expected = backbone.timm_model().state_dict()
    for path in (tmp_path, tmp_path / "backbone.safetensors"):
        found = match(read_state(str(path), backbone.timm_model()), expected, "vit")
        assert all(torch.equal(found[name], expected[name]) for name in expected)
