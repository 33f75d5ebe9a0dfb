"""`SegmentationModule`: trains a segmentation model on crops, under any Lightning Trainer."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from cim_lightning.data.segmentation import IGNORE_INDEX
from cim_lightning.data.segmentation_batches import MaskSample
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.segmentation.crops import MaskCrops
from cim_lightning.evaluation.segmentation.metrics import SegmentationMetrics
from cim_lightning.evaluation.segmentation.sliding_window import SlidingWindow
from cim_lightning.models.segmentation import Segmenter


class SegmentationModule(L.LightningModule):
    """Training and validation steps. It logs train/loss, train/lr, and SegmentationMetrics as val/<metric>.

    Args:
        model: trained in place.
        optim: builds the optimizer and its schedule.
        inference: class logits of whole validation images.
        classes: names.
        global_batch_size: crops per optimizer step, over all devices and accumulated batches.
        steps: optimizer steps.
    """

    def __init__(
        self,
        model: Segmenter,
        optim: LayerDecayOptim,
        inference: SlidingWindow,
        classes: Sequence[str],
        global_batch_size: int,
        steps: int,
    ):
        super().__init__()
        self.model, self.optim, self.inference = model, optim, inference
        self.global_batch_size, self.steps = global_batch_size, steps
        self.metrics = SegmentationMetrics(classes)

    def training_step(self, batch: MaskCrops, batch_idx: int) -> Tensor:
        loss = pixel_loss(self.model(batch.images), batch.masks)
        self.log("train/loss", loss.detach(), batch_size=batch.num_images)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[-1]["lr"])
        return loss

    def validation_step(self, batch: list[MaskSample], batch_idx: int) -> None:
        for sample in batch:
            logits = self.inference(self.model, sample.image, self.model.backbone)
            self.metrics.update(logits.argmax(dim=0), sample.mask.long())

    def on_validation_epoch_end(self) -> None:
        metrics = {f"val/{name}": value for name, value in self.metrics.compute().items()}
        self.log_dict(metrics, sync_dist=True)  # every device has the metrics of all images
        self.metrics.reset()

    def configure_optimizers(self) -> Any:
        settings = (self.global_batch_size, self.steps)
        optimizer, schedule = self.optim(self.model.backbone, self.model.head, *settings)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def pixel_loss(logits: Float[Tensor, "b n h w"], masks: Int64[Tensor, "b h w"]) -> Tensor:
    """Return the mean cross-entropy over all pixels, where ignored pixels count as 0.

    Unlike a mean over the other pixels, it is the mean of the losses of the devices and accumulated batches.
    """
    return F.cross_entropy(logits, masks, ignore_index=IGNORE_INDEX, reduction="sum") / masks.numel()
