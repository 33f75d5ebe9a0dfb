"""BEiT and SimMIM: biases of queries and values only, and factors of the residual branches."""

import torch

from cim_lightning.weights.layouts.layout import State


def convert(tensors: State) -> State:
    """Return the tensors under the names of timm's VisionTransformer. The bias of the keys is 0."""
    state = {}
    for name, tensor in tensors.items():
        if name.endswith("q_bias"):
            values = tensors.get(name.removesuffix("q_bias") + "v_bias", tensor)
            bias = torch.cat((tensor, torch.zeros_like(tensor), values))
            state[name.removesuffix("q_bias") + "qkv.bias"] = bias
        elif not name.endswith("v_bias"):
            name = name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
            state[name] = tensor
    return state
