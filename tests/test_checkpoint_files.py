"""Which checkpoint is intact: damaged, foreign and hostile files are recognized."""

import contextlib
import errno
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from cim_lightning import atomic, checkpoint_io
from cim_lightning.checkpoint_files import (
    LAST,
    PREVIOUS,
    check,
    check_fits,
    damage,
    exists,
    global_step,
    newest,
)
from cim_lightning.checkpoint_io import AtomicCheckpointIO
from cim_lightning.config.messages import explain
from cim_lightning.errors import ConfigError

PARTS = {"loops": {}, "callbacks": {}, "global_step": 3}


def content(step: int = 3, size: int = 5) -> dict[str, Any]:
    return PARTS | {"global_step": step, "state_dict": {"weight": torch.arange(float(size))}}


class Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(path: Path, *steps: int) -> AtomicCheckpointIO:
    plugin = AtomicCheckpointIO()
    for step in steps:
        plugin.save_checkpoint(content(step), path)
    return plugin


def test_the_replaced_checkpoint_becomes_the_previous_one(folder):
    save(folder / LAST, 1, 2, 3)
    assert [global_step(folder / name) for name in (LAST, PREVIOUS)] == [3, 2]
    assert newest(folder, "output_dir") == folder / LAST
    assert {path.name for path in folder.iterdir()} == {LAST, PREVIOUS}
    save(folder / "best.ckpt", 1, 2)
    assert global_step(folder / PREVIOUS) == 2


def test_a_resumed_run_moves_the_checkpoint_that_it_read(folder):
    save(folder / LAST, 1)
    plugin = AtomicCheckpointIO()
    assert plugin.load_checkpoint(folder / LAST)["global_step"] == 1
    plugin.save_checkpoint(content(2), folder / LAST)
    assert [global_step(folder / name) for name in (LAST, PREVIOUS)] == [2, 1]


@pytest.mark.fault("checkpoint", "`last.ckpt` is damaged", "one line; the run resumes from `previous.ckpt`")
def test_a_damaged_checkpoint_does_not_replace_the_previous_one(folder, caplog):
    save(folder / LAST, 1, 2)
    (folder / LAST).write_bytes(b"")
    assert newest(folder, "output_dir") == folder / PREVIOUS
    assert caplog.messages == [f"{folder / LAST} is empty; using {folder / PREVIOUS} instead"]
    plugin = AtomicCheckpointIO()
    plugin.load_checkpoint(folder / PREVIOUS)
    plugin.save_checkpoint(content(3), folder / LAST)
    assert [global_step(folder / name) for name in (LAST, PREVIOUS)] == [3, 1]


@pytest.mark.fault("checkpoint", "all checkpoints are damaged", "one line; nothing is overwritten")
def test_without_an_intact_checkpoint_the_run_is_refused(folder):
    save(folder / LAST, 1, 2)
    for name in (LAST, PREVIOUS):
        os.truncate(folder / name, 700)
    with pytest.raises(ConfigError, match=r"^output_dir=.*last.ckpt is .*previous.ckpt is .*backup") as error:
        newest(folder, "output_dir")
    assert "\n" not in str(error.value)
    assert newest(folder / "none", "output_dir") is None


def test_a_folder_has_a_checkpoint_after_a_kill_on_a_file_system_without_links(folder, monkeypatch):
    def refuse(*args: Any) -> None:
        raise OSError(errno.EPERM, "no links")

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    plugin = save(folder / LAST, 1)
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    monkeypatch.setattr(atomic, "sync", killed)
    with pytest.raises(KeyboardInterrupt):  # between the two renames
        plugin.save_checkpoint(content(2), folder / LAST)
    assert newest(folder, "output_dir") == folder / PREVIOUS
    assert exists(folder)


