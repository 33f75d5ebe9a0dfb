"""Signals in data-loading workers, and the import of the package, in separate processes."""

import subprocess
import sys
from pathlib import Path

import pytest

WITH_WORKERS = """
import multiprocessing
import subprocess
import sys
from functools import partial

from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.synthetic.dataset import synthetic

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    source = partial(synthetic, num_train=80, num_val=8, image_size=16, seed=0)
    data = ImageData(source, lambda views, seed: views, 4, 2, 16, [0.5, 1.0], [0.75, 1.33], 0.5, 0)
    batches = iter(data.train_dataloader())
    for _ in range(2):  # one batch of each worker, so both have started
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
    def exit_child(number, frame):
        pathlib.Path("handled").touch()
        sys.exit()

    signal.signal(signal.SIGTERM, exit_child)
    ready.set()
    time.sleep(60)


if __name__ == "__main__":
    registered, register = [], atexit.register

    def recording_register(function, *args, **kwargs):
        registered.append(str(getattr(function, "__module__", "")))
        return register(function, *args, **kwargs)

    atexit.register = recording_register
    ready = multiprocessing.Event()
    multiprocessing.Process(target=child, args=(ready,), daemon=True).start()
    ready.wait()
    from cim_lightning import ImageData

    assert ImageData.__module__ == "cim_lightning.data.datamodule"
    assert not [name for name in registered if name.startswith("cim_lightning")], registered
"""


def run(script: str, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(script)
    command = [sys.executable, path, *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(sys.platform == "win32", reason="needs the command kill")
@pytest.mark.parametrize("start_method", ["fork", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_workers_ignore_sigint_and_sigterm_and_exit_with_their_parent(
    tmp_path: Path, start_method: str
) -> None:
    process = run(WITH_WORKERS, tmp_path, start_method)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == "RuntimeError: an error with workers alive"


def test_the_import_registers_no_atexit_hook_and_child_processes_handle_sigterm(tmp_path: Path) -> None:
    process = run(WITH_A_CHILD, tmp_path)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "handled").exists()
