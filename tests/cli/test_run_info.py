"""`run.json`, and what a second command in the same folder changes."""

import json

import pytest

from cim_lightning.atomic import read_json


def test_a_refused_command_does_not_change_run_json(run_pretrain, tiny, tmp_path):
    short = [*tiny, "trainer.max_steps=1", "callbacks.knn=null", "output_dir=run"]
    run_pretrain(*short, "cropping.rotation=0")
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*short, "cropping.rotation=15")
    assert ended.value.code == 2
    info = read_json(tmp_path / "run" / "run.json")
    assert "cropping.rotation=0" in info["overrides"]
    assert (info["command"], info["cwd"], info["sweep"]) == ("cim-pretrain", str(tmp_path), False)
    assert info["choices"]["backbone"] == "vit_micro_patch4"
    assert info["setup"]["train_images"] == 43


def test_a_finished_run_that_trains_longer_is_evaluated_again(run_pretrain, tiny, tmp_path):
    short = [override for override in tiny if not override.startswith("trainer.max_epochs")]
    short += ["callbacks.knn=null", "evaluation=[knn]", "output_dir=run"]
    result = tmp_path / "run" / "evaluation" / "evaluators" / "knn.json"
    args = []
    for epochs in (1, 2, 2):
        run_pretrain(*short, f"trainer.max_epochs={epochs}")
        args.append(json.loads(result.read_text())["args"])
    assert args[0] != args[1]  # the weights were modified
    assert args[1] == args[2]
    assert (tmp_path / "run" / "evaluation" / "metrics.json").exists()
