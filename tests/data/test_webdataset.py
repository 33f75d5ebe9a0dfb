"""The source of tar archives: which archives, splits, reading in processes, the cache, and errors."""

import gzip
import os
import pickle
import time
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from cim_lightning.data import tar_cache, tar_images
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.sampler import ResumableBatchSampler
from cim_lightning.data.webdataset import webdataset
from cim_lightning.errors import BadImageError, ConfigError
from tests.archives import all_images, images, open_tars, png, write_tar

CAT_DOG = {f"{name}/{i}.png": 10 * n + i for n, name in enumerate(("cat", "dog")) for i in range(3)}


def write_shards(root: Path, *names: str) -> Path:
    """Write archives with two images each; the image n of archive i has the value 10 * i + n."""
    for i, name in enumerate(names):
        write_tar(root / name, {f"{i}-{n}.png": 10 * i + n for n in range(2)})
    return root


def shards_of(source) -> set[int]:
    return {value // 10 for value, _ in images(source)}


def error(root, **settings) -> str:
    with pytest.raises(ConfigError) as caught:
        open_tars(root, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "train", "val"),
    [
        pytest.param(
            ("imagenet-train-0.tar", "imagenet-train-1.tar", "imagenet-val-0.tar"),
            {0, 1},
            {2},
            marks=pytest.mark.user_input(
                "source", "archives named imagenet-train-000.tar and imagenet-val-000.tar", "the splits"
            ),
        ),
        (("train/0.tar", "train/1.tar", "validation/0.tar"), {0, 1}, {2}),
        (("0.tar", "1.tar", "Test_0.tar"), {0, 1}, {2}),
        (("train_0.tar", "test_0.tar", "dev_0.tar"), {0}, {2}),  # a validation split before a test split
        (("train-0.tar", "extra-0.tar", "val-0.tar"), {0}, {2}),
        (("training2017.tar", "val2017.tar"), {0}, {1}),
    ],
)
def test_names_of_archives_are_splits(names, train, val, tmp_path):
    root = write_shards(tmp_path, *names)
    splits = open_tars(str(root))
    assert (shards_of(splits.train), shards_of(splits.val)) == (train, val)
    without = open_tars(str(root), val="None")
    assert shards_of(without.train) == train
    assert len(without.val) == 0
    assert len(open_tars(str(root), train=".", val="none").train) == 2 * len(names)


@pytest.mark.parametrize(
    "names", [("a.tar", "b.tar"), ("train-0.tar", "train-1.tar"), ("val-0.tar", "val-1.tar")]
)
def test_archives_of_one_kind_are_split_at_random(names, tmp_path):
    splits = open_tars(str(write_shards(tmp_path, *names)), 0.25)
    assert len(splits.train)
    assert len(splits.val)
    assert {*images(splits.train), *images(splits.val)} == {(value, None) for value in (0, 1, 10, 11)}


@pytest.mark.parametrize("above", ["", "./dataset/"])
@pytest.mark.user_input(
    "source", "one tar archive with dataset/train/CLASS and dataset/val/CLASS", "splits and classes"
)
def test_folders_in_an_archive_are_splits(above, tmp_path):
    content = {
        f"{above}{split}/{name}": value + 100 * n
        for n, split in enumerate(("train", "val"))
        for name, value in CAT_DOG.items()
    }
    splits = open_tars(str(write_tar(tmp_path / "a.tar", content)))
    expected = [(value, name.split("/")[0]) for name, value in CAT_DOG.items()]
    assert images(splits.train) == expected
    assert images(splits.val) == [(100 + value, name) for value, name in expected]


def test_given_splits(tmp_path):
    root = str(write_shards(tmp_path / "root", "a.tar", "b.tar", "val-c.tar", "d.tar"))
    outside = str(write_shards(tmp_path / "outside", "x.tar", "y.tar", "z.tar") / "z.tar")  # z has 20 and 21

    def shards(**settings):
        splits = open_tars(root, **settings)
        return shards_of(splits.train), shards_of(splits.val)

    assert shards(val="b.tar") == ({0, 3}, {1})  # val-c.tar is for neither
    assert shards(val=["b.tar", "d.tar"]) == ({0}, {1, 3})
    assert shards(train="[ab].tar") == ({0, 1}, {2})
    assert shards(train="a.tar", val="{b,d}.tar") == ({0}, {1, 3})
    assert shards(train=".", val="d.tar") == ({0, 1, 2}, {3})
    assert shards(val=outside) == ({0, 1, 3}, {2})
    assert shards(train=["a.tar", "b.tar"], val="b.tar") == ({0}, {1})
    nested = write_shards(tmp_path / "nested", "train/a.tar", "held/b.tar")
    (nested / "held").rename(tmp_path / "nested" / "train" / "held")
    assert open_tars(str(nested), val="train/held").val.labels.size == 2


