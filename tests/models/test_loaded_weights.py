"""Backbones that start from existing weights: every tensor of the file survives, in every backbone group."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from cim_lightning.config.compose import CONF, choice_config
from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.timm_backbone import TimmBackbone

BACKBONES = sorted(file.stem for file in (CONF / "backbone").glob("[!_]*.yaml"))
SMALL = {  # arguments of timm that make the first architecture with this prefix small
    "vit": {"depth": 2, "embed_dim": 48, "num_heads": 2},
    "swin": {"depths": (1, 1), "embed_dim": 16, "num_heads": (1, 2)},
    "convnext": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
    "resnet": {"layers": (1, 1, 1, 1)},
}
VIT = {"patch_size": 8, "img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2, "dynamic_img_size": True}
XAVIER = {"init": "xavier", "positions": "sincos", "freeze_patch_embed": True}


def vit(**kwargs: Any) -> Backbone:
    return TimmBackbone("vit_tiny_patch16_224", VIT | kwargs.pop("kwargs", {}), **kwargs)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of a ViT as timm initializes it."""
    torch.manual_seed(1)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    return tmp_path / "vit.safetensors"


def surviving(model: torch.nn.Module, file: Path) -> int:
    """Return how many tensors of a model are those of a file, bit for bit."""
    saved = load_file(file)
    return sum(torch.equal(tensor, saved[name]) for name, tensor in model.state_dict().items())


@pytest.mark.user_input(
    "weights",
    "a file, for every backbone of conf/ and init=xavier",
    "every tensor survives",
    source="https://github.com/huggingface/transformers/issues/46620",
)
@pytest.mark.parametrize("init", ["timm", "xavier"])
@pytest.mark.parametrize("choice", BACKBONES)
def test_every_tensor_of_a_file_survives_in_every_backbone_group(choice, init, tmp_path):
    settings: Any = OmegaConf.to_container(choice_config("backbone", choice).backbone, resolve=False)
    settings["kwargs"] |= next(kwargs for prefix, kwargs in SMALL.items() if choice.startswith(prefix))
    settings |= {"in_channels": 3, "init": init, "_convert_": "all"}
    torch.manual_seed(1)
    model = timm.create_model(settings["name"], num_classes=0, **settings["kwargs"])
    count = len(model.state_dict())
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.manual_seed(2)
    backbone = instantiate(settings | {"weights": str(tmp_path / "w.safetensors")})
    assert surviving(backbone.timm_model(), tmp_path / "w.safetensors") == count
    assert surviving(instantiate(settings).timm_model(), tmp_path / "w.safetensors") < count


def test_what_is_frozen_stays_frozen_at_the_values_of_the_weights(file):
    frozen = {n for n, p in vit(**XAVIER).timm_model().named_parameters() if not p.requires_grad}
    model = vit(**XAVIER, weights=str(file)).timm_model()
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == frozen
    assert frozen == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert surviving(model, file) == len(load_file(file))


def test_the_other_random_numbers_of_a_run_do_not_depend_on_weights(file):
    draws = []
    for weights in (None, str(file)):
        torch.manual_seed(0)
        vit(**XAVIER, weights=weights)
        draws.append(torch.rand(1))
    assert draws[0] == draws[1]


def test_the_line_and_the_record_say_what_was_loaded(file):
    state = load_file(file) | {"head.weight": torch.zeros(7, 24), "head.bias": torch.zeros(7)}
    torch.save({"model": state | {"mask_token": torch.zeros(1, 1, 24)}}, file.with_name("v.pth"))
    backbone = vit(kwargs={"img_size": 40}, weights=str(file.with_name("v.pth")))
    line = str(backbone.loaded_weights)
    count = len(backbone.timm_model().state_dict())
    assert re.fullmatch(
        rf".+ \({file.with_name('v.pth')}\): {count} of {count} tensors; (.*; )?positions 4x4 -> 5x5; "
        r"left over: head \(2 tensors\), mask_token",
        line,
    )
    record = backbone.loaded_weights.record()
    assert record["path"] == str(file.with_name("v.pth"))
    assert record["sha256"] == hashlib.sha256(file.with_name("v.pth").read_bytes()).hexdigest()
    file.with_name("v.pth").unlink()  # as a running training replaces its checkpoint
    assert backbone.loaded_weights.record() == record
    assert record["source"] == str(file.with_name("v.pth"))
    assert record["num_tensors"] == count


