"""A training is known again by what was asked of it, and by nothing else."""

from functools import partial
from pathlib import Path

import torch

from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.evaluation.training_cache import TrainingCache, fingerprint


def test_a_state_counts_for_the_same_training_only(tmp_path: Path) -> None:
    asked = {"steps": 3, "betas": (0.9, 0.5)}
    assert TrainingCache(tmp_path / "a", asked).begun() is None
    TrainingCache(tmp_path / "a", asked).keep({"done": 2, "model": {"w": torch.ones(2)}})
    found = TrainingCache(tmp_path / "a", asked).begun()
    assert found is not None
    assert found["done"] == 2
    assert torch.equal(found["model"]["w"], torch.ones(2))
    assert TrainingCache(tmp_path / "a", asked | {"steps": 4}).begun() is None


def test_an_end_replaces_the_state_and_is_the_same_trainings_only(tmp_path: Path) -> None:
    kept = TrainingCache(tmp_path / "a", {"steps": 3})
    kept.keep({"done": 2})
    assert kept.ended() is None
    kept.end({"w": torch.arange(6.0).view(2, 3).T}, {"classes": ["x"]})
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"asked.json", "weights.safetensors"}
    weights, said = TrainingCache(tmp_path / "a", {"steps": 3}).ended() or ({}, None)
    assert torch.equal(weights["w"], torch.arange(6.0).view(2, 3).T)
    assert said == {"classes": ["x"]}
    assert TrainingCache(tmp_path / "a", {"steps": 4}).ended() is None


def test_it_is_due_after_five_minutes(tmp_path: Path) -> None:
    kept = TrainingCache(tmp_path, {})
    assert not kept.due
    kept.at -= 301
    assert kept.due
    kept.keep({})
    assert not kept.due


def test_settings_are_described_however_deep() -> None:
    made = {
        "mixing": MixupCutmix(0.25, 0.8, 1.0, 0.1),
        "how": partial(torch.optim.SGD, momentum=0.9),
        "of": [1, None],
    }
    assert fingerprint(made) == {
        "mixing": {
            "is": "cim_lightning.evaluation.finetuning.mixup_cutmix.MixupCutmix",
            "with": {"erasing": 0.25, "mixup": 0.8, "cutmix": 1.0, "smoothing": 0.1},
        },
        "how": {"calls": "torch.optim.sgd.SGD", "with": [[], {"momentum": 0.9}]},
        "of": [1, None],
    }
