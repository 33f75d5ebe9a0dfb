"""Vision transformers of the library transformers: ViT, ViTMAE, DeiT, DINOv2."""

import re

import torch

from cim_lightning.weights.layouts import dinov2
from cim_lightning.weights.layouts.layout import State

RENAMED = (  # in this order: names of outputs are contained in others
    (r"\bembeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"\bembeddings\.position_embeddings$", "pos_embed"),
    (r"\bembeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"\bencoder\.layer\.", "blocks."),
    (r"\battention\.output\.dense\.", "attn.proj."),
    (r"\battention\.attention\.", "attn."),
    (r"\bintermediate\.dense\.", "mlp.fc1."),
    (r"\boutput\.dense\.", "mlp.fc2."),
    (r"\blayernorm_before\.", "norm1."),
    (r"\blayernorm_after\.", "norm2."),
    (r"\blayer_scale(\d)\.lambda1$", r"ls\1.gamma"),
    (r"\bmlp\.weights_in\.", "mlp.w12."),
    (r"\bmlp\.weights_out\.", "mlp.w3."),
    (r"(?<!decoder\.)\b(?:encoder\.)?layernorm\.", "norm."),
)


def convert(tensors: State) -> State:
    """Return the tensors under timm's names, with queries, keys and values in one tensor."""
    state: State = {}
    for name, tensor in tensors.items():
        for pattern, new in RENAMED:
            name = re.sub(pattern, new, name)
        state[name] = tensor
    for name in [name for name in state if ".attn.query." in name]:
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in state for part in parts):
            fused = torch.cat([state.pop(part) for part in parts])
            state[name.replace(".query.", ".qkv.")] = fused
    return dinov2.convert(state)
