"""Splits of the folder source: names of folders, `train` and `val`, and trees that are refused."""

import os
from pathlib import Path

import numpy as np
import pytest

from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.split_names import split_word, unclear_splits
from cim_lightning.errors import ConfigError
from tests.image_tree import contents, open_folder, save_images


def tree(root: Path, names: str) -> Path:
    return save_images(root, *names.split())


@pytest.mark.parametrize(
    ("name", "word"),
    [
        *(("train", "train"), ("Training", "training"), ("trainset", "train"), ("Train_Images", "train")),
        *(("train2017", "train"), ("ILSVRC2012_img_val", "val"), ("images-test", "test"), ("test1", "test")),
        *(
            ("VALID", "valid"),
            ("validate", "validate"),
            ("dev", "dev"),
            ("eval_set", "eval"),
            ("testing", "testing"),
        ),
        *(
            ("trains", ""),
            ("trainer", ""),
            ("retrain", ""),
            ("valley", ""),
            ("testimony", ""),
            ("contest", ""),
        ),
        *(("images", ""), ("data", ""), ("2017", ""), ("set", "")),
    ],
)
def test_names_of_splits(name, word):
    assert split_word(name) == word


@pytest.mark.parametrize(
    ("names", "train", "val"),
    [
        pytest.param(
            "train/a/0 train/b/1 validate/a/2",
            {"train/a/0": "a", "train/b/1": "b"},
            {"validate/a/2": "a"},
            marks=pytest.mark.user_input("folder", "`train/` beside `validate/`", "the two are the splits"),
        ),
        pytest.param(
            "train/a/0 train/b/1 dev/b/2",
            {"train/a/0": "a", "train/b/1": "b"},
            {"dev/b/2": "b"},
            marks=pytest.mark.user_input("folder", "`train/` beside `dev/`", "the two are the splits"),
        ),
        pytest.param(
            "training/0 eval/1",
            {"training/0": None},
            {"eval/1": None},
            marks=pytest.mark.user_input(
                "folder",
                "`training/` beside `eval/`, without classes",
                "the two are the splits, without labels",
            ),
        ),
        pytest.param(
            "TRAIN/a/0 TRAIN/b/1 Testing/b/2",
            {"TRAIN/a/0": "a", "TRAIN/b/1": "b"},
            {"Testing/b/2": "b"},
            marks=pytest.mark.user_input(
                "folder", "`TRAIN/` beside `Testing/`", "names in any case are the splits"
            ),
        ),
        pytest.param(
            "train2017/0 val2017/1 test2017/2",
            {"train2017/0": None},
            {"val2017/1": None},
            marks=pytest.mark.user_input(
                "folder",
                "COCO: `train2017/`, `val2017/`, `test2017/`",
                "train2017 and val2017 are the splits",
            ),
        ),
        pytest.param(
            "train/a/0 train/b/1 test/a/2 Val/b/3",
            {"train/a/0": "a", "train/b/1": "b"},
            {"Val/b/3": "b"},
            marks=pytest.mark.user_input(
                "folder",
                "`train/`, `Val/` and `test/`",
                "Val is for validation; test is counted and not used",
            ),
        ),
        pytest.param(
            "dataset/train/a/0 dataset/train/b/1 dataset/validation/b/2",
            {"dataset/train/a/0": "a", "dataset/train/b/1": "b"},
            {"dataset/validation/b/2": "b"},
            marks=pytest.mark.user_input(
                "folder", "`dataset/train/` and `dataset/validation/`", "the two are the splits"
            ),
        ),
        pytest.param(
            "x/images/train/0 x/images/val/1",
            {"x/images/train/0": None},
            {"x/images/val/1": None},
            marks=pytest.mark.user_input(
                "folder", "YOLO: `images/train/` and `images/val/` beside labels", "the two are the splits"
            ),
        ),
        pytest.param(
            "train/images/a/0 train/images/b/1 val/images/b/2",
            {"train/images/a/0": "a", "train/images/b/1": "b"},
            {"val/images/b/2": "b"},
            marks=pytest.mark.user_input(
                "folder", "`train/images/<class>/`", "the folders below images are the classes"
            ),
        ),
        ("training/0 train/1 valid/2 val/3", {"train/1": None}, {"val/3": None}),  # the usual names first
        ("train/images/0 val/images/1", {"train/images/0": None}, {"val/images/1": None}),
        ("train/a/0 train/b/1 val/b/x/2", {"train/a/0": "a", "train/b/1": "b"}, {"val/b/x/2": "b"}),
    ],
)
def test_folders_with_names_of_splits(tmp_path, names, train, val):
    splits = open_folder(str(tree(tmp_path, names)))
    assert contents(splits.train, tmp_path) == train
    assert contents(splits.val, tmp_path) == val


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        pytest.param(
            "x/a/0 x/b/1",
            ["a", "b"],
            marks=pytest.mark.user_input(
                "folder", "one folder above the class folders", "the inner ones are classes"
            ),
        ),
        ("a/x/0 b/y/1", ["a", "b"]),
        ("a/x/0 b/x/1", ["a", "b"]),  # <class>/images/<image>
        ("a/x/0 a/y/1 b/x/2 b/z/3 b/w/4", ["a", "b"]),  # 1 of 4 names in common
        ("a/x/0 a/y/1 a/z/2 b/x/3 b/y/4 b/v/5 b/w/6", ["a", "b"]),  # 2 of 5
        ("a/x/0 a/y/1 b/x/0 b/y/1 c/0 d/0 e/0", ["a", "b", "c", "d", "e"]),  # too many for splits
        ("bus/0 train/1 tram/2", ["bus", "train", "tram"]),
        ("test/0 car/1 bus/2", ["bus", "car", "test"]),
        ("bullet_train/0 tram/1", ["bullet_train", "tram"]),
        ("a/train/0 a/val/1 b/train/2 b/val/3 c/0 d/1 e/2", ["a", "b", "c", "d", "e"]),
    ],
)
def test_folders_that_are_classes(tmp_path, names, classes):
    splits = open_folder(str(tree(tmp_path, names)))
    assert splits.train.classes == classes
    assert len(splits.train) + len(splits.val) == len(names.split())


