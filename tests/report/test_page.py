"""The page as text: what stands in it, and that nothing in a file becomes a part of it."""

import re
from html.parser import HTMLParser

import pytest

from cim_lightning.loggers.csv import ResumableCSVLogger
from cim_lightning.report import failures
from cim_lightning.report.curves import read_curves
from cim_lightning.report.page import page
from cim_lightning.report.runs import read_begun

EVIL = "<img src=x onerror=alert(1)>&\"'"


class Cells(HTMLParser):
    """The tables of a page: rows of texts; those of the best in stars."""

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


def two_settings(leave):
    for seed, (mae, cim) in enumerate([(0.30, 0.40), (0.34, 0.46)]):
        leave(f"mae{seed}", ["method=mae", f"seed={seed}"], **{"val/knn": mae})
        leave(f"cim{seed}", ["method=cim", f"seed={seed}"], **{"val/knn": cim})
    leave("simmim", ["method=simmim", "seed=0"], finished=False)


def test_the_table_holds_means_deviations_and_the_best(leave, tmp_path):
    two_settings(leave)
    rows = Cells(page("sweep", read_begun(tmp_path))).rows
    head = next(row for row in rows if row[:2] == ["setting", "n"])
    mae, cim = (
        next(row for row in rows if row[0] == name and len(row) == len(head)) for name in ("mae", "cim")
    )
    knn = head.index("online k-NN after, %")
    assert (mae[1], mae[knn]) == ("2", "32.0 ± 2.8")
    assert (cim[1], cim[knn]) == ("2", "*43.0 ± 4.2")
    assert head.index("online k-NN after, %") < head.index("epochs")
    # differences 10 and 12: mean 11, deviation sqrt(2), t = 11, one degree: 1 - 2 atan(11) / pi = 0.0577
    assert ["mae", "-11.0, p = 0.058 (paired, n = 2)"] in rows
    assert ["cim", "*best"] in rows


def test_unfinished_runs_are_told(leave, tmp_path):
    two_settings(leave)
    text = page("sweep", read_begun(tmp_path))
    assert "5 runs of 3 settings, 1 of them unfinished." in text
    assert re.search(r"simmim, seed 0 <em>unfinished</em>", text)
    leave("only/0", [], finished=False)
    assert "No run is finished yet." in page("only", read_begun(tmp_path / "only"))


def test_what_failed_is_told_with_its_traceback_and_is_not_unfinished(leave, tmp_path, without_library):
    leave("0", ["decoder.depth=1", "seed=0"])
    leave("1", ["decoder.depth=1", "seed=1"], finished=False)
    place = leave("2", ["decoder.depth=2", "seed=1"], finished=False, failed=f"RuntimeError: {EVIL}")
    failed = failures.read(tmp_path)
    text = page("sweep", read_begun(tmp_path), failed)
    assert "3 runs of 2 settings, 1 of them unfinished; 1 job failed." in text
    reason = "RuntimeError: &lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#x27;"
    told = f"<summary>2 (decoder.depth=2 seed=1): {reason}</summary><pre>Traceback of 2</pre>"
    assert told in text
    assert "decoder.depth=2, seed 1 <em>failed</em>" in text
    assert "decoder.depth=1, seed 1 <em>unfinished</em>" in text
    (place / "config.yaml").unlink()  # it failed before it began
    text = page("sweep", read_begun(tmp_path), failed)
    assert "2 runs of 1 setting, 1 of them unfinished; 1 job failed." in text
    assert "<h2>Failed</h2>" in text
    assert "<h2>Failed</h2>" not in page("sweep", read_begun(tmp_path))


def test_what_files_say_is_text(leave, tmp_path, without_library):
    logged = "step,val/loss\n0,2\n9,1\n"
    for i in range(2):
        asked = [f"data.root={EVIL}{i}".replace("src=x onerror=", "")]
        leave(
            str(i),
            asked,
            logged=logged,
            settings={EVIL: i},
            panels=[1],
            git_commit=EVIL,
            **{"val/knn": i / 4},
        )
    text = page(EVIL, read_begun(tmp_path))
    assert "<img src=x" not in text
    assert "alert(1)>" not in text
    assert EVIL in "".join(cell for row in Cells(text).rows for cell in row)
    assert Cells(text).tags >= {"table", "img", "details"}


def test_nothing_of_the_page_lies_elsewhere(leave, tmp_path, without_library):
    leave("0", [], logged="step,val/loss\n0,2\n", panels=[0, 1])
    text = page("run", read_begun(tmp_path))
    assert not re.findall(r"https?://|@import|url\(", text)
    assert set(re.findall(r'(?:src|href)="([a-z]+:)', text)) == {"data:"}
    assert "default-src 'none'" in text


def test_curves_are_the_numbers_that_loggers_were_given(tmp_path):
    logger = ResumableCSVLogger(str(tmp_path / "metrics.csv"))
    given = [0.1 + 0.2, 1 / 3, 1e-17]
    for step, value in enumerate(given):
        logger.log_metrics({"train/loss": value}, step)
    logger.save()
    assert read_curves(tmp_path / "metrics.csv")["train/loss"].values == given
