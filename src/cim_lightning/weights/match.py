"""Match the weights of a file with those of a model: all or nothing."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.weights.architecture import describe
from cim_lightning.weights.location import TIMM
from cim_lightning.weights.state import BackboneState

# Names that may be left over: heads, decoders, mask tokens and prototypes.
HEADS = r"(?:\w+_)?heads?|head_dist|fc|classifier|last_layer|pre_logits|pooler|projectors?|predictors?"
LEFT_OVER = re.compile(
    rf"(?:{HEADS}|\w*decoder\w*)(?:\..*)?"
    r"|(?:.*\.)?(?:mask_token|masked_embed|decoder_pos_embed|prototypes(?:\..*)?)"
)
SHOWN = 5  # names of each kind in a message

# Arguments of timm.create_model that give a vision transformer the tensors that are left over.
ARGUMENTS = {
    r".*\bls\d\.gamma": "init_values=1e-5",
    r".*\b[qk]_norm\..*": "qk_norm=true",
    r"fc_norm\..*": "global_pool=avg",
    r"norm_pre\..*": "pre_norm=true",
    r"reg_token": "reg_tokens=4",
}


def match(state: BackboneState, expected: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors of a model, in its order.

    Args:
        state: the weights.
        expected: the state of the model.
        name: of the model, for messages.

    Raises:
        ConfigError: a tensor is missing or has another shape, or a tensor is left over that is no part of a
            head, a decoder, a mask token or prototypes.
    """
    counters = {key: value for key, value in expected.items() if key.endswith("num_batches_tracked")}
    tensors = counters | state.tensors  # old files have no counters, which nothing reads
    missing = [key for key in expected if key not in tensors]
    left_over = [key for key in tensors if key not in expected and not may_be_left_over(key)]
    shapes = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    problems = [
        _listed(f"{len(missing)} of {len(expected)} tensors missing", missing),
        _listed(f"{len(left_over)} left over", left_over),
        _listed(f"{len(shapes)} of another shape", shapes),
    ]
    if missing or left_over or shapes:
        rule = f"{state.layout} weights do not fit {name} ({'; '.join(filter(None, problems))})"
        raise ConfigError("weights", state.path or TIMM, rule, hint=_hint(state.tensors, expected, left_over))
    return {key: tensors[key] for key in expected}


def may_be_left_over(name: str) -> bool:
    """Return whether a backbone has no use for a tensor: part of a head, a decoder, and so on."""
    return LEFT_OVER.fullmatch(name) is not None


def _hint(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], left_over: Sequence[str]) -> str:
    """Return what the weights are of, or which arguments add the tensors that are left over."""
    found = describe(tensors)
    if found and found != describe(expected):
        return f"these are weights of {found}"
    arguments = [
        argument
        for pattern, argument in ARGUMENTS.items()
        if any(re.fullmatch(pattern, name) for name in left_over)
    ]
    needed = " ".join(f"kwargs.{argument}" for argument in arguments)
    return f"add {needed}" if needed else "try the architecture of these weights"


def _listed(title: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{title}: {shown}{', ...' if len(names) > SHOWN else ''}" if names else ""
