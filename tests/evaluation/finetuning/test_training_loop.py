"""Gradients computed by hand, and bit-identical weights after an interruption."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cim_lightning.evaluation.finetuning.training_loop import training_loop
from cim_lightning.evaluation.training_cache import TrainingCache

STEPS = 6


def batches(done: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Two micro-batches per step, as a function of the step."""
    while True:
        generator = torch.Generator().manual_seed(done)
        yield torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator)
        done += 1


def train(
    folder: Path, on_micro_batch: Any = None
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[float]]:
    """Weights, their moving average and the losses; the callback gets the number of each micro-batch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    schedule = LambdaLR(optimizer, lambda step: 1 - step / STEPS)
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    calls = 0

    def compute_loss(micro_batch: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if on_micro_batch is not None:
            on_micro_batch(calls)
        return model(micro_batch).square().mean()

    torch.rand(os.getpid() % 7)  # advance the global generator
    cache = TrainingCache(folder, {"steps": STEPS})
    losses = training_loop(STEPS, 3, cache, model.train(), optimizer, schedule, batches, compute_loss, ema)
    return model.state_dict(), ema.module.state_dict(), losses


def interrupt(number: int) -> Any:
    return lambda call: os.kill(os.getpid(), number) if call == 5 else None  # the first of the third step


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_an_interrupted_training_ends_in_the_same_weights(tmp_path: Path, number: int, error: type) -> None:
    uninterrupted = train(tmp_path / "uninterrupted")
    with pytest.raises(error):
        train(tmp_path / "interrupted", interrupt(number))
    state = TrainingCache(tmp_path / "interrupted", {"steps": STEPS}).unfinished()
    assert state is not None
    assert state["done"] == 3  # the current step was finished
    resumed = train(tmp_path / "interrupted")
    for expected, weights in zip(uninterrupted[:2], resumed[:2], strict=True):
        assert all(torch.equal(expected[name], weights[name]) for name in expected)
    assert uninterrupted[2] == resumed[2]
    assert len(resumed[2]) == STEPS


def test_a_second_ctrl_c_raises_immediately_and_handlers_are_restored(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)

    def twice(call: int) -> None:
        for _ in range(2 * (call == 2)):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", twice)
    assert not list(tmp_path.rglob("last.ckpt"))
    assert signal.getsignal(signal.SIGINT) is before


def test_micro_batches_are_averaged(tmp_path: Path) -> None:
    # loss = w * x: the gradient is the mean of x over all micro-batches, 2; SGD subtracts 0.1 * 2.
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    micro_batches = (torch.tensor([[1.0]]), torch.tensor([[3.0]]))
    losses = training_loop(
        1,
        0,
        TrainingCache(tmp_path / "run", {}),
        model,
        optimizer,
        LambdaLR(optimizer, lambda _: 1.0),
        lambda done: [micro_batches],
        lambda x: model(x).mean(),
    )
    assert model.weight.item() == pytest.approx(0.8)
    assert losses == [2.0]
