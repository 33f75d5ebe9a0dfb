"""Length of training as a budget of images or operations, for a fair comparison of methods."""

from dataclasses import dataclass

from cim_lightning.checks import check_above
from cim_lightning.errors import ConfigError


@dataclass
class Budget:
    """Length of a training run. Exactly one field is set."""

    images: int | None = None  # training images seen, over all devices
    petaflop: float | None = None  # 10^15 operations of forward and backward passes (see flops_per_image)

    def __post_init__(self) -> None:
        if (self.images is None) == (self.petaflop is None):
            raise ConfigError("a budget needs either images or petaflop, and not both")
        check_above("images", self.images, 0, suggest=1_000_000)
        check_above("petaflop", self.petaflop, 0, suggest=1)

    def max_steps(self, flops_per_image: float, global_batch_size: int) -> int:
        """Return the number of optimizer steps; 0 for a method without operations on a petaflop budget.

        Args:
            flops_per_image: operations of the forward and backward pass of one image.
            global_batch_size: images per optimizer step.

        Raises:
            ConfigError: the budget does not cover one step.
        """
        if self.petaflop is None:
            name, value, images, enough = "images", self.images, self.images or 0, global_batch_size
        elif flops_per_image == 0:
            return 0
        else:
            name, value, images = "petaflop", self.petaflop, int(self.petaflop * 1e15 / flops_per_image)
            enough = float(f"{1.01 * global_batch_size * flops_per_image / 1e15:.3g}")
        if images < global_batch_size:
            rule = f"must cover one step of {global_batch_size} images"
            raise ConfigError(name, value, rule, suggest=enough)
        return images // global_batch_size
