"""Fixtures of the method tests: a small ViT, views, and a mock trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.timm_backbone import TimmBackbone

VIT = {"patch_size": 4, "img_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3, "dynamic_img_size": True}


@pytest.fixture
def vit() -> Callable[..., Backbone]:
    """Build a ViT with patches of 4 x 4 pixels."""

    def build(freeze: bool = False) -> Backbone:
        torch.manual_seed(0)
        return TimmBackbone("vit_tiny_patch16_224", VIT, "sincos", freeze, "xavier")

    return build


@pytest.fixture
def normalize() -> Callable[[torch.Tensor], torch.Tensor]:
    """Normalize images in 0..1 with ImageNet's mean and standard deviation."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def apply(images: torch.Tensor) -> torch.Tensor:
        channels = [(images[..., i, :, :] - mean[i]) / std[i] for i in range(3)]
        return torch.stack(channels, dim=-3)

    return apply


@pytest.fixture
def views() -> torch.Tensor:
    size = (6, 3, 20, 20)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def detach_from_trainer() -> Callable[..., torch.optim.Optimizer]:
    """Give a method an optimizer and a mock trainer."""

    def prepare(method, **settings) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(
            [p for p in method.parameters() if p.requires_grad], **{"lr": 0.1} | settings
        )
        method._trainer = Mock(optimizers=[optimizer])
        return optimizer

    return prepare


@pytest.fixture
def assert_two_devices_match_one(tmp_path: Path) -> Callable[..., None]:
    """Compare two processes with half a batch each to one process with the whole batch.

    The mean loss and gradient, as in DDP, and the buffers of both processes equal those of the whole batch.
    """

    def compare(build: Callable[[], Method], batch: Callable[[slice], Any]) -> None:
        """Args: `build` returns a method, and `batch` the crops of a slice of eight images."""

        def step(images: slice) -> dict[str, torch.Tensor]:
            torch.manual_seed(0)
            method = build()
            buffers = {name: buffer.clone() for name, buffer in method.named_buffers()}
            loss = method.compute_losses(batch(images))["loss"]
            loss.backward()
            names = [name for name, p in method.named_parameters() if p.grad is not None]
            means = {name: method.get_parameter(name).grad for name in names} | {"loss": loss.detach()}
            changed = {name: b for name, b in method.named_buffers() if not torch.equal(b, buffers[name])}
            return {"means": means, "buffers": changed}

        def process(rank: int) -> None:
            torch.set_num_threads(1)
            store = f"file://{tmp_path}/store"
            torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
            torch.save(step(slice(4 * rank, 4 * rank + 4)), f"{tmp_path}/{rank}.pt")
            torch.distributed.destroy_process_group()

        torch.multiprocessing.start_processes(process, nprocs=2, start_method="fork")
        first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
        whole = step(slice(0, 8))
        assert whole["means"].keys() == first["means"].keys() > {"loss"}
        for name, value in whole["means"].items():
            mean = (first["means"][name] + second["means"][name]) / 2
            torch.testing.assert_close(mean, value, atol=1e-5, rtol=1e-4)
        for half in (first, second):
            torch.testing.assert_close(half["buffers"], whole["buffers"])
        assert not torch.allclose(first["means"]["loss"], second["means"]["loss"])

    return compare
