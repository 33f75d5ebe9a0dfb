"""A data module that resumes training mid-epoch."""

import lightning as L

from cim_lightning.lightning_internals import batches_processed


class ResumableData(L.LightningDataModule):
    """Base class of data modules whose training batches are a function of the number of trained batches.

    The checkpoint stores that number. A sampler such as `ResumableBatchSampler` starts at `position()`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._resumed_batches = 0  # trained by earlier processes of this run

    def state_dict(self) -> dict[str, int]:
        return {"batches": self.position()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._resumed_batches = state_dict["batches"]

    def position(self) -> int:
        """Return the number of trained batches of this device."""
        if self.trainer is None:
            return self._resumed_batches
        # Lightning restores its own count only after the workers have started.
        return max(batches_processed(self.trainer), self._resumed_batches)
