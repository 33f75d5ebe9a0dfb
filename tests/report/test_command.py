"""`cim-report`, from its arguments to its files, or to one line."""

import csv
import subprocess
import sys

import pytest

from cim_lightning.cli import main


@pytest.fixture
def report(monkeypatch):
    """The door, called with its arguments."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["cim-report", *map(str, arguments)])
        main.report()

    return call


def test_a_page_a_markdown_table_and_a_csv_file_lie_in_the_folder(leave, tmp_path, report, capsys):
    leave("s/0", ["method=mae", "seed=0"], **{"val/knn": 0.30})
    leave("s/1", ["method=mae", "seed=1"], **{"val/knn": 0.34})
    leave("s/2", ["method=cim", "seed=0"], finished=False)
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
    assert rows[0]["probe, %"] == ""


def test_what_failed_is_told_even_where_nothing_else_is(leave, tmp_path, report, capsys):
    place = leave("s/0", ["seed=0", "decoder.depth=9"], finished=False, failed="ValueError: no")
    (place / "config.yaml").unlink()
    report(tmp_path / "s")
    assert capsys.readouterr().out.startswith("0 finished and 0 unfinished runs, 1 failed: ")
    assert "* 0 (seed=0): ValueError: no" in (tmp_path / "s" / "report.md").read_text()
    leave("s/1", ["seed=1"])
    leave("s/2", ["seed=2"], finished=False, failed="ValueError: no")
    report(tmp_path / "s")
    assert capsys.readouterr().out.startswith("1 finished and 0 unfinished runs, 2 failed: ")
    told = (tmp_path / "s" / "report.md").read_text()
    assert "Failed:\n\n* 0 (decoder.depth=9 seed=0): ValueError: no\n* 2 (seed=2): ValueError: no" in told
    assert "Unfinished" not in told


def test_several_folders_make_one_page_and_a_run_counts_once(leave, tmp_path, report, capsys):
    leave("a/0", ["method=mae"])
    leave("b", ["method=cim"])
    out = tmp_path / "new" / "all.html"
    report(tmp_path / "a", tmp_path / "a" / "0", tmp_path / "b", "-o", out)
    assert "2 finished" in capsys.readouterr().out
    assert {path.name for path in out.parent.iterdir()} == {"all.html", "all.md", "all.csv"}
    assert f",{tmp_path / 'b'}," in out.with_suffix(".csv").read_text()


def test_several_folders_overwrite_no_page_of_one_of_them(leave, tmp_path, report, capsys, monkeypatch):
    (tmp_path / "c").mkdir()
    monkeypatch.chdir(tmp_path / "c")
    leave("a", ["method=mae"])
    report(tmp_path / "a", tmp_path / "c")
    assert capsys.readouterr().err == f"{tmp_path / 'c'}: holds no run of cim-pretrain\n"
    assert not (tmp_path / "a" / "report.html").exists()
    assert (tmp_path / "c" / "report.html").exists()


@pytest.mark.parametrize(("folder", "line"), [("nowhere", "there is no such folder"), (".", "holds no run")])
def test_a_folder_without_runs_is_told_in_one_line(tmp_path, report, capsys, folder, line):
    with pytest.raises(SystemExit) as end:
        report(tmp_path / folder)
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"cim-report: {tmp_path / folder}: ")
    assert line in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["page.md", "page", "taken/page.html"])
def test_a_file_that_cannot_be_the_page_is_told_in_one_line(leave, tmp_path, report, capsys, name):
    leave("0", [])
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
        ("launch.json", "{}"),
        ("launch.json", ""),
    ],
)
def test_a_run_whose_files_are_half_written_is_passed_over(
    leave, tmp_path, report, capsys, caplog, file, text
):
    leave("0", ["seed=0"])
    (leave("1", ["seed=1"]) / file).write_text(text)
    report(tmp_path)
    assert capsys.readouterr().out.startswith("1 finished and 0 unfinished")
    assert "passed over" in caplog.text


def test_a_run_of_a_version_that_recorded_less_is_shown(leave, tmp_path, report):
    place = leave("0", ["seed=0"], logged="step,val/loss\n0,2\n9,1\n")
    (place / "metrics.json").write_text('{"val/knn": 0.5}')
    report(place)
    assert "| cim | 1 | 50.0 |" in (place / "report.md").read_text()


def test_the_door_opens_without_plotly():
    code = "import sys, cim_lightning.cli.report, cim_lightning.report.page; print('plotly' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
