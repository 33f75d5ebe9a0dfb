"""Records of steps that are not finite, their replay, and the end of a run that does not recover."""

import errno
import json
import logging
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch

from cim_lightning.api import compose
from cim_lightning.callbacks.finite_guard import FiniteGuard, find_guard, in_streak
from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.errors import ConfigError, RunError
from cim_lightning.finite_step import StepResult
from cim_lightning.lightning_internals import quiet
from cim_lightning.methods.cim import CIM
from cim_lightning.replay import ENTRIES, replay

LEAVE_OUT = ["callbacks.knn=null", "callbacks.best=null", "callbacks.progress=null", "logger=[]"]


@pytest.fixture
def bad_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is finite, and its gradient is NaN."""
    compute_losses = CIM.compute_losses

    def patched(self: CIM, *batch: Any) -> dict[str, torch.Tensor]:
        losses = compute_losses(self, *batch)
        zero = (0 * self.decoder.embed.weight).sum()
        return losses | {"loss": losses["loss"] + zero.sqrt()}  # its derivative at 0 is infinite

    monkeypatch.setattr(CIM, "compute_losses", patched)


@pytest.fixture
def bad_batch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The crops of one image are NaN. Returns the list of the image's seed, which the test fills."""
    seeds: list[int] = []
    call = ExemplarCropper.__call__

    def patched(self: ExemplarCropper, views: torch.Tensor, given: Any) -> Any:
        crops = call(self, views, given)
        bad = torch.isin(torch.as_tensor(given), torch.tensor(seeds, dtype=torch.long))
        if bad.any():
            crops.context[bad] = math.nan
        return crops

    monkeypatch.setattr(ExemplarCropper, "__call__", patched)
    return seeds


def train(tiny: list[str], folder: Any, *overrides: str) -> Any:
    run = compose(*tiny, *LEAVE_OUT, f"output_dir={folder}", "trainer.limit_val_batches=1", *overrides)
    with quiet():
        run.trainer.fit(run.method, run.data)
    return run


def seed_of_an_image(tiny: list[str], batch: int) -> int:
    """Return the seed of the second image in a batch of the first epoch."""
    loader: Any = compose(*tiny, *LEAVE_OUT).data.train_dataloader()
    keys = [keys for keys, _ in zip(loader.batch_sampler, range(batch + 1), strict=False)]
    return loader.dataset[keys[batch][1]].seed


@pytest.mark.fault(
    "numbers",
    "every gradient is NaN",
    "after 10 skipped steps the run ends with exit code 1; the checkpoints have the weights from before",
)
def test_a_run_that_does_not_recover_ends_and_its_steps_can_be_replayed(
    bad_gradients, tiny, run_pretrain, tmp_path, capsys
):
    settings = ["callbacks.finite_guard.max_in_a_row=3", "callbacks.last.every_minutes=0", "output_dir=run"]
    settings += ["callbacks.run_summary=null", "trainer.limit_val_batches=1"]
    with pytest.raises(SystemExit) as caught:
        run_pretrain(*tiny, *LEAVE_OUT, *settings)
    assert caught.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cim-pretrain: ")]
    assert re.match(
        r"cim-pretrain: stopped: 3 steps in a row, from step 0 on, .* none of them .* "
        r"a lower learning rate \(optim\.base_lr\), or .*trainer\.gradient_clip_val",
        line,
    )
    tmp_path = tmp_path / "run"
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()
    files = sorted((tmp_path / "nonfinite" / "step-00000000").glob("*.json"))
    assert [file.stem for file in files] == ["step-00000000", "step-00000001", "step-00000002"]
    warmup = 40 / 300 * 10  # steps
    assert json.loads(files[1].read_text())["lr"] == pytest.approx([0.1 * 8 / 256 / warmup] * 2)
    for file in files[2:]:
        record = json.loads(file.read_text())
        repeated = replay(file)
        assert repeated.repeats
        assert math.isfinite(repeated.losses[0])  # bit for bit, with stochastic depth
        assert not repeated.finite
        assert repeated.first == "gradient of decoder.embed.weight"  # no output of a layer
        assert record["grad_norm"] == "nan"
        norms = {name: float(norm) for name, norm in record["grad_norms"].items()}
        assert repeated.norms == pytest.approx(norms, nan_ok=True)
        assert [name for name, norm in norms.items() if math.isnan(norm)] == ["decoder.embed.weight"]
        assert len(record["batches"][0]["images"]) == 8


