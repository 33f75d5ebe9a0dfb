"""Images that the jobs of one process share: to list a large folder or to open an archive takes long."""

import json
from typing import Any


class SharedDatasets:
    """The training and validation images of the last job. A job with the same source reuses them."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._splits: Any = None

    def open(self, data: Any, settings: dict[str, Any]) -> Any:
        """Set the `splits` of an ImageData and return them.

        Args:
            data: the ImageData.
            settings: of the data module; only its source decides what is shared.
        """
        key = json.dumps([settings["source"], data.source_kwargs], sort_keys=True)
        if key != self._key:
            self.clear()  # before the new images are opened: both may not fit into memory
            self._splits = data.splits
            self._key = key
        data.splits = self._splits
        return data.splits

    def clear(self) -> None:
        """Forget the images, since those on disk may have changed."""
        self._key = self._splits = None
