"""Images that cannot be decoded: warnings, rows of bad_files.csv, and the share at which a run stops."""

import csv
import functools
import multiprocessing
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cim_lightning.data import bad_images
from cim_lightning.data.bad_images import BadImages
from cim_lightning.data.bad_share import SAMPLE, BadShare, check_sample
from cim_lightning.data.batch import Samples
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.folder import folder
from cim_lightning.data.format_check import check_first_images
from cim_lightning.data.loader import Loading
from cim_lightning.data.pixel_format import RGB8
from cim_lightning.data.view_dataset import CenterSquare, ViewDataset, view_loader
from cim_lightning.errors import BadImageError, ConfigError, LoadingError

ODD_NAMES = ("a,b.jpg", 'quote".jpg', "line\nbreak.jpg", os.fsdecode(b"\xff\xfe.jpg"), "猫.jpg")


def rows(file: Path) -> list[list[str]]:
    """The rows of a CSV file, whose names may not be UTF-8."""
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        return list(csv.reader(lines))


class Images:
    """Images of which those in `bad` cannot be decoded."""

    classes = None

    def __init__(self, count: int, bad: range):
        self.count, self.bad, self.read = count, bad, []

    def __len__(self) -> int:
        return self.count

    def path(self, index: int) -> str:
        return f"/photos/{index}.jpg"

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.read.append(index)
        if index in self.bad:
            raise BadImageError(f"truncated ({index} bytes)", repr(self.path(index)))
        return Image.new("RGB", (4, 4)), 0


def samples(indices: range, *skipped: int) -> Samples:
    numbers = np.array(indices)
    return Samples(0 * numbers, numbers, 0 * numbers, [(i, f"truncated ({i} bytes)") for i in skipped])


def test_each_image_has_one_warning_and_one_row(tmp_path, caplog):
    images = BadImages()
    images.add("before.jpg", "truncated")  # as by a check before the folder of the run is known
    images.open(tmp_path / "bad_files.csv", keep=False)
    for _ in range(2):
        for name in ODD_NAMES:
            images.add(name, "not an image")
    assert rows(images.file) == [
        ["file", "reason"],
        ["before.jpg", "truncated"],
        *([name, "not an image"] for name in ODD_NAMES),
    ]
    assert images.count() == len(caplog.messages) == 6
    assert caplog.messages[3] == r"skipped an image: 'line\nbreak.jpg': not an image"


def test_without_a_file_each_image_has_one_warning(caplog):
    images = BadImages()
    for name in "aba":
        images.add(name, "truncated")
    assert (images.count(), len(caplog.messages)) == (2, 2)


