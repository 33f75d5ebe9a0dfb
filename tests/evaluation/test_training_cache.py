"""The cache of a training depends on all its arguments."""

from functools import partial
from pathlib import Path

import torch

from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.evaluation.training_cache import TrainingCache, fingerprint


def test_a_saved_state_is_loaded_for_the_same_arguments_only(tmp_path: Path) -> None:
    args = {"steps": 3, "betas": (0.9, 0.5)}
    assert TrainingCache(tmp_path / "a", args).unfinished() is None
    TrainingCache(tmp_path / "a", args).save_state({"done": 2, "model": {"w": torch.ones(2)}})
    state = TrainingCache(tmp_path / "a", args).unfinished()
    assert state is not None
    assert state["done"] == 2
    assert torch.equal(state["model"]["w"], torch.ones(2))
    assert TrainingCache(tmp_path / "a", args | {"steps": 4}).unfinished() is None


def test_a_result_replaces_the_state_and_is_loaded_for_the_same_arguments_only(tmp_path: Path) -> None:
    cache = TrainingCache(tmp_path / "a", {"steps": 3})
    cache.save_state({"done": 2})
    assert cache.finished() is None
    cache.save_result({"w": torch.arange(6.0).view(2, 3).T}, {"classes": ["x"]})
    assert {path.name for path in cache.folder.iterdir()} == {"result.json", "weights.safetensors"}
    weights, result = TrainingCache(tmp_path / "a", {"steps": 3}).finished() or ({}, None)
    assert torch.equal(weights["w"], torch.arange(6.0).view(2, 3).T)
    assert result == {"classes": ["x"]}
    assert TrainingCache(tmp_path / "a", {"steps": 4}).finished() is None


def test_saving_is_due_after_five_minutes(tmp_path: Path) -> None:
    cache = TrainingCache(tmp_path / "a", {})
    assert not cache.due
    cache.saved_at -= 301
    assert cache.due
    cache.save_state({})
    assert not cache.due


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
