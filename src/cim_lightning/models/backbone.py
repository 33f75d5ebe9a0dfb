"""Any timm model as a backbone: a vector and a feature map per image."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import timm
import torch
from jaxtyping import Float
from timm.layers import build_sincos2d_pos_embed
from torch import Tensor, nn

from cim_lightning.checks import check_one_of, did_you_mean
from cim_lightning.errors import ConfigError


class Features(NamedTuple):
    """Output of a backbone, for any architecture and input size."""

    pooled: Float[Tensor, "b d"]  # timm's pooling: the class token if the model has one, else the mean
    grid: Float[Tensor, "b d h w"]


class Backbone(nn.Module):
    """A timm model without its classifier.

    Args:
        name: timm's model name.
        kwargs: arguments of timm.create_model that define the architecture; exported with the weights.
        positions: position embeddings, "timm" for timm's or "sincos" for fixed 2d sine-cosine embeddings.
        freeze_patch_embed: do not train the patch embedding.
        init: initialization, "timm" for timm's or "xavier" for that of the paper's released code:
            Xavier-uniform linear layers and patch embedding, zero biases, class token from N(0, 0.02).

    Raises:
        ConfigError: timm has no such model, or the model has no position or patch embeddings to change.
    """

    def __init__(
        self, name: str, kwargs: Mapping[str, Any], positions: str, freeze_patch_embed: bool, init: str
    ):
        super().__init__()
        if not timm.is_model(name):
            hint = did_you_mean(name, timm.list_models())
            raise ConfigError("name", name, "is not a model of timm", hint=hint)
        check_one_of("init", init, ("timm", "xavier"))
        check_one_of("positions", positions, ("timm", "sincos"))
        self.name = name
        self.timm_kwargs: dict[str, Any] = {"model_name": name, "in_chans": 3, **kwargs}
        try:
            self.model: Any = timm.create_model(**self.timm_kwargs, num_classes=0)
        except (TypeError, AssertionError, RuntimeError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            rule = f"timm cannot create {name} with these arguments ({reason})"
            hint = f"choose a backbone file of the same architecture, with name={name}"
            raise ConfigError("kwargs", dict(kwargs), rule, hint=hint) from None
        self.dim = int(self.model.num_features)
        if init == "xavier":
            _init_xavier(self.model)
        if positions == "sincos":
            self._require("pos_embed", "positions", positions, "timm")
            self._fix_positions()
        if freeze_patch_embed:
            self._require("patch_embed", "freeze_patch_embed", True, False)
            self.model.patch_embed.requires_grad_(False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Return the features of normalized images, of any size that the architecture accepts."""
        channels, size = images.shape[1], (images.shape[-2], images.shape[-1])
        expected = self.timm_kwargs["in_chans"]
        if channels != expected:
            raise ConfigError("in_chans", expected, f"the images have {channels} channels", suggest=channels)
        self.check_size(size)
        try:
            tokens = self.model.forward_features(images)
        except RuntimeError as error:  # a kernel larger than the feature map
            smallest = self.model.feature_info[-1]["reduction"]
            if min(size) >= smallest:
                raise
            raise ConfigError("size", min(size), f"too small for {self.name}", suggest=smallest) from error
        grid = self._grid(tokens, size)
        pooled = self.model.forward_head(tokens, pre_logits=True)
        if pooled.shape[1] != grid.shape[1]:  # some timm heads add a layer of another width
            pooled = grid.mean(dim=(2, 3))
        return Features(pooled, grid)

    def check_size(self, size: tuple[int, int], parameter: str = "size") -> None:
        """Raise ConfigError, naming a parameter, if height or width is not a multiple of the patch size."""
        embed = getattr(self.model, "patch_embed", None)
        if embed is None or getattr(embed, "dynamic_img_pad", False) or not hasattr(embed, "strict_img_size"):
            return
        for side, patch in zip(size, embed.patch_size, strict=True):
            if side % patch:
                rule = f"must be whole patches of {patch} pixels for {self.name}"
                raise ConfigError(parameter, side, rule, suggest=max(round(side / patch), 1) * patch)

    def _grid(self, tokens: Tensor, size: tuple[int, int]) -> Float[Tensor, "b d h w"]:
        """Return the feature map; timm returns NLC, NHWC or NCHW, depending on the architecture."""
        if tokens.ndim == 3:
            if not hasattr(getattr(self.model, "patch_embed", None), "dynamic_feat_size"):
                raise ConfigError("name", self.name, "has no feature map", suggest="vit_small_patch16_224")
            h, w = self.model.patch_embed.dynamic_feat_size(size)
            return tokens[:, self.model.num_prefix_tokens :].transpose(1, 2).unflatten(-1, (h, w))
        channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        return tokens.permute(0, 3, 1, 2) if channels_last else tokens

    def _require(self, module: str, parameter: str, value: Any, suggest: Any) -> None:
        if getattr(self.model, module, None) is None:
            raise ConfigError(parameter, value, f"{self.name} has no {module}", suggest=suggest)

    def _fix_positions(self) -> None:
        table = self.model.pos_embed
        grid = build_sincos2d_pos_embed(list(self.model.patch_embed.grid_size), self.dim)
        prefix = grid.new_zeros(table.shape[1] - len(grid), self.dim)
        with torch.no_grad():
            table.copy_(torch.cat((prefix, grid))[None])
        table.requires_grad_(False)


def init_xavier(module: nn.Module) -> None:
    """Initialize a linear layer: Xavier-uniform weights, zero bias. To be used with nn.Module.apply."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _init_xavier(model: nn.Module) -> None:
    model.apply(init_xavier)
    if hasattr(model, "patch_embed"):  # as a linear layer on flattened patches, although it is a convolution
        projection: nn.Conv2d = model.patch_embed.proj  # pyright: ignore
        nn.init.xavier_uniform_(projection.weight.view(len(projection.weight), -1))
        if projection.bias is not None:
            nn.init.zeros_(projection.bias)
    if getattr(model, "cls_token", None) is not None:
        nn.init.normal_(model.cls_token, std=0.02)  # pyright: ignore
