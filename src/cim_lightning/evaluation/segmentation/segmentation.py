"""Semantic segmentation: train a head, and optionally the backbone, and evaluate the predicted masks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from cim_lightning.checks import check_at_least
from cim_lightning.data.segmentation import OpenSegmentationData, SegmentationSplits, open_splits
from cim_lightning.data.segmentation_batches import MaskSamples, evenly_spaced
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.fitting import fit, trainer_factory, validate
from cim_lightning.evaluation.requirements import needs_masks, needs_rgb
from cim_lightning.evaluation.segmentation.crops import RandomScaleCrop
from cim_lightning.evaluation.segmentation.datamodule import TrainingCrops, WholeImages, check_batch_size
from cim_lightning.evaluation.segmentation.module import SegmentationModule
from cim_lightning.evaluation.segmentation.overlays import draw
from cim_lightning.evaluation.segmentation.sliding_window import SlidingWindow
from cim_lightning.metric_registry import COLUMN, Metric
from cim_lightning.models.segmentation import Segmenter
from cim_lightning.rng import fork_rng

TRAINING_SETTINGS = ("source", "head", "finetune", "batch_size", "crops", "optim", "num_train")


@dataclass
class Segmentation:
    """SegmentationMetrics of the validation images, after training a segmentation head."""

    source: OpenSegmentationData | None  # of images with masks; None: the evaluator does not apply
    head: Callable[..., nn.Module]  # builds a head from a backbone and a number of classes
    finetune: bool  # train the backbone too
    steps: int  # optimizer steps
    batch_size: int  # random crops per optimizer step, over all devices and accumulated batches
    crops: RandomScaleCrop
    inference: SlidingWindow
    optim: LayerDecayOptim
    num_train: int | None  # maximum number of images, evenly spaced; None: all
    num_val: int | None  # maximum number of images, evenly spaced; None: all
    pictures: int  # number of validation images to draw
    pictures_folder: str  # in the context's folder

    uses_trainer: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("miou", "mIoU", None, (COLUMN,), True, "segmentation mIoU", 1, unit="%"),
        Metric("pixel_accuracy", "pixel accuracy", higher_is_better=True, digits=1, unit="%"),
        Metric("class_accuracy", "mean accuracy of the classes", higher_is_better=True, digits=1, unit="%"),
        Metric("iou_*", "IoU of *", higher_is_better=True, digits=1, unit="%"),
    )

    def __post_init__(self) -> None:
        check_at_least("steps", self.steps, 1)
        # Batch normalization of globally pooled features needs two images.
        check_at_least("batch_size", self.batch_size, 2)
        check_at_least("num_train", self.num_train, 1)
        check_at_least("num_val", self.num_val, 1)
        check_at_least("pictures", self.pictures, 0)

    def applies(self, context: EvalContext) -> str | None:
        if reason := needs_masks(self.source) or needs_rgb(context):
            return reason
        parts = trainer_factory(context).parts_per_step()
        check_batch_size(self.batch_size, parts)
        model = Segmenter(context.backbone, self.head, len(open_splits(self.source).classes), self.finetune)
        check_sizes(model.to(context.device).eval(), self.crops.size, self.inference.size)
        return None

    def forward_passes(self, context: EvalContext) -> float:
        splits, view_size = open_splits(self.source), context.data.view.size
        crops = self.steps * self.batch_size * (3 if self.finetune else 1)
        whole = len(evenly_spaced(len(splits.val), self.num_val))
        area = self.inference.num_views(splits.val[0][1].shape, view_size)
        return crops * (self.crops.size / view_size) ** 2 + whole * area

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return the metrics in percent. The training is cached, and an interrupted training resumes."""
        splits = open_splits(self.source)
        with fork_rng(context.seed):
            model = Segmenter(context.backbone, self.head, len(splits.classes), self.finetune)
        check_sizes(model.to(context.device).eval(), self.crops.size, self.inference.size)
        shape = (1, context.backbone.in_channels, self.crops.size, self.crops.size)
        model.freeze_unused(torch.zeros(shape, device=context.device))
        module = SegmentationModule(
            model, self.optim, self.inference, splits.classes, self.batch_size, self.steps
        )
        train, val = (
            evenly_spaced(len(source), limit)
            for source, limit in ((splits.train, self.num_train), (splits.val, self.num_val))
        )
        settings = {name: getattr(self, name) for name in TRAINING_SETTINGS}
        settings |= {"images": len(train), "classes": splits.classes}
        loading, length = context.data.loading, (self.batch_size, self.steps)
        source = (splits.train, train, self.crops, model.backbone)
        data = TrainingCrops(*source, *length, loading, context.seed)
        fit(module, data, context, "segmenters/trained", settings, max_steps=self.steps)
        context.record(
            preprocessing=f"whole images, short side {self.inference.short_side or 'unchanged'}",
            window=self.inference.size,
            finetune=self.finetune,
            steps=self.steps,
            batch_size=self.batch_size,
            train_images=len(train),
            val_images=len(val),
        )
        metrics = validate(module, WholeImages(splits.val, val, loading), context)
        if context.rank == 0:
            self._draw(model, splits, val, context)
        return {name.removeprefix("val/"): value for name, value in metrics.items()}

    @torch.no_grad()
    def _draw(
        self, model: Segmenter, splits: SegmentationSplits, images: list[int], context: EvalContext
    ) -> None:
        folder = context.folder / self.pictures_folder
        for i in evenly_spaced(len(images), self.pictures):
            image, mask, _ = MaskSamples(splits.val, 0)[0, images[i]]
            predicted = self.inference(model, image.to(context.device), model.backbone).argmax(dim=0)
            pixels = image.permute(1, 2, 0).numpy()
            folder.mkdir(parents=True, exist_ok=True)
            picture = draw(pixels, mask.numpy(), predicted.cpu().numpy(), splits.classes)
            picture.save(folder / f"{i:05d}.png")


def check_sizes(model: Segmenter, crop: int, window: int | None) -> None:
    """Raise ConfigError if the backbone does not accept the crops or the windows.

    Args:
        model: in evaluation mode.
        crop: side of a training crop in pixels.
        window: side of a window in pixels; None: images of any size.
    """
    backbone, device = model.backbone, model.backbone.mean.device
    any_size = (crop + backbone.patch_size, crop + 2 * backbone.patch_size)
    for value, size in ((crop, (crop, crop)), (window, (window, window) if window else any_size)):
        images = torch.zeros(1, backbone.in_channels, *size, device=device)
        try:
            with torch.no_grad():
                model(images)
        except AssertionError as error:
            reason = (str(error) or "it has a fixed input size").splitlines()[0]
            rule = f"{backbone.name} does not accept {size[0]}x{size[1]} pixels ({reason})"
            hint = "try the backbone's own size for crops and inference"
            raise ConfigError("size", value, rule, hint=hint) from error
