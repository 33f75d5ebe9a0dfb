"""Training restored after every step repeats all that followed; with other batches or devices, all images."""

import json
import multiprocessing
import os
import shutil
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.config.run_builder import build_run
from cim_lightning.cropping.exemplars import Crops
from cim_lightning.lightning_internals import quiet
from tests.equal_runs import assert_same, metrics, rows

COMMON = [
    *("backbone=vit_micro_patch4", "backbone.kwargs.depth=2", "backbone.kwargs.embed_dim=16"),
    *("backbone.kwargs.num_heads=2", "+backbone.kwargs.drop_path_rate=0.5"),
    *("cropping=small", "cropping.num_exemplars=2"),
    *("decoder.width=16", "decoder.num_heads=2", "decoder.depth=1"),
    *("data=synthetic", "data.source.num_train=29", "data.source.num_val=5", "data.source.image_size=32"),
    *("data.view_size=32", "data.batch_size=8", "data.num_workers=0"),
    *(
        "trainer=cpu",
        "trainer.max_epochs=3",
        "trainer.log_every_n_steps=1",
        "+trainer.enable_progress_bar=false",
    ),
    *("logger=[csv]", "callbacks.last.every_minutes=0"),
    *(f"callbacks.{name}=null" for name in ("panels", "best", "knn", "progress")),
]


class Image(NamedTuple):
    """An image of a training batch: what it is, and what was made from it."""

    epoch: int
    index: int
    seed: int
    crops: int  # hash


