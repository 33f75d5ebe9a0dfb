"""The most memory in use, since it was last asked to forget."""

import mmap
import os

import pytest
import torch

from cim_lightning.callbacks import memory

CPU = torch.device("cpu")


def use_and_leave() -> None:
    """640 MB of pages of their own: an array may lie in memory that others have freed and Python has kept."""
    with mmap.mmap(-1, 640_000_000) as pages:
        for start in range(0, len(pages), mmap.PAGESIZE):
            pages[start] = 1


def test_a_peak_is_seen_after_it_is_gone():
    memory.reset_peak(CPU)
    before = memory.peak(CPU)
    use_and_leave()
    assert memory.peak(CPU) > before + 500e6


def test_a_new_beginning_forgets_it():
    if not os.access(memory.RESET, os.W_OK):
        pytest.skip("only Linux forgets a process's peak, and not every container lets it")
    use_and_leave()
    high = memory.peak(CPU)
    memory.reset_peak(CPU)
    assert memory.peak(CPU) < high - 500e6


def test_a_system_that_does_not_say_has_the_process_peak(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "missing")
    monkeypatch.setattr(memory, "RESET", tmp_path / "missing")
    memory.reset_peak(CPU)
    assert memory.peak(CPU) > 50e6
