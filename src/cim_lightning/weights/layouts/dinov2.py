"""DINOv2: chunks of blocks, register tokens, SwiGLU layers."""

import re

from cim_lightning.weights.layouts.layout import State

CHUNK = re.compile(r"blocks\.\d+\.(\d+\.(?:norm|attn|ls|mlp))")  # blocks.0.11.norm1: block 11, in chunk 0
SWIGLU = {"mlp.w12.": "mlp.fc1.", "mlp.w3.": "mlp.fc2."}


def convert(tensors: State) -> State:
    """Return the tensors under timm's names.

    timm's models with registers have no position of the class token: it is added to the token.
    """
    state = {}
    for name, tensor in tensors.items():
        name = CHUNK.sub(r"blocks.\1", name)
        for old, new in SWIGLU.items():
            name = name.replace(old, new)
        state[name] = tensor
    for name in [name for name in state if name.endswith("register_tokens")]:
        prefix = name.removesuffix("register_tokens")
        state[f"{prefix}reg_token"] = state.pop(name)
        if {f"{prefix}cls_token", f"{prefix}pos_embed"} <= state.keys():
            positions = state[f"{prefix}pos_embed"]
            state[f"{prefix}cls_token"] = state[f"{prefix}cls_token"] + positions[:, :1]
            state[f"{prefix}pos_embed"] = positions[:, 1:]
    return state
