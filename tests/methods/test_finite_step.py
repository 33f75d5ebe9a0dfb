"""A step whose loss or gradients are not finite leaves no trace: as if it had been left out."""

import copy
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from cim_lightning.cropping.correlation_metrics import MeanMapBaseline
from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.cropping.masking import MaskedCropper
from cim_lightning.cropping.multi_crop import MultiCropper
from cim_lightning.cropping.random_crop import RandomCrop
from cim_lightning.cropping.resize import ImageBatch
from cim_lightning.finite_step import FiniteStep, clip_gradients, propagate
from cim_lightning.methods.cim import CIM
from cim_lightning.methods.dino import DINO
from cim_lightning.methods.method import Method
from cim_lightning.methods.moco_v3 import MoCoV3
from cim_lightning.methods.simmim import SimMIM
from cim_lightning.models.decoder import CorrelationDecoder
from cim_lightning.models.heads import ContrastiveHead, DINOHead
from cim_lightning.models.target import EmaTarget
from cim_lightning.optim import AdamWCosine

pytestmark = pytest.mark.filterwarnings(
    "ignore:Found .* in eval mode",  # the EMA target
    "ignore:.*does not have many workers",
    "ignore:You defined a `validation_step` but have no `val_dataloader`",
)
BATCH, BATCHES, BAD = 4, 6, 2
CROP = RandomCrop(16, [0.25, 1.0], [0.75, 4 / 3], flip=0.5)
MULTI_CROP = MultiCropper(CROP, CROP, None, num_local_crops=0)
SMALL = {"optim": AdamWCosine(base_lr=0.5, warmup=0.0, weight_decay_end=0.2), "batch_size": BATCH}
DINO_HEAD = functools.partial(DINOHead, hidden_dim=12, bottleneck_dim=8, out_dim=10)
CASES: dict[str, tuple[Any, Callable[..., Method]]] = {
    "cim": (
        ExemplarCropper(2, context_size=16, exemplar_size=8, appearance=None),
        functools.partial(
            CIM,
            decoder=functools.partial(CorrelationDecoder, width=16, num_heads=2),
            baseline=MeanMapBaseline(loss=0.5, iou=0.25, best_iou=0.3, pointing=0.1),
            target=functools.partial(EmaTarget, momentum=0.7, tied=["cls_token"]),
            **SMALL,
        ),
    ),
    "dino": (MULTI_CROP, functools.partial(DINO, head=DINO_HEAD, freeze_last_layer=0.4, **SMALL)),
    "moco_v3": (
        MULTI_CROP,
        functools.partial(
            MoCoV3, head=functools.partial(ContrastiveHead, hidden_dim=12, out_dim=10), **SMALL
        ),
    ),
    "simmim": (MaskedCropper(16, mask_patch_size=8, mask_ratio=0.5), functools.partial(SimMIM, **SMALL)),
}


class LeaveOut(L.Callback):
    """Undo the step of one batch: the oracle. Schedules and counters move on."""

    def __init__(self, batch: int, accumulate: int):
        self.first, self.last = batch - batch % accumulate, batch - batch % accumulate + accumulate - 1

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == self.first:
            state = copy.deepcopy(pl_module.state_dict())
            self.state = {name: value for name, value in state.items() if name != "target_temp"}
            self.optimizer = copy.deepcopy(trainer.optimizers[0].state_dict()["state"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == self.last:
            pl_module.load_state_dict(self.state, strict=False)
            state = trainer.optimizers[0].state_dict() | {"state": self.optimizer}
            trainer.optimizers[0].load_state_dict(state)


def batches(name: str, bad: int | None = None, value: float = math.nan) -> DataLoader[Any]:
    """Return batches of crops; in batch `bad`, one pixel has another value."""
    result = []
    for seed in range(BATCHES):
        generator = torch.Generator().manual_seed(seed)
        views = torch.randint(0, 256, (BATCH, 3, 20, 20), dtype=torch.uint8, generator=generator)
        crops = CASES[name][0](views, seed)
        if seed == bad:
            field = next(f for f in crops._fields if getattr(crops, f).dtype == torch.float32)
            getattr(crops, field).view(-1)[7] = value
        result.append(crops)
    return DataLoader(result, batch_size=None)


def fit(method: Method, loader: Any, callbacks: Any = (), **options: Any) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 1, "gradient_clip_val": 1.0} | options,
    )
    trainer.fit(method, loader)
    return trainer


def run_state(method: Method, trainer: L.Trainer) -> dict[str, Any]:
    optimizer = trainer.optimizers[0].state_dict()
    return {"weights": method.state_dict(), "optimizer": optimizer}


