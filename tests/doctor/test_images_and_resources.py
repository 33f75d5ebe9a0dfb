"""Images of a sample, rates, time, memory and disk, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cim_lightning.cli.disk_space import checkpoint_bytes
from cim_lightning.config.machine import format_bytes
from cim_lightning.doctor import resources
from cim_lightning.doctor.finding import Finding, count, problems, table
from cim_lightning.doctor.images import image_findings
from cim_lightning.doctor.length import Length
from cim_lightning.errors import BadImageError


class Source:
    """Ten images of rising width, of which two cannot be decoded."""

    classes = ("a", "b", "c", "d")

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int):
        if index in (3, 4):
            raise BadImageError(f"{index}.png: is truncated")
        return np.zeros((50, 20 + index, 3), np.uint8), 0


def test_rows_of_the_images():
    splits = SimpleNamespace(train=Source(), describe=lambda: "10 images")
    rows = {
        f.name: f.value
        for f in image_findings(
            SimpleNamespace(splits=splits, view=SimpleNamespace(size=24), label_share=None)
        )
    }
    assert rows["images"] == "10 images"
    assert rows["classes"] == "4: a, b, c, ..."
    # widths 20 21 22 25 26 27 28 29
    assert (
        rows["sizes"]
        == "8 sampled: width 20..29 (median 26), height 50 pixels; 38% are smaller than a view of 24"
    )
    assert rows["bad images"] == "2 of 10 sampled; 2 x is truncated"


@pytest.mark.parametrize(
    ("loader", "step", "limit", "time"),
    [
        (10, 25, "the data, 2.5x slower than the steps; more workers, or smaller files, help", "2.5 min"),
        (100, 25, "the steps; the workers could deliver 4x as many images", "60 s"),
    ],
)
def test_the_slower_part_sets_the_time(loader, step, limit, time):
    rows = {f.name: f.value for f in resources.time_findings(loader, step, 2, Length(30, 300, 100), "cpu")}
    assert rows["limit"] == limit
    assert rows["time"] == f"{time} for 3,000 images, without validation"


def test_rows_of_disk_and_memory(tmp_path):
    network = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10).requires_grad_(False))
    checkpoint = (220 + 110 * 2) * 4
    [row] = resources.disk_findings(checkpoint, 3, tmp_path / "new" / "run")
    assert row.value.startswith("3 checkpoints of 1.76 kB; ")
    assert row.value.endswith(f"are free in {tmp_path}")
    assert not row.problem
    [row] = resources.disk_findings(checkpoint, 10**15, tmp_path)
    assert "more are needed" in row.problem
    rows = resources.memory_findings(network, checkpoint, 3 * 10**9, 2 * 10**9, "cpu")
    assert rows[0].value == "0.88 kB weights, 0.44 kB gradients, 0.88 kB optimizer"
    assert rows[1] == Finding("peak memory", "3 GB of 2 GB (cpu)", "no memory is left")


def test_a_checkpoint_has_these_bytes(tmp_path):
    network = nn.Linear(100, 100)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 100)).sum().backward()
    optimizer.step()
    torch.save([network.state_dict(), optimizer.state_dict()], tmp_path / "a.ckpt")
    size = (tmp_path / "a.ckpt").stat().st_size
    assert checkpoint_bytes(network) == pytest.approx(size, rel=0.1)


def test_units():
    assert [count(n) for n in (7, 12.34, 1234.5, 27_200, 5_530_000, 2.5e9)] == [
        "7",
        "12.3",
        "1,234",
        "27.2 k",
        "5.53 M",
        "2.5 G",
    ]
    assert [format_bytes(n) for n in (500, 2.5e6, 3e10, 4e12)] == ["0.5 kB", "2.5 MB", "30 GB", "4 TB"]
    assert [resources.duration(s) for s in (7, 150, 9000, 3e5)] == ["7 s", "2.5 min", "2.5 h", "3.47 days"]


def test_the_table_marks_problems():
    sections = {"One": [Finding("a", "1"), Finding("long name", "2", "is wrong")], "Two": [Finding("b", "3")]}
    assert (
        table(sections) == "One\n  a          1\n! long name  2\n             is wrong\n\nTwo\n  b          3"
    )
    assert problems(sections) == ["long name: is wrong"]
