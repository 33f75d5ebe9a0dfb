"""Images that the jobs of one process share, since a large folder or an archive takes long to open."""

import json
from typing import Any


class SharedDatasets:
    """The training and validation images of the last job. A job with the same source reuses them."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Drop the images, since those on disk may have changed."""
        self._key = self._splits = None

    def open(self, data: Any, settings: dict[str, Any]) -> Any:
        """Set the `splits` of an ImageData and return them.

        Args:
            data: the ImageData.
            settings: of the data module; only its source, channels and bits decide what is shared.
        """
        pixels = [settings.get("channels"), settings.get("bits")]
        given = {name: value for name, value in data.source_kwargs.items() if value is not None}
        key = json.dumps([settings["source"], given, pixels], sort_keys=True)
        if key != self._key:
            self.clear()  # before the new images are opened: both may not fit into memory
            self._splits, self._key = data.splits, key
        data.splits = self._splits
        return data.splits
