"""Frames of video files: their number, their order and their orientation."""

import importlib.util
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from cim_lightning.data.pixel_format import RGB8
from cim_lightning.data.video.video_file import VideoFile
from cim_lightning.errors import BadImageError

spec = importlib.util.spec_from_file_location("moving_scenes", Path(__file__).with_name("moving_scenes.py"))
moving_scenes = importlib.util.module_from_spec(spec)
sys.modules["moving_scenes"] = moving_scenes
spec.loader.exec_module(moving_scenes)
scene, write_video = moving_scenes.scene, moving_scenes.write_video


def decode_all(path):
    """Decode from the start, as a player does."""
    import av

    with av.open(str(path)) as container:
        return [np.asarray(frame.to_image()) for frame in container.decode(video=0)]


def read(clip, *indices):
    return [np.asarray(frame) for frame in clip.read(indices)]


@pytest.mark.parametrize(
    ("codec", "suffix", "b_frames"),
    [("mpeg4", ".mp4", 0), ("mpeg4", ".mp4", 2), ("mpeg4", ".avi", 0), ("ffv1", ".mkv", 0)],
)
def test_any_frame_is_the_frame_of_a_decoder_that_reads_from_the_start(codec, suffix, b_frames, tmp_path):
    path = tmp_path / f"video{suffix}"
    write_video(path, scene(4, 15), codec, b_frames=b_frames)
    expected = decode_all(path)
    clip = VideoFile.open(str(path), RGB8)
    assert clip.num_frames == 15
    for i in (14, 0, 7, 5, 6, 12, 11):
        (found,) = read(clip, i)
        assert np.array_equal(found, expected[i])
    first, second = read(clip, 9, 3)  # in the order of the arguments
    assert np.array_equal(first, expected[9])
    assert np.array_equal(second, expected[3])


def test_containers_that_seek_behind_a_frame_are_off_by_few_frames(tmp_path):
    path = tmp_path / "video.mpg"
    write_video(path, scene(4, 15), "mpeg1video", b_frames=2)  # a key frame every 6 frames
    expected = decode_all(path)
    clip = VideoFile.open(str(path), RGB8)
    for index in range(15):
        (found,) = read(clip, index)
        (shown,) = [i for i, frame in enumerate(expected) if np.array_equal(frame, found)]
        assert abs(shown - index) <= 2


@pytest.mark.user_input(
    "source", "a browser's recording, whose header has 1000 frames/s", "frames of all its length"
)
def test_the_times_of_the_frames_decide_if_the_header_has_no_number_of_frames(tmp_path):
    times = [0, 40, 80, 120, 360, 400, 440, 480, 720]  # ms; 90 on average
    path = tmp_path / "recording.mkv"
    write_video(path, scene(5, 9), times=times)
    expected = decode_all(path)
    clip = VideoFile.open(str(path), RGB8)
    assert clip.num_frames == 9
    # Shown at or after 0, 90, 180, ... ms, with half a frame of 45 ms as the margin for rounded times.
    for index, shown in enumerate((0, 2, 4, 4, 4, 6, 8, 8, 8)):
        assert np.array_equal(*read(clip, index), expected[shown])


@pytest.mark.user_input("source", "a video that a phone rotated by 90 degrees", "upright frames")
@pytest.mark.parametrize(
    ("matrix", "quarter_turns"), [((0, 1, -1, 0), -1), ((0, -1, 1, 0), 1), ((-1, 0, 0, -1), 2)]
)
def test_frames_are_turned_as_the_file_says(matrix, quarter_turns, tmp_path):
    path = tmp_path / "phone.mp4"
    write_video(path, scene(6, 3)[:, :32], "mpeg4")
    (frame, *_) = decode_all(path)
    data = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)  # x' = a x + c y, y' = b x + d y, with y downwards
    start = data.index(b"tkhd") + 44  # of the matrix in a track header of version 0
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    (found,) = read(VideoFile.open(str(path), RGB8), 0)
    assert np.array_equal(found, np.rot90(frame, quarter_turns))


@pytest.mark.user_input("source", "a video of which the end is missing", "the frames that are there")
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_truncated_video_has_the_frames_that_are_in_the_file(suffix, tmp_path):
    path = tmp_path / f"video{suffix}"
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}  # the header first
    write_video(path, np.tile(scene(7, 16), (12, 1, 1, 1)), "mpeg4", **options)
    expected, data = decode_all(path), path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    clip = VideoFile.open(str(path), RGB8)
    assert 50 < clip.num_frames < 180
    for index in range(0, clip.num_frames - 1, 5):  # the last one may be cut
        assert np.array_equal(*read(clip, index), expected[index])


@pytest.mark.user_input("source", "an empty video, and a sound file named .mp4", "skipped and counted")
def test_a_file_without_frames_is_an_error(tmp_path):
    import av

    empty, sound = tmp_path / "empty.mp4", tmp_path / "sound.mp4"
    empty.write_bytes(b"")
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        stream.layout = "mono"
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        samples.sample_rate = 8000
        for packet in [*stream.encode(samples), *stream.encode()]:
            container.mux(packet)
    for path in (empty, sound):
        with pytest.raises(BadImageError, match=path.name):
            VideoFile.open(str(path), RGB8)
