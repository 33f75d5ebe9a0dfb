"""Exchange of results between the processes of an evaluation, if there are several."""

from itertools import zip_longest
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_batches(batches: list[Tensor], device: torch.device) -> Tensor:
    """Return the batches of all processes as one tensor on the CPU, in the order of a single process.

    Args:
        batches: of this process, on the CPU: numbers rank, rank + world_size, ... of all batches. A process
            may have none. Emptied, as features of all images and their batches need twice the memory.
        device: for the transfer between GPUs.
    """
    if not _has_other_processes():
        return _concatenate(batches)
    channel = device if dist.get_backend() == "nccl" else torch.device("cpu")
    shapes: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(shapes, [(tuple(batch.shape), batch.dtype) for batch in batches])
    # Round i has the i-th batch of each process. The last round may be incomplete.
    order = [(rank, *item) for items in zip_longest(*shapes) for rank, item in enumerate(items) if item]
    (_, shape, dtype), sizes = order[0], [shape[0] for _, shape, _ in order]
    gathered = torch.empty(sum(sizes), *shape[1:], dtype=dtype)
    places = gathered.split(sizes)
    for rank in range(dist.get_world_size()):
        targets = [place for place, (owner, *_) in zip(places, order, strict=True) if owner == rank]
        if not targets:
            continue
        part = _concatenate(batches if rank == dist.get_rank() else targets[:]).to(channel)
        dist.broadcast(part, rank)
        for target, batch in zip(targets, part.cpu().split([len(t) for t in targets]), strict=True):
            target.copy_(batch)
    return gathered


def share_of_process(tensor: Tensor) -> Tensor:
    """Return this process's share of the rows of a tensor that all processes have."""
    return tensor[dist.get_rank() :: dist.get_world_size()] if _has_other_processes() else tensor


def sum_over_processes(value: float, device: torch.device) -> float:
    """Return the sum of a number over all processes."""
    if not _has_other_processes():
        return value
    channel = device if dist.get_backend() == "nccl" else torch.device("cpu")
    total = torch.tensor(float(value), dtype=torch.float64, device=channel)
    dist.all_reduce(total)
    return total.item()


def from_first_process(value: Any) -> Any:
    """Return the value of the first process in every process."""
    values = [value]
    if _has_other_processes():
        dist.broadcast_object_list(values)
    return values[0]


def _concatenate(batches: list[Tensor]) -> Tensor:
    """Concatenate one or more batches and empty the list; the memory of each is free after its copy."""
    result = torch.empty(sum(map(len, batches)), *batches[0].shape[1:], dtype=batches[0].dtype)
    end = len(result)
    while batches:
        batch = batches.pop()
        result[end - len(batch) : end] = batch
        end -= len(batch)
    return result


def _has_other_processes() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
