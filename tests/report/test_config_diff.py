"""Settings that are not the same everywhere, and only these."""

from cim_lightning.report.config_diff import configurations, flat
from cim_lightning.report.runs import read_runs


def settings(place, seed, angle, **others):
    cropping = {"rotation": angle, "flip": 0.5, "size": [1, 2]}
    return {
        "seed": seed,
        "cropping": cropping,
        "method": {"cropping": cropping} | others,
        "callbacks": {"streams": {"seed": seed}, "panels": {"folder": f"{place}/panels"}},
        "paths": {"run": str(place)},
        "output_dir": str(place),
    }


def test_what_follows_from_another_setting_a_seed_or_a_folder_is_not_told(leave, tmp_path):
    for i, (angle, seed) in enumerate([(0, 0), (0, 1), (45, 0)]):
        asked = [f"cropping.rotation={angle}", f"seed={seed}"]
        leave(str(i), asked, settings=settings(tmp_path / str(i), seed, angle))
    assert configurations(read_runs(tmp_path)) == {
        "cropping.rotation": {"cropping.rotation=0": "0", "cropping.rotation=45": "45"}
    }


def test_a_setting_that_one_side_lacks_is_told(leave, tmp_path):
    leave("0", ["method=mae"], settings=settings(tmp_path / "0", 0, 0, masked=0.75, ema=None))
    leave("1", ["method=cim"], settings=settings(tmp_path / "1", 0, 0, ema=True))
    assert configurations(read_runs(tmp_path)) == {
        "method.masked": {"mae": "0.75", "cim": "--"},
        "method.ema": {"mae": "null", "cim": "true"},
    }


def test_one_run_differs_in_nothing(leave, tmp_path):
    leave("0", [], settings=settings(tmp_path / "0", 0, 15))
    (run,) = read_runs(tmp_path)
    assert configurations([run]) == {}
    assert flat(run)["callbacks.panels.folder"] == "(run)/panels"
    assert flat(run)["cropping.size"] == "[1, 2]"
