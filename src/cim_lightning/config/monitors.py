"""Check the metrics by which callbacks select a checkpoint or stop a run, before training."""

from collections.abc import Mapping
from typing import Any

from cim_lightning.checks import did_you_mean
from cim_lightning.errors import ConfigError
from cim_lightning.metric_registry import METRICS

OF_STEPS = ("train/lr", "train/grad_norm", "train/momentum")  # logged by every method
KNOWN_PACKAGES = {"cim_lightning", "lightning"}  # callbacks of others may log more


def check_monitors(callbacks: Mapping[str, Any], method: Any) -> None:
    """Check the parameter `monitor` of every callback that has one, and its `mode`.

    Otherwise, Lightning would fail after the first validation, or keep the worst checkpoint.

    Args:
        callbacks: by the path of their settings, such as "callbacks.best".
        method: see Method.

    Raises:
        ConfigError: the method and the callbacks do not log the metric, log it too rarely or too late, or
            larger values are better and the smallest is selected.
    """
    if {type(callback).__module__.partition(".")[0] for callback in callbacks.values()} - KNOWN_PACKAGES:
        return
    names = ("train/loss", "val/loss", *OF_STEPS, *(f"val/{metric.name}" for metric in method.metrics))
    logged = dict.fromkeys(names, 1)
    logged |= {f"train/{metric.name}": 1 for metric in method.metrics if not metric.validation_only}
    for callback in callbacks.values():  # with the epochs between two values
        epochs = getattr(callback, "every_n_epochs", 1)
        logged |= dict.fromkeys(getattr(callback, "logged_metrics", ()), epochs)
    for path, callback in callbacks.items():
        if (monitor := getattr(callback, "monitor", None)) is not None:
            _check_monitor(path, callback, monitor, logged)


def _check_monitor(path: str, callback: Any, monitor: str, logged: Mapping[str, int]) -> None:
    if monitor not in logged:
        rule = "this run does not log such a metric"
        hint = did_you_mean(monitor, [name for name in logged if name.startswith("val/")])
        raise ConfigError(f"{path}.monitor", monitor, rule, hint=hint)
    saves_every = getattr(callback, "_every_n_epochs", 1) or 1  # of Lightning's ModelCheckpoint
    if saves_every % logged[monitor]:
        rule = f"it is logged every {logged[monitor]} epochs only"
        hint = f"try +{path}.every_n_epochs={logged[monitor]}"
        raise ConfigError(f"{path}.monitor", monitor, rule, hint=hint)
    steps = getattr(callback, "_every_n_train_steps", 0)
    seconds = getattr(callback, "_train_time_interval", None)
    is_inside_epoch = bool(steps) or seconds is not None
    if is_inside_epoch and monitor.startswith("train/"):  # StepMetrics are logged after the callbacks' hooks
        rule = "inside an epoch, callbacks get it some steps late"
        raise ConfigError(f"{path}.monitor", monitor, rule, hint=f"try {path}.monitor=val/loss")
    metric = METRICS.get(monitor.partition("/")[2])
    mode = getattr(callback, "mode", None)
    if metric is None or metric.higher_is_better is None or mode not in ("min", "max"):
        return
    wanted = "max" if metric.higher_is_better else "min"
    if mode != wanted:
        better = "larger" if wanted == "max" else "smaller"
        rule = f"{better} values of {monitor} are better"
        raise ConfigError(f"{path}.mode", mode, rule, hint=f"try +{path}.mode={wanted}")
