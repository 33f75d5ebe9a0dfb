"""The page as text: its content, and that texts from files cannot become markup."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from PIL import Image

from cim_lightning.loggers.csv import ResumableCSVLogger
from cim_lightning.report import failures, panel_gallery
from cim_lightning.report.curves import read_curves
from cim_lightning.report.page import page
from cim_lightning.report.runs import read_runs

EVIL = "<img src=x onerror=alert(1)>&\"'"


class Cells(HTMLParser):
    """Rows of all tables of a page, as texts; those of the best start with a star."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags, self.inside = [], set(), False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True
        elif dict(attrs).get("class") == "best":
            self.rows[-1][-1] += "*"

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


@pytest.fixture
def without_library(monkeypatch):
    monkeypatch.setattr("cim_lightning.report.plots.library", lambda: "")


def two_settings(write_run):
    for seed, (mae, cim) in enumerate([(30, 40), (34, 46)]):
        write_run(f"mae{seed}", ["method=mae", f"seed={seed}"], **{"val/knn": mae})
        write_run(f"cim{seed}", ["method=cim", f"seed={seed}"], **{"val/knn": cim})
    write_run("simmim", ["method=simmim", "seed=0"], finished=False)


def test_the_table_has_means_deviations_and_the_best(write_run, tmp_path):
    two_settings(write_run)
    rows = Cells(page("sweep", read_runs(tmp_path))).rows
    head = next(row for row in rows if row[:2] == ["setting", "n"])
    mae, cim = (
        next(row for row in rows if row[0] == name and len(row) == len(head)) for name in ("mae", "cim")
    )
    knn = head.index("online k-NN after, %")
    assert (mae[1], mae[knn]) == ("2", "32.0 ± 2.8")
    assert (cim[1], cim[knn]) == ("2", "*43.0 ± 4.2")
    assert head.index("online k-NN after, %") < head.index("epochs")
    # differences 10 and 12: mean 11, deviation sqrt(2), t = 11, 1 degree of freedom,
    # p = 1 - 2 atan(11) / pi = 0.0577
    assert ["mae", "-11.0, p = 0.058 (paired, n = 2; 1 test) p = 0.058 alone"] in rows
    assert ["cim", "*best"] in rows


def test_unfinished_runs_are_counted_and_marked(write_run, tmp_path):
    two_settings(write_run)
    text = page("sweep", read_runs(tmp_path))
    assert "5 runs of 3 settings, 1 of them unfinished." in text
    assert re.search(r"simmim, seed 0 <em>unfinished</em>", text)
    write_run("only/0", [], finished=False)
    assert "No run is finished yet." in page("only", read_runs(tmp_path / "only"))


def test_failed_jobs_have_a_traceback_and_are_not_unfinished(write_run, tmp_path, without_library):
    write_run("0", ["decoder.depth=1", "seed=0"])
    write_run("1", ["decoder.depth=1", "seed=1"], finished=False)
    folder = write_run("2", ["decoder.depth=2", "seed=1"], finished=False, failed=f"RuntimeError: {EVIL}")
    failed = failures.read(tmp_path)
    text = page("sweep", read_runs(tmp_path), failed)
    assert "3 runs of 2 settings, 1 of them unfinished; 1 job failed." in text
    reason = "RuntimeError: &lt;img src=x onerror=alert(1)&gt;&amp;&#34;&#39;"
    details = f"<summary>2 (decoder.depth=2 seed=1): {reason}</summary><pre>Traceback of 2</pre>"
    assert details in text
    assert "decoder.depth=2, seed 1 <em>failed</em>" in text
    assert "decoder.depth=1, seed 1 <em>unfinished</em>" in text
    (folder / "config.yaml").unlink()  # it failed before training
    text = page("sweep", read_runs(tmp_path), failed)
    assert "2 runs of 1 setting, 1 of them unfinished; 1 job failed." in text
    assert "<h2>Failed</h2>" in text
    assert "<h2>Failed</h2>" not in page("sweep", read_runs(tmp_path))


def test_texts_from_files_are_escaped(write_run, tmp_path, without_library):
    logged = "step,val/loss\n0,2\n9,1\n"
    for i in range(2):
        overrides = [f"data.root={EVIL}{i}".replace("src=x onerror=", "")]
        write_run(
            str(i),
            overrides,
            logged=logged,
            settings={EVIL: i},
            panels=[1],
            git_commit=EVIL,
            **{"val/knn": 25 * i},
        )
    text = page(EVIL, read_runs(tmp_path))
    assert "<img src=x" not in text
    assert "alert(1)>" not in text
    assert EVIL in "".join(cell for row in Cells(text).rows for cell in row)
    assert Cells(text).tags >= {"table", "img", "details"}


def test_the_page_is_self_contained(write_run, tmp_path, without_library):
    write_run("0", [], logged="step,val/loss\n0,2\n", panels=[0, 1])
    text = page("run", read_runs(tmp_path))
    assert not re.findall(r"https?://|@import|url\(", text)
    assert set(re.findall(r'(?:src|href)="([a-z]+:)', text)) == {"data:"}
    assert "default-src 'none'" in text


def test_curves_are_exactly_the_logged_numbers(tmp_path):
    logger = ResumableCSVLogger(str(tmp_path / "metrics.csv"))
    values = [0.1 + 0.2, 1 / 3, 1e-17]
    for step, value in enumerate(values):
        logger.log_metrics({"train/loss": value}, step)
    logger.save()
    assert read_curves(tmp_path / "metrics.csv")["train/loss"].values == values


@pytest.mark.fault(
    "command", "a failure.json or a panel of a run is a link to a file elsewhere", "the report leaves it out"
)
def test_a_report_shows_no_file_from_outside_of_a_run(tmp_path, caplog):
    secret, run = tmp_path / "secret.txt", tmp_path / "runs" / "0"
    secret.write_text("the secret")
    Image.new("RGB", (8, 8)).save(tmp_path / "step-1.png")
    run.mkdir(parents=True)
    failures.write(run, [], [], "reason", "trace")
    content = json.loads((run / "failure.json").read_text())
    for traceback in ("../../secret.txt", str(secret)):  # what earlier versions read
        (run / "failure.json").write_text(json.dumps(content | {"traceback": traceback}))
        assert [failure.trace for failure in failures.read(tmp_path / "runs")] == ["trace"]
    (run / "failure.txt").unlink()
    (run / "failure.txt").symlink_to(secret)
    assert failures.read(tmp_path / "runs") == []
    assert "failure.txt is a link to a file outside of the run" in caplog.text
    (run / "panels").mkdir()
    (run / "panels" / "step-1.png").symlink_to(tmp_path / "step-1.png")
    assert panel_gallery.panels(run) == []
    shutil.copy(tmp_path / "step-1.png", run / "panels" / "step-2.png")
    (run / "panels" / "step-x.png").touch()
    assert [step for step, _ in panel_gallery.panels(run)] == [2]
