"""Hidden labels: which images have a label, and that no loader of training images shows another label."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Subset

from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.image_keys import LABELED, image_keys, mix, random_part
from cim_lightning.data.label_share import choose_labeled, count_labeled, hide_labels
from cim_lightning.data.source import NO_LABEL, NoImages, Splits
from cim_lightning.errors import BadImageError, ConfigError

VIEW = {"view_size": 8, "view_scale": [0.5, 1.0], "view_ratio": [0.75, 1.33], "view_flip": 0.5}


class Images:
    """A Source whose images have their number as gray level. Images of `bad` cannot be decoded."""

    def __init__(self, labels: list[int], keys: Any = None, bad: tuple[int, ...] = ()):
        self.labels, self.bad, self.classes = np.array(labels), bad, list("abcd")
        self.keys = np.arange(len(labels), dtype=np.uint64) if keys is None else keys

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if index in self.bad:
            raise BadImageError("damaged")
        return Image.new("RGB", (8, 8), (index,) * 3), int(self.labels[index])


class Pairs(Images):
    max_gap = 3

    def sample(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        return np.concatenate([np.asarray(self[index][0])] * 2, axis=2), int(self.labels[index])


def module(source: Any, share: float | None = 0.25, **changes: Any) -> ImageData:
    arguments = {"batch_size": 8, "seed": 3} | VIEW | changes
    return ImageData(
        lambda: Splits(source, source), lambda views, seeds: views, label_share=share, **arguments
    )


def labels_of(loader: Any, batches: int | None = None) -> dict[int, set[int]]:
    """Return all labels of each image, which its gray level identifies, in the first batches of a loader."""
    found: dict[int, set[int]] = {}
    for number, batch in enumerate(loader):
        if number == batches:
            break
        for view, label in zip(batch.views, batch.labels.tolist(), strict=True):
            found.setdefault(int(view.max()), set()).add(label)
    return found


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.floats(0.001, 1), st.lists(st.integers(-1, 3), min_size=1, max_size=40))
def test_an_image_is_labeled_by_its_key_and_the_seed_except_for_the_first_of_a_class(seed, share, labels):
    keys = np.random.default_rng(seed).integers(0, 2**64, len(labels), np.uint64)
    chosen = choose_labeled(Images(labels, keys), np.array(labels), share, seed)
    values = mix(keys, LABELED, seed).tolist()
    for image, label in enumerate(labels):
        least = min(value for value, other in zip(values, labels, strict=True) if other == label)
        expected = label != NO_LABEL and (values[image] < share * 2**64 or values[image] == least)
        assert chosen[image] == expected
    order = np.random.default_rng(seed).permutation(len(labels))  # renumbering changes nothing
    again = choose_labeled(
        Images([labels[i] for i in order], keys[order]), np.array(labels)[order], share, seed
    )
    assert again.tolist() == chosen[order].tolist()


def test_labeled_images_are_counted_also_in_a_part_and_without_a_list_of_labels():
    source = Images([0, NO_LABEL, 1, 1, NO_LABEL])
    assert count_labeled(source) == 3
    assert count_labeled(Subset(source, [0, 1, 4])) == 1
    del source.labels
    assert count_labeled(Subset(source, [0, 1, 4])) == 3
    assert count_labeled(NoImages()) == 0
    source.classes = None
    assert count_labeled(source) == 0


def test_the_share_is_binomial_in_each_class_and_grows_with_the_same_images():
    labels = [0] * 8000 + [1] * 2000
    source = Images(labels)
    tenth, fifth, all_ = (choose_labeled(source, source.labels, share, 0) for share in (0.1, 0.2, 1.0))
    other = choose_labeled(source, source.labels, 0.1, 1)
    for chosen in (tenth, other):
        for part, count in ((chosen[:8000], 8000), (chosen[8000:], 2000)):
            assert abs(part.sum() - 0.1 * count) < 4 * (0.1 * 0.9 * count) ** 0.5
    assert fifth[tenth].all()
    assert all_.all()
    assert abs((tenth & other).sum() - 100) < 4 * 100**0.5  # seeds choose independently


def test_every_class_has_a_label_at_any_share():
    labels = [index % 4 for index in range(400)]
    for seed in range(5):
        hidden = hide_labels(Images(labels), 1e-9, seed)
        assert sorted(hidden.labels[hidden.labels != NO_LABEL]) == [0, 1, 2, 3]


def test_unlabeled_images_stay_unlabeled():
    assert hide_labels(Images([0, NO_LABEL, 2]), 1.0, 0).labels.tolist() == [0, NO_LABEL, 2]


def test_training_shows_the_same_labels_in_every_epoch_batch_size_and_worker_and_validation_all():
    labels = [index % 4 for index in range(64)]
    source = Images(labels)
    chosen = choose_labeled(source, source.labels, 0.25, 3)
    assert 0 < chosen.sum() < 64
    expected = {image: {labels[image] if chosen[image] else NO_LABEL} for image in range(64)}
    for changes in ({}, {"batch_size": 16}, {"num_workers": 2}):
        assert labels_of(module(source, **changes).train_dataloader(), 30) == expected
    everything = {image: {label} for image, label in enumerate(labels)}
    assert labels_of(module(source).val_dataloader()) == everything
    assert labels_of(module(source, share=None).train_dataloader(), 30) == everything


def test_a_resumed_run_shows_the_same_labels():
    source = Images([index % 4 for index in range(64)])
    before = labels_of(module(source).train_dataloader(), 2)
    resumed = module(source)
    state = {"images": 16, "epoch": 0, "epoch_images": 16, "images_per_batch": 8, "images_per_step": 8}
    resumed.load_state_dict(state | module(source).image_record)
    after = labels_of(resumed.train_dataloader(), 6)
    assert after.keys().isdisjoint(before)
    chosen = choose_labeled(source, source.labels, 0.25, 3)
    assert before | after == {i: {int(source.labels[i]) if chosen[i] else NO_LABEL} for i in range(64)}


def test_evaluation_uses_the_same_labels_as_training_and_labeled_images_first():
    source = Images([index % 4 for index in range(64)])
    chosen = np.flatnonzero(choose_labeled(source, source.labels, 0.25, 3)).tolist()
    data = module(source)
    assert sorted(data.labeled_indices(None)) == chosen
    loaders = data.eval_dataloader("train", None), data.eval_dataloader("train", None, data.view)
    for loader in loaders:
        found = labels_of(loader)
        assert [image for image in sorted(found) if found[image] != {NO_LABEL}] == chosen
    limited = labels_of(data.eval_dataloader("train", len(chosen)))
    assert sorted(limited) == chosen
    assert NO_LABEL not in set.union(*limited.values())
    assert labels_of(data.eval_dataloader("val", None)) == {i: {i % 4} for i in range(64)}


def test_labeled_images_come_first_in_random_order_only_if_there_is_a_limit():
    source = Images([0, NO_LABEL] * 20)
    order = random_part(source, 0)
    assert random_part(source, 0, 30) == [i for i in order if i % 2 == 0] + [i for i in order if i % 2][:10]
    assert order[:20] != sorted(order[:20])


def test_a_bad_image_is_replaced_with_the_hidden_or_shown_label_of_the_other_image():
    source = Images([index % 4 for index in range(16)], bad=(1, 2, 3))
    chosen = choose_labeled(source, source.labels, 0.5, 3)
    found = labels_of(module(source, share=0.5, max_bad_share=0.9).train_dataloader(), 20)
    assert found.keys() == set(range(16)) - {1, 2, 3}
    assert all(labels == {i % 4 if chosen[i] else NO_LABEL} for i, labels in found.items())


def test_pairs_of_images_have_hidden_labels_too():
    source = Pairs([index % 4 for index in range(16)])
    chosen = choose_labeled(source, source.labels, 0.5, 3)
    batch = next(iter(module(source, share=0.5, batch_size=16).train_dataloader()))
    assert batch.views.shape == (16, 2, 3, 8, 8)
    images = batch.views.amax(dim=(1, 2, 3, 4)).tolist()
    assert batch.labels.tolist() == [i % 4 if chosen[i] else NO_LABEL for i in images]


def test_all_else_is_as_in_the_source_and_pickles():
    source = Images([0, 1, 2, 3])
    hidden = pickle.loads(pickle.dumps(hide_labels(source, 0.25, 0)))  # as for spawned workers
    assert (len(hidden), hidden.classes) == (4, source.classes)
    assert hidden.keys.tolist() == source.keys.tolist()
    assert not hasattr(hidden, "path")
    assert hide_labels(source, None, 0) is source


def test_a_part_of_the_images_has_the_labels_of_the_whole():
    source, indices = Images([index % 4 for index in range(400)]), range(0, 400, 3)
    whole, part = (hide_labels(images, 0.25, 0) for images in (source, Subset[Any](source, indices)))
    differ = whole.labels[indices] != part.labels
    assert differ.sum() < 4  # the first image of a class
    assert part[1][1] == part.labels[1]
    assert image_keys(part).tolist() == list(indices)


def test_a_source_that_does_not_list_its_labels_is_refused():
    no_classes, unlabeled, plain = Images([0, 1]), Images([NO_LABEL, NO_LABEL]), Images([0, 1])
    no_classes.classes = None
    del plain.labels
    for source in (no_classes, unlabeled, plain, NoImages()):
        with pytest.raises(ConfigError) as caught:
            hide_labels(source, 0.1, 0)
        assert str(caught.value) == (
            "label_share=0.1: the training images have no labels; put them into one folder per class"
        )
    with pytest.raises(ConfigError, match=r"^label_share=0\.1: the training images have no labels"):
        module(unlabeled, share=0.1, batch_size=1).setup()


@pytest.mark.parametrize(("share", "suggestion"), [(0, 0.1), (1.5, 1.0), (-1, 0.1)])
def test_the_share_must_be_in_range(share, suggestion):
    message = f"^label_share={share}: must be above 0 and at most 1; try label_share={suggestion}$"
    with pytest.raises(ConfigError, match=message):
        module(Images([0]), share=share)
