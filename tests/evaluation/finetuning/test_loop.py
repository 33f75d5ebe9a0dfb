"""Gradients by hand, and the same weights to the bit however a training is interrupted."""

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

from cim_lightning.evaluation.finetuning.loop import Loop
from cim_lightning.evaluation.training_cache import TrainingCache

STEPS = 6


def batches(done: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Two pieces a step, a function of the step."""
    while True:
        generator = torch.Generator().manual_seed(done)
        yield torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator)
        done += 1


def train(folder: Path, stop: Any = None) -> tuple[dict[str, Tensor], dict[str, Tensor], list[float]]:
    """Weights, their moving average and the losses; `stop` is called with the number of each piece."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    schedule = LambdaLR(optimizer, lambda step: 1 - step / STEPS)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    seen = [0]

    def loss_of(piece: Tensor) -> Tensor:
        seen[0] += 1
        if stop is not None:
            stop(seen[0])
        return model(piece).square().mean()

    torch.rand(os.getpid() % 7)  # whatever was drawn before
    losses = Loop("test", STEPS, 3, TrainingCache(folder, {"steps": STEPS}))(
        model.train(), optimizer, schedule, batches, loss_of, averaged
    )
    return model.state_dict(), averaged.module.state_dict(), losses


def interrupt(number: int) -> Any:
    return lambda piece: os.kill(os.getpid(), number) if piece == 5 else None  # the first of the third step


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_an_interrupted_training_ends_in_the_same_weights(tmp_path: Path, number: int, error: type) -> None:
    straight = train(tmp_path / "straight")
    with pytest.raises(error):
        train(tmp_path / "broken", interrupt(number))
    state = TrainingCache(tmp_path / "broken", {"steps": STEPS}).begun()
    assert state is not None
    assert state["done"] == 3  # the step under way was finished
    resumed = train(tmp_path / "broken")
    for one, other in zip(straight[:2], resumed[:2], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert straight[2] == resumed[2]
    assert len(resumed[2]) == STEPS


def test_a_second_ctrl_c_ends_at_once_and_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)

    def twice(piece: int) -> None:
        for _ in range(2 * (piece == 2)):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, twice)
    assert not (tmp_path / "last.ckpt").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_pieces_are_averaged(tmp_path: Path) -> None:
    # loss = w * x: the gradient is the mean of x over all pieces, 2; SGD of rate 0.1 takes 0.2 off.
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pieces = (torch.tensor([[1.0]]), torch.tensor([[3.0]]))
    losses = Loop("test", 1, 0, TrainingCache(tmp_path, {}))(
        model, optimizer, LambdaLR(optimizer, lambda _: 1.0), lambda done: [pieces], lambda x: model(x).mean()
    )
    assert model.weight.item() == pytest.approx(0.8)
    assert losses == [2.0]
