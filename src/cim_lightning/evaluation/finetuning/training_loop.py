"""Training loop that resumes after an interruption, with bit-identical final weights on a CPU."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from cim_lightning.evaluation.training_cache import TrainingCache
from cim_lightning.rng import fork_rng

NUM_LOSSES = 100  # losses per training that are copied from the device


def training_loop(
    steps: int,
    seed: int,
    cache: TrainingCache,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    batches: Callable[[int], Iterable[Sequence[Any]]],
    compute_loss: Callable[[Any], Tensor],
    ema: Any = None,
) -> list[float]:
    """Train a model in place, or resume its training from the cached state.

    Args:
        steps: optimizer steps.
        seed: the random numbers of a step depend on the seed and the number of the step.
        cache: saves the state every five minutes, and when Ctrl-C or SIGTERM interrupts the training.
        model: in training mode.
        optimizer, schedule: called after every step.
        batches: maps the number of the first step to its batch and the batches of the following steps. A
            batch is a sequence of micro-batches of equal size, whose gradients are averaged.
        compute_loss: returns the mean loss of a micro-batch.
        ema: an AveragedModel that is updated after each step.

    Returns:
        The training losses, averaged over each hundredth of the training, or over each step.
    """
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule} | ({"ema": ema} if ema else {})
    state = cache.unfinished() or {"done": 0, "losses": [], "total": 0.0}
    done, losses, total = state["done"], state["losses"], state["total"]
    for name, part in parts.items() if done else ():
        part.load_state_dict(state[name])
    interval = max(steps // NUM_LOSSES, 1)
    bar = tqdm(total=steps, initial=done, desc=cache.folder.name, unit="step", leave=False, disable=None)
    with delay_signals() as signals, bar:
        for step, micro_batches in zip(range(done, steps), batches(done), strict=False):
            with fork_rng(seed, step):
                for micro_batch in micro_batches:
                    loss = compute_loss(micro_batch) / len(micro_batches)
                    loss.backward()
                    total = total + loss.detach()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            if ema is not None:
                ema.update_parameters(model)
            bar.update()
            done = step + 1
            if done % interval == 0:
                losses.append(float(total) / interval)
                total = 0.0
                bar.set_postfix(loss=f"{losses[-1]:.3f}")
            if signals or cache.due:
                state = {name: part.state_dict() for name, part in parts.items()}
                cache.save_state(state | {"done": done, "losses": losses, "total": float(total)})
            if signals:
                raise KeyboardInterrupt if signals[-1] == signal.SIGINT else SystemExit(128 + signals[-1])
    return losses


@contextmanager
def delay_signals() -> Iterator[list[int]]:
    """Yield a list that collects SIGINT and SIGTERM, instead of their usual effect.

    A second Ctrl-C raises KeyboardInterrupt immediately. Outside the main thread, where Python allows no
    signal handlers, signals have their usual effect.
    """
    signals: list[int] = []

    def record(number: int, frame: object) -> None:
        if number == signal.SIGINT and signals:
            raise KeyboardInterrupt
        signals.append(number)

    is_main = threading.current_thread() is threading.main_thread()
    handlers = {n: signal.signal(n, record) for n in (signal.SIGINT, signal.SIGTERM) if is_main}
    try:
        yield signals
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
