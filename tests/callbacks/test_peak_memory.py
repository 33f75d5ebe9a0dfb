"""Peak memory since the last reset."""

import mmap
import os

import pytest
import torch

from cim_lightning.callbacks import peak_memory

CPU = torch.device("cpu")


def use_and_free() -> None:
    """Use 640 MB of new pages; an array could reuse memory that Python has not returned to the system."""
    with mmap.mmap(-1, 640_000_000) as pages:
        for start in range(0, len(pages), mmap.PAGESIZE):
            pages[start] = 1


def test_a_peak_is_reported_after_the_memory_is_freed():
    peak_memory.reset_peak(CPU)
    before = peak_memory.peak(CPU)
    use_and_free()
    assert peak_memory.peak(CPU) > before + 500e6


def test_a_reset_clears_the_peak():
    if not os.access(peak_memory.RESET, os.W_OK):
        pytest.skip("needs Linux, and a container that allows the reset")
    use_and_free()
    high = peak_memory.peak(CPU)
    peak_memory.reset_peak(CPU)
    assert peak_memory.peak(CPU) < high - 500e6


def test_other_systems_report_the_peak_of_the_process(monkeypatch, tmp_path):
    monkeypatch.setattr(peak_memory, "STATUS", tmp_path / "missing")
    monkeypatch.setattr(peak_memory, "RESET", tmp_path / "missing")
    peak_memory.reset_peak(CPU)
    assert peak_memory.peak(CPU) > 50e6