def test_a_kill_at_any_call_of_a_save_leaves_an_intact_checkpoint(folder, monkeypatch):
    """Oracle: after a kill at each system call that changes names or waits for the disk."""
    for name in ("replace", "hardlink_to", "unlink", "chmod"):
        for killed_at in range(1, 8):
            for path in folder.iterdir():
                path.unlink()
            plugin = save(folder / LAST, 1, 2)
            calls, original = [0], getattr(Path, name)

            def counted(*args: Any, calls=calls, original=original, at=killed_at, **options: Any) -> Any:
                calls[0] += 1
                if calls[0] >= at:
                    raise KeyboardInterrupt
                return original(*args, **options)

            with monkeypatch.context() as patch:
                patch.setattr(Path, name, counted)
                with contextlib.suppress(KeyboardInterrupt):
                    plugin.save_checkpoint(content(3), folder / LAST)
            found = newest(folder, "output_dir")
            assert found is not None
            assert global_step(found) in (2, 3)
            atomic.remove_temporaries(folder)
            assert {path.name for path in folder.iterdir()} <= {LAST, PREVIOUS}


@pytest.mark.fault("checkpoint", "any bit of the file is flipped", "found by the checksum, or without effect")
def test_a_flipped_bit_is_found_or_has_no_effect(folder):
    path = folder / "x.ckpt"
    save(path, 3)
    data, expected = bytearray(path.read_bytes()), content(3)
    effects, directory = 0, data.index(b"PK\x01\x02")  # the names and attributes of all records
    for position in (*range(0, directory, 5), *range(directory, len(data))):
        for bit in range(8) if position % 50 == 0 else (4,):
            data[position] ^= 1 << bit
            path.write_bytes(data)
            if damage(path) is None:
                found = torch.load(path, weights_only=True)
                assert torch.equal(found["state_dict"].pop("weight"), expected["state_dict"]["weight"])
                assert found == PARTS | {"state_dict": {}}
            else:
                effects += 1
            data[position] ^= 1 << bit
    assert effects > 300  # padding and times have no effect


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 600, "is an image"),
        (b"some notes", "is a text file"),
        (b"PK\x03\x04 truncated\0", "is incomplete"),
        (bytes(range(200, 250)) * 20, "is not a checkpoint of this project"),
    ],
)
def test_other_files_are_named(data, reason, folder):
    path = folder / LAST
    path.write_bytes(data)
    assert damage(path) == reason
    with pytest.raises(ConfigError, match=r"resume=.*last\.ckpt: is "):
        AtomicCheckpointIO().load_checkpoint(path)


@pytest.mark.fault("checkpoint", "a hostile pickle", "one line that names what it would run; nothing runs")
@pytest.mark.parametrize("as_zip", [True, False])
def test_a_hostile_checkpoint_runs_nothing(as_zip, folder):
    path = folder / LAST
    if as_zip:
        torch.save(content() | {"hostile": Hostile()}, path)
        assert "system, which could run code" in (damage(path) or "")
    else:
        path.write_bytes(pickle.dumps(Hostile()))
        assert "could run code" in (damage(path) or "")
    assert not (folder / "executed").exists()


@pytest.mark.fault("checkpoint", "a file of another program", "one line that says what is missing")
def test_weights_of_another_program_are_no_checkpoint(folder):
    torch.save({"state_dict": {}}, folder / LAST)
    assert damage(folder / LAST) == "is not a checkpoint of a training: it has no callbacks"
    torch.save([1], folder / LAST)
    assert "is not a checkpoint" in (damage(folder / LAST) or "")


@pytest.mark.fault("checkpoint", "`last.ckpt` is a folder", "one line, before training and at a save")
def test_a_folder_is_no_checkpoint(folder):
    plugin = save(folder / LAST, 1, 2)
    (folder / LAST).unlink()
    (folder / LAST).mkdir()
    assert damage(folder / LAST) == "is not a file"
    with pytest.raises(ConfigError, match=r"^output_dir=.*last\.ckpt: is a folder; move it away$"):
        newest(folder, "output_dir")
    with pytest.raises(IsADirectoryError) as error:
        plugin.save_checkpoint(content(3), folder / LAST)
    line = explain(error.value, "pretrain", arguments=[f"output_dir={folder}"])
    assert line == f"{folder / LAST}: Is a directory; move it away, and run the same command to resume"
    assert global_step(folder / PREVIOUS) == 1


