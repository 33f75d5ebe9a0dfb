"""Lightning plugin that writes checkpoints so that at every moment a complete one has its name."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from cim_lightning.atomic import TEMPORARY, replacing
from cim_lightning.checkpoint_files import LAST, PREVIOUS, check


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its target, then rename it; `last.ckpt` becomes `previous.ckpt`.

    Lightning's own plugin writes to TMPDIR and then copies, if that is another file system.
    """

    def __init__(self) -> None:
        self.intact: set[Path] = set()  # files that this process wrote or checked

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: what to write.
            path: of the file. The parent of its folder must exist: a removed run is not created again.
            storage_options: not used.
        """
        path = Path(path)
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as temporary:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
            # A damaged one must not replace the previous one; somebody may have removed it meanwhile.
            if path.name == LAST and path in self.intact and path.is_file():
                _link(path, path.with_name(PREVIOUS))
        self.intact.add(path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint without running anything that it contains.

        Raises:
            ConfigError: it is damaged, or no checkpoint of a training.
        """
        path = Path(path)
        check(path)
        self.intact.add(path)
        return torch.load(path, map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, if it exists."""
        Path(path).unlink(missing_ok=True)


def _link(path: Path, other: Path) -> None:
    """Give a file a second name; rename it where the file system has no links."""
    temporary = other.with_name(f".{other.name}{TEMPORARY}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.hardlink_to(path)
    except OSError:
        path.replace(other)
        return
    temporary.replace(other)
    temporary.unlink(missing_ok=True)  # it stays if both were names of one file
