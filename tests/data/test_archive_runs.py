"""Killed and resumed runs from tar archives and Hugging Face data sets equal the run from the folder."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cim_lightning.data.archive_folder import ArchiveFolder
from cim_lightning.data.archiving import Archiver
from cim_lightning.data.folder import folder as open_folder
from cim_lightning.data.loader import Loading
from cim_lightning.data.pixel_format import RGB8
from cim_lightning.data.stored_image import StoredFormat
from tests.archives import write_tar

BATCHES = 10
KILLED_AT = {"webdataset": 3, "archives": 5, "hf": 7}  # batches
KILL = """
import os, random, signal, threading
import lightning

class Kill(lightning.Callback):
    '''SIGKILL at a random moment of a batch or shortly after it.'''

    def __init__(self, batch):
        self.left = batch

    def on_train_batch_start(self, *args):
        self.left -= 1
        if self.left == 0:
            threading.Timer(random.uniform(0, 0.05), os.kill, (os.getpid(), signal.SIGKILL)).start()
"""


def write_shards(photos: Path, folder: Path) -> list[str]:
    """Write the images of a folder, in random order, into archives of 15."""
    rng = random.Random(0)
    for split in ("train", "val"):
        paths = sorted((photos / split).rglob("*.png"))
        rng.shuffle(paths)
        for i in range(0, len(paths), 15):
            names = {str(path.relative_to(photos / split)): path.read_bytes() for path in paths[i : i + 15]}
            write_tar(folder / f"photos-{split}-{i // 15:03d}.tar", names)
    return ["data=webdataset", f"data.root={folder}"]


def write_archives(photos: Path, folder: Path) -> list[str]:
    """Write the images of a folder into archives with an index, as `cim-prepare archives` does."""
    target = ArchiveFolder(folder, {})
    target.open()
    images = open_folder(str(photos), 0.05, 0, RGB8)
    Archiver(images, target, StoredFormat(RGB8), 15, Loading(0, None)).write()
    return ["data=webdataset", f"data.root={folder}"]


def write_hf(photos: Path, folder: Path) -> list[str]:
    """Write the images of a folder to Parquet files, in the order of their names and with their names."""
    datasets, parquet = pytest.importorskip("datasets"), pytest.importorskip("pyarrow.parquet")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    folder.mkdir(parents=True)
    for split in ("train", "val"):
        paths = sorted((photos / split).rglob("*.png"), key=str)
        images = [{"bytes": path.read_bytes(), "path": str(path.relative_to(photos))} for path in paths]
        rows = {"image": images, "label": [path.parent.name for path in paths]}
        table = datasets.Dataset.from_dict(rows, features).data.table  # `to_parquet` would shorten the names
        parquet.write_table(table, folder / f"{split}.parquet")
    return ["data=hf", f"data.name={folder}"]


WRITERS: dict[str, Callable[[Path, Path], list[str]]] = {
    "webdataset": write_shards,
    "archives": write_archives,
    "hf": write_hf,
}


def last(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=False)


def test_killed_and_resumed_runs_equal_the_run_from_the_folder(photos, tiny, run_pretrain, tmp_path):
    (tmp_path / "kill.py").write_text(KILL)
    others = [override for override in tiny if not override.startswith(("data=", "data.root="))]
    commands = {name: [*others, *write(photos, tmp_path / "data" / name)] for name, write in WRITERS.items()}
    processes = {name: start(command, name, tmp_path) for name, command in commands.items()}
    run_pretrain(*tiny, "output_dir=straight")  # while the others start
    expected = last(tmp_path / "straight")
    assert expected["global_step"] == BATCHES
    for name, command in commands.items():
        output, _ = processes[name].communicate(timeout=120)
        assert processes[name].returncode == -signal.SIGKILL, output
        assert KILLED_AT[name] - 2 <= last(tmp_path / name)["global_step"] < BATCHES
        run_pretrain(*command, f"output_dir={name}")
        found = last(tmp_path / name)
        assert found["global_step"] == BATCHES
        for key, tensor in expected["state_dict"].items():
            assert torch.equal(found["state_dict"][key], tensor), (name, key)


def start(command: list[str], name: str, folder: Path) -> "subprocess.Popen[str]":
    """Start a run that saves after every step and kills itself."""
    kill = f"+callbacks.kill={{_target_:kill.Kill,batch:{KILLED_AT[name]}}}"
    return subprocess.Popen(
        [
            Path(sys.executable).with_name("cim-pretrain"),
            *(*command, f"output_dir={name}", "callbacks.last.every_minutes=0", kill),
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
