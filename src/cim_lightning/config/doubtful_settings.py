"""Find valid settings of the command line that have no effect, and sizes that waste work."""

from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cim_lightning.config.consistency import given_settings
from cim_lightning.errors import format_value

# A setting -> settings beside or below it that nothing reads if it is 0, false, null or empty.
SWITCHES = {
    "jitter_prob": ("brightness", "contrast", "saturation", "hue"),
    "blur": ("blur_sigma",),
    "num_local_crops": ("local_crop",),
    "finetune": ("drop_path", "optim.layer_decay"),
    "size": ("overlap",),
    "radii": ("pgd_steps", "pgd_step_size"),
    "drop_shares": ("drop_patches",),
    "scales": ("rotations",),
    "pictures": ("pictures_folder",),
    "gradient_clip_val": ("gradient_clip_algorithm",),
}
LARGEST_REDUCTION = 2  # of the side of a view to that of its context; the paper's is 1.4


def doubtful_settings(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """Return one line per doubtful setting, with the reason.

    Args:
        cfg: with interpolations.
        overrides: of the command line. Settings that it does not set are not reported.
    """
    given = [*_switched_off(cfg, overrides), *_not_compiled(cfg, overrides)]
    return [*given, *_odd_sizes(cfg), *_no_frames(cfg)]


def unused_split_settings(cfg: DictConfig, overrides: Sequence[str], drawn: bool) -> list[str]:
    """Return one line per given setting of a random split that was not needed.

    Args:
        cfg: with the settings of the data.
        overrides: of the command line.
        drawn: whether the validation images were drawn at random.
    """
    given, source = given_settings(overrides), OmegaConf.select(cfg, "data.source")
    if drawn or not isinstance(source, DictConfig) or "val_fraction" not in source:
        return []
    reason = "because the validation images are not drawn at random"
    paths = ("data.source.val_fraction", "data.source.seed")
    return [f"{path}={given[path]} has no effect, {reason}" for path in paths if path in given]


def _switched_off(cfg: DictConfig, overrides: Sequence[str]) -> Iterator[str]:
    """Yield given settings that another setting switches off."""
    references = str(OmegaConf.to_container(cfg, resolve=False))
    for path, value in given_settings(overrides).items():
        parts = path.split(".")
        if OmegaConf.select(cfg, path, throw_on_resolution_failure=False) is None:
            continue
        if f"{'.'.join(parts[-3:])}}}" in references:  # another part reads it, such as a second crop
            continue
        for depth in range(1, len(parts)):
            group, rest = ".".join(parts[:depth]), ".".join(parts[depth:])
            node: Any = OmegaConf.select(cfg, group)
            for switch, switched in SWITCHES.items():
                reads = any(f"{rest}.".startswith(f"{name}.") for name in switched)
                if reads and isinstance(node, DictConfig) and switch in node and not node[switch]:
                    off = [] if OmegaConf.is_config(node[switch]) else node[switch]
                    yield f"{path}={value} has no effect, because of {group}.{switch}={format_value(off)}"


def _no_frames(cfg: DictConfig) -> Iterator[str]:
    """Yield a treatment of pairs of frames where there are none."""
    if OmegaConf.select(cfg, "method.cross_frame") and not OmegaConf.select(cfg, "data.max_gap"):
        yield (
            "method.cross_frame has no effect, because exemplars and context are of the same frame; "
            "try data=video data.max_gap=8"
        )


def _not_compiled(cfg: DictConfig, overrides: Sequence[str]) -> Iterator[str]:
    """Yield a mode of torch.compile that is given where nothing is compiled."""
    mode = given_settings(overrides).get("compile_mode")
    if mode is not None and not OmegaConf.select(cfg, "compile"):
        yield f"compile_mode={mode} has no effect, because of compile=false"


def _odd_sizes(cfg: DictConfig) -> Iterator[str]:
    """Yield sizes of contexts that do not fit the views from which they are made."""
    view = OmegaConf.select(cfg, "data.view_size")
    context = OmegaConf.select(cfg, "cropping.context_size")
    if view is None or context is None:
        return
    if context > view:
        reason = f"views of {view} pixels are enlarged"
        yield f"cropping.context_size={context}: {reason}; try data.view_size={context}"
    elif view > LARGEST_REDUCTION * context:
        reason = f"the contexts of this cropping have {context} pixels, so most decoded pixels are not used"
        yield f"data.view_size={view}: {reason}; try data.view_size={context}"
