"""Cells of grids and their votes, counted and computed by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from cim_lightning.evaluation.segmentation.cells import (
    Cells,
    extract_cells,
    pixel_counts,
    sample_cells,
    upsample,
    vote,
)
from cim_lightning.evaluation.segmentation.sliding_window import SlidingWindow
from cim_lightning.models.module_backbone import ModuleBackbone


def pooling(patch: int) -> ModuleBackbone:
    """A backbone whose grid is the mean color of each cell."""
    return ModuleBackbone(nn.AvgPool2d(patch), 3, patch, mean=[0.0] * 3, std=[1.0] * 3).eval()


def test_pixels_are_counted_by_cell_and_class_without_ignored_ones() -> None:
    mask = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 255], [2, 2, 0, 0], [2, 2, 255, 255]], dtype=torch.uint8)
    counts, total = pixel_counts(mask, 2, 2, 3)
    assert counts.tolist() == [[3, 1, 0], [0, 2, 1], [0, 0, 4], [2, 0, 0]]
    assert total.tolist() == [4] * 4
    counts, total = pixel_counts(mask, 1, 3, 3)  # columns 0 and 1, column 2, column 3
    assert total.tolist() == [8, 4, 4]
    assert counts.tolist() == [[3, 1, 4], [1, 2, 0], [1, 0, 1]]


def test_features_and_classes_of_a_cell_are_those_of_its_pixels() -> None:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 256, (3, 8, 12), dtype=np.uint8))
    mask = torch.from_numpy(rng.integers(0, 5, (8, 12), dtype=np.uint8))
    features, shares = extract_cells(pooling(4), image, mask, SlidingWindow(None, None, 0.0), 5)
    assert (features.shape, features.dtype) == ((6, 3), torch.float16)
    for i in range(6):
        rows, columns = slice(i // 3 * 4, i // 3 * 4 + 4), slice(i % 3 * 4, i % 3 * 4 + 4)
        mean = image[:, rows, columns].float().mean(dim=(1, 2)) / 255
        torch.testing.assert_close(features[i].float(), mean, atol=1e-3, rtol=0)
        assert shares[i].tolist() == [(mask[rows, columns] == c).float().mean().item() for c in range(5)]


def test_cells_of_padding_and_ignored_pixels_are_left_out() -> None:
    image, mask = torch.zeros(3, 6, 10, dtype=torch.uint8), torch.ones(6, 10, dtype=torch.uint8)
    whole = SlidingWindow(None, None, 0.0)  # padded to 8 x 12: a quarter of the last cell is in the image
    assert extract_cells(pooling(4), image, mask, whole, 2).shares.tolist() == [[0.0, 1.0]] * 5
    mask[:3, :3] = 255  # more than half of the first cell
    assert len(extract_cells(pooling(4), image, mask, whole, 2).shares) == 4
    mask[:] = 255
    assert extract_cells(pooling(4), image, mask, whole, 2).shares.shape == (0, 2)


def test_every_window_has_its_own_cells() -> None:
    image = torch.arange(3 * 8 * 16, dtype=torch.uint8).view(3, 8, 16)
    mask = (torch.arange(16) // 4).expand(8, 16).to(torch.uint8).contiguous()
    whole = extract_cells(pooling(4), image, mask, SlidingWindow(None, None, 0.0), 4)
    windows = extract_cells(pooling(4), image, mask, SlidingWindow(None, 8, 0.0), 4)
    order = [0, 1, 4, 5, 2, 3, 6, 7]
    assert torch.equal(windows.features, whole.features[order])
    assert torch.equal(windows.shares, whole.shares[order])


def test_masks_are_resized_with_their_images() -> None:
    image, mask = torch.zeros(3, 4, 8, dtype=torch.uint8), torch.zeros(4, 8, dtype=torch.uint8)
    mask[:, 4:] = 1
    cells = extract_cells(pooling(4), image, mask, SlidingWindow(8, None, 0.0), 2)
    assert cells.shares.tolist() == [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]] * 2


def test_a_sample_has_different_cells_with_their_own_classes() -> None:
    cells = Cells(torch.arange(20.0)[:, None].half(), torch.arange(20.0)[:, None])
    sample = sample_cells(cells, 7, 0, 1)
    assert torch.equal(sample.features.float(), sample.shares)
    assert len(sample.features.unique()) == 7
    assert torch.equal(sample.features, sample_cells(cells, 7, 0, 1).features)
    assert not torch.equal(sample.features, sample_cells(cells, 7, 0, 2).features)
    assert len(sample_cells(cells, 99, 0).features) == 20


def test_votes_equal_a_slow_transcription(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    bank = torch.nn.functional.normalize(torch.randn(11, 5, generator=generator), dim=1)
    shares = torch.rand(11, 3, generator=generator)
    queries = 7 * torch.randn(4, 5, generator=generator)
    expected = []
    for query in queries:
        cosines = [float(query @ cell / query.norm()) for cell in bank]
        nearest = sorted(range(11), key=lambda i, cosines=cosines: -cosines[i])[:6]
        weights = [np.exp(cosines[i] / 0.3) for i in nearest]
        votes = sum(w * shares[i] for w, i in zip(weights, nearest, strict=True))
        expected.append(votes / sum(weights))
    torch.testing.assert_close(vote(bank, shares, queries, 6, 0.3), torch.stack(expected))
    monkeypatch.setattr("cim_lightning.evaluation.segmentation.cells.MAX_SIMILARITIES", 25)  # 2 queries
    torch.testing.assert_close(vote(bank, shares, queries, 6, 0.3), torch.stack(expected))


def test_scores_are_upsampled_to_the_place_of_their_cell() -> None:
    scores = torch.eye(6)  # class i is cell i
    maps = upsample(scores, (2, 3), (8, 12))
    expected = torch.arange(6).view(2, 3).repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert torch.equal(maps.argmax(dim=1)[0], expected)
