"""Signals and faults of the disk in whole commands: exit code, one line, and what stays."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest

from cim_lightning import stop_signals
from cim_lightning.cli import close_wandb, disk_space, entry, pretrain
from cim_lightning.cli.close_wandb import close_wandb as close
from cim_lightning.errors import ConfigError
from cim_lightning.formats.timm_format import TimmFormat

Command = Callable[..., tuple[Any, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a console script in this process; return its exit code and its lines on stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(name: str, *arguments: str) -> tuple[Any, str]:
        monkeypatch.setattr("sys.argv", [f"cim-{name}", *arguments])
        try:
            code: Any = getattr(entry, name)()
        except SystemExit as ended:
            code = ended.code
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        return code, capfd.readouterr().err

    return run


@pytest.fixture
def short(tiny: list[str]) -> list[str]:
    """Overrides of a run of one step."""
    return [*tiny, "trainer.max_steps=1", "trainer.max_epochs=-1", "callbacks.knn=null", "output_dir=run"]


class At(L.Callback):
    """Does something in the first call of a hook."""

    def __init__(self, hook: str, what: str):
        setattr(self, hook, getattr(self, what))

    def stop(self, *args: Any, **kwargs: Any) -> None:
        send(signal.SIGTERM)

    def remove(self, *args: Any, **kwargs: Any) -> None:
        shutil.rmtree("run")


def at(hook: str, what: str) -> str:
    return f"+callbacks.at={{_target_:{__name__}.At,hook:{hook},what:{what}}}"


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.fault(
    "signal", "any, during the imports of a command or in its work", "one line; 128 + its number"
)
@pytest.mark.parametrize(
    "name", ["pretrain", "evaluate", "export", "prepare", "report", "workspace", "doctor"]
)
@pytest.mark.parametrize("imports", [True, False])
@pytest.mark.parametrize("number", stop_signals.SIGNALS)
def test_every_command_ends_with_a_line(name, imports, number, command, monkeypatch):
    def load(module: str) -> Any:
        if imports:
            send(number)
        return SimpleNamespace(**{name: lambda: send(number)})

    monkeypatch.setattr(entry, "import_module", load)
    code, lines = command(name)
    assert code == 128 + number
    (line,) = lines.splitlines()
    assert line.startswith(f"cim-{name}: stopped by {'Ctrl-C' if number == signal.SIGINT else ''}")
    assert "run the same command" in line


@pytest.mark.fault("signal", "SIGTERM in the validation before training", "one line; exit code 143")
def test_a_signal_in_the_first_validation_stops_the_command(command, short, tmp_path):
    code, lines = command("pretrain", *short, at("on_validation_batch_end", "stop"))
    line = "cim-pretrain: stopped by SIGTERM; nothing was trained yet; run the same command to start again"
    assert (code, lines.splitlines()[-1]) == (143, line)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.fault(
    "signal", "in the export after training, or in the evaluation", "one line; all before is saved"
)
def test_a_signal_after_training_leaves_the_rest_to_the_next_command(command, short, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(TimmFormat, "write", lambda *args: send(signal.SIGHUP))
        code, lines = command("pretrain", *short, "evaluation=knn")
    assert code == 129
    assert f"saved at step 1 in {tmp_path}/run/checkpoints/last.ckpt; run the same command to resume" in lines
    monkeypatch.setattr(pretrain, "evaluate", lambda *args: send(signal.SIGINT))
    code, lines = command("pretrain", *short, "evaluation=knn")
    assert code == 130
    assert "Ctrl-C; training is complete; run the same command for the rest" in lines
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["steps"], metrics["epochs"]) == (1, 1)
    exported = tmp_path / "run" / "backbone.safetensors"
    umask = os.umask(0)
    os.umask(umask)
    assert exported.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.fault("disk", "the run folder is removed during training", "one line; it is not created again")
def test_a_removed_run_folder_ends_the_command_with_a_line(command, short, tmp_path):
    code, lines = command("pretrain", *short, at("on_train_batch_end", "remove"))
    assert code == 1
    assert lines.splitlines()[-1].startswith(f"cim-pretrain: {tmp_path}/run: the folder was removed")
    assert "Traceback" not in lines
    assert not (tmp_path / "run").exists()


@pytest.mark.fault("disk", "`config.yaml`, `run.json` or `metrics.json` of the run is damaged", "one line")
@pytest.mark.parametrize(
    ("name", "content"), [("config.yaml", b"[1, 2"), ("run.json", b"\xff\0{"), ("metrics.json", b"[1, 2]")]
)
def test_damaged_files_of_a_run_are_named(name, content, command, short, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").write_bytes(b"")
    (tmp_path / "run" / name).write_bytes(content)
    code, lines = command("pretrain", *short)
    assert code == 2
    (line,) = lines.splitlines()
    assert f"run/{name}: damaged" in line


@pytest.mark.fault("disk", "no space for a checkpoint before training", "one line; nothing starts")
def test_the_free_space_is_checked(tmp_path, monkeypatch, caplog):
    tensor = SimpleNamespace(nbytes=100)
    weights = [
        SimpleNamespace(nbytes=80, requires_grad=True),
        SimpleNamespace(nbytes=20, requires_grad=False),
    ]
    method = SimpleNamespace(state_dict=lambda: {"a": tensor}, parameters=lambda: weights)
    assert disk_space.checkpoint_bytes(method) == 100 + 2 * 80
    for free, lines in ((1040, 0), (1039, 1)):
        monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        caplog.clear()
        disk_space.check(tmp_path, method)
        assert len(caplog.messages) == lines
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: SimpleNamespace(free=259))
    with pytest.raises(ConfigError, match=r"output_dir=.*free space"):
        disk_space.check(tmp_path, method)


@pytest.mark.fault("signal", "the upload of wandb does not end", "the command ends after 20 seconds")
def test_an_upload_that_hangs_does_not_keep_the_command(monkeypatch, capsys):
    ended: list[int] = []
    run = SimpleNamespace(dir="run/wandb/offline-run-1/files")

    def finish(code: int) -> None:
        stop_signals.time.sleep(0 if stop_signals.received() is None else 5)

    monkeypatch.setitem(close_wandb.sys.modules, "wandb", SimpleNamespace(run=run, finish=finish))
    monkeypatch.setattr(close_wandb, "SECONDS", 0.01)
    monkeypatch.setattr(close_wandb.os, "_exit", ended.append)
    monkeypatch.setattr(close_wandb.logging, "shutdown", lambda: None)
    close(failed=False)
    assert ended == []
    stop_signals.install()
    try:
        with stop_signals.deferred("the end of this step"):
            send(signal.SIGTERM)
        close(failed=True)
    finally:
        stop_signals.uninstall()
    assert ended == [143]
    assert "cim-pretrain: stopped by SIGTERM" in capsys.readouterr().err


def test_an_error_of_the_disk_has_the_exit_code_of_a_failure(command, short, monkeypatch):
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/checkpoints/last.ckpt")

    monkeypatch.setattr(pretrain, "train", full)
    code, lines = command("pretrain", *short)
    assert code == 1
    line = "run/checkpoints/last.ckpt: No space left on device; if the disk is full, free some space and run"
    assert lines.splitlines()[-1].startswith(f"cim-pretrain: {line}")
