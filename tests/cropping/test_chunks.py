"""Chunks of images give what all images at once give."""

import pytest
import torch

from cim_lightning.cropping import chunks
from cim_lightning.cropping.chunks import map_chunks


@pytest.mark.parametrize(("values", "sizes"), [(1, [7]), (30, [3, 3, 1]), (100, [1] * 7), (200, [1] * 7)])
def test_chunks_have_the_largest_size_that_fits(monkeypatch, values, sizes):
    monkeypatch.setattr(chunks, "CHUNK_VALUES", 100)
    images, found = torch.arange(7.0), []

    def double(part: slice) -> torch.Tensor:
        found.append(len(images[part]))
        return 2 * images[part]

    assert torch.equal(map_chunks(double, 7, values, images.device), 2 * images)
    assert found == sizes
    found.clear()
    map_chunks(double, 7, values, torch.device("cuda"))
    assert found == [7]


def test_crops_do_not_depend_on_the_chunks(monkeypatch, cropper, views):
    whole = cropper()(views, 5)
    monkeypatch.setattr(chunks, "CHUNK_VALUES", 1)  # one image, or one exemplar, at a time
    parts = cropper()(views, 5)
    assert torch.equal(parts.exemplars, whole.exemplars)
    assert torch.equal(parts.maps, whole.maps)
