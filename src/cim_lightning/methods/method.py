"""What every method shares: a backbone to be trained, and the loop's duties around its loss."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone


class Method(L.LightningModule, ABC):
    """A pre-training method around a backbone; its checkpoint holds all of it.

    A batch is (crops, labels) as the data module makes it. A method says which crops it reads, what it
    measures of them, the entry "loss" among it, and what follows an optimizer step. Labels are kept from it,
    unless it takes them on purpose (compute_batch_losses).

    Args:
        backbone: the network that pre-training is for.
        optim: maps (module, images a step, total steps) to an optimizer and its schedule.
    """

    batch_type: ClassVar[type]  # what its cropping must make of views

    def __init__(self, backbone: Backbone, optim: Callable[..., Any]):
        super().__init__()
        self.backbone = backbone
        self.optim = optim

    @property
    def eval_backbone(self) -> Backbone:
        """The backbone that comes of it: what is watched, judged and exported."""
        return self.backbone

    def setup(self, stage: str) -> None:
        made = type(self.trainer.datamodule.dummy_batch(1))  # pyright: ignore
        if made is not self.batch_type:
            raise ConfigError(
                f"cropping: {type(self).__name__} reads {self.batch_type.__name__}, not {made.__name__}; "
                "try no cropping=, since method= brings its own"
            )
        for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):
            value = getattr(self.trainer, name)
            if value is not None and value < 1:
                raise ConfigError(f"trainer.{name}={value}: at least 1; try 1")
        precision = str(self.trainer.precision)
        if precision.endswith("-true") and precision != "32-true":
            nearest = "32-true" if precision == "64-true" else precision.replace("true", "mixed")
            raise ConfigError(
                f"trainer.precision={precision}: crops are cut and weights kept in fp32; try {nearest}"
            )

    @abstractmethod
    def compute_losses(self, crops: Any) -> dict[str, Tensor]:
        """Scalars of a batch by name: "loss", to be minimized, and whatever else is worth watching."""

    def compute_batch_losses(self, batch: tuple[Any, Tensor]) -> dict[str, Tensor]:
        """The same of a batch, of whose labels most methods know nothing."""
        return self.compute_losses(batch[0])

    def update_target(self, progress: float) -> None:
        """Called once per optimizer step; progress runs from above 0 to 1 over training."""

    def training_step(self, batch: tuple[Any, Tensor], batch_idx: int) -> Tensor:
        metrics = self.compute_batch_losses(batch)
        self.log_dict({f"train/{name}": value for name, value in metrics.items()}, batch_size=len(batch[1]))
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return metrics["loss"]

    def validation_step(self, batch: tuple[Any, Tensor], batch_idx: int) -> None:
        metrics = self.compute_batch_losses(batch)
        self.log_dict(
            {f"val/{name}": value for name, value in metrics.items()},
            batch_size=len(batch[1]),
            sync_dist=True,
        )

    def configure_optimizers(self) -> Any:
        if math.isinf(self.trainer.estimated_stepping_batches):
            raise ConfigError("trainer.max_epochs=-1: a schedule needs an end; try 300, or trainer.max_steps")
        optimizer, schedule = self.optim(
            self, self.global_batch_size, int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.update_target((self.trainer.global_step + 1) / self.trainer.estimated_stepping_batches)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.log("train/grad_norm", torch.nn.utils.get_total_norm(gradients))

    def compile_networks(self) -> None:
        """Compiles every part in place when it is first trained, so that no key of a checkpoint changes."""
        for part in self.children():
            getattr(part, "network", part).compile(dynamic=False)

    def on_validation_start(self) -> None:
        """Panels, neighbors, last batches have shapes of their own: minutes to compile, seconds to run."""
        torch.compiler.set_stance("force_eager")

    def on_validation_end(self) -> None:
        torch.compiler.set_stance("default")

    @property
    def global_batch_size(self) -> int:
        """Images that one optimizer step sees, over devices and accumulated batches."""
        trainer = self.trainer
        return trainer.datamodule.batch_size * trainer.accumulate_grad_batches * trainer.world_size  # pyright: ignore
