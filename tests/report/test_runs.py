"""Runs, read from folders and grouped by setting."""

import pytest

from cim_lightning.atomic import update_json
from cim_lightning.report.runs import differing_keys, group_by_setting, read_runs


def test_runs_are_found_at_any_depth_and_sorted_by_number(write_run, tmp_path):
    for job in ("10", "9", "b/2", "b/1"):
        write_run(job, ["seed=3"], {"knn/mean_k20": 50}, **{"val/knn": 75})
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.yaml").write_text("seed: 1")
    runs = read_runs(tmp_path)
    assert all(run.finished for run in runs)
    assert [str(run.folder.relative_to(tmp_path)) for run in runs] == ["b/1", "b/2", "9", "10"]
    assert runs[0].seed == 3
    assert runs[0].numbers["val/knn"] == 75
    assert runs[0].numbers["evaluation/knn/mean_k20"] == 50


def test_unfinished_runs_and_only_those_of_cim_pretrain_are_read(write_run, tmp_path, caplog):
    write_run("10", ["seed=1"])
    folder = write_run("9", ["seed=0"], finished=False)
    (folder / "wandb" / "files").mkdir(parents=True)
    (folder / "wandb" / "files" / "config.yaml").write_text("seed: {value: 1}")
    assert [(run.seed, run.finished) for run in read_runs(tmp_path)] == [(0, False), (1, True)]
    assert caplog.text == ""


@pytest.mark.parametrize("damage", [{"overrides": [1]}, {"overrides": None}, {"metrics": [3]}])
def test_a_run_json_with_other_types_is_skipped_with_a_warning(write_run, tmp_path, caplog, damage):
    update_json(write_run("0", []) / "run.json", damage)
    write_run("1", [])
    assert [run.folder.name for run in read_runs(tmp_path)] == ["1"]
    assert f"skipped {tmp_path / '0'}, which cannot be read" in caplog.text


def test_an_evaluation_is_not_a_run(write_run, tmp_path):
    write_run("0", [], {"knn/mean_k20": 50})
    assert len(read_runs(tmp_path)) == 1


def test_runs_are_grouped_by_differing_overrides_except_the_seed(write_run, tmp_path):
    for i, (angle, seed) in enumerate([(0, 0), (0, 1), (45, 0)]):
        write_run(str(i), [f"cropping.rotation={angle}", f"seed={seed}", "trainer=cpu", f"output_dir={i}"])
    runs = read_runs(tmp_path)
    assert differing_keys(runs) == ["cropping.rotation"]
    groups = group_by_setting(runs)
    assert {name: [run.seed for run in group] for name, group in groups.items()} == {
        "cropping.rotation=0": [0, 1],
        "cropping.rotation=45": [0],
    }


def test_a_swept_key_names_the_group_even_with_one_value_left(write_run, tmp_path):
    for i, seed in enumerate((0, 1)):
        overrides = ["cropping.rotation=0", f"seed={seed}"]
        write_run(str(i), [*overrides, "trainer=cpu"], swept=overrides)
    assert list(group_by_setting(read_runs(tmp_path))) == ["cropping.rotation=0"]


def test_settings_that_cannot_change_a_result_make_no_group(write_run, tmp_path):
    write_run("0", ["seed=0", "decoder.depth=1", "logger=csv", "callbacks.panels=null"])
    write_run(
        "1",
        [
            "seed=1",
            "decoder.depth=1",
            "callbacks.last.every_minutes=1",
            "hydra/launcher=joblib",
        ],
    )
    write_run("2", ["seed=1", "decoder.depth=2", "evaluation=[knn]"])
    assert {name: len(group) for name, group in group_by_setting(read_runs(tmp_path)).items()} == {
        "decoder.depth=1": 2,
        "decoder.depth=2": 1,
    }


@pytest.mark.parametrize("key", ["compile", "data.num_workers"])
def test_settings_that_change_the_speed_make_groups(key, write_run, tmp_path):
    for job, value in enumerate(("1", "4")):
        write_run(str(job), ["seed=0", f"{key}={value}"], swept=[f"{key}={value}"])
    assert list(group_by_setting(read_runs(tmp_path))) == [f"{key}=1", f"{key}=4"]


def test_runs_of_several_methods_are_named_by_method(write_run, tmp_path):
    write_run("0", ["method=mae", "compare=small/mae"])
    write_run("1", ["method=cim", "compare=small/cim"])
    assert list(group_by_setting(read_runs(tmp_path))) == ["mae", "cim"]


def test_runs_of_one_setting_are_one_group(write_run, tmp_path):
    write_run("0", ["trainer=cpu", "seed=0"])
    write_run("1", ["trainer=cpu", "seed=1"])
    assert {name: len(group) for name, group in group_by_setting(read_runs(tmp_path)).items()} == {"cim": 2}


def test_an_override_of_only_one_run_makes_a_group(write_run, tmp_path):
    write_run("0", ["trainer=cpu"])
    write_run("1", ["trainer=cpu", "decoder.depth=2"])
    assert list(group_by_setting(read_runs(tmp_path))) == ["default", "decoder.depth=2"]
