"""Panels in a page: which, how large, and that they are the ones."""

import base64
import io

import pytest
from PIL import Image

from cim_lightning.report.panel_gallery import frames, panels


def decoded(uri):
    head, data = uri.split(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_panels_come_by_step_and_small(leave):
    place = leave("0", [], panels=[100, 0, 20])
    (place / "panels" / "other.png").write_bytes(b"")
    found = frames(panels(place), 9)
    assert [frame.step for frame in found] == [0, 20, 100]
    for frame in found:
        picture = decoded(frame.uri)
        assert picture.size == (560, 420)
        assert picture.getpixel((5, 5)) == pytest.approx((frame.step,) * 3, abs=2)


def test_of_many_the_ends_and_some_between(leave):
    found = frames(panels(leave("0", [], panels=range(0, 21, 2))), 3)
    assert [frame.step for frame in found] == [0, 10, 20]


def test_a_picture_that_is_being_written_is_passed_over(leave):
    place = leave("0", [], panels=[0, 1])
    half = place / "panels" / "step-00000001.png"
    half.write_bytes(half.read_bytes()[:200])
    assert [frame.step for frame in frames(panels(place), 9)] == [0]
    assert panels(place / "nowhere") == []
