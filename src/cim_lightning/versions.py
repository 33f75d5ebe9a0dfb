"""Versions of the code that made a run: git commit, Python and libraries."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("cim-lightning", "torch", "lightning", "timm", "kornia", "hydra-core")


def versions() -> dict[str, str | None]:
    """Return git_commit, python and the version of every library, by name."""
    libraries = {name: version(name) for name in LIBRARIES}
    return {"git_commit": _commit(), "python": platform.python_version(), **libraries}


def _commit() -> str | None:
    """Return the commit of this checkout, with "-dirty" if files changed; None for an installed package."""
    git = ["git", "-C", str(Path(__file__).parent)]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:  # an installed package can be inside another repository, which does not track it
        subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True)
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
