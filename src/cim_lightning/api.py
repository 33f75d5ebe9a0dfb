"""The Python API: compose a run, load weights, evaluate and export them, without the command line."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from cim_lightning.atomic import atomic_write
from cim_lightning.config import messages, validate
from cim_lightning.config.arguments import quote_values
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.config.from_checkpoint import build, load_backbone, load_method
from cim_lightning.config.result_settings import result_settings
from cim_lightning.config.run_builder import Run, build_run
from cim_lightning.data.datamodule import ImageData
from cim_lightning.errors import ConfigError, EvaluationError
from cim_lightning.evaluation import suite
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.fingerprint import fingerprint, weights_hash
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone

__all__ = ["Run", "compose", "evaluate", "export", "load", "load_backbone"]


def compose(*overrides: str) -> Run:
    """Build the method, the data and the trainer of a pre-training run from conf/.

    `run.trainer.fit(run.method, run.data)` trains it. Checkpoints and metrics go to a new folder in
    `outputs/`, as with `cim-pretrain`, unless an override sets `output_dir`.

    Args:
        overrides: as on the command line of `cim-pretrain`, such as "method=mae" and "data.root=images".

    Raises:
        ConfigError: an override is invalid.
    """
    cfg = _compose("pretrain", ["paths.run=${output_dir}", *overrides])
    with _explained("pretrain", cfg, overrides):
        run = build_run(_plain(cfg))
    folder = Path(cfg.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    return run


def load(run: str | Path, trusted_packages: Sequence[str] = ()) -> Method:
    """Return the method of a run of `cim-pretrain` with its weights, in evaluation mode.

    Args:
        run: folder of the run, or one of its checkpoints.
        trusted_packages: whose classes the settings of the run may name, besides those of conf/.

    Raises:
        ConfigError: there is no checkpoint, or its settings name a class that is not trusted.
    """
    return load_method(run, trusted_packages)


def evaluate(
    weights: Backbone | Method,
    data: ImageData,
    evaluators: str | Sequence[str] = "all",
    *overrides: str,
    folder: str | Path | None = None,
) -> dict[str, float]:
    """Return the metrics of a backbone by name, such as "knn/mean_k20". Accuracies are in percent.

    The evaluators have the settings of `cim-evaluate`. They run on the device of the backbone.

    Args:
        weights: the backbone, or a method, whose `eval_backbone` is evaluated. Some evaluators need a method.
        data: its images, split and size of views are used.
        evaluators: options of conf/evaluation: one, or a list. "all" skips evaluators that do not apply.
        overrides: of `cim-evaluate`, such as "evaluation.knn.ks=[20]" and "protocol=standard".
        folder: for the results, which a second call reuses; None: nothing is kept.

    Raises:
        ConfigError: an evaluator does not exist or does not apply, or an override is invalid.
        EvaluationError: an evaluator failed. The results of the others are in the folder.
    """
    names = [evaluators] if isinstance(evaluators, str) else list(evaluators)
    inputs = ["checkpoint=untrained", f"data.view_size={data.view.size}"]
    inputs += [f"data.channels={data.pixels.channels}", f"data.bits={data.pixels.bits}"]
    inputs += [f"+data.num_workers={data.num_workers}", f"evaluation=[{','.join(names)}]"]
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(folder or temporary)
        cfg = _compose("evaluate", [*inputs, f"paths.run={output}", *overrides])
        with _explained("evaluate", cfg, overrides):
            context = _context(weights, data, output, cfg)
            settings = _plain(cfg.evaluation)
            args = {
                name: context.cache_key | {"evaluator": result_settings(value)}
                for name, value in settings.items()
            }
            requested = set(names) - {"all"}
            results = suite.evaluate(
                build(cfg.evaluation), context, args, {"backbone": context.backbone.name}, requested
            )
    if failed := [f"{name} failed: {results.failed[name]}" for name in settings if name in results.failed]:
        raise EvaluationError("; ".join(failed))
    return {name: value for name, value in results.metrics.items() if name.partition("/")[0] in settings}


def export(
    backbone: Backbone, folder: str | Path, format: str = "timm", image_size: int | None = None
) -> dict[str, float]:
    """Write a backbone for other projects, reload it, and return the largest difference of each output.

    Args:
        backbone: as `load_backbone` returns it.
        folder: for the files.
        format: an option of conf/format: "timm", "hf", "onnx" or "torchvision".
        image_size: side of the images in training, in pixels; None: that of the loaded weights.

    Raises:
        ConfigError: the format does not exist or does not support the backbone, the image size is unknown, or
            the outputs differ after reloading.
    """
    size = backbone.image_size if image_size is None else image_size
    if size is None:
        rule = "is not known for this backbone, which is not from a run"
        raise ConfigError("image_size", image_size, rule, suggest=224)
    cfg = _compose("export", ["checkpoint=untrained", f"format={format}", f"output_dir={folder}"])
    with _explained("export", cfg, ()):
        return build(cfg.format).export(backbone.eval(), size, Path(folder), {"backbone": backbone.name})


def _context(weights: Backbone | Method, data: ImageData, folder: Path, cfg: DictConfig) -> EvalContext:
    method = weights if isinstance(weights, Method) else None
    backbone = weights.eval_backbone if isinstance(weights, Method) else weights
    inputs = [data.source, data.source_kwargs, data.view, data.cropping, data.batch_size, data.seed]
    source = fingerprint([*inputs, [len(data.splits.train), len(data.splits.val)]])
    cache_key = {"weights": weights_hash(weights), "data": source, "seed": cfg.seed}
    cache_key["protocol"] = _plain(cfg)["protocol"]
    view = build(cfg.protocol)
    device = next(backbone.parameters()).device
    torch.manual_seed(cfg.seed)
    return EvalContext(backbone.eval(), method, data, device, folder, cfg.seed, cache_key, view=view)


def _compose(command: str, overrides: Sequence[str]) -> DictConfig:
    """Return the valid configuration of a command."""
    register_resolvers()
    with (
        _explained(command, None, overrides),
        hydra.initialize_config_dir(str(CONF), version_base="1.3"),
    ):
        cfg = hydra.compose(command, quote_values(overrides, command))
    with _explained(command, cfg, overrides):
        validate.check(cfg, command, overrides)
    return cfg


def _plain(cfg: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore


@contextmanager
def _explained(command: str, cfg: DictConfig | None, overrides: Sequence[str]) -> Iterator[None]:
    """Raise a user's error as a ConfigError that names the setting; raise any other error unchanged."""
    try:
        yield
    except Exception as error:
        line = messages.explain(error, command, cfg, overrides)
        if line is None:
            raise
        raise ConfigError(line) from error
