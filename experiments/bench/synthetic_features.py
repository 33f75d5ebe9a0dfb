"""An evaluation of any size on features of a synthetic backbone, without images."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from cim_lightning.evaluation.context import EvalContext
from cim_lightning.models.backbone import Backbone, Features

CPU, BATCH = torch.device("cpu"), 1024
DISTANCE = 0.2  # deviation of a coordinate of the class means; that of an image around its mean is 1


class SyntheticBackbone(Backbone):
    """A backbone whose features are the mean of the image's class plus noise."""

    def __init__(self, dim: int, num_classes: int):
        super().__init__("synthetic", dim, 3, 1, mean=(0, 0, 0), std=(1, 1, 1))
        self.generator = torch.Generator().manual_seed(0)
        self.means = DISTANCE * torch.randn(num_classes, dim, generator=self.generator)

    def compute_features(self, images: Tensor) -> Features:
        low, high, _ = (255 * images[:, :, 0, 0]).round().long().unbind(dim=1)
        noise = torch.randn(len(images), self.dim, generator=self.generator)
        vectors = self.means[low + 256 * high] + noise
        return Features(vectors, vectors[..., None, None])


class Labels:
    """The images of a split: their number, and their classes."""

    def __init__(self, count: int, num_classes: int):
        self.count, self.classes = count, range(num_classes)

    def __len__(self) -> int:
        return self.count


class Batches(IterableDataset[tuple[Tensor, Tensor]]):
    """Whole batches of a generator function."""

    def __init__(self, generate: Callable[[], Iterator[tuple[Tensor, Tensor]]]):
        self.generate = generate

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.generate()


class SyntheticData:
    """Images of one pixel, whose color is the number of the class."""

    def __init__(self, num_train: int, num_val: int, num_classes: int):
        self.num_classes, self.view, self.batch_size = num_classes, SimpleNamespace(size=1), BATCH
        self.splits = SimpleNamespace(train=Labels(num_train, num_classes), val=Labels(num_val, num_classes))

    def eval_dataloader(self, split: str, limit: int | None, *_: Any) -> DataLoader[Any]:
        batches = Batches(lambda: self.batches(split, limit))
        return DataLoader(batches, batch_size=None)

    def batches(self, split: str, limit: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels, the same in every call."""
        generator = torch.Generator().manual_seed(len(split))
        count = len(getattr(self.splits, split))
        count = min(limit or count, count)
        for start in range(0, count, BATCH):
            size = (min(BATCH, count - start),)
            labels = torch.randint(self.num_classes, size, generator=generator)
            color = torch.stack((labels % 256, labels // 256, 0 * labels), dim=1).to(torch.uint8)
            yield color[..., None, None], labels


def synthetic_context(dim: int, num_train: int, num_val: int, num_classes: int, folder: Path) -> EvalContext:
    """Return a context of synthetic features."""
    data = SyntheticData(num_train, num_val, num_classes)
    return EvalContext(SyntheticBackbone(dim, num_classes), None, data, CPU, folder, 0, {})
