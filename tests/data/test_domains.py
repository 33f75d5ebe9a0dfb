"""Evaluation data sets from folders: domains with the same classes."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from cim_lightning.data.domains import domains
from cim_lightning.errors import ConfigError


def tree(root: Path, *classes: str, count: int = 4) -> None:
    for name in classes:
        for i in range(count):
            path = root / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 16), (10 * i, 0, 0)).save(path)


def test_every_folder_is_a_domain(tmp_path):
    tree(tmp_path / "photo", "cat", "dog")
    tree(tmp_path / "sketch", "cat", "dog", count=8)
    found = domains(str(tmp_path), 8, 3, 0, 0.25, 0)
    assert list(found) == ["photo", "sketch"]
    assert {images.cache for images in found.values()} == {
        "none"
    }  # many of them together may fill the memory
    for images, factor in zip(found.values(), (1, 2), strict=True):
        assert images.splits.train.classes == ["cat", "dog"]
        train, val = len(images.splits.train), len(images.splits.val)
        assert train + val == 8 * factor
        assert 0 < val < train + val
        batches = list(images.eval_dataloader("train", None))
        assert [tuple(batch.views.shape[1:]) for batch in batches] == [(3, 8, 8)] * -(-train // 3)
        assert sum(len(batch.views) for batch in batches) == train
        assert {int(label) for batch in batches for label in batch.labels} == {0, 1}


def test_images_have_the_channels_and_bits_of_the_backbone(tmp_path):
    tree(tmp_path / "photo", "cat", "dog")
    tree(tmp_path / "sketch", "cat", "dog")
    found = domains(str(tmp_path), 8, 3, 0, 0.25, 0, channels=1, bits=16)
    views = next(iter(found["sketch"].eval_dataloader("train", None))).views
    assert (views.shape[1:], views.dtype) == ((1, 8, 8), torch.uint16)


def test_domains_with_different_classes_are_an_error(tmp_path):
    tree(tmp_path / "photo", "cat", "dog")
    tree(tmp_path / "sketch", "cat", "dig")
    with pytest.raises(
        ConfigError, match=r"^root=.*: photo and sketch do not both have the class dig; did you mean dog\?$"
    ):
        domains(str(tmp_path), 8, 3, 0, 0.25, 0)


def test_fewer_than_two_domains_are_an_error(tmp_path):
    tree(tmp_path / "photo", "cat", "dog")
    with pytest.raises(ConfigError, match=r"^root=.*: has 1 domain folder\(s\), .*try a folder laid out as"):
        domains(str(tmp_path), 8, 3, 0, 0.25, 0)
    with pytest.raises(ConfigError, match=r"^root=.*nowhere: does not exist; "):
        domains(str(tmp_path / "nowhere"), 8, 3, 0, 0.25, 0)
