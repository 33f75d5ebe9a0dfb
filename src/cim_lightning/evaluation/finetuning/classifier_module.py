"""`ClassifierModule`: trains a classifier with mixed images and soft labels, under any Lightning Trainer."""

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from cim_lightning.cropping.views import to_unit_range
from cim_lightning.data.batch import Batch
from cim_lightning.data.source import NO_LABEL
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.models.classifier import Classifier
from cim_lightning.rng import fork_rng


class ClassifierModule(L.LightningModule):
    """Train a classifier and measure its accuracy. It logs train/loss, train/lr, and val/top1, val/top5 in %.

    Args:
        model: trained in place.
        num_classes: number of logits.
        loss: of logits "b n" and soft labels "b n".
        mixing: augmentation of a batch.
        optim: builds the optimizer and its schedule.
        global_batch_size: images per optimizer step, over all devices and accumulated batches.
        ema: decay of the averaged weights, which are validated, 0 to below 1; None: no average.
    """

    def __init__(
        self,
        model: Classifier,
        num_classes: int,
        loss: nn.Module,
        mixing: MixupCutmix,
        optim: LayerDecayOptim,
        global_batch_size: int,
        ema: float | None,
    ):
        super().__init__()
        self.model, self.num_classes, self.loss = model, num_classes, loss
        self.mixing, self.optim, self.global_batch_size = mixing, optim, global_batch_size
        self.average: Any = None
        if ema is not None:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True)
            self.average.requires_grad_(False)
        self.accuracies = MetricCollection(
            {
                f"val/top{k}": MulticlassAccuracy(
                    num_classes, min(k, num_classes), "micro", ignore_index=NO_LABEL
                )
                for k in (1, 5)
            },
            compute_groups=False,  # otherwise a first batch of equal accuracies would merge the two
        )

    @property
    def classifier(self) -> Classifier:
        """The trained classifier: of the averaged weights if there are some."""
        return self.model if self.average is None else self.average.module

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images = self.model.backbone.normalize(to_unit_range(batch.views))
        # timm draws from the streams of Python and NumPy too, which StepSeed does not seed.
        with fork_rng(int(torch.randint(2**62, ()))):
            mixed, targets = self.mixing(images, batch.labels, self.num_classes)
        loss = self.loss(self.model.logits(mixed), targets)
        self.log("train/loss", loss.detach(), batch_size=len(images))
        self.log("train/lr", self.trainer.optimizers[0].param_groups[-1]["lr"])
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        logits = self.classifier(to_unit_range(batch.views))
        self.accuracies.update(logits, batch.labels)

    def on_validation_epoch_end(self) -> None:
        accuracies = self.accuracies.compute()  # over all devices
        self.log_dict({name: 100 * value for name, value in accuracies.items()}, sync_dist=True)
        self.accuracies.reset()

    def configure_optimizers(self) -> Any:
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer, schedule = self.optim(self.model.backbone, self.model.head, self.global_batch_size, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update_parameters(self.model)
