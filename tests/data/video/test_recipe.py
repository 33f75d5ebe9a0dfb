"""experiment=video on generated moving scenes."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

spec = importlib.util.spec_from_file_location("moving_scenes", Path(__file__).with_name("moving_scenes.py"))
moving_scenes = importlib.util.module_from_spec(spec)
sys.modules["moving_scenes"] = moving_scenes
spec.loader.exec_module(moving_scenes)


@pytest.fixture
def recipe(tmp_path):
    for number in range(6):
        moving_scenes.write_frames(tmp_path / "clips" / f"clip_{number}", moving_scenes.scene(number, 8))
    return [
        "experiment=video",
        f"data.root={tmp_path / 'clips'}",
        *("backbone=vit_micro_patch4", "backbone.kwargs.depth=1", "backbone.kwargs.embed_dim=32"),
        *("cropping=small", "data.view_size=32", "data.frame_stride=1", "data.batch_size=8"),
        *("data.num_workers=0", "decoder.width=16", "decoder.num_heads=2", "optim.base_lr=0.01"),
        *("trainer=cpu", "trainer.max_epochs=2", "logger=[csv]", "callbacks.panels=null"),
    ]


class Stop(Exception):
    """Raised inside a run."""


class StopInEpoch(L.Callback):
    """Raises after the seventh of ten steps, in the second of two epochs."""

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == 7:
            raise Stop


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.user_input(
    "source", "`experiment=video` with a folder of clips", "trains and resumes bit for bit"
)
def test_the_recipe_trains_on_pairs_and_resumes_mid_epoch(recipe, run_pretrain, tmp_path, capfd):
    run_pretrain(*recipe, "output_dir=straight")
    assert "40 training and 8 validation frames, 1 apart, of 6 clips without labels" in capfd.readouterr().out
    numbers = json.loads((tmp_path / "straight" / "metrics.json").read_text())
    assert numbers["steps"] == 10
    assert numbers["train/loss"] < numbers["initial/loss"]
    with pytest.raises(Stop):
        run_pretrain(*recipe, "output_dir=resumed", f"+callbacks.stop._target_={__name__}.StopInEpoch")
    run_pretrain(*recipe, "output_dir=resumed")
    straight, resumed = weights(tmp_path / "straight"), weights(tmp_path / "resumed")
    assert straight.keys() == resumed.keys()
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name


@pytest.mark.user_input("source", "`data=video` with another method", "frames are single images")
def test_frames_without_pairs_train_any_method(recipe, run_pretrain, tmp_path):
    others = [
        override for override in recipe if override.split(".")[0] not in ("experiment=video", "decoder")
    ]
    others = [override for override in others if override != "cropping=small"]
    run_pretrain("method=simmim", "data=video", *others, "trainer.max_steps=2", "output_dir=run")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["steps"] == 2
