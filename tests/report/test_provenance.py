"""Commands that can be typed again, and what they ran on."""

import shlex

from cim_lightning.report.provenance import command, environment, sweep_command, where
from cim_lightning.report.runs import read_begun, read_runs


def test_a_single_run_is_told_as_it_was_typed(leave, tmp_path):
    leave("0", ["cropping.ratio=[1, 2]", "output_dir=here"])
    (run,) = read_runs(tmp_path)
    assert shlex.split(command(run)) == ["cim-pretrain", "cropping.ratio=[1, 2]", "output_dir=here"]
    assert sweep_command(run) is None
    assert where(run) == "/home/me"


def test_a_job_is_told_by_itself_and_as_a_part_of_its_sweep(leave, tmp_path):
    place = leave("sweep/3", ["seed=1", "output_dir=sweep"], sweep="seed=0,1")
    (run,) = read_runs(tmp_path)
    assert command(run) == f"cim-pretrain seed=1 output_dir={place}"
    assert sweep_command(run) == "cim-pretrain -m hydra/launcher=joblib seed=0,1"


def test_a_folder_of_settings_of_ones_own_is_part_of_the_command(leave, tmp_path):
    leave("0", ["seed=1"], flags=["--config-dir=/my conf"])
    (run,) = read_runs(tmp_path)
    assert shlex.split(command(run)) == ["cim-pretrain", "--config-dir=/my conf", "seed=1"]


def test_the_environment_is_what_the_run_recorded(leave, tmp_path):
    leave("0", [], git_commit=None, device="H100", torch="2.14", **{"hydra-core": "1.3"})
    leave("1", [], finished=False, begun={"git_commit": "abc"})
    run, begun = read_begun(tmp_path)
    assert environment(begun) == {"git commit": "abc"}
    assert environment(run) == {"device": "H100", "torch": "2.14", "hydra-core": "1.3"}
