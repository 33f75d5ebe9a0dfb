"""Official layouts: the features are those of the plain file, bit by bit."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.models.timm_backbone import TimmBackbone
from cim_lightning.weights.match import match
from cim_lightning.weights.reader import read_state
from tests.weights.official_layouts import AVERAGED, LAYOUTS, prefixed

SMALL = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 3}

CASES = [
    pytest.param(
        "mae",
        marks=pytest.mark.user_input(
            "weights",
            "MAE: pre-training file with decoder and `argparse.Namespace`",
            "the encoder is loaded; the decoder is left over",
        ),
    ),
    pytest.param(
        "mae_encoder",
        marks=pytest.mark.user_input("weights", "MAE: encoder only, under `model`", "loaded"),
    ),
    pytest.param(
        "simmim",
        marks=pytest.mark.user_input(
            "weights", "SimMIM: `encoder.`, `q_bias`, `gamma_1`", "loaded, with biases of the keys of 0"
        ),
    ),
    pytest.param(
        "moco_v3",
        marks=pytest.mark.user_input(
            "weights",
            "MoCo v3: `module.base_encoder.` and `module.momentum_encoder.`",
            "the momentum encoder is loaded, and the log says so",
        ),
    ),
    pytest.param(
        "dino",
        marks=pytest.mark.user_input(
            "weights", "DINO: `student` and `teacher`", "the teacher is loaded, and the log says so"
        ),
    ),
    pytest.param(
        "dino_backbone",
        marks=pytest.mark.user_input("weights", "DINO: backbone only", "loaded"),
    ),
    pytest.param(
        "dinov2",
        marks=pytest.mark.user_input(
            "weights", "DINOv2: backbone with `mask_token` and LayerScale", "loaded"
        ),
    ),
    pytest.param(
        "dinov2_training",
        marks=pytest.mark.user_input(
            "weights", "DINOv2: `teacher` of a training, with chunks of blocks", "loaded"
        ),
    ),
    pytest.param(
        "ijepa",
        marks=pytest.mark.user_input(
            "weights",
            "I-JEPA: `encoder`, `predictor` and `target_encoder`",
            "the target encoder is loaded, and the log says so",
        ),
    ),
    pytest.param(
        "timm_training",
        marks=pytest.mark.user_input(
            "weights",
            "timm: training checkpoint of a compiled model with `state_dict_ema`",
            "the EMA weights are loaded, and the log says so",
        ),
    ),
    pytest.param(
        "lightly",
        marks=pytest.mark.user_input(
            "weights",
            "lightly: Lightning checkpoint with two backbones",
            "the teacher is loaded, and the log says so",
        ),
    ),
    pytest.param(
        "solo_learn",
        marks=pytest.mark.user_input(
            "weights",
            "solo-learn: Lightning checkpoint with `momentum_backbone.`",
            "the momentum backbone is loaded, and the log says so",
        ),
    ),
    pytest.param(
        "hugging_face",
        marks=pytest.mark.user_input(
            "weights",
            "transformers: ViT with `vit.encoder.layer.`",
            "loaded, with queries, keys and values in one tensor",
        ),
    ),
    pytest.param(
        "torchvision",
        marks=pytest.mark.user_input(
            "weights", "torchvision: ViT with `encoder.layers.encoder_layer_0.`", "loaded"
        ),
    ),
]


def random_state(model: torch.nn.Module, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {name: torch.randn(t.shape, generator=generator) / 4 for name, t in model.state_dict().items()}
    for name, tensor in state.items():
        if name.endswith("attn.qkv.bias"):
            tensor[12:24] = 0  # of the keys, which SimMIM does not have
    return state


def backbone(name: str = "vit_tiny_patch16_224", **kwargs: Any) -> TimmBackbone:
    return TimmBackbone(name, SMALL | kwargs).eval()


def features(weights: Path, layout: str = "auto", **kwargs: Any) -> tuple[Tensor, Tensor]:
    network = backbone(**kwargs)
    network.load_weights(str(weights), layout)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return tuple(network(images))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    def save(content: Any, name: str = "weights.pth") -> Path:
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


def test_every_layout_is_a_case():
    assert [case.values[0] for case in CASES] == [*LAYOUTS]


@pytest.mark.parametrize("layout", CASES)
def test_the_features_are_those_of_the_plain_file(layout, saved, tmp_path):
    write, title, kwargs = LAYOUTS[layout]
    model = backbone(**kwargs).timm_model()
    state, online = random_state(model, 1), random_state(model, 2)
    save_file(state, tmp_path / "plain.safetensors")
    expected = features(tmp_path / "plain.safetensors", **kwargs)
    official = saved(write(state, online))
    actual = features(official, **kwargs)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])
    assert expected[0].std() > 0.01
    read = read_state(str(official), model)
    assert read.layout == title
    assert any(note.startswith("EMA weights (") for note in read.notes) == (layout in AVERAGED)


def test_registers_of_dinov2_load_with_the_features_of_timms_file(saved):
    """timm's models with registers have no position of the class token; DINOv2 adds it to the token."""
    kwargs = {"init_values": 0.1, "reg_tokens": 4, "no_embed_class": True}
    state = random_state(backbone(**kwargs).timm_model(), 1)
    official = dict(state)
    position = torch.randn(1, 1, 12, generator=torch.Generator().manual_seed(3))
    official["cls_token"] = state["cls_token"] - position
    state["cls_token"] = official["cls_token"] + position
    official["pos_embed"] = torch.cat((position, state["pos_embed"]), dim=1)
    official["register_tokens"] = official.pop("reg_token")
    expected = features(saved(state, "plain.pth"), **kwargs)
    actual = features(saved(official | {"mask_token": torch.ones(1, 12)}), **kwargs)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


