"""Records of steps that are not finite, their replay, and the end of a run that does not recover."""

import json
import logging
import math
from typing import Any

import pytest
import torch

from cim_lightning.api import compose
from cim_lightning.callbacks.finite_guard import find_guard
from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.errors import RunError
from cim_lightning.lightning_internals import quiet
from cim_lightning.methods.cim import CIM
from cim_lightning.replay import replay

LEAVE_OUT = ["callbacks.knn=null", "callbacks.best=null", "callbacks.progress=null", "logger=[]"]


@pytest.fixture
def bad_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is finite, and its gradient is NaN."""
    compute_losses = CIM.compute_losses

    def patched(self: CIM, crops: Any) -> dict[str, torch.Tensor]:
        losses = compute_losses(self, crops)
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
def test_a_run_that_does_not_recover_ends_and_its_steps_can_be_replayed(bad_gradients, tiny, tmp_path):
    with pytest.raises(
        RunError, match=r"^stopped: 3 steps in a row, from step 0 on, .* a lower learning rate"
    ):
        train(tiny, tmp_path, "callbacks.finite_guard.max_in_a_row=3", "callbacks.last.every_minutes=0")
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()
    files = sorted((tmp_path / "nonfinite" / "step-00000000").glob("*.json"))
    assert [file.stem for file in files] == ["step-00000000", "step-00000001", "step-00000002"]
    warmup = 40 / 300 * 10  # steps
    assert json.loads(files[1].read_text())["lr"] == pytest.approx([0.1 * 8 / 256 / warmup] * 2)
    for file in files[1:]:
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
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    (state,) = [state for key, state in checkpoint["callbacks"].items() if "FiniteGuard" in key]
    assert state["skipped"] == 1