def test_without_weights_nothing_is_recorded(file):
    backbone = vit()
    assert backbone.loaded_weights is None
    backbone.load_weights(str(file))
    assert surviving(backbone.timm_model(), file) == len(load_file(file))


@pytest.mark.user_input("weights", "backbone.kwargs.pretrained=true", "refused: try backbone.weights=timm")
@pytest.mark.user_input(
    "weights", "backbone.kwargs.checkpoint_path=vit.pth", "refused: try backbone.weights=vit.pth"
)
@pytest.mark.parametrize(
    ("kwargs", "suggestion"),
    [({"pretrained": True}, "weights=timm"), ({"checkpoint_path": "vit.pth"}, r"weights=vit\.pth")],
)
def test_arguments_of_timm_that_load_weights_are_refused(kwargs, suggestion):
    name = next(iter(kwargs))
    with pytest.raises(
        ConfigError, match=rf"^kwargs=.*{name}.*: {name} is not part of .*; try {suggestion}$"
    ):
        vit(kwargs=kwargs)
    vit(kwargs={name: type(kwargs[name])()})  # timm's default


@pytest.mark.user_input(
    "weights", "backbone.weights_layout=mae without weights", "one line: there are no weights"
)
def test_a_layout_without_weights_is_refused():
    with pytest.raises(ConfigError, match=r"^weights_layout=mae: there are no weights; try weights=FILE"):
        vit(weights_layout="mae")


@pytest.mark.user_input("weights", "weights with NaN", "one line that names the tensor")
def test_values_that_are_not_finite_are_refused(file):
    state = load_file(file)
    state["blocks.1.mlp.fc1.bias"][3] = torch.nan
    save_file(state, file)
    with pytest.raises(
        ConfigError, match=r"^weights=\S+: .* a value in blocks\.1\.mlp\.fc1\.bias that is not"
    ):
        vit(weights=str(file))


@pytest.mark.user_input(
    "weights",
    "a position table with a row too many (a pretext token)",
    "one line with both shapes",
    source="https://github.com/openmedlab/PathoDuet/issues/11",
)
def test_a_position_table_with_another_row_gets_one_line(file):
    state = load_file(file)
    state["pos_embed"] = torch.zeros(1, 1 + 1 + 16, 24)
    save_file(state, file)
    message = r"^weights=\S+: .*1 of another shape: pos_embed \(1, 18, 24\) instead of \(1, 17, 24\)"
    with pytest.raises(ConfigError, match=message) as caught:
        vit(weights=str(file))
    assert "\n" not in str(caught.value)


def test_a_backbone_is_unchanged_if_the_weights_do_not_fit(file):
    backbone = vit(kwargs={"depth": 3})
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(ConfigError, match=r"^weights=\S+: .*blocks\.2"):
        backbone.load_weights(str(file))
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert backbone.loaded_weights is None


def test_weights_in_half_precision_are_loaded_in_full_precision(file):
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file)
    model = vit(weights=str(file)).timm_model()
    for name, tensor in load_file(file).items():
        assert model.state_dict()[name].dtype == torch.float32
        assert torch.equal(model.state_dict()[name], tensor.float())


@pytest.mark.user_input("weights", "quantized weights: integers", "one line")
def test_integers_are_refused(file):
    save_file({name: tensor.to(torch.int8) for name, tensor in load_file(file).items()}, file)
    message = r"^weights=\S+: these weights have integers in cls_token; try the weights before quantization$"
    with pytest.raises(ConfigError, match=message):
        vit(weights=str(file))


