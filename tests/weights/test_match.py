"""Weights that fit in part are refused, and the line names what is missing and left over."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.models.timm_backbone import TimmBackbone
from cim_lightning.weights.match import match, may_be_left_over
from cim_lightning.weights.state import BackboneState

SMALL = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 3}


def tensors_of(**kwargs) -> dict[str, Tensor]:
    backbone = TimmBackbone("vit_tiny_patch16_224", SMALL | kwargs)
    return backbone.timm_model().state_dict()


def refusal(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    with pytest.raises(ConfigError) as error:
        match(BackboneState(tensors, "MAE", Path("w.pth"), []), expected, "vit")
    return str(error.value)


def test_the_tensors_are_those_of_the_model_in_its_order():
    expected = tensors_of()
    tensors = dict(reversed([*tensors_of().items()])) | {"head.weight": torch.ones(2)}
    matched = match(BackboneState(tensors, "MAE", None, []), expected, "vit")
    assert [*matched] == [*expected]
    assert all(matched[name] is tensors[name] for name in expected)


@pytest.mark.user_input(
    "weights",
    "weights of a deeper network",
    "refused: the line names the blocks that are left over",
    source="https://github.com/facebookresearch/segment-anything/issues/15",
)
def test_a_deeper_network_is_refused():
    assert refusal(tensors_of(depth=3), tensors_of()) == (
        "weights=w.pth: MAE weights do not fit vit (12 left over: blocks.2.norm1.weight, "
        "blocks.2.norm1.bias, blocks.2.attn.qkv.weight, blocks.2.attn.qkv.bias, blocks.2.attn.proj.weight, "
        "...); these are weights of a ViT of width 12 and depth 3"
    )


def test_an_error_about_downloaded_weights_shows_the_setting():
    with pytest.raises(ConfigError, match=r"^weights=timm: timm's vit_tiny weights do not fit vit \("):
        match(BackboneState(tensors_of(depth=3), "timm's vit_tiny", None, []), tensors_of(), "vit")


@pytest.mark.user_input(
    "weights", "weights of a shallower network", "refused: the line names what is missing"
)
def test_a_shallower_network_is_refused():
    assert refusal(tensors_of(depth=1), tensors_of()).startswith(
        "weights=w.pth: MAE weights do not fit vit (12 of 30 tensors missing: blocks.1.norm1.weight, "
    )


@pytest.mark.user_input("weights", "weights of another width", "refused: the line names both shapes")
def test_another_width_is_refused():
    line = refusal(tensors_of(embed_dim=192), tensors_of())
    assert "(30 of another shape: cls_token (1, 1, 192) instead of (1, 1, 12), pos_embed (1, 5, 192)" in line
    assert line.endswith("; these are weights of a ViT of width 192 and depth 2 (vit_tiny)")


@pytest.mark.parametrize(
    ("kwargs", "hint"),
    [
        pytest.param(
            {"init_values": 0.1},
            "add kwargs.init_values=1e-5",
            marks=pytest.mark.user_input(
                "weights",
                "LayerScale parameters that the model does not have",
                "refused, with the argument that adds them",
                source="https://github.com/facebookresearch/dinov3/issues/100",
            ),
        ),
        pytest.param(
            {"qk_norm": True},
            "add kwargs.qk_norm=true",
            marks=pytest.mark.user_input(
                "weights",
                "norms of queries and keys that the model does not have",
                "refused, with the argument that adds them",
            ),
        ),
        ({"init_values": 0.1, "qk_norm": True}, "add kwargs.init_values=1e-5 kwargs.qk_norm=true"),
    ],
)
def test_parameters_of_an_option_are_refused(kwargs, hint):
    assert refusal(tensors_of(**kwargs), tensors_of()).endswith(f"; {hint}")


@pytest.mark.parametrize("num_left_over", [5, 6])
def test_up_to_five_names_are_shown(num_left_over):
    names = [f"x{i}" for i in range(num_left_over)]
    line = refusal(tensors_of() | {name: torch.ones(1) for name in names}, tensors_of())
    shown = ", ".join(names[:5]) + (", ..." if num_left_over > 5 else "")
    assert f"({num_left_over} left over: {shown})" in line


@pytest.mark.parametrize(
    "name",
    [
        *(
            "head.weight",
            "heads.head.bias",
            "fc.weight",
            "classifier.bias",
            "head.mlp.0.weight",
            "mask_token",
        ),
        *("decoder_embed.weight", "decoder_blocks.0.norm1.weight", "decoder_pos_embed", "decoder.0.weight"),
        *("prototypes.weight", "last_layer.weight_g", "projector.0.weight", "predictor.0.weight"),
        *(
            "dino_head.mlp.0.weight",
            "projection_head.layers.0.weight",
            "masked_embed",
            "embeddings.mask_token",
        ),
    ],
)
def test_heads_decoders_mask_tokens_and_prototypes_may_be_left_over(name):
    assert may_be_left_over(name)


@pytest.mark.parametrize(
    "name",
    [
        *("blocks.12.norm1.weight", "blocks.0.ls1.gamma", "blocks.0.attn.q_norm.weight", "norm_pre.weight"),
        *("reg_token", "cls_token", "layer4.2.conv1.weight", "encoder.ln.weight", "fc_norm.weight", "fcx"),
        *("blocks.0.mlp.fc.weight", "layers.0.head_proj.weight", "headless.weight"),
    ],
)
def test_parts_of_a_backbone_may_not(name):
    assert not may_be_left_over(name)


def test_counters_of_batch_norm_may_be_missing():
    """Files of torch before version 0.4.1 have none."""
    model = TimmBackbone("test_resnet").timm_model()
    state = model.state_dict()
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    assert match(BackboneState(old, "timm", None, []), state, "test_resnet").keys() == state.keys()


@pytest.mark.parametrize(("name", "shown"), [("resnet18", "resnet18"), ("resnet50", "resnet50")])
def test_a_resnet_is_recognized(name, shown):
    resnet = TimmBackbone(name).timm_model().state_dict()
    assert refusal(resnet, tensors_of()).endswith(f"; these are weights of {shown}")
