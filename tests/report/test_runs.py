"""Runs, read back and told apart."""

from cim_lightning.report.runs import differing, grouped, read_begun, read_runs


def test_finished_runs_are_found_at_any_depth_in_the_order_of_their_numbers(leave, tmp_path):
    for job in ("10", "9", "b/2", "b/1"):
        leave(job, ["seed=3"], {"knn/mean_k20": 0.5}, **{"val/knn": 0.75})
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.yaml").write_text("seed: 1")
    runs = read_runs(tmp_path)
    assert [str(run.folder.relative_to(tmp_path)) for run in runs] == ["b/1", "b/2", "9", "10"]
    assert runs[0].seed == 3
    assert runs[0].numbers["val/knn"] == 0.75
    assert runs[0].numbers["evaluation/knn/mean_k20"] == 0.5


def test_begun_runs_are_those_of_the_door_finished_or_not(leave, tmp_path, caplog):
    leave("10", ["seed=1"])
    place = leave("9", ["seed=0"], finished=False)
    (place / "wandb" / "files").mkdir(parents=True)
    (place / "wandb" / "files" / "config.yaml").write_text("seed: {value: 1}")
    assert [(run.seed, run.finished) for run in read_begun(tmp_path)] == [(0, False), (1, True)]
    assert caplog.text == ""


def test_an_evaluation_is_no_run(leave, tmp_path):
    leave("0", [], {"knn/mean_k20": 0.5})
    assert len(read_runs(tmp_path)) == 1


def test_runs_are_told_apart_by_what_differs_but_for_the_seed(leave, tmp_path):
    for i, (angle, seed) in enumerate([(0, 0), (0, 1), (45, 0)]):
        leave(str(i), [f"cropping.rotation={angle}", f"seed={seed}", "trainer=cpu", f"output_dir={i}"])
    runs = read_runs(tmp_path)
    assert differing(runs) == ["cropping.rotation"]
    groups = grouped(runs)
    assert {name: [run.seed for run in some] for name, some in groups.items()} == {
        "cropping.rotation=0": [0, 1],
        "cropping.rotation=45": [0],
    }


def test_what_a_sweep_varied_tells_runs_even_where_one_value_is_left(leave, tmp_path):
    for i, seed in enumerate((0, 1)):
        asked = ["cropping.rotation=0", f"seed={seed}"]
        leave(str(i), [*asked, "trainer=cpu"], swept=asked)
    assert list(grouped(read_runs(tmp_path))) == ["cropping.rotation=0"]


def test_what_only_watches_a_run_makes_no_other_setting(leave, tmp_path):
    leave("0", ["seed=0", "decoder.depth=1", "logger=csv", "callbacks.panels=null"])
    leave("1", ["seed=1", "decoder.depth=1", "callbacks.last.every_minutes=1", "hydra/launcher=joblib"])
    leave("2", ["seed=1", "decoder.depth=2", "evaluation=[knn]"])
    assert {name: len(some) for name, some in grouped(read_runs(tmp_path)).items()} == {
        "decoder.depth=1": 2,
        "decoder.depth=2": 1,
    }


def test_methods_are_called_by_their_names(leave, tmp_path):
    leave("0", ["method=mae", "compare=small/mae"])
    leave("1", ["method=cim", "compare=small/cim"])
    assert list(grouped(read_runs(tmp_path))) == ["mae", "cim"]


def test_runs_of_one_setting_are_one_group(leave, tmp_path):
    leave("0", ["trainer=cpu", "seed=0"])
    leave("1", ["trainer=cpu", "seed=1"])
    assert {name: len(some) for name, some in grouped(read_runs(tmp_path)).items()} == {"cim": 2}


def test_a_setting_that_only_some_were_given_tells_them_apart(leave, tmp_path):
    leave("0", ["trainer=cpu"])
    leave("1", ["trainer=cpu", "decoder.depth=2"])
    assert list(grouped(read_runs(tmp_path))) == ["as shipped", "decoder.depth=2"]
