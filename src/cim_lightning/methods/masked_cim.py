"""Masked correlational modeling: exemplars are located in contexts of which the online encoder reads a part.

Not published. It joins CIM (Li, Xie, Loy, CVPR 2023) with MAE (He et al., CVPR 2022).
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cim_lightning.checks import check_at_least
from cim_lightning.cropping.masked_exemplars import MaskedCrops
from cim_lightning.cropping.places import exemplar_places
from cim_lightning.methods.method import Method
from cim_lightning.metric_registry import PLOT, PRETEXT, Metric
from cim_lightning.models.alignment import Alignment
from cim_lightning.models.backbone import Backbone, Features
from cim_lightning.models.coding_rate import CodingRate
from cim_lightning.models.label_head import METRICS as LABEL_METRICS
from cim_lightning.models.label_head import LabelHead
from cim_lightning.models.masked_backbone import MaskedViTEncoder, pooled_tokens, visible_patches
from cim_lightning.models.masked_pixels import masked_error, patch_pixels
from cim_lightning.models.pixel_decoder import PixelDecoder
from cim_lightning.models.target import EmaTarget, Target
from cim_lightning.models.token_correlation import TOKEN_METRICS, TokenCorrelation
from cim_lightning.models.token_locator import ProjectedTokens, TokenLocator
from cim_lightning.optim import AdamWCosine, Optim

OPTIM = AdamWCosine(warmup=40 / 800)
RATE, ALIGNMENT = CodingRate(), Alignment()
TOKENS = functools.partial(TokenCorrelation, hidden_dim=128, out_dim=32, weight=0.1)


class MaskedCIM(Method):
    """Locates the tokens of exemplars in contexts that are filled in from their visible patches.

    The online encoder reads the visible patches of the context. A narrow decoder fills in the masked ones
    and predicts their pixels. The target encoder reads the exemplars. Each exemplar token is located among
    the filled-in tokens of all contexts of the batch. The features of a context are aligned with those of
    its exemplars, and the features of different contexts are spread.

    Args:
        backbone: the online encoder, a ViT.
        decoder: builds the decoder from the backbone's width and the number of values in a patch.
        tokens: builds the token correlation from the backbone's width; None: none.
        target: builds the target from an online network (see models/target.py).
        optim, batch_size: see Method.
        norm_pix_loss: normalize the target pixels of each patch by their mean and standard deviation.
        pixel_weight: factor of the pixel loss; 0: none.
        rate: coding rate of the pooled and mean features of the contexts, which is maximized.
        alignment: loss between these features and those of the exemplars. None removes a term: it is neither
            measured nor trained.
        labels, labels_weight: see LabelHead. It classifies the class token of the visible patches.
    """

    batch_type = MaskedCrops
    metrics = (
        *TOKEN_METRICS,
        *LABEL_METRICS,
        Metric(
            "alignment", "distance of exemplars and contexts", PRETEXT, (), False, splits=("train", "val")
        ),
        Metric("coding_rate", "coding rate", PRETEXT, (), True, splits=("train", "val")),
        Metric("pixels", "pixel loss", PRETEXT, (PLOT,), False, splits=("train", "val")),
    )

    def __init__(
        self,
        backbone: Backbone,
        decoder: Callable[[int, int], PixelDecoder] = PixelDecoder,
        tokens: Callable[[int], TokenCorrelation] | None = TOKENS,
        target: Callable[[nn.Module], Target] = EmaTarget,
        optim: Optim = OPTIM,
        norm_pix_loss: bool = True,
        pixel_weight: float = 1.0,
        rate: CodingRate | None = RATE,
        alignment: Alignment | None = ALIGNMENT,
        batch_size: int = 256,
        labels: float | None = None,
        labels_weight: float = 1.0,
    ):
        super().__init__(backbone, optim, batch_size)
        check_at_least("pixel_weight", pixel_weight, 0)
        backbone.check_skips_patches()
        self.patch_size = backbone.patch_size
        self.norm_pix_loss, self.pixel_weight = norm_pix_loss, pixel_weight
        self.rate, self.alignment = copy.deepcopy((rate, alignment))
        self.encoder = MaskedViTEncoder()
        self.decoder = decoder(backbone.dim, self.patch_size**2 * backbone.in_channels)
        self.expand = None if tokens is None else nn.Linear(self.decoder.width, backbone.dim)
        self.tokens = None if tokens is None else TokenLocator(tokens(backbone.dim), target)
        self.target = target(backbone)
        self.label_head = LabelHead(backbone.dim, labels, labels_weight)

    def prepare(self, batch: MaskedCrops, num_classes: int | None) -> None:
        super().prepare(batch, num_classes)
        self.label_head.prepare(num_classes)
        exemplars, context = batch.crops.exemplars, batch.crops.context
        for images, parameter in ((exemplars, "exemplar_size"), (context, "context_size")):
            self.backbone.check_size((images.shape[-2], images.shape[-1]), parameter)

    @property
    def predicts_maps(self) -> bool:
        """True if `forward` returns maps, which needs tokens."""
        return self.tokens is not None

    def forward(self, batch: MaskedCrops) -> Float[Tensor, "b k s s"]:
        """Return correlation logits: the places of the tokens of each exemplar in its context."""
        assert self.tokens is not None
        context = self.backbone.normalize(batch.crops.context)
        tokens = self.project(self.fill_in(context, batch)[0], self.encode_exemplars(batch), batch)
        return self.tokens.maps(tokens, (context.shape[-2], context.shape[-1]))

    def compute_batch_losses(self, batch: Any) -> dict[str, Tensor]:
        return self.compute_losses(*self.unpack(batch))

    def compute_losses(self, batch: MaskedCrops, labels: Tensor | None = None) -> dict[str, Tensor]:
        context = self.backbone.normalize(batch.crops.context)
        filled, mask, encoded = self.fill_in(context, batch)
        exemplars = self.encode_exemplars(batch)
        metrics: dict[str, Tensor] = {}
        pixels = patch_pixels(context, self.patch_size, self.norm_pix_loss)
        metrics["pixels"] = masked_error(self.decoder.head(filled), pixels, mask)
        metrics["loss"] = self.pixel_weight * metrics["pixels"]
        if self.tokens is not None:
            tokens = self.project(filled, exemplars, batch)
            places = exemplar_places(batch.crops, tokens.exemplar_grid, tokens.context_grid)
            metrics |= self.tokens.metrics(tokens, places)
            metrics["loss"] = metrics["loss"] + metrics["tokens"]
        pooled = pooled_tokens(self.backbone, encoded)
        mean = encoded[:, self.backbone.num_prefix_tokens :].mean(dim=1)
        if self.rate is not None:
            metrics["coding_rate"] = self.rate(pooled) + self.rate(mean)
            metrics["loss"] = metrics["loss"] - self.rate.weight * metrics["coding_rate"]
        if self.alignment is not None:
            pairs = ((pooled, exemplars.pooled), (mean, exemplars.grid.mean(dim=(2, 3))))
            losses = [
                self.alignment(online, target.unflatten(0, (len(online), -1))) for online, target in pairs
            ]
            metrics["alignment"] = torch.stack(losses).sum()
            metrics["loss"] = metrics["loss"] + self.alignment.weight * metrics["alignment"]
        return self.label_head.add_to(metrics, pooled, labels)

    def fill_in(
        self, context: Float[Tensor, "b c s s"], batch: MaskedCrops
    ) -> tuple[Float[Tensor, "b m width"], Bool[Tensor, "b m"], Float[Tensor, "b v d"]]:
        """Return the decoder's features of all patches, the mask of the patches, and the encoder's tokens.

        Args:
            context: normalized.
        """
        grid = self._grid(context)
        mask, visible = visible_patches(batch.mask, batch.num_masked, grid)
        encoded = self.encoder(self.backbone, context, visible)
        return self.decoder.fill_in(encoded, visible, grid), mask, encoded

    def encode_exemplars(self, batch: MaskedCrops) -> Features:
        """Return the features of the target encoder, with b k rows."""
        return self.target(self.backbone, self.backbone.normalize(batch.crops.exemplars).flatten(0, 1))

    def project(
        self, filled: Float[Tensor, "b m width"], exemplars: Features, batch: MaskedCrops
    ) -> ProjectedTokens:
        """Return the projected tokens of the filled-in contexts and of the exemplars."""
        assert self.tokens is not None
        assert self.expand is not None
        grid = self.expand(filled).transpose(1, 2).unflatten(-1, self._grid(batch.crops.context))
        return self.tokens(grid, exemplars.grid, online_is_context=True)

    def target_pairs(self) -> list[tuple[Target, nn.Module]]:
        pairs: list[tuple[Target, nn.Module]] = [(self.target, self.backbone)]
        return pairs if self.tokens is None else [*pairs, self.tokens.target_pair]

    def _grid(self, images: Tensor) -> tuple[int, int]:
        return images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size
