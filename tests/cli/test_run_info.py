"""What a folder tells of its run, once another command was given for it."""

import json

import pytest

from cim_lightning.report.runs import read_runs


def test_a_command_that_is_refused_changes_nothing_that_is_told_of_the_run(run_pretrain, tiny, tmp_path):
    short = [*tiny, "trainer.max_steps=1", "callbacks.knn=null", "output_dir=run"]
    run_pretrain(*short, "cropping.rotation=0")
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*short, "cropping.rotation=15")
    assert ended.value.code == 2
    (run,) = read_runs(tmp_path)
    assert run.overrides["cropping.rotation"] == "0"


def test_a_run_that_goes_on_beyond_its_end_is_judged_anew(run_pretrain, tiny, tmp_path):
    short = [one for one in tiny if not one.startswith("trainer.max_epochs")]
    short += ["callbacks.knn=null", "evaluation=[knn]", "output_dir=run"]
    judged = tmp_path / "run" / "evaluation" / "parts" / "knn.json"
    told = []
    for epochs in (1, 2, 2):
        run_pretrain(*short, f"trainer.max_epochs={epochs}")
        told.append(json.loads(judged.read_text())["asked"])
    assert told[0] != told[1]  # by the time of the weights
    assert told[1] == told[2]
    assert (tmp_path / "run" / "evaluation" / "metrics.json").exists()