def assert_equal(first: Any, second: Any) -> None:
    torch.testing.assert_close(first, second, atol=0, rtol=0, equal_nan=False)


@pytest.mark.fault("numbers", "an input of one step is NaN", "the step is not applied; training continues")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cim", {}),
        ("dino", {"gradient_clip_val": None}),
        ("moco_v3", {"accumulate_grad_batches": 2}),
        ("simmim", {"gradient_clip_algorithm": "value"}),
        ("simmim", {"precision": "bf16-mixed"}),
    ],
)
def test_a_bad_step_equals_a_step_that_was_left_out(name, options, vit):
    accumulate = options.get("accumulate_grad_batches", 1)
    method, reference = CASES[name][1](vit()), CASES[name][1](vit())
    assert_equal(method.state_dict(), reference.state_dict())
    trainer = fit(method, batches(name, BAD), **options)
    expected = fit(reference, batches(name), [LeaveOut(BAD, accumulate)], **options)
    assert_equal(run_state(method, trainer), run_state(reference, expected))
    assert trainer.global_step == BATCHES // accumulate
    steps = {float(state["step"]) for state in trainer.optimizers[0].state.values()}
    assert max(steps) == BATCHES // accumulate - 1
    other = CASES[name][1](vit())
    fit(other, batches(name), **options)  # the step matters
    assert not torch.equal(next(other.backbone.parameters()), next(method.backbone.parameters()))


class InfiniteLoss(SimMIM):
    """The loss is infinite in one step, and its gradients are finite."""

    def compute_losses(self, crops):
        losses = super().compute_losses(crops)
        if self.trainer.fit_loop.batch_idx == BAD:
            losses["loss"] = losses["loss"] + math.inf
        return losses


def test_an_infinite_loss_with_finite_gradients_is_not_applied(vit):
    method, reference = InfiniteLoss(vit(), **SMALL), SimMIM(vit(), **SMALL)
    reference.load_state_dict(method.state_dict())
    trainer = fit(method, batches("simmim"))
    expected = fit(reference, batches("simmim"), [LeaveOut(BAD, 1)])
    assert_equal(run_state(method, trainer), run_state(reference, expected))


