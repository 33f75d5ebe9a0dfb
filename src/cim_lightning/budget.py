"""Length of training as a budget, which is fair to methods whose epochs differ in cost."""

from cim_lightning.bounds import above
from cim_lightning.errors import ConfigError


class Budget:
    """Length of a training run. Exactly one of the two is set.

    Args:
        images: training images seen, over all devices.
        petaflop: 10^15 floating-point operations of forward and backward passes (see flops_per_image).

    Raises:
        ConfigError: both or neither are set, or the value is not above 0.
    """

    def __init__(self, images: int | None = None, petaflop: float | None = None):
        if (images is None) == (petaflop is None):
            raise ConfigError("a budget needs either images or petaflop, and not both")
        above("images", images, 0, suggest=1_000_000)
        above("petaflop", petaflop, 0, suggest=1)
        self.images, self.petaflop = images, petaflop

    def max_steps(self, flops_per_image: float, global_batch_size: int) -> int:
        """Return the number of optimizer steps; 0 for a method that computes nothing on a petaflop budget.

        Args:
            flops_per_image: operations of the forward and backward pass of one image.
            global_batch_size: images per optimizer step.

        Raises:
            ConfigError: the budget does not cover one step.
        """
        rule = f"must cover one step of {global_batch_size} images"
        if self.petaflop is None:
            images = self.images or 0
            if images < global_batch_size:
                raise ConfigError("images", images, rule, suggest=global_batch_size)
        elif flops_per_image:
            images = int(self.petaflop * 1e15 / flops_per_image)
            if images < global_batch_size:
                enough = float(f"{1.01 * global_batch_size * flops_per_image / 1e15:.3g}")
                raise ConfigError("petaflop", self.petaflop, rule, suggest=enough)
        else:
            images = 0
        return images // global_batch_size
