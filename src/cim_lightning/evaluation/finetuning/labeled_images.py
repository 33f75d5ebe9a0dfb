"""`LabeledImages`: batches of labeled images to train and to validate a classifier, for all devices."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import DataLoader, Subset

from cim_lightning.data.eval_batches import even_batches
from cim_lightning.data.image_keys import image_keys, random_part
from cim_lightning.data.resumable import ResumableData, device_and_count
from cim_lightning.data.sampler import ResumableBatchSampler
from cim_lightning.data.view_dataset import View, ViewDataset, view_loader
from cim_lightning.evaluation.context import EvalContext


class LabeledImages(ResumableData):
    """Training batches of random views of labeled images, and validation batches with the context's view.

    A view is a function of (seed, epoch, key of the image). The images of an optimizer step are a function of
    the seed and the number of the step. Neither depends on the number of devices or of accumulated batches.

    Args:
        context: its images and its seed.
        indices: of the training images.
        view: transforms a training image, with a random generator.
        batch_size: training images per device and batch.
        aug_repeats: see ResumableBatchSampler.
        num_val: maximum number of validation images; None: all; 0: no validation.
    """

    def __init__(
        self,
        context: EvalContext,
        indices: Sequence[int],
        view: View,
        batch_size: int,
        aug_repeats: int = 1,
        num_val: int | None = None,
    ):
        super().__init__()
        self.images, self.seed, self.val_view = context.data, context.seed, context.preprocessing
        self.indices, self.view = indices, view
        self.batch_size, self.aug_repeats, self.num_val = batch_size, aug_repeats, num_val

    def train_order(self) -> ResumableBatchSampler:
        return ResumableBatchSampler(
            image_keys(self._train_images),
            self.batch_size,
            self.seed,
            self.position,
            *device_and_count(self),
            self.aug_repeats,
            self.trainer.accumulate_grad_batches if self.trainer else 1,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(self._train_images, self.view, self.train_order(), evaluation=False)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the batches of this device; each labeled image is in one batch of one device."""
        source, labels = self.images.splits.val, getattr(self.images.splits.val, "labels", None)
        chosen = random_part(source, self.images.seed, self.num_val)
        keys = [(0, index) for index in chosen if labels is None or labels[index] >= 0]
        batches = even_batches(keys, self.images.batch_size, *device_and_count(self))
        return self._loader(source, self.val_view, batches, evaluation=True) if keys else []

    @property
    def _train_images(self) -> Subset[Any]:
        return Subset(self.images.splits.train, self.indices)  # pyright: ignore

    def _loader(self, source: Any, view: View, batches: Any, evaluation: bool) -> DataLoader[Any]:
        pin_memory = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        dataset = ViewDataset(source, view, self.seed, evaluation=evaluation)
        return view_loader(dataset, batches, self.images.loading, pin_memory)