class SaveState(L.Callback):
    """Save the final state of each process."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        torch.save(run_state(pl_module, trainer), self.folder / f"{trainer.global_rank}.pt")


class InfiniteOnOneDevice(InfiniteLoss):
    """Only the second process has an infinite loss."""

    def compute_losses(self, crops):
        return (super() if self.global_rank == 1 else super(InfiniteLoss, self)).compute_losses(crops)


@pytest.mark.fault("numbers", "the loss of one of two devices is infinite", "no device applies the step")
def test_all_devices_skip_the_step_of_one(vit, tmp_path):
    method, reference = InfiniteOnOneDevice(vit(), **SMALL), SimMIM(vit(), **SMALL)
    reference.load_state_dict(method.state_dict())
    options = {"strategy": "ddp_fork", "devices": 2, "use_distributed_sampler": False}
    fit(method, batches("simmim"), [SaveState(tmp_path)], **options)
    # Both devices have the same images, so the mean gradient is that of one.
    reference.batch_size = 2 * BATCH  # of the learning rate
    reference._batch_size_checked = True
    expected = fit(reference, batches("simmim"), [LeaveOut(BAD, 1)])
    states = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert_equal(states[0], states[1])
    torch.testing.assert_close(states[0], run_state(reference, expected), atol=1e-6, rtol=1e-5)


def sgd(module: torch.nn.Module, *_: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """An optimizer without `found_inf`."""
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 0.1, momentum=0.9)
    return optimizer, LambdaLR(optimizer, lambda step: 1.0)


def test_an_optimizer_without_found_inf_skips_the_step_too(vit):
    small = SMALL | {"optim": sgd}
    method, reference = SimMIM(vit(), **small), SimMIM(vit(), **small)
    reference.load_state_dict(method.state_dict())
    trainer = fit(method, batches("simmim", BAD, math.inf))
    expected = fit(reference, batches("simmim"), [LeaveOut(BAD, 1)])
    assert_equal(run_state(method, trainer), run_state(reference, expected))


def test_the_norm_and_the_clipped_gradients_are_those_of_torch():
    torch.manual_seed(0)
    for value in (None, 0.5, 100.0):
        module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        gradients = [p.grad.clone() for p in module.parameters()]
        result = FiniteStep(module).check(torch.optim.SGD(module.parameters(), 0.1))
        clip_gradients(result, value, None)
        assert torch.equal(result.norm, torch.nn.utils.get_total_norm(gradients))
        assert_equal(result.norms, torch.stack([g.norm() for g in gradients]))
        factor = 1 if value is None else min(value / (float(result.norm) + 1e-6), 1)
        for parameter, gradient in zip(module.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient * factor)


class Slope(Method):
    """The gradient of its only weight is the mean brightness of a batch."""

    batch_type = ImageBatch

    def __init__(self, backbone: Any, optim: Any):
        super().__init__(backbone.requires_grad_(False), optim, batch_size=1)
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def compute_losses(self, crops):
        return {"loss": self.weight * crops.images.mean()}


@pytest.mark.parametrize(
    ("accumulate", "epoch"),
    [
        (1, [0.25, 0.75, 0.5]),
        (2, [(0.25 + 0.75) / 2, 0.5]),  # Lightning alone: 0.5 / 2 in the last step
        (3, [(0.25 + 0.75 + 0.5) / 3]),
        (4, [(0.25 + 0.75 + 0.5) / 3]),
    ],
)
def test_the_gradient_of_a_step_is_the_mean_of_its_batches(accumulate, epoch, vit):
    def plain_sgd(module: torch.nn.Module, *_: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
        optimizer = torch.optim.SGD(module.parameters(), 0.5)
        return optimizer, LambdaLR(optimizer, lambda step: 1.0)

    method, norms = Slope(vit(), plain_sgd), Norms()
    loader = DataLoader([ImageBatch(torch.full((1, 3, 2, 2), value)) for value in (0.25, 0.75, 0.5)], None)
    trainer = fit(method, loader, [norms], max_epochs=2, accumulate_grad_batches=accumulate)
    last_batches = [min(first + accumulate, 3) - 1 for first in range(0, 3, accumulate)]
    found = [float(norms.results[epoch * 3 + batch].norm) for epoch in range(2) for batch in last_batches]
    assert found == pytest.approx(epoch * 2)
    assert float(method.weight.detach()) == pytest.approx(-0.5 * 2 * sum(epoch))
    assert trainer.global_step == trainer.estimated_stepping_batches == 2 * len(epoch)


@pytest.mark.fault("numbers", "fp16 gradients overflow", "the step is not applied; the loss scale is halved")
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step")  # torch's note on a skipped first step
def test_a_gradient_that_overflows_in_fp16_lowers_the_scale(vit):
    """The fused optimizer skips the step; clipping uses gradients without the scale."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
    norms = Norms()
    method = SimMIM(vit(), **SMALL)
    fit(method, batches("simmim"), [norms], plugins=MixedPrecision("16-mixed", "cpu", scaler))
    applied = [bool(result.applied) for result in norms.results]
    assert applied[0] is False
    assert scaler.get_scale() == 2.0 ** (127 - applied.count(False))
    assert [float(result.scale) for result in norms.results[:2]] == [2.0**127, 2.0**126]


def test_a_loss_scale_does_not_change_the_steps(vit):
    """The gradients are those of an unscaled loss, up to rounding in fp16."""
    states = []
    for scale in (1.0, 1024.0):
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        method, norms = SimMIM(vit(), **SMALL), Norms()
        fit(method, batches("simmim"), [norms], plugins=MixedPrecision("16-mixed", "cpu", scaler))
        states.append([float(result.norm) for result in norms.results])
        assert all(result.applied for result in norms.results)
    assert states[0] == pytest.approx(states[1], rel=1e-2)


class Norms(L.Callback):
    """Records the result of each step."""

    def __init__(self):
        self.results = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.results.append(pl_module.finite_step.result)


@pytest.mark.parametrize(("value", "gradient"), [(0.1, 3.0), (-2.5, 3.0), (math.inf, math.nan)])
def test_a_finite_loss_and_its_gradient_do_not_change(value, gradient):
    weight = torch.tensor(0.0, requires_grad=True)
    loss = 3 * weight + value
    propagated = propagate(loss)
    propagated.backward()
    assert torch.equal(propagated, loss) or not math.isfinite(value)
    assert weight.grad is not None
    assert_equal(weight.grad.nan_to_num(-1), torch.tensor(gradient).nan_to_num(-1))


def test_detect_anomaly_still_names_the_function(vit):
    with pytest.raises(RuntimeError, match=r"Function '(?!MulBackward)\w+' returned nan values"):
        fit(SimMIM(vit(), **SMALL), batches("simmim", BAD), detect_anomaly=True)
