"""Resume on other devices and batches: what was trained is counted in images."""

from functools import partial
from itertools import islice
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import lightning as L
import pytest
import torch
from PIL import Image

from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.source import Splits
from cim_lightning.errors import ConfigError

STEP = 6  # images per optimizer step; an epoch of 20 images has three steps


class Blank:
    """Gray images."""

    classes = None

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("RGB", (8, 8)), -1


def splits(count: int) -> Splits:
    return Splits(Blank(count), Blank(4))


def data(batch_size: int, world_size=1, accumulate=1, rank=0, limit: Any = 1.0, count=20) -> ImageData:
    """A data module of one device."""
    images = ImageData(partial(splits, count), lambda views, seeds: views, batch_size, 0, 8)
    images.trainer = Mock(
        L.Trainer,
        num_devices=world_size,
        world_size=world_size,
        global_rank=rank,
        accumulate_grad_batches=accumulate,
        limit_train_batches=limit,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=counters())),
    )
    return images


def counters() -> Any:
    return SimpleNamespace(total=SimpleNamespace(processed=0))


def resume(images: ImageData, state: dict[str, Any], total: int, current: int) -> dict[str, Any]:
    """Load a state as Lightning does; return its counters of batches, which were `total` and `current`."""
    progress = {"total": {"processed": total}, "current": {"processed": current}, "is_last_batch": False}
    loops = {"fit_loop": {"epoch_loop.batch_progress": progress}}
    trainer: Any = images.trainer
    trainer._checkpoint_connector = SimpleNamespace(_loaded_checkpoint={"loops": loops})
    images.load_state_dict(state)
    return progress


def train(images: ImageData, batches: int, restored: int = 0) -> list[tuple[int, int]]:
    """Train on some batches; return the epochs and indices of their images.

    Args:
        restored: Lightning's number of batches so far, which it restores after the workers have started.
    """
    found, trainer = [], cast(Any, images.trainer)
    for number, batch in enumerate(islice(images.train_dataloader(), batches), start=1):
        found += zip(batch.samples.epochs.tolist(), batch.samples.indices.tolist(), strict=True)
        trainer.fit_loop.epoch_loop.batch_progress.total.processed = restored + number
    return found


DIVISIONS = [(6, 1, 1), (3, 1, 2), (2, 1, 3), (3, 2, 1), (1, 2, 3), (2, 3, 1)]  # batch, devices, accumulated


@pytest.mark.parametrize("steps", [0, 2, 5])
@pytest.mark.parametrize("after", DIVISIONS)
@pytest.mark.fault(
    "process",
    "the run resumes on other devices, with other batches or workers, at the same images per step",
    "the same images in the same order, with the same views and crops",
)
def test_the_steps_after_a_resume_have_the_same_images(steps, after):
    straight = train(data(STEP), 8)
    before = data(3, 1, 2)
    assert sorted(train(before, 2 * steps)) == sorted(straight[: STEP * steps])
    state = before.state_dict()
    assert state["images"] == STEP * steps
    size, world_size, accumulate = after
    devices = [data(size, world_size, accumulate, rank) for rank in range(world_size)]
    shares = []
    for device in devices:
        restored = resume(device, state, total=2 * steps, current=0)["total"]["processed"]
        assert restored == steps * accumulate
        assert device.state_dict()["images"] == STEP * steps
        shares.append(train(device, 3 * accumulate, restored))
        assert device.state_dict()["images"] == STEP * (steps + 3)
    for step in range(3):
        part = slice(step * size * accumulate, (step + 1) * size * accumulate)
        expected = straight[STEP * (steps + step) : STEP * (steps + step + 1)]
        assert sorted(key for share in shares for key in share[part]) == sorted(expected)


def test_the_counters_of_lightning_count_the_batches_of_the_new_size():
    before = data(3, 1, 2)
    train(before, 8)
    progress = resume(data(2, 1, 3), before.state_dict(), total=8, current=2)
    assert (progress["total"]["processed"], progress["current"]["processed"]) == (12, 3)
    assert not progress["is_last_batch"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            (4, 1, 1),
            "batch_size=4: steps would have 4 images, but those of the checkpoint had 6; try batch_size=6",
        ),
        ((6, 2, 1), "batch_size=6: steps would have 12 images, .*; try batch_size=3"),
        ((2, 2, 2), "batch_size=2: .*; batch_size x devices x accumulate_grad_batches must be 6"),
    ],
)
def test_another_number_of_images_per_step_is_refused(settings, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        data(*settings).check_state(data(STEP).state_dict())


def test_a_limit_in_batches_keeps_their_size():
    state = data(STEP, limit=2).state_dict()
    data(3, 2, limit=2).check_state(state)
    with pytest.raises(ConfigError, match=r"^batch_size=3: limit_train_batches .*; try batch_size=6$"):
        data(3, 1, 2, limit=2).check_state(state)


def test_a_state_of_an_earlier_version_is_refused():
    with pytest.raises(ConfigError, match=r"^the checkpoint is of an earlier version"):
        data(STEP).load_state_dict({"batches": 3})


@pytest.mark.parametrize(("count", "position"), [(30, (1, 2)), (14, (2, 0)), (7, (2, 0))])
@pytest.mark.fault(
    "data",
    "images were added or removed, and the run resumes with data.changed=allow",
    "the epoch continues with its new length; it ends if as many steps are trained already",
)
def test_an_epoch_of_another_length_continues_or_ends(count, position):
    """After two of three steps. An epoch of five steps continues; one of two steps or less has ended."""
    before = data(STEP)
    train(before, 5)
    state = before.state_dict()
    assert (state["epoch"], state["epoch_images"]) == (1, 2 * STEP)
    images = data(STEP, count=count)
    images.changed = "allow"
    progress = resume(images, state, total=5, current=2)
    assert progress["is_last_batch"] == (position == (2, 0))
    assert divmod(images.position(), len(images.train_order())) == position
    assert images.state_dict()["images"] == 5 * STEP
    (epoch, _), *_ = train(images, 1, restored=5)
    assert epoch == position[0]
    assert images.state_dict()["images"] == 6 * STEP
