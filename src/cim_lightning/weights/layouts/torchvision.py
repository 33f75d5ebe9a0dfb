"""Vision transformers of torchvision, and ResNets whose children were put into one nn.Sequential."""

import re

from cim_lightning.weights.layouts.layout import State

VIT = (
    (r"\bclass_token$", "cls_token"),
    (r"\bconv_proj\.", "patch_embed.proj."),
    (r"\bencoder\.pos_embedding$", "pos_embed"),
    (r"\bencoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\bencoder\.ln\.", "norm."),
    (r"\bln_(\d)\.", r"norm\1."),
    (r"\bself_attention\.in_proj_", "attn.qkv."),
    (r"\bself_attention\.out_proj\.", "attn.proj."),
    (r"\bmlp\.(?:linear_1|0)\.", "mlp.fc1."),
    (r"\bmlp\.(?:linear_2|3)\.", "mlp.fc2."),
)
CHILDREN = {
    "0": "conv1",
    "1": "bn1",
    "4": "layer1",
    "5": "layer2",
    "6": "layer3",
    "7": "layer4",
}  # of a ResNet


def convert_vit(tensors: State) -> State:
    """Return the tensors of a vision transformer under timm's names."""
    state = {}
    for name, tensor in tensors.items():
        for pattern, new in VIT:
            name = re.sub(pattern, new, name)
        state[name] = tensor
    return state


def convert_sequential_resnet(tensors: State) -> State:
    """Return the tensors of nn.Sequential(*resnet.children()) under the names of the ResNet."""
    first = next(name for name in tensors if re.search(r"(?:^|\.)4\.0\.conv1\.weight$", name))
    prefix = first.removesuffix("4.0.conv1.weight")
    state = {}
    for name, tensor in tensors.items():
        child, _, rest = name.removeprefix(prefix).partition(".")
        known = name.startswith(prefix) and child in CHILDREN
        state[f"{prefix}{CHILDREN[child]}.{rest}" if known else name] = tensor
    return state
