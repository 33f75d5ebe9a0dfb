"""Which code made a run: the commit, and the libraries below it."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("cim-lightning", "torch", "lightning", "timm", "kornia", "hydra-core")


def versions() -> dict[str, str | None]:
    """git_commit, python and the libraries' versions, by their names."""
    return {"git_commit": _commit(), "python": platform.python_version()} | {
        name: version(name) for name in LIBRARIES
    }


def _commit() -> str | None:
    """Of the code, if it runs from a checkout of its own; marked where files were changed since."""
    git = ["git", "-C", str(Path(__file__).parent)]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:  # an installed package may lie in somebody else's repository, but not among its files
        subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True)
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
