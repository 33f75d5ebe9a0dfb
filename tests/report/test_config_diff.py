"""Settings that differ between runs, and only these."""

from cim_lightning.report.config_diff import differing_settings, flatten
from cim_lightning.report.runs import read_runs


def settings(folder, seed, angle, **others):
    cropping = {"rotation": angle, "flip": 0.5, "size": [1, 2]}
    return {
        "seed": seed,
        "cropping": cropping,
        "method": {"cropping": cropping} | others,
        "callbacks": {"step_seed": {"seed": seed}, "panels": {"folder": f"{folder}/panels"}},
        "paths": {"run": str(folder)},
        "output_dir": str(folder),
    }


def test_differences_due_to_another_setting_a_seed_or_a_folder_are_left_out(write_run, tmp_path):
    for i, (angle, seed) in enumerate([(0, 0), (0, 1), (45, 0)]):
        overrides = [f"cropping.rotation={angle}", f"seed={seed}"]
        write_run(str(i), overrides, settings=settings(tmp_path / str(i), seed, angle))
    assert differing_settings(read_runs(tmp_path)) == {
        "cropping.rotation": {"cropping.rotation=0": "0", "cropping.rotation=45": "45"}
    }


def test_a_setting_that_only_one_run_has_is_listed(write_run, tmp_path):
    write_run("0", ["method=mae"], settings=settings(tmp_path / "0", 0, 0, masked=0.75, ema=None))
    write_run("1", ["method=cim"], settings=settings(tmp_path / "1", 0, 0, ema=True))
    assert differing_settings(read_runs(tmp_path)) == {
        "method.masked": {"mae": "0.75", "cim": "--"},
        "method.ema": {"mae": "null", "cim": "true"},
    }


def test_a_single_run_has_no_differences(write_run, tmp_path):
    write_run("0", [], settings=settings(tmp_path / "0", 0, 15))
    (run,) = read_runs(tmp_path)
    assert differing_settings([run]) == {}
    assert flatten(run)["callbacks.panels.folder"] == "(run)/panels"
    assert flatten(run)["cropping.size"] == "[1, 2]"
