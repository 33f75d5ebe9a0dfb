"""Atomic writes: the file is always complete, and an error does not change it."""

from pathlib import Path

import pytest

from cim_lightning.atomic import atomic_write, read_json, replacing, update_json


def fail_while_writing(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"  # replaced only at the end of the block
        raise OSError("disk full")


def test_after_an_error_only_the_old_file_exists(tmp_path):
    path = tmp_path / "a.txt"
    atomic_write(path, "old")
    with pytest.raises(OSError, match="disk"):
        fail_while_writing(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"
    atomic_write(path, "new")
    assert path.read_text() == "new"


def test_update_json_adds_and_replaces_entries(tmp_path):
    path = tmp_path / "a.json"
    assert read_json(path) == {}
    update_json(path, {"a": 1, "b": [1, None]})
    update_json(path, {"a": 2})
    assert read_json(path) == {"a": 2, "b": [1, None]}
