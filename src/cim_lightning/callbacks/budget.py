"""How long a run is, as what it may cost: the same for methods whose epochs cost differently."""

from typing import Any

import lightning as L

from cim_lightning.errors import ConfigError
from cim_lightning.flops import flops_per_image


class Budget(L.Callback):
    """Ends training, and with it every schedule, where a budget does, whatever trainer.max_epochs says.

    One of the two is given:

    Args:
        images: images seen, over all devices.
        petaflop: 10^15 floating-point operations of forward and backward passes (see flops_per_image).

    Raises:
        ConfigError: both or none are given, or not above 0; on setup, it does not pay for one step.
    """

    def __init__(self, images: int | None = None, petaflop: float | None = None):
        if (images is None) == (petaflop is None):
            raise ConfigError(
                f"budget.images={images}, budget.petaflop={petaflop}: one of them; try budget=images"
            )
        for name, value in {"images": images, "petaflop": petaflop}.items():
            if value is not None and value <= 0:
                raise ConfigError(f"budget.{name}={value}: must be above 0; try no budget=")
        self.images, self.petaflop = images, petaflop

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            pl_module.setup(stage)  # whose turn comes later: some are not whole before it
            self._divide(trainer, pl_module)

    def _divide(self, trainer: L.Trainer, pl_module: Any) -> None:
        images = self.images
        if self.petaflop is not None:
            cost = sum(flops_per_image(pl_module, trainer.datamodule))  # pyright: ignore
            images = int(self.petaflop * 1e15 / cost) if cost else 0
        steps = images // pl_module.global_batch_size if images else 0
        if not steps and images:
            raise ConfigError(
                f"budget: pays for {images} images, and a step sees {pl_module.global_batch_size}; "
                f"try data.batch_size={images}"
            )
        trainer.fit_loop.epoch_loop.max_steps = steps
        trainer.fit_loop.max_epochs = -1  # as many as the steps make