@pytest.mark.parametrize(
    ("names", "reason", "hint"),
    [
        pytest.param(
            "a/cat/0 a/dog/1 b/cat/2 b/dog/3",
            "a and b have the same sub-folders (cat, dog), as if they were splits",
            "try train=a val=b, or train=. for classes a, b",
            marks=pytest.mark.user_input(
                "folder",
                "splits under unknown names: `a/cat`, `a/dog`, `b/cat`, `b/dog`",
                "one line names train and val",
            ),
        ),
        pytest.param(
            "t/fold1/x/0 t/fold1/y/1 t/fold2/x/2 t/fold2/y/3 t/fold3/x/4 t/fold4/x/5 t/fold5/x/6",
            "fold1 and fold2 have the same sub-folders (x, y)",
            "try train=t/fold1 val=t/fold2, or train=t/ for classes fold1, fold2, fold3, fold4, ...",
            marks=pytest.mark.user_input(
                "folder", "folds of a cross-validation", "one line names train and val"
            ),
        ),
        pytest.param(
            "other/0 val/1",
            "has val beside other, as if",
            "try train=other val=val, or train=. for classes other, val",
            marks=pytest.mark.user_input(
                "folder", "`val/` beside a folder of another name", "one line names train"
            ),
        ),
        pytest.param(
            "train/0 xyz/1",
            "has train beside xyz, as if",
            "try train=train val=xyz, or train=. for classes train, xyz",
            marks=pytest.mark.user_input(
                "folder", "`train/` beside one folder of an unknown name", "one line names val"
            ),
        ),
        pytest.param(
            "val/0 test/1",
            "has test, val without train",
            "try train=test val=val",
            marks=pytest.mark.user_input("folder", "`val/` and `test/` only", "one line names train and val"),
        ),
        pytest.param(
            "cat/train/0 cat/test/1 dog/train/2 dog/test/3",
            "each of cat, dog has folders for training and validation, as if",
            "try train='*/train' val='*/test'",
            marks=pytest.mark.user_input(
                "folder",
                "splits inside the classes: `cat/train`, `cat/test`",
                "one line names globs that work",
            ),
        ),
        (
            "a/train/0 a/val/1 b/train/2 b/val/3 c/train/4 c/val/5 d/train/6 d/val/7 e/train/8 e/test/9",
            "each of a, b, c, d, ... has folders",
            "try train='*/train' val='*/val'",
        ),
        pytest.param(
            "cub_test/0 cub_train/1",
            "has cub_train beside cub_test, as if",
            "try train=cub_train val=cub_test, or train=. for classes cub_test, cub_train",
            marks=pytest.mark.user_input(
                "folder", "`cub_train/` beside `cub_test/`, without classes", "one line names train and val"
            ),
        ),
        (
            "testA/0 testB/1 trainA/2 trainB/3",  # of CycleGAN
            "has trainA, trainB beside testA, testB, as if",
            "try train=trainA val=testA",
        ),
    ],
)
def test_trees_that_look_like_splits_are_refused(tmp_path, names, reason, hint):
    tree(tmp_path, names)
    with pytest.raises(ConfigError) as caught:
        open_folder(str(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"root={tmp_path}: {reason}")
    assert hint in message
    assert "\n" not in message


def test_many_classes_with_the_same_sub_folders_are_no_splits():
    names = [f"{person:02}/{view}/0.png" for person in range(11) for view in ("left", "right")]
    assert unclear_splits(FileIndex.from_names("/", names)) == ""
    assert unclear_splits(FileIndex.from_names("/", names[:20]))  # ten folders, as in a cross-validation


ANIMALS = "a/cat/0 a/dog/1 b/cat/2 b/dog/3"


@pytest.mark.parametrize(
    ("names", "settings", "train", "val"),
    [
        pytest.param(
            ANIMALS,
            {"train": "a", "val": "b"},
            {"a/cat/0": "cat", "a/dog/1": "dog"},
            {"b/cat/2": "cat", "b/dog/3": "dog"},
            marks=pytest.mark.user_input("folder", "data.train=a data.val=b", "the folders below root"),
        ),
        pytest.param(
            ANIMALS,
            {"train": ".", "val": "none"},
            {"a/cat/0": "a", "a/dog/1": "a", "b/cat/2": "b", "b/dog/3": "b"},
            {},
            marks=pytest.mark.user_input("folder", "data.train=.", "all folders below root are classes"),
        ),
        pytest.param(
            "train/x/0 train/y/1 val/y/2",
            {"val": "none"},
            {"train/x/0": "x", "train/y/1": "y"},
            {},
            marks=pytest.mark.user_input("folder", "data.val=none", "no validation images"),
        ),
        ("x/0 y/1", {"val": "none"}, {"x/0": "x", "y/1": "y"}, {}),
        ("d/a/0 d/b/1", {"train": ".", "val": "none"}, {"d/a/0": None, "d/b/1": None}, {}),  # one class: d
        (ANIMALS, {"val": "b"}, {"a/cat/0": "cat", "a/dog/1": "dog"}, {"b/cat/2": "cat", "b/dog/3": "dog"}),
        ("x/0 y/1 test/x/2", {"val": "test"}, {"x/0": "x", "y/1": "y"}, {"test/x/2": "x"}),
        ("one/0 val/1", {"train": "one"}, {"one/0": None}, {"val/1": None}),  # val is found by its name
        ("val/0 test/1", {"train": "val"}, {"val/0": None}, {"test/1": None}),
        ("train/0 val/1", {"train": "val", "val": "train"}, {"val/1": None}, {"train/0": None}),
        ("x/0 y/1", {"train": "x", "val": "y"}, {"x/0": None}, {"y/1": None}),
        ("x/0 x/v/1 y/2", {"train": ".", "val": "x/v"}, {"x/0": "x", "y/2": "y"}, {"x/v/1": None}),
        ("x/0 y/1 z/2", {"train": ["x", "y"], "val": "z"}, {"x/0": None, "y/1": None}, {"z/2": None}),
        (
            "cat/train/0 cat/test/1 dog/train/2 dog/test/3",
            {"train": "*/train", "val": "*/test"},
            {"cat/train/0": "cat", "dog/train/2": "dog"},
            {"cat/test/1": "cat", "dog/test/3": "dog"},
        ),
    ],
)
def test_train_and_val(tmp_path, names, settings, train, val):
    splits = open_folder(str(tree(tmp_path, names)), **settings)
    assert contents(splits.train, tmp_path) == train
    assert contents(splits.val, tmp_path) == val


def test_train_and_val_outside_root_and_below_the_working_directory(tmp_path, monkeypatch):
    tree(tmp_path, "root/0 elsewhere/a/1 elsewhere/b/2 work/here/b/3")
    monkeypatch.chdir(tmp_path / "work")
    splits = open_folder(str(tmp_path / "root"), train=str(tmp_path / "elsewhere"), val="here")
    assert contents(splits.train, tmp_path) == {"elsewhere/a/1": "a", "elsewhere/b/2": "b"}
    assert contents(splits.val, tmp_path) == {"work/here/b/3": "b"}


def test_a_random_split_of_train(tmp_path):
    splits = open_folder(str(tree(tmp_path, "a/x/0 a/y/1 a/x/2 a/y/3 b/x/4 b/y/5")), 0.25, train="a")
    assert {**contents(splits.train, tmp_path), **contents(splits.val, tmp_path)} == {
        "a/x/0": "x",
        "a/x/2": "x",
        "a/y/1": "y",
        "a/y/3": "y",
    }
    assert len(splits.val) == 1


@pytest.mark.user_input("folder", "data.val=random", "part of the training images, although others are named")
@pytest.mark.parametrize("settings", [{}, {"train": "train"}])
def test_random_validation_images_are_training_images_although_others_are_named(tmp_path, settings):
    tree(tmp_path, "train/x/0 train/y/1 train/x/2 train/y/3 test/x/4 test/y/5")
    splits = open_folder(str(tmp_path), 0.25, val="random", **settings)
    found = contents(splits.train, tmp_path) | contents(splits.val, tmp_path)
    assert found == {"train/x/0": "x", "train/x/2": "x", "train/y/1": "y", "train/y/3": "y"}
    assert splits.drawn
    assert len(splits.val) > 0
    if not settings:
        assert splits.describe().endswith(" for validation); skipped: 2 in test")


def test_all_images_are_classes_and_validation_is_random(tmp_path):
    splits = open_folder(str(tree(tmp_path, "x/0 y/1 val/2")), 0.3, train=".")
    found = contents(splits.train, tmp_path) | contents(splits.val, tmp_path)
    assert found == {"x/0": "x", "y/1": "y", "val/2": "val"}
    assert len(splits.val) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": "trian"}, "train=trian: {root}/trian does not exist; did you mean {root}/train?"),
        ({"val": ["empty", "other"]}, "val=[empty, other]: {root}/empty has no image (."),
        ({"val": "."}, "val=.: has all images of the training split; try val=none, or another train"),
        ({"train": []}, "train=[]: has no path; name a folder"),
        ({"val": ""}, "val=: has an empty path; name a folder"),
        ({"train": ["train", ""]}, "train=[train, ]: has an empty path; name a folder"),
        ({"train": "none"}, "train=none: {root}/none does not exist"),
    ],
)
def test_wrong_values_of_train_and_val(tmp_path, settings, message):
    tree(tmp_path, "train/0 other/1 third/2")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as caught:
        open_folder(str(tmp_path), **settings)
    assert message.format(root=tmp_path) in str(caught.value)


