"""Dense evaluation: semantic segmentation by k-NN and by a linear classifier of frozen grid cells."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from cim_lightning.checks import check_above, check_at_least
from cim_lightning.data.segmentation import MaskSource, OpenSegmentationData, SegmentationSplits, open_splits
from cim_lightning.data.segmentation_batches import MaskSamples, evenly_spaced, mask_loader
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.distributed import BatchRows, gather_batches
from cim_lightning.evaluation.logistic import fit_head
from cim_lightning.evaluation.requirements import needs_masks, needs_rgb
from cim_lightning.evaluation.segmentation.cells import Cells, extract_cells, sample_cells, upsample, vote
from cim_lightning.evaluation.segmentation.metrics import SegmentationMetrics
from cim_lightning.evaluation.segmentation.sliding_window import SlidingWindow
from cim_lightning.metric_registry import COLUMN, Metric


@dataclass
class Dense:
    """mIoU and pixel accuracy of the validation images, from classifiers of single cells of the frozen grid.

    Both classifiers are fitted to a bounded number of random cells of the training images. k-NN: the
    neighbors vote with the class shares of their pixels. Linear: logistic regression on standardized
    features; the cross-entropy to the class shares of a cell is that of its pixels. The scores of the cells
    are interpolated to the pixels of the validation images.

    Source: dense k-NN and logistic regression as in Darcet et al., "Cluster and Predict Latent Patches for
    Improved Masked Image Modeling" (CAPI), 2025; the soft labels of cells: Balažević et al., NeurIPS 2023.
    """

    source: OpenSegmentationData | None  # of images with masks; None: the evaluator does not apply
    inference: SlidingWindow  # sizes of images and windows, for training and validation images
    num_cells: int  # maximum number of training cells; they need about 10 * d bytes each
    k: int  # number of neighbors
    temperature: float  # see vote
    weight_decay: float  # weight of the L2 penalty of the linear classifier
    steps: int  # maximum number of L-BFGS steps of the linear classifier
    num_train: int | None  # maximum number of images, evenly spaced; None: all
    num_val: int | None  # maximum number of images, evenly spaced; None: all

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("knn_miou", "mIoU, k-NN of cells", None, (COLUMN,), True, "dense k-NN mIoU", 1, unit="%"),
        Metric("knn_pixel_accuracy", "pixel accuracy, k-NN of cells", None, (), True, digits=1, unit="%"),
        Metric("linear_miou", "mIoU, linear", None, (COLUMN,), True, "dense linear mIoU", 1, unit="%"),
        Metric("linear_pixel_accuracy", "pixel accuracy, linear", None, (), True, digits=1, unit="%"),
    )

    def __post_init__(self) -> None:
        check_at_least("num_cells", self.num_cells, 1)
        check_at_least("k", self.k, 1)
        check_above("temperature", self.temperature, 0, suggest=0.02)
        check_at_least("weight_decay", self.weight_decay, 0)
        check_at_least("steps", self.steps, 1)
        check_at_least("num_train", self.num_train, 1)
        check_at_least("num_val", self.num_val, 1)

    def applies(self, context: EvalContext) -> str | None:
        return needs_masks(self.source) or needs_rgb(context)

    def forward_passes(self, context: EvalContext) -> float:
        splits = open_splits(self.source)
        area = self.inference.num_views(splits.val[0][1].shape, context.data.view.size)
        return area * (len(self._train_indices(splits)) + len(self._val_indices(splits)))

    @torch.no_grad()
    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return knn_miou, knn_pixel_accuracy, linear_miou and linear_pixel_accuracy, in percent."""
        splits = open_splits(self.source)
        cells = self._collect(splits, context)
        features, shares = (part.to(context.device) for part in cells)
        head = fit_head(features, shares, len(splits.classes), self.weight_decay, self.steps)
        context.record(
            preprocessing=f"whole images, short side {self.inference.short_side or 'unchanged'}",
            features="grid",
            k=min(self.k, len(features)),
            temperature=self.temperature,
            weight_decay=self.weight_decay,
            window=self.inference.size,
            train_images=len(self._train_indices(splits)),
            train_cells=len(features),
            val_images=len(self._val_indices(splits)),
        )
        return self._evaluate(features, shares, head, splits, context)

    def _evaluate(
        self,
        features: Tensor,
        shares: Tensor,
        head: nn.Linear,
        splits: SegmentationSplits,
        context: EvalContext,
    ) -> dict[str, float]:
        bank, k = F.normalize(features.float(), dim=1), min(self.k, len(features))
        results = {name: SegmentationMetrics(splits.classes).to(context.device) for name in ("knn", "linear")}

        def predict(images: Tensor) -> Tensor:
            """Return the votes and the logits of each class, as one map per image."""
            maps = []
            for grid in context.backbone(images).grid.float():
                queries = grid.flatten(1).T
                scores = torch.cat((vote(bank, shares, queries, k, self.temperature), head(queries)), dim=1)
                maps.append(upsample(scores, grid.shape[-2:], images.shape[-2:]))
            return torch.cat(maps)

        for image, mask in self._load(splits.val, self._val_indices(splits), context):
            scores = self.inference(predict, image, context.backbone).chunk(2)
            for metric, classes in zip(results.values(), scores, strict=True):
                metric.update(classes.argmax(dim=0), mask.long())
        values = {name: metric.compute() for name, metric in results.items()}
        return {f"{name}_{key}": values[name][key] for name in values for key in ("miou", "pixel_accuracy")}

    def _collect(self, splits: SegmentationSplits, context: EvalContext) -> Cells:
        """Return the training cells: equally many random cells of each image, if it has so many."""
        indices = self._train_indices(splits)
        settings = (self.inference, len(splits.classes))
        features, shares = [], []
        for image, mask in self._load(splits.train, indices, context):
            cells = extract_cells(context.backbone, image, mask, *settings)
            entropy = (context.seed, context.rank + len(features) * context.world_size)
            chosen = sample_cells(cells, self.num_cells // len(indices), *entropy)
            features.append(chosen.features)
            shares.append(chosen.shares)
        gathered = (gather_batches(BatchRows.of(parts), context.device) for parts in (features, shares))
        cells = Cells(*gathered)
        if not cells.features.isfinite().all():
            raise ConfigError("the backbone's features are not finite, or exceed the range of fp16")
        if not len(cells.features):
            raise ConfigError("source", rule="the training masks have no labeled pixels", hint="check ignore")
        return cells

    def _load(
        self, source: MaskSource, indices: list[int], context: EvalContext
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's share of the images and masks, on the device."""
        batches = [[(0, index)] for index in indices[context.rank :: context.world_size]]
        loader = mask_loader(MaskSamples(source, 0), batches, context.data.loading)
        for (sample,) in tqdm(loader, "dense", unit="image", leave=False, disable=None):
            yield sample.image.to(context.device), sample.mask.to(context.device)

    def _train_indices(self, splits: SegmentationSplits) -> list[int]:
        limits = [self.num_cells, *([] if self.num_train is None else [self.num_train])]
        return evenly_spaced(len(splits.train), min(limits))

    def _val_indices(self, splits: SegmentationSplits) -> list[int]:
        return evenly_spaced(len(splits.val), self.num_val)
