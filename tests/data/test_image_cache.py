"""Decoded images in shared memory: the same batches as without, and when it is used."""

import logging
import os
import pickle
import threading
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cim_lightning.data import cache_policy
from cim_lightning.data.cache_policy import AUTO, NONE, RAM, open_caches
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.image_cache import ImageCache, SharedMemory
from cim_lightning.data.pixel_format import RGB8, PixelFormat
from cim_lightning.data.source import NoImages, Splits
from cim_lightning.errors import BadImageError, ConfigError


class Noise:
    """Images of noise of several sizes; counts how often each is decoded, in any process."""

    classes = ("a", "b")

    def __init__(self, count: int, *bad: int, size: int = 0):
        self.bad, self.size = bad, size
        self.reads = torch.zeros(count, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.reads)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.reads[index] += 1
        if index in self.bad:
            raise BadImageError("broken")
        shape = (self.size or 9 + index, 11, 3)
        return Image.fromarray(np.random.default_rng(index).integers(0, 256, shape, np.uint8)), index % 2


def image_data(cache: str, workers: int = 0, bad: tuple[int, ...] = ()) -> ImageData:
    splits = Splits(Noise(8, *bad), Noise(4))
    settings: dict[str, Any] = {"batch_size": 4, "num_workers": workers, "view_size": 8, "max_bad_share": 1.0}
    return ImageData(lambda: splits, lambda views, seeds: views, cache=cache, **settings)


def batches(data: ImageData, count: int) -> list[Any]:
    return [batch for batch, _ in zip(data.train_dataloader(), range(count), strict=False)]


def free(monkeypatch, size: int | None) -> None:
    monkeypatch.setattr(cache_policy, "free_memory", lambda: size)


def test_an_image_is_returned_as_it_was_put():
    cache, rng = ImageCache(3, 1000, 3, np.uint8), np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in ((5, 7, 3), (6, 4, 3))]
    cache.put(2, Image.fromarray(images[0]), 1)
    cache.put(0, images[1], -1)
    for index, image, label in ((2, images[0], 1), (0, images[1], -1)):
        found, its_label = cache.get(index) or (None, None)
        assert np.array_equal(found, image)
        assert its_label == label
        assert not found.flags.writeable
    assert cache.get(1) is None
    assert len(cache) == 2


def test_values_of_any_type():
    cache, image = ImageCache(1, 1000, 2, np.float32), np.random.default_rng(0).random((3, 5, 2), np.float32)
    cache.put(0, image, 0)
    found = cache.get(0)
    assert found is not None
    assert np.array_equal(found[0], image)


def test_an_image_that_does_not_fit_is_left_out():
    cache = ImageCache(3, 200, 3, np.uint8)
    for index, side in enumerate((6, 6, 5)):  # 108, 108 and 75 bytes
        cache.put(index, np.full((side, side, 3), index, np.uint8), 0)
    assert [cache.get(index) is not None for index in range(3)] == [True, False, True]
    assert cache.get(2)[0].min() == 2  # pyright: ignore


def test_processes_that_write_at_the_same_time_do_not_disturb_each_other():
    count = 200
    cache, children = ImageCache(count, 2 * count * 80, 3, np.uint8), []
    for start in (0, 100, 50):
        pid = os.fork()
        if not pid:
            for index in range(start, start + 100):
                cache.put(index, np.full((4 + index % 2, 5, 3), index, np.uint8), index)
            os._exit(0)
        children.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
    for index in range(count):
        image, label = cache.get(index)  # pyright: ignore
        assert (image.shape, label) == ((4 + index % 2, 5, 3), index)
        assert (image == index).all()


def test_a_process_waits_while_another_one_takes_memory():
    cache = ImageCache(1, 100, 3, np.uint8)
    thread = threading.Thread(target=cache.put, args=(0, np.zeros((4, 4, 3), np.uint8), 0))
    with cache._lock:
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        assert cache.get(0) is None
    thread.join()
    assert cache.get(0) is not None


def test_an_image_that_another_process_is_writing_takes_no_memory_twice():
    cache = ImageCache(2, 100, 3, np.uint8)
    cache._rows[0, 0] = -8
    cache.put(0, np.zeros((4, 4, 3), np.uint8), 0)
    assert cache.get(0) is None
    cache.put(1, np.zeros((5, 5, 3), np.uint8), 0)  # 75 bytes
    assert cache.get(1) is not None
    assert len(cache) == 1