@pytest.mark.user_input(
    "folder", "a class only in validation", "its images have no label; a line names the class"
)
def test_a_class_without_training_images(tmp_path):
    tree(tmp_path, "train/horse/0 train/zebra/1 val/horse/2 val/zebras/3 val/cow/4")
    splits = open_folder(str(tmp_path))
    assert splits.train.classes == splits.val.classes == ["horse", "zebra"]
    assert contents(splits.val, tmp_path) == {"val/cow/4": None, "val/horse/2": "horse", "val/zebras/3": None}
    assert splits.val.unknown_classes == ["cow", "zebras"]
    assert "2 for validation have no label, as there are no training images of cow, zebras" in splits.summary


def test_the_classes_of_train_do_not_depend_on_val(tmp_path):
    tree(tmp_path, "train/b/0 train/c/1 val/a/2 val/c/3")
    splits = open_folder(str(tmp_path))
    assert splits.train.classes == ["b", "c"]
    assert splits.val.labels.tolist() == [-1, 1]


@pytest.mark.user_input(
    "folder",
    "a stray picture beside `dataset/train` and `dataset/test`",
    "the splits are found; it is counted",
)
def test_an_image_beside_a_single_folder(tmp_path):
    tree(tmp_path, "dataset/train/a/0 dataset/train/b/1 dataset/test/a/2 preview")
    splits = open_folder(str(tmp_path))
    assert contents(splits.train, tmp_path) == {"dataset/train/a/0": "a", "dataset/train/b/1": "b"}
    assert contents(splits.val, tmp_path) == {"dataset/test/a/2": "a"}
    assert splits.summary.endswith("; skipped: 1 beside dataset/")


