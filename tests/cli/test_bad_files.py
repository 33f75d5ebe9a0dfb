"""Commands on folders with damaged files: what they list, count and refuse."""

import csv
import json
import os
from pathlib import Path

import pytest

from tests.odd_files import BAD, ODD, SKIPPED, write_files, write_skipped


def rows(file: Path) -> dict[str, str]:
    """The reasons by path in a `bad_files.csv`, each of which has one row."""
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        listed = [tuple(row) for row in csv.reader(lines)]
    assert listed[0] == ("file", "reason")
    assert len(dict(listed)) == len(listed)
    return dict(listed[1:])


def with_root(tiny: list[str], root: Path) -> list[str]:
    return [f"data.root={root}" if item.startswith("data.root=") else item for item in tiny]


def write_photos(root: Path, good: int, bad: int) -> Path:
    for split in ("train", "val"):
        names = [f"{split}/{'ab'[i % 2]}/{i}.png" for i in range(good + bad)]
        write_files(root, dict.fromkeys(names[:good], ODD["tail.png"]))
        write_files(root, dict.fromkeys(names[good:], b"<html>"))
    return root


@pytest.mark.fault(
    "data",
    "damaged files, fewer than `data.max_bad_share`",
    "listed in `bad_files.csv`, counted in metrics.json",
)
def test_a_run_lists_all_kinds_of_damaged_files(tmp_path, run_pretrain, tiny, capfd):
    root = write_photos(tmp_path / "photos", good=12, bad=0)
    write_files(root / "train" / "a", ODD | BAD)
    write_skipped(root / "train" / "b")
    run_pretrain(
        *with_root(tiny, root),
        "data.max_bad_share=0.6",
        "callbacks.knn=null",
        "output_dir=run",
        "trainer.max_epochs=1",
    )
    assert rows(Path("run/bad_files.csv")).keys() == {str(root / "train" / "a" / name) for name in BAD}
    assert json.loads(Path("run/metrics.json").read_text())["bad_images"] == len(BAD)
    total = len(BAD) + len(ODD) + 24
    line = f"{len(BAD)} of {total} images could not be decoded: {os.path.abspath('run/bad_files.csv')}"
    printed = capfd.readouterr().out.splitlines()
    assert printed.count(line) == 1
    assert printed.index(line) > next(i for i, text in enumerate(printed) if "images/s on" in text)
    assert sum(text.startswith("skipped an image: ") for text in printed) == 10
    summary = next(text for text in printed if text.startswith(f"{total} images in 2 classes"))
    assert all(f" {reason}" in summary for reason in SKIPPED.values())


@pytest.mark.fault("data", "60 % damaged files", "one line with reasons before the first step; exit code 2")
def test_a_run_on_mostly_damaged_files_is_refused(tmp_path, run_pretrain, tiny, capfd):
    root = write_photos(tmp_path / "photos", good=12, bad=18)
    with pytest.raises(SystemExit, match="2"):
        run_pretrain(*with_root(tiny, root))
    line = capfd.readouterr().err.strip()
    assert line.startswith("cim-pretrain: data.max_bad_share=0.1: ")
    assert " of the first 16 images cannot be decoded: " in line
    assert "x not an image, but an HTML page ('" in line
    assert line.endswith("; replace or remove them, or try data.max_bad_share=0.6")
    assert "\n" not in line
