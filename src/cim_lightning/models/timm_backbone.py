"""Any timm model as a backbone."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from timm.layers import DropPath
from timm.models import VisionTransformer
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone, Features, Level
from cim_lightning.models.initialization import initialize
from cim_lightning.models.loaded_weights import check_normalization, fit_weights
from cim_lightning.models.timm_models import create_timm_model, timm_levels, timm_size_multiple
from cim_lightning.optim import POSITION_TABLES

UNKNOWN_STRIDE = 32  # pixels per cell, of architectures for which timm has no feature_info


class TimmBackbone(Backbone):
    """A timm model without its classifier.

    Args:
        name: timm's model name.
        kwargs: arguments of timm.create_model that define the architecture; exported with the weights.
        positions: position embeddings, "timm" for timm's or "sincos" for fixed 2d sine-cosine embeddings.
        freeze_patch_embed: do not train the patch embedding.
        init: initialization, "timm" for timm's or "xavier" for that of the paper's released code:
            Xavier-uniform linear layers and patch embedding, zero biases, class token from N(0, 0.02).
        in_channels: channels of the images.
        mean, std: of each channel, for images in 0..1; None: those of ImageNet, for 1 or 3 channels.
        weights: replace every initialization, see `load_weights`; None: no weights.
        weights_layout: see `load_weights`.

    Raises:
        ConfigError: timm has no such model, the model has no position or patch embeddings to change, or the
            weights do not fit.
    """

    def __init__(
        self,
        name: str,
        kwargs: Mapping[str, Any] = {},
        positions: str = "timm",
        freeze_patch_embed: bool = False,
        init: str = "timm",
        in_channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        weights: str | None = None,
        weights_layout: str = "auto",
    ):
        model = create_timm_model(name, kwargs, in_channels)
        levels = timm_levels(model)
        stride = levels[-1].stride if levels else UNKNOWN_STRIDE
        super().__init__(name, int(model.num_features), in_channels, stride, mean, std)
        self.timm_kwargs: dict[str, Any] = {"model_name": name, "in_chans": in_channels, **kwargs}
        self.model: Any = model
        self.num_prefix_tokens = int(getattr(model, "num_prefix_tokens", 0))
        self.size_multiple = timm_size_multiple(getattr(model, "patch_embed", None))
        self.skips_patches = isinstance(model, VisionTransformer)
        initialize(model, name, init, positions, freeze_patch_embed)
        self.default_normalization = mean is None or std is None
        if weights is None and weights_layout != "auto":
            rule = "there are no weights"
            raise ConfigError(
                "weights_layout", weights_layout, rule, hint="try weights=FILE, or weights_layout=auto"
            )
        if weights is not None:  # last, so that no initialization changes them
            self.load_weights(weights, weights_layout)

    def load_weights(self, weights: str, layout: str = "auto") -> None:
        """Load existing weights: all tensors of the model, or none.

        Other image sizes, patch sizes and numbers of channels are adapted (see models/adapt_weights.py).
        Frozen parameters stay frozen, at the values of the weights.

        Args:
            weights: a file, a folder, a run, "timm" for timm's pretrained weights, or "hf-hub:OWNER/NAME".
            layout: of the file, such as "mae"; a prefix of its names, such as "student."; "auto": detected.

        Raises:
            ConfigError: there are no such weights, they do not fit the model, or they need another mean or
                std than the default.
        """
        tensors, loaded = fit_weights(self.model, self.name, weights, layout)
        self.loaded_weights = check_normalization(loaded, self.normalization, self.default_normalization)
        self.model.load_state_dict(tensors)

    def compute_features(self, images: Float[Tensor, "b c h w"]) -> Features:
        tokens = self.model.forward_features(images)
        grid = self._grid(tokens, (images.shape[-2], images.shape[-1]))
        pooled = self.model.forward_head(tokens, pre_logits=True)
        if pooled.shape[1] != grid.shape[1]:  # some timm heads add a layer of another width
            pooled = grid.mean(dim=(2, 3))
        return Features(pooled, grid)

    @property
    def levels(self) -> list[Level]:
        return timm_levels(self.model) or super().levels

    def intermediates(
        self, images: Float[Tensor, "b c h w"], indices: Sequence[int], norm: bool = False
    ) -> list[Features]:
        if not timm_levels(self.model):
            return super().intermediates(images, indices, norm)
        self.check_images(images)
        indices = self.level_indices(indices)
        needed = sorted(set(indices))
        # Models with tokens apply their own pooling to each level; others average the grid.
        parameters = inspect.signature(self.model.forward_intermediates).parameters
        has_tokens = "return_prefix_tokens" in parameters
        has_prefix = has_tokens and self.num_prefix_tokens > 0
        kwargs: dict[str, Any] = {"indices": needed, "norm": norm, "output_fmt": "NCHW"}
        kwargs |= {"return_prefix_tokens": True} if has_prefix else {}
        outputs = self.model.forward_intermediates(images, intermediates_only=True, **kwargs)
        features = {}
        for index, output in zip(needed, outputs, strict=True):
            grid, prefix = output if has_prefix else (output, None)
            pooled = self._pool(grid, prefix) if has_tokens else grid.mean(dim=(2, 3))
            features[index] = Features(pooled, grid)
        return [features[index] for index in indices]

    def blocks(self) -> list[nn.Module]:
        """Return the blocks of all stages."""
        if isinstance(blocks := getattr(self.model, "blocks", None), nn.Module):
            stages = list(blocks.children())
        else:
            info = getattr(self.model, "feature_info", None) or []
            stages = [self.model.get_submodule(level["module"]) for level in info]
        nested = [
            getattr(stage, "blocks", stage) for stage in stages if next(stage.parameters(), None) is not None
        ]
        return [
            block
            for stage in nested
            for block in (stage.children() if isinstance(stage, nn.Sequential | nn.ModuleList) else [stage])
        ]

    def param_groups(self, lr: float, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
        """Return groups of the trainable parameters for an optimizer. The layers are timm's."""
        exempt = {*POSITION_TABLES, *getattr(self.model, "no_weight_decay", set)()}
        groups = param_groups_layer_decay(self.model, weight_decay, exempt, layer_decay=layer_decay)
        # timm's lr_scale is 1 for the last layer, but the contract puts that layer below a head.
        return [{**group, "lr": lr * layer_decay * group["lr_scale"]} for group in groups]

    @property
    def patch_embed(self) -> nn.Module | None:
        return getattr(self.model, "patch_embed", None)

    def forward_visible(
        self, images: Float[Tensor, "b c h w"], visible: Int64[Tensor, "b v"]
    ) -> Float[Tensor, "b n d"]:
        self.check_skips_patches()
        self.check_images(images)
        vit = self.model
        tokens = vit._pos_embed(vit.patch_embed(images))
        prefix, patches = tokens[:, : vit.num_prefix_tokens], tokens[:, vit.num_prefix_tokens :]
        patches = patches.gather(1, visible[..., None].expand(-1, -1, patches.shape[-1]))
        return vit.norm(vit.blocks(vit.norm_pre(torch.cat((prefix, patches), dim=1))))

    def with_drop_path(self, rate: float) -> "Backbone":
        if rate == self.timm_kwargs.get("drop_path_rate", 0):
            return super().with_drop_path(0)
        kwargs: dict[str, Any] = self.timm_kwargs | {"drop_path_rate": rate}
        name, channels = kwargs.pop("model_name"), kwargs.pop("in_chans")
        mean, std = self.normalization["mean"], self.normalization["std"]
        try:
            copy = TimmBackbone(name, kwargs, in_channels=channels, mean=mean, std=std)
        except ConfigError:
            return super().with_drop_path(rate)
        if rate and not any(isinstance(module, DropPath) for module in copy.modules()):
            return super().with_drop_path(rate)
        copy.model.load_state_dict(self.model.state_dict())
        return copy.to(self.mean.device)

    def timm_model(self) -> Any:
        """Return the timm model, which shares its weights with the backbone."""
        return self.model

    def _grid(self, tokens: Tensor, size: tuple[int, int]) -> Float[Tensor, "b d h w"]:
        """Return the feature map; timm returns NLC, NHWC or NCHW, depending on the architecture."""
        if tokens.ndim == 3:
            if not hasattr(self.patch_embed, "dynamic_feat_size"):
                raise ConfigError("name", self.name, "has no feature map", suggest="vit_small_patch16_224")
            h, w = self.model.patch_embed.dynamic_feat_size(size)
            return tokens[:, self.num_prefix_tokens :].transpose(1, 2).unflatten(-1, (h, w))
        channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        return tokens.permute(0, 3, 1, 2) if channels_last else tokens

    def _pool(self, grid: Float[Tensor, "b d h w"], prefix: Tensor | None) -> Float[Tensor, "b d"]:
        tokens = grid.flatten(2).transpose(1, 2)
        tokens = tokens if prefix is None else torch.cat((prefix, tokens), dim=1)
        return self.model.forward_head(tokens, pre_logits=True)
