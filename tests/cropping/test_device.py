"""Croppings on a GPU, by tensors without values: no synchronization with the host, and one compiled graph."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.image_random import image_seeds


class Transfers(TorchDispatchMode):
    """Collects operations on tensors of several devices: copies, and constants of the host."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        leaves = _pytree.tree_leaves((args, kwargs, result))
        devices = {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)}
        self.found += [str(func)] if devices - {"cuda"} else []
        return result


def transfers(work: Callable[[torch.Tensor, torch.Tensor], Any]) -> list[str]:
    """Return the transfers of work with views and seeds. A tensor that is read by the host is an error."""
    with FakeTensorMode(), Transfers() as modes:
        views = torch.empty(2, 3, 224, 224, dtype=torch.uint8, device="cuda")
        seeds = torch.empty(2, dtype=torch.int64, device="cuda")
        modes.found.clear()
        work(views, seeds)
    return modes.found


@pytest.fixture
def plain_modules(monkeypatch):
    """Import modules without the runtime checks of shapes, which break compiled graphs."""

    def loaded() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] == "cim_lightning"]

    finders = [finder for finder in sys.meta_path if "jaxtyping" not in type(finder).__module__]
    monkeypatch.setattr(sys, "meta_path", finders)
    for name in loaded():
        monkeypatch.delitem(sys.modules, name)
    yield importlib.import_module
    for name in loaded():  # monkeypatch brings back only those that were there before
        del sys.modules[name]


CROPPERS = (
    "exemplars.ExemplarCropper",
    "masked_exemplars.MaskedExemplarCropper",
    "masking.MaskedCropper",
    "multi_crop.MultiCropper",
    "resize.ResizeCropper",
)


@pytest.mark.parametrize("name", CROPPERS)
def test_cropping_never_waits_for_the_device(plain_modules, name):
    module, _, kind = name.partition(".")
    assert not transfers(getattr(plain_modules(f"cim_lightning.cropping.{module}"), kind)())


def test_transfers_and_reads_are_found():
    """The checks of this file see what they are for."""
    assert transfers(lambda views, seeds: torch.tensor([1.0, 2.0], device="cuda"))
    assert transfers(lambda views, seeds: views + torch.ones(()))
    with pytest.raises(Exception, match="_local_scalar_dense"):
        transfers(lambda views, seeds: bool((seeds > 0).all()))


def test_the_crops_of_cim_are_one_graph_without_breaks(plain_modules):
    cropper = plain_modules("cim_lightning.cropping.exemplars").ExemplarCropper(num_exemplars=2)
    graphs = []

    def backend(graph, inputs):
        graphs.append(len(list(graph.graph.nodes)))
        return graph

    views = torch.randint(0, 256, (3, 3, 72, 80), dtype=torch.uint8)
    expected = [cropper(views, seed) for seed in (0, 1)]
    compiled = torch.compile(cropper._sample_and_apply, backend=backend, fullgraph=True, dynamic=False)
    for seed, crops in enumerate(expected):
        found = compiled(views, image_seeds(seed, 3))
        assert torch.equal(found.maps, crops.maps)
        assert torch.equal(found.boxes.center, crops.boxes.center)
        torch.testing.assert_close(found.exemplars, crops.exemplars, atol=1e-5, rtol=0)
    assert len(graphs) == 1  # also for other seeds


def test_only_batches_of_the_training_size_on_a_gpu_are_compiled(monkeypatch):
    calls = []

    def compile(function, **options):
        return lambda views, seeds: calls.append((len(views), options))

    monkeypatch.setattr(torch, "compile", compile)
    cropper = ExemplarCropper(num_exemplars=1)
    cropper.compile(2, mode="default")
    monkeypatch.setattr(cropper, "_sample_and_apply", lambda views, seeds: None)
    cropper(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), 0)
    assert not calls
    for size in (1, 2, 3):
        with FakeTensorMode():
            views = torch.empty(size, 3, 64, 64, dtype=torch.uint8, device="cuda")
            cropper(views, torch.empty(size, dtype=torch.int64, device="cuda"))
    assert calls == [(2, {"dynamic": False, "mode": "default"})]
