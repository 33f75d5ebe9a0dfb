"""`cim-report`, from its arguments to its files or to its error."""

import csv
import json
import subprocess
import sys

import pytest
import yaml

from cim_lightning.cli import main
from cim_lightning.report import failures
from cim_lightning.report.comparison import Comparison
from cim_lightning.report.cost_curves import total_costs
from cim_lightning.report.runs import read_runs


@pytest.fixture
def report(monkeypatch):
    """`cim-report` as a function of its arguments."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["cim-report", *map(str, arguments)])
        main.report()

    return call


def test_a_page_a_markdown_table_and_a_csv_file_are_written(write_run, tmp_path, report, capsys):
    write_run("s/0", ["method=mae", "seed=0"], **{"val/knn": 30.0})
    write_run("s/1", ["method=mae", "seed=1"], **{"val/knn": 34.0})
    write_run("s/2", ["method=cim", "seed=0"], finished=False)
    report(tmp_path / "s")
    assert capsys.readouterr().out == f"2 finished and 1 unfinished runs: {tmp_path / 's' / 'report.html'}\n"
    assert (tmp_path / "s" / "report.html").read_text().startswith("<!DOCTYPE html>")
    table = (tmp_path / "s" / "report.md").read_text()
    assert "| mae | 2 |" in table
    assert "32.0 ± 2.8" in table
    assert f"* cim, seed 0: {tmp_path / 's' / '2'}" in table
    rows = list(csv.DictReader((tmp_path / "s" / "report.csv").read_text().splitlines()))
    assert [(row["setting"], row["folder"], row["online k-NN after, %"]) for row in rows] == [
        ("mae", "0", "30.0"),
        ("mae", "1", "34.0"),
    ]
    assert rows[0]["skill"] == ""


def test_failed_jobs_are_reported_also_without_a_finished_run(write_run, tmp_path, report, capsys):
    folder = write_run("s/0", ["seed=0", "decoder.depth=9"], finished=False, failed="ValueError: no")
    (folder / "config.yaml").unlink()
    report(tmp_path / "s")
    assert capsys.readouterr().out.startswith("0 finished and 0 unfinished runs, 1 failed: ")
    assert "* 0 (seed=0): ValueError: no" in (tmp_path / "s" / "report.md").read_text()
    write_run("s/1", ["seed=1"])
    write_run("s/2", ["seed=2"], finished=False, failed="ValueError: no")
    report(tmp_path / "s")
    assert capsys.readouterr().out.startswith("1 finished and 0 unfinished runs, 2 failed: ")
    text = (tmp_path / "s" / "report.md").read_text()
    assert "Failed:\n\n* 0 (decoder.depth=9 seed=0): ValueError: no\n* 2 (seed=2): ValueError: no" in text
    assert "Unfinished" not in text


def test_a_reference_is_compared_with_the_others_at_each_budget(write_run, tmp_path, report, capsys):
    for method, budgets in (("mae", (3, 9)), ("cim", (3, 9)), ("dino", (9,))):
        for budget in budgets:
            for seed in range(2):
                overrides = [f"method={method}", f"budget.petaflop={budget}", f"seed={seed}"]
                knn = 30 + seed * (1 + len(method)) + budget
                write_run(f"{method}-{budget}-{seed}", overrides, **{"val/knn": float(knn)})
    report(tmp_path, "--reference", "dino")
    assert capsys.readouterr().err == (
        "budget.petaflop=3: no differences, because no run of dino is finished\n"
    )
    text = (tmp_path / "report.md").read_text()
    assert "Differences (budget.petaflop=9) from dino." in text
    assert "Differences (budget.petaflop=3)" not in text
    assert "<td>reference</td>" in (tmp_path / "report.html").read_text()
    with pytest.raises(SystemExit):
        report(tmp_path, "-r", "mea")
    rule = "must be a setting with a finished run; try one of: cim; mae; dino"
    assert capsys.readouterr().err == f"cim-report: --reference=mea: {rule}\n"


def test_several_folders_make_one_page_and_a_run_counts_once(write_run, tmp_path, report, capsys):
    write_run("a/0", ["method=mae"])
    write_run("b", ["method=cim"])
    out = tmp_path / "new" / "all.html"
    report(tmp_path / "a", tmp_path / "a" / "0", tmp_path / "b", "-o", out)
    assert "2 finished" in capsys.readouterr().out
    assert {path.name for path in out.parent.iterdir()} == {"all.html", "all.md", "all.csv"}
    assert f",{tmp_path / 'b'}," in out.with_suffix(".csv").read_text()


def test_the_page_of_several_folders_is_in_the_working_directory(
    write_run, tmp_path, report, capsys, monkeypatch
):
    (tmp_path / "c").mkdir()
    monkeypatch.chdir(tmp_path / "c")
    write_run("a", ["method=mae"])
    report(tmp_path / "a", tmp_path / "c")
    assert capsys.readouterr().err == f"{tmp_path / 'c'}: has no run of cim-pretrain\n"
    assert not (tmp_path / "a" / "report.html").exists()
    assert (tmp_path / "c" / "report.html").exists()


@pytest.mark.parametrize(("folder", "line"), [("nowhere", "no such folder"), (".", "has no run")])
def test_a_folder_without_runs_is_an_error_of_one_line(tmp_path, report, capsys, folder, line):
    with pytest.raises(SystemExit) as end:
        report(tmp_path / folder)
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith(f"cim-report: {tmp_path / folder}: ")
    assert line in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["page.md", "page", "taken/page.html"])
def test_an_invalid_output_is_an_error_of_one_line(write_run, tmp_path, report, capsys, name):
    write_run("0", [])
    (tmp_path / "taken").write_text("")
    with pytest.raises(SystemExit) as end:
        report(tmp_path / "0", "-o", tmp_path / name)
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"0", "taken"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.yaml", ""),
        ("config.yaml", "a: ["),
        ("metrics.json", '{"a'),
        ("run.json", "{}"),
        ("run.json", ""),
    ],
)
def test_a_run_with_incomplete_files_is_skipped(write_run, tmp_path, report, capsys, caplog, file, text):
    write_run("0", ["seed=0"])
    (write_run("1", ["seed=1"]) / file).write_text(text)
    report(tmp_path)
    assert capsys.readouterr().out.startswith("1 finished and 0 unfinished")
    assert "skipped" in caplog.text


@pytest.mark.fault(
    "command", "a file of a run has a value of the wrong kind", "the report skips the run with one line"
)
@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("metrics.json", {"val/knn": "high"}),
        ("metrics.json", {"val/knn": [1]}),
        ("metrics.json", {"val/knn": 10**400}),
        ("metrics.json", {"seconds": {}}),
        ("metrics.json", {"steps": -1}),
        ("metrics.json", {"device": 3}),
        ("evaluation/metrics.json", {"knn/mean_k20": True}),
        (
            "evaluation/metrics.json",
            {"metrics": {"knn/mean_k20": {"name": "a", "title": "b", "digits": "c"}}},
        ),
        ("evaluation/metrics.json", {"metrics": []}),
        ("run.json", {"command": None}),
        ("run.json", {"choices": {}}),
        ("run.json", {"overrides": "seed=0"}),
        ("run.json", {"setup": [1]}),
        ("run.json", {"setup": {"images_per_step": "many"}}),
        ("run.json", {"metrics": [{"name": "skill", "title": "skill", "section": "other"}]}),
        ("run.json", {"image_changes": [{}]}),
        ("config.yaml", {"seed": "first"}),
        ("failure.json", {"reason": 3}),
    ],
)
def test_a_run_with_values_of_the_wrong_kind_is_skipped_with_one_line(
    write_run, tmp_path, caplog, file, changes
):
    write_run("0", ["seed=0"], {"knn/mean_k20": 1.0})
    path = write_run("1", ["seed=1"], {"knn/mean_k20": 1.0}, failed="reason") / file
    path.write_text(json.dumps((yaml.safe_load(path.read_text()) or {}) | changes))
    runs, failed = read_runs(tmp_path), failures.read(tmp_path)
    assert (len(runs), len(failed)) == ((2, 0) if file == "failure.json" else (1, 1))
    (message,) = caplog.messages
    assert message.startswith(f"skipped {tmp_path / '1'}, which cannot be read (ValueError: {file}")
    assert "\n" not in message
    assert len(message) < 300


def test_unknown_costs_are_left_out(write_run, tmp_path):
    unknown = dict.fromkeys(("train_images", "forward_flops_per_image", "backward_flops_per_image"))
    folder = write_run("0", ["seed=0"], setup=unknown, **unknown, **{"val/knn": 50.0})
    (run,) = read_runs(folder)
    assert total_costs(run) == {"steps": 10, "images": 1000, "seconds": 20}
    comparison = Comparison([run])
    assert {"epochs", "TFLOP total"}.isdisjoint(comparison.rows["cim"])
    assert comparison.rows["cim"]["seconds"].mean == 20
    numbers = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(numbers | {"train_images": 0}))
    assert "epochs" not in Comparison(read_runs(folder)).rows["cim"]


def test_a_run_of_a_version_that_recorded_less_is_shown(write_run, tmp_path, report):
    folder = write_run("0", ["seed=0"], logged="step,val/loss\n0,2\n9,1\n")
    (folder / "metrics.json").write_text('{"val/knn": 50}')
    report(folder)
    assert "| cim | 1 | 50.0 |" in (folder / "report.md").read_text()


def test_the_command_starts_without_importing_plotly():
    code = "import sys, cim_lightning.cli.report, cim_lightning.report.page; print('plotly' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"
