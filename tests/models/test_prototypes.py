"""The center of the target's scores, on one device and on several with different numbers of scores."""

from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from cim_lightning.models.prototypes import update_center

SCORES = torch.tensor([[1.0, 2.0, 4.0], [3.0, -2.0, 0.0], [2.0, 3.0, 5.0]])


def process(rank: int, sizes: list[int], folder: Path) -> None:
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    center = torch.ones(3)
    update_center(center, SCORES[: sum(sizes)].split(sizes)[rank], 0.75)
    torch.save(center, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_the_center_moves_towards_the_mean_of_the_scores():
    center = torch.ones(3)
    update_center(center, SCORES, 0.75)
    torch.testing.assert_close(center, torch.tensor([1.25, 1.0, 1.5]))
    update_center(center, SCORES[:0], 0.75)
    torch.testing.assert_close(center, torch.tensor([1.25, 1.0, 1.5]))


@pytest.mark.parametrize(
    ("sizes", "expected"), [([2, 1], [1.25, 1.0, 1.5]), ([3, 0], [1.25, 1.0, 1.5]), ([0, 0], [1.0, 1.0, 1.0])]
)
def test_devices_with_different_numbers_of_scores_have_the_center_of_one(sizes, expected, tmp_path):
    torch.multiprocessing.start_processes(process, (sizes, tmp_path), nprocs=2, start_method="fork")
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), torch.tensor(expected))
