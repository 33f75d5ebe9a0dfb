"""Base class of the methods: a backbone, an optimizer, and the training steps around a loss."""

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor

from cim_lightning import metric_registry
from cim_lightning.checks import check_at_least
from cim_lightning.config.load_run import load_run
from cim_lightning.cropping.batch import CropBatch
from cim_lightning.errors import ConfigError
from cim_lightning.finite_step import FiniteStep, clip_gradients, propagate
from cim_lightning.metric_registry import Metric
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.target import Target, check_tied
from cim_lightning.optim import Optim
from cim_lightning.step_metrics import StepMetrics

CUDA_GRAPHS = ("reduce-overhead", "max-autotune")  # modes of torch.compile that use them


class Method(L.LightningModule, ABC):
    """A pre-training method. Any Lightning Trainer trains it, with any loader that yields its batches.

    A batch is the crops, or (crops, labels). A subclass declares the type of the crops, computes losses from
    them, and lists its targets. Crops are in 0..1, and `backbone.normalize` makes them the backbone's input.
    A subclass that overrides a hook of Lightning must call that of this class.

    Args:
        backbone: the network to pre-train.
        optim: builds the optimizer and its schedule.
        batch_size: images per device and batch, which set the learning rate.
    """

    batch_type: ClassVar[type[CropBatch]]  # what the cropping must return
    trains: ClassVar[bool] = True  # False: there are no training steps
    dynamic_shapes: ClassVar[bool] = False  # True: the shapes of tensors change between training batches
    metrics: ClassVar[tuple[Metric, ...]] = ()  # logged beside "loss"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        metric_registry.register(*cls.metrics)

    def __init__(self, backbone: Backbone, optim: Optim, batch_size: int):
        super().__init__()
        check_at_least("batch_size", batch_size, 1)
        self.backbone = backbone
        self.optim, self.batch_size = optim, batch_size
        self.finite_step = FiniteStep(self)
        self.step_metrics = StepMetrics()
        self._cuda_graphs = False
        self._batch_size_checked = False

    def prepare(self, batch: Any, num_classes: int | None) -> None:
        """Check that the data fit the method, and build layers that depend on the data, before training.

        Args:
            batch: crops of any number of images.
            num_classes: classes of the training images; None if they have no labels.

        Raises:
            ConfigError: the method needs another cropping, or labels that the images do not have.
        """
        self.check_batch(batch)
        check_tied(target for target, _ in self.target_pairs())

    @classmethod
    def check_batch(cls, batch: Any) -> None:
        """Raise ConfigError if the cropping of these crops belongs to another method."""
        if not isinstance(batch, cls.batch_type):
            raise ConfigError(
                f"{cls.__name__} needs a cropping that returns {cls.batch_type.__name__}, "
                f"not {type(batch).__name__}; leave the cropping out to get the method's own"
            )

    @classmethod
    def load_from_checkpoint(
        cls, checkpoint_path: str | Path, map_location: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Return the method of a checkpoint, with its weights.

        Args:
            checkpoint_path: a folder or checkpoint of `cim-pretrain`, which needs no further argument, or a
                checkpoint of another Lightning Trainer.
            map_location: the device; None: the CPU for `cim-pretrain`, that of the training otherwise.
            args, kwargs: of Lightning's method. For a checkpoint of another Trainer, `kwargs` has the
                arguments of the constructor.

        Raises:
            ConfigError: the checkpoint has no settings, or is one of another method.
        """
        if args or kwargs:
            return super().load_from_checkpoint(checkpoint_path, map_location, *args, **kwargs)
        method = load_run(checkpoint_path, cls)
        return method if map_location is None else method.to(map_location)

    @property
    def eval_backbone(self) -> Backbone:
        """The backbone to monitor, evaluate and export."""
        return self.backbone

    @abstractmethod
    def compute_losses(self, crops: Any) -> dict[str, Tensor]:
        """Return scalars by name: "loss", which is minimized, and metrics to log."""

    def compute_batch_losses(self, batch: Any) -> dict[str, Tensor]:
        """Return the losses of a batch. By default, the labels are not used."""
        return self.compute_losses(self.unpack(batch)[0])

    def unpack(self, batch: Any) -> tuple[Any, Tensor | None]:
        """Return the crops and the labels (None: no labels) of a batch.

        Raises:
            ConfigError: the batch has another type.
        """
        if isinstance(batch, self.batch_type):
            return batch, None
        pair = isinstance(batch, tuple | list) and len(batch) == 2
        if pair and isinstance(batch[0], self.batch_type):
            return batch[0], batch[1]
        needed, found = self.batch_type.__name__, type(batch).__name__
        if pair:
            found = f"({', '.join(type(part).__name__ for part in batch)})"
        raise ConfigError(f"{type(self).__name__} needs batches {needed} or ({needed}, labels), not {found}")

    def target_pairs(self) -> list[tuple[Target, torch.nn.Module]]:
        """Return pairs of a target (see models/target.py) and the online network that it follows."""
        return []

    def update_target(self, progress: float) -> None:
        """Update all targets after an optimizer step. The progress is the share of training done, 0..1."""
        metrics, result = {}, self.finite_step.result
        for target, online in self.target_pairs():
            metrics |= target.update(online, progress, None if result is None else result.applied)
        self.step_metrics.update({f"train/{name}": value for name, value in metrics.items()})

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        num_images = self.unpack(batch)[0].num_images
        if not self._batch_size_checked and num_images != self.batch_size:
            rule = f"the first training batch has {num_images} images"
            raise ConfigError("batch_size", self.batch_size, rule, suggest=num_images)
        self._batch_size_checked = True
        if self._cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # outputs of the last step are not used any more
        self.finite_step.start_batch()
        metrics = self.compute_batch_losses(batch)
        self.finite_step.add_loss(metrics["loss"])
        self.step_metrics.update({f"train/{name}": value for name, value in metrics.items()})
        self.step_metrics.update({"train/lr": self.trainer.optimizers[0].param_groups[0]["lr"]})
        return metrics["loss"]

    def on_train_epoch_start(self) -> None:
        self.step_metrics.clear()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.step_metrics.log(self)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        # Lightning rounds the mean number of images of the devices to an integer. This multiple makes it one.
        weight = self.unpack(batch)[0].num_images * self.trainer.world_size
        metrics = {f"val/{name}": value for name, value in self.compute_batch_losses(batch).items()}
        self.log_dict(metrics, batch_size=weight, sync_dist=True)

    def configure_optimizers(self) -> Any:
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            hint = "try max_epochs=300, or set max_steps"
            raise ConfigError("max_epochs", self.trainer.max_epochs, "the schedule needs an end", hint=hint)
        self.finite_step = FiniteStep(self)
        optimizer, schedule = self.optim(self, self.global_batch_size, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.finite_step.finish()
        self.update_target((self.trainer.global_step + 1) / self.trainer.estimated_stepping_batches)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        # detect_anomaly names the first function with a NaN gradient, which must not be that of `propagate`.
        super().backward(loss if torch.is_anomaly_enabled() else propagate(loss), *args, **kwargs)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        result = self.finite_step.check(optimizer, scaler, self.trainer.accumulate_grad_batches)
        self.step_metrics.update({"train/grad_norm": result.norm})
        clip_gradients(result, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record which backbone is evaluated, for runs that start from these weights."""
        evaluated = self.eval_backbone
        for name, module in self.named_modules():
            if module is evaluated:
                checkpoint["eval_backbone"] = f"{name}."

    def compile_networks(self, compile_mode: str = "default") -> None:
        """Compile every submodule in place, which does not change the keys of a checkpoint.

        Args:
            compile_mode: of torch.compile.
        """
        self._cuda_graphs = compile_mode in CUDA_GRAPHS
        for module in self.children():
            network = getattr(module, "network", module)
            network.compile(dynamic=None if self.dynamic_shapes else False, mode=compile_mode)

    def on_validation_start(self) -> None:
        # Panels, k-NN and last batches have other shapes. Compiling for them takes longer than running them.
        torch.compiler.set_stance("force_eager")

    def on_validation_end(self) -> None:
        torch.compiler.set_stance("default")

    @property
    def global_batch_size(self) -> int:
        """Images per optimizer step, over all devices and accumulated batches."""
        return self.batch_size * self.trainer.accumulate_grad_batches * self.trainer.world_size