@pytest.mark.fault("numbers", "a crop of one image is NaN", "the step is skipped, recorded and counted")
def test_a_single_bad_batch_is_recorded_and_training_continues(bad_batch, tiny, tmp_path, caplog):
    bad_batch.append(seed_of_an_image(tiny, batch=2))
    caplog.set_level(logging.INFO)
    run = train(tiny, tmp_path, "trainer.accumulate_grad_batches=2", "trainer.max_epochs=3")
    guard = find_guard(run.trainer)
    assert guard is not None
    assert (guard.skipped, guard.in_a_row) == (1, 0)
    assert json.loads((tmp_path / "metrics.json").read_text())["skipped_steps"] == 1
    (file,) = (tmp_path / "nonfinite").rglob("*.json")
    assert file == tmp_path / "nonfinite/step-00000001/step-00000001.json"
    lines = [record.getMessage() for record in caplog.records if "finite" in record.name]
    assert lines[0].startswith("skipped step 1: loss ")
    assert str(file) in lines[0]
    assert lines[1].startswith(f"skipped 1 of {run.trainer.global_step} steps, which were not finite; see ")
    assert all(parameter.isfinite().all() for parameter in run.method.parameters())
    record = json.loads(file.read_text())
    assert [batch["loss"] == "nan" for batch in record["batches"]] == [True, False]  # batches 2 and 3
    assert record["batches"][0]["seeds"][1] == bad_batch[0]
    repeated = replay(file)
    assert (repeated.first, repeated.repeats, repeated.finite) == ("crops", True, False)
    assert repeated.images[1] in record["batches"][0]["images"]
    record["batches"][1]["seeds"][3] += 1
    file.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="the images of the run have changed since"):
        replay(file)
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    (state,) = [state for key, state in checkpoint["callbacks"].items() if "FiniteGuard" in key]
    assert state["skipped"] == 1


class Steps:
    """A guard, and a trainer and a method whose steps have given results."""

    def __init__(self, folder: Path, lag: int = 0, **options: Any):
        self.guard = FiniteGuard(str(folder), **options)
        self.module = torch.nn.Linear(1, 1)
        self.module.finite_step = SimpleNamespace(result=None)
        self.module.hparams, self.module.device = {}, torch.device("cpu")
        self.module.on_save_checkpoint = lambda checkpoint: None
        self.trainer = MagicMock(
            spec=L.Trainer, lightning_module=self.module, is_global_zero=True, global_rank=0
        )
        self.trainer.configure_mock(world_size=1, global_step=0, current_epoch=0, gradient_clip_val=None)
        self.trainer.configure_mock(precision="16-mixed", accumulate_grad_batches=1, datamodule=None)
        self.trainer.strategy = SimpleNamespace(
            root_device=torch.device("cpu"), reduce_boolean_decision=lambda decision, all: decision
        )
        self.trainer.fit_loop = MagicMock()
        self.trainer.fit_loop.epoch_loop.batch_progress.total.processed = 1
        self.guard.on_train_start(self.trainer, self.module)
        self.guard.lag = lag

    def step(self, loss: float = 1.0, norm: float = 1.0, scale: float | None = None) -> None:
        scalars = [torch.tensor(value) for value in (loss, norm, float(math.isfinite(norm)))]
        factor = None if scale is None else torch.tensor(scale)
        parameters = [self.module.weight]
        self.module.finite_step.result = StepResult(
            [scalars[0]], parameters, torch.tensor([norm]), scalars[1], scalars[2], [0.1], factor
        )
        self.trainer.global_step += 1
        self.guard.on_train_batch_end(self.trainer, self.module, {}, None, 0)


def records(folder: Path) -> dict[str, int]:
    """Return the number of records of each streak."""
    return {streak.name: len(list(streak.glob("*.json"))) for streak in sorted(folder.iterdir())}


