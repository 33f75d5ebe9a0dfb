"""Repeat a training step that was not finite, from its record, and find where it stops being finite."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from cim_lightning.atomic import read_json
from cim_lightning.callbacks.nonfinite_records import WEIGHTS
from cim_lightning.callbacks.step_seed import step_seed
from cim_lightning.checkpoint import RunCheckpoint, read_weights
from cim_lightning.config.from_checkpoint import build, load
from cim_lightning.config.trusted_targets import check_trusted
from cim_lightning.data.batch import Batch
from cim_lightning.errors import ConfigError
from cim_lightning.finite_step import propagate
from cim_lightning.lightning_internals import quiet

ENTRIES = {"step", "precision", "scale", "rank", "batches"}  # of a record


@dataclass(frozen=True)
class Replay:
    """A repeated step."""

    losses: list[float]  # of its batches
    recorded: list[float]  # losses of the training step; the same on the same kind of CPU
    norms: dict[str, float]  # of the gradients, by parameter
    first: (
        str | None
    )  # the first tensor that is not finite, such as "output of decoder"; None: all are finite
    images: list[str]

    @property
    def finite(self) -> bool:
        """Whether all losses and gradients are finite."""
        return all(map(math.isfinite, (*self.losses, *self.norms.values())))

    @property
    def repeats(self) -> bool:
        """Whether the losses equal the recorded ones."""
        return [str(loss) for loss in self.losses] == [str(loss) for loss in self.recorded]


def replay(file: str | Path, device: str = "cpu", trusted_packages: Iterable[str] = ()) -> Replay:
    """Repeat the step of a record in the folder `nonfinite` of a run, with its images, views and crops.

    The images are read again from where the run read them. With several devices, it repeats the part of one;
    the loss differs where a method combines the devices. On a GPU, the weights may be of up to two steps
    later (`later_steps` of the record).

    Args:
        file: `step-....json`, with `weights.ckpt` beside it.
        device: on which to repeat it, such as "cuda".
        trusted_packages: whose classes the settings of the run may name, besides those of conf/.

    Raises:
        ConfigError: it is no such file, its weights are missing, or the images have changed.
    """
    file = Path(file)
    record = _read(file)
    weights = read_weights(str(file.with_name(WEIGHTS)))
    if not isinstance(weights, RunCheckpoint):
        raise ConfigError("file", file, "is not of a run of cim-pretrain, whose settings a replay needs")
    method, _ = load(weights, trusted_packages=trusted_packages)
    check_trusted(weights.settings["data"], weights.path, trusted_packages)
    data = build(weights.settings["data"])
    dataset: Any = data.train_dataloader().dataset
    accelerator = "gpu" if device.startswith("cuda") else device
    with quiet(), torch.random.fork_rng(), _watch(method) as watch:
        options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "devices": 1}
        trainer = L.Trainer(accelerator=accelerator, precision=record["precision"], **options)
        precision: Any = trainer.precision_plugin
        method = precision.convert_module(method).to(trainer.strategy.root_device)
        losses, images, scale = [], [], record["scale"] or 1.0
        for entry in record["batches"]:
            batch = _batch(dataset, entry, file)
            images += entry["images"]
            batch = method.transfer_batch_to_device(precision.convert_input(batch), method.device, 0)
            crops, labels = data.on_after_batch_transfer(batch, 0)
            torch.manual_seed(step_seed(weights.settings["seed"], record["rank"], entry["number"]))
            watch.check("crops", crops)
            with precision.train_step_context():
                loss = method.compute_batch_losses((crops, labels))["loss"]
            watch.check("loss", loss)
            losses.append(loss.item())
            propagate(loss / len(record["batches"]) * scale).backward()
        gradients = {n: p.grad / scale for n, p in method.named_parameters() if p.grad is not None}
    for name, gradient in gradients.items():
        watch.check(f"gradient of {name}", gradient)
    norms = {name: float(gradient.norm()) for name, gradient in gradients.items()}
    recorded = [float(entry["loss"]) for entry in record["batches"]]
    return Replay(losses, recorded, norms, watch.first, images)


class _Watch:
    """Finds the first tensor that is not finite."""

    def __init__(self) -> None:
        self.first: str | None = None

    def check(self, name: str, values: Any) -> None:
        tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
        if self.first is None and not all(tensor.isfinite().all() for tensor in tensors):
            self.first = name

    def outputs(self, name: str, values: Any) -> None:
        """Check the outputs of a module, and their gradients in the backward pass."""
        self.check(f"output of {name}", values)
        for leaf in tree_leaves(values):
            if isinstance(leaf, Tensor) and leaf.requires_grad:
                leaf.register_hook(lambda gradient: self.check(f"gradient of the output of {name}", gradient))


@contextmanager
def _watch(method: nn.Module) -> Iterator[_Watch]:
    """Check the weights of a method, and in the block all outputs of its modules."""
    watch = _Watch()
    for name, tensor in (*method.named_parameters(), *method.named_buffers()):
        watch.check(name, tensor)
    hooks = [
        module.register_forward_hook(lambda *args, name=name: watch.outputs(name, args[-1]))
        for name, module in method.named_modules()
        if name
    ]
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ConfigError("file", file, "does not exist", hint="try RUN/nonfinite/step-.../step-....json")
    record = read_json(file)
    if not record.keys() >= ENTRIES or not isinstance(record["batches"], list):
        raise ConfigError("file", file, "is not the record of a step", hint="try a file in RUN/nonfinite")
    if any("indices" not in entry for entry in record["batches"]):
        raise ConfigError("file", file, "does not say which images the step had; its loader was no ImageData")
    return record


def _batch(dataset: Any, entry: dict[str, Any], file: Path) -> Batch:
    keys = list(zip(entry["epochs"], entry["indices"], strict=True))
    if max(entry["indices"]) < len(dataset):
        batch = dataset.__getitems__(keys)
        if isinstance(batch, Batch) and batch.samples.seeds.tolist() == entry["seeds"]:
            return batch
    hint = "restore the folder of the run's images"
    raise ConfigError("file", file, "the images of the run have changed since", hint=hint)
