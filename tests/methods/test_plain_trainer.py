"""Methods under a plain Lightning Trainer, with loaders, batch types and backbones of one's own."""

import functools
import json
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from cim_lightning.callbacks.overfit import OverfitBatches
from cim_lightning.callbacks.panels import CorrelationPanels
from cim_lightning.callbacks.run_summary import RunSummary
from cim_lightning.callbacks.step_seed import StepSeed
from cim_lightning.callbacks.throughput import Throughput
from cim_lightning.cropping.correlation_metrics import MeanMapBaseline
from cim_lightning.cropping.exemplars import Crops, ExemplarCropper
from cim_lightning.cropping.masking import MaskedCropper
from cim_lightning.cropping.multi_crop import MultiCropper
from cim_lightning.cropping.random_crop import RandomCrop
from cim_lightning.cropping.resize import ImageBatch, ResizeCropper
from cim_lightning.errors import ConfigError
from cim_lightning.methods.cim import CIM
from cim_lightning.methods.dino import DINO
from cim_lightning.methods.mae import MAE
from cim_lightning.methods.method import Method
from cim_lightning.methods.simmim import SimMIM
from cim_lightning.methods.supervised import Supervised
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.decoder import CorrelationDecoder
from cim_lightning.models.heads import DINOHead
from cim_lightning.models.module_backbone import ModuleBackbone
from cim_lightning.models.pixel_decoder import PixelDecoder
from cim_lightning.optim import AdamWCosine

pytestmark = pytest.mark.filterwarnings(
    "ignore:Found .* in eval mode",  # the EMA target
    "ignore:.*does not have many workers",
    "ignore:You defined a `validation_step` but have no `val_dataloader`",
)
BATCH = 6  # images
CROP = RandomCrop(16, [0.25, 1.0], [0.75, 4 / 3], flip=0.5)
CROPPINGS = {
    "cim": ExemplarCropper(2, context_size=16, exemplar_size=8, appearance=None),
    "mae": MaskedCropper(16, mask_patch_size=4),
    "simmim": MaskedCropper(16, mask_patch_size=8, mask_ratio=0.5),
    "dino": MultiCropper(CROP, CROP, RandomCrop(8, [0.05, 0.25], [1, 1], flip=0.5), num_local_crops=2),
    "supervised": ResizeCropper(16),
}
SMALL = {"optim": AdamWCosine(base_lr=0.5, warmup=0.0), "batch_size": BATCH}
DECODER = functools.partial(CorrelationDecoder, width=16, num_heads=2)
BASELINE = MeanMapBaseline(loss=0.5, iou=0.25, best_iou=0.3, pointing=0.1)
BUILD: dict[str, Callable[..., Method]] = {
    "cim": functools.partial(CIM, decoder=DECODER, baseline=BASELINE, **SMALL),
    "mae": functools.partial(
        MAE, decoder=functools.partial(PixelDecoder, width=16, depth=1, num_heads=2), **SMALL
    ),
    "simmim": functools.partial(SimMIM, **SMALL),
    "dino": functools.partial(
        DINO, head=functools.partial(DINOHead, hidden_dim=12, bottleneck_dim=8, out_dim=10), **SMALL
    ),
    "supervised": functools.partial(Supervised, num_classes=3, **SMALL),
}


