"""Find the images in a folder tree."""

import logging
import time
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from cim_lightning.data import scan_cache
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.folder_walk import FolderWalk
from cim_lightning.data.scan_progress import ScanProgress
from cim_lightning.errors import ConfigError

log = logging.getLogger(__name__)


class Scan(NamedTuple):
    """The images in a folder tree, and what else is there."""

    files: FileIndex  # sorted by name
    skipped: Counter[str]  # number of other files and folders by reason, such as ".txt"


def scan(root: str, suffixes: Collection[str], parameter: str = "root") -> Scan:
    """List the images in a folder tree.

    * Links are followed, except links to a folder that contains them. Hidden files are skipped.
    * The suffix decides, in any case. The content decides for files without a suffix, or with one that is no
      suffix, as in `photo.jpg_large`.
    * Whatever is skipped is counted: also folders and files that cannot be read, and broken links.
    * A scan of more than a second is cached; see `scan_cache`. Links to files are not followed again then.

    Args:
        root: the folder.
        suffixes: of the images, in lower case and with the dot.
        parameter: name of the parameter that has the folder, for errors.

    Raises:
        ConfigError: root cannot be read.
    """
    started = time.monotonic()
    if cached := scan_cache.read(root, suffixes):
        log.info("%s is unchanged since an earlier scan (%s)", root, cached.path)
        return Scan(cached.files, cached.skipped)
    try:
        with ScanProgress(root) as progress:
            walk = FolderWalk(root, suffixes, progress.counted)
            files = FileIndex.from_names(root, walk.names())
    except OSError as error:
        rule = f"cannot be read ({error.strerror})"
        raise ConfigError(parameter, root, rule, hint="choose a readable folder") from error
    scan_cache.write(walk, files, time.monotonic() - started)
    return Scan(files, walk.skipped)
