"""The source of Hugging Face data sets: local files of every kind, columns, splits, and errors."""

import pickle
from typing import Any

import pytest

from cim_lightning.data import optional_packages
from cim_lightning.data.hf_dataset import hf
from cim_lightning.data.pixel_format import RGB8
from cim_lightning.errors import BadImageError, ConfigError
from tests.archives import images, png, write_tar
from tests.image_tree import open_folder, save_images

datasets = pytest.importorskip("datasets")
LABELS = [0, 1, 2, 1, 0, 2, 1, 0]
CLASSES = ["ant", "bee", "cat"]


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch) -> None:
    """No network, and a cache of the library for each test."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf-cache")


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


@pytest.fixture
def loaded(monkeypatch) -> dict[str, Any]:
    """The splits of "owner/name", as if they were loaded from the Hub."""
    splits: dict[str, Any] = {}
    monkeypatch.setattr("cim_lightning.data.hf_dataset.load_splits", lambda *arguments: splits)
    return splits


def dataset(values=range(8), labels=LABELS, classes=CLASSES, **columns):
    encoded = [{"bytes": png(value), "path": None} for value in values]
    features = {"image": datasets.Image()}
    content = {"image": encoded}
    if labels is not None:
        content["label"], features["label"] = labels[: len(encoded)], datasets.ClassLabel(names=classes)
    features |= {name: datasets.Value("string") for name in columns}
    return datasets.Dataset.from_dict(content | columns, features=datasets.Features(features))


def open_hf(name, **changes):
    settings = {"config": None, "revision": None, "image_column": None, "label_column": None}
    settings |= {"train": None, "val": None, "val_fraction": 0.25, "seed": 0, "pixels": RGB8}
    return hf(str(name), **settings | changes)


def all_images(name, **changes):
    return images(open_hf(name, val="none", **changes).train)


def error(name, **changes) -> str:
    with pytest.raises(ConfigError) as caught:
        open_hf(name, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


EXPECTED = [(value, CLASSES[label]) for value, label in zip(range(8), LABELS, strict=True)]


@pytest.mark.user_input(
    "source",
    "a Hugging Face folder of save_to_disk",
    "read in place, with its splits",
    source="https://github.com/huggingface/datasets/issues/3700",
)
def test_a_saved_data_set(tmp_path):
    dataset().save_to_disk(tmp_path / "one")
    parts = {"train": dataset(), "validation": dataset(range(50, 53)), "test": dataset(range(60, 64))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "several")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert all_images(tmp_path / "one") == EXPECTED
    splits = open_hf(tmp_path / "several")
    assert images(splits.train) == EXPECTED
    assert images(splits.val) == [(50 + i, CLASSES[label]) for i, label in enumerate(LABELS[:3])]
    assert splits.summary == (
        "11 images in 3 classes (8 for training from train, 3 for validation from validation); "
        "columns: image, label; skipped: 4 of test"
    )
    assert [len(part) for part in open_hf(tmp_path / "several", train="test", val="train")[:2]] == [4, 8]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.user_input(
    "source", "a folder of Parquet files train-*.parquet and test-*.parquet", "the splits"
)
@pytest.mark.user_input("source", "data.name=FILE.parquet", "its images")
def test_parquet_files(tmp_path):
    dataset().to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    dataset([90, 91]).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")
    splits = open_hf(tmp_path / "data")
    assert images(splits.train) == EXPECTED
    assert [value for value, _ in images(splits.val)] == [90, 91]
    assert all_images(tmp_path / "data" / "train-00000-of-00001.parquet") == EXPECTED
    assert len(list((tmp_path / "data").iterdir())) == 2


@pytest.mark.user_input(
    "source",
    "Parquet files of others with structs or bytes of images and no metadata",
    "the images are found",
)
def test_parquet_without_features(tmp_path):
    import pyarrow
    from pyarrow import parquet

    encoded = [png(value) for value in range(4)]
    struct = {
        "id": [1, 2, 3, 4],
        "photo": [{"bytes": data, "path": "x.png"} for data in encoded],
        "label": [5, 10, 5, None],
    }
    parquet.write_table(pyarrow.table(struct), tmp_path / "struct.parquet")
    assert all_images(tmp_path / "struct.parquet") == [(0, "5"), (1, "10"), (2, "5"), (3, None)]
    assert open_hf(tmp_path / "struct.parquet").train.classes == ["5", "10"]
    binary = {"name": ["b", "a", "b", "c"], "a": encoded, "b": [png(value + 10) for value in range(4)]}
    parquet.write_table(pyarrow.table(binary), tmp_path / "binary.parquet")
    path = tmp_path / "binary.parquet"
    assert all_images(path) == [(value, None) for value in range(4)]
    labeled = all_images(path, image_column="b", label_column="name")
    assert labeled == [(10, "b"), (11, "a"), (12, "b"), (13, "c")]


@pytest.mark.user_input(
    "source", "data=hf with a folder of class folders of images", "the order of data=folder"
)
def test_a_folder_of_images_has_the_order_of_the_folder_source(tmp_path):
    root = save_images(tmp_path / "root", *(f"{'ba'[i % 2]}/{i}.png" for i in range(9)))
    for seed in range(2):
        found, expected = open_hf(root, seed=seed), open_folder(str(root), 0.25, seed)
        assert images(found.train) == images(expected.train)
        assert images(found.val) == images(expected.val)


def test_an_image_is_identified_by_its_file_name_or_else_by_its_row(tmp_path):
    root = save_images(tmp_path / "root", "a/0.png", "b/1.png", "b/2.png")
    assert (
        open_hf(root, val="none").train.keys.tolist()
        == open_folder(str(root), val="none").train.keys.tolist()
    )
    dataset(text=list("abcdefgh")).save_to_disk(tmp_path / "saved")
    assert open_hf(tmp_path / "saved", val="none").train.keys.tolist() == [*range(8)]


@pytest.mark.user_input("source", "a data set with the columns img and fine_label", "found by their types")
def test_columns_are_found_by_their_types(tmp_path):
    renamed = dataset(text=list("abcdefgh"), label2=["x"] * 8).rename_columns(
        {"image": "img", "label": "fine_label"}
    )
    renamed.save_to_disk(tmp_path / "a")
    assert all_images(tmp_path / "a") == EXPECTED
    assert "columns: img, fine_label" in open_hf(tmp_path / "a").summary
    assert all_images(tmp_path / "a", label_column="text") == [*zip(range(8), "abcdefgh", strict=True)]
    dataset(labels=None, text=list("abcdefgh")).save_to_disk(tmp_path / "b")
    assert all_images(tmp_path / "b") == [(value, None) for value in range(8)]
    assert open_hf(tmp_path / "b").train.classes is None


@pytest.mark.user_input(
    "source",
    "a test split whose labels are all -1",
    "its images have no label",
    source="https://github.com/huggingface/datasets/issues/5624",
)
def test_labels_that_are_missing(tmp_path):
    parts = {"train": dataset(labels=[0, -1, None, 1, 1, 1, 1, 1]), "test": dataset([50, 51], [-1, -1])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "a")
    train, val, *_ = open_hf(tmp_path / "a")
    assert images(train)[:4] == [(0, "ant"), (1, None), (2, None), (3, "bee")]
    assert images(val) == [(50, None), (51, None)]
    assert train.classes == CLASSES
    assert val.classes is None


def test_classes_of_the_splits_are_matched_by_name(loaded):
    loaded.update(train=dataset(), test=dataset([50, 51, 52], [0, 1, 2], ["cat", "dog", "ant"]))
    train, val, *_ = open_hf("owner/name")
    assert images(val) == [(50, "cat"), (51, None), (52, "ant")]
    assert val.classes == train.classes
    assert val.unknown_classes == ["dog"]


def test_splits_at_random_depend_on_the_seed(tmp_path):
    dataset().save_to_disk(tmp_path / "a")
    first, again, other = (open_hf(tmp_path / "a", seed=seed) for seed in (0, 0, 1))
    assert (len(first.train), len(first.val)) == (6, 2)
    assert sorted(images(first.train) + images(first.val)) == EXPECTED
    assert images(first.val) == images(again.val) != images(other.val)
    assert len(open_hf(tmp_path / "a", val="None").train) == 8


def test_a_source_is_small_and_the_same_in_other_processes(tmp_path):
    dataset().save_to_disk(tmp_path / "a")
    source = open_hf(tmp_path / "a").train
    content = pickle.dumps(source)
    assert png(0) not in content
    assert images(pickle.loads(content)) == images(source)
    with pytest.raises(IndexError):
        source[6]


def test_the_fingerprint_is_of_the_content(tmp_path):
    for name, data in (
        ("a", dataset()),
        ("b", dataset()),
        ("c", dataset(labels=[1] * 8)),
        ("d", dataset([*range(7), 200])),
    ):
        data.save_to_disk(tmp_path / name)
    first, same, labels, _ = (open_hf(tmp_path / name).train.fingerprint for name in "abcd")
    assert first == same != labels
    for name in ("x", "y"):
        save_images(tmp_path / name, "a/0.png", "b/1.png", "b/2.png")
    save_images(tmp_path / "z", "a/0.png", "b/1.png", "b/3.png")
    first, same, other = (open_hf(tmp_path / name, val="none").train.fingerprint for name in "xyz")
    assert first == same != other


@pytest.mark.user_input(
    "file", "a row of a Hugging Face data set without an image, or a damaged one", "it is replaced"
)
def test_images_that_cannot_be_decoded(loaded):
    rows = [b"text", None, "/nowhere.png", png(3)]
    loaded["train"] = datasets.Dataset.from_dict(
        {"image": rows}, datasets.Features({"image": datasets.Image()})
    )
    source = open_hf("owner/name", val="none").train
    for i, reason in enumerate(("not an image", "has no image", "'/nowhere.png': No such file")):
        with pytest.raises(BadImageError, match=rf"^'row {i} of owner/name \(train\)': {reason}"):
            source[i]
    assert source[3][1] == -1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_column": "imag"}, "image_column=imag: no such column; did you mean image?"),
        ({"image_column": "label"}, "image_column=label: must have images, but is of the type ClassLabel("),
        ({"label_column": "image"}, "label_column=image: must have class labels, integers or texts"),
        pytest.param(
            {"val": "tets"},
            "val=tets: no such split; did you mean test?",
            marks=pytest.mark.user_input(
                "value", "a split that the data set lacks", "an error names the closest one"
            ),
        ),
        ({"val": "train"}, "val=train: is the training split; try val=none"),
        ({"train": "a"}, "train=a: no such split; "),
    ],
)
def test_a_wrong_setting_is_an_error(changes, message, tmp_path):
    datasets.DatasetDict(train=dataset(), test=dataset([9])).save_to_disk(tmp_path / "a")
    assert error(tmp_path / "a", **changes).startswith(message)


def test_data_sets_that_cannot_be_used(tmp_path):
    datasets.DatasetDict(a=dataset(), b=dataset()).save_to_disk(tmp_path / "names")
    assert (
        error(tmp_path / "names") == "train=null: none of the splits a, b is named for training; try train=a"
    )
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "text")
    assert "found no column of images among text" in error(tmp_path / "text")
    dataset([1]).save_to_disk(tmp_path / "one")
    assert "has one image; a training and a validation split need two; try val=none" in error(
        tmp_path / "one"
    )
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.parquet").write_text("PAR1 and no more")
    assert error(tmp_path / "bad").startswith(f"name={tmp_path}/bad: ")
    for name, value in (("a", png(0)), ("b", {"x": 1})):
        datasets.Dataset.from_dict({"image": [value]}).to_parquet(tmp_path / "mixed" / f"{name}.parquet")
    assert error(tmp_path / "mixed").startswith(f"name={tmp_path}/mixed: Couldn't cast array of type struct")


@pytest.mark.user_input("source", "data.name=OWNER/NAME without a network", "one line, as for a wrong name")
def test_a_data_set_of_the_hub_without_a_network():
    assert error("owner/name").startswith("name=owner/name: Couldn't reach 'owner/name' on the Hub")
    assert error("owner/name").endswith("; check the network, or give a local folder")


@pytest.mark.user_input(
    "source", "a Hugging Face folder with a loading script", "refused; no code is executed"
)
def test_no_script_is_executed(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    assert "scripts are no longer supported" in error(tmp_path / "data")
    assert not (tmp_path / "executed").exists()


@pytest.mark.user_input(
    "source", "a Hugging Face folder with several configurations", "an error lists them; data.config chooses"
)
def test_a_configuration_is_chosen(tmp_path):
    for name, labels in (("small", [0] * 8), ("large", LABELS)):
        dataset(labels=labels).to_parquet(tmp_path / name / "0.parquet")
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*\n" for name in ("small", "large"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    rule = "must be a configuration of the data set; "
    assert error(tmp_path) == f"config=null: {rule}choose from large, small"
    assert error(tmp_path, config="smal") == f"config=smal: {rule}did you mean small?"
    assert all_images(tmp_path, config="large") == EXPECTED
    assert error(tmp_path, revision="main").startswith("revision=main: is for data sets of the Hub; ")
    file = tmp_path / "large" / "0.parquet"
    message = "config=large: the data set has no configurations; try config=null"
    assert error(file, config="large") == message
    dataset().save_to_disk(tmp_path / "saved")
    assert error(tmp_path / "saved", config="large") == message


@pytest.mark.user_input(
    "source", "data=hf with a folder of WebDataset archives", "the fields cls are the labels"
)
def test_a_folder_of_archives(tmp_path):
    content = {
        f"{i}.{field}": i if field == "png" else str(i % 3) for i in range(6) for field in ("png", "cls")
    }
    write_tar(tmp_path / "train-0.tar", content)
    assert all_images(tmp_path) == [(i, str(i % 3)) for i in range(6)]


def test_a_missing_folder_is_an_error_with_a_suggestion(tmp_path):
    (tmp_path / "images").mkdir()
    assert f"did you mean {tmp_path}/images?" in error(tmp_path / "image")


@pytest.mark.user_input("source", "data=hf without the package datasets", "one line with the pip command")
def test_without_the_library(monkeypatch):
    monkeypatch.setattr(optional_packages, "is_installed", lambda module: False)
    assert error("owner/name").endswith("the package datasets is missing; pip install 'cim-lightning[hf]'")


def test_the_library_prints_nothing_and_its_settings_are_restored(tmp_path, capfd):
    datasets.enable_progress_bars()
    verbosity = datasets.logging.get_verbosity()
    dataset().to_parquet(tmp_path / "a.parquet")
    capfd.readouterr()
    open_hf(tmp_path / "a.parquet")
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""
    assert not datasets.are_progress_bars_disabled()
    assert datasets.logging.get_verbosity() == verbosity