@pytest.mark.parametrize("lag", [0, 2])
def test_results_that_arrive_later_are_counted_alike(lag, tmp_path):
    """On a GPU, a result is read two steps later, and the run stops two steps later."""
    run = Steps(tmp_path / "nonfinite", lag, max_in_a_row=3)
    for norm in (1, math.nan, 1, math.inf, math.nan, 1):
        run.step(norm=norm)
    assert run.guard.state_dict() == {"skipped": 3, "in_a_row": 0, "overflows": 0, "first": 3}
    assert records(tmp_path / "nonfinite") == {"step-00000001": 1, "step-00000003": 2}
    for _ in range(2 + lag):
        run.step(norm=math.nan)
    with pytest.raises(RunError, match=r"^stopped: 3 steps in a row, from step 6 on"):
        run.step(norm=math.nan)
    assert run.trainer.global_step == 6 + 3 + lag
    later = {file.stem: json.loads(file.read_text())["later_steps"] for file in tmp_path.rglob("*.json")}
    assert later["step-00000006"] == lag


def test_pending_results_are_read_at_the_end_of_training(tmp_path):
    run = Steps(tmp_path / "nonfinite", lag=2, max_in_a_row=2)
    run.step(norm=math.nan)
    run.step(norm=math.nan)
    with pytest.raises(RunError, match=r"^stopped: 2 steps in a row"):
        run.guard.on_train_end(run.trainer, run.module)


@pytest.mark.fault(
    "numbers", "fp16 gradients overflow", "the step is not counted while the loss scale can fall"
)
def test_an_overflow_of_fp16_is_told_apart(tmp_path):
    run = Steps(tmp_path / "nonfinite")
    run.step(norm=math.inf, scale=65536.0)  # an overflow
    assert (run.guard.skipped, run.guard.overflows) == (0, 1)
    run.step(loss=math.nan, norm=math.nan, scale=32768.0)  # of the forward pass
    run.step(norm=math.inf, scale=1.0)  # no smaller scale can help
    assert (run.guard.skipped, run.guard.overflows, run.guard.in_a_row) == (2, 1, 2)
    assert records(tmp_path / "nonfinite") == {"step-00000001": 2}


def test_the_newest_streaks_stay(tmp_path):
    run = Steps(tmp_path / "nonfinite")
    for _ in range(5):
        run.step(norm=math.nan)
        run.step()
    assert list(records(tmp_path / "nonfinite")) == ["step-00000004", "step-00000006", "step-00000008"]
    assert len(list(tmp_path.rglob("weights.ckpt"))) == 3


@pytest.mark.fault("disk", "full while a skipped step is recorded", "one warning; training continues")
def test_a_full_disk_does_not_end_training(tmp_path, monkeypatch, caplog):
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    run = Steps(tmp_path / "nonfinite")
    run.step(norm=math.nan)
    run.step()
    assert run.guard.skipped == 1
    assert "step 0 cannot be recorded" in caplog.text
    assert "No space left on device" in caplog.text
    assert not list(tmp_path.rglob("*.ckpt"))


def test_no_timed_save_happens_while_steps_are_skipped(tmp_path):
    run = Steps(tmp_path)
    run.trainer.callbacks = [run.guard]
    assert not in_streak(run.trainer)
    run.step(norm=math.nan)
    assert in_streak(run.trainer)
    run.step()
    assert not in_streak(run.trainer)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "does not exist"),
        ('{"step": 3}', "is not the record of a step"),
        (
            json.dumps(dict.fromkeys(sorted(ENTRIES)) | {"batches": [{"loss": 1}]}),
            "does not say which images",
        ),
        ("{", "damaged"),
    ],
)
def test_a_file_that_cannot_be_replayed_is_reported_in_one_line(content, rule, tmp_path):
    file = tmp_path / "step-00000003.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=f"^[^\n]*{rule}[^\n]*$"):
        replay(file)


def test_a_guard_needs_at_least_one_step(tmp_path):
    with pytest.raises(ConfigError, match=r"^max_in_a_row=0: must be at least 1"):
        FiniteGuard(str(tmp_path), max_in_a_row=0)
