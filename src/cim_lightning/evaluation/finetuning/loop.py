"""Steps of an optimizer, kept now and then: however often interrupted, they end in the same weights."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from cim_lightning.evaluation.finetuning.graceful_exit import GracefulExit
from cim_lightning.evaluation.training_cache import TrainingCache
from cim_lightning.rng import fork_rng

NOTES = 100  # mean losses noted over a training: each waits for the device


class Loop:
    """Trains a model for a number of steps.

    Args:
        title: shown before the progress bar.
        steps: of the optimizer.
        seed: with the number of a step, of all that the step draws.
        kept: where the training is kept.
    """

    def __init__(self, title: str, steps: int, seed: int, kept: TrainingCache):
        self.title, self.steps, self.seed, self.kept = title, steps, seed, kept

    def __call__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Any,
        batches: Callable[[int], Iterable[Sequence[Any]]],
        loss_of: Callable[[Any], Tensor],
        averaged: Any = None,
    ) -> list[float]:
        """Trains the model in place and gives back the mean losses of up to a hundred stretches of it.

        Args:
            model: whose loss falls; in training mode.
            optimizer, schedule: stepped together.
            batches: from a step's number on, what each step trains on: one or more pieces of equal size,
                whose gradients are averaged.
            loss_of: the mean loss of a piece.
            averaged: follows the model after each step, by `update_parameters`; None: nothing does.
        """
        parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
        parts |= {} if averaged is None else {"averaged": averaged}
        done, losses, total = self._restored(parts)
        every = max(self.steps // NOTES, 1)
        bar = tqdm(total=self.steps, initial=done, desc=self.title, unit="step", leave=False, disable=None)
        with GracefulExit() as interruption, bar:
            for step, pieces in zip(range(done, self.steps), batches(done), strict=False):
                with fork_rng(self.seed, step):
                    for piece in pieces:
                        loss = loss_of(piece) / len(pieces)
                        loss.backward()
                        total = total + loss.detach()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                schedule.step()
                if averaged is not None:
                    averaged.update_parameters(model)
                bar.update()
                done = step + 1
                if done % every == 0:
                    losses.append(float(total) / every)
                    total = 0.0
                    bar.set_postfix(loss=f"{losses[-1]:.3f}")
                if interruption.asked is not None or self.kept.due:
                    state = {name: part.state_dict() for name, part in parts.items()}
                    self.kept.keep(state | {"done": done, "losses": losses, "total": float(total)})
                interruption.raise_if_requested()
        return losses

    def _restored(self, parts: dict[str, Any]) -> tuple[int, list[float], Tensor | float]:
        """Brings the parts to where the same training was kept: steps done, losses noted, and since then."""
        state = self.kept.begun()
        if state is None:
            return 0, [], 0.0
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return state["done"], state["losses"], state["total"]
