"""Names of many files in arrays. The oracle is a list of str."""

import multiprocessing
import os
import pickle
import random
import tracemalloc

import numpy as np
import pytest

from cim_lightning.data import file_index
from cim_lightning.data.file_index import FileIndex

NAMES = [
    "b/0.png",
    "a/deep/er/1.png",
    "2.png",
    "a/3.png",
    "bb/4.png",
    "a",
    "ü/猫.png",
    "b/x y\n.png",
    os.fsdecode(b"b/\xff.png"),
    "a/",
    "b/0.png",
    "/elsewhere/5.png",
]


def names(index: FileIndex) -> list[str]:
    return [index.name(i) for i in range(len(index))]


def test_names_and_paths():
    index = FileIndex.from_names("/data", iter(NAMES))
    assert len(index) == len(NAMES)
    assert names(index) == NAMES
    paths = [index.path(i) for i in range(len(index))]
    assert paths == [f"/data/{name}" for name in NAMES[:-1]] + ["/elsewhere/5.png"]


def test_more_names_than_a_chunk(monkeypatch):
    monkeypatch.setattr(file_index, "CHUNK", 16)
    many = [f"{i % 7}/{i}" for i in range(35)]
    index = FileIndex.from_names("/data", many)
    assert names(index) == many
    assert names(pickle.loads(pickle.dumps(index))) == many
    assert index.fingerprint == FileIndex.from_names("/", many).fingerprint
    assert index.first_folders()[0].tolist() == [i % 7 for i in range(len(many))]


def test_taken_files_are_in_the_order_of_the_indices_and_share_the_names():
    index = FileIndex.from_names("/data", NAMES)
    taken = index.take(np.array([5, 0, 8, 0]))
    assert names(taken) == [NAMES[5], NAMES[0], NAMES[8], NAMES[0]]
    assert names(taken.take(np.array([2]))) == [NAMES[8]]
    assert taken._names is index._names


@pytest.mark.parametrize("index", [-1, len(NAMES)])
def test_an_index_out_of_range_is_an_error(index):
    files = FileIndex.from_names("/data", NAMES)
    for access in (files.name, files.path, lambda i: files.take(np.array([0, i]))):
        with pytest.raises(IndexError, match=rf"{index}.* of {len(NAMES)}"):
            access(index)


def test_files_below_a_folder_are_relative_to_it():
    index = FileIndex.from_names("/data", NAMES)
    below = index.below("a")
    assert names(below) == ["deep/er/1.png", "3.png"]
    assert below.path(0) == "/data/a/deep/er/1.png"
    assert names(below.below("deep")) == names(index.below("a/deep/")) == ["er/1.png"]
    assert index.below("a/deep").path(0) == "/data/a/deep/er/1.png"
    assert names(index.below("ü")) == ["猫.png"]
    assert names(below.take(np.array([1]))) == ["3.png"]
    assert names(index.take(np.array([3, 2, 1])).below("a")) == ["3.png", "deep/er/1.png"]
    assert names(index.below(".")) == names(index.below("")) == NAMES
    assert len(index.below("nowhere")) == len(index.below("a/deep/er/1.png")) == 0


def slow_first_folders(files: list[str]) -> tuple[list[int], list[str]]:
    parts = [name.partition("/") for name in files]
    folders = sorted({first for first, slash, _ in parts if slash and first})
    return [folders.index(first) if slash and first else -1 for first, slash, _ in parts], folders


def test_first_folders():
    index = FileIndex.from_names("/data", NAMES)
    numbers, folders = index.first_folders()
    assert (numbers.tolist(), folders) == slow_first_folders(NAMES)
    assert folders == ["a", "b", "bb", "ü"]
    assert numbers.dtype == np.int32
    assert index.below("a").first_folders()[0].tolist() == [0, -1]


@pytest.mark.parametrize("seed", range(20))
def test_first_folders_of_random_names_in_random_order(seed):
    rng = random.Random(seed)
    files = ["/".join(rng.choices(["a", "b", "ab", "aa", "abc"], k=rng.randint(1, 3))) for _ in range(30)]
    order = np.random.default_rng(seed).permutation(30)[:20]
    numbers, folders = FileIndex.from_names("/", files).take(order).first_folders()
    assert (numbers.tolist(), folders) == slow_first_folders([files[i] for i in order])


def test_no_files():
    empty = FileIndex.from_names("/data", [])
    assert len(empty) == len(empty.below("a")) == len(empty.take(np.arange(0))) == 0
    numbers, folders = empty.first_folders()
    assert (len(numbers), folders) == (0, [])
    assert len(pickle.loads(pickle.dumps(empty))) == 0
    assert empty.fingerprint != FileIndex.from_names("/data", [""]).fingerprint


def test_the_fingerprint_depends_on_names_and_order_only():
    index = FileIndex.from_names("/data", NAMES)
    different = [
        index,
        index.take(np.arange(len(NAMES))[::-1]),
        index.take(np.arange(len(NAMES) - 1)),
        FileIndex.from_names("/data", ["ab", "c"]),
        FileIndex.from_names("/data", ["a", "bc"]),
    ]
    assert len({files.fingerprint for files in different}) == len(different)
    below = FileIndex.from_names("/elsewhere", ["deep/er/1.png", "3.png"])
    assert index.below("a").fingerprint == below.fingerprint


def test_a_pickle_has_the_names_of_its_files_only():
    index = FileIndex.from_names("/data", [f"folder/{i:060}.png" for i in range(10_000)])
    few = index.below("folder").take(np.array([7, 3]))
    copy = pickle.loads(pickle.dumps(few))
    assert names(copy) == names(few)
    assert copy.path(0) == few.path(0)
    assert len(pickle.dumps(few)) < 1000
    assert len(pickle.dumps(index)) < 10_000 * 80  # 71 bytes of the name and 8 of its length


def test_an_index_can_be_sent_to_a_spawned_process():
    index = FileIndex.from_names("/data", NAMES).take(np.array([0, 8]))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(os.path.join, ("/data", NAMES[8])) == index.path(1)
        assert pool.apply(FileIndex.path, (index, 1)) == index.path(1)


def test_memory_per_file():
    """The name, 8 bytes of its end and 8 of its number, and no object."""
    count, length = 100_000, 20
    tracemalloc.start()
    index = FileIndex.from_names("/data", (f"{i:0{length}}" for i in range(count)))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index) == count
    assert held < count * (length + 17)