def test_images_beside_a_single_folder(tmp_path):
    names = "x/a/0 x/b/1 2 3"  # more than a few
    train = open_folder(str(tree(tmp_path, names)), val="none").train
    assert contents(train, tmp_path) == dict.fromkeys(names.split())


def test_an_image_directly_in_the_only_split(tmp_path):
    train = open_folder(str(tree(tmp_path, "train/a/0 train/b/1 train/2")), val="none").train
    assert contents(train, tmp_path) == {"train/a/0": "a", "train/b/1": "b"}


def test_none_in_any_case(tmp_path):
    assert len(open_folder(str(tree(tmp_path, "a/0 b/1")), val="None").val) == 0


def test_the_summary_has_one_printable_line(tmp_path):
    tree(tmp_path, "train/a/0 train/b/1 val/a/2")
    save_images(tmp_path, "train/a/x.y\nz", os.fsdecode(b"val/c\xff/3"))
    (tmp_path / "train" / "a" / "x.y\nz").write_text("no image")
    summary = open_folder(str(tmp_path)).summary
    assert "1 .y?z" in summary
    assert "no training images of c?" in summary
    summary.encode()


def test_labels_of_a_million_images_are_a_small_array(tmp_path):
    assert open_folder(str(tree(tmp_path, "a/0 b/1 b/2"))).train.labels.dtype == np.int32


