"""Cells of the feature grids of a frozen backbone, with the classes of their pixels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as V
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from cim_lightning.data.segmentation import IGNORE_INDEX
from cim_lightning.evaluation.segmentation.sliding_window import SlidingWindow
from cim_lightning.models.backbone import Backbone

MIN_LABELED = 0.5  # share of a cell's pixels that must have a class
MAX_SIMILARITIES = 2**26  # per chunk of queries: a quarter of a gigabyte


class Cells(NamedTuple):
    """Cells of the grids of several images, on the CPU."""

    features: Float[Tensor, "n d"]  # fp16
    shares: Float[Tensor, "n c"]  # share of the labeled pixels of a cell that have a class; rows sum to 1


def pixel_counts(
    mask: UInt8[Tensor, "h w"], rows: int, columns: int, num_classes: int
) -> tuple[Int64[Tensor, "n c"], Int64[Tensor, " n"]]:
    """Return the pixels of each class, and all pixels, of the n = rows * columns cells of a mask."""
    height, width = mask.shape
    row = torch.arange(height, device=mask.device) * rows // height
    column = torch.arange(width, device=mask.device) * columns // width
    cell = row[:, None] * columns + column
    labeled = mask != IGNORE_INDEX
    index = cell[labeled] * num_classes + mask[labeled].long()
    counts = torch.bincount(index, minlength=rows * columns * num_classes).unflatten(0, (-1, num_classes))
    return counts, torch.bincount(cell.flatten(), minlength=rows * columns)


@torch.no_grad()
def extract_cells(
    backbone: Backbone,
    image: UInt8[Tensor, "c h w"],
    mask: UInt8[Tensor, "h w"],
    inference: SlidingWindow,
    num_classes: int,
) -> Cells:
    """Return the cells of all windows of an image. Cells with too few labeled pixels are left out."""
    pixels, size = inference.prepare(image, backbone), inference.resized(mask.shape[0], mask.shape[1])
    mask = V.resize(mask[None], [*size], V.InterpolationMode.NEAREST_EXACT)[0]
    height, width = pixels.shape[-2:]
    mask = F.pad(mask, (0, width - size[1], 0, height - size[0]), value=IGNORE_INDEX)
    features, shares = [], []
    for rows, columns in inference.windows(height, width):
        grid = backbone(pixels[..., rows, columns]).grid[0]
        counts, total = pixel_counts(mask[rows, columns], grid.shape[1], grid.shape[2], num_classes)
        labeled = counts.sum(dim=1)
        enough = labeled >= MIN_LABELED * total
        features.append(grid.flatten(1).T[enough].half())
        shares.append(counts[enough] / labeled[enough, None])
    return Cells(torch.cat(features).cpu(), torch.cat(shares).float().cpu())


def sample_cells(cells: Cells, count: int, *entropy: int) -> Cells:
    """Return at most `count` random cells, a function of the entropy."""
    order = np.random.default_rng(entropy).permutation(len(cells.features))[:count]
    return Cells(*(tensor[np.sort(order)] for tensor in cells))


def vote(
    bank: Float[Tensor, "n d"],
    shares: Float[Tensor, "n c"],
    queries: Float[Tensor, "m d"],
    k: int,
    temperature: float,
) -> Float[Tensor, "m c"]:
    """Return the mean class shares of the k nearest cells by cosine similarity.

    A cell with similarity s has the weight exp(s / temperature).

    Source: Wu et al., CVPR 2018, section 3.4; for cells: Balažević et al., "Towards In-Context Scene
    Understanding", NeurIPS 2023.

    Args:
        bank: unit-length features of the voting cells.
        shares: their classes.
        queries: features.
        k: at most n.
        temperature: above 0.
    """
    votes = []
    for chunk in F.normalize(queries, dim=1).split(max(MAX_SIMILARITIES // len(bank), 1)):
        similarity, nearest = (chunk @ bank.T).topk(k)
        weights = (similarity / temperature).softmax(dim=1)
        votes.append((weights[:, None] @ shares[nearest])[:, 0])
    return torch.cat(votes)


def upsample(
    scores: Float[Tensor, "n c"], grid: Sequence[int], size: Sequence[int]
) -> Float[Tensor, "1 c y x"]:
    """Return scores of the cells of one grid, row by row, at each pixel, by bilinear interpolation."""
    maps = scores.T.unflatten(1, tuple(grid))[None]
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)