def test_images_of_another_kind_are_refused():
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 3), np.uint16)):
        with pytest.raises(AssertionError):
            ImageCache(1, 100, 3, np.uint8).put(0, image, 0)


def test_memory_is_shared_with_processes_that_are_not_forked():
    memory = SharedMemory(100)
    other = pickle.loads(pickle.dumps(memory))
    memory.bytes[7] = 9
    assert other.bytes[7] == 9


@pytest.mark.parametrize(("workers", "bad"), [(0, ()), (0, (3, 4)), (1, (3, 4))])
def test_batches_are_those_without_a_cache_and_each_image_is_decoded_once(workers, bad):
    plain, cached = image_data(NONE, bad=bad), image_data(RAM, workers, bad)
    for expected, found in zip(batches(plain, 6), batches(cached, 6), strict=True):
        assert torch.equal(expected.views, found.views)
        assert torch.equal(expected.labels, found.labels)
        assert torch.equal(expected.seeds, found.seeds)
        assert expected.samples.skipped == found.samples.skipped
    reads = cached.splits.train.reads.tolist()  # pyright: ignore
    size = [1] * 8  # the sizes of all images are measured first
    checks = [2, 1, 1, 1, 1, 1, 1, 1]  # of the first image, and of all
    good = [index for index in range(8) if index not in bad]
    assert [reads[i] - size[i] - checks[i] for i in good] == [1] * len(good)
    assert len(cached.caches["train"]) == len(good)
    assert cached.bad_images.reasons.keys() == plain.bad_images.reasons.keys()


def test_validation_and_evaluation_use_the_images_of_training():
    data = image_data(RAM)
    batches(data, 2)
    before = data.splits.train.reads.clone()  # pyright: ignore
    views = next(iter(data.eval_dataloader("train", None))).views
    assert torch.equal(data.splits.train.reads, before)  # pyright: ignore
    assert torch.equal(views, next(iter(image_data(NONE).eval_dataloader("train", None))).views)


@pytest.mark.parametrize(
    ("policy", "memory", "used"),
    [(AUTO, 4_400_000, True), (AUTO, 4_200_000, False), (AUTO, None, False), (NONE, 10**12, False)],
)
def test_auto_uses_a_quarter_of_the_free_memory(policy, memory, used, monkeypatch, caplog):
    free(monkeypatch, memory)
    images = {"train": Noise(400, size=32), "val": Noise(600, size=32)}  # 1056 bytes each
    caplog.set_level(logging.INFO)
    assert bool(open_caches(policy, images.__getitem__, RGB8)) == used
    line = "cache=ram: 1,000 decoded images stay in memory, about 0.0011 GB of 0.0044 GB"
    assert caplog.messages == ([line] if used else [])
    assert not open_caches(policy, images.__getitem__, RGB8, processes=2)


@pytest.mark.user_input("value", "data.cache=ram with more images than memory", "refused before training")
def test_images_that_do_not_fit_into_the_memory_are_refused(monkeypatch):
    free(monkeypatch, 1_000_000)
    images = {"train": Noise(1000, size=32), "val": NoImages()}
    rule = r"^cache=ram: the images take about 0.0011 GB, and 0.001 GB of memory are free; try cache=none$"
    with pytest.raises(ConfigError, match=rule):
        open_caches(RAM, images.__getitem__, RGB8)
    with pytest.raises(ConfigError, match=r"^cache=disk: .*ram"):
        image_data("disk")


def test_images_that_are_in_memory_need_no_cache():
    images: Any = Noise(4)
    images.in_memory = True
    assert open_caches(RAM, {"train": images, "val": images}.__getitem__, RGB8) == {}


def test_the_cache_has_the_type_of_the_images(monkeypatch):
    class Bands(Noise):
        def __getitem__(self, index: int) -> Any:
            return np.full((4, 5, 2), index, np.uint16), 0

    caches = open_caches(RAM, {"train": Bands(3), "val": NoImages()}.__getitem__, PixelFormat(2, 16))
    assert caches["train"].dtype == np.uint16
    assert caches["train"].capacity >= 3 * 80