def test_simmim_with_relative_positions_loads_into_timms_beit(saved):
    kwargs = {**SMALL, "init_values": 0.1, "use_abs_pos_emb": False, "global_pool": "token"}
    kwargs |= {"use_rel_pos_bias": False, "use_shared_rel_pos_bias": True}
    model = TimmBackbone("beit_base_patch16_224", kwargs).timm_model()
    state = random_state(model, 1)
    index = {"rel_pos_bias.relative_position_index": torch.zeros(5, 5, dtype=torch.long)}
    content = {"model": prefixed("encoder.", state | index | {"mask_token": torch.ones(1)})}
    content["model"]["decoder.0.weight"] = torch.ones(1)
    network = TimmBackbone("beit_base_patch16_224", kwargs, weights=str(saved(content)))
    loaded = network.timm_model().state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


SWIN = {
    "img_size": 64,
    "patch_size": 4,
    "window_size": 4,
    "embed_dim": 8,
    "depths": (1, 1),
    "num_heads": (2, 2),
}


@pytest.mark.user_input("weights", "SimMIM: Swin of the official code", "converted by timm, and loaded")
def test_simmim_swin_merges_patches_at_the_end_of_a_stage(saved):
    model = TimmBackbone("swin_tiny_patch4_window7_224", SWIN).timm_model()
    state = random_state(model, 1)
    official = {name.replace("layers.1.downsample", "layers.0.downsample"): t for name, t in state.items()}
    assert official.keys() != state.keys()
    content = {"model": prefixed("encoder.", official | {"mask_token": torch.ones(1)})}
    content["model"]["decoder.0.weight"] = torch.ones(1)
    content["model_ema"] = content.pop("model")
    content["model"] = {name: torch.zeros_like(tensor) for name, tensor in content["model_ema"].items()}
    network = TimmBackbone("swin_tiny_patch4_window7_224", SWIN, weights=str(saved(content)))
    loaded = network.timm_model().state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert network.loaded_weights.layout == "SimMIM"
    assert network.loaded_weights.notes[:2] == ["names converted by timm", "EMA weights (model_ema.encoder)"]


RESNET_CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def resnet_files(state: dict[str, Tensor], online: dict[str, Tensor]) -> dict[str, Any]:
    children = {}
    for name, tensor in state.items():
        child, _, rest = name.partition(".")
        children[f"backbone.{RESNET_CHILDREN[child]}.{rest}"] = tensor
    heads = {"fc.0.weight": torch.ones(1)}
    return {
        "sequential": {"state_dict": children, "pytorch-lightning_version": "2.5.0"},
        "moco": {
            "state_dict": prefixed("module.encoder_q.", online | heads)
            | prefixed("module.encoder_k.", state | heads)
        },
        "torchvision": state | {"fc.weight": torch.ones(1), "fc.bias": torch.ones(1)},
    }


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        pytest.param(
            "sequential",
            "Lightning, nn.Sequential of a ResNet",
            marks=pytest.mark.user_input(
                "weights", "lightly: ResNet as `nn.Sequential`, `backbone.0.weight`", "loaded"
            ),
        ),
        pytest.param(
            "moco",
            "MoCo",
            marks=pytest.mark.user_input(
                "weights",
                "MoCo v2: `module.encoder_q.` and `module.encoder_k.`",
                "the momentum encoder is loaded, and the log says so",
            ),
        ),
        ("torchvision", "timm"),
    ],
)
def test_files_of_a_resnet(kind, title, saved):
    model = TimmBackbone("resnet18").timm_model()
    state, online = random_resnet(model, 1), random_resnet(model, 2)
    found = read_state(str(saved(resnet_files(state, online)[kind])), model)
    assert found.layout == title
    matched = match(found, state, "resnet18")
    assert matched.keys() == state.keys()
    assert all(torch.equal(matched[name], state[name]) for name in state)


