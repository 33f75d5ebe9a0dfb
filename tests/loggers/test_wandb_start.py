"""Weights & Biases never decides whether training begins."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from cim_lightning.errors import ConfigError
from cim_lightning.loggers.wandb import WandbLogger


@pytest.fixture
def logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., WandbLogger]]:
    """Return a function that makes a logger without a login; "127.0.0.1:PORT" is the server, if given."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")

    def make(server: str | None = None, **arguments: Any) -> WandbLogger:
        if server is not None:
            monkeypatch.setenv("WANDB_BASE_URL", f"http://{server}")
            monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        defaults = {"mode": "online", "project": "p", "id": "r1", "settings": {"init_timeout": 1}}
        return WandbLogger(save_dir=str(tmp_path), **(defaults | arguments))

    wandb.teardown()  # wandb reads the environment once
    yield make
    wandb.teardown()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Address of a server that never answers or does not exist; None for a run without a login."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "silent":
            listener.listen()
        port = listener.getsockname()[1]
        if request.param == "refused":
            listener.close()
        yield None if request.param == "no login" else f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(
            "silent",
            marks=pytest.mark.user_input(
                "value",
                "a wandb server that never answers",
                "the run starts offline within 10 s, with a line",
                source="https://github.com/wandb/wandb/issues/9865",
            ),
        ),
        pytest.param(
            "refused",
            marks=pytest.mark.user_input(
                "value",
                "no network for wandb",
                "the run starts offline within 10 s, with a line",
                source="https://github.com/wandb/wandb/issues/7671",
            ),
        ),
        pytest.param(
            "no login",
            marks=pytest.mark.user_input(
                "value", "`logger.wandb.mode=online` without a login", "the run starts offline, with a line"
            ),
        ),
    ],
    indirect=True,
)
def test_a_run_that_cannot_start_online_starts_offline(logger, server, tmp_path, caplog):
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="cim_lightning"):
        online = logger(server)
        online.log_metrics({"loss": 1.0}, 1)
    assert time.monotonic() - started < 20  # 4 s on an idle machine; wandb alone waits for 90 s
    online.close()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*-r1")
    assert list(folder.glob("*.wandb"))
    (line,) = [record.message for record in caplog.records if record.name == "cim_lightning"]
    assert line.startswith("wandb: offline (")
    assert line.endswith(f"); to upload the run later: wandb sync {folder}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            {"mode": "ofline"},
            r"^mode=ofline: must be one of online, .*; did you mean offline\?$",
            marks=pytest.mark.user_input("value", "`WANDB_MODE=ofline`", "one line: did you mean offline?"),
        ),
        pytest.param(
            {"project": "a/b"},
            r"^logger.wandb: Invalid project name 'a/b': .*; for a run without wandb, try logger=csv$",
            marks=pytest.mark.user_input("value", "`logger.wandb.project=a/b`", "one line of wandb's rule"),
        ),
        pytest.param(
            {"tags": ["x" * 65], "mode": "offline"},
            r"^logger.wandb: Tag 'x+\.\.\.x+' is 65 characters\..*64 characters; for a run without wandb",
            marks=pytest.mark.user_input("value", "a wandb tag of 65 letters", "one line of wandb's rule"),
        ),
    ],
)
def test_a_setting_that_wandb_refuses_gets_one_line(logger, arguments, message):
    with pytest.raises(ConfigError, match=message) as refused:
        _ = logger(**arguments).experiment
    assert "\n" not in str(refused.value)


@pytest.mark.user_input("value", "`WANDB_MODE=disabled`", "the run trains without wandb")
def test_a_disabled_run_logs_nothing(logger, tmp_path):
    disabled = logger(mode="disabled")
    disabled.log_hyperparams({"a": 1})
    disabled.log_metrics({"loss": 1.0}, 1)
    disabled.log_summary({"steps": 1}, {})
    disabled.close()
    assert not (tmp_path / "wandb").exists()