class Recorder(L.Callback):
    """Keep the images of each step, and every checkpoint with the rows logged so far."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.batches: dict[int, list[list[Image]]] = {}  # by optimizer step

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        save = trainer.save_checkpoint

        def save_and_keep(path: Any, *args: Any) -> None:
            save(path, *args)
            kept = self.folder / f"{trainer.global_step}"
            if trainer.is_global_zero:
                kept.mkdir()
                shutil.copy(path, kept / "last.ckpt")
                shutil.copy(self.folder / "metrics.csv", kept)

        trainer.save_checkpoint = save_and_keep

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        samples, crops = trainer.datamodule.current, batch[0]
        assert isinstance(crops, Crops)
        tensors = (crops.context, crops.exemplars, crops.maps, crops.boxes.corners)
        hashes = [
            hash(tuple(part.numpy().tobytes() for part in image)) for image in zip(*tensors, strict=True)
        ]
        columns = (samples.epochs.tolist(), samples.indices.tolist(), samples.seeds.tolist(), hashes)
        images = [Image(*values) for values in zip(*columns, strict=True)]
        self.batches.setdefault(trainer.global_step, []).append(images)


class Finished(NamedTuple):
    """A finished run: its folder has a folder per step, with the checkpoint and the rows at that time."""

    folder: Path
    batches: dict[int, list[list[Image]]]  # of this process

    def steps(self) -> list[int]:
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def images(self, step: int) -> list[Image]:
        """Return the images of a step of this process, over all of its batches."""
        return [image for batch in self.batches[step] for image in batch]


@pytest.fixture(scope="module")
def settings() -> Callable[..., dict[str, Any]]:
    """Compose the settings of a run."""
    register_resolvers()

    def build(*overrides: str) -> dict[str, Any]:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("pretrain", [*COMMON, "paths.run=FOLDER", *overrides])
        return OmegaConf.to_container(cfg, resolve=True)

    return build


def train(settings: Any, folder: Path, after: Path | None = None) -> Finished:
    """Train in a folder, from the start or from a checkpoint and the rows of another run."""
    settings = json.loads(json.dumps(settings).replace("FOLDER", str(folder)))
    folder.mkdir(exist_ok=True)
    if after is not None and os.environ.get("LOCAL_RANK", "0") == "0":
        shutil.copy(after / "metrics.csv", folder)
    with quiet():
        run = build_run(settings, resumed=after is not None)
        recorder = Recorder(folder)
        run.trainer.callbacks.append(recorder)
        checkpoint = None if after is None else str(after / "last.ckpt")
        run.trainer.fit(run.method, datamodule=run.data, ckpt_path=checkpoint)
    return Finished(folder, recorder.batches)


def assert_repeats(restored: Finished, straight: Finished, step: int) -> None:
    """Assert that a run restored after a step has the batches, states and rows of the uninterrupted one."""
    assert restored.steps() == [later for later in straight.steps() if later > step]
    for later in restored.steps():
        found, expected = (
            torch.load(run.folder / f"{later}" / "last.ckpt", weights_only=True)
            for run in (restored, straight)
        )
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "ImageData"):
            assert_same(found[part], expected[part], f"step {later}: {part}")
    assert restored.batches == {number: b for number, b in straight.batches.items() if number >= step}
    assert rows(restored.folder) == rows(straight.folder)
    assert metrics(restored.folder) == metrics(straight.folder)


def assert_every_step_repeats(settings: Any, other: Any, folder: Path) -> Finished:
    """Train once, then train on from every step with other settings."""
    straight = train(settings, folder / "straight")
    for step in straight.steps():
        restored = train(other, folder / f"from-{step}", straight.folder / f"{step}")
        if os.environ.get("LOCAL_RANK", "0") == "0":
            assert_repeats(restored, straight, step)
    return straight


def assert_same_images(other: Finished, straight: Finished, step: int) -> None:
    """Assert that a run with other batches has the images, crops and rates of the uninterrupted one."""
    assert other.steps() == [later for later in straight.steps() if later > step]
    for number in range(step, straight.steps()[-1]):
        assert other.images(number) == straight.images(number)
    assert column(other.folder, "train/lr") == column(straight.folder, "train/lr")


def column(folder: Path, name: str) -> list[str]:
    return [row[name] for row in rows(folder)]


LENGTH = "trainer.max_steps=5"  # of 3 steps per epoch
ACCUMULATE = ("data.batch_size=4", "trainer.accumulate_grad_batches=2")


@pytest.mark.fault(
    "process",
    "a run ends after any step, and resumes with another `data.num_workers`, or with the same images per "
    "step in batches of another size",
    "bit-identical weights, optimizer and metrics; with other batches, the same images, order and crops",
)
def test_a_run_restored_after_any_step_repeats_the_uninterrupted_one(settings, tmp_path):
    """The run ends inside an epoch; the restored ones have a worker."""
    straight = assert_every_step_repeats(settings(LENGTH), settings(LENGTH, "data.num_workers=1"), tmp_path)
    assert straight.steps() == [1, 2, 3, 4, 5]
    seen = [image[:2] for step in (0, 1, 2) for image in straight.images(step)]
    assert len({*seen}) == 24  # no image twice in an epoch
    batches = settings(LENGTH, *ACCUMULATE)
    other = train(batches, tmp_path / "other", straight.folder / "2")
    assert [len(batch) for batch in other.batches[3]] == [4, 4]
    assert_same_images(other, straight, 2)


@pytest.mark.slow
@pytest.mark.parametrize("length", ["trainer.max_epochs=3", "trainer.max_steps=7"])
@pytest.mark.parametrize("batches", [(), ACCUMULATE])
@pytest.mark.parametrize("workers", [(0, 2), (2, 0)])
def test_every_combination(length, batches, workers, settings, tmp_path):
    before, after = (settings(length, *batches, f"data.num_workers={number}") for number in workers)
    straight = assert_every_step_repeats(before, after, tmp_path)
    assert straight.steps() == list(range(1, 10 if "epochs" in length else 8))


def in_processes(target: Callable[[], None], devices: int = 2) -> None:
    """Run a function in one forked process per device; Lightning connects them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(rank: int) -> None:
        os.environ |= {"LOCAL_RANK": f"{rank}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
        target()

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=run, args=(rank,)) for rank in range(devices)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks while torch has threads
        for process in processes:
            process.start()
    for process in processes:
        process.join(timeout=300)
    assert [process.exitcode for process in processes] == [0] * devices


TWO_DEVICES = ("data.batch_size=4", "trainer.devices=2", "trainer.strategy=ddp")


@pytest.mark.slow
@pytest.mark.fault(
    "process",
    "a run in one process resumes in two, with the same images per step",
    "it trains on the same images with the same crops, in the same order",
)
def test_two_processes(settings, tmp_path):
    """Two processes repeat their own run, and have the images of a run in one process."""
    one = train(settings(LENGTH), tmp_path / "one")
    two = settings(LENGTH, *TWO_DEVICES)

    def on_two_devices() -> None:
        rank = os.environ["LOCAL_RANK"]
        assert_every_step_repeats(two, two, tmp_path)
        elastic = train(two, tmp_path / "elastic", one.folder / "2")
        (tmp_path / f"{rank}.json").write_text(json.dumps(elastic.batches))

    in_processes(on_two_devices)
    parts = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert parts[0].keys() == parts[1].keys() == {"2", "3", "4"}
    for step in parts[0]:
        (first,), (second,) = (part[step] for part in parts)
        together = [Image(*image) for pair in zip(first, second, strict=True) for image in pair]
        assert together == one.images(int(step))
