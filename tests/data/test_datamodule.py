"""`ImageData`: what its loaders give, its crops, and what a wrong setting is told."""

from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.sources import Splits, folder
from cim_lightning.data.synthetic.scenes import SyntheticScenes
from cim_lightning.data.views import Batch, CenterCrop
from cim_lightning.errors import ConfigError

CROPPING = ExemplarCropper(2, [0.1, 0.4], [0.5, 2.0], 45, context_size=24, exemplar_size=8, flip=0.5)
SETTINGS = {"batch_size": 8, "num_workers": 0, "view_size": 24, "seed": 3}
VIEW = {"view_scale": [0.5, 1.0], "view_ratio": [0.75, 1.33], "view_flip": 0.5}


def scenes(train: int, val: int) -> Splits:
    return Splits(SyntheticScenes(train, 32, 0), SyntheticScenes(val, 32, 1))


SCENES = partial(scenes, 20, 11)


def data(source=SCENES, **changes) -> ImageData:
    return ImageData(source, CROPPING, **SETTINGS | VIEW | changes)


def read(loader) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(loader)
    return torch.cat([batch.views for batch in batches]), torch.cat([batch.labels for batch in batches])


def complaint(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("changes", "start", "nearest"),
    [
        ({"batch_size": 0}, "data.batch_size=0: ", "try 1"),
        ({"num_workers": -2}, "data.num_workers=-2: ", "try 0"),
        ({"view_size": 0}, "data.view_size=0: ", "try 1"),
        ({"roots": "x"}, "data.roots=x: ", "try data.root"),
        ({"bach_size": 4}, "data.bach_size=4: ", "try data.batch_size"),
        ({"zzz": 4}, "data.zzz=4: ", "try data."),
    ],
)
def test_a_wrong_setting_gets_one_line_with_its_value_and_the_nearest(changes, start, nearest):
    with pytest.raises(ConfigError) as caught:
        data(partial(folder, val_fraction=0.1, seed=0), **{"root": "x"} | changes)
    message = complaint(caught)
    assert message.startswith(start)
    assert nearest in message


def test_an_unknown_setting_of_a_source_that_asks_for_nothing_is_a_setting_error_too():
    with pytest.raises(ConfigError, match=r"data\.zzz=1: "):
        data(lambda: scenes(20, 11), zzz=1)


def test_a_source_that_is_not_given_what_it_needs_is_a_setting_error_that_names_it():
    with pytest.raises(ConfigError, match=r"^data\.root: .*give data\.root=\.\.\.$"):
        data(partial(folder, val_fraction=0.1, seed=0))


def test_a_batch_larger_than_the_training_set_is_refused_on_setup_and_one_as_large_is_not():
    with pytest.raises(ConfigError) as caught:
        data(batch_size=21).setup()
    message = complaint(caught)
    assert message.startswith("data.batch_size=21: ")
    assert message.endswith("20 images; try 20")
    data(batch_size=20).setup()


def test_the_source_is_called_once_with_what_it_asks_for():
    calls = []

    def source(root: str, download: bool) -> Splits:
        calls.append((root, download))
        return scenes(20, 11)

    images = data(source, root="somewhere", download=False)
    assert not calls
    images.setup()
    assert images.splits is images.splits
    assert calls == [("somewhere", False)]


def test_the_train_loader_goes_through_epochs_without_end_and_two_agree():
    one, other = ([b.views for b in islice(data().train_dataloader(), 5)] for _ in range(2))
    assert all(map(torch.equal, one, other))
    assert not torch.equal(one[0], one[2])  # the first batches of two epochs: an epoch has two
    assert len(data().train_dataloader()) == 2


def test_it_goes_on_from_the_batches_that_were_done():
    straight = [batch.seed for batch in islice(data().train_dataloader(), 7)]
    resumed = data()
    resumed.load_state_dict({"batches": 4})
    assert resumed.state_dict() == {"batches": 4}
    assert [batch.seed for batch in islice(resumed.train_dataloader(), 3)] == straight[4:]


def test_workers_change_nothing():
    alone, helped = (read(data(num_workers=workers).val_dataloader()) for workers in (0, 1))
    assert all(map(torch.equal, alone, helped))