@pytest.mark.user_input("source", "data.train and data.val as folders in a tar archive", "those folders")
def test_given_folders_in_archives(tmp_path):
    folders = {
        f"{split}/{name}": value + 50 * n for n, split in enumerate("AB") for name, value in CAT_DOG.items()
    }
    path = str(write_tar(tmp_path / "a.tar", folders))
    message = error(path)
    assert (
        "A and B have the same sub-folders (cat, dog), as if they were splits; try train=A val=B" in message
    )
    splits = open_tars(path, train="A", val="B")
    assert [value for value, _ in images(splits.train)] == [*CAT_DOG.values()]
    assert [value for value, _ in images(splits.val)] == [50 + value for value in CAT_DOG.values()]
    assert splits.train.classes == splits.val.classes == ["cat", "dog"]
    assert len(open_tars(path, val="B/dog").train) == 9
    flat = str(write_tar(tmp_path / "flat" / "a.tar", {"0.png": 0, "1.png": 1}))
    assert "val=C: is neither an archive nor a folder in the archives; the archives have no folders" in error(
        flat, val="C"
    )
    assert "val=C: is neither an archive nor a folder in the archives; choose from A, B" in error(
        path, val="C"
    )


@pytest.mark.user_input(
    "source", "classes that only validation shards have", "their images have no label; a note"
)
def test_a_class_without_training_images(tmp_path):
    write_tar(
        tmp_path / "train-0.tar",
        {f"{i}.{x}": i if x == "png" else str(i) for i in range(3) for x in ("png", "cls")},
    )
    write_tar(
        tmp_path / "val-0.tar",
        {f"{i}.{x}": i if x == "png" else str(i) for i in range(4) for x in ("png", "cls")},
    )
    splits = open_tars(str(tmp_path))
    assert images(splits.val) == [(0, "0"), (1, "1"), (2, "2"), (3, None)]
    assert splits.summary == (
        "7 images in 3 classes (3 for training from train, 4 for validation from val); "
        "1 for validation have no label, as there are no training images of 3"
    )


@pytest.mark.parametrize(
    "root",
    [
        pytest.param(
            "shard-{08..11}.tar",
            marks=pytest.mark.user_input(
                "source", "data.root='shard-{08..11}.tar'", "the archives of the range"
            ),
        ),
        pytest.param(
            "shard-*.tar", marks=pytest.mark.user_input("source", "data.root='shard-*.tar'", "the archives")
        ),
        "shard-{08,09,10,11}.tar",
        ["shard-{08..10}.tar", "shard-11.tar", "shard-08.tar"],
        "",
        "~/shards",
    ],
)
def test_archives_by_name(root, tmp_path, monkeypatch):
    folder = write_shards(tmp_path / "shards", *(f"shard-{i:02d}.tar" for i in range(8, 12)))
    (folder / "shard-08.idx").write_text("an index of others")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(folder)
    given = os.getcwd() if root == "" else root
    assert [value for value, _ in all_images(given)] == [0, 1, 10, 11, 20, 21, 30, 31]
    if isinstance(root, str) and not root.startswith("~"):
        assert all_images(os.path.join(folder, root)) == all_images(given)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        pytest.param(
            "s-{0..4}.tar",
            "root=s-{0..4}.tar: 2 of 5 archives do not exist, such as /tmp/s-3.tar; correct the range",
            marks=pytest.mark.user_input(
                "source", "a range of archives of which some are missing", "an error names one"
            ),
        ),
        ("x-*.tar", "root=x-*.tar: no file has such a name; quote * and {} in the shell"),
        ("s-00.tar", "root=s-00.tar: does not exist; did you mean /tmp/s-0.tar?"),
        ("empty", "root=empty: has no .tar file; the folder has no files"),
        ("photos", "root=photos: has no .tar file; for image files, try data=folder"),
        pytest.param(
            "packed",
            "root=packed: a.tar.gz is compressed, so its images cannot be read in random order; decompress",
            marks=pytest.mark.user_input(
                "source", "a folder of .tar.gz archives", "an error says to decompress them"
            ),
        ),
        pytest.param(
            "https://example.org/s-{0..4}.tar",
            "root=https://example.org/s-{0..4}.tar: is not on this machine; ",
            marks=pytest.mark.user_input("source", "the URL of a shard", "an error says to download it"),
        ),
        ("pipe:cat s-0.tar", "is not on this machine"),
        ([], "root=[]: has no archive"),
        pytest.param(
            "page.tar",
            "root=page.tar: has no image in 1 archive(s); not a tar archive (invalid header)",
            marks=pytest.mark.user_input(
                "source", "an HTML page saved as shard.tar", "an error names the archive"
            ),
        ),
        pytest.param(
            "zero.tar",
            "root=zero.tar: has no image in 1 archive(s); empty",
            marks=pytest.mark.user_input("source", "a tar archive of 0 bytes", "an error names the archive"),
        ),
        (
            "gz",
            "root=gz: /tmp/gz/a.tar is compressed with gzip, so its images cannot be read in random order; ",
        ),
        ("texts.tar", "root=texts.tar: has no image in 1 archive(s); found: 2 .txt, 1 .npy"),
    ],
)
def test_archives_that_cannot_be_read(root, message, tmp_path, monkeypatch):
    write_shards(tmp_path, *(f"s-{i}.tar" for i in range(3)))
    for name, content in (("photos/a.png", png(1)), ("packed/a.tar.gz", b"x"), ("page.tar", b"<html>" * 200)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "empty").mkdir()
    (tmp_path / "zero.tar").touch()
    (tmp_path / "gz").mkdir()
    (tmp_path / "gz" / "a.tar").write_bytes(gzip.compress(bytes(2000)))
    write_tar(tmp_path / "texts.tar", {"a.txt": "a", "b.txt": "b", "c.npy": "c"})
    monkeypatch.chdir(tmp_path)
    if root == "gz":
        assert error("s-0.tar", val="gz/a.tar").startswith(f"val=gz/a.tar: {tmp_path}/gz/a.tar is compressed")
    assert error(root).startswith(message.replace("/tmp", str(tmp_path))) or message in error(root)


