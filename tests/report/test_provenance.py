"""Commands that repeat a run, and its environment."""

import shlex

from cim_lightning.atomic import update_json
from cim_lightning.report.page import page
from cim_lightning.report.provenance import command, environment, image_changes, sweep_command
from cim_lightning.report.runs import read_runs


def test_the_command_of_a_single_run_is_as_typed(write_run, tmp_path):
    write_run("0", ["cropping.ratio=[1, 2]", "output_dir=here"])
    (run,) = read_runs(tmp_path)
    assert shlex.split(command(run)) == ["cim-pretrain", "cropping.ratio=[1, 2]", "output_dir=here"]
    assert sweep_command(run) is None


def test_a_job_has_its_own_command_and_that_of_its_sweep(write_run, tmp_path):
    folder = write_run("sweep/3", ["seed=1", "output_dir=sweep"], sweep="seed=0,1")
    (run,) = read_runs(tmp_path)
    assert command(run) == f"cim-pretrain seed=1 output_dir={folder}"
    assert sweep_command(run) == "cim-pretrain -m hydra/launcher=joblib seed=0,1"


def test_config_dirs_are_part_of_the_command(write_run, tmp_path):
    write_run("0", ["seed=1"], config_dirs=["--config-dir=/my conf"])
    (run,) = read_runs(tmp_path)
    assert shlex.split(command(run)) == ["cim-pretrain", "--config-dir=/my conf", "seed=1"]


def test_the_environment_is_what_the_run_recorded(write_run, tmp_path):
    write_run("0", [], git_commit=None, device="H100", torch="2.14", **{"hydra-core": "1.3"})
    write_run("1", [], finished=False, setup={"git_commit": "abc"})
    run, unfinished = read_runs(tmp_path)
    assert environment(unfinished) == {"git commit": "abc"}
    assert environment(run) == {"device": "H100", "torch": "2.14", "hydra-core": "1.3"}


def test_a_run_says_when_it_resumed_with_other_images(write_run, tmp_path):
    folder = write_run("0", [])
    (same,) = read_runs(tmp_path)
    assert image_changes(same) == {}
    changes = [{"step": 3, "change": "other training images (4 then)"}, {"step": 9, "change": "fewer"}]
    update_json(folder / "run.json", {"image_changes": changes})
    (changed,) = read_runs(tmp_path)
    expected = "at step 3: other training images (4 then); at step 9: fewer"
    assert image_changes(changed) == {"changes of the images": expected}
    assert expected in page("title", [changed])
