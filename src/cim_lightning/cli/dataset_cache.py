"""The images that jobs of one process share: listing a large folder or reading an archive takes long."""

import json
from typing import Any

_open: dict[str, Any] = {}  # the splits of the last job


def shared(data: Any, settings: dict[str, Any]) -> Any:
    """Opens a job's images, or hands it those of the job before, if they were asked for by the same settings.

    So a sweep sees the images that were there when it began, as one run does.

    Args:
        data: an ImageData, which gets them as its `splits`; they are returned too.
        settings: that it was made by.
    """
    asked = json.dumps([settings["source"], data.source_kwargs], sort_keys=True)
    if asked not in _open:
        _open.clear()
        _open[asked] = data.splits
    data.splits = _open[asked]
    return data.splits


def forget() -> None:
    """For another sweep or run, before which they may have changed."""
    _open.clear()
