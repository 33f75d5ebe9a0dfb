"""Checkpoints in the official layouts of other projects, with the weights of a small timm model.

The names are facts about the released files, written down here independently of the reader. `online` are
other weights of the same shapes, for files that hold an EMA copy as well.
"""

import argparse
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]

PREDICTOR = ("predictor_embed.weight", "predictor_pos_embed", "predictor_norm.weight", "mask_token")
DINO_HEAD = ("head.mlp.0.weight", "head.mlp.0.bias", "head.last_layer.weight_g", "head.last_layer.weight_v")
MAE_DECODER = ("mask_token", "decoder_embed.weight", "decoder_pos_embed", "decoder_pred.weight")
MAE_DECODER += ("decoder_blocks.0.attn.qkv.weight", "decoder_blocks.0.norm1.weight", "decoder_norm.bias")
MOCO_HEAD = ("head.0.weight", "head.1.weight", "head.1.running_mean", "head.1.num_batches_tracked")


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def extra(*names: str) -> State:
    """Tensors of heads and decoders, whose values do not matter."""
    return {name: torch.ones(2) for name in names}


def plain(state: State, online: State) -> Any:
    return state


def mae(state: State, online: State) -> Any:
    args = argparse.Namespace(model="mae_vit_base_patch16", mask_ratio=0.75)
    return {"model": state | extra(*MAE_DECODER), "optimizer": {"state": {0: {"step": 1}}}, "args": args}


def mae_encoder(state: State, online: State) -> Any:
    return {"model": state}


def simmim(state: State, online: State) -> Any:
    """SimMIM's ViT: no bias of the keys, factors gamma_1 and gamma_2 of the residual branches."""
    names = extra("mask_token")
    for name, tensor in state.items():
        if name.endswith("attn.qkv.bias"):
            query, _, value = tensor.chunk(3)
            names |= {name.replace("qkv.bias", "q_bias"): query, name.replace("qkv.bias", "v_bias"): value}
        else:
            names[name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")] = tensor
    return {"model": prefixed("encoder.", names) | extra("decoder.0.weight", "decoder.0.bias"), "epoch": 99}


def moco_v3(state: State, online: State) -> Any:
    heads = extra(*MOCO_HEAD)
    tensors = prefixed("module.base_encoder.", online | heads)
    tensors |= prefixed("module.momentum_encoder.", state | heads) | extra("module.predictor.0.weight")
    return {"epoch": 300, "arch": "vit_small", "state_dict": tensors, "scaler": {}}


def dino(state: State, online: State) -> Any:
    heads = extra(*DINO_HEAD)
    return {
        "student": prefixed("module.", prefixed("backbone.", online) | heads),
        "teacher": prefixed("backbone.", state) | heads,
        "args": argparse.Namespace(arch="vit_small"),
        "dino_loss": extra("center"),
    }


def dinov2(state: State, online: State) -> Any:
    return state | extra("mask_token")


def dinov2_training(state: State, online: State) -> Any:
    """The evaluation checkpoint of a training: blocks in chunks, and the heads of DINO and iBOT."""
    chunks = {re.sub(r"^blocks\.", "blocks.0.", name): tensor for name, tensor in state.items()}
    heads = extra("dino_head.mlp.0.weight", "ibot_head.last_layer.weight_v")
    return {"teacher": prefixed("backbone.", chunks | extra("mask_token")) | heads}


def ijepa(state: State, online: State) -> Any:
    return {
        "encoder": prefixed("module.", online),
        "predictor": prefixed("module.", extra(*PREDICTOR)),
        "target_encoder": prefixed("module.", state),
        "opt": {"state": {}, "param_groups": []},
        "epoch": 300,
    }


def timm_training(state: State, online: State) -> Any:
    return {
        "epoch": 9,
        "arch": "vit_tiny_patch16_224",
        "state_dict": prefixed("_orig_mod.", online | extra("head.weight")),
        "state_dict_ema": state | extra("head.weight"),
        "args": argparse.Namespace(model="vit_tiny_patch16_224", lr=1e-3),
        "version": 2,
    }


def lightly(state: State, online: State) -> Any:
    heads = extra("student_projection_head.layers.0.weight", "teacher_projection_head.layers.0.weight")
    tensors = prefixed("student_backbone.vit.", online) | prefixed("teacher_backbone.vit.", state) | heads
    return {"state_dict": tensors, "pytorch-lightning_version": "2.5.0", "hyper_parameters": {"lr": 0.1}}


def solo_learn(state: State, online: State) -> Any:
    heads = extra("projector.0.weight", "momentum_projector.0.weight", "classifier.weight", "classifier.bias")
    tensors = prefixed("backbone.", online) | prefixed("momentum_backbone.", state) | heads
    return {"state_dict": tensors, "pytorch-lightning_version": "1.9.0", "global_step": 7}


HUGGING_FACE = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
}


def hugging_face(state: State, online: State) -> Any:
    tensors = extra("classifier.weight", "vit.pooler.dense.weight")
    for name, tensor in state.items():
        if found := re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(\w+)", name):
            for part, value in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                tensors[f"vit.encoder.layer.{found[1]}.attention.attention.{part}.{found[2]}"] = value
            continue
        if name.startswith("norm."):
            tensors[f"vit.layernorm.{name.removeprefix('norm.')}"] = tensor
            continue
        for ours, theirs in HUGGING_FACE.items():
            name = re.sub(rf"(^|(?<=\.)){re.escape(ours)}(?=\.|$)", theirs, name)
        tensors[f"vit.{name.replace('blocks.', 'encoder.layer.')}"] = tensor
    return tensors


TORCHVISION = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed.proj": "conv_proj",
    "attn.qkv.": "self_attention.in_proj_",
    "attn.proj": "self_attention.out_proj",
    "norm1": "ln_1",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}


def torchvision(state: State, online: State) -> Any:
    tensors = extra("heads.head.weight")
    for name, tensor in state.items():
        name = re.sub(r"^norm\.", "encoder.ln.", name)
        for ours, theirs in TORCHVISION.items():
            name = name.replace(ours, theirs)
        tensors[re.sub(r"^blocks\.", "encoder.layers.encoder_layer_", name)] = tensor
    return tensors


# Layout -> (function, title that the reader gives, arguments of the model)
LAYER_SCALE = {"init_values": 0.1}
NO_CLASS_TOKEN = {"class_token": False, "global_pool": "avg", "fc_norm": False}
LAYOUTS: dict[str, tuple[Callable[[State, State], Any], str, dict[str, Any]]] = {
    "mae": (mae, "MAE", {}),
    "mae_encoder": (mae_encoder, "timm", {}),
    "simmim": (simmim, "SimMIM", LAYER_SCALE),
    "moco_v3": (moco_v3, "MoCo v3", {}),
    "dino": (dino, "DINO", {}),
    "dino_backbone": (plain, "timm", {}),
    "dinov2": (dinov2, "DINOv2", LAYER_SCALE),
    "dinov2_training": (dinov2_training, "DINOv2", LAYER_SCALE),
    "ijepa": (ijepa, "I-JEPA", NO_CLASS_TOKEN),
    "timm_training": (timm_training, "timm", {}),
    "lightly": (lightly, "Lightning (lightly)", {}),
    "solo_learn": (solo_learn, "Lightning (solo-learn)", {}),
    "hugging_face": (hugging_face, "transformers", {}),
    "torchvision": (torchvision, "torchvision", {}),
}
AVERAGED = {"moco_v3", "dino", "dinov2_training", "ijepa", "timm_training", "lightly", "solo_learn"}
