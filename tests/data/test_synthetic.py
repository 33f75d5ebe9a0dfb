"""Synthetic scenes: deterministic, balanced, and labeled by combinations of cues."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.synthetic import dataset as definitions
from cim_lightning.data.synthetic.dataset import SyntheticScenes
from cim_lightning.errors import ConfigError

GOLDEN = Path(__file__).with_name("golden_scenes.json")
CUES = {"outline": definitions.OUTLINES, "pattern": definitions.PATTERNS, "palette": definitions.PALETTES}


def scenes(num_images: int = 40, image_size: int = 32, seed: int = 3) -> SyntheticScenes:
    return SyntheticScenes(num_images=num_images, image_size=image_size, seed=seed)


def pixels(data: SyntheticScenes) -> np.ndarray:
    return np.stack([np.asarray(data[index][0]) for index in range(len(data))])


def likelihoods(cue: int, values: list[str]) -> np.ndarray:
    """Probability "class value" of the values of a cue for each class, from the definitions."""
    table = np.full((len(definitions.CLASSES), len(values)), definitions.STRAY / len(values))
    for row, cues in zip(table, definitions.CLASSES.values(), strict=True):
        for share, value in zip(definitions.PREFERENCE, cues[cue].split(), strict=True):
            row[values.index(value)] += share * (1 - definitions.STRAY)
    return table


def bayes_accuracy(*tables: np.ndarray) -> float:
    """Accuracy of the Bayes classifier of these cues, which are independent given the class."""
    joint = tables[0]
    for table in tables[1:]:
        joint = (joint[:, :, None] * table[:, None, :]).reshape(len(joint), -1)
    return joint.max(axis=0).sum() / len(joint)


def knn_accuracy(train: np.ndarray, labels: np.ndarray, test: np.ndarray, targets: np.ndarray) -> float:
    distance = ((test[:, None] - train[None]) ** 2).sum(-1)
    votes = labels[np.argsort(distance, axis=1)[:, :20]]
    predictions = [np.bincount(vote).argmax() for vote in votes]
    return float(np.mean(predictions == targets))


def test_a_scene_does_not_depend_on_the_order_of_access():
    forwards, backwards = scenes(), scenes()
    first = [(forwards[index][0].tobytes(), forwards[index][1]) for index in range(20)]
    again = [(backwards[index][0].tobytes(), backwards[index][1]) for index in reversed(range(20))]
    assert first == again[::-1]


def test_a_longer_data_set_starts_with_the_shorter_one():
    assert np.array_equal(pixels(scenes(num_images=5)), pixels(scenes(num_images=9))[:5])


def test_scenes_differ_across_indices_and_seeds():
    # Scenes of seed + index would collide for close seeds.
    images = np.concatenate([pixels(scenes(num_images=30, seed=seed)) for seed in range(3)])
    assert len({image.tobytes() for image in images}) == 90


def test_rendering_uses_no_randomness():
    scene = definitions.sample_scene(np.random.default_rng(5), label=2)
    assert np.array_equal(definitions.render(scene, 48), definitions.render(scene, 48))


@pytest.mark.parametrize("size", [16, 31, 64])
def test_images_are_rgb_of_the_right_size_and_cover_the_value_range(size):
    data = scenes(image_size=size)
    image, label = data[0]
    assert (image.mode, image.size) == ("RGB", (size, size))
    assert isinstance(label, int)
    images = pixels(data)
    assert images.min() < 40
    assert images.max() > 215
    assert (images.std(axis=(1, 2, 3)) > 8).all()  # no blank scene


def test_a_scene_looks_similar_at_every_size():
    scene = definitions.sample_scene(np.random.default_rng(1), label=0)
    small, large = definitions.render(scene, 32), definitions.render(scene, 128)
    means = large.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(means - small).mean() < 20
    assert np.abs(means[::-1] - small).mean() > 25  # a flipped image exceeds the bound above


def test_labels_are_balanced_and_named():
    data = scenes(num_images=200)
    labels = [data[index][1] for index in range(200)]
    assert np.array_equal(np.bincount(labels), np.full(len(data.classes), 20))
    assert len(set(data.classes)) == len(data.classes) >= 10


def test_iteration_ends_and_negative_indices_are_errors():
    assert sum(1 for _ in scenes(num_images=4)) == 4  # pyright: ignore
    with pytest.raises(IndexError):
        scenes()[-1]


@pytest.mark.parametrize(("cue", "values"), list(enumerate(CUES.values())), ids=list(CUES))
def test_every_value_of_a_cue_occurs_in_several_classes(cue, values):
    preferred = [value for cues in definitions.CLASSES.values() for value in set(cues[cue].split())]
    assert set(preferred) == set(values)
    assert all(preferred.count(value) >= 2 for value in values)


def test_no_two_classes_have_the_same_distribution_of_any_cue():
    for first, second in itertools.combinations(definitions.CLASSES.values(), 2):
        assert all(a != b for a, b in zip(first, second, strict=True))


def test_only_the_combination_of_cues_predicts_the_class():
    tables = [likelihoods(cue, list(values)) for cue, values in enumerate(CUES.values())]
    assert all(np.allclose(table.sum(1), 1) for table in tables)
    assert all(bayes_accuracy(table) < 0.7 for table in tables)
    assert 0.8 < bayes_accuracy(*tables) < 0.95


def test_the_sampler_follows_the_definitions():
    rng = np.random.default_rng(0)
    label, draws = 4, 2000
    objects = [
        max(definitions.sample_scene(rng, label).objects, key=lambda obj: obj.area) for _ in range(draws)
    ]
    for cue, (name, values) in enumerate(list(CUES.items())[:2]):
        counts = np.array([sum(getattr(obj, name) == value for obj in objects) for value in values])
        assert np.abs(counts / draws - likelihoods(cue, list(values))[label]).max() < 0.05


def test_the_mean_color_does_not_predict_the_class():
    train, test = scenes(num_images=1500, seed=0), scenes(num_images=500, seed=1)
    features = [pixels(data).mean(axis=(1, 2)) for data in (train, test)]
    labels = [np.arange(len(data)) % len(data.classes) for data in (train, test)]
    assert knn_accuracy(features[0], labels[0], features[1], labels[1]) < 0.3


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("num_images", 0), ("image_size", 15), ("image_size", 1025), ("image_size", -64), ("seed", -1)],
)
def test_a_parameter_out_of_range_gets_one_line(parameter, value):
    with pytest.raises(ConfigError) as error:
        SyntheticScenes(**({"num_images": 10, "image_size": 32, "seed": 0} | {parameter: value}))
    line = str(error.value)
    assert line.startswith(f"{parameter}={value}: ")
    assert "\n" not in line


@pytest.mark.parametrize("wrong", [{"num_train": 0}, {"num_val": 0}, {"image_size": 8}, {"seed": -1}])
def test_an_error_of_the_source_names_its_parameter(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError, match=rf"^{name}={value}: [^\n]*; try {name}=\d+$"):
        definitions.synthetic(**{"num_train": 4, "num_val": 4, "image_size": 16, "seed": 0} | wrong)


def statistics(index: int) -> list[float]:
    """Mean of each channel and standard deviation of a scene, in gray levels."""
    image = np.asarray(SyntheticScenes(64, 64, 0)[index][0], np.float64)
    return [*image.mean(axis=(0, 1)), image.std()]


def test_scenes_are_those_of_the_golden_file():
    """The recorded experiments used these scenes. `python tests/data/test_synthetic.py` writes the file."""
    golden = json.loads(GOLDEN.read_text())
    for index, expected in enumerate(golden):
        assert statistics(index) == pytest.approx(expected, abs=0.02)


if __name__ == "__main__":
    rows = [f"  {[round(float(value), 3) for value in statistics(index)]}" for index in range(64)]
    GOLDEN.write_text("[\n" + ",\n".join(rows) + "\n]\n")


def test_scenes_have_the_format_of_the_data_set():
    image = SyntheticScenes(1, 16, 0)[0][0]
    gray = SyntheticScenes(1, 16, 0, PixelFormat(1, 16))[0][0]
    assert np.array_equal(gray[..., 0], np.asarray(image.convert("L")).astype(np.uint16) * 257)
