"""Frames and pairs of frames from video files and folders of frames."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from cim_lightning.data import optional_packages
from cim_lightning.data.pixel_format import RGB8
from cim_lightning.data.video.source import video
from cim_lightning.errors import BadImageError, ConfigError

spec = importlib.util.spec_from_file_location("moving_scenes", Path(__file__).with_name("moving_scenes.py"))
moving_scenes = importlib.util.module_from_spec(spec)
sys.modules["moving_scenes"] = moving_scenes
spec.loader.exec_module(moving_scenes)
scene, write_frames, write_video = (
    moving_scenes.scene,
    moving_scenes.write_frames,
    moving_scenes.write_video,
)


def open_video(root, frame_stride=1, max_gap=0, val_fraction=0.25, val=None):
    return video(str(root), frame_stride, max_gap, val_fraction, 0, RGB8, val)


def frames_of(source):
    return [np.asarray(source[i][0]) for i in range(len(source))]


@pytest.fixture
def clips(tmp_path):
    """Two classes of four clips each, half of them videos."""
    scenes = {}
    for number in range(8):
        name = f"{'walk' if number % 2 else 'run'}/clip_{number}"
        scenes[name] = scene(number, 12)
        if number < 4:
            write_frames(tmp_path / name, scenes[name])
        else:
            write_video(tmp_path / f"{name}.mkv", scenes[name])
    return tmp_path, scenes


@pytest.mark.user_input("source", "a folder of video files and of folders of frames", "every frame, by clip")
def test_all_frames_are_read_and_a_clip_is_in_one_split(clips):
    root, scenes = clips
    splits = open_video(root)
    assert (len(splits.train), len(splits.val)) == (6 * 12, 2 * 12)
    assert splits.train.classes == ["run", "walk"]
    expected = {name: [frame.tobytes() for frame in frames] for name, frames in scenes.items()}
    found = []
    for source in (splits.train, splits.val):
        frames = [frame.tobytes() for frame in frames_of(source)]
        for start in range(0, len(frames), 12):
            clip = frames[start : start + 12]
            (name,) = [name for name, frames in expected.items() if frames == clip]
            labels = {source[i][1] for i in range(start, start + 12)}
            assert labels == {["run", "walk"].index(name.split("/")[0])}
            found.append(name)
    assert sorted(found) == sorted(scenes)
    assert splits.summary.startswith(
        "72 training and 24 validation frames, 1 apart, of 8 clips in 2 classes (6 for training, 2 for "
    )


def test_frame_stride_and_labels_by_hand(tmp_path):
    for name, count in (("a/x", 5), ("b/y", 3), ("b/z", 4)):
        write_frames(tmp_path / "train" / name, scene(0, count))
    write_frames(tmp_path / "val" / "b" / "w", scene(1, 2))
    splits = open_video(tmp_path, frame_stride=2)
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]  # frames 0 2 4, 0 2, 0 2
    assert splits.val.labels.tolist() == [1]
    assert np.array_equal(np.asarray(splits.train[2][0]), scene(0, 5)[4])


@pytest.mark.user_input("source", "frames named `frame_9.png`, `frame_10.png`", "in the order of the numbers")
def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    frames = scene(3, 12)
    write_frames(tmp_path / "one", frames)
    write_frames(tmp_path / "two", frames)
    splits = open_video(tmp_path, val="none")
    assert splits.train.classes is None
    for found, expected in zip(frames_of(splits.train)[:12], frames, strict=True):
        assert np.array_equal(found, expected)


def test_pairs_are_at_most_max_gap_apart_and_cover_every_gap(clips):
    root, _ = clips
    source = open_video(root, max_gap=3).train
    frames = [frame.tobytes() for frame in frames_of(source)]
    gaps = set()
    for index in (0, 5, 11, 40):
        clip = frames[index // 12 * 12 : index // 12 * 12 + 12]
        for seed in range(30):
            pair, label = source.sample(index, np.random.default_rng(seed))
            again, _ = source.sample(index, np.random.default_rng(seed))
            assert np.array_equal(pair, again)
            assert label == source[index][1]
            assert pair.shape == (48, 48, 6)
            assert pair[..., :3].tobytes() == clip[index % 12]
            gaps.add(clip.index(pair[..., 3:].tobytes()) - index % 12)
    assert gaps == set(range(-3, 4))


def test_validation_frames_have_no_pairs(clips):
    source = open_video(clips[0], max_gap=3).val
    image, _ = source.sample(4, np.random.default_rng(0))
    assert np.array_equal(np.asarray(image), np.asarray(source[4][0]))


@pytest.mark.user_input("source", "a damaged video, a text file and a single image", "skipped and counted")
def test_what_is_no_clip_is_skipped_and_counted(clips):
    root, _ = clips
    (root / "run" / "broken.mp4").write_bytes(b"no video at all")
    (root / "notes.txt").write_text("notes")
    write_frames(root / "single", scene(0, 1))
    splits = open_video(root)
    assert len(splits.train) + len(splits.val) == 8 * 12
    for part in ("1 videos that cannot be opened", "1 .txt", "1 single images"):
        assert part in splits.summary


@pytest.mark.user_input("source", "one video", "one line: divide it, or `data.val=none`")
def test_one_clip_is_an_error_unless_there_is_no_validation(tmp_path):
    write_frames(tmp_path / "clip", scene(0, 4))
    with pytest.raises(ConfigError, match=r"^root=.*: has one clip; .*; divide the video, or try val=none"):
        open_video(tmp_path)
    assert len(open_video(tmp_path, val="none").train) == 4


@pytest.mark.user_input("source", "`data=video` of a folder without clips", "one line with what was found")
def test_a_folder_without_clips_is_an_error(tmp_path):
    rule = r"^root=.*: has no video and no folder of frames; found: "
    with pytest.raises(ConfigError, match=f"{rule}nothing$"):
        open_video(tmp_path)
    write_frames(tmp_path / "only", scene(0, 1))
    with pytest.raises(ConfigError, match=f"{rule}1 single images$"):
        open_video(tmp_path)


@pytest.mark.user_input("source", "`data=video data.root=` a list, a glob or one video", "one line: a folder")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clips.csv", "is a file, must be a folder; try root="),  # its labels would be lost
        ("run/clip_4.mkv", "is a file, must be a folder; try root=.*run$"),
        ("*/*.mkv", "does not exist; the path exists up to"),
    ],
)
def test_a_root_that_is_no_folder_is_an_error(name, message, clips):
    root, _ = clips
    (root / "clips.csv").write_text("path,label\nrun/clip_4.mkv,a\nwalk/clip_5.mkv,b\n")
    with pytest.raises(ConfigError, match=rf"^root=.*: {message}"):
        open_video(root / name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frame_stride": 0}, r"^frame_stride=0: must be at least 1"),
        ({"max_gap": -1}, r"^max_gap=-1: must be at least 0"),
        ({"val": "here"}, r"^val=here: must be none or null; try val=none, or folders"),
    ],
)
def test_a_parameter_out_of_range_is_an_error(arguments, message, clips):
    with pytest.raises(ConfigError, match=message):
        open_video(clips[0], **arguments)


@pytest.mark.user_input("source", "videos without PyAV", "one line: pip install 'cim-lightning[video]'")
def test_a_missing_package_is_an_error(clips, monkeypatch):
    monkeypatch.setattr(optional_packages, "is_installed", lambda module: False)
    with pytest.raises(ConfigError, match=r"^video files: the package av is missing; pip install 'cim-li"):
        open_video(clips[0])


def test_frames_of_different_sizes_are_bad_images(tmp_path):
    write_frames(tmp_path / "a", scene(0, 4))
    moving_scenes.Image.fromarray(scene(0, 1)[0][:40]).save(tmp_path / "a" / "frame_2.png")
    source = open_video(tmp_path, max_gap=1, val="none").train
    seed = next(s for s in range(99) if np.random.default_rng(s).integers(2, 3, endpoint=True) == 2)
    with pytest.raises(BadImageError, match=r"/a': frames 3 and 2 have different sizes"):
        source.sample(3, np.random.default_rng(seed))  # frame 3 with frame 2
