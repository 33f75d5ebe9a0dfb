"""A run resumes with its own images only, however their folder is spelled."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from cim_lightning.config import resume
from cim_lightning.errors import ConfigError


@pytest.fixture
def train(
    run_pretrain: Callable[..., None], tiny: list[str], capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run or resume `cim-pretrain` to a step with the images at a path; return what it prints."""
    others = [argument for argument in tiny if not argument.startswith("data.root")]
    others += ["output_dir=run", "callbacks.knn=null", "trainer.limit_val_batches=1"]

    def run(root: object, step: int) -> str:
        try:
            run_pretrain(*others, f"data.root={root}", f"trainer.max_steps={step}")
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
    "one line: restore the images, or another output_dir",
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
        "cim-pretrain: data.root=b: has other training images (43 then, 44 now) than the run in "
        f"{tmp_path}/run started with; restore the images, or try another output_dir\n"
    )


class Images(NamedTuple):
    """Stands for a Source of five images; without a fingerprint if it is None."""

    fingerprint: str | None

    def __len__(self) -> int:
        return 5


def start(folder: Path, settings: dict, *prints: str | None) -> None:
    """Write the files of a run with images of these fingerprints."""
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    images = resume.fingerprints([Images(print) for print in prints])
    (folder / "run.json").write_text(json.dumps({"images": images}))


def test_other_validation_images_are_refused(tmp_path):
    start(tmp_path, {"data": {"root": "a"}}, "x", "y")
    resume.check_images(tmp_path, {"data": {"root": "a"}}, [Images("x"), Images("y")])
    with pytest.raises(ConfigError, match=r"^data\.root=b: has other validation images \(5 then, 5 now\)"):
        resume.check_images(tmp_path, {"data": {"root": "b"}}, [Images("x"), Images("z")])


def test_without_fingerprints_another_path_is_refused(tmp_path):
    start(tmp_path, {"data": {"root": "a"}}, "x", None)
    settings = {"data": {"root": "b"}, "resume": "auto"}
    with pytest.raises(ConfigError, match=r"^data\.root=b: the run in .* started with a; try data\.root=a"):
        resume.find_checkpoint(tmp_path, settings)
    resume.check_images(tmp_path, settings, [Images("x"), Images("y")])  # nothing to compare


def test_a_path_waits_for_the_fingerprints_and_other_settings_do_not(tmp_path):
    start(tmp_path, {"data": {"root": "a", "view_size": 32}}, "x", "y")
    same = {"data": {"root": "b", "view_size": 32}, "resume": "auto"}
    assert resume.find_checkpoint(tmp_path, same) == str(tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(ConfigError, match=r"^data\.view_size=64: the run in .* started with 32"):
        resume.find_checkpoint(tmp_path, {"data": {"root": "b", "view_size": 64}, "resume": "auto"})