@pytest.mark.parametrize(
    ("names", "settings", "summary"),
    [
        (
            "train/a/0 train/b/1 val/b/2 test/b/3 test/a/4 x",
            {},
            "3 images in 2 classes (2 for training from train, 1 for validation from val); "
            "skipped: 2 in test, 1 beside the splits",
        ),
        ("a/0 a/1 b/2 b/3", {}, "4 images in 2 classes (3 for training, 1 for validation)"),
        ("a/0 b/1", {"val": "none"}, "2 images in 2 classes (2 for training, none for validation)"),
        (
            "train/0 val/1",
            {"val": "none"},
            "1 images without labels (1 for training from train, none for validation); skipped: 1 in val",
        ),
        (
            "a/0 b/1 2 3",
            {},
            "4 images without labels (3 for training, 1 for validation); "
            "no labels, because 2 of 4 images are beside the folders",
        ),
    ],
)
def test_the_summary(tmp_path, names, settings, summary):
    assert open_folder(str(tree(tmp_path, names)), **settings).summary == summary


@pytest.mark.user_input(
    "folder", "files of other kinds among the images", "one line counts them by suffix, with what to install"
)
def test_the_summary_counts_other_files(tmp_path, monkeypatch):
    tree(tmp_path, "a/0.png b/1.png a/note.txt b/note.txt b/2.heic")
    hints = {".png": None, ".heic": "pip install pillow-heif"}
    for module in ("folder_walk", "pixel_format"):
        monkeypatch.setattr(f"cim_lightning.data.{module}.decodable_suffixes", lambda: hints)
    summary = open_folder(str(tmp_path)).summary
    assert summary.endswith("; skipped: 2 .txt, 1 .heic (pip install pillow-heif)")


