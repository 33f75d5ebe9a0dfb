"""What a Lightning logger may offer beyond metrics: images, the results of a run, and rows on disk."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from cim_lightning.metric_registry import Metric


@runtime_checkable
class LogsImages(Protocol):
    """A logger of images, such as wandb's."""

    def log_image(self, key: str, images: Sequence[Any], step: int | None = None) -> None:
        """Log image files or arrays under a name."""
        ...


@runtime_checkable
class KeepsRows(Protocol):
    """A logger that writes rows of its own, which a checkpoint relies on."""

    def drop_rows(self, step: int) -> None:
        """Remove the rows of a step and of all later ones, which training repeats."""
        ...

    def sync(self) -> None:
        """Wait until all rows are on disk."""
        ...


@runtime_checkable
class LogsSummary(Protocol):
    """A logger of the results of a run."""

    def log_summary(self, numbers: Mapping[str, Any], metrics: Mapping[str, Metric]) -> None:
        """Log the results.

        Args:
            numbers: content of `metrics.json`, and the results of the evaluation as "evaluation/...".
            metrics: titles and units, by the names in `numbers`.
        """
        ...