def test_the_val_loader_gives_every_image_and_the_same_views_every_time():
    images = data()
    views, labels = read(images.val_dataloader())
    assert sorted(labels.tolist()) == sorted(i % 10 for i in range(11))
    assert torch.equal(views, read(images.val_dataloader())[0])
    assert [batch.seed for batch in images.val_dataloader()] == [b.seed for b in data().val_dataloader()]


def test_a_few_validation_batches_of_sorted_folders_show_every_class(tmp_path):
    for name in "abcd":
        for split, count in (("train", 2), ("val", 20)):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (30, 30), (10 * i, 0, 0)).save(tmp_path / split / name / f"{i}.png")
    source = partial(folder, val_fraction=0.5, seed=0)
    batches = islice(data(source, root=str(tmp_path)).val_dataloader(), 3)
    assert set(torch.cat([batch.labels for batch in batches]).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(("split", "limit", "count"), [("train", 7, 7), ("train", 99, 20), ("val", 99, 11)])
def test_whole_views_are_at_most_limit_images_always_the_same(split, limit, count):
    images = data()
    views, labels = read(images.center_crop_dataloader(split, limit))
    assert views.shape == (count, 3, 24, 24)
    again = read(data().center_crop_dataloader(split, limit))
    assert torch.equal(views, again[0])
    assert torch.equal(labels, again[1])


def test_whole_views_are_a_random_subset_of_the_images_and_go_with_their_labels():
    images = data()
    views, labels = read(images.center_crop_dataloader("train", 7))
    train, rng = images.splits.train, np.random.default_rng(0)
    whole = {np.asarray(CenterCrop(24)(train[i][0], rng)).tobytes(): i for i in range(20)}
    chosen = [whole[view.permute(1, 2, 0).numpy().tobytes()] for view in views]
    assert len(set(chosen)) == 7
    assert chosen != list(range(7))
    assert [train[i][1] for i in chosen] == labels.tolist()
    assert not torch.equal(views, read(data(seed=4).center_crop_dataloader("train", 7))[0])


def test_a_batch_becomes_crops_after_the_transfer_the_same_for_the_same_batch():
    images = data()
    batch = next(iter(images.val_dataloader()))
    crops, labels = images.on_after_batch_transfer(batch, 0)
    again, _ = images.on_after_batch_transfer(batch, 0)
    other, _ = images.on_after_batch_transfer(batch._replace(seed=batch.seed + 1), 0)
    assert labels is batch.labels
    assert crops.context.shape == (8, 3, 24, 24)
    assert torch.equal(crops.exemplars, again.exemplars)
    assert torch.equal(crops.maps, again.maps)
    assert not torch.equal(crops.maps, other.maps)


def test_labels_are_minus_one_without_labels(photos: Path):
    images = data(partial(folder, val_fraction=0.5, seed=0), root=str(photos / "train" / "a"))
    for loader in (images.val_dataloader(), images.center_crop_dataloader("train", 5)):
        assert set(read(loader)[1].tolist()) == {-1}
    batch = next(iter(images.train_dataloader()))
    assert isinstance(batch, Batch)
    assert batch.labels.tolist() == [-1] * 8


def test_images_without_a_label_are_left_out_of_training_on_labels() -> None:
    class Half:
        classes = ("a", "b")
        labels = np.array([-1, 0, -1, 1, 1, -1, 0])

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.new("RGB", (9, 9), (index, 0, 0)), int(self.labels[index])

    splits = Splits(Half(), Half())  # type: ignore[arg-type]
    data = ImageData(lambda: splits, lambda views, seed: views, 2, 0, 8, (1, 1), (1, 1), 0.0, 0)
    images = data.labeled_indices(None)
    assert sorted(images) == [1, 3, 4, 6]
    assert data.labeled_indices(2) == images[:2]
    batches = iter(data.training_dataloader(images, CenterCrop(8), 2, 1, 0))
    seen = [int(view[0, 0, 0]) for _ in range(2) for view in next(batches).views]
    assert sorted(seen) == [1, 3, 4, 6]
    later = iter(data.training_dataloader(images, CenterCrop(8), 2, 1, 1))
    assert [int(view[0, 0, 0]) for view in next(later).views] == seen[2:]
