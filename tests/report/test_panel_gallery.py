"""Panels on the page: selection, size and content."""

import base64
import io

import pytest
from PIL import Image

from cim_lightning.report.panel_gallery import frames, panels


def decoded(uri):
    head, data = uri.split(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_panels_are_sorted_by_step_and_reduced_in_size(write_run):
    folder = write_run("0", [], panels=[100, 0, 20])
    (folder / "panels" / "other.png").write_bytes(b"")
    shown = frames(panels(folder), 9)
    assert [*shown] == [0, 20, 100]
    for step, uri in shown.items():
        picture = decoded(uri)
        assert picture.size == (560, 420)
        assert picture.getpixel((5, 5)) == pytest.approx((step,) * 3, abs=2)


def test_many_panels_are_thinned_out_evenly_with_both_ends(write_run):
    shown = frames(panels(write_run("0", [], panels=range(0, 21, 2))), 3)
    assert [*shown] == [0, 10, 20]


def test_an_incomplete_picture_is_skipped(write_run):
    folder = write_run("0", [], panels=[0, 1])
    path = folder / "panels" / "step-00000001.png"
    path.write_bytes(path.read_bytes()[:200])
    assert [*frames(panels(folder), 9)] == [0]
    assert panels(folder / "nowhere") == []
    # Pillow starts Ghostscript for such a file, which may come from someone else.
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    Image.open(path).close()
    assert [*frames(panels(folder), 9)] == [0]
