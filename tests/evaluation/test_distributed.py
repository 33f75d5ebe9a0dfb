"""Two processes that share the images give the features and numbers of one process."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from cim_lightning.callbacks.peak_memory import peak, reset_peak
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.source import Splits
from cim_lightning.data.synthetic.dataset import SyntheticScenes
from cim_lightning.data.view_dataset import ResizeCenterCrop
from cim_lightning.evaluation import distributed
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.distributed import (
    BatchRows,
    gather_batches,
    processes_of_machine,
    share_of_process,
    sum_over_processes,
)
from cim_lightning.evaluation.frozen_grids import extract_grids
from cim_lightning.evaluation.knn import KNN
from cim_lightning.models.timm_backbone import TimmBackbone

CPU = torch.device("cpu")
ROUNDING = {"rtol": 2**-10, "atol": 2**-10}  # of fp16
INDICES = [9, 2, 14, 3, 5]


def run(rank: int, world_size: int, work: Callable[..., None], folder: Path, *args: object) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
    work(rank, world_size, folder, *args)
    torch.distributed.destroy_process_group()


def in_processes(count: int, work: Callable[..., None], folder: Path, *args: object) -> None:
    """Run work(rank, count, folder, *args) in processes that can communicate."""
    arguments = (count, work, folder, *args)
    torch.multiprocessing.start_processes(run, arguments, nprocs=count, start_method="fork")


def context(folder: Path, images: tuple[int, int], rank: int, world_size: int) -> EvalContext:
    splits = Splits(SyntheticScenes(images[0], 32, 0), SyntheticScenes(images[1], 32, 1))
    data = ImageData(lambda: splits, lambda views, seed: views, 4, 0, 32, (1, 1), (1, 1), 0, 3)
    torch.manual_seed(0)
    backbone = TimmBackbone("test_vit", {"dynamic_img_size": True}).eval()
    processes = {"rank": rank, "world_size": world_size}
    return EvalContext(backbone, None, data, CPU, folder, 0, {}, **processes)


def save_features(rank: int, world_size: int, folder: Path, images: tuple[int, int]) -> None:
    shared = context(folder, images, rank, world_size)
    features = {split: tuple(shared.features(split, None)) for split in ("train", "val")}
    counts = [sum(len(batch.labels) for batch in shared.batches(split, None)) for split in ("train", "val")]
    numbers = KNN([1, 3], 0.07, None, None)(shared)
    grids = tuple(extract_grids(shared, INDICES))
    torch.save((features, counts, numbers, grids), folder / f"{rank}.pt")


@pytest.mark.parametrize(
    ("processes", "images"),
    [(2, (22, 11)), (2, (16, 3)), (3, (21, 10))],  # batches of 4: uneven shares; a process without images
)
def test_processes_that_share_the_images_give_the_numbers_of_one(tmp_path, processes, images):
    in_processes(processes, save_features, tmp_path, images)
    alone = context(tmp_path, images, 0, 1)
    expected = KNN([1, 3], 0.07, None, None)(alone)
    saved = [torch.load(tmp_path / f"{rank}.pt") for rank in range(processes)]
    grids = extract_grids(alone, INDICES)
    for features, _, numbers, shared_grids in saved:
        assert numbers == expected
        for found, single in zip(shared_grids, grids, strict=True):
            torch.testing.assert_close(found, single, **ROUNDING)
        for split, tensors in features.items():
            for found, single in zip(tensors, alone.features(split, None), strict=True):
                torch.testing.assert_close(found, single, **ROUNDING)  # in order, without duplicates
    counts = [counts for _, counts, *_ in saved]
    assert [sum(column) for column in zip(*counts, strict=True)] == list(images)
    assert max(counts)[0] < images[0]


def save_exchange(rank: int, world_size: int, folder: Path) -> None:
    shared = share_of_process(torch.arange(7)).tolist()
    total = sum_over_processes(10.0 + rank, CPU)
    mine = [torch.full((2, 3), float(rank)), torch.full((1, 3), rank + 0.5)][: 2 - rank]
    gathered = gather_batches(BatchRows.of(mine), CPU).tolist()
    machines = [processes_of_machine()]
    distributed.socket = SimpleNamespace(gethostname=lambda: f"node{rank}")
    machines.append(processes_of_machine())
    (folder / f"{rank}.json").write_text(json.dumps([shared, total, gathered, machines]))


def test_exchange_between_two_processes_by_hand(tmp_path):
    in_processes(2, save_exchange, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first[0] == [0, 2, 4, 6]
    assert second[0] == [1, 3, 5]
    assert first[1] == second[1] == 21
    # Process 0 has the batches 0 and 2, of two and one rows; process 1 has batch 1.
    assert first[2] == second[2] == [[0] * 3] * 2 + [[1] * 3] * 2 + [[0.5] * 3]
    assert first[3] == second[3] == [2, 1]  # on one machine, then on two


def test_a_single_process_exchanges_nothing():
    batches = [torch.ones(2, 3), torch.zeros(1, 3)]
    assert torch.equal(gather_batches(BatchRows.of(batches[:]), CPU), torch.cat(batches))
    assert share_of_process(batches[0]) is batches[0]
    assert sum_over_processes(3, CPU) == 3
    assert processes_of_machine() == 1


def test_batches_are_stored_in_memory_that_is_allocated_once():
    rows = BatchRows(6, torch.float16)
    assert rows.rows is None
    storages = []
    for value, size in ((0.1, 2), (2.0, 1), (3.0, 3)):
        rows.append(torch.full((size, 2), value))
        storages.append(rows.storage)
    assert storages[0] is storages[2]
    assert rows.rows.dtype == torch.float16
    assert rows.rows[:, 0].tolist() == [torch.tensor(0.1).half().item()] * 2 + [2, 3, 3, 3]
    assert rows.sizes == [2, 1, 3]
    with pytest.raises(ValueError, match="more than 6 rows"):
        rows.append(torch.zeros(1, 2))


def test_rows_that_are_not_written_need_no_memory():
    before = peak_after_reset()
    rows = BatchRows(10**6, torch.float16)
    for _ in range(20):
        rows.append(torch.ones(1000, 128))
    assert rows.rows.shape == (20_000, 128)  # 5 MB of 256
    assert peak_after_reset() - before < 50e6


def peak_after_reset() -> int:
    """The memory of this process now, in bytes."""
    reset_peak(CPU)
    return peak(CPU)


def test_a_context_of_other_data_keeps_its_share(tmp_path):
    shared = context(tmp_path, (22, 11), 1, 2)
    other = replace(shared, data=context(tmp_path, (9, 5), 0, 1).data, _features={})
    assert [len(batch.labels) for batch in other.batches("train", None)] == [4]
    assert [len(batch.labels) for batch in other.batches("train", None, shard=False)] == [4, 4, 1]


def test_the_preprocessing_has_the_size_of_the_data(tmp_path):
    built = context(tmp_path, (8, 4), 0, 1)
    assert str(built.preprocessing) == "CenterSquare(size=32)"
    standard = replace(built, view=ResizeCenterCrop(32, 0.875))
    small = replace(standard, data=SimpleNamespace(view=SimpleNamespace(size=16)))
    assert str(small.preprocessing) == "ResizeCenterCrop(size=16, crop_pct=0.875)"
    square, cropped = (next(iter(part.batches("val", None))).views for part in (built, standard))
    assert square.shape == cropped.shape == (4, 3, 32, 32)
    assert not torch.equal(square, cropped)
