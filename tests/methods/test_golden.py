"""Ten steps of every method: the losses of experiments/golden_curves.py, and no wait for the device."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cim_lightning.methods.method import Method
from cim_lightning.models import target
from cim_lightning.models.ema import lerp_unless_skipped

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "experiments" / "golden_curves.py"))
METHODS = sorted(file.stem for file in (ROOT / "conf" / "method").glob("*.yaml"))


aten = torch.ops.aten
WAITS = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten._unique2)


class Reads(TorchDispatchMode):
    """Counts what a step on a GPU would have to wait for: values for Python, and shapes from values."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        indices = args[1] if func.overloadpacket in (aten.index, aten.index_put, aten.index_put_) else ()
        by_mask = any(index is not None and index.dtype == torch.bool for index in indices)
        self.count += by_mask or func.overloadpacket in WAITS
        return func(*args, **kwargs or {})


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Count in the second step: forward and backward pass, clipping, optimizer, and targets as on a GPU."""
    reads, optimizer_step = Reads(), Method.optimizer_step

    def counted(self: Method, *args: Any, **kwargs: Any) -> None:
        if self.trainer.global_step == 1:
            with reads:
                optimizer_step(self, *args, **kwargs)
        else:
            optimizer_step(self, *args, **kwargs)

    def as_on_gpu(averages: Any, values: Any, weight: float, applied: torch.Tensor) -> None:
        lerp_unless_skipped(averages, values, weight, applied)

    monkeypatch.setattr(Method, "optimizer_step", counted)
    monkeypatch.setattr(target, "update_average", as_on_gpu)
    return reads


@pytest.mark.parametrize("name", sorted(SCRIPT["GOLDEN"]))
def test_the_first_ten_losses_match_the_recorded_ones(name, run_pretrain, tmp_path, reads):
    run_pretrain(*SCRIPT["arguments"](name, tmp_path / "run"))
    assert reads.count == 0
    losses = SCRIPT["losses"](tmp_path / "run")
    assert len(losses) == 10
    assert losses == pytest.approx(SCRIPT["read"](name)["losses"], rel=2e-3)
    assert min(losses) > 0


def test_every_method_that_trains_has_a_recorded_curve():
    methods = {SCRIPT["read"](name).get("method", name) for name in SCRIPT["GOLDEN"]}
    assert methods == set(METHODS) - {"random"}
