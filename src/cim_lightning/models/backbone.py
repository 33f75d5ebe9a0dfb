"""Any timm model as a backbone: an image in, one vector and one feature map out."""

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

import timm
import torch
from jaxtyping import Float
from timm.layers import build_sincos2d_pos_embed
from torch import Tensor, nn

from cim_lightning.errors import ConfigError

SIZES = "cropping.size, context_size, exemplar_size"  # whichever of them the images came from


class Features(NamedTuple):
    """What every backbone says of an image, whatever its family and input size."""

    pooled: Float[Tensor, "b d"]  # timm's own: the class token where there is one, else the mean
    grid: Float[Tensor, "b d h w"]


class Backbone(nn.Module):
    """A timm model without its classifier.

    Args:
        name: timm's architecture name.
        kwargs: arguments of timm.create_model that shape the architecture; exported with the weights.
        positions: "timm" for its own, or "sincos", fixed two-dimensional sine-cosine tables.
        freeze_patch_embed: keep the patch embedding at its random initialization.
        init: "timm" for timm's own, "xavier" for Xavier-uniform linears and patch embedding, zero biases
            and class tokens drawn from N(0, 0.02), as the paper's released recipe does.

    Raises:
        ConfigError: timm has no such model, or the model has not the part that a setting speaks of.
    """

    def __init__(
        self,
        name: str,
        kwargs: Mapping[str, Any],
        positions: str,
        freeze_patch_embed: bool,
        init: str,
    ):
        super().__init__()
        if not timm.is_model(name):
            (near,) = difflib.get_close_matches(name, timm.list_models(), 1, cutoff=0)
            raise ConfigError(f"backbone.name={name}: timm has no such model; try {near}")
        self.timm_kwargs: dict[str, Any] = {"model_name": name, "in_chans": 3, **kwargs}
        self.model: Any = self._create()
        self.dim = int(self.model.num_features)
        self._choose("init", init, {"timm": lambda: None, "xavier": lambda: self.model.apply(_xavier)})
        if init == "xavier" and hasattr(self.model, "patch_embed"):
            _xavier_patches(self.model)
        if init == "xavier" and getattr(self.model, "cls_token", None) is not None:
            nn.init.normal_(self.model.cls_token, std=0.02)
        self._choose("positions", positions, {"timm": lambda: None, "sincos": self._fix_positions})
        if freeze_patch_embed:
            self._part("patch_embed", "backbone.freeze_patch_embed=true").requires_grad_(False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Features of normalized images of any size that the architecture takes."""
        channels, size, wanted = (
            images.shape[1],
            (images.shape[-2], images.shape[-1]),
            self.timm_kwargs["in_chans"],
        )
        if channels != wanted:
            raise ConfigError(
                f"backbone.kwargs.in_chans={wanted}: the images have {channels}; try {channels}"
            )
        self.check(size, SIZES)
        try:
            tokens = self.model.forward_features(images)
        except RuntimeError as error:  # a kernel larger than what is left of the image
            least = self.model.feature_info[-1]["reduction"]
            if min(size) >= least:
                raise
            name = self.timm_kwargs["model_name"]
            raise ConfigError(
                f"{SIZES}={min(size)}: {name} leaves nothing of so small an image; try {least}"
            ) from error
        grid = self._grid(tokens, size)
        pooled = self.model.forward_head(tokens, pre_logits=True)
        if pooled.shape[1] != grid.shape[1]:  # some heads widen what they pool, for a classifier's sake
            pooled = grid.mean(dim=(2, 3))
        return Features(pooled, grid)

    def check(self, size: tuple[int, int], setting: str) -> None:
        """Raises ConfigError if images of (height, width) pixels, set by `setting`, leave a broken patch."""
        embed = getattr(self.model, "patch_embed", None)
        if embed is None or getattr(embed, "dynamic_img_pad", False) or not hasattr(embed, "strict_img_size"):
            return
        for side, patch in zip(size, embed.patch_size, strict=True):
            if side % patch:
                raise ConfigError(
                    f"{setting}={side}: {self.timm_kwargs['model_name']} wants {patch}-pixel patches; "
                    f"try {max(round(side / patch), 1) * patch}"
                )

    def _create(self) -> Any:
        try:
            return timm.create_model(**self.timm_kwargs, num_classes=0)
        except (TypeError, AssertionError, RuntimeError) as error:
            name, reason = (
                self.timm_kwargs["model_name"],
                (str(error) or type(error).__name__).splitlines()[0],
            )
            raise ConfigError(
                f"backbone.kwargs: {name} cannot be made with them ({reason}); "
                f"try a backbone group of its family with backbone.name={name}"
            ) from None

    def _grid(self, tokens: Tensor, size: tuple[int, int]) -> Float[Tensor, "b d h w"]:
        """timm returns NLC, NHWC or NCHW by family."""
        if tokens.ndim == 3:
            if not hasattr(getattr(self.model, "patch_embed", None), "dynamic_feat_size"):
                name = self.timm_kwargs["model_name"]
                raise ConfigError(f"backbone.name={name}: its tokens have no grid; try vit_small_patch16_224")
            h, w = self.model.patch_embed.dynamic_feat_size(size)
            return tokens[:, self.model.num_prefix_tokens :].transpose(1, 2).unflatten(-1, (h, w))
        channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        return tokens.permute(0, 3, 1, 2) if channels_last else tokens

    def _fix_positions(self) -> None:
        table = self._part("pos_embed", "backbone.positions=sincos")
        grid = build_sincos2d_pos_embed(list(self.model.patch_embed.grid_size), self.dim)
        prefix = grid.new_zeros(table.shape[1] - len(grid), self.dim)
        with torch.no_grad():
            table.copy_(torch.cat((prefix, grid))[None])
        table.requires_grad_(False)

    def _part(self, part: str, setting: str) -> Any:
        found = getattr(self.model, part, None)
        if found is None:
            name = self.timm_kwargs["model_name"]
            nearest = "timm" if part == "pos_embed" else "false"
            raise ConfigError(f"{setting}: {name} has no {part}; try {setting.split('=')[0]}={nearest}")
        return found

    def _choose(self, setting: str, value: str, choices: dict[str, Any]) -> None:
        if value not in choices:
            raise ConfigError(
                f"backbone.{setting}={value}: one of {', '.join(choices)}; try {next(iter(choices))}"
            )
        choices[value]()


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _xavier_patches(model: nn.Module) -> None:
    """A patch embedding is a linear map of flattened patches; timm draws it as a convolution."""
    projection: nn.Conv2d = model.patch_embed.proj  # pyright: ignore
    nn.init.xavier_uniform_(projection.weight.view(len(projection.weight), -1))
    if projection.bias is not None:
        nn.init.zeros_(projection.bias)