@pytest.mark.parametrize(
    ("num_stray", "num_inside", "labeled"),
    [(1, 4, True), (5, 95, True), (6, 94, False), (2, 4, False)],
)
@pytest.mark.user_input(
    "folder",
    "a stray image beside the class folders",
    "it is skipped and counted; more than 5 % mean no labels",
)
def test_images_beside_the_classes(tmp_path, num_stray, num_inside, labeled):
    names = [*(f"{i}" for i in range(num_stray)), *(f"{'ab'[i % 2]}/{i}" for i in range(num_inside))]
    splits = open_folder(str(save_images(tmp_path, *names)))
    assert splits.train.classes == (["a", "b"] if labeled else None)
    assert len(splits.train) + len(splits.val) == num_inside + (0 if labeled else num_stray)
    assert (f"skipped: {num_stray} beside the classes" in splits.summary) == labeled


@pytest.mark.user_input("folder", "a stray image in `val/`", "it is skipped and counted; the labels stay")
def test_an_image_beside_the_validation_classes(tmp_path):
    tree(tmp_path, "train/a/0 train/b/1 val/a/2 val/a/3 val/4")
    splits = open_folder(str(tmp_path))
    assert contents(splits.val, tmp_path) == {"val/a/2": "a", "val/a/3": "a"}
    assert splits.summary.endswith("skipped: 1 beside the classes")


@pytest.mark.user_input(
    "folder",
    "ImageNet as downloaded: class folders in `train/`, none in `val/`",
    "training with classes; validation images without labels",
    source="https://github.com/umd-huang-lab/perceptionCLIP/issues/3",
)
def test_validation_images_without_class_folders(tmp_path):
    tree(tmp_path, "train/n01/0 train/n02/1 val/2 val/3")
    splits = open_folder(str(tmp_path))
    assert splits.train.classes == ["n01", "n02"]
    assert splits.val.classes is None
    assert contents(splits.val, tmp_path) == {"val/2": None, "val/3": None}


@pytest.mark.user_input(
    "folder",
    "data.root=data/val2017, a flat folder with the name of a split",
    "its images, drawn at random for training and validation",
    source="https://github.com/igreat/fast-style-transfer/issues/4",
)
def test_a_root_with_the_name_of_a_split(tmp_path):
    splits = open_folder(str(tree(tmp_path / "val2017", "0 1 2 3")))
    assert (len(splits.train), len(splits.val)) == (3, 1)


def test_unlabeled_training_images_do_not_shrink_validation(tmp_path):
    tree(tmp_path, "train/0 train/1 val/a/2 val/b/3 val/4")
    splits = open_folder(str(tmp_path))
    assert splits.train.classes is None
    assert contents(splits.val, tmp_path) == {"val/4": None, "val/a/2": None, "val/b/3": None}
