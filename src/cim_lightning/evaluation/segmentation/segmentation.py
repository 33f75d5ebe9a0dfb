"""Semantic segmentation: train a head, and optionally the backbone, and evaluate the predicted masks."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from cim_lightning.checks import check_at_least
from cim_lightning.data.segmentation import IGNORE_INDEX
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.finetuning.training_loop import training_loop
from cim_lightning.evaluation.segmentation.crops import RandomScaleCrop
from cim_lightning.evaluation.segmentation.metrics import SegmentationMetrics
from cim_lightning.evaluation.segmentation.overlays import draw
from cim_lightning.evaluation.segmentation.sliding_window import SlidingWindow
from cim_lightning.evaluation.training_cache import TrainingCache, fingerprint
from cim_lightning.models.segmentation import Segmenter
from cim_lightning.rng import fork_rng

TRAINING_SETTINGS = ("source", "head", "finetune", "steps", "batch_size", "crops", "optim", "num_train")


@dataclass
class Segmentation:
    """SegmentationMetrics of the validation images, after training a segmentation head."""

    source: Callable[[], Any]  # returns SegmentationSplits
    head: Callable[..., nn.Module]  # builds a head from a backbone and a number of classes
    finetune: bool  # train the backbone too
    steps: int  # optimizer steps
    batch_size: int  # random crops per step
    crops: RandomScaleCrop
    inference: SlidingWindow
    optim: LayerDecayOptim
    num_train: int | None  # maximum number of images, evenly spaced; None: all
    num_val: int | None  # maximum number of images, evenly spaced; None: all
    pictures: int  # number of validation images to draw
    pictures_folder: str  # in the context's folder

    def __post_init__(self) -> None:
        # Batch normalization of globally pooled features needs two images.
        minimum = {"batch_size": 2, "steps": 1, "num_train": 1, "num_val": 1, "pictures": 0}
        for name, low in minimum.items():
            check_at_least(name, getattr(self, name), low)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return the metrics. The training is cached, and an interrupted training resumes."""
        args = {name: fingerprint(getattr(self, name)) for name in TRAINING_SETTINGS}
        cache = context.training_cache("segmenters", "trained", args)
        with fork_rng(context.seed):
            splits = self.source()
            model = Segmenter(context.backbone, self.head, len(splits.classes), self.finetune)
            model.to(context.device)
            self._check_sizes(model.eval(), context)
            if (finished := cache.finished()) is not None:
                model.load_state_dict(finished[0])
            else:
                self._train(model.train(), splits.train, context, cache)
                cache.save_result(model.state_dict(), {"classes": splits.classes})
            return self._evaluate(model.eval(), splits, context)

    def _train(self, model: Segmenter, pairs: Any, context: EvalContext, cache: TrainingCache) -> None:
        pairs = Subset(pairs, evenly_spaced(len(pairs), self.num_train))

        def batches(step: int) -> Iterator[tuple[Any]]:
            order = index_batches(len(pairs), self.batch_size, context.seed, step, self.steps)
            return zip(self._loader(pairs, context, batch_sampler=order))  # one micro-batch per step

        def compute_loss(batch: Any) -> Tensor:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
            images, masks = self.crops.batch(batch, context.device, context.backbone.normalize, generator)
            with context.autocast():
                logits = model(images)
            return mean_loss(logits, masks)

        optim = self.optim(model.backbone, model.head, self.batch_size, self.steps)
        training_loop(self.steps, context.seed, cache, model, *optim, batches, compute_loss)

    @torch.no_grad()
    def _evaluate(self, model: Segmenter, splits: Any, context: EvalContext) -> dict[str, float]:
        pairs = Subset(splits.val, evenly_spaced(len(splits.val), self.num_val))
        drawn = evenly_spaced(len(pairs), self.pictures)
        metrics = SegmentationMetrics(splits.classes).to(context.device)
        folder = context.folder / self.pictures_folder

        def predict(images: Tensor) -> Tensor:
            with context.autocast():
                return model(images)

        bar = tqdm(self._loader(pairs, context), "segmentation", unit="image", leave=False, disable=None)
        for i, [(image, mask)] in enumerate(bar):
            normalize = context.backbone.normalize
            logits = self.inference(predict, image.to(context.device), normalize, _patch_size(model))
            predicted = logits.argmax(dim=0)
            metrics.update(predicted, mask.to(context.device).long())
            if i in drawn:
                folder.mkdir(parents=True, exist_ok=True)
                pixels = image.permute(1, 2, 0).numpy()
                picture = draw(pixels, mask.numpy(), predicted.cpu().numpy(), splits.classes)
                picture.save(folder / f"{i:05d}.png")
        return metrics.compute()

    def _loader(self, pairs: Any, context: EvalContext, **kwargs: Any) -> DataLoader[Any]:
        return DataLoader(pairs, num_workers=context.data.num_workers, collate_fn=to_tensors, **kwargs)

    @torch.no_grad()
    def _check_sizes(self, model: Segmenter, context: EvalContext) -> None:
        """Raise ConfigError if the backbone does not accept the crops or the windows."""
        crop, window = self.crops.size, self.inference.size
        rows, columns = _patch_size(model)
        any_size = (crop + rows, crop + 2 * columns)
        for value, size in ((crop, (crop, crop)), (window, (window, window) if window else any_size)):
            try:
                model(torch.zeros(1, model.backbone.in_channels, *size, device=context.device))
            except AssertionError as error:
                reason = (str(error) or "it has a fixed input size").splitlines()[0]
                rule = f"{model.backbone.name} does not accept {size[0]}x{size[1]} pixels ({reason})"
                hint = "try the backbone's own size for crops and inference"
                raise ConfigError("size", value, rule, hint=hint) from error


def mean_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean cross-entropy of the pixels that are not ignored; 0 if there are none."""
    total = F.cross_entropy(logits, masks, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (masks != IGNORE_INDEX).sum().clamp(min=1)


def _patch_size(model: Segmenter) -> tuple[int, int]:
    return model.backbone.size_multiple, model.backbone.size_multiple


def evenly_spaced(total: int, count: int | None) -> list[int]:
    """Return at most `count` indices from 0 to total - 1; None: all."""
    count = total if count is None else min(count, total)
    return np.linspace(0, total - 1, count).round().astype(int).tolist()


def to_tensors(pairs: Sequence[Any]) -> list[tuple[Tensor, Tensor]]:
    """Convert RGB images and their masks to uint8 tensors "3 h w" and "h w"."""
    arrays = [(np.array(image), np.array(mask)) for image, mask in pairs]
    return [(torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask)) for image, mask in arrays]


def index_batches(
    images: int, batch_size: int, seed: int, start: int, stop: int
) -> Iterator[tuple[int, ...]]:
    """Return the batches from `start` to `stop - 1`. Each epoch is a new permutation of the images.

    A batch may contain images of two epochs.
    """
    epochs = (np.random.default_rng((seed, epoch)).permutation(images) for epoch in itertools.count())
    indices = (int(index) for epoch in epochs for index in epoch)
    return itertools.islice(zip(*[indices] * batch_size, strict=True), start, stop)