@pytest.mark.user_input(
    "source", "an archive that is deleted or damaged during training", "its images are replaced"
)
def test_images_that_cannot_be_read(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a/0.png": b"no image", "b/1.png": 1, "b/2.png": 2})
    source = open_tars(str(path), train=".", val="none").train
    with pytest.raises(BadImageError, match=rf"^'{path}/a/0.png': not an image"):
        source[0]
    assert source[1][1] == 1
    os.truncate(path, 512)
    with pytest.raises(BadImageError, match=rf"^'{path}/b/1.png': the archive is shorter than at the start"):
        source[1]
    path.unlink()
    with pytest.raises(BadImageError, match=rf"^'{path}': No such file"):
        pickle.loads(pickle.dumps(source))[1]
    with pytest.raises(IndexError):
        source[3]


def test_few_archives_are_open(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_images, "MAX_OPEN", 2)
    source = open_tars(
        str(write_shards(tmp_path, *(f"{i}.tar" for i in range(5)))), train=".", val="none"
    ).train

    def opened() -> list[str]:
        links = (
            os.readlink(f"/proc/self/fd/{fd}")
            for fd in os.listdir("/proc/self/fd")
            if fd.isdigit() and os.path.exists(f"/proc/self/fd/{fd}")
        )
        return sorted(os.path.basename(link) for link in links if link.startswith(str(tmp_path)))

    expected = images(source)
    assert opened() == ["3.tar", "4.tar"]
    assert [source[6][1], source[0][1]] == [-1, -1]  # 3.tar stays, because it was used after 4.tar
    assert opened() == ["0.tar", "3.tar"]
    copy = pickle.loads(pickle.dumps(source))
    assert opened() == ["0.tar", "3.tar"]
    assert images(copy) == expected
    assert copy.fingerprint == source.fingerprint
    del copy, source
    assert opened() == []


def no_crops(views: torch.Tensor, seed: int) -> torch.Tensor:
    return views


def data_of(root: str, num_workers: int = 0) -> ImageData:
    view = (8, num_workers, 4, (1, 1), (1, 1), 0.0)  # views of one color
    return ImageData(partial(webdataset, root=root, val_fraction=0.1, seed=0), no_crops, *view)


def values(data: ImageData, batches: int) -> list[list[int]]:
    return [batch.views[:, 0, 0, 0].tolist() for batch in islice(data.train_dataloader(), batches)]


@pytest.fixture
def many(tmp_path) -> str:
    """60 images in 3 archives."""
    for i in range(3):
        write_tar(tmp_path / f"{i}.tar", {f"{n}.png": n for n in range(i, 60, 3)})
    return str(tmp_path)


def half_epoch(root: str, rank: int) -> list[int]:
    source = open_tars(root, train=".", val="none").train
    batches = ResumableBatchSampler(source.keys, 10, 0, lambda: 0, rank, 2)
    return [
        int(np.asarray(source[i][0])[0, 0, 0]) for batch in islice(batches, len(batches)) for _, i in batch
    ]


def test_two_processes_see_disjoint_halves(many):
    with get_context("fork").Pool(2) as pool:
        first, second = pool.starmap(half_epoch, [(many, rank) for rank in range(2)])
    assert len(first) == len(second) == 30
    assert {*first, *second} == {*range(60)}


def test_workers_read_the_same_images_and_training_resumes_at_the_next_sample(many):
    data = data_of(many)
    expected = values(data, 10)
    _ = data.splits.train[0]  # archives that are open when the workers start are shared
    parallel = data_of(many, num_workers=2)
    parallel.splits = data.splits
    assert values(parallel, 10) == expected
    resumed = data_of(many)
    state = {"images": 32, "epoch": 0, "epoch_images": 32, "images_per_batch": 8, "images_per_step": 8}
    resumed.load_state_dict(state | resumed.image_record)
    assert values(resumed, 6) == expected[4:]


@pytest.fixture
def settled(tmp_path, monkeypatch) -> Path:
    """Archives that were written an hour ago, and an empty cache for them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tar_cache, "MIN_SECONDS", 0.0)
    root = tmp_path / "shards"
    content = {**CAT_DOG, "cat/0.txt": "", "dog/0.cls": "Hund", os.fsdecode(b"cat/\xff.png"): 9}
    for name in ("a.tar", "b.tar"):
        path = write_tar(root / name, content)
        os.utime(path, (time.time() - 3600,) * 2)
    os.truncate(root / "b.tar", 5000)
    os.utime(root / "b.tar", (time.time() - 3600,) * 2)
    return root


def test_archives_are_listed_once(settled, monkeypatch):
    first = open_tars(str(settled))
    monkeypatch.setattr(tar_cache, "read_set", None)
    again = open_tars(str(settled))
    assert again.summary == first.summary
    for one, other in zip(first[:2], again[:2], strict=True):
        assert images(one) == images(other)
        assert one.fingerprint == other.fingerprint
    assert [path.suffix for path in settled.iterdir()] == [".tar", ".tar"]


def test_a_changed_archive_is_listed_again(settled):
    def names() -> list[str]:
        files = open_tars(str(settled), train=".", val="none").train.files
        return [files.name(i) for i in range(len(files))]

    assert "dog/8.png" not in names()
    first = settled / "a.tar"  # replaced in place by a larger archive, with the same time, as rsync does
    stamp = first.stat()
    first.write_bytes(
        write_tar(settled.parent / "c.tar", {**CAT_DOG, **dict.fromkeys(map(str, range(20)), 1)}).read_bytes()
    )
    os.utime(first, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    assert first.stat().st_ino == stamp.st_ino
    assert "19" in names()
    path = write_tar(settled / "b.tar", {**CAT_DOG, "dog/8.png": 1})
    assert "dog/8.png" in names()
    stamp = path.stat()
    # Written in place within the resolution of the time: what changed in the last two seconds is not cached.
    path.write_bytes(write_tar(settled.parent / "c.tar", {**CAT_DOG, "dog/9.png": 2}).read_bytes())
    os.utime(path, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    assert (path.stat().st_ino, path.stat().st_size) == (stamp.st_ino, stamp.st_size)
    assert "dog/9.png" in names()


def test_a_damaged_cache_is_replaced(settled, tmp_path):
    expected = all_images(str(settled))
    (entry,) = (tmp_path / "cache" / "cim_lightning" / "scans").iterdir()
    for content in (b"", b"text", entry.read_bytes()[:100]):
        entry.write_bytes(content)
        assert all_images(str(settled)) == expected


def test_fingerprints(many, tmp_path):
    same = tmp_path / "moved"
    write_tar(same / "x.tar", {f"{n}.png": n for n in range(60)})
    sources = [open_tars(root, train=".", val="none").train for root in (f"{many}/?.tar", str(same))]
    assert sources[0].fingerprint == sources[1].fingerprint
    write_tar(same / "x.tar", {f"{n}.png": n for n in range(59)} | {"6.png": png(1) + b"x"})
    assert open_tars(str(same), train=".", val="none").train.fingerprint != sources[0].fingerprint
