"""A run resumes with its own images only, however their folder is spelled."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from cim_lightning.config import resume
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.source import Splits
from cim_lightning.errors import ConfigError

SAME_NAMES = "the same names with other labels or contents, or in another order"


@pytest.fixture
def train(
    run_pretrain: Callable[..., None], tiny: list[str], capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run or resume `cim-pretrain` to a step with the images at a path; return what it prints."""
    others = [argument for argument in tiny if not argument.startswith("data.root")]
    others += ["output_dir=run", "callbacks.knn=null", "trainer.limit_val_batches=1"]

    def run(root: object, step: int, *settings: str) -> str:
        try:
            run_pretrain(*others, f"data.root={root}", f"trainer.max_steps={step}", *settings)
        except SystemExit:
            return capfd.readouterr().err
        return capfd.readouterr().out

    return run


@pytest.mark.user_input(
    "path",
    "a resumed run with its folder spelled otherwise: `photos/`, a link, a relative path",
    "the run resumes",
)
@pytest.mark.user_input(
    "path",
    "a resumed run whose folder of images has moved",
    "the run resumes, with a line, if the images are the same",
)
@pytest.mark.user_input(
    "path",
    "a resumed run with an image more in its folder",
    "one line: restore the images, or data.changed=allow",
)
def test_images_are_compared_not_the_spelling_of_their_folder(photos, train, tmp_path):
    shutil.copytree(photos, tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert "resuming" not in train("a", 1)
    images = json.loads((tmp_path / "run" / "run.json").read_text())["images"]
    assert {split: images[split]["images"] for split in images} == {"train": 43, "val": 9}
    printed = train("./a/../link/", 2)
    assert "at step 1" in printed
    assert "has the same images" not in printed
    (tmp_path / "a").rename(tmp_path / "b")
    printed = train("b", 3)
    assert "data.root=b has the same images as ./a/../link/\n" in printed
    assert "at step 2" in printed
    shutil.copy(tmp_path / "b" / "train" / "a" / "0.png", tmp_path / "b" / "train" / "a" / "new.png")
    line = train("b", 4)
    assert line == (
        "cim-pretrain: data.root=b: has other training images (43 then, 44 now; added: train/a/new.png) than "
        "the checkpoint; restore the images, or try data.changed=allow\n"
    )
    change = "other training images (43 then, 44 now; added: train/a/new.png)"
    assert f"resuming with {change}\n" in train("b", 4, "data.changed=allow")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["image_changes"] == [{"step": 3, "change": change}]
    assert record["images"]["train"]["images"] == 44


class Names(NamedTuple):
    """A Source of blank images with names; without a fingerprint if it is None."""

    names: str
    fingerprint: str | None = ""

    @property
    def files(self) -> FileIndex:
        return FileIndex.from_names("", self.names)

    @property
    def keys(self) -> Any:
        return self.files.name_hashes

    def __len__(self) -> int:
        return len(self.names)


def data(train: Any, val: Any, **settings: Any) -> ImageData:
    images = ImageData(lambda root: Splits(train, val), lambda views, seeds: views, 2, root="b", **settings)
    images.splits = Splits(train, val)
    return images


def start(folder: Path, settings: dict, train: Any, val: Any) -> str:
    """Write the files of a run with these images; return its checkpoint."""
    (folder / "checkpoints").mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    images = data(train, val)
    content = {
        "global_step": 7,
        "state_dict": {},
        "loops": {},
        "callbacks": {},
        "ImageData": images.state_dict(),
    }
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    (folder / "run.json").write_text(json.dumps({"images": resume.fingerprints(images.image_record)}))
    return str(folder / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize(
    ("train", "val", "change"),
    [
        ("abd", "xy", "other training images (3 then, 3 now; added: d; removed: c)"),
        ("abcdefg", "xy", "other training images (3 then, 7 now; added: d, e, f, ...)"),
        ("acb", "xy", f"other training images (3 then, 3 now; {SAME_NAMES})"),
        ("abc", "x", "other validation images (2 then, 1 now; removed: y)"),
    ],
)
@pytest.mark.fault(
    "data",
    "images were added, removed or renamed between stop and resume",
    "one line with counts and names; the run resumes if data.changed=allow",
)
def test_other_images_are_refused_or_recorded(train, val, change, tmp_path):
    checkpoint = start(tmp_path, {"data": {"root": "b"}}, Names("abc"), Names("xy"))
    settings = {"data": {"root": "b"}, "resume": "auto"}
    same = data(Names("abc"), Names("xy"))
    assert resume.check_data(checkpoint, tmp_path, settings, same) == []
    refused = data(Names(train), Names(val))
    with pytest.raises(ConfigError) as caught:
        resume.check_data(checkpoint, tmp_path, settings, refused)
    line = f"root=b: has {change} than the checkpoint; restore the images, or try changed=allow"
    assert str(caught.value) == line
    allowed = data(Names(train), Names(val), changed="allow")
    expected = [{"step": 7, "change": change}]
    assert resume.check_data(checkpoint, tmp_path, {"resume": checkpoint}, allowed) == expected


def test_without_fingerprints_another_path_is_refused(tmp_path):
    checkpoint = start(tmp_path, {"data": {"root": "a"}}, Names("abc"), Names("xy", None))
    settings = {"data": {"root": "b"}, "resume": "auto"}
    with pytest.raises(ConfigError, match=r"^data\.root=b: the run in .* started with a; try data\.root=a"):
        resume.find_checkpoint(tmp_path, settings)
    resume.check_data(checkpoint, tmp_path, settings, data(Names("abc"), Names("zz")))  # nothing to compare
    with pytest.raises(ConfigError, match="3 now"):  # the numbers are compared
        resume.check_data(checkpoint, tmp_path, settings, data(Names("abc"), Names("xyz")))


def test_a_path_waits_for_the_fingerprints_and_other_settings_do_not(tmp_path):
    checkpoint = start(tmp_path, {"data": {"root": "a", "view_size": 32}}, Names("abc"), Names("xy"))
    same = {"data": {"root": "b", "view_size": 32}, "resume": "auto"}
    assert resume.find_checkpoint(tmp_path, same) == checkpoint
    with pytest.raises(ConfigError, match=r"^data\.view_size=64: the run in .* started with 32"):
        resume.find_checkpoint(tmp_path, {"data": {"root": "b", "view_size": 64}, "resume": "auto"})


@pytest.mark.fault(
    "checkpoint",
    "the checkpoint is of an earlier version",
    "one line: another output_dir, or its weights only",
)
def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path):
    torch.save({"global_step": 7, "ImageData": {"batches": 7}}, tmp_path / "last.ckpt")
    checkpoint = str(tmp_path / "last.ckpt")
    for choice, way_out in (("auto", "another output_dir"), (checkpoint, "resume=never")):
        rule = rf"^resume={choice}: .* is of an earlier version.*; try {way_out}, with backbone\.weights=/"
        with pytest.raises(ConfigError, match=rule):
            resume.check_data(checkpoint, tmp_path, {"resume": choice}, data(Names("a"), Names("")))
