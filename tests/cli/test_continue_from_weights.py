"""Runs that start from existing weights: every method, resume, evaluation and export."""

import csv
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file, save_file

from cim_lightning import api
from cim_lightning.config.compose import CONF
from cim_lightning.errors import ConfigError
from cim_lightning.models.timm_backbone import TimmBackbone

METHODS = sorted(file.stem for file in (CONF / "method").glob("*.yaml"))
VIT = {"patch_size": 4, "img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 4, "dynamic_img_size": True}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of the backbone of the fixture `tiny`."""
    torch.manual_seed(1)
    path = tmp_path / "weights" / "vit.safetensors"
    path.parent.mkdir()
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT).state_dict(), path)
    return path


@pytest.fixture
def tiny_method(tiny: list[str], method_overrides: dict[str, list[str]]):
    """Return the overrides of a small run of a method."""

    def overrides(method: str) -> list[str]:
        of_cim = ("cropping=", "decoder.", "optim.")
        common = [override for override in tiny if not override.startswith(of_cim)]
        return [f"method={method}", *common, *method_overrides[method]]

    return overrides


def assert_starts_there(model: torch.nn.Module, file: Path) -> None:
    saved = load_file(file)
    assert model.state_dict().keys() == saved.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.cpu(), saved[name]), name


@pytest.mark.user_input(
    "weights", "backbone.weights=FILE for every method", "online and EMA backbone start there"
)
@pytest.mark.parametrize("method", METHODS)
def test_every_backbone_of_every_method_starts_at_the_weights(
    method, tiny_method, file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run = api.compose(*tiny_method(method), f"backbone.weights={file}")
    backbones = [module for module in run.method.modules() if isinstance(module, TimmBackbone)]
    targets = [online for _, online in run.method.target_pairs() if isinstance(online, TimmBackbone)]
    assert len(backbones) == 1 + len(targets)
    assert any(backbone is run.method.eval_backbone for backbone in backbones)
    for backbone in backbones:
        assert_starts_there(backbone.timm_model(), file)


class Stop(Exception):
    """Raised inside a run."""


class StopAt(L.Callback):
    """Raises after a training step."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise Stop


def test_a_resumed_run_equals_the_uninterrupted_one_without_the_file(tiny, run_pretrain, file, tmp_path):
    arguments = [*tiny, f"backbone.weights={file}"]
    run_pretrain(*arguments, "output_dir=straight")
    with pytest.raises(Stop):
        run_pretrain(*arguments, "output_dir=run", f"+callbacks.stop={{_target_:{__name__}.StopAt,step:7}}")
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["weights"]
    assert recorded["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert recorded["path"] == str(file)
    file.unlink()
    run_pretrain(*arguments, "output_dir=run")
    straight, resumed = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("straight", "run")
    )
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["weights"] == recorded
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert settings["backbone"]["weights"] == str(file)

    # Nothing that reads the run needs the file.
    assert api.load(tmp_path / "run").backbone.loaded_weights is None
    exported = api.load_backbone(tmp_path / "run" / "backbone.safetensors")
    bias = exported.timm_model().state_dict()["norm.bias"]
    assert torch.equal(bias, straight["backbone.model.norm.bias"])


def test_a_run_starts_at_the_accuracy_of_its_weights(
    tiny, run_pretrain, run_evaluate, file, photos, tmp_path, capfd
):
    run_pretrain(*tiny, f"backbone.weights={file}", "output_dir=run", "trainer.max_epochs=1")
    assert re.search(
        r"weights: timm \(\S+vit\.safetensors\): (\d+) of \1 tensors$", capfd.readouterr().out, re.MULTILINE
    )
    with (tmp_path / "run" / "metrics.csv").open() as text:
        first = next(csv.DictReader(text))
    data = ["data=folder", f"data.root={photos}", "data.view_size=32", "data.num_workers=0"]
    architecture = [argument for argument in tiny if "backbone" in argument]
    knn = ["evaluation=knn", "evaluation.knn.ks=[20]", "trainer=cpu"]
    metrics = run_evaluate("out", f"checkpoint={file}", *architecture, *data, *knn)
    assert first["step"] == "0"
    assert float(first["val/knn"]) == pytest.approx(metrics["knn/mean_k20"], rel=1e-6)
    assert float(first["val/knn_pooled"]) == pytest.approx(metrics["knn/pooled_k20"], rel=1e-6)


@pytest.mark.user_input(
    "weights", "weights of a ViT with LayerScale", "one line; its arguments can be copied into the command"
)
def test_the_arguments_in_a_refusal_can_be_copied(tiny, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT, init_values=0.1, qk_norm=True)
    save_file(model.state_dict(), file)
    arguments = [*tiny, f"backbone.weights={file}"]
    with pytest.raises(ConfigError) as refused:
        api.compose(*arguments)
    copied = str(refused.value).rpartition("; add ")[2].split()
    assert copied == ["+backbone.kwargs.init_values=1e-5", "+backbone.kwargs.qk_norm=true"]
    assert_starts_there(api.compose(*arguments, *copied).method.backbone.timm_model(), file)


@pytest.mark.user_input("weights", "backbone.weights=lost.pth", "one line: does not exist")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backbone.weights=lost.pth", "backbone.weights=lost.pth: does not exist"),
        (
            "+backbone.kwargs.pretrained=true",
            "pretrained is not part of the architecture; try backbone.weights=timm",
        ),
        (
            "backbone.weights_layout=mae",
            "backbone.weights_layout=mae: there are no weights; try backbone.weights=FILE",
        ),
    ],
)
def test_a_mistake_gets_one_line_with_the_setting(override, message, tiny, run_pretrain, capfd):
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*tiny, override)
    assert ended.value.code == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("cim-pretrain: backbone.")
    assert message in line