class OwnNetwork(torch.nn.Module):
    """A network of one's own: a feature map with one cell for 4 x 4 pixels."""

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 8, kernel_size=4, stride=4)
        self.mix = torch.nn.Conv2d(8, 8, kernel_size=3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.mix(self.patches(images).relu())


class OwnCrops(Crops):
    """A subclass of the batch type, with an attribute of its own."""

    source = "mine"


class OwnLoader:
    """An iterable of batches that is no torch DataLoader."""

    def __init__(self, batches: list[Any]):
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def own_backbone() -> Backbone:
    torch.manual_seed(0)
    return ModuleBackbone(OwnNetwork(), dim=8, patch_size=4)


def crops_of(name: str, seed: int = 0, images: int = BATCH) -> Any:
    generator = torch.Generator().manual_seed(seed)
    views = torch.randint(0, 256, (images, 3, 20, 20), dtype=torch.uint8, generator=generator)
    return CROPPINGS[name](views, seed)


def loader(batches: list[Any]) -> DataLoader[Any]:
    return DataLoader(batches, batch_size=None)


def trainer(**options: Any) -> L.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    default = {"max_steps": 3, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    return L.Trainer(**quiet | default | options)


def fit(method: Method, batches: Any, **options: Any) -> L.Trainer:
    run = trainer(**options)
    run.fit(method, batches)
    return run


def assert_trains(method: Method, batches: Any) -> None:
    before = {n: p.clone() for n, p in method.backbone.named_parameters() if p.requires_grad}
    run = fit(method, batches)
    assert run.global_step == 3
    assert run.callback_metrics["train/loss"].isfinite()
    after = dict(method.backbone.named_parameters())
    assert all(not torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("name", BUILD)
def test_every_loader_of_the_batch_type_trains_a_method(name, labeled, vit):
    batches = [crops_of(name, seed) for seed in range(3)]
    if labeled or name == "supervised":
        batches = [(crops, torch.arange(BATCH) % 3) for crops in batches]
    make = loader if labeled else OwnLoader
    assert_trains(BUILD[name](vit()), make(batches))


@pytest.mark.parametrize("name", ["cim", "simmim", "dino", "supervised"])
def test_a_network_of_ones_own_is_trained(name):
    batches = [(crops_of(name, seed), torch.arange(BATCH) % 3) for seed in range(3)]
    assert_trains(BUILD[name](own_backbone()), loader(batches))


def test_a_subclass_of_the_batch_type_is_accepted(vit):
    method = BUILD["cim"](vit())
    batch = OwnCrops(*crops_of("cim"))
    method.prepare(batch, None)
    assert_trains(method, loader([batch] * 3))
    assert method.unpack(batch)[0].source == "mine"


def test_crops_move_to_another_device_with_their_boxes(vit):
    batch = BUILD["cim"](vit()).transfer_batch_to_device(crops_of("cim"), torch.device("meta"), 0)
    assert {t.device.type for t in (batch.context, batch.maps, batch.boxes.center)} == {"meta"}
    assert batch.boxes.view == (20, 20)


@pytest.mark.parametrize(
    ("name", "batch", "message"),
    [
        ("cim", crops_of("mae"), r"CIM needs batches Crops or \(Crops, labels\), not MaskedImages"),
        ("mae", (crops_of("cim"), 0), r"MAE needs batches .*, not \(Crops, int\)"),
        ("dino", torch.zeros(BATCH, 3, 16, 16), "DINO needs batches .*, not Tensor"),
        ("mae", crops_of("mae", images=4), "batch_size=6: the first training batch has 4 images; try .*=4"),
        ("supervised", crops_of("supervised"), r"Supervised needs batches \(ImageBatch, labels\)"),
    ],
)
def test_a_wrong_batch_is_reported_in_one_line(name, batch, message, vit):
    with pytest.raises(ConfigError, match=f"^{message}[^\n]*$"):
        fit(BUILD[name](vit()), OwnLoader([batch] * 3))


def test_a_smaller_last_batch_is_no_error(vit):
    run = fit(BUILD["mae"](vit()), loader([crops_of("mae"), crops_of("mae", images=2)]), max_steps=2)
    assert run.global_step == 2


def test_the_schedule_needs_an_end(vit):
    with pytest.raises(ConfigError, match=r"^max_epochs=-1: the schedule needs an end; try max_epochs=300"):
        fit(BUILD["mae"](vit()), OwnLoader([crops_of("mae")] * 3), max_steps=-1, max_epochs=-1)


def test_supervised_needs_the_number_of_classes(vit):
    method = Supervised(vit(), batch_size=BATCH)
    batch = (crops_of("supervised"), torch.zeros(BATCH, dtype=torch.long))
    with pytest.raises(ConfigError, match=r"^num_classes=null: Supervised needs .*; try num_classes=1000$"):
        fit(method, loader([batch]))


def test_the_learning_rate_counts_all_devices_and_accumulated_batches(vit):
    method = BUILD["mae"](vit())
    method._trainer = Mock(accumulate_grad_batches=2, world_size=4, estimated_stepping_batches=10)
    (group, *_) = method.configure_optimizers()["optimizer"].param_groups
    assert group["lr"] == pytest.approx(0.5 * BATCH * 2 * 4 / 256)


def test_devices_with_different_numbers_of_validation_images_are_weighted_exactly(vit):
    """Lightning divides by the mean weight of the devices, rounded down to an integer."""
    method, weights = BUILD["mae"](vit()), []
    method._trainer = Mock(world_size=2)
    method.log_dict = lambda metrics, batch_size, sync_dist: weights.append(batch_size)
    for images in (5, 6):  # of two devices
        method.validation_step(crops_of("mae", images=images), 0)
    assert weights[0] / weights[1] == 5 / 6
    assert sum(weights) // 2 == sum(weights) / 2


def test_callbacks_need_no_data_module(vit, tmp_path):
    drawn = CorrelationPanels(str(tmp_path / "panels"), num_images=2, every_n_epochs=1)
    callbacks = [drawn, RunSummary(str(tmp_path)), Throughput(), StepSeed(0)]
    run = trainer(callbacks=callbacks, default_root_dir=tmp_path)
    batches = [crops_of("cim", seed) for seed in range(3)]
    run.fit(BUILD["cim"](vit()), loader(batches), loader(batches[:1]))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["steps"], metrics["images_seen"], metrics["images_per_step"]) == (3, 3 * BATCH, BATCH)
    assert metrics["train_images"] is None
    assert min(metrics["forward_flops_per_image"], metrics["backward_flops_per_image"]) > 0
    assert metrics["val/skill"] < 1
    assert run.callback_metrics["train/images_per_s"] > 0
    panels = sorted(path.stem for path in (tmp_path / "panels").iterdir())
    assert panels == ["step-00000000", "step-00000003"]  # the sanity check, and the end
    setup = json.loads((tmp_path / "run.json").read_text())["setup"]
    assert setup["forward_flops_per_image"] == metrics["forward_flops_per_image"]


def test_overfitting_needs_a_data_module(vit):
    with pytest.raises(ConfigError, match=r"^OverfitBatches needs an ImageData as the data module"):
        fit(BUILD["cim"](vit()), loader([crops_of("cim")]), callbacks=[OverfitBatches(1)])


def test_a_checkpoint_is_loaded_with_the_arguments_of_the_constructor(vit, tmp_path):
    method = BUILD["supervised"](vit())
    batch = (crops_of("supervised"), torch.arange(BATCH) % 3)
    run = fit(method, loader([batch] * 3))
    path = tmp_path / "mine.ckpt"
    run.save_checkpoint(path)
    loaded = Supervised.load_from_checkpoint(path, backbone=vit(), batch_size=BATCH)
    assert loaded.state_dict().keys() == method.state_dict().keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, method.state_dict()[name])
    with pytest.raises(ConfigError, match=r"^checkpoint_path=.*has no settings of a method; give the arg"):
        Supervised.load_from_checkpoint(path)


def test_the_batch_type_of_a_new_method_and_its_metrics_need_no_registration(vit):
    from cim_lightning.metric_registry import METRICS, Metric

    class Brightness(Method):
        batch_type = ImageBatch
        metrics = (Metric("brightness_of_test", "brightness of a test"),)

        def compute_losses(self, crops: ImageBatch) -> dict[str, torch.Tensor]:
            pooled = self.backbone(self.backbone.normalize(crops.images)).pooled
            return {"loss": pooled.square().mean(), "brightness_of_test": crops.images.mean()}

    try:
        assert METRICS["brightness_of_test"].title == "brightness of a test"
        assert_trains(Brightness(own_backbone(), **SMALL), loader([crops_of("supervised")] * 3))
    finally:
        del METRICS["brightness_of_test"]
