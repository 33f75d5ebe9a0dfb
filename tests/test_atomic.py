"""A file that is being replaced is whole at every moment, and an error leaves the old one."""

import pytest

from cim_lightning.atomic import atomic_write, read_json, replacing, update_json


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    atomic_write(path, "old")

    with pytest.raises(OSError, match="disk"), replacing(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"  # until the block has ended
        raise OSError("disk full")
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"
    atomic_write(path, "new")
    assert path.read_text() == "new"


def test_json_is_added_to_and_its_names_are_replaced(tmp_path):
    path = tmp_path / "a.json"
    assert read_json(path) == {}
    update_json(path, {"a": 1, "b": [1, None]})
    update_json(path, {"a": 2})
    assert read_json(path) == {"a": 2, "b": [1, None]}
