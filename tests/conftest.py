"""Run-time checks of shapes and types in every signature, and fixtures of a small run of `cim-pretrain`."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from jaxtyping import install_import_hook
from PIL import Image

CONF = Path(__file__).parents[1] / "conf"
INT_IS_FLOAT = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook("cim_lightning", INT_IS_FLOAT).__enter__()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start processes in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests away from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def process_state() -> Iterator[None]:
    """Restore the signal handlers after a test, and remove its log handlers, whose streams are closed."""
    from cim_lightning import stop_signals

    handlers = {number: signal.getsignal(number) for number in stop_signals.SIGNALS}
    loggers = [logging.getLogger(), logging.getLogger("cim_lightning")]
    before = [[*logger.handlers] for logger in loggers]
    yield
    stop_signals.uninstall()
    for number, handler in handlers.items():
        if handler is not None:  # of another language than Python
            signal.signal(number, handler)
    for logger, earlier in zip(loggers, before, strict=True):
        for handler in [*logger.handlers]:
            if handler not in earlier and not type(handler).__module__.startswith("_pytest"):
                logger.removeHandler(handler)
                handler.close()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """43 training and 9 validation images of two classes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, count in (("train", 43), ("val", 9)):
        for i in range(count):
            path = root / split / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            blocks = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
            Image.fromarray(blocks).resize((40, 40)).save(path)
    return root


@pytest.fixture
def tiny(photos: Path) -> list[str]:
    """Overrides of a run that takes seconds: 5 batches of 8 images per epoch, with stochastic depth."""
    return [
        "backbone=vit_micro_patch4",
        "backbone.kwargs.depth=2",  # timm never drops the path of the first block
        "backbone.kwargs.embed_dim=32",
        "+backbone.kwargs.drop_path_rate=0.5",
        "cropping=small",
        "data=folder",
        f"data.root={photos}",
        "data.view_size=32",
        "data.batch_size=8",
        "data.num_workers=0",
        "decoder.width=16",
        "decoder.num_heads=2",
        "optim.base_lr=0.1",
        "trainer=cpu",
        "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1",
        "logger=[csv]",
        "callbacks.panels=null",
    ]


@pytest.fixture(scope="session")
def method_overrides() -> dict[str, list[str]]:
    """Overrides that make each method small, for views of 32 pixels and a ViT with patches of 4."""
    small = Path(__file__).parent / "methods" / "small"
    methods = sorted(file.stem for file in (CONF / "method").glob("*.yaml"))
    files = {method: small / f"{method}.yaml" for method in methods}
    return {name: yaml.safe_load(file.read_text()) if file.exists() else [] for name, file in files.items()}


@pytest.fixture
def run_pretrain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run `cim-pretrain` with the given arguments, in this process and an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def pretrain(*arguments: str) -> None:
        from cim_lightning.cli.main import pretrain

        monkeypatch.setattr(sys, "argv", ["cim-pretrain", *arguments])
        pretrain()

    return pretrain
