"""`ImageData`: its loaders, its crops, its errors, and its workers."""

from functools import partial
from itertools import islice
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.data.batch import Batch
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.folder import folder
from cim_lightning.data.source import Splits
from cim_lightning.data.synthetic.dataset import SyntheticScenes
from cim_lightning.data.view_dataset import CenterSquare
from cim_lightning.errors import ConfigError

CROPPING = ExemplarCropper(
    2, [0.1, 0.4], [0.5, 2.0], 45, context_size=24, exemplar_size=8, flip=0.5, appearance=None
)
SETTINGS = {"batch_size": 8, "num_workers": 0, "view_size": 24, "seed": 3}
CPU = torch.device("cpu")
VIEW = {"view_scale": [0.5, 1.0], "view_ratio": [0.75, 1.33], "view_flip": 0.5}


def scenes(train: int, val: int) -> Splits:
    return Splits(SyntheticScenes(train, 32, 0), SyntheticScenes(val, 32, 1))


SCENES = partial(scenes, 20, 11)


def data(source=SCENES, **changes) -> ImageData:
    return ImageData(source, CROPPING, **SETTINGS | VIEW | changes)


def read(loader) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(loader)
    return torch.cat([batch.views for batch in batches]), torch.cat([batch.labels for batch in batches])


def one_line(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("changes", "start", "suggestion"),
    [
        ({"batch_size": 0}, "batch_size=0: ", "try batch_size=1"),
        ({"num_workers": -2}, "num_workers=-2: ", "try num_workers=0"),
        ({"view_size": 0}, "view_size=0: ", "try view_size=1"),
        ({"view_flip": 2}, "view_flip=2: ", "try view_flip=1"),
        ({"view_scale": [0.9, 0.5]}, "view_scale=[0.9, 0.5]: ", "try view_scale=[0.5, 1.0]"),
        ({"view_ratio": [0, 0.5]}, "view_ratio=[0, 0.5]: ", "try view_ratio=[0.75, 1.3333]"),
        ({"roots": "x"}, "roots=x: ", "did you mean root?"),
        ({"bach_size": 4}, "bach_size=4: ", "did you mean batch_size?"),
        ({"zzz": 4}, "zzz=4: ", "choose from batch_size, num_workers, root, seed, "),
    ],
)
def test_a_wrong_parameter_gets_one_line_with_its_value_and_a_suggestion(changes, start, suggestion):
    with pytest.raises(ConfigError) as caught:
        data(partial(folder, val_fraction=0.1, seed=0), **{"root": "x"} | changes)
    message = one_line(caught)
    assert message.startswith(start)
    assert suggestion in message


def test_an_unknown_argument_of_a_source_without_parameters_is_an_error():
    with pytest.raises(ConfigError, match=r"^zzz=1: "):
        data(lambda: scenes(20, 11), zzz=1)


def test_a_missing_argument_of_the_source_is_an_error():
    with pytest.raises(ConfigError, match=r"^root: .*; try root=\.\.\.$"):
        data(partial(folder, val_fraction=0.1, seed=0))


def test_setup_refuses_a_batch_larger_than_the_training_set():
    with pytest.raises(ConfigError) as caught:
        data(batch_size=21).setup()
    message = one_line(caught)
    assert message.startswith("batch_size=21: ")
    assert message.endswith("20 images; try batch_size=20")
    data(batch_size=20).setup()


def test_the_source_is_called_once_with_its_arguments():
    calls = []

    def source(root: str, download: bool) -> Splits:
        calls.append((root, download))
        return scenes(20, 11)

    images = data(source, root="somewhere", download=False)
    assert not calls
    images.setup()
    assert images.splits is images.splits
    assert calls == [("somewhere", False)]


def test_images_are_decoded_in_the_training_process_by_default():
    assert ImageData(SCENES, ExemplarCropper(), batch_size=4).train_dataloader().num_workers == 0


def test_the_train_loader_is_endless_and_deterministic():
    first, again = ([b.views for b in islice(data().train_dataloader(), 5)] for _ in range(2))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], first[2])  # the first batches of two epochs: an epoch has two
    assert len(data().train_dataloader()) == 2


def test_training_resumes_after_the_batches_of_the_state_dict():
    straight = [batch.seeds.tolist() for batch in islice(data().train_dataloader(), 7)]
    resumed = data()
    state = {"images": 32, "epoch": 2, "epoch_images": 0, "images_per_batch": 8, "images_per_step": 8}
    resumed.load_state_dict(state | data().image_record)
    assert {key: resumed.state_dict()[key] for key in state} == state
    assert [batch.seeds.tolist() for batch in islice(resumed.train_dataloader(), 3)] == straight[4:]


def test_workers_do_not_change_the_batches():
    without, with_worker = (read(data(num_workers=workers).val_dataloader()) for workers in (0, 1))
    assert all(map(torch.equal, without, with_worker))


def test_the_val_loader_yields_every_image_with_the_same_views_every_time():
    images = data()
    views, labels = read(images.val_dataloader())
    assert sorted(labels.tolist()) == sorted(i % 10 for i in range(11))
    assert torch.equal(views, read(images.val_dataloader())[0])
    first, second = ([b.seeds.tolist() for b in d.val_dataloader()] for d in (images, data()))
    assert first == second