def test_processes_that_write_at_the_same_time_lose_and_repeat_nothing(tmp_path, monkeypatch):
    file, start = tmp_path / "bad_files.csv", multiprocessing.get_context("fork").Event()

    def slow(content: bytes) -> str:
        time.sleep(0.002)  # between reading and writing
        return content.decode()

    monkeypatch.setattr(bad_images, "_decode", slow)

    def find() -> None:
        images = BadImages()
        images.open(file, keep=True)
        start.wait()
        for i in range(20):
            images.add(f"{i}.jpg", "truncated")

    processes = [multiprocessing.get_context("fork").Process(target=find) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
    assert [row[0] for row in rows(file)] == ["file", *(f"{i}.jpg" for i in range(20))]


def test_without_bad_images_there_is_no_file(tmp_path):
    images = BadImages()
    images.open(tmp_path / "bad_files.csv", keep=True)
    assert (images.count(), list(tmp_path.iterdir())) == (0, [])


def test_a_resumed_run_continues_the_list_and_another_run_does_not(tmp_path, caplog):
    file = tmp_path / "bad_files.csv"
    for keep, expected in ((False, ["a"]), (True, ["a", "b"]), (False, ["b"])):
        images = BadImages()
        images.open(file, keep)
        for name in expected:
            images.add(name, "truncated")
        assert [row[0] for row in rows(file)] == ["file", *expected]
    assert [message.split("'")[1] for message in caplog.messages] == ["a", "b", "b"]


def test_processes_share_the_file(tmp_path, caplog):
    first, second = BadImages(), BadImages()
    for images in (first, second):
        images.open(tmp_path / "bad_files.csv", keep=True)
    first.add("a", "truncated")
    second.add("a", "truncated")
    second.add("b", "empty")
    assert (first.count(), second.count(), len(caplog.messages)) == (2, 2, 2)
    assert rows(first.file)[1:] == [["a", "truncated"], ["b", "empty"]]


@pytest.mark.fault(
    "data", "a machine stops while it writes a row of `bad_files.csv`", "the row is written again"
)
def test_an_unfinished_row_is_replaced(tmp_path):
    file = tmp_path / "bad_files.csv"
    file.write_text("file,reason\na,truncated\nb,trun")
    images = BadImages()
    images.open(file, keep=True)
    images.add("b", "truncated")
    assert rows(file) == [["file", "reason"], ["a", "truncated"], ["b", "truncated"]]


def test_after_some_warnings_images_are_only_listed(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(bad_images, "MAX_WARNINGS", 2)
    images = BadImages()
    images.open(tmp_path / "bad_files.csv", keep=True)
    for i in range(5):
        images.add(f"{i}", "truncated")
    assert len(rows(images.file)) == 6
    assert caplog.messages[2:] == [f"further images that cannot be decoded are in {images.file}"]
    images.log_count(1200)
    assert caplog.messages[3:] == [f"5 of 1,200 images could not be decoded: {images.file}"]


def test_the_summary_counts_the_most_frequent_reasons():
    images = BadImages()
    for i in range(3):
        images.add(f"{i}", f"truncated ({i} bytes)")
    for name, reason in (("x", "empty"), ("y", "empty"), ("z", "far " * 40), ("u", "1"), ("v", "other")):
        images.add(name, reason)
    assert images.summary() == (
        f"3 x truncated (0 bytes) ('0'), 2 x empty ('x'), 1 x {('far ' * 40)[:87]}... ('z'), 2 other reasons"
    )


def test_an_image_counts_once_however_many_it_replaces():
    images = BadImages(0.1)
    share = BadShare(images, Images(1000, range(0)), 1000)
    share.record_samples(samples(range(0, 8), 3, 4, 8, 9))  # 7 is good; 3 and 7 got replacements
    assert (share.read, share.bad) == (8, 2)
    assert images.reasons["/photos/9.jpg"] == "truncated (9 bytes)"


@pytest.mark.parametrize("share", [0.6, 0.9, 1.0])
def test_many_bad_images_stop_the_run_within_a_few(share):
    counter = BadShare(BadImages(0.1), Images(10000, range(0)), 10000)
    message = r"^max_bad_share=0\.1: .* of the first .* images cannot be decoded"
    with pytest.raises(ConfigError, match=message):
        _ = [counter.count(1, int(i % 10 < 10 * share)) for i in range(2 * SAMPLE)]


def test_few_bad_images_never_stop_a_run_and_too_many_always_do():
    """The share after all images is exact; before, the limit leaves room for chance."""
    rng = np.random.default_rng(0)
    for num_bad, stops in ((80, 0), (101, 20), (300, 20)):
        stopped = 0
        for _ in range(20):
            is_bad = rng.permutation(1000) < num_bad
            counter = BadShare(BadImages(0.1), Images(1000, range(0)), 1000)
            try:
                for bad in is_bad:
                    counter.count(1, int(bad))
            except ConfigError:
                stopped += 1
        assert stopped == stops


def test_a_single_bad_image_stops_a_run_only_if_none_is_allowed():
    BadShare(BadImages(0.1), Images(5, range(0)), 5).count(5, 1)
    with pytest.raises(ConfigError, match=r"^max_bad_share=0.*try max_bad_share=0\.3$"):
        BadShare(BadImages(0), Images(5, range(0)), 5).count(5, 1)
    BadShare(BadImages(1), Images(5, range(0)), 5).count(5, 5)


def test_later_passes_over_the_images_do_not_count():
    counter = BadShare(BadImages(0.1), Images(100, range(0)), 100)
    counter.count(100, 10)
    counter.count(100, 100)
    assert (counter.read, counter.bad) == (100, 10)


def test_the_line_names_the_reasons_the_list_and_a_way_out(tmp_path):
    images = BadImages(0.1)
    images.open(tmp_path / "bad_files.csv", keep=True)
    share = BadShare(images, Images(100, range(0)), 100)
    with pytest.raises(ConfigError) as caught:
        share.record_samples(samples(range(20), *range(12)))
    assert str(caught.value) == (
        "max_bad_share=0.1: 12 of the first 20 images cannot be decoded: "
        f"12 x truncated (0 bytes) ('/photos/0.jpg'); {tmp_path}/bad_files.csv lists them; "
        "replace or remove them, or try max_bad_share=0.7"
    )
    assert len(rows(images.file)) == 13


@pytest.mark.parametrize(
    "good",
    [
        pytest.param(
            400, marks=pytest.mark.fault("data", "60 % of damaged images", "refused before the first step")
        ),
        pytest.param(
            100, marks=pytest.mark.fault("data", "90 % of damaged images", "refused before the first step")
        ),
        pytest.param(
            0, marks=pytest.mark.fault("data", "damaged images only", "refused before the first step")
        ),
    ],
)
def test_a_sample_is_read_at_the_start(good):
    source = Images(1000, range(good, 1000))
    with pytest.raises(ConfigError, match=rf"^max_bad_share=0.1: \d+ of the first {SAMPLE} images"):
        check_sample(source, 0.1)
    assert (len(source.read), source.read[0], source.read[-1]) == (SAMPLE, 0, 999)


def test_a_sample_with_few_bad_images_is_good():
    check_sample(Images(1000, range(3)), 0.1)
    check_sample(Images(0, range(0)), 0.1)


class HungImages(Images):
    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        os.read(os.pipe()[0], 1)  # nobody writes
        raise AssertionError


@pytest.mark.fault(
    "data",
    "a read at the start that does not end",
    "after `data.timeout` seconds, one line names the image; exit code 1",
)
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs the signals of POSIX")
@pytest.mark.parametrize(
    "check",
    [
        lambda images: check_sample(images, 0.1, timeout=0.1),
        lambda images: check_first_images(images, RGB8, timeout=0.1),
    ],
)
def test_a_read_at_the_start_that_does_not_end(check):
    line = (
        "timeout=0.1: no image within this time (seconds), while reading '/photos/0.jpg'; "
        "check the drive, or try timeout=0.2"
    )
    with pytest.raises(LoadingError, match=f"^{re.escape(line)}$"):
        check(HungImages(20, range(0)))


@pytest.mark.fault(
    "data",
    "images that are damaged during the training",
    "it stops with a line that names the reasons and `bad_files.csv`",
)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loader_reports_bad_images_and_stops(num_workers, tmp_path):
    images = BadImages(0.1)
    images.open(tmp_path / "bad_files.csv", keep=True)
    source = Images(1000, range(100, 1000))
    batches = [[(0, index) for index in range(start, start + 10)] for start in range(0, 1000, 10)]
    views = ViewDataset(source, CenterSquare(4), 0)
    loader, seen = view_loader(views, batches, Loading(num_workers, None, images), False), []
    with pytest.raises(ConfigError, match=r"^max_bad_share=0\.1: .*bad_files\.csv lists them; replace"):
        seen.extend(batch.samples.indices for batch in loader)
    assert 100 <= np.concatenate(seen).max() < 200
    assert {"/photos/100.jpg", "/photos/110.jpg"} < {row[0] for row in rows(images.file)}


def test_images_without_a_replacement_end_the_run_at_any_share():
    views = ViewDataset(Images(200, range(200)), CenterSquare(4), 0)
    loader = view_loader(views, [[(0, 0)]], Loading(0, None, BadImages(1.0)), False)
    with pytest.raises(ConfigError, match=r"^100 random images cannot be decoded, and no other"):
        next(iter(loader))


def test_in_evaluation_a_bad_image_counts_for_no_class(photos):
    """Its replacement would count twice."""
    source = functools.partial(folder, val_fraction=0.5, seed=0)
    data = ImageData(source, lambda views, seeds: views, batch_size=4, view_size=8, root=str(photos))
    labels = data.splits.val.labels.tolist()
    decode, bad = data.splits.val.__class__.__getitem__, data.splits.val.path(2)

    class Damaged(data.splits.val.__class__):
        def __getitem__(self, index):
            if self.path(index) == bad:
                raise BadImageError("truncated", repr(bad))
            return decode(self, index)

    data.splits.val.__class__ = Damaged
    for loader in (data.eval_dataloader("val", None), data.val_dataloader()):
        batches = list(loader)
        found = {
            int(index): int(label)
            for batch in batches
            for index, label in zip(batch.samples.indices, batch.labels, strict=True)
        }
        assert [found[i] for i in range(9)] == [*labels[:2], -1, *labels[3:]]
    assert data.bad_images.reasons == {bad: "truncated"}
