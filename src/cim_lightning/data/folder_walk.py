"""The files in a folder tree, in the order of their names."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from cim_lightning.data.image_formats import decodable_suffixes
from cim_lightning.data.sniff import HEAD, SUFFIX, sniff

# Files and folders that systems and tools add. Names with a leading dot are hidden, too. Both are counted.
HIDDEN = {
    *("Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information"),
    *("__MACOSX", "@eaDir", "#recycle", "#snapshot", "lost+found", "DICOMDIR"),
}


class FolderWalk:
    """A walk through a folder tree, which `names` does.

    Args:
        root: the folder.
        suffixes: of the files that are listed, in lower case and with the dot.
        counted: called with the entries of each folder; returns them and may show the progress.

    Attributes, complete after the walk:
        skipped: number of other entries by reason.
        folders: paths of all folders, relative to root, with a "/" at the end; "" for root.
        stamps: inode and time of the last change (ns) of each folder, before it was read.
        volatile: whether something was skipped that can become an image without a change of a folder.
    """

    def __init__(
        self,
        root: str,
        suffixes: Collection[str],
        counted: Callable[[Iterable[Any]], Iterable[Any]] = lambda entries: entries,
    ):
        self.root, self.suffixes, self.counted = root, frozenset(suffixes), counted
        self.skipped: Counter[str] = Counter()
        self.folders: list[str] = []
        self.stamps: list[tuple[int, int]] = []
        self.volatile = False
        self.missing_packages = decodable_suffixes()

    def names(self) -> Iterator[str]:
        """Yield the names of the files, sorted, relative to root and with "/" as the separator.

        Links are followed, except links to a folder that contains them.

        Raises:
            OSError: root cannot be read.
        """
        # A folder's name ends with "/" when its entries are sorted, so all paths are in sorted order.
        pending = [("", os.path.realpath(self.root), iter(self._entries("")))]
        while pending:
            prefix, real_path, entries = pending[-1]
            for name in entries:
                path = prefix + name
                if not name.endswith("/"):
                    yield path
                    continue
                below = self._real_path(path, os.path.join(real_path, name[:-1]))
                if all(below != ancestor for _, ancestor, _ in pending):
                    pending.append((path, below, iter(self._readable_entries(path))))
                    break
                self._skip("links to a folder above")
            else:
                pending.pop()

    def _real_path(self, folder: str, parent_and_name: str) -> str:
        path = os.path.join(self.root, folder[:-1])
        return os.path.realpath(path) if os.path.islink(path) else parent_and_name

    def _readable_entries(self, folder: str) -> list[str]:
        try:
            return self._entries(folder)
        except OSError:
            self._skip("unreadable folders", volatile=True)
            return []

    def _entries(self, folder: str) -> list[str]:
        """Return the sorted names of files and sub-folders."""
        path, names = os.path.join(self.root, folder), []
        stat = os.stat(path)
        with os.scandir(path) as entries:
            for entry in self.counted(entries):
                name, suffix = entry.name, _suffix(entry.name)
                if name[0] == "." or name in HIDDEN:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    self._skip("hidden folders" if is_folder else "hidden files")
                    continue
                try:
                    if suffix in self.suffixes and entry.is_file():
                        names.append(name)
                    elif entry.is_dir():
                        names.append(f"{name}/")
                    elif self._is_image_without_suffix(entry, suffix):
                        names.append(name)
                except OSError:  # a link to itself, or a file that cannot be read
                    self._skip("broken links" if entry.is_symlink() else "unreadable files", volatile=True)
        self.folders.append(folder)
        self.stamps.append((stat.st_ino, stat.st_mtime_ns))
        return sorted(names)

    def _is_image_without_suffix(self, entry: "os.DirEntry[str]", suffix: str) -> bool:
        """Return whether the content decides for a file; count the file if it is skipped."""
        reason = suffix or "no suffix"
        if not entry.is_file():
            broken = entry.is_symlink()
            self._skip("broken links" if broken else "special files", volatile=broken)
            return False
        if not SUFFIX.fullmatch(suffix):
            with open(entry.path, "rb") as file:
                head = file.read(HEAD)
            content = sniff(head)
            if content in self.suffixes:
                return True
            if not head:
                self._skip("empty files", volatile=True)
                return False
            reason = content or reason
        package = self.missing_packages.get(reason)
        self._skip(f"{reason} ({package})" if package else reason)
        return False

    def _skip(self, reason: str, volatile: bool = False) -> None:
        self.skipped[reason] += 1
        self.volatile |= volatile


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""
