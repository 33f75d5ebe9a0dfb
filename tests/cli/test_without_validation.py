"""Runs without validation images: data.val=none."""

import json

import pytest


@pytest.mark.user_input(
    "value",
    "data.val=none",
    "training without validation; checkpoints and the backbone are written",
    source="https://github.com/MIC-DKFZ/nnssl/issues/9",
)
def test_a_run_without_validation_trains_and_resumes(run_pretrain, tiny, tmp_path):
    folder = tmp_path / "run"
    for epochs in (1, 2):
        run_pretrain("data.val=none", *tiny, f"trainer.max_epochs={epochs}", f"output_dir={folder}")
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["steps"] == 5 * epochs
        assert metrics["train/loss"] > 0
        assert not [name for name in metrics if name.startswith(("val/", "initial/"))]
    assert (folder / "backbone.safetensors").exists()
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}


@pytest.mark.user_input(
    "value", "data.val=none evaluation=knn", "one line before the training says what k-NN needs"
)
def test_an_evaluation_that_needs_validation_is_refused_before_training(run_pretrain, tiny, tmp_path, capfd):
    with pytest.raises(SystemExit) as caught:
        run_pretrain("data.val=none", *tiny, "evaluation=knn", f"output_dir={tmp_path / 'run'}")
    assert caught.value.code == 2
    assert "knn needs validation images; try evaluation=all" in capfd.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.user_input(
    "value", "data.val=none evaluation=all", "evaluators that need validation images are skipped"
)
def test_evaluators_that_need_validation_are_skipped(run_pretrain, tiny, tmp_path):
    small = ["trainer.max_steps=1", "evaluation=all", f"output_dir={tmp_path / 'run'}"]
    run_pretrain("data.val=none", *tiny, *small)
    results = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    assert results["skipped"]["knn"] == "needs validation images"
    assert not results["failed"]
