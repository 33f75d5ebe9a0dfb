"""`AttentiveModule`: trains attentive classifiers with several learning rates on the same batches."""

from collections.abc import Iterable, Sequence
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from cim_lightning.cropping.views import Views, to_unit_range
from cim_lightning.evaluation.distributed import sum_over_processes
from cim_lightning.evaluation.frozen_grids import Grids
from cim_lightning.models.attentive_classifier import AttentiveClassifier, normalized_cells
from cim_lightning.models.backbone import Backbone


class AttentiveModule(L.LightningModule):
    """Attentive classifiers of a frozen backbone, one per learning rate: AdamW with a cosine schedule.

    A batch has feature maps (Grids), or views, whose feature maps are computed. It logs train/loss, the mean
    over the classifiers.

    Args:
        backbone: frozen, in evaluation mode, on the device of the training; not part of the state dict.
        num_classes: logits per image.
        lrs: learning rates, one per classifier.
        weight_decay: of AdamW, on weight matrices.
    """

    def __init__(self, backbone: Backbone, num_classes: int, lrs: Sequence[float], weight_decay: float):
        super().__init__()
        self._frozen = (backbone,)  # a tuple, so that it is no submodule
        self.lrs, self.weight_decay = list(lrs), weight_decay
        first = AttentiveClassifier(backbone.dim, num_classes)
        self.classifiers = nn.ModuleList([first])
        for _ in self.lrs[1:]:
            classifier = AttentiveClassifier(backbone.dim, num_classes)
            classifier.load_state_dict(first.state_dict())  # differences are those of the learning rates
            self.classifiers.append(classifier)

    def logits(self, grids: Float[Tensor, "b d h w"]) -> list[Float[Tensor, "b n"]]:
        """Return the logits of each classifier for feature maps."""
        cells = normalized_cells(grids.float())
        return [classifier(cells) for classifier in self.classifiers]

    @torch.no_grad()
    def grids(self, views: Views) -> Float[Tensor, "b d h2 w2"]:
        """Return the feature maps of views."""
        (backbone,) = self._frozen
        return backbone(backbone.normalize(to_unit_range(views))).grid

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        grids = batch.grids if isinstance(batch, Grids) else self.grids(batch[0])
        losses = torch.stack([F.cross_entropy(logits, batch[1]) for logits in self.logits(grids)])
        self.log("train/loss", losses.detach().mean(), batch_size=len(batch[1]))
        return losses.sum()  # each classifier has the gradient of its own loss

    def configure_optimizers(self) -> Any:
        groups = [
            {"params": [p for p in classifier.parameters() if (p.ndim == 2) == decays], "lr": lr}
            | {"weight_decay": self.weight_decay if decays else 0.0}
            for classifier, lr in zip(self.classifiers, self.lrs, strict=True)
            for decays in (True, False)
        ]
        optimizer = torch.optim.AdamW(groups)
        schedule = CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def accuracies(self, batches: Iterable[Any]) -> list[float]:
        """Return the accuracy of each classifier in %, over the labeled images of all processes."""
        correct, total = torch.zeros(len(self.lrs)), 0
        for batch in batches:
            labeled = batch[1] >= 0
            labels = batch[1][labeled].to(self.device)
            if len(labels):
                grids = self.grids(batch[0][labeled].to(self.device))
                predicted = [logits.argmax(dim=1) for logits in self.logits(grids)]
                correct += torch.tensor([int((p == labels).sum()) for p in predicted])
                total += len(labels)
        total = sum_over_processes(total, self.device)
        return [100 * sum_over_processes(count, self.device) / total for count in correct.tolist()]
