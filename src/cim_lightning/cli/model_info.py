"""What is known about weights, for the model card of an export."""

import inspect
import sys
from pathlib import Path
from typing import Any

import yaml

from cim_lightning.formats.model_card import ModelInfo
from cim_lightning.models.backbone import Backbone
from cim_lightning.report import runs

TRAINING = {  # title on the card -> name in metrics.json
    "Epochs": "epochs",
    "Optimizer steps": "steps",
    "Images per step": "images_per_step",
    "cim-lightning": "cim-lightning",
    "Commit": "git_commit",
}


def model_info(path: Path, backbone: Backbone, method: Any) -> ModelInfo:
    """Return what is known about the weights in a file: of its run, if it is in the folder of one.

    Args:
        method: the `Method` of the checkpoint; None: unknown.
    """
    info = ModelInfo(checkpoint=str(path), backbone=backbone.name)
    folder = next((parent for parent in path.parents[:2] if (parent / "run.json").exists()), None)
    if method is not None:
        about = inspect.getdoc(sys.modules[type(method).__module__]) or type(method).__name__
        info["method"] = " ".join(about.split("\n\n")[0].split()).rstrip(".")
    if folder is None:
        return info
    try:
        run = runs.read_run(folder)
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):  # of another version
        return info
    choices, numbers = run.info["choices"], run.setup | run.numbers
    info.setdefault("method", choices["method"])
    count = numbers.get("train_images")
    # The name, not the path: cards are published.
    info["data"] = choices["data"] if count is None else f"{count:,} ({choices['data']})"
    info["training"] = {title: numbers[name] for title, name in TRAINING.items() if numbers.get(name)}
    info["numbers"] = {
        f"{name.split('/')[1]}: {metric.title}": metric.text(numbers[name])
        for name, metric in run.metrics.items()
        if name.startswith("evaluation/") and isinstance(numbers.get(name), int | float)
    }
    return info
