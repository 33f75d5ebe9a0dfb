"""Fingerprints of settings and weights."""

from functools import partial

import torch
from torch import nn

from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.evaluation.fingerprint import fingerprint, weights_hash


def test_a_fingerprint_has_all_settings_recursively() -> None:
    settings = {
        "mixing": MixupCutmix(0.25, 0.8, 1.0, 0.1),
        "optimizer": partial(torch.optim.SGD, momentum=0.9),
        "list": [1, None],
    }
    assert fingerprint(settings) == {
        "mixing": {
            "class": "cim_lightning.evaluation.finetuning.mixup_cutmix.MixupCutmix",
            "args": {"erasing": 0.25, "mixup": 0.8, "cutmix": 1.0, "smoothing": 0.1},
        },
        "optimizer": {"partial": "torch.optim.sgd.SGD", "args": [[], {"momentum": 0.9}]},
        "list": [1, None],
    }


def test_the_hash_of_weights_depends_on_every_parameter_and_buffer() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(torch.bfloat16)
    first = weights_hash(module)
    assert weights_hash(module) == first
    hashes = {first}
    for tensor in module.state_dict().values():  # in place: parameters and buffers of the module
        tensor.view(-1)[-1] += 1
        hashes.add(weights_hash(module))
    assert len(hashes) == 1 + len(module.state_dict())
    assert weights_hash(module.float()) not in hashes
