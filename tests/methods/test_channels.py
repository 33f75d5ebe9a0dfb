"""Two training steps of every method on images other than RGB: 16-bit gray, and floats of five channels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cim_lightning.api import compose

METHODS = sorted(file.stem for file in (Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))
SHAPE = ["backbone=vit_micro_patch4", "backbone.kwargs.depth=1", "backbone.kwargs.embed_dim=16"]
SHORT = ["trainer=cpu", "trainer.max_steps=2", "trainer.limit_val_batches=0", "logger=[]", "callbacks=[]"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[int, tuple[Path, int]]:
    """Folders of twelve images of two classes, and their bits, by the number of channels."""
    root, rng = tmp_path_factory.mktemp("channels"), np.random.default_rng(0)
    for i in range(12):
        for channels in (1, 5):
            folder = root / str(channels) / "ab"[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            if channels == 1:
                pixels = rng.integers(0, 65536, (36, 40), dtype=np.uint16)
                Image.fromarray(pixels).save(folder / f"{i}.png")
            else:
                np.save(folder / f"{i}.npy", rng.random((36, 40, 5), np.float32))
    return {1: (root / "1", 16), 5: (root / "5", 32)}


@pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training")  # EMA targets
@pytest.mark.parametrize(
    "channels",
    [
        pytest.param(
            1, marks=pytest.mark.user_input("pixels", "16-bit gray PNG files", "every method trains")
        ),
        pytest.param(5, marks=pytest.mark.user_input("pixels", "NPY files, 5 bands", "every method trains")),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(method, channels, folders, method_overrides, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root, bits = folders[channels]
    data = [
        "data=folder",
        f"data.root={root}",
        "data.view_size=32",
        "data.batch_size=4",
        "data.num_workers=0",
    ]
    pixels = [f"data.channels={channels}", f"data.bits={bits}"]
    if channels == 5:  # gray images have the mean and standard deviation of ImageNet
        pixels += ["backbone.mean=[0.5,0.5,0.5,0.5,0.5]", "backbone.std=[0.3,0.3,0.3,0.3,0.3]"]
    run = compose(f"method={method}", *SHAPE, *method_overrides[method], *data, *pixels, *SHORT)
    before = [parameter.clone() for parameter in run.method.backbone.parameters()]
    run.trainer.fit(run.method, run.data)
    after = list(run.method.backbone.parameters())
    assert run.method.backbone.in_channels == channels
    assert all(parameter.isfinite().all() for parameter in after)
    changed = any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert changed == (method != "random")  # which does not train
