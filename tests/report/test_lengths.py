"""Runs of several budgets: one comparison per budget, and one series of budgets per setting."""

from cim_lightning.report import tables
from cim_lightning.report.lengths import comparisons, series
from cim_lightning.report.markdown import markdown
from cim_lightning.report.runs import read_runs


def write_budgets(write_run, methods=("mae", "cim"), key="budget.petaflop"):
    for i, method in enumerate(methods):
        for budget in (3, 9):
            for seed in range(2):
                job, knn = f"{method}-{budget}-{seed}", 30 + budget + i + seed * (1 + i)
                write_run(job, [f"method={method}", f"{key}={budget}", f"seed={seed}"], **{"val/knn": knn})


def test_settings_are_compared_at_the_same_budget(write_run, tmp_path):
    write_budgets(write_run)
    compared = comparisons(read_runs(tmp_path))
    assert [*compared] == ["budget.petaflop=3", "budget.petaflop=9"]
    for budget, comparison in zip((3, 9), compared.values(), strict=True):
        assert {name: len(runs) for name, runs in comparison.runs.items()} == {"cim": 2, "mae": 2}
        assert comparison.rows["mae"]["online k-NN after, %"].mean == 30.5 + budget
    text = markdown("sweep", read_runs(tmp_path), reference="mae")
    assert "Differences (budget.petaflop=9) from mae. p is corrected by Holm" in text
    # cim - mae is 1 and 2: mean 1.5, deviation of the mean 0.5, t = 3 with 1 degree of freedom
    assert text.count("| cim | +1.5, p = 0.205 (paired, n = 2; 1 test) |") == 2


def test_lengths_are_compared_with_each_other_if_nothing_else_was_varied(write_run, tmp_path):
    write_budgets(write_run, methods=("mae",), key="trainer.max_epochs")
    (comparison,) = comparisons(read_runs(tmp_path)).values()
    assert [*comparison.runs] == ["trainer.max_epochs=3", "trainer.max_epochs=9"]
    assert [*tables.differences(read_runs(tmp_path))] == []  # the difference is 6 in both pairs
    assert [len(groups) for groups in series(read_runs(tmp_path)).groups.values()] == [2]


def test_a_run_without_an_override_has_the_default_length(write_run, tmp_path):
    write_run("0", ["method=mae", "budget.images=9"])
    write_run("1", ["method=cim"])
    assert [*comparisons(read_runs(tmp_path))] == ["budget.images=9", "default length"]


def test_a_series_has_the_budgets_of_a_setting(write_run, tmp_path):
    write_budgets(write_run)
    grouped = series(read_runs(tmp_path))
    sizes = {name: [len(group) for group in groups] for name, groups in grouped.groups.items()}
    assert sizes == {"cim": [2, 2], "mae": [2, 2]}
    assert grouped.connected


def test_many_trials_of_a_method_are_one_series(write_run, tmp_path):
    for i in range(12):
        write_run(str(i), [f"method={'mae' if i % 3 else 'cim'}", f"optim.base_lr={i}"])
    grouped = series(read_runs(tmp_path))
    assert {name: len(groups) for name, groups in grouped.groups.items()} == {"cim": 4, "mae": 8}
    assert not grouped.connected
