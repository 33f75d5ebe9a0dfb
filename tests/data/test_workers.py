"""Signals in data-loading workers, in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

WITH_WORKERS = """
import multiprocessing
import subprocess
from functools import partial

from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.synthetic.scenes import synthetic

source = partial(synthetic, num_train=80, num_val=8, image_size=16, seed=0)
data = ImageData(source, lambda views, seed: views, 4, 2, 16, [0.5, 1.0], [0.75, 1.33], 0.5, 0)
batches = iter(data.train_dataloader())
next(batches)
workers = multiprocessing.active_children()
for worker in workers:
    for signal in ("-INT", "-TERM"):
        subprocess.run(["kill", signal, str(worker.pid)], check=True)
for _ in range(12):
    next(batches)
assert len(workers) == 2 and all(worker.is_alive() for worker in workers)
raise RuntimeError("an error with workers alive")
"""

WITH_A_CHILD = """
import atexit
import multiprocessing
import pathlib
import signal
import sys
import time


def child(ready):
    def leave(number, frame):
        pathlib.Path("left").touch()
        sys.exit()

    signal.signal(signal.SIGTERM, leave)
    ready.set()
    time.sleep(60)


if __name__ == "__main__":
    registered, register = [], atexit.register

    def noted(function, *args, **kwargs):
        registered.append(str(getattr(function, "__module__", "")))
        return register(function, *args, **kwargs)

    atexit.register = noted
    ready = multiprocessing.Event()
    multiprocessing.Process(target=child, args=(ready,), daemon=True).start()
    ready.wait()
    from cim_lightning import ImageData

    assert ImageData.__module__ == "cim_lightning.data.datamodule"
    assert not [name for name in registered if name.startswith("cim_lightning")], registered
"""


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(script)
    return subprocess.run([sys.executable, path], cwd=folder, capture_output=True, text=True, timeout=90)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs sigwaitinfo")
def test_workers_survive_signals_of_others_and_end_with_their_process(tmp_path: Path) -> None:
    ended = run(WITH_WORKERS, tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "RuntimeError: an error with workers alive"


def test_importing_image_data_leaves_the_process_and_its_children_alone(tmp_path: Path) -> None:
    ended = run(WITH_A_CHILD, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "left").exists()
