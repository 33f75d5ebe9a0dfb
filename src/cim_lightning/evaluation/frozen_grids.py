"""Feature maps of a frozen backbone as training data: in memory if they fit, else computed in every epoch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from cim_lightning.cropping.views import to_unit_range
from cim_lightning.data.resumable import ResumableData
from cim_lightning.data.sampler import ResumableBatchSampler
from cim_lightning.data.view_dataset import ViewDataset, view_loader
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.distributed import BatchRows, gather_batches
from cim_lightning.evaluation.features import STORED


class Grids(NamedTuple):
    """A batch of feature maps, in fp16."""

    grids: Float[Tensor, "b d h w"]
    labels: Int64[Tensor, " b"]


class StoredGrids(Dataset[Grids]):
    """Feature maps in memory; a list of keys (epoch, index) gives a whole batch."""

    def __init__(self, grids: Grids):
        self.grids = grids

    def __len__(self) -> int:
        return len(self.grids.labels)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Grids:
        rows = torch.tensor([index for _, index in keys])
        return Grids(*(tensor[rows] for tensor in self.grids))


class FrozenGridsData(ResumableData):
    """Training batches of feature maps or of views, for all devices.

    Args:
        load: returns the loader of batches with keys (epoch, index).
        num_images: number of training images.
        batch_size: images per device and batch.
        seed: of their order.
    """

    def __init__(self, load: Callable[[Any], DataLoader[Any]], num_images: int, batch_size: int, seed: int):
        super().__init__()
        self.load, self.num_images, self.batch_size, self.seed = load, num_images, batch_size, seed

    def train_order(self) -> ResumableBatchSampler:
        trainer = self.trainer
        devices = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        accumulate = trainer.accumulate_grad_batches if trainer else 1
        keys = np.arange(self.num_images, dtype=np.uint64)
        settings = (keys, self.batch_size, self.seed, self.position, *devices)
        return ResumableBatchSampler(*settings, accumulate=accumulate)

    def train_dataloader(self) -> DataLoader[Any]:
        return self.load(self.train_order())


def grid_bytes(context: EvalContext, num_images: int) -> int:
    """Return the size of the feature maps of some images in fp16."""
    backbone = context.backbone
    side = -(-context.preprocessing.size // backbone.patch_size)
    return num_images * backbone.dim * side * side * torch.finfo(STORED).bits // 8


def grid_loader(grids: Grids, batches: Any) -> DataLoader[Any]:
    """Return a loader of Grids, whose batches have the keys (epoch, index)."""
    return DataLoader(StoredGrids(grids), batch_sampler=batches, collate_fn=_as_it_is)


def image_loader(context: EvalContext, indices: Sequence[int], batches: Any) -> DataLoader[Any]:
    """Return a loader of (views, labels, seed) of training images.

    Args:
        indices: of the training images.
        batches: of keys (epoch, index in `indices`).
    """
    data = context.data
    subset = Subset[Any](data.splits.train, indices)  # pyright: ignore
    dataset = ViewDataset(subset, context.preprocessing, data.seed)
    pin_memory = context.device.type == "cuda"
    return view_loader(dataset, batches, data.loading, pin_memory)


def train_batches(context: EvalContext, indices: Sequence[int]) -> DataLoader[Any]:
    """Return this process's share of the batches of some training images, in their order."""
    keys, size = [(0, i) for i in range(len(indices))], context.data.batch_size
    batches = [keys[i : i + size] for i in range(0, len(keys), size)]
    return image_loader(context, indices, batches[context.rank :: context.world_size])


@torch.no_grad()
def extract_grids(context: EvalContext, indices: Sequence[int]) -> Grids:
    """Return the feature maps of some training images, in their order and in every process."""
    backbone, grids, labels = context.backbone, BatchRows(len(indices), STORED), BatchRows(len(indices))
    batches = train_batches(context, indices)
    for batch in tqdm(batches, "feature maps of train", unit="batch", leave=False, disable=None):
        images = to_unit_range(batch.views.to(context.device))
        grids.append(backbone(backbone.normalize(images)).grid)
        labels.append(batch.labels)
    return Grids(gather_batches(grids, context.device), gather_batches(labels, context.device))


def _as_it_is(batch: Any) -> Any:
    return batch
