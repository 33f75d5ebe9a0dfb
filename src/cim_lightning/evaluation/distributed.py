"""Exchange of results between the processes of an evaluation, if there are several."""

import socket
from itertools import zip_longest
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class BatchRows:
    """The rows of this process's batches, in one tensor on the CPU that is allocated once.

    Batches that are concatenated at the end need their memory twice. Rows that are not written need none.

    Args:
        capacity: maximum number of rows.
        dtype: of the stored rows; None: that of the batches.
    """

    def __init__(self, capacity: int, dtype: torch.dtype | None = None):
        self.capacity, self.dtype = capacity, dtype
        self.sizes: list[int] = []  # rows of each batch
        self.count = 0  # rows of all batches
        self.storage: Tensor | None = None  # allocated by the first batch

    def append(self, batch: Tensor) -> None:
        """Copy a batch from any device.

        Raises:
            ValueError: there are more rows than `capacity`.
        """
        start, self.count = self.count, self.count + len(batch)
        if self.count > self.capacity:
            raise ValueError(f"more than {self.capacity} rows")
        if self.storage is None:
            dtype = self.dtype or batch.dtype
            self.storage = torch.empty(self.capacity, *batch.shape[1:], dtype=dtype)
        self.storage[start : self.count] = batch
        self.sizes.append(len(batch))

    @property
    def rows(self) -> Tensor | None:
        """The rows of all batches; None without a batch."""
        return None if self.storage is None else self.storage[: self.count]

    @classmethod
    def of(cls, batches: list[Tensor]) -> "BatchRows":
        """Copy a list of batches, which is emptied: the memory of each is free after its copy."""
        result = cls(sum(map(len, batches)))
        batches.reverse()
        while batches:
            result.append(batches.pop())
        return result


def gather_batches(batches: BatchRows, device: torch.device) -> Tensor:
    """Return the batches of all processes as one tensor on the CPU, in the order of a single process.

    Args:
        batches: of this process: numbers rank, rank + world_size, ... of all batches. A process may have no
            batch, but one process has one.
        device: for the transfer between GPUs.
    """
    if not _has_other_processes():
        assert batches.rows is not None, "no batches"
        return batches.rows
    channel = device if dist.get_backend() == "nccl" else torch.device("cpu")
    mine = None if batches.rows is None else (tuple(batches.rows.shape[1:]), batches.rows.dtype)
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, (batches.sizes, mine))
    sizes_of = [sizes for sizes, _ in found]
    shape, dtype = next(kind for _, kind in found if kind)
    # Round i has the i-th batch of each process. The last round may be incomplete.
    rounds = zip_longest(*sizes_of)
    order = [(rank, size) for item in rounds for rank, size in enumerate(item) if size is not None]
    gathered = torch.empty(sum(size for _, size in order), *shape, dtype=dtype)
    places = gathered.split([size for _, size in order])
    for rank, sizes in enumerate(sizes_of):
        if not sizes:
            continue
        own = batches.rows if rank == dist.get_rank() else None
        part = (
            torch.empty(sum(sizes), *shape, dtype=dtype, device=channel) if own is None else own.to(channel)
        )
        dist.broadcast(part, rank)
        targets = [place for place, (owner, _) in zip(places, order, strict=True) if owner == rank]
        for target, batch in zip(targets, part.cpu().split(sizes), strict=True):
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


def processes_of_machine() -> int:
    """Return how many processes of the evaluation run on this machine, by the names of their machines."""
    names: list[Any] = [socket.gethostname()]
    if _has_other_processes():
        names = [None] * dist.get_world_size()
        dist.all_gather_object(names, socket.gethostname())
    return names.count(socket.gethostname())


def from_first_process(value: Any) -> Any:
    """Return the value of the first process in every process."""
    values = [value]
    if _has_other_processes():
        dist.broadcast_object_list(values)
    return values[0]


def _has_other_processes() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
