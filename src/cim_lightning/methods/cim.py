"""Correlational Image Modeling: Li, Xie, Loy, CVPR 2023, arXiv 2303.12670.

Published: ViT-B/16, 300 epochs on ImageNet-1k, 83.1 top-1 after fine-tuning.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cim_lightning.checks import check_one_of
from cim_lightning.cropping.correlation_metrics import MeanMapBaseline, estimate_mean_map_baseline
from cim_lightning.cropping.exemplars import Crops, ExemplarCropper
from cim_lightning.cropping.map_objective import MAP_METRICS, Change, MapObjective, unchanged
from cim_lightning.cropping.places import exemplar_places
from cim_lightning.errors import ConfigError
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone, Features
from cim_lightning.models.decoder import CorrelationDecoder, Decoder
from cim_lightning.models.heads import CONTRAST, ContrastiveHead
from cim_lightning.models.label_head import METRICS as LABEL_METRICS
from cim_lightning.models.label_head import LabelHead
from cim_lightning.models.label_propagation import LabelPropagation
from cim_lightning.models.target import EmaTarget, Target
from cim_lightning.models.token_correlation import TOKEN_METRICS, TokenCorrelation
from cim_lightning.models.token_locator import ProjectedTokens, TokenLocator
from cim_lightning.optim import AdamWCosine, Optim

OPTIM = AdamWCosine()


class CIM(Method):
    """Predicts for each exemplar the region of its context from which it was cropped.

    Args:
        backbone: the online encoder.
        decoder: builds the correlation decoder from the backbone's width; None: no map loss, with `tokens`.
        target: builds the target from an online network (see models/target.py).
        optim, batch_size: see Method.
        baseline: mean-map baseline of the same cropping; its skill is 0. None: of ExemplarCropper().
        online_input: "exemplars" (as in the paper) or "context"; the target encoder has the other as input.
        reduction: "sum" (as in the paper) or "mean" over the exemplars of an image, for all losses.
        cross_frame: targets where exemplars and context are of different frames; None: such batches are
            refused. Their maps are otherwise the boxes, which hold where both frames are the same.
        contrast: builds the global contrastive head from the backbone's width; None: no contrastive loss.
        tokens: builds the token correlation from the backbone's width; None: no token loss.
        absent: share of exemplars that come from other images and have empty maps; needs a decoder.
        labels, labels_weight: see LabelHead. It classifies the mean of an image's pooled online features.
    """

    batch_type = Crops
    metrics = (*MAP_METRICS, *TOKEN_METRICS, *LABEL_METRICS, CONTRAST)

    def __init__(
        self,
        backbone: Backbone,
        decoder: Callable[[int], Decoder] | None = CorrelationDecoder,
        target: Callable[[torch.nn.Module], Target] = EmaTarget,
        optim: Optim = OPTIM,
        baseline: MeanMapBaseline | None = None,
        online_input: str = "exemplars",
        reduction: str = "sum",
        contrast: Callable[[int], ContrastiveHead] | None = None,
        batch_size: int = 256,
        cross_frame: LabelPropagation | None = None,
        tokens: Callable[[int], TokenCorrelation] | None = None,
        absent: float = 0.0,
        labels: float | None = None,
        labels_weight: float = 1.0,
    ):
        super().__init__(backbone, optim, batch_size)
        check_one_of("online_input", online_input, ("exemplars", "context"))
        check_one_of("reduction", reduction, ("sum", "mean"))
        self.map_objective = MapObjective(baseline or estimate_mean_map_baseline(ExemplarCropper()), absent)
        self.online_input, self.reduction, self.cross_frame = online_input, reduction, cross_frame
        if decoder is None and tokens is None:
            hint = "try method/tokens=correlation, or leave decoder out"
            raise ConfigError("decoder", None, "there is no loss without a decoder or tokens", hint=hint)
        if decoder is None and absent:
            raise ConfigError("absent", absent, "must be 0 without a decoder", suggest=0)
        if tokens is not None and cross_frame is not None:
            rule, name = "does not work with tokens", type(cross_frame).__name__
            raise ConfigError("cross_frame", name, rule, hint="leave one of them out")
        self.decoder = None if decoder is None else decoder(backbone.dim)
        self.target = target(backbone)
        self.contrast = None if contrast is None else contrast(backbone.dim)
        self.contrast_target = None if self.contrast is None else target(self.contrast.projector)
        self.tokens = None if tokens is None else TokenLocator(tokens(backbone.dim), target)
        self.label_head = LabelHead(backbone.dim, labels, labels_weight)

    def prepare(self, batch: Any, num_classes: int | None) -> None:
        super().prepare(batch, num_classes)
        self.label_head.prepare(num_classes)
        self.map_objective.absent.check(self.batch_size, batch.exemplars.shape[1])
        for crops, parameter in ((batch.exemplars, "exemplar_size"), (batch.context, "context_size")):
            self.backbone.check_size((crops.shape[-2], crops.shape[-1]), parameter)

    def forward(self, crops: Crops) -> Float[Tensor, "b k s s"]:
        """Return correlation logits, above 0 inside the predicted box of the exemplar."""
        return self._decode(crops, *self._encode(crops))

    def compute_batch_losses(self, batch: Any) -> dict[str, Tensor]:
        return self.compute_losses(*self.unpack(batch))

    def compute_losses(self, crops: Crops, labels: Tensor | None = None) -> dict[str, Tensor]:
        online, target = self._encode(crops)
        losses: list[Tensor] = []
        metrics: dict[str, Tensor] = {}
        tokens = None
        if self.tokens is not None:
            tokens = self.tokens(online.grid, target.grid, self.online_input == "context")
            places = exemplar_places(crops, tokens.exemplar_grid, tokens.context_grid)
            metrics |= self.tokens.metrics(tokens, places)
            losses.append(metrics["tokens"])
        logits = self._decode(crops, online, target, self.map_objective.replace, tokens).float()
        maps = self.target_maps(crops, target if self.online_input == "exemplars" else None)
        metrics |= self.map_objective.scores(logits, crops.maps)
        if self.decoder is not None:
            loss, found = self.map_objective.loss(logits, maps)
            losses.append(loss)
            metrics |= found
        if not self.training:
            decode = functools.partial(self._decode, crops, online, target)
            metrics |= self.map_objective.sensitivity(decode, logits, maps, self.decoder is not None)
        if self.contrast is not None and self.contrast_target is not None:
            keys = self.contrast_target(self.contrast.projector, target.pooled)
            metrics["contrast"] = self.contrast(online.pooled, keys)
            losses.append(metrics["contrast"])
        exemplars = logits.shape[1] if self.reduction == "sum" else 1
        loss = torch.stack(losses).sum() * exemplars
        # DDP requires a gradient of every parameter, but some decoders do not use the pooled features.
        metrics["loss"] = loss + 0 * (online.pooled.sum() + target.pooled.sum())
        return self.label_head.add_to(metrics, online.pooled, labels)

    @torch.no_grad()
    def target_maps(self, crops: Crops, context: Features | None = None) -> Float[Tensor, "b k s s"]:
        """Return where the exemplars are in the context, 0..1.

        Where both are of the same frame, these are the maps of the boxes. Otherwise the target encoder finds
        the place, see `LabelPropagation`.

        Args:
            context: features of the context by the target encoder, if they are known already.

        Raises:
            ConfigError: the frames differ, and there is no `cross_frame`.
        """
        maps = crops.maps.float()
        if crops.other_frames is None:
            return maps
        if self.cross_frame is None:
            rule = "exemplars and context are of different frames"
            hint = "try method/cross_frame=propagate, or data.max_gap=0"
            raise ConfigError("cross_frame", None, rule, hint=hint)
        same = (crops.context == crops.other_frames).flatten(1).all(dim=1)
        other = self.target(self.backbone, self.backbone.normalize(crops.other_frames))
        here = context or self.target(self.backbone, self.backbone.normalize(crops.context))
        moved = self.cross_frame(here.grid.float(), other.grid.float(), maps)
        return torch.where(same[:, None, None, None], maps, moved)

    def target_pairs(self) -> list[tuple[Target, torch.nn.Module]]:
        pairs: list[tuple[Target, torch.nn.Module]] = [(self.target, self.backbone)]
        if self.contrast is not None and self.contrast_target is not None:
            pairs.append((self.contrast_target, self.contrast.projector))
        if self.tokens is not None:
            pairs.append(self.tokens.target_pair)
        return pairs

    def _encode(self, crops: Crops) -> tuple[Features, Features]:
        exemplars, context = map(self.backbone.normalize, (crops.exemplars, crops.context))
        inputs = (exemplars.flatten(0, 1), context)  # all b k exemplars in one batch
        online, target = inputs if self.online_input == "exemplars" else reversed(inputs)
        return self.backbone(online), self.target(self.backbone, target)

    def _decode(
        self,
        crops: Crops,
        online: Features,
        target: Features,
        change: Change = unchanged,
        tokens: ProjectedTokens | None = None,
    ) -> Float[Tensor, "b k s s"]:
        """Return the logits, by the decoder or else by the tokens, after a change of the exemplars."""
        is_online, size = self.online_input == "exemplars", (crops.maps.shape[-2], crops.maps.shape[-1])
        exemplars, context = (online, target) if is_online else (target, online)
        exemplars = Features(*change(exemplars, crops.exemplars.shape[1]))
        if self.decoder is not None:
            return self.decoder(context, exemplars, size)
        assert self.tokens is not None
        with torch.no_grad():  # for metrics and panels
            pair = (exemplars.grid, context.grid) if is_online else (context.grid, exemplars.grid)
            return self.tokens.maps(tokens or self.tokens(*pair, not is_online), size)
