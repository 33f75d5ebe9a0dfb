"""Semantic segmentation: a head learns on a copy of the backbone, which may learn too, and is measured."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.finetuning.loop import Loop
from cim_lightning.evaluation.segmentation.crops import RandomScaleCrop
from cim_lightning.evaluation.segmentation.image_mask_pairs import Order, Pairs, evenly
from cim_lightning.evaluation.segmentation.metrics import SegmentationMetrics
from cim_lightning.evaluation.segmentation.overlays import draw
from cim_lightning.evaluation.segmentation.sliding_window import SlidingWindow
from cim_lightning.evaluation.training_cache import TrainingCache, fingerprint
from cim_lightning.models.segmenter import Segmenter
from cim_lightning.rng import fork_rng

SETTING = "evaluation.segmentation"


class Segmentation:
    """A part of the evaluation; its numbers are those of SegmentationMetrics.

    Args:
        source: opens the data set: splits `train` and `val`, whose items are an RGB image and a uint8 mask,
            the names of the `classes`, and the label that is `ignored` (data/masks.py).
        head: makes a head from backbone and number of classes (models/segmentation_heads.py).
        finetune: whether the backbone learns too, all of it; else the head alone.
        steps, batch_size: of training, on crops.
        crops: random crops of images and masks.
        inference: how a whole image is predicted.
        optim: how it is optimized.
        num_train, num_val: images at most, evenly spaced; None for all.
        pictures: how many images of val are drawn, evenly spaced; into `pictures_folder` of the context's
            folder.

    Images are decoded by as many processes as the context's data has.

    Raises:
        ConfigError: a setting is outside its limits; when called, the data set or the backbone refuses.
    """

    def __init__(
        self,
        source: Callable[[], Any],
        head: Callable[..., nn.Module],
        finetune: bool,
        steps: int,
        batch_size: int,
        crops: RandomScaleCrop,
        inference: SlidingWindow,
        optim: LayerDecayOptim,
        num_train: int | None,
        num_val: int | None,
        pictures: int,
        pictures_folder: str,
    ):
        limits: dict[str, tuple[int | None, int]] = {"steps": (steps, 1)}
        limits |= {"num_train": (num_train, 1), "num_val": (num_val, 1), "pictures": (pictures, 0)}
        limits |= {"batch_size": (batch_size, 2)}  # batch normalization of a pooled cell needs two
        for name, (value, least) in limits.items():
            if value is not None and value < least:
                raise ConfigError(f"{SETTING}.{name}={value}: at least {least}; try {least}")
        self.source, self.head, self.finetune = source, head, finetune
        self.steps, self.batch_size = steps, batch_size
        self.crops, self.inference, self.optim = crops, inference, optim
        self.num_train, self.num_val = num_train, num_val
        self.pictures, self.pictures_folder = pictures, pictures_folder

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Trains and measures; the context, and torch's random streams, are left as they were."""
        with fork_rng(context.seed):
            splits = self.source()
            model = Segmenter(context.backbone, self.head, len(splits.classes), self.finetune)
            model.to(context.device)
            self._try_sizes(model, context)
            kept = context.kept("segmenters", "trained", self._training())
            if (ended := kept.ended()) is None:
                self._train(model, splits, context, kept)
                kept.end(model.state_dict(), {"classes": splits.classes})
            else:
                model.load_state_dict(ended[0])
            return self._measure(model, splits, context)

    def _training(self) -> Any:
        """All that the trained model depends on."""
        names = ("source", "head", "finetune", "steps", "batch_size", "crops", "optim", "num_train")
        return {name: fingerprint(getattr(self, name)) for name in names}

    def _train(self, model: Segmenter, splits: Any, context: EvalContext, kept: TrainingCache) -> None:
        pairs = Pairs(splits.train, self.num_train)
        optimizer, schedule = self.optim(model.backbone, model.head, self.batch_size, self.steps)

        def batches(done: int) -> Iterator[tuple[Any]]:
            order = Order(len(pairs), self.steps, self.batch_size, context.seed, done)
            loader = DataLoader(
                pairs, batch_sampler=order, num_workers=context.data.num_workers, collate_fn=list
            )  # pyright: ignore
            return ((batch,) for batch in loader)

        def loss_of(batch: Any) -> Tensor:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
            images, masks = self.crops.batch(
                batch, context.device, context.normalize, splits.ignored, generator
            )
            with context.autocast():
                logits = model(images)
            return mean_loss(logits, masks, splits.ignored)

        loop = Loop("segmentation: training", self.steps, context.seed, kept)
        loop(model.train(), optimizer, schedule, batches, loss_of)

    @torch.no_grad()
    def _measure(self, model: Segmenter, splits: Any, context: EvalContext) -> dict[str, float]:
        pairs = Pairs(splits.val, self.num_val)
        loader = DataLoader(pairs, batch_size=None, num_workers=context.data.num_workers)
        scores = SegmentationMetrics(splits.classes, splits.ignored, context.device)
        drawn = set(evenly(len(pairs), min(self.pictures, len(pairs))))
        folder = context.folder / self.pictures_folder
        if drawn:
            folder.mkdir(parents=True, exist_ok=True)
        model.eval()

        def predict(images: Tensor) -> Tensor:
            with context.autocast():
                return model(images)

        bar = tqdm(loader, "segmentation: measuring", unit="image", leave=False, disable=None)
        for i, (image, mask) in enumerate(bar):
            logits = self.inference(predict, image.to(context.device), context.normalize, _multiple(model))
            predicted = logits.argmax(dim=0)
            scores.update(predicted, mask.to(context.device).long())
            if i in drawn:
                seen = image.permute(1, 2, 0).numpy()
                page = draw(seen, mask.numpy(), predicted.cpu().numpy(), splits.classes)
                page.save(folder / f"{i:05d}.png")
        return scores.compute()

    def _try_sizes(self, model: Segmenter, context: EvalContext) -> None:
        """Refuses, before training, what the backbone will not read after it."""
        rows, columns = _multiple(model)
        side, window = self.crops.size, self.inference.size
        model.backbone.check((side, side), f"{SETTING}.crops.size")
        if window is not None:
            model.backbone.check((window, window), f"{SETTING}.inference.size")
        name, channels = model.backbone.timm_kwargs["model_name"], model.backbone.timm_kwargs["in_chans"]
        other = (side + rows, side + 2 * columns) if window is None else (window, window)
        model.eval()
        for size, setting in (((side, side), f"crops.size={side}"), (other, f"inference.size={window}")):
            try:
                with torch.no_grad():
                    model(torch.zeros(1, channels, *size, device=context.device))
            except AssertionError as error:
                reason = (str(error) or "it reads one size only").splitlines()[0]
                raise ConfigError(
                    f"{SETTING}.{setting.replace('None', 'null')}: {name} refuses {size[0]}x{size[1]} pixels "
                    f"({reason}); try crops.size and inference.size of the size it was made for"
                ) from error


def mean_loss(logits: Tensor, masks: Tensor, ignored: int) -> Tensor:
    """Cross-entropy a pixel that counts; 0 where none does, for which torch's own mean gives nan."""
    total = F.cross_entropy(logits, masks, ignore_index=ignored, reduction="sum")
    return total / (masks != ignored).sum().clamp(min=1)


def _multiple(model: Segmenter) -> tuple[int, int]:
    """Rows and columns of which the backbone reads whole multiples."""
    patch = getattr(getattr(model.backbone.model, "patch_embed", None), "patch_size", (1, 1))
    return int(patch[0]), int(patch[1])