def test_validation_and_evaluation_share_no_seed_with_training():
    """The keys of these training and validation images are the same numbers."""
    images = data(partial(scenes, 16, 16))
    training = {seed for batch in islice(images.train_dataloader(), 20) for seed in batch.seeds.tolist()}
    loaders = [images.val_dataloader(), images.eval_dataloader("train", None)]
    loaders += [images.eval_dataloader("train", None, images.view, epoch=epoch) for epoch in range(2)]
    others = [{seed for batch in loader for seed in batch.seeds.tolist()} for loader in loaders]
    assert len(training) == 10 * 16  # ten epochs
    assert all(len(seeds) == 16 and not seeds & training for seeds in others)


def test_the_first_validation_batches_have_every_class(tmp_path):
    for name in "abcd":
        for split, count in (("train", 2), ("val", 20)):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (30, 30), (10 * i, 0, 0)).save(tmp_path / split / name / f"{i}.png")
    source = partial(folder, val_fraction=0.5, seed=0)
    batches = islice(data(source, root=str(tmp_path)).val_dataloader(), 3)
    assert set(torch.cat([batch.labels for batch in batches]).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(("split", "limit", "count"), [("train", 7, 7), ("train", 99, 20), ("val", 99, 11)])
def test_center_crops_are_at_most_limit_images_and_the_same_in_every_call(split, limit, count):
    images = data()
    views, labels = read(images.eval_dataloader(split, limit))
    assert views.shape == (count, 3, 24, 24)
    again = read(data().eval_dataloader(split, limit))
    assert torch.equal(views, again[0])
    assert torch.equal(labels, again[1])


def test_center_crops_are_a_random_subset_of_the_images_with_their_labels():
    images = data()
    views, labels = read(images.eval_dataloader("train", 7))
    train, rng = images.splits.train, np.random.default_rng(0)
    index_of = {np.asarray(CenterSquare(24)(train[i][0], rng)).tobytes(): i for i in range(20)}
    chosen = [index_of[view.permute(1, 2, 0).numpy().tobytes()] for view in views]
    assert len(set(chosen)) == 7
    assert chosen != list(range(7))
    assert [train[i][1] for i in chosen] == labels.tolist()
    assert not torch.equal(views, read(data(seed=4).eval_dataloader("train", 7))[0])


def test_crops_are_a_function_of_the_batch_and_its_seed():
    images = data()
    batch = next(iter(images.val_dataloader()))
    crops, labels = images.on_after_batch_transfer(batch, 0)
    again, _ = images.on_after_batch_transfer(batch, 0)
    other, _ = images.on_after_batch_transfer(batch._replace(seeds=batch.seeds + 1), 0)
    assert labels is batch.labels
    assert images.current is batch.samples
    assert crops.context.shape == (8, 3, 24, 24)
    assert torch.equal(crops.exemplars, again.exemplars)
    assert torch.equal(crops.maps, again.maps)
    assert not torch.equal(crops.maps, other.maps)


def test_images_without_class_folders_have_the_label_minus_one(photos: Path):
    images = data(partial(folder, val_fraction=0.5, seed=0), root=str(photos / "train" / "a"))
    for loader in (images.val_dataloader(), images.eval_dataloader("train", 5)):
        assert set(read(loader)[1].tolist()) == {-1}
    batch = next(iter(images.train_dataloader()))
    assert isinstance(batch, Batch)
    assert batch.labels.tolist() == [-1] * 8


def test_labeled_indices_skip_images_without_a_label() -> None:
    class PartlyLabeled:
        classes = ("a", "b")
        labels = np.array([-1, 0, -1, 1, 1, -1, 0])

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.new("RGB", (9, 9), (index, 0, 0)), int(self.labels[index])

    splits = Splits(PartlyLabeled(), PartlyLabeled())
    data = ImageData(lambda: splits, lambda views, seed: views, 2, 0, 8, (1, 1), (1, 1), 0.0, 0)
    indices = data.labeled_indices(None)
    assert sorted(indices) == [1, 3, 4, 6]
    assert data.labeled_indices(2) == indices[:2]


@pytest.mark.parametrize("world_size", [2, 3])
def test_devices_share_the_validation_images(world_size):
    whole, _ = read(data(batch_size=2).val_dataloader())
    parts, lengths = [], set()
    for rank in range(world_size):
        part = data(batch_size=2)
        strategy = Mock(root_device=CPU)
        part.trainer = Mock(
            num_devices=world_size, global_rank=rank, world_size=world_size, strategy=strategy
        )
        loader = part.val_dataloader()
        lengths.add(len(loader))
        parts += read(loader)[0].unbind()
    assert len(lengths) == 1  # DDP communicates in every forward pass
    assert sorted(view.flatten().tolist() for view in parts) == sorted(v.flatten().tolist() for v in whole)


@pytest.mark.parametrize(("images", "expected"), [(3, 3), (9, 9), (10, 2)])
def test_fewer_than_two_validation_images_per_device_are_repeated(images, expected):
    part = data(partial(scenes, 20, images), batch_size=2)
    part.trainer = Mock(num_devices=5, global_rank=4, world_size=5, strategy=Mock(root_device=CPU))
    assert len(read(part.val_dataloader())[0]) == expected