def test_weights_of_8_bits_are_loaded_and_checked(file):
    state = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(file).items()}
    save_file(state, file)
    assert torch.equal(vit(weights=str(file)).timm_model().norm.weight, state["norm.weight"].float())
    save_file(state | {"norm.weight": torch.full((24,), torch.nan).to(torch.float8_e4m3fn)}, file)
    with pytest.raises(ConfigError, match=r"a value in norm\.weight that is not finite"):
        vit(weights=str(file))


def test_a_copy_with_drop_path_has_the_weights(file):
    copy = vit(weights=str(file)).with_drop_path(0.1)
    assert surviving(copy.timm_model(), file) == len(load_file(file))


HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
DESCRIPTIONS = {  # files of an export, a repository of timm, one of transformers, and a run
    "backbone.safetensors": ("backbone.json", HALF),
    "model.safetensors": ("config.json", {"pretrained_cfg": HALF}),
    "pytorch_model.bin": ("preprocessor_config.json", {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}),
    "checkpoints/last.ckpt": ("config.yaml", {"backbone": HALF}),
}


@pytest.fixture(params=DESCRIPTIONS)
def described(request: pytest.FixtureRequest, file: Path, tmp_path: Path) -> Path:
    """Weights of images with mean and std 0.5, as the file beside them says."""
    path = tmp_path / request.param
    path.parent.mkdir(exist_ok=True)
    torch.save(load_file(file), path) if path.suffix == ".bin" else path.write_bytes(file.read_bytes())
    name, content = DESCRIPTIONS[request.param]
    (tmp_path / name).write_text(json.dumps(content))
    return path


@pytest.mark.user_input(
    "weights",
    "weights of mean and std 0.5, default mean",
    "one line with the settings to add",
    source="https://github.com/mlfoundations/open_clip/issues/311",
)
def test_weights_of_another_normalization_need_it_as_a_setting(described):
    message = r"^mean=null: the default is not that .*; try mean=\[0\.5,0\.5,0\.5\] std=\[0\.5,0\.5,0\.5\]$"
    with pytest.raises(ConfigError, match=message):
        vit(weights=str(described))
    backbone = vit(weights=str(described), **HALF)
    assert "trained with" not in str(backbone.loaded_weights)
    other = vit(weights=str(described), mean=[0.5, 0.5, 0.4], std=[0.5] * 3)
    assert str(other.loaded_weights).endswith("; trained with mean=[0.5,0.5,0.5] std=[0.5,0.5,0.5]")
    gray = vit(weights=str(described), in_channels=1)  # whose mean cannot follow from three
    assert "channels 3 -> 1" in gray.loaded_weights.notes


def test_weights_of_the_default_normalization_need_no_setting(file, tmp_path):
    (tmp_path / "backbone.safetensors").write_bytes(file.read_bytes())
    normalization = vit().normalization | {"size": 3}
    (tmp_path / "backbone.json").write_text(json.dumps(normalization))
    assert vit(weights=str(tmp_path)).loaded_weights.normalization == vit().normalization


@pytest.mark.user_input("weights", "backbone.weights=timm without a network", "one line: give a file")
def test_timm_weights_are_those_of_its_tag_and_normalization(monkeypatch):
    name = "vit_tiny_patch16_224.augreg_in21k"  # mean and std of 0.5
    create = timm.create_model
    kwargs = {"depth": 1, "embed_dim": 24, "num_heads": 2}

    def pretrained(model: str, pretrained: bool = False, **changes: Any) -> torch.nn.Module:
        torch.manual_seed(3)
        return create(model, **(kwargs if pretrained else {}), **changes)

    monkeypatch.setattr(timm, "create_model", pretrained)
    with pytest.raises(
        ConfigError, match=r"^mean=null: .*\(timm's vit_tiny_patch16_224\.augreg_in21k\); try mean="
    ):
        TimmBackbone(name, kwargs, weights="timm")
    torch.manual_seed(0)
    backbone = TimmBackbone(name, kwargs, weights="timm", **XAVIER, **HALF)
    expected = pretrained(name, True).state_dict()
    model = backbone.timm_model().state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in model.items())
    assert backbone.loaded_weights.path is None
    assert str(backbone.loaded_weights).startswith(
        f"timm's {name} (timm): {len(model)} of {len(model)} tensors"
    )