@pytest.mark.fault("checkpoint", "`last.ckpt` is removed during the run", "training continues")
def test_a_removed_checkpoint_is_written_again(folder):
    plugin = save(folder / LAST, 1, 2)
    (folder / LAST).unlink()
    plugin.save_checkpoint(content(3), folder / LAST)
    assert [global_step(folder / name) for name in (LAST, PREVIOUS)] == [3, 1]


def test_the_message_names_the_previous_checkpoint(folder):
    save(folder / LAST, 1, 2)
    (folder / LAST).write_bytes(b"")
    with pytest.raises(ConfigError, match=r"is empty; try .*previous.ckpt$"):
        check(folder / LAST)


@pytest.mark.fault("disk", "`TMPDIR` is another file system, or not writable", "it is not used")
def test_a_save_uses_the_folder_of_the_checkpoint_only(folder, monkeypatch):
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError("no temporary files")

    for name in ("mkstemp", "mkdtemp", "gettempdir", "NamedTemporaryFile", "TemporaryFile"):
        monkeypatch.setattr(tempfile, name, refuse)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    seen = []
    original = checkpoint_io.torch.save

    def watched(checkpoint: Any, file: Any) -> None:
        original(checkpoint, file)
        seen.extend(path.name for path in folder.iterdir())

    monkeypatch.setattr(checkpoint_io.torch, "save", watched)
    save(folder / LAST, 1)
    assert seen == [".last.ckpt.cim-tmp"]


@pytest.mark.fault("disk", "the disk is full during a save", "the old checkpoint stays; one line")
def test_a_full_disk_leaves_the_old_checkpoint(folder, monkeypatch):
    plugin = save(folder / LAST, 1)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match="No space") as error:
        plugin.save_checkpoint(content(2), folder / LAST)
    assert error.value.filename == str(folder / LAST)
    assert {path.name for path in folder.iterdir()} <= {LAST, PREVIOUS}
    assert newest(folder, "output_dir") == folder / LAST
    assert global_step(folder / LAST) == 1


def test_a_removed_run_is_not_created_again(folder):
    with pytest.raises(FileNotFoundError):
        save(folder / "run" / "checkpoints" / LAST, 1)
    assert not (folder / "run").exists()


def test_checkpoints_are_readable_as_the_umask_says(folder):
    before = os.umask(0o022)
    try:
        save(folder / LAST, 1)
    finally:
        os.umask(before)
    assert (folder / LAST).stat().st_mode & 0o777 == 0o644


@pytest.mark.fault(
    "checkpoint", "a checkpoint of another method, or without the state of the optimizer", "one line"
)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state_dict": {"weight": torch.zeros(4)}}, "has the weights of another method or network"),
        ({"state_dict": {"bias": torch.zeros(5)}}, "has the weights of another method or network"),
        ({"state_dict": {"weight": 5}}, "has the weights of another method or network"),
        ({"state_dict": [5]}, "has the weights of another method or network"),
        ({"optimizer_states": []}, "is incomplete: it has no usable optimizer_states"),
        ({"optimizer_states": [{"state": {}}]}, "is incomplete: it has no usable optimizer_states"),
        ({"optimizer_states": 5}, "is incomplete: it has no usable optimizer_states"),
        ({"lr_schedulers": None}, "is incomplete: it has no usable lr_schedulers"),
        ({"global_step": "3"}, "is incomplete: it has no usable global_step"),
        ({"callbacks": []}, "is incomplete: it has no usable callbacks"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(folder, change, reason):
    intact = content() | {"optimizer_states": [{"state": {0: {}}}], "lr_schedulers": [{}]}
    state = {"weight": torch.zeros(5)}
    torch.save(intact, folder / "a.ckpt")
    check_fits(folder / "a.ckpt", state)
    torch.save(intact | change, folder / "a.ckpt")
    with pytest.raises(ConfigError, match=rf"^resume=\S+: {reason}.*; (try|backbone)"):
        check_fits(folder / "a.ckpt", state)
