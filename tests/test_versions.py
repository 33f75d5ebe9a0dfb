"""The commit of the code, or None."""

import re
import subprocess

from cim_lightning import versions

AUTHOR = ["-c", "user.name=a", "-c", "user.email=a@b"]


def test_the_commit_of_another_repository_is_not_reported(tmp_path, monkeypatch):
    installed = tmp_path / ".venv" / "record.py"
    installed.parent.mkdir()
    installed.write_text("")
    (tmp_path / ".gitignore").write_text(".venv\n")
    for command in (["init", "-q"], ["add", "."], [*AUTHOR, "commit", "-qm", "theirs"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(versions, "__file__", str(installed))
    assert versions._commit() is None
    subprocess.run(["git", "-C", str(tmp_path), "add", "-f", str(installed)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), *AUTHOR, "commit", "-qm", "ours"], check=True)
    assert re.fullmatch("[0-9a-f]{40}", versions._commit())