def random_resnet(model: torch.nn.Module, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = model.state_dict().items()
    return {name: torch.randn(t.shape, generator=generator) if t.ndim else t for name, t in state}


PREFIXES = [
    pytest.param(
        "model.teacher.backbone.",
        marks=pytest.mark.user_input(
            "weights",
            "DINOv2: whole training checkpoint, `model` with `teacher.backbone.`",
            "loaded",
            source="https://github.com/facebookresearch/dinov2/issues/235",
        ),
    ),
    pytest.param(
        "state_dict.model.backbone.net.",
        marks=pytest.mark.user_input("weights", "prefixes of other programs, nested in any order", "loaded"),
    ),
    pytest.param(
        "model._orig_mod.module.encoder._orig_mod.",
        marks=pytest.mark.user_input(
            "weights", "names of DDP and `torch.compile` (`module.`, `_orig_mod.`)", "loaded"
        ),
    ),
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_is_found(prefix, saved):
    model = backbone().timm_model()
    state = random_state(model, 1)
    top, _, rest = prefix.partition(".")
    content = {top: prefixed(rest, state), "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    found = match(read_state(str(saved(content)), model), state, "vit")
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.user_input(
    "weights",
    "names of activation checkpointing (`blocks.0._checkpoint_wrapped_module.`)",
    "loaded",
    source="https://github.com/ricklisz/MedDINOv3/issues/10",
)
@pytest.mark.parametrize("wrapper", ["_checkpoint_wrapped_module", "_fsdp_wrapped_module"])
def test_wrappers_inside_of_names_are_removed(wrapper, saved):
    model = backbone().timm_model()
    state = random_state(model, 1)
    wrapped = {re.sub(r"(blocks\.\d)", rf"\1.{wrapper}", name): state[name] for name in state}
    found = match(read_state(str(saved(prefixed("backbone.", wrapped))), model), state, "vit")
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.user_input("weights", "weights of a ResNet for a ViT", "one line with names of the file")
def test_another_architecture_is_refused(saved):
    resnet = TimmBackbone("resnet18").timm_model().state_dict()
    message = "has none of the tensors of VisionTransformer, but conv1.weight, bn1.weight, bn1.bias, "
    with pytest.raises(ConfigError, match=message):
        read_state(str(saved(resnet)), backbone().timm_model())


def test_a_file_without_tensors_is_refused(saved):
    with pytest.raises(ConfigError, match=r"weights\.pth: has no tensors; give the path of another file$"):
        read_state(str(saved({"epoch": 3})), backbone().timm_model())


@pytest.mark.user_input("weights", "a whole model, `torch.save(model)`", "loaded, without running its code")
def test_whole_models_and_wrapped_ones_load(saved):
    network = backbone()
    state = network.timm_model().state_dict()
    for content in (network.timm_model(), {"model": torch.nn.DataParallel(network.timm_model())}):
        found = match(read_state(str(saved(content)), network.timm_model()), state, network.name)
        assert all(torch.equal(found[name], state[name]) for name in state)


class TestForced:
    """`layout` names the layout, or the prefix of the weights to take."""

    @pytest.fixture
    def model(self) -> torch.nn.Module:
        return backbone().timm_model()

    @pytest.fixture
    def states(self, model) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return random_state(model, 1), random_state(model, 2)

    @pytest.mark.user_input(
        "weights", "`backbone.weights_layout=student.` for a file of DINO", "the online weights"
    )
    def test_a_prefix_selects_the_online_weights(self, model, states, saved):
        path = saved(LAYOUTS["dino"][0](*states))
        found = read_state(str(path), model, "student.")
        assert torch.equal(found.tensors["cls_token"], states[1]["cls_token"])
        assert found.notes == ["student.backbone"]

    @pytest.mark.parametrize("layout", ["mae", "moco_v3", "dino", "lightly", "solo_learn", "torchvision"])
    def test_the_right_layout_is_the_same_as_auto(self, layout, model, states, saved):
        path = saved(LAYOUTS[layout][0](*states))
        found = read_state(str(path), model, layout)
        assert torch.equal(found.tensors["blocks.1.attn.qkv.weight"], states[0]["blocks.1.attn.qkv.weight"])
        assert found.layout == LAYOUTS[layout][1]

    @pytest.mark.user_input(
        "weights", "`backbone.weights_layout=mae` for a file of DINO", "one line with the names"
    )
    def test_another_layout_is_refused(self, model, states, saved):
        path = saved(LAYOUTS["dino"][0](*states))
        message = (
            r"^weights_layout=mae: weights\.pth has none of the model's tensors in this layout \(its names: "
            r"student\.backbone\.cls_token, .*\); try weights_layout=auto$"
        )
        with pytest.raises(ConfigError, match=message):
            read_state(str(path), model, "mae")

    def test_an_unknown_layout_has_a_suggestion(self, model, states, saved):
        with pytest.raises(
            ConfigError, match=r"^weights_layout=dyno: must be one of .*; did you mean dino\?$"
        ):
            read_state(str(saved(states[0])), model, "dyno")
