"""A data module that resumes training mid-epoch."""

from typing import Any, Protocol, runtime_checkable

import lightning as L

from cim_lightning.errors import ConfigError
from cim_lightning.lightning_internals import batches_processed, rescale_batches


@runtime_checkable
class TrainOrder(Protocol):
    """Batches of training images, such as a ResumableBatchSampler, that start at `position()`."""

    accumulate: int  # batches per optimizer step

    @property
    def images_per_batch(self) -> int: ...  # of all devices

    def __len__(self) -> int: ...  # batches per epoch


class ResumableData(L.LightningDataModule):
    """Base class of data modules whose training batches are a function of the number of trained batches.

    The checkpoint stores what was trained in images, so that training may resume with another number of
    devices, of images per batch or of accumulated batches, if the images of an optimizer step stay as many.
    """

    def __init__(self) -> None:
        super().__init__()
        self._resumed: dict[str, Any] = {"images": 0, "epoch": 0, "epoch_images": 0}

    def train_order(self) -> TrainOrder:
        """Return the batches of the training images, on this device."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return how much was trained.

        images: of all devices, since the start of the run.
        epoch, epoch_images: position in the order of the images, which may have other epochs than Lightning.
        images_per_batch, images_per_step: of all devices.
        """
        order = self.train_order()
        images_per_batch = order.images_per_batch
        epoch, batch = divmod(self.position(), len(order))
        return {
            "images": self._resumed["images"] + self._new_batches(order) * images_per_batch,
            "epoch": epoch,
            "epoch_images": batch * images_per_batch,
            "images_per_batch": images_per_batch,
            "images_per_step": images_per_batch * order.accumulate,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the trained images, and fit Lightning's counters to the batches of this process.

        Raises:
            ConfigError: see check_state.
        """
        self.check_state(state_dict)
        self._resumed = state_dict
        if self.trainer is not None:
            order, limit = self.train_order(), self.trainer.limit_train_batches
            length = min(len(order), limit) if isinstance(limit, int) else int(len(order) * limit)
            rescale_batches(self.trainer, state_dict["images_per_batch"], order.images_per_batch, length)

    def check_state(self, state_dict: dict[str, Any]) -> None:
        """Check that training can resume from a state.

        Raises:
            ConfigError: the state is of an earlier version, optimizer steps had another number of images, or
                the images changed (see ImageData).
        """
        if "images" not in state_dict:
            rule = "the checkpoint is of an earlier version, which drew other crops"
            raise ConfigError(f"{rule}; start a new run in another output_dir, from its weights if needed")
        order, trainer = self.train_order(), self.trainer
        before, now = state_dict["images_per_step"], order.images_per_batch * order.accumulate
        size = order.images_per_batch // (trainer.world_size if trainer else 1)
        if before != now:
            fitting, rest = divmod(before * size, now)
            rule = f"steps would have {now} images, but those of the checkpoint had {before}"
            hint = "" if rest else f"try batch_size={fitting}"
            hint = hint or f"batch_size x devices x accumulate_grad_batches must be {before}"
            raise ConfigError("batch_size", size, rule, hint=hint)
        limited = trainer is not None and trainer.limit_train_batches not in (None, 1.0)
        if limited and state_dict["images_per_batch"] != order.images_per_batch:
            rule = "limit_train_batches counts batches, which must stay the same when a run resumes"
            fitting = size * state_dict["images_per_batch"] // order.images_per_batch
            raise ConfigError("batch_size", size, rule, suggest=fitting)

    def position(self) -> int:
        """Return the number of the next batch of this device, counted through the epochs of the order."""
        order = self.train_order()
        # After a change of the images, the epoch may have fewer images than were trained.
        start = min(self._resumed["epoch_images"] // order.images_per_batch, len(order))
        return self._resumed["epoch"] * len(order) + start + self._new_batches(order)

    def _new_batches(self, order: TrainOrder) -> int:
        """Return the number of batches since this process started or resumed."""
        if self.trainer is None:
            return 0
        # Lightning restores its own count only after the workers have started.
        return max(batches_processed(self.trainer) - self._resumed["images"] // order.images_per_batch, 0)


def device_and_count(data: L.LightningDataModule) -> tuple[int, int]:
    """Return the number of this device, and the number of devices."""
    return (data.trainer.global_rank, data.trainer.world_size) if data.trainer else (0, 1)
